"""Frozen models that ship inside wheels, and the features that they give for the emoji.

Large libraries (timm, transformers, gguf) are imported when a model is first made.
"""

from dlcourse.multimodal_fusion.frozen_models.lite0 import (
    efficientnet_lite0,
    image_features,
    image_maps,
    lite0_input,
    lite0_maps,
    lite0_pool,
)
from dlcourse.multimodal_fusion.frozen_models.minilm import MiniLM, name_features
from dlcourse.multimodal_fusion.frozen_models.smollm2_gguf import smollm2

__all__ = [
    "MiniLM",
    "efficientnet_lite0",
    "image_features",
    "image_maps",
    "lite0_input",
    "lite0_maps",
    "lite0_pool",
    "name_features",
    "smollm2",
]
