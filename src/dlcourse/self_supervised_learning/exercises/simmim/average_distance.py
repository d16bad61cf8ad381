"""120.1c: the AvgDist of a mask, the number that SimMIM's authors choose masks by."""

import torch

from dlcourse.exercises import Exercise, Mistake


def mean_distance_to_visible(mask, patch_size):
    """Return the mean distance, in pixels, of hidden pixels to the nearest visible one (a float).

    mask: (rows, columns) of patches of patch_size, 1 = hidden, some of each.
    """
    pixels = mask.repeat_interleave(patch_size, 0).repeat_interleave(patch_size, 1)
    hidden = (pixels == 1).nonzero().double()  # (n, 2): row and column of each hidden pixel
    visible = (pixels == 0).nonzero().double()
    distance = torch.cdist(hidden, visible)  # (n, m), Euclidean
    return distance.min(1).values.mean().item()


def cases(rng):
    """A grid of 9 to 25 patches, at least half of them hidden, at least three visible."""
    rows, columns = (int(n) for n in rng.integers(3, 6, size=2))
    order = rng.uniform(size=(rows, columns)).ravel().argsort().argsort()
    count = int(rng.integers(rows * columns // 2, rows * columns - 2))
    mask = (order < count).astype(float).reshape(rows, columns)
    return {"mask": torch.from_numpy(mask), "patch_size": int(rng.integers(3, 6))}


def edges():
    """A row, a column, one clue only, patches of one pixel, and a chequerboard."""
    grid = torch.tensor([[1, 1, 0, 1], [1, 1, 1, 1], [1, 1, 1, 1]], dtype=torch.float64)
    chequered = torch.tensor([[1, 0, 1], [0, 1, 0]], dtype=torch.float64)
    return {
        "one visible patch": {"mask": grid, "patch_size": 3},
        "one hidden patch": {"mask": 1 - grid, "patch_size": 4},
        "patches of one pixel": {"mask": grid, "patch_size": 1},
        "one row": {"mask": grid[:1], "patch_size": 2},
        "one column": {"mask": grid[:, 1:2].clone().fill_(1).index_fill(0, torch.tensor(0), 0),
                       "patch_size": 2},
        "a chequerboard": {"mask": chequered, "patch_size": 3},
    }  # fmt: skip


def _points(mask, patch_size):
    pixels = mask.repeat_interleave(patch_size, 0).repeat_interleave(patch_size, 1)
    return (pixels == 1).nonzero().double(), (pixels == 0).nonzero().double()


def listing(mask, patch_size):
    """On the mask as the document makes it: of patches."""
    return mean_distance_to_visible(mask, 1)


def patches_times_size(mask, patch_size):
    return mean_distance_to_visible(mask, 1) * patch_size


def city_blocks(mask, patch_size):
    hidden, visible = _points(mask, patch_size)
    return torch.cdist(hidden, visible, p=1).min(1).values.mean().item()


def visible_count_too(mask, patch_size):
    hidden, visible = _points(mask, patch_size)
    total = torch.cdist(hidden, visible).min(1).values.sum()
    return (total / (len(hidden) + len(visible))).item()


def all_visible(mask, patch_size):
    return torch.cdist(*_points(mask, patch_size)).mean().item()


def largest(mask, patch_size):
    return torch.cdist(*_points(mask, patch_size)).min(1).values.max().item()


def turned_round(mask, patch_size):
    return mean_distance_to_visible(1 - mask, patch_size)


EXERCISE = Exercise(
    key="120.1c.average-distance",
    title="How far is the nearest clue?",
    difficulty="extend",
    statement=r"""
Two masks with the same ratio can be easy and hard. The authors of SimMIM measure a mask by its
*AvgDist*: the Euclidean distance from a hidden pixel to the nearest visible one, averaged over the
hidden pixels. Write it for a mask of patches, with distances in *pixels*, between their centres
(neighbours are 1 apart). Return a `float`.
""",
    imports="import torch",
    reference=mean_distance_to_visible,
    cases=cases,
    edges=edges,
    hints=[
        "Make a mask of pixels; then `nonzero()` gives row and column of each hidden pixel.",
        "`torch.cdist` gives all distances between two sets of points.",
        "The nearest is the minimum over the visible pixels; the mean is over the hidden ones.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="you measure between patches, on the mask as the document's listing makes it. "
            "Distances in patches say nothing about how far apart pixels are.",
        ),
        "patches_times_size": Mistake(
            answer=patches_times_size,
            hint="distances between patches are multiplied by the size of a patch. Pixels at the "
            "rim of a hidden patch are nearer than that, however large it is.",
        ),
        "city_blocks": Mistake(
            answer=city_blocks,
            hint="rows and columns are added up. The Euclidean distance of a diagonal neighbour is"
            " √2.",
        ),
        "visible_count_too": Mistake(
            answer=visible_count_too,
            hint="visible pixels are in the mean, with distance 0. It is over hidden ones only.",
        ),
        "all_visible": Mistake(
            answer=all_visible,
            hint="you average over all visible pixels where only the nearest counts.",
        ),
        "largest": Mistake(
            answer=largest,
            hint="you take the pixel that is farthest from a clue; the mean over all was asked.",
        ),
        "turned_round": Mistake(
            answer=turned_round,
            hint="you measure from visible pixels to hidden ones: 1 means hidden.",
        ),
    },
)
