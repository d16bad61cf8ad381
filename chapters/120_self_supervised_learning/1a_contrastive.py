# %% [markdown] tags=["slide"]
# (sec-120-1a)=
# # 120.1a Contrastive learning: SimCLR
#
# A network can learn to see without labels, by recognising which two of many distorted pictures
# came from the same one. At the end of this section you can write its loss and say what each part
# of it does, test an implementation, foresee from the augmentations what a network will keep and
# what it will lose, and tell a collapsed run from a good one.
#
# You need: Python, PyTorch, cross-entropy, convolutions; no GPU.

# %% tags=["definitions", "hide-input", "skip"]
import math
import statistics
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dlcourse.datasets import HUES, SHAPES, TEXTURES, Split, shapes
from dlcourse.notebook import claim, explore, say, show_source
from dlcourse.self_supervised_learning import (
    BatchViews,
    ConvNet,
    SimCLR,
    alignment,
    features,
    knn_accuracy,
    label_subset,
    linear_probe,
    nt_xent,
    nt_xent_reference,
    pretrain,
    uniformity,
)

plt.style.use("dlcourse.notebook.course")
COLOR = {"hue": "tab:orange", "texture": "tab:blue", "shape": "tab:green"}
FACTORS = {"shape": SHAPES, "hue": HUES, "texture": TEXTURES}
FRACTIONS = (0.01, 0.1, 1.0)  # of the labels
NO_COLOUR = {"jitter_probability": 0.0, "grayscale": 0.0}

# %% [markdown] tags=["slide"]
# ## A question
#
# Here are painted pictures: a shape of some colour on a patterned background. Nobody tells us what
# is on them. We distort each picture twice, at random: cut out a part, turn it over, change the
# colours. The two results are **views** of one picture. Given one view, can you find its partner
# among the views of many other pictures?

# %% tags=["skip"]
def two_views(x, view, generator):
    """Two views of each image: (B, 3, S, S) → twice (B, 3, s, s)."""
    return view(torch.cat([x, x]), generator).chunk(2)


def pixels(x):
    return x.flatten(1)

# %% tags=["skip"]
SIZE = 24
data = {
    factor: shapes(
        seed=0,
        n_train=2000,
        n_validation=500,
        n_test=1000,
        size=SIZE,
        label=factor,
    )
    for factor in FACTORS
}  # the same pictures, three labels
images = data["hue"].train.x  # (2000, 3, 24, 24)
crop = {"size": 14, "scale": (0.25, 1.0)}
VIEWS = {
    "crop + colour": BatchViews(**crop, hue=0.5),
    "crop only": BatchViews(**crop, **NO_COLOUR),
}
g = torch.Generator().manual_seed(0)
view1, view2 = two_views(images[:8], VIEWS["crop + colour"], g)

# %% mystnb={"figure": {"caption": "Eight pictures (top), and two random views of each. The partner of a view stands below it; colours and cut differ, the pattern of the background and parts of the shape are the same.", "name": "fig-contrastive-views"}, "image": {"alt": "Three rows of eight small pictures. Top row: coloured shapes such as a star or a ring on striped, chequered or plain backgrounds. The rows below show cut-outs of them in other colours."}} tags=["hide-input"]
fig, axes = plt.subplots(3, 8, figsize=(7, 2.8))
for row, (batch, name) in zip(
    axes,
    [(images[:8], "picture"), (view1, "view 1"), (view2, "view 2")],
    strict=True,
):
    for ax, x in zip(row, batch, strict=True):
        ax.imshow(x.permute(1, 2, 0))
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(name)
plt.show()

# %% tags=["hide-input"]
def partners_found(represent, view, n=128):
    """How often the nearest of the 2n − 1 other views is the partner (cosine, validation)."""
    generator = torch.Generator().manual_seed(1)
    pairs = torch.cat(two_views(data["hue"].validation.x[:n], view, generator))
    with torch.no_grad():
        z = F.normalize(represent(pairs), dim=1)
    nearest = (z @ z.T - 2 * torch.eye(2 * n)).argmax(1)
    return (nearest == torch.arange(2 * n).roll(n)).double().mean().item()


by_pixels = partners_found(pixels, VIEWS["crop + colour"])
say(
    "Compared pixel by pixel, the nearest of 255 other views is the partner"
    " for {a:.0%} of the views. Guessing would give {b:.1%}. What would a"
    " network have to know to do better?",
    a=by_pixels,
    b=1 / 255,
)

# %% [markdown] tags=["skip"]
# It would have to see through the distortions: know that a pattern cut elsewhere is still the
# same pattern, and that a colour says nothing. Nobody has labelled anything, yet there is a right
# answer to every question: we made the pairs ourselves. That is the whole trick. The rest of this
# section is about the price: **what the distortions change, the network learns not to see.**

# %% [markdown] tags=["slide"]
# ## The idea
#
# ### A classification whose classes are the batch
#
# Take $B$ images and two views of each. An encoder $f$ turns a view into features $h = f(x)$, a
# small head into an embedding $z = g(h)$. Stack the $2B$ embeddings, divide each by its length, and
# let $s_{ik} = z_i^\top z_k / (\lVert z_i\rVert \lVert z_k\rVert)$. For an anchor $i$ with partner
# $j$, the loss is a cross-entropy: which of the $2B - 1$ others is the partner?
#
# $$
# \ell_{i} = -\log \frac{\exp(s_{ij}/\tau)}{\sum_{k \neq i} \exp(s_{ik}/\tau)}, \qquad
# \mathcal L = \frac{1}{2B} \sum_{i=1}^{2B} \ell_{i} .
# $$ (eq-nt-xent)
#
# This is NT-Xent, the *normalised temperature-scaled cross-entropy* of SimCLR
# {cite:p}`chen2020simclr`. With one direction and other ways to get negatives it is known as
# InfoNCE {cite:p}`oord2018cpc`. The partner is the **positive**; the $2B - 2$ views of other
# images are the **negatives**. They come for free: no image is labelled, all others in the batch
# serve.
#
# Two values to know by heart. An encoder that gives all images the same embedding has the loss
# $\log(2B-1)$: it guesses. And the least possible loss has partners in one place and the images
# as far from each other as they can be.
#
# InfoNCE is also a lower bound on the mutual information $I$ between the views of an image,
# $I \ge \log N - \mathcal L$ with $N$ candidates {cite:p}`oord2018cpc`. But a bound that can't
# exceed $\log N$ says little when the views share more than that, and tighter bounds do not give
# better features {cite:p}`tschannen2020mutual`. Think of the loss as what it is: a
# classification.

# %% [markdown] tags=["slide"]
# ### What the gradient does
#
# Let $p_{ik}$ be the softmax in {eq}`eq-nt-xent`. Then
#
# $$
# \frac{\partial \ell_i}{\partial s_{ij}} = -\frac{1 - p_{ij}}{\tau}, \qquad
# \frac{\partial \ell_i}{\partial s_{ik}} = \frac{p_{ik}}{\tau} \quad (k \ne i, j) .
# $$ (eq-contrastive-gradient)
#
# The partner is pulled as hard as all negatives together are pushed, and *the softmax decides
# which negative gets how much of the push*. Besides the common factor $1/\tau$, this is what the
# temperature does {cite:p}`wang2021behaviour`: at a high $\tau$ all negatives are pushed alike,
# at a low one only the nearest. To see it, we train an encoder with this loss; the next cells
# take a moment.

# %%
def train_simclr(
    x,
    seed,
    view,
    *,
    widths=(16, 32, 64),
    temperature=0.2,
    steps=120,
    batch_size=128,
):
    """SimCLR on images x (N, 3, S, S), on their device."""
    generator = torch.Generator().manual_seed(seed)
    encoder = ConvNet(3, widths, generator=generator)
    model = SimCLR(
        encoder,
        projection_dim=64,
        temperature=temperature,
        generator=generator,
    ).to(x.device)
    pretrain(
        model,
        lambda i, g: model(*two_views(x[i], view, g)),
        len(x),
        steps=steps,
        batch_size=batch_size,
        lr=1e-2,
        seed=seed,
    )
    return model

# %%
SEEDS = (0, 1, 2)
models = {
    name: [train_simclr(images, seed, view) for seed in SEEDS]
    for name, view in VIEWS.items()
}

# %% tags=["hide-input"]
by_simclr = [
    partners_found(m.project, VIEWS["crop + colour"])
    for m in models["crop + colour"]
]
claim(
    "The trained encoder finds the partner for {a:.0%} of the views "
    "(3 seeds: {low:.0%} to {high:.0%}), "
    "among pictures never seen before; the pixels found {b:.0%}.",
    statistics.mean(by_simclr) > by_pixels + 0.02,
    a=statistics.mean(by_simclr),
    low=min(by_simclr),
    high=max(by_simclr),
    b=by_pixels,
)

# %% tags=["hide-input"]
with torch.no_grad():
    validation = data["texture"].validation
    pairs = torch.cat(two_views(validation.x[:64], VIEWS["crop + colour"], g))
    z = F.normalize(
        models["crop + colour"][0].project(pairs), dim=1
    )  # (128, 64)
textures = validation.y[:64].repeat(2)
SIMILARITY = z @ z.T
ANCHOR, SHOWN = 8, 14


def ranked_negatives(anchor):
    """Indices of the 126 negatives of an anchor, the nearest first."""
    order = SIMILARITY[anchor].argsort(descending=True)
    return order[(order != anchor) & (order != (anchor + 64) % 128)]


def push(temperature):
    """Share of the push that each negative gets, the nearest first."""
    return (
        SIMILARITY[ANCHOR, ranked_negatives(ANCHOR)] / temperature
    ).softmax(0)


def draw_push(temperature):
    fig, (top, row) = plt.subplots(
        2, 1, figsize=(7, 3.2), sharex=True, height_ratios=(3, 1)
    )
    share = push(temperature)
    nearest = ranked_negatives(ANCHOR)[:SHOWN]
    top.bar(range(SHOWN), 100 * share[:SHOWN], color="tab:blue")
    top.set(
        ylabel="share of the push (%)",
        ylim=(0, 100 * max(0.05, 1.1 * share.max())),
    )
    top.set_title(
        f"nearest 1 of 126: {share[0]:.0%}, nearest {SHOWN}:"
        f" {share[:SHOWN].sum():.0%}",
        fontsize=10,
    )
    for place, k in [(-1.5, ANCHOR), *enumerate(nearest)]:
        row.imshow(
            pairs[k].permute(1, 2, 0),
            extent=(place - 0.45, place + 0.45, 0, 0.9),
        )
    labels = ["anchor"] + [f"{SIMILARITY[ANCHOR, k]:.2f}" for k in nearest]
    row.set(
        xlim=(-2.1, SHOWN - 0.4),
        ylim=(0, 0.9),
        yticks=[],
        xticks=[-1.5, *range(SHOWN)],
        xticklabels=labels,
        xlabel=(
            f"the {SHOWN} nearest of 126 negatives, and their similarity to"
            " the anchor"
        ),
    )
    row.spines["left"].set_visible(False)
    return fig


explore(
    draw_push,
    {"temperature": [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0]},
    initial={"temperature": 0.2},
    name="Which negatives are pushed",
    alt=lambda temperature: (
        "Bars of the share of the push that the 14 nearest negatives of one"
        f" anchor get at temperature {temperature:g}: the nearest"
        f" {push(temperature)[0]:.0%}, all 14"
        f" {push(temperature)[:SHOWN].sum():.0%}, with their pictures."
    ),
)

# %% tags=["hide-input"]
alike = torch.stack(
    [textures[ranked_negatives(k)[:SHOWN]] == textures[k] for k in range(128)]
)
claim(
    "Of the {n} nearest negatives, {a:.0%} have the anchor's texture (mean"
    " over 128 anchors); of all negatives about 25 % do.",
    bool(alike.double().mean() > 0.35),
    n=SHOWN,
    a=alike.double().mean().item(),
)

# %% [markdown] tags=["skip"]
# So the pictures under the first bars are often **false negatives**: images of the anchor's own
# kind that happen to be in the batch. A low temperature pushes these hardest. A high one lets
# them be, but hardly pushes what is really hard either. There is a best value in between, and it
# depends on the data.

# %% [markdown] tags=["slide"]
# ### Alignment and uniformity
#
# For many negatives, {eq}`eq-nt-xent` splits into two wishes {cite:p}`wang2020uniformity`:
# partners in one place (**alignment**), all points spread over the sphere (**uniformity**). Each
# can be measured by itself, on normalised embeddings $u$ and $u'$ of two views:
#
# $$
# \text{alignment} = \mathbb E\, \lVert u - u' \rVert^2, \qquad
# \text{uniformity} = \log \mathbb E_{\,\text{pairs of images}}\; e^{-2 \lVert u - v \rVert^2} .
# $$ (eq-alignment-uniformity)
#
# Both are better when lower. Alignment alone is easy: put all points into one. Uniformity alone is
# easy: scatter at random. To have both, the network must tell what belongs together.

# %% [markdown] tags=["slide"]
# ## What the document's listing does
#
# **It has no contrast.** The document's section 120.1 is titled *contrastive learning*. It lists a
# masked-image model, SimMIM, and a self-distillation, DINOv2 (sections 120.1c and 120.1b here treat
# them). Neither compares one image with another, though a comment in the second calls its loss
# contrastive. The test is simple: does an image's loss change when the *other* images do?

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
a, b = torch.randn(2, 6, 4)  # outputs for two views of six images


def listing_loss(
    student, teacher
):  # the "contrastive loss" of the listing's DINO
    student, teacher = F.softmax(student / 0.1, dim=1), F.softmax(
        teacher / 0.04, dim=1
    )
    return -(teacher * torch.log(student)).sum(1).mean()


for name, loss in [("listing", listing_loss), ("NT-Xent", nt_xent)]:
    together = loss(a, b).item()
    in_pairs = (
        sum(loss(a[i : i + 2], b[i : i + 2]).item() for i in (0, 2, 4)) / 3
    )
    print(f"{name}: six together {together:.3f}, two by two {in_pairs:.3f}")

# %% [markdown] tags=["skip"]
# For the listing the rest of the batch is not there. What that means shows when one trains only
# for agreement. We take the same encoder, the same views, and the one half of the idea that is left
# without negatives: make partners alike.

# %%
def train_for_agreement(x, seed, view, steps=60):
    """As train_simclr, but partners are only pulled together."""
    generator = torch.Generator().manual_seed(seed)
    model = SimCLR(
        ConvNet(3, (16, 32, 64), generator=generator), 64, generator=generator
    )

    def loss(i, g):
        z1, z2 = model.project(torch.cat(two_views(x[i], view, g))).chunk(2)
        return 1 - F.cosine_similarity(z1, z2).mean()

    pretrain(
        model, loss, len(x), steps=steps, batch_size=128, lr=1e-2, seed=seed
    )
    return model


def on_the_sphere(model, view):
    """Alignment, uniformity and NT-Xent of 500 validation images (τ = 0.2)."""
    generator = torch.Generator().manual_seed(2)
    x = data["hue"].validation.x
    with torch.no_grad():
        z1, z2 = model.project(torch.cat(two_views(x, view, generator))).chunk(
            2
        )
    return alignment(z1, z2), uniformity(z1), nt_xent(z1, z2, 0.2)


view = VIEWS["crop + colour"]
collapsed = torch.tensor(
    [on_the_sphere(train_for_agreement(images, s, view), view) for s in SEEDS]
)
contrasted = torch.tensor(
    [on_the_sphere(m, view) for m in models["crop + colour"]]
)
claim(
    "Trained for agreement alone, 3 seeds: alignment {a:.3f}, near the perfect"
    " 0, and uniformity {u:.3f}, also near 0: all pictures have become one"
    " point. NT-Xent of these embeddings is {loss:.2f}; guessing has log 999 ="
    " {guess:.2f}. With NT-Xent as the loss: alignment {a2:.2f}, uniformity"
    " {u2:.2f}.",
    bool(
        (collapsed[:, 0] < 0.1).all()
        and (collapsed[:, 1] > -0.3).all()
        and (contrasted[:, 1] < -1.0).all()
    ),
    a=collapsed[:, 0].mean().item(),
    u=collapsed[:, 1].mean().item(),
    loss=collapsed[:, 2].mean().item(),
    guess=math.log(999),
    a2=contrasted[:, 0].mean().item(),
    u2=contrasted[:, 1].mean().item(),
)

# %% [markdown] tags=["skip"]
# This is **collapse**. Negatives are one remedy. Section 120.1b has others that need none (a
# teacher, centring, sharpening), and section 120.1c avoids the question, since pixels can't
# collapse.
#
# **Its logarithm of a softmax** would break NT-Xent too. At small temperatures a small probability
# is rounded to 0, and the logarithm of 0 is $-\infty$:

# %% tags=["nbval-check-output"]
logits = torch.tensor([[0.9, -0.3, 0.1]]) / 0.01  # the partner is the second
print("log of softmax:", -torch.log(F.softmax(logits, dim=1))[0, 1].item())
print("log_softmax:   ", round(-F.log_softmax(logits, dim=1)[0, 1].item(), 3))

# %% [markdown] tags=["slide"]
# ## The loss, readable
#
# Equation {eq}`eq-nt-xent` as a double loop:

# %%
show_source(nt_xent_reference)

# %% [markdown] tags=["slide"]
# And as one cross-entropy. The diagonal is set to $-\infty$, so that no view is its own candidate;
# the class of view $i$ is $i + B$, modulo $2B$.

# %%
show_source(nt_xent)

# %% [markdown] tags=["skip"]
# Are they the same, and right? The third form below shares no line with the package.

# %% tags=["skip"]
def nt_xent_numpy(z1, z2, temperature):
    z = np.concatenate([z1, z2])
    z = z / np.sqrt((z**2).sum(1, keepdims=True))
    e = np.exp(z @ z.T / temperature)
    n = len(z1)
    share = [
        e[i, (i + n) % (2 * n)] / (e[i].sum() - e[i, i]) for i in range(2 * n)
    ]
    return -np.log(share).mean()


rng = np.random.default_rng(0)
worst = 0.0
for _ in range(50):
    z1, z2 = rng.normal(
        size=(2, rng.integers(2, 9), rng.integers(2, 9))
    ) * rng.uniform(0.1, 10)
    tau = rng.uniform(0.1, 2)
    expected = nt_xent_numpy(z1, z2, tau)
    for form in (nt_xent, nt_xent_reference):
        got = form(torch.tensor(z1), torch.tensor(z2), tau).item()
        worst = max(worst, abs(got - expected))
claim(
    "Over 50 random batches in float64, the largest difference of the three"
    " forms is {worst:.0e}.",
    worst < 1e-9,
    worst=worst,
)

# %% [markdown] tags=["skip"]
# The test suite holds value and gradients to `lightly`'s `NTXentLoss` as well, and
# {eq}`eq-contrastive-gradient` to what autograd computes.
#
# The model is short. `represent` gives what one keeps, `project` what the loss compares:

# %%
show_source(SimCLR)

# %% [markdown] tags=["skip"]
# ## Details that decide
#
# 1. **Normalise.** Without the division by lengths, the network can make the softmax sharp by
#    making vectors long, and the temperature means nothing {cite:p}`chen2020simclr`.
# 2. **Leave the diagonal out by $-\infty$**, not by 0: $e^0 = 1$ would stay in the sum as one
#    more negative.
# 3. **Both directions.** Each of the $2B$ views is an anchor once, and the views of both kinds
#    are negatives (algorithm 1 of the paper).
# 4. **One forward pass for both views**, so that BatchNorm takes its mean over both. With one
#    pass a view, or a BatchNorm that sees only a few images of one GPU, statistics can give away
#    who belongs together: the paper computes them over all devices, MoCo shuffles the images
#    between them {cite:p}`he2020moco`. In DDP, use `nn.SyncBatchNorm.convert_sync_batchnorm`.
# 5. **Float32 for the similarities.** Under autocast the product $z z^\top$ would be computed in
#    half precision. `nt_xent` steps out of it: see below.
# 6. **A head, and throw it away.** The loss wants embeddings that no augmentation changes. A head
#    of two layers can do that last step, so that the features before it may keep more. The paper
#    found them more than 10 points better than those after it.
# 7. **Crops and colours together.** Two crops of one picture have nearly the same colours, so
#    that without colour jitter a histogram is enough to find the partner. We shall see that
#    happen.
# 8. **Large batches, or a queue.** More negatives make a harder question. SimCLR trained with
#    4,096 images a batch (and LARS); MoCo keeps a queue of old embeddings instead
#    {cite:p}`he2020moco`.

# %% tags=["skip"]
u = F.normalize(torch.randn(256, 64, generator=g), dim=1)
error = u.bfloat16() @ u.bfloat16().T - u @ u.T
say(
    "Detail 5 in one line: in bfloat16 the similarities of 256 random"
    " embeddings are off by up to {error:.4f}. Divided by τ = 0.05 that is"
    " {logit:.2f} in a logit.",
    error=error.abs().max().item(),
    logit=error.abs().max().item() / 0.05,
)

# %% [markdown] tags=["slide"]
# ## The experiment: augmentations decide what is kept
#
# **Task.** The pictures have three known factors: shape (8), hue (6) and the background's texture
# (4), all independent of each other. **Contestants.** SimCLR with crops and colour jitter, and
# SimCLR with crops alone: the same encoder ({eq}`eq-nt-xent` at $\tau = 0.2$, 128 images a batch,
# 120 steps, no labels, 3 seeds). Beside them raw pixels, and the encoder as it was before
# training. **Measure.** A vote of the 20 nearest training images, once for each factor, on the
# test split. No choice was made there.

# %%
def factor_splits(represent):
    """Features of the three splits once, with the labels of each factor."""
    parts = [features(represent, part) for part in data["hue"]]
    return {
        f: [
            Split(part.x, labelled.y)
            for part, labelled in zip(parts, data[f], strict=True)
        ]
        for f in FACTORS
    }


def untrained(seed):
    return ConvNet(
        3, (16, 32, 64), generator=torch.Generator().manual_seed(seed)
    )


kept = {
    "raw pixels": [factor_splits(pixels)],
    "random encoder": [factor_splits(untrained(seed)) for seed in SEEDS],
    "crop only": [factor_splits(m.encoder) for m in models["crop only"]],
    "crop + colour": [
        factor_splits(m.encoder) for m in models["crop + colour"]
    ],
}
knn = {
    name: {
        f: torch.tensor([knn_accuracy(run[f][0], run[f][2]) for run in runs])
        for f in FACTORS
    }
    for name, runs in kept.items()
}

# %% mystnb={"figure": {"caption": "Which factor can be read from the features, by nearest neighbours on the test split: mean and range of 3 seeds. Dotted: guessing. With crops alone SimCLR keeps the hue. With colour jitter it drops the hue, and finds the texture instead.", "name": "fig-what-is-kept"}, "image": {"alt": "Grouped bars for raw pixels, a random encoder, SimCLR with crops only, and SimCLR with crops and colour jitter. Hue is high for the first three and low for the last; texture is low for the first three and high for the last; shape is low everywhere."}} tags=["hide-input"]
fig, ax = plt.subplots()
for j, f in enumerate(("hue", "texture", "shape")):
    place = np.arange(len(knn)) + 0.27 * (j - 1)
    runs = [100 * knn[name][f] for name in knn]
    mean = [r.mean() for r in runs]
    reach = [
        [m - r.min() for m, r in zip(mean, runs, strict=True)],
        [r.max() - m for m, r in zip(mean, runs, strict=True)],
    ]
    ax.bar(place, mean, 0.25, yerr=reach, color=COLOR[f], capsize=3, label=f)
    guess = [100 / len(FACTORS[f])] * len(place)
    ax.hlines(guess, place - 0.125, place + 0.125, color="black", ls=":")
ax.set(
    xticks=range(len(knn)),
    xticklabels=[n if n not in VIEWS else f"SimCLR,\n{n}" for n in knn],
    ylabel="k-NN accuracy (%)",
    ylim=(0, 100),
)
ax.legend(ncols=3, loc="upper center")
plt.show()

# %% tags=["hide-input"]
without, with_jitter = knn["crop only"], knn["crop + colour"]
claim(
    "With colour jitter the hue falls from {h1:.0%} to {h2:.0%} (guessing: 17"
    " %), and the texture rises from {t1:.0%} to {t2:.0%} (guessing: 25 %; raw"
    " pixels {t0:.0%}). Every seed shows both.",
    bool(
        with_jitter["hue"].max() < without["hue"].min() - 0.1
        and with_jitter["texture"].min() > without["texture"].max() + 0.1
        and with_jitter["texture"].min()
        > knn["raw pixels"]["texture"].max() + 0.2
    ),
    h1=without["hue"].mean().item(),
    h2=with_jitter["hue"].mean().item(),
    t1=without["texture"].mean().item(),
    t2=with_jitter["texture"].mean().item(),
    t0=knn["raw pixels"]["texture"].mean().item(),
)

# %% [markdown] tags=["skip"]
# The two networks differ in nothing but the distortions of their pictures. Without jitter, colour
# is the easiest way to find the partner, so the network takes it and looks no further: a
# **shortcut**. With jitter, colour is useless, so it is thrown away, and the network must look at
# the pattern. Neither knew what we would ask. *The choice of augmentations is a statement about
# which differences do not matter*; if your task is to sort by colour, standard SimCLR is the
# wrong tool.
#
# The shape is hardly found by either: it covers few pixels, it is turned all round, and the
# background is an easier way to the partner. More training does find it (GPU cells below).

# %% [markdown] tags=["slide"]
# ### Before or after the head?

# %%
after_head = [factor_splits(m.project) for m in models["crop + colour"]]


def probe(run, factor, fraction=1.0, seed=0):
    """Test accuracy of a linear probe on a share of the labels; its decay chosen on validation."""
    train, validation, test = run[factor]
    return linear_probe(
        label_subset(train, fraction, seed), validation, test
    ).test_accuracy


rows = []
head = {}
for place, runs in (("before", kept["crop + colour"]), ("after", after_head)):
    head[place] = {
        f: torch.tensor([probe(run, f) for run in runs]) for f in FACTORS
    }
    rows.append(
        f"| {place} the head | "
        + " | ".join(
            f"{100 * head[place][f].mean():.1f} ±"
            f" {100 * head[place][f].std():.1f}"
            for f in FACTORS
        )
        + " |"
    )
say(
    "| linear probe, test accuracy (%) | "
    + " | ".join(FACTORS)
    + " |\n|---|---|---|---|\n"
    + "\n".join(rows)
)
claim(
    "Before the head more of the hue is left than after it: {a:.0%} against"
    " {b:.0%}.",
    bool(head["before"]["hue"].mean() > head["after"]["hue"].mean() + 0.02),
    a=head["before"]["hue"].mean().item(),
    b=head["after"]["hue"].mean().item(),
)

# %% [markdown] tags=["skip"]
# A linear probe digs deeper than neighbours do: it finds a remainder of the hue that hardly counts
# in the distances. The head removes some of it. So take the features from before the head.

# %% [markdown] tags=["slide"]
# ### Few labels
#
# Suppose that texture is what we are after, and that 1 %, 10 % or all of the 2,000 training
# pictures have a label. A linear probe on frozen features, against the same encoder trained from
# scratch on the labels, with mild crops and the same colour jitter. It sees 64 pictures of 24 ×
# 24 in each of 160 steps, so about as many pixels as pre-training did. Its rate is the better of
# two on validation, for the first seed and 10 % of the labels.

# %%
def supervised(seed, fraction, lr, factor="texture", steps=160):
    """Validation and test accuracy of an encoder that is trained on labels."""
    train, validation, test = data[factor]
    train = label_subset(train, fraction, seed)
    view = BatchViews(SIZE, scale=(0.6, 1.0), hue=0.5)
    encoder = untrained(seed)
    torch.manual_seed(
        seed
    )  # nn.Linear takes its start from the global generator
    net = nn.Sequential(encoder, nn.Linear(64, len(FACTORS[factor])))
    pretrain(
        net,
        lambda i, g: F.cross_entropy(net(view(train.x[i], g)), train.y[i]),
        len(train.y),
        steps=steps,
        batch_size=min(64, len(train.y)),
        lr=lr,
        seed=seed,
    )
    with torch.no_grad():
        return [
            (net(s.x).argmax(1) == s.y).double().mean().item()
            for s in (validation, test)
        ]


rates = {lr: supervised(SEEDS[0], 0.1, lr)[0] for lr in (0.01, 0.02)}
best_rate = max(rates, key=rates.get)
table = {
    name: torch.tensor(
        [
            [
                probe(runs[seed % len(runs)], "texture", fraction, seed)
                for seed in SEEDS
            ]
            for fraction in FRACTIONS
        ]
    )
    for name, runs in kept.items()
}
table["supervised, from scratch"] = torch.tensor(
    [
        [supervised(s, fraction, best_rate)[1] for s in SEEDS]
        for fraction in FRACTIONS
    ]
)

# %% tags=["hide-input"]
say(
    "| texture, test accuracy (%) | 1 % (20 labels) | 10 % (200) | 100 %"
    " (2,000) |\n|---|---|---|---|\n"
    + "\n".join(
        f"| {'SimCLR, ' + name if name in VIEWS else name} | "
        + " | ".join(
            f"{100 * runs.mean():.1f} ± {100 * runs.std():.1f}" for runs in row
        )
        + " |"
        for name, row in table.items()
    )
    + "\n\nMean ± standard deviation over 3 seeds (of the encoder and of the"
    " choice of labels)."
)


def vote(run, fraction, seed):
    """Test accuracy of a vote of the nearest labelled pictures, for texture."""
    train, _, test = run["texture"]
    few = label_subset(train, fraction, seed)
    return knn_accuracy(few, test, k=min(20, len(few.y) // 4))


voted = {
    name: [
        torch.tensor([vote(runs[s % len(runs)], fraction, s) for s in SEEDS])
        for fraction in FRACTIONS
    ]
    for name, runs in kept.items()
}
say(
    "The same by a vote of the nearest labelled pictures (5 of 20, else 20),"
    " with nothing fitted at all:\n\n| texture, k-NN (%) | 1 % (20 labels) |"
    " 10 % (200) | 100 % (2,000) |\n|---|---|---|---|\n"
    + "\n".join(
        f"| {'SimCLR, ' + name if name in VIEWS else name} | "
        + " | ".join(
            f"{100 * runs.mean():.1f} ± {100 * runs.std():.1f}" for runs in row
        )
        + " |"
        for name, row in voted.items()
    )
)
ours = table["crop + colour"].mean(1)
baseline = (
    torch.stack([table["raw pixels"], table["random encoder"]]).mean(2).amax(0)
)
scratch = table["supervised, from scratch"].mean(1)
claim(
    "SimCLR's frozen features (with colour jitter) beat raw pixels and random"
    " features at every number of labels: with 1 % of them {a:.0%} against"
    " {b:.0%} at best. With crops alone they are worse than random features."
    " Training on the labels is better still: {c:.0%} at 1 %, and {d:.0%} with"
    " all labels, where SimCLR has {e:.0%}.",
    bool(
        (ours > baseline + 0.05).all()
        and scratch.mean() > ours.mean()
        and (
            table["crop only"].mean(1) < table["random encoder"].mean(1)
        ).all()
    ),
    a=ours[0].item(),
    b=baseline[0].item(),
    c=scratch[0].item(),
    d=scratch[2].item(),
    e=ours[2].item(),
)

# %% [markdown] tags=["skip"]
# Two things to take home. Pre-training with augmentations that suit another question can be worse
# than none: crops alone taught the network to look at colour, and to forget the pattern that even
# random filters respond to. And self-supervision is no free lunch: the supervised network was
# *told* by its augmentations that colour and place do not matter, and trained all its weights.
# For a pattern that small filters can see, twenty labels and that advice go a long way. At this
# size SimCLR clearly beats features without training, but not training on the labels. An
# advantage must come from what it can use and labels can't: more unlabelled images, and more
# steps. That is for a GPU.

# %% [markdown] tags=["slide"]
# ## At scale
#
# The next cells use 20,000 pictures of 32 × 32 pixels and a wider encoder. The first repeats the
# experiment with every combination of augmentations, and compares with supervision for each factor.

# %% tags=["gpu", "hide-input"] name="augmentations"
device = torch.device("cuda")


def mean_std(values):
    return f"{100 * statistics.mean(values):5.1f} ± {100 * statistics.stdev(values):4.1f}"


def compare_at_scale(
    device,
    *,
    size=32,
    n=20000,
    labelled=4000,
    widths=(32, 64, 128, 256),
    steps=1500,
    batch_size=256,
    label_steps=300,
    seeds=(0, 1, 2),
):
    """Prints what each choice of augmentations keeps, and supervision beside it."""
    sets = {
        f: shapes(
            seed=1,
            n_train=n,
            n_validation=1000,
            n_test=2000,
            size=size,
            label=f,
            device=device,
        )
        for f in FACTORS
    }
    x = sets["hue"].train.x
    choices = {
        "crop + colour": BatchViews(size, scale=(0.2, 1.0), hue=0.5),
        "crop only": BatchViews(size, scale=(0.2, 1.0), **NO_COLOUR),
        "colour only": BatchViews(
            size, scale=(1.0, 1.0), ratio=(1.0, 1.0), hue=0.5
        ),
    }
    columns = "".join(f"{f'{f} {p}':>14}" for f in FACTORS for p in ("1%", "10%", "100%"))
    print(f"linear probe, test accuracy (%), {labelled} labels are 100%\n{'':14}{columns}")

    def show(name, results):  # results: one dict (factor, fraction) -> accuracy a seed
        cells = [mean_std([r[f, p] for r in results]) for f in FACTORS for p in FRACTIONS]
        print(f"{name:14}" + "".join(f"{cell:>14}" for cell in cells), flush=True)

    def probes(represent, seed):
        parts = [
            features(represent, Split(part.x[:labelled], part.y[:labelled]))
            for part in sets["hue"]
        ]
        out = {}
        for f in FACTORS:
            train, validation, test = (
                Split(part.x, whole.y[:labelled])
                for part, whole in zip(parts, sets[f], strict=True)
            )
            for p in FRACTIONS:
                few = label_subset(train, p, seed)
                out[f, p] = linear_probe(few, validation, test).test_accuracy
        return out

    show("raw pixels", [probes(pixels, seed) for seed in seeds])
    fresh = {
        s: ConvNet(3, widths, generator=torch.Generator().manual_seed(s)).to(device)
        for s in seeds
    }
    show("random", [probes(fresh[s], s) for s in seeds])
    begin = time.perf_counter()
    for name, view in choices.items():
        runs = [
            train_simclr(x, s, view, widths=widths, steps=steps, batch_size=batch_size)
            for s in seeds
        ]
        show(name, [probes(m.encoder, s) for m, s in zip(runs, seeds, strict=True)])
    taken = (time.perf_counter() - begin) / (len(choices) * len(seeds))
    results = []
    mild = BatchViews(size, scale=(0.6, 1.0), **NO_COLOUR)
    for s in seeds:
        out = {}
        for f in FACTORS:
            train, validation, test = (
                Split(part.x[:labelled], part.y[:labelled]) for part in sets[f]
            )
            for p in FRACTIONS:
                few = label_subset(train, p, s)
                scores = []
                for lr in (3e-3, 1e-2):
                    encoder = ConvNet(
                        3, widths, generator=torch.Generator().manual_seed(s)
                    )
                    torch.manual_seed(s)
                    net = nn.Sequential(
                        encoder, nn.Linear(widths[-1], len(FACTORS[f]))
                    ).to(device)
                    pretrain(
                        net,
                        lambda i, g: F.cross_entropy(net(mild(few.x[i], g)), few.y[i]),
                        len(few.y),
                        steps=label_steps,
                        batch_size=min(batch_size, len(few.y)),
                        lr=lr,
                        seed=s,
                    )
                    with torch.no_grad():
                        scores.append(
                            [
                                (net(q.x).argmax(1) == q.y).double().mean().item()
                                for q in (validation, test)
                            ]
                        )
                out[f, p] = max(scores)[1]
        results.append(out)
    show("supervised", results)
    print(f"{taken:.1f} s of pre-training and probing a run ({steps} steps of {batch_size})")


compare_at_scale(device)

# %% [markdown] tags=["skip"]
# Each row has three seeds. Read the columns of the *hue* and the *texture* as before: with crops and
# colour, 40 labels (1 %) are enough to tell the texture in 97 % of the cases, where the same network
# trained on these labels alone tells it in 50 %; and the hue is gone. The shape, which a network
# finds last, is told in 47 % of the cases with 400 labels, about as well as by supervision (43 %);
# with all 4,000 labels supervision is far ahead (94 % to 60 %).
#
# The second cell varies temperature and batch size at a fixed number of steps, and then gives the
# smallest batch as many *images* as the larger one had.

# %% tags=["gpu", "hide-input"] mystnb={"figure": {"caption": "SimCLR against temperature and batch size: k-NN accuracy for texture after 150 steps; one line a batch size.", "name": "fig-simclr-grid"}, "image": {"alt": "Lines of accuracy against temperature, one for each batch size from 64 to 4096. The lines of batch 512 and 4096 lie above that of 64, have their highest point at temperature 0.1, and all three fall at 2."}} name="temperature-and-batch"
device = torch.device("cuda")


def grid_at_scale(
    device,
    *,
    size=32,
    n=20000,
    widths=(32, 64, 128),
    steps=150,
    batches=(64, 512, 4096),
    temperatures=(0.02, 0.1, 0.5, 2.0),
    seeds=(0, 1, 2),
):
    """Prints k-NN accuracy (texture, validation) for each cell; returns them."""
    train, validation, _ = shapes(
        seed=2,
        n_train=n,
        n_validation=1000,
        n_test=1,
        size=size,
        label="texture",
        device=device,
    )
    bank = Split(train.x[:4000], train.y[:4000])
    view = BatchViews(size // 2, scale=(0.2, 0.5), hue=0.5)

    def score(seed, temperature, batch_size, steps):
        m = train_simclr(
            train.x,
            seed,
            view,
            widths=widths,
            temperature=temperature,
            steps=steps,
            batch_size=batch_size,
        )
        return knn_accuracy(features(m.encoder, bank), features(m.encoder, validation))

    print(f"texture, k-NN (%), after {steps} steps, {len(seeds)} seeds")
    print(f"{'batch':>6}" + "".join(f"{f'tau {t:g}':>14}" for t in temperatures))
    grid = {}
    for b in batches:
        for t in temperatures:
            grid[b, t] = [score(s, t, b, steps) for s in seeds]
        print(
            f"{b:6}" + "".join(f"{mean_std(grid[b, t]):>14}" for t in temperatures),
            flush=True,
        )
    small, middle = batches[:2]
    longer = [score(s, 0.1, small, steps * middle // small) for s in seeds]
    print(
        f"{small:6} at tau 0.1 with as many images as {middle} ({steps * middle // small} steps): "
        f"{mean_std(longer)}"
    )
    return grid


grid = grid_at_scale(device)
fig, ax = plt.subplots(figsize=(6, 2.8))
for b in sorted({b for b, _ in grid}):
    points = [(t, [100 * v for v in grid[b, t]]) for t in sorted({t for _, t in grid})]
    ax.errorbar(
        [t for t, _ in points],
        [statistics.mean(v) for _, v in points],
        [statistics.stdev(v) for _, v in points],
        fmt="o-",
        capsize=3,
        label=f"batch {b}",
    )
ax.set(xlabel="temperature", ylabel="k-NN accuracy (%)", xscale="log")
ax.legend()
plt.show()

# %% [markdown] tags=["skip"]
# At a fixed number of steps a large batch has seen more images, and that explains all of its lead
# here: with as many images as 512, the batch of 64 does better than it (last line). The paper reports
# the same tendency: the gap between batch sizes closes with longer training. With large batches the
# best temperature lies in between, and too high a one costs most; a batch of 64 does not tell 0.02,
# 0.1 and 0.5 apart.
#
# **On many devices** a batch of 4,096 is cut into pieces. If each rank computes the loss on its own
# piece, an anchor has the negatives of one device only: another, easier question. So the embeddings
# are gathered first, and the gradient must find its way back through the gathering, which
# `torch.distributed.all_gather` alone does not provide. `SimCLR.forward` does it whenever a process
# group is open:

# %% tags=["skip"]
from dlcourse.self_supervised_learning.contrastive.nt_xent import _AllGather

show_source(_AllGather)

# %% [markdown] tags=["skip"]
# Every rank then computes the same loss; the sum over ranks in `backward`, and DDP's mean over
# ranks, cancel. A test runs two processes and finds the gradients of one process with the whole
# batch. The matrix of similarities is no obstacle:

# %% tags=["skip"]
b, dim = 4096, 128
say(
    "at {b:,} images, {n:,} × {n:,} logits in float32 are {mb:.0f} MB, and"
    " gathering {dim} numbers for each view moves {kb:.1f} MB.",
    b=b,
    n=2 * b,
    mb=(2 * b) ** 2 * 4 / 2**20,
    dim=dim,
    kb=2 * b * dim * 4 / 2**20,
)

# %% [markdown] tags=["skip"]
# ## Limits
#
# - Painted pictures with three independent factors are made to show a principle. In photographs the
#   factors are tied together, and nobody has their list.
# - 120 steps of a small network on a CPU. The paper trains a ResNet-50 for hundreds of epochs, and
#   gains come late. Our shapes show it: they are the last thing that is found.
# - Every other image counts as a negative, also those of the same kind. With few classes these
#   false negatives are many; SupCon {cite:p}`khosla2020supcon` needs labels to mend it (see the
#   exercises), debiased losses correct for it on average.
# - Large batches cost memory. Methods without negatives (section 120.1b) do well with small ones.
# - At work: `lightly` or `solo-learn` have these losses with data pipelines around them; for
#   features of photographs, start from a published checkpoint (DINOv2, section 120.1b) before
#   training your own.

# %% [markdown] tags=["skip"]
# ## Exercises
#
# Each has a cell for your answer and a check that tells what is wrong with it; ask it again for the
# next hint. Until you change a cell, the notebook runs past it.

# %% [markdown] tags=["skip"]
# {{exercise 120.1a.predict-collapse}}

# %% [markdown] tags=["skip"]
# {{exercise 120.1a.predict-hardness}}

# %% [markdown] tags=["skip"]
# {{exercise 120.1a.contrastive-loss}}

# %% [markdown] tags=["skip"]
# {{exercise 120.1a.align-and-spread}}

# %% [markdown] tags=["skip"]
# {{exercise 120.1a.supervised-contrast}}

# %% [markdown] tags=["skip"]
# ## Quiz

# %% [markdown] tags=["skip"]
# {{quiz 120.1a}}

# %% [markdown] tags=["slide"]
# ## Summary
#
# - Two views of one image are a pair that nobody had to label; NT-Xent asks for the partner among
#   $2B - 1$ candidates.
# - Negatives prevent collapse: a constant encoder has the loss of guessing, $\log(2B-1)$.
# - The temperature decides how much the nearest negatives count, false ones among them.
# - What the augmentations change is thrown away, and what they leave may serve as a shortcut.
# - Keep the features before the head; compute similarities in float32; gather over all ranks.
#
# References: each citation above leads to its source; the
# {doc}`bibliography </book/bibliography>` lists them all.
