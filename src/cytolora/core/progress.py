"""Progress reports of long work: logged by default, a bar in a notebook; loads no torch."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

_LOG = logging.getLogger("cytolora")


def _log_begin(text: str, total: int, unit: str) -> None:
    _LOG.info("%s", f"{text}: {total:,} {unit}" if total else text)


def _log_say(text: str) -> None:
    _LOG.info("%s", text)


def _log_status(text: str) -> None:
    _LOG.debug("%s", text)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Callbacks that long work calls, from any thread; by default they log to the logger ``cytolora``.

    Example::

        logging.basicConfig(level=logging.INFO)  # stages and notes; DEBUG adds what is being done
        cytolora.fit("my_cells", "model1", progress=cytolora.Progress())
    """

    say: Callable[[str], None] = _log_say
    """Takes a note, or the text of a step that begins."""
    begin: Callable[[str, int, str], None] = _log_begin
    """Takes the title of a stage that begins, its total and the unit; 0 where nothing is counted."""
    done: Callable[[int], None] = lambda number: None
    """Takes how many units of the stage were just done."""
    status: Callable[[str], None] = _log_status
    """Takes what is being done now, as often as that changes."""
    step: Callable[[str, int, int], None] = lambda text, done, total: None
    """Takes the count of a part of the stage: text, images done, images in total."""
    left: Callable[[float | None], None] = lambda seconds: None
    """Takes the time in seconds that all the work still takes, not only the stage, as often as it is known anew; None:
    it is not known, or no work is left."""
    find: Callable[[str], None] | None = None
    """Takes the line of a finding, which is shown also where nothing else is; ``say`` takes it if None."""

    def finding(self, line: str) -> None:
        """Reports the line of a finding."""
        (self.find or self.say)(line)

    def counted(self, text: str, total: int) -> Callable[[int], None]:
        """Returns a function that takes the number of images just done and reports the sum as a ``step``."""
        num_done = 0
        self.step(text, 0, total)

        def advance(images: int) -> None:
            nonlocal num_done
            num_done += images
            self.step(text, num_done, total)

        return advance


SILENT = Progress(say=lambda text: None, begin=lambda text, total, unit: None, status=lambda text: None)
"""Neither shows nor logs anything."""
