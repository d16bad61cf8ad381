"""Several random views of one image, by torchvision: SimCLR's two, DINO's many.

Chapter: ``120_self_supervised_learning`` (sections 1a and 1b).

Papers:
    Chen et al. (2020), *A Simple Framework for Contrastive Learning of Visual Representations*
    (SimCLR), appendix A.
    Caron et al. (2020), *Unsupervised Learning of Visual Features by Contrasting Cluster
    Assignments* (SwAV): multi-crop.
    Caron et al. (2021), DINO, and Oquab et al. (2024), DINOv2: the settings of ``MultiCrop``.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dlcourse.datasets.image_folders import as_rgb
from dlcourse.self_supervised_learning.augmentations._checks import Range, check_scale, check_size

__all__ = ["MultiCrop", "TwoViews"]


class TwoViews:
    """SimCLR's two random views of an image.

    Args:
        size: side of a view in pixels, at least 8.
        strength: of the colour jitter, the paper's s; 0 leaves the colours (but for grayscale).
        scale: share of the image's area that a crop covers, within (0, 1].

    Called with an image (PIL, or a tensor (C, H, W), uint8 or floats in [0, 1]) it returns two
    float32 tensors (C, size, size) in [0, 1]. Given a ``generator``, all is drawn from that, and
    torch's global generator is left alone; without one the global generator decides (a data
    loader seeds it in every worker).

    A file of 16 bits a pixel is scaled to 8. Raises ValueError for a size, scale or strength out of
    range and for a picture whose range is unknown (32 bits a pixel, floats beyond [0, 1]),
    TypeError for another image.

    Source: Chen et al. (2020), appendix A. Its blur is wide, a tenth of the image.
    """

    def __init__(self, size: int = 224, strength: float = 1.0, scale: Range = (0.08, 1.0)) -> None:
        if strength < 0 or 0.2 * strength > 0.5:
            raise ValueError(f"strength must be 0 … 2.5 (hue turns by 0.2 of it), got {strength}")
        jitter = (0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength)
        kernel = max(3, size // 10 // 2 * 2 + 1)
        self.transform = _transform(size, scale, jitter, blur=0.5, kernel=kernel)

    def __call__(self, image: Any, generator: torch.Generator | None = None) -> list[Tensor]:
        return _views([self.transform, self.transform], image, generator)


class MultiCrop:
    """DINO's views of an image: two large crops, and many small ones.

    Args:
        global_size, local_size: sides of the large and small views in pixels, at least 8.
        global_scale, local_scale: shares of the image's area that they cover, within (0, 1].
        local_crops: number of small views, 0 or more.
        color_jitter: False leaves the colours: crop, flip and blur alone.

    Called like ``TwoViews``; the list has two tensors (C, global_size, global_size), then
    ``local_crops`` of (C, local_size, local_size). The first large view is always blurred, the
    second with probability 0.1 and solarised with 0.2, a small one blurred with 0.5.

    Raises ValueError for a size, scale or number out of range, and as ``TwoViews`` does for images.

    Source: Caron et al. (2021), section 3 and appendix; scales of DINOv2's default configuration.
    """

    def __init__(
        self,
        global_size: int = 224,
        local_size: int = 96,
        global_scale: Range = (0.32, 1.0),
        local_scale: Range = (0.05, 0.32),
        local_crops: int = 8,
        color_jitter: bool = True,
    ) -> None:
        if local_crops < 0:
            raise ValueError(f"local_crops must be 0 or more, got {local_crops}")
        jitter = (0.4, 0.4, 0.2, 0.1) if color_jitter else None
        first = _transform(global_size, global_scale, jitter, blur=1.0)
        solarize = 0.2 if color_jitter else 0.0
        second = _transform(global_size, global_scale, jitter, blur=0.1, solarize=solarize)
        local = _transform(local_size, local_scale, jitter, blur=0.5)
        self.transforms = [first, second] + [local] * local_crops

    def __call__(self, image: Any, generator: torch.Generator | None = None) -> list[Tensor]:
        return _views(self.transforms, image, generator)


def _transform(
    size: int,
    scale: Range,
    jitter: tuple[float, float, float, float] | None,
    *,
    blur: float,
    kernel: int = 9,
    solarize: float = 0.0,
) -> Any:
    """Crop and flip, colours, blur, solarise: one of torchvision's transforms."""
    from torchvision.transforms import InterpolationMode, v2

    check_size(size, 8)
    check_scale(scale)
    kernel = min(kernel, size // 2 * 2 - 1)
    steps = [
        v2.ToImage(),
        v2.RandomResizedCrop(size, scale, interpolation=InterpolationMode.BICUBIC, antialias=True),
        v2.RandomHorizontalFlip(),
        v2.ToDtype(torch.float32, scale=True),
        functools.partial(torch.clamp, min=0, max=1),  # a bicubic filter overshoots
    ]
    if jitter is not None:
        steps += [v2.RandomApply([v2.ColorJitter(*jitter)], p=0.8), v2.RandomGrayscale(0.2)]
    steps += [v2.RandomApply([v2.GaussianBlur(kernel, sigma=(0.1, 2.0))], p=blur)]
    if solarize:
        steps += [v2.RandomSolarize(threshold=0.5, p=solarize)]
    return v2.Compose([*steps, v2.ToPureTensor()])


def _views(
    transforms: Sequence[Any], image: Any, generator: torch.Generator | None
) -> list[Tensor]:
    """Each transform of one image, all drawn from the generator."""
    if isinstance(image, Tensor):
        if image.dim() != 3 or not (image.is_floating_point() or image.dtype == torch.uint8):
            raise TypeError(
                "an image must be a tensor (C, H, W), uint8 or floating point, got "
                f"{image.dtype} {tuple(image.shape)}: for a batch use BatchViews"
            )
        if image.is_floating_point() and not (image.min() >= -1e-3 and image.max() <= 1 + 1e-3):
            raise ValueError(
                f"a floating point image must lie in [0, 1], got {image.min():.6g} … "
                f"{image.max():.6g}: divide one of 0 … 255 by 255"
            )
    elif hasattr(image, "convert"):
        image = as_rgb(image)
    else:
        raise TypeError(f"an image must be a PIL image or a tensor, got {type(image).__name__}")
    if generator is None:
        return [transform(image) for transform in transforms]
    # torchvision draws from torch's global CPU generator and takes no other: lend it a seed.
    seed = torch.randint(2**62, (), generator=generator, device=generator.device).item()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs too
        return [transform(image) for transform in transforms]
