"""The progress file: nothing is lost, and reviews are spaced."""

import datetime as dt
import errno
import json
import multiprocessing
import os

import pytest

from dlcourse.exercises import progress, registry, renumbered, report

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
        worker.join(300)
        assert worker.exitcode == 0
    data = progress.load()
    assert data["exercises"]["119.2.shared"]["attempts"] == 60
    assert len(data["quizzes"]["119.2"]) == 60


DAMAGED = {
    "cut off": "{not json",
    "a list": "[]",
    "no parts": '{"exercises": 3}',
    "empty": "",
    "zeros": "\x00\x01",
    "deep": "[" * 100_000,
    "no version": '{"exercises": {}, "quizzes": {}}',
    "an odd version": '{"version": "x", "exercises": {}, "quizzes": {}}',
    "an empty entry": '{"version": 2, "exercises": {"119.2.lion": {}}, "quizzes": {}}',
    "no entry": '{"version": 2, "exercises": {"119.2.lion": 3}, "quizzes": {"119.2": []}}',
    "odd fields": json.dumps({
        "version": 2,
        "exercises": {"119.2.lion": {
            "attempts": "many", "passes": None, "hints": -1, "last": 5, "box": 99, "due": "soon",
        }},
        "quizzes": {"119.2": {"decoupled": {}, "lion-betas": 3}},
    }),
    "a box without its day": json.dumps({
        "version": 2, "quizzes": {}, "exercises": {
            "119.2.lion": {"attempts": 0, "passes": 0, "hints": 0, "box": 3}
        },
    }),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_costs_a_warning_and_is_kept_aside(path, damage):
    path.parent.mkdir()
    path.write_text(damage)
    with pytest.warns(UserWarning, match="damaged"):
        report.report_html(report.rows(), NOON.date())
    assert path.read_text() == damage  # looking changes nothing
    with pytest.warns(UserWarning, match="damaged"):
        progress.record_check("119.2.lion", passed=True, hints=0)
    progress.record_check("119.2.lion", passed=False, hints=0)
    progress.record_quiz("119.2", "decoupled", right=True)
    (aside,) = path.parent.glob("progress.json.damaged-*")
    assert aside.read_text() == damage
    assert (entry()["attempts"], entry()["passes"]) == (2, 1)
    assert report.report_html(report.rows(), NOON.date())


def test_of_a_half_damaged_file_the_rest_is_used(path):
    progress.record_check("119.2.lion", passed=True, hints=1, now=NOON)
    progress.record_quiz("119.2", "decoupled", right=True)
    data = json.loads(path.read_text())
    data["exercises"]["119.2.cautious-lion"] = "?"
    data["exercises"]["119.3.wsd"] = {"attempts": 3, "passes": 1, "hints": 0, "due": "someday"}
    path.write_text(json.dumps(data))
    with pytest.warns(UserWarning, match="damaged"):
        found = progress.load()
    assert found["exercises"]["119.2.lion"] == data["exercises"]["119.2.lion"]
    assert found["exercises"]["119.3.wsd"] == {"attempts": 3, "passes": 1, "hints": 0}
    assert "119.2.cautious-lion" not in found["exercises"]
    assert found["quizzes"] == data["quizzes"]


def test_bytes_that_are_no_text_are_kept_aside_too(path):
    path.parent.mkdir()
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.warns(UserWarning, match="damaged"):
        assert progress.load()["exercises"] == {}
    (aside,) = path.parent.glob("progress.json.damaged-*")
    assert aside.read_bytes() == b"\xff\xfe\x00"


def test_a_damaged_file_of_which_no_copy_can_be_kept_is_not_replaced(path, monkeypatch):
    path.parent.mkdir()
    path.write_text("{")
    monkeypatch.setattr(
        "pathlib.Path.write_bytes", lambda *a: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.warns(UserWarning, match="not recorded.*disk full"):
        progress.record_check("119.2.lion", passed=True, hints=0)
    assert path.read_text() == "{"


def test_the_file_of_a_newer_version_is_left_alone(path):
    path.parent.mkdir()
    newer = json.dumps({"version": progress.VERSION + 1, "exercises": {}, "quizzes": {}})
    path.write_text(newer)
    with pytest.warns(UserWarning, match="newer version"):
        progress.record_check("119.2.lion", passed=True, hints=0)
    assert path.read_text() == newer
    with pytest.raises(progress.ProgressError):
        progress.load()


def old(attempts, last, **more):
    return {"attempts": attempts, "passes": 1, "hints": 2, "first": last, "last": last, **more}


def answer(right, last):
    return {"attempts": 1, "right": right, "first_right": right, "last": last}


VERSION_1 = {
    "version": 1,
    "exercises": {
        "119.1.zero-memory": old(3, "2025-01-01T10:00:00", box=2, due="2025-01-03"),
        "119.1.data-position": old(1, "2025-01-01T10:00:00"),
        "119.1b.accumulate": old(4, "2025-01-02T10:00:00"),
        "119.2.lion": old(5, "2025-01-02T10:00:00"),
        "120.2.koleo": old(6, "2025-01-02T10:00:00"),
        "120.4.fill-in": old(7, "2025-01-02T10:00:00"),
        "120.9.not-known": old(8, "2025-01-02T10:00:00"),
    },
    "quizzes": {
        "119.1": {
            "ring": answer(True, "2025-01-01T10:00:00"),
            "killed": answer(True, "2025-01-01T10:00:00"),
        },
        "119.1b": {"nan": answer(False, "2025-01-01T10:00:00")},
        "120.2": {"ibot": answer(True, "2025-01-01T10:00:00")},
        "120.4": {"order": answer(True, "2025-01-01T10:00:00")},
    },
}


def test_progress_under_old_keys_is_carried_over(path):
    path.parent.mkdir()
    path.write_text(json.dumps(VERSION_1))
    data = progress.load()
    attempts = {key: kept["attempts"] for key, kept in data["exercises"].items()}
    assert attempts == {
        "119.1a.zero-memory": 3, "119.1b.data-position": 1, "119.1c.accumulate": 4,
        "119.2.lion": 5, "120.1b.koleo": 6, "120.2.fill-in": 7, "120.9.not-known": 8,
    }  # fmt: skip
    assert data["exercises"]["119.1a.zero-memory"] == VERSION_1["exercises"]["119.1.zero-memory"]
    assert {key: list(answers) for key, answers in data["quizzes"].items()} == {
        "119.1a": ["ring"], "119.1b": ["killed"], "119.1c": ["nan"],
        "120.1b": ["ibot"], "120.2": ["order"],
    }  # fmt: skip
    found = {row.key: row for row in report.rows()}
    assert found["119.1a.zero-memory"].state == "done"
    assert found["119.1a.zero-memory"].due == dt.date(2025, 1, 3)


def test_the_old_file_is_renumbered_once_and_a_copy_of_it_kept(path):
    path.parent.mkdir()
    path.write_text(json.dumps(VERSION_1))
    progress.record_check("119.1b.data-position", passed=True, hints=0)
    progress.record_check("119.1c.accumulate", passed=True, hints=0)
    assert json.loads(path.read_text())["version"] == 2
    assert (entry("119.1b.data-position")["attempts"], entry("119.1c.accumulate")["attempts"]) == (
        2, 5,
    )  # fmt: skip
    (aside,) = path.parent.glob("progress.json.version-1-*")
    assert json.loads(aside.read_text()) == VERSION_1


def test_where_old_and_new_key_have_an_entry_both_count(path):
    path.parent.mkdir()
    data = {
        "version": 1,
        "exercises": {
            "120.2.koleo": old(6, "2025-01-02T10:00:00", box=3, due="2025-01-06"),
            "120.1b.koleo": old(2, "2025-03-01T10:00:00", box=1, due="2025-03-02"),
        },
        "quizzes": {
            "120.4": {"order": answer(False, "2025-01-01T10:00:00")},
            "120.2": {"order": answer(True, "2025-02-01T10:00:00")},
        },
    }
    path.write_text(json.dumps(data))
    assert entry("120.1b.koleo") == {
        "attempts": 8, "passes": 2, "hints": 4, "box": 3, "due": "2025-03-02",
        "first": "2025-01-02T10:00:00", "last": "2025-03-01T10:00:00",
    }  # fmt: skip
    assert progress.load()["quizzes"] == {
        "120.2": {"order": {
            "attempts": 2, "right": True, "first_right": False, "last": "2025-02-01T10:00:00",
        }}
    }  # fmt: skip


def test_every_old_key_leads_to_one_that_there_is():
    exercises = {e.key for e in registry.all_exercises()}
    questions = {(quiz.key, q.name) for quiz in registry.all_quizzes() for q in quiz.questions}
    assert set(renumbered.EXERCISES.values()) <= exercises
    assert {(new, name) for (_, name), new in renumbered.QUESTIONS.items()} <= questions
    assert not renumbered.EXERCISES.keys() & exercises  # so that a key is never taken twice


def test_a_place_that_cannot_be_written_does_not_stop_the_learner(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("DLCOURSE_PROGRESS", str(tmp_path / "file" / "progress.json"))
    with pytest.warns(UserWarning, match="not recorded"):
        progress.record_check("119.2.lion", passed=True, hints=0)


def test_a_read_only_home_costs_a_warning(path, monkeypatch):
    progress.record_check("119.2.lion", passed=True, hints=0)

    def refuse(*args, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.warns(UserWarning, match="not recorded.*Read-only"):
        progress.record_check("119.2.lion", passed=True, hints=0)
    assert entry()["passes"] == 1


def test_what_is_no_file_costs_a_warning(path):
    path.mkdir(parents=True)
    with pytest.warns(UserWarning, match="not recorded"):
        progress.record_check("119.2.lion", passed=True, hints=0)
    with pytest.warns(UserWarning, match="can't be read"):
        assert progress.load()["exercises"] == {}


def test_without_a_home_folder_nothing_is_written_into_the_current_one(monkeypatch, tmp_path):
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    monkeypatch.setattr("platformdirs.user_data_dir", lambda *a, **k: "~/.local/share/dlcourse")
    monkeypatch.delenv("DLCOURSE_PROGRESS")
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="no home folder.*DLCOURSE_PROGRESS"):
        progress.record_check("119.2.lion", passed=True, hints=0)
    with pytest.warns(UserWarning, match="no home folder"):
        assert progress.load()["exercises"] == {}
    assert list(tmp_path.iterdir()) == []


def test_where_there_are_no_locks_results_are_recorded_all_the_same(monkeypatch):
    def refuse(*args, **options):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    progress.record_check("119.2.lion", passed=True, hints=0)
    assert entry()["passes"] == 1


def test_a_lock_that_is_never_given_back_costs_a_warning(monkeypatch, path):
    import filelock

    monkeypatch.setattr(progress, "LOCK_SECONDS", 0.05)
    path.parent.mkdir()
    with filelock.FileLock(f"{path}.lock"), pytest.warns(UserWarning, match="not recorded"):
        progress.record_check("119.2.lion", passed=True, hints=0)
    assert progress.load()["exercises"] == {}


def test_a_link_is_followed_and_the_files_mode_stays(path, tmp_path):
    real = tmp_path / "synced" / "mine.json"
    path.parent.mkdir()
    path.symlink_to(real)
    progress.record_check("119.2.lion", passed=True, hints=0)
    real.chmod(0o600)
    progress.record_check("119.2.lion", passed=True, hints=0)
    assert path.is_symlink() and real.stat().st_mode & 0o777 == 0o600
    assert json.loads(real.read_text())["exercises"]["119.2.lion"]["attempts"] == 2
    progress.reset()
    assert path.is_symlink() and not real.exists()


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


def test_an_export_keeps_what_somebody_made_of_its_target(tmp_path):
    target = tmp_path / "copy.json"
    assert progress.export(target) is None
    progress.record_check("119.2.lion", passed=True, hints=0)
    assert progress.export(target) is None
    target.write_text("my notes")
    assert progress.export(target).read_text() == "my notes"


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
