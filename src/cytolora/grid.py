"""A grid to runs, minus what is stored, grouped so that shared work is shared; imports no torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from cytolora.data.datasets import DATASETS
from cytolora.errors import ConfigError, unknown_name
from cytolora.inputs import Inputs
from cytolora.models.backbones import BACKBONES
from cytolora.models.methods import METHODS, check_fits
from cytolora.select import cell_id, choose_rate, with_all_rates
from cytolora.specs import GridSpec, MethodSpec, RunSpec, Sampling, TrainSpec
from cytolora.store import Identity, Store, StoredRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """A stored run that was computed from something else than today's weights, data or split."""

    run_id: str
    stored: Identity
    today: Identity

    def __str__(self) -> str:
        differences = [
            f"{name} {was[:12]} stored, {now[:12]} today"
            for name in Identity.__dataclass_fields__
            if (was := getattr(self.stored, name)) != (now := getattr(self.today, name)) and now is not None
        ]
        return f"{self.run_id}: {'; '.join(differences)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Runs that share dataset and backbone: images are decoded, features computed and the tower loaded once."""

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


def narrowed(
    grid: GridSpec,
    *,
    datasets: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    shots: Sequence[str] | None = None,
    fractions: Sequence[float] | None = None,
    seeds: Sequence[int] | None = None,
    rates: Sequence[float] | None = None,
    max_steps: int | None = None,
) -> GridSpec:
    """Replaces axes of a grid; None leaves an axis as it is.

    Raises:
        ConfigError: If a method is named that the grid gives no budget for.
    """
    changes: dict[str, object] = {}
    for axis, values in (("datasets", datasets), ("models", models), ("seeds", seeds), ("fractions", fractions)):
        if values:
            changes[axis] = tuple(values)
    if shots:
        changes["shots"] = tuple(shot if shot == "all" else _shot(shot) for shot in shots)
    if fractions and not shots:
        changes["shots"] = ()
    if shots and not fractions:
        changes["fractions"] = ()
    if rates:
        changes["learning_rates"] = tuple(rates)
    kept = dict(grid.methods)
    if methods:
        for name in methods:
            if name not in kept:
                raise unknown_name(f"method of grid {grid.name}:", name, kept)
        kept = {name: kept[name] for name in methods}
    changes["methods"] = {name: _adjusted(method, bool(rates), max_steps) for name, method in kept.items()}
    return replace(grid, **changes)  # pyright: ignore[reportArgumentType]


def expand(grid: GridSpec) -> tuple[RunSpec, ...]:
    """Lists the runs of a grid; every name is checked against its registry."""
    for name in grid.datasets:
        DATASETS.get(name.partition(":")[0])
    for name in grid.models:
        BACKBONES.get(name)
    for name, method in grid.methods.items():
        if METHODS.get(name).adapts == (method.adapter is None):
            raise ConfigError(f"Grid {grid.name!r}: every method but linear needs an adapter, and linear has none.")
        if method.adapter is not None:
            check_fits(METHODS.get(name), method.adapter)
    return tuple(
        run
        for dataset, backbone in product(grid.datasets, grid.models)
        for sampling in _samplings(grid)
        for name, method in grid.methods.items()
        for run in _cell(grid, dataset, backbone, name, method, sampling)
    )


def count_runs(grid: GridSpec) -> int:
    """Counts the runs of a grid without making them."""
    amounts = len(grid.datasets) * len(grid.models) * (len(grid.shots) + len(grid.fractions)) * len(grid.seeds)
    return amounts * sum(len(method.learning_rates or grid.learning_rates) for method in grid.methods.values())


def make_plan(grid: GridSpec, store: Store, inputs: Inputs) -> Plan:
    """Compares a grid with the store."""
    runs = expand(grid)
    stored, stale = set(), []
    for run in runs:
        found = store.find(run.run_id)
        if found is None:
            continue
        today = inputs.known_identity(run)
        if found.identity.agrees_with(today):
            stored.add(run.run_id)
        else:
            stale.append(Stale(run_id=run.run_id, stored=found.identity, today=today))
    groups = tuple(group for group in _groups(runs) if any(_has_work(cell, store) for cell in group.cells))
    return Plan(runs=runs, stored=frozenset(stored), stale=tuple(stale), groups=groups)


def stored_cell(store: Store, cell: Sequence[RunSpec]) -> list[StoredRun]:
    """Returns all stored runs of a cell, of earlier seeds and rates too, that can take part in choosing its rate."""
    name = cell[0].cell_id
    found = [run for run in store.runs(name.rpartition("_")[0]) if cell_id(run.spec) == name]
    return with_all_rates(found, {run.learning_rate for run in cell})


def _groups(runs: Sequence[RunSpec]) -> Iterator[Group]:
    by_group: dict[tuple[str, str], dict[str, list[RunSpec]]] = {}
    for run in runs:
        by_group.setdefault((run.dataset, run.backbone), {}).setdefault(run.cell_id, []).append(run)
    for (dataset, backbone), cells in by_group.items():
        yield Group(dataset=dataset, backbone=backbone, cells=tuple(map(tuple, cells.values())))


def _has_work(cell: Sequence[RunSpec], store: Store) -> bool:
    if any(store.find(run.run_id) is None for run in cell):
        return True
    found = stored_cell(store, cell)
    chosen = choose_rate(found)
    return any((run.spec["learning_rate"] == chosen) != (run.metrics["test"] is not None) for run in found)


def _samplings(grid: GridSpec) -> Iterator[Sampling]:
    common = {"max_val_shots": grid.max_val_shots, "on_small_class": grid.on_small_class}
    for shots in grid.shots:
        yield Sampling(shots=None if shots == "all" else shots, **common)
    for fraction in grid.fractions:
        yield Sampling(fraction=fraction, **common)


def _cell(
    grid: GridSpec, dataset: str, backbone: str, name: str, method: MethodSpec, sampling: Sampling
) -> Iterator[RunSpec]:
    train = TrainSpec(
        budget=method.budget,
        batch_size=grid.batch_size,
        weight_decay=grid.weight_decay,
        warmup_steps=grid.warmup_steps,
        augment=None if method.adapter is None else grid.augment,
        precision=grid.precision,
    )
    for seed, rate in product(grid.seeds, method.learning_rates or grid.learning_rates):
        yield RunSpec(
            dataset=dataset,
            backbone=backbone,
            method=name,
            adapter=method.adapter,
            sampling=sampling,
            split=grid.split,
            train=train,
            learning_rate=rate,
            seed=seed,
            label_map_sha256=grid.label_map_sha256,
        )


def _adjusted(method: MethodSpec, rates_replaced: bool, max_steps: int | None) -> MethodSpec:
    if rates_replaced:
        method = replace(method, learning_rates=None)
    if max_steps is not None:
        method = replace(method, budget=replace(method.budget, max_steps=max_steps))
    return method


def _shot(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"shots is a number of images per class or the word all, got {text!r}.") from None
