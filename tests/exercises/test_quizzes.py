"""Quizzes: one right choice, a reply to each, and HTML that needs neither kernel nor script."""

from html.parser import HTMLParser

import pytest

from dlcourse.exercises import Choice, Question, Quiz, progress, quizzes, registry

QUIZZES = list(registry.all_quizzes())
YES, NO = Choice("yes", "indeed", right=True), Choice("no", "not so")


class Elements(HTMLParser):
    """Start tags and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def named(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


@pytest.mark.parametrize("quiz", QUIZZES, ids=lambda quiz: quiz.key)
def test_a_quiz_has_five_questions_with_a_reply_to_every_choice(quiz):
    assert len(quiz.questions) >= 5
    for question in quiz.questions:
        assert len(question.choices) >= 3
        assert sum(choice.right for choice in question.choices) == 1
        replies = [choice.reply for choice in question.choices]
        assert all(len(reply) > 20 for reply in replies)
        assert len(set(replies)) == len(replies)


@pytest.mark.parametrize("quiz", QUIZZES, ids=lambda quiz: quiz.key)
def test_the_right_choice_is_not_always_in_the_same_place(quiz):
    places = [[c.right for c in question.choices].index(True) for question in quiz.questions]
    assert max(map(places.count, places)) <= 2 / 3 * len(places)


def test_exactly_one_choice_must_be_right():
    with pytest.raises(ValueError, match="exactly one"):
        Question("q", "?", [NO, NO])
    with pytest.raises(ValueError, match="exactly one"):
        Question("q", "?", [YES, YES])


def test_empty_texts_and_equal_names_are_refused():
    with pytest.raises(ValueError, match="empty"):
        Question("q", "?", [YES, Choice("no", " ")])
    with pytest.raises(ValueError, match="name of its own"):
        Quiz("119.2", [Question("q", "?", [YES, NO])] * 2)
    with pytest.raises(ValueError, match="malformed"):
        Quiz("119", [Question("q", "?", [YES, NO])])


def test_text_is_escaped_and_backticks_are_code():
    hostile = Quiz("119.2", [Question("q", "<b>&</b>?", [YES, Choice("`<script>x`", "a < b")])])
    page = quizzes.quiz_html(hostile)
    assert "&lt;b&gt;&amp;&lt;/b&gt;?" in page
    assert "<code>&lt;script&gt;x</code>" in page
    assert page.count("<script>") == 1  # ours


@pytest.mark.parametrize("quiz", QUIZZES, ids=lambda quiz: quiz.key)
def test_the_static_page_has_labelled_native_radio_buttons(quiz):
    page = Elements(quizzes.quiz_html(quiz))
    radios, labels = page.named("input"), page.named("label")
    assert len(radios) == sum(len(q.choices) for q in quiz.questions)
    assert {r["type"] for r in radios} == {"radio"}
    assert [r["id"] for r in radios] == [label["for"] for label in labels]
    assert len({r["id"] for r in radios}) == len(radios)
    assert len({r["name"] for r in radios}) == len(quiz.questions)
    assert len(page.named("fieldset")) == len(page.named("legend")) == len(quiz.questions)
    assert sum(p.get("aria-live") == "polite" for p in page.named("p")) == len(quiz.questions)
    for _, attrs in page.tags:
        assert not {"src", "href"} & attrs.keys()


def test_the_page_is_the_same_every_time():
    assert quizzes.quiz_html(QUIZZES[0]) == quizzes.quiz_html(QUIZZES[0])


def test_without_a_kernel_the_html_is_shown(monkeypatch):
    shown = []
    monkeypatch.setattr(quizzes, "show", shown.append)
    monkeypatch.setenv("DLCOURSE_STATIC", "1")
    quizzes.quiz("119.2")
    assert shown[0]["text/html"] == quizzes.quiz_html(registry.find_quiz("119.2"))
    assert "( ) They stay the same." in shown[0]["text/plain"]


def test_the_live_quiz_replies_and_records(monkeypatch, tmp_path):
    pytest.importorskip("ipywidgets")
    monkeypatch.setenv("DLCOURSE_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.delenv("DLCOURSE_STATIC", raising=False)
    found = Quiz("119.2", [Question("q", "?", [YES, NO])])
    _, question = quizzes.live_quiz(found).children
    _, radio, reply = question.children
    assert reply.value == ""
    radio.index = 1
    assert "✗ No. not so" in reply.value
    radio.index = 0
    assert "✓ Right. indeed" in reply.value
    kept = progress.load()["quizzes"]["119.2"]["q"]
    assert (kept["attempts"], kept["right"], kept["first_right"]) == (2, True, False)


class Handle:
    """What ``display`` returns for an output that can be updated."""

    def __init__(self):
        self.shown = []

    def update(self, bundle, raw):
        assert raw
        self.shown.append(bundle)


def test_the_answers_stand_in_the_saved_notebook_and_outlive_a_second_run(monkeypatch, tmp_path):
    pytest.importorskip("ipywidgets")
    monkeypatch.setenv("DLCOURSE_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.delenv("DLCOURSE_STATIC", raising=False)
    found = Quiz("119.2", [Question("q", "?", [YES, NO]), Question("r", "?", [YES, NO])])
    record = quizzes.Record(found)
    record.handle = Handle()
    assert record.bundle()["text/plain"] == "Quiz 119.2: 0 of 2 answered, 0 right."
    _, question, _ = quizzes.live_quiz(found, record).children
    question.children[1].index = 0
    (bundle,) = record.handle.shown
    assert bundle["text/plain"] == "Quiz 119.2: 1 of 2 answered, 1 right."
    assert bundle[quizzes.RECORD_MIME] == {"key": "119.2", "answers": {"q": {"right": True}}}
    assert quizzes.Record(found).bundle() == bundle
