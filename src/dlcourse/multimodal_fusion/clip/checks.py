"""What CLIP's losses, towers and metrics demand of their inputs.

Chapter: ``121_multimodal_fusion/2a_clip``.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["check_features", "check_finite", "check_images", "check_tokens", "widened"]


def widened(x: Tensor) -> Tensor:
    """float32, or what is wider: losses are summed in no less."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def check_features(image_features: Tensor, text_features: Tensor) -> None:
    """Raise TypeError or ValueError unless both are floating point and (B, D), row i of one scene;
    on a CPU also where they are not finite. A GPU would have to wait for that: see
    ``check_finite``.
    """
    for name, x in (("image_features", image_features), ("text_features", text_features)):
        if not x.is_floating_point():
            raise TypeError(f"{name} must be floating point, got {x.dtype}: pass what a tower gave")
        if x.dim() != 2:
            raise ValueError(f"{name} must be (B, D), one row a pair, got {tuple(x.shape)}")
    if len(image_features) != len(text_features):
        raise ValueError(
            f"row i of both must come from pair i, but there are {len(image_features)} images and "
            f"{len(text_features)} texts: several captions a picture are several pairs"
        )
    if image_features.shape[1] != text_features.shape[1]:
        raise ValueError(
            f"features must have one width, got {image_features.shape[1]} for images and "
            f"{text_features.shape[1]} for texts: project both into one space"
        )
    if not len(image_features):
        raise ValueError("the batch is empty: there is nothing to compare")
    for name, x in (("image_features", image_features), ("text_features", text_features)):
        if x.device.type == "cpu":
            check_finite(name, x)


def check_finite(name: str, x: Tensor) -> None:
    """Raise ValueError where a row holds NaN or an infinity; the message says which row."""
    bad = ~torch.isfinite(x).flatten(1).all(1)
    if bad.any():
        raise ValueError(
            f"{name} are not finite in {int(bad.sum())} of {len(x)} rows, the first is row "
            f"{int(bad.nonzero()[0])}: look for a rate that is too high, or for a division by 0"
        )


def check_images(images: Tensor, channels: int, size: int) -> None:
    """Raise unless images are floating point and (B, channels, size, size); on a CPU also where
    values are not finite, or so large that they must be bytes."""
    if not images.is_floating_point():
        raise TypeError(
            f"images must be floating point, got {images.dtype}: bytes 0 … 255 become floats with "
            "images.float() / 255, and then are normalised as in training"
        )
    if images.dim() != 4 or images.shape[1:] != (channels, size, size):
        raise ValueError(
            f"images must be (B, {channels}, {size}, {size}), got {tuple(images.shape)}: resize "
            "them, and add the missing dimension to a single one with images[None]"
        )
    if images.device.type == "cpu" and images.numel():
        check_finite("images", images)
        if images.abs().max() > 10:
            raise ValueError(
                f"images reach {float(images.abs().max()):g}: pictures in 0 … 1, or normalised to "
                "about -2 … 2, are wanted. Divide bytes by 255"
            )


def check_tokens(tokens: Tensor, context: int, vocabulary: int | None = None) -> None:
    """Raise unless tokens are whole numbers, (B, L) with 1 <= L <= context."""
    if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        raise TypeError(f"tokens must be whole numbers, got {tokens.dtype}: call a tokenizer first")
    if tokens.dim() != 2 or not tokens.shape[1]:
        raise ValueError(f"tokens must be (B, L) with L >= 1, got {tuple(tokens.shape)}")
    if tokens.shape[1] > context:
        raise ValueError(
            f"a text of {tokens.shape[1]} tokens does not fit the context of {context}: cut it, "
            "or build the text tower with a larger context"
        )
    # On a GPU the lookup itself checks; here the message can say more.
    if vocabulary is not None and tokens.device.type == "cpu" and tokens.numel():
        least, most = tokens.aminmax()
        if least < 0 or most >= vocabulary:
            raise ValueError(
                f"tokens must lie in 0 … {vocabulary - 1}, got {int(least)} … {int(most)}: "
                "they come from another tokenizer"
            )
