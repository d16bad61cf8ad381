"""The ledger of systems, and the README's map that is made from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dlcourse.cli import app
from dlcourse.build import readme, systems

ROOT = Path(__file__).resolve().parents[3]
LEDGER = """\
- chapter: 119
  title: Large-scale training
  package: large_scale_training
  systems:
    - {page: 1a_distributed, title: Distributed training}
    - {page: 2_optimizers, title: Lion}
    - {page: 2_optimizers, title: Schedule-Free}
"""


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A checkout in which the second page is there, and not the first."""
    texts = {
        "book/systems.yml": LEDGER,
        "README.md": f"# Title\n\n{readme.BEGIN}\nold\n{readme.END}\n\nThe end.\n",
        "chapters/119_large_scale_training/0_overview.py": "",
        "chapters/119_large_scale_training/2_optimizers.py": "",
        "src/dlcourse/large_scale_training/optimizers/__init__.py": "",
        "tests/large_scale_training/test_optimizers.py": "",
    }
    for path, text in texts.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf8")
    return tmp_path


def test_the_document_has_thirty_one_systems_in_seven_chapters_and_we_add_two():
    chapters = systems.read(ROOT)
    assert [chapter.number for chapter in chapters] == list(range(119, 126))
    assert systems.count(ROOT)[1] == 31 + 2  # 122.1c and 123.2c are ours


def test_sections_have_the_numbers_of_the_document():
    found = {system.section for chapter in systems.read(ROOT) for system in chapter.systems}
    assert {section.rstrip("abc") for section in found} == {
        "119.1", "119.2", "119.3", "120.1", "120.2", "121.1", "121.2", "122.1", "122.2",
        "123.1", "123.2", "123.3", "124.1", "124.2", "124.3", "125.1",
    }  # fmt: skip


def test_whether_a_system_is_here_is_seen_in_the_folder(checkout):
    (chapter,) = systems.read(checkout)
    assert [system.is_here(checkout) for system in chapter.systems] == [False, True, True]
    assert systems.count(checkout) == (2, 3)


def test_a_page_that_the_ledger_does_not_name_is_refused(checkout):
    (checkout / "chapters/119_large_scale_training/3_schedules.py").write_text("")
    with pytest.raises(systems.SystemsError, match="3_schedules"):
        systems.read(checkout)


def test_an_entry_without_a_field_is_refused(checkout):
    (checkout / "book/systems.yml").write_text("- {chapter: 119, title: T}")
    with pytest.raises(systems.SystemsError, match="lacks"):
        systems.read(checkout)


def test_the_map_links_what_is_here_and_marks_what_is_to_come(checkout):
    lines = readme.generate(checkout).splitlines()
    assert "2 of 3 systems are here." in lines
    assert "| 119.1a | Distributed training | *to come* | | |" in lines
    (lion,) = [line for line in lines if "Lion" in line]
    assert "(chapters/119_large_scale_training/2_optimizers.ipynb)" in lion
    assert "(src/dlcourse/large_scale_training/optimizers)" in lion
    assert "(tests/large_scale_training/test_optimizers.py)" in lion
    assert lines[0] == "# Title" and lines[-1] == "The end." and "old" not in lines


def test_writing_the_map_brings_the_readme_in_step(checkout, monkeypatch):
    (checkout / "pyproject.toml").write_text("")
    monkeypatch.chdir(checkout)
    checked = CliRunner().invoke(app, ["readme", "--check"])
    assert checked.exit_code == 1 and "run `dlcourse readme`" in checked.stderr
    assert CliRunner().invoke(app, ["readme"]).stdout == "README.md: written\n"
    assert CliRunner().invoke(app, ["readme", "--check"]).stdout == "README.md: in step\n"


def test_a_readme_without_a_place_for_the_map_is_refused(checkout):
    (checkout / "README.md").write_text("# Title\n")
    with pytest.raises(readme.ReadmeError, match="systems"):
        readme.generate(checkout)


def test_the_readme_of_the_course_is_in_step():
    text = (ROOT / "README.md").read_text(encoding="utf8")
    assert readme.generate(ROOT) == text, "run: dlcourse readme"
