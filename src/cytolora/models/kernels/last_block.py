"""Last block for encoders whose feature is the class token: no other token is computed beyond its key and value.

They are still keys and values. In an encoder of 12 blocks this saves a twelfth of the work, but for those two products.
"""

from types import MethodType
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from cytolora.models.adapters.peft_modules import is_peft_model
from cytolora.models.adapters.split_qkv import SplitQKV
from cytolora.models.encoder import Encoder


def read_first_token_only(encoder: Encoder) -> None:
    """Changes the last block of an encoder in place where that gives the same features; leaves others as they are."""
    trunk: Any = encoder.trunk.get_base_model() if is_peft_model(encoder.trunk) else encoder.trunk
    if encoder.pool != "cls" or type(trunk) is not VisionTransformer or not len(trunk.blocks):
        return
    block: Any = trunk.blocks[-1]
    attention: Any = getattr(block, "attn", None)
    if type(block) is not Block or type(attention) is not Attention or attention.gate is not None:
        return
    fused: Any = attention.qkv
    if type(fused) is nn.Linear:
        if any(parameter.requires_grad for parameter in fused.parameters()):
            return  # what is trained is stored under the encoder's own names
        attention.qkv = SplitQKV(fused)  # pyright: ignore[reportAttributeAccessIssue]
    if not isinstance(attention.qkv, SplitQKV) or attention.attn_drop.p:
        return
    attention.qkv.first_query_only = True
    block.forward = MethodType(_first_token, block)


def _first_token(block: Any, tokens: Float[Tensor, "batch tokens width"], **_: Any) -> Float[Tensor, "batch 1 width"]:
    """Computes the first token of what timm's ``Block.forward`` returns."""
    first = tokens[:, :1]
    first = first + block.drop_path1(block.ls1(_attend(block.attn, block.norm1(tokens))))
    return first + block.drop_path2(block.ls2(block.mlp(block.norm2(first))))


def _attend(attention: Any, tokens: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch 1 width"]:
    heads = (attention.num_heads, attention.head_dim)
    keys, values = attention.qkv(tokens).unflatten(-1, (2, *heads)).permute(2, 0, 3, 1, 4)
    query = attention.qkv.q_proj(tokens[:, :1]).unflatten(-1, heads).transpose(1, 2)
    query, keys = attention.q_norm(query), attention.k_norm(keys)
    if attention.fused_attn:
        answer = F.scaled_dot_product_attention(query, keys, values)
    else:
        answer = (query * attention.scale @ keys.transpose(-2, -1)).softmax(dim=-1) @ values
    answer = attention.norm(answer.transpose(1, 2).flatten(2))
    return attention.proj_drop(attention.proj(answer))
