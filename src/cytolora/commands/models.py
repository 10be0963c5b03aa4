"""Opens the model that a command was given, a bundle or an ONNX export, with its backbone's checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytolora.commands.options import Device, add_backbones, pairs
from cytolora.errors import BundleError, ConfigError

if TYPE_CHECKING:
    from cytolora.lab.bundle import Bundle
    from cytolora.lab.predictor import Predictor


def open_any(
    path: Path,
    weights: tuple[str, ...],
    weights_dir: Path | None,
    backbone_file: tuple[Path, ...],
    device: Device,
    threads: int | None,
) -> "Predictor[Any]":
    """Opens a bundle, or an ONNX export of one, which needs neither torch nor the backbone's file."""
    from cytolora.lab.onnx_runtime import OnnxModel, is_export

    if is_export(path):
        return OnnxModel.load(path, threads=threads)
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise BundleError(
            f"{path} is no ONNX export, and a bundle needs torch, which is not installed here. Where it is: "
            f"cytolora export {path} --to onnx --out DIR."
        ) from error
    return open_bundle(path, weights, weights_dir, backbone_file, device, threads)


def open_bundle(
    path: Path,
    weights: tuple[str, ...],
    weights_dir: Path | None,
    backbone_file: tuple[Path, ...],
    device: Device,
    threads: int | None,
) -> "Bundle":
    """Opens a bundle with the options that every command on bundles has."""
    from cytolora.commands.machine import resolve_device
    from cytolora.lab.bundle import Bundle
    from cytolora.lab.bundle_files import read_bundle

    add_backbones(backbone_file)
    named = pairs(weights, "--weights")
    backbone = read_bundle(path)[0].backbone.name if named else ""
    if named and backbone not in named:
        raise ConfigError(f"{path} was trained on {backbone}; name its file: --weights {backbone}=PATH.")
    chosen = resolve_device(device, threads)
    return Bundle.load(path, weights=named.get(backbone), weights_dir=weights_dir, device=str(chosen))


def add_own(files: tuple[Path, ...]) -> list[str]:
    """Adds the backbones of ``--backbone-file``; returns their names."""
    from cytolora.models.backbones import BACKBONES

    before = {entry.name for entry in BACKBONES}
    add_backbones(files)
    return sorted({entry.name for entry in BACKBONES} - before)
