"""Heads that read text follow their papers' equations, start from zero-shot, and choose on validation images alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cytolora.config.run import TEXT_HEADS, HeadSpec
from cytolora.errors import ConfigError
from cytolora.models.adapters.head_methods import FITTED
from cytolora.models.text.embeddings import ClassText, zero_shot_logits
from cytolora.training.heads.affine import AffineHead
from cytolora.training.heads.fitted import HEADS
from cytolora.training.heads.labelled import Labelled
from cytolora.training.heads.text_affine import lp_plus_plus, ss_text
from cytolora.training.heads.text_kernels import MAX_SOLVED, proker_solve, tip_logits, tip_search

DIM = 24


def drawn(sizes: list[int], *, seed: int = 0, scale: float = 40.0) -> tuple[Labelled, Labelled, Tensor]:
    """Training and validation images around the texts of their classes, as a pair of encoders has them, and queries."""
    generator = torch.Generator().manual_seed(seed)
    text = F.normalize(torch.randn(len(sizes), DIM, generator=generator), dim=1)
    labels = torch.cat([torch.full((size,), index) for index, size in enumerate(sizes)])

    def features(of: Tensor) -> Tensor:
        return 5 * (text[of] + 0.4 * torch.randn(len(of), DIM, generator=generator))

    words = ClassText(embeddings=text, logit_scale=scale)
    known = Labelled(features=features(labels), labels=labels, num_classes=len(sizes), text=words)
    val_labels = torch.arange(len(sizes)).repeat(3)
    val = Labelled(features=features(val_labels), labels=val_labels, num_classes=len(sizes), text=words)
    return known, val, features(torch.randint(len(sizes), (50,), generator=generator))


def unit(features: Tensor) -> np.ndarray:
    rows = features.double().numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_names_of_the_config_are_those_of_the_registry():
    assert {name for name, facts in FITTED.items() if facts.needs_text} == set(TEXT_HEADS)


@pytest.mark.parametrize("sizes", [[1, 1, 1], [4] * 5, [3, 9, 1]])
def test_ss_text_is_the_papers_closed_form(sizes: list[int]):
    known, _, queries = drawn(sizes)
    z, t, s = unit(known.features), known.class_text.embeddings.double().numpy(), known.class_text.logit_scale
    labels = known.labels.numpy()
    rows = []
    for c, n_c in enumerate(sizes):
        lam, tau = 1 / n_c, 1 / s
        rows.append(t[c] + z[labels == c].sum(axis=0) / (len(z) * lam * tau))
    mean = np.mean(rows, axis=0)
    rows = [row - (2 * row - mean) / np.linalg.norm(2 * row - mean) for row in rows]
    expected = np.stack([s * unit(queries) @ row / np.linalg.norm(row) for row in rows], axis=1)
    np.testing.assert_allclose(ss_text(known).logits(queries).numpy(), expected, rtol=1e-5, atol=1e-4)


def test_ss_text_minimises_the_papers_objective_before_its_repulsion():
    """-(1 / (N tau)) sum z w_y + sum lam_c / 2 |w_c - t_c|^2, by its gradient at the solution."""
    known, _, _ = drawn([4, 2, 6])
    z, t, s = torch.from_numpy(unit(known.features)), known.class_text.embeddings.double(), 40.0
    counts = torch.tensor([4.0, 2.0, 6.0]).double()
    one_hot = F.one_hot(known.labels, 3).double()
    weight = (t + s * (counts / 12).unsqueeze(1) * (one_hot.T @ z)).requires_grad_()
    loss = -(s / 12) * (z * weight[known.labels]).sum() + ((1 / counts / 2) * ((weight - t) ** 2).sum(dim=1)).sum()
    (grad,) = torch.autograd.grad(loss, weight)
    assert grad.abs().max() < 1e-9
    moved = weight.detach() - F.normalize(2 * weight.detach() - weight.detach().mean(dim=0), dim=1)
    np.testing.assert_allclose(ss_text(known).weight, (s * F.normalize(moved, dim=1)).float(), atol=1e-4)


def test_ss_text_without_an_image_is_its_texts_pushed_apart():
    known, _, queries = drawn([2, 2, 2])
    none = replace(known, features=known.features[:0], labels=known.labels[:0])
    t = known.class_text.embeddings.double()
    rows = F.normalize(t - F.normalize(2 * t - t.mean(dim=0), dim=1), dim=1)
    expected = 40.0 * torch.from_numpy(unit(queries)) @ rows.T
    np.testing.assert_allclose(ss_text(none).logits(queries), expected.float(), rtol=1e-5, atol=1e-4)


def test_lp_plus_plus_is_its_gradient_descent_by_torchs_own_gradients_and_optimiser():
    known, val, queries = drawn([3, 5, 2, 4])
    z, t = torch.from_numpy(unit(known.features)), known.class_text.embeddings.double()
    other_known, other_val = (replace(one, text=known.text) for one in drawn([3, 5, 2, 4], seed=5)[:2])
    beside, trained = lp_plus_plus([other_known, known], [other_val, val], [4, 7])
    ours = AffineHead.of(trained.state)
    assert trained.num_trainable == 4 * DIM + 4 + 4, "weights, biases and factors"
    assert trained.num_steps == 300
    alone = lp_plus_plus([other_known], [other_val], [4])[0]
    assert all(torch.equal(beside.state[name], tensor) for name, tensor in alone.state.items())
    weight = torch.stack([z[known.labels == c].sum(dim=0) for c in range(4)]).requires_grad_()
    means = torch.stack([z[known.labels == c].mean(dim=0) for c in range(4)])
    factor = (250 * (means @ t.T).mean()).repeat(4).requires_grad_()
    generator = torch.Generator().manual_seed(7)
    torch.empty(4, DIM).uniform_(generator=generator)
    bias = torch.empty(4).uniform_(-(DIM**-0.5), DIM**-0.5, generator=generator).double().requires_grad_()
    largest = np.linalg.eigvalsh((z.T @ z).numpy())[-1]
    optimiser = torch.optim.SGD([weight, bias], lr=4 * len(z) / largest, momentum=0.9)
    factor_step = len(z) / (4 * ((z @ t.T) ** 2).sum(dim=0).max())
    z_val, best = torch.from_numpy(unit(val.features)), (-1.0, torch.empty(0), torch.empty(0))
    for epoch in range(1, 301):
        optimiser.zero_grad()
        logits = z @ weight.T + bias + factor * (z @ t.T)
        loss = F.cross_entropy(logits, known.labels)
        (slope,) = torch.autograd.grad(loss, factor, retain_graph=True)
        loss.backward(inputs=[weight, bias])
        optimiser.step()
        if epoch % 10 == 0:
            factor = (factor - factor_step * slope).detach().requires_grad_()
        whole = (weight + factor.unsqueeze(1) * t).detach()
        accuracy = float(((z_val @ whole.T + bias).argmax(dim=1) == val.labels).double().mean())
        if accuracy >= best[0]:
            best = (accuracy, whole.clone(), bias.detach().clone())
    expected = torch.from_numpy(unit(queries)) @ best[1].T + best[2]
    np.testing.assert_allclose(ours.logits(queries), expected.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sizes", [[2, 2, 2], [5, 1, 3]])
def test_tip_adapters_logits_are_the_papers_with_the_classes_weighed_alike(sizes: list[int]):
    known, _, queries = drawn(sizes)
    ours = tip_logits(known, queries, alpha=1.7, beta=2.3)
    z, keys, t = unit(queries), unit(known.features), known.class_text.embeddings.double().numpy()
    expected = 40.0 * z @ t.T
    mean_size = sum(sizes) / len(sizes)
    for i, label in enumerate(known.labels.tolist()):
        expected[:, label] += 1.7 * np.exp(-2.3 * (1 - z @ keys[i])) * mean_size / sizes[label]
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-4)


def test_tip_adapter_chooses_by_validation_accuracy_and_keeps_its_start_where_nothing_is_better():
    known, val, _ = drawn([4, 4, 4])
    alpha, beta, num_right = tip_search(known, val, HeadSpec())
    hits = [
        int((tip_logits(known, val.features, alpha=a, beta=b).argmax(dim=1) == val.labels).sum())
        for a, b in [(alpha, beta), (2.0, 1.0), (0.1, 0.1), (9.0, 11.0)]
    ]
    assert hits[0] == max(hits) == num_right
    easy = replace(val, features=val.class_text.embeddings[val.labels])
    assert tip_search(known, easy, HeadSpec()) == (2.0, 1.0, len(easy.labels))
    assert tip_search(known, val, HeadSpec(alpha=3.0, beta=0.5))[:2] == (3.0, 0.5)
    assert tip_search(known, val, HeadSpec(alpha=3.0))[0] == 3.0


@pytest.mark.parametrize("shots", [1, 4])
def test_proker_solves_its_equations_and_changes_zero_shot_by_them(shots: int):
    known, val, queries = drawn([shots] * 4)
    beta, lam = {1: (3.0, 0.05), 4: (1.5, 0.05)}[shots]
    state = HEADS.get("proker").fit(known, val, HeadSpec(), 0)
    z, keys, t = unit(queries), unit(known.features), known.class_text.embeddings.double().numpy()
    kernel = np.exp(-beta * (1 - keys @ keys.T))
    residual = np.eye(4)[known.labels.numpy()] - keys @ t.T
    coefficients = np.linalg.inv(kernel / lam + np.eye(len(keys))) @ residual
    expected = torch.from_numpy(40 * (z @ t.T + np.exp(-beta * (1 - z @ keys.T)) @ coefficients)).softmax(dim=1)
    np.testing.assert_allclose(HEADS.get("proker").probabilities(state, known, queries), expected.float(), atol=1e-5)


def test_proker_with_a_tiny_lambda_is_zero_shot_and_with_a_small_one_learns_its_images():
    known, val, queries = drawn([3] * 4)
    zero = zero_shot_logits(queries, known.class_text).softmax(dim=1)
    state = HEADS.get("proker").fit(known, val, HeadSpec(lam=1e-12), 0)
    np.testing.assert_allclose(HEADS.get("proker").probabilities(state, known, queries), zero, atol=1e-5)
    strange = replace(known, labels=known.labels.roll(3))  # every image is labelled against its text
    state = HEADS.get("proker").fit(strange, val, HeadSpec(beta=50.0, lam=10.0), 0)
    found = HEADS.get("proker").probabilities(state, strange, known.features).argmax(dim=1)
    assert bool((found == strange.labels).all())


def test_proker_refuses_more_images_than_it_can_solve_for_in_one_line():
    known, _, _ = drawn([2, 2])
    many = replace(
        known, features=torch.ones(MAX_SOLVED + 1, DIM), labels=torch.zeros(MAX_SOLVED + 1, dtype=torch.long)
    )
    with pytest.raises(ConfigError, match=r"takes at most 10,000. Train on fewer, or choose another head"):
        proker_solve(many, beta=1.0, lam=0.1)


@pytest.mark.parametrize("method", TEXT_HEADS)
def test_a_class_without_a_training_image_leans_on_its_text_and_nothing_is_infinite(method: str):
    known, val, _ = drawn([4, 4, 4])
    kept = known.labels != 1
    gap = replace(known, features=known.features[kept], labels=known.labels[kept])
    shares = HEADS.get(method).probabilities(
        HEADS.get(method).fit(gap, val, HeadSpec(), 0), gap, gap.class_text.embeddings
    )
    assert bool(torch.isfinite(shares).all())
    np.testing.assert_allclose(shares.sum(dim=1), 1, atol=1e-5)
    if method != "lp++":  # whose images count from the start
        assert shares[1].argmax() == 1


@pytest.mark.parametrize("method", [name for name in TEXT_HEADS if name != "clip-adapter"])
def test_the_length_of_features_changes_nothing(method: str):
    known, val, queries = drawn([3, 3, 3])
    longer = replace(known, features=7 * known.features), replace(val, features=0.1 * val.features)
    one, other = (
        HEADS.get(method).probabilities(HEADS.get(method).fit(a, b, HeadSpec(), 0), a, queries)
        for a, b in ((known, val), longer)
    )
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_lp_plus_plus_has_a_finite_loss_where_a_share_rounds_to_nothing():
    known, val, _ = drawn([4000, 30])
    (head,) = lp_plus_plus([known], [val], [0])
    assert head.final_loss is not None
    assert np.isfinite(head.final_loss)


def test_lp_plus_plus_of_features_without_length_stays_finite():
    known, val, _ = drawn([5, 5])
    known = replace(known, features=torch.zeros_like(known.features))
    (head,) = lp_plus_plus([known], [val], [0])
    assert head.final_loss is not None
    assert np.isfinite(head.final_loss)
    assert all(torch.isfinite(part).all() for part in head.state.values())
