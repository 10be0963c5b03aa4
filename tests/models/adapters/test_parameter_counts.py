from dataclasses import replace

import pytest
import torch
from small_encoders import FUSED

from cytolora.config.run import AdapterSpec
from cytolora.models.adapters.attach import attach
from cytolora.models.checkpoints.building import build_trunk
from cytolora.models.encoder import Encoder

CLIP_L14 = replace(FUSED, name="l14", architecture="vit_large_patch14_clip_quickgelu_224")


@pytest.mark.parametrize(
    ("spec", "adapter", "expected"),
    [
        (FUSED, AdapterSpec(rank=2, targets=("q", "v")), 73_728),  # 12 blocks x 2 projections x 2 x 768 x rank 2
        (CLIP_L14, AdapterSpec(rank=2, targets=("q", "v")), 196_608),
        (CLIP_L14, AdapterSpec(rank=16, targets=("q", "k", "v", "o")), 3_145_728),  # the paper's 3.1 million
    ],
    ids=["vit-b rank 2", "vit-l rank 2", "vit-l rank 16"],
)
def test_the_number_of_trainable_adapter_parameters(spec, adapter: AdapterSpec, expected: int):
    with torch.device("meta"):
        encoder = Encoder(build_trunk(spec), spec.pool).requires_grad_(False)
        lora = attach(encoder, "lora", adapter)
    assert sum(parameter.numel() for parameter in lora.parameters() if parameter.requires_grad) == expected
