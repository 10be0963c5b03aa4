"""An image tower: a timm trunk and the pooling that turns its tokens into one feature vector."""

from torch import Tensor, nn

from cytolora.models.backbones import Pool


class Tower(nn.Module):
    """Maps images [batch, 3, size, size] to features [batch, feature_dim]."""

    def __init__(self, trunk: nn.Module, pool: Pool) -> None:
        super().__init__()
        self.trunk = trunk
        self.pool: Pool = pool
        self.num_prefix_tokens = int(getattr(trunk, "num_prefix_tokens", 1))
        self.feature_dim = int(trunk.num_features)  # pyright: ignore[reportArgumentType]

    def forward(self, images: Tensor) -> Tensor:
        """Returns one feature vector an image."""
        tokens = self.trunk.forward_features(images)  # pyright: ignore[reportCallIssue]
        if self.pool == "cls":
            return tokens[:, 0]
        return tokens[:, self.num_prefix_tokens :].mean(dim=1)
