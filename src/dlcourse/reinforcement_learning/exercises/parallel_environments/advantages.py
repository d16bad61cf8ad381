"""122.1c: generalised advantage estimation in parallel environments."""

import torch

from dlcourse.exercises import Exercise, Mistake


def backward_advantages(rewards, values, next_values, terminated, truncated, gamma, lam):
    """Return the advantages, (T, N), of T steps in N environments.

    rewards, values, next_values: (T, N), with next_values of the states reached: where no episode
    ended, next_values[t] is values[t + 1];
    terminated, truncated: bool (T, N), and both may be True at once.
    """
    future = next_values.masked_fill(terminated, 0.0)  # (T, N)
    delta = rewards + gamma * future - values  # (T, N)
    goes_on = (~(terminated | truncated)).to(rewards.dtype)  # (T, N)
    rows, last = [], torch.zeros_like(rewards[0])  # (N,)
    for t in reversed(range(len(rewards))):
        last = delta[t] + gamma * lam * goes_on[t] * last
        rows.append(last)
    return torch.stack(rows[::-1])


def joined(inputs):
    """The same with next_values[t] = values[t + 1] where no episode ended: it is the same state."""
    ended = (inputs["terminated"] | inputs["truncated"])[:-1]
    after = inputs["next_values"].clone()
    after[:-1] = torch.where(ended, after[:-1], inputs["values"][1:])
    return {**inputs, "next_values": after}


def cases(rng):
    """Both flags happen, alone and together."""
    t, n = (int(x) for x in rng.integers((5, 2), (10, 6)))
    rewards, values, next_values = (torch.from_numpy(rng.standard_normal((t, n))) for _ in range(3))
    terminated, truncated = (torch.from_numpy(rng.random((t, n)) < 0.25) for _ in range(2))
    inputs = {
        "rewards": rewards,
        "values": values,
        "next_values": next_values,
        "terminated": terminated,
        "truncated": truncated,
        "gamma": float(rng.choice([0.9, 0.99])),
        "lam": float(rng.choice([0.8, 0.95])),
    }
    return joined(inputs)


def edges():
    """One step, one environment, steps as environments, an end in the last step, λ at 0, 1, NaN."""
    x = torch.arange(16, dtype=torch.float64).view(4, 4)
    no = torch.zeros(4, 4, dtype=torch.bool)
    last, middle = no.clone(), no.clone()
    last[-1], middle[1] = True, True
    anything = torch.tensor([torch.inf, torch.nan, -torch.inf, torch.nan], dtype=x.dtype)
    usual = {
        "rewards": x.sin() + 1, "values": (1.7 * x).cos(), "next_values": (0.3 * x).cos() + 2,
        "terminated": no, "truncated": no, "gamma": 0.9, "lam": 0.8,
    }  # fmt: skip

    def part(rows, columns):
        return {k: v[rows, columns] if torch.is_tensor(v) else v for k, v in usual.items()}

    found = {
        "nothing ends": usual,
        "all terminate in the middle": {**usual, "terminated": middle},
        "all are truncated in the middle": {**usual, "truncated": middle},
        "both at once": {**usual, "terminated": middle, "truncated": middle},
        "truncated in the last step": {**usual, "truncated": last},
        "one step": part(slice(0, 1), slice(None)),
        "one environment": part(slice(None), slice(0, 1)),
        "lambda is 0": {**usual, "lam": 0.0, "truncated": middle},
        "lambda and gamma are 1": {**usual, "lam": 1.0, "gamma": 1.0, "terminated": middle},
        "the value after an end is infinite, or NaN": {
            **usual, "terminated": middle,
            "next_values": torch.where(middle, anything, usual["next_values"]),
        },
    }  # fmt: skip
    return {name: joined(inputs) for name, inputs in found.items()}


def listing(rewards, values, next_values, terminated, truncated, gamma, lam):
    """A time limit taken for an end, as in many programs."""
    return backward_advantages(
        rewards, values, next_values, terminated | truncated, truncated, gamma, lam
    )


def sums_over_resets(rewards, values, next_values, terminated, truncated, gamma, lam):
    return backward_advantages(
        rewards, values, next_values.masked_fill(terminated, 0.0), terminated & False,
        truncated & False, gamma, lam,
    )  # fmt: skip


def sums_over_time_limits(rewards, values, next_values, terminated, truncated, gamma, lam):
    return backward_advantages(
        rewards, values, next_values, terminated, truncated & False, gamma, lam
    )


def ends_bootstrap(rewards, values, next_values, terminated, truncated, gamma, lam):
    ended = terminated | truncated
    return backward_advantages(rewards, values, next_values, ended & False, ended, gamma, lam)


def one_step_errors(rewards, values, next_values, terminated, truncated, gamma, lam):
    return rewards + gamma * next_values.masked_fill(terminated, 0.0) - values


def without_gamma_in_the_sum(rewards, values, next_values, terminated, truncated, gamma, lam):
    delta = one_step_errors(rewards, values, next_values, terminated, truncated, gamma, lam)
    zero = torch.zeros_like(delta)
    return backward_advantages(delta, zero, zero, terminated, truncated, 1.0, lam)


def returns(rewards, values, next_values, terminated, truncated, gamma, lam):
    return values + backward_advantages(
        rewards, values, next_values, terminated, truncated, gamma, lam
    )


EXERCISE = Exercise(
    key="122.1c.advantages",
    title="Advantages in parallel",
    difficulty="implement",
    statement=r"""
Write generalised advantage estimation for $N$ environments at once:

$$
\begin{aligned}
\delta_t &= r_t + \gamma\,(1 - \text{terminated}_t)\,V(s'_t) - V(s_t), \\
\hat A_t &= \delta_t + \gamma\lambda\,(1 - \text{ended}_t)\,\hat A_{t+1}, \qquad \hat A_T = 0,
\end{aligned}
$$

where an episode has ended if it has terminated, or was truncated, or both. `next_values` holds
$V(s'_t)$ of the state reached: where no episode ended, that is the next row of `values`. After a
termination it may be anything, infinite or NaN too.
""",
    imports="import torch",
    reference=backward_advantages,
    cases=cases,
    edges=edges,
    rtol=1e-5,
    atol=1e-6,  # γλ times a bool mask is float32 in torch, and no mistake
    hints=[
        "Begin with the last step, and go backwards: each advantage needs the next one.",
        "Two masks: only a termination takes away the next value; either flag stops the sum.",
        "0 times infinity is NaN, and so is 0 times NaN: use `masked_fill` or `where` for the "
        "value after an end.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="a time limit is taken for an end. The state reached had a future: its value "
            "counts.",
        ),
        "sums_over_resets": Mistake(
            answer=sums_over_resets,
            hint="the sum goes on over a reset, into another episode's rewards.",
        ),
        "sums_over_time_limits": Mistake(
            answer=sums_over_time_limits,
            hint="the sum stops at terminations only: after a time limit, too, the next row is of "
            "another episode.",
        ),
        "ends_bootstrap": Mistake(
            answer=ends_bootstrap,
            hint="a value is added after a termination, where nothing comes any more.",
        ),
        "one_step_errors": Mistake(
            answer=one_step_errors, hint="these are the TD errors alone, as with λ = 0."
        ),
        "without_gamma_in_the_sum": Mistake(
            answer=without_gamma_in_the_sum,
            hint="the sum has weights λ; they are (γλ), as the advantage ahead is discounted too.",
        ),
        "returns": Mistake(
            answer=returns,
            hint="these are advantages plus values: the critic's targets, not the advantages.",
        ),
    },
)
