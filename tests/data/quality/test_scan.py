"""Scan of image files: one decode and one pixel hash per image, for all who need them."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
from opened_files import opened_below

import cytolora
from cytolora import FitOptions
from cytolora.data.datasets import load_manifest
from cytolora.data.imaging import decode as decode_module
from cytolora.data.imaging.cache import PixelCache
from cytolora.data.imaging.decode import decode
from cytolora.data.quality import scan as scan_module
from cytolora.data.quality.audit import audit
from cytolora.data.quality.scan import ImageRecord, scan
from cytolora.errors import DataError


@pytest.mark.slow
def test_fit_decodes_every_image_once_and_hashes_its_pixels_once(drawn_cells: Path, tmp_path: Path, monkeypatch):
    calls: Counter[str] = Counter()

    def counted(name: str, function):
        def call(*arguments, **options):
            calls[name] += 1
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(decode_module, "from_image", counted("decodes", decode_module.from_image))
    monkeypatch.setattr(scan_module, "pixel_sha256", counted("hashes", scan_module.pixel_sha256))
    options = FitOptions(max_steps=20, learning_rates=[0.01], cache=tmp_path / "cache")
    with opened_below(drawn_cells) as opened:
        cytolora.fit(drawn_cells, tmp_path / "model", model="nano", options=options)
    assert _of_images(opened) == {2: 60}  # to be hashed, and to be decoded
    assert calls == {"decodes": 60, "hashes": 60}
    assert not (tmp_path / "cache" / "pixels").exists()  # a head is trained on features alone


def test_check_opens_every_image_twice_to_hash_and_to_decode_it(drawn_cells: Path):
    with opened_below(drawn_cells) as opened:
        cytolora.check(drawn_cells)
    assert _of_images(opened) == {2: 60}


def _of_images(opened: Counter[str]) -> Counter[int]:
    """Returns how many images were opened how often."""
    return Counter(times for name, times in opened.items() if name.endswith(".png"))


def test_an_audit_of_records_says_what_one_that_scans_says(drawn_cells: Path):
    manifest = load_manifest(drawn_cells)
    assert audit(manifest, records=scan(manifest)) == audit(manifest)


def test_a_scan_leaves_the_pixels_that_the_cache_would_decode(drawn_cells: Path, tmp_path: Path, monkeypatch):
    manifest, cache = load_manifest(drawn_cells), PixelCache(tmp_path / "pixels", drawn_cells)
    records = scan(manifest, pixels=cache)
    sample = manifest.samples[7]
    record, expected = records[sample.path], decode(manifest.root / sample.path)
    assert isinstance(record, ImageRecord)
    assert (record.sha256, record.size) == (sample.sha256, (expected.shape[1], expected.shape[0]))
    with monkeypatch.context() as patch:
        patch.setattr("cytolora.data.imaging.cache.decode", lambda *_: pytest.fail("decoded again"))
        assert (cache.whole(sample) == expected).all()
    assert not (tmp_path / "pixels").exists()


def test_a_file_that_changed_since_it_was_hashed_is_not_held_under_its_old_name(drawn_cells: Path, tmp_path: Path):
    root = tmp_path / "cells"
    shutil.copytree(drawn_cells, root)
    manifest = load_manifest(root)
    sample, cache = manifest.samples[7], PixelCache(tmp_path / "pixels", root)
    (root / sample.path).write_bytes((root / manifest.samples[8].path).read_bytes())
    scan(manifest, pixels=cache)
    with pytest.raises(DataError, match="has changed since the dataset was read"):
        cache.whole(sample)
