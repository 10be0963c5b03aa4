"""Measures leakage beside the runs of a grid, once, on features and images that the runs have left in the cache."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from cytolora.classifier.leakage.cells import MIN_GROUPS
from cytolora.classifier.leakage.encodings import ADAPTED, Encoding, of_session
from cytolora.classifier.leakage.features import Effort
from cytolora.classifier.leakage.measure import measure_leakage
from cytolora.classifier.leakage.report import LeakageReport
from cytolora.config.run import RunSpec
from cytolora.core.progress import SILENT, Progress
from cytolora.data.manifest import Manifest
from cytolora.errors import CytoloraError, StoreError
from cytolora.experiments.execute import open_session
from cytolora.experiments.store import Store
from cytolora.models.encoder_with_head import from_safetensors
from cytolora.reporting.leakage.kept import KeptLeakage, Subject, keep, read_kept, subject_today
from cytolora.reporting.results.predictions import read_test
from cytolora.reporting.results.settings import SettingRuns, best, gather_settings
from cytolora.training.adapt import rebuilt
from cytolora.training.resources import Inputs
from cytolora.training.session import Session

_EFFORT = Effort(head="gda", repeats=2, permutations=99, max_cells=1000, sites=False)
"""Seconds for 1,000 cells; `cytolora leakage` takes its time."""


def measure_beside(
    runs: Sequence[RunSpec], inputs: Inputs, store: Store, *, device: torch.device, progress: Progress
) -> None:
    """Measures and keeps what a store lacks of the datasets and backbones of some runs.

    Frozen features are read from the cache and never computed: where the grid had no use for them, the reason is kept
    instead. After adaptation it is the test cells of one adapter run, that of the highest validation accuracy.
    """
    for run in {(one.dataset, one.backbone): one for one in reversed(runs)}.values():
        subject = subject_today(run, inputs)
        if subject is None:
            continue
        before = read_kept(store.root, subject) or KeptLeakage(subject=subject)
        adapted = None if before.adapted is not None else _best_adapter(store, subject)
        if before.frozen is not None and adapted is None:
            continue
        progress.status(f"{run.dataset}, {run.backbone}: leakage and shortcuts")
        session = open_session(run, inputs, store, device=device, progress=SILENT)
        kept = before if before.frozen is not None else _with_frozen(before, session)
        try:
            keep(store.root, kept)
            if kept.frozen is not None and adapted is not None:
                keep(store.root, _with_adapted(kept, session, adapted))
        except StoreError as error:  # the runs are done; the next command measures it again
            progress.say(f"Leakage was measured and not kept. {error}")


def _with_frozen(kept: KeptLeakage, session: Session) -> KeptLeakage:
    groups = {sample.group for sample in session.manifest.samples} - {None}
    if len(groups) < MIN_GROUPS:
        known = "no patient, slide or field is known" if not groups else "all cells come from one group"
        return replace(kept, skipped=f"{known}.")
    if missing := session.num_missing_features():
        return replace(kept, skipped=f"frozen features of {missing:,} images were not computed by any run.")
    try:
        report = _measured(session, of_session(session))
    except CytoloraError as error:  # the runs are done: what is only beside them does not end the command
        return replace(kept, skipped=str(error))
    return replace(kept, frozen=report, skipped="")


def _with_adapted(kept: KeptLeakage, session: Session, setting: SettingRuns) -> KeptLeakage:
    run, stored = setting.spec, setting.tested[0]
    run = replace(run, learning_rate=stored.spec["learning_rate"], seed=stored.spec["seed"])
    try:
        weights, tested = stored.weights(), frozenset(read_test(stored).paths)
    except StoreError:
        return kept
    # as the run was divided then: a split file, or another rule, may divide the same cells otherwise today
    test = tuple(sample for sample in session.manifest.samples if sample.path in tested)
    if weights is None or len({sample.group for sample in test} - {None}) < MIN_GROUPS:
        return kept
    adapted = Encoding(
        kind=ADAPTED,
        encoder=lambda: rebuilt(session, run, from_safetensors(weights)).eval().encoder,
        preprocess=session.backbone.preprocess,
        recipe=f"{session.backbone.recipe}, run {run.run_id}",
        weights_sha256=kept.subject.weights_sha256,
    )
    try:
        report = _measured(session, (*of_session(session), adapted), replace(session.manifest, samples=test))
    except CytoloraError:
        return kept
    return replace(kept, adapted=report, run_id=run.run_id, method=f"{setting.label}, {run.sampling.amount}")


def _measured(session: Session, encodings: Sequence[Encoding], manifest: Manifest | None = None) -> LeakageReport:
    return measure_leakage(
        manifest or session.manifest,
        encodings,
        model=session.backbone.name,
        cache=session.cache,
        device=session.device,
        effort=_EFFORT,
        progress=SILENT,
    )


def _best_adapter(store: Store, subject: Subject) -> SettingRuns | None:
    """Returns the tested setting of an adapter on this subject, with the backbone's own views, best on validation.

    Runs that were kept without their weights cannot be looked at.
    """
    prefix = f"{subject.dataset.replace(':', '-')}_{subject.backbone}_"
    runs = [run for run in store.runs(prefix) if Subject.of(run) == subject]
    adapters = [one for one in gather_settings(runs) if one.spec.kind == "adapter" and one.spec.preprocess is None]
    return best([one for one in adapters if one.is_result and one.tested[0].has_weights])
