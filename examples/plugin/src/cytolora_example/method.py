"""Methods: an adapter, and what is known of the head in ``head.py``; loads neither torch nor PEFT when it is listed."""

from typing import TYPE_CHECKING

from cytolora.models.adapters.head_methods import HeadFacts
from cytolora.models.adapters.methods import Method

if TYPE_CHECKING:
    from peft import PeftConfig

    from cytolora.config.run import AdapterSpec


def _gaussian_lora(adapter: "AdapterSpec", modules: str) -> "PeftConfig":
    from peft import LoraConfig

    return LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=adapter.dropout,
        target_modules=modules,
        init_lora_weights="gaussian",
    )


GAUSSIAN_LORA = Method(
    name="gaussian-lora",
    description="LoRA whose A starts from a normal distribution.",
    peft_config=_gaussian_lora,
    uses=("rank", "alpha", "dropout", "targets", "blocks", "last_blocks"),
)

NEAREST_MEDIAN = Method(
    name="nearest-median",
    description="Nearest class median of frozen features.",
    head=HeadFacts(
        description="Nearest class median of frozen features.",
        solution="closed form",
        is_affine=False,
        needs_every_class=True,
    ),
)
"""Its kind is ``head`` since an entry point of ``cytolora.heads`` has its name."""
