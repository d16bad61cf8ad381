"""Facts about the bandits and off-policy estimators of section 122.2b."""

import copy
import itertools
import subprocess
import sys
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest

from dlcourse.reinforcement_learning import (
    DiscountedLinUCB,
    HybridLinUCB,
    LinearThompsonSampling,
    LinUCB,
    LinUCBReference,
    SlidingWindowLinUCB,
    doubly_robust,
    effective_sample_size,
    importance_weights,
    inverse_propensity_score,
    random_argmax,
    rank_one_update,
    self_normalized_ips,
)


def history(rng, n, k, d):
    """Contexts (n, d), arms (n,), rewards (n,)."""
    return rng.standard_normal((n, d)), rng.integers(0, k, n), rng.standard_normal(n)


def ridge_of(x, r, ridge):
    """A and the ridge solution from all observations."""
    A = ridge * np.eye(x.shape[1]) + x.T @ x
    return A, np.linalg.solve(A, x.T @ r)


def state(agent):
    found = {k: copy.deepcopy(v) for k, v in vars(agent).items() if k not in ("rng", "_kept")}
    found["kept"] = [(x.tolist(), a, r) for x, a, r in getattr(agent, "_kept", ())]
    return found, agent.rng.bit_generator.state


def assert_same_state(agent, before):
    np.testing.assert_equal(state(agent)[0], before[0])
    assert state(agent)[1] == before[1]


AGENTS = {
    "linucb": lambda **k: LinUCB(3, 4, **k),
    "thompson": lambda **k: LinearThompsonSampling(3, 4, **k),
    "window": lambda **k: SlidingWindowLinUCB(3, 4, 5, **k),
    "discounted": lambda **k: DiscountedLinUCB(3, 4, 0.9, **k),
}


# Exactness


def test_after_ten_thousand_updates_linucb_is_the_exact_ridge_solution():
    rng = np.random.default_rng(0)
    k, d = 4, 16
    x, arms, r = history(rng, 10_000, k, d)
    agent = LinUCB(k, d, alpha=0.7, ridge=0.5)
    for row in zip(x, arms, r):
        agent.update(*row)
    context = rng.standard_normal(d)
    scores = agent.scores(context)
    for a in range(k):
        A, theta = ridge_of(x[arms == a], r[arms == a], 0.5)
        np.testing.assert_allclose(agent.theta[a], theta, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(agent.inverse[a], np.linalg.inv(A), rtol=1e-8, atol=1e-8)
        bound = theta @ context + 0.7 * np.sqrt(context @ np.linalg.solve(A, context))
        np.testing.assert_allclose(scores[a], bound, rtol=1e-8)
    assert agent.counts.tolist() == np.bincount(arms).tolist()


@pytest.mark.parametrize("seed", range(20))
def test_fast_form_and_algorithm_1_as_printed_agree(seed):
    rng = np.random.default_rng(seed)
    k, d = (int(n) for n in rng.integers(1, 8, 2))
    alpha, ridge = rng.uniform(0, 3), rng.uniform(0.01, 5)
    fast, readable = LinUCB(k, d, alpha, ridge), LinUCBReference(k, d, alpha, ridge)
    for x, arm, r in zip(*history(rng, 60, k, d)):
        np.testing.assert_allclose(fast.scores(x), readable.scores(x), rtol=1e-9, atol=1e-9)
        rows = np.tile(x, (k, 1))
        np.testing.assert_allclose(fast.scores(rows), fast.scores(x), rtol=1e-12, atol=1e-12)
        fast.update(x, arm, r)
        readable.update(x, arm, r)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0, 2.0])
def test_the_same_400_choices_as_mabwiser(alpha):
    from mabwiser.mab import MAB, LearningPolicy

    rng = np.random.default_rng(1)
    k, d = 5, 8
    # Each arm is seen once with a context of its own, so that no scores tie.
    x, arms, r = rng.standard_normal((k, d)), np.arange(k), rng.standard_normal(k)
    theirs = MAB(list(range(k)), LearningPolicy.LinUCB(alpha=alpha, l2_lambda=1.0))
    theirs.fit(decisions=arms, rewards=r, contexts=x)
    ours = LinUCB(k, d, alpha)
    ours.update_batch(x, arms, r)
    theta = rng.standard_normal((k, d))
    same = 0
    for _ in range(400):
        context = rng.standard_normal(d)
        arm = ours.select(context)
        same += arm == theirs.predict(context[None])
        reward = theta[arm] @ context + rng.standard_normal()
        ours.update(context, arm, reward)
        theirs.partial_fit(decisions=[arm], rewards=[reward], contexts=context[None])
    assert same == 400 and len(set(np.flatnonzero(ours.counts))) == k


@pytest.mark.parametrize("kind", AGENTS)
@pytest.mark.parametrize("n", [0, 1, 30])
def test_a_batch_is_learned_as_one_by_one_and_in_any_order(kind, n):
    rng = np.random.default_rng(n)
    x, arms, r = history(rng, n, 3, 4)
    single, batch = AGENTS[kind](), AGENTS[kind]()
    for row in zip(x, arms, r):
        single.update(*row)
    batch.update_batch(x, arms, r)
    for name in ("inverse", "theta", "response"):
        np.testing.assert_allclose(getattr(batch, name), getattr(single, name), atol=1e-10)
    assert batch.counts.tolist() == single.counts.tolist()
    if kind not in ("window", "discounted"):  # to which the order matters
        late, order = AGENTS[kind](), rng.permutation(n)
        late.update_batch(x[order], arms[order], r[order])
        np.testing.assert_allclose(late.theta, single.theta, atol=1e-10)
    contexts = rng.standard_normal((6, 4))
    twin = copy.deepcopy(batch)
    assert batch.select_batch(contexts).tolist() == [twin.select(c) for c in contexts]
    assert batch.select_batch(np.empty((0, 4))).shape == (0,)


@pytest.mark.parametrize("ridge", [0.3, 1.0])
def test_hybrid_solves_the_joint_ridge_problem_of_all_arms(ridge):
    rng = np.random.default_rng(3)
    K, d, k, n = 4, 3, 5, 200
    agent = HybridLinUCB(K, d, k, alpha=1.3, ridge=ridge)
    x, arms, r = history(rng, n, K, d)
    z = rng.standard_normal((n, k))
    rows = np.zeros((n, k + K * d))  # one column a parameter: β, θ_0, θ_1, …
    rows[:, :k] = z
    for i, a in enumerate(arms):
        rows[i, k + a * d : k + (a + 1) * d] = x[i]
    for i in range(n):
        agent.update(x[i], z[i], arms[i], r[i])
        if i not in (0, 1, 10, n - 1):
            continue
        M, solution = ridge_of(rows[: i + 1], r[: i + 1], ridge)
        np.testing.assert_allclose(agent.beta, solution[:k], rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(agent.theta.ravel(), solution[k:], rtol=1e-8, atol=1e-9)
        context, shared = rng.standard_normal((K, d)), rng.standard_normal((K, k))
        mean, width = agent.mean_and_width(context, shared)
        for a in range(K):
            phi = np.zeros(k + K * d)
            phi[:k], phi[k + a * d : k + (a + 1) * d] = shared[a], context[a]
            assert mean[a] == pytest.approx(phi @ solution, rel=1e-8, abs=1e-9)
            assert width[a] == pytest.approx(np.sqrt(phi @ np.linalg.solve(M, phi)), rel=1e-8)
        np.testing.assert_allclose(agent.scores(context, shared), mean + 1.3 * width)


def test_hybrid_without_shared_signal_is_the_disjoint_form():
    rng = np.random.default_rng(0)
    hybrid, disjoint = HybridLinUCB(3, 4, 2), LinUCB(3, 4)
    for x, arm, r in zip(*history(rng, 50, 3, 4)):
        hybrid.update(x, np.zeros(2), arm, r)
        disjoint.update(x, arm, r)
    np.testing.assert_allclose(hybrid.scores(x, np.zeros((3, 2))), disjoint.scores(x), rtol=1e-9)


def test_thompsons_one_number_an_arm_has_the_distribution_of_drawn_parameters():
    rng = np.random.default_rng(0)
    agent = LinearThompsonSampling(3, 4, scale=0.6, seed=1)
    agent.update_batch(*history(rng, 20, 3, 4))
    x = rng.standard_normal(4)
    mean, width = agent.mean_and_width(x)
    n = 20_000
    for draw in (agent.scores, agent.scores_by_parameters):
        drawn = np.array([draw(x) for _ in range(n)])
        assert (np.abs(drawn.mean(0) - mean) < 5 * 0.6 * width / np.sqrt(n)).all()
        np.testing.assert_allclose(drawn.std(0), 0.6 * width, rtol=0.03)
        assert np.abs(np.corrcoef(drawn.T) - np.eye(3)).max() < 0.04
    greedy = LinearThompsonSampling(3, 4, scale=0)
    np.testing.assert_array_equal(greedy.scores(x), np.zeros(3))


def told(mean, deviation):
    """A Thompson sampler whose scores have this mean and deviation for the context [1]."""
    agent = LinearThompsonSampling(len(mean), 1)
    agent.theta[:, 0], agent.inverse[:, 0, 0] = mean, np.square(deviation)
    return agent


@pytest.mark.parametrize("seed", range(4))
def test_thompsons_probabilities_are_the_frequencies_of_its_choices(seed):
    rng = np.random.default_rng(seed)
    k = 2 + seed
    agent = LinearThompsonSampling(k, 4, scale=0.7, seed=seed)
    agent.update_batch(*history(rng, 12, k, 4))
    x, n = rng.standard_normal(4), 20_000
    before = state(agent)
    p = agent.probabilities(x)
    assert_same_state(agent, before)  # no number is drawn
    assert p.shape == (k,) and p.sum() == pytest.approx(1, abs=1e-12)
    counted = np.bincount([agent.select(x) for _ in range(n)], minlength=k)
    assert (np.abs(counted / n - p) < 4.5 * np.sqrt(p * (1 - p) / n) + 1 / n).all()


@pytest.mark.parametrize("narrow", [1.0, 1e-3, 1e-8])
@pytest.mark.parametrize("gap", [0.0, 0.4, -3.0, 6.0])
def test_thompsons_probabilities_of_two_arms_are_the_closed_form(gap, narrow):
    p = told([0.2, 0.2 + gap], [0.5, 0.5 * narrow]).probabilities([1.0])
    first = NormalDist().cdf(-gap / (0.5 * np.hypot(1, narrow)))  # P(score 0 > score 1)
    np.testing.assert_allclose(p, [first, 1 - first], rtol=1e-7, atol=1e-10)


def test_thompsons_probabilities_of_one_arm_of_equal_and_of_certain_arms():
    assert told([3.0], [2.0]).probabilities([1.0]).tolist() == [1.0]
    for k in (2, 5, 300):
        p = told([0.7] * k, [0.3] * k).probabilities([1.0])
        np.testing.assert_allclose(p, np.full(k, 1 / k), rtol=1e-10)
    # Without width: the best, or all the equal ones; as select does.
    agent = told([0.1, 0.5, 0.5], [1.0, 1.0, 1.0])
    np.testing.assert_allclose(agent.probabilities([0.0]), [1 / 3] * 3)
    agent.scale = 0.0
    assert agent.probabilities([1.0]).tolist() == [0.0, 0.5, 0.5]
    # Arms 1 and 2 are certain at 0, arm 0 is above with probability Φ(1).
    p = told([1.0, 9.0, 9.0], [1.0] * 3).probabilities([[1.0], [0.0], [0.0]])
    above = NormalDist().cdf(1.0)
    np.testing.assert_allclose(p, [above, (1 - above) / 2, (1 - above) / 2], rtol=1e-10)
    # An arm that is certain and better than all others can be.
    assert told([1.0, 80.0], [1.0, 0.0]).probabilities([1.0]).tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match="context"):
        agent.probabilities([np.nan])


def test_logged_thompson_probabilities_make_ips_find_the_value_of_another_policy():
    rng = np.random.default_rng(0)
    agent = LinearThompsonSampling(3, 2, scale=1.0, seed=1)
    theta = np.array([[0.5, 0.0], [0.2, 0.4], [0.0, 0.8]])
    rewards, propensities = [], []
    taken = []
    for i in range(1500):
        x = np.array([1.0, rng.random()])
        arm = agent.select(x)
        propensities.append(agent.probabilities(x)[arm])
        rewards.append(theta[arm] @ x + 0.1 * rng.standard_normal())
        taken.append(arm == 1)  # the target takes arm 1 always
        if i % 200 == 0:  # a slow learner, so that no arm dies out
            agent.update(x, arm, rewards[-1])
    estimate = inverse_propensity_score(rewards, propensities, np.array(taken, dtype=float))
    assert estimate.low < 0.2 + 0.4 * 0.5 < estimate.high and estimate.standard_error < 0.05


@pytest.mark.parametrize("size", [1.0, 1e2, 1e4, 1e6, 1e8])
@pytest.mark.parametrize("columns", [slice(None), slice(1)])
def test_a_sliding_window_keeps_and_forgets_rows_of_any_size(size, columns):
    rng = np.random.default_rng(0)
    d, window = 4, 50
    x, r = rng.standard_normal((400, d)), rng.standard_normal(400)
    x[:300:10, columns] *= size
    agent = SlidingWindowLinUCB(1, d, window)
    for i in range(len(x)):
        agent.update(x[i], 0, r[i])
        if i % 23 == 0 or i == len(x) - 1:
            exact = exact_inverse(x[max(0, i + 1 - window) : i + 1])
            error = np.linalg.norm(agent.inverse[0] - exact) / np.linalg.norm(exact)
            assert error < 1e-8, i
    assert np.abs(agent.theta[0] - exact @ (x[-window:].T @ r[-window:])).max() < 1e-12


def exact_inverse(rows):
    """(I + XᵀX)⁻¹ in fractions."""
    d = rows.shape[1]
    X = [[Fraction(v) for v in row] for row in rows.tolist()]
    A = [[(i == j) + sum(x[i] * x[j] for x in X) for j in range(d)] for i in range(d)]
    A = [row + [Fraction(i == j) for j in range(d)] for i, row in enumerate(A)]
    for c in range(d):
        A[c] = [v / A[c][c] for v in A[c]]
        for i in set(range(d)) - {c}:
            A[i] = [v - A[i][c] * pivot for v, pivot in zip(A[i], A[c])]
    return np.array([[float(v) for v in row[d:]] for row in A])


@pytest.mark.parametrize("size", [1.0, 1e2, 1e3, 1e5])
def test_linucb_is_exact_near_one_and_loses_the_square_of_larger_features(size):
    x = np.random.default_rng(0).standard_normal((30, 4))
    x[:, 0] *= size
    agent = LinUCB(1, 4)
    for row in x:
        agent.update(row, 0, 1.0)
    exact = exact_inverse(x)
    error = np.linalg.norm(agent.inverse[0] - exact) / np.linalg.norm(exact)
    assert error < 1e-14 * max(1.0, size**2)


@pytest.mark.parametrize("window", [1, 7, 50])
def test_a_sliding_window_is_a_fresh_fit_of_its_last_observations(window):
    rng = np.random.default_rng(window)
    agent = SlidingWindowLinUCB(3, 4, window, alpha=0.4, ridge=0.2)
    x, arms, r = history(rng, 700, 3, 4)
    for i in range(len(x)):
        agent.update(x[i], arms[i], r[i])
        if i % 97 == 0 or i == len(x) - 1:
            fresh = LinUCB(3, 4, 0.4, 0.2)
            kept = slice(max(0, i + 1 - window), i + 1)
            fresh.update_batch(x[kept], arms[kept], r[kept])
            np.testing.assert_allclose(agent.inverse, fresh.inverse, atol=1e-9)
            np.testing.assert_allclose(agent.theta, fresh.theta, atol=1e-9)
            assert agent.counts.tolist() == fresh.counts.tolist()


@pytest.mark.parametrize("discount", [0.5, 0.9, 0.99, 1.0])
def test_a_discount_is_the_ridge_solution_with_the_weights_written_out(discount):
    rng = np.random.default_rng(4)
    k, d, n, ridge, alpha = 3, 4, 300, 0.2, 0.4
    agent = DiscountedLinUCB(k, d, discount, alpha, ridge)
    x, arms, r = history(rng, n, k, d)
    for i in range(n):
        agent.update(x[i], arms[i], r[i])
        if i not in (0, 1, 30, n - 1):
            continue
        w = discount ** (i - np.arange(i + 1.0))
        context = rng.standard_normal(d)
        bound = np.empty(k)
        for a in range(k):
            mine = arms[: i + 1] == a
            xa, wa = x[: i + 1][mine], w[mine, None]
            A = ridge * np.eye(d) + xa.T @ (wa * xa)
            squared = ridge * np.eye(d) + xa.T @ (wa**2 * xa)
            theta = np.linalg.solve(A, xa.T @ (wa[:, 0] * r[: i + 1][mine]))
            u = np.linalg.solve(A, context)
            np.testing.assert_allclose(agent.theta[a], theta, rtol=1e-8, atol=1e-10)
            bound[a] = context @ theta + alpha * np.sqrt(u @ squared @ u)
        np.testing.assert_allclose(agent.scores(context), bound, rtol=1e-8, atol=1e-10)
        rows = np.tile(context, (k, 1))
        np.testing.assert_allclose(agent.scores(rows), bound, rtol=1e-8, atol=1e-10)


def test_a_discount_of_one_is_linucb():
    rng = np.random.default_rng(5)
    ours, plain = DiscountedLinUCB(3, 4, 1.0, 0.7), LinUCB(3, 4, 0.7)
    for x, arm, r in zip(*history(rng, 100, 3, 4)):
        ours.update(x, arm, r)
        plain.update(x, arm, r)
    np.testing.assert_allclose(ours.scores(x), plain.scores(x), rtol=1e-9)


def test_taking_an_observation_away_undoes_adding_it():
    rng = np.random.default_rng(0)
    inverse = np.eye(5) / 2
    x = rng.standard_normal(5)
    back = rank_one_update(rank_one_update(inverse, x), x, sign=-1)
    np.testing.assert_allclose(back, inverse, atol=1e-14)
    with pytest.raises(FloatingPointError):
        rank_one_update(np.eye(1), np.array([2.0]), sign=-1)  # was never added


# Ties and seeds


def test_ties_are_drawn_evenly_and_a_seed_repeats_them():
    arms = [LinUCB(4, 2, seed=s).select([1.0, 0.5]) for s in range(400)]
    assert np.bincount(arms, minlength=4).min() > 60
    runs = [[a.select([1.0, 2.0]) for _ in range(20)] for a in (LinUCB(4, 2, seed=7),) * 1]
    again = LinUCB(4, 2, seed=7)
    assert runs[0] == [again.select([1.0, 2.0]) for _ in range(20)]
    rng = np.random.default_rng(0)
    assert random_argmax(np.array([0.0, 1.0, 0.5]), rng) == 1
    assert {random_argmax(np.array([1.0, 0.1 + 0.2 + 0.7, 0.0]), rng) for _ in range(50)} == {0, 1}
    assert {random_argmax(np.array([-1.0, -1.0]), rng) for _ in range(50)} == {0, 1}


def test_the_global_generator_is_left_alone():
    before = np.random.get_state()[1].tolist()
    agent = LinearThompsonSampling(2, 2)
    agent.update([1, 0], agent.select([1, 0]), 1)
    assert np.random.get_state()[1].tolist() == before


# Bad input


@pytest.mark.parametrize("kind", AGENTS)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1, 2, 3], 0, 1.0), ValueError, r"shape \(4\): got \(3,\)"),
        (([[1, 2, 3, 4]], 0, 1.0), ValueError, r"shape \(4\)"),
        (([1, 2, 3, np.nan], 0, 1.0), ValueError, "context must be finite"),
        (([1, 2, 3, np.inf], 0, 1.0), ValueError, "context must be finite"),
        (([1, 2, 3, 4], 3, 1.0), ValueError, "arm 3 does not exist: there are arms 0 to 2"),
        (([1, 2, 3, 4], -1, 1.0), ValueError, "arm -1 does not exist"),
        (([1, 2, 3, 4], 1.0, 1.0), TypeError, "arm must be a whole number"),
        (([1, 2, 3, 4], True, 1.0), TypeError, "arm must be a whole number"),
        (([1, 2, 3, 4], 0, np.nan), ValueError, "reward must be finite"),
        (([1, 2, 3, 4], 0, -np.inf), ValueError, "reward must be finite"),
        (([1, 2, 3, 4], 0, "1"), TypeError, "reward must hold real numbers"),
        (([1, 2, 3, 4], 0, [1.0]), ValueError, "reward must have shape"),
        ((["a"] * 4, 0, 1.0), TypeError, "context must hold real numbers"),
        (([1e200] * 4, 0, 1.0), FloatingPointError, "too large"),
        (([1e3] * 4, 0, 1e307), FloatingPointError, "too large"),
    ],
)
def test_a_bad_update_is_refused_and_changes_nothing(kind, arguments, error, message):
    agent = AGENTS[kind]()
    agent.update_batch(*history(np.random.default_rng(0), 9, 3, 4))
    before = state(agent)
    with pytest.raises(error, match=message):
        agent.update(*arguments)
    assert_same_state(agent, before)
    context, arm, reward = arguments
    if arm is True:
        return  # NumPy makes [0, True] whole numbers
    with pytest.raises((ValueError, TypeError, FloatingPointError)):
        agent.update_batch([[0, 0, 0, 1], context], [0, arm], [1.0, reward])
    assert_same_state(agent, before)


@pytest.mark.parametrize("kind", [LinUCB, LinearThompsonSampling])
def test_a_context_that_would_leave_no_digits_is_refused_by_both_updates(kind):
    agent = kind(1, 1)
    agent.update([1e5], 0, 1.0)  # 1e10 is subtracted from: six digits are left
    assert agent.theta[0, 0] == pytest.approx(1e-5, rel=1e-5)
    before = state(agent)
    for refused in (lambda: agent.update([1e12], 0, 1.0),
                    lambda: agent.update_batch([[1e12]], [0], [1.0])):  # fmt: skip
        with pytest.raises(FloatingPointError, match="scale"):
            refused()
        assert_same_state(agent, before)
    for update in (lambda b: b.update([1e8], 0, 1.0), lambda b: b.update_batch([[1e8]], [0], [1])):
        with pytest.raises(FloatingPointError, match="scale"):
            update(kind(1, 1))


@pytest.mark.parametrize("kind", AGENTS)
def test_a_bad_context_is_refused_before_the_generator_moves(kind):
    agent = AGENTS[kind]()
    before = state(agent)
    for bad in ([1, 2, 3], np.zeros((2, 4)), [1, 2, 3, np.nan], 1.0, [1j] * 4):
        with pytest.raises((ValueError, TypeError), match="context"):
            agent.select(bad)
    with pytest.raises(ValueError, match="contexts must have shape"):
        agent.select_batch([1, 2, 3, 4])
    assert_same_state(agent, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2], [0] * 3, 0, 1.0), r"context must have shape \(4\)"),
        (([1, 2, 3, 4], [0] * 2, 0, 1.0), r"shared must have shape \(3\)"),
        (([1, 2, 3, 4], [0, 0, np.nan], 0, 1.0), "shared must be finite"),
        (([1, 2, 3, 4], [0] * 3, 2, 1.0), "arm 2 does not exist"),
        (([1, 2, 3, 4], [0] * 3, 0, np.nan), "reward must be finite"),
    ],
)
def test_a_bad_update_of_the_hybrid_changes_nothing(arguments, message):
    agent = HybridLinUCB(2, 4, 3)
    agent.update([1, 0, 0, 1], [1, 2, 3], 1, 0.5)
    before = state(agent)
    with pytest.raises(ValueError, match=message):
        agent.update(*arguments)
    with pytest.raises(FloatingPointError, match="too large"):
        agent.update([1e200] * 4, [0] * 3, 0, 1.0)
    assert_same_state(agent, before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinUCB(0, 2), "num_arms must be at least 1"),
        (lambda: LinUCB(2, 0), "context_dim must be at least 1"),
        (lambda: LinUCB(2, 2, alpha=-1), "alpha must be finite"),
        (lambda: LinUCB(2, 2, alpha=np.nan), "alpha must be finite"),
        (lambda: LinUCB(2, 2, ridge=0), "ridge must be finite and > 0"),
        (lambda: LinearThompsonSampling(2, 2, scale=np.inf), "scale must be finite"),
        (lambda: SlidingWindowLinUCB(2, 2, 0), "window must be at least 1"),
        (lambda: DiscountedLinUCB(2, 2, 0.0), "discount must be finite and > 0"),
        (lambda: DiscountedLinUCB(2, 2, 1.1), "discount must be at most 1"),
        (lambda: HybridLinUCB(2, 2, 0), "shared_dim must be at least 1"),
    ],
)
def test_arguments_without_meaning_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
    with pytest.raises(TypeError, match="num_arms must be a whole number"):
        LinUCB(2.5, 2)


# Off-policy evaluation


def logged(rng, n=400, k=3):
    """A log over two kinds of context, whose truth is a sum: rewards, p, π, q̂(x, a), q̂(x, π), V."""
    mean = np.array([[0.1, 0.5, 0.3], [0.6, 0.2, 0.4]])
    log, target = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]]), np.array([[0.1, 0.8, 0.1]] * 2)
    x = rng.integers(0, 2, n)
    arm = np.array([rng.choice(k, p=log[i]) for i in x])
    r = (rng.random(n) < mean[x, arm]).astype(float)
    q = mean + 0.1  # a model that is wrong everywhere
    values = (target * q).sum(1)[x]
    return r, log[x, arm], target[x, arm], q[x, arm], values, (target * mean).sum(1).mean()


def test_estimators_are_the_formulas_written_out():
    r, p, pi, q, v, _ = logged(np.random.default_rng(0), 50)
    w = pi / p
    n = len(r)
    ips = inverse_propensity_score(r, p, pi)
    assert ips.value == pytest.approx(sum(a * b for a, b in zip(w, r)) / n)
    assert ips.standard_error == pytest.approx(np.std(w * r, ddof=1) / np.sqrt(n))
    assert (ips.low + ips.high) / 2 == pytest.approx(ips.value)
    assert ips.high - ips.value == pytest.approx(1.959964 * ips.standard_error, rel=1e-6)
    snips = self_normalized_ips(r, p, pi)
    assert snips.value == pytest.approx((w * r).sum() / w.sum())
    dr = doubly_robust(r, p, pi, q, v)
    assert dr.value == pytest.approx(np.mean(v + w * (r - q)))
    assert ips.effective_sample_size == pytest.approx(w.sum() ** 2 / (w**2).sum())
    wide = inverse_propensity_score(r, p, pi, confidence=0.99)
    assert wide.value == ips.value and wide.high > ips.high
    clipped = inverse_propensity_score(r, p, pi, clip=1.0)
    assert clipped.value == pytest.approx(np.mean(np.minimum(w, 1) * r))


def test_on_the_own_log_all_estimate_the_mean_reward():
    r, p, *_ = logged(np.random.default_rng(0), 60)
    for estimate in (
        inverse_propensity_score(r, p, p),
        self_normalized_ips(r, p, p),
        doubly_robust(r, p, p, np.zeros(60), np.zeros(60)),
    ):
        assert estimate.value == pytest.approx(r.mean())
        assert estimate.effective_sample_size == pytest.approx(60)
        assert estimate.standard_error == pytest.approx(r.std(ddof=1) / np.sqrt(60))


def test_estimators_are_centred_and_their_intervals_cover():
    rng = np.random.default_rng(0)
    found = {"ips": [], "snips": [], "dr": []}
    for _ in range(400):
        r, p, pi, q, v, truth = logged(rng)
        found["ips"].append(inverse_propensity_score(r, p, pi))
        found["snips"].append(self_normalized_ips(r, p, pi))
        found["dr"].append(doubly_robust(r, p, pi, q, v))
    for name, estimates in found.items():
        values = np.array([e.value for e in estimates])
        assert abs(values.mean() - truth) < 4 * values.std() / 20, name
        assert np.mean([e.low <= truth <= e.high for e in estimates]) > 0.91, name
        errors = np.mean([e.standard_error for e in estimates])
        assert errors == pytest.approx(values.std(), rel=0.15), name
    assert np.std([e.value for e in found["dr"]]) < np.std([e.value for e in found["ips"]])


def test_a_perfect_model_leaves_doubly_robust_only_the_noise():
    r, p, pi, *_ = logged(np.random.default_rng(0), 80)
    exact = doubly_robust(r, p, pi, r, np.full(80, 0.25))
    assert exact.value == pytest.approx(0.25) and exact.standard_error < 1e-12


def test_effective_sample_size_counts_equal_weights_and_does_not_overflow():
    assert effective_sample_size([2.0] * 7) == pytest.approx(7)
    assert effective_sample_size([0, 0, 5.0]) == pytest.approx(1)
    assert effective_sample_size([1e300, 1e300]) == pytest.approx(2)
    for bad in ([], [0.0, 0.0], [1.0, -1.0], [np.nan, 1.0]):
        with pytest.raises(ValueError):
            effective_sample_size(bad)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"propensities": [0.5, 0.0, 0.5]}, "propensities must be above 0"),
        ({"propensities": [0.5, -0.1, 0.5]}, "propensities must be above 0"),
        ({"propensities": [0.5, 1.1, 0.5]}, "at most 1"),
        ({"propensities": [0.5, np.nan, 0.5]}, "propensities must be finite"),
        ({"target_probabilities": [0.5, 1.5, 0]}, r"target_probabilities must be in \[0, 1\]"),
        ({"target_probabilities": [0.5, 0.5]}, r"target_probabilities must have shape \(3\)"),
        ({"rewards": [0.0, np.nan, 1.0]}, "rewards must be finite"),
        ({"rewards": [0.0, 1.0]}, r"rewards must have shape \(3\)"),
        ({"clip": 0.0}, "clip must be finite and > 0"),
        ({"confidence": 1.0}, "confidence must be between 0 and 1"),
    ],
)
def test_a_log_that_cannot_be_is_refused(change, message):
    usual = {
        "rewards": [0.0, 1.0, 1.0],
        "propensities": [0.5, 0.25, 0.5],
        "target_probabilities": [0.1, 0.9, 0.3],
    }
    for estimate in (inverse_propensity_score, self_normalized_ips, doubly_robust):
        model = {"predicted": [0.0] * 3, "predicted_value": [0.0] * 3}
        extra = model if estimate is doubly_robust else {}
        estimate(**usual, **extra)
        with pytest.raises(ValueError, match=message):
            estimate(**{**usual, **change}, **extra)


def test_one_row_and_weights_of_zero_are_refused_in_words():
    with pytest.raises(ValueError, match="at least 2 logged choices: got 1"):
        inverse_propensity_score([1.0], [0.5], [0.5])
    with pytest.raises(ValueError, match="all weights are 0"):
        self_normalized_ips([1.0, 0.0], [0.5, 0.5], [0, 0])
    assert inverse_propensity_score([1.0, 0.0], [0.5, 0.5], [0, 0]).value == 0
    assert importance_weights([0.1, 0.5], [0.9, 0.1], clip=2).tolist() == [2.0, 0.2]


@pytest.mark.parametrize("p", [5e-324, 1e-310])
@pytest.mark.filterwarnings("error")
def test_a_propensity_too_small_for_a_weight_is_named_and_may_be_clipped(p):
    for estimate in (inverse_propensity_score, self_normalized_ips):
        with pytest.raises(ValueError, match=rf"propensities\[2\] is too small .*: {p}"):
            estimate([1.0, 0.0, 1.0], [0.5, 0.5, p], [0.5, 0.5, 1.0])
    assert importance_weights([0.5, p], [0.5, 1.0], clip=10).tolist() == [1.0, 10.0]
    assert importance_weights([0.5, p], [0.5, 0.0]).tolist() == [1.0, 0.0]


# The document's listing


class Listing:
    """What the document's class does, in a few lines."""

    def __init__(self, num_items, context_dim):
        self.A = [np.eye(context_dim) for _ in range(num_items)]
        self.b = [np.zeros(context_dim) for _ in range(num_items)]
        self.inversions = 0

    def inv(self, A):
        self.inversions += 1
        return np.linalg.inv(A)

    def select_arm(self, x):
        scores = [
            (self.inv(A) @ b) @ x + 1.5 * np.sqrt(x @ self.inv(A) @ x)
            for A, b in zip(self.A, self.b)
        ]
        return np.argmax(scores)

    def update(self, x, arm, r):
        self.A[arm] += np.outer(x, x)
        self.b[arm] += r * x


def test_listing_inverts_twice_for_each_arm_and_choice_and_ours_never(monkeypatch):
    listing = Listing(10, 4)
    listing.select_arm(np.ones(4))
    assert listing.inversions == 20
    ours = LinUCB(10, 4)
    for name in ("inv", "solve", "cholesky"):
        monkeypatch.setattr(np.linalg, name, lambda *a: pytest.fail("O(d³) in a choice or update"))
    ours.update(np.ones(4), ours.select(np.ones(4)), 1.0)


def test_listing_chooses_as_ours_with_its_fixed_alpha_and_cannot_be_told_another():
    rng = np.random.default_rng(0)
    listing, ours = Listing(4, 3), LinUCB(4, 3, alpha=1.5)
    other = LinUCB(4, 3, alpha=0.0)
    for x, arm, r in zip(*history(rng, 100, 4, 3)):
        for agent in (listing, ours, other):
            agent.update(x, arm, r)
    contexts = rng.standard_normal((200, 3))
    theirs = [int(listing.select_arm(x)) for x in contexts]
    assert theirs == ours.select_batch(contexts).tolist()
    assert theirs != other.select_batch(contexts).tolist()


def test_listing_fixes_the_ridge_at_one_which_shrinks_small_features():
    x, r = np.full((50, 1), 0.01), np.ones(50)
    listing, ours = Listing(1, 1), LinUCB(1, 1, ridge=1e-6)
    for row, reward in zip(x, r):
        listing.update(row, 0, reward)
        ours.update(row, 0, reward)
    predicted = (np.linalg.inv(listing.A[0]) @ listing.b[0]) @ x[0]
    assert predicted < 0.01 and ours.theta[0] @ x[0] == pytest.approx(1.0, abs=1e-3)


def test_listing_breaks_every_tie_for_the_first_item():
    first = [Listing(5, 3).select_arm(np.random.default_rng(s).random(3)) for s in range(20)]
    assert set(first) == {0}
    ours = {LinUCB(5, 3, seed=s).select(np.random.default_rng(s).random(3)) for s in range(60)}
    assert ours == {0, 1, 2, 3, 4}


def test_listing_accepts_nan_and_item_minus_one_and_ours_do_not():
    listing, ours = Listing(3, 2), LinUCB(3, 2)
    listing.update(np.ones(2), -1, 1.0)
    assert listing.b[2].tolist() == [1.0, 1.0]  # the last item learned it
    listing.update(np.ones(2), 0, np.nan)
    assert all(listing.select_arm(np.random.default_rng(s).random(2)) == 0 for s in range(9))
    for arm, reward in ((-1, 1.0), (0, np.nan)):
        with pytest.raises(ValueError):
            ours.update(np.ones(2), arm, reward)


def test_listing_accepts_a_context_of_one_number_for_many():
    listing = Listing(2, 3)
    listing.update(np.array([2.0]), 0, 1.0)  # broadcast: adds 4 to each entry of A
    assert listing.A[0][0, 1] == 4.0
    with pytest.raises(ValueError, match=r"shape \(3\): got \(1,\)"):
        LinUCB(2, 3).update(np.array([2.0]), 0, 1.0)


def test_listing_returns_a_numpy_integer_and_ours_an_int():
    assert type(Listing(2, 2).select_arm(np.ones(2))) is np.int64
    assert type(LinUCB(2, 2).select(np.ones(2))) is int


def test_listing_learns_nothing_of_a_new_item_from_items_that_are_alike():
    rng = np.random.default_rng(0)
    shared = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])  # items 0 and 2 are of one kind
    listing, hybrid = Listing(3, 1), HybridLinUCB(3, 1, 2, alpha=0)
    one = np.ones(1)
    for _ in range(200):
        arm = int(rng.integers(0, 2))  # item 2 is never shown
        reward = float(arm == 0)
        listing.update(one, arm, reward)
        hybrid.update(one, shared[arm], arm, reward)
    assert listing.b[2].tolist() == [0.0]
    mean, _ = hybrid.mean_and_width(one, shared)
    assert mean[2] > 0.4 > 0.1 > mean[1]


def test_listing_holds_on_to_what_was_true_before_a_change():
    listing, ours = Listing(1, 1), SlidingWindowLinUCB(1, 1, 100, alpha=0)
    for reward in [1.0] * 1000 + [0.0] * 200:
        listing.update(np.ones(1), 0, reward)
        ours.update(np.ones(1), 0, reward)
    assert (np.linalg.inv(listing.A[0]) @ listing.b[0])[0] > 0.8
    assert ours.theta[0, 0] == pytest.approx(0.0, abs=1e-9)


def test_importing_the_bandits_loads_neither_torch_nor_scipy_nor_gymnasium():
    code = (
        "import sys; from dlcourse.reinforcement_learning import LinUCB, HybridLinUCB, "
        "LinearThompsonSampling, inverse_propensity_score; "
        "print([m for m in ('torch', 'scipy', 'gymnasium', 'mujoco') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_one_arm_one_dimension_and_a_context_of_zeros_work():
    for k, d in itertools.product((1, 2), repeat=2):
        agent = LinUCB(k, d)
        arm = agent.select(np.zeros(d))  # a context of zeros says nothing: every arm ties
        agent.update(np.zeros(d), arm, 1.0)
        np.testing.assert_array_equal(agent.theta, 0)
