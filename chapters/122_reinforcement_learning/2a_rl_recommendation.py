# %% [markdown] tags=["slide"]
# (sec-122-2a)=
# # 122.2a Recommendation by reinforcement learning
#
# A recommender that counts minutes learns to show what holds people *now*. Whether they are glad
# tomorrow is another question. At the end of this section you can write down a user as a Markov decision
# process, compute the best possible policy exactly, train a discrete soft actor-critic with a mask for
# items already shown, and say how far from the optimum it is.
#
# You need: expectations, a neural network in PyTorch, and no GPU.

# %% tags=["definitions", "hide-input", "skip"]
import itertools
import statistics

import matplotlib.pyplot as plt
import numpy as np
import torch

from dlcourse.notebook import claim, explore, keep, say, show_source, values_of
from dlcourse.reinforcement_learning import (
    DiscreteSAC,
    Recommender,
    UserModel,
    best_slate,
    critic_target,
    masked_log_policy,
    optimal_values,
    slate_value,
    soft_value,
)
from dlcourse.reinforcement_learning.experiments import rl_recommendation_contest as runs

plt.style.use("dlcourse.notebook.course")
NOT_YET = "This cell is not recorded yet."
ITEMS = ["kale", "c = ¼", "c = ½", "c = ¾", "clickbait"]
COLOR = {
    "optimum": "k",
    "always kale": "tab:green",
    "always clickbait": "tab:red",
    "learned, latent": "tab:blue",
    "learned, history": "tab:purple",
    "most popular": "tab:red",
    "greedy": "tab:orange",
}


def spread(values, digits=0):
    """Mean ± standard deviation over seeds, as text."""
    mean, sd = statistics.mean(values), statistics.stdev(values)
    return f"{mean:,.{digits}f} ± {sd:.{digits}f}"


# %% [markdown] tags=["slide"]
# ## A question
#
# There are two kinds of items. **Clickbait** holds a user longer than **kale** at the same mood, but a diet
# of it spoils the mood. Here is a session of 60 items, for a user who always gets the one, always the
# other, or what is best. **Which item would you show first, and which last?**

# %% tags=["hide-input", "skip"]
def session(user, items_at):
    """Mean path without random shocks: minutes and satisfaction at each step."""
    z, minutes, satisfaction, shown = torch.zeros(1, dtype=torch.float64), [], [], []
    scores = torch.linspace(0, 1, 5, dtype=torch.float64)
    for t in range(user.horizon):
        item = int(items_at(t, z))
        satisfaction.append(user.satisfaction(z).item())
        minutes.append(user.expected_engagement(z, scores[item]).item())
        shown.append(item)
        z = user.next_exposure(z, scores[item])
    return minutes, satisfaction, shown


USER = UserModel(sensitivity=0.1)
PLAN = optimal_values(USER)
PATHS = {
    "optimum": session(USER, lambda t, z: PLAN.act(t, z.numpy())[0]),
    "always kale": session(USER, lambda t, z: 0),
    "always clickbait": session(USER, lambda t, z: 4),
}

# %% card=true mystnb={"figure": {"caption": "A session of 60 items, mean path. Left: expected minutes of each item; right: the user's satisfaction.", "name": "fig-rr-question"}, "image": {"alt": "Two plots over 60 steps. Always clickbait starts with the most minutes and falls at once below the others, as its satisfaction falls. Always kale rises. The optimum is a saw: satisfaction climbs for several steps of kale, then one clickbait gives a high peak of minutes and satisfaction drops; the session ends with clickbait."}} tags=["hide-input", "plot"]
fig, (left, right) = plt.subplots(1, 2, figsize=(7.4, 2.8), constrained_layout=True)
for name, (minutes, satisfaction, _) in PATHS.items():
    left.plot(minutes, color=COLOR[name], label=name)
    right.plot(satisfaction, color=COLOR[name])
left.set(xlabel="step of the session", ylabel="expected minutes")
right.set(xlabel="step of the session", ylabel="satisfaction")
left.legend(fontsize=7, frameon=True, loc="center", framealpha=0.9)
plt.show()

# %% tags=["hide-input", "check"]
totals = {name: sum(path[0]) for name, path in PATHS.items()}
shown = PATHS["optimum"][2]
claim(
    "Clickbait gives {now:.1f} minutes at once, kale {later:.1f}; over the session clickbait gives "
    "{bait:.0f}, kale {kale:.0f}, the best plan {best:.0f} (mean path). The best plan ends with {end} and "
    "shows, in the middle of the session, {middle}.",
    PATHS["always clickbait"][0][0] > PATHS["always kale"][0][0]
    and totals["always clickbait"] < totals["always kale"] < totals["optimum"]
    and shown[-1] == 4,
    now=PATHS["always clickbait"][0][0],
    later=PATHS["always kale"][0][0],
    bait=totals["always clickbait"],
    kale=totals["always kale"],
    best=totals["optimum"],
    end=ITEMS[shown[-1]],
    middle=" and ".join(ITEMS[k] for k in sorted(set(shown[20:40]))),
)

# %% [markdown] tags=["slide"]
# ## The idea
#
# The user follows the model *Choc/Kale* of RecSim {cite:p}`ie2019recsim`, in our own code and
# with the deviations listed below. An item has a clickbait score $c \in [0, 1]$; kale is $c = 0$.
# What the user was shown adds up in an **exposure** $z$ that fades. From it come the
# **satisfaction** $s$ and the minutes $e$ of an item:
#
# $$
# \begin{aligned}
# s_t &= \sigma(\eta z_t), \qquad
# e_t \sim \operatorname{LogNormal}\bigl(s_t\,(5c_t + 4(1 - c_t)),\; 1\bigr), \\
# z_{t+1} &= 0.7\, z_t + (1 - 2c_t) + \varepsilon_t .
# \end{aligned}
# $$ (eq-rr-user)
#
# $\eta$ is the **sensitivity**. A **greedy** policy takes the $c$ with the largest $\mathbb E\, e_t$,
# which is always clickbait. A **planning** policy also counts what the item does to $z$. For a session of
# $T = 60$ items the best expected sum $V_t(z)$ obeys Bellman's equation {cite:p}`bellman1957dynamic`,
#
# $$
# V_t(z) = \max_c \; \bigl( \mathbb E\, e(z, c) + \mathbb E\, V_{t+1}(z') \bigr), \qquad V_T = 0 .
# $$ (eq-rr-bellman)
#
# The state is one number, so we can solve this on a grid, from the end backwards. **So we know what is
# possible**, which real recommenders never do.
#
# Where our user differs from RecSim's:
#
# | | RecSim | here |
# |---|---|---|
# | exposure at the start | uniform on ±1.67 | 0 |
# | items | scores drawn uniformly from (0, 1) | five fixed scores, 0 to 1 |
# | the user's exposure | never observed | seen by the policies that say so |
# | sensitivity $\eta$ | 0.01 by default | 0.1 in the experiment |
# | minutes as an observation | clipped at 100, the reward is not | not observed, and not clipped |
#
# A real system does not know {eq}`eq-rr-user`. It sees what it showed and how many minutes followed.
# **Reinforcement learning** estimates the right side of {eq}`eq-rr-bellman` from such transitions.

# %% [markdown] tags=["skip"]
# :::{diagram} figures/2a_rl_recommendation.svg
# ---
# name: fig-rr-system
# alt: The user has a hidden exposure, which makes satisfaction and minutes. A policy sees the exposure, or
#   only what was shown, and shows an item that the mask allows. Transitions go to a replay buffer. Two
#   critics learn from it towards the minutes plus the discounted soft value, and the policy learns from the
#   critics by an exact sum over all items.
# ---
# User, policy, mask, and what learns from what.
# :::

# %% [markdown] tags=["skip"]
# {{exercise 122.2a.predict-kale}}

# %% [markdown] tags=["slide"]
# ## What is possible, and when nothing is to be gained
#
# Move the sensitivity. Left: the best item, halfway through a session, for each exposure. Right: the exact
# expected minutes of a session.

# %% tags=["hide-input"]
SENSITIVITIES = (0.01, 0.03, 0.05, 0.1, 0.2, 0.3)
EXACT = {}
for eta in SENSITIVITIES:
    user = UserModel(sensitivity=eta)
    best = optimal_values(user, points=401)
    EXACT[eta] = best, best.start, *(optimal_values(user, only=k, points=401).start for k in (0, 4))


def draw_exact(sensitivity):
    """The best item by exposure, and three sessions' minutes."""
    plan, *minutes = EXACT[sensitivity]
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.8), constrained_layout=True)
    left.step(plan.grid, plan.best[30], "k", where="mid")
    left.set(xlabel="exposure z", ylabel="best item", ylim=(-0.3, 4.3))
    left.set_yticks(range(5), ITEMS)
    names = ("optimum", "always kale", "always clickbait")
    right.barh(names, minutes, color=[COLOR[name] for name in names])
    right.set(xlabel="expected minutes of a session", xlim=(0, 2000))
    return fig


def tell_exact(sensitivity):
    plan, best, kale, bait = EXACT[sensitivity]
    return (
        f"Sensitivity {sensitivity}: the optimum gives {best:.0f} minutes, always kale {kale:.0f}, always "
        f"clickbait {bait:.0f}. The best items halfway are "
        + ", ".join(ITEMS[k] for k in sorted(set(plan.best[30].tolist())))
    )


explore(
    draw_exact,
    {"sensitivity": list(SENSITIVITIES)},
    initial={"sensitivity": 0.1},
    name="Best policy by sensitivity",
    alt=tell_exact,
)

# %% tags=["hide-input", "check"]
default, middle = EXACT[0.01], EXACT[0.1]
claim(
    "At RecSim's default sensitivity of 0.01 the greedy policy is already optimal: clickbait gives "
    "{bait:.1f} of {best:.1f} possible minutes. **A contest there can't tell planning from greed.** At 0.1 "
    "the optimum is {best1:.0f}, always clickbait {bait1:.0f}, always kale {kale1:.0f}. We use 0.1 from here.",
    abs(default[1] - default[3]) < 1e-6 and middle[3] < middle[2] < middle[1],
    bait=default[3],
    best=default[1],
    best1=middle[1],
    bait1=middle[3],
    kale1=middle[2],
)

# %% [markdown] tags=["slide"]
# ## Piece by piece
#
# ### The exact answer
#
# The expectation over $\varepsilon$ is a quadrature with five points.

# %%
show_source(optimal_values)

# %% [markdown] tags=["skip"]
# Does it tell the truth? Without shocks one can try all sequences of a short session:

# %% tags=["hide-input", "check"]
def by_enumeration(user):
    """The best total over all sequences of two items."""
    best = 0.0
    for scores in itertools.product((0.0, 1.0), repeat=user.horizon):
        z, total = torch.zeros((), dtype=torch.float64), 0.0
        for c in scores:
            total += user.expected_engagement(z, c).item()
            z = user.next_exposure(z, c)
        best = max(best, total)
    return best


short = UserModel(sensitivity=0.1, innovation=0.0, horizon=6)
listed, planned = by_enumeration(short), optimal_values(short, (0.0, 1.0), points=4001).start
claim(
    "All 64 sequences of six items: the best gives {listed:.4f} minutes, the plan says {planned:.4f}.",
    abs(planned / listed - 1) < 1e-6,
    listed=listed,
    planned=planned,
)

# %% [markdown] tags=["slide"]
# ### Expectations as sums
#
# Soft actor-critic keeps a policy random on purpose: it maximises reward plus $\alpha$ times entropy. With
# a finite choice, each expectation over items is a **sum**, and nothing has to be sampled in a loss
# {cite:p}`christodoulou2019discrete`:
#
# $$
# V(o) = \sum_a \pi(a \mid o) \bigl( Q(o, a) - \alpha \log \pi(a \mid o) \bigr), \qquad
# y = r + \gamma\,(1 - \text{ended})\, V(o') .
# $$ (eq-rr-soft)
#
# The critics learn $Q(o, a) \to y$, with $y$ a **constant**. The actor maximises $V(o)$, with $Q$ a constant.
# Because the sum is over *all* items, the logged action does not appear in the actor's loss, and no
# importance weight is needed. REINFORCE on logged data needs one {cite:p}`chen2019topk`.

# %%
show_source(masked_log_policy)
show_source(soft_value)
show_source(critic_target)

# %% [markdown] tags=["skip"]
# {{exercise 122.2a.soft-value}}

# %% [markdown] tags=["slide"]
# ### The update

# %%
show_source(DiscreteSAC.update)

# %% [markdown] tags=["skip"]
# ### In service
#
# A shop must not show an item twice, and has to log what it showed so that another policy can be
# evaluated on the log (section 122.2b). The estimate needs the observation and the items that
# were allowed, to ask the other policy; the probability of what was shown, its *propensity*, for
# the weight; and the reward. The minutes come later, so each line has an `event` by which they
# are joined.

# %% tags=["nbval-check-output"]
served = Recommender(DiscreteSAC(2, 3), seed=1)
print("items:", sorted(served.recommend("Ada", [0.0, 1.0]).item for _ in range(3)))
served.give_reward(served.log[-1].event, 12.5)
last = served.log[-1]
print("allowed at last:", sum(last.allowed), "propensity:", last.propensity, "reward:", last.reward)
try:
    served.recommend("Ada", [0.0, 1.0])
except ValueError as error:
    print("then:", error)

# %% [markdown] tags=["slide"]
# ### Slates
#
# Most services show several items. With five of 1,000 items there are about $10^{13}$ slates, too
# many to learn a value for each. SlateQ {cite:p}`ie2019slateq` makes two assumptions. The user
# picks at most **one** item, with probability $v_i / (v_0 + \sum_j v_j)$, where $v_0$ stands for
# choosing nothing. And the reward and the next state depend only on **the item chosen**, not on
# what was shown beside it. Then the value of a slate $A$ is a *weighted* mean of the values of
# its items and of choosing nothing:
#
# $$
# Q(A) = \frac{v_0 V_0 + \sum_{i \in A} v_i Q_i}{v_0 + \sum_{i \in A} v_i} .
# $$ (eq-rr-slate)
#
# $V_0$ is not 0: after no click the session goes on.

# %%
show_source(slate_value)

# %% tags=["hide-input", "check"]
attraction, worth = torch.tensor([5.0, 1.0, 1.0]), torch.tensor([2.0, 6.0, 1.0])
NOTHING, GOES_ON = 1.0, 3.0  # attraction and long-term value of choosing nothing


def worth_of(*items, goes_on=GOES_ON):
    """Long-term value of a slate of the example."""
    return float(slate_value(attraction[list(items)], worth[list(items)], NOTHING, goes_on))


alone = [worth_of(k) for k in range(3)]
best_pair = best_slate(attraction, worth, 2, NOTHING, GOES_ON)
claim(
    "Example: attractions 5, 1, 1, long-term values 2, 6, 1; choosing nothing has attraction 1 "
    "and value {goes_on:g}. Alone the items are worth {a:.2f}, {b:.2f}, {c:.2f}. The two that "
    "are best alone make a slate worth {two_best:.2f}; the best slate is items {pair}, with "
    "{together:.2f}. The attractive item 0 takes clicks from the valuable item 1, so items "
    "can't be scored one by one. With 0 in place of $V_0$ the best slate would count "
    "{forgotten:.2f}.",
    best_pair == (1, 2)
    and alone[1] > alone[0] > alone[2]
    and worth_of(1, 2) > worth_of(0, 1)
    and worth_of(1, 2, goes_on=0.0) < worth_of(1, 2),
    goes_on=GOES_ON,
    a=alone[0],
    b=alone[1],
    c=alone[2],
    two_best=worth_of(0, 1),
    together=worth_of(*best_pair),
    forgotten=worth_of(1, 2, goes_on=0.0),
    pair=f"{best_pair[0]} and {best_pair[1]}",
)

# %% [markdown] tags=["skip"]
# {{exercise 122.2a.slate-value}}

# %% [markdown] tags=["slide"]
# ### Details that decide
#
# 1. **Scale of reward.** The temperature is in units of reward. Minutes are divided by 20, so that $\alpha$ of
#    a few hundredths is small beside one item's minutes.
# 2. **Time belongs to the observation.** The session ends after 60 items, so the end is a termination, and
#    the best item depends on how much is left.
# 3. **Noise.** The minutes of one item vary more than their mean; the gain from planning is less than a
#    minute a step. So many users, large batches, and a learning rate that falls to a twentieth.
# 4. **Discount.** Exposure fades by 0.7 a step, so a short horizon seems enough. It is not; see below.
# 5. **Two critics**, the smaller one counts, with slow target copies, as in section 122.1a.

# %% tags=["hide-input", "check"]
DISCOUNTS = (0.0, 0.8, 0.9, 0.95, 0.98, 1.0)
COST = {}
for discount in DISCOUNTS:
    short = optimal_values(USER, points=401, discount=discount)
    minutes, _ = runs.play(USER, lambda t, o, i: short.act(t, i["exposure"]), 2, 200)  # noqa: B023
    COST[discount] = statistics.mean(minutes)
claim(
    "A perfect planner with a discount, counted without it: "
    + ", ".join(f"γ = {discount:g}: {minutes:,.0f}" for discount, minutes in COST.items())
    + " minutes. So γ = 0.9 alone costs {cost:.0f} minutes, of the {room:.0f} that lie between the optimum "
    "and the best fixed item. **The discount is a part of the goal, not a detail of the training.**",
    sorted(COST.values()) == list(COST.values()) and COST[1.0] - COST[0.9] > 10,
    cost=COST[1.0] - COST[0.9],
    room=EXACT[0.1][1] - EXACT[0.1][2],
)

# %% [markdown] tags=["slide"]
# ## The experiment
#
# All policies meet the same simulated users. *Optimum* knows the model and the exposure. *Always
# kale* is the best fixed item. What the others know they have estimated from as many sessions as
# the agent learns in: the *bandit* explores with $\varepsilon$-greedy and keeps the item with the
# most minutes; *greedy* and *most popular* are fitted on a log of random items (greedy by a
# quadratic in the exposure for each item). The agent sees the exposure ("latent"), or only its
# last eight items ("history"). *Listing* is a network as it was initialised, which draws its
# items from its random policy: the program that this chapter began with never takes a step of an
# optimiser (see *Slips that still run*). Counted are the expected minutes of what was shown.
#
# Three **rules of thumb** need no training. All show clickbait for the last three items. Before
# that, *kale, then clickbait* shows kale; *saw, seeing nothing* shows kale four times and
# clickbait the fifth; and *threshold* shows kale, or clickbait where $z > 2.6$. Their numbers
# were read off the optimum, so the rules know what an agent has to find. They say how simple a
# good policy is, not how easy it is to find.

# %% [markdown] tags=["skip"]
# Settings of agent and bandit, three each, were compared on other users and other seeds. For the agent it
# is the discount; the learning rate, 0.003, and the temperature, 0.02, were tried by hand before, on the
# tuning users too.

# %% name="tuning" tags=["long", "skip"]
keep(minutes=runs.tune(UserModel(sensitivity=0.1)))

# %% tags=["hide-input", "check"]
TUNING = values_of("122.2a.tuning", "minutes")
if TUNING:
    found = TUNING["minutes"]
    used = {"bandit": f"{runs.RATE}", **runs.CHOSEN}
    best = {
        name: [setting for setting, value in rows.items() if value == max(rows.values())]
        for name, rows in found.items()
    }
    say(
        "Minutes on the tuning users, 3 seeds a setting: "
        + "; ".join(
            f"{name}: " + ", ".join(f"{setting} → {value:,.1f}" for setting, value in rows.items())
            + f" (used: {used[name]}"
            + (", all are equal" if len(best[name]) == len(rows) else "")
            + ("" if used[name] in best[name] else f"; the best was {best[name][0]}")
            + ")"
            for name, rows in found.items()
        )
        + "."
    )
else:
    say(NOT_YET)

# %% name="contest" tags=["long", "skip"]
keep(**runs.contest(UserModel(sensitivity=0.1)))

# %% mystnb={"figure": {"caption": "Expected minutes of a session for ten seeds (dots) and their mean (line).", "name": "fig-rr-contest"}, "image": {"alt": "One row for each policy with ten dots on an axis of minutes: the optimum, three rules of thumb, the two learned agents, always kale, the bandit, greedy, most popular, random, and the listing."}} tags=["hide-input", "plot"]
CONTEST = values_of(
    "122.2a.contest", "scores", "given the end", "exposures", "learned policy", "best policy"
)
if CONTEST:
    SCORES = {name: row["minutes"] for name, row in CONTEST["scores"].items()}
    order = sorted(SCORES, key=lambda name: statistics.mean(SCORES[name]))
    fig, ax = plt.subplots(figsize=(6.6, 3.8))
    for k, name in enumerate(order):
        color = COLOR.get(name, "0.5")
        ax.plot(SCORES[name], [k] * len(SCORES[name]), "o", color=color, alpha=0.5)
        ax.plot([statistics.mean(SCORES[name])] * 2, [k - 0.3, k + 0.3], color=color, lw=2)
    ax.set_yticks(range(len(order)), order)
    ax.set(xlabel="expected minutes of a session")
    plt.show()

# %% tags=["hide-input", "check"]
AGENTS = ("learned, latent", "learned, history")
THUMB = ("kale, then clickbait", "saw, seeing nothing", "threshold")


def order_of(first, second):
    """-1, 0 or 1: minutes behind, no order at 95 %, or ahead; paired over seeds."""
    gap, half = runs.interval(first, second)
    return 0 if abs(gap) <= half else 1 if gap > 0 else -1


def against(first, second):
    """A sentence on two policies, paired over seeds, that follows from the record."""
    gap, half = runs.interval(SCORES[first], SCORES[second])
    order = {0: "no order shows", 1: f"{first} is ahead", -1: f"{second} is ahead"}
    return (
        f"{first} − {second}: {gap:+,.1f} ± {half:.1f} "
        f"({order[order_of(SCORES[first], SCORES[second])]})"
    )


if CONTEST:
    say(
        "Minutes (mean ± standard deviation over ten seeds): "
        + "; ".join(f"{name} {spread(SCORES[name])}" for name in reversed(order))
        + "."
    )
    say(
        "Paired over seeds, 95 %: "
        + "; ".join(
            against(a, b)
            for a, b in (
                ("learned, latent", "optimum"),
                ("learned, latent", "always kale"),
                ("learned, latent", "bandit"),
                ("learned, latent", "greedy"),
                ("learned, history", "learned, latent"),
                ("learned, history", "always kale"),
                *((agent, rule) for agent in AGENTS for rule in THUMB),
            )
        )
        + "."
    )
    base, top, blind = (
        statistics.mean(SCORES[name]) for name in ("always kale", "optimum", "saw, seeing nothing")
    )

    def share(name):
        """Of the minutes between the best fixed item and the optimum."""
        return f"{(statistics.mean(SCORES[name]) - base) / (top - base):.0%}"

    say(
        "Between the best fixed item and the optimum lie {room:.0f} minutes. Of these *kale, "
        "then clickbait* gains {last}, the agent that sees the exposure {latent}, the one that "
        "sees its history {history}{caveat}. The discount of 0.98 accounts for "
        "{discount:.1f} minutes of what is missing.",
        room=top - base,
        last=share("kale, then clickbait"),
        latent=share("learned, latent"),
        history=share("learned, history"),
        caveat=""
        if order_of(SCORES["learned, history"], SCORES["always kale"])
        else ", which ten seeds don't tell from nothing",
        discount=COST[1.0] - COST[0.98],
    )
    claim(
        "**Each rule of thumb beats both agents** (paired over seeds, 95 %). And **nothing has to "
        "be seen**: the saw that shows clickbait at every fifth step, whatever the user does, "
        "lies {hidden:.2f} minutes below the optimum, which knows the exposure. So with these "
        "users, whose shocks are {shock} a step, seeing the hidden state is worth no more than "
        "that. Minutes alone can't tell here whether an agent uses what it sees.",
        all(order_of(SCORES[agent], SCORES[rule]) < 0 for agent in AGENTS for rule in THUMB)
        and 0 <= top - blind < 0.2,
        hidden=top - blind,
        shock=USER.innovation,
    )
    kale_only = sum(not any(row) for row in CONTEST["learned policy"])
    text = {
        1: "is ahead of kale there",
        0: "is not shown to differ from kale there",
        -1: "is behind kale there",
    }
    kale = statistics.mean(SCORES["kale, then clickbait"])
    leads = [m - kale for name in AGENTS for m in CONTEST["given the end"][name]]
    parts = []
    for name in AGENTS:
        pair = CONTEST["given the end"][name], SCORES["kale, then clickbait"]
        gap, half = runs.interval(*pair)
        parts.append(f"*{name}* {text[order_of(*pair)]} ({gap:+.1f} ± {half:.1f} minutes)")
    say(
        "What have the agents learned, then? Give them the end: let them act, and show "
        "clickbait for the last three items whatever they say. Against *kale, then clickbait*, "
        "which ends alike, this counts what they do before. The agent {parts}. And {kale_only} "
        "of the {n} agents that see the exposure choose only kale halfway, at each of {points} "
        "exposures: there they would show no tooth of the saw. "
        + (
            "So a lead over always kale may be the end alone. "
            if all(order_of(CONTEST["given the end"][name], SCORES["kale, then clickbait"]) < 1
                   for name in AGENTS)
            else ""
        )
        + "Single agents do better: {ahead} of all {all} lie at least five minutes ahead of kale "
        "when the end is given, the best by {most:.0f}; from kale to the saw it is {teeth:.0f}. "
        "Why so few find the saw, this contest does not say.",
        parts="; the agent ".join(parts),
        kale_only=kale_only,
        n=len(CONTEST["learned policy"]),
        points=len(CONTEST["exposures"]),
        ahead=sum(lead >= 5 for lead in leads),
        all=len(leads),
        most=max(leads),
        teeth=blind - kale,
    )
    behind = [
        name for name in ("bandit", "greedy", "most popular")
        if runs.interval(SCORES["learned, latent"], SCORES[name])[0]
        > runs.interval(SCORES["learned, latent"], SCORES[name])[1]
    ]  # fmt: skip
    items = {
        "bandit": statistics.mean(SCORES["bandit"]),
        "always clickbait": EXACT[0.1][3],
    }
    say(
        "Clearly behind the agent that sees the exposure: {behind}. The bandit's mean of {bandit:.0f} lies "
        + (
            "near always clickbait's {bait:.0f}: it looks at the next minutes only, like the greedy."
            if abs(items["bandit"] - items["always clickbait"]) < 30
            else "away from always clickbait's {bait:.0f}: while it explores, the item it shows most of "
            "the time also makes the mood in which that item is counted."
        ),
        behind=", ".join(behind) or "none",
        bandit=items["bandit"],
        bait=items["always clickbait"],
    )
else:
    say(NOT_YET)

# %% mystnb={"figure": {"caption": "Left: satisfaction along the session, mean over all users. Right: the best item halfway for each exposure (black), and the share of the ten agents that choose each item (shade).", "name": "fig-rr-policy"}, "image": {"alt": "Left, lines of satisfaction over 60 steps for several policies. Right, a map of items by exposure, shaded by how many of ten agents choose each, with the black step line of the exact policy."}} tags=["hide-input", "plot"]
if CONTEST:
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3), constrained_layout=True)
    for name in ("optimum", "always kale", "learned, latent", "learned, history", "most popular"):
        left.plot(CONTEST["scores"][name]["satisfaction"], color=COLOR[name], label=name)
    left.set(xlabel="step of the session", ylabel="mean satisfaction")
    left.legend(fontsize=7)
    chosen = np.array(CONTEST["learned policy"])  # (10, Z)
    share = np.stack([(chosen == k).mean(0) for k in range(5)])  # (5, Z)
    z = CONTEST["exposures"]
    right.imshow(
        share, origin="lower", aspect="auto", extent=(z[0], z[-1], -0.5, 4.5), cmap="Blues", vmin=0, vmax=1
    )
    right.step(z, CONTEST["best policy"], "k", where="mid")
    right.set_yticks(range(5), ITEMS)
    right.set(xlabel="exposure z")
    right.grid(False)
    plt.show()

# %% [markdown] tags=["slide"]
# ## At scale
#
# YouTube's recommender was trained by REINFORCE on logs, with importance weights and a correction for the
# fact that several items are shown {cite:p}`chen2019topk`; SlateQ was tried there too
# {cite:p}`ie2019slateq`. With millions of items the sum over all of them is too long: a first stage picks
# some hundred candidates, and the policy chooses among these. Nobody explores freely with real people, so
# such systems learn **offline** from logs of older policies. There a critic is wrong just where no data
# lie, and a policy that maximises it looks for these places.
#
# ## Limits
#
# - The user is an equation with one hidden number. What it shows is that planning can pay and when; that
#   it pays for real users only an experiment with them can show.
# - Minutes are not welfare. We chose the reward, and the optimum follows our choice: it ends each session
#   with clickbait.
# - Options `drift`, `boredom` and `position` of `UserModel` make users more real, and take the exact
#   optimum away, since the state is then larger than one number.
# - One size of network, few settings, one session length. The rules of thumb were written with the
#   optimum in sight, the agents were not.
# - The shocks are so small that a policy needs to see nothing. A contest on *using* the state
#   needs larger ones, or users who differ.
# - At work: RecSim for simulated users; for learning from logs, a library of offline reinforcement learning.

# %% [markdown] tags=["slide"]
# ## Slips that still run
#
# The chapter began with a short listing of an actor-critic for recommendation. The
# {doc}`errata </book/errata>` list its slips, each with a test. **Its critic can't learn.** It computes an
# advantage $A = r + \gamma V' - Q(s, a)$ without gradient and trains $Q(s, a)$ towards $A + Q(s, a)$, *with*
# the gradient of both. $Q$ cancels:

# %% tags=["hide-input", "check"]
torch.manual_seed(0)
critic = torch.nn.Linear(3, 4)
p = torch.rand(8, 4).softmax(1)
_, loss = runs.listing_losses(
    critic, p, p, torch.randn(8, 3), torch.randint(4, (8,)), torch.randn(8), torch.randn(8, 3),
    torch.zeros(8),
)  # fmt: skip
steepest = max(g.abs().max().item() for g in torch.autograd.grad(loss, critic.parameters()))
claim(
    "The listing's critic loss is {loss:.2f}, and the largest entry of its gradient {steepest}.",
    loss.item() > 0.1 and steepest == 0.0,
    loss=loss.item(),
    steepest=steepest,
)

# %% [markdown] tags=["skip"]
# **The log of a gathered probability.** A softmax can underflow to 0, and its logarithm is then infinite.
# **`squeeze()` without an axis.** A batch of one user loses its batch axis.

# %% tags=["nbval-check-output"]
logits = torch.tensor([[0.0, -200.0]])
print("log of softmax:", logits.softmax(1)[0, 1].log().item())
print("log_softmax:   ", logits.log_softmax(1)[0, 1].item())
print("squeeze():     ", torch.zeros(1, 1).squeeze().shape, " squeeze(1):", torch.zeros(1, 1).squeeze(1).shape)

# %% [markdown] tags=["skip"]
# **No mask, no importance weight, no step.** Items already shown come again, old transitions are used as if
# the present policy had made them, and no optimiser is ever called.

# %% [markdown] tags=["skip"]
# ## Quiz

# %% [markdown] tags=["skip"]
# {{quiz 122.2a}}

# %% [markdown] tags=["slide"]
# ## Summary
#
# - Minutes now and minutes of the session are two goals; they differ where the user reacts to what is shown.
# - Compute the optimum of a simulator first. Where greedy is optimal, no contest can show planning.
# - Put a rule of thumb into the table. Here a saw that sees nothing comes within a minute of the
#   optimum, and the agents stay behind "kale, then clickbait".
# - With a finite choice the actor-critic's expectations are sums: exact, off-policy, without weights.
# - A target is a constant. If the critic's own value stands in it with a gradient, nothing is learned.
# - Hide shown items before the softmax, and log the propensity of what was shown.
#
# References: each citation above leads to its source; the
# {doc}`bibliography </book/bibliography>` lists them all.
