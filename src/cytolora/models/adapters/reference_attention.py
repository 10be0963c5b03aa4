"""Incorrect attention of the paper's public code for UNI and BiomedCLIP, reproduced to measure its effect.

https://github.com/mdausort/Cytology-fine-tuning, loralib/layers.py, class SimpleAttentionLoRA: the same in November
2024 (025dc60) and in March 2025 (e905ca6). Described, not copied; docs/parity.md says what it does to features.
"""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cytolora.errors import ConfigError
from cytolora.models.adapters.split_qkv import attention_blocks


class ReferenceAttention(nn.Module):
    """Self-attention with three mistakes: heads are not split, tokens and channels are mixed up, nothing is projected.

    Parts keep the names that they have in timm's attention, so that adapters find them and weights fit. ``proj`` is
    there and unused: the public code computes its product and throws it away.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.qkv = attention.qkv
        self.q_norm, self.k_norm = attention.q_norm, attention.k_norm
        self.attn_drop = attention.attn_drop
        self.proj, self.proj_drop = attention.proj, attention.proj_drop

    def forward(
        self, tokens: Float[Tensor, "batch tokens width"], attn_mask: None = None, is_causal: bool = False
    ) -> Float[Tensor, "batch tokens width"]:
        """Computes the attention; timm passes a mask, which encoders of images do not have."""
        queries, keys, values = self.qkv(tokens).chunk(3, dim=-1)
        mixed = F.scaled_dot_product_attention(  # one head as wide as the encoder: logits are scaled by its width
            self.q_norm(queries),
            self.k_norm(keys),
            values,
            dropout_p=self.attn_drop.p if self.training else 0.0,
        )
        scrambled = mixed.transpose(1, 2).reshape(tokens.shape)  # channels read out in the place of tokens
        return self.proj_drop(scrambled)


def use_reference_attention(trunk: nn.Module) -> None:
    """Replaces the attention of every block in place.

    Raises:
        ConfigError: If a block has another attention than that of timm's plain ViT, which UNI and BiomedCLIP are.
    """
    for block in attention_blocks(trunk):
        attention: Any = block.attn
        if any(getattr(attention, part, None) is None for part in ("qkv", "q_norm", "k_norm", "attn_drop", "proj")):
            raise ConfigError(
                f"reference_attention_bug is the public code's attention of uni and biomedclip; that of "
                f"{type(trunk).__name__} is built otherwise. Leave it out."
            )
        block.attn = ReferenceAttention(attention)
