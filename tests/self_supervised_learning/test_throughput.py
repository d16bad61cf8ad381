"""Costs counted on paper are those that torch counts, and measuring measures what it says."""

import time

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dlcourse.self_supervised_learning import MaskedAutoencoder, VisionTransformer
from dlcourse.self_supervised_learning._throughput import (
    masked_autoencoder_flops,
    matmul_flops_per_second,
    measure_step,
    saved_bytes,
    training_step,
    transformer_activations,
    transformer_flops,
)

CPU = torch.device("cpu")


def make_model(mask_ratio=0.75, mlp_ratio=4.0, decoder_depth=2):
    encoder = VisionTransformer(32, 4, 3, 24, depth=3, num_heads=3, mlp_ratio=mlp_ratio)
    return MaskedAutoencoder(encoder, 16, decoder_depth, 2, mask_ratio)


def counted(run):
    """What torch counts, with attention as plain matrix products, so that it is counted too."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("mlp_ratio", [2.0, 4.0])
@pytest.mark.parametrize("tokens", [1, 17, 65])
def test_flops_of_blocks_equal_torchs_count(tokens, mlp_ratio):
    encoder = make_model(mlp_ratio=mlp_ratio).encoder
    x = torch.randn(2, tokens - 1, 24)
    assert counted(lambda: encoder.encode(x)) == 2 * transformer_flops(tokens, 24, 3, mlp_ratio)


@pytest.mark.parametrize("mask_ratio", [0.25, 0.75, 0.9])
@pytest.mark.parametrize("decoder_depth", [1, 2])
@pytest.mark.parametrize("mlp_ratio", [2.0, 4.0])
def test_flops_of_the_masked_autoencoder_equal_torchs_count(mlp_ratio, decoder_depth, mask_ratio):
    model, images = make_model(mask_ratio, mlp_ratio, decoder_depth), torch.randn(5, 3, 32, 32)
    assert counted(lambda: model.training_loss(images)) == 5 * masked_autoencoder_flops(model)
    assert masked_autoencoder_flops(make_model(0.5, mlp_ratio, decoder_depth), mask_ratio) == (
        masked_autoencoder_flops(model)
    )


def test_a_step_takes_three_times_the_forward_pass():
    """Two products of the same size for each in the forward pass, but none for the pixels."""
    model, images = make_model(), torch.randn(5, 3, 32, 32)
    step = counted(lambda: model.training_loss(images).backward())
    pixels = 2 * 16 * 48 * 24  # no gradient for 16 patches of 48 numbers
    assert step == 5 * (3 * masked_autoencoder_flops(model) - pixels)


def test_an_encoder_that_sees_everything_costs_what_its_blocks_cost():
    model = make_model()
    everything = masked_autoencoder_flops(model, 0)
    assert everything > transformer_flops(65, 24, 3) > masked_autoencoder_flops(model, 0.75)


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


def test_a_training_step_is_a_step_of_adamw():
    torch.manual_seed(0)
    layer, x = nn.Linear(3, 1), torch.randn(5, 3)
    twin = nn.Linear(3, 1)
    twin.load_state_dict(layer.state_dict())
    step = training_step(lambda: layer(x).square().mean(), layer.parameters())
    optimizer = torch.optim.AdamW(twin.parameters(), lr=1e-4, betas=(0.9, 0.95))
    for _ in range(3):
        step()
        optimizer.zero_grad()
        twin(x).square().mean().backward()
        optimizer.step()
    assert torch.allclose(layer.weight, twin.weight, atol=1e-7)
    assert layer.weight.grad is None


def test_a_training_step_computes_in_the_asked_dtype():
    seen, layer, x = [], nn.Linear(3, 1), torch.randn(5, 3)

    def loss():
        seen.append(layer(x).dtype)
        return layer(x).float().sum()

    training_step(loss, layer.parameters(), torch.bfloat16)()
    training_step(loss, layer.parameters())()
    assert seen == [torch.bfloat16, torch.float32]


def test_measure_step_counts_its_calls_and_the_processors_time():
    calls = []

    def step():
        calls.append(1)
        begin = time.process_time()
        while time.process_time() - begin < 0.004:
            pass
        time.sleep(0.01)  # costs no processor time

    cost = measure_step(step, CPU, warmup=2, repeats=5)
    assert len(calls) == 1 + 2 + 5
    assert 0.004 <= cost.seconds < 0.01
    assert cost.peak_bytes is None


def test_the_rate_of_a_matrix_product_grows_with_its_size():
    small, large = (matmul_flops_per_second(CPU, torch.float32, n, repeats=3) for n in (8, 256))
    assert large > 10 * small > 0
