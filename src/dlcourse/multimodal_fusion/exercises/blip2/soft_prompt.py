"""121.2b: the queries as a prefix of the language model's input."""

import torch

from dlcourse.exercises import Exercise, Mistake


def prefix_inputs(queries, weight, bias, embeddings, text_mask, ids):
    """Return embeddings (B, Q + T, D), attention mask int64 (B, Q + T), labels int64 (B, Q + T).

    queries: (B, Q, E), the Q-Former's output. weight: (D, E), bias: (D,), of the projection.
    embeddings: (B, T, D), of the text's tokens. text_mask: int64 (B, T), 0 for padding.
    ids: int64 (B, T), the tokens.
    """
    prompt = queries @ weight.T + bias  # (B, Q, D)
    b, q, _ = prompt.shape
    mask = torch.cat([torch.ones(b, q, dtype=torch.long), text_mask], dim=1)
    labels = ids.masked_fill(text_mask == 0, -100)
    labels = torch.cat([torch.full((b, q), -100), labels], dim=1)
    return torch.cat([prompt, embeddings], dim=1), mask, labels


def cases(rng):
    b, q, t, d, e = (int(n) for n in rng.integers(1, 5, size=5))
    lengths = torch.from_numpy(rng.integers(1, t + 1, size=(b, 1)))

    def normal(*shape):
        return torch.from_numpy(rng.standard_normal(shape))

    return {
        "queries": normal(b, q, e),
        "weight": normal(d, e),
        "bias": normal(d),
        "embeddings": normal(b, t, d),
        "text_mask": (torch.arange(t) < lengths).long(),
        "ids": torch.from_numpy(rng.integers(0, 9, size=(b, t))),
    }


def edges():
    """One query, one token, padding behind the text and before it, widths that are equal."""
    generator = torch.Generator().manual_seed(0)

    def made(q, t, d, e):
        def draw(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        mask = torch.ones(2, t, dtype=torch.long)
        mask[1, 1:] = 0
        return {
            "queries": draw(2, q, e),
            "weight": draw(d, e),
            "bias": draw(d),
            "embeddings": draw(2, t, d),
            "text_mask": mask,
            "ids": torch.arange(2 * t).view(2, t),
        }

    before = made(2, 3, 2, 2)
    return {
        "padding before the text": {**before, "text_mask": before["text_mask"].flip(1)},
        "one query": made(1, 3, 4, 2),
        "one token": made(3, 1, 2, 4),
        "equal widths": made(2, 2, 3, 3),
        "more padding than text": made(2, 4, 2, 3),
    }


def behind_the_text(queries, weight, bias, embeddings, text_mask, ids):
    x, mask, labels = prefix_inputs(queries, weight, bias, embeddings, text_mask, ids)
    q = queries.shape[1]
    return x.roll(-q, 1), mask.roll(-q, 1), labels.roll(-q, 1)


def listing_text_alone(queries, weight, bias, embeddings, text_mask, ids):
    return embeddings, text_mask, ids.masked_fill(text_mask == 0, -100)


def labels_on_the_prompt(queries, weight, bias, embeddings, text_mask, ids):
    x, mask, labels = prefix_inputs(queries, weight, bias, embeddings, text_mask, ids)
    return x, mask, labels.where(torch.arange(labels.shape[1]) >= queries.shape[1], 0)


def padding_is_learned(queries, weight, bias, embeddings, text_mask, ids):
    x, mask, _ = prefix_inputs(queries, weight, bias, embeddings, text_mask, ids)
    none = torch.full(queries.shape[:2], -100)
    return x, mask, torch.cat([none, ids], 1)


def labels_shifted(queries, weight, bias, embeddings, text_mask, ids):
    x, mask, labels = prefix_inputs(queries, weight, bias, embeddings, text_mask, ids)
    return x, mask, labels.roll(-1, 1)


def prompt_is_masked(queries, weight, bias, embeddings, text_mask, ids):
    x, mask, labels = prefix_inputs(queries, weight, bias, embeddings, text_mask, ids)
    return x, mask.where(torch.arange(mask.shape[1]) >= queries.shape[1], 0), labels


def no_bias(queries, weight, bias, embeddings, text_mask, ids):
    return prefix_inputs(queries, weight, 0 * bias, embeddings, text_mask, ids)


EXERCISE = Exercise(
    key="121.2b.soft-prompt",
    title="A prompt that nobody can read",
    difficulty="implement",
    statement=r"""
A decoder-only language model of `transformers` takes `inputs_embeds`, `attention_mask` and
`labels`. Build all three for stage 2: the queries, projected by $W q + b$ to the model's width,
come *before* the text's embeddings. All of the prompt is attended to. The loss leaves out what has
the label −100: the prompt and the padding. (The model itself shifts labels by one place; do not shift.)
""",
    imports="import torch",
    reference=prefix_inputs,
    cases=cases,
    edges=edges,
    differentiable=("queries", "weight", "bias"),
    hints=[
        "All three results have Q + T columns.",
        "Where does text_mask say that a label must become −100?",
    ],
    mistakes={
        "listing_text_alone": Mistake(
            answer=listing_text_alone,
            hint="the queries are not in the input, as in the listing: the model never sees the "
            "picture.",
        ),
        "behind_the_text": Mistake(
            answer=behind_the_text,
            hint="the prompt stands behind the text. A causal model looks back only: no word "
            "would see "
            "the picture.",
        ),
        "labels_on_the_prompt": Mistake(
            answer=labels_on_the_prompt,
            hint="the prompt has labels, so the model is asked to predict words where there are "
            "none.",
        ),
        "padding_is_learned": Mistake(
            answer=padding_is_learned, hint="padding has labels: the model would learn to write it."
        ),
        "labels_shifted": Mistake(
            answer=labels_shifted,
            hint="the labels are shifted by one place. The model does that itself.",
        ),
        "prompt_is_masked": Mistake(
            answer=prompt_is_masked, hint="the attention mask hides the prompt from the text."
        ),
        "no_bias": Mistake(answer=no_bias, hint="the projection has a bias too."),
    },
)
