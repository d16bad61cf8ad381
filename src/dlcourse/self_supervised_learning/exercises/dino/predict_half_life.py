"""120.1b: predict how long a teacher remembers, then run it."""

from dlcourse.exercises import Mistake, Prediction


def updates_until_half_is_left(momentum=0.9995):
    """Count the updates until the teacher holds less than half of what it was."""
    share, steps = 1.0, 0
    while share > 0.5:
        share = momentum * share  # θₜ ← m θₜ + (1 − m) θₛ
        steps += 1
    return steps


EXERCISE = Prediction(
    key="120.1b.predict-half-life",
    title="How long does a teacher remember?",
    statement=r"""
With each update the teacher becomes $\theta_t \leftarrow m\,\theta_t + (1-m)\,\theta_s$. With
$m = 0.996$, DINO's start, less than half of its present weights is left after 173 updates.

The schedule then lets $m$ grow. After how many updates is less than half left when $m = 0.9995$?
Write your prediction down before you run anything; within 3 % counts as right.
""",
    experiment=updates_until_half_is_left,
    rtol=0.03,
    discussion=r"""
After $n$ updates the share $m^n$ is left, so $n > \ln 2/(-\ln m) \approx 0.693/(1-m)$: an eighth of
$1-m$ gives eight times the memory, here 1,386 updates. Late in training the teacher is an average
over thousands of students; at $m = 1$ it stands still.
""",
    hints=[
        "After one update the share m is left of the old weights. After two?",
        "Solve mⁿ = 1/2 for n.",
        "n = ln 2 / (−ln m), which is about 0.693 / (1 − m).",
    ],
    mistakes={
        "listing": Mistake(
            answer=173,
            hint="the momentum is thought to stay at 0.996 for ever: that is the document's "
            "listing, which has no schedule.",
        ),
        "time_constant": Mistake(
            answer=2000,
            hint="you take 1/(1 − m), the time until 1/e is left. Half is left earlier.",
        ),
        "linear": Mistake(
            answer=1000,
            hint="you count 0.5/(1 − m), as if each update took the same amount away. It takes a "
            "share of what is still there.",
        ),
        "forgets_faster": Mistake(
            answer=22,
            hint="the effect is turned round: a larger momentum is a longer memory.",
        ),
    },
)
