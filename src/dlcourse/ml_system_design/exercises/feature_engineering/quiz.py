"""123.1: the quiz on feature engineering."""

from dlcourse.exercises import Choice, Question, Quiz

QUIZ = Quiz(
    key="123.1",
    questions=[
        Question(
            "fit",
            "Which of these may see the test rows?",
            [
                Choice(
                    "The vocabulary of TF-IDF, since it reads no target.",
                    "It is learned too, and at serving the later texts are not there.",
                ),
                Choice(
                    "`transform`, and nothing else.",
                    "All that is learned comes from training rows; transform looks it up.",
                    right=True,
                ),
                Choice(
                    "The choice of the best features, if the model is fitted on training rows.",
                    "The choice reads the test targets: of noise alone it makes high scores.",
                ),
            ],
        ),
        Question(
            "skew",
            "A service fits TF-IDF anew on each batch. The number of columns is right. What "
            "happens?",
            [
                Choice(
                    "Column j is another word than in training, and no error is raised.",
                    "The model multiplies its weights with other words' values.",
                    right=True,
                ),
                Choice(
                    "The model raises an error.",
                    "It checks the width at most, and the width is right.",
                ),
                Choice(
                    "Nothing, if the batch is large.",
                    "A large batch has a similar vocabulary, and one word more or less shifts all "
                    "columns behind it.",
                ),
            ],
        ),
        Question(
            "target",
            "A category with a thousand levels is encoded by the mean target of all training rows. "
            "Why is the training score too good?",
            [
                Choice(
                    "A thousand levels are too many for a linear model.",
                    "The model gets one number a row.",
                ),
                Choice(
                    "The test rows were encoded too.",
                    "They are encoded by training's means, which is right.",
                ),
                Choice(
                    "Each training row's own target is in its feature.",
                    "With a few rows a level it is a large part of the mean. Cross-fitting takes "
                    "the mean of other folds.",
                    right=True,
                ),
            ],
        ),
        Question(
            "time",
            "A model is trained on features as they stand in the table today. What must be asked?",
            [
                Choice(
                    "Whether each value was available when the event happened.",
                    "What changed after the event, perhaps because of it, is not there in service.",
                    right=True,
                ),
                Choice(
                    "Whether the validation rows were drawn at random.",
                    "A random split has the same leak in both parts and shows a high score.",
                ),
                Choice(
                    "Whether the newest values are used.",
                    "The newest are the danger: they may be of the event's future.",
                ),
            ],
        ),
        Question(
            "compare",
            "Which check finds that serving has swapped the rows of two requests?",
            [
                Choice(
                    "A test that each feature has the distribution that it had in training.",
                    "Two rows swapped have the same distribution.",
                ),
                Choice(
                    "A schema with names, types and bounds.",
                    "Each value is valid. It stands in the wrong row.",
                ),
                Choice(
                    "Computing the same requests in batch, and comparing cell by cell.",
                    "Rows are paired by their id, so each must have its own values.",
                    right=True,
                ),
            ],
        ),
    ],
)
