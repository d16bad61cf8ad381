"""123.2c: the quiz on scaling out."""

from dlcourse.exercises import Choice, Question, Quiz

QUIZ = Quiz(
    key="123.2c",
    questions=[
        Question(
            "shared-queue",
            "Ten replicas, each with a queue of its own, against ten that take from one queue. Which "
            "waits less, and why?",
            [
                Choice(
                    "One queue: no replica is idle while a request waits elsewhere.",
                    "So its wait is a lower bound for every balancer that sends requests on at once.",
                    right=True,
                ),
                Choice(
                    "Ten queues, since each is a tenth as long.",
                    "Each also has a tenth of the servers.",
                ),
                Choice(
                    "Both the same, as the load is the same.",
                    "The load is, but behind one queue an idle replica helps whoever is next.",
                ),
            ],
        ),
        Question(
            "two-choices",
            "Why not always ask all replicas for the shortest queue?",
            [
                Choice(
                    "The shortest queue is no better than two choices.",
                    "With fresh numbers it is better.",
                ),
                Choice(
                    "With numbers that are old, all requests go to the same replica.",
                    "And asking all costs more messages. Two that are drawn spread the requests.",
                    right=True,
                ),
                Choice("It needs a lock.", "A balancer can count without one."),
            ],
        ),
        Question(
            "utilisation",
            "An autoscaler aims at 70 % utilisation. The load jumps to three times the capacity. What "
            "does it see?",
            [
                Choice(
                    "100 %, as it would at a load just above the capacity.",
                    "So it asks for 1/0.7 times as many, and again at its next look. A queue's length "
                    "says at once how much is missing.",
                    right=True,
                ),
                Choice("300 %, and so it trebles the fleet.", "No replica is busy more than always."),
                Choice(
                    "70 %, since that is its aim.", "An aim is no measurement."
                ),
            ],
        ),
        Question(
            "kv-cache",
            "What does a cache of keys and values save, for each new token?",
            [
                Choice(
                    "The attention over the tokens before it.",
                    "The new query still looks at all of them.",
                ),
                Choice("The weights.", "All weights are read for each step."),
                Choice(
                    "Reading the tokens before it again, through all layers.",
                    "Their keys and values don't change, since no token sees a later one.",
                    right=True,
                ),
            ],
        ),
        Question(
            "continuous",
            "When does continuous batching gain nothing over static batches?",
            [
                Choice(
                    "When answers are short.",
                    "It is their difference that counts, not their length.",
                ),
                Choice(
                    "When all answers have one length, and a full batch always waits.",
                    "Then no place is ever empty in a static batch either.",
                    right=True,
                ),
                Choice(
                    "When the model is small.",
                    "Empty places are empty whatever the model's size.",
                ),
            ],
        ),
    ],
)
