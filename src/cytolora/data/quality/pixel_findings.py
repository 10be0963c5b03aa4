"""Findings of decoded images: small value range, no content, colour profiles, classes recorded in another way."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from cytolora.config.reading import Decoding
from cytolora.core.findings import Finding, finding, first
from cytolora.data.imaging.findings import Cases, blank, is_small, profiles, small_range
from cytolora.data.manifest import Sample
from cytolora.data.quality.scan import ImageRecord

_DARK = 0.25 * 255
"""Mean below which an image counts as dark, levels of 255."""
_ALMOST_ALL, _ALMOST_NONE = 0.9, 0.1
"""Shares of the images of one class, and of all others, between which a class differs from the others."""
_MIN_IMAGES = 3
"""Of a class, below which its images say nothing about it, and of all others."""

_LOSSY = ("JPEG", "MPO", "WEBP")

_MIN_EDGE_PX = 8
"""Of an image, below which one colour is no surprise."""

Looked = Sequence[tuple[Sample, ImageRecord]]


def pixel_findings(looked: Looked, decoding: Decoding) -> tuple[Finding, ...]:
    """Returns what is odd in the pixels of images that were read."""
    with_profile = _cases(sample.path for sample, one in looked if one.has_profile)
    return (*_small_range(looked, decoding), *_blank(looked), *profiles(with_profile), *_classes(looked))


def _small_range(looked: Looked, decoding: Decoding) -> Iterator[Finding]:
    small = [(sample.path, one.used_share or 0.0) for sample, one in looked if is_small(one.used_share)]
    yield from small_range(_cases(path for path, _ in small), max((share for _, share in small), default=0.0), decoding)


def _blank(looked: Looked) -> Iterator[Finding]:
    yield from blank(
        _cases(
            sample.path
            for sample, one in looked
            if not (one.has_content or is_small(one.used_share)) and min(one.size) >= _MIN_EDGE_PX
        )
    )


def _cases(names: Iterable[str]) -> Cases:
    cases = Cases()
    for name in names:
        cases.add(name)
    return cases


def _classes(looked: Looked) -> Iterator[Finding]:
    """Names classes whose images almost all have what almost no others have: a conversion, format, size, darkness."""
    by_class: defaultdict[str, list[ImageRecord]] = defaultdict(list)
    for sample, one in looked:
        by_class[sample.label].append(one)
    if len(by_class) < 2:
        return
    texts: dict[str, list[str]] = defaultdict(list)
    for colours in sorted({one.colours for _, one in looked}):
        for label in _different(by_class, lambda one, kind=colours: one.colours == kind):
            formats = ", ".join(sorted({one.format for one in by_class[label] if one.colours == colours}))
            texts[label].append(f"{colours or 'plain 8-bit RGB'} ({formats})")
    for way in sorted({_compression(one) for _, one in looked}):
        for label in _different(by_class, lambda one, kind=way: _compression(one) == kind):
            texts[label].append(way)
    for size in {Counter(one.size for one in images).most_common(1)[0][0] for images in by_class.values()}:
        for label in _different(by_class, lambda one, same=size: one.size == same):
            texts[label].append(f"{size[0]} x {size[1]} px")
    for label in _different(by_class, lambda one: one.brightness < _DARK):
        mean = sum(one.brightness for one in by_class[label]) / len(by_class[label])
        texts[label].append(f"dark (mean {mean:.0f} of 255)")
    if texts:
        cases = [f"{label}: {', '.join(of)}" for label, of in sorted(texts.items())]
        text = f"Classes whose images were recorded in another way than the rest: {first(cases)}."
        yield finding("P109", text, count=len(cases), examples=cases)


def _compression(one: ImageRecord) -> str:
    """Names formats that leave traces in the pixels; all others give the same pixels."""
    return f"{one.format} compression" if one.format in _LOSSY else "lossless compression"


def _different(by_class: dict[str, list[ImageRecord]], has: Callable[[ImageRecord], bool]) -> list[str]:
    """Returns the classes of which almost all images have something that almost none of each other class has."""
    shares = {label: sum(map(has, images)) / len(images) for label, images in by_class.items()}
    sizes = {label: len(images) for label, images in by_class.items()}
    return [
        label
        for label, share in shares.items()
        if share >= _ALMOST_ALL
        and sizes[label] >= _MIN_IMAGES
        and sum(sizes.values()) - sizes[label] >= _MIN_IMAGES
        and all(other <= _ALMOST_NONE for name, other in shares.items() if name != label)
    ]
