"""Images of a folder without labels: every one below it, whatever sub-folder it stands in."""

from pathlib import Path

from cytolora.config.reading import STANDARD, Decoding
from cytolora.data.left_out import findings_of, other_files
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.layout import relative_path
from cytolora.data.walk import walk


def images_below(folder: Path, decoding: Decoding = STANDARD) -> Manifest:
    """Lists every image below a folder, without labels, groups, subsets or hashes; what is no image is a finding."""
    found = list(walk(folder))
    images = [one.path for one in found if one.kind == "image" and one.path.is_file()]
    left = [one for one in found if one.kind != "image"]
    return Manifest(
        name=folder.resolve().name,
        root=folder,
        classes=("",),
        samples=tuple(Sample(path=relative_path(path, folder), label="") for path in images),
        decoding=decoding,
        findings=(*findings_of(left, folder), *other_files(left, folder)),
    )
