"""Unpacking of images that are stored in no file of their own: written once as PNG beside the download."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytolora.core.cache_damage import note_damage
from cytolora.core.files import canonical_json, sha256_file, sha256_text, write_json
from cytolora.core.folders import recover_folder, staged_folder
from cytolora.core.litter import is_litter
from cytolora.core.locks import locked
from cytolora.core.strict_json import read_json
from cytolora.data.unpacked_archive import stamp
from cytolora.data.walk import UNPACKED_MARKER
from cytolora.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNPACK_LOCK = ".unpack.lock"
"""Not the lock of core/folders.py, which is taken for each replacement."""

_whole: dict[Path, int] = {}
"""Stamps of the folders that this process has found whole, or filled."""


def unpack_once(target: Path, key: str, write: Callable[[Path], None]) -> None:
    """Fills the folder ``target`` unless it was filled from the same source; it appears whole or not at all.

    The files in it are compared with the hashes that were kept of them; where one differs, all are
    written again.

    Args:
        key: Changes with the source; an older folder of ours is then replaced.
        write: Writes the images into an empty folder.

    Raises:
        DataError: If something else stands there, or the disk is full or may not be written.
    """
    if _key_of(target) == key and _is_whole(target):
        return recover_folder(target)  # removes the older images if a process was killed while it replaced them
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target.parent / UNPACK_LOCK):  # unpacked once: another process may be reading it already
            _unpack(target, key, write)
    except OSError as error:
        raise DataError(
            f"Cannot unpack images into {target}: {error.strerror or error}; free some space, or copy the download to "
            "a folder that you may write to."
        ) from error


def _unpack(target: Path, key: str, write: Callable[[Path], None]) -> None:
    recover_folder(target)
    if _key_of(target) == key:
        if _is_whole(target):
            return
        note_damage(target.parent, target)
    if target.exists() and _key_of(target) is None:
        raise DataError(f"{target} is in the way: the images of {target.parent} are unpacked there; move it away.")
    with staged_folder(target) as staged:
        write(staged)
        write_json(staged / UNPACKED_MARKER, {"unpacked_from": key, "sha256": _hashed(staged)})
    _whole[target] = stamp(target)


def write_png(path: Path, pixels: "NDArray[np.uint8]") -> None:
    """Writes an image without loss; for folders that appear whole, which is why it is not flushed on its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_bytes(pixels))


def png_bytes(pixels: "NDArray[np.uint8]") -> bytes:
    """Returns an image without loss: height x width, grey, or height x width x 3."""
    from PIL import Image  # not when the list of datasets is loaded

    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png")
    return content.getvalue()


def _is_whole(target: Path) -> bool:
    """Compares the files with their hash; False where one was changed, added or taken away."""
    if _whole.get(target) == stamp(target):
        return True
    kept = _marker(target).get("sha256")
    if kept is not None and kept != _hashed(target):
        return False
    _whole[target] = stamp(target)
    return True


def _hashed(folder: Path) -> str:
    """Hashes names and contents of all files but the marker."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != UNPACKED_MARKER)
    files = [path for path in files if not is_litter(path.relative_to(folder).as_posix())]
    return sha256_text(canonical_json([[path.relative_to(folder).as_posix(), sha256_file(path)] for path in files]))


def _key_of(target: Path) -> str | None:
    return _marker(target).get("unpacked_from")


def _marker(target: Path) -> dict[str, Any]:
    try:
        marker = read_json((target / UNPACKED_MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return marker if isinstance(marker, dict) else {}
