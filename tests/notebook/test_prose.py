"""Sentences show values; claims hold, or stop the build."""

import numpy as np
import pytest
import torch

from dlcourse.notebook import ClaimError, claim, say


def test_say_shows_computed_values(capsys):
    say("Lion keeps {bytes:.1f} bytes a parameter.", bytes=4)
    assert capsys.readouterr().out == "Lion keeps 4.0 bytes a parameter.\n"


def test_say_keeps_doubled_braces_of_a_formula(capsys):
    say(r"$\beta_{{1}}$ is {b}", b=0.9)
    assert capsys.readouterr().out == "$\\beta_{1}$ is 0.9\n"


@pytest.mark.parametrize("template", ["{missing}", r"$\beta_{1}$", "{}"])
def test_a_value_that_was_not_given_is_named(template):
    with pytest.raises(ValueError, match="double the braces"):
        say(template, other=1)


@pytest.mark.parametrize(
    "holds", [True, np.bool_(True), np.array(True), torch.tensor(True), np.float64(1) < 2]
)
def test_claim_that_holds_is_shown_as_checked(holds, capsys):
    claim("{a} < {b}", holds, a=1, b=2)
    assert capsys.readouterr().out == "✓ Checked: 1 < 2\n"


@pytest.mark.parametrize("holds", [False, np.bool_(False), torch.tensor(False)])
def test_claim_that_fails_raises_with_sentence_and_values(holds, capsys):
    with pytest.raises(ClaimError) as error:
        claim("Lion needs less than {other:.1f} MB", holds, other=2.04, lion=3)
    assert "Lion needs less than 2.0 MB" in str(error.value)
    assert "other = 2.04" in str(error.value) and "lion = 3" in str(error.value)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "holds", [np.array([True, True]), torch.tensor([True]), np.ones((2, 2), bool)]
)
def test_claim_refuses_several_truth_values(holds):
    with pytest.raises(TypeError, match=r"\.all\(\)"):
        claim("x", holds)


@pytest.mark.parametrize("holds", [1, 0, None, "yes", 0.5, torch.tensor(1.0), np.int64(1), [True]])
def test_claim_refuses_what_is_not_a_bool(holds):
    with pytest.raises(TypeError, match="needs a bool"):
        claim("x", holds)


def test_claim_refuses_a_table_which_would_be_shown_as_bars():
    with pytest.raises(ValueError, match="say"):
        claim("| a | b |\n|---|---|\n| 1 | 2 |", True)
