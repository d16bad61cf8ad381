"""The papermill engine ``dlcourse``: ``papermill --engine dlcourse IN.ipynb OUT.ipynb``.

It differs from papermill's own engine in three ways. Where there is no GPU, a cell tagged ``gpu``
is not run and shows what was recorded on one. A cell tagged ``raises-exception`` may fail, keeps
what it printed, and does not fail the notebook. Widgets become static pictures
(``DLCOURSE_STATIC=1`` in the kernel's environment).

papermill loads this module, through the entry point, while papermill itself is being imported. So
nothing here imports papermill before an engine is used.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from dlcourse.devices import gpu_available
from dlcourse.build.records import (
    GPU_TAG,
    GpuRecord,
    frame,
    gpu_cells,
    has_tag,
    read_record,
    record_path,
)

EXPECTED_ERROR_TAG = "raises-exception"


def _caller_folder() -> Path:
    """The folder that relative input paths start from, also when papermill was given a ``cwd``."""
    from papermill.iorw import papermill_io

    return Path(getattr(papermill_io.get_handler("local"), "_cwd", None) or os.getcwd())


def find_record(input_path: Any) -> GpuRecord | None:
    """The GPU record beside papermill's input; None for a notebook object, stdin or a URL."""
    if not isinstance(input_path, (str, Path)) or not str(input_path).endswith(".ipynb"):
        return None
    if "://" in str(input_path):
        return None
    return read_record(record_path(_caller_folder() / input_path))


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


def show_record(cell: Any, record: GpuRecord | None) -> None:
    """Replace a gpu cell's outputs by the frame of its record, and keep nbval from running it."""
    from nbformat.v4 import new_output

    image = cell.metadata.get("mystnb", {}).get("image", {})
    bundle = frame(record, cell.metadata["name"], cell.source, image.get("alt"))
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
        run_gpu_cells: bool
        record: GpuRecord | None

        def execute_cell(self, cell: Any, cell_index: int, **kwargs: Any) -> Any:
            if has_tag(cell, GPU_TAG) and not self.run_gpu_cells:
                show_record(cell, self.record)
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
            record: GpuRecord | None = None,
            kernel_stderr: Any = None,
            **options: Any,
        ) -> Any:
            gpu_cells(nb_man.nb)  # raises before anything runs if one cannot be named
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
            client.run_gpu_cells = gpu_available()
            client.record = record or find_record(input_path)
            env = {**os.environ, "DLCOURSE_STATIC": "1"}
            return client.execute(env=env, **({"stderr": kernel_stderr} if kernel_stderr else {}))

    return Engine


class CourseEngine:
    """What papermill registers as ``dlcourse``; hands every call on to the engine proper.

    Besides papermill's options, ``execute_notebook`` takes ``record`` (a ``GpuRecord``), for a
    notebook that is given as an object and so has no record beside it, and ``kernel_stderr``, a
    file for what the kernel process itself writes to its standard error.
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
