# %% [markdown] tags=["slide"]
# (sec-122-1b)=
# # 122.1b Sim-to-real transfer

# %% tags=["definitions", "hide-input", "skip"]
import statistics

import gymnasium as gym
import matplotlib.pyplot as plt
import mujoco
import numpy as np

from dlcourse.notebook import claim, explore, keep, paired, say, show_source, values_of
from dlcourse.reinforcement_learning import (
    DomainRandomization,
    SystemIdentifier,
    sim_to_real_gap,
)
from dlcourse.reinforcement_learning.experiments.sim_to_real_runs import (
    BOUNDS,
    REALS,
    adaptation,
    contest,
)
from dlcourse.reinforcement_learning.experiments.sim_to_real_training import RANGES, SEEDS
from dlcourse.reinforcement_learning.sim_to_real.identification import Episode
from dlcourse.reinforcement_learning.sim_to_real.pendulum_batch import PendulumBatch
from dlcourse.reinforcement_learning.sim_to_real.randomization import draw

plt.style.use("dlcourse.notebook.course")

# %% tags=["long", "hide-input"] name="widths"
result = contest()
for width, rows in result["reals"].items():
    print("width", width, rows)
keep(**result)

# %% tags=["long", "hide-input"] name="adaptation"
result = adaptation()
for name, rows in result["rows"].items():
    for row in rows:
        print(name, {k: row[k] for k in ("before", "nominal", "identified", "truth")})
keep(**result)
