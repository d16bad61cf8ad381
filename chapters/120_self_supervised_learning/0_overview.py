# %% [markdown]
# (sec-120)=
# # 120 Self-supervised learning
#
# Labels are dear, images are not. Self-supervised learning makes a task from the images alone:
# hide a part and ask for it, or change the picture and ask what has stayed the same. Nobody wants
# the answers. What one wants is the encoder that had to learn about images in order to give them.
#
# | section | the task | what it must not do | what you build |
# |---|---|---|---|
# | {doc}`120.1a Contrastive learning <1a_contrastive>` | recognise two views of one image among many | look at what the views share by accident | NT-Xent, SimCLR |
# | {doc}`120.1b DINO <1b_dino>` | say about a small crop what a teacher says about a large one | give one answer to everything | DINO's head and losses, iBOT, KoLeo, Sinkhorn–Knopp, multi-crop |
# | {doc}`120.1c SimMIM <1c_simmim>` | paint hidden blocks | copy the pixels next to them | block masks, the masked L1 loss |
# | {doc}`120.2 Masked autoencoders <2_masked_autoencoders>` | paint three quarters of an image, from the rest | spend time on what is hidden | random masking, an encoder that sees visible patches only |
#
# The sections can be read in any order. Each takes about an hour, and none needs a GPU: where one
# would tell more, you see what was recorded on one. What the document's own listings get wrong is
# told in the {doc}`errata </book/errata>`, each with a test.

# %% [markdown]
# :::{diagram} figures/0_overview.svg
# ---
# name: fig-four-tasks
# alt: Four rows. SimCLR - two views of a picture pass the encoder, which is asked which of many others
#   is the partner. DINO - a small crop passes the student, a large one the teacher, and the student is
#   asked what the teacher says. SimMIM - a picture with hidden blocks passes the encoder, which paints
#   them. MAE - the visible quarter alone passes the encoder, and a decoder paints the rest.
# ---
# The four tasks of this chapter, and what the encoder is shown in each.
# :::

# %% [markdown]
# ## What you will be able to do
#
# - Write each method's loss from its equation, and prove it right against an independent one.
# - Say what a method's encoder will make easy to read and what hard, before you train it.
# - See a collapse coming, and know which part of a method prevents it.
# - Measure a representation with few labels and without fooling yourself.
#
# ## One result to begin with
#
# Here are painted pictures. Each has a **shape**, a **hue** and a background **texture**, drawn
# independently, besides position, size, angle and brightness. Suppose a few of them were labelled.
# The simplest classifier gives an image the label of the nearest labelled one. Nearest in what? The
# obvious distance is between pixels.

# %% tags=["definitions", "hide-input"]
import statistics

import matplotlib.pyplot as plt
import torch

from dlcourse.datasets import HUES, SHAPES, TEXTURES, shapes
from dlcourse.notebook import claim, keep, recorded, say, show_source
from dlcourse.self_supervised_learning.experiments.benchmark import (
    PARTS,
    Benchmark,
    combined,
)
from dlcourse.self_supervised_learning.experiments.benchmark_methods import (
    Contest,
)

plt.style.use("dlcourse.notebook.course")
SEEDS = (0, 1, 2)
CLASSES = {"shape": len(SHAPES), "hue": len(HUES), "texture": len(TEXTURES)}


def pictures(seed, label="shape"):
    return shapes(seed, n_train=2000, n_validation=1, n_test=500, label=label)


def nearest(queries, images):
    """Index of the image with the smallest distance in pixels, for each query: (Q,)."""
    return torch.cdist(queries.flatten(1), images.flatten(1)).argmin(1)


# %% tags=["hide-input"]
agreement = {name: [] for name in CLASSES}  # a list over seeds
brightness = []  # correlation of a picture's mean brightness with its nearest one's, over seeds
for seed in SEEDS:
    data = pictures(seed)
    found = nearest(data.test.x, data.train.x)
    pairs = torch.stack([data.test.x.mean((1, 2, 3)), data.train.x[found].mean((1, 2, 3))])
    brightness.append(torch.corrcoef(pairs)[0, 1].item())
    for name in CLASSES:
        labels = pictures(seed, name)
        same = labels.train.y[found] == labels.test.y
        agreement[name].append(same.double().mean().item())

# %% mystnb={"figure": {"caption": "Top: eight pictures that the search had not seen. Below each: its nearest one of 2,000, by pixels. Colour and brightness agree; the shape only now and then.", "name": "fig-pixel-neighbours"}, "image": {"alt": "Two rows of eight small pictures of coloured shapes on patterned backgrounds. Each lower picture has about the colours of the one above it and in most cases another shape."}} tags=["hide-input", "plot"]
data = pictures(0)
queries = data.test.x[:8]
rows = [queries, data.train.x[nearest(queries, data.train.x)]]
fig, axes = plt.subplots(2, 8, figsize=(8, 2.2), layout="constrained")
for row, images, title in zip(axes, rows, ["query", "nearest"], strict=True):
    for ax, image in zip(row, images, strict=True):
        ax.imshow(image.permute(1, 2, 0))
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(title)
plt.show()

# %% tags=["hide-input", "check"]
share = {name: torch.tensor(values) for name, values in agreement.items()}
claim(
    "The nearest image in pixels has the same hue in {hue:.0f} ± {hue_std:.0f}"
    " % of the cases (chance: {hue_chance:.0f} %), the same shape in"
    " {shape:.0f} ± {shape_std:.0f} % (chance: {shape_chance:.1f} %), the same"
    " texture in {texture:.0f} ± {texture_std:.0f} % (chance:"
    " {texture_chance:.0f} %); over {n} sets of pictures. Its mean brightness is"
    " correlated with the picture's by {brightness:.2f}.",
    min(brightness) > 0.5
    and share["hue"].min() > 0.5
    and share["shape"].max() < 0.3
    and share["texture"].max() < 0.45,
    n=len(SEEDS),
    brightness=statistics.mean(brightness),
    **{name: 100 * values.mean().item() for name, values in share.items()},
    **{
        f"{name}_std": 100 * values.std().item()
        for name, values in share.items()
    },
    **{f"{name}_chance": 100 / count for name, count in CLASSES.items()},
)

# %% [markdown]
# Pixels are near where colour and brightness agree, whatever one wants to know. For the texture
# even 10,000 labels do not help (see the table below). One wants a *representation*: numbers
# computed from a picture, in which each factor is easy to read, so that a few labels are enough to
# learn the one that is asked for. To find such a representation without labels is what this chapter
# is about.
#
# ## All methods side by side
#
# Which of the four does it best? The question has no answer without an equal race, so here is one.
#
# - **Equal:** one encoder (a small Vision Transformer), one set of 200,000 pictures, compiled, in
#   bfloat16, on one GPU. Each method has the number of steps that a short trial expected to fit
#   into 90 seconds. The seconds that it then took differ, and are in the table.
# - **Seeds:** three. A seed draws the weights, the order, the views and which pictures have labels.
#   All are tested on the same 5,000 pictures.
# - **Labels:** 10,000 of the pictures have labels; readings get 1 %, 10 % or all of them, and as many
#   again for whatever is chosen.
# - **Readings:** the vote of the nearest neighbours (k-NN; 5 of them with 100 labels, else 20), a
#   logistic probe, and fine-tuning of the whole encoder, for all three factors at once: three heads
#   on one encoder.
# - **Supervision:** the same encoder and heads from random weights, with the same views and rates
#   to choose from. It has as many steps as fine-tuning, or about seven times as many.
# - **Baselines:** the encoder as it starts, and the pixels themselves.
#
# **What was tuned.** On validation, for each contestant, seed, factor and number of labels: the
# probe's decay (five values); of fine-tuning the views (with or without changes of colour) and the
# rate (three values); of supervision also the steps (two values). Pre-training has the settings of the
# methods' papers, scaled down, and was tuned for none of them. A method whose loss has only begun to
# fall in these seconds is not a worse method: the four are compared *under these conditions*.

# %% tags=["gpu", "hide-input"] name="benchmark-simclr"
benchmark = Benchmark(Contest(torch.device("cuda")))
benchmark.method("SimCLR")
keep(**benchmark.kept())

# %% tags=["gpu", "hide-input"] name="benchmark-dino"
benchmark = Benchmark(Contest(torch.device("cuda")))
benchmark.method("DINO + iBOT")
keep(**benchmark.kept())

# %% tags=["gpu", "hide-input"] name="benchmark-simmim"
benchmark = Benchmark(Contest(torch.device("cuda")))
benchmark.method("SimMIM")
keep(**benchmark.kept())

# %% tags=["gpu", "hide-input"] name="benchmark-mae"
benchmark = Benchmark(Contest(torch.device("cuda")))
benchmark.method("MAE")
keep(**benchmark.kept())

# %% tags=["gpu", "hide-input"] name="benchmark-supervised"
benchmark = Benchmark(Contest(torch.device("cuda")))
benchmark.supervised()
keep(**benchmark.kept())

# %% tags=["gpu", "hide-input"] name="benchmark-baselines"
benchmark = Benchmark(Contest(torch.device("cuda")))
benchmark.random()
benchmark.pixels()
keep(**benchmark.kept())

# %% tags=["hide-input"]
from dlcourse.notebook import paired

bench = combined([recorded(f"120.0.benchmark-{part}") for part in PARTS])
NAMES = {
    "SimCLR": "C0",
    "DINO + iBOT": "C1",
    "SimMIM": "C2",
    "MAE": "C4",
    "supervised": "C3",
    "random": "0.45",
    "pixels": "0.7",
}
READINGS = ("k-NN", "logistic probe", "fine-tuned")
SHARES = ("1", "10", "100")


def accuracies(name, reading, factor, p):
    """Test accuracies in per cent, one a seed; None for a reading that there is not."""
    found = bench["table"].get(name, {}).get(reading)
    return found and [100 * v for v in found[factor][p]]


# %% mystnb={"figure": {"caption": "Test accuracy against the number of labels to fit, for each factor (columns) and reading (rows). Mean and standard deviation of the seeds. Supervision is drawn in every row; dotted: guessing.", "name": "fig-all-methods"}, "image": {"alt": "Nine panels: three readings by three factors, each with a line a method of accuracy against the number of labels. The table below holds the same numbers."}} tags=["hide-input", "plot"]
fig, axes = plt.subplots(3, 3, figsize=(9, 7.5), sharex=True, sharey=True)
for row, reading in zip(axes, READINGS, strict=True):
    for ax, factor in zip(row, CLASSES, strict=True):
        for name, color in NAMES.items():
            used = "fine-tuned" if name == "supervised" else reading
            runs = [accuracies(name, used, factor, p) for p in SHARES]
            if None in runs:
                continue
            ax.errorbar(
                [bench["labelled"] * float(p) / 100 for p in SHARES],
                [statistics.mean(r) for r in runs],
                [statistics.stdev(r) for r in runs],
                color=color,
                ls="--" if name == "supervised" else "-",
                capsize=2,
                label=name,
            )
        ax.axhline(100 / CLASSES[factor], color="black", ls=":", lw=1)
        ax.set(xscale="log", ylim=(0, 102))
    row[0].set_ylabel(f"{reading} (%)")
for ax, factor in zip(axes[0], CLASSES, strict=True):
    ax.set_title(factor)
for ax in axes[-1]:
    ax.set_xlabel("labels")
fig.legend(
    *axes[0, 0].get_legend_handles_labels(),
    ncols=6,
    loc="outside lower center",
)
plt.show()

# %% tags=["hide-input", "check"]
def told(name, reading, factor, p):
    return statistics.mean(accuracies(name, reading, factor, p))


def line(cells):
    return "| " + " | ".join(cells) + " |"


def full_table():
    """Markdown: a row for each contestant and reading; the best mean of a column is bold."""
    columns = [(f, p) for f in CLASSES for p in SHARES]
    rows = {
        (name, reading): [accuracies(name, reading, f, p) for f, p in columns]
        for name in NAMES
        for reading in READINGS
        if accuracies(name, reading, "hue", "1")
    }
    best = [
        max(statistics.mean(r[i]) for r in rows.values())
        for i in range(len(columns))
    ]
    lines = [
        line(["test accuracy (%)", "read by", *(f"{f} {p} %" for f, p in columns)]),
        "|---" * (2 + len(columns)) + "|",
    ]
    for (name, reading), runs in rows.items():
        cells = []
        for run, top in zip(runs, best, strict=True):
            mean = statistics.mean(run)
            text = f"{mean:.1f} ± {statistics.stdev(run):.1f}"
            cells.append(f"**{text}**" if mean == top else text)
        lines.append(line([name, reading, *cells]))
    return "\n".join(lines)


def work_done():
    """Markdown: steps, seconds and effective rank of each contestant."""
    lines = [line(["", "steps", "seconds a seed", "effective rank"]), "|---" * 4 + "|"]
    for name in NAMES:
        steps = bench["steps"].get(name)
        seconds = bench["seconds"].get(name)
        rank = bench["rank"].get(name)
        cells = [
            f"{steps:,}" if steps else "",
            f"{statistics.mean(seconds):.0f}" if seconds else "",
            f"{statistics.mean(rank):.1f}" if rank else "",
        ]
        lines.append(line([name, *cells]))
    return "\n".join(lines)


say(
    full_table()
    + "\n\nMean ± standard deviation of"
    + f" {len(accuracies('pixels', 'k-NN', 'hue', '1'))} seeds; bold: the"
    " best mean of a column. Guessing: shape 12.5, hue 16.7, texture 25.\n\n"
    + work_done()
    + "\n\nSteps and seconds are those of pre-training, before any label. Those of supervision"
    " are of"
    " its long trainings; the seconds are of all"
    f" {len(SHARES) * len(bench['rates']) * len(bench['label_views'])} of a seed together (each"
    f" number"
    " of labels, rate and kind of views). The rank is that of the"
    f" features of the test pictures, at most {bench['encoder']['width']} (pixels: 3,072)."
)

# %% tags=["hide-input", "check"]
METHODS = ("SimCLR", "DINO + iBOT", "SimMIM", "MAE")
spent = {name: statistics.mean(bench["seconds"][name]) for name in METHODS}
claim(
    "The seconds of pre-training are not equal: DINO had the most, {most:.0f}, and SimMIM the"
    " fewest,"
    " {fewest:.0f}.",
    max(spent, key=spent.get) == "DINO + iBOT" and min(spent, key=spent.get) == "SimMIM",
    most=max(spent.values()),
    fewest=min(spent.values()),
)


def quantile(level):
    """Two-sided quantile of Student's t with 2 degrees of freedom, that of three seeds."""
    return level * (2 / (1 - level**2)) ** 0.5


def compared(first, second):
    """Markdown table and verdicts: a reading of each method less another, paired over the seeds.

    ``first`` and ``second`` give the accuracies of a method for a factor and a share of the labels.
    The last result has, for each comparison, the gap in units of half its 95 % interval.
    """
    sizes = {}
    verdicts = {"better": [], "worse": [], "not told apart": []}
    lines = [line(["points", "labels", *METHODS]), "|---" * (2 + len(METHODS)) + "|"]
    for factor in CLASSES:
        for p in SHARES:
            cells = [factor, f"{round(bench['labelled'] * float(p) / 100):,}"]
            for name in METHODS:
                gap, half = paired(first(name, factor, p), second(name, factor, p))
                word = "better" if gap > half else "worse" if -gap > half else "not told apart"
                verdicts[word].append((name, factor, p))
                sizes[name, factor, p] = abs(gap) / half if half else 0.0
                text = f"{gap:+.1f} ± {half:.1f}"
                cells.append(text if word == "not told apart" else f"**{text}**")
            lines.append(line(cells))
    return "\n".join(lines), verdicts, sizes


def counted(verdicts, sizes):
    total = len(sizes)
    wider = quantile(1 - 0.05 / total) / quantile(0.95)
    remain = sum(size > wider for size in sizes.values())
    return (
        f"Of {total} comparisons {len(verdicts['better'])} are better, {len(verdicts['worse'])}"
        f" worse,"
        f" and {len(verdicts['not told apart'])} are not told apart (bold: the interval leaves out"
        f" zero). Where nothing differs, about {0.05 * total:.0f} of {total} would do so by chance."
        f" With intervals widened {wider:.1f} times, so that all {total} hold together with 95 %"
        f" (Bonferroni), {remain} leave out zero."
    )


table, verdicts, sizes = compared(
    lambda name, f, p: accuracies(name, "fine-tuned", f, p),
    lambda name, f, p: accuracies(name, "logistic probe", f, p),
)
say(
    "**Is it worth to train all weights?** Fine-tuned less a probe of the frozen features, both"
    " tuned on validation; mean of the seeds' differences, and half the width of its 95 %"
    " interval:\n\n" + table + "\n\n" + counted(verdicts, sizes)
)
behind = [(f, p) for name, f, p in verdicts["worse"] if name == "DINO + iBOT"]
two = ("logistic probe", "fine-tuned")
dino = {
    p: paired(*(accuracies("DINO + iBOT", reading, "texture", p) for reading in two))
    for p in ("10", "100")
}
claim(
    "All {n} that are worse are DINO's. Fine-tuned, it tells fewer textures than a probe of its own"
    " frozen features: {a:.0f} points fewer with {some:,} labels, {b:.0f} with {all:,}. The best of"
    " these fine-tunings of {steps} steps loses what could be read before it, so its fine-tuned"
    " rows"
    " say little about its features.",
    len(behind) == len(verdicts["worse"]) and all(gap > half for gap, half in dino.values()),
    n=len(behind),
    a=dino["10"][0],
    b=dino["100"][0],
    some=bench["labelled"] // 10,
    all=bench["labelled"],
    steps=bench["label_steps"],
)

# %% tags=["hide-input", "check"]
table, verdicts, sizes = compared(
    lambda name, f, p: accuracies(name, "fine-tuned", f, p),
    lambda name, f, p: accuracies("supervised", "fine-tuned", f, p),
)
say(
    "**Does pre-training help on these labels?** Fine-tuned from a method's weights less trained"
    " from"
    " random ones, both tuned on validation:\n\n" + table + "\n\n" + counted(verdicts, sizes)
)


def steps_chosen(factor, p):
    """The steps of supervision that validation chose, one a seed."""
    return [run[factor][2] for run in bench["chosen"]["supervised"][p]]


LONG = bench["steps"]["supervised"]
HIGHEST = max(bench["rates"])
unequal = [(f, p) for _, f, p in verdicts["worse"] if set(steps_chosen(f, p)) == {LONG}]
claim(
    "All {better} that are better are of the texture, from SimCLR and MAE; {slight} of them are"
    " below"
    " one point. Of the {worse} that are worse {dino} are DINO's. In {unequal} of the {worse},"
    " supervision had taken its long training on every seed, {long:,} steps against {short}: there"
    " the start and the steps differ together.",
    all(f == "texture" and name in ("SimCLR", "MAE") for name, f, _ in verdicts["better"]),
    better=len(verdicts["better"]),
    slight=sum(
        told(name, "fine-tuned", f, p) - told("supervised", "fine-tuned", f, p) < 1
        for name, f, p in verdicts["better"]
    ),
    worse=len(verdicts["worse"]),
    dino=sum(name == "DINO + iBOT" for name, _, _ in verdicts["worse"]),
    unequal=len(unequal),
    long=LONG,
    short=bench["label_steps"],
)

shape, texture = (
    {m: paired(*(accuracies(n, "fine-tuned", f, p) for n in (m, "supervised"))) for m in METHODS}
    for f, p in (("shape", "100"), ("texture", "1"))
)
claim(
    "**It depends on the factor and on the number of labels.** The largest differences: with {few}"
    " labels, fine-tuning from SimCLR gains {a:.0f} points of the texture on supervision, and"
    " from MAE"
    " {b:.0f}. With all {all:,} labels supervision is ahead for the shape: of SimCLR by {c:.0f}"
    " points,"
    " of DINO by {d:.0f}, of SimMIM by {e:.0f}; from MAE it is not told apart. But fine-tuning had"
    " {short} steps, and supervision the better of {short} and {long:,}. For the shape with all"
    " labels"
    " each of them chose the highest rate that it was offered, and supervision the long"
    " training. So"
    " none is known to have finished, and what a method reaches with as many steps on labels"
    " after its"
    " pre-training was not measured.",
    all(
        run["shape"][1] == HIGHEST
        for name in (*METHODS, "supervised")
        for run in bench["chosen"][name]["100"]
    )
    and set(steps_chosen("shape", "100")) == {LONG}
    and min(texture[m][0] - texture[m][1] for m in ("SimCLR", "MAE")) > 0
    and max(shape[m][0] + shape[m][1] for m in ("SimCLR", "DINO + iBOT", "SimMIM")) < 0
    and abs(shape["MAE"][0]) < shape["MAE"][1],
    few=bench["labelled"] // 100,
    all=bench["labelled"],
    a=texture["SimCLR"][0],
    b=texture["MAE"][0],
    c=-shape["SimCLR"][0],
    d=-shape["DINO + iBOT"][0],
    e=-shape["SimMIM"][0],
    short=bench["label_steps"],
    long=bench["steps"]["supervised"],
)

# %% tags=["hide-input", "check"]
by_labels = recorded("120.2.supervision")["table"]["supervised ViT"]["fine-tuned"]["texture"]
from_mae = recorded("120.2.fine-tuning")["table"]["MAE"]["fine-tuned"]["texture"]
frozen_rows = [
    reading["texture"]
    for source in ("120.1a.augmentations", "120.2.features")
    for readings in recorded(source)["table"].values()
    for reading in readings.values()
]
small = {}
for p, values in by_labels.items():
    best = max((row[p] for row in frozen_rows), key=statistics.mean)
    small[p] = [
        paired([100 * v for v in values], [100 * v for v in other]) for other in (best, from_mae[p])
    ]
frozen_1c = recorded("120.1c.targets")["table"].values()
tuned_1c = recorded("120.1c.fine-tuning")["table"]
claim(
    "On fewer pictures and a CPU (section 120.2) the network trained on labels has a"
    " higher mean of the texture than the best frozen reading: by {few}, {some} and {all} points"
    " with 20, 200 and 2,000 labels. With 20 that is not settled by three seeds. The same network"
    " from MAE's weights is not told apart from it. In section 120.1c supervision is"
    " ahead of every frozen reading on each seed, and not told apart from training that starts"
    " from SimMIM.",
    all(gap > 0 for (gap, _), _ in small.values())
    and [gap > half for (gap, half), _ in small.values()] == [False, True, True]
    and all(abs(gap) < half for _, (gap, half) in small.values())
    and all(
        min(values) > max(reading["texture"][p])
        for p, values in tuned_1c["random weights"].items()
        for readings in frozen_1c
        for reading in readings.values()
    )
    and all(
        abs(gap) < half
        for gap, half in (
            paired(tuned_1c["SimMIM"][p], values)
            for p, values in tuned_1c["random weights"].items()
        )
    ),
    **{
        name: f"{gap:.1f} ± {half:.1f}"
        for name, ((gap, half), _) in zip(("few", "some", "all"), small.values(), strict=True)
    },
)


# %% tags=["hide-input", "check"]
def leader(reading, factor, p, names):
    """Who is best, and whether the second is told apart from it over the seeds."""
    runs = {name: accuracies(name, reading, factor, p) for name in names}
    first, second = sorted(runs, key=lambda name: -statistics.mean(runs[name]))[:2]
    mean, half = paired(runs[first], runs[second])
    points = f"{mean:.1f} ± {half:.1f} points"
    if mean > half:
        return f"**{first}**, {points} before {second}"
    return f"{first} or {second} ({points} apart)"


lines = [line(["read by", "labels", *CLASSES]), "|---" * 5 + "|"]
for reading in READINGS:
    for p in SHARES:
        count = f"{round(bench['labelled'] * float(p) / 100):,}"
        there = [m for m in METHODS if accuracies(m, reading, "hue", p)]
        if len(there) < 2:
            continue
        best = [leader(reading, f, p, there) for f in CLASSES]
        lines.append(line([reading, count, *best]))
say(
    "Which method leads (of those that have the reading)? Each entry has the mean of the seeds'"
    " differences to the second, and half the width of its 95 % interval; a"
    " name is bold where the interval leaves out zero:\n\n"
    + "\n".join(lines)
    + "\n\nWith three seeds these intervals are wide. First and second were picked by"
    f" the same numbers, and the {len(lines) - 2} × {len(CLASSES)} entries are not"
    " corrected for their number."
)

# %% tags=["hide-input", "check"]
claim(
    "**What is near to what differs from method to method.** SimCLR's views"
    " differ in their colours; its neighbours share the texture ({a:.1f} % with"
    " 100 labels) and not the hue ({b:.0f} %, behind the pixels' {c:.0f}). MAE,"
    " which paints normalised patches, is of the same kind ({d:.0f} and"
    " {e:.0f} %). But a task does not decide alone: DINO's views have the same"
    " colour jitter, and its neighbours share the hue ({h:.0f} %) far more often"
    " than SimCLR's, and the texture ({g:.0f} %) less often. By a probe with all labels the hue"
    " is read in at"
    " least {f:.0f} % from every method's features; so it is from the pixels ({i:.1f} %), and"
    " nearly so"
    " from the untrained encoder's features ({j:.0f} %).",
    told("SimCLR", "k-NN", "texture", "1") > 95
    and min(accuracies("DINO + iBOT", "k-NN", "hue", "1"))
    > max(accuracies("SimCLR", "k-NN", "hue", "1")) + 20
    and max(accuracies("DINO + iBOT", "k-NN", "texture", "1")) < 95
    and told("SimCLR", "k-NN", "hue", "1") < told("pixels", "k-NN", "hue", "1") - 20
    and told("MAE", "k-NN", "hue", "1") < told("pixels", "k-NN", "hue", "1") - 20
    and min(told(m, "logistic probe", "hue", "100") for m in METHODS) > 98
    and told("pixels", "logistic probe", "hue", "100") > 98
    and told("random", "logistic probe", "hue", "100") > 95,
    a=told("SimCLR", "k-NN", "texture", "1"),
    b=told("SimCLR", "k-NN", "hue", "1"),
    c=told("pixels", "k-NN", "hue", "1"),
    d=told("MAE", "k-NN", "texture", "1"),
    e=told("MAE", "k-NN", "hue", "1"),
    g=told("DINO + iBOT", "k-NN", "texture", "1"),
    h=told("DINO + iBOT", "k-NN", "hue", "1"),
    f=min(told(m, "logistic probe", "hue", "100") for m in METHODS),
    i=told("pixels", "logistic probe", "hue", "100"),
    j=told("random", "logistic probe", "hue", "100"),
)
claim(
    "**The shape is the hardest.** By a probe with all labels MAE's features tell"
    " {a:.0f} % of the shapes and SimMIM's {b:.0f}; pixels, the untrained"
    " encoder, SimCLR and DINO are all at {c:.0f} to {d:.0f} % (guessing:"
    " 12.5). Training on all labels reaches {f:.0f} %. Among neighbours the pixels' tell the most"
    " shapes at every number of labels, {e:.0f} % with all.",
    min(accuracies("MAE", "logistic probe", "shape", "100"))
    > max(accuracies("SimMIM", "logistic probe", "shape", "100"))
    and told("SimMIM", "logistic probe", "shape", "100") > 30
    and max(
        told(m, "logistic probe", "shape", "100")
        for m in ("SimCLR", "DINO + iBOT", "random", "pixels")
    )
    < 25
    and all(
        told(m, "k-NN", "shape", p) < told("pixels", "k-NN", "shape", p)
        for m in (*METHODS, "random")
        for p in SHARES
    )
    and max(
        told(m, r, "shape", "100") for m in METHODS for r in READINGS
    )
    < told("supervised", "fine-tuned", "shape", "100"),
    a=told("MAE", "logistic probe", "shape", "100"),
    b=told("SimMIM", "logistic probe", "shape", "100"),
    c=min(
        told(m, "logistic probe", "shape", "100")
        for m in ("SimCLR", "DINO + iBOT", "random", "pixels")
    ),
    d=max(
        told(m, "logistic probe", "shape", "100")
        for m in ("SimCLR", "DINO + iBOT", "random", "pixels")
    ),
    e=told("pixels", "k-NN", "shape", "100"),
    f=told("supervised", "fine-tuned", "shape", "100"),
)

# %% [markdown]
# **Dimensional collapse.** An encoder that gives one answer to everything has collapsed, and is
# noticed at once. One whose features vary in a few directions only is harder to notice: its loss
# falls. The *effective rank* in the table above counts directions: it is the exponential of the
# entropy of the shares that the principal axes have in the variance. Barlow Twins
# {cite:p}`zbontar2021barlow` and VICReg {cite:p}`bardes2022vicreg` have losses against it. Both
# pull two views of a picture together without negatives and without a teacher. Barlow Twins asks
# that the correlations between the two views' features be the identity matrix; VICReg that each
# feature's standard deviation stay above a bound and that the covariances between features vanish.
# A high rank alone does not make a good encoder: noise has the highest.

# %% tags=["hide-input", "check"]
claim(
    "Nor does the rank here foretell how well the shape is read: DINO's features have a rank of"
    " {a:.0f} and tell {b:.0f} % of the"
    " shapes by a probe with all labels, MAE's {c:.0f} and {d:.0f} %.",
    min(bench["rank"]["DINO + iBOT"]) > 5 * max(bench["rank"]["MAE"])
    and told("MAE", "logistic probe", "shape", "100")
    > 2 * told("DINO + iBOT", "logistic probe", "shape", "100"),
    a=statistics.mean(bench["rank"]["DINO + iBOT"]),
    b=told("DINO + iBOT", "logistic probe", "shape", "100"),
    c=statistics.mean(bench["rank"]["MAE"]),
    d=told("MAE", "logistic probe", "shape", "100"),
)

# %% [markdown]
# ## What the papers report
#
# Painted pictures at 32 × 32 do not say how good a method is on photographs. There the papers
# report, on ImageNet's validation set (top-1 accuracy in %):
#
# | method | encoder | k-NN | linear probe | fine-tuned |
# |---|---|---|---|---|
# | SimCLR {cite:p}`chen2020simclr` | ResNet-50 | | 69.3 | |
# | DINO {cite:p}`caron2021dino` | ViT-B/16 | 76.1 | 78.2 | 82.8 |
# | iBOT {cite:p}`zhou2022ibot` | ViT-B/16 | 77.1 | 79.5 | 84.0 |
# | DINOv2, other data {cite:p}`oquab2024dinov2` | ViT-g/14 | 83.5 | 86.5 | 88.5 |
# | SimMIM {cite:p}`xie2022simmim` | ViT-B/16 | | 56.7 | 83.8 |
# | MAE {cite:p}`he2022mae` | ViT-B/16 | | 68.0 | 83.6 |
#
# On photographs the methods that compare views are strong when frozen; those that paint what is hidden are read
# poorly by a linear probe, and well after fine-tuning. Encoders, epochs and data differ from row to
# row, so this is no race.

# %% tags=["hide-input", "check"]
ahead = {
    f: paired(*(accuracies(m, "logistic probe", f, "100") for m in ("MAE", "DINO + iBOT")))
    for f in ("shape", "texture")
}
claim(
    "On the painted pictures it is the other way round for two of the three factors: a probe of"
    " MAE's"
    " frozen features, with all labels, is {a:.0f} ± {b:.0f} points ahead of one of DINO's for the"
    " shape and {c:.0f} ± {d:.0f} for the texture.",
    all(gap > half for gap, half in ahead.values()),
    a=ahead["shape"][0],
    b=ahead["shape"][1],
    c=ahead["texture"][0],
    d=ahead["texture"][1],
)

# %% [markdown]
# ## Before you start
#
# You should be able to read a PyTorch training loop and know what attention computes; each section
# says what it needs beyond that. {doc}`Notation </book/notation>` lists the symbols;
# {doc}`How to use this course </book/how_to_use>` tells how to run a chapter in Colab, JupyterLab or
# Binder. All sections share one Vision Transformer {cite:p}`dosovitskiy2021vit`, cut into the steps
# that they need:

# %%
from dlcourse.self_supervised_learning import (
    VisionTransformer,
    patchify,
    unpatchify,
)

show_source(VisionTransformer.forward_features)
show_source(VisionTransformer.encode)

images = pictures(0).test.x[:4]  # (4, 3, 32, 32)
patches = patchify(images, 4)  # (4, 64, 48)
encoder = VisionTransformer(
    32,
    4,
    embed_dim=48,
    depth=2,
    num_heads=3,
    generator=torch.Generator().manual_seed(0),
)
few = encoder.encode(
    (encoder.embed_patches(images) + encoder.positions((32, 32)))[:, ::4]
)
claim(
    "An image of 32 × 32 is {n} patches of {d} numbers, and they give back the"
    " image to the bit. The encoder takes any of them: from every fourth patch"
    " it makes {few} tokens, the class token in front.",
    torch.equal(unpatchify(patches, 4, (32, 32)), images)
    and few.shape == (4, 17, 48),
    n=patches.shape[1],
    d=patches.shape[2],
    few=few.shape[1],
)

# %% [markdown]
# ## With your own pictures
#
# Painted pictures need no download, and every factor in them is known. Real ones are loaded by
# `cifar10(root, download=True)`, or from any tree of image files, such as ImageNet's, by
# `image_folder`. The views are then drawn by `torchvision`'s transforms, in the workers of a data
# loader. Here with a folder of four files, made for the purpose:

# %% tags=["nbval-check-output"]
import tempfile
from pathlib import Path

from PIL import Image

from dlcourse.datasets import image_folder
from dlcourse.self_supervised_learning import MultiCrop

with tempfile.TemporaryDirectory() as folder:
    for i, picture in enumerate(pictures(0).test.x[:4]):
        file = Path(folder, "painted", f"{i}.png")
        file.parent.mkdir(exist_ok=True)
        pixels = (255 * picture.permute(1, 2, 0)).byte().numpy()
        Image.fromarray(pixels).resize((96, 96)).save(file)

    crops = MultiCrop(global_size=64, local_size=32, local_crops=4)
    views, labels = next(iter(image_folder(folder, crops, batch_size=4)))
print(f"{len(views)} views of each of {len(labels)} images:")
print([tuple(view.shape) for view in views])

# %% [markdown]
# ## Summary
#
# - A self-supervised task is a means: the encoder that solves it is what one keeps.
# - Every task has a cheap wrong solution: a shortcut, a copy, a constant. Methods differ in how they
#   shut it out.
# - What a task asks bears on what its encoder makes easy to read, and does not decide it alone. A
#   probe with many labels may still find the rest.
# - Pixels, an untrained encoder, and supervision with the same views and a tuned budget belong in
#   every comparison; so do the seconds that each had.
