"""Facts about batches of views of image files: the seed decides them, not the workers."""

import numpy as np
import pytest
import torch
from PIL import Image

from dlcourse.datasets import image_folder


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


def test_hidden_folders_and_files_are_no_classes_and_no_images(image_root):
    (image_root / ".cache").mkdir()
    Image.new("RGB", (9, 9)).save(image_root / ".cache" / "0.png")
    (image_root / "green" / "._0.png").write_bytes(b"not an image")
    (image_root / "green" / ".thumbnails").mkdir()
    loader = image_folder(image_root, corner_and_chance, batch_size=12)
    ((images, _), labels), = loader
    assert torch.equal(labels, (images[:, 0, 0, 0] > 0).long())  # green is 0 still


def test_files_of_sixteen_bits_are_scaled(tmp_path):
    (tmp_path / "gray").mkdir()
    for i, value in enumerate((0, 257 * 100, 65535)):
        Image.fromarray(np.full((8, 8), value, np.uint16)).save(tmp_path / "gray" / f"{i}.png")
    ((images, _), _), = image_folder(tmp_path, corner_and_chance, batch_size=3)
    assert sorted((images[:, 0, 0, 0] * 255).round().tolist()) == [0, 100, 255]


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
