"""The portable form: ONNX, run by ONNX Runtime, and the same with weights of eight bits.

Source: ONNX (onnx.ai) and ONNX Runtime (onnxruntime.ai), *Quantize ONNX models*. Dynamic
quantisation keeps weights in eight bits with one scale a column; activations are turned to uint8 at
each call, by the range that they have there (Jacob et al., 2018, CVPR, equation 1).
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dlcourse.files import try_writing

from .beside import written_beside
from .errors import WrongInputs
from .package import BATCHES
from .program import checked_example, export_program, largest_difference


class OnnxModel:
    """An ONNX file in a session of ONNX Runtime on the CPU; tensors in, a tensor or a list out.

    Args:
        path: of the file.
        threads: of one operator; None leaves it to ONNX Runtime.

    Raises FileNotFoundError where there is no such file.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None):
        import onnxruntime

        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no file {path}: write it with export_onnx")
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        if threads is not None:
            settings.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            str(path), settings, providers=["CPUExecutionProvider"]
        )
        self._names = [x.name for x in self.session.get_inputs()]

    def __call__(self, *inputs: Tensor) -> Any:
        """Raises WrongInputs where number, dtypes or shapes are not the file's."""
        if len(inputs) != len(self._names):
            raise WrongInputs(f"the model takes {len(self._names)} inputs: got {len(inputs)}")
        feeds = {
            name: x.detach().cpu().contiguous().numpy()
            for name, x in zip(self._names, inputs, strict=True)
        }
        from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

        try:
            answers = [torch.from_numpy(y) for y in self.session.run(None, feeds)]
        except InvalidArgument as error:
            raise WrongInputs(f"ONNX Runtime refuses the inputs: {error}") from error
        return answers[0] if len(answers) == 1 else answers


def export_onnx(
    model: nn.Module,
    example_inputs: Sequence[Tensor],
    path: str | os.PathLike[str],
    dynamic_batch: bool = True,
    *,
    tolerance: float = 1e-5,
) -> float:
    """Write a model as ONNX, compare it with ``model``, and rename it into place.

    Arguments as ``compile_ahead_of_time``; on the CPU, weights within the file (2 GB at most).

    Returns the largest relative difference to eager that was seen.

    Raises TypeError, ValueError, NotEqualToEager, OSError as ``compile_ahead_of_time`` does.
    """
    inputs = checked_example(model, example_inputs, dynamic_batch)
    if inputs[0].device.type != "cpu":
        raise ValueError("export_onnx works on the CPU: move model and inputs there first")
    try_writing(path)
    graph = export_program(model, inputs, dynamic_batch)
    with written_beside(path) as beside:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(graph, dynamo=True, verbose=False)
            program.save(str(beside), external_data=False)
        sizes = (None, *BATCHES) if dynamic_batch else (None,)
        found = largest_difference(model, OnnxModel(beside), inputs, tolerance, sizes)
    return found


def quantize_onnx(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    operators: Sequence[str] = ("MatMul",),
    weights: Literal["uint8", "int8"] = "uint8",
) -> None:
    """Write an ONNX file of float32 with eight-bit weights; activations are quantised at each call.

    Args:
        operators: kinds whose weights are quantised. "MatMul" has the linear layers ("Gemm" is
            turned into it); "Conv" makes convolutions smaller too.
        weights: "uint8" has a zero point a column. "int8" has none, but multiplies uint8 by int8,
            and on x86 processors without VNNI the instruction for that clips its sums of two
            products at 16 bits: answers may then be wrong far beyond rounding.

    What it costs in accuracy must be measured: see the page. The file is renamed into place.

    Raises FileNotFoundError, OSError, ValueError: ``source`` is not there, ``target`` can't be
    written, ``weights`` is another word.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    if weights not in ("uint8", "int8"):
        raise ValueError(f"weights must be 'uint8' or 'int8': got {weights!r}")

    if not Path(source).is_file():
        raise FileNotFoundError(f"there is no file {source}: write it with export_onnx")
    try_writing(target)
    with written_beside(target) as beside:
        with _quiet():
            quantize_dynamic(
                Path(source),
                beside,
                op_types_to_quantize=list(operators),
                per_channel=True,
                weight_type=QuantType.QUInt8 if weights == "uint8" else QuantType.QInt8,
                extra_options={"DefaultTensorType": 1},  # float32, where shape inference gives up
            )


@contextlib.contextmanager
def _quiet():
    """The exporters report their steps, and warn of their own future; errors still come through."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
