# %% [markdown] tags=["slide"]
# (sec-122-1a)=
# # 122.1a Robot control
#
# An arm with two joints shall bring its fingertip to a target, and nobody tells it how. At the end of
# this section you can write soft actor-critic and TD3, prove their densities, targets and gradients
# right before you look at a learning curve, and say how much a curve over a few seeds proves.
#
# You need: backpropagation and the idea of expected value; no GPU.

# %% tags=["definitions", "hide-input", "skip"]
import matplotlib.pyplot as plt
import numpy as np
import torch

from dlcourse.notebook import claim, explore, keep, paired, say, show_source, values_of
from dlcourse.reinforcement_learning import (
    SAC,
    TD3,
    Critics,
    ReplayBuffer,
    evaluate,
    interquartile_mean,
    squashed_density,
    squashed_log_prob,
    stratified_bootstrap,
    td_target,
    train,
)
from dlcourse.reinforcement_learning.experiments.robot_control_reacher import (
    SETTINGS,
    contest,
    critics_contest,
)

torch.set_num_threads(1)
plt.style.use("dlcourse.notebook.course")

# %% tags=["hide-input", "skip"]
CONTEST = values_of("122.1a.contest", "steps", "returns", "steps per CPU second", "paths")
UPDATES = values_of("122.1a.contest", "ms an update")
CRITICS = values_of("122.1a.critics", "steps", "twin", "single")
NOT_YET = "*This part has not been recorded yet.*"


def spread(values, digits=2):
    """Mean ± standard deviation."""
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"


# %% [markdown] tags=["slide"]
# ## A question
#
# Reacher-v5 is a simulated arm {cite:p}`todorov2012mujoco`: it sees 10 numbers (angles, speeds, the
# target's place) and sets two torques. Its reward at each step is minus the distance to the target,
# minus a small cost of effort. Move the sliders: **how far does an arm come that has seen nothing
# but its own mistakes?** (One training, and one start that was not picked for it.)

# %% tags=["hide-input"]
PATHS = CONTEST["paths"] if CONTEST else {"0": [[0.0, 0.0, 0.1, 0.1]] * 50}
POINTS = sorted(int(k) for k in PATHS)  # a record has its keys in the order of the alphabet


def tip(path):
    """Elbow and fingertip (m) at each step."""
    q = np.array(path)
    elbow = 0.1 * np.stack([np.cos(q[:, 0]), np.sin(q[:, 0])], 1)
    end = q[:, 0] + q[:, 1]
    return elbow, elbow + 0.11 * np.stack([np.cos(end), np.sin(end)], 1)


def draw_arm(trained, step):
    path = PATHS[str(trained)]
    elbow, hand = tip(path)
    fig, ax = plt.subplots(figsize=(4.2, 4))
    ax.plot(hand[: step + 1, 0], hand[: step + 1, 1], color="0.7", lw=1)
    x, y = ([0, elbow[step, k], hand[step, k]] for k in (0, 1))
    ax.plot(x, y, "o-", lw=4, ms=7)
    ax.plot(*path[step][2:], "*", ms=14, color="tab:red")
    ax.set(xlim=(-0.23, 0.23), ylim=(-0.23, 0.23), xlabel="x (m)", ylabel="y (m)", aspect="equal")
    return fig


def told_arm(trained, step):
    path = PATHS[str(trained)]
    gap = np.linalg.norm(tip(path)[1][step] - np.array(path[step][2:]))
    return f"The arm after {trained} training steps, at step {step}: {gap:.2f} m from its target."


explore(
    draw_arm,
    {"trained": POINTS, "step": [0, 5, 10, 20, 49]},
    initial={"trained": POINTS[-1], "step": 20},
    name="The arm before and after training",
    alt=told_arm,
)

# %% [markdown] tags=["slide"]
# ## The idea
#
# A **critic** $Q(s, a)$ guesses the discounted sum of the rewards to come after action $a$ in state
# $s$. An **actor** $\pi$ chooses actions that the critic rates high. The critic learns from its own
# next guess: in one step of experience $(s, a, r, s')$,
#
# $$
# y = r + \gamma\,(1 - d)\; V(s') , \qquad L(Q) = \bigl( Q(s, a) - y \bigr)^2 ,
# $$ (eq-rc-target)
#
# where $d$ is 1 if the task **terminated**. All experience is kept in a buffer and used many times: the
# method is *off-policy*.
#
# **Soft actor-critic** {cite:p}`haarnoja2018sac,haarnoja2018applications` adds the wish to stay random.
# Its policy maximises reward plus $\alpha$ times entropy, so
#
# $$
# V(s') = \min_i Q'_i(s', a') - \alpha \log \pi(a' \mid s') , \qquad a' \sim \pi(\cdot \mid s') ,
# $$ (eq-rc-soft)
#
# $$
# L(\pi) = \mathbb{E} \bigl[ \alpha \log \pi(a \mid s) - \min_i Q_i(s, a) \bigr] , \qquad
# L(\alpha) = -\log \alpha \; \bigl( \mathbb{E} \log \pi(a \mid s) + \bar H \bigr) .
# $$ (eq-rc-actor)
#
# The last one moves $\alpha$ until the entropy is $\bar H$, by default minus the number of action
# dimensions. $Q'$ are slow copies of the critics, $\theta' \leftarrow (1-\tau)\,\theta' + \tau\,\theta$.
#
# **TD3** {cite:p}`fujimoto2018td3` has a deterministic policy. It takes the same minimum, blurs the
# target's action with clipped noise, and updates the actor at every second step only.

# %% [markdown] tags=["skip"]
# :::{diagram} figures/1a_robot_control.svg
# ---
# name: fig-rc-system
# alt: The environment gives transitions to a replay buffer. Batches go to twin critics, which learn
#   towards a target made by slow copies of the critics and the actor's next action. The actor
#   learns from the critics' gradient with respect to the action, and acts in the environment.
# ---
# An actor, two critics, and their slow copies. The gradient of the critic **with respect to the
# action** is what teaches the actor.
# :::

# %% [markdown] tags=["slide"]
# ## Piece by piece
#
# ### A bounded action with a right density
#
# Torques are bounded. SAC draws $u \sim N(\mu, \sigma^2)$ and takes $a = \tanh u$. By the change of
# variables
#
# $$
# \log \pi(a) = \log N(u; \mu, \sigma^2) - \sum \log(1 - \tanh^2 u) .
# $$
#
# The last logarithm is written so that it does not overflow:

# %%
show_source(squashed_log_prob)

# %% tags=["hide-input", "check"]
grid = torch.linspace(-1, 1, 200_002, dtype=torch.float64)[1:-1, None]
width, worst = (grid[1] - grid[0]).item(), 0.0
for mean, log_std in ((0.0, 0.0), (1.0, -1.0), (-0.5, 0.3)):
    density = squashed_density(grid, torch.tensor([mean]), torch.tensor([log_std]))
    worst = max(worst, abs(density.sum().item() * width - 1))
claim(
    "Summed over 200,000 points, three such densities integrate to 1, with an error of at most "
    "{worst:.0e}.",
    worst < 1e-3,
    worst=worst,
)

# %% [markdown] tags=["skip"]
# {{exercise 122.1a.log-prob}}

# %% [markdown] tags=["slide"]
# ### Over, or out of time?
#
# An episode ends in two ways. It **terminates**: the robot fell, and no reward follows. Or it is
# **truncated**: the simulator stopped at a time limit. After a truncation the task would have gone on,
# so the critic must bootstrap {cite:p}`pardo2018time`. The buffer keeps the flags apart, and the target
# does not even take the second. (That holds where the limit is the simulator's, as in Reacher. Where
# the task itself ends at a time, that end is a termination, and the time left belongs into the
# observation: the first of the two cases of the same paper.)

# %%
show_source(td_target)

# %% [markdown] tags=["skip"]
# What goes wrong otherwise? A robot in one state may work on, for a reward of 1 a step without an end,
# or stop, for 40 at once. With $\gamma = 0.99$ working is worth 100. Recordings are cut after $T$ steps.

# %% mystnb={"figure": {"caption": "The value of working on, learned by repeating the target over all recorded steps. If a cut counts as an end, short recordings make a robot that prefers to stop.", "name": "fig-rc-truncation"}, "image": {"alt": "Value over the time limit on a log axis. With bootstrapping the line is flat at 100. Without, it rises from under 10 to about 90, and lies below the dotted line at 40 for short limits."}} tags=["hide-input", "plot"]
def learned(limit, cut_is_end, gamma=0.99):
    """Fixed point of the target in one state whose recordings are cut after ``limit`` steps."""
    end, value = torch.zeros(limit), torch.zeros(())
    end[-1] = float(cut_is_end)
    for _ in range(1500):
        value = td_target(torch.ones(limit), end, value.expand(limit), gamma).mean()
    return value.item()


LIMITS = (10, 20, 50, 100, 200, 500, 1000)
RIGHT, WRONG = ([learned(limit, cut) for limit in LIMITS] for cut in (False, True))
fig, ax = plt.subplots(figsize=(6, 2.8))
ax.semilogx(LIMITS, RIGHT, "o-", label="truncation bootstraps")
ax.semilogx(LIMITS, WRONG, "s-", label="truncation taken for an end")
ax.axhline(40, color="k", ls=":", lw=1, label="stop at once")
ax.set(xlabel="time limit T (steps)", ylabel="value (sum of discounted reward)")
ax.legend(fontsize=8)
plt.show()

# %% tags=["hide-input", "check"]
claim(
    "At T = 50 the wrong rule finds {wrong:.1f} in place of {right:.1f}: less than the 40 for stopping, "
    "so its robot stops.",
    WRONG[2] < 40 < 99 < RIGHT[2],
    wrong=WRONG[2],
    right=RIGHT[2],
)

# %% [markdown] tags=["skip"]
# {{exercise 122.1a.predict-limit}}

# %% [markdown] tags=["skip"]
# {{exercise 122.1a.critic-target}}

# %% [markdown] tags=["slide"]
# ### Soft actor-critic
#
# The target, the actor's loss, the update. Note the action inside `actor_loss`: it comes from the
# actor with its gradient, and enters the critics.

# %%
show_source(SAC.target)

# %%
show_source(SAC.actor_loss)

# %%
show_source(SAC.update)

# %% [markdown] tags=["slide"]
# ### Twin critics as one product
#
# Networks of this size spend their time in starting small operations. So all critics lie side by side
# in one batched product a layer, all weights in one vector, and backpropagation is written by hand as
# one node. Beside it stands the loop that a reader would write:

# %%
show_source(Critics.__base__.readable)

# %% tags=["hide-input", "check"]
worst = 0.0
for seed in range(20):
    g = torch.Generator().manual_seed(seed)
    net = Critics(4, 2, (16, 16), 1 + seed % 4, g).double()
    obs, action = torch.randn(9, 4, generator=g).double(), torch.rand(9, 2, generator=g).double()
    action.requires_grad_()
    pairs = []
    for form in (net, net.readable):
        q = form(obs, action)
        pairs.append((q, *torch.autograd.grad(q.sin().sum(), (action, net.flat))))
    worst = max(worst, *((a - b).abs().max().item() for a, b in zip(*pairs)))
claim(
    "Values and gradients of both forms differ by at most {worst:.0e} over 20 random ensembles of one "
    "to four critics (float64).",
    worst < 1e-12,
    worst=worst,
)

# %% [markdown] tags=["slide"]
# ## Details that are easily missed
#
# 1. **Give the density u, not a.** The way back, $u = \operatorname{atanh} a$, is infinite where
#    $\tanh u$ rounds to 1. Haarnoja et al. {cite:p}`haarnoja2018sac`, appendix C.
# 2. **Uniform actions first.** Before any update TD3's actions are all alike, but for a little noise;
#    the authors of TD3 and SAC begin with random ones.
# 3. **The environment's bounds stay outside.** Agent and buffer know $[-1, 1]$; `to_bounds` scales at
#    the door. The target entropy belongs to $[-1, 1]$ as well.
# 4. **One shape for rewards and values.** $(B)$ minus $(B, 1)$ is $(B, B)$, without an error.
# 5. **The last observation of a vector environment is not the next episode's first.** Gymnasium
#    {cite:p}`towers2024gymnasium` resets either at once (`final_obs`) or in the next step, which then
#    takes no action.
#    `train` knows both.
# 6. **TD3's actor uses the first critic only**, SAC's the minimum of both.
# 7. **No gradient for the critics in the actor's step.** It would cost time, and nobody uses it.
# 8. **Two losses for the temperature.** We take $-\log\alpha\,(\dots)$, as most programs do; the paper
#    has $-\alpha\,(\dots)$. Both are zero at the same entropy, and their steps differ in size.

# %% [markdown] tags=["slide"]
# ## The experiment
#
# First the whole thing once, live: a few hundred steps, which teach nothing yet, but run.

# %%
import gymnasium as gym

agent = SAC(obs_dim=10, action_dim=2, hidden=(64, 64), lr=1e-3)
history = train(
    agent, gym.make("Reacher-v5"), steps=350, seed=0, learning_starts=200, batch_size=128,
    progress=False,  # in a notebook of yours leave it on
)  # fmt: skip
print(len(history.buffer), "transitions,", agent.updates, "updates")

# %% [markdown] tags=["skip"]
# Now five seeds, beside the SAC of stable-baselines3 {cite:p}`raffin2021sb3`: the same steps,
# seeds, widths, batches and rates, in turn in one process, evaluated on the same 20 starts without
# noise. Nothing was tuned for either. The networks are small (two layers of 64, batches of 128,
# rate 0.001), so that the cell takes minutes on one core. An update of stable-baselines3's default
# size (two layers of 256, batches of 256) costs several times as much, and is only timed. A test
# gives both programs the same weights, noise and transition, and finds the same three losses,
# update after update (theirs for the critics has a factor ½ more, which Adam does not feel).

# %% name="contest" tags=["long", "skip"]
keep(**contest(seeds=(0, 1, 2, 3, 4), steps=5000, every=1000))

# %% tags=["hide-input", "skip"]
class Idle:
    """The baseline that every robot should beat: it does nothing."""

    def act(self, obs, deterministic=False):
        return np.zeros(2)


class ByHand:
    """Pull the fingertip to the target, through the arm's Jacobian, and brake (no learning)."""

    def act(self, obs, deterministic=False):
        (c0, c1), (s0, s1), speed, off = obs[0:2], obs[2:4], obs[6:8], obs[8:10]
        s01, c01 = s0 * c1 + c0 * s1, c0 * c1 - s0 * s1  # sine and cosine of both angles together
        jacobian = np.array(
            [[-0.1 * s0 - 0.11 * s01, -0.11 * s01], [0.1 * c0 + 0.11 * c01, 0.11 * c01]]
        )
        return np.clip(-20 * jacobian.T @ off - 0.03 * speed, -1, 1)


IDLE, BY_HAND = (
    evaluate(kind(), gym.make("Reacher-v5"), SETTINGS["episodes"], seed=10_000).mean()
    for kind in (Idle, ByHand)
)

# %% mystnb={"figure": {"caption": "Return of an episode of Reacher-v5 (20 episodes a point), five seeds each: mean, least and best.", "name": "fig-rc-contest"}, "image": {"alt": "Return over environment steps. Two lines with bands, one for our SAC, one for that of stable-baselines3, a dotted line for an arm that does nothing, and a dashed line for a controller made by hand. Both begin far below the dotted line, lie above it after 1,000 steps, and rise slowly from there. The bands overlap at the end."}} tags=["hide-input", "plot"]
if CONTEST:
    fig, ax = plt.subplots(figsize=(6, 3))
    for name, label, color in (
        ("ours", "SAC of this page", "tab:blue"), ("peer", "stable-baselines3", "tab:orange")
    ):  # fmt: skip
        runs = np.array(CONTEST["returns"][name])
        ax.plot(CONTEST["steps"], runs.mean(0), "o-", color=color, label=label)
        ax.fill_between(CONTEST["steps"], runs.min(0), runs.max(0), color=color, alpha=0.2)
    ax.axhline(IDLE, color="k", ls=":", lw=1, label="no torque at all")
    ax.axhline(BY_HAND, color="k", ls="--", lw=1, label="by hand")
    ax.set(xlabel="environment steps", ylabel="return (sum of rewards)")
    ax.legend(fontsize=8)
    plt.show()

# %% tags=["hide-input", "check"]
if CONTEST:
    ours, peer = (np.array(CONTEST["returns"][name])[:, -1] for name in ("ours", "peer"))
    gap, half = paired(ours, peer)
    say(
        "After {steps:,} steps: ours {ours}, stable-baselines3 {peer} (mean ± standard deviation "
        "over {seeds} seeds). Ours minus theirs, paired: {gap:+.2f} ± {half:.2f} (95 %): " + (
            "no order shows." if abs(gap) <= half else
            "ours is ahead." if gap > 0 else "theirs is ahead."
        ),
        steps=CONTEST["steps"][-1], ours=spread(ours), peer=spread(peer), gap=gap, half=half,
        seeds=len(ours),
    )  # fmt: skip
    place = (
        "below the range" if ours.mean() < peer.min() else
        "above the range" if ours.mean() > peer.max() else "within the range"
    )  # fmt: skip
    say(
        "Our mean lies **{place}** of stable-baselines3's seeds ({low:.2f} to {high:.2f}). An arm "
        "that does nothing gets {idle:.2f} on the same starts, four lines made by hand (the "
        "Jacobian's transpose and a brake; its two gains were tried four times) {hand:.2f}: "
        + ("so far, learning is behind them. " if max(ours.mean(), peer.mean()) < BY_HAND else
           "learning has caught up with them. ")
        + (
            "Neither program's mean is 2 above that: this run is too short to teach reaching, and "
            "compares two beginnings."
            if max(ours.mean(), peer.mean()) < IDLE + 2
            else "The better of the two means is at least 2 above that."
        ),
        place=place, low=peer.min(), high=peer.max(), idle=IDLE, hand=BY_HAND,
    )  # fmt: skip
    longer = values_of("122.1a.contest", "longer")
    if longer:
        longer = longer["longer"]
        say(
            "And longer? One more training of ours, the arm of the first figure, has a return of {last:.2f} "
            "after {steps:,} steps. (One seed.)",
            last=longer["returns"][-1], steps=longer["steps"][-1],
        )  # fmt: skip
    way = {
        step: paired(*(np.array(CONTEST["returns"][name])[:, k] for name in ("ours", "peer")))
        for k, step in enumerate(CONTEST["steps"][:-1]) if k
    }  # fmt: skip
    parted = [step for step, (gap, half) in way.items() if abs(gap) > half]
    say(
        "On the way, ours minus theirs: "
        + ", ".join(f"{g:+.2f} ± {h:.2f} after {step:,}" for step, (g, h) in way.items())
        + " steps. " + (
            "Each of these intervals contains 0." if not parted else
            f"After {' and '.join(f'{step:,}' for step in parted)} steps the interval leaves out 0."
        ) + " A verdict at one length holds at that length."
    )  # fmt: skip
else:
    say(NOT_YET)

# %% tags=["hide-input", "check"]
if CONTEST:
    speeds = [np.array(CONTEST["steps per CPU second"][name]) for name in ("ours", "peer")]
    quotients = speeds[0] / speeds[1]  # of one seed each: they ran one after the other
    say(
        "**Speed of these whole runs** (simulator, actions, buffer and updates; evaluation left "
        "out): {fast:.0f} against {slow:.0f} environment steps per CPU second, a ratio of "
        "{ratio:.2f} (median of {seeds} seeds; {least:.2f} to {most:.2f})" + (
            "." if np.median(quotients) >= 1.5 else ", less than the 1.5 that we aim at."
        ),
        fast=np.median(speeds[0]), slow=np.median(speeds[1]), ratio=np.median(quotients),
        seeds=len(quotients), least=quotients.min(), most=quotients.max(),
    )  # fmt: skip
else:
    say(NOT_YET)

# %% tags=["hide-input", "check"]
if UPDATES:
    cost = {width: {n: np.array(v) for n, v in both.items()}
            for width, both in UPDATES["ms an update"].items()}  # fmt: skip
    ratios = {w: float(np.median(c["peer"] / c["ours"])) for w, c in cost.items()}
    small, wide = sorted(cost, key=int)  # a record has its keys in the order of the alphabet
    say(
        "One update alone, in turn in one process, median of {rounds} rounds: two layers of {small}: "
        "{a:.1f} ms against {b:.1f} ms, a ratio of {r:.2f}; two layers of {wide}: {c:.1f} ms against "
        "{d:.1f} ms, a ratio of {q:.2f}. " + (
            "The lead shrinks with the size: in wider layers more of the time goes into the products, "
            "which both programs share." if ratios[wide] < ratios[small] else
            "The lead does not shrink with the size."
        ) + " Whole runs were timed with layers of {small} only.",
        rounds=len(cost[small]["ours"]), small=small, wide=wide, r=ratios[small], q=ratios[wide],
        a=np.median(cost[small]["ours"]), b=np.median(cost[small]["peer"]),
        c=np.median(cost[wide]["ours"]), d=np.median(cost[wide]["peer"]),
    )  # fmt: skip
else:
    say(NOT_YET)

# %% [markdown] tags=["slide"]
# ### Does the critic believe too much?
#
# A policy goes where the critic errs upwards, so a single critic tends to overestimate
# {cite:p}`thrun1993issues,fujimoto2018td3`. In the smallest example, all $k$ actions are worth 0, and a
# critic sees each with noise of deviation 1. What does the best-looking action seem to be worth?

# %% tags=["hide-input"]
NOISE = np.random.default_rng(0).normal(size=(2, 20_000, 32))


def beliefs(actions):
    """What is believed of the chosen action, in each draw, by three ways to choose and to judge."""
    seen = NOISE[:, :, :actions]
    lesser = seen.min(0)
    first = np.take_along_axis(lesser, seen[0].argmax(1)[:, None], 1)[:, 0]
    return {
        "one critic": seen[0].max(1),
        "lesser of two (SAC)": lesser.max(1),
        "the first chooses, the lesser judges (TD3)": first,
    }


def believed(actions):
    return [values.mean() for values in beliefs(actions).values()]


def draw_belief(actions):
    fig, ax = plt.subplots(figsize=(5, 2.6))
    for label, values in beliefs(actions).items():
        ax.hist(values, bins=60, range=(-3, 4), histtype="step", lw=2, density=True, label=label)
    ax.axvline(0, color="k", ls=":", lw=1)
    ax.set(xlabel="believed value of the best-looking action (truth: 0)", ylabel="density")
    ax.legend(fontsize=8)
    return fig


explore(
    draw_belief,
    {"actions": [1, 2, 4, 8, 16, 32]},
    initial={"actions": 8},
    name="Belief in the best-looking action",
    alt=lambda actions: (
        "Three histograms for {} actions: one critic believes {:+.2f} in the mean, the lesser of "
        "two {:+.2f}, TD3's way {:+.2f}; the truth is 0.".format(actions, *believed(actions))
    ),
)

# %% tags=["hide-input", "check"]
claim(
    "With 8 actions one critic believes {one:+.2f} in the mean, the lesser of two {two:+.2f}, if its "
    "own favourite is taken, as in SAC. In TD3 the first critic alone chooses, and the lesser of two "
    "judges: {td3:+.2f}. With one action the lesser of two believes {low:+.2f}: the minimum is biased "
    "as well, downwards.",
    believed(8)[0] > believed(8)[1] > 0 > believed(1)[1]
    and max(believed(k)[2] for k in (1, 2, 4, 8, 16, 32)) < 0.02,
    one=believed(8)[0], two=believed(8)[1], td3=believed(8)[2], low=believed(1)[1],
)  # fmt: skip

# %% [markdown] tags=["skip"]
# And in training? TD3 beside its ancestor DDPG {cite:p}`lillicrap2016ddpg` (one critic, no smoothing, no
# delay) on Pendulum-v1, three seeds. Along training we compare $Q(s, \pi(s))$ with the discounted
# return that really follows, without a time limit in the way. One trap: a new critic says about 0, all
# returns here are negative, so **every** critic begins far too high. With slow targets it forgets
# that only after some $1/(\tau(1-\gamma))$ updates, so we take $\gamma = 0.98$ and $\tau = 0.05$ for both.
# (TD3 moves its targets with its actor, at every second update: half as fast a step.)

# %% name="critics" tags=["long", "skip"]
keep(**critics_contest(seeds=(0, 1, 2), steps=5000, every=500))

# %% mystnb={"figure": {"caption": "Left: Q minus the return that followed, along training: mean, least and most of three seeds. Right: both, for states along the trained policies' own paths. Above the dotted line a critic believes too much.", "name": "fig-rc-belief"}, "image": {"alt": "Two panels. Left, the bias of both methods over environment steps, with a dotted line at 0. Right, a scatter of the critic's value over the Monte-Carlo return, with a dotted diagonal."}} tags=["hide-input", "plot"]
LABELS = {"single": "DDPG, one critic", "twin": "TD3, two critics"}
if CRITICS:
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 3))
    for (name, label), color in zip(LABELS.items(), ("tab:orange", "tab:blue")):
        bias = np.array(CRITICS[name]["bias"])  # (seeds, evaluations)
        axes[0].plot(CRITICS["steps"], bias.mean(0), "o-", color=color, label=label)
        axes[0].fill_between(CRITICS["steps"], bias.min(0), bias.max(0), color=color, alpha=0.2)
        seen = [np.concatenate(CRITICS[name][part]) for part in ("returned", "q")]
        axes[1].plot(*seen, ".", ms=4, color=color, label=label)
    axes[0].axhline(0, color="k", ls=":", lw=1)
    ends = axes[1].get_xlim()
    axes[1].plot(ends, ends, "k:", lw=1)
    axes[0].set(xlabel="environment steps", ylabel="Q minus return")
    axes[1].set(xlabel="return that followed", ylabel="Q(s, π(s))")
    axes[0].legend(fontsize=8)
    plt.show()

# %% tags=["hide-input", "check"]
if CRITICS:
    bias, final = (
        {n: np.array([run[-1] for run in CRITICS[n][part]]) for n in LABELS}
        for part in ("bias", "returns")
    )
    gap, half = paired(bias["single"], bias["twin"])
    better, by = paired(final["twin"], final["single"])
    say(
        "At the end, Q minus return, mean ± standard deviation over 3 seeds: one critic {one}, two {two}; one "
        "minus two, paired, {gap:+.2f} ± {half:.2f} (95 %): " + (
            "no order shows" if abs(gap) <= half else
            "the single critic believes more, as the theory says" if gap > 0 else
            "the single critic believes **less**, against what the example above leads one to expect"
        ) + ". Return of an episode: TD3 {ret2}, DDPG {ret1}; TD3 minus DDPG, paired, {better:+.0f} ± "
        "{by:.0f}: " + (
            "no order shows." if abs(better) <= by else
            "TD3 is ahead." if better > 0 else "DDPG is ahead."
        ),
        one=spread(bias["single"]), two=spread(bias["twin"]), gap=gap, half=half,
        ret2=spread(final["twin"], 0), ret1=spread(final["single"], 0), better=better, by=by,
    )  # fmt: skip
    over = [n for n in LABELS if bias[n].mean() > 0]
    say(
        "In the mean " + (
            "both methods still believe too much" if len(over) == 2 else
            "neither method believes too much" if not over else
            f"{LABELS[over[0]]} believes too much, the other does not"
        ) + ". That does not make the other right: over the states of the right panel the mean of "
        "|Q − return| is {single:.1f} for DDPG and {twin:.1f} for TD3, which errs "
        + ("downwards" if bias["twin"].mean() < 0 else "upwards") + ". "
        + (
            "A curve of the left panel that still falls may be forgetting the start at 0. "
            if over else ""
        )
        + (
            "**On this task, at this length, the run doesn't prove what the minimum is for**; the "
            "example above does, and Fujimoto et al. saw it on Hopper and Walker2d after far more steps."
            if gap <= half else
            "The methods differ in three things at once, so the run doesn't say that the minimum alone "
            "does it."
        ),
        **{
            name: np.abs(
                np.concatenate(CRITICS[name]["q"]) - np.concatenate(CRITICS[name]["returned"])
            ).mean()
            for name in LABELS
        },
    )
else:
    say(NOT_YET)

# %% [markdown] tags=["slide"]
# ## What an expert asks
#
# **Entropy and reward scale.** With a fixed temperature only the ratio of reward to $\alpha$ counts:
# the best soft policy is $\pi(a) \propto \exp(Q(a)/\alpha)$. Multiply all rewards by 10, and the policy
# becomes narrow. (A *learned* temperature undoes most of that: it grows with the rewards until the
# entropy is the wanted one again.) Move the scale:

# %% tags=["hide-input"]
def draw_scale(scale):
    a = np.linspace(-1, 1, 400)
    q = scale * (0.6 * np.exp(-((a - 0.5) ** 2) / 0.05) + 0.5 * np.exp(-((a + 0.5) ** 2) / 0.05))
    weight = np.exp(q)
    fig, ax = plt.subplots(figsize=(5, 2.6))
    ax.plot(a, weight / (weight.sum() * (a[1] - a[0])))
    ax.set(xlabel="action", ylabel="density of the best soft policy", ylim=(0, 6))
    return fig


explore(
    draw_scale,
    {"scale": [0.3, 1, 3, 10, 30]},
    initial={"scale": 3},
    name="Reward scale and randomness",
    alt=lambda scale: f"Density over actions at reward scale {scale} and temperature 1, with two "
    "peaks; the larger the scale, the more of the weight is at the higher peak.",
)

# %% [markdown] tags=["skip"]
# **Updates a step.** `updates_per_step` above 1 takes more from each transition, and overestimates
# more; REDQ {cite:p}`chen2021redq` runs 20 with ten critics, of which two random ones make the target.
# **Observation normalisation.** Inputs of unlike units slow learning down. On-policy methods keep
# running means; off-policy, the statistics move under transitions that are stored, so store raw numbers
# and normalise when drawing, and save the statistics with the policy.
#
# **Seeds.** Three runs, or five, are few. Agarwal et al. {cite:p}`agarwal2021precipice` propose the
# **interquartile mean**, the mean of the middle half of all runs, with intervals from a bootstrap that redraws runs within each task:

# %% tags=["hide-input", "check"]
if CONTEST:
    final = {n: np.array(CONTEST["returns"][n])[:, -1:] for n in ("ours", "peer")}
    say(
        "; ".join(
            f"{label} {interquartile_mean(final[n]):.2f} ["
            + ", ".join(f"{x:.2f}" for x in stratified_bootstrap(final[n])) + "]"
            for n, label in (("ours", "ours"), ("peer", "stable-baselines3"))
        )
        + f" (interquartile mean of {len(final['ours'])} runs, 95 % bootstrap). A bootstrap of so "
        "few runs is too narrow: it can't leave their range."
    )  # fmt: skip
else:
    say(NOT_YET)

# %% [markdown] tags=["skip"]
# **Offline RL and its danger.** From a fixed log, nobody corrects the critic where the log has no
# actions, and the policy may go just there {cite:p}`levine2020offline`. In an example built for it,
# twenty critics fit the reward $1 - 4(a - 0.5)^2$ from noisy logged actions with $|a| < 0.4$, where it
# still rises; then each picks its favourite in $[-1, 1]$:

# %% tags=["hide-input", "check"]
g = torch.Generator().manual_seed(0)
critics = Critics(1, 1, (32, 32), 20, g)
optimizer = torch.optim.Adam(critics.parameters(), 3e-3)
logged = torch.rand(200, 1, generator=g) * 0.8 - 0.4
seen = 1 - 4 * (logged[:, 0] - 0.5) ** 2 + 0.3 * torch.randn(20, 200, generator=g)
for _ in range(400):
    optimizer.zero_grad()
    (critics(torch.zeros(200, 1), logged) - seen).square().mean(1).sum().backward()
    optimizer.step()
every = torch.linspace(-1, 1, 201)[:, None]
with torch.no_grad():
    q = critics(torch.zeros(201, 1), every)  # (20, 201)
pick = every[q.argmax(1), 0]
true = 1 - 4 * (pick - 0.5) ** 2
inside = every[:, 0].abs() <= 0.4
kept = every[inside, 0][q[:, inside].argmax(1)]  # the favourite among actions that the log has
safe = 1 - 4 * (kept - 0.5) ** 2
claim(
    "{out:.0%} of the critics pick an action that the log does not hold. In the mean they promise "
    "{said:.2f} and get {got:.2f}. Asked for their favourite **within** the log's range they promise "
    "{modest:.2f} and get {safe:.2f}; the logged actions themselves got {log:.2f}. So the danger is the "
    "promise, and staying near the data is the remedy.",
    bool(
        (pick.abs() > 0.4).double().mean() > 0.5
        and q.amax(1).mean() > true.mean() + 0.5
        and (q[:, inside].amax(1).mean() - safe.mean()).abs() < 0.2
        and safe.mean() > true.mean()
    ),
    out=(pick.abs() > 0.4).double().mean().item(),
    said=q.amax(1).mean().item(), got=true.mean().item(),
    modest=q[:, inside].amax(1).mean().item(), safe=safe.mean().item(),
    log=(1 - 4 * (logged - 0.5) ** 2).mean().item(),
)  # fmt: skip

# %% [markdown] tags=["slide"]
# ## At scale
#
# On a GPU with 16 cores three seeds of Hopper-v5 learn side by side: their networks in one batched
# product, an update as one CUDA graph, five copies of the simulator for each seed in processes of their
# own. The run is limited by time, and says how many steps it came to.

# %% name="hopper" tags=["gpu", "skip"]
from dlcourse.reinforcement_learning.experiments.robot_control_hopper import hopper

keep(**hopper(seeds=3, copies=5, seconds=130))

# %% mystnb={"figure": {"caption": "Hopper-v5: mean return of five episodes at each evaluation, one line a seed. Dotted: CleanRL's SAC on Hopper-v2 after one million steps; dashed: what standing still is worth.", "name": "fig-rc-hopper"}, "image": {"alt": "Return over environment steps for each seed on Hopper, with a dotted line at CleanRL's published mean, and a dashed one at 1,000."}} tags=["hide-input", "plot"]
HOPPER = values_of(
    "122.1a.hopper", "steps", "returns", "environment steps per second", "how", "stopped"
)
if HOPPER:
    fig, ax = plt.subplots(figsize=(6, 3))
    runs = np.array(HOPPER["returns"]).mean(2)  # (evaluations, seeds)
    for k in range(runs.shape[1]):
        ax.plot(HOPPER["steps"], runs[:, k], label=f"seed {k}")
    ax.axhline(2310, color="k", ls=":", lw=1, label="CleanRL, Hopper-v2, 1,000,000 steps")
    ax.axhline(1000, color="0.6", ls="--", lw=1, label="standing still for 1,000 steps")
    ax.set(xlabel="environment steps of each seed", ylabel="return (sum of rewards)")
    ax.legend(fontsize=8)
    plt.show()

# %% tags=["hide-input", "check"]
if HOPPER:
    say(
        "After {steps:,} steps a seed: {last} (mean ± standard deviation over seeds), at {speed:.0f} "
        "environment steps a second of all seeds together ({how}). Each step on its feet is worth "
        "1, so that standing still for an episode returns about 1,000. Of the last three evaluations "
        "the means are {three}: the return still jumps. CleanRL's figure is of training episodes, "
        "after more steps and on another version of the task, so the dotted line gives a scale, not a "
        "verdict. The run stopped: {stopped}.",
        stopped=HOPPER["stopped"], three=", ".join(f"{run.mean():.0f}" for run in runs[-3:]),
        steps=HOPPER["steps"][-1], last=spread(runs[-1], 0),
        speed=HOPPER["environment steps per second"], how=HOPPER["how"],
    )  # fmt: skip
else:
    say(NOT_YET)

# %% [markdown] tags=["skip"]
#
# CleanRL {cite:p}`huang2022cleanrl` publishes, after **one million** steps and of training episodes: SAC on
# Hopper-v2 2310 ± 343 and HalfCheetah-v2 9635 ± 1424. The short runs above, on easy tasks, say nothing
# about those. TD3's authors report −3.60 ± 0.56 on an earlier version of Reacher: the *best* evaluation
# within a million steps, mean of ten trials.
#
# ## Limits
#
# - Each question was put to one easy task, for a few thousand steps, with three to five seeds and one
#   setting, which was not tuned.
# - Off-policy methods want few, costly steps. Where steps are cheap, on-policy PPO with thousands of
#   environments is often faster on the clock.
# - Reward must be given. A wrong one is optimised as eagerly as a right one.
# - At work: stable-baselines3 or CleanRL; on a real robot, limits on torque and speed outside of any
#   network. Section 122.1b goes from the simulator to the robot.

# %% [markdown] tags=["slide"]
# ## Slips that still run
#
# The chapter began with a short listing. The {doc}`errata </book/errata>` list its slips, each with a
# test. The gravest: its critic reads the state only, so **the actor has no gradient at all**.

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
actor = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Linear(8, 2), torch.nn.Tanh())
value = torch.nn.Linear(3, 1)  # V(s): no action enters
states = torch.randn(4, 3)
(-value(states).mean()).backward()
print("gradients of the actor:", {p.grad for p in actor.parameters()})
print("shape of its target:", tuple((torch.randn(4) + 0.99 * value(states)).shape))

# %% [markdown] tags=["skip"]
# The second line is another: rewards $(B)$ and values $(B, 1)$ make a target of $(B, B)$. Besides, any
# end counts as an end, the action is clamped (no density, no gradient outside), the target moves with
# the critic, and no optimizer ever steps.

# %% [markdown] tags=["skip"]
# ## Quiz

# %% [markdown] tags=["skip"]
# {{quiz 122.1a}}

# %% [markdown] tags=["slide"]
# ## Summary
#
# - The critic reads state **and action**; its gradient with respect to the action teaches the actor.
# - A time limit is not an end: bootstrap after truncation, not after termination.
# - A squashed action needs the density after tanh, computed from u.
# - The lesser of two critics leans against overestimation, and is itself biased.
# - Prove densities, targets and gradients first; a curve over a few seeds proves little.
#
# References: each citation above leads to its source; the
# {doc}`bibliography </book/bibliography>` lists them all.
