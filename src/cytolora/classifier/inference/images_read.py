"""Findings of the images that are predicted or evaluated, in batches and constant memory."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytolora.classifier.inference.image_sources import BROKEN_LINK, UNREAD_FORMAT
from cytolora.config.reading import Decoding
from cytolora.core.findings import Finding
from cytolora.data.imaging.decode import Decoded
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
            one = seen.prediction
            if one.error:
                self.add_error(one.name, one.error_code)
            elif seen.decoded is not None:
                self.add_read(one.name, seen.decoded, is_blank=one.is_blank)

    def add_error(self, name: str, code: str) -> None:
        """Notes an image that is a row with an error, by the error's code."""
        if code in _KINDS:
            self._left_out[code].append(name)
        else:
            self._read.not_read[code or CANNOT_READ].add(name)

    def add_read(self, name: str, how: Decoded, *, is_blank: bool = False) -> None:
        """Notes how an image was read."""
        self._read.add(
            name,
            conversion=how.conversion,
            used_share=how.used_share,
            has_profile=how.has_profile,
            is_blank=is_blank,
        )

    def plain(self) -> dict[str, Any]:
        """Returns all of it as plain data, for ``add_plain`` of another process."""
        return {"left_out": dict(self._left_out), "read": self._read.plain()}

    def add_plain(self, part: Mapping[str, Any]) -> None:
        """Adds what ``plain`` told of images that come after those so far."""
        for code, names in part["left_out"].items():
            self._left_out[code] += names
        self._read.add_plain(part["read"])

    def findings(self) -> list[Finding]:
        """Returns the findings so far."""
        left = [Found(path=Path(name), kind=_KINDS[code]) for code, names in self._left_out.items() for name in names]
        return [*self._read.findings(), *findings_of(left, Path())]
