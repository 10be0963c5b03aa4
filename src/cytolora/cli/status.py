"""Command status: how far the runs of a store are, and who works on them."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cytolora.cli.console import make_console
from cytolora.core.text import counted
from cytolora.display.format import duration
from cytolora.errors import ConfigError
from cytolora.experiments.status import Status, status_of

_LOOK_SECONDS = 2.0
_SHOWN = 20


def status(
    runs: Path,
    /,
    *,
    watch: Annotated[bool, Parameter(negative="")] = False,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Shows which runs of a store are done, running, waiting and failed, by whom and why, and the time left.

    Examples:

        cytolora status runs
        cytolora status runs --watch
        cytolora status runs --json

    Parameters
    ----------
    runs
        Folder of stored runs, as given to `cytolora run --out`.
    watch
        Shows it again every two seconds until nothing is left, or Ctrl-C.
    json_
        Prints one JSON document.
    """
    if watch and json_:
        raise ConfigError("--json is one document, --watch many: give one of them.")
    found = status_of(runs)
    if json_:
        sys.stdout.write(json.dumps(found.plain(), indent=2) + "\n")
        return
    console, shown = make_console(), list[str]()
    while True:
        text = lines(found)
        if text != shown:
            if watch and console.is_terminal:
                console.clear()
            console.print("\n".join(text), soft_wrap=True, markup=False, highlight=False)
        shown = text
        if not watch or not found.left:
            return
        time.sleep(_LOOK_SECONDS)
        found = status_of(runs)


def lines(found: Status) -> list[str]:
    """Says a status in words: a summary, then a line for each worker and each failure."""
    summary = (
        f"{found.done:,} of {counted(found.planned, 'run')} done, {found.running_runs:,} running, {found.waiting:,} "
        f"waiting, {found.failed_runs:,} failed"
    )
    text = [f"{summary}{_speed(found)}."]
    if found.left and not found.running:
        text.append("No command is at work: the same `cytolora run` goes on.")
    if found.left and not found.has_file_time:
        text.append(
            "Nothing may be written there, so that times are by this machine's clock: if it is two minutes fast, "
            "commands at work on other machines are not seen."
        )
    for one in found.running[:_SHOWN]:
        who = f"{one.user} on {one.host}, process {one.pid}" if one.host else "a process that left no name"
        runs = f" ({counted(one.runs, 'run')})" if one.runs > 1 else ""
        text.append(f"  running  {one.name}{runs}: {who}, seen {one.heartbeat_seconds:.0f} s ago")
    for failure in found.failed[:_SHOWN]:
        runs = f" ({counted(len(failure.runs), 'run')})" if len(failure.runs) > 1 else ""
        tried = f", tried {failure.attempts} times" if failure.attempts > 1 else ""
        text.append(f"  failed   {failure.name}{runs}: {failure.reason} ({failure.at}, {failure.by}{tried})")
    if (more := len(found.running[_SHOWN:]) + len(found.failed[_SHOWN:])) > 0:
        text.append(f"  and {more} more; all of them with --json")
    return text


def _speed(found: Status) -> str:
    if found.runs_per_hour is None or found.seconds_left is None or found.seconds_left_range is None or not found.left:
        return ""
    low, high = found.seconds_left_range
    left = f"{duration(found.seconds_left)} left ({duration(low)} to {duration(high)})"
    return f"; {found.runs_per_hour:.3g} runs an hour, {left}"
