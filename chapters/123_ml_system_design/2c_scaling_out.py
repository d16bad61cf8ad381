# %% [markdown] tags=["slide"]
# (sec-123-2c)=
# # 123.2c Scaling out
#
# One server is not enough, or must not be the only one. At the end of this section you can say how
# many replicas a load needs, which of them a balancer should choose, why a fleet that follows its
# utilisation is late, and how a language model serves many requests whose ends nobody knows.
#
# You need: {doc}`123.2a <2a_model_service>`, attention (the last part), and no GPU.

# %% tags=["definitions", "hide-input", "skip"]
import functools
import statistics

import matplotlib.pyplot as plt
import numpy as np
import torch

from dlcourse.ml_system_design import (
    SMOLLM2_135M, ContinuousBatcher, Decoder, DecoderConfig, KVCache, StaticBatcher, by_requests,
    by_utilisation, erlang_c, erlang_c_wait, generate, poisson_arrivals,
    pollaczek_khinchine_wait, replicas_needed, simulate_fleet, simulate_replicas, stabilised,
)  # fmt: skip
from dlcourse.ml_system_design.experiments.scaling_out import (
    decoder, draw_requests, seconds_without_a_cache, serve_all,
)  # fmt: skip
from dlcourse.notebook import claim, explore, keep, say, show_source, values_of

plt.style.use("dlcourse.notebook.course")
torch.set_num_threads(1)
SEEDS = range(5)
NOT_YET = "*This part is not recorded yet.*"
POLICIES = ("random", "round robin", "two choices", "shortest queue")
REPLICAS = 8


def mean_and_range(values, form=".2f"):
    """Mean over the seeds, and from least to largest, as text."""
    values = [float(v) for v in values]
    return f"{statistics.fmean(values):{form}} ({min(values):{form}}–{max(values):{form}})"


# %% [markdown] tags=["slide"]
# ## A question
#
# Eight servers stand behind a balancer, which sends each request on at once. A request takes one
# second in the mean. **Which server should it choose?** Move the load, and the way to choose.
# What do you expect of *two choices*: draw two servers, and take the one with fewer requests
# inside?

# %% tags=["hide-input"]
@functools.cache
def sojourn(policy, load, vary=True, seed=0, count=8_000, stale=0.0):
    """Seconds from arrival to answer, and seconds of service; load 1 is all that they can do."""
    rng = np.random.default_rng([8, seed])
    t = poisson_arrivals(REPLICAS * load, count, rng)
    s = rng.exponential(1.0, count) if vary else np.ones(count)
    return simulate_replicas(t, s, REPLICAS, policy, stale=stale, seed=seed), s


def draw_choice(policy, load):
    took, _ = sojourn(policy, load)
    fig, ax = plt.subplots(figsize=(6.2, 2.8), constrained_layout=True)
    ax.hist(np.minimum(took, 40), np.linspace(0, 40, 61), color="tab:blue")
    p99 = np.percentile(took, 99)
    ax.axvline(min(p99, 40), color="tab:red", label=f"p99: {p99:.1f} s")
    ax.set(xlabel="time to the answer (s; the last bar: 40 or more)", ylabel="requests")
    ax.set_yscale("log")
    ax.legend()
    return fig


explore(
    draw_choice,
    {"policy": list(POLICIES), "load": [0.5, 0.7, 0.9]},
    initial={"policy": "random", "load": 0.9},
    name="Eight servers and a balancer",
    alt=lambda policy, load: (
        f"Histogram of times to an answer, policy {policy}, load {load}: 99 % within "
        f"{np.percentile(sojourn(policy, load)[0], 99):.1f} s."
    ),
)

# %% [markdown] tags=["slide"]
# ## The idea
#
# **One queue is best.** If all $n$ servers take from one queue, none is idle while a request
# waits. For Poisson arrivals at rate $\lambda$ and exponential service times $S$ the mean wait is
# Erlang's
# {cite:p}`kleinrock1975queueing`: with $a = \lambda\, \mathbb E[S]$ and $C$ the share that waits,
#
# $$
# W = \frac{C(n, a)\, \mathbb E[S]}{n - a} .
# $$ (eq-scaling-erlang)
#
# A balancer that sends each request on at once can only come near. Sent at random, a request
# meets one of $n$ separate queues, at each of which the wait grows as $1 / (1 - \rho)$. With
# **two choices** the longest of $n$ queues falls from about $\ln n / \ln\ln n$ to $\ln\ln n / \ln
# 2$ in a static model, and waits fall steeply in this one {cite:p}`mitzenmacher2001power`. A
# third choice gains little more.
#
# **A fleet that follows its load** asks, at each look, for
#
# $$
# n' = \Bigl\lceil n\, \frac{\text{metric}}{\text{target}} \Bigr\rceil
# $$ (eq-scaling-autoscale)
#
# replicas, where $n$ counts those that are ready, as Kubernetes'
# [autoscaler](https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/) does. A
# new one needs time to start. What the metric can't see, it can't follow.
#
# **A language model** makes one token a step, for each request in its batch. Requests end at
# different steps, and nobody knows when. It keeps the keys and values of all tokens so far,
#
# $$
# \text{bytes} = 2 \cdot \text{layers} \cdot \text{heads}_{kv} \cdot d \cdot \text{tokens} \cdot
# \text{bytes per number},
# $$ (eq-scaling-cache)
#
# so that memory, not arithmetic, bounds the batch {cite:p}`kwon2023pagedattention`. *Continuous
# batching* decides anew at each step who is in it {cite:p}`yu2022orca`.

# %% [markdown] tags=["skip"]
# :::{diagram} figures/2c_scaling_out.svg
# ---
# name: fig-scaling-path
# alt: Requests come to a balancer, which knows how many are inside each replica, and sends each on.
#   Every replica has a queue and a batch. An autoscaler looks at the replicas each few seconds and
#   starts or stops some; a new one is dashed, since it takes time to start.
# ---
# From one server to a fleet. Dashed: a replica that is starting.
# :::

# %% [markdown] tags=["skip"]
# {{exercise 123.2c.predict-cache}}

# %% [markdown] tags=["slide"]
# ## Which server?

# %%
from dlcourse.ml_system_design.scaling_out.replicas import _choose

show_source(_choose)

# %%
show_source(erlang_c)

# %% tags=["nbval-check-output"]
for n in (1, 2, 8, 64):
    print(f"{n:2} servers at load 0.9: {erlang_c(n, 0.9 * n):.0%} wait")

# %% [markdown] tags=["slide"]
# First the simulation must give the formulas where there are some: random choice splits a Poisson
# stream into eight, each a single server.

# %% tags=["hide-input", "check"]
LOADS = (0.5, 0.7, 0.9)
fixed = {
    load: [sojourn("random", load, vary=False, seed=s)[0].mean() - 1 for s in SEEDS]
    for load in LOADS
}
exact = {load: pollaczek_khinchine_wait(load, 1.0) for load in LOADS}
off = {
    load: abs(np.mean(w) - exact[load]) / (np.std(w, ddof=1) / len(w) ** 0.5)
    for load, w in fixed.items()
}
waits = {
    (policy, load): [float((took - s).mean()) for took, s in
                     (sojourn(policy, load, seed=seed) for seed in SEEDS)]
    for policy in POLICIES for load in LOADS
}  # fmt: skip
bound = {load: erlang_c_wait(REPLICAS, REPLICAS * load, 1.0) for load in LOADS}
lines = ["| mean wait, in service times | " + " | ".join(f"load {x:g}" for x in LOADS) + " |"]
lines.append("|---" * 4 + "|")
for policy in POLICIES:
    cells = [mean_and_range(waits[policy, load]) for load in LOADS]
    lines.append(f"| {policy} | " + " | ".join(cells) + " |")
lines.append("| one shared queue (Erlang) | " + " | ".join(f"{b:.2f}" for b in bound.values()) + " |")
say("\n".join(lines) + f"\n\nExponential service times; mean and range over {len(SEEDS)} seeds.")
claim(
    "With fixed service times random choice gives the wait of Pollaczek and Khinchine, up to "
    "{off:.1f} standard errors. With exponential ones, at each load and for each seed: two "
    "choices wait less than random ones, and the shortest queue less than two choices. In the "
    "mean none beats one shared queue.",
    max(off.values()) < 5
    and all(
        x < y < z
        for load in LOADS
        for x, y, z in zip(
            waits["shortest queue", load], waits["two choices", load], waits["random", load]
        )
    )
    and all(np.mean(w) > 0.97 * bound[load] for (_, load), w in waits.items()),
    off=max(off.values()),
)

# %% [markdown] tags=["skip"]
# **Round robin** is a special case. It knows nothing of the servers, yet it spaces out what each of
# them gets. How good that is depends on the service times:

# %% tags=["hide-input", "check"]
even = {
    (policy, vary): [np.percentile(sojourn(policy, 0.9, vary, seed=s)[0], 99) for s in SEEDS]
    for policy in ("round robin", "two choices") for vary in (False, True)
}  # fmt: skip
claim(
    "p99 at load 0.9 with fixed service times: round robin {a}, two choices {b} service times. "
    "With exponential ones: {c} and {d}. The order turns round, for each seed: where requests "
    "differ, one must look who is busy.",
    all(x < y for x, y in zip(even["round robin", False], even["two choices", False]))
    and all(x > y for x, y in zip(even["round robin", True], even["two choices", True])),
    a=mean_and_range(even["round robin", False], ".1f"),
    b=mean_and_range(even["two choices", False], ".1f"),
    c=mean_and_range(even["round robin", True], ".1f"),
    d=mean_and_range(even["two choices", True], ".1f"),
)

# %% [markdown] tags=["slide"]
# ### When the numbers are old
#
# A balancer that hears from the servers once in a while, and all balancers beside it, choose the
# same shortest queue until they hear again.

# %% mystnb={"figure": {"caption": "Mean time to an answer at load 0.9 against the age of what the balancer knows: mean of five seeds, with their range. Dotted: random choice, which knows nothing.", "name": "fig-scaling-stale"}, "image": {"alt": "Two rising curves. The shortest queue starts lowest and crosses two choices as its numbers get older; two choices stay below the dotted line of random choice. The sentence below has the numbers."}} tags=["hide-input", "plot"]
AGES = (0.0, 0.5, 1.0, 2.0, 4.0)
aged = {
    policy: np.array(
        [[sojourn(policy, 0.9, seed=s, stale=age)[0].mean() for s in SEEDS] for age in AGES]
    )
    for policy in ("shortest queue", "two choices")
}
blind = [sojourn("random", 0.9, seed=s)[0].mean() for s in SEEDS]
fig, ax = plt.subplots(figsize=(6.2, 2.8))
for policy, found in aged.items():
    ax.plot(AGES, found.mean(1), "o-", ms=3, label=policy)
    ax.fill_between(AGES, found.min(1), found.max(1), alpha=0.2)
ax.axhline(np.mean(blind), color="k", ls=":", lw=1, label="random")
ax.set(xlabel="age of the numbers (service times)", ylabel="mean time to the answer (s)")
ax.legend()
plt.show()

# %% tags=["hide-input", "check"]
claim(
    "With fresh numbers the shortest queue takes {fresh} s and two choices {two} s. With numbers "
    "that are up to four service times old: {old} s and {two_old} s, for random choice {blind} s. "
    "The order of the first two turns round, for each seed.",
    (aged["shortest queue"][0] < aged["two choices"][0]).all()
    and (aged["shortest queue"][-1] > aged["two choices"][-1]).all(),
    fresh=mean_and_range(aged["shortest queue"][0]),
    two=mean_and_range(aged["two choices"][0]),
    old=mean_and_range(aged["shortest queue"][-1]),
    two_old=mean_and_range(aged["two choices"][-1]),
    blind=mean_and_range(blind),
)

# %% [markdown] tags=["skip"]
# {{exercise 123.2c.waiting-share}}

# %% [markdown] tags=["slide"]
# ## How many servers?
#
# Equation {eq}`eq-scaling-erlang` answers it for a steady load. A large fleet may be busier than a
# small one, for the same wait:

# %% tags=["hide-input", "check"]
needed = {rate: replicas_needed(rate, 1.0, 0.1) for rate in (1, 10, 100, 1000)}
busy = {rate: rate / n for rate, n in needed.items()}
say(
    "| requests/s of 1 s each | replicas for a mean wait of 0.1 s | utilisation |\n|---|---|---|\n"
    + "\n".join(f"| {rate:,} | {n:,} | {busy[rate]:.0%} |" for rate, n in needed.items())
)
claim(
    "The utilisation goes from {least:.0%} to {most:.0%}: what is held free for chance shrinks, in "
    "share, as the fleet grows.",
    list(busy.values()) == sorted(busy.values()),
    least=min(busy.values()),
    most=max(busy.values()),
)

# %% [markdown] tags=["slide"]
# ## A load that trebles
#
# For two minutes 7 requests/s come, 1 second each, at 10 replicas; then 21. An autoscaler looks each
# 5 seconds; a new replica needs 30 seconds to start. Two of them differ only in what they look at:
# the share of time in which the replicas were busy, or the requests inside. Both hold the largest
# number that they wanted in the last minute, or a quiet moment would end replicas that the next one
# needs.

# %%
show_source(by_utilisation)

# %%
show_source(by_requests)

# %% tags=["hide-input"]
AUTOSCALERS = {"busy time": by_utilisation, "requests inside": by_requests}
START_UP, CHANGE = 30.0, 120.0  # s


def trebled(seed):
    rng = np.random.default_rng([21, seed])
    calm, rush = poisson_arrivals(7, 1500, rng), CHANGE + poisson_arrivals(21, 6300, rng)
    return np.r_[calm[calm < CHANGE], rush[rush < 420]]


def fleet(name, seed, start_up=START_UP):
    desired = stabilised(AUTOSCALERS[name](0.7), 12)
    return simulate_fleet(trebled(seed), 1.0, desired, first=10, start_up=start_up)


fleets = {(name, seed): fleet(name, seed) for name in AUTOSCALERS for seed in SEEDS}

# %% mystnb={"figure": {"caption": "Replicas that are ready (left) and requests inside (right) before and after the load trebles at 120 s (dotted), for the first seed.", "name": "fig-scaling-fleet"}, "image": {"alt": "Left: the number of ready replicas rises only half a minute after the load has trebled, in both cases. Right: the requests inside rise until then, and fall. The table below has the numbers."}} tags=["hide-input", "plot"]
fig, axes = plt.subplots(1, 2, figsize=(7, 2.8), constrained_layout=True)
for name in AUTOSCALERS:
    looks = fleets[name, 0].looks
    axes[0].step([x.time for x in looks], [x.ready for x in looks], where="post", label=name)
    axes[1].plot([x.time for x in looks], [x.inside for x in looks], label=name)
for ax, label in zip(axes, ("replicas that are ready", "requests inside")):
    ax.axvline(CHANGE, color="k", ls=":", lw=1)
    ax.set(xlabel="time (s)", ylabel=label, xlim=(60, 300))
axes[0].legend(fontsize=8)
plt.show()

# %% tags=["hide-input", "check"]
def told(name):
    """For each seed: mean ready before the change; wanted soon after; late requests; slowest."""
    rows = []
    for seed in SEEDS:
        times, t = fleets[name, seed], trebled(seed)
        before = np.mean([x.ready for x in times.looks if 60 <= x.time < CHANGE])
        soon = next(x.replicas for x in times.looks if x.time >= CHANGE + 15)
        late = np.mean(times.sojourn[(t >= CHANGE) & (t < CHANGE + 60)] > 2)
        rows.append((before, soon, 100 * late, times.sojourn.max()))
    return np.array(rows).T


found = {name: told(name) for name in AUTOSCALERS}
say(
    "| looks at | ready before | wanted 15 s after | over 2 s in the next minute, % | slowest, s "
    "|\n|---|---|---|---|---|\n"
    + "\n".join(
        f"| {name} | " + " | ".join(mean_and_range(row, ".0f") for row in rows) + " |"
        for name, rows in found.items()
    )
    + f"\n\nMean and range over {len(SEEDS)} seeds."
)
instant = np.array([fleet("busy time", seed, 0.0).sojourn.max() for seed in SEEDS])
busy, inside = found["busy time"], found["requests inside"]
claim(
    "Fifteen seconds after the change the autoscaler that sees requests wants more replicas than "
    "the one that sees busy time, for each seed: busy time can't exceed 1. The start-up of "
    "{start_up:.0f} s costs the latter: with replicas that start at once its slowest request "
    "takes {instant} s instead of {slowest}, less in {less} of {n} seeds. The former had more "
    "replicas before the change, too (in the mean), so that the two don't cost the same.",
    (inside[1] > busy[1]).all() and instant.mean() < busy[3].mean()
    and inside[0].mean() > busy[0].mean(),
    start_up=START_UP,
    instant=mean_and_range(instant, ".1f"),
    slowest=mean_and_range(busy[3], ".1f"),
    less=int((instant < busy[3]).sum()),
    n=len(SEEDS),
)  # fmt: skip

# %% [markdown] tags=["skip"]
# So room must be there *before*: replicas for the load that may come within a start-up time, a
# bounded queue that refuses the rest (123.2a), and models that start fast (123.2b). What is inside at
# one moment is a noisy number; the one that looks at it holds more in reserve before the change, and
# pays for it.

# %% [markdown] tags=["slide"]
# ## The same service, on Ray
#
# [Ray Serve](https://docs.ray.io/en/latest/serve/index.html) starts replicas on one machine or
# many, and its proxy chooses between two of them as above. Each replica holds the `ModelService`
# of 123.2a:
#
# ```shell
# pip install "dlcourse[ray-serve]"
# serve run dlcourse.ml_system_design.experiments.ray_app:app
# ```
#
# `DLCOURSE_REPLICAS=2` fixes the number; without it Ray holds from 1 to 4, by the requests
# inside. What changes with more than one: each replica has its own queue, cache and batches, so
# that equal requests meet less often, and batches are smaller at the same load. A replica may end
# with requests in it: the proxy tells their callers, who must ask again.

# %% tags=["long", "hide-input"] name="ray"
from importlib.metadata import version

from dlcourse.ml_system_design.experiments.ray_serve import ray_on_this_machine, serve_replicas

runs = []
with ray_on_this_machine() as address:
    for repetition in range(3):
        for replicas in (1, 2) if repetition % 2 else (2, 1):
            runs.append({"replicas": replicas, **serve_replicas(address, replicas)})
            print(runs[-1], flush=True)
keep(runs=runs, ray=version("ray"))

# %% tags=["hide-input", "check"]
RAY = values_of("123.2c.ray", "runs", "ray")
if RAY:
    rates = {n: [r["rate"] for r in RAY["runs"] if r["replicas"] == n] for n in (1, 2)}
    claim(
        "With Ray {ray} on one machine of two cores, 16 callers: each of {count} requests was "
        "answered, up to {apart:.0e} as the model does; with two replicas both took part, each "
        "with at least {share:.0%} of the answers. A request of another shape got {refused}. "
        "Answers a second: {one} from one replica, {two} from two.",
        all(r["failed"] == 0 and r["apart"] < 1e-5 and r["refused"] == 422 for r in RAY["runs"])
        and all(len(r["by_replica"]) == r["replicas"] for r in RAY["runs"]),
        ray=RAY["ray"],
        count=sum(sum(r["by_replica"]) for r in RAY["runs"]),
        apart=max(r["apart"] for r in RAY["runs"]),
        share=min(min(r["by_replica"]) / sum(r["by_replica"]) for r in RAY["runs"]
                  if r["replicas"] == 2),
        refused=RAY["runs"][0]["refused"],
        one=mean_and_range(rates[1], ".0f"),
        two=mean_and_range(rates[2], ".0f"),
    )  # fmt: skip
else:
    say(NOT_YET)

# %% [markdown] tags=["skip"]
# Proxy, callers and replicas share two cores here, which also had other work: what a replica adds on
# a machine of its own this does not show.

# %% [markdown] tags=["slide"]
# (sec-123-2c-language)=
# ## A language model
#
# ### The cache
#
# A token never sees later ones, so its keys and values never change. A batch of requests of
# different lengths writes and reads each at its own place:

# %%
from dlcourse.ml_system_design.scaling_out.decoder import Block

show_source(Block.forward)

# %% tags=["hide-input", "check"]
small = decoder(DecoderConfig(vocabulary=256, width=64, layers=2, heads=4, kv_heads=2, hidden=128))
apart = []
with torch.no_grad():
    for seed in SEEDS:
        tokens = torch.randint(256, (40,), generator=torch.Generator().manual_seed(seed))
        cache = KVCache(small.config, 2, 64)
        slot = torch.tensor([cache.take()])
        for a, b in ((0, 11), (11, 12), (12, 40)):  # a prompt, a token, the rest
            got = small(tokens[None, a:b], cache, slot)
            apart.append(float((got - small(tokens[None, :b])[:, -1]).abs().max()))
claim(
    "In {n} comparisons the logits with the cache are those of all tokens read anew, up to "
    "{apart:.0e}.",
    max(apart) < 1e-5,
    n=len(apart),
    apart=max(apart),
)

# %% [markdown] tags=["skip"]
# The tests also compare the decoder with the Llama of transformers, on the same weights.

# %% [markdown] tags=["skip"]
# {{exercise 123.2c.attend-cached}}

# %% [markdown] tags=["slide"]
# ### Who is in the batch?

# %%
show_source(ContinuousBatcher.step)

# %% tags=["hide-input", "check"]
alike, steps = [], {}
for seed in SEEDS:
    wanted = draw_requests(seed, 24, 256, prompt=8, median=10, most=60)
    for kind in (StaticBatcher, ContinuousBatcher):
        batcher = kind(small, 4, 80)
        sent = [batcher.submit(prompt, count) for prompt, count in wanted]
        batcher.run()
        steps.setdefault(kind, []).append(batcher.steps)
        alike += [
            request.tokens == generate(small, request.prompt, request.count).tolist()
            for request in sent
        ]
claim(
    "Each of {n} requests got the tokens that it gets alone and without a cache. With four "
    "places, static batches take {static} steps, continuous ones {continuous}: fewer for each "
    "seed, as no place waits for the longest.",
    all(alike) and all(x < y for x, y in zip(steps[ContinuousBatcher], steps[StaticBatcher])),
    n=len(alike),
    static=mean_and_range(steps[StaticBatcher], ".0f"),
    continuous=mean_and_range(steps[ContinuousBatcher], ".0f"),
)

# %% [markdown] tags=["skip"]
# {{exercise 123.2c.count-steps}}

# %% [markdown] tags=["slide"]
# ### At scale: the shape of SmolLM2 on a GPU
#
# 30 layers of width 576 with three heads of keys and values, as SmolLM2-135M has
# {cite:p}`benallal2025smollm2`. The weights are random: they change no time, and the tokens mean
# nothing.
# 256 requests come at once, with prompts of 32 tokens and log-normal answers; 32 places, bfloat16.

# %% tags=["gpu", "hide-input"] name="language-model"
toy = not torch.cuda.is_available()  # a small run on a CPU, to see that the cell works
config = DecoderConfig(256, 64, 2, 4, 2, 128) if toy else SMOLLM2_135M
device, dtype = ("cpu", torch.float32) if toy else ("cuda", torch.bfloat16)
count, batch = (24, 4) if toy else (256, 32)
net = decoder(config, device, dtype)
serve_all(ContinuousBatcher, net, draw_requests(99, batch, config.vocabulary, most=16), batch)
runs = []
for seed in range(3):
    wanted = draw_requests(seed, count, config.vocabulary)
    order = (StaticBatcher, ContinuousBatcher) if seed % 2 else (ContinuousBatcher, StaticBatcher)
    for kind in order:
        row = serve_all(kind, net, wanted, batch)
        runs.append({"kind": kind.__name__, "seed": seed, **row})
        print(runs[-1], flush=True)
prompt = wanted[0][0].to(device)
alone = [seconds_without_a_cache(net, prompt, 64) for _ in range(3)]
cached = []
for _ in range(3):
    batcher = ContinuousBatcher(net, 1, 128)
    request = batcher.submit(prompt.cpu(), 64)
    batcher.run()
    cached.append(request.finished - request.submitted)
cache = KVCache(config, batch, 288, net.embedding.weight)
keep(runs=runs, count=count, batch=batch, cache=cache.nbytes, alone=alone, cached=cached,
     weights=sum(p.numel() for p in net.parameters()))  # fmt: skip

# %% tags=["hide-input", "check"]
MODEL = values_of(
    "123.2c.language-model", "runs", "count", "batch", "cache", "alone", "cached", "weights"
)
if MODEL:
    def of(kind, key):
        """A value of the three runs."""
        return np.array([r[key] for r in MODEL["runs"] if r["kind"] == kind])

    kinds = ("StaticBatcher", "ContinuousBatcher")
    say(
        "| | tokens/s | steps | first token p50, s | p99, s | last token p50, s "
        "|\n|---|---|---|---|---|---|\n"
        + "\n".join(
            f"| {kind} | {mean_and_range(of(kind, 'rate'), '.0f')} | "
            f"{mean_and_range(of(kind, 'steps'), '.0f')} | "
            + " | ".join(mean_and_range(of(kind, k)) for k in ("first_p50", "first_p99", "last_p50"))
            + " |"
            for kind in kinds
        )
        + "\n\nMean and range over three draws of {count} requests. The cache of {batch} slots takes "
        "{cache:.0f} MB, the {weights:.0f} million weights {size:.0f} MB.",
        count=MODEL["count"], batch=MODEL["batch"], cache=MODEL["cache"] / 1e6,
        weights=MODEL["weights"] / 1e6, size=2 * MODEL["weights"] / 1e6,
    )  # fmt: skip
    gain = of("ContinuousBatcher", "rate") / of("StaticBatcher", "rate")
    claim(
        "Continuous batching makes {gain} times the tokens a second, more in each draw. One "
        "request alone, 64 tokens: {anew} s where all is read anew for each token, {cached} s "
        "with the cache.",
        (gain > 1).all(),
        gain=mean_and_range(gain),
        anew=mean_and_range(MODEL["alone"]),
        cached=mean_and_range(MODEL["cached"]),
    )
else:
    say(NOT_YET)

# %% [markdown] tags=["slide"]
# ### Details that papers leave out
#
# 1. **A slot that is used again is dirty.** What the request before left there must be masked, or
#    it is read. A test gives a slot twice.
# 2. **The first token comes from the prompt's pass**, not from a step: a request for one token
#    never enters a step.
# 3. **A long prompt stops all others** for the time that it is read. Servers cut it into pieces
#    and mix them with the steps of others.
# 4. **Last bits.** A batch of another size may sum in another order, and the likeliest token of
#    two near ones may change. In float32 our tests find no such case; in bfloat16 expect some.
# 5. **A draw must be of two different servers**, or a tenth of the requests of ten have one choice.
# 6. **A replica that is called off while it starts** must not count as ready when its time has
#    come.

# %% [markdown] tags=["slide"]
# ## What experts expect
#
# - **Pages.** A slot for the longest answer is mostly empty. PagedAttention gives memory in small
#   pages, as an operating system does, and shares those of equal beginnings
#   {cite:p}`kwon2023pagedattention`.
# - **Preemption.** Where pages run out, a request is put back and its cache recomputed, or moved
#   away.
# - **Prefill and decode apart.** Reading prompts is limited by arithmetic, making tokens by memory;
#   large fleets give them machines of their own.
# - **Two times to promise**: until the first token, and between tokens.
# - **Sticky sessions.** A cache is worth most where a conversation goes on. The balancer then must
#   weigh who has the cache against who is idle.
# - **Slow start.** A new replica with a cold cache gets a small share first; so does one that
#   returned.
# - **Zones.** Replicas that fail together (one rack, one release) count as one.

# %% [markdown] tags=["slide"]
# ## Limits
#
# Balancer and fleet are simulated: no network, no failing replica, Poisson arrivals. Real ones
# come in bursts. The language model has random weights and answers of a drawn length; greedy
# choice only. Its cache has slots and no pages, and its steps are started one by one from Python,
# so that a small model waits for the host. At work: vLLM or SGLang for language models, Ray Serve
# or Kubernetes with a service mesh for replicas.

# %% [markdown] tags=["skip"]
# ## Quiz

# %% [markdown] tags=["skip"]
# {{quiz 123.2c}}

# %% [markdown] tags=["slide"]
# ## Summary
#
# - One shared queue is the bound; two choices come near it, and stand old numbers.
# - Round robin is good where all requests are alike, and only there.
# - A large fleet may be busier than a small one, for the same wait.
# - An autoscaler is late by a start-up: hold room for what may come within it.
# - Keep keys and values; let requests in and out at each step.
#
# References: each citation above leads to its source; the
# {doc}`bibliography </book/bibliography>` lists them all.
