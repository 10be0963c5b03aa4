"""Unpacking of images that are stored in no file of their own: written once as PNG beside the download."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cytolora.core.files import write_json
from cytolora.core.folders import recover_folder, recover_folders, staged_folder
from cytolora.core.locks import locked
from cytolora.core.strict_json import read_json
from cytolora.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MARKER = "unpacked.json"
UNPACK_LOCK = ".unpack.lock"
"""Not the lock of core/folders.py, which is taken for each replacement."""


def unpack_once(target: Path, key: str, write: Callable[[Path], None]) -> None:
    """Fills the folder ``target`` unless it was filled from the same source; it appears whole or not at all.

    Args:
        key: Changes with the source; an older folder of ours is then replaced.
        write: Writes the images into an empty folder.

    Raises:
        DataError: If something else stands there, or the disk is full or may not be written.
    """
    if _key_of(target) == key:
        return recover_folder(target)  # removes the older images if a process was killed while it replaced them
    try:
        with locked(target.parent / UNPACK_LOCK):  # unpacked once: another process may be reading it already
            _unpack(target, key, write)
    except OSError as error:
        raise DataError(
            f"Cannot unpack images into {target}: {error.strerror or error}; free some space, or copy the download to "
            "a folder that you may write to."
        ) from error


def _unpack(target: Path, key: str, write: Callable[[Path], None]) -> None:
    recover_folders(target.parent)
    if _key_of(target) == key:
        return
    if target.exists() and _key_of(target) is None:
        raise DataError(f"{target} is in the way: the images of {target.parent} are unpacked there; move it away.")
    with staged_folder(target) as staged:
        write(staged)
        write_json(staged / _MARKER, {"unpacked_from": key})


def write_png(path: Path, pixels: "NDArray[np.uint8]") -> None:
    """Writes an image without loss; for folders that appear whole, which is why it is not flushed on its own."""
    from PIL import Image  # not when the list of datasets is loaded

    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.getvalue())


def _key_of(target: Path) -> str | None:
    try:
        marker = read_json((target / _MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return marker.get("unpacked_from") if isinstance(marker, dict) else None
