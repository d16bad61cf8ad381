"""Facts about the digits: nothing leaks, nothing is lost, a seed says it all."""

import pytest
import torch

from dlcourse.datasets import digits


def images(split):
    return {tuple(x.flatten().tolist()) for x in split.x}


def test_parts_are_disjoint_and_together_hold_every_image():
    parts = digits(seed=3)
    train, validation, test = map(images, parts)
    assert not train & validation and not train & test and not validation & test
    assert sum(len(part.y) for part in parts) == 1797


def test_shapes_dtypes_and_range():
    part = digits(seed=0, max_shift=2, copies=3).train
    assert part.x.shape == (3 * 1077, 1, 12, 12) and part.x.dtype == torch.float32
    assert part.y.shape == (3 * 1077,) and part.y.dtype == torch.int64
    assert part.x.min() == 0 and part.x.max() == 1


def test_every_part_holds_every_class_in_like_shares():
    for part in digits(seed=1):
        shares = torch.bincount(part.y, minlength=10) / len(part.y)
        assert shares.min() > 0.08 and shares.max() < 0.12


def test_the_seed_alone_decides_and_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    first, again, other = (digits(seed=s, max_shift=2) for s in (5, 5, 6))
    assert torch.equal(first.train.x, again.train.x)
    assert not torch.equal(first.train.x, other.train.x)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_shift_moves_the_image_and_keeps_every_pixel():
    plain, shifted = digits(seed=2).test, digits(seed=2, max_shift=2).test
    assert torch.equal(plain.y, shifted.y)
    assert torch.allclose(plain.x.sum((1, 2, 3)), shifted.x.sum((1, 2, 3)))
    placed = 0
    for image, canvas in zip(plain.x[:50, 0], shifted.x[:50, 0], strict=True):
        windows = canvas.unfold(0, 8, 1).unfold(1, 8, 1).reshape(-1, 8, 8)
        assert any(torch.equal(window, image) for window in windows)
        placed += not torch.equal(windows[12], image)  # window 12 is the unmoved position
    assert placed > 25


def test_shifted_copies_of_an_image_stay_in_its_part():
    plain, shifted = digits(seed=4), digits(seed=4, max_shift=1, copies=2)
    for before, after in zip(plain, shifted, strict=True):
        assert torch.allclose(before.x.sum((1, 2, 3)).repeat(2), after.x.sum((1, 2, 3)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"validation_fraction": 0.0},
        {"test_fraction": 1.0},
        {"validation_fraction": 0.6, "test_fraction": 0.4},
        {"max_shift": -1},
        {"copies": 0},
        {"copies": 2},
    ],
)
def test_impossible_arguments_are_refused(wrong):
    with pytest.raises(ValueError, match="copies|fraction|shift"):
        digits(**wrong)
