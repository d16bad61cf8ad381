"""The process that runs one learner's notebook for the grader: ``python -m`` this module.

Nothing that it says is trusted. It executes the notebook's cells, one at a time as it is asked, and
remembers what was passed to ``check``; it calls those functions on arguments that the grader sends,
one JSON line at a time. Whether the results are right is judged in the grader's own process, which
alone knows the seeds. So a notebook that redefines ``check``, prints that it passed, or writes into
this process can at most change its own answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Any

import dlcourse.exercises
import dlcourse.notebook
from dlcourse.exercises import checker, compare, registry, renumbered
from dlcourse.exercises.gradients import Gradients
from dlcourse.exercises.model import Prediction
from dlcourse.teach.wire import WireError, decode, encode

FILE_LIMIT = 512 * 2**20  # bytes of one file that a notebook writes
ANSWERS_KEPT = 5  # to one exercise: the latest that is no stub counts
PATIENCE = 4.0  # times the limit of a check: this machine may be busy

# What only a front end understands, or what would install something.
_IGNORED = {
    "matplotlib", "config", "autoreload", "pip", "conda", "mamba", "uv", "connect_info",
    "qtconsole", "edit", "notebook",
}  # fmt: skip


class Answers:
    """All that a notebook has given as its answer to each exercise, the latest last.

    Given is what was passed to ``check``, and what the notebook itself defined under the name of
    the exercise's stub. So a stub that is pasted below a solution does not hide it.
    """

    def __init__(self, keys: list[str]) -> None:
        self.given: dict[str, list[Any]] = {key: [] for key in keys}
        self.checked: list[str] = []  # since it was last asked
        self._names = {registry.find_exercise(key).variable: key for key in keys}
        self._seen: dict[str, Any] = {}

    def check(self, key: Any, answer: Any = ..., **options: Any) -> None:
        """Stands for ``dlcourse.exercises.check`` in the notebook."""
        key = renumbered.EXERCISES.get(key, key) if isinstance(key, str) else None
        if key in self.given:
            self._give(key, answer)
            self.checked.append(key)

    def look(self, namespace: dict[str, Any]) -> None:
        """Take up what the last cell has defined under the names of stubs."""
        for name, key in self._names.items():
            value = namespace.get(name)
            if value is self._seen.get(name):
                continue
            self._seen[name] = value
            if value is not None and value is not ... and _defined_here(value):
                self._give(key, value)

    def _give(self, key: str, answer: Any) -> None:
        given = self.given[key]
        given[:] = [old for old in given if old is not answer] + [answer]
        del given[:-ANSWERS_KEPT]


def _defined_here(value: Any) -> bool:
    """Whether a value is of the notebook's own making, and no function that it imported."""
    try:
        return not callable(value) or value.__module__ == "__main__"
    except Exception:
        return False


def make_shell() -> Any:
    """IPython without a front end, in which a magic that it does not have stops no cell."""
    from IPython.core.error import UsageError
    from IPython.core.interactiveshell import InteractiveShell

    class Shell(InteractiveShell):
        def run_line_magic(self, magic_name, line, _stack_depth=1):
            if magic_name in _IGNORED:
                return None
            if magic_name == "pylab":
                from IPython.core.pylabtools import import_pylab

                return import_pylab(self.user_ns, import_all=True)
            try:
                return super().run_line_magic(magic_name, line, _stack_depth + 1)
            except (UsageError, ImportError) as error:
                if isinstance(error, UsageError) or magic_name == "load_ext":
                    return None
                raise

    shell = Shell.instance()
    shell.showtraceback = shell.showsyntaxtraceback = lambda *a, **k: None
    return shell


def replace_course(answers: Answers) -> None:
    """Let ``check`` remember; widgets and quizzes have no answers in them, and take only time."""
    for module in (dlcourse.exercises, checker):
        module.check = answers.check
    for name in ("quiz", "show_progress"):
        setattr(dlcourse.exercises, name, lambda *a, **k: None)
    dlcourse.notebook.explore = lambda *a, **k: None


def run_cell(shell: Any, source: str) -> str | None:
    """Execute one cell; return its error in a few words."""
    done = shell.run_cell(source, store_history=False, silent=True)
    if "matplotlib.pyplot" in sys.modules:
        with contextlib.suppress(Exception):
            sys.modules["matplotlib.pyplot"].close("all")
    error = done.error_before_exec or done.error_in_exec
    if error is None:
        return None
    try:
        said = str(error)
    except Exception:
        said = ""
    return compare.printable(f"{compare.type_name(error)}: {said}")[:300]


def describe_answer(exercise: Any, answer: Any) -> dict[str, Any]:
    """A prediction's value, or whether a function can be called."""
    if isinstance(exercise, Prediction):
        value = None if answer is ... else compare.as_number(answer)
        try:
            return {"value": encode(value)}
        except WireError as error:
            return {"odd": str(error)}
    if answer is None or answer is ...:
        return {"missing": True}
    return {"problem": checker.call_problem(exercise, answer)}


def answer_call(exercise: Any, answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Call the learner's function and describe what it did."""
    outcome = checker.run_case(exercise, answer, inputs, patience=PATIENCE)
    reply = {
        "complaint": outcome.complaint,
        "untouched": outcome.untouched,
        "changed": list(outcome.changed),
        "shared": list(outcome.shared),
    }
    try:
        reply["result"] = encode(outcome.result)
    except WireError as error:
        return {**reply, "complaint": f"your function returned {error}"}
    found = outcome.gradients
    if isinstance(found, Gradients):
        reply["gradients"] = {"values": encode(dict(found.values)), "cut": list(found.cut)}
    elif found is not None:
        reply["no_gradients"] = found
    return reply


def serve(path: str, keys: list[str], requests: Any, replies: Any) -> None:
    """Answer the grader's requests until there are no more."""

    def reply(message: dict[str, Any]) -> None:
        replies.write(json.dumps({**message, "id": request["id"]}) + "\n")
        replies.flush()

    with open(path, encoding="ascii") as file:
        cells = json.load(file)["cells"]
    answers = Answers(keys)
    replace_course(answers)
    shell = make_shell()
    for line in requests:
        request = json.loads(line)
        if request["do"] == "cell":
            error = run_cell(shell, cells[request["index"]]["source"])
            answers.look(shell.user_ns)
            checked, answers.checked = answers.checked, []
            reply({"error": error, "checked": list(dict.fromkeys(checked))})
            continue
        exercise = registry.find_exercise(request["key"])
        given = answers.given[exercise.key]
        if request["do"] == "count":
            reply({"count": len(given)})
        elif request["do"] == "describe":
            reply(describe_answer(exercise, given[-1 - request["which"]]))
        else:
            answer = given[-1 - request["which"]]
            reply(answer_call(exercise, answer, decode(request["inputs"])))


def limit_files() -> None:
    """No core dumps, and no file beyond FILE_LIMIT."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT, FILE_LIMIT))


def main() -> None:
    """Take the file of cells, the keys and the two pipes from the command line."""
    limit_files()
    path, keys, requests_fd, replies_fd = sys.argv[1:5]
    for fd in (requests_fd, replies_fd):
        os.set_inheritable(int(fd), False)
    sys.argv = [sys.argv[0]]
    requests = os.fdopen(int(requests_fd), encoding="utf-8")
    serve(path, keys.split(), requests, os.fdopen(int(replies_fd), "w"))
    os._exit(0)  # threads that a notebook left behind must not keep the grader waiting


if __name__ == "__main__":
    main()
