"""Heads that compare images with the training set do so in blocks: memory does not grow with the number of images."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cytolora.config.run import HeadSpec
from cytolora.models.text.embeddings import ClassText
from cytolora.training.heads.fitted import HEADS
from cytolora.training.heads.labelled import ROWS, Labelled

TRAINED, DIM, CLASSES = 1000, 16, 3
TREE = (("a", "c"), ("a", "d"), ("b",))
QUICK = HeadSpec(beta=1.0, rates=(1e-3,), epochs=1, hidden=8)


class Largest(TorchDispatchMode):
    """Notes the largest number of elements that an operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(found) if isinstance(leaf, Tensor)]
        self.numel = max(self.numel, *sizes) if sizes else self.numel
        return found


def drawn(number: int, seed: int) -> Labelled:
    generator = torch.Generator().manual_seed(seed)
    text = F.normalize(torch.eye(CLASSES, DIM), dim=1)
    labels = torch.arange(number) % CLASSES
    words = ClassText(embeddings=text, logit_scale=30.0, lengths=torch.full((CLASSES,), 2.0))
    features = text[labels] + 0.5 * torch.randn(number, DIM, generator=generator)
    return Labelled(features=features, labels=labels, num_classes=CLASSES, text=words, tree=TREE)


KNOWN, MANY = drawn(TRAINED, 0), drawn(2 * ROWS + 300, 1)


@pytest.mark.parametrize("method", [head.name for head in HEADS if head.name not in ("logistic", "ridge", "lp++")])
def test_no_head_compares_all_images_with_all_training_images_at_once(method: str):
    head = HEADS.get(method)
    with Largest() as of_fit:
        state = head.fit(KNOWN, MANY, QUICK, 0)
    with Largest() as of_use:
        whole = head.probabilities(state, KNOWN, MANY.features)
    assert max(of_fit.numel, of_use.numel) <= ROWS * TRAINED < len(MANY.labels) * TRAINED
    parts = [head.probabilities(state, KNOWN, part) for part in MANY.features.split(700)]
    torch.testing.assert_close(whole, torch.cat(parts), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("method", "choosing", "fixed"),
    [
        ("tip-adapter", HeadSpec(alpha=1.0), [HeadSpec(alpha=1.0, beta=beta) for beta in (0.1, 1.0, 5.0, 11.9)]),
        ("knn", HeadSpec(), [HeadSpec(neighbours=number) for number in (1, 3, 5, 10, 20)]),
    ],
)
def test_what_validation_images_choose_is_the_best_on_all_of_them(
    method: str, choosing: HeadSpec, fixed: list[HeadSpec]
):
    """The first block is labelled wrongly, so that the best on it is another than the best on all."""
    val = drawn(ROWS + 300, 1)
    odd = replace(val, labels=torch.where(torch.arange(len(val.labels)) < ROWS // 3, 0, val.labels))

    def num_right(spec: HeadSpec) -> int:
        shares = HEADS.get(method).probabilities(HEADS.get(method).fit(KNOWN, odd, spec, 0), KNOWN, odd.features)
        return int((shares.argmax(dim=1) == odd.labels).sum())

    assert num_right(choosing) >= max(map(num_right, fixed))
