"""Result of training one run."""

import math
from dataclasses import dataclass

from torch import Tensor

from cytolora.models.encoder_with_head import EncoderWithHead

State = dict[str, Tensor]
"""Adapter and head by name, on the CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What training one run gave."""

    state: State
    num_trainable: int
    num_steps: int
    final_loss: float | None
    """Cross-entropy of the last batch, nats; not finite if training diverged, None if there was no training."""
    seconds: float
    kept_step: int | None = None
    """Step whose weights were kept by early stopping; None: the last."""
    classifier: EncoderWithHead | None = None
    """What was trained, to score it without building it anew; None for heads on frozen features."""
    is_resumed: bool = False
    """Whether another process began it."""
    num_processes: int = 1
    """That trained it together."""
    images_per_pass: int | None = None
    """Images that one of them took through the encoder together, of a full batch; None for heads on frozen features."""

    @property
    def diverged(self) -> bool:
        """Whether the result is no classifier."""
        return self.final_loss is not None and not math.isfinite(self.final_loss)
