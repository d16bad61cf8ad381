"""k-NN, probes, fine-tuning: equal to brute force and scikit-learn, and nothing leaks."""

import copy
import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from torch import nn

from dlcourse.datasets import Split, digits
from dlcourse.self_supervised_learning import (
    features,
    fine_tune,
    knn,
    knn_accuracy,
    label_subset,
    linear_probe,
    logistic_probe,
    pca_rgb,
    pretrain,
    ridge_probe,
)

PROBES = [ridge_probe, logistic_probe]
INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16]


def cloud(seed, n, d, classes=4, spread=1.0, offset=5.0):
    """Features around one centre a class; the centres do not depend on the seed."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, d, generator=torch.Generator().manual_seed(99)) * spread
    y = torch.arange(n) % classes
    scales = torch.linspace(0.1, 10, d)  # features of very different sizes
    return Split((centres[y] + torch.randn(n, d, generator=generator)) * scales + offset, y)


# --- features ------------------------------------------------------------------------------


def test_features_are_the_function_of_each_image_whatever_the_batch():
    split = digits(0).test
    weight = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))

    def tokens(images):
        return torch.stack([images.flatten(1) @ weight, images.flatten(1) @ weight * 2], 1)

    got = [features(tokens, split, batch_size=b) for b in (7, 512)]
    expected = torch.cat([split.x.flatten(1) @ weight, split.x.flatten(1) @ weight * 2], 1)
    for out in got:
        assert out.x.shape == (len(split.y), 10) and torch.equal(out.y, split.y)
        torch.testing.assert_close(out.x, expected)


def test_features_are_taken_in_eval_mode_without_gradients_and_modes_come_back():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Linear(64, 3))
    model[1].eval()  # a part that is frozen stays frozen
    split = digits(0).test
    first, second = features(model, split), features(model, split)
    assert torch.equal(first.x, second.x) and not first.x.requires_grad
    assert [m.training for m in model] == [True, False, True, True] and model.training
    assert model[1].num_batches_tracked == 0


def test_modes_come_back_after_an_error_too():
    model = nn.Sequential(nn.Dropout(), nn.Conv2d(7, 1, 1))
    with pytest.raises(RuntimeError, match="7"):
        features(model, digits(0).test)
    assert model.training and model[0].training


def test_half_precision_features_become_float32():
    assert features(lambda x: x.flatten(1).half(), digits(0).test).x.dtype == torch.float32


@pytest.mark.parametrize("function", [lambda x: x.sum(), lambda x: x[:1].flatten(1)])
def test_a_function_that_does_not_give_one_row_an_image_is_refused(function):
    with pytest.raises(ValueError, match="one row of features an image"):
        features(function, digits(0).test)


def test_features_refuse_a_batch_of_none():
    with pytest.raises(ValueError, match="batch_size"):
        features(nn.Flatten(), digits(0).test, batch_size=0)


# --- k nearest neighbours --------------------------------------------------------------------


def knn_by_hand(train, test, k, temperature):
    """One test example at a time, one neighbour at a time, in float64."""
    right = 0
    for x, y in zip(test.x.double(), test.y, strict=True):
        cosines = [float(x @ t / (x.norm() * t.norm())) for t in train.x.double()]
        votes = {}
        for i in sorted(range(len(cosines)), key=lambda i: -cosines[i])[:k]:
            label = int(train.y[i])
            votes[label] = votes.get(label, 0) + math.exp(cosines[i] / temperature)
        right += max(votes, key=votes.get) == int(y)
    return right / len(test.y)


@pytest.mark.parametrize("seed", range(6))
def test_knn_equals_counting_votes_by_hand(seed):
    train = cloud(seed, 60, 5, offset=0.0)
    test = cloud(seed + 100, 40, 5, offset=0.0)
    k, temperature = [(1, 0.07), (5, 0.07), (20, 0.07), (20, 1.0), (60, 0.1), (7, 0.01)][seed]
    got = knn_accuracy(train, test, k=k, temperature=temperature)
    assert got == knn_by_hand(train, test, k, temperature)
    assert 0.4 < got < 0.95  # neither chance nor certain: the comparison means something


def test_knn_names_a_class_for_each_row_and_its_accuracy_is_the_share_that_is_right():
    train, test = cloud(0, 60, 5, offset=0.0), cloud(1, 40, 5, offset=0.0)
    named = knn(train, test.x, k=7)
    assert named.shape == (40,) and named.dtype == torch.int64
    assert knn_accuracy(train, test, k=7) == named.eq(test.y).double().mean()


def test_knn_counts_every_test_example_over_several_chunks():
    train, test = cloud(0, 50, 3), cloud(1, 2500, 3)
    parts = [
        knn_accuracy(train, Split(test.x[i : i + 500], test.y[i : i + 500]))
        for i in range(0, 2500, 500)
    ]
    assert knn_accuracy(train, test) == pytest.approx(sum(parts) / 5, abs=1e-12)


def test_knn_looks_at_directions_alone():
    train, test = cloud(0, 60, 5, offset=0.0), cloud(1, 60, 5, offset=0.0)
    longer = Split(train.x * torch.linspace(0.01, 100, 60)[:, None], train.y)
    assert knn_accuracy(longer, test) == knn_accuracy(train, test)


def test_a_near_neighbour_outvotes_many_far_ones_at_low_temperature():
    angles = torch.tensor([0.0, 0.6, 0.6, 0.6])
    train = Split(torch.stack([angles.cos(), angles.sin()], 1), torch.tensor([1, 0, 0, 0]))
    test = Split(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    assert knn_accuracy(train, test, k=4, temperature=0.07) == 1.0  # 1 > 3 exp(−0.175 / 0.07)
    assert knn_accuracy(train, test, k=4, temperature=1.0) == 0.0  # 1 < 3 exp(−0.175)
    assert knn_accuracy(train, test, k=4, temperature=1e-4) == 1.0  # exp(1 / τ) would overflow


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"k": 0}, "k must be"), ({"k": 61}, "1 … 60"), ({"temperature": 0.0}, "temperature")],
)
def test_knn_refuses_settings_out_of_range(wrong, message):
    with pytest.raises(ValueError, match=message):
        knn_accuracy(cloud(0, 60, 5), cloud(1, 60, 5), **wrong)


# --- linear probes ---------------------------------------------------------------------------


def standardised(train, *others):
    mean, scale = train.x.double().mean(0), train.x.double().std(0, correction=0)
    return [((s.x.double() - mean) / scale).numpy() for s in (train, *others)]


@pytest.mark.parametrize(("n", "d"), [(80, 12), (12, 80), (40, 40)])
@pytest.mark.parametrize("decay", [1e-4, 0.1, 10.0])
def test_the_ridge_probe_is_scikit_learns_ridge_on_standardised_features(n, d, decay):
    train, validation, test = (cloud(s, n, d, spread=0.4) for s in range(3))
    probe = ridge_probe(train, validation, test, decays=[decay])
    z, z_validation, z_test = standardised(train, validation, test)

    ridge = Ridge(alpha=n * decay).fit(z, np.eye(4)[train.y])
    outputs = (test.x.double() @ probe.weight + probe.bias).numpy()
    np.testing.assert_allclose(outputs, ridge.predict(z_test), atol=1e-8)

    classifier = RidgeClassifier(alpha=n * decay).fit(z, train.y)
    assert (probe.predict(test.x).numpy() == classifier.predict(z_test)).all()
    assert probe.test_accuracy == pytest.approx(classifier.score(z_test, test.y))
    assert probe.validation_accuracy == pytest.approx(
        classifier.score(z_validation, validation.y)
    )


@pytest.mark.parametrize(("n", "d"), [(80, 12), (12, 80), (40, 40), (200, 3)])
@pytest.mark.parametrize("decay", [1e-3, 0.1, 10.0])
def test_the_logistic_probe_is_scikit_learns_logistic_regression(n, d, decay):
    train, validation, test = (cloud(s, n, d, spread=0.4) for s in range(3))
    probe = logistic_probe(train, validation, test, decays=[decay])
    z, z_validation, z_test = standardised(train, validation, test)

    reference = LogisticRegression(C=1 / (n * decay), tol=1e-10, max_iter=10_000).fit(z, train.y)
    logs = (test.x.double() @ probe.weight + probe.bias).log_softmax(1).numpy()
    expected = reference.predict_log_proba(z_test)
    np.testing.assert_allclose(logs, expected, atol=2e-3 * abs(expected).max())
    assert probe.test_accuracy == pytest.approx(reference.score(z_test, test.y))
    assert probe.validation_accuracy == pytest.approx(reference.score(z_validation, validation.y))


def test_the_logistic_probe_vanishes_the_gradient_also_of_features_that_are_nearly_collinear():
    """Plain L-BFGS needs thousands of steps here; in the features' own axes few are enough."""
    g = torch.Generator().manual_seed(0)
    y = torch.arange(400) % 3
    x = torch.randn(400, 12, generator=g) + y[:, None] * torch.linspace(0, 0.3, 12)
    x = x @ torch.randn(12, 12, generator=g) @ torch.diag(torch.logspace(0, -3, 12)) @ torch.randn(
        12, 12, generator=g
    )
    probe = logistic_probe(*[Split(x, y)] * 3, decays=[1e-4])
    (z,) = standardised(Split(x, y))
    w = probe.weight * x.double().std(0, correction=0)[:, None]
    error = (x.double() @ probe.weight + probe.bias).softmax(1) - torch.eye(3)[y]
    gradient = torch.from_numpy(z).T @ error / 400 + 1e-4 * w
    assert gradient.abs().max() < 1e-5 < 0.05 < error.abs().max()


def test_classes_in_a_row_are_told_apart_by_the_logistic_probe_and_not_by_ridge():
    """Four classes with means 0, 1, 2, 3 on a line: the middle outputs of ridge are never largest.

    That is why the two are called by their names."""
    g = torch.Generator().manual_seed(0)
    y = torch.arange(400) % 4
    x = torch.stack([y + 0.05 * torch.randn(400, generator=g), torch.randn(400, generator=g)], 1)
    splits = [Split(x, y)] * 3
    assert logistic_probe(*splits).test_accuracy == 1.0
    assert ridge_probe(*splits).test_accuracy == pytest.approx(0.5, abs=0.01)


def test_the_linear_probe_is_ridge_under_its_former_name_and_says_so():
    splits = [cloud(s, 40, 30, spread=0.3) for s in range(3)]
    former, ridge = linear_probe(*splits), ridge_probe(*splits)
    assert torch.equal(former.weight, ridge.weight) and former.decay == ridge.decay
    assert "ridge" in linear_probe.__doc__ and "logistic" in linear_probe.__doc__


@pytest.mark.parametrize("fit", PROBES)
def test_the_decay_is_the_best_on_validation_and_of_equals_the_largest(fit):
    train, validation, test = (cloud(s, 40, 30, spread=0.3) for s in range(3))
    decays = [10.0**e for e in range(-4, 3)]
    alone = {d: fit(train, validation, test, decays=[d]) for d in decays}
    best = max(decays, key=lambda d: (alone[d].validation_accuracy, d))
    assert len({p.validation_accuracy for p in alone.values()}) > 2  # the choice matters here
    for order in (decays, decays[::-1]):
        chosen = fit(train, validation, test, decays=order)
        assert chosen.decay == best
        assert chosen.test_accuracy == alone[best].test_accuracy


@pytest.mark.parametrize("fit", PROBES)
def test_test_data_changes_nothing_but_the_test_accuracy(fit):
    train, validation, test = (cloud(s, 40, 30, spread=0.3) for s in range(3))
    probe = fit(train, validation, test)
    others = [Split(test.x, test.y.flip(0)), Split(test.x * 100 - 7, test.y), cloud(9, 8, 30)]
    for other in others:
        again = fit(train, validation, other)
        assert again.decay == probe.decay and torch.equal(again.weight, probe.weight)
        assert again.validation_accuracy == probe.validation_accuracy
    assert fit(train, validation, others[0]).test_accuracy != probe.test_accuracy


@pytest.mark.parametrize("fit", PROBES)
def test_validation_data_enter_the_choice_of_the_decay_and_nothing_else(fit):
    train, validation, test = (cloud(s, 40, 30, spread=0.3) for s in range(3))
    probe = fit(train, validation, test, decays=[0.1])
    moved = Split(validation.x * 1000 + 50, validation.y)
    again = fit(train, moved, test, decays=[0.1])
    assert torch.equal(again.weight, probe.weight) and again.test_accuracy == probe.test_accuracy


@pytest.mark.parametrize("fit", PROBES)
def test_the_probe_does_not_see_the_scale_of_a_feature(fit):
    train, validation, test = (cloud(s, 60, 10, spread=0.4) for s in range(3))
    factor = torch.logspace(-3, 3, 10)
    scaled = [Split(s.x * factor - 2 * factor, s.y) for s in (train, validation, test)]
    first, second = fit(train, validation, test), fit(*scaled)
    assert first.decay == second.decay and first.test_accuracy == second.test_accuracy


@pytest.mark.parametrize("fit", PROBES)
def test_a_feature_that_does_not_vary_in_train_counts_as_none(fit):
    train, validation, test = (cloud(s, 60, 10, spread=0.4) for s in range(3))
    expected = fit(train, validation, test)
    wide = [
        Split(torch.cat([s.x, torch.full((60, 1), v), 1e4 + 2e-4 * s.x[:, -1:]], 1), s.y)
        for s, v in ((train, 0.1), (validation, 3.0), (test, -8.0))
    ]
    assert wide[0].x[:, -1].std() > 0  # not constant, but all of it is rounding
    got = fit(*wide)
    assert torch.equal(got.weight[-2:], torch.zeros(2, 4, dtype=torch.float64))
    torch.testing.assert_close(got.weight[:-2], expected.weight, rtol=1e-6, atol=1e-9)
    assert got.test_accuracy == expected.test_accuracy


@pytest.mark.parametrize("fit", PROBES)
@pytest.mark.parametrize("lacking", [0, 1, 3])
def test_a_class_that_train_lacks_is_never_predicted_and_counts_as_wrong(fit, lacking):
    train, validation, test = (cloud(s, 60, 10, spread=3.0) for s in range(3))
    few = Split(train.x[train.y != lacking], train.y[train.y != lacking])
    probe = fit(few, validation, test)
    assert lacking not in probe.predict(test.x)
    assert probe.test_accuracy <= 0.75 < fit(train, validation, test).test_accuracy


@pytest.mark.parametrize("fit", PROBES)
def test_features_that_do_not_vary_at_all_name_the_commonest_class(fit):
    y = torch.tensor([0, 1, 1, 2])
    splits = [Split(torch.ones(4, 3), y)] * 3
    assert fit(*splits).predict(torch.randn(5, 3)).tolist() == [1] * 5


@pytest.mark.parametrize("fit", PROBES)
@pytest.mark.parametrize("decays", [[], [0.0], [1.0, -1.0], [float("nan")]])
def test_decays_must_be_positive(fit, decays):
    with pytest.raises(ValueError, match="decays must be positive"):
        fit(*(cloud(s, 20, 3) for s in range(3)), decays=decays)


@pytest.mark.parametrize("fit", PROBES)
def test_a_single_class_is_refused(fit):
    one = Split(torch.randn(5, 3), torch.zeros(5, dtype=torch.long))
    with pytest.raises(ValueError, match="single class"):
        fit(one, one, one)


def test_a_logistic_probe_takes_a_step_at_least():
    with pytest.raises(ValueError, match="max_steps"):
        logistic_probe(*(cloud(s, 20, 3) for s in range(3)), max_steps=0)


MEASURES = [lambda *s: knn_accuracy(s[0], s[2]), *PROBES]


@pytest.mark.parametrize("measure", MEASURES, ids=["knn", "ridge", "logistic"])
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda s: Split(s.x.clone().index_fill_(0, torch.tensor([3]), math.nan), s.y), "NaN"),
        (lambda s: Split(s.x / 0, s.y), "infinity"),
        (lambda s: Split(s.x[:, :4], s.y), "same D"),
        (lambda s: Split(s.x[:, None], s.y), "flatten"),
        (lambda s: Split(s.x[:0], s.y[:0]), "N >= 1"),
        (lambda s: Split(s.x, s.y.float()), "integers"),
        (lambda s: Split(s.x, s.y[:-1]), "labels"),
        (lambda s: Split(s.x, s.y - 1), "labels"),
    ],
)
def test_features_that_cannot_be_compared_are_refused(measure, broken, message):
    good = cloud(0, 30, 5)
    bad = broken(cloud(1, 30, 5))
    with pytest.raises(ValueError, match=message):
        measure(good, good, bad)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("measure", MEASURES, ids=["knn", "ridge", "logistic"])
def test_labels_may_be_of_any_integer_type(measure, dtype):
    splits = [cloud(s, 40, 5, spread=0.4) for s in range(3)]
    result = measure(*(Split(s.x, s.y.to(dtype)) for s in splits))
    expected = measure(*splits)
    accuracies = [r if isinstance(r, float) else r.test_accuracy for r in (result, expected)]
    assert accuracies[0] == accuracies[1]
    subset = label_subset(Split(splits[0].x, splits[0].y.to(dtype)), 0.5)
    assert subset.y.dtype == dtype
    assert torch.equal(subset.y.long(), label_subset(splits[0], 0.5).y)


# --- fine-tuning -----------------------------------------------------------------------------


def pictures(seed, n=60):
    """Images of two classes: bright at the left or at the right."""
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 2
    x = torch.rand(n, 1, 4, 4, generator=g)
    x[y == 0, :, :, :2] += 0.3
    x[y == 1, :, :, 2:] += 0.3
    return Split(x, y)


def encoder(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh())


THREE = [pictures(s) for s in range(3)]
BUDGET = {"rates": (1e-4, 3e-2), "steps": (5, 40), "batch_size": 20}


def test_fine_tuning_is_pretrain_on_the_cross_entropy_and_the_best_on_validation_is_kept():
    result = fine_tune(encoder, *THREE, **BUDGET)
    train, validation, test = THREE
    expected = {}
    for rate in (1e-4, 3e-2):
        for count in (5, 40):
            network = nn.Sequential(encoder(), nn.Linear(8, 2))
            nn.init.zeros_(network[1].weight), nn.init.zeros_(network[1].bias)
            pretrain(
                network,
                lambda i, g, m=network: nn.functional.cross_entropy(m(train.x[i]), train.y[i]),
                60, steps=count, batch_size=20, lr=rate, max_grad_norm=1.0,
            )  # fmt: skip
            right = [network(s.x).argmax(1).eq(s.y).double().mean() for s in (validation, test)]
            expected[rate, count] = tuple(float(r) for r in right)
    assert result.tried == {pair: accuracy for pair, (accuracy, _) in expected.items()}
    best = max(expected, key=lambda pair: expected[pair][0])
    assert (result.rate, result.steps) == best
    assert (result.validation_accuracy, result.test_accuracy) == expected[best]
    assert len(set(result.tried.values())) > 1 and result.test_accuracy > 0.8
    assert result.network(test.x).shape == (60, 2)


def test_every_start_has_the_same_batches_and_the_start_itself_is_left_alone():
    trained = encoder()
    before = copy.deepcopy(trained.state_dict())
    seen = []

    def note(images, generator):
        seen.append((images, float(torch.rand(1, generator=generator))))
        return images

    for start in (lambda: copy.deepcopy(trained), lambda: encoder(5)):
        fine_tune(start, *THREE, rates=(1e-3,), steps=(4,), batch_size=20, augment=note)
    for (first, a), (second, b) in zip(seen[:4], seen[4:], strict=True):
        assert torch.equal(first, second) and a == b
    for name, value in trained.state_dict().items():
        assert torch.equal(value, before[name])


def test_views_are_drawn_in_training_and_nowhere_else():
    shapes = []

    def darker(images, generator):
        shapes.append(len(images))
        return images * 0

    result = fine_tune(encoder, *THREE, rates=(1e-2,), steps=(10,), batch_size=20, augment=darker)
    assert shapes == [20] * 10
    assert result.test_accuracy == pytest.approx(0.5)  # it saw black pictures alone


def test_test_labels_do_not_enter_fine_tuning():
    train, validation, test = THREE
    first = fine_tune(encoder, train, validation, test, **BUDGET)
    second = fine_tune(encoder, train, validation, Split(test.x, 1 - test.y), **BUDGET)
    assert first.tried == second.tried and first.rate == second.rate
    assert first.test_accuracy == pytest.approx(1 - second.test_accuracy)


def test_fewer_images_than_a_batch_and_other_integer_labels_are_enough():
    few = label_subset(THREE[0], 0.1)
    splits = [Split(s.x, s.y.to(torch.uint8)) for s in (few, *THREE[1:])]
    result = fine_tune(encoder, *splits, rates=(1e-2,), steps=(20,), dtype=torch.bfloat16)
    assert result.test_accuracy > 0.6
    assert all(p.dtype == torch.float32 for p in result.network.parameters())


def test_what_cannot_be_fine_tuned_is_refused():
    shared = encoder()
    for start, settings, message in (
        (encoder, {"rates": ()}, "at least one rate"),
        (encoder, {"steps": []}, "one number of steps"),
        (lambda: shared, {}, "copy.deepcopy"),
        (lambda: nn.Conv2d(1, 3, 1), {}, r"features \(B, D\)"),
    ):
        with pytest.raises(ValueError, match=message):
            fine_tune(start, *THREE, **{"steps": (1, 2), "rates": (1e-3,), **settings})


# --- few labels ------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.001, 0.01, 0.1, 0.37, 1.0])
def test_a_subset_holds_the_share_of_every_class_and_at_least_one(fraction):
    split = digits(0).train
    subset = label_subset(split, fraction)
    for label, n in enumerate(torch.bincount(split.y).tolist()):
        assert int((subset.y == label).sum()) == max(1, round(fraction * n))


def test_images_of_a_subset_keep_their_labels():
    n = 200
    y = torch.arange(n) % 7
    subset = label_subset(Split(torch.arange(n).float()[:, None], y), 0.2, seed=1)
    chosen = subset.x[:, 0].long()
    assert torch.equal(subset.y, y[chosen]) and len(chosen.unique()) == len(chosen)


def test_a_subset_depends_on_the_seed_alone_and_smaller_ones_lie_in_larger_ones():
    split = Split(torch.arange(500).float()[:, None], torch.arange(500) % 5)
    state = torch.get_rng_state()
    chosen = {
        (seed, f): set(label_subset(split, f, seed).x[:, 0].tolist())
        for seed in (0, 1)
        for f in (0.01, 0.1, 0.5)
    }
    assert chosen[0, 0.1] == set(label_subset(split, 0.1, 0).x[:, 0].tolist())
    assert chosen[0, 0.1] != chosen[1, 0.1]
    assert chosen[0, 0.01] < chosen[0, 0.1] < chosen[0, 0.5]
    assert torch.equal(torch.get_rng_state(), state)


def test_the_whole_is_the_split_itself():
    split = digits(0).test
    whole = label_subset(split, 1.0)
    assert torch.equal(whole.x, split.x) and torch.equal(whole.y, split.y)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01])
def test_a_fraction_outside_0_to_1_is_refused(fraction):
    with pytest.raises(ValueError, match="fraction"):
        label_subset(digits(0).test, fraction)


# --- principal components as colours -----------------------------------------------------------


def tokens(seed, b=3, n=50, d=8):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(b, n, d, generator=generator) * torch.linspace(3, 0.2, d) + 4


@pytest.mark.parametrize("seed", range(4))
def test_colours_are_scikit_learns_components_between_two_percentiles(seed):
    x = tokens(seed)
    scores = PCA(3).fit(x.flatten(0, 1)).transform(x.flatten(0, 1))
    colours = pca_rgb(x)
    assert colours.shape == (3, 50, 3) and colours.min() == 0 and colours.max() == 1
    low, high = np.percentile(scores, [2, 98], axis=0)
    expected = ((scores - low) / (high - low)).clip(0, 1)
    got = colours.flatten(0, 1).numpy()
    for channel in range(3):  # the sign of a component is a convention
        same, other = expected[:, channel], 1 - expected[:, channel]
        difference = min(abs(got[:, channel] - same).max(), abs(got[:, channel] - other).max())
        assert difference < 1e-4


def test_the_sign_of_a_colour_does_not_depend_on_the_order_of_the_patches():
    x = tokens(0)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(pca_rgb(x[:, order]), pca_rgb(x)[:, order], atol=1e-5, rtol=0)


def test_a_component_points_along_its_largest_loading():
    t = torch.linspace(-1, 1, 100)
    x = torch.stack([9 * t, 5 * (3 * t**2 - 1), 2 * t**3 - 1.2 * t, 0 * t], 1)[None]  # orthogonal
    red = pca_rgb(x)[0, :, 0]
    assert (red.diff() >= 0).all()
    torch.testing.assert_close(pca_rgb(x + 100), pca_rgb(x), atol=1e-4, rtol=0)


def test_a_reference_decides_the_colours():
    x, other = tokens(0), tokens(1) * 2
    torch.testing.assert_close(pca_rgb(x, x), pca_rgb(x))
    both = torch.cat([x, other])
    torch.testing.assert_close(pca_rgb(x, both), pca_rgb(both)[:3], atol=1e-6, rtol=0)
    assert (pca_rgb(x, both) - pca_rgb(x)).abs().max() > 0.1


def test_colours_do_not_need_torchs_quantile_which_takes_at_most_16_million_values(monkeypatch):
    x = tokens(0)
    before = pca_rgb(x)

    def too_large(*args, **kwargs):
        raise RuntimeError("quantile() input tensor is too large")

    monkeypatch.setattr(torch, "quantile", too_large)
    assert torch.equal(pca_rgb(x), before)
    assert pca_rgb(x[:1, :1]).shape == (1, 1, 3)  # of one value every percentile is itself


def test_equal_tokens_have_one_finite_colour():
    colours = pca_rgb(torch.ones(2, 5, 4))
    assert colours.isfinite().all() and colours.std() == 0


@pytest.mark.parametrize(
    ("shape", "reference"), [((5, 8), None), ((2, 5, 2), None), ((2, 5, 8), (2, 5, 7))]
)
def test_tokens_of_a_wrong_shape_are_refused(shape, reference):
    with pytest.raises(ValueError, match="D >= 3"):
        pca_rgb(torch.randn(shape), None if reference is None else torch.randn(reference))
