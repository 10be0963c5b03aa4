"""Units of work: jobs divided for many workers; knows no engine."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cytolora.config.run import RunSpec
from cytolora.experiments.claims import of_features, of_test
from cytolora.experiments.engines.queue import Loaded, Queue
from cytolora.experiments.plan import Job

Setting = tuple[RunSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """The work that a worker does before it asks for more."""

    key: Loaded
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
    def names(self) -> list[str]:
        """Like ``run_ids``: what is missing when it fails."""
        return self.run_ids

    @property
    def runs(self) -> list[RunSpec]:
        """Like ``run_ids``, as they are."""
        return [self.only] if self.only else [run for setting in self.settings for run in setting]


@dataclass(kw_only=True)
class Units(Queue[Unit]):
    """The units that are left; the last run of a setting brings its test set."""

    num_missing: Counter[str] = field(default_factory=Counter)
    """Runs of a setting that are not stored yet, by the setting's id."""

    def done(self, work: Unit) -> None:
        """Notes that a unit is stored; the last run of a setting makes it ready for its test set."""
        if work.only is None:
            return
        setting = work.settings[0]
        name = setting[0].setting_id
        self.num_missing[name] -= 1
        if not self.num_missing[name]:
            self.waiting.append(Unit(key=work.key, settings=(setting,), cost=0))


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
