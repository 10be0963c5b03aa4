"""Ensembles from Python: ``ensemble`` reads stored runs, and trains nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytolora.core.arguments import AnyPath, OneOrMany, as_names, as_path
from cytolora.core.tables import html_table, to_pandas
from cytolora.errors import ConfigError, StoreError, unknown_name
from cytolora.experiments.run_folder import SPEC
from cytolora.experiments.store import Store, again_if_replaced
from cytolora.experiments.stored_run import StoredRun

if TYPE_CHECKING:
    import pyarrow as pa

    from cytolora.reporting.comparison.ensembles import Ensemble, Over, Weighting
    from cytolora.reporting.results.settings import Metric, Setting, SettingRuns


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensembles:
    """Ensembles that were made together, each beside its members."""

    made: "tuple[Ensemble, ...]"
    weights: "Weighting"

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row per ensemble and member, as in ``ensemble.csv``."""
        from cytolora.reporting.comparison.ensemble_table import to_rows

        return to_rows(self.made)

    @property
    def notes(self) -> list[str]:
        """How the numbers came about."""
        from cytolora.reporting.comparison.ensemble_table import notes

        return notes(self.made, self.weights)

    def to_arrow(self) -> "pa.Table":
        """Returns ``rows`` as an Arrow table."""
        import pyarrow as pa

        return pa.Table.from_pylist(self.rows)

    def to_pandas(self) -> Any:
        """Returns ``rows`` as a pandas DataFrame.

        Raises:
            ConfigError: If pandas is not installed.
        """
        return to_pandas(self.to_arrow())

    def __repr__(self) -> str:
        from cytolora.reporting.comparison.ensemble_table import to_lines

        lines = [f"  {', '.join(line)}" for line in to_lines(self.made)]
        return "\n".join([f"Ensembles({len(self.made)}, weights={self.weights!r})", *lines])

    def _repr_html_(self) -> str:
        from cytolora.reporting.comparison.ensemble_table import HEADER, to_lines

        return html_table(HEADER, to_lines(self.made), caption=f"ensembles, {self.weights} weights")


def ensemble(
    runs: OneOrMany[AnyPath],
    *,
    over: "Over" = "all",
    weights: "Weighting" = "equal",
    dataset: OneOrMany[str] = (),
    model: OneOrMany[str] = (),
    method: OneOrMany[str] = (),
    shots: OneOrMany[int] = (),
    metric: "Metric" = "accuracy",
) -> Ensembles:
    """Averages the stored probabilities of runs, and compares the mean with each member on the same test images.

    Args:
        runs: Folders of stored runs, of which every dataset, division and amount has an ensemble; or folders of single
            runs, which make one ensemble together, whatever their seeds.
        over: What members differ in: ``model``, ``method``, ``seed``, or ``all``: every setting of an amount.
        weights: ``equal``, or ``validation``: those that make the true classes of validation images most probable.
        dataset, model, method, shots: Only these as members; all if none is named.

    Raises:
        StoreError: If there are no finished runs.
        ConfigError: If there are not two members, or they know other classes or were tested on other images.
    """
    from cytolora.reporting.comparison.ensembles import make_ensembles

    many: Sequence[AnyPath] = [runs] if isinstance(runs, str | Path) else list(runs)  # pyright: ignore[reportAssignmentType]
    folders = [as_path(one, "runs") for one in many]
    if not folders:
        raise ConfigError("runs names no folder; give the folder of `cytolora run --out`, or folders of runs.")
    chosen = {
        "dataset": as_names(dataset, "dataset"),
        "model": as_names(model, "model"),
        "method": as_names(method, "method"),
        "shots": tuple(map(str, [shots] if isinstance(shots, int) else shots)),
    }
    single = [(folder / SPEC).is_file() for folder in folders]

    def make() -> "list[Ensemble]":
        settings = _members(folders, single, chosen)
        return make_ensembles(settings, over=over, weights=weights, metric=metric, together=all(single))

    return Ensembles(made=tuple(again_if_replaced(make)), weights=weights)


def _members(folders: Sequence[Path], single: Sequence[bool], chosen: dict[str, tuple[str, ...]]) -> "list[Setting]":
    from cytolora.reporting.results.checks import refuse_mixed
    from cytolora.reporting.results.settings import evaluate_setting, gather_settings

    named = (run for folder, is_run in zip(folders, single, strict=True) for run in _stored(folder, is_run=is_run))
    stored = _once(named)
    if not stored:
        raise StoreError(f"No finished runs in {folders[0]}. Point at the folder given to `cytolora run --out`.")
    refuse_mixed(stored)
    settings = gather_settings(stored)
    for name, values in chosen.items():
        known = {value for one in settings for value in _values(one, name)}
        for value in values:
            if value not in known:
                raise unknown_name(name, value, known)
    return [
        evaluate_setting(one)
        for one in settings
        if all(not values or set(values) & set(_values(one, name)) for name, values in chosen.items())
    ]


def _stored(folder: Path, *, is_run: bool) -> list[StoredRun]:
    if not is_run:
        return Store(folder).runs_at_once() if folder.is_dir() else []
    found = Store(folder.resolve().parent).find(folder.resolve().name)
    return [] if found is None else [found]


def _once(runs: Iterable[StoredRun]) -> list[StoredRun]:
    """Leaves one of every run, however often its folder, or a copy of it, is named.

    Raises:
        StoreError: If two folders hold one run with different predictions.
    """
    first: dict[str, StoredRun] = {}
    for run in runs:
        other = first.setdefault(run.run_id, run)
        if other.path.resolve() != run.path.resolve() and not other.predictions().equals(run.predictions()):
            raise StoreError(
                f"Run {run.run_id} is stored twice, with other predictions in {other.path.parent} and in "
                f"{run.path.parent}. Name one of the two folders."
            )
    return list(first.values())


def _values(setting: "SettingRuns", name: str) -> tuple[str, ...]:
    """Names by which a setting is chosen."""
    spec = setting.spec
    match name:
        case "dataset":
            return setting.dataset, spec.dataset.partition(":")[0]
        case "model":
            return (setting.model,)
        case "method":
            return tuple({setting.name or spec.method, spec.method})
        case _:
            return () if spec.sampling.shots is None else (str(spec.sampling.shots),)
