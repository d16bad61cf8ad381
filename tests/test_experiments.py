"""Facts about the harness: networks trained side by side are as if trained alone."""

import copy

import pytest
import torch
import torch.nn.functional as F

from dlcourse.datasets import Split
from dlcourse.experiments import MLPs, accuracies, cross_entropy, losses, train


def task(n=40, inputs=6, classes=3):
    g = torch.Generator().manual_seed(0)
    x = torch.rand(n, 1, 2, inputs // 2, generator=g)
    return Split(x, torch.randint(0, classes, (n,), generator=g))


def adamw(model):
    return torch.optim.AdamW(model.parameters(), 0.01)


def test_networks_side_by_side_end_where_each_ends_alone():
    data, together = task(), MLPs((6, 8, 3), seeds=(4, 9))
    train(together, adamw(together), data, steps=25, batch_size=8)
    for i, seed in enumerate((4, 9)):
        alone = MLPs((6, 8, 3), seeds=(seed,))
        train(alone, adamw(alone), data, steps=25, batch_size=8)
        for a, b in zip(alone.parameters(), together.parameters(), strict=True):
            torch.testing.assert_close(a[0], b[i], rtol=1e-5, atol=1e-6)


def test_forward_is_the_plain_network():
    model, x = MLPs((6, 5, 4, 3), seeds=(1,)), torch.rand(7, 6)
    h = x
    for layer in range(3):
        h = h @ model.weights[layer][0] + model.biases[layer][0]
        h = h.relu() if layer < 2 else h
    torch.testing.assert_close(model(x[None])[0], h)


def test_losses_and_accuracies_are_those_of_each_network():
    data, model = task(), MLPs((6, 8, 3), seeds=(0, 1, 2))
    logits = model(data.x.flatten(1).expand(3, -1, -1))
    for i in range(3):
        expected = F.cross_entropy(logits[i], data.y).item()
        assert losses(model, data)[i].item() == pytest.approx(expected)
        assert accuracies(model, data)[i] == (logits[i].argmax(-1) == data.y).double().mean()


def test_cross_entropy_averages_over_the_batch_alone():
    logits, y = torch.randn(2, 5, 3), torch.randint(0, 3, (2, 5))
    expected = torch.stack([F.cross_entropy(logits[i], y[i]) for i in range(2)])
    torch.testing.assert_close(cross_entropy(logits, y), expected)


def test_measurements_come_after_the_named_steps_and_change_nothing():
    data = task()
    plain, measured = MLPs((6, 8, 3), seeds=(0,)), MLPs((6, 8, 3), seeds=(0,))
    train(plain, adamw(plain), data, steps=10, batch_size=8)
    points = train(
        measured,
        adamw(measured),
        data,
        steps=10,
        batch_size=8,
        measure=lambda: losses(measured, data).item(),
        measure_at=(10, 5),
    )
    assert [p.step for p in points] == [5, 10]
    assert points[1].value == losses(plain, data).item()
    for a, b in zip(plain.parameters(), measured.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("start", [1, 3, 7, 12])
def test_a_run_continued_from_a_step_equals_the_uninterrupted_one_bit_for_bit(start):
    data, whole = task(), MLPs((6, 8, 3), seeds=(2, 5))  # 5 batches a pass: start is within one
    optimizer, saved = adamw(whole), []
    train(
        whole,
        optimizer,
        data,
        steps=13,
        batch_size=8,
        measure=lambda: saved.append(copy.deepcopy((whole.state_dict(), optimizer.state_dict()))),
        measure_at=(start,),
    )
    continued = MLPs((6, 8, 3), seeds=(2, 5))
    optimizer = adamw(continued)
    continued.load_state_dict(saved[0][0])
    optimizer.load_state_dict(saved[0][1])
    points = train(
        continued,
        optimizer,
        data,
        steps=13,
        batch_size=8,
        start=start,
        measure=lambda: losses(continued, data),
        measure_at=(13,),
    )
    assert points[0].step == 13
    for a, b in zip(whole.parameters(), continued.parameters(), strict=True):
        assert torch.equal(a, b)


def test_modes_of_the_optimizer_follow_training_and_measuring():
    class Recorder(torch.optim.SGD):
        calls: list = []

        def train(self):
            self.calls.append("train")

        def eval(self):
            self.calls.append("eval")

    model = MLPs((6, 3), seeds=(0,))
    optimizer = Recorder(model.parameters(), 0.1)
    train(model, optimizer, task(), steps=3, batch_size=8, measure=list, measure_at=(2,))
    assert optimizer.calls == ["train", "eval", "train", "eval"]


def test_the_schedule_is_stepped_once_a_step():
    model = MLPs((6, 3), seeds=(0,))
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    train(model, optimizer, task(), steps=3, batch_size=8, scheduler=schedule)
    assert optimizer.param_groups[0]["lr"] == 0.5**3


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"batch_size": 0}, {"batch_size": 41}, {"measure": list, "measure_at": (0,)},
     {"measure_at": (1,)}, {"start": 3}, {"start": -1},
     {"start": 2, "measure": list, "measure_at": (2,)}],
)
def test_counts_out_of_range_are_refused(wrong):
    model = MLPs((6, 3), seeds=(0,))
    with pytest.raises(ValueError, match="need|measure|start"):
        train(model, adamw(model), task(), **({"steps": 3, "batch_size": 8} | wrong))


@pytest.mark.parametrize("sizes, seeds", [((6,), (0,)), ((6, 3), ())])
def test_a_network_needs_two_sizes_and_a_seed(sizes, seeds):
    with pytest.raises(ValueError, match="sizes"):
        MLPs(sizes, seeds)
