"""Normal form of text: labels, groups and names of columns are equal where they look equal."""

import re
import unicodedata
from collections.abc import Callable, Iterable

_DASHES = "\\-\u00ad\u058a\u2010-\u2015\u2043\u2212\ufe58\ufe63\uff0d"
_SEPARATOR = re.compile(rf"[\s_{_DASHES}]+")
_BESIDE_A_LETTER = re.compile(r"(?<=[^\W\d_])-(?=\w)|(?<=\w)-(?=[^\W\d_])")
"""Not between digits, nor at an edge: 1-2 is not 12, and HPV- is not HPV."""


def normal(text: str) -> str:
    """Returns the text in NFC without invisible characters, with single blanks inside and none around."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(filter(_is_visible, unicodedata.normalize("NFC", text)))
    return " ".join(text.split())


def folded(text: str) -> str:
    """Returns what is left of a text where case, Unicode form, blanks, underscores and dashes do not count."""
    for _, fold in _FOLDS:
        text = fold(text)
    return text


def difference(one: str, other: str) -> str:
    """Says by what two texts of one ``folded`` form differ: ``case``, ``a blank``, …"""
    for name, fold in _FOLDS:
        if fold(one) == fold(other):
            return name
    needed = [name for name, _ in _FOLDS if _without(name, one) != _without(name, other)]
    return " and ".join(needed) or "spelling"


def counted(number: int, one: str, several: str = "") -> str:
    """Writes a number with its noun, or with the sentence that it begins: ``1 file is``, ``2 files are``.

    Args:
        several: What follows another number than 1; left out, ``one`` with an s.
    """
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def shown(text: str) -> str:
    """Quotes a text so that blanks, invisible characters and Unicode forms can be told apart."""
    return repr(text) if unicodedata.is_normalized("NFC", text) else ascii(text)


def is_utf8(text: str) -> bool:
    """Whether a text can be written: file names and JSON may hold halves of characters, which cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def matching(text: str, known: Iterable[str]) -> str | None:
    """Returns the known text that is meant: the very same, else the only one of the same normal form."""
    texts = list(known)
    if text in texts:
        return text
    same = [other for other in texts if normal(other) == normal(text)]
    return same[0] if len(same) == 1 else None


def _is_visible(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) not in ("Cf", "Cc")


def _one_blank(text: str) -> str:
    return " ".join(text.split())


def _composed(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _all_visible(text: str) -> str:
    return "".join(filter(_is_visible, text))


def _no_separators(text: str) -> str:
    return _BESIDE_A_LETTER.sub("", _SEPARATOR.sub("-", text.strip("_")))


_FOLDS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("an invisible character", _all_visible),
    ("a blank", _one_blank),
    ("Unicode form", _composed),
    ("case", str.casefold),
    ("a dash, underscore or blank", _no_separators),
)


def _without(name: str, text: str) -> str:
    for other, fold in _FOLDS:
        text = text if other == name else fold(text)
    return text
