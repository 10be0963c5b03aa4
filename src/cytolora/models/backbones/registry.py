"""Backbone registry: the built-in encoder, the published ones of ``zoo``, and backbone files of users."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from cytolora.config.run import Preprocess
from cytolora.config.yaml import read_spec
from cytolora.core.arguments import AnyPath, as_path
from cytolora.core.registry import Registry
from cytolora.errors import ConfigError
from cytolora.models.backbones.spec import BackboneSpec, Format, HubFile, Pool, TextSpec, what_else_it_loads
from cytolora.models.backbones.zoo import clip, cytology, general, pathology

__all__ = [
    "BACKBONES",
    "NANO",
    "NANO_CLIP",
    "SHIPPED",
    "BackboneSpec",
    "Format",
    "HubFile",
    "Pool",
    "read_backbone_file",
]

BACKBONES: Registry[BackboneSpec] = Registry(
    "model", "Read it with --backbone-file, and give --model the name that stands in it."
)

_WEIGHTS = Path(str(files("cytolora.models.backbones") / "weights"))

NANO = BACKBONES.add(
    BackboneSpec(
        name="nano",
        architecture="vit_tiny_patch16_224",
        arguments={"img_size": 64, "patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3, "num_classes": 0},
        weights=_WEIGHTS / "nano.safetensors",
        pool="mean_patch",
        feature_dim=96,
        preprocess=Preprocess(
            size_px=64, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), resize="squash", interpolation="bilinear"
        ),
        licence="Apache-2.0",
        description="Built-in ViT of 0.47 M parameters, trained on drawn cells; for demos and tests, not real cells.",
    )
)

NANO_CLIP = BACKBONES.add(
    replace(
        NANO,
        name="nano-clip",
        weights=_WEIGHTS / "nano-clip" / "model.safetensors",
        format="open_clip_timm",
        text=TextSpec(
            kind="bert", width=64, heads=2, layers=2, context_length=48, vocab_size=76, vocabulary="vocab.txt"
        ),
        pool="cls",
        projection=64,
        feature_dim=64,
        description="Image encoder of nano and a small BERT, trained on drawn cells and their captions; for demos and "
        "tests, not real cells.",
    )
)

SHIPPED = (
    NANO,
    NANO_CLIP,
    *map(BACKBONES.add, (*clip.ENTRIES, *general.ENTRIES, *pathology.ENTRIES, *cytology.ENTRIES)),
)
"""Entries of this package, whose facts its tests prove; neither plug-ins nor backbone files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _BackboneFile:
    """What a user writes in ``--backbone-file``."""

    name: str
    architecture: str
    weights: str
    pool: Pool
    preprocess: Preprocess
    licence: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    drops: tuple[str, ...] = ()
    projection: int | None = None
    projection_bias: bool = False
    description: str = ""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  (read by pydantic; a slot cannot be annotated ClassVar)


def read_backbone_file(path: AnyPath) -> BackboneSpec:
    """Reads a backbone of one's own from YAML; its weights' path is relative to the file.

    Raises:
        ConfigError: If a key is missing, unknown or has a wrong value, or the encoder would load more than its weights.
    """
    path = as_path(path)
    entry = read_spec(path, _BackboneFile)
    if why := what_else_it_loads(entry.architecture, entry.arguments):
        raise ConfigError(f"{path}: {why} Name the file with `weights`, the architecture by timm's plain name.")
    return BackboneSpec(
        name=entry.name,
        architecture=entry.architecture,
        arguments=entry.arguments,
        weights=path.parent / entry.weights,
        drops=entry.drops,
        pool=entry.pool,
        projection=entry.projection,
        projection_bias=entry.projection_bias,
        preprocess=entry.preprocess,
        licence=entry.licence,
        redistributable=None,
        sources=(path.name,),
        description=entry.description or f"From {path.name}.",
    )
