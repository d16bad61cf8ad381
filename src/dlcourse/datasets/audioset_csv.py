"""Clips in AudioSet's layout: lists of segments and of classes, and a folder of sound files."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset


class AudioSetClips(Dataset):
    """AudioSet's clips, from the CSV files that Google publishes and sound files of your own.

    The CSV files are ``…_segments.csv`` (lines of YTID, start, end, "/m/…,/m/…", after comments
    that begin with #) and ``class_labels_indices.csv`` (index, mid, display_name). The sounds are
    not published with them: they come from YouTube, and a part is gone by now. Segments without
    a file are left out, and counted in ``missing``.

    Args:
        segments: the list of segments.
        classes: the list of classes; its order is that of the targets.
        folder: where the sounds are.
        file: name of a sound in ``folder``; ``{ytid}``, ``{start}`` (seconds, as in the list) and
            ``{start_ms}`` are filled in.
        sample_rate: that the files must have, Hz.
        seconds: length of a clip: longer sounds are cut, shorter ones followed by silence.

    An item is ``(waveform, target)``: float32 (samples,) and float32 (classes,) of 0 and 1.

    Raises:
        FileNotFoundError: a list is missing, or no segment has a sound.
        ValueError: a line that is not in this layout, a class that the list does not have; at an
            item: a file of another rate, or an empty one.
        ModuleNotFoundError: soundfile is needed to read an item.

    Source: Gemmeke et al., "Audio Set: An ontology and human-labeled dataset for audio events",
    ICASSP 2017; https://research.google.com/audioset/download.html.
    """

    def __init__(
        self,
        segments: str | os.PathLike[str],
        classes: str | os.PathLike[str],
        folder: str | os.PathLike[str],
        *,
        file: str = "Y{ytid}.wav",
        sample_rate: int = 16000,
        seconds: float = 10.0,
    ) -> None:
        self.sample_rate, self.samples = sample_rate, round(sample_rate * seconds)
        index: dict[str, int] = {}
        names: list[str] = []
        with open(classes, newline="", encoding="utf8") as lines:
            reader = csv.DictReader(lines)
            wanted = {"index", "mid", "display_name"}
            if not wanted <= set(reader.fieldnames or ()):
                raise ValueError(f"{classes} must have the columns index, mid, display_name")
            for row in reader:
                if int(row["index"]) != len(names):
                    raise ValueError(f"{classes}: index {row['index']} where {len(names)} follows")
                index[row["mid"]] = len(names)
                names.append(row["display_name"])
        self.classes = tuple(names)
        self.paths: list[Path] = []
        self.targets = []
        self.missing: list[str] = []  # YTIDs without a file
        with open(segments, newline="", encoding="utf8") as lines:
            rows = csv.reader((x for x in lines if x[0] not in "#\r\n"), skipinitialspace=True)
            for row in rows:
                ytid, start, target = self._parse(segments, row, index)
                name = file.format(ytid=ytid, start=start, start_ms=round(1000 * float(start)))
                path = Path(folder, name)
                if path.is_file():
                    self.paths.append(path)
                    self.targets.append(target)
                else:
                    self.missing.append(ytid)
        if not self.paths:
            raise FileNotFoundError(
                f"none of {len(self.missing)} segments has a sound in {folder}; names are looked "
                f"for as {file!r}: give file= another pattern"
            )

    @staticmethod
    def _parse(where: object, row: list[str], index: dict[str, int]) -> tuple[str, str, Tensor]:
        if len(row) != 4:
            raise ValueError(f"{where}: a line must be YTID, start, end, \"labels\": got {row}")
        ytid, start, end, labels = row
        if not 0 <= float(start) < float(end) < math.inf:
            raise ValueError(f"{where}: {ytid} goes from {start} to {end} s")
        target = torch.zeros(len(index))
        for mid in labels.split(","):
            if mid not in index:
                raise ValueError(f"{where}: {ytid} has the label {mid!r}, which is no class")
            target[index[mid]] = 1
        return ytid, start, target

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        import soundfile

        path = self.paths[i]
        sound, rate = soundfile.read(path, frames=self.samples, dtype="float32", always_2d=True)
        if rate != self.sample_rate:
            raise ValueError(
                f"{path} has {rate} samples a second, not {self.sample_rate}: resample the files "
                f"(ffmpeg -i in.wav -ar {self.sample_rate} out.wav), or pass sample_rate={rate}"
            )
        if not len(sound):
            raise ValueError(f"{path} holds no samples")
        waveform = torch.zeros(self.samples)
        waveform[: len(sound)] = torch.from_numpy(sound.mean(1))  # all channels into one
        return waveform, self.targets[i]
