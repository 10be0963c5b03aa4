"""Worker of shards: opens a model once and computes one shard after another; the engines make it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from platform import node
from typing import Any, Protocol

import torch

from cytolora.core.provenance import software
from cytolora.core.strict_json import read_json
from cytolora.errors import StoreError
from cytolora.experiments.claims import claimed
from cytolora.experiments.engines.versions import check_versions
from cytolora.models.kernels.cpu import keep_freed_memory
from cytolora.sharding.folder import AlreadyStoredError, Shard, ShardFolder

_LOG = logging.getLogger("cytolora")

WriteShard = Callable[[Sequence[Sequence[Any]], Path, Callable[[int], None]], None]
"""Computes what the entries of a shard name, writes its file, and tells how much is done."""


class Task(Protocol):
    """What is computed of images; plain data, which any worker can be sent."""

    def open(self, device: torch.device, threads: int) -> WriteShard:
        """Opens the model.

        Raises:
            CytoloraError: If it is not here, or another one than the driver's.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSetup:
    """Settings that a driver gives each of its workers at the start."""

    task: Task
    root: Path
    """The folder of shards, absolute: the same on every machine."""
    device: torch.device
    threads: int
    versions: Mapping[str, str] = field(default_factory=lambda: software()["versions"])
    """Of the driver's packages."""


@dataclass(kw_only=True)
class Worker:
    """One process; an actor of Ray, a child process, or the driver itself."""

    setup: ShardSetup
    on_images: Callable[[int], None] = lambda images: None
    """Told how much is done, as it is done."""
    _write: WriteShard | None = None

    def start(self) -> None:
        """Makes ready.

        Raises:
            ConfigError: If this machine has other versions than the driver.
            StoreError: If the folder is not on this machine.
        """
        torch.set_num_threads(self.setup.threads)
        keep_freed_memory()
        check_versions(self.setup.versions)
        if not self.setup.root.is_dir():
            raise StoreError(f"Worker {node()} does not see {self.setup.root}. --out must be a folder that all share.")
        self._write = self.setup.task.open(self.setup.device, self.setup.threads)

    def work(self, shard: Shard) -> int:
        """Computes one shard, unless it is stored by now; returns its amount.

        Raises:
            ClaimedError: If a process of another command is at work at it.
        """
        assert self._write is not None
        folder = ShardFolder(root=self.setup.root)
        with claimed(folder.root, shard.claim, shard.names):
            if folder.part(shard).exists():
                self.on_images(shard.amount)
                return shard.amount
            entries = read_json(folder.listing(shard).read_text(encoding="ascii"))
            try:
                self._write(entries, folder.part(shard), self.on_images)
            except AlreadyStoredError:  # this process was suspended for longer than its claim lives
                _LOG.warning("%s was stored by another process meanwhile; what this one computed is dropped.", shard)
        return shard.amount
