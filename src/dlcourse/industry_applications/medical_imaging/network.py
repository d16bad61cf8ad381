"""A small network that looks for a lesion in pictures or volumes, and its training."""

from __future__ import annotations

import contextlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class LesionNet(nn.Module):
    """Three convolutions, the largest activation of each map, one logit.

    The maximum over places suits the question: one lesion anywhere makes the picture positive.

    Args:
        channels: of the first layer; the others have twice as many.
        dimensions: 2, or 3 for volumes.

    Shapes: ``(N, 1, S, …, S) -> (N,)``, logits.
    """

    def __init__(self, channels: int = 8, dimensions: int = 2) -> None:
        super().__init__()
        if dimensions not in _CONV or channels < 1:
            raise ValueError(f"need 2 or 3 dimensions and a channel: got {dimensions}, {channels}")
        conv, norm = _CONV[dimensions], _NORM[dimensions]

        def block(inputs: int, outputs: int, side: int, stride: int) -> list[nn.Module]:
            convolution = conv(inputs, outputs, side, stride, padding=side // 2, bias=False)
            return [convolution, norm(outputs), nn.ReLU()]

        self.features = nn.Sequential(
            norm(1),
            *block(1, channels, 5, 2),
            *block(channels, 2 * channels, 3, 1),
            *block(2 * channels, 2 * channels, 3, 1),
        )
        self.head = nn.Linear(2 * channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.features(images)  # (N, 2 channels, S/2, …, S/2)
        return self.head(maps.flatten(2).amax(2)).squeeze(1)


def train_classifier(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    seed: int,
    epochs: int = 8,
    learning_rate: float = 1e-2,
    batch_size: int = 32,
    autocast: torch.dtype | None = None,
) -> nn.Module:
    """Train with AdamW, one cycle of the rate, and random flips; returned in eval mode.

    Args:
        network: ``(N, 1, S, …, S) -> (N,)`` logits, on the device of the images.
        images: float32 ``(N, 1, S, …, S)``.
        labels: ``(N,)``, 0 or 1.
        seed: of the order of the batches and of the flips.
        epochs, learning_rate, batch_size: as their names say; N must fill a batch.
        autocast: compute in this type (``torch.bfloat16`` on a GPU); the weights stay float32.

    Raises:
        ValueError: fewer pictures than a batch has, or labels of another length.
        FloatingPointError: the loss is no longer finite.
    """
    if len(images) != len(labels) or len(images) < batch_size:
        raise ValueError(
            f"need as many labels as images, and a batch of {batch_size} at least: got "
            f"{len(labels)} and {len(images)}"
        )
    device, targets = images.device, labels.float()
    steps = epochs * (len(images) // batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    context = torch.autocast(device.type, autocast) if autocast else contextlib.nullcontext()
    network.train()
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for start in range(0, len(images) - batch_size + 1, batch_size):
            chosen = order[start : start + batch_size].to(device)
            batch = images[chosen]
            axes = [a for a in range(2, batch.ndim) if torch.rand((), generator=generator) < 0.5]
            with context:
                logits = network(batch.flip(axes))
            loss = F.binary_cross_entropy_with_logits(logits.float(), targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if not torch.isfinite(loss):
            raise FloatingPointError("the loss is not finite: lower the learning rate")
    return network.eval()


@torch.no_grad()
def predict_logits(network: nn.Module, images: Tensor, batch_size: int = 500) -> Tensor:
    """Logits in eval mode, float32 on the CPU: ``(N, …) -> (N,)``. The mode is set back after."""
    was_training = network.training
    network.eval()
    try:
        parts = [network(part).float().cpu() for part in images.split(batch_size)]
    finally:
        network.train(was_training)
    return torch.cat(parts)
