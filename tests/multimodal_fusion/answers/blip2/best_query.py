"""Answers to 121.2b.best-query."""

import torch
import torch.nn.functional as F


def right_by_loops(queries, text, temperature):
    b = len(text)
    rows = []
    for i in range(b):
        row = []
        for j in range(b):
            cosines = [F.cosine_similarity(q, text[j], dim=0) for q in queries[i]]
            row.append(torch.stack(cosines).max())
        rows.append(torch.stack(row))
    s = torch.stack(rows) / temperature
    by_picture = (s.logsumexp(1) - s.diagonal()).mean()
    return (by_picture + (s.logsumexp(0) - s.diagonal()).mean()) / 2


def right_by_matmul(queries, text, temperature):
    q = queries / queries.norm(dim=2, keepdim=True)
    t = text / text.norm(dim=1, keepdim=True)
    s = (q @ t.T).max(1).values / temperature
    return -(s.log_softmax(1).diagonal() + s.log_softmax(0).diagonal()).mean() / 2


def wrong_maximum_over_texts(queries, text, temperature):
    q, t = F.normalize(queries, dim=2), F.normalize(text, dim=1)
    s = (q @ t.T).max(2).values.mean(1) / temperature
    return F.cross_entropy(s.expand(len(text), -1), torch.arange(len(text)))


def wrong_sum_of_both_directions(queries, text, temperature):
    return 2 * right_by_matmul(queries, text, temperature)


def wrong_sum_over_the_batch(queries, text, temperature):
    return len(text) * right_by_matmul(queries, text, temperature)


def wrong_times_temperature(queries, text, temperature):
    return right_by_matmul(queries, text, 1 / temperature)


def wrong_detached_text(queries, text, temperature):
    return right_by_matmul(queries, text.detach(), temperature)


def wrong_a_float(queries, text, temperature):
    return right_by_matmul(queries, text, temperature).item()


def wrong_last_query(queries, text, temperature):
    return right_by_matmul(queries[:, -1:], text, temperature)


def wrong_smallest(queries, text, temperature):
    q, t = F.normalize(queries, dim=2), F.normalize(text, dim=1)
    s = (q @ t.T).amin(1) / temperature
    return -(s.log_softmax(1).diagonal() + s.log_softmax(0).diagonal()).mean() / 2


def wrong_maximum_after_softmax(queries, text, temperature):
    q, t = F.normalize(queries, dim=2), F.normalize(text, dim=1)
    logs = ((q @ t.T) / temperature).log_softmax(2).amax(1)
    return -logs.diagonal().mean()


def wrong_normalised_over_queries(queries, text, temperature):
    q, t = F.normalize(queries, dim=1), F.normalize(text, dim=1)
    s = (q @ t.T).amax(1) / temperature
    return -(s.log_softmax(1).diagonal() + s.log_softmax(0).diagonal()).mean() / 2


def wrong_texts_in_a_maximum_of_pictures_only(queries, text, temperature):
    q, t = F.normalize(queries, dim=2), F.normalize(text, dim=1)
    s = (q @ t.T).amax(1) / temperature
    return F.cross_entropy(s.T, torch.arange(len(text)))
