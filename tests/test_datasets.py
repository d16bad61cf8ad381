"""Facts about the data sets: nothing leaks, nothing is lost, a seed says it all."""

import colorsys
import hashlib
import math
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from dlcourse.datasets import (
    HUES,
    SHAPES,
    TEXTURES,
    cifar10,
    digits,
    image_folder,
    render_shapes,
    shape_factors,
    shapes,
)


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


# --- Painted shapes ----------------------------------------------------------------------------


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


# --- Real images ---------------------------------------------------------------------------------


@pytest.fixture
def cifar_root(tmp_path, monkeypatch):
    """Files as CIFAR-10's, with 40 images each; image i of a file is the constant i."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()

    def write(name, content):
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return hashlib.md5(data).hexdigest()

    rows = np.repeat(np.arange(40, dtype=np.uint8)[:, None], 3072, 1)
    rows[:, 1024:2048] += 100  # green
    rows[:, 2 * 1024 + 31] = 255  # blue, in the first row's last column
    content = {"data": rows, "labels": [i % 10 for i in range(40)]}
    names = [[f"data_batch_{i}", write(f"data_batch_{i}", content)] for i in range(1, 6)]
    monkeypatch.setattr(CIFAR10, "train_list", names)
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", write("test_batch", content)]])
    meta = write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": meta})
    return tmp_path


def test_cifar10_is_the_files_split_by_class(cifar_root):
    parts = cifar10(cifar_root, validation_fraction=0.2)
    assert [len(p.y) for p in parts] == [160, 40, 40]
    assert torch.bincount(parts.validation.y).tolist() == [4] * 10
    for part in parts:
        assert part.x.dtype == torch.float32 and part.x.shape[1:] == (3, 32, 32)
        assert part.y.dtype == torch.int64
        number = (part.x[:, 0, 5, 5] * 255).round().long()  # the image's place in its file
        assert torch.equal(part.y, number % 10)
        torch.testing.assert_close(part.x[:, 1], part.x[:, 0] + 100 / 255)
        assert (part.x[:, 2, 0, 31] == 1).all() and (part.x[:, 2, 31, 0] < 1).all()
    numbers = torch.cat([(p.x[:, 0, 5, 5] * 255).round().long() for p in parts[:2]])
    assert torch.bincount(numbers).tolist() == [5] * 40  # all of the five files, none twice


def test_cifar10_chooses_its_validation_part_by_the_seed(cifar_root):
    first, again, other = (cifar10(cifar_root, seed=s).validation.x for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_cifar10_that_is_missing_or_damaged_says_what_to_do(cifar_root, tmp_path_factory):
    with pytest.raises(FileNotFoundError, match="download=True"):
        cifar10(tmp_path_factory.mktemp("empty"))
    (cifar_root / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"half of i")
    with pytest.raises(FileNotFoundError, match="unpack cifar-10-python.tar.gz"):
        cifar10(cifar_root)
    with pytest.raises(ValueError, match="validation_fraction"):
        cifar10(cifar_root, validation_fraction=1.0)


@pytest.fixture
def image_root(tmp_path):
    """Two classes of six plain images: red ones and green ones, of different sizes."""
    for label, colour in (("red", (1, 0, 0)), ("green", (0, 1, 0))):
        (tmp_path / label).mkdir()
        for i in range(6):
            pixels = np.full((20 + i, 30 - i, 3), colour, np.uint8) * (130 + 20 * i)
            Image.fromarray(pixels).save(tmp_path / label / f"{i}.png")
    return tmp_path


def corner_and_chance(image, generator):
    """A view of a fixed size that shows the image and the generator."""
    pixels = torch.tensor(np.asarray(image)).permute(2, 0, 1).float() / 255
    return [pixels[:, :4, :4], torch.rand(2, generator=generator)]


def test_image_folder_gives_batches_of_views_with_the_class_of_the_folder(image_root):
    loader = image_folder(image_root, corner_and_chance, batch_size=4)
    batches = list(loader)
    assert len(batches) == len(loader) == 3
    seen = []
    for (images, chance), labels in batches:
        assert images.shape == (4, 3, 4, 4) and chance.shape == (4, 2)
        # Classes in the order of their names: green is 0, red is 1.
        assert torch.equal(labels, (images[:, 0, 0, 0] > 0).long())
        seen += (images.amax((1, 2, 3)) * 255).round().int().tolist()
    assert sorted(seen) == sorted(2 * [130 + 20 * i for i in range(6)])


@pytest.mark.parametrize("workers", [1, 2])
def test_order_and_views_depend_on_the_seed_and_not_on_the_number_of_workers(image_root, workers):
    def epochs(workers, seed, n=2):
        loader = image_folder(
            image_root, corner_and_chance, batch_size=5, workers=workers, seed=seed
        )
        return [torch.cat([x[1] for x, _ in loader]) for _ in range(n)]

    torch.manual_seed(0)
    first = epochs(0, 7)
    torch.manual_seed(1)
    assert all(torch.equal(a, b) for a, b in zip(first, epochs(workers, 7), strict=True))
    assert not torch.equal(first[0], first[1])  # another epoch
    assert not torch.equal(first[0], epochs(0, 8, 1)[0])
    assert len(set(first[0].flatten().tolist())) == 20  # each image has numbers of its own


def test_the_last_batch_is_dropped_if_it_is_smaller(image_root):
    loader = image_folder(image_root, corner_and_chance, batch_size=5)
    assert [len(labels) for _, labels in loader] == [5, 5]


def test_folders_and_batches_that_cannot_be_are_refused(image_root, tmp_path_factory):
    with pytest.raises(FileNotFoundError, match="class/image"):
        image_folder(image_root / "nowhere", corner_and_chance, batch_size=2)
    with pytest.raises(FileNotFoundError, match="class/image"):
        image_folder(image_root / "red", corner_and_chance, batch_size=2)
    empty = tmp_path_factory.mktemp("empty")
    (empty / "cats").mkdir()
    with pytest.raises(FileNotFoundError, match="cats"):
        image_folder(empty, corner_and_chance, batch_size=2)
    for wrong in ({"batch_size": 0}, {"batch_size": 13}, {"batch_size": 2, "workers": -1}):
        with pytest.raises(ValueError, match="12 images"):
            image_folder(image_root, corner_and_chance, **wrong)
