"""Merging of stores: the runs of several folders in one, where each run is the same wherever it is stored."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cytolora.core.files import write_bytes
from cytolora.core.text import counted
from cytolora.errors import ConfigError, StoreError
from cytolora.experiments.divisions import FOLDER as DIVISIONS
from cytolora.experiments.divisions import kept_division
from cytolora.experiments.names import read_names, write_names
from cytolora.experiments.run_folder import METRICS, PREDICTIONS, SPEC
from cytolora.experiments.store import Store, unwritable
from cytolora.experiments.stored_run import StoredRun

_SAME = (SPEC, METRICS, PREDICTIONS)
"""What a run is; seconds, machine and versions stand in the provenance, and may differ."""
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What a merge did, or would do."""

    copied: tuple[StoredRun, ...]
    """Runs that the target lacks."""
    num_equal: int
    """Runs that the target, or an earlier one of the stores, has already."""
    conflicts: tuple[str, ...]
    """Ids of runs whose results differ between stores; those of the first store stand."""


def plan_merge(stores: Sequence[Path], target: Path) -> Merged:
    """Compares stores, and writes nothing.

    Args:
        target: May hold runs; it then comes before the stores.

    Raises:
        StoreError: If one holds no runs, or a damaged one.
    """
    kept: dict[str, StoredRun] = {run.run_id: run for run in Store(target).runs()} if target.is_dir() else {}
    there, num_equal, conflicts = set(kept), 0, dict[str, None]()
    for folder in stores:
        runs = Store(folder).runs_at_once() if folder.is_dir() else []
        if not runs:
            raise StoreError(f"No finished runs in {folder}. Point at the folder given to `cytolora run --out`.")
        for run in runs:
            first = kept.setdefault(run.run_id, run)
            if first is not run:
                is_equal = _is_equal(first, run)
                num_equal += is_equal
                conflicts |= {} if is_equal else {run.run_id: None}
                if is_equal and run.has_weights and not first.has_weights and run.run_id not in there:
                    kept[run.run_id] = run
    copied = tuple(run for name, run in sorted(kept.items()) if name not in there)
    return Merged(copied=copied, num_equal=num_equal, conflicts=tuple(conflicts))


def merge(
    stores: Sequence[Path],
    target: Path,
    *,
    keep_first: bool = False,
    on_run: Callable[[], None] = lambda: None,
    on_plan: Callable[[Merged], None] = lambda _: None,
) -> Merged:
    """Copies the runs of stores into one, with the names of their settings and their divisions.

    Args:
        keep_first: Of runs that differ, keeps the one of the target, or of the first store that has it.
        on_run: Called after each run that was copied.
        on_plan: Called once, before the first.

    Raises:
        ConfigError: If stores have different results for the same run, and ``keep_first`` is not set; nothing is
            written then.
        StoreError: If one holds no runs, or a damaged one, or the disk does not take them.
    """
    if len({path.resolve() for path in (*stores, target)}) <= len(stores):
        raise ConfigError("A store is named twice, or is the target too. Name each once, and another --out.")
    found = plan_merge(stores, target)
    if found.conflicts and not keep_first:
        shown = ", ".join(found.conflicts[:_SHOWN]) + (", …" if len(found.conflicts) > _SHOWN else "")
        raise ConfigError(
            f"{counted(len(found.conflicts), 'run')} with different results under the same id: {shown}. Nothing was "
            "written. They were computed from other weights, data or code: look at their provenance.json, or keep "
            "those of the first store named with --keep-first."
        )
    on_plan(found)
    into = Store(target)
    for run in found.copied:
        into.copy(run)
        on_run()
    names: dict[str, str] = {}
    for folder in (target, *stores):
        names = {**read_names(folder), **names}
        _copy_divisions(folder, target)
    write_names(into, names)
    return found


def _is_equal(first: StoredRun, other: StoredRun) -> bool:
    if first.identity != other.identity:
        return False
    left, right = (run.contents(weights=False) for run in (first, other))
    return all(left[name] == right[name] for name in _SAME)


def _copy_divisions(source: Path, target: Path) -> None:
    for path in sorted((source / DIVISIONS).glob("*.csv")):
        if kept_division(source, path.stem) is not None and kept_division(target, path.stem) is None:
            try:
                write_bytes(target / DIVISIONS / path.name, path.read_bytes())
            except OSError as error:
                raise unwritable(target, error) from error
