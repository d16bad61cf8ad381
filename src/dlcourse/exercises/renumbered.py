"""Keys that exercises and quizzes had when the progress file was of version 1.

Sections were then numbered otherwise: 119.1b was mixed precision, and is checkpoints now. So each
old key is listed with its new one, and a key that is not listed stays as it is.
"""

from __future__ import annotations

_EXERCISES = {  # old section: new section, and the names that moved there
    ("119.1", "119.1a"): "ring-all-reduce ring-by-hand zero-memory",
    ("119.1", "119.1b"): "data-position predict-dead-worker",
    ("119.1b", "119.1c"): "accumulate clip-unscaled loss-scale-rule predict-loss-scale",
    ("120.1", "120.1a"): (
        "align-and-spread contrastive-loss predict-collapse predict-hardness supervised-contrast"
    ),
    ("120.2", "120.1b"): "dino-loss koleo predict-half-life sinkhorn update-teacher",
    ("120.3", "120.1c"): (
        "average-distance mask-tokens masked-l1 predict-interpolation whole-blocks"
    ),
    ("120.4", "120.2"): "fill-in normalised-loss predict-speedup random-masking",
}
_QUESTIONS = {  # of quizzes, likewise
    ("119.1", "119.1a"): "world-size wrap ring",
    ("119.1", "119.1b"): "killed checkpoint",
    ("119.1b", "119.1c"): "flushed master order schedule nan",
    ("120.1", "120.1a"): "candidates colour stuck temperature head gather",
    ("120.2", "120.1b"): "centering-alone kl-zero local-views sinkhorn ibot weights",
    ("120.3", "120.1c"): "leak block compute median head evaluation",
    ("120.4", "120.2"): "mask-tokens why-so-much positions lowest-loss order",
}

#: New key of each exercise that has one: ``{"119.1b.accumulate": "119.1c.accumulate", …}``.
EXERCISES = {
    f"{old}.{name}": f"{new}.{name}"
    for (old, new), names in _EXERCISES.items()
    for name in names.split()
}
#: New quiz of each question, by old quiz and name: ``{("119.1", "killed"): "119.1b", …}``.
QUESTIONS = {
    (old, name): new for (old, new), names in _QUESTIONS.items() for name in names.split()
}
