"""Facts about thresholds, calibration, heat maps, phantoms and diagnoses of section 124.1."""

import math

import numpy as np
import pytest
import torch
from captum.attr import LayerAttribution, LayerGradCam
from scipy import stats
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, roc_auc_score
from torch import nn

from dlcourse.industry_applications import (
    DiagnosisModel,
    GradCAM,
    LesionNet,
    NotCalibrated,
    ScanningObserver,
    add_marker,
    adjust_prevalence,
    binomial_interval,
    choose_threshold,
    decision_curve,
    dicom_window,
    estimate_prevalence,
    expected_calibration_error,
    fit_temperature,
    lumpy_phantoms,
    operating_point,
    peaks,
    pointing_hits,
    predict_logits,
    predictive_values,
    train_classifier,
)

SIZE = 24


@pytest.fixture(scope="module")
def trained():
    """A network that finds lesions of much contrast, its training and its validation pictures."""
    training = lumpy_phantoms(400, 0, size=SIZE, contrast=0.4)
    validation = lumpy_phantoms(400, 1, size=SIZE, contrast=0.4)
    torch.manual_seed(0)
    network = train_classifier(LesionNet(4), training.images, training.labels, seed=0, epochs=5)
    return network, training, validation


@pytest.fixture
def model(trained):
    network, training, validation = trained
    # Contrast of training is lower here, so that no temperature separates the classes.
    weak = lumpy_phantoms(500, 2, size=SIZE, contrast=0.2)
    model = DiagnosisModel(network, network.features, (1, SIZE, SIZE))
    model.calibrate(training.images, training.labels, weak.images, weak.labels)
    return model


def scored(rng, n=300, shift=1.5):
    labels = (rng.random(n) < 0.4).astype(int)
    labels[:2] = 0, 1
    return rng.standard_normal(n) + shift * labels, labels


# Thresholds


@pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 20), (7, 20), (20, 20), (950, 1000)])
def test_interval_of_a_share_is_scipys_exact_one(k, n):
    right = stats.binomtest(k, n).proportion_ci(0.95, "exact")
    np.testing.assert_allclose(binomial_interval(k, n), (right.low, right.high), rtol=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_operating_point_counts_as_sklearns_confusion_matrix(seed):
    scores, labels = scored(np.random.default_rng(seed))
    point = operating_point(scores, labels, 0.7)
    tn, fp, fn, tp = confusion_matrix(labels, scores >= 0.7).ravel()
    assert point.sensitivity == tp / (tp + fn) and point.specificity == tn / (tn + fp)
    assert (point.positives, point.negatives) == (tp + fn, tn + fp)


def test_a_score_at_the_threshold_is_positive():
    assert operating_point([0.2, 0.5, 0.5], [0, 0, 1], 0.5).sensitivity == 1


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95])
def test_threshold_keeps_its_promise_as_often_as_it_says(confidence):
    rng, kept, draws = np.random.default_rng(3), 0, 2000
    for _ in range(draws):
        scores = rng.standard_normal(100)
        scores[80:] -= 2  # negatives
        chosen = choose_threshold(scores, [1] * 80 + [0] * 20, 0.9, confidence)
        kept += stats.norm.sf(chosen.threshold) >= 0.9  # the true sensitivity
    assert kept >= stats.binom.ppf(1e-4, draws, confidence)


@pytest.mark.parametrize("n", [59, 100, 500])
def test_no_larger_threshold_keeps_the_promise(n):
    scores = np.arange(n + 1.0)
    labels = [0] + [1] * n
    k = scores[1:].tolist().index(choose_threshold(scores, labels).threshold) + 1
    assert stats.binom.cdf(k - 1, n, 0.05) <= 0.05 < stats.binom.cdf(k, n, 0.05)


def test_59_positives_can_promise_and_58_can_not():
    assert choose_threshold(range(60), [0] + [1] * 59).sensitivity == 1
    with pytest.raises(ValueError, match="58 positive cases.*collect 59"):
        choose_threshold(range(59), [0] + [1] * 58)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_gives_no_threshold_no_temperature_and_no_error_of_calibration(label):
    scores, labels = np.linspace(0.1, 0.9, 80), np.full(80, label)
    for call in (choose_threshold, fit_temperature, expected_calibration_error):
        with pytest.raises(ValueError, match=f"all 80 labels are {label}"):
            call(scores, labels)


def test_predictive_values_by_hand():
    # Of 10,000 people 100 are sick: 95 are found, and 1,980 of the 9,900 healthy are called too.
    ppv, npv = predictive_values(0.95, 0.8, 0.01)
    assert ppv == pytest.approx(95 / (95 + 1980)) and npv == pytest.approx(7920 / (7920 + 5))
    assert math.isnan(predictive_values(0, 1, 0.1)[0])


# Calibration


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_temperature_is_found_where_the_logits_are_a_multiple_of_the_log_odds(factor):
    rng = np.random.default_rng(0)
    odds = 2 * rng.standard_normal(100_000)
    labels = rng.random(odds.size) < expit(odds)
    assert fit_temperature(factor * odds, labels) == pytest.approx(factor, rel=0.02)


def test_no_temperature_is_best_where_the_classes_are_separated():
    with pytest.raises(ValueError, match="separate the classes"):
        fit_temperature([-2.0, -1, 1, 2], [0, 0, 1, 1])


def test_calibration_error_by_hand():
    # Two bins: 0.2 and 0.4 with one positive of two; 0.9 twice, both positive.
    p, y = [0.2, 0.4, 0.9, 0.9], [0, 1, 1, 1]
    assert expected_calibration_error(p, y, 2) == pytest.approx((0.2 * 2 + 0.1 * 2) / 4)


@pytest.mark.parametrize("seed", range(5))
def test_calibration_error_is_that_of_sklearns_curve(seed):
    rng = np.random.default_rng(seed)
    p = rng.random(500)
    y = rng.random(500) < p**1.5
    observed, predicted = calibration_curve(y, p, n_bins=10)
    count = np.histogram(p, 10, (0, 1))[0]
    right = (np.abs(observed - predicted) * count[count > 0]).sum() / 500
    assert expected_calibration_error(p, y, 10) == pytest.approx(right)


def test_logits_are_no_probabilities():
    with pytest.raises(ValueError, match="sigmoid"):
        expected_calibration_error([-1.0, 2.0], [0, 1])


def test_net_benefit_by_hand():
    # t = 0.25: a needless treatment costs a third. Two true, one false of five.
    curve = decision_curve([0.1, 0.3, 0.3, 0.9, 0.2], [0, 0, 1, 1, 0], [0.25])
    assert curve.model[0] == pytest.approx(2 / 5 - 1 / 5 / 3)
    assert curve.treat_all[0] == pytest.approx(2 / 5 - 3 / 5 / 3)


def test_prevalence_is_changed_as_bayes_has_it_and_back():
    p = np.array([0.0, 0.1, 0.5, 0.9, 1.0])
    moved = adjust_prevalence(p, 0.5, 0.1)
    np.testing.assert_allclose(moved, p * 0.1 / (p * 0.1 + (1 - p) * 0.9))
    np.testing.assert_allclose(adjust_prevalence(moved, 0.1, 0.5), p)


@pytest.mark.parametrize("true", [0.05, 0.3, 0.8])
def test_prevalence_is_estimated_without_labels(true):
    rng = np.random.default_rng(1)
    sick = rng.random(20_000) < true
    x = rng.standard_normal(sick.size) + 2 * sick  # log odds at prevalence 1/2 are 2 x − 2
    assert estimate_prevalence(expit(2 * x - 2), 0.5) == pytest.approx(true, abs=0.015)


# Heat maps


class TwoClasses(nn.Module):
    def __init__(self):
        super().__init__()
        self.maps = nn.Sequential(nn.Conv2d(1, 5, 3, 2), nn.Tanh())
        self.rest = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(5, 4, 3), nn.Flatten())
        self.head = nn.LazyLinear(3)

    def forward(self, x):
        return self.head(self.rest(self.maps(x)))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("target", [0, 2])
def test_heat_map_is_captums(seed, target):
    torch.manual_seed(seed)
    network, x = TwoClasses().double(), torch.rand(4, 1, 21, 17, dtype=torch.float64)
    theirs = LayerGradCam(network, network.maps).attribute(x, target, relu_attributions=True)
    ours = GradCAM(network, network.maps)
    torch.testing.assert_close(ours.attribute(x, target), theirs[:, 0].detach(), atol=1e-12, rtol=0)
    large = LayerAttribution.interpolate(theirs, (21, 17), "bilinear")[:, 0].detach()
    torch.testing.assert_close(ours(x, target), large, atol=1e-12, rtol=0)
    assert ours.attribute(x, target).max() > 1e-5


def test_heat_map_of_a_trained_network_and_of_a_volume_is_captums(trained):
    network, _, validation = trained
    volume = LesionNet(2, dimensions=3).eval()
    for net, x in ((network, validation.images[:50]), (volume, torch.rand(2, 1, 16, 16, 16))):
        theirs = LayerGradCam(net, net.features).attribute(x, relu_attributions=True)[:, 0]
        torch.testing.assert_close(
            GradCAM(net, net.features).attribute(x), theirs.detach(), atol=1e-5, rtol=1e-5
        )


def test_heat_map_works_without_gradients_and_leaves_the_network_alone():
    torch.manual_seed(0)
    network, x = TwoClasses(), torch.rand(2, 1, 21, 17)
    network(x)
    free = GradCAM(network, network.maps)(x, 1)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        assert torch.equal(GradCAM(network, network.maps)(x, 1), free)
    assert not network.maps._forward_hooks
    assert all(parameter.grad is None for parameter in network.parameters())


def test_inference_mode_a_missing_target_and_a_foreign_layer_are_refused():
    network, x = TwoClasses(), torch.rand(1, 1, 21, 17)
    with torch.inference_mode(), pytest.raises(RuntimeError, match="no_grad"):
        GradCAM(network, network.maps)(x, 0)
    with pytest.raises(ValueError, match="target must be a class"):
        GradCAM(network, network.maps)(x)
    with pytest.raises(ValueError, match="module of the model"):
        GradCAM(network, nn.ReLU())
    with pytest.raises(ValueError, match="must be maps"):
        GradCAM(network, network.head)(x, 0)
    assert not network.head._forward_hooks


def test_pointing_game():
    maps = torch.zeros(3, 9, 9)
    maps[0, 4, 5] = maps[1, 0, 0] = 1.0
    at = torch.tensor([[4.0, 3.0], [4, 4], [0, 0]])
    assert pointing_hits(maps, at, 2).tolist() == [True, False, False]  # the last is flat
    assert peaks(maps).tolist() == [[4, 5], [0, 0], [0, 0]]
    assert peaks(maps.unsqueeze(1))[0].tolist() == [0, 4, 5]
    with pytest.raises(ValueError, match="without a lesion"):
        pointing_hits(maps, at * math.nan)


# Phantoms


def test_phantom_is_its_background_and_a_lesion_at_its_position():
    args = {"size": SIZE, "noise": 0.0, "prevalence": 1.0}
    sick, healthy = (lumpy_phantoms(20, 5, contrast=c, **args) for c in (0.2, 0.0))
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    for i, (row, column) in enumerate(sick.positions):
        lesion = 0.2 * torch.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * 1.5**2))
        difference = sick.images[i, 0] - healthy.images[i, 0]
        unclipped = sick.images[i, 0] < 1
        torch.testing.assert_close(difference[unclipped], lesion[unclipped], atol=2e-6, rtol=0)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_lumps_have_the_mean_of_a_poisson_field(dimensions):
    images = lumpy_phantoms(150, 0, size=20, dimensions=dimensions, prevalence=0).images
    per_pixel = {2: 40 / 40**2, 3: 60 / 24**3}[dimensions]
    mean = 0.2 + 0.09 * per_pixel * (2 * math.pi * 3.5**2) ** (dimensions / 2)
    means = images.flatten(1).mean(1)
    assert abs(means.mean() - mean) < 4 * means.std() / math.sqrt(150)
    assert images.shape == (150, 1, *[20] * dimensions) and 0 <= images.min() <= images.max() <= 1


def test_phantoms_depend_on_the_seed_alone_and_healthy_ones_have_no_position():
    first, again, other = (lumpy_phantoms(30, s, size=16) for s in (1, 1, 2))
    assert torch.equal(first.images, again.images) and not torch.equal(first.images, other.images)
    assert torch.equal(first.positions.isnan().all(1), first.labels == 0)


def test_marker_is_where_it_was_asked_for_and_nowhere_else():
    plain = lumpy_phantoms(200, 0, size=16)
    marked, which = add_marker(plain, 1, positives=1.0, negatives=0.0)
    assert torch.equal(which, plain.labels == 1)
    assert (marked.images[which, 0, 1:5, 1:5] == torch.tensor(0.95)).all()
    assert torch.equal(marked.images[..., 5:], plain.images[..., 5:])
    assert torch.equal(marked.images[~which], plain.images[~which])


def test_scanning_observer_finds_lesions_and_loses_with_the_noise():
    def auc(noise):
        train, test = (lumpy_phantoms(600, s, size=32, noise=noise) for s in (0, 1))
        observer = ScanningObserver(train.images[train.labels == 0], 0.2)
        return roc_auc_score(test.labels, observer.scores(test.images))

    assert auc(0.05) > 0.97 > auc(0.1) > 0.6


# A trained network, and its diagnoses


def test_network_learns_and_predicting_leaves_its_mode(trained):
    network, _, validation = trained
    assert roc_auc_score(validation.labels, predict_logits(network, validation.images)) > 0.95
    network.train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    predict_logits(network, validation.images)
    assert network.training
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    network.eval()


def test_diagnosis_is_the_screening_of_one_with_a_heat_map(model, trained):
    images = trained[2].images[:30]
    screened = model.screen(images)
    for i, image in enumerate(images):
        found = model.diagnose(image)
        assert found.label == screened.label[i] and found.refer == screened.refer[i]
        assert found.probability == pytest.approx(screened.probability[i], abs=1e-5)
        assert found.refer == bool(found.reasons) and found.heatmap.shape == (SIZE, SIZE)
        wrong = 1 - found.probability if found.label else found.probability
        assert found.uncertainty == pytest.approx(wrong)


def test_screening_uses_temperature_and_threshold(model, trained):
    images = trained[2].images
    logits = predict_logits(model.network, images).double().numpy()
    found = model.screen(images)
    np.testing.assert_allclose(found.probability, expit(logits / model.temperature), atol=1e-6)
    np.testing.assert_array_equal(found.label, found.probability >= model.operating_point.threshold)


def test_limits_refer_the_share_of_the_validation_cases_that_was_asked_for(trained):
    network, training, _ = trained
    weak = lumpy_phantoms(500, 2, size=SIZE, contrast=0.2)
    model = DiagnosisModel(network, network.features, (1, SIZE, SIZE))
    model.calibrate(training.images, training.labels, weak.images, weak.labels,
                    refer_share=0.2, outlier_share=0.05)  # fmt: skip
    found = model.screen(weak.images)
    assert found.unsure.sum() <= 100 and found.unsure.sum() >= 95
    assert found.unlike.sum() in (24, 25)


def test_what_is_no_phantom_is_referred(model):
    rng = torch.Generator().manual_seed(0)
    odd = torch.stack([
        torch.rand(1, SIZE, SIZE, generator=rng),
        (torch.rand(1, SIZE, SIZE, generator=rng) > 0.5).float(),
        1 - lumpy_phantoms(1, 3, size=SIZE).images[0],
    ])  # fmt: skip
    assert model.screen(odd).unlike.all()
    assert model.diagnose(odd[0]).reasons[-1] == "unlike the training images"


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (torch.rand(1, 20, SIZE), ValueError, r"got \(1, 20, 24\)"),
        (torch.rand(SIZE, SIZE), ValueError, r"\(1, 24, 24\)"),
        (np.zeros((1, SIZE, SIZE)), ValueError, "ndarray"),
        (torch.zeros(1, SIZE, SIZE, dtype=torch.uint8), TypeError, "Divide bytes by 255"),
        (255 * torch.ones(1, SIZE, SIZE), ValueError, "got 255 to 255"),
        (torch.full((1, SIZE, SIZE), -1.0), ValueError, "dicom_window"),
        (torch.full((1, SIZE, SIZE), math.nan), ValueError, "finite"),
    ],
)
def test_images_of_another_kind_are_refused(model, image, error, message):
    with pytest.raises(error, match=message):
        model.diagnose(image)


def test_a_model_without_a_threshold_diagnoses_nothing(trained):
    network, _, validation = trained
    model = DiagnosisModel(network, network.features, (1, SIZE, SIZE))
    with pytest.raises(NotCalibrated, match="calibrate"):
        model.diagnose(validation.images[0])


def test_a_failed_calibration_changes_nothing(model, trained):
    _, training, validation = trained
    before = dict(vars(model))
    sick = validation.labels == 1
    with pytest.raises(ValueError, match="labels are 1"):
        model.calibrate(training.images, training.labels,
                        validation.images[sick], validation.labels[sick])  # fmt: skip
    with pytest.raises(ValueError, match="too few for outlier_share"):
        other = lumpy_phantoms(500, 6, size=SIZE, contrast=0.15)
        model.calibrate(training.images, training.labels, other.images, other.labels,
                        outlier_share=0.001)  # fmt: skip
    assert vars(model) == before


def test_a_network_whose_output_is_not_finite_gives_no_diagnosis(model, trained):
    bias = model.network.head.bias
    kept = bias.detach().clone()
    with torch.no_grad():
        bias.fill_(math.nan)
    try:
        with pytest.raises(FloatingPointError, match="no diagnosis"):
            model.diagnose(trained[2].images[0])
    finally:
        with torch.no_grad():
            bias.copy_(kept)


# DICOM


def test_window_is_the_standards():
    # The standard's own note: centre 2048 and width 4096 take 0 to 4095 to the full range.
    np.testing.assert_allclose(dicom_window([0, 4095], 2048, 4096), [0, 1])
    np.testing.assert_allclose(dicom_window([2047.5], 2048, 4096), [0.5])
    # Width 1 is a threshold at c − 0.5.
    np.testing.assert_array_equal(dicom_window([-1, -0.5, 0], 0, 1), [0, 0, 1])
    with pytest.raises(ValueError, match="width of at least 1"):
        dicom_window([0.0], 0, 0.5)


# The document's listing


def listing_positive(probabilities):
    """The listing compares with the sensitivity that it wants."""
    return probabilities > 0.95


def test_listing_cuts_at_the_sensitivity_that_it_wants_and_misses_lesions(model):
    weak = lumpy_phantoms(500, 3, size=SIZE, contrast=0.2)
    p = model.screen(weak.images).probability
    sick = weak.labels.numpy() == 1
    assert listing_positive(p)[sick].mean() < 0.7
    assert (p >= model.operating_point.threshold)[sick].mean() > 0.9


def test_listing_compares_logits_as_if_they_were_probabilities(model):
    images = lumpy_phantoms(500, 3, size=SIZE, contrast=0.2).images
    logits = predict_logits(model.network, images)
    assert not torch.equal(listing_positive(logits), listing_positive(logits.sigmoid()))


def test_listing_calls_a_sure_negative_unsure_and_makes_one_number_of_a_batch(model):
    p = torch.tensor([0.02])
    assert p.max().item() == pytest.approx(0.02)  # its confidence, where 0.98 is meant
    batch = torch.tensor([0.02, 0.5, 0.99])
    assert batch.max().item() == pytest.approx(0.99)  # of three patients
    images = lumpy_phantoms(200, 3, size=SIZE).images
    assert model.screen(images).uncertainty.shape == (200,)


def test_listing_leaves_the_network_in_training_mode_and_answers_depend_on_the_batch(trained):
    network, _, validation = trained
    loaded = LesionNet(4)
    loaded.load_state_dict(network.state_dict())  # a module is in training mode when it is made
    with torch.no_grad():
        alone = loaded(validation.images[:1])
        among = loaded(validation.images[:50])[:1]
    assert (alone - among).abs() > 0.05
    model = DiagnosisModel(loaded, loaded.features, (1, SIZE, SIZE))
    assert not model.network.training


def test_listing_has_no_model_loader_no_heat_map_and_no_layer():
    class Listing:
        def __init__(self, path):
            self.model = self._load_model(path)

    with pytest.raises(AttributeError, match="_load_model"):
        Listing("model.pt")
    network = LesionNet(4)
    with pytest.raises(TypeError, match="layer"):
        GradCAM(network)  # the listing's call
