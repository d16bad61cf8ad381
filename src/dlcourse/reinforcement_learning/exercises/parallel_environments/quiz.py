"""122.1c: the quiz on many environments at once."""

from dlcourse.exercises import Choice, Question, Quiz

QUIZ = Quiz(
    key="122.1c",
    questions=[
        Question(
            "flat",
            "An action's advantage is −1, and its ratio is 1.5, with ε = 0.2. What does PPO's "
            "objective do?",
            [
                Choice(
                    "It has no slope: the ratio is outside the bounds.",
                    "That holds for a positive advantage. The minimum takes the product that is "
                    "worse, and here that is the one that is not clipped.",
                ),
                Choice(
                    "It pulls the ratio down.",
                    "The bad action has become more probable. The unclipped product, −1.5, is the "
                    "smaller one, and keeps its slope.",
                    right=True,
                ),
                Choice(
                    "It pushes the ratio up.",
                    "A larger ratio makes the objective smaller, as the advantage is negative.",
                ),
            ],
        ),
        Question(
            "limit",
            "A pendulum's episode stops after 200 steps because of a limit. What is the target of "
            "the last step's value?",
            [
                Choice(
                    "The reward alone: nothing comes after.",
                    "The pendulum would have swung on. Only the clock stopped, which the agent "
                    "can't see.",
                ),
                Choice(
                    "The reward plus γ times the value of the first state of the next episode.",
                    "That state was put there by the reset, and says nothing about this action.",
                ),
                Choice(
                    "The reward plus γ times the value of the state that was reached.",
                    "The time limit is no part of the task: the state had a future.",
                    right=True,
                ),
            ],
        ),
        Question(
            "more",
            "With 1,024 environments two gradient estimates have a cosine of 0.97. What do 4,096 "
            "environments bring?",
            [
                Choice(
                    "Little: the gradient hardly has any noise left.",
                    "Past the noise scale a larger batch points the same way. Shorter rollouts "
                    "would use the environments better.",
                    right=True,
                ),
                Choice(
                    "A quarter of the updates.",
                    "That holds where noise dominates, and the cosine is small.",
                ),
                Choice(
                    "Wrong gradients: the data are off-policy.",
                    "All environments act by the present policy, however many they are.",
                ),
            ],
        ),
        Question(
            "where",
            "Why does a batched environment draw a new start for every row, at each step, although "
            "few have ended?",
            [
                Choice(
                    "So that all episodes have equal lengths.",
                    "Only ended rows take their new start; lengths stay as they are.",
                ),
                Choice(
                    "To choose rows, the program would have to wait for the GPU.",
                    "The number of ended rows sets a shape, and the CPU must know it. A `where` over "
                    "all rows needs no answer.",
                    right=True,
                ),
                Choice(
                    "A generator draws better numbers in large batches.",
                    "The numbers' quality is the same.",
                ),
            ],
        ),
        Question(
            "ratio",
            "A rollout stores the observations as they came. Running statistics normalise them "
            "when the agent acts, and once more at the update. In between, the rollout is counted "
            "into the statistics. What happens in the first minibatch?",
            [
                Choice(
                    "Nothing: the policy's weights have not changed.",
                    "The same weights get other inputs, and give other probabilities.",
                ),
                Choice(
                    "The ratio isn't 1, although no step was taken.",
                    "The old log-probability was computed with other statistics. Ours change after "
                    "the update only. Where the normalised observations are stored, as with "
                    "VecNormalize of stable-baselines3 and NormalizeObservation of Gymnasium, the "
                    "ratio starts at 1.",
                    right=True,
                ),
                Choice(
                    "The advantages become biased.",
                    "They were computed before, from rewards and values that are not touched.",
                ),
            ],
        ),
    ],
)
