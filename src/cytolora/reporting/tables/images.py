"""Images and groups of each class in train, val and test, by dataset and amount; and the split files of a report."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cytolora.config.run import SUBSETS
from cytolora.display import format as words
from cytolora.experiments.divisions import kept_division
from cytolora.reporting.results.settings import Setting, by_dataset

COLUMNS = ("dataset", "division", "amount", "seed", "class", "subset", "images", "groups")
"""Of images.csv; ``division`` names the split file, and is empty where an earlier run did not keep one."""
SPLITS = "splits"
"""Folder of a report."""


def image_rows(settings: Iterable[Setting]) -> list[dict[str, Any]]:
    """Returns a row per dataset, division, amount, seed, class and subset.

    Runs of before the counts were kept know the images of the test set alone, and no groups by class.
    """
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for setting in settings:
        for run in {run.spec["seed"]: run for run in setting.runs}.values():
            names = setting.runs[0].provenance["classes"]
            counted: Mapping[str, Any] = run.provenance.get("counts") or _of_test(setting)
            for subset in SUBSETS:
                for label in names:
                    row = _row(setting, run, label, subset, counted.get(subset))
                    rows.setdefault(tuple(row[name] for name in COLUMNS[:6]), row)
    return list(rows.values())


def _row(
    setting: Setting, run: Any, label: str, subset: str, found: Mapping[str, Mapping[str, int | None]] | None
) -> dict[str, Any]:
    of_class = {"images": None, "groups": None} if found is None else found.get(label, {"images": 0, "groups": 0})
    return {
        "dataset": setting.dataset,
        "division": run.provenance.get("division", ""),
        "amount": words.amount(setting.shots, setting.fraction),
        "seed": run.spec["seed"],
        "class": label,
        "subset": subset,
        "images": of_class["images"],
        "groups": of_class["groups"],
    }


def _of_test(setting: Setting) -> dict[str, dict[str, dict[str, int | None]]]:
    found = setting.evaluation
    if found is None:
        return {}
    numbers = zip(found.classes, found.class_counts, strict=True)
    return {"test": {label: {"images": number, "groups": None} for label, number in numbers}}


def image_table(settings: Sequence[Setting]) -> tuple[list[str], dict[str, list[str]]]:
    """Returns column titles and, by class, what stands under them: of each amount train and val, then test.

    Of each amount the first seed of the first division: other seeds draw other images, as many of each class.
    """
    table: dict[str, dict[str, str]] = {}
    for row in sorted(image_rows(settings), key=lambda row: row["seed"]):
        title = "test" if row["subset"] == "test" else f"{row['amount']}: {row['subset']}"
        table.setdefault(row["class"], {}).setdefault(title, _number(row))
    amounts = {words.amount(one.shots, one.fraction): one.amount_key for one in settings}
    ordered = [f"{name}: {part}" for name in sorted(amounts, key=amounts.__getitem__) for part in ("train", "val")]
    columns = [title for title in (*ordered, "test") if any(row.get(title, _NONE) != _NONE for row in table.values())]
    return columns, {label: [row.get(title, _NONE) for title in columns] for label, row in table.items()}


_NONE = "–"


def _number(row: Mapping[str, Any]) -> str:
    if row["images"] is None:
        return _NONE
    groups = f" ({row['groups']:,})" if row["groups"] else ""
    return f"{row['images']:,}{groups}"


def write_splits(folder: Path, runs_dir: Path, settings: Iterable[Setting], slug: Mapping[str, str]) -> None:
    """Copies the split file of every division into ``folder/splits``, named by dataset and number.

    Args:
        slug: By dataset, its name in file names.
    """
    for dataset, members in by_dataset(settings).items():
        divisions = [run.provenance.get("division", "") for setting in members for run in setting.runs]
        kept = [path for name in dict.fromkeys(filter(None, divisions)) if (path := kept_division(runs_dir, name))]
        for number, path in enumerate(kept, 1):
            (folder / SPLITS).mkdir(exist_ok=True)
            name = slug[dataset] if len(kept) == 1 else f"{slug[dataset]}_{number}"
            shutil.copyfile(path, folder / SPLITS / f"{name}.csv")
