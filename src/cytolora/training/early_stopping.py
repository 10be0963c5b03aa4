"""Early stopping: validation after every epoch, the weights of the best one kept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from cytolora.config.run import EarlyStopping

_COUNTED = ("num_epochs", "num_steps", "kept_step", "accuracy", "waited")
"""Fields of ``Patience`` that change."""


@dataclass(kw_only=True)
class Patience:
    """The rule: an epoch is better where its accuracy is strictly higher than that of all before it."""

    spec: EarlyStopping
    num_epochs: int = 0
    num_steps: int = 0
    """Optimiser steps until now."""
    kept_step: int = 0
    """Optimiser steps of the best epoch; 0 before there is one."""
    accuracy: float = -inf
    """Of the best epoch."""
    waited: int = 0
    """Counted epochs in a row that were not better."""

    def after_epoch(self, num_steps: int, accuracy: float) -> bool:
        """Notes an epoch, and returns whether it is the best until now."""
        self.num_epochs, self.num_steps = self.num_epochs + 1, num_steps
        is_best = accuracy > self.accuracy
        if is_best:
            self.accuracy, self.kept_step = accuracy, num_steps
        counts = not is_best and self.num_epochs > self.spec.uncounted_epochs
        self.waited = self.waited + 1 if counts else 0
        return is_best

    @property
    def is_over(self) -> bool:
        """Whether training ends here."""
        return self.waited >= self.spec.patience


class KeptHeads:
    """The best head of every seed and learning rate, each by its own validation images and its own patience."""

    def __init__(
        self,
        spec: EarlyStopping,
        features: Float32[Tensor, "seeds images features"],
        labels: Int64[Tensor, "seeds images"],
        num_rates: int,
    ) -> None:
        """Takes the validation images of each seed."""
        self.features, self.labels = features, labels
        self.patience = [[Patience(spec=spec) for _ in range(num_rates)] for _ in range(len(features))]
        self.kept: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}
        """Weight, bias and loss of the last batch by seed and rate; none of those that diverged from the start."""

    def after_epoch(
        self,
        num_steps: int,
        weights: Float32[Tensor, "seeds rates classes features"],
        biases: Float32[Tensor, "seeds rates classes"],
        losses: Float32[Tensor, "seeds rates"],
    ) -> bool:
        """Scores all heads, keeps the best of those that go on, and returns whether none does."""
        logits = torch.einsum("sif,srcf->sric", self.features, weights) + biases.unsqueeze(2)
        right = (logits.argmax(dim=-1) == self.labels.unsqueeze(1)).sum(dim=-1)
        is_finite = logits.isfinite().flatten(2).all(dim=-1)
        for seed, of_seed in enumerate(self.patience):
            for rate, patience in enumerate(of_seed):
                if patience.is_over:
                    continue
                accuracy = right[seed, rate].item() / self.labels.shape[1] if is_finite[seed, rate] else -inf
                if patience.after_epoch(num_steps, accuracy):
                    self.kept[seed, rate] = (
                        weights[seed, rate].clone(),
                        biases[seed, rate].clone(),
                        losses[seed, rate].clone(),
                    )
        return all(patience.is_over for of_seed in self.patience for patience in of_seed)


@dataclass(kw_only=True)
class KeptWeights:
    """The trainable weights, and buffers, of the best epoch of one training."""

    model: nn.Module
    validate: Callable[[], Float[Tensor, "images classes"]]
    """Class probabilities of the validation images."""
    labels: Int64[Tensor, " images"]
    patience: Patience
    kept: list[Tensor] = field(default_factory=list)
    loss: float = inf
    """Of the last batch before the best epoch ended."""

    def after_epoch(self, num_steps: int, loss: float) -> bool:
        """Scores the validation images, keeps the weights if they are the best, and returns whether training ends."""
        probabilities = self.validate()
        right = (probabilities.argmax(dim=-1) == self.labels).sum().item()
        accuracy = right / len(self.labels) if probabilities.isfinite().all() else -inf
        if self.patience.after_epoch(num_steps, accuracy):
            self.kept, self.loss = [tensor.detach().clone() for tensor in self._tensors()], loss
        return self.patience.is_over

    @torch.no_grad()
    def restore(self, last_loss: float) -> float:
        """Puts the best weights back and returns their loss; ``last_loss`` where no epoch had finite outputs."""
        if not self.kept:
            return last_loss
        for tensor, best in zip(self._tensors(), self.kept, strict=True):
            tensor.copy_(best)
        return self.loss

    def tensors(self) -> dict[str, Tensor]:
        """Returns what it has kept and counted, by name."""
        counted = [float(getattr(self.patience, name)) for name in _COUNTED]
        numbers = torch.tensor([self.loss, *counted], dtype=torch.float64)
        return {"numbers": numbers, **{f"best.{index}": tensor for index, tensor in enumerate(self.kept)}}

    def resume(self, tensors: Mapping[str, Tensor]) -> None:
        """Puts back what ``tensors`` returned."""
        self.loss, *counted = tensors["numbers"].tolist()
        for name, value in zip(_COUNTED, counted, strict=True):
            setattr(self.patience, name, value if name == "accuracy" else int(value))
        self.kept = [tensors[f"best.{index}"] for index in range(len(tensors) - 1)]

    def _tensors(self) -> list[Tensor]:
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        return [*trained, *self.model.buffers()]
