"""Frozen features of the cells of a project, from the shared cache into one file that opens at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float32

from cytolora.config.run import LINEAR
from cytolora.core.arguments import as_device
from cytolora.core.files import staged_file
from cytolora.data.manifest import Manifest, Sample
from cytolora.errors import DataError
from cytolora.labelling.project import FEATURES, Project, read_description

if TYPE_CHECKING:
    from cytolora.classifier.fit.config import FitConfig
    from cytolora.training.resources import Inputs

Features = Float32[np.ndarray, "cells features"]

_NUM_AXES_FROM = 4000
"""Cells from which the axes of the map are computed, at most."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Space:
    """Features of all cells by one encoder."""

    path: Path
    features: Features
    """Scaled to length 1; a cell that could not be read is a row of NaN."""
    encoder: str
    """In words."""
    seen: frozenset[int] = frozenset()
    """Cells of the groups whose labels the encoder was trained on."""

    @cached_property
    def is_usable(self) -> Bool[np.ndarray, " cells"]:
        """Which cells have features: those that could be read when they were computed."""
        return usable(self.features)


def load_features(project: Project) -> Features | None:
    """Opens the features that were computed before, scaled to length 1; None where there are none of these cells.

    A cell that could not be read is a row of NaN.
    """
    path = project.folder / FEATURES
    if not path.is_file():
        return None
    features = open_features(path)
    return features if is_of_cells(features, len(project.names)) else None


def is_of_cells(features: np.ndarray, number: int) -> bool:
    """Whether an array has a row of numbers for each cell."""
    return features.ndim == 2 and len(features) == number and features.shape[1] > 0 and features.dtype.kind == "f"


def open_features(path: Path) -> Features:
    """Maps a file of features into memory.

    Raises:
        DataError: If it is damaged.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}. Remove it; features are computed anew.") from error


def compute_features(
    project: Project, *, cache: Path, device: str = "cpu", on_progress: Callable[[int, int], None]
) -> tuple[Features, dict[int, str]]:
    """Computes the features of all cells and writes them to the project.

    Args:
        cache: Shared with ``embed``, ``fit`` and ``run``; killed and called again, it goes on from there.
        device: That computes them; auto, cpu, cuda or mps.
        on_progress: Told how many cells are done, and how many there are.

    Returns:
        Features, and by cell why it could not be read.

    Raises:
        CytoloraError: If the backbone has no weights here, or no cell can be read.
    """
    from cytolora.core.progress import SILENT
    from cytolora.training.session import Session

    place = as_device(device)
    inputs, config = encoder_of(project, LINEAR, str(place))
    numbers = {name: cell for cell, name in enumerate(project.names)}
    total, features = len(numbers), np.empty((0, 0), dtype=np.float32)
    manifest, errors = _readable(project, thorough=False)
    for attempt in ("hopeful", "thorough"):
        done = len(errors)

        def advance(images: int) -> None:
            nonlocal done
            done += images
            on_progress(min(done, total), total)

        session = Session(
            manifest=manifest,
            backbone=config.backbone,
            inputs=inputs,
            cache=cache,
            device=place,
            progress=SILENT,
        )
        try:
            for chunk in session.feature_chunks(advance):
                rows = chunk.features.numpy()
                if not len(features):
                    features = np.full((total, rows.shape[1]), np.nan, dtype=np.float32)
                features[[numbers[sample.path] for sample in chunk.samples]] = unit_rows(rows)
            break
        except DataError:
            if attempt == "thorough":
                raise
            manifest, errors = _readable(project, thorough=True)
    _check_model(project)
    if (theirs := load_features(project)) is not None:  # of another process, which may have its file mapped
        return theirs, errors
    with staged_file(project.folder / FEATURES) as path, path.open("wb") as file:
        np.save(file, features, allow_pickle=False)
    on_progress(total, total)
    return features, errors


def encoder_of(
    project: Project, method: str, device: str, learning_rates: Sequence[float] = ()
) -> "tuple[Inputs, FitConfig]":
    """Returns the backbone's weights, fetched where they are not here, and how ``fit`` would use it.

    Raises:
        CytoloraError: If the method does not go with the backbone, or its weights are not to be had.
    """
    from cytolora.classifier.fit.config import FitOptions, choose_config
    from cytolora.core.progress import SILENT
    from cytolora.training.resources import Inputs

    inputs = Inputs(data={}, weights=project.about.weights)
    options = FitOptions(model=project.about.model, method=method, learning_rates=tuple(learning_rates))
    config = choose_config(options, inputs, device)
    inputs.fetch_weights(config.backbone.name, SILENT)
    return inputs, config


def _check_model(project: Project) -> None:
    """Raises a DataError where another process gave the project another model or checkpoint meanwhile."""
    now, own = read_description(project.folder), project.about
    if (now.model, now.weights) != (own.model, own.weights):
        raise DataError(
            f"{project.folder} was given the model {now.model} by another `cytolora label`, and these features are of "
            f"{own.model}. Stop this one and start it again."
        )


def _readable(project: Project, *, thorough: bool) -> tuple[Manifest, dict[int, str]]:
    """Returns the cells that can be read, and why the others cannot.

    Args:
        thorough: Decodes every image; else only looks whether its file is there.
    """
    from cytolora.data.quality.scan import scan

    names, errors = list(enumerate(project.names)), dict[int, str]()
    for cell, name in names:
        if not (project.root / name).is_file():
            errors[cell] = f"{project.root / name} is no longer there."
    manifest = listed(project, [name for cell, name in names if cell not in errors])
    if thorough:
        records = scan(manifest)
        bad = {path: str(record) for path, record in records.items() if isinstance(record, DataError)}
        errors |= {cell: bad[name] for cell, name in names if name in bad}
        manifest = replace(manifest, samples=tuple(one for one in manifest.samples if one.path not in bad))
    return manifest, errors


def listed(project: Project, names: Sequence[str]) -> Manifest:
    """Returns some cells of a project as a manifest without labels; reads each file for its hash."""
    samples = tuple(Sample(path=name, label="") for name in names)
    return Manifest(name=project.about.name, root=project.root, classes=("",), samples=samples).with_hashes()


def unit_rows(rows: Features) -> Features:
    """Scales rows to length 1."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def usable(features: Features) -> Bool[np.ndarray, " cells"]:
    """Says which cells have features."""
    return ~np.isnan(features[:, 0])


def plane(features: Features, *, seed: int = 0) -> Float32[np.ndarray, "cells two"]:
    """Projects cells on the two first principal components, signs fixed; NaN where a cell could not be read."""
    known = np.flatnonzero(usable(features))
    some = np.random.default_rng(seed).permutation(known)[:_NUM_AXES_FROM]
    rows = np.asarray(features[np.sort(some)], dtype=np.float64)
    mean = rows.mean(axis=0)
    _, axes = np.linalg.eigh((rows - mean).T @ (rows - mean))
    axes = axes[:, :-3:-1]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), range(axes.shape[1])])
    return np.asarray(features) @ axes.astype(np.float32) - (mean @ axes).astype(np.float32)


def nearest(features: Features, cell: int, number: int) -> list[int]:
    """Returns the cells most similar to one, by cosine, the nearest first; none of a cell that could not be read."""
    if np.isnan(features[cell, 0]):
        return []
    similarity = np.nan_to_num(np.asarray(features) @ np.asarray(features[cell]), nan=-2.0)
    similarity[cell] = -2.0
    number = min(number, int((similarity > -2.0).sum()))
    if not number:
        return []
    top = np.argpartition(-similarity, number - 1)[:number]
    return top[np.argsort(-similarity[top], kind="stable")].tolist()
