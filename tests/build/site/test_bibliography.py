"""The chapters' bibliographies become one, and contradict each other nowhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dlcourse.build.bibliography import BibliographyError, entries, files, gather, works

ROOT = Path(__file__).resolve().parents[3]
LION = "@article{chen2023lion,\n  author = {Chen, Xiangning},\n  title = {Lion}, year = {2023}}"
ADAM = "@article{kingma2015adam,\n  author = {Kingma, D.},\n  title = {Adam}, year = {2015}}"


def write(root: Path, **chapters: str) -> Path:
    for name, text in chapters.items():
        file = root / "chapters" / name / "references.bib"
        file.parent.mkdir(parents=True)
        file.write_text(text, encoding="utf8")
    return root


def test_all_chapters_are_gathered_and_sorted(tmp_path):
    root = write(tmp_path, a=f"comment\n{ADAM}\n", b=f"{LION}\n")
    assert gather(root) == {"chen2023lion": LION, "kingma2015adam": ADAM}
    assert works(root)["chen2023lion"].authors == "Chen"


def test_a_work_that_two_chapters_cite_is_one(tmp_path):
    root = write(tmp_path, a=f"{ADAM}\n\n{LION}", b=LION.replace(",\n  ", ",\n\t"))
    assert list(gather(root)) == ["chen2023lion", "kingma2015adam"]


@pytest.mark.parametrize("other", [LION.replace("2023}", "2024}"), LION.replace("chen", "Chen")])
def test_two_entries_of_one_key_that_differ_are_refused(tmp_path, other):
    root = write(tmp_path, a=LION, b=other)
    with pytest.raises(BibliographyError, match="chapters/a/references.bib and chapters/b"):
        gather(root)
    with pytest.raises(BibliographyError):
        works(root)


def test_a_changed_file_is_read_again(tmp_path):
    root = write(tmp_path, a=LION)
    assert set(works(root)) == {"chen2023lion"}
    write(tmp_path, b=ADAM)
    assert set(works(root)) == {"chen2023lion", "kingma2015adam"}


@pytest.mark.parametrize("file", files(ROOT), ids=lambda file: file.parent.name)
def test_a_chapter_cites_every_work_that_it_lists(file):
    package = ROOT / "src/dlcourse" / file.parent.name.partition("_")[2]
    texts = [*file.parent.glob("*.py"), file.parent / "errata.yml", *package.rglob("*.py")]
    text = "\n".join(source.read_text(encoding="utf8") for source in texts)
    unused = [
        key
        for key, _ in entries(file.read_text(encoding="utf8"))
        if not re.search(rf"\b{re.escape(key)}\b", text)
    ]
    assert not unused
