"""What the recorded cells of chapter 119 measure: the counts, and the trainings at a tiny size."""

import math
import socket
import sys

import cloudpickle
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dlcourse.large_scale_training import launch
from dlcourse.large_scale_training.experiments.dtypes import (
    gradients_lost,
    losses_in,
    step_times,
)
from dlcourse.large_scale_training.experiments.scaling import (
    measure_messages,
    measure_scaling,
    need_gpus,
    overlap,
    total_length,
)
from dlcourse.large_scale_training.experiments.techniques import (
    checkpoint_blocks,
    flops_per_token,
    measure_each,
    measure_training,
)
from dlcourse.large_scale_training.transformer import Transformer, language_loss

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the ranks can't import this file

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


def test_two_ranks_measure_scaling_messages_and_techniques_at_a_tiny_size():
    sizes = [2**10, 2**14, 2**27]

    def tiny():
        torch.cuda.is_available = lambda: False
        return (
            measure_scaling(SHAPE, {**SHAPE, "layers": 3}, 2, steps=4, warmup=1),
            measure_messages(SHAPE, sizes, 4, repeats=2),
            measure_each(SHAPE, 2, [(), ("bf16", "checkpointing")], 2),
        )

    for scaling, messages, each in launch(tiny, 2, time_limit=200):
        parameters = sum(p.numel() for p in make().parameters())
        for name, count in (("alone", 4), ("together", 4), ("larger", 2)):
            speed = scaling[name]
            assert len(speed.seconds) == count and min(speed.seconds) > 0
            assert speed.tokens == 2 * 16
            assert speed.losses[0] == pytest.approx(math.log(64), abs=0.1)
        assert scaling["alone"].parameters == parameters < scaling["larger"].parameters
        assert scaling["alone"].useful == flops_per_token(make(), 16)
        assert len(messages["gloo"]) == 2 and messages["step"] is None
        assert len(messages["each"]) == len(messages["once"]) == 2
        assert [len(m.losses) for m in each] == [5, 5]


def test_the_hidden_share_of_messages_is_measured_on_the_union_of_kernels():
    def kernel(name, ts, dur, cat="kernel"):
        return {"name": name, "ts": ts, "dur": dur, "cat": cat}

    events = [
        kernel("ncclDevKernel_AllGather_RING_LL", 0, 10),
        kernel("ncclDevKernel_ReduceScatter", 5, 10),  # 0 … 15 together
        kernel("gemm", 3, 4),
        kernel("gelu", 6, 3),  # 3 … 9
        kernel("gemm", 20, 5),
        kernel("aten::mm", 0, 100, cat="cpu_op"),
        {"name": "process_name"},
    ]
    found = overlap(events)
    assert found["hidden"] == pytest.approx(6 / 15)
    assert (found["messages"], found["work"]) == pytest.approx((15e-6, 11e-6))
    assert total_length([]) == 0
    with pytest.raises(ValueError, match="no kernel of NCCL among the 2"):
        overlap([kernel("gemm", 0, 1), kernel("gelu", 1, 1)])
    with pytest.raises(RuntimeError, match="needs a machine with 1000 GPUs"):
        need_gpus(1000)
