"""Section 121.1a: fusion without attention: what is heard and seen at one time, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from dlcourse.multimodal_fusion.experiments.audio_visual_data import (
    TEST_SEED,
    TRAIN_SEED,
    Clips,
    make_clips,
)
from dlcourse.multimodal_fusion.experiments.audio_visual_scores import score

PICTURES_A_CLIP, SPECTRA_A_PICTURE = 16, 4


def aligned_moments(clips: Clips, shift: int = 0) -> Tensor:
    """Each picture beside the four spectra of its time: (N, 16, 4 · 32 + 256).

    ``shift`` moves the sound against the pictures, round the clip, by so many pictures.
    """
    mel = clips.mel[:, :, : PICTURES_A_CLIP * SPECTRA_A_PICTURE]  # (N, 32, 64)
    heard = mel.unflatten(2, (PICTURES_A_CLIP, SPECTRA_A_PICTURE)).permute(0, 2, 1, 3).flatten(2)
    return torch.cat([heard.roll(shift, 1), clips.frames.flatten(2)], 2)


def train_aligned(x: Tensor, y: Tensor, seed: int, steps: int, batch_size: int = 128) -> nn.Module:
    """A perceptron that looks at one moment, (N, 16, D) -> (N, 16, 16); a clip's logit of a pair is
    the log-sum-exp over its moments."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Linear(x.shape[2], 256), nn.GELU(), nn.Linear(256, 128), nn.GELU(),
            nn.Linear(128, y.shape[1]),
        )  # fmt: skip
        optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
        for _ in range(steps):
            chosen = torch.randint(len(x), (batch_size,))
            optimizer.zero_grad()
            logits = net(x[chosen]).logsumexp(1)
            binary_cross_entropy_with_logits(logits, y[chosen]).backward()
            optimizer.step()
            schedule.step()
    return net


def aligned_contest(
    seeds: Sequence[int] = (0, 1, 2), *, steps: int = 500, n_train: int = 8000, n_test: int = 2000
) -> dict[str, list[dict[str, float]]]:
    """Scores with the streams in step, one a seed, and for the first seed with the sound a quarter
    of a second off, in training and test alike."""
    train, test = (make_clips(n, seed, "cpu") for n, seed in ((n_train, TRAIN_SEED), (n_test, TEST_SEED)))
    rows: dict[str, list[dict[str, float]]] = {}
    for name, shift, chosen in (("in step", 0, seeds), ("a quarter off", 4, seeds[:1])):
        x, z = aligned_moments(train, shift), aligned_moments(test, shift)
        for seed in chosen:
            net = train_aligned(x, train.target, seed, steps)
            with torch.no_grad():
                rows.setdefault(name, []).append(score(net(z).logsumexp(1), test))
    return rows
