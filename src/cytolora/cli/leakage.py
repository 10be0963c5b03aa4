"""The command `leakage`: group leakage, readable sources and confounded classes of a dataset."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from cytolora.cli.cache_options import DEFAULT, CacheOptions
from cytolora.cli.console import Console, PlainTable, make_console
from cytolora.cli.options import (
    AS_IT_STANDS,
    NO_WEIGHTS,
    THIS_MACHINE,
    MachineOptions,
    OfFeatures,
    ReadingOptions,
    Several,
    WeightOptions,
    pairs,
)
from cytolora.cli.print_findings import print_findings
from cytolora.cli.targets import replaced
from cytolora.data.own_files import LEAKAGE_PAGE

if TYPE_CHECKING:
    from cytolora.classifier.leakage.report import LeakageReport


def leakage(
    path: Path,
    /,
    *,
    model: str | None = None,
    bundle: Path | None = None,
    dataset: str | None = None,
    positive: Annotated[tuple[str, ...], Several] = (),
    sensitivity: float = 0.95,
    head: Literal["gda", "nearest-mean"] = "gda",
    repeats: int = 10,
    seed: int = 0,
    page: Annotated[Path | None, replaced("--page", LEAKAGE_PAGE)] = None,
    precision: OfFeatures = "auto",
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
    reading: ReadingOptions = AS_IT_STANDS,
    files: WeightOptions = NO_WEIGHTS,
    caching: CacheOptions = DEFAULT,
    machine: MachineOptions = THIS_MACHINE,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Measures what a division by image would add to the numbers, and how well slide, scanner or site can be read.

    Examples:

        cytolora leakage my_cells --model uni --weights uni=UNI/model.safetensors --page leakage.html
        cytolora leakage my_cells/manifest.csv --model dinov2-b14 --group-column patient --positive hsil scc
        cytolora leakage other_cells --bundle model1 --json

    Parameters
    ----------
    path
        Folder, table or zip file of labelled images whose patient, slide or field is known.
    model
        Backbone (`cytolora ls models`); that of --backbone-file, or the best for a linear classifier here, if none.
    bundle
        Bundle that `cytolora fit` wrote, instead of --model: its features before and after adaptation.
    dataset
        Which reader (`cytolora ls datasets`); recognised from the folder if not given.
    positive
        Classes that must not be missed: sensitivity at a frozen threshold; those of the bundle if none.
    sensitivity
        Share of positive cells that the frozen threshold shall find, in (0, 1].
    head
        Head fitted on the features: gda, or nearest-mean, which is faster.
    repeats
        Divisions, each in up to five folds.
    seed
        Of the divisions and permutations.
    page
        HTML file to write.
    precision
        Of frozen features: auto is that of the bundle's `fit`, and fp32 of a model (docs/performance.md).
    json_
        Prints one JSON document.
    quiet
        Shows no progress.
    """
    from cytolora.api.leakage import leakage as measure
    from cytolora.cli.machine import resolve_device
    from cytolora.cli.own_backbones import add_own, open_bundle
    from cytolora.cli.progress import show_progress

    with show_progress(quiet=quiet) as progress:
        progress.status(f"reading {path}")
        opened = None if bundle is None else open_bundle(bundle, files, machine, precision)
        own = [] if bundle is not None else add_own(files.backbone_file)
        report = measure(
            path,
            model=model or (own[0] if own else None),
            bundle=opened,
            dataset=dataset,
            positive=positive,
            sensitivity=sensitivity,
            head=head,
            repeats=repeats,
            seed=seed,
            page=page,
            precision=None if precision == "auto" else precision,
            reading=reading.options(),
            weights=None if opened is not None else pairs(files.weights, "--weights"),
            weights_dir=files.weights_dir,
            trust_weights=files.trust_weights,
            cache=caching.folder(),
            device=resolve_device(machine),
            progress=progress,
        )
    if json_:
        sys.stdout.write(json.dumps(report.plain(), indent=2) + "\n")
        return
    console = make_console()
    _print(report, console)
    print_findings(report.findings(), console)
    if page is not None:
        console.print(f"Written to {page}.")


def _print(report: "LeakageReport", console: Console) -> None:
    from cytolora.classifier.leakage import tables

    console.print(tables.summary(report))
    for table in tables.of(report):
        console.print(f"\n{table.title}")
        if table.rows:
            plain = PlainTable(*table.header)
            for row in table.rows:
                plain.add_row(*row)
            console.print(plain)
        for note in table.notes:
            console.print(note)
    console.print("")
