import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from cytolora.training.transduction.discriminants import discriminants, text_discriminants
from cytolora.training.transduction.mixture import log_densities


def drawn(seed: int, per_class: int, classes: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    return (4 + rng.normal(size=(classes, width))[labels] + rng.normal(size=(len(labels), width))).astype(
        np.float32
    ), labels


def test_the_nearest_mean_in_the_space_is_linear_discriminant_analysis_with_its_shrinkage():
    features, labels = drawn(0, 20, 4, 30)
    space = discriminants(features, labels, 4)
    unit = features.astype(np.float64) / np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    means = np.stack([unit[labels == label].mean(axis=0) for label in range(4)])
    residuals = unit - means[labels]
    covariance, shrinkage = residuals.T @ residuals / 76, 30 / (76 + 30)
    shrunken = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / 30 * np.eye(30)
    by_hand = ((unit[:, None] - means) @ np.linalg.inv(shrunken) * (unit[:, None] - means)).sum(axis=2)
    points = space.project(features)
    found = ((points[:, None] - space.means) ** 2).sum(axis=2)
    assert points.shape == (80, 3)
    np.testing.assert_allclose(found - found[:, :1], by_hand - by_hand[:, :1], rtol=1e-6, atol=1e-6)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=[0.25] * 4).fit(unit, labels)
    assert (theirs.predict(unit) == found.argmin(axis=1)).mean() > 0.97  # its covariance is divided otherwise


@pytest.mark.parametrize(("per_class", "classes", "width"), [(1, 3, 10), (2, 2, 50), (5, 2, 1), (1, 2, 3), (3, 80, 90)])
def test_few_images_and_odd_sizes_give_a_finite_space(per_class, classes, width):
    features, labels = drawn(1, per_class, classes, width)
    space = discriminants(features, labels, classes)
    assert space.means.shape == (classes, min(classes - 1, width, 64))
    assert np.isfinite(space.axes).all()
    assert np.isfinite(space.project(features)).all()


def test_equal_images_give_a_finite_space():
    space = discriminants(np.ones((4, 5), np.float32), np.array([0, 0, 1, 1]), 2)
    assert np.isfinite(space.project(np.zeros((3, 5), np.float32))).all()


@pytest.mark.parametrize(("classes", "width"), [(2, 5), (4, 30), (6, 4)])
def test_text_anchors_tell_classes_apart_as_statas_first_densities_do(classes: int, width: int):
    """Normal densities around the texts with V0, one variance a feature: equal up to what all classes share."""
    features, labels = drawn(3, 12, classes, width)
    texts = np.random.default_rng(4).normal(size=(classes, width)).astype(np.float32)
    space = text_discriminants(features, labels, 7 * texts)
    z, t = (
        part.astype(float) / np.linalg.norm(part.astype(float), axis=1, keepdims=True) for part in (features, texts)
    )
    v0 = [
        sum((z[row][d] - t[labels[row]][d]) ** 2 for row in range(len(z))) / len(z) for d in range(width)
    ]  # with one-hot q, the authors' sum over images and classes
    expected = np.array(
        [[-sum((point[d] - text[d]) ** 2 / v0[d] for d in range(width)) / 2 for text in t] for point in z]
    )
    found = log_densities(space.project(features), space.means, np.ones_like(space.means))
    np.testing.assert_allclose(found - found[:, :1], expected - expected[:, :1], atol=1e-8 * np.abs(expected).max())
    assert space.axes.shape == (width, min(classes - 1, width))


def test_text_anchors_need_no_training_image_of_a_class_and_stand_a_constant_feature():
    features, labels = drawn(5, 12, 3, 6)
    texts = np.random.default_rng(6).normal(size=(4, 6)).astype(np.float32)
    features[:, 2], texts[:, 2] = 0, 0
    space = text_discriminants(features, labels, texts)
    assert space.means.shape == (4, 3)
    assert np.isfinite(space.project(features)).all()
