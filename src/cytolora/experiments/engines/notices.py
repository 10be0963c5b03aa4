"""Notices of workers: log records and warnings that come from several processes and are shown by one, each once."""

import builtins
import logging
import warnings
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A log record, or a warning of Python's module ``warnings``."""

    name: str
    """Of the logger; of a warning's class, or of the nearest one that every process knows."""
    level: int | None = None
    """Of a log record; None for a warning."""
    text: str
    filename: str = ""
    """Where a warning comes from."""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Notices:
    """Shows each notice once, as this process shows its own."""

    _shown: set[Notice] = field(default_factory=set)

    def show(self, notice: Notice) -> None:
        """Logs or warns, unless an equal notice was shown before."""
        if notice in self._shown:
            return
        self._shown.add(notice)
        if notice.level is not None:
            logging.getLogger(notice.name).log(notice.level, "%s", notice.text)
            return
        category: Any = getattr(builtins, notice.name)
        warnings.warn_explicit(notice.text, category, notice.filename, notice.line)
