"""Frozen features in shards: a folder of Parquet files; an image that cannot be read is a row with an error."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from cytolora.classifier.inference.images_read import ImagesRead
from cytolora.classifier.inference.predictor import NOT_SEEN, as_data_error
from cytolora.classifier.inference.table import NO_PIXELS
from cytolora.config.reading import Decoding
from cytolora.config.run import FeaturePrecision, to_plain
from cytolora.core.findings import Finding, gravest_first
from cytolora.core.progress import Progress
from cytolora.data.imaging.decode import Decoded, decode_image
from cytolora.data.imaging.pixels import CANNOT_READ
from cytolora.data.imaging.room import one_image
from cytolora.data.imaging.views import evaluation_view
from cytolora.data.manifest import METADATA_PREFIX
from cytolora.errors import DataError, WeightsError, passing
from cytolora.models.backbones.registry import BackboneSpec
from cytolora.models.checkpoints.loading import load_encoder
from cytolora.models.checkpoints.shards import checkpoint_sha256
from cytolora.models.encoder import Encoder
from cytolora.models.kernels.cpu import for_inference
from cytolora.sharding.folder import write_part
from cytolora.sharding.items import Item, items_of
from cytolora.sharding.run import Job, Sharding, run_shards
from cytolora.sharding.worker import WriteShard
from cytolora.training.features import batch_size, encode, side_by_side
from cytolora.training.resources import Inputs
from cytolora.training.session import recipe_of

_TOGETHER = 256
"""Images in memory at once."""
_NUM_THREADS = 4
"""Images read side by side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedTask:
    """A backbone with its checkpoint."""

    backbone: BackboneSpec
    checkpoint: Path
    """Absolute."""
    weights_sha256: str
    precision: FeaturePrecision
    decoding: Decoding
    metadata: tuple[str, ...]
    """Names of the further columns."""

    def open(self, device: torch.device, threads: int) -> WriteShard:
        """Loads the encoder.

        Raises:
            WeightsError: If the checkpoint is another one than the driver's.
        """
        found = checkpoint_sha256(self.checkpoint)
        if found != self.weights_sha256:
            raise passing(
                WeightsError(
                    f"{self.checkpoint} has SHA-256 {found[:12]} here, and {self.weights_sha256[:12]} where the "
                    "command began. Name one file that all machines see, and let nothing write to it."
                )
            )
        encoder = load_encoder(self.backbone, self.checkpoint, trust_weights=True)
        return _Writer(task=self, encoder=for_inference(encoder, device, self.precision).to(device), device=device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """Counts of a finished command."""

    num_images: int
    num_errors: int
    feature_dim: int
    findings: tuple[Finding, ...]
    """Of the images, the gravest first."""


def embed_shards(
    items: Iterable[Item],
    paths: Sequence[str],
    out: Path,
    how: Sharding,
    *,
    backbone: BackboneSpec,
    inputs: Inputs,
    precision: FeaturePrecision,
    decoding: Decoding,
    metadata: Sequence[str] = (),
    device: torch.device,
    progress: Progress,
) -> Embedded:
    """Writes the frozen features of images in shards; no other cache is kept or read.

    Args:
        paths: As they were named: the folder belongs to them.
        metadata: Names of the images' further columns.
        device: Of all workers; of several GPUs each process takes one.

    Raises:
        ConfigError: If the folder holds something else, or the engine cannot do it.
        DataError: If a shard cannot be written, or an image of a dataset has changed since it was read.
        EngineError: If workers cannot be started, or die at one shard again and again.
    """
    task = EmbedTask(
        backbone=backbone,
        checkpoint=inputs.weights_path(backbone.name).absolute(),
        weights_sha256=inputs.weights_sha256(backbone.name),
        precision=precision,
        decoding=decoding,
        metadata=tuple(metadata),
    )
    about = {
        "backbone": backbone.name,
        "weights_sha256": task.weights_sha256,
        "preprocess": to_plain(backbone.preprocess),
        "recipe": recipe_of(backbone, precision),
        "decoding": to_plain(decoding),
        "metadata": list(metadata),
    }
    job = Job(kind="embed", task=task, about=about, model=backbone.name, paths=paths)
    told = run_shards(job, items, out, how, device=device, progress=progress)
    read = ImagesRead(decoding)
    for one in told:
        read.add_plain(one["read"])
    return Embedded(
        num_images=sum(one["num_images"] for one in told),
        num_errors=sum(one["num_errors"] for one in told),
        feature_dim=told[0]["feature_dim"],
        findings=tuple(gravest_first(read.findings())),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """An image that was read, or why it was not."""

    sha256: str | None = None
    view: Tensor | None = None
    decoded: Decoded | None = None
    error: DataError | None = None


@dataclass(frozen=True, kw_only=True)
class _Writer:
    task: EmbedTask
    encoder: Encoder
    device: torch.device

    def __call__(self, entries: Sequence[Sequence[Any]], path: Path, on_images: Callable[[int], None]) -> None:
        """Writes the features of some images to a file."""
        items, read = items_of(entries), ImagesRead(self.task.decoding)
        schema, num_errors = self._schema(), 0

        def tables() -> Iterator[pa.Table]:
            nonlocal num_errors
            with ThreadPoolExecutor(_NUM_THREADS) as threads:
                for start in range(0, len(items), _TOGETHER):
                    some = items[start : start + _TOGETHER]
                    seen = list(threads.map(self._see, some))
                    num_errors += _note(read, some, seen)
                    yield self._table(some, seen, schema)
                    on_images(len(some))

        def about() -> Mapping[str, Any]:
            told = {"num_images": len(items), "num_errors": num_errors, "feature_dim": self.encoder.feature_dim}
            return {**told, "read": read.plain()}

        write_part(path, schema, tables(), about)

    def _see(self, item: Item) -> _Seen:
        sha256 = None
        try:
            with one_image():
                content = item.source.content()
                sha256 = hashlib.sha256(content).hexdigest()
                decoded = decode_image(BytesIO(content), item.source.name, decoding=self.task.decoding)
                view = evaluation_view(decoded.pixels, self.task.backbone.preprocess)
        except NOT_SEEN as error:
            return _Seen(sha256=sha256, error=as_data_error(error))
        if item.sha256 not in (None, sha256):
            changed = (
                f"{item.source.name} has changed since the dataset was read. Let nothing write to it, and run again."
            )
            raise passing(DataError(changed))
        return _Seen(sha256=sha256, view=view, decoded=replace(decoded, pixels=NO_PIXELS))

    def _table(self, items: Sequence[Item], seen: Sequence[_Seen], schema: pa.Schema) -> pa.Table:
        views = [one.view for one in seen if one.view is not None]
        rows = self._features(views)
        flat = np.zeros((len(items), self.encoder.feature_dim), np.float32)
        flat[[one.view is not None for one in seen]] = rows
        missing = pa.array([one.view is None for one in seen])
        features = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1], mask=missing)
        texts = {
            "path": [item.source.name for item in items],
            "label": [item.label for item in items],
            "subset": [item.subset for item in items],
            "group": [item.group for item in items],
            "sha256": [one.sha256 for one in seen],
            **{
                METADATA_PREFIX + name: [dict(item.metadata).get(name) for item in items] for name in self.task.metadata
            },
            "error": [None if one.error is None else " ".join(str(one.error).split()) for one in seen],
        }
        return pa.table([*(pa.array(column, pa.string()) for column in texts.values()), features], schema=schema)

    def _features(self, views: Sequence[Tensor]) -> np.ndarray:
        if not views:
            return np.empty((0, self.encoder.feature_dim), np.float32)
        size, preprocess = batch_size(self.device), self.task.backbone.preprocess
        batches = [views[start : start + size] for start in range(0, len(views), size)]
        with side_by_side(self.device) as mapped:
            rows = torch.cat(list(mapped(lambda some: encode(self.encoder, some, preprocess, self.device), batches)))
        if not torch.isfinite(rows).all():
            raise WeightsError(
                f"{self.task.backbone.name} gives features that are no finite numbers: the checkpoint is damaged, or "
                "of another model. Fetch it again."
            )
        return rows.numpy()

    def _schema(self) -> pa.Schema:
        metadata = [METADATA_PREFIX + name for name in self.task.metadata]
        names = ["path", "label", "subset", "group", "sha256", *metadata, "error"]
        features = pa.field("features", pa.list_(pa.float32(), self.encoder.feature_dim))
        return pa.schema([*(pa.field(name, pa.string()) for name in names), features])


def _note(read: ImagesRead, items: Sequence[Item], seen: Sequence[_Seen]) -> int:
    """Notes how images were read; returns the number of those that were not."""
    for item, one in zip(items, seen, strict=True):
        if one.error is not None:
            read.add_error(item.source.name, getattr(one.error, "code", CANNOT_READ))
        elif one.decoded is not None:
            read.add_read(item.source.name, one.decoded)
    return sum(one.error is not None for one in seen)
