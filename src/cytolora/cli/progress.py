"""Progress on standard error: a bar with the time left on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Event, Thread

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from cytolora.cli.console import make_console
from cytolora.cli.log_lines import Lines
from cytolora.core.progress import SILENT, Progress

_SPEED_SECONDS = 600
"""Time over which speed is averaged: runs of one grid differ in theirs."""
_TICK_SECONDS = 1.0


@contextmanager
def show_progress(
    *,
    quiet: bool,
    keep_bars: bool = True,
    console: Console | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Progress]:
    """Yields what shows progress; it may be called from any thread.

    Args:
        quiet: Shows findings alone.
        keep_bars: Leaves the bars of stages that are done on the terminal.
        console: Standard error if None.
        clock: Gives the time in seconds, for the lines of a log.
    """
    is_terminal = sys.stderr.isatty() if console is None else console.is_terminal
    console = console or make_console(stderr=True)
    if quiet:
        yield replace(SILENT, find=lambda line: console.print(line, soft_wrap=True))
    elif is_terminal and console.is_interactive:
        with _on_terminal(console, keep_bars=keep_bars) as progress:
            yield progress
    else:
        with _in_log(console, clock) as progress:
            yield progress


@contextmanager
def _in_log(console: Console, clock: Callable[[], float]) -> Iterator[Progress]:
    lines, stopped = Lines(lambda text: console.print(text, soft_wrap=True), clock), Event()

    def tick() -> None:
        while not stopped.wait(_TICK_SECONDS):
            try:
                lines.tick()
            except OSError:  # nobody reads any more; the work itself goes on
                return

    thread = Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield Progress(
            say=lines.say, begin=lines.begin, done=lines.done, status=lines.status, step=lines.step, left=lines.left
        )
        lines.end()
    finally:
        stopped.set()
        thread.join()


@contextmanager
def _on_terminal(console: Console, *, keep_bars: bool) -> Iterator[Progress]:
    """There is one bar at work, of the stage at hand."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        _Amount(),
        TimeElapsedColumn(),
        TextColumn("left"),
        left := _Left(),
    )
    with Bars(*columns, console=console, speed_estimate_period=_SPEED_SECONDS) as bars:

        def finish() -> None:
            for task in bars.task_ids:
                bars.stop_task(task)
                if not keep_bars:
                    bars.remove_task(task)

        def begin(text: str, total: int, unit: str) -> None:
            finish()
            bars.add_task(text, total=total or None, unit=unit)

        def done(number: int) -> None:
            for task in bars.task_ids[-1:]:
                bars.advance(task, number)

        def status(text: str) -> None:
            for task in bars.task_ids[-1:]:
                bars.update(task, description=text)

        yield Progress(
            say=console.print,
            begin=begin,
            done=done,
            status=status,
            step=lambda text, done, total: status(f"{text}, {done:,} of {total:,} images"),
            left=left.told,
        )
        finish()


class _Left(TimeRemainingColumn):
    """The time left: of all the work where that was told, else of the stage."""

    def __init__(self) -> None:
        super().__init__()
        self._told: tuple[float, float] | None = None

    def told(self, seconds: float | None) -> None:
        """Takes the time that all the work still takes; None: not known."""
        self._told = None if seconds is None else (seconds, time.monotonic())

    def render(self, task: Task) -> Text:
        """Renders it, counting down until it is told anew."""
        if self._told is None or task.finished_time is not None or task.stop_time is not None:
            return super().render(task)
        seconds, at = self._told
        whole = round(max(0.0, seconds - (time.monotonic() - at)))
        return Text(f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}", style="progress.remaining")


class _Amount(ProgressColumn):
    """How much is done of what; of bytes, how fast too."""

    def __init__(self) -> None:
        super().__init__(Column(no_wrap=True))
        self._bytes, self._speed = DownloadColumn(), TransferSpeedColumn()

    def render(self, task: Task) -> Text:
        """Renders the amount of a task; nothing where it is not counted."""
        if task.total is None:
            return Text()
        if task.fields["unit"] == "bytes":
            return Text(" ").join((self._bytes.render(task), self._speed.render(task)))
        return Text(f"{int(task.completed)}/{int(task.total)} {task.fields['unit']}", style="progress.download")
