"""Many heads in one pass equal each head alone, with torch's own layers and optimiser."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytolora.config.run import Budget, TrainSpec
from cytolora.models.encoder_with_head import seeded_head
from cytolora.training import adamw
from cytolora.training.adamw import AdamW
from cytolora.training.heads.linear import fit_heads
from cytolora.training.loop import batches, rate_at
from cytolora.training.protocol import GRID_LINEAR

TRAIN = TrainSpec(budget=Budget(amount=20, unit="epochs"), warmup_steps=10)
RATES, SEEDS, NUM_STEPS = (1e-4, 1e-3, 1e-2), (1, 2), 60


def _alone(
    features: Tensor, labels: Tensor, rate: float, seed: int, train: TrainSpec = TRAIN, num_steps: int = NUM_STEPS
) -> nn.Linear:
    """The protocol written plainly: one nn.Linear, one AdamW, one batch after the other."""
    generator = torch.Generator().manual_seed(seed)
    num_classes = int(labels.max()) + 1
    head = nn.Linear(features.shape[1], num_classes)
    weight, bias = seeded_head(features.shape[1], num_classes, generator)
    head.load_state_dict({"weight": weight, "bias": bias})
    optimiser = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=train.weight_decay)
    for step, indices in enumerate(batches(len(labels), train.batch_size, num_steps, generator)):
        optimiser.param_groups[0]["lr"] = rate_at(step, num_steps, rate, train)
        optimiser.zero_grad()
        F.cross_entropy(head(features[indices]), labels[indices]).backward()
        optimiser.step()
    return head


@pytest.mark.parametrize("fault", ["gone", "other arguments", "other numbers"])
def test_a_torch_whose_private_adamw_is_another_falls_back_to_the_formula(fault: str, monkeypatch: pytest.MonkeyPatch):
    def other(tensors: list[torch.Tensor], *_: object, **options: object) -> None:
        if fault == "other arguments":
            raise RuntimeError("aten::_fused_adamw_() is missing value for argument 'foreach'")
        tensors[0].add_(1)

    private = SimpleNamespace() if fault == "gone" else SimpleNamespace(_fused_adamw_=other)
    adamw.has_fused.cache_clear()
    monkeypatch.setattr(adamw.torch, "ops", SimpleNamespace(aten=private))
    try:
        assert not adamw.has_fused()
    finally:
        monkeypatch.undo()
        adamw.has_fused.cache_clear()
    assert adamw.has_fused(), "this torch has it: or the test above would say nothing"


@pytest.mark.parametrize("fused", [True, False])
def test_adamw_without_a_graph_equals_torchs_own(fused: bool):
    generator = torch.Generator().manual_seed(0)
    ours = [torch.randn(3, 4, generator=generator), torch.randn(4, generator=generator)]
    theirs = [nn.Parameter(tensor.clone()) for tensor in ours]
    reference = torch.optim.AdamW(theirs, lr=1.0, betas=(0.8, 0.95), weight_decay=0.1)
    optimiser = AdamW(ours, betas=(0.8, 0.95), weight_decay=0.1, is_fused=fused)
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


def test_one_draw_for_all_seeds_gives_the_bits_of_the_same_draw_for_each():
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(1, 70, 24, generator=generator), torch.randint(0, 4, (1, 70), generator=generator)
    train = {"num_classes": 4, "learning_rates": RATES, "seeds": SEEDS, "num_steps": NUM_STEPS}
    shared = fit_heads(features, labels, TRAIN, **train)
    repeated = fit_heads(features.repeat(2, 1, 1), labels.repeat(2, 1), TRAIN, **train)
    assert all(torch.equal(one, other) for one, other in zip(shared, repeated, strict=True))
    assert not torch.equal(shared[0][0], shared[0][1]), "seeds still differ in start and order"


def test_a_soft_label_is_the_image_once_for_each_class_weighted_by_its_share():
    """All images in one batch: shares of a half are two images, and every other one is there twice too."""
    features, labels = torch.randn(20, 8, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 3
    train = replace(TRAIN, batch_size=40)
    other = torch.where(torch.arange(20) < 6, (labels + 1) % 3, labels)
    shares = (F.one_hot(labels, 3) + F.one_hot(other, 3)).float() / 2
    options = {"num_classes": 3, "learning_rates": [0.01, 0.1], "seeds": [1], "num_steps": 30}
    soft = fit_heads(features[None], shares[None], train, **options)
    twice = fit_heads(torch.cat([features, features])[None], torch.cat([labels, other])[None], train, **options)
    for one, expected in zip(soft, twice, strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-5)
    hard = fit_heads(features[None], F.one_hot(labels, 3).float()[None], train, **options)
    assert torch.equal(hard[0], fit_heads(features[None], labels[None], train, **options)[0])


def test_other_draws_than_one_or_one_a_seed_are_refused():
    with pytest.raises(ValueError, match="2 draws of training images for 3 seeds"):
        fit_heads(
            torch.randn(2, 8, 4),
            torch.zeros(2, 8, dtype=torch.int64),
            TRAIN,
            num_classes=2,
            learning_rates=[0.1],
            seeds=[1, 2, 3],
            num_steps=1,
        )


@pytest.mark.slow
@pytest.mark.parametrize("feature_dim", [512, 768])
def test_at_the_size_of_an_encoder_and_the_steps_of_the_grids_heads_trained_together_equal_heads_trained_alone(
    feature_dim: int,
):
    """7 classes of 16 images, 400 steps, all rates of the grids, with features off the origin and correlated.

    At 0.1 and 0.3 the images are fitted so far that gradients are noise of rounding, which AdamW scales up: heads agree
    on the training images there, not in the digits of their weights.
    """
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(112) % 7
    mixing = torch.randn(feature_dim, feature_dim, generator=generator) * torch.logspace(0, -1.5, feature_dim)
    drawn = torch.randn(7, feature_dim, generator=generator)[labels] / 2
    drawn = drawn + torch.randn(112, feature_dim, generator=generator)
    features = torch.randn(feature_dim, generator=generator) + drawn @ mixing / feature_dim**0.5
    train, rates = GRID_LINEAR.train, GRID_LINEAR.learning_rates
    num_steps = train.num_steps(num_train=112, shots=None)
    assert num_steps == 400
    weights, biases, losses = fit_heads(
        features.repeat(2, 1, 1),
        labels.repeat(2, 1),
        train,
        num_classes=7,
        learning_rates=rates,
        seeds=SEEDS,
        num_steps=num_steps,
    )
    assert (losses.diff(dim=1) < 0).all(), "a higher rate fits the training images further"
    for s, seed in enumerate(SEEDS):
        for r, rate in enumerate(rates):
            head = _alone(features, labels, rate, seed, train, num_steps)
            together = features @ weights[s, r].T + biases[s, r]
            if rate <= 0.03:
                torch.testing.assert_close(weights[s, r], head.weight.detach(), atol=1e-5, rtol=0)
                torch.testing.assert_close(together, head(features).detach(), atol=1e-4, rtol=0)
            assert torch.equal(together.argmax(dim=1), head(features).argmax(dim=1))
