"""Features of cells with class, group and metadata: the input of every measure of the leakage report."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from cytolora.core.files import sha256_text
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.quality.findings import Duplicate
from cytolora.errors import DataError

MAX_CELLS = 6000
"""Whole groups are drawn until there are so many: more change no measure by what a reader would see, and cost time."""
MIN_GROUPS = 2
"""Of a class, to be divided by group."""


@dataclass(frozen=True, kw_only=True)
class SourcedCells:
    """Cells with known class and group, in the order of their paths."""

    name: str
    """Of the dataset."""
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    """Each with a group."""
    features: Float32[Tensor, "cells features"]
    twins: tuple[tuple[int, int], ...] = ()
    """Pairs of equal or near-equal images, by their place in ``samples``."""
    num_without_group: int = 0
    """Images left out, as nobody knows their patient, slide or field."""
    num_not_drawn: int = 0
    """Images of groups beyond ``MAX_CELLS``."""

    def __post_init__(self) -> None:
        assert len(self.samples) == len(self.features), "one row of features a cell"

    @cached_property
    def labels(self) -> Int64[np.ndarray, " cells"]:
        """Class indices."""
        index = {label: place for place, label in enumerate(self.classes)}
        return np.array([index[sample.label] for sample in self.samples], dtype=np.int64)

    @cached_property
    def groups(self) -> Int64[np.ndarray, " cells"]:
        """Numbers of the groups, from 0 in the order of their names."""
        return codes([sample.group or "" for sample in self.samples])

    @property
    def num_groups(self) -> int:
        """Patients, slides or fields."""
        return int(self.groups.max()) + 1

    def column(self, name: str) -> list[str | None]:
        """Returns the value of a metadata column for each cell; None where it has none."""
        return [dict(sample.metadata).get(name) or None for sample in self.samples]

    def with_features(self, features: Float32[Tensor, "cells features"]) -> "SourcedCells":
        """Returns the same cells as another encoder sees them."""
        return replace(self, features=features)

    def only(self, kept: Sequence[int]) -> "SourcedCells":
        """Returns some of the cells, by place, ascending."""
        place = {old: new for new, old in enumerate(kept)}
        return replace(
            self,
            samples=tuple(self.samples[at] for at in kept),
            features=self.features[torch.tensor(kept, dtype=torch.int64)],
            twins=tuple((place[a], place[b]) for a, b in self.twins if a in place and b in place),
        )


def codes(names: Sequence[str]) -> Int64[np.ndarray, " names"]:
    """Numbers names from 0, in their order."""
    return np.unique(np.array(names, dtype=str), return_inverse=True)[1].astype(np.int64)


def sourced(manifest: Manifest, max_cells: int = MAX_CELLS) -> tuple[tuple[Sample, ...], int]:
    """Returns the cells to look at, those with a group and about ``max_cells``, and how many are beyond that.

    Raises:
        DataError: If no group is known, or there is only one.
    """
    known = [sample for sample in manifest.samples if sample.group is not None]
    sizes = Counter(sample.group for sample in known)
    if len(sizes) < MIN_GROUPS:
        found = "no group is known" if not sizes else f"there is one group, {known[0].group!r}"
        raise DataError(
            f"{manifest.name}: {found}; leakage is measured between patients, slides or fields. Name them in a table "
            "(manifest.csv with path,label,group), or its column with --group-column."
        )
    drawn: set[str | None] = set()
    num_drawn = 0
    for group in sorted(sizes, key=lambda name: sha256_text(f"leakage:{name}")):
        if num_drawn < max_cells:
            drawn.add(group)
            num_drawn += sizes[group]
    return tuple(sample for sample in known if sample.group in drawn), len(known) - num_drawn


def twin_pairs(samples: Sequence[Sample], duplicates: Iterable[Duplicate]) -> tuple[tuple[int, int], ...]:
    """Returns the pairs of equal and near-equal images, by place."""
    place = {sample.path: at for at, sample in enumerate(samples)}
    pairs: set[tuple[int, int]] = set()
    for one in duplicates:
        at = sorted(place[path] for path in one.paths if path in place)
        pairs |= {(a, b) for number, a in enumerate(at) for b in at[number + 1 :]}
    return tuple(sorted(pairs))


def metadata_columns(samples: Sequence[Sample]) -> Mapping[str, int]:
    """Returns the metadata columns with two values or more, and the number of these."""
    values: dict[str, set[str]] = {}
    for sample in samples:
        for name, value in sample.metadata:
            if value:
                values.setdefault(name, set()).add(value)
    return {name: len(found) for name, found in sorted(values.items()) if len(found) > 1}
