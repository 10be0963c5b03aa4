"""Dropout of one pass that is computed in parts: masks are drawn for all its images, and each part takes its rows.

So the masks, and the state of the generator afterwards, are those of the undivided pass.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cytolora.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Images ``start`` to ``stop`` (excluded) of a pass of ``total`` images."""

    start: int
    stop: int
    total: int

    @property
    def are_all(self) -> bool:
        """Whether they are the whole pass."""
        return self.stop - self.start == self.total

    def shape_of_all(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the shape for the whole pass of a tensor that has this one for the rows.

        Raises:
            ConfigError: If its first dimension is not that of images, or of parts of images.
        """
        each, rest = divmod(shape[0], self.stop - self.start)
        if rest:
            raise ConfigError(
                f"Dropout on a tensor of {shape[0]} rows cannot be divided among {self.stop - self.start} images. "
                "Leave out --gpus-per-run and --micro-batch for this encoder and method."
            )
        return each * self.total, *shape[1:]

    def of(self, whole: Tensor) -> Tensor:
        """Returns the rows of a tensor of the whole pass."""
        each = len(whole) // self.total
        return whole[self.start * each : self.stop * each]


_ROWS: ContextVar[Rows | None] = ContextVar("cytolora_pass_rows", default=None)


def rows_now() -> Rows | None:
    """Returns the rows that are computed now; None: whole passes."""
    return _ROWS.get()


@contextmanager
def computing(rows: Rows) -> Iterator[None]:
    """Has dropout drawn for the whole pass inside the block; nothing changes where the rows are all of it."""
    if rows.are_all:
        yield
        return
    with ExitStack() as stack:
        token = _ROWS.set(rows)
        stack.callback(_ROWS.reset, token)
        stack.enter_context(_WholeDraws())
        yield


@contextmanager
def beside_images() -> Iterator[None]:
    """Has dropout drawn as it is inside the block: for what has no images in its rows, such as class texts."""
    token = _ROWS.set(None)
    try:
        yield
    finally:
        _ROWS.reset(token)


class _WholeDraws(TorchFunctionMode):
    """Takes the place of torch's dropout, whoever calls it."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        called = _dropout if func is F.dropout else func
        return called(*args, **(kwargs or {}))


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    rows = rows_now()
    if rows is None or not training or p == 0:
        return F.dropout(input, p, training, inplace)
    with torch.no_grad():
        mask = rows.of(F.dropout(input.new_ones(rows.shape_of_all(input.shape)), p))
    return input.mul_(mask) if inplace else input * mask
