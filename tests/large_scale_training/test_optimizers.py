"""Lion and Schedule-Free AdamW: equal to the papers' equations, and what the listings get wrong."""

import copy
import functools
import math
import os
import pickle
import random
import shutil

import lion_pytorch
import numpy as np
import pytest
import schedulefree
import torch
from schedulefree.adamw_schedulefree_reference import AdamWScheduleFreeReference
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR

from dlcourse.large_scale_training import (
    AdamWScheduleFree,
    Lion,
    ScheduleFreeReference,
    cosine_with_warmup,
    lion_step_reference,
    optimizer_state_bytes,
)
from dlcourse.large_scale_training.optimizers import _elementwise

BOTH = pytest.mark.parametrize("make", [Lion, AdamWScheduleFree], ids=["lion", "schedule_free"])
EAGER = pytest.mark.parametrize("implementation", ["loop", "foreach"])
SHAPES = [(), (3,), (4, 5), (2, 3, 4), (0,), (31,)]


def parameters(seed, shapes=SHAPES, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    values = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [nn.Parameter(value.to(dtype)) for value in values]


def gradients(seed, params, missing=0.0):
    """Random gradients of very different sizes; each is None with probability `missing`."""
    generator = torch.Generator().manual_seed(seed)
    chance = random.Random(seed)
    values = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in params]
    return [
        None if chance.random() < missing else (v * 10 ** chance.uniform(-4, 2)).to(p.dtype)
        for v, p in zip(values, params)
    ]


def set_gradients(params, grads):
    for p, g in zip(params, grads):
        p.grad = None if g is None else g.clone()  # schedulefree overwrites p.grad


def largest_difference(first, second):
    return max(((a - b).abs().max().item() for a, b in zip(first, second) if a.numel()), default=0)


def train(optimizer, params, steps, seed=0):
    for step in range(steps):
        set_gradients(params, gradients(1000 * seed + step, params))
        optimizer.step()


def model_and_optimizer(make, seed=0, **kwargs):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    return model, make(model.parameters(), lr=0.01, **kwargs)


def random_groups(seed, params):
    """The parameters in two groups, each with its own random hyper-parameters."""
    chance = random.Random(seed)
    cut = chance.randrange(1, len(params))
    return [
        {
            "params": group,
            "lr": 10 ** chance.uniform(-4, -1),
            "betas": (chance.uniform(0.05, 0.99), chance.uniform(0.0, 0.999)),
            "weight_decay": chance.choice([0.0, 10 ** chance.uniform(-3, 0)]),
        }
        for group in (params[:cut], params[cut:])
    ]


# --- The fast forms compute the equations --------------------------------------------------


@EAGER
@pytest.mark.parametrize("seed", range(12))
def test_lion_equals_its_equations(seed, implementation, monkeypatch):
    monkeypatch.setattr(_elementwise, "_PIECE", 6)  # so that small tensors are cut up too
    params = parameters(seed)
    params[2].data = params[2].data.t()  # not contiguous
    groups = random_groups(seed, params)
    optimizer = Lion(groups, implementation=implementation)
    expected = [p.detach().clone() for p in params]
    momenta = [torch.zeros_like(p) for p in expected]
    settings = [
        {"lr": g["lr"], "beta1": g["betas"][0], "beta2": g["betas"][1],
         "weight_decay": g["weight_decay"]}
        for g in groups for _ in g["params"]
    ]  # fmt: skip

    for step in range(40):
        grads = gradients(100 * seed + step, params, missing=0.2)
        set_gradients(params, grads)
        optimizer.step()
        for i, g in enumerate(grads):
            if g is not None:
                expected[i], momenta[i] = lion_step_reference(
                    expected[i], g, momenta[i], **settings[i]
                )
        if step == 17:  # continue with a fresh optimizer, from the state dict
            saved = copy.deepcopy(optimizer.state_dict())
            optimizer = Lion(
                [{"params": g["params"]} for g in groups], implementation=implementation
            )
            optimizer.load_state_dict(saved)
    assert largest_difference(params, expected) < 1e-12


@EAGER
@pytest.mark.parametrize("seed", range(12))
def test_schedule_free_equals_its_equations_in_both_modes(seed, implementation, monkeypatch):
    monkeypatch.setattr(_elementwise, "_PIECE", 6)
    params = parameters(seed)
    params[2].data = params[2].data.t()
    chance = random.Random(seed)
    groups = [{**g, "warmup_steps": chance.choice([0, 1, 7])} for g in random_groups(seed, params)]
    optimizer = AdamWScheduleFree(groups, implementation=implementation)
    reference = [
        ScheduleFreeReference(
            p, g["lr"], g["betas"], weight_decay=g["weight_decay"], warmup_steps=g["warmup_steps"]
        )
        for g in groups
        for p in g["params"]
    ]

    for step in range(40):
        grads = gradients(100 * seed + step, params, missing=0.2)
        set_gradients(params, grads)
        optimizer.step()
        for r, g in zip(reference, grads):
            r.step(g)
        assert largest_difference(params, [r.y for r in reference]) < 1e-10
        if chance.random() < 0.3:
            optimizer.eval()
            assert largest_difference(params, [r.x for r in reference]) < 1e-10
            if chance.random() < 0.5:  # continue with a fresh optimizer, from the state dict
                saved = copy.deepcopy(optimizer.state_dict())
                optimizer = AdamWScheduleFree(
                    [{"params": g["params"]} for g in groups], implementation=implementation
                )
                optimizer.load_state_dict(saved)
            optimizer.train()


def a_compiler():
    return next(filter(shutil.which, [os.environ.get("CXX", ""), "g++", "clang++", "c++"]), None)


@pytest.mark.skipif(a_compiler() is None, reason="torch.compile on a CPU needs a C++ compiler")
@BOTH
def test_the_compiled_step_equals_the_loop(make):
    results = []
    for implementation in ("loop", "compiled"):
        params = parameters(0, [(40, 5), (17,)]) + parameters(1, [(41,)], torch.bfloat16)
        optimizer = make(params, lr=0.01, weight_decay=0.1, implementation=implementation)
        scheduler = LambdaLR(optimizer, lambda step: 1 / (1 + step))
        for step in range(25):
            set_gradients(params, gradients(step, params))
            optimizer.step()
            scheduler.step()
        results.append(params)
    assert largest_difference(results[0][:2], results[1][:2]) < 1e-12
    # bfloat16: the last bit of a weight of size 1 to 4
    assert largest_difference(results[0][2:], results[1][2:]) <= 2**-6


def test_without_a_compiler_the_compiled_step_says_what_to_do(monkeypatch):
    def fails(*args):
        raise torch._dynamo.exc.TorchDynamoException("no compiler")

    monkeypatch.setattr(_elementwise, "_compiled", lambda equations: fails)
    params = parameters(0)
    with pytest.raises(RuntimeError, match='implementation="auto"'):
        train(Lion(params, implementation="compiled"), params, 1)


def test_pieces_cover_a_large_tensor_once_and_leave_a_small_one_alone():
    size = _elementwise._PIECE * torch.get_num_threads()
    small, large = torch.zeros(2 * size), torch.zeros(2 * size + 1)
    assert [pair[0] is small for pair in _elementwise._pieces(small, small)] == [True]
    for first, _ in _elementwise._pieces(large, large):
        first.add_(1)
    assert large.eq(1).all()


# --- Parity with the libraries -------------------------------------------------------------


@EAGER
@pytest.mark.parametrize("seed", range(6))
def test_lion_equals_lion_pytorch(seed, implementation):
    ours, theirs = parameters(seed), parameters(seed)
    pairs = [
        (ours, Lion(random_groups(seed, ours), implementation=implementation)),
        (theirs, lion_pytorch.Lion(random_groups(seed, theirs))),
    ]
    for step in range(100):
        grads = gradients(1000 * seed + step, ours, missing=0.1)
        for params, optimizer in pairs:
            set_gradients(params, grads)
            optimizer.step()
    assert largest_difference(ours, theirs) < 1e-9


@EAGER
@pytest.mark.parametrize(
    "their_class",
    [
        functools.partial(schedulefree.AdamWScheduleFree, foreach=False),
        functools.partial(schedulefree.AdamWScheduleFree, foreach=True),
        AdamWScheduleFreeReference,
    ],
    ids=["loop", "foreach", "reference"],
)
@pytest.mark.parametrize("seed", range(4))
def test_schedule_free_equals_schedulefree(seed, their_class, implementation):
    ours, theirs = parameters(seed), parameters(seed)
    warmup = random.Random(seed).choice([0, 10, 30])
    pairs = [
        (
            ours,
            AdamWScheduleFree(
                random_groups(seed, ours), warmup_steps=warmup, implementation=implementation
            ),
        ),
        (theirs, their_class(random_groups(seed, theirs), warmup_steps=warmup)),
    ]
    for step in range(100):
        grads = gradients(1000 * seed + step, ours, missing=0.1)
        for params, optimizer in pairs:
            optimizer.train()
            set_gradients(params, grads)
            optimizer.step()
    assert largest_difference(ours, theirs) < 1e-9
    for _, optimizer in pairs:
        optimizer.eval()
    assert largest_difference(ours, theirs) < 1e-9


def test_a_state_dict_of_schedulefree_continues_here():
    ours, theirs = parameters(0), parameters(0)
    their_optimizer = schedulefree.AdamWScheduleFree(theirs, lr=0.01, warmup_steps=5)
    their_optimizer.train()
    train(their_optimizer, theirs, 10)
    their_optimizer.eval()

    optimizer = AdamWScheduleFree(ours)
    for p, q in zip(ours, theirs):
        p.data.copy_(q)
    optimizer.load_state_dict(their_optimizer.state_dict())
    for params, o in ((ours, optimizer), (theirs, their_optimizer)):
        o.train()
        train(o, params, 10, seed=1)
    assert largest_difference(ours, theirs) < 1e-12


# --- Facts about the maths -----------------------------------------------------------------


def test_lion_moves_every_element_by_exactly_the_learning_rate():
    p = nn.Parameter(torch.zeros(1000, dtype=torch.float64))
    optimizer = Lion([p], lr=0.25)
    for step in range(5):
        before = p.detach().clone()
        train(optimizer, [p], 1, seed=step)
        assert (p - before).abs().eq(0.25).all()


def test_lion_leaves_an_element_without_gradient_or_momentum():
    p = nn.Parameter(torch.tensor([1.0, 1.0]))
    p.grad = torch.tensor([0.0, 1e-30])
    Lion([p], lr=0.5).step()
    assert p.tolist() == [1.0, 0.5]


def test_lion_does_not_see_the_scale_of_the_gradient():
    ends = []
    for scale in (1.0, 2.0**40):
        p = nn.Parameter(torch.ones(50, dtype=torch.float64))
        optimizer = Lion([p], lr=0.01, weight_decay=0.1)
        for step in range(30):
            p.grad = scale * gradients(step, [p])[0]
            optimizer.step()
        ends.append(p.detach())
    assert torch.equal(*ends)


def test_lion_with_equal_betas_is_the_sign_of_its_momentum():
    p, beta = nn.Parameter(torch.zeros(50, dtype=torch.float64)), 0.9
    optimizer = Lion([p], lr=0.01, betas=(beta, beta))
    for step in range(30):
        before = p.detach().clone()
        train(optimizer, [p], 1, seed=step)
        momentum = optimizer.state[p]["exp_avg"]  # signum: the step follows the new momentum
        assert torch.equal(before - 0.01 * momentum.sign(), p.detach())


def test_lion_with_decay_stays_within_one_over_the_decay():
    """|p| ← (1 − ηλ)|p| + η has its fixed point at 1/λ: Lion solves a box-constrained problem."""
    p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = Lion([p], lr=0.1, weight_decay=0.5)
    for _ in range(500):
        p.grad = torch.tensor([-1.0], dtype=torch.float64)  # always push up
        optimizer.step()
    assert p.item() == pytest.approx(1 / 0.5, abs=1e-9)


def run_reference(steps=30, **kwargs):
    reference = ScheduleFreeReference(torch.linspace(-1, 1, 7, dtype=torch.float64), **kwargs)
    zs, rates = [], []
    for step in range(steps):
        reference.step(gradients(step, [reference.x])[0])
        zs.append(reference.z)
        rates.append(reference.lr * min(1, (step + 1) / max(1, reference.warmup_steps)))
    return reference, torch.stack(zs), torch.tensor(rates, dtype=torch.float64)


def test_x_is_the_mean_of_the_z_weighted_by_the_squared_rates():
    reference, zs, rates = run_reference(lr=0.1, warmup_steps=10)
    weights = rates**2 / (rates**2).sum()
    torch.testing.assert_close(reference.x, weights @ zs, atol=1e-14, rtol=0)


def test_at_beta_0_gradients_are_taken_at_z_which_is_polyak_averaging():
    reference, zs, _ = run_reference(lr=0.1, betas=(0.0, 0.99))
    assert torch.equal(reference.y, reference.z)
    torch.testing.assert_close(reference.x, zs.mean(0), atol=1e-14, rtol=0)


def test_at_beta_1_gradients_are_taken_at_the_average_which_is_primal_averaging():
    reference, _, _ = run_reference(lr=0.1, betas=(1.0, 0.99))
    assert torch.equal(reference.y, reference.x)


def test_the_first_average_is_the_first_z():
    """c₁ = 1: x forgets where it started, so that y₁ = z₁ = x₁."""
    reference, zs, _ = run_reference(steps=1, lr=0.1)
    assert torch.equal(reference.x, zs[0])


def test_the_mode_of_evaluation_changes_the_loss():
    target = torch.arange(4.0, dtype=torch.float64)
    p = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    optimizer = AdamWScheduleFree([p], lr=0.5)

    def loss():
        return ((p - target) ** 2).sum()

    for _ in range(10):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    at_y = loss().item()
    optimizer.eval()
    at_x = loss().item()
    assert abs(at_x - at_y) > 0.05 * at_y


def test_a_parameter_that_joins_late_takes_a_larger_first_step():
    """k belongs to the group: v of a first gradient is divided by a far too small correction."""
    p, late = (nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2))
    optimizer = AdamWScheduleFree([p, late], lr=0.01)
    for step in range(1000):
        p.grad = torch.ones(1, dtype=torch.float64)
        late.grad = torch.ones(1, dtype=torch.float64) if step == 999 else None
        optimizer.step()
    z = optimizer.state[late]["z"].item()
    assert -z == pytest.approx(0.01 * math.sqrt((1 - 0.999**1000) / (1 - 0.999)), rel=1e-6)
    assert -z > 25 * 0.01


# --- Optimizer's interface -----------------------------------------------------------------


@BOTH
def test_step_returns_the_loss_of_the_closure(make):
    model, optimizer = model_and_optimizer(make)

    def closure():
        optimizer.zero_grad()
        loss = model(torch.ones(2, 3)).square().mean()
        loss.backward()
        return loss

    first = optimizer.step(closure)
    assert first.item() > optimizer.step(closure).item()
    assert optimizer.step() is None


@BOTH
def test_a_parameter_without_gradient_stays_and_has_no_state(make):
    params = parameters(0)
    optimizer = make(params, weight_decay=0.1)
    grads = [None, *gradients(0, params)[1:]]
    before = params[0].detach().clone()
    set_gradients(params, grads)
    optimizer.step()
    assert torch.equal(before, params[0]) and not optimizer.state.get(params[0])


@BOTH
def test_a_step_leaves_the_gradients_as_they_are(make):
    params = parameters(0)
    grads = gradients(0, params)
    for p, g in zip(params, grads):
        p.grad = g.clone()
    make(params, weight_decay=0.1).step()
    assert all(torch.equal(p.grad, g) for p, g in zip(params, grads))


@BOTH
@EAGER
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_state_dict_continues_to_the_bit_in_every_dtype(make, implementation, dtype):
    shapes = [(4, 5), (3,)]
    straight = parameters(0, shapes, dtype) + parameters(1, shapes)  # mixed with float64
    optimizer = make(straight, lr=0.01, weight_decay=0.1, implementation=implementation)
    train(optimizer, straight, 10)
    resumed = [nn.Parameter(p.detach().clone()) for p in straight]
    fresh = make(resumed, implementation=implementation)
    fresh.load_state_dict(optimizer.state_dict())
    for params, o in ((straight, optimizer), (resumed, fresh)):
        train(o, params, 10, seed=1)
    assert all(torch.equal(p, q) for p, q in zip(straight, resumed))
    for p, q in zip(straight, resumed):
        for name in optimizer.state_names:
            assert torch.equal(optimizer.state[p][name], fresh.state[q][name])


@BOTH
@EAGER
def test_low_precision_parameters_have_float32_state(make, implementation):
    params = [parameters(0, [(4,)], d)[0] for d in (torch.bfloat16, torch.float16, torch.float32,
                                                    torch.float64)]  # fmt: skip
    optimizer = make(params, implementation=implementation)
    train(optimizer, params, 2)
    held = [{t.dtype for t in optimizer.state[p].values()} for p in params]
    assert held == [{torch.float32}, {torch.float32}, {torch.float32}, {torch.float64}]


@EAGER
def test_a_bfloat16_parameter_is_rounded_once_a_step(implementation):
    p = nn.Parameter(torch.linspace(-3, 3, 200).bfloat16())
    m, g = torch.zeros(200), gradients(0, [p])[0]
    expected, _ = lion_step_reference(
        p.detach().float(), g.float(), m, lr=0.02, beta1=0.9, beta2=0.99, weight_decay=0.3
    )
    optimizer = Lion([p], lr=0.02, weight_decay=0.3, implementation=implementation)
    p.grad = g
    optimizer.step()
    assert torch.equal(p.detach(), expected.bfloat16())


def test_a_bfloat16_weight_does_not_feel_a_small_learning_rate():
    p = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    optimizer = Lion([p], lr=1e-3)
    for _ in range(1000):
        p.grad = torch.ones_like(p)
        optimizer.step()
    assert p.item() == 1.0  # in float32 it would have gone down to 0


@BOTH
def test_loading_does_not_share_state_with_the_saved_optimizer(make):
    first, second = parameters(0), parameters(0)
    saved = make(first)
    train(saved, first, 2)
    loaded = make(second)
    loaded.load_state_dict(saved.state_dict())
    before = copy.deepcopy(saved.state_dict()["state"])
    train(loaded, second, 2)
    after = saved.state_dict()["state"]
    assert all(torch.equal(before[i][n], after[i][n]) for i in before for n in before[i])


@BOTH
def test_a_state_dict_of_another_optimizer_is_refused(make):
    params = parameters(0)
    sgd = torch.optim.SGD(params, momentum=0.9)
    train(sgd, params, 1)
    with pytest.raises(ValueError, match=f"not of {make.__name__}"):
        make(params).load_state_dict(sgd.state_dict())


@BOTH
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copy_continues_like_the_original(make, duplicate):
    params = parameters(0)
    optimizer = make(params, weight_decay=0.1, implementation="foreach")
    train(optimizer, params, 3)
    copied = duplicate(optimizer)
    copied_params = copied.param_groups[0]["params"]
    train(optimizer, params, 3, seed=1)
    train(copied, copied_params, 3, seed=1)
    assert copied.implementation == "foreach"
    assert all(torch.equal(p, q) for p, q in zip(params, copied_params))


@BOTH
def test_sparse_gradients_are_refused(make):
    embedding = nn.Embedding(5, 2, sparse=True)
    embedding(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse=False"):
        make(embedding.parameters()).step()


@BOTH
def test_complex_parameters_are_refused(make):
    p = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    p.grad = torch.ones_like(p)
    with pytest.raises(RuntimeError, match="view_as_real"):
        make([p]).step()


WRONG = [
    {"lr": -1e-3},
    {"lr": float("nan")},
    {"lr": float("inf")},
    {"weight_decay": -0.1},
    {"betas": (-0.1, 0.9)},
    {"betas": (1.1, 0.9)},
    {"betas": (0.9, 1.0)},
    {"betas": (0.9, 0.99, 0.999)},
]
WRONG_SCHEDULE_FREE = [{"eps": -1e-8}, {"warmup_steps": -1}, {"warmup_steps": 1.5},
                       {"betas": (0.0, 0.9)}]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "wrong"),
    [(Lion, w) for w in WRONG] + [(AdamWScheduleFree, w) for w in WRONG + WRONG_SCHEDULE_FREE],
    ids=str,
)
def test_wrong_hyper_parameters_are_refused_wherever_they_are_given(make, wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        make(parameters(0), **wrong)
    with pytest.raises(ValueError, match=name):
        make([{"params": parameters(0), **wrong}])
    optimizer = make(parameters(0))
    with pytest.raises(ValueError, match=name):
        optimizer.add_param_group({"params": parameters(1), **wrong})
    assert len(optimizer.param_groups) == 1


@BOTH
def test_an_unknown_implementation_is_refused(make):
    with pytest.raises(ValueError, match="implementation must be one of"):
        make(parameters(0), implementation="fused")


@BOTH
@pytest.mark.parametrize(
    ("scheduler", "last_rate"),
    [
        (lambda o: LambdaLR(o, lambda step: (step + 1) / 20), 0.5 * 0.1),
        (lambda o: CosineAnnealingLR(o, T_max=10), 0.05 * (1 + math.cos(0.9 * math.pi))),
        (lambda o: OneCycleLR(o, max_lr=0.2, total_steps=20, cycle_momentum=False), None),
    ],
    ids=["lambda", "cosine", "one_cycle"],
)
def test_schedulers_set_the_rate_of_each_step(make, scheduler, last_rate):
    p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = make([p], lr=0.1)
    betas = optimizer.param_groups[0]["betas"]
    schedule = scheduler(optimizer)
    for _ in range(10):
        rate = optimizer.param_groups[0]["lr"]
        moving = optimizer.state[p]["z"] if make is AdamWScheduleFree and optimizer.state else p
        before = moving.detach().clone()
        p.grad = torch.ones_like(p)
        optimizer.step()
        moving = optimizer.state[p]["z"] if make is AdamWScheduleFree else p
        assert (before - moving).item() == pytest.approx(rate, rel=1e-6)
        schedule.step()
    assert optimizer.param_groups[0]["betas"] == betas
    if last_rate is not None:
        assert rate == pytest.approx(last_rate)


# --- Modes and checkpoints -----------------------------------------------------------------


def test_a_step_in_eval_mode_says_what_to_call():
    params = parameters(0)
    optimizer = AdamWScheduleFree(params)
    optimizer.eval()
    with pytest.raises(RuntimeError, match=r"optimizer\.train\(\)"):
        train(optimizer, params, 1)
    optimizer.train()
    train(optimizer, params, 1)


def test_repeated_mode_switches_change_nothing():
    params = parameters(0)
    optimizer = AdamWScheduleFree(params, lr=0.1)
    train(optimizer, params, 5)
    for switch in (optimizer.eval, optimizer.train):
        switch()
        once = [p.detach().clone() for p in params]
        switch()
        assert all(torch.equal(p, q) for p, q in zip(params, once))


def test_modes_are_equal_before_the_first_step():
    params = parameters(0)
    optimizer = AdamWScheduleFree(params)
    optimizer.eval()
    optimizer.train()
    assert all(torch.equal(p, q) for p, q in zip(params, parameters(0)))


def test_a_group_added_in_eval_mode_is_in_eval_mode():
    first, second = parameters(0), parameters(1)
    optimizer = AdamWScheduleFree(first)
    optimizer.eval()
    optimizer.add_param_group({"params": second})
    assert [group["train_mode"] for group in optimizer.param_groups] == [False, False]
    with pytest.raises(RuntimeError, match="eval mode"):
        train(optimizer, second, 1)


@pytest.mark.parametrize("saved_in", ["train", "eval"])
def test_a_checkpoint_continues_in_the_mode_in_which_it_was_saved(saved_in):
    params, others = parameters(0), parameters(1)
    optimizer, fresh = AdamWScheduleFree(params, lr=0.1), AdamWScheduleFree(others)
    train(optimizer, params, 5)
    getattr(optimizer, saved_in)()
    for p, q in zip(params, others):
        q.data.copy_(p)
    fresh.load_state_dict(optimizer.state_dict())
    for o, ps in ((optimizer, params), (fresh, others)):
        o.train()
        train(o, ps, 5, seed=1)
        o.eval()
    assert all(torch.equal(p, q) for p, q in zip(params, others))


@BOTH
@pytest.mark.parametrize("saved_in", ["train", "eval"])
@pytest.mark.parametrize("loaded_in", ["train", "eval"])
@pytest.mark.parametrize("flat", [False, True], ids=["nested", "flat"])
def test_distributed_checkpoint_restores_a_fresh_optimizer(make, saved_in, loaded_in, flat):
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    schedule_free = make is AdamWScheduleFree
    model, optimizer = model_and_optimizer(make, weight_decay=0.1)
    train(optimizer, list(model.parameters()), 5)
    if schedule_free:
        getattr(optimizer, saved_in)()
    weights, state = copy.deepcopy(get_state_dict(model, optimizer, options=options))

    new_model, new_optimizer = model_and_optimizer(make, seed=1)
    if schedule_free:
        getattr(new_optimizer, loaded_in)()
    get_state_dict(new_model, new_optimizer, options=options)  # as dcp.load does, for the targets
    set_state_dict(
        new_model,
        new_optimizer,
        model_state_dict=weights,
        optim_state_dict=state,
        options=options,
    )
    for o, m in ((optimizer, model), (new_optimizer, new_model)):
        if schedule_free:
            o.train()
        train(o, list(m.parameters()), 5, seed=1)
    pairs = zip(model.parameters(), new_model.parameters())
    assert all(torch.equal(p, q) for p, q in pairs)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_asking_a_fresh_optimizer_for_its_state_does_not_count_as_a_step(mode):
    model, optimizer = model_and_optimizer(AdamWScheduleFree)
    getattr(optimizer, mode)()
    get_state_dict(model, optimizer)
    assert optimizer.param_groups[0]["k"] == 0
    assert optimizer.param_groups[0]["train_mode"] == (mode == "train")


def test_a_first_step_at_rate_zero_still_fills_the_second_moment():
    """A warm-up which starts at 0: the first gradient moves nothing, but is not forgotten."""
    ours, theirs = parameters(0), parameters(0)
    for params, o in (
        (ours, AdamWScheduleFree(ours, lr=0.1)),
        (theirs, schedulefree.AdamWScheduleFree(theirs, lr=0.1)),
    ):
        o.train()
        schedule = LambdaLR(o, lambda step: min(1, step / 5))
        for step in range(10):
            train(o, params, 1, seed=step)
            schedule.step()
    assert largest_difference(ours, theirs) < 1e-12


@pytest.fixture
def one_rank(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@BOTH
@EAGER
def test_sharded_parameters_step_like_plain_ones_and_keep_sharded_state(
    make, implementation, one_rank
):
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    plain = parameters(0, [(6, 4), (6,)])
    sharded = [
        nn.Parameter(distribute_tensor(p.detach().clone(), mesh, [Shard(0)])) for p in plain
    ]
    runs = [
        (params, make(params, lr=0.01, weight_decay=0.1, implementation=implementation))
        for params in (plain, sharded)
    ]
    for step in range(5):
        grads = gradients(step, plain)
        set_gradients(plain, grads)
        set_gradients(sharded, [distribute_tensor(g, mesh, [Shard(0)]) for g in grads])
        for _, optimizer in runs:
            optimizer.step()
    if make is AdamWScheduleFree:
        for _, optimizer in runs:
            optimizer.eval()
    assert all(torch.equal(p, q.full_tensor()) for p, q in zip(plain, sharded))
    states = runs[1][1].state.values()
    assert all(isinstance(t, DTensor) for state in states for t in state.values())
    assert optimizer_state_bytes(runs[0][1]) == optimizer_state_bytes(runs[1][1])


# --- Memory --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "tensors"), [(Lion, 1), (AdamWScheduleFree, 2), (torch.optim.AdamW, 2)]
)
def test_state_bytes_are_one_tensor_for_lion_and_two_for_the_others(make, tensors):
    p = nn.Parameter(torch.zeros(1000))
    optimizer = make([p])
    assert optimizer_state_bytes(optimizer) == 0
    train(optimizer, [p], 1)
    step_counter = 4 if make is torch.optim.AdamW else 0
    assert optimizer_state_bytes(optimizer) == tensors * 4 * 1000 + step_counter

# --- Loading: hooks, and the state of other optimizers ---------------------------------------


def trained(make, steps=2, dtype=torch.bfloat16):
    params = parameters(0, [(3,), (2, 2)], dtype)
    optimizer = make(params)
    train(optimizer, params, steps)
    return optimizer


@pytest.mark.parametrize("make", [Lion, AdamWScheduleFree, torch.optim.AdamW])
def test_what_a_pre_hook_returns_is_what_is_loaded(make):
    saved = trained(make).state_dict()
    name = "z" if make is AdamWScheduleFree else "exp_avg"

    def double(_, state_dict):
        state = {i: {**s, name: 2 * s[name]} for i, s in state_dict["state"].items()}
        return {**state_dict, "state": state}

    fresh = make(parameters(1, [(3,), (2, 2)], torch.bfloat16))
    fresh.register_load_state_dict_pre_hook(double)
    fresh.load_state_dict(saved)
    for i, p in enumerate(fresh.param_groups[0]["params"]):
        assert torch.equal(fresh.state[p][name], 2 * saved["state"][i][name])


@pytest.mark.parametrize("make", [Lion, AdamWScheduleFree, torch.optim.AdamW])
def test_a_pre_hook_may_rename_keys(make):
    saved = copy.deepcopy(trained(make).state_dict())
    name = "z" if make is AdamWScheduleFree else "exp_avg"
    for state in saved["state"].values():
        state["old"] = state.pop(name)

    def rename(_, state_dict):
        for state in state_dict["state"].values():
            state[name] = state.pop("old")

    fresh = make(parameters(1, [(3,), (2, 2)], torch.bfloat16))
    fresh.register_load_state_dict_pre_hook(rename)
    fresh.load_state_dict(saved)
    assert name in next(iter(fresh.state.values()))


@pytest.mark.parametrize("make", [Lion, AdamWScheduleFree, torch.optim.AdamW])
def test_what_a_hook_adds_to_the_state_stays_and_steps_go_on(make):
    def add(optimizer):
        for p in optimizer.param_groups[0]["params"]:
            optimizer.state[p]["seen"] = 7

    fresh = make(parameters(1, [(3,), (2, 2)], torch.bfloat16))
    fresh.register_load_state_dict_post_hook(add)
    fresh.load_state_dict(trained(make).state_dict())
    params = fresh.param_groups[0]["params"]
    train(fresh, params, 1)
    assert [fresh.state[p]["seen"] for p in params] == [7, 7]
    assert fresh.state_dict()["state"][0]["seen"] == 7


@BOTH
def test_state_of_the_users_own_does_not_keep_ours_from_being_made(make):
    params = parameters(0)
    optimizer = make(params)
    optimizer.state[params[0]]["mine"] = 1
    train(optimizer, params, 1)
    assert {"mine", *optimizer.state_names} == set(optimizer.state[params[0]])


OTHERS = {
    "SGD": lambda p: torch.optim.SGD(p, momentum=0.9),
    "AdamW": torch.optim.AdamW,
    "Adam": torch.optim.Adam,
    "NAdam": torch.optim.NAdam,
    "RAdam": torch.optim.RAdam,
    "RMSprop": torch.optim.RMSprop,
    "Adafactor": torch.optim.Adafactor,
    "Lion": Lion,
    "Schedule-Free": AdamWScheduleFree,
}


@pytest.mark.parametrize("steps", [0, 1], ids=["unstepped", "stepped"])
@pytest.mark.parametrize("other", OTHERS)
@BOTH
def test_the_state_of_another_optimizer_changes_nothing(make, other, steps):
    if OTHERS[other] is make:
        pytest.skip("its own")
    params = parameters(0)
    state_dict = trained(OTHERS[other], steps, torch.float32).state_dict()
    params = parameters(1, [(3,), (2, 2)])
    optimizer = make(params, lr=0.125)
    train(optimizer, params, 1)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=f"not of {make.__name__}"):
        optimizer.load_state_dict(state_dict)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for i, state in before["state"].items():
        assert all(torch.equal(state[n], after["state"][i][n]) for n in state)
    train(optimizer, params, 1)


@BOTH
def test_a_state_of_other_shapes_is_refused(make):
    saved = trained(make).state_dict()
    with pytest.raises(ValueError, match="in the order"):
        make(parameters(0, [(2, 2), (3,)])).load_state_dict(saved)


@BOTH
def test_a_saved_rate_that_is_none_is_refused(make):
    saved = trained(make).state_dict()
    saved["param_groups"][0]["lr"] = float("nan")
    with pytest.raises(ValueError, match="lr must be"):
        make(parameters(0, [(3,), (2, 2)])).load_state_dict(saved)


# --- Numbers of any kind ---------------------------------------------------------------------

KINDS = {
    "numpy": np.float64,
    "numpy 0-d": np.array,
    "tensor": lambda value: torch.tensor(value, dtype=torch.float64),
}


@pytest.mark.parametrize("kind", KINDS)
@EAGER
@BOTH
def test_settings_of_any_type_of_number_save_load_and_resume_alike(
    make, implementation, kind, tmp_path
):
    settings = {"lr": 0.01, "weight_decay": 0.1, "betas": (0.9, 0.95)}
    if make is AdamWScheduleFree:
        settings |= {"eps": 1e-6, "warmup_steps": 4}

    def of_kind(value):
        return tuple(map(of_kind, value)) if isinstance(value, tuple) else KINDS[kind](value)

    ends = []
    for given in (settings, {name: of_kind(value) for name, value in settings.items()}):
        params = parameters(0)
        optimizer = make(params, **given, implementation=implementation)
        schedule = LambdaLR(optimizer, lambda step: 1 / (1 + step))
        for part in range(2):
            for step in range(4):
                train(optimizer, params, 1, seed=10 * part + step)
                schedule.step()
            torch.save([optimizer.state_dict(), schedule.state_dict()], tmp_path / "state")
            saved = torch.load(tmp_path / "state", weights_only=True)
            optimizer = make(params, **given, implementation=implementation)
            schedule = LambdaLR(optimizer, lambda step: 1 / (1 + step))
            optimizer.load_state_dict(saved[0])
            schedule.load_state_dict(saved[1])
        ends.append([p.detach().clone() for p in params])
    assert largest_difference(*ends) < 1e-12


def test_a_rate_that_is_a_tensor_may_be_changed_in_place():
    rate = torch.tensor(0.5)
    p = nn.Parameter(torch.zeros(1))
    optimizer = Lion([p], lr=rate)
    for expected in (-0.5, -0.75):
        p.grad = torch.ones(1)
        optimizer.step()
        assert p.item() == expected
        rate.fill_(0.25)


@pytest.mark.parametrize("wrong", ["0.1", None, torch.ones(2), [0.1]], ids=str)
@BOTH
def test_a_rate_that_is_no_number_is_refused(make, wrong):
    if wrong == "0.1":
        pytest.skip("float() reads it")
    with pytest.raises(ValueError, match="lr must be one number"):
        make(parameters(0), lr=wrong)


@pytest.mark.parametrize("wrong", [0.9, None, ("a", "b"), (float("nan"), 0.9)], ids=str)
@BOTH
def test_betas_that_are_not_two_numbers_are_refused(make, wrong):
    with pytest.raises(ValueError, match="betas must be two numbers"):
        make(parameters(0), betas=wrong)


# --- Steps that move nothing, and what stops an element --------------------------------------


@pytest.mark.parametrize("rate", [0.0, 0.1])
@BOTH
def test_a_closure_is_always_called_and_its_loss_returned(make, rate):
    params = parameters(0)
    optimizer = make(params, lr=rate)
    set_gradients(params, [torch.zeros_like(p) for p in params])
    assert optimizer.step(lambda: torch.tensor(5.0)).item() == 5.0


def test_the_first_step_of_a_warm_up_calls_its_closure():
    params = parameters(0)
    optimizer = AdamWScheduleFree(params)
    cosine_with_warmup(optimizer, 2, 10)
    set_gradients(params, [torch.zeros_like(p) for p in params])
    assert optimizer.step(lambda: torch.tensor(5.0)).item() == 5.0
    assert optimizer.param_groups[0]["k"] == 1
    optimizer.eval()
    with pytest.raises(RuntimeError, match="eval mode"):
        optimizer.step(lambda: torch.tensor(5.0))


@EAGER
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@BOTH
def test_without_any_gradient_nothing_moves_in_every_dtype(make, dtype, implementation):
    params = parameters(0, dtype=dtype)
    optimizer = make(params, lr=0.1, weight_decay=0.1, implementation=implementation)
    optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(params, parameters(0, dtype=dtype)))
    assert not any(optimizer.state.values())


@BOTH
def test_a_refused_gradient_in_the_second_group_changes_nothing_in_the_first(make):
    first, embedding = parameters(0), nn.Embedding(5, 2, sparse=True)
    optimizer = make([{"params": first}, {"params": embedding.parameters()}])
    set_gradients(first, gradients(0, first))
    embedding(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse=False"):
        optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(first, parameters(0)))
    assert optimizer.param_groups[0].get("k", 0) == 0


@EAGER
def test_one_nan_gradient_stops_an_element_of_lion_and_ends_in_nan_with_adamw(implementation):
    ends = {}
    for name, make in {
        "Lion": lambda p: Lion(p, lr=0.1, implementation=implementation),
        "AdamW": lambda p: torch.optim.AdamW(p, lr=0.1),
    }.items():
        p = nn.Parameter(torch.zeros(2))
        optimizer = make([p])
        for step in range(50):
            p.grad = torch.tensor([math.nan if step == 3 else 1.0, 1.0])
            optimizer.step()
        ends[name] = p.detach()
    assert ends["Lion"].tolist() == pytest.approx([-0.3, -5.0], abs=1e-5)
    assert ends["AdamW"].isnan().tolist() == [True, False]


@pytest.mark.parametrize(("beta2", "held"), [(0.99, 0.80), (0.999, 0.25)])
def test_a_bfloat16_momentum_stalls_where_its_increment_is_half_a_unit(beta2, held):
    """From 0 towards a gradient of 1. A float32 momentum gets there."""
    low, high = torch.zeros((), dtype=torch.bfloat16), torch.zeros(())
    for _ in range(10_000):
        low = (beta2 * low.float() + (1 - beta2)).bfloat16()
        high = beta2 * high + (1 - beta2)
    assert low.item() == pytest.approx(held, abs=0.01)
    assert high.item() == pytest.approx(1, abs=1e-3)


# --- What the listings of section 119.2 do -------------------------------------------------


def run_lion(p0, grads, **kwargs):
    p = nn.Parameter(torch.as_tensor(p0, dtype=torch.float64))
    optimizer = Lion([p], **kwargs)
    for g in grads:
        p.grad = torch.as_tensor(g, dtype=torch.float64)
        optimizer.step()
    return p.detach()


def test_listing_lion_loses_weight_decay_in_the_sign():
    p, g = torch.ones(2, dtype=torch.float64), torch.tensor([1e-3, -1e-3], dtype=torch.float64)
    m = torch.zeros(2, dtype=torch.float64)
    for _ in range(5):
        m = 0.9 * m + 0.1 * (g + 1.0 * p)  # the listing adds the decay to the gradient
        p = p - 0.01 * m.sign()
    assert p.tolist() == pytest.approx([0.95, 0.95])  # both shrink, whatever the gradient says
    ours = run_lion([1.0, 1.0], [g] * 5, lr=0.01, weight_decay=1.0)
    assert ours.tolist() == pytest.approx([1 - 0.02 * (1 - 0.99**5) / 0.01, 1.0])  # (0.902, 1)


def test_listing_lion_never_uses_beta2():
    grads = [[1.0]] * 10 + [[-1.0]] * 10

    def listing(betas):
        p, m = 0.0, 0.0
        for (g,) in grads:
            m = betas[0] * m + (1 - betas[0]) * g  # stored with β₁, and its sign is the step
            p -= 0.1 * math.copysign(1, m)
        return p

    assert listing((0.9, 0.5)) == listing((0.9, 0.99))
    ours = [run_lion([0.0], grads, lr=0.1, betas=(0.9, b)).item() for b in (0.5, 0.99)]
    assert ours[0] != ours[1]


def test_listing_lion_forgets_ten_times_too_soon():
    """After 200 gradients of +1 come gradients of −1: when does the step turn?"""
    m, listing_turns = 1 - 0.9**200, 0
    while m > 0:
        m, listing_turns = 0.9 * m + 0.1 * -1.0, listing_turns + 1
    assert listing_turns == 7

    p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = Lion([p], lr=1.0)
    for _ in range(200):
        p.grad = torch.ones_like(p)
        optimizer.step()
    lion_turns, before = 0, math.inf
    while p.item() < before:
        before, lion_turns = p.item(), lion_turns + 1
        p.grad = -torch.ones_like(p)
        optimizer.step()
    # 0.9 m − 0.1 < 0 once the slow momentum m = 0.99ⁿ⁻¹ (2 − 0.99²⁰⁰) − 1 is below 1/9
    assert lion_turns == 53


class ListingLion(nn.Module):
    """What the listing's base class does, without its arithmetic."""

    def __init__(self, params):
        super().__init__()
        self.params = list(params)
        self.exp_avg = [torch.zeros_like(p) for p in self.params]

    def step(self, closure=None):
        for i, p in enumerate(self.params):
            self.exp_avg[i] = 0.9 * self.exp_avg[i] + (1 - 0.9) * p.grad
            p.data = p.data - 0.01 * torch.sign(self.exp_avg[i])
        return loss  # noqa: F821


def test_listing_lion_ends_each_step_in_a_name_error():
    params = parameters(0)
    set_gradients(params, gradients(0, params))
    with pytest.raises(NameError, match="loss"):
        ListingLion(params).step()
    assert Lion(params).step(lambda: 3.0) == 3.0


def test_listing_lion_as_a_module_saves_nothing_and_takes_no_scheduler():
    params = parameters(0)
    listing, ours = ListingLion(params), Lion(params)
    assert len(listing.state_dict()) == 0
    with pytest.raises(AttributeError, match="param_groups"):
        LambdaLR(listing, lambda step: 1.0)
    with pytest.raises(TypeError, match="not an Optimizer"):
        CosineAnnealingLR(listing, T_max=10)
    train(ours, params, 1)
    assert len(ours.state_dict()["state"]) == len(params)
    LambdaLR(ours, lambda step: 1.0)


def test_listing_lion_zero_grad_clears_nothing():
    """nn.Module has a zero_grad of its own, for parameters which a plain list hides from it."""
    params = parameters(0, [(3,)])
    set_gradients(params, gradients(0, params))
    ListingLion(params).zero_grad()
    assert params[0].grad is not None
    Lion(params).zero_grad()
    assert params[0].grad is None


def test_listing_lion_keeps_the_graph_and_moves_the_weights_to_new_memory():
    p = nn.Parameter(torch.ones(2))
    (p.grad,) = torch.autograd.grad((p**3).sum(), p, create_graph=True)
    listing, address = ListingLion([p]), p.data_ptr()
    with pytest.raises(NameError):
        listing.step()
    assert listing.exp_avg[0].requires_grad  # no torch.no_grad: it holds every past graph
    assert p.data_ptr() != address  # a view into a flat buffer would no longer be one

    ours, address = Lion([p]), p.data_ptr()
    ours.step()
    assert not ours.state[p]["exp_avg"].requires_grad
    assert p.data_ptr() == address
    p.grad = None  # break the cycle between parameter and graph


def test_listing_lion_defaults_leave_the_weights_free_up_to_100():
    """Under a constant gradient weights settle at 1/λ: AdamW's 0.01 hardly holds them."""
    for decay, limit in ((0.01, 100.0), (1.0, 1.0)):
        inside, outside = (
            run_lion([at], [[-1.0]], lr=3e-4, weight_decay=decay).item() - at
            for at in (0.9 * limit, 1.1 * limit)
        )
        assert inside > 0 > outside


def listing_schedule_free_step(p, g, index=0, lr=0.01, weight_decay=0.0, y=None, v=0.0):
    """The listing's formulas for one parameter; `weight_decay` is as unused as there."""
    y = p if y is None else y
    y = (1 - 0.9) * y + 0.9 * g
    v = 0.999 * v + (1 - 0.999) * g**2
    step_size = lr / (1 - 0.999 ** (index + 1))
    return p - step_size * y / (math.sqrt(v) + 1e-8), y, v


def run_schedule_free(values, steps_of_gradients, **kwargs):
    params = [nn.Parameter(torch.tensor([v], dtype=torch.float64)) for v in values]
    optimizer = AdamWScheduleFree(params, **kwargs)
    for grads in steps_of_gradients:
        for p, g in zip(params, grads):
            p.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
    return [p.item() for p in params]


def test_listing_schedule_free_throws_the_weights_away_in_one_step():
    listing, _, _ = listing_schedule_free_step(1.0, 1.0)
    assert listing == pytest.approx(-315.2, abs=0.1)
    assert run_schedule_free([1.0], [[1.0]], lr=0.01) == pytest.approx([0.99])


def test_listing_schedule_free_moves_without_a_gradient():
    """Its y starts as the parameter, and is then averaged with gradients."""
    listing, _, _ = listing_schedule_free_step(1.0, 0.0)
    assert listing == pytest.approx(-1e8, rel=1e-3)
    assert run_schedule_free([1.0], [[0.0]], lr=0.01) == [1.0]


def test_listing_schedule_free_swaps_the_weights_of_memory_and_gradient():
    _, y, _ = listing_schedule_free_step(1.0, 5.0)
    assert y == pytest.approx(0.1 * 1.0 + 0.9 * 5.0)  # β₁ goes to the new value, not to the old
    reference = ScheduleFreeReference(torch.ones(1, dtype=torch.float64), lr=0.01)
    for g in (5.0, 1.0):
        reference.step(torch.tensor([g], dtype=torch.float64))
    torch.testing.assert_close(reference.y, 0.1 * reference.z + 0.9 * reference.x)


def test_listing_schedule_free_corrects_the_bias_by_the_index_of_the_parameter():
    """Equal parameters with equal gradients move differently, and never warm up."""
    listing = [1.0 - listing_schedule_free_step(1.0, 1.0, index=i)[0] for i in (0, 1)]
    assert listing[0] / listing[1] == pytest.approx(2, rel=1e-3)
    first, second = run_schedule_free([1.0, 1.0], [[1.0, 1.0]] * 5)
    assert first == second


def test_listing_schedule_free_divides_by_the_correction_outside_the_root():
    """After one step √(v / (1 − β₂)) is |g|; √v times (1 − β₂) is |g| / 31,623."""
    g, v = 1.0, (1 - 0.999) * 1.0
    assert g / (math.sqrt(v) * (1 - 0.999)) == pytest.approx(31623, rel=1e-3)
    assert g / math.sqrt(v / (1 - 0.999)) == pytest.approx(1.0)
    assert 1.0 - run_schedule_free([1.0], [[1.0]], lr=0.01)[0] == pytest.approx(0.01)


def test_listing_schedule_free_ignores_weight_decay():
    assert listing_schedule_free_step(1.0, 1.0, weight_decay=0.5) == listing_schedule_free_step(
        1.0, 1.0
    )
    assert run_schedule_free([1.0], [[1.0]], lr=0.01, weight_decay=0.5) == pytest.approx([0.985])


def test_listing_schedule_free_has_no_average_to_evaluate():
    """Noise around the optimum: the stepping weights keep it all, the average x little."""
    generator = torch.Generator().manual_seed(0)
    reference = ScheduleFreeReference(torch.zeros(500, dtype=torch.float64), lr=0.05)
    for _ in range(300):
        noise = torch.randn(500, generator=generator, dtype=torch.float64)
        reference.step(reference.y + noise)
    x, z = reference.x.pow(2).mean(), reference.z.pow(2).mean()
    assert z > 5 * x  # a listing without x evaluates z
    assert not hasattr(torch.optim.Adam, "eval") and callable(AdamWScheduleFree.eval)


@pytest.mark.parametrize("optimizer_class", [Lion, AdamWScheduleFree])
def test_a_step_leaves_the_gradient_as_it_is(optimizer_class):
    g = torch.Generator().manual_seed(0)
    p = torch.nn.Parameter(torch.randn(300, generator=g))
    p.grad = torch.randn(300, generator=g)
    before = p.grad.clone()
    optimizer = optimizer_class([p], weight_decay=0.1)
    for _ in range(3):
        optimizer.step()
    assert torch.equal(p.grad, before)


@pytest.mark.parametrize("optimizer_class", [Lion, AdamWScheduleFree])
def test_memory_order_of_parameter_and_gradient_does_not_matter(optimizer_class):
    g = torch.Generator().manual_seed(0)
    start, grad = (torch.randn(4, 5, generator=g, dtype=torch.float64) for _ in range(2))
    ends = []
    for layout in (lambda t: t.clone(), lambda t: t.T.contiguous().T):
        for grad_layout in (lambda t: t.clone(), lambda t: t.T.contiguous().T):
            p = torch.nn.Parameter(layout(start))
            p.grad = grad_layout(grad)
            optimizer = optimizer_class([p], weight_decay=0.1)
            for _ in range(3):
                optimizer.step()
            ends.append(p.detach().contiguous())
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=0, atol=1e-12)


# --- The recorded measurement, small and on a CPU --------------------------------------------


def test_the_measurement_of_step_times_runs_on_a_cpu():
    from dlcourse.large_scale_training.experiments.step_time import (
        disagreement,
        measure_optimizers,
        transformer_shapes,
    )

    assert len(transformer_shapes()) == 146
    names = ("AdamW foreach", "AdamW fused", "Lion loop", "Lion foreach", "Schedule-Free foreach")
    result = measure_optimizers([(8, 8), (8,)], "cpu", names=names, repeats=2, copied=2**10)
    assert result["parameters"] == 72 and result["tensors"] == 2
    assert result["bytes"]["Lion loop"] == 20 * 72
    assert all(len(result["alone"][name]) == 2 for name in names)
    for form in ("loop", "foreach"):
        for dtype in (torch.float32, torch.bfloat16):
            assert disagreement(form, "cpu", dtype) < 1e-3
