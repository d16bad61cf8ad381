"""123.1: the mean target of a category, without the row's own target."""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def others_mean(categories, targets, m):
    """Return each row's shrunken mean target of its category's other rows, (n,).

    categories: int (n,), n ≥ 2; targets: (n,); m > 0: how many rows the mean of all other rows
    counts for.
    """
    n = len(targets)
    same = categories[:, None] == categories[None, :]
    count = same.sum(1) - 1
    total = same @ targets - targets
    prior = (targets.sum() - targets) / (n - 1)
    return (total + m * prior) / (count + m)


def cases(rng):
    """A few categories, and targets of 0 and 1 or real ones."""
    n = int(rng.integers(4, 14))
    y = rng.random(n) if rng.random() < 0.5 else (rng.random(n) < 0.4).astype(float)
    return {
        "categories": rng.integers(0, 4, n) * 3,
        "targets": y,
        "m": float(rng.uniform(0.5, 5)),
    }


def edges():
    """Two rows; every row alone in its category; one category; targets of 0."""
    y = np.array([1.0, 0.0, 0.0, 1.0])
    return {
        "two rows": {"categories": np.array([1, 1]), "targets": y[:2], "m": 1.0},
        "each row alone": {"categories": np.array([7, 3, 5, 1]), "targets": y, "m": 2.0},
        "one category": {"categories": np.zeros(4, dtype=int), "targets": y, "m": 2.0},
        "targets of 0": {"categories": np.array([0, 0, 1, 1]), "targets": 0 * y, "m": 2.0},
        "usual": {"categories": np.array([0, 0, 0, 1]), "targets": y, "m": 1.0},
    }


def listing_codes(categories, targets, m):
    """The document's LabelEncoder: the category's number in sorted order."""
    return np.unique(categories, return_inverse=True)[1].astype(float)


def own_target(categories, targets, m):
    same = categories[:, None] == categories[None, :]
    return (same @ targets + m * targets.mean()) / (same.sum(1) + m)


def own_target_in_the_prior(categories, targets, m):
    same = categories[:, None] == categories[None, :]
    return (same @ targets - targets + m * targets.mean()) / (same.sum(1) - 1 + m)


def own_row_counted(categories, targets, m):
    same = categories[:, None] == categories[None, :]
    prior = (targets.sum() - targets) / (len(targets) - 1)
    return (same @ targets - targets + m * prior) / (same.sum(1) + m)


def not_shrunken(categories, targets, m):
    same = categories[:, None] == categories[None, :]
    count = same.sum(1) - 1
    prior = (targets.sum() - targets) / (len(targets) - 1)
    return np.where(count > 0, (same @ targets - targets) / np.maximum(count, 1), prior)


EXERCISE = Exercise(
    key="123.1.others-mean",
    title="A mean of the target without one's own",
    difficulty="implement",
    statement=r"""
Encode a category by the mean target of its *other* rows, shrunk towards the mean $\mu_{-i}$ of all
other rows:

$$
e_i = \frac{\sum_{j \ne i,\; c_j = c_i} y_j + m\, \mu_{-i}}{\#\{j \ne i : c_j = c_i\} + m} .
$$

A row's own target must enter nowhere. A category with one row gets $\mu_{-i}$.

(To leave only the row out is not enough to train on. Within a category the value is lower exactly
where $y_i = 1$, and a model that can ask for a value's neighbours, such as a tree, reads the target
back from that. Means over *other folds*, as on the page, leave far less to read.)
""",
    imports="import numpy as np",
    reference=others_mean,
    cases=cases,
    edges=edges,
    hints=[
        "Sum the targets of each category, then take each row's own target out of its sum.",
        "The count loses one too, and so does the mean of all.",
        "(S_c − y + m · (S − y)/(n − 1)) / (n_c − 1 + m).",
    ],
    mistakes={
        "listing_codes": Mistake(
            answer=listing_codes,
            hint="that is a number in the order of the names, as the document's label encoder "
            "gives. It says nothing of the target.",
        ),
        "own_target": Mistake(
            answer=own_target, hint="the row's own target is in its feature: that is the leak."
        ),
        "own_target_in_the_prior": Mistake(
            answer=own_target_in_the_prior,
            hint="the mean of all still holds the row's own target.",
        ),
        "own_row_counted": Mistake(
            answer=own_row_counted, hint="the row's target is left out, and it is still counted."
        ),
        "not_shrunken": Mistake(
            answer=not_shrunken, hint="nothing is shrunk: m must weigh in for each category."
        ),
    },
)
