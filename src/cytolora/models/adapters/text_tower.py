"""Adapters in a text encoder: low-rank ones through PEFT, and prompt tokens that are replaced block by block."""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cytolora.config.run import AdapterSpec
from cytolora.errors import ConfigError
from cytolora.models.adapters.methods import METHODS
from cytolora.models.text.encoder import TextEncoder

_CLIP = {
    **{name: rf"attn\.{name}_proj" for name in ("q", "k", "v")},
    **{"o": r"attn\.out_proj", "fc1": r"mlp\.c_fc", "fc2": r"mlp\.c_proj"},
}
_BERT = {
    **{"q": r"attention\.self\.query", "k": r"attention\.self\.key", "v": r"attention\.self\.value"},
    **{"o": r"attention\.output\.dense", "fc1": r"intermediate\.dense", "fc2": r"output\.dense"},
}
"""Names of the projections inside a block."""


class SplitAttention(nn.Module):
    """``nn.MultiheadAttention`` of a text encoder with q, k and v apart, so that each can be adapted alone."""

    def __init__(self, fused: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads, width = fused.num_heads, fused.embed_dim
        biases = fused.in_proj_bias.detach().split(width)
        weights = fused.in_proj_weight.detach().split(width)
        self.q_proj, self.k_proj, self.v_proj = map(_frozen, weights, biases)
        self.out_proj = _frozen(fused.out_proj.weight.detach(), fused.out_proj.bias.detach())

    def forward(
        self,
        query: Float[Tensor, "batch tokens width"],
        key: Float[Tensor, "batch tokens width"],
        value: Float[Tensor, "batch tokens width"],
        *,
        attn_mask: Tensor | None = None,
        need_weights: bool = False,
    ) -> tuple[Float[Tensor, "batch tokens width"], None]:
        """Attends as the module whose place it takes; weights are not returned."""
        heads = [self._heads(tokens) for tokens in (self.q_proj(query), self.k_proj(key), self.v_proj(value))]
        mixed = F.scaled_dot_product_attention(*heads, attn_mask=attn_mask)
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), None

    def _heads(self, tokens: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch heads tokens part"]:
        return tokens.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


def _frozen(weight: Tensor, bias: Tensor) -> nn.Linear:
    part = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    part.weight, part.bias = nn.Parameter(weight, requires_grad=False), nn.Parameter(bias, requires_grad=False)
    return part


def text_blocks(encoder: Any) -> nn.ModuleList:
    """Returns the transformer blocks of CLIP's text encoder or of a BERT, in order."""
    blocks = getattr(encoder.transformer, "resblocks", None)
    return encoder.transformer.encoder.layer if blocks is None else blocks


def adapted_text(encoder: TextEncoder, method: str, adapter: AdapterSpec) -> TextEncoder:
    """Returns a copy of a text encoder with a low-rank adapter; frozen weights are shared with the original.

    What trains is drawn from torch's global random state.

    Raises:
        ConfigError: If a block that the spec names does not exist.
    """
    from peft import inject_adapter_in_model

    config = METHODS.get(method).peft_config
    assert config is not None, f"{method} is no adapter of PEFT's"
    adapted = encoder.sharing_weights()
    blocks = text_blocks(adapted.encoder)
    names = _BERT
    for block in blocks:
        if isinstance(getattr(block, "attn", None), nn.MultiheadAttention):
            block.attn, names = SplitAttention(block.attn), _CLIP  # pyright: ignore[reportArgumentType]
    root = next(name for name, module in adapted.encoder.named_modules() if module is blocks)
    numbers = "|".join(map(str, chosen_blocks(len(blocks), adapter)))
    targets = "|".join(names[target] for target in adapter.targets)
    inject_adapter_in_model(config(adapter, rf"{re.escape(root)}\.({numbers})\.({targets})"), adapted.encoder)
    return adapted


def chosen_blocks(num_blocks: int, adapter: AdapterSpec) -> list[int]:
    """Returns the blocks of a text encoder that an adapter is in, ascending.

    Raises:
        ConfigError: If one does not exist.
    """
    if adapter.last_blocks is not None:
        if adapter.last_blocks > num_blocks:
            raise ConfigError(f"last_blocks is {adapter.last_blocks}, and the text encoder has {num_blocks} blocks.")
        return list(range(num_blocks - adapter.last_blocks, num_blocks))
    numbers = range(num_blocks) if adapter.blocks == "all" else sorted(adapter.blocks)
    if beyond := [number for number in numbers if number >= num_blocks]:
        raise ConfigError(f"There is no block {beyond[0]} in the text encoder: it has {num_blocks}, counted from 0.")
    return list(numbers)


@contextmanager
def replaced_tokens(encoder: nn.Module, vectors: Sequence[tuple[int, Float[Tensor, "tokens width"]]]) -> Iterator[None]:
    """Puts vectors in the place of the tokens after the first before some blocks.

    Args:
        vectors: Number of each block, and what it sees there.
    """
    blocks = text_blocks(encoder)
    with ExitStack() as hooks:
        for number, rows in vectors:
            hooks.callback(blocks[number].register_forward_pre_hook(_replacing(rows), with_kwargs=True).remove)
        yield


def _replacing(rows: Float[Tensor, "tokens width"]) -> Any:
    def replaced(module: nn.Module, arguments: Any, options: Any) -> Any:
        hidden, *others = arguments
        put = rows.to(hidden.dtype).expand(len(hidden), -1, -1)
        return (torch.cat([hidden[:, :1], put, hidden[:, 1 + len(rows) :]], dim=1), *others), options

    return replaced
