"""206 recorded sounds, and clips with several labels mixed from them."""

import csv
import sys
from importlib import resources

import pytest
import torch

from dlcourse.datasets import (
    SOUND_CLASSES,
    SoundBank,
    mix_sounds,
    recorded_sounds,
    save_decoded,
    sound_bank,
    sound_files,
)


def rows():
    text = resources.files("dlcourse.datasets").joinpath("sounds/sounds.csv").read_text("utf8")
    return list(csv.DictReader(text.splitlines()))


def tones(lengths, labels):
    """A bank of constant sounds: sound i has the value i + 1."""
    waveform = torch.zeros(len(lengths), max(lengths))
    for i, n in enumerate(lengths):
        waveform[i, :n] = i + 1
    names = tuple(map(str, range(len(lengths))))
    return SoundBank(waveform, torch.tensor(lengths), torch.tensor(labels), names, names)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


ONLY_FIRST = [1.0] + [0.0] * (len(SOUND_CLASSES) - 1)


class TestSoundBank:
    def test_there_are_206_sounds_each_with_an_author(self):
        bank = sound_bank()
        assert bank.waveform.shape[0] == len(bank.names) == len(set(bank.names)) == 206
        assert all(row["author"] and row["origin"] for row in rows())
        assert len(set(bank.authors)) == 67

    def test_levels_are_equal_and_padding_is_zero(self):
        bank = sound_bank()
        time = torch.arange(bank.waveform.shape[1])
        outside = time >= bank.length[:, None]
        assert not (bank.waveform * outside).any()
        power = bank.waveform.square().sum(1) / bank.length
        torch.testing.assert_close(power, torch.full((206,), 0.01), rtol=1e-4, atol=0)

    @pytest.mark.parametrize("seed", range(10))
    def test_parts_share_no_family_and_each_has_all_classes(self, seed):
        family = {row["name"]: row["family"] for row in rows()}
        parts = [sound_bank(part, seed) for part in ("train", "validation", "test")]
        families = [{family[name] for name in part.names} for part in parts]
        assert not families[0] & families[1] | families[0] & families[2] | families[1] & families[2]
        for part in parts:
            assert set(part.label.tolist()) == set(range(len(SOUND_CLASSES)))
        assert sum(len(p.names) for p in parts) == sum(bool(row["label"]) for row in rows())

    def test_another_seed_is_another_split(self):
        assert sound_bank("test", 0).names == sound_bank("test", 0).names
        assert sound_bank("test", 0).names != sound_bank("test", 1).names

    def test_unknown_part_is_refused(self):
        with pytest.raises(ValueError, match="train, validation, test"):
            sound_bank("dev")

    def test_decoded_file_replaces_soundfile(self, tmp_path, monkeypatch):
        expected = sound_bank().waveform
        save_decoded(tmp_path / "sounds.npy")
        with pytest.raises(ValueError, match=".npy"):
            save_decoded(tmp_path / "sounds.bin")
        caches = (sound_files._decoded, sound_files._bank)
        for cache in caches:
            cache.cache_clear()
        monkeypatch.setitem(sys.modules, "soundfile", None)  # its import fails
        try:
            with pytest.raises(ModuleNotFoundError, match="DLCOURSE_SOUNDS"):
                sound_bank()
            monkeypatch.setenv("DLCOURSE_SOUNDS", str(tmp_path / "sounds.npy"))
            assert torch.equal(sound_bank().waveform, expected)
        finally:
            for cache in caches:
                cache.cache_clear()


class TestMixing:
    def test_labels_are_the_classes_that_were_mixed(self):
        # One sound of one sample a class, of a level that is a power of two: the clip's sum says
        # which sounds are in it.
        bank = tones([1] * 12, list(range(12)))
        bank = bank._replace(waveform=2.0 ** torch.arange(12.0)[:, None])
        made = mix_sounds(
            bank, 50, generator(), seconds=0.01, at_most=1, quietest_db=0.0, noise_db=-300.0
        )
        torch.testing.assert_close(made.x.sum(1), made.y @ (2.0 ** torch.arange(12.0)))
        assert (made.y.sum(1) == 1).all()

    def test_short_sounds_lie_wholly_in_the_clip_and_long_ones_fill_it(self):
        for length, heard in ((40, 40), (500, 160), (160, 160)):
            bank = tones([length], [0])
            made = mix_sounds(
                bank, 300, generator(), seconds=0.01, at_most=1, quietest_db=0.0, noise_db=-300.0,
                class_weights=ONLY_FIRST,
            )  # fmt: skip
            assert torch.equal((made.x > 0.5).sum(1), torch.full((300,), heard))
        starts = (
            mix_sounds(
                tones([40], [0]), 3000, generator(), seconds=0.01, at_most=1, noise_db=-300.0,
                class_weights=ONLY_FIRST,
            ).x  # fmt: skip
            > 0.01
        ).int().argmax(1)
        assert starts.min() == 0 and starts.max() == 120

    def test_gains_and_counts_have_the_asked_range(self):
        bank = tones([200], [0])
        made = mix_sounds(
            bank, 2000, generator(), seconds=0.01, at_most=1, quietest_db=-20.0, noise_db=-300.0,
            class_weights=ONLY_FIRST,
        )  # fmt: skip
        levels = 20 * made.x[:, 0].log10()
        assert -20.01 <= levels.min() < -19 and -1 < levels.max() <= 0.01
        made = mix_sounds(sound_bank("train"), 2000, generator(), seconds=0.01)
        labels = made.y.sum(1)
        assert labels.min() == 1 and labels.max() == 4

    def test_class_weights_choose_how_often(self):
        weights = [8.0, 1.0] + [0.0] * 10
        made = mix_sounds(
            sound_bank("train"), 4000, generator(), seconds=0.01, at_most=1, class_weights=weights
        )
        share = made.y.mean(0)
        assert abs(share[0] - 8 / 9) < 0.02 and share[2:].sum() == 0

    def test_seed_decides_everything_and_parts_do_not_depend_on_each_other(self):
        a = recorded_sounds(3, n_train=5, n_validation=4, n_test=6, seconds=0.1)
        b = recorded_sounds(3, n_train=9, n_validation=4, n_test=6, seconds=0.1)
        assert torch.equal(a.test.x, b.test.x) and torch.equal(a.validation.y, b.validation.y)
        c = recorded_sounds(4, n_train=5, n_validation=4, n_test=6, seconds=0.1)
        assert not torch.equal(a.test.y, c.test.y) or not torch.equal(a.test.x, c.test.x)

    def test_bad_input_is_refused(self):
        bank = sound_bank("train")
        with pytest.raises(ValueError, match="n, at_most >= 1"):
            mix_sounds(bank, 0, generator())
        with pytest.raises(ValueError, match="12 numbers"):
            mix_sounds(bank, 1, generator(), class_weights=[1.0])
        with pytest.raises(ValueError, match="no sound of: snare"):
            mix_sounds(tones([10], [0]), 1, generator(), class_weights=[1.0, 1.0] + [0.0] * 10)
