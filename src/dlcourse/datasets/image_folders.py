"""A tree of image files, one folder a class, as ImageNet has: batches of random views of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler


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
        root: folder with one folder a class. What begins with a dot is passed over.
        transform: called as ``transform(image, generator)`` with a PIL image in RGB (one of 16 bits
            a pixel is scaled to 8); returns a tensor or a list of tensors of fixed sizes, as
            ``MultiCrop`` does.
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
    from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes

    class Visible(ImageFolder):
        """Without what hidden folders and files hold: they are no classes and no images."""

        def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
            names = [name for name in find_classes(directory)[0] if not name.startswith(".")]
            return names, {name: label for label, name in enumerate(names)}

    def is_image(path: str) -> bool:
        name = os.path.basename(path)
        return name.lower().endswith(IMG_EXTENSIONS) and not name.startswith(".")

    if not any(entry.is_dir() and entry.name[0] != "." for entry in Path(root).glob("*")):
        raise FileNotFoundError(f"{root} has no folders: images are expected as {root}/class/image")
    folder = Visible(root, loader=_load, is_valid_file=is_image)
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


def as_rgb(image: Any) -> Any:
    """A PIL image in RGB, 8 bits a channel; one of 16 bits a pixel is scaled, not cut at 255.

    Raises ValueError for an image of 32 bits a pixel (modes I and F), whose range nobody knows.
    """
    if image.mode in ("I", "F"):
        raise ValueError(
            f"an image of mode {image.mode!r} may hold any range of values: scale it to 0 … 255 "
            "and convert it to mode 'L' or 'RGB' first"
        )
    if image.mode.startswith("I;16"):
        from PIL import Image

        byte_order = ">u2" if image.mode == "I;16B" else "<u2"
        pixels = np.frombuffer(image.tobytes(), byte_order).reshape(image.size[::-1])
        image = Image.fromarray((pixels / 257.0).round().astype(np.uint8))  # 65535 / 257 = 255
    return image.convert("RGB")


def _load(path: str) -> Any:
    from PIL import Image

    with Image.open(path) as image:
        return as_rgb(image)


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
