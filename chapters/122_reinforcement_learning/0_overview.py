# %% [markdown]
# (sec-122)=
# # 122 Reinforcement learning, applied
#
# A program acts, the world answers, and the program should act better next time. Nobody tells it the
# right action; it sees a reward for the one that it took, and the action changes what comes next. This
# chapter builds learners for five kinds of such problems, and measures each against something that is
# known: an exact optimum, a hand-solved case, another library, the rate that theory gives.
#
# | section | the problem | what you build |
# |---|---|---|
# | {doc}`122.1a Robot control <1a_robot_control>` | every real step is dear: learn from a memory of old ones | replay buffer, SAC, TD3, honest evaluation |
# | {doc}`122.1b Sim-to-real transfer <1b_sim_to_real>` | the world of training is not the real one | domain randomisation, system identification, two gaps |
# | {doc}`122.1c Thousands of environments <1c_parallel_environments>` | simulated steps are cheap: take many, use each once | PPO, environments as rows of a tensor |
# | {doc}`122.2a Recommendation <2a_rl_recommendation>` | what is clicked now changes what will be liked later | a user simulator, its exact optimum, discrete SAC |
# | {doc}`122.2b Contextual bandits <2b_bandits>` | one choice at a time, without later effects | LinUCB, Thompson sampling, off-policy evaluation |
#
# Each takes about an hour, and none needs a GPU: where one would tell more, you see what was recorded
# on one. What the document's own listings get wrong is told in the {doc}`errata </book/errata>`, each
# with a test.

# %% [markdown]
# :::{diagram} figures/0_overview.svg
# ---
# name: fig-rl-map
# alt: A decision tree. Does the choice change what comes later? If not, contextual bandits, section
#   122.2b. If it does, may you try actions while you learn? If not, off-policy evaluation, section
#   122.2b, and caution. If you may, is a step cheap? If it is, PPO in many environments, section
#   122.1c. If it is dear, SAC or TD3 with a replay buffer, section 122.1a.
# ---
# Three questions lead to a method. They come before any network.
# :::

# %% [markdown]
# ## What you will be able to do
#
# - Say whether a problem needs reinforcement learning at all, or a bandit, or no learning.
# - Write each method from its equation, and test it where the answer is known, before any curve.
# - Tell the end of an episode from the end of the clock, and know what goes wrong otherwise.
# - Compare two learners with few runs without fooling yourself.
# - Judge from logs what a policy would have earned, and say when the logs can't tell.
#
# ## One problem, small enough to solve
#
# A reader comes back to a site again and again. Each time the site shows **sweets**, which are clicked
# more often now and leave the reader a little less content, or **greens**, which are clicked less and
# leave the reader more content. A content reader clicks more on everything. There are five states of
# contentment. What should be shown in each?
#
# The answer depends on how much the future counts. With a discount $\gamma$ the value of a state under
# the best policy obeys {cite:p}`sutton2018reinforcement`
#
# $$
# V^*(s) = \max_a \Bigl[ r(s, a) + \gamma \sum_{s'} P(s' \mid s, a)\, V^*(s') \Bigr] .
# $$ (eq-rl-bellman)
#
# Move $\gamma$. At 0 only the next click counts: that is a bandit's view.

# %% tags=["definitions", "hide-input"]
import itertools
import statistics

import matplotlib.pyplot as plt
import torch

from dlcourse.notebook import claim, explore, say, values_of

plt.style.use("dlcourse.notebook.course")

STATES, ACTIONS = 5, ("sweets", "greens")
content = torch.arange(STATES, dtype=torch.float64)
reward = torch.stack([1.0 + 0.5 * content, 0.3 + 0.5 * content], 1)  # (S, A) clicks a visit
P = torch.zeros(STATES, 2, STATES, dtype=torch.float64)  # (S, A, S')
for s in range(STATES):
    P[s, 0, max(s - 1, 0)] += 0.8  # sweets: one step less content
    P[s, 1, min(s + 1, STATES - 1)] += 0.8  # greens: one step more
    P[s, :, s] += 0.2


def value_of(policy, gamma):
    """Exact value of a fixed policy: (I - γ P_π) V = r_π. policy: (S,) actions -> (S,)."""
    rows = torch.arange(STATES)
    transitions = P[rows, policy]  # (S, S')
    identity = torch.eye(STATES, dtype=torch.float64)
    return torch.linalg.solve(identity - gamma * transitions, reward[rows, policy])


def value_iteration(gamma, tolerance=1e-12):
    """Eq. (eq-rl-bellman) applied until nothing moves: optimal Q, (S, A)."""
    V = torch.zeros(STATES, dtype=torch.float64)
    while True:
        Q = reward + gamma * P @ V  # (S, A)
        if (Q.amax(1) - V).abs().max() < tolerance:
            return Q
        V = Q.amax(1)


# %% tags=["hide-input"]
def best_actions(gamma):
    """Where greens are better, (S,); equal values count as sweets."""
    Q = value_iteration(gamma)
    return (Q[:, 1] > Q[:, 0] + 1e-9).long()


def draw_best(gamma):
    Q = value_iteration(gamma)
    gain = (Q[:, 1] - Q[:, 0]).tolist()
    fig, ax = plt.subplots(figsize=(5, 2.8), layout="constrained")
    bars = ax.bar(range(STATES), gain, color=["tab:green" if g > 1e-9 else "tab:pink" for g in gain])
    ax.bar_label(bars, [ACTIONS[a] for a in best_actions(gamma)], padding=2, fontsize=8)
    ax.axhline(0, color="0.3", lw=1)
    ax.set_xticks(range(STATES))
    ax.set(
        xlabel="contentment",
        ylabel="greens minus sweets\n(discounted clicks)",
        ylim=(-1.2, 3.2),
    )
    return fig


explore(
    draw_best,
    {"gamma": (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)},
    initial={"gamma": 0.9},
    name="How far to look ahead",
    alt=lambda gamma: "Best at contentment 0 to 4: "
    + ", ".join(ACTIONS[a] for a in best_actions(gamma))
    + ".",
)

# %% [markdown]
# ## Three ways to the same answer
#
# **Try all policies.** Two actions in five states make 32 policies, and the value of each is the solution
# of five linear equations. **Iterate** {eq}`eq-rl-bellman` until it stands still. Both know the rewards
# and the transitions. **Learn** from visits alone: Q-learning {cite:p}`watkins1992q` sees
# $(s, a, r, s')$ and moves $Q(s, a)$ towards $r + \gamma \max_{a'} Q(s', a')$, whichever policy made the
# visits, as long as it comes to each pair again and again. SAC, TD3 and discrete SAC descend from it;
# PPO climbs the gradient of the return instead (122.1c), and bandits have no next state (122.2b).

# %% tags=["hide-input"]
GAMMA = 0.9
policies = [torch.tensor(p) for p in itertools.product((0, 1), repeat=STATES)]
by_trying = max(policies, key=lambda p: value_of(p, GAMMA).sum().item())
Q_star = value_iteration(GAMMA)


def q_learning(visits, seed):
    """Q after ``visits`` random visits, (S, A); the rate of a pair falls with its visits."""
    g = torch.Generator().manual_seed(seed)
    actions = torch.randint(2, (visits,), generator=g).tolist()
    moves = (torch.rand(visits, generator=g) < 0.8).tolist()
    Q = [[0.0, 0.0] for _ in range(STATES)]
    counts = [[0, 0] for _ in range(STATES)]
    r = reward.tolist()
    s = 0
    for a, moved in zip(actions, moves, strict=True):
        step = (1 if a else -1) if moved else 0
        s2 = min(max(s + step, 0), STATES - 1)
        counts[s][a] += 1
        rate = 1 / counts[s][a] ** 0.6
        Q[s][a] += rate * (r[s][a] + GAMMA * max(Q[s2]) - Q[s][a])
        s = s2
    return torch.tensor(Q, dtype=torch.float64)


lengths = [300, 1_000, 3_000, 10_000, 30_000, 100_000]
errors = {n: [(q_learning(n, seed) - Q_star).abs().max().item() for seed in range(5)] for n in lengths}

# %% mystnb={"figure": {"caption": "Largest error of Q-learning against the exact Q, over the number of visits; five seeds, and their median.", "name": "fig-q-learning"}, "image": {"alt": "Points falling over the number of visits on logarithmic axes, with a line through the medians."}} tags=["hide-input", "plot"]
fig, ax = plt.subplots(figsize=(5, 2.8), layout="constrained")
for n, runs in errors.items():
    ax.plot([n] * len(runs), runs, "o", color="C0", ms=4, alpha=0.6)
ax.plot(lengths, [statistics.median(errors[n]) for n in lengths], color="C0")
ax.set(xscale="log", yscale="log", xlabel="visits", ylabel="largest error of Q (clicks)")
plt.show()

# %% tags=["hide-input", "check"]
myopic = torch.zeros(STATES, dtype=torch.long)
learned = [q_learning(lengths[-1], seed).argmax(1) for seed in range(5)]
far, near = value_of(by_trying, GAMMA), value_of(myopic, GAMMA)
claim(
    "At γ = {gamma} the best of the {n} policies and value iteration choose the same actions ({actions}), and so "
    "does Q-learning after {visits:,} visits with each of 5 seeds; its largest error is then at most {error:.2f} "
    "of values up to {top:.1f}.",
    torch.equal(by_trying, Q_star.argmax(1))
    and all(torch.equal(p, by_trying) for p in learned)
    and max(errors[lengths[-1]]) < 1,
    gamma=GAMMA,
    n=len(policies),
    actions=", ".join(ACTIONS[a] for a in by_trying),
    visits=lengths[-1],
    error=max(errors[lengths[-1]]),
    top=Q_star.max().item(),
)
claim(
    "Whoever shows what is clicked most *now*, sweets in every state, earns {near:.1f} discounted clicks from a "
    "reader in the middle; the best policy earns {far:.1f}. Learning more about the next click does not close "
    "this gap: it is no lack of data.",
    bool((far > near + 0.5).all()),
    near=near[2].item(),
    far=far[2].item(),
)

# %% [markdown]
# ## The end of an episode, and the end of the clock
#
# An episode can end because the world ends it: the pole has fallen, the reader has left. It is
# **terminated**, nothing follows, and the target of a value is the reward alone. Or we stop the clock
# after some steps. It is **truncated**: the world would have gone on, and the target keeps
# $\gamma V(s')$ {cite:p}`pardo2018time`. One flag `done` for both makes a learner believe that time
# limits kill. In our reader's case, with a clock that stops after ten visits:

# %% tags=["hide-input", "check"]
def learned_value(limit, limit_is_end, seed):
    """V of the best policy, (S,), learned from visits that a clock cuts into episodes of ``limit``.

    TD(0) with a falling rate; each episode starts in a state drawn anew. With ``limit_is_end`` the
    target of the last visit is its reward alone.
    """
    g = torch.Generator().manual_seed(seed)
    moves = (torch.rand(60_000, generator=g) < 0.8).tolist()
    starts = torch.randint(STATES, (60_000,), generator=g).tolist()
    r, policy = reward.tolist(), by_trying.tolist()
    V, counts, s = [0.0] * STATES, [0] * STATES, 0
    for t, moved in enumerate(moves):
        step = (1 if policy[s] else -1) if moved else 0
        s2 = min(max(s + step, 0), STATES - 1)
        last = (t + 1) % limit == 0
        target = r[s][policy[s]] + (0.0 if last and limit_is_end else GAMMA * V[s2])
        counts[s] += 1
        V[s] += (target - V[s]) / counts[s] ** 0.6
        s = starts[t] if last else s2
    return torch.tensor(V, dtype=torch.float64)


exact = value_of(by_trying, GAMMA)
kept = torch.stack([learned_value(10, False, seed) for seed in range(5)])
cut = torch.stack([learned_value(10, True, seed) for seed in range(5)])
claim(
    "With a clock of ten visits, a learner that bootstraps at its end values a reader in the middle at {kept:.1f} "
    "clicks (exact: {exact:.1f}; the worst of 5 seeds and 5 states is off by {off:.2f}). One that takes the clock "
    "for an end says {cut:.1f}.",
    (kept - exact).abs().max() < 1 and cut[:, 2].max() < exact[2] - 3,
    kept=kept[:, 2].mean().item(),
    exact=exact[2].item(),
    off=(kept - exact).abs().max().item(),
    cut=cut[:, 2].mean().item(),
)

# %% [markdown]
# ## Which method for which problem
#
# | your problem | begin with | why |
# |---|---|---|
# | the choice has no later effect | a contextual bandit (122.2b) | far less data; regret has a theory |
# | no experiments allowed, only logs | off-policy evaluation (122.2b) of few, modest changes | a learner that trusts its own Q where there is no data fails {cite:p}`levine2020offline` |
# | steps are dear, actions continuous | SAC or TD3 (122.1a) | each step is learned from many times |
# | steps are cheap and run side by side | PPO (122.1c) | simple, stable, and the hardware is kept busy |
# | the model of the world is known and small | dynamic programming, or a controller from control theory | exact, and needs no learning |
#
# ## What each section shows

# %% tags=["hide-input", "check"]
from dlcourse.notebook import paired


def spread(values, digits=0):
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


arm = values_of("122.1a.contest", "steps", "returns", "steps per CPU second")
arm_speed = arm["steps per CPU second"]
ours, peer = ([run[-1] for run in arm["returns"][name]] for name in ("ours", "peer"))
gap, half = paired(ours, peer)
claim(
    "**122.1a Robot control.** After {steps:,} steps of Reacher our SAC has a return of {ours}, that of "
    "stable-baselines3 {peer} ({n} seeds each, same steps and settings); ours minus theirs {gap:+.1f} ± "
    "{half:.1f}. It was not slower either, and every one of its losses is proved equal first.",
    abs(gap) < half + 0.5
    and statistics.median(
        a / b for a, b in zip(*(arm_speed[n] for n in ("ours", "peer")), strict=True)
    ) > 1,
    steps=arm["steps"][-1], n=len(ours), ours=spread(ours, 1), peer=spread(peer, 1), gap=gap, half=half,
)  # fmt: skip

pole = values_of("122.1b.transfer", "reals")["reals"]
linear = values_of("122.1b.linear", "reals")["reals"]
known = values_of("122.1b.coverage", "holds", "sets")
claim(
    "**122.1b Sim-to-real.** A pole is heavier than in the simulator, the motor stronger, and commands come "
    "late: it falls after about {nominal:.0f} of 1,000 steps under a policy that was trained on the simulator. Trained on wide ranges it stays up for "
    "{wide:.0f} in the mean of three seeds, on a model identified from five seconds of data for "
    "{identified:.0f}. A linear controller, searched on such a model, holds it as well ({linear:.0f}). "
    "Of the identified parameters' 95 % intervals {held} of {all} hold the truth.",
    statistics.mean(pole["inside"]["width 0"]) < 100
    and statistics.mean(pole["inside"]["identified"]) >= statistics.mean(pole["inside"]["width 1"])
    and statistics.mean(linear["inside"]["linear, identified"])
    >= statistics.mean(pole["inside"]["identified"]) - 1
    and 0.85 < sum(known["holds"].values()) / (len(known["holds"]) * known["sets"]) < 0.99,
    nominal=statistics.mean(pole["inside"]["width 0"]),
    wide=statistics.mean(pole["inside"]["width 1"]),
    identified=statistics.mean(pole["inside"]["identified"]),
    linear=statistics.mean(linear["inside"]["linear, identified"]),
    held=sum(known["holds"].values()), all=len(known["holds"]) * known["sets"],
)  # fmt: skip

rates = values_of("122.1c.steps", "measured")["measured"]
best = {name: max(statistics.median(runs) for runs in row.values()) for name, row in rates.items()}
rival = max((name for name in best if name.startswith("Gymnasium")), key=best.get)
claim(
    "**122.1c Thousands of environments.** As rows of a tensor on a GPU, CartPole makes {fast:,.0f} million "
    "steps a second: {ratio:,.0f} times the best of Gymnasium ({rival}{missing}), and {cpu:.0f} times the same "
    "tensors on that machine's CPU. This counts random actions, not learning: learning gains far less.",
    best["tensor on the GPU"] > max(best[rival], best["tensor on the CPU"]),
    fast=best["tensor on the GPU"] / 1e6,
    ratio=best["tensor on the GPU"] / best[rival],
    rival=rival.removeprefix("Gymnasium, "),
    missing="" if "Gymnasium, NumPy rows" in best else "; its faster NumPy form is not in this record",
    cpu=best["tensor on the GPU"] / best["tensor on the CPU"],
)

shown = {name: v["minutes"] for name, v in values_of("122.2a.contest", "scores")["scores"].items()}
mean = {name: statistics.mean(minutes) for name, minutes in shown.items()}
claim(
    "**122.2a Recommendation.** To show what is clicked most earns {greedy:.0f} minutes of a simulated user, the "
    "best fixed item {kale:.0f}, a policy learned by discrete SAC {learned}, and the exact optimum {optimum:.0f}. "
    "A rule that looks at nothing and alternates has {saw:.0f}: on this user model planning is worth much, and "
    "seeing the user's state hardly anything.",
    mean["most popular"] < mean["always kale"] < mean["learned, latent"] < mean["saw, seeing nothing"]
    and mean["optimum"] - mean["saw, seeing nothing"] < 1,
    greedy=mean["most popular"], kale=mean["always kale"], learned=spread(shown["learned, latent"]),
    optimum=mean["optimum"], saw=mean["saw, seeing nothing"],
)  # fmt: skip

ends = {n: [run[-1] for run in runs] for n, runs in values_of("122.2b.regret", "curves")["curves"].items()}
claim(
    "**122.2b Bandits.** After 10,000 choices among ten arms LinUCB has lost {linucb} against the best choices, "
    "Thompson sampling {thompson}, ε-greedy {epsilon}, all three tuned alike; no exploration {greedy}, and random "
    "choice {random} (mean ± standard deviation over {n} worlds).",
    max(ends["LinUCB"]) < min(ends["ε-greedy"])
    and statistics.mean(ends["Thompson"]) < statistics.mean(ends["ε-greedy"])
    < statistics.mean(ends["greedy"]) < statistics.mean(ends["random"]),
    n=len(ends["LinUCB"]), linucb=spread(ends["LinUCB"]), thompson=spread(ends["Thompson"]),
    epsilon=spread(ends["ε-greedy"]), greedy=spread(ends["greedy"]), random=spread(ends["random"]),
)  # fmt: skip

# %% [markdown]
# ## Few runs, honest numbers
#
# A curve of reinforcement learning is one draw of a wide distribution: other seeds, other curves. With 3
# to 10 runs, report an interval; compare learners seed by seed with the same tuning; take the
# interquartile mean over tasks and a stratified bootstrap where there are many
# {cite:p}`agarwal2021precipice`. And test the parts first. A sign error in a log-probability can still
# give a curve that rises, because much of reinforcement learning is robust to being slightly wrong. So
# each section begins with a case whose answer is known.
#
# ## Notation
#
# $s$ state (or an observation of it), $a$ action, $r$ reward, $\gamma$ discount, $\pi(a \mid s)$ policy,
# $V$ and $Q$ values of states and of actions, $\hat A$ advantage. `terminated` and `truncated` are kept
# apart everywhere, as in Gymnasium {cite:p}`towers2024gymnasium`. {doc}`Notation </book/notation>` lists
# all symbols.
#
# ## Summary
#
# - Ask first whether a choice has later effects, whether you may experiment, and what a step costs.
# - Looking at the next reward only can be wrong with any amount of data.
# - An end and a time limit need different targets.
# - Test each part where the answer is known; then draw curves, with intervals.
#
# References: each citation above leads to its source; the
# {doc}`bibliography </book/bibliography>` lists them all.
