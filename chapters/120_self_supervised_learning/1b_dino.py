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
import statistics

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.colors import PowerNorm
from torch import nn

from dlcourse.datasets import digits, mnist, shapes
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
    momentum_schedule,
    pca_rgb,
    sinkhorn_knopp,
    update_teacher,
)
from dlcourse.self_supervised_learning.experiments.digit_labels import (
    digits_by_labels,
)

plt.style.use("dlcourse.notebook.course")
SEEDS = (0, 1, 2)

# %% [markdown] tags=["slide"]
# ## A question
#
# Show a network two crops of one image and ask for the same answer to both. There is a perfect
# solution: answer the same to *everything*. Contrastive learning forbids it with negative pairs.
# DINO has none, and nobody gives it the right answer: the target comes from an average of its own
# past. Why should it learn anything?
#
# Here is such a network. It has seen moved handwritten digits for 100 steps, without their labels.
# Its last layer compares the features with $K = 64$ learned directions, the *prototypes*, and
# answers with a distribution over them. These are its answers to digits that it has not seen.

# %% tags=["hide-input", "skip"]
from dlcourse.self_supervised_learning.experiments.dino_collapse import (
    PROTOTYPES,
    collapse_run,
    new_dino,
    teacher_answers,
)

K = PROTOTYPES
data = digits(seed=0, max_shift=2, copies=3)  # 12 × 12 pixels
first_run = collapse_run(data, "centering", 0.03, 0)

# %% mystnb={"figure": {"caption": "The answers of a network trained without labels to 60 digits: one row a picture, sorted by what is written on it, one column a prototype. No column is bright in all rows: the answer depends on the picture.", "name": "fig-dino-answers"}, "image": {"alt": "A heat map of 60 rows in ten groups, and 64 columns. Each row has a few bright columns, which differ from row to row."}} tags=["hide-input", "plot"]
order = data.validation.y[:60].argsort(stable=True)
fig, ax = plt.subplots(figsize=(7, 3.4))
picture = ax.imshow(
    first_run.answers[order],
    norm=PowerNorm(0.5, 0, 0.5),
    aspect="auto",
    cmap="magma",
)
names = data.validation.y[order]
edges = [0, *(1 + (names.diff() != 0).nonzero()[:, 0]).tolist(), 60]
middles = [(a + b - 1) / 2 for a, b in zip(edges, edges[1:])]
ax.set_yticks(middles, [int(names[a]) for a in edges[:-1]])
for edge in edges[1:-1]:
    ax.axhline(edge - 0.5, color="white", lw=0.6)
ax.set(xlabel="prototype", ylabel="digit")
fig.colorbar(picture, label="probability")
plt.show()

# %% tags=["hide-input", "check"]
first = recorded("120.1b.labels")["accuracy"]
plain, taught = (
    [row[-1] for row in zip(*first[name])]
    for name in ("untrained encoder, probe", "DINO, probe")
)
claim(
    "These hundred steps are there to show the mechanism. What DINO learns about"
    " digits takes more: after 500 steps of a larger network on MNIST (recorded, see"
    " the experiment below) a linear classifier on the frozen features, fitted"
    " on 3,000 labels, names {after:.0%} of the digits right; on those of the"
    " same network before training, {before:.0%}.",
    min(taught) > max(plain) + 0.1,
    after=statistics.mean(taught),
    before=statistics.mean(plain),
)

# %% [markdown] tags=["slide"]
# ## The idea
#
# Two networks have one architecture: a *student* with weights $\theta_s$ and a *teacher* with
# $\theta_t$. Each is an encoder and a head, and gives a view $K$ scores $g$, one for each
# prototype. A softmax turns scores into an answer. A *temperature* $\tau$ divides the scores first:
# a small one makes the answer decided. The teacher also subtracts a *centre* $c$, the running mean
# of its scores {cite:p}`caron2021dino`:
#
# $$
# \begin{gathered}
# P_s = \operatorname{softmax}\Bigl(\frac{g_{\theta_s}(x)}{\tau_s}\Bigr), \qquad
# P_t = \operatorname{softmax}\Bigl(\frac{g_{\theta_t}(x') - c}{\tau_t}\Bigr), \\
# c \leftarrow m_c\, c + (1-m_c)\,\operatorname{mean}\, g_{\theta_t} .
# \end{gathered}
# $$ (eq-dino-p)
#
# The student learns by gradient descent to match the teacher on *another* view $x'$ of the image,
# summed over all pairs of different views. The teacher gets no gradient. It follows by an
# exponential moving average (EMA) of the student's weights:
#
# $$
# \min_{\theta_s}\; \sum_{x' \in \text{global}}\; \sum_{x \ne x'} H(P_t(x'), P_s(x)), \qquad
# \theta_t \leftarrow m\,\theta_t + (1-m)\,\theta_s .
# $$ (eq-dino)
#
# :::{diagram} figures/1b_dino.svg
# ---
# name: fig-dino-system
# alt: One picture gives two views. The student, encoder and head, sees one, and its scores become
#   the answer P s by a softmax with temperature. The teacher sees the other; a centre is subtracted
#   before its softmax, which gives P t. A cross-entropy compares the two answers, and its gradient
#   reaches the student alone. The teacher's weights are a moving average of the student's.
# ---
# DINO. The student predicts the teacher's answer to another view. The teacher is a moving
# average of the student, and gets no gradient.
# :::
#
# Training a network on the answers of another is called *distillation*
# {cite:p}`hinton2015distilling`; here the other network is the learner's own past. An average of
# the weights of many noisy steps is often better than the last step's
# {cite:p}`polyak1992averaging`: in DINO's runs the teacher was better than the student throughout
# training {cite:p}`caron2021dino`. So the student has a target a little better than itself.

# %% [markdown] tags=["skip"]
# {{exercise 120.1b.predict-half-life}}

# %% [markdown] tags=["slide"]
# ### Multi-crop
#
# **Multi-crop** {cite:p}`caron2020swav` takes two large *global* views of an image, and several
# small *local* ones. The teacher sees the global views only, the student all. So the student must
# tell from a part what the teacher sees in the whole. The digits of this page are too small for
# local views; a painted shape shows them.

# %% mystnb={"figure": {"caption": "Multi-crop: two global views, which student and teacher see, and six local ones for the student alone. Every local view is paired with the teacher's answer to both global ones.", "name": "fig-multi-crop"}, "image": {"alt": "A picture of a shape on a patterned ground, two large crops of it in other colours, and six small crops, most of which show only a part of the shape."}} tags=["hide-input", "plot"]
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

# %% tags=["hide-input", "check"]
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
# ## Two forces against collapse
#
# The cross-entropy has two parts,
#
# $$
# H(P_t, P_s) = \underbrace{H(P_t)}_{\text{entropy of the target}} +
# \underbrace{\operatorname{KL}(P_t \,\Vert\, P_s)}_{\text{what the student can still learn}} .
# $$ (eq-dino-kl)
#
# A run has *collapsed* when the answer no longer depends on the image; then the KL term can become
# 0. In the extreme one prototype takes all ($H(P_t) = 0$), or all prototypes share
# ($H(P_t) = \log K$).
#
# - **Centring**: no prototype can lead for all images. It drives away from the first collapse, and
#   towards the second.
# - **Sharpening**, $\tau_t < \tau_s$, makes the target more decided than the student. It drives
#   away from the second collapse, and towards the first.
#
# To see it, we train the small network with each choice of the two. The student's temperature is
# 0.1, so a teacher at 0.1 does not sharpen. (Sinkhorn–Knopp, the third method, comes below.)

# %% tags=["hide-input", "skip"]
TEMPERATURES = [0.03, 0.06, 0.1]
METHODS = ["none", "centering", "sinkhorn_knopp"]
runs = {
    (method, temperature, seed): collapse_run(data, method, temperature, seed)
    for method in METHODS
    for temperature in TEMPERATURES
    for seed in (
        SEEDS if method != "sinkhorn_knopp" and temperature != 0.06 else (0,)
    )
}

# %% mystnb={"figure": {"caption": "What three teachers answer to the same 60 digits after 100 steps, first seed. Without centring all pictures choose one prototype; without sharpening each gets all of them; with both, the answer depends on the picture.", "name": "fig-dino-collapse"}, "image": {"alt": "Three heat maps of 60 rows and 64 columns. The first is empty but for one bright column, the second is evenly grey, in the third the bright spots are spread over many columns."}} tags=["hide-input", "plot"]
shown = {
    "sharpened, not centred": ("none", 0.03, 0),
    "centred, not sharpened": ("centering", 0.1, 0),
    "both": ("centering", 0.03, 0),
}
fig, axes = plt.subplots(1, 3, figsize=(9, 3), sharey=True)
for ax, (title, key) in zip(axes, shown.items(), strict=True):
    picture = ax.imshow(
        runs[key].answers[order],
        norm=PowerNorm(0.5, 0, 0.5),
        aspect="auto",
        cmap="magma",
    )
    ax.set(title=title, xlabel="prototype")
axes[0].set_ylabel("picture, sorted by digit")
fig.colorbar(picture, ax=axes, label="probability", shrink=0.8)
plt.show()

# %% [markdown] tags=["skip"]
# Move the two and watch. (One run of 100 steps for each setting.)

# %% tags=["hide-input"]
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

# %% tags=["hide-input", "check"]
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
favourites = [runs["none", 0.03, seed].answers.argmax(1) for seed in SEEDS]
agreed = [  # share of the images whose favourite is the one that most have
    (best.bincount().max() / len(best)).item() for best in favourites
]
claim(
    "Over {n} seeds: sharpened but not centred, the teacher's entropy falls to"
    " {one:.3f} (at most), and one prototype is the favourite of {agreed} of the"
    " images: where it is not yet of all, {several} prototypes are left. Centred but"
    " not sharpened the entropy rises to {uniform:.3f}"
    " (at least) of log K = {log_k:.3f}. In both cases the KL term ends at"
    " {kl:.2f} or less: little is left to learn. With both it is {kl_both:.2f}"
    " or more, and the answers of different images differ: their"
    " mean has {gap:.2f} nats more entropy than each has, at least.",
    one["h"].max() < 0.5
    and min(agreed) > 0.5
    and uniform["h"].min() > 0.99 * math.log(K)
    and max(one["kl"].max(), uniform["kl"].max()) < 0.3 * both["kl"].min()
    and (both["mixed"] - both["h"]).min() > 0.3,
    n=3,
    one=one["h"].max().item(),
    agreed=", ".join(f"{share:.0%}" for share in agreed[:-1]) + f" and {agreed[-1]:.0%}",
    several=max(len(best.unique()) for best in favourites),
    uniform=uniform["h"].min().item(),
    log_k=math.log(K),
    kl=max(one["kl"].max(), uniform["kl"].max()).item(),
    kl_both=both["kl"].min().item(),
    gap=(both["mixed"] - both["h"]).min().item(),
)

# %% tags=["hide-input", "check"]
def told(*setting):
    """What the answers tell about the image, in nats: mean answer's entropy less each one's."""
    return at_the_end(*setting, 2) - at_the_end(*setting, 0)


neither = told("none", 0.1)
claim(
    "With neither force (no centring, temperature 0.1) the entropy stops"
    " somewhere between, at {low:.1f} to {high:.1f} nats, and the answers tell"
    " {most:.3f} nats about the image at most.",
    neither.max() < 0.02
    and 0.5 < at_the_end("none", 0.1, 0).min()
    and at_the_end("none", 0.1, 0).max() < 0.99 * math.log(K),
    low=at_the_end("none", 0.1, 0).min().item(),
    high=at_the_end("none", 0.1, 0).max().item(),
    most=neither.max().item(),
)

# %% [markdown] tags=["skip"]
# Two of the curves tell whether a run of yours is alive. The green line minus the blue one is the
# mutual information between image and prototype: what the answers tell about the image. Where it is
# 0, the run has collapsed. The KL alone does not tell. It falls with the collapse, as the student has
# little left to learn, whatever the loss says; but a student that predicts a good teacher perfectly
# would have a KL of 0 too, with the green line above the blue one.

# %% [markdown] tags=["slide"]
# ## The implementation
#
# The loss reads like {eq}`eq-dino-p` and {eq}`eq-dino`; the centre is used first, and takes in the
# batch afterwards.

# %%
show_source(DINOLoss.forward)

# %% [markdown] tags=["skip"]
# The loss is the mean over the pairs of views where {eq}`eq-dino` has their sum, so that its size
# does not depend on the number of views. What it calls `probabilities` is $P_t$, with the centre of
# the batches before this one, or with Sinkhorn–Knopp in its place (see below):

# %%
show_source(DINOLoss.probabilities)

# %% [markdown] tags=["skip"]
# A transcription into NumPy that shares no line with it gives the same numbers, with two global and
# three local views, over five batches so that the centre moves:

# %% tags=["hide-input", "check", "skip"]
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

# %% [markdown] tags=["skip"]
# {{exercise 120.1b.dino-loss}}

# %% [markdown] tags=["skip"]
# The head goes through a *bottleneck*, scales the result to length 1, and compares it with
# prototypes of length 1. With 65,536 prototypes the bottleneck saves most of the head's weights.

# %% tags=["skip"]
show_source(DINOHead.forward)

# %% [markdown] tags=["skip"]
# In the teacher's step parameters are averaged, and buffers such as running statistics are copied.
# (DINO's code averages parameters alone; its teacher stays in training mode and keeps statistics of
# its own. A ViT has none.) Names and shapes are checked first: where the teacher has another
# architecture, the error names the first part that differs.

# %% tags=["skip"]
show_source(update_teacher)

# %% [markdown] tags=["skip"]
# {{exercise 120.1b.update-teacher}}

# %% [markdown] tags=["slide"]
# ## What DINOv2 adds
#
# DINOv2 {cite:p}`oquab2024dinov2` keeps {eq}`eq-dino` and adds three parts to the loss. Each does
# something that can be measured. (Besides, it gives class tokens and patches a head each, curates
# its data, ends with a short phase at high resolution, and distils the small models from the
# largest.)
#
# **Sinkhorn–Knopp** {cite:p}`cuturi2013sinkhorn,caron2020swav` in place of centring. Take
# $Q = \exp(g/\tau_t)$ for the batch, scale the columns to equal sums, then the rows to 1, three
# times. A centre adjusts the *mean score* of each prototype, over the past; Sinkhorn–Knopp adjusts
# how much each is *used*, now.

# %% tags=["hide-input", "check", "skip"]
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
# It balances the *batch*, so it wants large batches. Like centring it needs sharpening beside it
# (try 0.1 in the widget above). By construction the answers that it gives have a green line at
# $\log K$. So the widget shows a plain softmax of the teacher's scores instead.

# %% tags=["skip"]
show_source(sinkhorn_knopp)

# %% [markdown] tags=["skip"]
# {{exercise 120.1b.sinkhorn}}

# %% [markdown] tags=["slide"]
# **iBOT** {cite:p}`zhou2022ibot`: some patches of the student's global views are replaced by a mask
# token; at those places a second head must give the teacher's distribution for the *patch*, which
# the teacher sees. Its use is for patches: DINOv2's authors report that segmentation is worse
# without it {cite:p}`oquab2024dinov2`. Each image counts the same, however many of its patches are
# hidden.

# %% tags=["hide-input", "check", "skip"]
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

# %% mystnb={"figure": {"caption": "Which patches iBOT hides (dark), for eight views: half of the views keep all patches, the others lose from a tenth to a half of them, in blobs. The number over a batch is always the same, so that shapes do not change from step to step.", "name": "fig-ibot-masks"}, "image": {"alt": "Eight squares of 14 by 14 patches. Four are light throughout, in four one or more connected dark areas cover a growing share."}} tags=["hide-input", "plot"]
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
# sphere. DINOv2's authors found that it helps retrieval, which compares distances.

# %% tags=["hide-input", "check", "skip"]
def spread(encoder):
    """k-NN accuracy on validation, and the mean distance of a feature from the nearest other."""
    train_features, validation = (features(encoder, s) for s in data[:2])
    x = F.normalize(validation.x, dim=1)
    nearest = (x @ x.T).fill_diagonal_(-1).max(1).values  # cosine
    return (
        knn_accuracy(train_features, validation),
        (2 - 2 * nearest).clamp(min=0).sqrt().mean(),
    )


def spreads(models):
    return torch.tensor([spread(model.teacher["encoder"]) for model in models])


without = spreads(runs["centering", 0.03, seed].model for seed in SEEDS)
with_koleo = spreads(
    collapse_run(data, "centering", 0.03, seed, koleo_weight=0.1).model
    for seed in SEEDS
)
untrained = spreads(
    new_dino(seed, centering="centering", teacher_temp=0.03) for seed in SEEDS
)
by_pixels = spread(lambda x: x.flatten(1))[0]
claim(
    "With KoLeo at DINOv2's weight of 0.1 the nearest neighbour of a feature"
    " lies {far:.2f} away in place of {near:.2f} (mean of 3 seeds, 100 steps),"
    " and k-NN on validation images rises from {knn:.3f} to {knn_koleo:.3f}."
    " (Untrained it is {start:.3f}. These digits are easy: pixels give"
    " {pixels:.3f}.)",
    bool((with_koleo[:, 1] > without[:, 1]).all())
    and with_koleo[:, 0].min() > max(without[:, 0].max(), untrained[:, 0].max()) + 0.03
    and by_pixels > with_koleo[:, 0].max(),
    start=untrained[:, 0].mean().item(),
    pixels=by_pixels,
    far=with_koleo[:, 1].mean().item(),
    near=without[:, 1].mean().item(),
    knn=without[:, 0].mean().item(),
    knn_koleo=with_koleo[:, 0].mean().item(),
)

# %% [markdown] tags=["skip"]
# {{exercise 120.1b.koleo}}

# %% [markdown] tags=["skip"]
# The **momentum** is no part that DINOv2 adds. BYOL {cite:p}`grill2020byol` and DINO let it rise
# along half a cosine from 0.996 to 1, DINOv2's code from 0.992 (0.994 for its large models), so
# that the teacher becomes an ever longer average:

# %% tags=["hide-input", "check", "skip"]
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
# All parts together are `DINO`, called with the views of a batch. Its call has four steps: the
# teacher on the whole global views, without a gradient; the student on global views with patches
# hidden, and on the local views; the loss of the class tokens; then iBOT and KoLeo.

# %% tags=["skip"]
show_source(DINO.forward)

# %% [markdown] tags=["slide"]
# ## Details that papers leave out
#
# 1. **Stop the gradient at the teacher**: `no_grad` around its forward pass, not only
#    `requires_grad=False` on some of its weights. Without it both networks move towards each other,
#    and end at a constant: SimSiam shows it for a pair of networks without a moving average
#    {cite:p}`chen2021simsiam`.
# 2. **Use the centre, then update it**, as the authors' code does. In the other order each batch
#    takes part in its own centre, with the weight $1 - m_c$.
# 3. **Weights of the EMA in float32.** An update moves a weight by a share $1-m$ of the
#    *difference* between student and teacher. Unless that is large, it is less than half the step
#    from one bfloat16 number to the next (0.4 to 0.8 % of the weight), and is rounded away:

# %% tags=["hide-input", "check", "skip"]
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
half_step = torch.finfo(torch.bfloat16).eps / 2  # of a weight just above a power of 2
claim(
    "After 1,000 updates with m = 0.999 the float32 teacher has gone {f32:.0%}"
    " of its way (1 − m¹⁰⁰⁰), the bfloat16 teacher {bf16:.0%}: an update is lost"
    " where the two differ by less than {least:.0f} to {most:.0f} times the weight.",
    abs(way[1] - (1 - 0.999**1000)) < 0.01 and way[0] < 0.5,
    least=half_step / 2 / (1 - 0.999),
    most=half_step / (1 - 0.999),
    f32=way[1],
    bf16=way[0],
)

# %% [markdown] tags=["skip"]
# 4. **The momentum must fit the length of the run.** A teacher with momentum $m$ averages over
#    about $1/(1-m)$ steps: 250 at 0.996, and without end at 1. The runs of this page are shorter
#    than the paper's by far. On the digits we hold $m = 0.99$; the small ViTs at the end of the page
#    let it rise from 0.99 to 0.999.
# 5. **The teacher's temperature warms up** (0.04 to 0.07 over 30 *epochs*, not iterations) in the
#    paper's runs: high ones at the start lead to the uniform collapse.
# 6. **Sharp at the start**: an untrained network hardly tells images apart. If its weights start
#    far too small for its width, centred scores are all nearly 0 and the target is nearly uniform
#    from the first step: where the second collapse ends. Xavier's scale follows the width.
# 7. **Prototypes of length 1**: `F.normalize(prototypes)` is weight normalisation with the gain
#    fixed at 1, so that no prototype wins by growing. It is the default of DINO's code, not a rule:
#    the code's own help says that a learned gain can do better, and can be less stable.
# 8. **Only hidden patches pass iBOT's head**: 65,536 scores for every patch would be the largest
#    tensor of the whole step.
# 9. **One pass for each size** of crop, all views of a size in one batch.
# 10. **Prototypes stand still in the first epoch**: DINO's code drops their gradients until then
#     (`cancel_gradients_last_layer`; ours is `drop_prototype_gradients`), which helps, it says.
#     The likely reason is that targets are arbitrary at first. Our short runs do without.

# %% [markdown] tags=["slide"]
# ## The experiment
#
# **Question.** Is what DINO learns without labels worth more than pixels, than an untrained
# encoder, than training on the labels alone? (After 500 steps the answer is mostly no.) **Data.** 5,000 digits of
# MNIST, 28 × 28 pixels: 3,000 to train on, 1,000 to choose with, 1,000 to report. **Contestants.**
# Pixels, the untrained encoder and DINO's teacher, each read by a vote of neighbours and by a
# logistic probe; and encoder and linear layer trained together on the labels, on DINO's views, from
# random weights and from DINO's.
#
# **Fairness.** For each number of labels, the vote's $k$ (1, 5, 20), the probe's decay (six), and
# for both trainings rate and steps (three by two) are chosen on as many validation labels as there
# are to train on, at most 1,000. Rates and steps are chosen with a seed beside the three that are
# reported. DINO's own rate (of three) is chosen once, by neighbours with 300 and 300 labels, so its
# row with fewest labels has had that help. It trains 500 steps of 128 pictures. The test split is
# read for the reported numbers alone.

# %% tags=["long", "hide-input", "skip"] name="labels"
result = digits_by_labels(mnist())
keep(**result)

# %% mystnb={"figure": {"caption": "Test accuracy against the number of labels, mean and standard deviation of 3 seeds. Orange: features that DINO learned without labels, read in two ways and fine-tuned. The table has every contestant.", "name": "fig-dino-labels"}, "image": {"alt": "Seven lines that rise with the number of labels; the table below has their values."}} tags=["hide-input", "plot"]
kept = recorded("120.1b.labels")
accuracy = {
    name: 100 * torch.tensor(rows) for name, rows in kept["accuracy"].items()
}  # (numbers of labels, seeds)
labels = [fit for fit, _ in kept["labels"]]
STYLES = {
    "pixels, k-NN": ("0.5", ":"),
    "pixels, probe": ("0.5", "--"),
    "untrained encoder, probe": ("tab:green", "--"),
    "DINO, k-NN": ("tab:orange", ":"),
    "DINO, probe": ("tab:orange", "--"),
    "DINO, fine-tuned": ("tab:orange", "-"),
    "from scratch": ("tab:blue", "-"),
}
fig, ax = plt.subplots()
for name, (color, style) in STYLES.items():
    r = accuracy[name]
    ax.errorbar(
        labels, r.mean(1), r.std(1), label=name, color=color, ls=style, capsize=2
    )
ax.set(xscale="log", xlabel="labels", ylabel="test accuracy (%)", ylim=(30, 101))
ax.set_xticks(labels, labels)
ax.minorticks_off()
ax.legend(fontsize=8)
plt.show()

# %% tags=["hide-input", "check"]
def mark(name, row):
    """Mean ± standard deviation, bold where it is the best of its column."""
    r = accuracy[name][row]
    best = max(accuracy, key=lambda n: accuracy[n][row].mean().item())
    text = f"{r.mean():.1f} ± {r.std():.1f}"
    return f"**{text}**" if name == best else text


say(
    "| test accuracy (%) |"
    + "".join(
        f" {fit:,} labels, {more:,} to choose |" for fit, more in kept["labels"]
    )
    + "\n|---|---|---|---|\n"
    + "\n".join(
        f"| {name} | " + " | ".join(mark(name, i) for i in range(3)) + " |"
        for name in accuracy
    )
    + "\n\nMean ± standard deviation over 3 seeds; bold: the best mean of a"
    " column. Guessing gives 10 %."
)

# %% tags=["hide-input", "check"]
FROZEN = ("DINO, k-NN", "DINO, probe")
OURS = (*FROZEN, "DINO, fine-tuned")
rivals = [name for name in accuracy if name not in OURS]


def best_of(names, row):
    return max(names, key=lambda name: accuracy[name][row].mean().item())


def points(a, b, row):
    """How far a is ahead of b on the same seeds: mean ± standard deviation."""
    gain = accuracy[a][row] - accuracy[b][row]
    return f"{gain.mean():+.1f} ± {gain.std():.1f} points"


for row, count in enumerate(labels):
    rival, frozen = best_of(rivals, row), best_of(FROZEN, row)
    say(
        "- {count:,} labels: the best that does without DINO is *{rival}*."
        " Frozen DINO, in its better reading (*{frozen}*), is {ahead} against"
        " it; fine-tuned DINO {tuned}.",
        count=count,
        rival=rival,
        frozen=frozen,
        ahead=points(frozen, rival, row),
        tuned=points("DINO, fine-tuned", rival, row),
    )

# %% tags=["hide-input", "check"]
def means(name):
    return accuracy[name].mean(1)


claim(
    "So after 500 steps the frozen features do *not* win. In both readings and with every"
    " number of labels DINO is ahead of the untrained encoder on each seed."
    " But neighbours among pixels are better than either reading of DINO:"
    " {pixels_few:.0f} % against {dino_few:.0f} % with {few} labels,"
    " {pixels_all:.0f} % against {dino_all:.0f} % with {all:,}. And training"
    " on the labels, from random weights, is better than both: {scratch_few:.0f} %"
    " and {scratch_all:.0f} %.",
    all(
        (
            accuracy[f"DINO, {reading}"].min(1).values
            > accuracy[f"untrained encoder, {reading}"].max(1).values
        ).all()
        for reading in ("k-NN", "probe")
    )
    and all((means("pixels, k-NN") > means(name)).all() for name in FROZEN)
    and (means("from scratch") > means("pixels, k-NN")).all(),
    few=labels[0],
    all=labels[2],
    pixels_few=means("pixels, k-NN")[0].item(),
    pixels_all=means("pixels, k-NN")[2].item(),
    dino_few=max(means(name)[0] for name in FROZEN).item(),
    dino_all=max(means(name)[2] for name in FROZEN).item(),
    scratch_few=means("from scratch")[0].item(),
    scratch_all=means("from scratch")[2].item(),
)
claim(
    "The search was short for both sides. DINO's rate came out as {rate}, the"
    " least that was tried, and that of training from scratch on all labels as"
    " {scratch}, the greatest; from scratch it chose {steps:,} steps, the most, with"
    " every number of labels. So other rates and more steps may change these rows.",
    kept["chosen"]["DINO's rate"] == 0.003
    and kept["chosen"]["from scratch, 1"][0] == 0.1
    and {
        v[1] for name, v in kept["chosen"].items() if name.startswith("from scratch")
    }
    == {1000},
    steps=kept["chosen"]["from scratch, 1"][1],
    rate=kept["chosen"]["DINO's rate"],
    scratch=kept["chosen"]["from scratch, 1"][0],
)

# %% [markdown] tags=["skip"]
# A longer pre-training does change them. The next cell trains the network of the first seed for
# 3,000 steps in place of 500, with everything else as it was:

# %% tags=["long", "hide-input", "skip"] name="six-times-as-long"
from dlcourse.self_supervised_learning import label_subset, logistic_probe
from dlcourse.self_supervised_learning.experiments.digit_labels import pretrain_dino

pictures = mnist()
taught = pretrain_dino(pictures.train.x, 0, lr=0.003, steps=3000, batch_size=128)
fitted, chosen_on, reported = (features(taught, split) for split in pictures)
longer = {"k-NN": [], "probe": []}
for share in (0.01, 0.1, 1.0):
    fit = label_subset(fitted, share, 0)
    choose = label_subset(chosen_on, min(1.0, 3 * share), 0)
    k = max((1, 5, 20), key=lambda k: knn_accuracy(fit, choose, k=k))
    longer["k-NN"].append(knn_accuracy(fit, reported, k=k))
    longer["probe"].append(logistic_probe(fit, choose, reported).test_accuracy)
keep(**longer)

# %% tags=["hide-input", "check"]
longer = {
    f"DINO, {reading}": 100 * torch.tensor(recorded("120.1b.six-times-as-long")[reading])
    for reading in ("k-NN", "probe")
}
pixel_rows = ("pixels, k-NN", "pixels, probe")
say(
    "| test accuracy (%), first seed |"
    + "".join(f" {count:,} labels |" for count in labels)
    + "\n|---|---|---|---|\n"
    + "\n".join(
        f"| {name} | " + " | ".join(f"{value:.1f}" for value in values) + " |"
        for name, values in {
            **{f"{name}, 500 steps": accuracy[name][:, 0] for name in FROZEN},
            **{f"{name}, 3,000 steps": longer[name] for name in FROZEN},
            **{name: accuracy[name][:, 0] for name in (*pixel_rows, "from scratch")},
        }.items()
    )
)
by_probe, neighbours = longer["DINO, probe"], accuracy["pixels, k-NN"][:, 0]
claim(
    "So the probe gains {least:.0f} to {most:.0f} points. On this seed, with {few} and"
    " {some} labels it is now ahead of neighbours among pixels, with {all:,} it is"
    " level with them, and training on the labels stays ahead. One seed says that"
    " 500 steps were too few. It gives no ranking, and does not say how far more"
    " steps would carry.",
    (by_probe > accuracy["DINO, probe"][:, 0] + 4).all()
    and (by_probe[:2] > neighbours[:2] + 1).all()
    and (by_probe[2] - neighbours[2]).abs() < 1.5
    and (accuracy["from scratch"][:, 0] > by_probe).all(),
    least=(by_probe - accuracy["DINO, probe"][:, 0]).min().item(),
    most=(by_probe - accuracy["DINO, probe"][:, 0]).max().item(),
    few=labels[0],
    some=labels[1],
    all=labels[2],
)

# %% [markdown] tags=["skip"]
# A difference within its spread decides nothing. DINO and the trainings on labels have the same
# views. These differences belong to this small network and these digits.

# %% [markdown] tags=["slide"]
# ## At scale
#
# A step of DINOv2 with a ViT-B/16: two crops of 224 × 224 and eight of 96 × 96 of each image, a
# student on all, a teacher on the large ones, 65,536 prototypes for class tokens and for hidden
# patches, Sinkhorn–Knopp, KoLeo, AdamW and EMA. The cell measures it on painted pictures, in five
# forms that do the same work: transformers' `Dinov2Model` as the encoder; ours with one pass for
# each crop; ours with one for each size; and both encoders once more with blocks and losses
# compiled. Drawing the ten views is part of the step. The five take turns, three steps each a
# round.

# %% tags=["gpu", "hide-input"] name="dinov2-step"
from dlcourse.measure import matmul_peak
from dlcourse.self_supervised_learning.experiments import dino_step

device = torch.device("cuda")
sizes = dino_step.StepSizes(images=64)
peak = matmul_peak(device, torch.bfloat16)
timed = dino_step.compare_dino_steps(
    dino_step.KINDS, sizes, device, torch.bfloat16, rounds=7, steps=3
)
print(
    f"ViT-B/16, {sizes.images} images, 2 + {sizes.local_crops} crops,"
    f" {sizes.hidden_patches} hidden patches:"
    f" {sizes.flops() / sizes.images / 1e9:.0f} GFLOP an image;"
    f" a bfloat16 product reaches {peak / 1e12:.0f} TFLOP/s"
)
print(f"{'':24}{'images/s':>9}{'least':>7}{'most':>7}{'of peak':>9}{'loss':>8}")
for kind, one in timed.items():
    middle = statistics.median(one.seconds)
    rates = [
        sizes.images / s for s in (middle, max(one.seconds), min(one.seconds))
    ]
    print(
        f"{kind:24}{rates[0]:9.0f}{rates[1]:7.0f}{rates[2]:7.0f}"
        f"{sizes.flops() / middle / peak:9.0%}{one.loss:8.3f}"
    )
keep(
    ratio={
        kind: dino_step.ratios(timed["compiled"], timed[kind])
        for kind in timed
    },
    of_peak=sizes.flops() / statistics.median(timed["compiled"].seconds) / peak,
)

# %% tags=["hide-input", "check"]
ratio = recorded("120.1b.dinov2-step")["ratio"]
claim(
    "Compiled, our step is about as fast as the compiled step with"
    " transformers' encoder ({a:.2f} times in the median, {low:.2f} to"
    " {high:.2f} over the rounds). It is {b:.2f} times as fast as ours"
    " uncompiled ({b_low:.2f} to {b_high:.2f}), and {c:.2f} times ({c_low:.2f} to"
    " {c_high:.2f}) as fast as uncompiled with one pass for each crop, which changes"
    " two things at once. It reaches {peak:.0%} of what a large matrix product"
    " reaches.",
    0.9 < ratio["transformers compiled"][0] < 1.3
    and min(ratio["eager"][1], ratio["crop by crop"][1]) > 1
    and ratio["crop by crop"][0] > ratio["eager"][0],
    b_low=ratio["eager"][1],
    b_high=ratio["eager"][2],
    c_low=ratio["crop by crop"][1],
    c_high=ratio["crop by crop"][2],
    a=ratio["transformers compiled"][0],
    low=ratio["transformers compiled"][1],
    high=ratio["transformers compiled"][2],
    b=ratio["eager"][0],
    c=ratio["crop by crop"][0],
    peak=recorded("120.1b.dinov2-step")["of_peak"],
)

# %% [markdown] tags=["skip"]
# "Of peak" counts the floating-point operations that the model needs, by arithmetic, over what a
# large matrix product reaches on the same device. What pays is to make few and large calls, and to
# compile, which merges what lies between the matrix products. Both forms share heads, losses, views
# and optimizer, so the ratio of whole steps is nearer to 1 than that of the encoders. Ten views,
# softmaxes over 65,536 prototypes and the optimizer move memory, and multiply no matrices.
#
# The command for many GPUs is that of any data-parallel training (section 119.1a): with and without
# iBOT each weight that asks for a gradient gets one in every step (two ranks are tested).
# `DINOLoss`, `iBOTLoss` and `sinkhorn_knopp` take their sums over all ranks as soon as
# `torch.distributed` is initialised.
#
# ### What the class token looks at
#
# A well-known result of DINO: the class token's attention falls on the object, though nobody said
# what an object is {cite:p}`caron2021dino`. Three small ViTs of one size stand side by side, with
# three seeds each: untrained; trained with labels to name the shape; and trained by DINOv2, with
# Sinkhorn–Knopp, iBOT and KoLeo. The two trainings have the same pictures, steps and rate, which
# was tuned for neither. For each network the head that looks most at the shape is chosen on 500
# pictures, and measured on 500 others.

# %% tags=["gpu", "hide-input"] name="attention" image={"alt": "Five rows of eight pictures: painted shapes on patterned grounds; then the attention of the class token in three networks, untrained, trained with labels, and DINOv2; then DINOv2's patch features as colours."}
from dlcourse.self_supervised_learning.experiments import small_dinov2

looks = small_dinov2.compare_attention(
    torch.device("cuda"), steps=600, dtype=torch.bfloat16, compiled=True
)
print(f"share of the area that the shape covers: {looks.area:.2f}")
for name, values in looks.share.items():
    text = ", ".join(f"{v:.2f}" for v in values)
    print(f"share of the chosen head's attention on it, {name}: {text}")
keep(share=looks.share, area=looks.area)

pictures, _ = small_dinov2.shape_pixels(64, 64, seed=1003)
rows = {"picture": pictures[:8].permute(0, 2, 3, 1)}
for name, vit in looks.encoders.items():
    rows[f"{name}:\nattention"] = vit.class_attention(pictures[:8])[
        :, looks.heads[name]
    ]
with torch.no_grad():
    tokens = looks.encoders["DINOv2"].forward_features(pictures)[:, 1:]
rows["DINOv2:\nfeatures"] = pca_rgb(tokens)[:8].unflatten(1, (8, 8))
fig, axes = plt.subplots(5, 8, figsize=(6.4, 4.2))
for row, (name, maps) in zip(axes, rows.items(), strict=True):
    row[0].set_ylabel(name, fontsize=7, rotation=0, ha="right", va="center")
    for ax, image in zip(row, maps, strict=True):
        ax.imshow(image, cmap="magma")
        ax.set(xticks=[], yticks=[])
plt.show()

# %% tags=["hide-input", "check"]
from dlcourse.notebook import paired


def spread_of(values):
    return f"{statistics.mean(values):.0%} ± {statistics.stdev(values):.0%}"


share = recorded("120.1b.attention")["share"]
dino = share["DINOv2"]
gain, half = (100 * value for value in paired(dino, share["untrained"]))
claim(
    "The shape covers {area:.0%} of a picture. The chosen head spends on"
    " it, mean ± standard deviation of {n} seeds: untrained {untrained},"
    " trained with labels {labels}, DINOv2 {dino}. DINOv2's share is above"
    " the untrained one's in {a} of {n} seeds, by {gain:.0f} ± {half:.0f} points (95 %"
    " interval), and above that of the network trained with labels in {b} of {n}."
    " **So this small training does not show DINO's well-known result**; with labels"
    " the attention does fall on the shape. The picture above is of the first seed,"
    " the one in which DINOv2 looks at the shape most ({best:.0%}; the others: {rest}).",
    abs(gain) < half
    and dino[0] == max(dino)
    and all(s > d and s > 2 * u for d, s, u in zip(dino, share["with labels"], share["untrained"])),
    gain=gain,
    half=half,
    best=dino[0],
    rest=" and ".join(f"{d:.0%}" for d in dino[1:]),
    area=recorded("120.1b.attention")["area"],
    n=len(dino),
    untrained=spread_of(share["untrained"]),
    labels=spread_of(share["with labels"]),
    dino=spread_of(dino),
    a=sum(d > u for d, u in zip(dino, share["untrained"])),
    b=sum(d > s for d, s in zip(dino, share["with labels"])),
)

# %% [markdown] tags=["skip"]
# The last row of the picture has the first three principal components of DINOv2's patch features as
# red, green and blue, taken over all pictures at once. The rate was not tuned and the steps are few;
# whether a longer training would look at the shape was not measured. Attention is no segmentation:
# other heads look elsewhere, and small networks on painted shapes say little about photographs.

# %% [markdown] tags=["slide"]
# ## Since DINOv2
#
# - **Distillation.** DINOv2 trains its largest ViT as above. The smaller ones learn from that
#   frozen network in place of their own average, with the same losses, and are better for it than
#   when they are trained from nothing {cite:p}`oquab2024dinov2`.
# - **Registers** {cite:p}`darcet2024registers`. Large ViTs, DINOv2's among them, turn some patches
#   of even ground into stores of global information: their norms are far above the others', and
#   they spoil maps of attention. A few additional learned tokens, thrown away at the output, take
#   that part over, and the maps become smooth.
# - **DINOv3** {cite:p}`simeoni2025dinov3`. In long trainings of very large models the class token
#   goes on improving while patch features get worse. *Gram anchoring* holds the similarities
#   between patches near those of an earlier teacher.
# - **data2vec** {cite:p}`baevski2022data2vec` hides parts of the input and predicts the teacher's
#   *features*, averaged over its top layers, by regression: no prototypes, and one recipe for
#   images, speech and text.
# - **I-JEPA** {cite:p}`assran2023ijepa` predicts the teacher's features of several large blocks
#   from one visible block, by a small predictor that is told the places. It needs no views made by
#   hand.

# %% [markdown] tags=["slide"]
# ## Mistakes to know
#
# Code called DINOv2 in the document that this course corrects has the outline of DINO and none of
# DINOv2's parts. Three of its mistakes are easy to make; all, with their tests, stand in the
# {doc}`errata </book/errata>`.
#
# **A view compared with itself.** Student and teacher both get the same view, and the local views
# go unused. At the start the teacher is a copy of the student. What can be learned?

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
student = nn.Linear(144, 16)
teacher = copy.deepcopy(student)
x = data.train.x[:8].flatten(1)
crop = BatchViews(12, scale=(0.6, 1.0), flip=0)
other = crop(data.train.x[:8], torch.Generator().manual_seed(0)).flatten(1)
for name, seen in [("same view: ", x), ("other view:", other)]:
    student.zero_grad()
    target = teacher(x).softmax(-1).detach()
    (-(target * student(seen).log_softmax(-1)).sum(-1).mean()).backward()
    print(
        name, "gradient zero:", student.weight.grad.abs().max().item() < 1e-8
    )

# %% [markdown] tags=["skip"]
# With equal temperatures the gradient is exactly zero: any function of the image, good or bad, is a
# solution. With unequal ones a gradient remains, which sharpens the answers and knows nothing of
# views.
#
# **The logarithm of a softmax.** Where the softmax underflows, that is $-\infty$:

# %% tags=["nbval-check-output", "skip"]
scores = torch.tensor([[12.0, 0.0]]) / 0.1  # a student that is sure
target = torch.tensor([[0.5, 0.5]])
print("log(softmax):", -(target * torch.log(scores.softmax(1))).sum().item())
print("log_softmax: ", -(target * scores.log_softmax(1)).sum().item())

# %% [markdown] tags=["skip"]
# **A teacher's head that never moves.** It is drawn apart from the student's, so the two numberings
# of the prototypes have nothing to do with each other; then the update leaves it out. And without
# the bottleneck, two layers straight to 65,536 outputs would be larger than the encoder:

# %% tags=["hide-input", "check", "skip"]
from dlcourse.self_supervised_learning import VisionTransformer

with torch.device("meta"):
    plain_head = nn.Sequential(
        nn.Linear(768, 2048), nn.GELU(), nn.Linear(2048, 65536)
    )
    head = DINOHead(768, 65536)
    vit_b = VisionTransformer(224, 16, embed_dim=768, depth=12, num_heads=12)


def millions(module):
    return sum(p.numel() for p in module.parameters()) / 1e6


claim(
    "Behind a ViT-B, which has {encoder:.0f} million parameters, a head without the"
    " bottleneck has {plain:.0f} million; with it {ours:.0f} million, though it has"
    " two layers more.",
    millions(plain_head) > 1.5 * millions(vit_b) > 4 * millions(head)
    and sum(p.dim() == 2 for p in head.parameters())
    == 2 + sum(p.dim() == 2 for p in plain_head.parameters()),
    encoder=millions(vit_b),
    plain=millions(plain_head),
    ours=millions(head),
)

# %% [markdown] tags=["skip"]
# ## Limits
#
# - Handwritten digits are no photographs. What carries over is the mechanism: the two collapses,
#   the two curves that show them, what each part does.
# - The views decide what is learned. Crops and brightness say nothing about mirror images here,
#   because we left `flip` out: a digit is not its mirror image. A view that destroys what you need
#   teaches the network to ignore it.
# - Five hundred steps of two views, or 3,000, are not 100 epochs of ImageNet. The CPU runs have two
#   global views and no local ones, for which the digits are too small; the GPU runs have both.
# - At work, take the published DINOv2 weights (`transformers`, `torch.hub`), or `lightly`'s losses
#   to train your own. Use this page to understand them, and as a reference to test against.

# %% [markdown] tags=["skip"]
# ## Quiz

# %% [markdown] tags=["skip"]
# {{quiz 120.1b}}

# %% [markdown] tags=["slide"]
# ## Summary
#
# - The student predicts the teacher on *another* view; the teacher is the student's moving average.
# - Centring alone ends uniform, sharpening alone ends one-hot; together they hold each other.
# - Watch the teacher's entropy and that of the mean answer: where they are equal, the run is dead.
# - The teacher gets no gradient, sees only global views, and is moved whole: encoder, head,
#   buffers.
# - DINOv2 = DINO + iBOT on hidden patches + KoLeo + Sinkhorn–Knopp, at scale and on curated data.
#
# References: each citation above leads to its source; the
# {doc}`bibliography </book/bibliography>` lists them all.
