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

from dlcourse.exercises.compare import describe, is_array, is_number, is_tensor, type_name

DTYPES = {
    "bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64",
    "complex64", "complex128", "bfloat16",
}  # fmt: skip
LARGEST_BITS = 1024  # of a whole number: json refuses to write those of thousands of digits


class WireError(ValueError):
    """Bytes that are no value, or a value that can't be sent."""


def encode(value: Any) -> Any:
    """A value as what ``json`` can write.

    Raises:
        WireError: a value of another kind than those that answers are made of.
    """
    try:
        return _encode(value)
    except WireError:
        raise
    except Exception as error:  # whatever an odd object raises when it is looked at
        raise WireError(f"{describe(value)}, which can't be read ({type_name(error)})") from None


def _encode(value: Any) -> Any:
    if value is None or type(value) in (bool, str):
        return value
    if type(value) is np.bool_:
        return bool(value)
    if is_number(value):
        return _encode_number(value)
    if isinstance(value, (tuple, list)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {"kind": kind, "parts": [encode(part) for part in value]}
    if isinstance(value, dict):
        if not all(type(name) is str for name in value):
            raise WireError("a dict with keys that are no strings")
        return {"kind": "dict", "parts": {name: encode(part) for name, part in value.items()}}
    if type(value) is bytes:
        return {"kind": "bytes", "data": base64.b64encode(value).decode("ascii")}
    if is_tensor(value):
        dtype = str(value.dtype).removeprefix("torch.")
        return _encode_array("tensor", _bits(value, dtype), dtype)
    if is_array(value) and not isinstance(value, np.ma.MaskedArray):
        return _encode_array("array", np.asarray(value), str(value.dtype))
    raise WireError(f"{describe(value)} ({type_name(value)})")


def _encode_number(value: Any) -> Any:
    if isinstance(value, numbers.Integral):
        if int(value).bit_length() > LARGEST_BITS:
            raise WireError(describe(value))
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else {"kind": "float", "value": repr(number)}


def _bits(tensor: Any, dtype: str) -> np.ndarray:
    import torch

    plain = tensor.detach().as_subclass(torch.Tensor).cpu().resolve_conj().resolve_neg()
    plain = plain.contiguous()
    return (plain.view(torch.int16) if dtype == "bfloat16" else plain).numpy()


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
        if kind == "bytes":
            return base64.b64decode(message["data"], validate=True)
        if kind in ("tensor", "array") and message["dtype"] in DTYPES:
            return _decode_array(kind, message)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise WireError(f"not a value: {error}") from None
    raise WireError("not a value: unknown kind")


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
