"""open_clip's CLIP and losses, which recorded cells and tests compare ours with.

Chapter: ``121_multimodal_fusion/2a_clip``. It needs ``open_clip_torch``, which the course does not
install for learners.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dlcourse.multimodal_fusion.clip.model import CLIP

__all__ = ["copy_weights", "open_clip_loss", "open_clip_model"]


def open_clip_loss(**options: Any) -> nn.Module:
    """open_clip's ``ClipLoss``."""
    from open_clip.loss import ClipLoss

    return ClipLoss(**options)


def open_clip_model(
    embed: int, vision: dict[str, Any], text: dict[str, Any]
) -> nn.Module:
    """open_clip's ``CLIP`` from the fields of its two configurations."""
    from open_clip.model import CLIP as OpenCLIP
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    return OpenCLIP(embed, CLIPVisionCfg(**vision), CLIPTextCfg(**text))


@torch.no_grad()
def copy_weights(theirs: nn.Module, ours: CLIP) -> CLIP:
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
