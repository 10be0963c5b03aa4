"""Image encoder: a timm trunk, token pooling, and an optional projection."""

import copy
from typing import Any

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from cytolora.models.backbones.spec import Pool
from cytolora.models.pooling import QueryPool


def has_class_token(trunk: Any) -> bool:
    """Whether the first token of a timm trunk is a class token."""
    inside = getattr(trunk, "embeds", trunk)  # where timm's NaFlexViT keeps it
    return getattr(inside, "cls_token", None) is not None


class Encoder(nn.Module):
    """Maps images to feature vectors, one an image."""

    def __init__(
        self,
        trunk: nn.Module,
        pool: Pool,
        *,
        pooler: QueryPool | None = None,
        projection: nn.Linear | None = None,
        recipe: str | None = None,
    ) -> None:
        super().__init__()
        self.trunk: Any = trunk
        self.pool: Pool = pool
        self.projection = projection
        self.recipe = recipe or pool
        """What, besides weights and images, decides the features: two encoders may share one file of weights."""
        self.num_prefix_tokens = int(getattr(trunk, "num_prefix_tokens", has_class_token(trunk)))
        self.pooler = pooler
        self.pooled_dim = int(self.trunk.num_features) * (2 if pool == "cls+mean" else 1)
        if pooler is not None:
            self.pooled_dim = pooler.to_out.out_features
        """Width before the projection."""
        self.feature_dim = self.pooled_dim if projection is None else projection.out_features

    def forward(self, images: Float[Tensor, "batch 3 size size"]) -> Float32[Tensor, "batch ..."]:
        """Computes features; float32 in whatever precision the trunk computes.

        One vector an image, once ``check_pool``, which asks for the shape, has let the encoder pass.
        """
        pooled = self._pooled(self.trunk.forward_features(images))
        return (pooled if self.projection is None else self.projection(pooled)).float()

    def sharing_weights(self) -> "Encoder":
        """Returns a copy of the modules with the same weights: for changes that only add, or put modules elsewhere."""
        memo = {id(tensor): tensor for tensor in (*self.parameters(), *self.buffers())}
        return copy.deepcopy(self, memo)

    def _pooled(self, tokens: Float[Tensor, "batch *tokens width"]) -> Float[Tensor, "batch ..."]:
        patches = tokens[:, self.num_prefix_tokens :]
        match self.pool:
            case "cls":
                return tokens[:, 0]
            case "mean_patch":
                return patches.mean(dim=1)
            case "cls+mean":
                return torch.cat([tokens[:, 0], patches.mean(dim=1)], dim=-1)
            case "timm":
                return self.trunk.forward_head(tokens, pre_logits=True)
            case "query":
                if self.pooler is None:
                    raise ValueError("the pool `query` needs a pooler")
                return self.pooler(tokens)
