"""121.1a: average the logits of those streams that are there."""

import torch

from dlcourse.exercises import Exercise, Mistake


def average_present(audio, video, audio_missing, video_missing):
    """Return the mean logits over the streams that are there, (B, C).

    audio, video: logits of the two streams, (B, C);
    audio_missing, video_missing: bool (B,). At least one of both is there.
    """
    audio = audio.masked_fill(audio_missing[:, None], 0.0)
    video = video.masked_fill(video_missing[:, None], 0.0)
    there = 2 - audio_missing.to(audio.dtype) - video_missing.to(audio.dtype)  # (B,)
    return (audio + video) / there[:, None]


def cases(rng):
    """Some examples lack the audio, some the video, and a missing stream holds any numbers."""
    b, c = (int(n) for n in rng.integers((4, 2), (9, 6)))
    which = torch.from_numpy(rng.integers(0, 3, b))
    which[:3] = torch.tensor([0, 1, 2])
    return {
        "audio": torch.from_numpy(rng.standard_normal((b, c))) * 3,
        "video": torch.from_numpy(rng.standard_normal((b, c))) * 3,
        "audio_missing": which == 1,
        "video_missing": which == 2,
    }


def edges():
    """NaN or infinity in a missing stream, NaN in one that is there, a stream missing for all."""
    audio = torch.tensor([[2.0, -1.0], [4.0, 0.5]], dtype=torch.float64)
    video = torch.tensor([[-6.0, 3.0], [1.0, 2.5]], dtype=torch.float64)
    no, yes = torch.tensor([False, False]), torch.tensor([True, True])
    nan = audio.clone()
    nan[1] = torch.nan
    inf = video.clone()
    inf[0] = torch.tensor([torch.inf, -torch.inf])
    usual = {"audio": audio, "video": video, "audio_missing": no, "video_missing": no}
    return {
        "nothing is missing": usual,
        "no sound at all": {**usual, "audio_missing": yes},
        "no pictures at all": {**usual, "video_missing": yes},
        "a missing stream is NaN": {
            **usual, "audio": nan, "audio_missing": torch.tensor([False, True])
        },
        "a missing stream is infinite": {
            **usual, "video": inf, "video_missing": torch.tensor([True, False])
        },
        "a stream that is there is NaN": {**usual, "audio": nan},
        "one example": {k: v[:1] for k, v in usual.items()},
    }  # fmt: skip


def listing(audio, video, audio_missing, video_missing):
    """The document's model has no idea of a missing stream: both always count."""
    return (audio + video) / 2


def halved(audio, video, audio_missing, video_missing):
    audio = audio.masked_fill(audio_missing[:, None], 0.0)
    return (audio + video.masked_fill(video_missing[:, None], 0.0)) / 2


def summed(audio, video, audio_missing, video_missing):
    audio = audio.masked_fill(audio_missing[:, None], 0.0)
    return audio + video.masked_fill(video_missing[:, None], 0.0)


def multiplied(audio, video, audio_missing, video_missing):
    a, v = (~audio_missing)[:, None].to(audio.dtype), (~video_missing)[:, None].to(audio.dtype)
    return (a * audio + v * video) / (a + v)


def turned(audio, video, audio_missing, video_missing):
    return average_present(audio, video, video_missing, audio_missing)


def by_probability(audio, video, audio_missing, video_missing):
    return average_present(
        audio.sigmoid(), video.sigmoid(), audio_missing, video_missing
    ).logit()


EXERCISE = Exercise(
    key="121.1a.average-present",
    title="Average what is there",
    difficulty="implement",
    statement=r"""
Each stream has a classifier of its own, and the model's logits are the mean over those streams that
are there. Write the mean for a batch in which some examples lack the sound and some the pictures.
Whatever a missing stream holds must not count, NaN and infinity included: a broken microphone may
give them. NaN in a stream that is there is an error, and must stay visible in the result. The
result must train the classifiers of the streams that are there.
""",
    imports="import torch",
    reference=average_present,
    cases=cases,
    edges=edges,
    differentiable=("audio", "video"),
    hints=[
        "For each example count the streams that are there, and divide their sum by the count.",
        "0 · NaN is NaN: choose with `torch.where` or `masked_fill`, do not multiply by a mask.",
        "The masks are (B,), the logits (B, C): `mask[:, None]` lets them broadcast.",
    ],
    mistakes={
        "listing": Mistake(
            answer=listing,
            hint="a missing stream counts like any other. The document's listing knows of none.",
        ),
        "halved": Mistake(
            answer=halved,
            hint="the sum is always divided by 2: with one stream missing all logits are halved.",
        ),
        "summed": Mistake(
            answer=summed,
            hint="the logits are added, not averaged: with both streams they are twice as large.",
        ),
        "multiplied": Mistake(
            answer=multiplied,
            hint="a missing stream is multiplied by 0, and 0 · NaN is NaN. Choose in place of "
            "multiplying.",
        ),
        "turned": Mistake(
            answer=turned, hint="the masks are exchanged or turned round: True means missing."
        ),
        "by_probability": Mistake(
            answer=by_probability,
            hint="the probabilities are averaged. Average the logits.",
        ),
    },
)
