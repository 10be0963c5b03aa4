"""Every adapter method, trained a few steps on small encoders."""

from pathlib import Path

import torch
import torch.nn.functional as F
from peft import PeftModel
from torch import Tensor

from cytolora.config.run import AdapterSpec
from cytolora.models.adapters.split_qkv import split_qkv
from cytolora.models.encoder import Encoder
from cytolora.models.encoder_with_head import EncoderWithHead

ADAPTERS = {
    "lora": AdapterSpec(targets=("q", "v", "fc1", "fc2")),
    "dora": AdapterSpec(targets=("q", "v")),
    "pissa": AdapterSpec(targets=("q", "o")),
    "vera": AdapterSpec(rank=8),
    "ia3": AdapterSpec(targets=("k", "v")),
    "adalora": AdapterSpec(alpha=4),
    "oft": AdapterSpec(rank=8, targets=("q", "v", "o")),
    "lokr": AdapterSpec(rank=4),
    "randlora": AdapterSpec(rank=8, alpha=16, targets=("q", "v", "fc1", "fc2")),
    "miss": AdapterSpec(rank=7, targets=("q", "o", "fc2")),  # the last shard of the inputs is a short one
    "bitfit": AdapterSpec(),
    "layernorm": AdapterSpec(),
    "vpt": AdapterSpec(prompts=3),
    "last_blocks": AdapterSpec(last_blocks=1),
    "full": AdapterSpec(),
}


def opened_in_stock_peft(classifier: EncoderWithHead, plain: Encoder, folder: Path) -> Encoder:
    """Saves the adapter of a classifier, and opens it by PEFT alone on an encoder without one."""
    classifier.encoder.trunk.save_pretrained(str(folder))
    split_qkv(plain.trunk)
    return Encoder(PeftModel.from_pretrained(plain.trunk, folder).eval(), plain.pool)  # pyright: ignore[reportArgumentType]


def trained(encoder: Encoder, batch: Tensor, steps: int = 1) -> EncoderWithHead:
    torch.manual_seed(1)
    classifier = EncoderWithHead(encoder, 3).train()
    optimiser = torch.optim.AdamW(classifier.trainable(), lr=1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(classifier(batch), torch.arange(len(batch)) % 3).backward()
        optimiser.step()
    return classifier.eval()
