"""Parity with the native library: pixels that an encoder is given, and features of equal pixels in float64."""

from collections.abc import Sequence
from math import inf, isnan
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf

from cytolora.classifier.trial.part import Part, judged
from cytolora.config.run import Preprocess
from cytolora.data.imaging.decode import Pixels
from cytolora.data.imaging.views import evaluation_view, to_batch, uncropped_view
from cytolora.errors import ConfigError
from cytolora.models.backbones.registry import BackboneSpec
from cytolora.models.checkpoints.loading import load_encoder
from cytolora.models.native.library import open_native
from cytolora.models.native.native import Native, View

PIXELS, FEATURES = "preprocessing", "features"
MAX_FEATURE_DIFFERENCE = 1e-6
"""Of the largest value, in float64: what is left is the rounding of the features to float32. One mistaken epsilon
(1e-6 for 1e-12) gives 2e-5, a mistaken activation 1e-2."""
MAX_LEVELS = 0.01
"""Of 255: normalised pixels differ by float32 rounding at most."""
_COLOURS = ((0, 0, 0), (255, 255, 255), (200, 90, 30))


def try_parity(spec: BackboneSpec, path: Path, images: Sequence[Pixels]) -> list[Part]:
    """Opens the checkpoint in its native library and compares preprocessing and features.

    Raises:
        ConfigError: If the library, or a configuration that it needs, is not here.
        WeightsError: If either side cannot load the checkpoint.
    """
    native = open_native(spec, path)
    ours = to_batch([evaluation_view(image, spec.preprocess) for image in images], spec.preprocess)
    theirs = None if native.view is None else [native.view(Image.fromarray(image)) for image in images]
    flat = 0.0 if native.view is None else _flat_levels(native.view, spec.preprocess)
    native.model.double()
    expected = _features(native.features, ours)
    if theirs is None:
        pixels = _no_view(native)
    else:
        moved = _features(native.features, torch.stack(theirs)) if _same_size(theirs, ours) else None
        pixels = _compare_pixels(spec, images, ours, theirs, _distance(moved, expected), flat)
    figures = {"library": native.library, "configuration": native.configuration}
    del native  # of the largest encoders, two copies in float64 do not fit
    encoder = load_encoder(spec, path, trust_weights=True).double()
    return [pixels, _compare_features(_features(encoder, ours), expected, figures)]


def _features(model: Any, batch: Float[Tensor, "images 3 size size"]) -> Float[Tensor, "images width"]:
    with torch.inference_mode():
        return torch.cat([model(image[None].double()).double() for image in batch])


def _same_size(views: Sequence[Tensor], ours: Tensor) -> bool:
    return all(view.shape == ours.shape[1:] for view in views)


def _distance(found: Tensor | None, expected: Tensor) -> float | None:
    """The largest difference of an image's features, as a share of its largest value."""
    if found is None or found.shape != expected.shape:
        return None
    return float(((found - expected).abs().amax(dim=1) / expected.abs().amax(dim=1)).max())


def _levels(one: Tensor, other: Tensor, preprocess: Preprocess) -> float:
    """The largest difference of two views, in levels of 255; not a number differs infinitely."""
    if one.shape != other.shape:
        return inf
    found = float(((one - other) * torch.tensor(preprocess.std).view(3, 1, 1) * 255).abs().max())
    return inf if isnan(found) else found


def _flat_levels(view: View, preprocess: Preprocess) -> float:
    """The largest difference on images of one colour, which no resizing changes: of mean, deviation and channels."""
    images = [np.full((preprocess.size_px, preprocess.size_px, 3), colour, np.uint8) for colour in _COLOURS]
    ours = to_batch([evaluation_view(image, preprocess) for image in images], preprocess)
    return max(_levels(view(Image.fromarray(image)), one, preprocess) for image, one in zip(images, ours, strict=True))


def _no_view(native: Native) -> Part:
    return Part(
        name=PIXELS,
        verdict="not possible",
        text=f"No configuration beside the weights says how {native.library} prepares images. Put the official one "
        "there (preprocessor_config.json, or timm's config.json).",
    )


def _compare_pixels(
    spec: BackboneSpec,
    images: Sequence[Pixels],
    ours: Tensor,
    theirs: Sequence[Tensor],
    effect: float | None,
    flat: float,
) -> Part:
    if effect is None:
        sizes = f"{tuple(theirs[0].shape)}, expected {tuple(ours.shape[1:])}"
        return judged(PIXELS, good=False, text=f"The native library gives views of {sizes}.", figures={})
    preprocess = spec.preprocess
    levels = [_levels(one, other, preprocess) for one, other in zip(ours, theirs, strict=True)]
    floored = [
        index
        for index, (image, view) in enumerate(zip(images, theirs, strict=True))
        if levels[index] > MAX_LEVELS and _levels(_floored(image, preprocess), view, preprocess) <= MAX_LEVELS
    ]
    others = [level for index, level in enumerate(levels) if level > MAX_LEVELS and index not in floored]
    figures = {
        "levels_of_255": [round(level, 3) for level in levels],
        "cut_one_pixel_off": len(floored),
        "feature_difference_through_it": effect,
    }
    if others and flat <= MAX_LEVELS and (reason := (spec.overrides or {}).get("resize")):
        text = f"{len(others)} of {len(levels)} images are resized otherwise, knowingly: {reason}."
        return judged(PIXELS, good=True, text=text, figures={**figures, "overridden": True})
    if others:
        text = f"{len(others)} of {len(levels)} images differ by up to {max(others):.1f} levels of 255, expected 0."
        return judged(PIXELS, good=False, text=text, figures=figures)
    text = f"{len(levels) - len(floored)} of {len(levels)} images equal"
    if floored:
        text += (
            f", {len(floored)} cut one pixel beside ours: the library floors the crop's offset, torchvision rounds it "
            f"(features differ by up to {effect:.1%})"
        )
    return judged(PIXELS, good=True, text=text + ".", figures=figures)


def _floored(pixels: Pixels, preprocess: Preprocess) -> Float[Tensor, "3 size size"]:
    """The view of a library that floors the offset of the centre crop."""
    resized, size = uncropped_view(pixels, preprocess), preprocess.size_px
    _, height, width = resized.shape
    cut = tvf.crop(resized, (height - size) // 2, (width - size) // 2, size, size)
    return to_batch([cut], preprocess)[0]


def _compare_features(found: Tensor, expected: Tensor, figures: dict[str, Any]) -> Part:
    distance = _distance(found, expected)
    if distance is None:
        text = f"Features are {found.shape[1]} wide, those of {figures['library']} {expected.shape[1]}."
        return judged(FEATURES, good=False, text=text, figures=figures)
    if not torch.isfinite(expected).all():
        raise ConfigError(f"{figures['library']} gives features that are no finite numbers. Fetch the file again.")
    return judged(
        FEATURES,
        good=distance <= MAX_FEATURE_DIFFERENCE,
        text=f"Differ from {figures['library']} by up to {distance:.1e} of the largest value, allowed "
        f"{MAX_FEATURE_DIFFERENCE:.0e} (float64, {len(found)} images).",
        figures={**figures, "difference": distance, "allowed": MAX_FEATURE_DIFFERENCE, "images": len(found)},
    )
