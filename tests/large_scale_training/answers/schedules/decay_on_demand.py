"""Answers to 119.3.decay-on-demand."""

import numpy as np
import torch


def wrong_divides_by_no_warmup(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr):
    steps = np.arange(stop_step + decay_steps + 1)
    with np.errstate(all="ignore"):
        stable = base_lr * np.minimum(1, steps / num_warmup_steps)
    return _with_decay(stable, stop_step, decay_steps, min_lr)


def wrong_no_warmup_begins_at_zero(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr):
    steps = np.arange(stop_step + decay_steps + 1)
    stable = base_lr * np.minimum(1, steps / max(1, num_warmup_steps))
    return _with_decay(stable, stop_step, decay_steps, min_lr)


def _with_decay(stable, stop_step, decay_steps, min_lr):
    rates = stable.copy()
    for k in range(decay_steps + 1):
        fall = 1 - np.sqrt(k / decay_steps)
        rates[stop_step + k] = min_lr + (stable[stop_step] - min_lr) * fall
    return rates


def wrong_never_below_the_floor(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr):
    """Asked for in the early warm-up, the rate jumps up to the floor."""
    rates = right_in_two_parts(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr)
    return np.append(rates[:stop_step], np.maximum(rates[stop_step:], min_lr))


def wrong_stays_below_the_floor(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr):
    top = right_in_two_parts(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr)[stop_step]
    return right_in_two_parts(base_lr, num_warmup_steps, stop_step, decay_steps, min(min_lr, top))


def wrong_one_rate_short(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr):
    return right_in_two_parts(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr)[:-1]


def wrong_decay_alone(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr):
    rates = right_in_two_parts(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr)
    return rates[stop_step:]


def wrong_decay_to_zero(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr):
    return right_in_two_parts(base_lr, num_warmup_steps, stop_step, decay_steps, 0.0)


def wrong_warms_up_while_it_decays(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr):
    steps = np.arange(stop_step + decay_steps + 1)
    stable = base_lr * np.minimum(1, (steps + (num_warmup_steps == 0)) / max(1, num_warmup_steps))
    p = np.clip((steps - stop_step) / decay_steps, 0, 1)
    return min_lr + (stable - min_lr) * (1 - np.sqrt(p))


def wrong_begins_the_decay_at_once(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr):
    rates = right_in_two_parts(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr)
    return np.append(np.delete(rates, stop_step), min_lr)


def wrong_a_list(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr):
    return list(right_in_two_parts(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr))


def wrong_a_tensor(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr):
    rates = right_in_two_parts(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr)
    return torch.from_numpy(rates)


def right_in_two_parts(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr):
    def stable(k):
        return base_lr * k / num_warmup_steps if k < num_warmup_steps else base_lr

    before = [stable(k) for k in range(stop_step)]
    root = np.sqrt(np.linspace(0, 1, decay_steps + 1))
    return np.concatenate([before, stable(stop_step) * (1 - root) + min_lr * root])


def right_step_by_step(base_lr, num_warmup_steps, stop_step, decay_steps, min_lr):
    rates = []
    for k in range(stop_step + decay_steps + 1):
        reached = min(k, stop_step)
        rate = base_lr if reached >= num_warmup_steps else base_lr * reached / num_warmup_steps
        if k > stop_step:
            rate -= (rate - min_lr) * ((k - stop_step) / decay_steps) ** 0.5
        rates.append(rate)
    return np.array(rates)
