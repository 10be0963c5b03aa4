"""Names of settings in a store: what a grid calls its variants of one method, which no run id depends on."""

from collections.abc import Mapping
from pathlib import Path

from cytolora.core.files import write_json
from cytolora.core.strict_json import read_json
from cytolora.errors import StoreError
from cytolora.experiments.store import Store, unwritable

NAMES = "names.json"
"""In the folder of runs: the name of a setting by its id."""


def write_names(store: Store, names: Mapping[str, str]) -> None:
    """Adds names to those of a store; a setting that was called something else is renamed.

    Raises:
        StoreError: If the folder cannot be written to, or the names in it are damaged.
    """
    if names.items() <= read_names(store.root).items():
        return  # also where nothing may be written
    with store.exclusive():
        known = read_names(store.root)
        together = known | dict(names)
        if together != known:
            try:
                write_json(store.root / NAMES, dict(sorted(together.items())))
            except OSError as error:
                raise unwritable(store.root, error) from error


def read_names(root: Path) -> dict[str, str]:
    """Returns the names in a folder of runs by setting id; none where no grid named any.

    Raises:
        StoreError: If the file is damaged.
    """
    path = root / NAMES
    try:
        names = read_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}. {_CURE}") from error
    if not isinstance(names, dict) or not all(isinstance(name, str) and name for name in names.values()):
        raise StoreError(f"{path} is no table of names by setting. {_CURE}")
    return names


_CURE = "Move it away; running the grid again writes it anew."
