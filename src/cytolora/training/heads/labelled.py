"""Labelled frozen features, the sampling units that they come from, and other images compared with them in blocks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from cytolora.models.text.embeddings import ClassText


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Frozen features of images whose class is known."""

    features: Float32[Tensor, "images features"]
    labels: Int64[Tensor, " images"]
    """Class indices."""
    num_classes: int
    groups: Sequence[str] = ()
    """Unit of each image: its group, or itself where that is unknown; empty: every image for itself."""
    text: ClassText | None = None
    """Text embeddings of the classes, where the head reads them."""
    tree: tuple[tuple[str, ...], ...] = ()
    """By class, its ancestors from the coarsest level down, and itself; empty where classes have no hierarchy."""

    @property
    def class_text(self) -> ClassText:
        """The text embeddings, for a head that cannot do without."""
        assert self.text is not None, "the head needs the text embeddings of the classes"
        return self.text

    @property
    def class_paths(self) -> tuple[tuple[str, ...], ...]:
        """The place of each class in the tree, for a head that cannot do without."""
        assert self.tree, "the head needs classes in a tree"
        return self.tree

    @property
    def units(self) -> list[str]:
        """The unit of each image."""
        return list(self.groups) or [str(index) for index in range(len(self.labels))]


ROWS = 1024
"""Images compared with the training set at a time."""


def by_rows(queries: Float32[Tensor, "queries features"], compare: Callable[[Tensor], Tensor]) -> Tensor:
    """Compares images with the training set, ``ROWS`` at a time: memory does not grow with their number."""
    return torch.cat([compare(part) for part in queries.split(ROWS)])
