# %% [markdown] tags=["slide"]
# (sec-122-2b)=
# # 122.2b Contextual bandits
#
# A shop shows one item to a visitor and sees whether it is clicked. What the other items would have
# brought, nobody learns. At the end of this section you can write LinUCB and Thompson sampling with
# updates in $O(d^2)$, treat rewards that come late or change, and judge a policy by the logs of another,
# with an interval that you know when to distrust.
#
# You need: linear regression, and no GPU.

# %% tags=["definitions", "hide-input", "skip"]
import matplotlib.pyplot as plt
import numpy as np

from dlcourse.datasets import credit, open_bandit
from dlcourse.notebook import claim, explore, keep, say, show_source, values_of
from dlcourse.reinforcement_learning import (
    DiscountedLinUCB,
    HybridLinUCB,
    LinearThompsonSampling,
    LinUCB,
    LinUCBReference,
    SlidingWindowLinUCB,
    doubly_robust,
    effective_sample_size,
    inverse_propensity_score,
    rank_one_update,
    self_normalized_ips,
)
from dlcourse.reinforcement_learning.bandits.ridge_arms import RidgeArms
from dlcourse.reinforcement_learning.experiments import (
    bandits_digits,
    bandits_evaluation,
    bandits_simulated,
)
from dlcourse.reinforcement_learning.experiments.bandits_intervals import (
    mean_over_seeds,
    paired_over_seeds,
)

plt.style.use("dlcourse.notebook.course")
NOT_YET = "This cell is not recorded yet."
COLOR = {
    "random": "0.6",
    "greedy": "tab:gray",
    "ε-greedy": "tab:orange",
    "LinUCB": "tab:blue",
    "Thompson": "tab:green",
    "told all": "k",
    "remembers all": "tab:blue",
    "window": "tab:purple",
    "discount": "tab:red",
    "same α": "tab:cyan",
}


def plus_minus(values, digits=3):
    """Mean and half the width of its 95 % interval, as text."""
    found = mean_over_seeds(values)
    return f"{found.mean:.{digits}f} ± {found.half:.{digits}f}"


def in_words(gap, first, second):
    """What a paired interval says of two contestants."""
    if abs(gap.mean) <= gap.half:
        return f"no order of {first} and {second} shows"
    return f"{first if gap.mean > 0 else second} has the larger value"



def inside(tables):
    """Whose setting of the least value lies inside its grid, and whose at an end."""
    ends = [kind for kind, table in tables.items() if bandits_simulated.at_an_edge(table)]
    if not ends:
        return "Every chosen setting lies inside its grid."
    return f"At an end of its grid, so perhaps not the best: {', '.join(ends)}."

# %% [markdown] tags=["slide"]
# ## A question
#
# Two arms, each with an ellipse of parameters that its data allow. The black arrow is the context that
# has come. **Which arm should be tried?** Move α, the number of widths that count, and the noise.

# %% tags=["hide-input"]
def two_arms(noise):
    """Two arms in two dimensions: one tried 60 times, the other 6 times."""
    rng = np.random.default_rng(3)
    agent = LinUCB(2, 2)
    for arm, n, theta in ((0, 60, (0.7, 0.3)), (1, 6, (0.5, 0.8))):
        x = rng.standard_normal((n, 2)) * (0.7, 0.4)
        rewards = x @ theta + noise * rng.standard_normal(n)
        agent.update_batch(x, np.full(n, arm), rewards)
    return agent


CONTEXT = np.array([0.7, 0.7])


def draw_ellipses(alpha, noise):
    agent = two_arms(noise)
    agent.alpha = alpha
    fig, (ax, bars) = plt.subplots(1, 2, figsize=(7, 3), constrained_layout=True)
    turn = np.linspace(0, 2 * np.pi, 200)
    circle = np.stack([np.cos(turn), np.sin(turn)])
    mean, width = agent.mean_and_width(CONTEXT)
    for arm, color in enumerate(("tab:blue", "tab:orange")):
        edge = agent.theta[arm][:, None] + alpha * np.linalg.cholesky(agent.inverse[arm]) @ circle
        ax.plot(*edge, color=color, label=f"arm {arm}")
        ax.plot(*agent.theta[arm], "o", color=color)
        bars.errorbar([arm], [mean[arm]], [alpha * width[arm]], fmt="o", color=color, capsize=5)
    ax.annotate("", CONTEXT, (0, 0), arrowprops={"arrowstyle": "->"})
    ax.set(xlabel="first parameter", ylabel="second parameter", xlim=(-1.5, 2.5), ylim=(-1.5, 2.5))
    ax.legend()
    bars.set(xticks=[0, 1], xlim=(-0.5, 1.5), ylim=(-1, 3), xlabel="arm", ylabel="reward of this context")
    return fig


def told_ellipses(alpha, noise):
    agent = two_arms(noise)
    agent.alpha = alpha
    upper = agent.scores(CONTEXT)
    return (
        f"Two ellipses of parameters at α {alpha} and noise {noise}; the upper bounds are "
        f"{upper[0]:.2f} and {upper[1]:.2f}: arm {int(upper.argmax())} is chosen."
    )


explore(
    draw_ellipses,
    {"alpha": [0.0, 0.5, 1.0, 2.0], "noise": [0.0, 0.3, 0.6, 1.0]},
    initial={"alpha": 1.0, "noise": 0.3},
    name="Confidence ellipses of two arms",
    alt=told_ellipses,
)

# %% [markdown] tags=["slide"]
# ## The idea
#
# Assume that the reward of arm $a$ in context $x$ is $x^\top \theta_a$ plus noise. Each arm keeps a ridge
# regression {cite:p}`li2010contextual`,
#
# $$
# A_a = \lambda I + \sum x x^\top , \qquad b_a = \sum r\, x , \qquad \hat\theta_a = A_a^{-1} b_a .
# $$ (eq-bandit-ridge)
#
# The estimate $x^\top\hat\theta_a$ may be off by a multiple of its **width** $\sqrt{x^\top A_a^{-1} x}$.
# **LinUCB** takes the arm that *could* be best,
#
# $$
# a = \operatorname*{argmax}_a \; x^\top\hat\theta_a + \alpha \sqrt{x^\top A_a^{-1} x} .
# $$ (eq-bandit-ucb)
#
# **Thompson sampling** draws parameters, $\tilde\theta_a \sim \mathcal N(\hat\theta_a, v^2 A_a^{-1})$, and
# takes the best arm of the draw {cite:p}`agrawal2013thompson`. Both explore where little is known,
# and stop exploring where much is. One observation changes $A$ by $x x^\top$, so that the inverse
# follows in $O(d^2)$ (Sherman and Morrison):
#
# $$
# (A + x x^\top)^{-1} = A^{-1} - \frac{(A^{-1}x)(A^{-1}x)^\top}{1 + x^\top A^{-1} x} .
# $$ (eq-bandit-rank-one)

# %% [markdown] tags=["skip"]
# :::{diagram} figures/2b_bandits.svg
# ---
# name: fig-bandit-loop
# alt: Above, a loop - a context goes to the estimates and widths of the arms, the best arm is
#   taken, and its reward goes back, perhaps late. Below - the log of contexts, arms, rewards and
#   propensities gives weights, and these the value of another policy.
# ---
# Learning by choosing, and judging another policy by what was logged.
# :::

# %% [markdown] tags=["skip"]
# {{exercise 122.2b.predict-width}}

# %% [markdown] tags=["slide"]
# ## Piece by piece

# %%
show_source(rank_one_update)

# %%
show_source(RidgeArms.mean_and_width)

# %%
show_source(LinUCB.scores)

# %% [markdown] tags=["skip"]
# Is the kept inverse still right after 10,000 updates? And does the fast form choose as the algorithm
# does that the paper prints?

# %% tags=["hide-input", "check"]
rng = np.random.default_rng(0)
x, arms, r = rng.standard_normal((10_000, 16)), rng.integers(0, 4, 10_000), rng.standard_normal(10_000)
ours = LinUCB(4, 16)
printed = LinUCBReference(4, 16, 1.0, 1.0)
for row in zip(x, arms, r):
    ours.update(*row)
    printed.update(*row)
worst = max(
    np.abs(ours.theta[a] - np.linalg.solve(printed.A[a], printed.b[a])).max() for a in range(4)
)
same = sum(int(ours.select(c)) == int(printed.scores(c).argmax()) for c in rng.standard_normal((400, 16)))
claim(
    "Largest difference from the exact ridge solution after 10,000 updates: {worst:.0e}. Equal choices: "
    "{same} of 400. (The tests compare with mabwiser, written by others.)",
    worst < 1e-8 and same == 400,
    worst=worst,
    same=same,
)

# %% [markdown] tags=["skip"]
# {{exercise 122.2b.learn-one}}

# %% [markdown] tags=["slide"]
# ### Thompson sampling needs one number an arm
#
# Only the score $x^\top\tilde\theta$ of a draw matters. It is normal with mean $x^\top\hat\theta$ and
# standard deviation $v\sqrt{x^\top A^{-1}x}$, so no draw in $d$ dimensions is needed.

# %%
show_source(LinearThompsonSampling.scores)

# %% [markdown] tags=["slide"]
# ### Features that arms share
#
# Items have features too. The hybrid form adds $z^\top\beta$ with one $\beta$ for all arms (Algorithm 2
# of the paper {cite:p}`li2010contextual`). It is one large ridge problem, whose blocks are eliminated arm by arm; the
# tests compare it with the large problem solved at once. An item that was never shown then has an
# estimate:

# %% tags=["hide-input", "check"]
kinds = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])  # items 0 and 2 are of one kind
hybrid, disjoint = HybridLinUCB(3, 1, 2), LinUCB(3, 1)
for t in range(200):
    hybrid.update([1.0], kinds[t % 2], t % 2, float(t % 2 == 0))
    disjoint.update([1.0], t % 2, float(t % 2 == 0))
shared, alone = hybrid.mean_and_width([1.0], kinds)[0][2], disjoint.mean_and_width([1.0])[0][2]
claim(
    "Item 2 was never shown. Item 0 of its kind always paid 1. Estimate for item 2: {shared:.2f} with "
    "shared features, {alone:.2f} without.",
    alone == 0 and shared > 0.3,
    shared=shared,
    alone=alone,
)

# %% [markdown] tags=["slide"]
# ### Details that papers leave out
#
# 1. **Ties.** At first all arms are equal. `argmax` takes arm 0; ours draws, from a seed.
# 2. **Scale.** α and $v$ have the unit of the reward. The width has none, since $A$ has the unit of
#    the context squared, and so has the ridge λ. Scale features to a size near 1;
#    λ = 1 is then weak.
# 3. **Late rewards.** `update` takes the context that was seen at the choice. Keep it with the request.
# 4. **A reward of 0 is data.** Whoever learns from clicks alone learns that everything is clicked.
# 5. **Batches.** Woodbury's identity learns $m$ rewards at once, equal to one by one.

# %% [markdown] tags=["slide"]
# ## Regret against theory
#
# **Regret** is what the best arm would have paid more, in the mean, summed over the steps. Up to
# logarithms it is at most of order $d\sqrt{T}$ for the plain optimistic algorithm with one $\theta$
# of $d$ numbers {cite:p}`abbasiyadkori2011improved`. A variant with independent batches
# {cite:p}`chu2011contextual` and Thompson sampling {cite:p}`agrawal2013thompson` have bounds with
# $\sqrt{T}$ too, also for one $\theta$. An arm's own $\theta_a$ makes it one $\theta$ of $Kd$
# numbers, so $d$ becomes $Kd$. A policy that goes on exploring at a fixed share grows like $T$ in
# the end.
#
# Ten arms, five features; α, $v$ and ε chosen from five values each, at the full length, on
# three worlds of their own.

# %% tags=["long", "hide-input"] name="regret"
curves = bandits_simulated.regret_curves()
delays = bandits_simulated.delayed_rewards(curves["settings"])
print("settings:", curves["settings"])
for kind, runs in curves["curves"].items():
    print(kind, "regret", plus_minus([r[-1] for r in runs], 0))
keep(**curves, delays=delays)

# %% card=true mystnb={"figure": {"caption": "Cumulative regret, mean of 12 worlds with 95 % bands, both axes logarithmic. Dotted: the slope of the square root.", "name": "fig-bandit-regret"}, "image": {"alt": "Curves of regret over steps on logarithmic axes, one a policy, with bands, beside a dotted line of the slope of the square root. The table below gives their ends and slopes."}} tags=["hide-input", "plot"]
REGRET = values_of("122.2b.regret", "times", "curves", "settings", "delays", "tuned")
if REGRET:
    fig, ax = plt.subplots(figsize=(6.6, 3.4))
    times = np.array(REGRET["times"])
    for kind, runs in REGRET["curves"].items():
        bands = [mean_over_seeds(column) for column in np.array(runs).T]
        middle, half = (np.array(v) for v in zip(*bands))
        ax.plot(times, middle, color=COLOR[kind], label=kind)
        ax.fill_between(times, np.maximum(middle - half, 1), middle + half, color=COLOR[kind], alpha=0.2)
    ax.plot(times, 3 * np.sqrt(times), "k:", label="√steps")
    ax.set(xscale="log", yscale="log", xlabel="steps", ylabel="regret (units of reward)")
    ax.legend(fontsize=8)
    plt.show()

# %% tags=["hide-input", "check"]
if REGRET:
    slopes = {
        kind: [bandits_simulated.slope(REGRET["times"], run) for run in runs]
        for kind, runs in REGRET["curves"].items()
    }
    final = {kind: [run[-1] for run in runs] for kind, runs in REGRET["curves"].items()}
    gap = paired_over_seeds(final["Thompson"], final["LinUCB"])
    below = {
        f"{first} minus {second}": paired_over_seeds(slopes[first], slopes[second])
        for first in ("LinUCB", "Thompson")
        for second in ("ε-greedy", "greedy")
    }
    say(
        "| policy | regret after 10,000 steps | exponent of the last decade |\n|---|---|---|\n"
        + "\n".join(f"| {k} | {plus_minus(final[k], 0)} | {plus_minus(slopes[k], 2)} |" for k in final)
    )
    claim(
        "Mean ± 95 % over {n} worlds. LinUCB and Thompson sampling have smaller exponents than "
        "ε-greedy and greedy, paired over worlds: {below}. Regret of Thompson sampling minus "
        "LinUCB's, paired: {gap:+.0f} ± {half:.0f}: {words}.",
        max(pair.mean + pair.half for pair in below.values()) < 0,
        n=len(final["LinUCB"]),
        below="; ".join(f"{k} {pair.mean:+.2f} ± {pair.half:.2f}" for k, pair in below.items()),
        gap=gap.mean,
        half=gap.half,
        words=in_words(gap, "Thompson sampling", "LinUCB"),
    )
    say(
        "Chosen: {chosen}. {words}",
        chosen=", ".join(f"{k} {v:g}" for k, v in REGRET["settings"].items()),
        words=inside(REGRET["tuned"]),
    )
    steady = REGRET["settings"]["ε-greedy"] * np.mean(final["random"])
    total = np.mean(final["ε-greedy"])
    claim(
        "ε-greedy's uniform choices cost about ε times the regret of uniform choice, {steady:.0f} "
        "of its {total:.0f}. That part grows like the steps; at 10,000 it is still the smaller. So "
        "ε-greedy's exponent must still rise, towards 1.",
        steady < total / 2,
        steady=steady,
        total=total,
    )
else:
    say(NOT_YET)

# %% [markdown] tags=["skip"]
# The exponents are no test of the bounds. Those are for the worst case; with ten fixed arms and
# contexts that are rarely near a tie, growth like $\log T$ is to be expected. Its exponent falls
# towards 0. This is one family of worlds, and three of them choose between neighbouring settings
# with little certainty.
#
# **Is greedy enough?** Contexts that vary explore by themselves: with two arms and contexts diverse
# enough, greedy's regret grows like $\log T$, and in practice greedy often does as well
# {cite:p}`bastani2021mostly`. With ten arms here it does not: an arm whose first rewards were bad
# may not be tried again.

# %% [markdown] tags=["slide"]
# ### Worlds whose items share features
#
# The hybrid form needs features of items, so it has a contest of its own: 30 items with three
# features $f_a$, and $\theta_a = \sqrt{s}\, M f_a + \sqrt{1 - s}\, u_a$, where $u_a$ is a direction
# of the item's own. At $s = 1$ the features say all of an item, at $s = 0$ nothing. The hybrid form
# gets $z = x \otimes f_a$; the others see $x$ only, from which each $\theta_a$ can be learned too.
# 3,000 steps, five settings each, tuned anew for each $s$ on three other worlds.

# %% tags=["long", "hide-input"] name="shared"
shared_worlds = bandits_simulated.shared_features()
for share, kinds_of in shared_worlds["regret"].items():
    print(share, *(f"{kind} {plus_minus(ends, 0)}" for kind, ends in kinds_of.items()))
keep(**shared_worlds)

# %% tags=["hide-input", "check"]
SHARED = values_of("122.2b.shared", "regret", "settings", "tuned")
if SHARED:
    names = list(bandits_simulated.ITEM_GRIDS)
    lines = ["| s | " + " | ".join(names) + " | hybrid − LinUCB, paired |", "|---" * 6 + "|"]
    lead = {}
    for share, ends in sorted(SHARED["regret"].items()):
        lead[share] = paired_over_seeds(ends["hybrid"], ends["LinUCB"])
        cells = " | ".join(plus_minus(ends[k], 0) for k in names)
        lines.append(f"| {share} | {cells} | {lead[share].mean:+.0f} ± {lead[share].half:.0f} |")
    edges = inside({
        f"{kind} at s = {share}": table
        for share, tables in sorted(SHARED["tuned"].items())
        for kind, table in tables.items()
    })  # fmt: skip
    say("\n".join(lines) + f"\n\nRegret after 3,000 steps, mean ± 95 % over 12 worlds. {edges}")
    shares = {share: ends for share, ends in SHARED["regret"].items() if float(share) >= 0.5}
    claim(
        "With s of 0.5 and more the hybrid form has less regret than each of the others: all "
        "paired intervals lie below 0. At s = 1 its mean is {part:.0%} of LinUCB's. At s = 0, "
        "where its shared features say nothing, {words}.",
        all(
            (gap := paired_over_seeds(ends["hybrid"], ends[k])).mean + gap.half < 0
            for ends in shares.values()
            for k in names
            if k != "hybrid"
        ),
        part=np.mean(shares["1.0"]["hybrid"]) / np.mean(shares["1.0"]["LinUCB"]),
        words=in_words(lead["0.0"], "the hybrid form", "LinUCB"),
    )
else:
    say(NOT_YET)

# %% [markdown] tags=["slide"]
# ### Late and batched rewards

# %% tags=["hide-input", "check"]
if REGRET:
    late = REGRET["delays"]
    ways = {"delay": "late", "batch": "batched"}
    heads = [f"{k} {name}" for k in late for name in ways.values()]
    lines = ["| steps late, or in a batch | " + " | ".join(heads) + " |", "|---" * 5 + "|"]
    for size in late["LinUCB"]["delay"]:
        cells = [plus_minus(late[k][w][size], 0) for k in late for w in ways]
        name = "0 late, or a batch of 1" if size == "0" else size
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    say("\n".join(lines) + "\n\nRegret after 3,000 steps, ± 95 % over 10 worlds.")
    lines = ["| what is added | LinUCB | Thompson | LinUCB − Thompson, paired | |"]
    lines.append("|---" * 5 + "|")
    costs = []
    for way, name in ways.items():
        for size in [s for s in late["LinUCB"][way] if s != "0"]:
            ends = [(late[k][way][size], late[k][way]["0"]) for k in ("LinUCB", "Thompson")]
            extra = [np.subtract(*pair) for pair in ends]
            pair = paired_over_seeds(*extra)
            costs.append((size, *map(mean_over_seeds, extra)))
            lines.append(
                f"| {size} {name} | {plus_minus(extra[0], 0)} | {plus_minus(extra[1], 0)} | "
                f"{pair.mean:+.1f} ± {pair.half:.1f} | "
                + ("no difference in robustness shows" if abs(pair.mean) <= pair.half
                   else f"{'Thompson sampling' if pair.mean > 0 else 'LinUCB'} loses less")
                + " |"
            )  # fmt: skip
    say("\n".join(lines))
    claim(
        "Rewards that are 100 steps late or more, or come in batches of 100 or more, cost both: "
        "these intervals lie above 0. Of {n} paired intervals at 95 %, one may miss 0 by chance. "
        "Thompson sampling is said to bear delays better, because it draws anew where LinUCB "
        "repeats its choice. LinUCB repeats it in equal contexts, and here no two are equal.",
        min(c.mean - c.half for size, *pair in costs if size != "10" for c in pair) > 0,
        n=len(costs),
    )
else:
    say(NOT_YET)

# %% [markdown] tags=["slide"]
# ### Rewards that change
#
# LinUCB remembers everything, also what is no longer true. Over a **sliding window** the oldest
# observation is taken away by {eq}`eq-bandit-rank-one` with the sign turned
# {cite:p}`cheung2019learning`. Or each observation weighs $\gamma$ times less at every later step,
# a **discount** {cite:p}`russac2019weighted`; with unequal weights the width is
# $\sqrt{x^\top A^{-1} \tilde A A^{-1} x}$, where $\tilde A$ has the squared weights. All parameters
# are drawn anew every 3,000 steps. (The first proofs of both forms have a gap; mended, the bound
# is of order $T^{3/4}$ in place of $T^{2/3}$ {cite:p}`zhao2021simple`.)

# %%
show_source(SlidingWindowLinUCB.update)

# %%
show_source(DiscountedLinUCB.update)

# %% tags=["long", "hide-input"] name="drift"
drift = bandits_simulated.drifting()
for world, forms in drift["curves"].items():
    for form, runs in forms.items():
        print(world, form, "regret", plus_minus([r[-1] for r in runs], 0))
keep(**drift)

# %% mystnb={"figure": {"caption": "Regret where the rewards change twice (left) and where they stay (right), 12 worlds, 95 % bands.", "name": "fig-bandit-drift"}, "image": {"alt": "Two plots of regret over steps with bands, left where rewards change, right where they stay. Each has a curve for remembering all, for the window and for the discount, the right one also for remembering all with the window's α; the text below compares their ends."}} tags=["hide-input", "plot"]
DRIFT = values_of("122.2b.drift", "times", "curves", "settings", "tuned")
if DRIFT:
    fig, axes = plt.subplots(1, 2, figsize=(7.2, 2.9), constrained_layout=True)
    for ax, world in zip(axes, ("changes", "stays")):
        for form, runs in DRIFT["curves"][world].items():
            middle, half = (np.array(v) for v in zip(*[mean_over_seeds(c) for c in np.array(runs).T]))
            ax.plot(DRIFT["times"], middle, color=COLOR[form], label=form)
            ax.fill_between(DRIFT["times"], middle - half, middle + half, color=COLOR[form], alpha=0.2)
        ax.set(xlabel="steps", ylabel="regret (units of reward)", title=f"the world {world}")
    axes[1].legend(fontsize=8)
    plt.show()

# %% tags=["hide-input", "check"]
if DRIFT:
    end = {w: {f: [r[-1] for r in runs] for f, runs in forms.items()} for w, forms in DRIFT["curves"].items()}
    setting = DRIFT["settings"]
    say(
        "| form | setting | the world changes | the world stays |\n|---|---|---|---|\n"
        + "\n".join(
            f"| {form} | {', '.join(setting.get(form, setting['window'][:1]))} | "
            + (plus_minus(end["changes"][form], 0) if form in end["changes"] else "–")
            + f" | {plus_minus(end['stays'][form], 0)} |"
            for form in end["stays"]
        )
        + "\n\nRegret after 9,000 steps, mean ± 95 % over 12 worlds. Settings: α, and the window "
        "or 1 / (1 − γ). Each form had {n} of them, on three changing worlds of their own. {words}",
        n=len(DRIFT["tuned"]["window"]),
        words=inside(DRIFT["tuned"]),
    )
    gain = {f: paired_over_seeds(end["changes"][f], end["changes"]["remembers all"])
            for f in ("window", "discount")}  # fmt: skip
    price = paired_over_seeds(end["stays"]["window"], end["stays"]["same α"])
    between = paired_over_seeds(end["changes"]["window"], end["changes"]["discount"])
    claim(
        "Where the world changes, the window's regret minus that of remembering all is {a:+.0f} ± "
        "{ah:.0f}, the discount's {b:+.0f} ± {bh:.0f} (paired). Window minus discount: {c:+.0f} ± "
        "{ch:.0f}: {words}. Where nothing changes, the window has {d:+.0f} ± {dh:.0f} beside "
        "remembering all with the same α: forgetting has a price there. Window minus discount "
        "there: {e:+.0f} ± {eh:.0f}.",
        max(g.mean + g.half for g in gain.values()) < 0 < price.mean - price.half,
        a=gain["window"].mean, ah=gain["window"].half,
        b=gain["discount"].mean, bh=gain["discount"].half,
        c=between.mean, ch=between.half, words=in_words(between, "the window", "the discount"),
        d=price.mean, dh=price.half,
        e=(still := paired_over_seeds(end["stays"]["window"], end["stays"]["discount"])).mean,
        eh=still.half,
    )  # fmt: skip
else:
    say(NOT_YET)

# %% [markdown] tags=["slide"]
# ## Digits as a bandit
#
# A real picture comes; name the digit, and learn only "right" or "wrong". Settings were chosen on
# 600 other digits, so at half the length that is reported; a longer run may want more exploration.
# Reported are 20 orders of the remaining 1,197 digits: ± is over orders and holds the data fixed.
# "Told all" learns every arm's reward: the same model without the bandit's problem.

# %% tags=["long", "hide-input"] name="digits"
digits = bandits_digits.contest()
print("settings:", digits["settings"])
for kind, scores in digits["scores"].items():
    print(kind, "mean reward", plus_minus(scores))
keep(**digits)

# %% tags=["hide-input", "check"]
DIGITS = values_of("122.2b.digits", "scores", "late", "alphas", "settings", "tuned")
if DIGITS:
    scores, late = DIGITS["scores"], DIGITS["late"]
    say(
        "| policy | setting | mean reward | last 300 steps |\n|---|---|---|---|\n"
        + "\n".join(
            f"| {k} | {DIGITS['settings'].get(k, '–')} | {plus_minus(scores[k])} | {plus_minus(late[k])} |"
            for k in scores
        )
        + "\n\nLinUCB's mean reward by α: "
        + "; ".join(f"{a}: {plus_minus(v)}" for a, v in DIGITS["alphas"].items())
        + " (for the curious; α was not chosen by these)."
    )
    gap = paired_over_seeds(scores["LinUCB"], scores["Thompson"])
    cost = paired_over_seeds(scores["told all"], scores["LinUCB"])
    claim(
        "LinUCB minus Thompson sampling: {gap:+.3f} ± {half:.3f}: {words}. Being told all is worth "
        "{cost:.3f} ± {cost_half:.3f} over LinUCB.",
        cost.mean - cost.half > 0,
        gap=gap.mean,
        half=gap.half,
        words=in_words(gap, "LinUCB", "Thompson sampling"),
        cost=cost.mean,
        cost_half=cost.half,
    )
    say(
        "Each kind had {n} settings. {words}",
        n=len(DIGITS["tuned"]["LinUCB"]),
        words=inside({k: {v: -r for v, r in t.items()} for k, t in DIGITS["tuned"].items()}),
    )
else:
    say(NOT_YET)

# %% [markdown] tags=["slide"]
# ## Judging a policy by another's log
#
# Trying a policy costs customers. A log holds, for each choice, the reward $r$ and the **propensity**
# $p$, the probability with which the arm was chosen. A policy that would take it with probability $\pi$
# gets the weight $w = \pi/p$:
#
# $$
# \hat V_{\text{IPS}} = \frac1n \sum w\, r , \qquad
# \hat V_{\text{SNIPS}} = \frac{\sum w\, r}{\sum w} , \qquad
# \hat V_{\text{DR}} = \frac1n \sum \bigl[ \hat q(x, \pi) + w\, (r - \hat q(x, a)) \bigr] .
# $$ (eq-bandit-ope)
#
# SNIPS divides by the weights' sum {cite:p}`swaminathan2015selfnormalized`: its bias is of order
# $1/n$, so that more rows remove it, and its variance is often less. DR, doubly robust, starts from
# a model $\hat q$ and corrects its errors: it has no bias if the propensities are right, or the model is
# {cite:p}`dudik2011doubly`. Clipping caps $w$: less variance, some bias. SWITCH takes the model
# alone where $w$ is large {cite:p}`wang2017optimal`.

# %% [markdown] tags=["skip"]
# {{exercise 122.2b.corrected-value}}

# %% [markdown] tags=["slide"]
# ### Against a truth that is known
#
# 2,000 logs of 1,000 rows each, from policies ever farther from the target. The model ignores the context,
# so it is wrong.

# %% tags=["long", "hide-input"] name="evaluation"
study = bandits_evaluation.study()
for distance, row in study["distance"].items():
    print(distance, *(f"{n} {row[n]['rmse']:.3f}" for n in bandits_evaluation.ESTIMATORS))
keep(**study)

# %% tags=["hide-input", "check"]
STUDY = values_of("122.2b.evaluation", "distance", "rate")
if STUDY:
    names = bandits_evaluation.ESTIMATORS
    lines = ["| effective rows | " + " | ".join(names) + " |", "|---" * 6 + "|"]
    for row in STUDY["distance"].values():
        cells = [f"{row[n]['bias']:+.3f}, {row[n]['sd']:.3f}, {row[n]['coverage']:.0%}" for n in names]
        lines.append(f"| {row['effective']:.0%} | " + " | ".join(cells) + " |")
    say("\n".join(lines) + "\n\nBias, standard deviation, and how often the 95 % interval holds the truth.")
    rows = list(STUDY["distance"].values())
    far = rows[-1]
    claim(
        "IPS, SNIPS and DR show no bias (within 4 standard errors in each row). At the farthest policy "
        "SNIPS has a standard deviation of {snips:.3f}, IPS {ips:.3f} and DR {dr:.3f}. The model alone and "
        "clipped IPS (at {clip:g}) have the least variance there, and intervals that miss the truth: their bias "
        "does not shrink with more rows. The model's interval has a second fault. It counts the spread of the "
        "predictions only, and not that the model itself was estimated: with equal policies the model shows no "
        "bias, and the interval holds the truth in {same:.0%} of the logs.",
        all(abs(r[n]["bias"]) < 4 * r[n]["bias_error"] for r in rows for n in ("IPS", "SNIPS", "DR"))
        and max(far["model"]["sd"], far["clipped IPS"]["sd"]) < min(far[n]["sd"] for n in ("IPS", "SNIPS", "DR"))
        and max(far["model"]["coverage"], far["clipped IPS"]["coverage"]) < 0.5
        and abs(rows[0]["model"]["bias"]) < 4 * rows[0]["model"]["bias_error"]
        and rows[0]["model"]["coverage"] < 0.5,
        same=rows[0]["model"]["coverage"],
        snips=far["SNIPS"]["sd"], ips=far["IPS"]["sd"], dr=far["DR"]["sd"], clip=bandits_evaluation.CLIP,
    )  # fmt: skip
else:
    say(NOT_YET)

# %% mystnb={"figure": {"caption": "How often the normal 95 % interval of IPS holds the truth, by the mean number of clicks in a log of 1,000 rows. Dotted: 95 %.", "name": "fig-bandit-coverage"}, "image": {"alt": "Coverage of the interval over the mean clicks in a log, on a logarithmic axis, beside a dotted line at the promised share."}} tags=["hide-input", "plot"]
if STUDY:
    fig, ax = plt.subplots(figsize=(5.6, 2.7))
    rates = STUDY["rate"].values()
    ax.plot([r["clicks"] for r in rates], [r["IPS"]["coverage"] for r in rates], "o-")
    ax.axhline(0.95, color="k", ls=":", lw=1)
    ax.set(xscale="log", xlabel="clicks in a log", ylabel="coverage (share of logs)", ylim=(0.5, 1))
    plt.show()

# %% tags=["hide-input", "check"]
if STUDY:
    few = next(iter(STUDY["rate"].values()))
    claim(
        "With {clicks:.1f} clicks a log the interval holds the truth in {cover:.0%} of the cases: many logs "
        "have no click at all, and an interval of width zero.",
        few["IPS"]["coverage"] < 0.8,
        clicks=few["clicks"],
        cover=few["IPS"]["coverage"],
    )

# %% [markdown] tags=["slide"]
# ### A log of your own
#
# `probabilities` gives Thompson sampling's chance of each arm. A tenth of uniform choice bounds the
# weights. **Log the probability with the choice, before the update**: afterwards it is another.

# %%
def thompsons_log(rng, steps=250, arms=4):
    """A learning policy's log, and the true value of another policy, of fixed preferences."""
    theta, favourite = rng.standard_normal((2, arms, 3))
    agent, rows, truth = LinearThompsonSampling(arms, 3, 0.5, seed=rng), [], []
    for x in rng.standard_normal((steps, 3)):
        p = 0.9 * agent.probabilities(x) + 0.1 / arms
        arm = rng.choice(arms, p=p)
        reward = theta[arm] @ x + 0.5 * rng.standard_normal()
        agent.update(x, arm, reward)
        after = 0.9 * agent.probabilities(x)[arm] + 0.1 / arms
        pi = np.full(arms, 0.1 / arms)
        pi[(favourite @ x).argmax()] += 0.9  # the other policy
        rows.append((reward, p[arm], pi[arm], after))
        truth.append(pi @ theta @ x)
    return np.array(rows).T, np.mean(truth)


# %% tags=["hide-input", "check"]
logs = [thompsons_log(np.random.default_rng([1226, seed])) for seed in range(20)]
errors = [inverse_propensity_score(r, p, pi).value - truth for (r, p, pi, _), truth in logs]
wrong = [inverse_propensity_score(r, q, pi).value - truth for (r, _, pi, q), truth in logs]
right, off = mean_over_seeds(errors), paired_over_seeds(wrong, errors)
claim(
    "IPS of the other policy minus its true value, over {n} logs of 250 choices: {bias:+.3f} ± "
    "{half:.3f}, no bias shows. With the probability after the update the estimate moves by "
    "{off:+.3f} ± {off_half:.3f}: a good reward has raised its arm's probability, and so lowers "
    "its own weight.",
    abs(right.mean) < right.half and off.mean + off.half < 0,
    n=len(logs), bias=right.mean, half=right.half, off=off.mean, off_half=off.half,
)  # fmt: skip

# %% [markdown] tags=["slide"]
# ### Real logs
#
# Open Bandit {cite:p}`saito2021open`: a fashion shop logged two policies, a uniform one and Thompson
# sampling ("bts"), 10,000 rows of each in three campaigns. Both logs have propensities. Those of
# Thompson sampling are Monte Carlo estimates, simulated from the policy's parameters. The data are
# made for this question: what does one policy's log say about the other policy, and what did that
# one bring itself?

# %% tags=["hide-input", "check"]
found = {c: bandits_evaluation.open_bandit_estimates(c) for c in ("all", "men", "women")}
lines = ["| campaign | direction | clicks in the log | effective rows | largest weight | IPS (‰) | SNIPS (‰) | DR (‰) | itself (‰) |"]
lines.append("|---" * 9 + "|")
for campaign, ways in found.items():
    for way, row in ways.items():
        cells = [f"{1e3 * row[n][0]:.1f} [{1e3 * row[n][2]:.1f}, {1e3 * row[n][3]:.1f}]" for n in ("IPS", "SNIPS", "DR", "own")]
        lines.append(
            f"| {campaign} | {way} | {row['clicks']} | {row['IPS'][4]:,.0f} | {row['largest_weight']:,.0f} | "
            + " | ".join(cells) + " |"
        )  # fmt: skip
say("\n".join(lines) + "\n\nClick rates with 95 % intervals. " + credit("open-bandit"))
ahead = {c: bandits_evaluation.own_difference(c) for c in found}
claim(
    "Click rates of the policies themselves, bts minus uniform (‰), rows taken as independent: "
    "{gaps}. In *all* and *women* their intervals overlap widely. In *men* bts is ahead, and 0 "
    "lies outside the interval.",
    all(abs(ahead[c].mean) < ahead[c].half / 2 for c in ("all", "women"))
    and ahead["men"].mean > ahead["men"].half,
    gaps="; ".join(f"*{c}* {1e3 * g.mean:+.1f} ± {1e3 * g.half:.1f}" for c, g in ahead.items()),
)

# %% tags=["hide-input", "check"]
worst = found["women"]["uniform from bts"]
grid = {c: bandits_evaluation.propensity_grid(c) for c in found}
odd = grid["women"]
claim(
    "In the campaign *women* one row of {n:,} has a weight of {weight:,.0f}: 10,000 rows are worth "
    "{effective:.1f}. With weights of at most 100 they are worth {clipped:,.0f}. That row (number "
    "{row:,}: item {item}, in the {place}) has a propensity of {least:g}. The next smallest is "
    "{second:g}, and the other {others} rows of the item at this position have {same:g} or more. "
    "Of all {rows:,} propensities of bts, {on:.2%} are multiples of 0.000005, as shares of 200,000 "
    "draws are. Off this grid are {equal} rows with one over the number of items, and this row. So "
    "its propensity looks like a floor for \"never drawn\", and the weight like an artefact of the "
    "simulation.",
    worst["IPS"][4] < 10 < worst["clips"][2][4]
    and sum(g["on"] for g in grid.values()) == 29_995
    and sum(g["equal"] for g in grid.values()) == 4
    and odd["on"] + odd["equal"] == 9_999
    and odd["least"] < 5e-6 < 100 * odd["least"] < odd["second"] < odd["same"],
    n=10_000,
    weight=worst["largest_weight"],
    effective=worst["IPS"][4],
    clipped=worst["clips"][2][4],
    rows=sum(g["rows"] for g in grid.values()),
    on=sum(g["on"] for g in grid.values()) / sum(g["rows"] for g in grid.values()),
    equal=sum(g["equal"] for g in grid.values()),
    place=("left", "middle", "right")[odd["position"]],
    **{k: odd[k] for k in ("row", "item", "least", "second", "others", "same")},
)

# %% [markdown] tags=["skip"]
# "bts from random" uses shares of the other log as Thompson sampling's probabilities, so they are
# estimated. Intervals treat rows as independent, though three rows come from one page. Move the clip:

# %% tags=["hide-input"]
CLIP_LABELS = ["none" if c is None else f"{c:g}" for c in bandits_evaluation.CLIPS]


def draw_clips(campaign, clip):
    row = found[campaign]["uniform from bts"]
    fig, ax = plt.subplots(figsize=(5.6, 2.8))
    values = np.array(row["clips"]) * 1e3
    k = CLIP_LABELS.index(clip)
    for i, v in enumerate(values):
        ax.errorbar(i, v[0], v[0] - v[2], fmt="o", capsize=3, color="tab:red" if i == k else "0.6")
    ax.axhspan(1e3 * row["own"][2], 1e3 * row["own"][3], color="tab:green", alpha=0.2)
    ax.set_xticks(range(len(CLIP_LABELS)), CLIP_LABELS)
    ax.set(xlabel="largest weight", ylabel="clicks (‰)", title=f"effective rows: {row['clips'][k][4]:,.0f}")
    return fig


explore(
    draw_clips,
    {"campaign": ["all", "men", "women"], "clip": CLIP_LABELS},
    initial={"campaign": "women", "clip": "none"},
    name="Clipping real weights",
    alt=lambda campaign, clip: (
        f"Estimated click rate of the uniform policy in {campaign} by the largest weight, {clip} marked; "
        "the intervals shrink and move down as the clip falls. Green: its own click rate."
    ),
)

# %% [markdown] tags=["skip"]
# {{exercise 122.2b.effective-rows}}

# %% [markdown] tags=["slide"]
# ## What experts expect
#
# - **Thompson or UCB?** Thompson sampling was found robust to delays {cite:p}`chapelle2011thompson`, and
#   it gives propensities that are neither 0 nor 1. The tables above say what held here, by pairs.
# - **Log propensities** when the choice is made, as in the cell above. A deterministic policy gives
#   none: mix in a little uniform choice.
# - **NeuralUCB** {cite:p}`zhou2020neural` takes the gradient of a network as features of the same width.
#   At work, often only the last layer is linear and Bayesian.
# - **Few clicks.** A normal interval needs dozens of them; look at the effective rows too. Better
#   for 40 clicks: a bootstrap that draws whole pages, since rows of one page belong together.
# - **Many arms.** MIPS weighs features of the items in place of the items {cite:p}`saito2022large`:
#   smaller weights, and no bias if the features carry all of an item's effect.
# - **Slates.** A page of items has too many arms; estimators that assume additive rewards weigh each
#   position {cite:p}`swaminathan2017slate`.
#
# ## At scale, and limits
#
# A choice reads $K d^2$ numbers: 100,000 arms of 64 features are 3.3 GB. Then choose candidates first, or
# share parameters. `benchmarks/reinforcement_learning.py` measures ours beside mabwiser. What this page
# does not show: wide or nonlinear contexts, users who change because of what they see (section 122.2a's
# subject), and which policy is best in your shop. At work: mabwiser, Vowpal Wabbit, obp.

# %% [markdown] tags=["slide"]
# ## Slips that still run
#
# The chapter began with a short listing of LinUCB. Its formula is right. It inverts each matrix twice a
# choice, fixes α at 1.5 and the ridge at 1, and checks nothing. The {doc}`errata </book/errata>` list its
# slips, each with a test. One NaN is enough:

# %% tags=["nbval-check-output"]
A, b = [np.eye(2) for _ in range(3)], [np.zeros(2) for _ in range(3)]
b[0] += np.nan * np.ones(2)  # one reward got lost on its way
scores = [np.linalg.inv(m) @ v @ np.ones(2) for m, v in zip(A, b)]
print("chosen from now on:", np.argmax(scores))
try:
    LinUCB(3, 2).update(np.ones(2), 0, np.nan)
except ValueError as error:
    print("ours:", error)

# %% [markdown] tags=["skip"]
# ## Quiz

# %% [markdown] tags=["skip"]
# {{quiz 122.2b}}

# %% [markdown] tags=["slide"]
# ## Summary
#
# - A bandit sees the reward of the chosen arm only, so it must explore; width says where.
# - Keep the inverse: an observation costs $O(d^2)$, and stays exact.
# - A window or a discount forgets what is no longer true; a window pays where nothing changes.
# - Features that items share spare regret where they say something of the items.
# - Log the propensity. IPS, SNIPS and DR judge other policies; clipping and models bring bias.
# - Look at effective rows and clicks before you believe an interval.
#
# References: each citation above leads to its source; the
# {doc}`bibliography </book/bibliography>` lists them all.
