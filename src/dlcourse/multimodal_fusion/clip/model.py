"""CLIP: two towers, two projections into one space, and a temperature that is learned.

Chapter: ``121_multimodal_fusion/2a_clip``.

Paper: Radford et al. (2021), *Learning Transferable Visual Models From Natural Language
Supervision*.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CLIP", "CLIPFeatures"]


class CLIPFeatures(NamedTuple):
    """What a loss needs. ``clip_loss(*features)`` and ``siglip_loss(*features, bias)`` take it."""

    image_features: Tensor  # (B, embed_dim), rows of length 1
    text_features: Tensor  # (B, embed_dim), rows of length 1
    logit_scale: Tensor  # (), 1/τ


def _width(model: nn.Module, which: str) -> int:
    for name in ("embed_dim", "hidden_size"):
        width = getattr(model, name, None)
        if hasattr(width, "__index__"):
            return int(width)
    raise ValueError(
        f"{which} must say how wide its features are: set {which}.embed_dim to the width of what "
        "it returns, one vector an input"
    )


class CLIP(nn.Module):
    """Two towers, and a linear projection without bias from each into one space.

    ``forward(images, texts)`` returns ``CLIPFeatures``; ``encode_image`` and ``encode_text`` each
    give one side, normalised. A tower takes one tensor and returns one vector an input, (B, width).
    To lock a tower, freeze its parameters and call its ``eval()``; for features computed
    beforehand pass ``nn.Identity()`` with the attribute ``embed_dim`` set.

    Args:
        vision_model, text_model: towers that have the attribute ``embed_dim`` (or
            ``hidden_size``).
        embed_dim: width of the shared space.
        temperature: τ at the start; ``logit_scale`` is ln(1/τ), a parameter.
        max_scale: most that 1/τ may become: before each training step's forward pass the
            parameter is set back to its logarithm.
        logit_bias: None, or the start of a learned bias for ``siglip_loss``.

    Raises:
        ValueError: a tower that does not say its width, sizes or temperatures out of range; when
            called: batches of different sizes, or a tower that gives another shape.

    Source: Radford et al. (2021), figure 3, sections 2.3 to 2.5.
    """

    def __init__(
        self,
        vision_model: nn.Module,
        text_model: nn.Module,
        embed_dim: int = 512,
        *,
        temperature: float = 0.07,
        max_scale: float = 100.0,
        logit_bias: float | None = None,
    ) -> None:
        super().__init__()
        if embed_dim < 1:
            raise ValueError(f"embed_dim must be at least 1, got {embed_dim}")
        if not 0 < 1 / max_scale <= temperature:
            raise ValueError(
                f"need 1 / max_scale <= temperature, got {temperature} with max_scale {max_scale}"
            )
        widths = _width(vision_model, "vision_model"), _width(text_model, "text_model")
        self.vision_model, self.text_model = vision_model, text_model
        self.image_projection = nn.Linear(widths[0], embed_dim, bias=False)
        self.text_projection = nn.Linear(widths[1], embed_dim, bias=False)
        for layer, width in zip((self.image_projection, self.text_projection), widths):
            nn.init.normal_(layer.weight, std=width**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / temperature)))
        self.max_logit_scale = math.log(max_scale)
        self.logit_bias = None if logit_bias is None else nn.Parameter(torch.tensor(logit_bias))

    def encode_image(self, images: Tensor) -> Tensor:
        """(B, …) → (B, embed_dim), rows of length 1."""
        return self._project(self.vision_model(images), self.image_projection, "vision_model")

    def encode_text(self, texts: Tensor) -> Tensor:
        """(B, …) → (B, embed_dim), rows of length 1."""
        return self._project(self.text_model(texts), self.text_projection, "text_model")

    def scale(self) -> Tensor:
        """1/τ = exp(logit_scale), at most ``max_scale``.

        In training the parameter itself is set back. Cutting only the value off would leave it
        without a gradient, above the limit for ever.
        """
        if self.training:
            with torch.no_grad():
                self.logit_scale.clamp_(max=self.max_logit_scale)
        return self.logit_scale.exp()

    def forward(self, images: Tensor, texts: Tensor) -> CLIPFeatures:
        if len(images) != len(texts):
            raise ValueError(
                f"row i of both must be pair i, got {len(images)} images and {len(texts)} texts"
            )
        return CLIPFeatures(self.encode_image(images), self.encode_text(texts), self.scale())

    @staticmethod
    def _project(features: Tensor, projection: nn.Linear, which: str) -> Tensor:
        if not isinstance(features, Tensor) or features.dim() != 2:
            got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ValueError(
                f"{which} must return one vector an input, (B, {projection.in_features}), got "
                f"{got}: take the class token, the end token, or a mean"
            )
        return F.normalize(projection(features), dim=1)
