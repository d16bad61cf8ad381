"""What is a representation worth? Nearest neighbours, a linear probe, and few labels.

Chapter: ``120_self_supervised_learning`` (every section).

Papers:
    Wu et al. (2018), *Unsupervised Feature Learning via Non-Parametric Instance Discrimination*
    (the weighted k-nearest-neighbour vote).
    Caron et al. (2021), *Emerging Properties in Self-Supervised Vision Transformers* (the same
    vote with k = 20, beside a linear probe, as the two standard measures).

The encoder is frozen: its features are computed once, and both measures take seconds. Everything
is fitted on ``train`` and chosen on ``validation``; ``test`` is touched once, for the number that
is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlcourse.datasets import Split

__all__ = ["Probe", "features", "knn_accuracy", "label_subset", "linear_probe", "pca_rgb"]


@torch.no_grad()
def features(
    function: Callable[[Tensor], Tensor], split: Split, batch_size: int = 512
) -> Split:
    """The representation of every image of a split: float32 (N, …), beside the same labels.

    Args:
        function: images (B, C, H, W) → (B, D), or tokens (B, N, D), which are flattened. A module
            is put into eval mode for the call; afterwards each of its parts has its mode again.
        batch_size: images at a time, at least 1. The result does not depend on it.

    Raises ValueError for a batch_size below 1, or where ``function`` does not return one row an
    image.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    parts = list(function.modules()) if isinstance(function, nn.Module) else []
    modes = [part.training for part in parts]
    rows = []
    try:
        for part in parts:
            part.training = False
        for images in split.x.split(batch_size):
            out = function(images)
            if out.dim() < 2 or len(out) != len(images):
                raise ValueError(
                    f"function must return one row of features an image: {len(images)} images "
                    f"gave {tuple(out.shape)}"
                )
            rows.append(out.flatten(1).float())
    finally:
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode
    return Split(torch.cat(rows), split.y)


@torch.no_grad()
def knn_accuracy(train: Split, test: Split, *, k: int = 20, temperature: float = 0.07) -> float:
    """Share of ``test`` that a vote of the k nearest training features classifies rightly.

    Nearness is the cosine s_i of the angle between features; neighbour i votes for its class with
    weight exp(s_i / τ). Nothing is trained, and nothing is chosen.

    Args:
        train, test: features (N, D), with integer labels 0, 1, ….
        k: neighbours that vote, 1 … len(train).
        temperature: τ > 0; small: the nearest decide.

    Raises ValueError for features that are not finite or not of one width, and for k or τ out of
    range.

    Source: Wu et al. (2018), section 3.4.
    """
    _check(train, test)
    if not 1 <= k <= len(train.x):
        raise ValueError(f"k must be 1 … {len(train.x)}, the size of train: got {k}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    bank = F.normalize(train.x.float(), dim=1)
    classes = int(train.y.max()) + 1
    right = 0
    for x, y in zip(test.x.split(1024), test.y.split(1024), strict=True):  # (1024, N) at a time
        cosine = F.normalize(x.float(), dim=1) @ bank.T
        nearest, index = cosine.topk(k, dim=1)
        # exp((s − 1) / τ): the common factor exp(1 / τ), which may overflow, changes no vote.
        weight = ((nearest - 1) / temperature).exp()
        votes = weight.new_zeros(len(x), classes).scatter_add_(1, train.y[index], weight)
        right += int((votes.argmax(1) == y).sum())
    return right / len(test.y)


class Probe(NamedTuple):
    """A linear classifier on features, its accuracies, and the decay that was chosen."""

    weight: Tensor  # (D, classes), float64
    bias: Tensor  # (classes,)
    decay: float
    validation_accuracy: float
    test_accuracy: float

    def predict(self, x: Tensor) -> Tensor:
        """The class of each row of features: (N, D) → (N,)."""
        return (x.double() @ self.weight + self.bias).argmax(1)


@torch.no_grad()
def linear_probe(
    train: Split,
    validation: Split,
    test: Split,
    *,
    decays: Sequence[float] = tuple(10.0**e for e in range(-4, 3)),
) -> Probe:
    """Ridge regression of one-hot labels on standardised features, in closed form.

    With z the features less their mean, over their standard deviation (both of ``train``; a
    feature that does not vary counts as 0), and Y the one-hot labels less their mean:

        min over W of  ‖z W − Y‖² / N + λ ‖W‖²      ⇒      W = (zᵀz / N + λ I)⁻¹ zᵀY / N

    The largest output is the prediction. λ is chosen by accuracy on ``validation`` (of equal ones,
    the largest), whose labels serve for nothing else; ``test`` is predicted once, after that. Where
    few labels are given, only ``train`` should be cut: ``validation`` is then what it is, a set
    larger than one would have, the same for every method compared.

    Args:
        train, validation, test: features (N, D), with integer labels 0, 1, ….
        decays: the values of λ to try, positive. scikit-learn's ``Ridge`` calls N·λ ``alpha``.

    Raises ValueError for features that are not finite or not of one width, for a ``train`` of a
    single class, and for decays that are not positive.
    """
    _check(train, validation, test)
    if not decays or min(decays) <= 0:
        raise ValueError(f"decays must be positive numbers, at least one: got {tuple(decays)}")
    if len(train.y.unique()) < 2:
        raise ValueError("train holds a single class: there is nothing to tell apart")

    x = train.x.double()
    n, width = x.shape
    mean, scale = x.mean(0), x.std(0, correction=0)
    constant = scale <= 1e-6 * mean.abs()  # differences below float32's resolution are no signal
    scale = torch.where(constant, torch.inf, scale)
    z = (x - mean) / scale  # (N, D)
    one_hot = F.one_hot(train.y).double()
    y = one_hot - one_hot.mean(0)

    # The smaller of two systems: (zᵀz / N + λ I)⁻¹ zᵀ = zᵀ (z zᵀ / N + λ I)⁻¹.
    dual = width > n
    gram = (z @ z.T if dual else z.T @ z) / n
    target = (y if dual else z.T @ y) / n
    diagonal = gram.diagonal().clone()
    best = None
    for decay in sorted(decays):
        gram.diagonal().copy_(diagonal + decay)
        solution = torch.cholesky_solve(target, torch.linalg.cholesky(gram))
        w = z.T @ solution if dual else solution
        weight = w / scale[:, None]  # for features as they are: z W = x W / s − mean W / s
        probe = Probe(weight, one_hot.mean(0) - mean @ weight, float(decay), 0.0, 0.0)
        probe = probe._replace(validation_accuracy=_accuracy(probe, validation))
        if best is None or probe.validation_accuracy >= best.validation_accuracy:
            best = probe
    return best._replace(test_accuracy=_accuracy(best, test))


def _accuracy(probe: Probe, split: Split) -> float:
    return (probe.predict(split.x) == split.y).double().mean().item()


def label_subset(split: Split, fraction: float, seed: int = 0) -> Split:
    """A share of a split, class by class: max(1, round(fraction · n)) examples of each class.

    With one seed, the examples of a smaller share are among those of a larger one. The order of
    the split is kept.

    Raises ValueError for a fraction outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be above 0 and at most 1, got {fraction}")
    generator = torch.Generator().manual_seed(seed)
    keep = []
    for label in split.y.unique():
        members = (split.y == label).nonzero()[:, 0].cpu()
        order = torch.randperm(len(members), generator=generator)
        keep.append(members[order[: max(1, round(fraction * len(members)))]])
    index = torch.cat(keep).sort().values.to(split.y.device)
    return Split(split.x[index], split.y[index])


@torch.no_grad()
def pca_rgb(tokens: Tensor, reference: Tensor | None = None) -> Tensor:
    """Features as colours: (B, N, D) → (B, N, 3) in [0, 1].

    Red, green and blue are the first three principal components over all patches of all images,
    each scaled so that its 2nd … 98th percentile fills [0, 1]. The sign of a component is chosen
    so that its largest loading is positive.

    Args:
        reference: (B', N', D), from which components and percentiles are taken instead, so that
            several pictures have the same colours.

    Raises ValueError for tokens that are not (B, N, D) with D >= 3, or not of one width.

    Source of the picture: Oquab et al. (2024), *DINOv2*, figure 1 (without its thresholds).
    """
    reference = tokens if reference is None else reference
    for x in (tokens, reference):
        if x.dim() != 3 or x.shape[2] < 3 or x.shape[2] != tokens.shape[2]:
            raise ValueError(
                "tokens must be (B, N, D) with D >= 3, and reference as wide: got "
                f"{tuple(tokens.shape)} and {tuple(reference.shape)}"
            )
    x = reference.flatten(0, 1).double()
    mean = x.mean(0)
    components = torch.linalg.eigh((x - mean).T @ (x - mean)).eigenvectors[:, -3:].flip(1)  # (D, 3)
    largest = components.abs().argmax(0, keepdim=True)
    components = components * components.gather(0, largest).sign()
    low, high = torch.quantile(
        (x - mean) @ components, torch.tensor([0.02, 0.98], dtype=x.dtype, device=x.device), dim=0
    )
    scaled = ((tokens.double() - mean) @ components - low) / (high - low).clamp_min(1e-12)
    return scaled.clamp(0, 1).float()


def _check(*splits: Split) -> None:
    """Raise ValueError unless every split holds finite features of one width, and labels."""
    width = splits[0].x.shape[-1]
    for x, y in splits:
        if x.dim() != 2 or x.shape[1] != width or len(x) == 0:
            raise ValueError(
                "features must be (N, D) with N >= 1 and the same D everywhere, got "
                f"{[tuple(s.x.shape) for s in splits]}: flatten tokens, or use features()"
            )
        if y.shape != x.shape[:1] or y.is_floating_point() or y.min() < 0:
            raise ValueError(
                f"labels must be integers 0, 1, … of shape ({len(x)},), got {y.dtype} of shape "
                f"{tuple(y.shape)}"
            )
        if not x.isfinite().all():
            raise ValueError(
                "the features hold NaN or infinity: has the training of the encoder diverged?"
            )
