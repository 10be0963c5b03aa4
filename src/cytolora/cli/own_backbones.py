"""Opens the models that a command was given, bundles or ONNX exports, with their backbones' checkpoints."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytolora.cli.options import MachineOptions, OfFeatures, WeightOptions, add_backbones, pairs
from cytolora.errors import BundleError, ConfigError

if TYPE_CHECKING:
    from cytolora.classifier.inference.classifier import Classifier
    from cytolora.classifier.inference.predictor import Predictor


def open_any(path: Path, files: WeightOptions, machine: MachineOptions, precision: OfFeatures) -> "Predictor[Any]":
    """Opens a bundle, or an ONNX export of one, which needs neither torch nor the backbone's file."""
    from cytolora.classifier.inference.onnx_predictor import OnnxModel, is_export

    _refuse_trust(files)
    if is_export(path):
        if precision != "auto":
            raise ConfigError(f"{path} is an export, which computes in its own precision. Leave out --precision.")
        return OnnxModel.load(path, threads=machine.threads)
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise BundleError(
            f"{path} is no ONNX export, and a bundle needs torch, which is not installed here. Where it is: "
            f"cytolora export {path} --to onnx --out DIR."
        ) from error
    return open_bundle(path, files, machine, precision)


def open_all(
    paths: Mapping[str, Path], files: WeightOptions, machine: MachineOptions, precision: OfFeatures
) -> "dict[str, Predictor[Any]]":
    """Opens models by name, each with the file of its own backbone among those that are named."""
    if len(paths) == 1:
        return {name: open_any(path, files, machine, precision) for name, path in paths.items()}
    add_backbones(files.backbone_file)
    named = pairs(files.weights, "--weights")
    opened: dict[str, Predictor[Any]] = {}
    used: set[str] = set()
    for name, path in paths.items():
        backbone = _backbone_of(path) if named else ""
        own = [f"{backbone}={named[backbone]}"] if backbone in named else []
        opened[name] = open_any(path, replace(files, weights=own, backbone_file=()), machine, precision)
        used.add(backbone)
    if unused := sorted(named.keys() - used):
        raise ConfigError(f"--weights names {unused[0]}, which none of the models was trained on. Leave it out.")
    return opened


def _backbone_of(path: Path) -> str:
    """Returns the backbone's name; empty for an export, which holds its own weights."""
    from cytolora.classifier.bundle.files import read_bundle
    from cytolora.classifier.bundle.hub import local
    from cytolora.classifier.inference.onnx_predictor import is_export

    return "" if is_export(path) else read_bundle(local(path))[0].backbone.name


def open_bundle(path: Path, files: WeightOptions, machine: MachineOptions, precision: OfFeatures) -> "Classifier":
    """Opens a bundle with the options that every command on bundles has.

    Args:
        precision: Of a frozen encoder; auto is that of `fit`. A bundle in int8 opens on any processor in fp32.
    """
    from cytolora.classifier.inference.classifier import Classifier
    from cytolora.cli.machine import resolve_device

    _refuse_trust(files)
    add_backbones(files.backbone_file)
    named = pairs(files.weights, "--weights")
    backbone = _backbone_of(path) if named else ""
    if named and backbone not in named:
        raise ConfigError(f"{path} was trained on {backbone}; name its file: --weights {backbone}=PATH.")
    chosen = resolve_device(machine)
    return Classifier.load(
        path,
        weights=named.get(backbone),
        weights_dir=files.weights_dir,
        device=chosen,
        precision=None if precision == "auto" else precision,
    )


def _refuse_trust(files: WeightOptions) -> None:
    if files.trust_weights:
        raise ConfigError(
            "--trust-weights has no meaning for a classifier: it takes the very file that it was trained with, by its "
            "SHA-256. Leave it out; `fit` takes it."
        )


def add_own(files: Sequence[Path]) -> list[str]:
    """Adds the backbones of ``--backbone-file``; returns their names."""
    from cytolora.models.backbones.registry import BACKBONES

    before = {entry.name for entry in BACKBONES}
    add_backbones(files)
    return sorted({entry.name for entry in BACKBONES} - before)
