"""Answers to 121.2b.attention-masks."""

import torch


def right_by_loops(objective, num_queries, text_mask):
    b, t = text_mask.shape
    n = num_queries + t
    may = torch.zeros(b, n, n, dtype=torch.bool)
    for k in range(b):
        for i in range(n):
            for j in range(n):
                if j >= num_queries and not text_mask[k, j - num_queries]:
                    continue
                both = (i < num_queries) == (j < num_queries)
                if objective == "itm":
                    may[k, i, j] = True
                elif objective == "itc":
                    may[k, i, j] = both
                elif i < num_queries:
                    may[k, i, j] = both
                else:
                    may[k, i, j] = j < num_queries or j <= i
    return may


def right_by_blocks(objective, num_queries, text_mask):
    b, t = text_mask.shape
    q = num_queries
    qq = torch.ones(b, q, q, dtype=torch.bool)
    qt = text_mask[:, None, :].expand(b, q, t) & (objective == "itm")
    tq = torch.full((b, t, q), objective != "itc")
    tt = text_mask[:, None, :].expand(b, t, t)
    if objective == "itg":
        tt = tt & torch.tril(torch.ones(t, t, dtype=torch.bool))
    return torch.cat([torch.cat([qq, qt], 2), torch.cat([tq, tt], 2)], 1)


def wrong_closes_rows_too(objective, num_queries, text_mask):
    may = right_by_blocks(objective, num_queries, text_mask)
    real = torch.cat([torch.ones(len(text_mask), num_queries, dtype=torch.bool), text_mask], 1)
    return may & real[:, :, None]


def wrong_closes_rows_alone(objective, num_queries, text_mask):
    may = right_by_blocks(objective, num_queries, torch.ones_like(text_mask))
    real = torch.cat([torch.ones(len(text_mask), num_queries, dtype=torch.bool), text_mask], 1)
    return may & real[:, :, None]


def wrong_floats(objective, num_queries, text_mask):
    return right_by_blocks(objective, num_queries, text_mask).float()


def wrong_head_dimension(objective, num_queries, text_mask):
    return right_by_blocks(objective, num_queries, text_mask)[:, None]


def wrong_inverted(objective, num_queries, text_mask):
    return ~right_by_blocks(objective, num_queries, text_mask)


def wrong_triangle_for_all_objectives(objective, num_queries, text_mask):
    may = right_by_blocks(objective, num_queries, text_mask)
    t = text_mask.shape[1]
    may[:, num_queries:, num_queries:] &= torch.ones(t, t, dtype=torch.bool).tril()
    return may


def wrong_itc_one_way(objective, num_queries, text_mask):
    may = right_by_blocks(objective, num_queries, text_mask)
    if objective == "itc":
        may[:, num_queries:, :num_queries] = True
    return may


def wrong_first_text_for_all(objective, num_queries, text_mask):
    return right_by_blocks(objective, num_queries, text_mask[:1].expand_as(text_mask))


def wrong_upper_triangle(objective, num_queries, text_mask):
    may = right_by_blocks(objective, num_queries, text_mask)
    if objective == "itg":
        t = text_mask.shape[1]
        may[:, num_queries:, num_queries:] = (
            torch.ones(t, t, dtype=torch.bool).triu() & text_mask[:, None]
        )
    return may


def wrong_padding_always_behind_the_text(objective, num_queries, text_mask):
    length = text_mask.sum(1, keepdim=True)
    behind = torch.arange(text_mask.shape[1]) < length
    return right_by_blocks(objective, num_queries, behind)
