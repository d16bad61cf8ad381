"""Views: drawn from the generator alone, and image by image what torchvision computes."""

import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image

from dlcourse.datasets import digits, image_folder, shapes
from dlcourse.self_supervised_learning import (
    BatchViews,
    MultiCrop,
    TwoViews,
    ViewParameters,
)

# After dlcourse, which makes torchvision importable beside a CPU build of torch.
from torchvision.transforms import v2  # isort: skip
from torchvision.transforms.v2 import functional as tv  # isort: skip


def photo(seed=0, height=40, width=56, channels=3):
    """A smooth picture with all hues, uint8 (C, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(1, channels, 5, 7, generator=generator)
    large = torch.nn.functional.interpolate(small, (height, width), mode="bilinear")
    return (large[0] * 255).to(torch.uint8)


def batch(seed=0, n=6, height=24, width=24, channels=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, height, width, generator=generator)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def identity(n, **changes):
    """Parameters that leave every image alone, but for the changes."""
    zero, one, no = torch.zeros(n), torch.ones(n), torch.zeros(n, dtype=torch.bool)
    plain = ViewParameters(zero, zero, one, one, no, one, one, one, zero, no)
    return plain._replace(**changes)


# --- One image -------------------------------------------------------------------------------


def test_multicrop_gives_two_large_views_then_the_small_ones():
    views = MultiCrop(32, 16, local_crops=5)(photo(), gen())
    assert [tuple(v.shape) for v in views] == [(3, 32, 32)] * 2 + [(3, 16, 16)] * 5
    for view in views:
        assert type(view) is torch.Tensor and view.dtype == torch.float32
        assert 0 <= view.min() and view.max() <= 1
    assert len(MultiCrop(32, 16, local_crops=0)(photo(), gen())) == 2


def test_the_filter_that_resizes_does_not_overshoot():
    squares = (torch.arange(12)[:, None] // 3 + torch.arange(12) // 3).remainder(2).float()
    crop = MultiCrop(48, 48, local_crops=0, color_jitter=False)
    views = torch.stack([crop(squares.expand(3, 12, 12), gen(seed))[1] for seed in range(20)])
    assert views.min() == 0 and views.max() == 1


def test_two_views_are_two_different_views():
    first, second = TwoViews(24)(photo(), gen())
    assert first.shape == second.shape == (3, 24, 24)
    assert (first - second).abs().max() > 0.05


VIEWS = pytest.mark.parametrize("make", [MultiCrop(32, 16, local_crops=3), TwoViews(24)])


@VIEWS
def test_the_generator_alone_decides_and_the_global_one_is_left_alone(make):
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    first = make(photo(), gen(3))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1] and (np.random.get_state()[1] == before[2]).all()
    torch.manual_seed(2)
    again, other = make(photo(), gen(3)), make(photo(), gen(4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@VIEWS
def test_a_generator_goes_on_from_image_to_image(make):
    generator = gen(3)
    first, second = make(photo(), generator), make(photo(), generator)
    assert not torch.equal(first[0], second[0])


@VIEWS
def test_without_a_generator_the_global_one_decides(make):
    torch.manual_seed(5)
    first, second = make(photo()), make(photo())
    torch.manual_seed(5)
    again = make(photo())
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], second[0])


@VIEWS
def test_a_picture_gives_the_same_views_as_file_or_tensor(make):
    image = photo()
    expected = make(image, gen(1))
    for form in (Image.fromarray(image.permute(1, 2, 0).numpy()), image.float() / 255):
        views = make(form, gen(1))
        for got, want in zip(views, expected, strict=True):
            torch.testing.assert_close(got, want, atol=0.02, rtol=0)  # 8-bit rounding of the crop


def test_a_gray_picture_in_a_file_becomes_rgb_and_a_gray_tensor_stays_gray():
    gray = photo(channels=1)
    from_file = TwoViews(24)(Image.fromarray(gray[0].numpy()), gen())
    assert from_file[0].shape == (3, 24, 24) and torch.equal(from_file[0][0], from_file[0][2])
    assert TwoViews(24)(gray, gen())[0].shape == (1, 24, 24)


def test_a_crop_covers_the_share_of_the_image_that_scale_says():
    # Red runs from left to right, green from top to bottom: a view tells where it comes from.
    row = torch.linspace(0, 1, 200)
    across, down = row.expand(200, 200), row[:, None].expand(200, 200)
    image = torch.stack([across, down, 0 * across])
    crop = MultiCrop(32, 32, (0.5, 0.9), (0.05, 0.2), local_crops=2, color_jitter=False)

    def area(view):
        """Share of the image, from the slopes in the middle, which blur leaves alone."""
        red, green = view[0].mean(0), view[1].mean(1)
        return float((2 * (red[24] - red[8])).abs() * (2 * (green[24] - green[8])).abs())

    large, small = [], []
    for seed in range(40):
        views = crop(image, gen(seed))
        large += [area(v) for v in views[:2]]
        small += [area(v) for v in views[2:]]
    for areas, low, high in ((large, 0.5, 0.9), (small, 0.05, 0.2)):
        assert low - 0.01 < min(areas) < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < max(areas) < high + 0.01


def test_blur_and_solarisation_have_the_probabilities_of_the_paper():
    def probabilities(transform):
        blur = [s.p for s in transform.transforms
                if isinstance(s, v2.RandomApply) and isinstance(s.transforms[0], v2.GaussianBlur)]
        solarize = [s.p for s in transform.transforms if isinstance(s, v2.RandomSolarize)]
        return blur, solarize

    transforms = MultiCrop(32, 16, local_crops=2).transforms
    got = [probabilities(t) for t in transforms]
    assert got == [([1.0], []), ([0.1], [0.2]), ([0.5], []), ([0.5], [])]


def test_the_first_large_view_is_blurred_and_the_second_hardly_ever():
    noise = torch.rand(3, 32, 32, generator=gen())
    crop = MultiCrop(32, 32, (1.0, 1.0), (1.0, 1.0), local_crops=1, color_jitter=False)
    sharp = torch.zeros(3)
    for seed in range(100):
        views = torch.stack(crop(noise, gen(seed)))
        distance = torch.minimum((views - noise).abs(), (views - noise.flip(2)).abs())
        sharp += distance.flatten(1).amax(1) < 0.05
    # The smallest sigma, 0.1, is no blur to the eye: up to 15 % of the blurred look sharp.
    assert sharp[0] < 20 and sharp[1] > 80 and 35 < sharp[2] < 70


def test_without_colour_jitter_the_colours_of_a_plain_image_stay():
    image = torch.tensor([0.9, 0.2, 0.4])[:, None, None].expand(3, 40, 40)
    for seed in range(20):
        for view in MultiCrop(32, 16, local_crops=2, color_jitter=False)(image, gen(seed)):
            torch.testing.assert_close(view, image[:, :1, :1].expand_as(view), atol=1e-4, rtol=0)
    changed = [MultiCrop(32, 16)(image, gen(s))[0][:, 0, 0] for s in range(20)]
    assert torch.stack(changed).std(0).min() > 0.05


def test_views_can_be_sent_to_the_workers_of_a_data_loader():
    make = pickle.loads(pickle.dumps(MultiCrop(32, 16)))
    assert torch.equal(make(photo(), gen(1))[1], MultiCrop(32, 16)(photo(), gen(1))[1])
    assert len(pickle.loads(pickle.dumps(TwoViews(24)))(photo(), gen())) == 2


def test_a_folder_of_images_gives_batches_of_multicrop(tmp_path):
    (tmp_path / "cats").mkdir()
    for i in range(4):
        image = Image.fromarray(photo(i).permute(1, 2, 0).numpy())
        image.save(tmp_path / "cats" / f"{i}.png")
    crop = MultiCrop(32, 16, local_crops=3)
    views, labels = next(iter(image_folder(tmp_path, crop, batch_size=4, seed=1)))
    assert [tuple(v.shape) for v in views] == [(4, 3, 32, 32)] * 2 + [(4, 3, 16, 16)] * 3
    assert labels.tolist() == [0] * 4
    again = image_folder(tmp_path, crop, batch_size=4, seed=1, workers=1)
    assert all(torch.equal(a, b) for a, b in zip(views, next(iter(again))[0], strict=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultiCrop(global_size=4), "side of a view"),
        (lambda: MultiCrop(local_size=16.0), "integer"),
        (lambda: MultiCrop(local_crops=-1), "local_crops"),
        (lambda: MultiCrop(global_scale=(0.5, 1.2)), "scale"),
        (lambda: MultiCrop(local_scale=(0.3, 0.1)), "in order"),
        (lambda: TwoViews(scale=(0.0, 1.0)), "scale"),
        (lambda: TwoViews(strength=3.0), "strength"),
        (lambda: TwoViews(strength=-1.0), "strength"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@VIEWS
@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.rand(2, 3, 40, 40), "BatchViews"),
        (torch.zeros(3, 40, 40, dtype=torch.int64), "uint8 or floating"),
        (np.zeros((40, 40, 3)), "ndarray"),
        ("cat.png", "str"),
    ],
)
def test_other_things_than_an_image_are_refused(make, image, message):
    with pytest.raises(TypeError, match=message):
        make(image, gen())


@VIEWS
def test_a_picture_of_sixteen_bits_is_scaled_and_not_white(make):
    gray = photo(channels=1)[0]
    eight = Image.fromarray(gray.numpy())
    sixteen = Image.fromarray((gray.numpy().astype(np.uint16) * 257))
    assert sixteen.mode.startswith("I;16")
    for got, want in zip(make(sixteen, gen(1)), make(eight, gen(1)), strict=True):
        assert torch.equal(got, want)


@VIEWS
@pytest.mark.parametrize(
    ("image", "message"),
    [
        (photo().float(), "divide one of 0 … 255 by 255"),
        (torch.full((3, 40, 40), float("nan")), "nan"),
        (Image.fromarray(np.zeros((40, 40), np.int32)), "mode 'I'"),
        (Image.fromarray(np.zeros((40, 40), np.float32)), "mode 'F'"),
    ],
)
def test_pictures_of_an_unknown_range_are_refused(make, image, message):
    with pytest.raises(ValueError, match=message):
        make(image, gen())


# --- A batch at once ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 17, 24, 40])
@pytest.mark.parametrize("height, width", [(24, 24), (20, 31)])
def test_crop_and_resize_are_torchvisions_where_the_box_is_whole_pixels(size, height, width):
    images = batch(n=20, height=height, width=width)
    chance = random.Random(size + height)
    boxes = []
    for _ in images:
        h, w = chance.randint(2, height), chance.randint(2, width)
        boxes.append((chance.randint(0, height - h), chance.randint(0, width - w), h, w))
    top, left, h, w = torch.tensor(boxes).float().T
    flip = torch.arange(20) % 2 == 0
    p = identity(
        20, left=left / width, top=top / height, width=w / width, height=h / height, flip=flip
    )
    got = BatchViews(size).apply(images, p)
    assert got.shape == (20, 3, size, size) and got.is_contiguous()
    for i, box in enumerate(boxes):
        want = tv.resized_crop(images[i], *box, [size, size], antialias=True)
        want = tv.horizontal_flip(want) if flip[i] else want
        torch.testing.assert_close(got[i], want, atol=1e-5, rtol=0)


def test_enlarging_needs_no_antialiasing():
    images = batch(n=4)
    p = identity(4, left=torch.full((4,), 4 / 24), width=torch.full((4,), 11 / 24))
    got = BatchViews(24).apply(images, p)
    for i in range(4):
        want = tv.resized_crop(images[i], 0, 4, 24, 11, [24, 24], antialias=False)
        torch.testing.assert_close(got[i], want, atol=1e-5, rtol=0)


def test_the_whole_image_at_its_own_size_is_the_image():
    images = batch()
    torch.testing.assert_close(BatchViews(24).apply(images, identity(6)), images, atol=2e-6, rtol=0)


def test_a_box_between_pixels_lies_between_its_neighbours():
    ramp = torch.linspace(0, 1, 24).expand(1, 3, 24, 24)
    left = 5.3 / 24
    p = identity(1, left=torch.tensor([left]), width=torch.tensor([12 / 24]))
    view = BatchViews(24).apply(ramp, p)[0, 0, 0]
    place = 5.3 + (torch.arange(24) + 0.5) / 2 - 0.5  # where each pixel comes from
    inside = slice(2, -2)  # the border of the box repeats its last pixel
    torch.testing.assert_close(view[inside], (place / 23)[inside], atol=1e-5, rtol=0)


@pytest.mark.parametrize("low, high", [(0.0001, 0.001), (0.9, 1.0)])
def test_the_smallest_and_largest_boxes_give_finite_views(low, high):
    views = BatchViews(16, scale=(low, high), ratio=(0.1, 10.0))(batch(n=200), gen())
    assert views.isfinite().all() and views.min() >= 0 and views.max() <= 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_each_colour_operation_is_torchvisions_image_by_image(name, seed):
    images = batch(seed, n=8)
    images[0] = images[0, :1]  # gray: no hue to turn
    images[1] = (images[1] * 3).floor() / 3  # equal channels, zeros and ties
    low, high = (-0.5, 0.5) if name == "hue" else (0.0, 2.0)
    values = torch.rand(8, generator=gen(seed)) * (high - low) + low
    got = BatchViews(24).apply(images, identity(8, **{name: values}))
    adjust = getattr(tv, f"adjust_{name}")
    for i in range(8):
        want = adjust(images[i], values[i].item())
        torch.testing.assert_close(got[i], want, atol=1e-5, rtol=0)


def test_grayscale_is_torchvisions():
    images = batch()
    got = BatchViews(24).apply(images, identity(6, gray=torch.arange(6) % 2 == 0))
    want = tv.rgb_to_grayscale(images, num_output_channels=3)
    torch.testing.assert_close(got[::2], want[::2], atol=1e-5, rtol=0)
    torch.testing.assert_close(got[1::2], images[1::2], atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", range(5))
def test_a_drawn_view_is_torchvisions_operations_in_the_order_of_the_arguments(seed):
    images = shapes(seed, n_train=12, n_validation=1, n_test=1, size=24).train.x
    views = BatchViews(24, scale=(0.999999, 1.0), ratio=(1.0, 1.0))
    p = views.draw(12, gen(seed))
    got = views.apply(images, p)
    for i, image in enumerate(images):
        want = tv.horizontal_flip(image) if p.flip[i] else image
        want = tv.adjust_brightness(want, p.brightness[i].item())
        want = tv.adjust_contrast(want, p.contrast[i].item())
        want = tv.adjust_saturation(want, p.saturation[i].item())
        want = tv.adjust_hue(want, p.hue[i].item())
        want = tv.rgb_to_grayscale(want, 3) if p.gray[i] else want
        torch.testing.assert_close(got[i], want, atol=1e-4, rtol=0)


def test_each_image_has_a_view_of_its_own_where_torchvision_draws_once_for_a_batch():
    same = photo().float().expand(8, -1, -1, -1) / 255
    assert BatchViews(24)(same, gen()).flatten(1).std(0).max() > 0.05
    torch.manual_seed(0)
    once = v2.RandomResizedCrop(24, (0.3, 1.0))(same)
    assert once.flatten(1).std(0).max() < 1e-6


def test_the_view_of_an_image_does_not_depend_on_the_others():
    images = batch(n=5)
    views = BatchViews(16)
    p = views.draw(5, gen())
    alone = views.apply(images[3:4], ViewParameters(*(v[3:4] for v in p)))
    torch.testing.assert_close(views.apply(images, p)[3:4], alone, atol=1e-6, rtol=0)


def test_the_call_is_draw_and_apply_and_depends_on_the_generator_alone():
    images, views = batch(), BatchViews(16)
    state = torch.get_rng_state()
    got = views(images, gen(4))
    assert torch.equal(got, views.apply(images, views.draw(6, gen(4))))
    assert not torch.equal(got, views(images, gen(5)))
    assert torch.equal(torch.get_rng_state(), state)


def test_drawn_parameters_have_the_distribution_that_the_arguments_say():
    n = 20_000
    views = BatchViews(
        16, (0.2, 0.8), (0.9, 1.1), 0.3, brightness=0.4, contrast=0.2, saturation=1.5, hue=0.1,
        jitter_probability=0.6, grayscale=0.25,
    )  # fmt: skip
    p = views.draw(n, gen())

    area, ratio = p.width * p.height, p.width / p.height
    for value, low, high in ((area, 0.2, 0.8), (ratio, 0.9, 1.1)):
        assert low - 1e-6 <= value.min() < low * 1.01 and high * 0.99 < value.max() <= high + 1e-6
    assert abs(area.mean() - 0.5) < 0.01
    assert abs((ratio > 1).float().mean() - 0.475) < 0.015  # ln 1.1 / ln(1.1 / 0.9)
    assert (p.left >= 0).all() and (p.left + p.width <= 1 + 1e-6).all()
    assert (p.top >= 0).all() and (p.top + p.height <= 1 + 1e-6).all()
    assert abs((p.left / (1 - p.width)).mean() - 0.5) < 0.02

    assert abs(p.flip.float().mean() - 0.3) < 0.015
    assert abs(p.gray.float().mean() - 0.25) < 0.015
    changed = p.brightness != 1
    assert abs(changed.float().mean() - 0.6) < 0.015
    for value, low, high in (
        (p.brightness, 0.6, 1.4),
        (p.contrast, 0.8, 1.2),
        (p.saturation, 0.0, 2.5),
        (p.hue, -0.1, 0.1),
    ):
        chosen = value[changed]
        assert low - 1e-6 <= chosen.min() < low + 0.01 and high - 0.01 < chosen.max() <= high + 1e-6
        assert (value[~changed] == (0 if value is p.hue else 1)).all()

    columns = torch.stack([v.float() for v in (area, ratio, p.flip, p.hue, p.gray, p.contrast)])
    correlation = torch.corrcoef(columns) - torch.eye(6)
    assert correlation.abs().max() < 0.03


def test_a_box_is_never_wider_than_the_image():
    p = BatchViews(16, (1.0, 1.0), (0.5, 2.0)).draw(1000, gen())
    assert p.width.max() == 1 and p.height.max() == 1 and p.width.min() < 0.75
    assert (p.left >= 0).all() and (p.top >= 0).all()


def test_one_channel_keeps_brightness_and_contrast_and_skips_the_rest():
    images = digits(0).test.x[:50]
    p = identity(
        50,
        brightness=torch.linspace(0.5, 1.5, 50),
        contrast=torch.linspace(1.5, 0.5, 50),
        saturation=torch.full((50,), 0.3),
        hue=torch.full((50,), 0.4),
        gray=torch.ones(50, dtype=torch.bool),
    )
    got = BatchViews(8).apply(images, p)
    for i in range(50):
        want = tv.adjust_brightness(images[i], p.brightness[i].item())
        want = tv.adjust_contrast(want, p.contrast[i].item())
        torch.testing.assert_close(got[i], want, atol=1e-5, rtol=0)


def test_views_keep_the_images_dtype():
    views = BatchViews(16)
    p = views.draw(6, gen())
    single = views.apply(batch(), p)
    double = views.apply(batch().double(), p)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, atol=1e-5, rtol=0)
    for dtype in (torch.float16, torch.bfloat16):
        half = views.apply(batch().to(dtype), p)
        assert half.dtype == dtype
        torch.testing.assert_close(half.float(), single, atol=0.05, rtol=0)


def test_images_that_a_filter_has_left_just_outside_of_the_range_are_taken():
    views = BatchViews(16)
    p = views.draw(6, gen())
    just = batch() * 1.00006 - 0.00003
    torch.testing.assert_close(views.apply(just, p), views.apply(batch(), p), atol=1e-3, rtol=0)
    assert views.apply(just, p).max() <= 1
    with pytest.raises(ValueError, match="1.01"):
        views.apply(batch() * 0 + 1.01, p)


def test_sizes_may_be_any_integer():
    assert BatchViews(np.int64(16))(batch(), gen()).shape[-1] == 16
    assert MultiCrop(np.int32(32), np.int64(16), local_crops=1)(photo(), gen())[2].shape[-1] == 16


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0},
        {"size": 16.0},
        {"scale": (0.0, 1.0)},
        {"scale": (0.3, 1.1)},
        {"scale": (0.9, 0.3)},
        {"ratio": (0.0, 1.0)},
        {"ratio": (2.0, 1.0)},
        {"flip": 1.5},
        {"jitter_probability": -0.1},
        {"grayscale": 2.0},
        {"brightness": -0.1},
        {"contrast": float("nan")},
        {"saturation": float("inf")},
        {"hue": 0.6},
    ],
)
def test_batch_views_refuse_settings_out_of_range(wrong):
    name = "side" if "size" in wrong else next(iter(wrong))
    with pytest.raises(ValueError, match=name):
        BatchViews(**{"size": 16, **wrong})


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), TypeError, r"float\(\) / 255"),
        (torch.rand(3, 8, 8), ValueError, "B, 1 or 3"),
        (torch.rand(2, 4, 8, 8), ValueError, "B, 1 or 3"),
        (torch.rand(2, 3, 8, 8) - 0.5, ValueError, r"\[0, 1\]"),
        (torch.rand(2, 3, 8, 8) * 255, ValueError, "normalise after"),
        (torch.full((2, 3, 8, 8), float("nan")), ValueError, "nan"),
    ],
)
def test_batch_views_refuse_images_that_they_would_spoil(images, error, message):
    with pytest.raises(error, match=message):
        BatchViews(8)(images, gen())


def test_parameters_of_another_batch_are_refused():
    with pytest.raises(ValueError, match="parameters of 5"):
        BatchViews(8).apply(batch(n=6), identity(5))
