"""119.3: the quiz on schedules."""

from dlcourse.exercises import Choice, Question, Quiz

QUIZ = Quiz(
    key="119.3",
    questions=[
        Question(
            "multiplier",
            "A `LambdaLR` has base rate 0.1 and must end at 1e-5. Which multiplier is that?",
            [
                Choice("1e-5", "That is the rate itself: 0.1 × 1e-5 would be 1e-6."),
                Choice("1e-4", "The multiplier is a share: 1e-5 / 0.1.", right=True),
                Choice("1e-6", "That is what comes out if rate and multiplier are confused."),
            ],
        ),
        Question(
            "order",
            "In which order does a training loop call the two steps?",
            [
                Choice(
                    "optimizer.step(), then scheduler.step()",
                    "So the first update uses the rate that the scheduler set when it was made.",
                    right=True,
                ),
                Choice(
                    "scheduler.step(), then optimizer.step()",
                    "Then the first value of the schedule is never used; PyTorch warns of it.",
                ),
                Choice(
                    "It does not matter.",
                    "The schedule is shifted by one step, which shows at warm-up and restarts.",
                ),
            ],
        ),
        Question(
            "past-the-end",
            "A cosine with T = 100 is asked for step 150, without a bound on its progress. The "
            "rate is then:",
            [
                Choice("0, as at step 100.", "Only if progress is bounded by 1."),
                Choice("Negative.", "(1 + cos)/2 is never below 0."),
                Choice(
                    "Half of the full rate.",
                    "With no warm-up, cos(1.5 π) = 0: the rate has risen again half-way.",
                    right=True,
                ),
            ],
        ),
        Question(
            "wsd",
            "What does warm-up, stable, decay offer that a cosine does not?",
            [
                Choice(
                    "A lower loss at every length.",
                    "At one given length a tuned cosine does about as well.",
                ),
                Choice(
                    "The length need not be known before the decay.",
                    "Until then the rate does not depend on T: one stable run serves many "
                    "lengths, each with its own short decay.",
                    right=True,
                ),
                Choice(
                    "It needs no warm-up.",
                    "It has one: the first letter.",
                ),
            ],
        ),
        Question(
            "one-cycle",
            "`OneCycleLR` is put on Lion with its default arguments. What else changes besides the "
            "rate?",
            [
                Choice("Nothing.", "By default it cycles momentum too."),
                Choice(
                    "The weight decay.",
                    "Its strength follows the rate, but its value is not touched.",
                ),
                Choice(
                    "The betas.",
                    "`cycle_momentum=True` writes to the first of them at every step; pass False.",
                    right=True,
                ),
            ],
        ),
    ],
)
