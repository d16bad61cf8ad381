"""Random views of an image: several crops of one image, and one view each of a whole batch.

Chapter: ``120_self_supervised_learning`` (sections 1 and 2).

Papers:
    Chen et al. (2020), *A Simple Framework for Contrastive Learning of Visual Representations*
    (SimCLR), appendix A.
    Caron et al. (2020), *Unsupervised Learning of Visual Features by Contrasting Cluster
    Assignments* (SwAV): multi-crop.
    Caron et al. (2021), DINO, and Oquab et al. (2024), DINOv2: the settings of ``MultiCrop``.

``TwoViews`` and ``MultiCrop`` take one image and are made of torchvision's ``transforms.v2``: this
is what the workers of a data loader run. Given a batch, a transform of torchvision draws once and
does the same to every image; a contrastive loss would then see the same crop everywhere.
``BatchViews`` draws for each image, and computes the whole batch at once, on its device.

All give values in [0, 1]; a model that wants them normalised does so itself.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["BatchViews", "MultiCrop", "TwoViews", "ViewParameters"]

Range = tuple[float, float]


# --- One image, by torchvision -------------------------------------------------------------------


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

    Raises ValueError for a size, scale or strength out of range, TypeError for another image.

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

    Raises ValueError for a size, scale or number out of range, TypeError for another image.

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

    _check_size(size, 8)
    _check_scale(scale)
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
    elif hasattr(image, "convert"):
        image = image.convert("RGB")
    else:
        raise TypeError(f"an image must be a PIL image or a tensor, got {type(image).__name__}")
    if generator is None:
        return [transform(image) for transform in transforms]
    # torchvision draws from torch's global CPU generator and takes no other: lend it a seed.
    seed = torch.randint(2**62, (), generator=generator, device=generator.device).item()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs too
        return [transform(image) for transform in transforms]


# --- A batch at once -----------------------------------------------------------------------------


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
    (B, C, size, size). The generator may live on the CPU or on the images' device. ``draw`` and
    ``apply`` are the two halves of the call.

    The operations are torchvision's (``resized_crop`` with antialiasing, ``adjust_brightness``,
    …); the order of the colour operations is always that of the arguments, where torchvision's
    ``ColorJitter`` draws it. On one channel, saturation, hue and grayscale do nothing.

    Raises ValueError for a setting out of range or images not in [0, 1] (looked at on a CPU
    only, where that is free), TypeError for images that are not floating point.
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
        _check_size(self.size, 1)
        _check_scale(self.scale)
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
        return x.transpose(0, 1).contiguous()


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


# --- Checks --------------------------------------------------------------------------------------


def _check_size(size: int, least: int) -> None:
    if not isinstance(size, int) or size < least:
        raise ValueError(f"the side of a view must be an integer >= {least}, got {size!r}")


def _check_scale(scale: Range) -> None:
    if not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(f"scale must be two shares in order, within (0, 1], got {scale}")


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
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"images must lie in [0, 1], got {low:.3g} … {high:.3g}: normalise after augmenting"
            )
