import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolora.errors import ConfigError
from cytolora.metrics.agreement import confusion
from cytolora.metrics.scores import other_scores, score

SURE = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8]])


def test_four_cells_give_the_numbers_worked_out_by_hand():
    found = score([0, 1, 1, 2], SURE)
    assert found["accuracy"] == 0.75
    assert found["balanced_accuracy"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert found["loss"] == pytest.approx(-np.log([0.8, 0.7, 0.3, 0.8]).mean())
    assert found["n"] == 4


def test_scores_are_ready_for_json():
    assert json.loads(json.dumps(score([0, 1, 1, 2], SURE), allow_nan=False))["n"] == 4


@pytest.mark.filterwarnings("error")
def test_a_class_missing_from_a_small_validation_set_is_no_warning_and_no_fault():
    found = score([0, 0], np.array([[0.9, 0.1, 0.0], [0.4, 0.6, 0.0]], dtype=np.float32))
    assert found["accuracy"] == found["balanced_accuracy"] == 0.5
    alone = score([0, 0], np.array([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0]]))
    assert alone["accuracy"] == alone["balanced_accuracy"] == 1


@pytest.mark.filterwarnings("error")
def test_rounding_of_a_float32_softmax_is_no_warning():
    logits = np.random.default_rng(0).normal(size=(500, 25)).astype(np.float32) * 9
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    assert score(np.arange(500) % 25, shares)["n"] == 500


def test_probabilities_of_training_that_diverged_say_so():
    with pytest.raises(ConfigError, match=r"1 of 4 images are not finite.*lower learning rate"):
        score([0, 1, 1, 2], np.where(SURE == 0.7, np.nan, SURE))


def test_confusion_has_true_classes_in_rows_and_keeps_empty_ones():
    assert confusion([0, 0, 1], [0, 1, 1], 3).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_accuracy_is_the_diagonal_of_the_confusion_matrix(pairs: list[tuple[int, int]]):
    labels, predicted = zip(*pairs, strict=True)
    counts = confusion(labels, predicted, 4)
    assert counts.sum() == len(pairs)
    assert score(labels, np.eye(4)[list(predicted)])["accuracy"] == pytest.approx(np.trace(counts) / len(pairs))


def test_balanced_accuracy_is_the_mean_over_the_true_classes_not_over_the_predicted():
    found = score([0, 0, 0, 1], np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]]))
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["accuracy"] == 0.75


@pytest.mark.parametrize("of_truth", [0.9, 1e-7, 1e-15, 1e-16, 1e-20, 1e-29, 1e-40, 0.0])
def test_stored_scores_follow_from_stored_probabilities_however_small_those_of_the_true_class_are(of_truth: float):
    probabilities = np.array([[of_truth, 1 - of_truth], [0.3, 0.7], [0.6, 0.4]])
    said, kept = score([0, 1, 0], probabilities), probabilities.astype(np.float32).astype(np.float64)
    assert other_scores(said, np.array([0, 1, 0]), kept) == ""
    assert other_scores({**said, "loss": said["loss"] * 1.01}, np.array([0, 1, 0]), kept).startswith("loss ")


@pytest.mark.parametrize("name", ["n", "accuracy", "balanced_accuracy", "macro_f1", "loss"])
@pytest.mark.parametrize("by", [1, -1])
def test_a_stored_score_that_its_predictions_do_not_give_is_named_with_both_values(name: str, by: int):
    labels = np.array([0, 1, 1, 2])
    right = score(labels, SURE)
    wrong = {**right, name: right[name] + by * (1 if name == "n" else 0.01)}
    assert other_scores(right, labels, SURE) == ""
    assert (
        other_scores(wrong, labels, SURE)
        == f"{name} {wrong[name]:.6g}, its predictions give {score(labels, SURE)[name]:.6g}"
    )


def test_the_loss_may_differ_by_a_thousandth_of_itself_and_one():
    labels = np.array([0, 1, 1, 2])
    said = score(labels, SURE)
    for by, is_told in ((9e-4, False), (11e-4, True)):
        for sign in (1, -1):
            wrong = {**said, "loss": said["loss"] + sign * by * (1 + said["loss"])}
            assert bool(other_scores(wrong, labels, SURE)) == is_told


def test_stored_scores_are_those_of_normalised_probabilities_and_of_the_true_classes():
    """Rows that add up to 0.8; recalls of 2/3 and 1, where those by the predicted class are 1 and 1/2."""
    shares = 0.8 * np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]])
    labels = np.array([0, 0, 0, 1])
    said = score(labels, shares)
    assert said["balanced_accuracy"] == pytest.approx(5 / 6)
    assert said["loss"] == pytest.approx(-np.log([0.9, 0.8, 0.3, 0.9]).mean())
    assert other_scores(said, labels, shares) == ""


def test_scores_that_are_not_stored_differ_from_nothing():
    labels = np.array([0, 1, 1, 2])
    assert other_scores(None, labels, SURE) == ""
    without_loss = {name: value for name, value in score(labels, SURE).items() if name != "loss"}
    assert other_scores(without_loss, labels, SURE) == ""


@pytest.mark.parametrize(("num_off", "is_told"), [(0, False), (1, False), (2, False), (3, True)])
def test_images_whose_two_highest_probabilities_became_equal_leave_room_for_themselves_and_no_more(
    num_off: int, is_told: bool
):
    """Of ten images two are tied: either class may have been predicted before digits were lost."""
    labels = np.array([0] * 5 + [1] * 5)
    kept = np.array([[0.8, 0.1, 0.1]] * 5 + [[0.1, 0.8, 0.1]] * 3 + [[0.45, 0.45, 0.1]] * 2)
    said = {**score(labels, kept), "accuracy": 0.8 + num_off / 10, "balanced_accuracy": 0.123, "macro_f1": 0.456}
    assert bool(other_scores(said, labels, kept)) == is_told
    assert bool(other_scores({**said, "accuracy": 0.8 - num_off / 10}, labels, kept)) == is_told
