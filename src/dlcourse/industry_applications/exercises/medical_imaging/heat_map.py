"""124.1a: Grad-CAM from activations and gradients."""

import torch

from dlcourse.exercises import Exercise, Mistake


def heat_map(activations, gradients):
    """Return Grad-CAM's maps (N, h, w) of a layer.

    activations: (N, K, h, w); gradients of the score in them, of the same shape.
    """
    alpha = gradients.mean((2, 3), keepdim=True)
    return torch.relu((alpha * activations).sum(1))


def cases(rng):
    """Maps and gradients of either sign."""
    shape = [int(rng.integers(2, 4)), int(rng.integers(2, 5)), 3, 5]
    return {
        "activations": torch.tensor(rng.standard_normal(shape), dtype=torch.float32),
        "gradients": torch.tensor(rng.standard_normal(shape), dtype=torch.float32),
    }


def edges():
    """One map of one picture; no gradient at all; all evidence against."""
    a = torch.arange(12.0).view(1, 2, 2, 3) - 4
    return {
        "one map": {"activations": a[:, :1], "gradients": torch.ones(1, 1, 2, 3)},
        "no gradient": {"activations": a, "gradients": torch.zeros_like(a)},
        "all against": {"activations": a.abs(), "gradients": -torch.ones_like(a)},
        "gradients in one place": {
            "activations": a,
            "gradients": torch.zeros_like(a).index_fill(3, torch.tensor([1]), 3.0),
        },
    }  # fmt: skip


def listing_no_gradients(activations, gradients):
    """The document calls the network under no_grad: activations are all there is."""
    return torch.relu(activations.sum(1))


def no_relu(activations, gradients):
    return (gradients.mean((2, 3), keepdim=True) * activations).sum(1)


def place_by_place(activations, gradients):
    return torch.relu((gradients * activations).sum(1))


def relu_before_the_sum(activations, gradients):
    return torch.relu(gradients.mean((2, 3), keepdim=True) * activations).sum(1)


def summed_gradients(activations, gradients):
    return torch.relu((gradients.sum((2, 3), keepdim=True) * activations).sum(1))


def mean_over_maps(activations, gradients):
    return torch.relu((gradients.mean((2, 3), keepdim=True) * activations).mean(1))


EXERCISE = Exercise(
    key="124.1a.heat-map",
    title="Grad-CAM",
    difficulty="implement",
    statement=r"""
From the activations $A_k$ of a layer and the gradients of the score in them, return

$$ \alpha_k = \frac1P \sum_i \frac{\partial z}{\partial A_{k,i}} , \qquad
L = \mathrm{ReLU}\Big(\sum_k \alpha_k A_k\Big) , $$

for each picture of a batch: `(N, K, h, w)` gives `(N, h, w)`.
""",
    imports="import torch",
    reference=heat_map,
    cases=cases,
    edges=edges,
    hints=[
        "One weight a map: the mean of its gradient over the places.",
        "`keepdim=True` lets the weights multiply the maps.",
        "The sum over the maps comes before the ReLU.",
    ],
    mistakes={
        "listing_no_gradients": Mistake(
            answer=listing_no_gradients,
            hint="without gradients the map does not know the score. The document's pass runs "
            "under no_grad, and has none.",
        ),
        "no_relu": Mistake(
            answer=no_relu, hint="the ReLU is missing: only what speaks for it counts."
        ),
        "place_by_place": Mistake(
            answer=place_by_place,
            hint="that is gradient times activation. Grad-CAM has one weight for a whole map.",
        ),
        "relu_before_the_sum": Mistake(
            answer=relu_before_the_sum, hint="evidence against must cancel before the ReLU."
        ),
        "summed_gradients": Mistake(
            answer=summed_gradients, hint="the weights are means over places, not sums."
        ),
        "mean_over_maps": Mistake(answer=mean_over_maps, hint="the maps are summed, not averaged."),
    },
)
