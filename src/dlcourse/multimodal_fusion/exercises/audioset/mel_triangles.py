"""121.1b: the triangles that make mel bands of frequencies."""

import torch

from dlcourse.exercises import Exercise, Mistake


def mel_triangles(frequencies, corners):
    """Return the weights of each frequency in each band, (M, F).

    frequencies: (F,), Hz, float64.
    corners: (M + 2,), Hz, float64, strictly rising. Band m rises from
    corner m to corner m + 1 and falls to corner m + 2.
    """
    low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rise = (frequencies - low) / (centre - low)  # (M, F): 0 at low, 1 at centre
    fall = (high - frequencies) / (high - centre)  # 1 at centre, 0 at high
    triangles = torch.minimum(rise, fall).clamp(min=0)
    # A triangle of height 1 has the area (high - low) / 2.
    return triangles * 2 / (high - low)


def cases(rng):
    """Bands of any widths; frequencies between, on and beyond the corners."""
    bands, n = int(rng.integers(1, 6)), int(rng.integers(1, 12))
    corners = rng.uniform(0, 50) + rng.uniform(5, 400, bands + 2).cumsum()
    frequencies = rng.uniform(0, corners[-1] * 1.1, n)
    frequencies[0] = rng.choice(corners)
    return {"frequencies": torch.from_numpy(frequencies), "corners": torch.from_numpy(corners)}


def edges():
    """One band, one frequency, frequencies on the corners, none inside."""
    f = torch.linspace(0, 400, 9, dtype=torch.float64)
    c = torch.tensor([100.0, 150.0, 300.0, 320.0], dtype=torch.float64)
    return {
        "two bands": {"frequencies": f, "corners": c},
        "one band": {"frequencies": f, "corners": c[:3]},
        "one frequency, at a centre": {"frequencies": c[1:2].clone(), "corners": c},
        "all frequencies beyond the bands": {"frequencies": f + 1000, "corners": c},
        "the frequencies are the corners": {"frequencies": c.clone(), "corners": c},
    }


def _parts(frequencies, corners):
    low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rise = (frequencies - low) / (centre - low)
    fall = (high - frequencies) / (high - centre)
    return low, centre, high, rise, fall


def listing_convention_left_open(frequencies, corners):
    *_, rise, fall = _parts(frequencies, corners)
    return torch.minimum(rise, fall).clamp(min=0)


def not_clamped(frequencies, corners):
    low, _, high, rise, fall = _parts(frequencies, corners)
    return torch.minimum(rise, fall) * 2 / (high - low)


def rectangles(frequencies, corners):
    low, _, high, _, _ = _parts(frequencies, corners)
    inside = ((frequencies >= low) & (frequencies <= high)).to(frequencies.dtype)
    return inside / (high - low)


def maximum(frequencies, corners):
    low, _, high, rise, fall = _parts(frequencies, corners)
    return torch.maximum(rise, fall).clamp(min=0) * 2 / (high - low)


def sums_to_one(frequencies, corners):
    *_, rise, fall = _parts(frequencies, corners)
    t = torch.minimum(rise, fall).clamp(min=0)
    return t / t.sum(1, keepdim=True).clamp(min=1e-12)


def area_a_half(frequencies, corners):
    low, _, high, rise, fall = _parts(frequencies, corners)
    return torch.minimum(rise, fall).clamp(min=0) / (high - low)


def symmetric(frequencies, corners):
    low, centre, high, _, _ = _parts(frequencies, corners)
    half = (high - low) / 2
    return (1 - (frequencies - (low + high) / 2).abs() / half).clamp(min=0) / half


def transposed(frequencies, corners):
    return mel_triangles(frequencies, corners).T


EXERCISE = Exercise(
    key="121.1b.mel-triangles",
    title="Triangles of equal area",
    difficulty="implement",
    statement=r"""
Write the filters $H$ of the log-mel spectrogram. Band $m$ has the corners $c_m < c_{m+1} < c_{m+2}$, in Hz. Its
weight for the frequency $f$ rises in a line from 0 at $c_m$ to its peak at $c_{m+1}$, falls in a
line to 0 at $c_{m+2}$, and is 0 outside. Each triangle, as a function of $f$ in Hz, has **area 1**.

Return a tensor with one row a band and one column a frequency.
""",
    imports="import torch",
    reference=mel_triangles,
    cases=cases,
    edges=edges,
    hints=[
        "Write two lines for each band: one that is 0 at the first corner and 1 at the second, "
        "one that is 1 at the second and 0 at the third.",
        "The triangle is the smaller of the two lines, and never less than 0.",
        "A triangle of height 1 over a base of b Hz has area b / 2: multiply by 2 / b.",
    ],
    mistakes={
        "listing_convention_left_open": Mistake(
            answer=listing_convention_left_open,
            hint="each triangle has height 1, as in torchaudio's default; the document's listing "
            "does not say which is meant. Wide bands, those of high pitch, then collect more. "
            "Divide by the area, half the base.",
        ),
        "not_clamped": Mistake(
            answer=not_clamped,
            hint="outside of its band a triangle goes on below 0. It must be 0 there.",
        ),
        "rectangles": Mistake(
            answer=rectangles,
            hint="all frequencies of a band have the same weight. The weight is largest at the "
            "middle corner, and 0 at the outer ones.",
        ),
        "maximum": Mistake(
            answer=maximum,
            hint="you take the larger of the two lines. The triangle lies below both.",
        ),
        "sums_to_one": Mistake(
            answer=sums_to_one,
            hint="the weights of a band are made to sum to 1 over the given frequencies. Area 1 "
            "is meant over all Hz, so it does not depend on which frequencies are given.",
        ),
        "area_a_half": Mistake(
            answer=area_a_half,
            hint="the area is 1/2: a triangle has half the area of the rectangle around it.",
        ),
        "symmetric": Mistake(
            answer=symmetric,
            hint="the peak lies half-way between the outer corners. It belongs at the middle "
            "corner, which on the mel scale is nearer to the lower one.",
        ),
        "transposed": Mistake(
            answer=transposed,
            hint="rows and columns are swapped: one row a band.",
        ),
    },
)
