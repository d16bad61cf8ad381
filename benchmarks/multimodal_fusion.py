"""CLIP's loss, the log-mel spectrogram and mean average precision beside their peers.

    python benchmarks/multimodal_fusion.py [--quick]

On a CPU, one thread. Each pair is compared for equality first, then timed in turn.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from dlcourse.measure import interleaved
from dlcourse.multimodal_fusion import (
    LogMelSpectrogram,
    clip_loss,
    clip_loss_chunked,
    mean_average_precision,
)


def compare(title: str, forms: dict[str, Callable[[], object]], repeats: int) -> None:
    """The last form is the peer: print each one's median time, and its ratio to the peer's."""
    seconds = interleaved(forms, repeats=repeats, warmup=2)
    *_, peer = seconds
    print(f"\n{title}")
    for name, times in seconds.items():
        ratios = [a / b for a, b in zip(times, seconds[peer], strict=True)]
        print(
            f"  {name:24} {1e3 * statistics.median(times):8.2f} ms"
            f"   {statistics.median(ratios):5.2f} of {peer}"
        )


def losses(pairs: int, dim: int, repeats: int) -> None:
    from open_clip.loss import ClipLoss

    g = torch.Generator().manual_seed(0)
    x, y = (
        F.normalize(torch.randn(pairs, dim, generator=g), dim=1).requires_grad_() for _ in range(2)
    )
    scale = torch.tensor(20.0, requires_grad=True)
    theirs = ClipLoss()

    def both_ways(form: Callable) -> Callable[[], torch.Tensor]:
        def run() -> torch.Tensor:
            for leaf in (x, y, scale):
                leaf.grad = None
            loss = form(x, y, scale)
            loss.backward()
            return x.grad

        return run

    forms = {
        "clip_loss": both_ways(clip_loss),
        "clip_loss_chunked": both_ways(lambda a, b, s: clip_loss_chunked(a, b, s, 256)),
        "open_clip": both_ways(theirs),
    }
    first, *others = (run().clone() for run in forms.values())
    for other in others:
        torch.testing.assert_close(first, other, atol=1e-6, rtol=1e-4)
    compare(f"CLIP's loss, forward and backward, {pairs:,} pairs of {dim}", forms, repeats)


def spectrograms(seconds: int, repeats: int) -> None:
    import librosa

    wave = torch.randn(16000 * seconds, generator=torch.Generator().manual_seed(0)) / 10
    ours = LogMelSpectrogram(16000, 400, 160, 64)

    def theirs() -> np.ndarray:
        mel = librosa.feature.melspectrogram(
            y=wave.numpy(), sr=16000, n_fft=400, hop_length=160, n_mels=64
        )
        return np.log(np.maximum(mel, 1e-10))

    # Each has its own floor and logarithm: one affine map of the other where both hear something.
    a, b = ours(wave).numpy().ravel(), theirs().ravel()
    assert np.corrcoef(a, b)[0, 1] > 0.9999
    compare(f"log-mel of {seconds} s", {"ours": lambda: ours(wave), "librosa": theirs}, repeats)


def precision(clips: int, classes: int, repeats: int) -> None:
    from sklearn.metrics import average_precision_score

    g = torch.Generator().manual_seed(0)
    scores = torch.randn(clips, classes, generator=g)
    targets = torch.rand(clips, classes, generator=g) < 0.1
    forms = {
        "ours": lambda: float(mean_average_precision(scores, targets)),
        "scikit-learn": lambda: float(average_precision_score(targets.numpy(), scores.numpy())),
    }
    ours, theirs = (form() for form in forms.values())
    assert abs(ours - theirs) < 1e-6
    compare(f"mean average precision, {clips:,} clips, {classes} classes", forms, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="smaller, in a few seconds")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    repeats = 5 if quick else 20
    losses(256 if quick else 1024, 512, repeats)
    spectrograms(2 if quick else 10, repeats)
    precision(500 if quick else 5000, 20 if quick else 527, repeats)


if __name__ == "__main__":
    main()
