"""Processes that train an adapter run together: the one that asks is the first, and has the others follow it.

The others are child processes like the workers of the engine ``processes``, with the same pipes: they end with the
process that started them. They write nothing; they are kept from run to run, and replaced together when one is lost.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import torch

from cytolora.config.run import RunSpec
from cytolora.core.progress import Progress
from cytolora.core.text import counted
from cytolora.errors import ConfigError
from cytolora.experiments.batch_division import WHOLE
from cytolora.experiments.engines.pool import WorkerDiedError
from cytolora.experiments.engines.processes import ProcessCrew, gpus_of, pickled
from cytolora.training.group import TIMEOUT_SECONDS, Connect, Group, RankLostError, join

if TYPE_CHECKING:
    from cytolora.experiments.engines.worker import WorkerSetup

_REASON_SECONDS = 15.0
"""For the others to say why they ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Follow:
    """What one of the others is told: to train a run as the first process does."""

    run: RunSpec
    folder: Path
    """Where the processes meet."""
    rank: int
    size: int
    at_most: int | None
    """Images in one pass."""


def ranks_of(setup: "WorkerSetup", progress: Progress) -> "Ranks":
    """Returns the other processes of each run of this one, which are started when one is trained.

    Raises:
        ConfigError: If the machine has too few GPUs, or a device that cannot be shared.
    """
    size, device = setup.division.processes, setup.device
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"--gpus-per-run is for CUDA and the CPU, not {device.type}: name --device cpu.")
    gpus, own = gpus_of(torch.device(device.type)), device.index or 0
    if device.type == "cuda" and len(gpus) < size:
        raise ConfigError(
            f"--gpus-per-run {size}: {counted(len(gpus), 'GPU')} to be had here. Choose at most {max(1, len(gpus))}."
        )
    threads = setup.threads if gpus else max(1, setup.threads // size)
    followers = replace(setup, device=torch.device(device.type), threads=threads, division=WHOLE)
    return Ranks(
        setup=pickled(followers), size=size, gpus=[*gpus[:own], *gpus[own + 1 :]], threads=threads, progress=progress
    )


@dataclass(kw_only=True)
class Ranks:
    """The other processes of one process's runs."""

    setup: bytes
    size: int
    gpus: Sequence[str]
    """One for each of the others."""
    threads: int
    """Of every process, the first one too."""
    progress: Progress
    crew: ProcessCrew | None = None
    others: list[Any] = field(default_factory=list)
    _answered: list[Any] = field(default_factory=list)

    @contextmanager
    def training(self, run: RunSpec, at_most: int | None) -> Iterator[Connect]:
        """Has the others train a run too; this process computes with its share of the threads meanwhile.

        Raises:
            RankLostError: If one of them ended, or does not answer.
            Exception: Whatever one of them met; a fault of the program as RuntimeError with its stack trace.
        """
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with tempfile.TemporaryDirectory(prefix="cytolora-", ignore_cleanup_errors=True) as folder:
                crew = self._ready()
                self._answered = []
                for rank, other in enumerate(self.others, 1):
                    what = Follow(run=run, folder=Path(folder), rank=rank, size=self.size, at_most=at_most)
                    crew.work(other, what)
                yield partial(self._join, Path(folder))
                self._await(TIMEOUT_SECONDS)
        except RankLostError as error:
            self._explain(error)
            raise
        except BaseException:
            self.end()
            raise
        finally:
            torch.set_num_threads(before)

    def end(self) -> None:
        """Ends the others."""
        crew, self.crew, self.others = self.crew, None, []
        if crew is not None:
            crew.end()

    def _ready(self) -> ProcessCrew:
        """Returns the others, started if there are none."""
        if self.crew is not None and not any(self.crew.is_gone(other) for other in self.others):
            return self.crew
        self.end()
        where = "a GPU each" if self.gpus else f"{counted(self.threads, 'thread')} each on the CPU"
        self.progress.say(f"{self.size} processes for each adapter run, {where}")
        self.crew = ProcessCrew(setup=self.setup, gpus=self.gpus)
        self.others = [self.crew.new() for _ in range(self.size - 1)]
        self._answered = []
        for other in self.others:
            self.crew.start(other)
        self._await(TIMEOUT_SECONDS)
        return self.crew

    def _join(self, folder: Path) -> Group:
        group = join(folder, 0, self.size, watch=self._watch)
        shutil.rmtree(folder, ignore_errors=True)  # now: whoever kills this process later leaves nothing behind
        return group

    def _watch(self) -> None:
        """Raises a RankLostError if one of the others has answered before all have met: it cannot go on."""
        self._listen(0.02)
        if self._answered:
            raise RankLostError("A process of this run ended before the training began.")

    def _listen(self, seconds: float) -> None:
        assert self.crew is not None
        waiting = [other for other in self.others if other not in self._answered]
        self._answered += self.crew.wait(waiting, seconds)

    def _await(self, seconds: float) -> None:
        """Waits until all others have done what they were told."""
        assert self.crew is not None
        deadline = monotonic() + seconds
        while len(self._answered) < len(self.others):
            self._listen(0.5)
            for other in self._answered:
                self._result(other)
            if monotonic() > deadline:
                raise RankLostError(f"A process of this run did not answer within {seconds:.0f} s.")

    def _result(self, other: Any) -> None:
        assert self.crew is not None
        try:
            self.crew.result(other)
        except WorkerDiedError as error:
            raise RankLostError(f"A process of this run was lost: {error}.") from error

    def _explain(self, lost: RankLostError) -> None:
        """Ends the others, and raises what one of them met, if it says so, in place of what followed from that."""
        deadline, reasons = monotonic() + _REASON_SECONDS, list[Exception]()
        try:
            while self.crew is not None and len(self._answered) < len(self.others) and monotonic() < deadline:
                self._listen(0.2)
            for other in self._answered:
                try:
                    self._result(other)
                except Exception as error:
                    reasons.append(error)
        finally:
            self.end()
        faults = [error for error in reasons if not isinstance(error, RankLostError)]
        died = [error for error in reasons if error.__cause__ is not None and isinstance(error, RankLostError)]
        for error in (*faults, *died):
            raise error from lost
