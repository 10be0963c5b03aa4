"""Text encoder of a checkpoint, loaded from the same file as the image encoder and as strictly."""

import copy
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cytolora.errors import ConfigError, WeightsError, missing_package, passing
from cytolora.models.backbones.spec import BackboneSpec, TextSpec
from cytolora.models.checkpoints.checkpoint import first_line, read_state
from cytolora.models.checkpoints.formats import State, joined, recognised

_HF_TO_OPEN_CLIP = (
    (r"^text_model\.embeddings\.token_embedding\.", "token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"\.self_attn\.([qkv])_proj\.", r".attn.\1_proj."),
    (r"\.self_attn\.out_proj\.", ".attn.out_proj."),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
)
_CLIP_TENSORS = r"(token_embedding|transformer|ln_final)\..*|positional_embedding|text_projection"


class TextEncoder(nn.Module):
    """Maps prompts to embeddings in the space of the image encoder's projected features."""

    def __init__(self, text: TextSpec, projection: int, vocabulary: Path | None) -> None:
        super().__init__()
        self.logit_scale = math.nan  # until a checkpoint is loaded
        self.context_length = text.context_length
        if text.kind == "clip":
            self.encoder, self.tokens = _clip_encoder(text, projection)
        else:
            self.encoder, self.tokens = _bert_encoder(text, projection, vocabulary)

    @torch.inference_mode()
    def embed(self, prompts: Sequence[str]) -> Float[Tensor, "prompts width"]:
        """Returns embeddings, not normalised."""
        return self.encoder(self.tokens(list(prompts)))

    def sharing_weights(self) -> "TextEncoder":
        """Returns a copy of the modules with the same weights: for changes that only add, or put modules elsewhere."""
        memo: dict[int, Any] = {id(tensor): tensor for tensor in (*self.parameters(), *self.buffers())}
        return copy.deepcopy(self, memo | {id(self.tokens): self.tokens})

    def num_words(self, text: str) -> int:
        """Counts the tokens of a text of any length, without the marks of start and end."""
        return len(self.tokens.encode(text))


def load_text_encoder(spec: BackboneSpec, weights: Path, vocabulary: Path | None = None) -> TextEncoder:
    """Builds the text encoder of a checkpoint, frozen, in evaluation mode.

    Args:
        weights: The official file, image and text together.
        vocabulary: The file ``vocab.txt``, for encoders that need one.

    Raises:
        ConfigError: If the backbone has no text encoder, or the extra ``text`` is not installed.
        WeightsError: If the file does not hold exactly the tensors of this text encoder.
    """
    if spec.text is None or spec.projection is None:
        raise ConfigError(f"{spec.name} has no text encoder. Choose one that has, clip-vit-b16 say.")
    encoder = TextEncoder(spec.text, spec.projection, vocabulary)
    try:
        state, _ = recognised(read_state(weights, spec.hub and str(spec.hub)))
    except ValueError as error:
        raise WeightsError(f"{weights} holds {error}. Name the official file of {spec.name}.") from error
    named = _text_state(spec, spec.text, weights, state)
    expected = encoder.encoder.state_dict()
    wrong = sorted(expected.keys() ^ named.keys()) or [k for k in sorted(named) if named[k].shape != expected[k].shape]
    if wrong:
        raise WeightsError(
            f"{weights} does not hold the text encoder of {spec.name}: {len(wrong)} tensors do not fit, "
            f"first {wrong[0]}. Name the official file, which has image and text together."
        )
    if broken := [name for name in sorted(named) if not torch.isfinite(named[name]).all()]:
        raise WeightsError(f"{weights} holds NaN or infinity in {broken[0]} of its text encoder. Fetch it again.")
    encoder.encoder.load_state_dict(named, strict=True)
    encoder.logit_scale = _logit_scale(weights, state)
    return encoder.requires_grad_(False).eval()


def is_scale(number: float) -> bool:
    """Whether a number can be a factor from cosine to logit."""
    return math.isfinite(number) and number > 0


def _logit_scale(weights: Path, state: Mapping[str, Tensor]) -> float:
    """Returns the factor from cosine to logit, of which a checkpoint holds the logarithm."""
    log_scale = state.get("logit_scale")
    if log_scale is None or log_scale.numel() != 1 or not log_scale.is_floating_point():
        shape = "none" if log_scale is None else f"{log_scale.dtype} {list(log_scale.shape)}"
        raise WeightsError(
            f"{weights} holds {shape} as logit_scale, expected one number: without it cosines are no logits. Name the "
            "official file, which has image and text together."
        )
    scale = float(log_scale.float().exp())
    if not is_scale(scale):
        raise WeightsError(
            f"{weights} holds logit_scale {log_scale.item():g}, whose exponential {scale:g} is no factor above 0. "
            "Fetch it again."
        )
    return scale


def _text_state(spec: BackboneSpec, text: TextSpec, weights: Path, state: Mapping[str, Tensor]) -> State:
    """Takes the text half out of a checkpoint, under the names of the encoder's encoder."""
    try:
        return _clip_state(state) if text.kind == "clip" else _bert_state(state)
    except (RuntimeError, TypeError, IndexError, ValueError, AssertionError) as error:  # shapes of no such encoder
        raise WeightsError(
            f"{weights} does not hold the text encoder of {spec.name}: its tensors have other shapes "
            f"({first_line(error)}). Name the official file, which has image and text together."
        ) from error


def _clip_encoder(text: TextSpec, projection: int) -> tuple[nn.Module, Any]:
    try:
        from open_clip import SimpleTokenizer
        from open_clip.transformer import QuickGELU, TextTransformer
    except ImportError as error:
        raise _not_installed(error) from error
    encoder = TextTransformer(
        context_length=text.context_length,
        vocab_size=text.vocab_size,
        width=text.width,
        heads=text.heads,
        layers=text.layers,
        mlp_ratio=(text.mlp or 4 * text.width) / text.width,
        output_dim=projection,
        act_layer=QuickGELU if text.quick_gelu else nn.GELU,
    )
    return encoder, SimpleTokenizer(context_length=text.context_length)


def _bert_encoder(text: TextSpec, projection: int, vocabulary: Path | None) -> tuple[nn.Module, Any]:
    try:
        from transformers import BertConfig, BertModel, BertTokenizer
    except ImportError as error:
        raise _not_installed(error) from error
    if vocabulary is None or not vocabulary.is_file():
        missing = f"No vocabulary at {vocabulary}: the text encoder needs vocab.txt beside its weights."
        raise passing(WeightsError(missing))
    config = BertConfig(
        vocab_size=text.vocab_size,
        hidden_size=text.width,
        num_hidden_layers=text.layers,
        num_attention_heads=text.heads,
        intermediate_size=text.mlp or 4 * text.width,
    )
    try:
        tokenizer = BertTokenizer(str(vocabulary), do_lower_case=True)
    except Exception as error:  # the tokenizer's reader, in Rust, raises no error of a kind of its own
        no_list = f"{vocabulary} is no list of words: {first_line(error)}. Fetch it again."
        raise passing(WeightsError(no_list)) from error
    if len(tokenizer) != text.vocab_size:
        other = f"{vocabulary} holds {len(tokenizer)} words, and the text encoder has {text.vocab_size}"
        raise passing(WeightsError(f"{other}: cut off, or of another model. Fetch it again."))

    tokens = _BertTokens(tokenizer, text.context_length)
    return _Bert(BertModel(config, add_pooling_layer=False), text.width, projection), tokens


class _BertTokens:
    """Tokens of prompts, padded to the longest."""

    def __init__(self, tokenizer: Any, context_length: int) -> None:
        self._tokenizer, self._context_length = tokenizer, context_length

    def __call__(self, prompts: list[str]) -> Any:
        return self._tokenizer(
            prompts, max_length=self._context_length, padding=True, truncation=True, return_tensors="pt"
        )

    def encode(self, text: str) -> list[int]:
        """Returns the tokens of one text, whole and without the marks of start and end, as CLIP's tokeniser does."""
        return self._tokenizer.encode(text, add_special_tokens=False, truncation=False)


class _Bert(nn.Module):
    """BERT, its class token, and a projection of two layers, as in BiomedCLIP."""

    def __init__(self, transformer: nn.Module, width: int, projection: int) -> None:
        super().__init__()
        middle = (width + projection) // 2
        self.transformer = transformer
        self.proj = nn.Sequential(
            nn.Linear(width, middle, bias=False), nn.GELU(), nn.Linear(middle, projection, bias=False)
        )

    def forward(self, tokens: Mapping[str, Tensor]) -> Float[Tensor, "prompts width"]:
        hidden = self.transformer(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        return self.proj(hidden.last_hidden_state[:, 0])


def _clip_state(state: Mapping[str, Tensor]) -> State:
    """Takes the text half out of an open_clip or a transformers file."""
    named = {name.removeprefix("text."): tensor for name, tensor in state.items()}
    if any(name.startswith("text_model.") for name in named):
        renamed: State = {}
        for name, tensor in named.items():
            for pattern, replacement in _HF_TO_OPEN_CLIP:
                name = re.sub(pattern, replacement, name)
            renamed[name] = tensor
        renamed = joined(renamed, r"(transformer\..*\.attn)\.([qkv])_proj\.(weight|bias)", "in_proj", "qkv")
        named = {name.replace(".attn.in_proj.", ".attn.in_proj_"): tensor for name, tensor in renamed.items()}
        if "text_projection.weight" in named:
            named["text_projection"] = named.pop("text_projection.weight").t().contiguous()
    return {name: tensor for name, tensor in named.items() if re.fullmatch(_CLIP_TENSORS, name)}


def _bert_state(state: Mapping[str, Tensor]) -> State:
    named = {name.removeprefix("text."): tensor for name, tensor in state.items() if name.startswith("text.")}
    named.pop("transformer.embeddings.position_ids", None)  # a constant that older transformers saved
    return named


def _not_installed(error: ImportError) -> ConfigError:
    return missing_package("Text encoders need", error.name or "open_clip", extra="text", error=error)
