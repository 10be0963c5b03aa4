"""An AdapterSpec to a stock PEFT adapter on the split tower, and the proof that it attached."""

import copy
import re

import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn

from cytolora.errors import ConfigError
from cytolora.models.attention import attention_blocks, split_qkv
from cytolora.models.methods import METHODS
from cytolora.models.tower import Tower
from cytolora.specs import AdapterSpec

_MODULES = {
    "q": r"attn\.(qkv\.)?q_proj",
    "k": r"attn\.(qkv\.)?k_proj",
    "v": r"attn\.(qkv\.)?v_proj",
    "o": r"attn\.proj",  # with its parent: plain `proj` would also match patch_embed.proj
}


def attach(tower: Tower, method: str, adapter: AdapterSpec) -> Tower:
    """Returns an adapted copy of a tower; the tower itself stays as it was.

    Frozen weights are shared with the original, the adapter is new: drawn from torch's global random state.

    Raises:
        ConfigError: If a block or projection named by the spec does not exist, or the adapter would have no effect.
    """
    build = METHODS.get(method).peft_config
    if build is None:
        raise ConfigError(f"The method {method!r} adapts nothing; it trains on frozen features.")
    adapted = _share_frozen(tower)
    split_qkv(adapted.trunk)
    pattern = _pattern(adapted.trunk, adapter)
    expected = len(_blocks(adapted.trunk, adapter)) * len(adapter.targets)
    found = sum(bool(re.fullmatch(pattern, name)) for name, _ in adapted.trunk.named_modules())
    if found != expected:
        raise ConfigError(f"{method} should adapt {expected} matrices of {type(tower.trunk).__name__}, found {found}.")
    adapted.trunk = get_peft_model(adapted.trunk, build(adapter, pattern))  # pyright: ignore[reportArgumentType]
    return adapted


def prove_attached(tower: Tower, images: Tensor) -> None:
    """Checks on ``images`` [batch, 3, size, size] that every adapter tensor pair can change the features.

    A zero B has a gradient exactly where its module is on the way from image to feature; a family of towers that reads
    a weight past its module has none there.

    Raises:
        ConfigError: If an adapted projection has no effect on the features.
    """
    names = [name for name, parameter in tower.named_parameters() if parameter.requires_grad and "lora_B" in name]
    if not names:
        raise ConfigError("The adapter has no effect anywhere: this tower has no trainable projection.")
    parameters = dict(tower.named_parameters())
    features = tower(images)
    probe = torch.linspace(-1, 1, features.shape[-1], device=features.device)
    grads = torch.autograd.grad((features * probe).sum(), [parameters[name] for name in names], allow_unused=True)
    dead = [name for name, grad in zip(names, grads, strict=True) if grad is None or not grad.abs().max() > 0]
    if dead:
        raise ConfigError(
            f"The adapter has no effect at {dead[0]}; this tower does not use that projection as a module."
        )


def merged(tower: Tower) -> Tower:
    """Returns a copy of an adapted tower with the adapter added into the weights; q, k, v stay split."""
    whole = copy.deepcopy(tower)
    if isinstance(whole.trunk, PeftModel):
        whole.trunk = whole.trunk.merge_and_unload()
    return whole


def _share_frozen(tower: Tower) -> Tower:
    """Copies modules but not their weights: adapters add parameters, they never write into the frozen ones."""
    memo = {id(tensor): tensor for tensor in (*tower.parameters(), *tower.buffers())}
    return copy.deepcopy(tower, memo)


def _blocks(trunk: nn.Module, adapter: AdapterSpec) -> list[int]:
    num_blocks = len(attention_blocks(trunk))
    if adapter.blocks == "all":
        return list(range(num_blocks))
    beyond = [block for block in adapter.blocks if not 0 <= block < num_blocks]
    if beyond:
        raise ConfigError(f"There is no block {beyond[0]}: the tower has {num_blocks}, counted from 0.")
    return list(adapter.blocks)


def _pattern(trunk: nn.Module, adapter: AdapterSpec) -> str:
    blocks = "|".join(map(str, _blocks(trunk, adapter)))
    modules = "|".join(_MODULES[target] for target in adapter.targets)
    return rf"blocks\.({blocks})\.({modules})"
