"""119.2: the quiz on optimizers."""

from dlcourse.exercises import Choice, Question, Quiz

QUIZ = Quiz(
    key="119.2",
    questions=[
        Question(
            "lion-magnitude",
            "All gradients are multiplied by 1,000. What becomes of Lion's steps (no decay)?",
            [
                Choice(
                    "They grow a thousandfold.",
                    "That is SGD. Lion keeps only the sign of its average.",
                ),
                Choice(
                    "They stay the same.",
                    "The momentum grows by the same factor, and the sign drops it.",
                    right=True,
                ),
                Choice(
                    "They grow at first, until the momentum has adapted.",
                    "Only if the factor changes during training: then old and new gradients are "
                    "mixed in the momentum. A constant factor drops out of every sign.",
                ),
            ],
        ),
        Question(
            "lion-betas",
            "What is β₂ for in Lion?",
            [
                Choice(
                    "It averages the squared gradients, as in Adam.",
                    "Lion has no second moment: one state tensor a parameter, not two.",
                ),
                Choice(
                    "Nothing: the direction uses β₁ alone.",
                    "So it is in the document's listing. The direction weighs the momentum "
                    "with β₁, but how old that momentum is depends on β₂.",
                ),
                Choice(
                    "It sets the memory of the stored momentum.",
                    "m ← β₂ m + (1 − β₂) g. The direction is another average, made with β₁.",
                    right=True,
                ),
            ],
        ),
        Question(
            "decoupled",
            "Weight decay is added to the gradient, before Lion takes the sign. A weight has a "
            "gradient much larger than λ times the weight. How is it decayed?",
            [
                Choice(
                    "Not at all.",
                    "The sign of g + λθ is that of g. The decay is lost.",
                    right=True,
                ),
                Choice(
                    "By ηλ times the weight.",
                    "That is decoupled decay, which stands outside of the sign.",
                ),
                Choice(
                    "By the full rate η.",
                    "That happens where the gradient is smaller than λθ, and whatever the size "
                    "of the weight.",
                ),
            ],
        ),
        Question(
            "lion-rate",
            "You replace AdamW (rate η, decay λ) by Lion. Where do you begin to tune?",
            [
                Choice(
                    "At the same rate and decay.",
                    "Those are AdamW habits: Lion's step has a larger norm at the same rate.",
                ),
                Choice(
                    "At a smaller rate and a larger decay, with ηλ about the same.",
                    "Each coordinate of Lion's step is ±η, so a smaller rate suits; the decay is "
                    "multiplied by the rate, so it must grow to keep its strength.",
                    right=True,
                ),
                Choice(
                    "At a larger rate, since the sign makes steps safe.",
                    "The sign fixes the size of the step, it does not make it small.",
                ),
            ],
        ),
        Question(
            "schedule-free-points",
            "Schedule-Free keeps three sequences. Where is the gradient taken, and where do you "
            "evaluate?",
            [
                Choice(
                    "Gradient at z, evaluation at z.",
                    "That is the base optimizer alone, which needs a schedule.",
                ),
                Choice(
                    "Gradient at x, evaluation at y.",
                    "The other way round: x is the average and moves too slowly to explore with.",
                ),
                Choice(
                    "Gradient at y, evaluation at x.",
                    "y lies between z and the average x. `optimizer.eval()` puts x into the "
                    "weights, `optimizer.train()` brings y back.",
                    right=True,
                ),
            ],
        ),
        Question(
            "schedule-free-mode",
            "You forget `optimizer.eval()` before measuring the validation loss. What do you "
            "measure?",
            [
                Choice(
                    "The loss at y, which is not the model that you will use.",
                    "In training mode the weights hold y. It may be worse than x (late, at a high "
                    "rate) or better (early, at a low one). Nothing fails, which is why this is a "
                    "common mistake.",
                    right=True,
                ),
                Choice(
                    "The same: the mode only changes dropout and BatchNorm.",
                    "That is the mode of the model. The optimizer has one too.",
                ),
                Choice(
                    "An error is raised.",
                    "A step in eval mode raises. A measurement in training mode can't be noticed "
                    "by the optimizer.",
                ),
            ],
        ),
    ],
)
