"""What comes in by HTTP, checked before it costs the model anything.

Each function raises ``BadRequest`` with the status that says what is wrong (RFC 9110) and a reason
in words. A reason repeats nothing that the client sent: it may be huge, or not be text.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

JSON = "application/json"
RAW = "application/octet-stream"

# A string of JSON, closed or not. Nothing is tried twice (*+), so that time grows with the length.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_NAMES = {
    str: "a string", bool: "true or false", type(None): "null", int: "a number", float: "a number"
}  # fmt: skip


class BadRequest(ValueError):
    """The request is at fault. ``status`` is that of HTTP, a 4xx; the text is the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


async def read_body(
    chunks: AsyncIterator[bytes], headers: Mapping[str, str], max_body: int, timeout: float
) -> bytes:
    """The body, read no further than ``max_body`` bytes.

    Args:
        chunks: the body as it arrives, as from Starlette's ``request.stream()``.
        headers: of the request; one that announces too much is refused before anything is read.
        max_body: bytes at most.
        timeout: seconds in which all of it must have come.

    Raises BadRequest: 400 a length that is no number, 408 too slow, 413 too large.
    """
    declared = headers.get("content-length", "0")
    if not re.fullmatch("[0-9]{1,19}", declared):
        raise BadRequest(400, "Content-Length must be a number of bytes")
    too_large = BadRequest(413, f"the body must have at most {max_body} bytes")
    if int(declared) > max_body:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(timeout):
            async for chunk in chunks:  # without a length, the body is counted as it comes
                body += chunk
                if len(body) > max_body:
                    raise too_large
    except TimeoutError:
        raise BadRequest(408, f"the body must come within {timeout:g} s") from None
    return bytes(body)


def nesting(body: bytes) -> int:
    """How deep lists and objects of a JSON text lie in each other; brackets in strings don't count.

    For what is no valid JSON: at least as deep as a parser gets before it stops.
    """
    brackets = _STRING.sub(b"", body).translate(None, delete=_NO_BRACKETS)
    codes = np.frombuffer(brackets, np.uint8)
    steps = np.where((codes == ord("[")) | (codes == ord("{")), 1, -1)
    return int(steps.cumsum().max(initial=0))


def parse_json(body: bytes, max_depth: int) -> Any:
    """The value of a JSON text (RFC 8259).

    Python's ``json`` also takes NaN and Infinity, which JSON does not have, and the last of equal
    names; both are refused here. Too deep a nesting is refused before it is parsed.

    Raises BadRequest: 400 no JSON, 422 too deep.
    """
    try:
        text = body.decode("utf8")
    except UnicodeDecodeError:
        raise BadRequest(400, "the body must be JSON in UTF-8") from None
    if nesting(body) > max_depth:
        raise BadRequest(422, f"the body must not be nested deeper than {max_depth}")
    try:
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
    except BadRequest:
        raise
    except ValueError:  # also an integer of more digits than Python reads
        raise BadRequest(400, "the body must be valid JSON") from None


def _no_constant(name: str) -> None:
    raise BadRequest(400, "the body must be valid JSON, which has no NaN or Infinity")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) < len(pairs):
        raise BadRequest(400, "a name must not stand twice in an object")
    return names


def json_array(value: Any, shape: tuple[int, ...], dtype: np.dtype) -> NDArray:
    """The array of a request ``{"x": …}``: nested lists of numbers, of exactly this shape.

    Args:
        value: what ``parse_json`` gave.
        shape: of one request; ``()`` takes a number.
        dtype: of floats, integers or booleans. 2.0 is an integer, as in JSON Schema; true is no
            number.

    Raises BadRequest 422: other names, shape or kind of values; an integer outside the dtype's
    range; a float that is not finite in the dtype (1e999, or 1e39 in float32).
    """
    if type(value) is not dict or value.keys() != {"x"}:
        raise BadRequest(422, 'the body must be an object with the one name "x"')
    values = [value["x"]]
    for axis, size in enumerate(shape):  # in C throughout: a picture has 10,000s of numbers
        if set(map(type, values)) - {list} or set(map(len, values)) - {size}:
            raise BadRequest(422, f"x must have shape {shape}: axis {axis} must be {size} long")
        values = list(itertools.chain.from_iterable(values))
    allowed = {bool} if dtype.kind == "b" else {int, float}
    kinds = set(map(type, values))
    for kind in kinds - allowed:
        wanted = "true or false" if dtype.kind == "b" else "numbers"
        got = _NAMES.get(kind, "a list or an object")
        raise BadRequest(422, f"x must hold {wanted} at depth {len(shape)}: got {got}")
    if dtype.kind in "iu":
        return _integers(values, kinds, dtype).reshape(shape)
    try:
        array = np.array(values, bool if dtype.kind == "b" else np.float64)
    except OverflowError:  # an integer that no float64 holds
        raise _not_finite(dtype) from None
    return finite_array(_cast(array, dtype)).reshape(shape)


def raw_array(body: bytes, shape: tuple[int, ...], dtype: np.dtype) -> NDArray:
    """The array whose values are the body: little-endian, in C order.

    Raises BadRequest 422: another number of bytes, a float that is not finite, a boolean that is
    neither 0 nor 1.
    """
    size = math.prod(shape) * dtype.itemsize
    if len(body) != size:
        raise BadRequest(422, f"x must have {size} bytes: shape {shape} of {dtype.name}")
    if dtype.kind == "b" and body.strip(b"\0\1"):
        raise BadRequest(422, "a boolean must be a byte 0 or 1")
    array = np.frombuffer(body, dtype.newbyteorder("<")).astype(dtype)
    return finite_array(array).reshape(shape)


def finite_array(array: NDArray) -> NDArray:
    """The array itself. Raises BadRequest 422 where a value is NaN or infinite."""
    if not np.isfinite(array).all():
        raise _not_finite(array.dtype)
    return array


def request_schema(shape: tuple[int, ...], dtype: np.dtype) -> dict[str, Any]:
    """The JSON Schema of what ``json_array`` takes, as OpenAPI 3.1 wants it."""
    if dtype.kind == "b":
        schema: dict[str, Any] = {"type": "boolean"}
    elif dtype.kind in "iu":
        limits = np.iinfo(dtype)
        schema = {"type": "integer", "minimum": int(limits.min), "maximum": int(limits.max)}
    else:
        largest = float(np.finfo(dtype).max)
        schema = {"type": "number", "minimum": -largest, "maximum": largest}
    for size in reversed(shape):
        schema = {"type": "array", "items": schema, "minItems": size, "maxItems": size}
    return {
        "type": "object",
        "properties": {"x": schema},
        "required": ["x"],
        "additionalProperties": False,
    }


def _integers(values: list[Any], kinds: set[type], dtype: np.dtype) -> NDArray:
    """Whole numbers of the dtype. A float64 would round those of more than 53 bits."""
    if float in kinds:
        if any(type(value) is float and not value.is_integer() for value in values):
            raise BadRequest(422, f"x must hold whole numbers, since it is {dtype.name}")
        values = [int(value) for value in values]
    try:
        array = np.array(values, np.int64)
    except OverflowError:
        array = np.array(values, object)  # Python's own integers, of any size
    limits = np.iinfo(dtype)
    if array.min() < limits.min or array.max() > limits.max:
        raise BadRequest(422, f"x must hold numbers from {limits.min} to {limits.max}")
    return array.astype(dtype)


def _cast(array: NDArray, dtype: np.dtype) -> NDArray:
    with np.errstate(over="ignore"):  # what overflows is infinite, and refused as such
        return array.astype(dtype)


def _not_finite(dtype: np.dtype) -> BadRequest:
    return BadRequest(422, f"x must hold numbers that are finite in {dtype.name}")
