"""The papermill engine ``dlcourse``: ``papermill --engine dlcourse IN.ipynb OUT.ipynb``.

It differs from papermill's own engine in four ways. A recorded cell (tag ``gpu`` or ``long``) is
not run and shows its record. A cell tagged ``raises-exception`` may fail, keeps what it printed,
and does not fail the notebook. Widgets become static pictures. And the kernel's environment is the
course's (``dlcourse.build.kernel``), so that a person's own settings don't change what is shown.

papermill loads this module, through the entry point, while papermill itself is being imported. So
nothing here imports papermill before an engine is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from dlcourse.build.kernel import kernel_environment
from dlcourse.notebook import records
from dlcourse.notebook.records import CellRecord, has_tag, kind_of

EXPECTED_ERROR_TAG = "raises-exception"


def fold_expected_errors(cell: Any) -> None:
    """Turn error outputs into displayed tracebacks: papermill fails on every error output."""
    from nbformat.v4 import new_output

    for index, output in enumerate(cell.outputs):
        if output.output_type == "error":
            cell.outputs[index] = new_output(
                "display_data",
                data={"text/plain": "\n".join(output.traceback)},
                metadata={"dlcourse": {"error": dict(output)}},
            )


def unfold_expected_errors(notebook: Any) -> None:
    """Undo ``fold_expected_errors`` in an executed notebook, in place."""
    from nbformat import from_dict

    for cell in notebook.cells:
        for index, output in enumerate(cell.get("outputs", [])):
            error = output.get("metadata", {}).get("dlcourse", {}).get("error")
            if error:
                cell.outputs[index] = from_dict(error)


def installed_record(key: str) -> CellRecord | None:
    """The record of a cell in the installed package, which may be older than the notebook."""
    try:
        chapter, section, name = records.parse_key(key)
        path = records.installed_records(chapter, section)
    except records.RecordError:  # it does not know the chapter
        return None
    return records.read_records(path).get(name)


def show_record(
    cell: Any, known: Mapping[str, CellRecord] | None, changed: Mapping[str, str]
) -> None:
    """Give a recorded cell the frame of its record as its output, and keep nbval from running it.

    Args:
        cell: of a notebook; its metadata name the record, or there is none to show.
        known: records by key; None looks into the installed package.
        changed: key of a cell whose record is of older code -> what changed.
    """
    from nbformat.v4 import new_output

    key = cell.metadata.get("dlcourse", {}).get("record", "")
    record = None
    if key:
        record = installed_record(key) if known is None else known.get(key)
    alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt")
    bundle = records.frame(kind_of(cell), record, changed=changed.get(key), alt=alt)
    cell.outputs = [new_output("display_data", data=bundle)]
    cell.execution_count = None
    if not has_tag(cell, "nbval-skip"):
        cell.metadata["tags"] = [*cell.metadata["tags"], "nbval-skip"]


@lru_cache(maxsize=1)
def _nbclient_engine() -> type:
    """papermill's nbclient engine with our client; made on first use (see the module's text)."""
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine
    from papermill.log import logger

    class CourseClient(PapermillNotebookClient):
        run_recorded: bool
        known: Mapping[str, CellRecord] | None
        changed: Mapping[str, str]

        def execute_cell(self, cell: Any, cell_index: int, **kwargs: Any) -> Any:
            if cell.cell_type == "code" and kind_of(cell) and not self.run_recorded:
                show_record(cell, self.known, self.changed)
                return cell
            super().execute_cell(cell, cell_index, **kwargs)
            if cell.cell_type == "code" and has_tag(cell, EXPECTED_ERROR_TAG):
                fold_expected_errors(cell)
            return cell

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(
            cls,
            nb_man: Any,
            kernel_name: str,
            log_output: bool = False,
            stdout_file: Any = None,
            stderr_file: Any = None,
            start_timeout: int = 60,
            execution_timeout: int | None = None,
            input_path: Any = None,
            run_recorded: bool = False,
            known: Mapping[str, CellRecord] | None = None,
            changed: Mapping[str, str] | None = None,
            environment: Mapping[str, str] | None = None,
            threads: int = 1,
            kernel_stderr: Any = None,
            **options: Any,
        ) -> Any:
            if not isinstance(input_path, (str, Path)):  # papermill keeps a given object whole
                nb_man.nb.metadata.papermill["input_path"] = None
            client = CourseClient(
                nb_man,
                kernel_name=kernel_name,
                log=logger,
                log_output=log_output,
                stdout_file=stdout_file,
                stderr_file=stderr_file,
                startup_timeout=start_timeout,
                timeout=execution_timeout,
                coalesce_streams=True,
                **options,
            )
            client.run_recorded = run_recorded
            client.known = known
            client.changed = changed or {}
            with kernel_environment(threads, **(environment or {})) as env:
                stderr = {"stderr": kernel_stderr} if kernel_stderr else {}
                return client.execute(env=env, **stderr)

    return Engine


class CourseEngine:
    """What papermill registers as ``dlcourse``; hands every call on to the engine proper.

    Besides papermill's options, ``execute_notebook`` takes

    - ``run_recorded``: run recorded cells too (for recording them),
    - ``known``: records by key; by default those of the installed package,
    - ``changed``: keys of cells whose record is of older code, and what changed,
    - ``environment``: further variables for the kernel, and ``threads``,
    - ``kernel_stderr``: a file for what the kernel process itself writes to its standard error.
    """

    @classmethod
    def execute_notebook(cls, nb: Any, kernel_name: str, **options: Any) -> Any:
        """Execute a notebook as papermill's engines do."""
        return _nbclient_engine().execute_notebook(nb, kernel_name, **options)

    @classmethod
    def nb_kernel_name(cls, nb: Any, name: str | None = None) -> str:
        """The kernel that the notebook names, unless ``name`` is given."""
        return _nbclient_engine().nb_kernel_name(nb, name)

    @classmethod
    def nb_language(cls, nb: Any, language: str | None = None) -> str:
        """The notebook's language, unless ``language`` is given."""
        return _nbclient_engine().nb_language(nb, language)
