"""Many linear heads on the same frozen features, trained in one batched pass."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cytolora.config.run import TrainSpec
from cytolora.models.encoder_with_head import seeded_head
from cytolora.training.adamw import AdamW
from cytolora.training.loop import batches, rate_at


@torch.no_grad()
def fit_heads(
    features: Tensor,
    labels: Tensor,
    train: TrainSpec,
    *,
    num_classes: int,
    learning_rates: Sequence[float],
    seeds: Sequence[int],
    num_steps: int,
    starts: Sequence[tuple[Tensor, Tensor]] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Trains one head for every pair of seed and learning rate, each as it would be trained alone.

    The heads of one seed share draw, start and order of batches, so their images are gathered once a step. The gradient
    of cross-entropy is written out, softmax less truth: a step is a dozen operations, whatever the number of heads.

    Args:
        features: What each seed's draw sees, float32 [seeds, images, feature_dim].
        labels: Class indices, int64 [seeds, images].
        starts: Weight and bias that each seed's heads start from; drawn if None. The order of batches is the same.

    Returns:
        Weights [seeds, rates, classes, feature_dim], biases [seeds, rates, classes] and last losses [seeds, rates].
    """
    num_seeds, num_images, feature_dim = features.shape
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    drawn = [seeded_head(feature_dim, num_classes, generator) for generator in generators]
    device, num_rates = features.device, len(learning_rates)
    weights, biases = (
        torch.stack(part).to(device).unsqueeze(1).repeat_interleave(num_rates, dim=1)
        for part in zip(*(starts or drawn), strict=True)
    )
    optimisers = [
        AdamW([*weights[:, place], *biases[:, place]], betas=train.betas, weight_decay=train.weight_decay)
        for place in range(num_rates)
    ]
    table = features.reshape(-1, feature_dim)
    truth = F.one_hot(labels.reshape(-1), num_classes).to(features.dtype)
    offsets = torch.arange(num_seeds).unsqueeze(1) * num_images
    losses = torch.zeros(num_seeds, num_rates, device=device)
    orders = [batches(num_images, train.batch_size, num_steps, generator) for generator in generators]
    for step, indices in enumerate(zip(*orders, strict=True)):
        rows = (torch.stack(indices) + offsets).flatten().to(device)
        seen = table.index_select(0, rows).view(num_seeds, -1, feature_dim)
        right = truth.index_select(0, rows).view(num_seeds, -1, 1, num_classes)
        logits = torch.baddbmm(biases.flatten(1).unsqueeze(1), seen, weights.flatten(1, 2).transpose(1, 2))
        logits = logits.view(num_seeds, -1, num_rates, num_classes)
        if step == num_steps - 1:
            losses = -(logits.log_softmax(dim=-1) * right).sum(dim=-1).mean(dim=1)
        errors = _softmax(logits).sub_(right).div_(seen.shape[1])
        weight_grads = torch.bmm(errors.flatten(2).transpose(1, 2), seen).view(-1, num_classes, feature_dim).unbind()
        bias_grads = errors.sum(dim=1).view(-1, num_classes).unbind()
        for place, (optimiser, peak) in enumerate(zip(optimisers, learning_rates, strict=True)):
            grads = [*weight_grads[place::num_rates], *bias_grads[place::num_rates]]
            optimiser.step(grads, rate_at(step, num_steps, peak, train))
    return weights, biases, losses


def _softmax(logits: Tensor) -> Tensor:
    """Softmax over the last dimension, by columns: few classes make rows too short for vector instructions."""
    classes = logits.shape[-1]
    return logits.reshape(-1, classes).t().contiguous().softmax(dim=0).t().contiguous().view_as(logits)
