"""122.2b: the quiz on contextual bandits."""

from dlcourse.exercises import Choice, Question, Quiz

QUIZ = Quiz(
    key="122.2b",
    questions=[
        Question(
            "width",
            "An arm has a lower estimate than another and a far larger width. LinUCB chooses it. "
            "Why?",
            [
                Choice(
                    "Its reward could be higher, and trying it shows whether it is.",
                    "The bound is what the arm could pay. If it pays less, the width falls and "
                    "the arm is not chosen again for such contexts.",
                    right=True,
                ),
                Choice(
                    "A wide arm has a higher expected reward.",
                    "The estimate is its expected reward. The width says how far it may be off.",
                ),
                Choice(
                    "To treat all arms alike.",
                    "An arm that was seen enough is left alone, however seldom it was chosen.",
                ),
            ],
        ),
        Question(
            "rank-one",
            "What does the formula of Sherman and Morrison save?",
            [
                Choice(
                    "It approximates the inverse, which is enough for choosing.",
                    "It is exact but for rounding; the page compares it with the solution.",
                ),
                Choice(
                    "It makes the inverse from the last one, in O(d²) in place of O(d³).",
                    "One observation changes A by x xᵀ, a matrix of rank one.",
                    right=True,
                ),
                Choice(
                    "Memory: A need not be stored.",
                    "A⁻¹ is as large as A.",
                ),
            ],
        ),
        Question(
            "propensity",
            "Which number must be logged with each choice, so that other policies can be judged "
            "later?",
            [
                Choice(
                    "The estimated reward of the arm.",
                    "A model can be fitted later. The probability of the choice can't.",
                ),
                Choice(
                    "The regret.",
                    "It needs the rewards of the arms that were not chosen. Nobody knows them.",
                ),
                Choice(
                    "The probability with which the arm was chosen.",
                    "Without it there are no importance weights. It can't be had afterwards: the "
                    "policy has learned since.",
                    right=True,
                ),
            ],
        ),
        Question(
            "deterministic",
            "LinUCB without randomness wrote a log. What can IPS say about a policy that takes "
            "other arms?",
            [
                Choice(
                    "The same as for any log.",
                    "IPS needs every arm of the target to have had a chance in the log.",
                ),
                Choice(
                    "Nothing: where the log never takes an arm, its reward was never seen.",
                    "All weights of such arms would need a propensity above 0. Explore a little "
                    "at random, and log it.",
                    right=True,
                ),
                Choice(
                    "It works, with clipping.",
                    "Clipping makes large weights smaller. It gives no rewards that were not seen.",
                ),
            ],
        ),
        Question(
            "effective",
            "A log of 10,000 rows has an effective sample size of 2. What do you conclude?",
            [
                Choice(
                    "The target policy is bad.",
                    "It says how far the policies differ, and nothing about rewards.",
                ),
                Choice(
                    "SNIPS mends it.",
                    "It divides by the same few weights.",
                ),
                Choice(
                    "A few rows carry the estimate: look at the weights, and do not believe the "
                    "interval.",
                    "The standard error itself comes from those few rows.",
                    right=True,
                ),
            ],
        ),
    ],
)
