"""Forecast of the time that a plan takes: the fitted line, and its text."""

import re
import shutil
from dataclasses import replace

import pytest
import torch

from cells import run_all, tiny_grid
from cytolora.core.progress import Progress
from cytolora.experiments.cost import Cost, describe, fit_cost, num_passes, seconds_left, stored_costs
from cytolora.experiments.engines.inline import run_jobs
from cytolora.experiments.plan import make_plan
from cytolora.experiments.probe import adapter_rates, costs_here, feature_rates
from cytolora.experiments.select import sealed
from cytolora.experiments.store import Store
from cytolora.training.resources import Inputs


def test_a_line_through_two_sizes_gives_the_cost_of_a_step_and_of_an_image():
    cost = fit_cost([(5, 1.5), (25, 3.5)])
    assert (cost.seconds, cost.seconds_per_image) == pytest.approx((1.0, 0.1))


def test_no_cost_is_negative_whatever_was_timed():
    assert fit_cost([(5, 2.0), (25, 1.0)]) == Cost(seconds=1.5, seconds_per_image=0.0)
    steep = fit_cost([(5, 0.1), (25, 5.1)])
    assert steep.seconds == pytest.approx(0)
    assert steep.seconds_per_image == pytest.approx(2.6 / 15)


def test_one_size_alone_is_all_put_down_to_images():
    assert fit_cost([(10, 2.0), (10, 4.0)]) == Cost(seconds=0.0, seconds_per_image=0.3)


def test_stored_runs_tell_how_long_the_missing_ones_take(drawn_cells, tmp_path):
    grid = tiny_grid(methods=["lora"], seeds=[1])
    run_all(grid, drawn_cells, tmp_path)
    inputs, store = Inputs(data={"synthetic": drawn_cells}), Store(tmp_path)
    plan = make_plan(tiny_grid(methods=["lora"]), store, inputs)
    costs = stored_costs(store.runs())
    assert stored_costs(store.runs(), threads=99) == {}
    assert re.match(r"lora, 2 runs: (about |less than 1 s)", describe(plan, inputs, costs))
    assert describe(plan, inputs, {}) == ""
    unknown = replace(plan, runs=(*plan.runs, *(replace(run, method="vera") for run in plan.runs)))
    assert re.fullmatch(
        r"lora, 2 runs: (?:about [^;]+|less than 1 s); not timed yet: vera with nano \(4 runs\)",
        describe(unknown, inputs, costs),
    )
    assert describe(plan, Inputs(data={}), costs) == ""
    two_a_step = Cost(seconds=2.0, seconds_per_image=0.0)
    assert seconds_left(plan.to_do, inputs, two_a_step) == 2 * 3 * 2.0
    rates = adapter_rates(plan, inputs, {("nano", "lora"): two_a_step})
    assert rates == {("adapters", "nano", "lora"): 12.0 / num_passes(plan.to_do, inputs)}


def test_features_that_are_not_kept_are_timed_once_and_stages_count_what_is_done(drawn_cells, tmp_path, monkeypatch):
    monkeypatch.setattr("cytolora.experiments.probe._WORTH_FEATURES", 0)
    grid = tiny_grid(methods=["linear"], seeds=[1])
    inputs, store, cpu = Inputs(data={"synthetic": drawn_cells}), Store(tmp_path), torch.device("cpu")
    plan, said, stages, done = make_plan(grid, store, inputs), [], [], []
    total = len(inputs.manifest("synthetic", plan.to_do[0].split).samples)
    rates = feature_rates(plan, inputs, store, device=cpu, progress=Progress(say=said.append))
    assert said == ["a few images through nano, for the time"]
    assert rates.keys() == {("features", "nano")}
    assert 0 < rates["features", "nano"] < 5
    progress = Progress(begin=lambda *stage: stages.append(stage) or done.append(0), done=lambda n: done.append(n))
    run_jobs(plan.jobs, inputs, store, device=cpu, progress=progress)
    assert stages == [
        ("synthetic, nano: features", total, "images"),
        ("synthetic, nano: heads on frozen features", 3, "steps"),
    ]
    assert sum(done) == total + 3
    again = make_plan(tiny_grid(methods=["linear"], seeds=[1, 2]), store, inputs)
    assert feature_rates(again, inputs, store, device=cpu, progress=Progress()) == {}


def test_a_trial_is_worth_it_where_scoring_is_most_of_the_work(drawn_cells, tmp_path, monkeypatch):
    monkeypatch.setattr("cytolora.experiments.probe._tried", lambda *_: Cost(seconds=0.0, seconds_per_image=1.0))
    inputs, store = Inputs(data={"synthetic": drawn_cells}), Store(tmp_path)
    grid = tiny_grid(methods=["lora"], shots=[1], seeds=range(1, 41), learning_rates=[1e-3], max_steps=1)
    plan = make_plan(grid, store, inputs)
    splits = [inputs.split(run) for run in plan.to_do]
    num_trained = sum(len(split.train) for split in splits)
    scored = sum(len(split.val) + len(split.test) for split in splits)
    assert num_passes(plan.to_do, inputs) == 3 * num_trained + scored
    steps_of_trial = 4 * len(splits[0].train)
    assert num_trained <= 10 * steps_of_trial < num_trained + scored / 3
    costs = costs_here(plan, inputs, store, device=torch.device("cpu"), progress=Progress())
    assert costs.keys() == {("nano", "lora")}


@pytest.mark.slow
def test_the_bar_of_adapter_runs_is_full_when_training_and_scoring_are_done(drawn_cells, tmp_path):
    grid = tiny_grid(methods=["lora", "linear"], seeds=[1, 2])
    inputs, store = Inputs(data={"synthetic": drawn_cells}), Store(tmp_path)
    plan, stages, done = make_plan(grid, store, inputs), [], {}

    def begin(title: str, total: int, unit: str) -> None:
        stages.append((title, total, unit))
        done[title] = 0

    def count(number: int) -> None:
        done[stages[-1][0]] += number

    run_jobs(plan.jobs, inputs, store, device=torch.device("cpu"), progress=Progress(begin=begin, done=count))
    title, total, unit = stages[-1]
    assert (title, unit) == (f"synthetic, nano: {len(plan.to_do) // 2} adapter runs", "image passes")
    assert done[title] == total > 0


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["a run", "the scores", "nothing"])
def test_the_bar_of_a_plan_that_goes_on_is_full_at_its_end(drawn_cells, tmp_path, lost):
    grid = tiny_grid(methods=["lora"], seeds=[1, 2], learning_rates=[1e-3])
    run_all(grid, drawn_cells, tmp_path)
    inputs, store = Inputs(data={"synthetic": drawn_cells}), Store(tmp_path)
    stored = sorted(store.runs(), key=lambda run: run.run_id)
    if lost == "a run":
        shutil.rmtree(stored[0].path)
    if lost == "the scores":
        for one in stored:
            store.write(sealed(one))
    stages, done = [], []
    progress = Progress(begin=lambda *stage: stages.append(stage), done=done.append)
    run_jobs(make_plan(grid, store, inputs).jobs, inputs, store, device=torch.device("cpu"), progress=progress)
    named = {"a run": ["synthetic, nano: 1 adapter run"], "the scores": ["synthetic, nano: test set"], "nothing": []}
    assert [title for title, _, _ in stages] == named[lost]
    assert sum(done) == sum(total for _, total, _ in stages)
