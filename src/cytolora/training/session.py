"""Session: one dataset with one encoder, and the caches of decoded images and frozen features that its runs share."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from cytolora.config.run import AugmentSpec, FeaturePrecision, Preprocess, RunSpec
from cytolora.core.arguments import AnyPath, Converted, as_device, as_path
from cytolora.core.findings import Finding, mark
from cytolora.core.progress import Progress
from cytolora.core.text import counted
from cytolora.data.imaging.cache import PixelCache
from cytolora.data.manifest import Manifest, Sample, Split
from cytolora.models.adapters.attach import with_split_qkv
from cytolora.models.backbones.registry import BackboneSpec
from cytolora.models.checkpoints.hub import fetch_vocabulary, find_vocabulary
from cytolora.models.checkpoints.loading import load_encoder
from cytolora.models.encoder import Encoder
from cytolora.models.kernels.cpu import for_inference
from cytolora.models.kernels.int8 import check_int8
from cytolora.models.text.encoder import TextEncoder, load_text_encoder
from cytolora.training.features import Chunk, chunks, num_missing
from cytolora.training.group import NoTeam, Team
from cytolora.training.resources import Inputs

_View = tuple[Preprocess | None, AugmentSpec | None]
_COMPARED = "weights"


def recipe_of(backbone: BackboneSpec, precision: FeaturePrecision) -> str:
    """Names what, besides weights, preprocessing and image, decides a frozen feature: part of its key in the cache."""
    return backbone.recipe if precision == "fp32" else f"{backbone.recipe}, {precision}"


@dataclass(frozen=True, kw_only=True)
class Session:
    """One dataset and one backbone, read once for all runs that need them."""

    manifest: Manifest
    """Reduced to the images of ``given_split`` where there is one: with few shots most of train is not used."""
    backbone: BackboneSpec
    inputs: Inputs
    cache: Converted[AnyPath, Path] = Converted(as_path)
    """Folder that keeps decoded images and frozen features."""
    device: Converted[str | torch.device | None, torch.device] = Converted(as_device, None)
    progress: Progress = field(default_factory=Progress)
    dataset: str = ""
    """Name of the dataset in the grid; the manifest's if empty."""
    looked_at: PixelCache | None = None
    """Holds images of the manifest that were decoded to look at them; None: nobody has."""
    precision: FeaturePrecision = "fp32"
    """Of frozen features; what is trained starts from fp32 in any case."""
    given_split: Split | None = None
    """The one split of all runs, drawn elsewhere; None: the inputs draw that of each run."""
    team: Team = field(default_factory=NoTeam)
    """Other processes that train the adapter runs with this one."""
    encoders: dict[str, Encoder] = field(default_factory=dict)
    """The backbone's encoder as it is, with q, k and v apart, and for inference; may serve another dataset too."""
    proven: set[str] = field(default_factory=set)
    """Adapters that were shown to attach to this encoder, and ``weights``: its entry was compared."""
    scores_beside: dict[tuple[Any, ...], dict[str, Any]] = field(default_factory=dict)
    """Of nearest neighbours and nearest means, by what they depend on: seeds that draw the same images share them."""
    _other_features: dict[_View, dict[str, Tensor]] = field(default_factory=dict)
    """By path, for runs whose preset asks for other views."""

    def __post_init__(self) -> None:
        if self.precision == "int8":
            check_int8(self.device)
        if not self.dataset:
            object.__setattr__(self, "dataset", self.manifest.name)
        if (split := self.given_split) is not None:
            used = {sample.path for part in (split.train, split.val, split.test) for sample in part}
            samples = tuple(sample for sample in self.manifest.samples if sample.path in used)
            object.__setattr__(self, "manifest", replace(self.manifest, samples=samples))

    def split(self, run: RunSpec) -> Split:
        """Returns the images that a run sees."""
        return self.inputs.split(run) if self.given_split is None else self.given_split

    @property
    def encoder(self) -> Encoder:
        """The frozen encoder."""
        if "whole" not in self.encoders:
            self.progress.say(f"loading {self.backbone.name}")
            self._compare_entry()
            path = self.inputs.weights_path(self.backbone.name)
            self.encoders["whole"] = load_encoder(self.backbone, path, trust_weights=True)
        return self.encoders["whole"]

    @cached_property
    def text_encoder(self) -> TextEncoder:
        """The frozen text encoder of the backbone, for what trains through it; others read ``run_text``."""
        path, name = self.inputs.weights_path(self.backbone.name), self.backbone.name
        self.progress.say(f"loading the text encoder of {name}")
        vocabulary = find_vocabulary(self.backbone, path) or fetch_vocabulary(self.backbone)
        return load_text_encoder(self.backbone, path, vocabulary).to(self.device)

    @property
    def weight_findings(self) -> tuple[Finding, ...]:
        """What the configurations beside the weights say otherwise than the backbone's entry."""
        return self.inputs.weight_findings(self.backbone.name)

    def _compare_entry(self) -> None:
        """Compares entry and configurations before a feature is computed, or read from the cache; says it once."""
        if _COMPARED not in self.proven:
            self.proven.add(_COMPARED)
            for one in self.weight_findings:
                self.progress.say(f"{mark(one)} {one}")

    @property
    def split_encoder(self) -> Encoder:
        """The encoder with q, k and v apart: split once, so that all runs share its weights."""
        if "split" not in self.encoders:
            self.encoders["split"] = with_split_qkv(self.encoder)
        return self.encoders["split"]

    @property
    def inference_encoder(self) -> Encoder:
        """The encoder as it gives features fastest."""
        key = f"inference, {self.precision}"
        if key not in self.encoders:
            self.encoders[key] = for_inference(self.encoder, self.device, self.precision)
        return self.encoders[key]

    @property
    def recipe(self) -> str:
        """What, besides weights, preprocessing and image, decides a frozen feature."""
        return recipe_of(self.backbone, self.precision)

    @cached_property
    def pixels(self) -> PixelCache:
        """Decoded images."""
        return self.looked_at or PixelCache(self.cache / "pixels", self.manifest.root, self.manifest.decoding)

    @cached_property
    def features(self) -> Float32[Tensor, "images features"]:
        """Frozen features of every image of the manifest, in its order."""
        self.progress.say(
            f"{self.dataset}: features with {self.backbone.name}, {counted(len(self.manifest.samples), 'image')}"
        )
        return torch.cat([chunk.features for chunk in self.feature_chunks()])

    def num_missing_features(self, preprocess: Preprocess | None = None) -> int:
        """Counts images without cached features of evaluation views; ``preprocess``: the backbone's if None."""
        return num_missing(
            self.manifest,
            preprocess or self.backbone.preprocess,
            recipe=self.recipe,
            weights_sha256=self.inputs.weights_sha256(self.backbone.name),
            cache=self.cache / "features",
        )

    def feature_chunks(
        self,
        on_images: Callable[[int], None] | None = None,
        preprocess: Preprocess | None = None,
        augment: AugmentSpec | None = None,
    ) -> Iterator[Chunk]:
        """Yields frozen features some images at a time; loads the encoder only if some are not cached yet.

        Args:
            on_images: Told the number of images after every batch; if None, they are a step of the progress.
            preprocess: The backbone's own if None.
            augment: Yields features of the training images alone, one random view of each.
        """
        self._compare_entry()
        manifest = self.manifest
        if augment is not None:
            manifest = replace(manifest, samples=manifest.subset("train"))
        if on_images is None:
            of = "" if preprocess is None and augment is None else " of other views"
            text = f"{self.dataset}: features{of} with {self.backbone.name}"
            on_images = self.progress.counted(text, len(manifest.samples))
        return chunks(
            lambda: self.inference_encoder,
            manifest,
            preprocess or self.backbone.preprocess,
            augment=augment,
            recipe=self.recipe,
            weights_sha256=self.inputs.weights_sha256(self.backbone.name),
            pixels=self.pixels,
            cache=self.cache / "features",
            device=self.device,
            on_images=on_images,
        )

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {sample.path: row for row, sample in enumerate(self.manifest.samples)}

    def features_of(
        self, samples: Sequence[Sample], preprocess: Preprocess | None = None, augment: AugmentSpec | None = None
    ) -> Float32[Tensor, "images features"]:
        """Returns frozen features, float32 [images, feature_dim]; see ``feature_chunks``."""
        if preprocess is None and augment is None:
            return self.features[[self._rows[sample.path] for sample in samples]]
        if (preprocess, augment) not in self._other_features:
            self.progress.say(f"{self.dataset}: features of other views with {self.backbone.name}")
            self._other_features[preprocess, augment] = {
                sample.path: row
                for chunk in self.feature_chunks(preprocess=preprocess, augment=augment)
                for sample, row in zip(chunk.samples, chunk.features, strict=True)
            }
        features = self._other_features[preprocess, augment]
        return torch.stack([features[sample.path] for sample in samples])

    def labels_of(self, samples: Sequence[Sample]) -> Int64[Tensor, " images"]:
        """Returns class indices, int64 [images]."""
        index = {label: position for position, label in enumerate(self.manifest.classes)}
        return torch.tensor([index[sample.label] for sample in samples], dtype=torch.int64)

    def soft_labels_of(self, samples: Sequence[Sample]) -> Float32[Tensor, "images classes"] | None:
        """Returns the share of each class, 1 of a label that is all there is; None where no image has a soft one."""
        if not any(sample.shares for sample in samples):
            return None
        classes = self.manifest.classes
        rows = [dict(sample.shares) or {sample.label: 1.0} for sample in samples]
        return torch.tensor([[row.get(name, 0.0) for name in classes] for row in rows], dtype=torch.float32)
