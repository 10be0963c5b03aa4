"""The labelling page in a test browser."""

import time
from typing import Any


def until(page: Any, condition: str) -> None:
    """Waits for a condition; the page's own policy forbids what Playwright would do (eval)."""
    ends = time.monotonic() + 300
    while not page.evaluate(condition):
        assert time.monotonic() < ends, condition
        page.wait_for_timeout(20)
