"""121.1a: what is known of the pairs when nobody knows the times."""

import math

import torch

from dlcourse.exercises import Exercise, Mistake


def chance_of_pairs(sounds, pictures):
    """Return the probability of each pair, a float64 tensor (4, 4): sound by picture.

    sounds, pictures: two lists of the same length, 1 to 5, of kinds 0 … 3. All
    ways to match the sounds with the pictures one to one are equally likely.
    """
    n = len(sounds)
    chance = torch.zeros(4, 4, dtype=torch.float64)
    for s in range(4):
        for p in range(4):
            a, b = sounds.count(s), pictures.count(p)
            # None of the a sounds gets one of the b pictures: choose a of the n − b others.
            chance[s, p] = 1 - math.comb(n - b, a) / math.comb(n, a)
    return chance


def cases(rng):
    """One to five sounds and as many pictures, drawn with repetition."""
    n = int(rng.integers(1, 6))
    return {
        "sounds": [int(k) for k in rng.integers(0, 4, n)],
        "pictures": [int(k) for k in rng.integers(0, 4, n)],
    }


def edges():
    """One event; all alike; a sound twice; both twice, of three and of four; all different."""
    return {
        "one event": {"sounds": [2], "pictures": [1]},
        "three alike": {"sounds": [1, 1, 1], "pictures": [3, 3, 3]},
        "a sound twice": {"sounds": [0, 0, 3], "pictures": [1, 2, 3]},
        "both twice": {"sounds": [0, 0, 3], "pictures": [2, 2, 3]},
        "both twice, of four": {"sounds": [0, 0, 3, 1], "pictures": [2, 2, 3, 1]},
        "all different": {"sounds": [0, 1, 2], "pictures": [1, 2, 3]},
    }


def listing(sounds, pictures):
    """What the document's model could at best know with the times lost: each set by itself."""
    heard = torch.tensor([float(s in sounds) for s in range(4)], dtype=torch.float64)
    seen = torch.tensor([float(p in pictures) for p in range(4)], dtype=torch.float64)
    return heard[:, None] * seen


def share_of_matches(sounds, pictures):
    n = len(sounds)
    a = torch.tensor([sounds.count(k) for k in range(4)], dtype=torch.float64)
    b = torch.tensor([pictures.count(k) for k in range(4)], dtype=torch.float64)
    return a[:, None] * b / n**2


def independent(sounds, pictures):
    n = len(sounds)
    a = torch.tensor([sounds.count(k) for k in range(4)], dtype=torch.float64)
    b = torch.tensor([pictures.count(k) for k in range(4)], dtype=torch.float64)
    return 1 - (1 - b / n)[None] ** a[:, None]


def in_order(sounds, pictures):
    chance = torch.zeros(4, 4, dtype=torch.float64)
    for s, p in zip(sounds, pictures, strict=True):
        chance[s, p] = 1
    return chance


def transposed(sounds, pictures):
    return chance_of_pairs(pictures, sounds)


def expected_number(sounds, pictures):
    n = len(sounds)
    a = torch.tensor([sounds.count(k) for k in range(4)], dtype=torch.float64)
    b = torch.tensor([pictures.count(k) for k in range(4)], dtype=torch.float64)
    return a[:, None] * b / n


EXERCISE = Exercise(
    key="121.1a.chance-of-pair",
    title="A ceiling without binding",
    difficulty="extend",
    statement=r"""
A model hears every sound and sees every picture of a clip without an error, but does not know when.
All ways to match the $n$ sounds with the $n$ pictures, one to one, are then equally likely. With
which probability does the clip contain "sound $s$ with picture $p$" at least once?

Return all 16 probabilities. They are the best scores that such a model can give, and so the line
that a model has to pass before one may say that it uses the times.
""",
    imports="import math\n\nimport torch",
    reference=chance_of_pairs,
    cases=cases,
    edges=edges,
    hints=[
        "Take the opposite: with which probability does no s meet a p?",
        "The a sounds of kind s take a random a of the n pictures. How many choices avoid the b "
        "pictures of kind p?",
        "1 - comb(n - b, a) / comb(n, a); math.comb is 0 where a > n - b.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="every pair of a heard sound and a seen picture gets 1. Most do not occur.",
        ),
        "share_of_matches": Mistake(
            answer=share_of_matches,
            hint="that is the share of all n² combinations. A matching has n of them, and the "
            "question is for at least one.",
        ),
        "independent": Mistake(
            answer=independent,
            hint="the pictures are drawn with replacement. Each goes to one sound only.",
        ),
        "in_order": Mistake(
            answer=in_order,
            hint="the lists are matched in their order. The order is what nobody knows.",
        ),
        "transposed": Mistake(
            answer=transposed, hint="rows and columns are exchanged: sound by picture."
        ),
        "expected_number": Mistake(
            answer=expected_number,
            hint="that is the expected number of such pairs. Asked is the probability of at least "
            "one: they differ where a kind occurs twice.",
        ),
    },
)
