"""Linear head as a scikit-learn estimator over features, with the training protocol of the grids."""

from dataclasses import replace
from typing import Any, Self

import numpy as np
from jaxtyping import Float64, Shaped
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data

from cytolora.config.run import Budget, TrainSpec
from cytolora.errors import ConfigError
from cytolora.training.protocol import ESTIMATOR_LINEAR as _PROTOCOL


class LinearHead(ClassifierMixin, BaseEstimator):
    """A linear classifier trained as the grids train theirs: AdamW, warm-up, cosine, the last iterate.

    Features go in as they are: the protocol scales none. Put a ``StandardScaler`` before it where theirs differ.
    Equal data, parameters, ``random_state`` and number of threads give equal weights.

    Example::

        from cytolora import LinearHead
        from cytolora.training.embed import read_embedding
        from sklearn.model_selection import GroupKFold, cross_val_score

        cells = read_embedding("cells.parquet")
        labels, groups = cells.table["label"].to_pylist(), cells.table["group"].to_pylist()
        cross_val_score(LinearHead(learning_rate=0.003), cells.features, labels, groups=groups, cv=GroupKFold(5))

    Attributes:
        classes_: The labels in sorted order.
        coef_: Weights.
        intercept_: Biases.
        n_iter_: Optimiser steps.
    """

    def __init__(
        self,
        learning_rate: float = _PROTOCOL.learning_rates[0],
        *,
        num_epochs: int = _PROTOCOL.train.budget.amount,
        batch_size: int = _PROTOCOL.train.batch_size,
        weight_decay: float = _PROTOCOL.train.weight_decay,
        warmup_steps: int = _PROTOCOL.train.warmup_steps,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        """Keeps the parameters; ``fit`` checks them.

        Args:
            learning_rate: Peak of the cosine, above 0.
            random_state: Decides the start and the order of batches; 0 is the seed 0 of a grid.
        """
        self.learning_rate = learning_rate
        self.num_epochs = num_epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803  (scikit-learn's name)
        """Trains on a row of features and a label for each image.

        Raises:
            ConfigError: If a parameter is out of its range.
            ValueError: If the data is none to classify; scikit-learn's own kind and words.
        """
        import torch

        from cytolora.training.heads.linear import fit_heads

        checked: Any = validate_data  # its stubs take arrays for text
        features, labels = checked(self, X, y, dtype=np.float32, ensure_min_samples=2)
        check_classification_targets(labels)
        self.classes_, indices = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"LinearHead needs 2 classes at least, but the data holds one class: {self.classes_[0]!r}")
        train = self._train_spec()
        self.n_iter_ = train.num_steps(num_train=len(features), shots=None)
        weights, biases, _ = fit_heads(
            torch.from_numpy(np.ascontiguousarray(features)).unsqueeze(0),
            torch.from_numpy(indices.astype(np.int64)).unsqueeze(0),
            train,
            num_classes=len(self.classes_),
            learning_rates=[self.learning_rate],
            seeds=[self._seed()],
            num_steps=self.n_iter_,
        )
        self.coef_: Float64[np.ndarray, "classes features"] = weights[0, 0].double().numpy()
        self.intercept_: Float64[np.ndarray, " classes"] = biases[0, 0].double().numpy()
        return self

    def decision_function(self, X: ArrayLike) -> Float64[np.ndarray, "images ..."]:  # noqa: N803
        """Returns logits; for two classes how far that of the second is ahead, one number an image."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: ArrayLike) -> Float64[np.ndarray, "images classes"]:  # noqa: N803
        """Returns class probabilities; rows add up to 1."""
        logits = self._logits(X)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def predict(self, X: ArrayLike) -> Shaped[np.ndarray, " images"]:  # noqa: N803
        """Returns the most probable label of each image."""
        indices = self._logits(X).argmax(axis=1)
        return self.classes_[indices]

    def _logits(self, X: ArrayLike) -> Float64[np.ndarray, "images classes"]:  # noqa: N803
        check_is_fitted(self)
        checked: Any = validate_data
        features: Float64[np.ndarray, "images features"] = checked(self, X, reset=False, dtype=np.float64)
        return features @ self.coef_.T + self.intercept_

    def _train_spec(self) -> TrainSpec:
        if self.learning_rate <= 0:
            raise ConfigError(f"learning_rate must be above 0, got {self.learning_rate}.")
        return replace(
            _PROTOCOL.train,
            budget=Budget(amount=self.num_epochs, unit="epochs"),
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            warmup_steps=self.warmup_steps,
        )

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31))
