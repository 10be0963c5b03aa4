"""Bundle of a short LoRA training and its ONNX export, each opened again and compared."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from cytolora.classifier.export.export import MAX_PROBABILITY_DIFFERENCE, export
from cytolora.classifier.fit.assemble import assemble
from cytolora.classifier.fit.assess import assess
from cytolora.classifier.fit.calibrate import calibrate
from cytolora.classifier.fit.config import FitOptions, choose_config
from cytolora.classifier.fit.prepare import prepare, read_cells
from cytolora.classifier.fit.train import train
from cytolora.classifier.inference.classifier import Classifier
from cytolora.classifier.trial.part import Part, judged
from cytolora.core.progress import Progress
from cytolora.metrics.calibration import probabilities
from cytolora.training.resources import Inputs

BUNDLE, ONNX = "bundle", "ONNX export"
_STEPS = 4
_LEARNING_RATE = 1e-3


def try_bundle(
    name: str, inputs: Inputs, cells: Path, out: Path, *, cache: Path, device: torch.device, progress: Progress
) -> Part:
    """Trains a few steps as `fit` does, writes a bundle to ``out``, opens it, compares predictions on test cells."""
    options = FitOptions(model=name, method="lora", max_steps=_STEPS, learning_rates=_LEARNING_RATE)
    config = choose_config(options, inputs, device.type)
    read = read_cells(cells, "synthetic", cache=cache)
    prepared = prepare(read, config, inputs, cache=cache, device=device, progress=progress)
    trained = train(prepared, options.coverage)
    calibrated = calibrate(prepared, trained, options)
    metrics = assess(prepared, trained, calibrated)
    progress.begin("bundle", 0, "")
    assemble(prepared, trained, calibrated, metrics, (), ()).write(out, written=datetime.now(UTC), seconds=0)
    opened = Classifier.load(out, weights=inputs.weights_path(name), device=device)
    samples = prepared.split.test
    expected = probabilities(trained.outputs(samples)[0], trained.temperature)
    views = [opened.view(cells / sample.path) for sample in samples]
    found = probabilities(opened.outputs(views)[0], opened.contents.temperature)
    distance = float(np.abs(found - expected).max())
    num_other = int((found.argmax(axis=1) != expected.argmax(axis=1)).sum())
    return judged(
        BUNDLE,
        good=distance <= MAX_PROBABILITY_DIFFERENCE and not num_other,
        text=f"Written, opened again: {num_other} of {len(samples)} images of another class, probabilities differ by "
        f"up to {distance:.1e}, allowed {MAX_PROBABILITY_DIFFERENCE:.0e}.",
        figures={"images": len(samples), "other_classes": num_other, "probability_difference": distance},
    )


def try_onnx(bundle: Path, weights: Path, out: Path, *, device: torch.device, progress: Progress) -> Part:
    """Exports a bundle to ONNX and opens it again; ``export`` compares the predictions.

    Raises:
        ConfigError: If the extra is not installed, or the encoder is too large for one file.
        BundleError: If the export answers differently.
    """
    opened = Classifier.load(bundle, weights=weights, device=device)
    agreed = export(opened, "onnx", out, force_licence=True, progress=progress)  # it is thrown away with its folder
    return judged(
        ONNX,
        good=True,
        text=f"Written, opened again: {agreed.num_flips} of {agreed.num_images} images of another class, "
        f"probabilities differ by up to {agreed.probability:.1e}, allowed {MAX_PROBABILITY_DIFFERENCE:.0e}.",
        figures={
            "images": agreed.num_images,
            "other_classes": agreed.num_flips,
            "probability_difference": agreed.probability,
        },
    )
