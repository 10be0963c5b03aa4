"""Failed runs of a store: what failed where and why, so that it is told, and not tried in vain again.

A file in ``RUNS/.failed`` for each claim (``claims``), written whole, removed when the work succeeds.
"""

import errno
import gc
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cytolora.config.run import RunSpec
from cytolora.core.files import write_json
from cytolora.core.stopping import stop_if_asked
from cytolora.core.strict_json import read_json
from cytolora.core.text import counted
from cytolora.errors import CytoloraError, DataError, EngineError, StoreError, WeightsError
from cytolora.experiments.claim_owner import Owner
from cytolora.experiments.claims import claimed, file_name
from cytolora.experiments.plan import Job
from cytolora.experiments.store import Store
from cytolora.training.resources import Inputs

FOLDER = ".failed"
_VERSION = 1
MAX_ATTEMPTS = 3
_LASTING = (DataError, WeightsError)
"""Errors that the same data and weights give again, where nothing that may pass caused them."""
_BLAMED = "cytolora_failed_runs"
"""Attribute of an error: the ids of the runs that were at work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Runs that failed together."""

    name: str
    """Of their claim."""
    runs: tuple[str, ...]
    reason: str
    """One line: the last of the stack trace."""
    at: str
    """When, by the clock of the machine."""
    by: str
    """User, machine and process."""
    attempts: int
    is_lasting: bool
    """Whether the same data and weights fail again."""
    data_fingerprint: str | None = None
    weights_sha256: str | None = None


def attempt(store: Store, inputs: Inputs, name: str, runs: Sequence[RunSpec], work: Callable[[], object]) -> None:
    """Claims some runs and does their work; what fails is recorded, and what lacks memory is tried twice again.

    Raises:
        ClaimedError: If another process is at work at them.
        EngineError: If memory is too little again and again.
        StoppedError: If the command was asked to stop: a boundary between runs.
        Exception: Whatever else ``work`` raises.
    """
    stop_if_asked()
    with claimed(store.root, name, [run.run_id for run in runs]):
        for number in range(1, MAX_ATTEMPTS + 1):
            try:
                work()
            except Exception as error:
                if lacks_memory(error) and number < MAX_ATTEMPTS:
                    free_memory()
                    continue
                _record_error(store, inputs, name, runs, error, number)
                if lacks_memory(error):
                    raise EngineError(
                        f"Too little memory for {name}, {number} times: {_last_line(error)}. Take fewer --workers or a "
                        "smaller model, or free memory. What was finished is kept."
                    ) from error
                raise
            break
        forget(store.root, name)


@contextmanager
def blamed(runs: Sequence[RunSpec]) -> Iterator[None]:
    """Names the runs at work in an error: of several under one claim, the others have not failed."""
    try:
        yield
    except Exception as error:
        with suppress(AttributeError):
            setattr(error, _BLAMED, [run.run_id for run in runs])
        raise


def record(root: Path, failure: Failure) -> None:
    """Writes down a failure, in place of an earlier one; nothing where nothing can be written."""
    with suppress(OSError):
        write_json(root / FOLDER / file_name(failure.name), {"version": _VERSION, **asdict(failure)})


def record_lost(root: Path, name: str, runs: Sequence[str], why: str, attempts: int) -> None:
    """Writes down that the workers died which were at work at some runs."""
    owner = Owner.this_process()
    failure = Failure(
        name=name, runs=tuple(runs), reason=why, at=owner.since, by=str(owner), attempts=attempts, is_lasting=False
    )
    record(root, failure)


def forget(root: Path, name: str) -> None:
    """Removes what is written down of a claim, if anything is."""
    with suppress(OSError):
        (root / FOLDER / file_name(name)).unlink()


def failures(root: Path) -> list[Failure]:
    """Returns what is written down, sorted by name; damaged files, and those of newer versions, are left out."""
    found = [_read(path) for path in (root / FOLDER).glob("*.json")]
    return sorted((failure for failure in found if failure is not None), key=lambda one: one.name)


def lasting(store: Store, inputs: Inputs, runs: Iterable[RunSpec]) -> list[Failure]:
    """Returns the failures of some runs that would happen again, for data and weights are the same as then."""
    recorded = [failure for failure in failures(store.root) if failure.is_lasting]
    if not recorded:
        return []
    by_id = {run.run_id: run for run in runs}
    found = []
    for failure in recorded:
        run = next((by_id[name] for name in failure.runs if name in by_id), None)
        hashes = failure.data_fingerprint, failure.weights_sha256
        if run is not None and None not in hashes and _hashes(inputs, run) == hashes:
            found.append(failure)
    return found


def without(jobs: Sequence[Job], failed: Sequence[Failure]) -> list[Job]:
    """Leaves out the settings of failed runs: a learning rate is chosen over all of a setting's."""
    names = {name for failure in failed for name in failure.runs}
    left = [
        replace(job, settings=tuple(one for one in job.settings if names.isdisjoint(run.run_id for run in one)))
        for job in jobs
    ]
    return [job for job in left if job.settings]


def left_out(failed: Sequence[Failure], out: Path) -> StoreError:
    """The error for runs that were left out, when all others are done."""
    count = sum(len(failure.runs) for failure in failed)
    return StoreError(
        f"{counted(count, 'run')} failed before, and data and weights are the same since: "
        f"{failed[0].reason.rstrip('.')}. Their settings were left out; all else is done. Mend that, or try again with "
        f"--retry-failed (retry_failed=True). `cytolora status {out}` lists them."
    )


def _record_error(
    store: Store, inputs: Inputs, name: str, runs: Sequence[RunSpec], error: Exception, attempts: int
) -> None:
    owner, is_lasting = Owner.this_process(), _is_lasting(error)
    at_work = getattr(error, _BLAMED, None)
    runs = [run for run in runs if at_work is None or run.run_id in at_work] or runs
    data, weights = _hashes(inputs, runs[0]) if is_lasting else (None, None)
    missing = tuple(run.run_id for run in runs if not (store.root / run.run_id).exists())
    failure = Failure(
        name=name,
        runs=missing or tuple(run.run_id for run in runs),
        reason=_last_line(error),
        at=owner.since,
        by=str(owner),
        attempts=attempts,
        is_lasting=is_lasting,
        data_fingerprint=data,
        weights_sha256=weights,
    )
    record(store.root, failure)


def _hashes(inputs: Inputs, run: RunSpec) -> tuple[str | None, str | None]:
    """Returns the hashes of a run's data and weights, as far as they are to be had."""
    with suppress(CytoloraError, OSError):
        identity = inputs.known_identity(run)
        return identity.data_fingerprint, identity.weights_sha256
    return None, None


def _last_line(error: Exception) -> str:
    if isinstance(error, CytoloraError):
        return " ".join(str(error).split())
    return " ".join("".join(traceback.format_exception_only(error)).split())


def _is_lasting(error: Exception) -> bool:
    """Whether the same data and weights give it again: not where a disk, a network or memory failed underneath."""
    if not isinstance(error, _LASTING) or error.may_pass:
        return False
    return not any(
        isinstance(one, MemoryError) or (isinstance(one, OSError) and one.errno is not None) for one in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error and what caused it."""
    while error is not None:
        yield error
        error = error.__cause__


def lacks_memory(error: Exception) -> bool:
    """Whether a GPU or this machine had no memory left; torch says so of a CPU in words alone."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return any(
        isinstance(one, MemoryError)
        or (isinstance(one, OSError) and one.errno == errno.ENOMEM)
        or (isinstance(one, RuntimeError) and any(word in str(one) for word in words))
        for one in _chain(error)
    )


def free_memory() -> None:
    """Has Python and torch give up what nobody uses any more."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _read(path: Path) -> Failure | None:
    try:
        found: dict[str, Any] = read_json(path.read_text(encoding="utf-8"))
        if found.pop("version") != _VERSION:
            return None
        failure = Failure(**{**found, "runs": tuple(found["runs"])})
        texts = (*failure.runs, failure.name, failure.reason, failure.at, failure.by)
        is_whole = isinstance(found["runs"], list) and all(isinstance(one, str) for one in texts)
        return failure if is_whole and type(failure.attempts) is int else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
