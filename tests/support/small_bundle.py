"""A bundle in a second: the built-in backbone, a drawn head, thresholds made up; for whatever opens bundles."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cytolora.classifier.bundle.files import BANK, CONTENTS, SEEN, write_bundle
from cytolora.classifier.bundle.manifest import BundleManifest, UsedBackbone
from cytolora.classifier.bundle.pack import adapter_files, head_file
from cytolora.classifier.decision.ood import to_bytes, unit
from cytolora.classifier.decision.rules import Conformal, OperatingPoint, OutOfDistribution
from cytolora.config.run import LINEAR, AdapterSpec
from cytolora.core.files import canonical_json, sha256_file, sha256_text
from cytolora.models.adapters.attach import attach
from cytolora.models.adapters.methods import METHODS
from cytolora.models.backbones.registry import NANO, BackboneSpec
from cytolora.models.checkpoints.loading import load_encoder
from cytolora.models.encoder_with_head import EncoderWithHead, trained_state

CLASSES = ("ascus", "hsil", "lsil", "nilm")
HEAVY = (
    "torch", "torchvision", "timm", "peft", "transformers", "open_clip", "scipy", "huggingface_hub",
    "matplotlib", "fonttools", "fontTools", "pooch", "requests", "tqdm",
)  # fmt: skip
"""What an ONNX export is used without."""


def shortest(contents: BundleManifest) -> BundleManifest:
    """The same bundle for a backbone that scales the shorter edge, as most do; the built-in one scales both."""
    preprocess = replace(contents.preprocess, resize="shortest")
    spec = replace(contents.backbone.spec, preprocess=preprocess)
    return replace(contents, preprocess=preprocess, backbone=replace(contents.backbone, spec=spec))


def write_small_bundle(
    out: Path,
    method: str = LINEAR,
    adapter: AdapterSpec | None = None,
    *,
    spec: BackboneSpec = NANO,
    drawn: int = 0,
    **changes: Any,
) -> Path:
    """Writes a bundle at ``out``, with an adapter that does something where the method has one.

    Args:
        adapter: That of the method; one that ``fit`` would take if None.
        spec: Of the backbone, with the path of its weights.
        drawn: Seed of the trained weights.
    """
    assert spec.weights is not None
    adapter = adapter if adapter or method == LINEAR else METHODS.get(method).fit_adapter
    with torch.random.fork_rng():
        torch.manual_seed(drawn)
        encoder = load_encoder(spec, spec.weights)
        classifier = EncoderWithHead(encoder if adapter is None else attach(encoder, method, adapter), len(CLASSES))
        for parameter in classifier.trainable():
            torch.nn.init.normal_(parameter, std=0.1)
    bank = np.random.default_rng(0).normal(size=(20, spec.feature_dim or 1)).astype(np.float32)
    contents = BundleManifest(
        classes=CLASSES,
        backbone=UsedBackbone(
            name=spec.name,
            sha256=sha256_file(spec.weights),
            revision=None,
            spec=replace(spec, weights=None),
        ),
        preprocess=spec.preprocess,
        method=method,
        adapter=adapter,
        seed=0,
        temperature=1.5,
        operating_point=OperatingPoint(
            positive=("hsil", "lsil"),
            asked=0.95,
            threshold=0.3,
            sensitivity=0.96,
            sensitivity_low=0.9,
            sensitivity_high=0.99,
            specificity=0.8,
            specificity_low=0.7,
            specificity_high=0.9,
            num_positive=50,
        ),
        conformal=Conformal(coverage=0.9, quantile=0.8, num_groups=40),
        unfamiliar=OutOfDistribution(neighbours=5, threshold=1.2, quantile=0.99),
        training={"data_fingerprint": "0" * 64},
        metrics={"test": {"accuracy": 0.5}},
        versions={"cytolora": "0"},
    )
    files = {
        **head_file(trained_state(classifier)),
        BANK: to_bytes(unit(bank)),
        SEEN: b"{}\n",
        **adapter_files(classifier),
    }
    write_bundle(out, replace(contents, **changes), files, "---\nlicense: other\n---\nA card.\n")
    return out


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object], name: str = CONTENTS) -> None:
    """Changes bundle.json and its hash of itself: what somebody with this source would do."""
    plain = json.loads((folder / name).read_text())
    del plain["sha256"]
    change(plain)
    plain["sha256"] = sha256_text(canonical_json(plain))
    (folder / name).write_text(json.dumps(plain, indent=2, sort_keys=True) + "\n")


def mutated(content: bytes, moment: random.Random) -> bytes:
    """Changes, cuts, doubles or drops some bytes; never the same as before."""
    at = moment.randrange(len(content))
    match moment.randrange(5):
        case 0:
            return content[:at] + bytes([content[at] ^ (1 << moment.randrange(8))]) + content[at + 1 :]
        case 1:
            return content[:at]
        case 2:
            return content[: at + 1] + content[at:]
        case 3:
            return content[:at] + moment.randbytes(8) + content[at:]
        case _:
            return content + b" "
