"""Costs counted on paper are those that torch counts, and measuring measures what it says."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dlcourse import measure
from dlcourse.measure import (
    attention_flops,
    interleaved,
    matmul_peak,
    measure_step,
    saved_bytes,
    time_call,
    transformer_activations,
    transformer_flops,
)
from dlcourse.self_supervised_learning import VisionTransformer


def counted(run):
    """What torch counts, with attention as plain matrix products, so that it is counted too."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def make_encoder(mlp_ratio=4.0):
    return VisionTransformer(32, 4, 3, 24, depth=3, num_heads=3, mlp_ratio=mlp_ratio)


@pytest.mark.parametrize("mlp_ratio", [2.0, 4.0])
@pytest.mark.parametrize("tokens", [1, 17, 65])
def test_flops_of_blocks_equal_torchs_count(tokens, mlp_ratio):
    encoder = make_encoder(mlp_ratio)
    x = torch.randn(2, tokens - 1, 24)
    assert counted(lambda: encoder.encode(x)) == 2 * transformer_flops(tokens, 24, 3, mlp_ratio)


def test_flops_of_attention_equal_torchs_count_and_a_causal_mask_halves_them():
    q = torch.randn(1, 3, 17, 8)  # 3 heads of 8: a width of 24
    found = counted(lambda: F.scaled_dot_product_attention(q, q, q))
    assert found == attention_flops(17, 24, 1) == attention_flops(17, 24, 2) / 2
    assert attention_flops(17, 24, 3, causal=True) == attention_flops(17, 24, 3) / 2
    half = attention_flops(17, 24, 3) / 2
    assert transformer_flops(17, 24, 3, causal=True) == transformer_flops(17, 24, 3) - half


def test_saved_bytes_counts_each_storage_once_and_no_parameter():
    layer, x = nn.Linear(3, 4), torch.randn(5, 3, requires_grad=True)
    assert saved_bytes(lambda: layer(x).sum(), layer) == 5 * 3 * 4  # the input
    assert saved_bytes(lambda: (layer(x) + layer(x[:, :])).sum(), layer) == 5 * 3 * 4
    assert saved_bytes(lambda: x.exp().sum(), layer) == 5 * 3 * 4  # the result


def test_saved_bytes_of_blocks_are_near_the_count_on_paper():
    encoder = VisionTransformer(32, 4, 3, 48, depth=4, num_heads=3)
    x = torch.randn(8, 64, 48)
    measured = saved_bytes(lambda: encoder.encode(x).sum(), encoder)
    assert measured == pytest.approx(4 * 8 * transformer_activations(65, 48, 4), rel=0.1)


@pytest.fixture
def clocks(monkeypatch):
    """Two clocks of our own: what is spent on them passes, and nothing else."""
    passed = {"wall": 0.0, "processor": 0.0}

    def spend(wall, processor):
        passed["wall"] += wall
        passed["processor"] += processor

    for name in passed:
        monkeypatch.setitem(measure._CLOCKS, name, lambda name=name: passed[name])
    return spend


def test_a_call_is_timed_by_the_clock_that_is_asked_for(clocks):
    assert time_call(lambda: clocks(3, 1)) == 3
    assert time_call(lambda: clocks(3, 1), clock="processor") == 1
    with pytest.raises(ValueError, match="wall, processor: got 'sundial'"):
        time_call(lambda: None, clock="sundial")


def test_measure_step_is_the_median_of_the_calls_after_the_first_and_the_warm_up(clocks):
    seconds = iter([9, 7, 7, 1, 5, 2, 4, 3])
    cost = measure_step(lambda: clocks(0, next(seconds)), "cpu", warmup=2, repeats=5)
    assert (cost.first_seconds, cost.seconds, cost.peak_bytes) == (9, 3, None)
    assert next(seconds, "all were used") == "all were used"
    wall = measure_step(lambda: clocks(2, 1), torch.device("cpu"), repeats=1, clock="wall")
    assert wall.seconds == 2
    with pytest.raises(ValueError, match="repeats >= 1"):
        measure_step(lambda: None, "cpu", repeats=0)


def test_interleaved_calls_take_turns(clocks):
    order, seconds = [], itertools.count(1)

    def call(name):
        order.append(name)
        clocks(next(seconds), 0)

    times = interleaved({"a": lambda: call("a"), "b": lambda: call("b")}, repeats=2, warmup=1)
    assert order == ["a", "b"] * 3
    assert times == {"a": [3, 5], "b": [4, 6]}


def test_the_peak_of_a_matrix_product_is_its_best_time(monkeypatch):
    seconds = iter([3.0, 0.5, 1.0])

    def timed(product, device):
        assert product().shape == (16, 16)
        return next(seconds)

    monkeypatch.setattr(measure, "time_call", timed)
    assert matmul_peak("cpu", torch.float32, size=16, repeats=3) == 2 * 16**3 / 0.5
    with pytest.raises(ValueError, match="repeats >= 1"):
        matmul_peak("cpu", repeats=0)


def test_the_clocks_run():
    def work():
        torch.randn(200, 200) @ torch.randn(200, 200)

    assert time_call(work) > 0 and measure_step(work, "cpu", repeats=3).seconds > 0
    assert matmul_peak("cpu", torch.float32, size=64, repeats=3) > 0
