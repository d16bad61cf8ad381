"""What the recorded cells of 121.1a run: scores that are right, and the whole at a tiny size."""

import pytest
import torch
from sklearn.metrics import average_precision_score

from dlcourse.multimodal_fusion import AudioVisualModel, CrossAttentionFusion
from dlcourse.multimodal_fusion.experiments import audio_visual_runs as runs
from dlcourse.multimodal_fusion.experiments import audio_visual_stacks as stacks
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


@pytest.mark.parametrize("name", list(training.CONTESTANTS))
def test_each_model_of_a_stack_has_the_gradient_that_it_has_alone(name):
    clips = make_clips(16, 0, "cpu")
    seeds, chosen = (0, 1), torch.arange(16).view(2, 8)
    stack = stacks.Stack(name, (1e-3, 4e-3), seeds, clips, batch_size=8, dim=16)
    for _ in range(2):  # rates are 0: a step before must change nothing
        losses = stack._step(chosen)
    assert losses.shape == (4,)
    for k, seed in enumerate(seeds):
        alone, own = training.make_model(training.Job(name, seed, 0.0), 16), chosen[k]
        logits = alone(*training.seen_by(name, clips.mel[own], clips.frames[own]))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, clips.target[own])
        loss.backward()
        assert losses[k].item() == losses[2 + k].item() == pytest.approx(loss.item(), abs=1e-6)
        for key, p in alone.named_parameters():
            expected = torch.zeros_like(p) if p.grad is None else p.grad
            for weights in stack.weights:
                found = weights[key].grad
                found = torch.zeros_like(p) if found is None else found[k]
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_a_stack_trains_each_rate_by_itself_and_lowers_the_loss():
    clips = make_clips(32, 0, "cpu")
    options = dict(batch_size=32, dim=16)

    def trained(rates):
        return stacks.Stack("cross", rates, (0, 1), clips, **options).train(12)

    both, one = trained((1e-4, 4e-3)), trained((4e-3,))
    for a, b in zip(both[4e-3], one[4e-3], strict=True):
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4)

    def loss(model):
        logits = training.logits_of(model, clips.mel, clips.frames)
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, clips.target)

    assert loss(both[4e-3][0]) < loss(both[1e-4][0]) - 0.05
    assert not both[4e-3][0].training


def test_modality_dropout_takes_other_examples_of_each_model():
    clips = make_clips(16, 0, "cpu")
    chosen = torch.arange(16).repeat(2, 1)

    def losses(dropout):
        torch.manual_seed(0)
        stack = stacks.Stack(
            "late", (1e-3,), (3, 3), clips, batch_size=16, dim=16, dropout=dropout
        )
        return stack._step(chosen)

    assert losses(0.0)[0] == losses(0.0)[1] and losses(0.5)[0] != losses(0.5)[1]


def test_the_rate_of_a_stack_is_held_and_then_falls_to_zero():
    parts = [stacks.rate_part(k, 100) for k in range(100)]
    assert parts[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert set(parts[4:71]) == {1.0} and parts[70:] == sorted(parts[70:], reverse=True)
    assert 0 < parts[-1] < 0.05


TINY = dict(seeds=(0, 1), rates=(1e-3, 3e-3), batch_size=8, n_train=32, n_test=120, dim=16)


def test_the_contest_at_a_tiny_size_has_all_that_the_page_reads(monkeypatch):
    monkeypatch.setattr(runs, "AUDIO_NOISE", (0.05, 0.4))
    monkeypatch.setattr(runs, "LAGS", (0.1,))
    result = runs.contest("cpu", steps=2, limit=None, **TINY)
    assert result["settings"]["steps"] == 2 and set(result["rate"].values()) <= {1e-3, 3e-3}
    assert set(result["test"]) == {"audio", "video", "late", "bottleneck", "cross", "joint"}
    assert all(len(row["mAP"]) == len(row["binding"]) == 2 for row in result["test"].values())
    for name, rate in result["rate"].items():
        means = {r: sum(row["mAP"]) / 2 for r, row in result["tuning"][name].items()}
        assert means[f"{rate:g}"] == max(means.values()) and len(means) == 2
    assert result["baselines"]["both known, no times"]["binding"] == 0.5
    assert result["baselines"]["constant"]["mAP"] < result["baselines"]["all sounds known"]["mAP"]
    assert len(result["noise"]) == len(runs.AUDIO_NOISE) and len(result["lag"]) == len(runs.LAGS)
    assert len(result["shown"]["maps"][0][0]) == 32 and len(result["shown"]["maps"][0][1]) == 16
    assert len(result["shown"]["predictions"]["0.05"]["sound"]) == 16


def test_the_contest_with_modality_dropout_has_its_two_contestants(monkeypatch):
    monkeypatch.setattr(runs, "AUDIO_NOISE", (0.05,))
    monkeypatch.setattr(runs, "LAGS", (0.1,))
    result = runs.contest("cpu", runs.ROBUST, dropout=0.5, steps=2, limit=None, **TINY)
    assert set(result["test"]) == set(result["tuning"]) == {"late", "cross"}
    assert set(result["missing"]["cross"]) == {"both", "audio", "video"}
    assert result["settings"]["dropout"] == 0.5


def test_a_limit_of_time_shortens_all_trainings_alike_or_refuses():
    cost = {"late": 0.01, "cross": 0.03}
    assert runs.steps_within(1000.0, cost, 3000, 1500) == 3000
    assert runs.steps_within(81.0, cost, 3000, 1500) == 2000
    with pytest.raises(RuntimeError, match=r"fit 1450 steps.*needs 1500.*cross 30\.0"):
        runs.steps_within(59.9, cost, 3000, 1500)
    with pytest.raises(RuntimeError, match="binding needs"):
        runs.contest("cpu", ("late",), limit=0.0, **TINY)


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
