"""Answers to 121.1a.read-across."""

import math

import torch
from torch.nn.functional import scaled_dot_product_attention


def wrong_mask_as_it_is(q, k, v, padding):
    """The fast function's mask says who may be seen."""
    return scaled_dot_product_attention(q, k, v, attn_mask=padding[:, None, :])


def wrong_values_as_keys(q, k, v, padding):
    k = v[..., : q.shape[2]]
    if k.shape[2] < q.shape[2]:
        k = torch.cat([k, k.new_zeros(*k.shape[:2], q.shape[2] - k.shape[2])], 2)
    return right_fast(q, k, v, padding)


def wrong_scale_by_the_keys(q, k, v, padding):
    return right_fast(q * math.sqrt(q.shape[2] / k.shape[1]), k, v, padding)


def wrong_mask_of_the_first_example(q, k, v, padding):
    return right_fast(q, k, v, padding[:1].expand_as(padding))


def wrong_hidden_by_a_small_number(q, k, v, padding):
    scores = q @ k.mT / math.sqrt(q.shape[2])
    return (scores - 5.0 * padding[:, None, :]).softmax(-1) @ v


def wrong_values_set_to_zero(q, k, v, padding):
    weights = (q @ k.mT / math.sqrt(q.shape[2])).softmax(-1)
    return weights @ v.masked_fill(padding[:, :, None], 0)


def wrong_no_gradient(q, k, v, padding):
    with torch.no_grad():
        return right_fast(q, k, v, padding)


def right_fast(q, k, v, padding):
    return scaled_dot_product_attention(q, k, v, attn_mask=~padding[:, None, :])


def right_by_einsum(q, k, v, padding):
    scores = torch.einsum("bqd,bkd->bqk", q, k) / q.shape[-1] ** 0.5
    scores = torch.where(padding[:, None], torch.finfo(scores.dtype).min, scores)
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    return torch.einsum("bqk,bke->bqe", weights, v) / weights.sum(-1, keepdim=True)


def wrong_minus_a_thousand(q, k, v, padding):
    scores = q @ k.mT / q.shape[2] ** 0.5 - 1000 * padding[:, None]
    return scores.softmax(2) @ v


def wrong_plain_exponentials(q, k, v, padding):
    weights = (q @ k.mT / q.shape[2] ** 0.5).exp() * ~padding[:, None]
    return weights / weights.sum(2, keepdim=True) @ v


def wrong_divided_after_the_softmax(q, k, v, padding):
    weights = (q @ k.mT / q.shape[2] ** 0.5).softmax(2) * ~padding[:, None]
    return weights / weights.sum(2, keepdim=True) @ v
