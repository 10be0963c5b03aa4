"""Passes of a training batch through the encoder: which images are computed together, and by which process."""

from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from cytolora.errors import ConfigError
from cytolora.models.kernels.pass_rows import Rows
from cytolora.training.group import Group, split_evenly


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Images that this process takes through the encoder together."""

    rows: Rows
    """Of their pass."""
    first: int
    """Index in the batch of the pass's first image."""
    is_counted: bool = True
    """False of an image that another process trains on: this one has none, and only draws what the others draw."""

    @property
    def indices(self) -> range:
        """Their places in the batch."""
        return range(self.first + self.rows.start, self.first + self.rows.stop)


@dataclass(kw_only=True)
class PassSize:
    """Most images that one process takes through the encoder together, and what became of it; see ``halve``."""

    at_most: int | None = None
    """None: as many as are fastest."""
    used: int | None = None
    """Images of the largest pass of a full batch in this process; None before training begins."""
    is_fixed: bool = False
    """Whether a norm looks at all images of a batch, which then may not be divided."""

    def begin(self, num_images: int, at_once: int | None, group: Group, *, is_fixed: bool) -> None:
        """Notes how full batches of a training are divided.

        Raises:
            ConfigError: If they are to be, and may not.
        """
        if is_fixed and (self.at_most is not None or group.size > 1):
            raise ConfigError(
                "This encoder has batch norms, which look at all images of a batch: leave out --gpus-per-run and "
                "--micro-batch."
            )
        self.is_fixed = is_fixed
        parts = [part for own in passes(num_images, at_once, group, self.at_most) for part in own]
        self.used = max(len(part.indices) for part in parts)

    def halve(self) -> bool:
        """Halves it where memory was short; returns whether there was anything to halve."""
        if self.used is None or self.used < 2 or self.is_fixed:
            return False
        self.at_most, self.used = self.used // 2, None
        return True


def passes(num_images: int, at_once: int | None, group: Group, at_most: int | None) -> list[list[Part]]:
    """Divides a batch: into passes, each among the processes, and this one's rows into parts of ``at_most`` images.

    A pass is what dropout is drawn for, so it depends on neither processes nor ``at_most``.

    Args:
        at_once: Images in one pass at most, in passes of about equal size; None: all in one.
    """
    found: list[list[Part]] = []
    for first, end in split_evenly(num_images, ceil(num_images / (at_once or num_images))):
        total = end - first
        start, stop = group.share(total)
        if start == stop:
            found.append([Part(rows=Rows(start=0, stop=1, total=total), first=first, is_counted=False)])
            continue
        count = ceil((stop - start) / (at_most or total))
        bounds = split_evenly(stop - start, count)
        found.append([Part(rows=Rows(start=start + a, stop=start + b, total=total), first=first) for a, b in bounds])
    return found


def generators(device: torch.device) -> list[Tensor]:
    """Returns the states of torch's generators that dropout draws from."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def reset_generators(states: list[Tensor], device: torch.device) -> None:
    """Puts states back that ``generators`` returned."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
