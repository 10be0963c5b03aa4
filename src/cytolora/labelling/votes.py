"""Labels of every reader, replayed from the journal: undo and redo are entries like any other."""

from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from cytolora.core.text import folded
from cytolora.errors import ConfigError
from cytolora.labelling.journal import Entry

NOT_A_CELL, UNSURE = "not a cell", "unsure"
NO_CLASS = (NOT_A_CELL, UNSURE)
"""Values of a label that are no class."""
MAX_READER, MAX_CLASS = 80, 200
"""Characters of a name."""

_Vote = tuple[int, str]
"""Number of the entry, and value."""


class Votes:
    """What each reader says of each cell now."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.last_entry = 0
        self._labels: dict[int, Entry] = {}
        self._readers: dict[str, str] = {}
        """The name of each reader, by itself and by its folded form, where the first spelling stands."""
        self._done: defaultdict[str, list[int]] = defaultdict(list)
        self._undone: defaultdict[str, list[int]] = defaultdict(list)
        self._of: defaultdict[int, dict[str, list[_Vote]]] = defaultdict(dict)
        self._adjudicated: defaultdict[int, list[_Vote]] = defaultdict(list)
        self.looks: list[Entry] = []
        for entry in entries:
            self.apply(entry)

    def apply(self, entry: Entry) -> None:
        """Takes an entry in; entries come in the order of their numbers, and one that was taken changes nothing."""
        if entry.number <= self.last_entry:
            return
        self.last_entry = entry.number
        if entry.kind == "look":
            self.looks.append(entry)
        elif entry.kind == "label":
            self._labels[entry.number] = entry
            self._readers[entry.reader] = entry.reader
            self._readers.setdefault(folded(entry.reader), entry.reader)
            self._put(entry)
            self._done[entry.reader].append(entry.number)
            self._undone[entry.reader].clear()
        elif entry.target in self._labels:
            one, done, undone = self._labels[entry.target], self._done[entry.reader], self._undone[entry.reader]
            source, target = (done, undone) if entry.kind == "undo" else (undone, done)
            if one.number in source:
                source.remove(one.number)
                target.append(one.number)
                (self._take if entry.kind == "undo" else self._put)(one)

    def _stacks(self, entry: Entry) -> Iterator[list[_Vote]]:
        for cell in entry.cells:
            if entry.how == "adjudication":
                yield self._adjudicated[cell]
            else:
                yield self._of[cell].setdefault(entry.reader, [])

    def _put(self, entry: Entry) -> None:
        for stack in self._stacks(entry):
            insort(stack, (entry.number, entry.value))

    def _take(self, entry: Entry) -> None:
        for stack in self._stacks(entry):
            stack.remove((entry.number, entry.value))

    def cells_of(self, entry: Entry) -> tuple[int, ...]:
        """Returns the cells whose label an entry changed."""
        source = entry if entry.target is None else self._labels.get(entry.target, entry)
        return source.cells

    def values(self) -> Counter[str]:
        """Counts the labels of all entries by value, undone and replaced ones too: they can come back."""
        counts = Counter[str]()
        for entry in self._labels.values():
            counts[entry.value] += len(entry.cells)
        return counts

    def reader_named(self, name: str) -> str:
        """Returns the reader who is meant: of names that differ by case or blanks the one that was stored first."""
        return self._readers.get(name) or self._readers.get(folded(name)) or name

    def can_undo(self, reader: str) -> bool:
        """Whether the reader has an entry to take back."""
        return bool(self._done[reader])

    def can_redo(self, reader: str) -> bool:
        """Whether the reader's last step was an undo."""
        return bool(self._undone[reader])

    def to_undo(self, reader: str) -> Entry:
        """Returns the reader's last entry that holds.

        Raises:
            ConfigError: If there is none.
        """
        if not self._done[reader]:
            raise ConfigError(f"{reader} has no label to undo.")
        return self._labels[self._done[reader][-1]]

    def to_redo(self, reader: str) -> Entry:
        """Returns the entry that the reader undid last, while nothing was labelled since.

        Raises:
            ConfigError: If there is none.
        """
        if not self._undone[reader]:
            raise ConfigError(f"{reader} has nothing to redo: the last step was no undo.")
        return self._labels[self._undone[reader][-1]]

    def of_reader(self, reader: str, cell: int) -> str | None:
        """Returns the reader's own label of a cell."""
        stack = self._of[cell].get(reader) if cell in self._of else None
        return stack[-1][1] if stack else None

    def by_reader(self, cell: int) -> dict[str, str]:
        """Returns the label of every reader who gave one, adjudications left aside."""
        return {reader: stack[-1][1] for reader, stack in self._of.get(cell, {}).items() if stack}

    def adjudicated(self, cell: int) -> str | None:
        """Returns the label that ended a disagreement."""
        stack = self._adjudicated.get(cell)
        return stack[-1][1] if stack else None

    def is_confirmed(self, cell: int) -> bool:
        """Whether a label was adjudicated, or one reader gave it twice in a row."""
        stacks = self._of.get(cell, {}).values()
        return self.adjudicated(cell) is not None or any(
            len(stack) > 1 and stack[-1][1] == stack[-2][1] for stack in stacks
        )

    def agreed(self, cell: int) -> str | None:
        """Returns the adjudicated label, else that of more than half of the readers; None: no label, or no majority."""
        if (value := self.adjudicated(cell)) is not None:
            return value
        given = self.by_reader(cell)
        if not given:
            return None
        value, times = Counter(given.values()).most_common(1)[0]
        return value if 2 * times > len(given) else None

    def shown(self, reader: str, cell: int) -> str | None:
        """Returns what a reader may see of a cell: her own label, or decision; None where others alone labelled it.

        Their labels are hidden, agreed ones too: whatever cell she is given next, her reading is blind.
        """
        own = self.of_reader(reader, cell)
        if own is None and (stack := self._adjudicated.get(cell)) and self._labels[stack[-1][0]].reader == reader:
            return stack[-1][1]
        return own

    def cells(self) -> list[int]:
        """Returns the cells that somebody labelled, in ascending order."""
        held = {cell for cell, stacks in self._of.items() if any(stacks.values())}
        return sorted(held | {cell for cell, stack in self._adjudicated.items() if stack})

    def disagreements(self) -> list[int]:
        """Returns the cells whose readers differ, adjudicated ones included."""
        return [cell for cell in self.cells() if len(set(self.by_reader(cell).values())) > 1]

    def history(self, cell: int) -> list[dict[str, Any]]:
        """Returns every label entry of a cell, the oldest first; ``undone``: its reader took it back."""
        stacks = (*self._of.get(cell, {}).values(), self._adjudicated.get(cell, []))
        stands = {number for stack in stacks for number, _ in stack}
        return [
            {
                "entry": one.number,
                "reader": one.reader,
                "value": one.value,
                "how": one.how,
                "time": one.time,
                "undone": one.number not in stands,
            }
            for one in self._labels.values()
            if cell in one.cells
        ]
