# %% [markdown] tags=["slide"]
# (sec-119-3)=
# # 119.3 Learning-rate schedules
#
# The learning rate is the first number that one tunes, and it should hardly ever be constant. At
# the end of this section you can say what the beginning of a schedule is for and what its end is
# for, choose a shape by what you know about your budget, stop and resume in the middle of one
# without changing a bit of the result, and tell a correct schedule from one that only looks right
# when plotted.
#
# You need: Python, a first course in deep learning (gradient descent, Adam), and no GPU. Section
# {doc}`119.2 <2_optimizers>` introduces Schedule-Free, which competes in the experiment.

# %% tags=["definitions", "hide-input", "skip"]
import copy
import io
import itertools
import math
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

from dlcourse.datasets import digits
from dlcourse.experiments import MLPs, losses, train
from dlcourse.large_scale_training import (
    AdamWScheduleFree,
    Lion,
    MultiplierLR,
    WarmupCosineLR,
    cosine_multiplier,
    cosine_with_warmup,
    one_cycle,
    one_cycle_momentum,
    one_cycle_multiplier,
    restarts_multiplier,
    warmup_stable_decay,
    wsd_multiplier,
)
from dlcourse.notebook import claim, explore, say, show_source

plt.style.use("dlcourse.notebook.course")
COLOR = {
    "constant": "0.5",
    "cosine": "tab:blue",
    "restarts": "tab:brown",
    "one cycle": "tab:purple",
    "WSD": "tab:red",
    "Schedule-Free": "tab:green",
}

# %% [markdown] tags=["slide"]
# ## A question
#
# A network is trained at a constant rate. After some hundred steps it hardly gets better. Now take
# *smaller and smaller* steps, eighty of them, and stop. What can so little movement bring?

# %% tags=["skip"]
# 14 × 14 pixels: digits moved by up to 3 pixels
data = digits(seed=0, max_shift=3, copies=20)
SIZES = (196, 64, 64, 10)
WARMUP = 20


def adamw(model, lr):
    return torch.optim.AdamW(
        model.parameters(), lr=lr, weight_decay=0.0, fused=True
    )


def stable(step, warmup):
    """The simplest schedule: a linear warm-up, and then 1 for ever."""
    return min(1.0, step / warmup) if warmup else 1.0


def stable_run(lr, seeds, steps, measure, at):
    """Train at a constant rate: {step: (value, checkpoint)}."""
    model = MLPs(SIZES, seeds)
    optimizer = adamw(model, lr)
    schedule = MultiplierLR(optimizer, stable, warmup=WARMUP)

    def look():
        state = model.state_dict(), optimizer.state_dict()
        return measure(model), copy.deepcopy(state)

    points = train(
        model,
        optimizer,
        data.train,
        steps=steps,
        scheduler=schedule,
        measure=look,
        measure_at=at,
    )
    return {p.step: p.value for p in points}


def decay_from(checkpoint, lr, seeds, start, steps, measure, at):
    """Leave a stable run at `start`, decay until `steps`: {step: value}."""
    model = MLPs(SIZES, seeds)
    optimizer = adamw(model, lr)
    schedule = warmup_stable_decay(
        optimizer, WARMUP, steps, decay_fraction=(steps - start) / steps
    )
    model.load_state_dict(checkpoint[0])
    optimizer.load_state_dict(checkpoint[1])
    schedule.move_to(start)
    points = train(
        model,
        optimizer,
        data.train,
        steps=steps,
        start=start,
        scheduler=schedule,
        measure=lambda: measure(model),
        measure_at=at,
    )
    return {p.step: p.value for p in points}

# %% tags=["skip"]
TUNING_SEEDS = (0, 1, 2)
CUTS, LENGTH, LAST = [200, 400, 600], 80, 680


def validation(model):
    return losses(model, data.validation)


held = stable_run(0.02, TUNING_SEEDS, LAST, validation, range(20, LAST + 1, 20))
decayed = {
    cut: decay_from(
        held[cut][1],
        0.02,
        TUNING_SEEDS,
        cut,
        cut + LENGTH,
        validation,
        range(cut + 10, cut + LENGTH + 1, 10),
    )
    for cut in CUTS
}

# %% mystnb={"figure": {"caption": "Validation loss at a constant rate (gray), and of three decays to zero over 80 steps that branch off from it; mean of 3 seeds. The loss falls fastest when the steps get smaller.", "name": "fig-decays"}, "image": {"alt": "Line plot of validation loss over 680 steps. The gray line of the constant rate falls slowly and wavers. At steps 200, 400 and 600 a red line leaves it and falls steeply within 80 steps."}} tags=["hide-input"]
constant_at = {step: loss.mean().item() for step, (loss, _) in held.items()}
fig, ax = plt.subplots()
ax.plot(
    list(constant_at)[2:],
    list(constant_at.values())[2:],
    color=COLOR["constant"],
    label="constant rate",
)
for cut, values in decayed.items():
    ax.plot(
        [cut, *values],
        [constant_at[cut], *(loss.mean() for loss in values.values())],
        color=COLOR["WSD"],
        label="decay over 80 steps" if cut == CUTS[0] else None,
    )
ax.set(xlabel="step", ylabel="validation loss (nats)", ylim=(0, None))
ax.legend()
plt.show()

# %% tags=["hide-input"]
after = {cut: decayed[cut][cut + LENGTH].mean().item() for cut in CUTS}
claim(
    "From step 400 the constant rate goes from {before:.2f} to {constant:.2f} "
    "in 280 steps. The decay goes to {after:.2f} in 80, and ends lower than "
    "the constant rate ever does. But the time at the large rate counts too: "
    "decays from steps 200, 400 and 600 end at {a:.2f}, {b:.2f} and {c:.2f}.",
    after[400] < min(constant_at.values())
    and after[200] > after[400] > after[600],
    before=constant_at[400],
    constant=constant_at[680],
    after=after[400],
    a=after[200],
    b=after[400],
    c=after[600],
)

# %% [markdown] tags=["skip"]
# So the 400 steps at the constant rate were not in vain; they had done something that the loss did
# not show. A large rate and a small rate do different work. What is it?

# %% [markdown] tags=["slide"]
# ## Two jobs for one number
#
# Take the simplest loss there is, $\tfrac12 h w^2$, with curvature $h$, and gradients with noise of
# standard deviation $\sigma$. A step at rate $\eta_k$ is $w_{k+1} = w_k - \eta_k(h w_k + \sigma
# \varepsilon_k)$. Square it and take the mean; the mixed term is zero:
#
# $$
# \mathbb{E}[w_{k+1}^2] = (1-\eta_k h)^2\; \mathbb{E}[w_k^2] + \eta_k^2 \sigma^2 .
# $$ (eq-noisy-quadratic)
#
# The first part **forgets the start**. After many steps, what is left of it is
#
# $$
# \prod_k (1-\eta_k h)^2 \approx \exp\Bigl(-2h \sum_k \eta_k\Bigr) :
# $$ (eq-area)
#
# only the *area* under the schedule counts, and for a direction with small curvature it must be
# large. The second part **adds noise**. At a constant rate the two balance at the loss
#
# $$
# \tfrac12 h\, \mathbb{E}[w_\infty^2] = \frac{\eta\,\sigma^2}{2(2-\eta h)} \approx \tfrac14 \eta \sigma^2 ,
# $$ (eq-floor)
#
# a floor in proportion to the rate, which is reached from above *and* from below in about
# $1/(\eta h)$ steps. So: **a large rate to get far, a small rate at the end to settle**, and the
# second takes far fewer steps than the first. That is the gray line and its red branches.

# %% tags=["skip"]
def quadratic_losses(rates, curvature, noise=1.0, start=1.0):
    """Expected loss before each step and after the last: (T,) -> (T + 1,)."""
    squares = [start**2]
    for rate in rates:
        squares.append(
            (1 - rate * curvature) ** 2 * squares[-1] + rate**2 * noise**2
        )
    return 0.5 * curvature * np.array(squares)


rng = np.random.default_rng(0)
rates = 0.5 * np.array([cosine_multiplier(k, 10, 60) for k in range(60)])
w = np.full(20_000, 3.0)
for rate in rates:
    w -= rate * (0.7 * w + rng.normal(size=w.size))
drawn, exact = 0.35 * (w**2).mean(), quadratic_losses(rates, 0.7, start=3.0)[-1]
floor = {
    rate: quadratic_losses(np.full(2000, rate), 0.7)[-1] for rate in (0.1, 0.05)
}

# %% tags=["hide-input"]
claim(
    "20,000 noisy runs under a cosine end at a mean loss of {drawn:.4f}; the "
    "recursion says {exact:.4f}. Its floors at the constant rates 0.1 and "
    "0.05, {a:.4f} and {b:.4f}, are those of the formula: half the rate, half "
    "the floor.",
    abs(drawn / exact - 1) < 0.05
    and all(math.isclose(f, r / (2 * (2 - 0.7 * r))) for r, f in floor.items()),
    drawn=drawn,
    exact=exact,
    a=floor[0.1],
    b=floor[0.05],
)

# %% [markdown] tags=["slide"]
# ### Draw any of them
#
# Left: the rate, as a share of its peak. Right: the exact expected loss of
# {eq}`eq-noisy-quadratic` in a valley with a steep direction ($h = 1$: soon on its floor, all noise)
# and a flat one ($h = 0.02$: noise hardly matters, but the way is long). Choose a shape and move its
# numbers; a number that a shape does not have changes nothing.

# %%
STEPS = 400
SHAPES = {
    "constant": lambda k, warmup, decay, floor: stable(k, warmup),
    "cosine": lambda k, warmup, decay, floor: cosine_multiplier(
        k, warmup, STEPS, min_lr_ratio=floor
    ),
    "restarts": lambda k, warmup, decay, floor: restarts_multiplier(
        k, warmup, (STEPS - warmup) // 7, 3, min_lr_ratio=floor
    ),
    "one cycle": lambda k, warmup, decay, floor: one_cycle_multiplier(k, STEPS),
    "WSD": lambda k, warmup, decay, floor: wsd_multiplier(
        k, warmup, STEPS, decay, min_lr_ratio=floor
    ),
}


def draw_schedule(shape, warmup, decay, floor):
    m = np.array([SHAPES[shape](k, warmup, decay, floor) for k in range(STEPS)])
    steep = quadratic_losses(0.5 * m, 1.0, start=3.0)
    flat = quadratic_losses(0.5 * m, 0.02, start=20.0)
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.4))
    left.plot(m, color=COLOR[shape], lw=2)
    left.set(
        ylim=(0, 1.05),
        xlabel="step",
        ylabel="rate / peak",
        title=f"{shape}: area {m.sum():.0f}",
    )
    for values, style, label in (
        (steep, ":", "steep"),
        (flat, "--", "flat"),
        (steep + flat, "-", "sum"),
    ):
        right.plot(values, style, color=COLOR[shape], label=label)
    right.set(
        yscale="log",
        ylim=(1e-3, 10),
        xlabel="step",
        ylabel="expected loss",
        title=f"at the end {steep[-1] + flat[-1]:.3f}",
    )
    right.minorticks_off()
    right.legend(fontsize=8, loc="lower left")
    for ax in (left, right):
        ax.title.set_fontsize(9)
    fig.subplots_adjust(0.09, 0.2, 0.99, 0.88, wspace=0.3)
    return fig


explore(
    draw_schedule,
    {
        "shape": list(SHAPES),
        "warmup": [0, 80],
        "decay": [0.1, 0.2, 0.5],
        "floor": [0.0, 0.2],
    },
    initial={"shape": "WSD", "warmup": 80, "decay": 0.2, "floor": 0.0},
    name="Any schedule, and what it does in a noisy valley",
    alt=lambda shape, warmup, decay, floor: (
        f"The {shape} schedule over {STEPS} steps with {warmup} steps of "
        f"warm-up, a decay over the last {decay:.0%} and a floor of "
        f"{floor:.0%}, where it has them, beside the expected "
        "loss in a steep and a flat direction."
    ),
)

# %% [markdown] tags=["skip"]
# Two things to see. With a floor of 0.2 the steep direction never comes to rest. And in this valley
# every step of warm-up is a loss: it takes area away and brings nothing. A quadratic needs no warm-up.

# %% [markdown] tags=["slide"]
# ## Why warm up, then?
#
# Because of what a quadratic does not have. Goyal et al. {cite:p}`goyal2017minibatch` needed a
# warm-up for very large batches, whose rate is larger than the curvature at the start allows; while
# the rate rises, training moves to regions that are flatter, and bears more {cite:p}`kalra2024warmup`. **Adam** has a
# second reason. Its first step, after the bias correction, is $\eta\, g/(\lvert g\rvert + \epsilon)$: the *full* rate in
# every coordinate, whatever the gradient. Only when signs have begun to vary is the mean smaller than
# the root mean square, and the steps shrink {cite:p}`ma2021warmup`; and a mean of squares
# over a handful of gradients is itself mostly chance {cite:p}`liu2020radam`. So Adam takes its longest steps
# when it knows least. What does it break? Count the hidden units that are zero for *every* input: a
# ReLU without a gradient, which hardly ever comes back.

# %% tags=["skip"]
def dead_units(model):
    """Share of the first layer that no validation image activates: (S,)."""
    x = data.validation.x.flatten(1)
    with torch.no_grad():
        hidden = x @ model.weights[0] + model.biases[0]  # (S, N, 64)
    return (hidden.amax(1) <= 0).double().mean(1)


def warmed_up(make, lr, warmup, measure_at=(300,)):
    """A cosine over 300 steps: [(step, validation losses, dead units)]."""
    model = MLPs(SIZES, TUNING_SEEDS)
    optimizer = make(model, lr)
    points = train(
        model,
        optimizer,
        data.train,
        steps=300,
        scheduler=cosine_with_warmup(optimizer, warmup, 300),
        measure=lambda: (validation(model), dead_units(model)),
        measure_at=measure_at,
    )
    return [(p.step, *p.value) for p in points]


def sgd(model, lr):
    return torch.optim.SGD(model.parameters(), lr, momentum=0.9)


looks = [1, 2, 5, 10, 20, 40, 80, 150, 300]
high_rate = {
    warmup: warmed_up(adamw, 0.04, warmup, looks) for warmup in (0, 20, 80)
}
at_the_end = {
    ("AdamW", 0.02): {w: warmed_up(adamw, 0.02, w)[-1] for w in (0, 20, 80)},
    ("AdamW", 0.04): {w: run[-1] for w, run in high_rate.items()},
    ("SGD", 0.2): {w: warmed_up(sgd, 0.2, w)[-1] for w in (0, 80)},
    ("SGD", 0.4): {w: warmed_up(sgd, 0.4, w)[-1] for w in (0, 80)},
}

# %% tags=["skip"]
model = MLPs(SIZES, TUNING_SEEDS)


def weights():
    return torch.cat([p.detach().flatten() for p in model.parameters()])


path = [weights()] + [
    point.value
    for point in train(
        model,
        adamw(model, 0.001),
        data.train,
        steps=100,
        measure=weights,
        measure_at=range(1, 101),
    )
]
sizes = [
    (new - old).abs().median().item() / 0.001
    for old, new in itertools.pairwise(path)
]

# %% mystnb={"figure": {"caption": "Left: size of Adam's steps without warm-up, as a share of the rate (at a small rate, so that nothing else changes). Right: units of the first hidden layer that died, at a high rate, with three warm-ups; mean and range of 3 seeds.", "name": "fig-warmup"}, "image": {"alt": "Left, a line that starts at 1 at the first step and falls to below 0.2 within 40 steps. Right, the share of dead units over the steps: without warm-up it rises to nearly half in the first 40 steps and stays; with 20 steps of warm-up it stays below a quarter, with 80 steps below a tenth."}} tags=["hide-input"]
fig, (left, right) = plt.subplots(
    1, 2, figsize=(7.2, 2.8), layout="constrained"
)
left.plot(range(1, 101), sizes, color="black")
left.set(
    xlabel="step",
    ylabel="median |step| / rate",
    ylim=(0, 1.05),
    title="AdamW, rate 0.001",
)
for (warmup, run), shade in zip(
    high_rate.items(), ("tab:red", "tab:orange", "tab:green"), strict=True
):
    dead = torch.stack([d for _, _, d in run])
    right.fill_between(
        looks, dead.amin(1), dead.amax(1), alpha=0.2, color=shade, lw=0
    )
    right.plot(looks, dead.mean(1), ".-", color=shade, label=f"{warmup} steps")
right.set(
    xscale="log",
    xlabel="step",
    ylabel="share of dead units",
    ylim=(0, None),
    title="AdamW, rate 0.04",
)
right.legend(title="warm-up", fontsize=8)
plt.show()

# %% tags=["hide-input"]
say(
    "| optimizer | rate | warm-up (steps) | validation loss (nats) | dead units (%) |\n|---|---|---|---|---|\n"
    + "\n".join(
        f"| {name} | {lr:g} | {warmup} | {loss.mean():.3f} ± {loss.std():.3f} | {100 * dead.mean():.0f} |"
        for (name, lr), runs in at_the_end.items()
        for warmup, (_, loss, dead) in runs.items()
    )
)
end = {
    key: {
        w: (loss.mean().item(), dead.mean().item())
        for w, (_, loss, dead) in runs.items()
    }
    for key, runs in at_the_end.items()
}
claim(
    "Adam's first step is {first:.2f} of the rate in the median, the hundredth "
    "{later:.2f}. At rate 0.04 a network that started at full rate ends with "
    "{dead:.0%} of its first layer dead and a loss of {cold:.2f}; warmed up "
    "over 80 steps, with {alive:.0%} and {warm:.2f}. SGD, whose steps shrink "
    "with the gradient, loses nothing by starting cold here: {sgd_cold:.2f} "
    "against {sgd_warm:.2f} at its better rate.",
    sizes[0] > 0.95
    and sizes[-1] < 0.3
    and end["AdamW", 0.04][0][1] > 3 * end["AdamW", 0.04][80][1]
    and end["AdamW", 0.04][0][0] > 1.2 * end["AdamW", 0.04][80][0]
    and abs(end["SGD", 0.2][0][0] / end["SGD", 0.2][80][0] - 1) < 0.1,
    first=sizes[0],
    later=sizes[-1],
    dead=end["AdamW", 0.04][0][1],
    cold=end["AdamW", 0.04][0][0],
    alive=end["AdamW", 0.04][80][1],
    warm=end["AdamW", 0.04][80][0],
    sgd_cold=end["SGD", 0.2][0][0],
    sgd_warm=end["SGD", 0.2][80][0],
)

# %% [markdown] tags=["skip"]
# The damage is done in the first tens of steps and is never repaired. That is what a warm-up
# buys: not speed, but a rate that could not be used otherwise.

# %% [markdown] tags=["slide"]
# ## The shapes
#
# Let $k$ count the optimizer steps *already taken*, $W$ the steps of warm-up, $T$ all of them, $r$ the
# floor as a share of the peak. The rate is $\eta_k = \eta\, m_k$ with a multiplier $m_k \in [0, 1]$. All
# shapes here begin with $m_k = k/W$ for $k < W$, except one-cycle. Then:
#
# **Cosine** {cite:p}`loshchilov2017sgdr`, with $p = (k-W)/(T-W)$:
#
# $$
# m_k = r + (1-r)\,\tfrac12 (1 + \cos \pi p), \qquad m_k = r \text{ for } k \ge T .
# $$ (eq-cosine)
#
# **Restarts** (the same paper): several cosines one after another, each $T_{\text{mult}}$ times
# as long. The end of each cycle is a model that one may keep: three or four budgets for one run, but
# each restart throws the settling away.
#
# **Warm-up, stable, decay** (WSD) {cite:p}`hu2024minicpm`: constant, then a decay over the last $D$ steps; of
# the forms tried, $1 - \sqrt{p}$ did best {cite:p}`hagele2024scaling`, with $p = (k - (T - D))/D$:
#
# $$
# m_k = \begin{cases} 1 & W \le k < T - D \\ r + (1-r)(1-\sqrt{p}) & T - D \le k < T . \end{cases}
# $$ (eq-wsd)
#
# Until step $T - D$ there is *no $T$ in it*. Whoever keeps a checkpoint of the stable run can
# decide afterwards how long the run was: {numref}`fig-decays` is just that.
#
# **One cycle** {cite:p}`smith2019superconvergence`: up along a cosine from $1/25$ for 30 % of the run, down to
# almost nothing for the rest, while the **momentum** goes the other way, from 0.95 to 0.85 and
# back {cite:p}`smith2018disciplined`. Under a steady gradient, momentum $\mu$ makes the steps $1/(1-\mu)$
# times as long, so that lowering it takes the edge off the peak.

# %% mystnb={"figure": {"caption": "The five shapes over 400 steps, with 40 steps of warm-up where there is one, and 60 steps past the end (gray).", "name": "fig-shapes"}, "image": {"alt": "Five panels of rate over step. Constant: a ramp, then flat. Cosine: a ramp, then half a wave down. Restarts: three half waves, each twice as long as the one before. One cycle: a smooth hill with its top at step 120. WSD: a ramp, flat to step 320, then a steep fall. Past step 400 all but the constant stay at their minimum."}} tags=["hide-input"]
fig, axes = plt.subplots(
    1, 5, figsize=(8, 1.8), sharey=True, layout="constrained"
)
k = range(STEPS + 60)
for ax, (shape, multiplier) in zip(axes, SHAPES.items(), strict=True):
    ax.plot(
        k, [multiplier(i, 40, 0.2, 0.0) for i in k], color=COLOR[shape], lw=2
    )
    ax.axvspan(STEPS, STEPS + 60, color="0.9", lw=0)
    ax.set(xlabel="step", xticks=[0, 200, 400])
    ax.set_title(shape, fontsize=9)
axes[0].set_ylabel("rate / peak")
plt.show()

# %% mystnb={"figure": {"caption": "One cycle over 400 steps: rate, momentum, and the product of rate and 1/(1 − momentum), which is the length of a step under a steady gradient, with the momentum cycled (solid) or fixed at 0.95 (dashed).", "name": "fig-one-cycle"}, "image": {"alt": "Three panels over 400 steps. The rate rises to 1 at step 120 and falls to 0. The momentum falls from 0.95 to 0.85 at step 120 and rises again. The product peaks below 7 with cycled momentum, at 20 with fixed momentum."}} tags=["hide-input"]
k = np.arange(STEPS)
rate = np.array([one_cycle_multiplier(i, STEPS) for i in k])
momentum = np.array([one_cycle_momentum(i, STEPS) for i in k])
reach, reach_fixed = rate / (1 - momentum), rate / (1 - 0.95)
fig, axes = plt.subplots(1, 3, figsize=(7.4, 2.2), layout="constrained")
axes[0].plot(k, rate, color=COLOR["one cycle"])
axes[1].plot(k, momentum, color=COLOR["one cycle"])
axes[2].plot(k, reach, color=COLOR["one cycle"])
axes[2].plot(k, reach_fixed, "--", color="0.5")
for ax, label in zip(
    axes, ("rate / peak", "momentum", "rate / (1 − momentum)"), strict=True
):
    ax.set(xlabel="step", ylabel=label)
plt.show()

# %% tags=["hide-input"]
claim(
    "With the momentum cycled, the reach of a step peaks at {cycled:.1f} times "
    "the peak rate; fixed at 0.95 it would be {fixed:.0f}.",
    reach.max() < reach_fixed.max() / 2.5,
    cycled=reach.max(),
    fixed=reach_fixed.max(),
)

# %% [markdown] tags=["slide"]
# ## What the document's schedules do
#
# All three look right in a plot of the default case. Five of the defects; all of them, with the
# tests that show them, stand in the {doc}`errata </book/errata>`.
#
# **A rate compared with a ratio, by a maximum.** `LambdaLR` multiplies what the function returns by the
# base rate, but the listing's floor is meant as a rate: `max(lr_end, …)`. And it has no end:

# %% tags=["skip"]
def listing_cosine(k, warmup=10, total=100, lr_end=1e-5):
    """What the listing gives to LambdaLR, for the default number of cycles."""
    if k < warmup:
        return k / warmup
    progress = (k - warmup) / (total - warmup)
    return max(lr_end, 0.5 * (1 + math.cos(math.pi * progress)))


def parameter():
    return [torch.nn.Parameter(torch.ones(1))]


base = 0.1

# %% tags=["hide-input"]
claim(
    "With base rate {base} and `lr_end=1e-5` the listing's rate at step 100 is "
    "{wrong:.0e}, a tenth of what was asked for. Five steps later it has risen "
    "to {later:.1e}, and at step 190 it is back at {back:.2f}. Ours: "
    "{right:.0e}, at step 100 and ever after.",
    math.isclose(base * listing_cosine(100), 1e-6)
    and base * listing_cosine(105) > 100 * base * listing_cosine(100)
    and all(
        math.isclose(
            WarmupCosineLR(
                torch.optim.SGD(parameter(), base), 10, 100, min_lr=1e-5
            ).rates_at(k)[0],
            1e-5,
        )
        for k in range(100, 300)
    ),
    base=base,
    wrong=base * listing_cosine(100),
    later=base * listing_cosine(105),
    back=base * listing_cosine(190),
    right=1e-5,
)

# %% [markdown] tags=["skip"]
# A maximum also cuts the cosine off instead of ending it: with a floor of 0.2 the listing's last
# steps all have the same rate, and half-way down nothing is seen of the floor.

# %% [markdown] tags=["slide"]
# **The function is not in the checkpoint.** `LambdaLR` saves the step, but a Python function is not a number.
# Save half-way through 100 steps, load into a run of 60:

# %% tags=["skip"]
optimizer = torch.optim.SGD(parameter(), lr=0.1)
schedule = LambdaLR(optimizer, listing_cosine)
for _ in range(50):
    optimizer.step()
    schedule.step()
state = schedule.state_dict()

other = torch.optim.SGD(parameter(), lr=0.1)
short = LambdaLR(other, lambda k: listing_cosine(k, total=60))
short.load_state_dict(state)  # not a word
rate_after_loading = other.param_groups[0]["lr"]
for o, s in ((optimizer, schedule), (other, short)):
    o.step()
    s.step()
rate, other_rate = (o.param_groups[0]["lr"] for o in (optimizer, other))

# %% tags=["hide-input"]
claim(
    "The first step after loading is made at rate {loaded:g}, that of step 0. "
    "Then the two runs part: {a:.4f} and {b:.4f}. Nothing was said.",
    rate_after_loading == 0 and other_rate < rate / 4,
    loaded=rate_after_loading,
    a=rate,
    b=other_rate,
)

# %% [markdown] tags=["slide"]
# **The warm-up that does not warm the first step.** The listing's `WarmupScheduler` writes a rate only when
# it is stepped, *after* the first step of the optimizer. And once the warm-up is over it asks for a
# `total_steps` that it never stored:

# %% tags=["nbval-check-output"]
class ListingWarmup:
    """The listing's WarmupScheduler, without the lines that work."""

    def __init__(self, optimizer, warmup_steps, max_lr):
        self.optimizer, self.warmup_steps = optimizer, warmup_steps
        self.max_lr, self.current_step = max_lr, 0

    def step(self):
        self.current_step += 1
        share = self.current_step / self.warmup_steps
        if share > 1:
            past = self.current_step - self.warmup_steps
            share = past / (self.total_steps - self.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.max_lr * share


optimizer = torch.optim.SGD(parameter(), lr=1.0)
schedule = ListingWarmup(optimizer, warmup_steps=5, max_lr=0.1)
used = []
try:
    for _ in range(10):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
except AttributeError as error:
    print(f"after {len(used)} steps:", error)
print("rates used:", [round(rate, 3) for rate in used])

# %% [markdown] tags=["slide"]
# **One cycle for optimizers that have no momentum.** The listing takes torch's `OneCycleLR` as it is. That
# cycles `betas[0]`, or `momentum`, wherever it finds the *key*. Every SGD has the key:

# %% tags=["skip"]
plain = torch.optim.SGD(parameter(), lr=0.1)
lion = Lion(parameter(), lr=0.001)
for optimizer in (plain, lion):
    OneCycleLR(optimizer, max_lr=0.1, total_steps=20)
ours = torch.optim.SGD(parameter(), lr=0.1), Lion(parameter(), lr=0.001)
for optimizer in ours:
    one_cycle(optimizer, max_lr=0.1, total_steps=20)

# %% tags=["hide-input"]
claim(
    "Plain SGD now has momentum {sgd}, and Lion's β₁, which is no momentum, is "
    "{lion}. Under ours they keep {own_sgd} and {own_lion}.",
    plain.param_groups[0]["momentum"] == 0.95
    and lion.param_groups[0]["betas"][0] == 0.95
    and ours[0].param_groups[0]["momentum"] == 0
    and ours[1].param_groups[0]["betas"][0] == 0.9,
    sgd=plain.param_groups[0]["momentum"],
    lion=lion.param_groups[0]["betas"][0],
    own_sgd=ours[0].param_groups[0]["momentum"],
    own_lion=ours[1].param_groups[0]["betas"][0],
)

# %% [markdown] tags=["slide"]
# **A cycle that ends a step early.** After as many steps as it was built for, the rate jumps:

# %% tags=["skip"]
optimizer = torch.optim.SGD(parameter(), lr=0.1, momentum=0.9)
schedule = OneCycleLR(optimizer, max_lr=0.1, total_steps=10)
used = []
try:
    for _ in range(12):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
except ValueError as error:
    print(error)

# %% tags=["hide-input"]
claim(
    "The tenth step was made at {last:.0e}; an eleventh, which the schedule "
    "allowed, at {bounce:.0e}: a step {times:,.0f} times as long, into a model "
    "that had come to rest.",
    used[9] < 1e-6 and used[10] > 1e-3 and len(used) == 11,
    last=used[9],
    bounce=used[10],
    times=used[10] / used[9],
)

# %% [markdown] tags=["slide"]
# ## Schedules, corrected
#
# A shape is a pure function of the step, which can be plotted and tested without an optimizer:

# %%
show_source(cosine_multiplier)
show_source(wsd_multiplier)

# %% [markdown] tags=["skip"]
# One class turns any of them into a scheduler. Its heart is two methods: the rate at *any* step, and going
# there. All state that a schedule has is one number, so that resuming and branching are the same
# thing.

# %%
show_source(MultiplierLR.rates_at)
show_source(MultiplierLR.move_to)

# %% [markdown] tags=["skip"]
# Proof on the page: closed forms over whole runs at once, in NumPy, which share no line with the package.
# A half-angle, $\tfrac12(1+\cos\pi p) = \cos^2(\pi p/2)$, stands for the cosine, a table of starts for the restarts.

# %% tags=["skip"]
def warmed(k, warmup, m):
    return np.where(k < warmup, k / max(1, warmup), m)


def half_wave(p):
    return np.cos(np.pi / 2 * np.clip(p, 0, 1)) ** 2


def cosine_numpy(k, W, T, r):
    m = half_wave((k - W) / max(1, T - W))
    return warmed(k, W, r + (1 - r) * m)


def wsd_numpy(k, W, T, fraction, r):
    D = max(1, round(fraction * T))
    p = np.clip((k - T + D) / D, 0, 1)
    return warmed(k, W, r + (1 - r) * (1 - p**0.5))


def restarts_numpy(k, W, first, cycles, growth, r):
    lengths = first * growth ** np.arange(cycles)
    ends = W + np.cumsum(lengths)
    i = np.minimum(np.searchsorted(ends, k, side="right"), cycles - 1)
    m = half_wave((k - (ends - lengths)[i]) / lengths[i])
    return warmed(k, W, r + (1 - r) * m)


def one_cycle_numpy(k, T, share, low, peak, end):
    top = share * T - 1
    rise = peak + (low - peak) * half_wave(k / top)
    fall = end + (peak - end) * half_wave((k - top) / (T - 1 - top))
    return np.where(k <= top, rise, fall)


worst = 0.0
for _ in range(50):
    T = int(rng.integers(20, 120))
    W, r = int(rng.integers(0, T // 2)), rng.uniform(0, 1)
    fraction, share = rng.uniform(0.01, 0.45), rng.uniform(0.2, 0.8)
    first, cycles, growth = (int(n) for n in rng.integers(1, [20, 5, 4]))
    k = np.arange(T + T // 2)  # the run, and half as long past its end
    pairs = [
        (cosine_multiplier, cosine_numpy, (W, T), (W, T, r)),
        (wsd_multiplier, wsd_numpy, (W, T, fraction), (W, T, fraction, r)),
        (
            restarts_multiplier,
            restarts_numpy,
            (W, first, cycles, growth),
            (W, first, cycles, growth, r),
        ),
    ]
    found = [
        (
            [function(int(i), *arguments, min_lr_ratio=r) for i in k],
            closed(k, *numbers),
        )
        for function, closed, arguments, numbers in pairs
    ]
    for function, ends in (
        (one_cycle_multiplier, (1 / 25, 1, 1 / 250_000)),
        (one_cycle_momentum, (0.95, 0.85, 0.95)),
    ):
        found.append(
            (
                [function(int(i), T, share) for i in k],
                one_cycle_numpy(k, T, share, *ends),
            )
        )
    worst = max(worst, *(np.abs(ours - closed).max() for ours, closed in found))

# %% tags=["hide-input"]
claim(
    "Over 50 random settings of each, through the run and half as long past "
    "its end, the largest difference is {worst:.0e}.",
    worst < 1e-12,
    worst=worst,
)

# %% [markdown] tags=["skip"]
# The test suite compares whole runs with `transformers`, `timm` and torch too, to $10^{-9}$, up to the last step;
# past it they differ among themselves. The cosine of `transformers` has no bound on its progress
# and comes up again, as the listing's does and torch's `CosineAnnealingLR` too:

# %% tags=["skip"]
unbounded = 0.5 * (1 + math.cos(math.pi * 150 / 100))

# %% tags=["hide-input"]
claim(
    "Trained for 150 steps with a schedule for 100, such a run is back at "
    "{theirs:.0%} of its peak rate. Ours stays at {ours:.0%}.",
    unbounded > 0.49 and cosine_multiplier(150, 0, 100) == 0,
    theirs=unbounded,
    ours=cosine_multiplier(150, 0, 100),
)

# %% [markdown] tags=["slide"]
# ### The order: first the optimizer, then the schedule
#
# A scheduler sets the rate of step 0 when it is built. So the loop is `optimizer.step()`, then
# `scheduler.step()`, and the optimizer's $k$-th step runs at $\eta_k$. The other way round, the first rate is
# never used:

# %% tags=["nbval-check-output"]
def rates_used(*order):
    optimizer = torch.optim.SGD(parameter(), lr=1.0)
    schedule = cosine_with_warmup(optimizer, 2, 6)
    used = []
    for _ in range(6):
        for part in order:
            if part == "optimizer":
                used.append(round(optimizer.param_groups[0]["lr"], 3))
                optimizer.step()
            else:
                schedule.step()
    return used


print("optimizer first:", rates_used("optimizer", "schedule"))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print("schedule first: ", rates_used("schedule", "optimizer"))
print("warning:", str(caught[0].message).split(". ")[0])

# %% [markdown] tags=["skip"]
# ### Stop and resume
#
# A run is more than its weights: the optimizer's moments, the schedule's step and the place in the data belong to
# it. With all four, resumed is the same as never stopped, to the last bit:

# %% tags=["skip"]
def begin():
    model = MLPs(SIZES, seeds=(0,))
    optimizer = adamw(model, 0.02)
    return model, optimizer, cosine_with_warmup(optimizer, 10, 60)


def run_to(parts, steps, start=0):
    model, optimizer, schedule = parts
    train(
        model,
        optimizer,
        data.train,
        steps=steps,
        start=start,
        scheduler=schedule,
    )


whole = begin()
run_to(whole, 60)

stopped, file = begin(), io.BytesIO()
run_to(stopped, 37)
torch.save([part.state_dict() for part in stopped], file)

file.seek(0)
resumed = begin()
for part, state in zip(
    resumed, torch.load(file, weights_only=True), strict=True
):
    part.load_state_dict(state)
run_to(resumed, 60, start=37)

# %% tags=["hide-input"]
claim(
    "Stopped at step {at}, written to a file, loaded and continued to step 60: "
    "every weight has the same bits as in the run that was never stopped, and "
    "the schedule stands at the same rate.",
    all(
        torch.equal(a, b)
        for a, b in zip(
            whole[0].parameters(), resumed[0].parameters(), strict=True
        )
    )
    and whole[2].get_last_lr() == resumed[2].get_last_lr(),
    at=37,
)

# %% [markdown] tags=["skip"]
# And what `LambdaLR` did in silence is refused, with the way to do it on purpose:

# %% tags=["nbval-check-output"]
longer = cosine_with_warmup(adamw(MLPs(SIZES, (0,)), 0.02), 10, 90)
try:
    longer.load_state_dict(stopped[2].state_dict())
except ValueError as error:
    print(error)

# %% [markdown] tags=["skip"]
# ## Details that decide
#
# 1. **$T$ counts optimizer steps, warm-up included**: not epochs, not batches when gradients are accumulated
#    over several. A number of epochs put where steps are wanted gives a schedule that is over
#    in the first minute.
# 2. **The first of $W$ warm-up steps has rate 0.** Weights do not move, but Adam's moments take the gradient
#    in. `transformers` does the same; torch's `LinearLR` starts at a third (PyTorch documentation).
# 3. **The floor by interpolation.** A maximum leaves the shape and puts a kink in it; the squeezed
#    cosine {eq}`eq-cosine` meets the floor at the end only {cite:p}`loshchilov2017sgdr`.
# 4. **A ratio or a rate: say which.** With several groups they differ: a ratio gives each its own floor,
#    a rate the same for all (`cosine_with_warmup(min_lr_ratio=…)`, `WarmupCosineLR(min_lr=…)`).
# 5. **Each parameter group keeps its own base rate.** Writing one rate into all of them, as the
#    listing does, undoes every layer-wise setting.
# 6. **The schedule also schedules the weight decay.** In AdamW the decay is multiplied by the rate
#    {cite:p}`loshchilov2019adamw`: at the end of a cosine there is none.
# 7. **A skipped step is no step.** When a gradient scaler skips `optimizer.step()` for an overflow, the
#    schedule must wait as well, or the warm-up is spent on steps that were not made (PyTorch documentation).
# 8. **Restarts are counted in whole numbers.** A cycle's number found by a logarithm is rounded: in `timm` 1.0 the
#    fifth restart of cycles that triple comes a step late (our test suite shows it).
# 9. **A branch must restore the optimizer too.** The decay starts from Adam's moments of that step;
#    with fresh ones it begins with the full-length steps of {numref}`fig-warmup`.
# 10. **The rate may be a tensor.** `torch.compile` compiles a rate that is a Python number into the step, and again
#     when it changes; ours writes into the tensor where there is one (PyTorch documentation of `torch.compile`).

# %% [markdown] tags=["slide"]
# ## The experiment
#
# **Task.** Digits on a 14 × 14 canvas, moved by up to 3 pixels; two hidden layers of 64; batches of 64.
# **Contestants.** AdamW without decay of the weights under a constant rate, a cosine, WSD (decay over the last
# fifth) and one cycle, and Schedule-Free AdamW; 20 steps of warm-up for all but one cycle, which has its own.
# **Fairness.** Each gets 4 rates × 3 seeds at a budget of 400 steps, and the best *validation* loss
# chooses. Then 5 *new* seeds, on the test split, once.

# %% tags=["skip"]
BUDGET = 400
RATES = [0.005, 0.01, 0.02, 0.04]
CONTESTANTS = {
    "constant": lambda o, T: MultiplierLR(o, stable, warmup=WARMUP),
    "cosine": lambda o, T: cosine_with_warmup(o, WARMUP, T),
    "one cycle": lambda o, T: one_cycle(o, o.param_groups[0]["lr"], T),
    "WSD": lambda o, T: warmup_stable_decay(o, WARMUP, T),
    "Schedule-Free": lambda o, T: None,
}


def contest(name, lr, steps, *, seeds, measure, measure_at=()):
    """Train under one contestant: {step: measure(model)}."""
    model = MLPs(SIZES, seeds)
    if name == "Schedule-Free":
        optimizer = AdamWScheduleFree(
            model.parameters(), lr=lr, warmup_steps=WARMUP
        )
    else:
        optimizer = adamw(model, lr)
    points = train(
        model,
        optimizer,
        data.train,
        steps=steps,
        scheduler=CONTESTANTS[name](optimizer, steps),
        measure=lambda: measure(model),
        measure_at=measure_at or (steps,),
    )
    return {p.step: p.value for p in points}


tuning = {
    name: {
        lr: contest(name, lr, BUDGET, seeds=TUNING_SEEDS, measure=validation)[
            BUDGET
        ].mean()
        for lr in RATES
    }
    for name in CONTESTANTS
}
best = {name: min(table, key=table.get) for name, table in tuning.items()}

# %% tags=["hide-input"]
say(
    "| validation loss (nats) at rate | "
    + " | ".join(f"{lr:g}" for lr in RATES)
    + " |\n|---|"
    + "---|" * len(RATES)
    + "\n"
    + "\n".join(
        f"| {name} | "
        + " | ".join(
            f"**{table[lr]:.3f}**" if lr == best[name] else f"{table[lr]:.3f}"
            for lr in RATES
        )
        + " |"
        for name, table in tuning.items()
    )
)
claim(
    "No choice lies at an edge of the grid. The longer a schedule stays at its "
    "peak, the lower the peak that it wants: {constant:g} for the constant "
    "rate, {wsd:g} for WSD, {cosine:g} for the cosine.",
    all(RATES[0] < lr < RATES[-1] for lr in best.values())
    and best["constant"] <= best["WSD"] <= best["cosine"],
    constant=best["constant"],
    wsd=best["WSD"],
    cosine=best["cosine"],
)

# %% [markdown] tags=["slide"]
# ### When the budget is not known
#
# Now the harder question: five budgets, 100 to 1,600 steps, at the rates found for 400. A cosine needs a run of its own
# for each. Schedule-Free is one run, measured on the way. WSD is one stable run, from which a decay branches
# off a fifth before each budget; the stable run itself is the constant rate.

# %% tags=["skip"]
BUDGETS = [100, 200, 400, 800, 1600]
TEST_SEEDS = tuple(range(10, 15))


def all_losses(model):
    """Test, training and validation loss of each seed: (3, S)."""
    splits = data.test, data.train, data.validation
    return torch.stack([losses(model, split) for split in splits])


def contest_for_test(name, steps, measure_at=()):
    return contest(
        name,
        best[name],
        steps,
        seeds=TEST_SEEDS,
        measure=all_losses,
        measure_at=measure_at,
    )


lines = {
    "cosine, a run for each": {
        steps: contest_for_test("cosine", steps)[steps] for steps in BUDGETS
    },
    "Schedule-Free, one run": contest_for_test(
        "Schedule-Free", BUDGETS[-1], BUDGETS
    ),
}
branch_at = {steps: steps - round(0.2 * steps) for steps in BUDGETS}
held = stable_run(
    best["WSD"],
    TEST_SEEDS,
    BUDGETS[-1],
    all_losses,
    {*BUDGETS, *branch_at.values()},
)
lines["WSD, one run and branches"] = {
    steps: decay_from(
        held[start][1],
        best["WSD"],
        TEST_SEEDS,
        start,
        steps,
        all_losses,
        [steps],
    )[steps]
    for steps, start in branch_at.items()
}
lines["constant, that run itself"] = {
    steps: held[steps][0] for steps in BUDGETS
}
fixed = {
    "constant": contest_for_test("constant", BUDGET)[BUDGET],
    "cosine": lines["cosine, a run for each"][BUDGET],
    "one cycle": contest_for_test("one cycle", BUDGET)[BUDGET],
    "WSD": lines["WSD, one run and branches"][BUDGET],
    "Schedule-Free": lines["Schedule-Free, one run"][BUDGET],
}

# %% tags=["hide-input"]
say(
    "**The budget known: 400 steps.**\n\n| schedule | rate | test loss (nats) | training loss (nats) |\n|---|---|---|---|\n"
    + "\n".join(
        f"| {name} | {best[name]:g} | {test.mean():.3f} ± {test.std():.3f} | {fit.mean():.3f} ± {fit.std():.3f} |"
        for name, (test, fit, _) in fixed.items()
    )
    + "\n\nMean ± standard deviation over {n} seeds.",
    n=len(TEST_SEEDS),
)
claim(
    "Schedule-Free and WSD have a lower test loss than the cosine for every "
    "one of the seeds, and every schedule a lower one than none. Between the "
    "first two, {free:.3f} and {wsd:.3f}, the difference is smaller than the "
    "spread over seeds: no order.",
    all(
        (fixed[n][0] < fixed["cosine"][0]).all()
        for n in ("WSD", "Schedule-Free")
    )
    and all((fixed[n][0] < fixed["constant"][0]).all() for n in list(fixed)[1:])
    and (fixed["WSD"][0].mean() - fixed["Schedule-Free"][0].mean()).abs()
    < fixed["WSD"][0].std(),
    free=fixed["Schedule-Free"][0].mean().item(),
    wsd=fixed["WSD"][0].mean().item(),
)

# %% mystnb={"figure": {"caption": "Loss against the budget, on the test split (left) and the training split (right); mean and range of 5 seeds, both axes logarithmic. Rates were tuned at 400 steps.", "name": "fig-budgets"}, "image": {"alt": "Two panels of loss against budgets from 100 to 1,600 steps for cosine, Schedule-Free, WSD and the constant rate. On the test split Schedule-Free is lowest up to 400 steps, and flattens after 800. On the training split Schedule-Free is lowest at every budget. The constant rate is above the others from 200 steps."}} tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
for (label, points), style in zip(
    lines.items(), ("s--", "o-", "^-", "x:"), strict=True
):
    color = COLOR[label.split(",")[0]]
    values = torch.stack([points[b] for b in BUDGETS])  # (budgets, 3, S)
    for i, ax in enumerate(axes):
        ax.fill_between(
            BUDGETS,
            values[:, i].amin(1),
            values[:, i].amax(1),
            color=color,
            alpha=0.15,
            lw=0,
        )
        ax.plot(
            BUDGETS,
            values[:, i].mean(1),
            style,
            color=color,
            label=label if i == 0 else None,
        )
for ax, split in zip(axes, ("test", "training"), strict=True):
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="budget (steps)",
        ylabel=f"{split} loss (nats)",
        xticks=BUDGETS,
        xticklabels=BUDGETS,
    )
    ax.minorticks_off()
axes[0].set_yticks([0.3, 0.5, 1.0], [0.3, 0.5, 1.0])
axes[1].set_yticks([0.03, 0.1, 0.3, 1.0], [0.03, 0.1, 0.3, 1.0])
fig.legend(loc="outside lower center", ncols=2)
plt.show()

# %% tags=["hide-input"]
cosine_line, free_line, wsd_line, _ = lines.values()
others = [line for line in lines.values() if line is not free_line]


def mean(line, budget, split):
    return (
        line[budget][("test", "training", "validation").index(split)]
        .mean()
        .item()
    )


claim(
    "**Short budgets: Schedule-Free.** At 100 and 200 steps its test loss is "
    "below every other's for every seed: {free_100:.2f} and {free_200:.2f}, "
    "where WSD has {wsd_100:.2f} and {wsd_200:.2f}. **Long ones: WSD**, with "
    "{wsd_800:.3f} at 800 and {wsd_1600:.3f} at 1,600, where Schedule-Free has "
    "{free_800:.3f} and {free_1600:.3f} and the cosine {cosine_800:.3f} and "
    "{cosine_1600:.3f}.",
    all(
        (free_line[b][0] < line[b][0]).all()
        for b in (100, 200)
        for line in others
    )
    and all(
        mean(wsd_line, b, "test") < mean(line, b, "test")
        for b in (800, 1600)
        for line in (cosine_line, free_line)
    ),
    **{
        f"{name}_{b}": mean(line, b, "test")
        for name, line in (
            ("cosine", cosine_line),
            ("free", free_line),
            ("wsd", wsd_line),
        )
        for b in BUDGETS
    },
)
paid = {
    "cosine": sum(BUDGETS),
    "WSD": max(branch_at.values()) + sum(b - s for b, s in branch_at.items()),
    "Schedule-Free": BUDGETS[-1],
}
claim(
    "**The price of the five models**: {cosine:,} steps with cosines, {wsd:,} "
    "with WSD, {free:,} with Schedule-Free.",
    paid["Schedule-Free"] < paid["WSD"] < paid["cosine"],
    cosine=paid["cosine"],
    wsd=paid["WSD"],
    free=paid["Schedule-Free"],
)

# %% [markdown] tags=["skip"]
# Before you conclude anything from the right end of that figure, two checks.
#
# **Has Schedule-Free stopped optimizing?** Look at the right panel: its *training* loss is the lowest at every
# budget. **Is WSD better than a cosine?** The rates were tuned at 400 steps, and a cosine for 1,600 may want
# another one. Let us ask the validation split:

# %% tags=["skip"]
retuned = contest(
    "cosine",
    best["cosine"] / 2,
    BUDGETS[-1],
    seeds=TEST_SEEDS,
    measure=validation,
)[BUDGETS[-1]]

# %% tags=["hide-input"]
claim(
    "From 800 to 1,600 steps Schedule-Free's training loss falls from "
    "{fit_800:.3f} to {fit_1600:.3f}, the lowest of all, while its test loss "
    "stays where it is ({test_800:.3f}, {test_1600:.3f}): it is overfitting, "
    "not failing to optimize.",
    all(
        (free_line[b][1] < line[b][1]).all() for b in BUDGETS for line in others
    )
    and mean(free_line, 1600, "test") > 0.9 * mean(free_line, 800, "test"),
    fit_800=mean(free_line, 800, "training"),
    fit_1600=mean(free_line, 1600, "training"),
    test_800=mean(free_line, 800, "test"),
    test_1600=mean(free_line, 1600, "test"),
)
claim(
    "At 1,600 steps the cosine has a validation loss of {tuned:.3f} with the "
    "rate that won at 400, and {retuned:.3f} with half of it, which lost "
    "there. WSD has {wsd:.3f}. Its lead at 1,600 steps is an artefact of where "
    "we tuned.",
    retuned.mean() - mean(wsd_line, 1600, "validation")
    < 0.25
    * (
        mean(cosine_line, 1600, "validation")
        - mean(wsd_line, 1600, "validation")
    ),
    tuned=mean(cosine_line, 1600, "validation"),
    retuned=retuned.mean().item(),
    wsd=mean(wsd_line, 1600, "validation"),
)

# %% [markdown] tags=["skip"]
# So what carries over is not "WSD beats the cosine". It is that WSD does *about as well* at a known budget,
# which is what others find at scale too {cite:p}`hagele2024scaling`, and serves all budgets with one run;
# that Schedule-Free needs no plan at all and fits the training data fastest; and that a good rate depends
# on the budget, so that whoever tunes at one and trains at another will be misled.

# %% [markdown] tags=["skip"]
# ## At scale
#
# A schedule costs nothing: one number a step, computed on the host, the same on each rank, with
# nothing to communicate. There is no GPU cell here because there is nothing to put on a GPU.

# %% tags=["skip", "hide-input"]
schedule = cosine_with_warmup(torch.optim.SGD(parameter(), lr=0.1), 10, 5000)
schedule.optimizer.step()
begun = time.perf_counter()
for _ in range(1000):
    schedule.step()
say(
    "Here a step of the schedule took {microseconds:.0f} µs of one CPU core.",
    microseconds=1000 * (time.perf_counter() - begun),
)

# %% [markdown] tags=["skip"]
# What it decides is expensive. To learn how loss falls with compute, one needs models of many budgets; with a
# cosine, whose length must match each of them {cite:p}`hoffmann2022chinchilla`, every point of the curve is a run of its own. Stable runs
# with branches make a fraction of it, as in the sum above. A stable run can also be prolonged when more
# data or machines come, which a finished cosine can't without being warmed up again. In a sharded run
# (section 119.1a) save `schedule.state_dict()` beside the optimizer's; it is a handful of numbers.

# %% [markdown] tags=["skip"]
# ## Limits
#
# - One small task, one network, one batch size, no weight decay, and a data set that a long run overfits. The order of
#   schedules changes with all of these; the two jobs of the rate do not.
# - Rates were tuned in factors of 2, at one budget. We saw what that does at four times the budget.
# - The share of the decay (a fifth) and the warm-up (20 steps) were not tuned; nor Schedule-Free's betas. Restarts did not
#   compete.
# - The noisy quadratic explains the floor and the area. It knows nothing of warm-up, nor of overfitting.
# - At work use your framework's own: torch's `SequentialLR` and `OneCycleLR`, `transformers`, `timm`. Test what they do on
#   the last step, past it, and on resuming; use ours to compare with.

# %% [markdown] tags=["skip"]
# ## Exercises
#
# Each has a cell for your answer and a check that tells what is wrong with it; ask it again for the
# next hint. Until you change a cell, the notebook runs past it.

# %% [markdown] tags=["skip"]
# {{exercise 119.3.predict-resume}}

# %% [markdown] tags=["skip"]
# {{exercise 119.3.cosine-floor}}

# %% [markdown] tags=["skip"]
# {{exercise 119.3.expected-losses}}

# %% [markdown] tags=["skip"]
# {{exercise 119.3.wsd}}

# %% [markdown] tags=["skip"]
# {{exercise 119.3.decay-on-demand}}

# %% [markdown] tags=["skip"]
# ## Quiz

# %% [markdown] tags=["skip"]
# {{quiz 119.3}}

# %% [markdown] tags=["slide"]
# ## Summary
#
# - A large rate covers distance (the area under the schedule), a small one at the end takes the noise out (the floor goes with the rate).
# - Warm-up is for the steps that Adam takes before it knows anything; without it a high rate does damage that lasts.
# - A schedule is a pure function of the step: to resume, to branch and to plot are one operation.
# - Optimizer first, then schedule; past the end the rate stays at its minimum; a floor is a ratio or a rate, and says which.
# - Budget known: a cosine, one cycle or WSD, tuned at *that* budget. Not known: WSD with branches, or Schedule-Free.
#
# References: each citation above leads to its source; the
# {doc}`bibliography </book/bibliography>` lists them all.
