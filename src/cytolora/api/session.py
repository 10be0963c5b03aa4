"""Session of frozen features: one dataset and one backbone, for `embed`, `leakage` and `learning-curve`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cytolora.classifier.fit.config import FitOptions, choose_config
from cytolora.config.run import LINEAR, FeaturePrecision
from cytolora.core.progress import Progress
from cytolora.data.manifest import Manifest
from cytolora.training.resources import Inputs

if TYPE_CHECKING:
    import torch

    from cytolora.models.backbones.spec import BackboneSpec
    from cytolora.training.session import Session


def open_session(
    manifest: Manifest,
    model: str | None,
    inputs: Inputs,
    *,
    cache: Path,
    device: "torch.device",
    progress: Progress,
    precision: FeaturePrecision = "fp32",
    own: Sequence[str] = (),
    note: Callable[[str], None] | None = None,
) -> "Session":
    """Finds or fetches a backbone's checkpoint and lays it beside a dataset.

    Args:
        model: If None, what `fit` would take for a linear classifier.
        precision: Of the features.
        own: Names of backbones that the user described in a file.
        note: Takes what to know of the choice; ``progress.say`` if None.

    Raises:
        ConfigError: If the precision cannot be computed here.
        WeightsError: If the checkpoint is neither here nor to be had.
    """
    from cytolora.training.session import Session

    backbone = choose_backbone(model, inputs, device=device, progress=progress, precision=precision, own=own, note=note)
    return Session(
        backbone=backbone,
        manifest=manifest,
        inputs=inputs,
        cache=cache,
        device=device,
        precision=precision,
        progress=progress,
    )


def choose_backbone(
    model: str | None,
    inputs: Inputs,
    *,
    device: "torch.device",
    progress: Progress,
    precision: FeaturePrecision = "fp32",
    own: Sequence[str] = (),
    note: Callable[[str], None] | None = None,
) -> "BackboneSpec":
    """Returns the backbone of ``open_session``, with its checkpoint found or fetched; raises as that does."""
    config = choose_config(FitOptions(model=model, method=LINEAR, precision=precision), inputs, device.type, own)
    for text in config.notes:
        (note or progress.say)(text)
    inputs.fetch_weights(config.backbone.name, progress)
    return config.backbone
