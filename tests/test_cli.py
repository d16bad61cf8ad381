"""The command `dlcourse`: what it prints, and that it fails when it should."""

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from dlcourse.build import doctor, project, recorder
from dlcourse.build.doctor import Finding
from dlcourse.cli import app

PYPROJECT = (
    '[project]\nname = "dlcourse"\nversion = "1.0.0"\n[project.optional-dependencies]\ntoy = []\n'
)
SOURCE = """\
# %% [markdown]
# # 1.1 The page ✓

# %% tags=["gpu"] name="big"
x = 1

# %% tags=["long"] name="slow"
x = 2
"""


def dlcourse(*arguments):
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A checkout with one chapter, as the current folder."""
    (tmp_path / "chapters" / "1_toy").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "_config.yml").write_text("repository: {url: https://example.org/x}\n")
    (tmp_path / "_toc.yml").write_text("root: a\nchapters:\n- file: chapters/1_toy/1_page\n")
    (tmp_path / "chapters" / "1_toy" / "1_page.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLCOURSE_GPU", "0")
    return tmp_path


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A folder outside of any checkout, and a package that is not installed from one."""
    monkeypatch.setattr(project, "__file__", str(tmp_path / "a/b/c/d.py"))
    monkeypatch.chdir(tmp_path)


def test_help_lists_the_commands():
    done = subprocess.run(
        [sys.executable, "-m", "dlcourse.cli", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    for command in (
        *("list", "run", "record", "pair", "workspace", "fetch", "doctor"),
        *("progress", "instructor"),
    ):
        assert f" {command} " in done.stdout


def test_what_the_terminal_cannot_show_is_no_error(course):
    done = subprocess.run(
        [sys.executable, "-m", "dlcourse.cli", "list"],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1.1 The page \\u2713" in done.stdout


# --- list -----------------------------------------------------------------------------------------


def test_list_shows_title_source_extra_recorded_cells_and_last_run(course):
    done = dlcourse("list")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "1.1 The page ✓",
        "  source   chapters/1_toy/1_page.py",
        "  extra    toy",
        "  recorded 2 cells: 2 missing",
        "  last run never run",
    ]


@pytest.mark.parametrize(
    "result, cpu, said",
    [
        ("failed", 3, "failed, 3 CPU s, 70 MB, 2026-01-02"),
        ("ok", 44.4, "2026-01-02; over budget: 44 CPU seconds (budget 30)"),
    ],
)
def test_list_shows_the_last_result(course, result, cpu, said):
    entry = {"result": result, "cpu_seconds": cpu, "peak_memory_mb": 70}
    summary = course / "_build" / "executed" / "summary.json"
    summary.parent.mkdir(parents=True)
    page = {"chapters/1_toy/1_page.py": {**entry, "date": "2026-01-02T00:00:00"}}
    summary.write_text(json.dumps(page))
    assert dlcourse("list").stdout.rstrip().endswith(said)


# --- paths and tools ------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["list", "run", "record", "pair", "workspace"])
def test_outside_of_a_checkout_the_commands_say_what_to_do(nowhere, command):
    done = dlcourse(command)
    assert done.exit_code == 1 and "clone the repository" in done.stderr


@pytest.mark.parametrize("command", ["run", "record", "pair", "workspace"])
def test_unknown_path_is_named(course, command):
    done = dlcourse(command, "chapters/none.py")
    assert done.exit_code == 1 and "chapters/none.py does not exist" in done.stderr


def test_missing_tools_are_named_with_the_command_that_installs_them(course, monkeypatch):
    monkeypatch.setattr(doctor, "missing_modules", lambda *names: ["papermill"])
    done = dlcourse("run")
    assert done.exit_code == 1
    assert "papermill not installed; pip install 'dlcourse[notebooks]'" in done.stderr


# --- pair and workspace ---------------------------------------------------------------------------


def test_pair_writes_then_checks(course):
    assert dlcourse("pair", "--check").exit_code == 1
    written = dlcourse("pair")
    assert written.exit_code == 0 and "1_page.ipynb: written" in written.stdout
    assert dlcourse("pair", "--check").exit_code == 0
    pair = course / "chapters" / "1_toy" / "1_page.ipynb"
    pair.write_text(pair.read_text().replace("The page", "Another"))
    checked = dlcourse("pair", "--check", "chapters/1_toy/1_page.py")
    assert checked.exit_code == 1 and "OUT OF STEP" in checked.stdout
    assert "Another" in pair.read_text()  # a check writes nothing


def test_pair_names_what_has_no_plain_form_and_fails(course):
    source = course / "chapters" / "1_toy" / "1_page.py"
    source.write_text("# %% [markdown]\n# # Title\n# {newrole}`x`\n")
    done = dlcourse("pair")
    assert done.exit_code == 1 and "{newrole}" in done.stdout


def test_a_learners_copy_is_made_once_and_never_overwritten(course):
    copy = course / "workspace" / "1_toy" / "1_page.ipynb"
    assert dlcourse("workspace").stdout == f"{copy}: made\n"
    mine = copy.read_text().replace("x = 2", "x = 'my answer'")
    copy.write_text(mine)
    assert dlcourse("workspace").stdout == f"{copy}: kept as it is\n"
    source = course / "chapters" / "1_toy" / "1_page.py"
    source.write_text(SOURCE.replace("x = 1", "x = 3"))
    assert "newer edition: rename yours" in dlcourse("workspace").stdout
    assert copy.read_text() == mine
    copy.rename(copy.with_name("mine.ipynb"))
    assert dlcourse("workspace").stdout == f"{copy}: made\n"
    assert "x = 3" in copy.read_text() and copy.with_name("mine.ipynb").read_text() == mine


# --- record ---------------------------------------------------------------------------------------


def test_record_lists_the_cells_and_their_state(course):
    done = dlcourse("record", "--list")
    assert done.stdout.splitlines() == ["missing     gpu  1.1.big", "missing     long 1.1.slow"]


def test_record_skips_what_needs_a_gpu(course):
    done = dlcourse("record", "--kind", "gpu")
    assert done.exit_code == 0
    assert "1.1.big  needs a GPU; there is none" in done.stdout
    assert done.stdout.rstrip().endswith("0 recorded, 1 skipped, 0 failed")


@pytest.mark.parametrize(
    "arguments, code, said",
    [
        (["--kind", "slow"], 2, "--kind is one of gpu, long, not 'slow'"),
        (["--cell", "1.1.none"], 1, "no such recorded cell: 1.1.none; there are: 1.1.big"),
    ],
)
def test_record_refuses_what_is_not_there(course, arguments, code, said):
    done = dlcourse("record", *arguments)
    assert done.exit_code == code and said in done.stderr


@pytest.mark.parametrize("command", ["record", "list"])
def test_a_source_that_cannot_be_read_is_named(course, command):
    source = course / "chapters" / "1_toy" / "1_page.py"
    source.write_text("# %% [markdown]\n# {{exercise 1.1.none}}\n")
    done = dlcourse(command)
    assert done.exit_code == 1 and "dlcourse: no exercise '1.1.none'" in done.stderr


def test_a_cell_that_fails_fails_the_command_with_its_report(course, monkeypatch):
    def record(root, cells, *, timeout, finished):
        done = [
            recorder.Recording("1.1.big", "failed", 2.0, "Traceback …\nKeyError: 'x'"),
            recorder.Recording("1.1.slow", "recorded", 3.0),
        ]
        for recording in done:
            finished(recording)
        return done

    monkeypatch.setattr(recorder, "record", record)
    done = dlcourse("record")
    assert done.exit_code == 1 and "FAILED 1.1.big\nTraceback …\nKeyError: 'x'" in done.stderr
    assert "failed       2.0 s  1.1.big  KeyError: 'x'" in done.stdout
    assert done.stdout.rstrip().endswith("1 recorded, 0 skipped, 1 failed")


# --- doctor ---------------------------------------------------------------------------------------


def findings(monkeypatch, *found):
    monkeypatch.setattr(doctor, "examine", lambda: iter(found))


def test_doctor_prints_each_finding_with_its_remedy(monkeypatch):
    findings(
        monkeypatch,
        Finding("Python", "ok", "3.11.7"),
        Finding("GPU", "note", "none"),
        Finding("PyTorch", "problem", "not installed", "pip install torch"),
    )
    done = dlcourse("doctor")
    assert done.exit_code == 1
    assert "ok      Python: 3.11.7" in done.stdout
    assert "PROBLEM PyTorch: not installed\n          mend: pip install torch" in done.stdout


def test_doctor_passes_when_only_the_optional_is_absent(monkeypatch):
    findings(monkeypatch, Finding("GPU", "note", "none"))
    assert dlcourse("doctor").exit_code == 0


def test_doctor_speaks_json(monkeypatch):
    findings(monkeypatch, Finding("GPU", "note", "none"))
    assert json.loads(dlcourse("doctor", "--json").stdout) == [
        {"subject": "GPU", "state": "note", "detail": "none", "mend": None}
    ]


def test_doctor_says_which_data_is_not_here_and_how_to_get_it(monkeypatch, tmp_path):
    assert doctor._data().state == "ok"
    monkeypatch.setenv("DLCOURSE_CACHE", str(tmp_path))
    found = doctor._data()
    assert found.state == "note" and "mnist" in found.detail and found.mend == "dlcourse fetch"


def test_doctor_finds_this_machine_able():
    for check in (doctor._python, doctor._papermill, doctor._kernel, doctor._disk):
        assert check().state == "ok"


@pytest.mark.parametrize(
    "build, names, state, said",
    [
        ({"version": "2.13+cpu", "cuda": None, "hip": None}, (), "ok", "CPU build"),
        ({"version": "2.13", "cuda": "13.0", "hip": None}, ("H200",), "ok", "CUDA 13.0 build"),
        ({"version": "2.13", "cuda": None, "hip": "6.4"}, (), "ok", "ROCm 6.4 build"),
        ({"version": None, "cuda": None, "hip": None}, (), "problem", "not installed"),
    ],
)
def test_doctor_tells_the_builds_of_torch_apart(monkeypatch, build, names, state, said):
    monkeypatch.setattr(doctor.devices, "torch_build", lambda: build)
    monkeypatch.setattr(doctor, "_in_fresh_python", lambda code, timeout=0: (True, ""))
    finding = doctor._torch()
    assert finding.state == state and said in finding.detail


def test_doctor_reports_a_torch_that_does_not_work(monkeypatch):
    monkeypatch.setattr(doctor, "_in_fresh_python", lambda code, timeout=0: (False, "OSError: lib"))
    finding = doctor._torch()
    assert finding.state == "problem" and "OSError: lib" in finding.detail
    assert "pip install --force-reinstall torch" in finding.mend


def test_doctor_reports_a_gpu_that_torch_was_not_built_for(monkeypatch):
    monkeypatch.setattr(doctor.devices, "gpu_names", lambda: ("NVIDIA H200",))
    monkeypatch.setattr(
        doctor.devices, "torch_build", lambda: {"version": "2", "cuda": None, "hip": None}
    )
    monkeypatch.setattr(
        doctor.subprocess, "run",
        lambda *a, **k: subprocess.CompletedProcess(a, 0, "580.1\n", ""),
    )  # fmt: skip
    finding = doctor._gpu()
    assert finding.state == "note" and "driver 580.1" in finding.detail
    assert "not a CUDA build" in finding.detail and finding.mend


def test_doctor_names_what_an_extra_lacks(monkeypatch):
    monkeypatch.setattr(doctor, "_installed", lambda name: name != "papermill")
    lacking = {f.subject: f for f in doctor._extras() if f.state != "ok"}
    assert lacking["extra notebooks"].state == "problem"
    assert "lacks papermill" in lacking["extra notebooks"].detail
    assert "pip install 'dlcourse[notebooks]'" in lacking["extra notebooks"].mend


def test_doctor_reports_a_full_disk_and_little_memory(monkeypatch):
    monkeypatch.setattr(doctor, "_LEAST_DISK_GB", 1e9)
    monkeypatch.setattr(doctor, "_LEAST_MEMORY_GB", 1e9)
    assert doctor._disk().state == "problem" and doctor._disk().mend
    assert doctor._memory().state == "note" and "-j 1" in doctor._memory().mend
