"""Heads from class means in closed form: nearest class mean, and Gaussian discriminant analysis."""

import numpy as np
from jaxtyping import Float64
from torch import Tensor

from cytolora.config.run import HeadSpec
from cytolora.metrics.calibration import fit_temperature
from cytolora.training.heads.affine import AffineHead, scaled
from cytolora.training.heads.draws import Draw, draw_of
from cytolora.training.heads.labelled import Labelled
from cytolora.training.heads.moments import Divided, Squares, class_sums, positive_solution

Means = Float64[np.ndarray, "present features"]


def nearest_mean(known: Labelled, spec: HeadSpec) -> AffineHead:
    """Fits the nearest class mean of features scaled to length 1 (SimpleShot: Wang et al. 2019, arXiv:1911.04623).

    The logit is ``m_c z - |m_c|^2 / 2``: minus half the squared distance, but for what all classes share.
    """
    centre = known.features.mean(dim=0) if spec.centre else None
    draw = draw_of(known)
    means = draw.means if centre is None else _means_around(centre, known, draw)
    return AffineHead.of_classes(means, -(means**2).sum(axis=1) / 2, draw.present, known.num_classes, centre)


def _means_around(centre: Tensor, known: Labelled, draw: Draw) -> Means:
    rows = scaled(known.features, centre).double().numpy()
    return class_sums(rows, draw.labels, len(draw.present)) / draw.counts[:, None]


def prototypes(known: Labelled, *, seed: int) -> AffineHead:
    """Fits the softmax over minus squared distances to class means, with a temperature (Snell et al. 2017).

    arXiv:1703.05175, eq. 2, on frozen features scaled to length 1. The temperature is the one with the lowest
    cross-entropy in cross-validation over groups, 1 where a class comes from one group only, as with 1 shot. The class
    with the largest probability is that of ``nearest_mean``.
    """
    draw = draw_of(known)
    means, folds, temperature = draw.means, draw.folds(seed), 1.0
    if folds:
        temperature = fit_temperature(
            _left_out(draw.divided(seed)), draw.labels[np.concatenate([left for _, left in folds])]
        )
    weight, bias = 2 * means / temperature, -(means**2).sum(axis=1) / temperature
    return AffineHead.of_classes(weight, bias, draw.present, known.num_classes)


def _left_out(divided: Divided) -> Float64[np.ndarray, "images present"]:
    """Returns minus the squared distances of left-out images, fold by fold, to the means of the others of each class.

    But for what all classes share. The means come from the sums over all images less those that the fold leaves out.
    """
    means = [divided.everything.less(part).means for part in divided.left_out]
    scores = [rows @ (2 * each).T - (each**2).sum(axis=1) for rows, each in zip(divided.rows, means, strict=True)]
    return np.concatenate(scores)


def gaussian(known: Labelled, spec: HeadSpec, *, seed: int = 0) -> AffineHead:
    """Fits Gaussian discriminant analysis with one covariance and uniform priors (Wang et al. 2024, arXiv:2402.04087).

    The covariance is that of all images around their class means, shrunk towards a multiple of the identity:
    ``(1 - r) C + r (tr C / d) I``, r = d / (N - 1 + d), which is the paper's ``((N - 1) C + tr(C) I) / (N - 1 + d)``.
    The logits are log posteriors: the paper's without text, divided by r. Without any spread, as with 1 shot, C is
    taken to be the identity: the nearest class mean. Predictions are those of scikit-learn's LDA with this shrinkage
    and uniform priors where classes are of one size; where they are not, that weighs the covariances of classes alike,
    and this one the images.

    Args:
        seed: Of the folds of other heads: the sums over the images are made by them, for all heads of the draw.
    """
    draw = draw_of(known)
    means, (num_images, dim) = draw.means, draw.rows.shape
    squares = _within(draw, seed)
    shrinkage = dim / (num_images - 1 + dim) if spec.shrinkage is None else spec.shrinkage
    trace = float(np.trace(squares)) / max(1, num_images - 1)
    away = means - means.mean(axis=0)  # what all classes share would only cost digits
    if trace <= np.finfo(np.float32).eps ** 2:
        weight = away
    else:
        covariance = squares * ((1 - shrinkage) / (num_images - 1))
        covariance[np.diag_indices(dim)] += shrinkage * trace / dim
        weight = _solved(covariance, away)
    bias = -(weight * (means + means.mean(axis=0))).sum(axis=1) / 2
    return AffineHead.of_classes(weight, bias, draw.present, known.num_classes)


def _within(draw: Draw, seed: int) -> Squares:
    """Returns the sums of products of images around their class means."""
    if len(draw.rows) < draw.rows.shape[1]:
        spread = draw.rows - draw.means[draw.labels]
        return spread.T @ spread
    return draw.divided(seed).squares[0] - draw.sums.T @ draw.means


def _solved(
    covariance: Squares, means: Float64[np.ndarray, "classes features"]
) -> Float64[np.ndarray, "classes features"]:
    """Multiplies by the inverse covariance; the least-squares solution where it is singular, as with shrinkage 0."""
    found = positive_solution(covariance.copy(), means.T)
    return means @ np.linalg.pinv(covariance, hermitian=True) if found is None else found.T
