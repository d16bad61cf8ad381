"""Facts about ``dlcourse fetch``: what it prints, and that it fails when it should."""

import dataclasses

import pytest
from typer.testing import CliRunner

from dlcourse.cli import app
from dlcourse.datasets import packages


def dlcourse(*arguments):
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def toy(make_wheel, cache, monkeypatch):
    """A course that reads one archive, of 1.2 MB."""
    toy = dataclasses.replace(make_wheel(), size=1_234_567)
    monkeypatch.setattr(packages, "archives", lambda: {"toy": toy})
    return toy


def test_it_fetches_all_says_what_and_the_second_time_has_it(toy):
    line = "toy: toydata==1.0, 1.2 MB, {}; licence: CC0 (stated)\n"
    for arguments, state in (
        (["--list"], "not fetched"),
        ([], "fetched"),
        (["--list"], "in the cache"),
        (["toy"], "in the cache"),
    ):
        done = dlcourse("fetch", *arguments)
        assert done.exit_code == 0 and done.stdout == line.format(state)


def test_it_fails_with_the_reason_and_fetches_the_others(toy, monkeypatch):
    bad = dataclasses.replace(toy, name="bad", file="toydata-2.0-py3-none-any.whl")
    monkeypatch.setattr(packages, "archives", lambda: {"bad": bad, "toy": toy})
    done = dlcourse("fetch")
    assert done.exit_code == 1 and "No matching distribution found for toydata==2.0" in done.stderr
    assert "bad: toydata==2.0, 1.2 MB, FAILED" in done.stdout and "fetched" in done.stdout
    assert packages.is_cached(toy)


def test_an_unknown_name_is_refused_with_those_that_there_are(toy):
    done = dlcourse("fetch", "toi")
    assert done.exit_code == 1 and "no archive 'toi'; there are: toy" in done.stderr
