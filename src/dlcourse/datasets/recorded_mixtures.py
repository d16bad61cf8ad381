"""Clips with several labels: recorded sounds, mixed at random gains and offsets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dlcourse.datasets.sound_files import SOUND_CLASSES, SOUND_RATE, SoundBank, sound_bank
from dlcourse.datasets.splits import Split, Splits

_CHUNK = 512  # clips that are mixed at once: 2 × 65 MB for clips of one second


def mix_sounds(
    bank: SoundBank,
    n: int,
    generator: torch.Generator,
    *,
    seconds: float = 1.0,
    at_most: int = 4,
    quietest_db: float = -15.0,
    noise_db: float = -40.0,
    class_weights: Sequence[float] | None = None,
) -> Split:
    """Mix ``n`` clips from 1 … ``at_most`` sounds each; on the generator's device.

    For each sound a class is drawn first, then one of its sounds in the bank. A sound that fits
    into the clip lies wholly in it, at a random place; of a longer one a random piece fills the
    clip. Its level is uniform in ``quietest_db`` … 0 dB, in dB of the level of the bank. White
    noise lies below all of it.

    Args:
        bank: the sounds; those without a class are left out. On any device.
        n: clips, at least 1.
        generator: chooses everything. Clips are the same on every machine for a generator of the
            CPU; a GPU's own generator is faster, for clips that need not be made again.
        seconds: length of a clip.
        at_most: sounds in a clip, at most; how many is uniform.
        quietest_db: level of the quietest sounds, dB.
        noise_db: level of the noise, dB.
        class_weights: how often each class is drawn, in any unit; None: all alike.

    Returns:
        ``x``: float32 (n, samples), and ``y``: float32 (n, classes) of 0 and 1.

    Raises:
        ValueError: a size out of range, or a class that is asked for and has no sound.
    """
    samples = round(seconds * SOUND_RATE)
    if n < 1 or samples < 1 or at_most < 1:
        raise ValueError(
            f"need n, at_most >= 1 and a clip of one sample: got {n}, {at_most}, {seconds} s"
        )
    device = generator.device
    bank = bank.to(device)
    counts = torch.bincount(bank.label[bank.label >= 0], minlength=len(SOUND_CLASSES))
    weights = torch.ones(len(SOUND_CLASSES)) if class_weights is None else torch.tensor(
        class_weights, dtype=torch.float32
    )  # fmt: skip
    weights = weights.to(device)
    if weights.shape != counts.shape or not (weights >= 0).all() or not weights.sum() > 0:
        raise ValueError(f"class_weights must be {len(counts)} numbers >= 0, not all 0")
    if ((weights > 0) & (counts == 0)).any():
        missing = [SOUND_CLASSES[i] for i in ((weights > 0) & (counts == 0)).nonzero().flatten()]
        raise ValueError(f"the bank has no sound of: {', '.join(missing)}; give them weight 0")
    # Sounds in order of their class: those of class c are order[first[c] : first[c] + counts[c]].
    order = bank.label.argsort(stable=True)[(bank.label < 0).sum() :]
    first = counts.cumsum(0) - counts

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    how_many = torch.randint(1, at_most + 1, (n, 1), generator=generator, device=device)
    present = torch.arange(at_most, device=device) < how_many  # (n, at_most)
    classes = torch.multinomial(
        weights.expand(n, -1), at_most, replacement=True, generator=generator
    )  # (n, at_most)
    pick = (uniform(n, at_most) * counts[classes]).long().minimum(counts[classes] - 1)
    sound = order[first[classes] + pick]  # (n, at_most)
    # The clip starts `start` samples after the sound does; below 0: before it.
    slack = bank.length[sound] - samples  # > 0: the sound is longer than the clip
    start = (uniform(n, at_most) * (slack.abs() + 1)).long().minimum(slack.abs()) * slack.sign()
    gain = 10 ** (uniform(n, at_most) * quietest_db / 20) * present

    parts = [
        _mix(bank, sound[i : i + _CHUNK], start[i : i + _CHUNK], gain[i : i + _CHUNK], samples)
        for i in range(0, n, _CHUNK)
    ]
    noise = torch.randn(n, samples, generator=generator, device=device)
    x = torch.cat(parts) + 0.1 * 10 ** (noise_db / 20) * noise
    y = torch.zeros(n, len(SOUND_CLASSES), device=device)
    y.scatter_reduce_(1, classes, present.float(), "amax")
    return Split(x, y)


def _mix(bank: SoundBank, sound: Tensor, start: Tensor, gain: Tensor, samples: int) -> Tensor:
    """Σ gain · sound[start : start + samples], for (B, K) sounds: (B, samples)."""
    time = torch.arange(samples, device=sound.device)
    mixed = torch.zeros(len(sound), samples, device=sound.device)
    last = bank.waveform.shape[1] - 1
    for k in range(sound.shape[1]):
        at = start[:, k, None] + time  # (B, samples)
        inside = (at >= 0) & (at < bank.length[sound[:, k], None])
        flat = sound[:, k, None] * (last + 1) + at.clamp(0, last)
        mixed += gain[:, k, None] * bank.waveform.view(-1)[flat] * inside
    return mixed


def recorded_sounds(
    seed: int = 0,
    *,
    n_train: int = 2000,
    n_validation: int = 500,
    n_test: int = 1000,
    seconds: float = 1.0,
    at_most: int = 4,
    class_weights: Sequence[float] | None = None,
    split_seed: int | None = None,
    device: torch.device | str = "cpu",
) -> Splits:
    """Clips mixed from recorded sounds, with several of twelve labels each; split by source.

    No sound of a training clip, nor another take of it, is in a clip of validation or test. The
    arguments that are not explained here are those of ``mix_sounds``.

    Args:
        seed: chooses the clips; each part has a stream of its own.
        n_train, n_validation, n_test: clips in each part.
        class_weights: how often each class is drawn for *training* clips; in validation and test
            all classes are drawn alike.
        split_seed: chooses which sounds are in which part; None: as ``seed``.
        device: where to leave the clips; they are made on the CPU, so they are the same everywhere.

    Returns:
        ``Splits`` of ``x``: float32 (N, samples) at 16,000 samples a second, and ``y``: float32
        (N, 12), 1 where the class of SOUND_CLASSES is in the clip.

    Raises:
        ValueError: a size out of range.
        ModuleNotFoundError: soundfile is missing (the message says what helps).
    """
    split_seed = seed if split_seed is None else split_seed
    parts = []
    for part, n in (("train", n_train), ("validation", n_validation), ("test", n_test)):
        generator = torch.Generator().manual_seed(3 * seed + len(parts))
        made = mix_sounds(
            sound_bank(part, split_seed), n, generator, seconds=seconds, at_most=at_most,
            class_weights=class_weights if part == "train" else None,
        )  # fmt: skip
        parts.append(Split(made.x.to(device), made.y.to(device)))
    return Splits(*parts)
