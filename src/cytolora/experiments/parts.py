"""Parts of a stored run: the table of its predictions, and its provenance."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cytolora.config.run import RunSpec
from cytolora.core.findings import gravest_first
from cytolora.core.provenance import software
from cytolora.core.spending import Gpu, Spending, metered
from cytolora.data.datasets import DATASETS
from cytolora.data.manifest import METADATA_PREFIX, Manifest, Sample
from cytolora.data.splitting.findings import of_draw
from cytolora.experiments.divisions import counts, counts_of_subsets
from cytolora.models.adapters.methods import METHODS
from cytolora.models.backbones.registry import BACKBONES
from cytolora.training.heads.fitted import HEADS
from cytolora.training.session import Session

if TYPE_CHECKING:
    import pyarrow as pa


def predictions_table(manifest: Manifest, samples: Sequence[Sample], probabilities: np.ndarray) -> "pa.Table":
    """Returns class probabilities beside path, label, subset, group and metadata of each image."""
    import pyarrow as pa

    columns: dict[str, Any] = {
        name: pa.array([getattr(sample, name) for sample in samples], pa.string())
        for name in ("path", "label", "subset", "group")
    }
    for name in manifest.metadata_names:
        values = [dict(sample.metadata).get(name) for sample in samples]
        columns[METADATA_PREFIX + name] = pa.array(values, pa.string())
    for index, label in enumerate(manifest.classes):
        columns[label] = pa.array(probabilities[:, index], pa.float32())
    return pa.table(columns)


def provenance(
    session: Session, run: RunSpec, seconds: float, spending: Spending, of_engine: Mapping[str, str]
) -> dict[str, Any]:
    """Returns what a run was computed from and with, and what it took.

    Args:
        of_engine: Version of the package that the engine is a plug-in of, by its name.
    """
    split, identity = session.split(run), session.inputs.identity(run)
    prompts = session.inputs.prompts(run)
    of_run = of_draw(session.manifest, split) if run.sampling.sampling == "natural" else []
    found = (*session.manifest.findings, *session.weight_findings, *of_run)
    return {
        **({} if prompts is None else {"prompts": prompts}),
        **{name: known for name in identity.__dataclass_fields__ if (known := getattr(identity, name)) is not None},
        **software(),
        "classes": list(session.manifest.classes),
        "group_rule": session.manifest.group_rule,
        "split_rule": session.manifest.split_rule,
        "grouping": asdict(session.manifest.grouping),
        "division_counts": counts_of_subsets(session.manifest),
        "findings": [one.plain() for one in gravest_first(found)],
        "counts": counts(split),
        "num_repeated": len(split.train) - len({sample.path for sample in split.train}),
        "backbone": {"architecture": session.backbone.architecture, "licence": session.backbone.licence},
        "device": str(session.device),
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "spending": asdict(spending),
        **({"plugins": used} if (used := {**plugins_of(run), **of_engine}) else {}),
    }


def plugins_of(run: RunSpec) -> dict[str, str]:
    """Returns the versions of the packages whose plug-ins a run uses, by name: dataset, backbone, method, head."""
    head = HEADS.package_of(run.method) if run.kind == "head" else {}
    dataset = DATASETS.package_of(run.dataset.partition(":")[0])
    return {**dataset, **BACKBONES.package_of(run.backbone), **METHODS.package_of(run.method), **head}


def metered_training(session: Session) -> AbstractContextManager[Callable[[], Spending]]:
    """Measures what a training on the session's device takes; see ``core.spending.metered``."""
    if session.device.type != "cuda":
        return metered()
    about = torch.cuda.get_device_properties(session.device)
    return metered(Gpu(name=about.name, uuid=str(about.uuid)))
