"""Attention pooling with one learned query (CoCa, Yu et al. 2022, arXiv:2205.01917), as in CONCH's image encoder."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class QueryPool(nn.Module):
    """One query attends to all tokens; its answer, normalised, is the feature."""

    def __init__(self, context_width: int, width: int, num_heads: int = 8) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Parameter(torch.randn(1, width))
        self.ln_k = nn.LayerNorm(context_width)
        self.ln_q = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(context_width, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Float[Tensor, "batch tokens context_width"]) -> Float[Tensor, "batch width"]:
        """Pools the tokens of each image into one vector."""
        num_images = tokens.shape[0]  # len() would fix the number of images in an export
        query = self.to_q(self.ln_q(self.query)).expand(num_images, -1, -1)
        keys, values = self.to_kv(self.ln_k(tokens)).chunk(2, dim=-1)
        heads = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in (query, keys, values))
        answer = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        return self.norm(self.to_out(answer)[:, 0])
