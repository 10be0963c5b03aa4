"""Leakage report as plain data: inflation by group leakage, source readability, confounded classes, shift of sites.

Loads no torch: reports show what was measured before.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cytolora.classifier.leakage.findings import findings_of
from cytolora.classifier.leakage.gap import Gap
from cytolora.config.yaml import parse_spec
from cytolora.core.findings import Finding, gravest_first
from cytolora.metrics.confounding import Purity
from cytolora.metrics.intervals import Interval

GROUP = "group"
NEIGHBOURS = 10
"""k of the robustness index; sources with fewer cells are left out of it."""
MIN_CELLS = 3
"""Of a source, to be read: one is left out, and two have a mean."""
ALPHA = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Inflation:
    """Balanced accuracy under three divisions, mean over the repetitions, and their differences."""

    head: str
    repeats: int
    num_folds: int
    num_cells: int
    """That were tested under all divisions."""
    num_groups: int
    num_train: float
    """Cells that a head was trained on, mean; the same under all divisions."""
    image: float
    group: float
    apart: float
    """Without near-duplicates; that of ``group`` where no group shares any with another."""
    leakage: Gap
    """``image`` less ``group``."""
    copies: Gap | None
    """``group`` less ``apart``; None where no group shares near-duplicates with another."""
    num_copies: int
    """Cells with a near-duplicate in another group."""
    left_out: tuple[str, ...]
    """Classes from one group only: no division by group can train and test on them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReading:
    """How well one kind of source can be read from features."""

    source: str
    """``group``, or the name of a metadata column."""
    num_sources: int
    num_cells: int
    num_left_out: int
    """Cells of sources that are unknown or have fewer than ``MIN_CELLS`` cells."""
    balanced_accuracy: float
    """Of a source classifier: Gaussian discriminant analysis of features centred by class, each cell left out."""
    chance: float
    """The same with permuted sources, mean."""
    p: float
    """Share of permutations that read the source as well."""
    robustness: float | None
    """SO / (SO + OS) among the nearest neighbours (Kömen et al. 2025, arXiv:2507.17845): SO are of the same class and
    another source, OS of another class and the same source. 1: neighbours share the class, 0: they share the source.
    None where there are neither."""
    robustness_null: float | None
    """The same with permuted sources, mean: what the classes alone give."""
    robustness_p: float | None
    """Share of permutations whose index is as low."""
    num_left_out_of_index: int
    """Cells of sources that are unknown or have fewer than ``NEIGHBOURS`` cells."""

    @property
    def is_readable(self) -> bool:
        """Whether the source is read better than permuted ones."""
        return self.p <= ALPHA


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteScores:
    """Scores of cells with one metadata value, or of the held-out cells without it."""

    num_cells: int
    num_groups: int
    balanced_accuracy: float
    calibration_slope: float | None
    """Factor of the logits that would fit these cells best; below 1: overconfident. None where none does: all of these
    cells are classified correctly, or they contradict the head."""
    calibration_error: float
    """Expected calibration error."""
    sensitivity: float | None
    """Share of positive cells found at the frozen threshold; None without positive classes, or cells of them."""
    sensitivity_interval: Interval | None
    specificity: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteShift:
    """One metadata value, seen by heads that were fitted without it."""

    column: str
    value: str
    threshold: float | None
    """Of the summed probability of the positive classes."""
    here: SiteScores
    elsewhere: SiteScores
    """Of held-out groups without the value: what the threshold was chosen on."""


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
    """Of reading and looking at the images, and of the bundle."""

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
