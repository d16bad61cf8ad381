"""What SAC and TD3 share: the checks, and how an observation becomes an action (122.1a)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ._checks import at_least_one
from .networks import Critics, polyak
from .replay import Batch


class OffPolicyAgent(nn.Module):
    """An actor, ``num_critics`` critics, and slow copies of the critics.

    A subclass sets ``actor`` and says what an action, the critics' target and a step are.
    ``state_dict`` holds all that a training needs to go on: weights, optimizers, generator and the
    count of updates. Load it into an agent of equal settings. As with any module, its weights are
    those of the agent itself: to keep a state while the agent learns on, ``copy.deepcopy`` it.
    """

    actor: nn.Module

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        *,
        hidden: Sequence[int],
        num_critics: int,
        gamma: float,
        tau: float,
        seed: int,
    ) -> None:
        super().__init__()
        obs_dim = at_least_one("obs_dim", obs_dim)
        action_dim = at_least_one("action_dim", action_dim)
        num_critics = at_least_one("num_critics", num_critics)
        if not 0 <= gamma < 1:
            raise ValueError(f"gamma must be in [0, 1), got {gamma}")
        if not 0 < tau <= 1:
            raise ValueError(f"tau must be in (0, 1], got {tau}")
        self.obs_dim, self.action_dim, self.hidden = obs_dim, action_dim, tuple(hidden)
        self.gamma, self.tau, self.updates = gamma, tau, 0
        self.generator = torch.Generator().manual_seed(seed)
        self.critics = Critics(obs_dim, action_dim, hidden, num_critics, self.generator)
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)

    @torch.no_grad()
    def act(self, obs: Any, deterministic: bool = False) -> np.ndarray:
        """An action in [−1, 1] for each observation: ``(obs_dim,)`` or ``(n, obs_dim)``.

        Raises ValueError for another width, NaN or infinity.
        """
        x = torch.as_tensor(np.asarray(obs), dtype=torch.float32)
        if x.ndim not in (1, 2) or x.shape[-1] != self.obs_dim:
            raise ValueError(
                f"obs must be ({self.obs_dim},) or (n, {self.obs_dim}), got {tuple(x.shape)}"
            )
        if not bool(x.isfinite().all()):
            raise ValueError("obs is not finite (NaN or infinity)")
        action = self._act(x[None] if x.ndim == 1 else x, deterministic)
        return (action[0] if x.ndim == 1 else action).numpy()

    def noise(self, *shape: int) -> Tensor:
        """Standard normal numbers from the agent's own generator, float32."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float32)

    def get_extra_state(self) -> dict[str, Any]:
        """What ``state_dict`` holds beside the weights."""
        return {
            "kind": type(self).__name__,
            "updates": self.updates,
            "generator": self.generator.get_state(),
            "optimizers": {name: opt.state_dict() for name, opt in self._optimizers().items()},
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take up what ``get_extra_state`` gave, as a copy."""
        for name, optimizer in self._optimizers().items():
            optimizer.load_state_dict(copy.deepcopy(state["optimizers"][name]))
        self.generator.set_state(state["generator"])
        self.updates = state["updates"]

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, **how: Any
    ) -> Any:
        """As ``nn.Module`` has it. Raises ValueError for a state with weights only, or of another
        kind of agent; nothing has changed then."""
        if strict and "_extra_state" not in state_dict:
            raise ValueError(
                "the state has no optimizers, generator and count of updates ('_extra_state'): "
                "training could not go on from it. To take its weights alone, pass strict=False"
            )
        kind = state_dict.get("_extra_state", {}).get("kind", type(self).__name__)
        if kind != type(self).__name__:
            raise ValueError(f"the state is of another kind: {kind}, not {type(self).__name__}")
        return super().load_state_dict(state_dict, strict, **how)

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {k: v for k, v in vars(self).items() if isinstance(v, torch.optim.Optimizer)}

    def _act(self, obs: Tensor, deterministic: bool) -> Tensor:
        raise NotImplementedError

    def _check(self, batch: Batch) -> None:
        b = len(batch.reward)
        wanted = ((b, self.obs_dim), (b, self.action_dim), (b,), (b, self.obs_dim), (b,), (b,))
        for name, part, shape in zip(Batch._fields, batch, wanted, strict=True):
            if part.shape != shape or b == 0:
                raise ValueError(f"{name} must be {shape} with B ≥ 1, got {tuple(part.shape)}")
        # One look at a sum is enough: NaN and infinity survive sums and products by finite weights.
        total = batch.reward.sum() + batch.obs.sum() + batch.next_obs.sum()
        if not bool(total.isfinite()):
            raise ValueError("reward or an observation is not finite: nothing was updated")
        ends = batch.terminated, batch.truncated
        if not all(torch.equal(end, end.bool().to(end.dtype)) for end in ends):  # or NaN
            raise ValueError("terminated and truncated must be 0 or 1: nothing was updated")
        if not float(batch.action.abs().max()) <= 1 + 1e-6:  # true for NaN, too
            raise ValueError("an action is NaN or lies outside [-1, 1]: nothing was updated")

    def _critic_step(self, batch: Batch, target: Tensor) -> Tensor:
        q = self.critics(batch.obs, batch.action)  # (n, B)
        loss = (q - target).square().mean(1).sum()  # each critic by itself
        step(self.critic_optimizer, loss)
        return loss.detach()

    def _move_targets(self) -> None:
        polyak(self.target_critics, self.critics, self.tau)


def adam(parameters: Any, lr: float) -> torch.optim.Adam:
    """Adam, all weights in one fused call."""
    return torch.optim.Adam(parameters, lr=lr, fused=True)


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step on the optimizer's own parameters; no other parameter gets a gradient."""
    parameters = optimizer.param_groups[0]["params"]
    for p, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        p.grad = g
    optimizer.step()
