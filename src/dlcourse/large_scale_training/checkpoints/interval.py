"""How often to save: what saving costs against what a failure costs.

Chapter: ``119_large_scale_training/1b_checkpoints``.

Papers: Young (1974), "A First Order Approximation to the Optimum Checkpoint Interval"; Daly (2006),
"A Higher Order Estimate of the Optimum Checkpoint Interval for Restart Dumps".
"""

from __future__ import annotations

import math

__all__ = ["best_interval", "lost_time"]


def lost_time(interval: float, save: float, restart: float, mtbf: float) -> float:
    """The mean share by which a run of useful work is stretched, beyond that work.

    With failures that come independently, at a mean time ``mtbf`` from each other, the expected
    wall-clock time of useful work T is M e^(R/M) (e^((τ+δ)/M) − 1) T/τ (Daly 2006, equation 13):
    this returns that over T, minus 1.

    Args:
        interval: τ, useful work between two saves, in any unit of time, as are the others.
        save: δ, how long a save stops the run.
        restart: R, from a failure until the run goes on.
        mtbf: M, mean time between failures of the whole job.
    """
    _check(save, restart, mtbf)
    if interval <= 0:
        raise ValueError(f"interval must be > 0, got {interval}")
    stretched = mtbf * math.exp(restart / mtbf) * math.expm1((interval + save) / mtbf)
    return stretched / interval - 1


def best_interval(save: float, mtbf: float) -> float:
    """Young's interval √(2 δ M), at which ``lost_time`` is least to first order.

    It holds where a save is short against the time between failures, and does not depend on how
    long a restart takes.
    """
    _check(save, 0.0, mtbf)
    return math.sqrt(2 * save * mtbf)


def _check(save: float, restart: float, mtbf: float) -> None:
    if not (save >= 0 and restart >= 0 and mtbf > 0):
        raise ValueError(f"save and restart must be >= 0, mtbf > 0: {save}, {restart}, {mtbf}")
