"""121.1a: attention from one sequence to another, with padding."""

import math

import torch

from dlcourse.exercises import Exercise, Mistake


def read_across(q, k, v, padding):
    """Return what each query reads, (B, Tq, e): one head, scaled dot products.

    q: (B, Tq, d); k: (B, Tk, d); v: (B, Tk, e);
    padding: bool (B, Tk), True for keys that must not be seen; at least one is seen.
    """
    scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[2])  # (B, Tq, Tk)
    scores = scores.masked_fill(padding[:, None, :], -torch.inf)
    return scores.softmax(dim=2) @ v


def cases(rng):
    """Sequences of different lengths and widths; the last keys of some are padding."""
    b, tq, tk, d, e = (int(n) for n in rng.integers((2, 2, 3, 2, 2), (4, 6, 8, 7, 6)))
    seen = torch.from_numpy(rng.integers(1, tk + 1, (b, 1)))
    return {
        "q": torch.from_numpy(rng.standard_normal((b, tq, d))) * 1.5,
        "k": torch.from_numpy(rng.standard_normal((b, tk, d))),
        "v": torch.from_numpy(rng.standard_normal((b, tk, e))),
        "padding": torch.arange(tk) >= seen,
    }


def edges():
    """Equal sizes everywhere, one key, nothing hidden, hidden keys in front, large scores."""
    numbers = torch.arange(2 * 3 * 4, dtype=torch.float64)
    q, k, v = ((numbers * f).sin().view(2, 3, 4) for f in (1.0, 1.7, 2.9))
    some = torch.tensor([[False, False, True], [False, True, True]])
    usual = {"q": q, "k": k, "v": v, "padding": some}
    cube = (torch.arange(27, dtype=torch.float64) * 1.3).cos().view(3, 3, 3)
    return {
        "nothing is hidden": {**usual, "padding": some & False},
        "the first keys are hidden": {**usual, "padding": some.flip(1)},
        "one key": {**usual, "k": k[:, :1], "v": v[:, :1], "padding": some[:, :1]},
        "one query, one example": {
            "q": q[:1, :1], "k": k[:1], "v": v[:1], "padding": some[:1]
        },
        "batch, lengths and widths are equal": {
            "q": cube, "k": cube.flip(1), "v": cube.flip(2), "padding": torch.eye(3).bool()
        },
        "large scores": {**usual, "q": 3000 * q},
    }  # fmt: skip


def _with(q, k, v, padding, *, scale=None, mask=True):
    scores = q @ k.transpose(1, 2) / (math.sqrt(q.shape[2]) if scale is None else scale)
    return scores.masked_fill(padding[:, None, :], -torch.inf) if mask else scores


def listing(q, k, v, padding):
    """The document's call: batch and time exchanged, no mask."""
    q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    n = min(len(q), len(k))  # torch refuses other lengths; cut them so that this one runs
    out = (q[:n] @ k[:n].transpose(1, 2) / math.sqrt(q.shape[2])).softmax(2) @ v[:n]
    return out.transpose(0, 1)


def not_scaled(q, k, v, padding):
    return _with(q, k, v, padding, scale=1.0).softmax(2) @ v


def scaled_by_the_width(q, k, v, padding):
    return _with(q, k, v, padding, scale=q.shape[2]).softmax(2) @ v


def padding_is_seen(q, k, v, padding):
    return _with(q, k, v, padding, mask=False).softmax(2) @ v


def only_padding_is_seen(q, k, v, padding):
    hidden = ~padding | padding.all(1, keepdim=True)
    hidden = hidden & ~hidden.all(1, keepdim=True)
    return _with(q, k, v, hidden).softmax(2) @ v


def masked_after_the_softmax(q, k, v, padding):
    weights = _with(q, k, v, padding, mask=False).softmax(2)
    return weights.masked_fill(padding[:, None, :], 0.0) @ v


def zero_in_place_of_minus_infinity(q, k, v, padding):
    scores = _with(q, k, v, padding, mask=False).masked_fill(padding[:, None, :], 0.0)
    return scores.softmax(2) @ v


def softmax_over_the_queries(q, k, v, padding):
    scores = _with(q, k, v, padding, mask=False).softmax(1)
    return scores.masked_fill(padding[:, None, :], 0.0) @ v


EXERCISE = Exercise(
    key="121.1a.read-across",
    title="Read in another sequence",
    difficulty="implement",
    statement=r"""
The sound's tokens are the queries, the pictures' are keys and values. With one head of width $d$,

$$
o_i = \sum_j w_{ij}\, v_j , \qquad
w_{ij} = \frac{\exp(q_i \cdot k_j / \sqrt d)}{\sum_{j'} \exp(q_i \cdot k_{j'} / \sqrt d)} ,
$$

where both sums run over those $j$ that are no padding, also where scores are in the thousands. The batch comes first. The two sequences may
have different lengths, and values another width than keys.
""",
    imports="import math\n\nimport torch",
    reference=read_across,
    cases=cases,
    edges=edges,
    differentiable=("q", "k", "v"),
    hints=[
        "`q @ k.transpose(1, 2)` has the shape (B, Tq, Tk): one row of scores for each query.",
        "Padding is hidden before the softmax: a score of -inf becomes a weight of 0.",
        "The mask is (B, Tk): it needs an axis for the queries, `padding[:, None, :]`.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="the attention runs over the batch, as in the document's listing, which leaves "
            "out batch_first: what an example reads must be its own.",
        ),
        "not_scaled": Mistake(
            answer=not_scaled, hint="the scores are not divided by the root of the width."
        ),
        "scaled_by_the_width": Mistake(
            answer=scaled_by_the_width,
            hint="the scores are divided by the width d: take its root. A sum of d products of "
            "independent numbers has a deviation of √d.",
        ),
        "padding_is_seen": Mistake(
            answer=padding_is_seen, hint="the padding is not hidden: it gets weight like any key."
        ),
        "only_padding_is_seen": Mistake(
            answer=only_padding_is_seen,
            hint="the mask is turned round: True means padding, which must not be seen.",
        ),
        "masked_after_the_softmax": Mistake(
            answer=masked_after_the_softmax,
            hint="the mask is applied after the softmax: the weights that are left no longer sum "
            "to 1. Hide the scores before it.",
        ),
        "zero_in_place_of_minus_infinity": Mistake(
            answer=zero_in_place_of_minus_infinity,
            hint="hidden scores are set to 0, and exp(0) is 1: a hidden key still gets weight. "
            "Set them to minus infinity.",
        ),
        "softmax_over_the_queries": Mistake(
            answer=softmax_over_the_queries,
            hint="the softmax runs over the queries. For each query, the weights over the keys "
            "must sum to 1.",
        ),
    },
)
