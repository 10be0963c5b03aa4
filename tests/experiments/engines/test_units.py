"""Order of units of work, without a cluster."""

from collections import Counter

import pytest

from cells import tiny_grid
from cytolora.config.grid import GridSpec
from cytolora.config.run import RunSpec, SplitSpec
from cytolora.errors import EngineError
from cytolora.experiments.engines.units import Unit, Units, split_up
from cytolora.experiments.expand import expand
from cytolora.experiments.plan import Job


def _jobs(grid: GridSpec) -> list[Job]:
    settings: dict[str, list[RunSpec]] = {}
    for run in expand(grid):
        settings.setdefault(run.setting_id, []).append(run)
    return [Job(dataset="synthetic", backbone="nano", split=SplitSpec(), settings=tuple(map(tuple, settings.values())))]


def _units(stored: frozenset[str] = frozenset()) -> Units:
    jobs = _jobs(tiny_grid())
    return split_up(jobs, is_stored=lambda run: run.run_id in stored, num_images=lambda run: 10 * run.seed)


def _drain(units: Units) -> list[Unit]:
    taken = []
    while (unit := units.take(("synthetic", "nano"), Counter())) is not None:
        taken.append(unit)
        units.done(unit)
    return taken


def test_every_adapter_run_is_a_unit_and_all_heads_of_a_group_are_one():
    units = _units()
    assert sorted(len(unit.run_ids) for unit in units.waiting) == [1, 1, 1, 1, 4]


def test_a_setting_is_scored_once_after_its_last_run():
    taken = _drain(_units())
    assert len(taken) == 4 + 1 + 1
    assert taken[-1].only is None
    assert taken[-1].settings[0][0].adapter is not None


def test_stored_runs_are_not_given_out_again():
    stored = frozenset(run.run_id for run in expand(tiny_grid()) if run.adapter is not None)
    taken = _drain(_units(stored))
    assert all(unit.only is None for unit in taken)
    assert len(taken) == 2


def test_the_longest_run_goes_first_and_a_worker_stays_with_what_it_has_loaded():
    here, there, same_encoder = ("a", "nano"), ("b", "uni"), ("c", "nano")
    setting = (expand(tiny_grid())[0],)
    waiting = [
        Unit(key=key, settings=(setting,), cost=cost)
        for key, cost in ((here, 1), (here, 2), (there, 90), (same_encoder, 3))
    ]
    units = Units(waiting=waiting)
    order = []
    loaded = here
    while (unit := units.take(loaded, Counter())) is not None:
        order.append((unit.key, unit.cost))
        loaded = unit.key
    assert order == [(here, 2), (here, 1), (same_encoder, 3), (there, 90)]


def test_workers_share_one_job_and_spread_over_several():
    setting = (expand(tiny_grid())[0],)
    a, b = ("a", "nano"), ("b", "nano")
    units = Units(
        waiting=[Unit(key=key, settings=(setting,), cost=cost) for key, cost in ((a, 5), (a, 4), (b, 6), (b, 5))]
    )
    at_work: Counter[tuple[str, str]] = Counter()
    keys = []
    for _ in range(4):
        unit = units.take(None, at_work)
        assert unit is not None
        at_work[unit.key] += 1
        keys.append(unit.key)
    assert sorted(keys) == [a, a, b, b]
    assert keys[:2] == [b, a]


def test_a_unit_at_which_three_workers_died_is_given_up_by_name():
    units = _units()
    unit = units.take(None, Counter())
    assert unit is not None
    units.lost(unit, "killed")
    units.lost(unit, "killed")
    with pytest.raises(EngineError, match=rf"3 workers died at {unit.run_ids[0]}.*fewer --workers"):
        units.lost(unit, "killed")
