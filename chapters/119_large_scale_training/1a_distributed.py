# %% [markdown] tags=["slide"]
# (sec-119-1a)=
# # 119.1a Distributed training: many processes, one result
#
# A large model is trained by many processes that must act as one. At the end
# of this section you can start such processes and predict what their messages
# cost, shard a model so that it fits, and *prove* that the result is that of a
# single process.
#
# You need: Python, a PyTorch training loop, and no GPU. All processes run on
# this machine; the last part says what changes on many.

# %% tags=["definitions", "hide-input", "skip"]
import os

# Read when torch is imported. The time-outs on this page are meant.
os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"

import socket
import time
from datetime import timedelta
from unittest import mock

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from dlcourse.large_scale_training import (
    AdamWScheduleFree,
    Lion,
    batch_part,
    distributed,
    fit_alpha_beta,
    global_mean,
    launch,
    local_memory,
    plan,
    replicate,
    ring_all_reduce_time,
    shard,
    time_all_reduce,
    zero_memory,
)
from dlcourse.large_scale_training.distributed.planner import H100_PEAK
from dlcourse.large_scale_training.source_text import source_code_batch
from dlcourse.large_scale_training.transformer import Transformer
from dlcourse.notebook import claim, explore, keep, recorded, say, show_source

from dlcourse.notebook.records import RecordError

plt.style.use("dlcourse.notebook.course")

MEDIUM = dict(vocabulary=32_768, sequence=2048, width=2048, layers=24, heads=16)
LARGE = dict(vocabulary=32_768, sequence=2048, width=4096, layers=32, heads=32)

# %% [markdown] tags=["slide"]
# ## A question
#
# A model of 7 billion parameters is to be trained with Adam in mixed
# precision. That takes 16 bytes a parameter before the first activation: 2 for
# the weight, 2 for the gradient, 12 for the optimizer. A GPU has 80 GB. How
# many GPUs does it take, and is what they compute together still what one
# would have computed?

# %% mystnb={"figure": {"caption": "Memory that each GPU needs for the state of a model of 7 billion parameters, against the number of GPUs. Data parallelism alone (stage 0) never gets below the line, however many GPUs you buy.", "name": "fig-zero-question"}, "image": {"alt": "Four lines on logarithmic axes. Stage 0 is flat at 112 gigabytes, above the 80 gigabyte line. Stages 1 and 2 fall and flatten; stage 3 falls as one over the number of GPUs."}} tags=["skip", "hide-input"]
gpus = [1, 2, 4, 8, 16, 32, 64]
names = {
    0: "0: all on each GPU (data parallel)",
    1: "1: optimizer state sharded",
    2: "2: gradients too",
    3: "3: parameters too (FSDP)",
}
fig, ax = plt.subplots()
for stage, name in names.items():
    needed = [zero_memory(7e9, n, stage).total / 1e9 for n in gpus]
    ax.plot(gpus, needed, "o-", label=name)
ax.axhline(80, color="black", ls=":", label="80 GB")
ax.set(
    xlabel="number of GPUs",
    ylabel="memory a GPU (GB)",
    xscale="log",
    yscale="log",
    xticks=gpus,
    xticklabels=gpus,
    yticks=[1, 10, 100],
    yticklabels=[1, 10, 100],
)
ax.minorticks_off()
ax.legend(fontsize=9, bbox_to_anchor=(1, 1), loc="upper left")
plt.show()

# %% tags=["hide-input", "nbval-check-output"]
fits = {
    stage: [n for n in gpus if zero_memory(7e9, n, stage).total < 80e9]
    for stage in range(4)
}
claim(
    "Replicated, the state takes {whole:.0f} GB on every GPU. Fully sharded "
    "over {n} GPUs it takes {part:.0f} GB on each.",
    fits[0] == [] and fits[3][0] == 2,
    whole=zero_memory(7e9, 64, 0).total / 1e9,
    n=fits[3][0],
    part=zero_memory(7e9, fits[3][0], 3).total / 1e9,
)

# %% [markdown] tags=["slide"]
# ## Processes, and how they find each other
#
# One process drives one GPU. A **launcher** (`torchrun`; from a notebook
# `launch`, which uses the same code) starts them and tells each through its
# environment who it is:
#
# | variable | meaning |
# |---|---|
# | `RANK`, `WORLD_SIZE` | my number among all processes, and how many there are |
# | `LOCAL_RANK` | my number on this machine: the index of my GPU |
# | `MASTER_ADDR`, `MASTER_PORT` | where the *store* is, at which all meet |
#
# The meeting is the **rendezvous**: each rank writes its address into the
# store and reads the others'. From then on they form a **process group** and
# talk directly, by NCCL between GPUs and by gloo between CPUs, in
# **collectives**: operations in which every rank takes part. Four of them
# carry nearly all of training. The function below runs in two new processes;
# watch what each gets back.

# %% tags=["skip"]
def meet(sizes):
    with distributed("gloo", timeout=60) as world:
        # rank 0 has 1, 2, 3, 4 and rank 1 has 10, 20, 30, 40
        mine = torch.arange(1.0, 5.0) * 10**world.rank
        got = {"before": mine.tolist()}

        x = mine.clone()
        dist.broadcast(x, src=0)
        got["broadcast from 0"] = x.tolist()

        half = torch.empty(2)
        dist.reduce_scatter_tensor(half, mine.clone())
        got["reduce-scatter"] = half.tolist()

        whole = torch.empty(4)
        dist.all_gather_into_tensor(whole, half)
        got["all-gather of that"] = whole.tolist()

        x = mine.clone()
        dist.all_reduce(x)
        got["all-reduce"] = x.tolist()
        return world, got, time_all_reduce(sizes, repeats=11)


SIZES = [2**k for k in range(10, 24)]  # 1 KiB to 8 MiB
meeting = launch(meet, 2, SIZES, time_limit=120)

# %% tags=["hide-input"]
rows = "\n".join(
    f"| {name} | "
    + " | ".join(
        ", ".join(f"{v:g}" for v in got[name]) for _, got, _ in meeting
    )
    + " |"
    for name in meeting[0][1]
)
say("| | rank 0 | rank 1 |\n|---|---|---|\n" + rows)
claim(
    "A reduce-scatter (each rank gets its part of the sum) followed by an "
    "all-gather (each gets all parts) is an all-reduce.",
    all(
        got["all-gather of that"] == got["all-reduce"] for _, got, _ in meeting
    ),
)

# %% [markdown] tags=["skip"]
# ### What a collective costs
#
# In a ring of $p$ ranks each sends to its neighbour. An all-reduce of $n$
# bytes takes a reduce-scatter and an all-gather of $p-1$ rounds each, and each
# round moves one $p$-th of the data. If a message waits $\alpha$ seconds
# (latency) and then flows at $\beta$ bytes a second (bandwidth), the time is
#
# $$
# t(n, p) = 2\,(p-1)\left(\alpha + \frac{n}{p\,\beta}\right) .
# $$ (eq-ring)
#
# For many ranks the second term tends to $2n/\beta$: *the time to sum a large
# tensor hardly depends on how many ranks there are*
# {cite:p}`patarasuk2009allreduce`. The first grows with $p$, so small messages
# should be put together. Does the formula describe this machine? We fit
# $\alpha$ and $\beta$ to every second size and predict the others.

# %% tags=["skip"]
seconds = np.array(meeting[0][2])
alpha, beta = fit_alpha_beta(SIZES[::2], seconds[::2], world_size=2)
predicted = np.array([ring_all_reduce_time(n, 2, alpha, beta) for n in SIZES])
error = np.exp(np.abs(np.log(predicted / seconds)))  # 1 is perfect

# %% mystnb={"figure": {"caption": "Time of an all-reduce between two processes of this machine over gloo, measured and predicted. The formula was fitted to the filled points only. Left of the bend latency decides, right of it bandwidth.", "name": "fig-all-reduce"}, "image": {"alt": "Time against size on logarithmic axes. The points are flat for small tensors and rise in proportion to size for large ones; the predicted line runs through them."}} tags=["hide-input"]
fig, ax = plt.subplots()
ax.plot(SIZES, 1e3 * predicted, color="0.5", label="predicted")
ax.plot(SIZES[::2], 1e3 * seconds[::2], "o", color="C0", label="fitted to")
ax.plot(
    SIZES[1::2], 1e3 * seconds[1::2], "o", mfc="white", color="C0",
    label="not seen by the fit",
)  # fmt: skip
ax.axvline(2 * alpha * beta, color="0.8", ls=":")
ax.set(xlabel="size of the tensor (bytes)", ylabel="time (ms)")
ax.set(xscale="log", yscale="log", yticks=[0.1, 1, 10])
ax.set_yticklabels(["0.1", "1", "10"])
ax.set_ylim(0.5e3 * seconds.min(), 2e3 * seconds.max())
ax.minorticks_off()
ax.legend()
plt.show()

# %% tags=["hide-input"]
claim(
    "Fitted: a latency of {a:.0f} µs and a bandwidth of {b:.1f} GB/s. On the "
    "sizes that the fit has not seen, the prediction is off by a factor of "
    "{typical:.2f} in the median and {worst:.2f} at worst.",
    np.median(error[1::2]) < 5,  # a busy machine is less regular
    a=1e6 * alpha,
    b=beta / 1e9,
    typical=np.median(error[1::2]),
    worst=error[1::2].max(),
)
say(
    "With such a formula you can compute before you rent. The 16-bit gradients "
    "of 7 billion parameters over links of 50 GB/s, between 64 GPUs: "
    "{fast:.2f} s a step. Over the loopback of this machine: {slow:.0f} s.",
    fast=ring_all_reduce_time(14e9, 64, 1e-5, 50e9),
    slow=ring_all_reduce_time(14e9, 64, alpha, beta),
)

# %% [markdown] tags=["skip"]
# {{exercise 119.1a.ring-by-hand}}

# %% [markdown] tags=["skip"]
# {{exercise 119.1a.ring-all-reduce}}

# %% [markdown] tags=["slide"]
# ## Two ways to share the work
#
# **Data parallelism** {cite:p}`li2020ddp`: every rank has the whole model and
# a $p$-th of the batch. With equal parts, the mean of the ranks' gradients is
# the gradient of the whole batch,
#
# $$
# \nabla_\theta \frac{1}{B} \sum_{i=1}^{B} \ell_i(\theta)
#   = \frac{1}{p} \sum_{r=0}^{p-1}
#     \nabla_\theta \frac{p}{B} \sum_{i \in \text{part } r} \ell_i(\theta) ,
# $$ (eq-mean-gradient)
#
# so one all-reduce of the gradients makes all ranks take the same step. Where
# the parts are unequal, each sum of losses must be divided by the number of
# *all* examples, not by its own (below).
#
# **Sharding** (ZeRO, {cite:p}`rajbhandari2020zero`; FSDP,
# {cite:p}`zhao2023fsdp`) starts from the waste in that: $p$ ranks keep $p$
# equal copies of everything. Let rank $r$ keep only the $r$-th part of the
# optimizer's state (stage 1), of the gradients (2) and of the parameters (3).
# With $\Psi$ parameters and $b_w, b_g, b_o$ bytes for the weight, the gradient
# and the optimizer's state of each, a rank holds
#
# $$
# M_0 &= \Psi\,(b_w + b_g + b_o), & \quad
# M_1 &= \Psi\Bigl(b_w + b_g + \frac{b_o}{p}\Bigr), \\
# M_2 &= \Psi\Bigl(b_w + \frac{b_g + b_o}{p}\Bigr), & \quad
# M_3 &= \Psi\,\frac{b_w + b_g + b_o}{p} .
# $$ (eq-zero)
#
# Stage 3 works block by block: all-gather the weights of a block, compute,
# throw them away; in the backward pass gather them again, and reduce-scatter
# the gradient, so that each rank gets the part for its own weights. That is
# three passes of half an all-reduce where data parallelism has two: 1.5 times
# the traffic, for a $p$-th of the memory.
#
# Both are rearrangements of one sum: nothing in the mathematics changes. So
# there is a sharp test. **The losses must be those of a single process.**

# %% [markdown] tags=["skip"]
# :::{diagram} figures/1a_distributed.svg
# ---
# name: fig-sharded-block
# alt: Flow diagram of one block on two ranks. The halves of the weights are all-gathered, each rank
#   computes forward and backward on its part of the batch, the gradients are reduce-scattered, and
#   each rank steps its own half with its half of the optimizer's state.
# ---
# One block of a sharded model. Between two uses a rank holds only its own part.
# :::

# %% [markdown] tags=["skip"]
# {{exercise 119.1a.zero-memory}}

# %% [markdown] tags=["slide"]
# ## One process group, one way to shard
#
# Who we are comes from the launcher alone. The device is set before the group
# is made, everybody checks that everybody is there, and the group is closed
# whatever happens:

# %%
show_source(distributed)

# %% [markdown] tags=["skip"]
# Sharding is FSDP2's `fully_shard`, block by block and then the root:

# %%
show_source(shard)

# %% [markdown] tags=["skip"]
# FSDP gathers a *unit* before using it. With the whole model as one unit,
# everything is gathered at once, and at the peak nothing of the weights is
# saved. We look at a small transformer in the middle of its forward pass: how
# many bytes of parameters are whole?

# %% tags=["skip"]
SHAPE = dict(vocabulary=256, sequence=64, width=32, layers=2, heads=4)


def make(seed=0, **changes):
    torch.manual_seed(seed)
    return Transformer(**{**SHAPE, **changes})


def gathered_at_peak(model):
    """Bytes of parameters that are whole at once, at most, in a forward pass."""
    seen = []

    def look(*_):
        whole = [p for p in model.parameters() if not isinstance(p, DTensor)]
        seen.append(sum(p.nbytes for p in whole))

    for block in model.blocks:
        block.down.register_forward_hook(look)
    model(source_code_batch(0, 2, 64)[0])
    return max(seen)

# %% [markdown] tags=["slide"]
# ## The proof
#
# The task is real, if small: predict the next byte of Python's own standard
# library. Each optimizer runs 20 steps in this notebook's own process, without
# any group, and on two ranks, replicated and sharded. The ranks begin with
# unequal weights on purpose. One launch does it all.

# %% tags=["skip"]
def what_the_strings_do():
    from torch.distributed.fsdp import FullyShardedDataParallel as FSDP

    said = {}
    for name, value in (
        ("sharding_strategy", "full_shard"),
        ("cpu_offload", True),
        ("backward_prefetch", "pre_forward"),
    ):
        setting = f"{name}={value!r}"
        try:
            FSDP(make(), device_id=torch.device("cpu"), **{name: value})
            said[setting] = "accepted in silence"
        except (KeyError, AttributeError) as error:
            said[setting] = f"{type(error).__name__}: {error}"
    return said

# %% tags=["skip"]
OPTIMIZERS = {
    "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-3),
    "Lion": lambda p: Lion(p, lr=3e-4, weight_decay=0.1),
    "Schedule-Free": lambda p: AdamWScheduleFree(p, lr=1e-3, warmup_steps=5),
}


def losses_of(model, optimizer, steps, rank=0, world_size=1):
    """The loss of the whole batch at each step; each rank works on its part."""
    losses = []
    for step in steps:
        x, y = source_code_batch(step, 8, 64)  # each (8, 64)
        x, y = x.chunk(world_size)[rank], y.chunk(world_size)[rank]
        logits = model(x)  # (8 / world_size, 64, 256)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mean = loss.detach().clone()
        if world_size > 1:
            dist.all_reduce(mean)  # only to report it
        losses.append(mean.item() / world_size)
    return losses


def unequal(model, world, weighted):
    """The gradient of the head from 7 sequences: 3 on one rank, 4 on the other."""
    x, y = source_code_batch(0, 7, 64)
    mine = batch_part(len(x), world.rank, world.world_size)
    losses = nn.functional.cross_entropy(
        model(x[mine]).flatten(0, 1), y[mine].flatten(), reduction="none"
    )
    loss = global_mean(losses.sum(), len(losses)) if weighted else losses.mean()
    loss.backward()
    return model.head.weight.grad.full_tensor()


def on_two_ranks():
    facts = {"runs": {}, "gathered": {}}
    with distributed("gloo", timeout=60) as world:
        who = (world.rank, world.world_size)
        facts["strings"] = what_the_strings_do()
        deep = make(layers=8)
        facts["gathered"]["one unit"] = gathered_at_peak(
            fully_shard(deep, mesh=init_device_mesh("cpu", (2,)))
        )
        facts["gathered"]["blocks"] = gathered_at_peak(shard(make(layers=8)))
        for name, optimizer_of in OPTIMIZERS.items():
            # unequal seeds: the ranks must agree on rank 0's weights
            model = replicate(make(seed=world.rank))
            optimizer = optimizer_of(model.parameters())
            losses = losses_of(model, optimizer, range(20), *who)
            memory = local_memory(model, optimizer)
            facts["runs"]["replicated", name] = losses, memory

            model = shard(make(seed=world.rank))
            optimizer = optimizer_of(model.parameters())
            losses = losses_of(model, optimizer, range(20), *who)
            memory = local_memory(model, optimizer)
            facts["runs"]["sharded", name] = losses, memory
        model = shard(make().double(), reduce_dtype=None)
        optimizer = OPTIMIZERS["AdamW"](model.parameters())
        facts["float64"] = losses_of(model, optimizer, range(20), *who)
        for weighted in (False, True):
            facts["unequal", weighted] = unequal(shard(make()), world, weighted)
    return facts


two = launch(on_two_ranks, 2, time_limit=150)

single = {}
for name, optimizer_of in OPTIMIZERS.items():
    model = make()
    optimizer = optimizer_of(model.parameters())
    single[name] = losses_of(model, optimizer, range(20))
model = make().double()
optimizer = OPTIMIZERS["AdamW"](model.parameters())
single64 = losses_of(model, optimizer, range(20))

differences = {  # (how, optimizer): from the single process, at each step
    how_and_name: np.subtract(losses, single[how_and_name[1]])
    for how_and_name, (losses, _) in two[0]["runs"].items()
}
worst = {key: np.abs(gap).max() for key, gap in differences.items()}

# %% mystnb={"figure": {"caption": "Left: the loss of the single process (lines) and of two ranks with sharding (points). Right: the largest difference from the single process in any step; the requirement is the dotted line.", "name": "fig-proof"}, "image": {"alt": "Left, three falling loss curves with points on them. Right, differences below one millionth or so for each way to distribute and each optimizer, all below the dotted line at ten to the minus five."}} tags=["hide-input"]
color = dict(zip(OPTIMIZERS, ["tab:blue", "tab:orange", "tab:green"]))
fig, (left, right) = plt.subplots(1, 2, width_ratios=[2, 3])
for name in OPTIMIZERS:
    left.plot(single[name], color=color[name], label=name)
    left.plot(two[0]["runs"]["sharded", name][0], ".", color=color[name])
kinds = list(dict.fromkeys(how for how, _ in worst))
for (how, name), gap in worst.items():
    beside = 0.15 * (list(OPTIMIZERS).index(name) - 1)
    right.plot(kinds.index(how) + beside, gap, "o", color=color[name])
right.set_xticks(range(len(kinds)), kinds)
right.axhline(1e-5, color="black", ls=":")
left.set(xlabel="step", ylabel="loss (nats a byte)", xticks=[0, 10, 20])
right.set(ylabel="largest difference (nats)", yscale="log", ylim=(1e-7, 3e-5))
right.tick_params(axis="x", labelsize=8)
left.legend()
plt.show()

# %% tags=["hide-input"]
claim(
    "Over {n} runs (replicated and sharded; AdamW, Lion and Schedule-Free) no "
    "loss of any step differs from the single process by more than "
    "{worst:.0e}. The tests of this section show the same on four ranks.",
    len(worst) == 6 and max(worst.values()) < 1e-5,
    n=len(worst),
    worst=max(worst.values()),
)
gap64 = np.abs(np.subtract(two[0]["float64"], single64)).max()
claim(
    "What remains is rounding: sums are taken in another order, and a float32 "
    "loss of about 5 has steps of {ulp:.0e}. In float64 the difference falls "
    "to {gap:.0e}; an error of the method would stay.",
    gap64 < 1e-12,
    ulp=np.spacing(np.float32(5)),
    gap=gap64,
)

# %% [markdown] tags=["skip"]
# And with unequal parts? Seven sequences, three on one rank and four on the
# other. The plain mean of the two means counts each of the three for more
# {cite:p}`goyal2017minibatch`. `global_mean` divides each rank's *sum* by the
# number on all ranks. That is also the recipe for tokens, where padding
# differs, and for a job that goes on with another number of machines:
# `batch_part` gives every example to exactly one rank (a `chunk(24)` of 64
# examples has only 22 parts).

# %% tags=["hide-input"]
model = make()
x, y = source_code_batch(0, 7, 64)
nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten()).backward()
whole = model.head.weight.grad
off = {w: ((two[0]["unequal", w] - whole).norm() / whole.norm()).item() for w in (False, True)}
claim(
    "The gradient of the output layer differs from the single process's by {plain:.1%} with the "
    "mean of means, and by {weighted:.0e} of its length with `global_mean`.",
    off[True] < 1e-5 and off[False] > 1e-2,
    plain=off[False],
    weighted=off[True],
)

# %% tags=["hide-input"]
gathered = two[0]["gathered"]
weights = sum(p.nbytes for p in make(layers=8).parameters())
claim(
    "As one unit, all {whole:.0f} kB of weights are whole in the middle of the "
    "forward pass. Block by block it is {blocks:.0f} kB: one block of eight, "
    "and what belongs to no block.",
    gathered["one unit"] == weights and gathered["blocks"] < 0.3 * weights,
    whole=gathered["one unit"] / 1000,
    blocks=gathered["blocks"] / 1000,
)

# %% [markdown] tags=["skip"]
# And memory? `local_memory` counts the bytes that a rank really holds, in its
# own shards of parameters, gradients and optimizer state. Equation
# {eq}`eq-zero` predicts them, here with 4 bytes for weight and gradient
# (float32), and for the state 8 (AdamW, Schedule-Free) or 4 (Lion).

# %% mystnb={"figure": {"caption": "Memory of one rank after training: measured (bars) and by the formula (black lines).", "name": "fig-zero-measured"}, "image": {"alt": "Stacked bars of parameters, gradients and optimizer state for three optimizers, replicated and sharded on two ranks. Sharded bars are half of the replicated; a black line marks the formula at the top of each bar."}} tags=["hide-input"]
parameters = sum(p.numel() for p in make().parameters())
tensors = len(list(make().parameters()))
bars, exact = [], []
for name in OPTIMIZERS:
    for how, ranks, (_, measured) in (
        ("replicated", 2, two[0]["runs"]["replicated", name]),
        ("sharded", 2, two[0]["runs"]["sharded", name]),
    ):
        formula = zero_memory(
            parameters,
            ranks,
            3 if how == "sharded" else 0,
            parameter_bytes=4,
            gradient_bytes=4,
            optimizer_bytes=4 if name == "Lion" else 8,
        )
        bars.append((f"{name}\n{how}, {ranks}", measured, formula))
        # torch's AdamW counts its steps, in 4 bytes for each tensor
        steps = 4 * tensors if name == "AdamW" else 0
        exact.append(measured.total == formula.total + steps)
fig, ax = plt.subplots(figsize=(7, 3.4))
at = [i + i // 2 * 0.5 for i in range(len(bars))]
below = np.zeros(len(bars))
for part in ("parameters", "gradients", "optimizer"):
    height = np.array([getattr(m, part) for _, m, _ in bars]) / 1000
    ax.bar(at, height, bottom=below, label=part)
    below += height
for place, (_, _, formula) in zip(at, bars):
    ax.plot([place - 0.45, place + 0.45], 2 * [formula.total / 1000], "k-")
ax.plot([], [], "k-", label="formula")
ax.set_xticks(at, [label for label, _, _ in bars], rotation=35, ha="right")
ax.tick_params(axis="x", labelsize=8)
ax.set_ylabel("memory of a rank (kB)")
ax.legend(ncols=4, fontsize=9, loc="upper right")
ax.set_ylim(0, 1.2 * below.max())
plt.show()

# %% tags=["hide-input"]
claim(
    "All {n} measurements equal the formula to the byte, but for AdamW's count "
    "of steps, a number for each tensor.",
    all(exact),
    n=len(exact),
)

# %% [markdown] tags=["slide"]
# ## When something dies
#
# The more machines, the sooner one of them fails. What a run must save so that nothing is lost, and
# how it goes on with fewer ranks or with more, is the next section: {doc}`119.1b <1b_checkpoints>`.

# %% [markdown] tags=["skip"]
# ## Details that decide
#
# 1. **Device first.** NCCL ties a group to the current device. Set later, all
#    ranks of a machine may begin on GPU 0
#    ([init_process_group](https://docs.pytorch.org/docs/stable/distributed.html),
#    `device_id`).
# 2. **Equal weights first.** `replicate` sends rank 0's weights to all;
#    `fully_shard` takes each rank's own part as it is, so that unequal seeds
#    give a mosaic of models. `shard` broadcasts first.
# 3. **Shard, then make the optimizer.** Sharding replaces the parameters: an
#    optimizer made before holds tensors that nobody trains any more.
# 4. **Accumulate without needless reductions.** Of $k$ micro-batches only the
#    last must be reduced: `no_sync` for DDP, `set_requires_gradient_sync(False)`
#    for FSDP2; `reduces_gradients` is either. It costs memory, since a sharded
#    model then holds whole gradients.
# 5. **Buckets.** DDP sends gradients in buckets of 25 MB while the backward
#    pass still runs {cite:p}`li2020ddp`: {eq}`eq-ring` with few $\alpha$, and
#    hidden.
# 6. **Sums in float32.** Gathering weights in bf16 halves the traffic;
#    summing a thousand gradients in bf16 loses the small ones. `shard` has
#    `param_dtype` and, apart from it, `reduce_dtype`
#    {cite:p}`zhao2023fsdp`.
# 7. **Random numbers: the same for weights, different for dropout.** One seed
#    for all ranks drops the same neurons everywhere.
# 8. **Meet by a challenge, not by a count.** After a restart the launcher's
#    store still holds what the dead have written. The count of restarts cannot
#    tell the rounds apart: each machine's launcher counts its own, and a machine
#    that joins begins at 0. In `distributed`, rank 0 repeats a secret of each
#    rank, and only the living can answer. Rank 0 reads one value of each rank;
#    if each read all, a meeting of $p$ ranks would take $p^2$ reads.

# %% [markdown] tags=["slide"]
# ## Plan before you rent
#
# `plan` puts the formulas together, for a decoder-only transformer of $L$
# layers and width $h$ with $\Psi = 12 L h^2$ parameters, trained on sequences
# of $s$ tokens, $b$ of them on each of $p$ GPUs:
#
# - state: {eq}`eq-zero` with 2, 2 and 12 bytes;
# - activations: $34\,s\,b\,h\,L$ bytes, when attention is recomputed or fused
#   {cite:p}`korthikanti2022recomputation`;
# - work: $6\Psi + 6\,L\,h\,s$ floating-point operations a token. Attention
#   counts by half, since a causal kernel skips what the mask hides; PaLM counts
#   $12\,L\,h\,s$ {cite:p}`chowdhery2022palm`. A GPU does $989 \cdot 10^{12}$
#   a second by its data sheet, and 57 % of that in training (our assumption);
# - messages: half of {eq}`eq-ring` for each pass over each block, 2 passes in
#   stages 0 to 2 and 3 in stage 3, with $\alpha$ = 10 µs and $\beta$ = 50 GB/s;
# - messages hide behind the work as far as it lasts: the step takes the longer
#   of the two.
#
# **MFU** (model FLOPs utilisation) is the useful work, counted in this way, over
# what the data sheet promises for that time. On this page it is always that.
# The best matrix product that we measure reaches less than the data sheet; the
# share of *that* rate stands beside MFU, under its own name.

# %% tags=["hide-input"]
def draw_plan(
    billions_of_parameters, gpus, sequences_per_gpu, tokens_per_sequence
):
    batch, sequence = sequences_per_gpu, tokens_per_sequence
    plans = [
        plan(
            billions_of_parameters * 1e9, gpus,
            batch=batch * gpus, sequence=sequence, stage=stage,
        )
        for stage in range(4)
    ]  # fmt: skip
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.9), layout="none")
    fig.subplots_adjust(0.08, 0.17, 0.98, 0.9, wspace=0.2)  # the same each time
    bottom = np.zeros(4)
    for part in ("parameters", "gradients", "optimizer"):
        height = np.array([getattr(p.model_state, part) for p in plans]) / 1e9
        left.bar(range(4), height, bottom=bottom, label=part)
        bottom += height
    height = np.array([p.activations for p in plans]) / 1e9
    left.bar(range(4), height, bottom=bottom, color="0.7", label="activations")
    left.axhline(80, color="black", ls=":", label="80 GB")
    left.set(xlabel="stage", ylabel="memory a GPU (GB)", xticks=range(4))
    left.set_ylim(0, 1.5 * max(80, *(bottom + height)))
    left.legend(fontsize=7, ncols=2, loc="upper right")
    y = np.arange(4)
    right.barh(y - 0.2, [p.compute_time for p in plans], 0.4, label="compute")
    right.barh(
        y + 0.2, [p.communication_time for p in plans], 0.4, label="messages"
    )
    for stage, p in enumerate(plans):
        label = f" MFU {p.mfu:.0%}"
        right.text(p.step_time, stage, label, va="center", fontsize=8)
    right.set(xlabel="time (s)", ylabel="stage", yticks=range(4))
    right.set_xlim(0, 1.35 * max(p.step_time for p in plans))
    right.legend(fontsize=7, ncols=2, loc="lower right")
    right.set_ylim(4.1, -0.6)
    rate = plans[3].tokens_per_second
    fig.suptitle(
        f"{batch * gpus * sequence / 1e6:.1f} M tokens a step; stage 3: "
        f"{plans[3].step_time:.2f} s a step, {rate / 1e6:.2f} M tokens/s",
        fontsize=9,
    )
    return fig


def describe_plan(
    billions_of_parameters, gpus, sequences_per_gpu, tokens_per_sequence
):
    sharded = plan(
        billions_of_parameters * 1e9,
        gpus,
        batch=sequences_per_gpu * gpus,
        sequence=tokens_per_sequence,
    )
    return (
        f"{billions_of_parameters} billion parameters on {gpus} GPUs, "
        f"{sequences_per_gpu} sequences of {tokens_per_sequence} tokens on "
        f"each: bars of memory and of time by stage. At stage 3 "
        f"{sharded.memory / 1e9:.0f} GB a GPU, {sharded.step_time:.2f} s a "
        f"step, MFU {sharded.mfu:.0%}."
    )


explore(
    draw_plan,
    {
        "billions_of_parameters": [7, 70],
        "gpus": [8, 64, 512],
        "sequences_per_gpu": [1, 8],
        "tokens_per_sequence": [2048, 8192],
    },
    initial={
        "billions_of_parameters": 7,
        "gpus": 64,
        "sequences_per_gpu": 8,
        "tokens_per_sequence": 2048,
    },
    name="Planner of a training run",
    alt=describe_plan,
)

# %% tags=["hide-input"]
few = plan(7e9, 64, batch=64, sequence=2048)
more = plan(7e9, 64, batch=8 * 64, sequence=2048)
most = plan(7e9, 64, batch=8 * 64, sequence=8192)
claim(
    "Try 7 billion parameters on 64 GPUs at stage 3. With one sequence of 2048 "
    "tokens a GPU the messages take {ratio:.1f} times as long as the work, and "
    "MFU is {few:.0%}. With eight they hide behind it: {more:.0%}. With eight "
    "of 8192 tokens the activations take {memory:.0f} GB.",
    few.communication_time > few.compute_time
    and more.communication_time < more.compute_time
    and most.activations > 80e9,
    ratio=few.communication_time / few.compute_time,
    few=few.mfu,
    more=more.mfu,
    memory=most.activations / 1e9,
)

# %% [markdown] tags=["skip"]
# Then recompute whole blocks, cut the sequence between GPUs, or take fewer
# tokens at a time and accumulate gradients.

# %% [markdown] tags=["skip"]
# ## Past one machine
#
# `launch(fn, 8)` and `torchrun --nproc-per-node=8 train.py` are the same on
# one machine. On four machines of 8 GPUs, run this on *each* of them, with the
# same id and the same endpoint: any of the machines that all can reach.
#
# ```bash
# torchrun --nnodes=4 --nproc-per-node=8 --max-restarts=3 \
#   --rdzv-id=run42 --rdzv-backend=c10d --rdzv-endpoint=node0:29400 \
#   train.py
# ```
#
# `train.py` needs `with distributed() as world:`, `shard`, and a look for a
# checkpoint at the start ({doc}`119.1b <1b_checkpoints>`). With `--nnodes=3:4`
# the job also goes on with three machines, that is 24 ranks, when one is gone
# for good. The batch of all ranks together must stay what it was: let it divide
# by 24 and 32, or use `batch_part` and `global_mean`. Under Slurm the scheduler runs the line on every machine:
#
# ```bash
# head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# srun --nodes=4 --ntasks-per-node=1 torchrun --nnodes=4 --nproc-per-node=8 \
#   --max-restarts=3 --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d \
#   --rdzv-endpoint="$head:29400" train.py
# ```
#
# What NCCL and the rendezvous need
# ([torchrun](https://docs.pytorch.org/docs/stable/elastic/run.html),
# [NCCL's variables](https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html)):
#
# - **Ports.** The endpoint's port (29400 if you give none), and *all* TCP
#   ports between the machines: the store and NCCL choose free ones.
# - **Interfaces.** `NCCL_SOCKET_IFNAME=eth0` and `GLOO_SOCKET_IFNAME=eth0` if
#   there are several networks; a wrong guess is the most frequent hang.
#   `NCCL_IB_HCA` picks InfiniBand adapters, `NCCL_IB_DISABLE=1` falls back to
#   sockets, for comparison.
# - **Shared memory** between the ranks of a machine: in containers
#   `--ipc=host` or a large `--shm-size`.
# - **One file system** for checkpoints that all machines see, and the same
#   versions of torch and NCCL everywhere.
# - **To see what happens**: `NCCL_DEBUG=INFO` names the chosen interface and
#   the rings; `TORCH_DISTRIBUTED_DEBUG=DETAIL` names the collective in which
#   ranks disagree. Every wait has a time-out: `distributed(timeout=…)`.

# %% [markdown] tags=["skip"]
# ## More ways to cut
#
# | parallelism | what is cut | messages | needed when |
# |---|---|---|---|
# | data (DDP) | the batch | gradients, once a step | the batch is large |
# | sharded (ZeRO, FSDP) | the batch and the state | weights and gradients of each block | the state does not fit |
# | hybrid (HSDP) | state within a machine, copies between machines | as FSDP inside, as DDP outside | links between machines are slow |
# | tensor | each matrix product | activations, several times a block | a layer is too large or too slow; within a machine |
# | pipeline | the layers, in stages | activations between stages | there are many machines; costs idle time ("bubbles") |
# | context | the sequence | keys and values | sequences are long |
# | expert | the experts of a mixture | tokens, to their expert and back | the model has experts |
#
# Large runs combine several of them, as axes of one mesh: tensor parallelism
# where links are fastest, data parallelism where they are slowest. `shard` takes
# such a mesh (`mesh=`) and gives HSDP for two axes. With two GPUs HSDP is nothing
# new: copies × parts = 2 × 1 is data parallelism and 1 × 2 is FSDP.

# %% [markdown] tags=["skip"]
# ## At scale: filling one GPU
#
# Transformers of 1.3 billion parameters on one GPU, 8 sequences of 2048 tokens,
# with one technique after the other.

# %% tags=["gpu", "hide-input"] name="techniques"
from dlcourse.large_scale_training.experiments.techniques import measure_each
from dlcourse.measure import matmul_peak

RUNS = [
    (),
    ("bf16",),
    ("bf16", "checkpointing"),
    ("bf16", "compile"),
    ("bf16", "checkpointing", "compile"),
]
[peak] = launch(matmul_peak, 1)
[results] = launch(measure_each, 1, MEDIUM, 8, RUNS, 8, time_limit=240)
print(f"1.3 billion parameters; data sheet {H100_PEAK / 1e12:.0f} TFLOP/s, ", end="")
print(f"best matrix product {peak / 1e12:.0f} TFLOP/s\n")
print(f"{'techniques':29}{'GiB':>7}{'tokens/s':>10}{'MFU':>7}{'of best product':>17}")
for techniques, r in zip(RUNS, results):
    print(
        f"{' + '.join(techniques) or 'float32':29}{r.peak_memory / 2**30:7.1f}"
        f"{r.tokens_per_second:10,.0f}{r.flops_per_second / H100_PEAK:7.1%}"
        f"{r.flops_per_second / peak:17.1%}"
    )
keep(
    peak=peak,
    techniques=[" + ".join(t) or "float32" for t in RUNS],
    tokens_per_second=[r.tokens_per_second for r in results],
    flops_per_second=[r.flops_per_second for r in results],
    peak_memory=[r.peak_memory for r in results],
    parameters=results[0].parameters,
)

# %% [markdown] tags=["skip"]
# Look at memory and MFU together. bf16: matrix products run on other units, and
# half the bytes move. Checkpointing (here: of activations,
# {cite:p}`chen2016sublinear`) keeps only each block's input and computes the
# rest again: up to a third more work, which MFU does not count as useful, for
# memory. `torch.compile` fuses the operations between the products.
#
# ## At scale: from one GPU to two
#
# The same model on one GPU and sharded over two, steps in turn so that both meet
# the same machine; then one of 6.7 billion parameters, whose state alone takes
# 107 GB and so needs both.

# %% tags=["gpu", "hide-input"] name="scaling"
from dlcourse.large_scale_training.experiments.scaling import (
    measure_scaling,
    need_gpus,
    spread,
)

need_gpus(2)
found, *_ = launch(measure_scaling, 2, MEDIUM, LARGE, 8, 10, time_limit=200)
print(f"data sheet {H100_PEAK / 1e12:.0f}, best product {found['peak'] / 1e12:.0f} TFLOP/s")
print(f"{'':30}{'tokens/s a GPU (least, most)':>32}{'MFU':>7}{'of best product':>17}")
rows = {}
for name, label in (
    ("alone", "1.3 B on one GPU"),
    ("together", "1.3 B over two"),
    ("larger", "6.7 B over two"),
):
    speed = found[name]
    rate, least, most = spread(speed.seconds, speed.tokens)
    print(
        f"{label:30}{rate:14,.0f} ({least:,.0f}, {most:,.0f})"
        f"{rate * speed.useful / H100_PEAK:10.1%}{rate * speed.useful / found['peak']:14.1%}"
    )
    rows[name] = dict(
        parameters=speed.parameters, rate=rate, least=least, most=most,
        mfu=rate * speed.useful / H100_PEAK, peak_bytes=speed.peak_bytes,
        seconds=speed.seconds,
    )  # fmt: skip
print(f"6.7 B: {found['larger'].peak_bytes / 2**30:.1f} GiB a GPU at the peak")
keep(peak=found["peak"], **rows)

# %% tags=["hide-input"]
def planned(parameters, gpus, recompute):
    return plan(
        parameters, gpus, batch=8 * gpus, sequence=2048, recompute=recompute,
        bandwidth=150e9,
    )  # fmt: skip


try:
    scaling = recorded("119.1a.scaling")
except RecordError:
    say("The cell above is not recorded yet: the comparison with the planner follows it.")
else:
    rows = []
    for name, gpus, recompute in (
        ("alone", 1, "attention"), ("together", 2, "attention"), ("larger", 2, "blocks")
    ):  # fmt: skip
        seen = scaling[name]
        p = planned(seen["parameters"], gpus, recompute)
        rows.append(
            f"| {seen['parameters'] / 1e9:.1f} B on {gpus} | "
            f"{p.tokens_per_second / gpus:,.0f} | {seen['rate']:,.0f} | {p.mfu:.0%} | "
            f"{seen['mfu']:.0%} |"
        )
    say(
        "| | planned, tokens/s a GPU | measured | planned MFU | measured |\n"
        "|---|---|---|---|---|\n" + "\n".join(rows)
    )
    ratios = np.divide(scaling["alone"]["seconds"], scaling["together"]["seconds"])
    larger = scaling["larger"]
    foreseen = planned(larger["parameters"], 2, "blocks").memory
    claim(
        "A GPU of two does {ratio:.0%} of what it does alone (pairs of steps: {low:.0%} to "
        "{high:.0%}). For the larger model the planner foresees {plan:.0f} GB a GPU, and "
        "{memory:.0f} GB are seen: the planner leaves out logits, gathered blocks and buffers. "
        "Its speed rests on one assumed efficiency, so it may err on either side.",
        0.5 < np.median(ratios) < 1.1 and larger["peak_bytes"] > 0.9 * foreseen,
        ratio=np.median(ratios),
        low=ratios.min(),
        high=ratios.max(),
        plan=foreseen / 1e9,
        memory=larger["peak_bytes"] / 1e9,
    )

# %% [markdown] tags=["skip"]
# What do the messages cost there, and how much of them is hidden? The next cell
# times all-reduces over NCCL and gloo, looks with the profiler for the time in
# which a kernel of NCCL runs beside a computing one, and accumulates four
# micro-batches with four reductions and with one.

# %% tags=["gpu", "hide-input"] name="nccl"
from dlcourse.large_scale_training.experiments.scaling import measure_messages, need_gpus

need_gpus(2)
MESSAGES = [2**k for k in range(10, 31, 2)]  # 1 KiB to 1 GiB
found, *_ = launch(measure_messages, 2, MEDIUM, MESSAGES, 8, 5, 4, time_limit=200)
for name in ("nccl", "gloo"):
    times = found[name]
    a, b = fit_alpha_beta(MESSAGES[: len(times)], times, 2)
    print(f"{name}: latency {1e6 * a:.0f} µs, bandwidth {b / 1e9:.1f} GB/s")
step = found["step"]
print(f"2 steps: NCCL's kernels {1e3 * step['messages']:.0f} ms, {step['hidden']:.0%} hidden")
for name in ("each", "once"):
    low, middle, high = np.quantile(found[name], [0, 0.5, 1])
    print(f"reduced {name:5}: {1e3 * middle:.0f} ms a step ({1e3 * low:.0f} to {1e3 * high:.0f})")
keep(sizes=MESSAGES, **{k: found[k] for k in ("nccl", "gloo", "step", "each", "once")})

# %% tags=["hide-input"]
try:
    messages = recorded("119.1a.nccl")
except RecordError:
    say("The cell above is not recorded yet.")
else:
    fits = {
        name: fit_alpha_beta(messages["sizes"][: len(messages[name])], messages[name], 2)
        for name in ("nccl", "gloo")
    }
    fig, ax = plt.subplots(figsize=(7, 3))
    for color, (name, (a, b)) in zip(["C0", "C1"], fits.items()):
        n = messages["sizes"][: len(messages[name])]
        ax.plot(n, 1e3 * np.array(messages[name]), "o", color=color, label=name)
        ax.plot(n, [1e3 * ring_all_reduce_time(m, 2, a, b) for m in n], color=color)
    ax.set(xscale="log", yscale="log", xlabel="size (bytes)", ylabel="time (ms)")
    ax.legend(title="points measured, lines fitted")
    plt.show()
    saved = np.divide(messages["each"], messages["once"])
    claim(
        "NCCL: {a:.0f} µs and {b:.0f} GB/s; gloo on the same machine: {c:.0f} µs and {d:.1f} GB/s. "
        "Of the time of NCCL's kernels, {hidden:.0%} passes beside computing ones. A step of "
        "four micro-batches takes {ratio:.2f} times as long with four reductions as with one ({low:.2f} "
        "to {high:.2f}).",
        fits["nccl"][1] > fits["gloo"][1] and 0 <= messages["step"]["hidden"] <= 1,
        a=1e6 * fits["nccl"][0], b=fits["nccl"][1] / 1e9,
        c=1e6 * fits["gloo"][0], d=fits["gloo"][1] / 1e9,
        hidden=messages["step"]["hidden"], ratio=np.median(saved),
        low=saved.min(), high=saved.max(),
    )  # fmt: skip

# %% [markdown] tags=["slide"]
# ## What goes wrong without these
#
# The document's `TrainingInfrastructure` makes these mistakes; all of them, with
# the tests that show them, stand in the {doc}`errata </book/errata>`.
#
# **The program decides how many ranks there are**: 8 nodes × 8 GPUs, written in
# the constructor. Start one process, and it waits for 63 that never come, by
# default for half an hour. Here we give it a fifth of a second.

# %% tags=["skip"]
def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


def alone(**changes):
    """The environment of the only rank of a job, for a `with` block."""
    variables = {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
        "GLOO_SOCKET_IFNAME": "lo0" if os.uname().sysname == "Darwin" else "lo",
    }
    return mock.patch.dict(os.environ, {**variables, **changes})


start = time.perf_counter()
with alone():
    try:
        dist.init_process_group(
            "gloo", world_size=8 * 8, rank=0, timeout=timedelta(seconds=0.2)
        )
    except dist.DistError as gave_up:
        waited = time.perf_counter() - start
        print(f"64 ranks: {type(gave_up).__name__} after {waited:.1f} s")
    with distributed("gloo") as world:
        print("ours:   ", world)

# %% [markdown] tags=["skip"]
# **Strings where FSDP wants enums**, and a bool where it wants a policy object.
# What happens depends on the number of ranks; the two above were asked:

# %% tags=["hide-input"]
rows = "\n".join(f"| `{k}` | {v} |" for k, v in two[0]["strings"].items())
say("| setting | on two ranks |\n|---|---|\n" + rows)
claim(
    "Two of the three settings raise, and the third, which names nothing that "
    "exists, is accepted.",
    [text.split(":")[0] for text in two[0]["strings"].values()]
    == ["KeyError", "AttributeError", "accepted in silence"],
)

# %% [markdown] tags=["skip"]
# ## Bad input
#
# A distributed program that fails by waiting costs a day. Every mistake here
# gives an error, with the remedy, and within the time-out:

# %% tags=["skip"]
def refusal(call, *args):
    try:
        call(*args)
    except Exception as error:
        print(f"• {type(error).__name__}: {error}\n")


def enter(backend="gloo", timeout=0.3):
    with distributed(backend, timeout=timeout):
        pass


print("started without a launcher")
with alone(RANK="", MASTER_PORT=""):
    refusal(enter)
print("64 ranks promised, one started")
with alone(WORLD_SIZE="64"):
    refusal(enter)
print("NCCL, and no GPU for this rank")
with alone(LOCAL_RANK="99"):
    refusal(enter, "nccl")

# %% [markdown] tags=["skip"]
# A rank that raises ends the others, and `launch` shows *its* traceback. A rank
# that leaves by `sys.exit(0)` or `os._exit(0)` has failed too: nobody waits for a
# result that cannot come. A rank that hangs is stopped at `time_limit`, and its
# stack is shown. The tests of this section do all of these.

# %% [markdown] tags=["skip"]
# ## Limits
#
# - Everything built here shards the *data* and the *state*; for the other cuts
#   see torchtitan and Megatron-LM.
# - One latency and one bandwidth describe one kind of link. Within a machine
#   NVLink is many times faster than the network; NCCL uses trees and
#   hierarchies too, and measured times then lie below the ring's.
# - The planner knows no logits, fragmentation, buffers, pipeline bubbles or slow
#   nodes, and one efficiency for all sizes. The tables above say how far off it is.
# - Bit-for-bit needs the same number of ranks, versions and kinds of device;
#   on GPUs also deterministic kernels (`torch.use_deterministic_algorithms`).
# - At work, use torchtitan, Accelerate or Lightning on the same torch
#   functions; keep the sharp test.

# %% [markdown] tags=["skip"]
# ## Quiz

# %% [markdown] tags=["skip"]
# {{quiz 119.1a}}

# %% [markdown] tags=["slide"]
# ## Summary
#
# - The launcher says who and how many we are; the program only asks.
# - A message costs latency plus bytes over bandwidth; a ring's all-reduce of a
#   large tensor hardly depends on the number of ranks.
# - Sharding rearranges one sum: the losses are those of a single process, to
#   rounding, and the memory is the formula's, to the byte.
# - Every wait has a time-out, and every restart begins by looking for a
#   checkpoint ({doc}`119.1b <1b_checkpoints>`).
#
# References: each citation above leads to its source; the
# {doc}`bibliography </book/bibliography>` lists them all.
