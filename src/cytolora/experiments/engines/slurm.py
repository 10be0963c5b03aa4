"""Distributes runs or shards over jobs of a SLURM cluster; needs its commands sbatch, squeue, scancel, and no package.

A job is a task of an array, and does what the command itself does in one process. Jobs share no driver: they divide
the work by claims in its folder, so that they finish it without this process too. The script of a job goes to sbatch on
its standard input: no file is read back that could run code, and nothing is pickled.
"""

import os
import re
import shlex
import shutil
import stat
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cytolora.core.folders import folder_names
from cytolora.core.progress import Progress
from cytolora.core.stopping import stop_if_asked
from cytolora.core.text import counted
from cytolora.errors import ConfigError, EngineError
from cytolora.experiments.claim_owner import Owner
from cytolora.experiments.engines.driver import kept
from cytolora.experiments.engines.queue import Queue
from cytolora.experiments.engines.workers import Workers
from cytolora.experiments.plan import Job, has_work, stored_runs
from cytolora.experiments.store import Store, unwritable

_SIGNAL = "--signal=B:USR1@180"
"""Seconds before the time limit at which a job is told; SLURM may be a minute early."""
_LOOK_SECONDS = 1.0
_MAX_ASK_SECONDS = 15.0
"""Between two questions to the controller, which answers all users of a cluster."""
_SETTLED_SECONDS = 4.0
"""Without a task at work, before one that failed counts as ended: one that is queued again has failed for a moment."""
_SILENT_SECONDS = 900.0
"""Longest time without an answer of the controller."""
_SEEN_SECONDS = 120
"""Longest time until a result of another machine is seen: network file systems keep old listings for a minute."""
_ENDED = frozenset(
    ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT")
)
_GONE = "GONE"
"""State of a job that the controller no longer knows."""
_TAIL_BYTES = 4000
_NO_LOG_NAME = re.compile(r"[^\w.@+-]")
"""What the name of the folder of output does not take from the name of a user."""

SCRIPT = """#!/bin/bash
trap 'is_near=1; kill -USR1 "$worker"' USR1
export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-${{SLURM_CPUS_ON_NODE:-1}}}}"
{command} &
worker=$!
wait "$worker"; code=$?
if [ "$is_near" ]; then wait "$worker"; code=$?; fi
if [ "$is_near" ] && [ "$code" != 0 ] && [ "$code" != 2 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt 100 ]; then
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
fi
exit "$code"
"""
"""Of a job. The signal ends the first ``wait``; the worker stops within a minute, and its task is queued again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Awaited:
    """Results that jobs leave in a folder."""

    root: Path
    amounts: Mapping[str, int]
    """How much each missing result is of the whole, by its name."""
    names: Callable[[Path], Iterable[str]]
    """Lists the results in the folder."""

    def appeared(self, missing: set[str]) -> set[str]:
        """Returns which of the missing results are there by now."""
        return missing.intersection(self.names(self.root))

    def amount(self, results: Iterable[str]) -> int:
        """Returns how much of the whole some results are."""
        return sum(self.amounts[name] for name in results)


def run_jobs(jobs: Sequence[Job], store: Store, *, progress: Progress, workers: Workers) -> None:
    """Submits an array of jobs that work on a plan, and waits for them; interrupted, it cancels them.

    Raises:
        EngineError: If sbatch refuses the jobs, or they end with something left to do.
    """
    if not jobs:
        return
    missing = {run.run_id for job in jobs for run in job.runs} - set(folder_names(store.root))
    store.make_root()
    settings = [setting for job in jobs for setting in job.settings]

    def left() -> str:
        have_work = [one for one in settings if has_work(one, stored_runs(store, one))]
        return counted(len(have_work), "setting") if have_work else ""

    progress.begin(counted(len(missing), "run"), len(missing), "runs")
    awaited = _Awaited(root=store.root, amounts=dict.fromkeys(missing, 1), names=folder_names)
    _by_array(awaited, left, kept(store), progress=progress, workers=workers)


def run_units(units: Queue[Any], root: Path, *, progress: Progress, workers: Workers, safe: str) -> None:
    """Submits an array of jobs that do all that a queue holds, and waits for them; interrupted, it cancels them.

    Args:
        root: The folder in which every unit leaves a file of the name that it tells.
        safe: Sentence on what is kept where jobs end too early.

    Raises:
        EngineError: If sbatch refuses the jobs, or they end with something left to do.
    """
    amounts = {name: int(unit.cost) for unit in units.waiting for name in unit.names}

    def left() -> str:
        missing = amounts.keys() - _file_names(root)
        return counted(len(missing), "shard") if missing else ""

    awaited = _Awaited(root=root, amounts=amounts, names=_file_names)
    _by_array(awaited, left, safe, progress=progress, workers=workers)


def _file_names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()}


def _by_array(awaited: _Awaited, left: Callable[[], str], safe: str, *, progress: Progress, workers: Workers) -> None:
    assert workers.count is not None, "check_cluster asks for it"
    folder = _log_folder(awaited.root)
    array = _submit(workers, min(workers.count, max(1, len(awaited.amounts))), folder)
    try:
        progress.say(f"SLURM job {array.job_id} of {counted(array.size, 'task')}; what they say stands in {folder}")
        states = array.watch(awaited, progress)
    except KeyboardInterrupt:
        array.cancel()
        raise
    _check_all_done(left, safe, states, folder)


def check_cluster(workers: Workers) -> None:
    """Raises an error if no jobs can be submitted: now, not after data were read.

    Raises:
        ConfigError: If the number of jobs or the command of a job is not known.
        EngineError: If sbatch is missing.
    """
    if workers.count is None:
        raise ConfigError("--engine slurm needs --workers N: the number of jobs to submit.")
    if not workers.command:
        raise ConfigError("The engine slurm works from the command line: --engine slurm --workers N.")
    _require("sbatch")


@dataclass(kw_only=True)
class _Array:
    """Jobs that were submitted together."""

    job_id: str
    size: int
    cluster: tuple[str, ...] = ()
    """Option of the commands that names it, where the jobs went to another one: a number alone is another job there."""
    states: dict[str, str] = field(default_factory=dict)
    """By task: ``12_0``."""
    reasons: frozenset[str] = frozenset()
    """Why tasks wait."""

    def watch(self, awaited: _Awaited, progress: Progress) -> Mapping[str, str]:
        """Waits until all tasks have ended; returns their states. Progress is what is stored."""
        missing = set(awaited.amounts)
        began = asked = answered = time.monotonic()
        ended: float | None = None
        while True:
            stop_if_asked()
            time.sleep(_LOOK_SECONDS)
            stored = awaited.appeared(missing)
            missing -= stored
            progress.done(awaited.amount(stored))
            now = time.monotonic()
            if now - asked < min(_MAX_ASK_SECONDS, (asked - began) / 4):
                continue
            asked, before = now, dict(self.states)
            if self._ask():
                answered = now
            elif now - answered > _SILENT_SECONDS:
                raise EngineError(
                    f"SLURM's controller has not answered for {now - answered:.0f} s. Job {self.job_id} goes on "
                    "without this command; the same command waits for it."
                )
            self._tell(before, progress)
            if not self.states or not _ENDED.union([_GONE]).issuperset(self.states.values()):
                ended = None
                continue
            ended = now if ended is None else ended
            if now - ended >= _SETTLED_SECONDS or {"COMPLETED", _GONE}.issuperset(self.states.values()):
                progress.done(awaited.amount(awaited.appeared(missing)))
                return self.states

    def cancel(self) -> None:
        """Cancels all tasks that have not ended."""
        _run(["scancel", *self.cluster, self.job_id])

    def _ask(self) -> bool:
        """Asks the controller for the states of the tasks; False where it does not answer.

        It forgets what ended minutes ago: that keeps the state in which it was seen last, if that was an end.
        """
        options = ["--noheader", "--array", "--states=all", "--format=%i %T %r", f"--jobs={self.job_id}"]
        listed = _run(["squeue", *self.cluster, *options])
        if listed.returncode and "Invalid job id" not in listed.stderr:
            return False
        split = [line.split(maxsplit=2) for line in listed.stdout.splitlines()]
        rows = [row for row in split if len(row) > 1 and row[0].partition("_")[0] == self.job_id]
        before = self.states if self.states or rows else {self.job_id: _GONE}
        forgotten = {task: state if state in _ENDED else _GONE for task, state in before.items()}
        self.states = {**forgotten, **{row[0]: row[1] for row in rows}}
        self.reasons = frozenset(row[2] for row in rows if len(row) > 2 and row[1] == "PENDING")
        return True

    def _tell(self, before: Mapping[str, str], progress: Progress) -> None:
        for task, state in self.states.items():
            if state != before.get(task) and state in _ENDED and state != "COMPLETED":
                progress.say(f"SLURM job {task}: {state}")
        counts = Counter(self.states.values())
        reasons = f" ({', '.join(sorted(self.reasons))})" if self.reasons else ""
        progress.status(f"SLURM: {_listed(counts)}{reasons}")


def _submit(workers: Workers, size: int, folder: Path) -> _Array:
    options = [
        "--parsable",
        "--job-name=cytolora",
        "--requeue",
        _SIGNAL,
        *workers.batch,
        f"--array=0-{size - 1}",
        "--open-mode=append",
        f"--output={str(folder).replace('%', '%%')}/%A_%a.log",
    ]
    submitted = _run(["sbatch", *options], SCRIPT.format(command=shlex.join(workers.command)))
    if submitted.returncode:
        lines = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in submitted.stderr.splitlines()]
        raise EngineError(f"sbatch refused the job: {'; '.join(lines) or 'it gave no reason'}. Nothing was started.")
    number, _, cluster = submitted.stdout.strip().partition(";")
    if not number.isdecimal():
        said = number.partition("\n")[0]
        raise EngineError(f"sbatch gave no job's number, but: {said!r}. Look at the --slurm options: one is no job's.")
    return _Array(job_id=number, size=size, cluster=(f"--clusters={cluster}",) if cluster else ())


def _require(command: str) -> None:
    if shutil.which(command) is None:
        raise EngineError(f"{command} is not on this machine. Start --engine slurm on a login node of the cluster.")


def _run(command: Sequence[str], script: str | None = None) -> "subprocess.CompletedProcess[str]":
    """Runs a command of SLURM; one that does not answer within two minutes counts as failed.

    Raises:
        EngineError: If it is not on this machine.
    """
    _require(command[0])
    content = None if script is None else os.fsencode(script)  # names of files are bytes, in whatever encoding
    try:
        done = subprocess.run(command, input=content, capture_output=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]} did not answer within 120 s")
    said, errors = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    return subprocess.CompletedProcess(command, done.returncode, said, errors)


def _log_folder(root: Path) -> Path:
    """Returns the folder of what the jobs of this user write to standard output and error; only the user reads it.

    Raises:
        EngineError: If it is a link or another user's.
    """
    user = Owner.this_process().user
    plain = _NO_LOG_NAME.sub("-", user)  # DOMAIN\\user: in a name with a backslash sbatch replaces nothing
    folder = (root / f".slurm-{plain if plain == user else f'{plain}-{os.getuid()}'}").absolute()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise EngineError(f"{folder} is not a folder of this user. Move it away; jobs write their output there.")
        folder.chmod(0o700)
    except OSError as error:
        raise unwritable(folder, error) from error
    return folder


def _check_all_done(left: Callable[[], str], safe: str, states: Mapping[str, str], folder: Path) -> None:
    may_be_done = not {"COMPLETED", _GONE}.isdisjoint(states.values())
    deadline = time.monotonic() + (_SEEN_SECONDS if may_be_done else 0)
    while what := left():
        if time.monotonic() > deadline:
            raise EngineError(
                f"The SLURM jobs have ended ({_listed(Counter(states.values()))}) with {what} left to "
                f"do{_last_words(states, folder)}. {safe}"
            )
        time.sleep(_LOOK_SECONDS)


def _last_words(states: Mapping[str, str], folder: Path) -> str:
    """Returns the last line of a job that failed."""
    for task, state in states.items():
        path = folder / f"{task}.log"
        if state != "FAILED" or not path.is_file():
            continue
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
        if lines:
            return f"; {task}: {lines[-1].removeprefix('cytolora: ').rstrip('.')}"
    return f"; their output is in {folder}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))
