"""The labelling page in a browser: keys, rows, lasso, what is not stored, two readers, access without a mouse."""

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import chromium
from fake_labelling import FakeLabelling
from label_page import lasso_around, place_on_map, show_map, until
from service import running

from cytolora.labelling.server import make_app

pytestmark = pytest.mark.slow
TOKEN = "t" * 32
QUEUE, CELL = "**/v1/queue?*", "**/v1/cells/*?*"
"""Requests that tests hold back."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@contextmanager
def opened(browser: Any, url: str, *, width: int = 1300, height: int = 900, **options: Any) -> Iterator[Any]:
    """A tab of its own with the page in it; a failing script fails the test."""
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    context.set_default_timeout(120_000)
    page = context.new_page()
    failed: list[str] = []
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto(f"{url}/?token={TOKEN}")
    page.locator("#cell .large img").wait_for()
    yield page
    context.close()
    assert failed == []


@contextmanager
def serving(project: Any, folder: Path) -> Iterator[str]:
    with running(make_app(project, folder, TOKEN)) as url:
        yield url


def stored(page: Any, count: int) -> None:
    """Waits until so many labels are shown as stored."""
    until(page, f"document.querySelectorAll('#recent .stored').length >= {count}")


def hold(page: Any, addresses: str) -> list[Any]:
    """Holds requests back, and returns those that have come so far."""
    held: list[Any] = []
    page.context.route(addresses, lambda route: held.append(route))
    return held


def release(page: Any, addresses: str, held: list[Any]) -> None:
    for route in held:
        route.continue_()
    page.context.unroute(addresses)


def open_grid(page: Any) -> None:
    """Opens the grid, and chooses the first cell."""
    page.keyboard.press("g")
    page.locator(".row .thumb").first.wait_for()
    page.keyboard.press("ArrowDown")


def wait_for_held(page: Any, held: list[Any], *texts: str) -> None:
    """Waits until a request with each text in its address is held back."""
    for _ in range(1_000):
        if all(any(text in route.request.url for route in held) for text in texts):
            return
        page.wait_for_timeout(20)
    raise AssertionError([route.request.url for route in held])


def test_a_reader_labels_by_keyboard_takes_back_and_goes_on(browser: Any, tmp_path: Path):
    project = FakeLabelling(folder=tmp_path)
    with serving(project, tmp_path) as url, opened(browser, url) as page:
        for key in ("1", "2", "x", "?"):
            page.keyboard.press(key)
        stored(page, 4)
        assert project.labels_of("reader 1") == {0: "normal", 1: "lsil", 2: "not a cell", 3: "unsure"}
        page.keyboard.press("u")
        until(page, "document.querySelector('.path')?.textContent.endsWith('00003.png')")
        assert 3 not in project.labels_of("reader 1")
        page.keyboard.press("y")
        until(page, "document.querySelector('#cell .now')?.textContent === 'You said: unsure.'")
        page.keyboard.press("ArrowLeft")
        until(page, "document.querySelector('#cell .now')?.textContent === 'You said: not a cell.'")
        page.keyboard.press("3")  # said otherwise
        stored(page, 5)
        assert project.labels_of("reader 1")[2] == "hsil"
        page.keyboard.press("ArrowLeft")
        until(page, "document.querySelectorAll('.history li').length === 2")
        page.click(".history summary")
        assert "reader 1: not a cell" in page.inner_text(".history li:first-of-type")
        page.keyboard.press("ArrowRight")
        page.click("#forecast summary")
        until(page, "document.querySelector('#forecast-text').textContent === 'With 200 labels about 85 %.'")
        page.evaluate("document.activeElement.blur()")  # Enter on what folds out folds it in
        until(page, "overview.classifier && current()?.probabilities")  # of a refit, without a reload
        page.keyboard.press("Enter")
        stored(page, 6)
        page.keyboard.press("z")
        assert "128 × 128 pixels" in page.inner_text("#zoom-text")
        page.keyboard.press("Escape")
        page.click("#finish")
        page.locator("#finished[open]").wait_for()
        assert "cytolora fit" in page.inner_text("#finished-command")
        assert (tmp_path / "labels.csv").read_text().count("\n") == len(project.labels_of(None)) + 1


def test_a_label_that_is_not_stored_is_said_to_be_so_and_sent_again_once(browser: Any, tmp_path: Path):
    project = FakeLabelling()
    with serving(project, tmp_path) as url, opened(browser, url) as page:
        project.fail_with = OSError(errno.ENOSPC, "No space left on device")
        page.keyboard.press("1")
        page.locator("#outbox").wait_for()
        assert "NOT stored: “normal” of one cell. Nothing was stored: No space left on device" in page.inner_text(
            "#outbox"
        )
        assert page.locator("#recent .stored").count() == 0
        page.keyboard.press("2")  # waits behind it
        until(page, "outbox.length === 2")
        assert project.entries == []
        page.click("#resend")
        stored(page, 2)
        assert [(entry["cells"], entry["value"]) for entry in project.entries] == [([0], "normal"), ([1], "lsil")]
        page.context.route("**/v1/labels", lambda route: (route.fetch(), route.abort()))  # stored, its answer lost
        page.keyboard.press("3")
        page.locator("#outbox").wait_for()
        page.context.unroute("**/v1/labels")
        page.locator("#outbox").wait_for(state="hidden")  # the server answers again: sent once more by itself
        stored(page, 3)
        assert [entry["value"] for entry in project.entries] == ["normal", "lsil", "hsil"]


def test_a_row_is_confirmed_at_once_without_the_cells_that_were_left_out(browser: Any, tmp_path: Path):
    project = FakeLabelling()
    project.refit()
    with serving(project, tmp_path) as url, opened(browser, url) as page:
        open_grid(page)
        page.keyboard.press("ArrowRight")
        row = page.evaluate("rowsOfGrid[0].cells.map((one) => one.cell)")
        value = page.evaluate("rowsOfGrid[0].value")
        page.keyboard.press("Space")
        page.locator(".thumb.out").wait_for()
        page.keyboard.press("Enter")
        stored(page, 1)
        labels = project.labels_of("reader 1")
        assert labels == dict.fromkeys([cell for cell in row if cell != row[1]], value)
        assert not project.test[list(labels)].any()
        chosen = page.evaluate("lastInGrid")
        page.locator("#labels .class").nth(2).click()  # takes the focus from the cell
        stored(page, 2)
        assert project.labels_of("reader 1")[chosen] == "hsil"


def test_a_key_labels_what_the_grid_shows_as_chosen_and_nothing_else(browser: Any, tmp_path: Path):
    project = FakeLabelling()
    project.refit()
    with serving(project, tmp_path) as url, opened(browser, url) as page:
        open_grid(page)
        page.locator(".row select").nth(1).select_option("unsure")
        row = page.evaluate("rowsOfGrid[1].cells.map((one) => one.cell)")
        assert page.evaluate("document.querySelector('.thumb.chosen').dataset.cell") == str(row[0])
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("Enter")
        stored(page, 1)
        assert project.labels_of("reader 1") == dict.fromkeys(row, "unsure")
        for key in "cg2":  # nothing is chosen in a grid that was opened again
            page.keyboard.press(key)
        page.locator(".row .thumb").first.wait_for()
        until(page, "document.querySelector('#said').textContent.startsWith('Choose a cell')")
        assert len(project.entries) == 1
        page.evaluate("rowsOfGrid = [{ value: 'hsil', cells: [rowsOfGrid[0].cells[0]] }]; drawGrid()")
        held = hold(page, QUEUE)
        page.keyboard.press("ArrowDown")
        for key in "11":  # after the last cell there is none until other rows come
            page.keyboard.press(key)
        until(page, "!outbox.length")
        page.keyboard.press("ArrowDown")
        wait_for_held(page, held, "/v1/queue?")
        release(page, QUEUE, held)
        stored(page, 2)
        assert len(project.entries) == 2


def test_rows_that_come_late_do_not_undo_what_was_left_out_meanwhile(browser: Any, tmp_path: Path):
    project = FakeLabelling()
    project.refit()
    with serving(project, tmp_path) as url, opened(browser, url) as page:
        open_grid(page)
        page.keyboard.press("1")
        stored(page, 1)
        held = hold(page, QUEUE)
        page.keyboard.press("u")
        until(page, "!outbox.length && document.querySelector('#said').textContent.startsWith('Taken back')")
        out = int(page.locator(".row .thumb").nth(1).get_attribute("data-cell"))
        page.locator(".row .thumb").nth(1).click()
        wait_for_held(page, held, "/v1/queue?")
        release(page, QUEUE, held)
        page.wait_for_timeout(300)
        page.keyboard.press("Enter")
        until(page, "!outbox.length")
        assert project.labels_of("reader 1")
        assert out not in project.labels_of("reader 1")


def test_a_lasso_labels_cells_of_the_training_share_alone_and_a_click_shows_similar_ones(browser: Any, tmp_path: Path):
    project = FakeLabelling(200)
    with serving(project, tmp_path) as url, opened(browser, url) as page:
        show_map(page)
        page.select_option("#colour", "group")
        page.click("#map-all")
        box = page.locator("#map").bounding_box()
        lasso_around(page, box["x"] + 5, box["y"] + 5, box["x"] + box["width"] - 5, box["y"] + box["height"] - 5)
        until(page, "selection.length > 100")
        page.keyboard.press("2")
        until(page, "!outbox.length && !selection.length")
        labels = project.labels_of("reader 1")
        assert sorted(labels) == np.flatnonzero(~project.test).tolist()
        assert set(labels.values()) == {"lsil"}
        page.mouse.click(*place_on_map(page, 7))
        page.locator("#picked .chosen").wait_for()
        assert page.locator("#picked .thumb").count() == 13
        page.locator("#picked .thumb").nth(3).click()
        page.locator("#cell .large img").wait_for()
        page.keyboard.press("3")
        until(page, "!outbox.length")
        assert list(project.labels_of("reader 1").values()).count("hsil") == 1


def test_what_the_reader_did_meanwhile_holds_when_an_answer_comes_late(browser: Any, tmp_path: Path):
    project = FakeLabelling(200)
    with serving(project, tmp_path) as url, opened(browser, url) as page:
        show_map(page)
        far = int(np.flatnonzero(~project.test)[-1])  # none of the cells that come next
        page.evaluate(f"label([{far}], 'lsil', 'lasso')")
        stored(page, 1)
        page.keyboard.press("c")
        held = hold(page, CELL)
        page.keyboard.press("u")
        until(page, f"!outbox.length && !labels.has({far})")  # the cell whose label was taken back is asked for
        page.keyboard.press("m")
        wait_for_held(page, held, f"/v1/cells/{far}?")
        page.mouse.click(*place_on_map(page, 7))  # its similar cells are asked for, and a lasso is drawn meanwhile
        box = page.locator("#map").bounding_box()
        lasso_around(page, box["x"] + 5, box["y"] + 5, box["x"] + box["width"] - 5, box["y"] + box["height"] - 5)
        wait_for_held(page, held, "/v1/cells/7?")
        release(page, CELL, held)
        until(page, f"current()?.cell === {far}")  # it has come, and is the cell of the other view
        page.wait_for_timeout(300)
        assert page.evaluate("document.body.dataset.view") == "map"
        assert page.evaluate("selection.length") > 100


def test_a_cell_that_comes_late_is_not_under_the_hands_of_a_reader_who_went_on(browser: Any, tmp_path: Path):
    project = FakeLabelling(200)
    with serving(project, tmp_path) as url, opened(browser, url) as page:
        first, second = (int(cell) for cell in np.flatnonzero(~project.test)[-2:])
        held = hold(page, CELL)
        page.evaluate(f"() => {{ open({first}); open({second}); }}")
        wait_for_held(page, held, f"/v1/cells/{first}?", f"/v1/cells/{second}?")
        for route in reversed(held):
            route.continue_()
        until(page, f"current()?.cell === {second}")
        page.wait_for_timeout(300)
        assert page.evaluate("current().cell") == second
        held.clear()
        page.evaluate(f"() => {{ open({first}); }}")
        page.keyboard.press("1")
        going_on = page.evaluate("current().cell")
        wait_for_held(page, held, f"/v1/cells/{first}?")
        release(page, CELL, held)
        until(page, f"trail.some((row) => row.cell === {first})")
        assert page.evaluate("current().cell") == going_on
        stored(page, 1)
        assert project.labels_of("reader 1") == {second: "normal"}


def test_two_readers_in_two_tabs_do_not_overwrite_each_other_and_their_difference_is_decided(
    browser: Any, tmp_path: Path
):
    project = FakeLabelling()
    with serving(project, tmp_path) as url, opened(browser, url) as first, opened(browser, url) as second:
        second.fill("#reader", "ben")
        second.keyboard.press("Tab")
        second.locator("#cell .large img").wait_for()
        for key in ("1", "2", "3"):
            first.keyboard.press(key)
            second.keyboard.press("3")
        stored(first, 3)
        stored(second, 3)
        assert project.labels_of("reader 1") == {0: "normal", 1: "lsil", 2: "hsil"}
        assert project.labels_of("ben") == dict.fromkeys(range(3), "hsil")
        first.keyboard.press("d")
        first.locator(".disagreement").nth(1).wait_for()
        assert "Cohen" in first.inner_text("#agreement")
        assert "rests on 6 groups" in first.inner_text("#agreement")
        first.locator(".disagreement select").first.select_option("lsil")
        until(first, "document.querySelector('.disagreement')?.textContent.includes('decided')")
        assert project.disagreements()[0]["adjudicated"] == "lsil"
        second.fill("#reader", "cora")
        second.keyboard.press("Tab")
        show_map(second)
        until(second, "points.label[0] === -4")  # not what they said
        assert second.evaluate("[points.label[3], ofLabel(-4) === OTHERS]") == [-1, True]
        assert "labelled by others" in second.inner_text("#legend")


def test_on_a_phone_the_cell_has_the_screen_and_labels_are_at_hand(browser: Any, tmp_path: Path):
    project = FakeLabelling()
    with serving(project, tmp_path) as url, opened(browser, url, width=390, height=844, has_touch=True) as page:
        for view in ("cell", "grid", "map", "readers"):
            page.click(f"#to-{view}")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, view
        page.click("#to-cell")
        assert page.evaluate("document.querySelector('.large').getBoundingClientRect().height") > 300
        button = page.locator("#labels .class").nth(1)
        assert button.bounding_box()["y"] + 40 < 844
        button.tap()
        stored(page, 1)
        assert project.labels_of("reader 1") == {0: "lsil"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, tmp_path: Path, scheme: str):
    axe = pytest.importorskip("axe_playwright_python.base", reason="axe-playwright-python is not installed")
    project = FakeLabelling()
    project.refit()
    script = (Path(axe.__file__).parent / "axe.min.js").read_text("utf-8")
    found = {}
    with serving(project, tmp_path) as url, opened(browser, url, color_scheme=scheme, bypass_csp=True) as page:
        page.evaluate(script)
        page.keyboard.press("1")
        stored(page, 1)
        for key in "cgmd":
            page.keyboard.press(key)
            page.wait_for_timeout(300)
            result = json.loads(page.evaluate("axe.run().then((found) => JSON.stringify(found.violations))"))
            found[key] = [
                (one["id"], [node["html"][:120] for node in one["nodes"][:3]])
                for one in result
                if one["impact"] in ("serious", "critical")
            ]
    assert [one for one in found.items() if one[1]] == []


def test_a_hundred_thousand_cells_pan_and_zoom(browser: Any, tmp_path: Path):
    """Bounds the processor's time for a frame, which a busy machine does not change as much as the rate."""
    project = FakeLabelling(100_000)
    project.refit()
    with serving(project, tmp_path) as url, opened(browser, url) as page:
        show_map(page)
        x, y = place_on_map(page, 0)
        page.mouse.move(x, y)
        page.mouse.wheel(0, -100)
        before = page.evaluate("numFrames")
        page.mouse.down()
        page.mouse.move(x + 200, y + 50, steps=20)
        page.mouse.up()
        until(page, f"numFrames > {before}")
        quickest = page.evaluate("""() => Math.min(...Array.from({ length: 20 }, () => {
            const start = performance.now(); drawNow(); return performance.now() - start; }))""")
        assert quickest < 33, f"{quickest:.1f} ms a frame"
