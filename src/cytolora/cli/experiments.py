"""Commands plan, run, report and demo: experiments from a grid to a report."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cytolora.api import grids
from cytolora.cli.cache_options import NO_LIMIT_GIVEN, LimitOptions
from cytolora.cli.command_line import same_command
from cytolora.cli.console import PlainTable, make_console
from cytolora.cli.options import (
    AS_IT_STANDS,
    NO_CHANGE,
    NO_INPUTS,
    THIS_MACHINE,
    AxisOptions,
    InputOptions,
    MachineOptions,
    ReadingOptions,
    Several,
    add_backbones,
    pairs,
    read_grid,
    read_inputs,
    sbatch_options,
)
from cytolora.cli.print_findings import print_stored
from cytolora.cli.progress import show_progress
from cytolora.cli.targets import replaced, shared
from cytolora.core.stopping import heeding_signals
from cytolora.core.text import counted
from cytolora.data.pooling import Pool, account
from cytolora.data.targets import STORE
from cytolora.experiments.batch_division import BatchDivision
from cytolora.experiments.cost import describe, describe_prompts, stored_costs
from cytolora.experiments.engines.registry import chosen_engine
from cytolora.experiments.engines.workers import THIS_PROCESS, Workers
from cytolora.experiments.plan import Plan, make_plan
from cytolora.experiments.store import Store
from cytolora.experiments.tracking.registry import parse_target
from cytolora.experiments.tracking.track import mirrored
from cytolora.training.resources import Inputs

if TYPE_CHECKING:
    import torch

    from cytolora.experiments.workload import Rates


def plan(
    grid: str,
    /,
    *,
    out: Annotated[Path, shared(STORE)] = Path("runs"),
    axes: AxisOptions = NO_CHANGE,
    inputs: InputOptions = NO_INPUTS,
    reading: ReadingOptions = AS_IT_STANDS,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Lists what a grid asks for, how much of it is stored and how much is to do. Starts nothing.

    Examples:

        cytolora plan smoke
        cytolora plan exp2 --dataset sipakmed --data sipakmed=SIPaKMeD --out runs --json
        cytolora plan exp2 --data herlev=smear2005 sipakmed=SIPaKMeD --pool bethesda

    Parameters
    ----------
    grid
        A shipped grid (`cytolora ls grids`) or a YAML file.
    out
        Folder of stored runs.
    json_
        Prints one JSON document: `runs`, `stored`, `to_do`, `stale`, `notes` and `groups`.
    """
    add_backbones(inputs.backbone_file)
    spec, store = read_grid(grid, axes, inputs, reading), Store(out)
    present = read_inputs(inputs, reading, spec, out).without_missing()
    planned = make_plan(spec, store, present)
    if json_:
        sys.stdout.write(json.dumps(_plain(planned), indent=2) + "\n")
        return
    console = make_console()
    to_do = set(planned.to_do)
    console.print(
        f"{spec.name}: {counted(len(planned.runs), 'run')}, {len(planned.stored)} stored, {len(to_do)} to do."
    )
    for job in planned.jobs:
        missing = to_do.intersection(job.runs)
        without = f", without {job.split.leave_out}" if job.split.leave_out else ""
        division = without + (f", split seed {job.split.seed}" if len(spec.split_seeds) > 1 else "")
        console.print(
            f"  {job.dataset} x {job.backbone}{division}: {len(missing)} of {counted(len(job.runs), 'run')} to do"
        )
    for note in planned.notes:
        console.print(f"  {note}")
    if present.pool is not None:
        console.print(_pool_table(present.pool, reading))
    for stale in planned.stale:
        console.print(f"  stale: {stale}")
    if prompts := describe_prompts(planned, present):
        console.print(f"Prompts through the text encoder: {prompts}.")
    if planned.stored and (expected := describe(planned, present, stored_costs(store.runs()))):
        console.print(f"At the speed of the stored runs, one at a time: {expected}.")


def run(
    grid: str,
    /,
    *,
    out: Annotated[Path, shared(STORE)] = Path("runs"),
    axes: AxisOptions = NO_CHANGE,
    inputs: InputOptions = NO_INPUTS,
    reading: ReadingOptions = AS_IT_STANDS,
    engine: str | None = None,
    address: str | None = None,
    workers: int | None = None,
    slurm: Annotated[Sequence[str], Several] = (),
    slurm_worker: Annotated[bool, Parameter(show=False, negative="")] = False,
    retry_failed: Annotated[bool, Parameter(negative="")] = False,
    checkpoint_minutes: float = 10.0,
    gpus_per_run: int = 1,
    micro_batch: int | None = None,
    track: Annotated[Sequence[str], Several] = (),
    caching: LimitOptions = NO_LIMIT_GIVEN,
    machine: MachineOptions = THIS_MACHINE,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Runs what is missing of a grid. Ctrl-C at any time; the same command goes on.

    Examples:

        cytolora run smoke --out runs
        cytolora run exp2 --dataset herlev --data herlev=smear2005 --model uni --weights uni=UNI/model.safetensors \\
            --shots 1 4 16 --out runs
        cytolora run exp2 --data herlev=smear2005 sipakmed=SIPaKMeD --pool bethesda-general --model uni \\
            --leave-out dataset=herlev dataset=sipakmed --out runs
        cytolora run exp2 --data herlev=smear2005 --out runs --engine slurm --workers 8 \\
            --slurm partition=gpu gres=gpu:1 time=04:00:00

    Parameters
    ----------
    grid
        A shipped grid (`cytolora ls grids`) or a YAML file.
    out
        Folder of stored runs; each finished run is a folder in it.
    engine
        Engine that executes runs: inline (this process), processes (several of this machine), ray (many workers, on
        this machine or others) or slurm (jobs of a SLURM cluster). Without it, processes where --workers is given, ray
        with --address, slurm with --slurm, else inline.
    address
        HOST:PORT of a running Ray cluster, on the loopback address or protected by a token; without it, ray starts one
        on this machine.
    workers
        Runs at a time with processes or ray; without it, one a GPU, or as many as the CPUs hold at the threads given
        to each. With slurm, the number of jobs, which has to be given.
    slurm
        Options of sbatch, each as NAME=VALUE or NAME alone: partition=gpu gres=gpu:1 cpus-per-task=8 time=04:00:00
        exclusive. Near its time limit a job stores a checkpoint and is queued again.
    slurm_worker
        Works in this process, as one of the jobs that the same command without this option has started.
    retry_failed
        Tries runs again that failed for their data or weights, although these are the same since. Without it, the
        settings of such runs are left out, and told of at the end.
    checkpoint_minutes
        Minutes between two checkpoints of a run that trains an adapter: a killed run goes on from its last one and
        ends with the same bytes. 0 writes one after every step. Part of no run's id.
    gpus_per_run
        Processes that train one adapter run together, each on a GPU of its own; on a CPU each has its share of the
        threads. For inline and processes; it has to divide the batch. Results agree up to rounding; part of no run's
        id.
    micro_batch
        Images that one process takes through the encoder together, at most, when it trains an adapter: less memory, the
        same result up to rounding. Halved by itself where memory is too little. Part of no run's id.
    track
        Experiment trackers that the runs of --out are mirrored to, as TRACKER:ADDRESS (`cytolora ls trackers`).
        One that does not answer stops nothing, is told of at the end, and adds a second at most.
    quiet
        Shows no progress.
    """

    def chosen() -> "torch.device":
        from cytolora.cli.machine import resolve_device

        return resolve_device(machine)

    machine.check()
    targets = [] if slurm_worker else [parse_target(text) for text in track]  # its driver mirrors
    division = BatchDivision(processes=gpus_per_run, micro_batch=micro_batch)
    given = Workers(address=address, count=workers, batch=sbatch_options(slurm), command=same_command("--slurm-worker"))
    chosen_engine(engine, given)  # what does not go together is told of at once
    if slurm_worker:
        engine, given = "inline", THIS_PROCESS
    is_batch = chosen_engine(engine, given).has_batch
    if is_batch:
        machine = replace(machine, device="cpu")  # of the jobs it is asked for, not of this machine
    add_backbones(inputs.backbone_file)
    spec = read_grid(grid, axes, inputs, reading)
    caching.apply(out / ".cache")
    device = chosen if machine.device in ("auto", "cpu") else chosen()  # one that is not here is told of at once
    with heeding_signals(), show_progress(quiet=quiet) as progress:

        def announce(plan: Plan, inputs: Inputs, device: "torch.device") -> "Rates | None":
            from cytolora.cli.machine import speed_of

            shared, store = chosen_engine(engine, given).name != "inline", Store(out)
            if quiet or is_batch:
                return None
            return speed_of(plan, inputs, store, device=device, progress=progress, is_shared=shared)

        with mirrored(out, targets, progress):
            plan = grids.run_grid(
                spec,
                read_inputs(inputs, reading, spec, out),
                out,
                device=device,
                progress=progress,
                announce=announce,
                engine=engine,
                workers=given,
                retry_failed=retry_failed,
                checkpoint_minutes=checkpoint_minutes,
                division=division,
            )
    make_console(stderr=True).print(
        f"{counted(len(plan.runs), 'run')} in {out}. Next: cytolora report {out} --out report"
    )


def report(
    runs: Path,
    /,
    *,
    out: Annotated[Path, replaced()] = Path("report"),
    data: Annotated[tuple[str, ...], Several] = (),
    checklist: Annotated[tuple[str, ...], Several] = (),
    reading: ReadingOptions = AS_IT_STANDS,
) -> None:
    """Builds tables, figures and one page from stored runs; needs no GPU, no data and no network.

    Examples:

        cytolora report runs --out report
        cytolora report runs --out report --data herlev=smear2005
        cytolora report runs --out report --checklist tripod-ai claim-2024

    Parameters
    ----------
    runs
        Folder of stored runs.
    out
        Folder of the report; `index.html` is the page. An older report there is replaced whole.
    data
        Folder of a dataset, as NAME=PATH: the page then shows cells rightly and wrongly classified.
    checklist
        Reporting checklists to fill from what the runs know, as Markdown and CSV: tripod-ai, claim-2024, stard-ai.
    """
    written = grids.report(runs, out, pairs(data, "--data"), reading=reading.options(), checklist=checklist)
    print_stored([one for one in written.findings if one["severity"] != "note"], make_console(stderr=True))
    make_console().print(f"{written.path}")


def demo(
    *, out: Annotated[Path, shared()] = Path("demo"), quiet: Annotated[bool, Parameter(negative="")] = False
) -> None:
    """Runs a small experiment on drawn cells with the built-in backbone: no data, no network, minutes on two cores.

    Example:

        cytolora demo --out demo

    Parameters
    ----------
    out
        Folder for the cells, the runs and the report; ends with `report/index.html` in it.
    quiet
        Shows no progress.
    """
    cells = f"synthetic={out / 'cells'}"
    # one thread: on so small an encoder a second one gains a third, and loses far more where another program runs
    run("smoke", out=out / "runs", inputs=InputOptions(data=(cells,)), machine=MachineOptions(threads=1), quiet=quiet)
    report(out / "runs", out=out / "report", data=(cells,))


def _pool_table(pool: Pool, reading: ReadingOptions) -> PlainTable:
    """Lists what becomes of every class of a pool."""
    table = PlainTable("dataset", "class", "images", "category")
    rows = account(pool, reading.options())
    for one in rows:
        goes = one.category or (f"left out: {one.line.note}" if one.line.note else "left out")
        table.add_row(one.dataset, one.label, str(one.number), goes)
    for category in pool.label_map.categories:
        number = sum(one.number for one in rows if one.category == category)
        if number:
            table.add_row("all", "", str(number), category, style="bold")
    return table


def _plain(planned: Plan) -> dict[str, object]:
    to_do = set(planned.to_do)
    return {
        "runs": len(planned.runs),
        "stored": len(planned.stored),
        "to_do": len(to_do),
        "stale": [str(stale) for stale in planned.stale],
        "notes": list(planned.notes),
        "groups": [  # the jobs; the key is pinned, for scripts read it
            {
                "dataset": job.dataset,
                "model": job.backbone,
                "split_seed": job.split.seed,
                "runs": len(job.runs),
                "to_do": len(to_do & set(job.runs)),
            }
            for job in planned.jobs
        ],
    }
