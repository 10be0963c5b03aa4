"""Frozen features for `check`: computed once, cached where runs cache theirs."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cytolora.cli.options import THIS_MACHINE, CheckpointOptions, add_backbones, pairs
from cytolora.cli.targets import shared
from cytolora.core.progress import Progress
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.quality.audit import Features
from cytolora.data.quality.duplicates import MIN_SIMILARITY
from cytolora.data.targets import STORE
from cytolora.errors import ConfigError
from cytolora.models.backbones.registry import BACKBONES
from cytolora.training.resources import Inputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@Parameter(name="*", group="Near duplicates by features")
@dataclass(frozen=True, kw_only=True)
class FeatureOptions(CheckpointOptions):
    """With which features near duplicates are searched that hashes miss."""

    model: str | None = None
    """Backbone whose features are compared too (`cytolora ls models`): finds what was cut out at another place."""
    out: Annotated[Path, shared(STORE)] = Path("runs")
    """Folder of stored runs; features are kept in its cache, and runs share them."""
    similarity: float = MIN_SIMILARITY
    """Cosine of centred features from which two images are near duplicates; the best value differs by model."""


NO_FEATURES = FeatureOptions()


def reader(options: FeatureOptions, manifest: Manifest, progress: Progress) -> Features | None:
    """Returns what gives the features of images of a manifest; None without a model. Loads torch only with one.

    Raises:
        ConfigError: If an option makes no sense without a model, or the similarity is no cosine.
        WeightsError: If the model's checkpoint is neither here nor to be had.
    """
    if options.model is None:
        if options != NO_FEATURES:
            raise ConfigError("These options of check are for features; name the model as well: --model NAME.")
        return None
    if not 0 < options.similarity <= 1:
        raise ConfigError(f"--similarity is a cosine in (0, 1], got {options.similarity}.")
    add_backbones(options.backbone_file)
    backbone = BACKBONES.get(options.model)
    inputs = Inputs(
        data={},
        weights=pairs(options.weights, "--weights"),
        weights_dir=options.weights_dir,
        trust_weights=options.trust_weights,
    )
    inputs.fetch_weights(backbone.name, progress)

    def features(samples: tuple[Sample, ...]) -> "NDArray[np.float32]":
        from cytolora.cli.machine import resolve_device
        from cytolora.training.session import Session

        session = Session(
            backbone=backbone,
            manifest=replace(manifest, samples=samples),
            inputs=inputs,
            cache=options.out / ".cache",
            device=resolve_device(THIS_MACHINE),
            progress=progress,
        )
        return session.features.numpy()

    return features
