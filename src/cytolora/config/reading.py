"""Choices that a user makes about reading a dataset, where its files leave one."""

from dataclasses import dataclass, field
from typing import Literal

from cytolora.config.components import CLOSED
from cytolora.config.groups_from import check_groups_from
from cytolora.errors import ConfigError

DECODE_VERSION = 2
"""Of the rules by which files become pixels (docs/data.md): raised by one where a rule changes pixels."""

Frame = int | Literal["middle", "sharpest", "max"]
"""One of several frames: its number from 0, the middle one, the sharpest, or the maximum over all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """Rules by which image files become 8-bit RGB; a bundle keeps those that it was trained with."""

    version: int = DECODE_VERSION
    """Of the rules; 1: those of bundles that name none."""
    frame: Frame | None = None
    """Which of several frames is read; None: a file with several is an error."""
    icc: Literal["ignore", "srgb"] = "ignore"
    """Embedded colour profiles are ignored, or converted to sRGB."""
    value_range: int | Literal["full", "used"] = "full"
    """What becomes white in images of more than 8 bits: the highest value of the bit depth, that of the bits that the
    dataset uses (4,095 for 12), or a value."""

    __pydantic_config__ = CLOSED

    def __post_init__(self) -> None:
        if not 1 <= self.version <= DECODE_VERSION:
            raise ConfigError(
                f"Pixels were read by rules of version {self.version}, and this version of cytolora knows 1 to "
                f"{DECODE_VERSION}. Open it with the version that wrote it."
            )
        is_number = isinstance(self.frame, int) and not isinstance(self.frame, bool) and self.frame >= 0
        if not (self.frame is None or is_number or self.frame in ("middle", "sharpest", "max")):
            raise ConfigError(f"frame is a number from 0, middle, sharpest or max, got {self.frame!r}.")
        if self.icc not in ("ignore", "srgb"):
            raise ConfigError(f"icc is ignore or srgb, got {self.icc!r}.")
        top = self.value_range
        is_top = isinstance(top, int) and not isinstance(top, bool) and 255 <= top <= 65535
        if not (is_top or top in ("full", "used")):
            raise ConfigError(f"value_range is full, used, or the highest value, 255 to 65,535; got {top!r}.")


STANDARD = Decoding()
VERSION_1 = Decoding(version=1)
"""Pillow as it reads by itself: rules of bundles that name none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """Reading of a dataset; the defaults read it as it stands."""

    group_column: str | None = None
    """Column of the table that names the patient, slide or field; None: ``group``."""
    subset_column: str | None = None
    """Column of the table that names train, val or test; None: ``subset``."""
    decoding: Decoding = field(default_factory=Decoding)
    """How image files become pixels."""
    groups_from: str | None = None
    """Groups of images that have none: ``names`` takes what their file names suggest, ``none`` refuses it, and a
    regular expression finds the group in the file name; None suspects only."""

    def __post_init__(self) -> None:
        if self.groups_from is not None:
            check_groups_from(self.groups_from)


AS_IT_STANDS = ReadOptions()
