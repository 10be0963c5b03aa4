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
_BINDING = "CREATE TABLE IF NOT EXISTS cells (sha256 TEXT NOT NULL)"
"""One row: the hash of the table that its numbers of cells count in; none in a journal from before there was one."""
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

    def __init__(self, path: Path, cells_sha256: str = "") -> None:
        """Opens the journal.

        Args:
            cells_sha256: Of the table that its numbers of cells count in; empty where that is not known, and then a
                journal that is not there is made.

        Raises:
            DataError: If the file is damaged, is not there, belongs to other cells, or cannot be opened.
        """
        self._path = path
        is_new = not path.exists()
        if is_new and cells_sha256:
            raise DataError(f"{path} is missing: it holds the labels of the project. Restore it from a copy.")
        with self._told():
            # one connection for all threads: the session has a lock
            self._open = sqlite3.connect(path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            if not is_new:
                self._check(cells_sha256)
            with self._told():
                self._open.execute("PRAGMA journal_mode=WAL")
                self._open.execute("PRAGMA synchronous=FULL")
                for statement in (_TABLE, *_NO_CHANGE, _BINDING):
                    self._open.execute(statement)
        except BaseException:
            self._open.close()
            raise

    def _check(self, cells_sha256: str) -> None:
        """Raises a DataError for a file without entries' table, or with labels of other cells; changes nothing."""
        with self._told():
            found = self._open.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            tables = {name for (name,) in found}
            own = self._open.execute("SELECT sha256 FROM cells").fetchone() if "cells" in tables else None
        if "entries" not in tables:
            what = "is empty" if self._path.stat().st_size == 0 else "is no journal of labels"
            raise DataError(f"{self._path} {what}, expected the labels of the project. Restore it from a copy.")
        if cells_sha256 and (own is None or own[0] != cells_sha256):
            raise DataError(
                f"{self._path} has labels of other cells than {self._path.parent} lists: labels would go to other "
                "cells. Restore both from one copy."
            )

    def bind(self, cells_sha256: str) -> None:
        """Notes the table that its numbers of cells count in; one that was noted stays.

        Raises:
            DataError: If it could not be stored.
        """
        with self._told("The journal was not bound to its cells"), self._transaction():
            if self._open.execute("SELECT sha256 FROM cells").fetchone() is None:
                self._open.execute("INSERT INTO cells (sha256) VALUES (?)", (cells_sha256,))

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


def make_journal(path: Path, cells_sha256: str) -> None:
    """Makes an empty journal of a table of cells."""
    journal = Journal(path)
    try:
        journal.bind(cells_sha256)
    finally:
        journal.close()


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
