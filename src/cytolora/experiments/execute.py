"""Executes jobs: trains their runs, scores the test set and writes results to the store."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cytolora.config.run import RunSpec
from cytolora.config.yaml import parse_spec
from cytolora.core.progress import Progress
from cytolora.core.spending import Spending
from cytolora.core.stopping import stop_if_asked
from cytolora.core.text import counted
from cytolora.errors import StoreError
from cytolora.experiments import beside
from cytolora.experiments.claims import ClaimedError, noted, of_features, of_test
from cytolora.experiments.cost import num_training_passes
from cytolora.experiments.divided_training import parts_of_provenance, train_divided
from cytolora.experiments.divisions import keep_division
from cytolora.experiments.failures import attempt, blamed
from cytolora.experiments.parts import metered_training, predictions_table, provenance
from cytolora.experiments.plan import Job, stored_runs
from cytolora.experiments.select import decide, sealed
from cytolora.experiments.store import Store
from cytolora.experiments.stored_run import RunResult, StoredRun
from cytolora.experiments.trials import head_rates
from cytolora.experiments.workload import (
    STORING,
    Kind,
    Tracker,
    adapters,
    features,
    fitted,
    heads,
    neighbours,
    num_frozen_steps,
    num_test_passes,
    on_frozen,
    scoring_work,
    step_work,
)
from cytolora.metrics.scores import score
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.encoder_with_head import from_safetensors, to_safetensors
from cytolora.training.adapt import (
    Trained,
    fit_head,
    fit_heads_together,
    probabilities,
    title,
    train_heads,
    zero_shot,
)
from cytolora.training.group import NoTeam, Team
from cytolora.training.heads.fitted import head_of
from cytolora.training.intruders import intruder_dimensions
from cytolora.training.kept_state import file_of as state_file
from cytolora.training.kept_state import remove as remove_state
from cytolora.training.prompt_learning import train_prompts
from cytolora.training.protocol import PASSES
from cytolora.training.resources import Inputs
from cytolora.training.session import Session

if TYPE_CHECKING:
    import pyarrow as pa  # 26 MiB, which nothing needs before results are written


def execute(
    job: Job,
    inputs: Inputs,
    store: Store,
    *,
    device: torch.device,
    tracker: Tracker | None = None,
    team: Team | None = None,
) -> list[ClaimedError]:
    """Does what is missing of a job: trains, chooses each setting's learning rate, scores the test set for that one.

    Every finished run is stored at once: interrupting loses the run in flight, or one batch of linear heads. What other
    processes are at work at is passed over and returned: what is then missing is done by another call.
    """
    elsewhere: list[ClaimedError] = []
    tracker = tracker or Tracker(Progress())
    first = job.settings[0][0]
    session = open_session(first, inputs, store, device=device, progress=tracker.progress, team=team)
    frozen, adapted = (
        [one for one in job.settings if (one[0].kind == "adapter") is adapts] for adapts in (False, True)
    )
    if frozen:
        runs = [run for setting in frozen for run in setting]
        name = of_features(job.dataset, job.backbone, job.split)
        with noted(elsewhere):
            attempt(store, inputs, name, runs, lambda: _on_frozen_features(job, frozen, session, store, tracker))
    stored = {run.run_id: store.find(run.run_id) for setting in adapted for run in setting}
    missing = [run for setting in adapted for run in setting if stored[run.run_id] is None]
    if total := num_training_passes(missing, inputs) + sum(num_test_passes(one, inputs, stored) for one in adapted):
        what = counted(len(missing), "adapter run") if missing else "test set"
        tracker.begin(adapters(adapted[0][0]), f"{job.title}: {what}", total, PASSES)
    for setting in adapted:
        tracker.kind = adapters(setting[0])
        _train_and_score(session, store, setting, tracker, elsewhere)
    tracker.end_job()
    return elsewhere


def _train_and_score(
    session: Session, store: Store, setting: Sequence[RunSpec], tracker: Tracker, elsewhere: list[ClaimedError]
) -> None:
    """Trains what is missing of an adapter's setting, and scores it if nothing is missing then."""
    for run in [run for run in setting if store.find(run.run_id) is None]:
        with noted(elsewhere):
            train = partial(train_setting, session, store, setting, [run], tracker)
            attempt(store, session.inputs, run.run_id, [run], train)
    if all(store.find(run.run_id) is not None for run in setting):
        with noted(elsewhere):
            score = partial(score_chosen, session, store, setting, tracker)
            attempt(store, session.inputs, of_test(setting), setting, score)


def _on_frozen_features(
    job: Job, settings: Sequence[Sequence[RunSpec]], session: Session, store: Store, tracker: Tracker
) -> None:
    preprocess = settings[0][0].preprocess
    if session.num_missing_features(preprocess):
        title, num_images = f"{job.title}: features", len(session.manifest.samples)
        tracker.begin(features(job.backbone), title, num_images, "images")
        tracker.know(_head_rates(job, session, session.inference_encoder.feature_dim))
        for _ in session.feature_chunks(session.progress.done, preprocess):
            pass  # kept, and read from there by the settings
    missing = {one[0].setting_id: [run for run in one if store.find(run.run_id) is None] for one in settings}
    total = sum(num_frozen_steps(one, missing[one[0].setting_id], session.inputs) for one in settings)
    tracker.begin(STORING, f"{job.title}: heads on frozen features", total, "steps")
    if any(setting[0].kind == "linear" and missing[setting[0].setting_id] for setting in settings):
        tracker.know(_head_rates(job, session, session.features_of(session.manifest.samples[:1], preprocess).shape[1]))
    for setting in settings:
        stop_if_asked()
        tracker.kind = on_frozen(setting)
        with blamed(setting):
            train_setting(session, store, setting, tracker=tracker)
            score_chosen(session, store, setting, tracker)


def _head_rates(job: Job, session: Session, feature_dim: int) -> dict[Kind, float]:
    return head_rates(job, feature_dim=feature_dim, num_classes=len(session.manifest.classes), device=session.device)


def open_session(
    first: RunSpec,
    inputs: Inputs,
    store: Store,
    *,
    device: torch.device,
    progress: Progress,
    before: Session | None = None,
    team: Team | None = None,
) -> Session:
    """Returns what the runs with the dataset and backbone of ``first`` share; nothing is loaded before it is needed.

    Args:
        before: The session until now; its encoder is reused if it is the same.
        team: Other processes that train its adapter runs with this one; None: each run in this process.
    """
    return Session(
        dataset=first.dataset,
        backbone=BACKBONES.get(first.backbone),
        manifest=inputs.manifest(first.dataset, first.split),
        inputs=inputs,
        cache=store.root / ".cache",
        device=device,
        progress=progress,
        team=team or NoTeam(),
        encoders=before.encoders if before is not None and before.backbone.name == first.backbone else {},
    )


def train_setting(
    session: Session,
    store: Store,
    setting: Sequence[RunSpec],
    only: Sequence[RunSpec] | None = None,
    tracker: Tracker | None = None,
) -> None:
    """Trains and stores the runs of a setting that are not stored yet.

    Args:
        only: Those of its runs to look at; all if None. Heads on frozen features know no part.
        tracker: Told what was done besides the image passes of adapters.
    """
    tracker = tracker or Tracker()
    missing = [run for run in only or setting if store.find(run.run_id) is None]
    first = setting[0]  # all runs of a setting share its division
    division = keep_division(store.root, session.inputs.manifest(first.dataset, first.split)) if missing else ""
    tracker.lap()
    if missing and not first.has_steps:
        session.progress.status(f"{title(first)}: {len(missing)} without training steps")
        # all seeds of heads that are trained together, as below
        is_together = first.kind == "head" and head_of(first.method).train is not None
        with metered_training(session) as spent:
            together = fit_heads_together(session, setting) if is_together else {}
            shared = spent().share(max(1, len(together)))
        train = zero_shot if first.kind == "zero_shot" else fit_head
        for run in missing:
            with metered_training(session) as spent:
                trained = together[run.run_id] if together else train(session, run)
                spending = shared if together else spent()
            tracker.count(1, {fitted(run): len(session.split(run).train)} if run.kind == "head" else {})
            store.add(_validated(session, store, run, division, trained, spending))
            tracker.did(STORING, 1)
        return
    if missing and first.kind == "linear":
        session.progress.status(f"{title(first)}: {len(setting)} heads in one pass")
        # all of them: a head's last bits may depend on the batch it is in
        with metered_training(session) as spent:
            trained = train_heads(session, setting, lambda steps: tracker.count(steps, {heads(setting): steps}))
            shared = spent().share(len(setting))
        for run in missing:
            num_pairs = beside.num_pairs(session, run, "val")
            compared = beside.val_scores(session, run) if session.split(run).val else None
            tracker.did(neighbours(run), num_pairs)
            store.add(_validated(session, store, run, division, trained[run.run_id], shared, compared))
            tracker.did(STORING, 1)
        return
    for run in missing:
        if store.find(run.run_id) is None:  # another process may have been at work for hours
            session.progress.status(f"{title(run)}, seed {run.seed}, rate {run.learning_rate:g}")
            with metered_training(session) as spent:
                trained = _trained(session, store, run, tracker)
                spending = _spending(trained, spent())
            store.add(_validated(session, store, run, division, trained, spending))
            remove_state(state_file(store.states, run.run_id))
            tracker.count(0, scoring_work(run, len(session.split(run).val), len(session.manifest.classes)))
            tracker.did(STORING, 1)


def _trained(session: Session, store: Store, run: RunSpec, tracker: Tracker) -> Trained:
    if run.kind != "prompt":
        return train_divided(session, store, run)
    work = step_work(run, len(session.manifest.classes))
    _ = session.text_encoder  # loaded before the time of a step is taken
    tracker.lap()
    return train_prompts(session, run, lambda steps: tracker.count(steps, {one: steps * work[one] for one in work}))


def _spending(trained: Trained, spent: Spending) -> Spending:
    """Returns what a training took by what was spent here: another process may have begun it, others shared it."""
    return spent.of_a_part() if trained.is_resumed else spent.of_several_processes(trained.num_processes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _TestScore:
    """What scoring the test set with some weights gave."""

    weights_sha256: str
    metrics: Mapping[str, Any]
    neighbours: Mapping[str, Any] | None
    """None where none stand beside the run."""
    rows: "pa.Table"


def score_chosen(session: Session, store: Store, setting: Sequence[RunSpec], tracker: Tracker | None = None) -> None:
    """Scores the test set for the learning rate that validation chose over all stored seeds, and for no other.

    A rate that was chosen before more seeds or rates were run loses its test score again: there is one test result.
    Other processes may store runs meanwhile, so that the choice is made again whenever something is to be written.
    """
    scores: dict[str, _TestScore] = {}
    tracker = tracker or Tracker()
    while (left := _settle(session, store, setting, scores)) is not None:
        session.progress.status(f"{title(left.spec)}, seed {left.spec.seed}: test set")
        scores[left.spec.run_id] = _test_score(session, left, tracker)
        tracker.did(STORING, 1)


def _settle(
    session: Session, store: Store, setting: Sequence[RunSpec], scores: Mapping[str, _TestScore]
) -> RunResult | None:
    """Writes the test scores at hand where they belong, removes those that do not; returns a run that needs one."""
    left: RunResult | None = None
    with store.exclusive():
        decision = decide(stored_runs(store, setting), {run.learning_rate for run in setting})
        for stored in _of_today(session, decision.to_seal):
            store.write(sealed(stored))
        for stored in _of_today(session, decision.to_score):
            score = scores.get(stored.run_id)
            if score is None and left is not None:
                continue
            run = sealed(stored)
            if run.weights is None:
                raise _without_weights(stored)
            if score is None or score.weights_sha256 != _sha256(run.weights):
                left = left or run
            else:
                store.write(_tested(run, score))
    return left


def _without_weights(stored: StoredRun) -> StoreError:
    return StoreError(
        f"Stored run {stored.path} is the one to test now, and was kept without its weights. Move this folder out of "
        "the store and run the same command again: the run is trained anew."
    )


def _of_today(session: Session, runs: Iterable[StoredRun]) -> Iterator[StoredRun]:
    return (stored for stored in runs if stored.identity.agrees_with(session.inputs.identity(_spec(stored))))


def _validated(
    session: Session,
    store: Store,
    run: RunSpec,
    division: str,
    trained: Trained,
    spending: Spending,
    neighbours: Mapping[str, Any] | None = None,
) -> RunResult:
    split = session.split(run)
    metrics: dict[str, Any] = {"num_trainable": trained.num_trainable, "test": None}
    if neighbours is not None:
        metrics["neighbours"] = neighbours
    metrics["train"] = {
        "num_images": len(split.train),
        "num_steps": trained.num_steps,
        "final_loss": trained.final_loss,
    }
    if trained.kept_step is not None:
        metrics["train"]["kept_step"] = trained.kept_step
    if intruders := intruder_dimensions(session, run, trained):
        metrics["intruders"] = intruders
    if trained.diverged or not split.val:
        metrics["train"]["final_loss"] = None if trained.diverged else trained.final_loss
        metrics["val"] = None
        predictions = predictions_table(session.manifest, (), np.empty((0, len(session.manifest.classes))))
    else:
        class_probabilities = probabilities(session, run, trained.state, split.val, trained.classifier).numpy()
        metrics["val"] = score(session.labels_of(split.val), class_probabilities)
        predictions = predictions_table(session.manifest, split.val, class_probabilities)
    return RunResult(
        spec=run,
        metrics=metrics,
        predictions=predictions,
        weights=to_safetensors(trained.state),
        provenance={
            **provenance(session, run, trained.seconds, spending, store.packages),
            **parts_of_provenance(trained),
            "division": division,
        },
    )


def _test_score(session: Session, result: RunResult, tracker: Tracker) -> _TestScore:
    assert result.weights is not None, "_settle asks for no score of a run without weights"
    run, split = result.spec, session.split(result.spec)
    class_probabilities = probabilities(session, run, from_safetensors(result.weights), split.test).numpy()
    tracker.count(0, scoring_work(run, len(split.test), len(session.manifest.classes)))
    scores = None
    if (compared := result.metrics.get("neighbours")) is not None:
        tracker.lap()
        num_pairs = beside.num_pairs(session, run, "test")
        scores = beside.test_scores(session, run, compared["knn"]["k"])
        tracker.did(neighbours(run), num_pairs)
    return _TestScore(
        weights_sha256=_sha256(result.weights),
        metrics=score(session.labels_of(split.test), class_probabilities),
        neighbours=scores,
        rows=predictions_table(session.manifest, split.test, class_probabilities),
    )


def _tested(run: RunResult, test: _TestScore) -> RunResult:
    """Adds a test score to a run that has none."""
    metrics = {**run.metrics, "test": test.metrics}
    if test.neighbours is not None:
        compared = run.metrics["neighbours"]
        metrics["neighbours"] = {name: {**compared[name], "test": test.neighbours[name]} for name in compared}
    import pyarrow as pa

    rows = pa.concat_tables([run.predictions, test.rows], promote_options="default")
    return replace(run, metrics=metrics, predictions=rows)


def _spec(stored: StoredRun) -> RunSpec:
    return parse_spec(stored.spec, RunSpec, str(stored.path))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
