"""Time left of jobs: what is known before, what is measured, and what both say on a clock that the test sets."""

import re
from collections import Counter

import pytest
import torch

from cells import run_all, tiny_grid
from cytolora.core.progress import SILENT, Progress
from cytolora.experiments.engines.inline import run_jobs
from cytolora.experiments.plan import make_plan
from cytolora.experiments.store import Store
from cytolora.experiments.trials import head_rates
from cytolora.experiments.workload import STORING, Tracker, work_of
from cytolora.training.resources import Inputs

FEATURES, HEADS, LORA = ("features", "nano"), ("heads", "cells", "nano", "8"), ("adapters", "nano", "lora")


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Shown:
    """What a tracker reports."""

    def __init__(self) -> None:
        self.left: list[float | None] = []
        self.said: list[str] = []
        self.progress = Progress(say=self.said.append, left=self.left.append, status=lambda text: None)


def work(tracker: Tracker, clock: Clock, kind: tuple[str, ...], units: int, seconds: float, reports: int = 1) -> None:
    """Does some work in equal parts."""
    for _ in range(reports):
        clock.now += seconds / reports
        tracker.did(kind, units / reports)


def test_the_time_left_follows_what_is_measured_and_not_what_was_known_before():
    clock, shown = Clock(), Shown()
    tracker = Tracker(shown.progress, [{FEATURES: 1000}], {FEATURES: 0.01}, clock)
    assert shown.left == [pytest.approx(10)]
    assert shown.said == [], "nothing is measured yet"
    work(tracker, clock, FEATURES, 500, 50, reports=100)  # ten times slower than known before
    assert tracker.seconds_left == pytest.approx(50, rel=0.01)
    work(tracker, clock, FEATURES, 500, 50, reports=100)
    assert tracker.seconds_left == pytest.approx(0)
    tracker.end_job()
    assert shown.left[-1] is None, "no work is left: whatever follows is not part of it"


@pytest.mark.parametrize("known", [1e-9, 1e-3, 1.0, 1e3])
def test_a_speed_known_before_however_wrong_is_forgotten_after_some_seconds(known):
    clock = Clock()
    tracker = Tracker(SILENT, [{LORA: 10_000}], {LORA: known}, clock)
    work(tracker, clock, LORA, 1000, 10, reports=100)
    assert tracker.seconds_left == pytest.approx(90)


def test_the_building_of_an_adapter_before_the_first_step_does_not_make_the_rest_look_slow():
    clock = Clock()
    tracker = Tracker(SILENT, [{LORA: 10_000}], {LORA: 0.01}, clock)
    work(tracker, clock, LORA, 12, 2)  # of which a tenth is the step
    assert tracker.seconds_left is not None
    assert tracker.seconds_left < 600
    work(tracker, clock, LORA, 1988, 20, reports=100)
    assert tracker.seconds_left == pytest.approx(8000 * 0.011, rel=0.02)


def test_work_not_begun_is_as_much_slower_as_the_work_that_was_measured():
    clock = Clock()
    tracker = Tracker(SILENT, [{FEATURES: 1000, HEADS: 6000}], {FEATURES: 0.01, HEADS: 0.005}, clock)
    assert tracker.seconds_left == pytest.approx(10 + 30)
    work(tracker, clock, FEATURES, 1000, 20, reports=100)  # twice as slow
    assert tracker.seconds_left == pytest.approx(60, rel=0.02)


def test_a_forecast_is_said_once_as_soon_as_the_speed_of_every_part_is_known():
    clock, shown = Clock(), Shown()
    tracker = Tracker(shown.progress, [{FEATURES: 1100, HEADS: 6000}], {}, clock)
    assert shown.left == [None]
    work(tracker, clock, FEATURES, 50, 5)
    assert (shown.left[-1], shown.said) == (None, []), "the speed of heads is not known"
    tracker.know({HEADS: 0.005})
    assert shown.left[-1] == pytest.approx(105 + 30)
    assert shown.said == [
        "On this machine, one at a time: about 2.2 min: features of 1,050 images about 1.8 min, heads about 30 s."
    ]
    work(tracker, clock, FEATURES, 50, 5)
    assert len(shown.said) == 1


def test_an_image_pass_of_an_adapter_takes_what_a_feature_of_its_backbone_takes_until_it_is_measured():
    clock = Clock()
    jobs = [{FEATURES: 100, LORA: 900}, {("adapters", "uni", "lora"): 10}]
    tracker = Tracker(SILENT, jobs[:1], {}, clock)
    work(tracker, clock, FEATURES, 100, 10)
    assert tracker.seconds_left == pytest.approx(90)
    work(tracker, clock, LORA, 450, 90, reports=50)
    assert tracker.seconds_left == pytest.approx(90, rel=0.02)
    assert Tracker(SILENT, jobs, {FEATURES: 0.1}, clock).seconds_left is None, "another backbone is another speed"


def test_images_read_from_the_cache_and_loading_say_nothing_of_the_speed():
    clock = Clock()
    tracker = Tracker(SILENT, [{FEATURES: 100}], {}, clock)
    clock.now += 0.01
    tracker.did(FEATURES, 5000)  # kept
    clock.now += 30
    tracker.lap()  # loading
    work(tracker, clock, FEATURES, 50, 5)
    assert tracker.seconds_left == pytest.approx(5)


def test_old_measurements_fade_where_the_machine_became_busy():
    clock = Clock()
    tracker = Tracker(SILENT, [{FEATURES: 100_000}], {}, clock)
    work(tracker, clock, FEATURES, 6000, 600, reports=600)
    work(tracker, clock, FEATURES, 6000, 3000, reports=600)  # five times slower, for 50 minutes
    assert tracker.seconds_left == pytest.approx(88_000 * 0.5, rel=0.05)


def test_what_is_not_done_of_a_job_that_ended_is_not_left():
    tracker = Tracker(SILENT, [{LORA: 100}, {LORA: 50}], {LORA: 1.0}, Clock())
    assert tracker.seconds_left == pytest.approx(150)
    tracker.end_job()
    assert tracker.seconds_left == pytest.approx(50)


@pytest.mark.slow
@pytest.mark.parametrize("stored", [False, True])
def test_all_work_that_was_counted_before_is_done_at_the_end(stored, drawn_cells, tmp_path, monkeypatch):
    """Features, heads, neighbours, heads without steps, adapters, scoring and results, of a plan new and half done."""
    done: Counter[tuple[str, ...]] = Counter()

    def did(self: Tracker, kind: tuple[str, ...], units: float) -> None:
        done[kind] += units  # pyright: ignore[reportArgumentType]

    inputs, store = Inputs(data={"synthetic": drawn_cells}), Store(tmp_path)
    if stored:
        run_all(tiny_grid(methods=["linear", "lora", "gda"], seeds=[1]), drawn_cells, tmp_path)
    plan = make_plan(tiny_grid(methods=["linear", "lora", "gda"]), store, inputs)
    manifest = inputs.manifest("synthetic", plan.runs[0].split)
    num_missing = 0 if stored else len(manifest.samples)
    counted = [work_of(job, inputs, store, num_missing_features=num_missing) for job in plan.jobs]
    monkeypatch.setattr(Tracker, "did", did)
    run_jobs(plan.jobs, inputs, store, device=torch.device("cpu"), progress=SILENT)
    expected = sum(counted, Counter())
    kinds = {"features", "heads", "nearest neighbours", "adapters", "gda", *STORING}
    assert {kind[0] for kind in expected} == kinds - ({"features"} if stored else set())
    done = +done
    if stored:  # features are read from the cache, which a real tracker tells by their speed
        done = Counter({kind: units for kind, units in done.items() if kind[0] != "features"})
    assert done == expected


@pytest.mark.slow
def test_a_run_says_how_long_it_takes_and_the_time_left_falls_to_nothing(drawn_cells, tmp_path, monkeypatch):
    """A small plan, from no stored run and no trial: the clock advances a second with every look at it."""
    clock, shown = Clock(), Shown()

    def tick() -> float:
        clock.now += 1
        return clock.now

    defaults = (*Tracker.__init__.__defaults__[:-1], tick)  # pyright: ignore[reportOptionalSubscript]
    monkeypatch.setattr(Tracker.__init__, "__defaults__", defaults)
    inputs, store = Inputs(data={"synthetic": drawn_cells}), Store(tmp_path)
    plan = make_plan(tiny_grid(methods=["linear", "lora"]), store, inputs)
    run_jobs(plan.jobs, inputs, store, device=torch.device("cpu"), progress=shown.progress)
    forecasts = [text for text in shown.said if text.startswith("On this machine")]
    assert len(forecasts) == 1
    assert re.search(r"lora about \d.* features of \d+ images about \d", forecasts[0])
    known = [seconds for seconds in shown.left if seconds is not None]
    assert known[0] > known[-1] == pytest.approx(0, abs=2)
    assert shown.left[-1] is None


def test_a_trial_of_heads_takes_tenths_of_a_second_and_is_near_what_they_take(drawn_cells, tmp_path):
    inputs = Inputs(data={"synthetic": drawn_cells})
    job = make_plan(tiny_grid(methods=["linear"]), Store(tmp_path), inputs).jobs[0]
    rates = head_rates(job, feature_dim=192, num_classes=7, device=torch.device("cpu"))
    assert {kind[0] for kind in rates} == {"heads", "nearest neighbours"}
    assert all(0 < rate < 0.1 for rate in rates.values())
