"""Frozen and adapted features of a dataset: the backbone as it is, and as a bundle has adapted it; both are cached."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float32
from torch import Tensor

from cytolora.classifier.inference.classifier import Classifier
from cytolora.config.run import Preprocess
from cytolora.core.files import canonical_json, sha256_text
from cytolora.data.imaging.cache import PixelCache
from cytolora.data.manifest import Manifest
from cytolora.models.checkpoints.loading import load_encoder
from cytolora.models.encoder import Encoder
from cytolora.models.kernels.cpu import for_inference
from cytolora.training.features import chunks
from cytolora.training.session import Session, recipe_of

FROZEN, ADAPTED = "frozen", "adapted"


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """One way to turn images into features."""

    kind: str
    """``frozen`` or ``adapted``."""
    encoder: Callable[[], Encoder]
    """Not called while all features are cached."""
    preprocess: Preprocess
    recipe: str
    """With ``weights_sha256``, names the features in the cache."""
    weights_sha256: str

    def features(
        self,
        manifest: Manifest,
        cache: Path,
        device: torch.device,
        on_images: Callable[[int], None],
        *,
        pixels: PixelCache | None = None,
    ) -> Float32[Tensor, "images features"]:
        """Returns the features of all images of a manifest, in its order.

        Args:
            pixels: Holds images that were looked at; None: nobody has.
        """
        parts = chunks(
            self.encoder,
            manifest,
            self.preprocess,
            recipe=self.recipe,
            weights_sha256=self.weights_sha256,
            pixels=pixels or PixelCache(cache / "pixels", manifest.root, manifest.decoding),
            cache=cache / "features",
            device=device,
            on_images=on_images,
        )
        return torch.cat([part.features for part in parts])


def of_session(session: Session) -> tuple[Encoding, ...]:
    """Returns the frozen encoder of a session."""
    backbone = session.backbone
    frozen = Encoding(
        kind=FROZEN,
        encoder=lambda: session.inference_encoder,
        preprocess=backbone.preprocess,
        recipe=session.recipe,
        weights_sha256=session.inputs.weights_sha256(backbone.name),
    )
    return (frozen,)


def of_bundle(bundle: Classifier) -> tuple[Encoding, ...]:
    """Returns the backbone of a bundle before and after its adaptation; once where it adapts nothing.

    Features are those that it predicts with: frozen ones in the precision that it is open in.
    """
    backbone, device, files = bundle.backbone, bundle.device, bundle.contents.files
    frozen = Encoding(
        kind=FROZEN,
        encoder=lambda: for_inference(
            load_encoder(backbone, bundle.checkpoint(), trust_weights=True), device, bundle.precision
        ),
        preprocess=backbone.preprocess,
        recipe=recipe_of(backbone, bundle.precision),
        weights_sha256=bundle.contents.backbone.sha256,
    )
    if bundle.contents.adapter is None:
        return (frozen,)
    trained = sha256_text(canonical_json({name: files[name] for name in sorted(files) if name.endswith("safetensors")}))
    adapted = Encoding(
        kind=ADAPTED,
        encoder=lambda: for_inference(bundle.classifier().encoder, device),
        preprocess=backbone.preprocess,
        recipe=f"{backbone.recipe}, {bundle.contents.method} {trained}",
        weights_sha256=bundle.contents.backbone.sha256,
    )
    return frozen, adapted
