"""Files are whole or not there."""

import stat

import pytest

from dlcourse.files import write_atomic, write_if_changed


def test_file_is_written_with_its_folders_and_ordinary_rights(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_atomic(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    plain = tmp_path / "plain"
    plain.write_text("")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_failure_keeps_the_old_content_and_leaves_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "x"
    write_atomic(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "new \ud800")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_equal_content_is_not_written_again(tmp_path):
    path = tmp_path / "x"
    assert write_if_changed(path, "a")
    assert not write_if_changed(path, "a")
    assert write_if_changed(path, "b") and path.read_text() == "b"
