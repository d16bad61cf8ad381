"""Answers to 122.1b.dynamics-gap."""

import numpy as np


def wrong_mean_absolute(states, real_next, sim_next):
    return np.abs(real_next - sim_next).mean(0) / np.abs(real_next - states).mean(0)


def wrong_by_the_simulators_change(states, real_next, sim_next):
    return np.sqrt(((real_next - sim_next) ** 2).mean(0)) / ((sim_next - states).std(0) + 1e-12)


def wrong_root_mean_square_of_the_change(states, real_next, sim_next):
    e, c = real_next - sim_next, real_next - states
    return np.sqrt((e**2).mean(0) / (c**2).mean(0))


def wrong_over_all_components(states, real_next, sim_next):
    e = (real_next - sim_next) / (real_next - states).std(0)
    return np.full(e.shape[1], np.sqrt((e**2).mean()))


def right_scaled_first(states, real_next, sim_next):
    scale = np.std(real_next - states, axis=0)
    z = (real_next - sim_next) / scale
    return np.linalg.norm(z, axis=0) / len(z) ** 0.5
