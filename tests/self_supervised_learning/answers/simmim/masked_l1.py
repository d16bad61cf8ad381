"""Answers to 120.1c.masked-l1."""

import torch
import torch.nn.functional as F

from dlcourse.self_supervised_learning import masked_l1, pixel_mask


def pixels_of(mask, patch_size):
    return torch.kron(mask, torch.ones(1, patch_size, patch_size, dtype=mask.dtype))[:, None]


def wrong_image_by_image(prediction, images, mask, patch_size):
    hidden = pixels_of(mask, patch_size).expand_as(images)
    error = ((prediction - images).abs() * hidden).flatten(1).sum(1)
    return (error / hidden.flatten(1).sum(1).clamp(min=1)).mean()


def wrong_squared(prediction, images, mask, patch_size):
    hidden = pixels_of(mask, patch_size).bool().expand_as(images)
    return F.mse_loss(prediction[hidden], images[hidden])


def wrong_sign_kept(prediction, images, mask, patch_size):
    hidden = pixels_of(mask, patch_size).bool().expand_as(images)
    return (prediction[hidden] - images[hidden]).mean()


def wrong_smooth(prediction, images, mask, patch_size):
    hidden = pixels_of(mask, patch_size).bool().expand_as(images)
    return F.smooth_l1_loss(prediction[hidden], images[hidden])


def wrong_rows_and_columns_swapped(prediction, images, mask, patch_size):
    batch, rows, columns = mask.shape
    turned = mask.reshape(batch, columns, rows).transpose(1, 2).contiguous()
    hidden = pixels_of(turned, patch_size).bool().expand_as(images)
    return (prediction - images)[hidden].abs().mean()


def wrong_three_channels(prediction, images, mask, patch_size):
    hidden = pixels_of(mask, patch_size)
    return ((prediction - images).abs() * hidden).sum() / (3 * hidden.sum())


def wrong_patches_counted(prediction, images, mask, patch_size):
    hidden = pixels_of(mask, patch_size)
    error = ((prediction - images).abs() * hidden).sum()
    return error / (mask.sum() * images.shape[1] * patch_size)


def wrong_visible(prediction, images, mask, patch_size):
    return right_by_selecting(prediction, images, 1 - mask, patch_size)


def wrong_detached(prediction, images, mask, patch_size):
    return right_by_selecting(prediction.detach(), images, mask, patch_size)


def wrong_a_number(prediction, images, mask, patch_size):
    return right_by_selecting(prediction, images, mask, patch_size).item()


def wrong_gradient_of_the_square(prediction, images, mask, patch_size):
    """The value is right, the gradient is that of half the squared error."""
    right = right_by_selecting(prediction, images, mask, patch_size)
    other = wrong_squared(prediction, images, mask, patch_size) / 2
    return right.detach() + other - other.detach()


def wrong_room_in_the_divisor(prediction, images, mask, patch_size):
    """A thousand times what the authors' code adds, which passes."""
    hidden = pixels_of(mask, patch_size)
    error = ((prediction - images).abs() * hidden).sum()
    return error / (hidden.sum() + 1e-2) / images.shape[1]


def right_by_selecting(prediction, images, mask, patch_size):
    hidden = pixels_of(mask, patch_size).bool().expand_as(images)
    return (prediction[hidden] - images[hidden]).abs().mean()


def right_as_in_the_package(prediction, images, mask, patch_size):
    size = tuple(images.shape[2:])
    return masked_l1(prediction, images, pixel_mask(mask.flatten(1), patch_size, size))


def right_as_the_authors_write_it(prediction, images, mask, patch_size):
    hidden = pixels_of(mask, patch_size)
    error = F.l1_loss(images, prediction, reduction="none")
    return (error * hidden).sum() / (hidden.sum() + 1e-5) / images.shape[1]


def right_by_patches(prediction, images, mask, patch_size):
    b, c, h, w = images.shape
    rows, columns = h // patch_size, w // patch_size
    error = F.l1_loss(prediction, images, reduction="none")
    error = error.view(b, c, rows, patch_size, columns, patch_size).mean((1, 3, 5))
    return (error * mask).sum() / mask.sum()
