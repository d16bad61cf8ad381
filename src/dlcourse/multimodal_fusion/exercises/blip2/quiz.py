"""121.2b: the quiz on BLIP-2."""

from dlcourse.exercises import Choice, Question, Quiz

QUIZ = Quiz(
    key="121.2b",
    questions=[
        Question(
            "zeros",
            "All 32 queries start as zeros, and there is no dropout. What does the Q-Former give "
            "after a long training?",
            [
                Choice(
                    "32 equal vectors for each picture.",
                    "Queries have no positions. Equal inputs give equal outputs and equal "
                    "gradients, "
                    "so nothing ever tells them apart. Dropout would, by its noise.",
                    right=True,
                ),
                Choice(
                    "32 different vectors: the cross-attention breaks the tie.",
                    "All queries ask the picture the same question and get the same answer.",
                ),
                Choice(
                    "32 vectors of zeros.",
                    "The residual stream takes up the picture, equally for all queries.",
                ),
            ],
        ),
        Question(
            "itg",
            "In ITG the queries may not look at the text. Why?",
            [
                Choice(
                    "The text is not known at training time.",
                    "It is known: it is the target.",
                ),
                Choice(
                    "It would cost too much.",
                    "The mask saves nothing here; it decides what can be learned.",
                ),
                Choice(
                    "They would carry the text to its own prediction, and the picture would not "
                    "be needed.",
                    "Each token sees all queries. What these have read of later tokens would leak.",
                    right=True,
                ),
            ],
        ),
        Question(
            "hidden-states",
            "You pass the queries to a decoder-only language model as encoder_hidden_states. "
            "What happens?",
            [
                Choice(
                    "It attends to them in its cross-attention.",
                    "A decoder-only model has none.",
                ),
                Choice(
                    "Its logits do not change, or the call is refused.",
                    "There is no layer that reads them. A prefix of inputs_embeds is read by "
                    "every layer.",
                    right=True,
                ),
                Choice(
                    "They are put before the text.",
                    "Nobody does that but you, with inputs_embeds.",
                ),
            ],
        ),
        Question(
            "frozen",
            "The language model is frozen: requires_grad is False for each of its weights. Do "
            "gradients "
            "flow through it?",
            [
                Choice(
                    "No, that is what frozen means.",
                    "Then the prompt could not be learned.",
                ),
                Choice(
                    "Only through its last layer.",
                    "The prompt enters at the first layer: the gradient passes them all.",
                ),
                Choice(
                    "Yes: to its inputs, and so to the projection and the Q-Former.",
                    "A frozen weight gets no gradient itself; the chain rule still goes through. "
                    "Under "
                    "torch.no_grad nothing would be learned.",
                    right=True,
                ),
            ],
        ),
        Question(
            "itm",
            "ITM looks at picture and text together and is more exact than ITC. Why not rank a "
            "million "
            "pictures by it?",
            [
                Choice(
                    "Each pair takes a pass of its own; ITC's vectors are computed once a picture.",
                    "So ITC makes a short list, and ITM orders it: the paper does that with 128.",
                    right=True,
                ),
                Choice(
                    "It is not differentiable.",
                    "It is, and ranking needs no gradient.",
                ),
                Choice(
                    "Its scores can't be compared between texts.",
                    "They are probabilities of the same question.",
                ),
            ],
        ),
    ],
)
