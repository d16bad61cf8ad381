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
    assert lab.netloc == "localhost:8888" and lab.path == f"/lab/tree/{page}.ipynb"


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


def test_errata_page_has_every_entry_of_the_ledger(site):
    entries = yaml.safe_load((ROOT / "book/errata.yml").read_text(encoding="utf-8"))
    soup = page_of(site, "book/errata")
    links = [link["href"] for link in soup.select("table.errata td:last-child a")]
    tests = [entry["test"].partition("::")[0] for entry in entries]
    assert entries and sorted(link.split("/blob/")[1].split("/", 1)[1] for link in links) == sorted(
        tests
    )
    assert all(link.startswith(f"{REPOSITORY}/blob/") for link in links)


def test_status_page_has_every_notebook(site):
    rows = page_of(site, "book/status").select("table.status tbody tr")
    linked = [row.select_one("a")["href"] for row in rows]
    assert sorted(linked) == sorted(f"../{page}.html" for page in NOTEBOOKS)
    assert all("ok" in row.get_text() for row in rows)
