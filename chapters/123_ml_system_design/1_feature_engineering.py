# %% [markdown] tags=["slide"]
# (sec-123-1)=
# # 123.1 Feature engineering
#
# A model reads numbers that somebody made from a table. At the end of this section you can make
# them alike in training and in service, encode a category with its target without giving the answer
# away, join what was known at a time, and find out when two paths differ.
#
# You need: logistic regression, and no GPU.

# %% tags=["definitions", "hide-input", "skip"]
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder, StandardScaler

from dlcourse.ml_system_design import (
    FeaturePipeline,
    OneHot,
    Standardizer,
    lag_features,
    point_in_time_join,
    train_serve_skew,
)
from dlcourse.ml_system_design.experiments.feature_engineering import defaults, docstrings
from dlcourse.ml_system_design.feature_engineering._temporal import cyclic
from dlcourse.notebook import claim, explore, say, show_source
from dlcourse.notebook.seeds import paired

plt.style.use("dlcourse.notebook.course")
SEEDS = range(5)


def spread(values, digits=3):
    """Mean and the range of a few runs, as text."""
    low, high = min(values), max(values)
    return f"{np.mean(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


# %% [markdown] tags=["slide"]
# ## A question
#
# Given a docstring, which of five Python libraries is it from? Their names are masked, and
# numbers left out. The words become numbers by TF-IDF, and a logistic regression reads them. **Does it matter on which texts
# TF-IDF is fitted, and how many rows a request brings?** Three ways: fitted on the training texts;
# fitted on the training and the test texts; or fitted anew on each batch that is served.

# %% tags=["hide-input"]
WORDS, SIZES = 1000, [1, 10, 100, 300]
WAYS = ["fit on train", "fit on all", "refit at serving"]
table = docstrings()


def refitted(texts):
    """TF-IDF of a batch by itself, cut or filled to the width that the model expects."""
    made = TfidfVectorizer(max_features=WORDS).fit_transform(texts)
    made.resize(len(texts), WORDS)
    return made


accuracy, majority = {(way, size): [] for way in WAYS for size in SIZES}, []
for seed in range(3):
    train, test = train_test_split(
        table, test_size=0.3, random_state=seed, stratify=table["library"]
    )
    test = test[:300]
    truth = test["library"].to_numpy()
    majority.append((truth == train["library"].mode()[0]).mean())
    for way, learned in (("fit on train", train), ("fit on all", pd.concat([train, test]))):
        words = TfidfVectorizer(max_features=WORDS).fit(learned["text"])
        model = LogisticRegression(C=10, max_iter=300)
        model.fit(words.transform(train["text"]), train["library"])
        for size in SIZES:  # what is looked up does not depend on the other rows
            accuracy[way, size].append(model.score(words.transform(test["text"]), truth))
        if way == "fit on train":
            for size in SIZES:
                batches = [test["text"][i : i + size] for i in range(0, len(test), size)]
                guess = np.concatenate([model.predict(refitted(batch)) for batch in batches])
                accuracy["refit at serving", size].append((guess == truth).mean())


def draw_ways(way, rows):
    fig, ax = plt.subplots(figsize=(6, 2.9), constrained_layout=True)
    for k, size in enumerate(SIZES):
        values = accuracy[way, size]
        ax.bar(k, np.mean(values), color="tab:blue" if size == rows else "0.8")
        ax.plot([k] * len(values), values, "k.", ms=4)
    ax.axhline(np.mean(majority), color="tab:red", ls=":", label="always the largest library")
    ax.set_xticks(range(len(SIZES)), SIZES)
    ax.set(xlabel="rows served at a time", ylabel="accuracy (share)", ylim=(0, 1.02), title=way)
    ax.legend(loc="lower right")
    return fig


explore(
    draw_ways,
    {"way": WAYS, "rows": SIZES},
    initial={"way": "refit at serving", "rows": 10},
    name="Where TF-IDF is fitted",
    alt=lambda way, rows: (
        f"Bars of accuracy by rows a batch, {way}. At {rows} rows: "
        f"{np.mean(accuracy[way, rows]):.2f}; always the largest library: "
        f"{np.mean(majority):.2f}."
    ),
)

# %% tags=["hide-input", "check"]
once = accuracy["fit on train", 300]
again = {size: accuracy["refit at serving", size] for size in SIZES}
best = max(SIZES, key=lambda size: np.mean(again[size]))
lead = paired(again[best], majority)
most = max(max(values) for values in again.values())
gap, half = paired(accuracy["fit on all", 300], once)
claim(
    "{n:,} docstrings, three splits, 300 test rows each; mean and range. Fitted once on the "
    "training rows: {once}. Refitted at serving, by rows a batch: {again}. Always the largest "
    "library: {majority}. Refitting is never within 0.2 of fitting once, in no split and at none "
    "of the four sizes. At the best size ({best}) it is {lead:+.3f} ± "
    "{lead_half:.3f} from the answer that reads nothing. Fitted on all minus fitted on train: {gap:+.3f} ± {half:.3f} (95 %): this "
    "leak is less than 0.02 here.",
    min(once) - most > 0.2 and abs(gap) + half < 0.02,
    n=len(table), once=spread(once), majority=spread(majority), gap=gap, half=half, best=best,
    again="; ".join(f"{size}: {spread(values)}" for size, values in again.items()),
    lead=lead[0], lead_half=lead[1],
)  # fmt: skip

# %% [markdown] tags=["skip"]
# Column 7 of the training matrix is one word, and column 7 of a refitted batch is another. The
# weights of the model then meet values of other words. (Not all: the words that both have are sorted
# alike, so that many stand near their place, and some in it. That is why refitting need not fall
# below the answer that reads nothing, and by how much it misses differs from split to split.) A small
# batch has fewer words than training, so ours is filled with zeros to the width of training; without
# that the model would at least refuse it. Counts and accuracies here depend on the versions of the libraries that are installed.

# %% [markdown] tags=["slide"]
# ## The idea
#
# Split each feature in what is **learned** and what is **looked up**. `fit` learns from training
# rows: means, categories, words. `transform` looks up, row by row, and learns nothing. Then a row
# has the same features alone or among a million others, today or in a year. This is the pattern of
# scikit-learn {cite:p}`pedregosa2011scikit`.
#
# **Standardising** learns mean and deviation of $n$ training rows:
#
# $$
# z = \frac{x - \mu}{\sigma}, \qquad \mu = \frac1n \sum_i x_i, \qquad
# \sigma^2 = \frac1n \sum_i (x_i - \mu)^2 .
# $$ (eq-feature-standard)
#
# **TF-IDF** learns the vocabulary and in how many documents $d_w$ a word $w$ stands. A row of word
# counts $c_w$ becomes, before it is scaled to length 1,
#
# $$
# t_w = c_w \left( \ln \frac{1 + n}{1 + d_w} + 1 \right) .
# $$ (eq-feature-tfidf)
#
# A **target mean** gives a category $c$ with $n_c$ rows one number, shrunk towards the mean $\mu_y$
# of all {cite:p}`miccibarreca2001preprocessing`:
#
# $$
# e_c = \frac{n_c\, \bar y_c + m\, \mu_y}{n_c + m} .
# $$ (eq-feature-target)
#
# An hour $h$ is a point on a **circle**, so that 23:59 lies beside 0:00. Nothing is learned:
#
# $$
# \left( \sin \tfrac{2\pi h}{24},\; \cos \tfrac{2\pi h}{24} \right) .
# $$ (eq-feature-circle)

# %% [markdown] tags=["skip"]
# :::{diagram} figures/1_feature_engineering.svg
# ---
# name: fig-feature-paths
# alt: Above, training rows go to fit, transform and a model; fit leaves what was learned. In the
#   middle, one served row goes through the same transform with what was learned, and to the model.
#   Below, a line of time - the newest value that was known before an event is taken, and a value
#   that is not there yet and one of the future are not.
# ---
# One pipeline, two paths; and what an event may see.
# :::

# %% [markdown] tags=["skip"]
# {{exercise 123.1.predict-batch}}

# %% [markdown] tags=["slide"]
# ## Piece by piece

# %%
show_source(Standardizer.fit)

# %%
show_source(Standardizer.transform)

# %%
show_source(OneHot.transform)

# %%
show_source(cyclic)

# %% [markdown] tags=["skip"]
# {{exercise 123.1.cyclic-hour}}

# %% [markdown] tags=["slide"]
# ### The whole table
#
# `FeaturePipeline` is an estimator of scikit-learn's, with groups of columns by name. It checks
# that a served table is like the training table, and names what is not. Is it equal to
# scikit-learn's own steps, and is a row alone what it is among others?

# %% tags=["hide-input", "check"]
numbers = table[["length", "lines"]].astype(float)
ours = FeaturePipeline(numerical=["length", "lines"]).fit(numbers)
theirs = StandardScaler().fit(numbers)
off = np.abs(ours.transform(numbers) - theirs.transform(numbers)).max()
mixed = FeaturePipeline(
    numerical={"length": "signed_log"}, categorical=["kind"], text=["text"], extra="ignore"
).fit(table[:500])
together = mixed.transform(table[500:540])
alone = [mixed.transform(table[i : i + 1]) for i in range(500, 540)]
apart = max(abs(together[i] - row).max() for i, row in enumerate(alone))
claim(
    "Largest difference from StandardScaler: {off:.0e}. Largest difference between {k} rows alone "
    "and the same rows together, over {d:,} features of numbers, kinds and words: {apart:.0e}.",
    off < 1e-12 and apart < 1e-12,
    off=off, apart=apart, k=len(alone), d=together.shape[1],
)  # fmt: skip

# %% [markdown] tags=["slide"]
# ### What do the groups of columns bring?
#
# Numbers are a docstring's length and lines. The category is the type of the object, such as
# `function`, `type` or `ufunc`; some types belong to one library alone.

# %% mystnb={"figure": {"caption": "Accuracy on test rows by groups of features, three splits (dots) and their mean.", "name": "fig-feature-groups"}, "image": {"alt": "Four bars of accuracy: numbers alone, numbers and category, text alone, and all; and a dotted line for the largest class."}} tags=["hide-input", "plot"]
GROUPS = {"numbers": {"numerical": {"length": "signed_log", "lines": "signed_log"}}}
GROUPS["+ category"] = {**GROUPS["numbers"], "categorical": ["kind"], "min_frequency": 5}
GROUPS["text alone"] = {"text": ["text"], "max_text_features": WORDS}
GROUPS["all"] = {**GROUPS["+ category"], **GROUPS["text alone"]}
scores = {name: [] for name in GROUPS}
for seed in range(3):
    train, test = train_test_split(
        table, test_size=0.3, random_state=seed, stratify=table["library"]
    )
    for name, groups in GROUPS.items():
        model = make_pipeline(
            FeaturePipeline(**groups, extra="ignore"), LogisticRegression(C=10, max_iter=300)
        )
        scores[name].append(model.fit(train, train["library"]).score(test, test["library"]))
fig, ax = plt.subplots(figsize=(5.6, 2.8))
for k, values in enumerate(scores.values()):
    ax.bar(k, np.mean(values), color="tab:blue", alpha=0.6)
    ax.plot([k] * 3, values, "k.")
ax.axhline(np.mean(majority), color="tab:red", ls=":", label="always the largest library")
ax.set_xticks(range(len(scores)), scores)
ax.set(xlabel="features", ylabel="accuracy (share)", ylim=(0, 1.02))
ax.legend(loc="lower right")
plt.show()

# %% tags=["hide-input", "check"]
pairs = (("numbers", "+ category"), ("+ category", "all"), ("text alone", "all"))
step, text_step, rest = (paired(scores[b], scores[a]) for a, b in pairs)
claim(
    "Accuracy, mean and range of three splits: {rows}. The category adds "
    "{a:.3f} ± {b:.3f} to the numbers, the text {c:.3f} ± {d:.3f} to both. To the text alone the "
    "other two add {e:+.3f} ± {f:.3f}: the "
    "interval ends below a quarter of what the category adds to the numbers.",
    step[0] > step[1] and text_step[0] > text_step[1] and rest[0] + rest[1] < step[0] / 4,
    rows="; ".join(f"{k} {spread(v)}" for k, v in scores.items()),
    a=step[0], b=step[1], c=text_step[0], d=text_step[1], e=rest[0], f=rest[1],
)  # fmt: skip

# %% [markdown] tags=["slide"]
# ## A category that means nothing
#
# A thousand levels, drawn at random, and a target drawn at random too: nothing can be learned. The
# naive way fits the means of equation {eq}`eq-feature-target` on the training rows and looks them
# up for the same rows. The cross-fitted way encodes each training row by the other folds: here
# `fit_transform` is not `fit` and then `transform`. Test rows are encoded by all of training in
# both. The pipeline uses scikit-learn's encoder, which chooses $m$ from the variances.

# %% tags=["hide-input", "check"]
target = {(way, part): [] for way in ("naive", "cross-fitted") for part in ("train", "test")}
for seed in SEEDS:
    rng = np.random.default_rng([1231, seed])
    levels = pd.DataFrame({"c": [f"level {k}" for k in rng.integers(0, 1000, 6000)]})
    y = rng.integers(0, 2, 6000)
    a, b = levels[:3000], levels[3000:]
    encoder = FeaturePipeline(categorical={"c": "target"}, random_state=seed)
    crossed = encoder.fit_transform(a, y[:3000])
    naive, new = encoder.transform(a), encoder.transform(b)
    for way, made in (("naive", naive), ("cross-fitted", crossed)):
        model = LogisticRegression(C=1e3).fit(made, y[:3000])
        for part, x, truth in (("train", made, y[:3000]), ("test", new, y[3000:])):
            target[way, part].append(roc_auc_score(truth, model.decision_function(x)))
say(
    "| encoding | AUC, training rows | AUC, test rows |\n|---|---|---|\n"
    + "\n".join(
        f"| {w} | {spread(target[w, 'train'])} | {spread(target[w, 'test'])} |"
        for w in ("naive", "cross-fitted")
    )
)
claim(
    "Mean and range of {n} draws; chance is 0.5. The naive training AUC is above {low:.2f} in each "
    "draw; cross-fitted training and both test AUCs stay within 0.06 of chance.",
    min(target["naive", "train"]) > 0.7
    and all(abs(v - 0.5) < 0.06 for k in target if k != ("naive", "train") for v in target[k]),
    n=len(SEEDS), low=np.floor(100 * min(target["naive", "train"])) / 100,
)  # fmt: skip

# %% [markdown] tags=["skip"]
# A model that reads the naive feature beside good ones trusts it too much, for its training score:

# %% tags=["hide-input", "check"]
beside = {way: [] for way in ("naive", "cross-fitted", "left out")}
for seed in SEEDS:
    rng = np.random.default_rng([31, seed])
    y = rng.random(4000) < 0.5
    good = rng.standard_normal(4000) + 0.9 * y
    levels = pd.DataFrame({"c": [f"level {k}" for k in rng.integers(0, 1000, 4000)]})
    train, test = np.arange(2000), np.arange(2000, 4000)
    encoder = FeaturePipeline(categorical={"c": "target"}, random_state=seed)
    crossed = encoder.fit_transform(levels[:2000], y[train])
    naive, new = encoder.transform(levels[:2000]), encoder.transform(levels[2000:])
    pairs = {"naive": (naive, new), "cross-fitted": (crossed, new), "left out": (0 * naive, 0 * new)}
    for way, (seen, unseen) in pairs.items():
        model = LogisticRegression().fit(np.c_[good[train], seen], y[train])
        score = model.decision_function(np.c_[good[test], unseen])
        beside[way].append(roc_auc_score(y[test], score))
claim(
    "Beside one good feature, the useless category of 1,000 levels brings the test AUC to {naive} if "
    "it is encoded by the rows that train the model, and to {crossed} if it is cross-fitted; without it "
    "the AUC is {out} (mean and range of {n} draws).",
    all(a < b for a, b in zip(beside["naive"], beside["cross-fitted"], strict=True)),
    naive=spread(beside["naive"]), crossed=spread(beside["cross-fitted"]),
    out=spread(beside["left out"]), n=len(SEEDS),
)  # fmt: skip

# %% [markdown] tags=["skip"]
# {{exercise 123.1.others-mean}}

# %% [markdown] tags=["slide"]
# ## How large is a leak?
#
# **Leakage** is information in training that will not be there in service
# {cite:p}`kaufman2012leakage`. Whether it is large depends on what is learned from the wrong rows.
# Two cases, each with the step on all rows before the cross-validation, and inside it:
#
# - *selecting* 20 of 1,000 features of pure noise, on 100 rows: the selection reads the target;
# - *standardising* a real table of 569 tumours: the mean reads no target.

# %% tags=["hide-input", "check"]
leak = {(what, where): [] for what in ("select", "scale") for where in ("all", "train")}
tumours = load_breast_cancer()
for seed in SEEDS:
    rng = np.random.default_rng([1232, seed])
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    noise, y = rng.standard_normal((100, 1000)), rng.permutation(np.repeat([0, 1], 50))
    for what, step, x, truth in (
        ("select", SelectKBest(k=20), noise, y),
        ("scale", StandardScaler(), tumours.data, tumours.target),
    ):
        before, model = step.fit_transform(x, truth), LogisticRegression(max_iter=500)
        leak[what, "all"].append(cross_val_score(model, before, truth, cv=folds).mean())
        inside = make_pipeline(step, model)
        leak[what, "train"].append(cross_val_score(inside, x, truth, cv=folds).mean())
gain = {what: paired(leak[what, "all"], leak[what, "train"]) for what in ("select", "scale")}
claim(
    "Accuracy in validation over {n} seeds. Selection on all rows: {sa}; inside: {st}; false gain "
    "{g:+.3f} ± {h:.3f}. Standardising on all rows: {ca}; inside: {ct}; gain {k:+.4f} ± {m:.4f}, "
    "less than 0.01 either way. The second leak is a leak too, and hardly to be measured here.",
    gain["select"][0] - gain["select"][1] > 0.1 and sum(map(abs, gain["scale"])) < 0.01,
    n=len(SEEDS), sa=spread(leak["select", "all"]), st=spread(leak["select", "train"]),
    ca=spread(leak["scale", "all"]), ct=spread(leak["scale", "train"]),
    g=gain["select"][0], h=gain["select"][1], k=gain["scale"][0], m=gain["scale"][1],
)  # fmt: skip

# %% [markdown] tags=["skip"]
# A pipeline inside the cross-validation costs one line and is right in both cases, so one need not
# guess which leak is harmless.

# %% [markdown] tags=["slide"]
# ## What was known then
#
# An event at time $t$ may see the newest value that was *available*: of the feature times $s$ with
# $s + \text{delay} \le t$, the largest. A join on the entity alone takes what stands in the table
# today.

# %%
events = pd.DataFrame({"customer": [7, 7], "day": [10, 20]})
values = pd.DataFrame({"customer": [7, 7, 7], "day": [2, 9, 25], "calls": [0, 1, 8]})
point_in_time_join(events, values, on="day", by="customer", delay=2)

# %% [markdown] tags=["skip"]
# The value of day 9 was available on day 11: too late for the first event. Lags have a simpler rule:
# a row sees its entity's earlier rows only, and takes a value as known as soon as its row is. For
# what comes late, a label for instance, join point in time with its delay.

# %%
lag_features(values, "customer", "day", ["calls"], lags=[1], windows=[2])

# %% [markdown] tags=["skip"]
# {{exercise 123.1.newest-known}}

# %% [markdown] tags=["slide"]
# ### A leak through time
#
# A simulator of loans. `balance` tells a customer's risk, with noise. `calls` is noise until the
# loan; in the weeks after, collectors call those who default. One model is trained on the newest
# values of all, the other on those that were known when the loan was asked for (two days' delay).

# %% tags=["hide-input", "check"]
COLUMNS, half_of = ["balance", "calls"], slice(0, 1000)
study = {"leaky, in validation": [], "leaky, in service": [], "point in time, in service": []}
for seed in SEEDS:
    loans, weekly, y = defaults(np.random.default_rng([1233, seed]))
    known = point_in_time_join(loans, weekly, on="day", by="customer", delay=2)[COLUMNS]
    last = weekly.sort_values("day").drop_duplicates("customer", keep="last").drop(columns="day")
    newest = loans.merge(last, on="customer", how="left")[COLUMNS]
    leaky = LogisticRegression().fit(newest[half_of], y[half_of])
    honest = LogisticRegression().fit(known[half_of], y[half_of])
    for name, model, x in (
        ("leaky, in validation", leaky, newest),
        ("leaky, in service", leaky, known),
        ("point in time, in service", honest, known),
    ):
        p = model.decision_function(x[1000:])
        study[name].append(roc_auc_score(y[1000:], p))
lost = paired(study["point in time, in service"], study["leaky, in service"])
claim(
    "AUC over {n} worlds, mean and range: {rows}. Validation looks best for the leaky model, since "
    "its rows are joined in the same wrong way; in service it is {a:.3f} ± {b:.3f} below the "
    "other.",
    min(study["leaky, in validation"]) > max(study["point in time, in service"])
    and lost[0] > lost[1],
    n=len(SEEDS), rows="; ".join(f"{k} {spread(v)}" for k, v in study.items()),
    a=lost[0], b=lost[1],
)  # fmt: skip

# %% [markdown] tags=["slide"]
# ## Skew is found by running both paths
#
# Two implementations of a feature, one for batches and one for requests, drift apart. Log what
# serving computed, compute the same rows in batch, and compare cell by cell
# {cite:p}`breck2017mltest`. Equal distributions would not show that two rows are swapped.

# %%
names = ours.get_feature_names_out()
offline = pd.DataFrame(ours.transform(numbers[:60]), columns=names)
batches = [numbers[i : i + 20] for i in range(0, 60, 20)]
refit = np.vstack([Standardizer().fit(b).transform(b) for b in batches])
same = np.vstack([ours.transform(b) for b in batches])
skewed = train_serve_skew(offline, pd.DataFrame(refit, columns=names))
fine = train_serve_skew(offline, pd.DataFrame(same, columns=names))
print(skewed)
print(fine)

# %% tags=["hide-input", "check"]
seconds = {1: [], 500: []}
for _ in range(9):
    for rows in seconds:
        start = time.perf_counter()
        mixed.transform(table[:rows])
        seconds[rows].append(time.perf_counter() - start)
one, many = (1e3 * float(np.median(seconds[rows])) for rows in seconds)
claim(
    "Serving that refits differs in {k} of {d} columns, serving with the fitted pipeline in none.",
    len(skewed.columns) == 2 and not fine,
    k=len(skewed.columns), d=len(names),
)  # fmt: skip
say(
    "The pipeline of numbers, kind and text took {one:.1f} ms for one row here, and {many:.0f} ms "
    "for 500 rows, {each:.2f} ms a row: each call has a cost of its own, for checks and small "
    "tables.",
    one=one, many=many, each=many / 500,
)  # fmt: skip

# %% [markdown] tags=["slide"]
# ## Slips that still run
#
# The chapter began with a listing whose one method both fits and transforms. The
# {doc}`errata </book/errata>` list its slips, each with a test. Four of them:

# %% tags=["nbval-check-output"]
row = pd.Series([40.0])
print("one row, standardised by itself:", ((row - row.mean()) / row.std()).tolist())
print("columns of ['x', 'y'], then of ['y']:",
      [pd.get_dummies(pd.Series(s)).shape[1] for s in (["x", "y"], ["y"])])  # fmt: skip
print("code of 'y', then refitted:",
      [int(LabelEncoder().fit_transform(s)[-1]) for s in (["x", "y"], ["y"])])  # fmt: skip
print("two columns of three rows, stacked:", np.hstack([np.zeros(3), np.zeros(3)]).shape)
try:
    FeaturePipeline(numerical=["age"]).fit(pd.DataFrame({"age": [30.0, 50.0], "town": ["a", "b"]}))
except ValueError as error:
    print("ours:", error)

# %% [markdown] tags=["slide"]
# ## What experts expect
#
# - **One definition of a feature**, used by both paths. Glue code, and consumers of a model's output
#   that nobody declared, are where systems grow costs that no model metric shows
#   {cite:p}`sculley2015hidden`.
# - **A feature store** (Feast is a free one) keeps values with their times, joins point in time for
#   training, and serves the newest to requests.
# - **Versions.** Store the fitted pipeline with the model, the library versions and an identifier
#   of the data. A pickle runs code when it is read: load your own only.
# - **A schema** that fails loudly: a missing column, a string where a number was, infinity.
# - **Baselines from libraries.** scikit-learn's `ColumnTransformer` and `TargetEncoder` do the work
#   here; skrub's `TableVectorizer` picks encoders by a column's type, in one line.
# - **Fewer features.** Each one must be there, and right, on every day of service.
#
# ## Limits
#
# The docstring task has near copies: many functions of one library share paragraphs, and a random
# split puts some in both parts. So its accuracy says little of a library that is new to it. The
# loans are simulated, with a leak as strong as we chose to make it. Times of one row come from one
# busy machine. Trees need no standardising, and networks can learn embeddings in place of target
# means.

# %% [markdown] tags=["skip"]
# ## Quiz

# %% [markdown] tags=["skip"]
# {{quiz 123.1}}

# %% [markdown] tags=["slide"]
# ## Summary
#
# - `fit` learns from training rows, `transform` looks up: a row alone is what it is among others.
# - Refitting at serving raises no error, and the model reads other features than it learned.
# - A target mean must not hold the row's own target: cross-fit it.
# - What reads the target leaks most. Put every learned step inside the cross-validation.
# - Join the newest value that was known then; validation rows that are joined in the same wrong way
#   can't show this leak.
# - Run both paths over the same rows, and compare cell by cell.
#
# References: each citation above leads to its source; the
# {doc}`bibliography </book/bibliography>` lists them all.
