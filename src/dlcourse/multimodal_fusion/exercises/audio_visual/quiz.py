"""121.1a: the quiz on sound and picture."""

from dlcourse.exercises import Choice, Question, Quiz

QUIZ = Quiz(
    key="121.1a",
    questions=[
        Question(
            "batch-first",
            "nn.MultiheadAttention gets features (batch, time, width), and batch_first is left "
            "out. Batch and lengths are equal. What happens?",
            [
                Choice(
                    "It raises an error.",
                    "Only if lengths differ. With equal ones every shape fits.",
                ),
                Choice(
                    "Each example attends over the examples of the batch.",
                    "The first axis is taken for time. An answer then depends on who else is in "
                    "the batch, and no error says so.",
                    right=True,
                ),
                Choice(
                    "It only runs slower.",
                    "The numbers are others: the softmax runs over the batch.",
                ),
            ],
        ),
        Question(
            "late",
            "Late fusion averages the logits of two networks. Which question can't it answer?",
            [
                Choice(
                    "Whether the ring was seen while the hum was heard.",
                    "The logit is a function of the sound plus a function of the pictures. No "
                    "term looks at both.",
                    right=True,
                ),
                Choice(
                    "Whether a hum was heard and a ring was seen.",
                    "A sum of evidence does well here: both terms are high.",
                ),
                Choice(
                    "Whether a hum was heard before a hiss.",
                    "One stream can answer that by itself.",
                ),
            ],
        ),
        Question(
            "clock",
            "Sound has 32 tokens a second, video 16. Both get sinusoids of their token's number. "
            "Where do embeddings agree best?",
            [
                Choice(
                    "At the same time.",
                    "Token 16 lies at half a second in the sound, and at one second in the video.",
                ),
                Choice(
                    "Nowhere: they were not learned.",
                    "Sinusoids of the same number are equal, learned or not.",
                ),
                Choice(
                    "At the same number, so at different times.",
                    "The embedding says the number. Give it seconds, and both share a clock.",
                    right=True,
                ),
            ],
        ),
        Question(
            "bottleneck",
            "MBT: in one layer with a bottleneck, what can a sound token read of the pictures?",
            [
                Choice(
                    "Everything, through cross-attention.",
                    "There is no attention from sound to pictures: only to the shared tokens.",
                ),
                Choice(
                    "What the shared tokens collected in earlier layers.",
                    "The two streams update the shared tokens at the same time; what they read now "
                    "was put there before.",
                    right=True,
                ),
                Choice(
                    "Nothing, in any layer.",
                    "From the second such layer on, shared tokens carry what the pictures wrote.",
                ),
            ],
        ),
        Question(
            "residual",
            "Attention from sound to pictures, without a residual connection. The picture stands "
            "still. What is left of the sound in the output?",
            [
                Choice(
                    "Nothing.",
                    "All values are equal, so all weights give the same mean. A residual keeps the "
                    "sound.",
                    right=True,
                ),
                Choice(
                    "All: the queries come from it.",
                    "Queries make weights. A weighted mean of equal values is that value.",
                ),
                Choice(
                    "Its length only.",
                    "The length of the output is the sound's, but after the mean over time not "
                    "even that.",
                ),
            ],
        ),
        Question(
            "dropout",
            "Modality dropout leaves out the sound or the pictures of an example at random. Why "
            "never both?",
            [
                Choice(
                    "Two empty streams make the softmax NaN.",
                    "In nn.MultiheadAttention they would. Ours reads zeros there, and each stream has "
                    "a learned first token, so that is no reason.",
                ),
                Choice(
                    "It halves the batch.",
                    "The batch keeps its size: examples lose a modality, and stay.",
                ),
                Choice(
                    "From nothing there is nothing to learn but the class frequencies.",
                    "The example would teach the bias, at the price of a training example.",
                    right=True,
                ),
            ],
        ),
    ],
)
