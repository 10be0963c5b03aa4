"""Small files of every kind that is kept and read again, each with the call that reads it: for tests of damage."""

import os
import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

import cytolora
from cytolora.api.grids import run_grid
from cytolora.classifier.fit.config import FitOptions, choose_config
from cytolora.classifier.fit.prepare import prepare, read_cells
from cytolora.classifier.fit.train import train
from cytolora.classifier.inference.onnx_predictor import OnnxModel, is_export
from cytolora.config.grid import GridSpec, MethodSpec
from cytolora.config.run import AdapterSpec, Budget
from cytolora.core.cache_folder import limit_of, set_limit
from cytolora.core.files import canonical_json
from cytolora.core.progress import SILENT
from cytolora.data.datasets import load_manifest
from cytolora.data.imaging.cache import PixelCache
from cytolora.data.imaging.views import kept_evaluation_view
from cytolora.data.readers.unpacked import unpack_once
from cytolora.data.splitting.split_files import read_split
from cytolora.data.synthetic.dataset import write_synthetic
from cytolora.display.figure import drawn, to_csv_bytes
from cytolora.experiments.names import read_names, write_names
from cytolora.experiments.store import Store
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.checkpoints.offline_folder import keep
from cytolora.models.text import embeddings
from cytolora.reporting.figures.confusion import confusion_matrix
from cytolora.reporting.leakage import kept as kept_leakage
from cytolora.reporting.results.settings import best, read_settings
from cytolora.reporting.tables.metadata import breakdowns
from cytolora.reporting.tables.metadata import to_rows as metadata_rows
from cytolora.reporting.tables.tables import to_row
from cytolora.training.embed import read_embedding
from cytolora.training.resources import Inputs
from cytolora.training.session import Session

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Files that one call reads."""

    name: str
    root: Path
    """Put back whole after each flip."""
    read: Callable[[], Any]
    """Returns values that JSON holds, with arrays by their hash."""
    pattern: str = "*"
    before: dict[Path, bytes] = field(default_factory=dict)
    flipped: Sequence[Path] = ()
    """Those of the files that the call reads."""
    expected: str = ""


@dataclass(frozen=True, kw_only=True)
class World:
    """What was made, and what readers share so that they need not load it again."""

    folder: Path
    encoders: dict[str, Any] = field(default_factory=dict)

    @property
    def cells(self) -> Path:
        return self.folder / "cells"

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def cache(self) -> Path:
        return self.runs / ".cache"

    @property
    def fit_cache(self) -> Path:
        return self.folder / "fit-cache"

    @property
    def inputs(self) -> Inputs:
        return Inputs(data={"csv": self.cells})

    def session(self) -> Session:
        return Session(
            manifest=load_manifest(self.cells, "csv").with_hashes(),
            backbone=BACKBONES.get("nano"),
            inputs=Inputs(data={}),
            cache=self.cache,
            device=CPU,
            progress=SILENT,
            encoders=self.encoders,
        )

    def grid(self) -> GridSpec:
        budget = Budget(amount=2, unit="steps_per_shot")
        return GridSpec(
            name="flips",
            datasets=("csv",),
            models=("nano",),
            methods={
                "linear": MethodSpec(budget=Budget(amount=5, unit="epochs")),
                "lora": MethodSpec(budget=budget, adapter=AdapterSpec()),
            },
            shots=(2,),
            seeds=(1, 2),
            learning_rates=(1e-2,),
            warmup_steps=1,
        )


def digest(content: Any) -> str:
    """Hashes bytes, an array or a tensor."""
    if isinstance(content, torch.Tensor):
        content = content.detach().contiguous().numpy()
    if isinstance(content, np.ndarray):
        content = np.ascontiguousarray(content).tobytes() + str(content.shape).encode()
    return sha256(content).hexdigest()


# What reads each kind of file.


def read_runs(world: World) -> Any:
    return [
        [one.run_id, one.spec, one.metrics, one.provenance, one.predictions().to_pylist(), digest(one.weights() or b"")]
        for one in Store(world.runs).runs()
    ]


def read_rows(world: World) -> Any:
    settings = read_settings(Store(world.runs).runs())
    return [[to_row(one) for one in settings], metadata_rows(breakdowns(settings))]


def read_drawing(world: World) -> Any:
    winner = best(read_settings(Store(world.runs).runs()))
    assert winner is not None
    figure = confusion_matrix(winner, "best")
    made = drawn(figure, to_csv_bytes(figure.frame()), world.cache / "figures")
    return {name: digest(content) for name, content in made.items()}


def read_features(world: World) -> Any:
    return digest(world.session().features)


def read_pixels(world: World) -> Any:
    session = world.session()
    pixels = PixelCache(world.cache / "pixels", session.manifest.root, session.manifest.decoding)
    preprocess = session.backbone.preprocess
    return [
        [digest(pixels.native(one)), digest(kept_evaluation_view(pixels, one, preprocess))]
        for one in session.manifest.samples
    ]


class StandIn:
    """A text encoder whose embeddings are numbers of the texts' letters."""

    logit_scale = 10.0

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.tensor([[float(ord(letter)) for letter in text.ljust(8)[:8]] for text in texts])


def read_text(world: World) -> Any:
    words = {"one": ["a cell", "some cells"], "two": ["another"]}
    with patch.object(embeddings, "load_text_encoder", lambda *_: StandIn()):
        text = embeddings.class_text(
            BACKBONES.get("nano"), world.folder / "none", words, weights_sha256="0" * 64, cache=world.cache / "text"
        )
    return [digest(text.embeddings), text.logit_scale]


def read_leakage(world: World) -> Any:
    run_grid(world.grid(), world.inputs, world.runs, device=CPU, progress=SILENT)
    subject = kept_leakage.Subject.of(next(Store(world.runs).runs()))
    return repr(kept_leakage.read_kept(world.runs, subject))


def read_adapter(world: World) -> Any:
    options = FitOptions(model="nano", method="lora", max_steps=2, learning_rates=1e-3, cache=world.fit_cache)
    inputs = Inputs(data={})
    config = choose_config(options, inputs, "cpu")
    cells = read_cells(world.cells, "csv", cache=world.fit_cache)
    prepared = prepare(cells, config, inputs, cache=world.fit_cache, device=CPU, progress=SILENT)
    prepared.session.encoders.update(world.encoders)
    return {name: digest(tensor) for name, tensor in sorted(train(prepared, 0.9).state.items())}


def read_archive(world: World) -> Any:
    manifest = load_manifest(world.folder / "cells.zip", "csv", cache=world.folder / "zips" / "archives").with_hashes()
    return [manifest.fingerprint, [one.sha256 for one in manifest.samples]]


def read_cut(world: World) -> Any:
    def write(folder: Path) -> None:
        for number in range(5):
            (folder / f"{number}.png").write_bytes(bytes([number]) * 200)

    target = world.folder / "cut" / "images"
    unpack_once(target, "key", write)
    return [digest(path.read_bytes()) for path in sorted(target.glob("*.png"))]


def read_limit(world: World) -> Any:
    if limit_of(world.folder / "bounded") != 10**12:
        set_limit(world.folder / "bounded", 10**12)  # the user's choice is lost, and the line says so
    return limit_of(world.folder / "bounded")


def read_bundle(world: World, name: str) -> Any:
    pixels = [np.full((40, 40, 3), shade, np.uint8) for shade in (0, 80, 160, 240)]
    path = world.folder / name
    opened = OnnxModel.load(path) if is_export(path) else cytolora.load(path, device="cpu")
    found = opened.predict(pixels)
    return [repr(one) for one in found]


def read_embedded(world: World) -> Any:
    made = read_embedding(world.folder / "cells.parquet")
    return [made.made_from, made.table.drop_columns(["features"]).to_pylist(), digest(made.features)]


def read_division(world: World) -> Any:
    divided = read_split(world.folder / "split.csv", load_manifest(world.cells, "csv").with_hashes())
    found = [one.plain() for one in divided.findings]
    return {"values": [[one.path, one.subset] for one in divided.samples], "findings": found}


def read_weights(world: World) -> Any:
    inputs = Inputs(data={}, weights_dir=world.folder / "weights")
    return [inputs.weights_sha256("nano"), digest(inputs.weights_path("nano").read_bytes())]


def make(folder: Path) -> list[Kind]:
    """Makes everything once, and returns it by kind with what reading it gives."""
    world = World(folder=folder)
    write_synthetic(world.cells, num_images=72, num_slides=12, seed=1)
    (world.cells / "synthetic.json").unlink(missing_ok=True)
    add_stain(world.cells / "manifest.csv")
    with zipfile.ZipFile(folder / "cells.zip", "w") as packed:
        for path in sorted(world.cells.rglob("*")):
            packed.write(path, path.relative_to(world.cells))
    run_grid(world.grid(), world.inputs, world.runs, device=CPU, progress=SILENT)
    write_names(Store(world.runs), {one.setting_id: "a name" for one in read_settings(Store(world.runs).runs())})
    shutil.rmtree(world.runs / ".leakage")  # measured again under these names
    options = FitOptions(model="nano", max_steps=2, learning_rates=1e-3, cache=world.fit_cache)
    for name, method in (("linear", "linear"), ("lora", "lora"), ("packed.zip", "lora")):
        cytolora.fit(world.cells, folder / name, dataset="csv", method=method, options=options, progress=SILENT)
    cytolora.embed(world.cells, folder / "cells.parquet", model="nano", cache=world.cache, progress=SILENT)
    cytolora.split(world.cells, folder / "split.csv", "csv")
    nano = BACKBONES.get("nano")
    assert nano.weights is not None
    (folder / "weights").mkdir()
    keep(nano, nano.weights, folder / "weights", [])
    set_limit(folder / "bounded", 10**12)
    of_run, bundle = partial(partial, read_runs, world), partial(partial, read_bundle, world)
    kinds = [
        *(Kind(name=f"run: {name}", root=world.runs, pattern=f"*/{name}", read=of_run()) for name in RUN_FILES),
        Kind(name="names of settings", root=world.runs, pattern="names.json", read=lambda: read_names(world.runs)),
        Kind(name="leakage of runs", root=world.runs / ".leakage", read=partial(read_leakage, world)),
        *(
            Kind(name=f"cache: {name}", root=world.cache / name, read=partial(read, world))
            for name, read in CACHE_READERS.items()
        ),
        Kind(name="cache: adapters", root=world.fit_cache / "adapters", read=partial(read_adapter, world)),
        Kind(name="cache: archives", root=folder / "zips", read=partial(read_archive, world)),
        Kind(name="cache: limit", root=folder / "bounded", read=partial(read_limit, world)),
        Kind(name="images cut from a download", root=folder / "cut", read=partial(read_cut, world)),
        *(Kind(name=f"bundle: {name}", root=folder / name, read=bundle(name)) for name in ("linear", "lora")),
        Kind(name="bundle: zip file", root=folder, pattern="packed.zip", read=bundle("packed.zip")),
        Kind(name="embedding", root=folder, pattern="cells.parquet", read=partial(read_embedded, world)),
        Kind(name="split file", root=folder, pattern="split.csv", read=partial(read_division, world)),
        Kind(name="carried weights", root=folder / "weights", read=partial(read_weights, world)),
    ]
    if find_spec("onnxruntime") and find_spec("onnx"):
        cytolora.load(folder / "linear", device="cpu").export("onnx", folder / "onnx")
        kinds.append(Kind(name="export: onnx", root=folder / "onnx", read=bundle("onnx")))
    for kind in kinds:
        kind.read()
    return [completed(kind) for kind in kinds]


_MARKED = ("cache: pixels", "cache: features")
"""Kinds whose entries are marked as used when they are read, and of which others read some."""


def completed(kind: Kind) -> Kind:
    """Reads a kind once more, and notes what is there and what was read."""
    before = files_of(kind)
    for path in before if kind.name in _MARKED else ():
        os.utime(path, (0, 0))
    expected = canonical_json(kind.read())
    flipped = [path for path, content in before.items() if content and path.stat().st_mtime]
    return replace(kind, before=before, flipped=flipped, expected=expected)


RUN_FILES = (
    *("spec.json", "metrics.json", "predictions.parquet", "weights.safetensors", "provenance.json", "sha256sums.txt"),
)
CACHE_READERS: dict[str, Callable[[World], Any]] = {
    "pixels": read_pixels,
    "features": read_features,
    "text": read_text,
    "intervals": read_rows,
    "metadata": read_rows,
    "figures": read_drawing,
}


def add_stain(table: Path) -> None:
    """Adds a metadata column, so that reports break results down by it."""
    head, *lines = table.read_text().splitlines()
    rows = [f"{line},{'pap' if number % 2 else 'giemsa'}" for number, line in enumerate(lines)]
    table.write_text("\n".join([f"{head},stain", *rows]) + "\n")


def files_of(kind: Kind) -> dict[Path, bytes]:
    """Returns the content of a kind's files."""
    return {path: path.read_bytes() for path in sorted(kind.root.rglob(kind.pattern)) if path.is_file()}
