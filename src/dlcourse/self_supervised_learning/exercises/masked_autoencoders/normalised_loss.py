"""120.2: extend the loss to targets that are normalised patch by patch."""

import torch

from dlcourse.exercises import Exercise, Mistake


def normalised_loss(prediction, patches, mask, eps):
    """Return the mean squared error over the hidden patches, to the normalised patches.

    prediction, patches: (B, N, P); mask: (B, N), 1 where a patch is hidden;
    eps: added to the variance of a patch.
    """
    mean = patches.mean(dim=2, keepdim=True)  # (B, N, 1)
    variance = patches.var(dim=2, keepdim=True)  # of P numbers, unbiased
    target = (patches - mean) / (variance + eps).sqrt()
    error = (prediction - target).square().mean(dim=2)  # (B, N)
    return (error * mask).sum() / mask.sum()


def cases(rng):
    """Patches of different brightness and contrast; images that hide different numbers."""
    b, n, p = (int(rng.integers(low, high)) for low, high in ((2, 4), (4, 9), (3, 13)))
    contrast = torch.from_numpy(rng.uniform(0.3, 3, (b, n, 1)))
    patches = torch.from_numpy(rng.standard_normal((b, n, p))) * contrast
    mask = torch.from_numpy((rng.random((b, n)) < 0.6).astype("float64"))
    mask[:, 0], mask[:, 1] = 1, 0  # at least one hidden and one visible
    return {
        "prediction": torch.from_numpy(rng.standard_normal((b, n, p))),
        "patches": patches + torch.from_numpy(rng.standard_normal((b, n, 1))),
        "mask": mask,
        "eps": float(10 ** rng.uniform(-6, -2)),
    }


def edges():
    """One hidden patch, all hidden, a patch of one colour, patches of two numbers, one image."""
    numbers = torch.arange(2 * 4 * 3, dtype=torch.float64)
    patches, prediction = (numbers * 1.7).sin().view(2, 4, 3), numbers.cos().view(2, 4, 3)
    mask = torch.tensor([[1.0, 0, 1, 1], [0, 0, 1, 0]], dtype=torch.float64)
    flat = patches.clone()
    flat[0, 0], flat[1, 2] = 0.7, 0.0
    usual = {"prediction": prediction, "patches": patches, "mask": mask, "eps": 1e-6}
    return {
        "one hidden patch": {**usual, "mask": 0 * mask + torch.eye(2, 4).double() * mask},
        "everything is hidden": {**usual, "mask": 0 * mask + 1},
        "patches of one colour": {**usual, "patches": flat},
        "patches of two numbers": {
            **usual, "prediction": prediction[..., :2], "patches": patches[..., :2]
        },
        "one image": {
            **usual, "prediction": prediction[:1], "patches": patches[:1], "mask": mask[:1]
        },
        "a large eps": {**usual, "eps": 0.5},
    }  # fmt: skip


def _loss(prediction, target, mask):
    return ((prediction - target).square().mean(2) * mask).sum() / mask.sum()


def _normalised(patches, eps, dim=2, correction=1):
    mean = patches.mean(dim, keepdim=True)
    return (patches - mean) / (patches.var(dim, correction=correction, keepdim=True) + eps).sqrt()


def listing(prediction, patches, mask, eps):
    """The document's loss: hidden patches, but pixels as they are."""
    return _loss(prediction, patches, mask)


def all_patches(prediction, patches, mask, eps):
    return (prediction - _normalised(patches, eps)).square().mean()


def over_all_patches(prediction, patches, mask, eps):
    return ((prediction - _normalised(patches, eps)).square().mean(2) * mask).mean()


def visible_patches(prediction, patches, mask, eps):
    return _loss(prediction, _normalised(patches, eps), 1 - mask)


def biased(prediction, patches, mask, eps):
    return _loss(prediction, _normalised(patches, eps, correction=0), mask)


def no_root(prediction, patches, mask, eps):
    mean, variance = patches.mean(2, keepdim=True), patches.var(2, keepdim=True)
    return _loss(prediction, (patches - mean) / (variance + eps), mask)


def across_patches(prediction, patches, mask, eps):
    return _loss(prediction, _normalised(patches, eps, dim=1), mask)


EXERCISE = Exercise(
    key="120.2.normalised-loss",
    title="Targets normalised patch by patch",
    difficulty="extend",
    statement=r"""
The document's loss compares hidden patches with their pixels. Extend it to normalised targets: with
the mean $\mu_i$ and the *unbiased* variance $\sigma_i^2$ of the $P$ numbers of patch $i$,

$$
L = \frac{1}{|M|} \sum_{i \in M} \frac{1}{P}
    \left\lVert \hat x_i - \frac{x_i - \mu_i}{\sqrt{\sigma_i^2 + \epsilon}} \right\rVert^2 ,
$$

where $M$ are the hidden patches of *all* images together. In the cases, images may hide different
numbers. Gradients must flow back to the prediction.
""",
    imports="import torch",
    reference=normalised_loss,
    cases=cases,
    edges=edges,
    differentiable=("prediction",),
    hints=[
        "Normalise first, over the last axis, and keep it (`keepdim=True`) so that shapes fit.",
        "Take the mean over the numbers of a patch, then count hidden patches only.",
        "`(error * mask).sum() / mask.sum()` is the mean over the hidden patches.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="the target is the pixels as they are: that is the document's loss.",
        ),
        "all_patches": Mistake(
            answer=all_patches,
            hint="the mean is over all patches. The visible ones could be copied; leave them out.",
        ),
        "over_all_patches": Mistake(
            answer=over_all_patches,
            hint="the sum is over hidden patches, but divided by the number of all. Divide by "
            "`mask.sum()`.",
        ),
        "visible_patches": Mistake(
            answer=visible_patches,
            hint="the mask is turned round: 1 means hidden, and the hidden ones count.",
        ),
        "biased": Mistake(
            answer=biased,
            hint="the variance is divided by P. The unbiased one, torch's default, by P - 1.",
        ),
        "no_root": Mistake(
            answer=no_root,
            hint="you divide by the variance. The standard deviation is its root.",
        ),
        "across_patches": Mistake(
            answer=across_patches,
            hint="mean and variance are taken over the patches of an image. Each patch has its "
            "own, over its numbers.",
        ),
    },
)
