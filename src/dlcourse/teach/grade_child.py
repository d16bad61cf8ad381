"""The process that runs one learner's notebook for the grader: ``python -m`` this module.

Nothing that it says is trusted. It executes the notebook's cells, remembers what was passed to
``check``, and then calls those functions on arguments that the grader sends, one JSON line at a
time. Whether the results are right is judged in the grader's own process, which alone knows the
seeds. So a notebook that redefines ``check``, prints that it passed, or writes into this process
can at most change its own answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Any

import dlcourse.exercises
import dlcourse.notebook
from dlcourse.exercises import checker, registry
from dlcourse.exercises.model import Prediction
from dlcourse.exercises.compare import snapshot
from dlcourse.teach.wire import WireError, decode, encode

FILE_LIMIT = 512 * 2**20  # bytes of one file that a notebook writes


def run_notebook(path: str) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Execute the cells; return the namespace, what was passed to check, and cells' errors."""
    from IPython.core.interactiveshell import InteractiveShell

    checked: dict[str, Any] = {}

    def remember(key: str, answer: Any, **options: Any) -> None:
        checked[key] = answer

    # Widgets and quizzes have no answers in them, and would only take time.
    dlcourse.exercises.check = remember
    dlcourse.exercises.quiz = dlcourse.exercises.show_progress = lambda *a, **k: None
    dlcourse.notebook.explore = lambda *a, **k: None

    with open(path, encoding="utf-8") as file:
        cells = json.load(file)["cells"]
    shell = InteractiveShell.instance()
    shell.showtraceback = shell.showsyntaxtraceback = lambda *a, **k: None
    errors = []
    for number, cell in enumerate(cells, start=1):
        if cell["cell_type"] != "code" or "gpu" in cell.get("metadata", {}).get("tags", []):
            continue
        done = shell.run_cell("".join(cell["source"]), store_history=False, silent=True)
        error = done.error_before_exec or done.error_in_exec
        if error is not None:
            errors.append(f"cell {number}: {type(error).__name__}: {error}"[:300])
    return shell.user_ns, checked, errors


def find_answer(key: str, namespace: dict[str, Any], checked: dict[str, Any]) -> Any:
    """What was passed to ``check``, or else what stands under the stub's name."""
    return checked.get(key, namespace.get(registry.find_exercise(key).variable))


def answer_call(exercise: Any, answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Call the learner's function and describe what it did."""
    outcome = checker.run_case(answer, inputs, seconds=exercise.seconds)
    reply = {
        "complaint": outcome.complaint,
        "untouched": outcome.untouched,
        "changed": list(outcome.changed),
    }
    try:
        return {**reply, "result": encode(snapshot(outcome.result))}
    except (WireError, RuntimeError) as error:
        return {**reply, "complaint": f"your function returned {error}"}


def serve(path: str, requests: Any, replies: Any) -> None:
    """Run the notebook, then answer the grader's requests until there are no more."""

    def reply(message: dict[str, Any]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    namespace, checked, errors = run_notebook(path)
    reply({"errors": errors[:20]})
    for line in requests:
        request = json.loads(line)
        exercise = registry.find_exercise(request["key"])
        answer = find_answer(exercise.key, namespace, checked)
        if "inputs" in request:
            reply(answer_call(exercise, answer, decode(request["inputs"])))
        elif isinstance(exercise, Prediction):
            value = None if answer is ... else answer
            with contextlib.suppress(Exception):
                value = answer.item() if hasattr(answer, "item") else value
            try:
                reply({"value": encode(value)})
            except WireError as error:
                reply({"value": f"{error}"})
        elif answer is None or answer is ...:
            reply({"missing": True})
        else:
            reply({"problem": checker.call_problem(exercise, answer)})


def limit_files() -> None:
    """No core dumps, and no file beyond FILE_LIMIT."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT, FILE_LIMIT))


def main() -> None:
    """Take the notebook's path and the two pipes from the command line."""
    limit_files()
    path, requests_fd, replies_fd = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    for fd in (requests_fd, replies_fd):
        os.set_inheritable(fd, False)
    sys.argv = [sys.argv[0]]
    serve(path, os.fdopen(requests_fd, encoding="utf-8"), os.fdopen(replies_fd, "w"))
    os._exit(0)  # threads that a notebook left behind must not keep the grader waiting


if __name__ == "__main__":
    main()
