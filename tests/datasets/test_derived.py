"""Facts about arrays that are kept: computed once, whole or not there."""

import numpy as np
import pytest

from dlcourse.datasets.derived import kept, kept_array
from dlcourse.datasets.packages import FetchError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DLCOURSE_CACHE", str(tmp_path))
    return tmp_path / "derived"


def test_an_array_is_computed_once_and_read_afterwards(cache):
    calls = []

    def compute():
        calls.append(1)
        return np.arange(6, dtype=np.float16).reshape(2, 3)

    first, second = kept_array("six", compute), kept_array("six", compute)
    assert len(calls) == 1 and (cache / "six.npy").exists()
    assert first.dtype == second.dtype == np.float16 and (first == second).all()


def test_what_fails_half_way_leaves_nothing_behind(cache):
    def make(path):
        path.write_bytes(b"half")
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        kept("thing.bin", make)
    assert [p.name for p in cache.iterdir() if p.suffix != ".lock"] == []
    assert kept("thing.bin", lambda path: path.write_bytes(b"whole")).read_bytes() == b"whole"


def test_a_cache_that_cannot_be_written_says_what_to_set(monkeypatch):
    def refuse(path):
        raise PermissionError("read-only")

    with pytest.raises(FetchError, match="DLCOURSE_CACHE"):
        kept("thing.bin", refuse)
