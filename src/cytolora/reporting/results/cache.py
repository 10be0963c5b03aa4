"""Cache of computed results, under the hash of the predictions and of the code that computes them."""

from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from cytolora import metrics
from cytolora.core.checksum import add_checksum, read_checked
from cytolora.core.files import canonical_json, sha256_file, sha256_text, write_bytes
from cytolora.core.strict_json import read_json
from cytolora.experiments.run_folder import PREDICTIONS, unreadable
from cytolora.experiments.store import StoredRun


def read_cached(file: Path) -> Any:
    """Returns what ``write_cached`` wrote, or None where there is nothing or it is damaged."""
    content = read_checked(file, key=_key(file))
    return None if content is None else read_json(content)


def write_cached(file: Path, plain: Any) -> None:
    """Writes plain data with its own hash; on a read-only disk nothing, so that it is computed again next time."""
    content = add_checksum(canonical_json(plain).encode(), key=_key(file))
    with suppress(OSError):
        write_bytes(file, content, durable=False)


def _key(file: Path) -> str:
    return f"{file.parent.name}/{file.name}"


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
