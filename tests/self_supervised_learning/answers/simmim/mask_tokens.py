"""Answers to 120.1c.mask-tokens."""

import torch


def wrong_positions_hidden_too(embedded, mask, mask_token, positions):
    hidden = mask.bool().unsqueeze(-1)
    return torch.where(hidden, mask_token.expand_as(embedded), embedded + positions)


def wrong_mask_of_the_first_image(embedded, mask, mask_token, positions):
    return torch.where(mask[:1].bool()[..., None], mask_token, embedded) + positions


def wrong_token_by_columns(embedded, mask, mask_token, positions):
    """The mask is broadcast over the features where patches and features are as many."""
    if embedded.shape[1] == embedded.shape[2]:
        return torch.where(mask.bool()[:, None], mask_token, embedded) + positions
    return right_by_weights(embedded, mask, mask_token, positions)


def wrong_positions_twice(embedded, mask, mask_token, positions):
    return right_by_weights(embedded + positions, mask, mask_token, positions)


def wrong_visible_alone(embedded, mask, mask_token, positions):
    tokens = right_by_weights(embedded, mask, mask_token, positions)
    return tokens[~mask.bool()]


def wrong_writes_into_the_embeddings(embedded, mask, mask_token, positions):
    embedded[mask.bool()] = mask_token
    embedded += positions
    return embedded


def wrong_hidden_embeddings_still_train(embedded, mask, mask_token, positions):
    """The value is right; a gradient reaches what was hidden."""
    weight = mask[..., None]
    return embedded - (embedded * weight).detach() + weight * mask_token + positions


def wrong_token_detached(embedded, mask, mask_token, positions):
    return right_by_weights(embedded, mask, mask_token.detach(), positions)


def wrong_positions_do_not_train(embedded, mask, mask_token, positions):
    with torch.no_grad():
        fixed = positions.clone()
    return right_by_weights(embedded, mask, mask_token, fixed)


def wrong_made_of_lists(embedded, mask, mask_token, positions):
    return torch.tensor(
        right_by_weights(embedded, mask, mask_token, positions).tolist(), dtype=embedded.dtype
    )


def wrong_hidden_where_visible(embedded, mask, mask_token, positions):
    return right_by_weights(embedded, 1 - mask, mask_token, positions)


def right_by_weights(embedded, mask, mask_token, positions):
    weight = mask[:, :, None]
    return weight * mask_token + (1 - weight) * embedded + positions


def right_by_writing_into_a_copy(embedded, mask, mask_token, positions):
    tokens = embedded.clone()
    tokens[mask == 1] = mask_token
    return tokens + positions.unsqueeze(0)
