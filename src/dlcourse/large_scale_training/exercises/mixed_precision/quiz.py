"""119.1c: the quiz on mixed precision."""

from dlcourse.exercises import Choice, Question, Quiz

QUIZ = Quiz(
    key="119.1c",
    questions=[
        Question(
            "flushed",
            "A gradient of 1e-8 is stored in 16 bits. What is left?",
            [
                Choice(
                    "0 in fp16, about 1e-8 in bf16.",
                    "The smallest fp16 number is 6e-8; bf16 goes down as far as fp32.",
                    right=True,
                ),
                Choice(
                    "About 1e-8 in fp16, 0 in bf16.",
                    "It is the other way round: fp16 has the shorter exponent.",
                ),
                Choice("0 in both.", "bf16 has the exponent of fp32: 1e-8 is nothing special."),
                Choice("About 1e-8 in both.", "fp16 ends at 6e-8; half of that rounds to 0."),
            ],
        ),
        Question(
            "master",
            "A bf16 weight is 1, its update 0.001. Why does it never move?",
            [
                Choice("0.001 is no bf16 number.", "It is one nearly: bf16 reaches 1e-38."),
                Choice(
                    "The next bf16 number below 1 is 0.996: the sum is rounded back to 1.",
                    "The update is less than half of that distance. A float32 master weight "
                    "collects such updates.",
                    right=True,
                ),
                Choice("The loss was not scaled.", "No scale makes the numbers near 1 denser."),
            ],
        ),
        Question(
            "order",
            "Which order is right in fp16 with clipping?",
            [
                Choice(
                    "backward, clip, unscale, step",
                    "Clipping then sees a norm that is too large by the scale.",
                ),
                Choice(
                    "backward, step, unscale, clip",
                    "After the step there is nothing left to clip.",
                ),
                Choice(
                    "backward, unscale, clip, step, update",
                    "Clip the true gradient; `update` adjusts the scale once a step.",
                    right=True,
                ),
            ],
        ),
        Question(
            "schedule",
            "The first ten steps in fp16 overflow and are skipped. What should the schedule do?",
            [
                Choice(
                    "Wait: its step counts updates, not calls.",
                    "Otherwise the warm-up is over before the first update was made.",
                    right=True,
                ),
                Choice(
                    "Go on: it counts batches.",
                    "Then the first real update already has a large rate.",
                ),
                Choice("Start again from 0.", "Nothing has happened to it, if it waited."),
            ],
        ),
        Question(
            "nan",
            "The loss scale falls below 1 and goes on falling. What is wrong?",
            [
                Choice("The scale began too low.", "It falls: so it is still too high, it seems."),
                Choice(
                    "The gradients are infinite or NaN whatever the scale.",
                    "Look for a NaN in the data, or for an overflow in the forward pass: no loss "
                    "scale helps there.",
                    right=True,
                ),
                Choice("Nothing: it will grow again.", "Not if every single step overflows."),
            ],
        ),
    ],
)
