"""A package index of one folder, which pip finds through its own environment variables."""

import hashlib
import os
import zipfile

import pytest

from dlcourse.datasets.packages import Wheel

METADATA = "Metadata-Version: 2.1\nName: toydata\nVersion: 1.0\nRequires-Python: <3\n"
METADATA += "Requires-Dist: a-library-that-nobody-has\n"
FLAVOUR = "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\n"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """The folder that pip takes packages from; no network, no configuration of this machine."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of archives."""
    monkeypatch.setenv("DLCOURSE_CACHE", str(tmp_path / "a cache" / "[of] é"))
    return tmp_path / "a cache" / "[of] é"


@pytest.fixture
def make_wheel(index):
    """Put a wheel into the index and describe it. Python 2 and a library are asked for in vain."""

    def make(file="toydata-1.0-py3-none-any.whl"):
        tag = "-".join(file.removesuffix(".whl").split("-")[-3:])
        with zipfile.ZipFile(index / file, "w") as archive:
            archive.writestr("toydata/numbers.csv", "1,2\n3,4\n")
            archive.writestr("toydata-1.0.dist-info/METADATA", METADATA)
            archive.writestr("toydata-1.0.dist-info/WHEEL", FLAVOUR + f"Tag: {tag}\n")
            archive.writestr("toydata-1.0.dist-info/RECORD", "")
        content = (index / file).read_bytes()
        return Wheel(
            name="toy",
            file=file,
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
            licence="CC0 (stated)",
            credit="Numbers by hand.",
        )

    return make
