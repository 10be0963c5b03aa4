"""Which methods of adaptation exist; importing this loads no torch, so that listing and planning answer at once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cytolora.registry import Registry
from cytolora.specs import LINEAR, AdapterSpec

if TYPE_CHECKING:
    from peft import PeftConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One way to adapt a tower; the classifier on top is trained by all of them."""

    name: str
    description: str
    peft_config: "Callable[[AdapterSpec, str], PeftConfig] | None"
    """Builds PEFT's configuration from the spec and the regular expression of adapted modules; None adapts nothing."""


def _lora(adapter: AdapterSpec, modules: str) -> "PeftConfig":
    from peft import LoraConfig

    return LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,  # pyright: ignore[reportArgumentType]  (PEFT says int, and computes with floats)
        use_rslora=adapter.scaling == "alpha_over_sqrt_rank",
        lora_dropout=adapter.dropout,
        target_modules=modules,
        bias="none",
    )


METHODS: Registry[Method] = Registry("method")
METHODS.add(Method(name=LINEAR, description="Linear classifier on frozen features.", peft_config=None))
METHODS.add(
    Method(
        name="lora",
        description="Low-rank adaptation of attention projections (Hu et al. 2021) and a linear classifier.",
        peft_config=_lora,
    )
)
