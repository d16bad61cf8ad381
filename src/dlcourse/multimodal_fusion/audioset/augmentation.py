"""SpecAugment and mixup, for batches, from a generator.

Chapter 121, section 1b. Park et al., "SpecAugment: A simple data augmentation method for automatic
speech recognition", Interspeech 2019; Zhang, Cissé, Dauphin and Lopez-Paz, "mixup: Beyond empirical
risk minimization", ICLR 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor


def spec_augment(
    spectrogram: Tensor,
    generator: torch.Generator,
    *,
    frequency_width: int = 12,
    time_width: int = 20,
    frequency_masks: int = 2,
    time_masks: int = 2,
) -> Tensor:
    """Hide bands of pitch and stretches of time, each clip its own: (B, M, T) -> (B, M, T).

    A mask has a width w uniform in 0 … its largest, and a start uniform in 0 … size − w. What is
    hidden becomes the clip's mean, which is what 0 is in the paper's normalised spectrograms.
    There is no time warping, which the paper finds to help least.

    Raises ValueError for a shape other than (B, M, T) or widths larger than M or T.
    """
    if spectrogram.ndim != 3:
        raise ValueError(f"need spectrograms (B, M, T): got {tuple(spectrogram.shape)}")
    _, bands, frames = spectrogram.shape
    if not (0 <= frequency_width <= bands and 0 <= time_width <= frames):
        raise ValueError(
            f"masks of up to {frequency_width} bands and {time_width} frames do not fit into "
            f"{bands} × {frames}: take narrower ones"
        )
    hidden = _stripes(spectrogram, 1, frequency_width, frequency_masks, generator)[:, :, None]
    hidden = hidden | _stripes(spectrogram, 2, time_width, time_masks, generator)[:, None, :]
    return spectrogram.where(~hidden, spectrogram.mean((1, 2), keepdim=True))


def _stripes(x: Tensor, axis: int, width: int, count: int, generator: torch.Generator) -> Tensor:
    """Which places along an axis are hidden, (B, size): the union of ``count`` stripes a clip."""
    batch, size = len(x), x.shape[axis]

    def uniform() -> Tensor:
        return torch.rand(batch, count, 1, generator=generator, device=generator.device)

    w = (uniform() * (width + 1)).floor().clamp(max=width)  # 0 … width
    start = (uniform() * (size - w + 1)).floor().minimum(size - w)  # 0 … size − w
    place = torch.arange(size, device=generator.device)
    hidden = ((place >= start) & (place < start + w)).any(1)
    return hidden.to(x.device)


def mixup(
    x: Tensor, targets: Tensor, alpha: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Blend each clip with another of the batch, and their targets alike.

    x̃ = λ x_i + (1 − λ) x_j,  ỹ = λ y_i + (1 − λ) y_j,  λ ~ Beta(α, α), one λ a clip.

    Args:
        x: (B, ...), waveforms or spectrograms.
        targets: (B, C).
        alpha: α > 0; small: λ near 0 or 1; 1: uniform; large: near one half.
        generator: draws λ and the partners.

    Raises:
        ValueError: alpha ≤ 0, or batches of unequal size.
    """
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, got {alpha}; leave mixup out for no blending")
    if len(x) != len(targets):
        raise ValueError(f"{len(x)} clips, but targets for {len(targets)}")
    shape = torch.full((2, len(x)), float(alpha), device=generator.device)
    gamma = torch._standard_gamma(shape, generator=generator).clamp(min=1e-30)
    lam = (gamma[0] / gamma.sum(0)).to(x.device)  # two gammas make a Beta(α, α)
    partner = torch.randperm(len(x), generator=generator, device=generator.device).to(x.device)
    along = lam.view(-1, *[1] * (x.ndim - 1)).to(x.dtype)
    mixed = along * x + (1 - along) * x[partner]
    lam = lam[:, None].to(targets.dtype)
    return mixed, lam * targets + (1 - lam) * targets[partner]
