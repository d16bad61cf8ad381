"""Captioned scenes: every word is true of its picture; and files in COCO's and Flickr's layout."""

import json

import pytest
import torch

from dlcourse.datasets import (
    HELD_OUT,
    SCENE_CONTEXT,
    SCENE_WORDS,
    captioned_scenes,
    coco_captions,
    flickr_captions,
    render_scenes,
    scene_captions,
    scene_factors,
    scene_tokens,
)
from dlcourse.datasets.scenes import OBJECT_COLOURS, OBJECT_SHAPES


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_seed_gives_the_same_scenes_whatever_the_batch():
    first = captioned_scenes(50, seeded(), size=32)
    second = captioned_scenes(50, seeded(), size=32, batch=7)
    torch.testing.assert_close(first.images, second.images)
    assert torch.equal(first.tokens, second.tokens)
    assert first.images.shape == (50, 3, 32, 32)
    assert first.images.min() >= 0 and first.images.max() <= 1
    assert not torch.equal(first.images, captioned_scenes(50, seeded(1), size=32).images)


def test_full_captions_say_what_the_factors_are():
    scenes = captioned_scenes(300, seeded(), size=16, full=True)
    f = scenes.factors
    for i, caption in enumerate(scene_captions(scenes.tokens)):
        words = caption.split()
        assert words[3] == OBJECT_COLOURS[f.colour[i, 0]]
        assert words[4] == OBJECT_SHAPES[f.shape[i, 0]]
        if f.relation[i] < 0:
            assert words[5:7] == ["at", "the"] and len(words) == 9
            continue
        assert words[-2:] == [OBJECT_COLOURS[f.colour[i, 1]], OBJECT_SHAPES[f.shape[i, 1]]]
        relation = " ".join(words[5:-5])
        (xa, xb), (ya, yb) = f.x[i].tolist(), f.y[i].tolist()
        true = {"left of": xa < xb, "right of": xa > xb, "above": ya < yb, "below": ya > yb}
        assert true[relation]


def test_the_colour_of_the_caption_is_in_the_picture_at_its_place():
    f = scene_factors(200, seeded(), pairs=0.0)
    f = f._replace(texture=torch.zeros_like(f.texture))
    images = render_scenes(f, 48)
    rgb = torch.tensor(
        [(230, 40, 40), (240, 210, 40), (50, 190, 70), (50, 90, 240), (170, 60, 220), (245,) * 3]
    )
    for i in range(200):
        brightest = images[i].flatten(1)[:, images[i].sum(0).argmax()]
        cosines = torch.cosine_similarity(rgb.float(), brightest[None], dim=1)
        assert cosines.argmax() == f.colour[i, 0]


@pytest.mark.parametrize("combinations", ["seen", "unseen", "all"])
def test_held_out_combinations_appear_only_where_they_are_asked_for(combinations):
    f = scene_factors(3000, seeded(), combinations=combinations)
    drawn = set(zip(f.colour.flatten().tolist(), f.shape.flatten().tolist()))
    assert len(drawn) == {"seen": 30, "unseen": 6, "all": 36}[combinations]
    assert combinations == "all" or (drawn <= set(HELD_OUT)) == (combinations == "unseen")
    assert {c for c, _ in HELD_OUT} == {s for _, s in HELD_OUT} == set(range(6))


def test_captions_worded_at_random_are_true_parts_of_the_full_ones():
    f = scene_factors(400, seeded())
    full, some = scene_captions(scene_tokens(f)), scene_captions(scene_tokens(f, seeded(1)))
    left_out = 0
    for a, b in zip(full, some):
        words = b.split()
        for prefix in (["a", "picture", "of"], ["a", "drawing", "of"], ["there", "is"]):
            if words[: len(prefix)] == prefix:
                words = words[len(prefix) :]
        rest = iter(a.split())
        assert all(word in rest for word in words)  # in the same order
        left_out += len(a.split()) > len(words)
    assert 200 < left_out < 400


def test_tokens_are_start_words_end_padding():
    tokens = scene_tokens(scene_factors(500, seeded()), seeded(1))
    assert tokens.shape == (500, SCENE_CONTEXT) and tokens.max() == len(SCENE_WORDS) + 2
    assert (tokens[:, 0] == 1).all() and ((tokens == 2).sum(1) == 1).all()
    end = (tokens == 2).int().argmax(1)
    place = torch.arange(SCENE_CONTEXT)
    assert ((tokens == 0) == (place > end[:, None])).all()


def test_swaps_change_what_they_say():
    f = scene_factors(200, seeded(), pairs=1.0)
    for caption, swapped in zip(*(scene_captions(scene_tokens(x)) for x in (f, f.swap_objects()))):
        assert sorted(caption.split()) == sorted(swapped.split())
        assert swapped.split()[:5] == caption.split()[-5:]
    assert torch.equal(f.swap_colours().colour, f.colour.flip(1))
    assert torch.equal(f.swap_colours().shape, f.shape)
    changed = f.replace_colour().colour != f.colour
    assert changed[:, 0].all() and not changed[:, 1].any()


@pytest.mark.parametrize(
    "n, options, message",
    [
        (0, {}, "n >= 1"),
        (3, {"combinations": "some"}, "seen, unseen or all"),
        (3, {"pairs": 1.5}, "share"),
        (3, {"size": 8}, "16 pixels"),
    ],
)
def test_scenes_that_can_not_be_painted_are_refused(n, options, message):
    with pytest.raises(ValueError, match=message):
        captioned_scenes(n, seeded(), **options)


# --- Files -----------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def coco(folder, **changes):
    content = {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}],
        "annotations": [
            {"image_id": 9, "caption": "A dog. "},
            {"image_id": 7, "caption": "A cat"},
            {"image_id": 9, "caption": "Its ball"},
        ],
    } | changes
    path = folder / "captions.json"
    path.write_text(json.dumps(content))
    return path


def test_cocos_captions_find_their_pictures(pictures):
    found = coco_captions(coco(pictures), pictures)
    assert [(p.name, c) for p, c in found] == [
        ("b.jpg", "A dog."), ("a.jpg", "A cat"), ("b.jpg", "Its ball"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"images": [{"id": 7}]}, ValueError, "layout of COCO"),
        ({"annotations": [{"image_id": 1, "caption": "x"}]}, ValueError, r"not list: \[1\]"),
        ({"annotations": [{"image_id": 7, "caption": " "}]}, ValueError, "empty caption, of a.jpg"),
        ({"images": [{"id": i, "file_name": "c.jpg"} for i in (7, 9)]}, FileNotFoundError, "c.jpg"),
    ],
)
def test_other_files_are_refused(pictures, changes, error, message):
    with pytest.raises(error, match=message):
        coco_captions(coco(pictures, **changes), pictures)


@pytest.mark.parametrize(
    "text",
    [
        'image,caption\na.jpg,"A cat, asleep"\nb.jpg,A dog\n',
        "image_name| comment_number| comment\na.jpg| 0| A cat, asleep\nb.jpg| 1| A dog\n",
        "a.jpg#0\tA cat, asleep\nb.jpg#1\tA dog\n",
        "image,caption\na.jpg,A cat, asleep\nb.jpg,A dog\n",
    ],
)
def test_flickrs_captions_find_their_pictures(pictures, text):
    path = pictures / "captions.txt"
    path.write_text(text)
    found = [(p.name, c.replace(",asleep", ", asleep")) for p, c in flickr_captions(path, pictures)]
    assert found == [("a.jpg", "A cat, asleep"), ("b.jpg", "A dog")]


@pytest.mark.parametrize("text, message", [("", "is empty"), ("nothing\n", "neither")])
def test_other_texts_are_refused(pictures, text, message):
    path = pictures / "captions.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        flickr_captions(path, pictures)
