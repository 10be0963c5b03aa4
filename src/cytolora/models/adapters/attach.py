"""Adapter attachment through PEFT, prompt tokens or unfrozen weights, and a check that gradients reach the adapter."""

import copy
import re
import warnings
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cytolora.config.run import AdapterSpec
from cytolora.errors import ConfigError
from cytolora.models.adapters.methods import METHODS, Method, check_fits
from cytolora.models.adapters.peft_modules import is_peft_layer, is_peft_model
from cytolora.models.adapters.reference_attention import use_reference_attention
from cytolora.models.adapters.split_qkv import attention_blocks, split_qkv
from cytolora.models.adapters.starts import WRITING_INITS, check_rank, draw_randlora
from cytolora.models.adapters.vpt import add_prompts
from cytolora.models.encoder import Encoder

_MODULES = {
    "q": r"attn\.(qkv\.)?q_proj",
    "k": r"attn\.(qkv\.)?k_proj",
    "v": r"attn\.(qkv\.)?v_proj",
    "o": r"attn\.proj",  # with its parent: plain `proj` would also match patch_embed.proj
    "fc1": r"mlp\.fc1(_[gx])?",  # EVA-02 keeps the two halves of its SwiGLU apart
    "fc2": r"mlp\.fc2",
}

_OPENED = {
    "biases": r"trunk\.blocks\.({blocks})\..*bias",
    "norms": r"(trunk\.(blocks\.({blocks})\.((attn|mlp)\.)?|attn_pool\.)?[a-z_]*norm[a-z_0-9]*"
    r"|pooler\.(ln_[a-z]+|norm))\.(weight|bias)",
    "blocks": r"trunk\.(blocks\.({blocks})\..*|(fc_)?norm\..*)",
    "everything": r".*",
}
"""Names of the encoder's own parameters that a method trains."""

_BEFORE_BLOCKS = "trunk.norm_pre."
"""CLIP's norm of the embeddings; where single blocks are named it is in none of them, and stays frozen."""


def attach(encoder: Encoder, method: str, adapter: AdapterSpec) -> Encoder:
    """Returns an adapted copy of an encoder; the encoder itself stays as it was.

    Frozen weights are shared with the original, what trains is new: drawn from torch's global random state.

    Raises:
        ConfigError: If a block or projection named by the spec does not exist, the method does not use what the spec
            sets, or the adapter would have no effect.
    """
    entry = METHODS.get(method)
    if entry.kind != "adapter":
        raise ConfigError(f"The method {method!r} adapts nothing; it trains on frozen features.")
    check_fits(entry, adapter)
    adapted = encoder.sharing_weights()
    if adapter.reference_attention_bug:
        use_reference_attention(adapted.trunk)
    if entry.peft_config is not None:
        _attach_peft(adapted, entry, adapter)
    elif entry.prompts:
        add_prompts(adapted.trunk, _blocks(adapted.trunk, adapter), adapter.prompts)
    else:
        _open(adapted, entry, adapter)
    return adapted


def with_split_qkv(encoder: Encoder) -> Encoder:
    """Returns a copy with q, k and v apart, as PEFT's methods need them; ``attach`` then has nothing to split."""
    split = encoder.sharing_weights()
    split_qkv(split.trunk)
    return split


def prove_attached(encoder: Encoder, images: Float[Tensor, "batch 3 size size"]) -> None:
    """Checks on a few images that every adapted module can change the features.

    At the start, something of every adapter has a gradient exactly where its module is on the way from image to
    feature; a family of encoders that reads a weight past its module has none there.

    Raises:
        ConfigError: If an adapted module has no effect on the features.
    """
    owners = dict(_owned(encoder))
    if not owners:
        raise ConfigError("The adapter has no effect anywhere: this encoder has nothing that trains.")
    parameters = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    features = encoder(images)
    probe = torch.linspace(-1, 1, features.shape[-1], device=features.device)
    grads = torch.autograd.grad((features * probe).sum(), parameters, allow_unused=True)
    alive = {
        id(parameter) for parameter, grad in zip(parameters, grads, strict=True) if grad is not None and grad.any()
    }
    dead = [name for name, owned in owners.items() if not any(id(parameter) in alive for parameter in owned)]
    if dead:
        is_projection = is_peft_layer(encoder.get_submodule(dead[0]))
        why = "this encoder does not use that projection as a module" if is_projection else "no feature depends on it"
        raise ConfigError(f"The adapter has no effect at {dead[0]}; {why}. Choose another method or backbone.")


def merged(encoder: Encoder) -> Encoder:
    """Returns a copy of an adapted encoder with the adapter added into the weights; q, k, v stay split."""
    whole = copy.deepcopy(encoder)
    if is_peft_model(whole.trunk):
        whole.trunk = whole.trunk.merge_and_unload()
    return whole


def _attach_peft(encoder: Encoder, method: Method, adapter: AdapterSpec) -> None:
    from peft import get_peft_model

    assert method.peft_config is not None
    split_qkv(encoder.trunk)
    pattern = _pattern(encoder.trunk, adapter)
    adapted = [
        module
        for name, module in encoder.trunk.named_modules()
        if isinstance(module, nn.Linear) and re.fullmatch(pattern, name)
    ]
    if method.reads_directions or adapter.init is not None:
        for layer in adapted:
            check_rank(adapter.rank, layer)
    if method.writes_weights or adapter.init in WRITING_INITS:
        _unshare(adapted)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="lora with eva initialization|Specified to not save basis")
        encoder.trunk = get_peft_model(encoder.trunk, method.peft_config(adapter, pattern))
    draw_randlora(encoder.trunk)


def _open(encoder: Encoder, method: Method, adapter: AdapterSpec) -> None:
    assert method.opens is not None
    if method.opens == "blocks" and adapter.last_blocks is None and adapter.blocks == "all":
        raise ConfigError("last_blocks needs the number of blocks to train: set last_blocks of the adapter, 2 say.")
    blocks = _blocks(encoder.trunk, adapter) if method.opens != "everything" else []
    pattern = _OPENED[method.opens].replace("{blocks}", "|".join(map(str, blocks)))
    are_named = adapter.last_blocks is not None or adapter.blocks != "all"
    for name, parameter in list(encoder.named_parameters()):
        if re.fullmatch(pattern, name) and not (are_named and name.startswith(_BEFORE_BLOCKS)):
            parent, _, last = name.rpartition(".")
            setattr(encoder.get_submodule(parent), last, nn.Parameter(parameter.detach().clone()))


def _owned(encoder: Encoder) -> Iterator[tuple[str, list[nn.Parameter]]]:
    """Yields every adapted module with what trains in it: an adapter's layer, or the module of an opened weight."""
    inside: set[int] = set()
    for name, module in encoder.named_modules():
        trains = [p for p in module.parameters() if p.requires_grad and id(p) not in inside]
        if is_peft_layer(module) and trains:
            inside |= {id(parameter) for parameter in trains}
            yield name, trains
    for name, module in encoder.named_modules():
        trains = [p for p in module.parameters(recurse=False) if p.requires_grad and id(p) not in inside]
        if trains:
            yield name, trains


def _unshare(layers: Sequence[nn.Linear]) -> None:
    """Gives layers weights of their own."""
    for layer in layers:
        layer.weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=False)


def _blocks(trunk: nn.Module, adapter: AdapterSpec) -> list[int]:
    num_blocks = len(attention_blocks(trunk))
    if adapter.last_blocks is not None:
        if adapter.last_blocks > num_blocks:
            raise ConfigError(f"last_blocks is {adapter.last_blocks}, and the encoder has {num_blocks} blocks.")
        return list(range(num_blocks - adapter.last_blocks, num_blocks))
    if adapter.blocks == "all":
        return list(range(num_blocks))
    if not adapter.blocks or len(set(adapter.blocks)) < len(adapter.blocks):
        raise ConfigError(f"blocks names one or more blocks, counted from 0, once each: {list(adapter.blocks)}.")
    beyond = [block for block in adapter.blocks if not 0 <= block < num_blocks]
    if beyond:
        raise ConfigError(f"There is no block {beyond[0]}: the encoder has {num_blocks}, counted from 0.")
    return list(adapter.blocks)


def _pattern(trunk: nn.Module, adapter: AdapterSpec) -> str:
    """Builds the regular expression of adapted modules; every target must be in every block."""
    names = [name for name, _ in trunk.named_modules()]
    blocks = _blocks(trunk, adapter)
    for block in blocks:
        for target in adapter.targets:
            if not any(re.fullmatch(rf"blocks\.{block}\.{_MODULES[target]}", name) for name in names):
                raise ConfigError(f"{type(trunk).__name__} has no projection {target!r} in block {block}.")
    modules = "|".join(_MODULES[target] for target in adapter.targets)
    return rf"blocks\.({'|'.join(map(str, blocks))})\.({modules})"
