"""Schedules: equal to other libraries' over whole runs, and right where those are not."""

from __future__ import annotations

import copy
import functools
import io
import json
import math
import random
import re
import warnings

import numpy as np
import pytest
import torch
import transformers.optimization as hf
from lion_pytorch import Lion as PeerLion
from schedulefree import AdamWScheduleFree as PeerScheduleFree
from torch.optim import SGD, Adagrad, Adam, AdamW
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    LambdaLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    SequentialLR,
)

from dlcourse.large_scale_training import (
    AdamWScheduleFree,
    Lion,
    MultiplierLR,
    WarmupCosineLR,
    cosine_multiplier,
    cosine_with_restarts,
    cosine_with_warmup,
    one_cycle,
    one_cycle_momentum,
    one_cycle_multiplier,
    restarts_multiplier,
    warmup_stable_decay,
    wsd_multiplier,
)

SEEDS = range(25)
TOLERANCE = {"rel": 0, "abs": 1e-9}

# One schedule of each kind, 40 steps long, with a warm-up and a floor where it has them.
SCHEDULES = {
    "cosine": lambda optimizer: cosine_with_warmup(optimizer, 5, 40, min_lr_ratio=0.1),
    "restarts": lambda optimizer: cosine_with_restarts(optimizer, 5, 5, 3, min_lr_ratio=0.1),
    "stable": lambda optimizer: warmup_stable_decay(optimizer, 5, 40, min_lr_ratio=0.1),
    "absolute": lambda optimizer: WarmupCosineLR(optimizer, 5, 40, min_lr=1e-3),
    "one cycle": lambda optimizer: one_cycle(optimizer, (0.3, 0.1), 40),
}
every_schedule = pytest.mark.parametrize("build", SCHEDULES.values(), ids=SCHEDULES.keys())


def make_optimizer(*rates: float, kind=SGD, **options):
    """An optimizer with one group of one parameter for each rate, and gradients of one."""
    groups = []
    for rate in rates or (0.1,):
        weight = torch.nn.Parameter(torch.ones(3))
        weight.grad = torch.ones(3)
        groups.append({"params": [weight], "lr": rate})
    optimizer = kind(groups, **options)
    if hasattr(optimizer, "train"):  # Schedule-Free
        optimizer.train()
    return optimizer


def current_rates(optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def run(optimizer, scheduler, steps: int) -> list[list[float]]:
    """Take steps and return the rates that they used: (steps, groups)."""
    used = []
    for _ in range(steps):
        used.append(current_rates(optimizer))
        optimizer.step()
        scheduler.step()
    return used


def used_by(build, steps: int, *rates: float, **options) -> list[list[float]]:
    optimizer = make_optimizer(*rates, **options)
    return run(optimizer, build(optimizer), steps)


def assert_same_runs(ours, theirs) -> None:
    assert len(ours) == len(theirs)
    for step, (mine, peer) in enumerate(zip(ours, theirs, strict=True)):
        assert mine == pytest.approx(peer, **TOLERANCE), f"at step {step}"


def drawn(seed: int) -> tuple[random.Random, int, int, tuple[float, float]]:
    """Random warm-up W, training steps T > W, and the rates of two groups."""
    rng = random.Random(seed)
    total = rng.randint(2, 200)
    warmup = rng.choice([0, 1, rng.randint(0, total - 1)])
    return rng, min(warmup, total - 1), total, (10 ** rng.uniform(-4, 0), 10 ** rng.uniform(-4, 0))


# ----------------------------------------------------------------- equal to other libraries


@pytest.mark.parametrize("seed", SEEDS)
def test_cosine_equals_transformers_up_to_its_last_step(seed):
    rng, warmup, total, rates = drawn(seed)
    cycles = rng.choice([0.5, 1, 1.5, rng.uniform(0.1, 3)])
    assert_same_runs(
        used_by(lambda o: cosine_with_warmup(o, warmup, total, cycles), total, *rates),
        used_by(
            lambda o: hf.get_cosine_schedule_with_warmup(o, warmup, total, cycles),
            total,
            *rates,
        ),
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_cosine_with_a_floor_equals_transformers(seed):
    rng, warmup, total, rates = drawn(seed)
    cycles, ratio = rng.choice([0.5, rng.uniform(0.1, 3)]), rng.random()
    assert_same_runs(
        used_by(lambda o: cosine_with_warmup(o, warmup, total, cycles, ratio), total, *rates),
        used_by(
            lambda o: hf.get_cosine_with_min_lr_schedule_with_warmup(
                o, warmup, total, cycles, min_lr_rate=ratio
            ),
            total,
            *rates,
        ),
    )


def timm_cosine(optimizer, warmup, first_cycle, **options):
    from timm.scheduler.cosine_lr import CosineLRScheduler

    scheduler = CosineLRScheduler(
        optimizer,
        t_initial=first_cycle,
        warmup_t=warmup,
        warmup_prefix=True,
        t_in_epochs=False,
        **options,
    )

    class Counted:
        """timm is told the number of the step; ours and PyTorch's schedulers count it."""

        taken = 0

        def step(self):
            self.taken += 1
            scheduler.step_update(self.taken)

    return Counted()


@pytest.mark.parametrize("seed", SEEDS)
def test_cosine_with_a_floor_equals_timm_also_past_the_end(seed):
    rng, warmup, total, (rate, _) = drawn(seed)
    ratio = rng.random()
    assert_same_runs(
        used_by(lambda o: cosine_with_warmup(o, warmup, total, 0.5, ratio), total + 9, rate),
        used_by(
            lambda o: timm_cosine(o, warmup, total - warmup, lr_min=ratio * rate), total + 9, rate
        ),
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_warmup_cosine_lr_equals_timm_also_past_the_end(seed):
    rng, warmup, total, rates = drawn(seed)
    floor = rng.random() * min(rates)
    assert_same_runs(
        used_by(lambda o: WarmupCosineLR(o, warmup, total, floor), total + 9, *rates),
        used_by(
            lambda o: timm_cosine(o, warmup, total - warmup, lr_min=floor, warmup_lr_init=floor),
            total + 9,
            *rates,
        ),
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.filterwarnings("ignore:The epoch parameter")  # SequentialLR's own, inside PyTorch
def test_warmup_cosine_lr_equals_a_chain_of_torch_schedulers(seed):
    rng, warmup, total, (rate, _) = drawn(seed)
    warmup, total = warmup + 1, total + 1  # torch cannot chain an empty ramp
    floor = (0.01 + 0.99 * rng.random()) * rate

    def chain(optimizer):
        ramp = LinearLR(optimizer, start_factor=floor / rate, total_iters=warmup)
        cosine = CosineAnnealingLR(optimizer, T_max=total - warmup, eta_min=floor)
        return SequentialLR(optimizer, [ramp, cosine], milestones=[warmup])

    assert_same_runs(
        used_by(lambda o: WarmupCosineLR(o, warmup, total, floor), total + 1, rate),
        used_by(chain, total + 1, rate),
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_stable_and_decay_phases_equal_transformers(seed):
    rng, warmup, total, rates = drawn(seed)
    fraction = rng.uniform(0, 1 - warmup / total) or 1.0
    decay, ratio = max(1, round(fraction * total)), rng.random()
    warmup = min(warmup, total - decay)

    def theirs(floor):
        return lambda o: hf.get_wsd_schedule(
            o, warmup, decay, num_training_steps=total, decay_type="1-sqrt", min_lr_ratio=floor
        )

    def ours(floor):
        return lambda o: warmup_stable_decay(o, warmup, total, fraction, floor)

    assert_same_runs(used_by(ours(0.0), total + 9, *rates), used_by(theirs(0.0), total + 9, *rates))
    # With a floor transformers' ramp starts at the floor, ours (like its cosine) at 0.
    assert_same_runs(
        used_by(ours(ratio), total + 9, *rates)[warmup:],
        used_by(theirs(ratio), total + 9, *rates)[warmup:],
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_restarts_equal_timm_also_past_the_end(seed):
    rng, warmup, first, (rate, _) = drawn(seed)
    first, ratio = 1 + first % 20, rng.random()
    cycles, growth = rng.randint(1, 4), rng.randint(1, 3)
    steps = warmup + sum(first * growth**i for i in range(cycles)) + 5

    def theirs(optimizer):
        return timm_cosine(
            optimizer, warmup, first, cycle_mul=growth, cycle_limit=cycles, lr_min=ratio * rate
        )

    def ours(optimizer):
        return cosine_with_restarts(optimizer, warmup, first, cycles, growth, ratio)

    assert_same_runs(used_by(ours, steps, rate), used_by(theirs, steps, rate))


def test_timm_restarts_late_where_its_logarithm_is_rounded_down():
    """Ours counts in whole numbers: the fifth restart of cycles that triple is at step 121."""
    steps = sum(3**i for i in range(5))

    def theirs(optimizer):
        return timm_cosine(optimizer, 0, 1, cycle_mul=3, cycle_limit=6)

    ours = used_by(lambda o: cosine_with_restarts(o, 0, 1, 6, 3), steps + 1, 1.0)
    peer = used_by(theirs, steps + 1, 1.0)
    assert_same_runs(ours[:steps], peer[:steps])
    assert (ours[steps], peer[steps]) == ([1.0], [pytest.approx(0)])


@pytest.mark.parametrize("seed", SEEDS)
def test_restarts_equal_torch(seed):
    rng, _, first, (rate, _) = drawn(seed)
    first, growth, floor = 1 + first % 20, rng.randint(1, 3), rng.random()
    steps = sum(first * growth**i for i in range(3))
    assert_same_runs(
        used_by(lambda o: cosine_with_restarts(o, 0, first, 3, growth, floor), steps, rate),
        used_by(
            lambda o: CosineAnnealingWarmRestarts(o, first, growth, eta_min=floor * rate),
            steps,
            rate,
        ),
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("kind", "options"),
    [(SGD, {"momentum": 0.9}), (AdamW, {}), (Adam, {})],
    ids=["SGD", "AdamW", "Adam"],
)
def test_one_cycle_equals_torch_in_rate_and_momentum(seed, kind, options):
    rng, _, total, peaks = drawn(seed)
    total, start = total + 10, rng.uniform(0.2, 0.9)
    mine = make_optimizer(1.0, 2.0, kind=kind, **options)
    theirs = make_optimizer(1.0, 2.0, kind=kind, **options)
    ours = one_cycle(mine, peaks, total, start)
    peer = OneCycleLR(theirs, peaks, total, pct_start=start)
    for step in range(total):
        assert current_rates(mine) == pytest.approx(current_rates(theirs), **TOLERANCE), step
        for group, other in zip(mine.param_groups, theirs.param_groups, strict=True):
            for key in ("momentum", "betas"):
                if key in group:
                    assert group[key] == pytest.approx(other[key], **TOLERANCE), step
        for x in (mine, theirs, ours, *([peer] if step < total - 1 else [])):
            x.step()


@pytest.mark.parametrize("seed", SEEDS)
def test_restarts_of_equal_length_equal_transformers_also_past_the_end(seed):
    rng, warmup, first, rates = drawn(seed)
    cycles = rng.randint(1, 6)
    total = warmup + first * cycles
    hard_restarts = hf.get_cosine_with_hard_restarts_schedule_with_warmup
    assert_same_runs(
        used_by(lambda o: cosine_with_restarts(o, warmup, first, cycles, 1), total + 9, *rates),
        used_by(
            lambda o: hard_restarts(o, warmup, total, cycles),
            total + 9,
            *rates,
        ),
    )


# --------------------------------------------------------------------------------- shapes


def test_warmup_rises_in_equal_steps_from_zero_to_the_base_rate():
    for multiplier in (
        lambda k: cosine_multiplier(k, 4, 40),
        lambda k: wsd_multiplier(k, 4, 40),
        lambda k: restarts_multiplier(k, 4, 12, 2),
    ):
        assert [multiplier(k) for k in range(5)] == [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    "build",
    [
        lambda o: cosine_with_warmup(o, 0, 10),
        lambda o: cosine_with_restarts(o, 0, 10, 1),
        lambda o: warmup_stable_decay(o, 0, 10),
        lambda o: WarmupCosineLR(o, 0, 10),
    ],
)
def test_no_warmup_starts_at_the_base_rate(build):
    assert used_by(build, 1, 0.3) == [[0.3]]


def test_a_run_that_is_all_warmup_never_gets_to_the_base_rate():
    assert [cosine_multiplier(k, 4, 4) for k in range(6)] == [0.0, 0.25, 0.5, 0.75, 0.0, 0.0]


def test_half_a_cycle_goes_down_once_and_a_whole_one_comes_back_up():
    steps = (0, 50_000, 99_999)
    at = {c: [cosine_multiplier(k, 0, 100_000, num_cycles=c) for k in steps] for c in (0.5, 1, 1.5)}
    assert at[0.5] == pytest.approx([1, 0.5, 0], abs=1e-8)
    assert at[1] == pytest.approx([1, 0, 1], abs=1e-8)
    assert at[1.5] == pytest.approx([1, 0.5, 0], abs=1e-8)


def test_the_floor_is_reached_by_interpolation_and_only_at_the_end():
    """Half-way a cosine with floor r is at r + (1 − r) / 2; clipped at r, it would be at 1/2."""
    assert cosine_multiplier(50, 0, 100, min_lr_ratio=0.4) == pytest.approx(0.7)
    values = [cosine_multiplier(k, 0, 100, min_lr_ratio=0.4) for k in range(101)]
    assert all(later < earlier for earlier, later in zip(values, values[1:]))
    assert values[-1] == pytest.approx(0.4)


def test_stable_phase_is_flat_and_does_not_know_the_length_of_the_run():
    for total in (100, 1_000, 12_345):
        assert [wsd_multiplier(k, 10, total) for k in range(80)] == [
            min(1.0, k / 10) for k in range(80)
        ]


def test_decay_falls_as_one_minus_the_root_of_its_progress():
    # 20 % of 100 steps: the decay starts at step 80; a quarter of it is step 85: 1 − √¼ = ½.
    assert [wsd_multiplier(k, 10, 100) for k in (79, 80, 85, 100)] == pytest.approx([1, 1, 0.5, 0])


def test_decay_takes_its_share_of_the_steps_and_at_least_one():
    assert [wsd_multiplier(k, 0, 10, 1.0) for k in (0, 1)] == pytest.approx([1, 1 - math.sqrt(0.1)])
    assert [wsd_multiplier(k, 0, 10, 1e-6) for k in (8, 9, 10)] == [1, 1, 0]


def test_each_cycle_restarts_at_the_base_rate_and_is_longer_by_the_growth():
    values = [restarts_multiplier(k, 2, 3, 3, cycle_growth=2) for k in range(30)]
    assert [k for k, value in enumerate(values) if value == 1.0] == [2, 5, 11]  # 2, +3, +6
    assert [k for k, value in enumerate(values) if value == 0.0] == [0, *range(23, 30)]  # + 12


def test_one_cycle_goes_from_a_25th_to_the_peak_to_almost_nothing():
    # pct_start · T − 1 = 29 is the peak.
    values = [one_cycle_multiplier(k, 100) for k in (0, 29, 99)]
    assert values == pytest.approx([1 / 25, 1, 1 / 250_000])
    assert [one_cycle_momentum(k, 100) for k in (0, 29, 99)] == pytest.approx([0.95, 0.85, 0.95])


@every_schedule
def test_past_the_last_step_the_rate_stays_at_its_minimum(build):
    used = used_by(build, 200, 0.1, 0.02)
    last = used[40]
    assert all(rates == last for rates in used[40:])
    by_group = zip(*used[5:], strict=True)  # after the warm-up
    assert all(end == min(rates) for end, rates in zip(last, by_group, strict=True))
    expected = {"absolute": [1e-3, 1e-3], "one cycle": [0.3 / 250_000, 0.1 / 250_000]}
    name = next(name for name, function in SCHEDULES.items() if function is build)
    assert last == pytest.approx(expected.get(name, [0.01, 0.002]))


@pytest.mark.parametrize("cycles", [0.3, 1, 1.25, 2])
def test_past_the_last_step_the_rate_is_the_minimum_whatever_the_number_of_cycles(cycles):
    assert all(cosine_multiplier(k, 5, 40, cycles, 0.1) == 0.1 for k in range(40, 200))
    assert all(cosine_multiplier(k, 40, 40, cycles, 0.1) == 0.1 for k in range(40, 200))


def test_cosines_of_transformers_and_torch_rise_again_past_the_last_step():
    for build in (
        lambda o: hf.get_cosine_schedule_with_warmup(o, 10, 100),
        lambda o: CosineAnnealingLR(o, T_max=100),
    ):
        used = [rate for (rate,) in used_by(build, 150, 0.1)]
        assert used[100] == pytest.approx(0, abs=1e-12)
        assert used[149] > 0.04  # of 0.1


def test_one_cycle_of_torch_bounces_at_the_end_and_then_raises():
    optimizer = make_optimizer(0.1)
    scheduler = OneCycleLR(optimizer, 0.1, total_steps=10)
    assert run(optimizer, scheduler, 10)[-1] == pytest.approx([4e-7])
    assert current_rates(optimizer)[0] > 10_000 * 4e-7  # after the step that ends the run
    with pytest.raises(ValueError, match="Tried to step 11 times"):
        scheduler.step()


# ---------------------------------------------------------------------------- parameter groups


@every_schedule
def test_each_group_keeps_its_own_base_rate(build):
    optimizer = make_optimizer(0.3, 0.1)
    scheduler = build(optimizer)
    alone = [build_alone(build, rate, group) for group, rate in enumerate((0.3, 0.1))]
    assert run(optimizer, scheduler, 50) == [list(rates) for rates in zip(*alone, strict=True)]


def build_alone(build, rate: float, group: int) -> list[float]:
    """The rates of one group, from an optimizer in which both groups have that group's rate."""
    return [rates[group] for rates in used_by(build, 50, rate, rate)]


def test_one_cycle_takes_one_peak_for_all_groups_or_one_for_each():
    for max_lr, expected in ((0.5, [0.5, 0.5]), ([0.5, 0.2], [0.5, 0.2])):
        used = used_by(lambda o, peak=max_lr: one_cycle(o, peak, 20, 0.5), 20, 1.0, 2.0)
        assert [max(rates) for rates in zip(*used, strict=True)] == pytest.approx(expected)


def test_a_rate_held_in_a_tensor_is_changed_in_place():
    """A compiled or captured step reads that very tensor."""
    optimizer = AdamW([torch.nn.Parameter(torch.ones(2))], lr=torch.tensor(0.1))
    held = optimizer.param_groups[0]["lr"]
    scheduler = cosine_with_warmup(optimizer, 0, 10)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] is held
    assert float(held) == pytest.approx(0.1 * cosine_multiplier(1, 0, 10))
    scheduler.move_to(5)
    assert optimizer.param_groups[0]["lr"] is held
    assert float(held) == pytest.approx(0.05)
    assert float(scheduler.get_last_lr()[0]) == pytest.approx(0.05)


# ----------------------------------------------------------------------------- stepping order


@every_schedule
def test_the_kth_optimizer_step_uses_the_rate_of_step_k(build):
    optimizer = make_optimizer(0.1, 0.02)
    scheduler = build(optimizer)
    used = []
    optimizer.register_step_pre_hook(lambda o, *_: used.append(current_rates(o)))
    for step in range(45):
        assert scheduler.get_last_lr() == current_rates(optimizer)
        optimizer.step()
        scheduler.step()
    assert used == [scheduler.rates_at(step) for step in range(45)]


def test_a_step_changes_the_weights_by_rate_times_gradient():
    optimizer = make_optimizer(0.5)
    scheduler = cosine_with_warmup(optimizer, 2, 10)
    (weight,) = optimizer.param_groups[0]["params"]
    run(optimizer, scheduler, 3)
    # gradient 1, rates 0, ¼, ½: the first step of a warm-up from zero moves nothing
    assert torch.equal(weight, torch.full((3,), 1 - 0 - 0.25 - 0.5))


def test_stepping_the_schedule_before_the_optimizer_skips_its_first_rate():
    optimizer = make_optimizer(0.1)
    scheduler = cosine_with_warmup(optimizer, 4, 10)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        scheduler.step()
    assert current_rates(optimizer) == [0.1 * 0.25]


@every_schedule
def test_every_schedule_is_a_torch_scheduler(build):
    assert isinstance(build(make_optimizer(0.1, 0.02)), LRScheduler)


# ------------------------------------------------------------------------------------ momentum


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        (SGD, "momentum", 0),
        (Lion, "betas", (0.9, 0.99)),
        (PeerLion, "betas", (0.9, 0.99)),
        (AdamWScheduleFree, "betas", (0.9, 0.999)),
        (PeerScheduleFree, "betas", (0.9, 0.999)),
    ],
)
def test_one_cycle_leaves_coefficients_that_are_no_momentum_alone(kind, key, value):
    optimizer = make_optimizer(0.1, kind=kind)
    scheduler = one_cycle(optimizer, 0.1, 20)
    for _ in range(25):
        assert optimizer.param_groups[0][key] == value
        optimizer.step()
        scheduler.step()


def test_one_cycle_runs_on_an_optimizer_without_momentum():
    assert used_by(lambda o: one_cycle(o, 0.1, 20), 20, kind=Adagrad) == used_by(
        lambda o: one_cycle(o, 0.1, 20), 20, kind=SGD
    )


def test_one_cycle_cycles_only_the_groups_that_have_momentum():
    optimizer = make_optimizer(0.1, 0.1, momentum=0.9)
    optimizer.param_groups[1]["momentum"] = 0
    scheduler = one_cycle(optimizer, 0.1, 20)
    for step in range(25):
        assert [g["momentum"] for g in optimizer.param_groups] == [one_cycle_momentum(step, 20), 0]
        optimizer.step()
        scheduler.step()


def test_one_cycle_keeps_the_second_beta():
    optimizer = make_optimizer(0.1, kind=AdamW, betas=(0.9, 0.98))
    scheduler = one_cycle(optimizer, 0.1, 20)
    run(optimizer, scheduler, 3)
    assert optimizer.param_groups[0]["betas"] == (one_cycle_momentum(3, 20), 0.98)


# -------------------------------------------------------------------------------------- resuming


def through_a_file(state):
    """Save and load as a checkpoint is: with the loader that refuses anything but plain data."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@every_schedule
@pytest.mark.parametrize("saved_at", [0, 1, 5, 17, 39, 40, 60])
@pytest.mark.parametrize("optimizer_first", [True, False])
def test_a_resumed_run_uses_the_same_rates_to_the_bit(build, saved_at, optimizer_first):
    optimizer = make_optimizer(0.1, 0.02, kind=AdamW)
    scheduler = build(optimizer)
    run(optimizer, scheduler, saved_at)
    saved = {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
    saved = through_a_file(saved)

    fresh = make_optimizer(0.7, 0.7, kind=AdamW)  # even its rates come from the checkpoint
    if optimizer_first:
        fresh.load_state_dict(saved["optimizer"])
        resumed = build(fresh)
        resumed.load_state_dict(saved["scheduler"])
    else:
        resumed = build(fresh)
        resumed.load_state_dict(saved["scheduler"])
        fresh.load_state_dict(saved["optimizer"])

    assert resumed.state_dict() == scheduler.state_dict()
    assert resumed.get_last_lr() == scheduler.get_last_lr()
    for _ in range(50):
        for ours, theirs in zip(fresh.param_groups, optimizer.param_groups, strict=True):
            assert (ours["lr"], ours["betas"]) == (theirs["lr"], theirs["betas"])
        run(fresh, resumed, 1)
        run(optimizer, scheduler, 1)


def test_resuming_gives_the_weights_of_the_uninterrupted_run():
    def start():
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 1)
        optimizer = AdamW(model.parameters(), lr=0.05)
        return model, optimizer, one_cycle(optimizer, 0.05, 30)

    def train(model, optimizer, scheduler, steps):
        for step in steps:
            x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            (model(x) - x.sum(1, keepdim=True)).square().mean().backward()
            optimizer.step()
            scheduler.step()

    whole, first, second = start(), start(), start()
    train(*whole, range(30))
    train(*first, range(13))
    saved = through_a_file([part.state_dict() for part in first])
    for part, state in zip(second, saved, strict=True):
        part.load_state_dict(state)
    train(*second, range(13, 30))
    assert torch.equal(second[0].weight, whole[0].weight)
    assert torch.equal(second[0].bias, whole[0].bias)


@every_schedule
def test_the_state_is_plain_numbers_and_shares_nothing_with_the_scheduler(build):
    scheduler = build(make_optimizer(0.1, 0.02))
    state = scheduler.state_dict()
    assert json.loads(json.dumps(state)) == state
    before = copy.deepcopy(state)
    state["settings"].clear()
    state["base_lrs"].clear()
    assert scheduler.state_dict() == before


def test_numpy_counts_are_saved_as_plain_numbers():
    scheduler = cosine_with_warmup(make_optimizer(0.1), np.int64(5), np.int32(40), np.float64(0.5))
    assert through_a_file(scheduler.state_dict())["settings"]["num_training_steps"] == 40


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        (lambda o: cosine_with_warmup(o, 5, 80, min_lr_ratio=0.1), "num_training_steps': 40"),
        (lambda o: cosine_with_warmup(o, 6, 40, min_lr_ratio=0.1), "num_warmup_steps': 5"),
        (lambda o: cosine_with_warmup(o, 5, 40), "min_lr_ratio': 0.1"),
        (lambda o: warmup_stable_decay(o, 5, 40, min_lr_ratio=0.1), "cosine_multiplier"),
    ],
)
def test_a_state_of_another_schedule_is_refused_and_changes_nothing(other, complaint):
    saved_optimizer = make_optimizer(0.1)
    saved = cosine_with_warmup(saved_optimizer, 5, 40, min_lr_ratio=0.1)
    run(saved_optimizer, saved, 12)
    optimizer = make_optimizer(0.2)
    scheduler = other(optimizer)
    before = scheduler.state_dict(), current_rates(optimizer)
    with pytest.raises(ValueError, match=complaint) as error:
        scheduler.load_state_dict(saved.state_dict())
    assert "move_to(12)" in str(error.value)
    assert (scheduler.state_dict(), current_rates(optimizer)) == before


def test_a_state_with_another_number_of_groups_is_refused():
    saved = cosine_with_warmup(make_optimizer(0.1, 0.2), 5, 40).state_dict()
    scheduler = cosine_with_warmup(make_optimizer(0.1), 5, 40)
    with pytest.raises(ValueError, match="2 parameter groups, the optimizer has 1"):
        scheduler.load_state_dict(saved)


def test_a_state_of_another_kind_of_scheduler_is_refused():
    theirs = LambdaLR(make_optimizer(0.1), lambda step: 1.0).state_dict()
    with pytest.raises(ValueError, match="not the state of a MultiplierLR"):
        cosine_with_warmup(make_optimizer(0.1), 5, 40).load_state_dict(theirs)


def ramp(step, slope):
    return step * slope


@pytest.mark.parametrize(
    ("saved", "other", "complaint"),
    [
        (lambda k: 1 / (1 + k), lambda k: 0.5 ** (k / 10), "both are called"),
        (lambda k: 1.0 if k < 9 else 0.1, lambda k: 1.0 if k < 900 else 0.1, "at step 11"),
        (
            functools.partial(ramp, slope=0.1),
            functools.partial(ramp, slope=0.2),
            "schedule ramp(slope=0.1), here ramp(slope=0.2)",
        ),
        (functools.partial(ramp, slope=0.1), lambda k: 0.1 * k, "schedule ramp(slope=0.1), here"),
        ([1.0, 0.5, 0.25].__getitem__, [1.0, 0.5, 0.2, 0.1].__getitem__, "at step 2"),
    ],
)
def test_functions_of_one_name_are_told_apart_by_their_values(saved, other, complaint):
    optimizer = make_optimizer(0.1)
    schedule = MultiplierLR(optimizer, saved)
    run(optimizer, schedule, 2)
    state = through_a_file(schedule.state_dict())
    again = MultiplierLR(make_optimizer(0.1), saved)
    again.load_state_dict(state)
    assert again.get_last_lr() == schedule.get_last_lr() and again.last_epoch == 2

    wrong = MultiplierLR(make_optimizer(0.1), other)
    before = wrong.state_dict()
    with pytest.raises(ValueError, match=re.escape(complaint)) as error:
        wrong.load_state_dict(state)
    assert "move_to(2)" in str(error.value)
    assert wrong.state_dict() == before


def test_a_callable_object_can_be_a_schedule():
    class Halving:
        def __call__(self, step):
            return 0.5**step

    schedule = MultiplierLR(make_optimizer(0.8), Halving())
    assert schedule.state_dict()["schedule"].endswith("Halving")
    assert schedule.rates_at(2) == [0.2]


@every_schedule
def test_a_group_that_is_added_later_joins_with_its_own_rate(build):
    optimizer = make_optimizer(0.1, 0.02)
    schedule = build(optimizer)
    run(optimizer, schedule, 3)
    weight = torch.nn.Parameter(torch.ones(3))
    weight.grad = torch.ones(3)
    optimizer.add_param_group({"params": [weight], "lr": 0.4})
    optimizer.step()
    schedule.step()
    assert schedule.last_epoch == 4
    shares = [rate / base for rate, base in zip(current_rates(optimizer), schedule.base_lrs)]
    floor = schedule.state_dict()["settings"]["min_lr"]
    if not floor:
        assert shares == pytest.approx([shares[0]] * 3)
    assert schedule.rates_at(4) == pytest.approx(current_rates(optimizer))
    assert schedule.base_lrs[2] == 0.4 == optimizer.param_groups[2]["initial_lr"]
    assert len(schedule.state_dict()["base_lrs"]) == 3
    schedule.move_to(20)
    assert schedule.get_last_lr() == pytest.approx(schedule.rates_at(20))


@every_schedule
def test_a_step_that_cannot_be_taken_changes_nothing(build):
    optimizer = make_optimizer(0.1, 0.02, kind=AdamW)
    schedule = build(optimizer)
    run(optimizer, schedule, 3)
    before = schedule.state_dict(), current_rates(optimizer)
    lost = optimizer.param_groups.pop()
    for call in (schedule.step, lambda: schedule.move_to(7)):
        with pytest.raises(ValueError, match="built for 2 parameter groups, the optimizer has 1"):
            call()
    optimizer.param_groups.append(lost)
    assert (schedule.state_dict(), current_rates(optimizer)) == before


def test_a_shape_that_ends_stops_the_schedule_where_it_stands():
    optimizer = make_optimizer(0.1)
    schedule = MultiplierLR(optimizer, [1.0, 0.5].__getitem__)
    run(optimizer, schedule, 1)
    before = schedule.state_dict(), current_rates(optimizer)
    for call in (schedule.step, lambda: schedule.move_to(2)):
        with pytest.raises(IndexError):
            call()
        assert (schedule.state_dict(), current_rates(optimizer)) == before


def test_a_new_group_below_the_floor_is_refused_and_changes_nothing():
    optimizer = make_optimizer(0.1)
    schedule = WarmupCosineLR(optimizer, 0, 10, min_lr=0.01)
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.001})
    with pytest.raises(ValueError, match="smallest base rate, 0.001"):
        schedule.step()
    assert (schedule.last_epoch, current_rates(optimizer)) == (0, [0.1, 0.001])


@pytest.mark.parametrize("wrong", [-1, 2.5, math.nan, None, "3"])
def test_a_state_with_an_impossible_step_changes_nothing(wrong):
    schedule = cosine_with_warmup(make_optimizer(0.1), 5, 40)
    before = schedule.state_dict()
    with pytest.raises(ValueError, match="step must be a whole number"):
        schedule.load_state_dict(before | {"last_epoch": wrong, "base_lrs": [7.0]})
    assert schedule.state_dict() == before


def test_a_state_of_one_cycle_is_not_that_of_its_shape_alone():
    """The shape alone moves no momentum."""
    state = MultiplierLR(
        make_optimizer(0.1), one_cycle_multiplier, total_steps=40, pct_start=0.3
    ).state_dict()
    with pytest.raises(ValueError, match="schedule one_cycle_multiplier, here one_cycle"):
        one_cycle(make_optimizer(0.1), 0.1, 40).load_state_dict(state)


def test_two_schedules_on_one_optimizer_do_not_multiply():
    optimizer = make_optimizer(0.1)
    first, second = cosine_with_warmup(optimizer, 0, 10), warmup_stable_decay(optimizer, 0, 10)
    optimizer.step()
    first.step()
    second.step()
    assert current_rates(optimizer) == second.rates_at(1) == [0.1]


def test_dinos_warmup_is_at_the_full_rate_one_step_earlier():
    dino = np.linspace(0, 1, 10)  # over W = 10 steps, the first at 0 and the last at 1
    assert [cosine_multiplier(k, 10, 100) for k in (9, 10)] == [0.9, 1.0]
    assert dino[9] == 1.0


@pytest.mark.parametrize("momentum", [0.85, 0.95])
def test_momentum_lengthens_the_steps_of_sgd_and_not_those_of_adam(momentum):
    def step_length(kind, **options):
        weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = kind([weight], lr=0.01, **options)
        for _ in range(400):
            weight.grad, before = torch.ones_like(weight), weight.detach().clone()
            optimizer.step()
        return (before - weight.detach()).item() / 0.01

    assert step_length(SGD, momentum=momentum) == pytest.approx(1 / (1 - momentum), rel=1e-6)
    adam = step_length(AdamW, betas=(momentum, 0.999), weight_decay=0.0)
    assert adam == pytest.approx(1, rel=1e-6)


def test_a_rate_that_is_a_tensor_resumes_to_the_bit():
    def start():
        weight = torch.nn.Parameter(torch.ones(3))
        optimizer = AdamW([weight], lr=torch.tensor(0.1))
        return weight, optimizer, cosine_with_warmup(optimizer, 3, 20)

    def go(parts, steps):
        weight, optimizer, schedule = parts
        for _ in range(steps):
            weight.grad = weight.detach().sin()
            optimizer.step()
            schedule.step()

    whole, stopped, resumed = start(), start(), start()
    go(whole, 20)
    go(stopped, 9)
    saved = through_a_file([stopped[1].state_dict(), stopped[2].state_dict()])
    resumed[0].data.copy_(stopped[0])
    resumed[1].load_state_dict(saved[0])
    resumed[2].load_state_dict(saved[1])
    go(resumed, 11)
    assert torch.equal(whole[0], resumed[0])


SCALARS = {"python": (int, float), "numpy": (np.int64, np.float64), "array": (np.array, np.array)}
SCALARS["tensor"] = (torch.tensor, lambda x: torch.tensor(x, dtype=torch.float64))


@pytest.mark.parametrize("kind", SCALARS)
def test_counts_and_rates_of_any_number_type_save_load_and_resume_alike(kind):
    whole, real = SCALARS[kind]
    builds = {
        "cosine": lambda o: cosine_with_warmup(o, whole(5), whole(40), real(0.5), real(0.1)),
        "restarts": lambda o: cosine_with_restarts(
            o, whole(5), whole(5), whole(3), whole(2), real(0.1)
        ),
        "stable": lambda o: warmup_stable_decay(o, whole(5), whole(40), real(0.2), real(0.1)),
        "absolute": lambda o: WarmupCosineLR(o, whole(5), whole(40), real(1e-3)),
        "one cycle": lambda o: one_cycle(o, [real(0.3), real(0.1)], whole(40), real(0.3)),
    }

    for name, build in builds.items():
        plain = make_optimizer(0.1, 0.02, kind=AdamW)
        reference = SCHEDULES[name](plain)
        expected = run(plain, reference, 20)
        rates = (0.1, 0.02) if kind == "array" else (real(0.1), real(0.02))
        optimizer = make_optimizer(*rates, kind=AdamW)
        schedule = build(optimizer)
        assert np.allclose(run(optimizer, schedule, 12), expected[:12])
        assert all(type(rate) is float for rate in schedule.base_lrs)
        through_a_file(optimizer.state_dict())
        state = through_a_file(schedule.state_dict())
        assert json.loads(json.dumps(state)) == state
        fresh = make_optimizer(0.1, 0.02, kind=AdamW)
        resumed = SCHEDULES[name](fresh)
        resumed.load_state_dict(state)  # into one that was built with Python's numbers
        assert np.allclose(run(fresh, resumed, 8), expected[12:])
        schedule.move_to(whole(15))
        assert current_rates(optimizer) == pytest.approx(expected[15])


@every_schedule
def test_a_schedule_can_be_moved_to_any_step(build):
    optimizer = make_optimizer(0.1, 0.02, kind=AdamW)
    scheduler = build(optimizer)
    walked_optimizer = make_optimizer(0.1, 0.02, kind=AdamW)
    walked = build(walked_optimizer)
    run(walked_optimizer, walked, 23)
    for step in (30, 4, 23):  # forwards and backwards
        scheduler.move_to(step)
        assert current_rates(optimizer) == scheduler.rates_at(step)
    assert scheduler.state_dict() == walked.state_dict()
    assert optimizer.param_groups[0]["betas"] == walked_optimizer.param_groups[0]["betas"]
    assert run(optimizer, scheduler, 10) == run(walked_optimizer, walked, 10)


def test_a_moved_schedule_is_not_taken_for_one_that_skips_its_first_rate():
    """Mixed precision may skip the first optimizer step after resuming: no reason to warn."""
    scheduler = cosine_with_warmup(make_optimizer(0.1), 0, 10)
    scheduler.move_to(5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler.step()
    assert scheduler.last_epoch == 6


def test_a_decay_branched_off_a_stable_run_is_the_run_planned_for_that_length():
    def train(optimizer, scheduler, steps):
        (weight,) = optimizer.param_groups[0]["params"]
        for _ in range(steps):
            weight.grad = weight.detach() - torch.tensor([0.0, 2.0, -1.0])
            optimizer.step()
            scheduler.step()
        return weight.detach().clone()

    planned = make_optimizer(0.1, kind=AdamW)
    expected = train(planned, warmup_stable_decay(planned, 5, 60), 60)

    stable = make_optimizer(0.1, kind=AdamW)  # knows only that it will be long
    train(stable, warmup_stable_decay(stable, 5, 1_000), 48)
    branch = make_optimizer(0.1, kind=AdamW)
    branch.load_state_dict(stable.state_dict())
    branch.param_groups[0]["params"][0].data.copy_(stable.param_groups[0]["params"][0])
    schedule = warmup_stable_decay(branch, 5, 60)
    schedule.move_to(48)
    assert torch.equal(train(branch, schedule, 12), expected)


def test_a_second_schedule_starts_from_the_base_rate_of_the_first():
    optimizer = make_optimizer(0.1)
    run(optimizer, cosine_with_warmup(optimizer, 0, 10), 9)
    assert cosine_with_warmup(optimizer, 0, 10).get_last_lr() == [0.1]
    # One-cycle is given its peak, and takes that.
    assert one_cycle(optimizer, 0.5, 10, 0.5).rates_at(4) == pytest.approx([0.5])


def test_the_floor_of_a_second_schedule_is_held_against_the_base_rate():
    optimizer = make_optimizer(0.1)
    run(optimizer, cosine_with_warmup(optimizer, 0, 10), 9)
    assert WarmupCosineLR(optimizer, 0, 10, min_lr=0.05).rates_at(10) == pytest.approx([0.05])


# ------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda o: cosine_with_warmup(o, -1, 10), "warm-up steps must be a whole number, 0"),
        (lambda o: cosine_with_warmup(o, 1.0, 10), "warm-up steps must be a whole number"),
        (lambda o: cosine_with_warmup(o, True, 10), "warm-up steps must be a whole number"),
        (lambda o: cosine_with_warmup(o, "3", 10), "warm-up steps must be a whole number"),
        (lambda o: cosine_with_warmup(o, 0, 0), "training steps must be a whole number, 1"),
        (lambda o: cosine_with_warmup(o, 0, -5), "training steps must be a whole number, 1"),
        (lambda o: cosine_with_warmup(o, 0, 10.5), "training steps must be a whole number"),
        (lambda o: cosine_with_warmup(o, 11, 10), "does not fit in 10 training steps"),
        (lambda o: cosine_with_warmup(o, 0, 10, 0), "num_cycles must be above 0"),
        (lambda o: cosine_with_warmup(o, 0, 10, -0.5), "num_cycles must be above 0"),
        (lambda o: cosine_with_warmup(o, 0, 10, math.nan), "num_cycles must be above 0"),
        (lambda o: cosine_with_warmup(o, 0, 10, math.inf), "num_cycles must be above 0"),
        (lambda o: cosine_with_warmup(o, 0, 10, 0.5, -0.1), "min_lr_ratio is a share"),
        (lambda o: cosine_with_warmup(o, 0, 10, 0.5, 1.1), "min_lr_ratio is a share"),
        (lambda o: cosine_with_warmup(o, 0, 10, 0.5, math.nan), "min_lr_ratio is a share"),
        (lambda o: cosine_with_warmup(o, 0, 10, 0.5, True), "min_lr_ratio is a share"),
        (lambda o: cosine_with_restarts(o, -1, 10, 2), "warm-up steps must be a whole number"),
        (lambda o: cosine_with_restarts(o, 0, 0, 2), "first_cycle_steps must be a whole number, 1"),
        (lambda o: cosine_with_restarts(o, 0, 10, 0), "num_cycles must be a whole number, 1"),
        (lambda o: cosine_with_restarts(o, 0, 10, 1.5), "num_cycles must be a whole number"),
        (lambda o: cosine_with_restarts(o, 0, 10, 2, 0), "cycle_growth must be a whole number, 1"),
        (lambda o: cosine_with_restarts(o, 0, 10, 2, 2, 2.0), "min_lr_ratio is a share"),
        (lambda o: warmup_stable_decay(o, -1, 10), "warm-up steps must be a whole number"),
        (lambda o: warmup_stable_decay(o, 11, 10), "does not fit in 10 training steps"),
        (lambda o: warmup_stable_decay(o, 9, 10), "warm-up of 9 steps and a decay of 2 do not fit"),
        (lambda o: warmup_stable_decay(o, 0, 10, 0), "decay_fraction must lie in"),
        (lambda o: warmup_stable_decay(o, 0, 10, 1.2), "decay_fraction must lie in"),
        (lambda o: warmup_stable_decay(o, 0, 10, math.nan), "decay_fraction must lie in"),
        (lambda o: warmup_stable_decay(o, 0, 10, 0.2, -1), "min_lr_ratio is a share"),
        (lambda o: WarmupCosineLR(o, -1, 10), "warm-up steps must be a whole number"),
        (lambda o: WarmupCosineLR(o, 11, 10), "does not fit in 10 training steps"),
        (lambda o: WarmupCosineLR(o, 0, 0), "training steps must be a whole number, 1"),
        (lambda o: WarmupCosineLR(o, 0, 10, -1e-5), "min_lr must lie between 0 and the smallest"),
        (lambda o: WarmupCosineLR(o, 0, 10, 0.03), "smallest base rate, 0.02: got 0.03"),
        (lambda o: WarmupCosineLR(o, 0, 10, math.nan), "min_lr must lie between"),
        (lambda o: one_cycle(o, 0.1, 0), "total number of steps must be a whole number, 1 or more"),
        (lambda o: one_cycle(o, 0.1, 20.0), "total number of steps must be a whole number"),
        (lambda o: one_cycle(o, 0.1, 20, 0.0), "pct_start must lie between 0 and 1"),
        (lambda o: one_cycle(o, 0.1, 20, 1.0), "pct_start must lie between 0 and 1"),
        (lambda o: one_cycle(o, 0.1, 20, math.nan), "pct_start must lie between 0 and 1"),
        (lambda o: one_cycle(o, 0.1, 10, 0.1), "raise pct_start or total_steps"),
        (lambda o: one_cycle(o, 0.0, 20), "max_lr must be above 0"),
        (lambda o: one_cycle(o, [0.1, -0.1], 20), "max_lr must be above 0"),
        (lambda o: one_cycle(o, math.inf, 20), "max_lr must be above 0"),
        (lambda o: one_cycle(o, [0.1], 20), "1 rates for 2 parameter groups"),
    ],
)
def test_a_wrong_number_is_refused_before_the_optimizer_is_touched(build, complaint):
    optimizer = make_optimizer(0.1, 0.02, momentum=0.9)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=complaint):
        build(optimizer)
    assert optimizer.state_dict() == before


@pytest.mark.parametrize("step", [-1, 1.0, True, None])
def test_a_step_is_a_whole_number_from_zero(step):
    for call in (
        lambda: cosine_multiplier(step, 1, 10),
        lambda: restarts_multiplier(step, 1, 10, 1),
        lambda: wsd_multiplier(step, 1, 10),
        lambda: one_cycle_multiplier(step, 10),
        lambda: one_cycle_momentum(step, 10),
        lambda: cosine_with_warmup(make_optimizer(), 1, 10).move_to(step),
    ):
        with pytest.raises(ValueError, match="step must be a whole number, 0 or more"):
            call()


@every_schedule
def test_a_model_in_place_of_the_optimizer_is_refused(build):
    with pytest.raises(TypeError, match="needs a torch.optim.Optimizer, got Linear"):
        build(torch.nn.Linear(1, 1))


def test_any_pure_function_of_the_step_can_be_a_schedule():
    def halving(step, every):
        return 0.5 ** (step // every)

    used = used_by(lambda o: MultiplierLR(o, halving, every=2), 6, 0.8)
    assert [rate for (rate,) in used] == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2, 0.2])


# --------------------------------------------------- optimizers that came with their own schedule


@pytest.mark.parametrize("build", [SCHEDULES[n] for n in ("cosine", "stable", "one cycle")])
@pytest.mark.parametrize("kind", [Lion, PeerLion, AdamWScheduleFree, PeerScheduleFree])
def test_lion_and_schedule_free_run_under_a_schedule(kind, build):
    optimizer = make_optimizer(0.1, 0.02, kind=kind)
    scheduler = build(optimizer)
    assert run(optimizer, scheduler, 45) == [scheduler.rates_at(step) for step in range(45)]
    for group in optimizer.param_groups:
        assert torch.isfinite(group["params"][0]).all()  # also after a first step at rate 0
        assert (group["params"][0] < 1).all()  # the gradient is 1: the weights went down


def test_schedule_free_under_a_schedule_equals_its_peer():
    ours, theirs = (make_optimizer(0.1, kind=k) for k in (AdamWScheduleFree, PeerScheduleFree))
    for optimizer in (ours, theirs):
        scheduler = cosine_with_warmup(optimizer, 4, 30)
        (weight,) = optimizer.param_groups[0]["params"]
        for step in range(30):
            weight.grad = weight.detach() + math.sin(step)
            optimizer.step()
            scheduler.step()
        optimizer.eval()
    mine, peer = (o.param_groups[0]["params"][0] for o in (ours, theirs))
    assert torch.allclose(mine, peer, rtol=0, atol=1e-6)
    assert not torch.allclose(mine, torch.ones(3), atol=0.01)


# ----------------------------------------------------------------- the defects of the listings


def listing_cosine(step, warmup, total, num_cycles=0.5, lr_end=1e-5):
    """The lambda of the listing, which LambdaLR multiplies with the base rate."""
    if step < warmup:
        return step / max(1, warmup)
    progress = (step - warmup) / max(1, total - warmup)
    return max(lr_end / 1.0, 0.5 * (1.0 + math.cos(math.pi * num_cycles * 2.0 * progress)))


def listing_schedule(optimizer, *numbers):
    return LambdaLR(optimizer, lambda step: listing_cosine(step, *numbers))


class ListingWarmup:
    """The listing's WarmupScheduler, with its arithmetic and its omissions."""

    def __init__(self, optimizer, warmup_steps, max_lr, min_lr=1e-6):
        self.optimizer, self.warmup_steps = optimizer, warmup_steps
        self.max_lr, self.min_lr, self.current_step = max_lr, min_lr, 0

    def step(self):
        self.current_step += 1
        if self.current_step <= self.warmup_steps:
            share = self.current_step / self.warmup_steps
        else:
            past_warmup = self.current_step - self.warmup_steps
            progress = past_warmup / (self.total_steps - self.warmup_steps)
            share = 0.5 * (1 + math.cos(math.pi * progress))
        for group in self.optimizer.param_groups:
            group["lr"] = self.min_lr + (self.max_lr - self.min_lr) * share


def test_listing_cosine_takes_an_absolute_floor_for_a_ratio():
    """lr_end = 1e-5 with a base rate of 0.1 ends at 1e-6."""
    assert used_by(lambda o: listing_schedule(o, 10, 100), 101, 0.1)[100] == pytest.approx([1e-6])
    ours = used_by(lambda o: WarmupCosineLR(o, 10, 100, 1e-5), 101, 0.1)
    assert ours[100] == pytest.approx([1e-5])


def test_listing_cosine_is_cut_off_at_its_floor():
    """With a floor of 0.2 the last steps are all alike, and half-way nothing is seen of it."""
    listed = [listing_cosine(step, 0, 100, 0.5, 0.2) for step in range(101)]
    ours = [cosine_multiplier(step, 0, 100, 0.5, 0.2) for step in range(101)]
    assert (listed[50], ours[50]) == pytest.approx((0.5, 0.6))
    assert sum(value == 0.2 for value in listed) == 30
    assert sum(value == 0.2 for value in ours) == 1


def test_listing_cosine_rises_again_past_the_end():
    listed = used_by(lambda o: listing_schedule(o, 10, 100), 106, 0.1)
    assert listed[105] == pytest.approx([7.6e-4], rel=0.01)
    assert used_by(lambda o: cosine_with_warmup(o, 10, 100), 106, 0.1)[105] == [0]


def test_listing_cosine_of_one_cycle_ends_at_the_full_rate():
    """`num_cycles * 2.0` counts half-waves: 0.5 is one way down, and 1 comes back up."""
    assert listing_cosine(100, 10, 100, num_cycles=1) == 1.0
    assert cosine_multiplier(101, 10, 100, num_cycles=1) == 0.0


def test_listing_cosine_takes_contradictory_step_counts():
    never_warm = [listing_cosine(step, 20, 10) for step in range(10)]
    assert max(never_warm) < 0.5  # a warm-up longer than the run: it ends before the base rate
    assert listing_cosine(0, -10, 90) == pytest.approx(0.97, abs=0.01)  # starts in mid-cosine
    for warmup, total in ((20, 10), (-10, 90)):
        with pytest.raises(ValueError, match="warm-up"):
            cosine_multiplier(0, warmup, total)


def test_listing_cosine_state_does_not_hold_the_schedule():
    """A lambda is not saved: a state loads into a run of another length without a word."""
    optimizer = make_optimizer(0.1)
    listed = listing_schedule(optimizer, 10, 100)
    run(optimizer, listed, 50)
    state = listed.state_dict()
    assert state["lr_lambdas"] == [None]

    other_optimizer = make_optimizer(0.1)
    other = listing_schedule(other_optimizer, 10, 60)
    other.load_state_dict(state)
    # And the optimizer's rate is that of step 0 until the next step, which takes another course.
    assert current_rates(other_optimizer) == [0.0]
    for o, s in ((optimizer, listed), (other_optimizer, other)):
        o.step()
        s.step()
    assert current_rates(other_optimizer)[0] < 0.2 * current_rates(optimizer)[0]


def test_listing_warmup_never_stores_the_total_steps():
    scheduler = ListingWarmup(make_optimizer(0.1), 3, max_lr=0.1)
    for _ in range(3):
        scheduler.step()
    with pytest.raises(AttributeError, match="total_steps"):
        scheduler.step()


def test_listing_warmup_takes_its_first_step_at_the_optimizers_own_rate():
    optimizer = make_optimizer(5.0)
    assert run(optimizer, ListingWarmup(optimizer, 10, max_lr=0.1), 2)[0] == [5.0]
    assert used_by(lambda o: WarmupCosineLR(o, 10, 100, 1e-6), 2, 5.0)[0] == [1e-6]


def test_listing_warmup_gives_all_groups_one_rate():
    first, second = used_by(lambda o: ListingWarmup(o, 10, max_lr=0.1), 5, 0.3, 0.01)[4]
    assert first == second
    ours = used_by(lambda o: WarmupCosineLR(o, 10, 100), 5, 0.3, 0.01)[4]
    assert ours == pytest.approx([0.12, 0.004])


def test_listing_warmup_cannot_be_saved_or_chained():
    optimizer = make_optimizer(0.1)
    listed = ListingWarmup(optimizer, 10, max_lr=0.1)
    assert not hasattr(listed, "state_dict")
    assert not isinstance(listed, LRScheduler)
    assert isinstance(WarmupCosineLR(optimizer, 10, 100), LRScheduler)


def test_listing_warmup_divides_by_zero_when_the_run_is_all_warmup():
    scheduler = ListingWarmup(make_optimizer(0.1), 3, max_lr=0.1)
    scheduler.total_steps = 3
    for _ in range(3):
        scheduler.step()
    with pytest.raises(ZeroDivisionError):
        scheduler.step()
    assert used_by(lambda o: WarmupCosineLR(o, 3, 3), 6, 0.1)[5] == [0.0]


def test_listing_warmup_rises_again_past_the_end():
    optimizer = make_optimizer(0.1)
    scheduler = ListingWarmup(optimizer, 10, max_lr=0.1)
    scheduler.total_steps = 100
    assert run(optimizer, scheduler, 150)[145][0] > 0.04
    assert used_by(lambda o: WarmupCosineLR(o, 10, 100), 150, 0.1)[145] == [0.0]


def test_listing_one_cycle_overwrites_the_betas_of_lion_and_schedule_free():
    for kind, second in ((PeerLion, 0.99), (PeerScheduleFree, 0.999)):
        optimizer = make_optimizer(0.1, kind=kind)
        assert optimizer.param_groups[0]["betas"] == (0.9, second)
        OneCycleLR(optimizer, 0.1, total_steps=20, pct_start=0.3)
        assert optimizer.param_groups[0]["betas"] == (0.95, second)


def test_listing_one_cycle_gives_plain_sgd_a_momentum_that_was_not_asked_for():
    optimizer = make_optimizer(0.1)
    OneCycleLR(optimizer, 0.1, total_steps=20, pct_start=0.3)
    assert optimizer.param_groups[0]["momentum"] == 0.95


def test_listing_one_cycle_raises_on_an_optimizer_without_momentum():
    with pytest.raises(ValueError, match="must support momentum or beta1"):
        OneCycleLR(make_optimizer(0.1, kind=Adagrad), 0.1, total_steps=20, pct_start=0.3)


def test_listing_one_cycle_divides_by_zero_when_the_rise_is_one_step():
    with pytest.raises(ZeroDivisionError):
        OneCycleLR(make_optimizer(0.1), 0.1, total_steps=10, pct_start=0.1)


# ------------------------------------------------------------- the contest of the recorded cell


@pytest.fixture(scope="module")
def task():
    from dlcourse.large_scale_training.experiments import rates

    return rates, rates.digits_task()


def weights_of(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


def test_a_rival_that_branches_ends_as_the_run_that_was_planned(task):
    """Budgets do not disturb each other: one run for all of them is a run for each."""
    rates, data = task
    for name, (_, values, run_rival) in rates.RIVALS.items():
        own = values[0] if values else 0.0
        both = run_rival(data, 0.01, own, (0, 1), [30, 60], weights_of)
        for budget in (30, 60):
            (alone,) = run_rival(data, 0.01, own, (0, 1), [budget], weights_of).values()
            # Schedule-Free goes to x and back to y for each measurement: equal but for rounding.
            assert torch.allclose(both[budget], alone, atol=1e-5), (name, budget)
    planned = rates.MLPs(rates.SIZES, (0, 1))
    optimizer = rates.adamw(planned, 0.01)
    schedule = warmup_stable_decay(optimizer, rates.WARMUP, 60, 0.2)
    rates.train(planned, optimizer, data.train, steps=60, scheduler=schedule)
    branched = rates.RIVALS["WSD"][2](data, 0.01, 0.2, (0, 1), [30, 60], weights_of)[60]
    assert torch.equal(branched, weights_of(planned))


def test_the_averaged_rival_is_the_mean_of_the_last_weights(task):
    rates, data = task
    path = rates.RIVALS["constant"][2](data, 0.01, 0.0, (3,), range(1, 41), weights_of)
    averaged = rates.RIVALS["averaged"][2](data, 0.01, 0.2, (3,), [40], weights_of)[40]
    expected = torch.stack([path[step] for step in range(33, 41)]).mean(0)
    assert torch.allclose(averaged, expected, atol=1e-6)


def test_the_lowest_validation_loss_chooses_and_every_rival_has_as_many_trials(task, monkeypatch):
    rates, data = task
    calls = {}

    def rival(name):
        def run_rival(data, lr, own, seeds, budgets, measure):
            calls.setdefault(name, []).append((lr, own))
            return {budget: abs(lr - 0.02 * 100 / budget) + own for budget in budgets}

        return run_rival

    fakes = {n: (what, own, rival(n)) for n, (what, own, _) in rates.RIVALS.items()}
    monkeypatch.setattr(rates, "RIVALS", fakes)
    table = rates.tune(data, (0,), [100, 200], [0.01, 0.02, 0.04])
    assert {len(set(tried)) for tried in calls.values()} == {6}
    chosen = rates.choose(table)
    assert chosen["cosine"] == {100: (0.02, 0.0), 200: (0.01, 0.0)}
    assert chosen["WSD"] == {100: (0.02, 0.2), 200: (0.01, 0.2)}
