"""Tensor names of checkpoints, recognised by layout and renamed to timm's."""

import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from cytolora.models.checkpoints.layouts import CONCH, HF_CLIP, HF_DINOV3, HF_SIGLIP, LAYOUTS, OPEN_CLIP, Layout
from cytolora.models.checkpoints.prefixes import prefix_of_most, prefixes, without_prefix

State = dict[str, Tensor]


def recognised(state: Mapping[str, Tensor], own: Collection[str] = ()) -> tuple[State, Layout | None]:
    """Takes the prefix of training code off a checkpoint's names; returns its layout too, None where no table knows it.

    Args:
        own: The encoder's own names, by which the prefix is found where no table knows the layout.

    Raises:
        ValueError: If several encoders are in it, or two tensors would have one name.
    """
    for layout in LAYOUTS:
        found = prefixes(state, layout.signature)
        if len(found) > 1:
            raise ValueError(f"two image encoders, one below {found[0] or 'no prefix'!r} and one below {found[1]!r}")
        if found:
            return without_prefix(state, found[0]), layout
    return without_prefix(state, prefix_of_most(state, own)), None


def to_encoder_names(state: Mapping[str, Tensor], layout: Layout, *, splits_qkv: bool) -> State:
    """Renames the tensors of a checkpoint to those of the encoder: timm's names, and ``projection.``.

    Args:
        splits_qkv: Whether the trunk keeps q, k and v in three projections, as EVA-02 does, and not in one.
    """
    named: State = {}
    for name, tensor in state.items():
        if re.match(layout.drops, name):
            continue
        for pattern, replacement in layout.renames:
            name = re.sub(pattern, replacement, name)
        named[name] = tensor
    if not splits_qkv:
        named = joined(named, r"(.*\.attn)\.([qkv])_proj\.(weight|bias)", "qkv", "qkv")
    named = joined(named, r"(.*\.mlp)\.fc1_(gate|up)\.(weight|bias)", "fc1", ("gate", "up"))
    return _reshaped(named, layout)


def joined(state: State, pattern: str, whole: str, parts: tuple[str, ...] | str) -> State:
    """Lays several projections one below the other, in the order of ``parts``.

    Incomplete ones, and those of unequal shapes, stay as they are; the strict load refuses them by name.
    """
    result, groups = dict(state), {}
    for name, tensor in state.items():
        if match := re.fullmatch(pattern, name):
            parent, part, kind = match.groups()
            groups.setdefault((parent, kind), {})[part] = (name, tensor)
    for (parent, kind), pieces in groups.items():
        if pieces.keys() == set(parts) and len({tensor.shape for _, tensor in pieces.values()}) == 1:
            for name, _ in pieces.values():
                del result[name]
            result[f"{parent}.{whole}.{kind}"] = torch.cat([pieces[part][1] for part in parts])
    return result


def _reshaped(state: State, layout: Layout) -> State:
    """Does what renaming cannot: shapes that differ between libraries."""
    result = dict(state)
    if layout in (OPEN_CLIP, CONCH) and "projection.weight" in result:
        result["projection.weight"] = result["projection.weight"].t().contiguous()
    if layout in (OPEN_CLIP, HF_CLIP) and "cls_token" in result:
        result["cls_token"] = result["cls_token"].reshape(1, 1, -1)
    if layout in (OPEN_CLIP, HF_CLIP, HF_SIGLIP) and "pos_embed" in result and result["pos_embed"].ndim == 2:
        result["pos_embed"] = result["pos_embed"][None]
    if "register_tokens" in result and {"cls_token", "pos_embed"} <= result.keys():
        positions = result["pos_embed"]  # timm gives the class token no position; the original adds one
        result["reg_token"] = result.pop("register_tokens")
        result["cls_token"], result["pos_embed"] = result["cls_token"] + positions[:, :1], positions[:, 1:].contiguous()
    if layout is HF_DINOV3:  # timm's encoders have no such bias; one that is not zero stays, and is refused by name
        idle = [name for name, bias in result.items() if re.search(r"\.[qv]_proj\.bias$", name) and not bias.any()]
        result = {name: tensor for name, tensor in result.items() if name not in idle}
    for kind in ("weight", "bias"):
        if (fused := result.pop(f"attn_pool.qkv.{kind}", None)) is not None:
            width = len(fused) // 3
            result[f"attn_pool.q.{kind}"] = fused[:width].clone()
            result[f"attn_pool.kv.{kind}"] = fused[width:].clone()
    return result
