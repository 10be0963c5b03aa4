"""Preparation of a plan for several workers: its units, what is read once, and what every worker is told."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from cytolora.core.progress import Progress
from cytolora.core.provenance import software
from cytolora.core.text import counted
from cytolora.experiments.cost import num_passes
from cytolora.experiments.engines.units import Unit, Units, split_up
from cytolora.experiments.failures import record_lost
from cytolora.experiments.plan import Job
from cytolora.experiments.store import Store
from cytolora.models.backbones.registry import BACKBONES, BackboneSpec
from cytolora.training.protocol import PASSES
from cytolora.training.resources import Inputs

if TYPE_CHECKING:
    from cytolora.experiments.engines.worker import WorkerSetup


def open_units(jobs: Sequence[Job], inputs: Inputs, store: Store, progress: Progress) -> Units:
    """Divides what is missing of jobs, makes the store ready for it and reads data once; none may be left.

    Data are read and weights hashed here, not in every worker: it takes a while, before there is a cluster to lose.
    """
    units = split_up(
        jobs,
        is_stored=lambda run: store.find(run.run_id) is not None,
        num_images=lambda run: run.num_images_seen(len(inputs.split(run).train)),
    )
    if not units.waiting:
        return units

    def note(unit: Unit, why: str) -> None:
        record_lost(store.root, unit.claim, unit.run_ids, f"its workers died, the last: {why}", units.attempts[unit])

    units.given_up = note
    store.make_root()
    store.sweep()
    missing = [run for job in jobs for run in job.runs if store.find(run.run_id) is None]
    adapters = [run for run in missing if run.kind == "adapter"]
    progress.begin(counted(len(missing), "run"), num_passes(adapters, inputs), PASSES)
    for job in jobs:
        first = job.settings[0][0]
        inputs.manifest(first.dataset, first.split)
        inputs.weights_sha256(job.backbone)
    return units


def worker_setup(
    jobs: Sequence[Job], inputs: Inputs, store: Store, *, device: torch.device, threads: int
) -> "WorkerSetup":
    """Returns what every worker is told at its start; paths are absolute."""
    from cytolora.experiments.engines.worker import WorkerSetup

    return WorkerSetup(
        inputs=inputs.absolute(),
        root=store.root.resolve(),
        device=device,
        threads=threads,
        backbones=[_absolute(BACKBONES.get(name)) for name in sorted({job.backbone for job in jobs})],
        versions=software()["versions"],
        checkpoint_minutes=store.checkpoint_minutes,
        division=store.division,
        packages=store.packages,
    )


def kept(store: Store) -> str:
    """Returns the sentence on what is safe where workers are lost."""
    return f"What was finished is kept in {store.root}; the same command goes on from there."


def _absolute(spec: BackboneSpec) -> BackboneSpec:
    return replace(spec, weights=spec.weights.absolute()) if isinstance(spec.weights, Path) else spec
