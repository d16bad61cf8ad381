"""Files are whole or not there."""

import re
import stat

import pytest

from dlcourse.files import (
    LEDGER, is_own, kept_note, replace_own, try_writing, write_atomic, write_if_changed,
)  # fmt: skip


def test_file_is_written_with_its_folders_and_ordinary_rights(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_atomic(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    plain = tmp_path / "plain"
    plain.write_text("")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_bytes_are_written_as_they_are(tmp_path):
    write_atomic(tmp_path / "x", b"\xff\r\n\x00")
    assert (tmp_path / "x").read_bytes() == b"\xff\r\n\x00"


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


def test_a_link_is_followed_and_the_mode_of_the_file_stays(tmp_path):
    target, link = tmp_path / "elsewhere" / "real.txt", tmp_path / "link.txt"
    write_atomic(target, "old")
    target.chmod(0o640)
    link.symlink_to(target)
    write_atomic(link, "new")
    assert link.is_symlink() and target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


@pytest.fixture
def table(tmp_path):
    return tmp_path / "grades.csv"


def copies(path):
    return sorted(p.read_text() for p in path.parent.glob(f"{path.stem}.*{path.suffix}"))


def test_what_the_program_wrote_itself_is_replaced_without_a_copy(table):
    for text in ("a", "b", "b", "c"):
        assert replace_own(table, text) is None
        assert table.read_text() == text and is_own(table)
    assert copies(table) == []


def test_what_was_edited_is_kept_under_a_dated_name_and_said(table):
    replace_own(table, "by the program")
    table.write_text("annotated")
    assert not is_own(table)
    copy = replace_own(table, "new")
    assert (table.read_text(), copy.read_text()) == ("new", "annotated")
    assert re.fullmatch(r"grades\.\d{8}-\d{6}\.csv", copy.name)
    assert copy.name in kept_note(table, copy) and str(table) in kept_note(table, copy)
    assert replace_own(table, "newer") is None


def test_two_edits_in_one_second_are_both_kept(table):
    for edit in ("first", "second", "third"):
        table.write_text(edit)
        assert replace_own(table, "new") is not None
    assert copies(table) == ["first", "second", "third"]


def test_a_file_that_was_never_ours_is_kept(table):
    table.write_bytes(b"\xff\x00 somebody's")
    assert replace_own(table, "new").read_bytes() == b"\xff\x00 somebody's"


def test_an_edit_that_was_taken_back_needs_no_copy(table):
    replace_own(table, "ours")
    table.write_text("edited")
    table.write_text("ours")
    assert replace_own(table, "new") is None


def test_a_file_edited_to_what_was_written_earlier_is_an_edit(table):
    replace_own(table, "one")
    replace_own(table, "two")
    table.write_text("one")
    assert replace_own(table, "three").read_text() == "one"


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"[]\n3\n{}\nnull\n", b'["grades.csv"]\n'])
def test_without_a_memory_of_it_the_file_counts_as_edited(table, damage):
    replace_own(table, "ours")
    table.with_name(LEDGER).write_bytes(damage)
    assert replace_own(table, "new").read_text() == "ours"
    assert replace_own(table, "newer") is None


def test_files_of_one_folder_are_told_apart(tmp_path):
    replace_own(tmp_path / "a.txt", "same")
    (tmp_path / "b.txt").write_text("same")
    assert replace_own(tmp_path / "b.txt", "new").read_text() == "same"
    assert replace_own(tmp_path / "a.txt", "new") is None


def test_a_copy_that_cannot_be_made_leaves_the_file_alone(table, monkeypatch):
    table.write_text("somebody's")
    monkeypatch.setattr(
        "shutil.copy2", lambda *a: (_ for _ in ()).throw(OSError("no space left"))
    )
    with pytest.raises(OSError, match="no space"):
        replace_own(table, "new")
    assert [(p.name, p.read_text()) for p in table.parent.iterdir()] == [
        ("grades.csv", "somebody's")
    ]


def test_a_place_is_tried_before_the_work(tmp_path):
    try_writing(tmp_path / "new" / "grades.csv")
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(IsADirectoryError, match="is a folder"):
        try_writing(tmp_path / "new")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        try_writing(tmp_path / "file" / "grades.csv")
