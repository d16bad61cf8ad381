"""Encoder and head trained together on labels, with one budget for every start.

Chapter: ``120_self_supervised_learning`` (every section).

A comparison of pre-trained weights with training from scratch is worth as much as the worse of the
two trainings. So rate and number of steps are searched for each start alike, and chosen on
validation.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlcourse.datasets import Split
from dlcourse.self_supervised_learning.evaluation._checks import whole_labels
from dlcourse.self_supervised_learning.pretraining import pretrain

__all__ = ["FineTuned", "fine_tune"]


class FineTuned(NamedTuple):
    """The training that was chosen, its accuracies, and what every other one reached."""

    network: nn.Module  # images (B, C, H, W) → a value for each class (B, classes)
    rate: float
    steps: int
    validation_accuracy: float
    test_accuracy: float
    tried: dict[tuple[float, int], float]  # (rate, steps) → accuracy on validation


def fine_tune(
    start: Callable[[], nn.Module],
    train: Split,
    validation: Split,
    test: Split,
    *,
    rates: Sequence[float] = (3e-4, 1e-3, 3e-3),
    steps: Sequence[int] = (100, 300, 1000),
    batch_size: int = 128,
    weight_decay: float = 0.05,
    warmup: float = 0.1,
    max_grad_norm: float | None = 1.0,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    dtype: torch.dtype | None = None,
    seed: int = 0,
) -> FineTuned:
    """Train an encoder and a linear head on labels, once for each rate and number of steps.

    Each training is AdamW with warm-up and a cosine to zero (``pretrain``) on the cross-entropy,
    begins with ``start()`` and a head of zeros, and sees the same batches. The one of the best
    accuracy on ``validation`` is chosen (of equal ones, the first that was tried); its labels are
    used for that, and for nothing else. ``test`` is looked at once, after that. Training from
    scratch is the same call with another ``start``: give both the same rates, steps and views.

    Args:
        start: makes the encoder, images (B, C, H, W) → features (B, D); called once for each
            training, it must give a network of its own each time: a new one, or
            ``copy.deepcopy(pretrained)``.
        train, validation, test: images, with integer labels 0, 1, …, on the encoder's device.
        rates, steps: of which each pair is tried.
        batch_size: images a step; as many as ``train`` has, where these are fewer.
        warmup: share of the steps in which the rate rises.
        max_grad_norm: clip the gradient to this norm; None leaves it.
        augment: images (B, C, H, W) and a generator → views of them; None trains on the images.
        dtype: of matrix products under autocast; None computes in the parameters' own.
        seed: of batches and views.

    Raises ValueError where nothing is to be tried, ``start`` gives the same network twice or no
    features (B, D), and for labels that are not integers 0, 1, ….
    """
    if not rates or not steps:
        raise ValueError(f"give at least one rate and one number of steps: {rates}, {steps}")
    train, validation, test = (
        Split(x, whole_labels(y)) for x, y in (train, validation, test)
    )
    n, classes = len(train.x), int(train.y.max()) + 1
    kind = train.x.device.type

    best, tried, used = None, {}, []
    for rate in rates:
        for count in steps:
            encoder = start()
            if any(encoder is other() for other in used):
                raise ValueError(
                    "start gave the same network twice, so one training would go on where another "
                    "ended: let it make a new one, or return copy.deepcopy(pretrained)"
                )
            used.append(weakref.ref(encoder))
            network = nn.Sequential(encoder, _head(encoder, train.x[:2], classes))

            def loss(
                index: Tensor, generator: torch.Generator, network: nn.Module = network
            ) -> Tensor:
                images = train.x[index]
                if augment is not None:
                    images = augment(images, generator)
                with torch.autocast(kind, dtype, enabled=dtype is not None):
                    values = network(images)
                return F.cross_entropy(values.float(), train.y[index])

            pretrain(
                network, loss, n, steps=count, batch_size=min(batch_size, n), lr=rate,
                weight_decay=weight_decay, warmup=warmup, max_grad_norm=max_grad_norm, seed=seed,
            )  # fmt: skip
            tried[rate, count] = accuracy = _accuracy(network, validation)
            if best is None or accuracy > best.validation_accuracy:
                best = FineTuned(network, rate, count, accuracy, 0.0, tried)
    return best._replace(test_accuracy=_accuracy(best.network, test))


def _head(encoder: nn.Module, images: Tensor, classes: int) -> nn.Linear:
    """A linear layer of zeros on the encoder's features."""
    mode = encoder.training
    with torch.no_grad():
        shape = encoder.eval()(images).shape
    encoder.train(mode)
    if len(shape) != 2 or shape[0] != len(images):
        raise ValueError(
            f"start must make an encoder of images (B, C, H, W) to features (B, D): "
            f"{len(images)} images gave {tuple(shape)}"
        )
    head = nn.Linear(shape[1], classes, device=images.device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


@torch.no_grad()
def _accuracy(network: nn.Module, split: Split) -> float:
    network.eval()
    named = torch.cat([network(images).argmax(1) for images in split.x.split(512)])
    return (named == split.y).double().mean().item()
