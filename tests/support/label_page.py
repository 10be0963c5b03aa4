"""The labelling page in a test browser."""

import time
from typing import Any


def until(page: Any, condition: str) -> None:
    """Waits for a condition; the page's own policy forbids what Playwright would do (eval)."""
    ends = time.monotonic() + 300
    while not page.evaluate(condition):
        assert time.monotonic() < ends, condition
        page.wait_for_timeout(20)


def place_on_map(page: Any, cell: int) -> tuple[float, float]:
    """Returns where a cell is drawn in the window."""
    box = page.locator("#map").bounding_box()
    x, y = page.evaluate(f"[points.x[{cell}] * scale + shiftX, shiftY - points.y[{cell}] * scale]")
    return box["x"] + x, box["y"] + y


def show_map(page: Any) -> None:
    """Opens the map and waits until it is drawn."""
    page.keyboard.press("m")
    until(page, "points?.hasPlaces && numFrames > 0")


def lasso_around(page: Any, left: float, top: float, right: float, low: float) -> None:
    """Draws a lasso along a rectangle of the window."""
    page.mouse.move(left, top)
    page.keyboard.down("Shift")
    page.mouse.down()
    for x, y in ((right, top), (right, low), (left, low), (left, top)):
        page.mouse.move(x, y, steps=3)
    page.mouse.up()
    page.keyboard.up("Shift")
