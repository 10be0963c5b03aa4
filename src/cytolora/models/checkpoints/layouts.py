"""Checkpoint layouts of other libraries, each as a table of tensor names.

A layout is recognised by a tensor that only it has. What it holds besides the image encoder is named too, and dropped;
a tensor that no table knows stays in and makes the strict load fail.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How one library names the tensors of an image encoder."""

    name: str
    signature: str
    """Matches the whole name of a tensor that no other layout has."""
    drops: str = r"(?!)"
    """Matches names of tensors that are no part of the image encoder, from their beginning."""
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
HF_DINOV3 = Layout(
    name="hf_dinov3",
    signature=r"(model\.)?layer\.0\.layer_scale1\.lambda1",
    drops=r"embeddings\.mask_token$",
    renames=(
        (r"^(model\.)?layer\.", "blocks."),
        (r"^embeddings\.(cls_token)$", r"\1"),
        (r"^embeddings\.register_tokens$", "reg_token"),
        (r"^embeddings\.patch_embeddings\.", "patch_embed.proj."),
        *_HF_ATTENTION,
        (r"\.layer_scale([12])\.lambda1$", r".gamma_\1"),
        (r"\.mlp\.up_proj\.", ".mlp.fc1."),
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
LAYOUTS = (CONCH, OPEN_CLIP, OPEN_CLIP_TIMM, HF_CLIP, HF_SIGLIP, HF_VIT, HF_DINOV2, HF_DINOV3, DINOV2, TIMM)
"""In the order of trial: what has timm's names and something more is not timm's."""

TEXT_SIGNATURES = (r"(.*\.)?(word_embeddings|token_embedding|embed_tokens|wte)\.weight",)
"""Tensors of models of text; where one is found and no image encoder, the error says so."""
