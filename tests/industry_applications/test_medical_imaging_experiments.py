"""Facts about the experiments of page 124.1a, at a size of seconds."""

import numpy as np
import pytest
import torch

from dlcourse.industry_applications import LesionNet
from dlcourse.industry_applications.experiments import medical_imaging as study


@pytest.fixture(scope="module")
def small():
    return study.hospital(0, (500, 400, 400), 32)


def test_parts_are_of_different_pictures_and_seeds(small):
    first, second, third = (part.images for part in small[:3])
    assert not torch.equal(first[:400], second) and not torch.equal(second, third)


def test_judging_counts_the_wrong_ones_that_were_kept(small):
    found, row = small.model.screen(small.test.images), study.judge(small)
    wrong = found.label != small.test.labels.numpy()
    assert row["wrong"] == wrong.mean()
    assert row["wrong_kept"] == wrong[~found.refer].mean()
    assert 0 < row["referred"] < 0.5 and row["sensitivity_low"] < row["sensitivity_high"]


def test_offset_is_how_far_the_maps_lie_beside_the_lesions(small):
    sick = small.validation.labels == 1
    places = small.validation.positions[sick].round().long() + torch.tensor([2, -1])
    heat = torch.zeros(len(places), 32, 32)
    heat[torch.arange(len(places)), places[:, 0], places[:, 1]] = 1.0

    class Beside:
        def grad_cam(self, images):
            assert torch.equal(images, small.validation.images[sick])
            return heat

    found = study.offset(small._replace(model=Beside()))
    torch.testing.assert_close(found, torch.tensor([2.0, -1.0]), atol=0.2, rtol=0)


def test_nothing_drawn_anew_is_the_same_network_and_all_is_another(small):
    network = small.model.network
    x = small.test.images[:20]
    assert torch.equal(study.randomised(network, 0, 0)(x), network(x))
    layers = sum(hasattr(m, "reset_parameters") for m in network.modules())
    anew = study.randomised(network, 0, layers)
    for old, new in zip(network.features[1:2], anew.features[1:2], strict=True):
        assert not torch.equal(old.weight, new.weight)
    only_head = study.randomised(network, 0, 1)
    assert torch.equal(only_head.features[1].weight, network.features[1].weight)
    assert not torch.equal(only_head.head.weight, network.head.weight)


def test_another_hospital_keeps_the_model_and_changes_the_pictures(small):
    quiet = study.moved(small, 0, noise=0.05, prevalence=0.2, n=400)
    loud = study.moved(small, 0, noise=0.1, prevalence=0.2, n=400)
    assert loud["unlike"] > 0.5 > quiet["unlike"]
    assert np.mean(quiet["labels"]) == pytest.approx(0.2, abs=0.06)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_throughput_has_each_type_and_repeat(dimensions):
    rates = study.throughput("cpu", {dimensions: 16}, batch=4, repeats=2)
    assert list(rates) == [f"{dimensions}-D float32", f"{dimensions}-D bfloat16"]
    assert all(len(r) == 2 and min(r) > 0 for r in rates.values())


def test_volumes_are_trained_in_both_types():
    found = study.volumes(0, "cpu", n=64, size=16, epochs=1)
    assert set(found) == {"float32", "bfloat16"}
    assert all(0 <= row["auc"] <= 1 and 0 <= row["hits"] <= 1 for row in found.values())


def test_a_network_of_volumes_gives_one_logit_each():
    assert LesionNet(2, 3)(torch.rand(3, 1, 16, 16, 16)).shape == (3,)
