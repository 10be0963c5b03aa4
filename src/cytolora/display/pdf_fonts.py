"""Font subsets of PDF figures, cut without the tables of text layout.

A PDF holds placed letters. To read and prune the tables that place them takes longer than to cut the letters out.
"""

from collections.abc import Iterator
from contextlib import contextmanager

_LAYOUT = ("GDEF", "GPOS", "GSUB", "MATH", "kern")
_DEFAULT = "_drop_tables_default"
"""Attribute of ``Options``; matplotlib passes no others on. Where it is absent, the tables are embedded as well."""


@contextmanager
def letters_only() -> Iterator[None]:
    """Drops the tables of text layout from every font that is embedded within."""
    from fontTools.subset import Options  # comes with matplotlib; a quarter of a second that only PDFs need

    kept = getattr(Options, _DEFAULT, None)
    if kept is None:
        yield
        return
    setattr(Options, _DEFAULT, [*kept, *_LAYOUT])
    try:
        yield
    finally:
        setattr(Options, _DEFAULT, kept)
