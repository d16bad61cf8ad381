"""120.1c: from random numbers to a mask of whole blocks."""

import math

import torch

from dlcourse.exercises import Exercise, Mistake


def mask_of_whole_blocks(noise, mask_ratio, scale):
    """Return the mask (B, R * scale * C * scale) of patches, 1 = hidden.

    noise: (B, R, C), one random number for each block of each image.
    Hide the blocks with the largest numbers of each image.
    """
    batch, rows, columns = noise.shape
    count = math.ceil(mask_ratio * rows * columns)
    hidden = noise.flatten(1).topk(count).indices  # (B, count)
    mask = torch.zeros(batch, rows * columns).scatter(1, hidden, 1.0)
    mask = mask.view(batch, rows, columns)
    # Each block is scale × scale patches.
    mask = mask.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    return mask.flatten(1)


def cases(rng):
    """Grids of blocks that are not square, so that rows and columns can't be confused."""
    batch, rows, columns = (int(n) for n in rng.integers(2, 5, size=3))
    return {
        "noise": torch.from_numpy(rng.permutation(batch * rows * columns) / 100.0).view(
            batch, rows, columns
        ),
        "mask_ratio": float(rng.uniform(0.45, 0.72)),
        "scale": int(rng.integers(2, 4)),
    }


def edges():
    """Ratios that divide exactly, or ask for all; blocks of one patch; one block; one image."""
    noise = torch.tensor([[[0.3, 0.9, 0.1, 0.5]], [[0.8, 0.2, 0.7, 0.6]]], dtype=torch.float64)
    square = noise.view(2, 2, 2)
    return {
        "the ratio divides exactly": {"noise": noise, "mask_ratio": 0.5, "scale": 2},
        "three quarters": {"noise": square, "mask_ratio": 0.75, "scale": 3},
        "everything is hidden": {"noise": square, "mask_ratio": 1.0, "scale": 2},
        "less than one block": {"noise": noise, "mask_ratio": 0.1, "scale": 2},
        "blocks of one patch": {"noise": noise, "mask_ratio": 0.6, "scale": 1},
        "one block": {"noise": noise[:, :, :1], "mask_ratio": 0.6, "scale": 2},
        "one image": {"noise": noise[:1], "mask_ratio": 0.6, "scale": 2},
        "one column": {"noise": noise.view(2, 4, 1), "mask_ratio": 0.6, "scale": 2},
    }


def _expanded(mask, scale):
    return mask.repeat_interleave(scale, 1).repeat_interleave(scale, 2).flatten(1)


def listing(noise, mask_ratio, scale):
    """The document's mask: single patches, rounded down, one mask for all images."""
    patches = noise[0].numel() * scale * scale
    count = int(patches * mask_ratio)
    order = torch.arange(patches) * 7919 % patches
    mask = torch.zeros(patches)
    mask[order[:count]] = 1
    return mask


def one_mask_for_all(noise, mask_ratio, scale):
    return mask_of_whole_blocks(noise[:1].expand_as(noise), mask_ratio, scale)


def rounds_down(noise, mask_ratio, scale):
    batch, rows, columns = noise.shape
    hidden = noise.flatten(1).topk(int(mask_ratio * rows * columns)).indices
    mask = torch.zeros(batch, rows * columns).scatter(1, hidden, 1.0)
    return _expanded(mask.view(batch, rows, columns), scale)


def one_too_many(noise, mask_ratio, scale):
    batch, rows, columns = noise.shape
    count = min(int(mask_ratio * rows * columns) + 1, rows * columns)
    hidden = noise.flatten(1).topk(count).indices
    mask = torch.zeros(batch, rows * columns).scatter(1, hidden, 1.0)
    return _expanded(mask.view(batch, rows, columns), scale)


def count_left_to_chance(noise, mask_ratio, scale):
    """A threshold for the whole batch: right on average, another number in each image."""
    count = math.ceil(mask_ratio * noise.numel())
    threshold = noise.flatten().topk(count).values.min()
    return _expanded((noise >= threshold).float(), scale)


def tiles(noise, mask_ratio, scale):
    mask = mask_of_whole_blocks(noise, mask_ratio, 1).view_as(noise)
    return mask.repeat(1, scale, scale).flatten(1)


def inverted(noise, mask_ratio, scale):
    return 1 - mask_of_whole_blocks(noise, mask_ratio, scale)


def smallest(noise, mask_ratio, scale):
    return mask_of_whole_blocks(-noise, mask_ratio, scale)


EXERCISE = Exercise(
    key="120.1c.whole-blocks",
    title="A mask of whole blocks",
    difficulty="implement",
    statement=r"""
Write SimMIM's mask. You are given one random number for each block of each image. In *each* image,
hide the $\lceil \text{ratio} \cdot \text{blocks} \rceil$ blocks with the largest numbers. A block
is `scale` × `scale` patches of the model; return the mask at the resolution of those patches, row
by row, as floats of any size: 1 where a patch is hidden.
""",
    imports="import math\n\nimport torch",
    reference=mask_of_whole_blocks,
    cases=cases,
    edges=edges,
    any_float=("result",),
    hints=[
        "First the mask of blocks, (B, R·C): `topk` finds the largest numbers of each row.",
        "`torch.zeros(...).scatter(1, indices, 1.0)` writes a 1 at each of these places.",
        "`repeat_interleave` repeats each element; `repeat` repeats the whole.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="there is one mask for the whole batch, made of single patches: that is the "
            "document's listing. Its shape has no room for a mask of each image's own.",
        ),
        "one_mask_for_all": Mistake(
            answer=one_mask_for_all,
            hint="all images get the mask of the first. Each has random numbers of its own.",
        ),
        "rounds_down": Mistake(
            answer=rounds_down,
            hint="the number of hidden blocks is rounded down; the paper's code rounds up, so that "
            "at least one is hidden.",
        ),
        "one_too_many": Mistake(
            answer=one_too_many,
            hint="one is added to the number that was rounded down. Where the ratio divides "
            "exactly, that is one block too many: `math.ceil` rounds up.",
        ),
        "count_left_to_chance": Mistake(
            answer=count_left_to_chance,
            hint="the largest numbers are taken over the whole batch: images then hide different "
            "numbers of blocks.",
        ),
        "tiles": Mistake(
            answer=tiles,
            hint="the small mask is repeated like a tile instead of each of its elements: no block "
            "is whole.",
        ),
        "inverted": Mistake(
            answer=inverted,
            hint="the mask is turned round: 1 means hidden.",
        ),
        "smallest": Mistake(
            answer=smallest,
            hint="the blocks with the smallest numbers are hidden: as random, but not what was "
            "asked.",
        ),
    },
)
