"""Leakage report: inflation by group leakage, source readability, confounded classes, and shift between sites."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cytolora.classifier.leakage.cells import SourcedCells, metadata_columns
from cytolora.classifier.leakage.divisions import Inflation, check_head, measure_inflation, num_heads
from cytolora.classifier.leakage.findings import findings_of
from cytolora.classifier.leakage.sites import MAX_VALUES, SiteShift, measure_sites, num_values
from cytolora.classifier.leakage.sources import NUM_PERMUTATIONS, SourceReading, read_source
from cytolora.config.yaml import parse_spec
from cytolora.core.findings import Finding, gravest_first
from cytolora.core.progress import SILENT, Progress
from cytolora.metrics.confounding import Purity, purities

GROUP = "group"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureReport:
    """What one kind of features gives away."""

    features: str
    """``frozen``, or ``adapted``."""
    inflation: Inflation | None
    """None where no two classes come from two groups each."""
    sources: tuple[SourceReading, ...]
    """Of groups, then of metadata columns; those with too few cells are left out."""
    sites: tuple[SiteShift, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakageReport:
    """The whole report; plain data, ready for JSON."""

    dataset: str
    model: str
    classes: tuple[str, ...]
    num_cells: int
    num_groups: int
    group_rule: str
    num_without_group: int
    num_not_drawn: int
    num_trained_on: int
    """Left out, as the bundle was trained on them or on others of their groups."""
    positive: tuple[str, ...]
    sensitivity: float
    classes_and_groups: tuple[Purity, ...]
    by_features: tuple[FeatureReport, ...]
    """Frozen features first, then those of the bundle."""
    of_data: tuple[Finding, ...] = ()
    """Of reading and looking at the images."""

    def findings(self) -> list[Finding]:
        """Returns every finding, the gravest first."""
        return gravest_first([*findings_of(self.classes_and_groups, self.by_features), *self.of_data])

    def plain(self) -> dict[str, Any]:
        """Returns the report for JSON, with its findings under ``findings``."""
        plain = asdict(self)
        del plain["of_data"]
        return {**plain, "findings": [one.plain() for one in self.findings()]}

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> "LeakageReport":
        """Reads what ``plain`` gave, without the findings of the data.

        Raises:
            ConfigError: If it is something else.
        """
        kept = {name: value for name, value in plain.items() if name != "findings"}
        return parse_spec(kept, LeakageReport, "leakage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is computed, and from which seed."""

    head: str = "gda"
    repeats: int = 10
    """Of the divisions."""
    permutations: int = NUM_PERMUTATIONS
    seed: int = 0

    def __post_init__(self) -> None:
        check_head(self.head, self.repeats)


def measure_features(
    cells: SourcedCells,
    kind: str,
    effort: Effort,
    *,
    positive: Sequence[str] = (),
    sensitivity: float = 0.95,
    with_sites: bool = True,
    progress: Progress = SILENT,
) -> FeatureReport:
    """Measures what features give away.

    Args:
        kind: ``frozen`` or ``adapted``.
        with_sites: Whether heads are fitted without each metadata value; each takes as long as a division.
    """

    def tick() -> None:
        progress.done(1)

    progress.begin(f"divisions, {kind} features", num_heads(cells, effort.repeats), "heads")
    inflation = measure_inflation(cells, head=effort.head, repeats=effort.repeats, seed=effort.seed, on_head=tick)
    kinds = [GROUP, *(name for name, number in metadata_columns(cells.samples).items() if number <= MAX_VALUES)]
    progress.begin(f"sources, {kind} features", effort.permutations * len(kinds), "permutations")
    sources = [
        read_source(cells, name, seed=effort.seed, permutations=effort.permutations, on_permutation=tick)
        for name in kinds
    ]
    sites: tuple[SiteShift, ...] = ()
    if with_sites:
        progress.begin(f"sites, {kind} features", num_values(cells), "values")
        sites = measure_sites(
            cells, head=effort.head, positive=positive, sensitivity=sensitivity, seed=effort.seed, on_value=tick
        )
    read = tuple(one for one in sources if one is not None)
    return FeatureReport(features=kind, inflation=inflation, sources=read, sites=sites)


def assemble(
    cells: SourcedCells,
    by_features: Sequence[FeatureReport],
    *,
    model: str,
    group_rule: str,
    positive: Sequence[str] = (),
    sensitivity: float = 0.95,
    num_trained_on: int = 0,
    of_data: Sequence[Finding] = (),
) -> LeakageReport:
    """Puts the measures together, with the classes that are their source."""
    return LeakageReport(
        dataset=cells.name,
        model=model,
        classes=cells.classes,
        num_cells=len(cells.samples),
        num_groups=cells.num_groups,
        group_rule=group_rule,
        num_without_group=cells.num_without_group,
        num_not_drawn=cells.num_not_drawn,
        num_trained_on=num_trained_on,
        positive=tuple(positive),
        sensitivity=sensitivity,
        classes_and_groups=purities(cells.labels, [one.group for one in cells.samples], cells.classes),
        by_features=tuple(by_features),
        of_data=tuple(of_data),
    )
