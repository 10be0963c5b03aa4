"""Manifests as rows of other programs' files: names, sizes and fields of images."""

from pathlib import Path

from cytolora.data.manifest import Manifest, Sample
from cytolora.errors import ConfigError


def names_below(manifest: Manifest, out: Path) -> list[tuple[str, Sample]]:
    """Returns every sample with its path as a file ``out`` names it: relative to the folder of ``out`` where the images
    are below that, else to the folder of the images.

    Raises:
        ConfigError: If the images are not in one folder.
    """
    strange = next((sample for sample in manifest.samples if sample.elsewhere), None)
    if strange is not None:
        raise ConfigError(
            f"{strange.path} is not in {manifest.root}: a file of labels names the images of one folder. Convert each "
            "dataset by itself."
        )
    above = prefix(manifest.root, out) or ""
    return [(f"{above}{sample.path}", sample) for sample in manifest.samples]


def prefix(root: Path, out: Path) -> str | None:
    """Returns what leads from the folder of ``out`` to the images below it; None where they are not below it."""
    try:
        below = root.resolve().relative_to(out.resolve().parent).as_posix()
    except ValueError:
        return None
    return "" if below == "." else f"{below}/"


def fields_of(sample: Sample) -> dict[str, str]:
    """Returns subset, group and metadata of a sample, those that are known."""
    known = {"subset": sample.subset, "group": sample.group, **dict(sample.metadata)}
    return {name: value for name, value in known.items() if value}


def size_of(file: Path) -> tuple[int, int]:
    """Returns width and height of an image in pixels, as it is read: upright."""
    from cytolora.data.imaging.decode import decode  # not when the list of datasets is loaded

    height, width = decode(file).shape[:2]
    return int(width), int(height)
