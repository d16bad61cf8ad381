# %% [markdown]
# (sec-124)=
# # 124 Applications in industry
#
# A model that predicts is not a system that decides. A hospital, a bank and a car each have an error
# that is dear and one that is cheap, people who answer for it, and rules that were written after
# something went wrong. This chapter builds the systems around the model, measures each against the
# best simple rule, and says what the scale of a notebook cannot show.
#
# | section | the decision | what you build |
# |---|---|---|
# | {doc}`124.1a Medical images <1a_medical_imaging>` | call a picture ill, well, or for a person to look at | thresholds with a promise, calibration, heat maps, referral |
#
# Drug discovery, trading, fraud and driving are on their way; the {doc}`status page </book/status>` says
# what is here. Nothing in this chapter is a medical device, or advice on money, or fit for a road.
# What the document's own listings get wrong is told in the {doc}`errata </book/errata>`, each with a
# test.

# %% [markdown]
# :::{diagram} figures/0_overview.svg
# ---
# name: fig-industry-map
# alt: From left to right: data with their dates and groups, a model, its probability, a decision with
#   a cost, and what came of it, from which a person and the law look back at every part.
# ---
# The model is one box of five. The dashed way back is where most failures were found.
# :::

# %% [markdown]
# ## What you will be able to do
#
# - Derive a threshold from what errors cost, and check it on data that did not choose it.
# - Split by patient, by time or by molecule family, as the use will, and see how much that takes away.
# - Name the simple rule that a model has to beat, and tune it as carefully.
# - Say when a model should keep silent, and measure what that costs.
# - Say which rules of a field a system falls under, and what they ask for.
#
# ## One threshold for all of them
#
# Missing an ill person, letting a fraud pass, braking too late: each costs $c_{\mathrm{miss}}$. A false
# alarm costs $c_{\mathrm{alarm}}$. With a probability $p$ that means what it says, an alarm is worth it
# where $p\, c_{\mathrm{miss}} > (1 - p)\, c_{\mathrm{alarm}}$, so above {cite:p}`elkan2001foundations`
#
# $$
# p^\ast = \frac{c_{\mathrm{alarm}}}{c_{\mathrm{alarm}} + c_{\mathrm{miss}}} .
# $$ (eq-industry-threshold)
#
# The listings of this chapter's document write 0.95 or 0.9 into the code, for a tumour and for a fraud.
# What does that cost, if a miss is 20 times as dear as an alarm? Here 5 % of 20,000 cases are bad, and
# a score tells them apart with two standard deviations.

# %% tags=["definitions", "hide-input"]
import matplotlib.pyplot as plt
import numpy as np
from scipy.special import expit

from dlcourse.notebook import claim, paired

plt.style.use("dlcourse.notebook.course")
SEEDS = range(5)
MISS, ALARM, RATE = 20.0, 1.0, 0.05  # costs, and the share of bad cases


def cases(seed, n=20_000):
    """Labels and probabilities that are right: log odds = prior + 2 x − 2 for x of N(0 or 2, 1)."""
    rng = np.random.default_rng([124, seed])
    bad = rng.random(n) < RATE
    x = rng.standard_normal(n) + 2.0 * bad
    return bad, expit(np.log(RATE / (1 - RATE)) + 2.0 * x - 2.0)


def cost(bad, p, threshold):
    """Mean cost of a case where all above the threshold raise an alarm."""
    alarm = p > threshold
    return float((MISS * (bad & ~alarm) + ALARM * (~bad & alarm)).mean())


def spread(values):
    """Mean, and the least and largest over the seeds, as text."""
    return f"{np.mean(values):.3f} [{min(values):.3f}, {max(values):.3f}]"


# %% mystnb={"figure": {"caption": "Mean cost of a case against the threshold, one line a seed. Dotted: what the costs alone say; dashed: no alarm at all.", "name": "fig-industry-cost"}, "image": {"alt": "Five curves fall from low thresholds to a flat least near 0.05 and rise again towards 1, where they reach the cost of no alarm at all. The sentence below has the numbers."}} tags=["hide-input"]
worlds = [cases(seed) for seed in SEEDS]
grid = np.linspace(0.002, 0.998, 250)
fig, ax = plt.subplots(figsize=(6.4, 2.9))
for bad, p in worlds:
    ax.plot(grid, [cost(bad, p, t) for t in grid], color="tab:blue", alpha=0.6, lw=1)
best = ALARM / (ALARM + MISS)
ax.axvline(best, color="k", ls=":", lw=1, label=f"p* = {best:.3f}")
ax.axhline(MISS * RATE, color="tab:gray", ls="--", lw=1, label="no alarm at all")
ax.set(xlabel="threshold", ylabel="mean cost of a case (alarms)")
ax.legend()
plt.show()

# %% tags=["hide-input"]
at = {t: [cost(bad, p, t) for bad, p in worlds] for t in (best, 0.5, 0.9, 0.95)}
silent = [MISS * float(bad.mean()) for bad, _ in worlds]
gap, half = paired(at[0.9], at[best])
claim(
    "Mean cost of a case over {n} seeds: {star} at p*, {middle} at 0.5, {nine} at 0.9, {ninefive} at "
    "0.95, {silent} without any alarm. The threshold of 0.9 costs {gap:.2f} ± {half:.2f} more than p*, "
    "and no threshold was tuned.",
    all(max(at[best]) < min(at[t]) for t in (0.5, 0.9, 0.95)) and gap > half,
    n=len(SEEDS),
    star=spread(at[best]),
    middle=spread(at[0.5]),
    nine=spread(at[0.9]),
    ninefive=spread(at[0.95]),
    silent=spread(silent),
    gap=gap,
    half=half,
)

# %% [markdown]
# The rule needs probabilities that are right. Those of a network mostly are not, before they are
# calibrated, and a new hospital or a new year makes them wrong again: that is where the sections begin.
#
# ## Summary
#
# - A threshold comes from costs and a calibrated probability, not from the code.
# - The split must be that of the use: other people, later days, other molecules.
# - A simple rule, tuned as carefully, stands beside every model.
# - Silence is an answer. Measure what it costs.
#
# References: each citation above leads to its source; the
# {doc}`bibliography </book/bibliography>` lists them all.
