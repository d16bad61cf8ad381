"""Chapter 120: self-supervised learning."""

CHAPTER = 120

from dlcourse.self_supervised_learning.augmentations import (
    BatchViews,
    MultiCrop,
    TwoViews,
    ViewParameters,
)
from dlcourse.self_supervised_learning.contrastive import (
    ConvNet,
    SimCLR,
    alignment,
    gather_across_processes,
    nt_xent,
    nt_xent_reference,
    uniformity,
)
from dlcourse.self_supervised_learning.dino import (
    DINO,
    DINOHead,
    DINOLoss,
    DINOTerms,
    blob_masks,
    iBOTLoss,
    koleo_loss,
    momentum_schedule,
    sinkhorn_knopp,
    update_teacher,
)
from dlcourse.self_supervised_learning.evaluation import (
    Probe,
    features,
    knn_accuracy,
    label_subset,
    linear_probe,
    pca_rgb,
)
from dlcourse.self_supervised_learning.masked_autoencoders import (
    MaskedAutoencoder,
    masked_autoencoder_loss_reference,
    random_masking,
)
from dlcourse.self_supervised_learning.pretraining import pretrain
from dlcourse.self_supervised_learning.simmim import SimMIM, block_mask, masked_l1, pixel_mask
from dlcourse.self_supervised_learning.vision_transformer import (
    VisionTransformer,
    patchify,
    sincos_positions,
    unpatchify,
)

__all__ = [
    "DINO",
    "BatchViews",
    "ConvNet",
    "DINOHead",
    "DINOLoss",
    "DINOTerms",
    "MaskedAutoencoder",
    "MultiCrop",
    "Probe",
    "SimCLR",
    "SimMIM",
    "TwoViews",
    "ViewParameters",
    "VisionTransformer",
    "alignment",
    "blob_masks",
    "block_mask",
    "features",
    "gather_across_processes",
    "iBOTLoss",
    "knn_accuracy",
    "koleo_loss",
    "label_subset",
    "linear_probe",
    "masked_autoencoder_loss_reference",
    "masked_l1",
    "momentum_schedule",
    "nt_xent",
    "nt_xent_reference",
    "patchify",
    "pca_rgb",
    "pixel_mask",
    "pretrain",
    "random_masking",
    "sincos_positions",
    "sinkhorn_knopp",
    "uniformity",
    "unpatchify",
    "update_teacher",
]
