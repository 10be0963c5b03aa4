from dataclasses import replace

import pytest

from cytolora import LinearHead
from cytolora.config.run import LINEAR, Budget
from cytolora.config.yaml import load_grid
from cytolora.experiments.expand import expand
from cytolora.training.protocol import ESTIMATOR_LINEAR, FIT_LINEAR, GRID_LINEAR


@pytest.mark.parametrize("name", ["exp1", "exp2-linear"])
def test_the_shipped_grids_train_linear_heads_by_the_protocol_of_grids(name):
    runs = [run for run in expand(load_grid(name)) if run.method == LINEAR]
    assert {run.train for run in runs} == {GRID_LINEAR.train}
    assert tuple(sorted({run.learning_rate for run in runs})) == GRID_LINEAR.learning_rates


def test_the_estimator_trains_by_the_protocol_of_grids_at_one_rate():
    head = LinearHead()
    assert head._train_spec() == ESTIMATOR_LINEAR.train == GRID_LINEAR.train
    assert (head.learning_rate,) == ESTIMATOR_LINEAR.learning_rates


@pytest.mark.parametrize(("num_train", "steps"), [(7, 300), (640, 1200), (100_000, 6000)])
def test_fit_trains_a_head_for_60_epochs_between_300_and_6000_steps(num_train, steps):
    assert FIT_LINEAR.num_steps(num_train) == steps


def test_truncated_training_takes_fewer_steps_than_the_least():
    budget = replace(FIT_LINEAR.train.budget, max_steps=4)
    assert replace(FIT_LINEAR, train=replace(FIT_LINEAR.train, budget=budget)).num_steps(640) == 4


def test_a_budget_in_steps_per_shot_takes_the_shots():
    budget = Budget(amount=50, unit="steps_per_shot", plus_steps=50)
    assert replace(GRID_LINEAR, train=replace(GRID_LINEAR.train, budget=budget)).num_steps(28, shots=4) == 250
