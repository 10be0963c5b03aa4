"""Units of work: jobs divided for many workers, and the order in which free workers take them; knows no engine."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

from cytolora.config.run import RunSpec
from cytolora.errors import EngineError
from cytolora.experiments.claims import of_features, of_test
from cytolora.experiments.plan import Job

DatasetBackbone = tuple[str, str]
"""Names of dataset and backbone: what a worker keeps loaded."""

Setting = tuple[RunSpec, ...]

_MAX_ATTEMPTS = 3
_AGAIN_SECONDS = 2.0
"""Until a unit is given out again that another command was at work at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """The work that a worker does before it asks for more."""

    key: DatasetBackbone
    settings: tuple[Setting, ...]
    only: RunSpec | None = None
    """The one run to train; None trains what the settings lack, and then scores the test set."""
    cost: float
    """Images of training: only to compare units."""

    def __str__(self) -> str:
        first = self.only or self.settings[0][0]
        name = f"{self.key[0]}, {self.key[1]}, {first.method}"
        if self.only is not None:
            return f"{name}, {first.sampling.amount}, seed {first.seed}, rate {first.learning_rate:g}"
        return name if len(self.settings) > 1 else f"{name}, {first.sampling.amount}: test set"

    @property
    def claim(self) -> str:
        """Name of what is claimed of the store while a worker does it."""
        first = self.settings[0]
        if self.only is not None:
            return self.only.run_id
        return of_test(first) if first[0].kind == "adapter" else of_features(*self.key, first[0].split)

    @property
    def run_ids(self) -> list[str]:
        """The runs that it is about."""
        return [run.run_id for run in self.runs]

    @property
    def runs(self) -> list[RunSpec]:
        """Like ``run_ids``, as they are."""
        return [self.only] if self.only else [run for setting in self.settings for run in setting]


@dataclass(kw_only=True)
class Units:
    """The units that are left, and what became of those given out."""

    waiting: list[Unit]
    num_missing: Counter[str] = field(default_factory=Counter)
    """Runs of a setting that are not stored yet, by the setting's id."""
    attempts: Counter[Unit] = field(default_factory=Counter)
    elsewhere: list[tuple[float, Unit]] = field(default_factory=list)
    """Those that another command is at work at, each with the time of the next attempt (``time.monotonic``)."""

    given_up: Callable[[Unit, str], None] = lambda unit, why: None
    """Told of a unit whose workers died again and again, and why."""

    def take(self, loaded: DatasetBackbone | None, at_work: Counter[DatasetBackbone]) -> Unit | None:
        """Gives a worker its next unit, or None: first of what it has loaded, then of what it has half.

        Otherwise it joins where most is left for each worker there. The longest go first, so that none is still at
        a long run when all others have ended.

        Args:
            loaded: What the worker worked on last.
            at_work: How many workers are at work on each key.
        """
        now = monotonic()
        self.waiting += [unit for due, unit in self.elsewhere if due <= now]
        self.elsewhere = [(due, unit) for due, unit in self.elsewhere if due > now]
        if not self.waiting:
            return None
        left: Counter[DatasetBackbone] = Counter()
        for unit in self.waiting:
            left[unit.key] += unit.cost  # pyright: ignore[reportArgumentType]  (a sum of floats is as good)

        def option(key: DatasetBackbone) -> tuple[bool, bool, float]:
            return key == loaded, loaded is not None and key[1] == loaded[1], left[key] / (1 + at_work[key])

        key = max(left, key=option)
        unit = max((unit for unit in self.waiting if unit.key == key), key=lambda unit: unit.cost)
        self.waiting.remove(unit)
        return unit

    def put_off(self, unit: Unit) -> None:
        """Takes a unit back that another command is at work at."""
        self.elsewhere.append((monotonic() + _AGAIN_SECONDS, unit))

    @property
    def are_left(self) -> bool:
        """Whether some are still to be given out, now or later."""
        return bool(self.waiting or self.elsewhere)

    def done(self, unit: Unit) -> None:
        """Notes that a unit is stored; the last run of a setting makes it ready for its test set."""
        if unit.only is None:
            return
        setting = unit.settings[0]
        name = setting[0].setting_id
        self.num_missing[name] -= 1
        if not self.num_missing[name]:
            self.waiting.append(Unit(key=unit.key, settings=(setting,), cost=0))

    def give_back(self, unit: Unit) -> None:
        """Takes a unit back that its worker never began with: nothing is said against it."""
        self.waiting.append(unit)

    def lost(self, unit: Unit, why: str) -> None:
        """Takes a unit back whose worker died.

        Raises:
            EngineError: If that happened too often: then it is the unit that kills.
        """
        self.attempts[unit] += 1
        if self.attempts[unit] >= _MAX_ATTEMPTS:
            self.given_up(unit, why)
            names = unit.run_ids
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise EngineError(
                f"{self.attempts[unit]} workers died at {', '.join(names[:3])}{more}, the last: {why}. Often memory "
                "is short: take fewer --workers. What was finished is kept; the same command goes on from there."
            )
        self.waiting.append(unit)


def split_up(
    jobs: Sequence[Job], *, is_stored: Callable[[RunSpec], bool], num_images: Callable[[RunSpec], int]
) -> Units:
    """Divides jobs: every adapter run is a unit, the frozen features of a job and all heads on them are one.

    Args:
        num_images: How many images a run trains on, over all its steps.
    """
    units = Units(waiting=[])
    for job in jobs:
        key = (job.dataset, job.backbone)
        frozen = tuple(setting for setting in job.settings if setting[0].kind != "adapter")
        if frozen:
            units.waiting.append(Unit(key=key, settings=frozen, cost=max(num_images(setting[0]) for setting in frozen)))
        for setting in job.settings:
            if setting[0].kind != "adapter":
                continue
            missing = [run for run in setting if not is_stored(run)]
            units.num_missing[setting[0].setting_id] = len(missing)
            units.waiting += [Unit(key=key, settings=(setting,), only=run, cost=num_images(run)) for run in missing]
            if not missing:
                units.waiting.append(Unit(key=key, settings=(setting,), cost=0))
    return units
