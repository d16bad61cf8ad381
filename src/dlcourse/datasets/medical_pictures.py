"""A retina and a stained tissue: two real photographs without labels, from scikit-image's wheel."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING

from dlcourse.datasets.packages import Wheel, open_archive

if TYPE_CHECKING:
    from torch import Tensor

SKIMAGE_PICTURES = Wheel(
    name="medical-pictures",
    file="scikit_image-0.26.0-cp312-cp312-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
    sha256="7df650e79031634ac90b11e64a9eedaf5a5e06fcd09bcd03a34be01745744466",
    size=13_561_683,
    licence="retina: CC0 1.0; tissue: no known copyright restrictions (as scikit-image states)",
    credit=(
        "Retina: Mikael Häggström (2014), CC0 1.0. Stained tissue: Center for Microscopy and "
        "Molecular Imaging, no known copyright restrictions. Both from scikit-image 0.26.0."
    ),
)
ARCHIVES = (SKIMAGE_PICTURES,)
MEDICAL_PICTURES = {"retina": "retina.jpg", "tissue": "ihc.png"}


def medical_picture(name: str) -> Tensor:
    """A real picture, without any diagnosis: float32 ``(3, H, W)`` in [0, 1].

    Args:
        name: "retina", a normal left eye's fundus, 1,411 × 1,411 pixels; or "tissue", glands of a
            colon stained for the protein FHL2, 512 × 512.

    Raises:
        FetchError: the wheel is not in the cache and could not be fetched.
        ValueError: another name.

    Licence: CC0 1.0, and no known restrictions. A page that shows one shows
    ``credit("medical-pictures")``.

    Source: scikit-image 0.26.0, ``skimage.data.retina`` and ``immunohistochemistry``.
    """
    if name not in MEDICAL_PICTURES:
        raise ValueError(f"name must be one of {', '.join(MEDICAL_PICTURES)}: got {name!r}")
    return _read(MEDICAL_PICTURES[name]).clone()


@functools.cache
def _read(file: str) -> Tensor:
    import numpy as np
    import torch
    from PIL import Image

    with open_archive(SKIMAGE_PICTURES) as files:
        picture = Image.open(io.BytesIO(files.read(f"skimage/data/{file}"))).convert("RGB")
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
