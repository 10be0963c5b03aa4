"""Batched training of linear heads on the same frozen features: all seeds and learning rates in one pass."""

from collections.abc import Callable, Sequence
from math import ceil

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from cytolora.config.run import TrainSpec
from cytolora.models.encoder_with_head import seeded_head
from cytolora.training.adamw import AdamW
from cytolora.training.loop import batches, rate_at

_STEPS_TOLD = 100
"""A step takes less than a millisecond: to tell of each would take a share of it."""


@torch.no_grad()
def fit_heads(
    features: Float32[Tensor, "draws images features"],
    labels: Int64[Tensor, "draws images"] | Float32[Tensor, "draws images classes"],
    train: TrainSpec,
    *,
    num_classes: int,
    learning_rates: Sequence[float],
    seeds: Sequence[int],
    num_steps: int,
    starts: Sequence[tuple[Float[Tensor, "classes features"], Float[Tensor, " classes"]]] | None = None,
    on_steps: Callable[[int], None] = lambda steps: None,
    on_epoch: Callable[[int, Tensor, Tensor, Tensor], bool] | None = None,
) -> tuple[
    Float32[Tensor, "seeds rates classes features"],
    Float32[Tensor, "seeds rates classes"],
    Float32[Tensor, "seeds rates"],
]:
    """Trains one head for every pair of seed and learning rate, each as it would be trained alone.

    The heads of one seed share draw, start and order of batches, so their images are gathered once a step. The gradient
    of cross-entropy is written out, softmax minus one-hot label: a step is a dozen operations for any number of heads.

    Args:
        features: Features of the training images of each seed; one draw alone where all seeds train on the same.
        labels: Class indices; or soft labels, the share of each class. Their cross-entropy is that of an image which is
            there once for each class, weighted by its share.
        starts: Weight and bias that each seed's heads start from; drawn if None. The order of batches is the same.
        on_steps: Told the number of steps every 100 steps, and at the end.
        on_epoch: Given steps, weights, biases and losses after every epoch and the last step; training ends where it
            returns True.

    Returns:
        Weights, biases, and the losses of the last step.
    """
    num_draws, num_images, feature_dim = features.shape
    num_seeds = len(seeds)
    if num_draws not in (1, num_seeds):
        raise ValueError(f"{num_draws} draws of training images for {num_seeds} seeds; give one, or one a seed.")
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    drawn = [seeded_head(feature_dim, num_classes, generator) for generator in generators]
    device, num_rates = features.device, len(learning_rates)
    train, num_batches = train.in_steps(num_images), ceil(num_images / train.batch_size)
    weights, biases = (
        torch.stack(part).to(device).unsqueeze(1).repeat_interleave(num_rates, dim=1)
        for part in zip(*(starts or drawn), strict=True)
    )
    optimisers = [
        AdamW([*weights[:, rate_index], *biases[:, rate_index]], betas=train.betas, weight_decay=train.weight_decay)
        for rate_index in range(num_rates)
    ]
    table = features.reshape(-1, feature_dim)
    one_hot_labels = labels if labels.is_floating_point() else F.one_hot(labels, num_classes)
    truth = one_hot_labels.reshape(-1, num_classes).to(features.dtype)
    offsets = (torch.arange(num_seeds) % num_draws).unsqueeze(1) * num_images
    losses = torch.zeros(num_seeds, num_rates, device=device)
    orders = [batches(num_images, train.batch_size, num_steps, generator) for generator in generators]
    for step, indices in enumerate(zip(*orders, strict=True)):
        rows = (torch.stack(indices) + offsets).flatten().to(device)
        batch = table.index_select(0, rows).view(num_seeds, -1, feature_dim)
        one_hot = truth.index_select(0, rows).view(num_seeds, -1, 1, num_classes)
        logits = torch.baddbmm(biases.flatten(1).unsqueeze(1), batch, weights.flatten(1, 2).transpose(1, 2))
        logits = logits.view(num_seeds, -1, num_rates, num_classes)
        ends_epoch = step == num_steps - 1 or (on_epoch is not None and (step + 1) % num_batches == 0)
        if ends_epoch:
            losses = -(logits.log_softmax(dim=-1) * one_hot).sum(dim=-1).mean(dim=1)
        errors = _softmax(logits).sub_(one_hot).div_(batch.shape[1])
        weight_grads = torch.bmm(errors.flatten(2).transpose(1, 2), batch).view(-1, num_classes, feature_dim).unbind()
        bias_grads = errors.sum(dim=1).view(-1, num_classes).unbind()
        for rate_index, (optimiser, peak) in enumerate(zip(optimisers, learning_rates, strict=True)):
            grads = [*weight_grads[rate_index::num_rates], *bias_grads[rate_index::num_rates]]
            optimiser.step(grads, rate_at(step, num_steps, peak, train))
        is_over = ends_epoch and on_epoch is not None and on_epoch(step + 1, weights, biases, losses)
        if (step + 1) % _STEPS_TOLD == 0 or step + 1 == num_steps or is_over:
            on_steps(step % _STEPS_TOLD + 1)
        if is_over:
            break
    return weights, biases, losses


def _softmax(logits: Float[Tensor, "*batch classes"]) -> Float[Tensor, "*batch classes"]:
    """Softmax over the last dimension, by columns: few classes make rows too short for vector instructions."""
    classes = logits.shape[-1]
    return logits.reshape(-1, classes).t().contiguous().softmax(dim=0).t().contiguous().view_as(logits)
