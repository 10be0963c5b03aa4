import pytest

from cytolora.training.selection import Metric, choose_learning_rate


def _scores(accuracy: float, balanced: float, loss: float) -> dict[str, float]:
    return {"accuracy": accuracy, "balanced_accuracy": balanced, "loss": loss}


@pytest.mark.parametrize(("metric", "rate"), [("accuracy", 1e-3), ("balanced_accuracy", 1e-2)])
def test_the_rate_with_the_highest_of_the_named_metric_is_chosen(metric: Metric, rate: float):
    scores = {1e-3: _scores(0.9, 0.5, 1.0), 1e-2: _scores(0.8, 0.7, 1.0)}
    assert choose_learning_rate(scores, metric) == rate


def test_ties_go_to_the_lower_loss_and_then_to_the_lower_rate():
    scores = {1e-1: _scores(0.8, 0.8, 0.5), 1e-2: _scores(0.8, 0.8, 0.4), 1e-3: _scores(0.8, 0.8, 0.4)}
    assert choose_learning_rate(scores, "accuracy") == 1e-3


def test_means_that_differ_by_rounding_alone_tie():
    scores = {1e-3: _scores(0.3, 0.1 + 0.2, 0.9), 1e-2: _scores(0.3, 0.3, 0.4)}
    assert choose_learning_rate(scores, "balanced_accuracy") == 1e-2
