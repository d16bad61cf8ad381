"""The learner's progress: one local JSON file, and what to review next.

The file lies where ``platformdirs`` puts data of an application, or where the environment
variable ``DLCOURSE_PROGRESS`` says. It is changed under a lock and replaced whole, so that two
kernels at once lose nothing. Nothing is sent anywhere. Headless runs (``DLCOURSE_STATIC=1``)
write nothing. Whatever is wrong with the file or its place costs a warning, never a lesson: of a
damaged file the rest is used, and a copy is kept beside it.

Review follows the boxes of Leitner (So lernt man lernen, 1972) with the doubled intervals that
Settles and Meeder describe (A Trainable Spaced Repetition Model for Language Learning, ACL 2016,
section 2): an exercise in box b is due 2**(b-1) days after it was last passed. Passing it when
it is due moves it one box up, failing it moves it back to the first.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dlcourse.exercises import renumbered
from dlcourse.files import replace_own, write_atomic

VERSION = 2  # 1 had the keys of ``renumbered``
BOXES = 6  # intervals of 1, 2, 4, 8, 16 and 32 days
LOCK_SECONDS = 10.0


class ProgressError(RuntimeError):
    """The progress file can't be read or replaced."""


def progress_path() -> Path:
    """Where the progress file lies: ``$DLCOURSE_PROGRESS``, or the user's data folder.

    Raises:
        ProgressError: there is no home folder.
    """
    chosen = os.environ.get("DLCOURSE_PROGRESS")
    if not chosen:
        import platformdirs

        folder = platformdirs.user_data_dir("dlcourse", appauthor=False)
        chosen = os.path.join(folder, "progress.json")
    path = os.path.expanduser(chosen)
    if path.startswith("~"):  # what expanduser leaves when there is no home
        raise ProgressError(
            "there is no home folder for the progress file: "
            "name a file in the environment variable DLCOURSE_PROGRESS"
        )
    return Path(path)


def recording() -> bool:
    """Whether results are written: not in headless runs."""
    return os.environ.get("DLCOURSE_STATIC") != "1"


def load() -> dict[str, Any]:
    """The recorded progress; empty when there is none yet. What can't be read costs a warning.

    Raises:
        ProgressError: the file was written by a newer version of the course.
    """
    try:
        path = progress_path()
        data, damaged, _ = _read(path)  # no lock: the file is only ever replaced whole
    except (OSError, ProgressError) as error:
        if isinstance(error, _NewerVersion):
            raise
        warnings.warn(f"the progress file can't be read: {error}", stacklevel=2)
        return _empty()
    if damaged:
        _warn_of_damage(path, _aside(path, "damaged"), stacklevel=3)
    return data


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
    path = progress_path()
    with _locked(path):
        Path(os.path.realpath(path)).unlink(missing_ok=True)


def export(target: Path) -> Path | None:
    """Write a copy of the progress to ``target``.

    Returns the copy that was kept of a file that somebody else had written there (see
    ``dlcourse.files.replace_own``).
    """
    return replace_own(target, _text(load()))


def _empty() -> dict[str, Any]:
    return {"version": VERSION, "exercises": {}, "quizzes": {}}


def _record(change: Callable[[dict[str, Any]], None]) -> None:
    """Apply ``change`` under the lock; a learner's work never stops for want of a record."""
    if not recording():
        return
    try:
        path = progress_path()
        with _locked(path):
            data, damaged, version = _read(path)
            if damaged:  # nothing is replaced before a copy is safe
                aside = _aside(path, "damaged", required=True)
                _warn_of_damage(path, aside, stacklevel=5)
            elif version < VERSION:
                _aside(path, f"version-{version}", required=True)
            change(data)
            write_atomic(path, _text(data))
    except Exception as error:
        warnings.warn(f"progress was not recorded: {error}", stacklevel=4)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock beside the file itself, wherever a link to it lies.

    Where the file system has no locks, go on without: then two kernels that answer in the same
    moment can lose one of both results.
    """
    import filelock

    real = Path(os.path.realpath(path))
    real.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(f"{real}.lock", timeout=LOCK_SECONDS)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise
    except (OSError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        lock.release()


class _NewerVersion(ProgressError):
    pass


def _read(path: Path) -> tuple[dict[str, Any], bool, int]:
    """What the file says in today's form, whether it is damaged, and the version that it has."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return _empty(), False, VERSION
    try:
        found = json.loads(text.decode("utf8"))
    except (ValueError, RecursionError):
        return _empty(), True, VERSION
    if not isinstance(found, dict):
        return _empty(), True, VERSION
    version = found.get("version")
    known = isinstance(version, int) and not isinstance(version, bool) and version > 0
    version = version if known else 1
    if version > VERSION:
        raise _NewerVersion(f"{path} was written by a newer version of dlcourse: update dlcourse")
    exercises, bad_exercises = _mend(found.get("exercises"), _mend_exercise)
    quizzes, bad_quizzes = _mend(found.get("quizzes"), _mend_quiz)
    if version == 1:
        exercises, quizzes = _renumber(exercises, quizzes)
    data = {**found, "version": VERSION, "exercises": exercises, "quizzes": quizzes}
    return data, bool(bad_exercises or bad_quizzes or not known), version


def _mend(part: Any, mend_entry: Callable[[Any], dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """The entries of a part of the file, each made whole, and whether that changed anything."""
    if not isinstance(part, dict):
        return {}, True
    whole = {key: mend_entry(entry) for key, entry in part.items() if isinstance(entry, dict)}
    return whole, whole != part


def _mend_exercise(entry: dict[str, Any]) -> dict[str, Any]:
    whole = {**entry, **{name: _count(entry.get(name)) for name in ("attempts", "passes", "hints")}}
    for name, parse in (("first", dt.datetime), ("last", dt.datetime), ("due", dt.date)):
        if name in whole and not _is_iso(whole[name], parse):
            del whole[name]
    box = _count(whole.get("box"))
    if "due" not in whole or not 1 <= box <= BOXES:  # no box without its date
        whole.pop("box", None)
        whole.pop("due", None)
    return whole


def _mend_quiz(answers: dict[str, Any]) -> dict[str, Any]:
    whole = {}
    for name, entry in answers.items():
        if not isinstance(entry, dict):
            continue
        right = entry.get("right") is True
        first = entry.get("first_right")
        whole[name] = {
            **entry,
            "attempts": _count(entry.get("attempts")),
            "right": right,
            "first_right": first if isinstance(first, bool) else right,
        }
        if not _is_iso(whole[name].get("last"), dt.datetime):
            whole[name].pop("last", None)
    return whole


def _count(value: Any) -> int:
    plain = isinstance(value, int) and not isinstance(value, bool)
    return value if plain and 0 <= value < 10**9 else 0


def _is_iso(value: Any, kind: type[dt.date]) -> bool:
    try:
        kind.fromisoformat(value)
    except (TypeError, ValueError):
        return False
    return True


def _renumber(
    exercises: dict[str, Any], quizzes: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Version 1 under today's keys; where both have an entry, both count."""
    new_exercises: dict[str, Any] = {}
    for key, entry in exercises.items():
        new = renumbered.EXERCISES.get(key, key)
        new_exercises[new] = _merge(new_exercises.get(new), entry)
    new_quizzes: dict[str, Any] = {}
    for key, answers in quizzes.items():
        for name, entry in answers.items():
            quiz = new_quizzes.setdefault(renumbered.QUESTIONS.get((key, name), key), {})
            quiz[name] = _merge(quiz.get(name), entry)
    return new_exercises, new_quizzes


def _merge(one: dict[str, Any] | None, other: dict[str, Any]) -> dict[str, Any]:
    """Two entries of one exercise or question as one: counts add up, otherwise the later says."""
    if one is None:
        return other
    earlier, later = sorted((one, other), key=lambda entry: entry.get("last", ""))
    merged = {**earlier, **later}
    for name in ("attempts", "passes", "hints"):
        if name in merged:
            merged[name] = one.get(name, 0) + other.get(name, 0)
    for name, choose in (("first", min), ("box", max), ("due", max)):
        found = [entry[name] for entry in (one, other) if name in entry]
        if found:
            merged[name] = choose(found)
    if "first_right" in earlier:
        merged["first_right"] = earlier["first_right"]
    return merged


def _aside(path: Path, mark: str, required: bool = False) -> Path | None:
    """Keep the file as it is under a name of its own, once for each content.

    Raises:
        ProgressError: that failed, and is ``required`` since the file is about to be replaced.
    """
    try:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()[:8]
        aside = path.with_name(f"{path.name}.{mark}-{digest}")
        if not aside.exists():
            aside.write_bytes(content)
        return aside
    except OSError as error:
        if required:
            raise ProgressError(f"no copy could be kept of the old {path}: {error}") from error
        return None


def _warn_of_damage(path: Path, aside: Path | None, stacklevel: int) -> None:
    kept = f"it was kept as {aside}" if aside else "no copy of it could be kept"
    warnings.warn(
        f"the progress file {path} was damaged; what could be read of it is used, and {kept}",
        stacklevel=stacklevel,
    )


def _text(data: dict[str, Any]) -> str:
    return json.dumps(data, indent=1, sort_keys=True) + "\n"
