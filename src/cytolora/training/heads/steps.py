"""Batched training of heads on frozen features by gradient steps: all seeds and learning rates in one pass.

Every head is a set of tensors ``[seeds, rates, ...]`` and a function from them and a batch to logits; their losses are
added up, so that each gradient is that of one head. A head is trained as it would be alone.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float32, Int64
from torch import Tensor

from cytolora.config.run import HeadSpec
from cytolora.training.adamw import AdamW
from cytolora.training.heads.labelled import ROWS, Labelled
from cytolora.training.loop import batches

Parameters = Mapping[str, Tensor]
"""By name, [seeds, rates, ...]."""
Logits = Callable[[Parameters, Tensor], Tensor]
"""Parameters and images [seeds, images, features] to logits [seeds, rates, images, classes]."""
Loss = Callable[[Tensor, Tensor], Tensor]
"""Log-probabilities [seeds, rates, images, classes] and class indices to the loss of each image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Optimiser and schedule of a method's authors."""

    optimiser: Literal["adamw", "adam", "sgd"]
    """adam: weight decay is added to the gradient. sgd: with momentum 0.9, the default of the library Dassl."""
    rates: tuple[float, ...]
    """Peak learning rates; of several, validation chooses one."""
    epochs: int
    batch_size: int
    weight_decay: float = 0.0
    eps: float = 1e-8
    warmup_epochs: int = 0
    warmup: Literal["constant", "linear"] = "constant"
    """constant: 1e-5; linear: from there to the peak. Both as in Dassl."""
    by_epoch: bool = True
    """Whether the cosine falls once an epoch, as in Dassl, or with every step."""

    def rate_at(self, step: int, *, steps_per_epoch: int, epochs: int, peak: float) -> float:
        """Learning rate of a step counted from 0."""
        epoch = step // steps_per_epoch if self.by_epoch else step / steps_per_epoch
        if epoch < self.warmup_epochs:
            return _WARM if self.warmup == "constant" or epoch == 0 else peak * epoch / self.warmup_epochs
        return peak * (1 + math.cos(math.pi * (epoch - self.warmup_epochs) / epochs)) / 2


_WARM = 1e-5
_MOMENTUM = 0.9


class _Optimiser(Protocol):
    def step(self, grads: Sequence[Tensor], learning_rate: float) -> None: ...


class _Momentum:
    """Stochastic gradient descent with momentum, as ``torch.optim.SGD``; weight decay is added to the gradient."""

    def __init__(self, tensors: Sequence[Tensor], *, weight_decay: float) -> None:
        self._tensors, self._weight_decay = list(tensors), weight_decay
        self._moves = [torch.zeros_like(tensor) for tensor in tensors]

    def step(self, grads: Sequence[Tensor], learning_rate: float) -> None:
        for tensor, grad, move in zip(self._tensors, grads, self._moves, strict=True):
            move.mul_(_MOMENTUM).add_(grad).add_(tensor, alpha=self._weight_decay)
            tensor.sub_(move, alpha=learning_rate)


class _Adam:
    """Adam with weight decay added to the gradient, as ``torch.optim.Adam``."""

    def __init__(self, tensors: Sequence[Tensor], *, weight_decay: float, eps: float) -> None:
        self._tensors, self._weight_decay = list(tensors), weight_decay
        self._adam = AdamW(tensors, betas=(0.9, 0.999), weight_decay=0.0, eps=eps)

    def step(self, grads: Sequence[Tensor], learning_rate: float) -> None:
        pairs = zip(grads, self._tensors, strict=True)
        self._adam.step([grad.add(tensor, alpha=self._weight_decay) for grad, tensor in pairs], learning_rate)


def _optimiser(recipe: Recipe, tensors: Sequence[Tensor]) -> _Optimiser:
    if recipe.optimiser == "sgd":
        return _Momentum(tensors, weight_decay=recipe.weight_decay)
    if recipe.optimiser == "adam":
        return _Adam(tensors, weight_decay=recipe.weight_decay, eps=recipe.eps)
    return AdamW(tensors, betas=(0.9, 0.999), weight_decay=recipe.weight_decay, eps=recipe.eps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped:
    """Heads after their last step."""

    parameters: dict[str, Tensor]
    losses: Float32[Tensor, "seeds rates"]
    """Of the last batch, nats; 0 where there was no step."""
    num_steps: int

    def head(self, state: dict[str, Tensor], index: int, rate_index: int) -> "SteppedHead":
        """Returns the head of one seed and rate, of which ``state`` is stored."""
        return SteppedHead(
            state=state,
            num_trainable=sum(tensor[0, 0].numel() for tensor in self.parameters.values()),
            num_steps=self.num_steps,
            final_loss=float(self.losses[index, rate_index]) if self.num_steps else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SteppedHead:
    """One trained head: what is stored, and how it was trained."""

    state: dict[str, Tensor]
    num_trainable: int
    num_steps: int
    final_loss: float | None
    """Cross-entropy of the last batch, nats; None where there was no step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """Training and validation images of every seed, as a head reads them."""

    features: Float32[Tensor, "seeds images features"]
    labels: Int64[Tensor, "seeds images"]
    val_features: Float32[Tensor, "seeds validation features"]
    val_labels: Int64[Tensor, "seeds validation"]
    seeds: Sequence[int]

    @staticmethod
    def of(known: Sequence[Labelled], val: Sequence[Labelled], seeds: Sequence[int], *, scaled: bool = True) -> "Draws":
        """Stacks the draws of all seeds, which are of one size.

        Args:
            scaled: Whether features are scaled to length 1.
        """
        features, val_features = (torch.stack([one.features for one in images]) for images in (known, val))
        return Draws(
            features=unit(features) if scaled else features,
            labels=torch.stack([one.labels for one in known]),
            val_features=unit(val_features) if scaled else val_features,
            val_labels=torch.stack([one.labels for one in val]),
            seeds=seeds,
        )


def train_and_choose(
    start: Parameters,
    logits: Logits,
    draws: Draws,
    recipe: Recipe,
    spec: HeadSpec,
    penalty: Callable[[Parameters], Tensor] | None = None,
    loss: Loss | None = None,
) -> tuple[Stepped, list[int]]:
    """Trains to the last step; returns the index of the learning rate that validation chooses for each seed.

    Of equally accurate rates the first; of one alone, validation images are not read.
    """
    rates = spec.rates or recipe.rates
    stepped = train_by_steps(
        start,
        logits,
        draws,
        recipe,
        rates=rates,
        epochs=recipe.epochs if spec.epochs is None else spec.epochs,
        step_limit=spec.step_limit,
        penalty=penalty,
        loss=loss,
    )
    if len(rates) == 1:
        return stepped, [0] * len(draws.seeds)
    right = num_right(stepped.parameters, logits, draws.val_features, draws.val_labels)
    return stepped, [row.index(max(row)) for row in right.tolist()]


def train_by_steps(
    start: Parameters,
    logits: Logits,
    draws: Draws,
    recipe: Recipe,
    *,
    rates: Sequence[float],
    epochs: int,
    step_limit: int | None = None,
    penalty: Callable[[Parameters], Tensor] | None = None,
    loss: Loss | None = None,
    after_epoch: Callable[[Parameters], None] = lambda parameters: None,
) -> Stepped:
    """Trains one head for every pair of seed and learning rate, each as it would be trained alone.

    Args:
        start: Tensors ``[seeds, ...]`` that the heads of a seed start from, whatever their learning rate.
        step_limit: Truncates training, whose learning rates are those of the whole; None: does not.
        penalty: What is added to the cross-entropy of each head, [seeds, rates].
        loss: Takes the place of cross-entropy.
        after_epoch: Told the parameters after every pass over the training images, and at the end.
    """
    features, labels, num_images = draws.features, draws.labels, draws.features.shape[1]
    batch_size = min(recipe.batch_size, num_images)
    parameters = {
        name: tensor.unsqueeze(1).repeat_interleave(len(rates), dim=1).clone() for name, tensor in start.items()
    }
    optimisers = [_optimiser(recipe, _of_rate(parameters.values(), index)) for index in range(len(rates))]
    steps_per_epoch = math.ceil(num_images / batch_size)
    num_steps = epochs * steps_per_epoch if step_limit is None else min(epochs * steps_per_epoch, step_limit)
    orders = [batches(num_images, batch_size, num_steps, torch.Generator().manual_seed(seed)) for seed in draws.seeds]
    losses = torch.zeros(len(draws.seeds), len(rates))
    for step, indices in enumerate(zip(*orders, strict=True)):
        rows = torch.stack(indices).unsqueeze(2)
        batch = features.take_along_dim(rows, dim=1) if rows.shape[1] < num_images else features
        truth = labels.take_along_dim(rows.squeeze(2), dim=1) if rows.shape[1] < num_images else labels
        losses, grads = _gradients(parameters, logits, penalty, loss, batch, truth)
        for index, (optimiser, peak) in enumerate(zip(optimisers, rates, strict=True)):
            rate = recipe.rate_at(step, steps_per_epoch=steps_per_epoch, epochs=epochs, peak=peak)
            optimiser.step(_of_rate(grads, index), rate)
        if (step + 1) % steps_per_epoch == 0 or step + 1 == num_steps:
            after_epoch(parameters)
    return Stepped(parameters=parameters, losses=losses, num_steps=num_steps)


def _of_rate(tensors: Iterable[Tensor], index: int) -> list[Tensor]:
    """Returns the part of every seed: parts that stand in memory as they are, for the optimiser works on them."""
    return [each[index] for tensor in tensors for each in tensor.unbind()]


def _gradients(
    parameters: Parameters,
    logits: Logits,
    penalty: Callable[[Parameters], Tensor] | None,
    loss: Loss | None,
    batch: Float32[Tensor, "seeds batch features"],
    truth: Int64[Tensor, "seeds batch"],
) -> tuple[Tensor, list[Tensor]]:
    """Returns the cross-entropy of every head, or the loss in its place, and the gradients."""
    with torch.enable_grad():
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in parameters.items()}
        by_class = logits(leaves, batch).log_softmax(dim=-1)
        index = truth[:, None, :].expand(by_class.shape[:3])
        if loss is None:
            losses = -by_class.gather(3, index.unsqueeze(3)).squeeze(3).mean(dim=2)
        else:
            losses = loss(by_class, index).mean(dim=2)
        total = losses.sum() if penalty is None else (losses + penalty(leaves)).sum()
        grads = torch.autograd.grad(total, list(leaves.values()))
    return losses.detach(), [grad.contiguous() for grad in grads]  # the fused optimiser reads memory as it lies


def num_right(
    parameters: Parameters,
    logits: Logits,
    features: Float32[Tensor, "seeds images features"],
    labels: Int64[Tensor, "seeds images"],
) -> Int64[Tensor, "seeds rates"]:
    """Counts the images that each head classifies rightly; -1 of a head that diverged. Some images at a time."""
    right, is_finite = torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.bool)
    with torch.no_grad():
        for part, truth in zip(features.split(ROWS, dim=1), labels.split(ROWS, dim=1), strict=True):
            found = logits(parameters, part)
            right = right + (found.argmax(dim=3) == truth.unsqueeze(1)).sum(dim=2)
            is_finite = is_finite & torch.isfinite(found).all(dim=3).all(dim=2)
    return torch.where(is_finite, right, -1)


def unit(tensor: Tensor) -> Tensor:
    """Scales the last dimension to length 1."""
    return F.normalize(tensor, dim=-1)
