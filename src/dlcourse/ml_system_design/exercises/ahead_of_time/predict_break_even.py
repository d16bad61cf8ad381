"""123.2b: predict after how many requests a compiler has paid."""

from dlcourse.exercises import Mistake, Prediction


def requests_until_paid(compile_s=20.0, eager_ms=2.0, compiled_ms=1.5):
    """Return the number of requests whose saved time is that of compiling."""
    return compile_s / ((eager_ms - compiled_ms) / 1000)


EXERCISE = Prediction(
    key="123.2b.predict-break-even",
    title="When has the compiler paid?",
    statement=r"""
Compiling a model takes 20 s, before the first request. A request then takes 1.5 ms; it took 2 ms
without. Requests come one after the other.

After how many requests has the compiler paid for itself? Write your prediction down before you run
anything; within 1 % counts as right.
""",
    imports="import numpy as np",
    experiment=requests_until_paid,
    rtol=0.01,
    discussion=r"""
A request saves 0.5 ms, and $20\,\text{s} / 0.5\,\text{ms} = 40000$. A server that is started anew
each hour must see 12 requests a second to gain from compiling as it starts. A file that was
compiled once, ahead of time, costs each start only its loading.
""",
    hints=[
        "What does one request save?",
        "Saved: 2 ms − 1.5 ms. The compiler costs 20 s once.",
        "20 s / 0.0005 s.",
    ],
    mistakes={
        "listing": Mistake(
            answer=0.0,
            hint="you take the compiler for free, as the document does, which compiles when the "
            "server starts.",
        ),
        "by_compiled": Mistake(
            answer=20 / 0.0015,
            hint="you divide by the time of a compiled request. What counts is what one saves.",
        ),
        "by_eager": Mistake(
            answer=10_000.0, hint="you divide by the old time. What counts is what one saves."
        ),
        "units": Mistake(answer=40.0, hint="mind the units: 20 s are 20,000 ms."),
    },
)
