import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import chromium
from small_bundle import write_small_bundle

from cytolora.api.datasets import load_dataset
from cytolora.classifier.fit.corrections import correct
from cytolora.classifier.inference import review_page
from cytolora.classifier.inference.classifier import Classifier
from cytolora.classifier.inference.evaluate import evaluate
from cytolora.classifier.inference.review_page import (
    CellsOfPage,
    ReviewCell,
    doubt,
    review_picture,
    review_thumbnail,
    suspicion,
    write_page,
)
from cytolora.cli.app import main
from cytolora.core.findings import finding
from cytolora.errors import DataError

CLASSES = ("nilm", "lsil", "hsil")


def cells(count: int) -> list[ReviewCell]:
    random = np.random.default_rng(0)
    pictures = [review_thumbnail(random.integers(0, 255, (40, 40, 3), dtype=np.uint8)) for _ in range(4)]
    shares = random.dirichlet((1, 1, 1), count)
    return [
        ReviewCell(
            path=f"slide{index % 7}/cell {index:05}, a.png",
            thumbnail=pictures[index % 4],
            probabilities=tuple(map(float, shares[index])),
            label=CLASSES[index % 3],
            flags=("unfamiliar",) if index % 10 == 0 else (),
            note=f"slide{index % 7}",
        )
        for index in range(count)
    ]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(accept_downloads=True, viewport={"width": 1280, "height": 800})
    opened = context.new_page()
    opened.on("request", lambda request: opened.__dict__.setdefault("asked", []).append(request.url))
    opened.on("pageerror", lambda error: pytest.fail(f"the page's script failed: {error}"))
    yield opened
    context.close()


def chosen(page: Any) -> str:
    return page.inner_text("#detail .path")


def test_suspicion_is_highest_where_another_class_is_surest():
    assert suspicion((0.9, 0.1), 1) == pytest.approx(0.8)
    assert suspicion((0.9, 0.1), 0) == pytest.approx(-0.8)
    assert suspicion((1.0,), 0) == -1


def test_doubt_is_one_for_an_even_guess_and_nought_for_a_sure_one():
    assert doubt((0.25,) * 4) == pytest.approx(1)
    assert doubt((1.0, 0.0)) == 0


def test_a_page_of_nothing_and_a_path_that_stands_twice_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="there are no images"):
        write_page([], tmp_path / "page.html", classes=CLASSES)
    with pytest.raises(DataError, match="stands twice"):
        write_page([cells(1)[0]] * 2, tmp_path / "page.html", classes=CLASSES)
    assert list(tmp_path.iterdir()) == []


def test_a_hostile_path_cannot_leave_its_place_in_the_page(tmp_path: Path):
    hostile = ReviewCell(path="</script><script>alert(1)</script>", thumbnail="", probabilities=(), note="<b>")
    write_page([hostile], tmp_path / "page.html", classes=CLASSES, title="<i>x</i>")
    text = (tmp_path / "page.html").read_text()
    assert "<script>alert" not in text
    assert "<i>x" not in text


def test_a_reader_filters_labels_by_keyboard_and_saves_a_table(page: Any, tmp_path: Path):
    made = cells(60)
    write_page(made, tmp_path / "page.html", classes=CLASSES, title="Slides of May")
    page.goto((tmp_path / "page.html").as_uri())
    worst = max(made, key=lambda cell: suspicion(cell.probabilities, CLASSES.index(cell.label or "")))
    assert chosen(page) == worst.path
    page.keyboard.press("3")
    assert "2 of 60" in page.inner_text("#shown")
    second = chosen(page)
    page.keyboard.press("1")
    page.keyboard.press("u")  # taken back, and there again
    assert chosen(page) == second
    assert page.inner_text("#num-set") == "1"
    page.keyboard.press("y")
    assert page.inner_text("#num-set") == "2"
    page.click("#undo")
    assert page.locator("#undo").is_enabled()
    page.click("#redo")
    assert not page.locator("#redo").is_enabled()
    page.keyboard.press("Control+z")
    assert chosen(page) == second
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    assert chosen(page) == second
    page.keyboard.press("2")
    page.select_option("#show", "flag:unfamiliar")
    assert "of 6 shown" in page.inner_text("#shown")
    page.select_option("#show", "")
    page.select_option("#by-predicted", "1")
    expected = sum(max(range(3), key=cell.probabilities.__getitem__) == 1 for cell in made)
    assert f"of {expected} shown" in page.inner_text("#shown")
    with page.expect_download() as download:
        page.keyboard.press("s")
    download.value.save_as(tmp_path / "corrections.csv")
    rows = list(csv.DictReader((tmp_path / "corrections.csv").open(newline="")))
    assert {row["path"]: row["label"] for row in rows} == {worst.path: "hsil", second: "lsil"}
    page.reload()  # corrections outlive the window, and can still be taken back
    assert page.inner_text("#num-set") == "2"
    page.keyboard.press("u")
    assert (page.inner_text("#num-set"), chosen(page)) == ("1", second)
    page.keyboard.press("y")
    assert page.inner_text("#num-set") == "2"
    assert page.__dict__["asked"] == [(tmp_path / "page.html").as_uri()] * 2


def test_the_cells_shown_first_keep_their_own_pixels_and_can_be_enlarged(page: Any, tmp_path: Path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 255, (300, 200, 3), dtype=np.uint8)
    own = review_picture(pixels)
    large = {"thumbnail": review_thumbnail(pixels), "picture": own, "surroundings": own}
    made = [replace(cell, **large) for cell in cells(20)]
    monkeypatch.setattr(review_page, "MAX_PICTURE_BYTES", 6 * len(own))
    write_page(made, tmp_path / "page.html", classes=CLASSES, times_wider=4)
    page.goto((tmp_path / "page.html").as_uri())
    widths = page.evaluate("[...document.querySelectorAll('.cell img')].map((image) => image.naturalWidth)")
    assert widths == [200] * 3 + [64] * 17
    page.keyboard.press("z")
    page.keyboard.press("+")
    assert page.inner_text("#zoom-text").endswith(", 200 × 300 pixels, 3 to 1")
    assert page.locator("#zoomed").bounding_box()["width"] == 600
    page.keyboard.press("w")
    assert page.locator("#zoom-frame").evaluate("(frame) => frame.style.width") == "150px"
    page.keyboard.press("Escape")
    page.keyboard.press("End")
    assert "A thumbnail" in page.inner_text("#detail")
    page.keyboard.press("z")
    assert ", thumbnail of 64 × 96 pixels, " in page.inner_text("#zoom-text")


def test_pictures_that_no_page_has_room_for_are_not_held_and_the_same_ones_are_shown(monkeypatch):
    made = [replace(cell, picture="data:" + "x" * 95) for cell in cells(200)]
    monkeypatch.setattr(review_page, "MAX_PICTURE_BYTES", 1000)
    gathered, most = CellsOfPage(CLASSES), 0
    for at in range(0, len(made), 8):
        gathered.add(made[at : at + 8])
        most = max(most, sum(len(cell.picture) for cell in gathered))
    assert most <= 2000
    assert [cell.path for cell in gathered] == [cell.path for cell in made]
    assert list(review_page._first_pictures(list(gathered), CLASSES)) == list(
        review_page._first_pictures(made, CLASSES)
    )
    assert [bool(cell.picture) for cell in gathered] == [not cell.is_dropped for cell in gathered]


def test_pictures_and_thumbnails_together_stay_below_what_a_browser_opens(monkeypatch):
    made = [replace(cell, thumbnail="y" * 100, picture="x" * 100) for cell in cells(20)]
    monkeypatch.setattr(review_page, "_MAX_PAGE_BYTES", 2500)
    assert len(list(review_page._first_pictures(made, CLASSES))) == 5


def test_a_picture_is_kept_apart_from_the_thumbnail_only_where_it_is_larger():
    assert review_picture(np.zeros((96, 40, 3), np.uint8)) == ""
    assert review_picture(np.zeros((97, 40, 3), np.uint8)).startswith("data:image/webp;base64,")


@pytest.mark.slow
def test_on_a_phone_most_of_the_screen_is_cells(page: Any, tmp_path: Path):
    write_page(cells(60), tmp_path / "page.html", classes=CLASSES)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto((tmp_path / "page.html").as_uri())
    assert page.locator("#scroll").bounding_box()["height"] > 0.6 * 844
    page.locator(".cell").nth(1).click()
    page.locator(".class").nth(2).click()
    assert page.inner_text("#num-set") == "1"
    assert not page.locator("#order").is_visible()
    page.set_viewport_size({"width": 1000, "height": 700})  # turned
    page.wait_for_selector("#order", state="visible")


@pytest.mark.slow
def test_a_screen_reader_is_told_the_cell_that_is_chosen_and_enter_opens_what_has_the_focus(page: Any, tmp_path: Path):
    classes = [f"class {number:02}" for number in range(40)]
    made = [replace(cell, probabilities=(0.5, 0.5, *[0.0] * 38), label=None) for cell in cells(60)]
    found = [finding("F211", "2 files that are no images.")]
    write_page(made, tmp_path / "page.html", classes=classes, findings=found)
    page.goto((tmp_path / "page.html").as_uri())
    page.keyboard.press("ArrowRight")
    option = page.locator(f"#{page.get_attribute('#scroll', 'aria-activedescendant')}")
    assert option.get_attribute("role") == "option"
    assert option.get_attribute("aria-selected") == "true"
    assert (option.get_attribute("title"), option.get_attribute("aria-posinset")) == (chosen(page), "2")
    page.focus(".findings summary")
    page.keyboard.press("Enter")
    assert page.locator(".findings li").is_visible()
    assert page.inner_text("#num-set") == "0"
    assert page.locator(".class kbd").all_inner_texts()[29:] == ["x", *[""] * 10]
    page.locator(".class").nth(39).click()  # has no key
    assert page.inner_text("#num-set") == "1"


def test_five_thousand_cells_open_and_scroll_with_few_elements(page: Any, tmp_path: Path):
    write_page(cells(5000), tmp_path / "page.html", classes=CLASSES)
    assert (tmp_path / "page.html").stat().st_size < 30e6
    page.goto((tmp_path / "page.html").as_uri())
    assert "of 5000 shown" in page.inner_text("#shown")
    page.keyboard.press("End")
    assert page.inner_text("#shown").startswith("5000 of 5000")
    assert page.locator(".cell").count() < 200
    assert page.locator(".cell.chosen").count() == 1
    for _ in range(3):
        page.keyboard.press("1")
    page.keyboard.press("Home")
    page.fill("#find", "cell 04321")
    assert "1 of 1 shown" in page.inner_text("#shown")


@pytest.mark.slow
def test_what_a_reader_corrects_on_the_page_of_an_evaluation_is_read_back(page: Any, drawn_cells: Path, tmp_path: Path):
    """The whole round: labels and predictions on a page, the most suspicious label set anew, saved, read by fit."""
    drawn = load_dataset(drawn_cells)
    classes = drawn.classes[:4]
    samples = tuple(sample for sample in drawn.samples if sample.label in classes)
    manifest = replace(drawn, classes=classes, samples=samples).with_hashes()
    bundle = Classifier.load(write_small_bundle(tmp_path / "model", classes=classes, operating_point=None))
    evaluate(bundle, manifest, page=tmp_path / "page.html")
    page.goto((tmp_path / "page.html").as_uri())
    assert f"of {len(samples)} shown" in page.inner_text("#shown")
    first, was = chosen(page), page.locator(".class.was span").first.inner_text()
    key = "2" if was == classes[0] else "1"
    page.keyboard.press(key)
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(tmp_path / "corrections.csv")
    corrected, count = correct(manifest, tmp_path / "corrections.csv")
    labels = {sample.path: sample.label for sample in corrected.samples}
    assert count == 1
    assert labels[first] == classes[int(key) - 1] != was
    again = [str(drawn_cells), "--out", str(tmp_path / "again"), "--labels", str(tmp_path / "corrections.csv")]
    with pytest.raises(SystemExit) as exit_:
        main(["fit", *again, "--model", "nano", "--steps", "2", "--cache", str(tmp_path / "cache"), "--quiet"])
    assert exit_.value.code == 0
    assert Classifier.load(tmp_path / "again").contents.training["num_corrected_labels"] == 1
