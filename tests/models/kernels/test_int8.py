"""int8 on a CPU against fp32: every family of encoders, and the product by itself."""

import copy
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from encoder_families import CPU, FAMILIES, batch_of, encoder_of
from small_encoders import FUSED, HALF, inside
from torch import nn
from vnni import has_vnni, needs_int8

from cytolora.errors import ConfigError
from cytolora.models.checkpoints.building import build_encoder
from cytolora.models.encoder import Encoder
from cytolora.models.kernels import int8
from cytolora.models.kernels.cpu import for_inference
from cytolora.models.kernels.int8 import Int8Linear, Int8Product, check_int8, int8_works
from cytolora.models.kernels.packed import PackedLinear

LEAST_COSINE = 0.997
"""Of encoders 48 wide with two blocks of random weights, where bf16 has 0.9998; measured: 0.9984. Those of the usual
width and depth: docs/performance.md."""


@needs_int8
def test_a_processor_with_vnni_computes_in_int8():
    """The other tests are skipped by what the system says of the processor, so that a fault here hides none of them."""
    assert int8_works()


@pytest.mark.skipif(has_vnni(), reason="this processor has VNNI")
def test_a_processor_without_vnni_does_not():
    assert not int8_works()


@needs_int8
def test_the_first_block_is_rounded_to_no_int8_and_computes_in_the_precision_of_attention():
    fast = for_inference(encoder_of("vit-b16"), CPU, "int8")
    first, *others = inside(fast).blocks
    assert not any(isinstance(module, Int8Linear) for module in first.modules())
    assert all(any(isinstance(module, Int8Linear) for module in block.modules()) for block in others)
    packed = [module for module in first.modules() if isinstance(module, PackedLinear)]
    assert packed
    with torch.inference_mode():
        assert {module(torch.randn(1, module.in_features)).dtype for module in packed} == {torch.bfloat16}


@needs_int8
@pytest.mark.parametrize("name", FAMILIES)
def test_features_in_int8_are_float32_and_nearly_the_same_on_every_family_of_encoders(name: str):
    encoder, batch = encoder_of(name), batch_of(name)
    fast = for_inference(encoder, CPU, "int8")
    with torch.inference_mode():
        expected, found = encoder(batch), fast(batch)
    assert found.dtype == torch.float32
    assert F.cosine_similarity(found.double(), expected.double()).min() >= LEAST_COSINE
    assert not torch.equal(found, expected)
    rounded = {id(module) for module in fast.modules() if isinstance(module, Int8Linear)}
    assert rounded
    assert rounded <= {id(module) for module in inside(fast).blocks.modules()}
    assert not any(isinstance(module, Int8Linear) for module in encoder.modules())


@needs_int8
def test_a_wide_encoder_of_random_weights_keeps_its_features_to_a_cosine_of_0_9995():
    arguments = {"num_classes": 0, "embed_dim": 384, "num_heads": 6, "depth": 4, "img_size": 64}
    spec = replace(FUSED, name="wide", arguments=arguments, preprocess=replace(HALF, size_px=64))
    torch.manual_seed(0)
    encoder = build_encoder(spec).requires_grad_(False).eval()
    images = torch.randn(4, 3, 64, 64)
    with torch.inference_mode():
        expected, found = encoder(images), for_inference(encoder, CPU, "int8")(images)
    assert F.cosine_similarity(found, expected).min() >= 0.9995


@needs_int8
def test_features_of_an_image_are_the_same_in_whatever_company():
    encoder, batch = for_inference(encoder_of("vit-b16"), CPU, "int8"), batch_of("vit-b16")
    linear = next(module for module in encoder.modules() if isinstance(module, Int8Linear))
    rows = torch.randn(40, linear.in_features, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        assert torch.equal(linear(rows)[7:9], linear(rows[7:9]))
        assert F.cosine_similarity(encoder(batch)[2:3], encoder(batch[2:3])).item() >= 0.99999


@needs_int8
def test_whole_numbers_are_multiplied_exactly():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-127, 128, (5, 64), generator=generator).float()
    weight[:, 0] = 127  # so that the scale is 1
    rows = torch.randint(0, 256, (7, 64), generator=generator).float()
    rows[:, 0], rows[:, 1] = 0, 255
    assert torch.equal(Int8Product(weight, torch.ones(5)).forward(rows - 100), (rows - 100) @ weight.t() + 1)


@needs_int8
@pytest.mark.parametrize("value", [0.0, -3.0, 1e-30, 1e4])
def test_a_token_of_equal_values_is_multiplied_like_any_other(value: float):
    weight = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    rows = torch.full((2, 64), value)
    expected = rows @ weight.t()
    assert torch.allclose(Int8Product(weight, None).forward(rows), expected, rtol=0.1, atol=0.1 * abs(value))


@needs_int8
def test_a_token_with_large_values_costs_the_others_nothing():
    generator = torch.Generator().manual_seed(0)
    product, rows = Int8Product(torch.randn(8, 64, generator=generator), None), torch.randn(4, 64, generator=generator)
    beside = torch.cat([rows, 1e4 * rows[:1]])
    assert torch.equal(product.forward(beside)[:4], product.forward(rows))


@needs_int8
def test_values_on_one_side_are_rounded_to_half_the_step():
    generator = torch.Generator().manual_seed(0)
    rows, weight = torch.rand(64, 256, generator=generator), torch.randint(-127, 128, (32, 256), generator=generator)
    weight = weight.float()
    weight[:, 0] = 127
    off = (Int8Product(weight, None).forward(rows) - rows @ weight.t()).std().item()
    step = 1 / 255
    assert off == pytest.approx(step / 12**0.5 * weight.square().sum(1).mean().sqrt().item(), rel=0.1)


@needs_int8
def test_an_infinite_or_missing_value_does_not_become_a_number():
    rows = torch.zeros(2, 64)
    rows[0, 3], rows[1, 3] = float("nan"), float("inf")
    assert not Int8Product(torch.ones(5, 64), None).forward(rows).isfinite().any()


@needs_int8
def test_an_encoder_in_int8_is_copied_with_its_weights_shared():
    fast = for_inference(encoder_of("vit-b16"), CPU, "int8")
    again, batch = copy.deepcopy(fast), batch_of("vit-b16")
    with torch.inference_mode():
        assert torch.equal(fast(batch), again(batch))


@needs_int8
def test_an_encoder_without_blocks_is_refused_in_one_line():
    class Trunk(nn.Module):
        num_features = 8

    with pytest.raises(ConfigError, match=r"^Trunk has no blocks of attention, .* choose another backbone\.$"):
        for_inference(Encoder(Trunk(), "cls"), CPU, "int8")


def test_int8_is_refused_on_another_device_than_a_cpu():
    with pytest.raises(
        ConfigError, match=r"^int8 is computed on a CPU, not on cuda\. Choose precision fp32, or device cpu\.$"
    ):
        for_inference(encoder_of("vit-b16"), torch.device("cuda"), "int8")


@pytest.fixture
def try_again():
    int8_works.cache_clear()
    yield
    int8_works.cache_clear()


@pytest.mark.usefixtures("try_again")
@pytest.mark.parametrize("error", [AttributeError, RuntimeError, TypeError, NotImplementedError])
def test_int8_is_refused_where_torch_lacks_the_product(monkeypatch: pytest.MonkeyPatch, error: type[Exception]):
    def missing(*_: object) -> None:
        raise error

    monkeypatch.setattr(int8, "_pack", missing)
    assert not int8_works()
    with pytest.raises(ConfigError, match="int8 needs torch with oneDNN and a processor with AVX-512 VNNI"):
        check_int8("cpu")


@pytest.mark.slow  # a process of its own: oneDNN reads this once
@pytest.mark.parametrize("isa", ["AVX2", "AVX512_CORE"])
def test_int8_is_refused_on_a_processor_whose_sums_saturate(isa: str):
    code = "from cytolora.models.kernels.int8 import int8_works; print(int8_works())"
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": isa}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
