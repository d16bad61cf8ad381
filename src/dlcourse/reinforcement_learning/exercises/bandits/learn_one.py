"""122.2b: learn one reward without inverting anything."""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def learn_one(inverse, response, x, reward):
    """Return the new A⁻¹ (d, d), b (d,) and θ (d,) of an arm, in O(d²).

    inverse: A⁻¹, symmetric (d, d); response: b (d,); x: context (d,); reward: a number.
    """
    u = inverse @ x
    inverse = inverse - np.outer(u, u) / (1 + x @ u)
    response = response + reward * x
    return inverse, response, inverse @ response


def cases(rng):
    """An arm with a few observations and some ridge."""
    d = int(rng.integers(2, 6))
    seen = rng.standard_normal((int(rng.integers(1, 9)), d))
    return {
        "inverse": np.linalg.inv(rng.uniform(0.3, 3) * np.eye(d) + seen.T @ seen),
        "response": rng.standard_normal(d),
        "x": 2 * rng.standard_normal(d),
        "reward": float(rng.standard_normal()),
    }


def edges():
    """A context of zeros; a reward of 0; one dimension; a fresh arm; a large context."""
    fresh = {"inverse": np.eye(3) / 0.5, "response": np.zeros(3)}
    x = np.array([1.0, -2.0, 0.5])
    return {
        "a fresh arm": {**fresh, "x": x, "reward": 1.0},
        "a context of zeros": {**fresh, "x": np.zeros(3), "reward": 1.0},
        "a reward of 0": {**fresh, "x": x, "reward": 0.0},
        "one dimension": {
            "inverse": np.array([[0.25]]), "response": np.array([1.0]),
            "x": np.array([2.0]), "reward": -1.0,
        },
        "a large context": {**fresh, "x": 50 * x, "reward": 2.0},
    }  # fmt: skip


def listing_adds_to_the_matrix(inverse, response, x, reward):
    """The document's line, A += x xᵀ, applied to the inverse that is kept here."""
    inverse = inverse + np.outer(x, x)
    response = response + reward * x
    return inverse, response, inverse @ response


def no_denominator(inverse, response, x, reward):
    u = inverse @ x
    inverse = inverse - np.outer(u, u)
    response = response + reward * x
    return inverse, response, inverse @ response


def old_theta(inverse, response, x, reward):
    theta = inverse @ (response + reward * x)
    u = inverse @ x
    return inverse - np.outer(u, u) / (1 + x @ u), response + reward * x, theta


def only_when_rewarded(inverse, response, x, reward):
    if reward == 0:
        return inverse, response, inverse @ response
    return learn_one(inverse, response, x, reward)


def x_in_place_of_u(inverse, response, x, reward):
    inverse = inverse - np.outer(x, x) / (1 + x @ x)
    response = response + reward * x
    return inverse, response, inverse @ response


EXERCISE = Exercise(
    key="122.2b.learn-one",
    title="Learn one reward in O(d²)",
    difficulty="implement",
    statement=r"""
An arm keeps $A^{-1}$ and $b$. A context $x$ was seen, the arm was chosen, and its reward $r$ has
come. Return the new $A^{-1}$, the new $b$ and the new $\theta = A^{-1} b$, by the formula of Sherman
and Morrison. Leave the arrays that you are given as they are.
""",
    imports="import numpy as np",
    reference=learn_one,
    cases=cases,
    edges=edges,
    hints=[
        "Compute u = A⁻¹ x once; everything else is made of u and x.",
        "(A + x xᵀ)⁻¹ = A⁻¹ − u uᵀ / (1 + xᵀu).",
        "A reward of 0 is information too: A changes whatever the reward is.",
    ],
    mistakes={
        "listing_adds_to_the_matrix": Mistake(
            answer=listing_adds_to_the_matrix,
            hint="x xᵀ is added to the inverse. That is the update of A, which the document keeps; "
            "A⁻¹ gets smaller.",
        ),
        "no_denominator": Mistake(
            answer=no_denominator, hint="the denominator 1 + xᵀ A⁻¹ x is missing."
        ),
        "old_theta": Mistake(
            answer=old_theta, hint="θ is computed with the old inverse. It needs the new one."
        ),
        "only_when_rewarded": Mistake(
            answer=only_when_rewarded,
            hint="nothing is learned from a reward of 0. That an arm paid nothing is what makes "
            "its estimate fall.",
        ),
        "x_in_place_of_u": Mistake(
            answer=x_in_place_of_u,
            hint="x stands where A⁻¹x belongs: this is right only while A is the identity.",
        ),
    },
)
