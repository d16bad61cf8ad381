"""Facts about the event clips: what is heard and seen happens when, and as, the factors say."""

import pytest
import torch

from dlcourse.datasets import (
    PICTURES,
    SOUNDS,
    EventFactors,
    event_clips,
    event_factors,
    pair_targets,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def one_event(sound="hum", picture="ring", onset=0.25, duration=0.25):
    """Factors of one clip with a single event."""
    f = event_factors(1, generator())
    changes = {
        "sound": SOUNDS.index(sound), "picture": PICTURES.index(picture), "onset": onset,
        "duration": duration, "pitch": 0.5, "x": 0.5, "y": 0.5, "radius": 0.3,
    }  # fmt: skip
    f = f._replace(present=torch.tensor([[True, False, False]]))
    return f._replace(**{k: torch.full_like(getattr(f, k), v) for k, v in changes.items()})


def test_a_seed_gives_the_same_clips_and_another_seed_others():
    first, again, other = (event_clips(4, generator(s), audio_noise=0.1) for s in (0, 0, 1))
    assert torch.equal(first.waveform, again.waveform) and torch.equal(first.frames, again.frames)
    assert not torch.equal(first.waveform, other.waveform)
    assert first.waveform.shape == (4, 8000) and first.frames.shape == (4, 16, 16, 16)


def test_events_come_in_order_do_not_overlap_and_lie_in_the_clip():
    f = event_factors(2000, generator())
    start, end = f.onset, f.onset + f.duration
    later = f.present[:, 1:]
    assert (start[:, 1:] > end[:, :-1])[later].all()
    assert (start[f.present] >= 0).all() and (end[f.present] <= 1).all()
    assert set(f.present.sum(1).tolist()) == {1, 2, 3}
    assert (f.present[:, 1:] <= f.present[:, :-1]).all()


def test_pairs_are_equally_likely_and_their_share_is_near_an_eighth():
    target = pair_targets(event_factors(20_000, generator()))
    # 1 − E[(15/16)^n] over n = 1, 2, 3
    share = 1 - sum((15 / 16) ** n for n in (1, 2, 3)) / 3
    assert torch.allclose(target.mean(0), torch.tensor(share), atol=0.01)


def test_the_target_names_the_pairs_that_occur_and_no_others():
    f = event_factors(50, generator())
    target = pair_targets(f)
    for row in range(50):
        n = int(f.present[row].sum())
        pairs = {4 * int(f.sound[row, e]) + int(f.picture[row, e]) for e in range(n)}
        assert set(target[row].nonzero()[:, 0].tolist()) == pairs


@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("picture", PICTURES)
def test_sound_and_picture_are_there_while_the_event_lasts_and_at_no_other_time(sound, picture):
    clip = event_clips(1, generator(), factors=one_event(sound, picture))
    heard = clip.waveform[0].view(16, 500).abs().amax(1) > 0.02
    seen = clip.frames[0].flatten(1).amax(1) > 0.5
    expected = torch.arange(16).ge(4) & torch.arange(16).lt(8)  # 0.25 … 0.5 s of sixteenths
    assert torch.equal(heard, expected) and torch.equal(seen, expected)
    assert clip.target[0].argmax() == 4 * SOUNDS.index(sound) + PICTURES.index(picture)


def mean_frequency(sound, start, stop):
    """Of the spectrum between two times, Hz; the event lasts from 0.25 to 0.5 s."""
    wave = event_clips(1, generator(), factors=one_event(sound)).waveform[0]
    part = wave[round(8000 * start) : round(8000 * stop)]
    power = torch.fft.rfft(part).abs().square()
    return (power * torch.fft.rfftfreq(len(part), 1 / 8000)).sum() / power.sum()


def test_the_sounds_are_low_rising_falling_and_high():
    assert mean_frequency("hum", 0.25, 0.5) < 500
    assert mean_frequency("rise", 0.25, 0.37) + 500 < mean_frequency("rise", 0.38, 0.5)
    assert mean_frequency("fall", 0.25, 0.37) - 500 > mean_frequency("fall", 0.38, 0.5)
    assert mean_frequency("hiss", 0.25, 0.5) > 2000


def test_a_lag_delays_the_pictures_and_leaves_sound_and_target():
    f = one_event()
    clip, late = (event_clips(1, generator(), factors=f, lag=lag) for lag in (0.0, 0.125))
    assert torch.equal(late.frames[0, 2:], clip.frames[0, :-2])
    assert torch.equal(late.waveform, clip.waveform) and torch.equal(late.target, clip.target)


def test_noise_has_the_standard_deviation_asked_for_in_each_clip():
    f = event_factors(3, generator())
    level = torch.tensor([0.0, 0.1, 1.0])
    plain = event_clips(3, generator(1), factors=f)
    noisy = event_clips(3, generator(1), factors=f, audio_noise=level, video_noise=0.5)
    assert torch.allclose((noisy.waveform - plain.waveform).std(1), level, rtol=0.05)
    assert (noisy.frames - plain.frames).std().item() == pytest.approx(0.5, rel=0.05)


def test_the_longest_clips_need_no_loop_over_them():
    clips = event_clips(300, generator(), seconds=2.0, sample_rate=6000, frame_rate=8, size=8)
    assert clips.waveform.shape == (300, 12000) and clips.frames.shape == (300, 16, 8, 8)
    assert clips.waveform.isfinite().all() and clips.waveform.abs().max() < 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n >= 1"),
        ({"n": 2, "seconds": 0.5}, "three events"),
        ({"n": 2, "sample_rate": 4000}, "sample_rate >= 6000"),
        ({"n": 2, "size": 4}, "size >= 8"),
        ({"n": 2, "audio_noise": -1.0}, "audio_noise"),
        ({"n": 2, "video_noise": torch.ones(3)}, "video_noise"),
        ({"n": 2, "factors": "three"}, "3 clips in factors"),
    ],
)
def test_bad_arguments_are_refused_in_words(arguments, message):
    if arguments.get("factors") == "three":
        arguments = {**arguments, "factors": event_factors(3, generator())}
    with pytest.raises(ValueError, match=message):
        event_clips(arguments.pop("n"), generator(), **arguments)


def test_factors_are_named_tuples_of_one_shape():
    f = event_factors(7, generator())
    assert isinstance(f, EventFactors) and {tuple(v.shape) for v in f} == {(7, 3)}
