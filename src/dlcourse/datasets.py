"""Data sets that need no download, split once into train, validation and test.

The course runs on machines without internet, so its data ships inside a library's wheel or is
generated. A chapter chooses everything (rates, epochs, thresholds) on ``validation`` and touches
``test`` once, for the number that it reports. ``cifar10`` and ``image_folder`` read real images,
where there are some.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler


class Split(NamedTuple):
    """Inputs and targets that belong together, both with the examples on dimension 0."""

    x: Tensor
    y: Tensor


class Splits(NamedTuple):
    """The three parts of a data set. Fit on ``train``, choose on ``validation``, report ``test``."""

    train: Split
    validation: Split
    test: Split


def digits(
    seed: int = 0,
    *,
    validation_fraction: float = 0.2,
    test_fraction: float = 0.2,
    max_shift: int = 0,
    copies: int = 1,
) -> Splits:
    """Handwritten digits, 8 × 8 pixels, ten classes; 1,797 images that ship with scikit-learn.

    The images are split before they are shifted, so no shifted copy of a test image is ever trained
    on. The split depends on ``seed`` alone and is stratified by class.

    Args:
        seed: chooses the split and the shifts.
        validation_fraction: share of the images in the validation part, in (0, 1).
        test_fraction: share of the images in the test part, in (0, 1).
        max_shift: each copy is moved by up to this many pixels in each direction, on a canvas
            that is ``max_shift`` pixels wider on every side. 0 leaves the images alone. A shifted
            task is harder: a linear model solves the plain one.
        copies: how many shifted copies of each image to make, at least 1.

    Returns:
        ``Splits`` of ``x``: float32 ``(N, 1, S, S)`` in [0, 1] with ``S = 8 + 2 * max_shift``, and
        ``y``: int64 ``(N,)``.

    Raises:
        ValueError: a fraction or a count is out of range.

    Source: E. Alpaydin and C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI
    Machine Learning Repository, https://doi.org/10.24432/C50P49.
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
        raise ValueError("copies > 1 without max_shift would repeat every image: set max_shift >= 1")

    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16  # 17 grey levels, 0 to 16
    y = torch.tensor(labels, dtype=torch.int64)

    indices = torch.arange(len(y)).numpy()
    rest, test = train_test_split(indices, test_size=test_fraction, stratify=labels, random_state=seed)
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


SHAPES = ("disc", "ring", "square", "triangle", "plus", "star", "crescent", "bar")
HUES = ("red", "yellow", "green", "cyan", "blue", "magenta")
TEXTURES = ("flat", "stripes", "checks", "waves")


class ShapeFactors(NamedTuple):
    """What a picture of ``shapes`` is made from: one value an image, each tensor ``(N,)``.

    Lengths and positions are in units of the image's side, angles in radians, colours in [0, 1].
    """

    shape: Tensor  # index into SHAPES
    hue: Tensor  # index into HUES: the colour of the shape
    texture: Tensor  # index into TEXTURES: the pattern of the background
    x: Tensor  # centre of the shape, from the left
    y: Tensor  # centre of the shape, from the top
    radius: Tensor
    angle: Tensor
    hue_shift: Tensor  # the shape's hue is HUES[hue] moved by this, in turns of the colour circle
    value: Tensor  # brightness of the shape
    ground_hue: Tensor  # of the background
    ground_value: Tensor  # brightness of the background
    period: Tensor  # of the background's pattern
    direction: Tensor  # of the background's pattern


def shape_factors(
    n: int, generator: torch.Generator, *, max_turn: float = 1.0
) -> ShapeFactors:
    """Draw the factors of ``n`` pictures, all independent; on the generator's device.

    Angles are uniform in 0 … ``max_turn`` of a full turn.

    Raises ValueError for n < 1, or max_turn outside of [0, 1].
    """
    if n < 1:
        raise ValueError(f"need n >= 1 pictures, got {n}")
    if not 0 <= max_turn <= 1:
        raise ValueError(f"max_turn is a share of a full turn, in [0, 1]: got {max_turn}")
    device = generator.device

    def choice(options: tuple[str, ...]) -> Tensor:
        return torch.randint(len(options), (n,), generator=generator, device=device)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(n, generator=generator, device=device) * (high - low) + low

    return ShapeFactors(
        shape=choice(SHAPES),
        hue=choice(HUES),
        texture=choice(TEXTURES),
        x=uniform(0.3, 0.7),
        y=uniform(0.3, 0.7),
        radius=uniform(0.2, 0.32),
        angle=uniform(0, 2 * math.pi * max_turn),
        hue_shift=uniform(-0.05, 0.05),
        value=uniform(0.65, 1.0),
        ground_hue=uniform(0, 1),
        ground_value=uniform(0.1, 0.5),
        period=uniform(0.15, 0.35),
        direction=uniform(0, 2 * math.pi),
    )


def render_shapes(factors: ShapeFactors, size: int) -> Tensor:
    """Paint the pictures: float32 ``(N, 3, size, size)`` in [0, 1], on the factors' device.

    Edges are smoothed over one pixel, so the same factors can be painted at any size.

    Raises ValueError for a size below 8 pixels.
    """
    if size < 8:
        raise ValueError(f"shapes can't be told apart below 8 pixels, got size {size}")
    place = (torch.arange(size, device=factors.x.device) + 0.5) / size
    v, u = torch.meshgrid(place, place, indexing="ij")  # (S, S): down, right
    f = ShapeFactors(*(value.view(-1, 1, 1) for value in factors))

    # The background's pattern: -1 … 1 times a quarter of its brightness.
    along = (u * f.direction.cos() + v * f.direction.sin()) * 2 * math.pi / f.period
    across = (v * f.direction.cos() - u * f.direction.sin()) * 2 * math.pi / f.period
    stripes = torch.tanh(3 * along.sin())
    checks = torch.tanh(6 * along.sin() * across.sin())
    waves = (along + 2 * (across / 2).sin()).sin()
    patterns = torch.stack([torch.zeros_like(stripes), stripes, checks, waves])
    pattern = patterns[factors.texture, torch.arange(len(factors.x))]  # (N, S, S)
    ground = _hsv(f.ground_hue, 0.5, f.ground_value * (1 + 0.5 * pattern))

    # Coordinates in which every shape is upright, at the origin, of about unit radius.
    p, q = (u - f.x) / f.radius, (v - f.y) / f.radius
    p, q = p * f.angle.cos() + q * f.angle.sin(), q * f.angle.cos() - p * f.angle.sin()
    distance = torch.empty_like(p)
    for index, name in enumerate(SHAPES):
        chosen = factors.shape == index
        distance[chosen] = _signed_distance(name, p[chosen], q[chosen])
    cover = (0.5 - distance * f.radius * size).clamp(0, 1)[:, None]  # (N, 1, S, S)

    hue = (f.hue / len(HUES) + f.hue_shift) % 1
    paint = _hsv(hue, 0.85, f.value.expand_as(distance))
    return paint * cover + ground * (1 - cover)


def shapes(
    seed: int = 0,
    *,
    n_train: int = 4000,
    n_validation: int = 1000,
    n_test: int = 2000,
    size: int = 32,
    label: str = "shape",
    max_turn: float = 1.0,
    device: torch.device | str = "cpu",
) -> Splits:
    """Painted pictures with several factors: a shape of some colour on a patterned background.

    Eight shapes, six hues and four textures, all independent, besides position, radius, angle and
    brightness. Any of the first three can be the label, so that one can ask what a representation
    has kept. Images are generated: there are as many as wanted, at any size.

    Args:
        seed: chooses all pictures; the splits have streams of their own, so that the size of one
            does not change another.
        n_train, n_validation, n_test: pictures in each part.
        size: side in pixels, at least 8.
        label: "shape", "hue" or "texture". The images do not depend on it.
        max_turn: shapes are turned by up to this share of a full turn; smaller is easier.
        device: where to paint, and leave, the pictures. They are the same on every device, but
            for rounding.

    Returns:
        ``Splits`` of ``x``: float32 ``(N, 3, size, size)`` in [0, 1], and ``y``: int64 ``(N,)``.

    Raises:
        ValueError: an unknown label, a count or size out of range.
    """
    if label not in ("shape", "hue", "texture"):
        raise ValueError(f"label must be 'shape', 'hue' or 'texture', got {label!r}")
    parts = []
    for part, n in enumerate((n_train, n_validation, n_test)):
        generator = torch.Generator().manual_seed(3 * seed + part)
        drawn = shape_factors(n, generator, max_turn=max_turn)
        factors = ShapeFactors(*(value.to(device) for value in drawn))
        parts.append(Split(render_shapes(factors, size), getattr(factors, label)))
    return Splits(*parts)


def _signed_distance(name: str, p: Tensor, q: Tensor) -> Tensor:
    """How far a point is outside of a shape (inside: negative), about; in units of its radius."""
    r = torch.hypot(p, q)
    if name == "disc":
        return r - 0.85
    if name == "ring":
        return (r - 0.75).abs() - 0.22
    if name == "square":
        return torch.maximum(p.abs(), q.abs()) - 0.75
    if name == "triangle":
        slope = math.sqrt(3) / 2
        return torch.maximum(torch.maximum(q, slope * p - q / 2), -slope * p - q / 2) - 0.55
    if name == "plus":
        bars = [torch.maximum(a.abs() - 0.28, b.abs() - 0.95) for a, b in ((p, q), (q, p))]
        return torch.minimum(*bars)
    if name == "star":
        turn = torch.atan2(q, p) * 5 / (2 * math.pi)
        tip = 2 * (turn - turn.round()).abs()  # 0 at the five tips, 1 between them
        return 0.7 * (r - (1.1 - 0.7 * tip))
    if name == "crescent":
        return torch.maximum(r - 0.95, 0.8 - torch.hypot(p - 0.5, q))
    return torch.maximum(p.abs() - 1.0, q.abs() - 0.38)  # bar


def _hsv(hue: Tensor, saturation: float, value: Tensor) -> Tensor:
    """Hue, saturation, value in [0, 1] to red, green, blue: (N, H, W) → (N, 3, H, W)."""
    # f(n) = v − v s max(0, min(k, 4 − k, 1)),  k = (n + 6 h) mod 6;  n = 5, 3, 1 for r, g, b
    channels = []
    for n in (5, 3, 1):
        k = (n + 6 * hue) % 6
        channels.append(value * (1 - saturation * torch.minimum(k, 4 - k).clamp(0, 1)))
    return torch.stack(channels, 1)


# --- Real images, for those who have them --------------------------------------------------------


def cifar10(
    root: str | os.PathLike[str],
    *,
    download: bool = False,
    seed: int = 0,
    validation_fraction: float = 0.1,
) -> Splits:
    """CIFAR-10: 60,000 photographs of 32 × 32 pixels, ten classes. Needs a download of 170 MB.

    Args:
        root: the folder that holds, or shall hold, ``cifar-10-batches-py``.
        download: fetch the files if they are not there (torchvision does so, and checks them).
        seed: chooses which of the 50,000 training images are the validation part.
        validation_fraction: their share, in (0, 1); the same in every class.

    Returns:
        ``Splits`` of ``x``: float32 ``(N, 3, 32, 32)`` in [0, 1] and ``y``: int64 ``(N,)``. The
        test part is the data set's own.

    Raises:
        FileNotFoundError: the files are not there, or not whole.
        ValueError: validation_fraction is out of range.

    Source: A. Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images.
    """
    if not 0 < validation_fraction < 1:
        raise ValueError(f"validation_fraction must lie between 0 and 1, got {validation_fraction}")
    from sklearn.model_selection import train_test_split
    from torchvision.datasets import CIFAR10

    try:
        parts = [CIFAR10(root, train=train, download=download) for train in (True, False)]
    except RuntimeError as error:
        raise FileNotFoundError(
            f"no complete CIFAR-10 in {Path(root) / CIFAR10.base_folder}: call "
            f"cifar10({str(root)!r}, download=True), or unpack {CIFAR10.filename} there"
        ) from error
    labelled, test = (
        Split(torch.tensor(p.data).permute(0, 3, 1, 2).float() / 255, torch.tensor(p.targets))
        for p in parts
    )
    train, validation = train_test_split(
        torch.arange(len(labelled.y)).numpy(),
        test_size=validation_fraction,
        stratify=labelled.y.numpy(),
        random_state=seed,
    )
    first, second = (Split(labelled.x[i], labelled.y[i]) for i in (train, validation))
    return Splits(first, second, test)


def image_folder(
    root: str | os.PathLike[str],
    transform: Callable[[Any, torch.Generator], Any],
    *,
    batch_size: int,
    workers: int = 0,
    seed: int = 0,
) -> DataLoader:
    """Batches of random views from a tree of image files, ``root/class/…/image.jpg`` (ImageNet).

    Args:
        root: folder with one folder a class.
        transform: called as ``transform(image, generator)`` with a PIL image in RGB; returns a
            tensor or a list of tensors of fixed sizes, as ``MultiCrop`` does.
        batch_size: images a batch; the last batch of an epoch is dropped if it is smaller.
        workers: processes that read and transform; 0 does both in this one.
        seed: of the order and of all views. They do not depend on ``workers``; each pass over the
            loader is a new epoch, with another order and other views.

    Returns:
        A loader of ``(views, labels)``: what ``transform`` returns, with a batch dimension in
        front, and int64 ``(batch_size,)``.

    Raises:
        FileNotFoundError: no such folder, or no folders with images in it.
        ValueError: a batch larger than the data set, or a count out of range.
    """
    from torchvision.datasets import ImageFolder

    if not any(entry.is_dir() for entry in Path(root).glob("*")):
        raise FileNotFoundError(f"{root} has no folders: images are expected as {root}/class/image")
    folder = ImageFolder(root)
    if not 1 <= batch_size <= len(folder) or workers < 0:
        raise ValueError(
            f"need 1 <= batch_size <= {len(folder)} images and workers >= 0, "
            f"got {batch_size} and {workers}"
        )
    return DataLoader(
        _Views(folder, transform),
        batch_size,
        sampler=_SeededOrder(len(folder), seed),
        num_workers=workers,
        drop_last=True,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
    )


class _Views(Dataset):
    """Views of image ``index``, drawn from ``seed``: so no worker has randomness of its own."""

    def __init__(self, images: Dataset, transform: Callable[[Any, torch.Generator], Any]) -> None:
        self.images, self.transform = images, transform

    def __getitem__(self, key: tuple[int, int]) -> tuple[Any, int]:
        index, seed = key
        image, label = self.images[index]
        return self.transform(image, torch.Generator().manual_seed(seed)), label


class _SeededOrder(Sampler):
    """All indices in random order, each with a seed; other ones in every epoch."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.generator = n, torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = torch.randperm(self.n, generator=self.generator)
        seeds = torch.randint(2**62, (self.n,), generator=self.generator)
        return zip(order.tolist(), seeds.tolist(), strict=True)
