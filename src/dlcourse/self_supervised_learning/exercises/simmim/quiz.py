"""120.1c: the quiz on SimMIM."""

from dlcourse.exercises import Choice, Question, Quiz

QUIZ = Quiz(
    key="120.1c",
    questions=[
        Question(
            "leak",
            "The loss is taken on hidden patches only, but the encoder is given the whole image. "
            "What does the model learn?",
            [
                Choice(
                    "The same: the loss asks for hidden patches only.",
                    "It asks for what the encoder has just been shown.",
                ),
                Choice(
                    "To pass each patch on to its own output.",
                    "The pixels are in the token already; nothing has to be understood to copy "
                    "them.",
                    right=True,
                ),
                Choice(
                    "Nothing: the loss has no gradient.",
                    "It has one, and falls quickly. That is what makes the mistake hard to notice.",
                ),
            ],
        ),
        Question(
            "block",
            "A mask hides 60 % of an image in blocks of 4 pixels, another 60 % in blocks of 32. "
            "The second task is",
            [
                Choice("as hard: the ratio is the same.", "It does not say where the clues are."),
                Choice(
                    "easier: large blocks leave large visible regions.",
                    "They do, but the hidden regions are large as well.",
                ),
                Choice(
                    "harder: most hidden pixels are far from a visible one.",
                    "So copying neighbours no longer does, and what helps is to know what the "
                    "picture shows.",
                    right=True,
                ),
            ],
        ),
        Question(
            "compute",
            "The mask ratio is raised from 0.6 to 0.8. The time of a step of SimMIM",
            [
                Choice(
                    "halves.",
                    "So does that of an MAE's encoder, which sees 20 % of the patches in place of "
                    "40 %. Even there the decoder's time stays.",
                ),
                Choice(
                    "stays as it is.",
                    "A hidden patch is a token too: the encoder always sees N of them.",
                    right=True,
                ),
                Choice("grows, as more is predicted.", "The head predicts all patches anyway."),
            ],
        ),
        Question(
            "median",
            "A hidden pixel is black in 70 % of the images that agree with what is visible, and "
            "white in 30 %. What does the best prediction look like?",
            [
                Choice(
                    "Black with L1, dark grey with L2.",
                    "The absolute error is least at the median, the squared at the mean, 0.3.",
                    right=True,
                ),
                Choice(
                    "Dark grey with both.",
                    "That is the mean, which minimises the squared error only.",
                ),
                Choice(
                    "Black in 70 % of the predictions, white in 30 %.",
                    "A regression gives one answer for one input. It does not draw a sample.",
                ),
            ],
        ),
        Question(
            "head",
            "Why is one linear layer enough to turn a token into pixels?",
            [
                Choice(
                    "Because the encoder sees the mask tokens, so that its layers do the decoding.",
                    "It has N tokens from the first block on. The price: part of the encoder is "
                    "busy with painting, and is of less use to a linear probe.",
                    right=True,
                ),
                Choice(
                    "Because pixels are linear in what the image shows.",
                    "They are not; but the encoder's last layers can do what a decoder would.",
                ),
                Choice(
                    "Because the loss ignores visible pixels.",
                    "Any head could be trained with that loss.",
                ),
            ],
        ),
        Question(
            "evaluation",
            "A pre-trained encoder has a poor linear probe, and a good accuracy when fine-tuned. "
            "Is that a contradiction?",
            [
                Choice(
                    "Yes: good features are linearly separable.",
                    "That is one property of several, and not the one that the loss asked for.",
                ),
                Choice(
                    "No: the probe needs the class to be linear in the features; fine-tuning needs"
                    " a good start.",
                    "Masked image models are often of this kind. So say which was measured.",
                    right=True,
                ),
                Choice(
                    "No: fine-tuning uses the test set.",
                    "It must not, and need not.",
                ),
            ],
        ),
    ],
)
