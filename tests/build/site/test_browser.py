"""Every page in a headless Chromium with no network: errors, mathematics, sliders, colors, keys."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, sync_playwright

from dlcourse.exercises.checker import examine
from dlcourse.exercises.registry import find_exercise

ROOT = Path(__file__).resolve().parents[3]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CONTRAST = 4.5  # WCAG 2, level AA, text of normal size
NARROW, WIDE = 390, 1280  # CSS pixels: a telephone, a laptop


def listed_pages() -> list[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"]] + [entry["file"] for part in toc["parts"] for entry in part["chapters"]]


PAGES = listed_pages()
NOTEBOOKS = [page for page in PAGES if (ROOT / f"{page}.py").is_file()]


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(site) -> Iterator[str]:
    handler = functools.partial(QuietHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(timeout=10)


def find_chromium() -> str:
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    if path := os.environ.get("DLCOURSE_CHROMIUM") or next(filter(None, found), None):
        return path
    message = "no Chromium: `apt-get install chromium`, or name one in DLCOURSE_CHROMIUM"
    if os.environ.get("DLCOURSE_REQUIRE_BROWSER") == "1":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="module")
def browser(address) -> Iterator[Browser]:
    path = find_chromium()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class Visit:
    """One page opened in a context of its own, with all that went wrong noted."""

    def __init__(
        self, browser: Browser, address: str, page: str, theme: str = "light", width: int = 1200
    ):
        self.context = browser.new_context(viewport={"width": width, "height": 900})
        self.context.set_default_timeout(20_000)
        for key in ("mode", "theme"):
            self.context.add_init_script(f"localStorage.setItem('{key}', '{theme}')")
        self.problems: list[str] = []
        self.context.route("**/*", lambda route: self._answer(route, address))
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("console", self._note)
        self.page.on("response", self._check)
        self.page.goto(f"{address}/{page}.html", wait_until="load")
        self.page.evaluate("async () => { await window.MathJax?.startup?.promise }")

    def _answer(self, route, address: str) -> None:
        if route.request.url.startswith((address, "data:")):
            route.continue_()
        else:
            self.problems.append(f"asked for {route.request.url}")
            route.abort()

    def _note(self, message) -> None:
        if message.type == "error":
            self.problems.append(f"console: {message.text}")

    def _check(self, response) -> None:
        if response.status >= 400:
            self.problems.append(f"{response.status}: {response.url}")


@pytest.fixture
def visit(browser, address) -> Iterator[Callable[..., Visit]]:
    visits: list[Visit] = []

    def open_page(page: str, **options) -> Visit:
        visits.append(Visit(browser, address, page, **options))
        return visits[-1]

    yield open_page
    for opened in visits:
        opened.context.close()


COLORS = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = color => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(c => (c /= 255) <= 0.03928 ? c / 12.92
      : Math.pow((c + 0.055) / 1.055, 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = node => {
    for (; node; node = node.parentElement) {
      const color = rgba(getComputedStyle(node).backgroundColor);
      if (color[3] > 250) return color;
    }
    return [255, 255, 255, 255];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.querySelector('article'), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !node.checkVisibility({visibilityProperty: true})
        || node.closest('script, style, mjx-container, a.headerlink')) continue;
    const [a, b] = [rgba(getComputedStyle(node).color), ground(node)].map(luminance);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < %s) {
      poor.push(`${ratio.toFixed(2)} ${node.tagName}.${node.className}: `
        + walker.currentNode.textContent.trim().slice(0, 40));
    }
  }
  return [...new Set(poor)];
}"""


# Text of the article, without code and rendered formulas, that still looks like TeX.
RAW_TEX = """() => {
  const article = document.querySelector('article').cloneNode(true);
  article.querySelectorAll('pre, code, script, style, mjx-container').forEach(n => n.remove());
  return article.textContent.match(/\\$[^$\\n]*\\\\[a-zA-Z]+[^$\\n]*\\$|\\\\\\(|\\\\\\[/g) || [];
}"""

# Labels in drawings have the class too, and are text.
FORMULAS = """[...document.querySelectorAll('article .math:not(svg *)')]
  .map(node => node.querySelectorAll('mjx-container').length)"""


# What a narrow screen cuts off, or lays over something else. A thing that scrolls is not cut.
CUT = """() => {
  const article = document.querySelector('article'), bad = [], edge = innerWidth + 1;
  const scrolls = node => {
    for (; node && node !== article; node = node.parentElement) {
      if (/auto|scroll/.test(getComputedStyle(node).overflowX)) return true;
    }
    return false;
  };
  const name = node => `${node.tagName}.${node.className}: ${node.textContent.trim().slice(0, 40)}`;
  for (const node of article.querySelectorAll('*')) {
    const box = node.getBoundingClientRect();
    if (!box.width || !node.checkVisibility()) continue;
    if (node.closest('mjx-assistive-mml, .unseen')) continue;  // read aloud, not seen
    if (box.right > edge && !scrolls(node)) bad.push('cut ' + name(node));
  }
  for (const number of article.querySelectorAll('.eqno')) {
    const formula = number.parentElement.querySelector('mjx-container');
    if (!formula || !number.checkVisibility()) continue;
    const [a, b] = [number, formula].map(node => node.getBoundingClientRect());
    const beside = a.top < b.bottom && b.top < a.bottom;
    const tooLong = formula.scrollWidth > formula.clientWidth + 1 || b.right > a.left + 1;
    if (beside && tooLong) bad.push('runs under its number: ' + name(number));
  }
  return bad.slice(0, 5);
}"""

# Sizes of text in drawings and of wide pictures, in pixels of the screen.
SMALL = """() => {
  const bad = [];
  for (const text of document.querySelectorAll('figure.diagram text')) {
    const size = parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a;
    if (text.checkVisibility() && size < 9) bad.push(`${size.toFixed(1)} px: ${text.textContent}`);
  }
  for (const image of document.querySelectorAll('article img')) {
    const share = image.getBoundingClientRect().width / image.naturalWidth;
    if (!image.checkVisibility() || image.closest('.chapters')) continue;
    if (image.naturalWidth > 500 && share < 0.55) bad.push(`${share.toFixed(2)}: ${image.alt}`);
  }
  return bad.slice(0, 5);
}"""

# On a wide screen: a displayed formula or a table that is not seen whole, a label of a drawing that
# touches the sides of its box.
FULL = """() => {
  const bad = [];
  for (const formula of document.querySelectorAll("mjx-container[display='true']")) {
    if (formula.checkVisibility() && formula.scrollWidth > formula.clientWidth + 2) {
      const text = formula.querySelector('mjx-assistive-mml')?.textContent ?? '';
      bad.push(`${formula.scrollWidth} > ${formula.clientWidth} px: ${text.trim().slice(0, 60)}`);
    }
  }
  for (const table of document.querySelectorAll('.pst-scrollable-table-container')) {
    if (table.scrollWidth > table.clientWidth + 2) bad.push(`cut table: ${table.innerText}`);
  }
  for (const drawing of document.querySelectorAll('figure.diagram svg')) {
    const boxes = [...drawing.querySelectorAll('rect')].map(node => node.getBoundingClientRect());
    for (const text of drawing.querySelectorAll('text')) {
      const label = text.getBoundingClientRect();
      const [x, y] = [(label.left + label.right) / 2, (label.top + label.bottom) / 2];
      const around = boxes.filter(b => b.left < x && x < b.right && b.top < y && y < b.bottom)
        .sort((a, b) => a.width - b.width)[0];
      if (around && (label.left < around.left + 2 || label.right > around.right - 2)) {
        bad.push(`wider than its box: ${text.textContent}`);
      }
    }
  }
  return bad.slice(0, 5);
}"""

LOADED = "Promise.all([...document.images].map(image => image.decode().catch(() => 0)))"
FILTERED = """[...document.querySelectorAll('article img')]
  .filter(image => getComputedStyle(image).filter !== 'none').map(image => image.alt)"""


@dataclass(frozen=True)
class Look:
    """What one visit to a page saw; the tests below ask of it what they want to know."""

    theme: str
    problems: list[str]
    formulas: list[int]
    formula_errors: int
    raw_tex: list[str]
    poor_contrast: list[str]
    filtered: list[str]
    full: list[str]
    narrow_width: int
    cut: list[str]
    small: list[str]


@pytest.fixture(scope="module")
def look(browser, address) -> Callable[[str, str], Look]:
    """Visits a page once in each theme."""

    @functools.cache
    def visit_once(page: str, theme: str) -> Look:
        opened = Visit(browser, address, page, theme)
        tab = opened.page
        has_article = tab.locator("article").count() > 0
        seen = {
            "theme": tab.evaluate("document.documentElement.dataset.theme"),
            "formulas": tab.evaluate(FORMULAS),
            "formula_errors": tab.locator("mjx-merror, [data-mjx-error]").count(),
            "raw_tex": tab.evaluate(RAW_TEX) if has_article else [],
            "poor_contrast": tab.evaluate(COLORS % CONTRAST) if has_article else [],
            "filtered": tab.evaluate(FILTERED),
        }
        tab.set_viewport_size({"width": WIDE, "height": 900})
        seen["full"] = tab.evaluate(FULL)
        tab.set_viewport_size({"width": NARROW, "height": 800})
        tab.evaluate(LOADED)
        narrow = {
            "narrow_width": tab.evaluate("document.documentElement.scrollWidth"),
            "cut": tab.evaluate(CUT) if has_article else [],
            "small": tab.evaluate(SMALL) if has_article else [],
        }
        opened.context.close()
        return Look(**seen, **narrow, problems=opened.problems)

    return visit_once


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", [*PAGES, "search"])
def test_page_opens_without_error_or_network(look, page, theme):
    seen = look(page, theme)
    assert seen.theme == theme
    assert seen.problems == []


@pytest.mark.parametrize("page", PAGES)
def test_mathematics_is_rendered(look, page):
    seen = look(page, "light")
    assert 0 not in seen.formulas
    assert seen.formula_errors == 0
    assert seen.raw_tex == []


def test_the_notation_page_has_mathematics(look):
    # So that the test above cannot pass on pages that lost all of theirs.
    assert len(look("book/notation", "light").formulas) > 20


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_text_stands_out_from_its_ground(look, page, theme):
    assert look(page, theme).poor_contrast == []


@pytest.mark.parametrize("page", PAGES)
def test_page_is_no_wider_than_a_narrow_screen(look, page):
    assert look(page, "light").narrow_width <= NARROW


@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_cut_or_covered_on_a_narrow_screen(look, page):
    assert look(page, "light").cut == []


@pytest.mark.parametrize("page", PAGES)
def test_formulas_and_labels_have_room_on_a_wide_screen(look, page):
    assert look(page, "light").full == []


def test_what_scrolls_sideways_shows_that_there_is_more(visit):
    tab = visit("chapters/119_large_scale_training/2_optimizers", width=NARROW).page
    picture = tab.wait_for_selector(".picture[data-more][tabindex='0']")
    picture.evaluate("node => { node.scrollLeft = node.scrollWidth; }")
    tab.wait_for_function("node => !node.hasAttribute('data-more')", arg=picture)


@pytest.mark.parametrize("page", PAGES)
def test_text_in_pictures_can_be_read_on_a_narrow_screen(look, page):
    assert look(page, "light").small == []


@pytest.mark.parametrize("page", PAGES)
def test_pictures_keep_their_colors_in_the_dark(look, page):
    assert look(page, "dark").filtered == []


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_every_slider_changes_its_picture_by_the_keyboard(visit, page):
    opened = visit(page)
    figures = opened.page.locator("figure.explore")
    for figure in figures.all():
        picture = figure.locator("img").first
        for slider in figure.locator("input[type=range]").all():
            slider.focus()
            slider.press("Home")
            seen, alts = [], []
            for _ in range(int(slider.get_attribute("max")) + 1):
                picture.evaluate("image => image.decode()")
                seen.append(picture.screenshot())
                alts.append(picture.get_attribute("alt"))
                slider.press("ArrowRight")
            assert len(set(seen)) > 1, "no value of the slider changes the picture"
            assert all(alt.strip() for alt in alts)
            label = slider.evaluate("input => input.labels[0]?.textContent.trim()")
            assert label, "the slider has no label"
    assert not opened.problems


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_keyboard_reaches_launch_menu_and_sliders(visit, page):
    tab = visit(page).page
    wanted = tab.locator("article input[type=range]").count()
    reached, launch = set(), False
    limit = tab.locator("a, button, input, summary, [tabindex]").count() + 50
    for _ in range(limit):
        tab.keyboard.press("Tab")
        here = tab.evaluate(
            "(() => { const e = document.activeElement;"
            " if (e.matches('article input[type=range]')) return e.id;"
            " return e.closest('.dropdown-launch-buttons') ? 'launch' : null; })()"
        )
        if here == "launch" and not launch:
            launch = True
            tab.keyboard.press("Enter")
            tab.keyboard.press("ArrowDown")
            assert "Colab" in tab.evaluate("document.activeElement.textContent")
            tab.keyboard.press("Escape")
        elif here and here != "launch":
            reached.add(here)
        if launch and len(reached) == wanted:
            break
    assert launch and len(reached) == wanted


def test_button_switches_between_light_and_dark(visit):
    tab = visit(PAGES[0], theme="light").page
    button = tab.locator("button.theme-switch-button:visible").first
    seen = set()
    for _ in range(3):
        button.click()
        seen.add(tab.evaluate("document.documentElement.dataset.theme"))
    assert seen == {"light", "dark"}


# Search.


def search_for(visit, words: str):
    tab = visit("search").page
    tab.goto(f"{tab.url}?q={words}")
    tab.locator("#search-results li a").first.wait_for()
    return tab.locator("#search-results li")


def test_search_finds_a_page(visit):
    assert search_for(visit, "momentum").count() >= 1


@pytest.mark.parametrize("word", ["momentum", "centering", "checkpoint"])
def test_an_excerpt_of_the_search_is_the_sentence_that_was_found(visit, word):
    results = search_for(visit, word)
    excerpts = results.locator("p.context")
    excerpts.first.wait_for()
    texts = excerpts.all_inner_texts()
    assert all("Colab" not in text and "Repository" not in text for text in texts)
    assert any(word in text.lower() for text in texts)
    assert excerpts.locator("mark").first.inner_text().lower().startswith(word[:6])


# The contents list.

CURRENT = "document.querySelector('.page-toc [aria-current]')?.hash"
# The middle of what stands between two headings, which may be many screens.
TO_MIDDLE = """names => {
  const [a, b] = names.map(n => document.querySelector(n).getBoundingClientRect().top + scrollY);
  scrollTo({top: (a + b) / 2 - innerHeight / 3, behavior: 'instant'});
}"""
LISTED = """[...document.querySelectorAll('.page-toc a')].map(link => link.hash)
  .filter(hash => document.querySelector(hash))"""


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_the_contents_list_marks_the_section_that_is_read(visit, page):
    tab = visit(page).page
    names = tab.evaluate(LISTED)
    for name, following in zip(names, names[1:]):
        tab.evaluate(TO_MIDDLE, [name, following])
        at_end = "innerHeight + scrollY >= document.documentElement.scrollHeight - 2"
        if tab.evaluate(at_end):
            break
        tab.wait_for_function(f"{CURRENT} === '{name}'", timeout=5000)
        entry = tab.locator(".page-toc [aria-current]")
        box, height = entry.bounding_box(), tab.viewport_size["height"]
        assert 0 <= box["y"] and box["y"] + box["height"] <= height, f"{name} is out of sight"


# Print.


def test_the_dark_theme_prints_black_on_white(visit):
    opened = visit(NOTEBOOKS[0], theme="dark")
    tab = opened.page
    tab.emulate_media(media="print")
    tab.wait_for_function("document.documentElement.dataset.theme === 'light'")
    assert tab.evaluate(COLORS % CONTRAST) == []
    ground = "getComputedStyle(document.body).backgroundColor"
    assert tab.evaluate(ground) in ("rgb(255, 255, 255)", "rgba(0, 0, 0, 0)")
    tab.emulate_media(media="screen")
    tab.wait_for_function("document.documentElement.dataset.theme === 'dark'")


# Predictions on the page say what `check` says in the notebook.

BETA = find_exercise("119.2.predict-beta")


def prediction(visit, key: str = "119.2.predict-beta"):
    tab = visit("chapters/119_large_scale_training/2_optimizers").page
    form = tab.locator(f"#predict-{key.replace('.', '-')}")

    def answer(text: str) -> str:
        form.get_by_label("Your prediction").fill(text)
        form.get_by_role("button", name="Check").press("Enter")
        return form.locator(".reply").inner_text()

    return answer


def test_a_prediction_is_told_right_or_near_or_how_far_off_it_is(visit):
    answer = prediction(visit)
    assert "✓ Right: 589." in answer("589")
    assert "Near enough: it is 589." in answer("600")
    for text in ("2000", "100", "640", "-3"):
        shown = answer(text)
        assert f"It is {shown.split('That is ')[1].split('.')[0]}." in (
            examine(BETA, float(text)).message
        )


def test_a_known_mistake_of_a_prediction_is_explained_and_other_answers_get_hints(visit):
    answer = prediction(visit)
    mistake = BETA.mistakes["listing"]
    assert mistake.hint[:30] in answer(str(mistake.answer))
    count = len(BETA.hints)
    for number in range(1, count + 1):
        assert f"Hint {number} of {count}" in answer("123456")
    assert "no more hints" in answer("123456")


@pytest.mark.parametrize("text", ["589.0", "5.89e2", "1178/2", " 589 ", "0,589e3"])
def test_a_prediction_may_be_written_in_several_ways(visit, text):
    assert "Right" in prediction(visit)(text)


@pytest.mark.parametrize("text", ["many", "5/", "1/2/3", "inf", "1/0"])
def test_what_is_no_number_is_refused_in_words(visit, text):
    assert "Write one number" in prediction(visit)(text)
