"""What the recorded cells of chapter 120 measure: the counts, and the trainings at a tiny size."""

import copy
import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dlcourse.datasets import Split, Splits, digits, render_shapes, shape_factors
from dlcourse.measure import transformer_flops
from dlcourse.self_supervised_learning import (
    BatchViews,
    MaskedAutoencoder,
    SimCLR,
    VisionTransformer,
    logistic_probe,
)
from dlcourse.self_supervised_learning.experiments import (
    benchmark_methods,
    benchmark_readings,
    digit_labels,
    dino_collapse,
    dino_step,
    simclr_runs,
    small_dinov2,
)
from dlcourse.self_supervised_learning.experiments.benchmark import Benchmark, combined
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


# --- The benchmark of all methods ------------------------------------------------------------


def small_contest(**changes):
    settings = dict(
        device=CPU, dtype=None, compiled=False, size=16, embed_dim=24, depth=1, num_heads=2,
        batch_size=8, prototypes=8, seconds=0.1, label_batch=8, label_steps=2, pictures=120,
        labelled=100, tested=40,
    )  # fmt: skip
    return benchmark_methods.Contest(**{**settings, **changes})


def test_the_benchmark_fills_its_table():
    benchmark = Benchmark(small_contest(), seeds=(0, 1))
    for method in benchmark_methods.METHODS:
        benchmark.method(method)
    benchmark.random()
    benchmark.pixels()
    benchmark.supervised()
    frozen = {"k-NN", "logistic probe"}
    for name, readings in benchmark.table.items():
        wanted = frozen if name in ("random", "pixels") else {*frozen, "fine-tuned"}
        assert set(readings) == ({"fine-tuned"} if name == "supervised" else wanted)
        for factors in readings.values():
            assert set(factors) == {"shape", "hue", "texture"}
            for by_share in factors.values():
                assert set(by_share) == {"1", "10", "100"}
                assert all(len(values) == 2 for values in by_share.values())
                assert all(0 <= v <= 1 for values in by_share.values() for v in values)
    assert len(benchmark.table) == 7
    assert set(benchmark.kept()["steps"]) == set(benchmark_methods.METHODS)


def test_methods_of_the_benchmark_train_the_one_encoder():
    contest = small_contest()
    images = benchmark_readings.paint(30, 16, 0, CPU).x
    start = benchmark_methods.make_encoder(contest, 3).state_dict()
    for method in benchmark_methods.METHODS:
        done = benchmark_methods.pretrain_for(method, contest, images, 3, 4)
        end = done.encoder.state_dict()
        assert end.keys() == start.keys()
        name = "blocks.0.attention.qkv.weight"
        assert 0 < (end[name] - start[name]).abs().max() < 0.1  # the same start, some steps on
        assert done.steps == 4


def test_a_copy_of_a_compiled_encoder_is_not_compiled():
    """Or it would compute with the weights of the one it was copied from."""
    encoder = benchmark_methods.make_encoder(small_contest(), 0)
    benchmark_methods.compile_blocks(encoder)
    assert encoder.blocks[0]._compiled_call_impl is not None
    assert copy.deepcopy(encoder).blocks[0]._compiled_call_impl is None


def test_fine_tuning_learns_and_each_factor_has_its_own_choice():
    contest = small_contest(label_batch=64, label_steps=60, rates=(1e-6, 3e-3), patch_size=8)
    parts = [benchmark_readings.paint(n, 16, n, CPU) for n in (600, 200, 203)]
    done = benchmark_readings.fine_tuned(
        lambda: benchmark_methods.make_encoder(contest, 0), "mean", *parts, contest, [60], 0
    )
    assert done.accuracy["hue"] > 0.35  # guessing: 0.17
    views, rate, steps = done.chosen["hue"]
    assert (views, rate, steps) == ("crop", 3e-3, 60)  # jitter blurs the hue; 1e-6 stands still


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_losses_of_the_benchmark_are_those_of_the_methods_in_any_dtype(dtype):
    contest = small_contest(dtype=dtype)
    images = benchmark_readings.paint(16, 16, 0, CPU).x
    values = {}
    for method, training in benchmark_methods._TRAININGS.items():
        made = training(contest, images, 0)
        values[method] = made.loss(torch.arange(8), torch.Generator().manual_seed(0))
        assert values[method].dtype == torch.float32
        values[method].backward()
    assert values["SimCLR"] < 4  # log 15 = 2.7 for guessing
    assert values["MAE"] < 2


def test_a_smaller_share_of_the_labels_lies_in_the_larger_one():
    contest = small_contest()
    train, validation = (benchmark_readings.paint(n, 16, n, CPU) for n in (120, 100))
    few, choose = benchmark_readings.labelled_parts(train, validation, 0.1, contest, 5)
    all_, _ = benchmark_readings.labelled_parts(train, validation, 1.0, contest, 5)
    assert len(few.x) == len(choose.x) == 10
    assert torch.equal(few.x, all_.x[:10])
    assert torch.equal(few.labels["hue"], all_.labels["hue"][:10])
    other, _ = benchmark_readings.labelled_parts(train, validation, 0.1, contest, 6)
    assert not torch.equal(few.x, other.x)


def test_one_lbfgs_for_all_factors_finds_what_one_probe_each_finds():
    contest = small_contest()
    parts = [benchmark_readings.paint(n, 16, n, CPU) for n in (400, 201, 203)]
    weight = torch.randn(768, 30, generator=torch.Generator().manual_seed(0)) / 30
    features = [
        benchmark_readings.Pictures((part.x.flatten(1) @ weight).tanh(), part.labels)
        for part in parts
    ]
    found = benchmark_readings.logistic_accuracies(*features, contest.probe_decays)
    for factor, accuracy in found.items():
        splits = [Split(part.x, part.labels[factor]) for part in features]
        probe = logistic_probe(*splits, decays=contest.probe_decays)
        assert accuracy == pytest.approx(probe.test_accuracy, abs=0.011), factor  # two pictures
    assert found["hue"] > 0.3  # there is something to find


def test_effective_rank_counts_directions():
    x = torch.randn(20000, 6, generator=torch.Generator().manual_seed(0))
    assert benchmark_readings.effective_rank(x) == pytest.approx(6, abs=0.05)
    assert benchmark_readings.effective_rank(x[:, :1] @ x[:1]) == pytest.approx(1, abs=1e-3)


def test_painted_pictures_of_the_benchmark_are_those_of_the_data_set():
    pictures = benchmark_readings.paint(5000, 8, 1, CPU)  # more than one piece
    factors = shape_factors(5000, torch.Generator().manual_seed(1))
    assert torch.allclose(pictures.x, render_shapes(factors, 8), atol=1e-6)
    assert torch.equal(pictures.labels["texture"], factors.texture)


def test_seconds_are_turned_into_steps():
    taken = []

    def run(steps):
        taken.append(steps)
        return 9.0 if len(taken) == 1 else 0.1 * steps  # the first one compiles

    assert benchmark_methods.steps_in(20, run) == 200
    assert len(taken) == 2


# --- SimCLR's small trainings ----------------------------------------------------------------


def test_what_is_kept_has_every_row_and_column():
    table = simclr_runs.what_is_kept(
        {"crop": BatchViews(8)}, n=60, labelled=40, size=12, steps=2, batch_size=8,
        fractions=(0.2, 1.0), seeds=(0, 1),
    )  # fmt: skip
    assert list(table) == ["pixels", "random encoder", "crop"]
    for readings in table.values():
        assert set(readings) == {"k-NN", "logistic probe"}
        for factors in readings.values():
            assert set(factors) == {"shape", "hue", "texture"}
            assert all(len(values) == 2 for by in factors.values() for values in by.values())
            assert all(set(by) == {"20", "100"} for by in factors.values())
    assert table["pixels"]["k-NN"]["hue"]["100"][0] == table["pixels"]["k-NN"]["hue"]["100"][1]


def test_batches_see_the_same_number_of_pairs(monkeypatch):
    seen = []

    def train(x, seed, view, *, temperature, steps, batch_size, lr):
        seen.append((steps * batch_size, temperature))
        return SimCLR(simclr_runs.new_encoder(seed), temperature=temperature)

    monkeypatch.setattr(simclr_runs, "train_simclr", train)
    grid, rates = simclr_runs.temperature_and_batch(
        batches=(4, 8), temperatures=(0.2, 1.0), rates=(0.01, 0.02), pairs=16, n=50, size=12,
        seeds=(0, 1),
    )  # fmt: skip
    assert {pairs for pairs, _ in seen} == {16}
    assert len(seen) == 2 * (2 * 2 + 2 * 2)  # rates and seeds at one temperature, then the grid
    assert rates == {"4": 0.01, "8": 0.01}
    assert {len(v) for by in grid.values() for v in by.values()} == {2}


def test_parts_of_the_benchmark_come_together():
    one = {"table": {"MAE": 1}, "steps": {"MAE": 2}, "chosen": {}, "rank": {}, "seconds": {}}
    other = {"table": {"SimMIM": 3}, "steps": {}, "chosen": {}, "rank": {"x": 1}, "seconds": {}}
    both = combined([{**one, "pictures": 5}, {**other, "pictures": 5}])
    assert both["table"] == {"MAE": 1, "SimMIM": 3} and both["pictures"] == 5
    with pytest.raises(ValueError, match="pictures"):
        combined([{**one, "pictures": 5}, {**other, "pictures": 6}])


# --- Section 120.1b: forms in turn, attention, digits and labels, collapse ----------------------


def test_forms_of_a_step_are_timed_in_turn():
    timed = dino_step.compare_dino_steps(
        ["crop by crop", "eager"], TINY, CPU, None, rounds=3, steps=2, warmup=1
    )
    assert list(timed) == ["crop by crop", "eager"]
    assert all(len(t.seconds) == 3 and min(t.seconds) > 0 for t in timed.values())
    assert timed["crop by crop"].loss == pytest.approx(timed["eager"].loss, abs=1e-4)
    with pytest.raises(ValueError, match="at least 1"):
        dino_step.compare_dino_steps(["eager"], TINY, CPU, None, rounds=0)


def test_ratios_are_taken_round_by_round():
    fast = dino_step.Timed([1.0, 2.0, 4.0], None, 0.0)
    slow = dino_step.Timed([3.0, 3.0, 8.0], None, 0.0)
    assert dino_step.ratios(fast, slow) == (2.0, 1.5, 3.0)


def test_attention_of_three_networks_is_compared_on_pictures_that_chose_no_head():
    tiny = {"image_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2,
            "batch_size": 8}  # fmt: skip
    names = ("untrained", "with labels", "DINOv2")
    looks = small_dinov2.compare_attention(
        CPU, steps=2, seeds=(0, 1), pictures=12, looked_at=20, **tiny
    )
    assert tuple(looks.share) == tuple(looks.encoders) == names
    assert all(len(v) == 2 and 0 < min(v) and max(v) < 1 for v in looks.share.values())
    # The share is that of the head chosen on other pictures, not the best on these.
    other = small_dinov2.shape_pixels(20, 16, seed=1001)
    reported = small_dinov2.shape_pixels(20, 16, seed=1002)
    for name, encoder in looks.encoders.items():
        head = int(small_dinov2.attention_on_shape(encoder, *other).argmax())
        assert head == looks.heads[name]
        share = small_dinov2.attention_on_shape(encoder, *reported)[head].item()
        assert looks.share[name][0] == pytest.approx(share)


def test_the_supervised_network_learns_the_shapes():
    images, labels = small_dinov2._painted(1200, 16, CPU, seed=0)
    assert images.shape == (1200, 3, 16, 16) and labels.unique().tolist() == list(range(8))
    again, _ = small_dinov2._painted(1200, 16, CPU, seed=0)
    assert torch.equal(images, again)


def test_digits_are_read_by_all_contestants_with_the_labels_that_are_counted():
    generator = torch.Generator().manual_seed(0)

    def split(each):  # class 1 is bright below, class 0 above
        y = torch.arange(2).repeat_interleave(each)
        x = 0.1 * torch.rand(2 * each, 1, 28, 28, generator=generator)
        x[:each, :, :14] += 0.8
        x[each:, :, 14:] += 0.8
        return Split(x, y)

    data = Splits(split(40), split(20), split(10))
    result = digit_labels.digits_by_labels(
        data, seeds=(0, 1), fractions=(0.1, 0.25, 1.0), pretraining_rates=(1e-2,),
        pretraining_steps=2, rates=(1e-2,), steps=(2,), batch_size=16, neighbours=(1, 3),
    )  # fmt: skip
    assert result["labels"] == [[8, 8], [20, 20], [80, 40]]
    assert len(result["accuracy"]) == 8
    for rows in result["accuracy"].values():
        assert [len(row) for row in rows] == [2, 2, 2]
        assert all(0 <= value <= 1 for row in rows for value in row)
    assert result["accuracy"]["pixels, probe"][2] == [1.0, 1.0]
    assert result["accuracy"]["pixels, k-NN"][2] == [1.0, 1.0]
    assert set(result["chosen"]) == {"DINO's rate"} | {
        f"{name}, {f:g}" for name in ("from scratch", "DINO, fine-tuned") for f in (0.1, 0.25, 1)
    }


def test_curves_of_a_watched_run_are_entropies():
    data = digits(seed=0, max_shift=2)
    run = dino_collapse.collapse_run(data, "centering", 0.03, 0, steps=10)
    assert run.curves.shape == (3, 2) and run.answers.shape == (256, 64)
    h, kl, mixed = run.curves[:, -1].tolist()
    assert (kl > 0) and (0 < h <= mixed + 1e-6) and mixed <= math.log(64) + 1e-6
    p = run.answers
    assert h == pytest.approx(-(p * p.clamp_min(1e-30).log()).sum(1).mean().item(), abs=1e-4)
