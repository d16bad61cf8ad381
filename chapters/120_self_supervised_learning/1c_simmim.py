# %% [markdown] tags=["slide"]
# (sec-120-1c)=
# # 120.1c SimMIM: guess what is hidden
#
# Hide more than half of a picture, and train a network to paint what is missing. It needs no
# labels, and the network needs to know something about pictures. **SimMIM** is the simplest form of
# this idea that works: mask tokens, one linear layer, and an absolute error. At the end of this
# section you can say what makes the task hard enough to be worth learning, build it without letting
# the answer leak into the question, and judge an encoder that was trained with it, also where it
# gains nothing.
#
# You need: Python, a first course in deep learning (the transformer, attention), and no GPU.

# %% tags=["definitions", "hide-input", "skip"]
import copy
import statistics

import matplotlib.pyplot as plt
import numpy as np
import torch

from dlcourse.datasets import shapes
from dlcourse.measure import measure_step
from dlcourse.notebook import (
    claim,
    explore,
    keep,
    recorded,
    say,
    show_source,
)
from dlcourse.self_supervised_learning import (
    SimMIM,
    VisionTransformer,
    block_mask,
    masked_l1,
    patchify,
    pixel_mask,
    pretrain,
    unpatchify,
)
from dlcourse.self_supervised_learning.experiments.masked_autoencoder_runs import (
    as_pictures,
    standardised,
)
from dlcourse.self_supervised_learning.experiments.painting import (
    linear_guess,
)
from dlcourse.self_supervised_learning.experiments.simmim_grid import (
    ratio_and_block,
)
from dlcourse.self_supervised_learning.experiments.simmim_runs import (
    FACTORS,
    PATCH,
    SIZE,
    fine_tuned,
    frozen,
    small_encoder,
    train_simmim,
    unlabelled_pictures,
)
from dlcourse.self_supervised_learning.simmim.nearest import (
    average_distance,
    fill_from_nearest,
)

plt.style.use("dlcourse.notebook.course")
COLOR = {
    "pixels": "0.5",
    "random encoder": "tab:brown",
    "SimMIM, pixels": "tab:blue",
    "SimMIM, normalised": "tab:green",
}
SHARES = ("2", "10", "100")  # per cent of 2,000 labels
GUESS = {"shape": 100 / 8, "hue": 100 / 6, "texture": 100 / 4}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def show_images(rows, names, title=None, scale=0.95):
    """Rows of pictures (n, 3, H, W), each row with a name at its left."""
    n = len(rows[0])
    fig, axes = plt.subplots(
        len(rows),
        n,
        figsize=(1.3 + scale * n, scale * len(rows) + 0.3),
        squeeze=False,
    )
    for line, images, name in zip(axes, rows, names, strict=True):
        for ax, image in zip(line, images, strict=True):
            ax.imshow(
                image.permute(1, 2, 0).clamp(0, 1), interpolation="nearest"
            )
            ax.set(xticks=[], yticks=[])
            for side in ax.spines.values():
                side.set_visible(False)
        line[0].set_ylabel(
            name, rotation=0, ha="right", va="center", fontsize=9
        )
    fig.suptitle(title, fontsize=10)
    return fig

# %% [markdown] tags=["slide"]
# ## A question
#
# Here are four painted pictures, 64 × 64 pixels, with 60 % of their pixels hidden: once in blocks
# of 2 pixels, once in blocks of 16. The rows below the masks are not made by a network. Each hidden
# pixel is a copy of the nearest visible one. How good is a guess that has learned nothing?

# %% tags=["skip"]
pictures = shapes(seed=1, n_train=8, n_validation=1, n_test=1, size=64).train.x


def hide(images, block, ratio, seed=0):
    """(B, 1, H, W): each image's mask of pixels; blocks of `block` pixels."""
    side = images.shape[-1]
    grid = side // block, side // block
    mask = block_mask(len(images), grid, 1, ratio, seeded(seed))
    return pixel_mask(mask, block, (side, side))


def masked_and_filled(images, hidden):
    """The pictures with grey for what is hidden, and with the nearest pixels in its place."""
    masked = torch.where(hidden.bool(), torch.tensor(0.75), images)
    filled = [
        fill_from_nearest(image, m[0])
        for image, m in zip(images, hidden, strict=True)
    ]
    return masked, torch.stack(filled)


rows, names, naive = [], [], {}
for block in (2, 16):
    hidden = hide(pictures, block, 0.6)
    masked, filled = masked_and_filled(pictures, hidden)
    naive[block] = masked_l1(filled, pictures, hidden).item()
    rows += [masked[:4], filled[:4]]
    names += [f"hidden, {block} px", "nearest pixel"]

# %% mystnb={"figure": {"caption": "The same pictures, 60 % hidden. With blocks of 2 pixels, copying the nearest visible pixel restores them nearly; with blocks of 16 it does not.", "name": "fig-simmim-question"}, "image": {"alt": "Five rows of four pictures: coloured shapes on patterned grounds; the same with a fine grey mask; restored from it, nearly as before; with a coarse grey mask; restored from that, in large wrong patches."}} tags=["hide-input", "plot"]
show_images([pictures[:4], *rows], ["picture", *names])
plt.show()

# %% tags=["hide-input", "check"]
spread = masked_l1(
    pictures.mean((2, 3), keepdim=True).expand_as(pictures),
    pictures,
    hide(pictures, 2, 0.6),
).item()
claim(
    "Mean absolute error over hidden pixels, on a scale from 0 to 1:"
    " {small:.3f} for blocks of 2 pixels, {large:.3f} for blocks of 16."
    " Painting each picture in its mean colour has {mean:.3f}.",
    naive[2] < 0.6 * naive[16] and naive[2] < spread,
    small=naive[2],
    large=naive[16],
    mean=spread,
)

# %% [markdown] tags=["skip"]
# The ratio is the same in both. With small blocks, a network that copies neighbours has little left
# to learn. With large ones, it pays to know that a stripe goes on, that a disc is round, and what a
# star looks like.

# %% [markdown] tags=["slide"]
# ## The idea
#
# **Masked image modelling** takes a picture $x$, hides a set $M$ of its patches, and asks for their
# pixels. SimMIM {cite:p}`xie2022simmim` does so with the least machinery:
#
# 1. Cut the picture into patches and embed each: $e_1, \dots, e_N$.
# 2. Replace what is hidden by one learned vector, the **mask token** $t$, and add the positions
#    $p_i$.
# 3. Let a transformer read all $N$ tokens.
# 4. One linear layer turns each token $h_i$ of the last layer into the pixels of its patch.
#
# $$
# \tilde e_i &= \begin{cases} t + p_i & i \in M \\ e_i + p_i & i \notin M \end{cases}
# \\
# (h_1, \dots, h_N) &= \operatorname{encoder}(\tilde e_1, \dots, \tilde e_N), \qquad
# \hat x_i = W h_i + b
# $$ (eq-simmim-tokens)
#
# and the loss is the absolute error over the hidden pixels only, divided by $\Omega$, the number of
# their values (pixels times channels):
#
# $$
# \mathcal L = \frac{1}{\Omega(x_M)}\, \lVert \hat x_M - x_M \rVert_1 .
# $$ (eq-simmim-loss)
#
# After training, the head is thrown away; the encoder is what we wanted. Every choice in this list
# has a reason. Let us go through them.

# %% [markdown] tags=["skip"]
# :::{diagram} figures/1c_simmim.svg
# ---
# name: fig-simmim
# alt: A picture of nine patches, five of them hidden. Each patch becomes a token; a hidden one
#   becomes the mask token plus its position. The encoder reads all tokens, one linear layer paints
#   every patch, and the loss compares the hidden ones with the original.
# ---
# SimMIM. All tokens pass the encoder, those of hidden patches as copies of one mask token.
# :::

# %% [markdown] tags=["slide"]
# ### How far is the nearest clue?
#
# A ratio alone does not say how hard a mask is. The authors measure a mask by its **AvgDist**: the
# distance from a hidden pixel to the nearest visible one, averaged over the hidden pixels. On their
# pictures of 192 pixels, values of 10 to 20 pixels did best; blocks of 32 pixels and a ratio of 0.6
# are there {cite:p}`xie2022simmim`. Too near, and neighbours give the answer away; too far, and
# there is nothing to reason from.

# %%
NAIVE_BLOCKS, NAIVE_RATIOS = [2, 4, 8, 16], [0.2, 0.4, 0.6, 0.8]


def draw_interpolation(mask_patch_size, mask_ratio):
    picture = pictures[1:2]
    hidden = hide(picture, mask_patch_size, mask_ratio)
    masked, filled = masked_and_filled(picture, hidden)
    error = (
        (filled - picture).abs().mean(1, keepdim=True).expand(-1, 3, -1, -1)
    )
    fig, axes = plt.subplots(1, 4, figsize=(7, 2.1))
    panels = [
        (picture, "picture"),
        (masked, "hidden"),
        (filled, "nearest pixel"),
        (error, "error"),
    ]
    for ax, (image, name) in zip(axes, panels, strict=True):
        ax.imshow(image[0].permute(1, 2, 0), vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
        ax.set_title(name, fontsize=9)
    fig.suptitle(
        f"AvgDist {average_distance(hidden[0, 0]):.1f} px, "
        f"mean error {masked_l1(filled, picture, hidden):.3f}",
        fontsize=10,
    )
    return fig


explore(
    draw_interpolation,
    {"mask_patch_size": NAIVE_BLOCKS, "mask_ratio": NAIVE_RATIOS},
    initial={"mask_patch_size": 8, "mask_ratio": 0.6},
    name="What neighbours give away",
    alt=lambda mask_patch_size, mask_ratio: (
        f"A picture, the same with {mask_ratio:.0%} hidden in blocks of"
        f" {mask_patch_size} pixels, the hidden pixels filled from the nearest"
        " visible ones, and the error of that."
    ),
)

# %% [markdown] tags=["skip"]
# {{exercise 120.1c.predict-interpolation}}

# %% mystnb={"figure": {"caption": "The error of copying the nearest visible pixel against the AvgDist of the mask, for 4 sizes of block and 4 ratios, mean over 4 pictures. Both ways to make a mask harder move along one curve.", "name": "fig-simmim-avgdist"}, "image": {"alt": "Points of mean absolute error over average distance in pixels, on a logarithmic axis. They rise along one curve with the distance, toward the dotted line of the mean colour."}} tags=["hide-input", "plot", "skip"]
fig, ax = plt.subplots(figsize=(5.5, 3))
curve = {}
for block, marker in zip(NAIVE_BLOCKS, "osD^", strict=True):
    for ratio in NAIVE_RATIOS:
        hidden = hide(pictures[:4], block, ratio)
        _, filled = masked_and_filled(pictures[:4], hidden)
        curve[block, ratio] = (
            np.mean([average_distance(m[0]) for m in hidden]),
            masked_l1(filled, pictures[:4], hidden).item(),
        )
    x, y = zip(*(curve[block, ratio] for ratio in NAIVE_RATIOS), strict=True)
    ax.plot(x, y, marker, label=f"{block} px")
ax.axhline(spread, color="0.6", ls=":", label="mean colour")
ax.set(
    xlabel="AvgDist (pixels)",
    ylabel="mean absolute error",
    xscale="log",
    ylim=(0, None),
)
ax.set_xticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
ax.legend(
    title="blocks of",
    frameon=False,
    fontsize=8,
    loc="center left",
    bbox_to_anchor=(1, 0.5),
)
plt.show()

# %% tags=["hide-input", "check"]
ranks = np.argsort(np.argsort(np.array(list(curve.values())), axis=0), axis=0)
correlation = np.corrcoef(ranks.T)[0, 1]
claim(
    "Over the {n} masks, AvgDist and the error of the naive guess have a rank"
    " correlation of {r:.2f}.",
    correlation > 0.9,
    n=len(curve),
    r=correlation,
)

# %% [markdown] tags=["skip"]
# {{exercise 120.1c.average-distance}}

# %% [markdown] tags=["slide"]
# ### Hide before the encoder
#
# The loss looks at hidden patches only. Is it then not enough to leave the picture as it is and to
# *score* the hidden part? Train both for a moment: one encoder with mask tokens, one that sees
# everything. (16 × 16 pixels from here on: small pictures for a small computer.)

# %% tags=["skip", "hide-input"]
class Seeing(SimMIM):
    """The same with the hole: hidden in the loss, in full view of the encoder."""

    def forward(self, images, mask=None, generator=None):
        mask = block_mask(
            len(images), self.encoder.grid, 1, self.mask_ratio, generator
        )
        tokens = self.encoder.forward_features(images)[:, 1:]  # no mask
        prediction = unpatchify(self.head(tokens), PATCH, (SIZE, SIZE))
        hidden = pixel_mask(mask, PATCH, (SIZE, SIZE))
        return masked_l1(prediction, images, hidden), prediction, mask


unlabelled = standardised(unlabelled_pictures())
simmim, history = train_simmim(unlabelled_pictures(), seed=0)
seeing = Seeing(small_encoder(0), 0.6, PATCH, generator=seeded(0))
seeing_history = pretrain(
    seeing,
    lambda indices, generator: seeing(
        unlabelled[indices], generator=generator
    )[0],
    len(unlabelled),
    steps=200,
    batch_size=64,
    lr=6e-3,
)
STD = as_pictures(torch.tensor(1.0)) - as_pictures(torch.tensor(0.0))

# %% mystnb={"figure": {"caption": "Loss of SimMIM, and of the same model whose encoder sees what the loss calls hidden; running mean over 20 steps. Copying is enough for the low curve.", "name": "fig-simmim-leak"}, "image": {"alt": "Two falling curves of loss against step. The encoder that sees everything goes far below the one that does not."}} tags=["hide-input", "plot"]
fig, ax = plt.subplots(figsize=(7, 2.6))
for losses, label, color in [
    (history, "hidden before the encoder", "tab:blue"),
    (seeing_history, "seen by the encoder", "tab:red"),
]:
    smooth = np.convolve(
        np.array(losses) * STD.item(), np.ones(20) / 20, mode="valid"
    )
    ax.plot(np.arange(len(smooth)) + 20, smooth, color=color, label=label)
ax.set(xlabel="step", ylabel="mean absolute error (of 1)", ylim=(0, None))
ax.legend()
plt.show()

# %% tags=["hide-input", "check"]
hiding_end, seeing_end = (  # each at the end of its own schedule
    np.mean(h[-50:]) * STD.item() for h in (history, seeing_history)
)
own = patchify(unlabelled[:64], PATCH)  # (64, N, p·p·3)
others = own.roll(1, 0)  # each picture beside another one
alone = []
with torch.no_grad():
    for n in range(own.shape[1]):  # patch n, among the patches of the other picture
        mixed = unpatchify(
            torch.cat([others[:, :n], own[:, n : n + 1], others[:, n + 1 :]], 1),
            PATCH,
            (SIZE, SIZE),
        )
        painted = seeing.head(seeing.encoder.forward_features(mixed)[:, 1 + n])
        alone.append((painted - own[:, n]).abs().mean().item() * STD.item())
claim(
    "The encoder that sees everything ends with an error of {seeing:.3f} after"
    " {few} steps, the one that must guess with {hiding:.3f} after {more}. A lower"
    " loss, and a task"
    " of copying: even with all *other* patches exchanged for those of another"
    " picture it paints a patch with an error of {alone:.3f}.",
    seeing_end < 0.6 * hiding_end and np.mean(alone) < 0.6 * hiding_end,
    seeing=seeing_end,
    few=len(seeing_history),
    more=len(history),
    hiding=hiding_end,
    alone=np.mean(alone),
)

# %% [markdown] tags=["skip"]
# So the loss cannot warn you. A test can: change the hidden pixels, and the prediction must not
# change by a bit. We make it below. Whoever builds this with convolutions has more to watch: there,
# a hidden pixel can enter through the neighbours' receptive fields.

# %% [markdown] tags=["skip"]
# {{exercise 120.1c.mask-tokens}}

# %% [markdown] tags=["slide"]
# ### Absolute error: the median, not the mean
#
# What is hidden is seldom determined by what is visible. If a pixel is black in 70 % of the
# pictures that agree with the visible part, and white in 30 %, a regression must give *one* answer:

# %% mystnb={"figure": {"caption": "Expected loss of one guess for a pixel that is 0 in 70 % of the cases and 1 in 30 %. The squared error is least at the mean, 0.3, a grey that never occurs; the absolute error at the median, 0.", "name": "fig-simmim-median"}, "image": {"alt": "Two curves of expected loss over the guess from 0 to 1: a straight line that is least at 0, and a parabola that is least at 0.3."}} tags=["hide-input", "plot"]
guess = np.linspace(0, 1, 201)
expected = {
    "absolute": 0.7 * guess + 0.3 * (1 - guess),
    "squared": 0.7 * guess**2 + 0.3 * (1 - guess) ** 2,
}
fig, ax = plt.subplots(figsize=(5.5, 2.6))
for name, values in expected.items():
    (line,) = ax.plot(guess, values, label=f"{name} error")
    ax.plot(guess[values.argmin()], values.min(), "o", color=line.get_color())
ax.set(xlabel="guess", ylabel="expected loss", ylim=(0, 0.75))
ax.legend()
plt.show()

# %% tags=["hide-input", "check"]
best = {name: guess[values.argmin()] for name, values in expected.items()}
claim(
    "The best guess is {a:.1f} for the absolute and {s:.1f} for the squared"
    " error.",
    best["absolute"] == 0 and abs(best["squared"] - 0.3) < 0.01,
    a=best["absolute"],
    s=best["squared"],
)

# %% [markdown] tags=["skip"]
# The squared error paints blur; the absolute one commits itself where one answer is likelier.
# Neither draws a *sample*: where both answers are equally likely, the median is anywhere between,
# and you will see that grey in the reconstructions. The authors found little difference between the
# two losses {cite:p}`xie2022simmim`: a good picture is not the aim.
#
# ### Why a linear head is enough
#
# The mask tokens enter at the first block, so all layers of the encoder take part in the painting,
# and the last of them can do what a decoder would. A heavier head took more time and did no better,
# says the paper. The price is that the last layers are busy with pixels: what is most useful for a
# classifier need not lie linearly in their output. The masked autoencoder of the {ref}`next section
# <sec-120-2>` turns this round: its encoder sees visible patches only, and a decoder of its own
# does the painting.

# %% [markdown] tags=["slide"]
# ## Piece by piece
#
# The mask first: the same number of blocks in each image, other blocks in each.

# %%
show_source(block_mask)

# %% [markdown] tags=["skip"]
# {{exercise 120.1c.whole-blocks}}

# %% [markdown] tags=["skip"]
# Then the loss, {eq}`eq-simmim-loss`, and the model. The encoder is that of the whole chapter; with
# a mask, its `forward_features` puts the mask token in place of hidden embeddings *before* it adds
# the positions.

# %%
show_source(masked_l1)
show_source(SimMIM.forward)

# %% [markdown] tags=["skip"]
# {{exercise 120.1c.masked-l1}}

# %% [markdown] tags=["skip"]
# Two proofs on the page. First the loss against loops in NumPy that share no line with the package;
# then the question of the leak, asked of the bits.

# %% tags=["skip"]
worst = 0.0
rng = np.random.default_rng(0)
for trial in range(10):
    model = SimMIM(small_encoder(trial), rng.uniform(0.1, 0.9), PATCH).double()
    images = torch.from_numpy(rng.normal(size=(3, 3, SIZE, SIZE)))
    with torch.no_grad():
        loss, prediction, mask = model(images, generator=seeded(trial))
    total, count = 0.0, 0
    for b, n in np.argwhere(mask.numpy() == 1):
        row, column = PATCH * (n // 4), PATCH * (n % 4)
        place = (
            b,
            slice(None),
            slice(row, row + PATCH),
            slice(column, column + PATCH),
        )
        total += np.abs(
            prediction[place].numpy() - images[place].numpy()
        ).sum()
        count += 3 * PATCH**2
    worst = max(worst, abs(loss.item() - total / count))

model = simmim
images = unlabelled[:32]
mask = block_mask(32, (4, 4), 1, 0.6, seeded(0))
hidden = pixel_mask(mask, PATCH, (SIZE, SIZE)).bool()
other = torch.where(
    hidden, torch.randn(images.shape, generator=seeded(1)), images
)
with torch.no_grad():
    loss, prediction, _ = model(images, mask)
    loss_other, prediction_other, _ = model(other, mask)
claim(
    "Over 10 random models the loss differs from the loops by at most"
    " {worst:.0e}. With other hidden pixels the trained model's prediction is"
    " the same to the bit, and its loss goes from {a:.2f} to {b:.2f}.",
    worst < 1e-12
    and torch.equal(prediction, prediction_other)
    and loss_other > loss,
    worst=worst,
    a=loss.item(),
    b=loss_other.item(),
)

# %% [markdown] tags=["skip"]
# The test suite compares loss, prediction and gradients with `ViTForMaskedImageModeling` of
# transformers, with the same weights: predictions to $10^{-12}$, the loss to $10^{-6}$ (theirs adds
# $10^{-5}$ to the number of hidden pixels), and the loss with that of its Swin form.

# %% [markdown] tags=["skip"]
# ## Details that decide
#
# 1. **Exactly $\lceil r \cdot \text{blocks} \rceil$ blocks in every image** (the authors' code).
#    With a coin for each block, some images would be nearly visible and some nearly gone, and a
#    batch of an MAE could not even be stacked.
# 2. **The mask at the resolution of the model's patches.** A block is a whole number of patches, so
#    a patch is hidden or not, never half. Blocks that do not fit are refused when the model is
#    made.
# 3. **The mask token is learned, and positions are added after it.** Without positions all hidden
#    patches are the same token, and the same patch is painted in all of them.
# 4. **Hidden pixels only.** With all pixels in the loss, most of the gradient rewards copying; the
#    authors measured a loss of accuracy {cite:p}`xie2022simmim`.
# 5. **Standardised images.** Input and target have mean 0 and deviation 1 over the data set, so
#    that one rate fits, and the head starts near 0: the first guess is the mean colour of all
#    pictures.
# 6. **The target bears on what is learned.** Most of a pixel's error is the colour of its
#    surroundings. A target that is normalised in each patch, as in the masked autoencoder
#    {cite:p}`he2022mae`, has no colour left, only pattern (`norm_target=True`). The experiment
#    below compares.
# 7. **The class token is trained by nothing but its use.** No loss asks anything of it: the patches
#    may read it or not. The authors average the patches for classification.
# 8. **Light augmentation.** A random crop and a flip suffice {cite:p}`xie2022simmim`; the mask is
#    the augmentation. We use none.
#
# Detail 3 in numbers:

# %% tags=["skip"]
lost = copy.deepcopy(simmim)
lost.encoder.position_table.zero_()
with torch.no_grad():
    _, prediction, _ = simmim(images, mask)
    _, without, _ = lost(images, mask)


def differences_between_hidden(prediction):
    """Mean distance between the patches that are painted in the first image."""
    patches = patchify(prediction, PATCH)[0][mask[0] == 1]
    return torch.pdist(patches).mean().item()


claim(
    "Between the patches that are painted into one picture lies a mean"
    " distance of {with_positions:.2f}; without positions it is {without:.2f}:"
    " one patch, painted many times.",
    differences_between_hidden(without)
    < 1e-3
    < differences_between_hidden(prediction),
    with_positions=differences_between_hidden(prediction),
    without=differences_between_hidden(without),
)

# %% [markdown] tags=["slide"]
# ## Watch it paint
#
# Pictures that the model has never seen. Move the ratio; it was trained at 0.6.

# %% tags=["hide-input", "plot"]
unseen = shapes(
    seed=0, n_train=1, n_validation=500, n_test=1, size=SIZE, max_turn=0.15
)
unseen = unseen.validation.x


@torch.no_grad()
def paint(images, ratio, block):
    """Hidden pixels by SimMIM and by the nearest visible one, and the error of each."""
    hidden = hide(images, block, ratio)
    mask = patchify(hidden, PATCH)[..., 0]
    _, prediction, _ = simmim(standardised(images), mask)
    painted = torch.where(hidden.bool(), as_pictures(prediction), images)
    masked, filled = masked_and_filled(images, hidden)
    errors = [
        masked_l1(guess, images, hidden).item() for guess in (painted, filled)
    ]
    return masked, painted, filled, errors


def draw_reconstructions(mask_ratio):
    *rows, (ours, nearest) = paint(unseen[:100], mask_ratio, PATCH)
    return show_images(
        [unseen[:7], *(row[:7] for row in rows)],
        ["picture", "hidden", "SimMIM", "nearest pixel"],
        f"mean absolute error over 100 pictures: SimMIM {ours:.3f}, nearest"
        f" pixel {nearest:.3f}",
        scale=0.75,
    )


explore(
    draw_reconstructions,
    {"mask_ratio": [0.2, 0.4, 0.6, 0.8]},
    initial={"mask_ratio": 0.6},
    name="Reconstructions under a mask",
    alt=lambda mask_ratio: (
        f"Seven pictures; the same with {mask_ratio:.0%} hidden; painted by"
        " SimMIM; filled from the nearest pixels."
    ),
)

# %% tags=["hide-input", "check"]
def one_colour(images, ratio):
    """Error of painting what is hidden in one colour a picture: the median of what is visible."""
    hidden = hide(images, PATCH, ratio)
    visible = images.masked_fill(hidden.bool(), torch.nan)
    colour = visible.flatten(2).nanmedian(-1).values[..., None, None]
    return masked_l1(colour.expand_as(images), images, hidden).item()


def linear(images, ratio):
    """Error of a linear function of the visible pixels, from SimMIM's own training pictures."""
    hidden = hide(images, PATCH, ratio)
    mask = patchify(hidden, PATCH)[..., 0]
    guess = linear_guess(unlabelled_pictures(), images, mask, PATCH)
    return masked_l1(guess.clamp(0, 1), images, hidden).item()


tested = unseen[:200]
errors = {
    ratio: (
        *paint(tested, ratio, PATCH)[-1],
        one_colour(tested, ratio),
        linear(tested, ratio),
    )
    for ratio in (0.2, 0.6, 0.8)
}
say(
    "| mean absolute error, 200 unseen pictures | "
    + " | ".join(f"{ratio:.0%} hidden" for ratio in errors)
    + " |\n|---|---|---|---|\n"
    + "\n".join(
        f"| {name} | " + " | ".join(f"{values[i]:.3f}" for values in errors.values()) + " |"
        for i, name in enumerate(
            (
                "SimMIM",
                "nearest visible pixel",
                "one colour: the median of the visible pixels",
                "linear in the visible pixels",
            )
        )
    )
)
claim(
    "SimMIM is better than copying where much is hidden. After these few hundred"
    " steps it is no better than one colour for each picture, and worse than a"
    " linear guess from the covariance of the same {n:,} pictures.",
    errors[0.6][0] < errors[0.6][1]
    and errors[0.8][0] < errors[0.8][1]
    and all(abs(ours - colour) < 0.006 for ours, _, colour, _ in errors.values())
    and all(ours > guess + 0.003 for ours, _, _, guess in errors.values()),
    n=len(unlabelled),
)

# %% [markdown] tags=["skip"]
# The paintings are mostly flat. How much pattern is in them can be measured: by how much the pixels
# of one patch differ from each other.

# %% tags=["hide-input", "check"]
def pattern(images):
    """Standard deviation within a patch and channel, mean over the patches that are hidden."""
    patches = patchify(images, PATCH).unflatten(2, (-1, 3))  # (B, N, p·p, C)
    return patches.std(2).mean(2)[hidden_patches].mean().item()


tested_hidden = hide(tested, PATCH, 0.6)
hidden_patches = patchify(tested_hidden, PATCH)[..., 0].bool()
there, painted_there = pattern(tested), pattern(paint(tested, 0.6, PATCH)[1])
claim(
    "With 60 % hidden the pixels of a hidden patch differ by {painted:.3f} (standard"
    " deviation in a channel) where SimMIM painted it, and by {there:.3f} in the"
    " original: {share:.0%} of the pattern.",
    painted_there < 0.5 * there,
    painted=painted_there,
    there=there,
    share=painted_there / there,
)

# %% [markdown] tags=["skip"]
# {eq}`eq-simmim-loss` lets it be flat: where a stripe may be light or dark, or a pixel ground or
# shape, the least error is at a median. It is also a warning for what comes next: an encoder that
# has learned to tell one colour need not have learned a shape.

# %% [markdown] tags=["slide"]
# ## What the features are good for
#
# **Task.** Painted pictures of 16 × 16 pixels with independent factors: the *shape* (8 kinds), its
# *hue* (6) and the *texture* of the ground (4). 4,000 pictures without labels for SimMIM; 2,000
# others with labels, of which 2 %, 10 % or all may be used, and as many again to choose by.
# **Contestants.** The pixels themselves; the same encoder with random weights; SimMIM that paints
# pixels, and SimMIM that paints normalised patches. **Readings.** Logistic regression on the class
# token, on the mean of the patches, and on all patches side by side, its decay chosen on the labels
# to choose by; and the vote of nearest neighbours, whose number is a quarter of the labels, at most
# 20, and not chosen. Test on 2,000 pictures; 3 seeds of weights, masks and chosen labels. SimMIM's
# own rate and steps are set by hand.

# %% tags=["long", "hide-input", "skip"] name="targets"
table = frozen()
for name, readings in table.items():
    for reading, factors in readings.items():
        means = [
            f"{factor} " + " ".join(f"{statistics.mean(v):4.0%}" for v in by.values())
            for factor, by in factors.items()
        ]
        print(f"{name:20}{reading:17}", "   ".join(means))
keep(table=table)

# %% tags=["hide-input", "check"]
TABLE = recorded("120.1c.targets")["table"]
PROBES = ("class token", "mean of patches", "all patches")
ROWS = [
    (name, reading)
    for name in COLOR
    for reading in (*PROBES, "k-NN")
    if reading in TABLE[name]
]


def accuracy(name, reading, factor, share):
    """One test accuracy a seed, in per cent."""
    return [100 * v for v in TABLE[name][reading][factor][share]]


def mean(name, reading, factor, share):
    return statistics.mean(accuracy(name, reading, factor, share))


COLUMNS = [(f, p) for f in FACTORS for p in SHARES]
lines = [
    "| features | read by | " + " | ".join(f"{f}, {p} %" for f, p in COLUMNS) + " |",
    "|---" * (2 + len(COLUMNS)) + "|",
]
BEST = {
    column: max(mean(*row, *column) for row in ROWS) for column in COLUMNS
}
for name, reading in ROWS:
    cells = []
    for column in COLUMNS:
        values = accuracy(name, reading, *column)
        text = f"{statistics.mean(values):.0f} ± {statistics.stdev(values):.0f}"
        best = statistics.mean(values) == BEST[column]
        cells.append(f"**{text}**" if best else text)
    lines.append(f"| {name} | {reading} | " + " | ".join(cells) + " |")
say(
    "\n".join(lines)
    + "\n\nTest accuracy (%), mean ± standard deviation over 3 seeds; the best of"
    " each column in bold. Guessing: shape 12.5, hue 17, texture 25."
)

# %% mystnb={"figure": {"caption": "Test accuracy of a logistic probe on the mean of the patches (of pixels: on all of them), mean and range of 3 seeds, against the share of the 2,000 labels; dotted: guessing. Normalised patches make the texture easier to read, pixels the hue.", "name": "fig-simmim-probe"}, "image": {"alt": "Three panels, shape, hue and texture, with lines for pixels, random encoder and two SimMIMs over the share of labels. In texture SimMIM with normalised patches lies clearly above the rest; in hue it lies below the one with pixels; in shape all are low."}} tags=["hide-input", "plot"]
fig, axes = plt.subplots(1, 3, figsize=(7.2, 3.2))
for ax, factor in zip(axes, FACTORS, strict=True):
    for name in COLOR:
        reading = "all patches" if name == "pixels" else "mean of patches"
        values = np.array([accuracy(name, reading, factor, p) for p in SHARES])
        x = [int(p) for p in SHARES]
        ax.fill_between(
            x, values.min(1), values.max(1), color=COLOR[name], alpha=0.2, lw=0
        )
        ax.plot(x, values.mean(1), "o-", ms=4, color=COLOR[name], label=name)
    ax.axhline(GUESS[factor], color="0.7", ls=":", lw=1)
    ax.set(xscale="log", title=factor, xlabel="share of labels (%)", ylim=(0, 100))
    ax.set_xticks(x, SHARES)
    ax.minorticks_off()
axes[0].set_ylabel("test accuracy (%)")
fig.legend(
    *axes[0].get_legend_handles_labels(),
    loc="outside lower center",
    ncols=4,
    frameon=False,
    fontsize=8,
)
plt.show()

# %% tags=["hide-input", "check"]
def gains(name, other, factor, reading="mean of patches"):
    """Points ahead of another contestant: per cent of the labels → one a seed."""
    return {
        p: [
            a - b
            for a, b in zip(
                accuracy(name, reading, factor, p),
                accuracy(other, reading, factor, p),
                strict=True,
            )
        ]
        for p in SHARES
    }


def interval(values):
    """Mean, and half the width of its 95 % interval, of three seeds' differences."""
    assert len(values) == 3
    half = 4.303 * statistics.stdev(values) / 3**0.5  # Student's t, two degrees of freedom
    return statistics.mean(values), half


def pair(values):
    return "{:+.1f} ± {:.1f}".format(*interval(values)).replace("-", "−")


NORM, PIX, RANDOM = "SimMIM, normalised", "SimMIM, pixels", "random encoder"
texture, hue = gains(NORM, RANDOM, "texture"), gains(PIX, RANDOM, "hue")
across = gains(PIX, NORM, "hue"), gains(NORM, PIX, "texture")
lost_texture = gains(PIX, RANDOM, "texture")
near_hue = gains(PIX, RANDOM, "hue", "k-NN")
over_pixels = {
    (reading, share): [
        a - b
        for a, b in zip(
            accuracy(PIX, reading, "hue", share),
            accuracy("pixels", "all patches", "hue", share),
            strict=True,
        )
    ]
    for reading in ("mean of patches", "all patches")
    for share in ("2", "100")
}
claim(
    "**The target bears on what is easy to read.** By a probe on the mean of the"
    " patches, painting"
    " normalised patches is worth {a}, {b} and {c} points of the texture over"
    " the encoder as it started (40, 200 and 2,000 labels; mean of the seeds'"
    " differences and its 95 % interval), and painting pixels {d}, {e} and {f}"
    " points of the hue. Each target is ahead of the other on its own factor, for"
    " every seed. Painting pixels makes the texture no easier to read: {g}, {h} and"
    " {i} points. The hue depends on the reading: by neighbours it is no easier to find"
    " after painting pixels ({j}, {k} and {l} points). The intervals are each for itself,"
    " not for all together.",
    all(v > 0 for by in (texture, hue, *across) for run in by.values() for v in run)
    and all(mean > half for by in (texture, hue) for mean, half in map(interval, by.values()))
    and all(statistics.mean(v) < 0 for v in lost_texture.values())
    and all(mean < half for mean, half in map(interval, near_hue.values())),
    **{k: pair(v) for k, v in zip("abc", texture.values(), strict=True)},
    **{k: pair(v) for k, v in zip("def", hue.values(), strict=True)},
    **{k: pair(v) for k, v in zip("ghi", lost_texture.values(), strict=True)},
    **{k: pair(v) for k, v in zip("jkl", near_hue.values(), strict=True)},
)
shapes_told = {
    name: max(mean(name, r, "shape", "100") for r in TABLE[name]) for name in TABLE
}
tops = {
    name: max(mean(name, r, "hue", "100") for r in TABLE[name]) for name in TABLE
}
claim(
    "**The raw pixels are the baseline to beat.** For the hue with 40 labels a probe of"
    " SimMIM of pixels less one of the raw pixels is {few} points, read from the mean of"
    " the patches, and {side} points read from all patches; with all labels it is"
    " {few_all} and {side_all}. The best of SimMIM's readings there has {simmim:.0f} %,"
    " the pixels {pixels:.0f}. For the texture the pixels are near guessing"
    " ({texture:.0f} %)."
    " Of the shape the best number of all is {shape:.0f} % (guessing: 12.5), by"
    " {who}; SimMIM's best is {ours:.0f} %, no better than the untrained encoder's"
    " {untrained:.0f}.",
    abs(max(tops[PIX], tops[NORM]) - tops["pixels"]) < 1
    and statistics.mean(over_pixels["mean of patches", "2"]) > 0
    and max(statistics.mean(over_pixels[r, "100"]) for r in ("mean of patches", "all patches")) < 1
    and mean("pixels", "all patches", "texture", "100") < 32
    and shapes_told[PIX] < shapes_told[RANDOM] + 2
    and shapes_told[NORM] < shapes_told[RANDOM] + 2,
    few=pair(over_pixels["mean of patches", "2"]),
    side=pair(over_pixels["all patches", "2"]),
    few_all=pair(over_pixels["mean of patches", "100"]),
    side_all=pair(over_pixels["all patches", "100"]),
    ours=max(shapes_told[PIX], shapes_told[NORM]),
    untrained=shapes_told[RANDOM],
    pixels=tops["pixels"],
    simmim=max(tops[PIX], tops[NORM]),
    texture=mean("pixels", "all patches", "texture", "100"),
    shape=BEST["shape", "100"],
    who=next(
        f"{reading} on {name}"
        for name, reading in ROWS
        if mean(name, reading, "shape", "100") == BEST["shape", "100"]
    ),
)
where = {
    (f, r): mean(NORM, r, f, "10") for f in ("hue", "texture") for r in (*PROBES, "k-NN")
}
claim(
    "**Where to read.** With 200 labels, on SimMIM of normalised patches: the"
    " hue is read in {a:.0f} % from the mean of the patches and in {b:.0f} % from"
    " all patches side by side, the texture in {c:.0f} and {d:.0f} %; neighbours"
    " find {e:.0f} % of the hues and {f:.0f} % of the textures.",
    where["hue", "all patches"] > where["hue", "mean of patches"] + 5
    and where["texture", "mean of patches"] > where["texture", "all patches"]
    and all(where[f, "k-NN"] < max(where[f, r] for r in PROBES) for f in ("hue", "texture"))
    and all(
        mean(RANDOM, "k-NN", f, "10") < mean(RANDOM, "mean of patches", f, "10")
        for f in ("hue", "texture")
    ),
    a=where["hue", "mean of patches"],
    b=where["hue", "all patches"],
    c=where["texture", "mean of patches"],
    d=where["texture", "all patches"],
    e=where["hue", "k-NN"],
    f=where["texture", "k-NN"],
)

# %% [markdown] tags=["skip"]
# That fits what the factors are: the hue is that of one small shape, which an average mixes with
# its ground; the texture is everywhere. Neighbours do worse than a probe on the same features. They
# do on those of the encoder before training as well, so this is no mark of SimMIM's loss.

# %% [markdown] tags=["slide"]
# ### Trained further, as the authors do
#
# The authors hardly use a probe. They take the encoder as a *start* and train all of it on the
# labels. Here the start is SimMIM of normalised patches, and against it stands the same network
# from random weights. Both have the same views (crops, flips, colour jitter), 1,500 steps of 32
# pictures, and two rates, of which each takes the one that is better on as many labels again.

# %% tags=["long", "hide-input", "skip"] name="fine-tuning"
table, rates = fine_tuned()
for start, by in table.items():
    for p, values in by.items():
        print(f"{start:15}{p:>4} % {statistics.mean(values):4.0%}  rates {rates[start][p]}")
keep(table=table, rates=rates)

# %% tags=["hide-input", "check"]
tuned = recorded("120.1c.fine-tuning")["table"]
rates = [
    rate
    for by in recorded("120.1c.fine-tuning")["rates"].values()
    for column in by.values()
    for rate in column
]
say(
    "| all weights trained on the labels | 2 % (40) | 10 % (200) | all (2,000)"
    " |\n|---|---|---|---|\n"
    + "\n".join(
        f"| from {start} | "
        + " | ".join(
            f"{100 * statistics.mean(by[p]):.0f} ± {100 * statistics.stdev(by[p]):.0f}"
            for p in SHARES
        )
        + " |"
        for start, by in tuned.items()
    )
    + "\n\nTexture, test accuracy (%), mean ± standard deviation over 3 seeds."
)
few, some, many = (
    [
        100 * (a - b)
        for a, b in zip(tuned["SimMIM"][p], tuned["random weights"][p], strict=True)
    ]
    for p in SHARES
)
claim(
    "SimMIM's weights less random ones: {few} points with 40 labels, {some} with"
    " 200, {many} with 2,000 (mean of {n} seeds' differences, 95 % interval). Each"
    " interval holds 0: no gain from the start can be seen here. For the texture,"
    " supervision with good views is ahead of all frozen features at every number"
    " of labels: with 40 it names {a:.0f} % from random weights, where a probe on"
    " the best frozen features has {b:.0f} %. The lower of the two rates was chosen"
    " in {lower} of {runs} trainings, so a still lower one might do better, from"
    " either start.",
    all(
        100 * min(tuned["random weights"][p]) > BEST["texture", p] for p in SHARES
    )
    and all(
        abs(middle) < half for middle, half in map(interval, (few, some, many))
    )
    and rates.count(min(rates)) > len(rates) / 2,
    n=len(few),
    lower=rates.count(min(rates)),
    runs=len(rates),
    few=pair(few),
    some=pair(some),
    many=pair(many),
    a=100 * statistics.mean(tuned["random weights"]["2"]),
    b=BEST["texture", "2"],
)

# %% [markdown] tags=["slide"]
# ## What a step costs
#
# A hidden patch is a token like any other, so SimMIM's encoder always reads $N$ tokens, whatever
# the ratio. An encoder of visible patches only, as in a masked autoencoder, reads $(1-r)N$.

# %% tags=["skip"]
timed = VisionTransformer(
    64, 8, 3, embed_dim=96, depth=4, num_heads=3, generator=seeded(0)
)
batch = pictures.repeat(2, 1, 1, 1)


def seconds(function):
    """Median processor time of a call that ends in a gradient."""
    step = lambda: function().square().mean().backward()
    return measure_step(step, "cpu", warmup=0, repeats=5).seconds


def with_mask_tokens(ratio):
    mask = block_mask(len(batch), timed.grid, 1, ratio, seeded(0))
    return lambda: timed.forward_features(batch, mask)


def visible_only(ratio):
    mask = block_mask(len(batch), timed.grid, 1, ratio, seeded(0))
    tokens = timed.embed_patches(batch) + timed.position_table
    visible = tokens[mask == 0].view(len(batch), -1, timed.embed_dim).detach()
    return lambda: timed.encode(visible)


RATIOS = [0.25, 0.5, 0.75, 0.9]
cost = {
    name: np.array([1000 * seconds(make(ratio)) for ratio in RATIOS])
    for name, make in [
        ("mask tokens", with_mask_tokens),
        ("visible patches only", visible_only),
    ]
}

# %% mystnb={"figure": {"caption": "Time of a forward and backward pass of one encoder against the mask ratio, batch of 16, one CPU thread. With mask tokens it hardly depends on the ratio.", "name": "fig-simmim-cost"}, "image": {"alt": "Two lines of milliseconds over the mask ratio: the one with mask tokens is flat, the one of visible patches only falls to a fraction of it."}} tags=["hide-input", "plot", "skip"]
fig, ax = plt.subplots(figsize=(5.5, 2.6))
for (name, values), color in zip(
    cost.items(), ("tab:blue", "tab:orange"), strict=True
):
    ax.plot(RATIOS, values, "o-", color=color, label=name)
ax.set(xlabel="mask ratio", ylabel="time (ms)", ylim=(0, None))
ax.legend()
plt.show()

# %% tags=["hide-input", "check"]
claim(
    "At a ratio of 0.9 a pass with mask tokens takes {a:.0f} ms, one over"
    " visible patches only {b:.0f} ms.",
    cost["visible patches only"][-1] < 0.6 * min(cost["mask tokens"]),
    a=cost["mask tokens"][-1],
    b=cost["visible patches only"][-1],
)

# %% [markdown] tags=["skip"]
# The time is the encoder's alone: a masked autoencoder pays for its decoder, too, whatever the
# ratio ({ref}`120.2 <sec-120-2>`). What SimMIM gets for its price: there is no second network, and
# any encoder that keeps the grid of patches will do. Swin, the authors' main encoder, computes in
# windows and merges neighbours; without further measures it cannot leave patches out.

# %% [markdown] tags=["slide"]
# ## At scale: ratio and block
#
# The same pictures at 32 × 32 pixels, an encoder of 799,872 weights, 1,000 steps: the grid of ratio
# and block size. Ten ways to hide, three seeds each, are trained *as one*: their weights are
# stacked, and `torch.func.vmap` turns each layer into one batched operation. Probes are logistic,
# with 400 labels and as many again to choose by, the same ones for the three seeds. "Trained on" means
# encoder and head on labels of the *shape*, with the same views, steps and rates for all.

# %% tags=["gpu", "hide-input"] name="ratio-and-block"
torch.set_float32_matmul_precision("high")  # TF32
table, painted = ratio_and_block(torch.device("cuda"))
print(f"{'test accuracy, %':24}" + "".join(f"{c:>17}" for c in table["untrained"]))
for name, columns in table.items():
    cells = [
        f"{100 * statistics.mean(v['test']):.0f} ± {100 * statistics.stdev(v['test']):.0f}"
        for v in columns.values()
    ]
    print(f"{name:24}" + "".join(f"{cell:>17}" for cell in cells))
chosen = ["0.6, 4 px, pixels", "0.6, 8 px, pixels", "0.6, 16 px, pixels"]
rows, names = [painted.pictures], ["picture"]
for name in chosen:
    rows += painted.rows[name]
    names += [name.removesuffix(", pixels"), "SimMIM"]
show_images(rows, names, scale=0.6)
plt.show()
keep(table=table)

# %% tags=["hide-input", "check"]
grid = recorded("120.1c.ratio-and-block")["table"]
masks = [name for name in grid if name.endswith("pixels")]


def at(name, column, part="test"):
    return 100 * statistics.mean(grid[name][column][part])


def spread_of(name, column):
    values = [100 * v for v in grid[name][column]["test"]]
    return f"{statistics.mean(values):.0f} ± {statistics.stdev(values):.0f}"


lines = []
for column in grid["untrained"]:
    best = max(masks, key=lambda m: at(m, column, "validation"))
    lines.append(
        f"| {column} | {best.removesuffix(', pixels')} | {spread_of(best, column)}"
        f" | {min(at(m, column) for m in masks):.0f} to"
        f" {max(at(m, column) for m in masks):.0f}"
        f" | {spread_of('0.6, 4 px, normalised', column)}"
        f" | {spread_of('untrained', column)} |"
    )
say(
    "| | best mask, by validation | its test accuracy (%) | of all masks |"
    " normalised (0.6, 4 px) | untrained |\n|---|---|---|---|---|---|\n"
    + "\n".join(lines)
    + "\n\nTargets are pixels, but in the column that says normalised. Mean ±"
    " standard deviation over 3 seeds; of all masks, the least and the largest mean."
)


def ahead(name, other, column):
    pairs = zip(grid[name][column]["test"], grid[other][column]["test"], strict=True)
    return [100 * (a - b) for a, b in pairs]


raw, normalised = (f"0.6, 4 px, {target}" for target in ("pixels", "normalised"))
above = {  # masks whose gain over the untrained encoder has an interval above 0
    factor: sum(
        middle > half
        for middle, half in (interval(ahead(m, "untrained", f"probe {factor}")) for m in masks)
    )
    for factor in ("hue", "texture")
}
gained_hue = ahead(raw, "untrained", "probe hue")
gained_texture = ahead(raw, "untrained", "probe texture")
across_targets = ahead(normalised, raw, "probe texture")
claim(
    "**What carries over?** Painting pixels is worth points of the hue again ({a},"
    " mask of 0.6 and 4 px). But here it is worth points of the texture, too ({b}),"
    " and no lead of normalised patches can be seen ({c} points to pixels). Of the"
    " {n} masks with pixels as the target, {hues} have a gain of the hue whose"
    " interval lies above 0, and {textures} one of the texture, where the mean of each"
    " is above 0.",
    all(middle > half for middle, half in map(interval, (gained_hue, gained_texture)))
    and all(statistics.mean(ahead(m, "untrained", "probe texture")) > 0 for m in masks)
    and interval(across_targets)[0] < interval(across_targets)[1],
    a=pair(gained_hue),
    b=pair(gained_texture),
    c=pair(across_targets),
    n=len(masks),
    hues="all" if above["hue"] == len(masks) else above["hue"],
    textures=above["texture"],
)

# %% tags=["hide-input", "check"]
larger = recorded("120.0.benchmark-simmim")["table"]["SimMIM"]
start = recorded("120.0.benchmark-baselines")["table"]["random"]
gained = {
    factor: [
        [100 * v for v in by["logistic probe"][factor]["100"]] for by in (larger, start)
    ]
    for factor in ("shape", "texture")
}
steps_ahead = {
    factor: [a - b for a, b in zip(after, before, strict=True)]
    for factor, (after, before) in gained.items()
}
claim(
    "**A larger training.** In the chapter's benchmark, SimMIM of pixels with a larger"
    " encoder, more steps and {pictures:,} pictures of 32 × 32 pixels, a probe with all"
    " labels tells {a:.0f} % of the shapes and {c:.0f} % of the textures, where the"
    " untrained encoder gives {b:.0f} and {d:.0f} %: {shape} and {texture} points. The"
    " gain of the shape is clear, that of the texture not settled by three seeds. The"
    " small training above, of pixels too, shows a gain in neither.",
    interval(steps_ahead["shape"])[0] > interval(steps_ahead["shape"])[1]
    and 0 < interval(steps_ahead["texture"])[0] < interval(steps_ahead["texture"])[1]
    and all(
        interval(v)[0] < interval(v)[1]
        for f in ("shape", "texture")
        for v in (gains(PIX, RANDOM, f)["100"], gains(PIX, RANDOM, f, "all patches")["100"])
    ),
    pictures=recorded("120.0.benchmark-simmim")["pictures"],
    shape=pair(steps_ahead["shape"]),
    texture=pair(steps_ahead["texture"]),
    **dict(
        zip("abcd", map(statistics.mean, [*gained["shape"], *gained["texture"]]), strict=True)
    ),
)

# %% [markdown] tags=["skip"]
# The paper's default is blocks of 32 pixels and a ratio of 0.6, on photographs of 192 pixels. Which
# mask is best is a question to the data.
#
# On many machines nothing is new: SimMIM is an ordinary model with an ordinary loss, each rank
# draws masks of its own from its own generator, and the gradients are averaged as in section
# 119.1a. `torch.export` takes the model with a batch of any size, and so does `torch.jit.trace`,
# which PyTorch has deprecated.
#
# ## Predict features, not pixels
#
# Why paint pixels at all? A pixel's colour and noise are hard to foresee and seldom wanted.
# **data2vec** {cite:p}`baevski2022data2vec` hides patches as SimMIM does and asks for what an
# averaged copy of the network, a *teacher* as in {ref}`120.1b <sec-120-1b>`, makes of the whole
# picture at the hidden places: the mean of its upper layers. **I-JEPA** {cite:p}`assran2023ijepa`
# shows the encoder one part of the picture only, as in {ref}`120.2 <sec-120-2>`, and a small
# predictor says what the teacher's features of other blocks are, given their places. Both need what
# DINO needs against collapse, a slow teacher without gradients; in exchange the features can be
# read by a linear probe, where those of pixel painters want fine-tuning, as I-JEPA's paper reports.

# %% [markdown] tags=["skip"]
# ## Limits
#
# - One kind of picture, made by a program; encoders of 40,464 weights and 350 steps on the CPU, of
#   799,872 weights and 1,000 steps on the GPU. The authors train for hundreds of epochs on
#   ImageNet; what carries over is the method of comparing.
# - A comparison with chance alone would have flattered SimMIM. Raw pixels, a linear guess, random
#   features and supervision with good views are the baselines.
# - Masked image models are made for fine-tuning. With a probe or nearest neighbours, contrastive
#   learning and DINO ({ref}`120.1a <sec-120-1a>`, {ref}`120.1b <sec-120-1b>`) are usually ahead;
#   with a fine-tuned large model the order often turns. Say which was measured.
# - At work: `transformers` has `ViTForMaskedImageModeling` and the Swin form with trained weights.
#   Use ours to understand, and as a reference to test against.

# %% [markdown] tags=["slide"]
# ## What goes wrong easily
#
# Three mistakes, each from a program that looked right. The document's SimMIM, of a section called
# "contrastive learning", makes them all, and is no `nn.Module` besides; the
# {doc}`errata </book/errata>` list the rest, each with its test.
#
# **One mask for the whole batch, and a loss that indexes images with it.** The mask has one entry a
# patch; the predictions' first dimension is the batch:

# %% tags=["nbval-check-output"]
patches_in_image, batch = 16, 5
mask = torch.zeros(patches_in_image)
order = np.random.default_rng(0).permutation(patches_in_image)
mask[order[: patches_in_image // 2]] = 1  # (N,), for all images
predictions = targets = torch.zeros(batch, 3, SIZE, SIZE)
try:
    torch.nn.functional.mse_loss(predictions[mask.bool()], targets[mask.bool()])
except IndexError as error:
    print(error)

predictions = torch.zeros(16, 3, SIZE, SIZE)  # as many images as patches
print("with a batch of 16:", tuple(predictions[mask.bool()].shape))

# %% [markdown] tags=["skip"]
# The second case is the worse one. It runs, and takes half of the *images*, whole, in place of half
# of the patches.
#
# **Nothing is hidden.** There is no mask token, and the mask is handed to the encoder as a second
# argument. What an encoder makes of a second argument is its own affair: ours refuses it, timm's
# takes it for an attention mask, and one that ignores it trains the low curve of
# {numref}`fig-simmim-leak`.

# %% tags=["nbval-check-output"]
try:
    small_encoder(0)(torch.zeros(2, 3, SIZE, SIZE), torch.zeros(16))
except TypeError as error:
    print(error)

# %% [markdown] tags=["skip"]
# **Single patches of 4 pixels, half of them.** In the paper's pictures of 192 pixels:

# %% tags=["hide-input", "check"]
from scipy.ndimage import (
    distance_transform_edt,
)  # a fast way to the same distances

distances = {}
for block, ratio in [(4, 0.5), (32, 0.6)]:
    grid = 192 // block, 192 // block
    hidden = pixel_mask(
        block_mask(20, grid, 1, ratio, seeded(0)), block, (192, 192)
    )[:, 0].numpy()
    distances[block, ratio] = np.mean(
        [distance_transform_edt(m)[m == 1].mean() for m in hidden]
    )
claim(
    "This mask has an AvgDist of {listing:.1f} pixels, the paper's {paper:.1f}:"
    " the mean over 20 masks each.",
    distances[4, 0.5] < 2.5 and distances[32, 0.6] > 3 * distances[4, 0.5],
    listing=distances[4, 0.5],
    paper=distances[32, 0.6],
)

# %% [markdown] tags=["skip"]
# ## Quiz

# %% [markdown] tags=["skip"]
# {{quiz 120.1c}}

# %% [markdown] tags=["slide"]
# ## Summary
#
# - Hide blocks, not dots: what neighbours give away need not be learned. AvgDist measures it.
# - Replace hidden patches before the encoder; a lower loss is no proof that it was done.
# - Mask tokens at the input make a linear head enough, and every step cost the full $N$ tokens.
# - L1 regresses to a median; neither L1 nor L2 draws what might be there.
# - The target bears on what is easy to read, and a small training may say otherwise than a larger
#   one. Compare with raw pixels, random features and supervision with good views.
#
# References: each citation above leads to its source; the {doc}`bibliography </book/bibliography>`
# lists them all.
