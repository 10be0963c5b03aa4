"""Processes that train one run together: each computes its images of every pass, and what they found is summed.

They meet through a file in a private folder and send over the loopback address alone, with gloo, whatever the device:
what is sent are the gradients of adapter and head, a few MB. A process that ends closes its connections, which the
others see at once; one that hangs is given ``TIMEOUT_SECONDS``.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cytolora.config.run import RunSpec
from cytolora.errors import ConfigError, EngineError

TIMEOUT_SECONDS = 600.0
"""Longest time that one process waits for another between two steps."""
_FILE = "ranks"


class RankLostError(EngineError):
    """A process of the group that ended, or no longer answers."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """This process and the others; by default it is alone."""

    rank: int = 0
    size: int = 1
    links: Any = None
    """torch's process group."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def share(self, count: int) -> tuple[int, int]:
        """Returns the first of ``count`` items that is this process's, and the first that no longer is."""
        return split_evenly(count, self.size)[self.rank]

    def sum(self, tensor: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Returns the sum over all processes, the same on each.

        Raises:
            RankLostError: If one has ended or does not answer.
        """
        if self.size == 1:
            return tensor
        total = tensor.detach().cpu().contiguous().clone()
        try:
            self.links.allreduce([total]).wait()
        except RuntimeError as error:
            raise RankLostError("A process of this run was lost.") from error
        return total.to(tensor.device)

    def sum_gradients(self, parameters: Sequence[nn.Parameter], loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Puts the sum over all processes in the place of each gradient, and returns that of the loss, in one message.

        A parameter without gradient in all processes keeps none: the optimiser then leaves it as it is.
        """
        if self.size == 1:
            return loss
        has = torch.tensor([parameter.grad is not None for parameter in parameters], device=loss.device)
        grads = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
        flat = torch.cat([loss.reshape(1), has.float(), *(grad.reshape(-1).float() for grad in grads)])
        summed = self.sum(flat)
        start = 1 + len(grads)
        for index, (parameter, grad) in enumerate(zip(parameters, grads, strict=True)):
            if summed[1 + index] > 0:
                parameter.grad = summed[start : start + grad.numel()].view_as(grad).to(grad.dtype)
            start += grad.numel()
        return summed[0]

    def check_agrees(self, num_steps: int) -> None:
        """Raises a RankLostError unless all processes go on from the same step."""
        steps = torch.zeros(self.size, dtype=torch.float64)
        steps[self.rank] = num_steps
        if len(set(self.sum(steps).tolist())) > 1:
            raise RankLostError("The processes of this run read different training states.")


ALONE = Group()

Connect = Callable[[], Group]
"""Meets the other processes: called when this one is about to train."""


class Team(Protocol):
    """Provides the other processes of a run."""

    def training(self, run: RunSpec, at_most: int | None) -> AbstractContextManager[Connect]:
        """Has them train a run too, with passes of ``at_most`` images; they are idle, or ended, after the block."""
        ...


class NoTeam:
    """Each run in one process."""

    def training(self, run: RunSpec, at_most: int | None) -> AbstractContextManager[Connect]:
        """Nobody else."""
        return nullcontext(lambda: ALONE)


def split_evenly(count: int, parts: int) -> list[tuple[int, int]]:
    """Returns the bounds of parts of about equal size, the larger ones first, as ``torch.tensor_split``."""
    each, rest = divmod(count, parts)
    bounds = [index * each + min(index, rest) for index in range(parts + 1)]
    return list(pairwise(bounds))


def join(folder: Path, rank: int, size: int, *, watch: Callable[[], None] = lambda: None) -> Group:
    """Meets the other processes in a folder that only this user may read, and returns the group.

    When it returns, no process needs the folder any more.

    Args:
        watch: Called while others are waited for; raises if one of them cannot come.

    Raises:
        RankLostError: If they do not come within ``TIMEOUT_SECONDS``.
        ConfigError: If this torch has no gloo.
    """
    try:
        from torch.distributed import FileStore, ProcessGroupGloo  # pyright: ignore[reportPrivateImportUsage]
    except ImportError as error:
        raise ConfigError("This build of torch has no gloo: leave out --gpus-per-run.") from error
    wait = timedelta(seconds=TIMEOUT_SECONDS)
    store = FileStore(str(folder / _FILE), size)
    store.set_timeout(wait)
    _await_all(store, rank, size, watch)
    options = ProcessGroupGloo._Options()  # pyright: ignore[reportAttributeAccessIssue]
    options._timeout = wait
    options._devices = [ProcessGroupGloo.create_device(hostname="127.0.0.1")]
    try:
        group = Group(rank=rank, size=size, links=ProcessGroupGloo(store, rank, size, options))
    except RuntimeError as error:
        raise RankLostError("The processes of this run could not connect.") from error
    group.sum(torch.zeros(1))  # all have connected: the folder is read no more
    return group


def _await_all(store: Any, rank: int, size: int, watch: Callable[[], None]) -> None:
    store.set(f"here{rank}", "1")
    names, deadline = [f"here{other}" for other in range(size)], time.monotonic() + TIMEOUT_SECONDS
    while not store.check(names):
        watch()
        if time.monotonic() > deadline:
            raise RankLostError(f"A process of this run was not ready within {TIMEOUT_SECONDS:.0f} s.")
        time.sleep(0.02)
