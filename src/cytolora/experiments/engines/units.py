"""Groups to units of work for many workers, and which one a free worker takes next; knows no engine."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cytolora.config.run import RunSpec
from cytolora.errors import EngineError
from cytolora.experiments.plan import Group

Key = tuple[str, str]
"""Dataset and backbone: what a worker keeps loaded."""

Cell = tuple[RunSpec, ...]

_MAX_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What a worker does before it is asked again."""

    key: Key
    cells: tuple[Cell, ...]
    only: RunSpec | None = None
    """The one run to train; None trains what the cells lack, and then scores the test set."""
    cost: float
    """Images of training: only to compare units."""

    def __str__(self) -> str:
        first = self.only or self.cells[0][0]
        name = f"{self.key[0]}, {self.key[1]}, {first.method}"
        if self.only is not None:
            return f"{name}, {first.sampling.amount}, seed {first.seed}, rate {first.learning_rate:g}"
        return name if len(self.cells) > 1 else f"{name}, {first.sampling.amount}: test set"

    @property
    def run_ids(self) -> list[str]:
        """The runs that it is about."""
        return [self.only.run_id] if self.only else [run.run_id for cell in self.cells for run in cell]


@dataclass(kw_only=True)
class Units:
    """The units that are left, and what became of those given out."""

    waiting: list[Unit]
    num_missing: Counter[str] = field(default_factory=Counter)
    """Runs of a cell that are not stored yet, by the cell's id."""
    attempts: Counter[Unit] = field(default_factory=Counter)

    def take(self, loaded: Key | None, at_work: Counter[Key]) -> Unit | None:
        """Gives a worker its next unit, or None: first of what it has loaded, then of what it has half.

        Otherwise it joins where most is left for each worker there. The longest go first, so that none is still at
        a long run when all others have ended.

        Args:
            loaded: What the worker worked on last.
            at_work: How many workers are at work on each key.
        """
        if not self.waiting:
            return None
        left: Counter[Key] = Counter()
        for unit in self.waiting:
            left[unit.key] += unit.cost  # pyright: ignore[reportArgumentType]  (a sum of floats is as good)

        def option(key: Key) -> tuple[bool, bool, float]:
            return key == loaded, loaded is not None and key[1] == loaded[1], left[key] / (1 + at_work[key])

        key = max(left, key=option)
        unit = max((unit for unit in self.waiting if unit.key == key), key=lambda unit: unit.cost)
        self.waiting.remove(unit)
        return unit

    def done(self, unit: Unit) -> None:
        """Notes that a unit is stored; the last run of a cell makes the cell ready for its test set."""
        if unit.only is None:
            return
        cell = unit.cells[0]
        name = cell[0].cell_id
        self.num_missing[name] -= 1
        if not self.num_missing[name]:
            self.waiting.append(Unit(key=unit.key, cells=(cell,), cost=0))

    def lost(self, unit: Unit, why: str) -> None:
        """Takes a unit back whose worker died.

        Raises:
            EngineError: If that happened too often: then it is the unit that kills.
        """
        self.attempts[unit] += 1
        if self.attempts[unit] >= _MAX_ATTEMPTS:
            names = unit.run_ids
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise EngineError(
                f"{self.attempts[unit]} workers died at {', '.join(names[:3])}{more}, the last: {why}. Often memory "
                "is short: take fewer --workers. What was finished is kept; the same command goes on from there."
            )
        self.waiting.append(unit)


def split_up(
    groups: Sequence[Group], *, is_stored: Callable[[RunSpec], bool], num_images: Callable[[RunSpec], int]
) -> Units:
    """Divides groups: every adapter run is a unit, the frozen features of a group and all heads on them are one.

    Args:
        num_images: How many images a run trains on, over all its steps.
    """
    units = Units(waiting=[])
    for group in groups:
        key = (group.dataset, group.backbone)
        frozen = tuple(cell for cell in group.cells if cell[0].adapter is None)
        if frozen:
            units.waiting.append(Unit(key=key, cells=frozen, cost=max(num_images(cell[0]) for cell in frozen)))
        for cell in group.cells:
            if cell[0].adapter is None:
                continue
            missing = [run for run in cell if not is_stored(run)]
            units.num_missing[cell[0].cell_id] = len(missing)
            units.waiting += [Unit(key=key, cells=(cell,), only=run, cost=num_images(run)) for run in missing]
            if not missing:
                units.waiting.append(Unit(key=key, cells=(cell,), cost=0))
    return units
