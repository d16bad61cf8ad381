from .parallel_environments.advantages import generalized_advantages as generalized_advantages
from .parallel_environments.ppo import PPO as PPO
from .parallel_environments.ppo import Rollout as Rollout
from .parallel_environments.ppo import clipped_surrogate as clipped_surrogate
