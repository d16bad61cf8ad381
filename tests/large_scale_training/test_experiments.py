"""What the recorded cells of chapter 119 measure: the counts, and the trainings at a tiny size."""

import math
import socket
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dlcourse.large_scale_training.experiments.dtypes import (
    gradients_lost,
    losses_in,
    step_times,
)
from dlcourse.large_scale_training.experiments.techniques import (
    checkpoint_blocks,
    flops_per_token,
    measure_training,
)
from dlcourse.large_scale_training.transformer import Transformer, language_loss

SHAPE = dict(vocabulary=64, sequence=16, width=32, layers=2, heads=4)


def make(**changes):
    torch.manual_seed(0)
    return Transformer(**{**SHAPE, **changes})


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


def test_training_on_source_code_learns():
    losses = losses_in(torch.float32, {**SHAPE, "vocabulary": 256}, 8, 30, device="cpu")
    assert losses[0] == pytest.approx(math.log(256), abs=0.1)
    assert losses[-1] < losses[0] - 0.3


def test_what_16_bits_lose_grows_with_a_smaller_scale_and_is_less_of_the_norm():
    found = gradients_lost({**SHAPE, "vocabulary": 256}, 2, 2, device="cpu")
    entries, norm = found["entries"], found["norm"]
    assert found["count"] > 1000
    assert entries["fp16 -8"] > entries["fp16 0"] >= entries["fp16 16"] >= entries["bf16 0"] == 0
    assert all(0 <= norm[key] <= entries[key] for key in entries)


def test_step_times_has_each_round_of_each_way_and_leaves_the_precision_as_it_was():
    before = torch.get_float32_matmul_precision()
    found = step_times({**SHAPE, "vocabulary": 256}, 2, repeats=2, device="cpu")
    assert list(found) == ["fp32", "tf32", "bf16", "fp16"]
    assert all(len(way["seconds"]) == 2 and way["peak"] is None for way in found.values())
    assert torch.get_float32_matmul_precision() == before


def test_an_unknown_technique_is_refused():
    with pytest.raises(ValueError, match="unknown techniques"):
        measure_training(SHAPE, 1, ("fp8",))


def test_the_measured_training_reports_each_step_and_its_rate(monkeypatch):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    place = dict(RANK=0, LOCAL_RANK=0, WORLD_SIZE=1, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    for name, value in place.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    found = measure_training(SHAPE, 2, ("checkpointing",), steps=3)
    assert found.parameters == sum(p.numel() for p in make().parameters())
    assert len(found.losses) == 3 + 3 and found.losses[0] == pytest.approx(math.log(64), abs=0.1)
    assert found.tokens_per_second == pytest.approx(2 * 16 / found.step_time)
    rate = flops_per_token(make(), 16) * found.tokens_per_second
    assert found.flops_per_second == pytest.approx(rate)
    assert found.peak_memory == 0
