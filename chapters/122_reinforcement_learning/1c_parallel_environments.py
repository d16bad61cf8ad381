# %% [markdown] tags=["slide"]
# (sec-122-1c)=
# # 122.1c Thousands of environments
#
# A learner that acts in one environment waits most of its time: for one small step of physics, then
# for one small product of matrices. A GPU can take a step in thousands of environments in about the
# time of one. Which algorithm can use so much experience at once? At the end of this section you can
# write PPO from its equations, prove its parts equal to an independent library's, write an environment
# as a tensor, and tell which of the two, acting or learning, limits your speed.
#
# You need: what a policy and a value are (the chapter's {doc}`opening <0_overview>`), and no GPU.

# %% tags=["definitions", "hide-input", "skip"]
import statistics
import time
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.stats import ttest_ind

from dlcourse.notebook import claim, explore, keep, say, show_source, values_of
from dlcourse.reinforcement_learning import (
    PPO,
    CartPole,
    GymnasiumVector,
    Pendulum,
    clipped_surrogate,
    collect_rollout,
    first_episode_returns,
    generalized_advantages,
)
from dlcourse.reinforcement_learning.experiments import parallel_environments_peer as peer
from dlcourse.reinforcement_learning.experiments import parallel_environments_speed as speed

plt.style.use("dlcourse.notebook.course")
NOT_YET = "*This part is not recorded yet.*"


def welch(a, b):
    """(mean of a − mean of b, half of its 95 % interval): samples apart, unequal spreads."""
    interval = ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    return statistics.mean(a) - statistics.mean(b), (interval.high - interval.low) / 2


def span(values, digits=1):
    """The range of some numbers; a single one is no range."""
    low, high = (f"{x:,.{digits}f}" for x in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


# %% [markdown] tags=["slide"]
# ## A question to begin with
#
# A pole stands on a cart. Each step, of 0.02 s, costs a dozen additions and products. How many steps a
# second can a computer take?

# %% mystnb={"figure": {"caption": "Steps a second of CartPole with random actions on the machine that built this page, one thread. With Gymnasium's vector environment that loops over its environments; with its own CartPole whose states are rows of a NumPy array; with the states as rows of a tensor.", "name": "fig-1c-speed"}, "image": {"alt": "Three lines over the number of environments, from 1 to 4,096. That of Gymnasium's loop soon is flat. Those of NumPy's rows and of the batched tensors begin near it or below, rise about in proportion to the number of environments, and end far above."}} tags=["hide-input", "plot"]
threads = torch.get_num_threads()
torch.set_num_threads(1)
MAKE = {
    "Gymnasium, in a loop": partial(GymnasiumVector, "CartPole-v1"),
    "Gymnasium, NumPy rows": partial(speed.GymnasiumArrays, "CartPole-v1"),
    "one tensor": CartPole,
}
SIZES = dict.fromkeys(MAKE, (1, 16, 256, 4096)) | {"Gymnasium, in a loop": (1, 16, 256)}
rates = {
    name: {n: speed.steps_per_second(MAKE[name](n), "cpu", 0.15) for n in sizes}
    for name, sizes in SIZES.items()
}
fig, ax = plt.subplots(figsize=(5.6, 3), layout="constrained")
for name, style in zip(rates, ("s--", "^-.", "o-"), strict=True):
    ax.loglog(list(rates[name]), list(rates[name].values()), style, label=name)
ax.set(xlabel="environments", ylabel="steps a second")
ax.legend()
plt.show()

# %% tags=["hide-input", "check"]
gain = rates["one tensor"][4096] / rates["one tensor"][1]
say(
    "From 1 to 4,096 environments, the tensor's steps a second grew {gain:,.0f} times on this machine, "
    "on one thread and without a GPU; those of NumPy's rows grew {rows:,.0f} times, and are "
    "{over:.1f} times the tensor's at 4,096. From 1 to 256, the loop's changed by a factor of {loop:.1f}.",
    gain=gain,
    rows=rates["Gymnasium, NumPy rows"][4096] / rates["Gymnasium, NumPy rows"][1],
    over=rates["Gymnasium, NumPy rows"][4096] / rates["one tensor"][4096],
    loop=rates["Gymnasium, in a loop"][256] / rates["Gymnasium, in a loop"][1],
)

# %% [markdown]
# (The NumPy rows are Gymnasium's own: `make_vec("CartPole-v1", vectorization_mode="vector_entry_point")`.
# Few of its tasks have such a form. There an ended episode starts anew in a step of its own, counted
# here as a step. On a CPU it is the rows that count, and NumPy may well be ahead; a tensor's step also
# runs on a GPU.)
#
# The reason is plain. Each tensor or array operation has a fixed cost, some microseconds to call it, and a cost
# for each number. With one environment only the fixed cost counts. So a thousand environments take
# little longer than one, until the arithmetic itself weighs. On a GPU that point comes later still.
#
# Simulators for robots are built on this: Isaac Gym {cite:p}`makoviychuk2021isaac` and Brax
# {cite:p}`freeman2021brax` step thousands of robots on one GPU, and a walking policy for a
# four-legged robot was learned so in minutes {cite:p}`rudin2021minutes`. What learns there is PPO.
#
# ## The idea
#
# :::{diagram} figures/1c_parallel_environments.svg
# ---
# name: fig-1c-loop
# alt: A loop. N environments as rows of a tensor send observations to the policy, which sends back
#   actions, T times. The rollout of T by N steps goes to advantages, computed backwards in time, then
#   to a few epochs of clipped gradient steps on shuffled minibatches. The new policy goes back to the
#   environments, and the old rollout is thrown away.
# ---
# One iteration of PPO. The data are of the present policy; after the update they are thrown away.
# :::
#
# **On-policy** learning uses each experience for one improvement of the policy that made it, and then
# throws it away. That seems wasteful, and where a step is dear it is: the SAC and TD3 of section
# {doc}`122.1a <1a_robot_control>` keep every step in a buffer. But where steps are nearly free, three
# things speak for on-policy learning.
#
# - **No buffer, no old data.** The state of a million environments needs no more than their rows.
# - **The gradient averages over environments.** Environments side by side are in different moments of
#   their episodes, so their steps are nearly independent, as those of one environment in a row are not.
#   A3C used this with a few threads {cite:p}`mnih2016a3c`.
# - **No value of an action must be learned.** The critic only says how good a *state* is, and learns it
#   from returns of the present policy.
#
# ### From a gradient to PPO
#
# Let $J(\theta)$ be the expected return of the policy $\pi_\theta(a \mid s)$. Its gradient is an average
# over the policy's own steps {cite:p}`williams1992reinforce`:
#
# $$
# \nabla J = \mathbb{E}\big[\nabla \log \pi_\theta(a_t \mid s_t)\, A_t \big],
# $$ (eq-1c-gradient)
#
# where $A_t$ says how much better the action was than the policy's average there. After *one* step along
# that gradient the data are of an old policy. To take several, one weighs each action by the **ratio**
# $\rho_t = \pi_\theta(a_t \mid s_t) / \pi_{\text{old}}(a_t \mid s_t)$. At $\theta_{\text{old}}$,
# $\nabla \rho_t = \nabla \log \pi_\theta$, so $\mathbb{E}[\rho_t A_t]$ has the gradient
# {eq}`eq-1c-gradient` there. Further away it can't be trusted. PPO {cite:p}`schulman2017ppo` takes away
# the reason to go there:
#
# $$
# L = \mathbb{E}\Big[\min\big(\rho_t \hat A_t,\; \operatorname{clip}(\rho_t, 1 - \epsilon, 1 + \epsilon)\,
# \hat A_t\big)\Big].
# $$ (eq-1c-clip)

# %%
show_source(clipped_surrogate)

# %% [markdown]
# The minimum is not symmetric. Move the advantage's sign, and see where the slope is zero: only where
# the policy has *already* gone too far in the *good* direction. A step that went wrong keeps its slope,
# however far it went, and is brought back.

# %% tags=["hide-input"]
RATIOS = torch.linspace(0.3, 1.9, 161)


def flat_share(advantage, clip):
    """(n,) bool: where the objective has no slope."""
    log_ratio = RATIOS.log().requires_grad_()
    clipped_surrogate(log_ratio, torch.zeros(161), torch.full((161,), advantage), clip).backward()
    return log_ratio.grad == 0


def draw_surrogate(advantage, clip):
    flat = flat_share(advantage, clip)
    low, high = 1 - clip, 1 + clip
    y = torch.min(RATIOS * advantage, RATIOS.clamp(low, high) * advantage)
    fig, ax = plt.subplots(figsize=(5, 2.8), layout="constrained")
    ax.plot(RATIOS, RATIOS * advantage, "--", color="0.6", label="ratio × advantage")
    ax.plot(RATIOS, y, color="tab:blue", lw=2, label="clipped")
    ax.fill_between(RATIOS, -4, 4, where=flat, color="tab:orange", alpha=0.25, label="no slope")
    ax.axvline(1, color="0.3", lw=1, ls=":")
    ax.set(xlabel="ratio of new to old probability", ylabel="objective", ylim=(-4, 4))
    ax.legend(fontsize=8, loc="upper left" if advantage > 0 else "lower left")
    return fig


explore(
    draw_surrogate,
    {"advantage": [-2.0, -1.0, 1.0, 2.0], "clip": [0.1, 0.2, 0.4]},
    initial={"advantage": 1.0, "clip": 0.2},
    name="PPO's objective for one action",
    alt=lambda advantage, clip: (
        f"The objective over the ratio, for advantage {advantage:g} and clip {clip:g}. It has no slope "
        + (f"above {1 + clip:g}." if advantage > 0 else f"below {1 - clip:g}.")
    ),
)

# %% [markdown]
# {{exercise 122.1c.clipped-objective}}

# %% [markdown] tags=["slide"]
# ### How good was an action?
#
# A critic $V(s)$ learns the return from each state. One **TD error** $\delta_t = r_t + \gamma V(s_{t+1}) -
# V(s_t)$ judges an action by a single reward and the critic's word. A sum of later errors relies less on
# the critic, and more on chance. Generalised advantage estimation {cite:p}`schulman2016gae` mixes all
# lengths, with a weight $\lambda$ between 0 (the critic's word) and 1 (the whole return):
#
# $$
# \begin{aligned}
# \delta_t &= r_t + \gamma\,(1 - \text{terminated}_t)\, V(s'_t) - V(s_t), \\
# \hat A_t &= \delta_t + \gamma \lambda\,(1 - \text{ended}_t)\, \hat A_{t+1} .
# \end{aligned}
# $$ (eq-1c-gae)
#
# Two different flags stand there. A pole that **terminated** has fallen: nothing comes after, and the
# value is 0. An episode that was **truncated** ran into a time limit that the agent can't see: the state
# $s'_t$ had a future, and its value counts {cite:p}`pardo2018time`. Either one *ends* the sum, since the
# next row of the tensor belongs to another episode. And $s'_t$ is the state that was *reached*, not the
# first of the next episode, which an automatic reset puts in its place.

# %%
show_source(generalized_advantages)

# %% tags=["hide-input", "check", "nbval-check-output"]
gamma, limit = 0.99, 200
one = torch.ones(limit, 1)
right = torch.full((limit, 1), 1 / (1 - gamma))  # reward 1 for ever
last = torch.zeros(limit, 1, dtype=torch.bool)
last[-1] = True
no = torch.zeros_like(last)
kept = generalized_advantages(one, right, right, no, last, gamma, 0.95)
lost = generalized_advantages(one, right, right, last, no, gamma, 0.95)
claim(
    "An example by hand: reward 1 in every step, so every state is worth {worth:.0f} at γ = {gamma}. A critic "
    "that knows this finds each action's advantage to be 0. If the limit of {limit} steps is taken for an "
    "end, the last action gets {lost:.0f}, as if it had been a disaster; and with its neighbours, "
    "{share:.0f} % of all steps are off by more than 1.",
    kept.abs().max().item() < 1e-3 and lost[-1].item() < -90,
    worth=1 / (1 - gamma),
    gamma=gamma,
    limit=limit,
    lost=lost[-1].item(),
    share=100 * (lost.abs() > 1).float().mean().item(),
)

# %% [markdown]
# {{exercise 122.1c.advantages}}

# %% [markdown] tags=["slide"]
# ### An environment as a tensor
#
# What must change for an environment to run in thousands of copies? No `if`: every branch becomes a
# `where` over all rows. No loop over environments. And no question to the GPU whether an episode has
# ended: a new start is drawn for *every* row, and taken where it is needed.

# %%
show_source(CartPole._move)

# %%
show_source(CartPole.step)

# %% [markdown]
# The tests compare `CartPole` and `Pendulum` with Gymnasium's
# {cite:p}`towers2024gymnasium` over 1,000 random steps in float64, with all ends and limits. Here is the
# comparison in short:

# %% tags=["hide-input", "check"]
import gymnasium

single = gymnasium.make("CartPole-v1")
single.reset(seed=0)
row = CartPole(1, obs_dtype=torch.float64)
furthest, g = 0.0, torch.Generator().manual_seed(0)
for _ in range(200):
    row.state = torch.tensor(np.array(single.unwrapped.state, dtype=np.float64))[None]
    action = torch.randint(2, (1,), generator=g)
    _, _, terminated, truncated, _ = single.step(action.item())
    step = row.step(action)
    exact = np.array(single.unwrapped.state, dtype=np.float64)
    furthest = max(furthest, np.abs(step.reached[0].numpy() - exact).max())
    assert (step.terminated.item(), step.truncated.item()) == (terminated, truncated)
    if terminated or truncated:
        single.reset()
claim(
    "Over 200 steps the two states differ by at most {furthest:.0e}.",
    furthest < 1e-12,
    furthest=furthest,
)

# %% [markdown]
# {{exercise 122.1c.reset-rows}}

# %% [markdown] tags=["slide"]
# ## Details that implementations need
#
# Huang and others {cite:p}`huang2022details` counted 37 of them, and several studies found that they
# matter as much as the clipping {cite:p}`engstrom2020implementation,andrychowicz2021matters`.
#
# 1. **A last policy layer with weights a hundred times smaller**, so that all actions begin about
#    equally probable. In the comparison of Andrychowicz and others few choices mattered more.
# 2. **Observations divided by their running deviation.** We store them raw, and normalise again at
#    the update. So our statistics stand still within an iteration: else the same observation would
#    give another log-probability at the update, and $\rho$ would not start at 1. VecNormalize of
#    stable-baselines3 and NormalizeObservation of Gymnasium give out normalised observations. These
#    are stored, and $\rho$ starts at 1 though the statistics move.
# 3. **Advantages normalised in each minibatch.** The learning rate is then free of the reward's unit.
# 4. **Rewards divided, never centred.** To take away a mean would change the task: it would pay for
#    ending early or late.
# 5. **The value after a time limit**, of the state that was reached. `next_values` has a row of its own
#    for that.
# 6. **Rollouts shorter than episodes.** With many environments 16 or 32 steps each are enough, as the
#    critic stands in for what comes after.
# 7. **One shuffled order over all $T \times N$ steps**, so that a minibatch mixes times and
#    environments.
# 8. **No clipping of the value loss.** It is in the first implementations, and did not help.
# 9. **The score is of whole episodes.** The next paragraph shows why.

# %% tags=["hide-input", "check"]
N_SHORT = 2048
pushed, g = CartPole(N_SHORT, seed=3), torch.Generator().manual_seed(3)
lengths = torch.zeros(N_SHORT)
running = torch.ones(N_SHORT, dtype=torch.bool)
while running.any():
    step = pushed.step(torch.randint(2, (N_SHORT,), generator=g))
    lengths += running
    running &= ~(step.terminated | step.truncated)
first_hundred = lengths.sort().values[:100].mean().item()
claim(
    "{n:,} environments start together, with random actions. The first 100 episodes that end last "
    "{first:.0f} steps on average; all first episodes {all:.0f}. \"The last 100 episodes\", the usual "
    "curve, depends on the number of environments: each environment should count once.",
    first_hundred < 0.7 * lengths.mean().item(),
    n=N_SHORT,
    first=first_hundred,
    all=lengths.mean().item(),
)

# %% [markdown] tags=["slide"]
# ## What do more environments buy?
#
# Steps a second are no aim in themselves. More environments give a gradient with less noise. Here is
# that noise: two estimates of the policy gradient from separate environments, 16 steps each, and
# the cosine of the angle between them. With 1 they would be the same; near 0 they have hardly anything
# to do with each other. We measure it for the first policy, and for one that has learned from 64
# environments as in the next section.

# %% tags=["hide-input", "check"]
def rollout_of(agent, many, before):
    """16 steps of ``many`` environments after ``before`` others, and their advantages."""
    crowd = CartPole(many, seed=0)
    obs = crowd.reset()
    for _ in range(before):  # away from the common start
        obs = crowd.step(agent.act(obs)[0]).obs
    r, _ = collect_rollout(agent, crowd, obs, 16)
    raw = generalized_advantages(
        r.rewards, r.values, r.next_values, r.terminated, r.truncated, 0.99, 0.95
    )
    return r, (raw - raw.mean()) / raw.std()


def policy_gradient(agent, r, advantages, columns):
    """The gradient of the surrogate over some environments, as one vector."""
    policy = agent.network.policy(r.observations[:, columns])
    log_prob = policy.log_prob(r.actions[:, columns]).flatten()
    loss = clipped_surrogate(
        log_prob, r.log_probs[:, columns].flatten(), advantages[:, columns].flatten(), 0.2
    )
    parts = torch.autograd.grad(loss, agent.network.actor.parameters())
    return torch.cat([p.flatten() for p in parts])


def cosines_of(agent, many, before):
    """{environments: cosines of separate pairs of gradients}, at most 32 pairs each."""
    r, advantages = rollout_of(agent, many, before)
    found = {}
    for n in (4, 16, 64, 256, 1024):
        halves = [
            policy_gradient(agent, r, advantages, slice(n * k, n * (k + 1)))
            for k in range(2 * min(32, many // (2 * n)))
        ]
        found[n] = [
            torch.cosine_similarity(a, b, dim=0).item()
            for a, b in zip(halves[::2], halves[1::2], strict=True)
        ]
    return found


first = cosines_of(PPO(4, 2, discrete=True, seed=0), 16_384, before=40)
learner = PPO(4, 2, discrete=True, lr=3e-3, epochs=4, minibatches=4, seed=0)
narrow = CartPole(64, seed=0)
obs = narrow.reset()
for _ in range(16):
    rollout, obs = collect_rollout(learner, narrow, obs, 32)
    learner.update(rollout)
# As long as its episodes: else all environments would be near their common start.
later = cosines_of(learner, 8_192, before=500)
mean_first = {n: statistics.mean(c) for n, c in first.items()}
mean_later = {n: statistics.mean(c) for n, c in later.items()}

# %% mystnb={"figure": {"caption": "Agreement of two independent estimates of the policy gradient, for the first policy and after 16 updates in 64 environments; one seed. Lines: means of 32 pairs up to 64 environments; of 32 and 8 before training at 256 and 1,024, of 16 and 4 after it. Bands: from the least to the greatest of the pairs.", "name": "fig-1c-noise"}, "image": {"alt": "Two lines over the number of environments, from 4 to 1,024, with bands. That of the first policy is near 1 from 64 environments on, and its band narrows. From there on that of the trained policy lies below it, with a wider band."}} tags=["hide-input", "plot"]
fig, ax = plt.subplots(figsize=(5.2, 2.9), layout="constrained")
for name, found, style in (
    ("first policy", first, "o-"),
    ("after 16 updates", later, "s--"),
):
    line = ax.semilogx(
        list(found), [statistics.mean(c) for c in found.values()], style, label=name
    )[0]
    lows, highs = zip(*((min(c), max(c)) for c in found.values()), strict=True)
    ax.fill_between(list(found), lows, highs, alpha=0.2, color=line.get_color())
ax.set(xlabel="environments, 16 steps each", ylabel="cosine of two gradients", ylim=(-1.05, 1.05))
ax.legend(fontsize=8, loc="lower right")
plt.show()

# %% tags=["hide-input", "check"]
claim(
    "Before training the cosine is {few:.2f} ± {few_sd:.2f} with 4 environments, {train:.2f} with 64 "
    "and {many:.3f} ± {many_sd:.3f} with 1,024 (mean ± standard deviation of {few_n}, {train_n} and "
    "{many_n} pairs; each of the last above 0.95). Another factor of four can then bring little.",
    mean_first[4] < mean_first[64] < mean_first[1024]
    and min(first[1024]) > 0.95
    and min(len(c) for c in first.values()) >= 8,
    few=mean_first[4],
    few_sd=statistics.stdev(first[4]),
    few_n=len(first[4]),
    train=mean_first[64],
    train_n=len(first[64]),
    many=mean_first[1024],
    many_sd=statistics.stdev(first[1024]),
    many_n=len(first[1024]),
)
lost, half_lost = welch(first[64], later[64])
claim(
    "After 16 updates it is {train:.2f} with 64 environments, {mid:.2f} with 256 and {many:.2f} with "
    "1,024 (means of {train_n}, {mid_n} and {many_n} pairs). With 64, the number that trained this "
    "policy, it has fallen by {lost:.2f} ± {half:.2f} (95 %). This is one policy of one seed: how many "
    "environments would be enough differs from policy to policy.",
    lost > half_lost and all(mean_later[n] < mean_first[n] for n in (64, 256, 1024)),
    train=mean_later[64],
    mid=mean_later[256],
    many=mean_later[1024],
    train_n=len(later[64]),
    mid_n=len(later[256]),
    many_n=len(later[1024]),
    lost=lost,
    half=half_lost,
)

# %% [markdown]
# This is the *gradient noise scale* of McCandlish and others {cite:p}`mccandlish2018batch`. As long as
# estimates disagree, twice the environments save almost half of the updates. Once they agree, more
# environments only cost. They found, too, that the noise grows in the course of training and differs
# from task to task. So a number of environments that is plenty at first can be too small later:
# measure it late as well, and on your own task.
#
# ## CartPole learns
#
# {numref}`fig-1c-learns` is all that was said, put together: 64 environments in a tensor, 32 steps each
# between updates.

# %%
def learn_cart_pole(seed, updates=16, every=8):
    """(updates, scores): what whole episodes return before and after learning."""
    env = CartPole(64, seed=seed)
    agent = PPO(4, 2, discrete=True, lr=3e-3, epochs=4, minibatches=4, seed=seed)
    obs, scores = env.reset(), []
    for update in range(updates + 1):
        if update % every == 0:
            scores.append(first_episode_returns(agent, CartPole(64), seed=1000 + seed).mean().item())
        rollout, obs = collect_rollout(agent, env, obs, steps=32)
        if update < updates:
            agent.update(rollout)
    return scores


curves = [learn_cart_pole(seed) for seed in range(3)]

# %% mystnb={"figure": {"caption": "PPO in 64 batched environments; mean return of 64 whole episodes by the most probable action; one line a seed. Dotted: 475, where the task counts as solved.", "name": "fig-1c-learns"}, "image": {"alt": "Three lines over environment steps, from 0 to 32,768. All begin far below 475 and end well above where they began."}} tags=["hide-input", "plot"] card=true
fig, ax = plt.subplots(figsize=(5.4, 2.8), layout="constrained")
for seed, scores in enumerate(curves):
    ax.plot([8 * 32 * 64 * k for k in range(len(scores))], scores, "o-", label=f"seed {seed}")
ax.axhline(475, color="0.3", ls=":", lw=1)
ax.set(xlabel="environment steps", ylabel="return", ylim=(0, 520))
ax.legend(fontsize=8)
plt.show()

# %% tags=["hide-input", "check"]
claim(
    "In {steps:,} steps, all in a few seconds of one thread, the return rises from {before:.0f} to "
    "{after:.0f} (means of {n} seeds). Each seed gains at least {gain:.0f}; the worst ends at "
    "{worst:.0f}. {falls} of {n} seeds end below an earlier check: the return need not rise steadily.",
    all(s[-1] > s[0] + 100 for s in curves),
    steps=16 * 32 * 64,
    before=statistics.mean(s[0] for s in curves),
    after=statistics.mean(s[-1] for s in curves),
    n=len(curves),
    worst=min(s[-1] for s in curves),
    gain=min(s[-1] - s[0] for s in curves),
    falls=sum(s[-1] < max(s) for s in curves),
)

# %% [markdown] tags=["slide"]
# ## Beside stable-baselines3
#
# Is this PPO as good as a known one {cite:p}`raffin2021sb3`? Both get the same task, steps and
# hyperparameters: those of its authors' list for CartPole, with constant rates and half the epochs,
# nothing tuned here. One judge scores them all. The third contestant is ours in the batched task.
#
# With these settings a policy may hold the pole at one check and lose it by the next. So the last
# check alone is partly luck, and we compare the mean over all checks. A seed's number draws other
# weights and actions in each program, so runs of one number are no pairs.

# %% tags=["long", "hide-input"] name="peer"
torch.set_num_threads(1)
settings = peer.Settings()
compared = peer.compare(seeds=(0, 1, 2, 3), s=settings)
for name, runs in compared.items():
    print(
        f"{name:18} returns {[round(r['scores'][-1]) for r in runs]}"
        f"  steps/s {[round(r['rate']) for r in runs]}"
    )
keep(compared=compared, total=settings.total, checks=settings.checks)

# %% tags=["hide-input", "check"]
PEER = values_of("122.1c.peer", "compared", "total", "checks")
if PEER:
    C = PEER["compared"]
    last = {name: [r["scores"][-1] for r in runs] for name, runs in C.items()}
    mean = {name: [statistics.mean(r["scores"]) for r in runs] for name, runs in C.items()}
    rate = {name: [r["rate"] for r in runs] for name, runs in C.items()}
    table = [
        "| contestant | mean return over all checks | return at the last check | steps/s |",
        "|---|---|---|---|",
    ]
    for name in C:
        table.append(
            f"| {name} | {statistics.mean(mean[name]):.0f} ± {statistics.stdev(mean[name]):.0f} "
            f"| {statistics.mean(last[name]):.0f} ± {statistics.stdev(last[name]):.0f} "
            f"| {statistics.median(rate[name]):,.0f} |"
        )
    OURS, THEIRS = "ours, Gymnasium", "stable-baselines3"
    gap, half = welch(mean[OURS], mean[THEIRS])
    end_gap, end_half = welch(last[OURS], last[THEIRS])
    curves_of = [r["scores"] for runs in C.values() for r in runs]
    drops = [a - b for c in curves_of for a, b in zip(c, c[1:], strict=False)]
    ratio = [a / b for a, b in zip(rate[OURS], rate[THEIRS], strict=True)]
    if abs(gap) <= half:
        verdict = (
            "{n} seeds can't tell which is better, nor that they are equally good: a difference of "
            f"{abs(gap) + half:.0f} points would be within the interval."
        )
    elif gap > 0:
        verdict = "Ours is ahead here."
    else:
        verdict = "stable-baselines3 is ahead here."
    say(
        "\n".join(table)
        + "\n\nMean ± standard deviation over {n} seeds, {total:,} steps, 8 environments; a return is at "
        "most 500. Ours in Gymnasium minus stable-baselines3, mean over all checks: {gap:+.0f} ± {half:.0f} "
        "(95 %, Welch's interval for samples that are not paired). "
        + verdict
        + " The last check alone gives {end_gap:+.0f} ± {end_half:.0f}; from one check to the next the "
        "return fell by up to {drop:.0f}. Our steps a second are {low:.2f} to {high:.2f} times its own: "
        "with 8 environments both spend their time on small gradient steps, and a faster environment "
        "helps little.",
        n=len(ratio),
        total=PEER["total"],
        gap=gap,
        half=half,
        end_gap=end_gap,
        end_half=end_half,
        drop=max(drops),
        low=min(ratio),
        high=max(ratio),
    )
else:
    say(NOT_YET)

# %% mystnb={"figure": {"caption": "Three learners of CartPole-v1 with equal settings; mean and range over seeds. The judge plays 100 whole episodes by the most probable action.", "name": "fig-1c-peer"}, "image": {"alt": "Three lines of the return over environment steps, with shaded ranges over seeds that overlap."}} tags=["hide-input", "plot"]
if PEER:
    fig, ax = plt.subplots(figsize=(5.8, 3), layout="constrained")
    steps = [PEER["total"] * (k + 1) / PEER["checks"] for k in range(PEER["checks"])]
    for (name, runs), style in zip(C.items(), ("o-", "s--", "^:"), strict=True):
        scores = np.array([r["scores"] for r in runs])
        line = ax.plot(steps, scores.mean(0), style, label=name)[0]
        ax.fill_between(steps, scores.min(0), scores.max(0), color=line.get_color(), alpha=0.15)
    ax.set(xlabel="environment steps", ylabel="return", ylim=(0, 520))
    ax.legend(fontsize=8)
    plt.show()

# %% [markdown] tags=["slide"]
# ## At scale: a GPU
#
# First without any learning: random actions, and the number of environments grows.

# %% tags=["gpu", "hide-input"] name="steps"
task = speed.TASKS["CartPole"]
sizes = [16, 64, 256, 1024, 4096, 16384, 65536]
kinds = {
    "tensor on the GPU": (lambda task, n: task.batched(n, "cuda"), "cuda", sizes),
    "tensor on the CPU": (lambda task, n: task.batched(n), "cpu", sizes),
    "Gymnasium, one process": (lambda task, n: GymnasiumVector(task.name, n), "cpu", [16, 64, 256]),
    "Gymnasium, NumPy rows": (
        lambda task, n: speed.GymnasiumArrays(task.name, n),
        "cpu",
        sizes,
    ),
    "Gymnasium, a process each": (
        lambda task, n: GymnasiumVector(task.name, n, asynchronous=True),
        "cpu",
        [16, 64],
    ),
}
measured = speed.throughput(task, kinds, seconds=0.4, rounds=3)
for name, row in measured.items():
    print(name, {n: f"{statistics.median(r):.3g}" for n, r in row.items()})
keep(measured=measured, threads=torch.get_num_threads())

# %% tags=["hide-input", "check"]
STEPS = values_of("122.1c.steps", "measured", "threads")
if STEPS:
    M = {name: {int(n): r for n, r in row.items()} for name, row in STEPS["measured"].items()}
    best = {name: max(statistics.median(r) for r in row.values()) for name, row in M.items()}
    gpu = M["tensor on the GPU"]
    rivals = {name: x for name, x in best.items() if name.startswith("Gymnasium")}
    rival = max(rivals, key=rivals.get)
    FORMS = {
        "Gymnasium, one process": "its loop in one process",
        "Gymnasium, NumPy rows": "its NumPy arrays",
        "Gymnasium, a process each": "its loop with a process for each environment",
    }
    over = [n for n in gpu if min(gpu[n]) > max(M["tensor on the CPU"][n])]
    say(
        "The best of each: "
        + "; ".join(f"{name}: {x:,.0f} steps/s" for name, x in best.items())
        + ". The GPU's best is {ratio:,.0f} times the best of Gymnasium's {form}, and {cpu:.1f} times the best "
        "of the same tensors on the CPU with {threads} threads. From 16 to 65,536 environments, 4,096 "
        "times as many, the GPU's steps a second grow {growth:,.0f} times. The GPU is ahead of the "
        "CPU's tensors in all rounds with {over} environments.",
        ratio=best["tensor on the GPU"] / rivals[rival],
        form=FORMS[rival].removeprefix("its "),
        cpu=best["tensor on the GPU"] / best["tensor on the CPU"],
        threads=STEPS["threads"],
        growth=statistics.median(gpu[65536]) / statistics.median(gpu[16]),
        over=", ".join(f"{n:,}" for n in over) or "no number of",
    )
else:
    say(NOT_YET)

# %% mystnb={"figure": {"caption": "Steps a second of CartPole, random actions; medians of three rounds. In the record, on its machine.", "name": "fig-1c-gpu"}, "image": {"alt": "Lines of steps a second over the number of environments on logarithmic axes, for tensors on a GPU and on a CPU and for the forms of Gymnasium that were recorded."}} tags=["hide-input", "plot"]
if STEPS:
    fig, ax = plt.subplots(figsize=(5.8, 3.2), layout="constrained")
    styles = {
        "tensor on the GPU": "o-",
        "tensor on the CPU": "s-",
        "Gymnasium, one process": "^--",
        "Gymnasium, NumPy rows": "D-.",
        "Gymnasium, a process each": "v--",
    }
    for name, row in M.items():
        ax.loglog(list(row), [statistics.median(r) for r in row.values()], styles[name], label=name)
    ax.set(xlabel="environments", ylabel="steps a second")
    ax.legend(fontsize=8)
    plt.show()

# %% [markdown] tags=["slide"]
# Then with learning. The clock runs until whole episodes return 475 on average in CartPole, and −200 in
# Pendulum. Judging isn't counted, and is done from time to time only. Learning rate, epochs and γ
# were chosen once for each task on a CPU, with 64 to 256 environments and other seeds, and are
# the same for all; the GPU's number of environments was not tuned.

# %% tags=["gpu", "hide-input"] name="time-to-return"
LIMIT = 10.0
raced = speed.contest(speed.TASKS, speed.ARMS, seeds=(11, 12, 13), limit=LIMIT)
for task_name, rows in raced.items():
    for name, runs in rows.items():
        print(task_name, name, [r["seconds"] and round(r["seconds"], 2) for r in runs])
keep(raced=raced, limit=LIMIT)

# %% tags=["hide-input", "check"]
RACE = values_of("122.1c.time-to-return", "raced", "limit")
if RACE:
    limit = RACE["limit"]

    def reached(runs):
        """Runs that reached the target within the limit; a later check does not count."""
        return [r for r in runs if r["seconds"] is not None and r["seconds"] <= limit]

    def between(runs):
        """Seconds of training between two checks, of all runs."""
        times = [[0.0] + [at for at, _, _ in r["curve"]] for r in runs]
        return [b - a for t in times for a, b in zip(t, t[1:], strict=False)]

    table = [
        "| task | where | reached | seconds to the target | between checks, up to | steps | updates |",
        "|---|---|---|---|---|---|---|",
    ]
    words, updates = [], {}
    for task_name, rows in RACE["raced"].items():
        for name in speed.ARMS:  # a record sorts its keys
            there = reached(runs := rows[name])
            cells = ["–", f"{max(between(runs)):.1f} s", "–", "–"]
            if there:
                taken = statistics.median(r["steps"] for r in there)
                updates[task_name, name] = taken / speed.ARMS[name].per_update
                cells[0] = span([r["seconds"] for r in there])
                cells[2:] = f"{taken:,.0f}", f"{updates[task_name, name]:,.0f}"
            table.append(
                f"| {task_name} | {name} | {len(there)} of {len(runs)} | {' | '.join(cells)} |"
            )
        gpu, *others = speed.ARMS
        there = reached(rows[gpu])
        if len(there) < len(rows[gpu]):
            words.append(
                f"In {task_name} {len(there)} of {len(rows[gpu])} seeds reached the target on the GPU."
            )
            continue
        slowest = max(r["seconds"] for r in there)
        rivals = [r["seconds"] for name in others for r in reached(rows[name])]
        ahead = all(slowest < x for x in rivals)  # a run that missed took longer than the limit
        words.append(
            f"In {task_name} the GPU's slowest seed is "
            + ("before" if ahead else "not before")
            + " the fastest of all others."
        )
    lessons = []
    for task_name, rows in RACE["raced"].items():
        gpu, *_, small = speed.ARMS
        if (task_name, gpu) in updates and (task_name, small) in updates:
            lessons.append(
                f"In {task_name} the GPU took {updates[task_name, gpu]:,.0f} updates and Gymnasium "
                f"{updates[task_name, small]:,.0f}, though each update on the GPU had "
                f"{speed.ARMS[gpu].per_update / speed.ARMS[small].per_update:,.0f} times the steps."
            )
    say(
        "\n".join(table)
        + "\n\nSteps and updates are medians, seconds are ranges, of the seeds that reached the target "
        "within {limit:.0f} s. A time is that of the check that found it, so the target was reached up to "
        "one interval between checks earlier. "
        + " ".join(words + lessons),
        limit=limit,
    )
else:
    say(NOT_YET)

# %% tags=["hide-input"]
one, another = speed.ARMS["4,096 on the GPU"], speed.ARMS["16 of Gymnasium on the CPU"]
say(
    "Every arm cuts its rollout into {parts} minibatches and takes the rate that was tuned with few "
    "environments. So an update is as many gradient steps of the same rate, whether a minibatch has "
    "{small:,} steps or {large:,}.",
    parts=one.minibatches,
    small=another.per_update // another.minibatches,
    large=one.per_update // one.minibatches,
)

# %% [markdown]
# That would explain the table: the GPU's many steps make the gradient quieter, and do not take the
# policy further in an update. More environments save updates only if each update goes further: as
# their number grows, let the minibatch grow, and the rate with it. Rudin and others
# {cite:p}`rudin2021minutes`, and rsl_rl after them, adapt the rate in training: they lower it when the
# policy's KL divergence in an update is above a target, and raise it when it is well below. We have not
# tuned the GPU so, and have not tested the explanation. The seconds are of this PPO with these
# settings, not the best that a GPU can do.

# %% [markdown] tags=["skip"]
# Compare the two records. A gain of steps a second is not a gain of the time to learn: the policy acts
# too, the update takes its time, and the 65,536th environment tells little that the others have not told.
# Count all three before you buy a GPU for a small task.
#
# ## Limits
#
# - CartPole and Pendulum are two small sets of equations. A robot with contacts needs a simulator that
#   was written for GPUs: MuJoCo's MJX and Warp, Isaac Lab, Brax, Genesis. Section
#   {doc}`122.1b <1b_sim_to_real>` uses `mujoco.batch` on the CPU.
# - PPO needs many steps. Where a step is dear, as on a real robot, SAC or TD3
#   ({doc}`122.1a <1a_robot_control>`) use each of them many times.
# - Larger batches need other settings: rollouts of fewer steps, larger minibatches, a larger rate. PPO's
#   invariance to the batch size has to be made {cite:p}`hilton2022batch`. We compare one setting.
# - Three or four seeds tell a large difference only. For a ranking, take more seeds and intervals over
#   tasks {cite:p}`agarwal2021precipice`.
# - A task that resets all its environments at the same moment has rows in step with each other. Start
#   them at random ages, or let some time pass, as we did above.
# - At work: stable-baselines3 or CleanRL for a few environments; rsl_rl, rl_games or skrl for thousands.
#   Where acting and learning lie on different machines, actors lag behind, and IMPALA's V-trace
#   corrects for it {cite:p}`espeholt2018impala`.
#
# ## Quiz

# %% [markdown] tags=["skip"]
# {{quiz 122.1c}}

# %% [markdown] tags=["slide"]
# ## Summary
#
# - A tensor operation costs about the same for one environment as for a thousand: states are rows.
# - PPO takes several steps on data of one policy, and the clipped ratio removes the reason to go far.
# - Truncation bootstraps from the state reached, termination does not, and either ends the sum.
# - More environments buy a quieter gradient, until estimates agree; then they buy little.
# - Score whole episodes, one for each environment, and count acting, learning and judging apart.
#
# References: each citation above leads to its source; the
# {doc}`bibliography </book/bibliography>` lists them all.
