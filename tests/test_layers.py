"""Imports between the rooms of the package run one way."""

import grimp
import pytest

from dlcourse.chapters import chapters

ROOMS = ("notebook", "exercises", "build", "teach")  # each may import those before it, and the base


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("dlcourse", cache_dir=None)


def room(module):
    """A room, a chapter, ``cli``, or ``base``."""
    second = (module.split(".") + ["base"])[1]
    return second if second in (*ROOMS, *chapters().values(), "cli") else "base"


def allowed(module):
    """The rooms that a module may import from."""
    here = room(module)
    if here in ROOMS:
        return {"base", *ROOMS[: ROOMS.index(here) + 1]}
    if here == "base":
        return {"base"}
    if here == "cli":
        return {"base", *ROOMS}
    # A chapter: itself and the base; its exercises also use the room of that name.
    exercises = module.startswith(f"dlcourse.{here}.exercises.")
    return {"base", here} | ({"exercises"} if exercises else set())


def test_imports_run_from_teach_to_build_to_exercises_to_notebook_to_base(graph):
    wrong = {
        f"{module} imports {imported}"
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
        if room(imported) not in allowed(module)
    }
    assert wrong == set()


def test_each_room_is_there_and_uses_the_one_below(graph):
    for upper, lower in zip(ROOMS[1:], ROOMS):
        assert graph.find_shortest_chains(f"dlcourse.{upper}", f"dlcourse.{lower}"), (upper, lower)
    assert len(chapters()) >= 2


@pytest.mark.parametrize(
    "module, imported",
    [
        ("dlcourse.files", "dlcourse.notebook.prose"),
        ("dlcourse.notebook.prose", "dlcourse.exercises.model"),
        ("dlcourse.exercises.checker", "dlcourse.build.keys"),
        ("dlcourse.build.keys", "dlcourse.teach.grader"),
        ("dlcourse.build.keys", "dlcourse.large_scale_training"),
        ("dlcourse.teach.grader", "dlcourse.cli"),
        ("dlcourse.large_scale_training.optimizers", "dlcourse.notebook.prose"),
        ("dlcourse.large_scale_training.optimizers", "dlcourse.exercises.model"),
        ("dlcourse.large_scale_training.optimizers", "dlcourse.self_supervised_learning"),
        ("dlcourse.large_scale_training.exercises.optimizers.lion", "dlcourse.notebook.prose"),
        ("dlcourse.cli", "dlcourse.large_scale_training"),
    ],
)
def test_the_rule_forbids(module, imported):
    assert room(imported) not in allowed(module)
