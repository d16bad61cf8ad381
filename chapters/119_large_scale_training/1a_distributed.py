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
import tempfile
import time
import warnings
from datetime import timedelta
from pathlib import Path
from unittest import mock

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from dlcourse.large_scale_training import (
    AdamWScheduleFree,
    CheckpointError,
    Lion,
    distributed,
    fit_alpha_beta,
    launch,
    load_checkpoint,
    local_memory,
    plan,
    replicate,
    ring_all_reduce_time,
    save_checkpoint,
    shard,
    time_all_reduce,
    zero_memory,
)
from dlcourse.large_scale_training.source_text import source_code_batch
from dlcourse.large_scale_training.transformer import Transformer
from dlcourse.notebook import claim, explore, say, show_source

plt.style.use("dlcourse.notebook.course")
checkpoints = tempfile.TemporaryDirectory()  # removed at the end
FOLDER = Path(checkpoints.name)

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

# %% tags=["hide-input"]
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
# so one all-reduce of the gradients makes all ranks take the same step.
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

# %% [markdown] tags=["slide"]
# ## What the document's listing does
#
# `TrainingInfrastructure` asks for ranks from methods that it does not have,
# and would not get far with them. Four defects, each in a few lines; all of
# them, with the tests that show them, stand in the {doc}`errata
# </book/errata>`.
#
# **It decides itself how many ranks there are**: 8 nodes × 8 GPUs, written in
# the constructor. Start one process, and it waits for 63 that never come. Its
# `init_process_group` has no time-out of its own; here we give it
# a fifth of a second.

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
        print(f"listing: {type(gave_up).__name__} after {waited:.1f} s")
    with distributed("gloo") as world:
        print("ours:   ", world)

# %% [markdown] tags=["skip"]
# Without our time-out, it would be half an hour, PyTorch's default for gloo.
#
# **It shards as one unit.** FSDP gathers a *unit* before using it. If the
# whole model is one unit, the whole model is gathered at once, and at the
# peak nothing of the weights is saved. We look at a small transformer in the
# middle of its forward pass: how many bytes of parameters are whole?

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

# %% [markdown] tags=["skip"]
# **It passes strings where FSDP wants enums**, and a bool where it wants a
# policy object. What happens depends on the number of ranks, so we ask it
# below on two:

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

# %% [markdown] tags=["skip"]
# Starting processes takes seconds, so one launch answers this and the sharp
# test at once. The task is real, if small: predict the next byte of Python's
# own standard library. Each optimizer runs 20 steps replicated and 20
# sharded. The sharded runs save a checkpoint after step 10, for later.

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


def on_two_ranks(folder):
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
            losses = losses_of(model, optimizer, range(10), *who)
            save_checkpoint(folder / name, model, optimizer, step=10)
            losses += losses_of(model, optimizer, range(10, 20), *who)
            memory = local_memory(model, optimizer)
            facts["runs"]["sharded", name] = losses, memory
        model = shard(make().double(), reduce_dtype=None)
        optimizer = OPTIMIZERS["AdamW"](model.parameters())
        facts["float64"] = losses_of(model, optimizer, range(20), *who)
    return facts


two = launch(on_two_ranks, 2, FOLDER, time_limit=150)

# %% tags=["hide-input"]
rows = "\n".join(f"| `{k}` | {v} |" for k, v in two[0]["strings"].items())
say("| the listing's setting | on two ranks |\n|---|---|\n" + rows)
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
claim(
    "Two of the three settings raise, and the third, which names nothing that "
    "exists, is accepted.",
    [text.split(":")[0] for text in two[0]["strings"].values()]
    == ["KeyError", "AttributeError", "accepted in silence"],
)

# %% [markdown] tags=["skip"]
# **Its checkpoint does not bring the optimizer back.** Its two calls take no
# `checkpoint_id` (a `TypeError`); with today's names for them, it runs. An
# optimizer makes its state in the first step, so a fresh one has nothing to
# load *into*, and nothing is put back:

# %% tags=["skip", "nbval-check-output"]
model = make()
optimizer = torch.optim.Adam(model.parameters(), lr=0.5)
losses_of(model, optimizer, range(2))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    dcp.save(
        {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "epoch": 7,
        },
        checkpoint_id=FOLDER / "listing",
    )
    fresh = make(seed=1)
    restored = torch.optim.Adam(fresh.parameters(), lr=0.1)
    state = {"model": fresh.state_dict(), "optimizer": restored.state_dict()}
    dcp.load(state, checkpoint_id=FOLDER / "listing")
print("weights are back:", torch.equal(fresh.head.weight, model.head.weight))
print("Adam's moments:  ", dict(restored.state))
print("learning rate:   ", restored.param_groups[0]["lr"], "(saved: 0.5)")
print("epoch:           ", state.get("epoch", "not asked for"))

# %% [markdown] tags=["skip"]
# And it saves *over* the previous checkpoint. What that means we shall see
# when processes die.

# %% [markdown] tags=["slide"]
# ## Corrected: one process group, one way to shard
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
# ### The proof
#
# The same 20 steps in this notebook's own process, without any group, and on
# four ranks. The four also load what the two have saved after step 10, and go
# on from there.

# %% tags=["skip"]
def on_four_ranks(folder):
    facts = {}
    with distributed("gloo", timeout=60) as world:
        who = (world.rank, world.world_size)
        model = shard(make(seed=world.rank))
        optimizer = OPTIMIZERS["AdamW"](model.parameters())
        facts["AdamW"] = losses_of(model, optimizer, range(20), *who)
        for name, optimizer_of in OPTIMIZERS.items():
            model = shard(make(seed=9))
            optimizer = optimizer_of(model.parameters())
            found = load_checkpoint(folder / name, model, optimizer)
            rest = range(found["step"], 20)
            losses = losses_of(model, optimizer, rest, *who)
            facts["continued", name] = losses, local_memory(model, optimizer)
    return facts


four = launch(on_four_ranks, 4, FOLDER, time_limit=150)

single = {}
for name, optimizer_of in OPTIMIZERS.items():
    model = make()
    optimizer = optimizer_of(model.parameters())
    single[name] = losses_of(model, optimizer, range(20))
model = make().double()
optimizer = OPTIMIZERS["AdamW"](model.parameters())
single64 = losses_of(model, optimizer, range(20))

differences = {  # (how, optimizer): from the single process, at each step
    (f"2 ranks,\n{how}", name): np.subtract(losses, single[name])
    for (how, name), (losses, _) in two[0]["runs"].items()
}
differences["4 ranks,\nsharded", "AdamW"] = np.subtract(
    four[0]["AdamW"], single["AdamW"]
)
for name in OPTIMIZERS:
    losses, _ = four[0]["continued", name]
    differences["2 ranks saved,\n4 continued", name] = np.subtract(
        losses, single[name][10:]
    )
worst = {key: np.abs(gap).max() for key, gap in differences.items()}

# %% mystnb={"figure": {"caption": "Left: the loss of the single process (lines), of two ranks with sharding (points), and of four ranks which go on from the checkpoint of the two (circles). Right: the largest difference from the single process in any step; the requirement is the dotted line.", "name": "fig-proof"}, "image": {"alt": "Left, three falling loss curves with points and circles on them. Right, differences below one millionth or so for each way to distribute and each optimizer, all below the dotted line at ten to the minus five."}} tags=["hide-input"]
color = dict(zip(OPTIMIZERS, ["tab:blue", "tab:orange", "tab:green"]))
fig, (left, right) = plt.subplots(1, 2, width_ratios=[2, 3])
for name in OPTIMIZERS:
    left.plot(single[name], color=color[name], label=name)
    left.plot(two[0]["runs"]["sharded", name][0], ".", color=color[name])
    left.plot(
        range(10, 20), four[0]["continued", name][0], "o", color=color[name],
        mfc="none",
    )  # fmt: skip
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
    "Over {n} runs (replicated and sharded; two and four ranks; AdamW, "
    "Lion and Schedule-Free) no loss of any step differs from the single "
    "process by more than {worst:.0e}; not even where two ranks saved and four "
    "went on.",
    len(worst) == 10 and max(worst.values()) < 1e-5,
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
# And memory? `local_memory` counts the bytes that a rank really holds, in its
# own shards of parameters, gradients and optimizer state. Equation
# {eq}`eq-zero` predicts them, here with 4 bytes for weight and gradient
# (float32), and for the state 8 (AdamW, Schedule-Free) or 4 (Lion).

# %% mystnb={"figure": {"caption": "Memory of one rank after training: measured (bars) and by the formula (black lines).", "name": "fig-zero-measured"}, "image": {"alt": "Stacked bars of parameters, gradients and optimizer state for three optimizers, replicated on two ranks, sharded on two and on four. Sharded bars are a half and a quarter of the replicated; a black line marks the formula at the top of each bar."}} tags=["hide-input"]
parameters = sum(p.numel() for p in make().parameters())
tensors = len(list(make().parameters()))
bars, exact = [], []
for name in OPTIMIZERS:
    for how, ranks, (_, measured) in (
        ("replicated", 2, two[0]["runs"]["replicated", name]),
        ("sharded", 2, two[0]["runs"]["sharded", name]),
        ("sharded", 4, four[0]["continued", name]),
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
at = [i + i // 3 * 0.5 for i in range(len(bars))]
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
# 1. **Device first.** NCCL ties a group to the current device. The listing
#    sets it after, and all ranks of a machine may begin on GPU 0
#    ([init_process_group](https://docs.pytorch.org/docs/stable/distributed.html),
#    `device_id`).
# 2. **Equal weights first.** `replicate` sends rank 0's weights to all;
#    `fully_shard` takes each rank's own part as it is, so that unequal seeds
#    give a mosaic of models. `shard` broadcasts first; the proof above starts
#    from unequal seeds on purpose.
# 3. **Shard, then make the optimizer.** Sharding replaces the parameters: an
#    optimizer made before holds tensors that nobody trains any more.
# 4. **A mean of means.** {eq}`eq-mean-gradient` needs equal parts. With a last
#    batch of 5 on one rank and 3 on the other, the three count more
#    {cite:p}`goyal2017minibatch`. The same for tokens, where padding differs.
# 5. **Buckets.** DDP sends gradients in buckets of 25 MB while the backward
#    pass still runs {cite:p}`li2020ddp`: {eq}`eq-ring` with few $\alpha$, and
#    hidden.
# 6. **Sums in float32.** Gathering weights in bf16 halves the traffic;
#    summing a thousand gradients in bf16 loses the small ones. `shard` has
#    `param_dtype` and, apart from it, `reduce_dtype`
#    {cite:p}`zhao2023fsdp`.
# 7. **Random numbers: the same for weights, different for dropout.** One seed
#    for all ranks drops the same neurons everywhere; a checkpoint must keep
#    the generators of each rank.
# 8. **Saving must not change the run.** torch's own `get_state_dict` makes a
#    step of rate 0 on a fresh optimizer, to create its state. Adam counts it,
#    and Schedule-Free refuses it in `eval` mode. Ours saves by name and makes
#    no step.
# 9. **A restart meets its past.** The launcher's store still holds the
#    addresses of the dead; each attempt needs keys of its own, or a quick rank
#    connects to nobody.

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
# - work: $6\Psi + 12\,L\,h\,s$ floating-point operations a token
#   {cite:p}`chowdhery2022palm`, on GPUs which do $800 \cdot 10^{12}$ a second
#   at best, and 70 % of that in practice;
# - messages: half of {eq}`eq-ring` for each pass over each block, 2 passes in
#   stages 0 to 2 and 3 in stage 3, with $\alpha$ = 10 µs and $\beta$ = 50 GB/s;
# - messages hide behind the work as far as it lasts: the step takes the longer
#   of the two. **MFU** (model FLOPs utilisation) is the useful work over what
#   the GPUs could have done at their peak in that time.

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
# `train.py` needs what `survive` above has: `with distributed() as world:`,
# `shard`, and a look for a checkpoint at the start. With `--nnodes=3:4` the job
# also goes on with three machines when one is gone for good (the checkpoint
# allows it). Under Slurm the scheduler runs the line on every machine:
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
# ## At scale: filling a GPU
#
# The cell below trains transformers of 1.3 and 6.7 billion parameters with
# `shard` on all GPUs of the machine (on one GPU sharding saves nothing; what
# is seen are the other techniques), each line in fresh processes. **MFU** is
# the useful work over the rate of the best large matrix product which this
# GPU reached just before: not what a data sheet promises.

# %% tags=["gpu", "hide-input"] name="techniques"
from dlcourse.large_scale_training import LaunchError
from dlcourse.large_scale_training.experiments.techniques import (
    measure_training,
)
from dlcourse.measure import matmul_peak

MEDIUM = dict(vocabulary=32_768, sequence=2048, width=2048, layers=24, heads=16)
LARGE = dict(vocabulary=32_768, sequence=2048, width=4096, layers=32, heads=32)
RUNS = [
    ("1.3 B", MEDIUM, ()),
    ("1.3 B", MEDIUM, ("bf16",)),
    ("1.3 B", MEDIUM, ("bf16", "checkpointing")),
    ("1.3 B", MEDIUM, ("bf16", "compile")),
    ("1.3 B", MEDIUM, ("bf16", "checkpointing", "compile")),
    ("6.7 B", LARGE, ("bf16", "compile")),
    ("6.7 B", LARGE, ("bf16", "checkpointing", "compile")),
]
number = torch.cuda.device_count()
[peak] = launch(matmul_peak, 1)
print(f"{number} GPU(s); bf16 matrix product: {peak / 1e12:.0f} TFLOP/s")
print("8 sequences of 2048 tokens on each GPU\n")
print(
    f"{'model':6} {'techniques':29}{'GiB a GPU':>10}{'tokens/s a GPU':>16}"
    f"{'TFLOP/s':>9}{'MFU':>7}"
)
for name, shape, techniques in RUNS:
    label = f"{name:6} {' + '.join(techniques) or 'float32':29}"
    try:
        result, *_ = launch(
            measure_training, number, shape, 8, techniques, 5, time_limit=150
        )
    except LaunchError as failure:
        if "OutOfMemoryError" not in str(failure):
            raise
        print(f"{label}{'does not fit':>12}")
        continue
    print(
        f"{label}{result.peak_memory / 2**30:10.1f}"
        f"{result.tokens_per_second:16,.0f}"
        f"{result.flops_per_second / 1e12:9.0f}"
        f"{result.flops_per_second / peak:7.1%}"
    )

# %% [markdown] tags=["skip"]
# Read it from the top, and look at memory and MFU together. bf16: matrix
# products run on other units, and half the bytes move. Checkpointing (here: of
# activations, {cite:p}`chen2016sublinear`) keeps only each block's input and
# computes the rest again: up to a third more work, which MFU does not count as
# useful, for memory. `torch.compile` fuses the operations between the
# products, so that fewer intermediate results are written and kept. The last
# two lines are why one bothers: 16 bytes of state for each of 6.7 billion
# parameters leave little room on one GPU for anything else.

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
        print(f"• {type(error).__name__}: {error}\n".replace(str(FOLDER), "…"))


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
print("a checkpoint of another model, then of another optimizer")
refusal(load_checkpoint, FOLDER / "AdamW", make(width=64))
model = make()
optimizer = Lion(model.parameters(), lr=1e-3)
refusal(load_checkpoint, FOLDER / "AdamW", model, optimizer)
print("a truncated checkpoint, then none at all")
data_file = max((FOLDER / "AdamW").glob("*/*.distcp"))
os.truncate(data_file, data_file.stat().st_size // 2)
before = model.head.weight.clone()
refusal(load_checkpoint, FOLDER / "AdamW", model)
refusal(load_checkpoint, FOLDER / "nothing", model)

# %% tags=["hide-input"]
try:
    load_checkpoint(FOLDER / "AdamW", model)
    refused = False
except CheckpointError:
    refused = True
claim(
    "A refused checkpoint has changed nothing: the weights are what they were.",
    refused and torch.equal(model.head.weight, before),
)
checkpoints.cleanup()

# %% [markdown] tags=["skip"]
# A rank that raises ends the others, and `launch` shows *its* traceback; a
# rank that hangs is stopped at `time_limit`, and its stack is shown. The tests
# of this section do both.

# %% [markdown] tags=["skip"]
# ## Limits
#
# - Everything here shards the *data* and the *state*. Models whose single
#   layers are too large, or too slow on one GPU, need tensor, pipeline or
#   expert parallelism as well; torchtitan and Megatron-LM have them.
# - One latency and one bandwidth describe one kind of link. Within a machine
#   NVLink is many times faster than the network; NCCL uses trees and
#   hierarchies too, and measured times then lie below the ring's.
# - The planner knows no fragmentation, buffers, pipeline bubbles or slow
#   nodes. Take its memory as a lower bound and its MFU as an upper one.
# - Bit-for-bit needs the same number of ranks, versions and kinds of device;
#   on GPUs also deterministic kernels (`torch.use_deterministic_algorithms`).
# - `save_checkpoint` keeps one version, on a file system where a rename is
#   atomic and all ranks see it; an object store needs another commit.
# - At work, use torchtitan, Accelerate or Lightning on the same torch
#   functions; keep the sharp test.

# %% [markdown] tags=["skip"]
# ## Exercises
#
# Each has a cell for your answer and a check that tells what is wrong with it;
# ask it again for the next hint. Until you change a cell, the notebook
# runs past it.

# %% [markdown] tags=["skip"]
# {{exercise 119.1a.ring-all-reduce}}

# %% [markdown] tags=["skip"]
# {{exercise 119.1a.zero-memory}}

# %% [markdown] tags=["skip"]
# {{exercise 119.1a.ring-by-hand}}

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
