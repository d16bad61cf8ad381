"""The learner's progress: one local JSON file, and what to review next.

The file lies where ``platformdirs`` puts data of an application, or where the environment
variable ``DLCOURSE_PROGRESS`` says. It is changed under a lock and replaced whole, so that two
kernels at once lose nothing. Nothing is sent anywhere. Headless runs (``DLCOURSE_STATIC=1``)
write nothing.

Review follows the boxes of Leitner (So lernt man lernen, 1972) with the doubled intervals that
Settles and Meeder describe (A Trainable Spaced Repetition Model for Language Learning, ACL 2016,
section 2): an exercise in box b is due 2**(b-1) days after it was last passed. Passing it when
it is due moves it one box up, failing it moves it back to the first.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dlcourse.files import write_atomic

VERSION = 1
BOXES = 6  # intervals of 1, 2, 4, 8, 16 and 32 days
LOCK_SECONDS = 10.0


class ProgressError(RuntimeError):
    """The progress file can't be read or replaced."""


def progress_path() -> Path:
    """Where the progress file lies: ``$DLCOURSE_PROGRESS``, or the user's data folder."""
    chosen = os.environ.get("DLCOURSE_PROGRESS")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("dlcourse", appauthor=False)) / "progress.json"


def recording() -> bool:
    """Whether results are written: not in headless runs."""
    return os.environ.get("DLCOURSE_STATIC") != "1"


def load() -> dict[str, Any]:
    """The recorded progress; empty when there is none yet.

    Raises:
        ProgressError: the file was written by a newer version of the course.
    """
    with _locked():
        return _read()


def record_check(key: str, *, passed: bool, hints: int, now: dt.datetime | None = None) -> None:
    """Add one attempt at an exercise, and the number of hints that were shown with it."""
    now = now or dt.datetime.now()

    def change(data: dict[str, Any]) -> None:
        entry = data["exercises"].setdefault(
            key, {"attempts": 0, "passes": 0, "hints": 0, "first": now.isoformat("T", "seconds")}
        )
        entry["attempts"] += 1
        entry["passes"] += passed
        entry["hints"] += hints
        entry["last"] = now.isoformat("T", "seconds")
        review(entry, passed, now.date())

    _record(change)


def record_quiz(key: str, question: str, *, right: bool, now: dt.datetime | None = None) -> None:
    """Add one answer to a question of a quiz."""
    now = now or dt.datetime.now()

    def change(data: dict[str, Any]) -> None:
        answers = data["quizzes"].setdefault(key, {})
        entry = answers.setdefault(question, {"attempts": 0, "first_right": right})
        entry["attempts"] += 1
        entry["right"] = right
        entry["last"] = now.isoformat("T", "seconds")

    _record(change)


def review(entry: dict[str, Any], passed: bool, today: dt.date) -> None:
    """Move an exercise between the boxes and set the day on which it is due again."""
    box = entry.get("box")
    if passed and box is None:
        box = 1
    elif passed and today >= dt.date.fromisoformat(entry["due"]):
        box = min(box + 1, BOXES)
    elif passed or box is None:
        return  # passed again before it was due, or failed and never passed: nothing to move
    else:
        box = 1
    entry["box"] = box
    entry["due"] = (today + dt.timedelta(days=2 ** (box - 1))).isoformat()


def reset() -> None:
    """Forget everything: remove the progress file."""
    with _locked():
        progress_path().unlink(missing_ok=True)


def export(target: Path) -> None:
    """Write a copy of the progress to ``target``."""
    _replace(Path(target), load())


def _empty() -> dict[str, Any]:
    return {"version": VERSION, "exercises": {}, "quizzes": {}}


def _record(change: Callable[[dict[str, Any]], None]) -> None:
    """Apply ``change`` under the lock; a learner's work never stops for want of a record."""
    if not recording():
        return
    try:
        with _locked():
            data = _read()
            change(data)
            _replace(progress_path(), data)
    except (OSError, TimeoutError, ProgressError) as error:
        warnings.warn(f"progress was not recorded: {error}", stacklevel=4)


def _locked():
    import filelock

    path = progress_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(f"{path}.lock", timeout=LOCK_SECONDS)


def _read() -> dict[str, Any]:
    path = progress_path()
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(data[part], dict) for part in ("exercises", "quizzes")):
            raise ValueError("not a progress file")
        version = int(data["version"])
    except FileNotFoundError:
        return _empty()
    except (ValueError, KeyError, TypeError):
        stamp = dt.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        aside = path.with_name(f"{path.name}.damaged-{stamp}")
        os.replace(path, aside)
        warnings.warn(
            f"the progress file was damaged; it was kept as {aside} and a new one begun",
            stacklevel=3,
        )
        return _empty()
    if version > VERSION:
        raise ProgressError(f"{path} was written by a newer version of dlcourse: update dlcourse")
    return data


def _replace(path: Path, data: dict[str, Any]) -> None:
    write_atomic(path, json.dumps(data, indent=1, sort_keys=True) + "\n")
