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

from dlcourse.notebook import claim, explore, keep, paired, say, show_source, values_of
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
