# %% [markdown] tags=["slide"]
# (sec-123-2a)=
# # 123.2a A model service
#
# A trained model answers nobody until something takes requests, runs the model and gives each
# caller the right answer. At the end of this section you can put a model behind a queue that
# batches, say from three numbers how long callers will wait, and keep the service honest when it is
# overloaded.
#
# You need: a little probability, Python's `async` and `await`, and no GPU.

# %% tags=["definitions", "hide-input", "skip"]
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.special import stdtrit

from dlcourse.ml_system_design import (
    ModelError,
    ModelFileError,
    ModelProcess,
    ModelService,
    ServiceFull,
    content_key,
    create_app,
    load_model,
    poisson_arrivals,
    pollaczek_khinchine_wait,
    save_model,
    simulate_queue,
)
from dlcourse.ml_system_design.model_service.app import unless_the_client_leaves
from dlcourse.ml_system_design.model_service.http_input import json_array, read_body
from dlcourse.notebook import claim, explore, keep, say, show_source, values_of

plt.style.use("dlcourse.notebook.course")
torch.set_num_threads(1)
NOT_YET = "This cell is not recorded yet."
POLICIES = {  # name: (largest batch, delay in s)
    "batch 1": (1, 0.0),
    "greedy ≤ 32": (32, 0.0),
    "timer 5 ms": (32, 0.005),
}
COLOR = {"batch 1": "tab:gray", "greedy ≤ 32": "tab:blue", "timer 5 ms": "tab:orange"}
SEEDS = range(5)


def network(seed=0):
    """A small network: 64 numbers in, 10 out, 4.4 million weights."""
    torch.manual_seed(seed)
    layers = [torch.nn.Linear(64, 2048), torch.nn.ReLU(), torch.nn.Linear(2048, 2048)]
    return torch.nn.Sequential(*layers, torch.nn.ReLU(), torch.nn.Linear(2048, 10)).eval()


def predictor(net):
    """The function that a service calls: (n, 64) -> (n, 10), NumPy in and out."""

    @torch.inference_mode()
    def predict(x):
        return net(torch.tensor(x)).numpy()

    return predict


def batch_costs(predict, sizes=(1, 2, 4, 8, 16, 32), rounds=15):
    """Median seconds of a call by batch size; the sizes take turns, so a busy machine hits all."""
    x = np.random.default_rng(0).standard_normal((max(sizes), 64), dtype=np.float32)
    times = {n: [] for n in sizes}
    for _ in range(rounds):
        for n in sizes:
            start = time.perf_counter()
            predict(x[:n])
            times[n].append(time.perf_counter() - start)
    return {n: statistics.median(t) for n, t in times.items()}


def fit_line(costs):
    """a and b of a + b·n by least squares of relative errors, in s."""
    n, t = np.array([*costs]), np.array([*costs.values()])
    a, b = np.linalg.lstsq(np.stack([1 / t, n / t], 1), np.ones(len(t)), rcond=None)[0]
    return float(a), float(b)


async def send(service, arrivals, requests):
    """Open load: each request goes out at its time, whether or not the last one came back.

    Returns seconds from the due time to the answer, NaN where it was refused.
    """
    took = np.full(len(arrivals), np.nan)
    begin = time.perf_counter()

    async def one(i):
        try:
            await service.submit(requests[i])
            took[i] = time.perf_counter() - begin - arrivals[i]
        except ServiceFull:
            pass

    tasks = []
    for i, due in enumerate(arrivals):
        await asyncio.sleep(max(0.0, due - (time.perf_counter() - begin)))
        tasks.append(asyncio.create_task(one(i)))
    await asyncio.gather(*tasks)
    return took


def percentiles(seconds):
    """p50, p95, p99 in ms."""
    return 1e3 * np.nanpercentile(seconds, (50, 95, 99))


def ratios(values, others):
    """Paired ratios over repetitions, their 95 % interval, and which of three outcomes it is.

    The interval is Student's of the logarithms; it decides, whichever way the numbers fall.
    """
    r = np.log(np.asarray(values) / np.asarray(others))
    half = stdtrit(len(r) - 1, 0.975) * r.std(ddof=1) / len(r) ** 0.5
    low, high = np.exp(r.mean() - half), np.exp(r.mean() + half)
    told = "higher" if low > 1 else "lower" if high < 1 else "not told apart"
    return f"{np.exp(r.mean()):.2f} times ({low:.2f}–{high:.2f}): {told}"


def mean_and_range(values, form=".1f"):
    """Mean over the seeds, and from least to largest, as text."""
    values = [float(v) for v in values]
    return f"{statistics.fmean(values):{form}} ({min(values):{form}}–{max(values):{form}})"


# %% [markdown] tags=["slide"]
# ## A question
#
# One call of a model takes 1 ms, and 0.2 ms more for each request in it. Requests come at random,
# at a load that you choose: 1 is what the model can serve one by one. **How long do callers wait?**
# Move the load, the largest batch, and how long the oldest request waits for company. Each picture
# is of 4,000 requests. Where more is offered than can be served, the queue grows as long as they
# come: such a picture, which says so in its title, tells how long we looked, and nothing lasting.

# %% tags=["hide-input"]
A, B = 1e-3, 0.2e-3  # s


def simulated(load, batch, delay, count=4000, seed=0, a=A, b=B):
    """Seconds from arrival to answer, without the first tenth, in which the queue fills."""
    arrivals = poisson_arrivals(load / (a + b), count, seed)
    return simulate_queue(arrivals, lambda n: a + b * n, batch, delay).sojourn[count // 10 :]


def too_much(load, batch):
    """Whether more is offered than batches of this size can serve."""
    return load / (A + B) >= batch / (A + B * batch)


def draw_queue(load, batch, delay):
    took = 1e3 * simulated(load, batch, delay / 1e3)
    fig, ax = plt.subplots(figsize=(6.2, 2.8), constrained_layout=True)
    ax.hist(np.minimum(took, 60), np.linspace(0, 60, 61), color="tab:blue")
    p99 = np.percentile(took, 99)
    ax.axvline(min(p99, 60), color="tab:red", label=f"p99: {p99:,.1f} ms")
    ax.set(xlabel="time to the answer (ms; the last bar: 60 or more)", ylabel="requests")
    if too_much(load, batch):
        ax.set_title("more than can be served: the longer it lasts, the longer the wait", size=9)
    ax.set_yscale("log")
    ax.legend()
    return fig


def told_queue(load, batch, delay):
    p50, _, p99 = percentiles(simulated(load, batch, delay / 1e3))
    drawn = (
        f"Histogram of times to an answer at load {load}, batches of at most {batch}, a delay of "
        f"{delay} ms: half within {p50:.1f} ms, 99 % within {p99:.1f} ms."
    )
    if too_much(load, batch):
        drawn += " More is offered than can be served: with more requests, all would be longer."
    return drawn


explore(
    draw_queue,
    {"load": [0.3, 0.6, 0.9, 1.5, 3.0], "batch": [1, 4, 32], "delay": [0, 5]},
    initial={"load": 0.9, "batch": 1, "delay": 0},
    name="Times to an answer",
    alt=told_queue,
)

# %% [markdown] tags=["slide"]
# ## The idea
#
# A call costs something whatever its size: weights are read, kernels started, Python run. So $n$
# requests in one call take about $a + b\,n$, and together they cost less than alone. One server
# with batches of at most $m$ can serve
#
# $$
# \mu_m = \frac{m}{a + b\,m} ,
# $$ (eq-service-capacity)
#
# which grows from $1/(a+b)$ towards $1/b$. Requests come at rate $\lambda$. The **utilisation**
# without batches is $\rho = \lambda\,(a + b)$, the share of time in which the model is busy. At
# $\rho \ge 1$ the queue grows without end. Below it, callers wait since arrivals are random. For
# Poisson arrivals and a service time $S$, the mean wait is that of Pollaczek and Khinchine
# {cite:p}`kleinrock1975queueing`:
#
# $$
# W = \frac{\lambda\, \mathbb E[S^2]}{2\,(1 - \rho)} .
# $$ (eq-service-wait)
#
# The last factor is the hockey stick: from $\rho = 0.5$ to $0.9$ the wait grows ninefold, and to
# $0.99$ 99-fold. **Little's law** {cite:p}`little1961proof` holds for any queue that
# is stable, whatever its order and its randomness: the mean number inside is the rate times the
# mean time inside,
#
# $$
# L = \lambda\, T .
# $$ (eq-service-little)
#
# **Greedy batching** takes what waits as soon as the model is free. Under a light load a request
# goes alone and at once; under a heavy load more wait at the end of a batch, so the next one is
# larger. The batch size follows the load with nothing to tune. A **timer** waits for company even
# while the model is idle: it saves calls and costs time. Clipper knows both, and
# adapts the largest batch to the time that is allowed
# {cite:p}`crankshaw2017clipper`.

# %% [markdown] tags=["skip"]
# :::{diagram} figures/2a_model_service.svg
# ---
# name: fig-service-path
# alt: A request gets a key from its content. If the cache has the key, its answer goes back. If an
#   equal request is in flight, it joins that one. Otherwise it enters a bounded queue, or is
#   refused. The model, in a thread or a process, takes a batch of one kind when it is free; each caller gets
#   its row, and the cache keeps it.
# ---
# The way of a request. All but the model runs in one event loop, so that nothing needs a lock. The
# model runs in one thread, or in a process of its own.
# :::

# %% [markdown] tags=["skip"]
# {{exercise 123.2a.predict-wait}}

# %% [markdown] tags=["slide"]
# ## Piece by piece
#
# ### A name for a request
#
# Cache and joining need a key that is equal for equal requests, and for no others: bytes alone do
# not tell four float32 zeros from two float64 zeros.

# %%
show_source(content_key)

# %% [markdown] tags=["skip"]
# {{exercise 123.2a.content-key}}

# %% [markdown] tags=["slide"]
# ### When may a batch start?
#
# When it is full, or its oldest request has waited `max_delay`. With a delay of 0 that is at once.

# %%
show_source(ModelService._ready_at)

# %% [markdown] tags=["slide"]
# ### Which batch?
#
# Only arrays of one dtype and shape can be stacked, so there is a queue for each kind. The queue
# that could have started first goes first, so that a rare kind does not starve.

# %%
show_source(ModelService._next_batch)

# %%
show_source(ModelService._take)

# %% [markdown] tags=["skip"]
# {{exercise 123.2a.take-batch}}

# %% [markdown] tags=["slide"]
# ### One bad request fails alone
#
# If the model raises, nobody knows whose fault it was. Each request of the batch is tried once more
# by itself.

# %%
show_source(ModelService._answer)

# %% [markdown] tags=["slide"]
# ## A live service
#
# A notebook runs in an event loop, so that you can `await` here. A hundred callers come at
# once:

# %%
predict = predictor(network())
rows = np.random.default_rng(1).standard_normal((100, 64), dtype=np.float32)
async with ModelService(predict, max_batch_size=32, max_delay=0.0) as service:
    answers = await asyncio.gather(*(service.submit(x) for x in rows))
    stats = service.stats()
print("batches:", {n: k for n, k in enumerate(stats.batch_sizes) if k})

# %% tags=["hide-input", "check"]
apart = float(np.abs(np.stack(answers) - predict(rows)).max())
claim(
    "All {n} callers got their own answers, up to {apart:.0e}: batches of other sizes may round "
    "otherwise.",
    stats.served == len(rows) and apart < 1e-4,
    n=len(rows),
    apart=apart,
)

# %% [markdown] tags=["slide"]
# **One bad request, equal requests, and a full queue.** This model refuses NaN:

# %% tags=["nbval-check-output"]
calls = []


def doubles(x):
    calls.append(len(x))
    if np.isnan(x).any():
        raise ValueError("NaN")
    return 2 * x


async def outcome(coroutine):
    try:
        return float(await coroutine)
    except (ModelError, ServiceFull) as error:
        return f"{type(error).__name__}: {error}"


async with ModelService(doubles, max_delay=0.0) as service:
    print(await asyncio.gather(*(outcome(service.submit(x)) for x in (1.0, np.nan, 3.0))))
    print("calls of sizes", calls)
    calls.clear()
    await asyncio.gather(*(service.submit(7.0) for _ in range(50)))
    await service.submit(7.0)
    print("calls for 51 equal requests:", len(calls))
    print("joined:", service.stats().joined, " from the cache:", service.stats().cache_hits)

async with ModelService(doubles, max_queue=2, max_delay=0.0) as service:
    print(await asyncio.gather(*(outcome(service.submit(float(i))) for i in range(4))))

# %% [markdown] tags=["skip"]
# {{exercise 123.2a.little}}

# %% [markdown] tags=["slide"]
# ## What a batch costs
#
# The network has two hidden layers of 2,048 and runs on one thread. Time of a call, on the machine
# that made this page:

# %% tags=["hide-input", "plot"]
live = batch_costs(predict)
a_live, b_live = fit_line(live)
fig, ax = plt.subplots(figsize=(5.2, 2.6))
ax.plot(live.keys(), 1e3 * np.array([*live.values()]), "o", label="measured, median of 15")
ax.plot([1, 32], [1e3 * (a_live + b_live * n) for n in (1, 32)], "k:", label="a + b·n")
ax.set(xlabel="requests in a batch", ylabel="time of a call (ms)")
ax.legend()
plt.show()

# %% tags=["hide-input", "check"]
saved = live[32] / (32 * live[1])
claim(
    "Here a is {a:.2f} ms and b {b:.2f} ms. A batch of 32 takes {saved:.0%} of the time of 32 "
    "calls.",
    saved < 0.7,
    a=1e3 * a_live,
    b=1e3 * b_live,
    saved=saved,
)

# %% [markdown] tags=["slide"]
# ## The formula and the simulation
#
# Before the simulation is believed, it must give the formula's wait where there is one: batches of
# 1, fixed service time.

# %% tags=["hide-input", "check"]
RHO = (0.5, 0.8, 0.9)
waits = {
    rho: [
        simulate_queue(poisson_arrivals(rho, 20_000, seed), lambda n: 1.0, 1).waiting.mean()
        for seed in range(12)
    ]
    for rho in RHO
}
exact = {rho: pollaczek_khinchine_wait(rho, 1.0) for rho in RHO}
error = {rho: statistics.stdev(w) / len(w) ** 0.5 for rho, w in waits.items()}
say(
    "| load ρ | simulated mean wait, in service times | Pollaczek–Khinchine |\n|---|---|---|\n"
    + "\n".join(f"| {r:g} | {mean_and_range(waits[r], '.2f')} | {exact[r]:.2f} |" for r in RHO)
    + "\n\nMean and range over 12 seeds, 20,000 requests each."
)
claim(
    "The simulated means lie within {worst:.1f} standard errors of the formula.",
    max(abs(statistics.fmean(waits[r]) - exact[r]) / error[r] for r in RHO) < 4,
    worst=max(abs(statistics.fmean(waits[r]) - exact[r]) / error[r] for r in RHO),
)

# %% [markdown] tags=["slide"]
# ## Latency against load
#
# The simulation, with the *a* and *b* that were measured in the recorded cell below (or, before it
# is recorded, those of the question). Means are comfortable and hide the trouble: one call in a
# hundred slower than p99 is many, where a page needs a hundred calls {cite:p}`dean2013tail`.

# %% tags=["hide-input"]
LOAD = values_of("123.2a.load", "a", "b", "count", "runs")
a, b = (LOAD["a"], LOAD["b"]) if LOAD else (A, B)
LOADS = (0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1.2, 1.6, 2.0, 2.5)
curves = {
    name: {
        load: np.array(
            [percentiles(simulated(load, m, d, 4000, seed, a, b)) for seed in SEEDS]
        )  # (seeds, 3)
        for load in LOADS
        if m > 1 or load < 1
    }
    for name, (m, d) in POLICIES.items()
}

# %% mystnb={"figure": {"caption": "Simulated time to an answer against the load, mean of five seeds with their range: p50 left, p99 right. Dotted: all that batch 1 can serve.", "name": "fig-service-curves"}, "image": {"alt": "Two panels, time to an answer on a logarithmic axis over the load. Without batches the curve turns up steeply before load 1 and ends there. Greedy batching goes on to load 2.5. The timer's curve starts higher. The table below has the numbers."}} tags=["hide-input", "plot"]
fig, axes = plt.subplots(1, 2, figsize=(7, 3), sharey=True, constrained_layout=True)
for ax, column, title in zip(axes, (0, 2), ("p50", "p99"), strict=True):
    for name, rows_of in curves.items():
        found = np.array([r[:, column] for r in rows_of.values()])  # (loads, seeds)
        ax.plot(rows_of.keys(), found.mean(1), "o-", ms=3, color=COLOR[name], label=name)
        ax.fill_between(rows_of.keys(), found.min(1), found.max(1), color=COLOR[name], alpha=0.2)
    ax.axvline(1, color="k", ls=":", lw=1)
    ax.set(xlabel="load (1: all that batch 1 can serve)", yscale="log", title=title)
axes[0].set_ylabel("time to the answer (ms)")
axes[0].legend(fontsize=8)
plt.show()

# %% tags=["hide-input", "check"]
shown = (0.2, 0.6, 0.95, 2.0)
lines = ["| load | " + " | ".join(POLICIES) + " |", "|---" * 4 + "|"]
for load in shown:
    cells = [
        " / ".join(f"{v:.1f}" for v in c[load].mean(0)[[0, 2]]) if load in c else "no end"
        for c in curves.values()
    ]
    lines.append(f"| {load:g} | " + " | ".join(cells) + " |")
say("\n".join(lines) + "\n\np50 / p99 in ms, mean of five seeds.")
greedy, timer, single = (curves[k] for k in ("greedy ≤ 32", "timer 5 ms", "batch 1"))
claim(
    "With a = {a:.2f} ms and b = {b:.2f} ms: at each load below 1 greedy batching has a lower p50 "
    "than the timer, for each of the five seeds. From load {least:g} on its p99 is below that of "
    "batch 1, for each seed too.",
    all((greedy[load][:, 0] < timer[load][:, 0]).all() for load in LOADS if load < 1)
    and all((greedy[load][:, 2] < single[load][:, 2]).all() for load in single if load >= 0.8),
    a=1e3 * a,
    b=1e3 * b,
    least=0.8,
)

# %% [markdown] tags=["slide"]
# ## A real run
#
# Now the service itself, in one process, at half of what the model alone could serve one by one, at
# 1.5 and at 3 times as much. The load is **open**: a request goes out at its time, whether or not
# earlier ones have come back. A client that waits for each answer before it asks again would slow
# down with the server, and hide the queue. Time counts from when the request was due.
#
# Two simulations stand beside it, with the same arrivals: one with the *a* and *b* of the model
# alone, measured before; one with the times that the calls took in the run itself. The first is
# what you can know beforehand. The second says whether the queue is understood, once the calls are
# known. Three seeds, 1,500 requests a run; the loads and the ways to batch take turns.

# %% tags=["long", "hide-input"] name="load"
predict = predictor(network())
batch_costs(predict)  # warm up
a, b = fit_line(batch_costs(predict, rounds=40))
print(f"a {1e3 * a:.2f} ms, b {1e3 * b:.3f} ms")


class Timed:
    """The model, and how long its calls took by batch size."""

    def __init__(self, seed):
        self.times, self.rng = {}, np.random.default_rng(seed)

    def __call__(self, x):
        start = time.perf_counter()
        answers = predict(x)
        self.times.setdefault(len(x), []).append(time.perf_counter() - start)
        return answers

    def draw(self, n):
        """The time of one of those calls, of the nearest size."""
        return float(self.rng.choice(self.times[min(self.times, key=lambda size: abs(size - n))]))


count, runs = 1500, []
for seed in range(3):
    for load in (0.5, 1.5, 2.5):
        arrivals = poisson_arrivals(load / (a + b), count, seed)
        requests = np.random.default_rng(seed).standard_normal((count, 64), dtype=np.float32)
        for name, (m, d) in POLICIES.items():
            timed = Timed(seed)
            async with ModelService(timed, m, d, max_queue=count, cache_size=0) as service:
                start = time.perf_counter()
                took = await send(service, arrivals, requests)
                wall = time.perf_counter() - start
            calls = [t for times in timed.times.values() for t in times]
            bare = simulate_queue(arrivals, lambda n: a + b * n, m, d)
            full = simulate_queue(arrivals, timed.draw, m, d)
            row = {
                "load": load, "policy": name, "seed": seed,
                "rate": count / wall, "ms": percentiles(took), "batch": count / len(calls),
                "slower": sum(calls) / (a * len(calls) + b * count),
                "bare": percentiles(bare.sojourn), "full": percentiles(full.sojourn),
                "full_rate": count / full.finish[-1],
            }  # fmt: skip
            print(load, name, seed, f"{row['rate']:.0f}/s {wall:.1f} s", row["ms"].round(1),
                  row["full"].round(1))  # fmt: skip
            runs.append(row)
keep(a=a, b=b, count=count, runs=runs)

# %% mystnb={"figure": {"caption": "p50 (left) and p99 (right) in the process: dots measured, one a seed; lines simulated, mean of the seeds, with the run's own times of calls (solid) and with those of the model alone (dotted).", "name": "fig-service-load"}, "image": {"alt": "Two panels with the time to an answer on a logarithmic axis over three loads. Dots measured, lines simulated, for three ways to batch. Batch 1 rises to hundreds of milliseconds above load 1, the others stay low. The table below has the numbers."}} tags=["hide-input", "plot"]
def of(load, name, key, column=None):
    """A value of the three runs of a load and a policy."""
    found = [r[key] for r in LOAD["runs"] if (r["load"], r["policy"]) == (load, name)]
    return np.array(found if column is None else [v[column] for v in found])


if LOAD:
    loads = sorted({r["load"] for r in LOAD["runs"]})
    fig, axes = plt.subplots(1, 2, figsize=(7, 3), sharey=True, constrained_layout=True)
    for ax, column, title in zip(axes, (0, 2), ("p50", "p99"), strict=True):
        for name in POLICIES:
            color = COLOR[name]
            for load in loads:
                measured = of(load, name, "ms", column)
                ax.plot([load] * len(measured), measured, "o", ms=4, color=color, alpha=0.7)
            for key, style in (("full", "-"), ("bare", ":")):
                line = [of(load, name, key, column).mean() for load in loads]
                ax.plot(loads, line, style, color=color, label=name if key == "full" else None)
        ax.set(xlabel="load (1: all that the model alone can do)", yscale="log", title=title)
    axes[0].set_ylabel("time to the answer (ms)")
    axes[0].legend(fontsize=8)
    plt.show()

# %% tags=["hide-input", "check"]
if LOAD:
    names = ["load", "", "served /s", "simulated /s", "p50 ms", "p95 ms", "p99 ms"]
    lines = ["| " + " | ".join([*names, "simulated p99 ms", "batch", "slower"]) + " |"]
    lines.append("|---" * 10 + "|")
    for load in loads:
        for name in POLICIES:
            cells = [mean_and_range(of(load, name, key), ".0f") for key in ("rate", "full_rate")]
            cells += [mean_and_range(of(load, name, "ms", i)) for i in range(3)]
            cells.append(mean_and_range(of(load, name, "full", 2)))
            cells += [mean_and_range(of(load, name, key)) for key in ("batch", "slower")]
            lines.append(f"| {load:g} | {name} | " + " | ".join(cells) + " |")
    say(
        "\n".join(lines) + "\n\nMean and range over three seeds. Simulated: with the run's own "
        "times of calls. Batch: mean number of requests in a call. Slower: how many times as long "
        "the calls took as a + b·n, with a = {a:.2f} ms and b = {b:.2f} ms of the model alone.",
        a=1e3 * LOAD["a"],
        b=1e3 * LOAD["b"],
    )
    above = [load for load in loads if load > 1]
    gain = {load: of(load, "greedy ≤ 32", "rate") / of(load, "batch 1", "rate") for load in above}
    claim(
        "Above load 1 greedy batching serves more a second than batch 1, for each seed: {gain}.",
        all((g > 1.1).all() for g in gain.values()),
        gain="; ".join(f"load {k:g}: {mean_and_range(v)} times" for k, v in gain.items()),
    )
else:
    say(NOT_YET)

# %% tags=["hide-input", "check"]
if LOAD:
    lines = ["| load | greedy over timer, p50 | p99 | simulated from the model alone, p50 | p99 |"]
    lines.append("|---" * 5 + "|")
    for load in loads:
        cells = [
            ratios(of(load, "greedy ≤ 32", key, i), of(load, "timer 5 ms", key, i))
            for key in ("ms", "bare")
            for i in (0, 2)
        ]
        lines.append(f"| {load:g} | " + " | ".join(cells) + " |")
    say(
        "**Greedy or timer?** Times to an answer with greedy batching, over those with the timer:"
        "\n\n" + "\n".join(lines) + "\n\nMean ratio over three seeds with its 95 % interval; an "
        "interval with 1 in it tells nothing apart. At load 2.5 batches are {greedy} and {timer} "
        "requests in the mean.",
        greedy=mean_and_range(of(2.5, "greedy ≤ 32", "batch"), ".0f"),
        timer=mean_and_range(of(2.5, "timer 5 ms", "batch"), ".0f"),
    )
    lost = 1e3 * (1 / of(2.5, "batch 1", "rate") - 1 / of(2.5, "batch 1", "full_rate"))
    say(
        "**What the simulation leaves out.** At load 2.5 batch 1 serves, over what is simulated "
        "with the run's own calls, {rate}. Per request {lost} ms pass beside the call: the answer "
        "must get to the event loop, and the next request to the model's thread. At load 0.5, "
        "{offered:.0f} requests/s, the p99 of batch 1 over the simulated one is {half}. Greedy "
        "batching loses that time once a batch.",
        rate=ratios(of(2.5, "batch 1", "rate"), of(2.5, "batch 1", "full_rate")),
        lost=mean_and_range(lost, ".2f"),
        offered=0.5 / (LOAD["a"] + LOAD["b"]),
        half=ratios(of(0.5, "batch 1", "ms", 2), of(0.5, "batch 1", "full", 2)),
    )

# %% [markdown] tags=["skip"]
# Where the queue has no end, p99 tells how long the run was, and nothing else. Two threads share
# one interpreter here, which a simulation of the model alone does not know. So measure the service,
# under an open load, before you plan its capacity.

# %% [markdown] tags=["slide"]
# ## Ten times too much
#
# A queue without a bound answers everybody, long after they have left. Here the queue holds 64, a
# batch 4, and a call takes 4 ms, so that at most 1,000 requests a second can be served. Ten times
# that is offered.

# %% tags=["hide-input", "check"]
def slow(x):
    time.sleep(0.004)
    return x


floods = []
for seed in range(3):
    arrivals = poisson_arrivals(10_000, 2_500, seed)
    async with ModelService(slow, 4, 0.0, max_queue=64, cache_size=0) as service:
        start = time.perf_counter()
        took = await send(service, arrivals, np.arange(2_500.0))
        floods.append((service.stats(), time.perf_counter() - start, percentiles(took)[2]))
claim(
    "Each of {n} requests, for each of {seeds} seeds, was answered or refused; none is left. "
    "Answered: {served}. p99 of those answered: {p99} ms from "
    "when they were due. A full queue is 16 batches, 64 ms, if the sender keeps up.",
    all(
        s.received == s.served + s.refused == 2_500 and s.waiting == 0 < s.refused
        for s, *_ in floods
    ),
    n=2_500,
    seeds=len(floods),
    served=", ".join(str(s.served) for s, *_ in floods),
    p99=mean_and_range([p for *_, p in floods], ".0f"),
)

# %% [markdown] tags=["slide"]
# ## A model that can be stopped
#
# Nothing can stop a thread. If the model hangs in one, its callers get a timeout, and so do all
# after them, until the whole server is started anew. A **process** can be killed. `ModelProcess`
# runs the model in one: it is called like a function, sends the batch through a pipe, and waits for
# the answers. A process that is late or dead is replaced at once, and the call raises.

# %%
show_source(ModelProcess._exchange)

# %% [markdown] tags=["slide"]
# The service then tries each request of that batch alone, as after any other error, so the one at
# fault fails alone. The model here sleeps for as many seconds as a request says. One asks for an
# hour:

# %%
with ModelProcess(np.vectorize, time.sleep, "d", timeout=0.3) as sleeps:  # np.vectorize(time.sleep)
    first, began = sleeps.pid, time.perf_counter()
    async with ModelService(sleeps, max_delay=0.0) as service:
        slept = await asyncio.gather(
            *(service.submit(seconds) for seconds in (0.0, 3600.0, 0.01)), return_exceptions=True
        )
    last, wall = sleeps.pid, time.perf_counter() - began
print(slept[1])

# %% tags=["hide-input", "check"]
claim(
    "Of {n} requests {answered} were answered, and the one for an hour failed alone. All of it "
    "took {wall:.1f} s; the process at the end is another one.",
    [isinstance(y, ModelError) for y in slept] == [False, True, False] and first != last,
    n=len(slept),
    answered=sum(not isinstance(y, ModelError) for y in slept),
    wall=wall,
)

# %% [markdown] tags=["skip"]
# A process has an interpreter of its own, too. A thread shares one with the event loop, and each
# waits while the other runs Python. What that is worth is measured below, over HTTP.

# %% [markdown] tags=["slide"]
# ## The file that the model comes from
#
# A pickle runs the code in it. `save_model` writes numbers and text only (safetensors), with a
# SHA-256 of the whole; `load_model` checks everything before the first weight changes. We flip a
# bit in each byte, one after the other:

# %% tags=["hide-input", "check"]
refused, size = [], 0
for seed in range(3):
    torch.manual_seed(seed)
    net = torch.nn.Linear(4, 2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_model(net, path, {"version": "1"})
        content, rng = path.read_bytes(), np.random.default_rng(seed)
        before, count = net.weight.clone(), 0
        for place in range(len(content)):
            broken = bytearray(content)
            broken[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(broken)
            try:
                load_model(net, path)
            except ModelFileError:
                count += 1
        size = len(content)
        refused.append((count, size, bool(torch.equal(before, net.weight))))
claim(
    "Refused: {text}, and the module stayed as it was. This finds damage. An enemy could write a "
    "new sum: against him you need a signature.",
    all(count == size and same for count, size, same in refused),
    text=", ".join(f"{count} of {size}" for count, size, _ in refused),
)

# %% [markdown] tags=["slide"]
# (sec-123-2a-http)=
# ## Behind HTTP
#
# So far callers shared a process with the service. `create_app` gives it an address: a FastAPI
# application, in which `POST /predict` awaits `service.submit`. The model gets arrays of one shape
# and one dtype, whatever is sent. Everything else is refused, and the status says whose fault it is
# {cite:p}`fielding2022http`:
#
# | status | what happened | what the client should do |
# |---|---|---|
# | 400, 408, 413, 415, 422 | the request is at fault: no JSON, too slow, too large, another type, wrong shape or value | mend the request; the same one fails again |
# | 500 | the model raised on this request | report it; the reason is in the server's log |
# | 503 with `Retry-After` | the queue is full, or the service closes | come back later |
# | 504 | no answer in time | come back later, perhaps |
#
# A body is counted while it is read, so that none can fill the memory:

# %%
show_source(read_body)

# %% [markdown] tags=["slide"]
# The array is checked level by level. Python's `True` is an integer, and its JSON reader knows
# `NaN`; neither may reach the model.

# %%
show_source(json_array)

# %% [markdown] tags=["slide"]
# A client that leaves tells the server, which must listen for it while the answer is computed. Its
# request is cancelled, and costs the model nothing if it still waits:

# %%
show_source(unless_the_client_leaves)

# %% [markdown] tags=["slide"]
# **One live request, and some that are refused.** httpx can call the application without a socket:

# %%
import httpx

model_saw = []


def watched(x):
    model_saw.extend(x.tolist())
    return 2 * x


SENT = {
    "two numbers": b'{"x": [1, 2.5]}',
    "three": b'{"x": [1, 2, 3]}',
    "a string": b'{"x": [1, "2"]}',
    "NaN": b'{"x": [1, NaN]}',
    "infinite in float32": b'{"x": [1, 1e39]}',
    "not closed": b'{"x": [1, 2]',
    "100,000 brackets": b"[" * 100_000,
    "2 MB": b" " * 2_000_000,
}
async with ModelService(watched, max_delay=0.0, version="2026-11") as service:
    app = create_app(service, shape=(2,), dtype="float32")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        headers = {"Content-Type": "application/json"}
        replies = {
            name: await client.post("/predict", content=body, headers=headers)
            for name, body in SENT.items()
        }
        metrics = (await client.get("/metrics")).text
print(replies["two numbers"].status_code, replies["two numbers"].json())

# %% tags=["hide-input", "check"]
say(
    "| sent | status | reason |\n|---|---|---|\n"
    + "\n".join(
        f"| {name} | {reply.status_code} | {reply.json().get('detail', '')} |"
        for name, reply in replies.items()
    )
)
claim(
    "Of {n} requests the model saw one. Each of the others got a status from 400 to 499, and a "
    "reason.",
    model_saw == [[1.0, 2.5]]
    and all(400 <= r.status_code < 500 and r.json()["detail"] for r in [*replies.values()][1:]),
    n=len(SENT),
)

# %% [markdown] tags=["slide"]
# Three more addresses are for those who run it. `/healthz` fails when one call of the model has
# lasted so long that only a new process helps; a long queue is no reason to restart. `/readyz`
# fails while the queue is full: send requests elsewhere. `/metrics` has the counts for Prometheus:

# %% tags=["hide-input"]
print("\n".join(line for line in metrics.splitlines() if line.startswith("model_requests")))

# %% [markdown] tags=["skip"]
# The tests send a thousand requests that [schemathesis](https://schemathesis.readthedocs.io) makes
# from the service's own OpenAPI document, and damaged bodies beside them: none may get a 5xx. The
# fuzzer's first finding was in the test's model: twice 3e38 is infinite in float32, and JSON cannot
# say that.

# %% [markdown] tags=["slide"]
# ### What HTTP costs
#
# A real network under a real load: EfficientNet-Lite0 {cite:p}`tan2019efficientnet` on pictures of
# 72 × 72 pixels, on one thread, behind uvicorn on the loopback interface. Its weights are random:
# only the time of a call counts here. The clients are another process. The load is open, and each
# picture is JSON. Our service runs the model in a process of its own, and once in a thread, to see
# what the process is worth. Beside it [LitServe](https://github.com/Lightning-AI/litserve), with
# the same model, the same largest batch and one worker, which is a process too. The servers take
# turns, in another order each time, and one whose turn it is not is stopped. In each repetition all
# get the same arrivals.

# %% tags=["long", "hide-input"] name="http"
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.metadata import version

from dlcourse.datasets import emoji
from dlcourse.ml_system_design.experiments import http_load
from dlcourse.ml_system_design.experiments.ahead_of_time import model

SERVERS = {  # kind, largest batch, delay in s
    "batch 1": ("ours", 1, 0.0),
    "greedy ≤ 8": ("ours", 8, 0.0),
    "greedy ≤ 8, thread": ("thread", 8, 0.0),
    "LitServe, no delay": ("litserve", 8, 0.0),
    "LitServe, 10 ms": ("litserve", 8, 0.010),
}
AT_LOADS, REPETITIONS, COUNT = (0.5, 1.5, 2.5), 8, 400
pictures = emoji("twemoji").images.numpy()[:512]
bodies = [json.dumps({"x": picture.tolist()}).encode() for picture in pictures]
runs = []
with ExitStack() as stack, ThreadPoolExecutor() as pool:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    save_model(model("EfficientNet-Lite0"), folder / "lite0.safetensors")
    name_of = f"lite0:{folder / 'lite0.safetensors'}"
    predict = http_load.lite0(name_of.partition(":")[2])
    right = np.concatenate([predict(part) for part in np.split(pictures, 64)])
    sizes, times = (1, 2, 4, 8), {}
    for _ in range(10):
        for n in sizes:
            start = time.perf_counter()
            predict(pictures[:n])
            times.setdefault(n, []).append(time.perf_counter() - start)
    a, b = fit_line({n: statistics.median(t) for n, t in times.items()})

    def started(options):
        kind, batch, delay = options
        return stack.enter_context(http_load.serving(name_of, kind, batch=batch, delay=delay))

    servers = dict(zip(SERVERS, pool.map(started, SERVERS.values()), strict=True))
    for server in servers.values():
        server.pause()
    idle = {}  # cores that a server uses while nobody asks
    for name, server in servers.items():
        server.go_on()
        time.sleep(1)
        before = server.cpu_seconds()
        time.sleep(3)
        idle[name] = (server.cpu_seconds() - before) / 3
        server.pause()
    print("idle:", idle, flush=True)
    order = [*servers]
    for seed in range(REPETITIONS):
        for load in AT_LOADS:
            arrivals = poisson_arrivals(load / (a + b), COUNT, seed)
            picked = np.random.default_rng(seed).integers(len(bodies), size=COUNT)
            order = [*order[1:], order[0]]  # each server comes first, and last, equally often
            for place, name in enumerate(order):
                server = servers[name]
                before = server.cpu_seconds()
                server.go_on()
                done = http_load.load(server, arrivals, [bodies[i] for i in picked])
                server.pause()
                apart = [
                    np.abs(np.array(y) - right[i]).max()
                    for i, y in zip(picked, done.answers)
                    if y is not None
                ]
                _, m, d = SERVERS[name]
                bare = simulate_queue(arrivals, lambda n: a + b * n, m, d).sojourn
                row = {
                    "load": load, "server": name, "seed": seed, "place": place, "count": COUNT,
                    "rate": COUNT / done.wall, "ms": percentiles(done.seconds),
                    "failed": int((done.status != 200).sum()), "apart": float(max(apart)),
                    "bare": percentiles(bare),
                    "cpu": 1e3 * (server.cpu_seconds() - before) / COUNT,
                }  # fmt: skip
                print(load, name, seed, f"{row['rate']:.0f}/s", row["ms"].round(1), row["failed"],
                      f"{row['cpu']:.1f} ms CPU", flush=True)  # fmt: skip
                runs.append(row)
keep(
    a=a, b=b, runs=runs, servers=[*SERVERS], loads=AT_LOADS, repetitions=REPETITIONS,
    idle=idle, litserve=version("litserve"),
)  # fmt: skip

# %% mystnb={"figure": {"caption": "p50 (left) and p99 (right) over HTTP, measured at the client: dots, one a repetition. Lines: simulated from the model's own times alone, mean of the repetitions; what is above them is the cost of HTTP, JSON and a shared machine.", "name": "fig-service-http"}, "image": {"alt": "Two panels with the time to an answer on a logarithmic axis, at three loads, for five servers: three of ours, and LitServe with two settings. Dots measured, lines simulated. The table below has the numbers."}} tags=["hide-input", "plot"]
HTTP = values_of(
    "123.2a.http", "a", "b", "runs", "servers", "loads", "repetitions", "litserve", "idle"
)


def over_http(load, server, key, column=None):
    """A value of the repetitions of a load and a server, in their order."""
    found = [r[key] for r in HTTP["runs"] if (r["load"], r["server"]) == (load, server)]
    return np.array(found if column is None else [v[column] for v in found])


if HTTP:
    fig, axes = plt.subplots(1, 2, figsize=(7, 3), sharey=True, constrained_layout=True)
    for ax, column, title in zip(axes, (0, 2), ("p50", "p99"), strict=True):
        for k, name in enumerate(HTTP["servers"]):
            for x, load in enumerate(HTTP["loads"]):
                at = x + (k - 2) * 0.12
                measured = over_http(load, name, "ms", column)
                label = name if x == 0 else None
                ax.plot([at] * len(measured), measured, "o", ms=4, color=f"C{k}", label=label)
                bare = over_http(load, name, "bare", column).mean()
                ax.plot([at - 0.05, at + 0.05], [bare] * 2, "-", color=f"C{k}")
        ticks = range(len(HTTP["loads"]))
        ax.set(xticks=ticks, xticklabels=HTTP["loads"], yscale="log", title=title)
        ax.set_xlabel("load (1: all that the model alone can do)")
    axes[0].set_ylabel("time to the answer (ms)")
    axes[0].legend(fontsize=7)
else:
    fig, ax = plt.subplots(figsize=(7, 3))
    ax.text(0.5, 0.5, "not recorded yet", ha="center", va="center", transform=ax.transAxes)
    ax.set(xlabel="load (1: all that the model alone can do)", ylabel="time to the answer (ms)")
plt.show()

# %% tags=["hide-input", "check"]
if HTTP:
    lines = ["| load | server | served /s | p50 ms | p95 ms | p99 ms | simulated p99 ms | CPU ms |"]
    lines.append("|---" * 8 + "|")
    for load in HTTP["loads"]:
        for name in HTTP["servers"]:
            cells = [mean_and_range(over_http(load, name, "rate"), ".0f")]
            cells += [mean_and_range(over_http(load, name, "ms", i)) for i in range(3)]
            cells.append(mean_and_range(over_http(load, name, "bare", 2)))
            cells.append(mean_and_range(over_http(load, name, "cpu")))
            lines.append(f"| {load:g} | {name} | " + " | ".join(cells) + " |")
    say(
        "\n".join(lines) + "\n\nMean and range over {n} repetitions of {count} requests. Load 1 is "
        "{offered:.0f} requests/s. The model alone takes {a:.1f} ms a call and {b:.1f} ms a "
        "picture: 8 in a batch take {saved:.0%} of the time of 8 calls, and such batches can serve "
        "load {most:.1f}. CPU: time of all processes of a server, over the requests.",
        n=HTTP["repetitions"],
        count=HTTP["runs"][0]["count"],
        saved=(HTTP["a"] + 8 * HTTP["b"]) / (8 * (HTTP["a"] + HTTP["b"])),
        most=8 * (HTTP["a"] + HTTP["b"]) / (HTTP["a"] + 8 * HTTP["b"]),
        offered=1 / (HTTP["a"] + HTTP["b"]),
        a=1e3 * HTTP["a"],
        b=1e3 * HTTP["b"],
    )
    worst = max(r["apart"] for r in HTTP["runs"])
    claim(
        "Each of {n} requests to the five servers was answered, with the logits of its own picture "
        "up to {worst:.0e}.",
        all(r["failed"] == 0 for r in HTTP["runs"]) and worst < 1e-3,
        n=sum(r["count"] for r in HTTP["runs"]),
        worst=worst,
    )
    peers = [name for name in HTTP["servers"] if name.startswith("LitServe")]
    best = {  # LitServe's better setting, chosen for each column: that is for LitServe, not for us
        (load, "rate"): max(peers, key=lambda name: over_http(load, name, "rate").mean())
        for load in HTTP["loads"]
    } | {
        (load, i): min(peers, key=lambda name: over_http(load, name, "ms", i).mean())
        for load in HTTP["loads"]
        for i in (0, 2)
    }
    lines = ["| load | against | served | p50 | p99 |", "|---|---|---|---|---|"]
    for load in HTTP["loads"]:
        for title, other in (
            (f"LitServe {HTTP['litserve']}", None),
            ("the model in a thread", "greedy ≤ 8, thread"),
            ("batch 1", "batch 1"),
        ):
            cells = []
            for column in ("rate", 0, 2):
                key, i = ("rate", None) if column == "rate" else ("ms", column)
                beside = other or best[load, column]
                told = over_http(load, "greedy ≤ 8", key, i), over_http(load, beside, key, i)
                cells.append(ratios(*told))
            lines.append(f"| {load:g} | {title} | " + " | ".join(cells) + " |")
    say(
        "**Greedy batching with the model in a process**, over others:\n\n"
        + "\n".join(lines)
        + "\n\nOf the two settings of LitServe that with the better mean, for each cell. Ratios "
        "are paired by repetition: geometric means of {n} with 95 % intervals, not corrected for the "
        "{cells} of them. “Higher” is good for what is served, “lower” for p50 and p99.",
        n=HTTP["repetitions"],
        cells=9 * len(HTTP["loads"]),
    )
    say(
        "**While nobody asks**, in cores: {idle}.",
        idle="; ".join(f"{name} {cores:.2f}" for name, cores in HTTP["idle"].items()),
    )
else:
    say(NOT_YET)

# %% [markdown] tags=["skip"]
# Clients and server share the machine and its cores here; over a real network the connection adds
# its own time. In the version measured, the worker of LitServe without a delay
# [asks its queue](https://github.com/Lightning-AI/LitServe/blob/main/src/litserve/loops/base.py)
# over and over, which takes CPU time even while nobody sends a request. Ours sleeps until one wakes it.

# %% [markdown] tags=["slide"]
# ### A minute of ten times too much, over HTTP
#
# The model triples a number and takes 50 ms a call, for at most 2 requests: 40 a second. For 60
# seconds 400 a second are offered. Each request has a number of its own, so an answer that went
# astray would show. This is one run: it shows that nothing was lost here, and no rate. Beside it
# the first seconds of the same, with a queue that refuses nobody.

# %% tags=["long", "hide-input"] name="overload"
import threading

from dlcourse.ml_system_design.experiments import http_load

count = 24_000
arrivals = poisson_arrivals(400, count, 0)
bodies = [json.dumps({"x": i}).encode() for i in range(count)]


def flood(server, arrivals):
    """Outcomes, the server's memory in MB and its queue's length, looked at each half second."""
    memory, queue, ended = [server.memory()], [], threading.Event()

    def watch():
        while not ended.wait(0.5):
            memory.append(server.memory())
            lines = server.get("/metrics")[1].splitlines()
            queue.extend(float(x.split()[1]) for x in lines if x.startswith("model_queue_length "))

    watcher = threading.Thread(target=watch)
    watcher.start()
    done = http_load.load(server, arrivals, bodies[: len(arrivals)])
    ended.set()
    watcher.join()
    return done, memory, queue


# For comparison the first 8 s, with a queue that refuses none of them; callers give up after 12 s.
with http_load.serving("tripling:0.05", batch=2, queue=count, timeout=12.0) as server:
    _, unbounded_memory, unbounded_queue = flood(server, arrivals[arrivals < 8])
print("unbounded: queue", max(unbounded_queue), "MB", unbounded_memory[0], max(unbounded_memory))
with http_load.serving("tripling:0.05", batch=2, queue=64) as server:
    done, memory, queue = flood(server, arrivals)
    counted = {
        word: float(line.split()[1])
        for line in server.get("/metrics")[1].splitlines()
        for word in ("served", "refused", "failed", "timed_out", "cancelled")
        if line.startswith(f'model_requests_total{{outcome="{word}"}}')
    }
served = done.status == 200
values = {
    "count": count, "served": int(served.sum()), "refused": int((done.status == 503).sum()),
    "lost": int((done.status == 0).sum()), "doubled": int((done.responses > 1).sum()),
    "wrong": sum(y != 3 * i for i, y in enumerate(done.answers) if served[i]),
    "wall": done.wall, "memory": memory, "queue": queue, "counted": counted,
    "unbounded_memory": unbounded_memory, "unbounded_queue": unbounded_queue,
    "served_ms": percentiles(done.seconds[served]),
    "refused_ms": percentiles(done.seconds[~served]),
}  # fmt: skip
print(values)
keep(**values)

# %% tags=["hide-input", "check"]
FLOOD = values_of(
    "123.2a.overload", "count", "served", "refused", "lost", "doubled", "wrong", "wall", "memory",
    "queue", "counted", "served_ms", "refused_ms", "unbounded_memory", "unbounded_queue",
)  # fmt: skip
if FLOOD:
    grown = max(FLOOD["memory"]) - FLOOD["memory"][0]
    each = (max(FLOOD["unbounded_memory"]) - FLOOD["unbounded_memory"][0]) / max(
        FLOOD["unbounded_queue"]
    )  # MB a request that waits
    claim(
        "Of {count:,} requests in {wall:.0f} s {served:,} were answered and {refused:,} refused "
        "with 503; the server counted the same. Lost: {lost}, answered twice: {doubled}, with "
        "another's answer: {wrong}. The queue held at most {queue:.0f} when it was looked at.",
        FLOOD["served"] + FLOOD["refused"] == FLOOD["count"]
        and FLOOD["served"] > 0 < FLOOD["refused"]
        and FLOOD["lost"] == FLOOD["doubled"] == FLOOD["wrong"] == 0
        and FLOOD["counted"]["served"] == FLOOD["served"]
        and FLOOD["counted"]["refused"] == FLOOD["refused"]
        and max(FLOOD["queue"]) <= 64,
        **{k: FLOOD[k] for k in ("count", "wall", "served", "refused", "lost", "doubled", "wrong")},
        queue=max(FLOOD["queue"]),
    )
    claim(
        "**Memory.** With a queue that refuses nobody, the server's memory grew by {each:.0f} kB "
        "for each request that waited, at most {waited:,.0f} of them. At that rate all that were "
        "refused here would take {all:,.0f} MB. With the bounded queue it grew by {grown:.0f} MB, "
        "less than a tenth of that.",
        grown < each * FLOOD["refused"] / 10,
        each=1e3 * each,
        waited=max(FLOOD["unbounded_queue"]),
        all=each * FLOOD["refused"],
        grown=grown,
    )
    say(
        "Half of those answered had their answer within {half:.1f} s of their time, 99 % within "
        "{most:.1f} s; a full queue alone is 32 batches, {full:.1f} s. Half of those refused knew "
        "it within {refused:.0f} ms.",
        half=FLOOD["served_ms"][0] / 1e3,
        most=FLOOD["served_ms"][2] / 1e3,
        full=32 * 0.05,
        refused=FLOOD["refused_ms"][0],
    )
else:
    say(NOT_YET)

# %% [markdown] tags=["slide"]
# ### Details that papers leave out
#
# 1. **`eval` mode.** With batch norm in training mode an answer depends on the others in its batch
#    ([PyTorch's page](https://pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html)).
# 2. **Last bits.** Batches of other sizes may sum in another order
#    ([PyTorch's notes](https://pytorch.org/docs/stable/notes/numerical_accuracy.html)). Do not test
#    answers for equality.
# 3. **The version belongs in the key**, or a new model answers with an old one's results.
# 4. **A caller who leaves** must take nobody with it, and what nobody wants must cost nothing.
# 5. **Errors are not cached.** A model that failed once may not fail again.
# 6. **A thread cannot be stopped**, a process can: see `ModelProcess`. Where the model runs in a
#    thread and hangs, the server must be started anew; `/healthz` tells whoever starts it.
# 7. **What is JSON?** [Python's reader](https://docs.python.org/3/library/json.html) takes `NaN`, a
#    name twice, and nesting until it fails. Refuse them before the model sees them.
# 8. **Workers.** With n [worker processes of uvicorn](https://www.uvicorn.org/deployment/) there
#    are n models, n caches and n queues.
# 9. **Idle connections.** A server closes them, uvicorn after its
#    [`--timeout-keep-alive`](https://www.uvicorn.org/settings/#timeouts), by default 5 s. A request
#    that goes out on one at that moment gets no response, as happened to our first clients. Let a
#    client close first, or ask again where that does no harm {cite:p}`fielding2022http`.

# %% [markdown] tags=["slide"]
# ## What experts expect
#
# - **An error budget** is what a service-level objective leaves over: 99.9 % of good answers allow
#   1 bad one in 1,000. Alert on how fast it is used up, over a short and a long window; while none
#   is left, reliability goes before new releases {cite:p}`beyer2018workbook`.
# - **Little's law** sizes what must be held: at 400 requests/s of 50 ms each, 20 are inside. A
#   queue of 64 before a service of 40/s is 1.6 s of waiting whenever it is full
#   {cite:p}`little1961proof`.
# - **Shadow, then canary.** A new model first gets copies of the requests, and its answers are
#   compared and thrown away. Then it gets a small share of them, and goes back at once if its
#   errors or its p99 are worse than those of the old one *at the same time*
#   {cite:p}`beyer2018workbook`.
# - **Versions** of model, data and code belong together: an answer names its model, and the model's
#   file names the data and the commit that made it, so that a release can be repeated, and undone
#   {cite:p}`breck2017mltest`.
# - **Tails, not means.** If a page needs 100 calls, and each is slow once in a hundred, then most
#   pages are slow: $1 - 0.99^{100} \approx 63\,\%$ {cite:p}`dean2013tail`. A second try, sent
#   elsewhere when the first is late, cuts the tail.
# - **A service-level objective** says "p99 below 50 ms at 500 requests/s". Choose the largest batch
#   so that $a + b\,m$ leaves room for waiting, as Clipper adapts it {cite:p}`crankshaw2017clipper`.
# - **Language models** answer one token at a time, and requests end at different steps. Orca
#   schedules each step anew {cite:p}`yu2022orca`: a request may come in or go out after any of
#   them, which is called *continuous batching* today. Memory for keys and values bounds the batch;
#   PagedAttention keeps them in pages, so that little is wasted {cite:p}`kwon2023pagedattention`.
# - **Autoscaling** follows the queue's length or the time waited; utilisation says little near 1.
#   New servers take time to start, so there must be room before.
# - **Retries** of clients turn an overload into a larger one: wait longer after each, at random.

# %% [markdown] tags=["slide"]
# ## Limits
#
# Clients and server shared one machine here: no network, no TLS, no proxy. `create_app` knows no
# users and no rates per client; both belong before it. The simulation has fixed service times and
# one server; a service has one model, in one thread or process. Real arrivals come in bursts, which
# are worse than Poisson. At work: LitServe (small, Python), Triton Inference Server (many
# frameworks, GPUs), Ray Serve (many machines, autoscaling); vLLM for language models.

# %% [markdown] tags=["slide"]
# ## Slips that still run
#
# The chapter began with a short listing of a service. It waits with a method that is not there, and
# handles a batch only when 32 requests have come. The {doc}`errata </book/errata>` list its slips,
# each with a test. One of them gives a caller the answer to another question:

# %% tags=["nbval-check-output"]
requests = [np.zeros(4, np.float32), np.zeros((2, 2), np.float32), np.zeros(2, np.float64)]
print("the listing's keys:", len({hash(x.tobytes()) for x in requests}))
print("ours:", len({content_key(x, "") for x in requests}))
for sent in (31, 32):  # one short of a batch; and a batch
    waiting, started = [], 0
    for request in range(sent):
        waiting.append(request)
        if len(waiting) >= 32:  # the listing's own condition, met nowhere else
            waiting, started = [], started + 1
    print(f"of {sent} requests the listing starts {started} batches; {len(waiting)} wait for ever")

# %% [markdown] tags=["skip"]
# ## Quiz

# %% [markdown] tags=["skip"]
# {{quiz 123.2a}}

# %% [markdown] tags=["slide"]
# ## Summary
#
# - A batch costs $a + b\,n$: together requests cost less, and capacity grows.
# - Waits grow like $1/(1-\rho)$; look at p99, not at the mean.
# - Greedy batching follows the load by itself; a timer costs time where the load is light.
# - Bound the queue: an early refusal is better than an answer that nobody waits for.
# - Keys by content, dtype, shape and version; model files that hold no code.
#
# References: each citation above leads to its source; the
# {doc}`bibliography </book/bibliography>` lists them all.
