"""Files that a table, an index or a manifest names: what cannot be the name of a file is no file."""

from pathlib import Path


def is_file(path: Path) -> bool:
    """Whether there is a file of a name that someone else wrote.

    ``Path.is_file`` raises an error for names that the system does not take: too long ones, or those in a folder that
    may not be opened.
    """
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
