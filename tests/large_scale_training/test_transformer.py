"""The transformer whose training is measured (119.1a), and the text that it reads."""

import math

import pytest
import torch

from dlcourse.large_scale_training.source_text import source_code_batch
from dlcourse.large_scale_training.transformer import Transformer, language_loss

SHAPE = dict(vocabulary=64, sequence=16, width=32, layers=2, heads=4)


def make(**changes):
    torch.manual_seed(0)
    return Transformer(**{**SHAPE, **changes})


def test_a_token_sees_only_the_past():
    model, tokens = make(), torch.randint(64, (2, 16))
    changed = tokens.clone()
    changed[:, 10] = (changed[:, 10] + 1) % 64
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :10], after[:, :10])
    assert (before[:, 10:] != after[:, 10:]).any(-1).all()


def test_the_loss_starts_at_the_logarithm_of_the_vocabulary():
    tokens = torch.randint(64, (8, 17), generator=torch.Generator().manual_seed(0))
    loss = language_loss(make()(tokens[:, :-1]), tokens[:, 1:])
    assert loss.item() == pytest.approx(math.log(64), abs=0.05)


def test_source_code_is_text_shifted_by_one_and_the_same_for_the_same_step():
    inputs, targets = source_code_batch(3, 4, 50)
    assert inputs.shape == targets.shape == (4, 50)
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert torch.equal(source_code_batch(3, 4, 50)[0], inputs)
    assert not torch.equal(source_code_batch(4, 4, 50)[0], inputs)
    assert ((inputs == 10) | ((inputs >= 32) & (inputs < 127))).float().mean() > 0.9


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="not a multiple of 5 heads"):
        make(heads=5)
    with pytest.raises(ValueError, match="17 tokens, but positions for 16"):
        make()(torch.zeros(1, 17, dtype=torch.long))
