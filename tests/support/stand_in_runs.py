"""Runs that an engine's pool and workers can hand about: names without data, hashed and pickled fast."""

from typing import Any, NamedTuple

from cytolora.experiments.engines.units import Unit, Units


class _Amount(NamedTuple):
    amount: str = "1 shot"


class StandInRun(NamedTuple):
    run_id: str = "run"
    method: str = "lora"
    setting_id: str = "setting"
    seed: int = 1
    learning_rate: float = 0.1
    sampling: Any = _Amount()


def units_of(*datasets: str) -> Units:
    """A unit a dataset, of two runs each that need no test set of their own."""
    settings: Any = ((StandInRun(),), (StandInRun(),))
    return Units(waiting=[Unit(key=(name, "nano"), settings=settings, cost=1) for name in datasets])


def run_and_its_test_set(dataset: str) -> Units:
    """One run; the test set of its setting is a unit that comes when the run is done."""
    run: Any = StandInRun()
    units = Units(waiting=[Unit(key=(dataset, "nano"), settings=((run,),), only=run, cost=1)])
    units.num_missing[run.setting_id] = 1
    return units
