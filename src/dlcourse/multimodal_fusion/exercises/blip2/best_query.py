"""121.2b: the similarity of a picture with many vectors and a text with one."""

import torch
import torch.nn.functional as F

from dlcourse.exercises import Exercise, Mistake


def best_query_loss(queries, text, temperature):
    """Return the image-text contrastive loss of a batch, a scalar tensor.

    queries: (B, Q, E), float64; Q vectors of each picture, not normalised.
    text: (B, E), float64; row i belongs to picture i, not normalised.
    temperature: positive.
    """
    q, t = F.normalize(queries, dim=-1), F.normalize(text, dim=-1)
    similarity = torch.einsum("bqe,ce->bcq", q, t).amax(-1)  # (pictures, texts)
    logits = similarity / temperature
    right = torch.arange(len(text))
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def cases(rng):
    b, q, e = (int(n) for n in rng.integers(2, 6, size=3))
    text = torch.from_numpy(rng.standard_normal((b, e)))
    noise = torch.from_numpy(rng.standard_normal((b, q, e)))
    return {
        "queries": 2 * noise + text[:, None],
        "text": text * float(rng.uniform(0.3, 3)),
        "temperature": float(rng.uniform(0.05, 1)),
    }


def edges():
    """One pair; one query; queries of unequal lengths; as many queries as pictures."""
    generator = torch.Generator().manual_seed(3)
    queries = torch.randn(3, 3, 4, generator=generator, dtype=torch.float64)
    text = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    lengths = torch.tensor([10.0, 0.1, 1.0], dtype=torch.float64)[None, :, None]
    return {
        "one pair": {"queries": queries[:1], "text": text[:1], "temperature": 0.5},
        "one query": {"queries": queries[:, :1], "text": text, "temperature": 0.2},
        "as many queries as pictures": {"queries": queries, "text": text, "temperature": 0.2},
        "unequal lengths": {"queries": queries * lengths, "text": text, "temperature": 0.1},
    }


def _loss(similarity, temperature):
    right = torch.arange(len(similarity))
    logits = similarity / temperature
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def _all(queries, text):
    return torch.einsum("bqe,ce->bcq", F.normalize(queries, dim=-1), F.normalize(text, dim=-1))


def mean_query(queries, text, temperature):
    return _loss(_all(queries, text).mean(-1), temperature)


def listing_equal_queries(queries, text, temperature):
    return _loss(_all(queries, text)[..., 0], temperature)


def mean_before_normalising(queries, text, temperature):
    q, t = F.normalize(queries.mean(1), dim=-1), F.normalize(text, dim=-1)
    return _loss(q @ t.T, temperature)


def largest_dot_product(queries, text, temperature):
    t = F.normalize(text, dim=-1)
    return _loss(torch.einsum("bqe,ce->bcq", queries, t).amax(-1), temperature)


def best_query_of_the_right_text(queries, text, temperature):
    every = _all(queries, text)
    own = every[torch.arange(len(text)), torch.arange(len(text))].argmax(-1)  # (B,)
    return _loss(every[torch.arange(len(text)), :, own], temperature)


def one_direction(queries, text, temperature):
    logits = _all(queries, text).amax(-1) / temperature
    return F.cross_entropy(logits, torch.arange(len(text)))


EXERCISE = Exercise(
    key="121.2b.best-query",
    title="A picture with many vectors",
    difficulty="implement",
    statement=r"""
In ITC a picture has $Q$ vectors $q_1, \dots, q_Q$ and a text one, $t$. With all of them divided by
their lengths, their similarity is that of the query that fits best,

$$ s(\text{picture}, \text{text}) = \max_k\, q_k^\top t . $$

Return CLIP's loss of the batch with these similarities: cross-entropy of $s / \tau$ over the texts
for each picture, and over the pictures for each text, and the mean of both. Gradients must flow back.
""",
    imports="import torch\nimport torch.nn.functional as F",
    reference=best_query_loss,
    cases=cases,
    edges=edges,
    differentiable=("queries", "text"),
    hints=[
        "First all similarities, (pictures, texts, queries); then one of the three dimensions "
        "goes.",
        "The best query is another one for each text, also for the wrong ones.",
        "The right text of picture i is text i: cross_entropy with arange(B), on logits and "
        "logits.T.",
    ],
    mistakes={
        "listing_equal_queries": Mistake(
            answer=listing_equal_queries,
            hint="only the first query is compared. That is enough where all queries are equal, "
            "as in "
            "the listing, where they start as zeros; here they differ.",
        ),
        "mean_query": Mistake(
            answer=mean_query,
            hint="the similarities of the queries are averaged. The paper takes the largest: one "
            "query may do the job and leave the others free.",
        ),
        "mean_before_normalising": Mistake(
            answer=mean_before_normalising,
            hint="the queries are averaged into one vector before they are compared.",
        ),
        "largest_dot_product": Mistake(
            answer=largest_dot_product,
            hint="the queries are not divided by their lengths: the longest would win.",
        ),
        "best_query_of_the_right_text": Mistake(
            answer=best_query_of_the_right_text,
            hint="the query is chosen by the right text and used for the wrong ones too. The "
            "maximum "
            "is taken for each pair anew.",
        ),
        "one_direction": Mistake(
            answer=one_direction,
            hint="only pictures choose among texts. Texts choose among pictures as well.",
        ),
    },
)
