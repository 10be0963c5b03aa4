"""Heads trained by steps follow their papers' losses by torch's modules, start where they say, and train together."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytolora.config.run import HeadSpec
from cytolora.models.encoder_with_head import seeded_head
from cytolora.models.text.embeddings import ClassText, zero_shot_logits
from cytolora.training.heads.fitted import HEADS
from cytolora.training.heads.labelled import Labelled
from cytolora.training.heads.steps import Recipe
from cytolora.training.heads.text_kernels import tip_logits
from cytolora.training.loop import batches

DIM, CLASSES = 24, 4
TRAINED = [head.name for head in HEADS if head.train is not None and head.name != "lp++"]
"""lp++ takes steps of a size that it computes."""
SEEDS = (3, 8)
TREE = (("a", "c"), ("a", "d"), ("b", "e"), ("b",))


def images(number: int, *, seed: int, noise: float = 0.5) -> Labelled:
    """Images around the texts of their classes, whose embeddings are not of length 1."""
    generator = torch.Generator().manual_seed(99)
    text = F.normalize(torch.randn(CLASSES, DIM, generator=generator), dim=1)
    words = ClassText(embeddings=text, logit_scale=30.0, lengths=torch.tensor([2.0, 3.0, 1.5, 2.5]))
    generator.manual_seed(seed)
    labels = torch.arange(number) % CLASSES
    features = 5 * (text[labels] + noise * torch.randn(number, DIM, generator=generator))
    return Labelled(features=features, labels=labels, num_classes=CLASSES, text=words, tree=TREE)


KNOWN, VAL, QUERIES = images(20, seed=1), images(12, seed=2), images(40, seed=5).features
Z, T, U = F.normalize(KNOWN.features, dim=1), KNOWN.class_text.embeddings, KNOWN.class_text.unscaled
SCALE = 30.0


def reference(
    parameters: list[nn.Parameter],
    loss: Callable[[Tensor], Tensor],
    optimiser: torch.optim.Optimizer,
    rate_of: Callable[[int, int], float],
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    after_epoch: Callable[[], None] = lambda: None,
) -> None:
    """A loop as the authors write it; ``rate_of`` takes the step and the number of steps an epoch."""
    each = math.ceil(len(Z) / batch_size)
    order = batches(len(Z), batch_size, epochs * each, torch.Generator().manual_seed(seed))
    for step, rows in enumerate(order):
        optimiser.param_groups[0]["lr"] = rate_of(step, each)
        optimiser.zero_grad()
        loss(rows).backward()
        optimiser.step()
        if (step + 1) % each == 0:
            after_epoch()


def cosine(position: float, epochs: int, peak: float) -> float:
    return peak * (1 + math.cos(math.pi * position / epochs)) / 2


def dassl(epochs: int, peak: float, warmup: int, linear: bool = False) -> Callable[[int, int], float]:
    def rate(step: int, each: int) -> float:
        epoch = step // each
        if epoch < warmup:
            return max(1e-5, peak * epoch / warmup) if linear else 1e-5
        return cosine(epoch - warmup, epochs, peak)

    return rate


def shares(method: str, spec: HeadSpec, seed: int = 3) -> Tensor:
    return HEADS.get(method).probabilities(HEADS.get(method).fit(KNOWN, VAL, spec, seed), KNOWN, QUERIES)


def by_rows(rows: Tensor, features: Tensor) -> Tensor:
    return SCALE * F.normalize(features, dim=1) @ F.normalize(rows, dim=1).T


def test_task_residual_is_its_papers_loss_by_torchs_adam():
    residual = nn.Parameter(torch.zeros_like(U))
    optimiser = torch.optim.Adam([residual], lr=1.0, weight_decay=5e-4)

    def loss(rows: Tensor) -> Tensor:
        return F.cross_entropy(by_rows(U + 0.3 * residual, Z[rows]), KNOWN.labels[rows])

    reference([residual], loss, optimiser, dassl(30, 2e-3, 1), batch_size=256, epochs=30, seed=3)
    expected = by_rows(U + 0.3 * residual.detach(), QUERIES).softmax(dim=1)
    found = shares("task-residual", HeadSpec(scale=0.3, epochs=30))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (found - shares("task-residual", HeadSpec(scale=0.3, epochs=0))).abs().max() > 0.01, "it moved"


def test_clap_is_its_papers_penalised_loss_by_torchs_sgd():
    rows_ = nn.Parameter(U.clone())
    zero = (SCALE * Z @ T.T).softmax(dim=1)
    multipliers = torch.stack([zero[KNOWN.labels == c, c].mean() for c in range(CLASSES)])
    optimiser = torch.optim.SGD([rows_], lr=1.0, momentum=0.9)

    def loss(rows: Tensor) -> Tensor:
        plain = F.cross_entropy(by_rows(rows_, Z[rows]), KNOWN.labels[rows])
        return plain + (multipliers * (rows_ - U).square().sum(dim=1)).mean()

    reference([rows_], loss, optimiser, dassl(40, 0.1, 1), batch_size=256, epochs=40, seed=3)
    expected = by_rows(rows_.detach(), QUERIES).softmax(dim=1)
    found = shares("clap", HeadSpec(epochs=40))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (found - shares("clap", HeadSpec(epochs=0))).abs().max() > 0.01, "it moved"


def test_clip_adapter_is_two_linear_layers_without_bias_beside_the_feature():
    down, up = nn.Linear(DIM, DIM // 4, bias=False), nn.Linear(DIM // 4, DIM, bias=False)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for layer in (down, up):
            bound = layer.in_features**-0.5
            layer.weight.copy_(torch.empty(layer.weight.T.shape).uniform_(-bound, bound, generator=generator).T)
    parameters = [*down.parameters(), *up.parameters()]
    optimiser = torch.optim.SGD(parameters, lr=1.0, momentum=0.9, weight_decay=5e-4)

    def logits(features: Tensor) -> Tensor:
        return SCALE * F.normalize(0.4 * up(down(features).relu()).relu() + 0.6 * features, dim=1) @ T.T

    def loss(rows: Tensor) -> Tensor:
        return F.cross_entropy(logits(KNOWN.features[rows]), KNOWN.labels[rows])

    reference(parameters, loss, optimiser, dassl(15, 1e-3, 10, linear=True), batch_size=8, epochs=15, seed=3)
    found = shares("clip-adapter", HeadSpec(ratio=0.4, epochs=15))
    np.testing.assert_allclose(found, logits(QUERIES).softmax(dim=1).detach(), atol=1e-5)
    assert (found - shares("clip-adapter", HeadSpec(ratio=0.4, epochs=0))).abs().max() > 0.01, "it moved"


def test_tip_adapter_f_trains_keys_by_torchs_adamw_and_takes_the_best_epoch_on_validation_images_alone():
    keys, best = nn.Parameter(Z.clone()), (0.0, Z)
    hard = images(60, seed=7, noise=1.0)
    one_hot, z_val = F.one_hot(KNOWN.labels).float(), F.normalize(hard.features, dim=1)
    optimiser = torch.optim.AdamW([keys], lr=1.0, eps=1e-4, weight_decay=0.01)

    def logits(features: Tensor) -> Tensor:
        likeness = torch.exp(-2.5 * (1 - features @ F.normalize(keys, dim=1).T))
        return SCALE * features @ T.T + 4.0 * likeness @ one_hot

    def right() -> float:
        return float((logits(z_val).argmax(dim=1) == hard.labels).sum())

    def look() -> None:
        nonlocal best
        if right() > best[0]:
            best = (right(), keys.detach().clone())

    def rate(step: int, each: int) -> float:
        return cosine(step / each, 25, 0.02)

    def loss(rows: Tensor) -> Tensor:
        return F.cross_entropy(logits(Z[rows]), KNOWN.labels[rows])

    look()
    at_start = best[0]
    reference([keys], loss, optimiser, rate, batch_size=256, epochs=25, seed=3, after_epoch=look)
    spec = HeadSpec(alpha=4.0, beta=2.5, epochs=25, rates=(0.02,))
    state = HEADS.get("tip-adapter-f").fit(KNOWN, hard, spec, 3)
    torch.testing.assert_close(state["keys"], best[1], atol=1e-5, rtol=0)
    assert at_start < best[0], "training helped"
    assert not torch.equal(state["keys"], Z)
    none = replace(hard, features=hard.features[:0], labels=hard.labels[:0])
    last = HEADS.get("tip-adapter-f").fit(KNOWN, none, spec, 3)
    torch.testing.assert_close(last["keys"], keys.detach(), atol=1e-5, rtol=0)
    with torch.no_grad():
        keys.copy_(best[1])
        expected = logits(F.normalize(QUERIES, dim=1)).softmax(dim=1)
    np.testing.assert_allclose(HEADS.get("tip-adapter-f").probabilities(state, KNOWN, QUERIES), expected, atol=1e-5)


def test_mlp_is_torchs_with_the_same_start_and_batches():
    layers = nn.Linear(DIM, 16), nn.Linear(16, CLASSES)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for layer in layers:
            for own, drawn in zip(
                (layer.weight, layer.bias), seeded_head(layer.in_features, layer.out_features, generator), strict=True
            ):
                own.copy_(drawn)
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1])
    optimiser = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.01)

    def loss(rows: Tensor) -> Tensor:
        return F.cross_entropy(model(Z[rows]), KNOWN.labels[rows])

    reference([], loss, optimiser, lambda step, each: cosine(step / each, 20, 0.01), batch_size=32, epochs=20, seed=3)
    expected = model(F.normalize(QUERIES, dim=1)).softmax(dim=1).detach()
    np.testing.assert_allclose(shares("mlp", HeadSpec(rates=(0.01,), epochs=20, hidden=16)), expected, atol=1e-5)


@pytest.mark.parametrize("method", ["task-residual", "clap"])
def test_without_a_step_a_head_from_text_is_zero_shot(method: str):
    zero = zero_shot_logits(QUERIES, KNOWN.class_text).softmax(dim=1)
    np.testing.assert_allclose(shares(method, HeadSpec(epochs=0)), zero, atol=1e-5)


def test_without_a_step_clip_adapter_is_zero_shot_as_its_share_falls_to_0():
    zero = zero_shot_logits(QUERIES, KNOWN.class_text).softmax(dim=1)
    np.testing.assert_allclose(shares("clip-adapter", HeadSpec(epochs=0, ratio=1e-7)), zero, atol=1e-5)


def test_without_a_step_tip_adapter_f_is_tip_adapter_and_zero_shot_as_alpha_falls_to_0():
    tip = tip_logits(KNOWN, QUERIES, alpha=3.0, beta=2.0).softmax(dim=1)
    np.testing.assert_allclose(shares("tip-adapter-f", HeadSpec(epochs=0, alpha=3.0, beta=2.0)), tip, atol=1e-5)
    np.testing.assert_allclose(
        shares("tip-adapter-f", HeadSpec(epochs=0)), shares("tip-adapter", HeadSpec()), atol=1e-5
    )
    zero = zero_shot_logits(QUERIES, KNOWN.class_text).softmax(dim=1)
    none = shares("tip-adapter-f", HeadSpec(epochs=0, alpha=1e-9, beta=1.0))
    np.testing.assert_allclose(none, zero, atol=1e-5)


@pytest.mark.parametrize("method", TRAINED)
def test_all_seeds_and_rates_trained_together_are_each_as_it_is_alone(method: str):
    draws, val = [images(20, seed=seed) for seed in SEEDS], [images(12, seed=seed + 50) for seed in SEEDS]
    spec = HeadSpec(epochs=6, rates=(1e-3, 1e-2))
    train = HEADS.get(method).train
    assert train is not None
    together = train(draws, val, spec, SEEDS)
    for known, chosen_on, seed, head in zip(draws, val, SEEDS, together, strict=True):
        by_rate = [
            train([known], [chosen_on], HeadSpec(epochs=6, rates=(rate,)), [seed])[0] for rate in spec.rates or ()
        ]
        right = [
            int(
                (
                    HEADS.get(method).probabilities(one.state, known, chosen_on.features).argmax(1) == chosen_on.labels
                ).sum()
            )
            for one in by_rate
        ]
        alone = by_rate[right.index(max(right))]
        for name, tensor in alone.state.items():
            torch.testing.assert_close(head.state[name], tensor, atol=1e-5, rtol=1e-4)
        assert head.num_trainable == alone.num_trainable
        assert head.num_steps == alone.num_steps == 6 * math.ceil(20 / {"clip-adapter": 8, "mlp": 32}.get(method, 256))
        assert head.final_loss == pytest.approx(alone.final_loss, abs=1e-5)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("tip-adapter-f", 20 * DIM),
        ("clip-adapter", 2 * DIM * (DIM // 4)),
        ("task-residual", CLASSES * DIM),
        ("clap", CLASSES * DIM),
        ("mlp", DIM * 10 + 10 + 10 * CLASSES + CLASSES),
    ],
)
def test_trainable_parameters_are_those_that_steps_move(method: str, expected: int):
    train = HEADS.get(method).train
    assert train is not None
    assert train([KNOWN], [VAL], HeadSpec(epochs=1, hidden=10), [0])[0].num_trainable == expected


@pytest.mark.parametrize("method", ["task-residual", "clap", "clip-adapter"])
def test_with_one_rate_validation_images_change_nothing(method: str):
    other = replace(VAL, labels=VAL.labels.roll(1))
    one, two = (HEADS.get(method).fit(KNOWN, val, HeadSpec(epochs=3), 0) for val in (VAL, other))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("method", TRAINED)
def test_a_rate_at_which_training_diverges_is_not_chosen(method: str):
    spec = HeadSpec(epochs=4, rates=(1e-3, 1e30))
    state = HEADS.get(method).fit(KNOWN, VAL, spec, 0)
    assert bool(torch.isfinite(HEADS.get(method).probabilities(state, KNOWN, QUERIES)).all())


@pytest.mark.parametrize("method", [*TRAINED, "lp++"])
def test_a_step_limit_ends_training_and_one_beyond_its_end_changes_nothing(method: str):
    train = HEADS.get(method).train
    assert train is not None
    spec = HeadSpec(epochs=None if method == "lp++" else 3)
    (whole,), (cut,), (same,) = (
        train([KNOWN], [VAL], replace(spec, step_limit=limit), [0]) for limit in (None, 2, 10_000)
    )
    assert cut.num_steps == 2 < whole.num_steps
    assert same.num_steps == whole.num_steps
    assert all(torch.equal(whole.state[name], same.state[name]) for name in whole.state)
    assert whole.final_loss != cut.final_loss


def test_task_residual_trains_twice_as_long_from_8_images_of_each_class_on():
    train = HEADS.get("task-residual").train
    assert train is not None
    steps = [train([images(CLASSES * n, seed=0)], [VAL], HeadSpec(), [0])[0].num_steps for n in (7, 8)]
    assert steps == [100, 200]


def test_the_cosine_falls_by_epoch_after_a_warm_up_or_by_step():
    by_epoch = Recipe(optimiser="sgd", rates=(0.1,), epochs=4, batch_size=8, warmup_epochs=2, warmup="linear")
    found = [by_epoch.rate_at(step, steps_per_epoch=2, epochs=4, peak=0.1) for step in range(8)]
    third = 0.1 * (1 + math.cos(math.pi / 4)) / 2
    np.testing.assert_allclose(found, [1e-5, 1e-5, 0.05, 0.05, 0.1, 0.1, third, third])
    by_step = replace(by_epoch, by_epoch=False, warmup_epochs=0)
    found = [by_step.rate_at(step, steps_per_epoch=2, epochs=4, peak=0.1) for step in range(8)]
    np.testing.assert_allclose(found, [0.1 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)])
