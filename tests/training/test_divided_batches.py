"""A batch that is divided, among processes or into small passes, gives the gradients and the loss of the whole one."""

from collections.abc import Sequence

import pytest
import timm
import torch
from torch import Tensor, nn

from cytolora.config.run import AdapterSpec
from cytolora.errors import ConfigError
from cytolora.models.adapters.attach import attach
from cytolora.models.encoder import Encoder
from cytolora.models.encoder_with_head import EncoderWithHead
from cytolora.models.kernels.cpu import for_training
from cytolora.models.kernels.pass_rows import Rows, computing
from cytolora.training.group import ALONE, Group, split_evenly
from cytolora.training.loop import add_gradients
from cytolora.training.passes import PassSize, passes

CPU = torch.device("cpu")


def _classifier(dropout: float) -> EncoderWithHead:
    """A small ViT with LoRA: dropout 0.25 is drawn from bytes, 0.1 by torch."""
    torch.manual_seed(0)
    trunk = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, embed_dim=48, depth=2, num_heads=3, num_classes=0
    ).requires_grad_(False)
    encoder = attach(Encoder(trunk, "cls"), "lora", AdapterSpec(rank=2, alpha=1, dropout=dropout, targets=("q", "fc1")))
    for name, parameter in encoder.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    for_training(encoder, CPU, "fp32")
    return EncoderWithHead(encoder, 3).train()


def _gradients(
    classifier: EncoderWithHead, images: Tensor, labels: Tensor, group: Group, at_most: int | None
) -> tuple[list[Tensor], Tensor, Tensor]:
    """One process's part of the gradients and of the loss, and torch's generator afterwards."""
    torch.manual_seed(7)
    classifier.zero_grad()
    divided = passes(len(images), 16, group, at_most)
    own = [index for parts in divided for part in parts for index in part.indices]
    loss = add_gradients(classifier, images[own], labels, divided)
    gradients = [torch.zeros_like(one) if one.grad is None else one.grad.clone() for one in classifier.trainable()]
    return gradients, loss, torch.get_rng_state()


@pytest.mark.parametrize("dropout", [0.0, 0.25, 0.1])
@pytest.mark.parametrize(
    ("count", "size", "at_most"), [(32, 2, None), (32, 4, 3), (17, 4, None), (3, 4, 1), (1, 2, None), (32, 1, 5)]
)
def test_the_parts_of_all_processes_sum_up_to_the_whole_batch(
    dropout: float, count: int, size: int, at_most: int | None
):
    classifier = _classifier(dropout)
    images, labels = torch.rand(count, 3, 32, 32), torch.arange(count) % 3
    expected, loss, state = _gradients(classifier, images, labels, ALONE, None)
    found = [_gradients(classifier, images, labels, Group(rank=rank, size=size), at_most) for rank in range(size)]
    assert all(torch.equal(one[2], state) for one in found), "all have drawn what one process draws"
    assert sum(one[1] for one in found).item() == pytest.approx(loss.item(), abs=1e-5)  # pyright: ignore
    for index, whole in enumerate(expected):
        torch.testing.assert_close(torch.stack([one[0][index] for one in found]).sum(0), whole, rtol=1e-4, atol=1e-5)


def test_masks_that_are_not_divided_would_be_seen():
    classifier = _classifier(0.25)
    images, labels = torch.rand(8, 3, 32, 32), torch.arange(8) % 3
    expected = _gradients(classifier, images, labels, ALONE, None)[0]
    torch.manual_seed(7)
    classifier.zero_grad()
    for half in (slice(0, 4), slice(4, 8)):
        (nn.functional.cross_entropy(classifier(images[half]), labels[half], reduction="sum") / 8).backward()
    found = [one.grad for one in classifier.trainable()]
    assert not all(torch.allclose(one, whole, atol=1e-4) for one, whole in zip(found, expected, strict=True))  # pyright: ignore


@pytest.mark.parametrize("count", [1, 3, 16, 32, 33, 40])
@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("at_most", [None, 1, 3])
def test_every_image_is_trained_on_once(count: int, size: int, at_most: int | None):
    seen: list[int] = []
    for rank in range(size):
        for own in passes(count, 16, Group(rank=rank, size=size), at_most):
            assert own, "each process draws what a pass draws"
            assert all(len(part.indices) <= (at_most or 16) for part in own)
            seen += [index for part in own if part.is_counted for index in part.indices]
    assert sorted(seen) == list(range(count))


@pytest.mark.parametrize(("count", "parts"), [(32, 2), (17, 4), (3, 4), (0, 2)])
def test_parts_are_those_of_torch(count: int, parts: int):
    expected = [len(part) for part in torch.arange(count).tensor_split(parts)]
    assert [end - start for start, end in split_evenly(count, parts)] == expected


def test_passes_are_halved_down_to_one_image():
    size, used = PassSize(), []
    for _ in range(9):
        size.begin(32, 16, ALONE, is_fixed=False)
        used.append(size.used)
        if not size.halve():
            break
    assert used == [16, 8, 4, 2, 1]
    assert not PassSize().halve(), "nothing is known before training began"


@pytest.mark.parametrize(("group", "at_most"), [(Group(rank=0, size=2), None), (ALONE, 4)])
def test_a_batch_that_a_norm_looks_at_is_not_divided(group: Group, at_most: int | None):
    size = PassSize(at_most=at_most)
    with pytest.raises(ConfigError, match="batch norms"):
        size.begin(32, None, group, is_fixed=True)
    whole = PassSize()
    whole.begin(32, None, ALONE, is_fixed=True)
    assert (whole.used, whole.halve()) == (32, False)


def test_dropout_whose_rows_are_no_images_is_refused():
    with computing(Rows(start=0, stop=2, total=4)), pytest.raises(ConfigError, match="3 rows cannot be divided"):
        nn.functional.dropout(torch.ones(3, 2), 0.5, training=True)


def test_gradients_that_no_process_has_stay_away():
    class _Links:
        def allreduce(self, tensors: Sequence[Tensor]) -> "_Links":
            tensors[0].add_(torch.tensor([2.0, 0.0, 1.0, 5.0, 6.0])[: len(tensors[0])])
            return self

        def wait(self) -> None: ...

    unused, used = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    loss = Group(rank=0, size=2, links=_Links()).sum_gradients([unused, used], torch.tensor(1.0))
    assert loss.item() == 3
    assert unused.grad is None
    assert used.grad is not None
    assert used.grad.item() == 6
