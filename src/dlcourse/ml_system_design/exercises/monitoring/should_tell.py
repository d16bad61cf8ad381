"""123.3: one message for one incident."""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def should_tell(values, raise_at, clear_at, lasting):
    """Return what is told at each value, int (n,): 1 raised, -1 cleared, 0 nothing.

    values: (n,), NaN where unknown. Raised when the last `lasting` values were all above raise_at;
    cleared as soon as one is at most clear_at ≤ raise_at. NaN breaks a run and clears nothing.
    """
    raised, run, told = False, 0, np.zeros(len(values), int)
    for i, value in enumerate(values):
        if raised:
            if value <= clear_at:
                raised, run = False, 0
                told[i] = -1
            continue
        run = run + 1 if value > raise_at else 0
        if run >= lasting:
            raised = True
            told[i] = 1
    return told


def cases(rng):
    """A noisy walk around two thresholds, with holes."""
    n = int(rng.integers(25, 50))
    values = 10.0 + rng.integers(-4, 5, n)
    values[rng.integers(0, n, 2)] = np.nan
    return {
        "values": values,
        "raise_at": 10.0,
        "clear_at": float(rng.choice([7.0, 8.0])),
        "lasting": int(rng.integers(1, 5)),
    }


def edges():
    """Nothing; always bad; a peak; between the thresholds; at them; unknown ones."""
    usual = {"values": np.array([]), "raise_at": 10.0, "clear_at": 8.0, "lasting": 2}
    return {
        "nothing": {**usual, "values": np.array([])},
        "always bad": {**usual, "values": np.array([11.0]) * 5},
        "a gap among three": {
            **usual, "lasting": 3, "values": np.array([11.0, 11.0, 9.0, 11.0, 11.0, 11.0])
        },
        "a gap, and two": {
            **usual, "lasting": 3, "values": np.array([11.0, 9.0, 11.0, 11.0, 11.0])
        },
        "a peak": {**usual, "values": np.array([9.0, 20.0, 9.0, 20.0, 9.0])},
        "between the thresholds": {
            **usual,
            "values": np.array([11.0, 11.0, 9.0, 9.0, 11.0, 8.0, 11.0, 11.0]),
        },
        "at the thresholds": {**usual, "lasting": 1, "values": np.array([10.0, 10.5, 8.5, 8.0])},
        "unknown while bad": {**usual, "values": np.array([11.0, np.nan, 11.0, 11.0])},
        "unknown while raised": {**usual, "values": np.array([11.0, 11.0, np.nan, np.nan, 11.0])},
        "one threshold": {**usual, "clear_at": 10.0, "lasting": 1, "values": np.array([11.0, 10.0, 11.0])},
    }


def listing_every_time(values, raise_at, clear_at, lasting):
    """The document prints an alert at each call while the metric is bad."""
    return (values > raise_at).astype(int)


def one_threshold(values, raise_at, clear_at, lasting):
    return should_tell(values, raise_at, raise_at, lasting)


def no_duration(values, raise_at, clear_at, lasting):
    return should_tell(values, raise_at, clear_at, 1)


def run_is_not_broken(values, raise_at, clear_at, lasting):
    raised, run, told = False, 0, np.zeros(len(values), int)
    for i, value in enumerate(values):
        if np.isnan(value):
            continue
        if raised and value <= clear_at:
            raised, run = False, 0
            told[i] = -1
        elif not raised and value > raise_at:
            run += 1
            if run >= lasting:
                raised = True
                told[i] = 1
    return told


def unknown_is_good(values, raise_at, clear_at, lasting):
    return should_tell(np.nan_to_num(values, nan=clear_at), raise_at, clear_at, lasting)


def clears_below(values, raise_at, clear_at, lasting):
    return should_tell(values, raise_at, clear_at - 1e-9, lasting)


EXERCISE = Exercise(
    key="123.3.should-tell",
    title="One message for one incident",
    difficulty="extend",
    statement=r"""
Follow a metric and return what a person should be told at each value: 1 where the alert is raised,
−1 where it is cleared, 0 where nothing is said. The alert is raised when the last `lasting` values were *all* above `raise_at`,
and cleared as soon as a value is at most `clear_at`, which is not above `raise_at`. While it is
raised nothing is said again. A value may be NaN, unknown: it breaks a run of bad values, and it
clears nothing. After a clearing the run begins anew.
""",
    imports="import numpy as np",
    reference=should_tell,
    cases=cases,
    edges=edges,
    hints=[
        "Keep two things: whether the alert is raised, and how many bad values came in a row.",
        "Raised: look at clear_at only. Not raised: look at raise_at only.",
        "NaN sets the run to 0 and leaves a raised alert as it is.",
    ],
    mistakes={
        "listing_every_time": Mistake(
            answer=listing_every_time,
            hint="each bad value is told, and nothing is ever cleared, as in the document.",
        ),
        "one_threshold": Mistake(
            answer=one_threshold,
            hint="it clears at raise_at, so that noise around it is a storm. Use clear_at.",
        ),
        "no_duration": Mistake(
            answer=no_duration, hint="one bad value is enough here. It must last."
        ),
        "run_is_not_broken": Mistake(
            answer=run_is_not_broken,
            hint="bad values are counted though others came between them. They must be in a row.",
        ),
        "unknown_is_good": Mistake(
            answer=unknown_is_good, hint="an unknown value clears the alert. Nobody saw it was good."
        ),
        "clears_below": Mistake(
            answer=clears_below, hint="a value equal to clear_at clears too."
        ),
    },
)
