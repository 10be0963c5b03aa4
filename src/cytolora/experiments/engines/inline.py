"""Runs the jobs of a plan one after the other, in this process."""

from collections.abc import Sequence

import torch

from cytolora.core.progress import SILENT, Progress
from cytolora.experiments.claims import wait_for_any
from cytolora.experiments.engines.driver import worker_setup
from cytolora.experiments.engines.ranks import ranks_of
from cytolora.experiments.execute import execute, open_session
from cytolora.experiments.plan import Job
from cytolora.experiments.store import Store
from cytolora.experiments.workload import Rates, Tracker, Work, work_of
from cytolora.training.group import Team
from cytolora.training.resources import Inputs


def run_jobs(
    jobs: Sequence[Job],
    inputs: Inputs,
    store: Store,
    *,
    device: torch.device,
    progress: Progress,
    rates: Rates | None = None,
) -> None:
    """Executes every job; what is finished is stored at once, what other commands are at work at is waited for.

    Args:
        rates: Of the work, as far as they are known before it begins.
    """
    store.sweep()
    if store.division.processes == 1:
        _run_all(jobs, inputs, store, device=device, progress=progress, rates=rates)
        return
    team = ranks_of(worker_setup(jobs, inputs, store, device=device, threads=torch.get_num_threads()), progress)
    try:
        _run_all(jobs, inputs, store, device=device, progress=progress, rates=rates, team=team)
    finally:
        team.end()


def _run_all(
    jobs: Sequence[Job],
    inputs: Inputs,
    store: Store,
    *,
    device: torch.device,
    progress: Progress,
    rates: Rates | None,
    team: Team | None = None,
) -> None:
    while jobs:
        tracker = Tracker(progress, [_work_of(job, inputs, store, device) for job in jobs], rates)
        elsewhere = {job: execute(job, inputs, store, device=device, tracker=tracker, team=team) for job in jobs}
        jobs = [job for job in jobs if elsewhere[job]]
        if jobs:
            wait_for_any(store.root, progress, [error for job in jobs for error in elsewhere[job]])


def _work_of(job: Job, inputs: Inputs, store: Store, device: torch.device) -> Work:
    frozen = next((setting[0] for setting in job.settings if setting[0].kind != "adapter"), None)
    num_missing = 0
    if frozen is not None:
        session = open_session(frozen, inputs, store, device=device, progress=SILENT)
        num_missing = session.num_missing_features(frozen.preprocess)
    return work_of(job, inputs, store, num_missing_features=num_missing)
