"""122.2b: a model's value, corrected by the errors that it makes."""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def corrected_value(rewards, arms, propensities, target, model):
    """Return the doubly robust estimate of the target policy's mean reward, a float.

    rewards: (n,); arms: int (n,), the arms that were taken; propensities: (n,), their probability
    under the logging policy; target: (n, K), the target's probability of each arm;
    model: (n, K), the predicted reward of each arm.
    """
    rows = np.arange(len(arms))
    weight = target[rows, arms] / propensities
    value = (target * model).sum(1)
    return float(np.mean(value + weight * (rewards - model[rows, arms])))


def cases(rng):
    """Random policies over a few arms, and a model that is off."""
    n, k = (int(v) for v in rng.integers((5, 2), (12, 5)))
    logging = rng.dirichlet(np.ones(k), n) * 0.8 + 0.2 / k
    arms = np.array([rng.choice(k, p=p / p.sum()) for p in logging])
    return {
        "rewards": rng.random(n),
        "arms": arms,
        "propensities": logging[np.arange(n), arms],
        "target": rng.dirichlet(np.ones(k), n),
        "model": rng.random((n, k)),
    }


def edges():
    """One row; the logging policy itself; a model of zeros; a target that takes other arms."""
    usual = {
        "rewards": np.array([1.0, 0.0, 0.5]),
        "arms": np.array([0, 1, 1]),
        "propensities": np.array([0.5, 0.25, 0.75]),
        "target": np.array([[0.2, 0.8], [0.5, 0.5], [1.0, 0.0]]),
        "model": np.array([[0.6, 0.1], [0.3, 0.4], [0.9, 0.2]]),
    }
    other = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    return {
        "three rows": usual,
        "one row": {name: value[:1] for name, value in usual.items()},
        "a model of zeros": {**usual, "model": np.zeros((3, 2))},
        "a target that takes other arms": {**usual, "target": other},
        "as many arms as rows": {**usual, "rewards": usual["rewards"][:2], "arms": np.array([1, 0]),
            "propensities": usual["propensities"][:2], "target": usual["target"][:2],
            "model": usual["model"][:2]},
    }  # fmt: skip


def listing_replays(rewards, arms, propensities, target, model):
    """The document logs no propensity: what was logged is averaged as it is."""
    return float(np.mean(rewards))


def weights_alone(rewards, arms, propensities, target, model):
    rows = np.arange(len(arms))
    return float(np.mean(target[rows, arms] / propensities * rewards))


def model_alone(rewards, arms, propensities, target, model):
    return float(np.mean((target * model).sum(1)))


def model_of_the_taken_arm(rewards, arms, propensities, target, model):
    rows = np.arange(len(arms))
    q = model[rows, arms]
    return float(np.mean(q + target[rows, arms] / propensities * (rewards - q)))


def no_weight(rewards, arms, propensities, target, model):
    rows = np.arange(len(arms))
    return float(np.mean((target * model).sum(1) + rewards - model[rows, arms]))


def turned(rewards, arms, propensities, target, model):
    rows = np.arange(len(arms))
    w = target[rows, arms] / propensities
    return float(np.mean((target * model).sum(1) + w * (model[rows, arms] - rewards)))


EXERCISE = Exercise(
    key="122.2b.corrected-value",
    title="Correct a model by its errors",
    difficulty="implement",
    statement=r"""
You have the logs of one policy, and a model that predicts the reward of each arm in each row.
Estimate the mean reward of another policy by the doubly robust formula: the model's value of the
target policy, plus the model's errors on the arms that were taken, each with its importance weight.
""",
    imports="import numpy as np",
    reference=corrected_value,
    cases=cases,
    edges=edges,
    hints=[
        "First the model alone: in each row, the mean of its predictions under the target policy.",
        "The weight of a row is the target's probability of the arm that was taken, over its "
        "propensity.",
        "mean( Σ_a π(a) q(a) + w · (r − q(taken)) ).",
    ],
    mistakes={
        "listing_replays": Mistake(
            answer=listing_replays,
            hint="that is the mean reward of the policy that wrote the log. The document logs no "
            "propensities, so it can give nothing else.",
        ),
        "weights_alone": Mistake(
            answer=weights_alone, hint="that is IPS: the model is not used."
        ),
        "model_alone": Mistake(
            answer=model_alone, hint="that is the model's value. Its errors are not corrected."
        ),
        "model_of_the_taken_arm": Mistake(
            answer=model_of_the_taken_arm,
            hint="the first term takes the prediction of the arm that was taken. It is the mean "
            "over all arms, under the target policy.",
        ),
        "no_weight": Mistake(
            answer=no_weight, hint="the errors have no weight: they are those of the other policy."
        ),
        "turned": Mistake(
            answer=turned, hint="the error's sign is turned: reward minus prediction."
        ),
    },
)
