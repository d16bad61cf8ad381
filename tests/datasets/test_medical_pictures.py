"""Facts about the two real pictures. Their wheel is in the cache after ``make install``."""

import pytest
import torch

from dlcourse.datasets import MEDICAL_PICTURES, medical_picture, packages
from dlcourse.datasets.medical_pictures import SKIMAGE_PICTURES


def test_the_wheel_has_the_size_that_is_described():
    assert packages.fetch(SKIMAGE_PICTURES).stat().st_size == SKIMAGE_PICTURES.size


@pytest.mark.parametrize(("name", "side"), [("retina", 1411), ("tissue", 512)])
def test_a_picture_has_three_colours_of_a_share_of_the_whole(name, side):
    picture = medical_picture(name)
    assert picture.shape == (3, side, side) and picture.dtype == torch.float32
    assert 0 <= picture.min() < picture.max() <= 1


def test_an_eye_is_red_and_round():
    red, green, blue = medical_picture("retina")
    assert red.mean() > green.mean() > blue.mean()
    assert red[:50, :50].max() < 0.1 < red[700, 700]  # nothing beyond the field


def test_a_picture_is_the_callers_own():
    medical_picture("tissue").zero_()
    assert medical_picture("tissue").max() > 0.5


def test_another_name_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match=", ".join(MEDICAL_PICTURES)):
        medical_picture("brain")
