# %% [markdown]
# (sec-123)=
# # 123 Machine-learning system design
#
# A model that is right on a test set is the smaller part of a system that is right every day
# {cite:p}`sculley2015hidden`. Something must turn a request into the numbers that the model was
# trained on. Something must answer many callers at once, and say no when it can't. And
# something must notice when the answers are no longer right, since a model that is wrong does
# not crash: it goes on answering. This chapter builds these parts, and tests each where the
# right result is known.
#
# | section | the problem | what you build |
# |---|---|---|
# | {doc}`123.1 Feature engineering <1_feature_engineering>` | training and serving must compute the same numbers, from the past alone | a feature pipeline, point-in-time joins, a comparison of two paths |
# | {doc}`123.2a A model service <2a_model_service>` | many callers, one model, a queue that must not grow without end | batching, cache, time limits, a checked model file, queueing by simulation and formula |
# | {doc}`123.2b Ahead-of-time compilation <2b_ahead_of_time>` | the model should be fast from its first request, without Python's compiler at hand | a compiled model file, compared with the model, that is refused where it can't run |
# | {doc}`123.2c Scaling out <2c_scaling_out>` | one server is not enough, or must not be the only one | a balancer, a fleet that follows its load, continuous batching of a language model |
# | {doc}`123.3 Monitoring and alerts <3_monitoring>` | the world changes, labels come late, and nobody looks at a chart all day | drift tests, a prediction log, quantiles in little memory, alerts that do not flutter |
#
# Each is meant to take about an hour, and none needs a GPU. What the document's own listings
# get wrong is told in the {doc}`errata </book/errata>`, each with a test.

# %% [markdown]
# :::{diagram} figures/0_overview.svg
# ---
# name: fig-ml-system
# alt: Three rows. Above, data with labels become features, a model is trained, and a model file is
#   written. In the middle, requests become features by the same numbers, and a service with the
#   model file answers them. Below, the answers go to a log, which labels join late; a monitor reads
#   the log and raises an alert, which leads back to the data, to repair and to train anew.
# ---
# The parts around a model. The dashed arrow is the one that is forgotten: what was learned of the
# training rows (means, categories) goes to the service too.
# :::

# %% [markdown]
# ## What you will be able to do
#
# - Learn features from training rows only, and prove that serving computes the same.
# - Serve a model to many callers, with limits, and say how long they will wait.
# - Tell a change of the inputs from a change of what they mean, and know which needs labels.
# - Raise an alert for what matters, once, and end it when it is over.
#
# ## One problem, from end to end
#
# A shop says with each parcel how probable it is that it will be **late**. It knows the
# distance, the weight, the carrier, and the time of sending. We make the parcels ourselves, so
# the true probability of each is known, and nobody can do better than that. Two things may
# happen to this world: distances grow by a factor $e^{\delta}$ (the shop sells abroad), or the
# carrier "north" gets worse (its log odds of being late rise by $\delta$) and nothing else.

# %% tags=["definitions", "hide-input"]
import asyncio
import functools
import statistics
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression

from dlcourse.ml_system_design import (
    AlertManager, AlertRule, DriftDetector, FeaturePipeline, ModelService, PredictionLog,
    load_model, point_in_time_join, save_model, train_serve_skew,
)  # fmt: skip
from dlcourse.notebook import claim, explore, say

plt.style.use("dlcourse.notebook.course")

CARRIERS = {"north": 0.4, "river": -0.5, "swift": 0.0}  # log odds of being late
SEEDS, TRAINING, WINDOW = range(5), 12_000, 1_000


def parcels(n, seed, distance=0.0, north=0.0):
    """n parcels, whether each was late (n,), and the true probability of it (n,)."""
    rng = np.random.default_rng(seed)
    seconds = rng.integers(0, 28 * 86_400, n)
    frame = pd.DataFrame(
        {
            "distance_km": np.exp(rng.normal(4.5 + distance, 0.8, n)),
            "weight_kg": rng.gamma(2.0, 1.5, n),
            "carrier": rng.choice(list(CARRIERS), n, p=(0.4, 0.35, 0.25)),
            "sent": pd.Timestamp("2026-03-02") + pd.to_timedelta(seconds, unit="s"),
        }
    )
    evening = np.cos(2 * np.pi * (seconds / 3600 - 20) / 24)
    odds = 0.9 * np.log1p(frame["distance_km"]) + 0.25 * frame["weight_kg"] + 0.8 * evening - 5.8
    odds += frame["carrier"].map(CARRIERS) + north * (frame["carrier"] == "north")
    p = (1 / (1 + np.exp(-odds))).to_numpy()
    return frame, (rng.random(n) < p).astype(int), p


def feature_table(pipeline, frame):
    """What the model sees, named: (n, d)."""
    X = pipeline.transform(frame)
    X = X.toarray() if hasattr(X, "toarray") else X
    return pd.DataFrame(X, index=frame.index, columns=pipeline.get_feature_names_out())


def fit(frame, late):
    """The pipeline and the network (one linear layer) learned from training rows."""
    pipeline = FeaturePipeline(
        numerical={"distance_km": "signed_log", "weight_kg": "standardize"},
        categorical=["carrier"],
        temporal={"sent": ["hour"]},
    ).fit(frame)
    X = feature_table(pipeline, frame).to_numpy()
    found = LogisticRegression(max_iter=1000).fit(X, late)
    net = torch.nn.Linear(X.shape[1], 1, dtype=torch.float64).requires_grad_(False)
    net.weight.copy_(torch.from_numpy(found.coef_))
    net.bias.copy_(torch.from_numpy(found.intercept_))
    return pipeline, net


def answer(net, X):
    """Features (n, d) -> probabilities (n,)."""
    return torch.sigmoid(net(torch.from_numpy(np.array(X, dtype=np.float64))))[:, 0].numpy()


def predict(model, frame):
    pipeline, net = model
    return answer(net, feature_table(pipeline, frame))


def brier(late, p):
    """Mean squared error of probabilities: 0 is perfect."""
    return float(np.mean((np.asarray(late) - np.asarray(p)) ** 2))


def spread(values, digits=3):
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


# %% tags=["hide-input", "check"]
training = {seed: parcels(TRAINING, seed) for seed in SEEDS}
models = {seed: fit(frame, late) for seed, (frame, late, _) in training.items()}
fresh = {seed: parcels(TRAINING, 100 + seed) for seed in SEEDS}  # nobody trained on these
ours = [brier(late, predict(models[s], frame)) for s, (frame, late, _) in fresh.items()]
best = [brier(late, p) for _, late, p in fresh.values()]
rate = {s: late.mean() for s, (_, late, _) in training.items()}
constant = [brier(late, rate[s]) for s, (_, late, _) in fresh.items()]
claim(
    "On {n:,} parcels that it never saw the model has a Brier score (mean squared error of the "
    "probability) of {ours}; the true probabilities have {best}, and the share of late parcels, "
    "said of every parcel, {constant} (mean ± standard deviation of {seeds} worlds). In no world "
    "is the model's score more than {most:.4f} above that of the true probabilities.",
    max(a - b for a, b in zip(ours, best, strict=True)) < 0.002
    and max(ours) < min(constant) - 0.02,
    n=TRAINING, ours=spread(ours), best=spread(best), constant=spread(constant), seeds=len(SEEDS),
    most=max(a - b for a, b in zip(ours, best, strict=True)),
)  # fmt: skip

# %% [markdown]
# ### It is served
#
# The weights go to a file that holds numbers and no code, and are read back. Sixty-four
# callers come at once. Each request is one row: its features are computed **alone**, by
# what the pipeline learned, and the service batches them. Then the features that serving
# computed are compared, cell by cell, with those of the same rows computed in one go, as
# training would {cite:p}`breck2017mltest`.

# %%
pipeline, net = models[0]
frame, late, _ = fresh[0]
requests = frame.head(64)
served = torch.nn.Linear(net.in_features, 1, dtype=torch.float64).requires_grad_(False)
with tempfile.TemporaryDirectory() as folder:
    version = save_model(net, Path(folder) / "late.safetensors", {"data": "parcels, seed 0"})
    load_model(served, Path(folder) / "late.safetensors")

online = {}  # request -> features, as the service saw them


async def request(service, row):
    features = feature_table(pipeline, requests.loc[[row]])  # one row alone
    online[row] = features.iloc[0]
    return await service.submit(features.to_numpy()[0])


async with ModelService(lambda X: answer(served, X), max_batch_size=32, version=version) as service:
    answers = await asyncio.gather(*(request(service, row) for row in requests.index))
    stats = service.stats()

# %% tags=["hide-input", "check"]
offline = feature_table(pipeline, requests)
report = train_serve_skew(offline, pd.DataFrame.from_dict(online, orient="index"))
gap = float(np.abs(np.array(answers) - predict(models[0], requests)).max())
claim(
    "All {n} requests were answered, in {batches} batches; the {cells:,} feature values of the two "
    "paths are equal to one part in a million, and no answer is off by more than 10⁻⁹.",
    stats.served == len(requests) and not report and gap < 1e-9,
    n=stats.served, batches=sum(stats.batch_sizes), cells=offline.size, gap=gap,
)  # fmt: skip

# %% [markdown]
# ## The world changes
#
# Each day a thousand parcels are sent, and each answer goes to a log. Whether a parcel was late
# is known **two days after** it was sent. Two instruments read the log. The **drift test** asks
# whether a feature of that day comes from where the training rows came from; it needs no
# labels. The **gap** is the share of parcels that were late less the share that the model said,
#
# $$
# g = \frac{1}{n} \sum_i (y_i - \hat p_i),
# \qquad
# \text{standard error} = \frac{1}{n} \sqrt{\sum_i \hat p_i (1 - \hat p_i)},
# $$ (eq-ml-gap)
#
# if the model is right. Move the size, and change the cause.

# %% tags=["hide-input"]
NAMES = ["distance_km", "weight_kg", "carrier", "hour"]


def what_is_watched(frame):
    return frame[["distance_km", "weight_kg", "carrier"]].assign(
        hour=frame["sent"].dt.hour + frame["sent"].dt.minute / 60
    )


detectors = {s: DriftDetector(what_is_watched(frame)) for s, (frame, _, _) in training.items()}


@functools.cache
def day(seed, number, cause=None, size=0.0, model=None):
    """One day's log: the drift report, the gap g and its standard error."""
    shift = {cause: size} if cause else {}
    frame, late, _ = parcels(WINDOW, (1_000 * (seed + 1) + number), **shift)
    log = PredictionLog(WINDOW, NAMES)
    began = time.perf_counter()
    answers = predict(model or models[seed], frame)
    latency = (time.perf_counter() - began) / len(frame)
    for row, p, known in zip(
        what_is_watched(frame).to_dict("records"), answers.tolist(), frame.index, strict=True
    ):
        log.record(known, row, p, latency)
    for row, y in zip(frame.index, late.tolist(), strict=True):  # two days later
        log.label(row, y)
    said, was = map(np.array, log.labelled())
    error = np.sqrt((said * (1 - said)).sum()) / len(said)
    return detectors[seed].compare(log.columns()), float((was - said).mean()), float(error)


CAUSES = {"distances grow": "distance", "carrier north gets worse": "north"}


def draw_day(cause, size):
    report, gap, error = day(0, 0, CAUSES[cause], size)
    fig, (left, right) = plt.subplots(
        1, 2, figsize=(6.4, 2.6), layout="constrained", width_ratios=(2, 1)
    )
    effects = [max(t.effect for t in report.tests if t.feature == name) for name in NAMES]
    colors = ["tab:red" if name in report.drifted else "0.6" for name in NAMES]
    left.barh([name.replace("_", ", ") for name in NAMES], effects, color=colors)
    left.set(xlabel="difference from training\n(0 none, 1 total)", xlim=(0, 0.6))
    wrong = abs(gap) > 3 * error
    color = "tab:red" if wrong else "0.4"
    right.errorbar([0], [100 * gap], yerr=[300 * error], fmt="o", capsize=5, color=color)
    right.axhline(0, color="0.3", lw=1)
    right.set(ylabel="late, less said\n(of 100 parcels)", ylim=(-12, 22), xlim=(-1, 1), xticks=[])
    return fig


def tell_day(cause, size):
    report, gap, error = day(0, 0, CAUSES[cause], size)
    found = ", ".join(report.drifted) or "none"
    return (
        f"Features that drifted: {found}. Late less said: {100 * gap:.1f} of 100 parcels, "
        f"three standard errors are {300 * error:.1f}."
    )


explore(
    draw_day,
    {"cause": tuple(CAUSES), "size": (0.0, 0.25, 0.5, 0.75, 1.0)},
    initial={"cause": "carrier north gets worse", "size": 1.0},
    name="Which instrument sees it",
    alt=tell_day,
)

# %% [markdown]
# Red marks an alarm: a drift test at 5 % for all features together, a gap beyond three standard
# errors. Over many days:

# %% tags=["hide-input", "check"]
DAYS, SIZE = 8, 1.0
seen = {
    name: [
        [day(seed, 10 + d, cause, SIZE) for d in range(DAYS)]
        for seed in SEEDS
    ]
    for name, cause in {"nothing": None, **CAUSES}.items()
}  # fmt: skip


def share(name, alarm):
    """Of each world's days the share with an alarm."""
    return [statistics.mean(bool(alarm(*d)) for d in days) for days in seen[name]]


by_drift = {name: share(name, lambda report, gap, error: report.drifted) for name in seen}
by_gap = {name: share(name, lambda report, gap, error: abs(gap) > 3 * error) for name in seen}
gaps = {
    name: [100 * statistics.mean(g for _, g, _ in days) for days in worlds]
    for name, worlds in seen.items()
}
rows = "\n".join(
    f"| {name} | {100 * statistics.mean(by_drift[name]):.0f} % | "
    f"{100 * statistics.mean(by_gap[name]):.0f} % | {spread(gaps[name], 1)} |"
    for name in seen
)
say(
    "| what changed (size {size:g}) | days with a drift alarm, without labels | days with a gap, "
    "from labels | late, less said, of 100 |\n|---|---|---|---|\n{rows}\n\n"
    "Of {seeds} worlds with {days} days each; the last column is mean ± standard deviation over "
    "the worlds.",
    size=SIZE, rows=rows, seeds=len(SEEDS), days=DAYS,
)  # fmt: skip
claim(
    "When distances grow, the drift test alarms on every day of every world, and the answers stay "
    "right: the mean gap is at most {quiet:.1f} of 100 parcels in any world. When the carrier "
    "gets worse, the answers are wrong by {wrong:.1f} of 100. The parcels are the same as where "
    "nothing changed (the same draws), so the drift test says the same: {false} alarms on {days} days, where its level of 5 % allows {allowed:.0f}.",
    min(by_drift["distances grow"]) == 1
    and max(map(abs, gaps["distances grow"])) < 2
    and min(gaps["carrier north gets worse"]) > 5
    and by_drift["carrier north gets worse"] == by_drift["nothing"]
    and statistics.mean(by_drift["nothing"]) <= 0.125,  # 5 of 40 days
    quiet=max(map(abs, gaps["distances grow"])),
    wrong=statistics.mean(gaps["carrier north gets worse"]),
    false=round(sum(by_drift["nothing"]) * DAYS),
    days=DAYS * len(SEEDS),
    allowed=0.05 * DAYS * len(SEEDS),
)  # fmt: skip

# %% [markdown]
# The first is a **covariate shift**: other parcels, the same law. The answers stay right here
# because our model has the form of the true law; a model that was right only near its training
# rows would not. The second is **concept drift**: the same parcels, another law. No test of the
# inputs can see it, with any number of rows. So one needs both: a drift alarm comes early and
# may be harmless; labels come late and tell more. Not all: the gap is over all parcels, and a carrier
# that gets worse while the others get better can leave it at 0. Look at it for each carrier, and at
# a score beside what a right model would have, as the score of a right model moves with the inputs.
#
# ### Three weeks of it

# %% tags=["hide-input"]
WAIT = 2  # days until labels come
plan = [(None, 0.0)] * 7 + [("distance", 0.5)] * 7 + [("north", 1.0)] * 7
diary = [day(0, 40 + d, cause, size) for d, (cause, size) in enumerate(plan)]
now, alerts = [0.0], []
manager = AlertManager(
    [
        AlertRule("inputs drifted", "drifted features", raise_at=0.5, for_seconds=1),
        AlertRule("answers wrong", "gap in standard errors", raise_at=3, clear_at=2),
    ],
    [alerts.append],
    clock=lambda: now[0],
)
for today in range(len(plan) + WAIT):  # the clock counts days here
    now[0] = float(today)
    metrics = {}
    if today < len(plan):
        metrics["drifted features"] = len(diary[today][0].drifted)
    if today >= WAIT:
        _, g, error = diary[today - WAIT]
        metrics["gap in standard errors"] = abs(g) / error
    manager.observe(metrics)

# %% card=true mystnb={"figure": {"caption": "Three weeks: nothing changes, then distances grow, then (distances as before) a carrier gets worse. Above: the largest difference of a feature, on the same day. Below: the gap with three standard errors, two days later. Red: an alarm.", "name": "fig-three-weeks"}, "image": {"alt": "Two charts over 23 days. The upper one is near zero but for the second week, where it is high and red. The lower one is near zero until the third week's labels arrive, and then stays red well above zero."}} tags=["hide-input", "plot"]
fig, (upper, lower) = plt.subplots(2, 1, figsize=(6, 3.6), sharex=True, layout="constrained")
for d, (report, g, error) in enumerate(diary):
    effect = max(t.effect for t in report.tests)
    upper.bar(d, effect, color="tab:red" if report.drifted else "0.6")
    wrong = abs(g) > 3 * error
    lower.errorbar(
        d + WAIT, 100 * g, yerr=300 * error, fmt="o", ms=4, color="tab:red" if wrong else "0.4"
    )
lower.axhline(0, color="0.3", lw=1)
for ax in (upper, lower):
    for edge in (6.5, 13.5):
        ax.axvline(edge, color="0.6", ls=":")
upper.set(ylabel="largest difference\nof a feature")
lower.set(ylabel="late, less said\n(of 100 parcels)", xlabel="day")
plt.show()

# %% tags=["hide-input", "check"]
told = {(a.rule, a.state): a.time for a in alerts}
listed = "; ".join(f"day {a.time:.0f}: {a.rule}, {a.state}" for a in alerts)
claim(
    "Of {n} observations the alert manager makes {k} messages ({listed}). The second change began "
    "on day 14, and its message had to wait for the labels.",
    len(alerts) == 3
    and 7 <= told["inputs drifted", "raised"] <= 9
    and told["answers wrong", "raised"] == 14 + WAIT,
    n=len(plan) + WAIT, k=len(alerts), listed=listed,
)  # fmt: skip

# %% [markdown]
# ### And back
#
# The arrow from the alert to the data: train anew, on labelled parcels of the new law.

# %% tags=["hide-input", "check"]
renewed = {s: fit(*parcels(TRAINING, 200 + s, north=SIZE)[:2]) for s in SEEDS}
after = [
    100 * statistics.mean(day(s, 10 + d, "north", SIZE, renewed[s])[1] for d in range(DAYS))
    for s in SEEDS
]
claim(
    "Trained anew on {n:,} parcels of the new law, the model is off by {after} of 100 parcels on "
    "the days on which the old one was off by {before}.",
    max(map(abs, after)) < 2,
    n=TRAINING, after=spread(after, 1), before=spread(gaps["carrier north gets worse"], 1),
)  # fmt: skip

# %% [markdown]
# So many parcels are twelve days of labels. With fewer, the new model is noisier, and whether to
# train at all, on which days, and how to go back if it was a mistake, are decisions of people.
#
# ## Three ways in which nothing crashes and the answers are wrong
#
# **What was learned is learned again at serving.** The document's listing standardises whatever
# rows it is given. Here the pipeline is fitted anew on each batch of 32 requests, and the model
# gets columns of the right names and the wrong meaning.

# %% tags=["hide-input", "check"]
def refitted(seed, frame, size=32):
    """Features of batches, each by a pipeline that was fitted on that batch alone."""
    settings = models[seed][0].get_params()
    batches = [frame.iloc[i : i + size] for i in range(0, len(frame), size)]
    return pd.concat([feature_table(FeaturePipeline(**settings).fit(b), b) for b in batches])


abroad, good, bad, skews = {}, [], [], []
for s in SEEDS:
    frame, late, _ = abroad[s] = parcels(WINDOW, 500 + s, distance=SIZE)
    wrong = refitted(s, frame.head(512))  # 16 batches
    late = late[:512]
    good.append(100 * float((late - predict(models[s], frame.head(512))).mean()))
    bad.append(100 * float((late - answer(models[s][1], wrong)).mean()))
    skews.append(train_serve_skew(feature_table(models[s][0], frame.head(512)), wrong))

ordinary = fresh[0][0]
company = [[0, *range(31 * k + 1, 31 * k + 32)] for k in range(8)]  # parcel 0 among 31 others
same = [refitted(0, ordinary.iloc[rows]).iloc[[0]].to_numpy() for rows in company]
said = [float(answer(models[0][1], x)[0]) for x in same]
differing = [
    [c.different for c in report.columns if "_km" in c.column or "_kg" in c.column]
    for report in skews
]
equal = sum(512 - min(rows) for rows in differing)
claim(
    "One and the same parcel gets probabilities from {low:.2f} to {high:.2f}, depending on the "
    "other parcels of its batch; the right one is {right:.2f}. And when distances grow, the model "
    "does not learn of it, since each batch is standardised by its own mean: late less said is "
    "{bad} of 100 parcels, where the pipeline that was fitted once has {good} (each world one day "
    "of {rows} parcels). The comparison of the two paths finds it at once: distance and weight "
    "differ in every row of all {n} worlds.",
    max(said) > 1.5 * min(said)
    and min(bad) > 5
    and max(map(abs, good)) < 5
    and all(len(shares) == 2 for shares in differing)
    and equal == 0,
    low=min(said), high=max(said), right=float(predict(models[0], ordinary.iloc[:1])[0]),
    bad=spread(bad, 1), good=spread(good, 1), n=len(SEEDS), rows=512, equal=equal,
)  # fmt: skip

# %% [markdown]
# **A value from the future.** The history holds the number of times that each parcel was
# scanned: one row when it is sent, another when all is over. Late parcels are scanned more. Who
# joins the newest row trains on the end of the story; at the time of the request there has been
# one scan.

# %% tags=["hide-input", "check"]
def with_scans(seed, n=4_000):
    """Parcels with the newest scans in the table, with those known at sending, and the labels."""
    frame, late, _ = parcels(n, seed)
    rng = np.random.default_rng([seed, 1])
    events = frame.assign(parcel=np.arange(n), time=frame["sent"])
    start = pd.DataFrame({"parcel": events["parcel"], "time": frame["sent"], "scans": 1})
    end = start.assign(
        time=frame["sent"] + pd.Timedelta(days=2), scans=1 + rng.poisson(2 + 2 * late)
    )
    history = pd.concat([start, end])
    newest = events.merge(history.groupby("parcel", as_index=False).last()[["parcel", "scans"]])
    known = point_in_time_join(events, history, on="time", by="parcel")
    return newest, known, late


def two_scores(seed):
    newest, _, late = with_scans(300 + seed)
    test_newest, test_known, test_late = with_scans(400 + seed)
    columns = {"numerical": ["distance_km", "weight_kg", "scans"], "categorical": ["carrier"]}
    pipeline = FeaturePipeline(**columns, temporal={"sent": ["hour"]}, extra="ignore").fit(newest)
    model = LogisticRegression(max_iter=1000).fit(pipeline.transform(newest), late)
    return [
        brier(test_late, model.predict_proba(pipeline.transform(x))[:, 1])
        for x in (test_newest, test_known)
    ]


leaks = [two_scores(s) for s in SEEDS]
claim(
    "With the newest scans a held-out test says {test}, better than the true probabilities of "
    "sending allow ({best}). In service, where one scan is known, the same model has {service}, "
    "and the constant answer {constant}. A point-in-time join gives training what serving will "
    "have.",
    max(a for a, _ in leaks) < min(best) and min(b for _, b in leaks) > max(constant),
    test=spread([a for a, _ in leaks]), service=spread([b for _, b in leaks]),
    best=spread(best), constant=spread(constant),
)  # fmt: skip

# %% [markdown]
# **A silent change of units.** A supplier's new scale sends pounds where it sent kilograms. A
# number is a number: no type is wrong, and nothing is missing.

# %% tags=["hide-input", "check"]
shifts, alarms = [], []
for s in SEEDS:
    frame = fresh[s][0].head(WINDOW)
    pounds = frame.assign(weight_kg=frame["weight_kg"] * 2.2046)
    shifts.append(100 * float((predict(models[s], pounds) - predict(models[s], frame)).mean()))
    alarms.append(detectors[s].compare(what_is_watched(pounds)))
claim(
    "The service answers every request, and says on average {more} more late parcels of 100 than "
    "it should. The drift test on the day itself names the weight in each of {n} worlds, by a "
    "difference of at least {effect:.2f}.",
    min(shifts) > 3
    and all("weight_kg" in report.drifted for report in alarms),
    more=spread(shifts, 1), n=len(SEEDS),
    effect=min(t.effect for report in alarms for t in report.tests if t.feature == "weight_kg"),
)  # fmt: skip

# %% [markdown]
# ## Which tool for which problem
#
# | what can go wrong | what shows it, or prevents it | needs labels | section |
# |---|---|---|---|
# | serving computes other features than training | one fitted pipeline; a comparison cell by cell | no | 123.1 |
# | a feature knows the future | point-in-time joins; lags that leave the row itself out | no | 123.1 |
# | more requests than the model can answer | a bounded queue that refuses, time limits, batching | no | 123.2a |
# | a damaged or wrong model file | names, shapes and a digest, checked before the first answer | no | 123.2a |
# | a slow first request | compile ahead of time | no | 123.2b |
# | a load that grows faster than servers start | room for what may come within a start-up | no | 123.2c |
# | other inputs than in training | tests of each feature, corrected together, with the size of the effect | no | 123.3 |
# | the same inputs, another law | the gap, overall and by segment, on labels that come late | yes | 123.3 |
# | an alarm an hour that nobody reads | durations, two thresholds, one message a change | no | 123.3 |
#
# The ML test score is a rubric of 28 such tests {cite:p}`breck2017mltest`.
#
# ## Limits
#
# Parcels here are independent of each other; days of real traffic are not, and tests that
# believe it alarm too often (123.3). The file here holds the network alone, and the pipeline
# stays in memory: at work both are saved under one version. Labels come for all parcels; where
# an answer decides whether there is a label at all (a loan refused), the gap speaks of those
# accepted only. And five worlds of our own making show mechanisms: they say nothing of how
# often each fault occurs.
#
# ## Notation
#
# $x$ features, $y$ label, $\hat p$ the probability that the model says, $n$ rows of a window,
# $g$ the gap of {eq}`eq-ml-gap`, $\delta$ the size of a change. Covariate shift changes $p(x)$
# and keeps $p(y \mid x)$; concept drift changes $p(y \mid x)$. {doc}`Notation </book/notation>`
# lists all symbols.
#
# ## Summary
#
# - What is learned is learned once, from training rows, and goes to the service with the model.
# - Compare the features of both paths cell by cell: equal distributions prove little.
# - Drift tests see other inputs at once; only labels see another law.
# - Nothing crashes when a model is wrong: what should be noticed must be measured.
#
# References: each citation above leads to its source; the
# {doc}`bibliography </book/bibliography>` lists them all.
