# %% [markdown] tags=["slide"]
# (sec-121-1b)=
# # 121.1b Audio tagging: the AudioSet model
#
# A microphone hears a drum, a bell and a machine at once, and a program has to say so. At the end of
# this section you can turn sound into a log-mel spectrogram and say what each of its numbers costs,
# encode the raw waveform as wav2vec 2.0 does, join both in one model, train it for many labels at
# once, and measure it as AudioSet is measured. You will also know what it is worth against simple
# summaries of the same spectrogram.
#
# You need: convolutions, attention, and no GPU.

# %% tags=["definitions", "hide-input", "skip"]
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dlcourse.datasets import SOUND_CLASSES, SOUND_RATE, recorded_sounds, sound_bank
from dlcourse.multimodal_fusion import (
    AudioSetModel,
    LogMelSpectrogram,
    SpectrogramEncoder,
    WaveformEncoder,
    average_precision,
    mean_average_precision,
    mixup,
    multilabel_loss,
    positive_weights,
    spec_augment,
)
from dlcourse.multimodal_fusion.audioset.listening import players, rebuild
from dlcourse.multimodal_fusion.audioset.log_mel import (
    hertz_to_mel,
    log_mel,
    mel_filters,
)
from dlcourse.multimodal_fusion.audioset.model import pool_time
from dlcourse.multimodal_fusion.experiments.audioset_baselines import (
    FROZEN_SIZES,
    STRENGTHS,
    frozen_probes,
    mel_statistics,
    probe,
)
from dlcourse.multimodal_fusion.experiments.audioset_contest import (
    LONG_TAIL,
    RATES,
    SEEDS,
    augmentation_contest,
    imbalance_contest,
    inputs_contest,
)
from dlcourse.multimodal_fusion.experiments.audioset_statistics import (
    RICH_SIZES,
    statistics_contest,
)
from dlcourse.multimodal_fusion.experiments.audioset_training import (
    BATCH,
    SIZES,
    STEPS,
    WIDTH,
)
from dlcourse.notebook import claim, explore, keep, paired, recorded, say, show_source
from dlcourse.notebook.prose import show
from dlcourse.notebook.records import RecordError

plt.style.use("dlcourse.notebook.course")


def recording(key):
    """The values of a recorded cell, or None while there are none."""
    try:
        return recorded(key)
    except RecordError:
        say(f"*The cell {key} has not been recorded yet.*")
        return None


def scores(results):
    """mAP of each seed in per cent."""
    return 100 * np.array([result["map"] for result in results])


def in_words(name, other, a, b):
    """A sentence on a paired difference that says no more than its interval does."""
    mean, half = paired(a, b)
    if mean - half > 0:
        verdict = "is ahead of"
    elif mean + half < 0:
        verdict = "is behind"
    else:
        verdict = "can't be told from"
    numbers = f"{mean:+.1f} points, 95 % interval {mean - half:+.1f} to {mean + half:+.1f}"
    return f"{name} {verdict} {other} ({numbers.replace('-', '−')})."


def one_clip():
    """A second with a kick, a bell, a hi-hat and a stroke of the tabla: waveform and places."""
    bank = sound_bank()
    clip = torch.zeros(SOUND_RATE)
    parts = {"bd_haus": 0.02, "perc_bell2": 0.2, "hat_metal": 0.45, "tabla_na_o": 0.62}
    for name, start in parts.items():
        i = bank.names.index(name)
        first = round(start * SOUND_RATE)
        sound = bank.waveform[i, : bank.length[i]][: SOUND_RATE - first]
        clip[first : first + len(sound)] += sound
    noise = torch.randn(SOUND_RATE, generator=torch.Generator().manual_seed(0))
    return clip + 0.001 * noise, parts

# %% [markdown] tags=["slide"]
# ## A question
#
# Here is one second of sound. Four recordings were laid over each other. Which?

# %% tags=["hide-input", "skip"]
clip, parts = one_clip()
to_mel = LogMelSpectrogram(SOUND_RATE, n_fft=400, hop_length=160, n_mels=64)
show(players({"one second of sound": clip}, SOUND_RATE))

# %% mystnb={"figure": {"caption": "The same second twice. Above, its 16,000 samples. Below, its log-mel spectrogram: 64 bands of pitch, 101 frames. The marks show where each of the four recordings begins.", "name": "fig-audioset-clip"}, "image": {"alt": "A waveform with four bursts, and below it a spectrogram in which the kick is a short patch at low pitch, the bell a few horizontal lines, the hi-hat a cloud at high pitch, and the tabla lines at low and middle pitch."}} tags=["hide-input", "plot"]
fig, (top, bottom) = plt.subplots(
    2, 1, figsize=(7, 4.4), sharex=True, height_ratios=[1, 2.2], layout="constrained"
)
time = np.arange(len(clip)) / SOUND_RATE
top.plot(time, clip, lw=0.4)
top.set(ylabel="amplitude", yticks=[])
for name, start in parts.items():
    top.axvline(start, color="tab:red", lw=1)
    top.annotate(name, (start, 1.02), xycoords=("data", "axes fraction"), fontsize=8)
image = bottom.imshow(
    to_mel(clip), origin="lower", aspect="auto", extent=(0, 1, 0, 64), vmin=-16, vmax=4
)
bottom.set(xlabel="time (s)", ylabel="mel band")
fig.colorbar(image, ax=bottom, label="log power")
plt.show()

# %% [markdown] tags=["skip"]
# Both pictures hold the answer. In the upper one it is hard to see; in the lower one each sound has
# a shape of its own. This section asks which of the two a network should read, or whether both.
#
# First, how far does one get without a network?

# %% tags=["hide-input", "check"]
bank = sound_bank()
say(
    "The course ships {n} recorded sounds by {authors} authors, all CC0, of which {used} belong to "
    "{classes} classes: {names}. The *sounds* are split into training, validation and test, with "
    "takes of one drum on the same side (but for one pair of tabla strokes, te2 and te_m, which are "
    "nearly the same and have two names). Then clips of one second are mixed from one to four sounds "
    "of one part, at random places and levels. The simplest features are the mean and the standard "
    "deviation of each mel band over time, and the simplest classifier is logistic regression.",
    n=len(bank.names),
    authors=len(set(bank.authors)),
    used=int((bank.label >= 0).sum()),
    classes=len(SOUND_CLASSES),
    names=", ".join(SOUND_CLASSES),
)
small = recorded_sounds(0, n_train=500, n_validation=150, n_test=300)
by_statistics = probe([(mel_statistics(part.x), part.y) for part in small])
shares = small.test.y.mean(0)
generator = torch.Generator().manual_seed(0)
shuffled = small.train.y[torch.randperm(len(small.train.y), generator=generator)]
nonsense = probe(
    [
        (mel_statistics(small.train.x), shuffled),
        (mel_statistics(small.validation.x), small.validation.y),
        (mel_statistics(small.test.x), small.test.y),
    ]
)
claim(
    "Logistic regression on 128 numbers a clip, fitted to 500 clips, has a mean average precision "
    "of {map:.0%} on 300 clips made of other recordings. Each class is in about {share:.0%} of the "
    "clips, which is what chance gives; with shuffled labels it has {nonsense:.0%}.",
    by_statistics["map"] > nonsense["map"] + 0.1 and abs(nonsense["map"] - shares.mean()) < 0.08,
    map=by_statistics["map"],
    share=shares.mean().item(),
    nonsense=nonsense["map"],
)

# %% [markdown] tags=["skip"]
# That is a first number to beat; better summaries of the same bands come below. One split and one
# seed show a task, no ranking: there will be five splits.
#
# :::{diagram} figures/1b_audioset.svg
# ---
# name: fig-audioset-model
# alt: A waveform goes two ways. Above, seven strided convolutions and a transformer give 49 frames
#   a second. Below, a log-mel spectrogram, blocks of two-dimensional convolutions and a transformer
#   give 12 frames. Each sequence is pooled over time into one vector; both are joined, pass a
#   hidden layer, and become one logit a class.
# ---
# The model. Two encoders read the same second; only after pooling over time have they the same
# shape.
# :::

# %% [markdown] tags=["slide"]
# ## The log-mel spectrogram
#
# Cut the sound into overlapping windows of $n$ samples, one every $h$ samples, and let $X_{k,t}$ be
# the Fourier transform of window $t$, tapered by $w$, at the frequency $f_k = k\, r / n$ for the
# sample rate $r$:
#
# $$
# X_{k,t} = \sum_{j=0}^{n-1} w_j\, x_{th + j - n/2}\, e^{-2\pi i jk/n} .
# $$ (eq-stft)
#
# From 200 to 300 Hz is a large step to the ear, from 7,000 to 7,100 Hz a small one. The **mel scale**
# {cite:p}`stevens1937scale` spaces pitches as listeners do: here in steps of the same number of Hz
# below 1 kHz, of the same factor above. Bands $H_m$ are triangles with corners evenly spaced in mel.
# What is kept is the logarithm of each band's power:
#
# $$
# S_{m,t} = \log \max\Bigl(10^{-10},\; \sum_k H_{m,k}\, \lvert X_{k,t}\rvert^2 \Bigr) .
# $$ (eq-log-mel)
#
# The logarithm makes loudness additive: a sound ten times as strong adds the same constant
# everywhere, so its *shape* stays. The phase is thrown away.

# %% mystnb={"figure": {"caption": "Left: the mel scale, linear below 1 kHz and logarithmic above. Right: every fourth of 64 triangles. They have the same area, so wide ones are low.", "name": "fig-mel"}, "image": {"alt": "Left, a curve of mels against Hz that bends at 1 kHz. Right, triangles over 0 to 8,000 Hz, narrow and high at the left, wide and low at the right."}} tags=["hide-input", "plot"]
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.6), layout="constrained")
hertz = torch.linspace(0, 8000, 400)
left.plot(hertz, hertz_to_mel(hertz))
left.set(xlabel="frequency (Hz)", ylabel="pitch (mel, Slaney's)")
for row in to_mel.filters[::4]:
    right.plot(torch.arange(201) * 40, row, lw=1)
right.set(xlabel="frequency (Hz)", ylabel="weight (1/Hz)")
plt.show()

# %%
show_source(mel_filters)

# %%
show_source(log_mel)

# %% [markdown] tags=["skip"]
# There is no *the* log-mel spectrogram. Libraries differ in the mel scale, in the height of the
# triangles, in what lies beyond the ends of the clip, in power or amplitude, and in the logarithm.
# Ours has librosa's defaults {cite:p}`mcfee2015librosa` and the natural logarithm; the test suite
# compares both. Here is the definition itself, in loops and float64, for one frame:

# %% tags=["hide-input", "check"]
def frame_by_definition(x, frame, n=400, hop=160):
    """One frame of the log-mel spectrogram, straight from the equations."""
    x = np.pad(x.double().numpy(), n // 2)[frame * hop : frame * hop + n]
    w = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    k = np.arange(n // 2 + 1)[:, None]
    spectrum = (w * x * np.exp(-2j * np.pi * k * np.arange(n) / n)).sum(1)
    to_mels = lambda f: 3 * f / 200 if f < 1000 else 15 + 27 * np.log(f / 1000) / np.log(6.4)
    to_hertz = lambda m: 200 * m / 3 if m < 15 else 1000 * 6.4 ** ((m - 15) / 27)
    corners = [to_hertz(m) for m in np.linspace(0, to_mels(8000), 66)]
    bands = []
    for low, centre, high in zip(corners, corners[1:], corners[2:]):
        band = 0.0
        for f, value in zip(40.0 * k[:, 0], spectrum):
            height = min((f - low) / (centre - low), (high - f) / (high - centre))
            band += max(0.0, height) * 2 / (high - low) * abs(value) ** 2
        bands.append(math.log(max(band, 1e-10)))
    return np.array(bands)


worst = max(
    np.abs(frame_by_definition(clip, t) - to_mel(clip)[:, t].numpy()).max()
    for t in (0, 37, 100)
)
claim(
    "In three frames (the first and the last among them) the module differs from the definition by "
    "at most {worst:.0e}.",
    worst < 1e-3,
    worst=worst,
)

# %% [markdown] tags=["skip"]
# {{exercise 121.1b.mel-triangles}}

# %% [markdown] tags=["slide"]
# ### Three numbers to choose
#
# - `n_fft`, the window $n$: a long one separates pitches ($r/n$ Hz apart), a short one separates
#   moments. One can't have both.
# - `hop_length`, $h$: how many frames. Half the hop gives twice the frames, each blurred over as
#   long a window as before.
# - `n_mels`: how many bands. Too many for the window, and some hold no frequency at all.
#
# Move them, and watch the bell's lines and the onset of the hi-hat.

# %% tags=["hide-input"]
def draw_mel(n_fft, hop, mels):
    fig, ax = plt.subplots(figsize=(6.4, 2.7), layout="constrained")
    try:
        spectrogram = LogMelSpectrogram(SOUND_RATE, n_fft, hop, mels)(clip)
    except ValueError as error:
        ax.text(0.5, 0.5, str(error), ha="center", va="center", wrap=True)
        ax.set_axis_off()
        return fig
    extent = (0, 1, 0, mels)
    ax.imshow(spectrogram, origin="lower", aspect="auto", extent=extent, vmin=-16, vmax=4)
    ax.set(xlabel="time (s)", ylabel="mel band")
    ax.set_title(
        f"window {1000 * n_fft / SOUND_RATE:g} ms, frequencies {SOUND_RATE / n_fft:g} Hz apart, "
        f"{spectrogram.shape[1]} frames, {spectrogram.numel():,} numbers",
        fontsize=9,
    )
    return fig


explore(
    draw_mel,
    {"n_fft": [128, 400, 1600], "hop": [40, 80, 120], "mels": [16, 40, 128]},
    initial={"n_fft": 400, "hop": 80, "mels": 40},
    name="Log-mel spectrogram of one second",
    alt=lambda n_fft, hop, mels: (
        f"Spectrogram with windows of {n_fft} samples every {hop} samples and {mels} bands: "
        + (
            "some bands are empty, so there is none."
            if n_fft == 128 and mels == 128
            else "pitches are sharp and onsets blurred."
            if n_fft == 1600
            else "onsets are sharp and pitches blurred."
            if n_fft == 128
            else "onsets and pitches are both fairly sharp."
        )
    ),
)

# %% [markdown] tags=["skip"]
# What do the bands leave of a sound? Listen. A sound was rebuilt from its log-mel spectrogram, with
# a phase found by iteration {cite:p}`griffin1984signal`:

# %% tags=["hide-input"]
sounds = {"original": clip}
for mels in (128, 40, 12):
    transform = LogMelSpectrogram(SOUND_RATE, 400, 80, mels)
    sounds[f"from {mels} mel bands"] = rebuild(transform(clip), transform, len(clip))
show(players(sounds, SOUND_RATE))

# %% [markdown] tags=["slide"]
# ## Or read the waveform itself
#
# Why should a human choose the window, the scale and the logarithm? wav2vec 2.0
# {cite:p}`baevski2020wav2vec` learns all of it. Seven convolutions along the samples, with strides
# 5, 2, 2, 2, 2, 2, 2, make one frame of every 320 samples. How much does a frame see? Going from
# the last layer to the first, with kernels $k_l$ and strides $s_l$,
#
# $$
# R_{l-1} = (R_l - 1)\, s_l + k_l ,\qquad R_7 = 1 .
# $$ (eq-receptive)
#
# A transformer then mixes the frames. Where a frame stands is told by a convolution over its
# neighbours, not by a table of positions.

# %%
show_source(WaveformEncoder.forward)

# %% tags=["hide-input", "check"]
torch.manual_seed(0)
encoder = WaveformEncoder(64, 2, 4, channels=32, position_kernel=16).eval()
x = torch.randn(1, 1, 4000, requires_grad=True)
frames = x
for convolution in encoder.convolutions:
    frames = F.gelu(convolution(frames))
seen = []
for t in (3, 4):
    (gradient,) = torch.autograd.grad(frames[0, :, t].sum(), x, retain_graph=True)
    seen.append(gradient[0, 0].nonzero().flatten())
claim(
    "By its gradient, a frame of the convolutions depends on {width} samples ({ms:.0f} ms), and the "
    "next frame on as many, {step} later. By the equation it is {field}. A second has {frames} frames.",
    len(seen[0]) == encoder.receptive_field == 400
    and (seen[1][0] - seen[0][0]).item() == 320
    and encoder(torch.randn(1, 16000)).shape[1] == encoder.frames(16000) == 49,
    width=len(seen[0]),
    ms=1000 * len(seen[0]) / 16000,
    step=(seen[1][0] - seen[0][0]).item(),
    field=encoder.receptive_field,
    frames=encoder.frames(16000),
)

# %% [markdown] tags=["skip"]
# With the weights of `transformers.Wav2Vec2Model` our encoder gives its numbers, to $2 \cdot
# 10^{-5}$; the test suite copies them over.

# %% [markdown] tags=["skip"]
# {{exercise 121.1b.predict-frames}}

# %% [markdown] tags=["slide"]
# ### Details that matter
#
# 1. **Each clip is scaled to mean 0 and variance 1** before the convolutions (so does wav2vec 2.0's
#    code). The waveform encoder therefore can't hear how loud a clip is; the spectrogram encoder
#    can.
# 2. **The first convolution is followed by a normalisation over the clip's whole time**, each
#    channel by itself (so in the authors' base model; their large one normalises each frame after
#    every convolution). Through it each frame sees more than its 400 samples, and silence
#    added at the end changes all frames.
# 3. **The logarithm is taken in float32**, also in mixed precision: around −10 the numbers of
#    bfloat16 lie far apart.
# 4. **The convolution for positions has an even kernel**, so it gives one frame too many. The last
#    is dropped.

# %% tags=["hide-input", "check"]
frames = F.gelu(encoder.first_norm(encoder.convolutions[0](x)))
for convolution in encoder.convolutions[1:]:
    frames = F.gelu(convolution(frames))
(gradient,) = torch.autograd.grad(frames[0, :, 3].sum(), x)
touched = (gradient != 0).float().mean().item()
ten = torch.tensor(-10.0).bfloat16()
gap = (torch.nextafter(ten, torch.tensor(-11.0).bfloat16()) - ten).abs().float().item()
claim(
    "With the normalisation a frame depends on {touched:.0%} of the clip's 4,000 samples, not on 400. "
    "Next to −10, bfloat16 has steps of {gap:.4f}, {db:.2f} dB.",
    touched > 0.95 and gap == 0.0625,
    touched=touched,
    gap=gap,
    db=gap * 10 / math.log(10),
)

# %% [markdown] tags=["slide"]
# ## Join them, and answer yes or no twelve times
#
# The spectrogram has an encoder in the manner of PANNs {cite:p}`kong2020panns`: blocks of 3 × 3
# convolutions, each of which halves pitch and time, then a mean over the bands, then the same
# transformer. Their sequences have different lengths. So each is pooled over time first, by mean
# plus maximum: the mean hears what lasts, the maximum what is short. With the features $u$ and $v$
# of the two encoders and $\phi$ = GELU,
#
# $$
# z = W_2\, \phi\bigl(W_1\, [\operatorname{pool} u;\; \operatorname{pool} v] + b_1\bigr) + b_2 .
# $$ (eq-audioset-model)

# %%
show_source(SpectrogramEncoder.forward)

# %%
show_source(AudioSetModel.forward)

# %% [markdown] tags=["slide"]
# ### The loss
#
# A clip may have many labels, or none, so each class answers on its own: no softmax. With logit $z$,
# target $y$ and a weight $w$ for positives,
#
# $$
# \begin{aligned}
# \ell &= -\,w\, y \log\sigma(z) - (1-y) \log\bigl(1-\sigma(z)\bigr) \\
#      &= w\, y\, \zeta(-z) + (1-y)\, \zeta(z), \qquad \zeta(z) = \log(1 + e^z) .
# \end{aligned}
# $$ (eq-bce)
#
# The right-hand side is what must be computed. The left one, from probabilities, breaks exactly
# where the model is most wrong:

# %% tags=["hide-input", "check"]
z = torch.tensor([[2.0], [15.0], [20.0], [110.0]], requires_grad=True)
absent = torch.zeros(1, 1)
rows, slopes = [], []
for value in z:
    results = []
    for loss in (
        F.binary_cross_entropy(torch.sigmoid(value[None]), absent),
        multilabel_loss(value[None], absent),
    ):
        (slope,) = torch.autograd.grad(loss, z, retain_graph=True)
        results += [loss.item(), slope.sum().item()]
    slopes.append(results)
    rows.append("| {:.0f} | {:.4g} | {:.2g} | {:.4g} | {:.2g} |".format(value.item(), *results))
say(
    "| logit of an absent class | loss from σ(z) | its gradient | loss from z | its gradient |\n"
    "|---|---|---|---|---|\n" + "\n".join(rows)
)
claim(
    "From probabilities in float32 the gradient at z = 20 is {a:.0f}, and the loss at z = 110 is "
    "{b:.0f}; from logits they are {c:.0f} and {d:.0f}.",
    slopes[2][1] == 0 and slopes[3][0] == 100 and slopes[2][3] > 0.99 and slopes[3][2] == 110,
    a=slopes[2][1],
    b=slopes[3][0],
    c=slopes[2][3],
    d=slopes[3][2],
)

# %% [markdown] tags=["skip"]
# {{exercise 121.1b.many-labels}}

# %% [markdown] tags=["slide"]
# ### Rare classes
#
# In AudioSet "Music" and "Speech" have about a million clips each, other classes fewer than 200
# {cite:p}`gemmeke2017audioset`. Three things are in use:
#
# 1. **Start at the prior.** The last bias begins at $\log\frac{p}{1-p}$ of each class's share $p$
#    {cite:p}`lin2017focal`. Otherwise the first steps are spent on learning that most sounds are
#    absent.
# 2. **Weigh positives** by $w$ = negatives / positives, cut at some maximum.
# 3. **Draw clips of rare classes more often**: clip $i$ with weight $\sum_c y_{ic} / n_c$.

# %% tags=["hide-input", "check"]
torch.manual_seed(0)
y = small.train.y[:200]
start = {}
for name, prior in (("zero", None), ("the prior", small.train.y.mean(0))):
    model = AudioSetModel(
        12, None, SpectrogramEncoder(32, 1, 4, channels=(8, 16)), hidden=32, prior=prior
    )
    with torch.no_grad():
        start[name] = multilabel_loss(model(small.train.x[:200]), y).item()
p = y.mean(0)
entropy = -(p * p.log() + (1 - p) * (1 - p).log()).mean().item()
claim(
    "With biases at zero the first loss is {zero:.2f} (near ln 2 = 0.69), with biases at the prior "
    "{prior:.2f}. Knowing the shares and nothing else costs {entropy:.2f}. The weights of positives "
    "would be {low:.1f} to {high:.1f} here.",
    abs(start["the prior"] - entropy) < 0.06 < start["zero"] - start["the prior"],
    zero=start["zero"],
    prior=start["the prior"],
    entropy=entropy,
    low=positive_weights(y).min().item(),
    high=positive_weights(y).max().item(),
)

# %% [markdown] tags=["slide"]
# ## Mean average precision
#
# With 2 % positives, "never" is right in 98 % of all cases, so accuracy says nothing. AudioSet is
# measured by ranking. Sort the clips by their score for one class. The **average precision** is the
# mean, over the positive clips, of the precision at their rank:
#
# $$
# \mathrm{AP} = \frac{1}{P} \sum_{i:\, y_i = 1} \frac{\#\{j : s_j \ge s_i,\, y_j = 1\}}{\#\{j : s_j \ge s_i\}} ,
# $$ (eq-ap)
#
# and mAP is the mean of AP over the classes that have a positive. Three details. Clips of equal
# score share a rank, so a model that gives every clip the same score gets exactly the share of
# positives, in whatever order the file is. Chance depends on the class: the share of its positives.
# And no threshold is chosen, so a perfect mAP does not say where to cut.

# %%
show_source(average_precision)

# %% tags=["hide-input", "check"]
from sklearn.metrics import average_precision_score

generator = torch.Generator().manual_seed(0)
worst = 0.0
for _ in range(20):
    s = torch.randint(0, 6, (60, 5), generator=generator) / 6  # many ties
    t = (torch.rand(60, 5, generator=generator) < 0.3).float()
    theirs = average_precision_score(t.numpy(), s.numpy(), average="macro")
    worst = max(worst, abs(theirs - mean_average_precision(s, t)))
constant = mean_average_precision(torch.zeros(60, 5), t)
claim(
    "Over 20 random rankings of six scores, ours differs from scikit-learn's by at most {worst:.0e}. "
    "A constant score has {constant:.3f}, the mean share of positives {share:.3f}.",
    worst < 1e-9 and abs(constant - t.mean().item()) < 1e-6,
    worst=worst,
    constant=constant,
    share=t.mean().item(),
)

# %% [markdown] tags=["skip"]
# {{exercise 121.1b.ranked-precision}}

# %% [markdown] tags=["slide"]
# ## Two augmentations
#
# **SpecAugment** {cite:p}`park2019specaugment` hides stripes of pitch and of time. A network that
# has learned to recognise a bell by one line has to find another.
#
# **mixup** {cite:p}`zhang2018mixup` blends two clips and their labels, with $\lambda \sim
# \mathrm{Beta}(\alpha, \alpha)$:
#
# $$
# \tilde x = \lambda x_i + (1 - \lambda) x_j, \qquad \tilde y = \lambda y_i + (1 - \lambda) y_j .
# $$ (eq-mixup)
#
# For pictures that is a trick; sounds really do add. (Which raises a question: the louder half of a
# mixed sound is not "70 % there". Between-class learning {cite:p}`tokozume2018between` adjusts
# $\lambda$ to the levels.)

# %% mystnb={"figure": {"caption": "A training clip's log-mel spectrogram, with two stripes of pitch and two of time hidden, and blended with another clip.", "name": "fig-augmentations"}, "image": {"alt": "Three spectrograms side by side: one plain, the same with horizontal and vertical stripes of one colour, and one in which two clips overlap."}} tags=["hide-input", "plot"]
generator = torch.Generator().manual_seed(5)
two, labels = small.train.x[[1, 9]], small.train.y[[1, 9]]
spectrogram = to_mel(two)
masked = spec_augment(spectrogram, generator)
lam_x, lam_y = mixup(two, labels, 10.0, generator)
fig, axes = plt.subplots(1, 3, figsize=(8, 2.5), sharey=True, layout="constrained")
for ax, picture, title in zip(
    axes, (spectrogram[0], masked[0], to_mel(lam_x)[0]), ("plain", "SpecAugment", "mixup")
):
    ax.imshow(picture, origin="lower", aspect="auto", extent=(0, 1, 0, 64), vmin=-14, vmax=2)
    ax.set(title=title, xlabel="time (s)")
axes[0].set_ylabel("mel band")
plt.show()

# %%
show_source(spec_augment)

# %% [markdown] tags=["slide"]
# ## The contest
#
# Each seed has its own split of the recordings, so the spread tells how much the result depends on
# which recordings one happens to have. The contestants:
#
# - `AudioSetModel` reading the waveform, the spectrogram, or both, trained from scratch with AdamW
#   in bfloat16;
# - logistic regression on mel statistics of the same clips, and on the features of a spectrogram
#   encoder, twice as wide, that was never trained;
# - summaries that say more: eight numbers a band (mean, deviation, maximum, three quantiles, and the
#   maximum and deviation of the change from frame to frame) with logistic regression, and with a
#   perceptron of one hidden layer; on a CPU, from fewer clips of the same splits;
# - a *frozen* encoder that others trained on speech, Google's speech_embedding
#   {cite:p}`lin2020keyword`, with logistic regression. It runs on a CPU and is slow, so there are
#   fewer clips, and mel statistics have a second row with as few.

# %% tags=["hide-input"]
say(
    "{seeds} splits; {train:,} clips for training, {validation:,} for validation, {test:,} for test "
    "({frozen} for the frozen encoder, {rich} for the richer summaries). Networks: width {width}, two "
    "transformer layers, {steps} steps of {batch} clips, which is {passes:.1f} passes. Everybody is "
    "tuned on validation alone: networks between the rates {rates}, logistic regression between "
    "{penalties} penalties. Test is looked at once.",
    seeds=len(SEEDS),
    train=SIZES[0],
    validation=SIZES[1],
    test=SIZES[2],
    frozen=", ".join(map(str, FROZEN_SIZES)),
    rich=", ".join(map(str, RICH_SIZES)),
    passes=STEPS * BATCH / SIZES[0],
    width=WIDTH,
    steps=STEPS,
    batch=BATCH,
    rates=" and ".join(map(str, RATES)),
    penalties=len(STRENGTHS),
)

# %% tags=["gpu", "hide-input"] name="inputs"
table = inputs_contest(torch.device("cuda"))
keep(table=table)

# %% tags=["long", "hide-input"] name="frozen"
table = frozen_probes()
for name, results in table.items():
    print(f"{name:18}", *(f"{result['map']:.3f}" for result in results))
keep(table=table)

# %% tags=["long", "hide-input"] name="statistics"
table = statistics_contest()
for name, results in table.items():
    print(f"{name:18}", *(f"{result['map']:.3f}" for result in results))
keep(table=table)

# %% tags=["hide-input", "check"]
contest, frozen = recording("121.1b.inputs"), recording("121.1b.frozen")
rich = recording("121.1b.statistics")
ROWS = {}
if contest is not None:
    ROWS |= {
        "chance": contest["table"]["chance"],
        f"mel statistics, {SIZES[0]:,} clips": contest["table"]["mel statistics"],
        "untrained network, logistic regression": contest["table"]["untrained"],
        "network on the waveform": contest["table"]["waveform"],
        "network on the spectrogram": contest["table"]["spectrogram"],
        "network on both": contest["table"]["both"],
    }
if frozen is not None:
    ROWS |= {
        f"mel statistics, {FROZEN_SIZES[0]} clips": frozen["table"]["mel statistics"],
        f"speech embedding, {FROZEN_SIZES[0]} clips": frozen["table"]["speech embedding"],
        f"both of these, {FROZEN_SIZES[0]} clips": frozen["table"]["both"],
    }
if rich is not None:
    ROWS |= {
        f"eight numbers a band, {RICH_SIZES[0]:,} clips": rich["table"]["rich statistics"],
        f"the same with a perceptron, {RICH_SIZES[0]:,} clips": rich["table"]["perceptron"],
    }
if ROWS:
    say(
        "| contestant | mAP on test, % | lowest and highest seed |\n|---|---|---|\n"
        + "\n".join(
            f"| {name} | {scores(r).mean():.1f} ± {scores(r).std(ddof=1):.1f} "
            f"| {scores(r).min():.1f} to {scores(r).max():.1f} |"
            for name, r in sorted(ROWS.items(), key=lambda row: scores(row[1]).mean())
        )
        + "\n\nMean ± standard deviation over {n} splits of the recordings.",
        n=len(next(iter(ROWS.values()))),
    )

# %% tags=["hide-input", "check"]
if contest is not None:
    s = {name: scores(results) for name, results in contest["table"].items()}
    best = max(("waveform", "spectrogram"), key=lambda name: s[name].mean())
    say(
        "Paired over the splits: "
        + " ".join(
            [
                in_words("The spectrogram", "the waveform", s["spectrogram"], s["waveform"]),
                in_words(f"Both together", f"the {best} alone", s["both"], s[best]),
                in_words(
                    f"The network on the {best}",
                    "logistic regression on mel statistics",
                    s[best],
                    s["mel statistics"],
                ),
            ]
        )
    )
    networks = ("waveform", "spectrogram", "both")
    chosen = [result["rate"] for name in networks for result in contest["table"][name]]
    say(
        "Of the {n} chosen rates of networks {high} are the higher of two, so a wider grid, or more "
        "steps, may help them.",
        n=len(chosen),
        high=chosen.count(max(RATES)),
    )
if contest is not None and rich is not None:
    simple = scores(rich["table"]["perceptron"])
    s = {name: scores(contest["table"][name]) for name in ("spectrogram", "both")}
    say(
        "**What are the convolutions worth?** Two numbers a band are a weak opponent. With eight, and "
        "{share:.0%} of the clips: "
        + in_words(
            "logistic regression",
            "logistic regression on two (as many clips)",
            scores(rich["table"]["rich statistics"]),
            scores(rich["table"]["mel statistics"]),
        )
        + " "
        + in_words("The network on the spectrogram", "the perceptron", s["spectrogram"], simple)
        + " "
        + in_words("The network on both", "the perceptron", s["both"], simple),
        share=RICH_SIZES[0] / SIZES[0],
    )
if frozen is not None:
    s = {name: scores(results) for name, results in frozen["table"].items()}
    say(
        f"With {FROZEN_SIZES[0]} clips: "
        + in_words(
            "the frozen speech embedding",
            "mel statistics",
            s["speech embedding"],
            s["mel statistics"],
        )
        + " "
        + in_words("Both joined", "mel statistics alone", s["both"], s["mel statistics"])
    )

# %% mystnb={"figure": {"caption": "Average precision of each class on test, mean over the splits; lines span the lowest and the highest split. The grey mark is chance.", "name": "fig-audioset-classes"}, "image": {"alt": "Twelve rows, one a class, with a mark for each contestant and a line for its spread over the splits."}} tags=["hide-input", "plot"]
if contest is not None:
    fig, ax = plt.subplots(figsize=(7, 5), layout="constrained")
    shown = {
        "mel statistics": "0.4",
        "waveform": "tab:orange",
        "spectrogram": "tab:blue",
        "both": "tab:green",
    }
    order = np.argsort(np.mean([r["ap"] for r in contest["table"]["spectrogram"]], 0))
    for k, (name, color) in enumerate(shown.items()):
        ap = 100 * np.array([r["ap"] for r in contest["table"][name]])[:, order]
        at = np.arange(12) + 0.18 * (k - 1.5)
        ax.hlines(at, ap.min(0), ap.max(0), color=color, lw=1)
        ax.plot(ap.mean(0), at, "o", ms=4, color=color, label=name)
    chance = 100 * np.mean([r["ap"] for r in contest["table"]["chance"]], 0)[order]
    ax.plot(chance, np.arange(12), "|", color="0.6", ms=14)
    ax.set(xlabel="average precision (%)", xlim=(0, 100))
    ax.set_yticks(range(12), [SOUND_CLASSES[i] for i in order])
    ax.legend(loc="lower right")
    plt.show()

# %% tags=["hide-input", "check"]
if contest is not None:
    ap = 100 * np.mean([r["ap"] for r in contest["table"]["spectrogram"]], 0)
    swing = 100 * np.ptp([r["ap"] for r in contest["table"]["spectrogram"]], axis=0)
    counts = [sound_bank("test", seed).label.bincount() for seed in range(5)]
    say(
        "On the spectrogram, {good} is recognised best ({high:.0f} %) and {bad} worst ({low:.0f} %). "
        "From its worst split to its best a class moves by {swing:.0f} points in the median. A class "
        "has {least} to {most} recordings in a test part, and it matters which ones they are.",
        least=min(int(c.min()) for c in counts),
        most=max(int(c.max()) for c in counts),
        good=SOUND_CLASSES[int(ap.argmax())],
        bad=SOUND_CLASSES[int(ap.argmin())],
        high=ap.max(),
        low=ap.min(),
        swing=np.median(swing),
    )

# %% [markdown] tags=["slide"]
# ### Augmentations on and off
#
# The spectrogram model again, on the same clips and steps, with SpecAugment (two masks of up to 12
# bands, two of up to 20 frames), with mixup ($\alpha = 1$), and with both.

# %% tags=["gpu", "hide-input"] name="augmentations"
table = augmentation_contest(torch.device("cuda"))
keep(table=table)

# %% tags=["hide-input", "check"]
augmented = recording("121.1b.augmentations")
if contest is not None and augmented is not None:
    plain = scores(contest["table"]["spectrogram"])
    long_names = {"both": "SpecAugment with mixup"}
    rows = {"none": plain} | {
        long_names.get(k, k): scores(v) for k, v in augmented["table"].items()
    }
    say(
        "| augmentation | mAP on test, % | against none, points |\n|---|---|---|\n"
        + "\n".join(
            f"| {name} | {v.mean():.1f} ± {v.std(ddof=1):.1f} | "
            + ("" if name == "none" else "{:+.1f} ± {:.1f}".format(*paired(v, plain)))
            + " |"
            for name, v in rows.items()
        )
        + "\n\nLast column: paired difference and its 95 % interval. "
        + " ".join(
            in_words(name[0].upper() + name[1:], "no augmentation", v, plain)
            for name, v in rows.items()
            if name != "none"
        )
    )

# %% [markdown] tags=["skip"]
# The clips are mixtures already, each drawn once from the recordings. That may leave mixup less to
# add here than where each clip is one recording; nothing on this page tests it. On AudioSet PANNs
# report a gain from mixup {cite:p}`kong2020panns`.

# %% [markdown] tags=["slide"]
# ### Rare classes on purpose
#
# Now the training clips have a long tail: class $k$ is drawn as often as $1/k$, from the kick (first)
# to the blip (last). Validation and test draw all alike. The same model, plain; with weighted
# positives; and with balanced sampling.

# %% tags=["gpu", "hide-input"] name="rare-classes"
table = imbalance_contest(torch.device("cuda"))
keep(table=table)

# %% tags=["hide-input", "check"]
rare = recording("121.1b.rare-classes")
if rare is not None:
    tail = 4  # the rarest
    values = {
        name: (scores(r), 100 * np.array([x["ap"] for x in r])[:, -tail:].mean(1))
        for name, r in rare["table"].items()
    }
    say(
        "| training | mAP, % | of the four rarest classes, % |\n|---|---|---|\n"
        + "\n".join(
            f"| {name} | {a.mean():.1f} ± {a.std(ddof=1):.1f} | {b.mean():.1f} ± {b.std(ddof=1):.1f} |"
            for name, (a, b) in values.items()
        )
        + "\n\nThe rarest class is drawn {ratio:.0f} times less often than the most frequent one. On "
        "the four rarest: "
        + " ".join(
            in_words(name[0].upper() + name[1:], "plain training", b, values["plain"][1])
            for name, (_, b) in values.items()
            if name != "plain"
        ),
        ratio=LONG_TAIL[0] / LONG_TAIL[-1],
    )

# %% [markdown] tags=["slide"]
# ## At scale: AudioSet itself
#
# AudioSet has 527 classes and about two million clips of ten seconds. Their sounds lie on YouTube
# and can't be shipped; `AudioSetClips` reads the published lists and a folder of your own files.
# The papers' numbers, on its evaluation set:
#
# | model | reads | mAP, % |
# |---|---|---|
# | embedding and shallow classifier {cite:p}`gemmeke2017audioset` | log-mel | 31.4 |
# | Wavegram-Logmel-CNN {cite:p}`kong2020panns` | both | 43.9 |
# | PSLA, one model {cite:p}`gong2021psla` | log-mel | 44.4 |
# | AST, one model {cite:p}`gong2021ast` | log-mel | 45.9 |
# | AST, six models | log-mel | 48.5 |
# | BEATs, one model {cite:p}`chen2023beats` | log-mel | 48.6 |
#
# They can't be set beside ours: other classes, other clips, another chance level. Three things
# carry over. The log-mel spectrogram is still what nearly all of them read. Reading both gave PANNs
# their best model. And training details count as much as architecture: PSLA comes from balanced
# sampling, augmentation, ImageNet weights and averaging.
#
# What makes training many small models fast is on the page of the code
# (`experiments/audioset_training.py`): clips are mixed on the GPU, and one whole step is captured
# as a CUDA graph, as the host could not start such small kernels fast enough.

# %% [markdown] tags=["slide"]
# ## Slips that still run, and some that don't
#
# The code that this section began with joined two encoders that it never defined. Put ours in their
# place, and the next slips appear.
#
# **Two sequences of different rates are concatenated.**

# %% tags=["nbval-check-output"]
u = torch.zeros(1, 49, 64)  # waveform: 49 frames a second
v = torch.zeros(1, 12, 64)  # spectrogram: 12
try:
    torch.cat([u, v], dim=-1)
except RuntimeError as error:
    print(str(error)[:71])
print("pooled:", tuple(torch.cat([pool_time(u), pool_time(v)], -1).shape))

# %% [markdown] tags=["skip"]
# **Two linear layers stand in a row.** The layer called fusion is followed by the classifier's first
# layer, with nothing between. Their product is one linear layer:

# %% tags=["hide-input", "check"]
torch.manual_seed(0)
fusion, first = nn.Linear(1152, 512), nn.Linear(512, 256)
one = nn.Linear(1152, 256)
with torch.no_grad():
    one.weight.copy_(first.weight @ fusion.weight)
    one.bias.copy_(first.weight @ fusion.bias + first.bias)
    x = torch.randn(100, 1152)
    difference = (first(fusion(x)) - one(x)).abs().max().item()
both = sum(p.numel() for layer in (fusion, first) for p in layer.parameters())
alone = sum(p.numel() for p in one.parameters())
claim(
    "One layer with {alone:,} parameters does what those two do with {both:,}, to {difference:.0e}.",
    difference < 1e-5 and alone < both,
    alone=alone,
    both=both,
    difference=difference,
)

# %% [markdown] tags=["skip"]
# **The model returns probabilities.** The table of the loss above shows what that does to its
# surest errors. **Widths are hard-coded**: 1,024 is the width of wav2vec 2.0's large model, while
# the class is made with no configuration at all. And nothing says what the spectrogram is, how rare
# classes are treated, or how the result is measured. The {doc}`errata </book/errata>` list each with
# its test.

# %% [markdown] tags=["skip"]
# ## Limits
#
# - Few recordings, most of them drums and electronic sounds, and 500 steps of training. Which of the
#   two limits the networks is not tested here.
# - *Other recordings* are not *other instruments*: all tabla strokes are by one player, many loops
#   hold kicks and hats that nobody labelled. AudioSet's labels have such gaps too.
# - Of the contestants only the frozen encoder was pretrained, and on speech. Even with AudioSet's 1.9
#   million clips, PANNs' best network that reads the waveform alone has an mAP of 0.389, and their
#   CNN14 on the log-mel spectrogram 0.431 {cite:p}`kong2020panns`.
# - All clips have the same length. For clips of different lengths, pad and mask the pooling.
# - Tags say what, not when. For that, keep the frames: sound event detection.
# - At work: librosa or torchaudio for spectrograms, `transformers`' `ASTForAudioClassification` or
#   PANNs' weights as a start, scikit-learn's metric.

# %% [markdown] tags=["skip"]
# ## Quiz

# %% [markdown] tags=["skip"]
# {{quiz 121.1b}}

# %% [markdown] tags=["slide"]
# ## Summary
#
# - A log-mel spectrogram is a choice of window, hop, bands and convention: state all of them.
# - Strided convolutions read the waveform itself: 400 samples a frame, 320 from one to the next.
# - Pool over time before joining, and put a non-linearity between linear layers.
# - Many labels: one logit a class, binary cross-entropy on logits, biases that start at the prior.
# - Report mAP beside chance and beside the best simple summaries, split by recording, over several
#   splits.
#
# References: each citation above leads to its source; the
# {doc}`bibliography </book/bibliography>` lists them all.
