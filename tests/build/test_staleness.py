"""A record is current, missing, or of older code."""

import pytest

from dlcourse.build import project, sources
from dlcourse.build.reach import Package
from dlcourse.build.staleness import all_record_states, definitions_of, record_states
from dlcourse.notebook import records
from dlcourse.notebook.records import CellRecord, RecordError

SOURCE = """\
# %% [markdown]
# # 1.1 Recorded

# %% tags=["definitions"]
from dlcourse.notebook import keep
from dlcourse.toy_chapter import one, two

# %%
"an ordinary cell"

# %% tags=["definitions"]
SIZE = 3
OTHER = 4


def helper(x):
    total = x + SIZE
    return total


def unused(x):
    return two()

# %% tags=["long"] name="a"
total = helper(one())
keep(total=total)

# %% tags=["gpu"] name="b"
keep(two=two())
"""
NAME = "1_toy"


def of(checkout):
    """The states of the notebook's recorded cells, by name."""
    root, source = checkout.root, checkout.root / f"chapters/1_toy_chapter/{NAME}.py"
    notebook = sources.read_source(source, root)
    found = record_states(notebook, root, source.relative_to(root), Package(root))
    return {key.removeprefix("1.1."): state for key, state in found.items()}


def told(checkout):
    """The state and what has changed, of a and b."""
    found = of(checkout)
    return [(found[name].state, found[name].changed) for name in ("a", "b")]


def replace(checkout, file, old, new):
    path = checkout.root / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def recorded(checkout):
    """A checkout whose two recorded cells have records of the code as it is."""
    checkout.give_package("notebook")
    source = checkout.add(NAME, SOURCE)
    made = {
        name: CellRecord(
            kind=state.kind,
            device="EPYC",
            versions={"torch": "2.11.0"},
            date="2026-01-02",
            commit="abc1234",
            seconds=300.0,
            peak_memory_mb=900.5,
            cell=state.digests[0],
            code=state.digests[1],
            outputs=[],
        )
        for name, state in of(checkout).items()
    }
    records.write_records(project.records_path(checkout.root, source), made)
    return checkout


CURRENT = ("current", None)
CHAPTER = "src/dlcourse/toy_chapter"
PAGE = f"chapters/1_toy_chapter/{NAME}.py"


def test_a_cell_without_a_record_is_missing_and_one_with_a_record_is_current(recorded):
    assert told(recorded) == [CURRENT, CURRENT]
    project.records_path(recorded.root, recorded.root / PAGE).unlink()
    assert told(recorded) == [("missing", None), ("missing", None)]


@pytest.mark.parametrize(
    "file, old, new, a, b",
    [
        (PAGE, "helper(one())", "helper(2)", "cell", None),
        (PAGE, "SIZE = 3", "SIZE = 4", "cell", None),  # a definition that the cell uses
        (PAGE, "OTHER = 4", "OTHER = 5", None, None),
        (PAGE, "    return two()", "    return 7", None, None),  # in one that it does not use
        (PAGE, '"an ordinary cell"', "one = 3", None, None),
        (PAGE, "# # 1.1 Recorded", "# # 1.1 Another title", None, None),
        (PAGE, "keep(two", "# a comment\nkeep(two", None, None),
        (f"{CHAPTER}/one.py", "return 1", "return 3", "code", None),
        (f"{CHAPTER}/two.py", "return 2", "return 3", None, "code"),
        (f"{CHAPTER}/one.py", "# a comment", "# another", None, None),
        (f"{CHAPTER}/one.py", "A number.", "Another text.", None, None),
        ("src/dlcourse/notebook/recorded.py", "_DIGITS = 7", "_DIGITS = 6", None, None),
        ("src/dlcourse/__init__.py", '__version__ = "', '__version__ = "9', None, None),
    ],
)
def test_what_makes_a_record_older(recorded, file, old, new, a, b):
    replace(recorded, file, old, new)
    states = [("older code", changed) if changed else CURRENT for changed in (a, b)]
    assert told(recorded) == states


def test_the_cell_is_named_where_cell_and_code_have_changed(recorded):
    replace(recorded, PAGE, "helper(one())", "helper(2)")
    replace(recorded, f"{CHAPTER}/one.py", "return 1", "return 3")
    assert told(recorded)[0] == ("older code", "cell")


def test_a_record_of_another_name_is_none(recorded):
    replace(recorded, PAGE, 'name="a"', 'name="c"')
    assert of(recorded)["c"].state == "missing" and of(recorded)["b"].state == "current"


def test_definitions_are_the_tagged_code_cells_in_order(recorded):
    notebook = sources.read_source(recorded.root / PAGE, recorded.root)
    assert [code.splitlines()[0] for code in definitions_of(notebook)] == [
        *("from dlcourse.notebook import keep", "SIZE = 3")
    ]


def test_definitions_that_are_no_plain_python_are_refused(recorded):
    replace(recorded, PAGE, "OTHER = 4", "%matplotlib inline")
    with pytest.raises(RecordError, match="cell 3 is tagged definitions but is not plain Python"):
        of(recorded)


def test_a_notebook_without_recorded_cells_may_have_any_definitions(recorded):
    recorded.add(NAME, '# %% tags=["definitions"]\n%matplotlib inline\n')
    assert of(recorded) == {}


def test_all_states_of_several_sources_come_in_order(recorded):
    recorded.add("2_more", '# %% tags=["long"] name="c"\n1\n')
    paths = [path.relative_to(recorded.root) for path in project.listed_sources(recorded.root)]
    found = all_record_states(recorded.root, paths)
    assert [(s.key, s.kind, s.state) for s in found] == [
        ("1.1.a", "long", "current"),
        ("1.1.b", "gpu", "current"),
        ("1.2.c", "long", "missing"),
    ]
