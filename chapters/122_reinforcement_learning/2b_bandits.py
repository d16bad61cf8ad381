# %% [markdown] tags=["slide"]
# (sec-122-2b)=
# # 122.2b Contextual bandits

# %% tags=["definitions", "hide-input", "skip"]
import matplotlib.pyplot as plt
import numpy as np

from dlcourse.datasets import credit, open_bandit
from dlcourse.notebook import claim, explore, keep, say, show_source, values_of
from dlcourse.reinforcement_learning import (
    HybridLinUCB,
    LinearThompsonSampling,
    LinUCB,
    LinUCBReference,
    SlidingWindowLinUCB,
    doubly_robust,
    effective_sample_size,
    inverse_propensity_score,
    rank_one_update,
    self_normalized_ips,
)
from dlcourse.reinforcement_learning.bandits.ridge_arms import RidgeArms
from dlcourse.reinforcement_learning.experiments import (
    bandits_digits,
    bandits_evaluation,
    bandits_simulated,
)
from dlcourse.reinforcement_learning.experiments.bandits_intervals import (
    mean_over_seeds,
    paired_over_seeds,
)

plt.style.use("dlcourse.notebook.course")
NOT_YET = "This cell is not recorded yet."
COLOR = {
    "random": "0.6",
    "greedy": "tab:gray",
    "ε-greedy": "tab:orange",
    "LinUCB": "tab:blue",
    "Thompson": "tab:green",
    "told all": "k",
    "remembers all": "tab:blue",
    "window": "tab:purple",
}


def plus_minus(values, digits=3):
    """Mean and half the width of its 95 % interval, as text."""
    found = mean_over_seeds(values)
    return f"{found.mean:.{digits}f} ± {found.half:.{digits}f}"


def in_words(gap, first, second):
    """What a paired interval says of two contestants."""
    if abs(gap.mean) <= gap.half:
        return f"no order of {first} and {second} shows"
    return f"{first if gap.mean > 0 else second} has the larger value"

# %% tags=["long", "hide-input"] name="regret"
curves = bandits_simulated.regret_curves()
delays = bandits_simulated.delayed_rewards(curves["settings"])
print("settings:", curves["settings"])
for kind, runs in curves["curves"].items():
    print(kind, "regret", plus_minus([r[-1] for r in runs], 0))
keep(**curves, delays=delays)

# %% tags=["long", "hide-input"] name="drift"
drift = bandits_simulated.drifting()
for world, forms in drift["curves"].items():
    for form, runs in forms.items():
        print(world, form, "regret", plus_minus([r[-1] for r in runs], 0))
keep(**drift)

# %% tags=["long", "hide-input"] name="digits"
digits = bandits_digits.contest()
print("settings:", digits["settings"])
for kind, scores in digits["scores"].items():
    print(kind, "mean reward", plus_minus(scores))
keep(**digits)

# %% tags=["long", "hide-input"] name="evaluation"
study = bandits_evaluation.study()
for distance, row in study["distance"].items():
    print(distance, *(f"{n} {row[n]['rmse']:.3f}" for n in bandits_evaluation.ESTIMATORS))
keep(**study)
