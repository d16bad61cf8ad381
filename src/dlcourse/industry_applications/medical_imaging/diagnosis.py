"""A classifier that gives a probability, a decision, a heat map, and asks a person when unsure.

Papers:
    Lee et al. (2018), *A simple unified framework for detecting out-of-distribution samples*: the
    Mahalanobis distance of features.
    Geifman and El-Yaniv (2017), *Selective classification for deep neural networks*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from torch import Tensor, nn

from dlcourse.industry_applications.medical_imaging import _checks
from dlcourse.industry_applications.medical_imaging.calibration import fit_temperature
from dlcourse.industry_applications.medical_imaging.grad_cam import GradCAM
from dlcourse.industry_applications.medical_imaging.thresholds import (
    OperatingPoint,
    choose_threshold,
)


class NotCalibrated(RuntimeError):
    """The model has no threshold yet: ``calibrate`` was not called."""


@dataclass(frozen=True)
class Diagnosis:
    """What the model says of one image."""

    label: int  # 1: positive
    probability: float  # of disease, calibrated on the validation cases
    uncertainty: float  # the calibrated probability that ``label`` is wrong
    heatmap: Tensor  # (H, W), at least 0: Grad-CAM of the positive score
    refer: bool  # a person should decide
    reasons: tuple[str, ...]  # why: "unsure", "unlike the training images"


class Screening(NamedTuple):
    """What the model says of N images, without heat maps."""

    label: NDArray[np.int64]  # (N,)
    probability: NDArray[np.float64]  # (N,)
    uncertainty: NDArray[np.float64]  # (N,)
    distance: NDArray[np.float64]  # (N,), from the training images
    unsure: NDArray[np.bool_]  # (N,)
    unlike: NDArray[np.bool_]  # (N,)

    @property
    def refer(self) -> NDArray[np.bool_]:
        """Which a person should decide: (N,)."""
        return self.unsure | self.unlike


class DiagnosisModel:
    """A network, a temperature, a threshold, and two reasons to ask a person.

    ``calibrate`` fits all but the network, on validation cases. Then ``diagnose`` answers for an
    image and ``screen`` for many. The network is put in eval mode and not changed otherwise.

    Args:
        network: ``(N, 1, H, W) -> (N,)``, one logit an image.
        layer: its module whose maps give heat maps and features, such as ``network.features``.
        shape: of one image, such as ``(1, 40, 40)``.

    Raises:
        ValueError: the layer is no part of the network.
    """

    def __init__(self, network: nn.Module, layer: nn.Module, shape: tuple[int, ...]) -> None:
        self.network, self.shape = network.eval(), tuple(int(side) for side in shape)
        self.grad_cam = GradCAM(network, layer)
        self.temperature: float | None = None
        self.operating_point: OperatingPoint | None = None

    def calibrate(
        self,
        training_images: Tensor,
        training_labels: ArrayLike,
        images: Tensor,
        labels: ArrayLike,
        *,
        min_sensitivity: float = 0.95,
        confidence: float = 0.95,
        refer_share: float = 0.1,
        outlier_share: float = 0.01,
    ) -> OperatingPoint:
        """Fit temperature, threshold and limits. All or nothing: an error changes nothing.

        Args:
            training_images, training_labels: what the network was trained on. They say what images
                look like, and nothing else.
            images, labels: validation cases that trained nothing, of other patients.
            min_sensitivity, confidence: see ``choose_threshold``.
            refer_share: of validation cases that is called unsure.
            outlier_share: of validation cases that is called unlike the training images.

        Returns:
            The threshold on the calibrated probability, and what it gives on the validation cases.

        Raises:
            TypeError, ValueError: images that ``diagnose`` would refuse, one class only, or too
                few cases for what is asked.
        """
        unsure = _checks.share(refer_share, "refer_share")
        unlike = _checks.share(outlier_share, "outlier_share")
        known_logits, known = self._look(training_images)
        _, classes = _checks.scores_and_labels(known_logits, training_labels)
        logits, features = self._look(images)
        temperature = fit_temperature(logits, labels)
        probability = expit(logits / temperature)
        point = choose_threshold(probability, labels, min_sensitivity, confidence)

        means = np.stack([known[classes == c].mean(0) for c in (False, True)])  # (2, F)
        within = known - means[classes.astype(int)]
        covariance = np.cov(within.T) + 1e-6 * np.eye(known.shape[1])  # a map may be 0 always
        inverse = np.linalg.inv(covariance)
        distance = _nearest(features, means, inverse)
        limits = (
            _upper_limit(_wrong(probability, point.threshold), unsure, "refer_share"),
            _upper_limit(distance, unlike, "outlier_share"),
        )
        self.temperature, self.operating_point = temperature, point
        self._means, self._inverse = means, inverse
        self._max_uncertainty, self._max_distance = limits
        return point

    def screen(self, images: Tensor) -> Screening:
        """Answers for N images ``(N, *shape)``, without heat maps.

        Raises:
            NotCalibrated: before ``calibrate``.
            TypeError: images of whole numbers.
            ValueError: another shape, or values that are not in [0, 1].
            FloatingPointError: the network's output is not finite.
        """
        if self.operating_point is None or self.temperature is None:
            raise NotCalibrated("call calibrate with validation cases first")
        logits, features = self._look(images)
        probability = expit(logits / self.temperature)
        uncertainty = _wrong(probability, self.operating_point.threshold)
        distance = _nearest(features, self._means, self._inverse)
        return Screening(
            (probability >= self.operating_point.threshold).astype(np.int64),
            probability,
            uncertainty,
            distance,
            uncertainty > self._max_uncertainty,
            distance > self._max_distance,
        )

    def diagnose(self, image: Tensor) -> Diagnosis:
        """The answer for one image of shape ``shape``, with its heat map.

        Raises as ``screen`` does.
        """
        if not isinstance(image, Tensor) or tuple(image.shape) != self.shape:
            raise ValueError(f"the image must be a tensor {self.shape}: got {_described(image)}")
        found = self.screen(image.unsqueeze(0))
        reasons = [word for word, holds in (
            ("unsure", found.unsure[0]), ("unlike the training images", found.unlike[0]),
        ) if holds]  # fmt: skip
        return Diagnosis(
            int(found.label[0]),
            float(found.probability[0]),
            float(found.uncertainty[0]),
            self.grad_cam(image.unsqueeze(0))[0],
            bool(reasons),
            tuple(reasons),
        )

    @torch.no_grad()
    def _look(self, images: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Logits ``(N,)`` and features ``(N, 2 K + 2)``.

        Features are mean and largest value of each map, and mean and deviation of the grey levels:
        a network may see nothing odd in a negative, since it looks for bright spots alone.
        """
        self._check(images)
        self.network.eval()
        kept: list[Tensor] = []
        layer = self.grad_cam.layer
        handle = layer.register_forward_hook(lambda module, inputs, maps: kept.append(maps))
        try:
            logits = torch.cat([self.network(part) for part in images.split(500)])
        finally:
            handle.remove()
        if logits.shape != (len(images),):
            raise ValueError(f"the network must give one logit an image: got {tuple(logits.shape)}")
        maps = torch.cat(kept).flatten(2)
        grey = images.flatten(1)
        levels = torch.stack([grey.mean(1), grey.std(1)], 1)
        features = torch.cat([maps.mean(2), maps.amax(2), levels], 1).double()
        if not (torch.isfinite(logits).all() and torch.isfinite(features).all()):
            raise FloatingPointError("the network's output is not finite: no diagnosis")
        return logits.double().cpu().numpy(), features.cpu().numpy()

    def _check(self, images: Tensor) -> None:
        if not isinstance(images, Tensor) or tuple(images.shape[1:]) != self.shape:
            raise ValueError(
                f"images must be a tensor (N, {', '.join(map(str, self.shape))}): got "
                f"{_described(images)}. Resample to the training images' spacing and size"
            )
        if not len(images):
            raise ValueError("there are no images")
        if not images.is_floating_point():
            raise TypeError(
                f"images must be of a floating type in [0, 1]: got {images.dtype}. Divide bytes by "
                "255; stored values of CT go through dicom_window"
            )
        low, high = float(images.min()), float(images.max())
        if not (math.isfinite(low) and math.isfinite(high)) or low < 0 or high > 1:
            raise ValueError(
                f"images must lie in [0, 1] and be finite: got {low:g} to {high:g}. Divide bytes "
                "by 255; stored values of CT go through dicom_window"
            )


def _described(images: object) -> str:
    return str(tuple(images.shape)) if isinstance(images, Tensor) else type(images).__name__


def _wrong(probability: NDArray[np.float64], threshold: float) -> NDArray[np.float64]:
    """The probability that the label is wrong, if the probability is right."""
    return np.where(probability >= threshold, 1 - probability, probability)


def _nearest(
    features: NDArray[np.float64], means: NDArray[np.float64], inverse: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mahalanobis distance to the nearer class: ``(N, F), (2, F), (F, F) -> (N,)``."""
    gaps = features[:, None] - means  # (N, 2, F)
    squared = np.einsum("ncf,fg,ncg->nc", gaps, inverse, gaps)
    return np.sqrt(np.maximum(squared, 0).min(1))


def _upper_limit(values: NDArray[np.float64], share: float, name: str) -> float:
    """The limit that a new value of the same kind exceeds with probability ≤ ``share``.

    The ⌈(n + 1)(1 − share)⌉-th smallest of n (split conformal prediction): exact, for any n.
    """
    rank = math.ceil((len(values) + 1) * (1 - share))
    if rank > len(values):
        raise ValueError(
            f"{len(values)} validation cases are too few for {name}={share:g}: it needs "
            f"{math.ceil(1 / share) - 1} or more"
        )
    return float(np.sort(values)[rank - 1])
