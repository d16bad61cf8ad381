"""119.1c: clip gradients that were scaled for fp16."""

import torch

from dlcourse.exercises import Exercise, Mistake


def unscale_and_clip(grads, scale, max_norm):
    """Return the true gradients, clipped to max_norm, and their norm before.

    grads: list of tensors, the gradients of the loss times scale; leave them as
    they are.
    """
    grads = [g / scale for g in grads]
    norm = torch.sqrt(sum((g**2).sum() for g in grads))
    factor = max_norm / float(norm) if norm > max_norm else 1.0  # no division by a norm of 0
    return [g * factor for g in grads], float(norm)


def cases(rng):
    """Two to four tensors; the true norm, 1 to 9, is now above, now below the bound."""
    count = int(rng.integers(2, 5))
    shapes = [tuple(int(n) for n in rng.integers(1, 5, size=2)) for _ in range(count)]
    scale, norm = float(2 ** rng.integers(4, 17)), float(rng.uniform(1, 9))
    grads = [torch.from_numpy(rng.standard_normal(shape)) for shape in shapes]
    longer = scale * norm / _norm(grads)
    bound = norm * float(rng.uniform(0.3, 1.8))
    return {"grads": [g * longer for g in grads], "scale": scale, "max_norm": bound}


def edges():
    """No gradient at all, a norm that is just the bound, one tensor, a scale of 1."""
    g = torch.tensor([3.0, -4.0], dtype=torch.float64)  # of norm 5
    none, square = torch.zeros(2, dtype=torch.float64), torch.ones(2, 2, dtype=torch.float64)
    return {
        "all gradients are zero": {"grads": [none, none], "scale": 1024.0, "max_norm": 1.0},
        "the norm is the bound": {"grads": [g * 16], "scale": 16.0, "max_norm": 5.0},
        "far below the bound": {"grads": [g, square], "scale": 1.0, "max_norm": 100.0},
        "one tensor": {"grads": [g * 4], "scale": 4.0, "max_norm": 1.0},
        "one tensor is zero": {"grads": [g * 4, none], "scale": 4.0, "max_norm": 1.0},
        "a scale below 1": {"grads": [g / 4, square / 4], "scale": 0.25, "max_norm": 2.0},
    }


def _norm(grads):
    return float(torch.cat([g.flatten() for g in grads]).norm())


def listing(grads, scale, max_norm):
    """Clip without `unscale_`, as whoever adds clipping to the document's loop does."""
    norm = _norm(grads)
    factor = max_norm / norm if norm > max_norm else 1.0
    return [g * factor / scale for g in grads], norm


def still_scaled(grads, scale, max_norm):
    clipped, norm = unscale_and_clip(grads, scale, max_norm)
    return [g * scale for g in clipped], norm


def each_by_itself(grads, scale, max_norm):
    grads = [g / scale for g in grads]
    factors = [min(1.0, max_norm / (_norm([g]) or 1.0)) for g in grads]
    return [g * factor for g, factor in zip(grads, factors, strict=True)], _norm(grads)


def always_rescaled(grads, scale, max_norm):
    grads = [g / scale for g in grads]
    return [g * max_norm / (_norm(grads) or 1.0) for g in grads], _norm(grads)


def by_value(grads, scale, max_norm):
    grads = [g / scale for g in grads]
    return [g.clamp(-max_norm, max_norm) for g in grads], _norm(grads)


def norm_after(grads, scale, max_norm):
    clipped, _ = unscale_and_clip(grads, scale, max_norm)
    return clipped, _norm(clipped)


EXERCISE = Exercise(
    key="119.1c.clip-unscaled",
    title="Clip, but what?",
    difficulty="implement",
    statement=r"""
With loss scaling, backward gives $s\,g$ where $g$ is the gradient. Recover $g$, then clip: with
$\lVert g \rVert$ the Euclidean norm of *all* gradients together,

$$
\hat g = g \cdot \min\!\left(1, \frac{c}{\lVert g \rVert}\right).
$$

Return the list of clipped gradients, no longer scaled, and $\lVert g \rVert$ as a `float`. All
gradients may be 0. (PyTorch's own clipping adds $10^{-6}$ to the norm before it divides; here
either is right.)
""",
    imports="import torch",
    reference=unscale_and_clip,
    cases=cases,
    edges=edges,
    rtol=1e-5,
    atol=1e-8,
    returns=("clipped", "norm"),
    hints=[
        "Divide first, then measure: this is why GradScaler has `unscale_`.",
        "One norm for all tensors: sum the squares of all of them, then take the root.",
        "Gradients below the bound stay as they are.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="the scaled gradients are clipped: their norm is thousands of times too large, "
            "so nearly nothing is left. It happens when clipping is added to the document's loop "
            "without `unscale_`.",
        ),
        "still_scaled": Mistake(
            answer=still_scaled,
            hint="the result is still multiplied by the scale: the optimizer would take a huge "
            "step.",
        ),
        "each_by_itself": Mistake(
            answer=each_by_itself,
            hint="each tensor is clipped by itself. That changes the direction of the step.",
        ),
        "always_rescaled": Mistake(
            answer=always_rescaled,
            hint="gradients below the bound are blown up to it. Take the minimum with 1.",
        ),
        "by_value": Mistake(
            answer=by_value,
            hint="each element is clamped. That is clipping by value, which turns the direction.",
        ),
        "norm_after": Mistake(
            answer=norm_after,
            hint="the norm is measured after clipping. Return the one before it: that is what "
            "one plots to see trouble coming.",
        ),
    },
)
