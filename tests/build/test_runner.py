"""`dlcourse run`: parallel, cached, measured, and safe to interrupt."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from typer.testing import CliRunner

from dlcourse.build import project, results, runner, sources, worker
from dlcourse.cli import app
from dlcourse.files import TEMPORARY_SUFFIX
from dlcourse.notebook import records
from dlcourse.notebook.records import CellRecord

GOOD = """\
# %% [markdown]
# (sec-good)=
# # 1.1 Good
# Text.

# %% tags=["parameters"]
size = 1

# %%
import os
from pathlib import Path
print(size, os.environ["DLCOURSE_STATIC"], os.environ["OMP_NUM_THREADS"], Path.cwd().name)

# %% tags=["raises-exception"]
1 / 0

# %% tags=["gpu"] name="big"
print("on a gpu")

# %%
6 * 7
"""
BAD = "# %% [markdown]\n# # 1.2 Bad\n\n# %%\nplanted = {}['missing key']\n"
HUNGRY = """\
# %% [markdown]
# # 1.3 Hungry

# %%
block = bytearray(300_000_000)
import subprocess, sys
busy = "import time\\nwhile time.process_time() < 1.5: pass"
subprocess.run([sys.executable, "-c", busy], check=True);
"""
ODD = "1_toy [b] & c"  # a chapter's folder, with what shells and patterns take for their own
PAGES = {"1_good": "1_toy_chapter", "2_bad": "1_toy_chapter", "3_hungry": ODD}


def path_of(stem):
    return f"chapters/{PAGES[stem]}/{stem}.py"


def outputs(path):
    """Executed cells without the measured line."""
    cells = json.loads(path.read_text())["cells"]
    for cell in cells:
        cell["source"] = [line for line in cell["source"] if "badge-line" not in line]
        cell.pop("id")
    return cells


def execute_here(jobs, workers):
    """In place of worker processes: this process executes."""
    return [(job, worker.execute(job)) for job in jobs]


@pytest.fixture(scope="module")
def ran(module_checkout):
    """Three notebooks, the middle one broken, run with two jobs."""
    for (stem, folder), text in zip(PAGES.items(), (GOOD, BAD, HUNGRY)):
        module_checkout.add(stem, text, folder)
    module_checkout.write(f"chapters/{ODD}/.ipynb_checkpoints/3_hungry-checkpoint.py", BAD)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(module_checkout.root)
        return module_checkout, CliRunner().invoke(app, ["run", "chapters", "-j", "2"])


@pytest.fixture
def again(ran, monkeypatch):
    """`dlcourse run` in the same checkout, in this process."""
    monkeypatch.chdir(ran[0].root)
    monkeypatch.setattr(runner, "execute_all", execute_here)
    return lambda *arguments: CliRunner().invoke(app, ["run", *arguments])


def test_failing_notebook_fails_the_run_after_the_others_have_run(ran):
    checkout, done = ran
    assert done.exit_code == 1
    assert checkout.executed("1_good").exists() and checkout.executed("3_hungry", ODD).exists()
    assert not checkout.executed("2_bad").exists()
    assert done.stdout.rstrip().endswith("2 ok, 0 cached, 1 failed")  # and no checkpoint


def test_failing_notebook_shows_its_traceback(ran):
    assert "KeyError: 'missing key'" in ran[1].stderr
    assert "planted = {}['missing key']" in ran[1].stderr


def test_summary_has_result_times_memory_device_and_error_of_each(ran):
    summary = results.read_summary(ran[0].root)
    good, bad, hungry = (summary[path_of(stem)] for stem in PAGES)
    assert [entry["result"] for entry in (good, bad, hungry)] == ["ok", "failed", "ok"]
    assert bad["error"] == "KeyError: 'missing key' (cell 1)" and good["error"] is None
    assert "core" in good["device"] and len(good["key"]) == 64
    assert good["peak_memory_mb"] + 250 < hungry["peak_memory_mb"] < 600
    assert set(good) == {
        *("result", "seconds", "cpu_seconds", "peak_memory_mb", "device", "date", "key", "error")
    }


def test_time_is_that_of_the_processor_and_counts_what_a_cell_starts(ran):
    summary = results.read_summary(ran[0].root)
    good, hungry = (summary[path_of(stem)] for stem in ("1_good", "3_hungry"))
    assert good["cpu_seconds"] > 0 and hungry["cpu_seconds"] > 1.5
    assert f"{hungry['cpu_seconds']:.1f} CPU s" in ran[1].stdout


def test_measured_line_stands_below_the_title(ran):
    cell = nbformat.read(ran[0].executed("1_good"), as_version=4).cells[0]
    lines = cell.source.split("\n")
    assert lines[:2] == ["(sec-good)=", "# 1.1 Good"]
    assert lines[3].startswith('<p class="badge-line">Measured when this page was built:')
    assert "seconds of one core" in lines[3] and "MB of memory" in lines[3]
    assert lines[5:] == ["Text."]


def test_kernels_run_in_the_sources_folder_with_one_thread_and_static_widgets(ran):
    cell = nbformat.read(ran[0].executed("1_good"), as_version=4).cells[2]
    assert cell.outputs[0].text == "1 1 1 1_toy_chapter\n"


def test_executed_notebook_is_valid_and_free_of_run_times(ran):
    text = ran[0].executed("1_good").read_text()
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert "papermill" not in text and "iopub" not in text
    assert notebook.cells[3].outputs[0].ename == "ZeroDivisionError"


def test_a_recorded_cell_is_not_run_and_shows_that_nothing_is_recorded(ran):
    cell = nbformat.read(ran[0].executed("1_good"), as_version=4).cells[4]
    assert "Nothing has been recorded" in cell.outputs[0].data["text/plain"]


def test_learners_notebooks_are_brought_in_step(ran):
    for stem in PAGES:
        pair = (ran[0].root / path_of(stem)).with_suffix(".ipynb")
        assert '"outputs": []' in pair.read_text()


def test_second_run_executes_nothing_that_has_not_changed(ran, again):
    good = ran[0].executed("1_good")
    before = good.stat().st_mtime_ns
    done = again("chapters/1_toy_chapter/1_good.ipynb", f"chapters/{ODD}")
    assert done.exit_code == 0 and "0 ok, 2 cached, 0 failed" in done.stdout
    assert good.stat().st_mtime_ns == before


def test_what_is_over_the_budget_is_named_also_where_it_was_not_run_again(ran, again, monkeypatch):
    monkeypatch.setattr(results, "CPU_BUDGET", 1.5)
    monkeypatch.setattr(results, "MEMORY_BUDGET", 290.0)
    done = again(path_of("1_good"), path_of("3_hungry"))
    over = [line for line in done.stdout.splitlines() if line.startswith("over budget: ")]
    assert len(over) == 2 and all(path_of("3_hungry") in line for line in over)
    assert "CPU seconds (budget 2)" in over[0] and "MB (budget 290)" in over[1]
    listed = CliRunner().invoke(app, ["list"]).stdout.split("1.3 Hungry")
    assert "over budget" in listed[1] and "over budget" not in listed[0]


def test_a_run_in_this_process_gives_the_outputs_of_the_parallel_run(ran, again):
    parallel = outputs(ran[0].executed("1_good"))
    assert again("--force", path_of("1_good")).exit_code == 0
    assert outputs(ran[0].executed("1_good")) == parallel


def wait_for(condition):
    """Until the condition holds: however slow the machine, long before a test is given up."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def interruptible():
    """What is started here hears of Ctrl-C, also where a shell runs the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_run_leaves_whole_files_and_no_kernels(checkout, interruptible, sent):
    pid_file = checkout.root / "kernel.pid"
    waits = (
        f"import os, time, pathlib\npathlib.Path({str(pid_file)!r}).write_text(str(os.getpid()))\n"
    )
    checkout.add("1_fast", "# %% [markdown]\n# # Fast\n\n# %%\n1 + 1\n")
    checkout.add("2_slow", f"# %% [markdown]\n# # Slow\n\n# %%\n{waits}time.sleep(300)\n")
    process = checkout.popen("run", "-j", "1")
    assert wait_for(lambda: pid_file.exists() and pid_file.read_text() != "")
    assert list(results.read_summary(checkout.root)) == ["chapters/1_toy_chapter/1_fast.py"]
    kernel = int(pid_file.read_text())
    children = psutil.Process(process.pid).children(recursive=True)
    assert kernel in [child.pid for child in children]
    process.send_signal(sent)
    _, stderr = process.communicate(timeout=200)

    assert process.returncode == (-signal.SIGKILL if sent == signal.SIGKILL else 130)
    assert "Traceback" not in stderr
    assert wait_for(lambda: not any(child.is_running() for child in children))
    assert not checkout.executed("2_slow").exists()
    nbformat.read(checkout.executed("1_fast"), as_version=4)
    assert list(results.read_summary(checkout.root)) == ["chapters/1_toy_chapter/1_fast.py"]
    assert not list(checkout.root.rglob(f"*{TEMPORARY_SUFFIX}"))


def test_termination_is_an_interrupt_and_leaves_no_worker():
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(300,))
    process.start()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), runner._terminated_like_ctrl_c():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    process.join(timeout=60)
    assert process.exitcode == -signal.SIGKILL
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_error_of_the_machinery_itself_is_not_hidden(monkeypatch):
    class Pool:
        def __init__(self, *given):
            pass

        def submit(self, *given):
            raise OSError("no more processes")

        def shutdown(self, **given):
            pass

    monkeypatch.setattr(runner, "ProcessPoolExecutor", Pool)
    with pytest.raises(OSError, match="no more processes"):
        list(runner.execute_all([None], 1))


@pytest.mark.parametrize(
    "code, timeout, reason",
    [
        ("import os; os._exit(3)", 300, "Kernel died"),
        ("import time; time.sleep(60)", 1, "timed out"),
    ],
)
def test_dead_kernel_and_slow_cell_fail_with_a_reason(checkout, monkeypatch, code, timeout, reason):
    monkeypatch.setattr(runner, "execute_all", execute_here)
    checkout.add("1_page", f"# %% [markdown]\n# # Page\n\n# %%\n{code}\n")
    (outcome,) = run_all(checkout, timeout=timeout)
    assert outcome.result == "failed" and reason in outcome.error


# --- without kernels ------------------------------------------------------------------------------


@pytest.fixture
def fake_execution(monkeypatch):
    """`run` with jobs that return their notebook unexecuted; the sources that were 'executed'."""
    executed = []

    def execute_all(jobs, workers):
        for job in jobs:
            executed.append(job.source.stem)
            yield job, runner.Outcome(job.source, "ok", 1.0, 2.0, 3.0, notebook=job.notebook)

    monkeypatch.setattr(runner, "execute_all", execute_all)
    return executed


def run_all(checkout, **options):
    return runner.run(runner.resolve([], checkout.root), checkout.root, **options)


def test_cache_holds_while_nothing_changes(checkout, fake_execution):
    checkout.add("1_good", GOOD)
    checkout.add("3_hungry", HUNGRY)
    run_all(checkout)
    again = run_all(checkout)
    assert [outcome.result for outcome in again] == ["cached", "cached"]
    assert [outcome.cpu_seconds for outcome in again] == [2.0, 2.0]  # of the run
    assert fake_execution == ["1_good", "3_hungry"]


def record(root, source):
    states = runner.record_states(
        sources.read_source(source), root, source.relative_to(root), runner.Package(root)
    )
    made = CellRecord(
        kind="gpu", device="G", versions={"torch": "2"}, date="2026-01-02", commit="c",
        seconds=1.0, peak_memory_mb=1.0, outputs=[],
        cell=states["1.1.big"].digests[0], code=states["1.1.big"].digests[1],
    )  # fmt: skip
    records.write_records(project.records_path(root, source), {"big": made})


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.write("chapters/1_toy_chapter/1_good.py", GOOD + "\n# %%\n1\n"),
        lambda c: c.write("src/dlcourse/__init__.py", "x = 1\n"),
        lambda c: record(c.root, c.root / "chapters/1_toy_chapter/1_good.py"),
        lambda c: c.executed("1_good").unlink(),
        lambda c: (c.root / results.SUMMARY).unlink(),
        lambda c: (c.root / results.SUMMARY).write_text('{"half": '),
    ],
    ids=["source", "package", "record", "copy gone", "summary gone", "summary broken"],
)  # fmt: skip
def test_cache_is_void_when_what_it_depends_on_changes(checkout, fake_execution, change):
    checkout.add("1_good", GOOD)
    run_all(checkout)
    change(checkout)
    run_all(checkout)
    assert fake_execution == ["1_good", "1_good"]


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.write("src/dlcourse/new/module.py", ""),
        lambda c: c.write("constraints.txt", "torch==2.14.0\n# a comment\n"),
        lambda c: c.write("README.md", "More.\n"),
    ],
    ids=["another module", "constraints", "text"],
)
def test_cache_holds_when_something_else_changes(checkout, fake_execution, change):
    checkout.add("1_good", GOOD)
    run_all(checkout)
    change(checkout)
    run_all(checkout)
    assert fake_execution == ["1_good"]


def test_edit_while_a_notebook_runs_is_not_taken_for_what_ran(
    checkout, fake_execution, monkeypatch
):
    source = checkout.add("1_good", GOOD)
    execute_all = runner.execute_all

    def with_edit(jobs, workers):
        for outcome in execute_all(jobs, workers):
            source.write_text(GOOD + "\n# %%\n'edited'\n")
            yield outcome

    monkeypatch.setattr(runner, "execute_all", with_edit)
    run_all(checkout)
    run_all(checkout)
    assert fake_execution == ["1_good", "1_good"]


def test_force_executes_again(checkout, fake_execution):
    checkout.add("1_good", GOOD)
    run_all(checkout)
    run_all(checkout, force=True)
    assert fake_execution == ["1_good", "1_good"]


def test_change_of_one_notebook_executes_only_that(checkout, fake_execution):
    checkout.add("1_good", GOOD)
    checkout.add("3_hungry", HUNGRY)
    run_all(checkout)
    checkout.write("chapters/1_toy_chapter/3_hungry.py", HUNGRY + "1\n")
    run_all(checkout)
    assert fake_execution == ["1_good", "3_hungry", "3_hungry"]


def test_the_longest_run_begins_first_and_unknown_ones_before_it(checkout, fake_execution):
    for stem, cpu in (("1_short", 1.0), ("2_long", 20.0), ("3_new", None)):
        checkout.add(stem, "# %%\n1\n")
        if cpu:
            entry = {"result": "failed", "cpu_seconds": cpu}
            results.update_summary(checkout.root, Path(f"chapters/1_toy_chapter/{stem}.py"), entry)
    run_all(checkout)
    assert fake_execution == ["3_new", "2_long", "1_short"]


def test_source_that_has_no_learners_notebook_fails_alone(checkout, fake_execution):
    checkout.add("1_new", "# %% [markdown]\n# # New\n# {newrole}`x`\n")
    checkout.add("3_hungry", HUNGRY)
    outcomes = {outcome.source.stem: outcome for outcome in run_all(checkout)}
    assert outcomes["1_new"].result == "failed" and "{newrole}" in outcomes["1_new"].report
    assert outcomes["3_hungry"].result == "ok"


def test_failed_notebook_takes_its_old_copy_away(checkout, fake_execution, monkeypatch):
    checkout.add("1_good", GOOD)
    run_all(checkout)
    assert checkout.executed("1_good").exists()
    failing = lambda jobs, workers: [  # noqa: E731
        (job, runner.Outcome(job.source, "failed", error="E", report="R")) for job in jobs
    ]
    monkeypatch.setattr(runner, "execute_all", failing)
    run_all(checkout, force=True)
    assert not checkout.executed("1_good").exists()
    assert [outcome.result for outcome in run_all(checkout)] == ["failed"]  # and is no cache hit


def test_what_will_be_run_and_each_outcome_is_told(checkout, fake_execution):
    checkout.add("1_good", GOOD)
    run_all(checkout)
    checkout.add("3_hungry", HUNGRY)
    started, finished = [], []
    run_all(checkout, started=started.append, finished=finished.append)
    assert started == [1]
    assert [(o.source.stem, o.result) for o in finished] == [
        *(("1_good", "cached"), ("3_hungry", "ok"))
    ]


@pytest.mark.parametrize("options", [{"jobs": 0}, {"timeout": 0}])
def test_wrong_options_are_refused(checkout, fake_execution, options):
    checkout.add("1_good", GOOD)
    with pytest.raises(ValueError, match="at least 1"):
        run_all(checkout, **options)
    assert fake_execution == []


# --- which sources --------------------------------------------------------------------------------


def test_paths_may_be_sources_notebooks_and_folders(checkout, monkeypatch):
    monkeypatch.chdir(checkout.root)
    source = checkout.add("1_good", GOOD)
    checkout.add("3_hungry", HUNGRY)
    source.with_suffix(".ipynb").write_text("{}")
    relative = source.relative_to(checkout.root)
    assert runner.resolve([source], checkout.root) == [relative]
    assert runner.resolve([relative.with_suffix(".ipynb"), source], checkout.root) == [relative]
    assert [p.stem for p in runner.resolve(["chapters"], checkout.root)] == ["1_good", "3_hungry"]


def test_checkpoints_of_jupyter_are_no_sources(checkout, monkeypatch):
    monkeypatch.chdir(checkout.root)
    source = checkout.add("1_good", GOOD)
    hidden = "chapters/1_toy_chapter/.ipynb_checkpoints/1_good-checkpoint.py"
    checkout.write(hidden, GOOD)
    assert runner.resolve(["chapters"], checkout.root) == [source.relative_to(checkout.root)]
    with pytest.raises(runner.ProjectError, match="not a chapter"):
        runner.resolve([hidden], checkout.root)


@pytest.mark.parametrize(
    "path, message",
    [
        ("chapters/none.py", "does not exist"),
        ("book/intro.md", "not under"),
        ("src/dlcourse/__init__.py", "not under"),
        ("chapters/lone.ipynb", "no .py source"),
        ("chapters/notes.md", "no .py source"),
        ("chapters/empty", "no .py source"),
    ],
)
def test_paths_that_are_no_chapters_are_named(checkout, path, message):
    checkout.write("chapters/lone.ipynb", "{}")
    checkout.write("chapters/notes.md", "")
    (checkout.root / "chapters" / "empty").mkdir()
    with pytest.raises(runner.ProjectError, match=message) as error:
        runner.resolve([path], checkout.root)
    assert path in str(error.value)
