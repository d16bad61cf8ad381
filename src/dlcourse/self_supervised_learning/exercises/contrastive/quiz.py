"""120.1a: the quiz on contrastive learning."""

from dlcourse.exercises import Choice, Question, Quiz

QUIZ = Quiz(
    key="120.1a",
    questions=[
        Question(
            "candidates",
            "A batch has 256 images, two views each. Among how many views does NT-Xent let an "
            "anchor choose its partner?",
            [
                Choice(
                    "256",
                    "That is CLIP's loss, which compares with the views of the other kind alone.",
                ),
                Choice("512", "The anchor itself is left out."),
                Choice(
                    "511",
                    "All views but the anchor: its partner and 510 negatives.",
                    right=True,
                ),
            ],
        ),
        Question(
            "colour",
            "You want features that tell ripe from unripe tomatoes, and pre-train with SimCLR and a "
            "jitter that turns the hue by up to half the circle. What is to be feared?",
            [
                Choice(
                    "The colour jitter teaches the network to count colour for little.",
                    "What differs between the two views of one image can't be used to recognise "
                    "the partner, so nothing asks the network to make it easy to read.",
                    right=True,
                ),
                Choice(
                    "The network will look at colour alone.",
                    "It would without colour jitter: colour is then enough to recognise most "
                    "partners.",
                ),
                Choice(
                    "Nothing: a few labels bring the colour back.",
                    "With few labels a probe finds what stands out in the features. After such a "
                    "jitter little colour is left, and it takes many labels to find.",
                ),
            ],
        ),
        Question(
            "stuck",
            "With 64 images a batch, the loss stands at 4.844 from the first step to the last. "
            "What happened?",
            [
                Choice(
                    "All views get the same embedding.",
                    "log(2·64 − 1) = 4.844 is the loss of guessing among equals.",
                    right=True,
                ),
                Choice(
                    "The loss has reached its minimum.",
                    "The minimum has partners together and the images apart; it lies far lower.",
                ),
                Choice(
                    "The temperature is too low.",
                    "A low temperature makes a wrong guess expensive: the loss would start higher.",
                ),
            ],
        ),
        Question(
            "temperature",
            "What does a lower temperature change?",
            [
                Choice(
                    "The lengths of the embeddings.",
                    "They are divided by their lengths before they are compared.",
                ),
                Choice(
                    "The push goes to the negatives that are nearest.",
                    "The softmax over similarities becomes sharp: only the hardest count.",
                    right=True,
                ),
                Choice(
                    "The number of negatives.",
                    "That is set by the batch. But fewer of them have a weight.",
                ),
            ],
        ),
        Question(
            "head",
            "Why are the features taken from before the projection head?",
            [
                Choice(
                    "They are wider.",
                    "SimCLR found them better at equal width, too.",
                ),
                Choice(
                    "The head is not trained.",
                    "It is, together with the encoder.",
                ),
                Choice(
                    "The loss wants its input free of all that augmentation changes. The head can "
                    "remove some of that, so that the encoder need not.",
                    "So a task that needs colour or place finds more of it before the head.",
                    right=True,
                ),
            ],
        ),
        Question(
            "gather",
            "On 8 GPUs with 64 images each, every rank computes NT-Xent on its own images. Against "
            "one process with 512 images,",
            [
                Choice(
                    "nothing changes: DDP averages the gradients.",
                    "It averages the gradients of another loss: 126 negatives an anchor, not 1022.",
                ),
                Choice(
                    "each anchor has fewer negatives, so it is another, easier question.",
                    "The embeddings must be gathered first, in a way that gradients can pass.",
                    right=True,
                ),
                Choice(
                    "the loss is eight times smaller.",
                    "It is a mean over anchors; the number of negatives enters by a logarithm.",
                ),
            ],
        ),
    ],
)
