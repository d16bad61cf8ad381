"""Answers to 120.1c.whole-blocks."""

import math

import numpy as np
import torch
import torch.nn.functional as F


def widen(mask, scale):
    ones = torch.ones(1, scale, scale, dtype=mask.dtype)
    return torch.kron(mask, ones).flatten(1)


def by_count(noise, count, scale):
    ranks = noise.flatten(1).argsort(1, descending=True).argsort(1)
    return widen((ranks < count).double().view_as(noise), scale)


def wrong_one_more_than_rounded_down(noise, mask_ratio, scale):
    return by_count(noise, int(mask_ratio * noise[0].numel()) + 1, scale)


def wrong_rounded(noise, mask_ratio, scale):
    return by_count(noise, round(mask_ratio * noise[0].numel()), scale)


def wrong_counted_in_patches(noise, mask_ratio, scale):
    count = math.ceil(mask_ratio * noise[0].numel() * scale**2) // scale**2
    return by_count(noise, count, scale)


def wrong_something_is_always_seen(noise, mask_ratio, scale):
    blocks = noise[0].numel()
    return by_count(noise, min(math.ceil(mask_ratio * blocks), max(blocks - 1, 1)), scale)


def wrong_each_block_in_a_row(noise, mask_ratio, scale):
    return right_by_ranks(noise, mask_ratio, 1).repeat_interleave(scale**2, 1)


def wrong_threshold_is_the_ratio(noise, mask_ratio, scale):
    return widen((noise > 1 - mask_ratio).double(), scale)


def wrong_row_by_row(noise, mask_ratio, scale):
    count = math.ceil(mask_ratio * noise.shape[2])
    ranks = noise.argsort(2, descending=True).argsort(2)
    return widen((ranks < count).double(), scale)


def wrong_order_in_place_of_ranks(noise, mask_ratio, scale):
    order = noise.flatten(1).argsort(1, descending=True)
    count = math.ceil(mask_ratio * noise[0].numel())
    return widen((order < count).double().view_as(noise), scale)


def wrong_columns_first(noise, mask_ratio, scale):
    mask = right_by_ranks(noise, mask_ratio, scale)
    rows, columns = noise.shape[1] * scale, noise.shape[2] * scale
    return mask.view(-1, rows, columns).transpose(1, 2).flatten(1)


def wrong_a_grid(noise, mask_ratio, scale):
    mask = right_by_ranks(noise, mask_ratio, scale)
    return mask.view(len(noise), noise.shape[1] * scale, -1)


def wrong_booleans(noise, mask_ratio, scale):
    return right_by_ranks(noise, mask_ratio, scale).bool()


def wrong_whole_numbers(noise, mask_ratio, scale):
    return right_by_ranks(noise, mask_ratio, scale).long()


def wrong_numpy(noise, mask_ratio, scale):
    return right_by_ranks(noise, mask_ratio, scale).numpy()


def wrong_first_image_for_all(noise, mask_ratio, scale):
    return right_by_ranks(noise, mask_ratio, scale)[:1].expand(len(noise), -1)


def right_by_ranks(noise, mask_ratio, scale):
    return by_count(noise, math.ceil(mask_ratio * noise[0].numel()), scale)


def right_by_a_threshold_for_each_image(noise, mask_ratio, scale):
    count = -int(-mask_ratio * noise[0].numel() // 1)
    least = noise.flatten(1).sort(1, descending=True).values[:, count - 1]
    mask = (noise >= least[:, None, None]).double()
    return F.interpolate(mask[:, None], scale_factor=scale).flatten(1)


def right_in_single_precision(noise, mask_ratio, scale):
    batch, rows, columns = noise.shape
    mask = np.zeros((batch, rows, scale, columns, scale), dtype="float32")
    for b in range(batch):
        order = np.argsort(-noise[b].numpy().ravel())
        for index in order[: int(np.ceil(mask_ratio * rows * columns))]:
            mask[b, index // columns, :, index % columns] = 1
    return torch.from_numpy(mask).reshape(batch, -1)
