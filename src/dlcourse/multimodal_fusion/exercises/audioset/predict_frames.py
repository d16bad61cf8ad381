"""121.1b: predict how many frames the convolutions of wav2vec 2.0 give."""

import torch
from torch import nn

from dlcourse.exercises import Mistake, Prediction


def frames_of_ten_seconds(samples=160_000):
    """Count the frames that seven strided convolutions make of ten seconds at 16 kHz."""
    kernels, strides = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
    x = torch.zeros(1, 1, samples)
    for kernel, stride in zip(kernels, strides):
        x = nn.Conv1d(1, 1, kernel, stride)(x)  # no padding
    return x.shape[2]


EXERCISE = Prediction(
    key="121.1b.predict-frames",
    title="How many frames?",
    statement=r"""
A clip of AudioSet lasts ten seconds: 160,000 samples. The seven convolutions of wav2vec 2.0 have
the kernels 10, 3, 3, 3, 3, 2, 2 and the strides 5, 2, 2, 2, 2, 2, 2, and no padding. One second
gave 49 frames. How many frames do ten seconds give, exactly? Write your prediction down before you
run anything.
""",
    imports="import torch\nfrom torch import nn",
    experiment=frames_of_ten_seconds,
    rtol=5e-4,
    discussion=r"""
The strides multiply to 320 samples, 20 ms, and a frame sees 400 samples. With no padding the first
frame lies over samples 0 to 399, and each further one begins 320 later, so there are
$\lfloor (160000 - 400)/320 \rfloor + 1 = 499$. Ten times the sound is not ten times the frames: the
window that is lost at the end is lost once, not ten times. (Where the floor acts between layers, it
gives the same number here.)
""",
    hints=[
        "Multiply the strides: how many samples lie between two frames?",
        "How many samples does one frame see? Go from the last layer to the first: "
        "field = (field - 1) * stride + kernel.",
        "floor((samples - field) / step) + 1, with a field of 400 and a step of 320.",
    ],
    mistakes={
        "listing": Mistake(
            answer=1,
            hint="you count one vector for a clip, as the document's listing does when it joins "
            "the features of its two encoders. The encoder gives a sequence of frames.",
        ),
        "samples_over_stride": Mistake(
            answer=500,
            hint="160,000 / 320 = 500 would need padding: the last frame's window reaches beyond "
            "the clip.",
        ),
        "ten_times": Mistake(
            answer=490,
            hint="ten times 49. But the piece at the end that is too short for a window is lost "
            "once in a clip, not once in a second.",
        ),
        "whole_windows": Mistake(
            answer=400,
            hint="160,000 / 400: windows that do not overlap. A frame sees 400 samples, and the "
            "next one begins 320 samples later.",
        ),
        "spectrogram": Mistake(
            answer=1001,
            hint="those are the frames of the log-mel spectrogram with a hop of 10 ms. The "
            "convolutions' frames are 20 ms apart.",
        ),
    },
)
