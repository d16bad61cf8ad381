"""AudioSet's layout: lists of segments and classes, and sound files that the test makes."""

import numpy as np
import pytest
import torch

from dlcourse.datasets import AudioSetClips

soundfile = pytest.importorskip("soundfile")

CLASSES = """index,mid,display_name
0,/m/09x0r,"Speech"
1,/m/05zppz,"Male speech, man speaking"
2,/m/026t6,Drum
"""
SEGMENTS = """# Segments csv created Sun Mar  5 10:54:31 2017
# num_ytids=3, num_segs=3, num_unique_labels=3, num_positive_labels=4
# YTID, start_seconds, end_seconds, positive_labels
--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/m/05zppz"
-0RWZT-miFs, 420.000, 430.000, "/m/026t6"
gone, 0.000, 10.000, "/m/09x0r"
"""


@pytest.fixture
def files(tmp_path):
    (tmp_path / "classes.csv").write_text(CLASSES)
    (tmp_path / "segments.csv").write_text(SEGMENTS)
    stereo = np.stack([np.full(4000, 0.5), np.full(4000, 0.25)], 1)
    soundfile.write(tmp_path / "Y--PJHxphWEs.wav", stereo, 8000, subtype="FLOAT")
    long = np.linspace(0, 0.5, 20000)
    soundfile.write(tmp_path / "Y-0RWZT-miFs.wav", long, 8000, subtype="FLOAT")
    return tmp_path


def clips(files, **changes):
    settings = dict(sample_rate=8000, seconds=1.0)
    return AudioSetClips(
        files / "segments.csv", files / "classes.csv", files, **{**settings, **changes}
    )


def test_sounds_and_targets_are_those_of_the_lists(files):
    data = clips(files)
    assert len(data) == 2 and data.missing == ["gone"]
    assert data.classes == ("Speech", "Male speech, man speaking", "Drum")
    (x, y), (x2, y2) = data
    assert y.tolist() == [1, 1, 0] and y2.tolist() == [0, 0, 1]
    # Two channels become their mean; behind the end of a short sound there is silence.
    torch.testing.assert_close(x[:4000], torch.full((4000,), 0.375))
    assert x.shape == x2.shape == (8000,) and not x[4000:].any()
    torch.testing.assert_close(x2, torch.linspace(0, 0.5, 20000)[:8000], atol=1e-6, rtol=0)


def test_a_loader_makes_batches(files):
    x, y = next(iter(torch.utils.data.DataLoader(clips(files), batch_size=2)))
    assert x.shape == (2, 8000) and y.shape == (2, 3)


def test_another_name_of_the_files(files):
    (files / "Y-0RWZT-miFs.wav").rename(files / "-0RWZT-miFs_420000.wav")
    data = clips(files, file="{ytid}_{start_ms}.wav")
    assert [p.name for p in data.paths] == ["-0RWZT-miFs_420000.wav"]


def test_bad_files_are_refused_with_advice(files):
    with pytest.raises(ValueError, match="8000 samples a second, not 16000.*ffmpeg"):
        clips(files, sample_rate=16000)[0]
    with pytest.raises(FileNotFoundError, match="none of 3 segments.*file="):
        clips(files, file="{ytid}.mp3")
    segments = files / "segments.csv"
    for line, message in [
        ('x, 0.0, 10.0, "/m/0"', "'/m/0', which is no class"),
        ("x, 0.0, 10.0", "YTID, start, end"),
        ('x, 9.0, 1.0, "/m/026t6"', "from 9.0 to 1.0"),
    ]:
        segments.write_text(line + "\n")
        with pytest.raises(ValueError, match=message):
            clips(files)
    (files / "classes.csv").write_text("mid,name\n/m/1,a\n")
    with pytest.raises(ValueError, match="index, mid, display_name"):
        clips(files)
    (files / "classes.csv").write_text("index,mid,display_name\n1,/m/1,a\n")
    with pytest.raises(ValueError, match="index 1 where 0"):
        clips(files)
