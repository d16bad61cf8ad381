"""Answers to 120.2.random-masking."""

import torch


def wrong_places_are_the_order(x, noise, keep):
    order = noise.argsort(1)
    return right_by_indexing(x, noise, keep)[0], (order >= keep).float(), order


def wrong_mask_by_the_value(x, noise, keep):
    visible, _, places = right_by_indexing(x, noise, keep)
    return visible, (noise > keep / x.shape[1]).float(), places


def wrong_keeps_a_quarter(x, noise, keep):
    return right_by_indexing(x, noise, max(1, x.shape[1] // 4))


def wrong_restores_the_kept_alone(x, noise, keep):
    visible, mask, _ = right_by_indexing(x, noise, keep)
    return visible, mask, noise.argsort(1)[:, :keep]


def wrong_keeps_one_more(x, noise, keep):
    return right_by_indexing(x, noise, min(keep + 1, x.shape[1]))


def wrong_order_of_the_first_image(x, noise, keep):
    return right_by_indexing(x, noise[:1].expand_as(noise), keep)


def wrong_visible_by_the_mask(x, noise, keep):
    _, mask, places = right_by_indexing(x, noise, keep)
    return x[mask == 0].view(len(x), keep, -1), mask, places


def wrong_most_noise(x, noise, keep):
    return right_by_indexing(x, -noise, keep)


def wrong_mask_of_booleans(x, noise, keep):
    visible, mask, places = right_by_indexing(x, noise, keep)
    return visible, mask.bool(), places


def wrong_mask_of_the_visible(x, noise, keep):
    visible, mask, places = right_by_indexing(x, noise, keep)
    return visible, 1 - mask, places


def wrong_visible_in_single_precision(x, noise, keep):
    visible, mask, places = right_by_indexing(x, noise, keep)
    return visible.float(), mask, places


def wrong_places_as_floats(x, noise, keep):
    visible, mask, places = right_by_indexing(x, noise, keep)
    return visible, mask, places.double()


def wrong_first_feature_everywhere(x, noise, keep):
    visible, mask, places = right_by_indexing(x, noise, keep)
    return visible[..., :1].expand_as(visible).clone(), mask, places


def wrong_hidden_patches_are_zeros(x, noise, keep):
    _, mask, places = right_by_indexing(x, noise, keep)
    return x * (1 - mask)[..., None], mask, places


def wrong_visible_detached(x, noise, keep):
    visible, mask, places = right_by_indexing(x, noise, keep)
    return visible.detach(), mask, places


def wrong_two_results(x, noise, keep):
    return right_by_indexing(x, noise, keep)[:2]


def wrong_sorts_the_noise(x, noise, keep):
    result = right_by_indexing(x, noise, keep)
    noise.copy_(noise.sort(1).values)
    return result


def right_by_indexing(x, noise, keep):
    order = torch.sort(noise, dim=1).indices
    places = torch.empty_like(order)
    rows = torch.arange(len(x))[:, None]
    places[rows, order] = torch.arange(x.shape[1]).expand_as(order)
    return x[rows, order[:, :keep]], (places >= keep).double(), places


def right_by_topk(x, noise, keep):
    order = noise.topk(noise.shape[1], largest=False).indices
    places = torch.zeros_like(order).scatter_(1, order, torch.arange(len(order[0])).expand_as(order))
    return torch.take_along_dim(x, order[:, :keep, None], 1), (places >= keep).half(), places


def right_by_counting(x, noise, keep):
    places = (noise[:, None, :] < noise[:, :, None]).sum(2)  # how many have less
    visible = torch.stack(
        [torch.stack([x[b, (places[b] == k).nonzero()[0, 0]] for k in range(keep)])
         for b in range(len(x))]
    )  # fmt: skip
    return visible, torch.where(places < keep, 0.0, 1.0), places
