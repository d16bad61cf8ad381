"""The overview's comparison, at a size that a CPU can do."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from dlcourse.datasets import Split, Splits, shapes
from dlcourse.self_supervised_learning import _comparison
from dlcourse.self_supervised_learning._comparison import METHODS, Setting

TINY = Setting(16, 4, embed_dim=16, depth=1, num_heads=2, steps=3, batch_size=8, device="cpu")


@pytest.fixture(scope="module")
def data():
    return shapes(0, n_train=64, n_validation=32, n_test=32, size=16)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("method", METHODS[1:])
def test_every_method_starts_from_the_same_encoder_and_trains_it(method, data):
    start = weights(_comparison.pretrained("random", data.train.x, TINY, seed=1))
    assert torch.equal(start, weights(TINY.encoder(seed=1)))
    trained = weights(_comparison.pretrained(method, data.train.x, TINY, seed=1))
    assert trained.shape == start.shape and not torch.equal(trained, start)
    again = weights(_comparison.pretrained(method, data.train.x, TINY, seed=1))
    assert torch.equal(trained, again)


def test_pretraining_never_sees_a_label(data):
    import inspect

    assert list(inspect.signature(_comparison.pretrained).parameters)[:2] == ["method", "images"]
    with pytest.raises(ValueError, match="method must be one of"):
        _comparison.pretrained("MoCo", data.train.x, TINY, seed=0)


def test_a_classifier_from_scratch_learns_what_it_is_shown():
    g = torch.Generator().manual_seed(0)
    dark, bright = torch.rand(2, 16, 3, 16, 16, generator=g) * 0.2
    split = Split(torch.cat([dark, bright + 0.8]), torch.arange(32) // 16)
    setting = replace(TINY, patch_size=8, steps=80, batch_size=16)
    model = _comparison.supervised(split, setting, seed=0)
    assert _comparison.accuracy(model, split) == 1.0
    again = _comparison.supervised(split, setting, seed=0)
    assert torch.equal(weights(model), weights(again))


def test_the_reading_is_chosen_on_validation_and_reported_on_test(data):
    cheat = {"x": lambda x: F.one_hot(x[:, 0, 0, 0].long(), 8).float()}
    blind = {"blind": lambda x: x.flatten(1)[:, 1:2]}
    marked = Splits(*(Split(part.x.clone(), part.y) for part in data))
    for part in marked:
        part.x[:, 0, 0, 0] = part.y.float()  # a pixel that tells the class
    found = _comparison.probed({**blind, **cheat}, {"shape": marked}, seed=0)
    assert found["shape", 1.0] == 1.0
    for part in marked[1:2]:  # on validation, and there alone, the pixel lies
        part.x[:, 0, 0, 0] = (part.y.float() + 1) % 8
    found = _comparison.probed({**blind, **cheat}, {"shape": marked}, seed=0)
    assert found["shape", 1.0] < 0.5


def test_readings_of_an_encoder_have_the_shapes_of_their_names(data):
    encoder = TINY.encoder(seed=0)
    shape = {k: tuple(f(data.test.x[:2]).shape) for k, f in _comparison.readings(encoder).items()}
    assert shape == {"class token": (2, 16), "mean of patches": (2, 16), "all patches": (2, 256)}


def test_all_rows_are_compared_for_every_seed_factor_and_share_of_labels():
    rows = ("pixels", "random", "from scratch", "MAE")
    table = _comparison.compare(
        TINY, seeds=(0, 1), rows=rows, unlabelled=32, n=(200, 40, 40), workers=1
    )
    keys = {(factor, f) for factor in _comparison.FACTORS for f in _comparison.FRACTIONS}
    assert set(table) == set(rows)
    for row in rows:
        assert set(table[row]) == keys
        assert all(len(v) == 2 and all(0 <= a <= 1 for a in v) for v in table[row].values())
