"""120.1c: the loss, on hidden pixels alone."""

import torch

from dlcourse.exercises import Exercise, Mistake


def loss_on_hidden_pixels(prediction, images, mask, patch_size):
    """Return the mean absolute error over all hidden pixels, a scalar tensor.

    prediction, images: (B, C, H, W).
    mask: (B, rows, columns) of patches of patch_size, 1 = hidden.
    """
    pixels = mask.repeat_interleave(patch_size, 1)
    pixels = pixels.repeat_interleave(patch_size, 2)  # (B, H, W)
    error = (prediction - images).abs()  # (B, C, H, W)
    channels = images.shape[1]
    return (error * pixels[:, None]).sum() / (pixels.sum() * channels)


def cases(rng):
    """Images that are not square, with different numbers of hidden patches."""
    batch, rows, columns = (int(n) for n in rng.integers(2, 5, size=3))
    patch_size, channels = int(rng.integers(2, 4)), int(rng.integers(2, 4))
    shape = (batch, channels, rows * patch_size, columns * patch_size)
    mask = hidden_patches(rng, batch, rows * columns)
    return {
        "prediction": torch.from_numpy(rng.uniform(size=shape)),
        "images": torch.from_numpy(rng.uniform(size=shape)),
        "mask": torch.from_numpy(mask).view(batch, rows, columns),
        "patch_size": patch_size,
    }


def hidden_patches(rng, batch, patches):
    """(batch, patches), other numbers of hidden patches in different images, never all or none."""
    mask = rng.uniform(size=(batch, patches)).argsort(1).argsort(1)
    counts = 1 + (rng.integers(patches) + rng.permutation(batch))[:, None] % (patches - 1)
    return (mask < counts).astype(float)


def edges():
    """Everything hidden, one patch hidden, patches of one pixel, one channel, one image."""
    numbers = torch.arange(2 * 3 * 4 * 6, dtype=torch.float64)
    prediction, images = (numbers * 1.7).sin().view(2, 3, 4, 6), numbers.cos().view(2, 3, 4, 6)
    mask = torch.tensor([[[1.0, 0, 1], [1, 1, 0]], [[0, 0, 0], [0, 1, 0]]], dtype=torch.float64)
    usual = {"prediction": prediction, "images": images, "mask": mask, "patch_size": 2}
    return {
        "everything is hidden": {**usual, "mask": 0 * mask + 1},
        "an image hides nothing": {**usual, "mask": mask * torch.tensor([1.0, 0]).view(2, 1, 1)},
        "one channel": {**usual, "prediction": prediction[:, :1], "images": images[:, :1]},
        "one image": {
            **usual, "prediction": prediction[:1], "images": images[:1], "mask": mask[:1]
        },
        "patches of one pixel": {
            "prediction": prediction[..., :2, :3], "images": images[..., :2, :3], "mask": mask,
            "patch_size": 1,
        },
    }  # fmt: skip


def _pixels(mask, patch_size):
    return mask.repeat_interleave(patch_size, 1).repeat_interleave(patch_size, 2)[:, None]


def listing(prediction, images, mask, patch_size):
    """The document's loss: squared."""
    hidden = _pixels(mask, patch_size).bool().expand_as(images)
    return ((prediction[hidden] - images[hidden]) ** 2).mean()


def everywhere(prediction, images, mask, patch_size):
    return (prediction - images).abs().mean()


def visible(prediction, images, mask, patch_size):
    return loss_on_hidden_pixels(prediction, images, 1 - mask, patch_size)


def divided_by_all(prediction, images, mask, patch_size):
    return ((prediction - images).abs() * _pixels(mask, patch_size)).mean()


def channels_forgotten(prediction, images, mask, patch_size):
    pixels = _pixels(mask, patch_size)
    return ((prediction - images).abs() * pixels).sum() / pixels.sum()


def image_by_image(prediction, images, mask, patch_size):
    pixels = _pixels(mask, patch_size)
    error = ((prediction - images).abs() * pixels).sum((1, 2, 3))
    return (error / (pixels.sum((1, 2, 3)) * images.shape[1])).mean()


def tiles(prediction, images, mask, patch_size):
    pixels = mask.repeat(1, patch_size, patch_size)[:, None]
    error = (prediction - images).abs()
    return (error * pixels).sum() / (pixels.sum() * images.shape[1])


EXERCISE = Exercise(
    key="120.1c.masked-l1",
    title="The loss on hidden pixels",
    difficulty="implement",
    statement=r"""
Write SimMIM's loss: the absolute error, averaged over the hidden pixels of the batch and their
channels, and over nothing else. The mask is one of patches; a patch is `patch_size` × `patch_size`
pixels. Images may have different numbers of hidden patches; each hidden *pixel* counts the same.
Gradients must flow back to the prediction.
""",
    imports="import torch",
    reference=loss_on_hidden_pixels,
    cases=cases,
    edges=edges,
    differentiable=("prediction",),
    rtol=1e-5,  # the authors' code adds 1e-5 to the number of hidden pixels: no mistake
    hints=[
        "Make a mask of pixels first: `repeat_interleave` along both dimensions of the grid.",
        "Multiply the error by the mask, with a dimension for the channels, and sum.",
        "Divide by the number of terms that were not multiplied by 0: hidden pixels × channels.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="the errors are squared, as in the document's listing: a few large ones then "
            "rule, and the best guess is a mean, a blur.",
        ),
        "everywhere": Mistake(
            answer=everywhere,
            hint="visible pixels count too. To get these right the model need only copy its input.",
        ),
        "visible": Mistake(
            answer=visible,
            hint="the visible pixels are taken in place of the hidden ones: 1 means hidden.",
        ),
        "divided_by_all": Mistake(
            answer=divided_by_all,
            hint="the sum is divided by the number of all pixels: the loss then grows with the "
            "mask ratio.",
        ),
        "channels_forgotten": Mistake(
            answer=channels_forgotten,
            hint="the sum runs over the channels, but the number of terms does not.",
        ),
        "image_by_image": Mistake(
            answer=image_by_image,
            hint="you average within each image first: pixels of an image with few hidden ones "
            "then count more.",
        ),
        "tiles": Mistake(
            answer=tiles,
            hint="the mask is repeated like a tile (`repeat`) where each of its elements should "
            "become a patch (`repeat_interleave`).",
        ),
    },
)
