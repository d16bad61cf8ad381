"""Gymnasium's vector environments, seen as a `ParallelEnvironment`. Chapter 122, section 1c."""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from dlcourse.reinforcement_learning.parallel_environments.environment import Transition


class GymnasiumVector:
    """N environments of Gymnasium, in this process or in one process each; tensors in and out.

    ``asynchronous``: one worker process an environment. Real actions are clipped to the space's
    bounds. Ended episodes start anew in the same step, as in `TensorEnvironment`.
    """

    def __init__(
        self,
        name: str,
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
        self.action_dim = int(space.n) if self.discrete else space.shape[0]
        self.obs_dim = self.envs.single_observation_space.shape[0]
        self._space = space
        self.reset(seed)

    def reset(self, seed: int | None = None) -> Tensor:
        """Starts all episodes anew; environment i gets the seed ``seed`` + i."""
        return self._tensor(self.envs.reset(seed=seed)[0])

    def step(self, action: Tensor) -> Transition:
        """One step of all environments."""
        a = action.cpu().numpy()
        if not self.discrete:
            a = np.clip(a, self._space.low, self._space.high)
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
