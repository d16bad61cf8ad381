"""123.3: predict how often many tests are all silent."""

from dlcourse.exercises import Mistake, Prediction


def any_alarm(features=20, alpha=0.05):
    """Return the probability of at least one false alarm in independent tests without drift."""
    return round(1 - (1 - alpha) ** features, 4)


EXERCISE = Prediction(
    key="123.3.predict-alarms",
    title="How often does something alarm?",
    statement=r"""
A monitor tests 20 independent features, each at $\alpha = 0.05$, without a correction. Nothing has
drifted.

With what probability does at least one feature raise an alarm? Write your prediction down before
you run anything; within 1 % counts as right.
""",
    imports="",
    experiment=any_alarm,
    rtol=0.01,
    discussion=r"""
All 20 tests are silent with probability $0.95^{20} = 0.36$, so something alarms with probability
0.6415. The *expected number* of alarms is $20 \cdot 0.05 = 1$, which is another question. With 100
features the probability is 0.994.
""",
    hints=[
        "How often is one test silent?",
        "Independent tests: the probability that all are silent is a product.",
        "1 − 0.95²⁰.",
    ],
    mistakes={
        "listing": Mistake(
            answer=0.05,
            hint="α is of one test. The document tests each feature at 0.05 as if it were the "
            "only one; 20 tests have 20 chances.",
        ),
        "sum": Mistake(
            answer=1.0,
            hint="that is the expected number of alarms. Some windows have several, others none.",
        ),
        "all_silent": Mistake(
            answer=0.3585, hint="that is the probability that all are silent. Take the rest."
        ),
        "all_alarm": Mistake(
            answer=0.05**20, hint="that is the probability that all features alarm at once."
        ),
        "divided": Mistake(
            answer=0.0025, hint="that is Bonferroni's level of one test, α / 20."
        ),
    },
)
