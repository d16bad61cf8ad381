"""123.1: an hour on a circle."""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def cyclic_hour(hours):
    """Return sine and cosine of the hour of the day, (n, 2); hours: (n,) in [0, 24)."""
    angle = 2 * np.pi * hours / 24
    return np.stack([np.sin(angle), np.cos(angle)], axis=1)


def cases(rng):
    """Hours with minutes."""
    return {"hours": rng.uniform(0, 24, int(rng.integers(2, 9)))}


def edges():
    """Midnight; noon; just before midnight; no row."""
    return {
        "midnight": {"hours": np.array([0.0])},
        "noon": {"hours": np.array([12.0])},
        "around midnight": {"hours": np.array([23.75, 0.25])},
        "no row": {"hours": np.empty(0)},
    }


def listing_number(hours):
    """The hour as a number, twice: 23 and 0 are farthest apart."""
    return np.stack([hours, hours], axis=1)


def period_of_23(hours):
    angle = 2 * np.pi * hours / 23
    return np.stack([np.sin(angle), np.cos(angle)], axis=1)


def half_a_turn(hours):
    angle = np.pi * hours / 24
    return np.stack([np.sin(angle), np.cos(angle)], axis=1)


def in_degrees(hours):
    angle = 360 * hours / 24
    return np.stack([np.sin(angle), np.cos(angle)], axis=1)


def swapped(hours):
    return cyclic_hour(hours)[:, ::-1]


EXERCISE = Exercise(
    key="123.1.cyclic-hour",
    title="Put an hour on a circle",
    difficulty="implement",
    statement=r"""
Give each hour of the day, a number from 0 up to 24, as a point on the unit circle: first the sine,
then the cosine, of an angle that makes one turn a day.
""",
    imports="import numpy as np",
    reference=cyclic_hour,
    cases=cases,
    edges=edges,
    hints=[
        "One turn is 2π, and a day has 24 hours.",
        "The angle of noon is π.",
        "np.stack([np.sin(angle), np.cos(angle)], axis=1).",
    ],
    mistakes={
        "listing_number": Mistake(
            answer=listing_number, hint="that is the hour itself. 23:59 and 0:00 must be near."
        ),
        "period_of_23": Mistake(
            answer=period_of_23, hint="with 23 hours a turn, 23:00 and 0:00 are the same point."
        ),
        "half_a_turn": Mistake(answer=half_a_turn, hint="a day is half a turn: the 2 is missing."),
        "in_degrees": Mistake(
            answer=in_degrees, hint="the angle is in degrees, and NumPy's sine takes radians."
        ),
        "swapped": Mistake(answer=swapped, hint="the sine comes first."),
    },
)
