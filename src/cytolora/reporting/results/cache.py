"""Cache of computed results, under the hash of the predictions and of the code that computes them."""

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from cytolora import metrics
from cytolora.core.cache_folder import CachedFiles
from cytolora.core.files import canonical_json, sha256_file, sha256_text
from cytolora.core.strict_json import read_json
from cytolora.experiments.run_folder import PREDICTIONS, unreadable
from cytolora.experiments.stored_run import StoredRun

_Value = TypeVar("_Value")


def read_cached(file: Path, decode: Callable[[Any], _Value]) -> _Value | None:
    """Returns what ``write_cached`` wrote, or None where there is nothing or it is damaged.

    Args:
        decode: Reads the plain data; a ValueError, KeyError or TypeError of it counts as damage.
    """
    return CachedFiles(file.parent).read(file.name, lambda content: decode(read_json(content)))


def write_cached(file: Path, plain: Any) -> None:
    """Writes plain data under a checksum; on a read-only disk nothing, so that it is computed again next time."""
    with suppress(OSError):
        CachedFiles(file.parent).keep(file.name, canonical_json(plain).encode())


def predictions_hash(run: StoredRun) -> str:
    """Returns the SHA-256 of a run's predictions, read once a report.

    Raises:
        StoreError: If there are none, or the run was replaced since it was read.
    """
    file = run.file(PREDICTIONS)
    try:
        found = file.stat()
        digest = _hash(file, found.st_mtime_ns, found.st_size, found.st_ino)
    except OSError as error:
        run.check_unchanged()
        error.filename = PREDICTIONS
        raise unreadable(run.path, error) from error
    run.check_unchanged()
    return digest


@lru_cache(maxsize=100_000)
def _hash(file: Path, *_: int) -> str:
    return sha256_file(file)


def code_hash(*files: str | None) -> str:
    """Hashes program texts, and always those of every metric and interval: other code, other numbers."""
    measures = sorted(Path(metrics.__path__[0]).glob("*.py"))
    return _code_hash((*map(str, measures), *map(str, files)))


@lru_cache(maxsize=16)
def _code_hash(files: tuple[str, ...]) -> str:
    return sha256_text(canonical_json([sha256_file(Path(file)) for file in files]))
