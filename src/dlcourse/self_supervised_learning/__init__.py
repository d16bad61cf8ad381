"""Chapter 120: self-supervised learning."""

import importlib

# Name -> module; loaded on first use.
_NAMES = {
    "vision_transformer": ("VisionTransformer", "patchify", "unpatchify", "sincos_positions"),
    "pretraining": ("pretrain",),
    "evaluation": ("Probe", "features", "knn_accuracy", "label_subset", "linear_probe", "pca_rgb"),
    "augmentations": ("BatchViews", "MultiCrop"),
    "contrastive": ("SimCLR", "nt_xent", "nt_xent_reference"),
    "dino": (
        "DINO",
        "DINOHead",
        "DINOLoss",
        "iBOTLoss",
        "koleo_loss",
        "momentum_schedule",
        "sinkhorn_knopp",
        "update_teacher",
    ),
    "simmim": ("SimMIM", "block_mask"),
    "masked_autoencoders": ("MaskedAutoencoder", "random_masking"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
