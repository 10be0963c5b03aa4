"""Progress bars with the time left, on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_SPEED_SECONDS = 600
"""Time over which speed is averaged: runs of one grid differ in theirs."""


Handles = tuple[Callable[[str], None], Callable[[int], None]]


@contextmanager
def bar(text: str, *, total: int, unit: str, quiet: bool) -> Iterator[Handles]:
    """Yields two functions: one changes the text, the other advances the bar; both may be called from any thread."""
    if quiet:
        yield (lambda text: None), (lambda done: None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=_SPEED_SECONDS) as shown:
        task = shown.add_task(text, total=total)
        yield (lambda text: shown.update(task, description=text)), (lambda done: shown.advance(task, done))
