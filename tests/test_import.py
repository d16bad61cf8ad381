"""Importing the package is light: no chapter pays for what it does not use."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import dlcourse
from dlcourse.chapters import chapters

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
        "import dlcourse.build.sources",
    ],
)
def test_import_loads_nothing_heavy(statement):
    assert loaded_by(statement).isdisjoint(HEAVY)


def test_command_line_loads_nothing_slow():
    assert loaded_by("import dlcourse.cli").isdisjoint(set(HEAVY) - {"typer"})


def modules_of(chapter: str) -> list[str]:
    """Every module of a chapter's package, by the path of its file, but its exercises, what pages
    alone import (experiments, with the data that they need), and kernels for a GPU, which import
    triton (torch brings it where there is one)."""
    root = Path(dlcourse.__file__).parent
    files = (file.relative_to(root.parent) for file in (root / chapter).rglob("*.py"))
    names = [".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files]
    left_out = (".exercises", ".experiments.", "_triton")
    return sorted(name for name in names if not any(part in name for part in left_out))


# What no module of a package may import at the top: it is needed by few of its functions only.
RARE = {"torchvision", "sklearn", "transformers", "timm", "matplotlib", "PIL"}
ALLOWED = {"ml_system_design": {"sklearn"}}  # a chapter whose classes are of the library's kind
CHAPTERS = list(chapters().values())


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_public_name_of_a_chapter_stands_for_one_thing(chapter):
    stub = Path(dlcourse.__file__).parent / chapter / "__init__.pyi"
    imports = ast.parse(stub.read_text(encoding="utf8")).body
    names = [alias.asname for statement in imports for alias in statement.names]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapters_package_loads_nothing_heavy_until_a_name_is_used(chapter):
    loaded = loaded_by(f"import dlcourse.{chapter}")
    assert loaded.isdisjoint({*HEAVY, *RARE})
    assert not [name for name in loaded if name.startswith(f"dlcourse.{chapter}.")]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_loads_no_other_chapter_nor_what_few_of_its_functions_need(chapter):
    loaded = loaded_by("import " + ", ".join(modules_of(chapter)))
    assert loaded.isdisjoint(RARE - ALLOWED.get(chapter, set()))
    assert loaded & {f"dlcourse.{name}" for name in CHAPTERS} == {f"dlcourse.{chapter}"}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_folder_of_systems_is_a_docstring_so_that_one_system_loads_no_other(chapter):
    folder = Path(dlcourse.__file__).parent / chapter
    for init in folder.glob("*/__init__.py"):
        (docstring,) = ast.parse(init.read_text(encoding="utf8")).body
        assert isinstance(docstring.value.value, str), init


SYSTEMS = [
    ("large_scale_training", "Lion", {"distributed", "checkpoints", "schedules"}),
    ("large_scale_training", "AdamWScheduleFree", {"optimizers.lion", "schedules"}),
    ("large_scale_training", "MixedPrecision", {"distributed", "optimizers", "transformer"}),
    ("large_scale_training", "warmup_stable_decay", {"schedules.cosine", "optimizers"}),
    ("large_scale_training", "load_checkpoint", {"distributed", "checkpoints.asynchronous"}),
    ("large_scale_training", "launch", {"distributed.sharding", "checkpoints"}),
    ("self_supervised_learning", "SimCLR", {"dino", "simmim", "vision_transformer"}),
    ("self_supervised_learning", "DINO", {"contrastive", "simmim", "augmentations"}),
    ("self_supervised_learning", "SimMIM", {"dino", "masked_autoencoders", "simmim.nearest"}),
    ("self_supervised_learning", "MaskedAutoencoder", {"simmim", "masked_autoencoders.reference"}),
]


# Imports each name into a process without any module of ours; torch, which is slow, stays.
LOADED_BY_EACH = """
import importlib, json, sys
found = []
for chapter, name in json.loads(sys.argv[1]):
    for module in [module for module in sys.modules if module.partition(".")[0] == "dlcourse"]:
        del sys.modules[module]
    getattr(importlib.import_module(f"dlcourse.{chapter}"), name)
    found.append([module for module in sys.modules if module.startswith("dlcourse.")])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def loaded_by_each() -> dict[tuple[str, str], set[str]]:
    names = [(chapter, name) for chapter, name, _ in SYSTEMS]
    command = [sys.executable, "-c", LOADED_BY_EACH, json.dumps(names)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(zip(names, map(set, json.loads(done.stdout)), strict=True))


@pytest.mark.parametrize("chapter, name, others", SYSTEMS)
def test_a_system_loads_no_other(loaded_by_each, chapter, name, others):
    others = {f"dlcourse.{chapter}.{other}" for other in others}
    assert others <= set(modules_of(chapter))  # they are there to be loaded
    loaded = loaded_by_each[chapter, name]
    assert f"dlcourse.{chapter}" in loaded and not loaded & others


def test_checks_load_no_chapter_before_one_is_asked_for():
    assert loaded_by("from dlcourse.exercises import check, quiz").isdisjoint(HEAVY)


def test_version_is_that_of_the_installed_package():
    from importlib.metadata import version

    assert dlcourse.__version__ == version("dlcourse")


def test_chapters_names_are_exported():
    import dlcourse.notebook as notebook

    for name in ("ClaimError", "claim", "explore", "say"):
        assert name in notebook.__all__ and callable(getattr(notebook, name))
