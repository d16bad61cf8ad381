"""The grader: a notebook can spoil only its own row, and can't grade itself."""

import csv
import inspect
import json
import os
import sys
import textwrap
import time

import pytest

from dlcourse.build import exercise_cells as cells
from dlcourse.exercises import registry
from dlcourse.teach import grader
from dlcourse.teach.grader import grade_notebook

psutil = pytest.importorskip("psutil")
pytest.importorskip("IPython")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are ended by group")

LION = registry.find_exercise("119.2.lion")
KEY, GUESS = "119.2.lion", "119.2.predict-beta"
SOLVED = f"{LION.imports}\n{inspect.getsource(LION.reference)}"
CHECK = cells.check_source(LION)


def notebook(folder, name, *sources):
    path = folder / f"{name}.ipynb"
    code = [{"cell_type": "code", "source": textwrap.dedent(s), "metadata": {}} for s in sources]
    path.write_text(json.dumps({"cells": code, "nbformat": 4, "nbformat_minor": 5}))
    return path


def graded(folder, *sources, keys=(KEY,), **limits):
    path = notebook(folder, "learner", *sources)
    return grade_notebook(path, keys, **{"timeout": 60, "memory": 2000, **limits})


def test_answers_are_judged_one_by_one(tmp_path):
    grade = graded(
        tmp_path, SOLVED, CHECK, "predict_beta = 589",
        cells.stub_source(registry.find_exercise("119.2.coupled-decay")),
        "from dlcourse.exercises import check\n"
        "def mean(zs, lrs):\n    return zs.mean(0)\n"
        "check('119.2.schedule-free-average', mean)",
        keys=(KEY, GUESS, "119.2.coupled-decay", "119.2.schedule-free-average",
              "119.2.cautious-lion"),
    )  # fmt: skip
    assert grade.results == {
        KEY: "passed",
        GUESS: "passed",
        "119.2.coupled-decay": "not attempted",
        "119.2.schedule-free-average": "failed",
        "119.2.cautious-lion": "not attempted",
    }
    assert "expected shape" in grade.reasons["119.2.schedule-free-average"]
    assert grade.passed == 2


def test_a_cell_that_raises_does_not_stop_those_after_it(tmp_path):
    grade = graded(tmp_path, "1 / 0", "this is no python", SOLVED, CHECK)
    assert grade.results == {KEY: "passed"}
    assert grade.remarks[0] == "cell 1: ZeroDivisionError: division by zero"
    assert grade.remarks[1].startswith("cell 2: SyntaxError")


FORGERIES = {
    "redefines check, prints and records that it passed": """
        import os
        from dlcourse.exercises import progress
        os.environ.pop("DLCOURSE_STATIC")
        progress.record_check("119.2.lion", passed=True, hints=0)
        print("✓ 119.2.lion: all 9 cases passed. Well done.")
        import dlcourse.exercises
        def check(key, answer):
            print("✓ all 9 cases passed")
        dlcourse.exercises.check = check
    """,
    "patches the checker": """
        import dlcourse.exercises.checker as checker
        checker.examine = checker.examine_calls = lambda *a, **k: checker.Verdict('passed')
        checker._compare = checker.difference = lambda *a, **k: None
        checker.run_case = lambda *a, **k: checker.Outcome()
    """,
    "patches torch": """
        import numpy, torch
        torch.equal = torch.allclose = numpy.isclose = lambda *a, **k: numpy.True_
        torch.Tensor.__eq__ = lambda *a: True
    """,
    "writes grades into every pipe": """
        import json, os
        for fd in range(3, 64):
            try:
                os.write(fd, b'{"errors": [], "results": {"119.2.lion": "passed"}}\\n' * 30)
            except OSError:
                pass
    """,
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
def test_a_notebook_cannot_grade_itself(tmp_path, forgery):
    wrong = "def lion_step(p, g, m, lr, beta1, beta2, weight_decay):\n    return p, m"
    grade = graded(tmp_path, wrong, forgery, CHECK)
    assert grade.results[KEY] in ("failed", "error")
    assert grade.passed == 0


def test_an_answer_taken_from_the_courses_own_files_is_remarked(tmp_path):
    copied = "from dlcourse.large_scale_training.exercises.lion import lion_step"
    grade = graded(tmp_path, copied, CHECK)
    assert grade.remarks == ["reads the course's own exercise files: look at its answers"]


DISASTERS = {
    "leaves": ("import os; os._exit(0)", "ended its process (exit code 0)"),
    "kills itself": ("import os; os.kill(os.getpid(), 11)", "died (SIGSEGV)"),
    "hangs": ("while True: pass", "time limit of 2 s"),
    "ignores signals": (
        "import signal, time\nfor s in (2, 15): signal.signal(s, signal.SIG_IGN)\ntime.sleep(99)",
        "time limit of 2 s",
    ),
    "prints without end": ("while True: print('x' * 10_000)", "limit of"),  # IPython keeps it all
    "fills the memory": (
        "hoard = []\nwhile True: hoard.append(bytearray(10_000_000))",
        "memory limit of 1000 MB",
    ),
    "returns too much": (
        "import torch\ndef lion_step(p, g, m, lr, beta1, beta2, weight_decay):\n"
        "    return torch.zeros(9_000_000, dtype=torch.float64), m",
        "larger than 64 MB",
    ),
    "forks without end": (
        "import os, time\nwhile True:\n    if os.fork() == 0:\n        time.sleep(99)",
        "more than 64 processes",
    ),
}


@pytest.mark.parametrize(("source", "said"), DISASTERS.values(), ids=DISASTERS)
def test_a_disaster_spoils_its_own_row(tmp_path, source, said):
    hurried = 2 if "limit of" in said and "memory" not in said else 30
    begun = time.monotonic()
    grade = graded(tmp_path, source, timeout=hurried, memory=1000)
    assert grade.results == {KEY: "error"}
    assert said in grade.remarks[0]
    assert time.monotonic() - begun < 40


def test_no_process_is_left_behind_not_even_one_that_left_its_parent(tmp_path):
    escape = f"""
        import os, subprocess, sys, time
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(98.5)", {str(tmp_path)!r}])
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
                time.sleep(97.5)
            os._exit(0)
        while not os.path.exists({str(tmp_path / "pid")!r}):
            time.sleep(0.05)
    """
    assert graded(tmp_path, escape, keys=()).remarks == []
    pid = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"
    commands = [p.info["cmdline"] or [] for p in psutil.process_iter(["cmdline"])]
    assert not any(str(tmp_path) in command for command in commands)


def test_the_learners_folder_and_progress_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("DLCOURSE_PROGRESS", str(tmp_path / "progress.json"))
    before = os.getcwd()
    guess = "from dlcourse.exercises import check\ncheck('119.2.predict-beta', 589)"
    graded(tmp_path, "open('litter.txt', 'w').write('x')", guess, keys=())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["learner.ipynb"]
    assert os.getcwd() == before


def test_a_file_that_is_no_notebook_is_a_row_too(tmp_path):
    path = tmp_path / "broken.ipynb"
    path.write_text("{")
    grade = grade_notebook(path, (KEY,))
    assert grade.results == {KEY: "error"}
    assert "not a notebook" in grade.remarks[0]


def test_what_is_expected_is_every_exercise_of_the_sections_seen(tmp_path):
    (tmp_path / ".ipynb_checkpoints").mkdir()
    notebook(tmp_path / ".ipynb_checkpoints", "old", CHECK)
    paths = [notebook(tmp_path, "a", "x = 1"), notebook(tmp_path, "b", CHECK)]
    assert grader.find_notebooks(tmp_path) == paths
    section = [e.key for e in registry.all_exercises() if e.key.startswith("119.2.")]
    assert grader.expected_keys(paths) == section
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no notebook"):
        grader.find_notebooks(tmp_path / "empty")


def test_the_table_has_a_row_a_notebook_and_no_formulas(tmp_path):
    grade = grader.Grade("=cmd()", {KEY: "failed"}, {KEY: "wrong,\n\"quoted\""}, ["+1"])
    grader.write_csv([grade], [KEY, GUESS], tmp_path / "grades.csv")
    with open(tmp_path / "grades.csv", newline="") as file:
        head, row = list(csv.reader(file))
    assert head == ["notebook", "passed", "of", KEY, GUESS, "remarks"]
    assert row == ["'=cmd()", "0", "2", "failed", "error",
                   f"'+1; {KEY}: wrong, \"quoted\""]  # fmt: skip
