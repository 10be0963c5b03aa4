"""Findings of image files by code: one wording for every command that reads images."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cytolora.config.reading import Decoding
from cytolora.core.findings import Finding, finding, first
from cytolora.core.text import counted
from cytolora.data.imaging.samples import MIN_USED_SHARE

_NUM_KEPT = 10
"""Cases that are held; the rest is counted."""
NOT_READ = {
    "P101": "Files that cannot be read as images",
    "P104": "Images with several frames, and nothing says which is meant",
    "P106": "Images of which every pixel is transparent",
}
"""By code, files that do not become pixels."""
_CASES = ("_blank", "_small", "_profiles", "_converted")
_BLANK = "Images of one colour or smooth light, without a cell"


@dataclass(slots=True)
class Cases:
    """Counts cases and holds the first, whatever their number."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, case: str) -> None:
        """Counts one more."""
        self.count += 1
        if len(self.examples) < _NUM_KEPT:
            self.examples.append(case)

    def add_all(self, other: "Cases") -> None:
        """Counts the cases of another part in."""
        self.count += other.count
        self.examples = [*self.examples, *other.examples][:_NUM_KEPT]


def not_read(code: str, cases: Cases) -> Iterator[Finding]:
    """Yields the finding on files that do not become pixels, for one reason."""
    if cases.count:
        yield _named(code, NOT_READ[code], cases)


def blank(cases: Cases, *, are_referred: bool = False) -> Iterator[Finding]:
    """Yields the finding on images without content."""
    if cases.count:
        yield _named("P105", f"{_BLANK}{', which are referred' * are_referred}", cases)


def small_range(cases: Cases, largest: float, decoding: Decoding) -> Iterator[Finding]:
    """Yields the finding on images that use few of their values, at most a share of ``largest``; none where one chose.

    A range that was chosen (``--value-range``) is meant.
    """
    if cases.count and decoding.value_range in ("full", 65535):
        images = counted(cases.count, "image uses", "images use")
        depth = "its bit depth" if cases.count == 1 else "their bit depth"
        text = f"{images} at most {largest:.1%} of the values of {depth}: nearly black, {first(cases.examples)}."
        yield finding("P102", text, count=cases.count, examples=cases.examples)


def profiles(cases: Cases) -> Iterator[Finding]:
    """Yields the finding on colour profiles that are not applied."""
    if cases.count:
        yield _named("P107", "Images with a colour profile, which is not applied", cases)


def converted(kinds: Mapping[str, int], examples: Cases | None = None) -> Iterator[Finding]:
    """Yields the finding on images that are not plain 8-bit RGB, by how they are converted."""
    if kinds:
        words = "; ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
        cases = () if examples is None else examples.examples
        text = f"Images that are not 8-bit RGB: {words}."
        yield finding("P103", text, count=sum(kinds.values()), examples=cases)


def is_small(used_share: float | None) -> bool:
    """Whether an image uses so few of its values that it comes out nearly black."""
    return used_share is not None and used_share < MIN_USED_SHARE


def _named(code: str, what: str, cases: Cases) -> Finding:
    return finding(code, f"{what}: {cases.count}, {first(cases.examples)}.", count=cases.count, examples=cases.examples)


@dataclass(slots=True)
class ReadImages:
    """Findings of images that are read one after the other, in constant memory."""

    decoding: Decoding
    not_read: dict[str, Cases] = field(default_factory=lambda: {code: Cases() for code in NOT_READ})
    _blank: Cases = field(default_factory=Cases)
    _small: Cases = field(default_factory=Cases)
    _largest: float = 0.0
    _profiles: Cases = field(default_factory=Cases)
    _converted: Cases = field(default_factory=Cases)
    _kinds: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, *, conversion: str, used_share: float | None, has_profile: bool, is_blank: bool) -> None:
        """Notes one image that was read."""
        if is_small(used_share):
            self._small.add(name)
            self._largest = max(self._largest, used_share or 0.0)
        elif is_blank:
            self._blank.add(name)
        if has_profile:
            self._profiles.add(name)
        if conversion:
            self._converted.add(name)
            self._kinds[conversion] += 1

    def findings(self) -> list[Finding]:
        """Returns the findings of all images so far; those without content are referred."""
        return [
            *(one for code, cases in self.not_read.items() for one in not_read(code, cases)),
            *small_range(self._small, self._largest, self.decoding),
            *blank(self._blank, are_referred=True),
            *profiles(self._profiles),
            *converted(self._kinds, self._converted),
        ]

    def plain(self) -> dict[str, Any]:
        """Returns all of it as plain data, for ``add_plain`` of another process."""
        return {
            "not_read": {code: asdict(cases) for code, cases in self.not_read.items()},
            **{name: asdict(getattr(self, name)) for name in _CASES},
            "largest": self._largest,
            "kinds": dict(self._kinds),
        }

    def add_plain(self, part: Mapping[str, Any]) -> None:
        """Adds what ``plain`` told of images that come after those so far."""
        for code, cases in part["not_read"].items():
            self.not_read[code].add_all(Cases(**cases))
        for name in _CASES:
            getattr(self, name).add_all(Cases(**part[name]))
        self._largest = max(self._largest, part["largest"])
        self._kinds.update(part["kinds"])
