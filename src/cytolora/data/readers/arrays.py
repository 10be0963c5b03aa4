"""Arrays of images in ``.npz`` files, read from their headers and bytes: nothing is unpickled."""

import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from cytolora.core.files import canonical_json, sha256_text
from cytolora.core.zip_members import MAX_RATIO, unpacks_too_far
from cytolora.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class NpzFile:
    """One open ``.npz`` file."""

    def __init__(self, source: Path, archive: zipfile.ZipFile, title: str, max_images: int) -> None:
        self._source, self._archive, self._title, self._max_images = source, archive, title, max_images

    def key(self) -> str:
        """Returns what changes with the file: a hash of names, sizes and checksums of its arrays."""
        table = sorted([member.filename, member.file_size, member.CRC] for member in self._archive.infolist())
        return sha256_text(canonical_json(table))

    def labels(self, name: str, num_classes: int | None = None) -> list[int]:
        """Returns an array of one whole number for each image.

        Args:
            num_classes: What the numbers are less than; None: any.

        Raises:
            DataError: If the array is something else.
        """
        import numpy as np  # not when the list of datasets is loaded

        with self._opened(name) as stream:
            shape, dtype = self._header(name, stream)
            if shape not in ((shape[0],), (shape[0], 1)) or dtype.kind not in "iu":
                raise self._strange(name, f"{dtype} of shape {shape}", "one whole number for each image")
            labels = np.frombuffer(self._read(stream, shape[0] * dtype.itemsize), dtype).astype(np.int64)
        most = self._max_images if num_classes is None else num_classes
        if len(labels) and not 0 <= labels.min() <= labels.max() < most:
            raise self._strange(name, f"{labels.min()} to {labels.max()}", f"labels from 0 to {most - 1}")
        return labels.tolist()

    def images(self, name: str, number: int, sizes: Collection[int], channels: Collection[int]) -> "Iterator[NDArray]":
        """Yields the images one after the other; the largest file of MedMNIST has gigabytes of them.

        Args:
            number: How many there must be.
            sizes: Edges that they may have, pixels.
            channels: 3 for RGB, 1 for grey: height x width without a third axis.
        """
        import numpy as np

        shapes = [(size, size, 3) for size in sizes if 3 in channels]
        shapes += [(size, size) for size in sizes if 1 in channels]
        kinds = " or ".join({3: "RGB", 1: "grey"}[one] for one in channels)
        with self._opened(name) as stream:
            shape, dtype = self._header(name, stream)
            if dtype != np.uint8 or shape[0] != number or shape[1:] not in shapes:
                raise self._strange(name, f"{dtype} of shape {shape}", f"{number} {kinds} images, uint8")
            for _ in range(number):
                yield np.frombuffer(self._read(stream, int(np.prod(shape[1:]))), np.uint8).reshape(shape[1:])

    def _opened(self, name: str) -> IO[bytes]:
        if f"{name}.npy" not in self._archive.namelist():
            raise DataError(f"{self._source} holds no array {name!r}; expected the arrays of {self._title}.")
        return self._archive.open(f"{name}.npy")

    def _header(self, name: str, stream: IO[bytes]) -> "tuple[tuple[int, ...], np.dtype]":
        from numpy.lib import format as npy

        try:
            version = npy.read_magic(stream)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, is_fortran, dtype = read(stream)
        except ValueError as error:
            raise DataError(f"{self._source} is damaged (array {name!r}: {error}); download it again.") from error
        if dtype.hasobject:
            raise self._strange(name, "pickled Python objects, which may run code and are not read", "plain numbers")
        if not shape or is_fortran or not 0 <= shape[0] <= self._max_images:
            expected = f"at most {self._max_images:,} rows of plain numbers"
            raise self._strange(name, f"{dtype} of shape {shape}", expected)
        return shape, dtype

    def _read(self, stream: IO[bytes], num_bytes: int) -> bytes:
        content = stream.read(num_bytes)
        if len(content) != num_bytes:
            raise DataError(f"{self._source} is damaged (an array is cut off); download it again.")
        return content

    def _strange(self, name: str, found: str, expected: str) -> DataError:
        return DataError(f"{self._source} is not {self._title}: array {name!r} has {found}; expected {expected}.")


@contextmanager
def opened_npz(source: Path, title: str, max_images: int) -> Iterator[NpzFile]:
    """Opens a file; whatever is wrong with it in the block is a DataError.

    Args:
        title: What it should be, for errors.
        max_images: Of one subset; a file that says more of itself is none.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            total = sum(member.file_size for member in archive.infolist())
            if unpacks_too_far(total, source.stat().st_size):
                raise DataError(f"{source} would unpack to more than {MAX_RATIO} times its size; refused.")
            yield NpzFile(source, archive, title, max_images)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{source} is damaged ({error}); download it again.") from error
    except OSError as error:
        raise DataError(f"Cannot read {source}: {error.strerror or error}.") from error
