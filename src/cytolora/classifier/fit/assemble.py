"""Assembly stage of `fit`: the manifest, files and model card of a bundle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from cytolora.classifier.bundle.files import ANCHORS, BANK, REPORT, SEEN, Files, write_bundle
from cytolora.classifier.bundle.manifest import BundleManifest, LocalFile, UsedBackbone
from cytolora.classifier.bundle.model_card import render_card
from cytolora.classifier.bundle.pack import adapter_files, head_file
from cytolora.classifier.bundle.rebuild import attached
from cytolora.classifier.decision import ood, transduction
from cytolora.classifier.fit.assess import Metrics
from cytolora.classifier.fit.calibrate import Calibrated
from cytolora.classifier.fit.prepare import Prepared, summary
from cytolora.classifier.fit.prompts import wording
from cytolora.classifier.fit.train import Trained
from cytolora.config.run import method_kind, to_plain
from cytolora.core.files import canonical_json, json_bytes, sha256_text
from cytolora.core.findings import Finding, gravest_first, problems
from cytolora.core.provenance import software
from cytolora.data.manifest import Sample
from cytolora.data.quality.scan import pixel_hash
from cytolora.models.checkpoints.shards import checkpoint_bytes


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """A bundle that only has to be written."""

    manifest: BundleManifest
    files: Files
    notes: tuple[str, ...]
    """What the user should know before trusting it."""

    def write(self, out: Path, *, written: datetime, seconds: float) -> None:
        """Writes the bundle with its card, the only file with times in it."""
        card = render_card(self.manifest, self.files, self.notes, written=written, seconds=seconds)
        write_bundle(out, self.manifest, self.files, card)


def assemble(
    prepared: Prepared,
    trained: Trained,
    calibrated: Calibrated,
    metrics: Metrics,
    notes: Sequence[str],
    marks: Sequence[Finding],
) -> Assembled:
    """Builds the manifest, once and complete but for the hashes of files, which writing adds.

    Args:
        notes: What the user should know before trusting it, besides the findings.
        marks: Findings about its numbers.
    """
    from cytolora.classifier.fit.page import render_page  # matplotlib, which nothing needs before the figures

    rules, config = calibrated.rules, prepared.config
    manifest = BundleManifest(
        classes=rules.classes,
        backbone=_used_backbone(prepared),
        preprocess=config.backbone.preprocess,
        decoding=prepared.cells.manifest.decoding,
        precision=None if config.precision == "fp32" else config.precision,
        method=config.method,
        members=tuple(one.member for one in trained.members) or None,
        adapter=config.adapter,
        seed=config.seed,
        temperature=rules.temperature,
        operating_point=rules.operating_point,
        conformal=rules.conformal,
        unfamiliar=rules.out_of_distribution,
        training=_training(prepared, trained, marks),
        metrics=metrics,
        versions=software()["versions"],
    )
    counts = prepared.cells.manifest.counts()
    page = render_page(manifest, summary(prepared.cells), notes, counts)
    files = {**_files(prepared, trained, calibrated), REPORT: page.encode()}
    return Assembled(manifest=manifest, files=files, notes=tuple(notes))


def _used_backbone(prepared: Prepared) -> UsedBackbone:
    spec, inputs = prepared.config.backbone, prepared.session.inputs
    checkpoint = inputs.weights_path(spec.name)
    return UsedBackbone(
        name=spec.name,
        sha256=inputs.weights_sha256(spec.name),
        revision=spec.hub.revision if spec.hub is not None else None,
        spec=replace(spec, weights=None),
        local_file=LocalFile(path=str(checkpoint.absolute()), num_bytes=checkpoint_bytes(checkpoint)),
    )


def _soft_labels(samples: Sequence[Sample]) -> str:
    """Returns a SHA-256 of the shares of the classes that were trained on, by image; empty where there are none."""
    shares = {sample.path: list(sample.shares) for sample in samples if sample.shares}
    return sha256_text(canonical_json(shares)) if shares else ""


def _training(prepared: Prepared, trained: Trained, marks: Sequence[Finding]) -> Mapping[str, Any]:
    manifest, config, split = prepared.cells.manifest, prepared.config, prepared.split
    of_weights = problems(prepared.session.weight_findings)
    parts = {"train": split.train, "calibration": split.val, "test": split.test}
    return {
        "dataset": manifest.name,
        "data_fingerprint": manifest.fingerprint,
        "split_fingerprint": split.fingerprint,
        "split_rule": manifest.split_rule,
        "group_rule": manifest.group_rule,
        "findings": [one.plain() for one in gravest_first((*prepared.cells.findings, *of_weights, *marks))],
        "num_corrected_labels": prepared.cells.num_corrected,
        "num_added_images": sum(sample.is_added for sample in split.train),
        **({"soft_labels": soft} if (soft := _soft_labels(split.train)) else {}),
        "images": {name: len(part) for name, part in parts.items()},
        "groups": {name: len({sample.group for sample in part} - {None}) for name, part in parts.items()},
        "amount": config.sampling.amount,
        "settings": to_plain(config.protocol.train) if trained.num_steps else {},
        "learning_rate": trained.learning_rate,
        "num_steps": trained.num_steps,
        "num_trainable": trained.num_trainable,
        "chosen_on": trained.chosen_on,
        "tried": [to_plain(scores) for scores in trained.tried],
        **({"prompt": wording(manifest)} if method_kind(config.method) == "prompt" else {}),
        **({"members": [one.plain() for one in trained.members]} if trained.members else {}),
        "device": prepared.session.device.type,
        "threads": torch.get_num_threads(),
    }


def _files(prepared: Prepared, trained: Trained, calibrated: Calibrated) -> Files:
    config = prepared.config
    files = {**head_file(trained.state), BANK: ood.to_bytes(calibrated.bank), SEEN: json_bytes(_seen(prepared))}
    if calibrated.anchors is not None:
        files[ANCHORS] = transduction.to_bytes(calibrated.anchors)
    if config.adapter is None:
        return files
    encoder = prepared.session.encoder
    return {**files, **adapter_files(attached(encoder, config.method, config.adapter, trained.state, config.seed))}


def _seen(prepared: Prepared) -> dict[str, list[str]]:
    """Hashes of images that no later test may use, to prevent leakage.

    By file and by pixels those of training and calibration; by file the unused images of the same groups.
    """
    split, records = prepared.split, prepared.cells.records
    parts = {"train": split.train, "calibration": split.val}
    hashes = {name: _hashes(part) for name, part in {**parts, "trained_groups": _same_groups(prepared)}.items()}
    for name, part in parts.items():
        hashes[f"{name}_pixels"] = sorted({pixel_hash(records[sample.path]) for sample in part})
    return hashes


def _hashes(samples: Sequence[Sample]) -> list[str]:
    return sorted({sample.sha256 for sample in samples})


def _same_groups(prepared: Prepared) -> list[Sample]:
    """Returns the unused images of groups that training or calibration had, but for copies of test images."""
    split = prepared.split
    used = {sample.path for part in (split.train, split.val, split.test) for sample in part}
    groups = {sample.group for part in (split.train, split.val) for sample in part} - {None}
    in_test = set(_hashes(split.test))
    return [
        sample
        for sample in prepared.cells.found
        if sample.group in groups and sample.path not in used and sample.sha256 not in in_test
    ]
