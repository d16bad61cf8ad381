"""206 recorded sounds, all CC0, with their classes and authors; split by source."""

from __future__ import annotations

import csv
import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np

SOUND_RATE = 16000  # samples a second
SOUND_CLASSES = (
    "kick", "snare", "hi-hat", "cymbal", "tom", "tabla",
    "bell", "bass", "ambience", "beat", "robot", "blip",
)  # fmt: skip
_FOLDER = Path(__file__).with_name("sounds")
_PARTS = ("train", "validation", "test")


class SoundBank(NamedTuple):
    """Recorded sounds of one rate, padded with zeros to the longest."""

    waveform: Tensor  # float32 (S, longest), each sound with a mean square of 0.01
    length: Tensor  # int64 (S,), in samples
    label: Tensor  # int64 (S,), an index into SOUND_CLASSES, or −1: none of them
    names: tuple[str, ...]
    authors: tuple[str, ...]

    def to(self, device: torch.device | str) -> SoundBank:
        """The same sounds with their tensors on a device."""
        moved = (t.to(device) for t in (self.waveform, self.length, self.label))
        return SoundBank(*moved, self.names, self.authors)

    def take(self, chosen: list[int]) -> SoundBank:
        """Some of the sounds, in the order asked for."""
        index = torch.tensor(chosen, dtype=torch.long, device=self.label.device)
        return SoundBank(
            self.waveform[index],
            self.length[index],
            self.label[index],
            tuple(self.names[i] for i in chosen),
            tuple(self.authors[i] for i in chosen),
        )


def sound_bank(part: str | None = None, split_seed: int = 0) -> SoundBank:
    """The recorded sounds, 16,000 samples a second, at most 2.5 s each; all, or those of one part.

    In a part are only sounds of the twelve classes. They are split by *family*: takes of one drum
    or stroke, and cuts of one piece, lie on the same side. Of each class about a fifth of the
    families go to validation and a quarter to test, one at least. (Different families may have the
    same author: all of the tabla was played by one hand.)

    Args:
        part: None (all 206 sounds), "train", "validation" or "test".
        split_seed: chooses the split.

    Raises:
        ValueError: an unknown part.
        ModuleNotFoundError: soundfile is needed to decode, and is not here; see ``save_decoded``.

    Licence: CC0 1.0, each sound; authors and origins are in ``sounds/sounds.csv``.
    """
    bank = _bank()
    if part is None:
        return bank
    if part not in _PARTS:
        raise ValueError(f"part must be None or one of {', '.join(_PARTS)}: got {part!r}")
    return bank.take(_split(split_seed)[_PARTS.index(part)])


def save_decoded(path: str | os.PathLike[str]) -> None:
    """Write all sounds, decoded, to a ``.npy`` file that needs no soundfile to read (7 MB).

    On a machine without soundfile, let the environment variable DLCOURSE_SOUNDS name that file.
    """
    import numpy as np

    path = Path(path)
    if path.suffix != ".npy":
        raise ValueError(f"the name must end in .npy: got {path.name!r}")
    partial = path.with_name(f".{path.name}")
    with open(partial, "wb") as file:
        np.save(file, _decoded())
    os.replace(partial, path)


@functools.cache
def _rows() -> list[dict[str, str]]:
    with open(_FOLDER / "sounds.csv", newline="", encoding="utf8") as file:
        return list(csv.DictReader(file))


@functools.cache
def _decoded() -> np.ndarray:
    """int16 (206, longest), zeros behind the end of each sound."""
    import numpy as np

    stored = os.environ.get("DLCOURSE_SOUNDS")
    if stored:
        return np.load(stored)
    try:
        import soundfile
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "soundfile decodes the recorded sounds: pip install soundfile. Where that can't be, "
            "call dlcourse.datasets.save_decoded(path) on another machine, copy the file, and let "
            "the environment variable DLCOURSE_SOUNDS name it"
        ) from error
    sounds = [
        soundfile.read(_FOLDER / f"{row['name']}.flac", dtype="int16")[0] for row in _rows()
    ]
    table = np.zeros((len(sounds), max(map(len, sounds))), np.int16)
    for line, sound in zip(table, sounds):
        line[: len(sound)] = sound
    return table


@functools.cache
def _bank() -> SoundBank:
    rows = _rows()
    waveform = torch.from_numpy(_decoded()).float() / 32768
    # A sound ends at its last sample that is not zero.
    steps = torch.arange(1, waveform.shape[1] + 1)
    length = ((waveform != 0) * steps).amax(1)
    power = waveform.square().sum(1) / length
    waveform = waveform * (0.1 / power.sqrt())[:, None]
    labels = [SOUND_CLASSES.index(row["label"]) if row["label"] else -1 for row in rows]
    return SoundBank(
        waveform,
        length,
        torch.tensor(labels),
        tuple(row["name"] for row in rows),
        tuple(row["author"] for row in rows),
    )


@functools.lru_cache
def _split(seed: int) -> tuple[list[int], list[int], list[int]]:
    """Indices of the sounds in each part; all sounds of a family are in one of them."""
    generator = torch.Generator().manual_seed(seed)
    rows, parts = _rows(), ([], [], [])
    for name in SOUND_CLASSES:
        members: dict[str, list[int]] = {}
        for i, row in enumerate(rows):
            if row["label"] == name:
                members.setdefault(row["family"], []).append(i)
        families = list(members.values())
        order = torch.randperm(len(families), generator=generator).tolist()
        n_test = max(1, round(len(families) / 4))
        n_validation = max(1, round(len(families) / 5))
        for place, family in enumerate(order):
            held_out = place < n_test + n_validation
            part = (2 if place < n_test else 1) if held_out else 0
            parts[part].extend(families[family])
    return tuple(sorted(part) for part in parts)
