"""120.2: predict what hiding three quarters saves, then count."""

from dlcourse.exercises import Mistake, Prediction


def times_fewer_operations(visible=49, patches=196):
    """Count the operations of all blocks, with everything visible and with a part of it."""

    def block(n, d):  # n tokens of width d, with an MLP of width 4 d
        return 24 * n * d**2 + 4 * n**2 * d

    def autoencoder(seen):  # and a class token on either side
        return 12 * block(1 + seen, 768) + 8 * block(1 + patches, 512)

    return round(autoencoder(patches) / autoencoder(visible), 2)


EXERCISE = Prediction(
    key="120.2.predict-speedup",
    title="What does hiding three quarters save?",
    statement=r"""
The paper's model for 224 × 224 pixels: 196 patches and a class token, an encoder of 12 blocks of
width 768 and a decoder of 8 blocks of width 512. A block takes $24 n D^2 + 4 n^2 D$ operations for
$n$ tokens of width $D$.

At the mask ratio 0.75 the encoder sees 49 patches. How many times fewer operations do all blocks,
encoder and decoder, take than if it saw all 196? Write your prediction down before you run
anything; within 1 % counts as right.
""",
    experiment=times_fewer_operations,
    rtol=0.01,
    discussion=r"""
The encoder alone becomes 4.06 times cheaper, a little more than 4, as its attention is quadratic.
But the decoder sees a sequence of full length whatever is hidden: with everything visible it takes
10.6 of 45.4 billion operations, with a quarter visible 10.6 of 19.1. So the whole becomes only
2.37 times cheaper, and more than half of the work is the decoder's. It pays to keep that narrow.
""",
    hints=[
        "Count encoder and decoder apart. Which of them does the mask ratio change?",
        "The encoder has 1 + 49 or 1 + 196 tokens; the decoder has 1 + 196 in both cases.",
        "The encoder takes 8.6 or 34.9 billion operations. What does the decoder add to both?",
    ],
    mistakes={
        "listing": Mistake(
            answer=4.07,
            hint="the decoder is left out, or thought to be as short as the encoder, as in the "
            "document's listing, which never gets as far as filling in its mask tokens.",
        ),
        "linear": Mistake(
            answer=4.0,
            hint="a quarter of the patches is taken for a quarter of the price. The decoder's part "
            "stays the same.",
        ),
        "hidden": Mistake(
            answer=1.245,
            hint="the encoder is given the hidden patches, 147, instead of the visible ones.",
        ),
        "upside_down": Mistake(
            answer=0.421,
            hint="the ratio is turned round: you were asked how many times fewer.",
        ),
        "ratio": Mistake(
            answer=4 / 3,
            hint="you divide by the mask ratio. It is the share that is hidden, not the share that "
            "is left.",
        ),
    },
)
