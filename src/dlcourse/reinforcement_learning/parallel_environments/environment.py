"""What a batch of environments is, and what its copies share. Chapter 122, section 1c."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Transition(NamedTuple):
    """What a step gives, for N environments.

    ``obs`` (N, D) is what to act on next: the first observation of a new episode where the old one
    ended. ``reached`` (N, D) is the state that the action led to, of the old episode: the value of
    a time limit is to be taken there. ``reward`` (N,); ``terminated``, ``truncated`` (N,) bool.
    """

    obs: Tensor
    reached: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor


class ParallelEnvironment(Protocol):
    """N environments that take one action each and answer with tensors: what PPO needs."""

    num_envs: int
    obs_dim: int
    action_dim: int
    discrete: bool

    def reset(self, seed: int | None = None) -> Tensor:
        """Starts all episodes anew; observations (N, D)."""
        ...

    def step(self, action: Tensor) -> Transition:
        """One step of all environments."""
        ...


def check_actions(action: Tensor, num_envs: int, action_dim: int, discrete: bool) -> None:
    """Raises as `TensorEnvironment.step` does for actions that are none of its own."""
    wanted = (num_envs,) if discrete else (num_envs, action_dim)
    if tuple(action.shape) != wanted:
        raise ValueError(f"actions must be {wanted}, got {tuple(action.shape)}")
    if discrete and action.is_floating_point():
        raise TypeError(f"actions must be whole numbers, got {action.dtype}")
    if discrete and not ((action >= 0) & (action < action_dim)).all():
        raise ValueError(f"actions must be from 0 to {action_dim - 1}")
    if not discrete and not action.isfinite().all():
        raise ValueError("actions must be finite: the policy has gone NaN or infinite")


class TensorEnvironment:
    """N copies of one task whose states are the rows of a tensor: a step is a few tensor operations.

    A task says how a state starts (`_start`), moves (`_move`) and is seen (`_observe`). Here lies
    what all tasks share: an episode that ends is started anew in the same step, without asking
    which one it was; a tensor operation over all rows is cheaper than to wait for the answer.

    States are float64 and observations float32 by default, as in Gymnasium. All randomness comes
    from one ``torch.Generator`` on ``device``: equal seeds give equal runs on equal devices.
    """

    obs_dim: int
    action_dim: int
    discrete: bool
    time_limit: int

    def __init__(
        self,
        num_envs: int,
        device: str | torch.device = "cpu",
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
        obs_dtype: torch.dtype = torch.float32,
        time_limit: int | None = None,
    ):
        if num_envs < 1 or num_envs != int(num_envs):
            raise ValueError(f"num_envs must be a whole number of at least 1, got {num_envs}")
        if time_limit is not None and time_limit < 1:
            raise ValueError(f"time_limit must be at least 1 step, got {time_limit}")
        self.num_envs, self.device = int(num_envs), torch.device(device)
        self.dtype, self.obs_dtype = dtype, obs_dtype
        self.time_limit = time_limit or self.time_limit
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.reset()

    def reset(self, seed: int | None = None) -> Tensor:
        """Starts all episodes anew, from ``seed`` or where the generator stands; (N, D)."""
        if seed is not None:
            self.generator.manual_seed(seed)
        self.state = self._start()  # (N, S)
        self.age = torch.zeros(self.num_envs, dtype=torch.int64, device=self.device)  # (N,) steps
        return self._observe(self.state).to(self.obs_dtype)

    def step(self, action: Tensor) -> Transition:
        """One step of all environments, and a new episode for each that has ended.

        ``action``: (N,) whole numbers, or (N, A) real ones. Raises ValueError for another shape, a
        whole number out of range or a real one that isn't finite, before anything moves.
        """
        check_actions(action, self.num_envs, self.action_dim, self.discrete)
        state, reward, terminated = self._move(self.state, action)
        age = self.age + 1
        truncated = age >= self.time_limit  # may be true beside terminated
        reached = self._observe(state)
        ended = terminated | truncated
        self.state = torch.where(ended[:, None], self._start(), state)
        self.age = torch.where(ended, torch.zeros_like(age), age)
        obs = self._observe(self.state)
        return Transition(
            obs.to(self.obs_dtype),
            reached.to(self.obs_dtype),
            reward.to(self.obs_dtype),
            terminated,
            truncated,
        )

    def _uniform(self, size: int) -> Tensor:
        """(N, size) between −1 and 1."""
        u = torch.rand(
            self.num_envs, size, generator=self.generator, device=self.device, dtype=self.dtype
        )
        return 2 * u - 1

    def _start(self) -> Tensor:
        """First states of N episodes, (N, S)."""
        raise NotImplementedError

    def _move(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Next states (N, S), rewards (N,) and whether each has terminated (N,)."""
        raise NotImplementedError

    def _observe(self, state: Tensor) -> Tensor:
        """(N, S) -> (N, D)."""
        raise NotImplementedError
