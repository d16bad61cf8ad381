"""120.1a: predict how the temperature shares out the push among the negatives."""

import torch

from dlcourse.exercises import Mistake, Prediction


def push_on_the_near_over_the_far(temperature=0.1):
    """Ratio of the gradients of NT-Xent for two negatives' similarities."""
    partner = torch.tensor(0.8, dtype=torch.float64)
    negatives = torch.tensor([0.9, 0.5], dtype=torch.float64, requires_grad=True)
    logits = torch.cat([partner[None], negatives]) / temperature
    loss = torch.logsumexp(logits, 0) - logits[0]
    loss.backward()
    near, far = negatives.grad
    return (near / far).item()


EXERCISE = Prediction(
    key="120.1a.predict-hardness",
    title="Who is pushed away hardest?",
    statement=r"""
An anchor has two negatives, one with cosine similarity 0.9 and one with 0.5; its partner has 0.8.
The temperature is $\tau = 0.1$. By which factor is the loss more sensitive to the similarity of
the near negative than to that of the far one: what is
$\dfrac{\partial\ell/\partial s_\text{near}}{\partial\ell/\partial s_\text{far}}$?

Write your prediction down before you run anything; within 5 % counts as right.
""",
    imports="import torch",
    experiment=push_on_the_near_over_the_far,
    rtol=0.05,
    discussion=r"""
The gradient for a negative's similarity is its softmax share over $\tau$, and the denominators
cancel in the ratio: $e^{(0.9 - 0.5)/0.1} = e^4 \approx 54.5982$. At $\tau = 1$ it is
$e^{0.4} \approx 1.5$: all negatives are pushed about alike. The temperature decides how much the
loss cares about the *hard* negatives, those near the anchor; and an image of the same kind, which
should not be pushed at all, is the hardest of them.
""",
    hints=[
        "Write the loss as log(sum of exp) minus the partner's logit, and differentiate.",
        "The derivative for a negative's similarity is its softmax probability over tau.",
        "The ratio of two softmax probabilities is exp of the difference of their logits.",
    ],
    mistakes={
        "listing": Mistake(
            answer=1.0,
            hint="all others are thought to be pushed alike. A softmax weighs each by its "
            "similarity.",
        ),
        "similarities": Mistake(
            answer=1.8,
            hint="you take the ratio of the similarities themselves. The softmax exponentiates "
            "them first.",
        ),
        "logits": Mistake(
            answer=4.0,
            hint="you take the difference of the logits, (0.9 - 0.5)/0.1. The ratio is its "
            "exponential.",
        ),
        "no_temperature": Mistake(
            answer=1.4918,
            hint="the temperature is missing: exp(0.9 - 0.5).",
        ),
        "against_the_partner": Mistake(
            answer=2.7183,
            hint="you compare the near negative with the partner: exp((0.9 - 0.8)/0.1). The "
            "question is about the two negatives.",
        ),
    },
)
