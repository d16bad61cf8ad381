"""What page 123.2b measures: the models, the ways to run them, and the thread of the graphs."""

import threading

import pytest
import torch

from dlcourse.ml_system_design import export_onnx
from dlcourse.ml_system_design.experiments import ahead_of_time as experiments


@pytest.mark.parametrize("name, classes", [("MLP", 10), ("ViT", 10), ("EfficientNet-Lite0", 1000)])
@torch.no_grad()
def test_a_model_takes_its_inputs_and_is_the_same_for_the_same_seed(name, classes):
    x = experiments.inputs(name, 2)
    answer = experiments.model(name)(x)
    assert answer.shape == (2, classes) and answer.isfinite().all()
    assert torch.equal(answer, experiments.model(name)(x))
    assert not torch.equal(answer, experiments.model(name, seed=1)(x))


def test_another_model_is_refused_by_name():
    with pytest.raises(ValueError, match="one of MLP, ViT, EfficientNet-Lite0: got 'CNN'"):
        experiments.model("CNN")


@torch.no_grad()
def test_eager_and_onnx_runtime_are_ready_with_the_same_answers(tmp_path):
    x = experiments.inputs("MLP", 3)
    export_onnx(experiments.model("MLP"), (x,), tmp_path / "m.onnx")
    eager = experiments.ready("eager", "MLP")(x)
    onnx = experiments.ready("ONNX Runtime", "MLP", tmp_path / "m.onnx")(x)
    assert torch.allclose(onnx, eager, atol=1e-5)


def test_a_first_answer_of_a_new_process_takes_time_and_a_failure_is_told(tmp_path):
    assert 0 < experiments.cold_start("eager", "MLP", None, tmp_path) < 600
    with pytest.raises(RuntimeError, match="gone.onnx"):
        experiments.cold_start("ONNX Runtime", "MLP", tmp_path / "gone.onnx", tmp_path)


def test_all_calls_go_to_one_thread_and_errors_come_back():
    owner = experiments.OneThread()
    threads = {owner.call(threading.get_ident) for _ in range(5)}
    assert len(threads) == 1 and threads != {threading.get_ident()}
    with pytest.raises(ZeroDivisionError):
        owner.call(lambda: 1 / 0)
    owner.close()


@torch.no_grad()
def test_the_vit_takes_bytes():
    net = experiments.vit_b16("cpu", torch.float32, toy=True)
    bright, dark = (torch.full((2, 3, 32, 32), v, dtype=torch.uint8) for v in (255, 0))
    assert net(bright).shape == (2, 1000) and not torch.equal(net(bright), net(dark))


def test_a_compiler_that_crashes_in_its_process_is_an_error_here(tmp_path, monkeypatch):
    # Python's own way to die of a signal, in place of a package that takes the process with it.
    crash = "import ctypes; ctypes.string_at(0)"
    monkeypatch.setattr(experiments.sys, "executable", _interpreter_that_runs(tmp_path, crash))
    with pytest.raises(RuntimeError, match="AOTInductor failed with -11"):
        experiments.compile_vit_apart("cpu", torch.float32, True, tmp_path / "vit.pt2")


def _interpreter_that_runs(folder, code):
    script = folder / "python"
    script.write_text(f"#!/bin/sh\nexec {experiments.sys.executable} -c '{code}'\n")
    script.chmod(0o755)
    return str(script)


def test_a_call_that_keeps_the_interpreter_stops_a_counter_and_one_that_sleeps_does_not():
    def keeps():  # one C function of Python, which gives nobody else a turn
        sum(range(3_000_000))

    took, pause = experiments.longest_pause(keeps, 0.5)
    assert pause > 0.5 * took
    took, pause = experiments.longest_pause(lambda: experiments.time.sleep(0.1), 0.5)
    assert pause < 0.5 * took


def test_what_is_prepared_in_a_process_that_fails_is_told():
    with pytest.raises(RuntimeError, match="torch.compile, CNN failed"):
        experiments.prepare_apart("torch.compile", "CNN", (1,))
