"""120.1c: what the encoder is given."""

import torch

from dlcourse.exercises import Exercise, Mistake


def encoder_input(embedded, mask, mask_token, positions):
    """Return the tokens (B, N, D) that enter the first block.

    embedded: (B, N, D), the embedding of each patch.
    mask: (B, N), 1 = hidden.  mask_token: (D,).  positions: (N, D).
    """
    hidden = mask.bool()[..., None]  # (B, N, 1)
    return torch.where(hidden, mask_token, embedded) + positions


def cases(rng):
    """Some of two to six patches are hidden, not the same ones in every image."""
    batch, patches, width = (int(n) for n in rng.integers((2, 3, 2), (5, 7, 6)))
    order = rng.uniform(size=(batch, patches)).argsort(1)
    return {
        "embedded": torch.from_numpy(rng.standard_normal((batch, patches, width))),
        "mask": torch.from_numpy((order < rng.integers(1, patches)).astype(float)),
        "mask_token": torch.from_numpy(rng.standard_normal(width)),
        "positions": torch.from_numpy(rng.standard_normal((patches, width))),
    }


def edges():
    """Nothing hidden, everything hidden, one patch, one image, a token of zeros."""
    numbers = (torch.arange(24, dtype=torch.float64) * 1.3).sin()
    embedded, positions = numbers.view(2, 4, 3), numbers[:12].view(4, 3).flip(0)
    mask = torch.tensor([[1.0, 0, 0, 1], [0, 0, 1, 0]], dtype=torch.float64)
    usual = {"embedded": embedded, "mask": mask, "mask_token": numbers[5:8], "positions": positions}
    return {
        "nothing is hidden": {**usual, "mask": 0 * mask},
        "everything is hidden": {**usual, "mask": 0 * mask + 1},
        "one image": {**usual, "embedded": embedded[:1], "mask": mask[:1]},
        "one patch": {
            **usual, "embedded": embedded[:, :1], "mask": mask[:, :1], "positions": positions[:1]
        },
        "as many patches as images": {
            **usual, "embedded": embedded[:, :2], "mask": mask[:, 1:3], "positions": positions[:2]
        },
        "tokens of one number": {
            "embedded": embedded[..., :1], "mask": mask, "mask_token": numbers[5:6],
            "positions": positions[:, :1],
        },
    }  # fmt: skip


def listing(embedded, mask, mask_token, positions):
    """The document has no mask token: what is hidden from the loss is seen by the encoder."""
    return embedded + positions


def token_added(embedded, mask, mask_token, positions):
    return embedded + mask[..., None] * mask_token + positions


def no_position(embedded, mask, mask_token, positions):
    return torch.where(mask.bool()[..., None], mask_token, embedded + positions)


def zeros(embedded, mask, mask_token, positions):
    return embedded * (1 - mask[..., None]) + positions


def inverted(embedded, mask, mask_token, positions):
    return torch.where(mask.bool()[..., None], embedded, mask_token) + positions


def changes_its_arguments(embedded, mask, mask_token, positions):
    embedded[mask.bool()] = mask_token
    return embedded + positions


EXERCISE = Exercise(
    key="120.1c.mask-tokens",
    title="Hide before the encoder",
    difficulty="implement",
    statement=r"""
Write what goes into SimMIM's encoder. A hidden patch must leave no trace of its content: in place
of its embedding stands the mask token, a learned vector that is the same for all. Where it *is*
must not be lost. Leave the arguments as they are, and let gradients flow back to embeddings, token
and positions: all three are trained.
""",
    imports="import torch",
    reference=encoder_input,
    cases=cases,
    edges=edges,
    differentiable=("embedded", "mask_token", "positions"),
    hints=[
        "`torch.where(condition, a, b)` chooses between two tensors, with broadcasting.",
        "The mask is (B, N); to choose among vectors it needs a last dimension of 1.",
        "Positions are added to all tokens, after the choice.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="nothing is hidden. The document's listing has no mask token and leaves that to "
            "an encoder which it does not define: the model may copy what it should guess.",
        ),
        "token_added": Mistake(
            answer=token_added,
            hint="the token is added to the embedding of the hidden patch, which is still there: "
            "the encoder need only subtract it.",
        ),
        "no_position": Mistake(
            answer=no_position,
            hint="hidden patches lose their positions: they are then all alike, and so must be "
            "what is predicted for them.",
        ),
        "zeros": Mistake(
            answer=zeros,
            hint="hidden patches become zeros. The token is a learned vector, so that the encoder "
            "can tell 'hidden' from whatever patch embeds near zero.",
        ),
        "inverted": Mistake(
            answer=inverted,
            hint="the visible patches are replaced: 1 means hidden.",
        ),
        "changes_its_arguments": Mistake(
            answer=changes_its_arguments,
            hint="the assignment writes into the caller's embeddings. Make a new tensor: "
            "`torch.where`, or `clone` first.",
        ),
    },
)
