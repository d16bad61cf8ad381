"""Facts about a model in a process of its own: section 123.2a."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest

from dlcourse.ml_system_design import (
    ModelError,
    ModelProcess,
    ModelProcessDied,
    ModelProcessError,
    ModelProcessTimeout,
    ModelService,
)

HANG, DIE, RAISE, EXIT, OBJECT, BIG, SLOW = -1, -2, -3, -4, -5, -6, -7


def doubling(factor=2):
    """A model that doubles, and does what a negative number tells it to."""

    def model(x):
        if (x == HANG).any():
            time.sleep(600)
        if (x == SLOW).any():
            time.sleep(2)
        if (x == DIE).any():
            os._exit(7)
        if (x == RAISE).any():
            raise ValueError("not this one: \ud800")
        if (x == EXIT).any():
            raise SystemExit("leaves")
        if (x == OBJECT).any():
            return np.array([object()])
        if (x == BIG).any():
            return np.arange(3_000_000.0)
        x *= factor  # its own array, which it may change
        return x

    return model


def failing(text):
    raise FileNotFoundError(text)


def ending():
    os._exit(3)


def hanging():
    time.sleep(600)


def after_a_look_at(path):
    """Makes the model the first time only."""
    with open(path, "x"):
        return doubling()


def ended(pid):
    """Whether a process is gone, its exit code read by its parent."""
    return not psutil.pid_exists(pid)


def wait_until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def model():
    with ModelProcess(doubling, timeout=60.0) as model:
        yield model


@pytest.mark.parametrize(
    "x",
    [
        np.arange(6.0).reshape(2, 3),
        np.zeros((0, 3), np.float32),
        np.array(4, np.int16),
        np.array([1 + 2j, 3]),
        np.asfortranarray(np.arange(12, dtype=np.uint8).reshape(3, 4)),
        np.arange(20)[::3],
        [1.5, 2.5],
    ],
)
def test_values_dtype_and_shape_come_back_and_the_input_stays_as_it_was(model, x):
    before = np.array(x)
    y = model(x)
    assert model.pid != os.getpid() and np.array_equal(x, before)
    assert np.array_equal(y, 2 * before) and y.dtype == before.dtype and y.shape == before.shape


def test_arrays_larger_than_any_pipe_come_through_both_ways(model):
    x = np.random.default_rng(0).random(4_000_000)  # 32 MB
    assert np.array_equal(model(x), 2 * x)
    assert np.array_equal(model([BIG]), np.arange(3_000_000.0))


@pytest.mark.parametrize(
    "x, message",
    [
        (RAISE, "^ValueError: not this one: \ud800(\n|$)"),
        (EXIT, "^SystemExit: leaves(\n|$)"),
        (OBJECT, "^ValueError: Object arrays cannot be saved"),
    ],
)
def test_what_the_model_raises_travels_with_type_and_text_and_the_process_goes_on(
    model, x, message
):
    pid = model.pid
    with pytest.raises(ModelProcessError, match=message) as caught:
        model([x])
    assert "Traceback" in caught.value.__notes__[0]
    assert model([3]) == [6] and model.pid == pid


def test_an_input_of_python_objects_is_refused_here(model):
    with pytest.raises(ValueError, match="Object arrays"):
        model([object()])
    assert model([3]) == [6]


def test_a_process_that_dies_in_a_call_fails_that_call_alone_and_another_one_answers(model):
    pid = model.pid
    with pytest.raises(ModelProcessDied, match="exit code 7"):
        model([DIE])
    assert ended(pid) and model.pid != pid
    assert model([3]) == [6]


def test_ctrl_c_does_not_reach_the_model_and_the_answer_that_it_left_meets_no_other_call(model):
    os.kill(model.pid, signal.SIGINT)
    assert model([3]) == [6]
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        model([SLOW, 1])
    assert (model([5, 6]) == [10, 12]).all()


def test_a_process_that_was_killed_between_two_calls_is_replaced_too(model):
    pid = model.pid
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ModelProcessDied, match="exit code -9"):
        model([3])
    assert ended(pid) and model([3]) == [6]


@pytest.mark.parametrize("stopped", [False, True])
def test_a_call_that_takes_too_long_is_ended_even_where_the_process_reads_no_more(stopped):
    with ModelProcess(doubling, timeout=0.5) as model:
        pid = model.pid
        x = np.full(1_000_000, 3.0)
        if stopped:  # so that the array fills the pipe, and sending it has no end
            os.kill(pid, signal.SIGSTOP)
        else:
            x[0] = HANG
        began = time.monotonic()
        with pytest.raises(ModelProcessTimeout, match="within 0.5 s"):
            model(x)
        assert 0.5 <= time.monotonic() - began < 20
        assert ended(pid)
        assert model([3]) == [6]  # the start of the new process counts for no call


def test_behind_a_service_the_hanging_and_the_deadly_request_fail_alone():
    async def main():
        with ModelProcess(doubling, timeout=1.0) as model:
            async with ModelService(model, max_batch_size=8, max_delay=0.2) as service:
                asked = [service.submit(float(x)) for x in (1, HANG, 3, DIE, 5)]
                return await asyncio.gather(*asked, return_exceptions=True)

    first, hung, third, died, last = asyncio.run(main())
    assert (first, third, last) == (2, 6, 10)
    assert isinstance(hung, ModelError) and isinstance(hung.__cause__, ModelProcessTimeout)
    assert isinstance(died, ModelError) and isinstance(died.__cause__, ModelProcessDied)


def test_a_limit_of_any_length_is_kept_to_and_one_of_other_sockets_is_not():
    socket.setdefaulttimeout(0.01)
    try:
        with ModelProcess(doubling, timeout=1e300) as model:
            assert (model([SLOW, 1]) == [2 * SLOW, 2]).all()
    finally:
        socket.setdefaulttimeout(None)


def test_closing_ends_the_process_and_the_call_that_runs_and_leaves_no_zombie():
    model = ModelProcess(doubling)
    pid, caught = model.pid, []

    def call():
        try:
            model([HANG])
        except ModelProcessError as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    wait_until(model._lock.locked)
    model.close()
    thread.join(20)
    assert ended(pid) and [str(error) for error in caught] == ["the model's process was closed"]
    model.close()  # twice is once
    with pytest.raises(ModelProcessError, match="was closed"):
        model([3])


def test_calls_of_several_threads_take_turns(model):
    found = {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: model([i, i])})) for i in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert all((found[i] == 2 * i).all() for i in range(20))


def test_a_model_that_cannot_be_made_says_why_and_leaves_no_process(model):
    before = set(psutil.Process().children())
    with pytest.raises(ModelProcessError, match="^FileNotFoundError: weights(\n|$)"):
        ModelProcess(failing, "weights")
    with pytest.raises(ModelProcessDied, match="exit code 3"):
        ModelProcess(ending)
    with pytest.raises(ModelProcessTimeout, match="within 0.5 s"):
        ModelProcess(hanging, start_timeout=0.5)
    assert set(psutil.Process().children()) == before  # zombies would be among them


def test_a_model_that_cannot_be_made_anew_fails_each_call_until_it_can(tmp_path):
    with ModelProcess(after_a_look_at, str(tmp_path / "once")) as model:
        assert model([3]) == [6]
        with pytest.raises(ModelProcessDied):
            model([DIE])
        for _ in range(2):
            with pytest.raises(ModelProcessError, match="^FileExistsError"):
                model([3])
        os.remove(tmp_path / "once")
        with contextlib.suppress(ModelProcessError):  # of a process that had started before
            model([3])
        assert model([3]) == [6]


def test_the_model_ends_with_a_process_that_is_killed():
    code = (
        "import time\n"
        "from test_model_process import doubling\n"
        "from dlcourse.ml_system_design import ModelProcess\n"
        "if __name__ == '__main__':\n"
        "    print(ModelProcess(doubling).pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    folder = os.path.dirname(__file__)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=folder,
        env={**os.environ, "PYTHONPATH": folder},
    ) as parent:  # fmt: skip
        pid = int(parent.stdout.readline())
        child = psutil.Process(pid)
        parent.kill()
    gone = psutil.STATUS_ZOMBIE  # it was given to another parent, which may not ask for its end
    wait_until(lambda: not child.is_running() or child.status() == gone)


@pytest.mark.parametrize(
    "arguments, options, error, message",
    [
        ((3,), {}, TypeError, "factory must be a function that makes the model"),
        ((lambda: abs,), {}, TypeError, "factory must be a function of a module"),
        ((doubling, threading.Lock()), {}, TypeError, "its arguments data"),
        ((doubling,), {"timeout": 0}, ValueError, "timeout must be finite and > 0"),
        ((doubling,), {"start_timeout": "1"}, TypeError, "start_timeout must be a number"),
    ],
)
def test_process_with_bad_arguments(arguments, options, error, message):
    with pytest.raises(error, match=message):
        ModelProcess(*arguments, **options)
