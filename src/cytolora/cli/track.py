"""track: mirrors stored runs to experiment trackers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cytolora.api.stores import track as mirror
from cytolora.cli.console import make_console
from cytolora.cli.options import Several
from cytolora.cli.progress import show_progress
from cytolora.core.text import counted
from cytolora.experiments.tracking.registry import parse_target


def track(
    runs: Path,
    /,
    *,
    to: Annotated[Sequence[str], Several],
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Mirrors stored runs to experiment trackers: parameters, metrics and tags, no image and no file name.

    Runs that are there already are not added again; those that changed are brought up to date. The store is only read.

    Examples:

        cytolora track runs --to tensorboard:logs
        cytolora track runs --to mlflow:http://127.0.0.1:5000
        cytolora track runs --to wandb:cytology trackio:cytology

    Parameters
    ----------
    runs
        Folder of stored runs.
    to
        TRACKER:ADDRESS, one or several (`cytolora ls trackers`): tensorboard:FOLDER, mlflow:URI, wandb:PROJECT or
        trackio:PROJECT.
    quiet
        Shows no progress.
    """
    console = make_console()
    for text in to:
        parse_target(text)  # all, before the first is mirrored to
    for text in to:
        with show_progress(quiet=quiet) as progress:
            progress.status(f"reading {runs}")
            ((target, tracked),) = mirror(runs, text, progress=progress).items()
        number = counted(tracked.num_mirrored, "run")
        console.print(f"{target}: {number} mirrored, {tracked.num_equal} there already.", soft_wrap=True)
