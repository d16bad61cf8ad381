"""122.2a: predict what a long diet of one item gives."""

from dlcourse.exercises import Mistake, Prediction


def kale_over_clickbait(sensitivity=0.1, memory=0.7, choc=5.0, kale=4.0):
    """Return the ratio of mean minutes in the steady state: always kale over always clickbait."""
    e = 2.718281828459045
    exposure = 1 / (1 - memory)
    good = 1 / (1 + e ** (-sensitivity * exposure))
    bad = 1 / (1 + e ** (sensitivity * exposure))
    return round(e ** (kale * good - choc * bad), 3)


EXERCISE = Prediction(
    key="122.2a.predict-kale",
    title="A long diet of one item",
    statement=r"""
A user has sensitivity 0.1 and memory 0.7, without random shocks. One such user has been shown kale
($c = 0$) for a long time, another one clickbait ($c = 1$). The minutes of an item are lognormal,
with mean log-minutes $4 s$ for kale and $5 s$ for clickbait, and the same variance.

By which factor are the mean minutes of the kale user larger than those of the clickbait user? Write
your prediction down before you run anything; within 3 % counts as right.
""",
    experiment=kale_over_clickbait,
    rtol=0.03,
    discussion=r"""
Exposure settles where $z = 0.7 z \pm 1$, so at $\pm 1/0.3 = \pm 3.33$. Satisfaction is
$\sigma(0.333) = 0.583$ and $\sigma(-0.333) = 0.417$. The factor is
$\exp(4 \cdot 0.583 - 5 \cdot 0.417) = 1.275$; the variance's $e^{1/2}$ is in both and cancels.
""",
    hints=[
        "Where does exposure settle? Solve z = 0.7 z + 1.",
        "Satisfaction is sigmoid(0.1 z), of plus and of minus that z.",
        "exp(4 · 0.583 − 5 · 0.417).",
    ],
    mistakes={
        "listing": Mistake(
            answer=0.61,
            hint="that is the ratio at equal satisfaction, a half: what a click counter sees first.",
        ),
        "no_memory": Mistake(
            answer=0.76, hint="that is for exposure ±1: the memory of 0.7 adds up to 1/0.3."
        ),
        "logs": Mistake(
            answer=1.117, hint="that is the ratio of the mean logarithms: minutes are their exp."
        ),
        "medians_twice": Mistake(
            answer=2.1, hint="the factor e^(1/2) of the lognormal is in both means, and cancels."
        ),
    },
)
