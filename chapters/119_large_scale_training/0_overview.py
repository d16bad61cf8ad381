# %% [markdown]
# (sec-119)=
# # 119 Large-scale training
#
# Training a large model is an ordinary training loop for which four things
# have run out: memory, bandwidth, bits, and time. This chapter takes them one
# by one, on a machine that you have, with code that runs unchanged on one that
# you rent.
#
# | section | what has run out | what you build |
# |---|---|---|
# | {doc}`119.1a Distributed training <1a_distributed>` | memory of one device | process groups, collectives, sharding, a plan of memory, time and MFU |
# | {doc}`119.1b Checkpoints <1b_checkpoints>` | uptime of many devices | checkpoints that survive a crash, and another number of ranks |
# | {doc}`119.1c Mixed precision <1c_mixed_precision>` | bits | loss scaling, a mixed-precision step |
# | {doc}`119.2 Optimizers <2_optimizers>` | memory for state; the plan | Lion, Schedule-Free |
# | {doc}`119.3 Schedules <3_schedules>` | knowledge of the budget | warm-up, cosine, one-cycle, WSD |
#
# 119.1b builds on 119.1a; the others can be read in any order. Each takes about an hour, and none
# needs a GPU: where one would tell more, you see what was recorded on one.

# %% [markdown]
# ## What you will be able to do
#
# - Start a training job of several processes from a notebook or with
#   `torchrun`, and prove that it computes what one process computes.
# - Say before you rent it how much memory each GPU needs, how long a step
#   takes, and which part of the machine's peak that is.
# - Save and resume a run so that neither a crash nor a change of the number of
#   GPUs changes a single bit of what should not change.
# - Train in 16 bits, and know which of fp16 and bf16 needs which care.
# - Choose, tune and test an optimizer and a schedule without fooling yourself.
#
# ## One result to begin with
#
# The document's `save_checkpoint` stores the state of model and optimizer; its
# `load_checkpoint` reads both and puts neither back. A frequent repair restores the
# model and forgets the optimizer. It looks fine: the loss goes on from where it
# was. Does it?

# %% tags=["definitions"]
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from dlcourse.datasets import digits
from dlcourse.experiments import MLPs, cross_entropy
from dlcourse.large_scale_training import load_checkpoint, save_checkpoint
from dlcourse.notebook import claim

data = digits(seed=0, max_shift=2, copies=4)
x, y = data.train.x.flatten(1), data.train.y


SEEDS = (0, 1, 2)  # three networks side by side: a result over three seeds


def fresh():
    model = MLPs((144, 64, 10), SEEDS)
    return model, torch.optim.AdamW(model.parameters(), lr=0.01)


def train(model, optimizer, steps):
    """Train on a fixed order of batches; the losses: (steps, seeds)."""
    seen = []
    for step in steps:
        generator = torch.Generator().manual_seed(step)  # the data position
        batch = torch.randint(len(y), (len(SEEDS), 64), generator=generator)
        losses = cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
        seen.append(losses.detach())
    return torch.stack(seen)


STOP, END = 150, 190
model, optimizer = fresh()
train(model, optimizer, range(STOP))
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "checkpoint")
    save_checkpoint(path, model, optimizer, step=STOP)

    whole_model, resumed_optimizer = fresh()
    step = load_checkpoint(path, whole_model, resumed_optimizer)["step"]
    resumed = train(whole_model, resumed_optimizer, range(step, END))

    half_model, lost_optimizer = fresh()
    load_checkpoint(path, half_model)  # the optimizer's state is left behind
    model_only = train(half_model, lost_optimizer, range(step, END))
uninterrupted = train(model, optimizer, range(STOP, END))

# %% mystnb={"figure": {"caption": "Training loss on the same batches after a restart at step 150, relative to the run that was never interrupted; mean and range of 3 seeds. Without the optimizer's state, Adam takes full-size steps in all directions at first: its second moments are gone.", "name": "fig-restart"}, "image": {"alt": "Line plot of the difference of training losses after a restart. The line of the full checkpoint is exactly zero; that of the model alone rises and falls around a positive value."}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(7, 3))
steps = range(STOP, END)
for losses, label, color in [
    (model_only, "model restored, optimizer fresh", "tab:red"),
    (resumed, "model and optimizer restored", "tab:green"),
]:
    difference = losses - uninterrupted
    ax.plot(steps, difference.mean(1), ".-", color=color, label=label)
    low, high = difference.amin(1), difference.amax(1)
    ax.fill_between(steps, low, high, color=color, alpha=0.2, lw=0)
ax.set(xlabel="step", ylabel="loss − uninterrupted loss (nats)")
ax.legend()
plt.show()

# %% tags=["hide-input"]
excess = (model_only - uninterrupted).mean(0)  # (seeds,)
claim(
    "With the whole checkpoint the {n} losses after the restart equal those of "
    "the uninterrupted run to the last bit, for each of {seeds} seeds. With the "
    "model alone the loss is higher by {mean:.3f} nats on average over these "
    "steps ({low:.3f} to {high:.3f}, by seed).",
    torch.equal(resumed, uninterrupted) and excess.min() > 0.01,
    n=len(resumed),
    seeds=len(SEEDS),
    mean=excess.mean().item(),
    low=excess.min().item(),
    high=excess.max().item(),
)

# %% [markdown]
# No error, no warning: only a higher loss over the steps that we looked at, after
# each restart, on a cluster where something fails every day. Most defects in this chapter are of this
# kind, which is why each has a test that shows it ({doc}`errata </book/errata>`).
#
# ## Before you start
#
# You should be able to read a PyTorch training loop, and know gradient
# descent, momentum and Adam. From linear algebra: norms. From systems: what a
# process is. {doc}`Notation </book/notation>` lists the symbols;
# {doc}`How to use this course </book/how_to_use>` tells how to run a chapter
# in Colab, JupyterLab or Binder.
#
# ## Summary
#
# - Large-scale training is an ordinary loop short of memory, bandwidth, bits and time.
# - Every section measures before it claims, and claims only what it checks.
# - Restoring a run means restoring all of its state: model, optimizer,
#   schedule, random numbers, position in the data.
