"""Painted pictures with several factors, made from a seed: as many as wanted, at any size."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from dlcourse.datasets.splits import Split, Splits

SHAPES = ("disc", "ring", "square", "triangle", "plus", "star", "crescent", "bar")
HUES = ("red", "yellow", "green", "cyan", "blue", "magenta")
TEXTURES = ("flat", "stripes", "checks", "waves")


class ShapeFactors(NamedTuple):
    """What a picture of ``shapes`` is made from: one value an image, each tensor ``(N,)``.

    Lengths and positions are in units of the image's side, angles in radians, colours in [0, 1].
    """

    shape: Tensor  # index into SHAPES
    hue: Tensor  # index into HUES: the colour of the shape
    texture: Tensor  # index into TEXTURES: the pattern of the background
    x: Tensor  # centre of the shape, from the left
    y: Tensor  # centre of the shape, from the top
    radius: Tensor
    angle: Tensor
    hue_shift: Tensor  # the shape's hue is HUES[hue] moved by this, in turns of the colour circle
    value: Tensor  # brightness of the shape
    ground_hue: Tensor  # of the background
    ground_value: Tensor  # brightness of the background
    period: Tensor  # of the background's pattern
    direction: Tensor  # of the background's pattern


def shape_factors(
    n: int, generator: torch.Generator, *, max_turn: float = 1.0
) -> ShapeFactors:
    """Draw the factors of ``n`` pictures, all independent; on the generator's device.

    Angles are uniform in 0 … ``max_turn`` of a full turn.

    Raises ValueError for n < 1, or max_turn outside of [0, 1].
    """
    if n < 1:
        raise ValueError(f"need n >= 1 pictures, got {n}")
    if not 0 <= max_turn <= 1:
        raise ValueError(f"max_turn is a share of a full turn, in [0, 1]: got {max_turn}")
    device = generator.device

    def choice(options: tuple[str, ...]) -> Tensor:
        return torch.randint(len(options), (n,), generator=generator, device=device)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(n, generator=generator, device=device) * (high - low) + low

    return ShapeFactors(
        shape=choice(SHAPES),
        hue=choice(HUES),
        texture=choice(TEXTURES),
        x=uniform(0.3, 0.7),
        y=uniform(0.3, 0.7),
        radius=uniform(0.2, 0.32),
        angle=uniform(0, 2 * math.pi * max_turn),
        hue_shift=uniform(-0.05, 0.05),
        value=uniform(0.65, 1.0),
        ground_hue=uniform(0, 1),
        ground_value=uniform(0.1, 0.5),
        period=uniform(0.15, 0.35),
        direction=uniform(0, 2 * math.pi),
    )


def render_shapes(factors: ShapeFactors, size: int) -> Tensor:
    """Paint the pictures: float32 ``(N, 3, size, size)`` in [0, 1], on the factors' device.

    Edges are smoothed over one pixel, so the same factors can be painted at any size.

    Raises ValueError for a size below 8 pixels.
    """
    if size < 8:
        raise ValueError(f"shapes can't be told apart below 8 pixels, got size {size}")
    place = (torch.arange(size, device=factors.x.device) + 0.5) / size
    v, u = torch.meshgrid(place, place, indexing="ij")  # (S, S): down, right
    f = ShapeFactors(*(value.view(-1, 1, 1) for value in factors))

    # The background's pattern: -1 … 1 times a quarter of its brightness.
    along = (u * f.direction.cos() + v * f.direction.sin()) * 2 * math.pi / f.period
    across = (v * f.direction.cos() - u * f.direction.sin()) * 2 * math.pi / f.period
    stripes = torch.tanh(3 * along.sin())
    checks = torch.tanh(6 * along.sin() * across.sin())
    waves = (along + 2 * (across / 2).sin()).sin()
    patterns = torch.stack([torch.zeros_like(stripes), stripes, checks, waves])
    pattern = patterns[factors.texture, torch.arange(len(factors.x))]  # (N, S, S)
    ground = _hsv(f.ground_hue, 0.5, f.ground_value * (1 + 0.5 * pattern))

    # Coordinates in which every shape is upright, at the origin, of about unit radius.
    p, q = (u - f.x) / f.radius, (v - f.y) / f.radius
    p, q = p * f.angle.cos() + q * f.angle.sin(), q * f.angle.cos() - p * f.angle.sin()
    distance = torch.empty_like(p)
    for index, name in enumerate(SHAPES):
        chosen = factors.shape == index
        distance[chosen] = _signed_distance(name, p[chosen], q[chosen])
    cover = (0.5 - distance * f.radius * size).clamp(0, 1)[:, None]  # (N, 1, S, S)

    hue = (f.hue / len(HUES) + f.hue_shift) % 1
    paint = _hsv(hue, 0.85, f.value.expand_as(distance))
    return paint * cover + ground * (1 - cover)


def shapes(
    seed: int = 0,
    *,
    n_train: int = 4000,
    n_validation: int = 1000,
    n_test: int = 2000,
    size: int = 32,
    label: str = "shape",
    max_turn: float = 1.0,
    device: torch.device | str = "cpu",
) -> Splits:
    """Painted pictures with several factors: a shape of some colour on a patterned background.

    Eight shapes, six hues and four textures, all independent, besides position, radius, angle and
    brightness. Any of the first three can be the label, so that one can ask what a representation
    has kept. Images are generated: there are as many as wanted, at any size.

    Args:
        seed: chooses all pictures; the splits have streams of their own, so that the size of one
            does not change another.
        n_train, n_validation, n_test: pictures in each part.
        size: side in pixels, at least 8.
        label: "shape", "hue" or "texture". The images do not depend on it.
        max_turn: shapes are turned by up to this share of a full turn; smaller is easier.
        device: where to paint, and leave, the pictures. They are the same on every device, but
            for rounding.

    Returns:
        ``Splits`` of ``x``: float32 ``(N, 3, size, size)`` in [0, 1], and ``y``: int64 ``(N,)``.

    Raises:
        ValueError: an unknown label, a count or size out of range.
    """
    if label not in ("shape", "hue", "texture"):
        raise ValueError(f"label must be 'shape', 'hue' or 'texture', got {label!r}")
    parts = []
    for part, n in enumerate((n_train, n_validation, n_test)):
        generator = torch.Generator().manual_seed(3 * seed + part)
        drawn = shape_factors(n, generator, max_turn=max_turn)
        factors = ShapeFactors(*(value.to(device) for value in drawn))
        parts.append(Split(render_shapes(factors, size), getattr(factors, label)))
    return Splits(*parts)


def _signed_distance(name: str, p: Tensor, q: Tensor) -> Tensor:
    """How far a point is outside of a shape (inside: negative), about; in units of its radius."""
    r = torch.hypot(p, q)
    if name == "disc":
        return r - 0.85
    if name == "ring":
        return (r - 0.75).abs() - 0.22
    if name == "square":
        return torch.maximum(p.abs(), q.abs()) - 0.75
    if name == "triangle":
        slope = math.sqrt(3) / 2
        return torch.maximum(torch.maximum(q, slope * p - q / 2), -slope * p - q / 2) - 0.55
    if name == "plus":
        bars = [torch.maximum(a.abs() - 0.28, b.abs() - 0.95) for a, b in ((p, q), (q, p))]
        return torch.minimum(*bars)
    if name == "star":
        turn = torch.atan2(q, p) * 5 / (2 * math.pi)
        tip = 2 * (turn - turn.round()).abs()  # 0 at the five tips, 1 between them
        return 0.7 * (r - (1.1 - 0.7 * tip))
    if name == "crescent":
        return torch.maximum(r - 0.95, 0.8 - torch.hypot(p - 0.5, q))
    return torch.maximum(p.abs() - 1.0, q.abs() - 0.38)  # bar


def _hsv(hue: Tensor, saturation: float, value: Tensor) -> Tensor:
    """Hue, saturation, value in [0, 1] to red, green, blue: (N, H, W) → (N, 3, H, W)."""
    # f(n) = v − v s max(0, min(k, 4 − k, 1)),  k = (n + 6 h) mod 6;  n = 5, 3, 1 for r, g, b
    channels = []
    for n in (5, 3, 1):
        k = (n + 6 * hue) % 6
        channels.append(value * (1 - saturation * torch.minimum(k, 4 - k).clamp(0, 1)))
    return torch.stack(channels, 1)
