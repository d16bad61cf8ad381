"""121.2a: the quiz on CLIP."""

from dlcourse.exercises import Choice, Question, Quiz

QUIZ = Quiz(
    key="121.2a",
    questions=[
        Question(
            "negatives",
            "Eight GPUs hold 128 pairs each. Each computes the loss on its own pairs, and "
            "gradients are averaged. How many wrong captions does a picture see?",
            [
                Choice(
                    "1,023, since gradients are averaged over all.",
                    "Averaging gradients does not show a picture the other GPUs' captions.",
                ),
                Choice(
                    "127.",
                    "The captions of its own GPU alone. For 1,023, features have to be gathered "
                    "before the loss.",
                    right=True,
                ),
                Choice(
                    "128.",
                    "One of the 128 captions of its GPU is the right one.",
                ),
            ],
        ),
        Question(
            "gather-gradient",
            "`dist.all_gather` gives each rank the features of all, without a backward pass. What "
            "happens if you put only your own rows back, with their graph, and train?",
            [
                Choice(
                    "The gradients are those of one process.",
                    "They lack a part: what the other ranks' losses say about your rows.",
                ),
                Choice(
                    "Nothing is trained.",
                    "Your own rows have a graph, so that they get a gradient from your own loss.",
                ),
                Choice(
                    "A part of the gradient is lost, the one that comes from other ranks' losses.",
                    "Your rows are negatives there. Each rank has to send back what it found: a "
                    "sum over ranks in the backward pass.",
                    right=True,
                ),
            ],
        ),
        Question(
            "clamp",
            "Why is the scale kept at 100 or less?",
            [
                Choice(
                    "So that training stays stable: a larger one makes the loss steep.",
                    "The paper says that clipping it was necessary against instability.",
                    right=True,
                ),
                Choice(
                    "Because float16 can hold no more.",
                    "float16 holds numbers up to 65,504.",
                ),
                Choice(
                    "Because a cosine can be no larger than 1.",
                    "That limits the logit to the scale, and not the scale.",
                ),
            ],
        ),
        Question(
            "siglip",
            "What does SigLIP's loss do without?",
            [
                Choice(
                    "Negatives.",
                    "All wrong pairs of the batch are in the sum. Without them all features could "
                    "become equal.",
                ),
                Choice(
                    "A temperature.",
                    "It has one, and a bias besides.",
                ),
                Choice(
                    "The sum over a row or column that couples all pairs of the batch.",
                    "Each pair has a sigmoid of its own, so the sum can be cut into blocks that "
                    "need not know each other.",
                    right=True,
                ),
            ],
        ),
        Question(
            "zero-shot",
            "You want to tell 1,000 classes apart with CLIP, without training. What do you compute "
            "once, before any picture comes?",
            [
                Choice(
                    "A linear probe on the picture features.",
                    "A probe needs labels. Here the class names are the only supervision.",
                ),
                Choice(
                    "1,000 text vectors, each the normalised mean over prompts.",
                    "They are the rows of a linear classifier. A picture costs one pass of the "
                    "image tower and 1,000 dot products.",
                    right=True,
                ),
                Choice(
                    "A pass of both towers for each pair of picture and class.",
                    "That is needed by models which read both together. CLIP's towers never meet "
                    "before the dot product.",
                ),
            ],
        ),
        Question(
            "order",
            "A CLIP rates 'a red square left of a blue circle' and 'a blue circle left of a red "
            "square' alike. What in the training allows that?",
            [
                Choice(
                    "The batch hardly ever holds the swapped caption, so that telling them apart "
                    "gains almost nothing.",
                    "The loss asks only that the right caption beats the others of the batch. "
                    "Swapped captions as extra negatives ask for the order, and mend a part of it.",
                    right=True,
                ),
                Choice(
                    "The text tower does not know the order of its words.",
                    "It has positions, and its causal attention sees them.",
                ),
                Choice(
                    "The image tower averages over places.",
                    "That can be a reason elsewhere; towers with positions fail as well.",
                ),
            ],
        ),
    ],
)
