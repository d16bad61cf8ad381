"""120.1b: the quiz on self-distillation."""

from dlcourse.exercises import Choice, Question, Quiz

QUIZ = Quiz(
    key="120.1b",
    questions=[
        Question(
            "centering-alone",
            "The teacher's scores are centred, but its temperature equals the student's. Where "
            "does training end?",
            [
                Choice(
                    "At the uniform distribution for every image.",
                    "Centring pulls all prototypes level, and nothing pulls them apart.",
                    right=True,
                ),
                Choice(
                    "At one prototype for every image.",
                    "That is what happens without centring: the centre takes such a lead away.",
                ),
                Choice(
                    "At good features, only later.",
                    "The uniform answer has no gradient that leads away from it.",
                ),
            ],
        ),
        Question(
            "kl-zero",
            "In a run of DINO the divergence KL(teacher ‖ student) is 0 from step 50 on. It means:",
            [
                Choice(
                    "The student has learned all there is.",
                    "On different views of an image the two hardly ever agree entirely, if their "
                    "answers still depend on the image. To be sure, look whether these do.",
                ),
                Choice(
                    "The run has collapsed.",
                    "Both give one answer whatever they see, so there is nothing left to learn.",
                    right=True,
                ),
                Choice(
                    "The momentum is too large.",
                    "A slow teacher differs from the student; it would not be equal to it.",
                ),
            ],
        ),
        Question(
            "local-views",
            "Who sees the small (local) crops?",
            [
                Choice(
                    "Both networks.",
                    "Then a target could be made from a corner of the image.",
                ),
                Choice(
                    "The teacher only.",
                    "The targets come from large crops: they should know the whole.",
                ),
                Choice(
                    "The student only.",
                    "It must tell from a part what the teacher sees in the whole.",
                    right=True,
                ),
            ],
        ),
        Question(
            "sinkhorn",
            "A constant c_k is added to the score of prototype k for every image. What does "
            "Sinkhorn–Knopp give?",
            [
                Choice(
                    "The same as before.",
                    "The first scaling of the columns removes the factor exp(c_k/τ) exactly: it "
                    "centres by itself.",
                    right=True,
                ),
                Choice("More mass for prototype k.", "So would a softmax without a centre."),
                Choice("Rows that no longer sum to 1.", "Each round ends with the rows."),
            ],
        ),
        Question(
            "ibot",
            "What does the student see where iBOT hides a patch, and what is its target?",
            [
                Choice(
                    "A mask token; the pixels of the patch.",
                    "That is SimMIM. Here the target is made by a network.",
                ),
                Choice(
                    "Nothing, the patch is left out; the teacher's answer.",
                    "Leaving out is what MAE does. The student of iBOT gets a token in its place.",
                ),
                Choice(
                    "A mask token; the teacher's distribution for that patch, which it sees.",
                    "The teacher gets the whole image, so its answer is worth predicting.",
                    right=True,
                ),
            ],
        ),
        Question(
            "weights",
            "Why must the teacher's weights be held in float32 when training runs in bfloat16?",
            [
                Choice(
                    "The teacher's softmax would overflow.",
                    "bfloat16 has the range of float32; its 8 bits of precision are the problem.",
                ),
                Choice(
                    "An update is a small share of the difference to the student, and is rounded away.",
                    "Neighbouring bfloat16 numbers lie 0.4 to 0.8 % of their size apart. With momentum "
                    "0.996 an update is 0.4 % of the difference, which is itself a small part of the "
                    "weight: the teacher stands still.",
                    right=True,
                ),
                Choice(
                    "EMA needs no precision, it is an average.",
                    "An average of many small changes needs it most.",
                ),
            ],
        ),
    ],
)
