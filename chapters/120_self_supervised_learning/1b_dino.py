# %% [markdown] tags=["slide"]
# (sec-120-1b)=
# # 120.1b Self-distillation: DINO and DINOv2
#
# **DINO** trains a network to predict the answers of its own moving average, on other views of the
# same image, with no labels and no negative pairs. **DINOv2** makes it scale. At the end of this
# section you can say why the two networks do not agree on a constant, recognise a collapsed run
# from two curves, and tell a correct implementation from one that merely runs.
#
# You need: Python, PyTorch, cross-entropy and entropy; section 120.1a helps. No GPU.

# %% tags=["definitions", "hide-input", "skip"]
import copy
import math
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.colors import PowerNorm
from torch import nn

from dlcourse.datasets import digits, shapes
from dlcourse.notebook import (
    claim,
    explore,
    keep,
    recorded,
    say,
    show_source,
)
from dlcourse.self_supervised_learning import (
    DINO,
    BatchViews,
    DINOHead,
    DINOLoss,
    blob_masks,
    features,
    iBOTLoss,
    knn_accuracy,
    koleo_loss,
    label_subset,
    linear_probe,
    momentum_schedule,
    pca_rgb,
    pretrain,
    sinkhorn_knopp,
    update_teacher,
)

plt.style.use("dlcourse.notebook.course")

# %% [markdown] tags=["slide"]
# ## A question
#
# Show a network two crops of one image and ask for the same answer to both. There is a perfect
# solution: answer the same to *everything*. Contrastive learning forbids it with negative pairs.
# DINO has none, and nobody gives it the right answer: the target comes from an average of its own
# past. Why should it learn anything?
#
# Let us look at what it answers. A small convolutional network sees moved handwritten digits; its
# head gives each view a distribution over $K = 64$ *prototypes*. Three runs, which differ in one
# line each.

# %% tags=["definitions", "skip"]
K = 64
SEEDS = (0, 1, 2)
FRACTIONS = (0.01, 0.1, 1.0)  # of the training images have a label
data = digits(
    seed=0, max_shift=2, copies=3
)  # 12 × 12 pixels, moved by up to 2
views = BatchViews(
    12, scale=(0.6, 1.0), flip=0
)  # a digit is not its mirror image


def encoder(seed, width=32, out=96):
    """Images (B, 1, 12, 12) to features (B, out); no norm, so no image sees another."""
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, width, 5, stride=2, padding=2),
        nn.GELU(),
        nn.Conv2d(width, out, 3, stride=2, padding=1),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    for layer in net:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)
    return net


def make(seed, width=32, out=96, koleo_weight=0.0, **loss):
    head = DINOHead(
        out, K, 128, 32, generator=torch.Generator().manual_seed(seed)
    )
    loss = DINOLoss(K, warmup_teacher_temp=loss["teacher_temp"], **loss)
    return DINO(
        encoder(seed, width, out), head, loss, koleo_weight=koleo_weight
    )


def train(model, steps, batch_size, seed, momentum=0.99, after=None):
    """Two views of each image, one optimizer step, one step of the teacher."""

    def loss(indices, generator):
        images = data.train.x[indices]
        return model([views(images, generator) for _ in range(2)]).total

    def after_step(step):
        model.update_teacher(momentum)
        if after is not None:
            after(step)

    pretrain(
        model,
        loss,
        len(data.train.y),
        steps=steps,
        batch_size=batch_size,
        lr=0.01,
        max_grad_norm=3.0,
        seed=seed,
        after_step=after_step,
    )
    return model

# %% tags=["skip"]
watched = [
    views(data.validation.x[:256], torch.Generator().manual_seed(i))
    for i in (1, 2)
]


@torch.no_grad()
def answers(model):
    """The teacher's distributions on one view of validation images, the student's on another.

    A softmax for every method: what Sinkhorn–Knopp makes of a batch uses all prototypes alike by
    construction, and would say nothing about the teacher. Where nothing is centred c is 0.
    """
    scores = model.teacher["head"](model.teacher["encoder"](watched[0]))
    p = ((scores - model.loss.center) / model.loss.teacher_temp).softmax(-1)
    scores = model.student["head"](model.student["encoder"](watched[1]))
    return p, (scores / model.loss.student_temp).log_softmax(-1)


def entropy(p):
    return -torch.special.xlogy(p, p).sum(-1)


class Run(NamedTuple):
    model: DINO
    answers: torch.Tensor  # (256, K): the teacher's, at the end
    curves: np.ndarray  # (3, measurements), in nats


def collapse_run(centering, teacher_temp, seed, steps=100, koleo_weight=0.0):
    """Train a small model; every 5 steps note H(P_t), KL(P_t ‖ P_s), and the mean's entropy."""
    model = make(
        seed,
        16,
        32,
        koleo_weight,
        centering=centering,
        teacher_temp=teacher_temp,
    )
    curves = []

    def watch(step):
        if step % 5 == 0:
            p, log_q = answers(model)
            h = entropy(p).mean()
            cross_entropy = -(p * log_q).sum(-1).mean()
            curves.append(
                (
                    h.item(),
                    (cross_entropy - h).item(),
                    entropy(p.mean(0)).item(),
                )
            )

    train(model, steps, 64, seed, after=watch)
    return Run(model, answers(model)[0], np.array(curves).T)


TEMPERATURES = [
    0.03,
    0.06,
    0.1,
]  # the student's is 0.1: the last does not sharpen
METHODS = ["none", "centering", "sinkhorn_knopp"]
runs = {
    (method, temperature, seed): collapse_run(method, temperature, seed)
    for method in METHODS
    for temperature in TEMPERATURES
    for seed in (
        (0, 1, 2)
        if method != "sinkhorn_knopp" and temperature != 0.06
        else (0,)
    )
}

# %% mystnb={"figure": {"caption": "What three teachers answer to 40 digits after 100 steps: one row a digit, one column a prototype. Without centring all choose one prototype; without sharpening all choose all of them; with both, the answer depends on the digit.", "name": "fig-dino-answers"}, "image": {"alt": "Three heat maps of 40 rows and 64 columns. The first is empty but for one bright column, the second is evenly grey, in the third the bright spots are spread over many columns."}} tags=["hide-input"]
shown = {
    "sharpened, not centred": ("none", 0.03, 0),
    "centred, not sharpened": ("centering", 0.1, 0),
    "both": ("centering", 0.03, 0),
}
order = data.validation.y[:40].argsort()
fig, axes = plt.subplots(1, 3, figsize=(9, 3), sharey=True)
for ax, (title, key) in zip(axes, shown.items(), strict=True):
    rows = runs[key].answers[order]
    picture = ax.imshow(
        rows, norm=PowerNorm(0.5, 0, 0.5), aspect="auto", cmap="magma"
    )
    ax.set(title=title, xlabel="prototype")
axes[0].set_ylabel("digit, sorted by class")
fig.colorbar(picture, ax=axes, label="probability", shrink=0.8)
plt.show()

# %% [markdown] tags=["skip"]
# The first two have collapsed, in two ways. The third has not, and it was not told anything more.
# The rest of this section is about that third picture.

# %% [markdown] tags=["slide"]
# ## The idea
#
# Two networks of one architecture, a *student* with weights $\theta_s$ and a *teacher* with
# $\theta_t$, give $K$ scores $g$ to a view. With temperatures $\tau_s$, $\tau_t$ and a centre $c$
# {cite:p}`caron2021dino`,
#
# $$
# P_s = \operatorname{softmax}\Bigl(\frac{g_{\theta_s}(x)}{\tau_s}\Bigr), \qquad
# P_t = \operatorname{softmax}\Bigl(\frac{g_{\theta_t}(x') - c}{\tau_t}\Bigr) .
# $$ (eq-dino-p)
#
# The student learns by gradient descent to match the teacher on *another* view $x'$ of the image,
# summed over all pairs of different views; the teacher gets no gradient and follows by an
# exponential moving average (EMA):
#
# $$
# \min_{\theta_s}\; \sum_{x' \in \text{global}}\; \sum_{x \ne x'} H(P_t(x'), P_s(x)), \qquad
# \theta_t \leftarrow m\,\theta_t + (1-m)\,\theta_s .
# $$ (eq-dino)
#
# - **Multi-crop** {cite:p}`caron2020swav`: two large *global* views, and several small *local*
#   ones. The teacher sees the global views only, the student all. So the student must tell from a
#   part what the teacher sees in the whole.
# - **Why an average should teach anything**: averaging the weights of many noisy steps gives a
#   better network than the last step's {cite:p}`polyak1992averaging`. The student chases a target
#   that is a little ahead of it, and pulls it along.
#
# The digits of this page are too small for local views; a painted shape shows them.

# %% mystnb={"figure": {"caption": "Multi-crop: two global views, which student and teacher see, and six local ones for the student alone. Every local view is paired with the teacher's answer to both global ones.", "name": "fig-multi-crop"}, "image": {"alt": "A picture of a shape on a patterned ground, two large crops of it in other colours, and six small crops, most of which show only a part of the shape."}} tags=["hide-input"]
picture = shapes(3, n_train=1, n_validation=1, n_test=1, size=64).train.x
generator = torch.Generator().manual_seed(2)
crops = [picture] + [
    BatchViews(64, scale=(0.4, 1.0))(picture, generator) for _ in range(2)
]
crops += [
    BatchViews(32, scale=(0.1, 0.4))(picture, generator) for _ in range(6)
]
fig, axes = plt.subplots(
    1, 9, figsize=(9, 1.6), width_ratios=[2] * 3 + [1] * 6
)
for ax, crop, title in zip(
    axes, crops, ["image", "global", "global"] + ["local"] * 6, strict=True
):
    ax.imshow(crop[0].permute(1, 2, 0))
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=8)
plt.show()

# %% tags=["hide-input"]
large, small = 1 + (224 // 16) ** 2, 1 + (96 // 16) ** 2
claim(
    "Small crops are cheap: for a ViT/16 eight of them (96 pixels) have"
    " {local} tokens, the two large ones (224 pixels) {both}. They raise the"
    " student's pairs of views from {few} to {many}.",
    8 * small < 2 * large,
    local=8 * small,
    both=2 * large,
    few=2,
    many=2 * 10 - 2,
)

# %% [markdown] tags=["slide"]
# ### Two forces
#
# The cross-entropy splits into two parts,
#
# $$
# H(P_t, P_s) = \underbrace{H(P_t)}_{\text{entropy of the target}} +
# \underbrace{\operatorname{KL}(P_t \,\Vert\, P_s)}_{\text{what the student can still learn}} .
# $$ (eq-dino-kl)
#
# Collapse means that the answer does not depend on the image any more; then the KL term is 0.
# Either one prototype takes all ($H(P_t) = 0$), or all prototypes share ($H(P_t) = \log K$).
#
# - **Centring** subtracts from each score its running mean, $c \leftarrow m_c\, c + (1-m_c)\,
#   \operatorname{mean} g_{\theta_t}$. No prototype can lead for all images: that drives away from
#   the first collapse, and towards the second.
# - **Sharpening**, $\tau_t < \tau_s$, makes the target more decided than the student. That drives
#   away from the second, and towards the first.
#
# Move the two and watch. (One run of 100 steps for each setting.)

# %%
def draw_collapse(method, temperature):
    h, kl, mixed = runs[method, temperature, 0].curves
    steps = 5 * np.arange(1, len(h) + 1)
    fig, ax = plt.subplots(figsize=(7, 2.8))
    ax.axhline(math.log(K), color="0.6", ls=":", label="log K")
    ax.plot(
        steps,
        mixed,
        color="tab:green",
        ls="--",
        label="entropy of the mean answer",
    )
    ax.plot(
        steps, h, color="tab:blue", label="entropy of the teacher, $H(P_t)$"
    )
    ax.plot(
        steps, kl, color="tab:orange", label=r"KL(teacher $\Vert$ student)"
    )
    ax.set(xlabel="step", ylabel="nats", ylim=(-0.1, 4.6))
    ax.legend(fontsize=8, loc="center right")
    return fig


def describe_collapse(method, temperature):
    h, kl, mixed = runs[method, temperature, 0].curves
    return (
        f"Method {method}, teacher temperature {temperature}: after 100 steps"
        f" the teacher's entropy is {h[-1]:.2f}, KL {kl[-1]:.2f}, the entropy"
        f" of the mean answer {mixed[-1]:.2f} nats."
    )


explore(
    draw_collapse,
    {"method": METHODS, "temperature": TEMPERATURES},
    initial={"method": "centering", "temperature": 0.03},
    name="Two forces against collapse",
    alt=describe_collapse,
)

# %% tags=["hide-input"]
def at_the_end(method, temperature, row):
    return torch.tensor(
        [runs[method, temperature, seed].curves[row][-1] for seed in (0, 1, 2)]
    )


one, uniform, both = [
    {
        name: at_the_end(*setting, row)
        for row, name in enumerate(("h", "kl", "mixed"))
    }
    for setting in (("none", 0.03), ("centering", 0.1), ("centering", 0.03))
]
claim(
    "Over {n} seeds: sharpened but not centred, the teacher's entropy falls to"
    " {one:.3f} (at most); centred but not sharpened it rises to {uniform:.3f}"
    " (at least) of log K = {log_k:.3f}. In both cases the KL term ends below"
    " {kl:.3f}: nothing is left to learn. With both the KL term is"
    " {kl_both:.2f} or more, and the answers of different images differ: their"
    " mean has {gap:.2f} nats more entropy than each has, at least.",
    one["h"].max() < 0.5
    and uniform["h"].min() > 0.99 * math.log(K)
    and max(one["kl"].max(), uniform["kl"].max()) < 0.05
    and both["kl"].min() > 0.15
    and (both["mixed"] - both["h"]).min() > 0.3,
    n=3,
    one=one["h"].max().item(),
    uniform=uniform["h"].min().item(),
    log_k=math.log(K),
    kl=max(one["kl"].max(), uniform["kl"].max()).item() + 0.001,
    kl_both=both["kl"].min().item(),
    gap=(both["mixed"] - both["h"]).min().item(),
)

# %% [markdown] tags=["skip"]
# Two curves tell whether a run of yours is alive: a KL of exactly 0 means that it is not, whatever
# the loss says. With neither force ("none", 0.1) the entropy may stop anywhere, and the answer
# still does not depend on the image. The green line minus the blue one is the mutual information
# between image and prototype: what the answers tell about the image.

# %% [markdown] tags=["slide"]
# ## What the document's DINOv2 does
#
# The listing is called DINOv2 and has none of DINOv2's parts; of DINO it has the outline. A few of
# its defects in a few lines; all, with their tests, stand in the {doc}`errata </book/errata>`.
#
# **It compares a view with itself.** `local_views` is never used; student and teacher both get the
# global views. At the start the teacher is a copy of the student. What can be learned?

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
student = nn.Linear(144, 16)
teacher = copy.deepcopy(student)
x = data.train.x[:8].flatten(1)
other = views(data.train.x[:8], torch.Generator().manual_seed(0)).flatten(1)
for name, seen in [("same view: ", x), ("other view:", other)]:
    student.zero_grad()
    target = teacher(x).softmax(-1).detach()
    (-(target * student(seen).log_softmax(-1)).sum(-1).mean()).backward()
    print(
        name, "gradient zero:", student.weight.grad.abs().max().item() < 1e-8
    )

# %% [markdown] tags=["skip"]
# With equal temperatures the gradient is exactly zero: any function of the image, good or bad, is a
# solution. (With the listing's unequal temperatures a gradient remains, which sharpens the answers
# and knows nothing of views.)
#
# **It takes the logarithm of a softmax.** Where the softmax underflows, that is $-\infty$:

# %% tags=["nbval-check-output", "skip"]
scores = torch.tensor([[12.0, 0.0]]) / 0.1  # a student that is sure
target = torch.tensor([[0.5, 0.5]])
print("log(softmax):", -(target * torch.log(scores.softmax(1))).sum().item())
print("log_softmax: ", -(target * scores.log_softmax(1)).sum().item())

# %% [markdown] tags=["skip"]
# **Its heads are built and not used**, and they would be enormous: two layers straight to 65,536
# outputs. DINO's head goes through a *bottleneck* of 256, scales the result to length 1, and
# compares it with prototypes of length 1. (On the "meta" device tensors have shapes and no memory.)

# %% tags=["skip"]
with torch.device("meta"):
    listing_head = nn.Sequential(
        nn.Linear(1024, 2048), nn.GELU(), nn.Linear(2048, 65536)
    )
    head = DINOHead(1024, 65536)


def millions(module):
    return sum(p.numel() for p in module.parameters()) / 1e6


claim(
    "A head of the listing has {listing:.0f} million parameters, more than the"
    " ViT-B below it; with the bottleneck it has {ours:.0f} million, though it"
    " has a layer more.",
    round(millions(listing_head)) == 136 and millions(head) < 25,
    listing=millions(listing_head),
    ours=millions(head),
)

# %% [markdown] tags=["skip"]
# **Its teacher's head never moves.** It is drawn apart from the student's (so the two numberings of
# the prototypes have nothing to do with each other), `update_teacher` leaves it out, and nothing
# calls `update_teacher`. **Its warm-up does not warm up**: the temperature jumps, between two equal
# values. And it never gets that far: `global_step` and `center` do not exist.

# %% tags=["nbval-check-output", "skip"]
warm = DINOLoss(
    K, warmup_teacher_temp=0.04, teacher_temp=0.07, warmup_steps=30
)
for step in (0, 15, 29, 30, 1000):
    listing = (
        0.04 if step < 30 else 0.04
    )  # warmup_teacher_temp, then teacher_temp
    print(
        f"step {step:4}: listing {listing:.3f}, DINO"
        f" {warm.temperature(step):.3f}"
    )

# %% [markdown] tags=["slide"]
# ## DINO, corrected
#
# The loss reads like {eq}`eq-dino-p` and {eq}`eq-dino`; the centre is used first, and takes in the
# batch afterwards.

# %%
show_source(DINOLoss.forward)
show_source(DINOLoss.probabilities)

# %% [markdown] tags=["skip"]
# The head, and the teacher's step (parameters are averaged, buffers copied; names and shapes are
# checked first, so that a teacher of another architecture is refused by name):

# %% tags=["skip"]
show_source(DINOHead.forward)
show_source(update_teacher)

# %% [markdown] tags=["skip"]
# A proof on the page, against a transcription into NumPy that shares no line with it, with two
# global and three local views, over five batches so that the centre moves:

# %% tags=["skip"]
def numpy_loss(student, teacher, center, tau_s, tau_t):
    def log_softmax(z):
        z = z - z.max(-1, keepdims=True)
        return z - np.log(np.exp(z).sum(-1, keepdims=True))

    total, pairs = 0.0, 0
    for t, g_t in enumerate(teacher):
        p = np.exp(log_softmax((g_t - center) / tau_t))
        for s, g_s in enumerate(student):
            if s != t:
                total -= (p * log_softmax(g_s / tau_s)).sum(-1).mean()
                pairs += 1
    return total / pairs


rng = np.random.default_rng(0)
loss, center, worst = (
    DINOLoss(10, teacher_temp=0.05).double(),
    np.zeros(10),
    0.0,
)
for _ in range(5):
    s, t = rng.normal(size=(5, 6, 10)), rng.normal(size=(2, 6, 10)) + 1
    ours = loss(list(torch.from_numpy(s)), list(torch.from_numpy(t))).item()
    worst = max(worst, abs(ours - numpy_loss(s, t, center, 0.1, 0.05)))
    center = 0.9 * center + 0.1 * t.mean((0, 1))
claim(
    "Largest difference of the loss, in float64: {worst:.0e}; of the centre:"
    " {center:.0e}.",
    worst < 1e-9 and np.abs(loss.center.numpy() - center).max() < 1e-12,
    worst=worst,
    center=np.abs(loss.center.numpy() - center).max(),
)

# %% [markdown] tags=["skip"]
# The test suite does the same against `lightly`'s losses, and on two processes: there the centre
# must be the mean over *all* ranks, or each rank trains against a target of its own.

# %% [markdown] tags=["slide"]
# ## What DINOv2 adds
#
# DINOv2 {cite:p}`oquab2024dinov2` keeps {eq}`eq-dino` and adds three parts to the loss. Each does
# something that can be measured. (Besides, it gives class tokens and patches a head each, curates its
# data, ends with a short phase at high resolution, and distils the small models from the largest.)
#
# **Sinkhorn–Knopp** {cite:p}`cuturi2013sinkhorn,caron2020swav` in place of centring. Take
# $Q = \exp(g/\tau_t)$ for the batch, scale the columns to equal sums, then the rows to 1, three
# times. A centre adjusts the *mean score* of each prototype, over the past; Sinkhorn–Knopp adjusts
# how much each is *used*, now.

# %% tags=["skip"]
generator = torch.Generator().manual_seed(0)
scores = (
    torch.randn(256, K, generator=generator)
    * 0.05
    * torch.rand(K, generator=generator)
)
scores += 0.04 * torch.randn(
    K, generator=generator
)  # some prototypes are liked by all
used = {
    "softmax": (scores / 0.04).softmax(1),
    "centred": ((scores - scores.mean(0)) / 0.04).softmax(1),
    "Sinkhorn–Knopp": sinkhorn_knopp(scores, 0.04, iterations=3),
}
ratio = {
    name: (p.sum(0).max() / p.sum(0).min()).item() for name, p in used.items()
}
shifted = sinkhorn_knopp(
    scores + torch.randn(K, generator=generator), 0.04, iterations=3
)
claim(
    "The most used prototype gets {softmax:.0f} times as much as the least"
    " used after a softmax, {centred:.1f} times after centring, {sinkhorn:.3f}"
    " times after three rounds of Sinkhorn–Knopp. And a centre would change"
    " nothing there: adding a constant to each prototype's score moves no"
    " entry by more than {moved:.0e}.",
    ratio["softmax"] > 20 > ratio["centred"] > 1.2 > ratio["Sinkhorn–Knopp"]
    and (shifted - used["Sinkhorn–Knopp"]).abs().max() < 1e-4,
    softmax=ratio["softmax"],
    centred=ratio["centred"],
    sinkhorn=ratio["Sinkhorn–Knopp"],
    moved=(shifted - used["Sinkhorn–Knopp"]).abs().max().item(),
)

# %% [markdown] tags=["skip"]
# It balances the *batch*, so it wants large ones; and like centring it needs sharpening beside it
# (try 0.1 in the widget above). Its own answers have the green line at $\log K$ by construction, so
# the widget shows a plain softmax of the teacher's scores, as a user of the network would take it.

# %% tags=["skip"]
show_source(sinkhorn_knopp)

# %% [markdown] tags=["slide"]
# **iBOT** {cite:p}`zhou2022ibot`: some patches of the student's global views are replaced by a mask
# token; at those places a second head must give the teacher's distribution for the *patch*, which
# the teacher sees. This is what makes patch features good. Each image counts the same, however many
# of its patches are hidden.

# %% tags=["skip"]
generator = torch.Generator().manual_seed(0)
mask = torch.zeros(2, 16, dtype=torch.bool)
mask[0, :1], mask[1, :8] = (
    True,
    True,
)  # one patch of the first image, eight of the second
criterion = iBOTLoss(K)
guess = torch.randn(9, K, generator=generator).requires_grad_()
criterion(guess, torch.randn(9, K, generator=generator), mask).backward()
pull = guess.grad.norm(dim=1)
claim(
    "The one hidden patch of the first image pulls {ratio:.1f} times as hard"
    " as one of the eight of the second, on average.",
    6 < pull[0] / pull[1:].mean() < 10,
    ratio=(pull[0] / pull[1:].mean()).item(),
)

# %% mystnb={"figure": {"caption": "Which patches iBOT hides (dark), for eight views: half of the views keep all patches, the others lose from a tenth to a half of them, in blobs. The number over a batch is always the same, so that shapes do not change from step to step.", "name": "fig-ibot-masks"}, "image": {"alt": "Eight squares of 14 by 14 patches. Four are light throughout, in four one or more connected dark areas cover a growing share."}} tags=["hide-input"]
masks = blob_masks(8, (14, 14), torch.Generator().manual_seed(4)).view(
    8, 14, 14
)
fig, axes = plt.subplots(1, 8, figsize=(9, 1.3))
for ax, m in zip(axes, masks, strict=True):
    ax.imshow(m, cmap="Greys", vmin=0, vmax=1.3)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(True)
plt.show()

# %% [markdown] tags=["slide"]
# **KoLeo** {cite:p}`sablayrolles2019spreading` pushes each class token away from its nearest
# neighbour in the batch, by $-\frac1B\sum_i \log \min_{j\ne i}\lVert x_i - x_j\rVert$ on the unit
# sphere. Features that fill the sphere are better for retrieval, which compares distances.

# %% tags=["skip"]
def spread(model):
    """k-NN accuracy on validation, and the mean distance of a feature from its nearest "
    "neighbour."""
    train_features, validation = (
        features(model.teacher["encoder"], s) for s in data[:2]
    )
    x = F.normalize(validation.x, dim=1)
    nearest = (x @ x.T).fill_diagonal_(-1).max(1).values  # cosine
    return (
        knn_accuracy(train_features, validation),
        (2 - 2 * nearest).clamp(min=0).sqrt().mean(),
    )


without = torch.tensor(
    [spread(runs["centering", 0.03, seed].model) for seed in (0, 1, 2)]
)
with_koleo = torch.tensor(
    [
        spread(collapse_run("centering", 0.03, seed, koleo_weight=0.1).model)
        for seed in (0, 1, 2)
    ]
)
claim(
    "With KoLeo at DINOv2's weight of 0.1 the nearest neighbour of a feature"
    " lies {far:.2f} away in place of {near:.2f} (mean of 3 seeds, 100 steps),"
    " and k-NN on validation images rises from {knn:.3f} to {knn_koleo:.3f}.",
    bool((with_koleo[:, 1] > without[:, 1]).all())
    and with_koleo[:, 0].mean() > without[:, 0].mean() + 0.03,
    far=with_koleo[:, 1].mean().item(),
    near=without[:, 1].mean().item(),
    knn=without[:, 0].mean().item(),
    knn_koleo=with_koleo[:, 0].mean().item(),
)

# %% [markdown] tags=["skip"]
# The **momentum** is no part that DINOv2 adds. BYOL {cite:p}`grill2020byol` and DINO let it rise along
# half a cosine from 0.996 to 1, DINOv2's code from 0.992, so that the teacher becomes an ever longer
# average:

# %% tags=["skip"]
half_life = [
    -math.log(2) / math.log(momentum_schedule(share, 100))
    for share in (0, 50, 90)
]
claim(
    "At the start half of a teacher is replaced in {a:.0f} steps, half-way"
    " through training in {b:.0f}, after 90 % of it in {c:.0f}.",
    half_life[0] < 200 < half_life[1] < 400 < 5000 < half_life[2],
    a=half_life[0],
    b=half_life[1],
    c=half_life[2],
)

# %% [markdown] tags=["skip"]
# All parts together are `DINO`, called with the views of a batch:

# %% tags=["skip"]
show_source(DINO.forward)

# %% [markdown] tags=["slide"]
# ## Details that papers leave out
#
# 1. **Stop the gradient at the teacher**: `no_grad` around its forward pass, not only
#    `requires_grad=False` on some of its weights. Without it both networks move towards each other,
#    and end at a constant: SimSiam shows it for a pair of networks without a moving average
#    {cite:p}`chen2021simsiam`.
# 2. **Use the centre, then update it.** The other order lets a batch centre itself, and a small
#    batch then removes much of what tells its images apart.
# 3. **Weights of the EMA in float32.** An update moves a weight by a share $1-m$ of the *difference*
#    between student and teacher. Where they are near, that is less than half the step from one
#    bfloat16 number to the next (0.4 to 0.8 % of the weight), and is rounded away:

# %% tags=["skip"]
frozen, moving = (
    nn.Linear(64, 64).to(dtype) for dtype in (torch.bfloat16, torch.float32)
)
target = {
    dtype: copy.deepcopy(m) for dtype, m in (("bf16", frozen), ("f32", moving))
}
for m in target.values():
    nn.init.normal_(m.weight, generator=torch.Generator().manual_seed(0))
start = [m.weight.detach().clone() for m in (frozen, moving)]
for _ in range(1000):
    update_teacher(target["bf16"], frozen, 0.999)
    update_teacher(target["f32"], moving, 0.999)
way = [
    ((m.weight - s).float().norm() / (t.weight - s).float().norm()).item()
    for m, s, t in zip((frozen, moving), start, target.values(), strict=True)
]
claim(
    "After 1,000 updates with m = 0.999 the float32 teacher has gone {f32:.0%}"
    " of its way (1 − m¹⁰⁰⁰), the bfloat16 teacher {bf16:.0%}.",
    abs(way[1] - (1 - 0.999**1000)) < 0.01 and way[0] < 0.5,
    f32=way[1],
    bf16=way[0],
)

# %% [markdown] tags=["skip"]
# 4. **The momentum must fit the length of the run.** A teacher with momentum $m$ averages over
#    about $1/(1-m)$ steps: 250 at 0.996, and without end at 1. In the short runs of this page a
#    schedule that ends at 1 would freeze the teacher in the past; we hold $m = 0.99$.
# 5. **The teacher's temperature warms up** (0.04 to 0.07 over 30 *epochs*, not iterations) in the
#    paper's runs: high ones at the start lead to the uniform collapse.
# 6. **Sharp at the start**: an untrained network tells images hardly apart. If its weights start
#    too small for its width, centred scores are all nearly 0 and the target is uniform from the
#    first step; no force leads away from there. Xavier's scale, which follows the width, is safe.
# 7. **Prototypes of length 1**: `F.normalize(prototypes)` is weight normalisation with the gain
#    fixed at 1, so that no prototype wins by growing. It is the default of DINO's code, not a rule:
#    the code's own help says that a learned gain can do better, and can be less stable.
# 8. **Only hidden patches pass iBOT's head**: 65,536 scores for every patch would be the largest
#    tensor of the whole step.
# 9. **One pass for each size** of crop, all views of a size in one batch.
# 10. **Prototypes stand still in the first epoch**: DINO's code drops their gradients until then
#    (`drop_prototype_gradients`). At first the targets are arbitrary, and the last layer would follow
#    them at once. Our short runs do without.

# %% [markdown] tags=["slide"]
# ## The experiment
#
# **Question.** Is what DINO learns without labels worth more than pixels, than untrained features,
# than training from scratch on the labels alone? **Data.** Digits on a 12 × 12 canvas, moved by up
# to 2 pixels; labels for 1, 10 or 100 % of the training images. **Contestants.** A linear probe on
# pixels, on the untrained encoder, and on DINO's teacher (500 steps of 128 images without labels);
# and encoder and linear layer trained on the labels, with the same views as augmentation: from
# scratch, and from DINO's weights ("fine-tuned"). **Fairness.** One rate, 0.01, for all: it was
# tuned for none. The probe is ridge regression of one-hot labels, not the logistic regression of the
# papers; its decay is chosen on validation, whose labels come on top of those counted. 3 seeds for weights, batches and the choice of labels; the test split is
# used once, here.

# %% tags=["long", "hide-input", "skip"] name="labels"
teachers = {
    seed: (
        train(
            make(seed, centering="centering", teacher_temp=0.03),
            500,
            128,
            seed,
        ).teacher["encoder"]
    )
    for seed in SEEDS
}


def supervised(start, seed, fraction, augment=True):
    """Test accuracy of the encoder `start` and a linear layer, trained on a share of the labels."""
    split = label_subset(data.train, fraction, seed=seed)
    net = nn.Sequential(
        copy.deepcopy(start).requires_grad_(True), nn.Linear(96, 10)
    )
    nn.init.zeros_(net[1].weight)
    nn.init.zeros_(net[1].bias)

    def loss(indices, generator):
        images = split.x[indices]
        if augment:
            images = views(images, generator)
        return F.cross_entropy(net(images), split.y[indices])

    n = len(split.y)
    pretrain(
        net, loss, n, steps=250, batch_size=min(64, n), lr=0.01, seed=seed
    )
    with torch.no_grad():
        return (
            (net(data.test.x).argmax(1) == data.test.y).double().mean().item()
        )


def probe(function, seed, fraction):
    train_split, validation, test = (features(function, s) for s in data)
    few = label_subset(train_split, fraction, seed=seed)
    return linear_probe(few, validation, test).test_accuracy


def neighbours(function, seed):
    """Accuracy of a vote of the nearest labelled images, for each of FRACTIONS."""
    train_split, _, test = (features(function, s) for s in data)
    labelled = [label_subset(train_split, f, seed=seed) for f in FRACTIONS]
    return [
        knn_accuracy(few, test, k=min(20, len(few.y) // 4)) for few in labelled
    ]


contestants = {
    "pixels": lambda seed, f: probe(lambda x: x.flatten(1), seed, f),
    "untrained encoder": lambda seed, f: probe(encoder(seed), seed, f),
    "from scratch": lambda seed, f: supervised(encoder(seed), seed, f),
    "DINO": lambda seed, f: probe(teachers[seed], seed, f),
    "DINO, fine-tuned": lambda seed, f: supervised(teachers[seed], seed, f),
}
result = {
    name: (
        100
        * torch.tensor([[run(seed, f) for seed in SEEDS] for f in FRACTIONS])
    )
    for name, run in contestants.items()
}  # (fractions, seeds)
plain = 100 * torch.tensor(
    [supervised(encoder(seed), seed, 1.0, augment=False) for seed in SEEDS]
)
counts = [len(label_subset(data.train, f, seed=0).y) for f in FRACTIONS]
by_neighbours = {
    name: 100 * torch.tensor([neighbours(read(seed), seed) for seed in SEEDS])
    for name, read in [
        ("pixels", lambda seed: lambda x: x.flatten(1)),
        ("untrained encoder", encoder),
        ("DINO", lambda seed: teachers[seed]),
    ]
}  # (seeds, fractions)
keep(
    accuracy=result, plain=plain, labels=counts, by_neighbours=by_neighbours
)

# %% tags=["hide-input"]
kept = recorded("120.1b.labels")
result = {
    name: torch.tensor(values) for name, values in kept["accuracy"].items()
}  # (fractions, seeds)
plain, counts = torch.tensor(kept["plain"]), kept["labels"]
by_neighbours = {
    name: torch.tensor(values)
    for name, values in kept["by_neighbours"].items()
}  # (seeds, fractions)

# %% mystnb={"figure": {"caption": "Test accuracy over the number of labels, mean and range of 3 seeds. The features of the line \"DINO\" were learned without labels; only a linear layer was fitted on them.", "name": "fig-dino-labels"}, "image": {"alt": "Five lines of accuracy over the number of labels. Pixels and the untrained encoder stay lowest. DINO and training from scratch lie well above them, close together; fine-tuned DINO lies highest."}} tags=["hide-input"]
STYLES = {
    "pixels": ("0.5", ":"),
    "untrained encoder": ("0.5", "--"),
    "from scratch": ("tab:blue", "-"),
    "DINO": ("tab:orange", "--"),
    "DINO, fine-tuned": ("tab:orange", "-"),
}
fig, ax = plt.subplots()
for name, (color, style) in STYLES.items():
    r = result[name]
    low, high = r.mean(1) - r.min(1).values, r.max(1).values - r.mean(1)
    look = {"color": color, "ls": style, "marker": "o", "capsize": 3}
    ax.errorbar(counts, r.mean(1), [low, high], label=name, **look)
ax.set(
    xscale="log", xlabel="labels", ylabel="test accuracy (%)", ylim=(0, 100)
)
ax.set_xticks(counts, counts)
ax.minorticks_off()
ax.legend(fontsize=8)
plt.show()

# %% tags=["hide-input"]
rows = "\n".join(
    f"| {name} | "
    + " | ".join(f"{row.mean():.1f} ± {row.std():.1f}" for row in result[name])
    + " |"
    for name in result
)
say(
    "| test accuracy (%) | {a} labels | {b} labels | {c} labels"
    " |\n|---|---|---|---|\n"
    + rows
    + "\n\nMean ± standard deviation over 3 seeds.",
    a=counts[0],
    b=counts[1],
    c=counts[2],
)

# %% tags=["hide-input"]
mean = {name: r.mean(1) for name, r in result.items()}
claim(
    "With every number of labels DINO's features beat pixels and the untrained"
    " encoder: with {few} labels {dino:.0f} % against {pixels:.0f} % and"
    " {random:.0f} %, with {some} {dino10:.0f} % against {pixels10:.0f} % and"
    " {random10:.0f} %.",
    all(
        (mean["DINO"] > mean[name] + margin).all()
        for name, margin in (("pixels", 4), ("untrained encoder", 3))
    ),
    few=counts[0],
    some=counts[1],
    dino=mean["DINO"][0].item(),
    pixels=mean["pixels"][0].item(),
    random=mean["untrained encoder"][0].item(),
    dino10=mean["DINO"][1].item(),
    pixels10=mean["pixels"][1].item(),
    random10=mean["untrained encoder"][1].item(),
)

# %% tags=["hide-input"]
rows = "\n".join(
    f"| {name} | "
    + " | ".join(f"{c.mean():.1f} ± {c.std():.1f}" for c in values.T)
    + " |"
    for name, values in by_neighbours.items()
)
say(
    "And by a vote of the nearest labelled images (20 of them; 7 where there"
    " are {a} labels), with nothing fitted at all:\n\n| k-NN, test accuracy"
    " (%) | {a} labels | {b} labels | {c} labels |\n|---|---|---|---|\n" + rows,
    a=counts[0],
    b=counts[1],
    c=counts[2],
)
everything = {name: v[:, -1].mean().item() for name, v in by_neighbours.items()}
claim(
    "With all labels, neighbours turn the order round: pixels {pixels:.0f} %,"
    " DINO {dino:.0f} %, the untrained encoder {random:.0f} %. Among thousands"
    " of digits there is one that is written, and placed, alike: its pixels"
    " are near.",
    everything["pixels"] > everything["untrained encoder"] + 3
    and everything["pixels"] > everything["DINO"],
    pixels=everything["pixels"],
    dino=everything["DINO"],
    random=everything["untrained encoder"],
)

# %% tags=["hide-input"]
gain = (
    result["DINO, fine-tuned"] - result["from scratch"]
)  # same seed: same labels, same order
claim(
    "As a start for training with {a} labels, DINO's weights beat random ones"
    " by {few:.1f} points; with {b} labels the difference is {some:.1f}, with"
    " all {all:.1f} (250 steps each; mean of the differences, seed by seed).",
    gain[0].mean() > 2 and gain.mean(1).min() > 0,
    few=gain[0].mean().item(),
    some=gain[1].mean().item(),
    all=gain[2].mean().item(),
    a=counts[0],
    b=counts[1],
)

# %% tags=["hide-input"]
claim(
    "And where it does not win: with all labels, training from scratch"
    " *without* augmentation reaches {plain:.0f} ± {std:.0f} % in as many"
    " steps, more than any line of the figure.",
    plain.mean() > max(r[2].mean() for r in result.values()),
    plain=plain.mean().item(),
    std=plain.std().item(),
)

# %% [markdown] tags=["skip"]
# A *frozen* DINO encoder with a linear layer does not beat the whole network trained from scratch
# with the same views: it is about level with few and with all labels, and behind in between. Much of
# what self-supervision knows here stands in the views, and on so small a task plenty of labels say
# it as well. As a *start* for training it helps with few labels and with many.

# %% [markdown] tags=["slide"]
# ## At scale
#
# A step of DINOv2 with a ViT-B/16: two crops of 224 × 224 and eight of 96 × 96 of each image, a
# student on all, a teacher on the large ones, 65,536 prototypes for class tokens and for hidden
# patches, Sinkhorn–Knopp, KoLeo, AdamW and EMA. The cell measures it on painted pictures, in five
# forms that do the same work: transformers' `Dinov2Model` as the encoder; ours with one pass for
# each crop; ours with one for each size; and both encoders once more with blocks and losses
# compiled. Drawing the ten views is part of the step.

# %% tags=["gpu", "hide-input"] name="dinov2-step"
from dlcourse.measure import matmul_peak
from dlcourse.self_supervised_learning.experiments import dino_step

device = torch.device("cuda")
sizes = dino_step.StepSizes(images=64)
peak = matmul_peak(device, torch.bfloat16)
print(
    f"ViT-B/16, {sizes.images} images, 2 + {sizes.local_crops} crops, {sizes.hidden_patches} hidden patches: "
    f"{sizes.flops() / sizes.images / 1e9:.0f} GFLOP an image; "
    f"a bfloat16 product reaches {peak / 1e12:.0f} TFLOP/s"
)
print(f"{'':32}{'images/s':>9}{'of peak':>9}{'GB':>6}{'first, s':>9}{'loss':>7}")
speed = {}
for kind, dtype in [
    ("transformers", torch.bfloat16),
    ("crop by crop", torch.bfloat16),
    ("eager", torch.bfloat16),
    ("transformers compiled", torch.bfloat16),
    ("compiled", torch.bfloat16),
]:
    torch.cuda.empty_cache()
    cost, last = dino_step.measure_dino_step(kind, sizes, device, dtype)
    name = f"{kind}, {'float32' if dtype is None else 'bfloat16'}"
    speed[name] = sizes.images / cost.seconds
    print(
        f"{name:32}{speed[name]:9.0f}{sizes.flops() / cost.seconds / peak:9.0%}"
        f"{cost.peak_bytes / 2**30:6.1f}{cost.first_seconds:9.1f}{last:7.3f}"
    )
best = speed["compiled, bfloat16"]
for name, value in speed.items():
    if name != "compiled, bfloat16":
        print(f"compiled over {name}: {best / value:.2f} times")

# %% [markdown] tags=["skip"]
# "Of peak" counts the floating-point operations that the model needs, by arithmetic, over what a
# large matrix product reaches on the same device. What pays is to make few and large calls: one pass
# for each size is well ahead of one for each crop, and compiling, which merges what lies between the
# matrix products, is ahead of both. With the same losses and the same compiler transformers' encoder
# comes near to ours. Far more than half of the peak is still missing: ten views, softmaxes over
# 65,536 prototypes and the optimizer move memory, and multiply no matrices.
#
# The command for many GPUs is that of any data-parallel training (section 119.1a): with and without
# iBOT each weight that asks for a gradient gets one in every step (two ranks are tested). `DINOLoss`,
# `iBOTLoss` and `sinkhorn_knopp` take their sums over all ranks as soon as `torch.distributed` is
# initialised.
#
# ### What the class token looks at
#
# The best-known result of DINO: the class token's attention falls on the object, though nobody said
# what an object is {cite:p}`caron2021dino`. The cell below trains a small ViT with the terms of DINO,
# iBOT and KoLeo (and DINO's centring, not Sinkhorn–Knopp) on painted shapes for 2,500 steps. It shows, for pictures that it has not seen, the
# attention of the head that looks most at the shape, and the first three principal components of
# the patch features as red, green and blue.

# %% tags=["gpu", "hide-input"] name="attention" image={"alt": "Five rows of eight pictures: painted shapes on patterned grounds; then attention of the class token and patch features as colours, for the untrained and for the trained encoder."}
from dlcourse.self_supervised_learning.experiments import small_dinov2

trained = small_dinov2.train_small_dinov2(
    torch.device("cuda"), steps=2500, dtype=torch.bfloat16
)
start = small_dinov2.train_small_dinov2(
    torch.device("cuda"), steps=1, pictures=1000, dtype=torch.bfloat16
)
encoders = {
    name: t.model.teacher["encoder"].cpu() for name, t in (("untrained", start), ("trained", trained))
}
pictures, pixels = small_dinov2.shape_pixels(500, 64, seed=1)
print(f"loss {trained.losses[0]:.2f} → {sum(trained.losses[-50:]) / 50:.2f}")
print(f"share of the area that the shape covers: {pixels.float().mean():.2f}")
rows = {"picture": pictures[:8].permute(0, 2, 3, 1)}
for name, vit in encoders.items():
    share = small_dinov2.attention_on_shape(vit, pictures, pixels)
    print(f"share of each head's attention on it, {name}: " + ", ".join(f"{v:.2f}" for v in share))
    with torch.no_grad():
        tokens = vit.forward_features(pictures[:64])[:, 1:]
    rows[f"{name}:\nattention"] = vit.class_attention(pictures[:8])[:, share.argmax()]
    rows[f"{name}:\nfeatures"] = pca_rgb(tokens)[:8].unflatten(1, (8, 8))

fig, axes = plt.subplots(5, 8, figsize=(6.4, 4.2))
for row, (name, maps) in zip(axes, rows.items(), strict=True):
    row[0].set_ylabel(name, fontsize=7, rotation=0, ha="right", va="center")
    for ax, picture in zip(row, maps, strict=True):
        ax.imshow(picture, cmap="magma")
        ax.set(xticks=[], yticks=[])
plt.show()

# %% [markdown] tags=["skip"]
# Before training each head spreads its attention as if there were no shape: it gets about its share
# of the area. Afterwards one head spends more than half of its attention there, several times the share
# of the area, and others look elsewhere. It is no clean segmentation: on two of the eight pictures
# this head does the opposite, and marks the ground. The patch features tell shape from ground, and
# also which picture they belong to: the components are taken over all pictures at once.
#
# What this does not show: it is one training, the head is the best of four on the very pictures that
# are measured, and no network trained with labels stands beside it.

# %% [markdown] tags=["skip"]
# ## Limits
#
# - Digits of 12 × 12 pixels are no photographs. What carries over is the mechanism: the two
#   collapses, the two curves that show them, what each part does.
# - The views decide what is learned. Crops and brightness say nothing about mirror images here,
#   because we left `flip` out: a digit is not its mirror image. A view that destroys what you need
#   teaches the network to ignore it.
# - Five hundred steps are not 100 epochs of ImageNet. Multi-crop needs more of them than we can take
#   here, so the CPU runs have two global views and no local ones; the GPU runs have both.
# - At work, take the published DINOv2 weights (`transformers`, `torch.hub`), or `lightly`'s losses
#   to train your own. Use this page to understand them, and as a reference to test against.

# %% [markdown] tags=["skip"]
# ## Exercises
#
# Each has a cell for your answer and a check that tells what is wrong with it; ask it again for the
# next hint. Until you change a cell, the notebook runs past it.

# %% [markdown] tags=["skip"]
# {{exercise 120.1b.predict-half-life}}

# %% [markdown] tags=["skip"]
# {{exercise 120.1b.dino-loss}}

# %% [markdown] tags=["skip"]
# {{exercise 120.1b.sinkhorn}}

# %% [markdown] tags=["skip"]
# {{exercise 120.1b.update-teacher}}

# %% [markdown] tags=["skip"]
# {{exercise 120.1b.koleo}}

# %% [markdown] tags=["skip"]
# ## Quiz

# %% [markdown] tags=["skip"]
# {{quiz 120.1b}}

# %% [markdown] tags=["slide"]
# ## Summary
#
# - The student predicts the teacher on *another* view; the teacher is the student's moving average.
# - Centring alone ends uniform, sharpening alone ends one-hot; together they hold each other.
# - Watch the teacher's entropy and the KL: a KL of 0 is a dead run.
# - The teacher gets no gradient, sees only global views, and is moved whole: encoder, head,
#   buffers.
# - DINOv2 = DINO + iBOT on hidden patches + KoLeo + Sinkhorn–Knopp, at scale and on curated data.
#
# References: each citation above leads to its source; the
# {doc}`bibliography </book/bibliography>` lists them all.
