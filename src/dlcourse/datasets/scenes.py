"""Painted scenes of one or two objects with a caption from a grammar, as many as wanted.

A scene has one object at one of nine places, or two with a relation. An object has a shape, a
colour, a size and a texture. Captions name all of it, or leave some out. A sixth of the pairs of
colour and shape is held out: a model can be trained without ever seeing a purple ring, and asked
for one. Everything is drawn in batches, on the device of the generator.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

OBJECT_SHAPES = ("circle", "square", "triangle", "cross", "ring", "star")
OBJECT_COLOURS = ("red", "yellow", "green", "blue", "purple", "white")
OBJECT_SIZES = ("small", "large")
OBJECT_TEXTURES = ("plain", "striped", "dotted")
RELATIONS = ("left of", "right of", "above", "below")
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "centre", "right")
PREFIXES = ("", "a picture of", "a drawing of", "there is")

#: All words of the captions. Token 0 is padding, 1 the start and 2 the end of a text, and word k is
#: token k + 3.
SCENE_WORDS = (
    *OBJECT_SHAPES, *OBJECT_COLOURS, *OBJECT_SIZES, *OBJECT_TEXTURES,
    *("left", "right", "above", "below", "top", "middle", "bottom", "centre"),
    *("a", "of", "at", "the", "picture", "drawing", "there", "is"),
)  # fmt: skip
SCENE_CONTEXT = 18  # tokens of the longest caption

#: Pairs (colour, shape) that scenes have only where they are asked for: one for each colour and
#: each shape.
HELD_OUT = tuple((colour, (colour + 3) % 6) for colour in range(6))

_RGB = torch.tensor(
    [(230, 40, 40), (240, 210, 40), (50, 190, 70), (50, 90, 240), (170, 60, 220), (245, 245, 245)]
)
_RADIUS = (0.10, 0.17)  # small and large, in units of the picture's side
_TOKEN = {"": 0} | {word: k + 3 for k, word in enumerate(SCENE_WORDS)}
_START, _END = 1, 2


class SceneFactors(NamedTuple):
    """What scenes are made from. Object 1 of a scene without a relation is not painted."""

    shape: Tensor  # (N, 2), index into OBJECT_SHAPES
    colour: Tensor  # (N, 2), index into OBJECT_COLOURS
    size: Tensor  # (N, 2), index into OBJECT_SIZES
    texture: Tensor  # (N, 2), index into OBJECT_TEXTURES
    relation: Tensor  # (N,), of object 0 to object 1, index into RELATIONS; -1 for one object
    place: Tensor  # (N,), of a single object: 3 · row + column
    x: Tensor  # (N, 2), from the left, in units of the side
    y: Tensor  # (N, 2), from the top
    ground: Tensor  # (N,), brightness of the background
    light: Tensor  # (N, 2), brightness of the object

    def swap_objects(self) -> SceneFactors:
        """The same words with the objects exchanged, "A left of B" → "B left of A": the caption
        of another scene where there is a relation."""
        return self._replace(
            **{name: getattr(self, name).flip(1) for name in ("shape", "colour", "size", "texture")}
        )

    def swap_colours(self) -> SceneFactors:
        """The two objects' colours exchanged."""
        return self._replace(colour=self.colour.flip(1))

    def replace_colour(self) -> SceneFactors:
        """Object 0 gets the next colour, which may be that of object 1."""
        colour = self.colour.clone()
        colour[:, 0] = (colour[:, 0] + 1) % len(OBJECT_COLOURS)
        return self._replace(colour=colour)

    def rows(self, index: Tensor | slice) -> SceneFactors:
        """The factors of some of the scenes."""
        return SceneFactors(*(value[index] for value in self))


class Scenes(NamedTuple):
    """Pictures, captions and what both are made from."""

    images: Tensor  # (N, 3, size, size), float32 in [0, 1]
    tokens: Tensor  # (N, L <= SCENE_CONTEXT)
    factors: SceneFactors


def scene_factors(
    n: int,
    generator: torch.Generator,
    *,
    combinations: str = "seen",
    pairs: float = 0.75,
) -> SceneFactors:
    """Draw the factors of n scenes, on the generator's device.

    Args:
        combinations: "seen" leaves the pairs of colour and shape of ``HELD_OUT`` out, "unseen" has
            only them, "all" draws from all.
        pairs: share of the scenes that have two objects.

    Raises ValueError for n < 1, another word, or a share outside of [0, 1].
    """
    if n < 1:
        raise ValueError(f"need n >= 1 scenes, got {n}")
    if combinations not in ("seen", "unseen", "all"):
        raise ValueError(f"combinations must be seen, unseen or all, got {combinations!r}")
    if not 0 <= pairs <= 1:
        raise ValueError(f"pairs is a share of the scenes, in [0, 1]: got {pairs}")
    device = generator.device

    def choice(count: int, *shape: int) -> Tensor:
        return torch.randint(count, shape, generator=generator, device=device)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device) * (high - low) + low

    every = [(c, s) for c in range(len(OBJECT_COLOURS)) for s in range(len(OBJECT_SHAPES))]
    allowed = {
        "seen": [pair for pair in every if pair not in HELD_OUT],
        "unseen": list(HELD_OUT),
        "all": every,
    }[combinations]
    drawn = torch.tensor(allowed, device=device)[choice(len(allowed), n, 2)]  # (N, 2, 2)
    two = uniform(0, 1, n) < pairs
    relation = choice(len(RELATIONS), n)
    place = choice(9, n)

    # Two objects lie apart along the relation's axis, and about level across it.
    near, far = uniform(0.2, 0.34, n), uniform(0.66, 0.8, n)
    first = (relation % 2 == 0)[:, None]  # "left of" and "above": object 0 comes first
    along = torch.where(first, torch.stack([near, far], 1), torch.stack([far, near], 1))
    across = uniform(0.4, 0.6, n, 2)
    horizontal = (relation < 2)[:, None]
    single_x = (0.25 + 0.25 * (place % 3) + uniform(-0.05, 0.05, n))[:, None]
    single_y = (0.25 + 0.25 * (place // 3) + uniform(-0.05, 0.05, n))[:, None]
    return SceneFactors(
        shape=drawn[..., 1],
        colour=drawn[..., 0],
        size=choice(len(OBJECT_SIZES), n, 2),
        texture=choice(len(OBJECT_TEXTURES), n, 2),
        relation=torch.where(two, relation, -1),
        place=place,
        x=torch.where(two[:, None], torch.where(horizontal, along, across), single_x),
        y=torch.where(two[:, None], torch.where(horizontal, across, along), single_y),
        ground=uniform(0.05, 0.3, n),
        light=uniform(0.8, 1.0, n, 2),
    )


def _distance(shape: int, p: Tensor, q: Tensor) -> Tensor:
    """Signed distance to a shape of about unit radius, negative inside."""
    length = (p * p + q * q).sqrt()
    square = torch.maximum(p.abs(), q.abs())
    if OBJECT_SHAPES[shape] == "circle":
        return length - 1
    if OBJECT_SHAPES[shape] == "square":
        return square - 0.85
    if OBJECT_SHAPES[shape] == "triangle":
        return torch.maximum(q - 0.7, p.abs() * 0.87 - 0.5 * (q + 1))
    if OBJECT_SHAPES[shape] == "cross":
        arms = torch.minimum(
            torch.maximum(p.abs() - 0.33, q.abs() - 1), torch.maximum(q.abs() - 0.33, p.abs() - 1)
        )
        return arms
    if OBJECT_SHAPES[shape] == "ring":
        return (length - 0.75).abs() - 0.25
    # a star with five points
    angle = torch.atan2(p, -q)
    return length - 0.65 - 0.4 * torch.cos(5 * angle)


def render_scenes(factors: SceneFactors, size: int = 48) -> Tensor:
    """Paint scenes: float32 (N, 3, size, size) in [0, 1], on the factors' device.

    Raises ValueError for a size below 16 pixels.
    """
    if size < 16:
        raise ValueError(f"textures can't be told apart below 16 pixels, got size {size}")
    device = factors.x.device
    place = (torch.arange(size, device=device) + 0.5) / size
    v, u = torch.meshgrid(place, place, indexing="ij")  # (S, S): down, right
    picture = factors.ground.view(-1, 1, 1, 1).expand(-1, 3, size, size)
    radii, rgb = torch.tensor(_RADIUS, device=device), (_RGB / 255).to(device)
    for k in range(2):
        radius = radii[factors.size[:, k]].view(-1, 1, 1)
        p = (u - factors.x[:, k].view(-1, 1, 1)) / radius  # (N, S, S)
        q = (v - factors.y[:, k].view(-1, 1, 1)) / radius
        distance = torch.zeros_like(p)
        for shape in range(len(OBJECT_SHAPES)):
            chosen = (factors.shape[:, k] == shape).view(-1, 1, 1)
            distance = torch.where(chosen, _distance(shape, p, q), distance)
        cover = (0.5 - distance * radius * size).clamp(0, 1)  # edges smoothed over one pixel
        # Textures have the period of a twelfth of the picture, whatever the object's size
        turn = 2 * torch.pi * 12
        stripes = 0.5 + 0.5 * torch.tanh(2 * torch.sin(turn * u))
        dots = torch.where(torch.cos(turn * u / 1.2) * torch.cos(turn * v / 1.2) > 0.3, 0.0, 1.0)
        patterns = torch.stack([torch.ones_like(u), 0.25 + 0.75 * stripes, 0.25 + 0.75 * dots])
        pattern = patterns[factors.texture[:, k]]  # (N, S, S)
        there = (factors.relation >= 0).view(-1, 1, 1) if k else torch.ones_like(cover)
        cover = (cover * there)[:, None]
        paint = rgb[factors.colour[:, k]] * factors.light[:, k, None]  # (N, 3)
        picture = picture * (1 - cover) + paint[:, :, None, None] * pattern[:, None] * cover
    return picture


def _words(options: tuple[str, ...], index: Tensor, words: int = 1) -> Tensor:
    """Tokens (N, words) of chosen options, which may have several words or none."""
    rows = [(option.split() + [""] * words)[:words] for option in options]
    table = torch.tensor([[_TOKEN[word] for word in row] for row in rows], device=index.device)
    return table[index]


def scene_tokens(
    factors: SceneFactors, generator: torch.Generator | None = None, *, drop: float = 0.3
) -> Tensor:
    """Captions as tokens: (N, SCENE_CONTEXT), padded with 0.

    Without a generator, a caption names everything: "a small striped red circle left of a large
    plain blue star", or "... at the top left". With one, it begins with one of ``PREFIXES``, and
    each size, texture and place is left out with probability ``drop``.
    """
    n, device = len(factors.relation), factors.relation.device
    two = factors.relation >= 0

    def constant(text: str) -> Tensor:
        return _words((text,), torch.zeros(n, dtype=torch.long, device=device), len(text.split()))

    def maybe(tokens: Tensor) -> Tensor:
        if generator is None:
            return tokens
        keep = torch.rand(n, 1, generator=generator, device=device) >= drop
        return tokens * keep

    def phrase(k: int) -> Tensor:
        return torch.cat(
            [
                constant("a"),
                maybe(_words(OBJECT_SIZES, factors.size[:, k])),
                maybe(_words(OBJECT_TEXTURES, factors.texture[:, k])),
                _words(OBJECT_COLOURS, factors.colour[:, k]),
                _words(OBJECT_SHAPES, factors.shape[:, k]),
            ],
            1,
        )

    parts = [constant("a")[:, :0]]
    if generator is not None:
        prefix = torch.randint(len(PREFIXES), (n,), generator=generator, device=device)
        parts = [_words(PREFIXES, prefix, 3)]
    row, column = _words(ROWS, factors.place // 3), _words(COLUMNS, factors.place % 3)
    where = maybe(torch.cat([constant("at the"), row, column], 1))
    relation = _words(RELATIONS, factors.relation.clamp(min=0), 2)
    parts += [
        phrase(0),
        where * ~two[:, None],
        torch.cat([relation, phrase(1)], 1) * two[:, None],
    ]
    words = torch.cat(parts, 1)
    return _compact(words)


def _compact(words: Tensor) -> Tensor:
    """Start, the words that are not left out, end, padding: (N, SCENE_CONTEXT)."""
    n = len(words)
    order = (words == 0).int().argsort(dim=1, stable=True)  # the empty ones to the right
    words = words.gather(1, order)
    count = (words > 0).sum(1)
    room = max(words.shape[1] + 2, SCENE_CONTEXT)
    tokens = words.new_zeros(n, room)
    tokens[:, 0] = _START
    tokens[:, 1 : 1 + words.shape[1]] = words
    tokens[torch.arange(n, device=words.device), count + 1] = _END
    return tokens[:, :SCENE_CONTEXT]


def scene_captions(tokens: Tensor) -> list[str]:
    """Tokens (N, L) as texts, without start, end and padding."""
    return [" ".join(SCENE_WORDS[t - 3] for t in row if t > _END) for row in tokens.tolist()]


def captioned_scenes(
    n: int,
    generator: torch.Generator,
    *,
    size: int = 48,
    combinations: str = "seen",
    pairs: float = 0.75,
    full: bool = False,
    batch: int = 4096,
) -> Scenes:
    """Scenes with captions, drawn and painted in batches on the generator's device.

    Args:
        n: how many.
        size: side of the pictures, pixels.
        combinations, pairs: as ``scene_factors`` takes them.
        full: captions that name everything; by default they are worded at random.
        batch: scenes painted at a time.

    Raises ValueError: as ``scene_factors`` and ``render_scenes``.
    """
    factors = scene_factors(n, generator, combinations=combinations, pairs=pairs)
    tokens = scene_tokens(factors, None if full else generator)
    images = [
        render_scenes(factors.rows(slice(start, start + batch)), size)
        for start in range(0, n, batch)
    ]
    return Scenes(torch.cat(images), tokens, factors)
