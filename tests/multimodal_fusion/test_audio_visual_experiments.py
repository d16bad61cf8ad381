"""What the recorded cells of 121.1a run: scores that are right, and the whole at a tiny size."""

import pytest
import torch
from sklearn.metrics import average_precision_score

from dlcourse.multimodal_fusion import AudioVisualModel, CrossAttentionFusion
from dlcourse.multimodal_fusion.experiments import audio_visual_runs as runs
from dlcourse.multimodal_fusion.experiments import audio_visual_training as training
from dlcourse.multimodal_fusion.experiments.audio_visual_aligned import (
    aligned_contest,
    aligned_moments,
    train_aligned,
)
from dlcourse.multimodal_fusion.experiments.audio_visual_data import make_clips
from dlcourse.multimodal_fusion.experiments.audio_visual_plateau import draw_keys, plateau
from dlcourse.multimodal_fusion.experiments.audio_visual_scores import (
    attention_on_own_event,
    break_ties,
    linear_on_means,
    mean_precision,
)


def test_mean_precision_is_scikit_learns_ties_included():
    generator = torch.Generator().manual_seed(0)
    for levels in (3, 1000):
        scores = torch.randint(levels, (200, 5), generator=generator).float()
        targets = (torch.rand(200, 5, generator=generator) < 0.3).float()
        expected = average_precision_score(targets, scores, average="macro")
        assert mean_precision(scores, targets) == pytest.approx(expected, abs=1e-12)


def test_ties_counted_together_seem_worse_than_in_a_random_order():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(3, (4000, 4), generator=generator).float()
    targets = (torch.rand(4000, 4, generator=generator) < (scores + 1) / 4).float()
    together = mean_precision(scores, targets)
    orders = [mean_precision(break_ties(scores, seed), targets) for seed in range(4)]
    assert together < min(orders) and max(orders) - min(orders) < 0.02
    assert torch.equal(break_ties(scores).round(decimals=3), scores.double())
    assert mean_precision(break_ties(scores.double() * 1e3), targets) == orders[0]


def test_clips_of_a_seed_have_the_same_events_at_any_noise_and_lag():
    plain, noisy = make_clips(5, 3, "cpu"), make_clips(5, 3, "cpu", audio_noise=1.0, lag=0.1)
    assert torch.equal(plain.target, noisy.target)
    assert all(torch.equal(a, b) for a, b in zip(plain.factors, noisy.factors, strict=True))
    assert not torch.equal(plain.mel, noisy.mel)
    assert plain.mel.shape == (5, 32, 65) and plain.frames.shape == (5, 16, 16, 16)


def test_the_linear_baseline_beats_a_constant_on_clips_that_it_has_seen():
    clips = make_clips(300, 0, "cpu")
    assert mean_precision(linear_on_means(clips, clips, steps=20), clips.target) > 0.3


def test_the_rate_rises_then_falls_to_zero():
    rates = [training.rate_at(k, 100, 0.5) for k in range(100)]
    assert rates[0] == 0.1 and max(rates) == rates[4] == 0.5 and rates[-1] < 0.001


def test_equal_seeds_give_equal_models_and_a_training_lowers_the_loss():
    clips = make_clips(64, 0, "cpu")
    job = training.Job("cross", 0, 3e-3)
    settings = dict(steps=12, batch_size=32, dim=16)
    first, again = (training.train([job], clips, **settings)[0] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters()))

    def loss(model):
        logits = training.logits_of(model, clips.mel, clips.frames, chunk=20)
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, clips.target)

    assert loss(first) < loss(training.make_model(job, 16)) - 0.1


def test_attention_that_looks_at_its_own_time_has_all_of_its_weight_there():
    clips = make_clips(60, 1, "cpu")

    class Diagonal(CrossAttentionFusion):
        def attention_maps(self, audio, video, *padding):
            ta, tv = audio.shape[1], video.shape[1]
            same = (torch.arange(ta - 1)[:, None] // 2 == torch.arange(tv - 1)).float()
            weights = torch.zeros(len(audio), 1, ta, tv)
            weights[..., 1:, 1:] = same
            return [(weights, weights.transpose(-1, -2))]

    model = training.make_model(training.Job("cross", 0, 1e-3), 16)
    model = AudioVisualModel(*model.encoders.values(), 16, 4, 16, fusion=Diagonal(16, 4))
    own, even = attention_on_own_event(model, clips)
    assert own == 1 and 0.3 < even < 0.6


def test_the_contest_at_a_tiny_size_has_all_that_the_page_reads(monkeypatch):
    monkeypatch.setattr(runs, "AUDIO_NOISE", (0.05, 0.4))
    monkeypatch.setattr(runs, "LAGS", (0.1,))
    result = runs.contest(
        "cpu", seeds=(0, 1), rates=(1e-3, 3e-3), steps=2, tuning_steps=1, limit=None, batch_size=8,
        n_train=32, n_test=48, dim=16,
    )
    assert result["settings"]["steps"] == 2 and set(result["rate"].values()) <= {1e-3, 3e-3}
    assert set(result["test"]) == {"audio", "video", "late", "bottleneck", "cross", "joint"}
    assert all(len(row["mAP"]) == len(row["binding"]) == 2 for row in result["test"].values())
    assert result["baselines"]["both known, no times"]["binding"] == 0.5
    assert result["baselines"]["constant"]["mAP"] < result["baselines"]["all sounds known"]["mAP"]
    assert set(result["missing, dropout"]["cross"]) == {"both", "audio", "video"}
    assert len(result["noise"]) == len(runs.AUDIO_NOISE) and len(result["lag"]) == len(runs.LAGS)
    assert len(result["shown"]["maps"][0][0]) == 32 and len(result["shown"]["maps"][0][1]) == 16
    assert len(result["shown"]["predictions"]["0.05"]["sound"]) == 16


def test_a_limit_of_time_shortens_all_trainings_alike_and_the_result_says_so(monkeypatch):
    taken = []

    def train(jobs, data, *, steps, batch_size, dim):
        taken.append(steps)
        return [training.make_model(job, dim).eval() for job in jobs]

    monkeypatch.setattr(runs, "train", train)
    monkeypatch.setattr(runs, "evaluate", lambda *_: {})
    sizes = dict(seeds=(0, 1), rates=(1e-3,), tuning_steps=7, batch_size=8, dim=16)
    result = runs.contest("cpu", limit=0.0, n_train=32, n_test=48, **sizes)
    assert set(taken) == {7} and result["settings"]["steps"] == 7
    result = runs.contest("cpu", limit=1e6, n_train=32, n_test=48, **sizes)
    assert set(taken[len(taken) // 2 + 6 :]) == {2500} and result["settings"]["steps"] == 2500


def test_the_plateau_compares_two_starts_that_differ_in_the_keys_alone():
    result = plateau(steps=2, every=1, batch_size=8, n_train=32, n_test=60, dim=16)
    assert result["steps"] == [1, 2] and 0.5 < result["ceiling"] < 1
    assert len(result["equal"]["binding"]) == len(result["independent"]["mAP"]) == 2
    job = training.Job("cross", 0, 1e-3)
    equal, other = training.make_model(job, 16), training.make_model(job, 16)
    draw_keys(other, 0)
    unlike = {
        name.rsplit(".", 2)[1]
        for (name, p), q in zip(equal.named_parameters(), other.parameters(), strict=True)
        if not torch.equal(p, q)
    }
    assert unlike == {"key"}


def test_a_moment_holds_a_picture_and_the_spectra_of_its_time():
    clips = make_clips(2, 5, "cpu")
    moments = aligned_moments(clips)
    assert moments.shape == (2, 16, 4 * 32 + 256)
    for k in (0, 7, 15):
        torch.testing.assert_close(
            moments[:, k, :128], clips.mel[:, :, 4 * k : 4 * k + 4].flatten(1)
        )
        torch.testing.assert_close(moments[:, k, 128:], clips.frames[:, k].flatten(1))
    off = aligned_moments(clips, 4)
    torch.testing.assert_close(off[:, 4:, :128], moments[:, :-4, :128])
    torch.testing.assert_close(off[..., 128:], moments[..., 128:])


def test_moments_side_by_side_are_learned_by_heart_and_the_contest_has_both_rows():
    clips = make_clips(24, 6, "cpu", audio_noise=0.02, video_noise=0.0)
    moments = aligned_moments(clips)
    net = train_aligned(moments, clips.target, seed=0, steps=250, batch_size=24)
    with torch.no_grad():
        assert mean_precision(net(moments).logsumexp(1), clips.target) > 0.9
    rows = aligned_contest((0, 1), steps=2, n_train=16, n_test=200)
    assert {name: len(found) for name, found in rows.items()} == {"in step": 2, "a quarter off": 1}
