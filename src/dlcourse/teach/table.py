"""The table of grades, and what a class did with each exercise."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dlcourse.exercises import checker
from dlcourse.exercises.compare import printable
from dlcourse.files import replace_own

ERROR = "error"
RESULTS = (checker.PASSED, checker.FAILED, checker.NOT_ATTEMPTED, ERROR)
NOT_RECORDED = "not recorded"
LONGEST_CELL = 2000  # characters


@dataclass
class Grade:
    """The row of one notebook.

    ``results`` has for each exercise passed, failed, not attempted or error; ``reasons`` why, and
    ``mistakes`` the name of the mistake that was recognised. ``quizzes`` says how many questions
    were answered right, or that the notebook has no record of it.
    """

    notebook: str
    results: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    mistakes: dict[str, str] = field(default_factory=dict)
    quizzes: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def passed(self) -> int:
        """How many exercises passed."""
        return sum(result == checker.PASSED for result in self.results.values())


@dataclass(frozen=True)
class Summary:
    """What a class did with one exercise: how many of each result, and the common mistakes."""

    key: str
    counts: dict[str, int]
    mistakes: list[tuple[str, int]]

    def line(self) -> str:
        """``119.2.lion: 12 passed, 3 failed (betas_swapped 2)``."""
        said = ", ".join(f"{count} {result}" for result, count in self.counts.items() if count)
        common = ", ".join(f"{name} {count}" for name, count in self.mistakes[:3])
        return f"{self.key}: {said or 'nobody'}" + (f" ({common})" if common else "")


def summarise(grades: Sequence[Grade], keys: Sequence[str]) -> list[Summary]:
    """One summary an exercise, in the order of ``keys``; mistakes by how common they are."""
    found = []
    for key in keys:
        results = Counter(grade.results.get(key, ERROR) for grade in grades)
        mistakes = Counter(grade.mistakes[key] for grade in grades if key in grade.mistakes)
        counts = {result: results[result] for result in RESULTS}
        ranked = sorted(mistakes.items(), key=lambda item: (-item[1], item[0]))
        found.append(Summary(key, counts, ranked))
    return found


def write_grades(
    grades: Sequence[Grade], keys: Sequence[str], quizzes: Sequence[str], target: Path
) -> Path | None:
    """Write one row a notebook: passed, each exercise's and quiz's result, mistakes, remarks.

    Returns the copy that was kept of a table that somebody had annotated.
    """
    head = ["notebook", "passed", "of", *keys, *(f"quiz {key}" for key in quizzes)]
    rows = [[*head, "mistakes", "remarks"]]
    for grade in grades:
        reasons = [f"{key}: {reason}" for key, reason in grade.reasons.items()]
        rows.append(
            [
                grade.notebook,
                str(grade.passed),
                str(len(keys)),
                *(grade.results.get(key, ERROR) for key in keys),
                *(grade.quizzes.get(key, NOT_RECORDED) for key in quizzes),
                "; ".join(f"{key}: {name}" for key, name in grade.mistakes.items()),
                "; ".join([*grade.remarks, *reasons]),
            ]
        )
    return replace_own(target, _csv(rows))


def summary_path(target: Path) -> Path:
    """Where the class's summary lies, beside the table: ``grades-summary.csv``."""
    return target.with_name(f"{target.stem}-summary{target.suffix}")


def write_summary(summaries: Sequence[Summary], target: Path) -> Path | None:
    """Write one row an exercise. Returns the copy that was kept, as ``write_grades`` does."""
    rows = [["exercise", *RESULTS, "mistakes"]]
    for summary in summaries:
        mistakes = ", ".join(f"{name} {count}" for name, count in summary.mistakes)
        counts = [str(summary.counts[result]) for result in RESULTS]
        rows.append([summary.key, *counts, mistakes])
    return replace_own(target, _csv(rows))


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[cell(part) for part in r] for r in rows])
    return text.getvalue()


def cell(text: str) -> str:
    """Text that a spreadsheet takes as text, also when a learner begins it with ``=``."""
    text = " ".join(printable(text).split())[:LONGEST_CELL]
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
