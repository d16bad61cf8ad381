"""Facts about the reader of CIFAR-10, on files made as its own are."""

import hashlib
import pickle

import numpy as np
import pytest
import torch

from dlcourse.datasets import cifar10


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
