"""Queue of work for many workers: the order in which free ones take it, and retries; knows neither runs nor engines."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Generic, Protocol, TypeVar

from cytolora.errors import EngineError

Loaded = tuple[str, str]
"""Names of data and backbone: what a worker keeps loaded."""

_MAX_ATTEMPTS = 3
_AGAIN_SECONDS = 2.0
"""Until work is given out again that another command was at."""


class Work(Protocol):
    """What a worker does before it asks for more: a frozen value; ``str`` names it in a line."""

    @property
    def key(self) -> Loaded:
        """What it needs loaded."""
        ...

    @property
    def cost(self) -> float:
        """Images: only to compare."""
        ...

    @property
    def names(self) -> list[str]:
        """What is missing when it fails."""
        ...


AnyWork = TypeVar("AnyWork", bound=Work)


@dataclass(kw_only=True)
class Queue(Generic[AnyWork]):
    """The work that is left, and what became of that given out."""

    waiting: list[AnyWork]
    attempts: Counter[AnyWork] = field(default_factory=Counter)
    elsewhere: list[tuple[float, AnyWork]] = field(default_factory=list)
    """That which another command is at, each with the time of the next attempt (``time.monotonic``)."""
    given_up: Callable[[AnyWork, str], None] = lambda work, why: None
    """Told of work whose workers died again and again, and why."""

    def take(self, loaded: Loaded | None, at_work: Counter[Loaded]) -> AnyWork | None:
        """Gives a worker its next work, or None: first of what it has loaded, then of what it has half.

        Otherwise it joins where most is left for each worker there. The longest go first, so that none is still at
        a long one when all others have ended; of equal ones, those that wait longest.

        Args:
            loaded: What the worker worked on last.
            at_work: How many workers are at work on each key.
        """
        now = monotonic()
        self.waiting += [work for due, work in self.elsewhere if due <= now]
        self.elsewhere = [(due, work) for due, work in self.elsewhere if due > now]
        if not self.waiting:
            return None
        left: Counter[Loaded] = Counter()
        for work in self.waiting:
            left[work.key] += work.cost  # pyright: ignore[reportArgumentType]  (a sum of floats is as good)

        def option(key: Loaded) -> tuple[bool, bool, float]:
            return key == loaded, loaded is not None and key[1] == loaded[1], left[key] / (1 + at_work[key])

        key = max(left, key=option)
        work = max((work for work in self.waiting if work.key == key), key=lambda work: work.cost)
        self.waiting.remove(work)
        return work

    def put_off(self, work: AnyWork) -> None:
        """Takes work back that another command is at."""
        self.elsewhere.append((monotonic() + _AGAIN_SECONDS, work))

    @property
    def are_left(self) -> bool:
        """Whether some is still to be given out, now or later."""
        return bool(self.waiting or self.elsewhere)

    def done(self, work: AnyWork) -> None:
        """Notes that work is stored."""

    def give_back(self, work: AnyWork) -> None:
        """Takes work back that its worker never began with: nothing is said against it."""
        self.waiting.append(work)

    def lost(self, work: AnyWork, why: str) -> None:
        """Takes work back whose worker died.

        Raises:
            EngineError: If that happened too often: then it is the work that kills.
        """
        self.attempts[work] += 1
        if self.attempts[work] >= _MAX_ATTEMPTS:
            self.given_up(work, why)
            names = work.names
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise EngineError(
                f"{self.attempts[work]} workers died at {', '.join(names[:3])}{more}, the last: {why}. Often memory "
                "is short: take fewer --workers. What was finished is kept; the same command goes on from there."
            )
        self.waiting.append(work)
