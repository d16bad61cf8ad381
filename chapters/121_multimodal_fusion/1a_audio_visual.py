# %% [markdown] tags=["slide"]
# (sec-121-1a)=
# # 121.1a Sound and picture in one model
#
# A door slams while a face is turned away, and you know that it was not the face that made the noise.
# To know it you must **bind** what you hear to what you see, and time is the thread. At the end of this
# section you can write attention from one modality to another and prove it equal to PyTorch's, choose
# between four ways to fuse, make a model that works when the microphone is off, and test whether a
# model binds or only counts.
#
# You need: attention {cite:p}`vaswani2017attention`, and no GPU.

# %% tags=["definitions", "hide-input", "skip"]
import inspect
import itertools
import statistics

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Audio, display
from torch import nn

from dlcourse.datasets import PICTURES, SOUNDS, event_clips, event_factors, pair_targets
from dlcourse.multimodal_fusion import (
    AudioVisualModel,
    BottleneckFusion,
    CrossAttention,
    CrossAttentionFusion,
    FrameTokens,
    JointFusion,
    LateFusion,
    SpectrogramTokens,
    attend,
    mean_of_present,
    modality_dropout,
    time_embedding,
    token_times,
)
from dlcourse.multimodal_fusion.audio_visual import binding
from dlcourse.multimodal_fusion.experiments.audio_visual_aligned import aligned_contest
from dlcourse.multimodal_fusion.experiments.audio_visual_data import (
    MAX_AUDIO_NOISE,
    MAX_VIDEO_NOISE,
)
from dlcourse.multimodal_fusion.experiments.audio_visual_plateau import plateau
from dlcourse.multimodal_fusion.experiments.audio_visual_runs import (
    AUDIO_NOISE,
    CEILINGS,
    DROPOUT,
    LAGS,
    ROBUST,
    SHOWN_NOISE,
    STEPS,
    contest,
    first_with_three_events,
    shown_clip,
)
from dlcourse.multimodal_fusion.experiments.audio_visual_scores import break_ties, mean_precision
from dlcourse.multimodal_fusion.experiments.audio_visual_training import DEPTH
from dlcourse.notebook import claim, explore, keep, paired, say, show_source, values_of

plt.style.use("dlcourse.notebook.course")
FUSED = ("late", "bottleneck", "cross", "joint")
LABEL = {
    "audio": "sound alone",
    "video": "pictures alone",
    "late": "late fusion",
    "bottleneck": "bottleneck (MBT)",
    "cross": "cross-attention",
    "joint": "joint attention",
}
COLOR = {
    "audio": "tab:orange",
    "video": "tab:blue",
    "late": "0.45",
    "bottleneck": "tab:purple",
    "cross": "tab:green",
    "joint": "tab:red",
}


def in_words(gap, half):
    """What an interval around a difference says."""
    if abs(gap) <= half:
        return "no order shows"
    return "the first is ahead" if gap > 0 else "the second is ahead"


def listed(names):
    """Names as a list in a sentence."""
    return ", ".join(LABEL[name] for name in names) or "none"


# %% [markdown] tags=["slide"]
# ## A question
#
# Here are a second of sound and sixteen pictures. Three things happen. **Which sound belongs to which
# picture?**

# %% tags=["hide-input", "skip"]
SHOWN = first_with_three_events()


def draw_clip(mel, frames):
    """Spectrum above, pictures below, on one axis of time; returns the figure and its axes."""
    fig, (top, bottom) = plt.subplots(
        2, 1, figsize=(7, 2.9), height_ratios=[2, 1], sharex=True, constrained_layout=True
    )
    top.imshow(
        mel[0], origin="lower", aspect="auto", extent=(0, 1, 0, 32), cmap="magma", vmin=-1, vmax=1.3
    )
    top.set(ylabel="mel band", xlim=(0, 1))
    top.grid(False)
    film = frames[0].permute(1, 0, 2).flatten(1)  # (16, 16 · 16)
    bottom.imshow(film, aspect="auto", extent=(0, 1, 0, 1), cmap="gray", vmin=-0.3, vmax=1.2)
    for k in range(1, 16):
        bottom.axvline(k / 16, color="0.6", lw=0.5)
    bottom.set(yticks=[], ylabel="pictures", xlabel="time (s)")
    bottom.grid(False)
    return fig, (top, bottom)


mel, frames = shown_clip(SHOWN, SHOWN_NOISE)
question = event_factors(1, torch.Generator().manual_seed(SHOWN))

# %% card=true mystnb={"figure": {"caption": "One clip. Above, how loud each pitch is at each time (bright: loud); below, the sixteen pictures. Sounds: a hum, a rising or falling tone, a hiss. Pictures: a ring, a square, a plus, a slash.", "name": "fig-av-question"}, "image": {"alt": "A spectrogram of one second with three sounds one after another, above a film strip of sixteen small pictures, in which three shapes appear at the same times as the sounds."}} tags=["hide-input", "plot"]
fig, _ = draw_clip(mel, frames)
plt.show()

# %% tags=["hide-input", "skip"]
clip = event_clips(
    1, torch.Generator().manual_seed(0), audio_noise=0.01, factors=question
)
display(Audio(clip.waveform[0].numpy(), rate=8000))
say(
    "The answer: "
    + "; ".join(
        f"{SOUNDS[s]} with {PICTURES[p]} at {t:.2f} s"
        for s, p, t in zip(question.sound[0], question.picture[0], question.onset[0].tolist())
    )
    + ". (The player has the clip's sound.)"
)

# %% [markdown] tags=["skip"]
# With four sounds and four pictures there are 16 pairs, and a clip has one to three of them. The data
# set `event_clips` makes such clips from a seed. A model gives 16 probabilities; we measure them by
# **mean average precision** (mAP): for each pair, sort all clips by the score and average the precision
# at each true one; then take the mean over the pairs.
#
# How far does one come without binding? Suppose that somebody hears every sound and sees every picture
# without an error, but does not know *when*. The best scores are then probabilities that can be
# computed (the last exercise of this page does it):

# %% tags=["hide-input", "check"]
many = event_factors(40_000, torch.Generator().manual_seed(0))
truth = pair_targets(many)
ceilings = {
    name: mean_precision(break_ties(known(many)), truth) for name, known in CEILINGS.items()
}
chance = mean_precision(torch.zeros_like(truth), truth)
bound = binding.binding_accuracy(binding.without_times(many), many)
claim(
    "mAP of a constant: {chance:.3f}. Of perfect knowledge: "
    + "; ".join(f"{name} {value:.3f}" for name, value in ceilings.items())
    + " (equal scores in a random order). In clips of two events that differ in both, the true pairs beat "
    "the exchanged ones in {bound:.0%} of cases: without times that is a guess. We call this share "
    "**binding accuracy**.",
    chance
    < min(ceilings.values())
    < ceilings["both known, no times"]
    == max(ceilings.values())
    < 0.95
    and bound == 0.5,
    chance=chance,
    bound=bound,
)

# %% [markdown] tags=["slide"]
# ## The idea
#
# An audio encoder gives tokens $a_1, \dots, a_n$, a video encoder $v_1, \dots, v_m$. Where do they
# meet?
#
# **Late fusion**: they never do. Each stream has a classifier, and the logits are averaged,
#
# $$
# z(a, v) = \tfrac12 \bigl( f(a) + g(v) \bigr) .
# $$ (eq-av-late)
#
# It is the usual choice in video classification {cite:p}`nagrani2021mbt`, and hard to beat where each
# modality has evidence of its own. But {eq}`eq-av-late` is a *sum*: no term sees both. "A hum was heard and a ring was seen" is
# well approximated by a sum; "the ring was seen **while** the hum was heard" is not.
#
# **Cross-attention**: each sound token asks the pictures, and each picture token asks the sound, as in
# ViLBERT for text and image {cite:p}`lu2019vilbert`. With queries from one stream and keys and values
# from the other,
#
# $$
# a_i \leftarrow a_i + \sum_j w_{ij}\, W_v v_j , \qquad
# w_{ij} = \operatorname*{softmax}_j\; \frac{(W_q a_i) \cdot (W_k v_j)}{\sqrt d} ,
# $$ (eq-av-cross)
#
# and likewise $v_j$ over $a$. If query and key know their **time**, the sound at time $t$ can find the
# picture at time $t$.
#
# **Joint attention** puts both streams into one sequence: everybody may ask everybody, for
# $(n+m)^2$ scores.
#
# **Bottleneck fusion**, the multimodal bottleneck transformer or MBT {cite:p}`nagrani2021mbt`, allows less. A few shared tokens $s$ (the paper
# takes 4) attend with each stream, and the streams see each other through them only:
#
# $$
# [a \,\Vert\, s_a] = T_a([a \,\Vert\, s]) , \qquad
# [v \,\Vert\, s_v] = T_v([v \,\Vert\, s]) , \qquad
# s \leftarrow \tfrac12 (s_a + s_v) ,
# $$ (eq-av-mbt)
#
# with a transformer layer $T$ for each modality. Each stream must condense what it has to say.

# %% [markdown] tags=["skip"]
# :::{diagram} figures/1a_audio_visual.svg
# ---
# name: fig-av-architectures
# alt: Four diagrams in a row, each with a stream of sound tokens and a stream of picture tokens.
#   Late - the streams run apart to the mean of their logits. Cross-attention - arrows go from each
#   stream to the other. Joint - one box holds both streams. Bottleneck - both streams are joined
#   with a few shared tokens between them, and not with each other.
# ---
# Four ways to meet. What differs is who may look at whom; encoders, widths, and the mean of both
# streams' logits at the end are the same.
# :::

# %% [markdown] tags=["skip"]
# {{exercise 121.1a.predict-pairs}}

# %% [markdown] tags=["slide"]
# ## Piece by piece
#
# ### Attention, with every step in sight
#
# Batches of clips have different lengths, so some keys are padding. They are hidden *before* the
# softmax, so that the other weights still sum to 1.

# %%
show_source(attend)

# %% [markdown] tags=["skip"]
# `CrossAttention` adds the projections and heads. Its `forward` calls PyTorch's fused kernel,
# `readable` calls `attend`; both have to agree with each other and with `nn.MultiheadAttention`, which
# was written by others:

# %% tags=["hide-input", "check"]
def with_the_weights_of(ours):
    """torch's module with the weights of ours."""
    dim = ours.query.in_features
    peer = nn.MultiheadAttention(dim, ours.num_heads, batch_first=True).double()
    layers = (ours.query, ours.key, ours.value)
    with torch.no_grad():
        peer.in_proj_weight.copy_(torch.cat([layer.weight for layer in layers]))
        peer.in_proj_bias.copy_(torch.cat([layer.bias for layer in layers]))
        peer.out_proj.load_state_dict(ours.out.state_dict())
    return peer


worst = 0.0
for seed, (b, n, m, heads) in enumerate(itertools.product((1, 3), (1, 5), (2, 7), (1, 4))):
    torch.manual_seed(seed)
    ours = CrossAttention(16, heads).double()
    x, y = torch.randn(b, n, 16).double(), torch.randn(b, m, 16).double()
    padding = torch.rand(b, m) < 0.4
    padding[:, 0] = False
    expected, weights = with_the_weights_of(ours)(x, y, y, padding, average_attn_weights=False)
    out, seen = ours.readable(x, y, padding)
    for found, wanted in ((out, expected), (ours(x, y, padding), expected), (seen, weights)):
        worst = max(worst, (found - wanted).abs().max().item())
claim(
    "Over 16 random sizes, half of them with several heads, the largest difference from "
    "`nn.MultiheadAttention`, outputs and weights, is {worst:.0e} (float64).",
    worst < 1e-12,
    worst=worst,
)

# %% [markdown] tags=["skip"]
# They differ in one case. If *all* keys of an example are padding, PyTorch's module gives NaN. A clip
# without a picture is such a case, so ours reads zeros there, with a finite gradient.

# %% tags=["nbval-check-output", "skip"]
torch.manual_seed(0)
ours = CrossAttention(16, 4).double()
x, y = torch.randn(1, 2, 16).double(), torch.randn(1, 3, 16).double()
nothing = torch.ones(1, 3, dtype=torch.bool)
print("torch:", with_the_weights_of(ours).train()(x, y, y, nothing)[0].isnan().all().item())
print("ours: ", ours(x, y, nothing).isnan().any().item())

# %% [markdown] tags=["skip"]
# {{exercise 121.1a.read-across}}

# %% [markdown] tags=["slide"]
# ### One clock for both
#
# Attention treats its keys as a set: without positions it can't know that two things happened together.
# The usual embedding says the *number* of a token. But here sound has 32 tokens a second and video 16,
# so number 8 is a quarter of a second in one and half a second in the other. We embed the **time in
# seconds**, in sines and cosines whose wavelengths $\lambda_k$ go from 0.1 s to 4 s,
#
# $$
# e(t) = \bigl( \sin 2\pi t/\lambda_1, \dots, \cos 2\pi t/\lambda_1, \dots \bigr) .
# $$ (eq-av-time)
#
# Move the rates, and compare the two.

# %% tags=["hide-input"]
def agreement(audio_rate, video_rate, clock):
    """Dot products of the embeddings of one second of sound and of video, over their maximum."""
    n, m = audio_rate, video_rate
    if clock == "seconds":
        times = token_times(n, audio_rate), token_times(m, video_rate)
    else:  # the token's number, as if both had 32 a second
        times = token_times(n, 32.0), token_times(m, 32.0)
    a, v = (time_embedding(t, 64) for t in times)
    return a @ v.T / 32


def draw_agreement(video_rate, clock):
    fig, ax = plt.subplots(figsize=(4.6, 3.6))
    grid = agreement(32, video_rate, clock)
    shown = ax.imshow(grid, origin="lower", aspect="auto", extent=(0, 1, 0, 1), vmin=-1, vmax=1)
    ax.plot([0, 1], [0, 1], "w--", lw=1)
    ax.set(xlabel="time of the picture (s)", ylabel="time of the sound (s)")
    ax.grid(False)
    fig.colorbar(shown, label="agreement of the embeddings")
    return fig


explore(
    draw_agreement,
    {"video_rate": [8, 16, 32], "clock": ["seconds", "token number"]},
    initial={"video_rate": 16, "clock": "token number"},
    name="Agreement of time embeddings",
    alt=lambda video_rate, clock: (
        f"A map of sound time by picture time, for {video_rate} pictures a second and an embedding "
        f"of the {clock}. "
        + (
            "The bright line is the diagonal: equal times agree."
            if clock == "seconds" or video_rate == 32
            else "The bright line has another slope than the diagonal: other times agree."
        )
    ),
)

# %% tags=["hide-input", "check"]
def off_by(clock):
    """Mean distance in seconds from a picture to the sound token that agrees best."""
    best = agreement(32, 16, clock).argmax(0)
    return (token_times(32, 32.0)[best] - token_times(16, 16.0)).abs().mean().item()


claim(
    "At 16 pictures and 32 sound tokens a second, the sound token that agrees best with a picture is "
    "{seconds:.3f} s away with a clock in seconds, and {number:.3f} s with token numbers.",
    off_by("seconds") < 1 / 32 < 0.2 < off_by("token number"),
    seconds=off_by("seconds"),
    number=off_by("token number"),
)

# %% [markdown] tags=["slide"]
# ### Four fusions with one interface
#
# A fusion takes two streams and their padding, and gives two streams. So they can be exchanged, and
# compared. The first layers of each stream are its own (`super().forward`); the last ones meet.

# %%
show_source(CrossAttentionFusion.forward)

# %%
show_source(BottleneckFusion.forward)

# %% [markdown] tags=["skip"]
# A layer (`Block`) is pre-norm: attention and a small network, each with its own norm and **residual**.
# Note that both streams of {eq}`eq-av-cross` read the state of *before* the layer; if the video read the
# sound's new state, the two would not be treated alike.

# %% [markdown] tags=["slide"]
# ### The model, and what is missing
#
# A learned token goes before each stream. It is there when nothing else is: with the video switched
# off, the sound's tokens find one key. In the end each stream has its own classifier over the mean of
# its tokens, and the logits are averaged over the streams that are there. (MBT averages logits too, but
# its streams share one classifier, which reads a class token of each.)

# %%
show_source(AudioVisualModel.forward)

# %%
show_source(mean_of_present)

# %% [markdown] tags=["skip"]
# {{exercise 121.1a.average-present}}

# %% [markdown] tags=["skip"]
# That a model *accepts* one modality does not mean that it has learned to work with one. In training it
# always had both. **Modality dropout** {cite:p}`neverova2016moddrop` takes modalities away from random
# examples. In the paper each is drawn by itself; ours takes one, never both:

# %%
show_source(modality_dropout)

# %% [markdown] tags=["slide"]
# ### Does an example keep to itself?
#
# The most useful test of a batched model is also the shortest. Change one example of the batch; all the
# others must not notice. To the bit.

# %% tags=["hide-input", "check"]
def small(fusion, **kwargs):
    torch.manual_seed(0)
    return AudioVisualModel(
        SpectrogramTokens(dim=32), FrameTokens(dim=32), 32, 4, 16, fusion=fusion(32, 4, 3), **kwargs
    ).eval()


sound, film = torch.randn(3, 32, 65), torch.rand(3, 16, 16, 16)
others, changed = sound.clone(), film.clone()
others[1], changed[1] = torch.randn(32, 65), torch.rand(16, 16, 16)
moved, kept = {}, {}
with torch.no_grad():
    for fusion in (LateFusion, CrossAttentionFusion, JointFusion, BottleneckFusion):
        model = small(fusion)
        before, after = model(sound, film), model(others, changed)
        kept[fusion.__name__] = (before - after)[[0, 2]].abs().max().item()
        moved[fusion.__name__] = (before - after)[1].abs().max().item()
claim(
    "Sound and film of example 1 are replaced. Its logits move by {low:.2f} to {high:.2f}; those of "
    "examples 0 and 2 by {worst:g}, in all four fusions.",
    max(kept.values()) == 0 < min(moved.values()),
    low=min(moved.values()),
    high=max(moved.values()),
    worst=max(kept.values()),
)

# %% tags=["hide-input", "check"]
with torch.no_grad():
    interaction = {}
    for fusion in (LateFusion, CrossAttentionFusion, JointFusion, BottleneckFusion):
        model = small(fusion).double()
        f = [
            model(a.double(), v.double())
            for a in (sound, sound.roll(1, 0))
            for v in (film, film.roll(1, 0))
        ]
        interaction[fusion.__name__] = (f[0] - f[1] - f[2] + f[3]).abs().max().item()
claim(
    "Is late fusion a sum? Then $z(a, v) - z(a, v') - z(a', v) + z(a', v') = 0$. For "
    "late fusion the largest such value is {late:.0e}, for the other three at least {least:.0e}.",
    interaction["LateFusion"] < 1e-12
    and min(v for k, v in interaction.items() if k != "LateFusion") > 1e-6,
    late=interaction["LateFusion"],
    least=min(v for k, v in interaction.items() if k != "LateFusion"),
)

# %% [markdown] tags=["slide"]
# ## Details that implementations need
#
# 1. **Fuse in the middle.** The first layers find out what is heard; a hum must be a hum before it can
#    be bound. In MBT's ablation mid fusion is better than early and late {cite:p}`nagrani2021mbt`.
# 2. **Cut the sound and the film at the same times.** A crop that is drawn for each modality separately
#    moves one clock against the other, and binding by time is lost.
# 3. **Train the single streams as well.** A joint network can be worse than its best single stream:
#    streams overfit at different speeds, and one schedule does not suit both
#    {cite:p}`wang2020multimodal`.
# 4. **Which layers share weights?** Our joint layers treat both modalities alike; cross-attention and
#    the bottleneck have weights of their own for each. The table below counts them.
# 5. **Embed the modality, not only the time.** In joint attention a query must otherwise tell from the
#    content whether a key was heard or seen.
# 6. **Real films can be out of step.** Networks have been trained to measure the offset between voice
#    and lips {cite:p}`chung2016sync`. Below we see what a delay does to models that expect none.
# 7. **Let like look at like from the start.** Random $W_q$ and $W_k$ make scores that have nothing to do
#    with time. Our layers start with $W_q = W_k$: then $q \cdot k$ is largest, on average, for tokens
#    that are alike, as of the same time. It is a simple case of mimetic initialisation
#    {cite:p}`trockman2023mimetic`. Here is one training with each start. One seed shows how such a
#    training goes, not which start is better:

# %% tags=["long", "hide-input"] name="plateau"
curves = plateau()
print("ceiling without times", round(curves["ceiling"], 3))
for start in ("equal", "independent"):
    print(start, [round(value, 2) for value in curves[start]["binding"]])
keep(**curves)

# %% mystnb={"figure": {"caption": "A small cross-attention model in training, with equal and with independent queries and keys at the start; one seed each. Left: mAP on unseen clips; dotted: the ceiling without times. Right: binding accuracy; dotted: guessing.", "name": "fig-av-plateau"}, "image": {"alt": "Two plots over the steps of training, each with two lines: mAP rises in steps, with flat stretches below the ceiling without times; binding accuracy stays near one half for hundreds of steps, then rises to one."}} tags=["hide-input", "plot"]
PLATEAU = values_of("121.1a.plateau", "steps", "equal", "independent", "ceiling")
if PLATEAU:
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.4, 2.9), constrained_layout=True)
    for start, style in (("equal", "o-"), ("independent", "s--")):
        for ax, key in ((left, "mAP"), (right, "binding")):
            ax.plot(PLATEAU["steps"], PLATEAU[start][key], style, ms=3, label=start)
    left.axhline(ceilings["both known, no times"], color="k", ls=":", lw=1)
    right.axhline(0.5, color="k", ls=":", lw=1)
    left.set(xlabel="step", ylabel="mAP", ylim=(0, 1.02))
    right.set(xlabel="step", ylabel="binding accuracy", ylim=(0, 1.02))
    right.legend(title="queries and keys", fontsize=8)
    plt.show()

# %% tags=["hide-input", "check"]
if PLATEAU:

    def first_bound(start):
        """The first step measured with a binding accuracy above 0.9, in words."""
        pairs = zip(PLATEAU["steps"], PLATEAU[start]["binding"])
        return next((f"by step {k:,}" for k, value in pairs if value > 0.9), "not in this training")

    def waiting(start):
        """Measurements before the first with a binding accuracy above 0.6, and mAP there."""
        before = list(
            itertools.takewhile(
                lambda point: point[1] <= 0.6, zip(PLATEAU[start]["mAP"], PLATEAU[start]["binding"])
            )
        )
        return len(before), max((m for m, _ in before), default=0.0)

    (n_equal, top_equal), (n_independent, top_independent) = map(waiting, ("equal", "independent"))
    say(
        "A binding accuracy above 0.9 is reached {equal} with equal queries and keys, and {independent} with "
        "independent ones. Before, it is at most 0.6 at the first {n_equal} and {n_independent} of {n} "
        "measurements, one every {every} steps, while the mAP climbs to {top_equal:.2f} and "
        "{top_independent:.2f} and in part stands still (ceiling without times: {ceiling:.2f}). "
        "Standing still does not mean that a training has finished.",
        equal=first_bound("equal"),
        independent=first_bound("independent"),
        n_equal=n_equal,
        n_independent=n_independent,
        n=len(PLATEAU["steps"]),
        every=PLATEAU["steps"][0],
        top_equal=top_equal,
        top_independent=top_independent,
        ceiling=ceilings["both known, no times"],
    )
else:
    say("This training is not recorded yet.")

# %% [markdown] tags=["slide"]
# ## The experiment
#
# Six contestants have the same encoders, width and number of layers; those that fuse do so in the last
# two. Each clip has its own level of noise in sound and picture. Each contestant is trained at each rate
# with each seed, over the whole length: a rate that is best early need not be the one that binds. Of its
# rates the one with the best mean mAP on validation clips is taken, and only its models see the test clips.

# %% tags=["hide-input", "skip"]
asked = {name: p.default for name, p in inspect.signature(contest).parameters.items()}
say(
    "In numbers: width {dim}, {depth} layers a stream, {n_train:,} clips to learn from, noise of up to "
    "{audio} in the sound (an event has an amplitude of 0.5 at its loudest) and {video} in the pictures "
    "(an event has 1), the rates {rates}, {seeds} seeds, {steps:,} steps if they fit in the time.",
    dim=asked["dim"],
    depth=DEPTH,
    n_train=asked["n_train"],
    audio=MAX_AUDIO_NOISE,
    video=MAX_VIDEO_NOISE,
    rates=", ".join(f"{rate:g}" for rate in asked["rates"]),
    seeds=len(asked["seeds"]),
    steps=asked["steps"],
)

# %% tags=["gpu", "hide-input"] name="fusion"
result = contest("cuda")
print(f"{result['seconds']:.0f} s, {result['settings']['steps']} steps; rates {result['rate']}")
print("steps:", {n: f"{result['how'][n]} {1e3 * s:.1f} ms" for n, s in result["step seconds"].items()})
for name, row in result["test"].items():
    print(f"{name:11} mAP {statistics.mean(row['mAP']):.3f}  binding {statistics.mean(row['binding']):.3f}")
keep(**result)

# %% tags=["hide-input", "check"]
FUSION = values_of(
    "121.1a.fusion", "test", "baselines", "noise", "missing", "lag", "shown", "step seconds"
)
ALIGNED = values_of("121.1a.aligned", "table")
NOT_YET = "This part of the experiment is not recorded yet."


def spread(values, digits=3):
    """Mean ± standard deviation over the seeds."""
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def mean_of(rows, name, key="mAP"):
    return statistics.mean(rows[name][key])


if FUSION:
    TEST = FUSION["test"]
    best, second = sorted((mean_of(TEST, n) for n in TEST), reverse=True)[:2]
    lines = ["| contestant | weights | rate | mAP | binding accuracy |", "|---|---|---|---|---|"]
    simple = {n: FUSION["baselines"][n]["mAP"] for n in ("constant", "linear on means")} | ceilings
    for name, value in sorted(simple.items(), key=lambda item: item[1]):
        lines.append(
            f"| *{name}* | – | – | {value:.3f} | {FUSION['baselines'][name]['binding']:.2f} |"
        )
    for name in LABEL:
        row = TEST[name]
        value = spread(row["mAP"])
        value = f"**{value}**" if mean_of(TEST, name) == best > second + 0.005 else value
        lines.append(
            f"| {LABEL[name]} | {FUSION['parameters'][name] / 1000:.0f} k | {FUSION['rate'][name]:g} "
            f"| {value} | {spread(row['binding'], 2)} |"
        )
    if ALIGNED:
        rows = ALIGNED["table"]["in step"]
        lines.append(
            f"| side by side, no attention (8,000 clips; below) | – | – "
            f"| {spread([r['mAP'] for r in rows])} | {spread([r['binding'] for r in rows], 2)} |"
        )
    say(
        "\n".join(lines)
        + "\n\nTest clips, {n} of them; mean ± standard deviation over {seeds} seeds. In italics what needs "
        "no network: a constant, a logistic regression on spectra and pictures averaged over time, and "
        "the three ceilings without times, of the 40,000 clips above. The weights of a single stream include the idle other one. "
        "Guessing binds 0.50. All trainings, those that chose the rates too, took {steps:,} steps of {batch} clips.",
        steps=FUSION["settings"]["steps"],
        batch=FUSION["settings"]["batch_size"],
        n=f"{FUSION['settings']['n_test']:,}",
        seeds=FUSION["settings"]["seeds"],
    )
else:
    say(NOT_YET)

# %% tags=["hide-input", "check"]
if FUSION:
    line = ceilings["both known, no times"]
    above = [n for n in LABEL if min(TEST[n]["mAP"]) > line + 0.01]
    below = [n for n in LABEL if max(TEST[n]["mAP"]) < line - 0.01]
    at_line = [n for n in LABEL if all(abs(value - line) <= 0.01 for value in TEST[n]["mAP"])]
    order = sorted((n for n in FUSED if n != "late"), key=lambda n: -mean_of(TEST, n))
    gap_late, half_late = paired(TEST[order[0]]["mAP"], TEST["late"]["mAP"])
    gap_next, half_next = paired(TEST[order[0]]["mAP"], TEST[order[1]]["mAP"])
    single = max(("audio", "video"), key=lambda n: mean_of(TEST, n))
    gap_one, half_one = paired(TEST["late"]["mAP"], TEST[single]["mAP"])
    say(
        "The line to pass is {line:.3f}, what perfect ears and eyes could have without times. More than 0.01 "
        "above it with every seed: {above}. Within 0.01 of it with every seed, as with perfect senses and "
        "nothing bound: {at_line}. More than 0.01 below it with every seed: {below}. Best by its mean: {first}; minus late "
        "fusion it is {gap_late:+.3f} ± {half_late:.3f} (95 % interval over paired seeds: {say_late}), minus "
        "the next, {second}, {gap_next:+.3f} ± {half_next:.3f} ({say_next}). Late fusion minus the better "
        "single stream: {gap_one:+.3f} ± {half_one:.3f} ({say_one}).",
        line=line,
        above=listed(above),
        below=listed(below),
        at_line=listed(at_line),
        first=LABEL[order[0]],
        second=LABEL[order[1]],
        gap_late=gap_late,
        half_late=half_late,
        say_late=in_words(gap_late, half_late),
        gap_next=gap_next,
        half_next=half_next,
        say_next=in_words(gap_next, half_next),
        gap_one=gap_one,
        half_one=half_one,
        say_one=in_words(gap_one, half_one),
    )
    bound = [n for n in FUSED if min(TEST[n]["binding"]) > 0.9]
    guess = [n for n in FUSED if max(TEST[n]["binding"]) < 0.6]
    say(
        "Binding accuracy above 0.9 with every seed: {bound}. Below 0.6 with every seed: {guess}. The others, "
        "whose seeds differ or lie between: {rest}. A training may wait on a plateau before it binds, "
        "so this says who has found the clock within {steps:,} steps, not who can't.",
        bound=listed(bound),
        guess=listed(guess),
        rest=listed(n for n in FUSED if n not in bound + guess),
        steps=FUSION["settings"]["steps"],
    )
    edges = [
        LABEL[n]
        for n, r in FUSION["rate"].items()
        if r in (min(map(float, FUSION["tuning"][n])), max(map(float, FUSION["tuning"][n])))
    ]
    say(
        "Chosen rates that lie at an edge of the grid ("
        + ", ".join(FUSION["tuning"]["cross"])
        + "): {edges}.",
        edges=", ".join(edges) or "none",
    )
    at_rate = {
        n: {
            rate: sum(value > 0.9 for value in scores["binding"])
            for rate, scores in FUSION["tuning"][n].items()
        }
        for n in FUSED
    }
    say(
        "Seeds of {seeds} that bind on validation clips (accuracy above 0.9), by rate: "
        + "; ".join(
            f"{LABEL[n]} " + ", ".join(f"{count} at {rate}" for rate, count in counts.items())
            for n, counts in at_rate.items()
        )
        + ". "
        + (
            "At some rate each fusion but the late one binds with every seed."
            if all(
                max(at_rate[n].values()) == FUSION["settings"]["seeds"] for n in FUSED if n != "late"
            )
            else "So the rate decides who binds within this length, and the contest shows what this recipe "
            "gives, not the best that each fusion can do."
            if any(len(set(at_rate[n].values())) > 1 for n in FUSED if n != "late")
            else "So no rate of the grid decides who binds within this length."
        ),
        seeds=FUSION["settings"]["seeds"],
    )
    if PLATEAU:
        say(
            "The cross-attention that was followed above, of the same width and with batches of the same "
            "size, but with fewer clips to learn from, had the rate {its_rate:g} and had bound {when}. Here "
            "cross-attention got {rate:g}, and its binding accuracy is {binding}.",
            its_rate=inspect.signature(plateau).parameters["rate"].default,
            when=first_bound("equal"),
            rate=FUSION["rate"]["cross"],
            binding=spread(TEST["cross"]["binding"], 2),
        )
else:
    say(NOT_YET)

# %% [markdown] tags=["skip"]
# **Is attention needed?** Our clips are cut at the same times, so there is a simpler fusion: lay each
# picture beside the four spectra of its sixteenth of a second, and let one small perceptron look at each
# such moment by itself. A pair's logit is the log-sum-exp over the 16 moments. There is no attention, and
# hardly a moment holds two events.

# %% tags=["long", "hide-input"] name="aligned"
table = aligned_contest()
for name, rows in table.items():
    print(name, *(f"mAP {row['mAP']:.3f} binding {row['binding']:.3f};" for row in rows))
keep(table=table)

# %% tags=["hide-input", "check"]
if ALIGNED:
    in_step, off = ALIGNED["table"]["in step"], ALIGNED["table"]["a quarter off"]
    say(
        "With 8,000 clips and 500 steps its binding accuracy is {binding} and its mAP {value} ({n} seeds). "
        "With the sound a quarter of a second off, in training too, they are {off_binding:.2f} and "
        "{off_value:.2f} (one seed). Where both streams are in step, laying them side by side binds, and "
        "attention has to learn what this fusion is told: which moments belong together. It earns its "
        "place where delays vary, or where what belongs together lies apart in time; neither is so in our "
        "training clips.",
        binding=spread([row["binding"] for row in in_step], 2),
        value=spread([row["mAP"] for row in in_step], 2),
        n=len(in_step),
        off_binding=off[0]["binding"],
        off_value=off[0]["mAP"],
    )

# %% [markdown] tags=["slide"]
# ### What does attention look at?
#
# Take a test clip, and let the cross-attention model show the weights with which each sound token reads
# the pictures. While an event sounds, does the token look at the pictures of that event?

# %% mystnb={"figure": {"caption": "Weights of the sound's tokens (rows) over the pictures (columns) in the two layers that meet, mean of the heads, for the clip of the question. Boxes: where a sound token and a picture belong to the same event.", "name": "fig-av-attention"}, "image": {"alt": "Two maps of sound time by picture time with three boxes on the diagonal that mark the three events."}} tags=["hide-input", "plot"]
if FUSION:
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.3), constrained_layout=True, sharey=True)
    for k, (ax, layer) in enumerate(zip(axes, FUSION["shown"]["maps"])):
        weights = np.array(layer[0])
        shown = ax.imshow(weights, origin="lower", aspect="auto", extent=(0, 1, 0, 1), cmap="viridis")
        for onset, length in zip(question.onset[0].tolist(), question.duration[0].tolist()):
            ax.add_patch(plt.Rectangle((onset, onset), length, length, fill=False, ec="w", lw=1.5))
        ax.set(xlabel="time of the picture (s)", title=f"meeting layer {k + 1}")
        ax.grid(False)
        fig.colorbar(shown, ax=ax, label="weight")
    axes[0].set(ylabel="time of the sound (s)")
    plt.show()

# %% tags=["hide-input", "check"]
if FUSION:
    parts = []
    for layer in (0, 1):
        own = [seed[layer][0] for seed in FUSION["attention"]]
        even = FUSION["attention"][0][layer][1]
        parts.append(f"layer {layer + 1}: {spread(own, 2)} (looking evenly: {even:.2f})")
    say(
        "Over all test clips with two or three events: of the weight that a sound token of an event gives to "
        "pictures of events, the share that goes to its own event is "
        + "; ".join(parts)
        + ". A map is an observation, not a proof: the binding accuracy in the table is the test."
    )
    if "cross" in guess:
        say("This cross-attention has not bound anything, and looks at all events alike.")
else:
    say(NOT_YET)

# %% [markdown] tags=["slide"]
# ### Noise in one modality
#
# Now the noise in the sound is swept, far beyond what training had. The pictures stay as they were. Two of
# the fusions are trained once more, with modality dropout and rates chosen in the same way. Only examples
# that keep both modalities can teach binding, so these trainings get more steps, if there is time; how many
# is said below.

# %% tags=["gpu", "hide-input"] name="fusion-dropout"
result = contest("cuda", ROBUST, dropout=DROPOUT, steps=int(STEPS / (1 - DROPOUT)))
print(f"{result['seconds']:.0f} s, {result['settings']['steps']} steps; rates {result['rate']}")
print("steps:", {n: f"{result['how'][n]} {1e3 * s:.1f} ms" for n, s in result["step seconds"].items()})
for name, row in result["test"].items():
    print(f"{name:11} mAP {statistics.mean(row['mAP']):.3f}  binding {statistics.mean(row['binding']):.3f}")
keep(**result)

# %% tags=["hide-input", "skip"]
ROBUSTLY = values_of("121.1a.fusion-dropout", "test", "noise", "missing", "shown", "step seconds")
ROBUST_NAMES = ROBUST if ROBUSTLY else ()
if not ROBUSTLY:
    say("The trainings with modality dropout are not recorded yet; what follows is without them.")

# %% mystnb={"figure": {"caption": "mAP against the noise in the sound. Solid: trained on both modalities. Dashed: trained with modality dropout. Shaded: levels seen in training. Mean and standard deviation over seeds.", "name": "fig-av-noise"}, "image": {"alt": "Lines of mAP over the level of noise for six contestants. The one of pictures alone is flat; the others fall as the noise grows."}} tags=["hide-input", "plot"]
if FUSION:
    levels = list(AUDIO_NOISE)
    fig, ax = plt.subplots(figsize=(7, 3.4))
    ax.axvspan(0.015, MAX_AUDIO_NOISE, color="0.93")
    sweeps = [(FUSION["noise"], LABEL, "o-")]
    if ROBUSTLY:
        sweeps.append((ROBUSTLY["noise"], ROBUST, "s--"))
    for rows, names, style in sweeps:
        for name in names:
            runs = [rows[str(level)][name]["mAP"] for level in levels]
            ax.errorbar(
                levels,
                [statistics.mean(r) for r in runs],
                [statistics.stdev(r) for r in runs],
                fmt=style,
                ms=4,
                capsize=2,
                color=COLOR[name],
                label=LABEL[name] if style == "o-" else None,
            )
    ax.set(xlabel="standard deviation of the noise in the sound", ylabel="mAP", ylim=(0, 1))
    ax.set_xscale("log")
    ax.set_xticks(levels, [f"{v:g}" for v in levels])
    ax.minorticks_off()
    ax.set_xlim(0.015, 3.2)
    ax.legend(fontsize=8, ncols=2)
    plt.show()

# %% tags=["hide-input", "check"]
if FUSION:
    loudest = str(AUDIO_NOISE[-1])
    pictures = FUSION["noise"][loudest]["video"]["mAP"]
    worse, not_worse = [], []
    for record, names, how in ((FUSION, FUSED, ""), (ROBUSTLY, ROBUST_NAMES, " with dropout")):
        for name in names:
            gap, half = paired(record["noise"][loudest][name]["mAP"], pictures)
            label = LABEL[name] + how
            (worse if gap + half < 0 else not_worse).append(f"{label} ({gap:+.3f} ± {half:.3f})")
    say(
        "At the loudest noise, {loudest}, the pictures alone still have {alone:.3f}. Minus that, over paired "
        "seeds (95 %): worse than the pictures alone are {worse}; not shown to be worse are {rest}.",
        loudest=loudest,
        alone=statistics.mean(pictures),
        worse=", ".join(worse) or "none",
        rest=", ".join(not_worse) or "none",
    )
else:
    say(NOT_YET)

# %% [markdown] tags=["skip"]
# A noisy microphone is not a missing one: whoever knows that the sound is bad can mute it. Does that
# help? The end of the next part compares.

# %% [markdown] tags=["slide"]
# ### One modality missing

# %% tags=["hide-input", "check"]
if FUSION:
    lines = ["| fusion | trained with | both | sound only | pictures only |", "|---|---|---|---|---|"]
    for name in FUSED:
        for record, label in ((FUSION, "both, always"), (ROBUSTLY, "modality dropout")):
            if not record or name not in record["missing"]:
                continue
            row = record["missing"][name]
            lines.append(
                f"| {LABEL[name]} | {label} | "
                + " | ".join(spread(row[what]) for what in ("both", "audio", "video"))
                + " |"
            )
    lines.append(
        f"| *one stream, trained alone* | – | – | {spread(TEST['audio']['mAP'])} "
        f"| {spread(TEST['video']['mAP'])} |"
    )
    say("\n".join(lines) + "\n\nmAP, mean ± standard deviation over seeds.")
    muting = {}
    for record, names, how in ((FUSION, FUSED, ""), (ROBUSTLY, ROBUST_NAMES, " with dropout")):
        for name in names:
            muting[LABEL[name] + how] = paired(
                record["missing"][name]["video"], record["noise"][str(AUDIO_NOISE[-1])][name]["mAP"]
            )
    verdicts = {
        "muting helps": [n for n, (gap, half) in muting.items() if gap > half],
        "muting hurts": [n for n, (gap, half) in muting.items() if -gap > half],
        "no difference shows": [n for n, (gap, half) in muting.items() if abs(gap) <= half],
    }
    say(
        "Pictures only, minus the loudest noise in the sound ({loudest}), over paired seeds (95 %): "
        + "; ".join(
            f"**{verdict}**: "
            + (", ".join(f"{n} ({muting[n][0]:+.3f} ± {muting[n][1]:.3f})" for n in names) or "none")
            for verdict, names in verdicts.items()
        )
        + ".",
        loudest=AUDIO_NOISE[-1],
    )
else:
    say(NOT_YET)

# %% tags=["hide-input", "check"]
if FUSION and ROBUSTLY:
    words = {"both": "both", "audio": "the sound only", "video": "the pictures only"}
    gains = {
        (name, what): paired(ROBUSTLY["missing"][name][what], FUSION["missing"][name][what])
        for name in ROBUST
        for what in ("audio", "video", "both")
    }
    whole = (1 - ROBUSTLY["settings"]["dropout"]) * ROBUSTLY["settings"]["steps"]
    say(
        "With modality dropout minus without, paired over seeds (95 %): "
        + "; ".join(
            f"{LABEL[name]} with {words[what]} {gap:+.3f} ± {half:.3f}"
            for (name, what), (gap, half) in gains.items()
        )
        + ".\n\nThe trainings with dropout took {steps:,} steps, and on average {whole:.0%} of their "
        "examples kept both modalities. That is {ratio:.2f} times as many such examples as without dropout, and "
        "{longer:.2f} times as many steps. At noise {level} the binding accuracy of cross-attention is "
        "{with_it} with dropout, and {without} without.",
        steps=ROBUSTLY["settings"]["steps"],
        whole=1 - ROBUSTLY["settings"]["dropout"],
        ratio=whole / FUSION["settings"]["steps"],
        longer=ROBUSTLY["settings"]["steps"] / FUSION["settings"]["steps"],
        level=AUDIO_NOISE[1],
        with_it=spread(ROBUSTLY["noise"][str(AUDIO_NOISE[1])]["cross"]["binding"], 2),
        without=spread(FUSION["noise"][str(AUDIO_NOISE[1])]["cross"]["binding"], 2),
    )
    gap, half = gains["late", "both"]
    if gap + half < 0:
        say(
            "Late fusion can't bind and loses as well ({gap:+.3f} ± {half:.3f}), so binding is not all "
            "that dropout costs.",
            gap=gap,
            half=half,
        )

# %% [markdown] tags=["skip"]
# Now try it: mute the sound, cover the pictures, or turn up the noise, and see what a cross-attention
# model makes of the clip of the question.

# %% tags=["hide-input"]
PREDICTIONS = {
    label: record["shown"]["predictions"]
    for label, record in (("both, always", FUSION), ("modality dropout", ROBUSTLY))
    if record
}
MUTED = {"nothing": "nothing left out", "sound": "sound left out", "picture": "pictures left out"}


def draw_prediction(noise, left_out, trained_with):
    mel, frames = shown_clip(SHOWN, noise)
    fig, _ = draw_clip(
        torch.full_like(mel, -1.0) if left_out == "sound" else mel,
        torch.zeros_like(frames) if left_out == "picture" else frames,
    )
    fig.set_size_inches(8.2, 3.2)
    if PREDICTIONS:
        grid = np.array(PREDICTIONS[trained_with][str(float(noise))][left_out]).reshape(4, 4)
        fig.get_layout_engine().set(rect=(0, 0, 0.6, 1))
        ax = fig.add_axes((0.72, 0.2, 0.26, 0.66))
        ax.imshow(grid, vmin=0, vmax=1, cmap="Greens")
        ax.set_in_layout(False)
        for s, p in itertools.product(range(4), repeat=2):
            ax.text(p, s, f"{grid[s, p]:.2f}", ha="center", va="center", fontsize=7,
                    color="w" if grid[s, p] > 0.6 else "k")  # fmt: skip
        for s, p in zip(question.sound[0].tolist(), question.picture[0].tolist()):
            ax.add_patch(plt.Rectangle((p - 0.5, s - 0.5), 1, 1, fill=False, ec="tab:red", lw=2))
        ax.set_xticks(range(4), PICTURES, fontsize=7)
        ax.set_yticks(range(4), SOUNDS, fontsize=7)
        ax.set_title("probability; red: true pairs", fontsize=8)
        ax.grid(False)
    return fig


def told_prediction(noise, left_out, trained_with):
    text = f"The clip with noise {noise:g} in the sound, {MUTED[left_out]}."
    if PREDICTIONS:
        grid = np.array(PREDICTIONS[trained_with][str(float(noise))][left_out]).reshape(4, 4)
        order = grid.flatten().argsort()[::-1][:3]
        text += " Most probable: " + ", ".join(
            f"{SOUNDS[k // 4]} with {PICTURES[k % 4]} ({grid.flatten()[k]:.2f})" for k in order
        )
    return text + "."


explore(
    draw_prediction,
    {
        "noise": [AUDIO_NOISE[k] for k in (0, 2, 3, 5)],
        "left_out": list(MUTED),
        "trained_with": list(PREDICTIONS) or ["not recorded yet"],
    },
    initial={"noise": AUDIO_NOISE[0], "left_out": "nothing"},
    name="Predictions with noise or without a modality",
    alt=told_prediction,
)

# %% [markdown] tags=["slide"]
# ### Out of step
#
# A model can bind in two ways: by the times, or by the *order*, first sound with first picture. A delay
# hurts whoever binds by time, and leaves the order as it is, as long as all pictures stay in the clip. A
# long delay pushes the last one out. The same test clips, with the pictures late:

# %% mystnb={"figure": {"caption": "Binding accuracy against the delay of the pictures; all models were trained in step. Dotted: guessing. An event lasts 0.16 to 0.26 s.", "name": "fig-av-lag"}, "image": {"alt": "Lines of binding accuracy over the delay of the pictures from 0 to 0.3 seconds for four fusions, with a dotted line at one half."}} tags=["hide-input", "plot"]
if FUSION:
    fig, ax = plt.subplots(figsize=(6.4, 2.8))
    for name in FUSED:
        runs = [FUSION["lag"][str(lag)][name]["binding"] for lag in LAGS]
        ax.errorbar(
            list(LAGS),
            [statistics.mean(r) for r in runs],
            [statistics.stdev(r) for r in runs],
            fmt="o-",
            capsize=2,
            color=COLOR[name],
            label=LABEL[name],
        )
    ax.axhline(0.5, color="k", ls=":", lw=1)
    ax.set(xlabel="delay of the pictures (s)", ylabel="binding accuracy", ylim=(0, 1.02))
    ax.legend(fontsize=8)
    plt.show()

# %% tags=["hide-input", "check"]
def cut_off(lag):
    """Share of clips with two events in which a delay takes away at least one frame of a picture."""
    middle = (torch.arange(16) + 0.5) / 16

    def frames_shown(start):
        end = start + many.duration
        return ((middle >= start[..., None]) & (middle < end[..., None])).sum(-1)

    # A delay may also move an event's edge across the middle of a frame: one frame is no loss.
    fewer = frames_shown(many.onset + lag) < frames_shown(many.onset) - 1
    two = many.present.sum(1) == 2
    return (fewer & many.present).any(1)[two].float().mean().item()


if FUSION:
    parts = []
    for lag in LAGS[-2:]:
        changes = {
            n: paired(
                FUSION["lag"][str(lag)][n]["binding"], FUSION["lag"][str(LAGS[0])][n]["binding"]
            )
            for n in FUSED
        }
        parts.append(
            f"With a delay of {lag} s, which cuts off more than one frame of a picture in "
            f"{cut_off(lag):.0%} of the clips with two events, the binding accuracy changes by "
            + "; ".join(f"{LABEL[n]} {gap:+.2f} ± {half:.2f}" for n, (gap, half) in changes.items())
            + "."
        )
    below = [n for n in FUSED if max(FUSION["lag"][str(LAGS[-1])][n]["binding"]) < 0.45]
    say(
        " ".join(parts)
        + " (95 %, paired over seeds.) Below 0.45 at {lag} s with every seed: {below}. A picture that is "
        "cut off leaves a guess, a half; below it, sounds are bound to the pictures of other events.",
        lag=LAGS[-1],
        below=listed(below),
    )
    if not bound:  # else the numbers above say what a delay takes away
        say(
            "No fusion of this contest has bound without a delay, so a delay has nothing to take away, and "
            "this test can tell nothing here."
        )
else:
    say(NOT_YET)

# %% [markdown] tags=["skip"]
# {{exercise 121.1a.chance-of-pair}}

# %% [markdown] tags=["slide"]
# ## At scale
#
# | data (paper's numbers) | sound | pictures | both |
# |---|---|---|---|
# | AudioSet, mAP, MBT trained on a subset of 500,000 {cite:p}`nagrani2021mbt` | 41.5 | 31.3 | 49.6 |
# | VGGSound, top-1 accuracy (%), MBT {cite:p}`nagrani2021mbt` | 52.3 | 51.2 | 64.1 |
#
# There each modality has evidence of its own: a guitar can be seen *and* heard. So fusion adds to both,
# and late fusion is a strong baseline (section {doc}`121.1b <1b_audioset>` has the sound of AudioSet).
# In our clips nothing but the time tells the pairs apart. Between these lie real tasks: who is speaking,
# what made that noise. The joint form, tokens of all modalities in one transformer, needs no decision
# about who meets whom, and pays $(n+m)^2$ scores for it.
#
# ## Limits
#
# - Sounds and pictures are made from a recipe, with little variety. What is shown is which structures
#   have learned to bind in this training, not what recognises real sounds.
# - One size, one training budget, three rates. A ranking of those who pass the ceiling may change with each.
# - A model trained in step knows no delay. Real films need an offset that is measured, or training with
#   delays.
# - mAP over 16 equally frequent classes. Section {doc}`121.1b <1b_audioset>` has rare ones.
# - At work: `nn.MultiheadAttention(..., batch_first=True)` or `scaled_dot_product_attention` for the
#   attention; the authors' MBT lies in `scenic` (JAX). Pretrained encoders for both streams matter more
#   than the fusion.

# %% [markdown] tags=["slide"]
# ## Slips that still run
#
# The chapter began with a short listing: two encoders, `nn.MultiheadAttention(fusion_dim, num_heads=8)`
# with the sound as query and the video as key and value, the mean over time, a linear layer. The
# {doc}`errata </book/errata>` list its slips, each with a test. Three of them run without an error.
#
# **`batch_first` is left out**, so the first axis, the batch, is taken for time:

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
fuse = nn.MultiheadAttention(64, num_heads=8)  # (time, batch, width) is expected
audio, video = torch.randn(3, 5, 64), torch.randn(3, 5, 64)  # (batch, time, width) is given
before = fuse(audio, video, video)[0].mean(1)
video[1] += 1.0  # the film of example 1 ...
change = (fuse(audio, video, video)[0].mean(1) - before).abs().amax(1)
print("example 0 changes:", bool(change[0] > 0.1))  # ... reaches example 0

# %% [markdown] tags=["skip"]
# **No residual.** With the batch first, a picture that stands still makes all values equal. Then the
# weights do not matter, and the sound, which only makes weights, is gone. **No times.** Turn the film
# round, and nothing changes:

# %% tags=["hide-input", "check"]
torch.manual_seed(0)
fuse = nn.MultiheadAttention(64, num_heads=8, batch_first=True).double()
audio, other, video = (torch.randn(2, 5, 64).double() for _ in range(3))
still = video[:, :1].expand(2, 5, 64)


def listing(a, v):
    return fuse(a, v, v)[0].mean(1)


with torch.no_grad():
    sound_lost = (listing(audio, still) - listing(other, still)).abs().max().item()
    turned = (listing(audio, video) - listing(audio, video.flip(1))).abs().max().item()
    model = small(CrossAttentionFusion).double()
    s, o, f = sound.double(), sound.roll(1, 0).double(), film[:, :1].expand_as(film).double()
    ours_sound = (model(s, f) - model(o, f)).abs().max().item()
    ours_turned = (model(s, film.double()) - model(s, film.double().flip(1))).abs().max().item()
claim(
    "Another sound before a still picture moves the listing's output by {sound_lost:.0e}, and ours by "
    "{ours_sound:.0e}. The film backwards moves the listing's by {turned:.0e}, and ours by "
    "{ours_turned:.0e}.",
    max(sound_lost, turned) < 1e-12 < 1e-4 < min(ours_sound, ours_turned),
    sound_lost=sound_lost,
    ours_sound=ours_sound,
    turned=turned,
    ours_turned=ours_turned,
)

# %% [markdown] tags=["skip"]
# ## Quiz

# %% [markdown] tags=["skip"]
# {{quiz 121.1a}}

# %% [markdown] tags=["slide"]
# ## Summary
#
# - Late fusion is a sum: it can add evidence, and can't say what happened together.
# - Cross-attention lets a token of one stream read the other; a residual keeps what it knew itself.
# - Give both streams one clock, in seconds. Token numbers of unequal rates disagree.
# - A bottleneck lets the streams meet in a few shared tokens, at less cost than joint attention.
# - Test batch independence; compare with the best that is possible without binding, and with the
#   streams laid side by side.
#
# References: each citation above leads to its source; the
# {doc}`bibliography </book/bibliography>` lists them all.
