"""The transformer whose training is measured (119.1a)."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dlcourse.large_scale_training.transformer import (
    Transformer,
    checkpoint_blocks,
    flops_per_token,
    language_loss,
    losses_in,
    matmul_peak,
    measure_training,
    source_code_batch,
)

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


def test_flops_of_weights_are_those_that_torch_counts():
    model, tokens = make(), torch.randint(64, (2, 16))
    with FlopCounterMode(display=False) as counter:
        language_loss(model(tokens), tokens).backward()
    counted = counter.get_flop_counts()["Global"]
    products = sum(n for op, n in counted.items() if str(op) in ("aten.mm", "aten.addmm"))
    attention = 6 * 2 * 32 * 16  # 6 · layers · width · tokens
    assert flops_per_token(model, 16) == products / tokens.numel() + attention


def test_checkpointing_changes_no_gradient():
    plain, checkpointed = make(), make()
    checkpoint_blocks(checkpointed)
    tokens = torch.randint(64, (2, 16))
    for model in (plain, checkpointed):
        language_loss(model(tokens), tokens).backward()
    pairs = zip(plain.parameters(), checkpointed.parameters(), strict=True)
    assert all(torch.equal(a.grad, b.grad) for a, b in pairs)


def test_source_code_is_text_shifted_by_one_and_the_same_for_the_same_step():
    inputs, targets = source_code_batch(3, 4, 50)
    assert inputs.shape == targets.shape == (4, 50)
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert torch.equal(source_code_batch(3, 4, 50)[0], inputs)
    assert not torch.equal(source_code_batch(4, 4, 50)[0], inputs)
    assert ((inputs == 10) | ((inputs >= 32) & (inputs < 127))).float().mean() > 0.9


def test_training_on_it_learns():
    losses = losses_in(torch.float32, {**SHAPE, "vocabulary": 256}, 8, 30, device="cpu")
    assert losses[0] == pytest.approx(math.log(256), abs=0.1)
    assert losses[-1] < losses[0] - 0.3


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="not a multiple of 5 heads"):
        make(heads=5)
    with pytest.raises(ValueError, match="17 tokens, but positions for 16"):
        make()(torch.zeros(1, 17, dtype=torch.long))
    with pytest.raises(ValueError, match="unknown techniques"):
        measure_training(SHAPE, 1, ("fp8",))


def test_the_peak_is_a_speed_that_one_product_reaches():
    assert 1e8 < matmul_peak(torch.float32, size=128, device="cpu") < 1e14
