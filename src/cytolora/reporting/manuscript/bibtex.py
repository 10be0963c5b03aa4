"""BibTeX from citations as the registries hold them.

``Hu et al. 2021, Title, Venue`` or ``Hu, Shen: Title. Venue 2021.``, several parted by semicolons.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

_SHORT = re.compile(r"(?P<authors>[^,:]+?) et al\.? (?P<year>\d{4}), (?P<title>.+), (?P<venue>[^,]+)")
_LONG = re.compile(r"(?P<authors>[^:]+): (?P<title>.+?[^.A-Z])[.] (?P<venue>.+)")
_YEAR = re.compile(r"\b(?:19|20)\d{2}\b")
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_DOI = re.compile(r"doi:(10\.\S+?)(?=[.;,]?(?:\s|$))")
_FURTHER = re.compile(r"; (?:images of )?(?=[^;]+? et al\.? \d{4},|[^;:]+, et al\.: )")
_LETTERS = ("", *"bcdefghijklmnopqrstuvwxyz")
_SPECIAL = re.compile(r"([&%$#_{}])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A work that is cited."""

    authors: tuple[str, ...]
    """Family names; the last is ``others`` where not all are told."""
    title: str
    venue: str
    year: str
    """Empty where it is not told."""
    text: str
    """As it was read."""

    @property
    def key(self) -> str:
        """First author, year and first long word of the title, in plain letters: ``hu2021lora``."""
        words = [_plain(word) for word in self.title.split()]
        long = next((word for word in words if len(word) > 3), "")
        return f"{_plain(self.authors[0])}{self.year}{long}" if self.authors else f"{self.year}{long}"

    def to_bibtex(self, key: str) -> str:
        """Returns the entry: an article, or ``misc`` for a preprint or what has no journal."""
        preprint, doi = _ARXIV.search(self.venue), _DOI.search(self.venue)
        fields = {
            "author": " and ".join(f"{{{_escaped(one)}}}" if " " in one else _escaped(one) for one in self.authors)
        }
        fields["title"] = f"{{{_escaped(self.title)}}}"
        fields["year"] = self.year
        if preprint:
            fields |= {"eprint": preprint[1], "archiveprefix": "arXiv"}
        if doi:
            fields["doi"] = doi[1]
        rest = _DOI.sub("", _ARXIV.sub("", self.venue)).strip(" .,;")
        is_article = bool(rest) and not rest.startswith("http")
        if rest:
            fields["journal" if is_article else "howpublished"] = _escaped(rest)
        body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items() if value)
        return f"@{'article' if is_article else 'misc'}{{{key},\n{body}\n}}\n"


def read_citation(text: str) -> list[Reference]:
    """Reads the works of a citation; what has neither form becomes one reference whose title is all of it."""
    return [_read(part.strip()) for part in _FURTHER.split(text) if part.strip()]


def _read(text: str) -> Reference:
    if found := _SHORT.fullmatch(text):
        authors = (found["authors"], "others")
        return Reference(authors=authors, title=found["title"], venue=found["venue"], year=found["year"], text=text)
    if found := _LONG.fullmatch(text):
        names = [name.strip() for name in found["authors"].split(",")]
        authors = tuple("others" if name == "et al." else name for name in names)
        years = _YEAR.findall(_ARXIV.sub("", _DOI.sub("", found["venue"])))
        venue = re.sub(rf",? \(?{years[-1]}\)?[.]?$", "", found["venue"]) if years else found["venue"]
        return Reference(authors=authors, title=found["title"], venue=venue, year=years[-1] if years else "", text=text)
    return Reference(authors=(), title=text, venue="", year="", text=text)


def to_bibtex(references: Iterable[Reference]) -> str:
    """Returns a file of entries, each work once, in the order of their keys; UTF-8.

    Of two works with one key the second has a ``b`` behind it, and so on.
    """
    entries = []
    for key, found in groupby(sorted(set(references), key=lambda one: (one.key, one.text)), key=lambda one: one.key):
        entries += [one.to_bibtex(key + letter) for one, letter in zip(found, _LETTERS, strict=False)]
    return "\n".join(entries)


def _plain(word: str) -> str:
    ascii_only = unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]", "", ascii_only.lower())


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)
