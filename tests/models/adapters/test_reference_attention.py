"""The public code's wrong attention, against a recomputation index by index, and how far it is from the right one."""

from typing import Any

import pytest
import torch
from small_encoders import APART, FUSED, images, small_encoder
from torch import Tensor

from cytolora.config.run import AdapterSpec
from cytolora.errors import ConfigError
from cytolora.models.adapters.attach import attach, prove_attached
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.encoder_with_head import EncoderWithHead
from cytolora.models.kernels.cpu import speed_up
from cytolora.models.kernels.last_block import read_first_token_only

WRONG = AdapterSpec(reference_attention_bug=True)


def recomputed(attention: Any, tokens: Tensor) -> Tensor:
    """What https://github.com/mdausort/Cytology-fine-tuning, loralib/layers.py does, spelt out for one image a time."""
    width = tokens.shape[-1]
    weight, bias = attention.qkv.weight.double(), attention.qkv.bias.double()
    out = torch.empty_like(tokens)
    for image, rows in enumerate(tokens.double()):
        queries, keys, values = (rows @ weight[i * width : (i + 1) * width].T for i in range(3))
        queries, keys = queries + bias[:width], keys + bias[width : 2 * width]
        values = values + bias[2 * width :]
        shares = (queries @ keys.T / width**0.5).softmax(dim=-1)  # one head
        mixed = shares @ values
        flat = [mixed[token, channel] for channel in range(width) for token in range(len(rows))]
        for place, value in enumerate(flat):  # laid out channel by channel, read token by token
            out[image, place // width, place % width] = value
    return out  # and never projected


def test_the_wrong_attention_is_the_public_codes():
    encoder = small_encoder(FUSED)
    wrong = attach(encoder, "lora", WRONG).eval()
    tokens = torch.randn(2, 5, 48, generator=torch.Generator().manual_seed(1))
    for block, adapted in zip(encoder.trunk.blocks, wrong.trunk.base_model.model.blocks, strict=True):
        with torch.inference_mode():
            torch.testing.assert_close(adapted.attn(tokens), recomputed(block.attn, tokens), atol=1e-5, rtol=1e-5)
            assert not torch.allclose(adapted.attn(tokens), block.attn(tokens), atol=1e-2)


def test_the_encoder_itself_keeps_its_attention_and_its_features():
    encoder, batch = small_encoder(FUSED), images(FUSED)
    before = encoder(batch)
    wrong = attach(encoder, "lora", WRONG).eval()
    assert torch.equal(encoder(batch), before)
    assert torch.equal(attach(encoder, "lora", AdapterSpec()).eval()(batch), before)
    assert torch.nn.functional.cosine_similarity(wrong(batch), before).max() < 0.9


def test_the_order_of_the_patches_matters_to_it_and_not_to_attention():
    encoder = small_encoder(FUSED)
    wrong = attach(encoder, "lora", WRONG).eval().trunk.base_model.model.blocks[0].attn
    tokens = torch.randn(1, 5, 48, generator=torch.Generator().manual_seed(1))
    order = torch.tensor([0, 3, 1, 4, 2])
    right = encoder.trunk.blocks[0].attn
    torch.testing.assert_close(right(tokens[:, order]), right(tokens)[:, order], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(wrong(tokens[:, order]), wrong(tokens)[:, order], atol=1e-2)


def test_lora_on_q_and_v_trains_in_it_and_on_o_is_refused_for_it_has_no_effect():
    encoder, batch = small_encoder(FUSED), images(FUSED)
    prove_attached(attach(encoder, "lora", WRONG).eval(), batch)
    with_output = AdapterSpec(targets=("q", "v", "o"), reference_attention_bug=True)
    with pytest.raises(ConfigError, match=r"no effect at .*attn\.proj"):
        prove_attached(attach(encoder, "lora", with_output).eval(), batch)


def test_the_faster_layers_compute_the_same_wrong_attention():
    batch = images(FUSED)
    plain, fast = (EncoderWithHead(attach(small_encoder(FUSED), "lora", WRONG), 3).eval() for _ in range(2))
    fast.load_state_dict(plain.state_dict())
    read_first_token_only(fast.encoder)  # every token is read here, if not by its name
    speed_up(fast.encoder)
    torch.testing.assert_close(fast(batch), plain(batch), atol=1e-4, rtol=1e-4)


def test_a_encoder_of_another_build_is_refused():
    with pytest.raises(ConfigError, match="public code's attention of uni and biomedclip"):
        attach(small_encoder(APART), "lora", WRONG)


def test_a_method_that_the_public_code_lacks_is_refused():
    with pytest.raises(ConfigError, match="dora does not use reference_attention_bug"):
        attach(small_encoder(FUSED), "dora", WRONG)


def test_uni_and_biomedclip_had_it_and_no_other_backbone():
    assert [spec.name for spec in BACKBONES if spec.reference_attention_bug] == ["biomedclip", "uni"]
