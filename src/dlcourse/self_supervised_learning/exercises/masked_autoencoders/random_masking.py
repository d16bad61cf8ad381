"""120.2: a random subset of each image's patches, by sorting."""

import torch

from dlcourse.exercises import Exercise, Mistake


def keep_least_noise(x, noise, keep):
    """Return the visible patches, the mask (1 = hidden) and ids_restore.

    x: patches (B, N, D); noise: numbers (B, N);
    keep: how many patches of each image stay visible, those with the least noise.
    """
    ids_shuffle = noise.argsort(dim=1)  # the patches of each image, least noise first
    ids_restore = ids_shuffle.argsort(dim=1)  # the place of each patch in that order
    ids_keep = ids_shuffle[:, :keep]
    visible = x.gather(1, ids_keep[:, :, None].expand(-1, -1, x.shape[2]))
    mask = (ids_restore >= keep).float()
    return visible, mask, ids_restore


def cases(rng):
    """Two to four images of six to twelve patches, a few of them visible."""
    b, n, d = (int(rng.integers(low, high)) for low, high in ((2, 5), (6, 13), (1, 4)))
    return {
        "x": torch.from_numpy(rng.standard_normal((b, n, d))),
        "noise": torch.from_numpy(rng.random((b, n))),
        "keep": int(rng.integers(2, n // 2)) if n > 5 else 2,
    }


def edges():
    """All patches stay, or one; one image; patches of one number; noise that is sorted already."""
    numbers = (torch.arange(24, dtype=torch.float64) * 1.3).sin()
    noise = torch.tensor([[0.4, 0.1, 0.9, 0.2], [0.3, 0.8, 0.0, 0.6]], dtype=torch.float64)
    usual = {"x": numbers.view(2, 4, 3), "noise": noise, "keep": 2}
    return {
        "half stay": usual,
        "all stay": {**usual, "keep": 4},
        "one stays": {**usual, "keep": 1},
        "one image": {**usual, "x": usual["x"][:1], "noise": noise[:1]},
        "patches of one number": {**usual, "x": usual["x"][..., :1]},
        "noise that is sorted": {**usual, "noise": noise.sort(1).values},
        "noise that is sorted backwards": {**usual, "noise": -noise.sort(1).values},
    }


def _from_order(x, order, keep):
    restore = order.argsort(dim=1)
    visible = x.gather(1, order[:, :keep, None].expand(-1, -1, x.shape[2]))
    return visible, (restore >= keep).float(), restore


def listing(x, noise, keep):
    """The document's: one order for all images."""
    return _from_order(x, noise[:1].argsort(dim=1).expand(len(x), -1), keep)


def not_inverted(x, noise, keep):
    visible, mask, _ = keep_least_noise(x, noise, keep)
    return visible, mask, noise.argsort(dim=1)


def mask_in_shuffled_order(x, noise, keep):
    visible, mask, restore = keep_least_noise(x, noise, keep)
    mask = torch.ones_like(mask)
    mask[:, :keep] = 0
    return visible, mask, restore


def mask_turned_round(x, noise, keep):
    visible, mask, restore = keep_least_noise(x, noise, keep)
    return visible, 1 - mask, restore


def most_noise(x, noise, keep):
    return _from_order(x, noise.argsort(dim=1, descending=True), keep)


def visible_in_original_order(x, noise, keep):
    _, mask, restore = keep_least_noise(x, noise, keep)
    ids_keep = noise.argsort(dim=1)[:, :keep].sort(dim=1).values
    return x.gather(1, ids_keep[:, :, None].expand(-1, -1, x.shape[2])), mask, restore


EXERCISE = Exercise(
    key="120.2.random-masking",
    title="A random subset for each image, by sorting",
    difficulty="implement",
    statement=r"""
Write the masking. Each patch of each image has been given a random number. In each image, the
`keep` patches with the *least* noise stay visible, and no loop over images is needed.

Return three tensors:

- `visible` $(B, \text{keep}, D)$, the visible patches, in the order of their noise;
- `mask` $(B, N)$, floats of any size, in the original order: 1 where a patch is hidden, 0 where it
  is visible;
- `ids_restore` $(B, N)$: the place of each patch in the order of the noise, so that
  `x_shuffled[b, ids_restore[b, i]]` is patch $i$ of image $b$ again.

Gradients must flow back from `visible` to `x`.
""",
    imports="import torch",
    reference=keep_least_noise,
    cases=cases,
    edges=edges,
    differentiable=("x",),
    any_float=("mask",),
    returns=("visible", "mask", "ids_restore"),
    hints=[
        "`noise.argsort(dim=1)` lists the patches of each image, the one with the least noise "
        "first.",
        "Sorting an order gives its inverse: `order.argsort(dim=1)`.",
        "A patch is hidden if its place in the order is `keep` or later. `gather` along dimension "
        "1 picks rows; its index needs the shape of the result.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="one order serves for all images, as in the document's listing, whose order has "
            "no batch axis. Sort the noise of each image.",
        ),
        "not_inverted": Mistake(
            answer=not_inverted,
            hint="ids_restore is the shuffling itself. It has to undo it: sort the order once "
            "more.",
        ),
        "mask_in_shuffled_order": Mistake(
            answer=mask_in_shuffled_order,
            hint="the mask is in the order of the noise, visible patches first. It belongs to the "
            "patches in their original order.",
        ),
        "mask_turned_round": Mistake(
            answer=mask_turned_round,
            hint="the mask is 1 where a patch is visible. It should be 1 where the loss looks: at "
            "hidden patches.",
        ),
        "most_noise": Mistake(
            answer=most_noise,
            hint="the patches with the most noise stay visible. It would do as well, but two "
            "programs can only be compared if they agree.",
        ),
        "visible_in_original_order": Mistake(
            answer=visible_in_original_order,
            hint="the visible patches are sorted by their place in the image, and then "
            "ids_restore no longer fits them.",
        ),
    },
)
