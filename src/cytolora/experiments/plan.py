"""What a grid asks for, minus what is stored, grouped so that shared work is shared; imports no torch."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from cytolora.config.run import GridSpec, RunSpec
from cytolora.core.identity import Identity
from cytolora.experiments.expand import expand
from cytolora.experiments.select import cell_id, decide
from cytolora.experiments.store import Store, StoredRun
from cytolora.training.resources import Inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """A stored run that was computed from something else than today's weights, data, split or prompts."""

    run_id: str
    stored: Identity
    today: Identity

    def __str__(self) -> str:
        differences = [
            f"{name} {(was or 'none')[:12]} stored, {now[:12]} today"
            for name in Identity.__dataclass_fields__
            if (was := getattr(self.stored, name)) != (now := getattr(self.today, name)) and now is not None
        ]
        return f"{self.run_id}: {'; '.join(differences)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Runs that share dataset and backbone: images are decoded, features computed and the encoder loaded once."""

    dataset: str
    backbone: str
    cells: tuple[tuple[RunSpec, ...], ...]
    """Runs by cell of the results table (all seeds and learning rates), stored ones among them."""

    @property
    def runs(self) -> tuple[RunSpec, ...]:
        """All runs of all cells."""
        return tuple(run for cell in self.cells for run in cell)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a grid asks for and how much of it is stored."""

    runs: tuple[RunSpec, ...]
    stored: frozenset[str]
    """Run ids that count."""
    stale: tuple[Stale, ...]
    groups: tuple[Group, ...]
    """Those with something to do: a run that is missing, or a chosen rate whose test set is not scored."""

    @property
    def to_do(self) -> tuple[RunSpec, ...]:
        """Runs that are neither stored nor stale."""
        stale = {run.run_id for run in self.stale}
        return tuple(run for run in self.runs if run.run_id not in self.stored and run.run_id not in stale)


def make_plan(grid: GridSpec, store: Store, inputs: Inputs) -> Plan:
    """Compares a grid with the store."""
    runs = expand(grid)
    by_cell = _by_cell(runs)
    kept = _stored_cells(store, by_cell)
    found = {run.run_id: run for members in kept.values() for run in members}
    stored, stale = set(), []
    for cell in by_cell.values():
        today: dict[int, Identity] = {}  # by seed: rates share it
        for run in cell:
            if (old := found.get(run.run_id)) is None:
                continue
            if run.seed not in today:
                today[run.seed] = inputs.known_identity(run)
            if old.identity.agrees_with(today[run.seed]):
                stored.add(run.run_id)
            else:
                stale.append(Stale(run_id=run.run_id, stored=old.identity, today=today[run.seed]))
    unfinished = {name for name, cell in by_cell.items() if _has_work(cell, kept.get(name, ()))}
    return Plan(runs=runs, stored=frozenset(stored), stale=tuple(stale), groups=_groups(by_cell, unfinished))


def stored_cell(store: Store, cell: Sequence[RunSpec]) -> list[StoredRun]:
    """Returns all stored runs of a cell, of earlier seeds and rates too."""
    name = cell[0].cell_id
    return _stored_cells(store, [name]).get(name, [])


def _by_cell(runs: Sequence[RunSpec]) -> dict[str, list[RunSpec]]:
    cells: dict[str, list[RunSpec]] = {}
    for run in runs:
        cells.setdefault(run.cell_id, []).append(run)
    return cells


def _stored_cells(store: Store, names: Iterable[str]) -> dict[str, list[StoredRun]]:
    """Reads what is stored of some cells, each run once, by the cell's name."""
    wanted = set(names)
    cells: dict[str, list[StoredRun]] = {}
    for run in store.runs_of({name.rpartition("_")[0] for name in wanted}):
        if (name := cell_id(run.spec)) in wanted:
            cells.setdefault(name, []).append(run)
    return cells


def _groups(by_cell: Mapping[str, Sequence[RunSpec]], unfinished: Set[str]) -> tuple[Group, ...]:
    """Gathers cells into groups; those with nothing unfinished are left out."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, cell in by_cell.items():
        groups.setdefault((cell[0].dataset, cell[0].backbone), []).append(name)
    return tuple(
        Group(dataset=dataset, backbone=backbone, cells=tuple(tuple(by_cell[name]) for name in names))
        for (dataset, backbone), names in groups.items()
        if not unfinished.isdisjoint(names)
    )


def _has_work(cell: Sequence[RunSpec], stored: Sequence[StoredRun]) -> bool:
    if len(stored) < len(cell) or not {run.run_id for run in cell} <= {run.run_id for run in stored}:
        return True
    left = decide(stored, {run.learning_rate for run in cell})
    return bool(left.to_seal or left.to_score)
