"""Describe values, copy them, and say how two of them differ.

The values come from learners, so they may be anything: nothing here may raise, take an odd object
for a right answer, or show what no terminal can.

NumPy is imported where it is needed: the command line loads this module too.
"""

from __future__ import annotations

import copy
import decimal
import math
import numbers
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

LONGEST = 60  # characters of a value in a message


def is_tensor(value: Any) -> bool:
    """Whether ``value`` is a torch tensor (without importing torch)."""
    torch = sys.modules.get("torch")
    return torch is not None and issubclass(type(value), torch.Tensor)


def is_array(value: Any) -> bool:
    """Whether ``value`` is a NumPy array (without importing NumPy)."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and issubclass(type(value), numpy.ndarray)


# The type is asked, not isinstance(): a mock tells isinstance() whatever it was made to tell.
def _is_bool(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return type(value) is bool or (numpy is not None and issubclass(type(value), numpy.bool_))


def is_number(value: Any) -> bool:
    """Whether ``value`` is a real number: of Python, NumPy, a Fraction or a Decimal; no bool."""
    kinds = (numbers.Real, decimal.Decimal)
    return issubclass(type(value), kinds) and not _is_bool(value)


def as_number(value: Any) -> Any:
    """The number in a tensor or array without dimensions; anything else as it is."""
    try:
        if is_tensor(value) and value.dim() == 0:
            return value.item()
        if is_array(value) and value.ndim == 0 and not _is_masked(value):
            return value.item()
    except Exception:  # on the device "meta", for example
        return value
    return value


def as_float(number: Any) -> float | None:
    """A number (see ``is_number``) as a float; None if it is too large or not to be had."""
    try:
        return float(number)
    except Exception:
        return None


def snapshot(value: Any) -> Any:
    """A copy that shares no memory with ``value``; tensors lose their graph."""
    if is_tensor(value):
        return value.detach().clone()
    if isinstance(value, (tuple, list)):
        return (tuple if isinstance(value, tuple) else list)(snapshot(part) for part in value)
    if isinstance(value, dict):
        return {name: snapshot(part) for name, part in value.items()}
    return copy.deepcopy(value)


def parts_of(value: Any) -> Iterator[Any]:
    """The tensors and arrays in a result, in order."""
    if is_tensor(value) or is_array(value):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from parts_of(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from parts_of(part)


def share_memory(one: Any, other: Any) -> bool:
    """Whether a tensor or array of ``one`` lies in the memory of one of ``other``."""
    return any(_share(a, b) for a in parts_of(one) for b in parts_of(other))


def _share(a: Any, b: Any) -> bool:
    import numpy as np

    try:
        if is_tensor(a) and is_tensor(b):
            place = a.untyped_storage().data_ptr()
            return place != 0 and place == b.untyped_storage().data_ptr()
        return is_array(a) and is_array(b) and a.size > 0 and np.may_share_memory(a, b)
    except Exception:  # a kind of tensor that has no storage
        return False


class FormDifference(str):
    """What ``difference`` says of a type, a length, a shape or a dtype, rather than of values."""


def printable(text: str) -> str:
    """``text`` as any terminal and file takes it: control characters and surrogates escaped."""
    return "".join(
        c if c.isprintable() or c.isspace() else c.encode("unicode_escape").decode() for c in text
    )


def type_name(value: Any) -> str:
    """The name of a value's type."""
    try:
        return printable(type.__dict__["__name__"].__get__(type(value)))
    except Exception:
        return "an unknown type"


def describe(value: Any) -> str:
    """A few words on a value: dtype and shape of a tensor or array, otherwise its repr."""
    try:
        text = printable(_words(value))
    except Exception:
        return f"an object of type {type_name(value)}"
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _words(value: Any) -> str:
    if is_tensor(value) or is_array(value):
        kind = "tensor" if is_tensor(value) else "masked array" if _is_masked(value) else "array"
        return f"{_dtype(value)} {kind} of shape {tuple(value.shape)}"
    if isinstance(value, (tuple, list, dict, set, frozenset)):
        return f"{type_name(value)} of {len(value)}"
    if isinstance(value, types.GeneratorType):
        return "a generator"
    if is_number(value) and isinstance(value, numbers.Integral):
        whole = int(value)
        if whole.bit_length() > 100:
            return f"a whole number of about {round(whole.bit_length() * math.log10(2))} digits"
        return str(whole)
    if is_number(value) and not isinstance(value, (numbers.Rational, decimal.Decimal)):
        return f"{float(value):.6g}"
    if isinstance(value, (str, bytes)):
        return repr(value[: LONGEST + 1])
    return repr(value)


def _typed(value: Any) -> str:
    """``describe``, and the type where that does not say it."""
    if value is None or is_tensor(value) or is_array(value):
        return describe(value)
    if isinstance(value, (tuple, list, dict, set, frozenset, types.GeneratorType)):
        return describe(value)
    return f"{describe(value)} ({type_name(value)})"


def difference(
    expected: Any,
    got: Any,
    *,
    rtol: float,
    atol: float,
    names: Sequence[str] = (),
    any_float: Sequence[str] = (),
    path: str = "the result",
) -> str | None:
    """Say how ``got`` differs from ``expected`` (the first part that does), or ``None``.

    Type, length, shape and dtype first (as a ``FormDifference``); then NaN or infinity; then the
    largest difference and where it is. ``names`` names the parts of a tuple; those in ``any_float``
    may have any floating dtype. NaNs in the same place are equal. Never raises.
    """
    try:
        return _Comparison(rtol, atol, tuple(any_float)).of(expected, got, path, tuple(names))
    except Exception as error:
        why = type_name(error)
        return FormDifference(f"{path}: {_typed(got)} can't be compared ({why})")


@dataclass(frozen=True)
class _Comparison:
    """The tolerances of one comparison."""

    rtol: float
    atol: float
    any_float: tuple[str, ...]

    def of(
        self, expected: Any, got: Any, path: str, names: tuple[str, ...] = ()
    ) -> str | None:
        if got is None and expected is not None:
            wanted = _wanted(expected, names)
            return FormDifference(f"{path}: expected {wanted}, got None: is the `return` missing?")
        if isinstance(expected, (tuple, list)):
            return self._sequence(expected, got, path, names)
        if isinstance(expected, dict):
            return self._dict(expected, got, path)
        if is_tensor(expected) or is_array(expected):
            return self._array(expected, got, path)
        if _is_bool(expected):
            if not _is_bool(got):
                return FormDifference(f"{path}: expected True or False, got {_typed(got)}")
            same = bool(expected) == bool(got)
            return None if same else f"{path}: expected {expected}, got {got}"
        if is_number(expected):
            return self._number(expected, got, path)
        if type(got) is not type(expected):
            return FormDifference(f"{path}: expected {describe(expected)}, got {_typed(got)}")
        if got == expected:
            return None
        return f"{path}: expected {describe(expected)}, got {describe(got)}"

    def _sequence(self, expected, got, path, names) -> str | None:
        if not isinstance(got, (tuple, list)):
            advice = ": put it into `list(...)`" if isinstance(got, types.GeneratorType) else ""
            return FormDifference(
                f"{path}: expected {_wanted(expected, names)} of {len(expected)}, "
                f"got {_typed(got)}{advice}"
            )
        if len(got) != len(expected):
            wanted = f"{_wanted(expected, names)} of {len(expected)} parts"
            message = f"{path}: expected {wanted}, got {len(got)}"
            return FormDifference(message) if names else message
        labels = names or tuple(f"{path}[{i}]" for i in range(len(expected)))
        return self._first(zip(labels, expected, got, strict=True))

    def _dict(self, expected, got, path) -> str | None:
        if not isinstance(got, dict) or set(got) != set(expected):
            keys = f", with {sorted(map(str, got))}" if isinstance(got, dict) else ""
            wanted = f"a dict with the keys {sorted(expected)}"
            return FormDifference(f"{path}: expected {wanted}, got {_typed(got)}{keys}")
        return self._first((f"{path}[{name!r}]", expected[name], got[name]) for name in expected)

    def _first(self, parts) -> str | None:
        for path, expected, got in parts:
            found = self.of(expected, got, path)
            if found:
                return found
        return None

    def _number(self, expected, got, path) -> str | None:
        if not is_number(got):
            single = as_number(got) is not got or (is_tensor(got) and got.numel() == 1)
            advice = ": take .item()" if single else ""
            return FormDifference(f"{path}: expected a number, got {_typed(got)}{advice}")
        want, have = float(expected), as_float(got)
        if have is None:
            return f"{path}: expected {want:.8g}, got {describe(got)}"
        if math.isnan(have) and not math.isnan(want):
            return f"{path}: got NaN, expected {want:.6g}"
        if have == want or (math.isnan(have) and math.isnan(want)):
            return None
        if math.isfinite(want) and abs(have - want) <= self.atol + self.rtol * abs(want):
            return None
        gap = abs(have - want)
        return f"{path}: expected {want:.8g}, got {have:.8g} (difference {gap:.3g})"

    def _array(self, expected, got, path) -> str | None:
        import numpy as np

        if wrong := self._form(expected, got, path):
            return FormDifference(f"{path}: {wrong}")
        want, have = _numpy(expected), _numpy(got)
        if np.array_equal(have, want):
            return None
        lost = ~np.isfinite(have) & np.isfinite(want)
        if lost.any():
            where = _index(lost)
            if lost.size == 1:
                return f"{path}: got {have[where]}, expected {want[where]:.6g}"
            count = f"{lost.sum()} of {lost.size} not finite"
            return f"{path}: {have[where]} at {_show(where)} ({count})"
        wrong = ~np.isclose(have, want, rtol=self.rtol, atol=self.atol, equal_nan=True)
        if not wrong.any():
            return None
        with np.errstate(invalid="ignore"):  # inf - inf, where both agree
            gap = np.where(wrong, np.abs(have - want), 0.0)
        where = np.unravel_index(int(np.argmax(gap)), gap.shape)
        values = f"expected {want[where]:.6g}, got {have[where]:.6g}"
        if gap.size == 1:
            return f"{path}: {values} (difference {gap[where]:.3g})"
        return (
            f"{path}: {wrong.sum()} of {wrong.size} elements differ; largest difference "
            f"{gap[where]:.3g} at {_show(where)}:\n{values}"
        )

    def _form(self, expected, got, path) -> str | None:
        """What is wrong with the kind, shape or dtype of ``got``."""
        if is_tensor(expected) != is_tensor(got) or not (is_tensor(got) or is_array(got)):
            kind = "torch.Tensor" if is_tensor(expected) else "numpy.ndarray"
            return f"expected a {kind}, got {_typed(got)}"
        if _is_masked(got):
            return "expected a plain numpy.ndarray, got a masked array, whose gaps have no value"
        if is_tensor(got) and (odd := _odd_tensor(got)):
            return f"expected a plain tensor, got {odd}"
        if tuple(got.shape) != tuple(expected.shape):
            return f"expected shape {tuple(expected.shape)}, got {tuple(got.shape)}"
        both_float = _is_floating(got) and _is_floating(expected)
        same = _dtype(got) == _dtype(expected)
        if not same and not (both_float and path.removeprefix("the ") in self.any_float):
            return f"expected dtype {_dtype(expected)}, got {_dtype(got)}"
        return None


def _wanted(expected: Any, names: Sequence[str] = ()) -> str:
    """What kind of value was wanted, in words."""
    if names:
        return f"a tuple ({', '.join(names)})"
    if isinstance(expected, (tuple, list, dict)):
        return f"a {type(expected).__name__}"
    if _is_bool(expected):
        return "True or False"
    return "a number" if is_number(expected) else describe(expected)


def _odd_tensor(tensor: Any) -> str | None:
    """Why the values of a tensor can't be looked at, if they can't."""
    import torch

    if tensor.layout != torch.strided or getattr(tensor, "is_nested", False):
        return f"a sparse or nested one ({tensor.layout})"
    if tensor.is_quantized:
        return "a quantized one"
    return "one without values, on the device meta" if tensor.device.type == "meta" else None


def _is_masked(array: Any) -> bool:
    import numpy as np

    return isinstance(array, np.ma.MaskedArray)


def _is_floating(array: Any) -> bool:
    return array.is_floating_point() if is_tensor(array) else array.dtype.kind == "f"


def _dtype(array: Any) -> str:
    return str(array.dtype).removeprefix("torch.")


def _numpy(array: Any) -> np.ndarray:
    import numpy as np

    if is_tensor(array):
        import torch

        array = array.detach().as_subclass(torch.Tensor).cpu().resolve_conj().resolve_neg()
        array = array.double().numpy() if array.is_floating_point() else array.numpy()
    array = np.asarray(array)
    return array.astype("float64") if array.dtype.kind in "biuf" else array


def _index(mask: np.ndarray) -> tuple:
    import numpy as np

    return np.unravel_index(int(np.argmax(mask)), mask.shape)


def _show(index: Sequence[int]) -> str:
    return "[" + ", ".join(str(int(i)) for i in index) + "]"


def described(inputs: Mapping[str, Any]) -> str:
    """The arguments of a case in a few lines: alike tensors together, numbers with their values."""
    alike: dict[str, list[str]] = {}
    plain = []
    for name, value in inputs.items():
        if is_tensor(value) or is_array(value):
            alike.setdefault(describe(value), []).append(name)
        else:
            plain.append(f"{name}={describe(value)}")
    lines = [f"{', '.join(names)}: {text}" for text, names in alike.items()]
    return "\n".join([*lines, ", ".join(plain)]).strip()
