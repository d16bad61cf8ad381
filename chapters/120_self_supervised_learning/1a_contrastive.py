# %% [markdown] tags=["slide"]
# (sec-120-1a)=
# # 120.1a Contrastive learning: SimCLR
#
# A network can learn to see without labels, by recognising which two of many distorted pictures
# came from the same one. At the end of this section you can write its loss and say what each part
# of it does, test an implementation, foresee from the augmentations what a network will make easy
# to read, and tell a collapsed run from a good one.
#
# You need: Python, PyTorch, cross-entropy, convolutions; no GPU.

# %% tags=["definitions", "hide-input", "skip"]
import math
import statistics

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F

from dlcourse.datasets import HUES, SHAPES, TEXTURES, shapes
from dlcourse.notebook import (
    claim,
    explore,
    keep,
    recorded,
    say,
    show_source,
)
from dlcourse.self_supervised_learning import (
    BatchViews,
    SimCLR,
    alignment,
    knn_accuracy,
    logistic_probe,
    nt_xent,
    nt_xent_reference,
    pretrain,
    uniformity,
)
from dlcourse.self_supervised_learning.experiments.benchmark import PARTS, combined
from dlcourse.self_supervised_learning.experiments.benchmark_readings import (
    effective_rank,
)
from dlcourse.self_supervised_learning.experiments.simclr_runs import (
    factor_splits,
    new_encoder,
    temperature_and_batch,
    train_simclr,
    two_views,
    what_is_kept,
)

plt.style.use("dlcourse.notebook.course")
COLOR = {"hue": "tab:orange", "texture": "tab:blue", "shape": "tab:green"}
FACTORS = {"shape": SHAPES, "hue": HUES, "texture": TEXTURES}
GUESS = {factor: 1 / len(names) for factor, names in FACTORS.items()}
NO_COLOUR = {"jitter_probability": 0.0, "grayscale": 0.0}
SEEDS = (0, 1, 2)
VIEWS = {
    "crop + colour": BatchViews(14, scale=(0.25, 1.0), hue=0.5),
    "crop only": BatchViews(14, scale=(0.25, 1.0), **NO_COLOUR),
}


def painted():
    """The page's pictures, once for each factor as the label."""
    sizes = {"n_train": 2000, "n_validation": 500, "n_test": 1000, "size": 24}
    return {factor: shapes(seed=0, label=factor, **sizes) for factor in FACTORS}


def partners_found(represent, view, x):
    """How often the nearest of the other views of pictures x is the partner, by the cosine."""
    n = len(x)
    pairs = torch.cat(two_views(x, view, torch.Generator().manual_seed(1)))
    with torch.no_grad():
        z = F.normalize(represent(pairs), dim=1)
    nearest = (z @ z.T - 2 * torch.eye(2 * n)).argmax(1)
    return (nearest == torch.arange(2 * n).roll(n)).double().mean().item()


def probe(run, factor):
    """Test accuracy of a logistic probe on all labels; its decay chosen on validation."""
    return logistic_probe(*run[factor], decays=(1e-4, 1e-2, 1.0)).test_accuracy


def percent(values):
    """Mean ± standard deviation over seeds, in per cent."""
    values = [100 * float(v) for v in values]
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


# %% [markdown] tags=["slide"]
# ## A question
#
# Here are painted pictures: a shape of some colour on a patterned background. Nobody tells us what
# is on them. We distort each picture twice, at random: cut out a part, turn it over, change the
# colours. The two results are **views** of one picture. Given one view, can you find its partner
# among the views of many other pictures?

# %% tags=["hide-input", "skip"]
data = painted()  # the same pictures, three labels
images = data["hue"].train.x  # (2000, 3, 24, 24)
unseen = data["hue"].validation.x[:128]
g = torch.Generator().manual_seed(0)
view1, view2 = two_views(images[:8], VIEWS["crop + colour"], g)

# %% mystnb={"figure": {"caption": "Eight pictures (top), and two random views of each. The partner of a view stands below it. Colours and cut differ; the pattern of the background and parts of the shape are the same.", "name": "fig-contrastive-views"}, "image": {"alt": "Three rows of eight small pictures. Top row: coloured shapes such as a star or a ring on striped, chequered or plain backgrounds. The rows below show cut-outs of them in other colours."}} tags=["hide-input", "plot"]
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

# %% tags=["hide-input", "check"]
by_pixels = partners_found(lambda x: x.flatten(1), VIEWS["crop + colour"], unseen)
say(
    "Compared pixel by pixel, the nearest of 255 other views is the partner"
    " for {a:.0%} of the views. Guessing would give {b:.1%}. What would a"
    " network have to know to do better?",
    a=by_pixels,
    b=1 / 255,
)

# %% [markdown] tags=["skip"]
# It would have to see through the distortions: know that a pattern cut elsewhere is still the same
# pattern, and that a colour says nothing. Nobody has labelled anything, yet there is a right answer
# to every question, because we made the pairs ourselves.
#
# The rest of this section is about what that costs. **What the distortions change helps nobody to
# find the partner, so the network has no reason to make it easy to read.**

# %% [markdown] tags=["skip"]
# :::{diagram} figures/1a_contrastive.svg
# ---
# name: fig-simclr
# alt: Flow from left to right. Each of B pictures gives two views by random crops, flips and
#   colours. Both views pass one encoder f, which gives features h, and one head g, which gives
#   embeddings z. The two embeddings of a picture are pulled together, and pushed from the 2B minus
#   2 views of the other pictures. The features h, from before the head, are what is kept.
# ---
# SimCLR. Two views of a picture pass the same encoder and head. The loss pulls their embeddings
# together and pushes them from those of the other pictures; the features before the head are kept.
# :::

# %% [markdown] tags=["slide"]
# ## The idea
#
# ### A classification whose classes are the batch
#
# Take $B$ images and two views of each. An encoder $f$ turns a view into features $h = f(x)$, a
# small head into an embedding $z = g(h)$. Stack the $2B$ embeddings, and let
# $s_{ik} = z_i^\top z_k / (\lVert z_i\rVert \lVert z_k\rVert)$ be the cosine of the angle between
# two of them. For an anchor $i$ with partner $j$, the loss is a cross-entropy: which of the
# $2B - 1$ others is the partner?
#
# $$
# \ell_{i} = -\log \frac{\exp(s_{ij}/\tau)}{\sum_{k \neq i} \exp(s_{ik}/\tau)}, \qquad
# \mathcal L = \frac{1}{2B} \sum_{i=1}^{2B} \ell_{i} .
# $$ (eq-nt-xent)
#
# This is NT-Xent, the *normalised temperature-scaled cross-entropy* of SimCLR
# {cite:p}`chen2020simclr`. With one direction and other ways to get negatives it is known as
# InfoNCE {cite:p}`oord2018cpc`; a classification with one class for each image was the start of it
# {cite:p}`wu2018instance`. The partner is the **positive**; the $2B - 2$ views of other images are
# the **negatives**. No image is labelled: all others in the batch serve.
#
# Two values help to read a loss curve. An encoder that gives all images the same embedding has the
# loss $\log(2B-1)$, that of guessing. The least possible loss has partners in one place and the
# images as far from each other as they can be, all pairs alike; it is
# $\log\bigl(1 + (2B-2)\, e^{-B/((B-1)\tau)}\bigr)$, if $z$ has at least $B - 1$ coordinates. For
# $B = 128$ and $\tau = 0.2$ these are 5.54 and 0.97.
#
# InfoNCE is also a lower bound on the mutual information $I$ between the views of an image,
# $I \ge \log N - \mathcal L$ with $N$ candidates {cite:p}`oord2018cpc`. But the bound can't exceed
# $\log N$, and a tighter bound may give worse features {cite:p}`tschannen2020mutual`. It is safer to
# think of the loss as a classification.

# %% [markdown] tags=["skip"]
# {{exercise 120.1a.predict-collapse}}

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
# The partner is pulled as hard as all negatives together are pushed, and the softmax decides which
# negative gets how much of the push. The temperature acts through that softmax
# {cite:p}`wang2021behaviour`: at a high $\tau$ all negatives are pushed alike, at a low one only the
# nearest. To see it, we train a small encoder with this loss, with crops and colour jitter, from
# three seeds.

# %%
show_source(train_simclr)

models = [train_simclr(images, seed, VIEWS["crop + colour"]) for seed in SEEDS]

# %% [markdown] tags=["skip"]
# The same with crops alone, and everything else equal, takes as long again; so it was recorded, with
# what is read from these encoders further below.

# %% tags=["long", "hide-input"] name="crops-alone"
data = painted()
unseen = data["hue"].validation.x[:128]
crop_models = [train_simclr(data["hue"].train.x, s, VIEWS["crop only"]) for s in SEEDS]
runs = [factor_splits(m.encoder, data) for m in crop_models]
keep(
    partners={
        view: [partners_found(m.project, VIEWS[view], unseen) for m in crop_models]
        for view in VIEWS
    },
    knn={f: [knn_accuracy(run[f][0], run[f][2]) for run in runs] for f in FACTORS},
    probe={f: [probe(run, f) for run in runs] for f in ("hue", "texture")},
    rank=[effective_rank(run["hue"][2].x) for run in runs],
)

# %% [markdown] tags=["skip"]
# Does the trained encoder find more partners? Three rivals are trained on nothing: the untrained
# encoder; a histogram of colours; and the magnitudes of the gray picture's Fourier transform, which
# tell a pattern apart wherever it lies.

# %% tags=["hide-input", "check"]
def pixels(x):
    return x.flatten(1)


def histogram(x):
    """Square root of the share of pixels in each of 64 colours: (B, 3, H, W) → (B, 64)."""
    level = (4 * x).long().clamp(max=3)
    colour = 16 * level[:, 0] + 4 * level[:, 1] + level[:, 2]
    return F.one_hot(colour, 64).double().mean((1, 2)).sqrt()


def fourier(x):
    gray = x.mean(1)
    gray = gray - gray.mean((1, 2), keepdim=True)
    return torch.fft.rfft2(gray).abs().flatten(1)


RIVALS = {
    "pixels": [pixels],
    "histogram of colours": [histogram],
    "Fourier magnitudes": [fourier],
    "encoder, untrained": [new_encoder(seed).eval() for seed in SEEDS],
}
crops_alone = recorded("120.1a.crops-alone")
partners = {
    view: {
        name: [partners_found(f, VIEWS[view], unseen) for f in functions]
        for name, functions in RIVALS.items()
    }
    for view in VIEWS
}
SIMCLR = "SimCLR with these views, 120 steps"
partners["crop only"][SIMCLR] = crops_alone["partners"]["crop only"]
partners["crop + colour"][SIMCLR] = [
    partners_found(m.project, VIEWS["crop + colour"], unseen) for m in models
]
say(
    "| partners found (%, mean of 3 seeds) | "
    + " | ".join(VIEWS)
    + " |\n|---|---|---|\n"
    + "\n".join(
        f"| {name} | "
        + " | ".join(f"{100 * statistics.mean(partners[v][name]):.0f}" for v in VIEWS)
        + " |"
        for name in partners["crop only"]
    )
)
jittered = partners["crop + colour"]
*_, by_simclr = jittered.values()
claim(
    "With crops and colour jitter, 120 steps raise the share from {start:.0%} to"
    " {a:.0%} (3 seeds: {low:.0%} to {high:.0%}), among pictures never seen"
    " before. That is more than from colours, and still less than from Fourier"
    " magnitudes ({f:.0%}).",
    min(by_simclr)
    > max(max(jittered[n]) for n in RIVALS if n != "Fourier magnitudes")
    and max(by_simclr) < jittered["Fourier magnitudes"][0],
    start=statistics.mean(jittered["encoder, untrained"]),
    a=statistics.mean(by_simclr),
    low=min(by_simclr),
    high=max(by_simclr),
    f=jittered["Fourier magnitudes"][0],
)

# %% [markdown] tags=["skip"]
# Do more steps help? The next cell takes most of a minute, so it was recorded: 400 steps, three
# seeds. (It also trains with a milder colour jitter, which is needed further below.)

# %% tags=["long", "hide-input"] name="longer-and-milder"
data = painted()
x, strong = data["hue"].train.x, VIEWS["crop + colour"]
longer = [train_simclr(x, seed, strong, steps=400).project for seed in SEEDS]
mild = BatchViews(14, scale=(0.25, 1.0), hue=0.2)
milder = [factor_splits(train_simclr(x, seed, mild).encoder, data) for seed in SEEDS]
keep(
    partners=[
        partners_found(project, strong, data["hue"].validation.x[:128])
        for project in longer
    ],
    knn={f: [knn_accuracy(run[f][0], run[f][2]) for run in milder] for f in FACTORS},
    probe=[probe(run, "hue") for run in milder],
)

# %% tags=["hide-input", "check"]
further = recorded("120.1a.longer-and-milder")
claim(
    "After 400 steps SimCLR finds {a:.0%} of the partners (3 seeds: {low:.0%} to"
    " {high:.0%}), the Fourier magnitudes {f:.0%}.",
    min(further["partners"]) > jittered["Fourier magnitudes"][0] + 0.05,
    f=jittered["Fourier magnitudes"][0],
    a=statistics.mean(further["partners"]),
    low=min(further["partners"]),
    high=max(further["partners"]),
)

# %% tags=["hide-input", "plot"]
with torch.no_grad():
    validation = data["texture"].validation
    pairs = torch.cat(two_views(validation.x[:64], VIEWS["crop + colour"], g))
    z = F.normalize(
        models[0].project(pairs), dim=1
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

# %% tags=["hide-input", "check"]
def same_texture(similarity, nearest):
    """Share of each anchor's nearest negatives that have its texture; mean over the 128 anchors."""
    negative = ~torch.eye(64, dtype=torch.bool).repeat(2, 2)  # neither the anchor nor its partner
    order = similarity.where(negative, -math.inf).topk(nearest).indices
    return (textures[order] == textures[:, None]).double().mean().item()


with torch.no_grad():
    before = F.normalize(new_encoder(0).eval()(pairs), dim=1)
alike = same_texture(SIMILARITY, SHOWN)
claim(
    "Of the {n} nearest negatives, {a:.0%} have the anchor's texture (mean"
    " over 128 anchors, one seed); of all negatives {b:.0%} do, and of the"
    " {n} nearest by the untrained encoder's features {c:.0%}.",
    alike > 0.35 and alike > same_texture(before @ before.T, SHOWN) + 0.03,
    n=SHOWN,
    a=alike,
    b=same_texture(SIMILARITY, 126),
    c=same_texture(before @ before.T, SHOWN),
)

# %% [markdown] tags=["skip"]
# So among the pictures under the first bars there are more **false negatives** than elsewhere:
# images of the anchor's own kind that happen to be in the batch. A low temperature pushes these
# hardest. A high one spares them, but hardly pushes the negatives that are truly hard. Which value
# is best depends on the training: it is measured below, for three sizes of the batch. Where labels
# are known, all images of a class can be partners {cite:p}`khosla2020supcon`; that is the last
# exercise.

# %% [markdown] tags=["skip"]
# {{exercise 120.1a.predict-hardness}}

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
# easy: scatter at random. To have both, the network must tell what belongs together. Here are three
# networks trained for alignment alone, with the same encoder and views, for 20 steps.

# %% tags=["hide-input"]
def train_for_agreement(x, seed, view, steps=20):
    """As train_simclr, but partners are only pulled together."""
    generator = torch.Generator().manual_seed(seed)
    model = SimCLR(new_encoder(seed), 64, generator=generator)

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
agreeing = [train_for_agreement(images, seed, view) for seed in SEEDS]
collapsed = torch.tensor([on_the_sphere(m, view) for m in agreeing])
contrasted = torch.tensor(
    [on_the_sphere(m, view) for m in models]
)
claim(
    "Trained for agreement alone, 3 seeds: alignment {a:.3f}, near the perfect"
    " 0, and uniformity {u:.3f}, also near 0: all pictures lie almost in one"
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
# This is **collapse**. Negatives are one remedy; section 120.1b shows others that need none (a
# teacher, centring, sharpening). Section 120.1c avoids the question: its target is the picture
# itself, which can't collapse.

# %% [markdown] tags=["skip"]
# {{exercise 120.1a.align-and-spread}}

# %% [markdown] tags=["slide"]
# ## The loss, readable
#
# {eq}`eq-nt-xent` as a double loop:

# %%
show_source(nt_xent_reference)

# %% [markdown] tags=["slide"]
# And as one cross-entropy. The diagonal is set to $-\infty$, so that no view is its own candidate;
# the class of view $i$ is $i + B$, modulo $2B$.

# %%
show_source(nt_xent)

# %% [markdown] tags=["skip"]
# Are they the same, and right? The third form below shares no line with the package.

# %% tags=["hide-input", "check", "skip"]
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
# {eq}`eq-contrastive-gradient` to what autograd computes. Now write it yourself:

# %% [markdown] tags=["skip"]
# {{exercise 120.1a.contrastive-loss}}

# %% [markdown] tags=["slide"]
# The model is short. `represent` gives what one keeps, `project` what the loss compares:

# %%
show_source(SimCLR.project)
show_source(SimCLR.forward)

# %% [markdown] tags=["skip"]
# ### Details that decide
#
# 1. **Normalise.** Without the division by lengths, the network can make the softmax sharp by
#    making vectors long, and the temperature means nothing {cite:p}`chen2020simclr`.
# 2. **Leave the diagonal out by $-\infty$**, not by 0: $e^0 = 1$ would stay in the sum as one
#    more negative.
# 3. **Both directions.** Each of the $2B$ views is an anchor once, and the views of both kinds
#    are negatives (algorithm 1 of the paper).
# 4. **One forward pass for both views**, so that BatchNorm has one mean for both, and does not tell
#    first views from second ones. On several GPUs the statistics of each can give the partner away:
#    it was normalised together with the anchor, most negatives were not. The paper computes the
#    statistics over all devices; MoCo shuffles the images between devices {cite:p}`he2020moco`. In
#    DDP, use `nn.SyncBatchNorm.convert_sync_batchnorm`.
# 5. **Float32 for the similarities.** Under autocast the product $z z^\top$ would be computed in
#    half precision. `nt_xent` steps out of it.
# 6. **A head whose output is not kept.** The loss wants embeddings that no augmentation changes. A
#    head of two layers can do that last step, so that the features before it may hold more. The
#    paper found them more than 10 points better than those after it.
# 7. **Crops and colours together.** Two crops of one picture have nearly the same colours, so
#    that without colour jitter a histogram is enough to find most partners, as in the table above.
# 8. **Large batches, or a queue.** More negatives make a harder question. SimCLR was trained with
#    4,096 images a batch. MoCo {cite:p}`he2020moco` keeps a queue of 65,536 embeddings of earlier
#    batches as negatives, so the batch can be small. These embeddings come from many steps and must
#    fit together, so a second encoder makes them: a moving average of the first, which changes
#    slowly.

# %% tags=["hide-input", "check", "skip"]
def loss_of(z, dtype):
    """NT-Xent at τ = 0.05, with the similarities of embeddings z (2B, D) computed in a dtype."""
    logits = (z.to(dtype) @ z.to(dtype).T).float() / 0.05
    logits = logits.masked_fill(torch.eye(len(z), dtype=torch.bool), -math.inf)
    return F.cross_entropy(logits, torch.arange(len(z)).roll(len(z) // 2))


u = F.normalize(models[0].project(pairs).detach(), dim=1)
slope = {}
for dtype in (torch.float32, torch.bfloat16):
    z = u.clone().requires_grad_()
    loss_of(z, dtype).backward()
    slope[dtype] = z.grad
off = slope[torch.bfloat16] - slope[torch.float32]
say(
    "Detail 5, measured on the trained encoder: in bfloat16 the similarities of"
    " 128 views are off by up to {error:.4f}, which at τ = 0.05 is {logit:.2f}"
    " in a logit, and the gradient by {share:.1%} of its length. Small, but free"
    " to avoid.",
    error=(u.bfloat16() @ u.bfloat16().T - u @ u.T).abs().max().item(),
    logit=(u.bfloat16() @ u.bfloat16().T - u @ u.T).abs().max().item() / 0.05,
    share=(off.norm() / slope[torch.float32].norm()).item(),
)

# %% [markdown] tags=["slide"]
# ## The experiment: augmentations decide what is easy to read
#
# **Task.** The pictures have three known factors: shape (8 kinds), hue (6) and the background's
# texture (4), all independent of each other. **Contestants.** The six encoders from above, three of them recorded: SimCLR
# with crops and colour jitter, and SimCLR with crops alone. Beside them the pixels, and the encoder
# as it was before training. The jitter turns the hue by up to half the circle, so that a hue tells
# nothing about the partner's. **Measure.** A vote of the 20 nearest training images, once for each
# factor, on the test split. Nothing is chosen, so no split is needed for choices.

# %% tags=["hide-input"]
kept = {
    "pixels": [factor_splits(pixels, data)],
    "random encoder": [factor_splits(new_encoder(s), data) for s in SEEDS],
    "crop + colour": [
        factor_splits(m.encoder, data) for m in models
    ],
}
knn = {
    name: {
        f: torch.tensor([knn_accuracy(run[f][0], run[f][2]) for run in runs])
        for f in FACTORS
    }
    for name, runs in kept.items()
}
knn["crop only"] = {f: torch.tensor(v) for f, v in crops_alone["knn"].items()}
knn["crop + colour"] = knn.pop("crop + colour")  # the last column of the figure

# %% mystnb={"figure": {"caption": "Which factor the neighbours in feature space agree on: k-NN accuracy on the test split, mean and range of 3 seeds. Dotted: guessing. With crops alone, neighbours have the same hue, as they had before training. With colour jitter they have the same texture, and the hue counts for little.", "name": "fig-what-is-kept"}, "image": {"alt": "Grouped bars for pixels, a random encoder, SimCLR with crops only, and SimCLR with crops and colour jitter. Hue is high for the first three and low for the last; texture is highest for the last, and for SimCLR with crops only lower than for the random encoder; shape is low everywhere."}} tags=["hide-input", "plot"]
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
    guess = [100 * GUESS[f]] * len(place)
    ax.hlines(guess, place - 0.125, place + 0.125, color="black", ls=":")
ax.set(
    xticks=range(len(knn)),
    xticklabels=[n if n not in VIEWS else f"SimCLR,\n{n}" for n in knn],
    ylabel="k-NN accuracy (%)",
    ylim=(0, 100),
)
ax.legend(ncols=3, loc="upper center")
plt.show()

# %% tags=["hide-input", "check"]
after_head = [factor_splits(m.project, data) for m in models]
probed = {
    place: {f: torch.tensor([probe(run, f) for run in runs]) for f in ("hue", "texture")}
    for place, runs in (
        ("untrained", kept["random encoder"]),
        ("before", kept["crop + colour"]),
        ("after", after_head),
    )
}
probed["crop only"] = {f: torch.tensor(v) for f, v in crops_alone["probe"].items()}
start = knn["random encoder"]
without, with_jitter = knn["crop only"], knn["crop + colour"]
claim(
    "Among neighbours of the untrained encoder's features {h0:.0%} of the hues"
    " and {t0:.0%} of the textures are named right (guessing: 17 and 25 %)."
    " Training with colour jitter brings the hue down to {h2:.0%} and the"
    " texture up to {t2:.0%}. Training with crops alone leaves the hue at"
    " {h1:.0%} and brings the texture down to {t1:.0%}. Every seed shows it.",
    bool(
        with_jitter["hue"].max() < min(without["hue"].min(), start["hue"].min()) - 0.1
        and with_jitter["texture"].min() > start["texture"].max() + 0.1
        and without["texture"].max() < start["texture"].min() - 0.05
    ),
    h0=start["hue"].mean().item(),
    t0=start["texture"].mean().item(),
    h1=without["hue"].mean().item(),
    h2=with_jitter["hue"].mean().item(),
    t1=without["texture"].mean().item(),
    t2=with_jitter["texture"].mean().item(),
)
claim(
    "The hue has not left the features altogether: with all 2,000 labels a"
    " logistic probe reads it in {p:.0%} of the pictures after training with"
    " jitter. Before training it was {p0:.0%}.",
    bool(
        probed["before"]["hue"].min() > with_jitter["hue"].max() + 0.05
        and probed["before"]["hue"].max() < probed["untrained"]["hue"].min()
    ),
    p=probed["before"]["hue"].mean().item(),
    p0=probed["untrained"]["hue"].mean().item(),
)

# %% tags=["hide-input", "check"]
crops = partners["crop only"]
*_, by_crops = crops.values()
in_colour = crops_alone["partners"]["crop + colour"]
claim(
    "The networks trained with crops alone find {a:.0%} of the partners among"
    " crops, about as many as a histogram of colours, which knows no patterns"
    " ({b:.0%}). Where the colours change they find {c:.0%}, and pixels"
    " {d:.0%}.",
    abs(statistics.mean(by_crops) - crops["histogram of colours"][0]) < 0.05
    and max(in_colour) < 0.1,
    a=statistics.mean(by_crops),
    b=crops["histogram of colours"][0],
    c=statistics.mean(in_colour),
    d=jittered["pixels"][0],
)

# %% [markdown] tags=["skip"]
# The two kinds of network differ in nothing but the distortions of their pictures. Without jitter,
# colour is enough to find the partner, and the network relies on it: a **shortcut**. With jitter
# colour does not help, so distances come to depend on the pattern. Neither network knew what we
# would ask. *The choice of augmentations is a statement about which differences should count for
# little.* How strong they are matters as well as their kind. SimCLR's own jitter turns the hue by a
# fifth of the circle (a tenth for small pictures), not by half of it:

# %% tags=["hide-input", "check"]
fifth = further["knn"]
claim(
    "With a fifth (recorded above), {h:.0%} of the hues and {t:.0%} of the"
    " textures are named right by neighbours, and the probe reads {p:.0%} of"
    " the hues, about as many as before training ({p0:.0%}).",
    min(fifth["hue"]) > with_jitter["hue"].max().item() + 0.1
    and abs(
        statistics.mean(further["probe"]) - probed["untrained"]["hue"].mean().item()
    )
    < 0.05,
    h=statistics.mean(fifth["hue"]),
    t=statistics.mean(fifth["texture"]),
    p=statistics.mean(further["probe"]),
    p0=probed["untrained"]["hue"].mean().item(),
)

# %% [markdown] tags=["skip"]
# So two questions must be kept apart: what counts in distances, and what can be read. A probe with
# many labels finds what hardly moves a neighbour.

# %% [markdown] tags=["slide"]
# ### Before or after the head?
#
# The head removes part of the colour that is left:

# %% tags=["hide-input", "check"]
PLACES = {
    "untrained": "untrained encoder",
    "crop only": "crops alone, before the head",
    "before": "crops and colour, before the head",
    "after": "crops and colour, after the head",
}
rank = {
    place: [effective_rank(run["hue"][2].x) for run in runs]
    for place, runs in (
        ("untrained", kept["random encoder"]),
        ("before", kept["crop + colour"]),
        ("after", after_head),
    )
}
rank["crop only"] = crops_alone["rank"]
say(
    "| logistic probe, all labels, test accuracy (%) | hue | texture"
    " | effective rank, of 64 |\n|---|---|---|---|\n"
    + "\n".join(
        f"| {PLACES[place]} | "
        + " | ".join(percent(probed[place][f]) for f in probed[place])
        + f" | {statistics.mean(rank[place]):.1f} |"
        for place in PLACES
    )
    + "\n\nMean ± standard deviation over 3 seeds."
)
claim(
    "The probe reads the hue in {a:.0%} of the pictures before the head, in"
    " {b:.0%} after it; each of the 3 seeds has more before it.",
    bool((probed["before"]["hue"] > probed["after"]["hue"]).all()),
    a=probed["before"]["hue"].mean().item(),
    b=probed["after"]["hue"].mean().item(),
)

# %% [markdown] tags=["slide"]
# ### Collapse by dimensions
#
# Collapse need not be to one point. Embeddings may also lie in few of the directions that they
# could use, which is called **dimensional collapse** {cite:p}`jing2022dimensional`. It shows in the
# spectrum: the variance of the embeddings along each of their principal axes. The *effective rank*
# in the table above is the exponential of the entropy of that spectrum: 64 if all directions vary
# alike, 1 if the points lie on a line. (RankMe {cite:p}`garrido2023rankme` takes the same of the
# singular values, which are the square roots of the variances, so its numbers are larger.)

# %% mystnb={"figure": {"caption": "Share of the variance along each principal axis, 1,000 test pictures, first seed. Where a line falls off, the remaining directions are not used: after the head earlier than before it, and earliest for a network trained for agreement alone.", "name": "fig-spectrum"}, "image": {"alt": "Falling lines on a logarithmic axis against the number of the principal axis. The line of the network trained for agreement alone falls off near axis 20, that of SimCLR after the head near 50; SimCLR before the head and the random encoder reach the 64th."}} tags=["hide-input", "plot"]
def spectrum(x):
    """Variance along each principal axis, over the whole: descending, (D,)."""
    variance = torch.linalg.svdvals((x - x.mean(0)).double()).square()
    return variance / variance.sum()


fig, ax = plt.subplots(figsize=(7, 2.8))
for name, x, style in (
    ("random encoder", kept["random encoder"][0]["hue"][2].x, ":"),
    ("SimCLR, before the head", kept["crop + colour"][0]["hue"][2].x, "-"),
    ("SimCLR, after the head", after_head[0]["hue"][2].x, "--"),
    (
        "agreement alone, after the head",
        factor_splits(agreeing[0].project, data)["hue"][2].x,
        "-.",
    ),
):
    ax.plot(range(1, 65), spectrum(x).clamp_min(1e-9), style, label=name)
ax.set(
    xlabel="principal axis",
    ylabel="share of the variance",
    yscale="log",
    ylim=(1e-7, 1.2),
)
ax.legend(fontsize=8)
plt.show()

# %% tags=["hide-input", "check"]
textures_read = {place: probed[place]["texture"].mean().item() for place in PLACES}
claim(
    "A rank is no grade. The largest, {a:.1f}, belongs to crops alone, where the"
    " probe reads the fewest textures ({b:.0%}). The untrained encoder has"
    " {c:.1f}, and after the head it is {d:.1f}, where {e:.0%} of the textures"
    " are read.",
    min(rank["crop only"]) > max(max(rank[p]) for p in PLACES if p != "crop only")
    and min(textures_read, key=textures_read.get) == "crop only",
    a=statistics.mean(rank["crop only"]),
    b=textures_read["crop only"],
    c=statistics.mean(rank["untrained"]),
    d=statistics.mean(rank["after"]),
    e=textures_read["after"],
)

# %% [markdown] tags=["slide"]
# ## More pictures, more steps, fewer labels
#
# The page's own trainings take seconds each. The next cell takes minutes, so it was recorded:
# 10,000 pictures and 400 steps, the same small encoder, and a third choice of views, colour jitter
# without crops. The readings are given 1 %, 10 % and all of 2,000 labels. The decay of the logistic
# probe is chosen on as many labels again: "20 labels" means 20 to fit and 20 to choose.

# %% tags=["long", "hide-input"] name="augmentations"
CHOICES = {
    "crop + colour": VIEWS["crop + colour"],
    "crop only": VIEWS["crop only"],
    "colour only": BatchViews(24, scale=(1.0, 1.0), ratio=(1.0, 1.0), hue=0.5),
}
keep(table=what_is_kept(CHOICES))

# %% tags=["hide-input", "check"]
long = recorded("120.1a.augmentations")["table"]
ROWS = {
    "pixels": "pixels",
    "random encoder": "random encoder",
    "crop + colour": "SimCLR, crop + colour",
    "crop only": "SimCLR, crop only",
    "colour only": "SimCLR, colour only",
}


def reading_table(reading):
    """Markdown: one row a contestant, one column a factor and share of the labels."""
    head = [f"{f} {p} %" for f in FACTORS for p in ("1", "10", "100")]
    lines = [f"| {reading} (%) | " + " | ".join(head) + " |"]
    lines.append("|---" * (len(head) + 1) + "|")
    for name, title in ROWS.items():
        cells = [
            percent(long[name][reading][f][p])
            for f in FACTORS
            for p in ("1", "10", "100")
        ]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


say(reading_table("logistic probe") + "\n\n" + reading_table("k-NN"))

# %% tags=["hide-input", "check"]
def mean(name, reading, f, p):
    return statistics.mean(long[name][reading][f][p])


BASELINES = ("pixels", "random encoder")
READINGS = ("k-NN", "logistic probe")
SHARES = ("1", "10", "100")
claim(
    "With crops and colour jitter the texture is read better than from pixels"
    " and from the untrained encoder, by both readings, at every number of"
    " labels and on every seed: with 20 labels the probe is right in {a:.0%},"
    " against {b:.0%} at best. (What training on the labels reaches is the"
    " next question.)",
    all(
        min(long["crop + colour"][r]["texture"][p])
        > max(max(long[b][r]["texture"][p]) for b in BASELINES)
        for r in READINGS
        for p in SHARES
    ),
    a=mean("crop + colour", "logistic probe", "texture", "1"),
    b=max(mean(b, "logistic probe", "texture", "1") for b in BASELINES),
)
claim(
    "The hue is harder to read than before the training, with few labels and"
    " with many: with 20 labels the probe is right in {a:.0%} (guessing: 17 %;"
    " untrained {d:.0%}, pixels {e:.0%}), with 2,000 in {b:.0%} (untrained"
    " {f:.0%}, pixels {c:.0%}). It is not gone.",
    max(long["crop + colour"]["logistic probe"]["hue"]["1"]) < 0.22
    and min(long["crop + colour"]["logistic probe"]["hue"]["100"]) > 0.25
    and all(
        min(long[b]["logistic probe"]["hue"][p])
        > max(long["crop + colour"]["logistic probe"]["hue"][p])
        for b in BASELINES
        for p in SHARES
    ),
    a=mean("crop + colour", "logistic probe", "hue", "1"),
    b=mean("crop + colour", "logistic probe", "hue", "100"),
    c=mean("pixels", "logistic probe", "hue", "100"),
    d=mean("random encoder", "logistic probe", "hue", "1"),
    e=mean("pixels", "logistic probe", "hue", "1"),
    f=mean("random encoder", "logistic probe", "hue", "100"),
)
claim(
    "Nor is the texture all that is gained: with all labels the probe tells"
    " {a:.0%} of the shapes after crops and colour jitter, {b:.0%} from the"
    " untrained encoder, {c:.0%} from pixels.",
    min(long["crop + colour"]["logistic probe"]["shape"]["100"])
    > max(max(long[b]["logistic probe"]["shape"]["100"]) for b in BASELINES) + 0.05,
    a=mean("crop + colour", "logistic probe", "shape", "100"),
    b=mean("random encoder", "logistic probe", "shape", "100"),
    c=mean("pixels", "logistic probe", "shape", "100"),
)
claim(
    "With crops alone the texture is read less well than from the untrained"
    " encoder, where labels are many ({a:.0%} against {b:.0%} with all of"
    " them, by the probe). That is what 400 steps give; it says nothing about"
    " longer training.",
    max(long["crop only"]["logistic probe"]["texture"]["100"])
    < min(long["random encoder"]["logistic probe"]["texture"]["100"]),
    a=mean("crop only", "logistic probe", "texture", "100"),
    b=mean("random encoder", "logistic probe", "texture", "100"),
)
claim(
    "Colour jitter without crops teaches the texture too ({a:.0%} with all"
    " labels, by the probe), less well than both together ({b:.0%}).",
    max(long["colour only"]["logistic probe"]["texture"]["100"])
    < min(long["crop + colour"]["logistic probe"]["texture"]["100"])
    and min(long["colour only"]["logistic probe"]["texture"]["100"])
    > max(long["random encoder"]["logistic probe"]["texture"]["100"]),
    a=mean("colour only", "logistic probe", "texture", "100"),
    b=mean("crop + colour", "logistic probe", "texture", "100"),
)

# %% [markdown] tags=["slide"]
# ### On more pictures, for longer
#
# The chapter's benchmark trains SimCLR for less than two minutes on a GPU, on 200,000 pictures
# ({ref}`120 <sec-120>`). Its encoder is another one, a small Vision Transformer. Its views turn the
# hue by at most a tenth of the colour circle, those of this page by up to a half. Here are its rows
# beside the baselines and beside supervision: the same encoder from random weights on the labels
# alone, with its views, rate and number of steps tuned on validation.

# %% mystnb={"figure": {"caption": "Test accuracy against the number of labels, for each factor: SimCLR read in three ways, supervision, and pixels and an untrained encoder (logistic probe). Mean of the seeds; bars: one standard deviation.", "name": "fig-simclr-labels"}, "image": {"alt": "Three panels, for shape, hue and texture, with lines of accuracy against the number of labels; the sentence below names the best in each panel."}} tags=["hide-input", "plot"]
bench = combined([recorded(f"120.0.benchmark-{part}") for part in PARTS])
LINES = {
    "SimCLR, k-NN": ("SimCLR", "k-NN", "C0", ":"),
    "SimCLR, logistic probe": ("SimCLR", "logistic probe", "C0", "--"),
    "SimCLR, fine-tuned": ("SimCLR", "fine-tuned", "C0", "-"),
    "supervised, tuned": ("supervised", "fine-tuned", "C3", "-"),
    "random encoder": ("random", "logistic probe", "0.6", "-"),
    "pixels": ("pixels", "logistic probe", "0.6", "--"),
}
fig, axes = plt.subplots(1, 3, figsize=(9, 3), sharey=True)
for ax, f in zip(axes, FACTORS, strict=True):
    for label, (name, reading, color, style) in LINES.items():
        by = bench["table"][name][reading][f]
        shares = sorted(by, key=float)
        ax.errorbar(
            [bench["labelled"] * float(p) / 100 for p in shares],
            [100 * statistics.mean(by[p]) for p in shares],
            [100 * statistics.stdev(by[p]) for p in shares],
            color=color,
            ls=style,
            capsize=2,
            label=label,
        )
    ax.axhline(100 * GUESS[f], color="black", ls=":", lw=1)
    ax.set(title=f, xscale="log", xlabel="labels", ylim=(0, 102))
axes[0].set_ylabel("test accuracy (%)")
fig.legend(*axes[0].get_legend_handles_labels(), ncols=3, loc="outside lower center")
plt.show()

# %% tags=["hide-input", "check"]
from dlcourse.notebook import paired


def told(reading, name, factor, share):
    return 100 * statistics.mean(bench["table"][name][reading][factor][share])


def three(reading, factor, share):
    return [told(reading, name, factor, share) for name in ("SimCLR", "pixels", "random")]


texture = three("logistic probe", "texture", "1")
hue, hue_with_all = (three("logistic probe", "hue", share) for share in ("1", "100"))
near = three("k-NN", "hue", "1")
shape = three("logistic probe", "shape", "100")


def over_untrained(factor, share):
    """A probe of SimCLR's features less one of the untrained encoder's, in points, paired."""
    runs = (bench["table"][n]["logistic probe"][factor][share] for n in ("SimCLR", "random"))
    return paired(*([100 * v for v in run] for run in runs))


gain = {share: over_untrained("hue", share) for share in ("1", "10", "100")}
gain_shape = over_untrained("shape", "100")
claim(
    "With 100 labels a probe of SimCLR's features tells {texture[0]:.1f} % of the textures"
    " (pixels {texture[1]:.0f}, untrained {texture[2]:.0f}) and {hue[0]:.0f} % of the hues"
    " (pixels {hue[1]:.0f}, untrained {hue[2]:.0f}); with 10,000 labels it reads the hue in"
    " {hue_with_all[0]:.1f} %. Its neighbours share the hue less often: they tell"
    " {near[0]:.0f} % with 100 labels (pixels {near[1]:.0f}, untrained {near[2]:.0f}). So by"
    " distance the hue is harder to find than before the training. By a probe it is easier"
    " with 1,000 labels ({gain[10][0]:+.1f} ± {gain[10][1]:.1f} points over the untrained"
    " encoder) and with 10,000 ({gain[100][0]:+.1f} ± {gain[100][1]:.1f}); with 100 the two are"
    " not told apart ({gain[1][0]:+.1f} ± {gain[1][1]:.1f}). Nor are they for the shape, with"
    " 10,000 labels: {shape[0]:.0f} and {shape[2]:.0f} %, {gain_shape[0]:+.1f} ±"
    " {gain_shape[1]:.1f} points. On the page's own small encoder, with stronger jitter, the shape"
    " did gain.",
    texture[0] > 99
    and hue_with_all[0] > 99
    and all(gain[p][0] > gain[p][1] for p in ("10", "100"))
    and abs(gain["1"][0]) < gain["1"][1]
    and near[0] < min(near[1:]) - 3
    and abs(gain_shape[0]) < gain_shape[1],
    gain={int(share): value for share, value in gain.items()},
    gain_shape=gain_shape,
    texture=texture,
    hue=hue,
    hue_with_all=hue_with_all,
    near=near,
    shape=shape,
)

# %% tags=["hide-input", "check"]
def against_supervision(reading, factor, share):
    """SimCLR by this reading less supervision, in points, paired over the seeds."""
    runs = (("SimCLR", reading), ("supervised", "fine-tuned"))
    return paired(*([100 * v for v in bench["table"][n][r][factor][share]] for n, r in runs))


say(
    "SimCLR less supervision, in points: the mean of the seeds' differences, and half the width of"
    " its 95 % interval (bold where that leaves out zero).\n\n| labels | read by |"
    + "".join(f" {f} |" for f in FACTORS)
    + "\n|---|---|---|---|---|\n"
    + "\n".join(
        f"| {round(bench['labelled'] * float(p) / 100):,} | {reading} |"
        + "".join(
            f" **{gap:+.1f} ± {half:.1f}** |" if abs(gap) > half else f" {gap:+.1f} ± {half:.1f} |"
            for gap, half in (against_supervision(reading, f, p) for f in FACTORS)
        )
        for p in ("1", "10", "100")
        for reading in ("logistic probe", "fine-tuned")
    )
)
texture_few, shape_all = (
    against_supervision("logistic probe", f, p) for f, p in (("texture", "1"), ("shape", "100"))
)
claim(
    "With {few} labels a probe of SimCLR's features is {a:.0f} points ahead of supervision for the"
    " texture, which the views leave alone. With {all:,} labels it is {b:.0f}"
    " points behind for the shape, which changes of colour leave alone too. What the"
    " views leave alone *can* serve to find the partner; the network need not use all of it. SimCLR"
    " has seen all {pictures:,} pictures, supervision those with labels. Fine-tuning had {short}"
    " steps on labels, supervision the better of {short} and {long:,}.",
    texture_few[0] > texture_few[1] and -shape_all[0] > shape_all[1],
    few=bench["labelled"] // 100,
    all=bench["labelled"],
    a=texture_few[0],
    b=-shape_all[0],
    pictures=bench["pictures"],
    short=bench["label_steps"],
    long=bench["steps"]["supervised"],
)

# %% [markdown] tags=["slide"]
# ### Temperature and batch
#
# How large must a batch be? A fair question gives every batch the same number of pictures, so the
# small ones take more steps. Recorded: 30,000 pairs a run, the rate of each batch chosen on
# validation from three, by two further seeds.

# %% tags=["long", "hide-input"] name="temperature-and-batch"
grid, rates = temperature_and_batch()
keep(grid=grid, rates=rates)

# %% mystnb={"figure": {"caption": "SimCLR against temperature, for three batch sizes that saw the same number of pairs, each at its best of three rates: k-NN accuracy for the texture; mean ± standard deviation of 3 seeds.", "name": "fig-simclr-grid"}, "image": {"alt": "Three lines of accuracy against temperature on a logarithmic axis, one for each batch size."}} tags=["hide-input", "plot"]
grid = recorded("120.1a.temperature-and-batch")["grid"]
rates = recorded("120.1a.temperature-and-batch")["rates"]
fig, ax = plt.subplots(figsize=(6, 2.8))
for batch in sorted(grid, key=int):
    by = dict(sorted(grid[batch].items(), key=lambda item: float(item[0])))
    ax.errorbar(
        [float(t) for t in by],
        [100 * statistics.mean(v) for v in by.values()],
        [100 * statistics.stdev(v) for v in by.values()],
        fmt="o-",
        capsize=3,
        label=f"batch {batch} (rate {rates[batch]:g})",
    )
ax.set(xlabel="temperature", ylabel="k-NN accuracy (%)", xscale="log")
ax.legend()
plt.show()

# %% tags=["hide-input", "check"]
at = {b: grid[b]["0.2"] for b in ("64", "256", "1024")}
others = {b: [v for t in grid[b] if t != "2" for v in grid[b][t]] for b in at}
low = {int(b): paired(*([100 * v for v in grid[b][t]] for t in ("0.05", "0.2"))) for b in at}
claim(
    "With 30,000 pairs each, at τ = 0.2, batches of 64 reach {a:.0%}, of 256"
    " {b:.0%}, of 1,024 {c:.0%}, and no seed breaks the order. The small"
    " batch has fewer negatives and took {s} steps, the large one {l}: in so"
    " short a training more steps with fewer negatives are better. The best rate"
    " was 0.01 for all three. A temperature of 2 is worse than 0.05, 0.2 and 0.5"
    " for every batch and seed. Which of 0.05 and 0.2 is better is not told apart"
    " for any batch: 0.05 less 0.2 is {low[64][0]:+.1f} ± {low[64][1]:.1f} points"
    " for 64, {low[256][0]:+.1f} ± {low[256][1]:.1f} for 256 and"
    " {low[1024][0]:+.1f} ± {low[1024][1]:.1f} for 1,024.",
    all(abs(gap) < half for gap, half in low.values())
    and set(rates.values()) == {0.01}
    and min(at["64"]) > max(at["256"])
    and min(at["256"]) > max(at["1024"])
    and all(max(grid[b]["2"]) < min(others[b]) for b in at),
    a=statistics.mean(at["64"]),
    b=statistics.mean(at["256"]),
    c=statistics.mean(at["1024"]),
    s=30_000 // 64,
    l=30_000 // 1024,
    low=low,
)

# %% [markdown] tags=["skip"]
# The paper reports that the gap between batch sizes closes with longer training
# {cite:p}`chen2020simclr`. Equal numbers of pictures are one way to compare; at an equal number of
# *steps* a large batch has seen more pictures, and at equal time it depends on the machine.

# %% [markdown] tags=["slide"]
# ## On many devices
#
# If each rank computes the loss on its own images, an anchor has the negatives of one device only:
# another, easier question. So the embeddings are gathered first, and the gradient must find its way
# back through the gathering, which `torch.distributed.all_gather` alone does not provide.
# `SimCLR.forward` does it whenever a process group is open:

# %% tags=["skip"]
from dlcourse.self_supervised_learning.contrastive.nt_xent import _AllGather

show_source(_AllGather)

# %% tags=["hide-input", "check", "skip"]
b, dim = 4096, 128
say(
    "Every rank then computes the same loss; the sum over ranks in `backward`,"
    " and DDP's mean over ranks, cancel. A test runs two processes and finds"
    " the gradients of one process with the whole batch. The matrix of"
    " similarities is no obstacle: at {b:,} images, {n:,} × {n:,} logits in"
    " float32 are {mb:.0f} MiB (a few times that with what autograd keeps), and"
    " gathering {dim} numbers for each view moves {kb:.1f} MiB. All ranks must"
    " bring as many images each: let the data loader drop the last batch.",
    b=b,
    n=2 * b,
    mb=(2 * b) ** 2 * 4 / 2**20,
    dim=dim,
    kb=2 * b * dim * 4 / 2**20,
)

# %% [markdown] tags=["slide"]
# ## Relatives without negatives
#
# What else keeps a network from answering the same to everything?
#
# - **A predictor and a stopped gradient.** BYOL {cite:p}`grill2020byol` predicts the embedding that
#   a slow copy of the network gives to the other view. SimSiam {cite:p}`chen2021simsiam` does
#   without the copy: one branch has a small predictor, the gradient of the other is stopped. Without
#   the stop it collapses.
# - **Decorrelation.** Let $C$ be the matrix of correlations, over a batch, between the coordinates
#   of $z$ and those of $z'$. Barlow Twins {cite:p}`zbontar2021barlow` makes it the identity:
#   $\sum_i (1 - C_{ii})^2 + \lambda \sum_{i \ne j} C_{ij}^2$. The first term is alignment; the second
#   forbids the dimensional collapse directly.
# - **Variance, invariance, covariance.** VICReg {cite:p}`bardes2022vicreg` writes the three wishes
#   as three terms: partners near each other, a standard deviation of at least 1 for each coordinate
#   within a batch, and no covariance between coordinates.
#
# Linear classification on ImageNet with a ResNet-50, as the papers give it, pre-trained for about
# as long (top-1 accuracy in %):
#
# | method | epochs | linear probe |
# |---|---|---|
# | SimCLR {cite:p}`chen2020simclr` | 1,000 | 69.3 |
# | MoCo v2 {cite:p}`chen2020mocov2` | 800 | 71.1 |
# | SimSiam {cite:p}`chen2021simsiam` | 800 | 71.3 |
# | Barlow Twins {cite:p}`zbontar2021barlow` | 1,000 | 73.2 |
# | VICReg {cite:p}`bardes2022vicreg` | 1,000 | 73.2 |
# | BYOL {cite:p}`grill2020byol` | 1,000 | 74.3 |
# | SwAV, with multi-crop {cite:p}`caron2020swav` | 800 | 75.3 |
#
# The same network trained on all labels reaches about 76.5.

# %% [markdown] tags=["slide"]
# ## Two mistakes in the document's listing
#
# The document's section 120.1 is called *contrastive learning*, and its two losses have no
# contrast: a masked-image model and a self-distillation. The test is simple: does an image's loss
# change when the *other* images do?

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
a, b = torch.randn(2, 6, 4)  # outputs for two views of six images


def distillation(student, teacher):  # called a contrastive loss there
    student = F.softmax(student / 0.1, dim=1)
    teacher = F.softmax(teacher / 0.04, dim=1)
    return -(teacher * torch.log(student)).sum(1).mean()


for name, loss in [("distillation", distillation), ("NT-Xent", nt_xent)]:
    together = loss(a, b).item()
    in_pairs = (
        sum(loss(a[i : i + 2], b[i : i + 2]).item() for i in (0, 2, 4)) / 3
    )
    print(f"{name}: six together {together:.3f}, two by two {in_pairs:.3f}")

# %% [markdown] tags=["skip"]
# And the logarithm of a softmax would break NT-Xent too. At small temperatures a small probability
# is rounded to 0, and the logarithm of 0 is $-\infty$:

# %% tags=["nbval-check-output"]
logits = torch.tensor([[0.9, -0.3, 0.1]]) / 0.01  # the partner is the second
print("log of softmax:", -torch.log(F.softmax(logits, dim=1))[0, 1].item())
print("log_softmax:   ", round(-F.log_softmax(logits, dim=1)[0, 1].item(), 3))

# %% [markdown] tags=["skip"]
# ## Limits
#
# - Painted pictures with three independent factors are made to show a principle. In photographs the
#   factors are tied together, and nobody has their list.
# - The page trains 120 steps, its recorded cells 29 to 468, the benchmark less than two minutes
#   on a GPU. The paper trains a ResNet-50 for hundreds of epochs, and gains come late.
# - Every other image counts as a negative, also those of the same kind. With few classes these
#   false negatives are many.
# - Large batches cost memory. A queue, or the methods without negatives, do well with small ones.
# - At work: `lightly` or `solo-learn` have these losses with data pipelines around them; for
#   features of photographs, start from a published checkpoint (DINOv2, section 120.1b) before
#   training your own.

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
# - What the augmentations change counts for little in the distances, though a probe may still read
#   it; what they leave may serve as a shortcut.
# - Keep the features before the head; compute similarities in float32; gather over all ranks.
#
# References: each citation above leads to its source; the
# {doc}`bibliography </book/bibliography>` lists them all.
