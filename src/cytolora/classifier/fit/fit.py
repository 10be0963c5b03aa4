"""Classifier fitting: prepare, train, calibrate, assess, assemble.

Three parts of the images, no group in two of them: train decides the head or adapter, its learning rate and the
temperature; val decides the operating point, prediction sets and the out-of-distribution threshold; test decides
nothing.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import torch

from cytolora.classifier.bundle.files import check_free
from cytolora.classifier.bundle.manifest import BundleManifest, check_harmless
from cytolora.classifier.decision.conformal import needed_groups
from cytolora.classifier.decision.operating_point import check_asked
from cytolora.classifier.fit.assemble import assemble
from cytolora.classifier.fit.assess import assess, cautions
from cytolora.classifier.fit.calibrate import calibrate
from cytolora.classifier.fit.config import FitConfig, FitOptions
from cytolora.classifier.fit.leakage import leakage_of, with_leakage
from cytolora.classifier.fit.marks import marks
from cytolora.classifier.fit.prepare import Cells, prepare
from cytolora.classifier.fit.repeats import check_repeats, repeat
from cytolora.classifier.fit.train import train
from cytolora.core.progress import Progress
from cytolora.training.resources import Inputs


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """The result of `fit`; the bundle is on disk."""

    manifest: BundleManifest
    notes: tuple[str, ...]
    """What the user should know before trusting it, besides the findings of the data."""
    seconds: float


def fit(
    cells: Cells,
    out: Path,
    config: FitConfig,
    options: FitOptions,
    inputs: Inputs,
    *,
    cache: Path,
    device: torch.device,
    progress: Progress | None = None,
) -> Fitted:
    """Trains a classifier and writes its bundle to ``out``, a folder or a zip file.

    What was computed is kept in ``cache``: killed at any moment and called again, it goes on, and ends with the same
    bytes (but for the times in the card) on the same machine with as many threads.

    Raises:
        ConfigError: If an option does not fit the data, or ``out`` holds something else.
        DataError: If an image cannot be read, or there are too few.
    """
    started, progress = perf_counter(), progress or Progress()
    check_free(out)
    check_harmless(config.backbone)
    check_asked(options.positive, options.sensitivity, cells.manifest.classes)
    prepared = prepare(cells, config, inputs, cache=cache, device=device, progress=progress)
    check_repeats(prepared, options)
    trained = train(prepared, options.coverage)
    progress.begin("calibrating on held-out images", 0, "images")
    calibrated = calibrate(prepared, trained, options)
    progress.begin("test set", 0, "images")
    metrics = with_leakage(assess(prepared, trained, calibrated), leakage_of(prepared, trained))
    if options.repeats:
        repeated = repeat(prepared, options.repeats, needed_groups=needed_groups(options.coverage))
        metrics = {**metrics, "repeats": repeated}
    notes = (*config.notes, *cells.statements, *trained.notes, *cautions(calibrated.rules, metrics))
    found = marks(prepared, trained, metrics["test"])
    texts = [str(one) for one in found]
    bundle = assemble(prepared, trained, calibrated, metrics, [note for note in notes if note not in texts], found)
    seconds = perf_counter() - started
    bundle.write(out, written=datetime.now(UTC), seconds=seconds)
    return Fitted(manifest=bundle.manifest, notes=tuple(dict.fromkeys((*notes, *texts))), seconds=seconds)
