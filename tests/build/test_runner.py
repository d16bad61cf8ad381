"""`dlcourse run`: parallel, cached, measured, and safe to interrupt."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest

from dlcourse.build import records, runner
from dlcourse.files import TEMPORARY_SUFFIX

GOOD = """\
# %% [markdown]
# (sec-good)=
# # 1.1 Good
# Text.

# %% tags=["parameters"]
profile = "cpu"

# %%
import os
from pathlib import Path
print(profile, os.environ["DLCOURSE_STATIC"], os.environ["OMP_NUM_THREADS"], Path.cwd().name)

# %% tags=["raises-exception"]
1 / 0

# %% tags=["gpu"] name="big"
print("on a gpu")

# %% tags=["nbval-check-output"]
6 * 7
"""
BAD = "# %% [markdown]\n# # 1.2 Bad\n\n# %%\nplanted = {}['missing key']\n"
HUNGRY = """\
# %% [markdown]
# # 1.3 Hungry

# %%
block = bytearray(300_000_000)
import time; time.sleep(0.5)
"""
STEMS = ("1_good", "2_bad", "3_hungry")


def outputs(path):
    """Executed cells without the measured line."""
    cells = json.loads(path.read_text())["cells"]
    for cell in cells:
        cell["source"] = [line for line in cell["source"] if "badge-line" not in line]
        cell.pop("id")
    return cells


@pytest.fixture(scope="module")
def ran(module_checkout):
    """Three notebooks, the middle one broken, run with two jobs."""
    for stem, text in zip(STEMS, (GOOD, BAD, HUNGRY)):
        module_checkout.add(stem, text)
    return module_checkout, module_checkout.dlcourse("run", "-j", "2", OMP_NUM_THREADS="1")


def test_failing_notebook_fails_the_run_after_the_others_have_run(ran):
    checkout, done = ran
    assert done.returncode == 1
    assert checkout.executed("1_good").exists() and checkout.executed("3_hungry").exists()
    assert not checkout.executed("2_bad").exists()
    assert done.stdout.rstrip().endswith("2 ok, 0 cached, 1 failed")


def test_failing_notebook_shows_its_traceback(ran):
    assert "KeyError: 'missing key'" in ran[1].stderr
    assert "planted = {}['missing key']" in ran[1].stderr


def test_summary_has_result_time_memory_device_and_error_of_each(ran):
    checkout, _ = ran
    summary = runner.read_summary(checkout.root)
    good, bad, hungry = (summary[f"chapters/1_toy_chapter/{stem}.py"] for stem in STEMS)
    assert [entry["result"] for entry in (good, bad, hungry)] == ["ok", "failed", "ok"]
    assert bad["error"] == "KeyError: 'missing key' (cell 1)" and good["error"] is None
    assert 0.5 < hungry["seconds"] < 60 and "core" in good["device"]
    assert good["peak_memory_mb"] + 250 < hungry["peak_memory_mb"] < 600
    assert set(good) == {"result", "seconds", "peak_memory_mb", "device", "date", "key", "error"}


def test_measured_line_stands_below_the_title(ran):
    cell = nbformat.read(ran[0].executed("1_good"), as_version=4).cells[0]
    lines = cell.source.split("\n")
    assert lines[:2] == ["(sec-good)=", "# 1.1 Good"]
    assert lines[3].startswith('<p class="badge-line">Measured when this page was built:')
    assert "MB of memory" in lines[3] and lines[5:] == ["Text."]


def test_kernels_run_in_the_sources_folder_with_static_widgets(ran):
    cell = nbformat.read(ran[0].executed("1_good"), as_version=4).cells[2]
    assert cell.outputs[0].text == "cpu 1 1 1_toy_chapter\n"


def test_executed_notebook_is_valid_and_free_of_run_times(ran):
    text = ran[0].executed("1_good").read_text()
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert "papermill" not in text and "iopub" not in text
    assert notebook.cells[3].outputs[0].ename == "ZeroDivisionError"


def test_learners_notebooks_are_brought_in_step(ran):
    for stem in STEMS:
        pair = ran[0].root / "chapters/1_toy_chapter" / f"{stem}.ipynb"
        assert '"outputs": []' in pair.read_text()


def test_second_run_executes_only_what_failed_and_is_quick(ran):
    checkout, _ = ran
    before = checkout.executed("1_good").stat().st_mtime_ns
    start = time.perf_counter()
    done = checkout.dlcourse("run", "chapters/1_toy_chapter/1_good.ipynb", "-j", "2")
    assert time.perf_counter() - start < 10  # about 2 s on an idle machine
    assert done.returncode == 0 and "0 ok, 1 cached, 0 failed" in done.stdout
    assert checkout.executed("1_good").stat().st_mtime_ns == before


def test_serial_run_gives_the_outputs_of_the_parallel_run(ran):
    checkout, _ = ran
    parallel = outputs(checkout.executed("1_good"))
    done = checkout.dlcourse("run", "-j", "1", "--force", "chapters/1_toy_chapter/1_good.py")
    assert done.returncode == 0
    assert outputs(checkout.executed("1_good")) == parallel


def test_executed_notebook_passes_nbval_and_a_changed_output_fails_it(ran):
    checkout, _ = ran
    good = checkout.executed("1_good")
    changed = good.with_name("changed.ipynb")
    changed.write_text(good.read_text().replace('"42"', '"43"'))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval-lax", "-p", "no:cacheprovider", "-q",
         str(good), str(changed)],
        cwd=checkout.root, env=checkout.environment(DLCOURSE_STATIC="1"),
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    changed.unlink()
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 1 and "changed.ipynb" in failed[0]
    assert "1 failed, 7 passed, 2 skipped" in done.stdout  # the gpu cell of each is skipped


def test_gpu_run_gives_the_gpu_profile_and_records_what_gpu_cells_print(checkout):
    source = checkout.add("1_good", GOOD)
    done = checkout.dlcourse("run", "--record", DLCOURSE_GPU="1", DLCOURSE_COMMIT="abc1234")
    assert done.returncode == 0, done.stderr
    record = records.read_record(records.record_path(source))
    assert record.commit == "abc1234" and record.versions["torch"]
    assert record.cells["big"].outputs[0]["text"] == "on a gpu\n"
    executed = nbformat.read(checkout.executed("1_good"), as_version=4)
    said = [c.outputs[0].text for c in executed.cells if "print(profile" in c.source]
    assert said[0].startswith("gpu 1")  # the profile that a GPU run injects


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_run_leaves_whole_files_and_no_kernels(checkout, sent):
    pid_file = checkout.root / "kernel.pid"
    waits = (
        f"import os, time, pathlib\npathlib.Path({str(pid_file)!r}).write_text(str(os.getpid()))\n"
    )
    checkout.add("1_fast", "# %% [markdown]\n# # Fast\n\n# %%\n1 + 1\n")
    checkout.add("2_slow", f"# %% [markdown]\n# # Slow\n\n# %%\n{waits}time.sleep(300)\n")
    process = checkout.popen("run", "-j", "2")
    assert wait_for(lambda: checkout.executed("1_fast").exists() and pid_file.exists())
    assert wait_for(lambda: pid_file.read_text() != "")
    kernel = int(pid_file.read_text())
    children = psutil.Process(process.pid).children(recursive=True)
    assert kernel in [child.pid for child in children]
    time.sleep(0.3)  # let the summary of the first one be written
    process.send_signal(sent)
    _, stderr = process.communicate(timeout=30)

    assert process.returncode == (-signal.SIGKILL if sent == signal.SIGKILL else 130)
    assert "Traceback" not in stderr
    assert wait_for(lambda: not any(child.is_running() for child in children), 10)
    assert not checkout.executed("2_slow").exists()
    nbformat.read(checkout.executed("1_fast"), as_version=4)
    assert list(runner.read_summary(checkout.root)) == ["chapters/1_toy_chapter/1_fast.py"]
    assert not list(checkout.root.rglob(f"*{TEMPORARY_SUFFIX}"))


def test_termination_is_an_interrupt_and_leaves_no_worker():
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(100,))
    worker.start()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), runner._terminated_like_ctrl_c():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    worker.join(timeout=5)
    assert worker.exitcode == -signal.SIGKILL
    assert signal.getsignal(signal.SIGTERM) is before


def test_dead_kernel_and_slow_cell_fail_with_a_reason(checkout):
    checkout.add("1_dies", "# %% [markdown]\n# # Dies\n\n# %%\nimport os; os._exit(3)\n")
    checkout.add("2_slow", "# %% [markdown]\n# # Slow\n\n# %%\nimport time; time.sleep(60)\n")
    done = checkout.dlcourse("run", "-j", "2", "--timeout", "2")
    assert done.returncode == 1 and "2 failed" in done.stdout
    summary = runner.read_summary(checkout.root)
    assert "Kernel died" in summary["chapters/1_toy_chapter/1_dies.py"]["error"]
    assert "timed out" in summary["chapters/1_toy_chapter/2_slow.py"]["error"]


# --- without kernels ------------------------------------------------------------------------------


@pytest.fixture
def fake_execution(monkeypatch):
    """`run` with jobs that return their notebook unexecuted; the sources that were 'executed'."""
    executed = []

    def execute_all(jobs, workers):
        from dlcourse.build import sources

        for job in jobs:
            executed.append(job.source.stem)
            notebook = sources.read_source(job.root / job.source)
            yield runner.Outcome(job.source, "ok", 1.0, 2.0, notebook=nbformat.writes(notebook))

    monkeypatch.setattr(runner, "_execute_all", execute_all)
    monkeypatch.setenv("DLCOURSE_GPU", "0")
    return executed


def run_all(checkout, **options):
    return runner.run(runner.resolve([], checkout.root), checkout.root, **options)


def test_cache_holds_while_nothing_changes(checkout, fake_execution):
    checkout.add("1_good", GOOD)
    checkout.add("3_hungry", HUNGRY)
    run_all(checkout)
    assert [outcome.result for outcome in run_all(checkout)] == ["cached", "cached"]
    assert fake_execution == ["1_good", "3_hungry"]


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.write("chapters/1_toy_chapter/1_good.py", GOOD + "\n# %%\n1\n"),
        lambda c: c.write("src/dlcourse/__init__.py", "x = 1\n"),
        lambda c: c.write("src/dlcourse/new/module.py", ""),
        lambda c: c.write("constraints.txt", "torch==2.14.0\n"),
        lambda c: records.write_record(
            c.root / "chapters/1_toy_chapter/1_good.gpu.json",
            records.GpuRecord("G", {"torch": "2"}, "2026-01-02", "c", {}),
        ),
        lambda c: c.executed("1_good").unlink(),
        lambda c: (c.root / runner.SUMMARY).unlink(),
        lambda c: (c.root / runner.SUMMARY).write_text('{"half": '),
        lambda c: os.environ.__setitem__("DLCOURSE_GPU", "1"),
    ],
    ids=["source", "package", "new module", "versions", "record", "copy gone", "summary gone",
         "summary broken", "gpu"],
)  # fmt: skip
def test_cache_is_void_when_any_part_of_its_key_changes(checkout, fake_execution, change):
    checkout.add("1_good", GOOD)
    run_all(checkout)
    change(checkout)
    run_all(checkout)
    assert fake_execution == ["1_good", "1_good"]


def test_edit_while_a_notebook_runs_is_not_taken_for_what_ran(
    checkout, fake_execution, monkeypatch
):
    source = checkout.add("1_good", GOOD)
    execute_all = runner._execute_all

    def with_edit(jobs, workers):
        for outcome in execute_all(jobs, workers):
            source.write_text(GOOD + "\n# %%\n'edited'\n")
            yield outcome

    monkeypatch.setattr(runner, "_execute_all", with_edit)
    run_all(checkout)
    run_all(checkout)
    assert fake_execution == ["1_good", "1_good"]


@pytest.mark.parametrize("options", [{"profile": "gpu"}, {"force": True}])
def test_other_profile_or_force_executes_again(checkout, fake_execution, options):
    checkout.add("1_good", GOOD)
    run_all(checkout)
    run_all(checkout, **options)
    assert fake_execution == ["1_good", "1_good"]


def test_change_of_one_notebook_executes_only_that(checkout, fake_execution):
    checkout.add("1_good", GOOD)
    checkout.add("3_hungry", HUNGRY)
    run_all(checkout)
    checkout.write("chapters/1_toy_chapter/3_hungry.py", HUNGRY + "1\n")
    run_all(checkout)
    assert fake_execution == ["1_good", "3_hungry", "3_hungry"]


def test_source_that_has_no_learners_notebook_fails_alone(checkout, fake_execution):
    checkout.add("1_new", "# %% [markdown]\n# # New\n# {newrole}`x`\n")
    checkout.add("3_hungry", HUNGRY)
    outcomes = {outcome.source.stem: outcome for outcome in run_all(checkout)}
    assert outcomes["1_new"].result == "failed" and "{newrole}" in outcomes["1_new"].report
    assert outcomes["3_hungry"].result == "ok"


def test_copies_of_deleted_chapters_are_pruned(checkout, fake_execution):
    gone = checkout.add("1_good", GOOD)
    checkout.add("3_hungry", HUNGRY)
    run_all(checkout)
    gone.unlink()
    run_all(checkout)
    assert not checkout.executed("1_good").exists() and checkout.executed("3_hungry").exists()
    assert list(runner.read_summary(checkout.root)) == ["chapters/1_toy_chapter/3_hungry.py"]


def test_what_a_killed_run_left_half_written_is_removed(checkout, fake_execution):
    checkout.add("1_good", GOOD)
    old = checkout.write(f"_build/executed/chapters/.x.ipynb.abc{TEMPORARY_SUFFIX}", "half")
    os.utime(old, (0, 0))
    run_all(checkout)
    assert not old.exists()


def test_failed_notebook_takes_its_old_copy_away(checkout, fake_execution, monkeypatch):
    checkout.add("1_good", GOOD)
    run_all(checkout)
    assert checkout.executed("1_good").exists()
    failing = lambda jobs, workers: [  # noqa: E731
        runner.Outcome(job.source, "failed", error="E", report="R") for job in jobs
    ]
    monkeypatch.setattr(runner, "_execute_all", failing)
    run_all(checkout, force=True)
    assert not checkout.executed("1_good").exists()
    assert [outcome.result for outcome in run_all(checkout)] == ["failed"]  # and is no cache hit


@pytest.mark.parametrize(
    "options, message",
    [
        ({"profile": "tpu"}, "cpu, gpu"),
        ({"jobs": 0}, "at least 1"),
        ({"timeout": 0}, "at least 1"),
        ({"record": True}, "only on a GPU"),
    ],
)
def test_wrong_options_are_refused(checkout, fake_execution, options, message):
    checkout.add("1_good", GOOD)
    with pytest.raises(ValueError, match=message):
        run_all(checkout, **options)
    assert fake_execution == []


def test_paths_may_be_sources_notebooks_and_folders(checkout, monkeypatch):
    monkeypatch.chdir(checkout.root)
    source = checkout.add("1_good", GOOD)
    checkout.add("3_hungry", HUNGRY)
    source.with_suffix(".ipynb").write_text("{}")
    relative = source.relative_to(checkout.root)
    assert runner.resolve([source], checkout.root) == [relative]
    assert runner.resolve([relative.with_suffix(".ipynb"), source], checkout.root) == [relative]
    assert [p.stem for p in runner.resolve(["chapters"], checkout.root)] == ["1_good", "3_hungry"]


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
