"""PEFT's modules recognised without loading PEFT: it brings transformers, two seconds of every start."""

import sys
from typing import TYPE_CHECKING, TypeGuard

from torch import nn

if TYPE_CHECKING:
    from peft import PeftModel
    from peft.tuners.lora import Linear as LoraLinear
    from peft.tuners.tuners_utils import BaseTunerLayer


def is_peft_model(module: object) -> "TypeGuard[PeftModel]":
    """Whether PEFT wraps this encoder's trunk."""
    if "peft" not in sys.modules:
        return False  # nothing is wrapped before it is loaded
    from peft import PeftModel

    return isinstance(module, PeftModel)


def is_peft_layer(module: nn.Module) -> "TypeGuard[BaseTunerLayer]":
    """Whether this is a layer with an adapter of PEFT, of whatever method."""
    if "peft" not in sys.modules:
        return False
    from peft.tuners.tuners_utils import BaseTunerLayer

    return isinstance(module, BaseTunerLayer)


def is_lora_linear(module: nn.Module) -> "TypeGuard[LoraLinear]":
    """Whether this is PEFT's linear layer with a LoRA, or a kind of it."""
    if "peft" not in sys.modules:
        return False
    from peft.tuners.lora import Linear as LoraLinear

    return isinstance(module, LoraLinear)


def is_stock_lora_linear(module: nn.Module) -> "TypeGuard[LoraLinear]":
    """Whether this is PEFT's linear layer with a LoRA itself, and no kind of it."""
    if not is_lora_linear(module):
        return False
    from peft.tuners.lora import Linear as LoraLinear

    return type(module) is LoraLinear
