"""123.2c: predict how many requests fit into a cache."""

from dlcourse.exercises import Mistake, Prediction


def requests_in_a_gibibyte(layers=30, kv_heads=3, head=64, length=2048, size=2):
    """Return how many slots of keys and values fit into 2³⁰ bytes."""
    return 2**30 // (2 * layers * kv_heads * head * length * size)


EXERCISE = Prediction(
    key="123.2c.predict-cache",
    title="How many requests fit?",
    statement=r"""
A language model has 30 layers, 9 query heads and 3 heads of keys and values, of 64 numbers each. It keeps
keys and values in bfloat16 (2 bytes). A slot has room for 2,048 tokens.

How many slots fit into one gibibyte ($2^{30}$ bytes)? Write your prediction down before you run
anything; it must be the whole number.
""",
    imports="import numpy as np",
    experiment=requests_in_a_gibibyte,
    rtol=0.01,
    discussion=r"""
A token takes $2 \cdot 30 \cdot 3 \cdot 64 \cdot 2 = 23{,}040$ bytes: keys and values, layers, heads,
numbers, bytes. A slot takes 47.2 million, and 22 of them fit. The weights of this model take a quarter
of a gibibyte, so a batch of 22 needs four times as much for its cache as for its weights.
""",
    hints=[
        "Count one token first: keys and values, in each layer.",
        "Queries are not kept: only the 3 heads of keys and values count.",
        "2³⁰ / (2 · 30 · 3 · 64 · 2 · 2048), rounded down.",
    ],
    mistakes={
        "listing": Mistake(
            answer=7.0,
            hint="you count the 9 query heads. Queries are used once and not kept; the heads of keys "
            "and values are 3.",
        ),
        "keys_only": Mistake(answer=45.0, hint="values are kept too, not keys alone."),
        "one_layer": Mistake(answer=682.0, hint="each of the 30 layers has keys and values of its own."),
        "float32": Mistake(answer=11.0, hint="that is with 4 bytes a number; bfloat16 has 2."),
    },
)
