"""The parts of a data set, and how labelled images are divided into them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Split(NamedTuple):
    """Inputs and targets that belong together, both with the examples on dimension 0."""

    x: Tensor
    y: Tensor


class Splits(NamedTuple):
    """Three parts of a data set. Fit on ``train``, choose on ``validation``, report ``test``."""

    train: Split
    validation: Split
    test: Split


def stratified_splits(
    x: Tensor,
    y: Tensor,
    seed: int,
    *,
    validation_fraction: float,
    test_fraction: float,
    max_shift: int = 0,
    copies: int = 1,
) -> Splits:
    """Divide images, with every class in like shares in each part, then shift copies of them.

    The images are split before they are shifted, so no shifted copy of a test image is ever trained
    on. The split depends on ``seed`` alone.

    Args:
        x: float32 ``(N, 1, S, S)``.
        y: int64 ``(N,)``.
        seed: chooses the split and the shifts.
        validation_fraction: share of the images in the validation part, in (0, 1).
        test_fraction: share of the images in the test part, in (0, 1).
        max_shift: each copy is moved by up to this many pixels in each direction, on a canvas
            that is ``max_shift`` pixels wider on every side. 0 leaves the images alone.
        copies: how many shifted copies of each image to make, at least 1.

    Raises:
        ValueError: a fraction or a count is out of range.
    """
    if not (0 < validation_fraction < 1 and 0 < test_fraction < 1):
        raise ValueError(
            "validation_fraction and test_fraction must lie between 0 and 1, "
            f"got {validation_fraction} and {test_fraction}"
        )
    if validation_fraction + test_fraction >= 1:
        raise ValueError(
            "validation_fraction + test_fraction must leave something to train on: "
            f"{validation_fraction} + {test_fraction} >= 1"
        )
    if max_shift < 0 or copies < 1:
        raise ValueError(f"need max_shift >= 0 and copies >= 1, got {max_shift} and {copies}")
    if copies > 1 and max_shift == 0:
        raise ValueError("copies > 1 without max_shift would repeat every image: set max_shift")

    import torch
    from sklearn.model_selection import train_test_split

    labels = y.numpy()
    indices = torch.arange(len(y)).numpy()
    rest, test = train_test_split(
        indices, test_size=test_fraction, stratify=labels, random_state=seed
    )
    train, validation = train_test_split(
        rest,
        test_size=validation_fraction / (1 - test_fraction),
        stratify=labels[rest],
        random_state=seed,
    )
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for part in (train, validation, test):
        part_x, part_y = x[part].repeat(copies, 1, 1, 1), y[part].repeat(copies)
        parts.append(Split(_shift(part_x, max_shift, generator), part_y))
    return Splits(*parts)


def _shift(x: Tensor, max_shift: int, generator: torch.Generator) -> Tensor:
    """Place each image of ``(N, 1, S, S)`` at a random position on a canvas wider by the shift."""
    import torch

    if max_shift == 0:
        return x
    n, _, size, _ = x.shape
    wide = size + 2 * max_shift
    top, left = torch.randint(0, 2 * max_shift + 1, (2, n), generator=generator)
    canvas = x.new_zeros(n, 1, wide, wide)
    rows = top[:, None, None] + torch.arange(size)[None, :, None]  # (N, S, 1)
    columns = left[:, None, None] + torch.arange(size)[None, None, :]  # (N, 1, S)
    canvas[torch.arange(n)[:, None, None], 0, rows, columns] = x[:, 0]
    return canvas
