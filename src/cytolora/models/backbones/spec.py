"""Backbone specification: one frozen record of everything that a checkpoint decides; imports no torch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cytolora.config.run import Preprocess
from cytolora.core.files import canonical_json
from cytolora.core.schema import NAME, Check, check_fields, is_number, shown, whole
from cytolora.errors import ConfigError

Pool = Literal["cls", "mean_patch", "cls+mean", "timm", "query"]
"""cls: the class token after the last norm. mean_patch: the mean of the patch tokens after it. cls+mean: both, side by
side. timm: the architecture's own, where that has weights (SigLIP's attention pooling) or comes before the last norm
(timm's ``fc_norm``: BEiT, EVA-02 without CLIP), which the others then refuse. query: a learned query attends to the
tokens (CONCH)."""

Format = Literal[
    "timm", "open_clip", "open_clip_timm", "hf_clip", "hf_vit", "hf_dinov2", "hf_siglip", "dinov2", "conch"
]  # fmt: skip
"""How the official file names its tensors; a file in any other of these is recognised too (checkpoints/formats.py)."""


_REPO = Check(
    "OWNER/NAME of letters, digits and . _ -",
    lambda value: (
        isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", value))
    ),
)
_FILENAME = Check(
    "a path inside the repository",
    lambda value: NAME.is_right(value) and not {"", ".", ".."} & set(value.split("/")) and not set(value) & set(":\\"),
)
_WIDTH = whole(1, 65_536)
_LARGEST = {
    **{"depth": 200, "num_heads": 256, "embed_dim": 16_384, "img_size": 4096, "patch_size": 1024, "mlp_ratio": 64},
    **{"reg_tokens": 1024, "in_chans": 1024, "num_classes": 1_000_000},
}
_LARGEST_OTHER = 65_536
"""Numbers of ``arguments``: far above those of any encoder; larger ones build for hours and fill the memory."""
_MAX_ARGUMENTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """One file of one repository on the Hugging Face hub."""

    repo: str
    """Owner and name; upper and lower case matter."""
    filename: str
    revision: str | None = None
    """Commit, 40 hexadecimal digits; None where none is known: then the newest is taken, and its SHA-256 recorded."""

    def __post_init__(self) -> None:
        check_fields(self, {"repo": _REPO, "filename": _FILENAME, "revision": NAME})

    def __str__(self) -> str:
        return f"the file {self.filename} of {self.repo} on the hub"

    @property
    def url(self) -> str:
        """The page of the repository, where licences are accepted."""
        return f"https://huggingface.co/{self.repo}"


_LOADING = frozenset({"cache_dir", "checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay"})
"""Arguments of ``timm.create_model`` by which it opens or fetches files."""


def what_else_it_loads(architecture: str, arguments: Mapping[str, Any]) -> str:
    """Returns what building an encoder could open or fetch besides the checkpoint that was named; empty: nothing."""
    if not re.fullmatch(r"[A-Za-z0-9_.]+", architecture):
        return f"{architecture!r} is no plain name of a timm architecture; it might load something else."
    if strange := sorted(set(arguments) & _LOADING):
        return f"the backbone's argument {strange[0]!r} might load something else than the named checkpoint."
    return ""


def problem_in_arguments(arguments: Mapping[str, Any]) -> str:
    """Returns what keeps arguments of ``timm.create_model`` from building in reasonable time; empty: nothing."""
    if len(arguments) > _MAX_ARGUMENTS:
        return f"arguments are {_MAX_ARGUMENTS} at most, got {len(arguments):,}"
    for name, value in arguments.items():
        if name in _LOADING:
            continue  # refused by what_else_it_loads, with its reason
        values = value if isinstance(value, list | tuple) else [value]
        largest = _LARGEST.get(name, _LARGEST_OTHER)
        if len(values) > _MAX_ARGUMENTS or any(isinstance(one, Mapping | list | tuple) for one in values):
            return f"arguments: {name} is a text, a number or a short list of them, got {shown(value)}"
        if any(isinstance(one, int | float) and not (is_number(float(one)) and abs(one) <= largest) for one in values):
            return f"arguments: {name} is at most {largest:,}, got {shown(value)}"
    return ""


TEXT_PACKAGES = {"clip": "open_clip", "bert": "transformers"}
"""What a text encoder is built with, by its kind: the extra ``text``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSpec:
    """The text half of a checkpoint: the defaults are those of CLIP ViT-B."""

    kind: Literal["clip", "bert"] = "clip"
    width: int = 512
    heads: int = 8
    layers: int = 12
    mlp: int | None = None
    """Width inside a block; None: four times ``width``."""
    context_length: int = 77
    """Tokens of a prompt, at most."""
    vocab_size: int = 49408
    quick_gelu: bool = True
    vocabulary: HubFile | str | None = None
    """Words of a BERT: a file on the hub, or the name of one beside the weights; CLIP's come with open_clip."""

    def __post_init__(self) -> None:
        small = dict.fromkeys(("heads", "layers"), whole(1, 256))
        check_fields(self, {**small, "width": _WIDTH, "mlp": _WIDTH, "context_length": whole(1, 8192)})
        check_fields(self, {"vocab_size": whole(1, 1_000_000)})


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneSpec:
    """One checkpoint: what its file holds and how its images are prepared."""

    name: str
    architecture: str
    """timm model name, as in ``timm.create_model``."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of ``timm.create_model``; plain data. Besides timm's own: ``norm_eps``."""
    weights: Path | None = None
    """The checkpoint's file on disk; None where it is in the hub's cache, on the hub, or named with ``--weights``."""
    hub: HubFile | None = None
    """The official file."""
    format: Format = "timm"
    drops: tuple[str, ...] = ()
    """Prefixes of tensors in the file that are no part of the image encoder; any other extra tensor is an error."""
    resamples_positions: bool = False
    """The file's position embeddings are of another image size than ``size_px`` and are resampled, as in timm."""
    pool: Pool
    pool_width: int | None = None
    """Width of the pool ``query``."""
    projection: int | None = None
    """Width after the encoder's last linear map into the space shared with text; None: the encoder has none."""
    projection_bias: bool = False
    text: TextSpec | None = None
    """None: the checkpoint has no text encoder that is read here."""
    feature_dim: int | None = None
    """Width of a feature vector; checked against the encoder that is built. None: whatever it has."""
    preprocess: Preprocess
    reference_attention_bug: bool = False
    """Whether the paper's public code ran this backbone's adapters with a wrong attention."""
    licence: str
    gated: bool = False
    """The hub hands the file out only after its terms are accepted."""
    redistributable: bool | None = True
    """Whether weights derived from these may be passed on; None where the licence is not known."""
    citation: str = ""
    sources: tuple[str, ...] = ()
    """Where the facts above are published."""
    overrides: Mapping[str, str] | None = None
    """Facts in which the entry knowingly differs from the official configuration, with the reason and its source; by
    the names of ``checkpoints/neighbours.py``."""
    unverified: tuple[str, ...] = ()
    """Facts above that no source settles, in words; the entry is marked wherever it is listed."""
    description: str = ""

    def __post_init__(self) -> None:
        check_fields(self, {"name": NAME, "licence": NAME})
        check_fields(self, dict.fromkeys(("pool_width", "projection", "feature_dim"), _WIDTH))
        if wrong := problem_in_arguments(self.arguments):
            raise ConfigError(f"{wrong}.")

    @property
    def recipe(self) -> str:
        """What, besides weights, preprocessing and images, decides the features: two entries may share one file."""
        return canonical_json([self.architecture, dict(self.arguments), self.pool, self.projection])
