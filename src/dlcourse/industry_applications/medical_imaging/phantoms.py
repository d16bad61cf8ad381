"""Pictures of which everything is known: lumpy backgrounds, with a lesion or without.

No set of labelled medical images may ship with the course, so it makes its own. The background is
that of Rolland and Barrett (1992), with which observers have been studied since: lumps of one shape
at random places. The lesion is a Gaussian of known place, width and contrast.

Papers:
    Rolland and Barrett (1992), *Effect of random background inhomogeneity on observer detection
    performance*.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dlcourse.industry_applications.medical_imaging import _checks

#: Of the background: grey level where there is no lump, a lump's height and width (pixels), and
#: lumps in a volume of 40 pixels a side (2 dimensions) and of 24 a side (3 dimensions).
FLOOR, LUMP_HEIGHT, LUMP_WIDTH = 0.2, 0.09, 3.5
LUMPS_A_PIXEL = {2: 40 / 40**2, 3: 60 / 24**3}
LESION_WIDTH, MARGIN = 1.5, 5


class Phantoms(NamedTuple):
    """N pictures of D dimensions, and the truth about them."""

    images: Tensor  # float32 (N, 1, S, …, S), in [0, 1]
    labels: Tensor  # int64 (N,): 1 with a lesion, 0 without
    positions: Tensor  # float32 (N, D), centre of the lesion (pixels); NaN without


def lumpy_phantoms(
    n: int,
    seed: int,
    *,
    size: int = 40,
    dimensions: int = 2,
    prevalence: float = 0.5,
    contrast: float = 0.2,
    noise: float = 0.05,
) -> Phantoms:
    """Lumpy backgrounds with white noise; in a share of them a Gaussian lesion somewhere.

    The number of lumps is Poisson, their places are uniform on the picture and a rim about it.

    Args:
        n: pictures, at least 1.
        seed: decides everything.
        size: S, pixels a side, at least 16.
        dimensions: 2, or 3 for volumes.
        prevalence: probability of a lesion, in [0, 1].
        contrast: the lesion's height, in grey levels of [0, 1].
        noise: standard deviation of the white noise.

    Raises:
        ValueError: an argument out of its range.
    """
    if n < 1 or size < 16 or dimensions not in LUMPS_A_PIXEL:
        raise ValueError(
            f"need n ≥ 1, size ≥ 16 and 2 or 3 dimensions: got {n}, {size} and {dimensions}"
        )
    if not 0 <= prevalence <= 1 or contrast < 0 or noise < 0:
        raise ValueError(
            "need a prevalence in [0, 1], and contrast and noise of at least 0: got "
            f"{prevalence}, {contrast} and {noise}"
        )
    rng = np.random.default_rng(seed)
    rim = 3 * LUMP_WIDTH
    lumps = rng.poisson(LUMPS_A_PIXEL[dimensions] * (size - 1 + 2 * rim) ** dimensions, n)
    images = np.empty((n, *[size] * dimensions), np.float32)
    for image, count in zip(images, lumps, strict=True):
        places = rng.uniform(-rim, size - 1 + rim, (count, dimensions))
        image[:] = FLOOR + LUMP_HEIGHT * _blobs(places, size, LUMP_WIDTH)
    labels = rng.random(n) < prevalence
    positions = rng.uniform(MARGIN, size - 1 - MARGIN, (n, dimensions))
    for i in np.flatnonzero(labels):
        images[i] += contrast * _blobs(positions[i : i + 1], size, LESION_WIDTH)
    images += noise * rng.standard_normal(images.shape, np.float32)
    positions[~labels] = np.nan
    return Phantoms(
        torch.from_numpy(images.clip(0, 1)).unsqueeze(1),
        torch.from_numpy(labels.astype(np.int64)),
        torch.from_numpy(positions.astype(np.float32)),
    )


def _blobs(places: NDArray[np.float64], size: int, width: float) -> NDArray[np.float64]:
    """Sum of Gaussians of height 1: ``(K, D) -> (S, …, S)``. A Gaussian is a product of axes."""
    axis = np.arange(size)
    first, *others = (
        np.exp(-((axis - along[:, None]) ** 2) / (2 * width**2)) for along in places.T
    )
    product = others[0]  # (K, S)
    for factor in others[1:]:
        product = (product[:, :, None] * factor[:, None, :]).reshape(len(places), -1)
    return (first.T @ product).reshape([size] * places.shape[1])


def add_marker(
    phantoms: Phantoms, seed: int, *, positives: float, negatives: float, side: int = 4
) -> tuple[Phantoms, Tensor]:
    """Put a bright square into the first corner of some pictures, as a hospital's plate may be.

    Args:
        phantoms: of 2 dimensions.
        seed: chooses the pictures.
        positives, negatives: probability of the square where there is a lesion, and where not.
        side: of the square (pixels).

    Returns:
        The pictures (copies), and which have the square: bool ``(N,)``.
    """
    for name, chance in (("positives", positives), ("negatives", negatives)):
        if not 0 <= chance <= 1:
            raise ValueError(f"{name} must be a probability: got {chance}")
    rng = np.random.default_rng(seed)
    chance = np.where(phantoms.labels.numpy() == 1, positives, negatives)
    marked = torch.from_numpy(rng.random(len(chance)) < chance)
    images = phantoms.images.clone()
    images[marked, :, 1 : 1 + side, 1 : 1 + side] = 0.95
    return phantoms._replace(images=images), marked


class ScanningObserver:
    """The likelihood ratio of a lesion anywhere, if the background were Gaussian: the baseline.

    It knows the lesion's shape and contrast, and learns mean and power spectrum of the background
    from pictures without a lesion (periodic, which is nearly true). With the filter w = t̂*/S,

        log Λ(r) = A (w ⋆ g)(r) − A² ‖t‖²_S / 2,     Λ = mean of Λ(r) over places r.

    A lumpy background is not quite Gaussian, so this is no upper limit.

    Args:
        healthy: ``(N, 1, S, S)`` without a lesion, N ≥ 2.
        contrast: A, of the lesion.
    """

    def __init__(self, healthy: Tensor, contrast: float) -> None:
        if healthy.ndim != 4 or len(healthy) < 2:
            raise ValueError(f"need 2 pictures (1, S, S) or more: got {tuple(healthy.shape)}")
        pictures = healthy[:, 0].double().numpy()
        size = pictures.shape[-1]
        self.mean, self.contrast = pictures.mean(0), _checks.positive(contrast, "contrast")
        spectrum = (np.abs(np.fft.fft2(pictures - self.mean)) ** 2).mean(0) / size**2
        at = np.minimum(np.arange(size), size - np.arange(size))  # the lesion at the origin
        profile = np.exp(-(at**2) / (2 * LESION_WIDTH**2))
        lesion = np.fft.fft2(np.outer(profile, profile))
        self._filter = lesion.conj() / spectrum
        self._energy = float((np.abs(lesion) ** 2 / spectrum).sum() / size**2)

    def scores(self, images: Tensor) -> NDArray[np.float64]:
        """log Λ of each picture: ``(N, 1, S, S) -> (N,)``."""
        pictures = images[:, 0].double().numpy() - self.mean
        found = np.fft.ifft2(np.fft.fft2(pictures) * self._filter).real
        ratio = self.contrast * found - self.contrast**2 * self._energy / 2
        inner = ratio[:, MARGIN:-MARGIN, MARGIN:-MARGIN].reshape(len(images), -1)
        return np.logaddexp.reduce(inner, axis=1) - np.log(inner.shape[1])
