"""Measures features for the leakage report: divisions, sources and sites, and puts them together."""

from collections.abc import Sequence
from dataclasses import dataclass

from cytolora.classifier.leakage.cells import MAX_CELLS, SourcedCells, metadata_columns
from cytolora.classifier.leakage.divisions import check_head, measure_inflation, num_heads
from cytolora.classifier.leakage.report import GROUP, FeatureReport, LeakageReport
from cytolora.classifier.leakage.sites import MAX_VALUES, SiteShift, measure_sites, num_values
from cytolora.classifier.leakage.sources import NUM_PERMUTATIONS, read_source
from cytolora.core.findings import Finding
from cytolora.core.progress import SILENT, Progress
from cytolora.metrics.confounding import purities


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is computed, and from which seed."""

    head: str = "gda"
    repeats: int = 10
    """Of the divisions."""
    permutations: int = NUM_PERMUTATIONS
    seed: int = 0
    max_cells: int = MAX_CELLS
    """Whole groups are drawn until there are so many."""
    sites: bool = True
    """Whether heads are fitted without each metadata value; each takes as long as a division."""

    def __post_init__(self) -> None:
        check_head(self.head, self.repeats)


def measure_features(
    cells: SourcedCells,
    kind: str,
    effort: Effort,
    *,
    positive: Sequence[str] = (),
    sensitivity: float = 0.95,
    progress: Progress = SILENT,
) -> FeatureReport:
    """Measures what features give away.

    Args:
        kind: ``frozen`` or ``adapted``.
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
    if effort.sites:
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
