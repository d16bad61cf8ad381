"""CIFAR-10, for those who have it or can download it."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from dlcourse.datasets.splits import Split, Splits


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
