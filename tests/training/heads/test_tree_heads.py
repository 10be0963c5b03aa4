"""Heads of classes in a tree: probabilities that sum to one at every level, and the losses of their papers by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolora.config.run import HeadSpec
from cytolora.data.readers.hicervix import LABEL_SETS, tree
from cytolora.training.heads.fitted import HEADS
from cytolora.training.heads.labelled import Labelled
from cytolora.training.heads.steps import unit
from cytolora.training.heads.tree import ClassTree, hierarchical_loss, hxe, tree_softmax

SMALL = (("a", "x"), ("a", "y"), ("b", "z", "u"), ("b", "z", "v"), ("b",))
"""Two branches, of which b is a class itself and reaches three levels down."""


def drawn(paths, *, per_class: int = 6, dim: int = 12, seed: int = 0) -> tuple[Labelled, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(len(paths), dim, generator=generator)
    labels = torch.arange(len(paths)).repeat_interleave(per_class)
    features = centres[labels] + 0.5 * torch.randn(len(labels), dim, generator=generator)
    known = Labelled(features=features, labels=labels, num_classes=len(paths), tree=tuple(paths))
    return known, torch.randn(20, dim, generator=generator)


@st.composite
def trees(draw) -> tuple[tuple[str, ...], ...]:
    """Classes by their paths: leaves at any level, and some inner nodes that are classes too."""
    nodes: list[tuple[str, ...]] = [()]
    for _ in range(draw(st.integers(2, 12))):
        parent = draw(st.sampled_from([node for node in nodes if len(node) < 4]))
        nodes.append((*parent, f"n{len(nodes)}"))
    inner = {node[:-1] for node in nodes[1:]}
    chosen = [node for node in nodes[1:] if node not in inner or draw(st.booleans())]
    return tuple(draw(st.permutations(chosen)))


@settings(max_examples=60)
@given(paths=trees(), seed=st.integers(0, 99))
def test_probabilities_sum_to_one_at_every_level_and_children_to_their_parent(paths, seed):
    one = ClassTree.of(paths)
    logits = 5 * torch.randn(4, one.num_nodes, generator=torch.Generator().manual_seed(seed)).double()
    by_class = one.of_classes(logits).exp()
    torch.testing.assert_close(by_class.sum(dim=1), torch.ones(4).double())
    for level in range(1, max(map(len, paths)) + 1):
        at_level: dict[tuple[str, ...], torch.Tensor] = {}
        for index, path in enumerate(paths):
            at_level[path[:level]] = at_level.get(path[:level], torch.zeros(4).double()) + by_class[:, index]
        total = sum(at_level.values())
        torch.testing.assert_close(total, torch.ones(4).double())
    nodes = one.of_nodes(one.of_classes(logits)).exp()
    for parent in range(-1, one.num_nodes):
        children = [index for index in range(one.num_nodes) if one.parents[index] == parent]
        if children:
            above = nodes[:, parent] if parent >= 0 else torch.ones(4).double()
            torch.testing.assert_close(nodes[:, children].sum(dim=1), above)


def test_a_class_is_the_product_of_the_softmaxes_along_its_path():
    """Worked out by hand: the children of the root, of a, of b and of z each have a softmax."""
    one = ClassTree.of(SMALL)
    assert one.num_nodes == 8  # a b | x y | z and the end of b | u v
    assert one.sizes == (2, 2, 2, 2)
    logits = torch.tensor([[0.3, -0.2, 1.0, 0.5, -1.0, 2.0, 0.1, 0.4]])
    a, b, x, y, z, end, u, v = logits[0].exp().tolist()
    expected = [
        a / (a + b) * x / (x + y),
        a / (a + b) * y / (x + y),
        b / (a + b) * z / (z + end) * u / (u + v),
        b / (a + b) * z / (z + end) * v / (u + v),
        b / (a + b) * end / (z + end),
    ]
    np.testing.assert_allclose(one.of_classes(logits).exp()[0], expected, atol=1e-6)


@pytest.mark.parametrize("alpha", [1e-9, 0.1, 0.5, 0.9, 3.0])
def test_hierarchical_cross_entropy_is_the_papers_sum_by_hand(alpha: float):
    logits = torch.randn(5, len(SMALL), generator=torch.Generator().manual_seed(3)).double()
    found = hierarchical_loss(ClassTree.of(SMALL), logits.log_softmax(dim=1), torch.arange(5), alpha=alpha)
    shares = logits.softmax(dim=1).numpy()
    for label, path in enumerate(SMALL):
        below = [sum(p for p, other in zip(shares[label], SMALL, strict=True) if other[:d] == path[:d])
                 for d in range(len(path) + 1)]  # fmt: skip
        if any(other != path and other[: len(path)] == path for other in SMALL):
            below.append(shares[label][label])  # an inner node that is a class: the step to its own end
        steps = zip(below[1:], below[:-1], strict=True)
        by_hand = -sum(math.exp(-alpha * level) * math.log(node / above) for level, (node, above) in enumerate(steps))
        assert float(found[label]) == pytest.approx(by_hand, abs=1e-5)


def test_without_level_weights_it_is_cross_entropy():
    logits = torch.randn(7, len(SMALL), generator=torch.Generator().manual_seed(1)).double()
    truth = torch.randint(len(SMALL), (7,), generator=torch.Generator().manual_seed(2))
    found = hierarchical_loss(ClassTree.of(SMALL), logits.log_softmax(dim=1), truth, alpha=0.0)
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(logits, truth, reduction="none"))


@pytest.mark.parametrize(("train", "rows"), [(tree_softmax, 8), (hxe, 5)])
def test_a_head_is_what_torchs_own_optimiser_trains_of_the_formula_written_out(train, rows: int):
    known, _ = drawn(SMALL, per_class=4)  # 20 images: one batch an epoch, whatever their order
    spec = HeadSpec(rates=(0.05,), epochs=15)
    ours = train([known], [known], spec, [3])[0].state
    generator = torch.Generator().manual_seed(3)
    weight, bias = torch.empty(rows, 12), torch.empty(rows)
    for tensor in (weight, bias):
        tensor.uniform_(-(12**-0.5), 12**-0.5, generator=generator).requires_grad_()
    optimiser = torch.optim.AdamW([weight, bias], lr=0.05, weight_decay=0.01)
    groups = [[0, 1], [2, 3], [4, 5], [6, 7]]
    paths = [[0, 2], [0, 3], [1, 4, 6], [1, 4, 7], [1, 5]]
    for epoch in range(15):
        optimiser.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * epoch / 15)) / 2
        optimiser.zero_grad()
        scores = unit(known.features) @ weight.T + bias
        loss = torch.zeros(())
        for row, label in zip(scores, known.labels.tolist(), strict=True):
            if train is tree_softmax:
                for node in paths[label]:
                    group = next(one for one in groups if node in one)
                    loss = loss - (row[node] - row[group].logsumexp(dim=0))
            else:
                share, members = row.softmax(dim=0), list(range(5))
                for level, node in enumerate(paths[label]):
                    inside = [other for other in range(5) if node in paths[other]]
                    loss = loss - math.exp(-0.5 * level) * torch.log(share[inside].sum() / share[members].sum())
                    members = inside
        (loss / len(scores)).backward()
        optimiser.step()
    torch.testing.assert_close(ours["head.weight"], weight.detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours["head.bias"], bias.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", ["tree-softmax", "hxe"])
def test_seeds_trained_together_are_those_trained_alone_and_the_state_gives_the_probabilities(method: str):
    known, queries = drawn(SMALL)
    val, _ = drawn(SMALL, per_class=2, seed=5)
    train = HEADS.get(method).train
    assert train is not None
    spec = HeadSpec(rates=(0.01, 0.1), epochs=5)
    together = train([known, known], [val, val], spec, [1, 2])
    alone = HEADS.get(method).fit(known, val, spec, 2)
    for name, tensor in alone.items():
        torch.testing.assert_close(together[1].state[name], tensor, atol=1e-6, rtol=1e-5)
    shares = HEADS.get(method).probabilities(alone, known, queries)
    assert shares.shape == (20, 5)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(20))
    torch.testing.assert_close(HEADS.get(method).probabilities(alone, known, 7 * queries), shares)
    assert (together[0].state["head.weight"] != together[1].state["head.weight"]).any()


@pytest.mark.parametrize("method", ["tree-softmax", "hxe"])
def test_a_head_learns_classes_that_can_be_told_apart(method: str):
    known, _ = drawn(SMALL, per_class=20)
    state = HEADS.get(method).fit(known, known, HeadSpec(), 0)
    shares = HEADS.get(method).probabilities(state, known, known.features)
    assert float((shares.argmax(dim=1) == known.labels).float().mean()) > 0.95


@pytest.mark.parametrize("method", ["tree-softmax", "hxe"])
@pytest.mark.parametrize("absent", [0, 2, 4])
def test_a_class_without_training_images_leaves_all_finite(method: str, absent: int):
    known, queries = drawn(SMALL)
    kept = known.labels != absent
    gap = Labelled(features=known.features[kept], labels=known.labels[kept], num_classes=5, tree=SMALL)
    state = HEADS.get(method).fit(gap, gap, HeadSpec(), 0)
    shares = HEADS.get(method).probabilities(state, gap, queries)
    assert torch.isfinite(shares).all()
    assert float(shares[:, absent].mean()) < 0.2, "less than a guess"


@pytest.mark.parametrize("label_set", LABEL_SETS)
def test_every_label_set_of_hicervix_is_a_tree_whose_leaves_are_its_classes(label_set: str):
    paths = tuple(tree(label_set).values())
    one = ClassTree.of(paths)
    assert one.on_path.shape == (len(paths), one.num_nodes)
    ends = [index for index in range(one.num_nodes) if index not in one.parents.tolist()]
    assert len(ends) == len(paths)
    assert one.on_path[:, ends].sum(dim=1).tolist() == [1] * len(paths)


def test_a_larger_alpha_weighs_the_coarsest_level_more():
    """A mistake within a branch costs less than one between branches, the more so the larger alpha."""
    one = ClassTree.of(SMALL)
    within, between = (torch.full((1, 5), -6.0).index_fill(1, torch.tensor([label]), -0.1) for label in (1, 3))
    ratios = []
    for alpha in (0.1, 0.5, 0.9):
        costs = [
            float(hierarchical_loss(one, logits.log_softmax(dim=1), torch.tensor([0]), alpha=alpha))
            for logits in (within, between)
        ]
        ratios.append(costs[1] / costs[0])
    assert ratios == sorted(ratios)
    assert ratios[-1] > 1.3


@pytest.mark.parametrize("method", ["tree-softmax", "hxe"])
def test_of_one_class_alone_a_head_predicts_nothing_else(method: str):
    known, queries = drawn(SMALL)
    kept = known.labels == 3
    one = Labelled(features=known.features[kept], labels=known.labels[kept], num_classes=5, tree=SMALL)
    state = HEADS.get(method).fit(one, one, HeadSpec(rates=(0.1,)), 0)
    assert HEADS.get(method).probabilities(state, one, one.features).argmax(dim=1).unique().tolist() == [3]
    assert torch.isfinite(HEADS.get(method).probabilities(state, one, queries)).all()
