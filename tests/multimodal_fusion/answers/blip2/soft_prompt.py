"""Answers to 121.2b.soft-prompt."""

import torch
from torch.nn import functional as F


def right_by_padding(queries, weight, bias, embeddings, text_mask, ids):
    q = queries.shape[1]
    prompt = F.linear(queries, weight, bias)
    labels = torch.where(text_mask.bool(), ids, torch.tensor(-100))
    return (
        torch.cat((prompt, embeddings), 1),
        F.pad(text_mask, (q, 0), value=1),
        F.pad(labels, (q, 0), value=-100),
    )


def right_by_filling(queries, weight, bias, embeddings, text_mask, ids):
    b, q, _ = queries.shape
    t = ids.shape[1]
    x = torch.empty(b, q + t, embeddings.shape[2], dtype=embeddings.dtype)
    x[:, :q] = torch.einsum("bqe,de->bqd", queries, weight) + bias
    x[:, q:] = embeddings
    mask = torch.ones(b, q + t, dtype=torch.long)
    mask[:, q:] = text_mask
    labels = torch.full((b, q + t), -100)
    for i in range(b):
        for j in range(t):
            if text_mask[i, j]:
                labels[i, q + j] = ids[i, j]
    return x, mask, labels


def wrong_labels_zero(queries, weight, bias, embeddings, text_mask, ids):
    x, mask, labels = right_by_padding(queries, weight, bias, embeddings, text_mask, ids)
    return x, mask, labels.clamp_min(0)


def wrong_minus_one(queries, weight, bias, embeddings, text_mask, ids):
    x, mask, labels = right_by_padding(queries, weight, bias, embeddings, text_mask, ids)
    return x, mask, labels.where(labels != -100, -1)


def wrong_mask_for_the_text_alone(queries, weight, bias, embeddings, text_mask, ids):
    x, _, labels = right_by_padding(queries, weight, bias, embeddings, text_mask, ids)
    return x, text_mask, labels


def wrong_boolean_mask(queries, weight, bias, embeddings, text_mask, ids):
    x, mask, labels = right_by_padding(queries, weight, bias, embeddings, text_mask, ids)
    return x, mask.bool(), labels


def wrong_all_is_attended(queries, weight, bias, embeddings, text_mask, ids):
    x, mask, labels = right_by_padding(queries, weight, bias, embeddings, text_mask, ids)
    return x, torch.ones_like(mask), labels


def wrong_frozen_too_much(queries, weight, bias, embeddings, text_mask, ids):
    with torch.no_grad():
        return right_by_padding(queries, weight, bias, embeddings, text_mask, ids)


def wrong_one_prompt_word(queries, weight, bias, embeddings, text_mask, ids):
    return right_by_padding(
        queries.mean(1, keepdim=True), weight, bias, embeddings, text_mask, ids
    )


def wrong_other_order_of_results(queries, weight, bias, embeddings, text_mask, ids):
    x, mask, labels = right_by_padding(queries, weight, bias, embeddings, text_mask, ids)
    return x, labels, mask


def wrong_normalised_prompt(queries, weight, bias, embeddings, text_mask, ids):
    prompt = F.normalize(F.linear(queries, weight, bias), dim=-1)
    _, mask, labels = right_by_padding(queries, weight, bias, embeddings, text_mask, ids)
    return torch.cat([prompt, embeddings], 1), mask, labels


def wrong_mask_before_the_prompt(queries, weight, bias, embeddings, text_mask, ids):
    x, mask, labels = right_by_padding(queries, weight, bias, embeddings, text_mask, ids)
    return x, F.pad(text_mask, (0, queries.shape[1]), value=1), labels


def wrong_labels_by_length(queries, weight, bias, embeddings, text_mask, ids):
    x, mask, _ = right_by_filling(queries, weight, bias, embeddings, text_mask, ids)
    behind = torch.arange(ids.shape[1]) >= text_mask.sum(1, keepdim=True)
    prompt = torch.full(queries.shape[:2], -100)
    return x, mask, torch.cat([prompt, ids.masked_fill(behind, -100)], 1)
