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
from cytolora.specs import ZERO_SHOT, Budget, GridSpec, MethodSpec, RunSpec, Sampling, TrainSpec
from cytolora.store import Identity, Store, StoredRun

_NO_TRAINING = TrainSpec(budget=Budget(amount=1, unit="steps_per_shot"), augment=None)
"""Of zero-shot: at 0 shots these are 0 steps."""


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
            raise ConfigError(f"Grid {grid.name!r}, {name}: linear and zero-shot have no adapter, all others need one.")
        if method.adapter is not None:
            check_fits(METHODS.get(name), method.adapter)
        _check_text(grid, name, method)
    return tuple(
        run for dataset, backbone in product(grid.datasets, grid.models) for run in _runs(grid, dataset, backbone)
    )


def count_runs(grid: GridSpec) -> int:
    """Counts the runs of a grid without making them."""
    pairs, amounts = len(grid.datasets) * len(grid.models), len(grid.shots) + len(grid.fractions)
    trained = [method for name, method in grid.methods.items() if name != ZERO_SHOT]
    heads = amounts * len(grid.seeds) * sum(len(method.learning_rates or grid.learning_rates) for method in trained)
    return pairs * (heads + (ZERO_SHOT in grid.methods))


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


def _check_text(grid: GridSpec, name: str, method: MethodSpec) -> None:
    if name != ZERO_SHOT and method.head_start != "text":
        return
    mute = [model for model in grid.models if BACKBONES.get(model).text is None]
    if mute:
        able = ", ".join(sorted(spec.name for spec in BACKBONES if spec.text is not None))
        wish = "zero-shot" if name == ZERO_SHOT else f"head_start: text of {name}"
        raise ConfigError(f"{wish} needs a text tower, and {', '.join(mute)} has none. Those that have: {able}.")


def _runs(grid: GridSpec, dataset: str, backbone: str) -> Iterator[RunSpec]:
    if ZERO_SHOT in grid.methods:
        yield RunSpec(
            dataset=dataset,
            backbone=backbone,
            method=ZERO_SHOT,
            sampling=Sampling(shots=0, max_val_shots=None),
            split=grid.split,
            train=_NO_TRAINING,
            learning_rate=0.0,
            seed=0,
            label_map_sha256=grid.label_map_sha256,
        )
    for sampling, (name, method) in product(_samplings(grid), grid.methods.items()):
        if method.budget is not None:
            yield from _cell(grid, dataset, backbone, name, method, method.budget, sampling)


def _samplings(grid: GridSpec) -> Iterator[Sampling]:
    common = {"max_val_shots": grid.max_val_shots, "on_small_class": grid.on_small_class}
    for shots in grid.shots:
        yield Sampling(shots=None if shots == "all" else shots, **common)
    for fraction in grid.fractions:
        yield Sampling(fraction=fraction, **common)


def _cell(
    grid: GridSpec, dataset: str, backbone: str, name: str, method: MethodSpec, budget: Budget, sampling: Sampling
) -> Iterator[RunSpec]:
    train = TrainSpec(
        budget=budget,
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
            head_start=method.head_start,
        )


def _adjusted(method: MethodSpec, rates_replaced: bool, max_steps: int | None) -> MethodSpec:
    if rates_replaced:
        method = replace(method, learning_rates=None)
    if max_steps is not None and method.budget is not None:
        method = replace(method, budget=replace(method.budget, max_steps=max_steps))
    return method


def _shot(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"shots is a number of images per class or the word all, got {text!r}.") from None
