"""Importing the package is light: no chapter pays for what it does not use."""

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "matplotlib", "papermill", "jupytext", "nbformat", "IPython", "typer")


def loaded_by(statement: str) -> set[str]:
    code = f"import json, sys\n{statement}\nprint(json.dumps([*sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    "statement",
    [
        "import dlcourse",
        "import dlcourse.notebook",
        "import dlcourse.build.engine",
        "import dlcourse.build.sources, dlcourse.build.records",
    ],
)
def test_import_loads_nothing_heavy(statement):
    assert loaded_by(statement).isdisjoint(HEAVY)


def test_command_line_loads_nothing_slow():
    assert loaded_by("import dlcourse.cli").isdisjoint(set(HEAVY) - {"typer"})


@pytest.mark.parametrize("name", ["large_scale_training", "self_supervised_learning"])
def test_a_subpackage_loads_torch_and_no_other_chapter_nor_what_few_of_its_functions_need(name):
    loaded = loaded_by(f"import dlcourse.{name}")
    assert "torch" in loaded
    assert loaded.isdisjoint({"torchvision", "sklearn", "transformers", "timm", "matplotlib"})
    chapters = {"dlcourse.large_scale_training", "dlcourse.self_supervised_learning"}
    assert loaded & chapters == {f"dlcourse.{name}"}


def test_checks_load_no_chapter_before_one_is_asked_for():
    assert loaded_by("from dlcourse.exercises import check, quiz").isdisjoint(HEAVY)


def test_version_is_that_of_the_installed_package():
    from importlib.metadata import version

    import dlcourse

    assert dlcourse.__version__ == version("dlcourse")


def test_chapters_names_are_exported():
    import dlcourse.notebook as notebook

    for name in ("ClaimError", "claim", "explore", "say"):
        assert name in notebook.__all__ and callable(getattr(notebook, name))
