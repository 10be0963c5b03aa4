"""Litter: files that operating systems, file managers and notebooks leave in any folder."""

from pathlib import PurePosixPath

_FILES = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
_FOLDERS = frozenset({"__MACOSX", ".ipynb_checkpoints"})


def is_litter(name: str) -> bool:
    """Whether a path within a folder, with forward slashes, belongs to no program of ours and may be lost."""
    parts = PurePosixPath(name).parts
    return parts[-1] in _FILES or parts[-1].startswith("._") or not _FOLDERS.isdisjoint(parts)
