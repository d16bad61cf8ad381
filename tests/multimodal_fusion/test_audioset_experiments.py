"""What the recorded cells of section 121.1b run, at tiny sizes."""

import pytest
import torch

from dlcourse.datasets import FetchError, mix_sounds, sound_bank
from dlcourse.multimodal_fusion import mean_average_precision
from dlcourse.multimodal_fusion.experiments import (
    audioset_baselines,
    audioset_contest,
    audioset_statistics,
    audioset_training,
)

CPU = torch.device("cpu")
TINY = dict(seeds=(0,), rates=(1e-3,), sizes=(60, 40, 40), steps=2, width=32)


def test_contests_report_every_class_of_every_contestant():
    for contest, names in [
        (
            audioset_contest.inputs_contest,
            {"waveform", "spectrogram", "both", "mel statistics", "untrained", "chance"},
        ),
        (audioset_contest.augmentation_contest, {"SpecAugment", "mixup", "both"}),
        (audioset_contest.imbalance_contest, {"plain", "weighted loss", "balanced sampling"}),
    ]:
        table = contest(CPU, **TINY)
        assert set(table) == names
        for results in table.values():
            assert len(results) == 1 and len(results[0]["ap"]) == 12
            assert 0 < results[0]["map"] < 1


def test_logistic_regression_separates_what_a_line_separates():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(300, 5, generator=g)
    y = (x @ torch.randn(5, 3, generator=g) > 0.5).float()
    found = audioset_baselines.probe([(x[:200], y[:200]), (x[200:250], y[200:250]),
                                      (x[250:], y[250:])])
    assert found["map"] > 0.97
    shuffled = y[torch.randperm(300, generator=g)]
    found = audioset_baselines.probe([(x[:200], shuffled[:200]), (x[200:250], y[200:250]),
                                      (x[250:], y[250:])])
    assert found["map"] < 0.75


def test_logistic_regression_is_scikit_learns():
    from sklearn.linear_model import LogisticRegression

    g = torch.Generator().manual_seed(1)
    x = torch.randn(200, 4, generator=g).double()
    y = (x[:, :1] + torch.randn(200, 1, generator=g) > 0).double()
    strength = 0.01
    ours = audioset_baselines.fit_logistic_regression(x.float(), y.float(), strength)
    theirs = LogisticRegression(C=1 / (2 * strength * len(x)), tol=1e-8).fit(x, y[:, 0])
    torch.testing.assert_close(
        ours[:4, 0].double(), torch.tensor(theirs.coef_[0]), atol=2e-3, rtol=0
    )


def test_frozen_probes_at_a_tiny_size():
    pytest.importorskip("onnxruntime")
    try:
        table = audioset_baselines.frozen_probes((0,), 40, 40, 40)
    except FetchError as error:
        pytest.skip(str(error))
    assert set(table) == {"mel statistics", "speech embedding", "both", "chance"}


@pytest.mark.parametrize("kind", audioset_training.KINDS)
def test_training_improves_on_chance_for_its_own_clips(kind):
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    clips = mix_sounds(sound_bank("train"), 24, generator, at_most=1, seconds=0.5)
    model = audioset_training.small_model(kind, width=32)
    audioset_training.train_model(model, clips, rate=3e-3, steps=40, batch_size=24)
    ap = audioset_training.class_precisions(model, clips)
    assert ap.nanmean() > clips.y.mean() + 0.25


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="waveform, spectrogram, both"):
        audioset_training.small_model("mel")


def test_shuffled_labels_leave_chance():
    """The metric of the contests can fail: labels that do not belong to the clips teach nothing."""
    splits = audioset_training.make_clips(0, CPU, (300, 200, 200))
    y = splits.train.y[torch.randperm(300, generator=torch.Generator().manual_seed(0))]
    features = [audioset_baselines.mel_statistics(p.x) for p in splits]
    wrong = audioset_baselines.probe(
        [(features[0], y), (features[1], splits.validation.y), (features[2], splits.test.y)]
    )
    right = audioset_baselines.probe(list(zip(features, [p.y for p in splits])))
    assert wrong["map"] < 0.3 < right["map"]
    chance = mean_average_precision(torch.rand(200, 12), splits.test.y)
    assert abs(wrong["map"] - chance) < 0.08


def test_rich_statistics_hold_the_simple_ones_and_see_an_onset():
    x = mix_sounds(sound_bank("train"), 3, torch.Generator().manual_seed(0)).x
    rich = audioset_statistics.rich_statistics(x, batch_size=2)
    assert rich.shape == (3, 8 * 64)
    torch.testing.assert_close(rich[:, :128], audioset_baselines.mel_statistics(x))
    backwards = audioset_statistics.rich_statistics(x.flip(1))
    change = slice(6 * 64, 7 * 64)  # the largest rise: backwards it is the largest fall
    assert (backwards - rich)[:, change].abs().mean() > 0.1


def test_the_perceptron_learns_what_no_line_separates():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1500, 2, generator=g)
    y = (x.prod(1, keepdim=True) > 0).float().repeat(1, 2)
    parts = [(x[:1000], y[:1000]), (x[1000:1200], y[1000:1200]), (x[1200:], y[1200:])]
    assert audioset_statistics.perceptron(parts, 0)["map"] > 0.9
    assert audioset_baselines.probe(parts)["map"] < 0.65


def test_the_contest_of_statistics_at_a_tiny_size():
    table = audioset_statistics.statistics_contest((0,), (60, 40, 40))
    assert set(table) == {"mel statistics", "rich statistics", "perceptron"}
    assert all(len(results[0]["ap"]) == 12 for results in table.values())
