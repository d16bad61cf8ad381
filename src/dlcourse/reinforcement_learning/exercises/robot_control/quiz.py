"""122.1a: the quiz on robot control."""

from dlcourse.exercises import Choice, Question, Quiz

QUIZ = Quiz(
    key="122.1a",
    questions=[
        Question(
            "ends",
            "An episode is cut by a time limit of 1,000 steps. What is the target of its last "
            "transition?",
            [
                Choice("r", "Then the critic learns that walking ends in nothing."),
                Choice(
                    "r + γ Q'(s', a')",
                    "The task would have gone on, so the value of what follows counts.",
                    right=True,
                ),
                Choice("It must be thrown away.", "It is a good transition: it has r and s'."),
            ],
        ),
        Question(
            "gradient",
            "The actor's loss is −V(s), with a critic that reads the state only. What is the "
            "actor's gradient?",
            [
                Choice(
                    "There is none.",
                    "The action does not enter. A critic for control reads it: Q(s, a).",
                    right=True,
                ),
                Choice("It points to better states.", "Nothing connects the loss to the actor."),
                Choice("It is noisy.", "Noise would need a path from the loss to the actor."),
            ],
        ),
        Question(
            "minimum",
            "Why does the target take the lesser of two critics?",
            [
                Choice("It is faster.", "It costs a second critic."),
                Choice(
                    "A policy seeks out the errors that look good.",
                    "Maximising over noisy values overestimates; the minimum leans the other way.",
                    right=True,
                ),
                Choice("It is unbiased.", "It is biased as well, downwards."),
            ],
        ),
        Question(
            "seeds",
            "Two programs are run with three seeds each, and one mean is higher. The 95 % interval "
            "of the paired difference contains 0. What follows?",
            [
                Choice("The higher one is better.", "Three other seeds may turn the order."),
                Choice("Both are equal.", "The interval also contains differences that matter."),
                Choice(
                    "No order shows: more seeds are needed.",
                    "So few runs tell a large difference from none, not a small one.",
                    right=True,
                ),
            ],
        ),
        Question(
            "scale",
            "All rewards are multiplied by 10, and SAC's temperature stays fixed. The policy …",
            [
                Choice("stays as it is.", "For return alone it would; the entropy's share falls."),
                Choice("becomes more random.", "The entropy now weighs less, not more."),
                Choice(
                    "becomes less random.",
                    "Only the ratio of reward to temperature counts. A learned temperature "
                    "adapts.",
                    right=True,
                ),
            ],
        ),
    ],
)
