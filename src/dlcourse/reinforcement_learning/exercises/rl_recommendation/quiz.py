"""122.2a: the quiz on recommendation by reinforcement learning."""

from dlcourse.exercises import Choice, Question, Quiz

QUIZ = Quiz(
    key="122.2a",
    questions=[
        Question(
            "default",
            "RecSim's default sensitivity is 0.01, and there the greedy policy is optimal. What "
            "does a win of a greedy agent there show?",
            [
                Choice("That long-term learning is useless.", "One user model can't show that."),
                Choice(
                    "Nothing about planning: this user hardly reacts to what was shown.",
                    "Compute the optimum before you compare: without a gap there is nothing to win.",
                    right=True,
                ),
                Choice("That the agent plans.", "A greedy agent looks one step ahead."),
            ],
        ),
        Question(
            "gradient",
            "A critic is trained towards advantage + Q(s, a), with the advantage r + γV' − Q(s, a) "
            "as a constant and Q with its gradient. What is the gradient?",
            [
                Choice("That of the TD error.", "It would be, if the target were a constant."),
                Choice("Twice that of the TD error.", "Both sides move, and in the same direction."),
                Choice(
                    "Exactly zero.",
                    "Q stands on both sides with its gradient, and cancels.",
                    right=True,
                ),
            ],
        ),
        Question(
            "sum",
            "Why does discrete SAC need no sampled actions in its losses?",
            [
                Choice(
                    "The items are finite: the expectation is a sum over them.",
                    "A forward pass gives Q of all items, so that the mean is exact.",
                    right=True,
                ),
                Choice("Because it is on-policy.", "It learns from a replay buffer."),
                Choice("Because the policy is deterministic.", "It keeps an entropy, and stays random."),
            ],
        ),
        Question(
            "mask",
            "Items already shown get probability 0 after the softmax, without renormalising. What "
            "is wrong?",
            [
                Choice("Nothing.", "The rest sums to less than 1."),
                Choice(
                    "The expectation is too small, by another factor for each user.",
                    "Put −inf into the logits before the softmax.",
                    right=True,
                ),
                Choice("The items may be shown again.", "Their probability is 0."),
            ],
        ),
        Question(
            "propensity",
            "A log holds user, item and minutes, but not the probability with which the item was "
            "chosen. What is lost?",
            [
                Choice("Nothing: the policy can be run again.", "Its weights have changed since."),
                Choice("Only disk space is saved.", "Four bytes for a value one can't get back."),
                Choice(
                    "Estimates of another policy's value by importance weights.",
                    "The weight is the new probability over the logged one (section 122.2b).",
                    right=True,
                ),
            ],
        ),
    ],
)
