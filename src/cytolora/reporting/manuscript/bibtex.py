"""BibTeX from citations as the registries hold them.

``Hu et al. 2021, Title, Venue`` or ``Hu, Shen: Title. Venue 2021.``, several parted by semicolons.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, groupby
from string import ascii_lowercase

from cytolora.core.files import sha256_text
from cytolora.display.format import escape_latex

_SHORT = re.compile(r"(?P<authors>[^,:]+?) et al\.? (?P<year>\d{4}), (?P<title>.+), (?P<venue>[^,]+)")
_LONG = re.compile(r"(?P<authors>[^:]+): (?P<title>.+?[^.A-Z])[.] (?P<venue>.+)")
_YEAR = re.compile(r"\b(?:19|20)\d{2}\b")
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_DOI = re.compile(r"doi:(10\.\S+?)(?=[.;,]?(?:\s|$))")
_FURTHER = re.compile(r"; (?:images of )?(?=[^;]+? et al\.? \d{4},|[^;:]+, et al\.: )")


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
        """First author, year and first long word of the title, in plain letters: ``hu2021lora``.

        Of a text that has no plain letters, a hash. Works may share a key: see ``keys_of``.
        """
        words = [_plain(word) for word in self.title.split()]
        long = next((word for word in words if len(word) > 3), "")
        author = _plain(self.authors[0]) if self.authors else ""
        return f"{author}{self.year}{long}" or f"work{sha256_text(self.text)[:8]}"

    @property
    def work(self) -> tuple[str, str]:
        """Equal for two citations of one work, which may differ in venue and punctuation."""
        return self.key, _plain(self.title) or self.title

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
    return [_read(part.strip()) for part in _FURTHER.split(" ".join(text.split())) if part.strip()]


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


def keys_of(references: Iterable[Reference]) -> dict[tuple[str, str], str]:
    """Returns a key for each ``work``, no two the same: of two works with one key the second has a ``b`` behind it."""
    works = sorted({one.work for one in references})
    taken, keys = {key for key, _ in works}, dict[tuple[str, str], str]()
    for key, found in groupby(works, key=lambda one: one[0]):
        first, *others = found
        keys[first] = key
        for work in others:
            keys[work] = next(name for name in _with_letters(key) if name not in taken)
            taken.add(keys[work])
    return keys


def _with_letters(key: str) -> Iterator[str]:
    """Yields keyb, keyc, …, keyz, key2, key3, …"""
    yield from (key + letter for letter in ascii_lowercase[1:])
    yield from (f"{key}{number}" for number in count(2))


def to_bibtex(references: Iterable[Reference]) -> str:
    """Returns a file of entries, each work once, in the order of their keys (``keys_of``); UTF-8."""
    references = sorted(references, key=lambda one: one.text, reverse=True)
    keys, works = keys_of(references), {one.work: one for one in references}  # the first text of a work stays
    return "\n".join(works[work].to_bibtex(keys[work]) for work in sorted(works, key=keys.__getitem__))


def _plain(word: str) -> str:
    ascii_only = unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]", "", ascii_only.lower())


def _escaped(text: str) -> str:
    """Escapes what LaTeX would read; a brace stands for itself to BibTeX, which counts those behind a backslash too."""
    return escape_latex(text).replace(r"\{", r"{\textbraceleft}").replace(r"\}", r"{\textbraceright}")
