
# %% [markdown] tags=["slide"]
# (sec-119-2)=
# # 119.2 Optimizers: Lion and Schedule-Free
#
# Two optimizers change what training costs. **Lion** keeps one number a parameter where AdamW keeps
# two. **Schedule-Free** AdamW needs no learning-rate schedule, so it needs no date on which training
# ends. At the end of this section you can derive both, say what each of their betas does, find what
# is wrong in an implementation by testing it, and decide when to use which.
#
# You need: Python, a first course in deep learning (gradient descent, momentum, Adam), and no GPU.

# %% tags=["definitions", "hide-input", "skip"]
import itertools
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from dlcourse.datasets import digits
from dlcourse.experiments import MLPs, accuracies, losses, train
from dlcourse.large_scale_training import (
    AdamWScheduleFree,
    Lion,
    optimizer_state_bytes,
)
from dlcourse.large_scale_training.experiments.step_time import (
    disagreement,
    measure_optimizers,
    transformer_shapes,
)
from dlcourse.notebook import claim, explore, keep, recorded, say, show_source

plt.style.use("dlcourse.notebook.course")
COLOR = {
    "SGD": "0.5",
    "AdamW": "tab:blue",
    "AdamW, WSD": "tab:purple",
    "Lion": "tab:orange",
    "Schedule-Free": "tab:green",
}

# Digits of 12 × 12 pixels, moved by up to 2 pixels
data = digits(seed=0, max_shift=2, copies=8)
SIZES = (144, 64, 64, 10)


def curve(make_optimizer, *, steps, measure_at, seeds=(0, 1, 2), schedule=None):
    """Validation loss of each seed after each of the steps in `measure_at`: (len(measure_at), S)."""
    model = MLPs(SIZES, seeds)
    optimizer = make_optimizer(model.parameters())
    scheduler = schedule(optimizer, steps) if schedule else None
    points = train(
        model,
        optimizer,
        data.train,
        steps=steps,
        scheduler=scheduler,
        measure=lambda: losses(model, data.validation),
        measure_at=measure_at,
    )
    return torch.stack([point.value for point in points])


def scheduled(shape, warmup):
    """A linear warm-up, then a cosine to 0, or the full rate and a linear end ("wsd")."""

    def schedule(optimizer, steps):
        def multiplier(k):
            ramp = min(1.0, (k + 1) / max(1, warmup))
            if shape == "cosine":
                done = max(0, k - warmup) / max(1, steps - warmup)
                return ramp * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
            return min(ramp, max(0, steps - k) / (0.2 * steps))

        return torch.optim.lr_scheduler.LambdaLR(optimizer, multiplier)

    return schedule


cosine = scheduled("cosine", 0)
STEPS = 400


def adamw(p, lr, decay, warmup):
    return torch.optim.AdamW(p, lr, weight_decay=decay)


CONTESTANTS = {  # name: (optimizer, rates, decays, shape of the schedule)
    "SGD": (
        lambda p, lr, decay, warmup: torch.optim.SGD(
            p, lr, momentum=0.9, weight_decay=decay
        ),
        [0.01, 0.03, 0.1, 0.3, 1.0],
        [0.0, 0.001],
        "cosine",
    ),
    "AdamW": (adamw, [0.003, 0.01, 0.03, 0.1, 0.3], [0.01, 0.1], "cosine"),
    "AdamW, WSD": (adamw, [0.003, 0.01, 0.03, 0.1, 0.3], [0.01, 0.1], "wsd"),
    "Lion": (
        lambda p, lr, decay, warmup: Lion(p, lr, weight_decay=decay),
        [0.0003, 0.001, 0.003, 0.01, 0.03],
        [0.1, 1.0],
        "cosine",
    ),
    "Schedule-Free": (
        lambda p, lr, decay, warmup: AdamWScheduleFree(
            p, lr, weight_decay=decay, warmup_steps=warmup
        ),
        [0.003, 0.01, 0.03, 0.1, 0.3],
        [0.01, 0.1],
        None,
    ),
}
WARMUPS = [0, 20]


def contest_curve(name, setting, *, steps, measure_at, seeds):
    """`curve` of a contestant at (rate, decay, warm-up)."""
    make, _, _, shape = CONTESTANTS[name]
    lr, decay, warmup = setting
    return curve(
        lambda p: make(p, lr, decay, warmup),
        steps=steps,
        measure_at=measure_at,
        seeds=seeds,
        schedule=scheduled(shape, warmup) if shape else None,
    )

# %% [markdown] tags=["slide"]
# ## A question
#
# You train a network with AdamW and a cosine schedule that is planned for 800 steps. At step 200
# somebody needs the model. How good is it, and how good would it be if you had *planned* for 200?

# %% tags=["hide-input", "skip"]
at = [25, 50, 75, 100, 150, 200, 300, 400, 500, 600, 700, 800]
planned_for_800 = curve(
    lambda p: torch.optim.AdamW(p, lr=0.03),
    steps=800,
    measure_at=at,
    schedule=cosine,
)
planned_for_200 = curve(
    lambda p: torch.optim.AdamW(p, lr=0.03),
    steps=200,
    measure_at=[200],
    schedule=cosine,
)
no_plan = curve(
    lambda p: AdamWScheduleFree(p, lr=0.03, warmup_steps=20),
    steps=800,
    measure_at=at,
)

# %% mystnb={"figure": {"caption": "Validation loss of the same network in training, all at rate 0.03, mean of 3 seeds. The run planned for 800 steps is good only near its end; at step 200 the run planned for 200 (square) beats it. Schedule-Free is good wherever you stop.", "name": "fig-question"}, "image": {"alt": "Line plot of validation loss against step. The AdamW line planned for 800 steps lies above the square of the run planned for 200 steps at step 200. The Schedule-Free line lies below both until near the end, where the AdamW line has caught up."}} tags=["hide-input", "plot"]
fig, ax = plt.subplots()
ax.plot(
    at,
    planned_for_800.mean(1),
    "o-",
    color=COLOR["AdamW"],
    label="AdamW, cosine over 800 steps",
)
ax.plot(
    200,
    planned_for_200.mean(),
    "s",
    ms=9,
    color="tab:red",
    label="AdamW, cosine over 200 steps",
)
ax.plot(
    at,
    no_plan.mean(1),
    "o-",
    color=COLOR["Schedule-Free"],
    label="Schedule-Free AdamW, no schedule",
)
ax.set(xlabel="step", ylabel="validation loss (nats)", ylim=(0, None))
ax.legend()
plt.show()

# %% tags=["hide-input"]
interrupted, planned, free = (
    planned_for_800[at.index(200)],
    planned_for_200[0],
    no_plan[at.index(200)],
)
claim(
    "Stopped at step 200, the run planned for 800 steps has a loss of {a:.2f}; planned for 200 it "
    "would have had {b:.2f}. Schedule-Free, without a plan, has {c:.2f}. By step 800 the schedule "
    "has caught up: {end:.2f} against {free_end:.2f}.",
    free.mean() < planned.mean() < interrupted.mean()
    and (no_plan.mean(1) < planned_for_800.mean(1))[: at.index(600)].all()
    and abs(planned_for_800[-1].mean() - no_plan[-1].mean()) < 0.1,
    a=interrupted.mean().item(),
    b=planned.mean().item(),
    c=free.mean().item(),
    end=planned_for_800[-1].mean().item(),
    free_end=no_plan[-1].mean().item(),
)

# %% [markdown] tags=["skip"]
# One rate for all is not a fair contest: we come back to this figure with tuned rates, more seeds and
# a test set. First the other saving: memory.

# %% tags=["skip"]
model = MLPs(SIZES, seeds=(0,))
count = sum(p.numel() for p in model.parameters())


def state_bytes_per_parameter(make_optimizer):
    """Train for two steps, then count what the optimizer keeps."""
    optimizer = make_optimizer(model.parameters())
    train(model, optimizer, data.train, steps=2)
    return optimizer_state_bytes(optimizer) / count


memory = {
    "SGD": state_bytes_per_parameter(
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)
    ),
    "AdamW": state_bytes_per_parameter(lambda p: torch.optim.AdamW(p, lr=0.001)),
    "Lion": state_bytes_per_parameter(lambda p: Lion(p, lr=1e-4)),
    "Schedule-Free": state_bytes_per_parameter(lambda p: AdamWScheduleFree(p)),
}
claim(
    "Lion keeps {lion:.2f} bytes a parameter (one float32), AdamW {adamw:.2f} (two), Schedule-Free "
    "AdamW {free:.2f}. For a model of 7 billion parameters that is {lion_gb:.0f} GB against "
    "{adamw_gb:.0f} GB.",
    round(memory["Lion"]) == 4
    and round(memory["AdamW"]) == round(memory["Schedule-Free"]) == 8,
    lion=memory["Lion"],
    adamw=memory["AdamW"],
    free=memory["Schedule-Free"],
    lion_gb=7 * memory["Lion"],
    adamw_gb=7 * memory["AdamW"],
)

# %% [markdown] tags=["skip"]
# :::{diagram} figures/2_optimizers.svg
# ---
# name: fig-two-optimizers
# alt: Two flow diagrams. Lion mixes gradient and momentum twice: with beta 1 into c, whose sign
#   is the step, and with beta 2 into the new momentum, which is stored. Schedule-Free has the
#   points z and x with y between them, near x; the gradient taken at y moves z to a new z, and x
#   moves a small part of the way to the new z.
# ---
# The two optimizers of this section. Lion keeps $m$ from step to step and nothing else.
# Schedule-Free keeps $z$ (and Adam's $v$); the weights are $y$ in training, $x$ in use.
# :::

# %% [markdown] tags=["slide"]
# ## Lion: the idea
#
# ### From steepest descent to a sign
#
# A step $d$ changes the loss by about $\langle g, d\rangle$, where $g$ is the gradient. To make it
# fall fast with a step of limited size, we must say what size *is*. Measured by the Euclidean norm,
# the best step is $-g$ itself, scaled. Measured by the *largest entry*, $\lVert d\rVert_\infty \le \eta$,
#
# $$
# \arg\min_{\lVert d\rVert_\infty \le \eta} \langle g, d\rangle = -\eta\,\operatorname{sign}(g) ,
# $$ (eq-sign)
#
# because each coordinate can be chosen for itself, and each does best at its limit. So sign descent
# is steepest descent, in another geometry {cite:p}`bernstein2018signsgd`. Every coordinate moves by
# the same distance $\eta$, however flat or steep the loss is along it; that is also, roughly, what
# Adam does when it divides the gradient by its own size {cite:p}`kunstner2023noise`, as long as the
# gradient keeps its sign (section {doc}`119.3 <3_schedules>` measures how noise shortens Adam's steps).
# And it is why no second moment has to be stored.

# %% mystnb={"figure": {"caption": "The best step for one gradient (black), if the step may be as long as the circle or as large as the square. The sign goes to a corner.", "name": "fig-geometry"}, "image": {"alt": "A circle and a square around the origin. The steepest step in the circle points against the gradient; the steepest step in the square ends in its lower left corner."}} tags=["hide-input", "plot"]
g = np.array([1.0, 0.35])
fig, ax = plt.subplots(figsize=(3.4, 3.4))
turn = np.linspace(0, 2 * np.pi, 200)
ax.plot(np.cos(turn), np.sin(turn), color="0.6")
ax.plot([-1, 1, 1, -1, -1], [-1, -1, 1, 1, -1], color="0.6", ls="--")
for end, color, label in [
    (g, "black", "gradient $g$"),
    (-g / np.linalg.norm(g), COLOR["SGD"], r"best for $\|d\|_2 \leq 1$"),
    (-np.sign(g), COLOR["Lion"], r"best for $\|d\|_\infty \leq 1$"),
]:
    ax.annotate(
        "",
        end,
        (0, 0),
        arrowprops={"arrowstyle": "-|>", "color": color, "lw": 2},
    )
    ax.plot([], [], color=color, lw=2, label=label)
ax.set(
    xlim=(-1.3, 1.3),
    ylim=(-1.3, 1.3),
    aspect="equal",
    xlabel="$d_1$",
    ylabel="$d_2$",
)
ax.legend(loc="upper left", fontsize=8, bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown] tags=["slide"]
# ### Two betas, one momentum
#
# The sign of a single mini-batch's gradient is mostly noise. Lion {cite:p}`chen2023lion`, found by
# a search over programs rather than by hand, takes the sign of an average. With gradient $g_t$,
# momentum $m_t$, rate $\eta$ and decay $\lambda$, its Algorithm 2 is
#
# $$
# c_t &= \beta_1 m_{t-1} + (1-\beta_1)\, g_t \\
# \theta_t &= \theta_{t-1} - \eta\,(\operatorname{sign}(c_t) + \lambda\,\theta_{t-1}) \\
# m_t &= \beta_2 m_{t-1} + (1-\beta_2)\, g_t
# $$ (eq-lion)
#
# Note the order. The step uses $c_t$, mixed with $\beta_1$; what is *stored* is $m_t$, mixed with
# $\beta_2$. With one beta, these would be the same number, and the algorithm would be the older
# signed momentum. With two, the memory can be long ($\beta_2 = 0.99$: about 100 steps) and yet the
# step can listen to the newest gradient ($1 - \beta_1 = 0.1$ of the weight, where the memory alone
# would give it 0.01).
#
# Unroll {eq}`eq-lion` and $c_t$ is a weighted sum of all gradients so far: the newest has weight
# $1-\beta_1$, the one $k \ge 1$ steps old has
#
# $$
# w_k = \beta_1 (1-\beta_2)\, \beta_2^{\,k-1} .
# $$ (eq-weights)
#
# Move the betas and look at the first bar.

# %%
def lion_weights(beta1, beta2, n=60):
    """Weight in c_t of the gradient that is k = 0 … n−1 steps old."""
    k = np.arange(n)
    return np.where(k == 0, 1 - beta1, beta1 * (1 - beta2) * beta2 ** (k - 1.0))


def draw_weights(beta1, beta2):
    fig, ax = plt.subplots(figsize=(7, 2.6))
    w = lion_weights(beta1, beta2)
    ax.bar(np.arange(len(w)), w, color=COLOR["Lion"])
    ax.set(xlabel="age of the gradient, $k$ (steps)", ylabel="weight in $c_t$")
    ax.set(yscale="log", ylim=(1e-4, 1))
    ax.set_title(
        f"newest {w[0]:.0%}, ages 1–10 {w[1:11].sum():.0%}, "
        f"11–59 {w[11:].sum():.0%}, older {1 - w.sum():.0%}",
        fontsize=10,
    )
    return fig


explore(
    draw_weights,
    {
        "beta1": [0.5, 0.8, 0.9, 0.95, 0.99],
        "beta2": [0.5, 0.9, 0.95, 0.99, 0.999],
    },
    initial={"beta1": 0.9, "beta2": 0.99},
    name="Weights of past gradients in Lion's direction",
    alt=lambda beta1, beta2: (
        f"Bars of the weight of each past gradient for beta1 = {beta1}, beta2 = "
        f"{beta2}: the newest has {1 - beta1:.2f}, the one before {beta1 * (1 - beta2):.3f}."
    ),
)

# %% [markdown] tags=["skip"]
# With $\beta_1 = \beta_2$ the bars fall on one straight line: an exponential average, as in the older
# signed momentum. Lion's betas lift the newest gradient above the line of the others.

# %% [markdown] tags=["skip"]
# {{exercise 119.2.predict-beta}}

# %% [markdown] tags=["slide"]
# ### Decay is not part of the gradient
#
# In {eq}`eq-lion` the decay $\lambda\theta$ stands *outside* the sign: it is decoupled, as in AdamW
# {cite:p}`loshchilov2019adamw`. Inside, it would be one more vote on the direction and its size
# would be lost. Outside, it has a clean meaning. Where the sign stays the same, $\theta$ moves to
# where both terms cancel, $\lvert\theta\rvert = 1/\lambda$; in fact Lion with decay solves the
# problem constrained to $\lVert\theta\rVert_\infty \le 1/\lambda$
# {cite:p}`chen2024lionsecretly`.

# %% tags=["skip"]
w = nn.Parameter(torch.tensor([0.0, 0.0]))
lion = Lion([w], lr=0.01, weight_decay=2.0)
for _ in range(1000):
    w.grad = torch.tensor(
        [1e-6, -1e3]
    )  # sizes differ by nine orders: only the signs count
    lion.step()
claim(
    "With decay λ = 2 and gradients of constant sign, the weights settle at {a:.3f} and {b:.3f}: at "
    "±1/λ, whatever the size of the gradients.",
    torch.allclose(w, torch.tensor([-0.5, 0.5]), atol=1e-3),
    a=w[0].item(),
    b=w[1].item(),
)

# %% [markdown] tags=["slide"]
# ### The same argument with another norm: Muon
#
# For a weight *matrix* there is a more natural size: how much it can stretch an input, its largest
# singular value. With the gradient $G = U \Sigma V^\top$,
#
# $$
# \arg\min_{\lVert D\rVert_2 \le \eta} \langle G, D\rangle = -\eta\, U V^\top ,
# $$ (eq-muon)
#
# the sign of the *singular values*: every direction of the matrix is used alike. Muon
# {cite:p}`jordan2024muon` takes this step from a momentum, for the matrices of hidden layers only.
# It needs no decomposition: five rounds of matrix products (Newton–Schulz) come near $U V^\top$,
# but lift only those singular values that are not too small. Lion treats a matrix as a list of
# numbers; Muon does not.

# %% mystnb={"figure": {"caption": "Singular values of four steps for one gradient of a 32 × 32 matrix whose singular values fall quickly, each scaled to a largest value of 1. The gradient uses few directions, its sign more, unevenly. The exact step uses all alike; Muon's five rounds come near it in the first half, and leave the smallest values where they were.", "name": "fig-muon"}, "image": {"alt": "Four lines over the number of the singular value: the gradient's falls off at once, the sign's more slowly; that of Muon stays above one half for sixteen values and then falls to 0; that of the exact step stays at 1."}} tags=["hide-input", "plot", "skip"]
def newton_schulz(matrix, rounds=5):
    """What Muon takes for U Vᵀ, with the coefficients of its authors."""
    x = matrix / matrix.norm()
    for _ in range(rounds):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


generator = torch.Generator().manual_seed(0)
left, right = (torch.randn(32, 32, generator=generator) for _ in range(2))
gradient = left @ torch.diag(0.7 ** torch.arange(32.0)) @ right
u, _, vh = torch.linalg.svd(gradient)
spectrum = {}
fig, ax = plt.subplots(figsize=(6, 2.6))
for name, step, style, color in [
    ("gradient", gradient, "-", COLOR["SGD"]),
    ("its sign (Lion)", gradient.sign(), "--", COLOR["Lion"]),
    ("five rounds (Muon)", newton_schulz(gradient), "-.", "tab:purple"),
    ("$UV^T$", u @ vh, ":", "tab:red"),
]:
    values = torch.linalg.svdvals(step)
    spectrum[name] = values / values[0]
    ax.plot(range(1, 33), spectrum[name], style, color=color, label=name)
ax.set(xlabel="number of the singular value", ylabel="relative size", ylim=(0, 1.1))
ax.legend(fontsize=8)
plt.show()

# %% tags=["hide-input", "check", "skip"]
half, tenth = (
    [(values > share).sum().item() for values in spectrum.values()] for share in (0.5, 0.1)
)
claim(
    "Of 32 singular values those above a tenth of the largest, and above half: the gradient has {g}, its sign "
    "{s}, Muon {m}, the exact step {e}. Muon's smallest is {least:.0e} of its largest.",
    half[1] < half[2] / 4
    and 2 * tenth[0] < tenth[1] <= tenth[2] < 32
    and tenth[3] == half[3] == 32
    and spectrum["five rounds (Muon)"][-1] < 0.01,
    **{letter: f"{a} and {b}" for letter, a, b in zip("gsme", tenth, half, strict=True)},
    least=spectrum["five rounds (Muon)"][-1].item(),
)

# %% [markdown] tags=["slide"]
# ## Lion in code
#
# The readable form first: a pure function, one line for each line of {eq}`eq-lion`.

# %%
from dlcourse.large_scale_training import lion_step_reference

show_source(lion_step_reference)

# %% [markdown] tags=["skip"]
# `Lion` wraps it as a `torch.optim.Optimizer` with a faster form for each device, and a test holds
# the forms together. Here is a proof on the page, against a transcription of {eq}`eq-lion` into
# NumPy that shares no line with the package:

# %% tags=["skip"]
def lion_numpy(theta, grads, lr, beta1, beta2, decay):
    m = np.zeros_like(theta)
    for g in grads:
        c = beta1 * m + (1 - beta1) * g
        theta = theta - lr * (np.sign(c) + decay * theta)
        m = beta2 * m + (1 - beta2) * g
    return theta


rng = np.random.default_rng(0)
worst = 0.0
for _ in range(50):
    lr, decay = 10 ** rng.uniform(-5, -1), rng.choice([0.0, 0.1, 3.0])
    beta1, beta2 = rng.uniform(0, 1, size=2)
    theta, grads = rng.normal(size=7), rng.normal(size=(100, 7))
    w = nn.Parameter(torch.tensor(theta))
    lion = Lion([w], lr=lr, betas=(beta1, beta2), weight_decay=decay)
    for g in grads:
        w.grad = torch.tensor(g)
        lion.step()
    worst = max(
        worst,
        np.abs(
            w.detach().numpy() - lion_numpy(theta, grads, lr, beta1, beta2, decay)
        ).max(),
    )
claim(
    "Over 50 random settings of 100 steps each, in float64, the largest difference is {worst:.0e}.",
    worst < 1e-9,
    worst=worst,
)

# %% [markdown] tags=["skip"]
# The test suite does the same against the public package `lion-pytorch`, to $10^{-9}$.

# %% [markdown] tags=["skip"]
# One caution. `sign(NaN)` is 0 in torch. So a single NaN in one gradient makes that momentum NaN for
# good and stops its weight, while the loss stays finite. AdamW would show a NaN in the weights. One infinite
# gradient is as bad: in {eq}`eq-lion` the momentum stays infinite and the weight moves on for ever; in ours it
# becomes NaN at the next step, and the weight stops. So look at the gradients' norm before the step.

# %% tags=["hide-input", "check", "skip"]
ends = {}
for name, make in {"Lion": Lion, "AdamW": torch.optim.AdamW}.items():
    w = nn.Parameter(torch.zeros(2))
    optimizer = make([w], lr=0.1)
    for step in range(50):
        w.grad = torch.tensor([math.nan if step == 3 else 1.0, 1.0])
        optimizer.step()
    ends[name] = w.detach()
infinite, m, w = torch.zeros(1), torch.zeros(1), nn.Parameter(torch.zeros(1))
lion = Lion([w], lr=0.1)
for step in range(50):  # the equations, and our optimizer: gradient −∞ at step 4, and 1 from then on
    w.grad = torch.tensor([-math.inf if step == 3 else 1.0])
    infinite, m = lion_step_reference(
        infinite, w.grad, m, lr=0.1, beta1=0.9, beta2=0.99, weight_decay=0.0
    )
    lion.step()
claim(
    "Two weights with gradient 1 for 50 steps at rate 0.1, the first with one NaN at step 4: Lion "
    "ends at {a:.1f} and {b:.1f}, without a sign that the first has stopped; AdamW's first is {c}. With "
    "−∞ at step 4 the equations end at {up:.1f}, uphill, and our Lion stays at {stays:.1f}.",
    ends["Lion"].isfinite().all()
    and abs(ends["Lion"][0] + 0.3) < 1e-4
    and abs(ends["Lion"][1] + 5) < 1e-4
    and ends["AdamW"][0].isnan()
    and abs(infinite.item() - 4.4) < 1e-4
    and abs(w.item() + 0.2) < 1e-4,
    up=infinite.item(),
    stays=w.item(),
    a=ends["Lion"][0].item(),
    b=ends["Lion"][1].item(),
    c=str(ends["AdamW"][0].item()),
)

# %% [markdown] tags=["skip"]
# {{exercise 119.2.lion}}

# %% [markdown] tags=["skip"]
# {{exercise 119.2.coupled-decay}}

# %% [markdown] tags=["slide"]
# ## Schedule-Free: the idea
#
# A decaying rate does two things at the end of a run: it takes the noise out of the iterates, and
# it needs to know when the end is. **Averaging** the iterates takes the noise out as well
# {cite:p}`polyak1992averaging`, and needs to know nothing; but a plain average drags the beginning
# along, and in practice loses to a schedule. Schedule-Free {cite:p}`defazio2024schedulefree` closes
# the gap with one idea: take the gradient not at the iterate, nor at the average, but at a point
# *between*. It keeps three sequences:
#
# $$
# y_t &= (1-\beta)\, z_t + \beta\, x_t && \quad\text{where the gradient is taken} \\
# z_{t+1} &= z_t - \gamma\, \nabla f(y_t) && \quad\text{the base optimizer's step} \\
# x_{t+1} &= (1 - c_{t+1})\, x_t + c_{t+1}\, z_{t+1} && \quad\text{the average: the model that you use}
# $$ (eq-schedule-free)
#
# With $c_{t+1} = 1/(t+1)$, $x$ is the plain mean of the $z$. For $\beta = 0$ this is Polyak
# averaging; for $\beta = 1$ the gradient is taken at the average itself, and the step hardly
# matters any more. $\beta = 0.9$ takes from both: stable like the second, quick like the first.
#
# AdamW Schedule-Free replaces the step on $z$ by Adam's: divided by $\sqrt{\hat v_t} + \epsilon$, plus
# the decay $\lambda y_t$. No first moment is kept, for $\beta$ does its work: so memory is $z$ and $v$
# in place of $m$ and $v$.

# %%
def draw_averaging(beta, lr):
    """A noisy quadratic in one dimension: the three sequences side by side."""
    noise = np.random.default_rng(1).normal(size=120)
    z = x = 2.0
    zs, xs = [z], [x]
    for t in range(120):
        y = (1 - beta) * z + beta * x
        z = z - lr * (y + noise[t])  # gradient of y²/2, plus noise
        x = x + (z - x) / (t + 2)
        zs.append(z)
        xs.append(x)
    fig, ax = plt.subplots(figsize=(7, 2.8))
    ax.plot(zs, color="0.7", label="$z$: steps")
    ax.plot(
        xs,
        color=COLOR["Schedule-Free"],
        lw=2.5,
        label="$x$: average, the model",
    )
    ax.axhline(0, color="black", lw=0.8, ls=":", label="minimum")
    ax.set(
        xlabel="step",
        ylabel="parameter",
        ylim=(-2.2, 3),
        title=f"after 120 steps |x| = {abs(x):.2f}, |z| = {abs(z):.2f}",
    )
    ax.legend(ncols=3, loc="upper right")
    return fig


explore(
    draw_averaging,
    {"beta": [0.0, 0.5, 0.9, 0.98, 1.0], "lr": [0.03, 0.1, 0.3, 1.0]},
    initial={"beta": 0.9, "lr": 0.3},
    name="Schedule-Free on a noisy quadratic",
    alt=lambda beta, lr: (
        f"The iterates z and their average x over 120 steps for beta = {beta} and "
        f"learning rate {lr}; x is smooth and approaches the minimum, z is noisy."
    ),
)

# %% [markdown] tags=["skip"]
# At $\beta = 1$ with a small rate, $x$ and $z$ barely move together; at $\beta = 0$ with a large
# rate, $z$ is all noise and only $x$ can be used. In between there is a wide range that works.

# %% [markdown] tags=["slide"]
# ### Two modes
#
# The gradient belongs to $y$, the model that you evaluate is $x$, but there is one set of weights.
# So the optimizer has modes: after `optimizer.train()` the parameters hold $y$, after
# `optimizer.eval()` they hold $x$, and the other is computed from $z$ when it is wanted. Forgetting
# is the classic mistake; here a step in the wrong mode is refused:

# %% tags=["nbval-check-output"]
w = nn.Parameter(torch.zeros(2))
free = AdamWScheduleFree([w])
free.eval()
w.grad = torch.ones(2)
try:
    free.step()
except RuntimeError as error:
    print(error)

# %% [markdown] tags=["skip"]
# ## Schedule-Free in code
#
# The readable reference stores all of $x$, $y$ and $z$, and its last three lines are the three lines
# of {eq}`eq-schedule-free`:

# %% tags=["skip"]
from dlcourse.large_scale_training import ScheduleFreeReference

show_source(ScheduleFreeReference)

# %% [markdown] tags=["skip"]
# The optimizer stores only $z$ and $v$ (and the parameter itself, which is $y$ or $x$). Are they
# the same, over random settings, with the modes switched now and then?

# %% tags=["skip"]
worst = 0.0
for trial in range(50):
    settings = {
        "lr": 10 ** rng.uniform(-4, -1),
        "betas": (rng.uniform(0, 1), rng.uniform(0, 0.999)),
        "weight_decay": rng.choice([0.0, 0.1]),
        "warmup_steps": int(rng.integers(0, 30)),
    }
    start, grads = (
        torch.tensor(rng.normal(size=7)),
        torch.tensor(rng.normal(size=(100, 7))),
    )
    reference, w = (
        ScheduleFreeReference(start, **settings),
        nn.Parameter(start.clone()),
    )
    free = AdamWScheduleFree([w], **settings)
    for t, g in enumerate(grads):
        reference.step(g)
        w.grad = g.clone()
        free.step()
        if t % 20 == 0:  # look at the model, and go on
            free.eval()
            worst = max(worst, (w - reference.x).abs().max().item())
            free.train()
        worst = max(worst, (w - reference.y).abs().max().item())
claim(
    "Over 50 random settings of 100 steps each, both $y$ (train mode) and $x$ (eval mode) agree "
    "with the reference; the largest difference is {worst:.0e}.",
    worst < 1e-9,
    worst=worst,
)

# %% [markdown] tags=["skip"]
# The test suite compares with the authors' package `schedulefree` too, to $10^{-9}$.

# %% [markdown] tags=["skip"]
# {{exercise 119.2.schedule-free-average}}

# %% [markdown] tags=["skip"]
# ### Batch normalization needs a second look
#
# BatchNorm collects its running mean and variance in training, with the weights at $y$. The model
# that you evaluate has the weights $x$: the statistics belong to another network. The remedy is to
# pass some training batches through the model, in the model's train mode and the optimizer's eval
# mode, before evaluating.

# %% tags=["skip"]
def batchnorm_losses(seed, steps):
    """Validation loss at x with the statistics of training, with those of y, with those of x."""
    torch.manual_seed(seed)  # nn.Linear takes its start from the global generator
    net = nn.Sequential(
        nn.Flatten(),
        nn.Linear(144, 64),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
    optimizer = AdamWScheduleFree(net.parameters(), lr=0.01)
    order = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        batch = torch.randint(len(data.train.y), (64,), generator=order)
        loss = nn.functional.cross_entropy(
            net(data.train.x[batch]), data.train.y[batch]
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def validation_loss():
        optimizer.eval()
        net.eval()
        with torch.no_grad():
            return nn.functional.cross_entropy(
                net(data.validation.x), data.validation.y
            ).item()

    def collect():
        net.train()
        for layer in net:
            if isinstance(layer, nn.BatchNorm1d):
                layer.reset_running_stats()
                layer.momentum = None  # a plain mean over the batches that follow
        with torch.no_grad():
            for batch in data.train.x[:3200].split(64):
                net(batch)

    found = [validation_loss()]
    for put_weights in (optimizer.train, optimizer.eval):  # y, then x
        put_weights()
        collect()
        found.append(validation_loss())
    return found


early, late = (
    np.array([batchnorm_losses(seed, steps) for seed in range(5)])
    for steps in (20, 150)
)
say(
    "| steps | statistics of training | collected at $y$ | collected at $x$ |\n|---|---|---|---|\n"
    + "\n".join(
        f"| {steps} | " + " | ".join(f"{v:.3f}" for v in rows.mean(0)) + " |"
        for steps, rows in ((20, early), (150, late))
    )
    + "\n\nValidation loss at $x$, mean of 5 seeds. The last two columns differ in the weights only."
)
claim(
    "Collected over the same batches, the statistics of $x$ give a lower loss than those of $y$, for each of 5 "
    "seeds: by {early:.3f} after 20 steps and by {late:.3f} after 150. What is lost after 20 steps with the "
    "statistics of training, {lag:.2f} more, has another reason, which every optimizer has: BatchNorm's running mean "
    "lags behind.",
    (early[:, 2] < early[:, 1]).all()
    and (late[:, 2] < late[:, 1]).all()
    and (early[:, 0] - early[:, 1]).mean() > 5 * (early[:, 1] - early[:, 2]).mean(),
    early=(early[:, 1] - early[:, 2]).mean(),
    late=(late[:, 1] - late[:, 2]).mean(),
    lag=(early[:, 0] - early[:, 1]).mean(),
)

# %% [markdown] tags=["skip"]
# ### Save in the mode that you mean
#
# A checkpoint of the *model* should hold $x$: call `optimizer.eval()` first, or whoever loads the
# weights gets $y$. For a checkpoint to *resume* from, the mode does not matter here, as the
# optimizer's own `state_dict` remembers it: loading puts the mode back together with $z$ and $v$, and the
# run goes on as if nothing had happened.

# %% tags=["skip"]
def run(steps, checkpoint=None):
    """Train; optionally from a (model, optimizer) checkpoint. Returns the checkpoint at the end."""
    net = MLPs((6, 4), seeds=(0,))
    optimizer = AdamWScheduleFree(net.parameters(), lr=0.02)
    if checkpoint:
        net.load_state_dict(checkpoint[0])
        optimizer.load_state_dict(checkpoint[1])
        optimizer.train()
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.ones(1, 1, 6)).square().sum().backward()
        optimizer.step()
    optimizer.eval()  # the saved model is x
    return net.state_dict(), optimizer.state_dict()


whole, resumed = run(40), run(25, checkpoint=run(15))
claim(
    "Saved in eval mode after 15 steps and resumed for 25, the weights equal those of 40 steps in one go.",
    all(
        torch.allclose(whole[0][k], resumed[0][k], rtol=0, atol=1e-6) for k in whole[0]
    ),
)

# %% [markdown] tags=["skip"]
# ## Details that decide
#
# What the equations leave open, where each comes from, and what happens without it.
#
# 1. **Lion's rate is smaller and its decay larger.** Each of its steps has the full size $\eta$ in
#    every coordinate. The authors advise 3–10 times less rate than AdamW's, and 3–10 times more
#    decay, so that the product $\eta\lambda$ stays {cite:p}`chen2023lion`. AdamW's usual decay
#    of 0.01 is too little for it.
# 2. **`sign(0)` is 0.** A parameter whose gradients were always zero (the row of a word that has not
#    come up yet) does not move. A sign that gave 1 would push it at every step.
# 3. **Decay before the step, with the same old weights.** Equation {eq}`eq-lion` uses $\theta_{t-1}$
#    in both terms: multiply by $1-\eta\lambda$ first, then subtract the sign.
# 4. **The average of Schedule-Free is weighted by the squared rate**, $c_t = \gamma_t^2 / \sum_i
#    \gamma_i^2$, with the largest rate so far for $\gamma$. So steps of the warm-up hardly count.
#    With equal weights the first, wild steps would stay in the model
#    {cite:p}`defazio2024schedulefree`.
# 5. **Decay acts at $y$**, where the gradient is taken, not at $z$ or $x$ (the same source).
# 6. **No first moment to correct.** Only $v$ starts at zero, so only $v$ has a bias correction,
#    $1 - \beta_2^t$, with $t$ the number of *steps*.
# 7. **32 bits for state, and for weights.** A bfloat16 number has 8 bits of precision, so an average
#    in bfloat16 stops growing where its increment is half of a unit in the last place. Both
#    optimizers keep their state in float32. (Lion needs that less, since only a sign is taken of its
#    momentum: its authors kept it in bfloat16.) The weights themselves need it too: see below.
# 8. **Schedule-Free likes larger rates and a warm-up**: the authors start from 1–10 times AdamW's rate,
#    and from $\beta_1$ 0.9, or 0.95–0.98 for very long runs (documentation of `schedulefree`).
#
# Detail 3 in one sum, with $\eta\lambda = 0.1$, both orders from $\theta = 1$ and sign $+1$; and detail 7
# in one loop.

# %% tags=["skip"]
theta, lr, decay = 1.0, 0.1, 1.0
say(
    "Decay first: {right:.2f}. Step first, decay afterwards: {wrong:.2f}: the "
    "decay then acts on the step as well.",
    right=theta * (1 - lr * decay) - lr * 1,
    wrong=(theta - lr * 1) * (1 - lr * decay),
)
stalled = {}
for beta2 in (0.99, 0.999):
    m = torch.zeros((), dtype=torch.bfloat16)
    for _ in range(10_000):
        m = (beta2 * m.float() + (1 - beta2)).bfloat16()
    stalled[beta2] = m.item()
claim(
    "A bfloat16 momentum of gradients of 1 should go to 1. It stalls at {a:.2f} with β₂ = 0.99, and "
    "at {b:.2f} with 0.999.",
    abs(stalled[0.99] - 0.8) < 0.02 and abs(stalled[0.999] - 0.25) < 0.02,
    a=stalled[0.99],
    b=stalled[0.999],
)
w = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
lion = Lion([w], lr=1e-3)
for _ in range(1000):
    w.grad = torch.ones_like(w)
    lion.step()
claim(
    "A bfloat16 weight of 1 after 1,000 steps of Lion at rate 0.001, all in one "
    "direction: {w:g}. It should be 0; each step is rounded away.",
    w.item() == 1,
    w=w.item(),
)

# %% [markdown] tags=["slide"]
# ## Watch them move
#
# A narrow valley, turned by 30 degrees. Gray: SGD with momentum and AdamW, at rates that suit them.
# Move the rate and the betas of Lion and Schedule-Free.

# %% tags=["hide-input"]
ANGLE = math.radians(30)
TURN = torch.tensor(
    [[math.cos(ANGLE), -math.sin(ANGLE)], [math.sin(ANGLE), math.cos(ANGLE)]]
)
CURVATURE = torch.tensor([1.0, 30.0])


def valley(p):
    """A quadratic with curvatures 1 and 30 along turned axes: (..., 2) -> (...)."""
    return 0.5 * ((p @ TURN) ** 2 * CURVATURE).sum(-1)


def trajectory(make_optimizer, steps=60):
    """Points visited from a fixed start, as evaluated (x, for Schedule-Free): (steps + 1, 2)."""
    w = nn.Parameter(torch.tensor([-1.8, 0.9]))
    optimizer = make_optimizer([w])
    to_eval = getattr(optimizer, "eval", lambda: None)
    to_train = getattr(optimizer, "train", lambda: None)
    points = [w.detach().clone()]
    for _ in range(steps):
        optimizer.zero_grad()
        valley(w).backward()
        optimizer.step()
        to_eval()
        points.append(w.detach().clone())
        to_train()
    return torch.stack(points)


GRID = torch.stack(
    torch.meshgrid(
        torch.linspace(-2.2, 2.2, 45),
        torch.linspace(-1.5, 1.5, 31),
        indexing="xy",
    ),
    -1,
)
HEIGHT = valley(GRID)
CALM = {
    "SGD": trajectory(lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9)),
    "AdamW": trajectory(lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.0)),
}


def draw_trajectories(lr, beta1, beta2):
    fig, axes = plt.subplots(
        1, 2, figsize=(7.2, 2.9), sharey=True, layout="constrained"
    )
    makers = {
        "Lion": lambda p: Lion(p, lr=lr, betas=(beta1, beta2)),
        "Schedule-Free": lambda p: AdamWScheduleFree(p, lr=lr, betas=(beta1, beta2)),
    }
    for ax, (name, make) in zip(axes, makers.items(), strict=True):
        ax.contour(
            GRID[..., 0],
            GRID[..., 1],
            HEIGHT,
            levels=10 ** np.linspace(-1.5, 1.8, 6),
            colors="0.85",
        )
        for style, points in zip(("--", ":"), CALM.values(), strict=True):
            ax.plot(*points.T, style, color="0.55", lw=1)
        points = trajectory(make)
        ax.plot(*points.T, ".-", ms=4, lw=1, color=COLOR[name])
        ax.plot(0, 0, "k*", ms=8)
        ax.set(
            xlim=(-2.2, 2.2),
            ylim=(-1.5, 1.5),
            xlabel="$w_1$",
            title=f"{name}: loss {valley(points[-1]):.1e} after 60 steps",
        )
        ax.title.set_fontsize(9)
    axes[0].set_ylabel("$w_2$")
    return fig


explore(
    draw_trajectories,
    {
        "lr": [0.01, 0.03, 0.1, 0.3, 1.0],
        "beta1": [0.5, 0.9, 0.98],
        "beta2": [0.9, 0.99],
    },
    initial={"lr": 0.1, "beta1": 0.9, "beta2": 0.99},
    name="Trajectories in a narrow valley",
    alt=lambda lr, beta1, beta2: (
        "Paths of Lion and Schedule-Free over the contours of a narrow, turned "
        f"valley at learning rate {lr}, beta1 = {beta1}, beta2 = {beta2}; gray dashed SGD, dotted AdamW."
    ),
)

# %% [markdown] tags=["skip"]
# Three things to see. Lion's steps have only eight directions (two coordinates, each −1, 0 or 1) and one size, so it
# can't come to rest: without a decaying rate it circles the minimum at a distance set by the rate.
# Schedule-Free comes to rest by itself, because $x$ is an average. And a sign knows the axes: turn
# the valley and Lion takes another path, which SGD would not.

# %% mystnb={"figure": {"caption": "Distance to the minimum in the turned valley, running mean over 100 steps. Lion at a constant rate ends in a cycle whose size is in proportion to the rate; the average of Schedule-Free has no such floor in sight.", "name": "fig-floor"}, "image": {"alt": "Line plot with a logarithmic vertical axis: Lion at three rates falls and then stays at a floor, each half as high as the one before. Schedule-Free falls below all three."}} tags=["skip", "hide-input", "plot"]
def running_mean(distance, width=100):
    return np.convolve(distance, np.ones(width) / width, mode="valid")


fig, ax = plt.subplots(figsize=(7, 2.8))
floors = {}
for lr, style in [(0.05, "-"), (0.025, "--"), (0.0125, ":")]:
    distance = trajectory(lambda p: Lion(p, lr=lr), steps=1200).norm(dim=1)
    floors[lr] = distance[-400:].mean().item()
    ax.plot(
        running_mean(distance),
        style,
        color=COLOR["Lion"],
        label=f"Lion, lr = {lr}",
    )
distance = trajectory(lambda p: AdamWScheduleFree(p, lr=0.1), steps=1200).norm(dim=1)
ax.plot(
    running_mean(distance),
    color=COLOR["Schedule-Free"],
    label="Schedule-Free, lr = 0.1",
)
ax.set(
    xlabel="step",
    ylabel="distance to the minimum",
    yscale="log",
    ylim=(0.003, 3),
)
ax.legend()
plt.show()

# %% tags=["skip", "hide-input"]
rates = sorted(floors)
claim(
    "Mean distance over the last 400 steps: Lion {a:.3f}, {b:.3f} and {c:.3f} at rates 0.05, 0.025 and "
    "0.0125, each half of the one before; Schedule-Free {d:.4f}.",
    all(abs(floors[2 * r] / floors[r] - 2) < 0.1 for r in rates[:2])
    and distance[-400:].mean() < floors[rates[0]] / 2,
    a=floors[0.05],
    b=floors[0.025],
    c=floors[0.0125],
    d=distance[-400:].mean().item(),
)

# %% [markdown] tags=["skip"]
# So Lion needs a schedule that goes to zero; from here on it gets one.

# %% [markdown] tags=["slide"]
# ## The experiment
#
# **Task.** Digits on a 12 × 12 canvas, each moved by up to 2 pixels in each direction; a network
# with two hidden layers of 64; 400 steps of 64 images. **Contestants.** SGD with momentum, AdamW and
# Lion with a cosine to zero; AdamW with WSD (the full rate, then a linear end over the last fifth);
# AdamW at a constant rate, where the model is the average of the weights over the last fifth;
# Schedule-Free AdamW without a schedule. **Fairness.** Each gets the same grid: 5 rates × 2 decays
# × 2 warm-ups (none, 20 steps) × 3 seeds, chosen by mean *validation* loss. Then the choice runs
# with 8 *new* seeds, on the test split, which was not looked at before.

# %% tags=["long", "hide-input"] name="contest"
tuning = {
    name: [
        [
            *setting,
            contest_curve(
                name, setting, steps=STEPS, measure_at=[STEPS], seeds=(0, 1, 2)
            )[0].tolist(),
        ]
        for setting in itertools.product(rates, decays, WARMUPS)
    ]
    for name, (_, rates, decays, _) in CONTESTANTS.items()
}
best = {
    name: min(rows, key=lambda row: sum(row[3]))[:3] for name, rows in tuning.items()
}
TEST_SEEDS = tuple(range(10, 18))
test = {}
for name, (make, _, _, shape) in CONTESTANTS.items():
    model = MLPs(SIZES, TEST_SEEDS)
    optimizer = make(model.parameters(), *best[name])
    scheduler = scheduled(shape, best[name][2])(optimizer, STEPS) if shape else None
    train(model, optimizer, data.train, steps=STEPS, scheduler=scheduler)
    test[name] = losses(model, data.test), accuracies(model, data.test)

# For every budget: planned runs with rate, decay and warm-up tuned for this budget; one free run
BUDGETS = [100, 200, 400, 800]
planned = {}
for name in ("AdamW", "AdamW, WSD"):
    planned[name] = []
    _, rates, decays, _ = CONTESTANTS[name]
    for b in BUDGETS:
        setting = min(
            itertools.product(rates[1:4], decays, WARMUPS),
            key=lambda setting: contest_curve(
                name, setting, steps=b, measure_at=[b], seeds=(0, 1, 2)
            ).mean(),
        )
        runs = contest_curve(name, setting, steps=b, measure_at=[b], seeds=TEST_SEEDS)
        planned[name].append(runs[0])
one_run = contest_curve(
    "Schedule-Free",
    best["Schedule-Free"],
    steps=BUDGETS[-1],
    measure_at=BUDGETS,
    seeds=TEST_SEEDS,
)
keep(tuning=tuning, best=best, test=test, budgets=BUDGETS, planned=planned, one_run=one_run)

# %% tags=["long", "hide-input", "skip"] name="average"
def averaged(setting, seeds):
    """AdamW at a constant rate after its warm-up: the mean of the weights of the last fifth."""
    lr, decay, warmup = setting
    model = MLPs(SIZES, seeds)
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: min(1.0, (k + 1) / max(1, warmup))
    )
    average, step = AveragedModel(model), itertools.count(1)

    def update(*_):
        if next(step) > 0.8 * STEPS:
            average.update_parameters(model)

    optimizer.register_step_post_hook(update)
    train(model, optimizer, data.train, steps=STEPS, scheduler=schedule)
    return average.module


_, rates, decays, _ = CONTESTANTS["AdamW"]
trials = [
    [*setting, losses(averaged(setting, (0, 1, 2)), data.validation).tolist()]
    for setting in itertools.product(rates, decays, WARMUPS)
]
choice = min(trials, key=lambda row: sum(row[3]))[:3]
model = averaged(choice, tuple(range(10, 18)))

# Of two decays one is always at an edge: what does a decay beyond it do?
beyond = {}
for name, (lr, decay, warmup) in recorded("119.2.contest")["best"].items():
    further = decay * 3 if decay == CONTESTANTS[name][2][-1] else decay / 3
    if further != decay:
        beyond[name] = further, contest_curve(
            name, (lr, further, warmup), steps=STEPS, measure_at=[STEPS], seeds=(0, 1, 2)
        )[0].tolist()
keep(
    trials=trials,
    best=choice,
    test=(losses(model, data.test), accuracies(model, data.test)),
    beyond=beyond,
)

# %% mystnb={"figure": {"caption": "Sensitivity to the learning rate: validation loss after 400 steps, mean and range of 3 seeds, at the best decay and warm-up for each rate. The lowest point of each curve is that optimizer's choice for the test.", "name": "fig-sensitivity"}, "image": {"alt": "Five curves of validation loss over learning rate, for SGD, AdamW with cosine and with WSD, Lion and Schedule-Free, each with its lowest point inside."}} tags=["hide-input", "plot"]
contest = recorded("119.2.contest")
fig, ax = plt.subplots()
for name, rows in contest["tuning"].items():
    rates = CONTESTANTS[name][1]
    runs = [min((r[3] for r in rows if r[0] == lr), key=sum) for lr in rates]
    lowest, highest = [min(r) for r in runs], [max(r) for r in runs]
    ax.fill_between(rates, lowest, highest, color=COLOR[name], alpha=0.2, lw=0)
    ax.plot(rates, np.mean(runs, axis=1), "o-", color=COLOR[name], label=name)
ax.set(xlabel="learning rate", ylabel="validation loss (nats)", xscale="log", ylim=(0, 2.4))
ax.legend()
plt.show()

# %% tags=["hide-input", "check"]
average = recorded("119.2.average")
best = {**contest["best"], "AdamW, averaged": average["best"]}
test = {**contest["test"], "AdamW, averaged": average["test"]}
test_loss = {name: np.array(loss) for name, (loss, _) in test.items()}
rows = "\n".join(
    f"| {name} | {best[name][0]:g} | {best[name][1]:g} | {best[name][2]} | "
    f"{np.mean(loss):.3f} ± {np.std(loss, ddof=1):.3f} | "
    f"{100 * np.mean(accuracy):.1f} ± {100 * np.std(accuracy, ddof=1):.1f} |"
    for name, (loss, accuracy) in test.items()
)
say(
    "| optimizer | rate | decay | warm-up (steps) | test loss (nats) | test accuracy (%) |\n"
    "|---|---|---|---|---|---|\n" + rows + "\n\nMean ± standard deviation over {n} seeds.",
    n=len(test_loss["SGD"]),
)
T95 = 2.365  # Student's t for 8 seeds, two-sided 95 %


def paired(name, other):
    """Mean difference of two contestants over the seeds, and half of its 95 % interval."""
    difference = test_loss[name] - test_loss[other]
    return difference.mean(), T95 * difference.std(ddof=1) / math.sqrt(len(difference))


rival = min((n for n in test_loss if n != "Schedule-Free"), key=lambda n: test_loss[n].mean())
gap, half = paired("Schedule-Free", rival)
mean_gap, mean_half = paired("AdamW, averaged", "AdamW, WSD")
lion_gap, lion_half = paired("Lion", "AdamW")
grids = {name: rates for name, (_, rates, _, _) in CONTESTANTS.items()}
grids["AdamW, averaged"] = grids["AdamW"]
claim(
    "On this task Schedule-Free has the lowest test loss: beside the best of the others, {rival}, the "
    "difference over the same seeds is {gap:.3f} ± {half:.3f} (95 % interval), and it is lower for "
    "{wins} of {n}. The averaged constant rate minus WSD: {mean_gap:.3f} ± {mean_half:.3f}. Between Lion "
    "and AdamW, both with a cosine, no order shows: {lion_gap:.3f} ± {lion_half:.3f}. No rate that was "
    "chosen lies at an edge of its grid.",
    all(sum(paired("Schedule-Free", n)) < 0 for n in test_loss if n != "Schedule-Free")
    and mean_gap + mean_half < 0
    and abs(lion_gap) < lion_half
    and all(rates[0] < best[n][0] < rates[-1] for n, rates in grids.items()),
    rival=rival,
    gap=gap,
    half=half,
    wins=int((test_loss["Schedule-Free"] < test_loss[rival]).sum()),
    n=len(test_loss[rival]),
    mean_gap=mean_gap,
    mean_half=mean_half,
    lion_gap=lion_gap,
    lion_half=lion_half,
)
validation = {n: min((r[3] for r in rows), key=sum) for n, rows in contest["tuning"].items()}
claim(
    "Of two decays each is at an edge of the grid. A factor of 3 beyond it would not have lowered the mean "
    "validation loss by more than 0.01 anywhere: "
    + "; ".join(
        f"{n} {np.mean(validation[n]):.3f}, with a decay of {decay:.2g} {np.mean(loss):.3f}"
        for n, (decay, loss) in average["beyond"].items()
    )
    + ".",
    all(np.mean(loss) > np.mean(validation[n]) - 0.01 for n, (_, loss) in average["beyond"].items()),
)

# %% [markdown] tags=["skip"]
# Section {doc}`119.3 <3_schedules>` has a larger task, without decay, and budgets up to 1,600 steps. There
# no order shows between Schedule-Free and the average at 400 steps, and the average is ahead in longer runs.

# %% [markdown] tags=["slide"]
# ### The question again, tuned
#
# One Schedule-Free run, measured on its way, against *separate* AdamW runs for every budget, each
# with rate (3 of the grid's), decay and warm-up tuned for that budget.

# %% mystnb={"figure": {"caption": "Validation loss against the training budget, mean and standard deviation of 8 seeds. The squares and triangles are separate AdamW runs, each planned and tuned for its budget; the circles are one Schedule-Free run.", "name": "fig-anytime"}, "image": {"alt": "Validation loss falls with the budget from 100 to 800 steps for planned AdamW runs with cosine and WSD, and for one Schedule-Free run."}} tags=["hide-input", "plot"]
budgets = contest["budgets"]
fig, ax = plt.subplots()
for runs, name, style, label in [
    (contest["planned"]["AdamW"], "AdamW", "s--", "AdamW, cosine: a run for each budget"),
    (contest["planned"]["AdamW, WSD"], "AdamW, WSD", "^:", "AdamW, WSD: a run for each budget"),
    (contest["one_run"], "Schedule-Free", "o-", "Schedule-Free: one run"),
]:
    runs = np.array(runs)
    ax.errorbar(
        budgets,
        runs.mean(1),
        runs.std(1, ddof=1),
        fmt=style,
        color=COLOR[name],
        capsize=3,
        label=label,
    )
ax.set(xlabel="budget (steps)", ylabel="validation loss (nats)", ylim=(0, None), xticks=budgets)
ax.legend()
plt.show()

# %% tags=["hide-input", "check"]
free = np.array(contest["one_run"])  # (budgets, seeds)
differences = [free - np.array(runs) for runs in contest["planned"].values()]
others = np.minimum(*(np.array(runs).mean(1) for runs in contest["planned"].values()))
claim(
    "Mean loss of the one run, and of the better of the two planned ones: "
    + "; ".join(
        f"{b} steps {one:.3f} and {other:.3f}"
        for b, one, other in zip(budgets, free.mean(1), others)
    )
    + ". The one run is lower at each budget, than either (the paired 95 % intervals exclude 0).",
    all(
        (d.mean(1) + T95 * d.std(1, ddof=1) / math.sqrt(d.shape[1]) < 0).all() for d in differences
    ),
)

# %% [markdown] tags=["slide"]
# ## At scale: it is all memory traffic
#
# An optimizer's step does a handful of operations for each number that it reads. A modern processor
# can do tens of them in that time, so a step is as fast as the memory. Count the bytes: Lion
# reads $\theta$, $g$, $m$ and writes $\theta$, $m$; AdamW and Schedule-Free read four numbers and
# write three.

# %% tags=["hide-input"]
traffic = {
    "Lion": (3 + 2) * 4,
    "AdamW": (4 + 3) * 4,
    "Schedule-Free": (4 + 3) * 4,
}  # bytes a parameter
say(
    "In float32 that is {lion} bytes a parameter for Lion and {adamw} for the others: a ratio of "
    "{ratio:.1f}, if every number is read and written once. A form that makes a pass over memory for each "
    "operation moves several times as much.",
    lion=traffic["Lion"],
    adamw=traffic["AdamW"],
    ratio=traffic["AdamW"] / traffic["Lion"],
)

# %% [markdown] tags=["skip"]
# Both classes take `implementation=`:
#
# - `"loop"`: a Python loop over the tensors, with in-place operations on
#   pieces that fit the cache. On a CPU it is the best form without a compiler,
#   and the default there.
# - `"foreach"`: each operation over *all* tensors in one call
#   (`torch._foreach_*`). A GPU then starts a few large kernels instead of
#   hundreds of small ones, so it is the default there. On a CPU it is the slow
#   form: each operation walks through all of memory, and nothing stays in the
#   cache.
# - `"compiled"`: `torch.compile` fuses the equations, so that each number is
#   read and written once and no temporary is made, for the price of compiling
#   at the first step (seconds to a minute).
#
# - `"triton"` (Lion, on a GPU): one kernel for all tensors, which finds them in a
#   table of addresses, and so is started once however many tensors there are.
#
# `benchmarks/optimizers.py` measures all but the last against `lion-pytorch`,
# `schedulefree` and torch's AdamW in one run. The cell below does it on a GPU
# with the 146 tensors of a transformer of about 100 million parameters, and
# once more with as many numbers in a single tensor.

# %% tags=["gpu", "hide-input"] name="step-time"
device = torch.device("cuda")
wrong = {
    f"{form} {dtype}".replace("torch.", ""): disagreement(form, device, dtype)
    for form in ("foreach", "triton")
    for dtype in (torch.float32, torch.bfloat16)
}
print("elements that differ from the reference after 3 steps:", wrong)
assert all(share < 1e-3 for share in wrong.values()), wrong
measured = measure_optimizers(transformer_shapes(), device)
keep(wrong=wrong, **measured)

# %% tags=["hide-input", "check", "skip"]
measured = recorded("119.2.step-time")
if len(measured):
    copy = np.median(measured["copy"])

    def in_words(times):
        return f"{np.median(times):.2f} ({min(times):.2f}–{max(times):.2f})"

    share = {
        name: measured["bytes"][name] / (np.median(times) / 1000) / copy
        for name, times in measured["queued"].items()
    }
    say(
        "| optimizer | alone, ms | queued, ms | queued, of a copy |\n|---|---|---|---|\n"
        + "\n".join(
            f"| {name} | {in_words(measured['alone'][name])} | {in_words(times)} "
            f"| {share[name]:.0%} |"
            for name, times in measured["queued"].items()
        )
        + "\n\nMedian (least to most) of {n} interleaved repeats, {tensors} tensors with {millions:.1f} M "
        "parameters; a copy moves {copy:.2f} TB/s. The one kernel for all tensors reaches {triton:.0%} of "
        "a copy, torch's fused AdamW {fused:.0%}.",
        n=len(measured["copy"]),
        tensors=measured["tensors"],
        millions=measured["parameters"] / 1e6,
        copy=copy / 1e12,
        triton=share["Lion triton"],
        fused=share["AdamW fused"],
    )
else:
    say("The table of this measurement is not recorded yet; above stands an older one.")

# %% [markdown] tags=["skip"]
# "Alone" is a step on an idle GPU: the time before the first kernel, in which the host checks each
# tensor and starts work, counts too. "Queued" is a step behind other work, as after a backward
# pass. "Of a copy" takes the count of bytes above, divided by the time, as a share of what a plain
# copy reaches on the same device. 100 % would be a perfect single pass. Less traffic helps only
# where neither the host nor the number of kernels limits the step: compare Lion's forms with torch's
# fused AdamW, which moves 1.4 times as much.
#
# On many machines nothing changes: both updates act on each element alone, so
# each rank steps the shard that it holds (section 119.1a), and the result does
# not depend on how the weights are cut. (Muon's needs whole matrices.) Lion's
# single state halves the *optimizer's* memory. In float32, weights, gradients
# and state together are 3 numbers a parameter for AdamW's 4, a checkpoint of
# weights and state 2 for 3, and the messages between ranks are the same.

# %% [markdown] tags=["slide"]
# ## Slips that still run
#
# The following implementations look like the two optimizers, train without an error, and compute
# something else. The code that the book began with had all of them; the
# {doc}`errata </book/errata>` list each with its test.
#
# **The decay is added to the gradient.** Take gradients so small that the decay outvotes them:

# %% tags=["nbval-check-output"]
theta, grad, lr, decay = torch.ones(2), torch.tensor([1e-3, -1e-3]), 1e-2, 1.0
inside = theta.clone()
for _ in range(5):
    inside -= lr * torch.sign(
        grad + decay * inside
    )  # decay inside the sign

w = nn.Parameter(theta.clone())
lion = Lion([w], lr=lr, weight_decay=decay)
for _ in range(5):
    w.grad = grad.clone()
    lion.step()
print("inside: ", [round(v, 3) for v in inside.tolist()])
print("Lion:   ", [round(v, 3) for v in w.tolist()])

# %% tags=["hide-input"]
claim(
    "The two weights have opposite gradients. With the decay inside the sign they move alike, to {same:.2f}: the data "
    "has no say. Lion moves one down to {down:.3f} and holds the other at {up:.3f}, where gradient "
    "and decay balance.",
    inside[0] == inside[1] and w[0] < w[1] - 0.05,
    same=inside[0].item(),
    down=w[0].item(),
    up=w[1].item(),
)

# %% [markdown] tags=["slide"]
# **$\beta_2$ is never used.** The code stores $c_t$ as the momentum, so that both betas are $\beta_1$. How
# long does a direction survive after the gradient has turned round?

# %%
def steps_until_turn(stored_beta, beta1=0.9, before=3000):
    """Steps with gradient −1, after a long time of +1, until the direction follows."""
    m = 0.0
    for step in itertools.count():
        g = 1.0 if step < before else -1.0
        c = beta1 * m + (1 - beta1) * g
        if c < 0:
            return step - before + 1
        m = stored_beta * m + (1 - stored_beta) * g


with_inside, with_lion = (
    steps_until_turn(stored_beta=0.9),
    steps_until_turn(stored_beta=0.99),
)
claim(
    "With one beta for both the direction turns after {a} steps, Lion's after {b}: with one beta the long memory is lost.",
    with_inside < with_lion / 5,
    a=with_inside,
    b=with_lion,
)

# %% [markdown] tags=["skip"]
# **The optimizer is an `nn.Module`.** So it has no parameter groups and saves nothing, and
# a schedule refuses it:

# %% tags=["nbval-check-output", "skip"]
class ModuleLion(nn.Module):  # state in a plain list of the module
    def __init__(self, params):
        super().__init__()
        self.exp_avg = [torch.zeros_like(p) for p in params]


pretender = ModuleLion([torch.ones(3)])
print("state_dict:", dict(pretender.state_dict()))
try:
    torch.optim.lr_scheduler.ConstantLR(pretender)
except TypeError as error:
    print("schedule:", error)

# %% [markdown] tags=["skip"]
# After a restart from such a checkpoint the momentum is zero, without a word. The reader sees
# only a loss that jumps.

# %% [markdown] tags=["slide"]
# **None of the three sequences is there.** `y` starts as a copy of the **weights** and is then mixed
# with **gradients**, so that the first step goes along the weights themselves; the weight of the
# gradient is $\beta_1$ where $1 - \beta_1$ was meant; and the bias correction counts the parameter's
# place in the list instead of the steps. One step from $\theta = 1$, on a loss with gradient 1:

# %%
theta, g, lr, beta1, beta2 = 1.0, 1.0, 0.01, 0.9, 0.999
y = (1 - beta1) * theta + beta1 * g  # a weight plus a gradient
v = (1 - beta2) * g**2
step_size = lr / (
    1 - beta2**1
)  # **(i + 1) with i the index of the parameter: 0 for the first
listing = theta - step_size * y / (math.sqrt(v) + 1e-8)

w = nn.Parameter(torch.tensor([theta]))
free = AdamWScheduleFree([w], lr=lr, betas=(beta1, beta2))
w.grad = torch.tensor([g])
free.step()
claim(
    "That code arrives at {listing:.0f}. Schedule-Free moves by about its learning rate, to "
    "{ours:.3f}.",
    listing < -100 and abs(w.item() - (theta - lr)) < 1e-4,
    listing=listing,
    ours=w.item(),
)

# %% [markdown] tags=["skip"]
# ## Limits
#
# - One small task, one network, one batch size. Rankings of optimizers change with all three; what
#   carries over is the method (equal budgets, validation for choosing, several seeds, a test once).
# - Lion's authors see its gains with large batches and on vision transformers, where it was found
#   {cite:p}`chen2023lion`; a batch of 64 is not its ground.
# - The grid is coarse: momentum, betas and batch size were not tuned for anybody.
# - Large batches: Schedule-Free is sensitive to its $\beta_1$ there. Song et al. propose a variant
#   {cite:p}`song2025river`, and Schedule-Free's first author another, for large models too
#   {cite:p}`defazio2026plus`. We have tested neither.
# - A tuned rate belongs to one width of the network. μP scales starts and rates so that it carries
#   over to wider ones {cite:p}`yang2021tuning`.
# - Schedule-Free must be tuned as well, and with BatchNorm it costs an extra pass.
# - 8-bit states and factored second moments (Adafactor) save memory too. They did not take part.
# - At work, use `lion-pytorch` and `schedulefree` (by the authors), or your framework's own. Use
#   ours to understand, and as a reference to test against.

# %% [markdown] tags=["skip"]
# {{exercise 119.2.cautious-lion}}

# %% [markdown] tags=["skip"]
# ## Quiz

# %% [markdown] tags=["skip"]
# {{quiz 119.2}}

# %% [markdown] tags=["slide"]
# ## Summary
#
# - The sign is steepest descent in the maximum norm: one size of step for every coordinate.
# - Lion steps with $\beta_1$ and remembers with $\beta_2$; it keeps one number a parameter, and wants a
#   rate that goes to zero.
# - Decay stands outside the sign, or it is no decay.
# - Schedule-Free takes gradients between the steps $z$ and their average $x$; $x$ is good at any time.
# - Two modes: `train()` for steps, `eval()` for evaluating, saving the model, and BatchNorm's statistics.
#
# References: each citation above leads to its source; the
# {doc}`bibliography </book/bibliography>` lists them all.
