"""Many linear heads on the same frozen features, trained in one batched pass."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cytolora.models.classifier import seeded_head
from cytolora.specs import TrainSpec
from cytolora.training.loop import batches, rate_at


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

    The heads of one seed share draw, start and order of batches, so their images are gathered once a step.

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
    starts = drawn if starts is None else starts
    device = features.device
    weights = [torch.stack([weight for weight, _ in starts]).to(device).requires_grad_() for _ in learning_rates]
    biases = [torch.stack([bias for _, bias in starts]).to(device).requires_grad_() for _ in learning_rates]
    groups = [{"params": [weight, bias]} for weight, bias in zip(weights, biases, strict=True)]
    optimiser = torch.optim.AdamW(groups, lr=1.0, betas=train.betas, weight_decay=train.weight_decay, foreach=True)
    orders = [batches(num_images, train.batch_size, num_steps, generator) for generator in generators]
    losses = torch.zeros(num_seeds, len(learning_rates), device=device)
    for step, indices in enumerate(zip(*orders, strict=True)):
        for group, peak in zip(optimiser.param_groups, learning_rates, strict=True):
            group["lr"] = rate_at(step, num_steps, peak, train)
        rows = torch.stack(indices).to(device)
        seen = features.gather(1, rows.unsqueeze(-1).expand(-1, -1, feature_dim))
        losses = _losses(seen, labels.gather(1, rows), weights, biases)
        optimiser.zero_grad()
        losses.sum().backward()  # heads share no weights: the sum's gradient is each head's own
        optimiser.step()
    return torch.stack(weights, dim=1).detach(), torch.stack(biases, dim=1).detach(), losses.detach()


def _losses(seen: Tensor, labels: Tensor, weights: list[Tensor], biases: list[Tensor]) -> Tensor:
    """Returns each head's mean cross-entropy over the batch, [seeds, rates]; one product serves all rates of a seed."""
    num_seeds, batch_size, _ = seen.shape
    logits = torch.baddbmm(torch.cat(biases, dim=1).unsqueeze(1), seen, torch.cat(weights, dim=1).transpose(1, 2))
    logits = logits.view(num_seeds, batch_size, len(weights), -1).permute(0, 2, 3, 1)
    targets = labels.unsqueeze(1).expand(-1, len(weights), -1)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(0, 1), reduction="none").mean(1).view(num_seeds, -1)
