"""Class text embeddings from prompts (extra ``text``), cached on disk, so that training needs no text encoder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from safetensors.torch import load, save
from torch import Tensor

from cytolora.core.cache_folder import CachedFiles
from cytolora.core.files import canonical_json, sha256_file, sha256_text
from cytolora.errors import ConfigError
from cytolora.models.backbones.spec import BackboneSpec
from cytolora.models.checkpoints.formats import State
from cytolora.models.text.encoder import is_scale, load_text_encoder

_LENGTHS = "text.lengths"
"""In the cache; not in files that were kept before heads read lengths."""


@dataclass(frozen=True, kw_only=True)
class ClassText:
    """Text embeddings of the classes; all that training needs of a text encoder."""

    embeddings: Float32[Tensor, "classes width"]
    """Rows of length 1: the mean over a class's prompts."""
    logit_scale: float
    """The checkpoint's own factor from cosine to logit."""
    lengths: Float32[Tensor, " classes"] | None = None
    """Of the mean over a class's prompts before it was scaled to length 1; None: not known, and taken as 1."""

    @property
    def unscaled(self) -> Float32[Tensor, "classes width"]:
        """The embeddings with the length that the text encoder gave them."""
        return self.embeddings if self.lengths is None else self.lengths.unsqueeze(1) * self.embeddings

    def state(self) -> State:
        """Names its tensors as they are stored beside a run."""
        return {"text.embeddings": self.embeddings, "text.logit_scale": torch.tensor(self.logit_scale)}

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> "ClassText":
        """Reads what ``state`` gave."""
        return cls(embeddings=state["text.embeddings"], logit_scale=float(state["text.logit_scale"]))


def class_text(
    spec: BackboneSpec,
    weights: Path,
    prompts: Mapping[str, Sequence[str]],
    *,
    weights_sha256: str,
    cache: Path,
    vocabulary: Path | None = None,
    fetch_vocabulary: Callable[[], Path | None] = lambda: None,
    with_lengths: bool = False,
) -> ClassText:
    """Returns one embedding a class, in the order of ``prompts``; a second call reads it from ``cache``.

    Args:
        prompts: Several wordings of every class; their embeddings are normalised, averaged and normalised again. Other
            wordings, weights or another vocabulary are kept in a file of their own.
        vocabulary: The vocabulary file of a text encoder that needs one, where it is on this machine.
        fetch_vocabulary: Called for it where it is not, and nothing is cached.
        with_lengths: Whether ``lengths`` are asked for: what was kept before there were any is then computed anew.
    """
    if empty := [label for label, wordings in prompts.items() if not wordings]:
        raise ConfigError(f"Class {empty[0]!r} has no prompt. Give every class at least one.")
    cached = cached_text(
        spec, prompts, weights_sha256=weights_sha256, cache=cache, vocabulary=vocabulary, with_lengths=with_lengths
    )
    if cached is not None:
        return cached
    vocabulary = vocabulary or fetch_vocabulary()
    encoder = load_text_encoder(spec, weights, vocabulary)
    embedded = [encoder.embed(texts) for texts in prompts.values()]
    rows = [F.normalize(F.normalize(each, dim=-1).mean(dim=0), dim=-1) for each in embedded]
    lengths = torch.stack([each.mean(dim=0).norm() for each in embedded])
    text = ClassText(embeddings=torch.stack(rows).contiguous(), logit_scale=encoder.logit_scale, lengths=lengths)
    name = f"{_stem(spec, prompts, weights_sha256)}{_of_vocabulary(vocabulary)}.safetensors"
    CachedFiles(cache).keep_if_possible(name, save({**text.state(), _LENGTHS: lengths}))
    return text


def cached_text(
    spec: BackboneSpec,
    prompts: Mapping[str, Sequence[str]],
    *,
    weights_sha256: str,
    cache: Path,
    vocabulary: Path | None = None,
    with_lengths: bool = False,
) -> ClassText | None:
    """Returns the cached result of ``class_text``, or None.

    Without a vocabulary on this machine, the one that was computed with any other, if there is just one.
    """
    stem = _stem(spec, prompts, weights_sha256)
    words = _of_vocabulary(vocabulary)
    files = [cache / f"{stem}{words}.safetensors"] if words else sorted(cache.glob(f"{stem}*.safetensors"))
    if len(files) != 1:
        return None
    text = CachedFiles(cache).read(files[0].name, lambda content: _decoded(content, len(prompts)))
    return None if text is not None and text.lengths is None and with_lengths else text


def _stem(spec: BackboneSpec, prompts: Mapping[str, Sequence[str]], weights_sha256: str) -> str:
    settings = asdict(spec.text) if spec.text else None
    recipe = [weights_sha256, settings, None, [list(texts) for texts in prompts.values()]]
    return sha256_text(canonical_json(recipe))[:32]


def _of_vocabulary(vocabulary: Path | None) -> str:
    return f"-{sha256_file(vocabulary)[:16]}" if vocabulary is not None and vocabulary.is_file() else ""


def _decoded(content: bytes, num_classes: int) -> ClassText:
    """Reads what ``class_text`` kept; a ValueError if it does not fit."""
    state = load(content)
    text = replace(ClassText.of(state), lengths=state.get(_LENGTHS))
    is_whole = text.embeddings.ndim == 2 and len(text.embeddings) == num_classes and is_scale(text.logit_scale)
    is_whole &= text.lengths is None or text.lengths.shape == (num_classes,)
    if not is_whole or not bool(torch.isfinite(text.unscaled).all()):
        raise ValueError("no embeddings of these classes")
    return text


def zero_shot_logits(features: Float[Tensor, "images width"], text: ClassText) -> Float[Tensor, "images classes"]:
    """Returns scaled cosines of projected features and class embeddings (Radford et al. 2021)."""
    return text.logit_scale * F.normalize(features, dim=-1) @ text.embeddings.to(features).T


def text_head(
    text: ClassText, features: Float[Tensor, "images width"]
) -> tuple[Float[Tensor, "classes width"], Float[Tensor, " classes"]]:
    """Returns weight and bias of a linear head that starts from the class names.

    The rows are the class embeddings, scaled so that logits of features as long as ``features`` are on average those of
    ``zero_shot_logits``; the class with the largest logit is the same.
    """
    factor = text.logit_scale / features.norm(dim=-1).mean()
    return factor * text.embeddings.to(features), torch.zeros(len(text.embeddings)).to(features)
