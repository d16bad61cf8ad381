"""121.2b: the three attention masks of stage 1."""

import torch

from dlcourse.exercises import Exercise, Mistake


def who_sees_whom(objective, num_queries, text_mask):
    """Return who may look at whom, bool (B, Q + T, Q + T): [b, i, j] is True if i may look at j.

    objective: "itc", "itm" or "itg". num_queries: Q, 0 or more; the queries come first.
    text_mask: bool (B, T), True for tokens, False for padding.
    """
    b, t = text_mask.shape
    may = torch.ones(num_queries + t, num_queries + t, dtype=torch.bool)
    if objective != "itm":
        may[:num_queries, num_queries:] = False  # the queries must not read the text
    if objective == "itc":
        may[num_queries:, :num_queries] = False
    if objective == "itg":
        may[num_queries:, num_queries:] = torch.ones(t, t, dtype=torch.bool).tril()
    real = torch.cat([torch.ones(b, num_queries, dtype=torch.bool), text_mask], dim=1)
    return may & real[:, None, :]


def cases(rng):
    """Any objective, a few queries, texts of unequal lengths."""
    b, q, t = (int(n) for n in rng.integers(1, 5, size=3))
    lengths = torch.from_numpy(rng.integers(1, t + 1, size=(b, 1)))
    return {
        "objective": ("itc", "itm", "itg")[int(rng.integers(3))],
        "num_queries": q,
        "text_mask": torch.arange(t) < lengths,
    }


def edges():
    """Each objective with padding, behind the text and before it; no queries; one token."""
    padded = torch.tensor([[True, True, True], [True, False, False]])
    made = {
        f"{objective}, two queries, padding": {
            "objective": objective,
            "num_queries": 2,
            "text_mask": padded,
        }
        for objective in ("itc", "itm", "itg")
    }
    made["padding before the text"] = {
        "objective": "itg",
        "num_queries": 1,
        "text_mask": padded.flip(1),
    }
    made["no queries"] = {"objective": "itg", "num_queries": 0, "text_mask": padded}
    made["one token"] = {"objective": "itg", "num_queries": 3, "text_mask": padded[:, :1]}
    return made


def listing_no_mask(objective, num_queries, text_mask):
    return who_sees_whom("itm", num_queries, torch.ones_like(text_mask))


def padding_is_seen(objective, num_queries, text_mask):
    return who_sees_whom(objective, num_queries, torch.ones_like(text_mask))


def queries_read_the_answer(objective, num_queries, text_mask):
    may = who_sees_whom(objective, num_queries, text_mask)
    if objective == "itg":
        may[:, :num_queries, num_queries:] = text_mask[:, None]
    return may


def transposed(objective, num_queries, text_mask):
    return who_sees_whom(objective, num_queries, text_mask).transpose(1, 2)


def causal_over_all(objective, num_queries, text_mask):
    may = who_sees_whom(objective, num_queries, text_mask)
    return may.tril() if objective == "itg" else may


def strictly_before(objective, num_queries, text_mask):
    may = who_sees_whom(objective, num_queries, text_mask)
    if objective == "itg":
        t = text_mask.shape[1]
        may[:, num_queries:, num_queries:] &= torch.ones(t, t, dtype=torch.bool).tril(-1)
    return may


def text_blind_in_itg(objective, num_queries, text_mask):
    may = who_sees_whom(objective, num_queries, text_mask)
    if objective == "itg":
        may[:, num_queries:, :num_queries] = False
    return may


EXERCISE = Exercise(
    key="121.2b.attention-masks",
    title="Who may look at whom",
    difficulty="implement",
    statement=r"""
The self-attention of the Q-Former runs over $Q$ queries and then $T$ text tokens. Write its mask:

- `"itc"`: queries look at queries, tokens at tokens.
- `"itm"`: all look at all.
- `"itg"`: queries look at queries; a token looks at all queries, at itself, and at the tokens
  before it.

Whatever the objective, nobody looks at padding. (Padding itself may look: its output is not used.)
Row $i$, column $j$ is `True` where $i$ may look at $j$.
""",
    imports="import torch",
    reference=who_sees_whom,
    cases=cases,
    edges=edges,
    hints=[
        "Think of four blocks: query–query, query–text, text–query, text–text.",
        "Only two blocks ever become False as a whole, and only one becomes a triangle.",
        "Padding closes columns, not rows: combine with (B, 1, Q + T).",
    ],
    mistakes={
        "listing_no_mask": Mistake(
            answer=listing_no_mask,
            hint="everything is open, as in the listing, which has no masks: in ITG the text "
            "could be "
            "copied from itself.",
        ),
        "padding_is_seen": Mistake(
            answer=padding_is_seen,
            hint="padding is looked at: then a text's output depends on the length of its "
            "neighbours.",
        ),
        "queries_read_the_answer": Mistake(
            answer=queries_read_the_answer,
            hint="in ITG the queries see the text. They could hand it to the tokens, which would "
            "then "
            "need no picture.",
        ),
        "transposed": Mistake(
            answer=transposed,
            hint="rows look and columns are looked at; here it is the other way round.",
        ),
        "causal_over_all": Mistake(
            answer=causal_over_all,
            hint="the triangle was laid over the queries too. They have no order: all see all.",
        ),
        "strictly_before": Mistake(
            answer=strictly_before,
            hint="in ITG a token does not see itself. It may: what it predicts is the next one.",
        ),
        "text_blind_in_itg": Mistake(
            answer=text_blind_in_itg,
            hint="in ITG the text can't see the queries, so it would be written without the "
            "picture.",
        ),
    },
)
