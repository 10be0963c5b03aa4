"""Seconds and memory to load a large encoder: built without weights, as `load_encoder` does, or drawn at random first.

    .venv/bin/python benchmarks/load_encoder.py --architecture vit_large_patch16_224

Every measurement is a process of its own. The checkpoint is random; its size is what counts.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from multiprocessing import Process
from pathlib import Path

import torch
from safetensors.torch import save_file

from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.backbones.spec import BackboneSpec
from cytolora.models.checkpoints import building, loading
from cytolora.models.checkpoints.checkpoint import read_state


def _spec(architecture: str) -> BackboneSpec:
    return replace(BACKBONES.get("nano"), architecture=architecture, arguments={"num_classes": 0}, feature_dim=None)


def _make(architecture: str, folder: Path) -> None:
    state = {name: value.detach() for name, value in building.build_trunk(_spec(architecture)).state_dict().items()}
    save_file(state, folder / "model.safetensors")
    torch.save(state, folder / "model.bin")


def _measure(architecture: str, path: Path, way: str) -> None:
    spec = _spec(architecture)
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    if way == "drawn":
        building.build_trunk(spec).load_state_dict(read_state(path), strict=True)
    else:
        loading.load_encoder(spec, path)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"{path.suffix:12} {way:16} {time.perf_counter() - started:5.1f} s ({cpu:4.1f} s of CPU), "
        f"peak +{(after.ru_maxrss - before.ru_maxrss) / 1024:5.0f} MiB"
    )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", default="vit_large_patch16_224")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        _measure(options.architecture, Path(options.one[0]), options.one[1])
        return
    with tempfile.TemporaryDirectory() as name:
        maker = Process(target=_make, args=(options.architecture, Path(name)))
        maker.start()  # a process of its own: those that are measured would inherit this one's peak
        maker.join()
        for path in sorted(Path(name).iterdir()):
            for way in ("drawn", "without weights") * options.rounds:
                command = [sys.executable, __file__, "--architecture", options.architecture, "--one", str(path), way]
                subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
