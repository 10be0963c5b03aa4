"""Prediction in shards: the table of ``cytolora predict``, row by row, in a folder of Parquet files."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from cytolora.classifier.bundle.hub import local
from cytolora.classifier.bundle.manifest import to_text
from cytolora.classifier.inference.classifier import Classifier
from cytolora.classifier.inference.image_sources import Source
from cytolora.classifier.inference.images_read import ImagesRead
from cytolora.classifier.inference.onnx_predictor import OnnxModel
from cytolora.classifier.inference.predictions import Predictions, schema
from cytolora.classifier.inference.predictor import Predictor
from cytolora.classifier.inference.table import Summary, counted, look
from cytolora.config.run import FeaturePrecision
from cytolora.core.files import sha256_text
from cytolora.core.findings import Finding, gravest_first
from cytolora.core.progress import Progress
from cytolora.errors import BundleError, passing
from cytolora.sharding.folder import write_part
from cytolora.sharding.items import items_of, of_sources
from cytolora.sharding.run import Job, Sharding, run_shards
from cytolora.sharding.worker import WriteShard


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictTask:
    """A bundle or an export of one, by its path."""

    path: Path
    """Absolute."""
    contents_sha256: str
    """Of what it describes: classes, rules, and the SHA-256 of each of its files and of its backbone."""
    checkpoint: Path | None
    """The backbone's file, absolute; None for an export."""
    precision: FeaturePrecision

    @classmethod
    def of(cls, model: Predictor[Any]) -> "PredictTask":
        """Returns the task of what a driver has opened."""
        return cls(
            path=local(model.name).absolute(),
            contents_sha256=_sha256_of(model),
            checkpoint=model.checkpoint().absolute() if isinstance(model, Classifier) else None,
            precision=model.precision,
        )

    def open(self, device: torch.device, threads: int) -> WriteShard:
        """Opens the model; raises as ``opened`` does."""
        return partial(_write, self.opened(device, threads))

    def opened(self, device: torch.device, threads: int) -> Predictor[Any]:
        """Opens the model and compares it with the driver's.

        Raises:
            BundleError: If it is damaged, or another one than the driver opened.
        """
        model: Predictor[Any]
        if self.checkpoint is None:
            model = OnnxModel.load(self.path, threads=threads)
        else:
            model = Classifier.load(self.path, weights=self.checkpoint, device=device, precision=self.precision)
        if _sha256_of(model) != self.contents_sha256:
            raise passing(BundleError(f"{self.path} was replaced since the command began. Start it again."))
        return model


def predict_shards(
    model: Predictor[Any],
    sources: Iterable[Source],
    paths: Sequence[str],
    out: Path,
    how: Sharding,
    *,
    left_out: Iterable[Finding] = (),
    device: torch.device,
    progress: Progress,
) -> Summary:
    """Predicts images in shards; returns counts and findings over all of them, as ``predict_table`` does.

    Args:
        model: Opened; each worker opens it again.
        paths: As they were named: the folder belongs to them.
        left_out: Findings of files that are no images.
        device: Of all workers; of several GPUs each process takes one.

    Raises:
        ConfigError: If the folder holds something else, or the engine cannot do it.
        DataError: If a shard cannot be written.
        EngineError: If workers cannot be started, or die at one shard again and again.
    """
    job = Job(kind="predict", task=PredictTask.of(model), about=about_model(model), model=model.name, paths=paths)
    told = run_shards(job, of_sources(sources), out, how, device=device, progress=progress)
    read = ImagesRead(model.decoding)
    for one in told:
        read.add_plain(one["read"])
    columns = zip(*(one["counts"] for one in told), strict=True)
    num_images, num_errors, num_referred, num_out = (sum(column) for column in columns)
    return Summary(
        num_images=num_images,
        num_errors=num_errors,
        num_referred=num_referred,
        num_out_of_distribution=num_out,
        findings=tuple(gravest_first([*model.findings(), *read.findings(), *left_out])),
    )


def about_model(model: Predictor[Any]) -> dict[str, Any]:
    """Returns what of a model decides its predictions, plain."""
    return {
        "model_sha256": _sha256_of(model),
        "backbone": model.contents.backbone.name,
        "classes": list(model.classes),
        "is_export": not isinstance(model, Classifier),
        "precision": model.precision,
    }


def _write(
    model: Predictor[Any], entries: Sequence[Sequence[Any]], path: Path, on_images: Callable[[int], None]
) -> None:
    read, counts = ImagesRead(model.decoding), [0, 0, 0, 0]

    def tables() -> Iterator[pa.Table]:
        nonlocal counts
        for batch in look(model, [item.source for item in items_of(entries)]):
            predictions = [one.prediction for one in batch]
            read.add(batch)
            counts = [old + new for old, new in zip(counts, counted(predictions), strict=True)]
            yield Predictions(tuple(predictions), model.classes).to_arrow()
            on_images(len(batch))

    write_part(path, schema(model.classes), tables(), lambda: {"counts": counts, "read": read.plain()})


def _sha256_of(model: Predictor[Any]) -> str:
    return sha256_text(to_text(model.contents))
