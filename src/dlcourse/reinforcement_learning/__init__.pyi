from .parallel_environments.advantages import generalized_advantages as generalized_advantages
from .parallel_environments.ppo import PPO as PPO
from .parallel_environments.ppo import Rollout as Rollout
from .parallel_environments.ppo import clipped_surrogate as clipped_surrogate
from .sim_to_real.gap import sim_to_real_gap as sim_to_real_gap
from .sim_to_real.identification import SystemIdentifier as SystemIdentifier
from .sim_to_real.randomization import DomainRandomization as DomainRandomization
