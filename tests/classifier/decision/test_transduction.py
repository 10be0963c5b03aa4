import numpy as np
import pytest

from cytolora.classifier.decision.transduction import (
    Anchors,
    answer,
    class_conditional_sets,
    from_bytes,
    make_anchors,
    to_bytes,
)

CLASSES = ("hsil", "lsil", "nilm")
WIDTH = 12


def cells(rng: np.random.Generator, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features around class means, and logits of a head that errs by chance."""
    means = 3 * np.eye(3, WIDTH)
    features = (1 + means[labels] + rng.normal(size=(len(labels), WIDTH))).astype(np.float32)
    return features, (features @ means.T / 3 + rng.normal(size=(len(labels), 3))).astype(np.float32)


def anchors(held_out: int = 300, groups: int = 60, seed: int = 0) -> Anchors:
    rng = np.random.default_rng(seed)
    train, labels = np.arange(90) % 3, np.arange(held_out) % 3
    features, logits = cells(rng, labels)
    made = make_anchors(
        cells(rng, train)[0],
        train,
        3,
        held_out_features=features,
        held_out_logits=logits,
        held_out_labels=labels,
        held_out_groups=[f"group {number // 3 % groups}" for number in range(held_out)],
    )
    assert made is not None
    return made


def of_slide(made: Anchors, labels: np.ndarray, seed: int = 1, coverage: float | None = 0.9):
    features, logits = cells(np.random.default_rng(seed), labels)
    return answer(
        made, made.space.project(features), logits, temperature=1.0, coverage=coverage, classes=CLASSES
    ), logits


def test_a_slide_of_one_class_keeps_the_answer_of_the_head():
    found, logits = of_slide(anchors(), np.full(500, 2))
    powers = np.exp(logits.astype(np.float64))
    assert not found.is_transductive
    assert found.reason == "no class but nilm is shown to be present"
    np.testing.assert_allclose(found.probabilities, powers / powers.sum(axis=1, keepdims=True), atol=1e-9)


def test_a_mixed_slide_is_classified_better_than_by_the_head():
    labels = np.repeat([0, 1, 2], [150, 150, 300])
    found, logits = of_slide(anchors(), labels)
    assert found.is_transductive
    assert found.reason == ""
    assert (found.probabilities.argmax(axis=1) == labels).mean() > (logits.argmax(axis=1) == labels).mean() + 0.01


def test_the_order_of_the_cells_is_the_order_of_the_answer():
    labels = np.repeat([0, 2], [100, 200])
    features, logits = cells(np.random.default_rng(3), labels)
    made, order = anchors(), np.random.default_rng(4).permutation(300)
    points = made.space.project(features)
    options = {"temperature": 1.3, "coverage": 0.9, "classes": CLASSES}
    plain, permuted = answer(made, points, logits, **options), answer(made, points[order], logits[order], **options)
    assert plain.is_transductive
    assert plain.sets is not None
    np.testing.assert_array_equal(permuted.probabilities, plain.probabilities[order])
    np.testing.assert_array_equal(permuted.sets, plain.sets[order])


@pytest.mark.parametrize("shares", [(0.05, 0.05, 0.9), (0.4, 0.3, 0.3), (0.0, 0.5, 0.5)])
def test_sets_cover_each_class_whatever_its_share_on_the_slide(shares):
    covered: dict[int, list[float]] = {0: [], 1: [], 2: []}
    for seed in range(12):
        labels = np.repeat([0, 1, 2], [round(400 * share) for share in shares])
        found, _ = of_slide(anchors(seed=seed), labels, seed=100 + seed)
        assert found.sets is not None
        for label in np.unique(labels):
            covered[int(label)].append(float(found.sets[labels == label, label].mean()))
    for label, share in enumerate(shares):
        assert not share or np.mean(covered[label]) >= 0.9


def test_sets_are_withheld_where_a_class_has_too_few_held_out_groups():
    labels = np.repeat([0, 2], [100, 200])
    assert of_slide(anchors(groups=21), labels)[0].sets is None
    assert of_slide(anchors(groups=22), labels)[0].sets is not None
    assert of_slide(anchors(), labels, coverage=None)[0].sets is None
    rare = np.full((5, 2), 0.5)
    assert class_conditional_sets(rare, rare, np.zeros(5, np.int64), list("abcde"), 0.5) is None, "class 1 has no cell"


@pytest.mark.parametrize("number", [1, 2, 3])
def test_few_cells_get_an_answer(number):
    found, _ = of_slide(anchors(), np.arange(number) % 3)
    assert found.probabilities.shape == (number, 3)
    assert np.isfinite(found.probabilities).all()
    assert found.reason == ("it has one cell" if number == 1 else found.reason)


def test_anchors_are_read_as_they_were_written():
    made = anchors()
    again = from_bytes(to_bytes(made))
    labels = np.repeat([0, 2], [100, 200])
    np.testing.assert_array_equal(of_slide(again, labels)[0].probabilities, of_slide(made, labels)[0].probabilities)
    assert to_bytes(again) == to_bytes(made)


def test_a_class_without_training_features_has_no_anchors():
    rng, labels = np.random.default_rng(0), np.array([0, 0, 1, 1])
    features, logits = cells(rng, labels)
    options = {"held_out_logits": logits, "held_out_labels": labels, "held_out_groups": list("abcd")}
    assert make_anchors(features, labels, 3, held_out_features=features, **options) is None
