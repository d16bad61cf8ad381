"""121.1b: the quiz on audio tagging."""

from dlcourse.exercises import Choice, Question, Quiz

QUIZ = Quiz(
    key="121.1b",
    questions=[
        Question(
            "hop",
            "You halve the hop length of a log-mel spectrogram and leave n_fft as it is. What do "
            "you gain?",
            [
                Choice(
                    "Finer pitch.",
                    "How near two tones may be is set by n_fft: sample_rate / n_fft is the "
                    "distance of its frequencies.",
                ),
                Choice(
                    "Sharper onsets: two clicks 5 ms apart become separate.",
                    "A window of 25 ms still holds both clicks. For that, n_fft must shrink.",
                ),
                Choice(
                    "Twice the frames, each blurred over the same stretch of time as before.",
                    "The window is as long as it was. Neighbouring frames share more of it.",
                    right=True,
                ),
            ],
        ),
        Question(
            "logits",
            "A model returns sigmoid(z), and the loss is binary_cross_entropy. For a clip without "
            "the class, z is 20, in float32. What gradient reaches z?",
            [
                Choice(
                    "About 1, as the answer is wrong.",
                    "That is the gradient of the loss on logits. Here the sigmoid has rounded to "
                    "exactly 1, and its slope p (1 − p) to 0.",
                ),
                Choice(
                    "0: the model does not learn from its surest errors.",
                    "The sigmoid is flat there, to the last bit. From logits the gradient is "
                    "sigmoid(z) − y = 1.",
                    right=True,
                ),
                Choice(
                    "Infinity.",
                    "log 0 is avoided: PyTorch's loss cuts the logarithm at −100. What is left "
                    "is a finite loss without a gradient.",
                ),
            ],
        ),
        Question(
            "map-bias",
            "You add 3 to all logits of one class. What becomes of the mAP?",
            [
                Choice(
                    "Nothing.",
                    "Only the order of the clips within each class counts. A model with a perfect "
                    "mAP can be useless at the threshold 0.5.",
                    right=True,
                ),
                Choice(
                    "It falls, as there are more false positives.",
                    "At a fixed threshold there are. But average precision has no threshold.",
                ),
                Choice(
                    "It rises for rare classes.",
                    "That is what a weight on positives does to recall at a threshold, not to "
                    "the ranking.",
                ),
            ],
        ),
        Question(
            "chance",
            "A class is in 2 % of the clips. Random scores have which average precision, about?",
            [
                Choice("50 %.", "That is the area under the ROC curve by chance."),
                Choice(
                    "2 %.",
                    "Whatever the rank, 2 % of what lies above are positives. So an AP of 20 % "
                    "for a rare class can be good, and for a frequent one poor.",
                    right=True,
                ),
                Choice("0.", "Some positives stand high by luck."),
            ],
        ),
        Question(
            "split",
            "You mix 10,000 clips from 200 recordings and split the *clips* at random into "
            "training and test. What does the test score tell?",
            [
                Choice(
                    "How well it recognises new recordings, as no clip is in both parts.",
                    "No clip, but every recording is. Split the sources first, then mix.",
                ),
                Choice(
                    "Nothing at all.",
                    "It answers a question, only not the one that is mostly meant.",
                ),
                Choice(
                    "How well the model recognises these 200 recordings in new mixtures.",
                    "Each recording is on both sides. For new recordings the score says little.",
                    right=True,
                ),
            ],
        ),
        Question(
            "specaugment",
            "Why does SpecAugment fill a mask with the clip's mean, and not with 0?",
            [
                Choice(
                    "Because 0 in a log-mel spectrogram is not silence but a loud value.",
                    "The logarithm of power 1 is 0; silence is at −23 here. In the paper the "
                    "spectrograms are normalised to mean 0, so there 0 is the mean.",
                    right=True,
                ),
                Choice(
                    "So that the label can still be read from the mask.",
                    "The mask should hold no information about the label.",
                ),
                Choice(
                    "It makes no difference after batch normalisation.",
                    "A constant far from all other values shifts the statistics of the batch.",
                ),
            ],
        ),
    ],
)
