"""What is done, what is open, what to review next: as rows, and as a widget."""

from __future__ import annotations

import datetime as dt
import html
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlcourse.exercises import progress
from dlcourse.exercises.registry import all_exercises, all_quizzes, order, unavailable
from dlcourse.files import kept_note
from dlcourse.notebook.prose import show

EXPORT_FILE = "dlcourse-progress.json"

# Colors are those of the front end, so that it can be read in light and dark.
_STYLE = """\
<style>
.dlc-progress { border-collapse: collapse; line-height: 1.4; }
.dlc-progress th, .dlc-progress td { text-align: left; padding: 2px 8px; font-weight: normal;
  border-bottom: 1px solid rgba(128, 128, 128, 0.35); vertical-align: top; }
.dlc-progress thead th { font-weight: bold; }
.dlc-progress th, .dlc-progress td:not(:nth-child(2)) { white-space: nowrap; }
.dlc-progress .number { text-align: right; }
</style>"""

STATES = {"done": "✓ done", "begun": "… begun", "open": "○ open", "missing": "– not here"}


@dataclass(frozen=True)
class Row:
    """One exercise or quiz in the report. ``due`` is the day of its next review.

    What can't be loaded here has the state "missing", and says in its title what would mend it.
    """

    key: str
    title: str
    state: str
    attempts: int
    hints: int
    due: dt.date | None

    @property
    def section(self) -> str:
        """The section that it belongs to, such as ``119.2``."""
        return ".".join(self.key.split(".")[:2])


def rows(data: dict[str, Any] | None = None) -> list[Row]:
    """The state of every exercise and quiz, by section; ``data`` is by default what is recorded."""
    data = progress.load() if data is None else data
    exercises = [_exercise_row(e, data["exercises"].get(e.key, {})) for e in all_exercises()]
    quizzes = [_quiz_row(q, data["quizzes"].get(q.key, {})) for q in all_quizzes()]
    missing = [_missing_row(item.key, item.reason, data) for item in unavailable()]
    return sorted(
        exercises + missing + quizzes,
        key=lambda row: (order(row.section), row.key == row.section),  # a section's quiz last
    )


def _exercise_row(exercise, entry: dict[str, Any]) -> Row:
    state = "done" if entry.get("passes") else "begun" if entry else "open"
    due = dt.date.fromisoformat(entry["due"]) if "due" in entry else None
    return Row(
        exercise.key, exercise.title, state, entry.get("attempts", 0), entry.get("hints", 0), due
    )


def _quiz_row(quiz, answers: dict[str, Any]) -> Row:
    names = {question.name for question in quiz.questions}
    right = sum(bool(answers[name]["right"]) for name in names & answers.keys())
    state = "done" if right == len(names) else "begun" if answers else "open"
    attempts = sum(answer["attempts"] for answer in answers.values())
    title = f"Quiz: {right} of {len(names)} right"
    return Row(quiz.key, title, state, attempts, 0, None)


def _missing_row(key: str, reason: str, data: dict[str, Any]) -> Row:
    """What was recorded of an exercise or quiz that is not here stays in the report."""
    entry = data["exercises"].get(key, {})
    due = dt.date.fromisoformat(entry["due"]) if "due" in entry else None
    state = "done" if entry.get("passes") else "missing"
    return Row(key, reason, state, entry.get("attempts", 0), entry.get("hints", 0), due)


def review_next(found: list[Row], today: dt.date) -> list[Row]:
    """The exercises that are due for review, the longest due first."""
    due = [row for row in found if row.due is not None and row.due <= today]
    return sorted(due, key=lambda row: (row.due, row.key))


def advice(found: list[Row], today: dt.date) -> str:
    """One sentence on what to do next."""
    due = review_next(found, today)
    if due:
        return "Review today: " + ", ".join(f"{row.key} ({row.title})" for row in due) + "."
    later = sorted(row.due for row in found if row.due)
    after = f" The next review is due on {later[0]}." if later else ""
    begun = {row.section for row in found if row.state != "open"}
    open_rows = [row for row in found if row.state in ("begun", "open")]
    # The section that the learner works on before one that comes earlier in the book.
    left = next((row for row in open_rows if row.section in begun), (open_rows or [None])[0])
    missing = any(row.state == "missing" for row in found)
    done = "All that can be run here is done." if missing else "All done."
    return (f"Next: {left.key} ({left.title})." if left else done) + after


def report_html(found: list[Row], today: dt.date) -> str:
    """The report as an HTML table."""
    head = "".join(
        f'<th scope="col"{style}>{name}</th>'
        for name, style in (
            ("Exercise", ""), ("Title", ""), ("State", ""), ("Attempts", ' class="number"'),
            ("Hints", ' class="number"'), ("Review", ""),
        )
    )  # fmt: skip
    body = "".join(
        f'<tr><th scope="row">{html.escape(row.key)}</th><td>{html.escape(row.title)}</td>'
        f"<td>{STATES[row.state]}</td><td class=\"number\">{row.attempts or ''}</td>"
        f"<td class=\"number\">{row.hints or ''}</td><td>{row.due or ''}</td></tr>"
        for row in found
    )
    done = sum(row.state == "done" for row in found)
    return (
        f"{_STYLE}<p>{done} of {len(found)} done. {html.escape(advice(found, today))}</p>"
        f'<table class="dlc-progress">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def show_progress() -> None:
    """Show what is done and what to review next, with buttons to export and to reset it."""
    if os.environ.get("DLCOURSE_STATIC") == "1":
        text = "Your progress is shown here when you run this cell."
        show({"text/html": f"<p>{text}</p>", "text/plain": text})
        return
    from IPython.display import display

    display(progress_widget())


def progress_widget():
    """The report with its buttons, as an ipywidget."""
    import ipywidgets as widgets

    table, said = widgets.HTML(), widgets.HTML()
    refresh = widgets.Button(description="Refresh")
    export = widgets.Button(description="Export", tooltip=f"write {EXPORT_FILE} here")
    sure = widgets.Checkbox(description="Yes, forget all my results", value=False)
    reset = widgets.Button(description="Reset", disabled=True)

    def say(text: str) -> None:
        said.value = f"<p role='status'>{html.escape(text)}</p>"

    def draw(_=None) -> None:
        try:
            table.value = report_html(rows(), dt.date.today())
        except progress.ProgressError as error:
            say(str(error))

    def on_export(_) -> None:
        try:
            copy = progress.export(Path(EXPORT_FILE))
        except (OSError, progress.ProgressError) as error:
            say(f"not written: {error}")
            return
        kept = f"; {kept_note(EXPORT_FILE, copy)}" if copy else ""
        say(f"written: {Path(EXPORT_FILE).resolve()}{kept}")

    def on_reset(_) -> None:
        sure.value = False
        try:
            progress.reset()
            say("forgotten")
        except (OSError, progress.ProgressError) as error:
            say(f"not forgotten: {error}")
        draw()

    sure.observe(lambda change: setattr(reset, "disabled", not change["new"]), names="value")
    refresh.on_click(draw)
    export.on_click(on_export)
    reset.on_click(on_reset)
    draw()
    return widgets.VBox([table, widgets.HBox([refresh, export, sure, reset]), said])
