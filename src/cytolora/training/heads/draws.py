"""Training images as closed-form heads see them, kept for the other heads that are fitted to the same draw."""

from functools import cached_property
from threading import Lock

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from cytolora.training.heads.affine import scaled
from cytolora.training.heads.folds import MAX_FOLDS, Fold, group_folds
from cytolora.training.heads.labelled import Labelled
from cytolora.training.heads.moments import Divided, class_sums

_MAX_BYTES = 320 * 2**20
"""Of all draws that are kept; three of 4,000 x 768 features take 232 MB."""
_SAMPLED = 256
"""Rows looked at where torch says that features are those of before."""
_MAX_COSINES = 2**17
"""Of a draw with other images, to be kept for its next head; 0.5 MB."""


class Draw:
    """Features of length 1, classes counted among those that occur, and what heads compute of both.

    Each is computed when it is first asked for, and is not to be written to.
    """

    def __init__(self, known: Labelled) -> None:
        self._known, self._row_sums, self._version = known, known.features.sum(dim=1), _version(known.features)
        self.rows = _scaled(known.features)
        found = np.unique(known.labels.numpy(), return_inverse=True, return_counts=True)
        self.present: Int64[np.ndarray, " present"] = found[0]
        """Classes that occur, ascending."""
        self.labels: Int64[np.ndarray, " images"] = found[1]
        """Of each image, the place of its class in ``present``."""
        self.counts: Int64[np.ndarray, " present"] = found[2]
        self._units = known.units
        self._folds: dict[int, list[Fold]] = {}
        self._divided: dict[int, Divided] = {}
        self._cosines: tuple[Tensor, Tensor] | None = None

    @cached_property
    def sums(self) -> Float64[np.ndarray, "present features"]:
        """Over the images of each class."""
        return class_sums(self.rows, self.labels, len(self.present))

    @cached_property
    def means(self) -> Float64[np.ndarray, "present features"]:
        """Of the images of each class."""
        return self.sums / self.counts[:, None]

    def folds(self, seed: int) -> list[Fold]:
        """Returns a division for cross-validation that tears no group; none where a class has one group only."""
        if seed not in self._folds:
            self._folds[seed] = group_folds(self.labels, self._units, seed=seed) if len(self.present) > 1 else []
        return self._folds[seed]

    def cosines(self, queries: Float32[Tensor, "queries features"]) -> Float32[Tensor, "queries images"]:
        """Returns the cosines of other images with these; those of few are kept for the next head."""
        kept = self._cosines  # another thread may put others there
        if kept is not None and torch.equal(kept[0], queries):
            return kept[1]
        found = scaled(queries) @ torch.from_numpy(self.rows).T
        if found.numel() <= _MAX_COSINES:
            self._cosines = queries.clone(), found
        return found

    def divided(self, seed: int) -> Divided:
        """Returns the images by the fold that leaves them out, and the sums over them."""
        if seed not in self._divided:
            self._divided[seed] = Divided.of(self.rows, self.labels, self.folds(seed))
        return self._divided[seed]

    @property
    def num_bytes(self) -> int:
        """What it takes at most, once all of it was asked for with one seed."""
        num_images, dim = self.rows.shape
        squares = (MAX_FOLDS + 1) * dim**2 * 8 if num_images >= dim else 0
        return self._known.features.nbytes + self.rows.nbytes + num_images * dim * 8 + squares

    def is_of(self, known: Labelled) -> bool:
        """Whether these are the images, by content; features that were written to since are others."""
        mine, other = self._known.features, known.features
        if mine.shape != other.shape or not torch.equal(self._known.labels, known.labels):
            return False
        if self._units != known.units or not torch.equal(mine[:1], other[:1]):
            return False
        if mine is other and self._version is not None and self._version == _version(other):
            step = max(1, len(mine) // _SAMPLED)  # torch counts what it writes; NumPy, in the same memory, does not
            return torch.equal(self._row_sums[::step], other[::step].sum(dim=1))
        return torch.equal(mine, other) and torch.equal(self._row_sums, other.sum(dim=1))  # else one memory, written to


def _version(features: Tensor) -> int | None:
    """Returns how often torch has written to them; of tensors of inference mode it does not say."""
    return None if features.is_inference() else features._version


def _scaled(features: Float32[Tensor, "images features"]) -> Float32[np.ndarray, "images features"]:
    """Scales as ``affine.scaled`` does, bit for bit, into memory of NumPy's, which is quicker to get than torch's."""
    lengths = torch.linalg.vector_norm(features, dim=1, keepdim=True).clamp_min(1e-12)
    return np.divide(features.numpy(), lengths.numpy())


_lock = Lock()
_kept: list[Draw] = []


def draw_of(known: Labelled) -> Draw:
    """Returns the draw of these images: the one that an earlier head was fitted to, where it is still kept."""
    with _lock:
        found = next((one for one in _kept if one.is_of(known)), None)
        if found is not None:
            _kept.remove(found)
            _kept.append(found)
            return found
    draw = Draw(known)
    with _lock:
        _kept.append(draw)
        while sum(one.num_bytes for one in _kept) > _MAX_BYTES:
            _kept.pop(0)
    return draw


def forget_draws() -> None:
    """Forgets the draws that are kept, so that a measurement makes them."""
    with _lock:
        _kept.clear()
