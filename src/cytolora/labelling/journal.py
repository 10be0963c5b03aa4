"""Append-only journal of labels: every entry is on disk before it is acknowledged, and none is ever changed.

SQLite with a write-ahead log and ``synchronous=FULL``: each commit is flushed, and several processes may write one
journal. An entry that was begun when a process died, or when the disk was full, is not there.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from cytolora.core.strict_json import read_json
from cytolora.errors import DataError

EntryKind = Literal["label", "undo", "redo", "look"]
"""``look``: an interim analysis of the test labels (estimate.py)."""
How = Literal["key", "row", "lasso", "import", "adjudication"]
HOW: tuple[How, ...] = get_args(How)

_WAIT_SECONDS = 10.0
"""For another process that writes."""
_COLUMNS = "id, time, reader, kind, how, value, cells, target, classifier, suggested, client_id"
_TABLE = """
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time TEXT NOT NULL,
    reader TEXT NOT NULL,
    kind TEXT NOT NULL,
    how TEXT NOT NULL,
    value TEXT NOT NULL,
    cells TEXT NOT NULL,
    target INTEGER,
    classifier INTEGER,
    suggested TEXT NOT NULL,
    client_id TEXT NOT NULL,
    UNIQUE (reader, client_id)
)
"""
_NO_CHANGE = (
    "CREATE TRIGGER IF NOT EXISTS no_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'append only'); END",
    "CREATE TRIGGER IF NOT EXISTS no_delete BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'append only'); END",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An entry that is not stored yet."""

    reader: str
    kind: EntryKind
    client_id: str
    """Of the request: a repeated one is one entry."""
    how: str = ""
    value: str = ""
    """Of a label; of a look its figures as JSON."""
    cells: tuple[int, ...] = ()
    target: int | None = None
    """The entry that an undo takes back, or a redo brings back."""
    classifier: int | None = None
    """Number of the refit whose predictions were there."""
    suggested: tuple[str, ...] = ()
    """Class that it predicted for each of ``cells``; empty where none was shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(Draft):
    """A stored entry."""

    number: int
    """From 1, in the order of storing."""
    time: str
    """UTC, ISO 8601."""


class Journal:
    """The entries of one project."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the journal.

        Raises:
            DataError: If the file is damaged, or cannot be opened.
        """
        self._path = path
        with self._told():
            # one connection for all threads: the session has a lock
            self._open = sqlite3.connect(path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False)
            self._open.execute("PRAGMA journal_mode=WAL")
            self._open.execute("PRAGMA synchronous=FULL")
            for statement in (_TABLE, *_NO_CHANGE):
                self._open.execute(statement)

    def close(self) -> None:
        """Closes the file; every entry is on disk already."""
        self._open.close()

    def entries(self, after: int = 0) -> list[Entry]:
        """Returns the entries after that number, the oldest first."""
        with self._told():
            rows = self._open.execute(f"SELECT {_COLUMNS} FROM entries WHERE id > ? ORDER BY id", (after,))
            return [_entry(row) for row in rows]

    def append(
        self, draft_of: Callable[[Sequence[Entry]], Draft], *, after: int, time: str, again: tuple[str, str]
    ) -> tuple[Entry, list[Entry]]:
        """Stores an entry, flushed to disk.

        Args:
            draft_of: Takes the entries after ``after``, which other processes may have stored, and returns the draft;
                nothing is stored where it raises.
            again: Reader and client id: where an entry has them, it is returned and none is stored.

        Returns:
            The entry, and the entries between ``after`` and it; these include it where it was there before.

        Raises:
            DataError: If it could not be stored; the journal is as it was.
        """
        with self._told("The label was not stored"), self._transaction():
            new = self.entries(after)
            found = self._open.execute(f"SELECT {_COLUMNS} FROM entries WHERE reader = ? AND client_id = ?", again)
            if (row := found.fetchone()) is not None:
                return _entry(row), new
            draft = draft_of(new)
            values = (
                *(time, draft.reader, draft.kind, draft.how, draft.value, json.dumps(draft.cells), draft.target),
                *(draft.classifier, json.dumps(draft.suggested), draft.client_id),
            )
            columns = _COLUMNS.removeprefix("id, ")
            marks = ", ".join("?" * len(values))
            added = self._open.execute(f"INSERT INTO entries ({columns}) VALUES ({marks})", values)
            assert added.lastrowid is not None
            row = self._open.execute(f"SELECT {_COLUMNS} FROM entries WHERE id = ?", (added.lastrowid,)).fetchone()
            return _entry(row), new

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._open.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._open.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # SQLite may have rolled back by itself, as on a full disk
                self._open.execute("ROLLBACK")
            raise

    @contextmanager
    def _told(self, lead: str = "The journal cannot be read") -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            reason = str(error)
            advice = "Free space on its disk" if "full" in reason or "disk" in reason else "Close what else writes it"
            raise DataError(
                f"{lead}: {self._path}: {reason}. {advice} and try again; every stored label is still there."
            ) from error
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"{lead}: {self._path} is damaged or no journal ({error}). Restore it from a copy; it is a SQLite file."
            ) from error


def _entry(row: Sequence[Any]) -> Entry:
    number, time, reader, kind, how, value, cells, target, classifier, suggested, client_id = row
    return Entry(
        number=number,
        time=time,
        reader=reader,
        kind=kind,
        how=how,
        value=value,
        cells=tuple(read_json(cells)),
        target=target,
        classifier=classifier,
        suggested=tuple(read_json(suggested)),
        client_id=client_id,
    )
