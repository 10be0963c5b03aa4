"""What an audit finds when it was planted, and what it says it cannot know."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from finding_texts import codes, problem_texts, texts
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from cytolora.config.run import SplitSpec
from cytolora.core.findings import finding
from cytolora.data.datasets import load_manifest
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.quality import duplicates
from cytolora.data.quality.audit import audit
from cytolora.data.quality.duplicates import similar_pairs
from cytolora.data.splitting.splits import assign_subsets
from cytolora.errors import DataError


def _cell(seed: int, size: tuple[int, int] = (90, 70)) -> Image.Image:
    """A smooth random picture, like no other seed's."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(2))


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    for number in range(12):
        path = tmp_path / "cells" / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        _cell(number).save(path)
    return tmp_path / "cells"


def test_clean_data_has_no_findings(cells: Path):
    report = audit(load_manifest(cells))
    assert problem_texts(report.findings()) == []
    assert not report.has_problems
    assert report.sizes is not None
    assert report.sizes.median == (90, 70)
    assert "the groups of these images are not known" in texts(report.findings())[-1]


def test_an_audit_is_plain_data(cells: Path):
    (cells / "a" / "copy.png").write_bytes((cells / "b" / "01.png").read_bytes())
    plain = asdict(audit(load_manifest(cells)))
    assert json.loads(json.dumps(plain))["exact_duplicates"][0]["paths"] == ["a/copy.png", "b/01.png"]


def test_every_unreadable_file_is_listed(cells: Path):
    (cells / "a" / "text.png").write_text("no image")
    (cells / "b" / "empty.png").write_bytes(b"")
    whole = (cells / "a" / "00.png").read_bytes()
    (cells / "b" / "cut.png").write_bytes(whole[: len(whole) // 2])
    report = audit(load_manifest(cells))
    assert [bad.path for bad in report.unreadable] == ["a/text.png", "b/cut.png", "b/empty.png"]
    assert report.unreadable[0].why == "none of PNG, JPEG, BMP, TIFF, WebP"
    assert texts(report.findings())[0].startswith("Files that cannot be read as images: 3, namely a/text.png (none of")


def test_equal_pixels_are_found_in_another_file_format(cells: Path):
    Image.open(cells / "a" / "00.png").save(cells / "a" / "again.bmp")
    report = audit(load_manifest(cells))
    assert [duplicate.paths for duplicate in report.exact_duplicates] == [("a/00.png", "a/again.bmp")]
    assert report.near_duplicates == ()


@pytest.mark.parametrize("way", list(Image.Transpose), ids=lambda way: way.name.lower())
def test_every_turned_and_mirrored_copy_is_found(cells: Path, way: Image.Transpose):
    Image.open(cells / "b" / "03.png").transpose(way).save(cells / "b" / "turned.png")
    report = audit(load_manifest(cells))
    assert [duplicate.paths for duplicate in report.near_duplicates] == [("b/03.png", "b/turned.png")]
    assert report.has_problems


def test_a_recompressed_smaller_turned_copy_is_found(cells: Path):
    copy = Image.open(cells / "b" / "03.png").resize((60, 47)).transpose(Image.Transpose.ROTATE_90)
    copy.save(cells / "b" / "copy.jpg", quality=70)
    assert [pair.paths for pair in audit(load_manifest(cells)).near_duplicates] == [("b/03.png", "b/copy.jpg")]


def test_blank_images_are_no_near_duplicates(cells: Path):
    for number in range(3):
        Image.new("RGB", (50, 50), (240, 240, 240 + number)).save(cells / "a" / f"blank{number}.png")
    assert audit(load_manifest(cells)).near_duplicates == ()


def _like_each_other(folder: Path, number: int) -> None:
    """One picture with other lowest bits in each: no two are equal, and every two are near."""
    pixels = np.asarray(_cell(99))
    for at in range(number):
        other = pixels.copy()
        other[at // 70, at % 70] ^= 1
        Image.fromarray(other).save(folder / f"frame{at:02}.png")


def test_of_more_near_pairs_than_anybody_can_look_at_the_nearest_are_listed_and_a_finding_says_so(
    cells: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(duplicates, "MAX_NEAR", 25)
    _like_each_other(cells / "a", 20)
    report = audit(load_manifest(cells))
    assert len(report.near_duplicates) == 25
    (one,) = [one for one in report.findings() if one.code == "D514"]
    assert (one.count, one.kind.severity) == (165, "warning")
    assert str(one) == (
        "190 pairs of images resemble each other; only the 25 nearest are listed, and compared by label, group and "
        "subset."
    )


def test_where_all_near_pairs_are_listed_no_finding_says_otherwise(cells: Path):
    _like_each_other(cells / "a", 20)
    report = audit(load_manifest(cells))
    assert len(report.near_duplicates) == 190
    assert "D514" not in codes(report.findings())


def test_many_equal_images_are_one_set_and_no_pairs(cells: Path):
    for at in range(40):
        (cells / "a" / f"copy{at:02}.png").write_bytes((cells / "b" / "01.png").read_bytes())
    report = audit(load_manifest(cells))
    assert [len(one.paths) for one in report.exact_duplicates] == [41]
    assert report.near_duplicates == ()
    assert report.num_near_pairs == 0


def test_duplicates_with_different_labels_are_found(cells: Path):
    (cells / "a" / "copy.png").write_bytes((cells / "b" / "01.png").read_bytes())
    report = audit(load_manifest(cells))
    assert [duplicate.labels for duplicate in report.label_conflicts] == [("a", "b")]
    assert any(
        line.startswith("Duplicates with different labels: 1, namely a/copy.png = b/01.png")
        for line in texts(report.findings())
    )


def _table(cells: Path, row: Callable[[int, str], str]) -> Manifest:
    paths = sorted(path.relative_to(cells).as_posix() for path in cells.rglob("*.png"))
    lines = [f"{path},{path[0]},{row(number, path)}" for number, path in enumerate(paths)]
    (cells / "manifest.csv").write_text("path,label,subset,group\n" + "\n".join(lines) + "\n")
    return load_manifest(cells)


def test_torn_groups_and_duplicates_across_subsets_are_found(cells: Path):
    _cell(0).transpose(Image.Transpose.ROTATE_180).save(cells / "b" / "13.png")
    report = audit(_table(cells, lambda number, path: f"{'train' if number < 9 else 'test'},slide{number // 6}"))
    assert [(torn.group, dict(torn.counts)) for torn in report.torn_groups] == [("slide1", {"train": 3, "test": 3})]
    assert [duplicate.subsets for duplicate in report.duplicates_across_subsets] == [("test", "train")]
    assert "D506" not in codes(report.findings())
    assert "Groups in more than one subset: 1, namely slide1 (train, test)." in texts(report.findings())


def test_near_duplicates_within_a_group_are_no_finding(cells: Path):
    _cell(0).transpose(Image.Transpose.ROTATE_180).save(cells / "a" / "14.png")
    report = audit(_table(cells, lambda number, path: ",slide0"))
    assert len(report.near_duplicates) == 1
    assert problem_texts(report.findings()) == []


def test_partly_known_groups_are_said(cells: Path):
    report = audit(_table(cells, lambda number, path: ",slide" if number else ","))
    assert "the group of 1 of 12 images is not known" in texts(report.findings())[-1]
    assert report.sibling_share is None


def test_the_share_of_test_cells_with_a_sibling_in_train_is_that_of_a_random_split(cells: Path):
    assert audit(_table(cells, lambda number, path: f",s{number}")).sibling_share == 0
    pairs = audit(_table(cells, lambda number, path: f",s{number // 2}")).sibling_share
    assert pairs == pytest.approx(0.6)


def test_conversions_are_counted(cells: Path):
    Image.open(cells / "a" / "00.png").convert("L").transpose(Image.Transpose.ROTATE_90).save(cells / "a" / "gray.png")
    assert audit(load_manifest(cells)).conversions == {"gray, repeated in three channels": 1}


def test_the_readers_warnings_are_findings(cells: Path):
    manifest = replace(load_manifest(cells), findings=(finding("F207", "herlev: 12 images, 917 are published."),))
    assert problem_texts(audit(manifest).findings()) == ["herlev: 12 images, 917 are published."]


def test_an_image_that_vanishes_meanwhile_is_listed(cells: Path):
    manifest = load_manifest(cells)
    (cells / "a" / "00.png").unlink()
    assert [(bad.path, bad.why) for bad in audit(manifest).unreadable] == [("a/00.png", "No such file or directory")]


def test_progress_is_told_for_every_image(cells: Path):
    ticks: list[int] = []
    audit(load_manifest(cells), on_image=lambda: ticks.append(1))
    assert len(ticks) == 12


@pytest.mark.slow
def test_the_real_herlev_shows_one_cell_cut_twice(herlev_dir: Path):
    report = audit(assign_subsets(load_manifest(herlev_dir), SplitSpec()))
    assert report.unreadable == ()
    assert report.exact_duplicates == ()
    assert report.torn_groups == ()
    assert [duplicate.paths for duplicate in report.near_duplicates] == [
        ("moderate_dysplastic/149014631-149014646-004.BMP", "moderate_dysplastic/149014631-149014654-002.BMP")
    ]


def _features(alike: str, other: str) -> Callable[[tuple[Sample, ...]], NDArray[np.float32]]:
    """Every image far from all others, but two."""

    def features(samples: tuple[Sample, ...]) -> NDArray[np.float32]:
        rows = np.eye(len(samples), dtype=np.float32)
        paths = [sample.path for sample in samples]
        rows[paths.index(alike)] = rows[paths.index(other)] + 0.01
        return rows

    return features


def test_features_bring_together_what_hashes_do_not(cells: Path):
    report = audit(load_manifest(cells), features=_features("a/00.png", "b/05.png"))
    (pair,) = report.near_duplicates
    assert (pair.paths, pair.distance, pair.labels) == (("a/00.png", "b/05.png"), None, ("a", "b"))
    assert pair.similarity == pytest.approx(1, abs=0.01)
    assert report.label_conflicts == (pair,)
    assert texts(report.findings())[0].startswith(
        "Near duplicates (at most 48 of 256 bits, or features with a cosine of at least 0.96) that no group holds"
    )


def test_a_pair_that_hashes_know_is_listed_once(cells: Path):
    Image.open(cells / "b" / "03.png").transpose(Image.Transpose.ROTATE_90).save(cells / "b" / "turned.png")
    report = audit(load_manifest(cells), features=_features("b/03.png", "b/turned.png"))
    assert [(pair.paths, pair.similarity) for pair in report.near_duplicates] == [(("b/03.png", "b/turned.png"), None)]


def test_features_of_unreadable_files_are_not_asked_for_and_blank_or_equal_images_not_compared(cells: Path):
    (cells / "a" / "text.png").write_text("no image")
    (cells / "a" / "copy.png").write_bytes((cells / "b" / "01.png").read_bytes())
    for number in range(2):
        Image.new("RGB", (50, 50), (240, 240, 240 + number)).save(cells / "a" / f"blank{number}.png")
    asked: list[str] = []

    def features(samples: tuple[Sample, ...]) -> NDArray[np.float32]:
        asked.extend(sample.path for sample in samples)
        return _features("a/blank0.png", "a/blank1.png")(samples)

    assert audit(load_manifest(cells), features=features).near_duplicates == ()
    assert len(asked) == 15
    assert "a/text.png" not in asked


def test_without_a_readable_image_no_features_are_asked_for(tmp_path: Path):
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "text.png").write_text("no image")
    assert len(audit(load_manifest(tmp_path), features=lambda samples: pytest.fail("asked")).unreadable) == 2


def test_similar_pairs_are_found_over_many_blocks_the_most_alike_first():
    random = np.random.default_rng(0)
    rows = random.normal(size=(600, 64))
    again = rows + np.linspace(0.001, 0.05, 600)[:, None] * random.normal(size=(600, 64))
    pairs = similar_pairs(np.concatenate([rows, again]).astype(np.float32))
    assert {(pair.first, pair.second) for pair in pairs} == {(row, row + 600) for row in range(600)}
    assert [pair.similarity for pair in pairs] == sorted((pair.similarity for pair in pairs), reverse=True)
    assert similar_pairs(np.zeros((0, 64))) == []


def test_features_that_tell_nothing_apart_are_refused():
    with pytest.raises(DataError, match=r"More than 10,000 pairs .* Raise --similarity, or choose another --model\."):
        similar_pairs(np.repeat([[0.0, 1.0], [1.0, 0.0]], 150, axis=0))
