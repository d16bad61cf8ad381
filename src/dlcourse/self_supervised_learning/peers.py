"""Adapters to other libraries' models, for the cells that compare ours with them.

Chapter: ``120_self_supervised_learning`` (recorded cells of ``1b_dino`` and
``2_masked_autoencoders``). Needs transformers.
"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["TransformersEncoder", "transformers_autoencoder"]


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


def transformers_autoencoder(
    image_size: int,
    patch_size: int,
    *,
    embed_dim: int,
    depth: int,
    num_heads: int,
    decoder_dim: int,
    decoder_depth: int,
    decoder_heads: int,
    mask_ratio: float,
) -> nn.Module:
    """transformers' ViTMAE of our sizes, with normalised targets and fused attention."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    config = ViTMAEConfig(
        image_size=image_size,
        patch_size=patch_size,
        hidden_size=embed_dim,
        num_hidden_layers=depth,
        num_attention_heads=num_heads,
        intermediate_size=4 * embed_dim,
        decoder_hidden_size=decoder_dim,
        decoder_num_hidden_layers=decoder_depth,
        decoder_num_attention_heads=decoder_heads,
        decoder_intermediate_size=4 * decoder_dim,
        mask_ratio=mask_ratio,
        norm_pix_loss=True,
        layer_norm_eps=1e-6,
        attn_implementation="sdpa",
    )
    return ViTMAEForPreTraining(config)
