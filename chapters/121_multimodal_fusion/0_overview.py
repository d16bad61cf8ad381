# %% [markdown]
# (sec-121)=
# # 121 Multimodal fusion
#
# A film has a picture and a sound, a photograph on a web page has a sentence beside it. One model for
# both can know more than two models apart. But where do the two streams meet, and what may each of
# them learn from the other there? This chapter builds four systems, with four answers.
#
# | section | what meets | where | what you build |
# |---|---|---|---|
# | {doc}`121.1a Audio-visual fusion <1a_audio_visual>` | sound and pictures | in attention, at the same time | cross-attention, MBT, modality dropout |
# | {doc}`121.1b Audio tagging <1b_audioset>` | a waveform and its spectrogram | in one vector, after pooling over time | log-mel spectrogram, two encoders, mAP |
# | {doc}`121.2a CLIP <2a_clip>` | pictures and captions | in one dot product | CLIP's loss and SigLIP's, zero-shot classes |
# | {doc}`121.2b BLIP-2 <2b_blip2>` | a picture and a language model | in a prompt that is no word | Q-Former, three masks, two stages |
#
# Each takes about an hour, and none needs a GPU: where one would tell more, you see what was recorded
# on one. What the document's own listings get wrong is told in the {doc}`errata </book/errata>`, each
# with a test.

# %% [markdown]
# :::{diagram} figures/0_overview.svg
# ---
# name: fig-fusion-map
# alt: A map of four boxes. Audio tagging, waveform and spectrum that meet when pooled over time, gives
#   its log-mel spectrum to audio-visual fusion, where sound and pictures meet by attention in time.
#   CLIP, picture and caption that meet in one dot product, takes its loss from section 120.1a and gives
#   the loss and frozen encoders to BLIP-2, where a picture and a frozen language model meet in a soft
#   prompt. BLIP-2 also takes cross-attention from audio-visual fusion.
# ---
# The chapter's systems, and what each takes from another. You can read them in any order; an arrow
# says where a part is explained. LM: language model; dashed: from elsewhere.
# :::

# %% [markdown]
# ## What you will be able to do
#
# - Write each way to fuse from its equation, and prove it equal to an independent implementation.
# - Say before training what a fusion can't represent, whatever the data.
# - Keep a model useful when one modality is noisy or missing.
# - Choose between training everything, a head between frozen encoders, and a prompt for a frozen
#   language model.
# - Measure against the best that one modality, or a linear model, can do.
#
# ## One question to begin with
#
# Here are four clips. In each of them you hear a hum and a hiss, and see a ring and a square. In which
# two does the **ring hum**?

# %% tags=["definitions", "hide-input"]
import itertools
import math
import statistics

import matplotlib.pyplot as plt
import torch

from dlcourse.datasets import PICTURES, SOUNDS, event_clips, event_factors
from dlcourse.multimodal_fusion import LogMelSpectrogram
from dlcourse.notebook import claim, explore, paired, say, values_of

plt.style.use("dlcourse.notebook.course")


# %% mystnb={"figure": {"caption": "Four clips of one second. Above each, its sound: how loud each pitch is at each time (low stripes: the hum; high cloud: the hiss). Below, its pictures, put side by side.", "name": "fig-four-clips"}, "image": {"alt": "Four clips in two rows. In the upper row the hum comes first, in the lower row the hiss. In the left column the ring is seen first, in the right column the square. All four have the same two times."}} tags=["hide-input", "plot"]
HEARD, SEEN = ("hum", "hiss"), ("ring", "square")
CLIPS = list(itertools.product((0, 1), (0, 1)))  # is the hiss first? is the square first?
drawn = event_factors(4, torch.Generator().manual_seed(0))
drawn.present[:] = torch.tensor([True, True, False])
drawn.onset[:] = torch.tensor([0.12, 0.58, 0.9])
drawn.duration[:], drawn.pitch[:] = 0.26, 0.5
drawn.x[:], drawn.y[:], drawn.radius[:] = 0.5, 0.5, 0.3
for k, (late_hum, late_ring) in enumerate(CLIPS):
    for event in (0, 1):
        drawn.sound[k, event] = SOUNDS.index(HEARD[event ^ late_hum])
        drawn.picture[k, event] = PICTURES.index(SEEN[event ^ late_ring])
clips = event_clips(4, torch.Generator().manual_seed(0), audio_noise=0.01, factors=drawn)
mel = LogMelSpectrogram(8000, 256, 125, 32)(clips.waveform)

fig = plt.figure(figsize=(7.5, 4.2), layout="constrained")
for k, part in enumerate(fig.subfigures(2, 2).flat):
    top, bottom = part.subplots(2, 1, height_ratios=[2, 1], sharex=True)
    top.imshow(mel[k], origin="lower", aspect="auto", extent=(0, 1, 0, 32), cmap="magma")
    film = clips.frames[k].permute(1, 0, 2).flatten(1)
    bottom.imshow(film, aspect="auto", extent=(0, 1, 0, 1), cmap="gray")
    top.set(title=f"clip {k + 1}", ylabel="mel band")
    bottom.set(xlabel="time (s)", ylabel="film", yticks=[])
    for ax in (top, bottom):
        ax.grid(False)
plt.show()

# %% [markdown]
# Neither the sound nor the pictures tell it alone: the sounds of clips 1 and 2 are alike, so are the
# pictures of clips 1 and 3, and the answers differ. Suppose that two networks recognise everything, *with its time*, and each
# gives a score; their sum decides whether the ring hums. That is **late fusion**, $f(a) + g(v)$. Choose
# the four scores so that the signs of all four sums are right. Then add a term that sees both streams.

# %% tags=["hide-input"]
truth = [late_hum == late_ring for late_hum, late_ring in CLIPS]


def sums(hum_first, hiss_first, ring_first, square_first, both=0):
    """The score of each clip; the last term is +both where the streams agree, else −both."""
    f, g = (hum_first, hiss_first), (ring_first, square_first)
    return [f[i] + g[j] + (both if i == j else -both) for i, j in CLIPS]


def right(scores):
    return sum((score > 0) == answer for score, answer in zip(scores, truth, strict=True))


def draw_sums(hum_first, hiss_first, ring_first, square_first, both):
    scores = sums(hum_first, hiss_first, ring_first, square_first, both)
    fig, ax = plt.subplots(figsize=(4.4, 2.6), layout="constrained")
    fits = [(score > 0) == answer for score, answer in zip(scores, truth, strict=True)]
    bars = ax.bar(range(4), scores, color=["tab:green" if ok else "tab:red" for ok in fits])
    ax.bar_label(bars, ["right" if ok else "wrong" for ok in fits], padding=2, fontsize=8)
    ax.axhline(0, color="0.3", lw=1)
    ax.set_xticks(range(4), [f"clip {k + 1}\n{'yes' if t else 'no'}" for k, t in enumerate(truth)])
    ax.set(ylim=(-13, 13), ylabel="score (yes above 0)", title=f"{right(scores)} of 4 right")
    return fig


explore(
    draw_sums,
    {
        "hum_first": (-3, -1, 1, 3),
        "hiss_first": (-3, -1, 1, 3),
        "ring_first": (-2, 2),
        "square_first": (-2, 2),
        "both": (0, 6),
    },
    initial={"hum_first": 3, "hiss_first": -1, "ring_first": 2, "square_first": -2, "both": 0},
    name="Can a sum bind",
    alt=lambda **chosen: (
        f"Scores of the four clips: {', '.join(map(str, sums(**chosen)))}; "
        f"{right(sums(**chosen))} of 4 have the right sign."
    ),
)

# %% tags=["hide-input", "check"]
best = max(right(sums(*scores)) for scores in itertools.product(range(-9, 10), repeat=4))
mended = right(sums(3, -1, 2, -2, both=6))
generator = torch.Generator().manual_seed(0)
ends = {}
for sees_both in (False, True):
    f, g, w = (torch.randn(n, generator=generator, requires_grad=True) for n in (2, 2, 1))
    optimizer = torch.optim.Adam([f, g, w] if sees_both else [f, g], lr=0.1)
    sign = torch.tensor([1.0 if answer else -1.0 for answer in truth])
    for _ in range(400):
        z = (f[:, None] + g).flatten() + (sign * w if sees_both else 0)
        loss = torch.nn.functional.softplus(-sign * z).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    ends[sees_both] = loss.item()
claim(
    "Over all whole scores from −9 to 9 a sum is right for at most {best} of the 4 clips. With the other "
    "term {mended} are right. Trained on these clips, the sum ends at a loss of {alone:.3f} nats (a coin's "
    "is {coin:.3f}), the sum with the other term at {both:.3f}.",
    best == 3 and mended == 4 and abs(ends[False] - math.log(2)) < 1e-3 and ends[True] < 0.05,
    best=best,
    mended=mended,
    alone=ends[False],
    coin=math.log(2),
    both=ends[True],
)

# %% [markdown]
# The reason takes one line: clips 1 and 4 together have the same sum of scores as clips 2 and 3,
# $f_1 + f_2 + g_1 + g_2$, and the first two should be above zero, the other two below. No data mends
# that. (The added term was given the answer; a network has to find it. Attention between tokens of
# equal time is one way.) So *where* streams meet decides what can be learned. It does not say what will
# be: that takes an experiment.

# %% [markdown]
# ## What each section shows
#
# One number each, from the recorded cells of the sections, where you find the baselines, the seeds and
# the limits.

# %% tags=["hide-input", "check"]
NOT_YET = "**{section}.** Its number is not recorded yet."
fusion = values_of("121.1a.fusion", "test", "settings")
if fusion:
    bound = {name: fusion["test"][name]["binding"] for name in ("late", "bottleneck", "cross", "joint")}
    words = {
        "late": "late fusion",
        "bottleneck": "a bottleneck",
        "cross": "cross-attention",
        "joint": "joint attention",
    }
    found = [words[name] for name, runs in bound.items() if min(runs) > 0.9]
    claim(
        "**121.1a Fusion.** Of clips with two events, late fusion puts the true pairs before the exchanged "
        "ones in {late:.0f} % of the cases, a guess. After the same {steps:,} steps the pairs are bound (above "
        "90 % with each of {seeds} seeds) by: {found}.",
        max(bound["late"]) < 0.6,
        late=100 * statistics.mean(bound["late"]),
        found=", ".join(found) or "none of the four",
        seeds=len(bound["late"]),
        steps=fusion["settings"]["steps"],
    )
followed = values_of("121.1a.plateau", "equal", "independent", "steps")
if followed:
    ends = [100 * followed[start]["binding"][-1] for start in ("equal", "independent")]
    early = [100 * followed[start]["binding"][3] for start in ("equal", "independent")]
    claim(
        "A training of cross-attention that was followed step by step binds {early:.0f} % after {first} steps and "
        "**{late:.0f} %** after {last:,} (the worse of two starts). It waits on a plateau first: a contest that "
        "ends there says nothing about what can be learned.",
        min(ends) > 90 and max(early) < 70,
        early=max(early),
        late=min(ends),
        first=followed["steps"][3],
        last=followed["steps"][-1],
    )
else:
    say(NOT_YET, section="121.1a Fusion")

# %% tags=["hide-input", "check"]
tagging = values_of("121.1b.inputs", "table")
if tagging:
    m = {name: [100 * run["map"] for run in runs] for name, runs in tagging["table"].items()}
    ahead, half = paired(m["spectrogram"], m["mel statistics"])
    more, more_half = paired(m["both"], m["spectrogram"])
    claim(
        "**121.1b Audio tagging.** A network on the spectrogram has **{net:.1f} % mAP**, {ahead:.1f} ± {half:.1f} "
        "points more than a logistic regression on 128 numbers a clip (95 % interval over {n} splits; chance "
        "{chance:.1f} %).",
        ahead > half,
        net=statistics.mean(m["spectrogram"]),
        ahead=ahead,
        half=half,
        n=len(m["both"]),
        chance=statistics.mean(m["chance"]),
    )
    say(
        "With the waveform beside the spectrogram it is {more:+.1f} ± {half:.1f} points: {word}.",
        more=more,
        half=more_half,
        word="both are better" if more > more_half else "a gain is not shown",
    )
    summaries = values_of("121.1b.statistics", "table")
    if summaries:
        simple = [100 * run["map"] for run in summaries["table"]["perceptron"]]
        gap, gap_half = paired(m["spectrogram"], simple)
        say(
            "A perceptron on eight numbers a mel band, with fewer clips to learn from, has {simple:.1f} %. The "
            "network minus it: {gap:+.1f} ± {half:.1f} points, so {word}.",
            simple=statistics.mean(simple),
            gap=gap,
            half=gap_half,
            word="the network is ahead"
            if gap > gap_half
            else "the perceptron is ahead"
            if -gap > gap_half
            else "what the convolutions add is not shown",
        )
else:
    say(NOT_YET, section="121.1b Audio tagging")

# %% tags=["hide-input", "check"]
drawings = values_of("121.2a.emoji", "InfoNCE", "ridge")
scenes = values_of("121.2a.scenes", "results", "steps")
if drawings:
    learned, ridge = ([run[0] for run in drawings[name]["twemoji"]] for name in ("InfoNCE", "ridge"))
    ahead, half = paired(learned, ridge)
    claim(
        "**121.2a CLIP.** One matrix between two frozen encoders, learned with CLIP's loss, finds the name "
        "of **{found:.1f} % of unseen drawings** among 400 names (chance 0.25 %), {ahead:.1f} ± {half:.1f} points "
        "more than plain ridge regression (95 % interval over {n} splits).",
        ahead > half,
        found=100 * statistics.mean(learned),
        ahead=100 * ahead,
        half=100 * half,
        n=len(learned),
    )
else:
    say(NOT_YET, section="121.2a CLIP")
whitened = values_of("121.2a.emoji-whitened", "whitened")
if drawings and whitened:
    more, more_half = paired(learned, [run[0] for run in whitened["whitened"]["twemoji"]])
    say(
        "Against the strongest closed form, ridge regression to whitened names, the learned matrix has {more:+.1f} ± "
        "{half:.1f} points: {word}.",
        more=100 * more,
        half=100 * more_half,
        word="it is ahead" if more > more_half else "a lead is not shown",
    )
if scenes:
    order = scenes["results"]["CLIP"]["swapped objects"]
    word = scenes["results"]["CLIP"]["replaced"]
    say(
        "Trained from scratch on scenes for {steps} steps, CLIP tells a caption from one with another colour in "
        "{word:.0f} % of the cases, and from one with exchanged objects in {order:.0f} %{end}",
        steps=scenes["steps"],
        word=100 * statistics.mean(word),
        order=100 * statistics.mean(order),
        end=": hardly more than a guess." if max(order) < 0.6 else " (a guess has 50).",
    )

# %% tags=["hide-input", "check"]
names = values_of("121.2b.emoji-names", "rows", "ridge", "itc")
if names:
    both, blind = (
        names["rows"][key]["styles"][0] for key in ("Q-Former, both stages", "no picture")
    )
    first = [[run["recall"][0] for run in runs] for runs in (both, blind)]
    gap, half = paired(*first)
    say(
        "**121.2b BLIP-2.** A frozen language model, told by a Q-Former what is to be seen, writes the exact "
        "name of **{exact:.1f} %** of 400 unseen drawings, and a text whose nearest of the 400 names is right "
        "for **{both:.1f} %**; without a picture {blind:.1f} % ({gap:+.1f} ± {half:.1f} points over {n} seeds: "
        "{word}). To choose from the list, a ridge map without any language model is right for {ridge:.1f} %.",
        exact=statistics.mean(run["exact"] for run in both),
        both=statistics.mean(first[0]),
        blind=statistics.mean(first[1]),
        gap=gap,
        half=half,
        n=len(both),
        ridge=names["ridge"][0][0],
        word="the picture arrives" if gap > half else "no difference is shown",
    )
else:
    say(NOT_YET, section="121.2b BLIP-2")

# %% [markdown]
# ## Ways to fuse, and when to choose which
#
# | way | what it needs | choose it when |
# |---|---|---|
# | **early**: all tokens in one sequence (121.1a's joint attention, in its last layers) | both modalities in training and use; $(n+m)^2$ scores | details of one explain details of the other, and computing is no worry |
# | **cross-attention**: one stream asks the other (121.1a, 121.2b) | a common clock or place for queries and keys; $2nm$ scores if both ask | it matters *which* part belongs to *which* |
# | **bottleneck**: a few shared tokens (121.1a) | streams that can be summed up; about as many scores as each stream alone | streams are long, and a summary is enough |
# | **pooled**: join vectors, then a hidden layer (121.1b) | one vector a stream | both describe the whole example |
# | **late**: add the scores (121.1a) | a classifier for each stream | each has evidence of its own, one may be missing, parts change separately |
# | **contrastive alignment**: two towers, one space (121.2a) | many pairs, large batches, no labels | you search, or name classes that nobody has foreseen |
# | **soft prompt** before a frozen language model (121.2b) | a good encoder, a good language model, some pairs | the answer is text, and large models must not be trained |
#
# Begin with late fusion: it is cheap, asks only for the same classes, and is a baseline to beat.
# Move the meeting earlier when an error analysis shows what a sum can't say.
#
# ## What the papers report
#
# The numbers have other data, classes and chance levels than ours. Compare within a row.
#
# | system | data | result | beside it |
# |---|---|---|---|
# | MBT {cite:p}`nagrani2021mbt` | AudioSet, trained on 500,000 clips (mAP, %) | 49.6 | sound alone 41.5, pictures alone 31.3 |
# | MBT | VGGSound (top-1, %) | 64.1 | sound alone 52.3, pictures alone 51.2 |
# | CLIP ViT-L/14 {cite:p}`radford2021clip` | ImageNet, without its labels (top-1, %) | 76.2 | LiT, a locked vision tower {cite:p}`zhai2022lit`: 85.2 |
# | BLIP-2 {cite:p}`li2023blip2` | VQAv2, zero-shot (%) | 65.0 | Flamingo-80B {cite:p}`alayrac2022flamingo`: 56.3 |

# %% tags=["hide-input", "check"]
if fusion:
    ours = {name: fusion["test"][name]["mAP"] for name in ("audio", "video", "cross", "late")}
    claim(
        "Ours, to set beside MBT's rows: sound {audio:.1f} % mAP, pictures {video:.1f} %, late fusion {late:.1f} %, "
        "cross-attention {cross:.1f} %. Late fusion comes so far without binding, by knowing which sounds and which "
        "pictures occur. Its gain is so large because our classes are *pairs*: by design neither stream has the "
        "answer. AudioSet's classes are kinds of sound, so the sound alone tells much.",
        min(ours["late"]) > max(*ours["audio"], *ours["video"]),
        **{name: 100 * statistics.mean(runs) for name, runs in ours.items()},
    )

# %% [markdown]
# ## What this scale can't show
#
# - **Natural variety.** Clips and scenes come from a recipe, drawings have two styles, and the
#   recorded sounds are few. They show which structure can do a thing, not how well it copes with the world.
# - **What pretraining brings.** CLIP learns from 400 million pairs, BLIP-2 from 129 million. Here only
#   the frozen encoders and the language model were trained before, and none on pairs.
# - **Who is ahead.** Each contestant had seconds to minutes, and a handful of rates. One whose loss has
#   hardly moved in that time is slow under these conditions, which is not the same as worse.
# - **Harm.** Captions from the web bring along what the web says about people.
#
# ## Before you start
#
# You should be able to read a PyTorch training loop, and know what attention and cross-entropy
# compute. For 121.2a section {ref}`120.1a <sec-120-1a>` helps: it has the same loss between two views of
# one picture. For 121.2b you need 121.2a's loss, and a rough idea of a language model. 121.1b explains the
# Fourier transform's use as far as it is needed. {doc}`Notation </book/notation>` lists the symbols;
# {doc}`How to use this course </book/how_to_use>` tells how to run a chapter in Colab, JupyterLab or
# Binder.
#
# ## Summary
#
# - Fusion is the decision where streams meet. A sum of scores can add evidence and can't bind.
# - Attention finds equal times where both streams have one clock; its training may wait on a plateau.
# - Two towers with one dot product make search and open classes; the order of words is their weak spot.
# - A frozen language model reads a picture if the picture is put among its words.
# - The best single stream and a linear model belong in every comparison.
