"""Adapters to other libraries' models, for the cells that compare ours with them.

Chapter: ``120_self_supervised_learning/1b_dino`` (a recorded cell). Needs transformers.
"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["TransformersEncoder"]


class TransformersEncoder(nn.Module):
    """transformers' DINOv2 backbone behind the method that ``DINO`` calls."""

    def __init__(
        self, image_size: int, patch_size: int, *, embed_dim: int, depth: int, num_heads: int
    ) -> None:
        super().__init__()
        from transformers import Dinov2Config, Dinov2Model

        config = Dinov2Config(
            hidden_size=embed_dim,
            num_hidden_layers=depth,
            num_attention_heads=num_heads,
            image_size=image_size,
            patch_size=patch_size,
            attn_implementation="sdpa",
        )
        self.model = Dinov2Model(config)

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer's blocks, wherever this version of the library keeps them."""
        depth = self.model.config.num_hidden_layers
        return next(
            m for m in self.model.modules() if isinstance(m, nn.ModuleList) and len(m) == depth
        )

    def forward_features(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.model(images, bool_masked_pos=mask).last_hidden_state
