"""The command `dlcourse`: what it prints, and that it fails when it should."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from dlcourse.cli import app
from dlcourse.build import doctor, project
from dlcourse.build.doctor import Finding

PYPROJECT = (
    '[project]\nname = "dlcourse"\nversion = "1.0.0"\n[project.optional-dependencies]\ntoy = []\n'
)


def dlcourse(*arguments):
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A checkout with one chapter, as the current folder."""
    (tmp_path / "chapters" / "1_toy").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "_config.yml").write_text("repository: {url: https://example.org/x}\n")
    (tmp_path / "_toc.yml").write_text("root: a\nchapters:\n- file: chapters/1_toy/1_page\n")
    source = tmp_path / "chapters" / "1_toy" / "1_page.py"
    source.write_text('# %% [markdown]\n# # 1.1 The page\n\n# %% tags=["gpu"] name="a"\nx = 1\n')
    monkeypatch.chdir(tmp_path)
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
    for command in ("list", "run", "pair", "doctor"):
        assert f" {command} " in done.stdout


def test_list_shows_title_source_extra_gpu_cells_and_last_run(course):
    done = dlcourse("list")
    assert done.exit_code == 0
    for part in (
        "1.1 The page",
        "chapters/1_toy/1_page.py",
        "toy",
        "1 cell, no record",
        "never run",
    ):
        assert part in done.stdout


def test_list_shows_the_last_result(course):
    entry = {"result": "failed", "seconds": 3, "peak_memory_mb": 70, "date": "2026-01-02T00:00:00"}
    summary = course / "_build" / "executed" / "summary.json"
    summary.parent.mkdir(parents=True)
    summary.write_text(json.dumps({"chapters/1_toy/1_page.py": entry}))
    assert "failed, 3 s, 70 MB, 2026-01-02" in dlcourse("list").stdout


@pytest.mark.parametrize("command", ["list", "run", "pair"])
def test_outside_of_a_checkout_the_commands_say_what_to_do(nowhere, command):
    done = dlcourse(command)
    assert done.exit_code == 1 and "clone the repository" in done.stderr


@pytest.mark.parametrize("command", ["run", "pair"])
def test_unknown_path_is_named(course, command):
    done = dlcourse(command, "chapters/none.py")
    assert done.exit_code == 1 and "chapters/none.py does not exist" in done.stderr


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


def test_run_refuses_to_record_without_a_gpu(course, monkeypatch):
    monkeypatch.setenv("DLCOURSE_GPU", "0")
    done = dlcourse("run", "--record")
    assert done.exit_code == 2 and "only on a GPU" in done.stderr


def test_missing_tools_are_named_with_the_command_that_installs_them(course, monkeypatch):
    monkeypatch.setattr(doctor, "missing_modules", lambda *names: ["papermill"])
    done = dlcourse("run")
    assert done.exit_code == 1
    assert "papermill not installed; pip install 'dlcourse[notebooks]'" in done.stderr


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


def test_doctor_finds_this_machine_able(monkeypatch):
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
