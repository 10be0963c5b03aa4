"""Leakage section of a report: rows for tables, file and figure from what a store holds beside its runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytolora.classifier.leakage.gap import points
from cytolora.classifier.leakage.report import FeatureReport, LeakageReport, SourceReading
from cytolora.classifier.leakage.tables import Table
from cytolora.core.findings import Finding, gravest_first
from cytolora.display import format as words
from cytolora.reporting.leakage.kept import KeptLeakage, Subject, read_kept
from cytolora.reporting.results.settings import SettingRuns

COLUMNS = (
    *("dataset", "model", "features", "cells", "run_id", "n_cells", "n_groups", "head", "image_split", "group_split"),
    *("group_split_without_copies", "inflation", "inflation_low", "inflation_high", "n_cells_with_copies"),
    *("source", "n_sources", "source_read", "source_chance", "source_p", "robustness", "robustness_chance"),
    *("robustness_p", "classes_that_are_their_source"),
)
"""Of leakage.csv; shares in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class LeakageSection:
    """What is known of one dataset, model by model."""

    dataset: str
    kept: tuple[KeptLeakage, ...]
    not_measured: tuple[str, ...]
    """Why a model is missing, a sentence each."""

    @property
    def parts(self) -> list[tuple[KeptLeakage, LeakageReport, FeatureReport, str]]:
        """Each kind of features with the cells that it was measured on: ``all`` or ``test``."""
        return [
            (one, report, features, cells)
            for one in self.kept
            for report, cells in ((one.frozen, "all"), (one.adapted, "test"))
            if report is not None
            for features in report.by_features
        ]

    @property
    def findings(self) -> list[Finding]:
        """Of all models, the gravest first; what is said of test cells alone stands in the tables."""
        return gravest_first(found for one in self.kept if one.frozen is not None for found in _named(one))

    @property
    def tables(self) -> list[Table]:
        """Inflation, then readable sources; none where nothing was measured."""
        return [_inflation(self), _sources(self)] if self.parts else []

    @property
    def runs(self) -> list[str]:
        """Which run the adapted features are of, a sentence for each model."""
        return [
            f"Adapted features of {one.subject.backbone}: {one.method} ({one.run_id})."
            for one in self.kept
            if one.adapted is not None
        ]


def leakage_section(runs_dir: Path, settings: Sequence[SettingRuns]) -> LeakageSection:
    """Reads what the store holds beside the settings of one dataset."""
    found, missing = [], []
    for subject in dict.fromkeys(Subject.of(run) for setting in settings for run in setting.runs):
        kept = read_kept(runs_dir, subject)
        if kept is not None and kept.frozen is not None:
            found.append(kept)
        elif kept is not None and kept.skipped:
            missing.append(f"{subject.backbone}: {kept.skipped.rstrip('.')}.")
        else:
            missing.append(f"{subject.backbone}: this store holds no measurement.")
    return LeakageSection(dataset=settings[0].dataset, kept=tuple(found), not_measured=tuple(missing))


def _named(one: KeptLeakage) -> Iterator[Finding]:
    """The findings of a model; those of the data alone are equal for all models and stand once."""
    assert one.frozen is not None
    for found in one.frozen.findings():
        of_features = found.code != "N841"
        text = f"{one.subject.backbone}: {found.text}" if of_features else found.text
        yield Finding(code=found.code, text=text, count=found.count, examples=found.examples)


def to_rows(sections: Sequence[LeakageSection]) -> list[dict[str, Any]]:
    """Returns a row for each kind of features and source, for CSV."""
    return [row for section in sections for part in section.parts for row in _rows(section.dataset, *part)]


def _rows(
    dataset: str, one: KeptLeakage, report: LeakageReport, features: FeatureReport, cells: str
) -> Iterator[dict[str, Any]]:
    row: dict[str, Any] = {
        "dataset": dataset,
        "model": one.subject.backbone,
        "features": features.features,
        "cells": cells,
        "run_id": one.run_id if cells == "test" else "",
        "n_cells": report.num_cells,
        "n_groups": report.num_groups,
        "classes_that_are_their_source": "; ".join(p.label for p in report.classes_and_groups if p.is_source),
    }
    if (found := features.inflation) is not None:
        row |= {
            "head": found.head,
            "image_split": found.image,
            "group_split": found.group,
            "group_split_without_copies": found.apart,
            "inflation": found.leakage.value,
            "inflation_low": found.leakage.low,
            "inflation_high": found.leakage.high,
            "n_cells_with_copies": found.num_copies,
        }
    for source in features.sources or (None,):
        yield {name: _rounded((row | _of_source(source)).get(name)) for name in COLUMNS}


def _of_source(source: SourceReading | None) -> dict[str, Any]:
    if source is None:
        return {}
    return {
        "source": source.source,
        "n_sources": source.num_sources,
        "source_read": source.balanced_accuracy,
        "source_chance": source.chance,
        "source_p": source.p,
        "robustness": source.robustness,
        "robustness_chance": source.robustness_null,
        "robustness_p": source.robustness_p,
    }


def _inflation(section: LeakageSection) -> Table:
    rows = []
    for one, report, features, cells in section.parts:
        if (found := features.inflation) is None:
            continue
        rows.append(
            (
                one.subject.backbone,
                _features(features, cells),
                words.thousands(report.num_cells),
                words.thousands(report.num_groups),
                words.percent(found.image),
                words.percent(found.group),
                words.percent(found.apart),
                points(found.leakage),
            )
        )
    notes = () if rows else ("No two classes come from two groups each: nothing can be divided by group.",)
    return Table(
        title="Inflation by group leakage",
        about=(
            "Balanced accuracy, in percent, of one head in closed form under three divisions, trained on equally many "
            "cells of each class and tested on the same cells. Inflation: by image less by group, in points, with its "
            "95 % interval for other groups."
        ),
        header=("model", "features", "cells", "groups", "by image", "by group", "without copies", "inflation"),
        rows=tuple(rows),
        num_texts=2,
        notes=notes,
    )


def _sources(section: LeakageSection) -> Table:
    rows = [
        (
            one.subject.backbone,
            _features(features, cells),
            source.source,
            str(source.num_sources),
            words.percent(source.balanced_accuracy),
            words.percent(source.chance),
            f"{source.p:.3f}",
            "–" if source.robustness is None else f"{source.robustness:.3f}",
            "–" if source.robustness_null is None else f"{source.robustness_null:.3f}",
        )
        for one, _, features, cells in section.parts
        for source in features.sources
    ]
    notes = () if rows else ("Fewer than two sources have enough cells; whether they can be read is not known.",)
    return Table(
        title="Sources read from the features, before and after adaptation",
        about=(
            "Balanced accuracy, in percent, of a source classifier on features centred by class, beside that of "
            "sources permuted within each class (chance). Robustness index: of the nearest neighbours, those of the "
            "same class and another source as a share of these and those of another class and the same source. Compare "
            "frozen and adapted features on the same test cells: read better after adaptation, the adapter has learned "
            "the source."
        ),
        header=("model", "features", "source", "sources", "read, %", "chance, %", "p", "robustness", "chance"),
        rows=tuple(rows),
        num_texts=3,
        notes=notes,
    )


def _features(features: FeatureReport, cells: str) -> str:
    return f"{features.features}, {cells} cells"


def _rounded(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value
