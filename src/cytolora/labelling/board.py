"""Labels of an open project: the journal, and what it says of every cell now."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np
from jaxtyping import Bool, Int64

from cytolora.core.text import counted
from cytolora.errors import DataError
from cytolora.labelling.journal import Draft, Entry, Journal
from cytolora.labelling.project import CELLS, JOURNAL, Project
from cytolora.labelling.votes import NOT_A_CELL, UNSURE, Votes

UNLABELLED, NO_CELL, NOT_SURE, BY_OTHERS = -1, -2, -3, -4
"""Codes of a cell without a class; others are the index of its class. The last one stands on a reader's map alone: what
others said of the cell is hidden from her."""


class Board:
    """The agreed label of every cell as an array, kept up with the journal."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._code_of = {name: code for code, name in enumerate(project.about.classes)}
        self._code_of |= {NOT_A_CELL: NO_CELL, UNSURE: NOT_SURE}
        self.journal = Journal(project.folder / JOURNAL, project.about.cells_sha256)
        self.votes = Votes()
        number = len(project.names)
        self.codes: Int64[np.ndarray, " cells"] = np.full(number, UNLABELLED, dtype=np.int64)
        """Of agreed labels; also of a cell whose readers differ -1."""
        self.is_held: Bool[np.ndarray, " cells"] = np.zeros(number, dtype=bool)
        """Whether any reader labelled the cell."""
        self.is_usable: Bool[np.ndarray, " cells"] = project.is_there
        """Whether the image can be read; all that are there are taken for readable until features are there."""
        self.test_version = 0
        """Grows whenever the label of a test cell changes."""
        try:
            self.catch_up()
        except BaseException:
            self.journal.close()
            raise

    def code(self, value: str | None) -> int:
        """Returns the code of a label.

        Raises:
            DataError: If it is none of the project's classes, which another process changed.
        """
        if value is not None and value not in self._code_of:
            raise DataError(
                f"{self._project.folder} has a label of class {value!r}, which is not among "
                f"{', '.join(self._project.about.classes)}: another `cytolora label` changed the classes. Stop this "
                "one and start it again; where the class is still missing then, name it in --classes."
            )
        return UNLABELLED if value is None else self._code_of[value]

    def _check_cells(self, entry: Entry) -> None:
        number = len(self._project.names)
        wrong = next((cell for cell in entry.cells if not 0 <= cell < number), None)
        if wrong is not None:
            raise DataError(
                f"{self._project.folder / JOURNAL} has a label of cell {wrong}, and {CELLS} beside it lists "
                f"{counted(number, 'cell')}, numbered from 0. Restore both from one copy."
            )

    def take_readable(self, is_readable: Bool[np.ndarray, " cells"]) -> None:
        """Takes in which images could be read when features were computed; what has gone since is not usable."""
        self.is_usable = is_readable & self._project.is_there

    def catch_up(self) -> None:
        """Takes in what other processes stored."""
        for entry in self.journal.entries(self.votes.last_entry):
            self.apply(entry)

    def apply(self, entry: Entry) -> None:
        """Takes one entry in; one that was taken changes nothing."""
        if entry.number <= self.votes.last_entry:
            return
        if entry.kind == "label":
            self.code(entry.value)  # before anything is taken in: it is refused every time
            self._check_cells(entry)
        self.votes.apply(entry)
        for cell in self.votes.cells_of(entry):
            self.codes[cell] = self.code(self.votes.agreed(cell))
            self.is_held[cell] = bool(self.votes.by_reader(cell)) or self.votes.adjudicated(cell) is not None
            self.test_version += bool(self._project.is_test[cell])

    def append(self, reader: str, client_id: str, draft: Callable[[], Draft]) -> Entry:
        """Stores an entry; ``draft`` is called when everything that is stored was taken in.

        Raises:
            DataError: If it could not be stored; nothing has changed.
        """

        def draft_of(new: Sequence[Entry]) -> Draft:
            for one in new:
                self.apply(one)
            return draft()

        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry, new = self.journal.append(draft_of, after=self.votes.last_entry, time=now, again=(reader, client_id))
        for one in (*new, entry):
            self.apply(one)
        return entry

    def training(self) -> dict[int, int]:
        """Returns class by cell of what may be trained on: never a cell of the test share."""
        cells = np.flatnonzero((self.codes >= 0) & ~self._project.is_test & self.is_usable)
        return {int(cell): int(self.codes[cell]) for cell in cells}

    def drawn(self) -> list[int]:
        """Returns the test cells that count: the first ones of the order of drawing, up to one that nobody labelled.

        A label given out of turn counts when its turn has come: so a reader's choice among test cells has no influence.
        """
        counted: list[int] = []
        for cell in self._project.order.tolist():
            if not self.is_usable[cell]:
                continue
            if not self.is_held[cell]:
                break
            counted.append(cell)
        return counted

    def close(self) -> None:
        """Closes the journal."""
        self.journal.close()
