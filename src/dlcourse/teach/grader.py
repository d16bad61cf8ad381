"""Grade a folder of learners' notebooks, each in a process of its own with limits.

A notebook that crashes, hangs, fills the memory or starts other processes spoils its own row and
no other; and of its own row only what it had not answered yet, since each answer is judged when the
cell that checks it has run. This bounds accidents and lazy tricks; it is no sandbox: a notebook
runs with the rights of whoever grades it. Grade strangers' notebooks in a container or under
another user.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlcourse.exercises import checker, registry, renumbered
from dlcourse.exercises.compare import printable, type_name
from dlcourse.exercises.gradients import Gradients
from dlcourse.exercises.model import Exercise, Prediction
from dlcourse.teach.grade_child import ANSWERS_KEPT, PATIENCE
from dlcourse.teach.process import Child, Ended, Limits
from dlcourse.teach.table import ERROR, NOT_RECORDED, Grade
from dlcourse.teach.wire import WireError, decode, encode

READ_SECONDS = 60.0  # for reading a notebook's file
RESTARTS = 3  # after cells or answers that end the process
CELL_REMARKS = 5  # errors of cells that are told in a row


class Unreadable(ValueError):
    """The file is no notebook that can be graded; says why."""


@dataclass(frozen=True)
class Notebook:
    """What the reader found in a notebook: where its cells lie, and what they speak of."""

    cells: Path
    numbers: list[int]  # of the code cells, counted from 1 over all cells
    keys: frozenset[str]  # that it checks something of
    copied: bool
    quizzes: Mapping[str, Mapping[str, bool]]


def find_notebooks(folder: Path) -> list[Path]:
    """The notebooks under a folder, without Jupyter's checkpoints.

    Raises:
        FileNotFoundError: there is no such folder, or no notebook in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder")
    found = sorted(p for p in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
    if not found:
        raise FileNotFoundError(f"there is no notebook (.ipynb) in {folder}")
    return found


def read_notebook(path: Path, target: Path, memory: float) -> Notebook:
    """Read a notebook in a process of its own, into the file ``target``.

    Raises:
        Unreadable: it is none, or reading it takes more than ``memory`` megabytes or a minute.
    """
    command = [
        sys.executable, "-m", "dlcourse.teach.read_notebook",
        str(path.resolve()), str(target), str(memory),
    ]  # fmt: skip
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=READ_SECONDS)
        found = json.loads(target.read_text(encoding="ascii"))
    except subprocess.TimeoutExpired:
        raise Unreadable(f"not a notebook: reading it takes over {READ_SECONDS:g} s") from None
    except (OSError, ValueError):
        raise Unreadable("not a notebook: whoever tries to read it crashes") from None
    if "error" in found:
        raise Unreadable(f"not a notebook: {printable(found['error'])}")
    keys = {renumbered.EXERCISES.get(key, key) for key in found["keys"]}
    numbers = [cell["number"] for cell in found["cells"]]
    return Notebook(target, numbers, frozenset(keys), found["copied"], found["quizzes"])


def expected_keys(notebooks: Iterable[Notebook]) -> list[str]:
    """All exercises of the sections that any of the notebooks checks something of."""
    sections = {key.rpartition(".")[0] for notebook in notebooks for key in notebook.keys}
    return [e.key for e in registry.all_exercises() if e.key.rpartition(".")[0] in sections]


def expected_quizzes(keys: Sequence[str]) -> list[str]:
    """The quizzes of the sections that ``keys`` are of."""
    sections = {key.rpartition(".")[0] for key in keys}
    return [quiz.key for quiz in registry.all_quizzes() if quiz.key in sections]


def grade_notebook(
    path: Path, keys: Sequence[str], *, timeout: float = 300.0, memory: float = 4096.0
) -> Grade:
    """Run one notebook within ``timeout`` seconds and ``memory`` megabytes, and judge its answers.

    The cases are judged in this process; some are drawn from fresh seeds.
    """
    with tempfile.TemporaryDirectory(prefix="dlcourse-grade-") as scratch:
        try:
            notebook = read_notebook(path, Path(scratch, "cells.json"), memory)
        except Unreadable as error:
            return _spoiled(path.name, keys, str(error))
        return _grade(path.name, notebook, keys, timeout, memory, threading.Event())


def _spoiled(name: str, keys: Sequence[str], reason: str) -> Grade:
    return Grade(name, results=dict.fromkeys(keys, ERROR), remarks=[reason])


def _grade(
    name: str,
    notebook: Notebook,
    keys: Sequence[str],
    timeout: float,
    memory: float,
    stop: threading.Event,
) -> Grade:
    """The row of a notebook that could be read; never raises."""
    limits = Limits(timeout, time.monotonic() + timeout, memory, stop)
    run = _Run(Grade(name), notebook, keys, limits)
    try:
        run.grade_all()
    except Exception as error:  # ours, or one that we did not foresee: it costs this row alone
        run.give_up(f"the grader failed on it: {type_name(error)}: {printable(str(error))[:300]}")
    if notebook.copied:
        run.grade.remarks.append("reads the course's own exercise files: look at its answers")
    run.grade.quizzes = {key: _quiz_result(notebook, key) for key in expected_quizzes(keys)}
    return run.grade


def _quiz_result(notebook: Notebook, key: str) -> str:
    """How many questions were answered right, by the record in the quiz's own output."""
    answers = notebook.quizzes.get(key)
    if answers is None:
        return NOT_RECORDED
    names = [question.name for question in registry.find_quiz(key).questions]
    return f"{sum(answers.get(name) is True for name in names)} of {len(names)}"


@dataclass
class _Run:
    """One notebook's way through its cells, begun again when one of them ends the process."""

    grade: Grade
    notebook: Notebook
    keys: Sequence[str]
    limits: Limits
    verdicts: dict[tuple[int, str], checker.Verdict] = field(default_factory=dict)  # by cell
    skipped: set[int] = field(default_factory=set)  # cells that ended the process
    where: tuple[str, Any] = ("start", None)

    def grade_all(self) -> None:
        for _ in range(RESTARTS + 1):
            with tempfile.TemporaryDirectory(prefix="dlcourse-run-") as scratch:
                with Child(self.notebook.cells, self.keys, Path(scratch), self.limits) as child:
                    try:
                        self._walk(child)
                        return
                    except Ended as error:
                        ended = str(error)
            self._note_end(ended)
            if time.monotonic() > self.limits.deadline or self.limits.stop.is_set():
                break
        self.give_up(f"not reached: {ended}")

    def give_up(self, reason: str) -> None:
        """What has no result yet is an error."""
        left = [key for key in self.keys if key not in self.grade.results]
        self.grade.results.update(dict.fromkeys(left, ERROR))
        self.grade.reasons.update(dict.fromkeys(left, reason))
        said = reason.removeprefix("not reached: ")
        if left and not any(said in remark for remark in self.grade.remarks):
            self.grade.remarks.insert(0, said)

    def _note_end(self, ended: str) -> None:
        kind, what = self.where
        if kind == "cell":
            self.grade.remarks.insert(0, f"cell {what}: {ended}")
            self.skipped.add(what)
        elif kind == "answer":
            cell, key = what
            self._take(cell, key, checker.Verdict(ERROR, f"the answer ended the process: {ended}"))
        else:
            self.grade.remarks.insert(0, ended)

    def _walk(self, child: Child) -> None:
        """Run the cells; judge what each checks; then what stands there without a check."""
        last = 0
        for index, number in enumerate(self.notebook.numbers):
            if number in self.skipped:
                continue
            self.where = ("cell", number)
            done = child.ask({"do": "cell", "index": index})
            last = number
            if done.get("error"):
                self._remark(f"cell {number}: {printable(str(done['error']))[:300]}")
            for key in done.get("checked", ()):
                if key in self.keys:
                    self._judge(child, number, key)
        for key in self.keys:
            if self.grade.results.get(key, checker.NOT_ATTEMPTED) == checker.NOT_ATTEMPTED:
                self._judge(child, last + 1, key)

    def _remark(self, text: str) -> None:
        told = sum(remark.startswith("cell ") for remark in self.grade.remarks)
        if text not in self.grade.remarks and told < CELL_REMARKS:
            self.grade.remarks.append(text)

    def _judge(self, child: Child, cell: int, key: str) -> None:
        if (cell, key) in self.verdicts:  # of an earlier run
            return
        self.where = ("answer", (cell, key))
        try:
            verdict = self._verdict(child, key)
        except Ended:
            raise
        except Exception as error:
            said = f"it can't be judged: {type_name(error)}: {printable(str(error))[:300]}"
            verdict = checker.Verdict(ERROR, said)
        self._take(cell, key, verdict)

    def _take(self, cell: int, key: str, verdict: checker.Verdict) -> None:
        """Enter a verdict; one on no attempt does not replace one on an attempt."""
        self.verdicts[cell, key] = verdict
        grade = self.grade
        if verdict.status == checker.NOT_ATTEMPTED and key in grade.results:
            return
        grade.results[key] = verdict.status
        for part, value in ((grade.reasons, _reason(verdict)), (grade.mistakes, verdict.mistake)):
            part.pop(key, None)
            if value:
                part[key] = value

    def _verdict(self, child: Child, key: str) -> checker.Verdict:
        """Of the latest answer that is one: a stub that is pasted below it does not hide it."""
        exercise = registry.find_exercise(key)
        verdict = checker.Verdict(checker.NOT_ATTEMPTED)
        count = child.ask({"do": "count", "key": key}).get("count", 0)
        for which in range(min(int(count), ANSWERS_KEPT)):
            verdict = _judge_one(exercise, child, which)
            if verdict.status != checker.NOT_ATTEMPTED:
                if which:
                    self.grade.remarks.append(f"{key}: graded is what stands above the last stub")
                break
        return verdict


def _reason(verdict: checker.Verdict) -> str:
    if verdict.status not in (checker.FAILED, ERROR):
        return ""
    hint = f" (what you get when {verdict.hint})" if verdict.hint else ""
    return " ".join(verdict.message.split()) + hint


def _judge_one(exercise: Exercise | Prediction, child: Child, which: int) -> checker.Verdict:
    reply = child.ask({"do": "describe", "key": exercise.key, "which": which})
    if isinstance(exercise, Prediction):
        if "odd" in reply:
            return checker.Verdict(checker.FAILED, f"expected a value, got {reply['odd']}")
        return checker.examine(exercise, decode(reply.get("value")))
    if reply.get("missing"):
        return checker.Verdict(checker.NOT_ATTEMPTED)
    if reply.get("problem"):
        return checker.Verdict(checker.FAILED, printable(str(reply["problem"])))

    def call(inputs: Mapping[str, Any]) -> checker.Outcome:
        request = {"do": "call", "key": exercise.key, "which": which, "inputs": encode(inputs)}
        return _outcome(child.ask(request, within=2 * PATIENCE * exercise.seconds + 30))

    fresh = [secrets.randbelow(2**32) for _ in range(checker.FRESH_GRADED)]
    return checker.examine_for_grade(exercise, call, fresh)


def _outcome(answer: Mapping[str, Any]) -> checker.Outcome:
    """What the notebook's process says of a call, taken for no more than its answer."""
    complaint, gradients = answer.get("complaint"), answer.get("no_gradients")
    if isinstance(answer.get("gradients"), dict):
        values = decode(answer["gradients"].get("values"))
        if not isinstance(values, dict):
            raise WireError("gradients that are no dict")
        cut = tuple(int(index) for index in answer["gradients"].get("cut", ()))
        gradients = Gradients(values, cut)
    elif gradients is not None:
        gradients = str(gradients)
    return checker.Outcome(
        result=decode(answer.get("result")),
        changed=tuple(str(name) for name in answer.get("changed", ())),
        complaint=None if complaint is None else str(complaint),
        untouched=answer.get("untouched") is True,
        shared=tuple(str(name) for name in answer.get("shared", ())),
        gradients=gradients,
    )


def grade_folder(
    folder: Path,
    *,
    timeout: float = 300.0,
    memory: float = 4096.0,
    jobs: int = 1,
    finished: Callable[[Grade], None] = lambda grade: None,
) -> tuple[list[Grade], list[str]]:
    """Grade all notebooks under ``folder``; return their rows and the keys of the columns.

    An interruption (Ctrl-C) ends the notebooks that run, and leaves out those that did not begin.
    """
    paths = find_notebooks(folder)
    stop = threading.Event()
    with tempfile.TemporaryDirectory(prefix="dlcourse-grade-") as scratch:
        with ThreadPoolExecutor(jobs) as pool:
            targets = [Path(scratch, f"{index}.json") for index in range(len(paths))]
            read = list(pool.map(lambda a: _try_to_read(*a, memory), zip(paths, targets)))
            keys = expected_keys(found for found in read if isinstance(found, Notebook))

            def grade(path: Path, found: Notebook | str) -> Grade:
                name = path.relative_to(folder).as_posix()
                if isinstance(found, str):
                    row = _spoiled(name, keys, found)
                else:
                    row = _grade(name, found, keys, timeout, memory, stop)
                finished(row)
                return row

            running = [pool.submit(grade, *pair) for pair in zip(paths, read)]
            return _collect(running, stop), keys


def _try_to_read(path: Path, target: Path, memory: float) -> Notebook | str:
    try:
        return read_notebook(path, target, memory)
    except Unreadable as error:
        return str(error)


def _collect(running: Sequence[Future], stop: threading.Event) -> list[Grade]:
    """The rows, in order; after an interruption of those that had begun."""
    try:
        wait(running)
    except KeyboardInterrupt:
        stop.set()
        for future in running:
            future.cancel()
    return [future.result() for future in running if not future.cancelled()]
