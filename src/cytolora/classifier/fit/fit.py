"""From a folder of labelled cells to a bundle: looks, divides, trains, calibrates, tests once, writes.

Three parts of the images, no group in two of them: train decides the head or adapter, its learning rate and the
temperature; val decides operating point, prediction sets and what is unfamiliar; test decides nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from cytolora.classifier.bundle.files import BANK, REPORT, SEEN, Files, check_free, write_bundle
from cytolora.classifier.bundle.manifest import Contents, LocalFile, UsedBackbone, check_harmless
from cytolora.classifier.bundle.model_card import render_card
from cytolora.classifier.bundle.pack import adapter_files, head_file
from cytolora.classifier.bundle.rebuild import attached
from cytolora.classifier.decision import conformal
from cytolora.classifier.decision import ood as unfamiliar
from cytolora.classifier.decision import operating_point as thresholds
from cytolora.classifier.decision.decide import decide
from cytolora.classifier.fit.baselines import not_beaten, untrained
from cytolora.classifier.fit.calibrate import calibrated
from cytolora.classifier.fit.page import render_page
from cytolora.classifier.fit.prepare import Cells, summary
from cytolora.classifier.fit.recipe import FitOptions, Recipe
from cytolora.classifier.fit.train import Model, say_how_long, train_adapter, train_linear
from cytolora.classifier.inference.metrics import Labelled, assess
from cytolora.config.run import to_plain
from cytolora.core.files import json_bytes
from cytolora.core.progress import Progress
from cytolora.core.provenance import software
from cytolora.data.manifest import Manifest, Sample, Split
from cytolora.data.quality.scan import Records, pixel_hash
from cytolora.data.splitting.splits import draw
from cytolora.errors import DataError
from cytolora.training.resources import Inputs
from cytolora.training.session import Session

_FEW = 5
"""Test images of a class, below which its numbers say little."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What `fit` gives back: the bundle is on disk."""

    contents: Contents
    notes: tuple[str, ...] = field(default=())
    """What the user should know before trusting it."""
    seconds: float


def fit(
    cells: Cells,
    out: Path,
    recipe: Recipe,
    options: FitOptions,
    inputs: Inputs,
    *,
    cache: Path,
    device: torch.device,
    progress: Progress | None = None,
) -> Fitted:
    """Trains a classifier and writes it to ``out``, a folder or a zip file; test images are looked at once, at the end.

    What was computed is kept in ``cache``: killed at any moment and called again, it goes on, and ends with the same
    bytes (but for the times in the card) on the same machine with as many threads.

    Raises:
        ConfigError: If a option does not fit the data, or ``out`` holds something else.
        DataError: If an image cannot be read, or there are too few.
    """
    started, progress = perf_counter(), progress or Progress()
    check_free(out)
    check_harmless(recipe.backbone)
    thresholds.check_asked(options.positive, options.sensitivity, cells.manifest.classes)
    split = draw(cells.manifest, recipe.sampling, recipe.seed)
    session = _session(cells.manifest, split, recipe, inputs, cache, device, progress)
    say_how_long(session, recipe, split)
    train, needed = train_linear if recipe.adapter is None else train_adapter, conformal.needed_groups(options.coverage)
    model = train(session, recipe, split, needed)
    progress.begin("calibrating on held-out images", 0, "images")
    contents, bank = calibrated(_contents(session, recipe, split, model, cells), model, split, options)
    progress.begin("test set", 0, "images")
    contents = replace(contents, metrics=_metrics(contents, bank, model, split, session))
    notes = (*recipe.notes, *cells.notes, *model.notes, *_doubts(contents))
    files = _files(session, recipe, split, model, bank, cells)
    files[REPORT] = render_page(contents, summary(cells), notes, cells.manifest.counts()).encode()
    seconds = perf_counter() - started
    card = render_card(contents, notes, written=datetime.now(UTC), seconds=seconds)
    write_bundle(out, contents, files, card)
    return Fitted(contents=contents, notes=notes, seconds=seconds)


def _session(
    manifest: Manifest,
    split: Split,
    recipe: Recipe,
    inputs: Inputs,
    cache: Path,
    device: torch.device,
    progress: Progress,
) -> Session:
    """Lays out only the images that will be used: with few shots most of train is not."""
    for part, samples in (("validation", split.val), ("test", split.test)):
        if not samples:
            raise DataError(f"{manifest.name} has no {part} images; thresholds and numbers need some. Add a split.")
    inputs.fetch_weights(recipe.backbone.name, progress)
    return Session(
        manifest=manifest,
        given_split=split,
        backbone=recipe.backbone,
        inputs=inputs,
        cache=cache,
        device=device,
        progress=progress,
    )


def _contents(session: Session, recipe: Recipe, split: Split, model: Model, cells: Cells) -> Contents:
    spec, checkpoint = recipe.backbone, session.inputs.weights_path(recipe.backbone.name)
    return Contents(
        classes=session.manifest.classes,
        backbone=UsedBackbone(
            name=spec.name,
            sha256=session.inputs.weights_sha256(spec.name),
            revision=spec.hub.revision if spec.hub is not None else None,
            spec=replace(spec, weights=None),
            local_file=LocalFile(path=str(checkpoint.absolute()), num_bytes=checkpoint.stat().st_size),
        ),
        preprocess=spec.preprocess,
        method=recipe.method,
        adapter=recipe.adapter,
        seed=recipe.seed,
        temperature=model.temperature,
        training={
            "dataset": cells.manifest.name,
            "data_fingerprint": cells.manifest.fingerprint,
            "split_fingerprint": split.fingerprint,
            "split_rule": cells.manifest.split_rule,
            "group_rule": cells.manifest.group_rule,
            "num_corrected_labels": cells.num_corrected,
            "num_added_images": sum(one.elsewhere is not None for one in split.train),
            "images": {"train": len(split.train), "calibration": len(split.val), "test": len(split.test)},
            "groups": {
                name: len({one.group for one in part} - {None})
                for name, part in (("train", split.train), ("calibration", split.val), ("test", split.test))
            },
            "amount": recipe.sampling.amount,
            "settings": to_plain(recipe.train),
            "learning_rate": model.rate,
            "num_steps": model.num_steps,
            "num_trainable": model.num_trainable,
            "chosen_on": model.chosen_on,
            "tried": [to_plain(one) for one in model.tried],
            "device": session.device.type,
            "threads": torch.get_num_threads(),
        },
        metrics={},
        versions=software()["versions"],
    )


def _metrics(
    contents: Contents, bank: unfamiliar.Features, model: Model, split: Split, session: Session
) -> dict[str, Any]:
    """Measures the model on the test images, and beside a head what needs no training."""
    samples = split.test
    logits, features = model.outputs(samples)
    paths = [sample.path for sample in samples]
    found = Labelled(
        predictions=decide(contents, paths, logits, features, bank),
        labels=session.labels_of(samples).numpy(),
        paths=paths,
        groups=[sample.group for sample in samples],
    )
    test = assess(contents, found)
    return {"test": test} if contents.adapter is not None else {"test": test, "neighbours": untrained(session, split)}


def _files(
    session: Session, recipe: Recipe, split: Split, model: Model, bank: unfamiliar.Features, cells: Cells
) -> Files:
    files = {
        **head_file(model.state),
        BANK: unfamiliar.to_bytes(bank),
        SEEN: json_bytes(_seen(split, cells.found, cells.records)),
    }
    if recipe.adapter is None:
        return files
    classifier = attached(session.encoder, recipe.method, recipe.adapter, model.state, recipe.seed)
    return {**files, **adapter_files(classifier)}


def _seen(split: Split, samples: Sequence[Sample], records: Records) -> dict[str, list[str]]:
    """Hashes of what no test may use again: images by file and by pixels, and by file their sisters left over."""
    parts = {"train": split.train, "calibration": split.val}
    used = {sample.path for part in (split.train, split.val, split.test) for sample in part}
    groups = {sample.group for part in parts.values() for sample in part} - {None}
    in_test = {sample.sha256 for sample in split.test}  # by another name; the one in test is tested on
    sisters = [one for one in samples if one.group in groups and one.path not in used and one.sha256 not in in_test]
    by_file = {**parts, "trained_groups": sisters}
    found = {name: sorted({sample.sha256 for sample in part}) for name, part in by_file.items()}
    for name, part in parts.items():
        found[f"{name}_pixels"] = sorted({pixel_hash(records[sample.path]) for sample in part})
    return found


def _doubts(contents: Contents) -> list[str]:
    """What the numbers themselves say against trusting them."""
    found, test, sets = [], contents.metrics["test"], contents.conformal
    assert sets is not None
    needed = conformal.needed_groups(sets.coverage)
    also = ", even with those of training, predicted by cross-validation" if sets.is_folded else ""
    if sets.num_groups < needed:
        found.append(
            f"Prediction sets hold every class: {sets.coverage:.0%} coverage takes at least {needed} calibration "
            f"groups, there are {sets.num_groups}{also}. Every image is referred until there are more."
        )
    elif sets.is_folded:
        found.append(
            f"Held-out groups were fewer than the {needed} that prediction sets take, so those of training were added, "
            "predicted by cross-validation: the coverage is then not guaranteed; the page says what was measured."
        )
    small = [row["label"] for row in test["classes"] if row["n"] < _FEW]
    if small:
        found.append(f"Fewer than {_FEW} test images of {', '.join(small)}: their numbers say little.")
    if "neighbours" in contents.metrics:
        found += not_beaten(contents.metrics["neighbours"], test["balanced_accuracy"])
    return [*found, *test["warnings"]]
