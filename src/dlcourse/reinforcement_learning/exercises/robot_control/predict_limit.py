"""122.1a: predict what a time limit does to a value."""

from dlcourse.exercises import Mistake, Prediction


def value_with_time_limit_as_end(gamma=0.99, limit=100):
    """Return the value that TD finds where each limit-th step counts as an end."""
    value = 0.0
    for _ in range(20_000):
        value = 1 + gamma * (1 - 1 / limit) * value
    return round(value, 2)


EXERCISE = Prediction(
    key="122.1a.predict-limit",
    title="A life that is cut each 100 steps",
    statement=r"""
A robot stands in one state and gets the reward 1 at each step. Nothing ever ends, but the simulator
cuts each recording after 100 steps. The true value is $1 / (1 - \gamma) = 100$ at $\gamma = 0.99$.
Somebody stores the cut as an end. The state does not contain the time, so the critic can only learn
the mean over all 100 steps.

Which value does the critic find? Write your prediction down before you run anything; within 3 %
counts as right.
""",
    experiment=value_with_time_limit_as_end,
    rtol=0.03,
    discussion=r"""
One transition in 100 says "nothing follows", the others say $1 + \gamma V$. In the mean
$V = 1 + \gamma\,(1 - 1/100)\,V$, so $V = 1/(1 - 0.99 \cdot 0.99) = 50.25$: half of the truth. The
error does not shrink with more data.
""",
    hints=[
        "Which part of the transitions is followed by nothing?",
        "Write the mean target as 1 + c V, and solve V = 1 + c V.",
        "c = 0.99 · (1 − 1/100).",
    ],
    mistakes={
        "listing": Mistake(
            answer=100.0, hint="that is the right value, with bootstrapping at the cut."
        ),
        "finite_sum": Mistake(
            answer=63.4,
            hint="that is the return of a whole recording from its first step. The critic sees "
            "all 100 steps in one state, and bootstraps from itself.",
        ),
        "half_the_limit": Mistake(
            answer=33.6, hint="that is the value for a cut after 50 steps: here it is 100."
        ),
        "one_reward": Mistake(answer=1.0, hint="only one transition in 100 is cut."),
    },
)
