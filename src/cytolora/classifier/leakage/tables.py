"""Tables of the leakage report: the same rows on the console and on the page."""

from collections.abc import Iterator
from dataclasses import dataclass

from cytolora.classifier.leakage.gap import points
from cytolora.classifier.leakage.report import (
    MIN_CELLS,
    NEIGHBOURS,
    FeatureReport,
    Inflation,
    LeakageReport,
    SiteScores,
    SiteShift,
    SourceReading,
)
from cytolora.display import format as words


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table, ready to be printed."""

    title: str
    about: str
    """What its numbers are, for a page."""
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    """Texts first, then numbers."""
    num_texts: int = 1
    """Columns of text."""
    notes: tuple[str, ...] = ()


def summary(report: LeakageReport) -> str:
    """Says in one line what was looked at."""
    left = {
        "without a known group": report.num_without_group,
        "of further groups": report.num_not_drawn,
        "trained on by the bundle, or of the same groups": report.num_trained_on,
    }
    out = "; ".join(f"{number:,} {why}" for why, number in left.items() if number)
    rule = f" ({report.group_rule})" if report.group_rule else ""
    return (
        f"{report.dataset}, {report.model}: {report.num_cells:,} cells of {len(report.classes)} classes from "
        f"{report.num_groups:,} groups{rule}.{f' Left out: {out}.' if out else ''}"
    )


def of(report: LeakageReport) -> list[Table]:
    """Returns the tables of a report; those without rows and notes are left out."""
    tables = [_inflation(report), _sources(report), _classes(report), *_sites(report)]
    return [table for table in tables if table.rows or table.notes]


def _inflation(report: LeakageReport) -> Table:
    found = [(one, one.inflation) for one in report.by_features if one.inflation is not None]
    rows = [row for one, inflation in found for row in _divisions(one, inflation)]
    notes = list(dict.fromkeys(note for _, inflation in found for note in _remarks(inflation)))
    if not found:
        notes.append("No two classes come from two groups each: nothing can be trained and tested on different groups.")
    return Table(
        title="Balanced accuracy by division, and inflation",
        about=(
            "The same head, trained on equally many cells of each class and tested on the same cells, under three "
            "divisions; in percent. Inflation: how much better a division looks than the one below it, in points, with "
            "its 95 % interval for other groups."
        ),
        header=("features", "division", "balanced accuracy", "inflation"),
        rows=tuple(rows),
        num_texts=2,
        notes=tuple(notes),
    )


def _divisions(report: FeatureReport, inflation: Inflation) -> Iterator[tuple[str, ...]]:
    yield report.features, "by image", words.percent(inflation.image), points(inflation.leakage)
    copies = "" if inflation.copies is None else points(inflation.copies)
    yield report.features, "by group", words.percent(inflation.group), copies
    if inflation.copies is not None:
        yield report.features, "by group, without near-duplicates", words.percent(inflation.apart), ""


def _remarks(inflation: Inflation) -> Iterator[str]:
    yield (
        f"{inflation.head}, {words.count(inflation.repeats, 'division')} in up to {inflation.num_folds} folds; "
        f"{words.count(inflation.num_cells, 'cell')} tested, {words.count(inflation.num_groups, 'group')}, "
        f"{inflation.num_train:,.0f} cells in training on average."
    )
    yield (
        f"{words.count(inflation.num_copies, 'cell')} with a near-duplicate in another group."
        if inflation.num_copies
        else "No near-duplicates in different groups."
    )
    if inflation.left_out:
        yield f"Left out, from one group only: {words.listed(inflation.left_out)}."


def _sources(report: LeakageReport) -> Table:
    rows = [(one.features, *_source(source)) for one in report.by_features for source in one.sources]
    kinds = {source.source: source for one in report.by_features for source in one.sources}
    notes = [note for source in kinds.values() for note in _left_out(source)]
    if not rows:
        notes = [f"Sources: fewer than two have {MIN_CELLS} cells; whether they can be read is not known."]
    return Table(
        title="Sources read from the features",
        about=(
            "Balanced accuracy of a source classifier on features centred by class, each cell left out, beside that of "
            f"sources permuted within each class. Robustness index: of the {NEIGHBOURS} nearest neighbours, those of "
            "the same class and another source, as a share of these and those of another class and the same source; "
            "below the value for permuted sources, neighbours share the source more than the classes explain."
        ),
        header=("features", "source", "sources", "read, %", "chance, %", "p", "robustness", "chance", "p"),
        rows=tuple(rows),
        num_texts=2,
        notes=tuple(notes),
    )


def _left_out(one: SourceReading) -> Iterator[str]:
    for number, fewest, what in (
        (one.num_left_out, MIN_CELLS, ""),
        (one.num_left_out_of_index, NEIGHBOURS, "of the robustness index, "),
    ):
        if number:
            cells = words.count(number, "cell")
            yield f"Left out {what}{one.source} unknown or with fewer than {fewest} cells: {cells}."


def _source(one: SourceReading) -> tuple[str, ...]:
    read = (words.percent(one.balanced_accuracy), words.percent(one.chance), f"{one.p:.3f}")
    index = (one.robustness, one.robustness_null, one.robustness_p)
    return (one.source, str(one.num_sources), *read, *("–" if value is None else f"{value:.3f}" for value in index))


def _classes(report: LeakageReport) -> Table:
    rows = [
        (
            one.label,
            str(one.num_groups),
            words.percent(one.share_alone),
            "is its source" if one.is_source else "",
        )
        for one in report.classes_and_groups
    ]
    return Table(
        title="Classes and their groups",
        about=(
            "Groups of two cells or more that hold a class, and the share of them that hold no other. A class whose "
            "groups hold it alone, while groups of other classes are mixed, cannot be told from its source."
        ),
        header=("class", "groups", "alone, %", ""),
        rows=tuple(rows),
    )


def _sites(report: LeakageReport) -> Iterator[Table]:
    asked = words.whole_percent(report.sensitivity)
    positive = words.listed(report.positive)
    point = (
        f" Sensitivity and specificity for {positive} at the threshold that finds {asked} elsewhere."
        if positive
        else ""
    )
    for one in report.by_features:
        yield Table(
            title=f"Sites, scanners, stains: {one.features} features, head fitted without the value",
            about=(
                "Heads fitted on cells without the value, with temperature and threshold chosen on held-out groups "
                f"elsewhere and frozen, then tested on the value.{point} Calibration slope: the factor of the logits "
                "that would fit; below 1, overconfident."
            ),
            header=("column", "value", "tested", "cells", "groups", "balanced accuracy", "sensitivity", "specificity",
                    "slope", "ECE"),
            rows=tuple(row for shift in one.sites for row in _shift(shift)),
            num_texts=3,
        )  # fmt: skip


def _shift(shift: SiteShift) -> Iterator[tuple[str, ...]]:
    for where, scores in (("here", shift.here), ("elsewhere", shift.elsewhere)):
        yield shift.column, shift.value, where, *_scores(scores)


def _scores(one: SiteScores) -> tuple[str, ...]:
    found = "–" if one.sensitivity is None else words.percent(one.sensitivity)
    interval = f" ({words.interval(one.sensitivity_interval)})" if one.sensitivity_interval else ""
    return (
        words.thousands(one.num_cells),
        words.thousands(one.num_groups),
        words.percent(one.balanced_accuracy),
        found + interval,
        "–" if one.specificity is None else words.percent(one.specificity),
        "–" if one.calibration_slope is None else f"{one.calibration_slope:.2f}",
        words.percent(one.calibration_error),
    )
