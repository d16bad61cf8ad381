"""Values go from a recorded cell to later ones; "Run All" passes over the cell."""

import atexit
import json
import math
import sys
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

from dlcourse.build.kernel import kernel_environment
from dlcourse.notebook import keep, recorded, records, values_of
from dlcourse.notebook.recorded import RECORDING, _Hand, load_ipython_extension
from dlcourse.notebook.records import CellRecord, RecordError

MODULE = sys.modules["dlcourse.notebook.recorded"]  # the function has the module's name


def record(kind="long", **changes):
    fields = {
        "kind": kind,
        "device": "EPYC",
        "versions": {"torch": "2.11.0"},
        "date": "2026-01-02",
        "commit": "abc1234",
        "seconds": 300.0,
        "peak_memory_mb": 900.5,
        "cell": "a" * 64,
        "code": "b" * 64,
        "outputs": [{"output_type": "stream", "name": "stdout", "text": "as recorded\n"}],
        "values": {"loss": [1.5, 0.5], "name": "Lion"},
    }
    return CellRecord(**{**fields, **changes})


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Records of the section 1.2: a long cell and a gpu cell."""
    path = tmp_path_factory.mktemp("records") / "2_toy.json"
    records.write_records(path, {"slow": record(), "big": record("gpu")})
    return path


@pytest.fixture
def installed(file, monkeypatch):
    monkeypatch.setattr(records, "installed_records", lambda chapter, section: file)


# --- values ---------------------------------------------------------------------------------------


def test_recorded_values_are_read_by_name(installed):
    found = recorded("1.2.slow")
    assert found["loss"] == [1.5, 0.5] and dict(found) == {"loss": [1.5, 0.5], "name": "Lion"}
    assert "Recorded on EPYC with PyTorch 2.11.0 on 2026-01-02" in found.origin
    assert "in 5 minutes" in found.origin


def test_a_value_that_was_not_kept_is_named_with_those_that_were(installed):
    with pytest.raises(KeyError, match="record of 1.2.slow has no 'speed'; it keeps: loss, name"):
        recorded("1.2.slow")["speed"]


def test_a_cell_that_is_not_recorded_is_named_with_the_command_that_does_it(installed):
    with pytest.raises(RecordError, match=r"big, slow.*dlcourse record --cell 1\.2\.none"):
        recorded("1.2.none")


def test_values_of_gives_them_all_or_none(installed):
    assert values_of("1.2.slow", "loss", "name") == recorded("1.2.slow")
    assert values_of("1.2.slow", "loss", "speed") is None  # a record of another form
    assert values_of("1.2.none", "loss") is None


class Device:
    """What is no value."""


@pytest.mark.parametrize(
    "value, plain",
    [
        (1 / 3, 0.3333333),
        (np.float32(0.1), 0.1),
        (torch.tensor(0.1), 0.1),
        (torch.tensor([1.0, 2.5], requires_grad=True), [1.0, 2.5]),
        (torch.tensor([1.5], dtype=torch.bfloat16), [1.5]),
        (np.arange(3), [0, 1, 2]),
        (np.bool_(True), True),
        (torch.Size([2, 3]), [2, 3]),
        (2**70, 2**70),
        (Fraction(1, 4), 0.25),
        (123456789.0, 123456800.0),
        (math.inf, math.inf),
        ("text", "text"),
        (None, None),
        ({"a": (1, torch.ones(2)), 3: []}, {"a": [1, [1.0, 1.0]], "3": []}),
    ],
)
def test_values_become_plain_ones(value, plain, monkeypatch):
    shown = kept_by(monkeypatch, value=value)
    assert shown == {"value": plain} and type(shown["value"]) is type(plain)


def test_not_a_number_stays_one(monkeypatch):
    assert math.isnan(kept_by(monkeypatch, value=torch.tensor(math.nan))["value"])


def kept_by(monkeypatch, **values):
    """What ``keep`` hands on in a recording."""
    shown = []
    monkeypatch.setenv(RECORDING, "1")
    monkeypatch.setattr(MODULE, "show", shown.append)
    keep(**values)
    (bundle,) = shown
    return json.loads(bundle[records.VALUES_TYPE])


@pytest.mark.parametrize(
    "value, named",
    [
        (Device(), "keep can't keep speed, a Device"),
        ([1, {"a": Device()}], r"keep can't keep speed\[1\]\['a'\], a Device"),
        (1 + 2j, "speed, a complex"),
        ({1, 2}, "speed, a set"),
    ],
)
def test_what_is_no_value_is_refused_also_outside_of_a_recording(value, named):
    with pytest.raises(TypeError, match=named):
        keep(speed=value)


def test_outside_of_a_recording_nothing_is_shown(capsys, monkeypatch):
    monkeypatch.delenv(RECORDING, raising=False)
    keep(speed=3)
    assert capsys.readouterr().out == ""


# --- who has started a cell -----------------------------------------------------------------------


class Clock:
    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(MODULE, "time", SimpleNamespace(monotonic=lambda: self.now))

    def wait(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def run(hand, source, cell_id=None):
    """A cell that takes no time; whether a person has started it."""
    hand.before(SimpleNamespace(raw_cell=source, cell_id=cell_id))
    by_hand = hand.started_by_hand
    hand.after(None)
    return by_hand


def test_a_cell_that_follows_at_once_is_not_started_by_hand(clock):
    hand = _Hand()
    hand.after(None)  # of the cell that loads the extension
    assert [run(hand, "a"), run(hand, "b")] == [False, False]
    clock.wait(2.9)
    assert not run(hand, "c")


def test_a_cell_after_a_pause_is_started_by_hand(clock):
    hand = _Hand()
    run(hand, "a")
    clock.wait(3.1)
    assert run(hand, "b")


def test_the_time_of_the_cell_before_is_no_pause(clock):
    hand = _Hand()
    hand.before(SimpleNamespace(raw_cell="slow", cell_id=None))
    clock.wait(60)
    hand.after(None)
    assert not run(hand, "b")


def test_a_cell_twice_in_a_row_is_started_by_hand(clock):
    hand = _Hand()
    run(hand, "a")
    assert [run(hand, "b"), run(hand, "b"), run(hand, "c")] == [False, True, False]


def test_two_cells_with_the_same_text_are_not_one_cell_twice(clock):
    hand = _Hand()
    run(hand, "a")
    assert [run(hand, "b", "id-1"), run(hand, "b", "id-2"), run(hand, "b", "id-2")] == [
        *(False, False, True)
    ]


def test_a_cell_within_a_cell_changes_nothing(clock):
    hand = _Hand()
    run(hand, "a")
    hand.before(SimpleNamespace(raw_cell="b"))
    clock.wait(60)
    assert not run(hand, "inner")
    hand.after(None)
    assert not run(hand, "c")


# --- the magic, in a shell of its own -------------------------------------------------------------


@pytest.fixture
def shell(installed, clock, monkeypatch, tmp_path):
    """A shell that has just loaded the extension. ``ran`` in it counts runs of the cell."""
    monkeypatch.setenv("DLCOURSE_GPU", "0")
    config = Config()
    config.HistoryManager.enabled = False  # else it writes into the person's own
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # the shell is another
    shell = InteractiveShell(config=config, ipython_dir=str(tmp_path))
    shell.run_cell("ran = []")
    load_ipython_extension(shell)
    shell.run_cell("pass")
    yield shell
    shell.atexit_operations()
    atexit.unregister(shell.atexit_operations)


def printed(shell, source):
    """What a cell prints, and whether it succeeds."""
    with capture_output() as captured:
        success = shell.run_cell(source).success
    return records.strip_ansi(captured.stdout + captured.stderr), success


SLOW = "%%recorded 1.2.slow\nran.append(1)\nprint('ran')\n"


def test_run_all_shows_the_record_and_does_not_run_the_cell(shell):
    text, success = printed(shell, SLOW)
    assert success and shell.user_ns["ran"] == []
    assert "as recorded" in text and "Recorded on EPYC" in text
    assert "Not run with the others. Run this cell by itself" in text and "5 minutes" in text


def test_a_cell_that_is_run_by_hand_runs_in_the_notebooks_own_names(shell, clock):
    clock.wait(4)
    text, success = printed(shell, SLOW + "here = 3")
    assert success and text == "ran\n" and shell.user_ns["ran"] == [1]
    assert shell.user_ns["here"] == 3


def test_a_cell_that_is_run_again_at_once_runs(shell):
    printed(shell, SLOW)
    assert printed(shell, SLOW) == ("ran\n", True)


def test_the_cell_after_one_that_was_run_by_hand_counts_as_following_it(shell, clock):
    clock.wait(4)
    printed(shell, SLOW)
    text, _ = printed(shell, SLOW.replace("'ran'", "'other'"))
    assert "as recorded" in text and shell.user_ns["ran"] == [1]


def test_a_gpu_cell_without_a_gpu_shows_its_record_and_says_what_to_do(shell, clock):
    clock.wait(4)
    text, success = printed(shell, SLOW.replace("slow", "big"))
    assert success and shell.user_ns["ran"] == []
    assert "as recorded" in text and "choose a GPU" in text


def test_a_gpu_cell_with_a_gpu_runs(shell, clock, monkeypatch):
    monkeypatch.setenv("DLCOURSE_GPU", "1")
    clock.wait(4)
    assert printed(shell, SLOW.replace("slow", "big")) == ("ran\n", True)


def test_a_cell_without_a_record_says_so_and_runs_by_hand(shell):
    new = SLOW.replace("slow", "new")
    text, success = printed(shell, new)
    assert success and "Nothing has been recorded for it yet" in text and "minutes" in text
    assert printed(shell, new) == ("ran\n", True)


def test_an_error_shows_one_traceback_and_the_cell_has_failed(shell, clock):
    clock.wait(4)
    text, success = printed(shell, "%%recorded 1.2.slow\n{}['missing']")
    assert not success
    assert text.count("Traceback") == 1 and text.count("KeyError: 'missing'") == 1
    assert "CellFailed" not in text


def test_a_key_that_is_none_is_named(shell):
    text, success = printed(shell, "%%recorded somewhere\n1")
    assert not success and "such as '119.2.step-time', not 'somewhere'" in text


# --- the magic, in a kernel -----------------------------------------------------------------------


class Kernel:
    """A kernel as a notebook's front end has it: cells are sent, outputs come."""

    def __init__(self, client):
        self.client = client

    def send(self, *cells):
        """Send all cells at once, as "Run All" does; their outputs and states, in order."""
        waiting = [self.client.execute(cell, stop_on_error=True) for cell in cells]
        replies = {}
        while len(replies) < len(waiting):
            reply = self.client.get_shell_msg(timeout=200)
            if reply["parent_header"]["msg_id"] in waiting:
                replies[reply["parent_header"]["msg_id"]] = reply["content"]["status"]
        outputs = {sent: [] for sent in waiting}
        idle = set()
        while len(idle) < len(waiting):
            message = self.client.get_iopub_msg(timeout=200)
            sent = message["parent_header"].get("msg_id")
            if message["msg_type"] == "status":
                if sent in waiting and message["content"]["execution_state"] == "idle":
                    idle.add(sent)
            elif sent in outputs and message["msg_type"] != "execute_input":
                outputs[sent].append(message)
        return [(replies[sent], outputs[sent]) for sent in waiting]


def text_of(outputs):
    """What the outputs of a cell say."""
    contents = (message["content"] for message in outputs)
    return "".join(c.get("text") or c.get("data", {}).get("text/plain", "") for c in contents)


@pytest.fixture(scope="module")
def kernel():
    from jupyter_client.manager import start_new_kernel

    with kernel_environment(DLCOURSE_GPU="0") as environment:
        manager, client = start_new_kernel(kernel_name="python3", env=environment)
        yield Kernel(client)
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_run_all_in_a_kernel_passes_over_the_cell_and_a_hand_runs_it(kernel, file):
    setup = (
        "import sys\nfrom dlcourse.notebook import keep, records\n"
        "magic = sys.modules['dlcourse.notebook.recorded']\n"
        f"records.installed_records = lambda chapter, section: {str(file)!r}\n"
        "magic._PAUSE = {pause}\nran = []"
    )
    never, at_once = setup.format(pause="float('inf')"), "magic._PAUSE = 0.0"
    # However slow the machine is, nothing after the first cell counts as a pause here …
    first, load, passed, seen = kernel.send(
        never, "%load_ext dlcourse.notebook", SLOW, "print(len(ran))"
    )
    assert [first[0], load[0], passed[0]] == ["ok", "ok", "ok"]
    assert "as recorded" in text_of(passed[1]) and "Not run with the others" in text_of(passed[1])
    assert text_of(seen[1]) == "0\n"
    passed, again = kernel.send(SLOW, SLOW)
    assert "as recorded" in text_of(passed[1]) and text_of(again[1]) == "ran\n"
    # … and here everything does.
    kernel.send(at_once)
    (alone,) = kernel.send(SLOW)
    assert text_of(alone[1]) == "ran\n"
    failed, after = kernel.send("%%recorded 1.2.slow\n{}['missing']", "print('after')")
    assert (failed[0], after[0]) == ("error", "aborted") and after[1] == []
    errors = [m["content"] for m in failed[1] if m["msg_type"] == "error"]
    assert [error["ename"] for error in errors] == ["KeyError"]


def test_a_notebook_that_nobody_runs_passes_over_the_cell_however_long_the_pause(kernel, file):
    kernel.client.allow_stdin = False  # as nbconvert, nbclient and papermill do
    try:
        _, _, passed, seen = kernel.send(
            "import sys\nfrom dlcourse.notebook import keep, records\nran = []\n"
            f"records.installed_records = lambda chapter, section: {str(file)!r}\n"
            "sys.modules['dlcourse.notebook.recorded']._PAUSE = 0.0",
            "%reload_ext dlcourse.notebook",
            SLOW,
            "print(len(ran))",
        )
    finally:
        kernel.client.allow_stdin = True
    assert "as recorded" in text_of(passed[1]) and "Not run" in text_of(passed[1])
    assert text_of(seen[1]) == "0\n"
