"""Checkpoints (119.1b): complete, crash-safe, and loadable on another number of ranks.

Starting ranks takes seconds, so each ``launch`` below establishes many facts, in module-scoped
fixtures, and the tests read them one by one.
"""

import contextlib
import functools
import io
import itertools
import json
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
import textwrap
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

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
    best_interval,
    cosine_with_warmup,
    distributed,
    launch,
    load_checkpoint,
    lost_time,
    rng_state,
    save_checkpoint,
    save_checkpoint_async,
    set_rng_state,
    shard,
)
from dlcourse.large_scale_training.checkpoints import _shared, checksums, saving
from dlcourse.large_scale_training.checkpoints.random_state import with_new_streams
from dlcourse.large_scale_training.experiments.crashes import progress

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


def losses_of(model, optimizer, rank=0, world_size=1, steps=slice(None), batch=16):
    """The mean loss of the whole batch at each step, each rank working on its part."""
    losses = []
    for x, y in zip(*(t[steps, :batch] for t in data()), strict=True):
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
        ports = [free_port() for _ in range(3)]
        dist.broadcast_object_list(ports, src=0)
    # 4, then 3 of them, then 4 again: each a world of its own, each from the one before.
    facts["elastic"] = []
    for ranks, port, steps in zip((4, 3, 4), ports, ((0, 6), (6, 12), (12, 18)), strict=True):
        environment = {"WORLD_SIZE": str(ranks), "MASTER_PORT": port}
        environment |= {"TORCHELASTIC_USE_AGENT_STORE": "False"}
        if world.rank < ranks:
            with mock.patch.dict(os.environ, environment):
                facts["elastic"].append(on_some_ranks(folder, ranks, slice(*steps)))
    return facts


def on_some_ranks(folder, ranks, steps):
    """Go on, with batches of 12, which 3 and 4 ranks can share; the losses, and dropout's mask."""
    path = Path(folder, "elastic")
    with distributed("gloo") as world:
        model = shard(Net(seed=9 if steps.start else 0))
        optimizer = OPTIMIZERS["AdamW"](model.parameters())
        torch.manual_seed(world.rank)  # as a first start has it
        if steps.start:
            found = load_checkpoint(path, model, optimizer)
            assert found["step"] == steps.start
            set_rng_state(found["extra"]["random"][0])
        dropped = nn.functional.dropout(torch.ones(64)).tolist()
        losses = losses_of(model, optimizer, world.rank, ranks, steps, batch=12)
        extra = {"random": [rng_state()]}
        save_checkpoint(path, model, optimizer, step=steps.stop, extra=extra)
    return losses, dropped


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


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


def test_four_ranks_then_three_then_four_make_one_run(four):
    model = Net()
    optimizer = OPTIMIZERS["AdamW"](model.parameters())
    expected = losses_of(model, optimizer, steps=slice(0, 18), batch=12)
    losses = itertools.chain.from_iterable(part for part, _ in four[0]["elastic"])
    assert np.abs(np.subtract(list(losses), expected)).max() < 1e-5


def test_where_the_number_of_ranks_changes_each_rank_drops_other_neurons(four):
    drawn = [tuple(dropped) for facts in four for _, dropped in facts["elastic"]]
    assert len(drawn) == 4 + 3 + 4 and len(set(drawn)) == len(drawn)


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


def damages(content, chance):
    """Every kind of damage: what the file holds then, None where it is gone."""
    yield from (None, b"", content[: len(content) // 2], content[:-1], content + b"\0")
    yield bytes(len(content))
    for place in chance.choices(range(len(content)), k=25):
        flipped = bytes([content[place] ^ 1 << chance.randrange(8)])
        yield content[:place] + flipped + content[place + 1 :]
        zeroed = content[:place] + bytes(len(content[place : place + 4])) + content[place + 4 :]
        if zeroed != content:
            yield zeroed


def everything(model, optimizer):
    state = [t.clone() for s in optimizer.state.values() for t in s.values()]
    rate = torch.tensor(optimizer.param_groups[0]["lr"])
    return [*full(model).values(), *state, rate, torch.get_rng_state()]


@pytest.mark.parametrize("name", ["__0_0.distcp", ".metadata", "checksums", "../latest"])
def test_any_damage_to_any_file_is_refused_and_nothing_has_changed(saved, name):
    model = Net(seed=9)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.5)
    losses_of(model, optimizer, steps=slice(0, 1))
    before = everything(model, optimizer)
    file = saved[1] / name
    content = file.read_bytes()
    for damaged in damages(content, random.Random(0)):
        file.unlink(missing_ok=True)
        if damaged is not None:
            file.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            load_checkpoint(saved[0], model, optimizer)
        assert all(map(torch.equal, everything(model, optimizer), before))
    file.write_bytes(content)
    load_checkpoint(saved[0], model, optimizer)
    assert optimizer.param_groups[0]["lr"] == 1e-3


def test_shards_that_were_swapped_between_two_ranks_are_refused(two, folder, tmp_path):
    shutil.copytree(folder / "AdamW", tmp_path, dirs_exist_ok=True)
    version = tmp_path / (tmp_path / "latest").read_text()
    a, b = sorted(version.glob("*.distcp"))
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    with pytest.raises(CheckpointError, match=r"__\d_0\.distcp (is not|is truncated|has grown)"):
        load_checkpoint(tmp_path, Net())


def test_the_checksum_sees_every_bit_and_every_swap_of_two_words(tmp_path):
    file = tmp_path / "file"
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**63, size=300_000, dtype=np.uint64)  # more than two blocks

    def now():
        words.tofile(file)
        return checksums.checksum(file)

    right = now()
    assert right[0] == words.nbytes
    for bit, place in enumerate(rng.integers(0, len(words), 64)):
        words[place] ^= np.uint64(1 << bit)
        assert now() != right
        words[place] ^= np.uint64(1 << bit)
    # in one row, in one column, in neither, in two blocks
    for a, b in ((0, 1), (0, 1024), (0, 1025), (5, 5 + 131_072), (5, 6 + 131_072)):
        words[[a, b]] = words[[b, a]]
        assert now() != right
        words[[a, b]] = words[[b, a]]
    assert now() == right
    for length in (0, 1, 7, 8, 2**20 - 1, 2**20, 2**20 + 1):
        file.write_bytes(bytes(length))
        assert checksums.checksum(file)[0] == length


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


# --- by name, whatever the order and the wrappers ----------------------------------


def pair_of_linears():
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))


def go_on(model, optimizer):
    x = torch.arange(6.0).reshape(3, 2) / 6
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()


def trained(optimizer_of):
    model = pair_of_linears()
    optimizer = optimizer_of(model)
    go_on(model, optimizer)
    return model, optimizer


def states_equal(a, b, model_a, model_b):
    pairs = zip(model_a.parameters(), model_b.parameters(), strict=True)
    return all(
        a.state[p].keys() == b.state[q].keys()
        and all(torch.equal(a.state[p][k], b.state[q][k]) for k in a.state[p])
        for p, q in pairs
    )


IN_ORDER = {
    "Adam": lambda named: torch.optim.Adam([p for _, p in named]),
    "with names": lambda named: torch.optim.Adam(named),
    "Lion": lambda named: Lion([p for _, p in named], lr=1e-3),
    "ScheduleFree": lambda named: AdamWScheduleFree([p for _, p in named], lr=1e-2),
}


def adam(model):
    return torch.optim.Adam(model.parameters())


@pytest.mark.parametrize("evaluating", [False, True])
@pytest.mark.parametrize("name", IN_ORDER)
def test_state_follows_the_names_of_the_parameters_not_their_order(tmp_path, name, evaluating):
    a, saved = trained(lambda m: IN_ORDER[name](list(m.named_parameters())))
    b, loaded = trained(lambda m: IN_ORDER[name](list(m.named_parameters())[::-1]))
    has_modes = evaluating and name == "ScheduleFree"
    if has_modes:
        saved.eval()
        loaded.eval()
    save_checkpoint(tmp_path, a, saved)
    load_checkpoint(tmp_path, b, loaded)
    assert equal(full(a), full(b)) and states_equal(saved, loaded, a, b)
    if name == "with names":
        assert loaded.param_groups[0]["param_names"] == [n for n, _ in b.named_parameters()][::-1]
    for model, optimizer in ((a, saved), (b, loaded)):
        if has_modes:
            optimizer.train()
        go_on(model, optimizer)
    assert equal(full(a), full(b))


def test_groups_are_found_by_their_parameters_too(tmp_path):
    def groups(model, order):
        settings = [
            {"params": list(model[0].parameters()), "lr": 0.1},
            {"params": list(model[1].parameters()), "lr": 0.2},
        ]
        return torch.optim.Adam([settings[i] for i in order])

    a, saved = trained(lambda m: groups(m, (0, 1)))
    b = pair_of_linears()
    loaded = groups(b, (1, 0))
    for group in loaded.param_groups:
        group["lr"] = 9.0
    save_checkpoint(tmp_path, a, saved)
    load_checkpoint(tmp_path, b, loaded)
    assert [group["lr"] for group in loaded.param_groups] == [0.2, 0.1]
    assert states_equal(saved, loaded, a, b)
    across = [{"params": [b[0].weight, b[1].weight]}, {"params": [b[0].bias, b[1].bias]}]
    with pytest.raises(CheckpointError, match="group 0 has other parameters"):
        load_checkpoint(tmp_path, b, torch.optim.Adam(across))


def wrappers():
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
    from torch.nn.parallel import DistributedDataParallel

    def blocks(wrap):
        def wrapped(model):
            for i, block in enumerate(model):
                model[i] = wrap(block)
            return model

        return wrapped

    return {
        "compile(replicate)": lambda m: torch.compile(DistributedDataParallel(m)),
        "replicate(compile)": lambda m: DistributedDataParallel(torch.compile(m)),
        "checkpoint(compile(block))": blocks(lambda b: checkpoint_wrapper(torch.compile(b))),
        "compile(checkpoint(block))": blocks(lambda b: torch.compile(checkpoint_wrapper(b))),
        "replicate(checkpoint(block))": lambda m: DistributedDataParallel(
            blocks(checkpoint_wrapper)(m)
        ),
    }


@contextlib.contextmanager
def one_rank():
    """The block of ``distributed`` in this process."""
    variables = dict(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1")
    variables |= dict(MASTER_PORT=free_port(), GLOO_SOCKET_IFNAME="lo")
    with mock.patch.dict(os.environ, variables), distributed("gloo") as world:
        yield world


def test_names_do_not_depend_on_wrappers_in_any_nesting(tmp_path):
    a, saved = trained(adam)
    with one_rank():
        save_checkpoint(tmp_path / "plain", a, saved)
        for name, wrap in wrappers().items():
            inner = pair_of_linears()
            model = wrap(inner)
            optimizer = adam(model)
            load_checkpoint(tmp_path / "plain", model, optimizer)
            values = [p.detach() for p in inner.parameters()]
            assert all(map(torch.equal, values, full(a).values())), name
            assert states_equal(saved, optimizer, a, inner), name
            save_checkpoint(tmp_path / "wrapped", model, optimizer)
            b, back = trained(adam)
            load_checkpoint(tmp_path / "wrapped", b, back)
            assert equal(full(a), full(b)) and states_equal(saved, back, a, b), name


def test_a_submodule_called_module_keeps_its_name(tmp_path):
    model, same = (
        nn.ModuleDict({"module": nn.Linear(2, 2), "other": nn.Linear(2, 2)}) for _ in range(2)
    )
    save_checkpoint(tmp_path, model, torch.optim.SGD(model.parameters(), lr=0.1))
    load_checkpoint(tmp_path, same)
    assert all(map(torch.equal, same.parameters(), model.parameters()))
    with pytest.raises(CheckpointError, match=r"module\.bias is only in it"):
        load_checkpoint(tmp_path, nn.ModuleDict({"other": nn.Linear(2, 2)}))


# --- what a state may hold ---------------------------------------------------------


def test_the_nested_state_of_lbfgs_comes_back_and_the_run_goes_on(tmp_path):
    x = torch.arange(6.0).reshape(3, 2) / 6

    def three_steps(model, optimizer):
        def closure():
            optimizer.zero_grad()
            loss = (model(x).sin() - 0.3).square().sum()
            loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)

    a, b = pair_of_linears(), pair_of_linears()
    saved, loaded = (torch.optim.LBFGS(m.parameters(), lr=0.1, max_iter=3) for m in (a, b))
    three_steps(a, saved)
    save_checkpoint(tmp_path, a, saved)
    load_checkpoint(tmp_path, b, loaded)
    three_steps(a, saved)
    three_steps(b, loaded)
    assert equal(full(a), full(b))


class Odd(torch.optim.Optimizer):
    """State of every kind: nested, float32 beside bfloat16, by a number, of no parameter."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.1})

    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            self.state[p] = {
                "nested": {"m": [torch.ones(2), None], "n": (1, "two")},
                "wide": torch.full(p.shape, 1 / 3, dtype=torch.float32),
                "a/b": torch.zeros(3, dtype=torch.int64),
                7: torch.tensor(2.5),
                "flag": True,
                "count": np.float32(0.1),
            }
        self.state["of no parameter"] = {"steps": 3, "t": torch.arange(2)}


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_state_of_any_kind_comes_back_equal(tmp_path):
    a, b = (pair_of_linears().bfloat16() for _ in range(2))
    saved, loaded = Odd(a.parameters()), Odd(b.parameters())
    saved.step()
    save_checkpoint(tmp_path, a, saved)
    load_checkpoint(tmp_path, b, loaded)
    assert same(saved.state_dict()["state"], loaded.state_dict()["state"])


class WithExtraState(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)
        self.seen = None

    def get_extra_state(self):
        return self.seen

    def set_extra_state(self, state):
        self.seen = state


def test_the_extra_state_of_a_module_comes_back(tmp_path):
    model, other = WithExtraState(), WithExtraState()
    model.seen = {"counts": [1, 2], "mean": torch.ones(2)}
    save_checkpoint(tmp_path, model, torch.optim.SGD(model.parameters(), lr=0.1))
    load_checkpoint(tmp_path, other)
    assert same(other.seen, model.seen)


def test_what_could_not_come_back_equal_is_refused_when_saving(tmp_path):
    model = pair_of_linears()
    model.register_buffer("sparse", torch.eye(3).to_sparse())
    with pytest.raises(TypeError, match="sparse cannot be saved"):
        save_checkpoint(tmp_path, model, torch.optim.SGD(model.parameters(), lr=0.1))
    model = pair_of_linears()
    model.register_buffer("mask", torch.ones(1, 3).expand(2, 3))  # loading would write into it
    with pytest.raises(TypeError, match="mask cannot be saved: it was made by expand"):
        save_checkpoint(tmp_path, model, torch.optim.SGD(model.parameters(), lr=0.1))
    model = WithExtraState()
    model.seen = object()
    with pytest.raises(TypeError, match="could not be loaded again"):
        save_checkpoint(tmp_path, model, torch.optim.SGD(model.parameters(), lr=0.1))
    model = pair_of_linears()
    optimizer = adam(model)
    optimizer.state[model[0].weight] = {"m": torch.ones(2), "of my own": lambda: 0}
    with pytest.raises(TypeError, match="could not be loaded again"):
        save_checkpoint(tmp_path, model, optimizer)
    assert not list(tmp_path.iterdir())


def test_state_of_which_each_rank_has_another_is_refused_when_saving(tmp_path):
    with one_rank():
        model = shard(pair_of_linears())
        optimizer = adam(model)
        for bad in (torch.ones(3), [model[0].weight.detach()]):
            optimizer.state[model[0].weight] = {"m": bad}
            with pytest.raises(TypeError, match="cannot be saved"):
                save_checkpoint(tmp_path, model, optimizer)


NUMBERS = {
    "Python": float,
    "NumPy": np.float64,
    "NumPy, 32 bits": np.float32,
    "tensor": lambda x: torch.tensor(x, dtype=torch.float64),
}


@pytest.mark.parametrize("loads", NUMBERS)
@pytest.mark.parametrize("saves", NUMBERS)
def test_rates_of_any_type_save_load_and_resume_alike(tmp_path, saves, loads):
    def make(kind, rate=0.125):  # exact in each type
        number = NUMBERS[kind](rate)
        return lambda m: torch.optim.Adam(m.parameters(), lr=number, foreach=False)

    a, saved = trained(make(saves))
    extra = {"rate": NUMBERS[saves](0.125), "n": np.int64(3)}
    save_checkpoint(tmp_path, a, saved, extra=extra)
    b = pair_of_linears()
    loaded = make(loads, rate=9.0)(b)
    found = load_checkpoint(tmp_path, b, loaded)
    rate = loaded.param_groups[0]["lr"]
    assert float(rate) == 0.125 == float(found["extra"]["rate"])
    assert isinstance(rate, type(NUMBERS[loads](0.0)) if loads != "NumPy" else float)
    assert found["extra"]["n"] == 3
    go_on(a, saved)
    go_on(b, loaded)
    # NumPy's 32-bit numbers make torch compute the step size in 32 bits.
    rounding = 0 if saves == loads else 1e-5
    for x, y in zip(full(a).values(), full(b).values(), strict=True):
        torch.testing.assert_close(x, y, rtol=rounding, atol=rounding)


def test_an_optimizer_of_the_same_name_from_elsewhere_is_refused(tmp_path):
    namesake = type("AdamW", (torch.optim.SGD,), {"__module__": "elsewhere"})
    model, optimizer = trained(lambda m: torch.optim.AdamW(m.parameters()))
    save_checkpoint(tmp_path, model, optimizer)
    with pytest.raises(CheckpointError, match="whose settings are others"):
        load_checkpoint(tmp_path, model, namesake(model.parameters(), lr=0.1))
    for other in (torch.optim.SGD(model.parameters(), lr=0.1), Lion(model.parameters(), lr=0.1)):
        with pytest.raises(CheckpointError, match="it is of AdamW, not"):
            load_checkpoint(tmp_path, model, other)


def test_how_a_step_is_computed_is_not_taken_from_the_checkpoint(tmp_path):
    model, optimizer = trained(lambda m: torch.optim.AdamW(m.parameters(), lr=0.5))
    optimizer.param_groups[0]["capturable"] = True  # as on a GPU: a CPU refuses such a step
    save_checkpoint(tmp_path, model, optimizer)
    b = pair_of_linears()
    loaded = torch.optim.AdamW(b.parameters())
    load_checkpoint(tmp_path, b, loaded)
    assert loaded.param_groups[0]["lr"] == 0.5
    go_on(b, loaded)


def test_what_a_gpu_machine_saved_loads_without_a_gpu():
    extra = {"scaler": {"scale": torch.tensor(2.0)}, "list": [torch.ones(2)]}
    with mock.patch("torch.serialization.location_tag", lambda storage: "cuda:3"):
        buffer = io.BytesIO()
        torch.save({"extra": extra}, buffer)
    if not torch.cuda.is_available():  # it does ask for a GPU
        with pytest.raises(RuntimeError, match="CUDA"):
            torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
    assert same(_shared.from_bytes(buffer.getvalue())["extra"], extra)


# --- the random states -------------------------------------------------------------


def drawn_from(state):
    set_rng_state(state)
    return random.random(), np.random.rand(), torch.rand(()).item()


@pytest.fixture
def rng_restored():
    before = rng_state()
    yield before
    set_rng_state(before)


def test_new_streams_differ_by_rank_and_size_and_can_be_repeated(rng_restored):
    extra = {"a": [rng_restored], "b": 1}
    places = [(rank, size) for size in (3, 4) for rank in range(size)]
    first, again = (
        [drawn_from(with_new_streams(extra, *place)["a"][0]) for place in places] for _ in range(2)
    )
    assert first == again
    assert all(len(set(numbers)) == 7 for numbers in zip(*first, strict=True))
    assert with_new_streams(extra, 0, 2)["b"] == 1


def test_the_new_stream_of_each_generator_follows_from_its_own_state_alone(rng_restored):
    """Who seeds torch, and neither Python nor NumPy, can still repeat what torch draws."""
    other = {**rng_restored, "python": random.Random(1).getstate()}
    a, b = (drawn_from(with_new_streams(s, 1, 3)) for s in (rng_restored, other))
    assert a[0] != b[0] and a[1:] == b[1:]


def test_a_random_state_of_something_else_is_refused_and_nothing_changed(rng_restored):
    broken = {**rng_restored, "torch": torch.zeros(3, dtype=torch.uint8)}
    random.random()  # so that the first part of the broken one differs from what is there
    now = rng_state()
    for wrong in (None, {"python": 1}, broken):
        with pytest.raises(ValueError, match="not what rng_state returned"):
            set_rng_state(wrong)
    assert same(rng_state(), now)


# --- folders, disks, asynchronous saves --------------------------------------------


def test_a_commit_removes_only_what_a_save_has_written(tmp_path):
    model, optimizer = trained(adam)
    for name in ("step-10-best", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".metadata").write_text("mine")
    (tmp_path / "step-times.csv").write_text("mine")
    (tmp_path / ".latest-notes").write_text("mine")
    (tmp_path / "step-00000009-0123abcd").symlink_to(tmp_path / "elsewhere")
    users = {path.name for path in tmp_path.iterdir()}
    first = save_checkpoint(tmp_path, model, optimizer, step=1)
    (first / "notes.txt").write_text("mine")
    second = save_checkpoint(tmp_path, model, optimizer, step=2)
    assert {p.name for p in tmp_path.iterdir()} == users | {"latest", first.name, second.name}
    assert [p.name for p in first.iterdir()] == ["notes.txt"]
    for name in ("step-10-best", "elsewhere"):
        assert (tmp_path / name / ".metadata").read_text() == "mine"


@pytest.mark.parametrize("step", [-1, np.int64(-1), 1.0, "3", None, torch.tensor(2.0)])
def test_a_step_that_is_no_count_is_refused_and_the_previous_checkpoint_stays(tmp_path, step):
    """A version of step -1 was saved, the one before it removed, and neither could be loaded."""
    model, optimizer = trained(adam)
    for save in (save_checkpoint, save_checkpoint_async):
        save_checkpoint(tmp_path, model, optimizer, step=7)
        with pytest.raises((TypeError, ValueError), match="step must be"):
            save(tmp_path, model, optimizer, step=step)
        assert load_checkpoint(tmp_path, model, optimizer)["step"] == 7


@pytest.mark.parametrize("step", [np.int64(5), torch.tensor(5)])
def test_the_step_comes_back_as_a_number_of_python(tmp_path, step):
    model, optimizer = trained(adam)
    save_checkpoint(tmp_path, model, optimizer, step=step)
    found = load_checkpoint(tmp_path, model, optimizer)["step"]
    assert (type(found), found) == (int, 5)


def test_jobs_with_one_folder_save_one_after_the_other(tmp_path):
    """Each would else remove the other's version, and a checkpoint would be left that is none."""
    model, optimizer = trained(adam)
    with ThreadPoolExecutor(4) as jobs:
        saves = [
            jobs.submit(save_checkpoint, tmp_path, model, optimizer, step=k) for k in range(8)
        ]
        versions = [save.result() for save in saves]
    assert [v for v in versions if v.exists()] == [tmp_path / (tmp_path / "latest").read_text()]
    load_checkpoint(tmp_path, model, optimizer)


def test_the_turn_to_save_is_waited_for_and_ends_with_the_process_that_has_it(
    tmp_path, monkeypatch
):
    model, optimizer = trained(adam)
    save_checkpoint(tmp_path, model, optimizer, step=1)
    monkeypatch.setattr(saving, "_turn", functools.partial(saving._turn, patience=0.2))
    script = (
        "import fcntl, os, sys, time; folder = os.open(sys.argv[1], os.O_RDONLY); "
        "fcntl.flock(folder, fcntl.LOCK_EX); print(flush=True); time.sleep(300)"
    )
    old_job = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE)
    try:
        old_job.stdout.readline()
        for save in (save_checkpoint, save_checkpoint_async):
            with pytest.raises(RuntimeError, match="another process has been saving"):
                save(tmp_path, model, optimizer, step=2)
        assert load_checkpoint(tmp_path, model, optimizer)["step"] == 1
    finally:
        old_job.kill()
        old_job.wait()
    save_checkpoint_async(tmp_path, model, optimizer, step=3).wait()
    save_checkpoint(tmp_path, model, optimizer, step=4)
    assert load_checkpoint(tmp_path, model, optimizer)["step"] == 4


def test_a_lost_pointer_is_told_from_no_checkpoint(saved):
    (saved[0] / "latest").unlink()
    with pytest.raises(CheckpointError, match="which was lost"):
        load_checkpoint(saved[0], Net())
    (saved[1] / "checksums").unlink()  # as a first save leaves it that was killed
    with pytest.raises(FileNotFoundError):
        load_checkpoint(saved[0], Net())


@pytest.mark.parametrize("spelling", ["link", "dots", "same"])
def test_two_spellings_of_a_folder_are_one_folder(tmp_path, spelling):
    model, optimizer = trained(adam)
    folder, link = tmp_path / "ck", tmp_path / "link"
    save_checkpoint(folder, model, optimizer, step=1)
    link.symlink_to(folder)
    other = {"link": link, "dots": folder / ".." / "ck", "same": str(folder)}[spelling]
    pending = save_checkpoint_async(folder, model, optimizer, step=2)
    for refused in (save_checkpoint, save_checkpoint_async, load_checkpoint):
        with pytest.raises(RuntimeError, match=r"wait\(\)"):
            refused(other, model, optimizer)
    save_checkpoint(tmp_path / "elsewhere", model, optimizer)  # another folder may
    pending.wait()
    assert load_checkpoint(other, model, optimizer)["step"] == 2


def test_the_block_of_the_group_waits_for_an_asynchronous_save(tmp_path):
    model, optimizer = trained(adam)
    with one_rank():
        save_checkpoint(tmp_path, model, optimizer, step=1)
        save_checkpoint_async(tmp_path, model, optimizer, step=2)  # and nobody waits
    assert load_checkpoint(tmp_path, model, optimizer)["step"] == 2


@contextlib.contextmanager
def full_disk():
    """Files can't grow beyond 2 KB: each write fails with an OSError, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_an_exception_and_the_previous_checkpoint_counts(tmp_path):
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters())
    losses_of(model, optimizer, steps=slice(0, 2))
    first = save_checkpoint(tmp_path, model, optimizer, step=1)
    with full_disk():
        with pytest.raises((OSError, RuntimeError), match="failed"):
            save_checkpoint(tmp_path, model, optimizer, step=2)
        pending = save_checkpoint_async(tmp_path, model, optimizer, step=3)
        with pytest.raises((OSError, RuntimeError), match="failed"):
            pending.wait()
    assert {p.name for p in tmp_path.iterdir()} == {"latest", first.name}
    assert load_checkpoint(tmp_path, model, optimizer)["step"] == 1
    save_checkpoint(tmp_path, model, optimizer, step=4)
    assert load_checkpoint(tmp_path, model, optimizer)["step"] == 4


LOST = """
    import sys
    from unittest import mock
    import torch
    from dlcourse.large_scale_training import save_checkpoint_async
    from dlcourse.large_scale_training.checkpoints import saving
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with mock.patch.object(saving, "commit", side_effect=OSError("no space left")):
        pending = save_checkpoint_async(sys.argv[1], model, optimizer)
        while not pending.done():
            pass
"""


def test_a_program_that_ends_says_that_a_save_was_lost(tmp_path):
    done = run_script(LOST, tmp_path / "ck")
    assert done.returncode == 0
    assert "asynchronous checkpoint was lost" in done.stderr and "no space left" in done.stderr


# --- how often ---------------------------------------------------------------------


@pytest.mark.parametrize(("mtbf", "published"), [(24 * 60, 117), (6 * 60, 57), (15, 9.1)])
def test_the_best_interval_is_dalys_and_has_the_least_lost_time(mtbf, published):
    """Daly 2006, figures 3 to 5: a dump of 5 and a restart of 10 minutes."""
    best = best_interval(5, mtbf)
    assert best == pytest.approx(published, abs=0.5 if published > 10 else 0.05)
    around = np.geomspace(best / 3, best * 3, 2001)
    least = around[np.argmin([lost_time(t, 5, 10, mtbf) for t in around])]
    assert best == pytest.approx(least, rel=0.02)
    assert best_interval(1e-6, mtbf) == pytest.approx((2e-6 * mtbf) ** 0.5, rel=1e-3)  # Young


def test_lost_time_is_what_a_simulated_run_loses():
    save, restart, mtbf, interval, end = 1.0, 4.0, 60.0, 12.0, 500_000.0
    failures = np.cumsum(np.random.default_rng(0).exponential(mtbf, 12_000))
    work = progress(failures, interval, save, restart, end)[-1][1]
    assert end / work - 1 == pytest.approx(lost_time(interval, save, restart, mtbf), rel=0.03)


def test_impossible_times_are_refused():
    for arguments in ((0, 1, 1, 60), (1, -1, 1, 60), (1, 1, 1, 0), (float("nan"), 1, 1, 60)):
        with pytest.raises(ValueError):
            lost_time(*arguments)
    with pytest.raises(ValueError):
        best_interval(-1, 60)
    assert lost_time(1e9, 1, 1, 60) == float("inf")


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
