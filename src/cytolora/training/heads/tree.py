"""Hierarchical heads of classes in a tree: conditional softmax over the children of a node, hierarchical cross-entropy.

Both are trained by gradient steps on features scaled to length 1, all seeds and learning rates in one pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from cytolora.config.run import HeadSpec
from cytolora.models.encoder_with_head import head_state, seeded_head
from cytolora.training.heads.affine import AffineHead
from cytolora.training.heads.labelled import Labelled
from cytolora.training.heads.steps import Draws, Parameters, Recipe, SteppedHead, train_and_choose, unit

TREE = Recipe(
    optimiser="adamw",
    rates=(1e-2, 3e-2, 1e-1, 3e-1),
    epochs=100,
    batch_size=32,
    weight_decay=0.01,
    by_epoch=False,
)
"""Batches, weight decay and epochs of the linear heads of the shipped grids; of their rates those in the middle."""
ALPHA = 0.5
"""Of hierarchical cross-entropy; the public code of Bertinetto et al. 2020 runs 0.1 to 0.9."""
_WEIGHT, _BIAS = "head.weight", "head.bias"
_END = ""
"""Name of the child of an inner node that is a class itself: an image that ends there."""


@dataclass(frozen=True, kw_only=True)
class ClassTree:
    """The nodes below the root, children of one parent side by side."""

    sizes: tuple[int, ...]
    """Children of each inner node, in the order of the nodes."""
    on_path: Bool[Tensor, "classes nodes"]
    """Which nodes lie between the root and a class, itself among them."""
    levels: Int64[Tensor, " nodes"]
    """Edges from the root, 1 for its children."""
    parents: Int64[Tensor, " nodes"]
    """Index of the parent; -1: the root."""

    @staticmethod
    def of(paths: Sequence[Sequence[str]]) -> "ClassTree":
        """Builds the tree of classes, each given by its path from the coarsest level down.

        A class that others lie below gets a leaf of its own below its node, so that every class is a leaf.
        """
        inner = {tuple(path[:depth]) for path in paths for depth in range(len(path))}
        leaves = [(*path, _END) if tuple(path) in inner else tuple(path) for path in paths]
        nodes = dict.fromkeys(leaf[:depth] for leaf in leaves for depth in range(1, len(leaf) + 1))
        parents = list(dict.fromkeys(node[:-1] for node in nodes))
        ordered = [node for parent in parents for node in nodes if node[:-1] == parent]
        place = {node: index for index, node in enumerate(ordered)}
        return ClassTree(
            sizes=tuple(sum(node[:-1] == parent for node in nodes) for parent in parents),
            on_path=torch.tensor([[leaf[: len(node)] == node for node in ordered] for leaf in leaves]),
            levels=torch.tensor([len(node) for node in ordered]),
            parents=torch.tensor([place.get(node[:-1], -1) for node in ordered]),
        )

    @property
    def num_nodes(self) -> int:
        """Nodes below the root."""
        return len(self.levels)

    def conditional(self, logits: Float[Tensor, "*images nodes"]) -> Float[Tensor, "*images nodes"]:
        """Returns log-probabilities of nodes given their parents: a softmax over the children of each."""
        return torch.cat([part.log_softmax(dim=-1) for part in logits.split(self.sizes, dim=-1)], dim=-1)

    def of_classes(self, logits: Float[Tensor, "*images nodes"]) -> Float[Tensor, "*images classes"]:
        """Returns log-probabilities of classes: the conditional ones added up along the path."""
        return self.conditional(logits) @ self.on_path.T.to(logits.dtype)

    def of_nodes(self, log_classes: Float[Tensor, "*images classes"]) -> Float[Tensor, "*images nodes"]:
        """Returns log-probabilities of nodes: those of the classes below added up as probabilities."""
        below = log_classes.unsqueeze(-2).masked_fill(~self.on_path.T, -torch.inf)
        return below.logsumexp(dim=-1)

    def level_weights(self, alpha: float) -> Float32[Tensor, " nodes"]:
        """Returns exp(-alpha (level - 1)): 1 at the coarsest level, less below."""
        return torch.exp(-alpha * (self.levels - 1).float())


def hierarchical_loss(
    tree: ClassTree,
    log_classes: Float[Tensor, "*images classes"],
    truth: Int64[Tensor, "*images"],
    *,
    alpha: float,
) -> Float[Tensor, "*images"]:
    """Hierarchical cross-entropy of each image: the terms of the conditional log-likelihood weighted by level."""
    nodes = tree.of_nodes(log_classes)
    above = torch.cat([nodes, torch.zeros_like(nodes[..., :1])], dim=-1)[..., tree.parents]  # -1, the root: log 1
    weights = tree.on_path.float() * tree.level_weights(alpha)
    return -((nodes - above) * weights[truth]).sum(dim=-1)


def tree_softmax(
    known: Sequence[Labelled], val: Sequence[Labelled], spec: HeadSpec, seeds: Sequence[int]
) -> list[SteppedHead]:
    """Trains a linear classifier among the children of every node (WordTree, Redmon & Farhadi 2017, arXiv:1612.08242).

    p(class) is the product of p(node | parent) along its path; the loss is its cross-entropy. The stored weights have a
    row for each node.
    """
    tree = ClassTree.of(known[0].class_paths)

    def logits(parameters: Parameters, images: Tensor) -> Tensor:
        return tree.of_classes(_affine(parameters, images))

    draws = Draws.of(known, val, seeds)
    stepped, chosen = train_and_choose(_start(draws, tree.num_nodes), logits, draws, TREE, spec)
    return [
        stepped.head(
            {name: stepped.parameters[name][index, best].contiguous() for name in (_WEIGHT, _BIAS)}, index, best
        )
        for index, best in enumerate(chosen)
    ]


def tree_probabilities(
    state: Parameters, known: Labelled, features: Float[Tensor, "images features"]
) -> Float32[Tensor, "images classes"]:
    """Applies a trained conditional softmax to features of any length."""
    scores = unit(features) @ state[_WEIGHT].T + state[_BIAS]
    return ClassTree.of(known.class_paths).of_classes(scores).softmax(dim=1)


def hxe(known: Sequence[Labelled], val: Sequence[Labelled], spec: HeadSpec, seeds: Sequence[int]) -> list[SteppedHead]:
    """Trains a linear classifier by hierarchical cross-entropy (Bertinetto et al. 2020, arXiv:1912.09393, Sec. 3.1).

    The softmax is flat; ``-log p(class)`` is written as the sum of ``-log p(node | parent)`` along the path, and the
    term at level l is weighted by exp(-alpha (l - 1)): mistakes between branches cost more than those within one. The
    public code (better_mistakes/trees.py) divides the weights by their sum, which the optimiser does not see.
    """
    tree, alpha = ClassTree.of(known[0].class_paths), spec.alpha or ALPHA
    draws = Draws.of(known, val, seeds)
    stepped, chosen = train_and_choose(
        _start(draws, known[0].num_classes),
        _affine,
        draws,
        TREE,
        spec,
        loss=lambda log_classes, truth: hierarchical_loss(tree, log_classes, truth, alpha=alpha),
    )
    heads = []
    for index, best in enumerate(chosen):
        weight, bias = (stepped.parameters[name][index, best].contiguous() for name in (_WEIGHT, _BIAS))
        heads.append(stepped.head(AffineHead(weight=weight, bias=bias).state(), index, best))
    return heads


def _affine(parameters: Parameters, images: Tensor) -> Tensor:
    return images.unsqueeze(1) @ parameters[_WEIGHT].transpose(2, 3) + parameters[_BIAS].unsqueeze(2)


def _start(draws: Draws, num_rows: int) -> dict[str, Tensor]:
    """Draws the rows of every seed as those of a linear head."""
    starts = [
        head_state(*seeded_head(draws.features.shape[2], num_rows, torch.Generator().manual_seed(seed)))
        for seed in draws.seeds
    ]
    return {name: torch.stack([one[name] for one in starts]) for name in (_WEIGHT, _BIAS)}
