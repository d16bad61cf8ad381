"""One random view of each image of a batch, computed all at once on the batch's device.

Chapter: ``120_self_supervised_learning`` (sections 1a and 1b).

Paper: Chen et al. (2020), *A Simple Framework for Contrastive Learning of Visual Representations*
(SimCLR), appendix A. The operations are torchvision's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dlcourse.self_supervised_learning.augmentations._checks import Range, check_scale, check_size
from dlcourse.self_supervised_learning.patches import widened

__all__ = ["BatchViews", "ViewParameters"]


class ViewParameters(NamedTuple):
    """What ``BatchViews`` does to each image of a batch; every tensor is (B,).

    The box is in units of the image's width and height, from the left and from the top.
    """

    left: Tensor
    top: Tensor
    width: Tensor
    height: Tensor
    flip: Tensor  # true: left and right are exchanged
    brightness: Tensor  # factors, 1 changes nothing
    contrast: Tensor
    saturation: Tensor
    hue: Tensor  # turn of the colour circle, −0.5 … 0.5; 0 changes nothing
    gray: Tensor  # true: without colour


@dataclass(frozen=True)
class BatchViews:
    """One random view of each image of a batch: crop, flip, colour jitter, grayscale.

    Args:
        size: side of a view in pixels.
        scale: share of the image's area that a crop covers, within (0, 1].
        ratio: its width over its height, as shares of the image's. A crop that would be wider or
            higher than the image is cut to it (torchvision draws again).
        flip: probability of exchanging left and right.
        brightness, contrast, saturation: factors are uniform in [max(0, 1 − v), 1 + v].
        hue: the turn of the colour circle is uniform in [−v, v], v at most 0.5.
        jitter_probability: of changing the colours of an image at all.
        grayscale: probability of taking them away.

    Called with images (B, C, H, W) in [0, 1], C = 1 or 3, and a generator, it returns
    (B, C, size, size) in the images' dtype, computed in float32 or wider. The generator may live
    on the CPU or on the images' device. ``draw`` and ``apply`` are the two halves of the call.

    The operations are torchvision's (``resized_crop`` with antialiasing, ``adjust_brightness``,
    …); the order of the colour operations is always that of the arguments, where torchvision's
    ``ColorJitter`` draws it. On one channel, saturation, hue and grayscale do nothing.

    Raises ValueError for a setting out of range or images not in [0, 1] but for rounding (looked at
    on a CPU only, where that is free), TypeError for images that are not floating point.
    """

    size: int
    scale: Range = (0.3, 1.0)
    ratio: Range = (3 / 4, 4 / 3)
    flip: float = 0.5
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    jitter_probability: float = 0.8
    grayscale: float = 0.2

    def __post_init__(self) -> None:
        check_size(self.size, 1)
        check_scale(self.scale)
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio must be two positive numbers in order, got {self.ratio}")
        for name in ("flip", "jitter_probability", "grayscale"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability: got {getattr(self, name)}")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"hue must be 0 … 0.5 turns of the colour circle, got {self.hue}")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return self.apply(images, self.draw(len(images), generator, images.device))

    def draw(
        self, n: int, generator: torch.Generator, device: torch.device | str | None = None
    ) -> ViewParameters:
        """Parameters for ``n`` images, independent of each other; by default where the generator
        is."""
        u = torch.rand(11, n, generator=generator, device=generator.device).to(device)
        u_area, u_ratio, u_left, u_top, u_flip, u_jitter, *u_colour, u_hue, u_gray = u

        area = _between(u_area, *self.scale)
        ratio = _between(u_ratio, *map(math.log, self.ratio)).exp()
        width = (area * ratio).sqrt().clamp(max=1)
        height = (area / ratio).sqrt().clamp(max=1)

        jitter = u_jitter < self.jitter_probability
        strengths = (self.brightness, self.contrast, self.saturation)
        factors = [
            torch.where(jitter, _between(u, max(0.0, 1 - v), 1 + v), 1.0)
            for u, v in zip(u_colour, strengths, strict=True)
        ]
        return ViewParameters(
            left=u_left * (1 - width),
            top=u_top * (1 - height),
            width=width,
            height=height,
            flip=u_flip < self.flip,
            brightness=factors[0],
            contrast=factors[1],
            saturation=factors[2],
            hue=torch.where(jitter, _between(u_hue, -self.hue, self.hue), 0.0),
            gray=u_gray < self.grayscale,
        )

    def apply(self, images: Tensor, parameters: ViewParameters) -> Tensor:
        """The views that these parameters describe: (B, C, H, W) → (B, C, size, size)."""
        _check_batch(images, parameters)
        p = parameters
        b, c, h, w = images.shape
        dtype, images = images.dtype, widened(images)
        # Bilinear resizing is linear in the image, along one axis after the other: two products.
        across = _resize_weights(p.left, p.width, w, self.size)  # (B, S, W)
        across = torch.where(p.flip.view(-1, 1, 1), across.flip(1), across)
        down = _resize_weights(p.top, p.height, h, self.size)  # (B, S, H)
        x = images.reshape(b, c * h, w) @ across.transpose(1, 2).to(images.dtype)  # (B, C·H, S)
        x = x.view(b, c, h, self.size).transpose(1, 2).flatten(2)  # (B, H, C·S)
        x = down.to(images.dtype) @ x  # (B, S, C·S)
        # Colours are computed as (C, B, S, S): each channel in one piece of memory, twice as fast.
        x = x.view(b, self.size, c, self.size).permute(2, 0, 1, 3).contiguous()

        f = ViewParameters(*(value.view(-1, 1, 1) for value in p))
        x = (x * f.brightness).clamp(0, 1)
        mean = (_gray(x) if c == 3 else x).mean((2, 3), keepdim=True)
        x = (mean + f.contrast * (x - mean)).clamp(0, 1)
        if c == 3:
            gray = _gray(x)
            x = (gray + f.saturation * (x - gray)).clamp(0, 1)
            x = _turn_hue(x, f.hue)
            x = torch.where(f.gray, _gray(x), x)
        return x.transpose(0, 1).to(dtype).contiguous()


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * u


def _resize_weights(start: Tensor, length: Tensor, n: int, size: int) -> Tensor:
    """Rows that resize a part of an axis: (B,), (B,), n pixels → (B, size, n); rows sum to 1.

    Output i is the mean of the part's pixels under a triangle around the place that i comes from;
    it is one pixel wide to each side, and wider where the image shrinks (antialiasing).
    """
    length = (length * n).clamp(min=1).view(-1, 1, 1)  # in pixels; less than one can't be seen
    start = torch.minimum((start * n).view(-1, 1, 1), n - length)
    step = length / size
    pixel = torch.arange(n, device=start.device) + 0.5  # (n,) centres
    centre = start + (torch.arange(size, device=start.device)[:, None] + 0.5) * step  # (B, S, 1)
    weight = (1 - (pixel - centre).abs() / step.clamp(min=1)).clamp(min=0)  # (B, S, n)
    inside = (pixel >= start - 1e-4) & (pixel <= start + length + 1e-4)
    weight = weight * inside
    return weight / weight.sum(2, keepdim=True)


def _gray(x: Tensor) -> Tensor:
    """Luma as torchvision rounds it (ITU-R BT.601): (3, B, H, W) → (1, B, H, W)."""
    return 0.2989 * x[:1] + 0.587 * x[1:2] + 0.114 * x[2:]


def _turn_hue(x: Tensor, turn: Tensor) -> Tensor:
    """Move every pixel along the colour circle; value and saturation stay: (3, B, H, W)."""
    r, g, b = x
    value = torch.maximum(torch.maximum(r, g), b)
    chroma = value - torch.minimum(torch.minimum(r, g), b)
    safe = torch.where(chroma == 0, 1, chroma)  # gray has no hue, and any will do
    # Counted from the largest channel, in sixths of a turn: red is 0, green 2, blue 4.
    hue = torch.where(value == g, (b - r) / safe + 2, (r - g) / safe + 4)
    hue = torch.where(value == r, (g - b) / safe, hue)
    hue = hue / 6 + turn  # now in turns
    # channel_n = v − c max(0, min(k, 4 − k, 1)),  k = (n + hue) mod 6;  n = 5, 3, 1 for r, g, b
    channels = []
    for n in (5, 3, 1):
        place = hue + n / 6
        k = 6 * (place - place.floor())
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels)


def _check_batch(images: Tensor, parameters: ViewParameters) -> None:
    if not images.is_floating_point():
        raise TypeError(
            f"images must be floating point, got {images.dtype}: scale them first, for "
            "0 … 255 with images.float() / 255"
        )
    if images.dim() != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images must be (B, 1 or 3, H, W), got {tuple(images.shape)}")
    if len(parameters.left) != len(images):
        raise ValueError(f"parameters of {len(parameters.left)} images, for {len(images)} images")
    if images.device.type == "cpu" and images.numel():
        low, high = (value.item() for value in images.aminmax())
        slack = max(1e-4, 4 * torch.finfo(images.dtype).eps)  # of whatever resized the images
        if not (low >= -slack and high <= 1 + slack):
            raise ValueError(
                f"images must lie in [0, 1], got {low:.6g} … {high:.6g}: divide those of 0 … 255 "
                "by 255, and normalise after augmenting"
            )
