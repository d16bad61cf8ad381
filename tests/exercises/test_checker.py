"""What ``check`` says to a learner."""

import dataclasses
import io
import math
import random
import re
import sys
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from dlcourse.exercises import checker, progress
from dlcourse.exercises.checker import ExerciseFailed, check
from dlcourse.exercises.model import Exercise, Mistake, Prediction

torch = pytest.importorskip("torch")

KEY = "119.2.toy"


def weighted(x, w):
    """Return the weighted sum over the last axis, and the sum of the weights."""
    return (x * w).sum(-1), w.sum()


def toy_cases(rng):
    shape = int(rng.integers(2, 5)), int(rng.integers(2, 5))
    return {
        "x": torch.from_numpy(rng.standard_normal(shape)),
        "w": torch.from_numpy(rng.uniform(1, 2, size=shape[1])),
    }


def toy_edges():
    """No weight at all, and as many rows as columns."""
    square = torch.arange(9.0, dtype=torch.float64).view(3, 3)
    return {
        "no weights": {"x": square, "w": torch.zeros(3, dtype=torch.float64)},
        "square": {"x": square, "w": torch.ones(3, dtype=torch.float64)},
    }


def mean(x, w):
    return (x * w).mean(-1), w.sum()


TOY = Exercise(
    key=KEY,
    title="Toy",
    difficulty="implement",
    statement="Sum.",
    reference=weighted,
    cases=toy_cases,
    edges=toy_edges,
    returns=("total", "weight"),
    hints=["first hint", "second hint"],
    mistakes={"mean": Mistake(answer=mean, hint="a mean is taken where a sum is asked for")},
    seconds=60.0,  # however busy this machine is
)
GUESS = Prediction(
    key="119.2.guess",
    title="Guess",
    statement="How many?",
    experiment=lambda: 589,
    rtol=0.05,
    hints=["think"],
    mistakes={"half": Mistake(answer=300, hint="half of it")},
)


@pytest.fixture(autouse=True)
def toys(monkeypatch, tmp_path):
    monkeypatch.setenv("DLCOURSE_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.delenv("DLCOURSE_STATIC", raising=False)
    known = {TOY.key: TOY, GUESS.key: GUESS}
    monkeypatch.setattr(checker, "find_exercise", known.__getitem__)
    checker._given.clear()
    checker._last_case.clear()


def refusal(answer, key=KEY, **options):
    with pytest.raises(ExerciseFailed) as caught:
        check(key, answer, **options)
    assert max(map(len, str(caught.value).splitlines())) <= 80
    return re.sub(r"(?<=\S)\n +", " ", str(caught.value))  # undo the wrapping


def unknown(x, w):
    """None of the mistakes that the toy knows."""
    return x.sum(-1), w.sum()


def test_a_right_answer_prints_one_line_and_is_recorded(capsys):
    check(KEY, lambda x, w: (x @ w, w.sum()))
    count = len(checker.SEEDS) + len(toy_edges()) + checker.FRESH
    assert capsys.readouterr().out == f"✓ {KEY}: all {count} cases passed. Well done.\n"
    assert progress.load()["exercises"][KEY]["passes"] == 1


def test_a_wrong_value_names_the_case_the_shapes_and_the_largest_difference():
    def wrong(x, w):
        total, weight = weighted(x, w)
        total = total.clone()
        total[1] += 0.25
        return total, weight

    said = refusal(wrong)
    x, w = toy_cases(np.random.default_rng(0)).values()
    assert f"It was case 1 of {len(checker.SEEDS) + 2}, with" in said
    assert f"x: float64 tensor of shape {tuple(x.shape)} w: float64 tensor" in said
    assert said.endswith(f'check("{KEY}", weighted, seed=0)')
    assert said.index("elements differ") < said.index("none of the") < said.index("It was case")
    assert f"total: 1 of {len(x)} elements differ; largest difference 0.25 at [1]" in said


def test_the_seed_of_a_failure_repeats_its_case_and_records_nothing(capsys):
    third = toy_cases(np.random.default_rng(2))["x"]

    def fails_late(x, w):
        total, weight = weighted(x, w)
        return total + torch.equal(x, third), weight

    assert re.search(r"seed=(\d+)", refusal(fails_late)).group(1) == "2"
    before = progress.load()
    said = refusal(fails_late, seed=2)
    assert "It was case 1 of 1" in said and "seed=2)" in said and "int" not in said
    check(KEY, fails_late, seed=3)
    said = capsys.readouterr().out
    assert "this one case passes, which is not recorded" in said
    assert f'check("{KEY}", weighted)' in said and "✓" not in said
    assert progress.load() == before


def test_a_right_answer_to_one_case_is_no_pass():
    check(KEY, lambda x, w: (x.sum(-1), w.sum()), seed="square")
    assert progress.load()["exercises"] == {}


def test_edge_cases_always_run_and_are_told_by_name():
    def wrong_without_weights(x, w):
        total, weight = weighted(x, w)
        return total + (0 if w.any() else 1), weight

    said = refusal(wrong_without_weights)
    assert "It was the edge case 'no weights', with" in said
    assert f"check(\"{KEY}\", weighted, seed='no weights')" in said
    assert "the edge case 'no weights'" in refusal(wrong_without_weights, seed="no weights")
    check(KEY, wrong_without_weights, seed="square")
    with pytest.raises(ValueError, match="no edge case 'round': 'no weights', 'square'"):
        check(KEY, weighted, seed="round")


def test_the_arguments_of_the_case_that_failed_can_be_had():
    with pytest.raises(LookupError, match="no case has failed"):
        checker.last_case()
    with pytest.raises(ExerciseFailed) as caught:
        check(KEY, unknown)
    expected = toy_cases(np.random.default_rng(0))
    for found in (checker.last_case(), caught.value.case):
        assert list(found) == ["x", "w"]
        assert all(torch.equal(found[name], expected[name]) for name in found)
    checker.last_case()["x"].zero_()
    assert torch.equal(checker.last_case()["x"], expected["x"])
    assert "from dlcourse.exercises import last_case; last_case()" in str(caught.value)


def test_what_is_no_known_mistake_gets_no_hint_at_first():
    said = refusal(unknown)
    assert "none of the mistakes that this exercise knows by name" in said
    assert "first hint" not in said and "Run the check again for a hint." in said


def test_asking_again_gives_the_next_hint_and_passing_starts_over():
    refusal(unknown)
    assert "first hint" in refusal(unknown)
    assert "second hint" in refusal(unknown)
    assert "no more hints" in refusal(unknown)
    check(KEY, weighted)
    assert "first hint" not in refusal(unknown)
    assert "first hint" in refusal(unknown)


@pytest.mark.parametrize(
    "answer",
    [
        lambda x, w: 1 / 0,
        lambda x, w: None,
        lambda x, w: ((x @ w)[:1], w.sum()),
        lambda x, w: ((x @ w).float(), w.sum()),
    ],
)
def test_what_explains_itself_costs_a_hint_only_the_second_time(answer):
    said = refusal(answer)
    assert "first hint" not in said and "Run the check again for a hint." in said
    assert "first hint" in refusal(answer)
    refusal(unknown)
    assert "second hint" in refusal(unknown)


def test_an_answer_that_cannot_be_called_costs_no_hint():
    for _ in range(3):
        assert "hint" not in refusal(lambda x: x)


def test_no_hint_is_left_out_after_a_known_mistake():
    assert "Hint" not in refusal(mean)
    assert "first hint" in refusal(mean)
    refusal(unknown)
    assert "second hint" in refusal(unknown)


def test_only_hints_are_counted_as_hints():
    counts = []
    for answer in (mean, lambda x, w: None, unknown, unknown, unknown, unknown):
        refusal(answer)
        counts.append(progress.load()["exercises"][KEY]["hints"])
    assert counts == [0, 0, 0, 1, 2, 2]


def test_alike_tensors_are_named_together(monkeypatch):
    def square_cases(rng):
        return {"x": torch.zeros(2, 2), "scale": 2.0, "w": torch.zeros(2, 2)}

    exercise = dataclasses.replace(
        TOY, cases=square_cases, edges=dict, reference=lambda x, scale, w: x
    )
    verdict = checker.examine(exercise, lambda x, scale, w: x + 1)
    assert "  x, w: float32 tensor of shape (2, 2)\n  scale=2\n" in verdict.case_text


def test_a_known_mistake_gets_its_own_hint_at_once_and_general_ones_later():
    said = refusal(mean)
    assert "a mean is taken where a sum is asked for" in said
    assert "first hint" not in said
    said = refusal(mean)
    assert "a mean is taken where a sum is asked for" in said
    assert "first hint" in said


def test_a_mistake_is_recognised_only_if_all_is_alike():
    def mean_in_place(x, w):
        x.mul_(w)
        return x.mean(-1), w.sum()

    assert checker.examine(TOY, mean).mistake == "mean"
    assert checker.examine(TOY, mean_in_place).mistake is None
    assert checker.examine(TOY, lambda x, w: (mean(x, w)[0] + 1e-3, w.sum())).mistake is None


def test_a_stub_is_not_attempted_and_nothing_is_recorded(capsys):
    def stub(x, w):
        raise NotImplementedError("replace this line with your own")

    check(KEY, stub)
    check(KEY, ...)
    check(KEY, None)
    assert capsys.readouterr().out.count("not attempted yet") == 3
    assert progress.load()["exercises"] == {}


def test_not_implemented_error_from_below_the_answer_is_an_error_of_the_answer():
    def helper(x):
        raise NotImplementedError("no kernel for this dtype")

    assert "NotImplementedError: no kernel" in refusal(lambda x, w: helper(x))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (3.0, "expected the function weighted(x, w), got 3 (float)"),
        (torch.zeros(2), "pass the function itself, without calling it"),
        (lambda x: x, "wrong signature: it is called as weighted(x, w), yours is (x)"),
        (lambda x, w, z: x, "missing a required argument: 'z'"),
        (lambda w, x: x, "the order must be weighted(x, w), yours is (w, x)"),
        (lambda x, w: None, "expected a tuple (total, weight), got None: is the `return` missing?"),
        (lambda x, w: x, "expected a tuple (total, weight) of 2, got float64 tensor"),
        (lambda x, w: (x @ w,), "of 2 parts, got 1"),
        (lambda x, w: ((x @ w).numpy(), w.sum()), "total: expected a torch.Tensor, got"),
        (lambda x, w: ((x * w).sum(0)[:1], w.sum()), "total: expected shape"),
        (lambda x, w: ((x @ w).float(), w.sum()), "expected dtype float64, got float32"),
        (lambda x, w: ((x @ w) * float("nan"), w.sum()), "total: nan at [0]"),
        (lambda x, w: ((x @ w) / 0, w.sum()), "not finite"),
    ],
)
def test_what_is_wrong_is_said(answer, said):
    assert said in refusal(answer)


def test_an_argument_changed_in_place_is_refused_and_named():
    def in_place(x, w):
        x.mul_(w)
        return x.sum(-1), w.sum()

    said = refusal(in_place)
    assert "changed its argument `x` in place" in said and "methods whose name ends in `_`" in said


def test_an_error_shows_the_learners_line():
    def broken(x, w):
        total = x @ w.unsqueeze(0)[:, :1]
        return total, w.sum()

    said = refusal(broken)
    assert "your function raised RuntimeError" in said
    assert "total = x @ w.unsqueeze(0)[:, :1]" in said


def test_leaving_the_process_is_caught():
    assert "your function raised SystemExit" in refusal(lambda x, w: exit())


def test_an_endless_loop_is_interrupted_and_explained():
    def endless(x, w):
        while True:
            try:
                pass
            except Exception:
                pass

    hurried = dataclasses.replace(TOY, seconds=0.3)
    said = checker.examine(hurried, endless).message
    assert said == "no answer after 0.3 s: is there an endless loop?"


def test_the_learners_objects_are_not_changed():
    seen = []

    def remembers(x, w):
        seen.append(x)
        return weighted(x, w)

    check(KEY, remembers)
    kept = [x.clone() for x in seen]
    check(KEY, remembers)
    assert all(torch.equal(a, b) for a, b in zip(kept, seen, strict=False))


def test_a_check_draws_nothing_from_the_global_generators():
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    before = torch.rand(3), np.random.rand(3), random.random()
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    check(KEY, weighted)
    after = torch.rand(3), np.random.rand(3), random.random()
    assert torch.equal(before[0], after[0])
    assert (before[1] == after[1]).all()
    assert before[2] == after[2]


def test_each_check_has_a_fresh_case_and_hard_coded_results_fail():
    cases = checker.fixed_cases(TOY)
    known = [weighted(*checker.draw_case(TOY, case).values()) for case in cases]
    answers = iter(known)
    said = refusal(lambda x, w: next(answers, known[0]))
    assert f"It was case {len(cases) + 1} of {len(cases) + 1}" in said
    assert int(re.search(r"seed=(\d+)", said).group(1)) not in checker.SEEDS


def test_of_what_an_answer_prints_one_case_is_shown(capsys):
    def chatty(x, w):
        print("looking at", x.shape)
        return weighted(x, w)

    check(KEY, chatty)
    assert capsys.readouterr().out.count("looking at") == 1
    check(KEY, chatty, seed=3)
    assert capsys.readouterr().out.count("looking at") == 1


def test_a_result_with_a_graph_is_compared():
    check(KEY, lambda x, w: weighted(x.requires_grad_(), w))


@pytest.mark.parametrize(
    ("answer", "how"), [(589, "right"), (600, "near enough"), (575.0, "near enough"),
                        (np.float64(589), "right"), (Fraction(1178, 2), "right"),
                        (Decimal(589), "right")],
)  # fmt: skip
def test_a_prediction_near_enough_is_accepted(answer, how, capsys):
    check(GUESS.key, answer)
    assert f" is {how}." in capsys.readouterr().out


@pytest.mark.parametrize("box", [torch.tensor, np.array, np.float32, torch.tensor(1.0).new_tensor])
def test_a_prediction_may_stand_in_a_tensor_without_dimensions(box, capsys):
    check(GUESS.key, box(589.0))
    assert "589 is right" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("guess", "said"),
    [
        (1000, "1000 is not what happens. It is too high, by less than a factor of 2."),
        (625, "too high, by less than 10 %"),
        (558, "too low, by less than 10 %"),
        (59, "too low, by less than a factor of 10"),
        (9000, "too high, by more than a factor of 10"),
        (-589, "too low."),
        (0, "too low."),
        (10**400, "expected a finite number, got a whole number of about 400 digits"),
        (complex(589), "expected a number, got (589+0j) (complex)"),
        ([589], "expected a number, got list of 1"),
        (torch.tensor([589.0]), "take .item()"),
        (torch.tensor(float("inf")), "expected a finite number"),
        (np.ma.masked, "expected a number"),
        (300, "half of it"),
        ("many", "expected a number, got 'many' (str)"),
        (True, "expected a number"),
        (float("nan"), "expected a finite number"),
    ],
)
def test_a_wrong_prediction_is_refused(guess, said):
    with pytest.raises(ExerciseFailed, match=re.escape(said)):
        check(GUESS.key, guess)


def test_a_prediction_from_choices():
    choice = Prediction(
        key="119.2.choice", title="t", statement="s", experiment=lambda: "Up",
        choices=("up", "down"), hints=["h"], mistakes={"down": Mistake(answer="down", hint="no")},
    )
    assert checker.examine(choice, "UP ").status == checker.PASSED
    assert checker.examine(choice, "down").hint == "no"
    assert "expected one of 'up', 'down'" in checker.examine(choice, "left").message


def test_ipython_shows_the_message_alone():
    said = ExerciseFailed("✗ 119.2.toy: not yet.\n  details")
    assert said._render_traceback_() == ["✗ 119.2.toy: not yet.", "  details"]


def test_a_headless_run_records_nothing(monkeypatch):
    monkeypatch.setenv("DLCOURSE_STATIC", "1")
    check(KEY, weighted)
    monkeypatch.delenv("DLCOURSE_STATIC")
    assert progress.load()["exercises"] == {}


# --- what an answer may be and return: refused in words, and never by accident right ---


class Hostile:
    """Nothing that is asked of it goes well."""

    def _refuse(self, *args, **options):
        raise RuntimeError("leave me alone \ud83d")

    __eq__ = __repr__ = __str__ = __len__ = __iter__ = __float__ = __bool__ = _refuse
    __deepcopy__ = __array__ = __getitem__ = __lt__ = __abs__ = __sub__ = __contains__ = _refuse
    __hash__ = object.__hash__


class AlwaysEqual:
    """What tests use as "anything": it must not be taken for the right result."""

    def __eq__(self, other):
        return True

    __hash__ = object.__hash__


class FalseFloat(float):
    """A float that claims to be near to everything."""

    def __sub__(self, other):
        return 0.0

    __rsub__ = __sub__

    def __eq__(self, other):
        return True

    __hash__ = float.__hash__


class FalseList(list):
    def __len__(self):
        raise RuntimeError("no length")


def looped():
    circle = []
    circle.append(circle)
    return circle


ODD = {
    "a huge number": 2**64,
    "a number of thousands of digits": 10**9999,
    "a huge fraction": Fraction(10**400, 3),
    "NaN": float("nan"),
    "a NaN of Decimal": Decimal("nan"),
    "infinity": np.float32("inf"),
    "a complex number": 1 + 2j,
    "text": "one",
    "half a character": "\ud83d",
    "bytes": b"\xff",
    "a type": float,
    "a function": print,
    "a generator": (i for i in range(3)),
    "a set": {1, 2},
    "a dict with odd keys": {Hostile(): 1},
    "a list in itself": looped(),
    "a list without length": FalseList([1.0]),
    "a hostile object": Hostile(),
    "what equals everything": AlwaysEqual(),
    "a float that is near to everything": FalseFloat(0.123),
    "a masked array": np.ma.masked_all(3),
    "masked": np.ma.masked,
    "an array of objects": np.full(2, Hostile, dtype=object),
    "an array of text": np.array(["a"]),
    "a sparse tensor": torch.eye(3).to_sparse(),
    "a tensor on the device meta": torch.zeros(3, device="meta"),
    "a complex tensor": torch.zeros(3, dtype=torch.complex64).conj(),
    "a boolean tensor": torch.zeros(3, dtype=torch.bool),
    "a date": np.datetime64("2025-01-01"),
    "a module": math,
}
EXPECTED = {
    "number": 1.5, "whole number": 3, "truth": True, "text": "up", "tuple": (1.0, 2.0),
    "list": ["a"], "dict": {"a": 1.0}, "array": np.ones(3), "tensor": torch.ones(3),
    "scalar tensor": torch.tensor(1.5),
}  # fmt: skip


@pytest.mark.parametrize("kind", EXPECTED)
@pytest.mark.parametrize("odd", ODD)
def test_an_odd_object_is_refused_in_words_whatever_was_expected(odd, kind):
    exercise = dataclasses.replace(
        TOY, returns=(), edges=dict, mistakes={}, reference=lambda x, w: EXPECTED[kind]
    )
    for value in (ODD[odd], (ODD[odd], ODD[odd]), {"a": ODD[odd]}, [ODD[odd]]):
        verdict = checker.examine(exercise, lambda x, w: value)
        assert verdict.status == checker.FAILED
        assert "the result" in verdict.message
        assert len(verdict.message) < 400
        verdict.message.encode("utf8")


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_object_is_no_function_and_no_prediction(odd):
    if not callable(ODD[odd]):
        assert "expected the function" in refusal(ODD[odd])
    assert "✗" in refusal(ODD[odd], GUESS.key)


def test_a_mock_is_no_number():
    from unittest.mock import MagicMock

    pretender = MagicMock(spec=float)
    pretender.__float__ = lambda self: 1.5
    exercise = dataclasses.replace(TOY, returns=(), edges=dict, reference=lambda x, w: 1.5)
    assert checker.examine(exercise, lambda x, w: pretender).status == checker.FAILED


@pytest.mark.parametrize("number", [Fraction(3, 2), Decimal("1.5"), np.float64(1.5), 1.5])
def test_any_real_number_is_a_number(number):
    exercise = dataclasses.replace(TOY, returns=(), reference=lambda x, w: 1.5)
    assert checker.examine(exercise, lambda x, w: number).status == checker.PASSED


@pytest.mark.parametrize("expected", [1.0, torch.tensor(1.0), True, "up", {"a": 1}, np.ones(2)])
def test_an_answer_that_prints_in_place_of_returning_is_asked_for_its_return(expected):
    exercise = dataclasses.replace(TOY, returns=(), reference=lambda x, w: expected)
    verdict = checker.examine(exercise, lambda x, w: None)
    assert "got None: is the `return` missing?" in verdict.message


def test_a_single_number_is_compared_without_counting_elements():
    exercise = dataclasses.replace(TOY, returns=(), reference=lambda x, w: torch.tensor(2.0))
    said = checker.examine(exercise, lambda x, w: torch.tensor(2.5)).message
    assert said == "the result: expected 2, got 2.5 (difference 0.5)"
    said = checker.examine(exercise, lambda x, w: torch.tensor(math.nan)).message
    assert said == "the result: got nan, expected 2"


ERRORS = {
    "half a character": ValueError("\ud83d"),
    "nothing": ValueError(),
    "control characters": ValueError("\x1b[2J"),
    "an error that can't be shown": type("Shy", (Exception,), {"__str__": Hostile._refuse})(),
    "a base exception": BaseException("from below"),
    "a generator's end": GeneratorExit(),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_whatever_an_answer_raises_is_told(error):
    def answer(x, w):
        raise error

    said = refusal(answer)
    assert f"your function raised {type(error).__name__}" in said
    said.encode("utf8")
    assert "\x1b" not in said


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_messages_fit_the_encoding_of_the_terminal(monkeypatch, encoding):
    screen = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", screen)
    check(KEY, weighted)
    check(KEY, ...)
    with pytest.raises(ExerciseFailed) as caught:
        check(KEY, unknown)
    print("\n".join(caught.value._render_traceback_()))
    screen.flush()
    said = screen.buffer.getvalue().decode(encoding)
    assert said.startswith(f"{'✓' if encoding == 'utf-8' else 'ok'} {KEY}: all")
    assert f"{'✗' if encoding == 'utf-8' else '--'} {KEY}: not yet" in said


# --- answers that must train, and results that must be new ---


def loss(z, w):
    return (z * w).square().mean()


LOSS = Exercise(
    key="119.2.loss",
    title="Loss",
    difficulty="implement",
    statement="A loss.",
    reference=loss,
    cases=lambda rng: {"z": torch.from_numpy(rng.standard_normal(4)), "w": torch.ones(4).double()},
    differentiable=("z",),
    hints=["hint"],
    mistakes={
        "detached": Mistake(
            answer=lambda z, w: loss(z.detach(), w), hint="the graph is cut by `.detach()`"
        ),
    },
)


def through_numpy(z, w):
    return torch.tensor((z.numpy() ** 2).mean())


def without_gradient(z, w):
    with torch.no_grad():
        return loss(z, w)


def half_the_gradient(z, w):
    return (z.detach() * z * w * w).mean()


def through_a_leaf(z, w):
    return loss(z.clone().detach().requires_grad_(), w)


@pytest.mark.parametrize(
    ("answer", "said", "mistake"),
    [
        (lambda z, w: loss(z, w).detach(), "no gradient flows back", "detached"),
        (without_gradient, "no gradient flows back", "detached"),
        (lambda z, w: torch.tensor(loss(z, w).item()).double(), "dtype", None),
        (lambda z, w: torch.tensor(loss(z, w).item(), dtype=z.dtype), "no gradient", "detached"),
        (through_numpy, "computed in NumPy", None),
        (half_the_gradient, "not their gradient for `z`", None),
        (through_a_leaf, "not their gradient for `z`", None),
        (lambda z, w: loss(z, w) + 1, "expected", None),
    ],
)
def test_a_loss_that_cannot_train_is_refused(answer, said, mistake):
    verdict = checker.examine(LOSS, answer)
    assert verdict.status == checker.FAILED
    assert said in verdict.message or said == "dtype"
    if said != "dtype":
        assert verdict.mistake == mistake


def test_a_loss_written_otherwise_trains_as_well():
    def answer(z, w):
        total = torch.zeros((), dtype=z.dtype)
        for a, b in zip(z, w, strict=True):
            total = total + (a * b) ** 2
        return total / len(z)

    assert checker.examine(LOSS, answer).status == checker.PASSED


@pytest.mark.parametrize(
    "switched_off", [torch.no_grad, torch.inference_mode, lambda: torch.device("meta")]
)
def test_what_a_notebook_switched_off_changes_no_verdict(switched_off):
    guess = dataclasses.replace(GUESS, experiment=lambda: _slope())
    with switched_off():
        assert checker.examine(LOSS, loss).status == checker.PASSED
        assert checker.examine(LOSS, without_gradient).status == checker.FAILED
        assert checker.examine(guess, 2.0).status == checker.PASSED


def _slope():
    x = torch.ones((), requires_grad=True)
    (2 * x).backward()
    return x.grad.item()


def test_a_result_must_be_new_where_that_is_stated():
    def passed_on(x, w):
        return x, w.clone()

    exercise = dataclasses.replace(TOY, reference=lambda x, w: (x.clone(), w.clone()))
    assert checker.examine(exercise, passed_on).status == checker.PASSED
    exercise = dataclasses.replace(exercise, returns_new=True)
    verdict = checker.examine(exercise, passed_on)
    assert "lies in the memory of the argument `x`" in verdict.message
    assert checker.examine(exercise, lambda x, w: (x.clone(), w[:])).status == checker.FAILED
    assert checker.examine(exercise, lambda x, w: (x + 0, w.clone())).status == checker.PASSED


def test_the_floating_dtype_of_a_mask_may_be_left_open():
    exercise = dataclasses.replace(
        TOY, returns=("visible", "mask"), any_float=("mask",),
        reference=lambda x, w: (x, (x > 0).float()),
    )  # fmt: skip
    assert checker.examine(exercise, lambda x, w: (x, (x > 0).double())).status == checker.PASSED
    assert checker.examine(exercise, lambda x, w: (x, (x > 0).half())).status == checker.PASSED
    for wrong in (lambda x, w: (x, x > 0), lambda x, w: (x.float(), (x > 0).float())):
        assert "expected dtype" in checker.examine(exercise, wrong).message


# --- check and grade give one verdict ---


def grade(answer, fresh=range(1000, 1000 + checker.FRESH_GRADED)):
    from functools import partial

    return checker.examine_for_grade(TOY, partial(checker.run_case, TOY, answer), list(fresh))


def test_grading_judges_by_the_cases_that_a_check_runs():
    assert grade(weighted).status == checker.PASSED
    assert grade(mean).mistake == "mean"
    assert grade(unknown).message == checker.examine(TOY, unknown).message


def wrong_in(share, seed=0):
    """Right in the known cases, and wrong in a share of all others."""
    known = [checker.draw_case(TOY, case)["x"] for case in checker.fixed_cases(TOY)]
    chance = random.Random(seed)

    def answer(x, w):
        total, weight = weighted(x, w)
        rote = any(x.shape == other.shape and torch.equal(x, other) for other in known)
        return total + (not rote and chance.random() < share), weight

    return answer


def test_an_answer_that_knows_the_cases_by_heart_fails_at_grading():
    verdict = grade(wrong_in(1.0))
    assert verdict.status == checker.FAILED and "by heart" in verdict.message


def test_a_rare_slip_that_a_check_let_through_does_not_fail_at_grading():
    assert all(grade(wrong_in(0.05, seed)).status == checker.PASSED for seed in range(20))


def test_a_right_mark_in_the_notebook_fails_at_grading_once_in_ten_thousand_at_most():
    """Whatever share p of cases an answer is wrong in: passes the check, and fails the grading."""

    def both(p):
        n = checker.FRESH_GRADED
        at_least_half = sum(
            math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range((n + 1) // 2, n + 1)
        )
        return (1 - p) ** checker.FRESH * at_least_half

    assert max(both(p / 1000) for p in range(1001)) < 1e-4
