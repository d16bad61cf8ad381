"""What the recorded cells of chapter 120 measure: the counts, and the trainings at a tiny size."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dlcourse.datasets import render_shapes, shape_factors
from dlcourse.measure import transformer_flops
from dlcourse.self_supervised_learning import MaskedAutoencoder, VisionTransformer
from dlcourse.self_supervised_learning.experiments import dino_step, small_dinov2
from dlcourse.self_supervised_learning.experiments.masked_autoencoder_cost import (
    masked_autoencoder_flops,
    training_step,
)

CPU = torch.device("cpu")


# --- The step of DINOv2 ----------------------------------------------------------------------


TINY = dino_step.StepSizes(
    images=4, global_size=32, local_size=16, local_crops=3, patch_size=8,
    embed_dim=32, depth=2, num_heads=2, out_dim=64, hidden_dim=48, bottleneck_dim=16,
)  # fmt: skip


def vit():
    return VisionTransformer(32, 8, embed_dim=32, depth=2, num_heads=2, positions="learned")


@pytest.mark.parametrize("images", [2, 4])
def test_counted_operations_are_the_arithmetic(images):
    sizes = dataclasses.replace(TINY, images=images)
    torch.manual_seed(0)
    step, _ = dino_step.dino_step(vit(), sizes, CPU)
    with FlopCounterMode(display=False) as counter:
        step()
    # Not in the arithmetic: drawing the views and KoLeo's products; in it but not run: the gradient
    # of the pictures.
    assert counter.get_total_flops() == pytest.approx(sizes.flops(), rel=0.06)


def test_every_form_of_the_step_computes_the_same_loss():
    losses = {}
    for kind in ("crop by crop", "eager"):
        _, losses[kind] = dino_step.measure_dino_step(kind, TINY, CPU, None, warmup=1, repeats=2)
    assert losses["crop by crop"] == pytest.approx(losses["eager"], abs=1e-4)
    cost, loss = dino_step.measure_dino_step("transformers", TINY, CPU, None, warmup=0, repeats=1)
    assert cost.seconds > 0 and cost.peak_bytes is None
    assert loss == pytest.approx(losses["eager"], abs=2)  # other initial weights
    with pytest.raises(ValueError, match="unknown kind"):
        dino_step.measure_dino_step("fast", TINY, CPU, None)


def test_what_is_compiled_computes_the_same_loss():
    results = []
    for compiled in (False, True):
        torch.manual_seed(0)
        step, model = dino_step.dino_step(vit(), TINY, CPU)
        if compiled:
            for network in (model.student, model.teacher):
                for block in network["encoder"].blocks:
                    block.compile(dynamic=False, backend="aot_eager")
            model.loss.compile(dynamic=False, backend="aot_eager")
        results.append([step().item() for _ in range(3)])
    assert results[1] == pytest.approx(results[0], abs=1e-4)
    assert results[0][0] != results[0][1]


def test_a_step_moves_student_and_teacher():
    torch.manual_seed(0)
    step, model = dino_step.dino_step(vit(), TINY, CPU, torch.bfloat16)
    before = {n: p.clone() for n, p in model.named_parameters()}
    step()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert moved == set(before)


# --- The small DINOv2 ------------------------------------------------------------------------


def test_the_small_training_runs_and_its_maps_have_the_sizes_drawn():
    model, losses = small_dinov2.train_small_dinov2(
        CPU, steps=2, image_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2,
        batch_size=4, pictures=10, prototypes=12,
    )  # fmt: skip
    assert len(losses) == 2
    images, pixels = small_dinov2.shape_pixels(5, 16, seed=0)
    share = small_dinov2.attention_on_shape(model.teacher["encoder"], images, pixels)
    assert share.shape == (2,)
    assert ((share > 0) & (share < 1)).all()


def test_even_attention_gives_the_shape_its_share_of_the_area():
    images, pixels = small_dinov2.shape_pixels(50, 32, seed=0)
    encoder = VisionTransformer(32, 8, embed_dim=16, depth=1, num_heads=2)
    with torch.no_grad():
        encoder.blocks[0].attention.qkv.weight.zero_()
    share = small_dinov2.attention_on_shape(encoder, images, pixels)
    assert share == pytest.approx(pixels.double().mean().item(), abs=1e-4)


def test_shape_pixels_cover_the_shape():
    images, pixels = small_dinov2.shape_pixels(20, 32, seed=3)
    factors = shape_factors(20, torch.Generator().manual_seed(3), max_turn=0.15)
    assert torch.equal(images, render_shapes(factors, 32))
    assert 0.05 < pixels.double().mean() < 0.3
    discs = factors.shape == 0
    column, row = (factors.x[discs] * 32).long(), (factors.y[discs] * 32).long()
    assert pixels[discs][torch.arange(len(row)), row, column].all()  # the centre of a disc
    assert not pixels[:, 0, 0].any()


# --- The masked autoencoder's cost -----------------------------------------------------------


def make_model(mask_ratio=0.75, mlp_ratio=4.0, decoder_depth=2):
    encoder = VisionTransformer(32, 4, 3, 24, depth=3, num_heads=3, mlp_ratio=mlp_ratio)
    return MaskedAutoencoder(encoder, 16, decoder_depth, 2, mask_ratio)


def counted(run):
    """What torch counts, with attention as plain matrix products, so that it is counted too."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


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
