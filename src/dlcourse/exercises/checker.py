"""``check``: run an exercise's cases on a learner's answer, and say what is wrong with it.

Every check runs the same cases, known by their seeds, then the exercise's edge cases by name, then
fresh ones. Grading (``examine_for_grade``) runs the same seeds and edges. What it draws afresh only
tells whether an answer knows those by heart: it fails an answer that is wrong in half of them. So
an answer that ``check`` passed fails at grading with a probability below one in ten thousand,
whatever share of all cases it is wrong in.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import itertools
import linecache
import math
import os
import secrets
import sys
import sysconfig
import textwrap
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from dlcourse.exercises import progress
from dlcourse.exercises.compare import (
    FormDifference, as_float, as_number, describe, described, difference, is_number, is_tensor,
    printable, share_memory, snapshot, type_name,
)  # fmt: skip
from dlcourse.exercises.gradients import Gradients, enabled, gradient_difference, gradients
from dlcourse.exercises.limits import TimeLimit, time_limit
from dlcourse.exercises.model import Exercise, Mistake, Prediction
from dlcourse.exercises.registry import find_exercise

SEEDS = tuple(range(16))  # of the cases that everybody gets
FRESH = 24  # cases of seeds that nobody knows, in a check
FRESH_GRADED = 16  # and in grading
FRESH_SECONDS = 5.0  # a slow answer gets fewer of them

PASSED, FAILED, NOT_ATTEMPTED = "passed", "failed", "not attempted"

WIDTH = 80  # of messages: what fits the output of a notebook beside a file browser

#: A case: the seed that it is drawn from, or the name of an edge case.
Case = int | str


@dataclass
class _Given:
    """The help that an exercise has given so far in this process."""

    hints: int = 0
    explained: set[str] = field(default_factory=set)


_given: defaultdict[str, _Given] = defaultdict(_Given)
_last_case: list[tuple[Exercise, Case]] = []  # the one of the last failure, if there was one


class ExerciseFailed(Exception):
    """The answer is wrong; the message says where, and gives a hint.

    ``case`` has the arguments of the case that failed, if it came to one (see ``last_case``).
    """

    case: dict[str, Any] | None = None

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback: the message alone."""
        return _showable(str(self)).splitlines()


@dataclass(frozen=True)
class Verdict:
    """What an examination found. ``mistake`` names the planted mistake that was recognised.

    ``values_differ`` is false when the answer's values could not be compared at all; the message
    then says what to mend. ``case`` is the case that failed, if it came to one, and ``case_text``
    says which one it was and what its arguments are.
    """

    status: str
    message: str = ""
    values_differ: bool = False
    mistake: str | None = None
    hint: str | None = None
    case: Case | None = None
    case_text: str = ""


@dataclass(frozen=True)
class Outcome:
    """What one call of an answer did. ``complaint`` stands for a result when there is none.

    ``changed`` and ``shared`` name arguments: written into, or in whose memory the result lies.
    ``gradients`` are there where the exercise asks for them, or in their place what went wrong.
    """

    result: Any = None
    changed: tuple[str, ...] = ()
    complaint: str | None = None
    untouched: bool = False
    shared: tuple[str, ...] = ()
    gradients: Gradients | str | None = None


def check(key: str, answer: Any, *, seed: Case | None = None) -> None:
    """Check ``answer``, a function or a value, to the exercise ``key``.

    Prints a line when it is right, or when the stub is untouched (so that a notebook runs
    through). The answer gets copies of all arguments, and a time limit for each case. ``seed``
    tries the one case that a failure named: then nothing is recorded, and nothing is solved yet.

    Raises:
        ExerciseFailed: the answer is wrong. Asking again gives the next hint.
        RegistryError: there is no such exercise.
        ValueError: the exercise has no such edge case.
    """
    exercise = find_exercise(key)
    key = exercise.key
    alone = seed is not None and isinstance(exercise, Exercise)
    if alone:
        verdict = examine(exercise, answer, [seed])
    else:
        fresh = (secrets.randbelow(10**6) for _ in range(FRESH))
        verdict = examine(exercise, answer, fresh=fresh)
    if verdict.status == NOT_ATTEMPTED:
        _tell(f"○ {key}: not attempted yet.\n{_wrap(verdict.message, '  ')}")
    elif verdict.status == PASSED and alone:
        _tell(
            f"{key}: this one case passes, which is not recorded. All cases are run by\n"
            f'  check("{key}", {exercise.variable})'
        )
    elif verdict.status == PASSED:
        _given.pop(key, None)
        progress.record_check(key, passed=True, hints=0)
        _tell(f"✓ {key}: {verdict.message}")
    else:
        _fail(exercise, verdict, alone)


def _fail(exercise: Exercise | Prediction, verdict: Verdict, alone: bool) -> None:
    """Record the failure, unless it is of one case alone, and raise with all that helps."""
    hints: list[str] = []
    if not alone:
        given = _given[exercise.key]
        before = given.hints
        hints = [_wrap(hint) for hint in _hints(exercise, verdict, given)]
        progress.record_check(exercise.key, passed=False, hints=given.hints - before)
    parts = [f"✗ {exercise.key}: not yet.\n{_wrap(verdict.message, '  ')}", *hints]
    failure = ExerciseFailed("\n\n".join([*parts, *filter(None, [verdict.case_text])]))
    if verdict.case is not None and isinstance(exercise, Exercise):
        _last_case[:] = [(exercise, verdict.case)]
        failure.case = last_case()
    raise failure


def last_case() -> dict[str, Any]:
    """The arguments of the case that failed last, by name, as a fresh copy.

    ``f(*last_case().values())`` calls an answer as ``check`` did.

    Raises:
        LookupError: no case has failed yet.
    """
    if not _last_case:
        raise LookupError("no case has failed yet: check an answer first")
    return draw_case(*_last_case[0])


def _tell(text: str) -> None:
    print(_showable(text))


def _showable(text: str) -> str:
    """``text`` without what the output's encoding does not have."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
        return text
    except UnicodeEncodeError:
        for sign, plain in (("✓", "ok"), ("✗", "--"), ("○", "..")):
            text = text.replace(sign, plain)
        return text.encode(encoding, "backslashreplace").decode(encoding)


def _hints(exercise: Exercise | Prediction, verdict: Verdict, given: _Given) -> list[str]:
    """A recognised mistake's own hint each time; the general ones one after another.

    The general hints do not know what is wrong. So they come only when the same thing is asked a
    second time, after what explains itself (a mistake, an error, a wrong shape) has been said, or
    that nothing is known of this result. An answer that can't even be called costs none.
    """
    own = [f"This is what you get when {verdict.hint}"] if verdict.hint else []
    if not verdict.values_differ and not verdict.case_text:
        return own
    known = verdict.mistake or (None if verdict.values_differ else verdict.message)
    if (said := known or "") not in given.explained:
        given.explained.add(said)
        neutral = "It is none of the mistakes that this exercise knows by name."
        again = "Run the check again for a hint."
        return [*own, again] if known else [neutral, again]
    total, was = len(exercise.hints), given.hints
    given.hints = min(was + 1, total)
    hints = [*own, f"Hint {given.hints} of {total}: {exercise.hints[given.hints - 1]}"]
    if was == total:
        hints.append("There are no more hints. The solution is on this section's page.")
    return hints


def _wrap(text: str, indent: str = "") -> str:
    """``text`` in lines that fit a notebook's output without scrolling."""
    return "\n".join(
        textwrap.fill(
            line, WIDTH, initial_indent=indent, subsequent_indent=indent,
            break_long_words=False, break_on_hyphens=False,
        )
        for line in text.splitlines()
    )


def fixed_cases(exercise: Exercise) -> list[Case]:
    """The cases that every check and every grading runs."""
    return [*SEEDS, *exercise.edges()]


def examine(
    exercise: Exercise | Prediction,
    answer: Any,
    cases: Sequence[Case] | None = None,
    fresh: Iterator[int] = iter(()),
) -> Verdict:
    """Judge ``answer`` without printing, recording or raising.

    ``cases`` are by default those that everybody gets; ``fresh`` gives seeds beyond them.
    """
    if isinstance(exercise, Prediction):
        return _examine_value(exercise, answer)
    if answer is None or answer is Ellipsis:
        return Verdict(NOT_ATTEMPTED, f"Write `{exercise.variable}`, then run this cell again.")
    wrong_call = call_problem(exercise, answer)
    if wrong_call:
        return Verdict(FAILED, wrong_call)
    calls = itertools.count()

    def call(inputs: Mapping[str, Any]) -> Outcome:
        return run_case(exercise, answer, inputs, shown=next(calls) == 0)

    return examine_calls(exercise, call, fixed_cases(exercise) if cases is None else cases, fresh)


def examine_calls(
    exercise: Exercise,
    call: Callable[[Mapping[str, Any]], Outcome],
    cases: Sequence[Case],
    fresh: Iterator[int] = iter(()),
) -> Verdict:
    """Judge an answer that is reached through ``call(inputs) -> Outcome``."""
    outcomes: dict[Case, Outcome] = {}
    failure: tuple[Case, str] | None = None  # the first case that failed, and what is wrong there
    for case in _with_fresh(cases, fresh, lambda: failure is None):
        outcome = outcomes[case] = call(draw_case(exercise, case))
        if outcome.untouched:
            advice = "Replace the line that raises NotImplementedError, then run this cell again."
            return Verdict(NOT_ATTEMPTED, advice)
        wrong = _wrong(exercise, outcome, case)
        failure = failure or (wrong and (case, wrong))
        if outcome.complaint:
            break  # an answer that raises or hangs is not asked again
    if failure is None:
        count = len(outcomes)
        return Verdict(PASSED, f"all {count} cases passed. Well done.")
    case, wrong = failure
    about_values = values_differ(outcomes[case], wrong)
    mistake = _recognise(exercise, outcomes, isinstance(wrong, GradientDifference))
    hint = exercise.mistakes[mistake].hint if mistake else None
    number = 1 + list(outcomes).index(case)
    text = _case_text(exercise, case, number, max(number, len(cases)))
    return Verdict(FAILED, printable(wrong), about_values, mistake, hint, case, text)


def _with_fresh(
    cases: Sequence[Case], fresh: Iterator[int], go_on: Callable[[], bool]
) -> Iterator[Case]:
    """``cases``, then as many of ``fresh`` as there is time for, but one at least."""
    yield from cases
    begun, seen = time.monotonic(), set(cases)
    for number, seed in enumerate(fresh):
        if not go_on() or (number and time.monotonic() - begun > FRESH_SECONDS):
            return
        if seed not in seen:
            seen.add(seed)
            yield seed


def examine_for_grade(
    exercise: Exercise, call: Callable[[Mapping[str, Any]], Outcome], fresh: Sequence[int]
) -> Verdict:
    """Judge as ``check`` does, by the cases that everybody gets; ``fresh`` only finds rote answers.

    An answer that is wrong in few of all cases may slip through a check by luck, and must not be
    failed here by bad luck: that would be another verdict on the same work. So it fails by the
    fresh cases only if it is wrong in at least half of them, as an answer is that was fitted to the
    known cases.
    """
    verdict = examine_calls(exercise, call, fixed_cases(exercise))
    if verdict.status != PASSED:
        return verdict
    wrong = 0
    for seed in fresh:
        wrong += bool(_wrong(exercise, call(draw_case(exercise, seed)), seed))
        if 2 * wrong >= len(fresh):
            return Verdict(
                FAILED,
                f"right in the {len(fixed_cases(exercise))} cases that everybody gets, and wrong "
                "in at least half of those that were drawn for this grading: it seems to know "
                "the former by heart",
                values_differ=True,
            )
    return verdict


class GradientDifference(str):
    """What is wrong with the gradients of an answer whose values are right."""


def values_differ(outcome: Outcome, wrong: str) -> bool:
    """Whether there was a result of the right form, so that ``wrong`` is about its values."""
    other = outcome.complaint or outcome.changed or isinstance(wrong, FormDifference)
    return not other and not isinstance(wrong, GradientDifference)


def _case_text(exercise: Exercise, case: Case, number: int, count: int) -> str:
    """Which case it was, its arguments, how to get them and how to repeat it."""
    which = f"the edge case {case!r}" if isinstance(case, str) else f"case {number} of {count}"
    listed = _wrap(described(draw_case(exercise, case)), "  ")
    return (
        f"It was {which}, with\n{listed}\n"
        "Its arguments, as a dict:\n"
        "  from dlcourse.exercises import last_case; last_case()\n"
        "To try it alone:\n"
        f'  check("{exercise.key}", {exercise.variable}, seed={case!r})'
    )


def draw_case(exercise: Exercise, case: Case) -> dict[str, Any]:
    """The arguments of a case, made afresh.

    Raises ValueError for an edge case that the exercise does not have.
    """
    import numpy as np

    if not isinstance(case, str):
        with enabled():
            return dict(exercise.cases(np.random.default_rng(case)))
    with enabled():
        edges = exercise.edges()
    if case not in edges:
        known = ", ".join(map(repr, edges)) or "it has none"
        raise ValueError(f"{exercise.key} has no edge case {case!r}: {known}")
    return dict(edges[case])


def run_case(
    exercise: Exercise,
    function: Callable,
    inputs: Mapping[str, Any],
    *,
    patience: float = 1.0,
    shown: bool | None = None,
) -> Outcome:
    """Call ``function`` on copies of ``inputs`` within ``patience`` times the time limit.

    ``shown``: whether its own output is to be seen, or dropped; None does nothing about it. Of some
    forty cases a check shows what the first one prints.
    """
    given = {name: snapshot(value) for name, value in inputs.items()}
    seconds = exercise.seconds * patience
    with _silence(shown is False):
        outcome = _call(function, given, seconds)
    if outcome.complaint or outcome.untouched:
        return outcome
    changed = tuple(
        name
        for name, value in inputs.items()
        if difference(value, given[name], rtol=0.0, atol=0.0) is not None
    )
    result, shared = outcome.result, ()
    try:
        with time_limit(seconds):
            shared = tuple(n for n, value in given.items() if share_memory(result, value))
            # The result may share memory with what the learner keeps: compare a copy.
            result = snapshot(result)
    except (Exception, TimeLimit):  # what can't be copied is described by the comparison
        pass
    found = None
    if exercise.differentiable and not changed:
        with _silence(shown is not None):
            found = _gradients(exercise, function, inputs, seconds)
    return Outcome(result=result, changed=changed, shared=shared, gradients=found)


class _Nowhere(io.TextIOBase):
    def write(self, text: str) -> int:
        return len(text)


def _silence(wanted: bool) -> contextlib.AbstractContextManager:
    # Only where it is wanted: it is of the whole process, and the grader judges in threads.
    return contextlib.redirect_stdout(_Nowhere()) if wanted else contextlib.nullcontext()


def _call(function: Callable, given: Mapping[str, Any], seconds: float) -> Outcome:
    try:
        with time_limit(seconds), enabled():
            return Outcome(result=function(*given.values()))
    except TimeLimit:
        return Outcome(complaint=f"no answer after {seconds:g} s: is there an endless loop?")
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        own = isinstance(error, NotImplementedError) and _raised_by(function, error.__traceback__)
        return Outcome(untouched=True) if own else Outcome(complaint=_explain(function, error))


def _gradients(
    exercise: Exercise, function: Callable, inputs: Mapping[str, Any], seconds: float
) -> Gradients | str:
    try:
        return gradients(function, inputs, exercise.differentiable, seconds)
    except TimeLimit:
        return f"no gradient after {seconds:g} s"
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        said = _said(error)
        if "numpy() on Tensor that requires grad" in said:
            return "the values are computed in NumPy, through which no gradient flows back: stay " \
                "in torch"
        return (
            "the values are right, but with arguments that need a gradient "
            f"{_explain(function, error)}"
        )


def _wrong(exercise: Exercise, outcome: Outcome, case: Case) -> str | None:
    if outcome.complaint:
        return outcome.complaint
    if outcome.changed:
        return (
            f"the function changed its argument {_names(outcome.changed)} in place, and must leave "
            "it as it was: `+=`, `-=` and methods whose name ends in `_` write into a tensor"
        )
    inputs = draw_case(exercise, case)
    with enabled():
        expected = exercise.reference(*inputs.values())
    if wrong := _compare(exercise, expected, outcome.result):
        return wrong
    if exercise.returns_new and outcome.shared:
        return FormDifference(
            f"the result lies in the memory of the argument {_names(outcome.shared)}: whoever "
            "writes into the one changes the other. Return a copy, such as `.clone()`"
        )
    return _wrong_gradient(exercise, outcome.gradients, case)


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _wrong_gradient(
    exercise: Exercise, found: Gradients | str | None, case: Case
) -> GradientDifference | None:
    if not exercise.differentiable:
        return None
    if not isinstance(found, Gradients):
        return GradientDifference(found or "there are no gradients")
    inputs, names = draw_case(exercise, case), exercise.differentiable
    expected = gradients(exercise.reference, inputs, names, exercise.seconds)
    wrong = gradient_difference(expected, found, exercise.atol)
    return GradientDifference(wrong) if wrong else None


def _compare(exercise: Exercise, expected: Any, got: Any) -> str | None:
    return difference(
        expected, got, rtol=exercise.rtol, atol=exercise.atol, names=exercise.returns,
        any_float=exercise.any_float,
    )  # fmt: skip


def _recognise(
    exercise: Exercise, outcomes: Mapping[Case, Outcome], by_gradient: bool
) -> str | None:
    """The planted mistake that does just what the answer did, case by case."""
    for name, mistake in exercise.mistakes.items():
        if all(
            _alike(exercise, mistake, outcome, case, by_gradient)
            for case, outcome in outcomes.items()
        ):
            return name
    return None


def _alike(
    exercise: Exercise, mistake: Mistake, outcome: Outcome, case: Case, by_gradient: bool
) -> bool:
    planted = run_case(exercise, mistake.answer, draw_case(exercise, case))
    if planted.complaint or outcome.complaint:
        return _headline(planted.complaint) == _headline(outcome.complaint)
    if _compare(exercise, planted.result, outcome.result) or planted.changed != outcome.changed:
        return False
    if exercise.returns_new and bool(planted.shared) != bool(outcome.shared):
        return False
    return not by_gradient or _same_gradients(planted.gradients, outcome.gradients)


def _same_gradients(one: Gradients | str | None, other: Gradients | str | None) -> bool:
    if isinstance(one, Gradients) and isinstance(other, Gradients):
        return one.cut == other.cut and gradient_difference(one, other, 1e-9) is None
    return one == other


def _headline(complaint: str | None) -> str | None:
    return complaint and complaint.splitlines()[0]


def _examine_value(exercise: Prediction, answer: Any) -> Verdict:
    if answer is None or answer is Ellipsis:
        return Verdict(NOT_ATTEMPTED, "Write your prediction in place of `...`.")
    answer = as_number(answer)
    problem = _value_problem(exercise, answer)
    if problem:
        return Verdict(FAILED, problem)
    shown = describe(answer)
    value = answer if exercise.choices else float(answer)
    with enabled():
        right = exercise.experiment()
    if exercise.accepts(value, right):
        how = "right" if exercise.choices or value == right else "near enough"
        return Verdict(PASSED, f"{shown} is {how}. Run the next cell to see it happen.")
    how_far = "" if exercise.choices else f" It is {_how_far(value, float(right))}."
    message = f"{shown} is not what happens.{how_far}"
    for name, mistake in exercise.mistakes.items():
        if exercise.accepts(value, mistake.answer):
            return Verdict(FAILED, message, True, name, mistake.hint)
    return Verdict(FAILED, message, values_differ=True)


def _how_far(value: float, right: float) -> str:
    """Where a prediction lies: the side, and roughly the distance, but not the answer."""
    side = "too high" if value > right else "too low"
    if value * right <= 0:
        return side
    factor = max(value / right, right / value)
    steps = {1.02: "2 %", 1.1: "10 %", 2: "a factor of 2", 10: "a factor of 10"}
    for limit, words in steps.items():
        if factor <= limit:
            return f"{side}, by less than {words}"
    return f"{side}, by more than a factor of 10"


def _value_problem(exercise: Prediction, answer: Any) -> str | None:
    if exercise.choices:
        known = [choice.lower() for choice in exercise.choices]
        if type(answer) is not str or answer.strip().lower() not in known:
            return f"expected one of {', '.join(map(repr, exercise.choices))}, got {_typed(answer)}"
        return None
    if not is_number(answer):
        single = is_tensor(answer) and answer.numel() == 1
        return f"expected a number, got {_typed(answer)}" + (": take .item()" if single else "")
    value = as_float(answer)
    if value is None or not math.isfinite(value):
        return f"expected a finite number, got {describe(answer)}"
    return None


def _typed(value: Any) -> str:
    return f"{describe(value)} ({type_name(value)})"


def call_problem(exercise: Exercise, answer: Any) -> str | None:
    """Why the answer can't be called as the statement says, if it can't."""
    names = list(inspect.signature(exercise.reference).parameters)
    wanted = f"{exercise.variable}({', '.join(names)})"
    if not callable(answer):
        return (
            f"expected the function {wanted}, got {_typed(answer)}: "
            "pass the function itself, without calling it"
        )
    try:
        signature = inspect.signature(answer)
    except Exception:  # some built-in functions do not tell
        return None
    has = list(signature.parameters)
    if has != names and set(has) == set(names):
        return f"wrong signature: the order must be {wanted}, yours is ({', '.join(has)})"
    try:
        signature.bind(*names)
    except TypeError as error:
        return f"wrong signature: it is called as {wanted}, yours is {signature}: {error}"
    return None


def _frames(trace: TracebackType | None) -> list[traceback.FrameSummary]:
    """The frames below ours: the learner's function and what it called."""
    return list(traceback.extract_tb(trace))[1:]


def _raised_by(function: Callable, trace: TracebackType | None) -> bool:
    """Whether the exception was raised by a line of ``function`` itself."""
    code = getattr(function, "__code__", None)
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code is code


def _said(error: BaseException) -> str:
    """Type and first line of an error, whatever its own methods do."""
    try:
        text = str(error)
    except Exception:
        text = ""
    return printable(f"{type_name(error)}: {text}".rstrip(": ").splitlines()[0])[:300]


def _explain(function: Callable, error: BaseException) -> str:
    """The error, and the deepest line of it that is the learner's own."""
    said = f"your function raised {_said(error)}"
    try:
        libraries = (*(sysconfig.get_path(p) for p in ("stdlib", "purelib", "platlib")), _OURS)
        own = [f for f in _frames(error.__traceback__) if not f.filename.startswith(libraries)]
        last = own[-1]
        line = last.line or linecache.getline(last.filename, last.lineno or 0).strip()
    except Exception:  # no line of the learner's, or a traceback that can't be read
        return said
    return f"{said}\n  in line {last.lineno} of its cell: {printable(line)}"


_OURS = str(Path(__file__).parent) + os.sep
