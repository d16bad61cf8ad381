"""Section 121.1b: log-mel spectrograms, encoders, the metric and the loaders."""

import numpy as np
import pytest
import torch

from dlcourse.multimodal_fusion import LogMelSpectrogram


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.1


class TestLogMel:
    @pytest.mark.parametrize(
        ("rate", "n_fft", "hop", "mels", "samples"),
        [(16000, 400, 160, 64, 16000), (16000, 1024, 320, 80, 12345), (8000, 255, 100, 20, 710)],
    )
    def test_equals_librosa_in_its_default_convention(self, rate, n_fft, hop, mels, samples):
        librosa = pytest.importorskip("librosa")
        x = noise(2, samples)
        theirs = librosa.feature.melspectrogram(
            y=x.numpy(), sr=rate, n_fft=n_fft, hop_length=hop, n_mels=mels
        )
        ours = LogMelSpectrogram(rate, n_fft, hop, mels)(x)
        assert ours.shape == (2, mels, 1 + samples // hop)
        np.testing.assert_allclose(ours, np.log(np.maximum(theirs, 1e-10)), atol=2e-4)

    def test_filters_equal_librosas(self):
        librosa = pytest.importorskip("librosa")
        theirs = librosa.filters.mel(sr=16000, n_fft=400, n_mels=64)
        np.testing.assert_allclose(LogMelSpectrogram().filters, theirs, atol=1e-8)

    def test_a_tone_is_loudest_in_the_band_of_its_pitch(self):
        time = torch.arange(16000) / 16000
        mel = LogMelSpectrogram(16000, 1024, 160, 64)
        band = mel(torch.sin(2 * torch.pi * 1000 * time)).mean(-1).argmax().item()
        frequency = (mel.filters[band].argmax() * 16000 / 1024).item()
        assert abs(frequency - 1000) < 50

    def test_ten_times_the_amplitude_adds_two_ln_ten(self):
        mel, x = LogMelSpectrogram(), noise(8000)
        torch.testing.assert_close(
            mel(10 * x) - mel(x), torch.full((64, 51), 2 * np.log(10.0)), atol=1e-3, rtol=0
        )

    def test_any_leading_shape_and_silence_is_the_floor(self):
        mel = LogMelSpectrogram()
        assert mel(torch.zeros(2, 3, 1600)).shape == (2, 3, 64, 11)
        torch.testing.assert_close(mel(torch.zeros(800)), torch.full((64, 6), np.log(1e-10)))

    def test_autocast_does_not_coarsen_it(self):
        mel, x = LogMelSpectrogram(), noise(1, 1600)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert mel(x).dtype == torch.float32
            torch.testing.assert_close(mel(x), mel(x))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = mel(x)
        torch.testing.assert_close(inside, mel(x), atol=0, rtol=0)

    def test_bad_input_is_refused_with_advice(self):
        mel = LogMelSpectrogram()
        with pytest.raises(ValueError, match="399 samples, but 400.*pad"):
            mel(torch.zeros(399))
        with pytest.raises(TypeError, match="int16.*/ 32768"):
            mel(torch.zeros(1600, dtype=torch.int16))
        with pytest.raises(ValueError, match="not finite"):
            mel(torch.full((1600,), torch.nan))
        with pytest.raises(ValueError, match="44100 .*resample"):
            mel(torch.zeros(1600), sample_rate=44100)
        with pytest.raises(ValueError, match="fewer mels"):
            LogMelSpectrogram(16000, 128, 64, 128)
        with pytest.raises(ValueError, match="hop_length"):
            LogMelSpectrogram(16000, 400, 401, 64)
