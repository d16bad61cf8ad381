"""The progress file: nothing is lost, and reviews are spaced."""

import datetime as dt
import json
import multiprocessing
import os

import pytest

from dlcourse.exercises import progress, registry, report

NOON = dt.datetime(2025, 3, 1, 12)


@pytest.fixture(autouse=True)
def path(monkeypatch, tmp_path):
    path = tmp_path / "deep" / "progress.json"
    monkeypatch.setenv("DLCOURSE_PROGRESS", str(path))
    monkeypatch.delenv("DLCOURSE_STATIC", raising=False)
    return path


def entry(key="119.2.lion"):
    return progress.load()["exercises"][key]


def after(days):
    return NOON + dt.timedelta(days=days)


def record_many(worker, count):
    for number in range(count):
        progress.record_check("119.2.shared", passed=False, hints=1)
        progress.record_quiz("119.2", f"question-{worker}-{number}", right=True)


def test_attempts_passes_hints_and_dates_are_kept():
    progress.record_check("119.2.lion", passed=False, hints=2, now=NOON)
    progress.record_check("119.2.lion", passed=True, hints=0, now=after(1))
    kept = entry()
    assert (kept["attempts"], kept["passes"], kept["hints"]) == (2, 1, 2)
    assert kept["first"] == "2025-03-01T12:00:00"
    assert kept["last"] == "2025-03-02T12:00:00"


def test_several_processes_at_once_lose_nothing():
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=record_many, args=(w, 15)) for w in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    data = progress.load()
    assert data["exercises"]["119.2.shared"]["attempts"] == 60
    assert len(data["quizzes"]["119.2"]) == 60


@pytest.mark.parametrize("damage", ["{not json", "[]", '{"exercises": 3}', "", "\x00\x01"])
def test_a_damaged_file_is_kept_aside_with_a_warning(path, damage):
    path.parent.mkdir()
    path.write_text(damage)
    with pytest.warns(UserWarning, match="damaged"):
        progress.record_check("119.2.lion", passed=True, hints=0)
    (aside,) = path.parent.glob("progress.json.damaged-*")
    assert aside.read_text() == damage
    assert entry()["passes"] == 1


def test_bytes_that_are_no_text_are_kept_aside_too(path):
    path.parent.mkdir()
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.warns(UserWarning, match="damaged"):
        assert progress.load()["exercises"] == {}
    (aside,) = path.parent.glob("progress.json.damaged-*")
    assert aside.read_bytes() == b"\xff\xfe\x00"


def test_the_file_of_a_newer_version_is_left_alone(path):
    path.parent.mkdir()
    newer = json.dumps({"version": 2, "exercises": {}, "quizzes": {}})
    path.write_text(newer)
    with pytest.warns(UserWarning, match="newer version"):
        progress.record_check("119.2.lion", passed=True, hints=0)
    assert path.read_text() == newer
    with pytest.raises(progress.ProgressError):
        progress.load()


def test_a_place_that_cannot_be_written_does_not_stop_the_learner(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DLCOURSE_PROGRESS", str(tmp_path / "file" / "progress.json"))
    with pytest.warns(UserWarning, match="not recorded"):
        progress.record_check("119.2.lion", passed=True, hints=0)


def test_a_headless_run_writes_nothing(monkeypatch, path):
    monkeypatch.setenv("DLCOURSE_STATIC", "1")
    progress.record_check("119.2.lion", passed=True, hints=0)
    progress.record_quiz("119.2", "q", right=True)
    assert not path.exists()


def test_the_file_lies_with_the_users_data_by_default(monkeypatch):
    monkeypatch.delenv("DLCOURSE_PROGRESS")
    path = progress.progress_path()
    assert path.name == "progress.json"
    assert "dlcourse" in path.parts
    assert path.is_absolute()


def test_no_half_written_file_is_seen_or_left(monkeypatch, path):
    progress.record_check("119.2.lion", passed=True, hints=0)
    before = path.read_text()
    monkeypatch.setattr(os, "replace", lambda *args: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.warns(UserWarning, match="disk full"):
        progress.record_check("119.2.lion", passed=True, hints=0)
    assert path.read_text() == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["progress.json", "progress.json.lock"]


def test_the_intervals_double_when_reviews_pass_and_fall_back_when_they_fail():
    day, gaps = 0, []
    for _ in range(7):
        progress.record_check("119.2.lion", passed=True, hints=0, now=after(day))
        gaps.append((dt.date.fromisoformat(entry()["due"]) - after(day).date()).days)
        day += gaps[-1]
    assert gaps == [1, 2, 4, 8, 16, 32, 32]
    progress.record_check("119.2.lion", passed=False, hints=1, now=after(day))
    assert (entry()["box"], entry()["due"]) == (1, after(day + 1).date().isoformat())


def test_passing_again_before_it_is_due_moves_nothing():
    progress.record_check("119.2.lion", passed=True, hints=0, now=NOON)
    due = entry()["due"]
    progress.record_check("119.2.lion", passed=True, hints=0, now=NOON)
    assert (entry()["box"], entry()["due"], entry()["passes"]) == (1, due, 2)


def test_failures_before_the_first_pass_ask_for_no_review():
    progress.record_check("119.2.lion", passed=False, hints=1, now=NOON)
    assert "due" not in entry()


def test_export_and_reset(tmp_path, path):
    progress.record_check("119.2.lion", passed=True, hints=0)
    progress.export(tmp_path / "copy.json")
    assert json.loads((tmp_path / "copy.json").read_text()) == progress.load()
    progress.reset()
    assert not path.exists()
    assert progress.load()["exercises"] == {}


def test_the_report_says_what_is_done_and_what_to_review():
    progress.record_check("119.2.lion", passed=True, hints=0, now=NOON)
    progress.record_check("119.2.cautious-lion", passed=False, hints=1, now=NOON)
    progress.record_quiz("119.2", "decoupled", right=True, now=NOON)
    found = {row.key: row for row in report.rows()}
    assert found["119.2.lion"].state == "done"
    assert found["119.2.cautious-lion"].state == "begun"
    assert found["119.2.predict-beta"].state == "open"
    assert found["119.2"].title.startswith("Quiz: 1 of ")
    rows = list(found.values())
    assert report.review_next(rows, NOON.date()) == []
    assert [r.key for r in report.review_next(rows, after(1).date())] == ["119.2.lion"]
    assert report.advice(rows, after(2).date()).startswith("Review today: 119.2.lion")
    html = report.report_html(rows, NOON.date())
    assert f"1 of {len(rows)} done" in html
    assert '<th scope="row">119.2.lion</th>' in html


def test_the_next_exercise_is_of_the_section_that_was_begun():
    assert report.advice(report.rows(), NOON.date()).startswith("Next: 119.1a.")
    progress.record_check("119.2.predict-beta", passed=True, hints=0, now=NOON)
    said = report.advice(report.rows(), NOON.date())
    assert said.startswith("Next: 119.2.") and "119.2.predict-beta" not in said


def test_each_sections_quiz_follows_its_exercises():
    sections = [row.section for row in report.rows()]
    assert sections == sorted(sections, key=registry.order)
    for row, after in zip(report.rows(), sections[1:], strict=False):
        assert (row.key == row.section) == (after != row.section)


def test_the_widget_exports_and_resets_only_when_sure(monkeypatch, tmp_path, path):
    pytest.importorskip("ipywidgets")
    monkeypatch.chdir(tmp_path)
    progress.record_check("119.2.lion", passed=True, hints=0)
    table, buttons, said = report.progress_widget().children
    _, export, sure, reset = buttons.children
    assert "119.2.lion" in table.value
    export.click()
    assert (tmp_path / report.EXPORT_FILE).exists()
    assert reset.disabled
    sure.value = True
    assert not reset.disabled
    reset.click()
    assert not path.exists()
    assert reset.disabled
