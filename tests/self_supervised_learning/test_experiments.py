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
    fine_tune,
    logistic_probe,
    patchify,
    pretrain,
    unpatchify,
)
from dlcourse.self_supervised_learning.experiments import (
    benchmark_fine_tuning,
    benchmark_methods,
    benchmark_readings,
    digit_labels,
    dino_collapse,
    dino_step,
    painting,
    simclr_runs,
    simmim_grid,
    simmim_runs,
    small_dinov2,
)
from dlcourse.self_supervised_learning.experiments import masked_autoencoder_runs as runs
from dlcourse.self_supervised_learning.experiments import masked_autoencoder_speed as speed
from dlcourse.self_supervised_learning.experiments.benchmark import Benchmark, combined
from dlcourse.self_supervised_learning.experiments.benchmark_fine_tuning import (
    ManyReadouts,
    Readout,
    choose,
    fine_tune_all,
    shuffled,
)
from dlcourse.self_supervised_learning.experiments.benchmark_times import print_times
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
    assert set(benchmark.kept()["steps"]) == {*benchmark_methods.METHODS, "supervised"}


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


def painted(*sizes, size=16):
    return [benchmark_readings.paint(n, size, n, CPU) for n in sizes]


def test_fine_tuning_learns_and_each_factor_has_its_own_choice():
    contest = small_contest(
        label_batch=64, rates=(1e-6, 3e-3), patch_size=8, shares=(1.0,), labelled=600
    )
    start = benchmark_methods.make_encoder(contest, 0)
    tried = fine_tune_all(start, "mean", *painted(600, 600, 203), contest, 60, 0)[1.0]
    assert len(tried) == 4  # two views by two rates
    best = choose(tried)
    assert tried[best["hue"]].test["hue"] > 0.35  # guessing: 0.17
    assert best["hue"] == ("crop", 3e-3, 60)  # jitter blurs the hue; 1e-6 stands still


def test_runs_side_by_side_are_the_training_loops_runs():
    """Each of the batched runs equals ``pretrain`` of one network on the same batches."""
    contest, rates, steps = small_contest(), (3e-3, 1e-2), 6
    start = benchmark_methods.make_encoder(contest, 0)
    pictures = painted(40)[0]
    labels = pictures.labels["shape"]
    batches = [torch.randperm(40)[:8] for _ in range(steps)]
    many = ManyReadouts(Readout(copy.deepcopy(start), "class"), rates, steps)
    for index in batches:
        logits = many(pictures.x[index].expand(2, -1, -1, -1, -1))[..., :8]
        many.update(sum(nn.functional.cross_entropy(run, labels[index]) for run in logits))
    for i, rate in enumerate(rates):
        alone, taken = Readout(copy.deepcopy(start), "class"), iter(batches)

        def loss(_, g, alone=alone, taken=taken):
            index = next(taken)
            return nn.functional.cross_entropy(alone(pictures.x[index])[:, :8], labels[index])

        pretrain(alone, loss, 40, steps=steps, batch_size=8, lr=rate, max_grad_norm=1.0)
        with torch.no_grad():
            expected = alone(pictures.x)
            found = many.all_alike(pictures.x)[i]
        assert expected[:, :8].std() > 0.03  # it has moved: the heads began at zero
        assert torch.allclose(found, expected, atol=2e-4)


def test_runs_of_few_labels_see_no_others():
    """A run with 8 labels does not change when the other pictures do, and one with all does."""
    contest = small_contest(labelled=80, shares=(0.1, 1.0), rates=(3e-3,), label_views=("crop",))
    train, validation, test = painted(80, 81, 40)
    other = benchmark_readings.Pictures(train.x.clone(), dict(train.labels))
    other.x[8:] = other.x[8:].flip(0)
    start, found = benchmark_methods.make_encoder(contest, 0), []
    for pictures in (train, other):
        many = ManyReadouts(Readout(copy.deepcopy(start), "mean"), [3e-3] * 2, 4)
        drawn = torch.Generator().manual_seed(0)
        losses = benchmark_fine_tuning._losses(many, pictures, contest, drawn, 0)
        for _, loss in zip(range(4), losses, strict=False):
            many.update(loss)
        found.append(many.weights.detach())
    assert torch.allclose(found[0][0], found[1][0], atol=1e-6)
    assert not torch.allclose(found[0][1], found[1][1], atol=1e-4)


def test_runs_compute_in_the_asked_dtype_and_keep_their_weights():
    network = Readout(benchmark_methods.make_encoder(small_contest(), 0), "mean")
    many = ManyReadouts(network, (1e-3, 1e-3), 1, torch.bfloat16)
    logits = many.all_alike(painted(4)[0].x)
    many.update((logits.float() - 1).square().sum())
    assert logits.dtype == torch.bfloat16
    assert many.weights.dtype == many.mean.dtype == torch.float32


def test_every_label_is_drawn_equally_often():
    batches = shuffled(10, 16, torch.Generator().manual_seed(0))
    drawn = torch.cat([next(batches) for _ in range(5)])  # eight passes
    assert torch.equal(drawn.bincount(), torch.full((10,), 8))
    assert not torch.equal(drawn[:10], drawn[10:20])


def test_times_of_the_benchmark_are_printed(capsys):
    print_times(small_contest(), steps=2)
    printed = capsys.readouterr().out
    for part in ("painting", "fine-tuning of a seed", "pixels: logistic probe", "MAE"):
        assert part in printed


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


# --- Masked autoencoders ---------------------------------------------------------------------


RUN = {"n": 64, "labelled": 40, "size": 16, "fractions": (0.5, 1.0), "seeds": (0, 1)}
QUICK = {"rates": (1e-3, 3e-3), "steps": (2,), "batch_size": 8}


def test_standardised_pictures_have_about_mean_0_and_deviation_1_and_come_back():
    images = render_shapes(shape_factors(400, torch.Generator().manual_seed(3)), 24)
    x = runs.standardised(images)
    assert abs(x.mean().item()) < 0.1
    assert 0.9 < x.std().item() < 1.1
    assert torch.allclose(runs.as_pictures(x), images, atol=1e-6)


def test_guesses_of_a_painting_are_what_they_are_called():
    # Two patches of one color each side by side, half of the picture red and half blue.
    model = runs.small_autoencoder(0, 0.5, norm_pix_loss=False, size=8)
    images = torch.zeros(2, 3, 8, 8)
    images[0] = 0.5
    images[1, 0, :, :4], images[1, 2, :, 4:] = 1.0, 1.0
    errors = runs.painting_errors(model, images[:1], ratio=0.5)
    assert errors["mean color"] == pytest.approx(0, abs=1e-10)
    assert errors["nearest patch"] == pytest.approx(0, abs=1e-10)
    assert errors["model"] > 0.01  # not trained
    # By hand: which patches are seen follows from the seed.
    noise = torch.rand(1, 4, generator=torch.Generator().manual_seed(0))[0]
    seen, hidden = noise.argsort()[:2], noise.argsort()[2:]
    colors = torch.tensor([[1.0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]]) / runs.SPREAD
    by_mean = (colors[hidden] - colors[seen].mean(0)).square().mean().item()
    errors = runs.painting_errors(model, images[1:], ratio=0.5)
    assert errors["mean color"] == pytest.approx(by_mean, rel=1e-5)
    with pytest.raises(ValueError, match="norm_pix_loss=False"):
        runs.painting_errors(runs.small_autoencoder(0, size=8), images)


def test_the_pictures_and_labels_of_masked_autoencoders_are_those_of_simclr():
    n, labelled, size = 80, 40, 24
    theirs = simclr_runs.what_is_kept(
        {}, n=n, labelled=labelled, size=size, fractions=(1.0,), seeds=(0,)
    )
    data = runs._pictures(n, labelled, size)
    for factor, splits in data.items():
        fit, _ = runs._shares(splits, labelled, 1.0, 0)
        flat = [Split(part.x.flatten(1), part.y) for part in (fit, splits.test)]
        expected = theirs["pixels"]["k-NN"][factor]["100"][0]
        assert simclr_runs.knn_accuracy(*flat, k=10) == pytest.approx(expected)


def test_frozen_and_trained_readings_have_a_number_for_each_seed_share_and_factor():
    table = runs.frozen(steps=2, **RUN)
    assert set(table) == {"random encoder", "normalised", "pixels"}
    for readings in table.values():
        assert set(readings) == {"k-NN", "logistic probe"}
        for factors in readings.values():
            assert set(factors) == set(simclr_runs.FACTORS)
            assert {(p, len(v)) for by in factors.values() for p, v in by.items()} == {
                ("50", 2),
                ("100", 2),
            }
    for factor in ("texture", "hue"):
        for table, rates in (
            runs.fine_tuned(steps=2, factor=factor, budget=QUICK, **RUN),
            runs.supervised("ViT", factor=factor, budget=QUICK, **RUN),
            runs.supervised("ConvNet", factor=factor, budget=QUICK, **RUN),
        ):
            (readings,) = table.values()
            assert {p: len(v) for p, v in readings["fine-tuned"][factor].items()} == {
                "50": 2,
                "100": 2,
            }
            assert all(r in QUICK["rates"] for chosen in rates.values() for r in chosen)
    with pytest.raises(ValueError, match="kind is one of"):
        runs.supervised("MLP", **RUN)


def test_what_is_trained_on_labels_learns_and_starts_where_the_pre_training_ended(monkeypatch):
    starts = []

    def spy(start, *args, **kwargs):
        starts.append(start())
        return fine_tune(start, *args, **kwargs)

    monkeypatch.setattr(runs, "fine_tune", spy)
    run = {**RUN, "n": 400, "labelled": 300, "fractions": (1.0,), "seeds": (0,), "size": 24}
    budget = {"rates": (6e-3,), "steps": (150,), "batch_size": 32}
    table, _ = runs.supervised("ConvNet", budget=budget, **run)
    assert table["supervised ConvNet"]["fine-tuned"]["texture"]["100"][0] > 0.5  # guessing: .25
    runs.fine_tuned(steps=3, budget={**budget, "steps": (1,)}, **run)
    images = runs._pictures(400, 300, 24)["texture"].train.x
    trained, _ = runs.train_autoencoder(images, 0, steps=3)
    for found, right in zip(starts[1].parameters(), trained.encoder.parameters(), strict=True):
        assert torch.equal(found, right)


def test_the_ratio_sweep_reads_every_ratio_and_returns_a_model_of_each():
    table, models = runs.ratio_sweep(
        CPU, ratios=(0.5, 0.75), seeds=(0, 1), n=64, labelled=40, tested=40, size=16, width=32,
        depth=1, steps=2, batch_size=16, fractions=(1.0,),
    )  # fmt: skip
    assert set(table) == {"untrained", "0.5", "0.75"}
    assert {r: m.mask_ratio for r, m in models.items()} == {"0.5": 0.5, "0.75": 0.75}
    for readings in table.values():
        assert all(len(by["100"]) == 2 for by in readings["ridge probe"].values())


TINY_MAE = speed.SpeedSizes(
    image=32, patch=8, width=32, depth=2, heads=2, decoder_width=16, decoder_depth=2,
    decoder_heads=2, batch=4,
)  # fmt: skip


def test_the_defaults_of_a_step_are_the_papers_and_both_models_have_the_same_weights():
    assert speed.SpeedSizes().patches == 196
    count = {
        who: sum(p.numel() for p in make().parameters() if p.requires_grad)
        for who, make in (("ours", TINY_MAE.ours), ("theirs", TINY_MAE.theirs))
    }
    # transformers' queries, keys and values are three layers with the same weights together.
    assert count["ours"] == count["theirs"]


def test_the_speed_of_a_step_is_measured_in_turns_and_its_parts_add_up(capsys):
    found = speed.measure_speed(
        CPU, TINY_MAE, repeats=3, ratios=(0.25, 0.75), compiled=False, peak_size=64
    )
    assert set(found["speed"]) == {"float32 (TF32)", "bfloat16"}
    for by in found["speed"].values():
        assert {who: len(v) for who, v in by.items()} == {"ours": 3, "transformers": 3}
        assert all(value > 0 for v in by.values() for value in v)
    assert found["profile"]["matrix products"] > 0
    assert found["profile"][speed.REST] > 0
    assert found["ratios"]["0.25"]["gflop"] > found["ratios"]["0.75"]["gflop"]
    assert found["kernel"] in (None, *speed.BACKENDS)
    speed.report_speed(found)
    assert "transformers, bfloat16" in capsys.readouterr().out


def test_compiled_blocks_are_all_blocks_of_both_models_and_compute_the_same():
    for make in (TINY_MAE.ours, TINY_MAE.theirs):
        blocks = [b for m in make().modules() if isinstance(m, nn.ModuleList) for b in m]
        assert len(blocks) == TINY_MAE.depth + TINY_MAE.decoder_depth
    model = TINY_MAE.ours()
    images, noise = torch.rand(2, 3, 32, 32), torch.rand(2, 16)
    expected = model.training_loss(images, noise)
    speed.compile_blocks(model)
    assert all(b._compiled_call_impl is not None for b in model.encoder.blocks)
    assert torch.allclose(model.training_loss(images, noise), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("nvjet_tst_128x256_64x4_1x2_h_bz_coopA_NNT", "matrix products"),
        ("void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm>", "matrix products"),
        ("void pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel", "attention"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma", "attention"),
        ("fmha_cutlassB_bf16_aligned_64x64_k64_sm80", "attention"),
        ("void at::native::multi_tensor_apply_kernel<FusedAdamMathFunctor>", "optimizer"),
        ("Memcpy DtoD (Device -> Device)", "copies"),
        ("triton_per_fused_native_layer_norm_flash_attention_addmm_3", speed.REST),
        ("void at::native::reduce_kernel<512, 1, MeanOps>", speed.REST),
    ],
)
def test_kernels_are_told_by_their_names(kernel, kind):
    assert speed.kind_of_kernel(kernel) == kind


# --- SimMIM ----------------------------------------------------------------------------------


def test_what_simmim_learned_is_read_from_every_contestant_and_reading():
    table = simmim_runs.frozen(
        n=64, labelled=60, tested=40, steps=2, shares=(0.5, 1.0), seeds=(0, 1)
    )
    readings = {"class token", "mean of patches", "all patches", "k-NN"}
    assert {name: set(by) for name, by in table.items()} == {
        "pixels": {"all patches", "k-NN"},
        "random encoder": readings,
        "SimMIM, pixels": readings,
        "SimMIM, normalised": readings,
    }
    for by_reading in table.values():
        for by_factor in by_reading.values():
            assert set(by_factor) == set(simmim_runs.FACTORS)
            for by_share in by_factor.values():
                assert list(by_share) == ["50", "100"]
                assert all(0 <= v <= 1 and len(vs) == 2 for vs in by_share.values() for v in vs)


def test_simmim_and_random_weights_are_trained_with_one_budget():
    table, rates = simmim_runs.fine_tuned(
        n=64, labelled=40, tested=30, steps=2, shares=(1.0,), seeds=(0,), rates=(1e-3, 2e-3),
        label_steps=3,
    )  # fmt: skip
    assert set(table) == set(rates) == {"random weights", "SimMIM"}
    assert all(by["100"][0] in (1e-3, 2e-3) for by in rates.values())


GRID = simmim_grid.GridSizes(
    size=16, width=16, depth=1, heads=2, unlabelled=40, labelled=200, tested=50, batch=8, steps=3,
    label_steps=3,
)  # fmt: skip


def test_the_grid_of_masks_fills_its_table_and_paints_hidden_pixels_only():
    kinds = (simmim_grid.Kind(0.5, 4, False), simmim_grid.Kind(0.5, 8, True))
    table, painted = simmim_grid.ratio_and_block(CPU, GRID, kinds=kinds, seeds=(0, 1))
    assert list(table) == ["0.5, 4 px, pixels", "0.5, 8 px, normalised", "untrained"]
    for columns in table.values():
        assert list(columns) == [
            "probe shape", "probe hue", "probe texture", "trained on 1 %", "trained on 10 %"
        ]  # fmt: skip
        assert all(len(v) == 2 for by in columns.values() for v in by.values())
    assert set(painted.rows) == {"0.5, 4 px, pixels"}
    masked, restored = painted.rows["0.5, 4 px, pixels"]
    hidden = (masked == 0.75).all(1, keepdim=True)
    assert hidden.double().mean() == pytest.approx(0.5, abs=0.02)
    seen = (~hidden).expand_as(restored)
    assert torch.equal(restored[seen], painted.pictures[seen])


def test_stacked_models_give_the_outputs_and_gradients_of_each_alone():
    painters = [simmim_grid._Painter(GRID, seed) for seed in (0, 1)]
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, 16, 16, generator=generator)
    masks = (torch.rand(2, 3, 16, generator=generator) < 0.5).float()
    weights, run = simmim_grid._stack(painters)
    together = run(images, masks, shared=(True, False))
    together.square().sum().backward()
    for i, painter in enumerate(painters):
        alone = painter(images, masks[i])
        assert torch.allclose(together[i], alone, atol=1e-5)
        alone.square().sum().backward()
        for name, parameter in painter.named_parameters():
            if parameter.grad is not None:
                assert torch.allclose(weights[name].grad[i], parameter.grad, atol=1e-4), name


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


# --- Guesses without a network ---------------------------------------------------------------


def test_the_linear_guess_finds_what_is_linear_in_the_visible_pixels():
    """Every patch is a multiple of one number, so one visible patch tells all others."""
    generator = torch.Generator().manual_seed(0)
    pattern = torch.randn(1, 3, 8, 12, generator=generator).double()
    images = torch.randn(40, 1, 1, 1, generator=generator) * pattern
    mask = (torch.rand(8, 6, generator=generator).argsort(1) > 0).float()  # one patch is visible
    guess = painting.linear_guess(images[8:], images[:8], mask, 4, decay=1e-6)
    torch.testing.assert_close(guess, images[:8], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("by", ["linear", "smooth"])
def test_a_guess_leaves_visible_patches_and_does_not_look_at_hidden_ones(by):
    generator = torch.Generator().manual_seed(0)
    known, images = torch.rand(2, 20, 3, 8, 8, generator=generator)
    mask = torch.tensor([[1.0, 0, 0, 1]]).repeat(20, 1)
    hidden = unpatchify(mask[..., None].expand(-1, -1, 48), 4, (8, 8)).bool()

    def guess(x):
        if by == "linear":
            return painting.linear_guess(known, x, mask, 4)
        return painting.smooth_guess(x, mask, 4, 1.0)

    painted = guess(images)
    assert torch.equal(painted[~hidden], images[~hidden])
    assert torch.equal(painted, guess(torch.where(hidden, torch.tensor(0.5), images)))
    with pytest.raises(ValueError, match="mask must be"):
        painting.smooth_guess(images, mask[:, :3], 4, 1.0)


def test_the_smooth_guess_of_great_width_is_the_mean_colour_of_what_is_visible():
    images = torch.rand(3, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[0.0, 1, 1, 0, 1, 1]]).repeat(3, 1)
    visible = patchify(images, 4)[:, [0, 3]].unflatten(2, (16, 3)).mean((1, 2))  # (3, 3)
    painted = patchify(painting.smooth_guess(images, mask, 4, 1e4), 4)[:, 1].unflatten(1, (16, 3))
    torch.testing.assert_close(painted, visible[:, None].expand(-1, 16, -1))
