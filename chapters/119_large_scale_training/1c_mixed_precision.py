# %% [markdown] tags=["slide"]
# (sec-119-1c)=
# # 119.1c Mixed precision
#
# A number in 16 bits takes half the memory of one in 32, and a GPU multiplies such matrices several
# times as fast. What is lost? At the end of this section you can say which gradients vanish in fp16
# and why not in bf16, write a training step that is right in both, and tell from a loss scale what
# ails a run.
#
# You need: Python, a first course in deep learning (backpropagation, Adam), and no GPU. The
# section stands by itself; {doc}`119.1a <1a_distributed>` uses its 16 bits on many devices.

# %% tags=["definitions", "hide-input", "skip"]
import copy
import math
import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dlcourse.datasets import digits
from dlcourse.experiments import MLPs, cross_entropy, losses
from dlcourse.large_scale_training import MixedPrecision, underflow_fraction
from dlcourse.large_scale_training.experiments.dtypes import (
    WAYS,
    gradients_lost,
    losses_in,
    step_times,
)
from dlcourse.large_scale_training.source_text import source_code_batch
from dlcourse.large_scale_training.transformer import Transformer, language_loss
from dlcourse.notebook import claim, explore, keep, recorded, say, show_source

plt.style.use("dlcourse.notebook.course")
FP32, BF16, FP16 = torch.float32, torch.bfloat16, torch.float16
NAME = {FP32: "fp32", BF16: "bf16", FP16: "fp16"}
COLOR = {FP32: "0.4", BF16: "tab:blue", FP16: "tab:orange"}
SEEDS = (0, 1, 2)
LARGE = dict(vocabulary=256, sequence=512, width=768, layers=12, heads=12)
MIDDLE = dict(vocabulary=256, sequence=512, width=512, layers=8, heads=8)


def values_of(name, *keys):
    """What a recorded cell of this section kept; None before it has."""
    try:
        return [recorded(f"119.1c.{name}")[key] for key in keys]
    except (KeyError, ValueError):
        say("*The values of this cell have not been recorded yet.*")
        return None


# %% [markdown] tags=["slide"]
# ## A question
#
# Multiply the loss by a number $s$ before the backward pass, and divide the gradients by $s$ after
# it. On paper, nothing has happened. In 16 bits?
#
# Matrix products in 16 bits are slow on most CPUs, so we compute in float32 and *round* to the
# 16-bit type wherever a GPU would have stored a number in it: weights and activations on the way
# forward, their gradients on the way back. (Whether that is the real thing, we test below.)

# %% tags=["skip"]
class Rounded(torch.autograd.Function):
    """Round to a dtype, forward, and the gradient too, backward."""

    @staticmethod
    def forward(ctx, x, dtype):
        ctx.dtype = dtype
        return x.to(dtype).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        return gradient.to(ctx.dtype).to(gradient.dtype), None


class RoundedMLPs(MLPs):
    """Perceptrons side by side, whose matrix products have 16-bit ends."""

    def __init__(self, sizes, seeds, dtype):
        super().__init__(sizes, seeds)
        self.dtype = dtype

    def forward(self, x):  # (S, B, inputs) -> (S, B, classes)
        x = Rounded.apply(x, self.dtype)
        self.outputs = []  # of each layer, to look at their gradients
        for weight, bias in zip(self.weights, self.biases, strict=True):
            x = x.relu() if self.outputs else x
            weight = Rounded.apply(weight, self.dtype)  # a copy: see below
            bias = Rounded.apply(bias, self.dtype)
            x = Rounded.apply(torch.baddbmm(bias, x, weight), self.dtype)
            self.outputs.append(x)
        return x


data = digits(seed=0, max_shift=2, copies=8)  # 12 × 12 pixels
SIZES = (144, 64, 64, 10)


def batches(steps, size=64):
    """The same batches for every run: x (B, 144), y (B,)."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randint(len(data.train.y), (size,), generator=generator)
        yield data.train.x[chosen].flatten(1), data.train.y[chosen]


def network_losses(model, x, y):
    """Mean cross-entropy of each network on one batch: (S,)."""
    networks = len(model.seeds)
    return cross_entropy(
        model(x.expand(networks, -1, -1)), y.expand(networks, -1)
    )

# %% tags=["skip"]
def loss_by_scale(dtype, exponents, steps=120):
    """Validation loss after training with the loss times 2**exponent:
    (exponents, seeds). All networks train side by side."""
    model = RoundedMLPs(SIZES, [s for _ in exponents for s in SEEDS], dtype)
    scale = 2.0 ** torch.tensor([e for e in exponents for _ in SEEDS])
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for x, y in batches(steps):
        optimizer.zero_grad()
        (scale * network_losses(model, x, y)).sum().backward()
        for p in model.parameters():
            p.grad /= scale[:, None, None]
        optimizer.step()
    return losses(model, data.validation).view(-1, len(SEEDS))


EXPONENTS = list(range(-20, 25, 4))
scaled = {dtype: loss_by_scale(dtype, EXPONENTS) for dtype in NAME}

# %% mystnb={"figure": {"caption": "Validation loss of the same network, after the same 120 steps, by the scale of the loss; mean and range of 3 seeds. Crosses: not a number. In fp32 and bf16 the scale does nothing. In fp16 training works in a window only: on the left gradients become 0, on the right infinite.", "name": "fig-window"}, "image": {"alt": "Validation loss against the base-two logarithm of the loss scale from -20 to 24. The fp32 and bf16 lines are flat. The fp16 line is as low in the middle, jumps up on the left, and ends in crosses on the right."}} tags=["hide-input"]
fig, ax = plt.subplots()
for dtype, style in [(FP32, "s-"), (BF16, "o-"), (FP16, "o-")]:
    values = scaled[dtype].clamp(max=9)
    ok = values.isfinite().all(1).numpy()
    x = np.array(EXPONENTS)
    ax.fill_between(
        x[ok],
        values[ok].min(1).values,
        values[ok].max(1).values,
        color=COLOR[dtype],
        alpha=0.25,
        lw=0,
    )
    ax.plot(
        x[ok], values[ok].mean(1), style, color=COLOR[dtype], label=NAME[dtype]
    )
    ax.plot(x[~ok], 0 * x[~ok] + 4, "x", ms=9, color=COLOR[dtype])
ax.set(
    xlabel=r"$\log_2$ of the loss scale $s$",
    ylabel="validation loss (nats)",
    yscale="log",
    xticks=EXPONENTS,
)
ax.legend()
plt.show()

# %% tags=["hide-input"]
works = [
    e
    for e, v in zip(EXPONENTS, scaled[FP16].mean(1), strict=True)
    if v < 1.2 * scaled[FP32].mean()
]
claim(
    "In fp32 and in bf16 all {n} scales end at the same loss to the last bit: "
    "{fp32:.3f} and {bf16:.3f}. In fp16 the loss is within 20 % of that from "
    "$2^{{{low}}}$ to $2^{{{high}}}$, and nowhere else.",
    all((scaled[d] == scaled[d][0]).all().item() for d in (FP32, BF16))
    and works == list(range(works[0], works[-1] + 1, 4))
    and EXPONENTS[0] < works[0] < 0 < works[-1] < EXPONENTS[-1],
    n=len(EXPONENTS),
    fp32=scaled[FP32].mean().item(),
    bf16=scaled[BF16].mean().item(),
    low=works[0],
    high=works[-1],
)

# %% [markdown] tags=["skip"]
# This small network would train in fp16 without any scale: at $s = 1$ it stands inside the window.
# Others don't. The loss is a mean, so each example's gradient carries a factor $1/n$: to average
# over a thousand times as many tokens makes each gradient a thousand times smaller. Nobody knows
# beforehand where in the window a model stands, and its place changes during training. So: what
# makes the window, how does a run stay inside, and what does bf16 pay for having none?

# %% [markdown] tags=["skip"]
# :::{diagram} figures/1c_mixed_precision.svg
# ---
# name: fig-mixed-step
# alt: A loop. Weights in 32 bits are cast to copies in 16 bits, which compute the forward pass and
#   the loss. The loss times s goes through the backward pass in 16 bits to gradients s g in 32
#   bits. If they are finite they are divided by s and clipped, and the optimizer changes the 32-bit
#   weights; otherwise the step is skipped and s is halved.
# ---
# The step that this section builds. Products are computed in 16 bits; what adds up over steps stays
# in 32. The scale $s$ is for fp16 only.
# :::

# %% [markdown] tags=["slide"]
# ## Two ways to spend 16 bits
#
# A floating-point number is a sign, an exponent and a fraction. With $p$ bits of fraction and the
# exponent $e$, it is
#
# $$
# \pm\, 2^{e}\, (1 + f), \qquad f \in \{0,\ 2^{-p},\ 2\cdot 2^{-p},\ \dots,\ 1 - 2^{-p}\} .
# $$ (eq-float)
#
# The exponent's bits decide the *range*, the fraction's bits the *precision*: neighbors differ by
# $2^{e-p}$. Below the smallest exponent the numbers go on at that fixed distance, down to 0: these
# are the *subnormals*, with fewer and fewer bits. What is at most half of the smallest of them is
# rounded to 0: in fp16, $2^{-25} \approx 3 \cdot 10^{-8}$ and less.
# fp16 has 5 bits of exponent and 10 of fraction.
# bf16 is fp32 cut in half: the same 8 bits of exponent, and 7 of fraction
# {cite:p}`kalamkar2019bfloat16`.

# %% tags=["hide-input"]
FRACTION = {FP32: 23, BF16: 7, FP16: 10}
INTEGER = {FP32: torch.int32, BF16: torch.int16, FP16: torch.int16}


def from_bits(bits, dtype):
    """The numbers which these bit patterns stand for, as float64."""
    return torch.as_tensor(bits, dtype=INTEGER[dtype]).view(dtype).double()


SMALLEST = {d: from_bits([1], d).item() for d in NAME}  # bits 00…01
rows = "".join(
    f"| {NAME[d]} | {torch.finfo(d).bits - 1 - FRACTION[d]} | {FRACTION[d]} "
    f"| {torch.finfo(d).max:.3g} | {torch.finfo(d).smallest_normal:.2g} "
    f"| {SMALLEST[d]:.2g} | {torch.finfo(d).eps:.2g} |\n"
    for d in NAME
)
say(
    "| | bits of exponent | of fraction | largest | smallest normal | smallest "
    "| next after 1, minus 1 |\n|---|---|---|---|---|---|---|\n" + rows
)
assert all(torch.finfo(d).eps == 2.0 ** -FRACTION[d] for d in NAME)
edge = torch.tensor([2.0**-25, 1.001 * 2.0**-25]).to(FP16)
assert edge.tolist() == [0, 2.0**-24]  # where fp16 begins to round to 0

# %% mystnb={"figure": {"caption": "All positive numbers of fp16 and bf16, and a sample of those of fp32: distance to the next number, relative to the number itself. Lower is more precise; wider is more range. To the left of the flat part are the subnormals.", "name": "fig-formats"}, "image": {"alt": "Relative distance to the next number against the number, both as base-two logarithms. fp16 is flat near -10 from -14 to 16 and rises to its left. bf16 is flat near -7 from -126 to 128. fp32 is flat near -23 over that same range."}} tags=["hide-input"]
fig, ax = plt.subplots()
for dtype, bits in [
    (FP32, np.linspace(1, 0x7F7FFFFE, 60_000, dtype=np.int64)),
    (BF16, np.arange(1, 0x7F7F)),  # all finite ones but the largest
    (FP16, np.arange(1, 0x7BFF)),
]:
    number = from_bits(bits, dtype)
    gap = from_bits(bits + 1, dtype) - number
    ax.plot(
        number.log2(),
        (gap / number).log2(),
        color=COLOR[dtype],
        lw=1,
        label=NAME[dtype],
    )
ax.set(
    xlabel=r"$\log_2$ of the number",
    ylabel=r"$\log_2$ of the relative gap",
    xticks=range(-150, 151, 25),
)
ax.legend()
plt.show()

# %% [markdown] tags=["slide"]
# ## What underflows: real gradients
#
# Where in this picture do gradients lie? Take two networks in the midst of training: the perceptron
# above on digits, and a small transformer on text (Python's own source code, byte by byte, 512
# tokens a batch). Backpropagation makes two kinds of gradients: those of *activations*, which it hands
# from layer to layer and which autocast stores in 16 bits, and those of *weights*.

# %% tags=["skip"]
def mlp_gradients(seed, steps=120):
    """(gradients of activations, gradients of weights), flat."""
    model = RoundedMLPs(SIZES, (seed,), FP32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for x, y in batches(steps):
        optimizer.zero_grad()
        loss = network_losses(model, x, y).sum()
        for output in model.outputs:
            output.retain_grad()
        loss.backward()
        optimizer.step()
    return (
        torch.cat([output.grad.flatten() for output in model.outputs]),
        torch.cat([p.grad.flatten() for p in model.parameters()]),
    )


def transformer_gradients(seed, steps=60, batch=8, tokens=64):
    """The same of a transformer with two layers, width 32."""
    torch.manual_seed(seed)
    model = Transformer(
        vocabulary=256, sequence=tokens, width=32, layers=2, heads=4
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    found = []
    for step in range(steps):
        if step == steps - 1:  # look at the outputs of all matrix products
            for module in model.modules():
                if isinstance(module, nn.Linear):
                    module.register_full_backward_hook(
                        lambda module, inputs, outputs: found.append(
                            outputs[0].flatten()
                        )
                    )
        inputs, targets = source_code_batch(1000 * seed + step, batch, tokens)
        optimizer.zero_grad()
        language_loss(model(inputs), targets).backward()
        optimizer.step()
    weights = torch.cat([p.grad.flatten() for p in model.parameters()])
    return torch.cat(found), weights


gradients = {
    "perceptron": [mlp_gradients(seed) for seed in SEEDS],
    "transformer": [transformer_gradients(seed) for seed in SEEDS],
}

# %% mystnb={"figure": {"caption": "Sizes of the non-zero gradients of two networks in training, three seeds each (lines). fp16 has full precision to the right of the dashed line, and nothing but 0 to the left of the solid one. bf16 has these two far outside of the picture, at −126 and −134.", "name": "fig-gradients"}, "image": {"alt": "Histograms of the base-two logarithm of the size of gradients. Weight gradients lie mostly to the right of -25, activation gradients further left: most are below the smallest normal fp16 number, some below the smallest of all."}} tags=["hide-input"]
TASK = {"perceptron": "perceptron, digits", "transformer": "transformer, text"}
fig, axes = plt.subplots(1, 2, figsize=(7.4, 3), sharey=True, sharex=True)
edges = np.arange(-45, 3)
for ax, (network, runs) in zip(axes, gradients.items(), strict=True):
    for kind, (label, color) in enumerate(
        [("activations", "tab:purple"), ("weights", "tab:green")]
    ):
        for run in runs:
            sizes = run[kind][run[kind] != 0].abs().log2()
            share = np.histogram(sizes, edges)[0] / len(sizes)
            ax.stairs(
                share,
                edges,
                color=color,
                label=label if run is runs[0] else None,
            )
    ax.axvline(-14, color="black", ls="--", lw=1)
    ax.axvline(-25, color="black", lw=1)
    ax.set(title=TASK[network], xlabel=r"$\log_2 |g|$")
axes[0].set_ylabel("share of the gradients")
axes[0].legend(title="gradients of", loc="upper left")
plt.show()

# %% tags=["skip"]
rows, flushed = "", {}
for network, runs in gradients.items():
    for kind, label in enumerate(["activations", "weights"]):
        cells = []
        for dtype, exponent in [(FP16, -8), (FP16, 0), (FP16, 16), (BF16, 0)]:
            values = [
                100 * underflow_fraction(run[kind], dtype, 2.0**exponent)
                for run in runs
            ]
            flushed[network, label, dtype, exponent] = values
            cells.append(f"{min(values):.2f} – {max(values):.2f}")
        rows += f"| {network}: {label} | " + " | ".join(cells) + " |\n"
say(
    "Percent of the non-zero gradients that become 0, lowest and highest "
    "of 3 seeds:\n\n| gradients of | fp16, $s = 2^{{-8}}$ | fp16, $s = 1$ "
    "| fp16, $s = 2^{{16}}$ | bf16, $s = 1$ |\n|---|---|---|---|---|\n" + rows
)

# %% tags=["hide-input"]
net, kind = "transformer", "activations"
activations = torch.cat([run[0] for run in gradients[net]])
activations = activations[activations != 0].abs()
below = (activations < torch.finfo(FP16).smallest_normal).double().mean()
norm_lost = []  # part of the squared norm, s = 2**-8
for run in gradients[net]:
    squares = run[0].double().square()
    zero = (run[0] * 2.0**-8).to(FP16) == 0
    norm_lost.append((squares[zero].sum() / squares.sum()).item())
claim(
    "Of the transformer's activation gradients fp16 loses {low:.1f} to "
    "{high:.1f} % at $s = 1$, and {share:.0f} % lie among its subnormals or "
    "below, where precision is going. If the mean were taken over 256 times "
    "as many tokens ($s = 2^{{-8}}$), it would lose {left:.0f} % at least; "
    "but the lost ones are the small ones, and carry {norm:.2f} % of the "
    "squared norm at most. With $s = 2^{{16}}$ it loses {scaled:.2f} % at most, "
    "and bf16 loses none.",
    0.5 < min(flushed[net, kind, FP16, 0])
    and below > 0.5
    and min(flushed[net, kind, FP16, -8]) > 40
    and 100 * max(norm_lost) < min(flushed[net, kind, FP16, -8]) / 4
    and max(flushed[net, kind, FP16, 16]) < 0.1
    and all(max(v) == 0 for k, v in flushed.items() if k[2] == BF16),
    low=min(flushed[net, kind, FP16, 0]),
    high=max(flushed[net, kind, FP16, 0]),
    share=100 * below.item(),
    left=min(flushed[net, kind, FP16, -8]),
    norm=100 * max(norm_lost),
    scaled=max(flushed[net, kind, FP16, 16]),
)

# %% [markdown] tags=["skip"]
# Move the scale and see the histogram slide through the window. Where do you lose least? How much
# room is left on the right, for the one large gradient that is yet to come?

# %% tags=["skip"]
def draw_window(network, dtype, log2_scale):
    """Gradients of activations after scaling, by what becomes of them."""
    dtype = {"fp16": FP16, "bf16": BF16}[dtype]
    values = gradients[network][0][0]
    values = values[values != 0].abs() * 2.0**log2_scale
    stored, limits = values.to(dtype), torch.finfo(dtype)
    groups = {
        "becomes 0": (stored == 0, "tab:red"),
        "subnormal": (
            (stored > 0) & (stored < limits.smallest_normal),
            "gold",
        ),
        "full precision": (
            (stored >= limits.smallest_normal) & stored.isfinite(),
            "tab:green",
        ),
        "becomes infinite": (stored.isinf(), "black"),
    }
    fig, ax = plt.subplots(figsize=(6.4, 2.7))
    edges = np.arange(-56, 26)
    for label, (members, color) in groups.items():
        share = members.double().mean().item()
        counts = np.histogram(values[members].log2(), edges)[0] / len(values)
        ax.stairs(
            counts, edges, fill=True, color=color, label=f"{label}: {share:.2%}"
        )
    ax.set(
        xlabel=r"$\log_2 |s\,g|$",
        ylabel="share",
        ylim=(0, 0.16),
        title=f"{network}, {NAME[dtype]}, loss scale $2^{{{log2_scale}}}$",
    )
    ax.title.set_fontsize(10)
    ax.legend(fontsize=8, loc="upper left")
    return fig


explore(
    draw_window,
    {
        "network": list(gradients),
        "dtype": ["fp16", "bf16"],
        "log2_scale": [-12, -8, -4, 0, 4, 8, 12, 16, 20, 24],
    },
    initial={"network": net, "dtype": "fp16", "log2_scale": 0},
    name="Gradients in the window",
    alt=lambda network, dtype, log2_scale: (
        f"Histogram of the activation gradients of the {network}, times two "
        f"to the {log2_scale}, colored by whether {dtype} stores them fully, "
        f"as subnormals, as 0 or as infinity."
    ),
)

# %% [markdown] tags=["slide"]
# ## When a scaler is needed, and how it finds its scale
#
# Scaling the loss by $s$ scales every gradient by $s$, since backpropagation is linear
# {cite:p}`micikevicius2018mixed`. **fp16 needs it; bf16 and fp32 don't**: their smallest number is
# $10^{-40}$ or less. A power of two costs no precision, for it changes the exponent only.
#
# How large? As large as possible without overflow; and that is found by trial. A *dynamic* scale
# starts high. With $N$ the growth interval, after each backward pass
#
# $$
# s \leftarrow
# \begin{cases}
# s/2 & \text{if any gradient is infinite or NaN; this step is skipped} \\
# 2s & \text{after } N \text{ good steps in a row} \\
# s & \text{otherwise.}
# \end{cases}
# $$ (eq-scale)
#
# PyTorch's `GradScaler` begins at $2^{16}$ with $N = 2000$. Here is one at work, with $N = 25$
# so that there is something to see, once begun far too high and once too low.

# %% tags=["skip"]
def scale_in_training(seed, start, steps=360):
    """log2 of the scale after each step, and which steps were skipped."""
    model = RoundedMLPs(SIZES, (seed,), FP16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=start, growth_interval=25)
    scales, skipped = [], []
    for x, y in batches(steps):
        optimizer.zero_grad()
        scaler.scale(network_losses(model, x, y).sum()).backward()
        before = scaler.get_scale()
        scaler.step(optimizer)  # divides by the scale; skips inf and NaN
        scaler.update()  # the rule above
        scales.append(math.log2(scaler.get_scale()))
        skipped.append(scaler.get_scale() < before)
    return np.array(scales), np.array(skipped)


STARTS = (2.0**26, 2.0**8)
scale_runs = {
    (start, seed): scale_in_training(seed, start)
    for start in STARTS
    for seed in SEEDS
}

# %% mystnb={"figure": {"caption": "The dynamic loss scale of fp16 training, begun too high (blue) and too low (orange), three seeds each; crosses are skipped steps. Both meet at the largest scale that the gradients allow, and stay there: up by two, down by two.", "name": "fig-dynamic"}, "image": {"alt": "Base-two logarithm of the loss scale against the step. Lines from 26 fall within ten steps, lines from 8 climb in stairs; they meet and go up and down by one between 16 and 20, with a cross at each step down."}} tags=["hide-input"]
fig, ax = plt.subplots()
for (start, seed), (scales, skipped) in scale_runs.items():
    color = "tab:blue" if start == STARTS[0] else "tab:orange"
    ax.plot(scales, color=color, lw=1, alpha=0.8)
    at = np.flatnonzero(skipped)
    ax.plot(at, scales[at], "x", color=color, ms=5)
ax.set(
    xlabel="step", ylabel=r"$\log_2$ of the loss scale", yticks=range(8, 28, 2)
)
plt.show()

# %% tags=["hide-input"]
ends = [scales[-100:] for scales, _ in scale_runs.values()]
high = [
    skipped
    for (start, _), (_, skipped) in scale_runs.items()
    if start == STARTS[0]
]
claim(
    "Over the last 100 steps all {n} runs stay between $2^{{{low:.0f}}}$ and "
    "$2^{{{top:.0f}}}$, wherever they began. The too high start costs up to {first} "
    "skipped steps among the first 20; later each run skips {rate:.1%} of its "
    "steps: about one in each growth interval.",
    max(e.max() for e in ends) - min(e.min() for e in ends) <= 4,
    n=len(ends),
    low=min(e.min() for e in ends),
    top=max(e.max() for e in ends),
    first=max(skipped[:20].sum() for skipped in high),
    rate=np.mean([skipped[-200:].mean() for _, skipped in scale_runs.values()]),
)

# %% [markdown] tags=["skip"]
# {{exercise 119.1c.predict-loss-scale}}

# %% [markdown] tags=["slide"]
# ### A skipped step is not a step
#
# At the start of a run, several steps in a row may be skipped. The optimizer has then done nothing,
# and the *schedule must wait as well*. Below, a regression whose targets nobody normalized: its
# first gradients overflow at $2^{16}$, and at every scale for a while. The warm-up has 20 steps. One
# loop steps the schedule after each call, the other after each update.

# %% tags=["skip"]
def rates_of_updates(wait, calls=40):
    """Learning rate of each update that was made, and log2 of the scales."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    x = torch.randn(16, 4)
    y = 300 * x.sum(1, keepdim=True)  # far from normalized
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: min(1.0, (k + 1) / 20)
    )
    amp = MixedPrecision(FP16)
    rates, scales = [], []
    for _ in range(calls):
        rate = optimizer.param_groups[0]["lr"]
        amp.step(model, optimizer, F.mse_loss, x, y)
        scales.append(math.log2(amp.scale))
        if not amp.skipped:
            rates.append(rate)
        if not (wait and amp.skipped):
            schedule.step()
    return rates, scales


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    ahead, scales = rates_of_updates(wait=False)
waiting, _ = rates_of_updates(wait=True)
print(f"{len(caught)} warning:", str(caught[0].message).split(". ")[0])

# %% mystnb={"figure": {"caption": "Left: the loss scale halves until the gradients fit; all these steps are skipped. Right: the learning rate of the updates that were made. The schedule that did not wait has spent half of its warm-up before the first update.", "name": "fig-skipped"}, "image": {"alt": "Left, the base-two logarithm of the loss scale falls step by step and then stays. Right, the learning rate against the update: one line rises from near zero to 0.1 over 20 updates, the other starts above half of it."}} tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(7.4, 2.8))
axes[0].plot(range(1, 41), scales, ".-", color=COLOR[FP16])
axes[0].set(xlabel="call", ylabel=r"$\log_2$ of the loss scale", ylim=(0, 17))
axes[1].plot(waiting, "o-", ms=3, color="tab:green", label="schedule waits")
axes[1].plot(ahead, "o-", ms=3, color="tab:red", label="schedule runs ahead")
axes[1].set(xlabel="update", ylabel="learning rate", ylim=(0, None))
axes[1].legend(loc="lower right")
plt.show()

# %% tags=["hide-input"]
lost = 40 - len(ahead)
claim(
    "{lost} of 40 steps were skipped. The first real update had the rate "
    "{ahead:.3f}; it should have had {waiting:.3f}. PyTorch's only sign is "
    "the warning printed above, and the advice in it does not help: the order "
    "of the calls was right.",
    lost > 5
    and ahead[0] == waiting[lost]
    and any("lr_scheduler.step()" in str(w.message) for w in caught),
    lost=lost,
    ahead=ahead[0],
    waiting=waiting[0],
)

# %% [markdown] tags=["skip"]
# {{exercise 119.1c.loss-scale-rule}}

# %% [markdown] tags=["slide"]
# ## Master weights
#
# bf16 pays for its range with precision: the neighbors of 1 are 0.9961 and 1.0078. An update of 0.001
# is less than half of the way to either, and is rounded away. Always, for the next step starts from
# 1 again:

# %% tags=["nbval-check-output"]
in_16_bits, master = torch.ones((), dtype=BF16), torch.ones(())
for _ in range(1000):
    in_16_bits -= 1e-3  # learning rate times gradient
    master -= 1e-3
claim(
    "After 1,000 updates of −0.001 the bf16 weight is {a:g}, the float32 "
    "weight {b:.4f}.",
    in_16_bits.item() == 1 and abs(master.item()) < 1e-4,
    a=in_16_bits.item(),
    b=abs(master.item()),
)

# %% [markdown]
# So mixed precision keeps a float32 *master copy* of the weights, adds the updates to it, and rounds
# it anew for every step's matrix products {cite:p}`micikevicius2018mixed`. With autocast the
# parameters themselves are that copy: leave the weights that are trained in float32, and never call
# `model.half()` on them. (A frozen base may be in 16 bits: it gets no updates that could be lost.)
#
# What does it cost to do without? The same network on digits, in bf16, AdamW with a cosine to zero,
# 300 steps; once with the weights themselves rounded to bf16 after every update.

# %% tags=["skip"]
def bf16_training(lr, master, steps=300):
    """Validation losses (seeds,), and the share of updates that did nothing."""
    model = RoundedMLPs(SIZES, SEEDS, BF16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    lost = total = 0
    for x, y in batches(steps):
        optimizer.zero_grad()
        network_losses(model, x, y).sum().backward()
        before = [p.detach().clone() for p in model.parameters()]
        optimizer.step()
        schedule.step()
        for p, old in zip(model.parameters(), before, strict=True):
            if not master:
                p.data = p.data.to(BF16).float()
            asked = p.grad != 0
            lost += (asked & (p.data == old)).sum().item()
            total += asked.sum().item()
    return losses(model, data.validation), lost / total


RATES = [0.0003, 0.001, 0.003, 0.01]
weights_in = {
    master: [bf16_training(lr, master) for lr in RATES]
    for master in (True, False)
}

# %% mystnb={"figure": {"caption": "Left: validation loss after 300 steps, mean and range of 3 seeds; matrix products in bf16 for both. Right: updates with a gradient that left the weight where it was. The smaller the steps, the more of them vanish.", "name": "fig-master"}, "image": {"alt": "Left, validation loss against the learning rate: the line for bf16 weights lies above that for float32 master weights, most at small rates. Right, the share of lost updates falls with the rate from above 90 to about 40 percent for bf16 weights, and is about 0 for float32."}} tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(7.4, 2.8))
for master, label, color in [
    (True, "float32 master weights", "tab:green"),
    (False, "bf16 weights", "tab:red"),
]:
    values = torch.stack([loss for loss, _ in weights_in[master]])
    axes[0].fill_between(
        RATES,
        values.min(1).values,
        values.max(1).values,
        color=color,
        alpha=0.2,
        lw=0,
    )
    axes[0].plot(RATES, values.mean(1), "o-", color=color, label=label)
    axes[1].plot(
        RATES, [100 * lost for _, lost in weights_in[master]], "o-", color=color
    )
axes[0].set(
    xlabel="learning rate", ylabel="validation loss (nats)", xscale="log"
)
axes[0].set_ylim(0, None)
axes[1].set(
    xlabel="learning rate",
    ylabel="lost updates (%)",
    xscale="log",
    ylim=(-3, 100),
)
axes[0].legend()
plt.show()

# %% tags=["hide-input"]
claim(
    "Without master weights the loss is higher for every seed at the rates up "
    "to 0.003: at 0.001 {bf16:.2f} against {fp32:.2f}, where {lost:.0%} of "
    "the updates vanish. At 0.01, where {lost_high:.0%} do, it is "
    "{bf16_high:.2f} against {fp32_high:.2f}: large steps survive the "
    "rounding.",
    all(
        (weights_in[False][i][0] > weights_in[True][i][0]).all().item()
        for i in range(3)
    )
    and weights_in[False][1][1] > 0.6 > weights_in[False][3][1],
    bf16=weights_in[False][1][0].mean().item(),
    fp32=weights_in[True][1][0].mean().item(),
    lost=weights_in[False][1][1],
    lost_high=weights_in[False][3][1],
    bf16_high=weights_in[False][3][0].mean().item(),
    fp32_high=weights_in[True][3][0].mean().item(),
)

# %% [markdown] tags=["skip"]
# The rounding has a remedy of its own, when memory for a master copy is lacking: round *at random*,
# up with a probability that makes the mean right. Then an update of a tenth of the distance moves
# the weight one time in ten {cite:p}`gupta2015limited`.

# %% [markdown] tags=["slide"]
# ## What autocast keeps in float32
#
# Inside `torch.autocast(device, dtype)`, each operation looks up what it should compute in. Matrix
# products and convolutions take the 16-bit type; operations that sum many numbers or leave fp16's
# range get float32; the rest take what they are given. The lists differ between devices (PyTorch
# documentation, *Autocast op reference*). Ask yours:

# %% tags=["definitions", "hide-input"]
def autocast_table(device, dtype):
    """Result dtype of common operations under autocast, as a Markdown table."""
    a = torch.randn(4, 4, device=device)
    image, target = a.view(1, 1, 4, 4), torch.zeros(4, device=device).long()
    with torch.autocast(device, dtype):
        h = a @ a  # 16 bits, the input of most operations below
        results = {
            "`a @ b`, `F.linear`": h,
            "`F.conv2d`": F.conv2d(image, image),
            "`F.scaled_dot_product_attention`": F.scaled_dot_product_attention(
                image, image, image
            ),
            "`h + 1`, `F.relu(h)`": F.relu(h + 1),
            "`h + a`, with `a` in float32": h + a,
            "`F.gelu(h)`": F.gelu(h),
            "`F.layer_norm(h)`": F.layer_norm(h, (4,)),
            "`F.softmax(h)`": F.softmax(h, -1),
            "`h.exp()`": h.exp(),
            "`h.sum()`": h.sum(),
            "`F.mse_loss(h)`": F.mse_loss(h, a),
            "`F.cross_entropy(h)`": F.cross_entropy(h, target),
        }
    lines = [f"| {name} | {str(r.dtype)[6:]} |" for name, r in results.items()]
    return f"| operation on {device} | result |\n|---|---|\n" + "\n".join(lines)


# %% tags=["nbval-check-output"]
say(autocast_table("cpu", BF16))

# %% [markdown]
# The losses are in float32 everywhere. On a CPU, softmax, norms and sums return 16 bits (they add
# up in float32 inside, and round once at the end). On CUDA they return float32, as this record shows:

# %% tags=["gpu", "hide-input"] name="autocast-cuda"
print(autocast_table("cuda", FP16).replace("`", ""))

# %% [markdown] tags=["slide"]
# ## The step
#
# One step, in the order that matters: zero, then for each micro-batch forward (under autocast) and
# backward (outside), then unscale, clip, step, update; at the end, notice whether it was skipped.

# %%
show_source(MixedPrecision.step)

# %% [markdown] tags=["skip"]
# The scaler is on for fp16 alone; switched off, it hands the loss and the step through. So one code
# path serves all types and both devices:

# %% tags=["skip"]
show_source(MixedPrecision.__init__)

# %% [markdown] tags=["slide"]
# ### The proof, by hand
#
# Now the same without `GradScaler` and `clip_grad_norm_`: a loop which multiplies the loss itself,
# divides the gradients itself, looks for infinities itself, and follows {eq}`eq-scale`.
# Both run real 16-bit products on the CPU, in tiny networks, over random settings;
# now and then a batch is so large that fp16 overflows.

# %% tags=["skip"]
def by_hand(model, optimizer, dtype, limit, parts, batches):
    """What MixedPrecision should do, on the CPU. Returns the scale."""
    scale = 2.0**16 if dtype == FP16 else 1.0
    for x, y in batches:
        for p in model.parameters():
            p.grad = None
        for x_part, y_part in zip(x.chunk(parts), y.chunk(parts), strict=True):
            with torch.autocast("cpu", dtype, enabled=dtype != FP32):
                loss = F.mse_loss(model(x_part), y_part) / parts
            (scale * loss).backward()
        grads = torch.cat([p.grad.flatten() for p in model.parameters()])
        if not grads.isfinite().all():
            scale /= 2
            continue  # no step
        norm = (grads / scale).norm()
        for p in model.parameters():
            p.grad = p.grad / scale * min(1.0, limit / norm)
        optimizer.step()
    return scale


rng = np.random.default_rng(0)
worst, skips, runs = 0.0, 0, 0
for dtype in (FP32, BF16, FP16):
    for trial in range(10):
        torch.manual_seed(trial)
        model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
        twin = copy.deepcopy(model)
        lr, limit = 10 ** rng.uniform(-4, -2), 10 ** rng.uniform(-1, 1)
        parts = int(rng.choice([1, 2, 4]))
        sizes = 10 ** rng.choice([0.0, 3.0], p=[0.8, 0.2], size=8)
        some = [(torch.randn(8, 3), s * torch.randn(8, 2)) for s in sizes]
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
        amp = MixedPrecision(dtype, limit, micro_batches=parts)
        for x, y in some:
            amp.step(model, optimizer, F.mse_loss, x, y)
        twin_optimizer = torch.optim.AdamW(twin.parameters(), lr=lr)
        scale = by_hand(twin, twin_optimizer, dtype, limit, parts, some)
        assert amp.scale == scale
        runs, skips = runs + 1, skips + amp.skipped_steps
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            worst = max(worst, (p - q).abs().max().item())
claim(
    "Over {runs} runs of 8 steps, with {skips} skipped ones among them, the "
    "scales are equal and the largest difference of any weight is {worst:.0e}.",
    worst < 1e-6 and skips > 5,
    runs=runs,
    skips=skips,
    worst=worst,
)

# %% [markdown] tags=["skip"]
# And is `RoundedMLPs`, on which the pictures of this page rest, what autocast computes? Compare its gradients with
# those of real 16-bit products:

# %% tags=["skip"]
agreement = {}
x, y = next(batches(1, size=16))
for dtype in (BF16, FP16):
    pair = MLPs((144, 16, 10), SEEDS), RoundedMLPs((144, 16, 10), SEEDS, dtype)
    with torch.autocast("cpu", dtype):
        loss = network_losses(pair[0], x, y).sum()
    loss.backward()
    network_losses(pair[1], x, y).sum().backward()
    a, b = (torch.cat([p.grad.flatten() for p in m.parameters()]) for m in pair)
    agreement[dtype] = (a == b).double().mean().item()
    assert torch.allclose(a, b, rtol=4 * torch.finfo(dtype).eps, atol=1e-6)
claim(
    "{bf16:.1%} of the gradients are equal to the last bit in bf16, "
    "{fp16:.1%} in fp16. (A device that adds up a product in another order "
    "may differ in some last bits.)",
    min(agreement.values()) > 0.95,
    bf16=agreement[BF16],
    fp16=agreement[FP16],
)

# %% [markdown] tags=["skip"]
# {{exercise 119.1c.clip-unscaled}}

# %% [markdown] tags=["slide"]
# ## Gradient accumulation
#
# A batch that does not fit is sent through in $k$ micro-batches, whose gradients add up in `.grad`
# (in float32, as the parameters are). With equal parts, each with its mean loss divided by $k$, the
# sum is the big batch's gradient.

# %% tags=["skip"]
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
x, y = torch.randn(12, 3), torch.randn(12, 2)
after = {}
for parts in (1, 4):
    twin = copy.deepcopy(model)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    MixedPrecision(FP32, micro_batches=parts).step(
        twin, optimizer, F.mse_loss, x, y
    )
    after[parts] = torch.cat([p.detach().flatten() for p in twin.parameters()])
claim(
    "One batch of 12 and 4 micro-batches of 3 lead to the same weights: the "
    "largest difference is {worst:.0e}.",
    torch.allclose(after[1], after[4], atol=1e-6),
    worst=(after[1] - after[4]).abs().max().item(),
)

# %% [markdown]
# With *unequal* parts the division by $k$ is wrong. Texts have different lengths, so this is the
# usual case for language models: the mean over all $n$ tokens is not the mean of the means, but
#
# $$
# g = \sum_{i=1}^{k} \frac{n_i}{n}\, g_i , \qquad n = \sum_i n_i ,
# $$ (eq-accumulate)
#
# with $g_i$ the gradient of the mean over the $n_i$ tokens of micro-batch $i$.

# %% tags=["skip"]
def gradient(loss):
    return torch.cat(
        [g.flatten() for g in torch.autograd.grad(loss, model.parameters())]
    )


errors = []
for seed in range(20):
    torch.manual_seed(seed)
    lengths = [40, 6, 2]  # tokens of three texts
    x, y = torch.randn(sum(lengths), 3), torch.randn(sum(lengths), 2)
    parts = list(zip(x.split(lengths), y.split(lengths), strict=True))
    each = [gradient(F.mse_loss(model(a), b)) for a, b in parts]
    whole = gradient(F.mse_loss(model(x), y))
    weighted = sum(n / sum(lengths) * g for n, g in zip(lengths, each))
    mean_of_means = sum(each) / len(each)
    errors.append(
        [
            ((g - whole).norm() / whole.norm()).item()
            for g in (weighted, mean_of_means)
        ]
    )
errors = np.array(errors)
claim(
    "Three texts of 40, 6 and 2 tokens, 20 times: weighted by their tokens, "
    "the gradient is right to {right:.0e}. The mean of the means is wrong by "
    "{wrong:.0%} of the gradient's length (median).",
    errors[:, 0].max() < 1e-5 and np.median(errors[:, 1]) > 0.2,
    right=errors[:, 0].max(),
    wrong=np.median(errors[:, 1]),
)

# %% [markdown] tags=["skip"]
# `MixedPrecision` refuses a batch that does not split evenly, rather than weight it wrongly. (Batch
# normalization is the other exception: it sees the micro-batch, however you weight.) Equal parts
# can differ as well: padding is marked by a target of −100, which cross-entropy ignores. Then
# `count` says how many targets count. Where the loss shows which targets it ignores, and nobody
# counts, the step is refused; a loss of your own that ignores targets must come with its `count`.

# %% tags=["skip"]
torch.manual_seed(0)
readout, x = nn.Linear(3, 5), torch.randn(8, 3)
y = torch.tensor([0, 1, 2, 3, 4, -100, -100, -100])  # three are padding
whole = F.cross_entropy(readout(x), y).item()
halves = [
    F.cross_entropy(readout(a), b).item() for a, b in zip(x.chunk(2), y.chunk(2))
]
frozen = torch.optim.SGD(readout.parameters(), lr=0.0)
counted = MixedPrecision(
    FP32, micro_batches=2, count=lambda y: (y != -100).sum()
).step(readout, frozen, F.cross_entropy, x, y)
try:
    MixedPrecision(FP32, micro_batches=2).step(
        readout, frozen, F.cross_entropy, x, y
    )
    refused = False
except ValueError:
    refused = True
claim(
    "Eight targets, three of them padding, in two parts: the loss is "
    "{whole:.3f}, the mean of the two means {mean:.3f}. With `count` the step "
    "returns {counted:.3f}; without it the step is refused.",
    refused
    and abs(counted - whole) < 1e-6
    and abs(np.mean(halves) - whole) > 0.01,
    whole=whole,
    mean=np.mean(halves),
    counted=counted,
)

# %% [markdown] tags=["skip"]
# {{exercise 119.1c.accumulate}}

# %% [markdown] tags=["slide"]
# ## Details that decide
#
# 1. **Unscale once, before anything that looks at the gradients**: clipping, norms in a log, noise.
#    A second `unscale_` in a step is an error (PyTorch documentation, *Automatic Mixed Precision
#    examples*).
# 2. **Backward outside of autocast.** Each operation's backward pass takes the type that its forward
#    pass took, without being told; to run it under autocast is advised against (the same source).
# 3. **One `update()` a step**, not one a micro-batch: the parts of one gradient must carry one scale
#    (the same source).
# 4. **The scale is part of the checkpoint**, with its count of good steps. Without it, a resumed run
#    starts at $2^{16}$ and skips its way down again; `MixedPrecision.state_dict()` has both.
# 5. **State in float32.** Adam's $\epsilon = 10^{-8}$ is 0 in fp16, and $v$ holds *squares*: a gradient
#    of $10^{-4}$ has already none left.
# 6. **Long sums in float32**, or they stop: adding ones in bf16 ends where the next number is 2 away.
#    (`sum()` adds up in float32 inside. A running total of your own does not.)
# 7. **A scale that goes on falling is a symptom.** If gradients are NaN for another reason, every
#    step is skipped. Halved often enough the scale itself becomes 0, and a scaler that compares it
#    with the one before no longer sees a skipped step. `MixedPrecision` reads what the scaler found,
#    and raises an error below a scale of $10^{-4}$.
# 8. **The scale is a power of two**, so multiplying and dividing are exact, as long as nothing
#    leaves the range {cite:p}`micikevicius2018mixed`.
#
# Details 5, 6 and 7 in one cell:

# %% tags=["skip"]
epsilon, square = (
    torch.tensor(1e-8, dtype=FP16),
    torch.tensor(1e-4, dtype=FP16) ** 2,
)
total, one = torch.zeros((), dtype=BF16), torch.ones((), dtype=BF16)
for _ in range(1000):
    total += one

torch.manual_seed(0)
model = nn.Linear(3, 1)
before = model.weight.detach().clone()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
amp = MixedPrecision(FP16)
bad = torch.tensor([[1.0, math.nan, 1.0]])  # one bad value in the data
first_error = None
for call in range(300):
    try:
        amp.step(model, optimizer, F.mse_loss, bad, torch.ones(1, 1))
    except FloatingPointError:
        first_error = first_error or call + 1
held = torch.equal(model.weight, before)
amp.step(model, optimizer, F.mse_loss, torch.ones(1, 3), torch.ones(1, 1))
claim(
    "In fp16, ε is {eps:g} and the square {square:g}. A thousand ones, added "
    "one by one, are {total:g} in bf16; `sum()` gets {inside:g}. With a NaN "
    "in the data, 300 of 300 steps were skipped and the weights stayed as they "
    "were; from call {call} on, with the scale at its least, "
    "$2^{{{log2:.0f}}}$, each raised an error. A finite batch after them was "
    "learned from as usual.",
    epsilon == 0
    and square == 0
    and total == 256
    and one.expand(1000).sum() == 1000
    and amp.skipped_steps == 300
    and held
    and not amp.skipped
    and model.weight.isfinite().all().item()
    and not torch.equal(model.weight, before),
    eps=epsilon.item(),
    square=square.item(),
    total=total.item(),
    inside=one.expand(1000).sum().item(),
    call=first_error,
    log2=math.log2(amp.scale),
)

# %% [markdown] tags=["slide"]
# ## At scale
#
# What does it bring? First the losses: a transformer of 25 million parameters on source code, 200
# steps in each type, for three seeds. For one seed the start and the batches are the same in all
# types, and `MixedPrecision` clips at 1.

# %% image={"alt": "Training loss of the same transformer in fp32, bf16 and fp16; one line for each."} tags=["gpu", "hide-input"] name="losses-by-dtype"
curves = {
    name: [losses_in(d, MIDDLE, 8, 200, seed=seed) for seed in SEEDS]
    for d, name in NAME.items()
}
print("mean loss of the last 50 steps, nats a byte, by seed")
for name, runs in curves.items():
    print(f"{name}  " + "  ".join(f"{np.mean(r[-50:]):.4f}" for r in runs))
keep(losses=curves)

# %% tags=["hide-input"]
found = values_of("losses-by-dtype", "losses")
if found:
    ends = {
        name: np.array([np.mean(run[-50:]) for run in runs])
        for name, runs in found[0].items()
    }
    gaps = {name: ends[name] - ends["fp32"] for name in ("bf16", "fp16")}
    fig, ax = plt.subplots()
    for dtype, name in NAME.items():
        ax.plot(
            np.mean(found[0][name], 0), color=COLOR[dtype], lw=1, label=name
        )
    ax.set(xlabel="step", ylabel="training loss (nats a byte), mean of 3 seeds")
    ax.legend()
    plt.show()
    claim(
        "Over the last 50 of 200 steps the loss differs from that of fp32 by "
        "{bl:+.4f} to {bh:+.4f} nats in bf16 and by {fl:+.4f} to {fh:+.4f} in "
        "fp16, lowest and highest of {n} seeds. The seeds themselves are "
        "{spread:.4f} nats apart in fp32. So short a run can't tell what "
        "thousands of steps do.",
        max(np.abs(gap).max() for gap in gaps.values()) < 0.1,
        bl=gaps["bf16"].min(),
        bh=gaps["bf16"].max(),
        fl=gaps["fp16"].min(),
        fh=gaps["fp16"].max(),
        n=len(ends["fp32"]),
        spread=np.ptp(ends["fp32"]),
    )

# %% [markdown]
# Now the gradients of a model of 85 million parameters, after 30 steps in bf16, for three seeds: do
# the histograms of the small networks carry over? Two measures: how many entries become 0, and how
# much of the squared norm they carried.

# %% tags=["gpu", "hide-input"] name="gradients-at-scale"
lost = [gradients_lost(LARGE, 16, 30, seed=seed) for seed in SEEDS]
print(f"{lost[0]['count'] / 1e6:.0f} million activation gradients, not 0")
print("type, log2 of s: percent of entries | of the squared norm that become 0")
for key in lost[0]["entries"]:
    for measure in ("entries", "norm"):
        numbers = [f"{100 * run[measure][key]:8.4f}" for run in lost]
        print(f"{key if measure == 'entries' else '':8}", *numbers, measure)
keep(lost=lost)

# %% tags=["hide-input"]
found = values_of("gradients-at-scale", "lost")
if found:
    part = lambda measure, key: [100 * run[measure][key] for run in found[0]]
    claim(
        "Unscaled, fp16 makes {low:.0f} to {high:.0f} % of the entries 0, and "
        "with them {norm:.2g} % of the squared norm at most. With $2^{{16}}$, "
        "the scaler's first guess, it is {scaled:.2g} % of the entries and "
        "{scaled_norm:.1g} % of the squared norm at most; in bf16, without a "
        "scale, {bf16:.1g} % of the entries.",
        min(part("entries", "fp16 0")) > max(part("entries", "fp16 16"))
        and max(part("norm", "fp16 0")) < min(part("entries", "fp16 0"))
        and max(part("entries", "bf16 0")) < 0.01,
        low=min(part("entries", "fp16 0")),
        high=max(part("entries", "fp16 0")),
        norm=max(part("norm", "fp16 0")),
        scaled=max(part("entries", "fp16 16")),
        scaled_norm=max(part("norm", "fp16 16")),
        bf16=max(part("entries", "bf16 0")),
    )

# %% [markdown]
# Then the time of a step of that model, a step of each type in turn, twenty times. "tf32" is float32
# whose matrix products may round their inputs to 10 bits of fraction
# (`torch.set_float32_matmul_precision("high")`): a faster step without any other change.

# %% tags=["gpu", "hide-input"] name="step-time-by-dtype"
times = step_times(LARGE, 16, repeats=20)
print(f"{'':6}{'ms a step':>11}{'peak, GiB':>11}{'speed-up: median (range)':>28}")
speedups = {}
for name in WAYS:
    taken = np.array(times[name]["seconds"])
    ratio = np.array(times["fp32"]["seconds"]) / taken
    speedups[name] = [np.median(ratio), ratio.min(), ratio.max()]
    middle, low, high = speedups[name]
    print(
        f"{name:6}{1000 * np.median(taken):11.1f}"
        f"{(times[name]['peak'] or 0) / 2**30:11.1f}"
        f"{f'{middle:.2f} ({low:.2f} to {high:.2f})':>28}"
    )
keep(times=times, speedups={n: [float(v) for v in s] for n, s in speedups.items()})

# %% tags=["hide-input"]
found = values_of("step-time-by-dtype", "times", "speedups")
if found:
    times, speedups = found
    claim(
        "Against fp32 a step in bf16 is {bf16:.1f} times as fast ({low:.1f} to "
        "{high:.1f} over the rounds), in fp16 {fp16:.1f} times, with tf32 "
        "{tf32:.1f} times. The peak memory in bf16 is {memory:.0%} of that in "
        "fp32.",
        min(speedups[name][1] for name in ("tf32", "bf16", "fp16")) > 1
        and 0.5 < times["bf16"]["peak"] / times["fp32"]["peak"] < 1,
        bf16=speedups["bf16"][0],
        low=speedups["bf16"][1],
        high=speedups["bf16"][2],
        fp16=speedups["fp16"][0],
        tf32=speedups["tf32"][0],
        memory=times["bf16"]["peak"] / times["fp32"]["peak"],
    )

# %% [markdown] tags=["skip"]
# Mixed precision does *not* halve the memory: weights, gradients and Adam's two moments stay in
# float32, 16 bytes a parameter. What shrinks is what the forward pass keeps for the backward pass,
# and so most where batches are large.
#
# On many devices three things change. FSDP2 takes over the casting: `shard(model,
# param_dtype=torch.bfloat16)` keeps float32 shards (the master weights), gathers them in bf16, which
# halves the traffic, and reduces gradients in float32 ({doc}`119.1a <1a_distributed>`). A skipped
# step must be skipped by *all* ranks: a test of this course overflows on one rank of two and sees both
# skip. And the $n$ of {eq}`eq-accumulate` is the count over all ranks.
#
# The command is the usual one, `torchrun --nproc-per-node=8 train.py`; nothing in it speaks of
# precision.

# %% [markdown] tags=["slide"]
# ## Mistakes that are easily made
#
# The document's `MixedPrecisionTraining` makes six; the {doc}`errata </book/errata>` name a test for
# each. Two of them leave no error behind, and only numbers show them.
#
# **Gradients are never set to zero.** What comes of that depends on the scaler. With a learning rate
# of 0 the gradient should be the same in each call:

# %% tags=["nbval-check-output"]
def listing_norms(scale, calls=4):
    """Norm of the gradient that reaches the optimizer in each call."""
    torch.manual_seed(0)
    model, x = nn.Linear(3, 1), torch.randn(5, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=scale > 1)
    norms = []
    for _ in range(calls):  # no zero_grad
        scaler.scale(model(x).square().mean()).backward()
        scaler.step(optimizer)
        scaler.update()
        norms.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    return [f"{(g.norm() / norms[0].norm()).item():.5f}" for g in norms]


off, on = listing_norms(1.0), listing_norms(2.0**16)
print("scaler off:      ", *off)
print("scale 2**16:     ", *on)

# %% tags=["hide-input"]
claim(
    "Without a scaler they pile up: after four calls the gradient is {off:.0f} "
    "times too long. With one, the old gradients were unscaled and the new "
    "one is not: the division makes the old ones 65,536 times smaller, and "
    "the error ({on}) hides, until the scale falls.",
    off[-1] == "4.00000" and 1 < float(on[-1]) < 1.001,
    off=float(off[-1]),
    on=on[-1],
)

# %% [markdown]
# **Clipping before unscaling.** Whoever adds clipping right after the backward pass clips the
# *scaled* gradient:

# %% tags=["skip"]
def clipped_step(unscale_first, max_norm=1.0):
    """Norm that clipping sees, and length of the SGD step at rate 1."""
    torch.manual_seed(0)
    model, x = nn.Linear(3, 1), torch.randn(5, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = copy.deepcopy(model)
    scaler = torch.amp.GradScaler("cpu")  # 2**16
    scaler.scale((3 * model(x)).square().mean()).backward()
    if unscale_first:
        scaler.unscale_(optimizer)
    seen = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    scaler.step(optimizer)
    moved = [
        (p - q).flatten()
        for p, q in zip(model.parameters(), before.parameters(), strict=True)
    ]
    return seen.item(), torch.cat(moved).norm().item()


wrong, right = clipped_step(False), clipped_step(True)
claim(
    "The true norm is {norm:.2f}, the limit 1. Clipping without `unscale_` "
    "sees {seen:,.0f}, which is {ratio:,.0f} times as much, and cuts it to 1. "
    "Then the scaler divides as well: the step has length {short:.1e} where "
    "it should have {long:.2f}. The run seems to stand still, and nothing "
    "says why.",
    round(wrong[0] / right[0]) == 2**16
    and abs(right[1] - 1) < 1e-3
    and abs(wrong[1] * 2**16 - 1) < 1e-3,
    norm=right[0],
    seen=wrong[0],
    ratio=wrong[0] / right[0],
    short=wrong[1],
    long=right[1],
)

# %% [markdown] tags=["skip"]
# The other four: the loss is scaled in bf16 too, which has the range of fp32; `torch.cuda.amp` is
# deprecated and switches itself off without CUDA, where `torch.amp` takes the device as its
# argument; the loss function gets no target; and nobody learns that a step was skipped, so that the
# schedule runs ahead ({numref}`fig-skipped`).

# %% [markdown] tags=["slide"]
# ## Limits
#
# - The networks on this page are small, and trained for minutes. Long runs of large models have
#   troubles of their own in fp16 (activations that overflow in the *forward* pass, which no loss scale
#   cures): one reason why they are trained in bf16.
# - Rounding to a type and back shows what is stored; it does not show how a particular device
#   adds up inside a product. We compared with a CPU's autocast, in small shapes.
# - 8-bit types (fp8) are not treated. They came with one scale for each tensor
#   {cite:p}`micikevicius2022fp8`; the microscaling (MX) formats of newer hardware have a scale, a
#   power of two, for each block of 32 numbers {cite:p}`rouhani2023microscaling`. Neither is a scale
#   of the loss.
# - At work: bf16 with `torch.autocast` where the hardware has it (on NVIDIA's GPUs, from Ampere on).
#   fp16 with `torch.amp.GradScaler` on older ones. `accelerate` or Lightning will write the loop
#   for you, in the order shown above.

# %% [markdown] tags=["skip"]
# ## Quiz

# %% [markdown] tags=["skip"]
# {{quiz 119.1c}}

# %% [markdown] tags=["slide"]
# ## Summary
#
# - fp16 has precision without range, bf16 range without precision.
# - fp16 needs a loss scale, found by trial: halve and skip on overflow, double after a long good while.
# - Unscale, clip, step, update; and the schedule waits for skipped steps.
# - The weights stay in float32, or small updates vanish; autocast casts copies of them.
# - Accumulate micro-batches by their number of tokens, and zero the gradients once a step.
#
# References: each citation above leads to its source; the
# {doc}`bibliography </book/bibliography>` lists them all.
