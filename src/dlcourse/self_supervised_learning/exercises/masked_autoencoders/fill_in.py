"""120.2: mask tokens in the gaps, everything in its place."""

import torch

from dlcourse.exercises import Exercise, Mistake


def fill_in(visible, mask_token, ids_restore):
    """Return the decoder's sequence (B, N, D): visible tokens and mask tokens in their places.

    visible: (B, K, D), in shuffled order; mask_token: (D,);
    ids_restore: (B, N), the place of each patch in the shuffled order.
    """
    b, k, d = visible.shape
    n = ids_restore.shape[1]
    hidden = mask_token.expand(b, n - k, d)  # the same vector for every hidden patch
    shuffled = torch.cat([visible, hidden], dim=1)  # (B, N, D)
    return shuffled.gather(1, ids_restore[:, :, None].expand(b, n, d))


def cases(rng):
    """Two to four images, each with an order of its own."""
    b, n, d = (int(rng.integers(low, high)) for low, high in ((2, 5), (6, 13), (2, 5)))
    order = torch.from_numpy(rng.random((b, n))).argsort(1)
    return {
        "visible": torch.from_numpy(rng.standard_normal((b, int(rng.integers(2, n - 2)), d))),
        "mask_token": torch.from_numpy(rng.standard_normal(d)),
        "ids_restore": order,
    }


def edges():
    """Nothing hidden, one patch visible, one image, orders that are those of the image."""
    numbers = (torch.arange(24, dtype=torch.float64) * 1.3).sin()
    order = torch.tensor([[2, 0, 3, 1], [1, 3, 0, 2]])
    usual = {"visible": numbers.view(2, 4, 3)[:, :2], "mask_token": numbers[5:8],
             "ids_restore": order}
    return {
        "nothing is hidden": {**usual, "visible": numbers.view(2, 4, 3)},
        "one patch is visible": {**usual, "visible": usual["visible"][:, :1]},
        "one image": {**usual, "visible": usual["visible"][:1], "ids_restore": order[:1]},
        "the order of the image": {**usual, "ids_restore": order.sort(1).values},
        "tokens of one number": {
            **usual, "visible": usual["visible"][..., :1], "mask_token": numbers[:1]
        },
    }  # fmt: skip


def listing(visible, mask_token, ids_restore):
    """The document's order has no batch axis: the first image's serves for all."""
    return fill_in(visible, mask_token, ids_restore[:1].expand(len(visible), -1))


def still_shuffled(visible, mask_token, ids_restore):
    b, k, d = visible.shape
    return torch.cat([visible, mask_token.expand(b, ids_restore.shape[1] - k, d)], dim=1)


def other_direction(visible, mask_token, ids_restore):
    return fill_in(visible, mask_token, ids_restore.argsort(dim=1))


def hidden_first(visible, mask_token, ids_restore):
    b, k, d = visible.shape
    n = ids_restore.shape[1]
    shuffled = torch.cat([mask_token.expand(b, n - k, d), visible], dim=1)
    return shuffled.gather(1, ids_restore[:, :, None].expand(b, n, d))


def zeros(visible, mask_token, ids_restore):
    return fill_in(visible, torch.zeros_like(mask_token), ids_restore)


EXERCISE = Exercise(
    key="120.2.fill-in",
    title="Mask tokens in the gaps",
    difficulty="implement",
    statement=r"""
The encoder has returned $K$ visible tokens for each image, in shuffled order. The decoder wants a
sequence of length $N$ in the order of the image: the token of a patch where it was visible, the
mask token where it was hidden.

In the shuffled order the visible patches come first. `ids_restore[b, i]` is the place of patch $i$
of image $b$ in that order. Gradients must flow back to the tokens and the mask token.
""",
    imports="import torch",
    reference=fill_in,
    cases=cases,
    edges=edges,
    differentiable=("visible", "mask_token"),
    hints=[
        "First make the shuffled sequence of length N: what stands behind the visible tokens?",
        "`mask_token.expand(b, n - k, d)` repeats it without copying; `torch.cat` along dimension "
        "1.",
        "`gather` along dimension 1 with `ids_restore`, expanded to (B, N, D), puts all in place.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="the order of one image is used for all: in the document's listing the order has "
            "no batch axis.",
        ),
        "still_shuffled": Mistake(
            answer=still_shuffled,
            hint="the mask tokens are there, but all stand at the end. The order of the image is "
            "not restored.",
        ),
        "other_direction": Mistake(
            answer=other_direction,
            hint="the tokens are shuffled once more instead of being put back: you gather with the "
            "inverse of ids_restore.",
        ),
        "hidden_first": Mistake(
            answer=hidden_first,
            hint="the mask tokens stand before the visible ones. In the shuffled order the visible "
            "patches come first.",
        ),
        "zeros": Mistake(
            answer=zeros,
            hint="the gaps are filled with zeros. The mask token is a vector that is learned.",
        ),
    },
)
