"""Values as JSON, between the grader and the process that runs a learner's notebook.

Not pickle: unpickling runs code of whoever wrote the bytes, and those bytes come from a notebook
that is not to be trusted.
"""

from __future__ import annotations

import base64
import math
import numbers
from typing import Any

import numpy as np

from dlcourse.exercises.compare import is_tensor

DTYPES = {
    "bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64",
    "complex64", "complex128", "bfloat16",
}  # fmt: skip


class WireError(ValueError):
    """Bytes that are no value, or a value that can't be sent."""


def encode(value: Any) -> Any:
    """A value as what ``json`` can write.

    Raises:
        WireError: a value of another kind than those that answers are made of.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        return number if math.isfinite(number) else {"kind": "float", "value": repr(number)}
    if isinstance(value, (tuple, list)):
        return {"kind": type(value).__name__, "parts": [encode(part) for part in value]}
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise WireError("a dict with keys that are no strings")
        return {"kind": "dict", "parts": {name: encode(part) for name, part in value.items()}}
    if is_tensor(value):
        dtype = str(value.dtype).removeprefix("torch.")
        array = value.detach().cpu().contiguous()
        return _encode_array("tensor", _bits(array, dtype), dtype)
    if isinstance(value, np.ndarray):
        return _encode_array("array", value, str(value.dtype))
    raise WireError(f"a value of type {type(value).__name__}")


def _bits(tensor: Any, dtype: str) -> np.ndarray:
    import torch

    return (tensor.view(torch.int16) if dtype == "bfloat16" else tensor).numpy()


def _encode_array(kind: str, array: np.ndarray, dtype: str) -> dict[str, Any]:
    if dtype not in DTYPES:
        raise WireError(f"a {kind} of dtype {dtype}")
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
    return {"kind": kind, "dtype": dtype, "shape": list(array.shape), "data": data}


def decode(message: Any) -> Any:
    """The value that ``encode`` made ``message`` of.

    Raises:
        WireError: it was not made by ``encode``.
    """
    if not isinstance(message, dict):
        if message is None or isinstance(message, (bool, int, float, str)):
            return message
        raise WireError("not a value")
    try:
        kind = message["kind"]
        if kind == "float":
            return float(message["value"])
        if kind == "dict":
            return {str(name): decode(part) for name, part in message["parts"].items()}
        if kind in ("tuple", "list"):
            return {"tuple": tuple, "list": list}[kind](decode(part) for part in message["parts"])
        if kind in ("tensor", "array") and message["dtype"] in DTYPES:
            return _decode_array(kind, message)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WireError(f"not a value: {error}") from None
    raise WireError(f"not a value: kind {kind!r}")


def _decode_array(kind: str, message: dict[str, Any]) -> Any:
    dtype = message["dtype"]
    flat = np.frombuffer(
        base64.b64decode(message["data"], validate=True),
        dtype="int16" if dtype == "bfloat16" else dtype,
    )
    array = flat.reshape([int(n) for n in message["shape"]]).copy()
    if kind == "array":
        return array
    import torch

    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor
