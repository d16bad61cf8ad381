"""SimCLR: an encoder and a projection head, trained to recognise two views of one image.

Chapter: ``120_self_supervised_learning/1a_contrastive``.

Paper: Chen et al. (2020), *A Simple Framework for Contrastive Learning of Visual Representations*.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dlcourse.self_supervised_learning.contrastive.conv_net import he_initialize
from dlcourse.self_supervised_learning.contrastive.nt_xent import gather_across_processes, nt_xent

__all__ = ["SimCLR"]


class SimCLR(nn.Module):
    """Encoder and projection head, trained to recognise two views of one image.

    ``forward(view1, view2)`` takes two batches of images (B, C, H, W) and returns the loss. The
    encoder's features h are what one keeps; the head, z = W₂ relu(W₁ h + b₁) + b₂, serves the
    loss alone. Where a process group is open, images of all processes are
    contrasted.

    Args:
        encoder: images (B, C, H, W) → (B, D), with the attribute ``embed_dim`` = D.
        projection_dim: width of z.
        hidden_dim: width of the head's hidden layer; by default D.
        temperature: τ > 0 of the loss.
        generator: draws the head's initial weights (He et al. 2015); by default torch's global
            generator.

    Raises:
        ValueError: the encoder has no embed_dim, a width or τ is out of range; when called: views
            of different shapes, or a batch of one.

    Source: Chen et al. (2020), section 2.1.
    """

    def __init__(
        self,
        encoder: nn.Module,
        projection_dim: int = 128,
        hidden_dim: int | None = None,
        temperature: float = 0.5,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        feature_dim = getattr(encoder, "embed_dim", None)
        if not hasattr(feature_dim, "__index__"):  # any integer type
            raise ValueError(
                "the encoder must say how wide its features are: set encoder.embed_dim, for a "
                "ResNet-50 without its classifier to 2048"
            )
        hidden_dim = feature_dim if hidden_dim is None else hidden_dim
        if projection_dim < 1 or hidden_dim < 1:
            raise ValueError(
                f"projection_dim and hidden_dim must be at least 1: {projection_dim}, {hidden_dim}"
            )
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature:g}")
        self.encoder = encoder
        self.head = nn.Sequential(
            nn.Linear(feature_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, projection_dim)
        )
        he_initialize(self.head, generator)
        self.temperature = temperature

    def represent(self, images: Tensor) -> Tensor:
        """The features to keep, from before the head: (B, C, H, W) → (B, D)."""
        return self.encoder(images)

    def project(self, images: Tensor) -> Tensor:
        """What the loss compares: (B, C, H, W) → (B, projection_dim)."""
        return self.head(self.encoder(images))

    def forward(self, view1: Tensor, view2: Tensor) -> Tensor:
        if view1.shape != view2.shape:
            raise ValueError(
                "the views must be of one shape, image i in row i of both: got "
                f"{tuple(view1.shape)} and {tuple(view2.shape)}"
            )
        # One pass for both views: BatchNorm's statistics then do not tell the one from the other.
        z1, z2 = self.project(torch.cat([view1, view2])).chunk(2)  # each (B, projection_dim)
        z1, z2 = gather_across_processes(z1), gather_across_processes(z2)
        return nt_xent(z1, z2, self.temperature)
