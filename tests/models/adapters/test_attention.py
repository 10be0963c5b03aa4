from typing import Any

import pytest
import timm
import torch
from small_encoders import APART, BYPASSING, FUSED, REGISTERED, images, inside, shrunk, small_encoder
from torch import nn

from cytolora.errors import ConfigError
from cytolora.models.adapters.split_qkv import SplitQKV, fuse_qkv, split_qkv
from cytolora.models.backbones.registry import BackboneSpec
from cytolora.models.checkpoints.building import build_trunk

BY_NAME = pytest.mark.parametrize("spec", [FUSED, APART, *REGISTERED], ids=lambda spec: spec.name)


@BY_NAME
def test_splitting_and_fusing_change_no_bit_of_the_features(spec: BackboneSpec):
    encoder, batch = small_encoder(spec), images(spec)
    before = encoder(batch)
    split_qkv(encoder.trunk)
    assert torch.equal(encoder(batch), before)
    fuse_qkv(encoder.trunk)
    assert torch.equal(encoder(batch), before)


@BY_NAME
def test_the_fused_state_reloads_strictly_into_stock_timm(spec: BackboneSpec):
    encoder, small = small_encoder(spec), shrunk(spec)
    split_qkv(encoder.trunk)
    fuse_qkv(encoder.trunk)
    stock: Any = build_trunk(small).eval()  # timm.create_model, with the entry's layers
    stock.load_state_dict(encoder.trunk.state_dict(), strict=True)
    batch = images(spec)
    assert torch.equal(stock.forward_features(batch), inside(encoder).forward_features(batch))


def test_splitting_twice_is_splitting_once():
    encoder = small_encoder(FUSED)
    split_qkv(encoder.trunk)
    first = inside(encoder).blocks[0].attn.qkv
    split_qkv(encoder.trunk)
    assert inside(encoder).blocks[0].attn.qkv is first


def test_the_split_keeps_frozen_weights_frozen_and_leaves_out_a_bias_that_is_not_there():
    fused = nn.Linear(6, 18, bias=False).requires_grad_(False)
    split = SplitQKV(fused)
    assert [name for name, _ in split.named_parameters()] == ["q_proj.weight", "k_proj.weight", "v_proj.weight"]
    assert not any(parameter.requires_grad for parameter in split.parameters())
    assert torch.equal(torch.cat([split.q_proj.weight, split.k_proj.weight, split.v_proj.weight]), fused.weight)


def test_a_family_that_reads_the_fused_weight_past_its_module_is_refused():
    with pytest.raises(ConfigError, match=r"Beit does not call its qkv projection as a module.*Choose another"):
        split_qkv(small_encoder(BYPASSING).trunk)


def test_a_network_without_attention_blocks_is_refused():
    with pytest.raises(ConfigError, match="ResNet has no list of attention blocks"):
        split_qkv(timm.create_model("resnet10t", num_classes=0))
