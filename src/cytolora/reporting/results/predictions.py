"""Test predictions of a stored run, as arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from cytolora.data.manifest import METADATA_PREFIX
from cytolora.experiments.run_folder import PREDICTIONS, damaged, problem_in_table
from cytolora.experiments.stored_run import StoredRun
from cytolora.metrics.bootstrap import REPLICATES, Replicates, draw_metrics
from cytolora.metrics.counts import SeedCounts, count_by_unit
from cytolora.metrics.scores import other_scores

_SUM_ROUNDING = 1e-3
"""Probabilities are stored in float32, those of a bf16 run come from logits of 8 bits."""


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
    """Reads the predictions of a run on its test images; its metrics are computed again from them and compared.

    Args:
        subset: ``val`` reads those of its validation images in their stead.

    Raises:
        StoreError: If the predictions do not fit the classes that the run says it knows, hold no such image though
            the run has a score of them, are not all probabilities, or give other scores than the run has.
    """
    classes = tuple(run.provenance["classes"])
    table = run.predictions()
    if wrong := problem_in_table(table, classes):
        raise damaged(run.path, wrong)
    parts = {name: table.filter(pc.field("subset") == name) for name in ("test", "val")}
    table, val = parts[subset], parts["val"]
    if not len(table):
        raise damaged(run.path, f"its metrics have a {subset} score, {PREDICTIONS} no {subset} image")
    index = {name: position for position, name in enumerate(classes)}
    arrays: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
    for name, part in parts.items():
        labels = np.array([index[label] for label in part["label"].to_pylist()], dtype=np.int64)
        arrays[name] = labels, _probabilities(run, name, part, classes)
        if len(part) and (wrong := other_scores(run.metrics.get(name), *arrays[name])):
            raise damaged(run.path, f"metrics.json says {name} {wrong}")
    labels, probabilities = arrays[subset]
    return TestPredictions(
        classes=classes,
        paths=table["path"].to_pylist(),
        groups=table["group"].to_pylist(),
        labels=labels,
        metadata={
            name.removeprefix(METADATA_PREFIX): table[name].to_pylist()
            for name in table.column_names
            if name.startswith(METADATA_PREFIX)
        },
        val_groups=dict(zip(val["path"].to_pylist(), val["group"].to_pylist(), strict=True)),
        probabilities=probabilities,
    )


def _probabilities(run: StoredRun, subset: str, table: Any, classes: Sequence[str]) -> NDArray[np.float64]:
    probabilities = np.column_stack([table[name].to_numpy() for name in classes]).astype(np.float64)
    wrong = int((~np.isfinite(probabilities)).any(axis=1).sum())
    if wrong:
        raise damaged(run.path, f"the probabilities of {wrong} of {len(table)} {subset} images are no numbers")
    sums = probabilities.sum(axis=1)
    is_wrong = (probabilities < 0).any(axis=1) | (np.abs(sums - 1) > _SUM_ROUNDING)
    if is_wrong.any():
        first = int(is_wrong.argmax())
        raise damaged(
            run.path,
            f"the probabilities of {int(is_wrong.sum())} of {len(table)} {subset} images are not from 0 up with a sum "
            f"of 1, first {table['path'][first].as_py()!r:.60} with {sums[first]:.4g}",
        )
    return probabilities


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
