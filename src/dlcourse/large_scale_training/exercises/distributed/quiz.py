"""119.1a: the quiz on training infrastructure."""

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
            "killed",
            "A rank is killed while a checkpoint is saved beside the previous one. What is loaded "
            "afterwards?",
            [
                Choice(
                    "The previous one, or the new one if it was complete: never a mixture.",
                    "The name of the version that counts is replaced in one act, after all data "
                    "are on the disk.",
                    right=True,
                ),
                Choice(
                    "The new one, as far as it was written.",
                    "Then some tensors would be of another step than the others.",
                ),
                Choice(
                    "Nothing: the run begins again.",
                    "That is what happens when the new one is written over the old one.",
                ),
            ],
        ),
        Question(
            "checkpoint",
            "A checkpoint holds the plain state dicts of model and Adam. It is loaded into fresh "
            "ones through `dcp.load`. What comes back?",
            [
                Choice("Both.", "The fresh Adam has no state yet, and so no place to load into."),
                Choice(
                    "The model only.",
                    "`get_state_dict` makes the optimizer's state first, and `set_state_dict` "
                    "puts it back.",
                    right=True,
                ),
                Choice("Neither.", "The model's tensors are there to be filled."),
            ],
        ),
    ],
)
