# %% [markdown] tags=["slide"]
# (sec-122-1a)=
# # 122.1a Robot control
#
# stub

# %% tags=["definitions", "hide-input", "skip"]
import matplotlib.pyplot as plt
import numpy as np
import torch

from dlcourse.notebook import claim, explore, keep, paired, say, show_source, values_of
from dlcourse.reinforcement_learning import (
    SAC,
    TD3,
    Critics,
    ReplayBuffer,
    evaluate,
    interquartile_mean,
    squashed_density,
    squashed_log_prob,
    stratified_bootstrap,
    td_target,
    train,
)
from dlcourse.reinforcement_learning.experiments.robot_control_reacher import (
    SETTINGS,
    contest,
    critics_contest,
)

torch.set_num_threads(1)
plt.style.use("dlcourse.notebook.course")

# %% name="contest" tags=["long", "skip"]
keep(**contest(seeds=(0, 1, 2), steps=3000, every=500))

# %% name="critics" tags=["long", "skip"]
keep(**critics_contest(seeds=(0, 1, 2), steps=3000, every=500))
