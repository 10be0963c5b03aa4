"""Many heads in one pass equal each head alone, with torch's own layers and optimiser."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytolora.config.run import Budget, TrainSpec
from cytolora.models.encoder_with_head import seeded_head
from cytolora.training.adamw import AdamW
from cytolora.training.heads.linear import fit_heads
from cytolora.training.loop import batches, rate_at

TRAIN = TrainSpec(budget=Budget(amount=20, unit="epochs"), warmup_steps=10)
RATES, SEEDS, NUM_STEPS = (1e-4, 1e-3, 1e-2), (1, 2), 60


def _alone(features: Tensor, labels: Tensor, rate: float, seed: int) -> nn.Linear:
    """The protocol written plainly: one nn.Linear, one AdamW, one batch after the other."""
    generator = torch.Generator().manual_seed(seed)
    head = nn.Linear(features.shape[1], 4)
    weight, bias = seeded_head(features.shape[1], 4, generator)
    head.load_state_dict({"weight": weight, "bias": bias})
    optimiser = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=TRAIN.weight_decay)
    for step, indices in enumerate(batches(len(labels), TRAIN.batch_size, NUM_STEPS, generator)):
        optimiser.param_groups[0]["lr"] = rate_at(step, NUM_STEPS, rate, TRAIN)
        optimiser.zero_grad()
        F.cross_entropy(head(features[indices]), labels[indices]).backward()
        optimiser.step()
    return head


@pytest.mark.parametrize("fused", [True, False])
def test_adamw_without_a_graph_equals_torchs_own(fused: bool, monkeypatch: pytest.MonkeyPatch):
    if not fused:
        monkeypatch.setattr("cytolora.training.adamw.has_fused", lambda: False)
    generator = torch.Generator().manual_seed(0)
    ours = [torch.randn(3, 4, generator=generator), torch.randn(4, generator=generator)]
    theirs = [nn.Parameter(tensor.clone()) for tensor in ours]
    reference = torch.optim.AdamW(theirs, lr=1.0, betas=(0.8, 0.95), weight_decay=0.1)
    optimiser = AdamW(ours, betas=(0.8, 0.95), weight_decay=0.1)
    for rate in (0.1, 0.01, 0.05, 0.3):
        grads = [torch.randn(tensor.shape, generator=generator) for tensor in ours]
        reference.param_groups[0]["lr"] = rate
        for parameter, grad in zip(theirs, grads, strict=True):
            parameter.grad = grad.clone()
        reference.step()
        optimiser.step(grads, rate)
    for left, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(left, right.detach(), atol=1e-6, rtol=1e-5)


def test_heads_trained_together_equal_heads_trained_alone():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(len(SEEDS), 70, 24, generator=generator)
    labels = torch.randint(0, 4, (len(SEEDS), 70), generator=generator)
    weights, biases, losses = fit_heads(
        features, labels, TRAIN, num_classes=4, learning_rates=RATES, seeds=SEEDS, num_steps=NUM_STEPS
    )
    assert losses.shape == (len(SEEDS), len(RATES))
    for s, seed in enumerate(SEEDS):
        for r, rate in enumerate(RATES):
            head = _alone(features[s], labels[s], rate, seed)
            torch.testing.assert_close(weights[s, r], head.weight.detach(), atol=1e-5, rtol=0)
            torch.testing.assert_close(biases[s, r], head.bias.detach(), atol=1e-5, rtol=0)
    alone = F.cross_entropy(_alone(features[0], labels[0], 1e-3, 1)(features[0]), labels[0])
    assert losses[0, 1] == pytest.approx(alone.item(), abs=0.5), "of the last batch: near the loss of all images"
