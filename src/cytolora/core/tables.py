"""Tables as values of a result: to pandas, and as HTML in a notebook."""

from collections.abc import Iterable, Sequence
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cytolora.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

MAX_ROWS = 20
"""Of a table in a notebook; the rest is counted in one line."""


def to_pandas(table: "pa.Table") -> Any:
    """Returns an Arrow table as a pandas DataFrame.

    Raises:
        ConfigError: If pandas is not installed.
    """
    try:
        import_module("pandas")
    except ImportError as error:
        raise ConfigError(
            "to_pandas() needs pandas, which is not installed: `pip install pandas`. to_arrow() needs nothing more."
        ) from error
    return table.to_pandas()


def html_table(
    header: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str = "", max_rows: int = MAX_ROWS
) -> str:
    """Returns an HTML table of at most ``max_rows`` rows; every text is escaped."""
    listed = list(rows)
    body = "".join(f"<tr>{_fields('td', row)}</tr>" for row in listed[:max_rows])
    more = len(listed) - max_rows
    rest = f"<tr><td colspan='{len(header)}'>and {more:,} more</td></tr>" if more > 0 else ""
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{above}<thead><tr>{_fields('th', header)}</tr></thead><tbody>{body}{rest}</tbody></table>"


def _fields(tag: str, values: Iterable[object]) -> str:
    return "".join(f"<{tag}>{escape(_text(value))}</{tag}>" for value in values)


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
