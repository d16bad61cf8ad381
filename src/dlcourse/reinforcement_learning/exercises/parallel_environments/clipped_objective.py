"""122.1c: PPO's clipped objective."""

import torch

from dlcourse.exercises import Exercise, Mistake


def clipped_objective(log_prob, old_log_prob, advantage, clip):
    """Return PPO's objective, a scalar to be maximised: a mean over n actions.

    log_prob, old_log_prob, advantage: (n,); clip: a float between 0 and 1.
    """
    ratio = (log_prob - old_log_prob).exp()  # (n,)
    clipped = ratio.clamp(1 - clip, 1 + clip)  # (n,)
    return torch.minimum(ratio * advantage, clipped * advantage).mean()


def cases(rng):
    """Ratios on both sides of both bounds, advantages of both signs."""
    n = int(rng.integers(5, 12))
    old, moved, advantage = (torch.from_numpy(rng.standard_normal(n)) for _ in range(3))
    return {
        "log_prob": old + 0.5 * moved,
        "old_log_prob": old,
        "advantage": advantage,
        "clip": float(rng.choice([0.1, 0.2, 0.3])),
    }


def edges():
    """One action; a policy that has not moved; far moves to either side, of either sign."""
    old = torch.tensor([-1.0, -2.0, -0.5, -3.0], dtype=torch.float64)
    sign = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    far = torch.tensor([2.0, 2.0, -2.0, -2.0], dtype=torch.float64)
    return {
        "nothing has moved": {
            "log_prob": old.clone(), "old_log_prob": old, "advantage": 2 * sign + 0.5, "clip": 0.2
        },
        "far to both sides": {
            "log_prob": old + far, "old_log_prob": old, "advantage": sign, "clip": 0.2
        },
        "one action": {
            "log_prob": old[:1] + 1, "old_log_prob": old[:1], "advantage": -sign[:1], "clip": 0.1
        },
        "densities below e to the -800": {
            "log_prob": old - 800 + 0.1 * far, "old_log_prob": old - 800, "advantage": sign,
            "clip": 0.2,
        },
    }  # fmt: skip


def listing_of_the_policy_gradient(log_prob, old_log_prob, advantage, clip):
    return (log_prob * advantage).mean()


def only_clipped(log_prob, old_log_prob, advantage, clip):
    return ((log_prob - old_log_prob).exp().clamp(1 - clip, 1 + clip) * advantage).mean()


def never_clipped(log_prob, old_log_prob, advantage, clip):
    return ((log_prob - old_log_prob).exp() * advantage).mean()


def largest(log_prob, old_log_prob, advantage, clip):
    ratio = (log_prob - old_log_prob).exp()
    return torch.maximum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()


def smallest_ratio(log_prob, old_log_prob, advantage, clip):
    ratio = (log_prob - old_log_prob).exp()
    return (torch.minimum(ratio, ratio.clamp(1 - clip, 1 + clip)) * advantage).mean()


def a_loss(log_prob, old_log_prob, advantage, clip):
    return -clipped_objective(log_prob, old_log_prob, advantage, clip)


def upside_down(log_prob, old_log_prob, advantage, clip):
    return clipped_objective(old_log_prob, log_prob, advantage, clip)


def summed(log_prob, old_log_prob, advantage, clip):
    return clipped_objective(log_prob, old_log_prob, advantage, clip) * len(log_prob)


EXERCISE = Exercise(
    key="122.1c.clipped-objective",
    title="PPO's objective",
    difficulty="implement",
    statement=r"""
From log-probabilities under the new and the old policy, write

$$
L = \frac{1}{n} \sum_i \min\big(\rho_i \hat A_i,\; \operatorname{clip}(\rho_i, 1 - \epsilon, 1 + \epsilon)\,
\hat A_i\big), \qquad \rho_i = \frac{\pi(a_i)}{\pi_{\text{old}}(a_i)} .
$$

Its gradient must reach `log_prob`. Probabilities may be smaller than any float.
""",
    imports="import torch",
    reference=clipped_objective,
    cases=cases,
    edges=edges,
    differentiable=("log_prob",),
    hints=[
        "The ratio of two probabilities is the exponential of the difference of their logarithms.",
        "`clamp(1 - clip, 1 + clip)` is the clip; both products come before the minimum.",
        "The minimum is taken for each action, then the mean.",
    ],
    mistakes={
        "listing_of_the_policy_gradient": Mistake(
            answer=listing_of_the_policy_gradient,
            hint="this is the plain policy gradient's objective, without a ratio. Its gradient is "
            "right at the old policy only.",
        ),
        "only_clipped": Mistake(
            answer=only_clipped,
            hint="only the clipped product is there. A step that went wrong, far outside, has no "
            "gradient then, and never comes back.",
        ),
        "never_clipped": Mistake(answer=never_clipped, hint="the ratio is not clipped anywhere."),
        "largest": Mistake(
            answer=largest, hint="you take the larger of the two products: take the smaller."
        ),
        "smallest_ratio": Mistake(
            answer=smallest_ratio,
            hint="the minimum is of the ratios, before the advantage. With a negative advantage the "
            "order turns round: multiply first.",
        ),
        "a_loss": Mistake(
            answer=a_loss, hint="the sign is that of a loss; the objective is to be maximised."
        ),
        "upside_down": Mistake(
            answer=upside_down, hint="the ratio is upside down: new over old."
        ),
        "summed": Mistake(answer=summed, hint="you sum; the objective is a mean over actions."),
    },
)
