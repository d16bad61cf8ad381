"""The name of a request by its content, and arrays that nobody can change."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray


def content_key(array: ArrayLike, version: str) -> str:
    """64 hexadecimal digits that are equal for equal bytes, dtype, shape and model version.

    Python's ``hash`` of the bytes ignores the last three, has 64 bits, and differs between two
    processes. BLAKE2b (RFC 7693) with 256 bits is the same everywhere, and nobody knows two inputs
    with one digest. Content means bits: 0.0 and −0.0 differ, and a NaN equals itself.

    Args:
        array: any shape; its memory layout does not matter.
        version: of the model, so that a new model never answers with an old one's results.

    Raises TypeError where the array holds Python objects, whose bytes are addresses, or where
    ``version`` is no string.
    """
    if not isinstance(version, str):
        raise TypeError(f"version must be a string: got {version!r}")
    array = plain_array(array)
    kind = (version, np.lib.format.dtype_to_descr(array.dtype), array.shape)
    header = repr(kind).encode("utf8", "surrogatepass")
    # The header's length comes first, so that no header can run into the bytes after it.
    digest = hashlib.blake2b(len(header).to_bytes(8, "little") + header, digest_size=32)
    digest.update(array.tobytes())  # in C order, whatever the layout
    return digest.hexdigest()


def plain_array(x: ArrayLike) -> NDArray:
    """``x`` as an array of plain values. Raises TypeError or ValueError for anything else."""
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise ValueError(f"a request must be one array, not ragged rows: {error}") from None
    if array.dtype.hasobject:
        raise TypeError("a request must hold numbers or text of fixed length: got Python objects")
    return array


def frozen(array: NDArray) -> NDArray:
    """A copy whose memory is a ``bytes`` object: no flag makes it writable again."""
    return np.ndarray(array.shape, array.dtype, array.tobytes())
