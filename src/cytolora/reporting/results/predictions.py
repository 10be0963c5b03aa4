"""Test predictions of a stored run, as arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from cytolora.data.manifest import METADATA_PREFIX
from cytolora.experiments.run_folder import PREDICTIONS, damaged
from cytolora.experiments.store import StoredRun
from cytolora.metrics.bootstrap import REPLICATES, Replicates, draw_metrics
from cytolora.metrics.counts import SeedCounts, count_by_unit


@dataclass(frozen=True, slots=True, kw_only=True)
class TestPredictions:
    """What a run said about each test image."""

    classes: tuple[str, ...]
    paths: list[str]
    groups: list[str | None]
    labels: NDArray[np.int64]
    """Indices into ``classes``."""
    probabilities: NDArray[np.float64]
    """Images x classes."""
    metadata: Mapping[str, list[str | None]] = field(default_factory=dict)
    """By column (stain, scanner, …) the value of each image; None where it is not known."""

    val_groups: Mapping[str, str | None] = field(default_factory=dict)
    """By path, the group of each validation image; None where it is not known."""

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class of each image."""
        return self.probabilities.argmax(axis=1)


def read_test(run: StoredRun, subset: Literal["test", "val"] = "test") -> TestPredictions:
    """Reads the predictions of a run on its test images.

    Args:
        subset: ``val`` reads those of its validation images in their stead.

    Raises:
        StoreError: If the predictions do not fit the classes that the run says it knows, hold no such image though
            the run has a score of them, or are not all numbers.
    """
    classes = tuple(run.provenance["classes"])
    table = run.predictions()
    unknown = sorted(set(table["label"].unique().to_pylist()) - set(classes))
    if unknown or not set(classes) <= set(table.column_names):
        raise damaged(run.path, f"its predictions do not fit its classes ({', '.join(classes)})")
    val = table.filter(pc.field("subset") == "val")
    table = table.filter(pc.field("subset") == subset)
    if not len(table):
        raise damaged(run.path, f"its metrics have a {subset} score, {PREDICTIONS} no {subset} image")
    probabilities = np.column_stack([table[name].to_numpy() for name in classes]).astype(np.float64)
    wrong = int((~np.isfinite(probabilities)).any(axis=1).sum())
    if wrong:
        raise damaged(run.path, f"the probabilities of {wrong} of {len(table)} {subset} images are no numbers")
    index = {name: position for position, name in enumerate(classes)}
    return TestPredictions(
        classes=classes,
        paths=table["path"].to_pylist(),
        groups=table["group"].to_pylist(),
        labels=np.array([index[label] for label in table["label"].to_pylist()], dtype=np.int64),
        metadata={
            name.removeprefix(METADATA_PREFIX): table[name].to_pylist()
            for name in table.column_names
            if name.startswith(METADATA_PREFIX)
        },
        val_groups=dict(zip(val["path"].to_pylist(), val["group"].to_pylist(), strict=True)),
        probabilities=probabilities,
    )


def draw_seeds(seeds: Sequence[TestPredictions], replicates: int = REPLICATES) -> Replicates:
    """Draws the test set again, each image with the predictions of all seeds."""
    return draw_metrics(**_of_all(seeds), replicates=replicates)


def count_seeds(seeds: Sequence[TestPredictions]) -> SeedCounts:
    """Counts the predictions of all seeds by group and class, for intervals."""
    return count_by_unit(**_of_all(seeds))


def _of_all(seeds: Sequence[TestPredictions]) -> dict[str, Any]:
    return {
        "labels": np.concatenate([rows.labels for rows in seeds]),
        "predicted": np.concatenate([rows.predicted for rows in seeds]),
        "images": [path for rows in seeds for path in rows.paths],
        "groups": [group for rows in seeds for group in rows.groups],
        "num_classes": len(seeds[0].classes),
    }
