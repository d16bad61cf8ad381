"""121.2a: predict how low the loss can go when cosines are not multiplied."""

import torch
import torch.nn.functional as F

from dlcourse.exercises import Mistake, Prediction


def least_loss(batch=1024, scale=1.0):
    """CLIP's loss when every picture lies on its caption, and pairs are as far apart as can be."""
    corners = torch.eye(batch, dtype=torch.float64) - 1 / batch  # of a regular simplex
    corners = F.normalize(corners, dim=1)
    logits = scale * (corners @ corners.T)
    return float(F.cross_entropy(logits, torch.arange(batch)))


EXERCISE = Prediction(
    key="121.2a.predict-floor",
    title="What if the temperature is 1?",
    statement=r"""
A model is perfect: each picture lies exactly on its caption, and the 1,024 pairs of a batch are as
far from each other as they can be, with a cosine of $-1/1023$. The loss uses the cosines as they
are, multiplied by 1.

A model that knows nothing has a loss of $\ln 1024 \approx 6.93$ nats. What is the loss of the
perfect one? Write it down before you compute it; within 2 % counts as right.
""",
    imports="import torch\nimport torch.nn.functional as F",
    experiment=least_loss,
    rtol=0.02,
    discussion=r"""
Right pairs have the logit 1 and the others about 0, so the loss is
$\ln(1 + 1023\, e^{-1 - 1/1023}) \approx 5.93217$: a perfect model is 1 nat better than a guess. And no
caption can weigh more than $e^2$ times as much as another in the softmax: the loss pushes all wrong
ones almost alike, the confusing ones hardly more than the rest. At $1/\tau = 100$ the same features have the
loss $\ln(1 + 1023\, e^{-100.1})$, about $10^{-41}$. So cosines must be multiplied, and by how much
depends on the batch: CLIP learns it.
""",
    hints=[
        "A right pair has the logit 1, a wrong one -1/1023.",
        "Write the cross-entropy as ln(1 + 1023 · exp(wrong - right)).",
        "ln(1 + 1023/e) is nearly ln 1024 - 1.",
    ],
    mistakes={
        "listing": Mistake(
            answer=0.0006,
            hint="that is about what a fixed temperature of 0.07 would give: here it is 1.",
        ),
        "zero": Mistake(
            answer=0.0,
            hint="a softmax over cosines is never sure: they differ by 1 at most, or 2.",
        ),
        "guess": Mistake(
            answer=6.93,
            hint="that is a guess among 1,024. The right pair's logit is larger by 1.",
        ),
        "opposite": Mistake(
            answer=4.93,
            hint="you took -1 as the cosine of wrong pairs. Only two vectors can be opposite; "
            "1,024 reach -1/1023.",
        ),
        "one_wrong": Mistake(
            answer=0.3133,
            hint="that is ln(1 + 1/e), with a single wrong caption. There are 1,023 of them.",
        ),
    },
)
