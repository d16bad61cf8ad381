"""122.1b: the quiz on the way from a simulator to the real system."""

from dlcourse.exercises import Choice, Question, Quiz

QUIZ = Quiz(
    key="122.1b",
    questions=[
        Question(
            "wide",
            "Why not randomise everything as widely as possible?",
            [
                Choice(
                    "One policy must then do for all systems, and may do worse on the likely ones.",
                    "A policy without memory gives one action for a state. Weak and strong motors "
                    "want different ones. How much this costs depends on the task: measure it.",
                    right=True,
                ),
                Choice(
                    "Wide ranges are slower to simulate.",
                    "A step of physics costs the same, whatever its parameters are.",
                ),
                Choice(
                    "The policy would overfit the simulator.",
                    "Wide ranges are a means against that.",
                ),
            ],
        ),
        Question(
            "gap",
            "A simulator's states differ from the real ones by 0.01 m and 0.5 m/s on average, another's "
            "by 0.2 m and 0.35 m/s. Which is nearer?",
            [
                Choice(
                    "The first: its mean is smaller.",
                    "Take mm/s, and the second has the smaller mean. A mean over unlike units "
                    "depends on the units.",
                ),
                Choice(
                    "It can't be said from a mean over unlike units.",
                    "First divide each by what it usually changes in a step, after the same state "
                    "and action.",
                    right=True,
                ),
                Choice(
                    "The second: a velocity matters more.",
                    "That depends on the task and on the usual sizes, which are not given.",
                ),
            ],
        ),
        Question(
            "common",
            "All masses, dampings and gears of a cart with a pole are unknown. Transitions are exact. "
            "What is found?",
            [
                Choice(
                    "All of them, as there is no noise.",
                    "Twice the masses with twice the forces move alike. No transition tells them "
                    "apart.",
                ),
                Choice("Nothing.", "Ratios of gear to mass change the motion, and are found."),
                Choice(
                    "Their ratios, and not a factor common to all.",
                    "Weigh one part on scales, and the factor is known as well.",
                    right=True,
                ),
            ],
        ),
        Question(
            "narrow",
            "An identified interval is narrow. What does this show?",
            [
                Choice(
                    "The simulator is right.",
                    "The interval assumes the model's form. It knows nothing of a force that the "
                    "model lacks.",
                ),
                Choice(
                    "If the model's form is right and the errors are as assumed, the data fix the "
                    "factor well.",
                    "Look at the residual too, and test on transitions that were not fitted.",
                    right=True,
                ),
                Choice(
                    "The policy will do well on the real system.",
                    "It may be trained too little, or the task may be too hard.",
                ),
            ],
        ),
        Question(
            "latency",
            "The training has no latency, the real system has two control steps. The mass is known "
            "exactly. What may happen?",
            [
                Choice(
                    "The policy acts on what was true two steps ago, and its corrections swing "
                    "further and further.",
                    "A feedback that comes late can turn a correction into a push. Latency belongs "
                    "into the simulator.",
                    right=True,
                ),
                Choice(
                    "Nothing: the physics are right.",
                    "The loop around the physics is part of the system.",
                ),
                Choice(
                    "The policy waits for two steps by itself.",
                    "It sees no clock and no queue of actions; it was trained as if there were none.",
                ),
            ],
        ),
    ],
)
