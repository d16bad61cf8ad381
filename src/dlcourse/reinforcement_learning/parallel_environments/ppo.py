"""Proximal policy optimisation for any batch of environments. Chapter 122, section 1c.

Schulman, Wolski, Dhariwal, Radford, Klimov, "Proximal policy optimization algorithms", 2017.
The numbers in brackets are details that the paper leaves out or buries, each with its source:

- [H] Huang, Dossa, Raffin, Kanervisto, Wang, "The 37 implementation details of proximal policy
  optimization", ICLR blog track, 2022.
- [A] Andrychowicz et al., "What matters for on-policy deep actor-critic methods?", ICLR 2021.

1. Orthogonal weights, gain √2; the policy's last layer 0.01, so that all actions begin alike [H, A].
2. Separate networks for policy and value, with tanh [H, A].
3. Adam with ε = 1e-5, and a learning rate that falls to 0 [H].
4. Generalised advantages; a time limit bootstraps, an end does not (`advantages.py`).
5. Advantages normalised in each minibatch [H]; so none is of a single step, see `PPO`.
6. The gradient's norm clipped at 0.5, over both networks [H].
7. Observations with running mean and variance, clipped at ±10 [H, A]; here they stand still within
   an iteration, so that the ratio starts at exactly 1.
8. Rewards divided by the deviation of the running discounted return, never centred [H].
9. A log standard deviation that is a parameter, not an output of the state [H].
10. The value loss is not clipped: clipping it did not help [A].
11. Actions are kept as drawn, and clipped by the environment [H].
"""

import copy
import dataclasses
import math

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, Normal

from dlcourse.reinforcement_learning.parallel_environments.advantages import (
    check_gae,
    generalized_advantages,
)
from dlcourse.reinforcement_learning.parallel_environments.running import RunningMoments


@dataclasses.dataclass
class Rollout:
    """T steps of N environments under one policy, in order of time. D: observation, A: action.

    ``observations`` (T, N, D) as the environment gave them; ``actions`` (T, N, A), or (T, N) whole
    numbers; ``log_probs``, ``rewards``, ``values``, ``next_values`` (T, N); ``terminated`` and
    ``truncated`` (T, N) bool. ``next_values`` are of the states that the actions led to, before any
    automatic reset.
    """

    observations: Tensor
    actions: Tensor
    log_probs: Tensor
    rewards: Tensor
    values: Tensor
    next_values: Tensor
    terminated: Tensor
    truncated: Tensor


def clipped_surrogate(
    log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip: float
) -> Tensor:
    """PPO's objective, a scalar to be *maximised*. Schulman et al. 2017, equation 7.

    L = mean of min(ρ Â, clip(ρ, 1 − ε, 1 + ε) Â) with the ratio ρ = π(a|s) / π_old(a|s)

    The minimum makes it a lower bound: a step that has gone too far in the good direction has no
    gradient, one that went wrong keeps its gradient, however far. All inputs (n,).

    A ratio too large for its dtype, above e^88 in float32, does no harm where the advantage is at
    least 0. Where it is negative the value is −∞: don't take a step on it (`PPO.update` refuses).
    """
    if not log_prob.shape == old_log_prob.shape == advantage.shape:
        raise ValueError(
            "log_prob, old_log_prob and advantage must have one shape; got "
            f"{tuple(log_prob.shape)}, {tuple(old_log_prob.shape)}, {tuple(advantage.shape)}"
        )
    if not clip > 0:
        raise ValueError(f"clip must be positive, got {clip}")
    log_ratio = log_prob - old_log_prob  # (n,)
    # With Â ≥ 0 all is flat above 1 + ε. A cap in that part, at e(1 + ε), changes neither value nor
    # gradient; without it an infinite ratio times its gradient of 0 would be NaN. With Â < 0 the
    # gradient does grow with the ratio, and a cap would take it away: there is none.
    capped = log_ratio.clamp(max=1 + math.log1p(clip))
    ratio = torch.where(advantage < 0, log_ratio, capped).exp()
    return torch.min(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()


def mlp(sizes: list[int], last_gain: float, generator: torch.Generator) -> nn.Sequential:
    """Linear layers with tanh between; orthogonal weights, gain √2, the last one's ``last_gain``."""
    layers: list[nn.Module] = []
    for i, (n, m) in enumerate(zip(sizes, sizes[1:], strict=False)):
        last = i == len(sizes) - 2
        linear = nn.utils.skip_init(nn.Linear, n, m)
        nn.init.orthogonal_(linear.weight, last_gain if last else math.sqrt(2), generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, nn.Tanh()]
    return nn.Sequential(*layers)


class ActorCritic(nn.Module):
    """Policy and value network apart, on normalised observations."""

    def __init__(self, obs_dim, action_dim, discrete, hidden, normalize, log_std, generator):
        super().__init__()
        self.discrete = discrete
        self.moments = RunningMoments(obs_dim) if normalize else None
        self.actor = mlp([obs_dim, *hidden, action_dim], 0.01, generator)
        self.critic = mlp([obs_dim, *hidden, 1], 1.0, generator)
        if not discrete:
            self.log_std = nn.Parameter(torch.full((action_dim,), float(log_std)))

    def normalized(self, obs: Tensor) -> Tensor:
        return obs if self.moments is None else self.moments(obs)

    def policy(self, obs: Tensor) -> Categorical | Independent:
        """π(· | s) for observations (..., D)."""
        out = self.actor(self.normalized(obs))  # (..., A): logits or means
        if self.discrete:
            return Categorical(logits=out, validate_args=False)
        spread = self.log_std.exp().expand_as(out)
        return Independent(Normal(out, spread, validate_args=False), 1, validate_args=False)

    def value(self, obs: Tensor) -> Tensor:
        """V(s), (...,), in the units of the scaled rewards."""
        return self.critic(self.normalized(obs)).squeeze(-1)


class PPO:
    """Proximal policy optimisation; see the module for its numbered details.

    ``act`` chooses actions for N environments, ``update`` learns from a `Rollout`; nothing else
    touches an environment, so any batch of them will do (`collect_rollout` is one loop).

    ``discrete``: whole-number actions 0 … ``action_dim`` − 1, else real ones (A,) from a Gaussian.
    ``hidden``: widths of both networks. ``clip``: ε. ``epochs`` passes over a rollout, each in
    ``minibatches`` parts whose sizes differ by one at most. With ``normalize_advantages`` every
    part is normalised by itself and has two steps or more: a short rollout of n steps is cut into
    n // 2 parts instead, and one of a single step is refused. ``anneal_updates``: the learning rate
    falls linearly to 0 over as many updates; None keeps it. ``target_kl``: ends the epochs early
    once the policy has moved this far (nats). ``log_std``: first log standard deviation of real
    actions.

    Initial weights and the order of minibatches come from ``seed`` on the CPU, so an update gives
    the same numbers on every device, up to rounding. Actions are drawn on ``device``.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        *,
        discrete: bool = False,
        hidden: tuple[int, ...] = (64, 64),
        lr: float = 3e-4,
        gamma: float = 0.99,
        lam: float = 0.95,
        clip: float = 0.2,
        epochs: int = 10,
        minibatches: int = 32,
        value_weight: float = 0.5,
        entropy_weight: float = 0.0,
        max_grad_norm: float = 0.5,
        normalize_observations: bool = True,
        normalize_rewards: bool = False,
        normalize_advantages: bool = True,
        anneal_updates: int | None = None,
        target_kl: float | None = None,
        log_std: float = 0.0,
        seed: int = 0,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        whole = {"obs_dim": obs_dim, "action_dim": action_dim, "epochs": epochs}
        whole |= {"minibatches": minibatches, **{f"hidden[{i}]": n for i, n in enumerate(hidden)}}
        if anneal_updates is not None:
            whole["anneal_updates"] = anneal_updates
        for name, n in whole.items():
            if n < 1 or n != int(n):
                raise ValueError(f"{name} must be a whole number of at least 1, got {n}")
        check_gae(gamma, lam)
        positive = {"lr": lr, "clip": clip, "max_grad_norm": max_grad_norm}
        for name, x in positive.items():
            if not 0 < x < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {x}")
        for name, x in {"value_weight": value_weight, "entropy_weight": entropy_weight}.items():
            if not 0 <= x < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite, got {x}")
        if not math.isfinite(log_std):
            raise ValueError(f"log_std must be finite, got {log_std}")
        if target_kl is not None and not target_kl > 0:
            raise ValueError(f"target_kl must be positive or None, got {target_kl}")
        self.obs_dim, self.action_dim, self.discrete = obs_dim, action_dim, discrete
        self.lr, self.gamma, self.lam, self.clip = lr, gamma, lam, clip
        self.epochs, self.minibatches = epochs, minibatches
        self.value_weight, self.entropy_weight = value_weight, entropy_weight
        self.max_grad_norm, self.target_kl = max_grad_norm, target_kl
        self.normalize_advantages, self.anneal_updates = normalize_advantages, anneal_updates
        self.device, self.dtype = torch.device(device), dtype

        self._order = torch.Generator().manual_seed(seed)  # weights and minibatches: on the CPU
        self._draws = torch.Generator(self.device).manual_seed(seed)  # actions: on the device
        self.network = ActorCritic(
            obs_dim, action_dim, discrete, hidden, normalize_observations, log_std, self._order
        ).to(self.device)
        for part in self.network.children():  # the running sums stay in float64
            if not isinstance(part, RunningMoments):
                part.to(dtype)
        if not discrete:
            self.network.log_std.data = self.network.log_std.data.to(dtype)
        self.reward_moments = RunningMoments(1).to(self.device) if normalize_rewards else None
        self._discounted: Tensor | None = None  # (N,): running discounted return, detail 8
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=lr, eps=1e-5)
        self.updates = 0

    @torch.no_grad()
    def act(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions (N, A) or (N,), their log-probabilities (N,) and the values (N,) of ``obs`` (N, D).

        ``deterministic`` takes the mean, or the most probable action.
        """
        obs = self._checked_observations(obs, 2)
        policy = self.network.policy(obs)
        if self.discrete:
            if deterministic:
                action = policy.logits.argmax(-1)
            else:  # the largest of logits + Gumbel noise is a draw from the softmax
                u = torch.rand(policy.logits.shape, generator=self._draws, device=self.device)
                action = (policy.logits - u.clamp(1e-10, 1 - 1e-7).log().neg().log()).argmax(-1)
        else:
            action = policy.mean
            if not deterministic:
                noise = torch.randn(
                    action.shape, generator=self._draws, device=self.device, dtype=self.dtype
                )
                action = action + policy.base_dist.stddev * noise
        return action, policy.log_prob(action), self.network.value(obs)

    @torch.no_grad()
    def value(self, obs: Tensor) -> Tensor:
        """V(s), (...,), of observations (..., D); for ``Rollout.next_values``."""
        return self.network.value(self._checked_observations(obs))

    def update(self, rollout: Rollout) -> dict[str, float]:
        """One iteration of PPO; returns means over the last epoch.

        ``policy_loss``, ``value_loss``, ``entropy`` (nats), ``kl`` (nats, Schulman's estimator
        ρ − 1 − log ρ), ``clipped`` (share of ratios outside 1 ± ε), ``explained`` (1 − the share of
        the returns' variance that the values, before the update, left unexplained), ``lr``.

        Observations and all other real numbers are taken to ``device`` and ``dtype``, as in `act`.

        Raises ValueError for unlike shapes or anything that isn't finite, and FloatingPointError
        if a loss or gradient overflows, as when the policy has gone far from the one that acted. A
        step is never taken on such a gradient; after any of these errors the agent is as before.
        """
        rollout = self._checked(rollout)
        before = copy.deepcopy(self.state_dict())
        try:
            return self._learn(rollout)
        except FloatingPointError:
            self.load_state_dict(before)
            raise

    def _learn(self, rollout: Rollout) -> dict[str, float]:
        """`update` of a rollout that is of the agent's device and dtype; may fail half-way."""
        rewards = self._scaled(rollout)
        advantages = generalized_advantages(
            rewards,
            rollout.values,
            rollout.next_values,
            rollout.terminated,
            rollout.truncated,
            self.gamma,
            self.lam,
        )  # (T, N)
        returns = advantages + rollout.values  # (T, N): what the value network should have said
        unexplained = advantages.var(correction=0) / returns.var(correction=0).clamp_min(1e-8)

        lr = self.lr
        if self.anneal_updates is not None:
            lr = self.lr * max(0.0, 1 - self.updates / self.anneal_updates)
        for group in self.optimizer.param_groups:
            group["lr"] = lr

        obs = rollout.observations.flatten(0, 1)  # (TN, D)
        actions = rollout.actions.flatten(0, 1)  # (TN, A) or (TN,)
        old_log_probs = rollout.log_probs.flatten()  # (TN,)
        advantages, returns = advantages.flatten(), returns.flatten()  # (TN,)
        smallest = 2 if self.normalize_advantages else 1  # steps in a minibatch
        parts = min(self.minibatches, len(obs) // smallest)
        for _ in range(self.epochs):
            told = []
            order = torch.randperm(len(obs), generator=self._order).to(self.device)
            for i in order.tensor_split(parts):
                policy = self.network.policy(obs[i])
                log_prob = policy.log_prob(actions[i])
                a = advantages[i]
                if self.normalize_advantages:
                    a = (a - a.mean()) / (a.std() + 1e-8)
                policy_loss = -clipped_surrogate(log_prob, old_log_probs[i], a, self.clip)
                value_loss = 0.5 * (self.network.value(obs[i]) - returns[i]).square().mean()
                entropy = policy.entropy().mean()
                loss = (
                    policy_loss + self.value_weight * value_loss - self.entropy_weight * entropy
                )
                self.optimizer.zero_grad()
                loss.backward()
                norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.max_grad_norm)
                log_ratio = (log_prob - old_log_probs[i]).detach()
                # Clipped, an infinite norm gives NaN: the one question to the device in each step.
                if not torch.stack([loss.detach(), norm]).isfinite().all():
                    raise FloatingPointError(
                        "the loss or its gradient is not finite, so nothing was learned: the "
                        f"logarithm of the ratio π/π_old is up to {log_ratio.max().item():.3g}. "
                        "Take a smaller lr, fewer epochs or a target_kl, and see that log_probs "
                        "are those of the policy that acted and that rewards are not enormous"
                    )
                self.optimizer.step()
                with torch.no_grad():
                    kl = (log_ratio.exp() - 1 - log_ratio).mean()
                    clipped = ((log_ratio.exp() - 1).abs() > self.clip).to(kl.dtype).mean()
                    told.append(torch.stack([policy_loss, value_loss, entropy, kl, clipped]))
            means = torch.stack(told).mean(0)  # (5,): one transfer an epoch
            if self.target_kl is not None and means[3] > self.target_kl:
                break
        self.updates += 1
        if self.network.moments is not None:  # last: see detail 7
            self.network.moments.add(obs)
        names = ("policy_loss", "value_loss", "entropy", "kl", "clipped")
        return {
            **dict(zip(names, means.tolist(), strict=True)),
            "explained": 1 - unexplained.item(),
            "lr": lr,
        }

    def state_dict(self) -> dict:
        """Everything that learning goes on from, the running statistics included."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "reward_moments": self.reward_moments and self.reward_moments.state_dict(),
            "discounted": self._discounted,
            "updates": self.updates,
            "order": self._order.get_state(),
            "draws": self._draws.get_state(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Takes up what `state_dict` gave, of an agent of equal settings and device."""
        if (state["reward_moments"] is None) != (self.reward_moments is None):
            raise ValueError("the saved agent and this one differ in normalize_rewards")
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.reward_moments is not None:
            self.reward_moments.load_state_dict(state["reward_moments"])
        self._discounted, self.updates = state["discounted"], state["updates"]
        self._order.set_state(state["order"])
        self._draws.set_state(state["draws"])

    def _scaled(self, rollout: Rollout) -> Tensor:
        """Rewards (T, N), divided by the deviation of the discounted return so far (detail 8)."""
        if self.reward_moments is None:
            return rollout.rewards
        running = self._discounted
        if running is None or len(running) != rollout.rewards.shape[1]:
            running = torch.zeros_like(rollout.rewards[0])
        ended = rollout.terminated | rollout.truncated
        sums = []
        for t in range(len(rollout.rewards)):
            running = self.gamma * running + rollout.rewards[t]
            sums.append(running)
            running = torch.where(ended[t], torch.zeros_like(running), running)
        self._discounted = running
        self.reward_moments.add(torch.stack(sums).reshape(-1, 1))
        scale = (self.reward_moments.variance + 1e-8).sqrt().to(self.dtype)
        return (rollout.rewards / scale).clamp(-10, 10)

    def _checked_observations(self, obs: Tensor, ndim: int | None = None) -> Tensor:
        if not isinstance(obs, Tensor):
            raise TypeError(f"observations must be a torch tensor, got {type(obs).__name__}")
        if obs.ndim < 1 or obs.shape[-1] != self.obs_dim or (ndim and obs.ndim != ndim):
            expected = f"(environments, {self.obs_dim})" if ndim else f"(..., {self.obs_dim})"
            raise ValueError(f"observations must be {expected}, got {tuple(obs.shape)}")
        obs = obs.to(self.device, self.dtype)
        if not obs.isfinite().all():
            raise ValueError("observations must be finite: an environment has gone NaN or infinite")
        return obs

    def _checked(self, rollout: Rollout) -> Rollout:
        """The rollout, of the agent's device and dtype.

        Refuses wrong shapes, anything that isn't finite, and discrete actions that there aren't.
        """
        if rollout.rewards.ndim != 2 or rollout.rewards.numel() == 0:
            raise ValueError(
                "rewards must be (steps, environments) with at least one of each, got "
                f"{tuple(rollout.rewards.shape)}"
            )
        shape = tuple(rollout.rewards.shape)
        wanted = dict.fromkeys(
            ("log_probs", "values", "next_values", "terminated", "truncated"), shape
        )
        wanted["observations"] = (*shape, self.obs_dim)
        wanted["actions"] = shape if self.discrete else (*shape, self.action_dim)
        for name, expected in wanted.items():
            x = getattr(rollout, name)
            if tuple(x.shape) != expected:
                raise ValueError(f"{name} must be {expected}, got {tuple(x.shape)}")
        for name in ("terminated", "truncated"):
            if getattr(rollout, name).dtype != torch.bool:
                raise TypeError(f"{name} must be of dtype bool")
        # Cast first: a finite float64 may be infinite in float32.
        kept = {"terminated", "truncated"} | ({"actions"} if self.discrete else set())
        cast = Rollout(**{
            name: x.to(self.device) if name in kept else x.to(self.device, self.dtype)
            for name, x in vars(rollout).items()
        })  # fmt: skip
        for name in ("observations", "actions", "log_probs", "rewards", "values"):
            if not getattr(cast, name).isfinite().all():
                raise ValueError(f"{name} must be finite: nothing was learned from this rollout")
        if not cast.next_values[~cast.terminated].isfinite().all():
            raise ValueError("next_values must be finite wherever the episode has not terminated")
        if self.normalize_advantages and rollout.rewards.numel() == 1:
            raise ValueError(
                "the advantage of a single step can't be normalised: collect two steps or more, or "
                "set normalize_advantages=False"
            )
        if self.discrete:
            a = cast.actions
            wrong = (a < 0) | (a >= self.action_dim) | (a != a.long())
            if wrong.any():
                raise ValueError(
                    f"actions must be whole numbers from 0 to {self.action_dim - 1}, got "
                    f"{a[wrong][0].item()}"
                )
            cast.actions = a.long()
        return cast
