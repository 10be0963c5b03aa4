"""AdaLoRA rank allocation during training (Zhang et al. 2023, arXiv:2303.10512), through PEFT, step by step."""

from collections.abc import Mapping
from math import ceil
from typing import TYPE_CHECKING, Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cytolora.models.adapters.peft_modules import is_peft_model

if TYPE_CHECKING:
    from peft import AdaLoraConfig, AdaLoraModel

START = 1.5
"""Ranks at the start, as a multiple of those kept: the paper's initial budget (Sec. 4, implementation details)."""
_SETTLED_BEFORE, _SETTLED_AFTER = 0.1, 0.3
"""Shares of the steps before ranks begin to be given up, and after the last was; the paper sets both by task."""
_DECISIONS = 100
"""How often, at most, ranks are given up between the two."""
_SUMS = ("ipt", "exp_avg_ipt", "exp_avg_unc")
"""PEFT's importance of each weight, and the running means of it and of its uncertainty."""


def start_rank(rank: int) -> int:
    """Returns the rank that every matrix starts with, for an average of ``rank`` in the end."""
    return ceil(START * rank)


class RankAllocation:
    """What a training loop does for AdaLoRA besides its own steps; one is made for one run.

    Ranks that are given up stay in the adapter as zeros: it keeps its shapes, so that it loads where any other does.
    """

    def __init__(self, model: "AdaLoraModel", num_steps: int) -> None:
        self._model = model
        self._config: AdaLoraConfig = model.peft_config[model.trainable_adapter_name]  # pyright: ignore
        self._config.total_step = num_steps
        self._config.tinit = int(_SETTLED_BEFORE * num_steps)
        self._config.tfinal = max(1, int(_SETTLED_AFTER * num_steps))
        self._config.deltaT = max(1, num_steps // _DECISIONS)
        self._is_long_enough = self._config.tinit < num_steps - self._config.tfinal

    @classmethod
    def of(cls, encoder: nn.Module, num_steps: int) -> Self | None:
        """Returns what an encoder needs for a run of so many steps; None unless its adapter is AdaLoRA."""
        trunk = getattr(encoder, "trunk", None)
        if not is_peft_model(trunk):
            return None
        from peft import AdaLoraModel

        if not isinstance(trunk.base_model, AdaLoraModel):
            return None
        return cls(trunk.base_model, num_steps)

    def penalty(self) -> Float[Tensor, ""]:
        """Returns what keeps A and B orthogonal, so that E acts as singular values: mean of ||P P^T - I||, weighted.

        PEFT adds it to a loss that the model itself returns; ours returns features.
        """
        distances = []
        for name, parameter in self._model.named_parameters():
            if ".lora_A." in name or ".lora_B." in name:
                square = parameter @ parameter.T if ".lora_A." in name else parameter.T @ parameter
                distances.append(torch.linalg.matrix_norm(square - torch.eye(len(square), device=square.device)))
        return self._config.orth_reg_weight * torch.stack(distances).mean()

    def after_step(self, step: int) -> None:
        """Weighs the ranks and gives up what the schedule wants; between a step, from 0, and the next clearing."""
        if self._is_long_enough:
            self._model.update_and_allocate(step)

    def tensors(self) -> dict[str, Tensor]:
        """Returns what ranks are weighed by, and which are kept, by name: all that steps change besides weights."""
        allocator: Any = self._model.rankallocator
        sums = {f"{kind}:{name}": one for kind in _SUMS for name, one in getattr(allocator, kind).items()}
        kept = {f"kept:{name}": torch.tensor(ranks) for name, ranks in (self._config.rank_pattern or {}).items()}
        return {**sums, **kept}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Puts back what ``tensors`` returned."""
        parts: dict[str, dict[str, Tensor]] = {kind: {} for kind in (*_SUMS, "kept")}
        for name, one in tensors.items():
            kind, _, of = name.partition(":")
            parts[kind][of] = one
        for kind in _SUMS:
            setattr(self._model.rankallocator, kind, parts[kind])
        if parts["kept"]:
            self._config.rank_pattern = {name: ranks.tolist() for name, ranks in parts["kept"].items()}

    def settle(self) -> None:
        """Ends the run: the pattern of kept ranks is in the zeros, and would make PEFT save other shapes."""
        self._config.rank_pattern = None
