"""Section 121.1b: log-mel spectrograms, encoders, the metric and the loaders."""

import io
import wave

import numpy as np
import pytest
import sklearn.metrics
import torch

from dlcourse.datasets import FetchError
from dlcourse.multimodal_fusion import (
    AudioSetModel,
    LogMelSpectrogram,
    SpectrogramEncoder,
    WaveformEncoder,
    average_precision,
    balanced_weights,
    mean_average_precision,
    mixup,
    multilabel_loss,
    positive_weights,
    spec_augment,
    speech_embedding,
)
from dlcourse.multimodal_fusion.audioset.listening import players, rebuild, wav_bytes
from dlcourse.multimodal_fusion.audioset.model import pool_time


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


def small_waveform_encoder(**changes):
    settings = dict(dim=32, num_layers=2, num_heads=4, channels=16, position_kernel=16, dropout=0.0)
    return WaveformEncoder(**{**settings, **changes})


def small_spectrogram_encoder(**changes):
    settings = dict(dim=24, num_layers=1, num_heads=4, channels=(8, 16), position_groups=8)
    return SpectrogramEncoder(**{**settings, **changes})


class TestWaveformEncoder:
    def test_equals_wav2vec2_of_transformers_with_the_same_weights(self):
        transformers = pytest.importorskip("transformers")
        config = transformers.Wav2Vec2Config(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
            conv_dim=[16] * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=16,
            hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
            feat_proj_dropout=0.0, layerdrop=0.0, attn_implementation="eager",
        )  # fmt: skip
        torch.manual_seed(0)
        theirs = transformers.Wav2Vec2Model(config).eval()
        ours = small_waveform_encoder().eval()
        with torch.no_grad():
            for p in theirs.parameters():  # norms and biases must matter too
                p.add_(0.1 * torch.randn(p.shape))
            layers = theirs.feature_extractor.conv_layers
            for mine, other in zip(ours.convolutions, layers):
                mine.weight.copy_(other.conv.weight)
            ours.first_norm.load_state_dict(layers[0].layer_norm.state_dict())
            ours.norm.load_state_dict(theirs.feature_projection.layer_norm.state_dict())
            ours.projection.load_state_dict(theirs.feature_projection.projection.state_dict())
            ours.trunk.position.load_state_dict(theirs.encoder.pos_conv_embed.conv.state_dict())
            ours.trunk.norm.load_state_dict(theirs.encoder.layer_norm.state_dict())
            for mine, other in zip(ours.trunk.layers, theirs.encoder.layers):
                a = other.attention
                joined = [torch.cat(t) for t in (
                    (a.q_proj.weight, a.k_proj.weight, a.v_proj.weight),
                    (a.q_proj.bias, a.k_proj.bias, a.v_proj.bias),
                )]  # fmt: skip
                mine.self_attn.in_proj_weight.copy_(joined[0])
                mine.self_attn.in_proj_bias.copy_(joined[1])
                mine.self_attn.out_proj.load_state_dict(a.out_proj.state_dict())
                mine.linear1.load_state_dict(other.feed_forward.intermediate_dense.state_dict())
                mine.linear2.load_state_dict(other.feed_forward.output_dense.state_dict())
                mine.norm1.load_state_dict(other.layer_norm.state_dict())
                mine.norm2.load_state_dict(other.final_layer_norm.state_dict())
            x = noise(2, 8000) + 0.05
            normalised = (x - x.mean(1, keepdim=True)) / (
                x.var(1, correction=0, keepdim=True) + 1e-7
            ).sqrt()
            expected = theirs(normalised).last_hidden_state
            torch.testing.assert_close(ours(x), expected, atol=2e-5, rtol=1e-4)

    def test_base_size_gives_49_frames_a_second_of_400_samples_each(self):
        with torch.device("meta"):
            encoder = WaveformEncoder()
        assert encoder.receptive_field == 400
        assert encoder.frames(16000) == 49
        assert abs(sum(p.numel() for p in encoder.parameters()) / 94.37e6 - 1) < 0.002

    def test_louder_is_the_same(self):
        encoder, x = small_waveform_encoder().eval(), noise(2, 4000)
        torch.testing.assert_close(encoder(x), encoder(3 * x), atol=1e-4, rtol=1e-4)

    def test_clips_do_not_see_each_other(self):
        encoder, x = small_waveform_encoder().eval(), noise(3, 2000)
        other = x.clone()
        other[2] = noise(2000, seed=9)
        torch.testing.assert_close(encoder(x)[:2], encoder(other)[:2], atol=0, rtol=0)

    def test_bad_input_is_refused_with_advice(self):
        encoder = small_waveform_encoder()
        with pytest.raises(ValueError, match="399 samples, but 400"):
            encoder(torch.zeros(2, 399))
        assert encoder(noise(2, 400)).shape == (2, 1, 32)
        with pytest.raises(ValueError, match=r"\(B, samples\)"):
            encoder(torch.zeros(400))
        with pytest.raises(ValueError, match="multiple of num_heads"):
            small_waveform_encoder(num_heads=5)
        with pytest.raises(ValueError, match="as many strides"):
            small_waveform_encoder(strides=(5, 2))


class TestSpectrogramEncoder:
    def test_each_block_halves_the_frames(self):
        encoder = small_spectrogram_encoder().eval()
        assert encoder(noise(2, 64, 101)).shape == (2, 25, 24)
        assert encoder(noise(2, 64, 4)).shape == (2, 1, 24)

    def test_bad_input_is_refused_with_advice(self):
        encoder = small_spectrogram_encoder()
        with pytest.raises(ValueError, match="64, frames"):
            encoder(noise(2, 40, 101))
        with pytest.raises(ValueError, match="3 frames and 4 are needed"):
            encoder(noise(2, 64, 3))
        with pytest.raises(ValueError, match="not finite"):
            encoder(torch.full((2, 64, 101), torch.inf))
        with pytest.raises(ValueError, match="halve"):
            small_spectrogram_encoder(n_mels=3)


class TestModel:
    @pytest.fixture
    def model(self):
        torch.manual_seed(0)
        return AudioSetModel(5, small_waveform_encoder(), small_spectrogram_encoder(), hidden=16)

    def test_returns_logits_of_any_sign_and_size(self, model):
        logits = 100 * model.eval()(noise(8, 4000))
        assert logits.shape == (8, 5) and logits.min() < 0 and logits.max() > 1

    def test_reads_one_encoder_or_both(self, model):
        x = noise(2, 4000)
        assert AudioSetModel(5, small_waveform_encoder())(x).shape == (2, 5)
        assert AudioSetModel(5, None, small_spectrogram_encoder())(x).shape == (2, 5)
        for part in (model.waveform_encoder, model.spectrogram_encoder):
            model.zero_grad()
            model(x).sum().backward()
            assert any(p.grad.abs().sum() > 0 for p in part.parameters())

    def test_default_is_audiosets_size(self):
        mel = LogMelSpectrogram()
        with torch.device("meta"):
            model = AudioSetModel(log_mel=mel)
        assert model.classifier.out_features == 527
        assert model.waveform_encoder.dim == model.spectrogram_encoder.dim == 768

    def test_given_spectrogram_is_the_one_that_counts(self, model):
        model.eval()
        x = noise(2, 4000)
        torch.testing.assert_close(model(x), model(x, model.log_mel(x)))
        assert not torch.allclose(model(x), model(x, model.log_mel(x) + noise(2, 64, 26)))

    def test_prior_makes_the_first_loss_that_of_the_class_shares(self):
        share = torch.tensor([0.02, 0.3])
        model = AudioSetModel(
            2, None, small_spectrogram_encoder(), hidden=16, prior=share
        ).eval()
        torch.nn.init.zeros_(model.classifier.weight)
        torch.testing.assert_close(model(noise(1, 4000)).sigmoid()[0], share)
        for wrong in (torch.tensor([0.0, 0.5]), torch.tensor([0.5])):
            with pytest.raises(ValueError, match="prior"):
                AudioSetModel(2, None, small_spectrogram_encoder(), prior=wrong)

    def test_learns_a_few_clips(self, model):
        x = torch.stack([torch.sin(torch.arange(4000) * f) for f in (0.05, 0.2, 0.6, 1.5)])
        y = torch.eye(4, 5)
        optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
        for _ in range(40):
            optimizer.zero_grad()
            loss = multilabel_loss(model(x), y)
            loss.backward()
            optimizer.step()
        assert mean_average_precision(model.eval()(x).detach(), y) == 1


class TestLosses:
    def test_is_binary_cross_entropy_in_float64(self):
        z, y = noise(6, 4).double() * 30, (noise(6, 4, seed=1) > 0).double()
        p = z.sigmoid()
        torch.testing.assert_close(
            multilabel_loss(z, y), -(y * p.log() + (1 - y) * (1 - p).log()).mean()
        )

    def test_a_sure_error_keeps_its_loss_and_gradient(self):
        z = torch.tensor([[110.0]], requires_grad=True)
        loss = multilabel_loss(z, torch.zeros(1, 1))
        loss.backward()
        assert loss.item() == 110 and z.grad.item() == 1

    def test_positive_weights_make_both_sides_weigh_the_same(self):
        y = torch.zeros(100, 2)
        y[:10, 0], y[:50, 1] = 1, 1
        w = positive_weights(y)
        torch.testing.assert_close(w, torch.tensor([9.0, 1.0]))
        # At z = 0 each term is ln 2 times its weight: the gradient of the bias is 0.
        z = torch.zeros(100, 2, requires_grad=True)
        multilabel_loss(z, y, w).backward()
        torch.testing.assert_close(z.grad.sum(0), torch.zeros(2), atol=1e-6, rtol=0)
        assert positive_weights(torch.zeros(5, 1)).item() == 100

    def test_balanced_sampling_draws_rare_classes_as_often(self):
        y = torch.zeros(100, 2)
        y[:90, 0], y[90:, 1] = 1, 1
        w = balanced_weights(y)
        torch.testing.assert_close((w[:, None] * y).sum(0), torch.ones(2))
        y[0] = 0
        assert balanced_weights(y)[0] == balanced_weights(y).min() > 0

    def test_bad_input_is_refused_with_advice(self):
        with pytest.raises(ValueError, match="clips, classes"):
            multilabel_loss(torch.zeros(2, 3), torch.zeros(2, 4))
        with pytest.raises(ValueError, match="between 0 and 1"):
            multilabel_loss(torch.zeros(2, 3), torch.full((2, 3), 2.0))
        with pytest.raises(ValueError, match="not finite"):
            multilabel_loss(torch.full((2, 3), torch.nan), torch.zeros(2, 3))


class TestMeanAveragePrecision:
    @pytest.mark.parametrize("seed", range(20))
    def test_equals_scikit_learn_ties_included(self, seed):
        rng = np.random.default_rng(seed)
        n, c = rng.integers(1, 60), rng.integers(1, 6)
        scores = rng.integers(0, rng.choice([2, 5, 10**6]), (n, c)) / 7
        targets = rng.random((n, c)) < rng.choice([0.05, 0.3, 0.9])
        ours = average_precision(torch.tensor(scores), torch.tensor(targets))
        for k in range(c):
            if targets[:, k].any():
                theirs = sklearn.metrics.average_precision_score(targets[:, k], scores[:, k])
                assert abs(ours[k].item() - theirs) < 1e-12
            else:
                assert ours[k].isnan()
        if targets.any():
            got = mean_average_precision(torch.tensor(scores), torch.tensor(targets))
            assert abs(got - np.nanmean(ours)) < 1e-12

    def test_by_hand(self):
        # Ranks of the positives: 1 and 3. AP = (1/1 + 2/3) / 2.
        scores = torch.tensor([[0.9], [0.8], [0.7], [0.1]])
        targets = torch.tensor([[1.0], [0.0], [1.0], [0.0]])
        assert abs(average_precision(scores, targets).item() - 5 / 6) < 1e-12

    def test_constant_scores_give_the_share_of_positives(self):
        y = (noise(50, 3) > 0.05).float()
        torch.testing.assert_close(
            average_precision(torch.zeros(50, 3), y), y.double().mean(0)
        )

    def test_order_of_clips_does_not_matter(self):
        s, y = noise(40, 3).round(decimals=1), (noise(40, 3, seed=1) > 0.05).float()
        p = torch.randperm(40, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(average_precision(s, y), average_precision(s[p], y[p]))

    def test_bad_input_is_refused_with_advice(self):
        with pytest.raises(ValueError, match="no class has a positive"):
            mean_average_precision(torch.zeros(3, 2), torch.zeros(3, 2))
        with pytest.raises(ValueError, match="0 or 1"):
            mean_average_precision(torch.zeros(3, 2), torch.full((3, 2), 0.5))
        with pytest.raises(ValueError, match="not finite"):
            mean_average_precision(torch.full((3, 2), torch.nan), torch.ones(3, 2))
        with pytest.raises(ValueError, match="clips, classes"):
            mean_average_precision(torch.zeros(0, 2), torch.ones(0, 2))


class TestAugmentation:
    def g(self, seed=0):
        return torch.Generator().manual_seed(seed)

    def test_masks_are_stripes_of_at_most_the_asked_width(self):
        x = noise(200, 16, 30) + torch.arange(30)
        out = spec_augment(
            x, self.g(), frequency_width=4, time_width=6, frequency_masks=1, time_masks=1
        )
        mean = x.mean((1, 2), keepdim=True).expand_as(x)
        hidden = out != x
        torch.testing.assert_close(out[hidden], mean[hidden])
        rows, columns = hidden.all(2).sum(1), hidden.all(1).sum(1)
        assert rows.min() == 0 and rows.max() == 4 and columns.min() == 0 and columns.max() == 6
        stripes = hidden.all(2)[:, :, None] | hidden.all(1)[:, None, :]
        assert torch.equal(stripes, hidden)
        # One mask is one stripe: its first and last row are its width apart.
        for row, width in zip(hidden.all(2), rows):
            places = row.nonzero().flatten()
            assert not width or places[-1] - places[0] + 1 == width

    def test_every_width_and_place_occurs(self):
        x = torch.arange(8.0)[None, :, None] + noise(4000, 8, 2)
        out = spec_augment(
            x, self.g(), frequency_width=3, time_width=0, frequency_masks=1, time_masks=0
        )
        hidden = (out != x).all(2)
        shares = torch.bincount(hidden.sum(1), minlength=4) / 4000
        torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.03, rtol=0)
        assert hidden[:, 0].any() and hidden[:, 7].any()

    def test_no_width_hides_nothing_and_too_wide_is_refused(self):
        x = noise(3, 16, 30)
        assert torch.equal(spec_augment(x, self.g(), frequency_width=0, time_width=0), x)
        spec_augment(x, self.g(), frequency_width=16, time_width=30)
        with pytest.raises(ValueError, match="16 × 30: take narrower"):
            spec_augment(x, self.g(), time_width=31)
        with pytest.raises(ValueError, match=r"\(B, M, T\)"):
            spec_augment(x[0], self.g())

    def test_mixup_blends_clips_and_targets_alike(self):
        x = torch.eye(50)
        mixed, targets = mixup(x, x, 1.0, self.g())
        torch.testing.assert_close(mixed, targets)
        torch.testing.assert_close(targets.sum(1), torch.ones(50))
        assert ((targets > 0).sum(1) <= 2).all()

    @pytest.mark.parametrize("alpha", [0.2, 1.0, 10.0])
    def test_mixup_draws_from_beta(self, alpha):
        y = torch.zeros(20000, 1)
        y[:10000] = 1
        _, targets = mixup(y, y, alpha, self.g())
        share = targets[:10000][targets[:10000] < 1]  # the partner has another label
        expected = 1 / (4 * (2 * alpha + 1))  # variance of Beta(α, α)
        assert abs(share.mean() - 0.5) < 0.02
        assert abs(share.var() / expected - 1) < 0.06

    def test_mixup_refuses_bad_input(self):
        with pytest.raises(ValueError, match="positive"):
            mixup(torch.zeros(2, 3), torch.zeros(2, 1), 0.0, self.g())
        with pytest.raises(ValueError, match="targets for 3"):
            mixup(torch.zeros(2, 3), torch.zeros(3, 1), 1.0, self.g())


class TestSpeechEmbedding:
    def test_shape_and_independence_of_the_batch(self):
        pytest.importorskip("onnxruntime")
        x = noise(3, 16000)
        try:
            features = speech_embedding(x)
        except FetchError as error:
            pytest.skip(str(error))
        assert features.shape == (3, 3, 96)
        torch.testing.assert_close(speech_embedding(x[1:2])[0], features[1], atol=1e-3, rtol=1e-4)
        assert speech_embedding(x[:1, :4000]).shape == (1, 1, 96)

    def test_bad_input_is_refused(self):
        with pytest.raises(ValueError, match=r"\(N, samples\)"):
            speech_embedding(torch.zeros(16000))
        with pytest.raises(TypeError, match="32768"):
            speech_embedding(torch.zeros(1, 16000, dtype=torch.int16))


class TestListening:
    def test_a_rebuilt_sound_has_about_the_same_spectrogram(self):
        mel = LogMelSpectrogram(16000, 400, 80, 128)
        time = torch.arange(8000) / 16000
        x = 0.3 * torch.sin(2 * torch.pi * 500 * time) * torch.exp(-5 * time)
        again = mel(rebuild(mel(x), mel, 8000))
        loud = mel(x) > mel(x).max() - 6
        assert (again - mel(x))[loud].abs().mean() < 0.7
        assert (mel(noise(8000)) - mel(x))[loud].abs().mean() > 1.5

    def test_players_are_wav_files_with_a_name(self):
        page = players({"a < b": noise(1600)}, 16000)["text/html"]
        assert 'aria-label="a &lt; b"' in page and "data:audio/wav;base64,UklGR" in page
        with wave.open(io.BytesIO(wav_bytes(noise(1600), 16000))) as file:
            assert (file.getnframes(), file.getframerate()) == (1600, 16000)
        with pytest.raises(ValueError, match=r"\(samples,\)"):
            wav_bytes(noise(2, 5), 16000)


def test_listing_audioset_encoders_are_not_there():
    with pytest.raises(NameError, match="Wav2Vec2Model"):
        exec("encoder = Wav2Vec2Model()", {})
    transformers = pytest.importorskip("transformers")
    with pytest.raises(TypeError, match="config"):
        transformers.Wav2Vec2Model()
    assert small_waveform_encoder()(noise(1, 4000)).ndim == 3


def test_listing_audioset_joins_sequences_of_different_rates():
    x = noise(2, 16000)
    wave_features = small_waveform_encoder()(x)
    mel_features = small_spectrogram_encoder()(LogMelSpectrogram()(x))
    assert wave_features.shape[1] == 49 and mel_features.shape[1] == 25
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        torch.cat([wave_features, mel_features], dim=-1)
    assert pool_time(wave_features).shape[0] == pool_time(mel_features).shape[0]


def test_listing_audioset_assumes_widths():
    with torch.device("meta"):
        width = WaveformEncoder().dim
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        torch.nn.Linear(1024 + 128, 512)(torch.zeros(1, width + 128))
    model = AudioSetModel(3, small_waveform_encoder(), small_spectrogram_encoder())
    assert model.fusion.in_features == 32 + 24


def test_listing_audioset_fusion_is_one_linear_map():
    torch.manual_seed(0)
    fusion, first = torch.nn.Linear(20, 8).double(), torch.nn.Linear(8, 6).double()
    x, y = noise(5, 20).double(), noise(5, 20, seed=1).double()

    def both(v):
        return first(fusion(v))

    torch.testing.assert_close(both(x + y) + both(0 * x), both(x) + both(y))
    model = AudioSetModel(3, small_waveform_encoder(), hidden=8).eval().double()

    def head(v):
        return model.classifier(torch.nn.functional.gelu(model.fusion(v)))

    x, y = 10 * noise(5, 32).double(), 10 * noise(5, 32, seed=1).double()
    assert not torch.allclose(head(x + y) + head(0 * x), head(x) + head(y), atol=1e-3)


def test_listing_audioset_probabilities_lose_the_gradient():
    z = torch.tensor([[20.0]], requires_grad=True)
    loss = torch.nn.functional.binary_cross_entropy(z.sigmoid(), torch.zeros(1, 1))
    loss.backward()
    assert z.grad.item() == 0 and loss.item() == 100
    z.grad = None
    multilabel_loss(z, torch.zeros(1, 1)).backward()
    assert abs(z.grad.item() - 1) < 1e-6


def test_listing_audioset_leaves_the_spectrogram_open():
    librosa = pytest.importorskip("librosa")
    x = noise(16000).numpy()
    settings = dict(y=x, sr=16000, n_fft=400, hop_length=160, n_mels=64)
    one = np.log(librosa.feature.melspectrogram(**settings))
    other = np.log(librosa.feature.melspectrogram(**settings, htk=True, norm=None))
    assert np.abs(one - other).mean() > 3
