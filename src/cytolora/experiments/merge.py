"""Merging of stores: the runs of several folders in one, where each run is the same wherever it is stored.

A setting has one test result, at the learning rate that validation chooses. Stores may have chosen differently, by
other seeds and rates: then the choice is made again over all runs together, as ``run`` does.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from cytolora.core.files import write_bytes
from cytolora.core.text import counted
from cytolora.data.targets import STORE, check_shared
from cytolora.errors import ConfigError, StoreError
from cytolora.experiments.divisions import FOLDER as DIVISIONS
from cytolora.experiments.divisions import kept_division, kept_divisions
from cytolora.experiments.names import read_names, write_names
from cytolora.experiments.run_folder import METRICS, PREDICTIONS, SPEC
from cytolora.experiments.select import by_setting, choose_rate, sealed
from cytolora.experiments.store import Store, again_if_replaced, newest_contents, unwritable
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
    tested: Mapping[str, StoredRun]
    """Runs with a test score that the target has without one, by id."""
    num_sealed: int = 0
    """Test scores that were taken away: of a learning rate that validation does not choose over all runs together."""
    num_retested: int = 0
    """Settings with test scores at several rates that stay: the chosen one, if any, is not tested with every seed."""


def plan_merge(stores: Sequence[Path], target: Path) -> Merged:
    """Compares stores, and writes nothing.

    Args:
        target: May hold runs; it then comes before the stores.

    Raises:
        StoreError: If one holds no runs, or a damaged one.
    """
    kept: dict[str, StoredRun] = {run.run_id: run for run in Store(target).runs()} if target.is_dir() else {}
    there, num_equal, conflicts, tested = set(kept), 0, dict[str, None](), dict[str, StoredRun]()
    for folder in stores:
        runs = Store(folder).runs_at_once() if folder.is_dir() else []
        if not runs:
            raise StoreError(f"No finished runs in {folder}. Point at the folder given to `cytolora run --out`.")
        for run in runs:
            name, first = run.run_id, kept.setdefault(run.run_id, run)
            if first is run:
                continue
            if not _is_equal(first, run):
                conflicts[name] = None
                continue
            num_equal += 1
            if name in there:
                if _is_tested(run) and not _is_tested(first):
                    tested.setdefault(name, run)
            elif _worth(run) > _worth(first):
                kept[name] = run
    copied = tuple(run for name, run in sorted(kept.items()) if name not in there)
    return Merged(copied=copied, num_equal=num_equal, conflicts=tuple(conflicts), tested=tested)


def merge(
    stores: Sequence[Path],
    target: Path,
    *,
    keep_first: bool = False,
    on_run: Callable[[], None] = lambda: None,
    on_plan: Callable[[Merged], None] = lambda _: None,
) -> Merged:
    """Copies the runs of stores into one, with the names of their settings and their divisions.

    A run that another process replaces meanwhile, by the same with a test score, is taken as it is then. Where stores
    have test scores of one setting at several learning rates, those of the rate stay that validation chooses over all
    runs together, as far as it is tested with every seed.

    Args:
        keep_first: Of runs that differ, keeps the one of the target, or of the first store that has it.
        on_run: Called after each run that was copied.
        on_plan: Called once, before the first.

    Raises:
        ConfigError: If the target is something else, such as a model or a folder of images, or stores have different
            results for the same run, and ``keep_first`` is not set; nothing is written then.
        StoreError: If one holds no runs, or a damaged one, or the disk does not take them.
    """
    check_shared(target, STORE)
    if len({path.resolve() for path in (*stores, target)}) <= len(stores):
        raise ConfigError("A store is named twice, or is the target too. Name each once, and another --out.")
    found = again_if_replaced(lambda: plan_merge(stores, target))
    if found.conflicts and not keep_first:
        shown = ", ".join(found.conflicts[:_SHOWN]) + (", …" if len(found.conflicts) > _SHOWN else "")
        raise ConfigError(
            f"{counted(len(found.conflicts), 'run')} with different results under the same id: {shown}. Nothing was "
            "written. They were computed from other weights, data or code: look at their provenance.json, or keep "
            "those of the first store named with --keep-first."
        )
    on_plan(found)
    into = Store(target)
    into.make_root()
    names: dict[str, str] = {}
    for folder in (target, *stores):
        names = {**read_names(folder), **names}
        _copy_divisions(folder, target)
    write_names(into, names)  # before the runs, which a merge that is stopped half-way may leave there
    for run in found.copied:
        into.copy(run)
        on_run()
    came = {*(run.run_id for run in found.copied), *found.tested}
    num_sealed, num_retested = _settle(into, came, found.tested)
    return replace(found, num_sealed=num_sealed, num_retested=num_retested)


def _settle(into: Store, came: Collection[str], tested: Mapping[str, StoredRun]) -> tuple[int, int]:
    """Leaves one test result in each setting that runs came to; see ``Merged`` on what is returned.

    Args:
        came: Ids of the runs that were copied, or have a test score elsewhere.
    """
    num_sealed = num_retested = 0
    if not came:
        return 0, 0
    with into.exclusive():
        for members in _settings_of(into, came):
            rate = _rate(members)
            of_rate = [run for run in members if run.spec["learning_rate"] == rate]
            others = [run for run in members if run.spec["learning_rate"] != rate and _is_tested(run)]
            are_tested = [_with_test(into, run, tested) for run in of_rate]
            if of_rate and all(are_tested):
                for run in others:
                    into.write(sealed(run))
                num_sealed += len(others)
            elif len({run.spec["learning_rate"] for run in members if _is_tested(run)}) > 1:
                num_retested += 1
    return num_sealed, num_retested


def _settings_of(into: Store, runs: Collection[str]) -> Iterator[list[StoredRun]]:
    """Yields all runs of the settings of some; leaves out those of newer versions, of which reports say what to do."""
    for name in {run.rsplit("_", 3)[0] for run in runs}:
        settings: Mapping[str, list[StoredRun]] = {}
        with suppress(StoreError):
            settings = by_setting(into.runs_of({name}))
        yield from (members for members in settings.values() if any(run.run_id in runs for run in members))


def _rate(members: Sequence[StoredRun]) -> float | None:
    try:
        return choose_rate(members)
    except StoreError:  # a grid on its way: reports say so
        return None


def _with_test(into: Store, run: StoredRun, tested: Mapping[str, StoredRun]) -> bool:
    """Puts a run with its test score in the place of the same without; returns whether it has one."""
    if not _is_tested(run) and run.run_id in tested:
        into.put(run.run_id, newest_contents(tested[run.run_id]))
        return True
    return _is_tested(run)


def _is_tested(run: StoredRun) -> bool:
    return run.metrics["test"] is not None


def _worth(run: StoredRun) -> tuple[bool, bool]:
    return _is_tested(run), run.has_weights


def _is_equal(first: StoredRun, other: StoredRun) -> bool:
    """Whether two runs have the same results, as far as both have them: a test score may be missing in one."""
    if first.identity != other.identity:
        return False
    if _is_tested(first) != _is_tested(other):
        bare, scored = sorted((first, other), key=_is_tested)
        without = sealed(scored)
        return (bare.spec, bare.metrics) == (scored.spec, without.metrics) and bare.predictions().equals(
            without.predictions
        )
    left, right = (run.contents(weights=False) for run in (first, other))
    return all(left[name] == right[name] for name in _SAME)


def _copy_divisions(source: Path, target: Path) -> None:
    for name, content in kept_divisions(source).items():
        if kept_division(target, name.removesuffix(".csv")) is None:
            try:
                write_bytes(target / DIVISIONS / name, content)
            except OSError as error:
                raise unwritable(target, error) from error
