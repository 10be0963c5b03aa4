"""Paths as tables write them, matched with the names that files have on disk."""

import os
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

from cytolora.core.findings import Finding, finding, first
from cytolora.core.named_files import is_file
from cytolora.core.text import normal, shown
from cytolora.errors import DataError


def slashed(text: str) -> str:
    """Writes a path as manifests hold it: with forward slashes, without ``./`` and doubled slashes."""
    return PurePosixPath(text.replace("\\", "/")).as_posix()


def leaves_folder(text: str) -> bool:
    """Says whether a path is absolute, on any system, or goes up."""
    path = PurePosixPath(slashed(text))
    return path.is_absolute() or ".." in path.parts or bool(PureWindowsPath(text).drive)


def path_key(text: str) -> str:
    """Returns the form in which paths are compared: slashes, Unicode form, case and blanks at edges do not count."""
    return "/".join(normal(part).casefold() for part in PurePosixPath(slashed(text)).parts)


class PathIndex:
    """Paths of a manifest, found as somebody else wrote them."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = set(paths)

    @cached_property
    def _by_key(self) -> dict[str, list[str]]:
        by_key: defaultdict[str, list[str]] = defaultdict(list)
        for path in sorted(self._paths):
            by_key[path_key(path)].append(path)
        return by_key

    def find(self, where: str, text: str) -> str | None:
        """Returns the path that is meant: the very same, else the only one that compares equal; None: there is none.

        Raises:
            DataError: If two are meant.
        """
        for same in (text, text.strip(), slashed(text), slashed(text.strip())):
            if same in self._paths:
                return same
        return _only(where, text, self._by_key.get(path_key(text), []))


class NamesOnDisk:
    """Names of files below a folder, found as a table writes them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[Path, dict[str, list[str]]] = {}
        self._other: dict[str, str] = {}

    def find(self, where: str, text: str) -> str:
        """Returns the path of the file that is meant, as it is named on disk; the path as written where there is none.

        Raises:
            DataError: If two are meant.
        """
        written = slashed(text)
        if is_file(self._root / written):
            return written
        found = [""]
        for part in PurePosixPath(written).parts:
            found = [f"{parent}{name}/" for parent in found for name in self._alike(self._root / parent, part)]
        path = _only(where, text, [name.rstrip("/") for name in found])
        if path is None:
            return written
        self._other[written] = path
        return path

    def findings(self, table: str) -> list[Finding]:
        """Says which files are named otherwise than the table writes them."""
        if not self._other:
            return []
        cases = [f"{shown(written)} is {shown(path)}" for written, path in self._other.items()]
        text = f"{table}: paths that differ from the names of the files: {len(cases)}, {first(cases)}."
        return [finding("T302", text, count=len(cases), examples=cases)]

    def _alike(self, folder: Path, part: str) -> list[str]:
        """Lists the names in a folder that are meant by a part of a path; the very same goes before all others."""
        if folder not in self._names:
            by_key: defaultdict[str, list[str]] = defaultdict(list)
            with suppress(OSError), os.scandir(folder) as entries:  # no folder: nothing is there
                for name in sorted(entry.name for entry in entries):
                    by_key[path_key(name)].append(name)
            self._names[folder] = by_key
        names = self._names[folder].get(path_key(part), [])
        return [part] if part in names else names


def _only(where: str, text: str, paths: list[str]) -> str | None:
    if len(paths) > 1:
        names = " or ".join(map(shown, paths))
        raise DataError(f"{where}: {text!r} may be {names}; write which one is meant.")
    return paths[0] if paths else None
