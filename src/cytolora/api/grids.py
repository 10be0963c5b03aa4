"""Grids from Python: ``run`` stores what is missing, ``report`` and ``compare`` read what is stored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cytolora.config.grid import GridSpec
from cytolora.config.preset import load_preset, with_preset
from cytolora.config.reading import AS_IT_STANDS, ReadOptions
from cytolora.config.run import RunSpec
from cytolora.config.yaml import load_grid
from cytolora.core.arguments import (
    AnyPath,
    OneOrMany,
    as_device,
    as_named_paths,
    as_names,
    as_numbers,
    as_path,
    as_path_or_none,
    as_whole_numbers,
)
from cytolora.core.cache_damage import one_notice
from cytolora.core.findings import lines, summary
from cytolora.core.notebook import default_progress
from cytolora.core.progress import Progress
from cytolora.core.strict_json import read_json
from cytolora.core.tables import html_table, to_pandas
from cytolora.data.pooling import pool_of, pooled
from cytolora.data.targets import STORE, check_shared
from cytolora.errors import ConfigError, StoreError, unknown_name
from cytolora.experiments import claims
from cytolora.experiments.batch_division import WHOLE, BatchDivision
from cytolora.experiments.engines.registry import ENGINES, chosen_engine
from cytolora.experiments.engines.workers import THIS_PROCESS, Workers
from cytolora.experiments.expand import dataset_folders, narrowed, tied_to_files
from cytolora.experiments.failures import Failure, lasting, left_out, without
from cytolora.experiments.names import write_names
from cytolora.experiments.plan import Plan, make_plan
from cytolora.experiments.planned import write_planned
from cytolora.experiments.store import Store, again_if_replaced, require_writable
from cytolora.experiments.undrawn import left_undrawn, undrawn
from cytolora.training.resources import Inputs

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from cytolora.experiments.workload import Rates
    from cytolora.reporting.comparison.compare import Comparison
    from cytolora.reporting.comparison.fields import By
    from cytolora.reporting.results.settings import Metric, Setting

_LISTED = 5


def run(
    grid: AnyPath | GridSpec,
    data: Mapping[str, AnyPath] | None = None,
    out: AnyPath = "runs",
    *,
    dataset: OneOrMany[str] = (),
    model: OneOrMany[str] = (),
    method: OneOrMany[str] = (),
    shots: OneOrMany[int | str] = (),
    fractions: OneOrMany[float] = (),
    seeds: OneOrMany[int] = (),
    split_seeds: OneOrMany[int] = (),
    leave_out: OneOrMany[str] = (),
    learning_rates: OneOrMany[float] = (),
    steps: int | None = None,
    precision: Literal["fp32", "bf16"] | None = None,
    val_shots: int | Literal["none"] | None = None,
    sampling: Literal["per_class", "natural"] | None = None,
    preset: AnyPath | None = None,
    weights: Mapping[str, AnyPath] | None = None,
    weights_dir: AnyPath | None = None,
    trust_weights: bool = False,
    split: AnyPath | None = None,
    label_map: AnyPath | None = None,
    pool: AnyPath | None = None,
    reading: ReadOptions = AS_IT_STANDS,
    device: "str | torch.device | None" = None,
    engine: str | None = None,
    workers: int | None = None,
    retry_failed: bool = False,
    checkpoint_minutes: float = 10.0,
    gpus_per_run: int = 1,
    micro_batch: int | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Runs what is missing of a grid; finished runs stay, and the same call resumes.

    Example::

        cytolora.run("smoke", {"folder": "my_cells"}, "runs", dataset="folder", shots=[1, 4], seeds=[1, 2])
        cytolora.report("runs", "report")

    Args:
        grid: A shipped name, the path of a YAML file, or a spec.
        data: Folder of each dataset, by its name in the grid; synthetic cells are drawn if no folder is named.
        out: Folder of stored runs.
        dataset, model, method, shots, fractions, seeds, learning_rates: Replace that axis of the grid, with one or
            many values; empty: the grid's own. ``shots`` may hold ``"all"``.
        split_seeds: Replace ``split.seed``, a division into train, val and test each; a dataset with an official test
            set has one division whatever is asked.
        leave_out: Metadata values, ``"site=A"``, whose images are the test set: a division for each.
        steps: Truncates every training by steps: a dry run, marked in the report.
        precision: Of training; the grid's own if None.
        val_shots: Validation images per class whatever the shots, or ``"none"``; the grid's own if None.
        sampling: ``natural`` draws as many labels in the data's own prevalence; the grid's own if None.
        preset: Differences applied before the axes are replaced: a shipped name or a YAML file.
        weights: Checkpoints on disk, by backbone; otherwise ``weights_dir``, the hub's cache, then the hub.
        trust_weights: Goes on by a backbone's entry where a configuration beside its weights says otherwise.
        split: File written by ``split``; replaces official subsets and the grid's own split.
        label_map: CSV with columns from,to[,order] that renames or joins classes.
        pool: Label map (a shipped name or a YAML file) that makes the datasets of ``data`` one, in place of the grid's.
        reading: What the files of the datasets leave to choose.
        device: ``auto`` takes a GPU where there is one; the CPU if None.
        engine: Where runs are executed: ``inline``, ``processes`` or ``ray``; if None, in this process, or in several
            of this machine where ``workers`` are given.
        workers: Runs at a time, for an engine of several workers.
        retry_failed: Tries runs again that failed for their data or weights, although these are the same since.
        checkpoint_minutes: Between two states that a run keeps of its training, to go on from if it is killed.
        gpus_per_run: Processes that train one adapter run together, each on a GPU of its own; on a CPU each has its
            share of the threads. It has to divide the batch.
        micro_batch: Images that one of them takes through the encoder together, at most; None: as many as are fastest.

    Returns:
        The plan as it was before the first run.

    Raises:
        StoreError: If stored runs of the grid were computed from other weights, data or splits. If settings were left
            out, when all others are done: those that failed before, and those that need a class which no image drawn
            is of.
    """
    out, folders = as_path(out, "out"), as_named_paths(data, "data")
    spec, names = grid if isinstance(grid, GridSpec) else load_grid(grid), as_names(dataset, "dataset")
    together = None if pool is None else pool_of(as_path(pool, "pool"), folders)
    spec = narrowed(
        spec if preset is None else with_preset(spec, load_preset(str(preset))),
        datasets=names if together is None else pooled(together, names, as_path_or_none(label_map, "label_map")),
        models=as_names(model, "model"),
        methods=as_names(method, "method"),
        shots=_shots(shots),
        fractions=as_numbers(fractions, "fractions"),
        seeds=as_whole_numbers(seeds, "seeds"),
        split_seeds=as_whole_numbers(split_seeds, "split_seeds"),
        leave_out=as_names(leave_out, "leave_out"),
        learning_rates=as_numbers(learning_rates, "learning_rates"),
        max_steps=steps,
        precision=precision,
        val_shots=val_shots,
        sampling=sampling,
    )
    inputs = Inputs(
        data=dataset_folders(spec, folders, out) if together is None else {},
        pool=together,
        weights=weights,
        weights_dir=weights_dir,
        trust_weights=trust_weights,
        split_file=split,
        label_map=label_map,
        reading=reading,
    )
    return run_grid(
        tied_to_files(spec, inputs.split_file, inputs.label_map, inputs.reading.groups_from),
        inputs,
        out,
        device=device,
        progress=progress,
        engine=engine,
        workers=Workers(count=workers),
        retry_failed=retry_failed,
        checkpoint_minutes=checkpoint_minutes,
        division=BatchDivision(processes=gpus_per_run, micro_batch=micro_batch),
    )


def _shots(given: OneOrMany[int | str]) -> list[int | Literal["all"]]:
    """Returns numbers of shots; ``"all"`` stands for every training image."""
    values = [given] if isinstance(given, int | str) else list(given)
    return ["all" if value == "all" else as_whole_numbers(value, "shots")[0] for value in values]  # pyright: ignore


@one_notice()
def run_grid(
    spec: GridSpec,
    inputs: Inputs,
    out: Path,
    *,
    device: "str | torch.device | Callable[[], torch.device] | None" = None,
    progress: Progress | None = None,
    announce: "Callable[[Plan, Inputs, torch.device], Rates | None]" = lambda plan, inputs, device: None,
    engine: str | None = None,
    workers: Workers = THIS_PROCESS,
    retry_failed: bool = False,
    checkpoint_minutes: float = 10.0,
    division: BatchDivision = WHOLE,
) -> Plan:
    """Does what ``run`` does, for a grid and inputs that are ready; the command line calls it.

    Where all is stored already, torch is not loaded.

    Args:
        device: Or what chooses it, called if there is something to do.
        announce: Called with the plan and the device before the first run; returns what it knows of the speed.
        workers: The cluster and the number of workers, for an engine that has some.
        retry_failed: Tries again what failed before for data and weights that are the same since.
        checkpoint_minutes: Between two states that a run keeps of its training; 0: after every step.
        division: Of the batches of adapter runs.
    """
    chosen, progress = chosen_engine(engine, workers), progress or default_progress()
    chosen.check_division(division)
    on = device if device is None or callable(device) else as_device(device)  # one that is not here ends it now
    progress.status("comparing what is stored with data and checkpoints")
    packages = ENGINES.package_of(chosen.name)
    store = Store(out, checkpoint_minutes=checkpoint_minutes, division=division, packages=packages)
    plan = _checked_plan(spec, store, inputs)
    division.check(plan.runs)
    if plan.jobs:
        chosen.check_ready(workers)
        check_shared(out, STORE)
        require_writable(out)  # now, not after the first run; a finished store may be one to read
    if any([inputs.fetch_weights(job.backbone, progress) for job in plan.jobs]):  # noqa: C419  (all of them are fetched)
        plan = _checked_plan(spec, store, inputs)  # their hashes are known only now
    _fetch_vocabularies(plan, inputs, out)
    for text in plan.notes:
        progress.say(text)
    for text in _findings(plan, inputs):
        progress.finding(text)
    write_names(store, plan.names)
    lacking: list[Failure] = []
    if plan.jobs:
        on = on() if callable(on) else as_device(on)
        rates = announce(plan, inputs, on)
        write_planned(store, [run.run_id for run in plan.runs])
        failed = [] if retry_failed else lasting(store, inputs, plan.to_do)
        lacking = undrawn(plan.jobs, inputs, store, progress)
        jobs = without(plan.jobs, [*failed, *lacking])
        try:
            chosen.run_jobs(jobs, inputs, store, device=on, progress=progress, workers=workers, rates=rates)
        finally:
            claims.sweep(out)  # of workers that were ended
        if failed:
            raise left_out(failed, out)
    if runs := plan.runs if plan.jobs else _not_measured(plan, inputs, store):
        from cytolora.reporting.leakage.measure import measure_beside

        measure_beside(runs, inputs, store, device=on() if callable(on) else as_device(on), progress=progress)
    if lacking:
        raise left_undrawn(lacking)
    return plan


def _not_measured(plan: Plan, inputs: Inputs, store: Store) -> list[RunSpec]:
    """Returns a run for each dataset, backbone and kind of which it is not known what the data give away."""
    from cytolora.reporting.leakage.kept import is_complete

    subjects = {(run.dataset, run.split, run.label_map_sha256, run.backbone, run.kind): run for run in plan.runs}
    return [run for run in subjects.values() if not is_complete(run, inputs, store)]


def _fetch_vocabularies(plan: Plan, inputs: Inputs, out: Path) -> None:
    """Fetches what texts of the runs to do need: now, not after hours of other runs."""
    needing = [job for job in plan.jobs if any(run.needs_text for run in job.runs)]
    if not needing:
        return
    from cytolora.training.class_text import has_text  # loads torch

    for job in needing:
        if any(run.needs_text and not has_text(run, inputs, out / ".cache" / "text") for run in job.runs):
            inputs.fetch_vocabulary(job.backbone)


def _findings(plan: Plan, inputs: Inputs) -> list[str]:
    """Returns the findings of the datasets that are to be run on, as lines."""
    divisions = dict.fromkeys((run.dataset, run.split) for run in plan.to_do)
    manifests = (inputs.manifest(dataset, split) for dataset, split in divisions)
    found = [(one.name, one.findings) for one in manifests if one.findings]
    return [text for name, findings in found for text in (f"{name}: {summary(findings)}.", *lines(findings))]


def _checked_plan(spec: GridSpec, store: Store, inputs: Inputs) -> Plan:
    plan = make_plan(spec, store, inputs)
    if plan.stale:
        shown = "; ".join(str(stale) for stale in plan.stale[:_LISTED])
        more = f"; and {len(plan.stale) - _LISTED} more" if len(plan.stale) > _LISTED else ""
        raise StoreError(
            f"{len(plan.stale)} stored runs in {store.root} were computed from other weights, data or splits: {shown}"
            f"{more}. They are neither used nor overwritten: choose another --out, or move them away."
        )
    return plan


@dataclass(frozen=True)
class Report:
    """A written report: its page, and the table of results."""

    path: Path
    """``index.html``; the tables and figures lie beside it."""

    @cached_property
    def findings(self) -> list[dict[str, Any]]:
        """What was odd in the data of the runs: dataset, code, name, severity, text, count and examples."""
        from cytolora.reporting.pages.build import FINDINGS

        path = self.path.with_name(FINDINGS)
        return read_json(path.read_text(encoding="utf-8")) if path.is_file() else []

    @cached_property
    def table(self) -> "pa.Table":
        """The rows of ``tables.csv``: accuracy and balanced accuracy by dataset, model, method and amount of data."""
        from pyarrow import csv

        return csv.read_csv(self.path.with_name("tables.csv"))

    def to_arrow(self) -> "pa.Table":
        """Returns ``table``."""
        return self.table

    def to_pandas(self) -> Any:
        """Returns ``table`` as a pandas DataFrame.

        Raises:
            ConfigError: If pandas is not installed.
        """
        return to_pandas(self.table)

    def __repr__(self) -> str:
        return f"Report({str(self.path)!r}, {self.table.num_rows} rows)"

    def _repr_html_(self) -> str:
        rows = [list(row.values()) for row in self.table.to_pylist()]
        address = escape(self.path.absolute().as_uri())
        link = f"<p><a href='{address}'>{escape(str(self.path))}</a></p>"
        return link + html_table(self.table.column_names, rows)


@one_notice()
def report(
    runs: AnyPath,
    out: AnyPath,
    data: Mapping[str, AnyPath] | None = None,
    *,
    reading: ReadOptions = AS_IT_STANDS,
    checklist: OneOrMany[str] = (),
) -> Report:
    """Builds tables, figures and one page from stored runs.

    Args:
        data: Folder of a dataset, by name: the page then shows examples of right and wrong predictions.
        reading: Of these datasets, as they were read for the runs.
        checklist: Reporting checklists to fill from what the runs know: ``tripod-ai``, ``claim-2024``, ``stard-ai``.

    Raises:
        ConfigError: If there is no such checklist.
    """
    from cytolora.reporting.manuscript.checklist import named
    from cytolora.reporting.pages.build import build_report

    return Report(build_report(runs, out, data, reading=reading, checklist=named(as_names(checklist, "checklist"))))


@one_notice()
def compare(
    runs: AnyPath,
    by: "By",
    *,
    dataset: OneOrMany[str] = (),
    metric: "Metric" = "accuracy",
    best: bool = False,
) -> "Comparison":
    """Compares stored runs in pairs on the same test images: difference, 95 % interval, p corrected by Holm.

    Args:
        by: What the two of a pair differ in: ``model``, ``method``, ``shots``, or any setting that differs, such as
            ``rank``, ``targets`` or ``learning_rate``; they agree in everything else.
        dataset: Only these; all if none is named.
        best: Compares only the best of each family with the others: fewer pairs, milder correction. The best is
            chosen on validation.

    Raises:
        StoreError: If there are no finished runs.
        ConfigError: If no two of them differ in ``by`` alone.
    """
    from cytolora.reporting.comparison.compare import compare as compare_settings

    runs = as_path(runs, "runs")
    names = as_names(dataset, "dataset")
    settings = again_if_replaced(lambda: _settings(runs, names))
    comparison = compare_settings(settings, by, metric=metric, only_best=best)
    if not comparison.pairs and not comparison.skipped:
        raise ConfigError(
            f"No two tested settings in {runs} differ in {by} alone; choose another --by, or run more of the grid."
        )
    return comparison


def _settings(runs: Path, datasets: tuple[str, ...]) -> "list[Setting]":
    from cytolora.reporting.results.checks import refuse_mixed
    from cytolora.reporting.results.settings import evaluate_setting, gather_settings

    stored = Store(runs).runs_at_once() if runs.is_dir() else []
    if not stored:
        raise StoreError(f"No finished runs in {runs}. Point at the folder given to `cytolora run --out`.")
    refuse_mixed(stored)
    gathered = gather_settings(stored)
    known = {name for setting in gathered for name in (setting.dataset, setting.spec.dataset.partition(":")[0])}
    for name in datasets:
        if name not in known:
            raise unknown_name("dataset", name, {setting.dataset for setting in gathered})
    chosen = set(datasets)
    return [
        evaluate_setting(setting)
        for setting in gathered
        if not chosen or chosen & {setting.dataset, setting.spec.dataset.partition(":")[0]}
    ]
