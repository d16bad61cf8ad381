"""123.3: the quiz on monitoring."""

from dlcourse.exercises import Choice, Question, Quiz

QUIZ = Quiz(
    key="123.3",
    questions=[
        Question(
            "many",
            "A monitor tests 100 features each hour at α = 0.05, without correction. Nothing "
            "drifts. What comes?",
            [
                Choice(
                    "An alarm in about one report of twenty.",
                    "That is one test. A report has a hundred of them.",
                ),
                Choice(
                    "About five alarms in each report.",
                    "A hundred tests at 0.05 give five on average, and nearly every report has one.",
                    right=True,
                ),
                Choice(
                    "None, since nothing drifts.",
                    "α is the probability of an alarm where nothing drifts.",
                ),
            ],
        ),
        Question(
            "significant",
            "In a window of a million rows a feature has p = 10⁻⁹ and D = 0.005. What do you do?",
            [
                Choice(
                    "Wake someone: the p-value is tiny.",
                    "It says that the change is real. With a million rows each trifle is.",
                ),
                Choice(
                    "Take a sample of 500 rows, so that it is no longer significant.",
                    "That throws information away. Ask for an effect instead.",
                ),
                Choice(
                    "Nothing: the change is real and small.",
                    "The shares differ by at most half a per cent anywhere.",
                    right=True,
                ),
            ],
        ),
        Question(
            "stream",
            "Successive rows of a feature resemble each other, with τ = 19. A KS test of 500 rows "
            "takes them as independent. Then",
            [
                Choice(
                    "it raises false alarms in most windows.",
                    "500 rows are worth about 26 for a mean; the test believes in 500.",
                    right=True,
                ),
                Choice(
                    "it misses most drift.",
                    "It is too eager: chance differences of two stretches look like drift.",
                ),
                Choice(
                    "nothing changes, as KS assumes no distribution.",
                    "It assumes no shape, and does assume independent rows.",
                ),
            ],
        ),
        Question(
            "joint",
            "Every feature's test is silent, and the model has become worse. Could the inputs have "
            "drifted?",
            [
                Choice(
                    "No: each feature is as it was.",
                    "Each alone, yes. What holds between them may have changed.",
                ),
                Choice(
                    "Yes: their dependence may have changed; test jointly.",
                    "MMD or a classifier sees it. The labels' relation to inputs may have changed "
                    "too, which no test of inputs sees.",
                    right=True,
                ),
                Choice(
                    "Only if the correction was Bonferroni's.",
                    "No correction makes a single test see a correlation.",
                ),
            ],
        ),
        Question(
            "percentile",
            "Ten servers report their p99 each minute. How do you get the p99 of all?",
            [
                Choice(
                    "The mean of the ten.",
                    "One slow server moves the p99 of all far less or far more than the mean.",
                ),
                Choice(
                    "The largest of the ten.",
                    "That is the worst server's, which may serve few requests.",
                ),
                Choice(
                    "Each sends its sketch; the counts are added.",
                    "Counts of buckets add up, percentiles do not.",
                    right=True,
                ),
            ],
        ),
        Question(
            "hysteresis",
            "A p99 swings around its threshold of 200 ms for an hour, and the rule sends 40 "
            "messages. What mends the rule?",
            [
                Choice(
                    "Raise at 300 ms.",
                    "A metric may swing around 300 ms as well.",
                ),
                Choice(
                    "Clear it at a lower value, and ask that the state lasts.",
                    "Noise then has to cross the whole gap, for some time.",
                    right=True,
                ),
                Choice(
                    "Silence it for a day.",
                    "Then the next incident is silent too.",
                ),
            ],
        ),
    ],
)
