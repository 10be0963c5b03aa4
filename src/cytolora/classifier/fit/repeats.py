"""Repeated divisions of `fit`: the accuracy to expect of a head, whatever the division; on cached features."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from cytolora.classifier.fit.config import FitOptions
from cytolora.classifier.fit.ensemble import fit_frozen
from cytolora.classifier.fit.held_out import unit_names
from cytolora.classifier.fit.prepare import Prepared
from cytolora.classifier.fit.usable import DIVISION
from cytolora.config.run import SplitSpec
from cytolora.data.manifest import Split
from cytolora.data.splitting.splits import assign_subsets, draw
from cytolora.errors import ConfigError
from cytolora.metrics.calibration import probabilities
from cytolora.metrics.divisions import over_divisions
from cytolora.metrics.scores import score
from cytolora.training.session import Session

METRICS = ("accuracy", "balanced_accuracy")


def check_repeats(prepared: Prepared, options: FitOptions) -> None:
    """Raises a ConfigError where the data or the method leave nothing to divide anew."""
    if not options.repeats:
        return
    config, cells = prepared.config, prepared.cells
    if config.adapter is not None:
        raise ConfigError(
            f"--repeats divides anew for heads on frozen features, and {config.method} trains an adapter. Leave it "
            "out, or run a grid with --split-seeds."
        )
    if options.split is not None or any(one.subset == "test" for one in cells.found):
        raise ConfigError("--repeats divides anew, and the split file or the dataset says what test is. Leave it out.")
    if cells.num_added:
        raise ConfigError("--repeats and --add exclude each other: added cells belong to train alone. Leave one out.")


def repeat(prepared: Prepared, number: int, *, needed_groups: int) -> Mapping[str, Any]:
    """Trains and tests the head on ``number`` divisions, that of the bundle among them.

    Returns:
        By metric the mean, its spread over the divisions and an approximate interval; see docs/statistics.md.
    """
    progress = prepared.session.progress
    progress.begin("repeated divisions", number, "divisions")
    scores, ratios = [], []
    for seed in range(number):
        division = replace(DIVISION, seed=seed)
        split = _divided(prepared, division)
        scores.append(_scored(prepared, split, needed_groups))
        ratios.append(len(set(unit_names(split.test))) / len(set(unit_names(split.train))))
        progress.done(1)
    ratio = sum(ratios) / number if prepared.config.sampling.shots is None else None
    return {
        "num_divisions": number,
        "test_over_train": ratio,
        **{
            metric: asdict(over_divisions([[found[metric]] for found in scores], test_over_train=ratio))
            | {"values": [found[metric] for found in scores]}
            for metric in METRICS
        },
    }


def _divided(prepared: Prepared, division: SplitSpec) -> Split:
    manifest = prepared.cells.manifest
    undivided = replace(manifest, samples=tuple(replace(one, subset=None) for one in manifest.samples), split_rule="")
    return draw(assign_subsets(undivided, division), prepared.config.sampling, prepared.config.seed)


def _scored(prepared: Prepared, split: Split, needed_groups: int) -> dict[str, Any]:
    given, config = prepared.session, prepared.config
    session = Session(
        manifest=prepared.cells.manifest,
        given_split=split,
        backbone=given.backbone,
        inputs=given.inputs,
        cache=given.cache,
        device=given.device,
        encoders=given.encoders,
        proven=given.proven,
    )
    head = fit_frozen(session, split, config, needed_groups=needed_groups).head
    logits = head.logits(session.features_of(split.test))
    return score(session.labels_of(split.test), probabilities(logits, 1.0))
