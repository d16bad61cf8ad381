"""Answers to 121.1a.average-present."""

import torch


def wrong_nan_to_zero(audio, video, audio_missing, video_missing):
    """Zero logits count as an opinion."""
    a = torch.where(audio_missing[:, None], 0.0, audio)
    v = torch.where(video_missing[:, None], 0.0, video)
    return torch.stack([a, v]).mean(0)


def wrong_nanmean_of_values(audio, video, audio_missing, video_missing):
    """Only NaN is left out, not what the masks name."""
    return torch.stack([audio, video]).nanmean(0)


def wrong_count_over_the_batch(audio, video, audio_missing, video_missing):
    a = audio.masked_fill(audio_missing[:, None], 0)
    v = video.masked_fill(video_missing[:, None], 0)
    return (a + v) / (2 - audio_missing.double().mean() - video_missing.double().mean())


def wrong_prefers_audio(audio, video, audio_missing, video_missing):
    return torch.where(audio_missing[:, None], video, audio)


def wrong_largest(audio, video, audio_missing, video_missing):
    a = audio.masked_fill(audio_missing[:, None], -torch.inf)
    return torch.maximum(a, video.masked_fill(video_missing[:, None], -torch.inf))


def wrong_detached(audio, video, audio_missing, video_missing):
    return right_by_cases(audio.detach(), video, audio_missing, video_missing)


def right_by_cases(audio, video, audio_missing, video_missing):
    one = torch.where(audio_missing[:, None], video, audio)
    return torch.where((audio_missing | video_missing)[:, None], one, (audio + video) / 2)


def right_row_by_row(audio, video, audio_missing, video_missing):
    rows = []
    for a, v, no_a, no_v in zip(audio, video, audio_missing, video_missing, strict=True):
        there = [x for x, gone in ((a, no_a), (v, no_v)) if not gone]
        rows.append(sum(there) / len(there))
    return torch.stack(rows)


def wrong_nan_out_then_times_the_mask(audio, video, audio_missing, video_missing):
    """Infinity times 0 is NaN."""
    a, v = (torch.where(x.isnan(), 0.0, x) for x in (audio, video))
    p, q = (~m[:, None] for m in (audio_missing, video_missing))
    return (a * p + v * q) / (p.to(a) + q.to(a))


def wrong_hides_an_error(audio, video, audio_missing, video_missing):
    """NaN in a stream that is there becomes a 0 that nobody notices."""
    a, v = audio.nan_to_num(0.0, 0.0, 0.0), video.nan_to_num(0.0, 0.0, 0.0)
    return right_by_cases(a, v, audio_missing, video_missing)


def right_the_other_stream_in_its_place(audio, video, audio_missing, video_missing):
    a = torch.where(audio_missing[:, None], video, audio)
    return (a + torch.where(video_missing[:, None], audio, video)) / 2
