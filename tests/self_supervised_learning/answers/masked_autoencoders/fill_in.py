"""Answers to 120.2.fill-in."""

import torch


def shuffled(visible, mask_token, n):
    hidden = mask_token.repeat(len(visible), n - visible.shape[1], 1)
    return torch.cat([visible, hidden], 1)


def wrong_scatter_for_gather(visible, mask_token, ids_restore):
    x = shuffled(visible, mask_token, ids_restore.shape[1])
    index = ids_restore[..., None].expand_as(x)
    return torch.empty_like(x).scatter(1, index, x)


def wrong_visible_put_first(visible, mask_token, ids_restore):
    return shuffled(visible, mask_token, ids_restore.shape[1])


def wrong_order_of_the_first_image(visible, mask_token, ids_restore):
    return shuffled(visible, mask_token, ids_restore.shape[1])[:, ids_restore[0]]


def wrong_first_feature_everywhere(visible, mask_token, ids_restore):
    x = shuffled(visible, mask_token, ids_restore.shape[1])
    return x.gather(1, ids_restore[..., None]).expand_as(x).clone()


def wrong_visible_in_the_order_of_the_image(visible, mask_token, ids_restore):
    """Places are right, but the visible tokens are handed out from left to right."""
    b, k, d = visible.shape
    rows = []
    for i in range(b):
        row, left = [], iter(visible[i])
        for place in ids_restore[i]:
            row.append(next(left) if place < k else mask_token)
        rows.append(torch.stack(row))
    return torch.stack(rows)


def wrong_rows_of_the_batch_mixed(visible, mask_token, ids_restore):
    x = shuffled(visible, mask_token, ids_restore.shape[1])
    return x.flatten(0, 1)[ids_restore.flatten()].view_as(x)


def wrong_token_added_everywhere(visible, mask_token, ids_restore):
    return right_by_indexing(visible, 0 * mask_token, ids_restore) + mask_token


def wrong_one_token_short(visible, mask_token, ids_restore):
    return right_by_indexing(visible, mask_token, ids_restore)[:, :-1]


def wrong_token_detached(visible, mask_token, ids_restore):
    return right_by_indexing(visible, mask_token.detach(), ids_restore)


def wrong_through_numpy(visible, mask_token, ids_restore):
    x = shuffled(visible, mask_token, ids_restore.shape[1]).numpy()
    return torch.from_numpy(x[[[i] for i in range(len(x))], ids_restore.numpy()])


def wrong_a_list(visible, mask_token, ids_restore):
    return list(right_by_indexing(visible, mask_token, ids_restore))


def wrong_mean_for_the_token(visible, mask_token, ids_restore):
    return right_by_indexing(visible, visible.mean((0, 1)), ids_restore)


def right_by_indexing(visible, mask_token, ids_restore):
    x = shuffled(visible, mask_token, ids_restore.shape[1])
    return x[torch.arange(len(x))[:, None], ids_restore]


def right_by_scattering_with_the_inverse(visible, mask_token, ids_restore):
    b, k, d = visible.shape
    kept = ids_restore.argsort(1)[:, :k, None].expand(-1, -1, d)
    return mask_token.repeat(b, ids_restore.shape[1], 1).scatter(1, kept, visible)


def right_token_by_token(visible, mask_token, ids_restore):
    k = visible.shape[1]
    rows = [
        torch.stack([tokens[p] if p < k else mask_token for p in places.tolist()])
        for tokens, places in zip(visible, ids_restore, strict=True)
    ]
    return torch.stack(rows)
