# %% [markdown] tags=["slide"]
# (sec-119-3)=
# # 119.3 Learning-rate schedules
#
# The learning rate is the first number that one tunes, and it should hardly ever be constant. At
# the end of this section you can say what the beginning of a schedule is for and what its end is
# for, choose a shape by what you know about your budget, compare schedules fairly, and stop and
# resume in the middle of one without changing a bit of the result.
#
# You need: Python, a first course in deep learning (gradient descent, Adam), and no GPU. Section
# {doc}`119.2 <2_optimizers>` introduces Schedule-Free, which competes in the experiment.

# %% tags=["definitions", "hide-input", "skip"]
import io
import math
import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

from dlcourse.experiments import MLPs, losses, train
from dlcourse.large_scale_training import (
    Lion,
    MultiplierLR,
    WarmupCosineLR,
    cosine_multiplier,
    cosine_with_warmup,
    one_cycle,
    one_cycle_momentum,
    one_cycle_multiplier,
    restarts_multiplier,
    wsd_multiplier,
)
from dlcourse.large_scale_training.experiments.rates import (
    RIVALS,
    SIZES,
    adamw,
    choose,
    compete,
    decay_from,
    digits_task,
    stable,
    stable_run,
    step_sizes,
    tune,
    warmed_up,
)
from dlcourse.notebook import (
    claim,
    explore,
    keep,
    recorded,
    say,
    show_source,
)

plt.style.use("dlcourse.notebook.course")
COLOR = {
    "constant": "0.5",
    "averaged": "tab:orange",
    "cosine": "tab:blue",
    "restarts": "tab:brown",
    "one cycle": "tab:purple",
    "WSD": "tab:red",
    "Schedule-Free": "tab:green",
}
SEEDS = range(5)
data = digits_task()  # digits on 14 × 14 pixels, moved by up to 3


def validation(model):
    return losses(model, data.validation)


def parameter():
    return [torch.nn.Parameter(torch.ones(1))]

# %% [markdown] tags=["slide"]
# ## A question
#
# A network is trained at a constant rate. After some hundred steps it hardly gets better. Now take
# *smaller and smaller* steps, eighty of them, and stop. What can so little movement bring?

# %% tags=["skip"]
CUTS, LENGTH, LAST = [200, 400, 600], 80, 680
held = stable_run(
    data, 0.02, SEEDS, LAST, validation, range(20, LAST + 1, 20)
)
decayed = {
    cut: decay_from(
        data,
        held[cut][1],
        0.02,
        SEEDS,
        cut,
        cut + LENGTH,
        validation,
        range(cut + 10, cut + LENGTH + 1, 10),
    )
    for cut in CUTS
}

# %% mystnb={"figure": {"caption": "Validation loss at a constant rate (gray), and of three decays to zero over 80 steps that branch off from it; mean of 5 seeds. The loss falls fastest when the steps get smaller.", "name": "fig-decays"}, "image": {"alt": "Line plot of validation loss over 680 steps. The gray line of the constant rate falls slowly and wavers. At steps 200, 400 and 600 a red line leaves it and falls steeply within 80 steps."}} tags=["hide-input", "plot"]
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

# %% tags=["hide-input", "check"]
after = {cut: decayed[cut][cut + LENGTH].mean().item() for cut in CUTS}
claim(
    "From step 400 the constant rate goes from {before:.2f} to {constant:.2f} "
    "in 280 steps. The decay goes to {after:.2f} in 80, lower than the constant "
    "rate is at any of the steps shown. But the time at the large rate counts "
    "too: decays from steps 200, 400 and 600 end at {a:.2f}, {b:.2f} and "
    "{c:.2f}.",
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
# So the 400 steps at the constant rate had done something that the loss did not show. A large rate
# and a small rate do different work. What is it?

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
# \prod_k (1-\eta_k h)^2 \approx \exp\Bigl(-2h \sum_k \eta_k\Bigr)
# \quad\text{as long as every } \eta_k h \ll 1 .
# $$ (eq-area)
#
# In such a direction only the *area* under the schedule counts, and where the curvature is small,
# the area must be large. (Where $\eta_k h$ is near 1, one step forgets nearly everything, and the
# area says nothing.) The second part **adds noise**. At a constant rate the two balance at the loss
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
left_over = {  # after 20 steps at ηh, beside what the area says
    step: ((1 - step) ** 40, math.exp(-40 * step)) for step in (0.02, 0.5)
}

# %% tags=["hide-input", "check"]
claim(
    "20,000 noisy runs under a cosine end at a mean loss of {drawn:.4f}; the "
    "recursion says {exact:.4f}. Its floors at the constant rates 0.1 and "
    "0.05, {a:.4f} and {b:.4f}, are those of the formula: half the rate, about "
    "half the floor. With $ηh$ = 0.02, twenty steps leave {slow:.3f} of the "
    "start, and the area says {slow_area:.3f}; with $ηh$ = 0.5 it would be off "
    "by a factor of {factor:,.0f}.",
    abs(drawn / exact - 1) < 0.05
    and all(math.isclose(f, r / (2 * (2 - 0.7 * r))) for r, f in floor.items())
    and abs(left_over[0.02][0] / left_over[0.02][1] - 1) < 0.02
    and left_over[0.5][1] > 100 * left_over[0.5][0],
    drawn=drawn,
    exact=exact,
    a=floor[0.1],
    b=floor[0.05],
    slow=left_over[0.02][0],
    slow_area=left_over[0.02][1],
    factor=left_over[0.5][1] / left_over[0.5][0],
)

# %% [markdown] tags=["skip"]
# {{exercise 119.3.expected-losses}}

# %% [markdown] tags=["slide"]
# ### Draw any of them
#
# Left: the rate, as a share of its peak. Right: the exact expected loss of
# {eq}`eq-noisy-quadratic` in a valley with a steep direction ($h = 1$: soon on its floor, all noise)
# and a flat one ($h = 0.02$: noise hardly matters, but the way is long). Choose a shape and move its
# numbers; a number that a shape does not have changes nothing.

# %% tags=["hide-input"]
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
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.4), layout="none")
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
        "decay": [0.1, 0.5],
        "floor": [0.0, 0.2],
    },
    initial={"shape": "WSD", "warmup": 80, "decay": 0.1, "floor": 0.0},
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
# a step of warm-up takes area away and brings nothing: a quadratic has no use for it.

# %% [markdown] tags=["slide"]
# ## Why warm up, then?
#
# Because of what a quadratic does not have. Goyal et al. {cite:p}`goyal2017minibatch` needed a
# warm-up for very large batches, whose rate is larger than the curvature at the start allows; while
# the rate rises, training moves to regions that are flatter, and bears more
# {cite:p}`kalra2024warmup`. **Adam** has a second reason. Its first step, after the bias
# correction, is $\eta\, g/(\lvert g\rvert + \epsilon)$: the *full* rate in every coordinate,
# whatever the gradient. Only when signs have begun to vary is the mean smaller than the root mean
# square, and the steps shrink {cite:p}`ma2021warmup`; and a mean of squares over a handful of
# gradients is itself mostly chance {cite:p}`liu2020radam`. So Adam takes its longest steps when it
# knows least. What does that break? Count the hidden units that are zero for *every* input of the
# validation set: a ReLU without a gradient, which hardly ever comes back.

# %% tags=["skip"]
def sgd(model, lr):
    return torch.optim.SGD(model.parameters(), lr, momentum=0.9)


looks = [1, 2, 5, 10, 20, 40, 80, 150, 300]
high_rate = {
    warmup: warmed_up(data, adamw, 0.04, warmup, SEEDS, looks)
    for warmup in (0, 20, 80)
}
at_the_end = {
    ("AdamW", 0.04): {w: run[-1] for w, run in high_rate.items()},
    **{
        (name, lr): {
            w: warmed_up(data, make, lr, w, SEEDS)[-1] for w in warmups
        }
        for name, make, lr, warmups in (
            ("AdamW", adamw, 0.02, (0, 20, 80)),
            ("SGD", sgd, 0.2, (0, 80)),
            ("SGD", sgd, 0.4, (0, 80)),
        )
    },
}
sizes = step_sizes(data, SEEDS)

# %% mystnb={"figure": {"caption": "Left: size of Adam's steps without warm-up, as a share of the rate (at a small rate, so that nothing else changes). Right: units of the first hidden layer that died, at a high rate, with three warm-ups; mean and range of 5 seeds.", "name": "fig-warmup"}, "image": {"alt": "Left, a line that starts at 1 at the first step and falls to below 0.2 within 40 steps. Right, the share of dead units over the steps: without warm-up it rises to nearly half in the first 40 steps and stays; with 20 steps of warm-up it stays below a quarter, with 80 steps below a tenth."}} tags=["hide-input", "plot"]
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

# %% tags=["hide-input", "check"]
say(
    "| optimizer | rate | warm-up (steps) | validation loss (nats) | dead units (%) |\n|---|---|---|---|---|\n"
    + "\n".join(
        f"| {name} | {lr:g} | {warmup} | {loss.mean():.3f} ± {loss.std():.3f} | {100 * dead.mean():.0f} |"
        for (name, lr), runs in at_the_end.items()
        for warmup, (_, loss, dead) in runs.items()
    )
    + "\n\nMean ± standard deviation over {n} seeds.",
    n=len(SEEDS),
)
cold, warm = (at_the_end["AdamW", 0.04][w] for w in (0, 80))
sgd_cold, sgd_warm = (at_the_end["SGD", 0.2][w][1] for w in (0, 80))
claim(
    "Adam's first step is {first:.2f} of the rate in the median, the hundredth "
    "{later:.2f}. At rate 0.04 a network that started at full rate ends with "
    "{dead:.0%} of its first layer dead and a loss of {cold:.2f}; warmed up "
    "over 80 steps, with {alive:.0%} and {warm:.2f}, the lower loss on each of "
    "the seeds. SGD, whose steps shrink with the gradient, shows no such harm at its better "
    "rate: {sgd_cold:.2f} cold, {sgd_warm:.2f} warmed up.",
    sizes[0] > 0.95
    and sizes[-1] < 0.3
    and cold[2].mean() > 3 * warm[2].mean()
    and (cold[1] > warm[1]).all()
    and abs(sgd_cold.mean() / sgd_warm.mean() - 1) < 0.1
    and sgd_cold.mean() < at_the_end["SGD", 0.4][0][1].mean(),
    first=sizes[0],
    later=sizes[-1],
    dead=cold[2].mean().item(),
    cold=cold[1].mean().item(),
    alive=warm[2].mean().item(),
    warm=warm[1].mean().item(),
    sgd_cold=sgd_cold.mean().item(),
    sgd_warm=sgd_warm.mean().item(),
)

# %% [markdown] tags=["skip"]
# The damage is done in the first tens of steps and stays. So a warm-up makes a rate usable that
# could not be used otherwise; at half the rate there is less to save.

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
# as long. The end of each cycle is a model that one may keep, but each restart throws the settling
# away.
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
# **One cycle** {cite:p}`smith2019superconvergence`: the rate rises once and falls once, to almost
# nothing, while the **momentum** goes the other way {cite:p}`smith2018disciplined`. In the paper
# both ways are straight and equally long, and a short third phase goes far below the start. What is
# mostly used, here too, is the variant of fastai and of torch: two half cosines, up from $1/25$ in
# the first 30 % of the run, momentum from 0.95 to 0.85 and back.

# %% mystnb={"figure": {"caption": "The five shapes over 400 steps, with 40 steps of warm-up where there is one, and 60 steps past the end (gray).", "name": "fig-shapes"}, "image": {"alt": "Five panels of rate over step. Constant: a ramp, then flat. Cosine: a ramp, then half a wave down. Restarts: three half waves, each twice as long as the one before. One cycle: a smooth hill with its top at step 120. WSD: a ramp, flat to step 320, then a steep fall. Past step 400 all but the constant stay at their minimum."}} tags=["hide-input", "plot"]
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

# %% [markdown] tags=["skip"]
# {{exercise 119.3.cosine-floor}}

# %% [markdown] tags=["skip"]
# {{exercise 119.3.wsd}}

# %% [markdown] tags=["slide"]
# ### What cycling the momentum does
#
# SGD adds up gradients: where they agree, momentum $\mu$ makes its steps $1/(1-\mu)$ times as long,
# so that lowering it takes the edge off the peak of the rate. Adam divides its sum by the sum of
# its weights. Its $\beta_1$ says over how many gradients it averages, not how long a step is. To
# see it, let the gradient be 1 all the time, and measure:

# %% tags=["skip"]
def lengths(kind, cycled, steps=STEPS):
    """|step| / peak rate of one weight whose gradient is 1, under one cycle."""
    (weight,) = parameter()
    options = {"momentum": 0.95} if kind is torch.optim.SGD else {}
    if kind is torch.optim.AdamW:
        options = {"betas": (0.95, 0.999), "weight_decay": 0.0}
    optimizer = kind([weight], lr=1e-3, **options)
    if cycled:
        schedule = one_cycle(optimizer, 1e-3, steps)
    else:
        schedule = MultiplierLR(optimizer, one_cycle_multiplier, total_steps=steps)
    found = []
    for _ in range(steps):
        before = weight.item()
        weight.grad = torch.ones(1)
        optimizer.step()
        schedule.step()
        found.append((before - weight.item()) / 1e-3)
    return np.array(found)


step_lengths = {
    (kind.__name__, cycled): lengths(kind, cycled)
    for kind in (torch.optim.SGD, torch.optim.AdamW)
    for cycled in (True, False)
}

# %% mystnb={"figure": {"caption": "One cycle over 400 steps: rate, momentum, and the length of the steps under a steady gradient, for SGD and AdamW, with the momentum (or β₁) cycled (solid) and fixed at 0.95 (dashed).", "name": "fig-one-cycle"}, "image": {"alt": "Three panels over 400 steps. The rate rises to 1 at step 120 and falls to 0. The momentum falls from 0.95 to 0.85 at step 120 and rises again. The steps of SGD peak near 7 with cycled momentum and near 20 with fixed momentum; those of AdamW peak at 1 either way."}} tags=["hide-input", "plot"]
k = np.arange(STEPS)
fig, axes = plt.subplots(1, 3, figsize=(7.4, 2.4), layout="constrained")
axes[0].plot(
    k, [one_cycle_multiplier(int(i), STEPS) for i in k], color=COLOR["one cycle"]
)
axes[1].plot(
    k, [one_cycle_momentum(int(i), STEPS) for i in k], color=COLOR["one cycle"]
)
for (name, cycled), values in step_lengths.items():
    axes[2].plot(
        k,
        values,
        "-" if cycled else "--",
        color="tab:gray" if name == "SGD" else "tab:blue",
        label=name if cycled else None,
    )
for ax, label in zip(
    axes, ("rate / peak", "momentum, or β₁", "|step| / peak rate"), strict=True
):
    ax.set(xlabel="step", ylabel=label)
axes[2].legend(fontsize=8)
plt.show()

# %% tags=["hide-input", "check"]
peaks = {key: values.max() for key, values in step_lengths.items()}
claim(
    "The longest step of SGD is {sgd_cycled:.1f} peak rates with the momentum "
    "cycled, and {sgd_fixed:.1f} with 0.95 throughout. That of AdamW is "
    "{adam_cycled:.2f} and {adam_fixed:.2f}.",
    peaks["SGD", False] > 2 * peaks["SGD", True]
    and abs(peaks["AdamW", True] - 1) < 0.1
    and abs(peaks["AdamW", False] - 1) < 0.02,
    sgd_cycled=peaks["SGD", True],
    sgd_fixed=peaks["SGD", False],
    adam_cycled=peaks["AdamW", True],
    adam_fixed=peaks["AdamW", False],
)

# %% [markdown] tags=["slide"]
# ## Schedules in code
#
# :::{diagram} figures/3_schedules.svg
# ---
# name: fig-schedule-system
# alt: A loop. The optimizer takes a step; schedule.step adds one to the counter k; the shape gives
#   a multiplier m of k; base rate times multiplier is written into each group of the optimizer. A
#   dashed pair of arrows leads from the counter to what is saved, k and a few numbers, and back.
# ---
# A schedule is a counter and a pure function. With a floor that is a rate, the sum is
# $\eta_{\min} + (\eta_{\text{base}} - \eta_{\min})\, m(k)$.
# :::
#
# A shape is a pure function of the step, which can be plotted and tested without an optimizer:

# %%
show_source(cosine_multiplier)

# %% [markdown] tags=["skip"]
# One class turns any of them into a scheduler. Its heart is two methods: the rate at *any* step, and
# going there. What changes in a schedule is one number, so resuming and branching are the same
# thing. Whatever can fail is tried before anything is changed.

# %%
show_source(MultiplierLR.rates_at)
show_source(MultiplierLR.move_to)

# %% [markdown] tags=["skip"]
# Are the shapes right? Closed forms over whole runs at once, in NumPy, share no line with the
# package: a half-angle, $\tfrac12(1+\cos\pi p) = \cos^2(\pi p/2)$, stands for the cosine, a table
# of starts for the restarts.

# %% tags=["skip", "hide-input", "check"]
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
    cycle = (W, first, cycles, growth)
    found = [
        (
            [function(int(i), *arguments, min_lr_ratio=r) for i in k],
            closed(k, *arguments, r),
        )
        for function, closed, arguments in (
            (cosine_multiplier, cosine_numpy, (W, T)),
            (wsd_multiplier, wsd_numpy, (W, T, fraction)),
            (restarts_multiplier, restarts_numpy, cycle),
        )
    ]
    for function, ends in (
        (one_cycle_multiplier, (1 / 25, 1, 1 / 250_000)),
        (one_cycle_momentum, (0.95, 0.85, 0.95)),
    ):
        ours = [function(int(i), T, share) for i in k]
        found.append((ours, one_cycle_numpy(k, T, share, *ends)))
    worst = max(worst, *(np.abs(ours - closed).max() for ours, closed in found))
claim(
    "Over 50 random settings of each, through the run and half as long past "
    "its end, the largest difference is {worst:.0e}.",
    worst < 1e-12,
    worst=worst,
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
saved = torch.load(file, weights_only=True)
for part, state in zip(resumed, saved, strict=True):
    part.load_state_dict(state)
run_to(resumed, 60, start=37)

# %% tags=["hide-input", "check"]
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
# A state of another schedule is refused, with the way to change it on purpose. Functions of your
# own, lambdas too, are told apart by their values at some forty steps, which the state holds:

# %% tags=["nbval-check-output"]
slow = MultiplierLR(adamw(MLPs(SIZES, (0,)), 0.02), lambda k: 0.99**k)
fast = MultiplierLR(adamw(MLPs(SIZES, (0,)), 0.02), lambda k: 0.9**k)
try:
    fast.load_state_dict(slow.state_dict())
except ValueError as error:
    print(error)

# %% [markdown] tags=["skip"]
# {{exercise 119.3.predict-resume}}

# %% [markdown] tags=["skip"]
# ## Details that decide
#
# 1. **$T$ counts optimizer steps, warm-up included**: not epochs, not batches when gradients are accumulated
#    over several. A number of epochs put where steps are wanted gives a schedule that is over
#    in the first minute.
# 2. **The first of $W$ warm-up steps has rate 0.** Weights do not move, but Adam's moments take the gradient
#    in. `transformers` does the same for its cosine; its WSD starts the ramp at the floor; torch's
#    `LinearLR` starts at a third; DINO's code divides by $W - 1$ and is at the full rate one step earlier.
# 3. **The floor by interpolation.** A maximum leaves the shape and puts a kink in it; the squeezed
#    cosine {eq}`eq-cosine` meets the floor at the end only {cite:p}`loshchilov2017sgdr`.
# 4. **A ratio or a rate: say which.** With several groups they differ: a ratio gives each its own floor,
#    a rate the same for all (`cosine_with_warmup(min_lr_ratio=…)`, `WarmupCosineLR(min_lr=…)`).
# 5. **Each parameter group keeps its own base rate**, which keeps layer-wise rates alive. A group that is
#    added later joins with its own.
# 6. **The schedule also schedules the weight decay, in two ways.** The AdamW paper multiplies its decay by the
#    schedule's multiplier only {cite:p}`loshchilov2019adamw`; torch's AdamW multiplies by the whole rate,
#    $\eta\, m_k$, so that its decay also changes when you tune $\eta$. At the end of a cosine to zero
#    there is none in either.
# 7. **A skipped step is no step.** When a gradient scaler skips `optimizer.step()` for an overflow, the
#    schedule must wait as well, or the warm-up is spent on steps that were not made (PyTorch documentation).
# 8. **Restarts are counted in whole numbers.** A cycle's number found by a logarithm is rounded: in `timm` 1.0 the
#    fifth restart of cycles that triple comes a step late (our test suite shows it).
# 9. **A branch must restore the optimizer too.** The decay starts from Adam's moments of that step;
#    with fresh ones it begins with the full-length steps of {numref}`fig-warmup`.
# 10. **Absolute, not chained.** Each of our schedules writes the whole rate; two on one optimizer do not multiply, as
#     torch's chained ones do.
# 11. **The rate may be a tensor.** `torch.compile` compiles a rate that is a Python number into the step, and again
#     when it changes; ours writes into the tensor where there is one (PyTorch documentation of `torch.compile`).

# %% [markdown] tags=["skip"]
# {{exercise 119.3.decay-on-demand}}

# %% [markdown] tags=["slide"]
# ## The experiment
#
# **Task.** Digits on a 14 × 14 canvas, moved by up to 3 pixels; two hidden layers of 64; batches of 64.
#
# **Rivals.** AdamW without weight decay under a constant rate, a cosine, WSD and one cycle;
# Schedule-Free AdamW; and a rival without any schedule that is easily forgotten: the constant rate, where
# the model is the **average of the weights** over the last part of the run
# {cite:p}`hagele2024scaling`. All have 20 steps of warm-up but one cycle, which has its own.
#
# **Fairness.** Each rival gets 14 trials *at each budget*: 7 rates in factors of 2, times two values of
# one number of its own. The constant rate has no such number, and gets 14 rates. The lowest
# *validation* loss over 3 seeds chooses. Then 10 *new* seeds, on the test split.

# %% tags=["hide-input", "check"]
say(
    "| rival | own number | tried |\n|---|---|---|\n"
    + "\n".join(
        f"| {name} | {own} | {', '.join(f'{v:g}' for v in values) or '–'} |"
        for name, (own, values, _) in RIVALS.items()
    )
)

# %% tags=["long", "hide-input", "skip"] name="contest"
BUDGETS = [100, 200, 400, 800, 1600]
RATES = [0.00125 * 2**i for i in range(7)]
table = tune(data, range(3), BUDGETS, RATES)
chosen = choose(table)
at_400 = {n: dict.fromkeys(BUDGETS, s[400]) for n, s in chosen.items()}
keep(
    trials=table,
    chosen=chosen,
    tuned=compete(data, chosen, range(10, 20)),
    one_setting=compete(data, at_400, range(10, 20)),
)

# %% mystnb={"figure": {"caption": "What tuning found: validation loss (mean of 3 seeds) against the peak rate, for three budgets; each at the better value of its own number.", "name": "fig-tuning"}, "image": {"alt": "Three panels, for 100, 400 and 1,600 steps. Each line is a bowl over the rate. The bowls' lowest points move to smaller rates from the left panel to the right; Schedule-Free's lie at rates as large as any other's or larger."}} tags=["hide-input", "plot"]
contest = recorded("119.3.contest")
BUDGETS = [100, 200, 400, 800, 1600]
fig, axes = plt.subplots(1, 3, figsize=(8, 3.2), layout="constrained")
for ax, budget in zip(axes, (100, 400, 1600), strict=True):
    for name, rows in contest["trials"].items():
        best = {}
        for rate, _, loss in rows[str(budget)]:
            best[rate] = min(loss, best.get(rate, loss))
        ax.plot(
            list(best),
            list(best.values()),
            ".-",
            color=COLOR[name],
            label=name if budget == 100 else None,
        )
        rate = min(best, key=best.get)
        ax.plot(rate, best[rate], "o", color=COLOR[name])
    low = min(t[2] for r in contest["trials"].values() for t in r[str(budget)])
    ax.set(
        xscale="log",
        xlabel="peak rate",
        title=f"{budget:,} steps",
        ylim=(0.9 * low, 2.2 * low),
    )
axes[0].set_ylabel("validation loss (nats)")
fig.legend(loc="outside lower center", ncols=6, fontsize=8)
plt.show()

# %% tags=["hide-input", "check"]
picked = {
    name: {int(b): setting for b, setting in by.items()}
    for name, by in contest["chosen"].items()
}
rates_tried = sorted({t[0] for t in contest["trials"]["cosine"]["100"]})
claim(
    "No rate that was chosen lies at an edge of the grid. For every rival the "
    "longer budget wants a smaller rate, or the same: the cosine "
    "{cosine_100:g} at 100 steps and {cosine_1600:g} at 1,600, the constant "
    "rate {constant_100:.3f} and {constant_1600:.3f}. So a rate is tuned *for a "
    "budget*.",
    all(
        rates_tried[0] < setting[0] < rates_tried[-1]
        for by in picked.values()
        for setting in by.values()
    )
    and all(
        by[short][0] >= by[long][0]
        for by in picked.values()
        for short, long in zip(BUDGETS, BUDGETS[1:])
    ),
    cosine_100=picked["cosine"][100][0],
    cosine_1600=picked["cosine"][1600][0],
    constant_100=picked["constant"][100][0],
    constant_1600=picked["constant"][1600][0],
)

# %% [markdown] tags=["skip"]
# Nor does a rate carry over to a wider model, in the usual parametrization; μP scales starts and rates with
# the width such that it does {cite:p}`yang2021tuning`. It says nothing about the length of the run.

# %% [markdown] tags=["slide"]
# ### The budget is known
#
# Each rival with the settings that were best *for that budget*:

# %% tags=["hide-input", "check"]
tuned = {
    name: {int(b): np.array(v[0]) for b, v in by.items()}
    for name, by in contest["tuned"].items()
}


def paired(ours, theirs):
    """Mean difference over the seeds, and half its 95 % interval (Student's t, 9 degrees)."""
    difference = np.array(theirs) - np.array(ours)
    half = 2.262 * difference.std(ddof=1) / len(difference) ** 0.5
    return difference.mean(), half


def apart(ours, theirs):
    """Whether the paired interval lies above 0: `ours` is lower."""
    mean, half = paired(ours, theirs)
    return mean - half > 0


def cell(name, budget):
    values = tuned[name][budget]
    text = f"{values.mean():.3f} ± {values.std(ddof=1):.3f}"
    best = min(tuned, key=lambda other: tuned[other][budget].mean())
    return f"**{text}**" if name == best else text


say(
    "| test loss (nats) | "
    + " | ".join(f"{b:,} steps" for b in BUDGETS)
    + " |\n|---"
    + "|---" * len(BUDGETS)
    + "|\n"
    + "\n".join(
        f"| {name} | " + " | ".join(cell(name, b) for b in BUDGETS) + " |"
        for name in tuned
    )
    + "\n\nMean ± standard deviation over 10 seeds; the lowest mean is bold."
)
scheduled = ("cosine", "one cycle", "WSD")
a400, s400 = paired(tuned["averaged"][400], tuned["Schedule-Free"][400])
w800, w800_half = paired(tuned["WSD"][800], tuned["cosine"][800])
w1600, w1600_half = paired(tuned["WSD"][1600], tuned["cosine"][1600])
claim(
    "**Short budgets: Schedule-Free.** At 100 and 200 steps its loss lies below "
    "every other's (the paired 95 % intervals exclude 0). **Long ones: the "
    "average.** At 800 and 1,600 steps the averaged constant rate lies below "
    "every other, the three schedules included. At 400 it lies below the "
    "schedules, and no order shows between it and Schedule-Free: {a400:.3f} ± "
    "{s400:.3f}.",
    all(
        apart(tuned["Schedule-Free"][b], tuned[other][b])
        for b in (100, 200)
        for other in tuned
        if other != "Schedule-Free"
    )
    and all(
        apart(tuned["averaged"][b], tuned[other][b])
        for b in (800, 1600)
        for other in tuned
        if other != "averaged"
    )
    and all(apart(tuned["averaged"][400], tuned[o][400]) for o in scheduled)
    and abs(a400) < s400,
    a400=a400,
    s400=s400,
)
claim(
    "**WSD or a cosine?** At 800 steps WSD's loss is lower by {w800:.3f} ± "
    "{w800_half:.3f}; at 1,600 steps by {w1600:.3f} ± {w1600_half:.3f}, where "
    "no difference shows. **Any of them rather than none**: at 400 steps and more "
    "all five lie below the constant rate.",
    w800 > w800_half
    and abs(w1600) < w1600_half
    and all(
        apart(tuned[other][b], tuned["constant"][b])
        for b in (400, 800, 1600)
        for other in tuned
        if other != "constant" and (other, b) != ("Schedule-Free", 1600)
    )
    and apart(tuned["Schedule-Free"][1600], tuned["constant"][1600]),
    w800=w800,
    w800_half=w800_half,
    w1600=w1600,
    w1600_half=w1600_half,
)

# %% [markdown] tags=["skip"]
# An average takes the noise out as a decay does, and {eq}`eq-floor` says why: it is noise that stands
# between the constant rate and its loss. Each interval is for one comparison; among as many as these, a narrow
# one may be chance.

# %% [markdown] tags=["slide"]
# ### The budget is not known
#
# Now the settings that were best at 400 steps serve all budgets. Schedule-Free and the average are one run,
# measured on the way; WSD is one stable run from which a decay branches off before each budget. The cosine
# keeps its privilege: a run for each budget, *and* the rate tuned for it.

# %% mystnb={"figure": {"caption": "Loss against the budget, on the test split (left) and the training split (right); mean and range of 10 seeds, both axes logarithmic. Solid: one run, settings of 400 steps. Dashed: cosines planned and tuned for each budget.", "name": "fig-budgets"}, "image": {"alt": "Two panels of loss against budgets from 100 to 1,600 steps. On the test split Schedule-Free is lowest up to 200 steps and flattens after 800, where the average is lowest. On the training split Schedule-Free is lowest at every budget. The constant rate is highest from 200 steps."}} tags=["hide-input", "plot"]
one = {
    name: {int(b): np.array(v) for b, v in by.items()}
    for name, by in contest["one_setting"].items()
}
planned = {int(b): np.array(v) for b, v in contest["tuned"]["cosine"].items()}
LINES = {
    "cosine, planned and tuned for each": ("cosine", planned, "s--"),
    "Schedule-Free, one run": ("Schedule-Free", one["Schedule-Free"], "o-"),
    "averaged, one run": ("averaged", one["averaged"], "v-"),
    "WSD, one run and branches": ("WSD", one["WSD"], "^-"),
    "constant, one run": ("constant", one["constant"], "x-"),
}
fig, axes = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
for label, (name, points, style) in LINES.items():
    values = np.stack([points[b] for b in BUDGETS])  # (budgets, 2, S)
    for i, ax in enumerate(axes):
        ax.fill_between(
            BUDGETS,
            values[:, i].min(1),
            values[:, i].max(1),
            color=COLOR[name],
            alpha=0.15,
            lw=0,
        )
        ax.plot(
            BUDGETS,
            values[:, i].mean(1),
            style,
            color=COLOR[name],
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

# %% tags=["hide-input", "check"]
free, mean_of, stable_and_decay = (
    one[name] for name in ("Schedule-Free", "averaged", "WSD")
)
share = picked["WSD"][400][1]
paid = {
    "cosine": sum(BUDGETS),
    "WSD": max(b - round(share * b) for b in BUDGETS)
    + sum(round(share * b) for b in BUDGETS),
    "one run": BUDGETS[-1],
}
claim(
    "Against a cosine that was planned and tuned for each budget, one run of "
    "Schedule-Free has the lower loss at 100, 200 and 400 steps and a higher one "
    "at 1,600; one averaged run has a lower one from 200 steps on; WSD with "
    "branches has a lower one at 400 and 800, and no difference shows at 200 and 1,600. "
    "**The price of the five models**: {cosine:,} steps with cosines, and "
    "their tuning five times; {wsd:,} with WSD, {free:,} with the other two.",
    all(apart(free[b][0], planned[b][0]) for b in (100, 200, 400))
    and apart(planned[1600][0], free[1600][0])
    and all(apart(mean_of[b][0], planned[b][0]) for b in (200, 400, 800, 1600))
    and all(apart(stable_and_decay[b][0], planned[b][0]) for b in (400, 800))
    and not any(
        apart(a[b][0], c[b][0])
        for b in (200, 1600)
        for a, c in (
            (stable_and_decay, planned),
            (planned, stable_and_decay),
        )
    )
    and paid["one run"] < paid["WSD"] < paid["cosine"],
    cosine=paid["cosine"],
    wsd=paid["WSD"],
    free=paid["one run"],
)
claim(
    "**Has Schedule-Free stopped optimizing at the end?** No: its *training* "
    "loss is the lowest of the five lines at every budget, and falls from "
    "{fit_800:.3f} to {fit_1600:.3f} between 800 and 1,600 steps, while its "
    "test loss hardly moves ({test_800:.3f}, {test_1600:.3f}). It overfits.",
    all(
        apart(free[b][1], points[b][1])
        for b in BUDGETS
        for label, (name, points, _) in LINES.items()
        if name != "Schedule-Free"
    )
    and free[1600][1].mean() < 0.5 * free[800][1].mean()
    and free[1600][0].mean() > 0.9 * free[800][0].mean(),
    fit_800=free[800][1].mean(),
    fit_1600=free[1600][1].mean(),
    test_800=free[800][0].mean(),
    test_1600=free[1600][0].mean(),
)
claim(
    "**And a cosine at the wrong rate?** At 1,600 steps the cosine with the "
    "rate of 400 steps has {wrong:.3f}, with its own {right:.3f}. Compared at "
    "the rate of 400 steps alone, WSD would have seemed to win there.",
    apart(planned[1600][0], one["cosine"][1600][0])
    and apart(stable_and_decay[1600][0], one["cosine"][1600][0]),
    wrong=one["cosine"][1600][0].mean(),
    right=planned[1600][0].mean(),
)

# %% [markdown] tags=["skip"]
# So what carries over is not a ranking. It is that one stable run, with decays that branch off or with an
# average, does about as well as runs that were planned, which is what others find at scale too
# {cite:p}`hagele2024scaling`; that the average costs no step at all; and that a good rate depends on
# the budget, so that whoever tunes at one and compares at another will be misled.

# %% [markdown] tags=["skip"]
# ## At scale
#
# A schedule costs nothing: one number a step, computed on the host, the same on each rank, with
# nothing to communicate. There is no GPU cell here because there is nothing to put on a GPU.
#
# What it decides is expensive. To learn how loss falls with compute, one needs models of many budgets; with a
# cosine, whose length must match each of them {cite:p}`hoffmann2022chinchilla`, every point of the curve is a
# run of its own. Stable runs with branches make a fraction of it, as in the sum above. A stable run can also
# be prolonged when more data or machines come, which a finished cosine can't without being warmed up again.
# In a sharded run (section 119.1a) save `schedule.state_dict()` beside the optimizer's; it is some fifty numbers.

# %% [markdown] tags=["slide"]
# ## Mistakes that look right
#
# Each of these came from the schedules that this course corrects. All look right in a plot of the default
# case; the {doc}`errata </book/errata>` have the rest, with the tests that show them.
#
# **A rate compared with a ratio, by a maximum, without an end.** `LambdaLR` multiplies what the function
# returns by the base rate, but `lr_end` below is meant as a rate:

# %% tags=["skip"]
def listing_cosine(k, warmup=10, total=100, lr_end=1e-5):
    if k < warmup:
        return k / warmup
    progress = (k - warmup) / (total - warmup)
    return max(lr_end, 0.5 * (1 + math.cos(math.pi * progress)))

# %% tags=["hide-input", "check"]
base = 0.1
ours = WarmupCosineLR(torch.optim.SGD(parameter(), base), 10, 100, min_lr=1e-5)
claim(
    "With base rate {base} and `lr_end=1e-5` the rate at step 100 is "
    "{wrong:.0e}, a tenth of what was asked for. Five steps later it has risen "
    "to {later:.1e}, and at step 190 it is back at {back:.2f}. Ours: "
    "{right:.0e}, at step 100 and for 200 steps after. (The cosine of `transformers` and "
    "torch's `CosineAnnealingLR` come up again too.)",
    math.isclose(base * listing_cosine(100), 1e-6)
    and base * listing_cosine(105) > 100 * base * listing_cosine(100)
    and all(math.isclose(ours.rates_at(k)[0], 1e-5) for k in range(100, 301)),
    base=base,
    wrong=base * listing_cosine(100),
    later=base * listing_cosine(105),
    back=base * listing_cosine(190),
    right=1e-5,
)

# %% [markdown] tags=["skip"]
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

# %% tags=["hide-input", "check"]
claim(
    "The first step after loading is made at rate {loaded:g}, that of step 0. "
    "Then the two runs part: {a:.4f} and {b:.4f}. Nothing was said.",
    rate_after_loading == 0 and other_rate < rate / 4,
    loaded=rate_after_loading,
    a=rate,
    b=other_rate,
)

# %% [markdown] tags=["skip"]
# **A warm-up that does not warm the first step.** A hand-made scheduler wrote its rate only when it was
# stepped, after the first step of the optimizer: that step is made at the optimizer's own rate, the very one
# that the warm-up is there to avoid. It also gave all groups one rate, and had no `state_dict`.
#
# **One cycle as it comes.** torch's `OneCycleLR` cycles `betas[0]`, or `momentum`, wherever it finds the
# *key*, and after as many steps as it was built for, the rate jumps:

# %% tags=["skip"]
plain = torch.optim.SGD(parameter(), lr=0.1)
lion = Lion(parameter(), lr=0.001)
for optimizer in (plain, lion):
    OneCycleLR(optimizer, max_lr=0.1, total_steps=20)
ours = torch.optim.SGD(parameter(), lr=0.1), Lion(parameter(), lr=0.001)
for optimizer in ours:
    one_cycle(optimizer, max_lr=0.1, total_steps=20)

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

# %% tags=["hide-input", "check"]
claim(
    "Plain SGD now has momentum {sgd}, and Lion's β₁, which is no momentum, is "
    "{lion}. Under ours they keep {own_sgd} and {own_lion}. The tenth of ten "
    "steps was made at {last:.0e}; an eleventh, which the schedule allowed, at "
    "{bounce:.0e}: a step {times:,.0f} times as long, into a model that had come "
    "to rest.",
    plain.param_groups[0]["momentum"] == 0.95
    and lion.param_groups[0]["betas"][0] == 0.95
    and ours[0].param_groups[0]["momentum"] == 0
    and ours[1].param_groups[0]["betas"][0] == 0.9
    and used[9] < 1e-6
    and used[10] > 1e-3
    and len(used) == 11,
    sgd=plain.param_groups[0]["momentum"],
    lion=lion.param_groups[0]["betas"][0],
    own_sgd=ours[0].param_groups[0]["momentum"],
    own_lion=ours[1].param_groups[0]["betas"][0],
    last=used[9],
    bounce=used[10],
    times=used[10] / used[9],
)

# %% [markdown] tags=["skip"]
# ## Limits
#
# - One small task, one network, one batch size, no weight decay, and a data set that a long run overfits. The order of
#   the rivals changes with all of these; the two jobs of the rate do not.
# - 14 trials each, in factors of 2: differences of a hundredth may be those of the grid. The warm-up was tuned for none.
#   Restarts did not compete.
# - The noisy quadratic explains the floor and the area. It knows nothing of warm-up, nor of overfitting.
# - At work use your framework's own: torch's `SequentialLR` and `OneCycleLR`, `transformers`, `timm`. Test what they do on
#   the last step, past it, and on resuming; use ours to compare with.

# %% [markdown] tags=["skip"]
# ## Quiz

# %% [markdown] tags=["skip"]
# {{quiz 119.3}}

# %% [markdown] tags=["slide"]
# ## Summary
#
# - A large rate covers distance (the area under the schedule, where $\eta h \ll 1$), a small one at the end takes the noise out (the floor goes with the rate).
# - Warm-up is for the steps that Adam takes before it knows anything; without it a high rate does damage that lasts.
# - A schedule is a pure function of the step: to resume, to branch and to plot are one operation.
# - Optimizer first, then schedule; from step $T$ on the rate stays at its minimum; a floor is a ratio or a rate, and says which.
# - Compare schedules with each tuned at *that* budget, and put the average of a constant run among them. Budget not known: a stable run with branches or an average, or Schedule-Free.
#
# References: each citation above leads to its source; the
# {doc}`bibliography </book/bibliography>` lists them all.
