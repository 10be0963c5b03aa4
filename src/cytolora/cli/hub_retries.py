"""Retries of the hub's client: one line for a hub that does not answer, not two for each attempt."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

_CLIENT = "huggingface_hub.utils._http"
"""Logger of the requests; it is there before the client is loaded."""
_FAILED = re.compile(r"'?(?P<why>.*?)'? thrown while requesting [A-Z]+ (?P<url>\S+)", re.DOTALL)
_AGAIN = "Retrying in "


class _OneLine(logging.Filter):
    """Lets the first failure of each host through, in our words, and no other; what else is logged stays as it is."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is printed."""
        text = record.getMessage()
        if text.startswith(_AGAIN):
            return False
        failed = _FAILED.fullmatch(text)
        if failed is None:
            return True
        address = urlsplit(failed["url"])
        host = address.netloc.rpartition("@")[2]  # without a name and password
        if host in self._told:
            return False
        self._told.add(host)
        why = " ".join(failed["why"].split())
        record.msg, record.args = f"No answer from {host} ({why}): its client asks again for up to half a minute.", ()
        return True


@contextmanager
def one_line_of_retries() -> Iterator[None]:
    """Folds what the hub's client says of its retries within."""
    client, fold = logging.getLogger(_CLIENT), _OneLine()
    client.addFilter(fold)
    try:
        yield
    finally:
        client.removeFilter(fold)
