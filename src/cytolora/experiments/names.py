"""Names of settings in a store: what a grid calls its variants of one method, which no run id depends on."""

from collections.abc import Mapping
from pathlib import Path
from string import hexdigits

from cytolora.core.files import canonical_json, json_bytes, sha256_text, write_bytes
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
                write_bytes(store.root / NAMES, names_file(together))
            except OSError as error:
                raise unwritable(store.root, error) from error


def names_file(names: Mapping[str, str]) -> bytes:
    """Returns the file of names, with the checksum over them."""
    return json_bytes({**names, _SUM: _sum_of(names)})


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
    except OSError as error:
        raise StoreError(
            f"Cannot read {path}: {error.strerror or error}. Nothing says that it is damaged: make it readable."
        ) from error
    except ValueError as error:
        raise StoreError(f"{path} is no table of names by setting: {error}. {_CURE}") from error
    if not isinstance(names, dict) or not all(isinstance(name, str) and name for name in names.values()):
        raise StoreError(f"{path} is no table of names by setting. {_CURE}")
    is_checked = any(_is_sum(name) for name in names.values())  # files of earlier versions are not
    promised = names.pop(_SUM, None)
    if is_checked and promised != _sum_of(names):
        raise StoreError(f"{path} was changed after it was written: its SHA-256 is not {promised}. {_CURE}")
    return names


def _sum_of(names: Mapping[str, str]) -> str:
    return f"sha256:{sha256_text(canonical_json(dict(names)))}"


def _is_sum(name: str) -> bool:
    """Whether a text is a checksum, perhaps with a damaged letter."""
    return len(name) == len(_sum_of({})) and sum(letter in hexdigits for letter in name) >= _NUM_DIGITS


_SUM = "sha256"
"""Key of the checksum over all other entries: no id of a setting."""
_NUM_DIGITS = 63
_CURE = "Move it away; running the grid again writes it anew."
