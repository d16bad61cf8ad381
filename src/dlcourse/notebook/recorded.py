"""Values and outputs of recorded cells, in a notebook.

``keep`` hands values of a recorded cell to its record; ``recorded`` reads them in later cells. In
the learner's notebook a recorded cell begins with ``%%recorded 119.2.step-time``: "Run All" passes
over it and shows its record, and who runs that one cell by hand runs it.
"""

from __future__ import annotations

import json
import math
import numbers
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from dlcourse.notebook import records
from dlcourse.notebook.prose import show
from dlcourse.notebook.records import CellRecord, RecordError

RECORDING = "DLCOURSE_RECORDING"  # set in the kernel of ``dlcourse record``
#: Seconds between two cells, above which a person must have started the second. A front end that
#: runs all cells may need a second between two of them: a busy machine, or a kernel far away.
_PAUSE = 3.0
_DIGITS = 7  # of a value that is kept: as many as a float32 has


class Recorded(Mapping[str, Any]):
    """The values that a recorded cell kept, by name, and where it was recorded.

    ``origin`` is a sentence that names device, versions, date, commit and time.
    """

    def __init__(self, key: str, record: CellRecord) -> None:
        self.key, self.record = key, record

    @property
    def origin(self) -> str:
        """Where, with what and when the cell was recorded."""
        return records.origin(self.record)

    def __getitem__(self, name: str) -> Any:
        if name not in self.record.values:
            kept = ", ".join(self.record.values) or "nothing"
            raise KeyError(f"the record of {self.key} has no {name!r}; it keeps: {kept}")
        return self.record.values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.record.values)

    def __len__(self) -> int:
        return len(self.record.values)

    def __repr__(self) -> str:
        return f"Recorded({self.key!r}: {', '.join(self)})"


def recorded(key: str) -> Recorded:
    """The values of a recorded cell, such as ``recorded("119.2.step-time")["milliseconds"]``.

    Raises RecordError where nothing has been recorded for the cell; the message has the command
    that does it.
    """
    chapter, section, name = records.parse_key(key)
    found = records.read_records(records.installed_records(chapter, section))
    if name not in found:
        there = ", ".join(found) or "none"
        raise RecordError(
            f"nothing is recorded for {key} (recorded cells of {chapter}.{section}: {there}); "
            f"record it: dlcourse record --cell {key}"
        )
    return Recorded(key, found[name])


def values_of(key: str, *names: str) -> Recorded | None:
    """What ``recorded`` gives, or None where the cell has not been recorded, or not in this form.

    So a page is built, and says so, before its record is made: no claim is evaluated without one.

    Args:
        key: of the cell, such as "119.2.step-time".
        names: the values that the caller is going to read; all must be in the record.
    """
    try:
        values = recorded(key)
    except RecordError:
        return None
    return values if all(name in values for name in names) else None


def keep(**values: Any) -> None:
    """Put values of a recorded cell into its record, for ``recorded`` to read.

    A value is a number, a text, True, False, None, or a list, tuple, dict, NumPy array or tensor
    of such; numbers are kept to seven digits. Outside of a recording this only checks them.

    Raises TypeError for a value of another kind.
    """
    plain = {name: _plain(value, name) for name, value in values.items()}
    if os.environ.get(RECORDING) == "1":
        # As text: what carries outputs from a kernel knows neither NaN nor infinities.
        show({records.VALUES_TYPE: json.dumps(plain), "text/plain": ", ".join(plain)})


def _plain(value: Any, path: str) -> Any:
    """A value as JSON has it; NaN and infinities stay, as Python's own JSON has them."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if hasattr(value, "tolist"):  # NumPy arrays and scalars, tensors
        return _plain(value.detach().tolist() if hasattr(value, "detach") else value.tolist(), path)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        return float(f"{number:.{_DIGITS}g}") if math.isfinite(number) else number
    if isinstance(value, (list, tuple)):
        return [_plain(part, f"{path}[{i}]") for i, part in enumerate(value)]
    if isinstance(value, Mapping):
        return {str(name): _plain(part, f"{path}[{name!r}]") for name, part in value.items()}
    raise TypeError(
        f"keep can't keep {path}, a {type(value).__name__}: give numbers, texts, lists, dicts, "
        "arrays or tensors"
    )


# --- the learner's notebook -----------------------------------------------------------------------


class CellFailed(Exception):
    """The recorded cell failed, and has shown its traceback. What was to run next is stopped."""


class _Hand:
    """Tells whether a person has started a cell, or "Run All" has.

    "Run All" sends all cells at once, so the next begins as soon as the last has ended. A person
    pauses, or runs the same cell twice in a row.
    """

    def __init__(self) -> None:
        self.ended, self.paused = -math.inf, True
        self.cell = self.previous = None
        self.depth = 0

    def before(self, info: Any) -> None:
        self.depth += 1
        if self.depth == 1:
            self.paused = time.monotonic() - self.ended >= _PAUSE
            # older versions of IPython know no ids of cells
            self.previous, self.cell = self.cell, (info.raw_cell, getattr(info, "cell_id", None))

    def after(self, result: Any) -> None:
        self.depth = max(0, self.depth - 1)  # the cell that loads the extension was not counted
        self.ended = time.monotonic()

    @property
    def started_by_hand(self) -> bool:
        return self.paused or self.previous == self.cell


def show_recorded(key: str) -> CellRecord | None:
    """Show what is recorded for a cell, in its frame; returns the record."""
    chapter, section, name = records.parse_key(key)
    record = records.read_records(records.installed_records(chapter, section)).get(name)
    show(records.frame(record.kind if record else "long", record))
    return record


def _nobody_is_there(shell: Any) -> bool:
    """Whether nbconvert, papermill or the like runs the notebook: nobody to answer a question.

    Between two of their cells may lie any time, when the machine is busy.
    """
    return not getattr(getattr(shell, "kernel", None), "_allow_stdin", True)


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext dlcourse.notebook``: the cell magic ``%%recorded``."""
    hand = _Hand()
    shell.events.register("pre_run_cell", hand.before)
    shell.events.register("post_run_cell", hand.after)

    def recorded_cell(line: str, cell: str) -> None:
        key = line.strip()
        record = None if hand.started_by_hand else show_recorded(key)
        if not hand.started_by_hand:
            took = f"about {records.duration(record.seconds)}" if record else "minutes"
            print(f"Not run with the others. Run this cell by itself to compute it here ({took}).")
            return
        if _nobody_is_there(shell):
            show_recorded(key)
            print("Not run: no person has started this notebook.")
            return
        from dlcourse.devices import gpu_available

        chapter, section, name = records.parse_key(key)
        known = records.read_records(records.installed_records(chapter, section)).get(name)
        if known is not None and known.kind == "gpu" and not gpu_available():
            show_recorded(key)
            print("This cell needs a GPU, and there is none here. On Colab: Runtime > Change")
            print("runtime type, choose a GPU; then run the notebook again, and this cell by hand.")
            return
        result = shell.run_cell(cell, store_history=False)
        if not result.success:
            error = result.error_in_exec or result.error_before_exec
            raise CellFailed(f"{type(error).__name__}: {error}") from None

    # The cell itself has shown the error: here nothing more is shown.
    shell.set_custom_exc((CellFailed,), lambda *args, **options: None)
    shell.register_magic_function(recorded_cell, magic_kind="cell", magic_name="recorded")
