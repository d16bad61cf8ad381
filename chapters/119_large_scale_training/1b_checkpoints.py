# %% [markdown] tags=["slide"]
# (sec-119-1b)=
# # 119.1b Checkpoints: a crash costs minutes, not the run
#
# A long run on many machines is certain to be interrupted. At the end of this section you can save
# a run so that it continues as if nothing had happened, on as many processes as are left; prove
# it; notice a damaged file before it does harm; and compute how often to save.
#
# You need: Python, a PyTorch training loop, and no GPU. {doc}`Section 119.1a <1a_distributed>`
# says how processes are started and how a model is sharded; here we use both.

# %% tags=["definitions", "hide-input", "skip"]
import os

os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # read when torch is imported; deaths are meant here

import signal
import statistics
import tempfile
import time
import warnings
import zlib
from pathlib import Path
from unittest import mock

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.tensor import DTensor

from dlcourse.datasets import digits
from dlcourse.large_scale_training import (
    CheckpointError,
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
from dlcourse.large_scale_training.experiments.crashes import kill_both, progress
from dlcourse.notebook import claim, explore, keep, recorded, say, show_source

plt.style.use("dlcourse.notebook.course")
temporary = tempfile.TemporaryDirectory()  # removed at the end
FOLDER = Path(temporary.name)

# %% [markdown] tags=["slide"]
# ## A question
#
# Llama 3 was trained on 16,384 GPUs. In a period of 54 days the job was interrupted 419 times
# without warning {cite:p}`grattafiori2024llama3`: once in three hours, mostly because some piece
# of hardware failed. A run of weeks that needs every GPU at once, and never has three quiet hours:
# how does it end?

# %% card=true mystnb={"figure": {"caption": "A simulated day of such a job: useful work against time. Failures (ticks) throw it back to the last checkpoint, then it takes 10 minutes to restart; a save takes 1 minute. Without saving, each failure throws it back to the start.", "name": "fig-day-of-failures"}, "image": {"alt": "Three sawtooth lines over 24 hours. With a save every 20 minutes the line rises almost straight; with a save every 3 hours it gets about half as far; without saves it falls to zero at each failure."}} tags=["hide-input", "plot", "skip"]
BETWEEN = 54 * 24 / 419  # hours between failures of the whole job
A_SAVE, A_RESTART = 1 / 60, 10 / 60  # hours: assumed
failures = np.cumsum(np.random.default_rng(3).exponential(BETWEEN, 40))
day = {
    name: progress(failures, interval, A_SAVE, A_RESTART, end=24)
    for name, interval in (
        ("a save every 20 minutes", 1 / 3),
        ("a save every 3 hours", 3),
        ("no saves", np.inf),
    )
}
fig, ax = plt.subplots(figsize=(7, 3.2))
for name, corners in day.items():
    ax.plot(*np.transpose(corners), label=name)
ax.plot([0, 24], [0, 24], ":", color="0.6", label="no failures")
today = failures[failures < 24]
ax.plot(today, 0 * today - 1, "|", color="tab:red", ms=10, label="a failure")
ax.set(xlabel="time (hours)", ylabel="useful work (hours)", xticks=range(0, 25, 6))
ax.legend(fontsize=9, bbox_to_anchor=(1, 1), loc="upper left")
plt.show()

# %% tags=["hide-input", "check"]
often, seldom, never = (corners[-1][1] for corners in day.values())
claim(
    "On this day there are {n} failures. With a save every 20 minutes, {often:.0f} of 24 hours "
    "become useful work; with one every 3 hours, {seldom:.0f}. Without saves {never:.1f} hours are "
    "left, and the next failure takes them.",
    often > 0.75 * 24 > 15 > seldom > never,
    n=len(today),
    often=often,
    seldom=seldom,
    never=never,
)

# %% [markdown] tags=["slide"]
# Three things decide how such a run ends: whether it *continues* exactly where it was saved,
# whether a crash *during* a save spares the previous checkpoint, and how much time saving takes.
# We go through them in this order.
#
# ## What a checkpoint must hold
#
# | part | if it is forgotten |
# |---|---|
# | the weights | everything is |
# | the optimizer's state | momentum and step sizes begin anew |
# | the schedule | the learning rate warms up a second time |
# | the random states, of *each* process | other neurons are dropped |
# | the position in the data | some examples are seen twice, others not at all |
# | the loss scale, with fp16 ({doc}`119.1c <1c_mixed_precision>`) | the scale is searched again, and steps are skipped |
#
# Nothing crashes when a part is missing. The run is only another one. `Job` below has all of them
# but the last. It can run alone, or as one process ("rank") of many; then its model is sharded.

# %% tags=["definitions", "skip"]
digit = digits(seed=0, max_shift=2, copies=2).train
X, Y = digit.x.flatten(1), digit.y  # (images, 144), (images,)
BATCH = 60  # of all ranks together: divides by 1, 2, 3 and 4


class Job:
    """A training run, alone or as one rank of many."""

    def __init__(self, seed, world=None, dropout=0.2):
        self.rank = world.rank if world else 0
        self.ranks = world.world_size if world else 1
        torch.manual_seed(seed)
        self.model = nn.Sequential(
            nn.Linear(144, 64), nn.ReLU(), nn.Dropout(dropout), nn.Linear(64, 10)
        )
        if world:
            shard(self.model)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.schedule = cosine_with_warmup(self.optimizer, 10, 120)
        self.position = 0  # steps done: with the seed, the place in the data
        torch.manual_seed(1000 * seed + self.rank)  # each rank its own dropout

    def step(self):
        """One step; returns the loss of the whole batch."""
        epoch, batch = divmod(self.position, len(Y) // BATCH)
        order = torch.randperm(len(Y), generator=torch.Generator().manual_seed(epoch))
        rows = order[batch * BATCH :][:BATCH].chunk(self.ranks)[self.rank]
        loss = nn.functional.cross_entropy(self.model(X[rows]), Y[rows])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        self.position += 1
        mean = loss.detach().clone()
        if self.ranks > 1:
            dist.all_reduce(mean)  # only to report it
        return mean.item() / self.ranks

    def save(self, path):
        extra = {"schedule": self.schedule.state_dict(), "random": rng_state()}
        save_checkpoint(path, self.model, self.optimizer, step=self.position, extra=extra)

    def resume(self, path, forget=None):
        optimizer = None if forget == "optimizer" else self.optimizer
        found = load_checkpoint(path, self.model, optimizer)
        if forget != "schedule":
            self.schedule.load_state_dict(found["extra"]["schedule"])
        if forget != "random state":
            set_rng_state(found["extra"]["random"])
        if forget != "data position":
            self.position = found["step"]

    def weights(self):
        parameters = self.model.parameters()
        whole = (p.full_tensor() if isinstance(p, DTensor) else p for p in parameters)
        return torch.cat([p.detach().flatten() for p in whole])


# %% [markdown] tags=["skip"]
# Note `position`. The batch of a step follows from the seed and the step alone, and the ranks only
# divide it: so the step *is* the position, for any number of ranks. Data loaders that shuffle
# within each worker have a state of their own, which must be saved too
# {cite:p}`mohan2021checkfreq`.
#
# Save after 40 steps and go on for 40. Then resume in a fresh job and go on for 40, once with
# everything and once without each part.

# %% tags=["skip"]
PARTS = ["optimizer", "schedule", "random state", "data position"]
gaps = {part: [] for part in [None, *PARTS]}  # in the losses
moved = {part: [] for part in [None, *PARTS]}  # in the weights
for seed in (0, 1, 2):
    job = Job(seed)
    for _ in range(40):
        job.step()
    job.save(FOLDER / f"job-{seed}")
    uninterrupted = [job.step() for _ in range(40)]
    for part in gaps:
        again = Job(seed)
        again.resume(FOLDER / f"job-{seed}", forget=part)
        losses = [again.step() for _ in range(40)]
        gaps[part].append(np.abs(np.subtract(losses, uninterrupted)))
        distance = (again.weights() - job.weights()).norm()
        moved[part].append((distance / job.weights().norm()).item())

# %% mystnb={"figure": {"caption": "Difference of the training loss from the run that was never interrupted, when one part of its state is forgotten on resuming; mean of 3 seeds. With everything restored it is exactly zero, which a logarithmic axis cannot show.", "name": "fig-forgotten-part"}, "image": {"alt": "Four jagged lines of loss differences over 40 steps after resuming, one for each forgotten part: optimizer, schedule, random state and data position. All lie between one hundredth and one."}} tags=["hide-input", "plot", "skip"]
fig, ax = plt.subplots(figsize=(7, 3))
for part in PARTS:
    ax.plot(range(40, 80), np.mean(gaps[part], axis=0), label=f"without {part}")
ax.set(xlabel="step", ylabel="difference of the loss (nats)", yscale="log")
ax.legend(fontsize=9, bbox_to_anchor=(1, 1), loc="upper left")
plt.show()

# %% tags=["hide-input", "check"]
claim(
    "With everything restored, all 40 losses and all weights equal those of the uninterrupted run "
    "to the last bit, for each of {n} seeds. Without one part the weights end elsewhere, by "
    "{parts} of their norm.",
    np.max(gaps[None]) == 0
    and max(moved[None]) == 0
    and min(min(moved[part]) for part in PARTS) > 0.01,
    n=len(moved[None]),
    parts=", ".join(f"{np.mean(moved[p]):.0%} ({p})" for p in PARTS),
)

# %% [markdown] tags=["skip"]
# So there is a sharp test for any checkpoint: not "the loss looks right", but *equality*. It needs
# the same number of ranks, the same versions and the same kind of device. Run it once in every
# project.

# %% [markdown] tags=["slide"]
# ## A save that a crash cannot spoil
#
# A save takes time, and a process can die at any moment of it. So a new version is written
# *beside* the old one, in a folder of its own. It becomes the checkpoint in a single act that the
# file system cannot do by halves: the rename of a small file, `latest`, which names the version
# that counts.

# %% [markdown] tags=["skip"]
# :::{diagram} figures/1b_checkpoints.svg
# ---
# name: fig-commit-protocol
# alt: Above, the folder of a checkpoint. The file latest points to the folder of version 100 with
#   its shards, metadata and checksums; a dashed arrow shows that one rename will make it point to
#   the folder of version 200 beside it. Below, the protocol of two ranks. Both write their shards,
#   make sure that they are on the disk and compute checksums. Rank 0 writes the list of checksums
#   and renames latest, while rank 1 waits. A kill before the rename leaves version 100, a kill
#   after it version 200.
# ---
# A checkpoint's folder, and the order in which it changes. Each rank writes what it holds. Whoever
# loads reads the pieces that *its* sharding needs, so the number of ranks may change.
# :::

# %%
from dlcourse.large_scale_training.checkpoints.saving import commit

show_source(commit)

# %% [markdown] tags=["skip"]
# `os.fsync` is against a loss of power: without it, the rename may reach the disk before the data.
# Old versions go last, and only the files which a save has written: a folder `step-10-best` of
# your own stays.
#
# Now we kill. A child process saves again and again, and gets SIGKILL, which no program can catch,
# at a random moment. Every number of version $k$ is $k$, so that a mixture of two versions would
# show. For comparison the same with `dcp.save`, PyTorch's own function, into one and the same
# folder each time.

# %% tags=["skip"]
with mock.patch.dict(os.environ, CUDA_VISIBLE_DEVICES=""):  # a forked child must not meet a GPU
    [(beside, over)] = launch(kill_both, 1, FOLDER, time_limit=100)

# %% tags=["hide-input", "check"]
claim(
    "After {n} kills our checkpoint was whole {whole} times. Saved over the previous one, it was "
    "lost {lost} of {m} times.",
    beside == (20, 0) and over[1] > 0,
    n=sum(beside),
    whole=beside[0],
    lost=over[1],
    m=sum(over),
)

# %% [markdown] tags=["skip"]
# The tests of this section kill a hundred times, also with Adam's state.

# %% [markdown] tags=["slide"]
# ## A flipped bit is a weight, too
#
# Disks, cables and copies make mistakes. A loader cannot see them: any 32 bits are a number. We
# flip a single bit in the file of a small model, and read it with PyTorch's function alone.

# %% tags=["skip"]
def small(value):
    model = nn.Linear(64, 64, bias=False)
    nn.init.constant_(model.weight, value)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def flip(file, place, bit):
    content = bytearray(file.read_bytes())
    content[place] ^= 1 << bit
    file.write_bytes(content)


model, optimizer = small(1.0)
version = save_checkpoint(FOLDER / "small", model, optimizer)
shards = version / "__0_0.distcp"
place = shards.read_bytes().index(np.ones(64, dtype=np.float32).tobytes())
flip(shards, place + 3, 0)  # a bit of the exponent

state = {"model/weight": torch.zeros(64, 64)}
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    dcp.load(state, checkpoint_id=version)
print("read by dcp.load:", state["model/weight"].flatten()[:3].tolist(), "…")
try:
    load_checkpoint(FOLDER / "small", *small(0.0))
except CheckpointError as error:
    print("load_checkpoint: ", str(error).replace(f"{FOLDER}/", ""))
flip(shards, place + 3, 0)  # back

# %% [markdown] tags=["skip"]
# A save therefore ends with a list of the size and the *checksum* of each file, and of the list
# itself. `load_checkpoint` compares every file with it before it writes anything into the model;
# with many ranks each compares a part, and all refuse together. Does it notice *every* damage? We
# flip a random bit in each file, at many places, zero a few bytes, cut the end, and remove the
# file.

# %% tags=["skip"]
fresh, its_optimizer = small(0.0)
chance = np.random.default_rng(0)
refused = tried = 0
for file in [*version.iterdir(), FOLDER / "small" / "latest"]:
    whole = file.read_bytes()
    damages = [None, whole[:-1], whole + b"\0"]  # None: the file is gone
    for place in chance.integers(len(whole), size=40):
        other = whole[place] ^ (1 << chance.integers(8))
        damages.append(whole[:place] + bytes([other]) + whole[place + 1 :])
    for place in chance.integers(len(whole), size=10):
        zeroed = whole[:place] + bytes(len(whole[place : place + 8])) + whole[place + 8 :]
        damages += [zeroed] if zeroed != whole else []
    for damaged in damages:
        file.unlink() if damaged is None else file.write_bytes(damaged)
        tried += 1
        try:
            load_checkpoint(FOLDER / "small", fresh, its_optimizer)
        except CheckpointError:
            refused += 1
    file.write_bytes(whole)
unchanged = bool((fresh.weight == 0).all())
load_checkpoint(FOLDER / "small", fresh, its_optimizer)  # whole again

# %% tags=["hide-input", "check"]
claim(
    "{refused} of {tried} damaged checkpoints were refused with a `CheckpointError`, and the model "
    "was what it had been each time. The undamaged one loads.",
    refused == tried and unchanged and bool((fresh.weight == 1).all()),
    refused=refused,
    tried=tried,
)

# %% [markdown] tags=["skip"]
# ### What checking costs
#
# CRC-32, the checksum of ZIP files, over every byte would do, but takes a good part of the time of
# a load. So each block of a megabyte is first read as a table of 8-byte words and added up along
# its rows and along its columns; CRC-32 sees the sums alone. A word that changes also changes the
# sum of its row and that of its column. What it cannot see is a change of four words at the corners
# of a rectangle whose differences cancel in both directions; an accident hardly makes that.

# %%
from dlcourse.large_scale_training.checkpoints.checksums import checksum

show_source(checksum)

# %% tags=["hide-input", "skip"]
big = nn.Sequential(*(nn.Linear(1024, 1024) for _ in range(4)))
adam = torch.optim.AdamW(big.parameters(), lr=1e-3)
batch = torch.randn(64, 1024, generator=torch.Generator().manual_seed(0))


def timed(function, *args):
    start = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - start, result


def big_step():
    adam.zero_grad()
    big(batch).square().mean().backward()
    adam.step()


big_step()
version = save_checkpoint(FOLDER / "big", big, adam)
megabytes = sum(file.stat().st_size for file in version.iterdir()) / 1e6
contents = [file.read_bytes() for file in version.iterdir()]
shares, of_crc = [], []
for _ in range(7):  # one after the other: a busy machine slows both
    checking = timed(lambda: [checksum(file) for file in version.iterdir()])[0]
    loading = timed(load_checkpoint, FOLDER / "big", big, adam)[0]
    crc = timed(lambda: [zlib.crc32(content) for content in contents])[0]  # read already
    shares.append(checking / (loading - checking))
    of_crc.append(crc / (loading - checking))

# %% tags=["hide-input", "check"]
claim(
    "For a checkpoint of {size:.0f} MB that lies in the computer's memory, checking takes "
    "{share:.0%} of the time of the load without it (median of {n}; {low:.0%} to {high:.0%}); "
    "CRC-32 of every byte, {crc:.0%}.",
    0 < statistics.median(shares) < min(0.5, statistics.median(of_crc)),
    crc=statistics.median(of_crc),
    size=megabytes,
    share=statistics.median(shares),
    n=len(shares),
    low=min(shares),
    high=max(shares),
)

# %% [markdown] tags=["skip"]
# Where the files come from a disk, the check reads them from there, and what is loaded afterwards
# is still in memory.
#
# A checksum is against accidents. It is no protection from somebody who changes file and list
# together; that takes a signature.

# %% [markdown] tags=["skip"]
# {{exercise 119.1b.checksum}}

# %% [markdown] tags=["slide"]
# ## A worker dies, the job goes on
#
# The launcher watches its workers. When one dies it ends the others, who would wait for it for
# ever, and starts *all* of them again, up to `max_restarts` times. The program has to do one
# thing: begin by looking for a checkpoint. Two ranks, a save every 10 steps; rank 1 kills itself
# before step 14.

# %% tags=["skip"]
def survive(folder):
    attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    with distributed("gloo", timeout=60) as world:
        job = Job(0, world)
        try:
            job.resume(folder)
        except FileNotFoundError:
            pass  # the very first start
        while job.position < 30:
            if attempt == 0 and world.rank == 1 and job.position == 14:
                os.kill(os.getpid(), signal.SIGKILL)
            position = job.position
            loss = job.step()
            if world.rank == 0:
                with open(folder.with_suffix(".log"), "a") as log:
                    print(attempt, position, loss, file=log)
            if job.position % 10 == 0:
                job.save(folder)
        whole = Job(0, world)  # the same, never interrupted
        losses = [whole.step() for _ in range(30)]
        return torch.equal(job.weights(), whole.weights()), losses, job.weights()


survived = launch(survive, 2, FOLDER / "elastic", max_restarts=1, time_limit=150)

# %% mystnb={"figure": {"caption": "Loss of each step: the attempt that died, the attempt after it, and a run without a death (grey). Steps 10 to 13 were computed twice, with the same losses.", "name": "fig-two-attempts"}, "image": {"alt": "A grey falling loss curve of 30 steps. Circles of the first attempt lie on it from step 0 to 13, crosses of the second from step 10 to the end."}} tags=["hide-input", "plot", "skip"]
log = np.loadtxt(FOLDER / "elastic.log")  # attempt, step, loss
uninterrupted = np.array(survived[0][1])
fig, ax = plt.subplots(figsize=(7, 2.8))
ax.plot(uninterrupted, color="0.7", lw=3, label="never interrupted")
for attempt, marker in ((0, "o"), (1, "x")):
    _, steps, losses = log[log[:, 0] == attempt].T
    ax.plot(steps, losses, marker, ms=4.5, mfc="none", label=f"attempt {attempt + 1}")
ax.axvline(13.5, color="tab:red", ls=":", label="rank 1 dies")
ax.set(xlabel="step", ylabel="loss (nats)")
ax.legend()
plt.show()

# %% tags=["hide-input", "check"]
first, second = (log[log[:, 0] == attempt] for attempt in (0, 1))
claim(
    "The first attempt computed {done} steps. The second began at step {start:.0f} and ended with "
    "weights that equal those of the uninterrupted run to the last bit, on both ranks.",
    all(equal for equal, *_ in survived)
    and (second[:, 2] == uninterrupted[10:]).all()
    and len(first) == 14,
    done=len(first),
    start=second[0, 1],
)

# %% [markdown] tags=["skip"]
# {{exercise 119.1b.predict-dead-worker}}

# %% [markdown] tags=["slide"]
# ## Another number of ranks
#
# Often the machine does not come back. Then the job should go on with those that are left, and
# take the lost one in again later. The shards hold no trace of the number of ranks: here is the
# last checkpoint of the two ranks, loaded into a plain model in this process.

# %% tags=["skip"]
alone = Job(7)
alone.resume(FOLDER / "elastic")

# %% tags=["hide-input", "check"]
claim(
    "Saved by two ranks, loaded by one without a process group: step {step}, and all {n:,} weights "
    "equal.",
    torch.equal(alone.weights(), survived[0][2]) and alone.position == 30,
    step=alone.position,
    n=len(alone.weights()),
)

# %% [markdown] tags=["skip"]
# Two parts of the state need thought. The **data**: batches must not depend on the number of
# ranks, or some examples are read twice. The **random states**: there are as many as ranks that
# saved. If all new ranks took the first one's, all would drop the same neurons, and the noise of
# dropout would no longer average out. So `load_checkpoint` gives each rank a new stream where the
# number has changed. It follows from the saved state, the rank and the number of ranks: the
# streams differ, and the run can be repeated.
#
# The cell below starts three jobs, one after the other, of 4, 3 and 4 ranks. Each goes on from the
# checkpoint of the one before. Without dropout, the losses must be those of a single process.

# %% tags=["long", "hide-input", "skip"] name="elastic"
def part_of_a_run(folder, until):
    """Go on from the checkpoint; the first step, the losses, and a number from each stream."""
    with distributed("gloo", timeout=120) as world:
        job = Job(0, world, dropout=0.0)
        try:
            job.resume(folder)
        except FileNotFoundError:
            pass
        begin = job.position
        stream = torch.Generator()
        stream.set_state(torch.get_rng_state())
        losses = [job.step() for _ in range(begin, until)]
        job.save(folder)
        return begin, losses, torch.rand((), generator=stream).item()


ranks, parts = [4, 3, 4], []
for number, until in zip(ranks, (20, 40, 60)):
    parts.append(launch(part_of_a_run, number, FOLDER / "4-3-4", until, time_limit=200))
one = Job(0, dropout=0.0)
keep(
    ranks=ranks,
    begin=[part[0][0] for part in parts],
    losses=[part[0][1] for part in parts],
    drawn=[[drawn for _, _, drawn in part] for part in parts],
    single=[one.step() for _ in range(60)],
)

# %% mystnb={"figure": {"caption": "Loss of each step of a run that was continued by three ranks after four, and by four after three (points), and of a single process (line).", "name": "fig-elastic-ranks"}, "image": {"alt": "A falling loss curve over 60 steps. Points of three colours, for the parts with four, three and four ranks, lie on it."}} tags=["hide-input", "plot", "skip"]
elastic = recorded("119.1b.elastic")
fig, ax = plt.subplots(figsize=(7, 2.8))
ax.plot(elastic["single"], color="0.7", lw=3, label="one process")
for number, begin, losses in zip(elastic["ranks"], elastic["begin"], elastic["losses"]):
    ax.plot(range(begin, begin + len(losses)), losses, "o", ms=3.5, label=f"{number} ranks")
ax.set(xlabel="step", ylabel="loss (nats)")
ax.legend()
plt.show()

# %% tags=["hide-input", "check"]
together = np.concatenate(elastic["losses"])
drawn = np.concatenate(elastic["drawn"])
claim(
    "Over {n} steps no loss differs from the single process by more than {gap:.0e}. The {m} "
    "numbers that the ranks draw first in the three parts are all different.",
    elastic["begin"] == [0, 20, 40]
    and np.abs(together - elastic["single"]).max() < 1e-5
    and len(set(drawn)) == len(drawn) == 11,
    n=len(together),
    gap=np.abs(together - elastic["single"]).max(),
    m=len(drawn),
)

# %% [markdown] tags=["skip"]
# Equal to rounding, not to the bit: sums over other ranks are taken in another order. And the
# batch of all ranks together stays the same, 60. It must divide by each number of ranks, or the
# mean over the ranks is not the mean over the batch.

# %% [markdown] tags=["skip"]
# {{exercise 119.1b.data-position}}

# %% [markdown] tags=["slide"]
# ## Saving while training goes on
#
# A save need not stop the run for as long as the disk takes. The state is *copied*, which blocks,
# and written from the copy by a thread, which does not. How much does each cost?

# %% tags=["skip"]
quiet = statistics.median(timed(big_step)[0] for _ in range(9))
whole_save, blocked, written, during = [], [], [], []
for _ in range(3):
    whole_save.append(timed(save_checkpoint, FOLDER / "big", big, adam)[0])
    begin = time.perf_counter()
    seconds, pending = timed(save_checkpoint_async, FOLDER / "big", big, adam)
    blocked.append(seconds)
    while not pending.done():
        during.append(timed(big_step)[0])  # training goes on
    pending.wait()
    written.append(time.perf_counter() - begin)

# %% tags=["hide-input", "check"]
milliseconds = {
    "a save, waited for": whole_save,
    "the call of an asynchronous save": blocked,
    "until that is written": written,
    "a step while it is written": during,
    "a step otherwise": [quiet],
}
say(
    "| | median (ms) |\n|---|---|\n"
    + "\n".join(
        f"| {name} | {1000 * statistics.median(values):.0f} |"
        for name, values in milliseconds.items()
        if values
    )
)
claim(
    "At best, the asynchronous call blocks for {share:.0%} of the time of a save that is waited "
    "for.",
    min(blocked) < min(whole_save),
    share=min(blocked) / min(whole_save),
)

# %% [markdown] tags=["skip"]
# The rest is not free: writing competes with the steps for the processor, and the copy needs
# memory. On a GPU machine the copy goes to the host's memory, where there usually is room.
#
# An asynchronous save that fails must not fail in silence. `wait()` raises what went wrong; the
# next save or load of the same folder is refused until somebody has called it; and the block of
# `distributed` waits at its end.

# %% tags=["skip"]
pending = save_checkpoint_async(FOLDER / "big", big, adam, step=1)
try:
    load_checkpoint(FOLDER / "big", big, adam)
except RuntimeError as error:
    print(str(error).replace(f"{FOLDER}/", ""))
print("written:", pending.wait().name[:13])

# %% [markdown] tags=["slide"]
# ## How often?
#
# Let a save stop the run for $\delta$, and let failures come at a mean time $M$ from each other.
# Save after every $\tau$ of work. Per unit of work the saves cost $\delta/\tau$. A failure throws
# away $\tau/2$ on average, so failures cost about $\tau/2M$. The sum is least where both are
# equal:
#
# $$
# \frac{d}{d\tau}\left(\frac{\delta}{\tau} + \frac{\tau}{2M}\right) = 0
# \quad\Longrightarrow\quad \tau = \sqrt{2\,\delta\,M} .
# $$ (eq-young)
#
# This is Young's formula {cite:p}`young1974checkpoint`. Daly counts failures during saves and
# restarts (which take $R$) as well {cite:p}`daly2006checkpoint`: useful work $T$ takes, on
# average,
#
# $$
# M\,e^{R/M}\left(e^{(\tau+\delta)/M} - 1\right)\frac{T}{\tau} .
# $$ (eq-daly)
#
# Half the failures allow an interval longer by $\sqrt 2$ only, and an asynchronous save that
# blocks for a tenth of the time should be made three times as often. $M$ is that of the *whole
# job*: with twice as many GPUs it is half as long.

# %% tags=["hide-input", "plot", "skip"]
GPU_HOURS = 54 * 24 * 16_384 / 419  # of one GPU between failures, as in the Llama 3 run


def draw_interval(gpus, save_seconds, restart_minutes):
    mtbf = 60 * GPU_HOURS / gpus  # minutes, as all below
    save = save_seconds / 60
    intervals = np.geomspace(0.5, 600, 200)
    lost = [100 * lost_time(t, save, restart_minutes, mtbf) for t in intervals]
    best = best_interval(save, mtbf)
    least = 100 * lost_time(best, save, restart_minutes, mtbf)
    fig, ax = plt.subplots(figsize=(7, 3), layout="none")
    fig.subplots_adjust(0.1, 0.18, 0.97, 0.88)
    ax.plot(intervals, lost)
    ax.plot(best, least, "o", color="tab:red")
    ax.axvline(np.sqrt(2 * save * mtbf), color="0.6", ls=":", label="Young's formula")
    ax.set(xscale="log", xlim=(0.5, 600), ylim=(0, 100))
    ax.set(xlabel="work between two saves (minutes)", ylabel="extra time (%)")
    ax.set_xticks([1, 10, 60, 600], ["1", "10", "60", "600"])
    ax.legend(loc="lower right")
    fig.suptitle(
        f"a failure every {mtbf / 60:.1f} h: best to save every {best:.0f} min, "
        f"{least:.0f} % extra time",
        fontsize=10,
    )
    return fig


def describe_interval(gpus, save_seconds, restart_minutes):
    mtbf, save = 60 * GPU_HOURS / gpus, save_seconds / 60
    best = best_interval(save, mtbf)
    least = lost_time(best, save, restart_minutes, mtbf)
    return (
        f"Extra time against the interval between saves, for {gpus} GPUs, saves of {save_seconds} "
        f"seconds and restarts of {restart_minutes} minutes: a valley whose lowest point is at "
        f"{best:.0f} minutes, with {100 * least:.0f} percent extra time."
    )


explore(
    draw_interval,
    {
        "gpus": [1024, 16384, 65536],
        "save_seconds": [5, 60, 300],
        "restart_minutes": [2, 10],
    },
    initial={"gpus": 16384, "save_seconds": 60, "restart_minutes": 10},
    name="How often to save",
    alt=describe_interval,
)

# %% tags=["hide-input", "check"]
minutes = 60 * BETWEEN
slow, quick = best_interval(1, minutes), best_interval(5 / 60, minutes)
extra = {
    (save, t): lost_time(t, save, 10, minutes)
    for save, t in ((1, slow), (1, 3 * slow), (1, slow / 3), (5 / 60, quick))
}
near = max(lost_time(slow * k, 1, 10, minutes) for k in (2 / 3, 3 / 2))
claim(
    "For 16,384 GPUs and saves of one minute the best interval is {slow:.0f} minutes, with "
    "{least:.0%} extra time. An interval that is a half too long or a third too short costs "
    "{near:.0%}, so $M$ need not be known well. Three times too long or too short costs {long:.0%} "
    "or {short:.0%}. With saves that block for 5 seconds the best is "
    "{quick:.0f} minutes and {less:.0%}; most of that is restarting.",
    extra[1, slow] < min(extra[1, 3 * slow], extra[1, slow / 3])
    and near - extra[1, slow] < 0.015
    and min(extra[1, 3 * slow], extra[1, slow / 3]) - extra[1, slow] > 0.05
    and np.expm1(10 / minutes) > 0.5 * extra[5 / 60, quick],
    slow=slow,
    quick=quick,
    least=extra[1, slow],
    near=near,
    long=extra[1, 3 * slow],
    short=extra[1, slow / 3],
    less=extra[5 / 60, quick],
)

# %% [markdown] tags=["slide"]
# ## What is often done wrong
#
# The document's `TrainingInfrastructure` shows three mistakes that are common elsewhere too; the
# {doc}`errata </book/errata>` list them with their tests. It saves over the previous checkpoint,
# which the kills above have answered. It does not store schedule, random states or loss scale. And
# its optimizer does not come back: an optimizer makes its state in the first step, so a fresh one
# has nothing that could be loaded *into*.

# %% tags=["skip", "nbval-check-output"]
job = Job(0)
job.step()
fresh = Job(1)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    dcp.save(
        {"model": job.model.state_dict(), "optimizer": job.optimizer.state_dict(), "epoch": 7},
        checkpoint_id=FOLDER / "plain",
    )
    state = {"model": fresh.model.state_dict(), "optimizer": fresh.optimizer.state_dict()}
    dcp.load(state, checkpoint_id=FOLDER / "plain")
print("weights are back:", torch.equal(fresh.weights(), job.weights()))
print("Adam's moments:  ", dict(fresh.optimizer.state))
print("epoch:           ", state.get("epoch", "not asked for"))

# %% [markdown] tags=["skip"]
# ## Details that decide
#
# 1. **State belongs to a name, not to a position.** `Optimizer.load_state_dict` goes by position:
#    if the parameters come in another order, each gets the moments of another, and where the
#    shapes agree nobody notices. `save_checkpoint` stores names.
# 2. **Names without wrappers.** `torch.compile`, data parallelism and activation checkpointing put
#    `_orig_mod`, `module` and `_checkpoint_wrapped_module` into the names. They are taken out, so
#    that a checkpoint does not depend on how the model was wrapped.
# 3. **Saving must not change the run.** torch's own `get_state_dict` makes a step of rate 0 on a
#    fresh optimizer, to create its state; Adam counts that step. Ours makes none.
# 4. **What could not come back equal is refused when saving**, while there still is something to
#    save: objects of your own classes in `extra`, a sharded tensor within a list, or a buffer that
#    was made by `expand`, into which nothing can be loaded.
# 5. **The machine's choices stay the machine's.** Rates and betas come from the checkpoint;
#    `fused` and `capturable`, which say how a step is computed, do not. What was saved with GPUs
#    loads without.
# 6. **A full disk is an `OSError`.** PyTorch reports it as a `BaseException`, which `except
#    Exception` lets through. The unfinished version is removed, and the previous one still counts.
# 7. **Two spellings of a folder are one folder.** A save is refused while an asynchronous one to
#    the same place is under way, also through a link.
# 8. **Two jobs with one folder take turns.** A job that was started again may meet the old one,
#    which is still saving. Each commit removes the versions of others; without turns both would be
#    gone. The turn is a lock of the operating system (`flock`), which ends with the process.

# %% tags=["skip"]
a, b = (nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)) for _ in range(2))
adam_a = torch.optim.Adam(a.parameters())
a(torch.ones(1, 2)).sum().backward()
adam_a.step()
adam_b = torch.optim.Adam(list(b.parameters())[::-1])  # the other way round
save_checkpoint(FOLDER / "order", a, adam_a)
load_checkpoint(FOLDER / "order", b, adam_b)

# %% tags=["hide-input", "check"]
by_name = all(
    torch.equal(adam_a.state[p]["exp_avg"], adam_b.state[q]["exp_avg"])
    for p, q in zip(a.parameters(), b.parameters())
)
in_order = torch.optim.Adam(list(b.parameters())[::-1])
in_order.load_state_dict(adam_a.state_dict())  # by position: accepted without a word
wrong = in_order.state[b[0].weight]["exp_avg"].shape != b[0].weight.shape
claim(
    "After loading, each parameter has the moments that were saved under its name, though the "
    "order was reversed. `load_state_dict` alone accepts the same state without a word, and gives "
    "a weight the moments of a bias.",
    by_name and wrong,
)

# %% [markdown] tags=["skip"]
# ## Limits
#
# - One version is kept, on a file system where a rename is atomic and which all ranks see. An
#   object store needs another commit. Keep copies for the day on which the *training* has gone
#   wrong.
# - A checkpoint contains pickles: load only your own.
# - A checksum tells that a file has changed since it was saved. It does not tell whether a GPU
#   computed wrongly before.
# - At scale, the copy can also go to another machine's memory, from which a restart is faster than
#   from any disk {cite:p}`wang2023gemini`.
# - At work, use torchtitan, Lightning or Accelerate on the same torch functions, and keep the
#   sharp test.

# %% tags=["hide-input", "remove-cell"]
temporary.cleanup()

# %% [markdown] tags=["skip"]
# ## Quiz

# %% [markdown] tags=["skip"]
# {{quiz 119.1b}}

# %% [markdown] tags=["slide"]
# ## Summary
#
# - A checkpoint is weights, optimizer, schedule, loss scale, random states and data position. The
#   test is equality with a run that was never interrupted.
# - It is written beside the old one and made current by one rename.
# - Every file has a checksum, which is compared before the model is touched.
# - On another number of ranks the batch stays the same, and each rank begins a new random stream.
# - Save every $\sqrt{2\delta M}$; the shorter a save blocks, the more often.
#
# References: each citation above leads to its source; the
# {doc}`bibliography </book/bibliography>` lists them all.
