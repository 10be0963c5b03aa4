"""Sampling units: the group (patient, slide, field) of an image, or the image itself where its group is unknown."""

from collections.abc import Sequence
from typing import Literal

Unit = Literal["group", "image"]
"""Cells of one patient, slide or field resemble each other, so groups are resampled where they are known."""


def unit_kind(groups: Sequence[str | None]) -> Unit:
    """Returns what is resampled: groups as soon as one is known, else images."""
    return "group" if any(group is not None for group in groups) else "image"


def unit_names(groups: Sequence[str | None], images: Sequence[str]) -> list[str]:
    """Names the unit of each image, such that a group and an image of the same name are told apart.

    Args:
        groups: Patient, slide or field of each image; None where it is unknown.
        images: Names each image, as its path does.
    """
    return [
        f"image {image}" if group is None else f"group {group}" for group, image in zip(groups, images, strict=True)
    ]
