"""The built site, read as files: links, launch buttons, published notebooks, nothing from afar."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup

from dlcourse.build import systems
from dlcourse.build.bibliography import gather
from dlcourse.build.results import over_budget
from dlcourse.build.site.status import recorded_cells

ROOT = Path(__file__).resolve().parents[3]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
REPOSITORY = CONFIG["repository"]["url"].rstrip("/")
SLUG = "/".join(REPOSITORY.rsplit("/", 2)[-2:])


def listed_pages() -> list[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"]] + [entry["file"] for part in toc["parts"] for entry in part["chapters"]]


PAGES = listed_pages()
NOTEBOOKS = [page for page in PAGES if (ROOT / f"{page}.py").is_file()]
TEXTS = [page for page in PAGES if page not in NOTEBOOKS]


@cache
def read(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def page_of(site: Path, page: str) -> BeautifulSoup:
    return read(site / f"{page}.html")


def launch_links(soup: BeautifulSoup) -> dict[str, str]:
    links = soup.select(".dropdown-launch-buttons a")
    return {link.get_text(strip=True): link["href"] for link in links}


def commit_of(soup: BeautifulSoup) -> str:
    return urlsplit(launch_links(soup)["Binder"]).path.rsplit("/", 1)[-1]


@pytest.mark.parametrize("page", PAGES)
def test_page_has_one_title_that_names_it(site, page):
    soup = page_of(site, page)
    (heading,) = soup.select("article h1")
    heading.select_one("a.headerlink").extract()
    assert soup.title.get_text().startswith(heading.get_text(strip=True))


@pytest.mark.parametrize("page", PAGES)
def test_every_picture_has_alternative_text(site, page):
    pictures = page_of(site, page).select("img")
    assert not [str(picture)[:200] for picture in pictures if not picture.get("alt", "").strip()]


@pytest.mark.parametrize("page", [*PAGES, "search", "genindex"])
def test_page_loads_nothing_from_another_host(site, page):
    soup = page_of(site, page)
    loaded = [tag["src"] for tag in soup.select("[src]")]
    loaded += [
        tag["href"] for tag in soup.select("link[href]") if "canonical" not in tag.get("rel", [])
    ]
    assert loaded
    assert not [url for url in loaded if urlsplit(url).scheme not in ("", "data")]
    scripts = " ".join(tag.get_text() for tag in soup.select("script"))
    assert not re.findall(r"unpkg\.com|jsdelivr\.net|cdnjs\.\w+", scripts)
    styles = " ".join(tag.get_text() for tag in soup.select("style"))
    styles += " ".join(tag["style"] for tag in soup.select("[style]"))
    assert not re.findall(r"url\(\s*['\"]?(?:https?:)?//|@import", styles)


def test_style_sheets_load_nothing_from_another_host(site):
    sheets = list(site.glob("_static/**/*.css"))
    assert sheets
    far = re.compile(r"url\(\s*['\"]?(?:https?:)?//|@import\s+['\"](?:https?:)?//")
    assert not [str(sheet) for sheet in sheets if far.search(sheet.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", PAGES)
def test_internal_links_and_anchors_resolve(site, page):
    here, dead = site / f"{page}.html", []
    for link in page_of(site, page).select("a[href]"):
        url = urlsplit(link["href"])
        if url.scheme or url.netloc:
            continue
        target = (here.parent / unquote(url.path)).resolve() if url.path else here
        if target.is_dir():
            target /= "index.html"
        if not target.is_file():
            dead.append(link["href"])
        elif url.fragment and target.suffix == ".html":
            name = unquote(url.fragment)
            soup = read(target)
            if not (soup.find(id=name) or soup.find(attrs={"name": name})):
                dead.append(link["href"])
    assert not dead


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_launch_buttons_open_notebooks_that_exist(site, page):
    links = launch_links(page_of(site, page))
    assert set(links) == {"Colab", "Binder", "JupyterLab"}

    colab = urlsplit(links["Colab"])
    prefix = f"/github/{SLUG}/blob/gh-pages/"
    assert colab.netloc == "colab.research.google.com" and colab.path.startswith(prefix)
    assert (site / unquote(colab.path.removeprefix(prefix))).is_file()

    binder = urlsplit(links["Binder"])
    assert binder.netloc == "mybinder.org"
    assert binder.path.startswith(f"/v2/gh/{SLUG}/")
    (path,) = parse_qs(binder.query)["labpath"]
    assert path == f"{page}.ipynb" and (ROOT / path).is_file()

    lab = urlsplit(links["JupyterLab"])
    copy = page.replace("chapters", "workspace", 1)
    assert lab.netloc == "localhost:8888" and lab.path == f"/lab/tree/{copy}.ipynb"


@pytest.mark.parametrize("page", TEXTS)
def test_pages_without_a_notebook_have_no_launch_buttons(site, page):
    assert not launch_links(page_of(site, page))


def test_pages_name_one_commit_that_the_repository_has(site):
    commits = {commit_of(page_of(site, page)) for page in NOTEBOOKS}
    assert len(commits) == 1
    if (ROOT / ".git").exists():
        (commit,) = commits
        known = subprocess.run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], cwd=ROOT)
        assert known.returncode == 0


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_published_notebook_installs_the_package_of_the_page(site, page):
    notebook = json.loads((site / "notebooks" / f"{page}.ipynb").read_text(encoding="utf-8"))
    setup = "".join(notebook["cells"][0]["source"])
    assert f"{REPOSITORY}@{commit_of(page_of(site, page))}" in setup
    assert not [cell for cell in notebook["cells"] if cell.get("outputs")]


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_download_and_edit_buttons_of_a_notebook(site, page):
    soup = page_of(site, page)
    download = soup.select_one(".btn-download-source-button")["href"]
    assert ((site / page).parent / download).resolve() == site / "notebooks" / f"{page}.ipynb"
    edit = soup.select_one(".btn-source-edit-button")["href"]
    assert edit == f"{REPOSITORY}/edit/{CONFIG['repository']['branch']}/{page}.py"
    assert (ROOT / f"{page}.py").is_file()


@pytest.mark.parametrize("page", TEXTS)
def test_edit_button_of_a_text_page(site, page):
    edit = page_of(site, page).select_one(".btn-source-edit-button")["href"]
    path = edit.removeprefix(f"{REPOSITORY}/edit/{CONFIG['repository']['branch']}/")
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_notebook_page_shows_outputs_of_a_run(site, page):
    assert page_of(site, page).select("article div.cell_output")


def test_errata_page_has_every_entry_of_the_chapters(site):
    files = sorted(ROOT.glob("chapters/*/errata.yml"))
    entries = [entry for file in files for entry in yaml.safe_load(file.read_text("utf-8"))]
    soup = page_of(site, "book/errata")
    links = [link["href"] for link in soup.select("table.errata td:last-child a")]
    tests = [entry["test"].partition("::")[0] for entry in entries]
    assert entries and sorted(link.split("/blob/")[1].split("/", 1)[1] for link in links) == sorted(
        tests
    )
    assert all(link.startswith(f"{REPOSITORY}/blob/") for link in links)


def test_bibliography_page_has_every_work_of_the_chapters(site):
    works = page_of(site, "book/bibliography").select("div.citation")
    assert len(works) == len(gather(ROOT))


def test_status_page_has_every_notebook(site):
    table = page_of(site, "book/status").select_one("#notebooks table")
    rows = table.select("tbody tr")
    linked = [row.select_one("a")["href"] for row in rows]
    assert sorted(linked) == sorted(f"../{page}.html" for page in NOTEBOOKS)
    assert all("ok" in row.get_text() for row in rows)


def test_status_page_marks_what_is_over_the_budget(site):
    summary = json.loads((ROOT / "_build/executed/summary.json").read_text(encoding="utf-8"))
    over = {source.removesuffix(".py") for source, run in summary.items() if over_budget(run)}
    rows = page_of(site, "book/status").select("#notebooks tbody tr")
    marked = {row.select_one("a")["href"] for row in rows if "over" in row.get_text()}
    assert marked == {f"../{page}.html" for page in over if page in NOTEBOOKS}


def test_status_page_has_every_recorded_cell(site):
    rows = page_of(site, "book/status").select("#recorded-cells tbody tr")
    shown = [tuple(cell.get_text(strip=True) for cell in row.select("td")[:2]) for row in rows]
    cells = [cell for _, cell in recorded_cells(ROOT)]
    assert cells and [key for key, _ in shown] == [cell.key for cell in cells]
    other = [(cell.key, state) for cell, (_, state) in zip(cells, shown) if cell.state not in state]
    assert not other, "the site is older than the records or their code: run `make book`"


def test_status_page_has_all_systems(site):
    rows = page_of(site, "book/status").select("table.systems tbody tr")
    assert len(rows) == systems.count(ROOT)[1]


def test_landing_page_has_a_card_for_each_chapter(site):
    cards = page_of(site, PAGES[0]).select(".chapter-card")
    assert [card.select_one(".sd-card-title").get_text(strip=True)[:3] for card in cards] == [
        str(chapter.number) for chapter in systems.read(ROOT)
    ]
    assert sum(len(card.select("li")) for card in cards) == systems.count(ROOT)[1]
    for card in cards:
        here = card.select_one(".sd-card-title a") is not None
        assert here == ("to-come" not in card["class"])
        assert here == (card.select_one("img") is not None)
        assert here == ("min to run" in card.get_text())


def test_landing_page_shows_something_to_move(site):
    assert page_of(site, PAGES[0]).select("figure.explore input[type=range]")


# What is said of an exercise: page, contents list, notebook.


def learner_cells(page: str) -> list[str]:
    """The cells of the notebook that a learner gets."""
    notebook = json.loads((ROOT / f"{page}.ipynb").read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"]]


def exercises_of(site: Path, page: str) -> list[str]:
    titles = page_of(site, page).select("article .exercise > .admonition-title")
    return [title.get_text(strip=True) for title in titles]


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_an_exercise_is_called_by_its_key_wherever_it_stands(site, page):
    titles = exercises_of(site, page)
    chapter = page.split("/")[1].partition("_")[0]
    assert all(re.match(rf"Exercise {chapter}\.\d[a-z]?\.[a-z0-9-]+: .", title) for title in titles)
    listed = page_of(site, page).select(".page-toc .toc-exercise a")
    assert [link.get_text(strip=True) for link in listed] == titles
    text = "\n".join(learner_cells(page))
    for title in titles:
        name = title.removeprefix("Exercise ").replace("’", "'")
        assert f"{name}**" in text
        assert f'check("{name.partition(":")[0]}", ' in text


def test_the_course_has_exercises(site):
    # So that the test above cannot pass on pages that lost all of theirs.
    assert sum(len(exercises_of(site, page)) for page in NOTEBOOKS) > 30


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_a_page_has_nothing_that_only_a_kernel_can_use(site, page):
    soup = page_of(site, page)
    assert "not attempted yet" not in soup.select_one("article").get_text()
    code = [pre.get_text() for pre in soup.select("article div.cell_input")]
    assert not [text for text in code if re.search(r"^quiz\(", text, re.MULTILINE)]
    assert not [text for text in code if re.search(r"^predict_\w+ = \.\.\.", text, re.MULTILINE)]


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_a_fold_is_named_by_what_it_hides(site, page):
    names = {
        title.get_text(strip=True)
        for title in page_of(site, page).select("details.hide > summary > .admonition-title")
    }
    assert names <= {"Plot", "Check", "Imports and definitions", "Show code"}


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_sentences_and_widgets_have_their_code_folded(site, page):
    open_code = page_of(site, page).select("article .cell > .cell_input")
    for cell in open_code:
        text = cell.get_text()
        assert not re.search(r"^explore\(", text, re.MULTILINE), text
        assert not text.strip().startswith(("claim(", "say(")), text


# Figures are numbered on the page as in the notebook.


STRAIGHT = str.maketrans("‘’“”", "''\"\"")  # the page's quotation marks to the notebook's


def captions(site: Path, page: str) -> list[tuple[str, list[str]]]:
    """Number and words of each figure of a page, from its top to its end."""
    found = []
    for caption in page_of(site, page).select("article figcaption"):
        if number := caption.select_one(".caption-number"):
            words = caption.select_one(".caption-text").get_text().translate(STRAIGHT).split()
            found.append((number.get_text(strip=True), words))
    return found


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_figures_of_a_page_are_counted_from_one(site, page):
    numbers = [number for number, _ in captions(site, page)]
    assert numbers == [f"Figure {number}" for number in range(1, len(numbers) + 1)]


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_figures_have_the_numbers_of_the_notebook(site, page):
    # Of a caption, the words before the first formula, link or emphasis: two may begin alike.
    caption = re.compile(r"^\*\*(Figure \d+)\.\*\* ((?:[^\s$[*`]+ )+)", re.MULTILINE)
    found = [match for text in learner_cells(page) for match in caption.finditer(text)]
    shown = captions(site, page)
    assert [match[1] for match in found] == [number for number, _ in shown]
    for match, (_, words) in zip(found, shown):
        plain = match[2].split()
        assert words[: len(plain)] == plain


def test_diagrams_can_be_read_aloud(site):
    drawings = [svg for page in PAGES for svg in page_of(site, page).select("figure.diagram svg")]
    assert drawings
    assert all(svg["role"] == "img" and svg["aria-label"].strip() for svg in drawings)
