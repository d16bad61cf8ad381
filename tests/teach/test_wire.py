"""Values travel as JSON, and what is no value is refused."""

import json

import numpy as np
import pytest

from dlcourse.exercises.compare import difference
from dlcourse.teach.wire import WireError, decode, encode

torch = pytest.importorskip("torch")

VALUES = [
    None, True, 3, -0.5, "tëxt", b"\x00\xff", 2**64, float("inf"), (1, [2.0, ()]),
    {"a": {"b": None}},
    np.arange(6.0).reshape(2, 3).T, np.zeros((0, 2)), np.array(True),
    torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).T,
    torch.tensor(2), torch.tensor([True]), torch.ones(3, dtype=torch.bfloat16) / 3,
    torch.tensor([1 + 2j]), torch.zeros(2, 0), torch.ones(2, requires_grad=True) * 2,
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_a_value_comes_back_as_it_was(value):
    back = decode(json.loads(json.dumps(encode(value))))
    assert type(back) is type(value)
    assert difference(value, back, rtol=0, atol=0) is None


def test_nan_comes_back():
    assert np.isnan(decode(json.loads(json.dumps(encode(float("nan")))))), "one NaN"


@pytest.mark.parametrize("value", [object(), {1: 2}, print, bytearray(b"x"), 1j,
                                   np.array([object()]),
                                   np.ma.masked_all(2), 2**2000, torch.eye(2).to_sparse(),
                                   torch.zeros(2, device="meta"), {1, 2}],
                         ids=lambda value: type(value).__name__)
def test_what_is_no_answer_cannot_be_sent(value):
    with pytest.raises(WireError):
        encode(value)


TENSOR = {"kind": "tensor", "dtype": "float32", "shape": [1], "data": "AACAPw=="}


@pytest.mark.parametrize(
    "message",
    [
        [], {}, {"kind": "pickle", "data": ""}, {"kind": "tuple", "parts": 3},
        {"kind": "dict", "parts": []}, {"kind": "float", "value": "x"},
        {**TENSOR, "dtype": "object"}, {**TENSOR, "dtype": "O"}, {**TENSOR, "shape": [2]},
        {**TENSOR, "shape": ["a"]}, {**TENSOR, "data": "!AACAPw=="}, {**TENSOR, "data": 3},
    ],
    ids=str,
)  # fmt: skip
def test_a_forged_message_is_refused(message):
    with pytest.raises(WireError):
        decode(message)


def test_the_message_that_the_forgeries_begin_from_is_right():
    assert torch.equal(decode(TENSOR), torch.ones(1))
