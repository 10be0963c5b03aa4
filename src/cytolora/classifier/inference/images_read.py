"""Findings of the images that are predicted or evaluated, in batches and constant memory."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cytolora.classifier.inference.image_sources import BROKEN_LINK, UNREAD_FORMAT
from cytolora.config.reading import Decoding
from cytolora.core.findings import Finding
from cytolora.data.imaging.findings import ReadImages
from cytolora.data.imaging.pixels import CANNOT_READ
from cytolora.data.left_out import findings_of
from cytolora.data.walk import Found, Kind

if TYPE_CHECKING:
    from cytolora.classifier.inference.table import Seen

_KINDS: dict[str, Kind] = {UNREAD_FORMAT: "unread", BROKEN_LINK: "broken link"}
"""Of the walk, by code: a dataset leaves out what is a row with an error here."""


class ImagesRead:
    """Gathers the findings of predicted images: one a kind, with the code that `check` gives it."""

    def __init__(self, decoding: Decoding) -> None:
        self._read = ReadImages(decoding)
        self._left_out: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, batch: Iterable["Seen"]) -> None:
        """Notes some predicted images."""
        for seen in batch:
            one, how = seen.prediction, seen.decoded
            if one.error_code in _KINDS:
                self._left_out[one.error_code].append(one.name)
            elif one.error:
                self._read.not_read[one.error_code or CANNOT_READ].add(one.name)
            elif how is not None:
                self._read.add(
                    one.name,
                    conversion=how.conversion,
                    used_share=how.used_share,
                    has_profile=how.has_profile,
                    is_blank=one.is_blank,
                )

    def findings(self) -> list[Finding]:
        """Returns the findings so far."""
        left = [Found(path=Path(name), kind=_KINDS[code]) for code, names in self._left_out.items() for name in names]
        return [*self._read.findings(), *findings_of(left, Path())]
