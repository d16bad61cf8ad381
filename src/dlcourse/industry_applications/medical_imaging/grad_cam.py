"""Grad-CAM: which places of a layer raised the score.

Papers:
    Selvaraju et al. (2017), *Grad-CAM: visual explanations from deep networks via gradient-based
    localization*, equations 1 and 2.
    Zhang et al. (2018), *Top-down neural attention by excitation backprop*: the pointing game.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GradCAM:
    """Heat maps of one layer of a network.

    With the layer's activations Aₖ (K maps) and the score y,

        αₖ = mean over places of ∂y/∂Aₖ        (equation 1)
        L  = ReLU(Σₖ αₖ Aₖ)                    (equation 2)

    The network's weights, their ``grad`` and its mode are left as they are. It works inside of
    ``torch.no_grad()`` too, and where the weights are frozen.

    Args:
        model: gives one logit a picture, ``(N,)`` or ``(N, classes)``.
        layer: a module of the model whose output is ``(N, K, h, w)`` or ``(N, K, d, h, w)``.

    Raises:
        ValueError: the layer is no part of the model.
    """

    def __init__(self, model: nn.Module, layer: nn.Module) -> None:
        if not any(module is layer for module in model.modules()):
            raise ValueError("layer must be a module of the model, such as model.features[-1]")
        self.model, self.layer = model, layer

    def attribute(self, images: Tensor, target: int | None = None) -> Tensor:
        """The map L at the layer's own resolution: ``(N, …) -> (N, h, w)``, at least 0.

        Args:
            images: a batch, as the model takes it.
            target: which class's logit; needed where the model gives several, else None.

        Raises:
            ValueError: no or a wrong target, or a layer without maps.
            RuntimeError: inside of ``torch.inference_mode()``, where there are no gradients; or the
                layer has no part in the score.
        """
        if torch.is_inference_mode_enabled():
            raise RuntimeError("inference_mode has no gradients: use torch.no_grad() instead")
        kept: list[Tensor] = []

        def keep(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
            if not isinstance(output, Tensor) or output.ndim not in (4, 5):
                raise ValueError("the layer's output must be maps (N, K, h, w) or (N, K, d, h, w)")
            kept.append(output.detach().requires_grad_())
            return kept[-1].clone()  # what follows may change it in place

        handle = self.layer.register_forward_hook(keep)
        try:
            with torch.enable_grad():
                score = self._score(self.model(images), target)
                if len(kept) != 1:
                    raise RuntimeError(f"the layer ran {len(kept)} times in one pass, not once")
                gradient = torch.autograd.grad(score.sum(), kept[0], allow_unused=True)[0]
        finally:
            handle.remove()
        if gradient is None:
            raise RuntimeError("the score does not depend on this layer")
        places = tuple(range(2, gradient.ndim))
        alpha = gradient.mean(places, keepdim=True)  # (N, K, 1, 1), equation 1
        return F.relu((alpha * kept[0]).sum(1)).detach()  # (N, h, w), equation 2

    def __call__(self, images: Tensor, target: int | None = None) -> Tensor:
        """The map, interpolated to the picture: ``(N, C, H, W) -> (N, H, W)``, at least 0.

        Raises as ``attribute`` does.
        """
        coarse = self.attribute(images, target).unsqueeze(1)
        mode = "bilinear" if coarse.ndim == 4 else "trilinear"
        return F.interpolate(coarse, images.shape[2:], mode=mode, align_corners=False).squeeze(1)

    @staticmethod
    def _score(logits: Tensor, target: int | None) -> Tensor:
        if logits.ndim == 1:
            if target is not None:
                raise ValueError("the model gives one logit a picture: leave target out")
            return logits
        if logits.ndim != 2:
            raise ValueError(f"the model must give (N,) or (N, classes): got {tuple(logits.shape)}")
        if target is None or not 0 <= target < logits.shape[1]:
            raise ValueError(f"target must be a class, 0 to {logits.shape[1] - 1}: got {target}")
        return logits[:, target]


def peaks(heatmaps: Tensor) -> Tensor:
    """Where each map is largest, in pixels: ``(N, H, W) -> (N, 2)``, volumes ``-> (N, 3)``."""
    flat = heatmaps.flatten(1)
    return torch.stack(torch.unravel_index(flat.argmax(1), heatmaps.shape[1:]), 1)


def pointing_hits(heatmaps: Tensor, positions: Tensor, radius: float = 3.0) -> Tensor:
    """The pointing game: is a map's largest value within ``radius`` of the lesion's centre?

    A map that is the same everywhere points nowhere, and is a miss.

    Args:
        heatmaps: ``(N, H, W)`` or ``(N, D, H, W)``.
        positions: ``(N, 2)`` or ``(N, 3)``, pixels.
        radius: in pixels.

    Returns:
        bool ``(N,)``.

    Raises:
        ValueError: shapes that do not belong together, or a NaN position (a healthy picture).
    """
    if heatmaps.ndim != positions.shape[-1] + 1 or len(heatmaps) != len(positions):
        raise ValueError(
            f"heatmaps {tuple(heatmaps.shape)} and positions {tuple(positions.shape)} do not fit"
        )
    if positions.isnan().any():
        raise ValueError("a position is NaN: leave pictures without a lesion out")
    near = (peaks(heatmaps) - positions).norm(dim=1) <= radius
    flat = heatmaps.flatten(1)
    return near & (flat.amax(1) > flat.amin(1))
