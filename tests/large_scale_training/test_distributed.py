"""Distributed training (119.1a): processes, data parallelism, sharding, costs.

Starting ranks takes seconds, so each ``launch`` below establishes many facts, in module-scoped
fixtures, and the tests read them one by one.
"""

import contextlib
import importlib
import io
import math
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import cloudpickle
import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from dlcourse.large_scale_training import (
    AdamWScheduleFree,
    LaunchError,
    Lion,
    MixedPrecision,
    activation_bytes,
    batch_part,
    distributed,
    find_blocks,
    fit_alpha_beta,
    global_mean,
    launch,
    local_memory,
    plan,
    reduces_gradients,
    replicate,
    ring_all_reduce_time,
    shard,
    time_all_reduce,
    zero_memory,
)
from dlcourse.large_scale_training.distributed import communication
from dlcourse.measure import transformer_activations

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


def curves(world):
    """Losses and memory for each way to distribute and each optimizer."""
    facts = {}
    for wrap in (replicate, shard):
        for name, make in OPTIMIZERS.items():
            model = wrap(Net(seed=world.rank))  # unequal seeds: rank 0's weights must win
            optimizer = make(model.parameters())
            losses = losses_of(model, optimizer, world.rank, world.world_size)
            facts[wrap.__name__, name] = (losses, local_memory(model, optimizer))
    return facts


def on_two_ranks():
    """Everything that needs two ranks; returns facts by name."""
    facts = {}
    with distributed("gloo") as world:
        facts["world"] = (world.rank, world.local_rank, world.world_size, str(world.device))
        facts["curves"] = curves(world)

        # an infinite gradient on one rank only, after the reduction in one shard only
        model = shard(Net())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        amp = MixedPrecision(torch.float16, max_grad_norm=1.0)
        x = torch.zeros(2, 16)
        before = full(model)
        amp.step(model, optimizer, lambda out: (out * (1.0 - world.rank)).sum() * 1e38, x)
        facts["skipped on both"] = amp.skipped and equal(full(model), before)

        facts["unequal"], facts["accumulated"] = {}, {}
        for wrap in (replicate, shard):
            for count in (7, 1):
                facts["unequal"][wrap.__name__, count] = unequal(wrap(Net()), count, world)
            for once in (False, True):
                facts["accumulated"][wrap.__name__, once] = accumulated(wrap(Net()), once, world)

        sizes = [2**k for k in range(10, 23, 2)]
        facts["all-reduce"] = (sizes, time_all_reduce(sizes))
        facts["listing"] = listing_fsdp_strings()
    return facts


def gradients(model):
    gather = lambda t: t.full_tensor() if hasattr(t, "full_tensor") else t  # noqa: E731
    named = model.named_parameters()
    return {name.removeprefix("module."): gather(p.grad).clone() for name, p in named}


def unequal(model, count, world):
    """Loss and gradients of the mean over ``count`` examples that the ranks share unequally."""
    x, y = (t[0, :count][batch_part(count, world.rank, world.world_size)] for t in data())
    loss = global_mean((model(x) - y).square().mean(1).sum(), len(x))
    loss.backward()
    mean = loss.detach().clone()
    dist.all_reduce(mean)
    return mean.item() / world.world_size, gradients(model)


def accumulated(model, once, world):
    """How often gradients are reduced in a step of four micro-batches, and the gradients."""
    x, y = (t[0].chunk(world.world_size)[world.rank].chunk(4) for t in data())
    seen = []
    if hasattr(model, "register_comm_hook"):  # DDP: a call for each bucket
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

        model.register_comm_hook(
            None, lambda state, bucket: (seen.append(1), allreduce_hook(None, bucket))[1]
        )
        watch = contextlib.nullcontext()
    else:
        watch = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
    with watch:
        for k in range(4):
            with reduces_gradients(model, k == 3 or not once):
                ((model(x[k]) - y[k]).square().mean() / 4).backward()
    if not isinstance(watch, contextlib.nullcontext):
        seen = [e for e in watch.events() if "reduce_scatter" in e.name and "c10d" in e.name]
    return len(seen), gradients(model)


def on_four_ranks():
    with distributed("gloo") as world:
        return {"curves": curves(world)}


def listing_fsdp_strings():
    from torch.distributed.fsdp import FullyShardedDataParallel as FSDP

    cpu = torch.device("cpu")
    return {
        "strategy": message(
            KeyError, lambda: FSDP(Net(), sharding_strategy="full_shard", device_id=cpu)
        ),
        "offload": message(AttributeError, lambda: FSDP(Net(), cpu_offload=True, device_id=cpu)),
        "prefetch accepted": type(
            FSDP(Net(), backward_prefetch="pre_forward", device_id=cpu)
        ).__name__,
    }


@pytest.fixture(scope="module")
def launched():
    """What two ranks returned, what they printed, and how this process was before and after."""
    offset = 40

    def ranks(base):  # a closure cannot be pickled by name
        print("printed by a rank")
        place = base + offset + int(os.environ["RANK"]), int(os.environ["OMP_NUM_THREADS"])
        return place, on_two_ranks()

    def state():
        return dict(os.environ), signal.getsignal(signal.SIGINT)

    before = state()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        results = launch(ranks, 2, 2, time_limit=300)
    return results, printed.getvalue(), before, state()


@pytest.fixture(scope="module")
def two(launched):
    return [facts for _, facts in launched[0]]


@pytest.fixture(scope="module")
def four():
    return launch(on_four_ranks, 4, time_limit=300)


@pytest.fixture(scope="module")
def one():
    """The single process without any process group."""
    facts = {}
    for name, make in OPTIMIZERS.items():
        model = Net()
        facts[name] = losses_of(model, make(model.parameters()))
    return facts


@pytest.fixture
def alone(monkeypatch):
    """The variables of the only rank of a job."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    variables = dict(RANK=0, LOCAL_RANK=0, WORLD_SIZE=1, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    return monkeypatch


# --- data parallelism and sharding are the single process --------------------------


def test_each_rank_knows_its_place(two):
    assert [facts["world"] for facts in two] == [(0, 0, 2, "cpu"), (1, 1, 2, "cpu")]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("how", ["replicate", "shard"])
@pytest.mark.parametrize("world_size", [2, 4])
def test_losses_are_those_of_a_single_process(one, two, four, world_size, how, optimizer):
    for facts in {2: two, 4: four}[world_size]:
        losses, _ = facts["curves"][how, optimizer]
        assert len(losses) == STEPS
        assert np.abs(np.subtract(losses, one[optimizer])).max() < 1e-5


def test_one_rank_is_a_single_process_to_the_bit(one, alone):
    with distributed("gloo") as world:
        assert (world.rank, world.world_size, world.device.type) == (0, 1, "cpu")
        for (_, optimizer), (losses, _) in curves(world).items():
            assert losses == one[optimizer]


@pytest.mark.parametrize("world_size", [2, 4])
def test_memory_of_a_rank_is_the_zero_formula(two, four, world_size):
    parameters = sum(p.numel() for p in Net().parameters())
    for facts in {2: two, 4: four}[world_size]:
        for how, stage in (("replicate", 0), ("shard", 3)):
            for optimizer, state_bytes in (("AdamW", 8), ("Lion", 4), ("ScheduleFree", 8)):
                expected = zero_memory(
                    parameters,
                    world_size,
                    stage,
                    parameter_bytes=4,
                    gradient_bytes=4,
                    optimizer_bytes=state_bytes,
                )
                measured = facts["curves"][how, optimizer][1]
                assert measured.parameters == expected.parameters
                assert measured.gradients == expected.gradients
                # torch's AdamW also counts its steps, in 4 bytes a tensor
                counters = 4 * len(list(Net().parameters())) if optimizer == "AdamW" else 0
                assert measured.optimizer == expected.optimizer + counters


def test_blocks_are_the_members_of_the_outermost_lists():
    assert list(find_blocks(Net())) == ["layers.0", "layers.1"]
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, batch_first=True), 3)
    assert list(find_blocks(encoder)) == ["layers.0", "layers.1", "layers.2"]
    sequence = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    assert list(find_blocks(sequence)) == ["0", "2"]
    nested = nn.ModuleDict({"a": nn.ModuleList([nn.ModuleList([nn.Linear(1, 1)])])})
    assert list(find_blocks(nested)) == ["a.0"]
    with pytest.raises(ValueError, match="put its repeated layers into an nn.ModuleList"):
        find_blocks(nn.Linear(2, 2))


def test_shard_makes_one_unit_a_block_and_keeps_each_weight(alone):
    from torch.distributed.fsdp import FSDPModule

    with distributed("gloo"):
        before = full(Net())
        model = shard(Net(), param_dtype=torch.bfloat16)
        assert equal(full(model), before)
        units = [name for name, m in model.named_modules() if isinstance(m, FSDPModule)]
        assert units == ["", "layers.0", "layers.1"]
        assert all(p.dtype == torch.float32 for p in model.parameters())  # master weights
        assert model(torch.ones(1, 16)).dtype == torch.bfloat16


def test_shard_refuses_what_it_cannot_do(alone):
    with pytest.raises(RuntimeError, match="no process group"):
        shard(Net())
    with distributed("gloo"):
        if not torch.cuda.is_available():
            with pytest.raises(RuntimeError, match="offload=True"):
                shard(Net(), offload=True)
        tied = Net()
        tied.layers[1][0].weight = tied.layers[0][0].weight
        with pytest.raises(ValueError, match=r"layers\.0 and layers\.1 share the parameter"):
            shard(tied)


def test_an_infinity_in_one_shard_skips_the_step_on_every_rank(two):
    assert all(facts["skipped on both"] for facts in two)


# --- one mean of unequal parts, one reduction of several -----------------------------


@pytest.mark.parametrize("count", [0, 1, 5, 64, 65])
@pytest.mark.parametrize("world_size", [1, 3, 24])
def test_each_example_belongs_to_one_rank_also_where_the_batch_does_not_divide(count, world_size):
    parts = [range(count)[batch_part(count, r, world_size)] for r in range(world_size)]
    assert [i for part in parts for i in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert len(torch.arange(64).chunk(24)) == 22  # why this is not chunk
    with pytest.raises(ValueError, match="rank 3 one of 3"):
        batch_part(8, 3, 3)


@pytest.mark.parametrize("how", ["replicate", "shard"])
@pytest.mark.parametrize("count", [7, 1])  # 3 and 4 examples; none and one
def test_the_gradient_of_unequal_parts_is_that_of_the_whole_batch(two, how, count):
    model, (x, y) = Net(), (t[0, :count] for t in data())
    loss = (model(x) - y).square().mean(1).mean()
    loss.backward()
    for facts in two:
        found, grads = facts["unequal"][how, count]
        assert found == pytest.approx(loss.item(), abs=1e-6)
        for name, p in model.named_parameters():
            assert (grads[name] - p.grad).abs().max() < 1e-6
    if count == 7:  # and the mean of the two means is something else
        means = [(model(a) - b).square().mean() for a, b in ((x[:3], y[:3]), (x[3:], y[3:]))]
        assert abs(sum(means) / 2 - loss) > 1e-3


def test_global_mean_refuses_a_mean_of_nothing():
    assert global_mean(torch.tensor(6.0), 3) == 2
    with pytest.raises(ValueError, match="no rank has an example"):
        global_mean(torch.tensor(0.0), 0)


@pytest.mark.parametrize("how", ["replicate", "shard"])
def test_accumulation_reduces_once_a_step_and_changes_no_gradient(two, how):
    model = Net()
    x, y = (t[0] for t in data())
    (model(x) - y).square().mean().backward()
    for facts in two:
        for once in (False, True):
            reductions, grads = facts["accumulated"][how, once]
            units = 1 if how == "replicate" else 3
            assert reductions == units * (1 if once else 4)
            for name, p in model.named_parameters():
                assert (grads[name] - p.grad).abs().max() < 1e-6


# --- launching ---------------------------------------------------------------------


def test_launch_returns_results_in_order_of_rank_and_restores_this_process(launched):
    results, printed, before, after = launched
    assert [value for (value, _), _ in results] == [42, 43]
    assert all(threads >= 1 for (_, threads), _ in results)
    assert "[rank 1] printed by a rank" in printed
    assert after == before


def test_a_failing_rank_surfaces_with_its_traceback_and_ends_the_others():
    def fail_on_one():
        if os.environ["RANK"] == "1":
            raise KeyError("the cause")
        time.sleep(300)  # were it waited for, the limit would be reached: a TimeoutError

    with pytest.raises(LaunchError, match="rank 1 of 2 failed") as error:
        launch(fail_on_one, 2, time_limit=120)
    assert "in fail_on_one" in str(error.value) and "KeyError: 'the cause'" in str(error.value)
    assert error.value.rank == 1


def test_a_rank_that_leaves_with_status_0_has_failed():
    def leave(how):
        if how == "os":
            os._exit(0)
        text = ValueError("\ud83d")
        raise {"sys": SystemExit(0), "keyboard": KeyboardInterrupt(), "text": text}[how]

    for how, said in (
        ("os", r"os\._exit\(0\) before the function returned"),
        ("sys", "SystemExit: 0"),
        ("keyboard", "KeyboardInterrupt"),
        ("text", r"\\ud83d"),  # which UTF-8 can't encode
    ):
        with pytest.raises(LaunchError, match=f"(?s)rank 0 of 1 failed.*{said}"):
            launch(leave, 1, how, time_limit=60)


def test_what_outlives_the_function_does_not_stretch_the_limit():
    def leave_a_thread():
        threading.Thread(target=time.sleep, args=(100,)).start()
        return 1

    begin = time.monotonic()
    with pytest.raises(TimeoutError, match="had not ended after 8 s"):
        launch(leave_a_thread, 1, time_limit=8)
    assert time.monotonic() - begin < 60


def test_a_process_that_c_code_ends_is_not_waited_for_for_ever(monkeypatch):
    module = importlib.import_module("dlcourse.large_scale_training.distributed.launch")

    def leave():
        import ctypes

        ctypes.CDLL(None)._exit(0)

    monkeypatch.setattr(module, "_GRACE", 1.0)
    with pytest.raises(TimeoutError, match="no result 1 s after the limit of 6 s"):
        launch(leave, 1, time_limit=6)


def test_a_launcher_that_waits_for_a_dead_rank_inside_a_semaphore_ends(monkeypatch):
    """What torch's ``Event.set`` does when a rank died as it waited for the event: under load."""
    from multiprocessing import get_context

    from torch.distributed.elastic.multiprocessing.api import MultiprocessContext

    module = importlib.import_module("dlcourse.large_scale_training.distributed.launch")
    monkeypatch.setattr(module, "_GRACE", 1.0)
    never = get_context("spawn").Semaphore(0)
    monkeypatch.setattr(MultiprocessContext, "_poll", lambda self: never.acquire())
    before = signal.getsignal(signal.SIGURG)

    # A signal of any kind would end the wait: so this test fails, and does not hang itself.
    alarm = signal.signal(signal.SIGALRM, lambda number, frame: None)
    signal.alarm(90)
    begin = time.monotonic()
    try:
        with pytest.raises(TimeoutError, match="limit of 6 s|after 6 s"):
            launch(float, 1, time_limit=6)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, alarm)
    assert time.monotonic() - begin < 80
    assert signal.getsignal(signal.SIGURG) == before


def wait_for_ever():
    threading.Event().wait()


def test_a_hang_ends_at_the_time_limit():
    with pytest.raises(TimeoutError, match=r"had not ended after 4 s .*\nrank 0:\n"):
        launch(wait_for_ever, 1, time_limit=4)  # the start may take all of it


def test_a_rank_that_hangs_says_where(tmp_path):
    script = """
        import os, sys, time, cloudpickle
        from dlcourse.large_scale_training.distributed.launch import _run_rank
        os.environ["RANK"] = "0"
        def wait_for_ever():
            time.sleep(300)
        _run_rank(cloudpickle.dumps((wait_for_ever, ())), time.time() + 1, sys.argv[1])
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    done = subprocess.run(command, timeout=300)
    assert done.returncode == 1
    assert "in wait_for_ever" in (tmp_path / "stack-0.txt").read_text()


def test_a_rank_that_failed_is_told_where_another_does_not_let_itself_be_ended(tmp_path):
    """As one that handles SIGTERM: the others wait for it up to the time limit."""
    module = importlib.import_module("dlcourse.large_scale_training.distributed.launch")
    (tmp_path / "stack-0.txt").write_text("in saves_what_it_has")
    (tmp_path / "error-1.txt").write_text("ValueError: the cause")
    text = str(module._stopped(tmp_path, 2, 5.0))
    assert "rank 1 had failed:\nValueError: the cause" in text
    assert "rank 0:\nin saves_what_it_has" in text


def test_a_script_that_cannot_be_imported_is_told_how_it_could(tmp_path):
    module = importlib.import_module("dlcourse.large_scale_training.distributed.launch")
    first = SimpleNamespace(exitcode=1, local_rank=0)
    error = SimpleNamespace(get_first_failure=lambda: (0, first))
    text = str(module._explain(error, tmp_path, 1, 5.0))
    assert "ended before the function began" in text and "__main__" in text


def test_no_rank_outlives_a_killed_launcher(tmp_path):
    script = """
        import os, sys, time
        from dlcourse.large_scale_training import launch
        def report(folder):
            open(f"{folder}/{os.environ['RANK']}", "w").write(str(os.getpid()))
            time.sleep(300)
        launch(report, 2, sys.argv[1], time_limit=250)
    """
    launcher = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), str(tmp_path)])
    pids = []
    try:
        while len(pids) < 2:
            assert launcher.poll() is None
            time.sleep(0.1)
            pids = [int(f.read_text()) for f in tmp_path.iterdir() if f.read_text()]
    finally:
        launcher.kill()
        launcher.wait()
    deadline = time.monotonic() + 60
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, pids))


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # a zombie is dead and only not yet collected


def test_launch_refuses_senseless_arguments_before_starting_anything():
    with pytest.raises(TypeError, match="fn must be a function"):
        launch("train.py", 2)
    with pytest.raises(ValueError, match="nproc_per_node"):
        launch(print, 0)
    for limit in (0, math.inf, math.nan):
        with pytest.raises(ValueError, match="time_limit > 0"):
            launch(print, 1, time_limit=limit)
    with pytest.raises(TypeError, match="create such objects .* inside fn"):
        launch(print, 1, threading.Lock())


# --- bad surroundings --------------------------------------------------------------


def test_missing_variables_are_named_with_the_remedy(alone):
    alone.delenv("RANK")
    alone.delenv("MASTER_PORT")
    with pytest.raises(RuntimeError, match=r"no RANK, MASTER_PORT .*torchrun .*launch\(fn, N\)"):
        with distributed():
            pass


@pytest.mark.parametrize(
    "name, value, text",
    [
        ("RANK", "one", "RANK must be a whole number"),
        ("RANK", "1", "RANK=1 does not fit WORLD_SIZE=1"),
    ],
)
def test_contradicting_variables_are_refused(alone, name, value, text):
    alone.setenv(name, value)
    with pytest.raises(ValueError, match=text):
        with distributed("gloo"):
            pass


def test_ranks_that_never_come_are_named_after_the_time_out(alone):
    alone.setenv("WORLD_SIZE", "3")
    with pytest.raises(TimeoutError, match="WORLD_SIZE is 3, but rank 1 did not come within 1 s"):
        with distributed("gloo", timeout=1):
            pass


def test_a_store_that_is_not_there_is_named_after_the_time_out(alone):
    alone.setenv("WORLD_SIZE", "2")
    alone.setenv("RANK", "1")
    with pytest.raises(TimeoutError, match="rank 1 found no store at MASTER_ADDR:MASTER_PORT"):
        with distributed("gloo", timeout=1):
            pass


@pytest.fixture
def launchers_store(alone):
    """The store of a launcher that said 2 ranks; the test is rank 0."""
    alone.setenv("WORLD_SIZE", "2")
    alone.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    return dist.TCPStore("127.0.0.1", int(os.environ["MASTER_PORT"]), is_master=True)


def meet(port, rank, world_size, results, timeout=20):
    """One rank's part of the meeting at a launcher's store, in a thread."""
    from datetime import timedelta

    from dlcourse.large_scale_training.distributed.world import _agree

    def run():
        store = dist.TCPStore("127.0.0.1", port, is_master=False)
        try:
            results[rank] = _agree(store, rank, world_size, timedelta(seconds=timeout))
        except Exception as error:
            results[rank] = error

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_ranks_with_different_world_sizes_are_told_at_once(launchers_store):
    said = {}
    other = meet(launchers_store.port, 1, 4, said)
    with pytest.raises(ValueError, match="rank 0 has WORLD_SIZE=2, rank 1 has 4"):
        with distributed("gloo", timeout=20):
            pass
    other.join()
    assert "rank 0 has WORLD_SIZE=2, rank 1 has 4" in str(said[1])


def test_what_ranks_of_an_earlier_attempt_left_in_the_store_does_not_count(launchers_store):
    launchers_store.set("token/1", "of a rank that died")
    with pytest.raises(TimeoutError, match="rank 1 did not come"):
        with distributed("gloo", timeout=1):
            pass


def test_ranks_of_a_round_meet_whatever_each_launcher_has_counted_and_the_store_holds():
    """4 ranks, then 3 of which one has joined, then 5, on one store; the slow come last."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    sessions = []
    for order in ((0, 1, 2, 3), (1, 2, 0), (4, 0, 2, 1, 3)):
        found, threads = {}, []
        for rank in order:
            threads.append(meet(store.port, rank, len(order), found))
            time.sleep(0.05)
        for thread in threads:
            thread.join()
        assert sorted(found) == sorted(order) and len(set(found.values())) == 1, found
        sessions.append(found[0])
    assert len(set(sessions)) == 3


def test_a_meeting_reads_the_store_a_few_times_for_each_rank_not_for_each_pair():
    class Counting(dist.HashStore):
        reads = 0

        def get(self, key):
            Counting.reads += 1
            return super().get(key)

        def multi_get(self, keys):
            Counting.reads += len(keys)
            return super().multi_get(keys)

    from datetime import timedelta

    from dlcourse.large_scale_training.distributed.world import _agree

    store, p = Counting(), 32
    threads = [
        threading.Thread(target=_agree, args=(store, rank, p, timedelta(seconds=30)))
        for rank in range(1, p)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.2)  # all tokens are there: what is counted is the protocol, not the waiting
    _agree(store, 0, p, timedelta(seconds=30))
    for thread in threads:
        thread.join()
    assert Counting.reads < p * p / 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_nccl_without_a_gpu_is_refused_at_once(alone):
    with pytest.raises(RuntimeError, match="needs a GPU and torch sees none: use backend='gloo'"):
        with distributed("nccl"):
            pass
    with pytest.raises(ValueError, match="'mpi'"):
        with distributed("mpi"):
            pass


def test_more_ranks_than_gpus_are_refused(alone):
    alone.setattr(torch.cuda, "is_available", lambda: True)
    alone.setattr(torch.cuda, "device_count", lambda: 2)
    alone.setenv("LOCAL_RANK", "2")
    with pytest.raises(RuntimeError, match="LOCAL_RANK=2, but this machine has 2 GPUs"):
        with distributed():
            pass


def test_the_group_is_closed_after_the_block_also_after_an_error(alone):
    with pytest.raises(ZeroDivisionError):
        with distributed("gloo"):
            with pytest.raises(RuntimeError, match="open already"):
                with distributed("gloo"):
                    pass
            assert dist.is_initialized()
            1 / 0  # noqa: B018
    assert not dist.is_initialized()


# --- costs -------------------------------------------------------------------------


def test_zero_memory_is_the_papers_figure_1():
    """7.5 billion parameters on 64 GPUs: 120, 31.4, 16.6 and 1.9 GB (Rajbhandari et al. 2020)."""
    totals = [zero_memory(7.5e9, 64, stage).total / 1e9 for stage in range(4)]
    assert totals == pytest.approx([120, 31.4, 16.6, 1.9], abs=0.05)
    with pytest.raises(ValueError, match="stage"):
        zero_memory(1e9, 8, 4)
    with pytest.raises(ValueError, match="world_size must be above 0"):
        zero_memory(1e9, 0, 1)


def simulated_ring(chunks, latency, bandwidth):
    """All-reduce of a list of vectors in a ring, message by message; the sums and the seconds."""
    p, size = len(chunks), chunks[0].nbytes / len(chunks)
    parts = [list(np.array_split(c.copy(), p)) for c in chunks]
    seconds = 0.0
    for phase in ("reduce", "gather"):
        for k in range(p - 1):
            start = 0 if phase == "reduce" else 1
            which = [(r + start - k) % p for r in range(p)]
            sent = [(r, part, parts[r][part].copy()) for r, part in enumerate(which)]
            for r, part, values in sent:
                there = parts[(r + 1) % p]
                there[part] = there[part] + values if phase == "reduce" else values
            seconds += latency + size / bandwidth  # all ranks send at the same time
    return [np.concatenate(part) for part in parts], seconds


@pytest.mark.parametrize("p", [2, 3, 4, 8])
def test_ring_time_is_that_of_a_ring_simulated_message_by_message(p):
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=24 * p) for _ in range(p)]
    sums, seconds = simulated_ring(vectors, 1e-3, 1e6)
    for result in sums:
        np.testing.assert_allclose(result, np.sum(vectors, axis=0))
    assert ring_all_reduce_time(vectors[0].nbytes, p, 1e-3, 1e6) == pytest.approx(seconds)
    assert ring_all_reduce_time(1e6, 1, 1e-3, 1e6) == 0


def test_fit_finds_latency_and_bandwidth_through_noise():
    rng = np.random.default_rng(0)
    sizes = np.logspace(3, 8, 40)
    times = [ring_all_reduce_time(n, 4, 5e-5, 2e9) * rng.lognormal(0, 0.05) for n in sizes]
    latency, bandwidth = fit_alpha_beta(sizes, times, 4)
    assert latency == pytest.approx(5e-5, rel=0.05)
    assert bandwidth == pytest.approx(2e9, rel=0.05)
    assert fit_alpha_beta([1e3, 1e4], [1e-3, 1e-2], 2)[0] == pytest.approx(0, abs=1e-9)
    assert fit_alpha_beta([1e3, 1e4], [1e-2, 1e-3], 2)[1] == float("inf")  # never negative
    with pytest.raises(ValueError, match="two different sizes"):
        fit_alpha_beta([1e3, 1e3], [1, 1], 2)


def test_the_time_of_an_all_reduce_is_the_median_without_the_first(alone):
    clock = iter([9.0, 3.0, 1.0, 2.0, 8.0, 5.0, 4.0, 6.0])  # seconds of each call

    def timed(function, device):
        function()
        return next(clock)

    alone.setattr(communication, "time_call", timed)
    with distributed("gloo"):
        assert time_all_reduce([4, 1024], repeats=3) == [2.0, 5.0]


def test_measured_all_reduces_can_be_fitted(two):
    for facts in two:
        sizes, times = facts["all-reduce"]
        assert len(times) == len(sizes) and min(times) > 0
        latency, bandwidth = fit_alpha_beta(sizes, times, 2)
        assert latency >= 0 and bandwidth > 0


def test_activation_bytes_are_korthikantis():
    """GPT-3: s 2048, h 12288, L 96, a 96: attention adds 5 a s / h = 80 to the 34."""
    nothing = activation_bytes(1, 2048, 12288, 96, 96, "nothing")
    attention = activation_bytes(1, 2048, 12288, 96, 96, "attention")
    assert nothing / attention == pytest.approx(114 / 34)
    assert activation_bytes(1, 2048, 12288, 96, 96, "blocks") == 2 * 2048 * 12288 * 96
    assert attention == 2 * transformer_activations(2048, 12288, 96)  # numbers of 2 bytes
    with pytest.raises(ValueError, match="recompute"):
        activation_bytes(1, 1, 1, 1, 1, "all")


def test_plan_has_the_shape_of_gpt3_and_adds_up():
    foreseen = plan(175e9, 1024, batch=1536, sequence=2048, peak_flops=312e12)
    assert abs(foreseen.layers - 96) < 3 and foreseen.hidden == 128 * foreseen.layers
    assert foreseen.memory == foreseen.model_state.total + foreseen.activations
    assert foreseen.step_time == max(foreseen.compute_time, foreseen.communication_time)
    assert foreseen.tokens_per_second * foreseen.step_time == pytest.approx(1536 * 2048)
    # mfu by hand, from the throughput
    attention = 6 * foreseen.layers * foreseen.hidden * 2048  # causal: half of PaLM's 12
    flops = foreseen.tokens_per_second * (6 * 175e9 + attention)
    assert foreseen.mfu == pytest.approx(flops / (1024 * 312e12))


def test_plan_trades_as_the_papers_say():
    kind = dict(batch=512, sequence=2048)
    by_stage = [plan(7e9, 64, stage=stage, **kind) for stage in range(4)]
    memory = [p.memory for p in by_stage]
    assert memory == sorted(memory, reverse=True) and len(set(memory)) == 4
    volume = [p.communication_time for p in by_stage]
    assert volume[0] == volume[1] == volume[2] == pytest.approx(volume[3] / 1.5)
    kept, recomputed = (plan(7e9, 64, recompute=r, **kind) for r in ("nothing", "blocks"))
    assert recomputed.activations < kept.activations / 10
    assert 1.3 < recomputed.compute_time / kept.compute_time <= 4 / 3 + 1e-9
    slow = plan(7e9, 64, bandwidth=1e9, **kind)
    assert slow.step_time == slow.communication_time and slow.mfu < kept.mfu
    assert plan(7e9, 1, batch=1, sequence=2048).communication_time == 0
    with pytest.raises(ValueError, match="without a sequence"):
        plan(7e9, 64, batch=32, sequence=2048)
    with pytest.raises(ValueError, match="parameters must be above 0"):
        plan(0, 1, batch=1, sequence=1)


# --- the listing -------------------------------------------------------------------


class Listing:
    """The listing's set-up, as far as it decides who and how many the ranks are."""

    def __init__(self, num_nodes=8, gpus_per_node=8):
        self.total_gpus = num_nodes * gpus_per_node

    def setup(self):
        return self.total_gpus, self._get_rank(), self._get_local_rank()


def test_listing_infrastructure_asks_methods_that_do_not_exist(alone):
    with pytest.raises(AttributeError, match="_get_rank"):
        Listing().setup()
    with distributed("gloo") as world:
        assert (world.rank, world.local_rank) == (0, 0)


def test_listing_infrastructure_waits_for_64_ranks_whatever_was_launched(alone):
    from datetime import timedelta

    with pytest.raises(dist.DistError):  # after the time-out; by default half an hour
        dist.init_process_group(
            "gloo", world_size=Listing().total_gpus, rank=0, timeout=timedelta(seconds=1)
        )
    assert dist.distributed_c10d.default_pg_timeout == timedelta(minutes=30)
    with distributed("gloo") as world:
        assert world.world_size == 1


@pytest.mark.skipif(dist.is_nccl_available(), reason="is about torch built without NCCL")
def test_listing_infrastructure_takes_nccl_without_looking_for_a_gpu(alone):
    with pytest.raises((RuntimeError, ValueError), match="NCCL"):
        dist.init_process_group("nccl")
    with distributed() as world:
        assert world.device.type == "cpu" and dist.get_backend() == "gloo"


def test_listing_infrastructure_sets_the_device_after_the_group(alone):
    """NCCL binds the group to the current device: it must be set before, as ours is."""
    order = []

    def stop(*args, **kwargs):
        order.append("group")
        raise InterruptedError

    alone.setattr(torch.cuda, "is_available", lambda: True)
    alone.setattr(torch.cuda, "device_count", lambda: 1)
    alone.setattr(torch.cuda, "set_device", lambda device: order.append(str(device)))
    alone.setattr(dist, "init_process_group", stop)
    with pytest.raises(InterruptedError):
        with distributed():
            pass
    assert order == ["cuda:0", "group"]


def test_listing_infrastructure_never_closes_its_group(alone):
    dist.init_process_group("gloo")
    try:
        assert dist.is_initialized()  # and nothing in the listing ends it
        with pytest.raises(ValueError, match="twice"):
            dist.init_process_group("gloo")
    finally:
        dist.destroy_process_group()
    for _ in range(2):
        with distributed("gloo"):
            pass
    assert not dist.is_initialized()


def test_listing_fsdp_strings_are_no_enums(two):
    for facts in two:
        assert "full_shard" in facts["listing"]["strategy"]
        assert "offload_params" in facts["listing"]["offload"]
        assert facts["listing"]["prefetch accepted"] == "FullyShardedDataParallel"
    from torch.distributed.fsdp import BackwardPrefetch

    assert [kind.name for kind in BackwardPrefetch] == ["BACKWARD_PRE", "BACKWARD_POST"]


def test_listing_fsdp_shards_nothing_on_one_rank_and_does_not_say_so(alone):
    from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
    from torch.distributed.fsdp import ShardingStrategy

    with distributed("gloo"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = FSDP(Net(), sharding_strategy="full_shard", device_id=torch.device("cpu"))
        assert model.sharding_strategy is ShardingStrategy.NO_SHARD


def test_listing_fsdp_gathers_the_whole_model_at_once(alone):
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.fsdp import FullyShardedDataParallel as FSDP

    with distributed("gloo"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        listing = FSDP(Net(), device_id=torch.device("cpu"))  # no auto_wrap_policy
        assert len(FSDP.fsdp_modules(listing)) == 1
        blocks = [m for m in shard(Net()).modules() if isinstance(m, FSDPModule)]
        assert len(blocks) == 3
