"""`dlcourse record`: one cell at a time, in a kernel of its own, and the rest is left alone."""

import json
import math
import os

import nbformat
import pytest

from dlcourse.build import project, recorder, results, runner, sources
from dlcourse.build.recorder import cut_down, wanted
from dlcourse.build.worker import execute
from dlcourse.notebook import records
from dlcourse.notebook.records import RecordError

SOURCE = """\
# %% [markdown]
# # 1.1 Recorded

# %% tags=["definitions"]
import os
from dlcourse.notebook import keep
from dlcourse.toy_chapter import one


def note(name):
    with open(os.environ["TOY_LOG"], "a") as log:
        log.write(name + " ")


def unused():
    return 1


note("definitions")

# %%
note("ordinary")

# %% tags=["long"] name="a"
note("a")
keep(third=one() / 3, missing=float("nan"), rows=[{"n": 1}])
print("printed by a")

# %% tags=["long"] name="b"
note("b")
keep(two=2)
print("printed by b")

# %% tags=["gpu"] name="big"
note("big")
print(os.environ["OMP_NUM_THREADS"])

# %%
from dlcourse.notebook import recorded

r = recorded("1.1.a")
print(r["third"], r["missing"], r["rows"], len(r.origin) > 50)
"""
PAGE = "chapters/1_toy_chapter/1_toy.py"


class Story:
    """A checkout, and what became of recordings in it, one after the other."""

    def __init__(self, checkout):
        self.checkout, self.root = checkout, checkout.root
        checkout.give_package()
        self.source = checkout.add("1_toy", SOURCE)
        self.path = project.records_path(self.root, self.source)
        self.log = self.root / "log.txt"

    def edit(self, old, new, file=PAGE):
        path = self.root / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def wanted(self, **options):
        return wanted(self.root, [self.source.relative_to(self.root)], **options)

    def record(self, timeout=300, **options):
        """Record what ``wanted`` gives; the results by name, and what ran."""
        self.log.write_text("")
        done = recorder.record(self.root, self.wanted(**options), timeout=timeout)
        found = {recording.key.removeprefix("1.1."): recording for recording in done}
        return found, self.log.read_text().split()

    @property
    def records(self):
        return records.read_records(self.path)


@pytest.fixture(scope="module")
def story(module_checkout):
    story = Story(module_checkout)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", module_checkout.variables["PYTHONPATH"])
        patch.setenv("TOY_LOG", str(story.log))
        patch.setenv("DLCOURSE_GPU", "0")
        patch.setenv("DLCOURSE_COMMIT", "abc1234")
        yield story


@pytest.fixture(scope="module")
def first(story):
    """All that is missing, recorded without a GPU; the file as it is then."""
    found, ran = story.record()
    return found, ran, story.records, story.path.read_bytes()


@pytest.fixture
def restored(story, first):
    """Source, package and records as they were after the first recording."""
    yield first
    story.source.write_text(SOURCE)
    story.path.write_bytes(first[3])


def test_only_definitions_and_the_cell_itself_run_each_in_a_kernel_of_its_own(first):
    _, ran, _, _ = first
    assert ran == ["definitions", "a", "definitions", "b"]


def test_a_gpu_cell_is_skipped_without_a_gpu(first):
    found, _, known, _ = first
    assert [recording.result for recording in found.values()] == ["recorded"] * 2 + ["skipped"]
    assert "needs a GPU" in found["big"].reason and list(known) == ["a", "b"]


def test_a_record_has_outputs_values_and_provenance(first):
    record = first[2]["a"]
    assert record.outputs == [
        {"output_type": "stream", "name": "stdout", "text": "printed by a\n"}
    ]
    assert record.values["third"] == 0.3333333 and math.isnan(record.values["missing"])
    assert record.values["rows"] == [{"n": 1}]
    assert (record.kind, record.commit) == ("long", "abc1234") and "core" in record.device
    assert record.versions["torch"] and record.seconds >= 0 and record.peak_memory_mb > 10


def test_what_is_recorded_is_current_and_not_wanted_again(story, first):
    assert [item.name for item in story.wanted()] == ["big"]
    assert [item.name for item in story.wanted(kind="long")] == []
    assert [item.name for item in story.wanted(everything=True)] == ["a", "b", "big"]
    assert [item.name for item in story.wanted(keys=["1.1.b", "1.1.a"])] == ["b", "a"]


def test_a_cell_that_is_not_there_is_named_with_those_that_are(story, first):
    with pytest.raises(RecordError, match=r"1\.1\.none; there are: 1\.1\.a, 1\.1\.b, 1\.1\.big"):
        story.wanted(keys=["1.1.none"])


def test_one_cell_recorded_again_leaves_the_others_untouched(story, restored):
    story.edit("printed by a", "printed anew")
    assert [item.name for item in story.wanted(kind="long")] == ["a"]
    found, ran = story.record(kind="long")
    assert found["a"].result == "recorded" and ran == ["definitions", "a"]
    assert story.records["a"].outputs[0]["text"] == "printed anew\n"
    assert story.records["b"] == restored[2]["b"]
    assert [item.name for item in story.wanted(kind="long")] == []


@pytest.mark.parametrize(
    "new, reason",
    [
        ("{}['missing']", "KeyError: 'missing'"),
        ("print(('x' * 99 + '\\n') * 2100)", "may have 200 KB"),
        ("keep(two=2); keep(two=3)", "keeps two more than once"),
    ],
)
def test_a_cell_that_fails_leaves_the_file_byte_for_byte(story, restored, new, reason):
    story.edit("keep(two=2)\n", f"keep(other=2)\n{new}\n")
    found, _ = story.record(kind="long")
    assert list(found) == ["b"] and found["b"].result == "failed"
    assert reason in found["b"].reason
    assert story.path.read_bytes() == restored[3]
    assert [path.name for path in story.path.parent.iterdir()] == ["1_toy.json"]


def test_a_forced_gpu_runs_the_gpu_cells_with_all_cores(story, restored, monkeypatch):
    monkeypatch.setenv("DLCOURSE_GPU", "1")
    monkeypatch.setattr(recorder.devices, "available_cores", lambda: 3)
    found, ran = story.record(kind="gpu")
    assert found["big"].result == "recorded" and ran == ["definitions", "big"]
    assert story.records["big"].outputs[0]["text"] == "3\n"
    assert list(story.records) == ["a", "b", "big"]


def test_a_cell_that_is_gone_loses_its_record_at_the_next_recording(story, restored):
    text = story.source.read_text()
    start, end = text.index('# %% tags=["long"] name="b"'), text.index('# %% tags=["gpu"]')
    story.source.write_text(text[:start] + text[end:])
    assert list(story.records) == ["a", "b"]  # not before
    found, _ = story.record(keys=["1.1.a"])
    assert found["a"].result == "recorded" and list(story.records) == ["a"]


# --- without kernels ------------------------------------------------------------------------------


def fake_execution(monkeypatch, meanwhile=lambda: None):
    """Cells that print their own source; ``meanwhile`` happens while one runs."""

    def execute(job):
        notebook = nbformat.reads(job.notebook, as_version=4)
        for cell in notebook.cells:
            cell.metadata["papermill"] = {"duration": 1.5}
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=cell.source)]
        meanwhile()
        return runner.Outcome(job.source, "ok", 2.0, 2.0, 50.0, notebook=nbformat.writes(notebook))

    monkeypatch.setattr(recorder, "execute", execute)


def test_only_definitions_and_the_cell_are_left_of_a_notebook(story, first):
    cut = cut_down(sources.read_source(story.source), "b")
    assert [cell.source.splitlines()[0] for cell in cut.cells] == ["import os", 'note("b")']


def test_the_time_of_the_cell_alone_is_recorded(story, restored, monkeypatch):
    fake_execution(monkeypatch)
    story.record(keys=["1.1.a"])
    assert story.records["a"].seconds == 1.5 and story.records["a"].peak_memory_mb == 50.0


def test_a_record_that_another_process_wrote_meanwhile_stays(story, restored, monkeypatch):
    other = {**restored[2], "b": restored[2]["a"]}
    fake_execution(monkeypatch, lambda: records.write_records(story.path, other))
    story.record(keys=["1.1.a"])
    assert story.records["b"].outputs == restored[2]["a"].outputs


def test_an_edit_while_a_cell_runs_makes_its_record_one_of_older_code(
    story, restored, monkeypatch
):
    fake_execution(monkeypatch, lambda: story.edit("one() / 3", "one() / 4"))
    story.record(keys=["1.1.a"])
    assert [item.state.changed for item in story.wanted(keys=["1.1.a"])] == ["cell"]


def test_an_edit_before_a_cells_turn_counts_for_it(story, restored, monkeypatch):
    edits = iter([lambda: story.edit("two=2", "two=3"), lambda: None])
    fake_execution(monkeypatch, lambda: next(edits)())
    story.record(keys=["1.1.a", "1.1.b"])
    assert "two=3" in story.records["b"].outputs[0]["text"]
    assert [item.state.state for item in story.wanted(keys=["1.1.b"])] == ["current"]


def test_a_cell_that_is_gone_at_its_turn_fails_alone(story, restored, monkeypatch):
    edits = iter([lambda: story.edit('name="a"', 'name="c"'), lambda: None])
    fake_execution(monkeypatch, lambda: next(edits)())
    found, _ = story.record(keys=["1.1.b", "1.1.a", "1.1.b"])
    assert "no longer has the cell 'a'" in found["a"].reason and found["b"].result == "recorded"


def test_a_file_that_is_too_large_already_is_found_before_the_cell_runs(
    story, restored, monkeypatch
):
    large = json.loads(restored[3])
    large["cells"]["b"]["outputs"][0]["text"] = "x" * 210_000
    story.path.write_text(json.dumps(large))
    fake_execution(monkeypatch, lambda: pytest.fail("the cell was run"))
    found, _ = story.record(keys=["1.1.a"])
    assert found["a"].result == "failed" and "b 205 KB" in found["a"].reason
    fake_execution(monkeypatch)
    found, _ = story.record(keys=["1.1.b"])  # the way out: the large one itself
    assert found["b"].result == "recorded"


def test_each_recording_is_told_as_it_ends(story, restored, monkeypatch):
    fake_execution(monkeypatch)
    told = []
    recorder.record(story.root, story.wanted(everything=True), finished=told.append)
    assert [(recording.key, recording.result) for recording in told] == [
        ("1.1.a", "recorded"), ("1.1.b", "recorded"), ("1.1.big", "skipped"),
    ]  # fmt: skip


# --- what a page shows ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(story, first):
    """The executed notebook's cells by the beginning of their source."""
    story.source.write_text(SOURCE)
    story.path.write_bytes(first[3])
    story.log.write_text("")
    with pytest.MonkeyPatch.context() as patch:  # no worker process: this one executes
        here = lambda jobs, workers: [(job, execute(job)) for job in jobs]  # noqa: E731
        patch.setattr(runner, "execute_all", here)
        (outcome,) = runner.run([story.source.relative_to(story.root)], story.root)
    assert outcome.result == "ok", outcome.report
    return nbformat.read(results.executed_path(story.root, outcome.source), as_version=4).cells


def output(page, beginning):
    (cell,) = [cell for cell in page if cell.source.startswith(beginning)]
    (output,) = cell.outputs
    return output


def test_a_page_shows_records_and_does_not_run_their_cells(story, page):
    shown = output(page, 'note("a")').data["text/html"]
    assert "printed by a" in shown and "commit abc1234" in shown and "since" not in shown
    assert "Nothing has been recorded" in output(page, 'note("big")').data["text/html"]
    assert story.log.read_text().split() == ["definitions", "ordinary"]


def test_later_cells_read_the_values(page):
    assert output(page, "from dlcourse.notebook import recorded").text == (
        "0.3333333 nan [{'n': 1}] True\n"
    )


@pytest.mark.parametrize(
    "edits, said",
    [
        ([("src/dlcourse/toy_chapter/one.py", "return 1", "return 3")], "record of older code"),
        ([(PAGE, "one() / 3", "one() / 4")], "The cell has changed since"),
        ([("src/dlcourse/toy_chapter/one.py", "A number.", "Another text.")], ""),
        ([(PAGE, "    return 1", "    return 2")], ""),  # in a definition that it does not use
    ],
)
def test_a_page_says_that_a_record_is_of_older_code(story, restored, monkeypatch, edits, said):
    monkeypatch.setattr(runner, "execute_all", lambda jobs, workers: [(j, shown(j)) for j in jobs])
    texts = {file: (story.root / file).read_text() for file, *_ in edits}
    for file, old, new in edits:
        story.edit(old, new, file)
    runner.run([story.source.relative_to(story.root)], story.root, force=True)
    for file, text in texts.items():
        (story.root / file).write_text(text)
    notebook = nbformat.read(story.checkout.executed("1_toy"), as_version=4)
    frame = output(notebook.cells, 'note("a")').data["text/plain"]
    assert ("since" in frame, said in frame) == (bool(said), True)


def shown(job):
    """The outcome of a job whose recorded cells alone show something."""
    from dlcourse.build.engine import show_record

    notebook = nbformat.reads(job.notebook, as_version=4)
    for cell in notebook.cells:
        if records.kind_of(cell):
            show_record(cell, job.records, job.changed)
    return runner.Outcome(job.source, "ok", 1.0, 1.0, 1.0, notebook=nbformat.writes(notebook))


def test_the_variable_that_tells_a_recording_is_set_in_no_other_kernel(page):
    assert os.environ.get("DLCOURSE_RECORDING") is None
    assert output(page, "from dlcourse.notebook import recorded").output_type == "stream"
