"""Fitted heads equal scikit-learn's classifiers, tear no group when they choose, and come back from what is stored."""

import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import normalize
from torch import Tensor

from cytolora.config.run import FITTED_HEADS, TEXT_HEADS, TREE_HEADS, HeadSpec
from cytolora.errors import ConfigError
from cytolora.models.adapters.head_methods import FITTED
from cytolora.models.adapters.methods import METHODS
from cytolora.training.heads.affine import AffineHead, scaled
from cytolora.training.heads.fitted import HEADS, head_of
from cytolora.training.heads.folds import MAX_FOLDS, divide, group_folds
from cytolora.training.heads.labelled import Labelled
from cytolora.training.heads.logistic import Logistic
from cytolora.training.heads.means import gaussian, nearest_mean, prototypes
from cytolora.training.heads.penalised import logistic, ridge
from cytolora.training.heads.penalties import PENALTIES, UNCHOSEN
from cytolora.training.heads.ridge import RidgeSolver


def drawn(sizes: list[int], dim: int, *, seed: int = 0, per_group: int = 1) -> tuple[Labelled, Tensor]:
    """Features of classes of some sizes, off the origin and correlated as an encoder's are, and 80 queries."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dim, dim, generator=generator) * torch.logspace(0, -1.5, dim)
    centres = torch.randn(len(sizes), dim, generator=generator) * 0.4
    labels = torch.cat([torch.full((size,), index) for index, size in enumerate(sizes)])
    offset = torch.randn(dim, generator=generator) * 2

    def features(of: Tensor) -> Tensor:
        return offset + (centres[of] + torch.randn(len(of), dim, generator=generator)) @ mixing

    groups = [f"{label}-{index // per_group}" for index, label in enumerate(labels.tolist())]
    known = Labelled(features=features(labels), labels=labels, num_classes=len(sizes), groups=groups)
    return known, features(torch.randint(len(sizes), (80,), generator=generator))


def unit(features: Tensor) -> np.ndarray:
    return np.asarray(normalize(features.double().numpy()))


def without_shared(logits: np.ndarray) -> np.ndarray:
    return logits - logits.mean(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("sizes", "dim"), [([4] * 3, 32), ([16] * 7, 64), ([2] * 5, 96), ([30] * 2, 12), ([50] * 4, 16), ([3] * 25, 48)]
)
def test_gda_is_scikit_learns_lda_with_uniform_priors_and_shrinkage(sizes: list[int], dim: int):
    known, queries = drawn(sizes, dim)
    shrinkage = dim / (sum(sizes) - 1 + dim)
    priors = np.full(len(sizes), 1 / len(sizes))
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=priors)
    theirs.fit(unit(known.features), known.labels.numpy())
    ours = gaussian(known, HeadSpec()).logits(queries).double().numpy()
    np.testing.assert_array_equal(ours.argmax(axis=1), theirs.predict(unit(queries)))
    expected = unit(queries) @ theirs.coef_.T + theirs.intercept_
    if len(sizes) == 2:
        expected = np.hstack([-expected, expected]) / 2
    expected, ours = without_shared(expected), without_shared(ours)
    factor = (ours * expected).sum() / (expected**2).sum()
    assert factor == pytest.approx((sum(sizes) - 1) / sum(sizes), rel=1e-3), "N - 1 where scikit-learn divides by N"
    np.testing.assert_allclose(ours, factor * expected, atol=1e-3 * np.abs(expected).max())


def test_gda_pools_the_covariance_over_images_where_classes_differ_in_size():
    """Wang et al.'s rule; scikit-learn's uniform priors would weigh the covariances of classes alike."""
    known, queries = drawn([5, 40, 11], 24)
    z, labels, num_images, dim = unit(known.features), known.labels.numpy(), 56, 24
    means = np.stack([z[labels == label].mean(axis=0) for label in range(3)])
    spread = z - means[labels]
    covariance = spread.T @ spread / (num_images - 1)
    precision = dim * np.linalg.pinv((num_images - 1) * covariance + np.trace(covariance) * np.eye(dim))
    expected = unit(queries) @ (means @ precision).T - np.einsum("cd,de,ce->c", means, precision, means) / 2
    ours = without_shared(gaussian(known, HeadSpec()).logits(queries).double().numpy())
    expected = without_shared(expected) * (num_images - 1 + dim) / dim
    np.testing.assert_allclose(ours, expected, atol=1e-3 * np.abs(expected).max())
    empirical = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=dim / (num_images - 1 + dim)).fit(z, labels)
    empirical.intercept_ -= np.log(np.bincount(labels) / num_images)
    np.testing.assert_array_equal(ours.argmax(axis=1), empirical.predict(unit(queries)))


@pytest.mark.parametrize("repeats", [1, 3])
def test_gda_with_one_image_a_class_is_the_nearest_class_mean(repeats: int):
    known, queries = drawn([1] * 5, 16)
    again = Labelled(
        features=known.features.repeat(repeats, 1), labels=known.labels.repeat(repeats), num_classes=5, groups=()
    )
    ours = gaussian(again, HeadSpec()).logits(queries).argmax(dim=1)
    theirs = NearestCentroid().fit(unit(known.features), known.labels.numpy()).predict(unit(queries))
    np.testing.assert_array_equal(ours.numpy(), theirs)


@pytest.mark.parametrize("shrinkage", [0.0, 0.1, 0.9, 1.0])
def test_a_shrinkage_that_is_set_is_the_one_that_is_used(shrinkage: float):
    known, queries = drawn([20] * 3, 10)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(
        unit(known.features), known.labels.numpy()
    )
    ours = gaussian(known, HeadSpec(shrinkage=shrinkage)).logits(queries).argmax(dim=1)
    np.testing.assert_array_equal(ours.numpy(), theirs.predict(unit(queries)))


@pytest.mark.parametrize(
    ("sizes", "dim"), [([12] * 2, 24), ([12] * 3, 24), ([12] * 7, 24), ([3, 9, 5], 40), ([40, 4], 6)]
)
@pytest.mark.parametrize("penalty", [100.0, 10.0, 0.1, 0.001, 0.0001])
def test_logistic_is_scikit_learns_at_its_optimum(sizes: list[int], dim: int, penalty: float):
    known, queries = drawn(sizes, dim)
    theirs = LogisticRegression(C=1 / penalty, solver="newton-cg", max_iter=20_000, tol=1e-11)
    theirs.fit(unit(known.features), known.labels.numpy())
    ours = logistic(known, HeadSpec(penalty=penalty), seed=0).logits(queries)
    np.testing.assert_array_equal(ours.argmax(dim=1).numpy(), theirs.predict(unit(queries)))
    np.testing.assert_allclose(ours.softmax(dim=1).numpy(), theirs.predict_proba(unit(queries)), atol=1e-5)


@pytest.mark.parametrize("num_classes", [2, 3, 7])
@pytest.mark.parametrize("penalty", [10.0, 0.1, 0.001])
def test_ridge_is_scikit_learns_up_to_a_temperature(num_classes: int, penalty: float):
    known, queries = drawn([12] * num_classes, 24)
    theirs = RidgeClassifier(alpha=penalty).fit(unit(known.features), known.labels.numpy())
    ours = ridge(known, HeadSpec(penalty=penalty), seed=0).logits(queries).double().numpy()
    np.testing.assert_array_equal(ours.argmax(axis=1), theirs.predict(unit(queries)))
    expected = theirs.decision_function(unit(queries))
    if num_classes == 2:
        expected = np.stack([-expected, expected], axis=1)
    factor = (ours * expected).sum() / (expected**2).sum()
    np.testing.assert_allclose(ours, factor * expected, atol=1e-4 * np.abs(ours).max())


def test_nearest_mean_is_scikit_learns_nearest_centroid_and_its_centre_is_the_mean_of_the_training_features():
    known, queries = drawn([9, 4, 15], 12)
    ours = nearest_mean(known, HeadSpec()).logits(queries).argmax(dim=1).numpy()
    theirs = NearestCentroid().fit(unit(known.features), known.labels.numpy())
    np.testing.assert_array_equal(ours, theirs.predict(unit(queries)))
    mean = known.features.mean(dim=0)
    centred = NearestCentroid().fit(unit(known.features - mean), known.labels.numpy())
    ours_centred = nearest_mean(known, HeadSpec(centre=True)).logits(queries).argmax(dim=1).numpy()
    np.testing.assert_array_equal(ours_centred, centred.predict(unit(queries - mean)))
    assert (ours_centred != ours).any()


def test_prototypes_are_the_softmax_of_squared_distances_at_the_temperature_that_fits_groups_left_out():
    known, queries = drawn([9, 6, 15], 12, per_group=3)
    z, labels = unit(known.features), known.labels.numpy()

    def minus_squares(train: np.ndarray, rows: np.ndarray) -> np.ndarray:
        means = np.stack([z[train][labels[train] == c].mean(axis=0) for c in range(3)])
        return -((rows[:, None] - means[None]) ** 2).sum(axis=2)

    folds = group_folds(labels, known.units, seed=4)
    assert len(folds) == 2
    held_out = np.concatenate([minus_squares(train, z[left]) for train, left in folds])
    truth = labels[np.concatenate([left for _, left in folds])]
    temperatures = np.exp(np.linspace(np.log(0.05), np.log(20), 20_001))
    losses = [-log_softmax(held_out / t, axis=1)[np.arange(len(truth)), truth].mean() for t in temperatures]
    expected = softmax(minus_squares(np.arange(30), unit(queries)) / temperatures[np.argmin(losses)], axis=1)
    head = prototypes(known, seed=4)
    np.testing.assert_allclose(head.logits(queries).softmax(dim=1).numpy(), expected, atol=2e-4)
    same = nearest_mean(known, HeadSpec()).logits(queries).argmax(dim=1)
    assert torch.equal(head.logits(queries).argmax(dim=1), same)


def test_prototypes_of_one_image_a_class_have_the_temperature_1():
    known, queries = drawn([1] * 4, 12)
    squares = ((unit(queries)[:, None] - unit(known.features)[None]) ** 2).sum(axis=2)
    found = prototypes(known, seed=0).logits(queries).softmax(dim=1).numpy()
    np.testing.assert_allclose(found, softmax(-squares, axis=1), atol=1e-5)


@pytest.mark.parametrize("neighbours", [1, 3, 8])
def test_knn_is_scikit_learns_and_gives_no_class_a_probability_of_0(neighbours: int):
    known, queries = drawn([10] * 4, 12)
    state = HEADS.get("knn").fit(known, known, HeadSpec(neighbours=neighbours), 0)
    ours = HEADS.get("knn").probabilities(state, known, queries)
    theirs = KNeighborsClassifier(neighbours, metric="cosine").fit(known.features.numpy(), known.labels.numpy())
    np.testing.assert_array_equal(ours.argmax(dim=1).numpy(), theirs.predict(queries.numpy()))
    np.testing.assert_allclose(ours.sum(dim=1).numpy(), 1, atol=1e-6)
    assert ours.min() > 0


@pytest.mark.parametrize("method", FITTED_HEADS)
def test_without_a_training_image_a_head_is_refused_in_one_line(method: str):
    known, _ = drawn([2, 2], 4)
    none = replace(known, features=known.features[:0], labels=known.labels[:0], groups=())
    with pytest.raises(ConfigError, match=rf"^{re.escape(method)} is fitted to training images, .* none\. .*zero-shot"):
        HEADS.get(method).fit(none, known, HeadSpec(), 0)
    train = head_of(method).train
    if train is not None:
        with pytest.raises(ConfigError, match="is fitted to training images"):
            train([known, none], [known, known], HeadSpec(), [0, 1])


@pytest.mark.parametrize("method", [name for name in FITTED_HEADS if name not in (*TEXT_HEADS, *TREE_HEADS, "mlp")])
def test_of_one_class_alone_a_head_predicts_nothing_else(method: str):
    """As a draw in natural prevalence may be."""
    known, queries = drawn([5, 6], 8)
    one = replace(known, labels=torch.ones_like(known.labels), num_classes=3)
    shares = HEADS.get(method).probabilities(HEADS.get(method).fit(one, one, HeadSpec(), 0), one, queries)
    assert shares.argmax(dim=1).unique().tolist() == [1]
    np.testing.assert_allclose(shares.sum(dim=1).numpy(), 1, atol=1e-6)


def test_more_neighbours_than_training_images_are_refused_with_both_counts():
    known, _ = drawn([2, 2], 4)
    with pytest.raises(ConfigError, match="asks for 5 neighbours, but there are 4 training images"):
        HEADS.get("knn").fit(known, known, HeadSpec(neighbours=5), 0)


@given(
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=6),
    per_group=st.integers(1, 5),
    seed=st.integers(0, 2**63 - 1),
)
@settings(max_examples=50)
def test_folds_tear_no_group_and_leave_every_class_to_train_on(sizes: list[int], per_group: int, seed: int):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    groups = [f"{index // per_group}" for index in range(len(labels))]  # some hold several classes
    folds = group_folds(labels, groups, seed=seed)
    fewest = min(len({group for group, each in zip(groups, labels, strict=True) if each == k}) for k in set(labels))
    assert len(folds) <= min(MAX_FOLDS, fewest)
    assert fewest > 1 or not folds
    for train, left in folds:
        assert not {groups[index] for index in train} & {groups[index] for index in left}
        assert set(labels[train]) == set(labels)


@given(
    labels=st.lists(st.integers(0, 11), min_size=6, max_size=120),
    per_group=st.integers(1, 9),
    number=st.integers(2, 5),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_folds_are_scikit_learns(labels: list[int], per_group: int, number: int, seed: int):
    groups = [str(index // per_group) for index in range(len(labels))]
    theirs = StratifiedGroupKFold(n_splits=number, shuffle=True, random_state=seed)
    indices = np.array(labels)
    assume(len(set(groups)) >= number and np.bincount(indices).max() >= number)
    found = divide(indices, groups, number, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = list(theirs.split(np.zeros((len(labels), 1)), indices, groups))
    for (train, left), (their_train, their_left) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(train, their_train)
        np.testing.assert_array_equal(left, their_left)


def test_folds_are_the_callers_own_though_a_division_is_made_once():
    labels, groups = np.arange(12) % 2, [str(index) for index in range(12)]
    first = group_folds(labels, groups, seed=0)
    again = group_folds(labels, groups, seed=0)
    first[0][0][:] = 0
    for (train, left), (train_anew, left_anew) in zip(again, group_folds(labels, groups, seed=0), strict=True):
        np.testing.assert_array_equal(train, train_anew)
        np.testing.assert_array_equal(left, left_anew)
    other = group_folds(labels, groups, seed=1)
    assert any(not np.array_equal(one[1], two[1]) for one, two in zip(again, other, strict=True))


@pytest.mark.parametrize("fit", [logistic, ridge])
def test_a_class_of_one_group_leaves_no_penalty_to_choose_and_takes_1(fit):
    known, queries = drawn([6] * 3, 16, per_group=6)
    chosen, set_to_1 = fit(known, HeadSpec(), seed=0), fit(known, HeadSpec(penalty=UNCHOSEN), seed=0)
    torch.testing.assert_close(chosen.logits(queries), set_to_1.logits(queries), atol=0, rtol=0)


def test_the_penalty_is_the_best_on_groups_left_out_not_on_images():
    """Images of a group are near copies, their labels noise: over images a weak penalty wins, over groups a strong."""
    generator = torch.Generator().manual_seed(0)
    slides = torch.randn(24, 40, generator=generator)
    labels = torch.arange(24) % 2
    copies = slides.repeat_interleave(6, dim=0) + 0.01 * torch.randn(144, 40, generator=generator)
    groups = [str(index // 6) for index in range(144)]
    of_images = Labelled(features=copies, labels=labels.repeat_interleave(6), num_classes=2)
    of_groups = Labelled(features=copies, labels=of_images.labels, num_classes=2, groups=groups)
    strength = {
        name: float(logistic(known, HeadSpec(), seed=0).weight.norm())
        for name, known in (("images", of_images), ("groups", of_groups))
    }
    strongest, weakest = (
        float(logistic(of_groups, HeadSpec(penalty=penalty), seed=0).weight.norm())
        for penalty in (PENALTIES[0], PENALTIES[-1])
    )
    assert strength["groups"] == pytest.approx(strongest), "pure noise: the strongest penalty"
    assert strength["images"] == pytest.approx(weakest), "copies on both sides: the weakest penalty"


@pytest.mark.parametrize("method", [name for name in FITTED_HEADS if name not in (*TEXT_HEADS, *TREE_HEADS)])
def test_a_class_without_training_images_is_never_predicted_and_all_stays_finite(method: str):
    known, queries = drawn([5, 6], 8)
    gap = Labelled(features=known.features, labels=known.labels * 2, num_classes=4, groups=known.groups)
    state = HEADS.get(method).fit(gap, gap, HeadSpec(), 0)
    shares = HEADS.get(method).probabilities(state, gap, queries)
    assert torch.isfinite(shares).all()
    assert set(shares.argmax(dim=1).tolist()) <= {0, 2}
    np.testing.assert_allclose(shares.sum(dim=1).numpy(), 1, atol=1e-5)


@pytest.mark.parametrize(
    "method",
    [name for name, facts in FITTED.items() if facts.is_affine and not facts.needs_text and not facts.needs_tree],
)
@pytest.mark.parametrize("factor", [0.01, 50.0])
def test_an_affine_head_reads_directions_not_lengths_and_comes_back_from_its_state(method: str, factor: float):
    known, queries = drawn([6] * 3, 12)
    spec = HeadSpec(centre=True) if method == "nearest-mean" else HeadSpec()
    state = HEADS.get(method).fit(known, known, spec, 0)
    head = AffineHead.of(state)
    assert head.state().keys() == state.keys()
    z = scaled(queries, head.centre)
    torch.testing.assert_close(head.logits(queries), z @ state["head.weight"].T + state["head.bias"])
    if head.centre is None:
        torch.testing.assert_close(head.logits(queries * factor), head.logits(queries), atol=1e-3, rtol=1e-3)


def test_every_fitted_head_has_facts_a_solution_and_a_place_in_the_registry_of_methods():
    assert (
        set(FITTED)
        == {head.name for head in HEADS}
        == set(FITTED_HEADS)
        == {one.name for one in METHODS if one.kind == "head"}
    )
    for name, facts in FITTED.items():
        assert METHODS.get(name).head is facts
        assert facts.values or re.search(r"al\. 20\d\d\)", facts.description), "a paper that leaves nothing to choose"
        assert all(value.default and value.source for value in facts.values.values())


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize(("per_class", "dim"), [(12, 10), (6, 64)])
def test_scores_of_folds_left_out_are_scikit_learns_of_each_fold_trained_alone(
    num_classes: int, per_class: int, dim: int
):
    """More images than features, and fewer, where they are turned into as many dimensions as they span."""
    known, _ = drawn([per_class] * num_classes, dim, per_group=2)
    z, labels = unit(known.features), known.labels.numpy()
    folds = group_folds(labels, known.units, seed=0)
    penalties = (10.0, 0.1, 0.001)
    signs = 2.0 * np.eye(num_classes)[labels] - 1
    for solver, tolerance in ((RidgeSolver(z, labels), 1e-8), (Logistic(z, labels), 1e-3)):
        for penalty, scores in zip(penalties, solver.held_out(folds, penalties), strict=True):
            expected = []
            for train, left in folds:
                if isinstance(solver, RidgeSolver):
                    expected.append(Ridge(alpha=penalty).fit(z[train], signs[train]).predict(z[left]))
                    continue
                theirs = LogisticRegression(C=1 / penalty, max_iter=20_000, tol=1e-8)
                expected.append(theirs.fit(z[train], labels[train]).predict_log_proba(z[left]))
            found = scores if isinstance(solver, RidgeSolver) else log_softmax(scores, axis=1)
            np.testing.assert_allclose(found, np.concatenate(expected), atol=tolerance)


def test_a_penalty_below_the_rounding_of_ridges_equations_gives_the_shortest_solution():
    known, _ = drawn([3] * 3, 32)
    head = ridge(known, HeadSpec(penalty=1e-30), seed=0)
    signs = 2.0 * np.eye(3)[known.labels.numpy()] - 1
    z = unit(known.features)
    weight = np.linalg.pinv(z - z.mean(axis=0)) @ (signs - signs.mean(axis=0))
    factor = np.abs(weight.T).max() / head.weight.abs().max().item()
    np.testing.assert_allclose(head.weight.double().numpy() * factor, weight.T, atol=1e-4 * np.abs(weight).max())
