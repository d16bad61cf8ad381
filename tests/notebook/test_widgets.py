"""`explore`: every frame is in the page, in order, and wrong use is refused with advice."""

import base64
import io
import json
import os
import re
import shutil
from html.parser import HTMLParser

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from dlcourse.notebook import explore, widgets
from dlcourse.build.doctor import CHROMIUMS


def shade(level, other=0):
    """A figure whose gray level tells which values drew it."""
    fig = plt.figure(figsize=(0.4, 0.3), facecolor="white")
    fig.add_axes((0, 0, 1, 1)).axis("off")
    fig.axes[0].add_patch(plt.Rectangle((0, 0), 1, 1, color=str((level + other) / 100)))
    return fig


@pytest.fixture
def shown(monkeypatch):
    """Static mode; the MIME bundles that were displayed."""
    bundles = []
    monkeypatch.setenv("DLCOURSE_STATIC", "1")
    monkeypatch.setattr(widgets, "show", bundles.append)
    return bundles


def script_value(html, name):
    start = re.search(rf"\b{name} = ", html).end()
    return json.JSONDecoder().raw_decode(html[start:])[0]


def gray(data_uri):
    image = Image.open(io.BytesIO(base64.b64decode(data_uri.partition(",")[2])))
    assert image.format == "WEBP"
    return np.asarray(image.convert("L")).mean() / 255 * 100


class Elements(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def test_frames_run_over_the_product_last_control_fastest(shown):
    explore(shade, {"level": [10, 50], "other": [0, 10, 20]}, name="s", alt="A shade of gray")
    frames = script_value(shown[0]["text/html"], "frames")
    assert [round(gray(f)) for f in frames] == pytest.approx([10, 20, 30, 50, 60, 70], abs=2)


def test_same_call_gives_same_bytes(shown):
    for _ in range(2):
        explore(shade, {"level": [10, 50]}, name="s", alt="A shade")
    assert shown[0] == shown[1]


def test_first_picture_is_that_of_the_initial_values(shown):
    explore(
        shade, {"level": [10, 50, 90], "other": [0, 5]}, name="s", alt="A", initial={"level": 90}
    )
    html = shown[0]["text/html"]
    (image,) = Elements(html).all("img")
    assert gray(image["src"]) == pytest.approx(90, abs=2)
    assert [i["value"] for i in Elements(html).all("input")] == ["2", "0"]


def test_controls_are_labelled_native_ranges_with_text_for_screen_readers(shown):
    explore(shade, {"level": [10, 0.5], "other": [0, 3]}, name="My shade!", alt="A shade")
    page = Elements(shown[0]["text/html"])
    assert page.all("figure")[0]["id"] == "explore-my-shade"
    inputs = page.all("input")
    assert [i["type"] for i in inputs] == ["range", "range"]
    assert [label["for"] for label in page.all("label")] == [i["id"] for i in inputs]
    assert [o["for"] for o in page.all("output")] == [i["id"] for i in inputs]
    assert [i["aria-valuetext"] for i in inputs] == ["10", "0"]
    assert page.all("figcaption") == [{"aria-live": "polite"}]
    assert all(attributes.get("src", "data:").startswith("data:") for _, attributes in page.found)


def test_arrow_keys_move_picture_alt_and_readout_in_a_browser(shown, tmp_path):
    """The file alone, from disk: no kernel, no network; two widgets do not mix."""
    command = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if command is None and not os.environ.get("DLCOURSE_REQUIRE_BROWSER"):
        pytest.skip("no Chromium: sudo apt-get install chromium")
    from playwright.sync_api import sync_playwright

    def alt(level, other):
        return f"Gray {level + other}"

    for name in ("first", "second"):
        explore(shade, {"level": [10, 50], "other": [0, 10, 20]}, name=name, alt=alt)
    page_file = tmp_path / "page.html"
    page_file.write_text("<!doctype html>" + "".join(bundle["text/html"] for bundle in shown))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=command, args=["--no-sandbox"])
        page = browser.new_page()
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(page_file.as_uri())
        page.get_by_label("level").nth(1).press("ArrowRight")
        page.get_by_label("other").nth(1).press("ArrowRight")
        pictures = [page.locator("img").nth(i) for i in (0, 1)]
        sources = [picture.get_attribute("src") for picture in pictures]
        alts = [picture.get_attribute("alt") for picture in pictures]
        captions = page.locator("figcaption").all_inner_texts()
        readouts = page.locator("output").all_inner_texts()
        said = page.get_by_label("level").nth(1).get_attribute("aria-valuetext")
        browser.close()
    assert errors == []
    assert [round(gray(source)) for source in sources] == pytest.approx([20, 70], abs=2)
    assert alts == captions == ["Gray 20", "Gray 70"]
    assert readouts == ["10", "10", "50", "20"] and said == "50"


def test_alt_text_follows_the_values_and_is_escaped(shown):
    explore(shade, {"level": [10, 50]}, name="s", alt=lambda level: f'"{level}" </script><b>')
    html = shown[0]["text/html"]
    assert script_value(html, "alts") == ['"10" </script><b>', '"50" </script><b>']
    assert Elements(html).all("img")[0]["alt"] == '"10" </script><b>'
    assert html.count("</script>") == 1


def test_plain_text_says_what_the_widget_shows(shown):
    explore(shade, {"level": [10, 50]}, name="s", alt="A shade of gray")
    assert shown[0]["text/plain"].startswith("A shade of gray (2 frames")
    assert "level: 10, 50" in shown[0]["text/plain"]


def test_a_control_is_named_in_words(shown):
    def grey(dark_level):
        return shade(dark_level)

    explore(grey, {"dark_level": (10, 20)}, name="s", alt="Grey.")
    html, plain = shown[0]["text/html"], shown[0]["text/plain"]
    assert "dark level</label>" in html and "dark level: 10, 20" in plain
    assert "dark_level" not in html and "dark_level" not in plain


def test_figures_are_closed_and_earlier_ones_are_not(shown):
    mine = plt.figure()
    explore(shade, {"level": [10, 50]}, name="s", alt="A")
    assert plt.get_fignums() == [mine.number]
    plt.close(mine)


def test_figures_are_closed_when_draw_fails(shown):
    def broken(level):
        plt.figure()
        raise RuntimeError("drawn badly")

    with pytest.raises(RuntimeError, match="drawn badly"):
        explore(broken, {"level": [1]}, name="s", alt="A")
    assert plt.get_fignums() == []


def test_values_are_read_out_as_short_numbers():
    assert [widgets._label(v) for v in (0.1, 1e-5, 3, np.float32(0.25), True, "Lion")] == [
        "0.1", "1e-05", "3", "0.25", "True", "Lion",
    ]  # fmt: skip


def test_draw_must_return_the_figure(shown):
    with pytest.raises(TypeError, match="return fig"):
        explore(lambda level: plt.plot([level]), {"level": [1]}, name="s", alt="A")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"controls": {}}, "at least one control"),
        ({"controls": {"level": []}}, "has no values"),
        ({"controls": {"level": [1, 1.0]}}, "more than once"),
        ({"controls": {"level": [0.1, 0.1 + 1e-9]}}, "more than once"),
        ({"name": ""}, "name with letters"),
        ({"name": "!!"}, "name with letters"),
        ({"alt": " "}, "what the picture shows"),
        ({"alt": lambda level: ""}, "what the picture shows"),
        ({"initial": {"level": 7}}, "not one of its values: 10, 50"),
        ({"initial": {"lvl": 10}}, "controls: level"),
        ({"controls": {"level": range(21), "other": range(20)}}, "420 frames and may have 400"),
    ],
)
def test_wrong_use_says_what_to_do(shown, arguments, message):
    call = {"controls": {"level": [10, 50]}, "name": "s", "alt": "A", **arguments}
    with pytest.raises(ValueError, match=message):
        explore(shade, call.pop("controls"), **call)
    assert shown == []


def test_a_string_is_no_list_of_values(shown):
    with pytest.raises(TypeError, match="list of values"):
        explore(shade, {"level": "abc"}, name="s", alt="A")


def test_too_many_bytes_are_refused_with_the_size(shown, monkeypatch):
    monkeypatch.setattr(widgets, "BYTE_LIMIT", 100)
    with pytest.raises(ValueError, match="make the figure smaller"):
        explore(shade, {"level": [10, 50]}, name="s", alt="A")


def test_live_sliders_draw_the_figure_anew(monkeypatch):
    import ipywidgets

    monkeypatch.delenv("DLCOURSE_STATIC", raising=False)
    drawn, boxes, pictures = [], [], []
    monkeypatch.setattr("IPython.display.display", boxes.append)
    monkeypatch.setattr(widgets, "show", lambda *bundle: pictures.append(bundle))

    def draw(level):
        drawn.append(level)
        return shade(level)

    explore(draw, {"level": [10, 50, 90]}, name="s", alt=lambda level: f"Gray {level}")
    slider = boxes[0].children[0]
    assert isinstance(slider, ipywidgets.SelectionSlider) and not slider.continuous_update
    slider.value = 2
    assert drawn == [50, 90]
    for (bundle,), alt in zip(pictures, ["Gray 50", "Gray 90"], strict=True):
        image = BeautifulSoup(bundle["text/html"], "html.parser").img
        assert image["alt"] == bundle["text/plain"] == alt
        assert base64.b64decode(image["src"].partition("base64,")[2]).startswith(b"\x89PNG")


def test_live_sliders_are_labeled_and_line_up(monkeypatch):
    monkeypatch.delenv("DLCOURSE_STATIC", raising=False)
    boxes = []
    monkeypatch.setattr("IPython.display.display", boxes.append)
    monkeypatch.setattr(widgets, "show", lambda *bundle: None)
    explore(lambda a, level: shade(level), {"a": [1], "level": [10]}, name="s", alt="A")
    sliders = boxes[0].children[:2]
    assert [slider.description for slider in sliders] == ["a", "level"]
    assert {slider.style.description_width for slider in sliders} == {"6ch"}
