"""122.2a: learned and fixed policies on the same simulated users."""

import torch
import torch.nn.functional as F

from dlcourse.reinforcement_learning.rl_recommendation.agent import DiscreteSAC
from dlcourse.reinforcement_learning.rl_recommendation.environment import RecommendationEnv
from dlcourse.reinforcement_learning.rl_recommendation.planning import optimal_values

SCALE = 20.0  # minutes to a unit of reward


def train(user, runs=10, sessions=10, users=16, observe="latent", seed=0, batch=128):
    """Train `runs` seeds at once, an update a step; returns the agent."""
    env = RecommendationEnv(runs * users, user=user, observe=observe)
    agent = DiscreteSAC(env.obs_dim, env.num_items, runs=runs, seed=seed)
    random = torch.Generator().manual_seed(seed + 1)
    rows, fields = torch.arange(runs)[:, None], None
    size = sessions * user.horizon * users
    filled = 0
    for session in range(sessions):
        obs, info = env.reset(seed + 1000 + session)
        for _ in range(user.horizon):
            o, allowed = obs.view(runs, users, -1), info["allowed"].view(runs, users, -1)
            if session == 0:
                items = torch.randint(env.num_items, (runs, users), generator=random)
            else:
                items = agent.act(o, allowed)
            obs, minutes, ends, _, info = env.step(items.flatten())
            new = (o, items, (minutes.float() / SCALE).view(runs, users),
                   obs.view(runs, users, -1), ends.view(runs, users))
            if fields is None:
                fields = [torch.zeros(runs, size, *x.shape[2:], dtype=x.dtype) for x in new]
            for field, x in zip(fields, new, strict=True):
                field[:, filled : filled + users] = x
            filled += users
            if session:
                take = torch.randint(filled, (runs, batch), generator=random)
                every = torch.ones(runs, batch, env.num_items, dtype=torch.bool)
                agent.update(*(f[rows, take] for f in fields), every, every)
    return agent


def play(user, choose, runs=10, users=200, observe="latent", seed=9000):
    """Return minutes a session (runs,), satisfaction (T,): `choose(time, obs, info)` acts."""
    env = RecommendationEnv(runs * users, user=user, observe=observe)
    obs, info = env.reset(seed)
    total, satisfied = torch.zeros(runs * users, dtype=torch.float64), []
    for time in range(user.horizon):
        satisfied.append(info["satisfaction"].mean().item())
        obs, minutes, _, _, info = env.step(choose(time, obs, info).flatten())
        total += minutes
    return total.view(runs, users).mean(1).tolist(), satisfied


def learned(agent):
    """The most probable item of each run's own policy."""
    def choose(time, obs, info):
        shape = (agent.runs, -1, obs.shape[-1])
        every = info["allowed"].view(agent.runs, -1, agent.num_actions)
        return agent.act(obs.view(shape), every, deterministic=True)

    return choose


def bandit(user, runs=10, users=200, seed=0, rate=0.1):
    """Epsilon-greedy on the mean minutes of each item, which ignores the state; (a chooser)."""
    random = torch.Generator().manual_seed(seed)
    env = RecommendationEnv(runs * users, user=user)
    rows = torch.arange(runs)[:, None]
    total, count = torch.zeros(runs, env.num_items), torch.zeros(runs, env.num_items)
    for session in range(3):
        env.reset(seed + session)
        for _ in range(user.horizon):
            best = torch.where(count > 0, total / count.clamp(min=1), torch.inf).argmax(1)
            items = best[:, None].expand(runs, users)
            explore = torch.rand(runs, users, generator=random) < rate
            other = torch.randint(env.num_items, (runs, users), generator=random)
            items = torch.where(explore, other, items)
            minutes = env.step(items.flatten())[1].float().view(runs, users)
            total.index_put_((rows.expand_as(items), items), minutes, accumulate=True)
            count.index_put_((rows.expand_as(items), items), torch.ones_like(minutes), True)
    best = (total / count.clamp(min=1)).argmax(1)
    return lambda time, obs, info: best[:, None].expand(runs, len(obs) // runs)


def listing_losses(critic, probs, next_probs, obs, actions, reward, next_obs, ends, discount=0.99):
    """The document's two losses, with the mistake that the critic's target holds its own Q."""
    chosen = critic(obs).gather(1, actions[:, None])[:, 0]
    with torch.no_grad():
        advantage = reward + (1 - ends) * discount * (next_probs * critic(next_obs)).sum(-1)
        advantage = advantage - chosen
    actor = -(torch.log(probs.gather(1, actions[:, None])[:, 0]) * advantage).mean()
    return actor, F.mse_loss(chosen, advantage + chosen)


def listing(user, runs=10, seed=0):
    """The document's agent takes no optimiser step: its untrained policies, sampled."""
    agent = DiscreteSAC(2, 5, runs=runs, seed=seed)

    def choose(time, obs, info):
        shape = (runs, -1, obs.shape[-1])
        return agent.act(obs.view(shape), info["allowed"].view(runs, -1, 5))

    return choose


def contest(user, sessions=10, runs=10):
    """All policies on the same users; {name: {"minutes": [runs], "satisfaction": [T]}}."""
    plan = optimal_values(user)
    random = torch.Generator().manual_seed(5)
    top = torch.linspace(0, 1, 5, dtype=torch.float64)

    def greedy(time, obs, info):
        return user.expected_engagement(info["exposure"][:, None], top).argmax(1)

    rules = {
        "optimum": lambda t, o, i: plan.act(t, i["exposure"]),
        "greedy": greedy,
        "most popular": lambda t, o, i: torch.full((len(o),), 4),
        "always kale": lambda t, o, i: torch.zeros(len(o), dtype=torch.long),
        "random": lambda t, o, i: torch.randint(5, (len(o),), generator=random),
        "bandit": bandit(user, runs),
        "listing": listing(user, runs),
    }
    found = {name: play(user, rule, runs) for name, rule in rules.items()}
    for name, observe in (("learned, latent", "latent"), ("learned, history", "history")):
        agent = train(user, runs, sessions, observe=observe)
        found[name] = play(user, learned(agent), runs, observe=observe)
    return {name: {"minutes": m, "satisfaction": s} for name, (m, s) in found.items()}
