"""Facts about the painted shapes: they are where, what and of which colour their factors say."""

import colorsys
import math

import pytest
import torch

from dlcourse.datasets import HUES, SHAPES, TEXTURES, render_shapes, shape_factors, shapes


def images(split):
    return {tuple(x.flatten().tolist()) for x in split.x}


def factors(n=1, **changes):
    """The same plain picture n times (a disc in the middle on a flat ground), with changes."""
    values = {
        "shape": SHAPES.index("disc"), "hue": 0, "texture": TEXTURES.index("flat"), "x": 0.5,
        "y": 0.5, "radius": 0.3, "angle": 0.0, "hue_shift": 0.0, "value": 0.9, "ground_hue": 0.4,
        "ground_value": 0.3, "period": 0.2, "direction": 0.0,
    }  # fmt: skip
    drawn = shape_factors(n, torch.Generator().manual_seed(0))
    values.update(changes)
    return drawn._replace(
        **{name: torch.as_tensor(v, dtype=getattr(drawn, name).dtype).expand(n).clone()
           for name, v in values.items()}
    )  # fmt: skip


def coverage(f, size=128):
    """Share of each pixel that the shape covers: the picture between ground and paint."""
    image = render_shapes(f, size)
    ground = image[:, :, :1, :1]
    paint = torch.tensor(colorsys.hsv_to_rgb(0, 0.85, 0.9)).view(1, 3, 1, 1)
    return ((image - ground) / (paint - ground)).mean(1)  # (N, S, S)


def test_every_picture_is_in_range_and_its_label_is_the_factor_asked_for():
    for label, names in (("shape", SHAPES), ("hue", HUES), ("texture", TEXTURES)):
        for split, n in zip(
            shapes(1, n_train=300, n_validation=50, n_test=60, size=16, label=label),
            (300, 50, 60),
            strict=True,
        ):
            assert split.x.shape == (n, 3, 16, 16) and split.x.dtype == torch.float32
            assert 0 <= split.x.min() and split.x.max() <= 1
            assert split.y.shape == (n,) and split.y.dtype == torch.int64
            assert 0 <= split.y.min() and split.y.max() < len(names)
            drawn = shape_factors(n, torch.Generator().manual_seed({300: 3, 50: 4, 60: 5}[n]))
            assert torch.equal(split.y, getattr(drawn, label))


def test_the_label_does_not_change_the_pictures():
    first, second = (shapes(2, n_train=20, size=16, label=name) for name in ("shape", "texture"))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.x, b.x)
    assert not torch.equal(first.train.y, second.train.y)


def test_the_size_of_a_part_does_not_change_the_others():
    first = shapes(3, n_train=40, n_validation=20, n_test=10, size=16)
    second = shapes(3, n_train=10, n_validation=20, n_test=10, size=16)
    third = shapes(3, n_train=40, n_validation=30, n_test=10, size=16)
    assert torch.equal(first.validation.x, second.validation.x)
    assert torch.equal(first.test.x, second.test.x) and torch.equal(first.test.x, third.test.x)
    assert torch.equal(first.train.x, third.train.x)


def test_shapes_depend_on_the_seed_alone_and_no_picture_is_in_two_parts_or_seeds():
    state = torch.get_rng_state()
    first, again = (shapes(5, n_train=300, n_validation=300, n_test=300, size=8) for _ in range(2))
    assert all(torch.equal(a.x, b.x) for a, b in zip(first, again, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    other = shapes(6, n_train=300, n_validation=300, n_test=300, size=8)
    everything = [images(part) for part in (*first, *other)]
    assert len(set.union(*everything)) == 6 * 300


def test_factors_are_uniform_and_independent():
    n = 40_000
    drawn = shape_factors(n, torch.Generator().manual_seed(0))
    for name, options in (("shape", SHAPES), ("hue", HUES), ("texture", TEXTURES)):
        counts = torch.bincount(getattr(drawn, name))
        assert len(counts) == len(options)
        assert (counts / n - 1 / len(options)).abs().max() < 0.01
    pairs = torch.bincount(drawn.shape * 24 + drawn.hue * 4 + drawn.texture)
    assert len(pairs) == 8 * 6 * 4 and (pairs - n / 192).abs().max() < 5 * (n / 192) ** 0.5
    correlation = torch.corrcoef(torch.stack([v.double() for v in drawn])) - torch.eye(13)
    assert correlation.abs().max() < 0.02


def test_colours_are_those_of_the_factors():
    for hue in range(6):
        for shift, ground in ((-0.05, 0.1), (0.0, 0.55), (0.04, 0.9)):
            image = render_shapes(factors(hue=hue, hue_shift=shift, ground_hue=ground), 32)[0]
            paint = colorsys.hsv_to_rgb((hue / 6 + shift) % 1, 0.85, 0.9)
            assert image[:, 16, 16].tolist() == pytest.approx(paint, abs=1e-5)
            assert image[:, 0, 0].tolist() == pytest.approx(
                colorsys.hsv_to_rgb(ground, 0.5, 0.3), abs=1e-5
            )


@pytest.mark.parametrize(
    ("name", "area"),  # in units of the radius, squared
    [
        ("disc", math.pi * 0.85**2),
        ("ring", math.pi * (0.97**2 - 0.53**2)),
        ("square", 1.5**2),
        ("triangle", 3 * math.sqrt(3) * 0.55**2),
        ("plus", 2 * 1.9 * 0.56 - 0.56**2),
        ("bar", 2.0 * 0.76),
    ],
)
def test_a_shape_has_its_area_whatever_its_angle(name, area):
    f = factors(4, shape=SHAPES.index(name), angle=torch.tensor([0.0, 0.4, 1.9, 5.0]))
    covered = coverage(f).mean((1, 2))
    torch.testing.assert_close(covered, torch.full((4,), area * 0.3**2), rtol=0.01, atol=0)


@pytest.mark.parametrize("name", ["disc", "ring", "square", "triangle", "plus", "star", "bar"])
def test_a_shape_lies_where_its_factors_say(name):
    f = factors(3, shape=SHAPES.index(name), x=torch.tensor([0.3, 0.5, 0.7]), y=0.6, radius=0.2)
    cover = coverage(f)
    place = (torch.arange(128) + 0.5) / 128
    total = cover.sum((1, 2))
    x = (cover.sum(1) * place).sum(1) / total
    y = (cover.sum(2) * place).sum(1) / total
    torch.testing.assert_close(x, f.x, atol=0.005, rtol=0)
    torch.testing.assert_close(y, f.y, atol=0.005, rtol=0)


def test_all_shapes_and_all_textures_differ():
    eight = coverage(factors(8, shape=torch.arange(8)))
    four = render_shapes(factors(4, texture=torch.arange(4)), 64)
    for group in (eight, four):
        distance = torch.cdist(group.flatten(1)[None], group.flatten(1)[None], p=1)[0]
        distance = distance / group[0].numel() + torch.eye(len(group))
        assert distance.min() > 0.015


@pytest.mark.parametrize("size", [16, 32, 128])
def test_an_edge_is_smoothed_over_one_pixel_at_any_size(size):
    row = coverage(factors(), size)[0, size // 2]  # across the middle of a disc: two edges
    partly = ((row > 0.001) & (row < 0.999)).sum()
    assert 1 <= partly <= 4
    assert abs(row.mean() - 2 * 0.85 * 0.3) < 0.01


def test_pictures_of_two_sizes_show_the_same():
    drawn = shape_factors(200, torch.Generator().manual_seed(1))
    small, large = render_shapes(drawn, 24), render_shapes(drawn, 96)
    averaged = torch.nn.functional.avg_pool2d(large, 4)
    assert (averaged - small).abs().mean() < 0.01
    assert (averaged[torch.arange(200) - 1] - small).abs().mean() > 0.1  # of another picture


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: shapes(label="colour"), "'shape', 'hue' or 'texture'"),
        (lambda: shapes(n_test=0), "n >= 1"),
        (lambda: shapes(size=7), "8 pixels"),
        (lambda: shape_factors(0, torch.Generator()), "n >= 1"),
    ],
)
def test_impossible_pictures_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
