"""Objects of a file of positions: cells, annotations, tiles and TMA cores, and the kind that the file says they are."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Unit = Literal["px", "um"]
Origin = Literal["slide", "bounds"]
"""What positions are counted from: the corner of level 0, or that of the scanned area, which MIRAX and some others name
in their properties, and which QuPath shows alone."""
Kind = Literal["cell", "annotation", "tile", "TMA core", "root object", ""]
"""The last is an object of which the file does not say what it is."""

_KINDS: Mapping[str, Kind] = {
    "cell": "cell",
    "detection": "cell",
    "pathcellobject": "cell",
    "pathdetectionobject": "cell",
    "annotation": "annotation",
    "pathannotationobject": "annotation",
    "tile": "tile",
    "pathtileobject": "tile",
    "tmacore": "TMA core",
    "tmacoreobject": "TMA core",
    "root": "root object",
    "rootobject": "root object",
    "pathrootobject": "root object",
    "image": "root object",
}
"""By QuPath's names, old and new, in lower case and without blanks and signs (PathObjectTypeAdapters of QuPath 0.4)."""
LEGACY_IDS = (
    "PathAnnotationObject",
    "PathCellObject",
    "PathDetectionObject",
    "PathRootObject",
    "PathTileObject",
    "TMACoreObject",
)
"""Ids of QuPath 0.2: the type of an object, equal for all cells; later versions still read it as such."""
TYPES = ("objectType", "object_type", "type")
"""Properties that name the type of an object in QuPath 0.3 and later, in the order in which it looks."""
_REGION_CROPS = 4
"""Edges of a crop that the outline of a cell may be wide; what is wider is a region that somebody drew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The centre of one cell."""

    id: str
    """As in the file, else the number of its row; unique."""
    x: float
    y: float
    unit: Unit = "px"
    """px: of level 0. um: micrometres."""
    origin: Origin = "slide"
    z: int | None = None
    """Focal plane, from 0, as QuPath counts; None where the file names none."""
    feature: Mapping[str, Any] | None = None
    """The feature of a GeoJSON, as it was read; None in a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The slide that positions are read for."""

    image: str
    """File name of the slide."""
    mpp: float
    """Micrometres per pixel of level 0."""
    crop_um: float
    """Edge of the crops."""

    def is_region(self, found: "SlideObject") -> bool:
        """Says whether an outline is too wide for a cell."""
        return found.edge_px * self.mpp > _REGION_CROPS * self.crop_um


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideObject:
    """One row or feature of a file of positions."""

    at: str
    """Its place in the file: feature 9, line 3."""
    kind: Kind = ""
    image: str = ""
    """Name of its image, where the file names one."""
    positions: tuple[Position, ...] = ()
    """Several of a MultiPoint; none where ``problem`` says why."""
    problem: str = ""
    edge_px: float = 0
    """The longer edge of its outline; 0 of a point, and where it is not known."""
    feature: Any = None
    """As it was read from a GeoJSON; None in a table."""
    num_inside: int = 0
    """Objects that QuPath nests in a cell (``childObjects``): parts of it, which stay there and are not predicted."""
    is_nested: bool = False
    """Whether it stood in ``childObjects`` of an annotation."""


def free_id(number: int, taken: Collection[str]) -> str:
    """Returns the id of an object that has none: its number, marked where another object is called so."""
    identity = str(number)
    while identity in taken:
        identity += "*"
    return identity


def kind_of(name: Any) -> Kind:
    """Returns the kind that a type is the name of; empty for any other text."""
    return _KINDS.get(re.sub(r"[^a-z]", "", str(name).casefold()), "")
