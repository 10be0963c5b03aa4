"""Division of groups into a training and a test share, and the order in which test cells are drawn.

Both are drawn before the first label, by seed and names alone: a simple random sample of groups, and a random order of
their cells, so that the first M of them are a simple random sample without replacement whatever M is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from cytolora.core.files import sha256_text
from cytolora.core.text import counted
from cytolora.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Which cells are for testing, decided before the first label."""

    is_test: Bool[np.ndarray, " cells"]
    probability: float
    """Of a group to come into the test share: test groups by groups."""
    order: Int64[np.ndarray, " test_cells"]
    """Test cells in the order in which they are drawn."""


def assign_shares(groups: Sequence[str], names: Sequence[str], *, share: float, seed: int) -> Shares:
    """Draws whole groups for the test share, and the order of their cells.

    Args:
        groups: Of every cell; where none is known the cell's own name.
        names: Of every cell, unique: the draw depends on them and not on their order.
        share: Of the groups, in (0, 1); at least one group is drawn and one is left.

    Raises:
        ConfigError: If the share is none, or all cells come from one group.
    """
    if not 0 < share < 1:
        raise ConfigError(f"The test share is a share of the groups in (0, 1), got {share}. For 25 % write 0.25.")
    units = sorted(set(groups), key=lambda group: sha256_text(f"{seed}:share:{group}"))
    if len(units) < 2:
        raise ConfigError(
            f"All {counted(len(names), 'cell')} come from one group, so none of it can be kept for testing. Add cells "
            "of another patient, slide or field, or refuse the groups with --groups-from none."
        )
    number = min(max(round(share * len(units)), 1), len(units) - 1)
    test = set(units[:number])
    is_test = np.array([group in test for group in groups])
    order = sorted(np.flatnonzero(is_test).tolist(), key=lambda cell: sha256_text(f"{seed}:draw:{names[cell]}"))
    return Shares(is_test=is_test, probability=number / len(units), order=np.array(order, dtype=np.int64))
