"""Gymnasium's vector environments, seen as a `ParallelEnvironment`. Chapter 122, section 1c."""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dlcourse.reinforcement_learning.parallel_environments.environment import (
    Transition,
    check_actions,
)

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec


class GymnasiumVector:
    """N environments of Gymnasium, in this process or in one process each; tensors in and out.

    ``name``: what ``gymnasium.make`` takes, a name or a spec. ``asynchronous``: one worker process
    an environment. Whole-number actions count from 0, wherever the space starts; real ones are
    clipped to its bounds. Ended episodes start anew in the same step, as in `TensorEnvironment`.

    Raises ValueError for spaces that are no vectors: other observations than a Box (D,), other
    actions than a Discrete or a Box (A,) of real numbers.
    """

    def __init__(
        self,
        name: "str | EnvSpec",
        num_envs: int,
        device: str | torch.device = "cpu",
        *,
        seed: int = 0,
        asynchronous: bool = False,
    ):
        import gymnasium
        from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

        kind = AsyncVectorEnv if asynchronous else SyncVectorEnv
        self.envs = kind(
            [partial(gymnasium.make, name)] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP
        )
        self.num_envs, self.device = num_envs, torch.device(device)
        space = self.envs.single_action_space
        self.discrete = isinstance(space, gymnasium.spaces.Discrete)
        try:
            _check_spaces(self.envs.single_observation_space, space)
        except ValueError:
            self.close()
            raise
        self.action_dim = int(space.n) if self.discrete else space.shape[0]
        self.obs_dim = self.envs.single_observation_space.shape[0]
        self._space = space
        self.reset(seed)

    def reset(self, seed: int | None = None) -> Tensor:
        """Starts all episodes anew; environment i gets the seed ``seed`` + i."""
        return self._tensor(self.envs.reset(seed=seed)[0])

    def step(self, action: Tensor) -> Transition:
        """One step of all environments. Takes and refuses what `TensorEnvironment.step` does."""
        action = action.cpu()
        check_actions(action, self.num_envs, self.action_dim, self.discrete)
        a = action.numpy()
        if self.discrete:
            a = a.astype(self._space.dtype) + self._space.start
        else:
            a = np.clip(a, self._space.low, self._space.high).astype(self._space.dtype)
        obs, reward, terminated, truncated, info = self.envs.step(a)
        reached = obs
        if "final_obs" in info:
            reached = obs.copy()
            for i in np.flatnonzero(terminated | truncated):
                reached[i] = info["final_obs"][i]
        ends = (torch.as_tensor(x, device=self.device) for x in (terminated, truncated))
        return Transition(
            self._tensor(obs), self._tensor(reached), self._tensor(reward), *ends
        )

    def close(self) -> None:
        """Ends the worker processes."""
        self.envs.close()

    def _tensor(self, x: np.ndarray) -> Tensor:
        return torch.as_tensor(x, dtype=torch.float32).clone().to(self.device)


def _check_spaces(observations, actions) -> None:
    from gymnasium.spaces import Box, Discrete

    if not (isinstance(observations, Box) and len(observations.shape) == 1):
        raise ValueError(
            f"observations must be a Box (D,), got {observations}: make one environment, put "
            "gymnasium.wrappers.FlattenObservation around it, and give its .spec as the name"
        )
    real = isinstance(actions, Box) and np.issubdtype(actions.dtype, np.floating)
    if not isinstance(actions, Discrete) and not (real and len(actions.shape) == 1):
        raise ValueError(
            f"actions must be a Discrete or a Box (A,) of real numbers, got {actions}: register "
            "the environment with gymnasium.wrappers.TransformAction around it (as "
            "FlattenObservation does for observations)"
        )
