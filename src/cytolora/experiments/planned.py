"""Planned runs of a store: the ids that commands set out to compute, so that others can tell what is left."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from cytolora.core.files import sha256_text, write_json
from cytolora.core.strict_json import read_json
from cytolora.errors import StoreError
from cytolora.experiments.store import Store, unwritable

FOLDER = ".planned"
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """Runs of one plan."""

    runs: frozenset[str]
    began: float
    """When a command last set out to compute them, seconds of the file system's time."""


def write_planned(store: Store, runs: Collection[str]) -> None:
    """Notes what a command sets out to compute; the same plan again is the same file, touched.

    Raises:
        StoreError: If nothing can be written there.
    """
    names = sorted(runs)
    store.make_root()
    path = store.root / FOLDER / f"{sha256_text(' '.join(names))[:16]}.json"
    try:
        write_json(path, {"version": _VERSION, "runs": names})
    except OSError as error:
        raise unwritable(path.parent, error) from error


def read_planned(root: Path) -> list[Planned]:
    """Returns the plans of a store.

    Raises:
        StoreError: If one is damaged, or of a newer version.
    """
    return [_read(path) for path in sorted((root / FOLDER).glob("*.json"))]


def _read(path: Path) -> Planned:
    try:
        found, began = read_json(path.read_text(encoding="utf-8")), path.stat().st_mtime
        version, runs = found["version"], found["runs"]
        if version == _VERSION:
            if not isinstance(runs, list) or not all(isinstance(run, str) for run in runs):
                raise TypeError("its runs are no list of texts")
            return Planned(runs=frozenset(runs), began=began)
        why = f"it is of version {version}, this cytolora reads {_VERSION}"
    except (OSError, ValueError, TypeError, KeyError) as error:
        why = " ".join(str(error).split())
    raise StoreError(f"Cannot read the planned runs in {path}: {why}. Remove it: the next `cytolora run` writes it.")
