"""122.2a: learned and fixed policies on the same simulated users."""

import torch
import torch.nn.functional as F

from dlcourse.reinforcement_learning.rl_recommendation.agent import DiscreteSAC
from dlcourse.reinforcement_learning.rl_recommendation.environment import RecommendationEnv
from dlcourse.reinforcement_learning.rl_recommendation.planning import optimal_values

SCALE = 20.0  # minutes to a unit of reward
RATES = (0.05, 0.2, 0.5)  # of the bandit's exploration
SETTINGS = {
    "discount 0.9": {"lr": 3e-3, "temperature": 0.02, "discount": 0.9},
    "discount 0.98": {"lr": 3e-3, "temperature": 0.02, "discount": 0.98},
    "discount 1": {"lr": 3e-3, "temperature": 0.02, "discount": 1.0},
}
CHOSEN = {observe: "discount 0.98" for observe in ("latent", "history")}
RATE = 0.2
LAST = 3  # items of a session that the rules of thumb give to clickbait
PERIOD = 5  # steps of the saw that sees nothing
THRESHOLD = 2.6  # exposure above which the rule that sees it shows clickbait


def train(
    user, runs=10, sessions=40, users=128, observe="latent", seed=0, batch=256, **settings
):
    """Train `runs` seeds at once, an update a step; returns the agent.

    The learning rate falls linearly to a twentieth, since minutes are very noisy.
    """
    env = RecommendationEnv(runs * users, user=user, observe=observe)
    agent = DiscreteSAC(env.obs_dim, env.num_items, runs=runs, seed=seed, **settings)
    random = torch.Generator().manual_seed(seed + 1)
    rows, fields = torch.arange(runs)[:, None], None
    every = torch.ones(runs, batch, env.num_items, dtype=torch.bool)
    size = sessions * user.horizon * users
    groups = agent.actor_steps.param_groups + agent.critic_steps.param_groups
    first_rate, filled = groups[0]["lr"], 0
    for session in range(sessions):
        for group in groups:
            group["lr"] = first_rate * (1 - 0.95 * session / sessions)
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
                agent.update(*(f[rows, take] for f in fields), every, every)
    return agent


def play(user, choose, runs=10, users=200, observe="latent", seed=9000):
    """Return minutes a session (runs,), satisfaction (T,): `choose(time, obs, info)` acts.

    Counted are the expected minutes of what was shown to whom: the same mean as that of sampled
    minutes, without the noise of the last draw.
    """
    env = RecommendationEnv(runs * users, user=user, observe=observe)
    obs, info = env.reset(seed)
    total, satisfied = torch.zeros(runs * users, dtype=torch.float64), []
    for time in range(user.horizon):
        satisfied.append(info["satisfaction"].mean().item())
        items = choose(time, obs, info).flatten()
        total += user.expected_engagement(env.exposure, env.clickbait[items])
        obs, _, _, _, info = env.step(items)
    return total.view(runs, users).mean(1).tolist(), satisfied


def learned(agent):
    """The most probable item of each run's own policy."""
    def choose(time, obs, info):
        shape = (agent.runs, -1, obs.shape[-1])
        every = info["allowed"].view(agent.runs, -1, agent.num_actions)
        return agent.act(obs.view(shape), every, deterministic=True)

    return choose


def bandit(user, runs=10, users=128, sessions=40, seed=0, rate=0.1):
    """Epsilon-greedy on the mean minutes of each item, which ignores the state: items (runs,)."""
    random = torch.Generator().manual_seed(seed)
    env = RecommendationEnv(runs * users, user=user)
    rows = torch.arange(runs)[:, None].expand(runs, users)
    total, count = torch.zeros(runs, env.num_items), torch.zeros(runs, env.num_items)
    for session in range(sessions):
        env.reset(seed + 1000 + session)
        for _ in range(user.horizon):
            best = torch.where(count > 0, total / count.clamp(min=1), torch.inf).argmax(1)
            explore = torch.rand(runs, users, generator=random) < rate
            other = torch.randint(env.num_items, (runs, users), generator=random)
            items = torch.where(explore, other, best[:, None].expand(runs, users))
            minutes = env.step(items.flatten())[1].float().view(runs, users)
            total.index_put_((rows, items), minutes, accumulate=True)
            count.index_put_((rows, items), torch.ones_like(minutes), accumulate=True)
    return (total / count.clamp(min=1)).argmax(1)


def from_a_log(user, runs=10, users=128, sessions=40, seed=0):
    """Show random items, and fit what a recommender can know of the next minutes from that log.

    Returns the mean minutes of each item (runs, A), and for each item the least-squares weights
    (runs, A, 3) of minutes on 1, z, z squared: the normal equations are summed, not the log kept.
    """
    env = RecommendationEnv(runs * users, user=user)
    random = torch.Generator().manual_seed(seed)
    a = env.num_items
    left = torch.zeros(runs * a, 3, 3, dtype=torch.float64)
    right = torch.zeros(runs * a, 3, dtype=torch.float64)
    first = a * torch.arange(runs).repeat_interleave(users)
    for session in range(sessions):
        env.reset(seed + 1000 + session)
        for _ in range(user.horizon):
            z = env.exposure
            x = torch.stack([torch.ones_like(z), z, z**2], 1)  # (U, 3)
            items = torch.randint(a, (runs * users,), generator=random)
            minutes = env.step(items)[1]
            left.index_add_(0, first + items, x[:, :, None] * x[:, None])
            right.index_add_(0, first + items, x * minutes[:, None])
    mean = (right[:, 0] / left[:, 0, 0]).view(runs, a)
    return mean, torch.linalg.solve(left, right).view(runs, a, 3)


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


def constant(items):
    """Show each run (runs,) its one item."""
    return lambda time, obs, info: items[:, None].expand(len(items), len(obs) // len(items))


def end_with_clickbait(user, choose, clickbait=4):
    """Let `choose` act, and show clickbait for the last items whatever it says."""
    def act(time, obs, info):
        items = choose(time, obs, info).flatten()
        return torch.full_like(items, clickbait) if time >= user.horizon - LAST else items

    return act


def rules(user, runs=10, seed=0, rate=0.1, **size):
    """Everything but the agent; what is estimated comes from as many sessions as it learns in."""
    plan = optimal_values(user)
    random = torch.Generator().manual_seed(seed + 5)
    mean, weights = from_a_log(user, runs, seed=seed, **size)

    def greedy(time, obs, info):
        z = info["exposure"].view(runs, -1)
        x = torch.stack([torch.ones_like(z), z, z**2], -1)  # (runs, U, 3)
        return (x @ weights.mT).argmax(-1)

    def saw(time, obs, info):
        return torch.full((len(obs),), 4 if time % PERIOD == PERIOD - 1 else 0)

    def above(time, obs, info):
        return 4 * (info["exposure"] > THRESHOLD).long()

    kale = constant(torch.zeros(runs, dtype=torch.long))
    return {
        "optimum": lambda t, o, i: plan.act(t, i["exposure"]),
        "always kale": kale,
        "kale, then clickbait": end_with_clickbait(user, kale),
        "saw, seeing nothing": end_with_clickbait(user, saw),
        "threshold": end_with_clickbait(user, above),
        "bandit": constant(bandit(user, runs, seed=seed, rate=rate, **size)),
        "greedy": greedy,
        "most popular": constant(mean.argmax(1)),
        "random": lambda t, o, i: torch.randint(5, (len(o),), generator=random),
        "listing": listing(user, runs),
    }


def contest(user, runs=10, sessions=40, users=128, test_users=200, batch=256):
    """All on the same users: {name: {"minutes": [runs], "satisfaction": [T]}}, and the policy map.

    The map: items of each run's agent (runs, Z) and of the optimum (Z) halfway, over exposures.
    "given the end" has the minutes of each agent [runs] where clickbait replaces its last items:
    against "kale, then clickbait", which ends alike, this counts what it does before the end.
    """
    size = {"sessions": sessions, "users": users}
    found = {
        name: play(user, rule, runs, test_users)
        for name, rule in rules(user, runs, rate=RATE, **size).items()
    }
    given_the_end = {}
    half, z = user.horizon // 2, torch.linspace(-3.3, 3.3, 67)
    for name, observe in (("learned, latent", "latent"), ("learned, history", "history")):
        setting = SETTINGS[CHOSEN[observe]]
        agent = train(user, runs, observe=observe, batch=batch, **size, **setting)
        found[name] = play(user, learned(agent), runs, test_users, observe)
        ended = end_with_clickbait(user, learned(agent))
        given_the_end[name] = play(user, ended, runs, test_users, observe)[0]
        if observe == "latent":
            obs = torch.stack([z / 3, torch.full_like(z, 1 - half / user.horizon)], 1)
            every = torch.ones(runs, len(z), 5, dtype=torch.bool)
            shown = agent.act(obs.expand(runs, -1, -1), every, deterministic=True)
    return {
        "scores": {name: {"minutes": m, "satisfaction": s} for name, (m, s) in found.items()},
        "given the end": given_the_end,
        "exposures": z.tolist(),
        "learned policy": shown.tolist(),
        "best policy": optimal_values(user).act(half, z.numpy()).tolist(),
    }


def tune(user, runs=3, sessions=40, users=128, test_users=200, batch=256):
    """Mean minutes of each setting, as many for the bandit as for each agent, on other users."""
    def score(choose, observe="latent"):
        return sum(play(user, choose, runs, test_users, observe, seed=5000)[0]) / runs

    size = {"sessions": sessions, "users": users}
    found = {"bandit": {}, "latent": {}, "history": {}}
    for rate in RATES:
        item = bandit(user, runs, seed=70_000, rate=rate, **size)
        found["bandit"][f"{rate}"] = score(constant(item))
    for observe in ("latent", "history"):
        for name, setting in SETTINGS.items():
            agent = train(user, runs, observe=observe, seed=70_000, batch=batch, **size, **setting)
            found[observe][name] = score(learned(agent), observe)
    return found


def interval(first, second):
    """Mean of first - second over the same seeds, and half its 95 % interval (Student's t)."""
    from scipy.stats import t

    gap = torch.tensor(first, dtype=torch.float64) - torch.tensor(second, dtype=torch.float64)
    half = t.ppf(0.975, len(gap) - 1) * gap.std() / len(gap) ** 0.5
    return gap.mean().item(), half.item()
