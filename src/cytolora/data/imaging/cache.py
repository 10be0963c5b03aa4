"""Decoded images on disk, for what asks for them again and again, and in memory from one look at them to the next."""

import hashlib
import io
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from threading import Lock

import numpy as np
import PIL
from PIL import Image

from cytolora.config.reading import STANDARD, Decoding
from cytolora.core.cache_damage import note_damage
from cytolora.core.cache_entries import mark_used
from cytolora.core.cache_folder import tell_unkept, wrote
from cytolora.core.checksum import add_checksum, checked
from cytolora.core.files import write_bytes
from cytolora.data.imaging.decode import Pixels, decode
from cytolora.data.imaging.room import one_image
from cytolora.data.manifest import Sample
from cytolora.errors import DataError, passing

MAX_PIXELS = 1024 * 1024
"""Width times height that is kept for training; a larger image is reduced to it, proportions kept. The smallest crop
of the protocol, 70 % of the area, of an image of this size is about 857 px wide, and no encoder looks at more than a
few hundred: beyond it disk and reading grow, and a crop shows nothing more."""

HELD_BYTES = 2**27
"""Of decoded images held in memory, in all: 128 MiB, about 1,400 cells of 180 px."""

_HEADER = struct.Struct("<3I")
"""Height, width, whether it was reduced; the pixels follow."""
_NATIVE = "native"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    pixels: Pixels
    is_reduced: bool


class PixelCache:
    """Decoded images under ``Sample.pixels_key``; safe to use from threads and from several processes.

    What is asked for in every epoch or by every run is kept on disk: images for training crops (``native``), and views
    that adapted encoders score (``view``). ``whole`` keeps nothing: frozen features are computed once, decoding a cell
    takes as long as writing its pixels, and these take many times the bytes of a JPEG file.

    Each image is a file of its own, written whole or not at all: whichever process is last replaces it by an equal
    one. A file that fails its checksum, which is looked at once per process, is made anew.
    """

    def __init__(self, folder: Path, root: Path, decoding: Decoding = STANDARD) -> None:
        """Looks for images at ``root``, the manifest's, reads them as it says, and keeps them in ``folder``."""
        self._kind = folder
        self._folder = folder / f"pillow-{PIL.__version__}"  # its decoders and filters make the pixels
        self._root = root
        self._decoding = decoding
        self._checked: set[Path] = set()
        self._held: dict[str, Pixels] = {}
        self._held_bytes, self._lock = 0, Lock()

    def native(self, sample: Sample, *, keep: bool = True) -> Pixels:
        """Returns an image for training crops: its own pixels, reduced beyond ``MAX_PIXELS``; read-only.

        Args:
            keep: Writes them to disk, for the next epoch and run.

        Raises:
            DataError: If the file is no image, or has changed since it was hashed.
        """
        path, held = self._path(sample, _NATIVE), self._released(sample)
        kept = self._read(path)
        if kept is not None:
            return kept.pixels
        with one_image():
            whole = self._decode(sample) if held is None else held
            pixels = _bounded(whole)
            pixels.flags.writeable = False
            return self._keep(path, pixels, is_reduced=pixels is not whole) if keep else pixels

    def whole(self, sample: Sample) -> Pixels:
        """Returns an image as ``decode`` reads it, whatever its size, and keeps nothing; read-only.

        Raises:
            DataError: If the file is no image, or has changed since it was hashed.
        """
        path, held = self._path(sample, _NATIVE), self._released(sample)
        if held is not None:
            return held
        kept = self._read(path)
        return self._decode(sample) if kept is None or kept.is_reduced else kept.pixels

    def hold(self, sample: Sample, whole: Pixels) -> None:
        """Holds an image in memory that was decoded elsewhere, from the bytes that its hash stands for.

        Until it is asked for, once; nothing where ``HELD_BYTES`` are held: such an image is decoded again.
        """
        with self._lock:
            if sample.pixels_key not in self._held and self._held_bytes + whole.nbytes <= HELD_BYTES:
                whole.flags.writeable = False
                self._held[sample.pixels_key] = whole
                self._held_bytes += whole.nbytes

    def view(self, sample: Sample, name: str, make: Callable[[Pixels], Pixels]) -> Pixels:
        """Returns what ``make`` makes of the whole image, kept under ``name``; read-only.

        Args:
            name: Says all that decides the result besides the image; a part of a file name.
        """
        path = self._path(sample, name)
        kept = self._read(path)
        return kept.pixels if kept else self._keep(path, make(self.whole(sample)), is_reduced=False)

    def _released(self, sample: Sample) -> Pixels | None:
        """Returns an image that is held, and holds it no longer."""
        with self._lock:
            pixels = self._held.pop(sample.pixels_key, None)
            self._held_bytes -= 0 if pixels is None else pixels.nbytes
        return pixels

    def _path(self, sample: Sample, name: str) -> Path:
        if not sample.sha256:
            raise ValueError(f"{sample.path} has no hash; call Manifest.with_hashes first")
        key = sample.pixels_key
        return self._folder / name / key[:2] / key

    def _key(self, path: Path) -> str:
        return path.relative_to(self._folder.parent).as_posix()

    def _decode(self, sample: Sample) -> Pixels:
        """Decodes the very bytes that the sample's hash stands for: others would be kept under a false name."""
        path = sample.file_in(self._root)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"Cannot read {path}: {error.strerror}.") from error
        if hashlib.sha256(content).hexdigest() != sample.sha256:
            changed = f"{path} has changed since the dataset was read. Let nothing write to it, and run again."
            raise passing(DataError(changed))
        pixels = decode(io.BytesIO(content), str(path), decoding=self._decoding)
        pixels.flags.writeable = False
        return pixels

    def _read(self, path: Path) -> _Kept | None:
        """Maps a kept image; None if there is none, or, with a notice, none that is whole."""
        try:
            mapped = np.asarray(np.memmap(path, np.uint8, "r"))
        except OSError:  # absent, or not to be read
            return None
        except ValueError:  # empty
            return self._drop(path)
        kept = self._unpacked(path, mapped)
        if kept is None:
            return self._drop(path)
        if path not in self._checked:
            self._checked.add(path)
            mark_used(path)
        return kept

    def _drop(self, path: Path) -> None:
        """Removes a damaged file, which is told of: whoever asks for its image need not keep it anew."""
        note_damage(self._kind, path)
        with suppress(OSError):
            path.unlink()

    def _unpacked(self, path: Path, mapped: Pixels) -> _Kept | None:
        content = checked(mapped.data, key=self._key(path), trusted=path in self._checked)
        if content is None or len(content) < _HEADER.size:
            return None
        height, width, reduced = _HEADER.unpack_from(content)
        if len(content) != _HEADER.size + height * width * 3:  # changed since it was checked
            return None
        pixels = np.asarray(content)[_HEADER.size :].reshape(height, width, 3)
        return _Kept(pixels=pixels, is_reduced=bool(reduced))

    def _keep(self, path: Path, pixels: Pixels, *, is_reduced: bool) -> Pixels:
        """Writes pixels where that is possible, and returns them, read-only."""
        height, width, _ = pixels.shape
        content = _HEADER.pack(height, width, is_reduced) + pixels.tobytes()
        try:
            # not flushed to disk one by one, which takes longer than decoding: what a power cut tears, the sum finds
            write_bytes(path, add_checksum(content, key=self._key(path)), durable=False)
            wrote(self._kind, len(content))
        except OSError as error:
            tell_unkept("decoded images", self._kind, error, "They are decoded whenever they are needed")
        pixels.flags.writeable = False
        return pixels


def _bounded(pixels: Pixels) -> Pixels:
    height, width, _ = pixels.shape
    if height * width <= MAX_PIXELS:
        return pixels
    factor = sqrt(MAX_PIXELS / (height * width))
    size = (max(1, int(width * factor)), max(1, int(height * factor)))
    return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))  # Pillow's own is antialiased
