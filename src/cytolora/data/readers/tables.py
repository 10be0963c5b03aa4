"""Columns of tables of images: what each is meant as, which are used, and what is said of the others."""

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from cytolora.config.run import Subset
from cytolora.core.delimited import Row, read_columns, read_table
from cytolora.core.findings import Finding, finding, first
from cytolora.core.text import normal
from cytolora.data.formats import WORKBOOK_SUFFIXES, suffix_of
from cytolora.data.readers.layout import SUBSET_NAMES
from cytolora.errors import DataError

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

_MEANINGS: Mapping[str, str] = {
    "group": "the patient, slide or field that an image comes from",
    "subset": "train, val or test",
}
_OTHER_NAMES = {
    **dict.fromkeys(("class", "classname", "category", "diagnosis", "labels", "target"), "label"),
    **dict.fromkeys(("image", "img", "file", "filename", "filepath", "imagename", "imagefile", "imagepath"), "path"),
}
"""Of columns that a table must have, without marks between words."""
_SUBSET_WORDS: Mapping[str, Subset] = {**SUBSET_NAMES, "training": "train", "testing": "test"}
_FLAG = re.compile(r"(is|in|for|use)?(train|training|test|testing|val|valid|validation|holdout|heldout)(set|split)?")
"""Columns that say of one subset whether an image is in it, without marks."""
_YES_OR_NO = frozenset(("0", "1", "0.0", "1.0", "true", "false", "yes", "no", "y", "n", "t", "f", "x"))
_IDENTIFIER = re.compile(r"[^\W\d_]{1,12}[-_ ]?\d+")
"""``P007``, ``case 3``: such values, repeated, may be groups."""


def has_columns(table: Path, columns: Iterable[str]) -> bool:
    """Says whether a file is there and its first line names these columns; reads no more than its beginning."""
    return set(read_columns(table)) >= set(columns)


def read_rows(file: Path, required: tuple[str, ...], *, keep_blanks: bool = False) -> list[Row]:
    """Reads a table with at least one row as (line number, cells by column); see core/delimited.py."""
    table = read_table(file, required, keep_blanks=keep_blanks, alias=_called)
    if not table.rows:
        raise DataError(f"{file} has a header and no rows; list one image in each row.")
    return table.rows


def _called(column: str) -> str | None:
    return meant_as(column) or _OTHER_NAMES.get(re.sub(r"[\W_]+", "", column.lower()))


def subset_of(where: str, text: str) -> Subset:
    """Reads train, val or test in any case, and as training, valid, validation or testing.

    Args:
        where: File and line, for the error.
    """
    word = normal(text).casefold()
    if word not in _SUBSET_WORDS:
        raise DataError(f"{where}: subset {text!r} is none of train, val and test.")
    return _SUBSET_WORDS[word]


def not_used(name: str, rows: Sequence[Mapping[str, str]], used: Iterable[str], *, has_groups: bool) -> list[Finding]:
    """Names the columns that nothing reads, with a guess where one may hold the groups."""
    columns = [column for column in rows[0] if column not in set(used)]
    if not columns:
        return []
    guesses = [column for column in columns if not has_groups and _may_be_groups([row[column] for row in rows])]
    guess = f" Does {guesses[0]!r} name the patient, slide or field? --group-column takes it." if guesses else ""
    text = f"{name}: columns that are not used: {', '.join(map(repr, columns))}.{guess}"
    return [finding("T301", text, count=len(columns), examples=columns)]


def _may_be_groups(values: list[str]) -> bool:
    times = Counter(values)
    return 2 < len(times) <= len(values) / 2 and all(map(_IDENTIFIER.fullmatch, times))


def how_to_name(table: Path) -> str:
    """Says how a table is read that nobody named."""
    if suffix_of(table.name) in WORKBOOK_SUFFIXES:
        return "If it says what the images show, save it as manifest.csv (CSV UTF-8), with columns path,label"
    return (
        f"If it says what the images show, name it (`cytolora check {shlex.quote(str(table))}`), or call it "
        "manifest.csv, with columns path,label"
    )


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


def refuse_other_names(table: Path, rows: Sequence[Mapping[str, str]], chosen: Iterable[str] = ()) -> None:
    """Refuses a table whose groups or subsets stand in a column of another name: they would be lost in silence.

    Beside a column ``group`` that holds something, ``patient`` is a column like any other; so for ``subset``.

    Args:
        chosen: What was said to stand in a column of another name.

    Raises:
        DataError: If a column holds something and is meant as group or subset, and that column is absent or empty.
    """
    filled = [name for name in rows[0] if any(row[name] for row in rows)]
    for meaning, words in _MEANINGS.items():
        if meaning in filled or meaning in chosen:
            continue
        others = [name for name in filled if _holds(name, rows, meaning)]
        if not others:
            continue
        is_empty = ", which is empty" if meaning in rows[0] else ""
        columns, it, them = ("column", "it", "it") if len(others) == 1 else ("columns", "one of them", "them")
        found = f"{table}: found {columns} {', '.join(map(repr, others))}, expected {meaning!r}{is_empty}"
        fitting = [name for name in others if meaning == "group" or _no_subset(name, rows) is None]
        if not fitting:
            raise DataError(
                f"{found} ({words}), and {others[0]!r} holds {_no_subset(others[0], rows)!r}. "
                f"Write train, val or test for every image into a column subset, or remove {them}."
            )
        raise DataError(
            f"{found}. Take {it} with --{meaning}-column {shlex.quote(fitting[0])}, rename {it} to {meaning} "
            f"({words}), or remove {them}."
        )


def _holds(column: str, rows: Sequence[Mapping[str, str]], meaning: str) -> bool:
    """Says whether a column is meant as group or subset: by its name, or because it holds nothing but subsets."""
    known = meant_as(column)
    if known is not None or meaning == "group":
        return known == meaning
    words = {normal(row[column]).casefold() for row in rows} - {""}
    is_flag = _FLAG.fullmatch(re.sub(r"[\W_]+", "", column.lower())) is not None and words <= _YES_OR_NO
    return is_flag or (len(words) > 1 and words <= set(_SUBSET_WORDS))


def _no_subset(column: str, rows: Sequence[Mapping[str, str]]) -> str | None:
    """Returns the first text of a column that is none of train, val and test."""
    texts = (normal(row[column]) for row in rows)
    return next((text for text in texts if text and text.casefold() not in _SUBSET_WORDS), None)


def coarser(name: str, rows: Sequence[Mapping[str, str]], used: str, groups: Sequence[str | None]) -> list[Finding]:
    """Names columns meant as group that hold several groups together, such as patients of whom groups are the slides.

    Args:
        used: The column of the groups.
        groups: Of every row.
    """
    findings = []
    for column in (column for column in rows[0] if column != used and meant_as(column) == "group"):
        members: dict[str, set[str]] = {}
        for row, group in zip(rows, groups, strict=True):
            if group is not None and normal(row[column]):
                members.setdefault(normal(row[column]), set()).add(group)
        several = [value for value, held in members.items() if len(held) > 1]
        if several and len(members) > 1:
            text = (
                f"{name}: {column!r} holds several groups of column {used!r} together: {len(several)}, "
                f"{first(several)}. A split may tear them; --group-column {shlex.quote(column)} keeps them whole."
            )
            findings.append(finding("L408", text, count=len(several), examples=several))
    return findings


def _is_one_of(names: Iterable[str], word: str) -> bool:
    return any(re.fullmatch(name + _ENDING, word) for name in names)
