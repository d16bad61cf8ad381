"""What page 124.1a measures: a network against a scanning observer, and where each breaks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from dlcourse.industry_applications.medical_imaging.calibration import (
    expected_calibration_error,
)
from dlcourse.industry_applications.medical_imaging.diagnosis import DiagnosisModel, Screening
from dlcourse.industry_applications.medical_imaging.grad_cam import GradCAM, peaks, pointing_hits
from dlcourse.industry_applications.medical_imaging.network import (
    LesionNet,
    predict_logits,
    train_classifier,
)
from dlcourse.industry_applications.medical_imaging.phantoms import (
    Phantoms,
    ScanningObserver,
    add_marker,
    lumpy_phantoms,
)
from dlcourse.industry_applications.medical_imaging.thresholds import operating_point
from dlcourse.measure import interleaved

CONTRAST, RATES, PENALTIES = 0.2, (3e-3, 1e-2, 3e-2), (1e-4, 1e-3, 1e-2)
#: Contrast of lesions in volumes, in training and in the test.
STRONG, FAINT = 0.3, 0.15


class Hospital(NamedTuple):
    """Pictures of one hospital in three parts, and a model that was fitted to the first two."""

    training: Phantoms
    validation: Phantoms
    test: Phantoms
    model: DiagnosisModel


def parts(seed: int, counts: tuple[int, int, int], size: int) -> tuple[Phantoms, ...]:
    """Training, validation and test pictures, each from a seed of its own."""
    return tuple(
        lumpy_phantoms(n, 1000 * seed + part, size=size, contrast=CONTRAST)
        for part, n in enumerate(counts)
    )


def hospital(
    seed: int,
    counts: tuple[int, int, int] = (2000, 1500, 2000),
    size: int = 40,
    learning_rate: float = 1e-2,
) -> Hospital:
    """Train and calibrate a model on pictures that depend on the seed, as all else does."""
    training, validation, test = parts(seed, counts, size)
    torch.manual_seed(seed)
    network = train_classifier(
        LesionNet(), training.images, training.labels, seed=seed, learning_rate=learning_rate
    )
    model = DiagnosisModel(network, network.features, (1, size, size))
    model.calibrate(training.images, training.labels, validation.images, validation.labels)
    return Hospital(training, validation, test, model)


def chosen_rate(seed: int, counts: tuple[int, int, int], size: int) -> dict[float, float]:
    """Validation AUC of each learning rate, on pictures of a seed that the contest doesn't use."""
    training, validation, _ = parts(seed, counts, size)
    found = {}
    for rate in RATES:
        torch.manual_seed(seed)
        network = train_classifier(
            LesionNet(), training.images, training.labels, seed=seed, learning_rate=rate
        )
        logits = predict_logits(network, validation.images)
        found[rate] = float(roc_auc_score(validation.labels, logits))
    return found


def baselines(at: Hospital) -> dict[str, float]:
    """Test AUC of the scanning observer, and of pixels in three plain ways."""
    healthy = at.training.images[at.training.labels == 0]
    truth = at.test.labels
    flat = [part.images.flatten(1).numpy() for part in at[:3]]
    best = max(
        (
            LogisticRegression(C=c, max_iter=60).fit(flat[0], at.training.labels)
            for c in PENALTIES
        ),
        key=lambda fit: roc_auc_score(at.validation.labels, fit.decision_function(flat[1])),
    )
    smooth = F.avg_pool2d(at.test.images, 3, 1)
    return {
        "scanning observer": roc_auc_score(
            truth, ScanningObserver(healthy, CONTRAST).scores(at.test.images)
        ),
        "logistic regression on pixels": roc_auc_score(truth, best.decision_function(flat[2])),
        "brightest 3 × 3 pixels": roc_auc_score(truth, smooth.flatten(1).amax(1)),
        "brightest pixel": roc_auc_score(truth, at.test.images.flatten(1).amax(1)),
    }


def judge(at: Hospital) -> dict[str, float]:
    """A model on its test pictures: order, calibration, threshold, heat maps, abstention."""
    truth = at.test.labels.numpy()
    logits = predict_logits(at.model.network, at.test.images).double().numpy()
    found = at.model.screen(at.test.images)
    point = operating_point(found.probability, truth, at.model.operating_point.threshold)
    rng = np.random.default_rng(0)
    by_chance = [
        expected_calibration_error(found.probability, rng.random(truth.size) < found.probability)
        for _ in range(20)
    ]
    wrong = found.label != truth
    sick = at.test.labels == 1
    heat, places = at.model.grad_cam(at.test.images[sick]), at.test.positions[sick]
    aside = offset(at)
    return {
        "auc": roc_auc_score(truth, logits),
        "ece_raw": expected_calibration_error(expit(logits), truth),
        "ece": expected_calibration_error(found.probability, truth),
        "ece_chance": float(np.mean(by_chance)),
        "temperature": at.model.temperature,
        "sensitivity": point.sensitivity,
        "sensitivity_low": point.sensitivity_interval[0],
        "sensitivity_high": point.sensitivity_interval[1],
        "specificity": point.specificity,
        "listing": operating_point(expit(logits), truth, np.nextafter(0.95, 1)).sensitivity,
        "hits": float(pointing_hits(heat, places).float().mean()),
        "offset": float(aside.norm()),
        "hits_moved_back": float(pointing_hits(heat, places + aside).float().mean()),
        "wrong": float(wrong.mean()),
        "wrong_kept": float(wrong[~found.refer].mean()),
        "uncertainty_kept": float(found.uncertainty[~found.refer].mean()),
        "referred": float(found.refer.mean()),
        "unlike": float(found.unlike.mean()),
    }


def offset(at: Hospital) -> Tensor:
    """Median place of a map's peak from the lesion's centre, on validation pictures: (2,), pixels.

    A convolution followed by a maximum may answer beside the lesion, always to the same side: the
    score is the same, and only the map is moved.
    """
    sick = at.validation.labels == 1
    heat = at.model.grad_cam(at.validation.images[sick])
    return (peaks(heat) - at.validation.positions[sick]).median(0).values


def randomised(network: nn.Module, seed: int, layers: int) -> nn.Module:
    """A copy whose last ``layers`` layers with weights are drawn anew (Adebayo et al. 2018)."""
    copied = copy.deepcopy(network)
    with_weights = [m for m in copied.modules() if hasattr(m, "reset_parameters")]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in with_weights[len(with_weights) - layers :]:
            module.reset_parameters()
    return copied.eval()


def sanity(at: Hospital, seed: int, pictures: int = 300) -> list[dict[str, float]]:
    """Heat maps as layers are drawn anew, from the last: likeness to the trained, and hits."""
    sick = at.test.labels == 1
    images, places = at.test.images[sick][:pictures], at.test.positions[sick][:pictures]
    network = at.model.network
    original = at.model.grad_cam(images)
    total = sum(hasattr(m, "reset_parameters") for m in network.modules())
    rows = []
    for layers in range(total + 1):
        copied = randomised(network, seed, layers)
        heat = GradCAM(copied, copied.features)(images)
        rows.append({
            "layers": layers,
            "likeness": float(_correlation(original, heat).mean()),
            "hits": float(pointing_hits(heat, places).float().mean()),
        })  # fmt: skip
    return rows


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's, of each pair of maps ``(N, H, W)``; 0 where a map is flat."""
    a, b = (x.flatten(1) - x.flatten(1).mean(1, keepdim=True) for x in (a, b))
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-12)


def moved(at: Hospital, seed: int, *, noise: float, prevalence: float, n: int = 1500) -> dict:
    """The same model at a second hospital, whose noise or prevalence is another."""
    there = lumpy_phantoms(
        n, 77_000 + seed, size=at.test.images.shape[-1], contrast=CONTRAST,
        noise=noise, prevalence=prevalence,
    )  # fmt: skip
    found: Screening = at.model.screen(there.images)
    truth = there.labels.numpy()
    point = operating_point(found.probability, truth, at.model.operating_point.threshold)
    called = found.label == 1
    return {
        "auc": roc_auc_score(truth, found.probability),
        "sensitivity": point.sensitivity,
        "specificity": point.specificity,
        "ppv": float(truth[called].mean()),
        "ece": expected_calibration_error(found.probability, truth),
        "called": float(called.mean()),
        "unlike": float(found.unlike.mean()),
        "probability": found.probability,
        "labels": truth,
    }


def shortcut(
    seed: int, n: int = 640, epochs: int = 4, contrast: float = 0.12, size: int = 32
) -> dict:
    """A network whose positive training pictures carry a marker, on tests with and without it."""

    def pictures(part: int, count: int) -> Phantoms:
        return lumpy_phantoms(count, 500_000 + 10 * seed + part, size=size, contrast=contrast)

    training, _ = add_marker(pictures(0, n), seed, positives=0.9, negatives=0.05)
    plain = pictures(1, 400)
    same, marked = add_marker(plain, seed + 1, positives=0.9, negatives=0.05)
    swapped, _ = add_marker(plain, seed + 2, positives=0.05, negatives=0.9)
    torch.manual_seed(seed)
    network = train_classifier(
        LesionNet(), training.images, training.labels, seed=seed, epochs=epochs
    )
    scores = {
        "as in training": same, "no marker": plain, "markers swapped": swapped,
    }  # fmt: skip
    auc = {
        name: float(roc_auc_score(plain.labels, predict_logits(network, part.images)))
        for name, part in scores.items()
    }
    chosen = marked & (same.labels == 1)
    heat = GradCAM(network, network.features)(same.images[chosen])
    corner = torch.full((int(chosen.sum()), 2), 2.5)
    return {
        "auc": auc,
        "on_marker": float(pointing_hits(heat, corner, 4.0).float().mean()),
        "on_lesion": float(pointing_hits(heat, same.positions[chosen]).float().mean()),
        "picture": same.images[chosen][0, 0],
        "heat": heat[0],
        "place": same.positions[chosen][0],
    }


def throughput(device: str, sizes: dict[int, int], batch: int, repeats: int = 5) -> dict:
    """Training steps in float32 and bfloat16: images a second, interleaved repeats.

    Args:
        device: "cuda" or "cpu".
        sizes: dimensions and pixels a side, such as ``{2: 64, 3: 48}``.
        batch: pictures a step.
        repeats: of each, taken in turn.

    Returns:
        ``{"2-D float32": [images/s, …], …}``.
    """
    found = {}
    for dimensions, size in sizes.items():
        data = lumpy_phantoms(batch, 0, size=size, dimensions=dimensions)
        images, labels = data.images.to(device), data.labels.to(device).float()
        steps = {}
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
            network = LesionNet(32, dimensions).to(device)
            optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
            steps[f"{dimensions}-D {name}"] = _step(network, optimizer, images, labels, dtype)
        for name, seconds in interleaved(steps, device, repeats=repeats, warmup=3).items():
            found[name] = [batch / s for s in seconds]
    return found


def _step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    dtype: torch.dtype,
) -> Callable[[], None]:
    """One training step on a fixed batch, computed in this type."""

    def step() -> None:
        with torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32):
            logits = network(images)
        loss = F.binary_cross_entropy_with_logits(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def volumes(seed: int, device: str, *, n: int = 4000, size: int = 24, epochs: int = 8) -> dict:
    """Lesions in volumes: test AUC and hits of a network trained in float32, and in bfloat16.

    It learns from strong lesions, since from faint ones training often does not start; it is tested
    on faint ones, so that there is a difference to see.
    """
    training = lumpy_phantoms(n, 9000 + 10 * seed, size=size, dimensions=3, contrast=STRONG)
    test = lumpy_phantoms(
        max(n // 2, 64), 9001 + 10 * seed, size=size, dimensions=3, contrast=FAINT
    )
    images, labels = training.images.to(device), training.labels.to(device)
    sick = test.labels == 1
    found = {}
    for name, dtype in (("float32", None), ("bfloat16", torch.bfloat16)):
        torch.manual_seed(seed)
        network = train_classifier(
            LesionNet(8, 3).to(device), images, labels, seed=seed, epochs=epochs, autocast=dtype
        )
        logits = predict_logits(network, test.images.to(device))
        heat = GradCAM(network, network.features)(test.images[sick].to(device)).cpu()
        found[name] = {
            "auc": float(roc_auc_score(test.labels, logits)),
            "hits": float(pointing_hits(heat, test.positions[sick]).float().mean()),
        }
    return found

