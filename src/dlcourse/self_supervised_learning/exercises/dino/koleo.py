"""120.1b: spread the features: KoLeo."""

import torch

from dlcourse.exercises import Exercise, Mistake


def koleo(x):
    """Return minus the mean logarithm of each feature's distance to its nearest neighbour.

    x: (B, D) features; they are scaled to length 1 first.
    """
    x = x / x.norm(dim=1, keepdim=True)
    distance = torch.cdist(x, x)  # (B, B)
    distance = distance + torch.diag(torch.full((len(x),), torch.inf, dtype=x.dtype))
    return -distance.min(1).values.log().mean()


def cases(rng):
    """Four to eight features of different lengths."""
    shape = (int(rng.integers(4, 9)), int(rng.integers(3, 6)))
    return {"x": torch.from_numpy(rng.standard_normal(shape) * rng.uniform(0.5, 3, (shape[0], 1)))}


def edges():
    """Two features, opposite ones, two that are very near, lengths far apart."""
    x = torch.tensor(
        [[1.0, 2.0, 0.5], [-1.0, 0.3, 2.0], [0.2, -2.0, 1.0], [2.0, 0.1, -1.0]],
        dtype=torch.float64,
    )
    lengths = torch.tensor([[100.0], [0.01], [1.0], [7.0]], dtype=torch.float64)
    return {
        "two features": {"x": x[:2]},
        "opposite features": {"x": torch.stack([x[0], -3 * x[0], x[1]])},
        "two that are very near": {"x": torch.cat([x, 2 * x[:1] + 0.01 * x[1:2]])},
        "lengths far apart": {"x": x * lengths},
    }


def listing(x):
    """Nothing spreads the features in the document's listing."""
    return x.sum() * 0


def with_itself(x):
    x = x / x.norm(dim=1, keepdim=True)
    return -(torch.cdist(x, x).min(1).values + 1e-8).log().mean()


def not_normalised(x):
    distance = torch.cdist(x, x) + torch.diag(torch.full((len(x),), torch.inf, dtype=x.dtype))
    return -distance.min(1).values.log().mean()


def all_pairs(x):
    x = x / x.norm(dim=1, keepdim=True)
    different = ~torch.eye(len(x), dtype=torch.bool)
    return -torch.cdist(x, x)[different].log().mean()


def log_of_the_mean(x):
    x = x / x.norm(dim=1, keepdim=True)
    distance = torch.cdist(x, x) + torch.diag(torch.full((len(x),), torch.inf, dtype=x.dtype))
    return -distance.min(1).values.mean().log()


def sign_lost(x):
    return -koleo(x)


EXERCISE = Exercise(
    key="120.1b.koleo",
    title="Spread the features",
    difficulty="extend",
    statement=r"""
DINOv2 adds a term that pushes each feature away from its nearest neighbour in the batch. With the
features $x_i$ scaled to length 1,

$$
\mathcal L_{\text{KoLeo}} = -\frac1B \sum_{i=1}^{B} \log \min_{j \ne i} \lVert x_i - x_j \rVert .
$$

Write it, so that gradients flow back to the features. Then think about why the logarithm matters:
what would the term do to two features that are nearly equal, with and without it?
""",
    imports="import torch",
    reference=koleo,
    cases=cases,
    edges=edges,
    differentiable=("x",),
    rtol=1e-5,
    atol=1e-7,  # the 1e-8 that DINOv2's code, and ours, add to the distance is no mistake
    hints=[
        "torch.cdist(x, x) gives all distances. The diagonal must not win the minimum.",
        "Scale the rows of x to length 1 first.",
        "Logarithm of each distance first, then the mean, then the minus sign.",
    ],
    discussion=r"""
The gradient of $-\log d$ is $-1/d$: the nearer two features are, the harder they are pushed apart.
Without the logarithm the push would have the same size for every pair: two features that nearly
coincide would be pushed no harder than two that are far apart. For two that are equal the loss is
infinite, so DINOv2's code adds $10^{-8}$ to the distance; the check accepts that too.
""",
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="nothing is computed. The document's listing, too, has no such term: nothing in "
            "it keeps features apart.",
        ),
        "with_itself": Mistake(
            answer=with_itself,
            hint="each feature finds itself as its nearest neighbour, at distance 0. Leave j = i "
            "out.",
        ),
        "not_normalised": Mistake(
            answer=not_normalised,
            hint="the features are not scaled to length 1: they could escape by growing.",
        ),
        "all_pairs": Mistake(
            answer=all_pairs,
            hint="the mean is over all pairs. Only the nearest neighbour of each counts.",
        ),
        "log_of_the_mean": Mistake(
            answer=log_of_the_mean,
            hint="the distances are averaged before the logarithm: one close pair would hardly "
            "count.",
        ),
        "sign_lost": Mistake(
            answer=sign_lost,
            hint="the sign is turned round: this loss pulls the features together.",
        ),
    },
)
