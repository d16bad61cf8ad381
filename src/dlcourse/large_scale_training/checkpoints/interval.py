"""How often to save: what saving costs against what a failure costs.

Chapter: ``119_large_scale_training/1b_checkpoints``.

Papers: Young (1974), "A First Order Approximation to the Optimum Checkpoint Interval"; Daly (2006),
"A Higher Order Estimate of the Optimum Checkpoint Interval for Restart Dumps".
"""

from __future__ import annotations

import math

__all__ = ["best_interval", "lost_time"]


def lost_time(interval: float, save: float, restart: float, mtbf: float) -> float:
    """The mean share by which failures and saves stretch a run, beyond its useful work.

    With failures that come independently, at a mean time M from each other, useful work T takes
    M e^(R/M) (e^((τ+δ)/M) − 1) T/τ on average (Daly 2006, the complete model). This is that
    divided by T, minus 1; infinite where no work would ever be done.

    Args:
        interval: τ, useful work between two saves, in any unit of time, as are the others.
        save: δ, how long a save stops the run.
        restart: R, from a failure until the run goes on.
        mtbf: M, mean time between failures of the whole job.
    """
    _check(save, restart, mtbf)
    if not interval > 0:
        raise ValueError(f"interval must be > 0, got {interval}")
    try:
        stretched = mtbf * math.exp(restart / mtbf) * math.expm1((interval + save) / mtbf)
    except OverflowError:
        return math.inf
    return stretched / interval - 1


def best_interval(save: float, mtbf: float) -> float:
    """The interval at which ``lost_time`` is least, by Daly's estimate (2006).

    To first order it is Young's √(2 δ M) (1974). It does not depend on how long a restart takes.
    """
    _check(save, 0.0, mtbf)
    if save >= 2 * mtbf:
        return mtbf
    small = save / (2 * mtbf)
    return math.sqrt(2 * save * mtbf) * (1 + math.sqrt(small) / 3 + small / 9) - save


def _check(save: float, restart: float, mtbf: float) -> None:
    if not (save >= 0 and restart >= 0 and mtbf > 0):
        raise ValueError(f"save and restart must be >= 0, mtbf > 0: {save}, {restart}, {mtbf}")
