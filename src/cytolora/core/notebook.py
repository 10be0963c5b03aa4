"""Progress bar of a Jupyter notebook, as HTML that replaces itself; needs no widgets."""

import sys
import time
from html import escape
from threading import Lock
from typing import Any

from cytolora.core.progress import Progress

_MIN_SECONDS = 0.1
"""Between two updates of the bar."""


def default_progress() -> Progress:
    """Returns a progress bar in a Jupyter kernel, and the logging ``Progress`` anywhere else."""
    return _Bar().progress() if in_notebook() else Progress()


def in_notebook() -> bool:
    """Whether this process is a Jupyter kernel; imports nothing."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class _Bar:
    """The stage at hand, its count and the last status, in one output that is updated in place."""

    def __init__(self) -> None:
        self._lock, self._shown, self._at = Lock(), None, 0.0
        self._notes: list[str] = []
        self._title = self._status = self._unit = ""
        self._done = self._total = 0

    def progress(self) -> Progress:
        return Progress(say=self.say, begin=self.begin, done=self.done, status=self.status, step=self.step)

    def say(self, text: str) -> None:
        self._notes.append(text)
        self._show(now=True)

    def begin(self, text: str, total: int, unit: str) -> None:
        self._title, self._status, self._unit, self._done, self._total = text, "", unit, 0, total
        self._show(now=True)

    def done(self, number: int) -> None:
        self._done += number
        self._show(now=self._done >= self._total)

    def status(self, text: str) -> None:
        self._status = text
        self._show()

    def step(self, text: str, done: int, total: int) -> None:
        self.status(f"{text}, {done:,} of {total:,} images")

    def _show(self, *, now: bool = False) -> None:
        from IPython.display import HTML, display

        with self._lock:
            if not now and time.monotonic() - self._at < _MIN_SECONDS:
                return
            self._at = time.monotonic()
            if self._shown is None:
                self._shown = display(HTML(self._html()), display_id=True)
            else:
                self._shown.update(HTML(self._html()))

    def _html(self) -> str:
        count = f"{self._done:,} of {self._total:,} {self._unit}" if self._total else ""
        bar = f"<progress value='{self._done}' max='{self._total}'></progress>" if self._total else ""
        line = " ".join(filter(None, (escape(self._title), bar, escape(count), escape(self._status))))
        return "".join(f"<div>{text}</div>" for text in (*map(escape, self._notes), line))
