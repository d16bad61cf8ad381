"""123.2a: the quiz on the model service."""

from dlcourse.exercises import Choice, Question, Quiz

QUIZ = Quiz(
    key="123.2a",
    questions=[
        Question(
            "why-batch",
            "A call of n requests takes a + b·n. What does batching save?",
            [
                Choice(
                    "The part a, which is paid once for all of a batch.",
                    "So capacity goes from 1/(a + b) towards 1/b.",
                    right=True,
                ),
                Choice(
                    "The part b, which gets smaller for each request.",
                    "In this model each request costs b, in whatever batch.",
                ),
                Choice(
                    "Nothing, if the load is low.",
                    "It saves calls at any load; at a low load few requests meet, that is all.",
                ),
            ],
        ),
        Question(
            "greedy",
            "Under greedy batching, what makes batches large?",
            [
                Choice(
                    "A timer, within which more arrive.",
                    "Greedy batching has none: it takes what is there.",
                ),
                Choice(
                    "The load: what arrives during a batch makes the next one.",
                    "So the size follows the load, with nothing to tune.",
                    right=True,
                ),
                Choice(
                    "The largest batch size.",
                    "It is a bound, which is reached under a heavy load only.",
                ),
            ],
        ),
        Question(
            "utilisation",
            "A server without batches is busy 90 % of the time. Load grows by 5 %. What happens to "
            "the mean wait?",
            [
                Choice("It grows by 5 %.", "That would be so if W were proportional to λ."),
                Choice(
                    "It nearly doubles: 1 − ρ falls from 0.1 to 0.055.",
                    "0.945 / 0.055 over 0.9 / 0.1 is 1.9.",
                    right=True,
                ),
                Choice(
                    "It stays, since there is room left.",
                    "Idle time does not help those who come while others are served.",
                ),
            ],
        ),
        Question(
            "overload",
            "Ten times as much is offered as can be served. What should the service do?",
            [
                Choice(
                    "Refuse at once what does not fit into a bounded queue.",
                    "Those it takes get an answer in time, and the others know it at once.",
                    right=True,
                ),
                Choice(
                    "Keep all in a queue, and answer in order.",
                    "The queue grows without end, and answers come after the callers have left.",
                ),
                Choice(
                    "Wait longer for fuller batches.",
                    "Under such a load each batch is full already.",
                ),
            ],
        ),
        Question(
            "closed-load",
            "A load test has 10 clients, each of which waits for its answer before it asks again. "
            "What does it hide?",
            [
                Choice(
                    "The cost of batches.",
                    "It shows up to 10 requests in a batch.",
                ),
                Choice(
                    "The queue: clients ask less when the server is slow.",
                    "At most 10 requests are ever inside. An open load keeps coming.",
                    right=True,
                ),
                Choice("Errors.", "It can count them as well as any other."),
            ],
        ),
    ],
)
