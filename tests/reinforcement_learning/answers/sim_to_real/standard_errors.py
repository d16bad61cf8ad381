"""Answers to 122.1b.standard-errors."""

import numpy as np


def wrong_spread_of_the_residual(J, residual):
    return np.std(residual, ddof=J.shape[1]) * np.sqrt(np.diag(np.linalg.inv(J.T @ J)))


def wrong_root_of_the_matrix(J, residual):
    n, p = J.shape
    return np.sqrt(residual @ residual / (n - p)) * np.diag(np.linalg.inv(J.T @ J))


def wrong_one_degree(J, residual):
    v = residual @ residual / (len(J) - 1 if J.shape[1] > 1 else len(J))
    return np.sqrt(v * np.diag(np.linalg.inv(J.T @ J)))


def right_by_qr(J, residual):
    n, p = J.shape
    inverse = np.linalg.inv(np.linalg.qr(J)[1])
    return np.linalg.norm(residual) / np.sqrt(n - p) * np.linalg.norm(inverse, axis=1)
