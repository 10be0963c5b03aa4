"""Progress bars with the time left, on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_SPEED_SECONDS = 600
"""Time over which speed is averaged: runs of one grid differ in theirs."""


Advance = Callable[[int], None]
Handles = tuple[Callable[[str], None], Callable[[int], None]]


@contextmanager
def bar(text: str, *, total: int, unit: str, quiet: bool) -> Iterator[Handles]:
    """Yields two functions: one changes the text, the other advances the bar; both may be called from any thread."""
    if quiet:
        yield (lambda text: None), (lambda done: None)
        return
    with _progress(unit, Console(stderr=True)) as shown:
        task = shown.add_task(text, total=total)
        yield (lambda text: shown.update(task, description=text)), (lambda done: shown.advance(task, done))


@contextmanager
def stages(*, unit: str, quiet: bool) -> Iterator[tuple[Callable[[str], None], Callable[[str, int], None], Advance]]:
    """Yields three functions for work of several stages: they say a line, begin a stage, advance it.

    There is one bar, of the stage at hand; one that is done, or has nothing to do, is gone.
    """
    if quiet:
        yield (lambda text: None), (lambda text, total: None), (lambda done: None)
        return
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    with _progress(unit, console) as shown:

        def begin(text: str, total: int) -> None:
            for task in shown.task_ids:
                shown.remove_task(task)
            shown.add_task(text, total=total)

        def advance(done: int) -> None:
            for task in shown.task_ids:
                shown.advance(task, done)

        yield console.print, begin, advance
        for task in shown.task_ids:
            shown.remove_task(task)


def _progress(unit: str, console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, speed_estimate_period=_SPEED_SECONDS)
