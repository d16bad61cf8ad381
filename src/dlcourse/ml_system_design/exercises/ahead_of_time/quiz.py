"""123.2b: the quiz on ahead-of-time compilation."""

from dlcourse.exercises import Choice, Question, Quiz

QUIZ = Quiz(
    key="123.2b",
    questions=[
        Question(
            "where-it-gains",
            "At batch 1 a compiled small network is much faster than eager, at batch 128 hardly. "
            "Why?",
            [
                Choice(
                    "Large matrix products were fast already; what is saved is the cost of each "
                    "operator's start.",
                    "That cost is paid once a call, whatever the batch, so its share falls.",
                    right=True,
                ),
                Choice(
                    "The compiler only knows small batches.",
                    "With a dynamic batch the same code runs at each size.",
                ),
                Choice(
                    "Large batches need more memory than the compiler allows.",
                    "It sets no such limit.",
                ),
            ],
        ),
        Question(
            "ahead",
            "What makes a compiled model ahead of time?",
            [
                Choice(
                    "It is compiled before the first request, as the server starts.",
                    "Then each start of each server still compiles.",
                ),
                Choice(
                    "The compiled code is a file, and loading it needs no compiler and no model "
                    "code.",
                    "So it is made once, tested, and copied to many servers.",
                    right=True,
                ),
                Choice(
                    "It is faster than torch.compile.",
                    "Both use the same compiler; which one is faster must be measured.",
                ),
            ],
        ),
        Question(
            "manifest",
            "A compiled file is copied to a server with an older processor. What may happen if "
            "nobody asks?",
            [
                Choice(
                    "It runs more slowly.",
                    "Machine code does not look for other instructions by itself.",
                ),
                Choice(
                    "torch compiles it anew.",
                    "The file has no source that torch would take for that.",
                ),
                Choice(
                    "An instruction that is not there ends the process.",
                    "No exception can be caught then, so it is asked before the code is loaded.",
                    right=True,
                ),
            ],
        ),
        Question(
            "one-row",
            "An example of one row is exported with a dynamic batch. What is special about it?",
            [
                Choice(
                    "torch.export takes the sizes 0 and 1 for constants.",
                    "So the example is doubled first, and then any size from 1 on works.",
                    right=True,
                ),
                Choice(
                    "Nothing: a symbol stands for any number.",
                    "For 0 and 1 rules such as broadcasting differ, so they become constants.",
                ),
                Choice(
                    "It compiles faster.",
                    "One row or two, the compiler sees a graph of the same operators.",
                ),
            ],
        ),
        Question(
            "dynamic-int8",
            "Dynamic quantisation finds the range of the activations at each call. What does that "
            "mean for a service that batches?",
            [
                Choice(
                    "Nothing, since weights are fixed.",
                    "The activations are rounded as well, by a step from their range.",
                ),
                Choice(
                    "A row with large values makes the answers to its neighbours coarser.",
                    "The range is that of the whole tensor, the batch included.",
                    right=True,
                ),
                Choice(
                    "Batches must all have one size.",
                    "Any size runs: the range is found anew at each call.",
                ),
            ],
        ),
    ],
)
