"""Labels outlive the server: killed at random moments, nothing is missing that the page showed as stored."""

import random
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from killed_server import KilledServer
from label_page import until

from cytolora.data.synthetic.dataset import write_synthetic
from cytolora.labelling.session import Labelling, create_project

TOKEN = "t" * 32
CLASSES = ("normal", "koilocytic", "lsil", "hsil", "glandular")
NUM_KILLS = 30
NUM_DRAWN, NUM_COPIES = 100, 20
NOTE_WHAT_IS_SHOWN = """() => {
  window.shown = [];
  const before = onStored;
  onStored = (item, answer) => {
    window.shown.push([item.body.cells, item.body.value, answer.left_out]);
    before(item, answer);
  };
}"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project of 2,000 cells, of which 100 differ."""
    write_synthetic(tmp_path / "drawn", num_images=NUM_DRAWN, num_slides=20, seed=0)
    rows = ["path,group"]
    for image in sorted((tmp_path / "drawn").rglob("*.png")):
        for copy in range(NUM_COPIES):
            path = Path(f"{image.parent.name}_{copy:02}") / image.name
            (tmp_path / "cells" / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, tmp_path / "cells" / path)
            rows.append(f"{path},{path.parent}")
    (tmp_path / "cells" / "manifest.csv").write_text("\n".join([*rows, ""]))
    return create_project(tmp_path / "cells", tmp_path / "project", classes=CLASSES)


def kill_at_random(server: KilledServer, draw: random.Random, page: Any, press: Any) -> None:
    """Presses keys until the server is killed at a moment that is drawn, and starts it again."""
    killer = threading.Timer(draw.uniform(0.02, 0.4), server.kill)
    killer.start()
    while killer.is_alive():
        press()
    killer.join()
    server.start()


@pytest.mark.slow
def test_every_label_that_was_shown_as_stored_outlives_kills_at_random_moments(folder: Path, tmp_path: Path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    draw, server = random.Random(0), KilledServer(folder, tmp_path / "cache", TOKEN)
    server.start()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(300_000)
        page.goto(f"http://127.0.0.1:{server.port}/?token={TOKEN}")
        page.locator("#cell .large img").wait_for()
        page.evaluate(NOTE_WHAT_IS_SHOWN)
        for _ in range(NUM_KILLS):
            kill_at_random(server, draw, page, lambda: page.keyboard.press(draw.choice("12345x")))
            if page.locator("#outbox").is_visible():
                page.click("#resend")
        page.keyboard.press("m")
        until(page, "points?.hasPlaces && numFrames > 0")
        box = page.locator("#map").bounding_box()
        corners = [(box["x"] + 3, box["y"] + 3), (box["x"] + box["width"] - 3, box["y"] + 3),
                   (box["x"] + box["width"] / 2, box["y"] + box["height"] - 3)]  # fmt: skip
        page.keyboard.down("Shift")
        page.mouse.move(*corners[0])
        page.mouse.down()
        for corner in corners[1:]:
            page.mouse.move(*corner, steps=3)
        page.mouse.up()
        page.keyboard.up("Shift")
        page.keyboard.press("4")
        server.kill()
        server.start()
        if page.locator("#outbox").is_visible():
            page.click("#resend")
        until(page, "!outbox.length && !isSending")
        shown = page.evaluate("shown")
        browser.close()
    server.kill()
    expected: dict[int, str] = {}
    for cells, value, left_out in shown:
        expected.update(dict.fromkeys([cell for cell in cells if cell not in (left_out or [])], value))
    project = Labelling(folder)
    missing = {cell: value for cell, value in expected.items() if project.label_of("reader 1", cell) != value}
    assert missing == {}
    assert len(shown) > NUM_KILLS
    assert any(len(cells) > 1 for cells, _, _ in shown)
    assert project.last_entry == len(shown)  # sent again or not, each is one entry
    project.close()
