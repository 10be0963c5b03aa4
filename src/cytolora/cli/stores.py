"""merge and share: stores of several people or machines in one, and one as a file."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cytolora.cli.console import make_console
from cytolora.cli.progress import show_progress
from cytolora.cli.targets import replaced, shared
from cytolora.core.text import counted
from cytolora.data.targets import STORE
from cytolora.experiments.merge import Merged
from cytolora.experiments.merge import merge as merge_stores
from cytolora.experiments.share import share as share_store


def merge(
    stores: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    out: Annotated[Path, shared(STORE)],
    keep_first: Annotated[bool, Parameter(negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Merges stores: copies the runs of several folders into one; of a run with equal results one copy stays.

    Where the stores tested a setting at different learning rates, the rate is chosen again by validation over all runs
    together, and test scores at others are left out once the chosen one is tested with every seed.

    Examples:

        cytolora merge runs_of_monday runs_of_the_cluster --out runs
        cytolora merge theirs --out runs --keep-first

    Parameters
    ----------
    stores
        Folders of stored runs.
    out
        Folder for all of them; may hold runs already, which stay, but for test scores at a rate that is not chosen. One
        that is something else, such as a model or images by class, is refused.
    keep_first
        Where results of one run differ, keeps those in the folder of --out, or of the first store that has them;
        without it nothing is written, and those runs are named.
    quiet
        Shows no progress.
    """
    with show_progress(quiet=quiet) as progress:
        progress.status("comparing runs")

        def begin(found: Merged) -> None:
            progress.begin("copying", len(found.copied), "runs")

        found = merge_stores(stores, out, keep_first=keep_first, on_run=lambda: progress.done(1), on_plan=begin)
    kept = f", {counted(len(found.conflicts), 'run')} differed: the first was kept" if found.conflicts else ""
    console, warnings = make_console(), make_console(stderr=True)
    console.print(
        f"{counted(len(found.copied), 'run')} copied to {out}, {found.num_equal} stored twice{kept}.", soft_wrap=True
    )
    if found.num_sealed:
        text = (
            f"{counted(found.num_sealed, 'test score')} left out: of learning rates that are not chosen over all runs."
        )
        console.print(text, soft_wrap=True)
    if found.num_retested:
        settings = counted(found.num_retested, "setting")
        warnings.print(
            f"! {settings} with test scores at several learning rates (N809): run the grid again, which leaves one.",
            soft_wrap=True,
        )


def share(
    runs: Path,
    /,
    *,
    out: Annotated[Path, replaced()],
    weights: Annotated[bool, Parameter(negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Shares stored runs as one file: a zip of the store, or a table of all predictions. Images are never in it.

    Examples:

        cytolora share runs --out results.zip
        cytolora share runs --out predictions.parquet

    Parameters
    ----------
    runs
        Folder of stored runs.
    out
        results.zip, which unpacks to a folder for `report`, `compare` and `merge`; or predictions.parquet: a row for
        every run, image and class. An earlier one is replaced, and no other file.
    weights
        Puts adapters and heads into the zip file, too.
    quiet
        Shows no progress.
    """
    with show_progress(quiet=quiet) as progress:
        progress.status(f"reading {runs}")
        written = share_store(
            runs,
            out,
            weights=weights,
            on_run=lambda: progress.done(1),
            on_start=lambda count: progress.begin(f"writing {out}", count, "runs"),
        )
    console, warnings = make_console(), make_console(stderr=True)
    console.print(f"{counted(written.num_runs, 'run')} in {out}.", soft_wrap=True)
    names = "file names" + (" and the names of patients, slides or fields" if written.num_groups else "")
    warnings.print(f"! It holds {names} of the images: look at them before you pass it on.", soft_wrap=True)
    if written.num_paths:
        text = f"! {counted(written.num_paths, 'run')} name folders of this machine in provenance.json."
        warnings.print(text, soft_wrap=True)
    if written.num_hosts:
        text = f"! {counted(written.num_hosts, 'run')} name the machine that they ran on in provenance.json."
        warnings.print(text, soft_wrap=True)
