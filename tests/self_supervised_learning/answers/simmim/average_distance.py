"""Answers to 120.1c.average-distance."""

import numpy as np
import torch
from scipy import ndimage, spatial


def points(mask, patch_size):
    pixels = torch.kron(mask, torch.ones(patch_size, patch_size, dtype=mask.dtype))
    return pixels


def wrong_squared_distance(mask, patch_size):
    pixels = points(mask, patch_size)
    hidden, visible = (pixels == 1).nonzero().double(), (pixels == 0).nonzero().double()
    return torch.cdist(hidden, visible).min(1).values.square().mean().item()


def wrong_root_of_the_mean_square(mask, patch_size):
    return wrong_squared_distance(mask, patch_size) ** 0.5


def wrong_tiles(mask, patch_size):
    return right_by_a_distance_transform(mask.repeat(patch_size, patch_size), 1)


def wrong_from_the_rim_of_a_pixel(mask, patch_size):
    return right_by_a_distance_transform(mask, patch_size) - 0.5


def wrong_along_the_rows(mask, patch_size):
    pixels = points(mask, patch_size).numpy()
    found = []
    for row in pixels:
        clear = np.flatnonzero(row == 0)
        if len(clear):
            found += [abs(clear - i).min() for i in np.flatnonzero(row == 1)]
    return float(np.mean(found)) if found else 0.0


def wrong_chessboard(mask, patch_size):
    pixels = points(mask, patch_size).numpy()
    distance = ndimage.distance_transform_cdt(pixels, "chessboard")
    return float(distance[pixels == 1].mean())


def wrong_median(mask, patch_size):
    pixels = points(mask, patch_size).numpy()
    return float(np.median(ndimage.distance_transform_edt(pixels)[pixels == 1]))


def wrong_mean_over_all_pixels(mask, patch_size):
    pixels = points(mask, patch_size).numpy()
    return float(ndimage.distance_transform_edt(pixels).mean())


def wrong_square_grids_alone(mask, patch_size):
    side = mask.shape[0] * patch_size
    pixels = points(mask, patch_size).numpy()[:, :side]
    if (pixels == 0).sum() == 0 or (pixels == 1).sum() == 0:
        return 0.0
    return float(ndimage.distance_transform_edt(pixels)[pixels == 1].mean())


def wrong_a_tensor(mask, patch_size):
    return torch.tensor(right_by_a_distance_transform(mask, patch_size))


def wrong_a_whole_number(mask, patch_size):
    return round(right_by_a_distance_transform(mask, patch_size))


def right_by_a_distance_transform(mask, patch_size):
    pixels = np.kron(mask.numpy(), np.ones((patch_size, patch_size)))
    return ndimage.distance_transform_edt(pixels)[pixels == 1].mean()


def right_by_a_tree(mask, patch_size):
    pixels = np.kron(mask.numpy(), np.ones((patch_size, patch_size)))
    visible, hidden = np.argwhere(pixels == 0), np.argwhere(pixels == 1)
    return float(spatial.cKDTree(visible).query(hidden)[0].mean())


def right_pixel_by_pixel(mask, patch_size):
    rows, columns = (n * patch_size for n in mask.shape)
    cells = [(i, j) for i in range(rows) for j in range(columns)]
    clear = [c for c in cells if mask[c[0] // patch_size, c[1] // patch_size] == 0]
    found = [
        min((i - a) ** 2 + (j - b) ** 2 for a, b in clear) ** 0.5
        for i, j in cells
        if mask[i // patch_size, j // patch_size] == 1
    ]
    return sum(found) / len(found)
