"""Trial of a checkpoint on one machine: parity with its native library, LoRA, bundle, export, speed.

Everything is drawn; nothing but the checkpoint and the configurations beside it is read.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from cytolora.classifier.trial.bundles import BUNDLE, ONNX, try_bundle, try_onnx
from cytolora.classifier.trial.facts import (
    checkpoint_facts,
    entry_facts,
    machine_facts,
    personal_names,
    version_facts,
    without_personal_details,
)
from cytolora.classifier.trial.images import drawn_images
from cytolora.classifier.trial.parity import FEATURES, PIXELS, try_parity
from cytolora.classifier.trial.part import Part, attempt, judged
from cytolora.classifier.trial.training import LORA_BF16, LORA_FP32, SPEED, Stepped, judge_lora, measure_speed, step
from cytolora.config.run import SplitSpec
from cytolora.core.progress import Progress
from cytolora.data.synthetic.dataset import write_synthetic
from cytolora.errors import WeightsError
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.kernels.packed import Precision
from cytolora.training.resources import Inputs
from cytolora.training.session import Session

LOADING = "loading"
_FORMAT = 1
_NUM_CELLS, _NUM_SLIDES = 60, 10


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What was tried of one checkpoint."""

    model: str
    parts: tuple[Part, ...]
    facts: dict[str, Any]
    paths: tuple[str, ...] = ()
    """Of this machine, to be left out of what is sent on; the longest first."""

    @property
    def has_failed(self) -> bool:
        """Whether a part failed; what is not possible here is no failure."""
        return any(part.verdict == "failed" for part in self.parts)

    def plain(self) -> dict[str, Any]:
        """Returns the trial as plain data without personal details: it can be sent on."""
        content = {
            "format": _FORMAT,
            "model": self.model,
            "verdict": "failed" if self.has_failed else "passed",
            "parts": [asdict(part) for part in self.parts],
            **self.facts,
        }
        return without_personal_details(content, personal_names(), self.paths)


def try_weights(
    name: str, inputs: Inputs, *, steps: int, device: torch.device, progress: Progress
) -> tuple[list[Part], dict[str, Any]]:
    """Tries a checkpoint; returns the parts, in the order of the table, and what is known of file and machine.

    Raises:
        WeightsError: If there is no checkpoint of that name here.
    """
    spec, path = BACKBONES.get(name), inputs.weights_path(name)
    progress.begin(f"{name}: reading", 0, "")
    facts: dict[str, Any] = {
        "weights": {"sha256": inputs.weights_sha256(name)},
        "entry": entry_facts(spec),
        "machine": machine_facts(device),
        "versions": version_facts(),
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        cells = folder / "cells"
        write_synthetic(cells, num_images=_NUM_CELLS, num_slides=_NUM_SLIDES, seed=0)
        inside = Inputs(data={"synthetic": cells}, weights={name: path}, trust_weights=inputs.trust_weights)
        session = Session(
            backbone=spec,
            manifest=inside.manifest("synthetic", SplitSpec()),
            inputs=inside,
            cache=folder / "cache",
            device=device,
            progress=progress,
        )
        loading = attempt(LOADING, lambda: _loaded(session, facts["weights"]))
        because = "" if loading.verdict == "passed" else "The checkpoint was not loaded."
        trained = _trained(session, steps, because)
        compared = _compared(spec.name, path, because, progress)
        out = (folder / "bundle", folder / "onnx")
        kept = _kept(name, inside, cells, out, because, cache=folder / "cache", device=device, progress=progress)
    return [loading, *compared, *trained[:-1], *kept, trained[-1]], facts


def _loaded(session: Session, facts: dict[str, Any]) -> Part:
    path = session.inputs.weights_path(session.backbone.name)
    facts |= checkpoint_facts(session.backbone, path, facts["sha256"])
    findings = [str(one) for one in session.weight_findings]
    num_parameters = sum(parameter.numel() for parameter in session.encoder.parameters())
    text = f"{facts['layout']} layout, {num_parameters / 1e6:.1f} M parameters, every tensor in its place"
    text += f"; {'; '.join(findings)}" if findings else "."
    return judged(LOADING, good=True, text=text, figures={"parameters": num_parameters, "findings": findings})


def _compared(name: str, path: Path, because: str, progress: Progress) -> list[Part]:
    """Compares with the native library; where that stops, both of its parts say why."""
    progress.begin("native library", 0, "")
    found: list[Part] = []

    def features() -> Part:
        found.extend(try_parity(BACKBONES.get(name), path, drawn_images()))
        return found[-1]

    last = attempt(FEATURES, features, needs=because)
    if found:
        return found
    return [Part(name=PIXELS, verdict="not possible", text="Features were not compared."), last]


def _trained(session: Session, steps: int, because: str) -> list[Part]:
    found: dict[Precision, Stepped] = {}

    def lora(name: str, precision: Precision) -> Part:
        try:
            found[precision] = step(session, precision, steps=steps)
        except ValueError as error:  # a ConfigError among them: what cannot be adapted has failed here
            raise WeightsError(str(error)) from error
        reference = found.get("fp32") if precision == "bf16" else None
        return judge_lora(name, found[precision], reference=reference)

    return [
        attempt(LORA_FP32, lambda: lora(LORA_FP32, "fp32"), needs=because),
        attempt(LORA_BF16, lambda: lora(LORA_BF16, "bf16"), needs=because),
        attempt(SPEED, lambda: measure_speed(session, found), needs=because),
    ]


def _kept(
    name: str,
    inputs: Inputs,
    cells: Path,
    out: Sequence[Path],
    because: str,
    *,
    cache: Path,
    device: torch.device,
    progress: Progress,
) -> list[Part]:
    bundle, onnx = out
    made = attempt(
        BUNDLE,
        lambda: try_bundle(name, inputs, cells, bundle, cache=cache, device=device, progress=progress),
        needs=because,
    )
    without = "" if made.verdict == "passed" else "There is no bundle to export."
    path = inputs.weights_path(name)
    exported = attempt(
        ONNX, lambda: try_onnx(bundle, path, onnx, device=device, progress=progress), needs=because or without
    )
    return [made, exported]
