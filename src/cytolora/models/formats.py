"""Official checkpoint layouts, each as a table of names: whatever a file calls its tensors, the tower's names come out.

A layout is recognised by a tensor that only it has. What it holds besides the image tower is named too, and dropped;
a tensor that no table knows stays in and makes the strict load fail.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

State = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How one library names the tensors of an image tower."""

    name: str
    signature: str
    """Matches the whole name of a tensor that no other layout has."""
    drops: str = r"(?!)"
    """Matches names of tensors that are no part of the image tower, from their beginning."""
    renames: tuple[tuple[str, str], ...] = ()
    """Regular expressions and replacements, applied in order, each wherever it matches."""


_TEXT = r"(logit_scale|logit_bias|text_projection|text_model|text|transformer|token_embedding|ln_final)(\.|$)"
_HF_BLOCK = r"^blocks\.(\d+)"
_HF_ATTENTION = (
    (_HF_BLOCK + r"\.attention\.attention\.(?:query|q)\.", r"blocks.\1.attn.q_proj."),
    (_HF_BLOCK + r"\.attention\.attention\.(?:key|k)\.", r"blocks.\1.attn.k_proj."),
    (_HF_BLOCK + r"\.attention\.attention\.(?:value|v)\.", r"blocks.\1.attn.v_proj."),
    (_HF_BLOCK + r"\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
    (_HF_BLOCK + r"\.attention\.o_proj\.", r"blocks.\1.attn.proj."),
    (_HF_BLOCK + r"\.attention\.([qkv])_proj\.", r"blocks.\1.attn.\2_proj."),
)
_HF_EMBEDDINGS = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^layernorm\.", "norm."),
)
_HF_CLIP_BLOCK = (
    (r"^encoder\.layers\.", "blocks."),
    (_HF_BLOCK + r"\.self_attn\.([qkv])_proj\.", r"blocks.\1.attn.\2_proj."),
    (_HF_BLOCK + r"\.self_attn\.out_proj\.", r"blocks.\1.attn.proj."),
    (_HF_BLOCK + r"\.layer_norm([12])\.", r"blocks.\1.norm\2."),
    (r"^embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"^embeddings\.position_embedding\.weight$", "pos_embed"),
    (r"^post_layernorm\.", "norm."),
)

OPEN_CLIP = Layout(
    name="open_clip",
    signature=r"visual\.conv1\.weight",
    drops=_TEXT + r"|positional_embedding$|input_resolution$|context_length$|vocab_size$",
    renames=(
        (r"^visual\.", ""),
        (r"^conv1\.", "patch_embed.proj."),
        (r"^class_embedding$", "cls_token"),
        (r"^positional_embedding$", "pos_embed"),
        (r"^ln_pre\.", "norm_pre."),
        (r"^ln_post\.", "norm."),
        (r"^transformer\.resblocks\.", "blocks."),
        (r"\.ln_([12])\.", r".norm\1."),
        (r"\.attn\.in_proj_", ".attn.qkv."),
        (r"\.attn\.out_proj\.", ".attn.proj."),
        (r"\.mlp\.c_fc\.", ".mlp.fc1."),
        (r"\.mlp\.c_proj\.", ".mlp.fc2."),
        (r"^proj$", "projection.weight"),
    ),
)
OPEN_CLIP_TIMM = Layout(
    name="open_clip_timm",
    signature=r"visual\.trunk\.patch_embed\.proj\.weight",
    drops=_TEXT + r"|positional_embedding$",
    renames=((r"^visual\.trunk\.", ""), (r"^visual\.head\.proj\.", "projection."), (r"^head\.", "projection.")),
)
CONCH = Layout(
    name="conch",
    signature=r"visual\.attn_pool_contrast\.query",
    drops=_TEXT + r"|text_decoder\.|visual\.(attn_pool_caption|ln_caption)\.",
    renames=(
        (r"^visual\.trunk\.", ""),
        (r"^visual\.attn_pool_contrast\.", "pooler."),
        (r"^visual\.ln_contrast\.", "pooler.norm."),
        (r"^visual\.proj_contrast$", "projection.weight"),
    ),
)
HF_CLIP = Layout(
    name="hf_clip",
    signature=r"(vision_model\.)?pre_layrnorm\.weight",  # transformers' own spelling
    drops=_TEXT + r"|(vision_model\.)?embeddings\.position_ids$",
    renames=(
        (r"^vision_model\.", ""),
        *_HF_CLIP_BLOCK,
        (r"^embeddings\.class_embedding$", "cls_token"),
        (r"^pre_layrnorm\.", "norm_pre."),
        (r"^visual_projection\.", "projection."),
    ),
)
HF_SIGLIP = Layout(
    name="hf_siglip",
    signature=r"(vision_model\.)?head\.probe",
    drops=_TEXT + r"|(vision_model\.)?embeddings\.position_ids$",
    renames=(
        (r"^vision_model\.", ""),
        *_HF_CLIP_BLOCK,
        (r"^head\.probe$", "attn_pool.latent"),
        (r"^head\.attention\.in_proj_", "attn_pool.qkv."),
        (r"^head\.attention\.out_proj\.", "attn_pool.proj."),
        (r"^head\.layernorm\.", "attn_pool.norm."),
        (r"^head\.mlp\.", "attn_pool.mlp."),
    ),
)
HF_VIT = Layout(
    name="hf_vit",
    signature=r"(vit\.)?(encoder\.layer|layers)\.0\.layernorm_before\.weight",
    drops=r"classifier\.|(vit\.)?pooler\.",
    renames=(
        (r"^vit\.", ""),
        (r"^(encoder\.layer|layers)\.", "blocks."),
        *_HF_EMBEDDINGS,
        *_HF_ATTENTION,
        (r"\.layernorm_before\.", ".norm1."),
        (r"\.layernorm_after\.", ".norm2."),
        (r"\.intermediate\.dense\.", ".mlp.fc1."),
        (_HF_BLOCK + r"\.output\.dense\.", r"blocks.\1.mlp.fc2."),
    ),
)
HF_DINOV2 = Layout(
    name="hf_dinov2",
    signature=r"(dinov2(_with_registers)?\.)?(encoder\.layer|layers)\.0\.layer_scale1\.lambda1",
    drops=r"classifier\.|(dinov2(_with_registers)?\.)?embeddings\.mask_token$",
    renames=(
        (r"^dinov2(_with_registers)?\.", ""),
        (r"^(encoder\.layer|layers)\.", "blocks."),
        *_HF_EMBEDDINGS,
        (r"^embeddings\.register_tokens$", "register_tokens"),
        *_HF_ATTENTION,
        (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
        (r"\.mlp\.weights_in\.", ".mlp.fc1."),
        (r"\.mlp\.weights_out\.", ".mlp.fc2."),
        (r"\.mlp\.gate_proj\.", ".mlp.fc1_gate."),
        (r"\.mlp\.up_proj\.", ".mlp.fc1_up."),
        (r"\.mlp\.down_proj\.", ".mlp.fc2."),
    ),
)
DINOV2 = Layout(
    name="dinov2",
    signature=r"mask_token|register_tokens|blocks\.\d+\.\d+\.norm1\.weight|blocks\.\d+\.mlp\.w12\.weight",
    drops=r"mask_token$|(dino_head|ibot_head)\.",
    renames=(
        (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),  # block_chunks counts through, chunk by chunk
        (r"\.mlp\.w12\.", ".mlp.fc1."),
        (r"\.mlp\.w3\.", ".mlp.fc2."),
    ),
)
TIMM = Layout(
    name="timm",
    signature=r"patch_embed\.proj\.weight",
)
LAYOUTS = (CONCH, OPEN_CLIP, OPEN_CLIP_TIMM, HF_CLIP, HF_SIGLIP, HF_VIT, HF_DINOV2, DINOV2, TIMM)
"""In the order of trial: what has timm's names and something more is not timm's."""

TEXT_SIGNATURES = (
    r"(bert\.)?embeddings\.word_embeddings\.weight",
    r"token_embedding\.weight",
    r"model\.embed_tokens.*",
)
"""Tensors of models of text; where one is found and no image tower, the error says so."""


def recognise(names: Mapping[str, Tensor]) -> Layout | None:
    """Returns the layout of a checkpoint, or None."""
    for layout in LAYOUTS:
        if any(re.fullmatch(layout.signature, name) for name in names):
            return layout
    return None


def unwrapped(content: Mapping[str, object]) -> Mapping[str, object]:
    """Takes off what training code puts around a state: a mapping of its own, a prefix of every name."""
    for wrapper in ("model", "state_dict", "teacher"):
        if isinstance(inner := content.get(wrapper), Mapping):
            content = inner
    for prefix in ("module.", "_orig_mod.", "backbone."):
        if any(name.startswith(prefix) for name in content):
            content = {name.removeprefix(prefix): value for name, value in content.items()}
    return content


def to_tower_names(state: Mapping[str, Tensor], layout: Layout, *, splits_qkv: bool) -> State:
    """Renames the tensors of a checkpoint to those of the tower: timm's names, and ``projection.``.

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
    """Lays several projections one below the other, in the order of ``parts``; incomplete ones stay as they are."""
    result, found = dict(state), {}
    for name, tensor in state.items():
        if match := re.fullmatch(pattern, name):
            parent, part, kind = match.groups()
            found.setdefault((parent, kind), {})[part] = (name, tensor)
    for (parent, kind), pieces in found.items():
        if pieces.keys() == set(parts):
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
    for kind in ("weight", "bias"):
        if (fused := result.pop(f"attn_pool.qkv.{kind}", None)) is not None:
            width = len(fused) // 3
            result[f"attn_pool.q.{kind}"] = fused[:width].clone()
            result[f"attn_pool.kv.{kind}"] = fused[width:].clone()
    return result
