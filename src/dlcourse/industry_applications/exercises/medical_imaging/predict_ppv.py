"""124.1a: predict what a positive result means in a screening."""

from dlcourse.exercises import Mistake, Prediction


def positive_predictive_value(sensitivity=0.9, specificity=0.9, prevalence=0.02):
    """Return the share of positive results that are right."""
    found = sensitivity * prevalence
    alarms = (1 - specificity) * (1 - prevalence)
    return round(found / (found + alarms), 4)


EXERCISE = Prediction(
    key="124.1a.predict-ppv",
    title="What does a positive result mean?",
    statement=r"""
A test has a sensitivity of 0.9 and a specificity of 0.9. Of the people who come to the screening
2 % are sick. What share of the *positive results* is right?

Write your prediction down before you run anything; within 2 % of the value counts as right.
""",
    imports="",
    experiment=positive_predictive_value,
    rtol=0.02,
    discussion=r"""
Of 1,000 people 20 are sick: 18 of them are found. Of the 980 healthy ones 98 are called too. So 18
of 116 positive results are right, 0.1552. Where half of those who come are sick, the same test has
0.9.
""",
    hints=[
        "Count 1,000 people: how many are sick, and how many of them are found?",
        "How many of the healthy ones are called as well?",
        "Divide the found ones by all who are called.",
    ],
    mistakes={
        "listing": Mistake(
            answer=0.9,
            hint="that is the sensitivity: of the sick, the share that is found. The document "
            "takes it for a probability too. Count who is called.",
        ),
        "negative": Mistake(
            answer=0.9977, hint="that is the share of *negative* results that are right."
        ),
        "found": Mistake(
            answer=0.018, hint="that is the share of all people who are sick and found."
        ),
        "called": Mistake(answer=0.116, hint="that is the share of all people who are called."),
        "odds": Mistake(
            answer=0.1837,
            hint="18 / 98 are odds. Divide by all who are called, right or wrong.",
        ),
    },
)
