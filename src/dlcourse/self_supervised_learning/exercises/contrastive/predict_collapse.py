"""120.1a: predict the loss of an encoder that gives every image the same answer."""

import torch
import torch.nn.functional as F

from dlcourse.exercises import Mistake, Prediction


def loss_of_a_collapsed_encoder(images=8, temperature=0.5):
    """NT-Xent where all views of all images are one and the same vector."""
    views = 2 * images
    z = F.normalize(torch.ones(views, 16, dtype=torch.float64), dim=1)
    logits = z @ z.T / temperature
    logits.fill_diagonal_(-torch.inf)  # no view is its own partner
    partner = torch.arange(views).roll(images)
    return F.cross_entropy(logits, partner).item()


EXERCISE = Prediction(
    key="120.1a.predict-collapse",
    title="The loss of knowing nothing",
    statement=r"""
An encoder has collapsed: it maps every view of every image to the same vector. The batch has
$B = 8$ images, two views each, and the temperature is $\tau = 0.5$. What is NT-Xent, in nats?

Write your prediction down before you run anything; within 1 % counts as right.
""",
    imports="import torch\nimport torch.nn.functional as F",
    experiment=loss_of_a_collapsed_encoder,
    rtol=0.01,
    discussion=r"""
All similarities are 1, so the softmax gives each of the $2B - 1 = 15$ other views the same share:
$\log 15 \approx 2.70805$. The temperature cancels. It is the loss of guessing: a run whose loss
starts at $\log(2B-1)$ and stays there has learned nothing, or has collapsed. Because of the
negatives, collapse is no way to a small loss here. A loss that only pulls partners together would
be 0, its minimum.
""",
    hints=[
        "All similarities are equal. What does a softmax make of equal numbers?",
        "How many views can an anchor be asked to choose from? Not itself.",
        "There are 16 views, so 15 others, and each gets the same probability.",
    ],
    mistakes={
        "listing": Mistake(
            answer=0.0,
            hint="partners agree, so all is thought to be well. A loss without negatives sees it so: "
            "there, collapse is the best answer.",
        ),
        "itself_too": Mistake(
            answer=2.7726,
            hint="the anchor is counted among its own candidates: log 16. It is left out.",
        ),
        "one_view_a_image": Mistake(
            answer=2.0794,
            hint="only one view of each image is counted: log 8. Both views of every other image "
            "are negatives.",
        ),
        "negatives_alone": Mistake(
            answer=2.6391,
            hint="only the 14 negatives are counted. The partner stands in the sum as well.",
        ),
        "temperature": Mistake(
            answer=5.4161,
            hint="the result is divided by the temperature. It divides the similarities, and "
            "where these are all equal it cancels.",
        ),
    },
)
