"""Out-of-distribution detection by k-NN distance to the features of the training images.

Distance to the k-th nearest neighbour among features of length one (Sun et al. 2022, arXiv:2204.06507): it needs no
model of the features' distribution, which a few labelled cells could not give.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from cytolora.classifier.decision.margins import beyond
from cytolora.core.files import sha256_text

NEIGHBOURS = 5
"""k: the distance is that to the k-th nearest, so that one odd training image, or a duplicate, decides nothing."""

QUANTILE = 0.99
"""Share of held-out images of the same source that are not to be flagged."""

MAX_BANK = 4096
"""Training images kept for comparison: more cost memory and time, and change the distance little."""

Features = NDArray[np.float32]
"""Images x width."""


def bank_rows(keys: Sequence[str]) -> list[int]:
    """Chooses which training images are kept, in their order: all, or ``MAX_BANK`` by the hash of their key."""
    chosen = sorted(range(len(keys)), key=lambda row: (sha256_text(keys[row]), row))[:MAX_BANK]
    return sorted(chosen)


def unit(features: Features) -> Features:
    """Returns features of length one."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)


def distances(features: Features, bank: Features, neighbours: int) -> NDArray[np.float32]:
    """Returns the distance of each image to its ``neighbours``-th nearest of the bank, in [0, 2].

    Args:
        bank: As ``unit`` gives it.
    """
    near = min(neighbours, len(bank)) - 1
    cosines = np.partition(unit(features) @ bank.T, -1 - near, axis=1)[:, -1 - near]
    return np.sqrt(np.maximum(0, 2 - 2 * cosines)).astype(np.float32)


def threshold_of(held_out: NDArray[np.float32], quantile: float = QUANTILE) -> float:
    """Returns the distance that the share ``quantile`` of held-out images stays below: just beyond one of them."""
    return beyond(float(np.quantile(held_out, quantile, method="higher")))


def to_bytes(bank: Features) -> bytes:
    """Serialises a bank."""
    return save({"features": np.ascontiguousarray(bank)})


def from_bytes(content: bytes) -> Features:
    """Reads what ``to_bytes`` wrote."""
    return load(content)["features"]
