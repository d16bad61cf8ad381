"""120.2: the quiz on masked autoencoders."""

from dlcourse.exercises import Choice, Question, Quiz

QUIZ = Quiz(
    key="120.2",
    questions=[
        Question(
            "mask-tokens",
            "Where do mask tokens enter a masked autoencoder?",
            [
                Choice(
                    "At the encoder, in place of each hidden patch.",
                    "That is SimMIM: its encoder then sees a sequence of full length.",
                ),
                Choice(
                    "At the decoder, in place of each hidden patch.",
                    "The encoder sees visible patches alone, which is why it is cheap.",
                    right=True,
                ),
                Choice("At both.", "The encoder needs none: a transformer takes any set."),
            ],
        ),
        Question(
            "why-so-much",
            "Why does one hide three quarters of an image, but only a seventh of a text?",
            [
                Choice(
                    "Images have more patches than texts have words.",
                    "The share matters, not the number.",
                ),
                Choice(
                    "A hidden patch among visible neighbours can be continued without "
                    "understanding.",
                    "Images are redundant; only a high ratio makes the task hard.",
                    right=True,
                ),
                Choice(
                    "It makes the decoder cheaper.",
                    "The decoder sees a sequence of full length at any ratio.",
                ),
            ],
        ),
        Question(
            "positions",
            "When are the encoder's positions added to the patches?",
            [
                Choice(
                    "Before the masking.",
                    "Afterwards a patch's place in the sequence tells nothing of its place in the "
                    "image.",
                    right=True,
                ),
                Choice(
                    "After the masking, to the visible patches in their new order.",
                    "Then a patch would be told apart by the place that the shuffling gave it.",
                ),
                Choice(
                    "Only in the decoder.",
                    "Then the encoder would see a bag of patches, without a place.",
                ),
            ],
        ),
        Question(
            "lowest-loss",
            "Run A has normalised targets and a loss of 0.58, run B pixels and a loss of 0.02. "
            "Which learned better features?",
            [
                Choice(
                    "B: its loss is lower.", "The units differ: a patch's variance, and pixels."
                ),
                Choice(
                    "A: normalised targets are always better.",
                    "They are for some questions; for a colour they may be worse.",
                ),
                Choice(
                    "The losses do not tell.",
                    "Compare probes on the task that you care about, on a validation split.",
                    right=True,
                ),
            ],
        ),
        Question(
            "order",
            "`training_loss` never puts the decoder's tokens back in order. Why is its result the "
            "same?",
            [
                Choice(
                    "It is not quite the same, but near enough.",
                    "It is equal, up to rounding: a test says so, for gradients too.",
                ),
                Choice(
                    "The blocks treat tokens as a set, and each carries its position with it.",
                    "So permuted tokens give permuted results, and the mean does not mind.",
                    right=True,
                ),
                Choice(
                    "The decoder has learned the order.",
                    "The order is drawn anew for each image; nothing could learn it.",
                ),
            ],
        ),
    ],
)
