"""Answers to 120.2.normalised-loss."""

import torch
import torch.nn.functional as F


def target_of(patches, eps):
    mean = patches.mean(-1, keepdim=True)
    return (patches - mean) / torch.sqrt(patches.var(-1, keepdim=True) + eps)


def wrong_image_by_image(prediction, patches, mask, eps):
    error = (prediction - target_of(patches, eps)).square().mean(2) * mask
    return (error.sum(1) / mask.sum(1)).mean()


def wrong_eps_outside_the_root(prediction, patches, mask, eps):
    target = (patches - patches.mean(-1, keepdim=True)) / (patches.std(-1, keepdim=True) + eps)
    return ((prediction - target).square().mean(2) * mask).sum() / mask.sum()


def wrong_error_in_pixels(prediction, patches, mask, eps):
    """The prediction is scaled back in place of the target."""
    scale = torch.sqrt(patches.var(-1, keepdim=True) + eps)
    painted = prediction * scale + patches.mean(-1, keepdim=True)
    return ((painted - patches).square().mean(2) * mask).sum() / mask.sum()


def wrong_no_eps(prediction, patches, mask, eps):
    return right_by_selecting(prediction, patches, mask, 0.0)


def wrong_mean_kept(prediction, patches, mask, eps):
    target = patches / torch.sqrt(patches.var(-1, keepdim=True) + eps)
    return ((prediction - target).square().mean(2) * mask).sum() / mask.sum()


def wrong_statistics_of_all_patches(prediction, patches, mask, eps):
    target = (patches - patches.mean()) / torch.sqrt(patches.var() + eps)
    return ((prediction - target).square().mean(2) * mask).sum() / mask.sum()


def wrong_prediction_normalised_too(prediction, patches, mask, eps):
    return right_by_selecting(target_of(prediction, eps), patches, mask, eps)


def wrong_summed_over_a_patch(prediction, patches, mask, eps):
    return right_by_selecting(prediction, patches, mask, eps) * patches.shape[2]


def wrong_absolute(prediction, patches, mask, eps):
    error = (prediction - target_of(patches, eps)).abs().mean(2)
    return (error * mask).sum() / mask.sum()


def wrong_mask_of_the_visible(prediction, patches, mask, eps):
    return right_by_selecting(prediction, patches, 1 - mask, eps)


def wrong_detached(prediction, patches, mask, eps):
    return right_by_selecting(prediction, patches, mask, eps).detach()


def wrong_a_number(prediction, patches, mask, eps):
    return right_by_selecting(prediction, patches, mask, eps).item()


def wrong_writes_into_the_patches(prediction, patches, mask, eps):
    patches -= patches.mean(-1, keepdim=True)
    patches /= torch.sqrt(patches.var(-1, keepdim=True) + eps)
    return ((prediction - patches).square().mean(2) * mask).sum() / mask.sum()


def right_by_selecting(prediction, patches, mask, eps):
    error = prediction - target_of(patches, eps)
    return error[mask.bool()].pow(2).mean()


def right_by_layer_norm(prediction, patches, mask, eps):
    """Its variance is the biased one: a factor undoes that, in eps too."""
    p = patches.shape[-1]
    share = (p - 1) / p
    target = F.layer_norm(patches, (p,), eps=eps * share) * share**0.5
    return F.mse_loss(prediction, target, reduction="none").mean(-1)[mask > 0].mean()


def right_written_out(prediction, patches, mask, eps):
    p = patches.shape[-1]
    centred = patches - patches.sum(-1, keepdim=True) / p
    target = centred * ((centred * centred).sum(-1, keepdim=True) / (p - 1) + eps).rsqrt()
    error = torch.einsum("bnp,bnp,bn->", prediction - target, prediction - target, mask)
    return error / (p * mask.sum())
