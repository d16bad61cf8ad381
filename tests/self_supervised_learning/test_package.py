"""What the chapter's package offers: the public names, wherever their modules lie."""

import importlib
import inspect

import pytest

import dlcourse.self_supervised_learning as package

NAMES = [
    "BatchViews",
    "ConvNet",
    "DINO",
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


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_importable_from_the_package(name):
    value = getattr(importlib.import_module(package.__name__), name)
    assert callable(value) and value.__name__ == name


def test_these_are_all_public_names():
    assert sorted(package.__all__) == sorted(NAMES) == sorted(dir(package))


def test_every_public_name_says_what_it_is():
    undocumented = [name for name in NAMES if not inspect.getdoc(getattr(package, name))]
    assert not undocumented
