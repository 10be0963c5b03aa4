"""Discriminant space of the training features: whitened by their shared, shrunken covariance within classes.

In it a class is a normal distribution around its mean with unit covariance, so that one value a dimension says all of
a covariance that is far from diagonal among the features themselves (linear discriminant analysis, Fisher 1936).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64
from numpy.typing import NDArray

MAX_DIMENSIONS = 64
_BLOCK = 4096
_LEAST_VARIANCE = 1e-12
"""Of a feature that is the same for all images and texts, and tells nothing."""
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True, kw_only=True)
class Discriminants:
    """Projection to at most K - 1 dimensions, and where the training features of each class have their mean there."""

    centre: Float64[np.ndarray, " feature_dim"]
    axes: Float64[np.ndarray, "feature_dim dimensions"]
    means: Float64[np.ndarray, "classes dimensions"]

    def project(self, features: Float[np.ndarray, "cells feature_dim"]) -> Float64[np.ndarray, "cells dimensions"]:
        """Scales features to length one and projects them, a block at a time."""
        points = np.empty((len(features), self.axes.shape[1]))
        for start in range(0, len(features), _BLOCK):
            rows = slice(start, start + _BLOCK)
            block = features[rows].astype(np.float64)
            lengths = np.sqrt(np.einsum("nd,nd->n", block, block))
            points[rows] = block @ self.axes / np.maximum(lengths, _TINY)[:, None]
        points -= self.centre @ self.axes
        return points


def discriminants(
    features: Float[np.ndarray, "images feature_dim"], labels: NDArray[np.int64], num_classes: int
) -> Discriminants:
    """Computes the space from training features of every class.

    The covariance is shrunk towards a multiple of the identity by d / (N - K + d), as for the head ``gda``. Where there
    is one image a class, nothing is known of the spread within classes, and that of all images stands in for it.
    """
    unit = _unit(features)
    means = np.stack([unit[labels == label].mean(axis=0) for label in range(num_classes)])
    residuals, freedom, width = unit - means[labels], len(labels) - num_classes, unit.shape[1]
    if freedom < 1:
        residuals, freedom = unit - unit.mean(axis=0), max(1, len(labels) - 1)
    covariance = residuals.T @ residuals / freedom
    spread = max(float(np.trace(covariance)) / width, _TINY)
    shrinkage = width / (freedom + width)
    values, vectors = np.linalg.eigh((1 - shrinkage) * covariance + shrinkage * spread * np.eye(width))
    whitening = vectors / np.sqrt(np.maximum(values, _TINY))
    centre = means.mean(axis=0)
    directions = np.linalg.svd((means - centre) @ whitening, full_matrices=False)[2]
    axes = whitening @ directions[: min(num_classes - 1, width, MAX_DIMENSIONS)].T
    return Discriminants(centre=centre, axes=axes, means=(means - centre) @ axes)


def text_discriminants(
    features: Float[np.ndarray, "images feature_dim"],
    labels: NDArray[np.int64],
    embeddings: Float[np.ndarray, "classes feature_dim"],
) -> Discriminants:
    """Computes the space of StatA's text anchors: the embeddings of the classes, with one variance for each feature.

    The variances are those of the training features around the embedding of their class (V0 of Zanella et al. 2025,
    arXiv:2501.03729, there around the classes that zero-shot gives unlabelled cells): they hold the distance between
    images and texts, too. As above, only the directions between the classes are kept, which tell all that densities
    around the anchors say of a class; a class without a training image is anchored by its text alone.

    Args:
        embeddings: Of the classes, of any length, in the space of the features.
    """
    unit, anchors = _unit(features), _unit(embeddings)
    scale = 1 / np.sqrt(np.maximum(((unit - anchors[labels]) ** 2).mean(axis=0), _LEAST_VARIANCE))
    centre = anchors.mean(axis=0)
    directions = np.linalg.svd((anchors - centre) * scale, full_matrices=False)[2]
    num_axes = min(len(anchors) - 1, len(scale), MAX_DIMENSIONS)
    axes = scale[:, None] * directions[:num_axes].T
    return Discriminants(centre=centre, axes=axes, means=(anchors - centre) @ axes)


def _unit(features: Float[np.ndarray, "cells feature_dim"]) -> Float64[np.ndarray, "cells feature_dim"]:
    exact = features.astype(np.float64)
    return exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), _TINY)
