"""The grader: a notebook can spoil only its own row, and can't grade itself."""

import csv
import inspect
import json
import math
import os
import sys
import textwrap
import threading
import time

import pytest

from dlcourse.build import exercise_cells as cells
from dlcourse.exercises import registry
from dlcourse.teach import grader, process, table
from dlcourse.teach.grader import grade_notebook

psutil = pytest.importorskip("psutil")
pytest.importorskip("IPython")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are ended by group")

# These need no torch, whose import would be most of the time of a test.
RULE = registry.find_exercise("119.1c.loss-scale-rule")
RING = registry.find_exercise("119.1a.ring-all-reduce")
KEY, RING_KEY, GUESS = RULE.key, RING.key, "119.1b.predict-dead-worker"
SOLVED = inspect.getsource(RULE.reference)
CHECK = cells.check_source(RULE)
STUB = cells.stub_source(RULE)
HEAD = "def run_scaler(overflows, scale, growth_interval):\n    "
WRONG = HEAD + "return scale, 0"
SOLVED_RING = f"{inspect.getsource(RING.reference)}\n{cells.check_source(RING)}"
SOLVED_GUESS = f"from dlcourse.exercises import check\ncheck({GUESS!r}, 140)"


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
        tmp_path, SOLVED, CHECK, "predict_dead_worker = 140", cells.stub_source(RING),
        "from dlcourse.exercises import check\n"
        "def half(parameters, ranks, stage):\n    return parameters, ranks\n"
        "check('119.1a.zero-memory', half)",
        keys=(KEY, GUESS, RING_KEY, "119.1a.zero-memory", "119.1a.ring-by-hand"),
    )  # fmt: skip
    assert grade.results == {
        KEY: "passed",
        GUESS: "passed",
        RING_KEY: "not attempted",
        "119.1a.zero-memory": "failed",
        "119.1a.ring-by-hand": "not attempted",
    }
    assert "of 3 parts, got 2" in grade.reasons["119.1a.zero-memory"]
    assert grade.passed == 2 and grade.mistakes == {}


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
        progress.record_check("119.1c.loss-scale-rule", passed=True, hints=0)
        print("✓ 119.1c.loss-scale-rule: all 46 cases passed. Well done.")
        import dlcourse.exercises
        def check(key, answer):
            print("✓ all 46 cases passed")
        dlcourse.exercises.check = check
    """,
    "patches the checker": """
        import dlcourse.exercises.checker as checker
        checker.examine = checker.examine_calls = lambda *a, **k: checker.Verdict('passed')
        checker._compare = checker.difference = lambda *a, **k: None
        checker.run_case = lambda *a, **k: checker.Outcome()
        checker.examine_for_grade = checker.examine
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
                os.write(fd, b'{"result": null, "complaint": null, "count": 1}\\n' * 30)
            except OSError:
                pass
    """,
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
def test_a_notebook_cannot_grade_itself(tmp_path, forgery):
    grade = graded(tmp_path, WRONG, forgery, CHECK)
    assert grade.results[KEY] in ("failed", "error")
    assert grade.passed == 0


def test_an_answer_taken_from_the_courses_own_files_is_remarked(tmp_path):
    folder = "dlcourse.large_scale_training.exercises.mixed_precision"
    grade = graded(tmp_path, f"from {folder}.loss_scale_rule import run_scaler", CHECK)
    assert grade.remarks == ["reads the course's own exercise files: look at its answers"]


DISASTERS = {
    "leaves": ("import os; os._exit(0)", "cell 2: the process ended itself (exit code 0)"),
    "kills itself": ("import os; os.kill(os.getpid(), 11)", "cell 2: the process died (SIGSEGV)"),
    "hangs": ("while True: pass", "time limit of 4 s"),
    "ignores signals": (
        "import signal, time\nfor s in (2, 15): signal.signal(s, signal.SIG_IGN)\ntime.sleep(99)",
        "time limit of 4 s",
    ),
    "prints without end": ("while True: print('x' * 10_000)", "limit of"),  # IPython keeps it all
    "fills the memory": (
        "hoard = []\nwhile True: hoard.append(bytearray(10_000_000))",
        "memory limit of 1000 MB",
    ),
    "forks without end": (
        "import os, time\nwhile True:\n    if os.fork() == 0:\n        time.sleep(99)",
        "more than 64 processes",
    ),
}


@pytest.mark.parametrize(("source", "said"), DISASTERS.values(), ids=DISASTERS)
def test_a_disaster_spoils_its_own_row(tmp_path, source, said):
    hurried = 4 if "limit of" in said and "memory" not in said else 30
    grade = graded(tmp_path, "def before():\n    pass", source, timeout=hurried, memory=1000)
    assert grade.results[KEY] in ("error", "not attempted")
    assert any(said in remark for remark in grade.remarks)


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
    graded(tmp_path, "open('litter.txt', 'w').write('x')", SOLVED_GUESS, keys=())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["learner.ipynb"]
    assert os.getcwd() == before


def test_answers_given_before_a_crash_count_and_those_after_it_too(tmp_path):
    grade = graded(
        tmp_path, SOLVED, CHECK, "import os; os._exit(3)", SOLVED_GUESS, "import os; os.abort()",
        SOLVED_RING, keys=(KEY, GUESS, RING_KEY),
    )  # fmt: skip
    assert grade.results == {KEY: "passed", GUESS: "passed", RING_KEY: "passed"}
    assert sorted(grade.remarks) == [
        "cell 3: the process ended itself (exit code 3)", "cell 5: the process died (SIGABRT)",
    ]  # fmt: skip


def test_answers_given_before_a_hang_count_and_the_cell_is_named(tmp_path, monkeypatch):
    reached = tmp_path / "reached"

    class UntilReached(process.Limits):
        """The time is up when the notebook hangs, however long it took to get there."""

        @property
        def deadline(self):
            return 0.0 if reached.exists() else math.inf

    monkeypatch.setattr(
        grader, "Limits", lambda timeout, deadline, memory, stop: limits(timeout, memory)
    )

    def limits(timeout, memory):
        made = object.__new__(UntilReached)
        made.__dict__.update(timeout=timeout, memory=memory, stop=threading.Event())
        return made

    hang = f"open({str(reached)!r}, 'w').close()\nwhile True: pass"
    grade = graded(tmp_path, SOLVED, CHECK, hang, SOLVED_GUESS, keys=(KEY, GUESS), timeout=60)
    assert grade.results == {KEY: "passed", GUESS: "error"}
    assert grade.remarks == ["cell 3: time limit of 60 s"]
    assert grade.reasons[GUESS] == "not reached: time limit of 60 s"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import os; os._exit(9)", "the answer ended the process"),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
        ("return 'x' * 80_000_000, 0", "larger than 64"),
    ],
)
def test_an_answer_that_ends_the_process_costs_no_other_answer(tmp_path, body, said):
    grade = graded(
        tmp_path, SOLVED_RING, HEAD + body, CHECK, SOLVED_GUESS, keys=(KEY, GUESS, RING_KEY)
    )
    assert grade.results == {KEY: "error", GUESS: "passed", RING_KEY: "passed"}
    assert said in grade.reasons[KEY]


def test_an_answer_that_cannot_be_interrupted_costs_no_other_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(grader, "PATIENCE", 0.0)  # the grader waits 30 s beyond it, which is long
    real = grader.Child.ask
    monkeypatch.setattr(
        grader.Child, "ask", lambda self, request, within=None: real(self, request, within and 2.0)
    )
    grade = graded(
        tmp_path, HEAD + "return 7 ** (10**9)", CHECK, SOLVED_GUESS, keys=(KEY, GUESS)
    )
    assert grade.results == {KEY: "error", GUESS: "passed"}
    assert "can't be interrupted" in grade.reasons[KEY]


def test_a_stub_pasted_below_a_solution_does_not_hide_it(tmp_path):
    grade = graded(
        tmp_path, SOLVED, STUB, CHECK, "predict_dead_worker = 140", "predict_dead_worker = ...",
        f"from dlcourse.exercises import check\ncheck({GUESS!r}, predict_dead_worker)",
        keys=(KEY, GUESS),
    )  # fmt: skip
    assert grade.results == {KEY: "passed", GUESS: "passed"}
    assert f"{KEY}: graded is what stands above the last stub" in grade.remarks


def test_a_function_of_the_package_is_no_answer_though_it_has_the_stubs_name(tmp_path):
    imported = "from statistics import mean as run_scaler"
    grade = graded(tmp_path, imported, STUB, CHECK)
    assert grade.results == {KEY: "not attempted"}


def test_the_last_attempt_counts_and_no_untouched_stub_after_it(tmp_path):
    assert graded(tmp_path, WRONG, CHECK, SOLVED, CHECK).results == {KEY: "passed"}
    assert graded(tmp_path, SOLVED, CHECK, WRONG, CHECK).results == {KEY: "failed"}
    assert graded(tmp_path, SOLVED, CHECK, STUB, CHECK).results == {KEY: "passed"}
    assert graded(tmp_path, STUB, CHECK, SOLVED).results == {KEY: "passed"}  # below the check


def test_the_mistake_that_was_recognised_is_in_the_row(tmp_path):
    mistake = inspect.getsource(RULE.mistakes["not_in_a_row"].answer)
    grade = graded(tmp_path, mistake.replace("def not_in_a_row", "def run_scaler"), CHECK)
    assert grade.mistakes == {KEY: "not_in_a_row"}
    assert RULE.mistakes["not_in_a_row"].hint in grade.reasons[KEY]


def test_a_loss_that_cannot_train_fails_at_grading_too(tmp_path):
    koleo = registry.find_exercise("120.1b.koleo")
    source = f"{koleo.imports}\n{inspect.getsource(koleo.reference)}"
    wrapped = "exact = koleo\ndef koleo(x):\n    return exact(x).detach()"
    check = cells.check_source(koleo)
    assert graded(tmp_path, source, check, keys=(koleo.key,)).passed == 1
    grade = graded(tmp_path, source, wrapped, check, keys=(koleo.key,))
    assert grade.results == {koleo.key: "failed"}
    assert "no gradient flows back" in grade.reasons[koleo.key]


def test_a_result_that_lies_in_an_argument_fails_at_grading_too(tmp_path):
    exercise = registry.find_exercise("120.1b.update-teacher")
    body = inspect.getsource(exercise.reference).replace(".clone()", "")
    grade = graded(
        tmp_path, exercise.imports, body, cells.check_source(exercise), keys=(exercise.key,)
    )
    assert "lies in the memory of the argument" in grade.reasons[exercise.key]


def test_bytes_travel_to_the_answer(tmp_path):
    exercise = registry.find_exercise("119.1b.checksum")
    source = f"{exercise.imports}\n{inspect.getsource(exercise.reference)}"
    check = cells.check_source(exercise)
    assert graded(tmp_path, source, check, keys=(exercise.key,)).passed == 1


MAGICS = {
    "inline": "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1])\nplt.show()",
    "widget": "%matplotlib widget",
    "notebook": "%matplotlib notebook\n%config InlineBackend.figure_format = 'retina'",
    "pylab": "%pylab inline\nplot([1]); array([1, 2])",
    "extensions": "%load_ext autoreload\n%autoreload 2\n%load_ext no_such_extension",
    "of the kernel": "%connect_info\n%qtconsole\n%no_such_magic at all",
    "installs": "%pip install torch\n%conda install torch",
    "time": "%time x = 1\n%timeit -n1 -r1 x",
}


@pytest.mark.parametrize("magic", MAGICS)
def test_a_magic_of_the_front_end_costs_no_answer(tmp_path, magic):
    grade = graded(tmp_path, f"{MAGICS[magic]}\n{SOLVED}\n{CHECK}")
    assert grade.results == {KEY: "passed"}
    assert grade.remarks == []


def test_a_cell_magic_that_is_not_there_costs_its_cell_alone(tmp_path):
    grade = graded(tmp_path, "%%no_such_magic\nx = 1", "%%time\n" + SOLVED, CHECK)
    assert grade.results == {KEY: "passed"}


def test_the_environment_of_the_grader_is_not_the_notebooks(tmp_path, monkeypatch):
    (tmp_path / "matplotlibrc").write_text("axes.facecolor: red\n")
    monkeypatch.setenv("MATPLOTLIBRC", str(tmp_path / "matplotlibrc"))
    monkeypatch.setenv("MPLBACKEND", "module://no.such.backend")
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", "/nowhere")
    source = """
        import os, locale, sys
        import matplotlib.pyplot as plt
        assert plt.get_backend().lower() == "agg"
        assert plt.rcParams["axes.facecolor"] == "white"
        assert sys.flags.utf8_mode == 1 and "PYTHONWARNINGS" not in os.environ
        breakpoint()
        try:
            input()
        except EOFError:
            print("nobody is there to ask")
    """
    assert graded(tmp_path, source, keys=()).remarks == []


# --- one submission never costs another's row ---


def value(expression):
    return f"from dlcourse.exercises import check\ncheck({GUESS!r}, {expression})"


ODD = {
    "a number of 400 digits": value("10**400"),
    "a number of 9,999 digits": value("10**9999"),
    "a huge fraction": value("__import__('fractions').Fraction(10**400, 3)"),
    "a list in itself": value("(lambda x: x.append(x) or x)([])"),
    "half a character": value("'\\ud83d'"),
    "a masked number": value("__import__('numpy').ma.masked"),
    "a sparse tensor": value("__import__('torch').eye(2).to_sparse()"),
    "a huge number returned": HEAD + "return 7 ** 99_999\n" + CHECK,
    "half a character raised": HEAD + "raise ValueError('\\ud83d')\n" + CHECK,
    "an object that refuses to be looked at": """
        class Hostile:
            def refuse(self, *args):
                raise RuntimeError("\\ud83d")
            __repr__ = __str__ = __eq__ = __deepcopy__ = __len__ = __iter__ = __float__ = refuse
            __hash__ = object.__hash__
        def run_scaler(overflows, scale, growth_interval):
            return Hostile(), {Hostile(): Hostile()}
    """ + "\n        " + CHECK.replace("\n", "\n        "),
    "an error of a cell with half a character": "raise ValueError('\\ud83d')",
    "an unknown key": (
        "from dlcourse.exercises import check\ncheck('119.1c.los-scale', 1)\ncheck([], 1)"
    ),
}  # fmt: skip


@pytest.mark.parametrize("source", ODD.values(), ids=ODD)
def test_whatever_an_answer_is_it_spoils_no_more_than_its_own_result(tmp_path, source):
    grade = graded(tmp_path, source, SOLVED_RING, keys=(KEY, GUESS, RING_KEY))
    assert grade.results[RING_KEY] == "passed"
    assert {grade.results[KEY], grade.results[GUESS]} <= {"failed", "not attempted"}
    table.write_grades([grade], [KEY, GUESS, RING_KEY], [], tmp_path / "grades.csv")


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


NO_NOTEBOOKS = {
    "brackets": ("[" * 200_000, "nested too deeply"),
    "brackets in a cell": ('{"cells": ' + "[" * 200_000, "nested too deeply"),
    "a list": ("[]", "no cells"),
    "no cells": ('{"cells": 3}', "no cells"),
    "an old format": ('{"worksheets": [{"cells": []}]}', "old format"),
    "no text": (b"\xff\xfe\x00", "not a notebook"),
    "nothing": (b"", "not a notebook"),
    "a source that is no text": (
        '{"cells": [{"cell_type": "code", "source": [1]}]}', "source is no text"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "said"), NO_NOTEBOOKS.values(), ids=NO_NOTEBOOKS)
def test_a_file_that_cannot_be_read_is_a_row_with_the_reason(tmp_path, content, said):
    path = write(tmp_path, "broken.ipynb", content)
    grade = grade_notebook(path, (KEY,), memory=2000)
    assert grade.results == {KEY: "error"}
    assert said in grade.remarks[0] and "not a notebook" in grade.remarks[0]


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is limited on Linux")
def test_a_notebook_that_is_too_large_to_be_read_costs_no_memory_of_the_grader(tmp_path):
    output = json.dumps({"output_type": "stream", "text": ["x" * 20] * 1000})
    cell = '{"cell_type": "code", "source": "", "outputs": [' + ",".join([output] * 400) + "]}"
    path = write(tmp_path, "large.ipynb", '{"cells": [' + cell + "]}")
    assert path.stat().st_size > 8e6
    assert "more memory" in grade_notebook(path, (KEY,), memory=40).remarks[0]
    grade = grade_notebook(path, (KEY,), memory=2000, timeout=60)
    assert (grade.results, grade.remarks) == ({KEY: "not attempted"}, [])


def test_a_notebook_with_a_byte_order_mark_and_odd_cells_is_read(tmp_path):
    text = json.dumps({"cells": [3, {"cell_type": "code"}, {"cell_type": "code", "metadata": None,
                                     "source": ["predict_dead_worker", " = 140"]}]})  # fmt: skip
    path = write(tmp_path, "bom.ipynb", b"\xef\xbb\xbf" + text.encode())
    assert grade_notebook(path, (GUESS,), timeout=60).results == {GUESS: "passed"}


def test_a_fault_of_the_grader_itself_costs_one_row(tmp_path, monkeypatch):
    def broken(*args):
        raise ZeroDivisionError("ours \ud83d")

    monkeypatch.setattr(grader.checker, "examine_for_grade", broken)
    grade = graded(tmp_path, SOLVED, CHECK, SOLVED_GUESS, keys=(KEY, GUESS))
    assert grade.results == {KEY: "error", GUESS: "passed"}
    assert "can't be judged: ZeroDivisionError" in grade.reasons[KEY]
    monkeypatch.setattr(grader._Run, "_walk", broken)
    grade = graded(tmp_path, SOLVED, keys=(KEY,))
    assert grade.results == {KEY: "error"} and "failed on it" in grade.remarks[0]


def test_a_folder_of_odd_submissions_is_graded_to_the_end(tmp_path):
    folder = tmp_path / "class"
    folder.mkdir()
    notebook(folder, "a good one", SOLVED_GUESS)
    notebook(folder, "b =cmd() \n\x1b[31m", SOLVED_GUESS)
    name = os.fsdecode(b"c \xff.ipynb")
    (folder / "a good one.ipynb").rename(folder / name)
    write(folder, "d.ipynb", "[" * 200_000)
    notebook(folder, "e", value("10**400"))
    (folder / "f.ipynb").mkdir()
    told = []
    grades, keys = grader.grade_folder(folder, timeout=60, jobs=2, finished=told.append)
    results = [grade.results[GUESS] for grade in grades]
    assert results == ["passed", "passed", "error", "failed", "error"]
    assert len(told) == 5
    table.write_grades(grades, keys, ["119.1b"], tmp_path / "grades.csv")
    with open(tmp_path / "grades.csv", newline="", encoding="utf8") as file:
        rows = list(csv.DictReader(file))
    assert [row["notebook"] for row in rows] == [
        "b =cmd() \\x1b[31m.ipynb", "c \\udcff.ipynb", "d.ipynb", "e.ipynb", "f.ipynb",
    ]  # fmt: skip


def test_an_interruption_ends_what_runs_and_keeps_the_rows(tmp_path, monkeypatch):
    begun = tmp_path / "begun"
    notebook(tmp_path, "a", SOLVED_GUESS)
    notebook(tmp_path, "b", f"open({str(begun)!r}, 'w').close()\nwhile True: pass")
    notebook(tmp_path, "c", SOLVED_GUESS)

    def interrupted(running):
        while not begun.exists():
            time.sleep(0.05)
        raise KeyboardInterrupt

    monkeypatch.setattr(grader, "wait", interrupted)
    grades, _ = grader.grade_folder(tmp_path, timeout=600)
    assert [grade.results[GUESS] for grade in grades] == ["passed", "error"]
    assert "the grading was interrupted" in grades[1].remarks[0]


def test_what_is_expected_is_every_exercise_of_the_sections_seen(tmp_path):
    (tmp_path / ".ipynb_checkpoints").mkdir()
    notebook(tmp_path / ".ipynb_checkpoints", "old", CHECK)
    paths = [notebook(tmp_path, "a", "x = 1"), notebook(tmp_path, "b", CHECK)]
    assert grader.find_notebooks(tmp_path) == paths
    read = [grader.read_notebook(p, tmp_path / f"{p.stem}.json", 2000) for p in paths]
    section = [e.key for e in registry.all_exercises() if e.key.startswith("119.1c.")]
    assert grader.expected_keys(read) == section
    assert grader.expected_quizzes(section) == ["119.1c"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no notebook"):
        grader.find_notebooks(tmp_path / "empty")


def test_a_notebook_of_an_older_course_is_graded_under_the_new_keys(tmp_path):
    check = CHECK.replace(KEY, "119.1b.loss-scale-rule")
    path = notebook(tmp_path, "old", SOLVED, check)
    read = grader.read_notebook(path, tmp_path / "old.json", 2000)
    assert KEY in grader.expected_keys([read])
    assert grade_notebook(path, (KEY,), timeout=60).results == {KEY: "passed"}


# --- quizzes, the table, the class ---


def quiz_output(answers, key="119.1b"):
    record = {"key": key, "answers": {name: {"right": right} for name, right in answers.items()}}
    return {"output_type": "display_data", "metadata": {},
            "data": {"text/plain": "…", "application/vnd.dlcourse.quiz+json": record}}  # fmt: skip


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ([], "not recorded"),
        ([quiz_output({})], "0 of 6"),
        ([quiz_output({"flipped": True, "killed": False, "unknown": True})], "1 of 6"),
        ([quiz_output({"flipped": True}, key="119.3")], "not recorded"),
        ([{"data": {"application/vnd.dlcourse.quiz+json": ["odd"]}}, 3, {"data": 4}],
         "not recorded"),
    ],
)  # fmt: skip
def test_the_quiz_is_read_from_its_own_output(tmp_path, outputs, said):
    cell = {"cell_type": "code", "source": SOLVED_GUESS, "metadata": {}, "outputs": outputs}
    path = write(tmp_path, "quiz.ipynb", json.dumps({"cells": [cell]}))
    assert grade_notebook(path, (GUESS,), timeout=60).quizzes == {"119.1b": said}


def test_what_a_quiz_leaves_in_the_notebook_is_what_the_grader_reads():
    from dlcourse.exercises import quizzes
    from dlcourse.teach import read_notebook

    assert read_notebook.QUIZ_MIME == quizzes.RECORD_MIME


GRADES = [
    table.Grade("=cmd()", {KEY: "failed"}, {KEY: 'wrong,\n"quoted"'}, {KEY: "listing"},
                {"119.2": "3 of 6"}, ["+1"]),
    table.Grade("b", {KEY: "failed", GUESS: "passed"}, {KEY: "x"}, {KEY: "one_beta"}),
    table.Grade("c", {KEY: "failed", GUESS: "not attempted"}, {KEY: "x"}, {KEY: "one_beta"}),
]  # fmt: skip


def test_the_table_has_a_row_a_notebook_and_no_formulas(tmp_path):
    table.write_grades(GRADES, [KEY, GUESS], ["119.2"], tmp_path / "grades.csv")
    with open(tmp_path / "grades.csv", newline="") as file:
        head, row, other, _ = list(csv.reader(file))
    assert head == [
        "notebook", "passed", "of", KEY, GUESS, "quiz 119.2", "mistakes", "remarks"
    ]  # fmt: skip
    assert row == ["'=cmd()", "0", "2", "failed", "error", "3 of 6", f"{KEY}: listing",
                   f"'+1; {KEY}: wrong, \"quoted\""]  # fmt: skip
    assert other[5] == "not recorded"


def test_the_class_is_summed_up_by_exercise_with_its_common_mistakes(tmp_path):
    lion, guess = table.summarise(GRADES, [KEY, GUESS])
    assert lion.line() == f"{KEY}: 3 failed (one_beta 2, listing 1)"
    assert guess.line() == f"{GUESS}: 1 passed, 1 not attempted, 1 error"
    table.write_summary([lion, guess], tmp_path / "summary.csv")
    with open(tmp_path / "summary.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"exercise": KEY, "passed": "0", "failed": "3", "not attempted": "0",
                       "error": "0", "mistakes": "one_beta 2, listing 1"}  # fmt: skip


def test_an_annotated_table_is_kept(tmp_path):
    target = tmp_path / "grades.csv"
    assert table.write_grades(GRADES, [KEY], [], target) is None
    assert table.write_grades(GRADES[:1], [KEY], [], target) is None
    target.write_text(target.read_text() + "see me after class\n")
    kept = table.write_grades(GRADES, [KEY], [], target)
    assert "see me after class" in kept.read_text()
