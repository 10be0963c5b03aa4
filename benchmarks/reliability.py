"""Cheap promises of docs/reliability.md, each measured on drawn cells with the built-in backbone.

    python benchmarks/reliability.py
    python benchmarks/reliability.py repeats private --quick

One line a promise; exit code 1 where one is broken.
"""

import argparse
import hashlib
import json
import os
import pickle
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import cytolora
from cytolora import Classifier, CytoloraError

_IN_A_NEW_PROCESS = """
import json, sys
from cytolora import Classifier
found = Classifier.load(sys.argv[1]).predict(sys.argv[2:])
print(json.dumps([one.probabilities for one in found]))
"""
_GROWTH_MB = 20.0
_PLANTED = "Zebulon-Quartermain"
"""A name that stands nowhere else."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One line of the table."""

    figure: str
    is_kept: bool


class Bench:
    """What the measurements share: cells, classifiers and their images."""

    def __init__(self, folder: Path, *, is_quick: bool) -> None:
        from cytolora.data.synthetic.dataset import write_synthetic

        self.folder, self.is_quick = folder, is_quick
        self.cells = folder / "cells"
        write_synthetic(self.cells, num_images=240, num_slides=24, seed=0)
        self.images = sorted(path for path in self.cells.rglob("*.png"))

    def fit(self, name: str, method: str, cells: Path | None = None) -> Path:
        options = cytolora.FitOptions(
            learning_rates=[1e-2], max_steps=20 if method == "linear" else 3, cache=self.folder / f"cache-{name}"
        )
        cytolora.fit(cells or self.cells, self.folder / name, method=method, model="nano", options=options)
        return self.folder / name

    @cached_property
    def lora(self) -> Path:
        return self.fit("lora", "lora")

    @cached_property
    def linear(self) -> Path:
        return self.fit("linear", "linear")


def shares(model: Any, images: list[Path]) -> np.ndarray:
    return np.array([one.probabilities for one in model.predict(images)])


def repeats(bench: Bench) -> Measured:
    """The same command gives the same numbers (each time with an empty cache)."""
    number = 3 if bench.is_quick else 20
    hashes = set()
    for index in range(number):
        found = shares(Classifier.load(bench.fit(f"again-{index}", "linear")), bench.images)
        hashes.add(hashlib.sha256(found.tobytes()).hexdigest())
    return Measured(f"{number} fits, {len(hashes)} different results", len(hashes) == 1)


def merge(bench: Bench) -> Measured:
    """A merged adapter gives the logits of the unmerged one."""
    import torch

    from cytolora.models.adapters.attach import attach, merged
    from cytolora.models.checkpoints.loading import load_encoder
    from cytolora.models.encoder_with_head import EncoderWithHead, load_trained_state

    opened = Classifier.load(bench.lora)
    contents = opened.contents
    assert contents.adapter is not None
    encoder = attach(load_encoder(opened.backbone, opened.checkpoint()), contents.method, contents.adapter)
    network = EncoderWithHead(encoder, len(contents.classes))
    load_trained_state(network, opened.state())
    network.eval()
    views = torch.stack([opened.view(Image.open(path)).float() / 255 for path in bench.images])
    with torch.no_grad():
        before = network(views)
        network.encoder = merged(network.encoder)
        after = network(views)
    change, flips = float((after - before).abs().max()), int((after.argmax(dim=1) != before.argmax(dim=1)).sum())
    return Measured(f"{len(views)} images: logits differ by {change:.1e} at most, {flips} classes", change < 1e-4)


def exports(bench: Bench) -> Measured:
    """An export gives the class of the bundle, from the file on."""
    from cytolora.classifier.export.export import export
    from cytolora.classifier.inference.onnx_predictor import OnnxModel

    opened = Classifier.load(bench.lora)
    export(opened, "onnx", bench.folder / "onnx")
    ours, theirs = shares(opened, bench.images), shares(OnnxModel.load(bench.folder / "onnx"), bench.images)
    flips = int((ours.argmax(axis=1) != theirs.argmax(axis=1)).sum())
    change = np.abs(ours - theirs).max()
    return Measured(f"{len(bench.images)} files: {flips} classes differ, at most {change:.1e}", not flips)


def reopens(bench: Bench) -> Measured:
    """A bundle opened in a new process gives equal probabilities."""
    images = [str(path) for path in bench.images[:40]]
    command = [sys.executable, "-c", _IN_A_NEW_PROCESS, str(bench.lora), *images]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    change = np.abs(np.array(json.loads(done.stdout)) - shares(Classifier.load(bench.lora), bench.images[:40])).max()
    return Measured(f"{len(images)} files, at most {change:.1e}", change == 0)


def steady(bench: Bench) -> Measured:
    """Predictions leave memory and handles as they were (Linux)."""
    number = 1000 if bench.is_quick else 10_000
    model, states = Classifier.load(bench.linear), []
    for start in range(0, number, 100):
        model.predict([bench.images[(start + index) % len(bench.images)] for index in range(100)])
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        states.append((pages * os.sysconf("SC_PAGE_SIZE") / 2**20, len(list(Path("/proc/self/fd").iterdir()))))
    (middle, handles), (end, handles_at_end) = states[len(states) // 2], states[-1]
    grown = end - middle
    figure = f"second half of {number:,} predictions: {grown:+.1f} MB, {handles_at_end - handles:+d} handles"
    return Measured(figure, grown < _GROWTH_MB and handles_at_end <= handles)


def hostile_weights(bench: Bench) -> Measured:
    """Weight files that are none, or would run code, are refused in one line, and nothing runs."""
    from cytolora.models.backbones.registry import NANO
    from cytolora.models.checkpoints.loading import load_encoder

    folder, proof = bench.folder / "hostile", bench.folder / "it-ran"
    folder.mkdir()

    class Code:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(proof),)

    assert NANO.weights is not None
    good, moment = Path(NANO.weights).read_bytes(), random.Random(0)
    runs = pickle.dumps({"weight": Code()})
    starts = [runs, b"PK\x03\x04" + runs, b"7z\xbc\xaf\x27\x1c", (2**63).to_bytes(8, "little") + b"{}", b"", good[:100]]
    starts += [(20).to_bytes(8, "little") + b'{"a":{},"a":{}}     ', (8).to_bytes(8, "little") + b"\xff" * 8]
    contents = [*starts, *(good[: moment.randrange(len(good) - 1)] for _ in range(20))]
    while len(contents) < 100:
        contents.append(moment.choice(starts) + moment.randbytes(moment.randrange(200)))
    refused = 0
    for number, content in enumerate(contents):
        path = folder / f"{number}{moment.choice(('.safetensors', '.bin', '.pt', '.pth'))}"
        path.write_bytes(content)
        try:
            load_encoder(NANO, path)
        except CytoloraError as error:
            refused += "\n" not in str(error)
    figure = f"{refused} of {len(contents)} refused, {int(proof.exists())} ran"
    return Measured(figure, refused == len(contents) and not proof.exists())


def private(bench: Bench) -> Measured:
    """A name in EXIF and comments of training images is in no file of the bundle; file names are counted."""
    from cytolora.data.datasets import load_manifest

    cells = bench.folder / "named-cells"
    for number, sample in enumerate(load_manifest(bench.cells).samples[:120]):
        path = bench.cells / sample.path
        target = cells / sample.label / f"{_PLANTED}_{sample.group}_{number:03d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x010E] = exif[0x013B] = f"{_PLANTED} in EXIF"
        with Image.open(path) as image:
            image.convert("RGB").save(target, exif=exif, comment=f"{_PLANTED} in a comment", quality=95)
    bundle = bench.fit("private", "linear", cells)
    (target, *_) = cells.rglob("*.jpg")
    rows = json.dumps([str(one) for one in Classifier.load(bundle).predict([np.asarray(Image.open(target))])])
    written = {path.name: path.read_bytes() for path in bundle.rglob("*") if path.is_file()} | {"rows": rows.encode()}
    in_pixels_files = [name for name, content in written.items() if f"{_PLANTED} in ".encode() in content]
    with_file_names = [name for name, content in written.items() if f"{_PLANTED}_".encode() in content]
    figure = (
        f"{len(written)} outputs; EXIF or comment in {len(in_pixels_files)}, file names in {len(with_file_names)}"
        f" ({', '.join(sorted(with_file_names)) or 'none'})"
    )
    return Measured(figure, not in_pixels_files)


ROWS: dict[str, Callable[[Bench], Measured]] = {
    row.__name__: row for row in (repeats, merge, exports, reopens, steady, hostile_weights, private)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(ROWS)}; all if none is named")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    is_kept = True
    print("| promise | figure | kept |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="reliability-") as name:
        bench = Bench(Path(name), is_quick=options.quick)
        for row in options.rows or ROWS:
            measured = ROWS[row](bench)
            is_kept &= measured.is_kept
            said = (ROWS[row].__doc__ or "").strip()
            print(f"| {row}: {said} | {measured.figure} | {'yes' if measured.is_kept else 'NO'} |", flush=True)
    sys.exit(0 if is_kept else 1)


if __name__ == "__main__":
    main()
