"""``explore``: one call, a live widget in a kernel and a moving picture on the static page."""

from __future__ import annotations

import base64
import html
import io
import itertools
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dlcourse.notebook.prose import show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FRAME_LIMIT = 400
BYTE_LIMIT = 4 * 1024 * 1024  # of all frames of one widget, as they lie in the page
DPI = 110
_WEBP_QUALITY = 85
_IMAGE = 'style="display:block;max-width:100%;height:auto;background:#fff;padding:4px"'


def _label(value: Any) -> str:
    """A control's value as it is read out: numbers as ``:g``, all else as ``str``."""
    is_number = not isinstance(value, (bool, str)) and hasattr(value, "__float__")
    return f"{value:g}" if is_number else str(value)


def _slug(name: str) -> str:
    """An HTML id from a widget's name. Raises ValueError when nothing is left of it."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") if isinstance(name, str) else ""
    if not slug:
        raise ValueError(f"explore needs a name with letters or digits, not {name!r}")
    return f"explore-{slug}"


def _checked_controls(controls: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    if not controls:
        raise ValueError("explore needs at least one control: {'name': [value, value, …]}")
    checked = {}
    for name, values in controls.items():
        if isinstance(values, (str, bytes)):
            raise TypeError(f"control {name!r} is a string; give a list of values")
        checked[name] = list(values)
        if not checked[name]:
            raise ValueError(f"control {name!r} has no values; give at least one")
        labels = [_label(value) for value in checked[name]]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(
                f"control {name!r} shows {', '.join(twice)} more than once; "
                "give values that differ in six digits"
            )
    return checked


def _initial_indices(
    controls: Mapping[str, list[Any]], initial: Mapping[str, Any] | None
) -> list[int]:
    """Position of each control at the start: what ``initial`` names, else the middle value."""
    given = dict(initial or {})
    unknown = sorted(set(given) - set(controls))
    if unknown:
        raise ValueError(f"initial names {', '.join(unknown)}; controls: {', '.join(controls)}")
    indices = []
    for name, values in controls.items():
        if name not in given:
            indices.append((len(values) - 1) // 2)
        elif given[name] in values:
            indices.append(values.index(given[name]))
        else:
            listed = ", ".join(map(_label, values))
            raise ValueError(f"initial {name}={given[name]!r} is not one of its values: {listed}")
    return indices


def _draw(draw: Callable[..., Figure], values: Mapping[str, Any], image_format: str) -> bytes:
    """One frame, encoded (``webp`` or ``png``); the figure is closed."""
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure
    from PIL import Image

    before = set(plt.get_fignums())
    try:
        figure = draw(**values)
        if not isinstance(figure, Figure):
            raise TypeError(
                f"draw must return the matplotlib Figure it has drawn, not {type(figure).__name__};"
                " end it with: return fig"
            )
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=DPI, facecolor="white")
    finally:  # an open figure would be shown once more when the cell ends
        for number in set(plt.get_fignums()) - before:
            plt.close(number)
    if image_format == "png":
        return png.getvalue()
    webp = io.BytesIO()
    Image.open(png).convert("RGB").save(webp, "WEBP", quality=_WEBP_QUALITY, method=4)
    return webp.getvalue()


def _alt_text(alt: str | Callable[..., str], values: Mapping[str, Any]) -> str:
    text = alt(**values) if callable(alt) else alt
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"explore needs a text that tells what the picture shows, not {text!r}")
    return text


_SCRIPT = """(function () {
  var root = document.getElementById(%(id)s);
  if (!root) { return; }
  var frames = %(frames)s, alts = %(alts)s, labels = %(labels)s;
  var inputs = root.querySelectorAll("input"), outputs = root.querySelectorAll("output");
  var image = root.querySelector("img"), caption = root.querySelector("figcaption");
  function move() {
    var frame = 0;
    labels.forEach(function (values, i) {
      var k = Number(inputs[i].value);
      frame = frame * values.length + k;
      outputs[i].textContent = values[k];
      inputs[i].setAttribute("aria-valuetext", values[k]);
    });
    var alt = alts[alts.length === 1 ? 0 : frame];
    image.src = frames[frame];
    image.alt = alt;
    if (caption.textContent !== alt) { caption.textContent = alt; }
  }
  inputs.forEach(function (input) { input.addEventListener("input", move); });
  move();
})();"""


def _json(value: Any) -> str:
    """JSON that may stand inside a ``<script>`` element."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")


def _spoken(control: str) -> str:
    """A control's name as readers see it: words, not an identifier."""
    return control.replace("_", " ")


def _static_html(
    element_id: str,
    labels: Mapping[str, list[str]],
    start: Sequence[int],
    frames: Sequence[str],
    alts: Sequence[str],
) -> str:
    """The widget as HTML that needs nothing else: figure, native sliders, frames, script."""
    rows = []
    for i, (name, values) in enumerate(labels.items()):
        control, shown = f"{element_id}-{i}", html.escape(values[start[i]])
        rows.append(
            f'<div class="explore-control"><label for="{control}">{html.escape(name)}</label> '
            f'<input type="range" id="{control}" min="0" max="{len(values) - 1}" step="1" '
            f'value="{start[i]}" aria-valuetext="{shown}" autocomplete="off"> '
            f'<output for="{control}">{shown}</output></div>'
        )
    first = 0
    for index, values in zip(start, labels.values()):
        first = first * len(values) + index
    alt = html.escape(alts[0 if len(alts) == 1 else first])
    script = _SCRIPT % {
        "id": _json(element_id),
        "frames": _json(frames),
        "alts": _json(alts),
        "labels": _json(list(labels.values())),
    }
    controls = "\n".join(rows)
    return (
        f'<figure class="explore" id="{element_id}">\n{controls}\n'
        f'<img src="{frames[first]}" alt="{alt}" '
        f"{_IMAGE}>\n"
        f'<figcaption aria-live="polite">{alt}</figcaption>\n</figure>\n'
        f"<script>{script}</script>"
    )


def _show_static(
    draw: Callable[..., Figure],
    controls: Mapping[str, list[Any]],
    alt: str | Callable[..., str],
    start: Sequence[int],
    name: str,
    element_id: str,
) -> None:
    count = math.prod(map(len, controls.values()))
    if count > FRAME_LIMIT:
        raise ValueError(
            f"explore {name!r} has {count} frames and may have {FRAME_LIMIT}; "
            "give the controls fewer values"
        )
    settings = [dict(zip(controls, values)) for values in itertools.product(*controls.values())]
    alts = [_alt_text(alt, values) for values in (settings if callable(alt) else settings[:1])]
    frames, size = [], 0
    for values in settings:
        image = base64.b64encode(_draw(draw, values, "webp")).decode("ascii")
        frames.append(f"data:image/webp;base64,{image}")
        size += len(frames[-1])
        if size > BYTE_LIMIT:
            raise ValueError(
                f"explore {name!r} has {size / 2**20:.1f} MB after {len(frames)} of {count} frames "
                f"and may have {BYTE_LIMIT // 2**20} MB; make the figure smaller, draw less in it, "
                "or give the controls fewer values"
            )
    labels = {_spoken(c): list(map(_label, values)) for c, values in controls.items()}
    listed = "; ".join(f"{control}: {', '.join(values)}" for control, values in labels.items())
    opening = _alt_text(alt, {c: controls[c][i] for c, i in zip(controls, start)})
    show(
        {
            "text/html": _static_html(element_id, labels, start, frames, alts),
            "text/plain": f"{opening} ({count} frames, {size / 1024:.0f} KB; {listed})",
        }
    )


def _show_live(
    draw: Callable[..., Figure],
    controls: Mapping[str, list[Any]],
    alt: str | Callable[..., str],
    start: Sequence[int],
) -> None:
    import ipywidgets
    from IPython.display import clear_output, display

    width = f"{max(map(len, controls)) + 1}ch"  # one for all, so that the sliders line up
    sliders = {
        control: ipywidgets.SelectionSlider(
            options=[(_label(value), i) for i, value in enumerate(values)],
            value=index,
            description=_spoken(control),
            continuous_update=False,
            style={"description_width": width},
        )
        for (control, values), index in zip(controls.items(), start)
    }
    picture = ipywidgets.Output()

    def redraw(change: Any = None) -> None:
        values = {control: controls[control][slider.value] for control, slider in sliders.items()}
        with picture:
            clear_output(wait=True)
            text = _alt_text(alt, values)
            png = base64.b64encode(_draw(draw, values, "png")).decode("ascii")
            # Not image/png: front ends show that without its alternative text.
            image = f'<img src="data:image/png;base64,{png}" alt="{html.escape(text)}" {_IMAGE}>'
            show({"text/html": image, "text/plain": text})

    for slider in sliders.values():
        slider.observe(redraw, names="value")
    redraw()
    display(ipywidgets.VBox([*sliders.values(), picture]))


def explore(
    draw: Callable[..., Figure],
    controls: Mapping[str, Sequence[Any]],
    *,
    name: str,
    alt: str | Callable[..., str],
    initial: Mapping[str, Any] | None = None,
) -> None:
    """Let the reader move what a figure depends on.

    In a kernel with a front end: ipywidgets sliders, and the figure is drawn anew at each move.
    With ``DLCOURSE_STATIC=1`` in the environment (headless runs): all frames are drawn now and lie
    in the page, which needs neither kernel nor network.

    Args:
        draw: ``draw(**values)`` returns a matplotlib Figure.
        controls: name of each keyword of ``draw`` and the values that it may take, in order.
        name: names the widget on its page; letters and digits of it make the HTML id.
        alt: what the picture shows, for those who do not see it: a text, or ``alt(**values)``.
        initial: value of some or all controls at the start; by default the middle one.

    Raises:
        ValueError: no name, no values, equal labels, an unknown initial value, an empty ``alt``,
            more than 400 frames or 4 MB of them (static).
        TypeError: ``draw`` does not return a Figure, or a control is a string.
    """
    checked = _checked_controls(controls)
    start = _initial_indices(checked, initial)
    element_id = _slug(name)
    if os.environ.get("DLCOURSE_STATIC") == "1":
        _show_static(draw, checked, alt, start, name, element_id)
    else:
        _show_live(draw, checked, alt, start)
