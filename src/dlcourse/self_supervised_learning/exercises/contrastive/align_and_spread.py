"""120.1a: alignment and uniformity, the two numbers that a contrastive loss trades."""

import torch
import torch.nn.functional as F

from dlcourse.exercises import Exercise, Mistake


def align_and_spread(z1, z2):
    """Return alignment and uniformity, two scalar tensors.

    z1, z2: (B, D); row i of both comes from image i. Not normalised.
    """
    u1, u2 = F.normalize(z1, dim=1), F.normalize(z2, dim=1)
    alignment = (u1 - u2).square().sum(1).mean()
    # Squared distances of all pairs of different images, first views.
    i, j = torch.triu_indices(len(u1), len(u1), offset=1)
    squared = (u1[i] - u1[j]).square().sum(1)
    uniformity = torch.log(torch.exp(-2 * squared).mean())
    return alignment, uniformity


def cases(rng):
    b, d = (int(n) for n in rng.integers(3, 8, size=2))
    z1 = torch.from_numpy(rng.standard_normal((b, d)))
    z2 = z1 + 0.5 * torch.from_numpy(rng.standard_normal((b, d)))
    return {"z1": z1 * float(rng.uniform(0.5, 3.0)), "z2": z2}


def edges():
    """The smallest batch, equal views, opposite ones, and lengths far apart."""
    z1 = torch.tensor([[1.0, 2.0, 0.5], [-1.0, 0.3, 2.0], [0.2, -2.0, 1.0]], dtype=torch.float64)
    z2 = torch.tensor([[1.5, 1.0, 0.0], [-2.0, 0.3, 1.0], [0.2, -1.0, 2.0]], dtype=torch.float64)
    lengths = torch.tensor([[100.0], [0.01], [1.0]], dtype=torch.float64)
    return {
        "two images": {"z1": z1[:2], "z2": z2[:2]},
        "equal views": {"z1": z1, "z2": z1.clone()},
        "opposite views": {"z1": z1, "z2": -2 * z1},
        "lengths far apart": {"z1": z1 * lengths, "z2": z2},
    }


def listing_same_view(z1, z2):
    return align_and_spread(z1, z1)


def not_normalised(z1, z2):
    i, j = torch.triu_indices(len(z1), len(z1), offset=1)
    squared = (z1[i] - z1[j]).square().sum(1)
    return (z1 - z2).square().sum(1).mean(), torch.log(torch.exp(-2 * squared).mean())


def not_squared(z1, z2):
    u1, u2 = F.normalize(z1, dim=1), F.normalize(z2, dim=1)
    i, j = torch.triu_indices(len(u1), len(u1), offset=1)
    distance = (u1[i] - u1[j]).norm(dim=1)
    return (u1 - u2).norm(dim=1).mean(), torch.log(torch.exp(-2 * distance).mean())


def with_itself(z1, z2):
    u1 = F.normalize(z1, dim=1)
    spread = (u1[:, None] - u1[None]).square().sum(-1)
    return align_and_spread(z1, z2)[0], torch.log(torch.exp(-2 * spread).mean())


def mean_of_logs(z1, z2):
    u1 = F.normalize(z1, dim=1)
    i, j = torch.triu_indices(len(u1), len(u1), offset=1)
    return align_and_spread(z1, z2)[0], (-2 * (u1[i] - u1[j]).square().sum(1)).mean()


def sign_turned(z1, z2):
    alignment, spread = align_and_spread(z1, z2)
    return alignment, -spread


EXERCISE = Exercise(
    key="120.1a.align-and-spread",
    title="Alignment and uniformity",
    difficulty="implement",
    statement=r"""
Two numbers say what a contrastive loss has done to the sphere. With $u_i$ and $u_i'$ the two views
of image $i$, each divided by its length,

$$
\begin{aligned}
\text{alignment} &= \frac 1B \sum_i \lVert u_i - u_i' \rVert^2, \\
\text{uniformity} &= \log \frac{2}{B(B-1)} \sum_{i<j}
  \exp\bigl(-2 \lVert u_i - u_j \rVert^2\bigr) .
\end{aligned}
$$

Your function returns both, in this order; uniformity is of the first views. Gradients must flow
back from both: they can be trained with.
""",
    imports="import torch\nimport torch.nn.functional as F",
    reference=align_and_spread,
    cases=cases,
    edges=edges,
    differentiable=("z1", "z2"),
    returns=("alignment", "uniformity"),
    hints=[
        "Normalise both batches first.",
        "`torch.triu_indices(B, B, offset=1)` lists all pairs i < j; `torch.pdist` gives their "
        "distances at once.",
        "The logarithm is taken once, of the mean over all pairs.",
    ],
    mistakes={
        "listing_same_view": Mistake(
            answer=listing_same_view,
            hint="a view is compared with itself, not with its partner: alignment is then 0 without "
            "any learning.",
        ),
        "not_normalised": Mistake(
            answer=not_normalised,
            hint="the rows are not divided by their lengths: both numbers live on the sphere.",
        ),
        "not_squared": Mistake(
            answer=not_squared,
            hint="the distances are not squared.",
        ),
        "with_itself": Mistake(
            answer=with_itself,
            hint="the mean runs over all (i, j), i = j among them, whose distance is 0: the batch "
            "then looks less spread, the more so the smaller it is.",
        ),
        "mean_of_logs": Mistake(
            answer=mean_of_logs,
            hint="you take the mean of the logarithms. It is the logarithm of the mean: near pairs "
            "count for most.",
        ),
        "sign_turned": Mistake(
            answer=sign_turned,
            hint="the sign of uniformity is turned. It is at most 0: the mean of exp(-...) is at "
            "most 1.",
        ),
    },
)
