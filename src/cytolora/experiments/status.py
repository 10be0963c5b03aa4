"""Status of a store: runs that are done, running, waiting and failed; throughput and time left. Loads no torch."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from cytolora.core.folders import folder_names
from cytolora.errors import StoreError
from cytolora.experiments.claims import FOLDER as CLAIMS
from cytolora.experiments.claims import TEST, living, now_seconds
from cytolora.experiments.failures import Failure, failures
from cytolora.experiments.planned import Planned, read_planned
from cytolora.experiments.store import is_run_id

_WINDOW_SECONDS = 3600.0
"""Time over which throughput is measured, or since the command began: runs of one grid differ."""
_Z = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What one worker is at."""

    name: str
    """Of its claim: a run, frozen features with their heads, or a setting's test set."""
    runs: int
    """That are not stored yet."""
    user: str
    host: str
    pid: int | None
    since: str
    """By the worker's own clock."""
    heartbeat_seconds: float
    """Since the worker last touched its claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How far the plans of a store are."""

    planned: int
    """Runs of all plans, and stored ones of none."""
    done: int
    running: tuple[Running, ...]
    running_runs: int
    waiting: int
    failed: tuple[Failure, ...]
    failed_runs: int
    runs_per_hour: float | None
    """None where nothing is at work, or nothing was finished yet."""
    seconds_left: float | None
    seconds_left_range: tuple[float, float] | None
    """95 % interval, if runs were alike and ended at random: those of a grid are not, so take it as rough."""
    has_file_time: bool
    """Whether times are the file system's; False where this user may not write there, and they are this machine's."""

    @property
    def left(self) -> int:
        """Runs that are neither done nor failed."""
        return self.running_runs + self.waiting

    def plain(self) -> dict[str, Any]:
        """Returns it as plain data."""
        return asdict(self)


def status_of(root: Path) -> Status:
    """Looks at a store; nothing but a moment's file for the file system's time is written.

    Raises:
        StoreError: If there is no such folder, or its plans or claims cannot be read.
    """
    if not root.is_dir():
        raise StoreError(f"No folder {root}. Point at the folder given to `cytolora run --out`.")
    plans, claims = read_planned(root), living(root)
    done = {name for name in folder_names(root) if is_run_id(name)}
    planned = done.union(*(plan.runs for plan in plans))
    at_work = set().union(*(claim.runs for claim, _ in claims)) - done
    found = [one for one in failures(root) if set(one.runs) - done - at_work or one.name.startswith(TEST)]
    failed = set().union(*(one.runs for one in found)) - done - at_work
    waiting = planned - done - at_work - failed
    running = tuple(
        Running(
            name=claim.name,
            runs=len(set(claim.runs) - done),
            user=claim.owner.user if claim.owner else "",
            host=claim.owner.host if claim.owner else "",
            pid=claim.owner.pid if claim.owner else None,
            since=claim.owner.since if claim.owner else "",
            heartbeat_seconds=age,
        )
        for claim, age in claims
    )
    left = len(at_work) + len(waiting)
    now, has_file_time = now_seconds(root) if (root / CLAIMS).is_dir() else (0.0, True)
    finished, seconds = _recent(root, done, plans, now) if claims else (0, 0.0)
    interval = _interval(finished, seconds, left) if finished and seconds else None
    return Status(
        planned=len(planned | at_work | failed),
        done=len(done),
        running=running,
        running_runs=len(at_work),
        waiting=len(waiting),
        failed=tuple(found),
        failed_runs=len(failed),
        runs_per_hour=3600 * finished / seconds if interval else None,
        seconds_left=left * seconds / finished if interval else None,
        seconds_left_range=interval,
        has_file_time=has_file_time,
    )


def _recent(root: Path, done: set[str], plans: Sequence[Planned], now: float) -> tuple[int, float]:
    """Returns how many runs were finished lately, and in how many seconds."""
    began = min((plan.began for plan in plans if plan.runs - done), default=now)
    began = max(began, now - _WINDOW_SECONDS)
    num_finished = 0
    for name in done:
        try:
            num_finished += (root / name).stat().st_mtime >= began
        except OSError:  # being replaced
            continue
    return num_finished, now - began


def _interval(finished: int, seconds: float, left: int) -> tuple[float, float]:
    """Seconds that ``left`` runs take by Byar's approximation of the Poisson interval (Breslow and Day 1987, p. 69)."""
    low = finished * max(0.0, 1 - 1 / (9 * finished) - _Z / (3 * sqrt(finished))) ** 3
    more = finished + 1
    high = more * (1 - 1 / (9 * more) + _Z / (3 * sqrt(more))) ** 3
    return left * seconds / high, left * seconds / max(low, 0.05)
