"""Text towers (extra ``text``): class prompts to embeddings, cached on disk, so that training needs no such tower.

The text half of a checkpoint lies in the same file as the image half; it is read with the same strictness.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from cytolora.errors import ConfigError, WeightsError
from cytolora.files import canonical_json, sha256_file, sha256_text, write_bytes
from cytolora.models.backbone_spec import BackboneSpec, TextSpec
from cytolora.models.checkpoint import read_state
from cytolora.models.formats import State, joined

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


@dataclass(frozen=True, kw_only=True)
class ClassText:
    """What a text tower says of the classes; all that training needs of it."""

    embeddings: Tensor
    """float32 [classes, width], each of length 1: the mean over a class's prompts."""
    logit_scale: float
    """The checkpoint's own factor from cosine to logit."""

    def state(self) -> State:
        """Names its tensors as they are stored."""
        return {"text.embeddings": self.embeddings, "text.logit_scale": torch.tensor(self.logit_scale)}

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> "ClassText":
        """Reads what ``state`` gave."""
        return cls(embeddings=state["text.embeddings"], logit_scale=float(state["text.logit_scale"]))


class TextTower(nn.Module):
    """Maps prompts to embeddings in the space of the image tower's projected features."""

    def __init__(self, text: TextSpec, projection: int, vocabulary: Path | None) -> None:
        super().__init__()
        self.logit_scale = 1.0
        if text.kind == "clip":
            self.encoder, self._tokenise = _clip_encoder(text, projection)
        else:
            self.encoder, self._tokenise = _bert_encoder(text, projection, vocabulary)

    @torch.inference_mode()
    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Returns embeddings [prompts, width], not normalised."""
        return self.encoder(self._tokenise(list(prompts)))


def load_text_tower(spec: BackboneSpec, weights: Path, vocabulary: Path | None = None) -> TextTower:
    """Builds the text tower of a checkpoint, frozen, in evaluation mode.

    Args:
        weights: The official file, image and text together.
        vocabulary: The file ``vocab.txt``, for towers that need one.

    Raises:
        ConfigError: If the backbone has no text tower, or the extra ``text`` is not installed.
        WeightsError: If the file does not hold exactly the tensors of this text tower.
    """
    if spec.text is None or spec.projection is None:
        raise ConfigError(f"{spec.name} has no text tower. Choose one that has, clip-vit-b16 say.")
    tower = TextTower(spec.text, spec.projection, vocabulary)
    state = read_state(weights)
    named = _clip_state(state) if spec.text.kind == "clip" else _bert_state(state)
    expected = tower.encoder.state_dict()
    wrong = sorted(expected.keys() ^ named.keys()) or [k for k in sorted(named) if named[k].shape != expected[k].shape]
    if wrong:
        raise WeightsError(
            f"{weights} does not hold the text tower of {spec.name}: {len(wrong)} tensors do not fit, "
            f"first {wrong[0]}. Name the official file, which has image and text together."
        )
    if broken := [name for name in sorted(named) if not torch.isfinite(named[name]).all()]:
        raise WeightsError(f"{weights} holds NaN or infinity in {broken[0]} of its text tower. Fetch it again.")
    tower.encoder.load_state_dict(named, strict=True)
    if (scale := state.get("logit_scale")) is not None:
        tower.logit_scale = float(scale.float().exp())
    return tower.requires_grad_(False).eval()


def class_text(
    spec: BackboneSpec,
    weights: Path,
    prompts: Mapping[str, Sequence[str]],
    *,
    weights_sha256: str,
    cache: Path,
    vocabulary: Path | None = None,
) -> ClassText:
    """Returns one embedding a class, in the order of ``prompts``; a second call reads it from ``cache``.

    Args:
        prompts: Several wordings of every class; their embeddings are normalised, averaged and normalised again. Other
            wordings, weights or another vocabulary are kept in a file of their own.
    """
    if empty := [label for label, wordings in prompts.items() if not wordings]:
        raise ConfigError(f"Class {empty[0]!r} has no prompt. Give every class at least one.")
    words = vocabulary and vocabulary.is_file() and sha256_file(vocabulary)
    settings = asdict(spec.text) if spec.text else None
    recipe = [weights_sha256, settings, words or None, [list(texts) for texts in prompts.values()]]
    path = cache / f"{sha256_text(canonical_json(recipe))[:32]}.safetensors"
    kept = _read(path, len(prompts))
    if kept is not None:
        return kept
    tower = load_text_tower(spec, weights, vocabulary)
    rows = [F.normalize(F.normalize(tower.embed(texts), dim=-1).mean(dim=0), dim=-1) for texts in prompts.values()]
    text = ClassText(embeddings=torch.stack(rows).contiguous(), logit_scale=tower.logit_scale)
    write_bytes(path, save(text.state()))
    return text


def _read(path: Path, num_classes: int) -> ClassText | None:
    """Reads kept embeddings; None if there are none, or a damaged file, which is then made anew."""
    try:
        text = ClassText.of(load(path.read_bytes()))
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError):
        return None
    is_whole = text.embeddings.ndim == 2 and len(text.embeddings) == num_classes
    return text if is_whole and bool(torch.isfinite(text.embeddings).all()) else None


def zero_shot_logits(features: Tensor, text: ClassText) -> Tensor:
    """Returns scaled cosines [images, classes] of projected features [images, width] (Radford et al. 2021)."""
    return text.logit_scale * F.normalize(features, dim=-1) @ text.embeddings.to(features).T


def text_head(text: ClassText, features: Tensor) -> tuple[Tensor, Tensor]:
    """Returns weight [classes, width] and bias of a linear head that starts from the class names.

    The rows are the class embeddings, scaled so that logits of features as long as ``features`` are on average those of
    ``zero_shot_logits``; the class with the largest logit is the same.
    """
    factor = text.logit_scale / features.norm(dim=-1).mean()
    return factor * text.embeddings.to(features), torch.zeros(len(text.embeddings)).to(features)


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
        raise WeightsError(f"No vocabulary at {vocabulary}: the text tower needs vocab.txt beside its weights.")
    config = BertConfig(
        vocab_size=text.vocab_size,
        hidden_size=text.width,
        num_hidden_layers=text.layers,
        num_attention_heads=text.heads,
        intermediate_size=text.mlp or 4 * text.width,
    )
    tokenizer = BertTokenizer(str(vocabulary), do_lower_case=True)

    def tokenise(prompts: list[str]) -> Any:
        return tokenizer(prompts, max_length=text.context_length, padding=True, truncation=True, return_tensors="pt")

    return _Bert(BertModel(config, add_pooling_layer=False), text.width, projection), tokenise


class _Bert(nn.Module):
    """BERT, its class token, and a projection of two layers, as in BiomedCLIP."""

    def __init__(self, transformer: nn.Module, width: int, projection: int) -> None:
        super().__init__()
        middle = (width + projection) // 2
        self.transformer = transformer
        self.proj = nn.Sequential(
            nn.Linear(width, middle, bias=False), nn.GELU(), nn.Linear(middle, projection, bias=False)
        )

    def forward(self, tokens: Mapping[str, Tensor]) -> Tensor:
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
    return ConfigError(f"Text towers need the extra `text` ({error.name} is missing): pip install 'cytolora[text]'.")
