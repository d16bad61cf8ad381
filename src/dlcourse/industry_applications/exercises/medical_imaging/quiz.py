"""124.1a: the quiz on medical images."""

from dlcourse.exercises import Choice, Question, Quiz

QUIZ = Quiz(
    key="124.1a",
    questions=[
        Question(
            "cut",
            "You want a sensitivity of 0.95. Which cut do you put on the probability?",
            [
                Choice(
                    "0.95.",
                    "That is the share of the sick to be found, not a probability of one case.",
                ),
                Choice(
                    "One that validation cases choose, with room for their number.",
                    "The sick cases' scores decide, and the fewer they are, the lower it must lie.",
                    right=True,
                ),
                Choice("0.05.", "A calibrated model may find 80 % or 100 % of the sick there."),
            ],
        ),
        Question(
            "promise",
            "The threshold has a sensitivity of exactly 0.95 on 100 sick validation cases. On new "
            "cases of the same population it is",
            [
                Choice(
                    "at least 0.95.",
                    "Chance chose these cases, and the threshold was fitted to them.",
                ),
                Choice(
                    "below 0.95 about every second time.",
                    "That is what a fit without room gives.",
                    right=True,
                ),
                Choice("0.95, as the set is large.", "Its standard error is 0.02."),
            ],
        ),
        Question(
            "prevalence",
            "The model moves from a clinic (half are sick) to a screening (1 % are). Its "
            "sensitivity and specificity stay. What changes?",
            [
                Choice("Nothing.", "What a positive result means changes much."),
                Choice(
                    "The AUC.",
                    "It looks at pairs of a sick and a healthy case, however many there are.",
                ),
                Choice(
                    "The share of positive results that are right, and the calibration.",
                    "Both depend on the prevalence, by Bayes' rule.",
                    right=True,
                ),
            ],
        ),
        Question(
            "temperature",
            "You divide all logits by T = 2. What changes?",
            [
                Choice(
                    "The ECE, not the AUC.",
                    "The order stays, the probabilities move.",
                    right=True,
                ),
                Choice("Both.", "Dividing by a positive number keeps the order, and so the AUC."),
                Choice("Neither.", "Each probability moves towards 0.5."),
            ],
        ),
        Question(
            "map",
            "The heat map lies on the lesion in 97 % of the pictures. What follows?",
            [
                Choice("The network is right for the right reason.", "It says where, and not why."),
                Choice("Nothing at all.", "A map on a marker would have shown a shortcut."),
                Choice(
                    "This test found no shortcut; draw the weights anew as another.",
                    "A map that survives new weights would be about the picture alone.",
                    right=True,
                ),
            ],
        ),
        Question(
            "unlike",
            "A calibrated model gives 0.02 for a photograph of a retina, and was trained on "
            "X-rays.",
            [
                Choice(
                    "It is 98 % sure that there is nothing.",
                    "Calibration holds for images like the validation cases.",
                ),
                Choice(
                    "The probability means nothing; the distance from the training images must "
                    "speak.",
                    "So there are two reasons to ask a person.",
                    right=True,
                ),
                Choice("Temperature scaling mends it.", "One T for all images can't."),
            ],
        ),
    ],
)
