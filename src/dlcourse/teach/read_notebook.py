"""The process that reads one learner's notebook for the grader: ``python -m`` this module.

A notebook can be a file of any size and depth. So the grader does not read it: this process does,
under a limit of memory, and passes on the code alone, without outputs. It imports next to nothing.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

QUIZ_MIME = "application/vnd.dlcourse.quiz+json"  # what ``dlcourse.exercises.quiz`` leaves behind
CODE_LIMIT = 4 * 2**20  # characters of all code cells together
TOO_LARGE = "reading it takes more memory than a notebook may: clear its outputs"
RECORD_LIMIT = 10_000  # characters of one quiz's answers

_KEY = re.compile(r"\bcheck\(\s*[\"']([\w.-]{1,80})[\"']")
_COPIED = re.compile(r"dlcourse\.\w+\.exercises|find_exercise|load_chapter|all_exercises")


class NoNotebook(ValueError):
    """The file is no notebook that can be graded; says why."""


def read(path: str) -> dict[str, Any]:
    """The code cells of a notebook with their numbers, the keys it checks, its quiz answers.

    Raises:
        NoNotebook: the file is something else, or too large.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            found = json.load(file)
    except RecursionError:
        raise NoNotebook("its brackets are nested too deeply") from None
    except MemoryError:
        raise NoNotebook(TOO_LARGE) from None
    except (OSError, ValueError) as error:
        raise NoNotebook(str(error)) from None
    if isinstance(found, dict) and "worksheets" in found:
        raise NoNotebook("it is of an old format: open and save it in JupyterLab")
    if not isinstance(found, dict) or not isinstance(found.get("cells"), list):
        raise NoNotebook("it has no cells")
    cells, quizzes = [], {}
    for number, cell in enumerate(found["cells"], start=1):
        if not isinstance(cell, dict) or cell.get("cell_type") != "code":
            continue
        quizzes.update(_quizzes(cell))
        if not {"gpu", "long"} & set(_tags(cell)):
            cells.append({"number": number, "source": _source(cell)})
    code = "\n".join(cell["source"] for cell in cells)
    if len(code) > CODE_LIMIT:
        raise NoNotebook(f"its code has more than {CODE_LIMIT // 2**20} million characters")
    return {
        "cells": cells,
        "keys": sorted(set(_KEY.findall(code))),
        "copied": bool(_COPIED.search(code)),
        "quizzes": quizzes,
    }


def _source(cell: dict[str, Any]) -> str:
    source = cell.get("source", "")
    parts = source if isinstance(source, list) else [source]
    if not all(isinstance(part, str) for part in parts):
        raise NoNotebook("a cell's source is no text")
    return "".join(parts)


def _tags(cell: dict[str, Any]) -> list[str]:
    metadata = cell.get("metadata")
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []


def _quizzes(cell: dict[str, Any]) -> dict[str, Any]:
    """The answers that a quiz recorded in its output: right or not, by quiz and question."""
    found = {}
    outputs = cell.get("outputs")
    for output in outputs if isinstance(outputs, list) else []:
        data = output.get("data") if isinstance(output, dict) else None
        record = data.get(QUIZ_MIME) if isinstance(data, dict) else None
        if not isinstance(record, dict) or len(json.dumps(record)) > RECORD_LIMIT:
            continue
        key, answers = record.get("key"), record.get("answers")
        if isinstance(key, str) and isinstance(answers, dict):
            found[key] = {
                name: answer.get("right") is True
                for name, answer in answers.items()
                if isinstance(answer, dict)
            }
    return found


def main() -> int:
    """Read the notebook named first into the file named second, within megabytes named third."""
    path, target, memory = sys.argv[1], sys.argv[2], float(sys.argv[3])
    try:
        import resource

        limit = int(memory * 2**20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        pass  # Windows, or a limit that this system does not take
    try:
        found = read(path)
    except NoNotebook as error:
        found = {"error": str(error)[:500]}
    except MemoryError:
        found = {"error": TOO_LARGE}
    with open(target, "w", encoding="ascii") as file:
        json.dump(found, file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
