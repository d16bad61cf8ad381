"""Answers to 119.1b.data-position."""

import numpy as np
import torch


def wrong_rounds_the_epoch_up(rank, ranks, step, batch, examples, seed):
    epoch, position = divmod(step, -(-examples // batch))
    order = np.random.default_rng([seed, epoch]).permutation(examples)
    return np.array_split(order[position * batch : (position + 1) * batch], ranks)[rank]


def wrong_wraps_around_the_data(rank, ranks, step, batch, examples, seed):
    epoch = step * batch // examples
    order = np.random.default_rng([seed, epoch]).permutation(examples)
    rows = order[(step * batch + np.arange(batch)) % examples]
    return np.array_split(rows, ranks)[rank]


def wrong_seed_and_epoch_added(rank, ranks, step, batch, examples, seed):
    epoch, position = divmod(step, examples // batch)
    order = np.random.default_rng(seed + epoch).permutation(examples)
    return np.array_split(order[position * batch : (position + 1) * batch], ranks)[rank]


def wrong_epochs_from_one(rank, ranks, step, batch, examples, seed):
    epoch, position = divmod(step, examples // batch)
    order = np.random.default_rng([seed, epoch + 1]).permutation(examples)
    return np.array_split(order[position * batch : (position + 1) * batch], ranks)[rank]


def wrong_batch_a_rank(rank, ranks, step, batch, examples, seed):
    epoch, position = divmod(step, examples // batch)
    order = np.random.default_rng([seed, epoch]).permutation(examples)
    return order[(position * ranks + rank) * batch :][:batch]


def wrong_for_two_ranks(rank, ranks, step, batch, examples, seed):
    epoch, position = divmod(step, examples // batch)
    order = np.random.default_rng([seed, epoch]).permutation(examples)
    rows = order[position * batch : (position + 1) * batch]
    return rows[batch // 2 :] if rank else rows[: batch // 2]


def wrong_one_generator_for_all_epochs(rank, ranks, step, batch, examples, seed):
    epoch, position = divmod(step, examples // batch)
    generator = np.random.default_rng([seed, 0])
    for _ in range(epoch + 1):
        order = generator.permutation(examples)
    return np.array_split(order[position * batch : (position + 1) * batch], ranks)[rank]


def wrong_shuffles_what_is_read_alone(rank, ranks, step, batch, examples, seed):
    epoch, position = divmod(step, examples // batch)
    order = np.random.default_rng([seed, epoch]).permutation(examples // batch * batch)
    return np.array_split(order[position * batch : (position + 1) * batch], ranks)[rank]


def wrong_steps_of_the_rank_alone(rank, ranks, step, batch, examples, seed):
    share = batch // ranks
    epoch, position = divmod(step, examples // share)
    order = np.random.default_rng([seed, epoch]).permutation(examples)
    return order[(position * ranks + rank) * share :][:share]


def wrong_a_list(rank, ranks, step, batch, examples, seed):
    return right_by_reshaping(rank, ranks, step, batch, examples, seed).tolist()


def wrong_a_tensor(rank, ranks, step, batch, examples, seed):
    return torch.from_numpy(right_by_reshaping(rank, ranks, step, batch, examples, seed))


def wrong_sorted(rank, ranks, step, batch, examples, seed):
    return np.sort(right_by_reshaping(rank, ranks, step, batch, examples, seed))


def right_by_reshaping(rank, ranks, step, batch, examples, seed):
    per_epoch = examples // batch
    order = np.random.default_rng([seed, step // per_epoch]).permutation(examples)
    return order[: per_epoch * batch].reshape(per_epoch, ranks, -1)[step % per_epoch, rank]


def right_by_counting(rank, ranks, step, batch, examples, seed):
    epoch = 0
    while step >= examples // batch:
        step, epoch = step - examples // batch, epoch + 1
    share = batch // ranks
    first = step * batch + rank * share
    return np.random.default_rng([seed, epoch]).permutation(examples)[first : first + share]
