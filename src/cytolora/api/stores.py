"""Stores from Python: stored runs as a table, their predictions as one file, and mirrors of them in trackers."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytolora.core.arguments import AnyPath, OneOrMany, as_names, as_path
from cytolora.core.cache_damage import one_notice
from cytolora.core.notebook import default_progress
from cytolora.core.progress import Progress
from cytolora.core.tables import html_table, to_pandas
from cytolora.errors import ConfigError
from cytolora.experiments import store as stored

if TYPE_CHECKING:
    import pyarrow as pa

    from cytolora.experiments.tracking.track import Tracked


@dataclass(frozen=True, repr=False)
class RunTable:
    """The runs of a store as a table."""

    rows: tuple[dict[str, Any], ...]
    """A row for each run, sorted by id: what it was, its scores on val and test, what it took, and the marks of its
    setting (``flags``); None where nothing is known. The columns are those of a report's ``runs.csv``."""

    def to_arrow(self) -> "pa.Table":
        """Returns ``rows`` as an Arrow table, whose columns have the same types for every store."""
        import pyarrow as pa

        from cytolora.experiments.run_table import COLUMNS

        kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
        schema = pa.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
        return pa.Table.from_pylist(list(self.rows), schema=schema)

    def to_pandas(self) -> Any:
        """Returns ``rows`` as a pandas DataFrame.

        Raises:
            ConfigError: If pandas is not installed.
        """
        return to_pandas(self.to_arrow())

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"RunTable({len(self.rows)} runs)"

    def _repr_html_(self) -> str:
        shown = (
            "dataset",
            "model",
            "method",
            "shots",
            "seed",
            "learning_rate",
            "val_accuracy",
            "test_accuracy",
            "flags",
        )
        return html_table(shown, ([row[name] for name in shown] for row in self.rows))


@dataclass(frozen=True)
class Store:
    """A folder of stored runs, to read."""

    root: Path

    @one_notice()
    def runs(self) -> RunTable:
        """Returns the finished runs as they are at one moment; none for a folder in which none is finished.

        Raises:
            StoreError: If one is damaged.
        """
        from cytolora.reporting.results.settings import read_settings
        from cytolora.reporting.tables.runs import run_rows

        rows = run_rows(read_settings(stored.Store(self.root).runs_at_once()))
        return RunTable(tuple(sorted(rows, key=lambda row: row["run"])))

    @one_notice()
    def predictions(self, out: AnyPath) -> Path:
        """Writes the predictions of all runs to a Parquet file: a row for every run, image and class.

        One run is in memory at a time. File names and groups of the images stand in it.

        Raises:
            ConfigError: If ``out`` does not end in ``.parquet``.
            StoreError: If there are no finished runs, or one is damaged, or the disk does not take the file.
        """
        from cytolora.experiments.share import share

        path = as_path(out, "out")
        if path.suffix != ".parquet":
            raise ConfigError(f"A table of predictions is a Parquet file: out ends in .parquet, got {path.name!r}.")
        share(self.root, path)
        return path


def open_store(runs: AnyPath) -> Store:
    """Opens a folder of stored runs; it is only read.

    Example::

        table = cytolora.open_store("runs").runs().to_pandas()

    Raises:
        ConfigError: If there is no such folder.
    """
    root = as_path(runs, "runs")
    if not root.is_dir():
        raise ConfigError(f"{root} is no folder. Point at the folder given to `cytolora run --out`.")
    return Store(root)


@one_notice()
def track(runs: AnyPath, to: OneOrMany[str], *, progress: Progress | None = None) -> "dict[str, Tracked]":
    """Mirrors stored runs to experiment trackers: parameters, metrics and tags; the store is only read.

    Example::

        cytolora.track("runs", "tensorboard:logs")

    Args:
        to: ``TRACKER:ADDRESS``, one or several: ``tensorboard:FOLDER``, ``mlflow:URI``, ``wandb:PROJECT``,
            ``trackio:PROJECT``, or that of a plug-in.

    Returns:
        What became of the runs in each tracker, by its ``TRACKER:ADDRESS`` without user and password.

    Raises:
        ConfigError: If there is no such tracker, its package is not installed, it does not answer, or it does not take
            a run; the trackers before it have theirs.
        StoreError: If there are no finished runs, or one is damaged.
    """
    from cytolora.experiments.tracking.registry import parse_target
    from cytolora.experiments.tracking.track import track as mirror

    root, said = as_path(runs, "runs"), progress or default_progress()
    targets = [parse_target(text) for text in as_names(to, "to")]
    return {
        str(target): mirror(
            root,
            target,
            on_run=lambda: said.done(1),
            on_start=lambda count, target=target: said.begin(str(target), count, "runs"),
        )
        for target in targets
    }
