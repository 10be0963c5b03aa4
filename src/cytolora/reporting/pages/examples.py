"""Example cells of a report: correct and wrong predictions of one seed, with thumbnails."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cytolora.config.reading import AS_IT_STANDS, ReadOptions
from cytolora.data.datasets import load_manifest
from cytolora.data.imaging.decode import decode
from cytolora.data.manifest import Manifest
from cytolora.display.thumbnails import thumbnail
from cytolora.errors import DataError
from cytolora.reporting.results.predictions import TestPredictions, read_test
from cytolora.reporting.results.settings import Setting

_MAX_WRONG = 12
_MAX_WRONG_PER_CLASS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One test image with what the classifier said about it."""

    path: str
    label: str
    predicted: str
    probability: float
    """Of the predicted class."""
    picture: str
    """A data URI."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Of each class the right cell of median certainty, and the mistakes made with most certainty."""

    seed: int
    right: tuple[Example, ...]
    wrong: tuple[Example, ...]


def find_examples(setting: Setting, path: Path, reading: ReadOptions = AS_IT_STANDS) -> Examples:
    """Picks examples from the test predictions of the setting's first seed.

    Args:
        reading: That of the runs.

    Raises:
        DataError: If the images at ``path`` are not those that the runs were computed from.
    """
    manifest, rows = load_manifest(path, setting.spec.dataset, reading=reading), read_test(setting.tested[0])
    _check_images(setting, rows, manifest, path)
    return Examples(
        seed=setting.tested[0].spec["seed"],
        right=tuple(_example(rows, index, manifest) for index in pick_right(rows)),
        wrong=tuple(_example(rows, index, manifest) for index in pick_wrong(rows)),
    )


def _check_images(setting: Setting, rows: TestPredictions, manifest: Manifest, path: Path) -> None:
    what = f"{path} is not the {setting.dataset} that the runs were computed from"
    advice = "Point --data at the images of the runs and read them as `run` did (--group-column, …), or leave it out."
    absent = sorted(set(rows.paths) - {sample.path for sample in manifest.samples})
    if absent:
        raise DataError(f"{what}: it holds no {absent[0]}. {advice}")
    then = setting.tested[0].provenance["data_fingerprint"]
    if setting.spec.label_map_sha256 is None and manifest.fingerprint != then:  # a map changes it, and is not at hand
        raise DataError(f"{what}: its fingerprint is {manifest.fingerprint}, theirs {then}. {advice}")


def pick_right(rows: TestPredictions) -> list[int]:
    """Picks of each class the rightly classified image whose probability is the (upper) median: a typical one."""
    picked = []
    for label in range(len(rows.classes)):
        right = np.flatnonzero((rows.labels == label) & (rows.predicted == label))
        if len(right):
            picked.append(int(right[np.argsort(_certainty(rows)[right], kind="stable")][len(right) // 2]))
    return picked


def pick_wrong(rows: TestPredictions) -> list[int]:
    """Picks the mistakes of highest probability, at most three of a true class, twelve in all."""
    return list(_surest_mistakes(rows))[:_MAX_WRONG]


def _surest_mistakes(rows: TestPredictions) -> Iterator[int]:
    taken = np.zeros(len(rows.classes), dtype=int)
    for index in np.argsort(-_certainty(rows), kind="stable"):
        label = rows.labels[index]
        if rows.predicted[index] != label and taken[label] < _MAX_WRONG_PER_CLASS:
            taken[label] += 1
            yield int(index)


def _certainty(rows: TestPredictions) -> NDArray[np.float64]:
    return rows.probabilities.max(axis=1)


def _example(rows: TestPredictions, index: int, manifest: Manifest) -> Example:
    return Example(
        path=rows.paths[index],
        label=rows.classes[rows.labels[index]],
        predicted=rows.classes[rows.predicted[index]],
        probability=float(_certainty(rows)[index]),
        picture=thumbnail(decode(manifest.root / rows.paths[index], decoding=manifest.decoding)),
    )
