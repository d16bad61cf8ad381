"""Adapters to open_clip, for the cells that compare ours with it.

Chapter: ``121_multimodal_fusion`` (recorded cells of ``2a_clip``). Needs open_clip_torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from dlcourse.multimodal_fusion.clip.model import CLIP
    from dlcourse.multimodal_fusion.experiments.clip_speed import Shape

__all__ = ["copy_open_clip", "open_clip_loss", "open_clip_model"]


def open_clip_model(shape: Shape) -> nn.Module:
    """open_clip's CLIP of a shape, with random weights."""
    from open_clip.model import CLIP as Theirs
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    vision = CLIPVisionCfg(
        layers=shape.depth, width=shape.width, head_width=shape.width // shape.heads,
        patch_size=shape.patch, image_size=shape.image,
    )  # fmt: skip
    text = CLIPTextCfg(
        context_length=shape.context, vocab_size=shape.vocabulary, width=shape.text_width,
        heads=shape.text_heads, layers=shape.text_depth,
    )  # fmt: skip
    return Theirs(shape.embed, vision, text)


def open_clip_loss() -> nn.Module:
    """open_clip's loss for one process."""
    from open_clip.loss import ClipLoss

    return ClipLoss()


@torch.no_grad()
def copy_open_clip(theirs: nn.Module, ours: CLIP) -> CLIP:
    """open_clip's weights into our CLIP of the same shape; returns ours."""
    vision, text = ours.vision_model, ours.text_model
    v = theirs.visual
    pairs = [
        (vision.class_token, v.class_embedding),
        (vision.positions, v.positional_embedding),
        (vision.patch.weight, v.conv1.weight),
        (text.embedding.weight, theirs.token_embedding.weight),
        (text.positions, theirs.positional_embedding),
        (ours.image_projection.weight, v.proj.T),
        (ours.text_projection.weight, theirs.text_projection.T),
        (ours.logit_scale, theirs.logit_scale),
    ]
    modules = [
        (vision.norm_before, v.ln_pre),
        (vision.norm_after, v.ln_post),
        (text.norm_after, theirs.ln_final),
    ]
    for tower, transformer in ((vision, v.transformer), (text, theirs.transformer)):
        for block, other in zip(tower.blocks, transformer.resblocks, strict=True):
            pairs += [
                (block.qkv.weight, other.attn.in_proj_weight),
                (block.qkv.bias, other.attn.in_proj_bias),
            ]
            modules += [
                (block.out, other.attn.out_proj),
                (block.norm1, other.ln_1),
                (block.norm2, other.ln_2),
                (block.wide, other.mlp.c_fc),
                (block.narrow, other.mlp.c_proj),
            ]
    for a, b in pairs:
        a.copy_(b)
    for a, b in modules:
        a.load_state_dict(b.state_dict())
    return ours
