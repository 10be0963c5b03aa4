"""Trial of a checkpoint from Python: the function that ``cytolora weights try`` calls."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cytolora.api.grids import run
from cytolora.classifier.trial.facts import private_paths
from cytolora.classifier.trial.part import Part, attempt, judged
from cytolora.classifier.trial.trial import Trial
from cytolora.classifier.trial.trial import try_weights as try_parts
from cytolora.core.arguments import AnyPath, as_device, as_named_paths
from cytolora.core.notebook import default_progress
from cytolora.core.progress import Progress
from cytolora.data.datasets import load_manifest
from cytolora.errors import ConfigError
from cytolora.experiments.store import Store
from cytolora.reporting.results.settings import gather_settings
from cytolora.training.resources import Inputs

if TYPE_CHECKING:
    import torch

DEFAULT_STEPS = 12
_GRID = "exp1"
"""Linear classifier on all training images, three seeds, the rate chosen on validation: the paper's Table 1."""


def try_weights(
    name: str,
    weights: AnyPath | None = None,
    *,
    data: Mapping[str, AnyPath] | None = None,
    weights_dir: AnyPath | None = None,
    trust_weights: bool = False,
    steps: int = DEFAULT_STEPS,
    device: "str | torch.device | None" = None,
    progress: Progress | None = None,
) -> Trial:
    """Tries a checkpoint: parity with its native library, LoRA, bundle, ONNX export, speed, and published accuracies.

    Args:
        name: One of ``list_backbones()``.
        weights: Its official checkpoint on disk, with its configuration beside it; otherwise ``weights_dir``, or the
            hub's cache. Nothing is downloaded.
        data: Folder of a dataset, by name: the accuracy of a linear classifier, beside the published one.
        steps: Of LoRA in each precision.

    Raises:
        WeightsError: If there is no such file.
        DataError: If a folder is no such dataset.
    """
    if steps < 1:
        raise ConfigError(f"steps is the number of LoRA steps, at least 1, got {steps}.")
    folders, on, progress = as_named_paths(data, "data"), as_device(device), progress or default_progress()
    inputs = Inputs(
        data={},
        weights={} if weights is None else {name: weights},
        weights_dir=weights_dir,
        trust_weights=trust_weights,
    )
    for dataset, folder in folders.items():
        load_manifest(folder, dataset)  # a wrong folder is told now, not after the trial
    parts, facts = try_parts(name, inputs, steps=steps, device=on, progress=progress)
    because = "" if parts[0].verdict == "passed" else "The checkpoint was not loaded."
    for dataset, folder in folders.items():
        parts.append(
            attempt(
                f"linear, {dataset}",
                lambda dataset=dataset, folder=folder: _linear(name, inputs, dataset, folder, on, progress),
                needs=because,
            )
        )
    paths = private_paths(inputs.weights_path(name), Path.home() / "x", *folders.values())
    return Trial(model=name, parts=tuple(parts), facts=facts, paths=paths)


def _linear(name: str, inputs: Inputs, dataset: str, folder: Path, device: "torch.device", progress: Progress) -> Part:
    """Trains the paper's linear classifier; no verdict is passed on the figure, for divisions differ."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "runs"
        run(
            _GRID,
            {dataset: folder},
            out,
            dataset=dataset,
            model=name,
            weights={name: inputs.weights_path(name)},
            trust_weights=inputs.trust_weights,
            device=device,
            progress=progress,
        )
        setting = gather_settings(list(Store(out).runs()))[0]
        found, published = setting.test("accuracy"), setting.published
    if found is None:
        raise ConfigError("No rate gave a classifier on all seeds.")
    figures = {"dataset": setting.dataset, "accuracy": found.mean, "std_over_seeds": found.std, "rate": setting.rate}
    text = f"Accuracy {found.mean:.2%}"
    if published is None:
        text += "; no figure is published for this model and dataset."
    else:
        figures |= {"published": published.accuracy, "source": published.source, "note": published.note}
        text += f", published {published.accuracy:.2%} ({published.source})"
        text += f"; {published.note}" if published.note else "."
    return judged(f"linear, {dataset}", good=True, text=text, figures=figures)
