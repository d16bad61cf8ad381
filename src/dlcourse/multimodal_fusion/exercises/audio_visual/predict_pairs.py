"""121.1a: predict what a bottleneck saves."""

from dlcourse.exercises import Mistake, Prediction


def joint_over_bottleneck(audio=400, video=1568, shared=4):
    """Return how many times more scores a joint layer computes than a bottleneck layer."""
    joint = (audio + video) ** 2
    bottleneck = (audio + shared) ** 2 + (video + shared) ** 2
    return round(joint / bottleneck, 2)


EXERCISE = Prediction(
    key="121.1a.predict-pairs",
    title="What does a bottleneck save?",
    statement=r"""
A clip has 400 sound tokens and 1,568 picture tokens (8 frames of 14 × 14 patches). One layer of
joint attention computes a score for each pair of its tokens. A layer with a bottleneck has two
attentions, one for each modality, over its own tokens and 4 shared ones.

How many times more scores does the joint layer compute? Write your prediction down before you run
anything; within 3 % counts as right.
""",
    experiment=joint_over_bottleneck,
    rtol=0.03,
    discussion=r"""
The joint layer has $1968^2 = 3{,}873{,}024$ scores, the bottleneck layer
$404^2 + 1572^2 = 2{,}634{,}400$: a factor of 1.47. The picture's own pairs remain, and they are
most of it. With equal lengths the factor would be almost 2, the largest that two streams can give.
What a bottleneck saves is a constant factor; its main point is that it makes the streams condense
what they say to each other.
""",
    hints=[
        "Attention over n tokens has n² scores.",
        "Joint: (400 + 1568)². Bottleneck: two squares, one for each modality.",
        "The shared tokens belong to both attentions: (400 + 4)² + (1568 + 4)².",
    ],
    mistakes={
        "listing": Mistake(
            answer=6.18,
            hint="one direction of attention is compared, sound over pictures, as in the "
            "document's listing. A joint layer and a bottleneck layer both update all tokens.",
        ),
        "twice": Mistake(
            answer=2.0,
            hint="you take the streams to be equally long. Square 400 and 1,568 separately.",
        ),
        "only_shared": Mistake(
            answer=492.0,
            hint="you count only the pairs with a shared token. Each stream still attends over all "
            "of its own tokens.",
        ),
        "linear": Mistake(
            answer=1.0,
            hint="you count tokens. Attention computes a score for each pair of them.",
        ),
    },
)
