"""Runs the jobs of a plan one after the other, in this process."""

import time
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch

from cytolora.core.progress import SILENT, Progress
from cytolora.core.stopping import stop_if_asked
from cytolora.experiments.claims import ClaimedError, wait_for_any
from cytolora.experiments.engines.driver import worker_setup
from cytolora.experiments.engines.queue import Queue
from cytolora.experiments.engines.ranks import ranks_of
from cytolora.experiments.engines.workers import SetUp
from cytolora.experiments.execute import execute, open_session
from cytolora.experiments.plan import Job
from cytolora.experiments.store import Store
from cytolora.experiments.workload import Rates, Tracker, Work, work_of
from cytolora.training.group import Team
from cytolora.training.resources import Inputs

_LOOK_SECONDS = 0.5


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


def run_units(units: Queue[Any], setup: SetUp, *, device: torch.device, progress: Progress, worker: str) -> None:
    """Does all that a queue holds in this process; what other commands are at work at is waited for.

    Args:
        worker: Module of the ``Worker`` that it is told to; its ``on_images`` is told of images as they are done.
    """
    own = import_module(worker).Worker(setup=setup(torch.get_num_threads(), device), on_images=progress.done)
    own.start()
    awaited: set[str] = set()
    while units.are_left:
        stop_if_asked()
        unit = units.take(None, Counter())
        if unit is None:  # all that is left is computed by other commands
            time.sleep(_LOOK_SECONDS)
            continue
        progress.status(str(unit))
        try:
            own.work(unit)
        except ClaimedError as error:
            units.put_off(unit)
            if str(error) not in awaited:
                awaited.add(str(error))
                progress.say(f"waiting for what other commands compute: {error}")
            continue
        units.done(unit)


def _work_of(job: Job, inputs: Inputs, store: Store, device: torch.device) -> Work:
    frozen = next((setting[0] for setting in job.settings if setting[0].kind != "adapter"), None)
    num_missing = 0
    if frozen is not None:
        session = open_session(frozen, inputs, store, device=device, progress=SILENT)
        num_missing = session.num_missing_features(frozen.preprocess)
    return work_of(job, inputs, store, num_missing_features=num_missing)
