"""Scan of image files: each is read and decoded once, for the audit, the check of seen images and what comes next."""

import hashlib
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cytolora.core.machine import num_cpus
from cytolora.data.imaging.cache import PixelCache
from cytolora.data.imaging.content import has_content
from cytolora.data.imaging.decode import decode_image, pixel_sha256, unreadable
from cytolora.data.imaging.room import one_image
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.quality.duplicates import Signature, signature
from cytolora.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """Values computed from an image's pixels, which are not held."""

    sha256: str
    """Of the file's bytes."""
    pixel_sha256: str
    signature: Signature
    """Perceptual hashes in eight orientations."""
    size: tuple[int, int]
    """Width and height, pixels."""
    conversion: str
    """How the file was converted to 8-bit RGB; empty where it was not."""
    colours: str = ""
    """The part of ``conversion`` that makes its colours."""
    format: str = ""
    """Of the file: ``PNG``, ``TIFF``, …"""
    used_share: float | None = None
    """Of an image of more than 8 bits, its highest value by that which becomes white."""
    has_profile: bool = False
    """Whether it carries a colour profile that was not applied."""
    has_content: bool = True
    """Whether it shows more than one colour or smooth light."""
    brightness: float = 0.0
    """Mean of all pixels and channels, 0 to 255."""


Records = dict[str, ImageRecord | DataError]
"""By path of the sample: its record, or why the file cannot be read as an image."""


def scan(
    manifest: Manifest,
    *,
    pixels: PixelCache | None = None,
    num_threads: int | None = None,
    on_image: Callable[[], None] = lambda: None,
) -> Records:
    """Reads and decodes every image of a manifest once; raises for nothing that an image can do.

    Args:
        pixels: Holds the decoded images in memory, as many as it has room for: these are not decoded again.
        on_image: Called after each image.
    """

    def record(sample: Sample) -> ImageRecord | DataError:
        try:
            with one_image():
                return _record(manifest, sample, pixels)
        except DataError as error:
            return error
        finally:
            on_image()

    with ThreadPoolExecutor(num_threads or num_cpus()) as pool:
        records = list(pool.map(record, manifest.samples))
    return {sample.path: record for sample, record in zip(manifest.samples, records, strict=True)}


def pixel_hash(record: ImageRecord | DataError) -> str:
    """Returns the pixel hash of an image; raises what kept it from being read."""
    if isinstance(record, DataError):
        raise record
    return record.pixel_sha256


def _record(manifest: Manifest, sample: Sample, pixels: PixelCache | None) -> ImageRecord:
    path = sample.file_in(manifest.root)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(str(path), error.strerror or "it cannot be opened") from error
    decoded = decode_image(io.BytesIO(content), str(path), decoding=manifest.decoding)
    values = decoded.pixels
    height, width, _ = values.shape
    sha256 = hashlib.sha256(content).hexdigest()
    if pixels is not None and sha256 == sample.sha256:
        pixels.hold(sample, values)
    return ImageRecord(
        sha256=sha256,
        pixel_sha256=pixel_sha256(values),
        signature=signature(values),
        size=(width, height),
        conversion=decoded.conversion,
        colours=decoded.colours,
        format=decoded.format,
        used_share=decoded.used_share,
        has_profile=decoded.has_profile,
        has_content=has_content(values),
        brightness=int(values.sum()) / values.size,  # the mean, in a third of its time
    )
