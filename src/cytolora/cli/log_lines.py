"""Progress as plain log lines, for a standard error that is no terminal: nohup, SLURM, tee."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

from rich.filesize import decimal

from cytolora.display.format import about, duration

FIRST_SECONDS, NEXT_SECONDS = 15, 60
"""From the start of a stage to the first line that says how far it is, and from there to the next."""
_NUM_MARKS = 10
"""Lines back to which speed is averaged: runs of one grid differ in theirs."""
_KEPT_SECONDS = 1
"""What is done this soon was kept from an earlier time, and says nothing of the speed of the rest."""


def amount(number: int, unit: str) -> str:
    """Writes a number with its unit: 917 images, 3.2 GB."""
    return decimal(number) if unit == "bytes" else f"{number:,} {unit}"


@dataclass(kw_only=True)
class _Count:
    """How much is done of something, and how fast."""

    total: int
    unit: str
    since: float
    done: int = 0
    marks: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_NUM_MARKS))
    """Times with what was done by then; speed is measured from the first."""

    def wait(self, now: float) -> None:
        """Starts the time anew while nothing is done."""
        if not self.done:
            self.since = now

    def add(self, now: float, number: int) -> None:
        if not self.marks:
            self.marks.append((self.since, 0))
        self.done += number
        if now - self.since < _KEPT_SECONDS:
            self.marks[0] = now, self.done

    def how_far(self) -> str:
        """Says for example: 640 of 917 images (70 %)."""
        of = decimal(self.done) if self.unit == "bytes" else f"{self.done:,}"
        return f"{of} of {amount(self.total, self.unit)} ({100 * self.done // self.total} %)"

    def left(self, now: float) -> list[str]:
        """Says how long the rest takes; empty where nothing is left, or no speed is known."""
        since, before = self.marks[0] if self.marks else (now, self.done)
        if not before < self.done < self.total:
            return []
        return [f"{about((now - since) / (self.done - before) * (self.total - self.done))} left"]


class Lines:
    """A line when a stage begins and ends, and in between one a minute: what is done, how far, and the time left.

    Whoever works calls from any thread. ``tick`` is called again and again by one that waits, so that work of which
    nothing is heard for long does not look dead.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._write, self._clock, self._lock = write, clock, Lock()
        self._title = self._text = ""
        self._step: _Count | None = None
        self._left: tuple[float, float] | None = None
        self._start("", 0, "")

    def say(self, text: str) -> None:
        """Writes a line; work that is silent after it is doing that."""
        with self._lock:
            self._text, self._step = text, None
            self._stage.wait(self._clock())
            self._line(text)

    def begin(self, text: str, total: int, unit: str) -> None:
        """Ends a stage and begins another."""
        with self._lock:
            self._end()
            self._start(text, total, unit)
            self._line(f"{text}: {amount(total, unit)}" if total else text)

    def done(self, number: int) -> None:
        """Counts what was done of the stage."""
        with self._lock:
            self._step = None
            self._stage.add(self._clock(), number)
        self.tick()

    def status(self, text: str) -> None:
        """Takes what the next line says of what is being done."""
        with self._lock:
            self._text, self._step = text, None
            self._stage.wait(self._clock())
        self.tick()

    def step(self, text: str, done: int, total: int) -> None:
        """Counts a part of the stage."""
        with self._lock:
            now = self._clock()
            if self._step is None or done < self._step.done or (self._text, self._step.total) != (text, total):
                self._step = _Count(total=total, unit="images", since=now)
            self._text = text
            self._step.add(now, done - self._step.done)
            self._stage.wait(now)
        self.tick()

    def left(self, seconds: float | None) -> None:
        """Takes the time that all the work still takes, of which the stage may be one part; None: not known."""
        with self._lock:
            self._left = None if seconds is None else (seconds, self._clock())

    def tick(self) -> None:
        """Writes how far the work is, if it is time for that."""
        with self._lock:
            now = self._clock()
            if now < self._due:
                return
            self._due = now + NEXT_SECONDS
            self._line(self._how_far(now))
            for count in (self._stage, self._step):
                if count is not None and count.done:
                    count.marks.append((now, count.done))

    def end(self) -> None:
        """Ends the last stage."""
        with self._lock:
            self._end()
            self._left = None
            self._start("", 0, "")

    def _how_far(self, now: float) -> str:
        stage, step = self._stage, self._step
        parts = [stage.how_far()] if stage.total else []
        whole = ", ".join([*parts, f"{duration(now - self._begun)} elapsed", *self._time_left(now)])
        part = f"{', '.join([step.how_far(), *step.left(now)])}; " if step is not None and step.total else ""
        return f"{self._text or 'at work'}: {part}{whole}"

    def _time_left(self, now: float) -> list[str]:
        """Says how long the rest takes: all of it where that was told, else the stage's."""
        if self._left is None:
            return self._stage.left(now)
        seconds, told = self._left
        return [f"{about(max(0, seconds - (now - told)))} left in all"]

    def _start(self, title: str, total: int, unit: str) -> None:
        self._begun = now = self._clock()
        self._due = now + FIRST_SECONDS
        self._title = self._text = title
        self._stage, self._step = _Count(total=total, unit=unit, since=now), None

    def _end(self) -> None:
        if self._title:
            far = f"{self._stage.how_far()} in" if self._stage.total else "took"
            self._line(f"{self._title}: {far} {duration(self._clock() - self._begun)}")

    def _line(self, text: str) -> None:
        """Writes one line without control characters, whatever the names in it hold."""
        self._write("".join(letter if letter.isprintable() else "�" for letter in " ".join(text.split())))
