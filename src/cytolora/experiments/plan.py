"""Plan of a grid: its runs less those that are stored, in jobs that share work; imports no torch."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from cytolora.config.grid import GridSpec
from cytolora.config.run import RunSpec, SplitSpec
from cytolora.core.identity import Identity
from cytolora.experiments.expand import expand, variant_names
from cytolora.experiments.select import decide, refuse_several_rates, setting_id
from cytolora.experiments.store import Store
from cytolora.experiments.stored_run import StoredRun
from cytolora.training.resources import Inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """A stored run that was computed from something else than today's weights, data, split or prompts."""

    run_id: str
    stored: Identity
    today: Identity
    pixel_rules: tuple[str, ...] = ()
    """Rules that read images otherwise than when it was stored, where nothing else of the data differs."""

    def __str__(self) -> str:
        differences = [
            f"{name} {(was or 'none')[:12]} stored, {now[:12]} today"
            for name in Identity.__dataclass_fields__
            if (was := getattr(self.stored, name)) != (now := getattr(self.today, name)) and now is not None
        ]
        differences += [f"images are read by other rules since ({rules})" for rules in self.pixel_rules]
        return f"{self.run_id}: {'; '.join(differences)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Runs that share dataset, division and backbone: features are computed and the encoder is loaded once."""

    dataset: str
    backbone: str
    split: SplitSpec
    settings: tuple[tuple[RunSpec, ...], ...]
    """Runs by setting of the results table (all seeds and learning rates), stored ones among them."""

    @property
    def title(self) -> str:
        """Names what its runs share, for people."""
        return f"{self.dataset}, {self.backbone}"

    @property
    def runs(self) -> tuple[RunSpec, ...]:
        """All runs of all settings."""
        return tuple(run for setting in self.settings for run in setting)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a grid asks for and how much of it is stored."""

    runs: tuple[RunSpec, ...]
    stored: frozenset[str]
    """Run ids that count."""
    stale: tuple[Stale, ...]
    jobs: tuple[Job, ...]
    """Those with something to do: a run that is missing, or a chosen rate whose test set is not scored."""
    names: Mapping[str, str]
    """Of named variants, by setting id."""
    notes: tuple[str, ...]
    """What of the grid does not apply to a dataset, a sentence each."""

    @property
    def to_do(self) -> tuple[RunSpec, ...]:
        """Runs that are neither stored nor stale."""
        stale = {run.run_id for run in self.stale}
        return tuple(run for run in self.runs if run.run_id not in self.stored and run.run_id not in stale)


def make_plan(grid: GridSpec, store: Store, inputs: Inputs) -> Plan:
    """Compares a grid with the store."""
    runs, notes = _divisions(grid, expand(grid), inputs)
    by_setting = _by_setting(runs)
    stored_by_setting = _stored_runs(store, by_setting)
    stored_by_id = {run.run_id: run for members in stored_by_setting.values() for run in members}
    stored, stale = set(), []
    for name, setting in by_setting.items():
        if setting[0].sampling.val_shots == 0:
            before = [run.spec["learning_rate"] for run in stored_by_setting.get(name, ())]
            refuse_several_rates(name, [*before, *(run.learning_rate for run in setting)])
        today: dict[int, Identity] = {}  # by seed: rates share it
        for run in setting:
            if (old := stored_by_id.get(run.run_id)) is None:
                continue
            if run.seed not in today:
                today[run.seed] = inputs.known_identity(run)
            if old.identity.agrees_with(today[run.seed]):
                stored.add(run.run_id)
            else:
                rules = inputs.changed_pixels(run, old.identity.data_fingerprint)
                stale.append(Stale(run_id=run.run_id, stored=old.identity, today=today[run.seed], pixel_rules=rules))
    unfinished = {name for name, setting in by_setting.items() if has_work(setting, stored_by_setting.get(name, ()))}
    return Plan(
        runs=runs,
        stored=frozenset(stored),
        stale=tuple(stale),
        jobs=_jobs(by_setting, unfinished),
        names={setting: name for setting, name in variant_names(grid).items() if setting in by_setting},
        notes=notes,
    )


def _divisions(grid: GridSpec, runs: Sequence[RunSpec], inputs: Inputs) -> tuple[tuple[RunSpec, ...], tuple[str, ...]]:
    """Leaves one division of datasets that name their own test images, that of the lowest split seed, and says so."""
    has_own = bool(grid.split_seeds) and not grid.leave_out and grid.split.leave_out is None
    official = [dataset for dataset in grid.datasets if has_own and inputs.has_official_test(dataset)]
    lowest = min(grid.split_seeds, default=0)
    kept = tuple(run for run in runs if run.dataset not in official or run.split.seed == lowest)
    if len(grid.split_seeds) < 2:
        return kept, ()
    seeds = ", ".join(map(str, grid.split_seeds))
    return kept, tuple(
        f"{name}: its official test set is one division; of the split seeds {seeds} only {lowest} is run."
        for name in official
    )


def stored_runs(store: Store, setting: Sequence[RunSpec]) -> list[StoredRun]:
    """Returns all stored runs of a setting, of earlier seeds and rates too."""
    name = setting[0].setting_id
    return _stored_runs(store, [name]).get(name, [])


def _by_setting(runs: Sequence[RunSpec]) -> dict[str, list[RunSpec]]:
    settings: dict[str, list[RunSpec]] = {}
    for run in runs:
        settings.setdefault(run.setting_id, []).append(run)
    return settings


def _stored_runs(store: Store, names: Iterable[str]) -> dict[str, list[StoredRun]]:
    """Reads what is stored of some settings, each run once, by the setting's name."""
    asked = set(names)
    settings: dict[str, list[StoredRun]] = {}
    for run in store.runs_of({name.rpartition("_")[0] for name in asked}):
        if (name := setting_id(run.spec)) in asked:
            settings.setdefault(name, []).append(run)
    return settings


def _jobs(by_setting: Mapping[str, Sequence[RunSpec]], unfinished: Set[str]) -> tuple[Job, ...]:
    """Gathers settings into jobs; those with nothing unfinished are left out."""
    jobs: dict[tuple[str, str, SplitSpec], list[str]] = {}
    for name, setting in by_setting.items():
        first = setting[0]
        jobs.setdefault((first.dataset, first.backbone, first.split), []).append(name)
    return tuple(
        Job(dataset=dataset, backbone=backbone, split=split, settings=tuple(tuple(by_setting[name]) for name in names))
        for (dataset, backbone, split), names in jobs.items()
        if not unfinished.isdisjoint(names)
    )


def has_work(setting: Sequence[RunSpec], stored: Sequence[StoredRun]) -> bool:
    """Whether a run of a setting is missing, or a test score, given what is stored of it."""
    if len(stored) < len(setting) or not {run.run_id for run in setting} <= {run.run_id for run in stored}:
        return True
    left = decide(stored, {run.learning_rate for run in setting})
    return bool(left.to_seal or left.to_score)
