# %% [markdown] tags=["slide"]
# (sec-121-2a)=
# # 121.2a CLIP: pictures and words in one space
#
# CLIP learns from pictures and the sentences that stand beside them. It puts both into one space,
# where a picture lies near what describes it. Then words find pictures, and class names alone make
# a classifier. At the end of this section you can write its loss and prove an implementation right,
# on one process and on several; say what large batches are for and what SigLIP changes; build a
# classifier from prompts; and show what such a model does not understand.
#
# You need: cross-entropy, transformers as boxes, and no GPU. Section 120.1a treats the same loss
# between two views of one picture.

# %% tags=["definitions", "hide-input", "skip"]
import statistics

import torch

from dlcourse.notebook import keep

# %% tags=["hide-input", "skip"]
import math

import matplotlib.pyplot as plt
import numpy as np
import torch.nn.functional as F
from torch import nn

from dlcourse.datasets import captioned_scenes, credit, emoji, scene_captions
from dlcourse.multimodal_fusion import (
    CLIP,
    TextTower,
    clip_loss,
    clip_loss_chunked,
    clip_loss_gathered,
    clip_loss_reference,
    retrieval_recall,
    siglip_loss,
    zero_shot_classifier,
)
from dlcourse.multimodal_fusion.experiments.clip_scenes import (
    CONTESTANTS,
    Bank,
    Sizes,
    from_bytes,
    to_bytes,
    train,
)
from dlcourse.multimodal_fusion.experiments.emoji_head import QUERIES, search
from dlcourse.notebook import claim, explore, paired, say, show_source, values_of

plt.style.use("dlcourse.notebook.course")


def verdict(a, b, unit="points", factor=100):
    """The difference of two results in words."""
    mean, half = paired(a, b)
    words = "higher" if mean > half else "lower" if mean < -half else "no order shows"
    return f"{factor * mean:+.1f} ± {factor * half:.1f} {unit} ({words})"


def spread(values):
    """Mean ± standard deviation, in per cent."""
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{deviation}"


# %% [markdown] tags=["slide"]
# ## A question
#
# Here are 400 drawings. Nobody has labelled them with the sentences below, and no network has been
# trained on them. How can the sentences find them?

# %% tags=["hide-input", "plot"]
found = values_of("121.2a.emoji", "ranked")
if found:
    drawings = emoji("twemoji")

    def ranked(text):
        fig, axes = plt.subplots(1, 8, figsize=(8, 1.7), layout="constrained")
        for place, (ax, i) in enumerate(zip(axes, found["ranked"][text]), 1):
            ax.imshow(drawings.images[i].permute(1, 2, 0))
            ax.set_title(f"{place}", fontsize=8)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        fig.suptitle(f"“{text}”", fontsize=11)
        return fig

    explore(
        ranked,
        {"text": QUERIES},
        name="Words find drawings",
        alt=lambda text: (
            f"The eight drawings nearest to “{text}”, best first: "
            + ", ".join(drawings.names[i] for i in found["ranked"][text])
            + "."
        ),
        initial={"text": "it grows in a garden"},
    )
    say(
        "Choose a sentence. The eight drawings come from 400 concepts that were kept out of the "
        "training. *" + credit("twemoji") + "*"
    )
else:
    say("The rankings are not recorded yet.")

# %% [markdown] tags=["skip"]
# The drawings went through a network trained on photographs, the sentences through one trained on
# text. Neither has been touched. What was learned is one matrix between them, with CLIP's loss. In a
# kernel you can type your own words. (The first call computes features, which takes a minute.)

# %% tags=["skip"]
typed = ""  # write words here, such as "a wild animal", and run this cell
if typed:
    print([emoji().names[i] for i in search(typed)])

# %% [markdown] tags=["slide"]
# ## The idea
#
# A classifier learns a fixed list of classes, from labels that somebody has paid for. The web is
# full of pictures with text beside them. CLIP {cite:p}`radford2021clip` takes 400 million such pairs
# and asks one question: *of all the texts in this batch, which one belongs to this picture?* And
# the other way round.
#
# Two towers make a vector each, a **vision tower** for pictures and a **text tower** for captions. They meet
# in a dot product and nowhere else. So the vectors of a million pictures can be stored, and a
# sentence that nobody has foreseen can be compared with all of them.

# %% [markdown] tags=["skip"]
# :::{diagram} figures/2a_clip.svg
# ---
# name: fig-clip
# alt: Flow diagram. A batch of pictures goes through the vision tower and a projection, a batch of
#   captions through the text tower and another; both give vectors of length 1. Their products,
#   times the learned scale, fill a square of logits, one row a picture and one column a caption.
#   Its diagonal holds the right pairs. Below, class names in prompts go through the text tower and
#   become the rows of a classifier.
# ---
# CLIP. Training compares each picture of a batch with each caption. In use, prompts with class
# names take the captions' place.
# :::

# %% [markdown] tags=["slide"]
# ### In symbols
#
# Let $x_i$ be the vector of picture $i$ and $y_j$ that of caption $j$, both of length 1, so that
# $x_i^\top y_j$ is a cosine. The temperature $\tau$ turns cosines into logits,
#
# $$
# s_{ij} = \frac{1}{\tau}\, x_i^\top y_j, \qquad i, j = 1, \dots, B ,
# $$ (eq-clip-logits)
#
# and the loss is the mean of two cross-entropies, over the rows and over the columns of this square.
# (CLIP's paper names where it comes from: the N-pair loss {cite:p}`sohn2016npair`, InfoNCE
# {cite:p}`oord2018cpc`, and ConVIRT {cite:p}`zhang2022convirt`, which had both directions for X-rays and
# their reports.)
#
# $$
# L = -\frac{1}{2B} \sum_{i=1}^{B} \Bigl[ \log \frac{e^{s_{ii}}}{\sum_j e^{s_{ij}}}
#   + \log \frac{e^{s_{ii}}}{\sum_j e^{s_{ji}}} \Bigr] .
# $$ (eq-clip-loss)
#
# A model that knows nothing has the loss $\ln B$. $1/\tau = e^{t}$ with a parameter $t$ that is
# learned along with the towers.

# %% [markdown] tags=["skip"]
# {{exercise 121.2a.predict-floor}}

# %% [markdown] tags=["slide"]
# ### See it learn
#
# Scenes with captions, made from a seed: one or two objects with a shape, a colour, a size and a
# texture, and where they are. A sixth of the pairs of colour and shape never occurs in training. A
# small CLIP is trained on 2,048 scenes; we look at ten new ones on the way.

# %% tags=["hide-input", "skip"]
small = Sizes(
    image=32, widths=(16, 32, 64), text_width=96, text_depth=1, embed=64,
    bank=2048, pairs=0.3, batch=64, steps=160,
)  # fmt: skip
cpu = torch.device("cpu")
bank = Bank(small, cpu)
shown = captioned_scenes(10, torch.Generator().manual_seed(3), size=32, pairs=0.3, full=True)
shown_captions = scene_captions(shown.tokens)
STEPS = (0, 5, 10, 20, 40, 80, 120, 160)
similarity = {}


def cosines(model):
    with torch.no_grad():
        images = model.encode_image(from_bytes(to_bytes(shown.images)))
        return images @ model.encode_text(shown.tokens).T


def watch(model, step):
    if step in STEPS:
        similarity[step] = cosines(model)


little = train(CONTESTANTS["CLIP"], bank, small, 2e-3, 0, cpu, watch)
similarity[160] = cosines(little)

# %% mystnb={"figure": {"caption": "Cosines of ten new pictures (across, in the order of the strip above) with their ten captions (down), before training, on the way and at its end. The right pairs lie on the diagonal.", "name": "fig-clip-learning"}, "image": {"alt": "A strip of ten small scenes above three squares of ten by ten cosines. The first is uniform, in the second a diagonal begins to show, in the third it stands out."}} tags=["hide-input", "plot"]
fig = plt.figure(figsize=(7.5, 3.6))
grid = fig.add_gridspec(2, 3, height_ratios=[1, 3.4])
strip = fig.add_subplot(grid[0, :])
strip.imshow(torch.cat(list(shown.images), 2).permute(1, 2, 0))
strip.axis("off")
for k, step in enumerate((0, 40, 160)):
    ax = fig.add_subplot(grid[1, k])
    ax.imshow(similarity[step].T, cmap="viridis", vmin=-0.2, vmax=1)
    ax.set(title=f"step {step}", xlabel="picture", xticks=[], yticks=[])
    ax.set_ylabel("caption" if k == 0 else "")
    ax.grid(False)
plt.show()

# %% [markdown] tags=["skip"]
# Move through the training, with the captions beside:

# %% tags=["hide-input", "plot"]
def matrix(step):
    fig, ax = plt.subplots(figsize=(9, 4.7), layout="constrained")
    m = similarity[step]
    ax.imshow(m.T, cmap="viridis", vmin=-0.2, vmax=1, extent=(0, 10, 10, 0))
    for i in range(10):
        ax.imshow(shown.images[i].permute(1, 2, 0), extent=(i + 0.05, i + 0.95, -0.05, -0.95))
        best = int(m[i].argmax())
        color = "w" if best == i else "tab:red"
        ax.add_patch(plt.Rectangle((i + 0.08, best + 0.08), 0.84, 0.84, fill=False, ec=color, lw=2))
    ax.set(xlim=(0, 10), ylim=(10, -1), xticks=[])
    ax.set_yticks(np.arange(10) + 0.5, shown_captions, fontsize=7)
    ax.set_xlabel(f"step {step}; framed: the nearest caption (red: wrong)")
    ax.grid(False)
    return fig


explore(
    matrix,
    {"step": STEPS},
    name="The square of cosines",
    alt=lambda step: (
        f"Cosines of ten pictures and their ten captions after {step} steps; "
        f"{int((similarity[step].argmax(1) == torch.arange(10)).sum())} of 10 pictures have their "
        "own caption nearest."
    ),
    initial={"step": 0},
)

# %% tags=["hide-input", "check"]
new = captioned_scenes(200, torch.Generator().manual_seed(4), size=32, pairs=1.0, full=True)
with torch.no_grad():
    x = little.encode_image(from_bytes(to_bytes(new.images)))
    y = little.encode_text(new.tokens)
here = retrieval_recall(x, y)
shuffled = retrieval_recall(x, y.roll(1, 0))
claim(
    "After {steps} steps of {batch} pairs, of 200 new scenes with two objects {r1:.0%} find their own "
    "caption first, and {r10:.0%} have it among the first ten. Chance gives 0.5 % and 5 %; with each "
    "caption moved on by one place {wrong:.0%} are among the first ten.",
    here[10][0] > 0.3 and here[10][0] > 2 * shuffled[10][0],
    steps=small.steps,
    batch=small.batch,
    r1=here[1][0],
    r10=here[10][0],
    wrong=shuffled[10][0],
)

# %% [markdown] tags=["slide"]
# ## Piece by piece
#
# ### The loss
#
# Equation {eq}`eq-clip-loss` needs one square: the texts' logits are the pictures' transposed. (That saves a
# product, and not time on a GPU: see the table of memory below.)

# %%
show_source(clip_loss)

# %% [markdown] tags=["skip"]
# Is it the equation? The reference is the double loop. In float64, value and gradients, of the
# scale as well:

# %% tags=["nbval-check-output"]
def value_and_gradients(loss, seed, scale):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(9, 6, generator=g, dtype=torch.float64)
    y = F.normalize(x + torch.randn(9, 6, generator=g, dtype=torch.float64), dim=1)
    x, s = F.normalize(x, dim=1), torch.tensor(scale, dtype=torch.float64)
    leaves = [z.requires_grad_() for z in (x, y, s)]
    value = loss(*leaves)
    return torch.cat([value.detach()[None], *(g.flatten() for g in torch.autograd.grad(value, leaves))])


worst = 0.0
for seed, scale in enumerate((1.0, 14.3, 100.0)):
    expected = value_and_gradients(clip_loss_reference, seed, scale)
    for loss in (clip_loss, lambda *a: clip_loss_chunked(*a, 4), clip_loss_gathered):
        worst = max(worst, (value_and_gradients(loss, seed, scale) - expected).abs().max().item())
print("largest difference below 1e-11:", worst < 1e-11)

# %% [markdown] tags=["skip"]
# The test suite compares with strangers' code too: the loss with the `ClipLoss` of open_clip
# {cite:p}`ilharco2021openclip`, and the whole model with the `CLIPModel` of `transformers`, our towers
# with its weights, to $10^{-9}$ in float64.

# %% [markdown] tags=["skip"]
# {{exercise 121.2a.symmetric-loss}}

# %% [markdown] tags=["slide"]
# ### The model
#
# Each tower returns one vector an input. A projection without bias takes it to the shared space.

# %%
show_source(CLIP.forward)

# %%
show_source(CLIP.scale)

# %% [markdown] tags=["skip"]
# Details that papers mention in half a sentence, or only in code:
#
# 1. **One vector.** The vision tower is read at its class token, the text tower at the *end of the
#    text*. Its attention is causal: the end alone has seen everything, and does not see what follows.
#    Padding needs no mask. (The paper's reason for causal attention is another one: the tower could start
#    from a language model, or learn to write as well {cite:p}`radford2021clip`.)
# 2. **The scale** starts at $1/0.07$, as a logarithm, and is kept at 100 or less. Without a limit,
#    says the paper (section 2.5), training is unstable.
# 3. **No bias, no hidden layer** in the projections (section 2.3). SimCLR's head has one, and throws it away
#    after the training; here the projected space is what is used.
# 4. **No weight decay** for biases and the gains of norms (section 2.5), nor, in open_clip's code, for the
#    scale: a decay would pull $1/\tau$ to 1.
# 5. **A tower's BatchNorm** would mix pictures of the batch, and let the network recognise the batch. Our
#    convolutions use GroupNorm. (CLIP's own ResNets have BatchNorm, and work.)
# 6. **Equal captions** in a batch are false negatives: the loss pushes a picture away from a text that fits
#    it. Rare texts make it a small fault; "a photo" beside a million pictures makes it a large one.

# %% tags=["hide-input", "check"]
torch.manual_seed(0)
tower = TextTower(60, 12, 24, 2, 3, end=59)
text = torch.tensor([[1, 7, 9, 59, 0, 0, 0, 0]])
other_padding = torch.tensor([[1, 7, 9, 59, 5, 44, 59, 3]])
other_word = torch.tensor([[1, 8, 9, 59, 0, 0, 0, 0]])
with torch.no_grad():
    vector = tower(text)
    padding = (tower(other_padding) - vector).abs().max().item()
    cut = (tower(text[:, :4]) - vector).abs().max().item()
    word = (tower(other_word) - vector).abs().max().item()
claim(
    "Other padding changes a text's vector by {padding:.1g}, a cut after its end by {cut:.1g}, another "
    "word by {word:.1f}. So a batch may be cut after its longest caption, for less work.",
    padding < 1e-5 and cut < 1e-5 < 0.01 < word,
    padding=padding,
    cut=cut,
    word=word,
)

# %% [markdown] tags=["slide"]
# ### Classes from words
#
# A linear classifier has a vector for each class. Here the text tower writes it: put the class's
# name into a prompt, "a photo of a {}.", and take the vector of that sentence. Several prompts make
# an **ensemble**: the mean of their vectors, normalised. On ImageNet the prompt is worth 1.3 points
# over the bare name and an ensemble of 80 another 3.5 {cite:p}`radford2021clip`. At test time it
# costs nothing, since the mean is taken once.

# %%
show_source(zero_shot_classifier)

# %% [markdown] tags=["skip"]
# {{exercise 121.2a.prompt-ensemble}}

# %% [markdown] tags=["slide"]
# ## A head between frozen encoders
#
# The opening example, measured. EfficientNet-Lite0 gives 1,280 numbers for a drawing, MiniLM 384 for
# its name. Both stay frozen; a matrix of $1280 \times 384$ goes from one to the other. There is a
# **closed form** for it: ridge regression, which guesses the name's vector with the least squared
# error. Against it stands the same matrix learned with equation {eq}`eq-clip-loss`.
#
# Ridge asks for the name's vector itself, and pays for each coordinate alike, also for what all names
# share. InfoNCE asks only that the right name is nearer than the others. If that is the reason for a
# difference, then a closed form that asks for *differences* should make up for it. So a third contestant is
# **ridge to whitened names**: the names' mean is taken off, and all their directions are stretched to count
# alike.
#
# Of 1,903 concepts, 400 are for the test. Each contestant chooses its settings on 300 others (ridge:
# 6 strengths; ridge to whitened names: 4 strengths × 6 shrinkages; InfoNCE: 4 rates × 2 dropouts), is then
# fitted to the remaining 1,503 in both styles, and sees the test once. Each of the seeds is a split of its own.

# %% tags=["long", "hide-input"] name="emoji"
from dlcourse.multimodal_fusion.experiments.emoji_head import record_emoji

found = record_emoji(seeds=(0, 1, 2, 3))
keep(**found)

# %% tags=["long", "hide-input"] name="emoji-whitened"
from dlcourse.multimodal_fusion.experiments.emoji_closed_forms import record_whitened

closed = record_whitened(seeds=(0, 1, 2, 3))
print("strength and shrinkage chosen:", closed["chosen"])
keep(**closed)

# %% tags=["hide-input", "check", "skip"]
emoji_runs = values_of("121.2a.emoji", "ridge", "InfoNCE", "chosen")
white_runs = values_of("121.2a.emoji-whitened", "whitened")
if emoji_runs and white_runs:
    STYLE = {"twemoji": "Twemoji", "openmoji": "OpenMoji"}
    ridge, learned = (
        {s: np.array(emoji_runs[name][s]) for s in STYLE} for name in ("ridge", "InfoNCE")
    )  # (seeds, k)
    white = {s: np.array(white_runs["whitened"][s]) for s in STYLE}
    rows = [
        f"| {STYLE[s]} | {name} | "
        + " | ".join(spread(values[s][:, k].tolist()) for k in range(3))
        + " |"
        for s in STYLE
        for name, values in (
            ("ridge", ridge), ("ridge to whitened names", white), ("InfoNCE, learned", learned),
        )  # fmt: skip
    ]
    say(
        "| drawings | map | R@1, % | R@5, % | R@10, % |\n|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n| | chance | 0.25 | 1.25 | 2.5 |\n\nFrom the drawing to its name among 400 names, mean ± "
        "standard deviation over {n} splits.",
        n=len(ridge["twemoji"]),
    )
    gaps = {
        (s, k): paired(learned[s][:, j], ridge[s][:, j])
        for s in STYLE
        for j, k in enumerate((1, 5, 10))
    }
    claim(
        "The learned map is ahead of plain ridge in both styles at R@1, R@5 and R@10: "
        + "; ".join(
            f"{STYLE[s]} R@{k} by {100 * m:.1f} ± {100 * h:.1f} points" for (s, k), (m, h) in gaps.items()
        )
        + " (paired, 95 % interval).",
        all(m > h for m, h in gaps.values()),
    )
    most = max(rate for rate, _ in emoji_runs["chosen"]["InfoNCE"])
    say(
        "Beside ridge to whitened names the learned map's difference is: "
        + "; ".join(
            f"{STYLE[s]} R@{k} {verdict(learned[s][:, j], white[s][:, j])}"
            for s in STYLE
            for j, k in enumerate((1, 5, 10))
        )
        + ". And whitening against plain ridge, R@1: "
        + "; ".join(f"{STYLE[s]} {verdict(white[s][:, 0], ridge[s][:, 0])}" for s in STYLE)
        + ". InfoNCE chose the rate {most:g} at most, where {edge} larger one was tried.",
        most=most,
        edge="no" if most >= 1e-2 else "a",
    )
else:
    say("This comparison is not recorded yet.")

# %% [markdown] tags=["skip"]
# So a good part of what the loss seemed to bring is what it asks for, and a closed form can ask for that
# too, in a second. What InfoNCE has besides is that it needs no inverse of a matrix, and goes on to towers
# that are not linear.
#
# The head of the opening (a rate of 0.003 and dropout 0.3, chosen by nothing) also names *categories*
# that it was not trained to name, from prompts:

# %% tags=["hide-input", "check", "skip"]
classes = values_of("121.2a.emoji", "classes", "majority")
if classes:
    least = min(values["least"] for values in classes["classes"].values())
    say(
        "| drawings | worst prompt | best prompt | all four | largest class |\n|---|---|---|---|---|\n"
        + "\n".join(
            f"| {STYLE[s]} | {v['least']:.1%} | {v['best']:.1%} | {v['all']:.1%} | "
            f"{classes['majority']:.1%} |"
            for s, v in classes["classes"].items()
        )
        + "\n\nAccuracy in ten categories, on the 400 unseen concepts of one split. The best prompt is known "
        "afterwards only; an ensemble needs no such knowledge."
    )
    claim(
        "Even the worst prompt is above the largest class: {least:.1%} against {majority:.1%}.",
        least > classes["majority"],
        least=least,
        majority=classes["majority"],
    )
else:
    say("This table is not recorded yet.")

# %% [markdown] tags=["slide"]
# ### Locked towers
#
# Between a head on two frozen encoders and training everything there is **LiT**
# {cite:p}`zhai2022lit`: lock a good vision tower, train the text tower to it. The authors reach 85.2 % on
# ImageNet without its labels, more than by training both towers or by fine-tuning both. The vision tower has seen
# cleaner labels than captions are, and keeps what it knows.

# %% [markdown] tags=["slide"]
# ## How many negatives?
#
# A picture's right caption competes with $B - 1$ wrong ones. Among few, the colour settles the
# matter; among many, only the whole sentence does. CLIP takes a batch of 32,768. But a batch's
# size changes two things at once: the number of negatives, and the number of steps that a given
# number of pairs allows. We keep the steps equal. All runs below see the same pairs in the same number of
# steps of 512; only the *groups* differ within which pairs are compared. (A group of 64 in a batch of 512
# is what eight GPUs compute that do not exchange their features.)
#
# **SigLIP** {cite:p}`zhai2023siglip` drops the competition. Each of the $B^2$ pairs is a question of
# its own, with a sigmoid in place of the softmax:
#
# $$
# L_{\text{sig}} = -\frac{1}{B} \sum_{i,j} \log \sigma\bigl(z_{ij}(t\, x_i^\top y_j + b)\bigr),
# \qquad z_{ij} = \pm 1 .
# $$ (eq-siglip)
#
# No sum couples a row any more, so the square can be computed in blocks that need not know of each
# other. The bias $b$ starts at $-10$: nearly all pairs are wrong, and the first steps should not be
# spent on learning that.

# %%
show_source(siglip_loss)

# %% [markdown] tags=["skip"]
# {{exercise 121.2a.sigmoid-loss}}

# %% [markdown] tags=["skip"]
# The contest: a convolutional tower of three stages and a text transformer of two blocks, from
# scratch on 131,072 scenes. Each contestant tries 4 rates with one seed, over the whole length; the rate
# with the best R@1 on validation scenes runs with 3 seeds. SigLIP begins as in its paper, with a scale of 10
# and $b = -10$. Beside CLIP's forms stand a **bag of words** (the same vision
# tower, trained to say which words the caption has, the baseline of CLIP's figure 2) and ridge
# regression from pixels to words.

# %% tags=["gpu", "hide-input"] name="scenes"
from dlcourse.multimodal_fusion.experiments.clip_scenes import Sizes, compare

scenes = compare(Sizes(), torch.device("cuda"), progress=print)
keep(**scenes)

# %% tags=["hide-input", "check", "skip"]
contest = values_of("121.2a.scenes", "results", "test", "step seconds")
NEGATIVES = {15: ", 15 negatives", 63: ", 63 negatives", Sizes().batch - 1: ""}


def r1(name, which="unseen"):
    """Mean of both directions' R@1, for each seed."""
    row = contest["results"][name]
    return [(a + b) / 2 for a, b in zip(row[f"{which} i2t@1"], row[f"{which} t2i@1"])]


if contest:
    runs = {n: row for n, row in contest["results"].items() if n != "untrained"}
    say(
        "| contestant | R@1 seen | R@1 unseen | zero-shot seen | zero-shot unseen | 1/τ |\n"
        "|---|---|---|---|---|---|\n"
        + "\n".join(
            f"| {n} | {spread(r1(n, 'seen'))} | {spread(r1(n))} | {spread(row['zero-shot seen'])} | "
            f"{spread(row['zero-shot unseen'])} | "
            + (f"{statistics.mean(row['scale']):.0f} |" if "scale" in row else "– |")
            for n, row in runs.items()
        )
        + "\n| chance | {chance:.3f} | {chance:.3f} | 2.8 | 2.8 | |\n\nPer cent, mean ± standard deviation of 3 "
        "seeds, {steps} steps of {batch} pairs. R@1 (mean of both directions) among {test:,} scenes with two objects; zero-shot: colour and shape "
        "of one object, of 36. *Unseen*: every object has a pair of colour and shape that training never "
        "showed.",
        steps=contest["steps"],
        batch=contest["batch"],
        chance=100 / contest["test"],
        test=contest["test"],
    )
else:
    say("The contest is not recorded yet.")

# %% mystnb={"figure": {"caption": "R@1 on unseen combinations against the number of wrong captions that each picture is compared with, for the same pairs in the same number of steps; mean and standard deviation of 3 seeds.", "name": "fig-clip-negatives"}, "image": {"alt": "Retrieval on unseen combinations against the number of negatives from 15 to 511, on a logarithmic axis, a line for CLIP and one for SigLIP."}} tags=["hide-input", "plot"]
if contest:
    fig, ax = plt.subplots()
    for name, color, style in (("CLIP", "tab:blue", "o-"), ("SigLIP", "tab:orange", "s--")):
        values = 100 * np.array([r1(name + suffix) for suffix in NEGATIVES.values()])
        ax.errorbar(
            list(NEGATIVES), values.mean(1), values.std(1, ddof=1),
            fmt=style, color=color, capsize=3, label=name,
        )  # fmt: skip
    ax.set(xscale="log", xlabel="negatives a picture", ylabel="R@1, unseen combinations (%)")
    ax.set_xticks(list(NEGATIVES), [f"{n:,}" for n in NEGATIVES])
    ax.minorticks_off()  # their labels would overlap ours
    ax.legend()
    plt.show()

# %% tags=["hide-input", "check", "skip"]
if contest:
    most = max(NEGATIVES)
    names = [n for n in runs if n not in ("pixels, ridge", "bag of words")]
    hardly = [n for n in names if statistics.mean(r1(n, "seen")) < 10 / contest["test"]]
    edges = {"lower": [], "upper": []}
    for name, row in runs.items():
        tried = sorted(map(float, row["tuning"]))
        if row["rate"] == tried[0]:
            edges["lower"].append(name)
        elif row["rate"] == tried[-1]:
            edges["upper"].append(name)
    say(
        "On unseen combinations (R@1, differences over the same seeds, 95 % interval):\n\n"
        "- CLIP with {most} negatives against 15: {clip}; against 63: {clip63}. 63 against 15: {c63}.\n"
        "- SigLIP with {most} negatives against 15: {siglip}; against 63: {siglip63}.\n"
        "- SigLIP against CLIP, with {most} negatives: {many}; with 15: {few}.\n"
        "- A fixed τ = 1 against the learned one: {one}.\n"
        "- The bag of words against CLIP: {words}.\n\n"
        "After {steps} steps the scale of SigLIP is {scale:.1f}, from 10 at the start. Hardly trained, with less "
        "than ten times chance on seen combinations: {hardly}. The rate that was chosen lies at the lower edge "
        "of the grid ({rates}) for: {lower}; at the upper edge for: {upper}. Of these we don't know what a "
        "rate beyond the grid would give.\n\n"
        "In *zero-shot* the pixels' ridge has {ridge} % and the bag of words {bag} % on **seen** pairs of colour "
        "and shape, and CLIP {zero} %; on **unseen** ones {ridge_u}, {bag_u} and {zero_u} %.",
        most=most,
        clip=verdict(r1("CLIP"), r1("CLIP, 15 negatives")),
        clip63=verdict(r1("CLIP"), r1("CLIP, 63 negatives")),
        c63=verdict(r1("CLIP, 63 negatives"), r1("CLIP, 15 negatives")),
        siglip=verdict(r1("SigLIP"), r1("SigLIP, 15 negatives")),
        siglip63=verdict(r1("SigLIP"), r1("SigLIP, 63 negatives")),
        many=verdict(r1("SigLIP"), r1("CLIP")),
        few=verdict(r1("SigLIP, 15 negatives"), r1("CLIP, 15 negatives")),
        one=verdict(r1("CLIP, τ = 1 fixed"), r1("CLIP")),
        words=verdict(r1("bag of words"), r1("CLIP")),
        steps=contest["steps"],
        scale=statistics.mean(contest["results"]["SigLIP"]["scale"]),
        hardly="; ".join(hardly) or "none",
        rates=", ".join(f"{rate:g}" for rate in contest["rates"]),
        lower="; ".join(edges["lower"]) or "none",
        upper="; ".join(edges["upper"]) or "none",
        ridge=spread(runs["pixels, ridge"]["zero-shot seen"]),
        bag=spread(runs["bag of words"]["zero-shot seen"]),
        zero=spread(runs["CLIP"]["zero-shot seen"]),
        ridge_u=spread(runs["pixels, ridge"]["zero-shot unseen"]),
        bag_u=spread(runs["bag of words"]["zero-shot unseen"]),
        zero_u=spread(runs["CLIP"]["zero-shot unseen"]),
    )

# %% [markdown] tags=["slide"]
# ## What it does not understand
#
# "A red square left of a blue circle" and "a blue circle left of a red square" have the same words.
# The batch hardly ever holds both, so a model that ignores the order pays little. Yuksekgonul et al.
# find that CLIP and its like behave as bags of words on such pairs, and mend a part of it with
# swapped captions as extra negatives {cite:p}`yuksekgonul2023bow`. On Winoground's 400 pairs of
# pairs {cite:p}`thrush2022winoground`, CLIP (ViT-B/32) picks the right
# texts for both pictures of a pair in 30.8 % of the cases, where guessing gives 25.
#
# We ask each model the same: does the right caption fit better than one with another colour, with
# the colours exchanged, with the objects exchanged? A guess is right half of the time.

# %% mystnb={"figure": {"caption": "How often the right caption is rated above a wrong one, mean and standard deviation of 3 seeds. The dashed line is a guess.", "name": "fig-clip-order"}, "image": {"alt": "Three groups of bars, for captions with another colour, with exchanged colours and with exchanged objects; in each a bar for CLIP, CLIP with swapped captions as negatives, SigLIP and a bag of words."}} tags=["hide-input", "plot"]
ASKED = {"replaced": "another colour", "swapped colours": "colours exchanged", "swapped objects": "objects exchanged"}
JUDGES = ("CLIP", "CLIP and swapped captions", "SigLIP", "bag of words")
if contest:
    fig, ax = plt.subplots(figsize=(8, 3.2))
    for k, name in enumerate(JUDGES):
        values = 100 * np.array([contest["results"][name][key] for key in ASKED])
        ax.bar(
            np.arange(3) + 0.2 * (k - 1.5), values.mean(1), 0.18,
            yerr=values.std(1, ddof=1), capsize=2, label=name,
        )  # fmt: skip
    ax.axhline(50, color="0.4", ls="--", lw=1)
    ax.set_xticks(range(3), ASKED.values())
    ax.set(ylabel="right caption wins (%)", ylim=(0, 105))
    ax.legend(fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.17))
    plt.show()
else:
    say("This comparison is not recorded yet.")

# %% tags=["hide-input", "check", "skip"]
if contest:
    order = {name: contest["results"][name]["swapped objects"] for name in JUDGES}
    say(
        "With exchanged objects CLIP is right in {clip} % of the cases. With each caption's swap among the "
        "negatives it is {swaps} %: {gain}. What that costs or brings in retrieval on unseen combinations: "
        "{cost}.",
        clip=spread(order["CLIP"]),
        swaps=spread(order["CLIP and swapped captions"]),
        gain=verdict(order["CLIP and swapped captions"], order["CLIP"]),
        cost=verdict(r1("CLIP and swapped captions"), r1("CLIP")),
    )
    kinds = {key: contest["results"]["CLIP"][key] for key in ("swapped colours", "swapped objects")}
    colours_gap, colours_half = paired(*kinds.values())
    say(
        "No negative asks CLIP for either order. Exchanged *colours* it tells in {colours} % of the cases, "
        "exchanged *objects* in {objects} %: {difference}. {reading}",
        colours=spread(kinds["swapped colours"]),
        objects=spread(kinds["swapped objects"]),
        difference=verdict(*kinds.values()),
        reading=(
            "So what is learned of the order depends on more than the negatives."
            if abs(colours_gap) > colours_half
            else "No difference between the kinds of order shows."
        ),
    )
    claim(
        "A bag of words can't tell the order: {words} %, since both captions have the same score.",
        all(v == 0.5 for v in order["bag of words"]),
        words=spread(order["bag of words"]),
    )

# %% [markdown] tags=["slide"]
# ### The modality gap
#
# Do pictures and captions really share one space? In large trained models they share it in two regions: the mean
# picture and the mean text lie far apart {cite:p}`liang2022gap`. Two untrained towers already
# give two narrow cones, and the loss does not ask to bring them together, only to have the right one *nearer*.
# Retrieval across modalities does not mind. Mixing both in one index does: texts
# are nearer to a text than pictures are.

# %% tags=["hide-input", "check", "skip"]
if contest:
    rows = contest["results"]
    say(
        "Distance of the means, of 2 at most, in our runs: untrained {before:.2f}; CLIP {clip:.2f}; "
        "fixed τ = 1 {one:.2f}; SigLIP {siglip:.2f}. {reading}",
        before=rows["untrained"]["gap"][0],
        clip=statistics.mean(rows["CLIP"]["gap"]),
        one=statistics.mean(rows["CLIP, τ = 1 fixed"]["gap"]),
        siglip=statistics.mean(rows["SigLIP"]["gap"]),
        reading=(
            "So training from scratch on scenes brings the two regions together. That they stay apart is "
            "the paper's finding about large models, and these runs do not show it."
            if statistics.mean(rows["CLIP"]["gap"]) < rows["untrained"]["gap"][0] / 2
            else "So the two regions stay apart, as in the paper."
        ),
    )
else:
    say("The gaps of our runs are not recorded yet.")

# %% [markdown] tags=["slide"]
# ## At scale
#
# ### Many GPUs
#
# Averaging gradients does not give a picture the captions of other GPUs. The *features* have to
# travel. Each rank compares its own pictures with all captions and its own captions with all
# pictures, so that nobody holds the whole square:

# %%
show_source(clip_loss_gathered)

# %% [markdown] tags=["skip"]
# The subtle part is the way back. `dist.all_gather` has no gradient. My caption is a negative on
# every other rank, and their losses push it; without that part the gradient is another one. So the backward
# pass sums over ranks what all of them found for my rows. Two processes over gloo then have the loss
# and the gradients of one process with the joined batch, to $10^{-10}$ in float64, and each rank has
# open_clip's (`local_loss=True, gather_with_grad=True`): both are tests. On two GPUs:

# %% tags=["gpu", "hide-input"] name="two-gpus"
from dlcourse.multimodal_fusion.experiments.clip_speed import Shape, measure_two_gpus

first = measure_two_gpus(Shape(), 1024)
print({name: value for name, value in first.items() if name != "seconds"})
for name, times in first["seconds"].items():
    print(f"{name}: {1e3 * statistics.median(times):.1f} ms a step")
keep(**first, batch=1024)

# %% tags=["hide-input", "check", "skip"]
ranks = values_of("121.2a.two-gpus", "difference", "seconds")
if ranks:
    times = {name: np.array(seconds) for name, seconds in ranks["seconds"].items()}
    scaling = 2 * np.median(times["alone"] / times["gathered"])
    gather = np.median(times["gathered"] / times["not gathered"])
    claim(
        "In float32 the gathered loss of two GPUs is {two:.6f}, that of one process {one:.6f}; the "
        "gradients differ by {difference:.0e} of the largest. Without gathering they are off by "
        "{local:.0%}.",
        abs(ranks["loss"][0] - ranks["loss"][1]) < 1e-5
        and ranks["difference"] < 1e-5
        and ranks["local"] > 10 * ranks["difference"],
        two=ranks["loss"][0],
        one=ranks["loss"][1],
        difference=ranks["difference"],
        local=ranks["local"],
    )
    say(
        "Two GPUs with {batch:,} pairs each train {scaling:.2f} times as many pairs a second as one. A step with "
        "gathered features takes {gather:.2f} times as long as one without.",
        batch=ranks["batch"],
        scaling=scaling,
        gather=gather,
    )
else:
    say("The run on two GPUs is not recorded yet.")

# %% [markdown] tags=["slide"]
# ### The square's memory
#
# $B^2$ logits in float32 are 4 GiB at $B = 32{,}768$, and the plain loss holds several such squares.
# None is needed: a softmax cross-entropy depends on the logits through the logarithm of each row's
# and column's sum, two numbers a pair. So the forward pass goes over chunks of rows and keeps those.
# The backward pass computes a chunk once more, and from it the gradient
#
# $$
# \frac{\partial L}{\partial s_{ij}} = \frac{1}{2B} \Bigl( e^{s_{ij} - r_i} + e^{s_{ij} - c_j} \Bigr)
#   - \frac{\delta_{ij}}{B} ,
# \qquad r_i = \log \sum_j e^{s_{ij}}, \quad c_j = \log \sum_i e^{s_{ij}} .
# $$ (eq-clip-gradient)

# %% tags=["gpu", "hide-input"] name="speed"
from dlcourse.multimodal_fusion.experiments.clip_speed import Shape, measure_loss, measure_training

torch.set_float32_matmul_precision("high")
device = torch.device("cuda")
BATCHES = [4096, 8192, 16384, 32768, 65536]
memory = measure_loss(BATCHES, device)
for name, rows in memory.items():
    print(name, [(row["bytes"] and round(row["bytes"] / 1e9, 2), row["seconds"]) for row in rows])
speed = measure_training(Shape(), 2048, device)
for name, times in speed["seconds"].items():
    print(f"{name}: {2048 / statistics.median(times):.0f} pairs a second, {speed['first loss'][name]:.4f}")
keep(batches=BATCHES, memory=memory, context=Shape().context, **speed)

# %% mystnb={"figure": {"caption": "Peak memory of the loss, forward and backward, above that of the features. A missing point did not fit into the GPU.", "name": "fig-clip-memory"}, "image": {"alt": "Two logarithmic axes: memory against the number of pairs. The plain losses grow with its square, the chunked one nearly in proportion."}} tags=["hide-input", "plot"]
at_scale = values_of("121.2a.speed", "memory", "seconds", "batches")
if at_scale:
    fig, ax = plt.subplots()
    for name, style in (("open_clip", "^:"), ("plain", "s--"), ("chunks", "o-")):
        points = [
            (n, row["bytes"] / 2**30)
            for n, row in zip(at_scale["batches"], at_scale["memory"][name])
            if row["bytes"]
        ]
        ax.plot(*zip(*points), style, label=name)
    ax.set(xscale="log", yscale="log", xlabel="pairs a batch", ylabel="peak memory of the loss (GiB)")
    ax.set_xticks(at_scale["batches"], [f"{n:,}" for n in at_scale["batches"]], fontsize=8)
    ax.minorticks_off()
    ax.legend()
    plt.show()

# %% tags=["hide-input", "check", "skip"]
if at_scale:
    at = at_scale["batches"].index(32768)
    peak = {n: rows[at]["bytes"] for n, rows in at_scale["memory"].items()}
    late = {n: rows[at]["seconds"] for n, rows in at_scale["memory"].items()}
    early = {n: rows[0]["seconds"] for n, rows in at_scale["memory"].items()}
    claim(
        "At 32,768 pairs open_clip's loss takes {theirs:.1f} GiB and {theirs_ms:.0f} ms, ours with one square "
        "{plain:.1f} GiB and {plain_ms:.0f} ms, in chunks {chunks:.1f} GiB and {chunks_ms:.0f} ms. At "
        "{least:,} pairs they take {early_theirs:.1f}, {early_plain:.1f} and {early_chunks:.1f} ms: chunks are "
        "for large batches.",
        all(p is None or peak["chunks"] < p / 3 for n, p in peak.items() if n != "chunks"),
        theirs=(peak["open_clip"] or math.nan) / 2**30,
        theirs_ms=1e3 * (late["open_clip"] or math.nan),
        least=at_scale["batches"][0],
        early_theirs=1e3 * early["open_clip"],
        early_plain=1e3 * early["plain"],
        early_chunks=1e3 * early["chunks"],
        plain=(peak["plain"] or math.nan) / 2**30,
        plain_ms=1e3 * (late["plain"] or math.nan),
        chunks=peak["chunks"] / 2**30,
        chunks_ms=1e3 * late["chunks"],
    )
    seconds = {n: np.array(t) for n, t in at_scale["seconds"].items()}
    losses = list(at_scale["first loss"].values())
    best_peer = min(("open_clip", "open_clip, compiled"), key=lambda n: np.median(seconds[n]))

    def ratio(name, to):
        r = seconds[to] / seconds[name]
        return f"{np.median(r):.2f} ({r.min():.2f} to {r.max():.2f})"

    say(
        "| training step | pairs a second | to open_clip | to the faster open_clip |\n|---|---|---|---|\n"
        + "\n".join(
            f"| {n} | {at_scale['batch'] / np.median(t):,.0f} | {ratio(n, 'open_clip')} | "
            f"{ratio(n, best_peer)} |"
            for n, t in seconds.items()
        )
        + "\n\nOne model (the shape of ViT-S/32), the same weights and {batch:,} random pairs, bfloat16, fused AdamW, "
        "steps in turn: median (least to most). The first losses of all forms lie within {gap:.4f} nats. "
        "Captions have 8 to {longest} tokens of a context of {context}; “cut” leaves out what follows the "
        "longest, which changes no result. How much that saves depends on the captions.",
        batch=at_scale["batch"],
        gap=max(losses) - min(losses),
        longest=at_scale["longest"],
        context=at_scale["context"],
    )
else:
    say("Memory and speed are not recorded yet.")

# %% [markdown] tags=["skip"]
# Towers fill memory before the loss does. GradCache {cite:p}`gao2021gradcache` computes features in
# small batches without a graph, takes the loss's gradient for each feature, and then passes
# through the towers once more, batch by batch: large batches on one GPU, for one more forward pass.

# %% [markdown] tags=["slide"]
# ## The papers' numbers
#
# | model | pairs | ImageNet, zero-shot | source |
# |---|---|---|---|
# | CLIP ViT-L/14, 336 px | 400 million | 76.2 % | {cite:p}`radford2021clip` |
# | ALIGN | 1.8 billion, noisy | 76.4 % | {cite:p}`jia2021align` |
# | LiT, locked ViT-g/14 | 4 billion | 85.2 % | {cite:p}`zhai2022lit` |
# | SigLiT, locked ViT-g/14, four TPUv4 for two days | – | 84.5 % | {cite:p}`zhai2023siglip` |
#
# SigLIP's authors find that gains end at a batch of about 32,000, for both losses. Our scenes say
# nothing about such sizes: some 190,000 captions are all that they can have. Our numbers show mechanisms, not
# rankings.
#
# **CLAP** is the same with sounds in the place of pictures. Microsoft's learns from 128,000 sounds with
# captions and names 82.6 % of ESC-50's clips without its labels {cite:p}`elizalde2023clap`. Nothing in
# equation {eq}`eq-clip-loss` knows what a picture is.

# %% [markdown] tags=["slide"]
# ## Slips that still run
#
# The code that this section began with has the right loss, for one process. Around it:
#
# **It is no module.** Its projections are plain attributes, so no optimizer finds them:

# %% tags=["nbval-check-output"]
class PlainCLIP:  # not nn.Module
    def __init__(self):
        self.vision_proj, self.temperature = nn.Linear(8, 4), 0.07


print("plain class has parameters():", hasattr(PlainCLIP(), "parameters"))
model = CLIP(*(type("Tower", (nn.Identity,), {"embed_dim": 8})() for _ in range(2)), 4)
print("module's parameters:", [name for name, _ in model.named_parameters()])

# %% [markdown] tags=["skip"]
# **The temperature is a constant.** How large the scale has to be depends on the batch and on how
# well the features are spread; the exercise at the top has the extreme case. The listing's τ = 0.07 is where
# ours begins.

# %% tags=["hide-input", "skip"]
if contest:
    say(
        "In the contest above CLIP's scale went from {start:.1f} to {end:.1f}; with τ fixed at 1, R@1 on unseen "
        "combinations is {one} %, with the learned one {learned} %.",
        start=1 / CONTESTANTS["CLIP"].temperature,
        end=statistics.mean(contest["results"]["CLIP"]["scale"]),
        one=spread(r1("CLIP, τ = 1 fixed")),
        learned=spread(r1("CLIP")),
    )

# %% [markdown] tags=["skip"]
# **It sees local negatives alone.** On several processes it answers an easier question:

# %% tags=["hide-input", "check"]
g = torch.Generator().manual_seed(0)
x = F.normalize(torch.randn(64, 16, generator=g), dim=1)
y = F.normalize(x + 0.2 * torch.randn(64, 16, generator=g), dim=1)
whole = clip_loss(x, y, 14.3).item()
local = statistics.mean(clip_loss(a, b, 14.3).item() for a, b in zip(x.split(8), y.split(8)))
claim(
    "The same 64 pairs: as one batch the loss is {whole:.2f}, as the mean over 8 processes that do not gather "
    "{local:.2f}.",
    local < 0.7 * whole,
    whole=whole,
    local=local,
)

# %% [markdown] tags=["skip"]
# **The towers return more than it expects.** A vision transformer of `transformers` gives an object
# with a vector for each patch. CLIP needs one vector an input, and ours says so:

# %% tags=["nbval-check-output"]
class Patches(nn.Identity):
    embed_dim = 8


try:
    CLIP(Patches(), Patches(), 4).encode_image(torch.zeros(2, 49, 8))
except ValueError as error:
    print(error)

# %% [markdown] tags=["skip"]
# ## Limits
#
# - Our scenes have no background, no rare words and no noise in the captions. The emoji are drawings, 1,503 of
#   them.
# - One picture counts as wrong for every caption but its own. On the web many fit.
# - Zero-shot accuracy depends on the prompts; choosing them on the test set is a leak.
# - What the web says about people is learned along with everything else. The paper's section 7 measures some of it.
# - At work: `open_clip` trains, and has the weights of many models; `transformers` runs them, SigLIP among
#   them. Take their tokenizers with them: a text tower knows no other.

# %% [markdown] tags=["skip"]
# ## Quiz

# %% [markdown] tags=["skip"]
# {{quiz 121.2a}}

# %% [markdown] tags=["slide"]
# ## Summary
#
# - Two towers, one space: a picture is near the text that belongs to it, among all of the batch.
# - The loss is two cross-entropies over one square of cosines, times a scale that is learned.
# - Class names in prompts are the rows of a classifier; an ensemble of prompts is a mean of vectors.
# - More negatives make the question harder; whether that helps is to be measured at equal steps. On several
#   GPUs features are gathered, with their gradients.
# - Nothing makes sure that what no negative asks for is learned: the order of words is the standard example.
#
# References: each citation above leads to its source; the
# {doc}`bibliography </book/bibliography>` lists them all.
