# %% [markdown] tags=["slide"]
# (sec-122-1b)=
# # 122.1b Sim-to-real transfer

# %% tags=["definitions", "hide-input", "skip"]
import statistics

import matplotlib.pyplot as plt
import numpy as np

from dlcourse.notebook import claim, explore, keep, paired, say, show_source, values_of
from dlcourse.reinforcement_learning import (
    DomainRandomization,
    SystemIdentifier,
    sim_to_real_gap,
)
from dlcourse.reinforcement_learning.experiments.sim_to_real_runs import (
    BOUNDS,
    CONTROL_STEP,
    NOMINAL,
    REALS,
    SECONDS,
    SENSOR,
    transfer,
)
from dlcourse.reinforcement_learning.experiments.sim_to_real_training import RANGES
from dlcourse.reinforcement_learning.sim_to_real.identification import Episode
from dlcourse.reinforcement_learning.sim_to_real.pendulum_batch import PendulumBatch

plt.style.use("dlcourse.notebook.course")

# %% tags=["long", "hide-input"] name="transfer"
result = transfer()
for name, rows in result["reals"].items():
    for how, scores in rows.items():
        print(f"{name:8} {how:12} {[round(x) for x in scores]}")
keep(**result)
