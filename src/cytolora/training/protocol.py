"""Training protocols as data: budget, learning rates to choose from, and the metric that chooses.

The shipped grids state the paper's in their YAML files, where ``GRID_LINEAR`` is repeated; all others are given as
what they change of it.
"""

from dataclasses import dataclass, replace

from cytolora.config.run import LINEAR, AugmentSpec, Budget, TrainSpec
from cytolora.models.adapters.prompt_methods import WEIGHT_DECAY
from cytolora.training.selection import Metric

PASSES = "image passes"
"""Unit of progress: forward passes of an image through an encoder."""
PASSES_OF_TRAINING = 3
"""Cost of training on an image over scoring it: a forward pass, and one of twice the work back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How a head, or an adapter with its head, is trained, and how its learning rate is chosen."""

    train: TrainSpec
    learning_rates: tuple[float, ...]
    """Peaks of the cosine to choose from."""
    metric: Metric
    """Which validation metric chooses; see ``choose_learning_rate``."""
    min_steps: int = 1
    """Fewest optimiser steps, whatever the budget gives; ``max_steps`` of the budget cuts these too."""
    max_steps: int | None = None
    """Most optimiser steps; None: as many as the budget gives."""
    head: str = LINEAR
    """Method that gives the head: ``linear`` trains it, under an adapter too; a fitted one has no steps and no rate."""

    def num_steps(self, num_train: int, shots: int | None = None) -> int:
        """Optimiser steps of one training.

        Args:
            shots: Images per class, for a budget in steps per shot.
        """
        budget = self.train.budget
        steps = budget.num_steps(num_train=num_train, batch_size=self.train.batch_size, shots=shots)
        steps = max(self.min_steps, steps if self.max_steps is None else min(self.max_steps, steps))
        return steps if budget.max_steps is None else min(steps, budget.max_steps)


GRID_LINEAR = Protocol(
    train=TrainSpec(budget=Budget(amount=100, unit="epochs"), augment=None),
    learning_rates=(1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1),
    metric="accuracy",
)
"""Linear heads of the shipped grids exp1 and exp2-linear; why these numbers: config/grids/exp1.yaml."""

ESTIMATOR_LINEAR = replace(GRID_LINEAR, learning_rates=(1e-2,))
"""Defaults of the scikit-learn estimator ``LinearHead``: one rate, chosen by whoever calls it."""

FIT_LINEAR = replace(
    GRID_LINEAR,
    train=replace(GRID_LINEAR.train, budget=Budget(amount=60, unit="epochs"), augment=AugmentSpec()),
    learning_rates=(3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1),
    metric="balanced_accuracy",
    min_steps=300,
    max_steps=6000,
)
"""Linear heads of ``fit``, and of the learning curve that forecasts them. The steps have bounds, for own datasets hold
from a handful of images to hundreds of thousands, and classes of different sizes. ``augment`` stands in the bundles of
format 1 and changes nothing: the features are those of evaluation views."""


FIT_PROMPT = Protocol(
    train=TrainSpec(
        budget=Budget(amount=20, unit="epochs"), augment=None, batch_size=8, warmup_epochs=1, weight_decay=WEIGHT_DECAY
    ),
    learning_rates=(2e-3, 2e-2),
    metric="balanced_accuracy",
    max_steps=1000,
)
"""Prompts of ``fit``: budget and rates of the grid ``prompts``. Each rate costs a training through the text encoder,
which the number of images does not make longer than so many steps."""


def fitted(method: str) -> Protocol:
    """Protocol of a head that is fitted without steps; its only rate is 0."""
    return replace(
        GRID_LINEAR, learning_rates=(0.0,), metric="balanced_accuracy", min_steps=0, max_steps=0, head=method
    )


FIT_ADAPTER = Protocol(
    train=TrainSpec(budget=Budget(amount=20, unit="epochs", plus_steps=50)),
    learning_rates=(3e-4, 1e-3, 3e-3),
    metric="balanced_accuracy",
)
"""Adapters of ``fit``: the middle of the rates of the shipped grids, for each costs a training."""

FIT_ADAPTER_FEW_SHOT = replace(
    FIT_ADAPTER, train=TrainSpec(budget=Budget(amount=50, unit="steps_per_shot", plus_steps=50))
)
"""Adapters of ``fit`` with shots; the budget of the public code of Dausort et al. 2025."""
