"""Column look-up in tables, with suggestions where a group or subset column has another name."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from cytolora.errors import DataError

_MAX_HEADER = 4096

Meaning = Literal["group", "subset"]

GROUP = (
    *("group", "patient", "subject", "donor", "participant", "individual", "person", "pid", "mrn"),
    *("case", "accession", "specimen", "smear", "slide", "wsi", "field", "fieldofview", "fov", "micrograph"),
)
"""What a group is called elsewhere, in lower case and without marks; an ending (``_ENDING``) may follow."""
SUBSET = (
    *("subset", "split", "set", "fold", "partition", "datasplit", "datasetsplit"),
    *("traintest", "trainval", "trainvaltest", "traintestsplit", "trainvalsplit", "trainvaltestsplit"),
)
"""The same of a subset."""
_AFTER_OTHER_WORDS = ("patient", "subject", "donor", "split", "subset", "fold", "partition")
"""These mean the same in ``pseudo_patient`` and ``repo_split``; a group does not in ``age_group``."""
_ENDING = r"s?(ids?|no|nr|num|number|name|code|key|index|idx|uid|uuid|file|path)?"

_MEANINGS: Mapping[Meaning, str] = {
    "group": "the patient, slide or field that an image comes from",
    "subset": "train, val or test",
}


def has_columns(table: Path, columns: Iterable[str]) -> bool:
    """Says whether a file is there and its first line names these columns; reads no more than that."""
    try:
        with table.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            header = next(csv.reader([file.readline(_MAX_HEADER)]), [])
    except (OSError, csv.Error):
        return False
    return {name.strip() for name in header} >= set(columns)


def meant_as(column: str) -> Meaning | None:
    """Tells what a column is meant as by its name, in any case and with any marks between its words."""
    words = re.sub(r"([a-z])([A-Z])", r"\1 \2", column).lower()
    parts = [part for part in re.split(r"[\W_]+", words) if part]
    names: Mapping[Meaning, tuple[str, ...]] = {"group": GROUP, "subset": SUBSET}
    for meaning, known in names.items():
        if _is_one_of(known, "".join(parts)):
            return meaning
        after = [name for name in known if name in _AFTER_OTHER_WORDS]
        if any(_is_one_of(after, "".join(parts[start:])) for start in range(1, len(parts))):
            return meaning
    return None


def refuse_other_names(table: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Refuses a table whose groups or subsets stand in a column of another name: they would be lost in silence.

    Beside a column ``group`` that holds something, ``patient`` is a column like any other; so for ``subset``.

    Raises:
        DataError: If a column holds something and is meant as group or subset, and that column is absent or empty.
    """
    filled = [name for name in rows[0] if any(row[name] for row in rows)]
    for meaning, words in _MEANINGS.items():
        others = [name for name in filled if meant_as(name) == meaning]
        if not others or meaning in filled:
            continue
        is_empty = ", which is empty" if meaning in rows[0] else ""
        columns, it, them = ("column", "it", "it") if len(others) == 1 else ("columns", "one of them", "them")
        raise DataError(
            f"{table}: found {columns} {', '.join(map(repr, others))}, expected {meaning!r}{is_empty}. "
            f"Rename {it} to {meaning} ({words}), or remove {them}."
        )


def _is_one_of(names: Iterable[str], word: str) -> bool:
    return any(re.fullmatch(name + _ENDING, word) for name in names)
