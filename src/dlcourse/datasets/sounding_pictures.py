"""Short clips with sound and picture, in which things happen at the same time.

One to three events lie in a clip, one after another. Each has a sound (one of four) and a picture
(one of four), which begin and end together. The sixteen classes are the *pairs*: "hum with ring".
Whoever knows which sounds and which pictures occur, but not when, can only guess the pairs.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

SOUNDS = ("hum", "rise", "fall", "hiss")
PICTURES = ("ring", "square", "plus", "slash")
MAX_EVENTS = 3
_LONGEST, _GAP = 0.26, 0.04  # seconds: an event, and the rest between two


class EventFactors(NamedTuple):
    """What clips are made from; each ``(N, 3)``, an event a column. Times are in seconds."""

    present: Tensor  # bool: events that the clip has; they come first, in order of time
    sound: Tensor  # index into SOUNDS
    picture: Tensor  # index into PICTURES
    onset: Tensor
    duration: Tensor
    pitch: Tensor  # 0 … 1, from the lowest to the highest of a sound's range
    x: Tensor  # centre of the picture, in units of the side
    y: Tensor
    radius: Tensor


class EventClips(NamedTuple):
    """Rendered clips, and the factors that they show."""

    waveform: Tensor  # float32 (N, sample_rate · seconds)
    frames: Tensor  # float32 (N, frame_rate · seconds, size, size)
    target: Tensor  # float32 (N, 16): 1 for each pair that occurs; class 4 · sound + picture
    factors: EventFactors


def pair_targets(factors: EventFactors) -> Tensor:
    """Which of the 16 pairs occur in each clip: float32 ``(N, 16)``, class 4 · sound + picture."""
    pair = len(PICTURES) * factors.sound + factors.picture  # (N, 3)
    target = torch.zeros(len(pair), len(SOUNDS) * len(PICTURES), device=pair.device)
    return target.scatter_reduce(1, pair, factors.present.float(), "amax")


def event_factors(n: int, generator: torch.Generator, *, seconds: float = 1.0) -> EventFactors:
    """Draw the events of ``n`` clips: 1, 2 or 3 of them, pairs independent and equally likely.

    Events do not overlap. All is drawn on the generator's device.

    Raises ValueError for n < 1, or a clip too short for three events.
    """
    if n < 1:
        raise ValueError(f"need n >= 1 clips, got {n}")
    step = _LONGEST + _GAP
    if seconds < MAX_EVENTS * step:
        raise ValueError(f"three events need {MAX_EVENTS * step:.2f} s, got seconds={seconds}")
    device, shape = generator.device, (n, MAX_EVENTS)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator, device=device)

    def choice(options: tuple[str, ...]) -> Tensor:
        return torch.randint(len(options), shape, generator=generator, device=device)

    count = torch.randint(1, MAX_EVENTS + 1, (n, 1), generator=generator, device=device)
    order = torch.arange(MAX_EVENTS, device=device)
    present = order < count  # (N, 3)
    # Sorted points in what is left when each event has its place: gaps of all sizes, no overlap.
    free = torch.where(present, uniform(0, 1), 1.0).sort(1).values * (seconds - count * step)
    return EventFactors(
        present=present,
        sound=choice(SOUNDS),
        picture=choice(PICTURES),
        onset=free + order * step,
        duration=uniform(0.16, _LONGEST),
        pitch=uniform(0, 1),
        x=uniform(0.35, 0.65),
        y=uniform(0.35, 0.65),
        radius=uniform(0.22, 0.3),
    )


def event_clips(
    n: int,
    generator: torch.Generator,
    *,
    seconds: float = 1.0,
    sample_rate: int = 8000,
    frame_rate: int = 16,
    size: int = 16,
    audio_noise: float | Tensor = 0.0,
    video_noise: float | Tensor = 0.0,
    lag: float = 0.0,
    factors: EventFactors | None = None,
) -> EventClips:
    """Synchronised sound and picture events, rendered on the generator's device.

    Args:
        n: number of clips.
        generator: draws factors and noise, and says by its device where all is made.
        seconds: length of a clip.
        sample_rate: samples a second, at least 6,000 (the highest sound has 2,700 Hz).
        frame_rate: pictures a second; size: their side in pixels, at least 8.
        audio_noise: standard deviation of white noise in the sound, whose events have an amplitude
            of about 0.5; one for all, or ``(N,)``.
        video_noise: the same for the pictures, whose events are 1 on a ground of 0.
        lag: seconds by which pictures come after their sounds (negative: before).
        factors: what to render, in place of a new draw.

    Returns:
        ``EventClips``.

    Raises:
        ValueError: a count, rate or noise out of range, or factors of another number of clips.
    """
    if sample_rate < 6000 or frame_rate < 1 or size < 8:
        raise ValueError(
            "need sample_rate >= 6000, frame_rate >= 1 and size >= 8, got "
            f"{sample_rate}, {frame_rate} and {size}"
        )
    device = generator.device
    noises = []
    for name, noise in (("audio_noise", audio_noise), ("video_noise", video_noise)):
        noise = torch.as_tensor(noise, dtype=torch.float32, device=device)
        if noise.shape not in ((), (n,)) or not (noise >= 0).all():
            raise ValueError(f"{name} is a number >= 0, or one for each of {n} clips")
        noises.append(noise.expand(n))
    if factors is None:
        factors = event_factors(n, generator, seconds=seconds)
    if len(factors.sound) != n:
        raise ValueError(f"{len(factors.sound)} clips in factors, but n = {n}")

    waveform = _sound(factors, seconds, sample_rate, generator)
    frames = _pictures(factors, seconds, frame_rate, size, lag)
    for x, noise in ((waveform, noises[0]), (frames, noises[1])):
        drawn = torch.randn(x.shape, generator=generator, device=device)
        x.addcmul_(drawn, noise.view(-1, *[1] * (x.dim() - 1)))
    return EventClips(waveform, frames, pair_targets(factors), factors)


def _sound(f: EventFactors, seconds: float, rate: int, generator: torch.Generator) -> Tensor:
    """The sum of the events' sounds: (N, samples)."""
    device = f.onset.device
    time = (torch.arange(round(seconds * rate), device=device) + 0.5) / rate
    wave = torch.zeros(len(f.onset), len(time), device=device)
    for event in range(MAX_EVENTS):
        kind, pitch = f.sound[:, event, None], f.pitch[:, event, None]
        length = f.duration[:, event, None]
        t = time - f.onset[:, event, None]  # (N, samples), 0 at the onset
        share = t / length
        envelope = torch.where((share > 0) & (share < 1), (math.pi * share).sin(), 0.0)
        base = 180 + 140 * pitch  # Hz
        hum = sum((2 * math.pi * k * base * t).sin() / k for k in (1, 2, 3)) / 1.5
        low, span = 500 + 300 * pitch, 1600 + 300 * pitch  # a glide over this many Hz
        rise = (2 * math.pi * (low * t + span * t * t / (2 * length))).sin()
        fall = (2 * math.pi * ((low + span) * t - span * t * t / (2 * length))).sin()
        white = torch.randn(wave.shape, generator=generator, device=device)
        hiss = (white - white.roll(1, 1)) * (0.4 + 0.4 * pitch)  # high frequencies
        sound = torch.where(kind == 0, hum, torch.where(kind == 1, rise, fall))
        sound = torch.where(kind == 3, hiss, sound)
        wave += 0.5 * f.present[:, event, None] * envelope * sound
    return wave


def _pictures(f: EventFactors, seconds: float, rate: int, size: int, lag: float) -> Tensor:
    """The events' pictures, each frame at its middle: (N, frames, size, size)."""
    device = f.onset.device
    time = (torch.arange(round(seconds * rate), device=device) + 0.5) / rate
    place = (torch.arange(size, device=device) + 0.5) / size
    v, u = torch.meshgrid(place, place, indexing="ij")  # down, right
    f4 = EventFactors(*(value[..., None, None] for value in f))  # (N, 3, 1, 1)
    p, q = (u - f4.x) / f4.radius, (v - f4.y) / f4.radius  # (N, 3, S, S)
    ring = (torch.hypot(p, q) - 0.75).abs() - 0.25
    square = torch.maximum(p.abs(), q.abs()) - 0.75
    plus = torch.minimum(
        torch.maximum(p.abs() - 0.25, q.abs() - 1), torch.maximum(q.abs() - 0.25, p.abs() - 1)
    )
    slash = torch.maximum((p + q).abs() - 0.4, torch.maximum(p.abs(), q.abs()) - 1)
    kind = f4.picture
    distance = torch.where(kind == 0, ring, torch.where(kind == 1, square, plus))
    distance = torch.where(kind == 3, slash, distance)
    cover = (0.5 - distance * f4.radius * size).clamp(0, 1)  # edges smoothed over one pixel
    start = (f.onset + lag)[..., None]
    shown = (time >= start) & (time < start + f.duration[..., None])  # (N, 3, frames)
    shown = shown & f.present[..., None]
    return torch.einsum("nef,nehw->nfhw", shown.float(), cover).clamp(0, 1)
