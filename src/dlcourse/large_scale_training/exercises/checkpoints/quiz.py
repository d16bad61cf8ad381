"""119.1b: the quiz on checkpoints."""

from dlcourse.exercises import Choice, Question, Quiz

QUIZ = Quiz(
    key="119.1b",
    questions=[
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
        Question(
            "flipped",
            "One bit of a checkpoint's file changes on the disk; the length stays. What notices?",
            [
                Choice(
                    "The loader: the bytes no longer fit the tensor's shape.",
                    "Shape and dtype are as they were, and any bytes are numbers of some size.",
                ),
                Choice(
                    "The loss: it is NaN from the first step on.",
                    "Only with luck. One weight that is wrong may show in no curve for long.",
                ),
                Choice(
                    "A checksum that was stored when the file was written.",
                    "Compare it before anything is written into the model.",
                    right=True,
                ),
            ],
        ),
        Question(
            "resized",
            "A run on 4 ranks goes on with 3, and should see the same batches as before. What must "
            "the checkpoint hold for that?",
            [
                Choice(
                    "The step, if the order follows from seed and epoch.",
                    "The batch of a step then depends on no rank: the ranks only divide it.",
                    right=True,
                ),
                Choice(
                    "Each rank's place in its own part of the data.",
                    "Three ranks have other parts than four: the places fit none of them.",
                ),
                Choice(
                    "The indices that have been read so far.",
                    "They say what is left, in no order, and fill a list as long as the epoch. The step "
                    "tells both what is left and what comes next.",
                ),
            ],
        ),
        Question(
            "dropout",
            "The number of ranks has changed. What should become of the random state that dropout "
            "draws from?",
            [
                Choice(
                    "All ranks load the state of rank 0.",
                    "Then all of them drop the same units, and their noise no longer averages out.",
                ),
                Choice(
                    "Each rank begins a new stream, from seed, rank and step.",
                    "The streams are apart, and the run can be repeated.",
                    right=True,
                ),
                Choice(
                    "It can be left out of every checkpoint.",
                    "With as many ranks as before it makes the resumed run equal to one that was "
                    "never stopped.",
                ),
            ],
        ),
        Question(
            "asynchronous",
            "An asynchronous save returns before its files are on the disk. What must it have done "
            "by then?",
            [
                Choice(
                    "Nothing: the background thread does all.",
                    "The next optimizer step would write into the tensors while they are saved.",
                ),
                Choice(
                    "Copied the tensors.",
                    "The copy is of one step, whatever the training does to the originals.",
                    right=True,
                ),
                Choice(
                    "Replaced the name of the version that counts.",
                    "A crash would then leave a name whose files are not complete.",
                ),
            ],
        ),
    ],
)
