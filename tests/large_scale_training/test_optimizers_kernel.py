"""Lion's kernel for all tensors: equal to the reference, and never outside of its tensors.

Triton is installed only where there is a GPU. The first part is a small stand-in, which runs the
same source of the kernel on a CPU, one program after the other, at real addresses. It refuses to
read or write outside of the tensors that a test allows. It knows what ``_lion_triton`` uses, and no
more. Where Triton is installed, the last test runs the kernel in Triton's own interpreter too.
"""

import contextlib
import ctypes
import importlib
import importlib.util
import math
import os
import random
import subprocess
import sys
import types

import pytest
import torch
from torch import nn

from dlcourse.large_scale_training import AdamWScheduleFree, Lion, lion_step_reference

# --- The stand-in ----------------------------------------------------------------------------

_program = 0
_allowed = None  # [(first address, address after the last)], or None: anywhere


class Dtype:
    def __init__(self, torch_dtype):
        self.torch = torch_dtype


FLOAT32, BFLOAT16, FLOAT16, INT64 = map(
    Dtype, (torch.float32, torch.bfloat16, torch.float16, torch.int64)
)
_OF_TORCH = {d.torch: d for d in (FLOAT32, BFLOAT16, FLOAT16, INT64)}


class PointerType:
    def __init__(self, element):
        self.element = element


class Pointer:
    """Addresses: one, or one for each element of a block."""

    def __init__(self, address, element):
        self.address, self.element = address, element

    def __add__(self, offset):
        offset = offset.value if isinstance(offset, Value) else offset
        return Pointer(self.address + offset * self.element.torch.itemsize, self.element)


class Value:
    """A number or a block of numbers; arithmetic is torch's, rounded after each operation."""

    def __init__(self, value):
        self.value = value

    def to(self, kind):
        kind = getattr(kind, "value", kind)
        if isinstance(kind, PointerType):
            return Pointer(self.value, kind.element)
        return Value(self.value.to(kind.torch))


def _binary(name):
    def operation(self, other):
        return Value(getattr(self.value, name)(other.value if isinstance(other, Value) else other))

    return operation


for _name in "add radd sub rsub mul rmul floordiv lt gt".split():
    setattr(Value, f"__{_name}__", _binary(f"__{_name}__"))


def _cell(address, dtype):
    if _allowed is not None:
        end = address + dtype.itemsize
        if not any(begin <= address and end <= after for begin, after in _allowed):
            raise MemoryError(f"the kernel touched {address:#x}, which is none of its tensors")
    raw = (ctypes.c_char * dtype.itemsize).from_address(address)
    return torch.frombuffer(raw, dtype=dtype, count=1)


def _addresses(pointer, mask):
    addresses = torch.as_tensor(pointer.address).reshape(-1)
    mask = torch.ones(len(addresses), dtype=bool) if mask is None else mask.value.reshape(-1)
    return [(i, int(a)) for i, (a, inside) in enumerate(zip(addresses, mask)) if inside]


def load(pointer, mask=None):
    shape = torch.as_tensor(pointer.address).shape
    out = torch.full(shape, 77, dtype=pointer.element.torch)  # where the mask hides: any number
    for i, address in _addresses(pointer, mask):
        out.view(-1)[i] = _cell(address, out.dtype)[0]
    return Value(out)


def store(pointer, value, mask=None):
    values = value.value.to(pointer.element.torch).reshape(-1)
    for i, address in _addresses(pointer, mask):
        _cell(address, values.dtype)[0] = values[i]


def multiple_of(value, number):
    numbers = torch.as_tensor(value.address if isinstance(value, Pointer) else value.value)
    assert not (numbers.reshape(-1)[0] % number), f"the hint is not true: {numbers} % {number}"
    return value


def where(condition, yes, no):
    return Value(torch.where(condition.value, yes, no))


class Kernel:
    def __init__(self, function):
        self.function = function

    def __getitem__(self, grid):
        def launch(*args, num_warps=4, enable_fp_fusion=True, **constants):
            global _program, _allowed
            wrapped = [
                Pointer(a.data_ptr(), _OF_TORCH[a.dtype]) if isinstance(a, torch.Tensor) else a
                for a in args
            ]
            if _allowed is not None:
                tables = [a for a in args if isinstance(a, torch.Tensor)]
                _allowed = _allowed + list(map(_span, tables))
            for _program in range(grid[0]):
                self.function(*wrapped, **constants)

        return launch


def _span(tensor):
    begin = tensor.data_ptr()
    return begin, begin + tensor.numel() * tensor.element_size()


@contextlib.contextmanager
def memory(tensors, *, anything_new=False):
    """Within the block a kernel may touch these tensors and its tables only."""
    global _allowed
    _allowed = None if anything_new else list(map(_span, tensors))
    try:
        yield
    finally:
        _allowed = None


def modules():
    """``triton`` and ``triton.language``, to be put into ``sys.modules``."""
    language = types.ModuleType("triton.language")
    language.float32, language.bfloat16, language.float16 = FLOAT32, BFLOAT16, FLOAT16
    language.constexpr = object
    language.pointer_type = PointerType
    language.program_id = lambda axis: _program
    language.arange = lambda begin, end: Value(torch.arange(begin, end))
    language.load, language.store, language.where = load, store, where
    language.multiple_of = multiple_of
    triton = types.ModuleType("triton")
    triton.jit, triton.language = Kernel, language
    return {"triton": triton, "triton.language": language}


def parameters(seed, shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    values = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [nn.Parameter(value.to(dtype)) for value in values]


def gradients(seed, params, missing=0.0):
    """Random gradients of very different sizes; each is None with probability `missing`."""
    generator = torch.Generator().manual_seed(seed)
    chance = random.Random(seed)
    values = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in params]
    return [
        None if chance.random() < missing else (v * 10 ** chance.uniform(-4, 2)).to(p.dtype)
        for v, p in zip(values, params)
    ]


def set_gradients(params, grads):
    for p, g in zip(params, grads):
        p.grad = None if g is None else g.clone()


def largest_difference(first, second):
    return max(((a - b).abs().max().item() for a, b in zip(first, second) if a.numel()), default=0)


def train(optimizer, params, steps):
    for step in range(steps):
        set_gradients(params, gradients(step, params))
        optimizer.step()


# --- One kernel for all tensors --------------------------------------------------------------

RAGGED = [(), (3,), (0,), (8,), (16,), (2, 8), (17,), (5, 7)]


@pytest.fixture
def kernel(monkeypatch):
    """``_lion_triton`` on a CPU, with blocks of 8 elements, run by a stand-in for Triton."""
    importlib.import_module("torch._dynamo")  # it looks for Triton: before the stand-in is there
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    for name, module in modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    name = "dlcourse.large_scale_training.optimizers._lion_triton"
    package = importlib.import_module("dlcourse.large_scale_training.optimizers")
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delattr(package, "_lion_triton", raising=False)
    module = importlib.import_module(name)
    monkeypatch.setattr(module, "BLOCK", 8)
    yield module
    sys.modules.pop(name, None)
    if hasattr(package, "_lion_triton"):
        delattr(package, "_lion_triton")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("seed", range(3))
def test_the_kernel_is_the_reference_for_every_tensor_and_touches_nothing_else(kernel, seed, dtype):
    params = parameters(seed, RAGGED, dtype)
    expected = [p.detach().float().clone() for p in params]
    momenta = [torch.zeros_like(p) for p in expected]
    settings = {"lr": 0.03, "beta1": 0.9, "beta2": 0.97, "weight_decay": 0.3}
    optimizer = Lion(
        params, lr=0.03, betas=(0.9, 0.97), weight_decay=0.3, implementation="triton"
    )
    for step in range(4):
        grads = gradients(10 * seed + step, params, missing=0.2)
        set_gradients(params, grads)
        allowed = [t for p in params for t in (p, p.grad) if t is not None]
        allowed += [s["exp_avg"] for s in optimizer.state.values()]
        new_states = any(g is not None and p not in optimizer.state for p, g in zip(params, grads))
        with memory(allowed, anything_new=new_states):
            optimizer.step()
        for i, g in enumerate(grads):
            if g is not None:
                new, momenta[i] = lion_step_reference(
                    expected[i], g.float(), momenta[i], **settings
                )
                expected[i] = new.to(dtype).float()
        assert largest_difference([p.detach().float() for p in params], expected) < 1e-6


def test_the_kernel_knows_no_sign_of_zero_and_none_of_nan(kernel):
    p = nn.Parameter(torch.ones(4))
    p.grad = torch.tensor([0.0, math.nan, 2.0, -2.0])
    Lion([p], lr=0.5, implementation="triton").step()
    assert p.tolist() == [1.0, 1.0, 0.5, 1.5]


def test_what_the_kernel_can_not_take_goes_the_usual_way(kernel):
    """float64, gaps in memory, and a gradient that lies otherwise than its parameter."""

    def some():
        double = parameters(0, [(4, 5)])[0]
        gaps = nn.Parameter(parameters(1, [(4, 6)], torch.float32)[0].detach()[:, ::2])
        turned = parameters(2, [(4, 5), (4, 5), (3,)], torch.float32)
        turned[1].data = turned[1].data.t().contiguous().t()
        return [double, gaps, *turned]

    ends = []
    for implementation in ("loop", "triton"):
        params = some()
        optimizer = Lion(params, lr=0.1, weight_decay=0.1, implementation=implementation)
        for step in range(5):
            set_gradients(params, gradients(step, params))
            for p in params[2:4]:  # of the first its parameter lies otherwise, of the second not
                p.grad = p.grad.t().contiguous().t()
            optimizer.step()
        ends.append(params)
    assert largest_difference(*ends) < 1e-6
    assert [kernel.fits(p, p.grad, optimizer.state[p]["exp_avg"]) for p in ends[1]] == [
        *(False, False, False),
        *(True, True),
    ]


@pytest.mark.parametrize("sizes", [(1,), (0, 0), (8, 16, 3), (0, 17, 0, 8, 1)])
def test_every_element_belongs_to_one_program(kernel, sizes):
    owners, blocks, on_device = kernel.work(sizes, 8, torch.device("cpu"))
    assert on_device.tolist() == list(sizes)
    seen = [[0] * size for size in sizes]
    for owner, block in zip(owners.tolist(), blocks.tolist()):
        covered = range(8 * block, min(8 * (block + 1), sizes[owner]))
        assert len(covered)  # no program without work
        for i in covered:
            seen[owner][i] += 1
    assert all(count == 1 for counts in seen for count in counts)


def test_hints_of_alignment_are_given_only_where_they_hold(kernel):
    assert kernel.aligned((16, 32), (1024, 2048))
    assert not kernel.aligned((16, 8), (1024, 2048))
    assert not kernel.aligned((16, 32), (1024, 2052))


def test_the_kernel_refuses_a_cpu_and_an_absent_triton_in_words(monkeypatch, kernel):
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    params = parameters(0, [(3,)], torch.float32)
    with pytest.raises(RuntimeError, match="on a GPU"):
        train(Lion(params, implementation="triton"), params, 1)
    package = importlib.import_module("dlcourse.large_scale_training.optimizers")
    monkeypatch.delattr(package, "_lion_triton")
    monkeypatch.setitem(sys.modules, package.__name__ + "._lion_triton", None)
    with pytest.raises(RuntimeError, match="needs the package triton"):
        train(Lion(params, implementation="triton"), params, 1)
    with pytest.raises(ValueError, match="implementation must be one of"):
        AdamWScheduleFree(params, implementation="triton")


def test_the_package_does_not_import_triton():
    code = "import sys; from dlcourse.large_scale_training import Lion; print('triton' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


INTERPRETED = """
import torch
from dlcourse.large_scale_training import Lion
ends = []
for form in ("loop", "triton"):
    generator = torch.Generator().manual_seed(0)
    shapes = [(5000,), (3,), (64, 64)]
    ps = [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in shapes]
    optimizer = Lion(ps, lr=0.01, weight_decay=0.1, implementation=form)
    for _ in range(3):
        for p in ps:
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()
    ends.append(torch.cat([p.detach().flatten() for p in ps]))
assert ((ends[0] - ends[1]).abs() > 1e-6).sum() <= 1, (ends[0] - ends[1]).abs().max()
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_the_kernel_in_tritons_own_interpreter():
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", INTERPRETED], check=True, env=environment)
