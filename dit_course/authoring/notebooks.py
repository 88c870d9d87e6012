"""Running notebooks, and keeping them small and still: what is stored of a slider is its picture."""

import os
from collections.abc import Mapping
from pathlib import Path

from dit_course.data import atomic_write

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def execute(path: str | Path, timeout: int = 300, env: Mapping[str, str] | None = None):
    """Run a notebook from top to bottom in a fresh kernel, in its own folder, and store it without live widgets.

    timeout: seconds for each cell. env: environment variables for the kernel, on top of those of this process.
    Raises `nbclient.exceptions.CellExecutionError` when a cell fails; the file stays as it was. Returns the notebook.
    """
    import nbformat
    from nbclient import NotebookClient

    path = Path(path)
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        record_timing=False,  # times of this machine mean nothing elsewhere
        coalesce_streams=True,  # what a cell prints is one output, however slowly it comes
        resources={"metadata": {"path": str(path.parent.resolve())}},
    ).execute(env={**os.environ, "DIT_COURSE_PATIENCE": "3600", **(env or {})})
    strip_widgets(notebook)
    notebook.metadata.get("language_info", {}).pop("version", None)  # else every Python writes another file
    atomic_write(path, (nbformat.writes(notebook).rstrip("\n") + "\n").encode())
    return notebook


def strip_widgets(notebook):
    """Take live widgets out of the outputs, in place: without their kernel they are error messages. Stills stay.

    An output with nothing left to show goes altogether. Returns the notebook.
    """
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        kept = []
        for output in cell.outputs:
            data = output.get("data", {})
            if data.pop(WIDGET_VIEW, None) is None or set(data) - {"text/plain"}:
                kept.append(output)
        cell.outputs = kept
    return notebook
