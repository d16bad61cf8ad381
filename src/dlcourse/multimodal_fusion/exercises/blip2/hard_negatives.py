"""121.2b: how likely each text is to be drawn as a picture's negative."""

import torch
import torch.nn.functional as F

from dlcourse.exercises import Exercise, Mistake


def negative_shares(logits, same):
    """Return the probabilities with which a negative is drawn for each row, (B, B).

    logits: (B, B), float64; similarity of picture i and text j, divided by the temperature.
    same: bool (B, B); True where text j is right for picture i. Each row has a False.
    """
    return F.softmax(logits.masked_fill(same, -torch.inf), dim=1)


def cases(rng):
    b = int(rng.integers(2, 6))
    same = torch.eye(b, dtype=torch.bool)
    if b > 2 and rng.random() < 0.5:
        same[0, 1] = same[1, 0] = True
    return {"logits": torch.from_numpy(3 * rng.standard_normal((b, b))), "same": same}


def edges():
    """Two pairs; equal similarities; the same text twice; large logits; a right one far ahead."""
    eye = torch.eye(3, dtype=torch.bool)
    twice = eye.clone()
    twice[0, 1] = twice[1, 0] = True
    logits = torch.tensor([[4.0, 3, 0], [3, 5, 1], [0, 2, 4]], dtype=torch.float64)
    return {
        "two pairs": {"logits": logits[:2, :2], "same": eye[:2, :2]},
        "equal similarities": {"logits": torch.zeros_like(logits), "same": eye},
        "the same text twice": {"logits": logits, "same": twice},
        "large logits": {"logits": logits + 800, "same": eye},
        "the right one is far ahead": {"logits": logits + 1000 * eye - 500, "same": eye},
    }


def listing_no_negatives(logits, same):
    return torch.zeros_like(logits)


def the_right_one_too(logits, same):
    return F.softmax(logits, dim=1)


def all_alike(logits, same):
    wrong = (~same).to(logits)
    return wrong / wrong.sum(1, keepdim=True)


def easy_ones(logits, same):
    return negative_shares(-logits, same)


def zero_before_the_softmax(logits, same):
    return F.softmax(logits.masked_fill(same, 0.0), dim=1)


def diagonal_alone(logits, same):
    return negative_shares(logits, torch.eye(len(logits), dtype=torch.bool))


def does_not_sum_to_one(logits, same):
    return F.softmax(logits, dim=1).masked_fill(same, 0.0)


def over_pictures(logits, same):
    return negative_shares(logits.T, same.T).T


def overflows(logits, same):
    shares = logits.exp().masked_fill(same, 0.0)
    return shares / shares.sum(1, keepdim=True)


def zero_after_the_softmax(logits, same):
    shares = F.softmax(logits, dim=1).masked_fill(same, 0.0)
    return shares / shares.sum(1, keepdim=True)


EXERCISE = Exercise(
    key="121.2b.hard-negatives",
    title="Negatives that are hard to tell",
    difficulty="implement",
    statement=r"""
ITM asks whether a picture and a text belong together, and a random wrong text is too easy. So the
negative of picture $i$ is drawn with a probability that grows with its similarity,

$$
p_{ij} = \frac{e^{s_{ij}}}{\sum_{k \text{ wrong for } i} e^{s_{ik}}} \quad (j \text{ wrong for } i),
\qquad p_{ij} = 0 \quad (j \text{ right for } i).
$$

Return all $p_{ij}$, each row with the sum 1, also for logits in the hundreds and where the right
text is far ahead. `same` says what is right: the diagonal, and other pairs with the same text.
""",
    imports="import torch\nimport torch.nn.functional as F",
    reference=negative_shares,
    cases=cases,
    edges=edges,
    hints=[
        "A softmax over the wrong ones alone: what must be put where a pair is right?",
        "−inf before the softmax: the exponential makes it 0, and the rest sums to 1.",
    ],
    mistakes={
        "listing_no_negatives": Mistake(
            answer=listing_no_negatives,
            hint="no negative is ever drawn, as in the listing, which has no first stage.",
        ),
        "the_right_one_too": Mistake(
            answer=the_right_one_too,
            hint="the right text is drawn as a negative, most often of all, and the model is "
            "told that "
            "it does not belong.",
        ),
        "all_alike": Mistake(
            answer=all_alike, hint="all wrong texts are equally likely: no negative is hard."
        ),
        "easy_ones": Mistake(answer=easy_ones, hint="the least similar text is drawn most often."),
        "zero_before_the_softmax": Mistake(
            answer=zero_before_the_softmax,
            hint="a logit of 0 has weight exp(0) = 1: the right text can still be drawn. Use −inf.",
        ),
        "diagonal_alone": Mistake(
            answer=diagonal_alone,
            hint="only the diagonal is left out. Two pictures may have the same text: use `same`.",
        ),
        "does_not_sum_to_one": Mistake(
            answer=does_not_sum_to_one, hint="the rows don't sum to 1: divide by what is left."
        ),
        "over_pictures": Mistake(
            answer=over_pictures,
            hint="the shares are taken over pictures, down the columns. Row i chooses among texts.",
        ),
        "overflows": Mistake(
            answer=overflows,
            hint="the exponential of a large logit overflows. `F.softmax` subtracts the largest one "
            "first.",
        ),
        "zero_after_the_softmax": Mistake(
            answer=zero_after_the_softmax,
            hint="the right text takes part in the softmax and is taken out afterwards. Where it is "
            "far ahead nothing is left for the others: 0 / 0. Take it out before.",
        ),
    },
)
