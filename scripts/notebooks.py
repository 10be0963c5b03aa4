"""Runs the notebooks of docs/notebooks in empty folders, and stores what their cells show.

    .venv/bin/python scripts/notebooks.py

Outputs are kept where they are small and say the same on every machine: no progress, no time, no path of this one.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbclient
import nbformat

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
_SECONDS = 300
_SHOWN = ("image/png", "text/html", "text/plain")
"""The first of these that an output has is kept."""


def executed(path: Path, folder: Path) -> Any:
    """Returns the notebook of a file with the outputs of its cells, run in ``folder``."""
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=_SECONDS, resources={"metadata": {"path": str(folder)}})
    client.execute()
    for number, cell in enumerate(one for one in notebook.cells if one.cell_type == "code"):
        cell.metadata, cell.execution_count = {}, number + 1
        cell.outputs = [_bare(output, number + 1) for output in cell.outputs if _is_kept(output)]
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def _is_kept(output: Any) -> bool:
    """Whether an output is one of the cell, and not its progress."""
    return output.output_type == "execute_result" or (
        output.get("name") == "stdout" or "image/png" in output.get("data", {})
    )


def _bare(output: Any, number: int) -> Any:
    if "data" in output:
        kind = next(kind for kind in _SHOWN if kind in output.data)
        output.data, output.metadata = {kind: output.data[kind]}, {}
    if "execution_count" in output:
        output.execution_count = number
    return output


def main() -> None:
    """Runs all notebooks and writes them."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        with TemporaryDirectory() as folder:
            notebook = executed(path, Path(folder))
        nbformat.write(notebook, path)
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
