"""Selection of labelled cells: drawn at random for the test, or chosen while labelling (`cytolora label`)."""

from collections.abc import Mapping, Sequence

from cytolora.core.findings import Finding, finding
from cytolora.core.text import counted

SELECTION, DRAWN, CHOSEN = "selection", "drawn", "chosen"
"""A column of the labels of a labelling project, and its values."""
NAME = "labels.csv"
"""Of their table."""
_BEFORE = ("path", "label", "subset", "group")
COLUMNS = (*_BEFORE, SELECTION)
"""Of their table; that of earlier versions lacks the last."""


def chosen_cells(
    name: str, rows: Sequence[Mapping[str, str]], subsets: Sequence[str | None], *, labels_alone: bool = False
) -> tuple[Finding, ...]:
    """Says of a table of a project's labels whether test figures hold for a sample of cells: not of chosen ones.

    Args:
        name: Of the table.
        rows: At least one.
        subsets: Of every row, as they are used.
        labels_alone: Whether the table gives other cells' labels, and no test set.
    """
    chosen = _chosen(name, rows)
    if not chosen:
        return ()
    test = [number for number, subset in enumerate(subsets) if subset == "test"]
    paths = [rows[number]["path"] for number in sorted(chosen)]
    is_said = SELECTION in rows[0]  # else only the form of the table speaks for it, which one's own may have too
    were = "were" if is_said else "seem to have been"
    found = (
        f"{name}: {len(chosen)} of {counted(len(rows), 'cell')} {were} chosen while labelling (`cytolora label`), not "
        "drawn at random"
    )
    if test and chosen.isdisjoint(test) and not labels_alone:
        if not is_said:
            return ()
        drawn = counted(len(test), "test cell was drawn", "test cells were drawn")
        text = f"{found}; its {drawn}: figures of another test set would be biased."
        return (finding("D515", text, count=len(chosen), examples=paths),)
    advice = f" Its test cells are used where {name} itself is named as the dataset." if labels_alone else ""
    text = f"{found}, and may come into the test set, whose figures are then biased.{advice}"
    return (finding("D516", text, count=len(chosen), examples=paths),)


def _chosen(name: str, rows: Sequence[Mapping[str, str]]) -> set[int]:
    """Returns the numbers of the rows that were chosen: by their column, or in a table of an earlier version."""
    if SELECTION in rows[0]:
        return {number for number, row in enumerate(rows) if row[SELECTION] == CHOSEN}
    if name != NAME or tuple(rows[0]) != _BEFORE or not {row["subset"] for row in rows} <= {"train", "test"}:
        return set()
    return {number for number, row in enumerate(rows) if row["subset"] == "train"}
