"""Answers to 122.2b.learn-one."""

import numpy as np


def wrong_sign(inverse, response, x, reward):
    u = inverse @ x
    new = inverse + np.outer(u, u) / (1 + x @ u)
    b = response + reward * x
    return new, b, new @ b


def wrong_minus_in_the_denominator(inverse, response, x, reward):
    u = inverse @ x
    new = inverse - np.outer(u, u) / (1 - x @ u)
    b = response + reward * x
    return new, b, new @ b


def wrong_elementwise(inverse, response, x, reward):
    u = inverse @ x
    new = inverse - u * u / (1 + x @ u)
    b = response + reward * x
    return new, b, new @ b


def wrong_forgets_the_reward(inverse, response, x, reward):
    new, _, _ = right_by_inverting(inverse, response, x, reward)
    return new, response + x, new @ (response + x)


def wrong_changes_its_input(inverse, response, x, reward):
    u = inverse @ x
    inverse -= np.outer(u, u) / (1 + x @ u)
    response += reward * x
    return inverse, response, inverse @ response


def right_by_inverting(inverse, response, x, reward):
    new = np.linalg.inv(np.linalg.inv(inverse) + np.outer(x, x))
    b = response + reward * x
    return new, b, new @ b


def right_recursive_least_squares(inverse, response, x, reward):
    gain = inverse @ x / (1 + x @ inverse @ x)
    theta = inverse @ response
    new = inverse - gain[:, None] * (x @ inverse)[None, :]
    return new, response + reward * x, theta + gain * (reward - x @ theta)
