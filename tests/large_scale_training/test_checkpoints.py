"""Checkpoints (119.1b): complete, crash-safe, and loadable on another number of ranks.

Starting ranks takes seconds, so each ``launch`` below establishes many facts, in module-scoped
fixtures, and the tests read them one by one.
"""

import json
import os
import random
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from dlcourse.large_scale_training import (
    AdamWScheduleFree,
    CheckpointError,
    Lion,
    cosine_with_warmup,
    distributed,
    launch,
    load_checkpoint,
    rng_state,
    save_checkpoint,
    save_checkpoint_async,
    set_rng_state,
    shard,
)

# As with functions of a notebook: the ranks cannot import this file and get its code by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

STEPS = 20
OPTIMIZERS = {
    "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-2),
    "Lion": lambda p: Lion(p, lr=1e-3, weight_decay=0.1),
    "ScheduleFree": lambda p: AdamWScheduleFree(p, lr=1e-2, warmup_steps=5),
}


class Net(nn.Module):
    """Two blocks of a list and a head outside it; all widths divide by 4."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Dropout(0.0)) for _ in range(2)
        )
        self.head = nn.Linear(16, 8)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def data(steps=STEPS, seed=1):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(steps, 16, 16, generator=g), torch.randn(steps, 16, 8, generator=g)


def losses_of(model, optimizer, rank=0, world_size=1, steps=slice(None)):
    """The mean loss of the whole batch at each step, each rank working on its part."""
    losses = []
    for x, y in zip(*(t[steps] for t in data()), strict=True):
        x, y = x.chunk(world_size)[rank], y.chunk(world_size)[rank]
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        mean = loss.detach().clone()
        if world_size > 1:
            dist.all_reduce(mean)
        losses.append(mean.item() / world_size)
    return losses


def full(model):
    """All weights as plain tensors, gathered from the shards."""
    gather = lambda t: t.full_tensor() if hasattr(t, "full_tensor") else t  # noqa: E731
    named = model.named_parameters()
    return {name.removeprefix("module."): gather(p.detach()).clone() for name, p in named}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def message(error, call):
    """What ``call`` says when it refuses; raises if it does not."""
    try:
        call()
    except error as caught:
        return str(caught)
    raise AssertionError("nothing was raised")


# --- what the ranks do -------------------------------------------------------------


def train_and_die(world, folder):
    """20 steps with a checkpoint every 4; on the first attempt rank 1 dies in step 10."""
    attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    model = shard(Net())
    optimizer = Lion(model.parameters(), lr=1e-3)
    try:
        first = load_checkpoint(folder, model, optimizer)["step"]
    except FileNotFoundError:
        first = 0
    for step in range(first, STEPS):
        if attempt == 0 and world.rank == 1 and step == 10:
            os.kill(os.getpid(), 9)
        losses_of(model, optimizer, world.rank, world.world_size, slice(step, step + 1))
        if (step + 1) % 4 == 0:
            save_checkpoint(folder, model, optimizer, step=step + 1)
    return attempt, first, full(model)


def on_two_ranks(folder):
    """Everything that needs two ranks; returns facts by name. The first attempt ends early."""
    facts = {}
    with distributed("gloo") as world:
        facts["restarted"] = train_and_die(world, Path(folder, "restarted"))

        for name, make in OPTIMIZERS.items():  # 10 steps, a save, 10 more; then again from the save
            path = Path(folder, name)
            model = shard(Net())
            optimizer = make(model.parameters())
            losses_of(model, optimizer, world.rank, 2, slice(0, 10))
            saved = full(model)
            save_checkpoint(path, model, optimizer, step=10, extra={"rank": world.rank})
            rest = losses_of(model, optimizer, world.rank, 2, slice(10, 20))
            again = shard(Net(seed=9))
            optimizer_again = make(again.parameters())
            found = load_checkpoint(path, again, optimizer_again)
            facts["loaded", name] = (found, equal(full(again), saved), saved)
            same = losses_of(again, optimizer_again, world.rank, 2, slice(10, 20)) == rest
            facts["resumed", name] = same and equal(full(again), full(model))

        path = Path(folder, "asynchronous")
        before = full(model)
        pending = save_checkpoint_async(path, model, optimizer, step=20)
        facts["second save refused"] = message(
            RuntimeError, lambda: save_checkpoint(path, model, optimizer)
        )
        losses_of(model, optimizer, world.rank, 2)  # the weights change while it is written
        pending.wait()
        found = load_checkpoint(path, again)
        facts["asynchronous"] = (found["step"], equal(full(again), before))
    return facts


def on_four_ranks(folder):
    facts = {}
    with distributed("gloo") as world:
        for name, make in OPTIMIZERS.items():
            model = shard(Net(seed=9))
            optimizer = make(model.parameters())
            found = load_checkpoint(Path(folder, name), model, optimizer)
            losses = losses_of(model, optimizer, world.rank, 4, slice(10, 20))
            facts[name] = (found, losses)
    return facts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def two(folder):
    return launch(on_two_ranks, 2, str(folder), time_limit=300, max_restarts=1)


@pytest.fixture(scope="module")
def four(two, folder):
    return launch(on_four_ranks, 4, str(folder), time_limit=300)


@pytest.fixture(scope="module")
def one():
    """The single process without any process group."""
    facts = {}
    for name, make in OPTIMIZERS.items():
        model = Net()
        facts[name] = losses_of(model, make(model.parameters()))
    return facts


# --- what is saved comes back ------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_two_ranks_resume_to_the_bit(two, optimizer):
    for rank, facts in enumerate(two):
        found, weights_equal, _ = facts["loaded", optimizer]
        assert found == {"step": 10, "extra": {"rank": rank}, "world_size": 2}
        assert weights_equal
        assert facts["resumed", optimizer]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_saved_on_two_ranks_loads_on_four_and_in_a_plain_model(one, two, four, folder, optimizer):
    for facts in four:
        found, losses = facts[optimizer]
        assert found == {"step": 10, "extra": {"rank": 0}, "world_size": 2}
        assert np.abs(np.subtract(losses, one[optimizer][10:])).max() < 1e-5

    model = Net(seed=9)
    plain = OPTIMIZERS[optimizer](model.parameters())
    assert not dist.is_initialized()
    assert load_checkpoint(folder / optimizer, model, plain)["step"] == 10
    assert equal(full(model), two[0]["loaded", optimizer][2])
    losses = losses_of(model, plain, steps=slice(10, 20))
    assert np.abs(np.subtract(losses, one[optimizer][10:])).max() < 1e-5


def test_an_asynchronous_save_holds_the_weights_of_its_call(two):
    for facts in two:
        assert facts["asynchronous"] == (20, True)
        assert "wait()" in facts["second save refused"]


def resumable(optimizer_name):
    """A run with everything that has a state: dropout, a schedule, shuffled data."""
    model = Net()
    for layer in model.layers:
        layer[2].p = 0.5
    optimizer = OPTIMIZERS[optimizer_name](model.parameters())
    schedule = cosine_with_warmup(optimizer, 3, 12) if optimizer_name != "ScheduleFree" else None
    return model, optimizer, schedule


def train(model, optimizer, schedule, position, steps):
    x, y = (t.flatten(0, 1) for t in data())
    for _ in range(steps):
        epoch, offset = divmod(position, 4)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
        rows = order[offset * 80 : (offset + 1) * 80]
        optimizer.zero_grad()
        (model(x[rows]) - y[rows]).square().mean().backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
        position += 1
    return position


@pytest.mark.parametrize("saved_at", [0, 5])
@pytest.mark.parametrize("optimizer_name", OPTIMIZERS)
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(tmp_path, optimizer_name, saved_at):
    torch.manual_seed(3)
    parts = resumable(optimizer_name)
    position = train(*parts, 0, saved_at)
    extra = {
        "schedule": parts[2].state_dict() if parts[2] else None,
        "rng": rng_state(),
        "position": position,
    }
    save_checkpoint(tmp_path, *parts[:2], step=saved_at, extra=extra)
    train(*parts, position, 6)

    torch.manual_seed(99)  # another process would have another state
    again = resumable(optimizer_name)
    train(*again, 0, 1)  # and the optimizer need not be fresh
    found = load_checkpoint(tmp_path, *again[:2])
    if again[2]:
        again[2].load_state_dict(found["extra"]["schedule"])
    set_rng_state(found["extra"]["rng"])
    train(*again, found["extra"]["position"], 6)
    assert found["step"] == saved_at
    assert equal(full(again[0]), full(parts[0]))


def test_schedule_free_is_restored_in_eval_mode_too(tmp_path):
    model, optimizer, _ = resumable("ScheduleFree")
    train(model, optimizer, None, 0, 3)
    optimizer.eval()
    averaged = full(model)
    save_checkpoint(tmp_path, model, optimizer)
    fresh = Net(seed=9)
    other = OPTIMIZERS["ScheduleFree"](fresh.parameters())
    other.eval()
    load_checkpoint(tmp_path, fresh, other)
    assert equal(full(fresh), averaged)
    optimizer.train()
    other.train()
    assert equal(full(fresh), full(model))


def test_a_parameter_that_never_had_a_gradient_has_no_state_after_loading_either(tmp_path):
    model = Net()
    model.head.bias.requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters())
    losses_of(model, optimizer, steps=slice(0, 2))
    save_checkpoint(tmp_path, model, optimizer)
    other = torch.optim.AdamW(model.parameters())
    load_checkpoint(tmp_path, model, other)
    assert model.head.bias not in other.state and len(other.state) == len(optimizer.state) == 5


def test_saving_changes_nothing(tmp_path):
    """torch's get_state_dict makes a step at rate 0 on a fresh optimizer, and Adam counts it."""
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters())
    save_checkpoint(tmp_path, model, optimizer)
    assert len(optimizer.state) == 0 and all(p.grad is None for p in model.parameters())

    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

    get_optimizer_state_dict(model, optimizer)
    assert optimizer.state[model.head.weight]["step"] == 1


def test_random_generators_continue_where_they_were():
    state = rng_state()
    drawn = [(random.random(), np.random.rand(), torch.rand(()).item()) for _ in range(2)]
    set_rng_state(state)
    assert [(random.random(), np.random.rand(), torch.rand(()).item()) for _ in range(2)] == drawn


def test_only_the_newest_version_is_kept(tmp_path):
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    (tmp_path / "step-00000000-deadbeef").mkdir()  # left by a save that was killed
    for step in (1, 2):
        version = save_checkpoint(tmp_path, model, optimizer, step=step)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", version.name]
    assert load_checkpoint(tmp_path, model)["step"] == 2


def test_compiled_and_checkpointed_names_do_not_matter(tmp_path):
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    model = Net()
    optimizer = torch.optim.AdamW(model.parameters())
    losses_of(model, optimizer, steps=slice(0, 2))
    save_checkpoint(tmp_path, model, optimizer)
    wrapped = Net(seed=9)
    for i, layer in enumerate(wrapped.layers):
        wrapped.layers[i] = checkpoint_wrapper(layer)
    compiled = torch.compile(wrapped)  # lazy: nothing is compiled here
    load_checkpoint(tmp_path, compiled, torch.optim.AdamW(compiled.parameters()))
    pairs = zip(wrapped.parameters(), model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


# --- what is refused ---------------------------------------------------------------


def test_no_complete_checkpoint_is_a_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match="no save there was completed"):
        load_checkpoint(tmp_path / "none", Net())


@pytest.fixture
def saved(tmp_path):
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters())
    losses_of(model, optimizer, steps=slice(0, 2))
    return tmp_path, save_checkpoint(tmp_path, model, optimizer, step=2)


def test_a_checkpoint_of_another_model_is_refused_and_nothing_changed(saved):
    class Wider(Net):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(16, 9)
            self.extra = nn.Linear(1, 1)

    model = Wider()
    before = full(model)
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(saved[0], model)
    assert "extra.bias is not in it" in str(error.value)
    assert equal(full(model), before)
    model = Net()
    model.head = nn.Linear(16, 9)
    with pytest.raises(CheckpointError, match=r"head\.bias is \(torch\.float32, 8\) in it, .* 9"):
        load_checkpoint(saved[0], model)


def test_a_checkpoint_of_another_optimizer_is_refused_and_nothing_changed(saved):
    model = Net(seed=9)
    before = full(model)
    with pytest.raises(CheckpointError, match="it is of AdamW, not Lion"):
        load_checkpoint(saved[0], model, Lion(model.parameters(), lr=1e-3))
    groups = [{"params": model.layers.parameters()}, {"params": model.head.parameters()}]
    with pytest.raises(CheckpointError, match="1 parameter groups, not 2"):
        load_checkpoint(saved[0], model, torch.optim.AdamW(groups))
    assert equal(full(model), before)
    with pytest.raises(ValueError, match="not the model's"):
        load_checkpoint(saved[0], model, torch.optim.AdamW(Net().parameters()))


@pytest.mark.parametrize("name", ["__0_0.distcp", ".metadata"])
def test_a_truncated_checkpoint_is_refused_and_nothing_changed(saved, name):
    model = Net(seed=9)
    before = full(model)
    file = saved[1] / name
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(CheckpointError, match="truncated|damaged"):
        load_checkpoint(saved[0], model, torch.optim.AdamW(model.parameters()))
    assert equal(full(model), before)
    file.unlink()
    with pytest.raises(CheckpointError):
        load_checkpoint(saved[0], model)


def test_extra_that_could_not_be_loaded_again_is_refused_when_saving(tmp_path):
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(TypeError, match="use tensors, numbers, strings"):
        save_checkpoint(tmp_path, model, optimizer, extra={"file": Path("x")})
    assert not (tmp_path / "latest").exists()


# --- processes that die ------------------------------------------------------------


KILLER = """
    import json, os, random, signal, sys, time, torch
    from torch import nn
    from dlcourse.large_scale_training import load_checkpoint, save_checkpoint
    torch.set_num_threads(1)

    def make():
        model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
        return model, torch.optim.Adam(model.parameters())

    def fill(model, optimizer, step):  # every number of the state is the step
        for p in model.parameters():
            p.data.fill_(step)
            optimizer.state[p] = {"step": torch.tensor(float(step)),
                                  "exp_avg": torch.full_like(p, step),
                                  "exp_avg_sq": torch.full_like(p, step)}

    def numbers(model, optimizer):
        tensors = [*model.parameters(), *(t for s in optimizer.state.values() for t in s.values())]
        return {x for t in tensors for x in t.detach().unique().tolist()}

    path, kills = sys.argv[1], int(sys.argv[2])
    model, optimizer = make()
    fill(model, optimizer, 0)
    save_checkpoint(path, model, optimizer, step=0, extra=0)
    start = time.perf_counter()
    for _ in range(5):
        save_checkpoint(path, model, optimizer, step=0, extra=0)
    a_save = (time.perf_counter() - start) / 5
    chance, first, steps, unfinished = random.Random(0), 0, [], 0
    for _ in range(kills):
        started, begins = os.pipe()
        child = os.fork()  # one thread, nothing computed in parallel: safe, and quick
        if child == 0:
            for step in range(first + 1, first + 1000):
                fill(model, optimizer, step)
                os.write(begins, b"x")
                save_checkpoint(path, model, optimizer, step=step, extra=step)
            os._exit(1)
        os.close(begins)  # here: if the child fails, the pipe then ends
        for _ in range(chance.randint(1, 2)):
            os.read(started, 1)  # the first or second save begins, however long that takes
        time.sleep(chance.uniform(0, a_save))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status)
        os.close(started)
        unfinished += len([n for n in os.listdir(path) if n.startswith("step-")]) > 1
        fresh = make()
        found = load_checkpoint(path, *fresh)
        assert numbers(*fresh) == {found["step"]} == {found["extra"]}, (found, numbers(*fresh))
        assert found["step"] >= first
        first = found["step"]
        steps.append(first)
    print(json.dumps([steps, unfinished]))
"""


def run_script(script, *arguments, timeout=600):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_a_hundred_kills_at_any_moment_of_a_save_leave_a_whole_checkpoint(tmp_path):
    done = run_script(KILLER, tmp_path, 100)
    assert done.returncode == 0, done.stderr
    steps, unfinished = json.loads(done.stdout)
    assert len(steps) == 100 and steps == sorted(steps)
    assert steps[-1] > 10  # saves were completed between the kills
    assert unfinished > 10  # and others were cut off in the middle


def test_a_job_whose_worker_dies_goes_on_from_the_checkpoint(two):
    model = Net()  # two ranks without a death are, to rounding, one process
    losses_of(model, Lion(model.parameters(), lr=1e-3))
    for facts in two:
        attempt, first, weights = facts["restarted"]
        assert (attempt, first) == (1, 8)
        for name, expected in full(model).items():
            torch.testing.assert_close(weights[name], expected, rtol=1e-4, atol=1e-5)


# --- the listing -------------------------------------------------------------------


def test_listing_checkpoint_calls_functions_that_do_not_take_a_checkpoint_id(tmp_path):
    import torch.distributed.checkpoint as dcp

    state = {"model": Net().state_dict()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(TypeError, match="checkpoint_id"):
            dcp.save_state_dict(state_dict=state, checkpoint_id=tmp_path)
        with pytest.raises(TypeError, match="checkpoint_id"):
            dcp.load_state_dict(state_dict=state, checkpoint_id=tmp_path)


def listing_save_and_load(tmp_path):
    """The listing's two functions with today's calls: what still goes wrong."""
    import torch.distributed.checkpoint as dcp

    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.5)
    losses_of(model, optimizer, steps=slice(0, 2))
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 7}
    fresh = Net(seed=9)
    optimizer = torch.optim.Adam(fresh.parameters(), lr=0.1)
    target = {"model": fresh.state_dict(), "optimizer": optimizer.state_dict()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(state, checkpoint_id=tmp_path)
        dcp.load(target, checkpoint_id=tmp_path)
    return model, fresh, optimizer, target


def test_listing_checkpoint_loads_nothing_into_a_fresh_adam(tmp_path):
    model, fresh, optimizer, _ = listing_save_and_load(tmp_path)
    assert equal(full(fresh), full(model))
    assert len(optimizer.state) == 0  # its moments were in the checkpoint
    assert optimizer.param_groups[0]["lr"] == 0.1  # and its rate, 0.5


def test_listing_checkpoint_does_not_ask_for_the_epoch(tmp_path):
    *_, target = listing_save_and_load(tmp_path)
    assert "epoch" not in target
    model = Net()
    optimizer = torch.optim.Adam(model.parameters())
    save_checkpoint(tmp_path / "ours", model, optimizer, step=7, extra={"scale": 2.0})
    found = load_checkpoint(tmp_path / "ours", model, optimizer)
    assert (found["step"], found["extra"]) == (7, {"scale": 2.0})


def test_listing_checkpoint_overwrites_the_previous_one_in_place(tmp_path):
    """A crash in the middle leaves neither the old nor the new: files of both."""
    import torch.distributed.checkpoint as dcp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"a": torch.zeros(9)}, checkpoint_id=tmp_path)
        inode = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
        dcp.save({"a": torch.ones(9)}, checkpoint_id=tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == inode.keys()  # no second copy
    assert (tmp_path / "__0_0.distcp").read_bytes() != inode["__0_0.distcp"]
