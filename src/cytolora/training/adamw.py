"""AdamW for tensors without an autograd graph: ``torch.optim.AdamW`` without its overhead per step."""

from collections.abc import Sequence
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

_EPS = 1e-8


@cache
def has_fused() -> bool:
    """Whether the operation behind ``torch.optim.AdamW(fused=True)`` is there and computes what the formula says.

    The operation is private to torch: its name, its arguments and what it changes may be others one day.
    """
    results = []
    for is_fused in (True, False):
        tensor, grad = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 0.25])
        optimiser = AdamW([tensor], betas=(0.9, 0.95), weight_decay=0.1, is_fused=is_fused)
        try:
            for _ in range(2):
                optimiser.step([grad], learning_rate=0.01)
        except (AttributeError, RuntimeError, TypeError, NotImplementedError):
            return False
        results.append(tensor)
    return torch.allclose(*results, rtol=0, atol=1e-6)


class AdamW:
    """Decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101, Algorithm 2) on views of larger tensors."""

    def __init__(
        self,
        tensors: Sequence[Float[Tensor, "..."]],
        *,
        betas: tuple[float, float],
        weight_decay: float,
        eps: float = _EPS,
        is_fused: bool | None = None,
    ) -> None:
        """Starts at step 0.

        Args:
            eps: Added to the root of the mean squared gradient.
            is_fused: Whether torch's private operation computes a step; None: where it can.
        """
        self._tensors, self._betas, self._weight_decay, self._eps = list(tensors), betas, weight_decay, eps
        self._means, self._squares = ([torch.zeros_like(tensor) for tensor in tensors] for _ in range(2))
        self._step = torch.zeros((), device=tensors[0].device)
        self._is_fused = has_fused() if is_fused is None else is_fused

    def step(self, grads: Sequence[Float[Tensor, "..."]], learning_rate: float) -> None:
        """Changes the tensors in place; one gradient each."""
        self._step.add_(1)
        if self._is_fused:
            torch.ops.aten._fused_adamw_(
                self._tensors,
                list(grads),
                self._means,
                self._squares,
                [],
                [self._step] * len(self._tensors),
                lr=learning_rate,
                beta1=self._betas[0],
                beta2=self._betas[1],
                weight_decay=self._weight_decay,
                eps=self._eps,
                amsgrad=False,
                maximize=False,
            )
            return
        (first, second), step = self._betas, self._step.item()
        for tensor, grad, mean, square in zip(self._tensors, grads, self._means, self._squares, strict=True):
            mean.lerp_(grad, 1 - first)
            square.mul_(second).addcmul_(grad, grad, value=1 - second)
            scale = (square / (1 - second**step)).sqrt_().add_(self._eps)
            tensor.mul_(1 - learning_rate * self._weight_decay)
            tensor.addcdiv_(mean, scale, value=-learning_rate / (1 - first**step))
