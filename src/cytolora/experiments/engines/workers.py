"""Workers of an engine: their cluster, number and start; loads neither torch nor Ray."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cytolora.core.arguments import check_count

if TYPE_CHECKING:
    import torch

SetUp = Callable[[int, "torch.device"], Any]
"""Returns what every worker is told at its start, by its number of threads and its device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Processes that an engine distributes runs over."""

    address: str | None = None
    """HOST:PORT of a cluster that runs already; None starts one on this machine."""
    count: int | None = None
    """Processes that run at a time, at least 1; None: one a GPU, or as many as the CPUs hold at the threads set."""

    batch: tuple[str, ...] = ()
    """Options of a batch system's jobs, as its own command takes them: ``--partition=gpu``."""
    command: tuple[str, ...] = field(default=(), compare=False)
    """Program and arguments that work on the same plan in one process, for engines whose workers share no driver."""

    def __post_init__(self) -> None:
        if self.count is not None:
            check_count(self.count, "--workers")


THIS_PROCESS = Workers()
"""No workers named: all that the engine inline takes."""
