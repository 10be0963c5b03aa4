"""The page of `cytolora check`: complete in one file, showing every kind of finding."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytolora.cli.datasets import check
from cytolora.data.datasets import load_manifest
from cytolora.data.own_files import AUDIT_PAGE
from cytolora.data.quality.audit import audit
from cytolora.data.targets import check_replaceable_file
from cytolora.errors import ConfigError
from cytolora.reporting.pages.audit_page import render_audit


def _cell(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((90, 70), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 20 cells with an exact and a turned copy, a torn group and a file that is no image."""
    root = tmp_path_factory.mktemp("cells")
    for number in range(20):
        _cell(number).save(root / f"{number:02}.png")
    (root / "20.png").write_bytes((root / "00.png").read_bytes())
    _cell(1).transpose(Image.Transpose.ROTATE_90).save(root / "21.png")
    _cell(2).transpose(Image.Transpose.ROTATE_180).save(root / "22.png")
    (root / "23.png").write_text("no image")
    groups = {2: "one", 22: "one", 5: "torn", 6: "torn"}
    subsets = {20: "test", 6: "val", 22: "train"}
    lines = [
        f"{number:02}.png,{'<b>hsil</b>' if number == 20 else 'nilm'},{subsets.get(number, 'train')},"
        f"{groups.get(number, f'slide{number}')}"
        for number in range(24)
    ]
    (root / "manifest.csv").write_text("path,label,subset,group\n" + "\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def page(cells: Path) -> str:
    manifest = load_manifest(cells)
    return render_audit(manifest, audit(manifest))


def test_a_page_is_replaced_by_a_later_one(page: str, tmp_path: Path):
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    check_replaceable_file(tmp_path / "page.html", AUDIT_PAGE)


def visible(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<style.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL))


def test_the_page_needs_nothing_from_a_network_or_another_file(page: str):
    addresses = re.findall(r"""(?:src|href)=["']([^"']+)""", page) + re.findall(r"url\(([^)]+)\)", page)
    assert len(addresses) == 6
    assert all(address.startswith("data:image/webp;base64,") for address in addresses)
    assert "<script" not in page
    assert "@import" not in page


def test_pairs_stand_side_by_side_with_what_is_wrong_with_them(page: str):
    text = visible(page)
    assert "Equal pixels: 1" in text
    assert "equal pixels different labels in more than one subset different groups" in text
    assert "Near duplicates that no group holds together: 1" in text
    assert "Near duplicates within one group: 1" in text
    pairs = re.findall(r'<div class="both">(.*?)</li>', page, re.DOTALL)
    assert [re.findall(r"<code>(\S+)</code>", pair) for pair in pairs] == [
        ["00.png", "20.png"],
        ["01.png", "21.png"],
        ["02.png", "22.png"],
    ]


def test_torn_groups_unreadable_files_counts_and_sizes_are_listed(page: str):
    text = visible(page)
    assert "Group leakage, groups in more than one subset: 1" in text
    assert "torn 1 1" in text
    assert "23.png none of PNG, JPEG, BMP, TIFF, WebP" in text
    assert "The largest class has 23.0 times the images of the smallest" in text
    assert "70 × 70 (smallest edges) to 90 × 90 (largest edges)" in text
    assert re.search(r"Under a random split by image \(60 % for training\) \d+\.\d % of the test images", text)


def test_names_from_the_data_cannot_inject_markup(page: str):
    assert "<b>hsil</b>" not in page
    assert "&lt;b&gt;hsil&lt;/b&gt;" in page


def test_what_cannot_be_verified_is_said_in_those_words(tmp_path: Path):
    for number in range(4):
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        _cell(number).save(path)
    manifest = load_manifest(tmp_path)
    text = visible(render_audit(manifest, audit(manifest)))
    assert "Cannot be verified: whether one patient, slide or field stands on two sides of a split" in text
    assert "No problems found" in text
    assert "groups not known" in text


def test_many_duplicates_are_shown_in_part_and_counted_in_full(tmp_path: Path):
    for number in range(170):
        for copy in "ab":
            path = tmp_path / copy / f"{number:03}.png"
            path.parent.mkdir(exist_ok=True)
            _cell(number).resize((9, 9)).save(path)
    manifest = load_manifest(tmp_path)
    page = render_audit(manifest, audit(manifest, max_distance=0))
    assert "Equal pixels: 170" in visible(page)
    assert "The first 150 are shown" in visible(page)
    assert page.count("<img") == 300


def test_the_command_writes_the_page_and_still_answers_1(cells: Path, tmp_path: Path, capsys):
    assert check(cells, page=tmp_path / "new" / "check.html", quiet=True) == 1
    assert (tmp_path / "new" / "check.html").read_text().startswith("<!doctype html>")
    assert "problems found" in capsys.readouterr().out


def test_a_folder_is_no_page(cells: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"is a folder; name a file for the page"):
        check(cells, page=tmp_path, quiet=True)
