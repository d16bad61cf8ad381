"""The cells of 120.1b that need a GPU: at a tiny size on the CPU, and as they were recorded."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dlcourse.datasets import render_shapes, shape_factors
from dlcourse.self_supervised_learning import _dino_step
from dlcourse.self_supervised_learning.vision_transformer import VisionTransformer

CPU = torch.device("cpu")
TINY = _dino_step.StepSizes(
    images=4, global_size=32, local_size=16, local_crops=3, patch_size=8,
    embed_dim=32, depth=2, num_heads=2, out_dim=64, hidden_dim=48, bottleneck_dim=16,
)  # fmt: skip


def vit():
    return VisionTransformer(32, 8, embed_dim=32, depth=2, num_heads=2, positions="learned")


@pytest.mark.parametrize("images", [2, 4])
def test_counted_operations_are_the_arithmetic(images):
    sizes = dataclasses.replace(TINY, images=images)
    torch.manual_seed(0)
    step, _ = _dino_step.dino_step(vit(), sizes, CPU)
    with FlopCounterMode(display=False) as counter:
        step()
    # Not in the arithmetic: drawing the views and KoLeo's products; in it but not run: the gradient
    # of the pictures.
    assert counter.get_total_flops() == pytest.approx(sizes.flops(), rel=0.06)


def test_every_form_of_the_step_computes_the_same_loss():
    losses = {}
    for kind in ("crop by crop", "eager"):
        _, losses[kind] = _dino_step.measure_dino_step(kind, TINY, CPU, None, warmup=1, repeats=2)
    assert losses["crop by crop"] == pytest.approx(losses["eager"], abs=1e-4)
    cost, loss = _dino_step.measure_dino_step("transformers", TINY, CPU, None, warmup=0, repeats=1)
    assert cost.seconds > 0 and cost.peak_bytes is None
    assert loss == pytest.approx(losses["eager"], abs=2)  # other initial weights
    with pytest.raises(ValueError, match="unknown kind"):
        _dino_step.measure_dino_step("fast", TINY, CPU, None)


def test_what_is_compiled_computes_the_same_loss():
    results = []
    for compiled in (False, True):
        torch.manual_seed(0)
        step, model = _dino_step.dino_step(vit(), TINY, CPU)
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
    step, model = _dino_step.dino_step(vit(), TINY, CPU, torch.bfloat16)
    before = {n: p.clone() for n, p in model.named_parameters()}
    step()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert moved == set(before)


def test_the_small_training_runs_and_its_maps_have_the_sizes_drawn():
    model, losses = _dino_step.train_small_dinov2(
        CPU, steps=2, image_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2,
        batch_size=4, pictures=10, prototypes=12,
    )  # fmt: skip
    assert len(losses) == 2
    images, pixels = _dino_step.shape_pixels(5, 16, seed=0)
    share = _dino_step.attention_on_shape(model.teacher["encoder"], images, pixels)
    assert share.shape == (2,)
    assert ((share > 0) & (share < 1)).all()


def test_even_attention_gives_the_shape_its_share_of_the_area():
    images, pixels = _dino_step.shape_pixels(50, 32, seed=0)
    encoder = VisionTransformer(32, 8, embed_dim=16, depth=1, num_heads=2)
    with torch.no_grad():
        encoder.blocks[0].attention.qkv.weight.zero_()
    share = _dino_step.attention_on_shape(encoder, images, pixels)
    assert share == pytest.approx(pixels.double().mean().item(), abs=1e-4)


def test_shape_pixels_cover_the_shape():
    images, pixels = _dino_step.shape_pixels(20, 32, seed=3)
    factors = shape_factors(20, torch.Generator().manual_seed(3), max_turn=0.15)
    assert torch.equal(images, render_shapes(factors, 32))
    assert 0.05 < pixels.double().mean() < 0.3
    discs = factors.shape == 0
    column, row = (factors.x[discs] * 32).long(), (factors.y[discs] * 32).long()
    assert pixels[discs][torch.arange(len(row)), row, column].all()  # the centre of a disc
    assert not pixels[:, 0, 0].any()


# --- What the text says of the recorded cells ------------------------------------------------

RECORD = Path(__file__).parents[2] / "chapters/120_self_supervised_learning/1b_dino.gpu.json"


def recorded(cell):
    cells = json.loads(RECORD.read_text(encoding="utf8"))["cells"]
    return "".join(out.get("text", "") for out in cells[cell]["outputs"])


def test_the_record_of_the_step_shows_what_the_text_says():
    rows = re.findall(r"^(.*), bfloat16 +(\d+) +(\d+)%", recorded("dinov2-step"), re.MULTILINE)
    speed = {name: int(images) for name, images, _ in rows}
    assert speed["eager"] > 1.4 * speed["crop by crop"]  # well ahead
    assert speed["compiled"] > 1.2 * speed["eager"] > speed["eager"]
    assert speed["transformers compiled"] > 1.2 * speed["transformers"]
    assert 1.1 < speed["compiled"] / speed["transformers compiled"] < 1.25  # comes near
    assert max(int(peak) for *_, peak in rows) < 40  # far more than half is missing


def test_the_record_of_the_attention_shows_what_the_text_says():
    text = recorded("attention")
    area = float(re.search(r"shape covers: ([\d.]+)", text)[1])
    untrained, trained = (
        [float(v) for v in re.search(rf" {name}: (.*)", text)[1].split(", ")]
        for name in ("untrained", "trained")
    )
    assert all(abs(share - area) < 0.04 for share in untrained)
    assert 0.4 < max(trained) < 0.65 and max(trained) > 3 * area
    assert min(trained) < area
