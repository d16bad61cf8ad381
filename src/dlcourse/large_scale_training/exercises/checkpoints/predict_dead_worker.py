"""119.1b: predict how many steps a job computes whose workers die."""

from dlcourse.exercises import Mistake, Prediction


def steps_computed():
    """Run 100 steps; save after every 30th; die after 75, then after 25."""
    computed = saved = 0
    for allowed in (75, 25, 100):  # steps of each attempt
        step = saved  # load_checkpoint
        for _ in range(allowed):
            if step == 100:
                break
            step += 1
            computed += 1
            if step % 30 == 0:
                saved = step  # save_checkpoint
    return computed


EXERCISE = Prediction(
    key="119.1b.predict-dead-worker",
    title="Two deaths",
    statement=r"""
A job of 100 steps saves a checkpoint after every 30th step and is started with `max_restarts=2`.
The first attempt computes 75 steps, then a worker dies. The second computes 25 steps, then a worker
dies again. The third lives to the end.

How many steps are computed in all, by the three attempts together?
""",
    experiment=steps_computed,
    discussion=r"""
The first attempt leaves the checkpoint of step 60. The second goes from 60 to 85 and dies before it
can save at 90; the third begins at 60 again. $75 + 25 + 40 = 140$: the 15 and the 25 steps after
step 60 were lost. Save more often and less is lost, but saving costs more; an asynchronous save
shifts the balance.
""",
    hints=[
        "From which step does the second attempt go on? And does it save anything?",
        "Add up what each attempt computes; do not subtract what is lost.",
    ],
    mistakes={
        "listing": Mistake(
            answer=200,
            hint="every attempt is thought to begin at step 0. So it would with the document's "
            "checkpoint, which does not ask for the epoch when it is loaded.",
        ),
        "nothing_lost": Mistake(
            answer=100,
            hint="nothing is thought to be lost. An attempt goes on from the last checkpoint, not "
            "from the step in which the worker died.",
        ),
        "first_loss_only": Mistake(
            answer=115,
            hint="only the first death is counted. The second attempt dies before its first save.",
        ),
        "second_loss_only": Mistake(
            answer=125,
            hint="only the second death is counted. The first attempt had gone beyond its last "
            "checkpoint too.",
        ),
    },
)
