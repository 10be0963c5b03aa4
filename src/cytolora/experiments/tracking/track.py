"""Mirrors of a store in trackers: of what is stored, or beside runs that are at work. The store stays the truth."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from cytolora.core.folders import Version, folder_names, folder_version
from cytolora.core.progress import Progress
from cytolora.errors import ReplacedError, StoreError
from cytolora.experiments.store import Store, is_run_id
from cytolora.experiments.tracking.record import record_of
from cytolora.experiments.tracking.registry import Mirror, Target

_PATIENCE_SECONDS = 5.0
"""How long a tracker may take to answer where nothing else is to do."""
_BESIDE_SECONDS = 1.0
"""How long one that does not answer may keep a command that has other work."""
_LOOK_SECONDS = 5.0
"""Between two looks at the store."""
_TICK_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """The runs of a store in one tracker: what became of them."""

    num_mirrored: int
    """Added, or brought up to date."""
    num_equal: int
    """There already."""


def track(
    runs_dir: Path,
    target: Target,
    *,
    on_run: Callable[[], None] = lambda: None,
    on_start: Callable[[int], None] = lambda _: None,
) -> Tracked:
    """Mirrors all finished runs of a store to a tracker; what is there already is not added again.

    Args:
        on_run: Called after each run.
        on_start: Called once before, with the number of runs.

    Raises:
        StoreError: If there are no finished runs, or one is damaged.
        ConfigError: If the tracker does not answer or does not take a run; those before it are mirrored.
    """
    runs = Store(runs_dir).runs_at_once() if runs_dir.is_dir() else []
    if not runs:
        raise StoreError(f"No finished runs in {runs_dir}. Point at the folder given to `cytolora run --out`.")
    target.check(_PATIENCE_SECONDS)
    mirror = target.open()
    on_start(len(runs))
    num_mirrored = 0
    for run in runs:
        num_mirrored += mirror(record_of(run))
        on_run()
    return Tracked(num_mirrored=num_mirrored, num_equal=len(runs) - num_mirrored)


@contextmanager
def mirrored(runs_dir: Path, targets: Sequence[Target], progress: Progress) -> Iterator[None]:
    """Mirrors runs to trackers while the block stores them, and the rest of the store when it ends.

    The block is never stopped: a tracker that fails is a line of ``progress.finding``, and one that does not answer
    keeps the end of the block by a second at most.
    """
    workers = [_Worker(Store(runs_dir), target) for target in targets]
    for worker in workers:
        worker.start()
    try:
        yield
    except KeyboardInterrupt:
        raise  # whoever stops a command does not wait for a tracker; the same command goes on, and mirrors the rest
    except BaseException:
        _finish(workers, runs_dir, progress)
        raise
    _finish(workers, runs_dir, progress)


def _finish(workers: "Sequence[_Worker]", runs_dir: Path, progress: Progress) -> None:
    """Lets all mirror what is left at the same time, and tells what failed."""
    for worker in workers:
        worker.ended.set()
    for worker in workers:
        if problem := worker.finish():
            progress.finding(f"! {problem} Later: cytolora track {runs_dir} --to {worker.target}")


class _Worker(Thread):
    """Thread that mirrors a store to one tracker; where it hangs it is left to itself and ends with the process."""

    def __init__(self, store: Store, target: Target) -> None:
        super().__init__(name=f"mirror to {target.tracker.name}", daemon=True)
        self.ended, self.target = Event(), target
        self._store, self._problem = store, ""
        self._asked_at: float | None = None
        """Since when the tracker has not answered; None while it is not asked."""
        self._done: dict[str, Version | None] = {}

    def run(self) -> None:
        """Looks at the store until it is told that the work has ended."""
        try:
            self._asking(lambda: self.target.check(_BESIDE_SECONDS / 2))
            mirror = self.target.open()
            is_last = False
            while not is_last:
                is_last = self.ended.wait(_LOOK_SECONDS)
                self._mirror_new(mirror, untested=is_last)
        except Exception as error:  # whatever it is, the runs go on
            self._problem = " ".join(str(error).split()) or type(error).__name__

    def finish(self) -> str:
        """Waits for what is left, no longer than a second for one answer; returns the problem, or nothing."""
        while self.is_alive():
            self.join(timeout=_TICK_SECONDS)
            since = self._asked_at
            if since is not None and time.monotonic() - since > _BESIDE_SECONDS - _TICK_SECONDS:
                return f"{self.target} has not answered for {time.monotonic() - since:.1f} s: it was left."
        return self._problem

    def _mirror_new(self, mirror: Mirror, *, untested: bool) -> None:
        """Mirrors runs that are new or were replaced.

        Args:
            untested: Those without test scores too: while runs are at work, they may get some.
        """
        for name in filter(is_run_id, folder_names(self._store.root)):
            if name in self._done and folder_version(self._store.root / name) == self._done[name]:
                continue
            try:
                run = self._store.find(name)
            except ReplacedError:
                continue  # again at the next look
            if run is None or (run.metrics["test"] is None and not untested):
                continue
            record = record_of(run)
            self._asking(lambda record=record: mirror(record))
            self._done[name] = run.version

    def _asking(self, ask: Callable[[], object]) -> None:
        self._asked_at = time.monotonic()
        try:
            ask()
        finally:
            self._asked_at = None
