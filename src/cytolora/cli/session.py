"""Session of `embed` and `learning-curve`: one dataset and one backbone, with cached features."""

from pathlib import Path

import torch

from cytolora.api.session import choose_backbone
from cytolora.api.session import open_session as open_features
from cytolora.cli.console import make_console
from cytolora.cli.machine import resolve_device
from cytolora.cli.options import MachineOptions, OfFeatures, ReadingOptions, WeightOptions, add_backbones, pairs
from cytolora.core.progress import Progress
from cytolora.data.datasets import load_manifest
from cytolora.data.manifest import Manifest
from cytolora.data.splitting.split_files import read_split
from cytolora.models.backbones.registry import BackboneSpec, read_backbone_file
from cytolora.training.resources import Inputs
from cytolora.training.session import Session


def read_manifest(path: Path, dataset: str | None, split: Path | None, reading: ReadingOptions) -> Manifest:
    """Reads a dataset, and the file that says which image is for what."""
    manifest = load_manifest(path, dataset, reading=reading.options())
    return manifest if split is None else read_split(split, manifest)


def open_session(
    manifest: Manifest,
    model: str | None,
    files: WeightOptions,
    machine: MachineOptions,
    *,
    cache: Path,
    progress: Progress,
    precision: OfFeatures = "auto",
) -> Session:
    """Finds or fetches a backbone's checkpoint and lays it beside a dataset; what to know of the choice goes to stderr.

    Args:
        precision: Of the features; auto is fp32.
        model: If None, what `fit` would take for a linear classifier.

    Raises:
        WeightsError: If the checkpoint is neither here nor to be had.
    """
    inputs, own = _inputs(files)
    return open_features(
        manifest,
        model,
        inputs,
        cache=cache,
        device=resolve_device(machine),
        progress=progress,
        precision="fp32" if precision == "auto" else precision,
        own=own,
        note=make_console(stderr=True).print,
    )


def open_backbone(
    model: str | None, files: WeightOptions, machine: MachineOptions, *, progress: Progress, precision: OfFeatures
) -> tuple[BackboneSpec, Inputs, torch.device]:
    """Like ``open_session`` for images that are no dataset; raises as that does."""
    inputs, own = _inputs(files)
    device, note = resolve_device(machine), make_console(stderr=True).print
    precise = "fp32" if precision == "auto" else precision
    backbone = choose_backbone(model, inputs, device=device, progress=progress, precision=precise, own=own, note=note)
    return backbone, inputs, device


def _inputs(files: WeightOptions) -> tuple[Inputs, list[str]]:
    """Returns where checkpoints are, and the names of the user's own backbones, which are known from now on."""
    add_backbones(files.backbone_file)
    own = [read_backbone_file(path).name for path in files.backbone_file]
    inputs = Inputs(
        data={},
        weights=pairs(files.weights, "--weights"),
        weights_dir=files.weights_dir,
        trust_weights=files.trust_weights,
    )
    return inputs, own
