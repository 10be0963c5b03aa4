"""Paired comparison of settings on the same test images: difference, interval, p-values corrected by Holm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from cytolora.core.tables import html_table, to_pandas
from cytolora.display import format as words
from cytolora.metrics.bootstrap import Replicates
from cytolora.metrics.paired import Difference, McNemar, difference, holm, mcnemar
from cytolora.reporting.comparison.fields import RATE, By, resolve
from cytolora.reporting.comparison.pairing import Rivals, alone, find_rivals, name_of
from cytolora.reporting.comparison.rates import AtRate, seeds_of
from cytolora.reporting.results.flags import in_caption, in_file, suffix
from cytolora.reporting.results.predictions import TestPredictions, draw_seeds
from cytolora.reporting.results.settings import Metric, Setting, read_predictions

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = (
    *("dataset", "setting", "first", "second", "metric", "first_mean", "second_mean", "difference", "low", "high"),
    *("p", "p_holm", "p_cluster", "p_cluster_holm", "num_units", "unit"),
    *("mcnemar_seed", "mcnemar_only_first", "mcnemar_only_second", "mcnemar_exact", "mcnemar_mid_p"),
    *("first_flags", "second_flags"),
    *("first_setting_id", "second_setting_id"),
)
"""Of compare.csv."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two settings that differ in one thing and saw the same test images."""

    dataset: str
    setting: str
    """What both share besides the dataset."""
    first: str
    second: str
    metric: Metric
    settings: tuple[Setting, Setting]
    estimate: Difference
    p_holm: float
    """Corrected for all pairs of the comparison."""
    p_cluster_holm: float | None
    """The same of the cluster-robust test; None where it has no p."""
    mcnemar: McNemar | None
    """Of one seed; None where the settings share none."""
    mcnemar_seed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A family of pairs."""

    by: By
    metric: Metric
    pairs: tuple[Pair, ...]
    """By dataset and setting; within these, in the order of the settings."""
    skipped: tuple[str, ...]
    """Why two settings could not be compared, or one has no rival, a line each."""

    def to_arrow(self) -> "pa.Table":
        """Returns the columns of ``compare.csv``, one row per pair."""
        import pyarrow as pa

        rows = to_rows(self)
        return pa.table({name: [row[name] for row in rows] for name in COLUMNS})

    def to_pandas(self) -> Any:
        """Returns ``to_arrow`` as a pandas DataFrame.

        Raises:
            ConfigError: If pandas is not installed.
        """
        return to_pandas(self.to_arrow())

    def __repr__(self) -> str:
        lines = [f"Comparison(by={self.by!r}, metric={self.metric!r}, {len(self.pairs)} pairs)"]
        lines += [f"  {line[0]}, {line[1]}: {line[2]} - {line[3]} = {line[4]} ({line[5]})" for line in to_lines(self)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        listed = "".join(f"<li>{escape(note)}</li>" for note in notes(self))
        return html_table(HEADER, to_lines(self), caption=f"by {self.by}, {self.metric}") + f"<ul>{listed}</ul>"


def compare(
    settings: Sequence[Setting], by: By, *, metric: Metric = "accuracy", only_best: bool = False, replicates: int = 2000
) -> Comparison:
    """Compares all tested settings that differ in one thing only, in pairs.

    Args:
        by: The thing: ``model``, ``method``, ``shots``, ``learning_rate`` (on validation images), or any field in which
            settings differ, such as ``rank``; settings of one dataset that agree in everything else are rivals.
        only_best: Compares only the best of each group of rivals with the others, a family that is smaller.
        replicates: Draws of the test set.

    Raises:
        ConfigError: If ``by`` names nothing in which settings differ.
    """
    by = resolve(settings, by)
    pairs: list[Pair] = []
    skipped: list[str] = []
    rivals = find_rivals(settings, by, metric, only_best=only_best)
    for group in rivals:
        predictions: dict[str, tuple[TestPredictions, ...]] = {}
        drawn: dict[str, Replicates] = {}
        for first, second in group.pairs:
            where = f"{group.dataset}, {group.setting}: {name_of(first, by)} and {name_of(second, by)}"
            reason = why_not(first, second)
            if reason:
                skipped.append(f"{where} are not compared: {reason}.")
                continue
            for setting in (first, second):
                if setting.setting_id not in drawn:
                    predictions[setting.setting_id] = read_predictions(setting)
                    drawn[setting.setting_id] = draw_seeds(predictions[setting.setting_id], replicates)
            estimate = difference(drawn[first.setting_id], drawn[second.setting_id], metric)
            pairs.append(_pair((first, second), by, metric, estimate, group, predictions))
    skipped += alone(settings, by, find_rivals(settings, by, metric, only_best=False))
    corrected = holm([pair.estimate.p for pair in pairs])
    robust = _holm_of_known([pair.estimate.p_cluster for pair in pairs])
    pairs = [
        replace(pair, p_holm=value, p_cluster_holm=other)
        for pair, value, other in zip(pairs, corrected, robust, strict=True)
    ]
    return Comparison(by=by, metric=metric, pairs=tuple(pairs), skipped=tuple(skipped))


def _holm_of_known(p_values: Sequence[float | None]) -> list[float | None]:
    """Corrects for all pairs; those without a p count as 1 and stay without."""
    corrected = holm([1.0 if p is None else p for p in p_values])
    return [None if p is None else value for p, value in zip(p_values, corrected, strict=True)]


def why_not(first: Setting, second: Setting) -> str:
    """Says why two settings saw no common test set; empty where they did."""
    if isinstance(first, AtRate) and isinstance(second, AtRate):
        here_seeds, there_seeds = seeds_of([first, second])
        return "" if here_seeds == there_seeds else "they were not run with the same seeds"
    here, there = first.evaluation, second.evaluation
    if here is None or there is None:
        return "one of them has no test score"
    if here.classes != there.classes:
        return f"their classes differ ({len(here.classes)} and {len(there.classes)})"
    if here.test_set != there.test_set:
        sizes = f"{here.num_images} and {there.num_images}"
        return f"they did not see the same test images ({sizes}; another split or other labels)"
    return ""


def _pair(
    settings: tuple[Setting, Setting],
    by: By,
    metric: Metric,
    estimate: Difference,
    group: Rivals,
    predictions: Mapping[str, Sequence[TestPredictions]],
) -> Pair:
    first, second = settings
    seeds = sorted({run.spec["seed"] for run in first.tested} & {run.spec["seed"] for run in second.tested})
    return Pair(
        dataset=group.dataset,
        setting=group.setting,
        first=name_of(first, by),
        second=name_of(second, by),
        metric=metric,
        settings=settings,
        estimate=estimate,
        p_holm=estimate.p,
        p_cluster_holm=estimate.p_cluster,
        mcnemar=_mcnemar(settings, seeds[0], predictions) if seeds else None,
        mcnemar_seed=seeds[0] if seeds else None,
    )


def _mcnemar(
    settings: tuple[Setting, Setting], seed: int, predictions: Mapping[str, Sequence[TestPredictions]]
) -> McNemar:
    """Tests the runs of one seed, images in the order of their paths."""
    answers = []
    for setting in settings:
        index = [run.spec["seed"] for run in setting.tested].index(seed)
        rows = predictions[setting.setting_id][index]
        order = np.argsort(np.asarray(rows.paths, dtype=str))
        answers.append((rows.labels[order], rows.predicted[order]))
    return mcnemar(answers[0][0], answers[0][1], answers[1][1])


def to_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Returns a row per pair, with shares in [0, 1]; for JSON and CSV."""
    return [_row(pair) for pair in comparison.pairs]


def _row(pair: Pair) -> dict[str, Any]:
    means = [setting.test(pair.metric) for setting in pair.settings]
    test = pair.mcnemar
    return {
        "dataset": pair.dataset,
        "setting": pair.setting,
        "first": pair.first,
        "second": pair.second,
        "metric": pair.metric,
        "first_mean": means[0] and round(means[0].mean, 6),
        "second_mean": means[1] and round(means[1].mean, 6),
        "difference": round(pair.estimate.value, 6),
        "low": round(pair.estimate.interval.low, 6),
        "high": round(pair.estimate.interval.high, 6),
        "p": pair.estimate.p,
        "p_holm": pair.p_holm,
        "p_cluster": pair.estimate.p_cluster,
        "p_cluster_holm": pair.p_cluster_holm,
        "num_units": pair.estimate.interval.num_units,
        "unit": pair.estimate.interval.unit,
        "mcnemar_seed": pair.mcnemar_seed,
        "mcnemar_only_first": test and test.only_first,
        "mcnemar_only_second": test and test.only_second,
        "mcnemar_exact": test and test.exact,
        "mcnemar_mid_p": test and test.mid_p,
        "first_flags": in_file(pair.settings[0]),
        "second_flags": in_file(pair.settings[1]),
        "first_setting_id": pair.settings[0].setting_id,
        "second_setting_id": pair.settings[1].setting_id,
    }


HEADER = (
    "dataset",
    "setting",
    "first",
    "second",
    "difference, points",
    "95 % interval",
    "p (Holm)",
    "p of cluster-robust t (Holm)",
    "McNemar mid-p, images taken as independent",
)


def to_lines(comparison: Comparison) -> list[tuple[str, ...]]:
    """Returns a printed row per pair, under ``HEADER``."""
    lines = []
    for pair in comparison.pairs:
        low, high = pair.estimate.interval.low, pair.estimate.interval.high
        test = "–" if pair.mcnemar is None else f"{_p(pair.mcnemar.mid_p)} (seed {pair.mcnemar_seed})"
        robust = "–" if pair.p_cluster_holm is None else _p(pair.p_cluster_holm)
        names = [name + suffix(setting) for name, setting in zip((pair.first, pair.second), pair.settings, strict=True)]
        interval = f"{words.difference(low, 0)} to {words.difference(high, 0)}"
        apart = words.difference(pair.estimate.value, 0)
        lines.append((pair.dataset, pair.setting, *names, apart, interval, _p(pair.p_holm), robust, test))
    return lines


def notes(comparison: Comparison) -> list[str]:
    """Says how the numbers came about, and what a reader must know before trusting them."""
    count = len(comparison.pairs)
    lines = [
        f"Difference of the mean {comparison.metric.replace('_', ' ')} over the seeds, first minus second; intervals "
        "and p from bootstrap draws of the same groups or images for both, which say nothing of other seeds.",
        "The cluster-robust test is Student's t of the difference over its jackknife error over groups.",
        f"Both p are corrected by Holm for the {words.count(count, 'pair')} of this comparison.",
        "McNemar's test takes every image for independent of the others, which cells of one slide or patient are not.",
    ]
    if comparison.by == RATE:
        lines.insert(
            1,
            "All of it on validation images, which the rate was chosen on: the test set is scored for the chosen rate "
            "alone.",
        )
    warned: Mapping[str, str] = {
        tag: text
        for pair in comparison.pairs
        for tag, text in pair.estimate.interval.warnings.items()
        if tag.startswith("few")
    }
    compared = {setting.setting_id: setting for pair in comparison.pairs for setting in pair.settings}
    care = in_caption(compared.values()).strip()
    return [*lines, *filter(None, [care]), *warned.values(), *comparison.skipped]


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
