"""Deep visual prompt tuning (Jia et al. 2022, arXiv:2203.12119): trained tokens that only one block sees."""

from typing import Any

import torch
from jaxtyping import Float
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from cytolora.errors import ConfigError
from cytolora.models.adapters.split_qkv import attention_blocks

_TAKES_MORE_TOKENS = (VisionTransformer, Eva)
"""Families whose blocks take any number of tokens; others know each by its place in a grid (BEiT's biases, SAM)."""


class PromptedBlock(nn.Module):
    """A block that sees its own prompt tokens between the prefix tokens and the patches, and passes none of them on."""

    def __init__(self, block: nn.Module, num_prompts: int, width: int, num_prefix_tokens: int) -> None:
        super().__init__()
        self.block = block
        self.num_prefix_tokens = num_prefix_tokens
        bound = (6 / (3 * width)) ** 0.5  # Xavier's, over channels of an RGB patch and width, as in the authors' code
        self.prompts = nn.Parameter(torch.empty(1, num_prompts, width).uniform_(-bound, bound))
        attention: Any = getattr(block, "attn", None)
        if hasattr(attention, "num_prefix_tokens"):  # rotary positions skip the prefix: now the prompts too
            attention.num_prefix_tokens += num_prompts

    def forward(
        self, tokens: Float[Tensor, "batch tokens width"], *arguments: Any, **options: Any
    ) -> Float[Tensor, "batch tokens width"]:
        """Applies the block to the tokens and its prompts."""
        at, num_prompts = self.num_prefix_tokens, self.prompts.shape[1]
        prompts = self.prompts.to(tokens.dtype).expand(len(tokens), -1, -1)
        tokens = self.block(torch.cat([tokens[:, :at], prompts, tokens[:, at:]], dim=1), *arguments, **options)
        return torch.cat([tokens[:, :at], tokens[:, at + num_prompts :]], dim=1)


def add_prompts(trunk: Any, blocks: list[int], num_prompts: int) -> None:
    """Wraps blocks of a timm trunk, in place; drawn from torch's global random state.

    Raises:
        ConfigError: If the trunk has no attention blocks, or they take no tokens besides their own.
    """
    attention_blocks(trunk)
    if not isinstance(trunk, _TAKES_MORE_TOKENS):
        raise ConfigError(
            f"The blocks of {type(trunk).__name__} take no tokens besides the image's own, so vpt has no place there. "
            f"Choose a {' or '.join(family.__name__ for family in _TAKES_MORE_TOKENS)} of timm, or another method."
        )
    for index in blocks:
        trunk.blocks[index] = PromptedBlock(
            trunk.blocks[index], num_prompts, int(trunk.embed_dim), int(trunk.num_prefix_tokens)
        )
