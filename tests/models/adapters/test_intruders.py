"""Intruder dimensions, held against full singular value decompositions by NumPy."""

import numpy as np
import pytest
import torch
from adapter_training import ADAPTERS, trained
from numpy.typing import NDArray
from small_encoders import FUSED, images, relative, small_encoder
from torch import Tensor, nn

from cytolora.config.run import AdapterSpec
from cytolora.models.adapters.attach import attach, merged, with_split_qkv
from cytolora.models.adapters.intruders import count_intruders, num_intruders
from cytolora.models.adapters.methods import METHODS
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.encoder import Encoder

TOWERS = {"fused": FUSED, "apart": BACKBONES.get("eva02-clip-b16"), "swiglu": BACKBONES.get("uni2-h")}
SHAPES = [(48, 48), (30, 48), (192, 48), (48, 192), (8, 40), (40, 8)]


def by_numpy(before: NDArray[np.float64], after: NDArray[np.float64]) -> int:
    """The definition: of the ten largest left singular vectors of ``after``, those near none of ``before``."""
    known = np.linalg.svd(before, full_matrices=False)[0]
    found = np.linalg.svd(after, full_matrices=False)[0][:, :10]
    return int((np.abs(known.T @ found).max(axis=0) < 0.5).sum())


def drawn(shape: tuple[int, int], seed: int = 0) -> NDArray[np.float64]:
    """A weight with singular values 10, 9.x, ... well apart, and random directions."""
    random = np.random.default_rng(seed)
    left, _ = np.linalg.qr(random.normal(size=(shape[0], min(shape))))
    right, _ = np.linalg.qr(random.normal(size=(shape[1], min(shape))))
    return left * np.linspace(10, 1, min(shape)) @ right.T


def planted(weight: NDArray[np.float64], number: int, size: float) -> NDArray[np.float64]:
    """Adds directions that are spread over all left singular vectors (columns of a cosine transform), sizes apart."""
    left, _, right = np.linalg.svd(weight, full_matrices=False)
    rank = left.shape[1]
    waves = np.cos(np.pi / rank * np.outer(np.arange(rank) + 0.5, np.arange(1, number + 1))) * np.sqrt(2 / rank)
    return weight + left @ waves * (size * np.arange(1, number + 1)) @ right[-number:]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_weight_that_did_not_change_has_none(shape: tuple[int, int]):
    weight = torch.tensor(drawn(shape), dtype=torch.float32)
    assert num_intruders(weight, weight) == 0
    assert num_intruders(weight, 3 * weight) == 0
    assert num_intruders(weight, -weight) == 0


@pytest.mark.parametrize("shape", SHAPES[:4])
@pytest.mark.parametrize("number", [1, 2, 5, 10, 13])
def test_large_planted_directions_are_counted_ten_at_most(shape: tuple[int, int], number: int):
    weight = drawn(shape)
    changed = planted(weight, number, 1000)
    assert by_numpy(weight, changed) == min(number, 10)
    assert num_intruders(torch.tensor(weight).float(), torch.tensor(changed).float()) == min(number, 10)


def test_a_planted_direction_below_the_ten_largest_is_none():
    weight = drawn((48, 48))
    assert num_intruders(torch.tensor(weight), torch.tensor(planted(weight, 3, 0.1))) == 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", SHAPES)
def test_the_count_is_that_of_full_decompositions(shape: tuple[int, int], seed: int):
    random = np.random.default_rng(seed)
    weight = drawn(shape, seed)
    change = random.normal(size=(shape[0], 2)) @ random.normal(size=(2, shape[1])) * random.uniform(0.05, 2)
    assert num_intruders(torch.tensor(weight), torch.tensor(weight + change)) == by_numpy(weight, weight + change)


def test_a_weight_of_zeros_and_one_of_low_rank_are_no_errors():
    low = torch.zeros(12, 6)
    low[0, 0] = 1
    assert num_intruders(torch.zeros(12, 6), low) == 1
    assert num_intruders(low, 2 * low) == 0
    assert num_intruders(low, torch.zeros(12, 6)) == 0


def weights(encoder: Encoder) -> dict[str, Tensor]:
    return {
        name.removeprefix("trunk."): module.weight.detach()
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear)
    }


CHANGE_LINEAR = [name for name in ADAPTERS if name not in ("bitfit", "layernorm", "vpt")]


@pytest.mark.parametrize(
    ("method", "kind"),
    [*((method, "fused") for method in CHANGE_LINEAR), ("lora", "apart"), ("lora", "swiglu"), ("full", "apart")],
)
def test_every_adapted_layer_is_counted_as_its_merged_weight_is(method: str, kind: str):
    """Of every method: from what it computes, the same as from the weights that PEFT merges it into."""
    encoder = small_encoder(TOWERS[kind])
    before = with_split_qkv(encoder) if METHODS.get(method).peft_config else encoder
    torch.manual_seed(0)
    adapted = trained(attach(before, method, ADAPTERS[method]), images(TOWERS[kind]), steps=3).encoder
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    old, new = weights(before), weights(merged(adapted))
    changed = {name for name in old if relative(new[name], old[name]) > 1e-6}
    counted = count_intruders(before, adapted)
    assert set(counted) >= changed
    assert changed
    for name, number in counted.items():
        assert number == by_numpy(old[name].double().numpy(), new[name].double().numpy()), name


@pytest.mark.parametrize("method", ["bitfit", "layernorm", "vpt"])
def test_methods_that_change_no_linear_weight_have_nothing_to_count(method: str):
    encoder = small_encoder(FUSED)
    assert count_intruders(encoder, attach(encoder, method, AdapterSpec()).eval()) == {}
