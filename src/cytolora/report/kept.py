"""What is kept from one report to the next: numbers under the hash of what they were computed from."""

import json
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from cytolora.files import canonical_json, sha256_file, sha256_text, write_bytes
from cytolora.store import PREDICTIONS, StoredRun, damaged


def read_kept(file: Path) -> Any:
    """Returns what ``keep`` wrote, or None where there is nothing or it is damaged."""
    try:
        digest, content = file.read_text(encoding="utf-8").split("\n", 1)
        return json.loads(content) if sha256_text(content) == digest else None
    except (OSError, ValueError):
        return None


def keep(file: Path, plain: Any) -> None:
    """Writes plain data with its own hash; on a read-only disk nothing, so that it is computed again next time."""
    content = canonical_json(plain)
    with suppress(OSError):
        write_bytes(file, f"{sha256_text(content)}\n{content}".encode(), durable=False)


def predictions_hash(run: StoredRun) -> str:
    """Returns the SHA-256 of a run's predictions, read once a report.

    Raises:
        StoreError: If there are none, or the run was replaced since it was read.
    """
    file = run.path / PREDICTIONS
    try:
        found = file.stat()
        digest = _hash(file, found.st_mtime_ns, found.st_size, found.st_ino)
    except OSError as error:
        run.check_unchanged()
        raise damaged(run.path, f"{PREDICTIONS}: {error}") from error
    run.check_unchanged()
    return digest


@lru_cache(maxsize=100_000)
def _hash(file: Path, *_: int) -> str:
    return sha256_file(file)


def code_hash(*files: str | None) -> str:
    """Hashes program texts: other code, other numbers."""
    return _code_hash(tuple(map(str, files)))


@lru_cache(maxsize=16)
def _code_hash(files: tuple[str, ...]) -> str:
    return sha256_text(canonical_json([sha256_file(Path(file)) for file in files]))
