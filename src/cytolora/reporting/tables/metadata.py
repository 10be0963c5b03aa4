"""Results by metadata value: the metrics for each stain, scanner or site."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cytolora.core.files import canonical_json, sha256_text
from cytolora.metrics.counts import accuracy, balanced_accuracy, tally
from cytolora.metrics.intervals import Interval, intervals_of
from cytolora.reporting.results import predictions
from cytolora.reporting.results.cache import code_hash, predictions_hash, read_cached, write_cached
from cytolora.reporting.results.flags import in_file
from cytolora.reporting.results.predictions import TestPredictions, count_seeds
from cytolora.reporting.results.settings import METRICS, MeanStd, Metric, Setting, read_predictions

UNKNOWN = "not known"
"""Stands for an image whose field is empty."""

COLUMNS = (
    "dataset",
    "model",
    "method",
    "shots",
    "fraction",
    "column",
    "value",
    "n",
    "accuracy_mean",
    "accuracy_std",
    "accuracy_low",
    "accuracy_high",
    "balanced_accuracy_mean",
    "balanced_accuracy_std",
    "balanced_accuracy_low",
    "balanced_accuracy_high",
    "interval_unit",
    "interval_units",
    "interval_kind",
    "flags",
    "setting_id",
)
"""Of metadata.csv."""

_MAX_VALUES = 12
"""Columns of a table on the page; metadata.csv has every value."""
_DIGITS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """A setting's result on the test images of one value of one column."""

    num_images: int
    spreads: Mapping[str, MeanStd]
    """By metric, over the seeds."""
    intervals: Mapping[str, Interval]
    """By metric, 95 %."""


@dataclass(frozen=True, kw_only=True)
class Breakdown:
    """One metadata column of one dataset, for every setting with a test score."""

    column: str
    num_images: Mapping[str, int]
    """Test images by value, the most frequent first."""
    rows: Sequence[tuple[Setting, Mapping[str, Stratum]]]
    """Each tested setting with its strata by value."""

    @property
    def shown(self) -> list[str]:
        """The values that the page has room for."""
        return list(self.num_images)[:_MAX_VALUES]


def breakdowns(settings: Sequence[Setting]) -> list[Breakdown]:
    """Repeats the metrics of one dataset's tested settings per value of each metadata column; none without columns."""
    tested = [setting for setting in settings if setting.tested]
    if not any(setting.evaluation and setting.evaluation.has_metadata for setting in tested):
        return []
    file = tested[0].runs[0].path.parent / ".cache" / "metadata" / f"{_key(tested)}.json"
    if (kept := read_cached(file, lambda rows: [_from_plain(plain, tested) for plain in rows])) is not None:
        return kept
    seeds = [read_predictions(setting) for setting in tested]
    found = [_breakdown(column, values, tested, seeds) for column, values in _values(seeds).items()]
    write_cached(file, [_to_plain(breakdown) for breakdown in found])
    return found


def _key(settings: Sequence[Setting]) -> str:
    """Names the breakdowns of these settings by their predictions, and by the code that computes them."""
    code = code_hash(predictions.__file__, __file__)
    hashes = [
        [list(setting.runs[0].provenance["classes"]), *map(predictions_hash, setting.tested)] for setting in settings
    ]
    return sha256_text(canonical_json([code, hashes]))


def _to_plain(found: Breakdown) -> dict[str, Any]:
    strata = [{value: asdict(stratum) for value, stratum in row.items()} for _, row in found.rows]
    return {"column": found.column, "num_images": list(found.num_images.items()), "strata": strata}


def _from_plain(plain: Mapping[str, Any], settings: Sequence[Setting]) -> Breakdown:
    counts = dict(plain["num_images"])
    strata = [{value: _stratum_of(row[value]) for value in counts if value in row} for row in plain["strata"]]
    return Breakdown(column=plain["column"], num_images=counts, rows=list(zip(settings, strata, strict=True)))


def _stratum_of(plain: Mapping[str, Any]) -> Stratum:
    return Stratum(
        num_images=plain["num_images"],
        spreads={name: MeanStd(**found) for name, found in plain["spreads"].items()},
        intervals={name: Interval(**found) for name, found in plain["intervals"].items()},
    )


def _values(seeds: Sequence[Sequence[TestPredictions]]) -> dict[str, dict[str, str]]:
    """Returns column to image to value; runs stored before a column was added learn it from the later ones."""
    found: dict[str, dict[str, str]] = {}
    for of_setting in seeds:
        for rows in of_setting:
            for column, values in rows.metadata.items():
                known = found.setdefault(column, {})
                known |= {path: value for path, value in zip(rows.paths, values, strict=True) if value is not None}
    return {column: values for column, values in sorted(found.items()) if values}


def _breakdown(
    column: str,
    values: Mapping[str, str],
    settings: Sequence[Setting],
    seeds: Sequence[Sequence[TestPredictions]],
) -> Breakdown:
    counts = Counter(values.get(path, UNKNOWN) for path in seeds[0][0].paths)
    ordered = dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))
    strata: list[dict[str, Stratum]] = [{} for _ in settings]
    for value in ordered:
        for of_setting, row in zip(seeds, strata, strict=True):
            found = [_of(rows, [values.get(path, UNKNOWN) == value for path in rows.paths]) for rows in of_setting]
            if all(len(part.paths) for part in found):
                row[value] = _stratum(found)
    return Breakdown(column=column, num_images=ordered, rows=list(zip(settings, strata, strict=True)))


def _of(rows: TestPredictions, chosen: list[bool]) -> TestPredictions:
    mask = np.array(chosen, dtype=bool)
    return TestPredictions(
        classes=rows.classes,
        paths=[path for path, keep in zip(rows.paths, chosen, strict=True) if keep],
        groups=[group for group, keep in zip(rows.groups, chosen, strict=True) if keep],
        labels=rows.labels[mask],
        probabilities=rows.probabilities[mask],
    )


def _stratum(seeds: Sequence[TestPredictions]) -> Stratum:
    num_classes = len(seeds[0].classes)
    measures = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy}
    counts = [tally(rows.labels, rows.predicted, num_classes) for rows in seeds]
    return Stratum(
        num_images=len(seeds[0].paths),
        spreads={name: MeanStd.of([float(measure(one)) for one in counts]) for name, measure in measures.items()},
        intervals=intervals_of(count_seeds(seeds)),
    )


def to_rows(found: Iterable[Breakdown]) -> list[dict[str, Any]]:
    """Returns a row per setting, column and value, with shares in [0, 1]."""
    return [row for one in found for setting, strata in one.rows for row in _rows(one.column, setting, strata)]


def _rows(column: str, setting: Setting, strata: Mapping[str, Stratum]) -> Iterator[dict[str, Any]]:
    for value, stratum in strata.items():
        row: dict[str, Any] = {
            "dataset": setting.dataset,
            "model": setting.model,
            "method": setting.method,
            "shots": "all" if setting.shots is None and setting.fraction is None else setting.shots,
            "fraction": setting.fraction,
            "column": column,
            "value": value,
            "n": stratum.num_images,
            "interval_unit": stratum.intervals["accuracy"].unit,
            "interval_units": stratum.intervals["accuracy"].num_units,
            "interval_kind": stratum.intervals["accuracy"].kind,
            "flags": in_file(setting),
            "setting_id": setting.setting_id,
        }
        for metric in METRICS:
            row |= _numbers(metric, stratum)
        yield row


def _numbers(metric: Metric, stratum: Stratum) -> dict[str, float | None]:
    spread, interval = stratum.spreads[metric], stratum.intervals[metric]
    return {
        f"{metric}_mean": round(spread.mean, _DIGITS),
        f"{metric}_std": None if spread.std is None else round(spread.std, _DIGITS),
        f"{metric}_low": round(interval.low, _DIGITS),
        f"{metric}_high": round(interval.high, _DIGITS),
    }
