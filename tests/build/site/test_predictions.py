"""The form of a prediction has what its script compares with."""

from __future__ import annotations

import json

import pytest
from bs4 import BeautifulSoup

from dlcourse.build.site.predictions import form
from dlcourse.exercises.model import Mistake, Prediction
from dlcourse.exercises.registry import find_exercise

BETA = find_exercise("119.2.predict-beta")
CHOICE = Prediction(
    key="119.2.predict-side",
    title="Which side?",
    statement="Which?",
    experiment=lambda: "left",
    hints=["Look at `x < 0`."],
    mistakes={"other": Mistake(answer="right", hint="you look in a mirror.")},
    choices=("left", "right"),
)


def parsed(exercise: Prediction) -> tuple[BeautifulSoup, dict]:
    soup = BeautifulSoup(form(exercise, exercise.experiment()), "html.parser")
    return soup, json.loads(soup.form["data-prediction"])


def test_a_number_is_written_in_a_labelled_field():
    soup, data = parsed(BETA)
    (field,) = soup.select("input[type=text]")
    assert soup.find("label", attrs={"for": field["id"]}).get_text() == "Your prediction"
    assert data["right"] == 589 and data["rtol"] == BETA.rtol
    assert len(data["hints"]) == len(BETA.hints)
    assert [answer for answer, _ in data["mistakes"]] == [
        mistake.answer for mistake in BETA.mistakes.values()
    ]


def test_a_choice_is_made_among_labelled_buttons():
    soup, data = parsed(CHOICE)
    radios = soup.select("fieldset input[type=radio]")
    assert [radio["value"] for radio in radios] == ["left", "right"]
    assert all(soup.find("label", attrs={"for": radio["id"]}) for radio in radios)
    assert data["right"] == "left"


def test_the_reply_is_announced():
    soup, _ = parsed(CHOICE)
    assert soup.select_one(".reply")["aria-live"] == "polite"


def test_hints_are_escaped_and_their_code_is_marked():
    _, data = parsed(CHOICE)
    assert data["hints"] == ["Look at <code>x &lt; 0</code>."]


@pytest.mark.parametrize("exercise", [BETA, CHOICE])
def test_a_form_asks_for_nothing_outside_of_itself(exercise):
    soup, _ = parsed(exercise)
    assert not soup.select("[src], [href], script") and not soup.form.get("action")
