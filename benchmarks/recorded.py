"""Recorded rows of a processor, and what fell below them by more than the noise of a run.

``recorded.json`` holds the last recorded rows of each processor. Compared is the percent of the measured peak,
row by row, where the conditions are the same. **Noise** is the range over rounds, relative to the median: the widest of
all rows of a part, in this run or in the recorded one. Rows of a part are measured in the same rounds, and three rounds
are too few to know a row's own.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rows import PEAK_SHARE, Row, row_of, shown_number

RECORDED = Path(__file__).with_name("recorded.json")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A row beside the recorded one of the same part, name and conditions."""

    row: Row
    before: float
    """Recorded percent of the peak, median."""
    now: float | None
    """None where the row failed or is missing its figure."""
    noise: float
    """In points of percent."""

    @property
    def fell(self) -> bool:
        return self.now is None or self.now < self.before - self.noise

    def __str__(self) -> str:
        if self.now is None:
            return f"FELL: recorded {shown_number(self.before)} % of peak"
        verdict = f"FELL by {shown_number(self.before - self.now)} points, " if self.fell else ""
        return f"{verdict}recorded {shown_number(self.before)} % of peak, noise {shown_number(self.noise)}"


def compare(rows: Sequence[Row], recorded: Sequence[Row]) -> list[Comparison]:
    """Compares recorded shares of the peak with those of the parts that ran.

    Left out: what has other conditions, was measured in one round (then there is no noise to go by), or was not
    measured for want of a library. A row that failed or does not come any more has fallen.
    """
    found, measured = [], {(row.part, row.name): row for row in rows}
    for before in recorded:
        if PEAK_SHARE not in before.figures or before.part not in {row.part for row in rows}:
            continue
        missing = Row(part=before.part, name=before.name, problem="failed: no such row came")
        row = measured.get((before.part, before.name), missing)
        shares = row.figures.get(PEAK_SHARE)
        noise = noise_of(row.part, rows)
        if shares is None and not row.problem.startswith("failed"):
            continue
        if shares is not None and (noise is None or row.conditions != before.conditions):
            continue
        median = statistics.median(before.figures[PEAK_SHARE])
        widest = max(noise or 0.0, noise_of(row.part, recorded) or 0.0)
        now = None if shares is None else statistics.median(shares)
        found.append(Comparison(row=row, before=median, now=now, noise=median * widest))
    return found


def noise_of(part: str, rows: Sequence[Row]) -> float | None:
    """Returns the widest relative range over rounds of a part's shares of the peak; None where there was one round."""
    ranges = [
        (max(shares) - min(shares)) / statistics.median(shares)
        for row in rows
        if row.part == part and len(shares := row.figures.get(PEAK_SHARE, ())) > 1
    ]
    return max(ranges, default=None)


def recorded_rows(processor: str, path: Path = RECORDED) -> list[Row]:
    """Reads the last recorded rows of a processor; none where none were recorded."""
    return [row_of(plain) for plain in _read(path).get(processor, {}).get("rows", ())]


def record(machine: Mapping[str, object], date: str, rows: Sequence[Row], path: Path = RECORDED) -> None:
    """Replaces the recorded rows of a processor by those that were measured; rows of parts that did not run stay."""
    everything, name = _read(path), str(machine["processor"])
    parts = {row.part for row in rows}
    kept = [row for row in recorded_rows(name, path) if row.part not in parts]
    measured = [row for row in (*kept, *rows) if not row.problem]
    everything[name] = {"machine": machine, "date": date, "rows": [asdict(row) for row in measured]}
    path.write_text(json.dumps(everything, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, dict]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
