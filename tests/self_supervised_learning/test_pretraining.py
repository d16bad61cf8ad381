"""The training loop of chapter 120: AdamW, warm-up and cosine, all from one seed."""

import math

import pytest
import torch
from torch import nn

from dlcourse.self_supervised_learning import pretrain


def model_and_data(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 2))
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(1))
    y = torch.stack([x[:, 0] * x[:, 1], x.sum(1).sin()], 1)
    return model, x, y


def regression(model, x, y):
    return lambda indices, generator: (model(x[indices]) - y[indices]).square().mean()


def run(**settings):
    model, x, y = model_and_data()
    return pretrain(model, regression(model, x, y), 40, batch_size=10, **settings), model


def rates(steps, warmup, lr=1.0):
    """The rate of each update, from how far an update moves the one parameter.

    The gradient is constant, so every step of Adam without decay is the rate times 1.
    """
    model = nn.Linear(1, 1, bias=False)
    places = [model.weight.item()]
    pretrain(
        model, lambda indices, generator: model.weight.sum(), 4, steps=steps, batch_size=2, lr=lr,
        weight_decay=0.0, warmup=warmup, after_step=lambda step: places.append(model.weight.item()),
    )  # fmt: skip
    return [a - b for a, b in zip(places[:-1], places[1:], strict=True)]


@pytest.mark.parametrize(("steps", "warmup"), [(20, 0.25), (10, 0.0), (7, 0.5), (1, 0.0)])
def test_the_rate_rises_in_a_line_and_falls_as_half_a_cosine(steps, warmup):
    warm = max(1, round(warmup * steps))
    expected = [
        0.3 * (t + 1) / warm if t < warm
        else 0.3 * (1 + math.cos(math.pi * (t - warm) / (steps - warm))) / 2
        for t in range(steps)
    ]  # fmt: skip
    assert rates(steps, warmup, lr=0.3) == pytest.approx(expected, abs=1e-5)
    assert max(expected) == pytest.approx(0.3)


def test_each_update_is_pytorchs_adamw():
    history, model = run(steps=6, warmup=0.5, lr=0.02, weight_decay=0.3)
    expected, x, y = model_and_data()
    matrices = [p for p in expected.parameters() if p.dim() == 2]
    others = [p for p in expected.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.3}, {"params": others, "weight_decay": 0.0}],
        betas=(0.9, 0.95),
    )
    batches = []
    order = torch.Generator().manual_seed(0)
    for _ in range(2):
        batches += torch.randperm(40, generator=order).split(10)
    for step in range(6):
        rate = [1 / 3, 2 / 3, 1, 1, 0.75, 0.25][step] * 0.02
        for group in optimizer.param_groups:
            group["lr"] = rate
        value = regression(expected, x, y)(batches[step], None)
        assert history[step] == pytest.approx(value.item(), rel=1e-5)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_decay_shrinks_matrices_and_leaves_biases_norms_and_tokens():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 3)
            self.norm = nn.LayerNorm(3)
            self.token = nn.Parameter(torch.ones(1, 1, 3))
            self.table = nn.Parameter(torch.ones(1, 5, 3))

    model = Model()
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(1.0)
    zero = lambda indices, generator: 0.0 * sum(p.sum() for p in model.parameters())  # noqa: E731
    pretrain(model, zero, 4, steps=1, batch_size=1, lr=0.1, weight_decay=0.5, warmup=0.0)
    shrunk = {name for name, p in model.named_parameters() if (p < 0.96).all()}
    kept = {name for name, p in model.named_parameters() if (p == 1).all()}
    assert shrunk == {"linear.weight", "table"}
    assert kept == {"linear.bias", "norm.weight", "norm.bias", "token"}


def test_parameters_without_gradients_stay():
    model, x, y = model_and_data()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    pretrain(model, regression(model, x, y), 40, steps=3, batch_size=10, lr=0.1)
    assert torch.equal(model[0].weight, before) and model[0].weight.grad is None


def test_the_loss_falls():
    history, _ = run(steps=200, lr=0.02)
    assert len(history) == 200
    assert sum(history[-20:]) < 0.5 * sum(history[:20])


def test_every_pass_visits_every_example_once_and_the_ragged_end_is_dropped():
    seen = []

    def loss(indices, generator):
        seen.append(indices.tolist())
        return model.weight.sum()

    model = nn.Linear(1, 1)
    pretrain(model, loss, 10, steps=9, batch_size=3, seed=4)
    assert all(len(batch) == 3 for batch in seen)
    for epoch in range(3):
        visited = sum(seen[3 * epoch : 3 * epoch + 3], [])
        assert len(set(visited)) == 9 and set(visited) <= set(range(10))
    assert seen[:3] != seen[3:6] != seen[6:9]


def test_the_seed_alone_decides():
    results = []
    for global_seed, seed in ((1, 5), (2, 5), (1, 6)):
        model, x, y = model_and_data()
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()

        def loss(indices, generator, model=model, x=x, y=y):
            shift = torch.randn(len(indices), 4, generator=generator)
            return (model(x[indices] + shift) - y[indices]).square().mean()

        results.append(pretrain(model, loss, 40, steps=10, batch_size=10, seed=seed))
        assert torch.equal(torch.get_rng_state(), state)
    assert results[0] == results[1] != results[2]


def test_the_gradient_is_clipped_to_its_norm():
    norms = []
    for limit in (None, 0.01):
        model, x, y = model_and_data()

        def note(step, model=model):
            norms.append(torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item())

        pretrain(
            model, regression(model, x, y), 40, steps=2, batch_size=10, max_grad_norm=limit,
            after_step=note,
        )  # fmt: skip
    assert min(norms[:2]) > 0.1
    assert norms[2:] == pytest.approx([0.01, 0.01], rel=1e-3)


def test_after_step_sees_the_updated_model_and_counts_from_one():
    model, x, y = model_and_data()
    weights, calls = [model[0].weight.detach().clone()], []

    def note(step):
        calls.append(step)
        weights.append(model[0].weight.detach().clone())

    pretrain(model, regression(model, x, y), 40, steps=4, batch_size=10, after_step=note)
    assert calls == [1, 2, 3, 4]
    assert all(not torch.equal(a, b) for a, b in zip(weights[:-1], weights[1:], strict=True))
    assert torch.equal(weights[-1], model[0].weight)


def test_the_model_trains_in_train_mode_and_is_left_in_eval_mode():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).eval()
    modes = []

    def loss(indices, generator):
        modes.append(model[1].training)
        return model(torch.ones(len(indices), 4)).sum()

    pretrain(model, loss, 8, steps=2, batch_size=4)
    assert modes == [True, True] and not model[1].training


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_its_step(value):
    model = nn.Linear(1, 1)
    count = iter(range(10))

    def loss(indices, generator):
        return model.weight.sum() + (value if next(count) == 2 else 0.0)

    with pytest.raises(FloatingPointError, match="step 3: lower lr"):
        pretrain(model, loss, 8, steps=5, batch_size=4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps >= 1"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 41}, "n = 40"),
        ({"warmup": 1.0}, r"\[0, 1\)"),
        ({"warmup": -0.1}, r"\[0, 1\)"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, message):
    model, x, y = model_and_data()
    with pytest.raises(ValueError, match=message):
        pretrain(model, regression(model, x, y), 40, **{"steps": 1, "batch_size": 10, **wrong})
