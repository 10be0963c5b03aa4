"""Sharing of results: a store as one zip file, or the predictions of all its runs as one table."""

import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cytolora.core.files import json_bytes, staged_file
from cytolora.core.zip_members import undated
from cytolora.data.own_files import FileKind
from cytolora.data.targets import check_replaceable_file
from cytolora.errors import ConfigError, StoreError
from cytolora.experiments.divisions import FOLDER as DIVISIONS
from cytolora.experiments.divisions import kept_divisions
from cytolora.experiments.names import NAMES, names_file, read_names
from cytolora.experiments.run_folder import SPEC
from cytolora.experiments.run_table import facts_of
from cytolora.experiments.store import Store, unwritable
from cytolora.experiments.stored_run import StoredRun

if TYPE_CHECKING:
    import pyarrow as pa

_FOLDER = "runs"
"""In the zip file."""
_ROOTS = "home|Users|root|mnt|media|data|srv|tmp|var"
_OF_THIS_MACHINE = re.compile(rf"""(?:(?<=[\s"'(:])|^)(?:/(?:{_ROOTS})/|[A-Za-z]:\\\\)""")
"""Where absolute paths of people begin, on Linux, macOS and Windows; backslashes as JSON has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What was written."""

    num_runs: int
    num_groups: int
    """Runs whose predictions name a patient, slide or field."""
    num_paths: int
    """Runs whose provenance names a path of the machine."""
    num_hosts: int
    """Runs whose provenance names the machine itself."""


def share(
    runs_dir: Path,
    out: Path,
    *,
    weights: bool = False,
    on_run: Callable[[], None] = lambda: None,
    on_start: Callable[[int], None] = lambda _: None,
) -> Shared:
    """Writes a store into ``out``: a zip file of a folder that every command reads, or a Parquet table.

    Images and caches are left out, and so are adapters and heads unless they are asked for. Equal stores give equal
    files.

    Args:
        out: Ends in ``.zip`` or ``.parquet``. The table has a row for every run, image and class.
        weights: Adapters and heads are written too; zip files only.
        on_run: Called after each run that was written.
        on_start: Called once before, with the number of runs.

    Raises:
        ConfigError: If ``out`` ends otherwise, or is a file of another kind.
        StoreError: If there are no finished runs, or one is damaged, or the disk does not take the file.
    """
    if out.suffix not in (".zip", ".parquet"):
        raise ConfigError(f"--out ends in .zip (the store) or .parquet (all predictions), got {out.name!r}.")
    if weights and out.suffix != ".zip":
        raise ConfigError("--weights is for a zip file; a table of predictions holds none.")
    check_replaceable_file(out, _OWN_ZIP if out.suffix == ".zip" else _OWN_TABLE)
    runs = Store(runs_dir).runs_at_once() if runs_dir.is_dir() else []
    if not runs:
        raise StoreError(f"No finished runs in {runs_dir}. Point at the folder given to `cytolora run --out`.")
    on_start(len(runs))
    try:
        with staged_file(out) as path:
            if out.suffix == ".zip":
                _write_zip(path, runs_dir, runs, weights=weights, on_run=on_run)
            else:
                _write_table(path, runs, on_run)
    except OSError as error:
        raise unwritable(out.parent, error) from error
    return Shared(
        num_runs=len(runs),
        num_groups=sum(bool((run.provenance.get("grouping") or {}).get("num_grouped")) for run in runs),
        num_paths=0 if out.suffix == ".parquet" else sum(_names_a_path(run) for run in runs),
        num_hosts=0 if out.suffix == ".parquet" else sum(_names_a_host(run) for run in runs),
    )


def _is_zipped_store(path: Path) -> bool:
    with zipfile.ZipFile(path) as packed:
        return all(name.startswith(f"{_FOLDER}/") for name in packed.namelist()) and any(
            name.endswith(f"/{SPEC}") for name in packed.namelist()
        )


def _is_table(path: Path) -> bool:
    import pyarrow.parquet as pq

    names = pq.read_schema(path).names
    return {"run", "path", "class", "probability"}.issubset(names)


_OWN_ZIP = FileKind(name="zip file of stored runs", is_own=_is_zipped_store)
_OWN_TABLE = FileKind(name="table of predictions of stored runs", is_own=_is_table)
"""What is replaced: what this wrote before."""


def _names_a_path(run: StoredRun) -> bool:
    return _OF_THIS_MACHINE.search(json_bytes(run.provenance).decode()) is not None


def _names_a_host(run: StoredRun) -> bool:
    return bool((run.provenance.get("spending") or {}).get("host"))


def _write_zip(
    path: Path, runs_dir: Path, runs: Sequence[StoredRun], *, weights: bool, on_run: Callable[[], None]
) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:

        def put(name: str, content: bytes) -> None:
            packed.writestr(undated(f"{_FOLDER}/{name}"), content, zipfile.ZIP_DEFLATED)

        if names := read_names(runs_dir):
            put(NAMES, names_file(names))
        for name, division in kept_divisions(runs_dir).items():
            put(f"{DIVISIONS}/{name}", division)
        for run in runs:
            for name, content in run.contents(weights=weights).items():
                put(f"{run.run_id}/{name}", content)
            on_run()


def _write_table(path: Path, runs: Sequence[StoredRun], on_run: Callable[[], None]) -> None:
    import pyarrow.parquet as pq

    writer = None
    try:
        for run in runs:
            table = tidy(run)
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
            on_run()
    finally:
        if writer is not None:
            writer.close()


def tidy(run: StoredRun) -> "pa.Table":
    """Returns a row for every image and class of a run, with what the run was: columns are the same for all runs."""
    import pyarrow as pa

    stored, classes = run.predictions(), run.provenance["classes"]
    num_images, facts = stored.num_rows, facts_of(run)
    kinds = {"shots": pa.int64(), "fraction": pa.float64(), "seed": pa.int64(), "split_seed": pa.int64()}
    kinds["learning_rate"] = pa.float64()
    length = num_images * len(classes)
    columns = {name: pa.array([value] * length, kinds.get(name, pa.string())) for name, value in facts.items()}
    for name in ("path", "subset", "group", "label"):
        values = stored[name].cast(pa.string()).to_pylist()
        columns[name] = pa.array([value for value in values for _ in classes], pa.string())
    columns["class"] = pa.array([*classes] * num_images, pa.string())
    rows = zip(*(stored[name].cast(pa.float64()).to_pylist() for name in classes), strict=True)
    columns["probability"] = pa.array([value for row in rows for value in row], pa.float64())
    return pa.table(columns)
