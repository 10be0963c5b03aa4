"""Seconds and memory to load a large encoder: built without weights, as `load_encoder` does, or drawn at random first.

    .venv/bin/python benchmarks/load_tower.py --architecture vit_large_patch16_224

Every measurement is a process of its own. The checkpoint is random; its size is what counts.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from measuring import process
from rows import Row, add_rows_option, show
from safetensors.torch import save_file

from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.backbones.spec import BackboneSpec
from cytolora.models.checkpoints import building, loading
from cytolora.models.checkpoints.checkpoint import read_state


def _spec(architecture: str) -> BackboneSpec:
    nano = BACKBONES.get("nano")
    preprocess = replace(nano.preprocess, size_px=224)
    arguments = {"num_classes": 0}
    return replace(nano, architecture=architecture, arguments=arguments, preprocess=preprocess, feature_dim=None)


def _make(architecture: str, folder: Path) -> None:
    state = {name: value.detach() for name, value in building.build_trunk(_spec(architecture)).state_dict().items()}
    save_file(state, folder / "model.safetensors")
    torch.save(state, folder / "model.bin")


def _load(architecture: str, path: Path, way: str) -> None:
    spec = _spec(architecture)
    if way == "drawn":
        building.build_trunk(spec).load_state_dict(read_state(path), strict=True)
    elif way == "without weights":
        loading.load_encoder(spec, path)


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Loads in processes of their own; each figure is beyond that of a process that imports and loads nothing."""
    with tempfile.TemporaryDirectory() as name:
        this = [sys.executable, __file__, "--architecture", options.architecture]
        process([*this, "--make", name])  # a process of its own: the memory is not to stay taken
        for path in sorted(Path(name).iterdir()):
            found: dict[str, dict[str, list[float]]] = {"drawn": {}, "without weights": {}}
            for _ in range(options.rounds):
                empty = process([*this, "--one", path, "nothing"])
                for way, figures in found.items():
                    cost = process([*this, "--one", path, way])
                    figures.setdefault("CPU s", []).append(cost.cpu_seconds - empty.cpu_seconds)
                    figures.setdefault("wall s", []).append(cost.wall_seconds - empty.wall_seconds)
                    figures.setdefault("MiB", []).append(cost.peak_mib - empty.peak_mib)
            for way, figures in found.items():
                title = f"{path.suffix}, {way}"
                yield Row(part="load-encoder", name=title, figures=figures, conditions=options.architecture)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="vit_large_patch16_224")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    add_rows_option(parser)
    options = parser.parse_args()
    if options.make:
        _make(options.architecture, options.make)
        return 0
    if options.one:
        _load(options.architecture, Path(options.one[0]), options.one[1])
        return 0
    return show(measure(options), options)


if __name__ == "__main__":
    sys.exit(main())
