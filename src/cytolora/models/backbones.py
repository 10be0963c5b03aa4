"""Which image towers exist, and every fact about each: source, architecture, pooling, preprocessing, licence."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from cytolora.config import read_spec
from cytolora.registry import Registry
from cytolora.specs import Preprocess

Pool = Literal["cls", "mean_patch"]
"""cls: the class token after the last norm. mean_patch: the mean of the patch tokens after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneSpec:
    """One checkpoint: what its file holds and how its images are prepared."""

    name: str
    architecture: str
    """timm model name, as in ``timm.create_model``."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of ``timm.create_model``; plain data."""
    weights: Path | None = None
    """The checkpoint's file on disk; None where it has to be fetched or named with ``--weights``."""
    pool: Pool
    preprocess: Preprocess
    licence: str
    description: str = ""


BACKBONES: Registry[BackboneSpec] = Registry("model")

NANO = BACKBONES.add(
    BackboneSpec(
        name="nano",
        architecture="vit_tiny_patch16_224",
        arguments={"img_size": 64, "patch_size": 8, "embed_dim": 128, "depth": 6, "num_heads": 4, "num_classes": 0},
        weights=Path(str(files("cytolora") / "weights" / "nano.safetensors")),
        pool="mean_patch",
        preprocess=Preprocess(
            size_px=64, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), resize="squash", interpolation="bilinear"
        ),
        licence="Apache-2.0",
        description="Built-in ViT of 1.2 M parameters, trained on drawn cells; for demos and tests, not for real ones.",
    )
)


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
    description: str = ""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  (read by pydantic; a slot cannot be annotated ClassVar)


def read_backbone_file(path: Path) -> BackboneSpec:
    """Reads a backbone of one's own from YAML; its weights' path is relative to the file.

    Raises:
        ConfigError: If a key is missing, unknown or has a wrong value.
    """
    entry = read_spec(path, _BackboneFile)
    return BackboneSpec(
        name=entry.name,
        architecture=entry.architecture,
        arguments=entry.arguments,
        weights=path.parent / entry.weights,
        pool=entry.pool,
        preprocess=entry.preprocess,
        licence=entry.licence,
        description=entry.description or f"From {path.name}.",
    )
