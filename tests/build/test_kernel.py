"""A page shows the same whatever settings the person who makes it has."""

import os

import papermill
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from dlcourse.build.engine import CourseEngine
from dlcourse.build.kernel import kernel_environment

CELLS = (
    # The backend, the resolution and the colours of figures.
    "import matplotlib.pyplot as plt\nplt.figure(figsize=(2, 1))\nline = plt.plot([1, 2])",
    # Only the last value of a cell is shown.
    "1\n2",
    "import locale, os, shutil, sys, time\nlocale.setlocale(locale.LC_ALL, '')",
    "print(os.environ['LANG'], time.strftime('%A %H', time.gmtime(0)), time.tzname)",
    "print(shutil.get_terminal_size().columns, sys.flags.optimize, hash('a'))",
    "print(sys.warnoptions)\n'startup' in globals()",
    "print(os.environ['DLCOURSE_STATIC'], os.environ['OMP_NUM_THREADS'])",
)


def shown(notebook):
    """Type, text and pictures of all outputs, cell by cell."""
    return [
        [(o.output_type, o.get("text"), dict(o.get("data", {}))) for o in cell.outputs]
        for cell in notebook.cells
    ]


def execute():
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(
        cells=[new_code_cell(source) for source in CELLS], metadata={"kernelspec": kernel}
    )
    papermill.engines.papermill_engines.register("dlcourse", CourseEngine)
    return papermill.execute_notebook(notebook, None, engine_name="dlcourse", progress_bar=False)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A person's own settings, each of which would change what is shown."""
    home = tmp_path_factory.mktemp("home")
    (home / "matplotlib").mkdir()
    (home / "matplotlib" / "matplotlibrc").write_text("lines.linewidth: 9\n")
    (home / "named").write_text("figure.facecolor: red\nfigure.dpi: 30\n")
    profile = home / "ipython" / "profile_default"
    (profile / "startup").mkdir(parents=True)
    (profile / "startup" / "mine.py").write_text("startup = 1\n")
    interactivity = 'c.InteractiveShell.ast_node_interactivity = "all"\n'
    (profile / "ipython_kernel_config.py").write_text(f"c = get_config()\n{interactivity}")
    return {
        "MPLBACKEND": "Agg",
        "XDG_CONFIG_HOME": str(home),
        "MATPLOTLIBRC": str(home / "named"),
        "IPYTHONDIR": str(home / "ipython"),
        "LANG": "de_DE.UTF-8",
        "LC_TIME": "de_DE.UTF-8",
        "LC_ALL": "de_DE",
        "LANGUAGE": "de",
        "TZ": "Asia/Kathmandu",
        "COLUMNS": "33",
        "PYTHONOPTIMIZE": "1",
        "PYTHONHASHSEED": "7",
        "PYTHONWARNINGS": "error",
        "DLCOURSE_STATIC": "0",
        "OMP_NUM_THREADS": "2",
    }


def test_a_persons_settings_do_not_change_what_a_page_shows(settings):
    with pytest.MonkeyPatch.context() as patch:
        for name in settings:
            patch.delenv(name, raising=False)
        plain = shown(execute())
        for name, value in settings.items():
            patch.setenv(name, value)
        assert shown(execute()) == plain
    figure, last, *_, startup, static = plain
    assert "image/png" in figure[-1][2] and [o[2] for o in last] == [{"text/plain": "2"}]
    assert startup[1][2] == {"text/plain": "False"} and static[0][1] == "1 1\n"


def test_kernels_at_the_same_time_have_profiles_of_their_own():
    with kernel_environment() as one, kernel_environment() as two:
        folders = [environment["IPYTHONDIR"] for environment in (one, two)]
        assert len(set(folders)) == 2
        assert all(os.path.isdir(f"{folder}/profile_default/startup") for folder in folders)
    assert not any(os.path.exists(folder) for folder in folders)


def test_what_is_asked_for_is_set_and_the_rest_of_the_environment_stays(monkeypatch):
    monkeypatch.setenv("MY_DATA", "/data")
    monkeypatch.setenv("PYTHONPATH", "/some/where")
    with kernel_environment(4, DLCOURSE_RECORDING="1") as environment:
        assert environment["MY_DATA"] == "/data" and environment["PYTHONPATH"] == "/some/where"
        assert environment["OMP_NUM_THREADS"] == environment["MKL_NUM_THREADS"] == "4"
        assert environment["DLCOURSE_RECORDING"] == "1"
