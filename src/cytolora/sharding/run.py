"""Driver of inference in shards: cuts the images, finds what is stored, and has an engine compute the rest."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from cytolora.core.files import canonical_json, sha256_text, write_bytes
from cytolora.core.progress import Progress
from cytolora.core.text import counted
from cytolora.errors import ConfigError, DataError
from cytolora.experiments import claims
from cytolora.experiments.engines.queue import Queue
from cytolora.experiments.engines.registry import ENGINES, Engine, chosen_engine
from cytolora.experiments.engines.workers import THIS_PROCESS, Workers
from cytolora.sharding.folder import Shard, ShardFolder, read_about
from cytolora.sharding.items import AnyItem
from cytolora.sharding.worker import ShardSetup, Task

SHARD_SIZE = 50_000
"""Images of a shard, where nothing else is said."""
_WHOLE_BATCHES = 64
"""Shards end where a batch of ``predict`` ends: every image is computed in the company that it has in one table."""
_WORKER = "cytolora.sharding.worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharding:
    """How images are divided, and who computes them."""

    shard_size: int | None = None
    """Images, at least 1, rounded up to whole batches of 64; None: those of the folder, else 50,000."""
    engine: str | None = None
    """None: that which the workers ask for."""
    workers: Workers = THIS_PROCESS
    is_job: bool = False
    """Whether the command that submitted this one began the folder and finishes it: what this one lists hours later
    may be other images."""

    def __post_init__(self) -> None:
        if self.shard_size is not None and self.shard_size < 1:
            raise ConfigError(f"--shard-size is at least 1 image, got {self.shard_size}.")

    def chosen(self) -> Engine:
        """Returns the engine.

        Raises:
            ConfigError: If there is none of this name, or it does runs alone.
        """
        engine = chosen_engine(self.engine, self.workers)
        if engine.run_units is None:
            able = [one.name for one in ENGINES if one.run_units is not None]
            raise ConfigError(f"--engine {engine.name} does runs, not shards; expected one of {', '.join(able)}.")
        return engine

    @property
    def rounded(self) -> int | None:
        """Returns the size in whole batches."""
        return None if self.shard_size is None else _rounded(self.shard_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a command asks of all its images."""

    kind: str
    """Name of the command."""
    task: Task
    about: Mapping[str, Any]
    """Model and options that decide the results, plain."""
    model: str
    paths: Sequence[str]
    """As they were named."""
    unit: str = "image"
    """One of the items."""
    fixed_size: int | None = None
    """Items of a shard where that is no choice."""

    def size(self, how: Sharding, folder: ShardFolder) -> int:
        """Returns the items of a shard.

        Raises:
            ConfigError: If the folder holds something else, or the size is no choice.
        """
        if self.fixed_size is not None and how.shard_size is not None:
            raise ConfigError(f"A shard is one {self.unit} here; leave out --shard-size.")
        given = self.fixed_size or how.rounded
        return folder.check(self.kind, self.about, self.paths, given) or _rounded(SHARD_SIZE)


def run_shards(
    job: Job, items: Iterable[AnyItem], out: Path, how: Sharding, *, device: torch.device, progress: Progress
) -> list[dict[str, Any]]:
    """Computes all shards that are not stored yet; returns what each file tells of itself, in order.

    Raises:
        ConfigError: If the folder holds something else, or the engine cannot do it.
        DataError: If a file is missing or damaged when all are done.
        EngineError: If workers cannot be started, or die at one shard again and again.
    """
    engine, folder = how.chosen(), ShardFolder(root=out)
    size = job.size(how, folder)
    if not how.is_job:
        folder.begin(job.kind, job.about, job.paths, size)
    progress.status(f"listing {job.unit}s")
    shards, missing = _cut(job, items, folder, size, progress)
    total = sum(shard.amount for shard in shards)
    num_stored = total - sum(shard.amount for shard in missing)
    progress.begin(f"{job.kind}: {counted(len(shards), 'shard')}", total, f"{job.unit}s")
    if num_stored:
        progress.say(f"{len(shards) - len(missing)} of {counted(len(shards), 'shard')} stored before")
        progress.done(num_stored)
    if missing:
        _compute(engine, Queue(waiting=missing), job, folder, how.workers, device, progress)
    return _told(shards, folder, how, progress)


def _cut(
    job: Job, items: Iterable[AnyItem], folder: ShardFolder, size: int, progress: Progress
) -> tuple[list[Shard], list[Shard]]:
    """Returns all shards, and those to compute, whose images are listed in files: no list of all is in memory."""
    shards, missing, rest = list[Shard](), list[Shard](), iter(items)
    while some := list(islice(rest, size)):
        digest = sha256_text(canonical_json([job.kind, job.about, [item.identity for item in some]]))
        shard = Shard(number=len(shards), amount=len(some), digest=digest, model=job.model, unit=job.unit)
        shards.append(shard)
        if read_about(folder.part(shard)) is not None:
            continue
        if folder.part(shard).exists():
            progress.say(f"{shard.file_name} is damaged: it is computed again")
            folder.part(shard).unlink(missing_ok=True)
        missing.append(shard)
        write_bytes(folder.listing(shard), canonical_json([item.entry for item in some]).encode(), durable=False)
    return shards, missing


def _compute(
    engine: Engine,
    queue: "Queue[Shard]",
    job: Job,
    folder: ShardFolder,
    workers: Workers,
    device: torch.device,
    progress: Progress,
) -> None:
    assert engine.run_units is not None
    root = folder.root.resolve()

    def setup(threads: int, own: torch.device) -> ShardSetup:
        return ShardSetup(task=job.task, root=root, device=own, threads=threads)

    engine.run_units(
        queue,
        setup,
        device=device,
        progress=progress,
        workers=workers,
        safe=f"What was finished is kept in {folder.root}; the same command goes on from there.",
        worker=_WORKER,
    )
    claims.sweep(folder.root)
    with suppress(OSError):  # another command is at work there
        (folder.root / claims.FOLDER).rmdir()


def _told(shards: Sequence[Shard], folder: ShardFolder, how: Sharding, progress: Progress) -> list[dict[str, Any]]:
    found = [read_about(folder.part(shard)) for shard in shards]
    lost = [shard.file_name for shard, told in zip(shards, found, strict=True) if told is None]
    if lost:
        raise DataError(f"{folder.root / lost[0]} is damaged, or was removed meanwhile. Run the same command again.")
    totals = {f"{shards[0].unit}s": sum(shard.amount for shard in shards)}
    num_old = 0 if how.is_job else folder.finish(shards, totals)
    if num_old:
        progress.say(f"{counted(num_old, 'shard')} of what was changed or removed: replaced")
    return [told for told in found if told is not None]


def _rounded(size: int) -> int:
    return -(-size // _WHOLE_BATCHES) * _WHOLE_BATCHES
