"""Methods that train an encoder's own weights, or tokens beside them: which weights, in which families."""

from dataclasses import replace

import pytest
import timm
import torch
from adapter_training import ADAPTERS, trained
from small_encoders import BYPASSING, FUSED, images, randomised, relative, small_encoder
from torch import nn

from cytolora.config.run import AdapterSpec
from cytolora.errors import ConfigError
from cytolora.models.adapters.attach import attach, prove_attached
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.encoder import Encoder


def opened(name: str, method: str, adapter: AdapterSpec) -> set[str]:
    encoder = attach(small_encoder(BACKBONES.get(name)), method, adapter)
    prove_attached(encoder, images(BACKBONES.get(name)))
    return {parameter for parameter, value in encoder.named_parameters() if value.requires_grad}


@pytest.mark.parametrize("name", ["clip-vit-b16", "siglip2-b16", "conch", "eva02-clip-b16", "uni2-h", "dinov3-b16"])
def test_layernorm_trains_every_norm_that_the_encoder_has(name: str):
    """Found by the kind of module, not by name: in the attention pool of SigLIP and in CONCH's query pool too."""
    encoder = small_encoder(BACKBONES.get(name))
    norms = {
        f"{module}.{parameter}"
        for module, found in encoder.named_modules()
        if isinstance(found, nn.LayerNorm)
        for parameter, _ in found.named_parameters()
    }
    assert norms
    assert opened(name, "layernorm", AdapterSpec()) == norms


def test_layernorm_of_the_last_block_trains_nothing_before_it():
    names = opened("clip-vit-b16", "layernorm", AdapterSpec(last_blocks=1))
    assert {name.rpartition(".")[0] for name in names} == {"trunk.blocks.1.norm1", "trunk.blocks.1.norm2", "trunk.norm"}
    assert "trunk.norm_pre.weight" in opened("clip-vit-b16", "layernorm", AdapterSpec())


@pytest.mark.parametrize("method", ["full", "bitfit", "layernorm", "last_blocks"])
def test_the_weights_of_beit_can_be_trained_though_no_adapter_fits_it(method: str):
    encoder, batch = small_encoder(BYPASSING), images(BYPASSING)
    adapted = attach(encoder, method, ADAPTERS[method]).eval()
    prove_attached(adapted, batch)
    trained(adapted, batch)
    assert relative(adapted(batch), encoder(batch)) > 1e-5


def test_a_weight_that_no_feature_depends_on_is_said_to_be_that():
    encoder = small_encoder(FUSED)
    encoder.trunk.idle = nn.Linear(2, 2)
    with pytest.raises(ConfigError, match=r"no effect at trunk\.idle; no feature depends on it"):
        prove_attached(attach(encoder, "full", AdapterSpec()), images(FUSED))


@pytest.mark.parametrize(
    ("architecture", "arguments", "size_px"),
    [
        ("beit_base_patch16_224", {"depth": 1, "embed_dim": 48, "num_heads": 3, "img_size": 32}, 32),
        ("samvit_base_patch16_224", {"depth": 2, "embed_dim": 48, "num_heads": 3}, 224),
        ("xcit_nano_12_p16_224", {"depth": 1}, 224),
        ("hiera_tiny_224", {}, 224),
    ],
)
def test_prompts_are_refused_by_name_where_blocks_take_no_more_tokens(architecture: str, arguments, size_px: int):
    trunk = randomised(timm.create_model(architecture, num_classes=0, **arguments)).requires_grad_(False).eval()
    encoder = Encoder(trunk, "timm")
    with torch.inference_mode():
        encoder(torch.zeros(1, 3, size_px, size_px))  # the encoder itself is sound
    with pytest.raises(ConfigError, match=rf"{type(trunk).__name__}.*vpt .*VisionTransformer or Eva"):
        attach(encoder, "vpt", AdapterSpec(prompts=2))


@pytest.mark.parametrize("method", ["lora", "dora", "ia3"])
def test_the_tiny_eva02_whose_attention_is_fused_otherwise_is_refused_by_name(method: str):
    """Its q, k and v are one matrix, with biases beside it that the module does not know."""
    spec = replace(FUSED, name="tiny", architecture="eva02_tiny_patch14_224", pool="timm")
    with pytest.raises(ConfigError, match=r"The attention of Eva does not call its qkv projection as a module"):
        attach(small_encoder(spec), method, ADAPTERS[method])
