"""A linear head on frozen features: its learning rate and temperature by cross-validation over groups."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor

from cytolora.classifier.fit.recipe import Recipe
from cytolora.errors import ConfigError
from cytolora.metrics.calibration import cross_entropy, probabilities
from cytolora.metrics.scores import score
from cytolora.models.classifier import head_state
from cytolora.training.heads import fit_heads

MAX_FOLDS = 5

Logits = NDArray[np.float32]
"""Images x classes."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What one learning rate gave on images that were not trained on."""

    rate: float
    balanced_accuracy: float
    accuracy: float
    loss: float
    """Cross-entropy before the temperature, nats."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """A trained head, and how its rate was chosen."""

    state: dict[str, Tensor]
    rate: float
    tried: tuple[Tried, ...]
    num_steps: int
    held_out: Logits
    """Of the images in ``held_out_labels``, by models that had not seen them; the temperature is fitted on them."""
    held_out_labels: NDArray[np.int64]
    chosen_on: str
    """In words."""

    def logits(self, features: Tensor) -> Logits:
        """Applies the head to features [images, width]."""
        return _apply(features, self.state["head.weight"], self.state["head.bias"])


def num_folds(
    labels: NDArray[np.int64] | Sequence[int], groups: Sequence[str], is_scored: NDArray[np.bool_] | None = None
) -> int:
    """Returns how many folds leave every class in training in each of them: at most ``MAX_FOLDS``; 1 or 0: none do.

    Args:
        is_scored: Which images count, see ``fit_by_folds``; None: all.
    """
    counted = np.ones(len(labels), dtype=bool) if is_scored is None else is_scored
    pairs = {(label, group) for label, group, counts in zip(labels, groups, counted, strict=True) if counts}
    return min(MAX_FOLDS, *(sum(label == one for label, _ in pairs) for one in np.unique(labels)))


def fit_by_folds(
    features: Tensor,
    labels: NDArray[np.int64],
    groups: Sequence[str],
    recipe: Recipe,
    num_classes: int,
    is_scored: NDArray[np.bool_] | None = None,
) -> Head:
    """Chooses the rate by stratified cross-validation in which no group is torn, then trains on everything.

    Args:
        features: Of the training images, float32 [images, width].
        is_scored: Images that the rate is chosen on and whose predictions are kept; None: all. The rest is trained on.
    """
    is_scored = np.ones(len(labels), dtype=bool) if is_scored is None else is_scored
    folds = num_folds(labels, groups, is_scored)
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=recipe.seed)
    held_out = np.zeros((len(recipe.rates), len(labels), num_classes), dtype=np.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class in y has only")
        divided = list(splitter.split(features, labels, groups))
    for train, left in divided:
        weights, biases = _heads(features[train], labels[train], recipe, num_classes, recipe.num_steps(len(train)))
        for place in range(len(recipe.rates)):
            held_out[place, left] = _apply(features[left], weights[place], biases[place])
    held_out, scored = held_out[:, is_scored], labels[is_scored]
    chosen, tried = choose_rate(recipe.rates, held_out, scored)
    units = [group for group, counts in zip(groups, is_scored, strict=True) if counts]
    unit = "groups" if len(set(units)) < len(units) else "images"
    return _final(
        features,
        labels,
        recipe,
        num_classes,
        chosen,
        tried,
        held_out=held_out[chosen],
        held_out_labels=scored,
        chosen_on=f"cross-validation in {folds} folds over {len(set(units))} {unit} of the training images",
    )


def fit_by_validation(
    features: Tensor,
    labels: NDArray[np.int64],
    validation: Tensor,
    validation_labels: NDArray[np.int64],
    recipe: Recipe,
    num_classes: int,
) -> Head:
    """Chooses the rate on images set aside: for training sets too small to be divided again."""
    weights, biases = _heads(features, labels, recipe, num_classes, recipe.num_steps(len(labels)))
    held_out = np.stack([_apply(validation, weight, bias) for weight, bias in zip(weights, biases, strict=True)])
    chosen, tried = choose_rate(recipe.rates, held_out, validation_labels)
    return _final(
        features,
        labels,
        recipe,
        num_classes,
        chosen,
        tried,
        held_out=held_out[chosen],
        held_out_labels=validation_labels,
        chosen_on=f"{len(validation_labels)} held-out images",
    )


def choose_rate(
    rates: Sequence[float], held_out: NDArray[np.float32], labels: NDArray[np.int64]
) -> tuple[int, tuple[Tried, ...]]:
    """Takes the rate of the highest balanced accuracy; ties go to the lower loss, then to the lower rate.

    Args:
        held_out: Logits, rates x images x classes; a rate at which training diverged holds NaN and is not taken.

    Raises:
        ConfigError: If training diverged at every rate.
    """
    tried: dict[int, Tried] = {}
    for place, logits in enumerate(held_out):
        if np.isfinite(logits).all():
            shares = probabilities(logits, 1.0)
            found = score(labels, shares)
            tried[place] = Tried(
                rate=rates[place],
                balanced_accuracy=found["balanced_accuracy"],
                accuracy=found["accuracy"],
                loss=cross_entropy(labels, shares),
            )
    if not tried:
        raise ConfigError(
            f"Training diverged at every learning rate: {', '.join(map(str, rates))}. Take lower --learning-rates."
        )
    best = min(tried, key=lambda place: (-tried[place].balanced_accuracy, tried[place].loss, tried[place].rate))
    return best, tuple(tried.values())


def _final(
    features: Tensor,
    labels: NDArray[np.int64],
    recipe: Recipe,
    num_classes: int,
    chosen: int,
    tried: tuple[Tried, ...],
    **kept: Any,
) -> Head:
    num_steps = recipe.num_steps(len(labels))
    weights, biases = _heads(features, labels, recipe, num_classes, num_steps)  # all: the last bits depend on the batch
    return Head(
        state=head_state(weights[chosen].clone(), biases[chosen].clone()),
        rate=recipe.rates[chosen],
        tried=tried,
        num_steps=num_steps,
        **kept,
    )


def _heads(
    features: Tensor, labels: NDArray[np.int64], recipe: Recipe, num_classes: int, num_steps: int
) -> tuple[Tensor, Tensor]:
    """Trains one head for every rate: weights [rates, classes, width] and biases [rates, classes]."""
    weights, biases, _ = fit_heads(
        features.unsqueeze(0),
        torch.from_numpy(labels).unsqueeze(0),
        recipe.train,
        num_classes=num_classes,
        learning_rates=recipe.rates,
        seeds=[recipe.seed],
        num_steps=num_steps,
    )
    return weights[0].cpu(), biases[0].cpu()


def _apply(features: Tensor, weight: Tensor, bias: Tensor) -> Logits:
    return (features @ weight.T + bias).numpy()
