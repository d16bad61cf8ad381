"""119.1a: the quiz on distributed training."""

from dlcourse.exercises import Choice, Question, Quiz

QUIZ = Quiz(
    key="119.1a",
    questions=[
        Question(
            "world-size",
            "Where does a process started by torchrun learn the number of ranks?",
            [
                Choice(
                    "From its environment: WORLD_SIZE.",
                    "And its own number from RANK, its device from LOCAL_RANK.",
                    right=True,
                ),
                Choice(
                    "From the arguments of the script: nodes × GPUs.",
                    "If they differ from what was launched, the group waits for ranks that "
                    "never come.",
                ),
                Choice(
                    "From the number of GPUs that it sees.",
                    "That is at most the number on its own machine.",
                ),
            ],
        ),
        Question(
            "wrap",
            "A whole model is wrapped as one FSDP unit. What is saved at the peak?",
            [
                Choice("All but 1/N of the weights.", "That holds between the steps only."),
                Choice(
                    "No weights: all of them are gathered at once.",
                    "Gradients and optimizer state stay sharded, but for the peak of the "
                    "weights to fall the blocks must be sharded one by one.",
                    right=True,
                ),
                Choice("Everything but the activations.", "Gathering one unit gathers all of it."),
            ],
        ),
        Question(
            "ring",
            "A tensor of 1 GB is summed over 8 ranks in a ring, then over 64. How much longer does "
            "the second take, if the latency can be left out?",
            [
                Choice(
                    "Hardly: 2 · 63/64 of its bytes pass each link, after 2 · 7/8.",
                    "A factor of 1.125. The latency, which counts for small tensors, grows by 9.",
                    right=True,
                ),
                Choice("Eight times.", "Each message carries only a 64th of the tensor then."),
                Choice("It is eight times faster.", "Every rank still needs the whole sum."),
            ],
        ),
        Question(
            "unequal",
            "Rank 0 has 10 examples of a batch and rank 1 has 30. Each takes the gradient of its "
            "mean loss, and data parallelism averages the two. What comes out?",
            [
                Choice(
                    "The gradient of the mean over all 40.",
                    "It would, if both had 20. Here each rank counts half, however much it has.",
                ),
                Choice(
                    "A mean in which an example of rank 0 counts three times as much.",
                    "1/20 against 1/60. Weight each rank by its share of the examples, or cut the "
                    "batch into equal parts.",
                    right=True,
                ),
                Choice(
                    "The gradient of the sum over all 40.",
                    "Means of means are means still: nothing was multiplied by a count.",
                ),
            ],
        ),
        Question(
            "stage-three",
            "What does ZeRO's stage 3 save beyond stage 2, and what does it cost?",
            [
                Choice(
                    "It shards the weights; each block is gathered before it is used.",
                    "Twice in a step, forward and backward: half as much traffic again as plain "
                    "data parallelism.",
                    right=True,
                ),
                Choice(
                    "It shards the optimizer's state; each step ends in a gather.",
                    "That is stage 1, and the largest part of the saving with Adam.",
                ),
                Choice(
                    "It shards the activations; they are computed twice.",
                    "No stage does. Recomputation saves activations, with or without ZeRO.",
                ),
            ],
        ),
    ],
)
