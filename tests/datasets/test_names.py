"""Facts about ``dlcourse.datasets`` as a whole: what it exports, and what importing it costs."""

import importlib
import json
import pkgutil
import subprocess
import sys

import pytest

from dlcourse import datasets

EVERY_MODULE = [module.name for module in pkgutil.iter_modules(datasets.__path__)]


def test_every_name_is_loaded_from_the_module_that_the_stub_says():
    assert {"Split", "Splits", "digits", "shapes", "cifar10", "image_folder"} <= set(dir(datasets))
    for name in datasets.__all__:
        value = getattr(datasets, name)
        assert getattr(value, "__name__", name) == name
        assert getattr(value, "__module__", "dlcourse.datasets.").startswith("dlcourse.datasets.")


@pytest.mark.parametrize("module", EVERY_MODULE)
def test_importing_a_module_hides_no_public_name(module):
    importlib.import_module(f"dlcourse.datasets.{module}")
    assert module not in datasets.__all__


@pytest.mark.parametrize(
    "statement",
    ["import dlcourse.datasets", "from dlcourse.datasets import Split, Splits"],
)
def test_importing_them_loads_nothing_heavy(statement):
    code = f"import json, sys\n{statement}\nprint(json.dumps([*sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert loaded.isdisjoint({"torch", "numpy", "sklearn", "torchvision", "zipfile"})
