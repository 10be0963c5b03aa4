"""Seeding of torch's global random state for the length of a block."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds torch's global random state for a block, and leaves it as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
