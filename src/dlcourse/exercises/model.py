"""What an exercise and a quiz are made of."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: A section is a number, or a number and a letter where a section fills several pages ("119.1c").
SECTION = r"(?P<chapter>\d{3})\.(?P<section>\d+[a-z]?)"
EXERCISE_KEY = re.compile(SECTION + r"\.[a-z0-9]+(-[a-z0-9]+)*")
QUIZ_KEY = re.compile(SECTION)
DIFFICULTIES = ("predict", "implement", "extend")


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A wrong answer that learners give, and the hint meant for it.

    ``answer`` is what the learner would pass to ``check``: a function, or a value.
    """

    answer: Any
    hint: str


def _validate(key: str, title: str, statement: str, hints: Sequence[str]) -> None:
    if not EXERCISE_KEY.fullmatch(key):
        raise ValueError(
            f"malformed exercise key {key!r}: write chapter, section and a name in lower case, "
            "such as '119.2.lion' or '119.2.predict-beta'"
        )
    for name, text in (("title", title), ("statement", statement)):
        if not text.strip():
            raise ValueError(f"exercise {key}: the {name} is empty")
    if isinstance(hints, str) or not hints or not all(hint.strip() for hint in hints):
        raise ValueError(f"exercise {key}: give at least one hint, none of them empty")


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """An exercise whose answer is a function.

    ``cases(rng)`` draws the arguments of one call from a ``numpy.random.Generator``, as a dict in
    the order of the reference's parameters. ``edges()`` gives those cases that a draw would miss,
    by name: zeros, equal sizes, no warm-up. They always run. Names of a returned tuple's parts go
    in ``returns``; a single result is called "result".

    ``differentiable`` names the arguments that a gradient must reach: the answer's is then
    compared with the reference's. ``returns_new``: the result may not lie in an argument's memory,
    and the statement says so. ``any_float`` names the results whose floating dtype is left open.

    The stub shown to the learner is the reference without its body, and the solution shown on
    the page is the reference itself, so neither can part from what ``check`` compares with. Both
    are shown below ``imports`` and must not use anything else of their module.

    Raises:
        ValueError: a malformed key, an empty title, statement or hint, an unknown difficulty.
    """

    key: str
    title: str
    difficulty: str
    statement: str
    reference: Callable[..., Any]
    cases: Callable[[Any], Mapping[str, Any]]
    hints: Sequence[str]
    mistakes: Mapping[str, Mistake]
    edges: Callable[[], Mapping[str, Mapping[str, Any]]] = dict
    imports: str = ""
    returns: Sequence[str] = ()
    differentiable: Sequence[str] = ()
    returns_new: bool = False
    any_float: Sequence[str] = ()
    discussion: str = ""
    rtol: float = 1e-6
    atol: float = 1e-9
    seconds: float = 5.0

    def __post_init__(self) -> None:
        _validate(self.key, self.title, self.statement, self.hints)
        parameters = set(inspect.signature(self.reference).parameters)
        if unknown := set(self.differentiable) - parameters:
            raise ValueError(f"exercise {self.key}: the reference has no parameters {unknown}")
        if self.difficulty not in DIFFICULTIES:
            raise ValueError(f"exercise {self.key}: difficulty must be one of {DIFFICULTIES}")

    @property
    def variable(self) -> str:
        """The name under which the learner's answer is expected."""
        return self.reference.__name__


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """An exercise whose answer is a number, or one of ``choices``, written down before a run.

    ``experiment()`` is that run, and returns the right answer. Its source is shown, hidden,
    after the check, so that the learner runs what was predicted.

    Raises:
        ValueError: a malformed key, an empty title, statement or hint.
    """

    key: str
    title: str
    statement: str
    experiment: Callable[[], float | str]
    hints: Sequence[str]
    mistakes: Mapping[str, Mistake]
    imports: str = ""
    discussion: str = ""
    choices: Sequence[str] = ()
    rtol: float = 1e-6
    atol: float = 1e-9
    difficulty: str = field(default="predict", init=False)

    def __post_init__(self) -> None:
        _validate(self.key, self.title, self.statement, self.hints)

    @property
    def variable(self) -> str:
        """The name under which the learner's answer is expected."""
        return self.key.split(".", 2)[2].replace("-", "_")

    def accepts(self, answer: float | str, right: float | str) -> bool:
        """Whether ``answer`` counts as ``right``: the same choice, or near enough."""
        if self.choices:
            return str(answer).strip().lower() == str(right).strip().lower()
        return math.isclose(answer, right, rel_tol=self.rtol, abs_tol=self.atol)


@dataclass(frozen=True)
class Choice:
    """One choice of a question, and the reply to whoever picks it."""

    text: str
    reply: str
    right: bool = False


@dataclass(frozen=True)
class Question:
    """A question with one right choice. ``name`` identifies it in the progress file.

    Raises:
        ValueError: not exactly one right choice, or an empty text or reply.
    """

    name: str
    text: str
    choices: Sequence[Choice]

    def __post_init__(self) -> None:
        if sum(choice.right for choice in self.choices) != 1:
            raise ValueError(f"question {self.name!r}: exactly one choice must be right")
        texts = [self.text, *(t for choice in self.choices for t in (choice.text, choice.reply))]
        if not all(text.strip() for text in texts):
            raise ValueError(f"question {self.name!r}: an empty text or reply")


@dataclass(frozen=True)
class Quiz:
    """The questions of a section, whose number (such as ``"119.2"``) is the key.

    Raises:
        ValueError: a malformed key, no question, or two questions of one name.
    """

    key: str
    questions: Sequence[Question]

    def __post_init__(self) -> None:
        if not QUIZ_KEY.fullmatch(self.key):
            raise ValueError(f"malformed quiz key {self.key!r}: write a section, such as '119.2'")
        names = [question.name for question in self.questions]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"quiz {self.key}: it needs questions, each with a name of its own")
