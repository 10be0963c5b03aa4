"""Progress protocol: callbacks that long work reports to; loads no torch."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where work tells what it does and how far it is; ``cli/progress.py`` shows it, as a bar or as lines of a log."""

    say: Callable[[str], None] = lambda text: None
    """Told what stays to be read: a note, or what is begun."""
    begin: Callable[[str, int, str], None] = lambda text, total, unit: None
    """Told that a stage begins, how much of what unit there is to do; 0 where that is not counted."""
    done: Callable[[int], None] = lambda number: None
    """Told how much of the stage was just done."""
    status: Callable[[str], None] = lambda text: None
    """Told what is being done now, as often as that changes."""
    step: Callable[[str, int, int], None] = lambda text, done, total: None
    """Told how far a part of the stage is that has a count of its own: text, images done, images in total."""

    def counted(self, text: str, total: int) -> Callable[[int], None]:
        """Returns what takes the number of images just done and tells how many of ``total`` that makes."""
        num_done = 0
        self.step(text, 0, total)

        def advance(images: int) -> None:
            nonlocal num_done
            num_done += images
            self.step(text, num_done, total)

        return advance
