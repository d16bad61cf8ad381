"""The time limit, on the main thread and off it."""

import signal
import threading
import time

import pytest

from dlcourse.exercises.limits import TimeLimit, time_limit


FAR = 120  # seconds that no limit of these tests is near to, on the busiest machine


def spin(seconds):
    """A loop without an end in sight, under a limit; returns how long it was let run."""
    begun = time.monotonic()
    with pytest.raises(TimeLimit), time_limit(seconds):
        while time.monotonic() < begun + FAR:
            pass
    return time.monotonic() - begun


def elsewhere(function, *args):
    found = []
    thread = threading.Thread(target=lambda: found.append(function(*args)), daemon=True)
    thread.start()
    thread.join(FAR)
    assert not thread.is_alive()
    return found[0]


def test_an_endless_loop_on_the_main_thread_is_interrupted():
    assert spin(0.2) >= 0.2


def test_an_endless_loop_on_another_thread_is_interrupted():
    assert elsewhere(spin, 0.2) >= 0.2


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="the alarm needs Unix")
def test_a_sleep_on_the_main_thread_is_interrupted():
    begun = time.monotonic()
    with pytest.raises(TimeLimit), time_limit(0.1):
        time.sleep(FAR)
    assert time.monotonic() < begun + FAR


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="the alarm needs Unix")
def test_the_limit_does_not_reach_beyond_its_block_on_the_main_thread():
    for _ in range(20):
        with time_limit(FAR):
            assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_the_limit_does_not_reach_beyond_its_block_on_another_thread():
    def run():
        before = set(threading.enumerate())
        for _ in range(20):
            with time_limit(FAR):
                (watcher,) = set(threading.enumerate()) - before
            watcher.join(FAR)
            assert not watcher.is_alive()  # nobody is left to ring
        return True

    assert elsewhere(run)


def test_a_handler_of_exceptions_in_the_loop_does_not_swallow_the_limit():
    with pytest.raises(TimeLimit), time_limit(0.1):
        for _ in iter(time.monotonic, None):
            try:
                pass
            except Exception:
                pass


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="the alarm needs Unix")
def test_the_previous_alarm_handler_comes_back():
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(1):
        assert signal.getsignal(signal.SIGALRM) is not before
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
