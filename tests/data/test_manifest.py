"""What a manifest refuses, and the hashes of its files, each opened once."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from opened_files import opened_below
from PIL import Image

from cytolora.config.reading import VERSION_1, Decoding
from cytolora.data.imaging.marks import hash_and_mark, mark_of
from cytolora.data.manifest import Manifest, Sample
from cytolora.errors import DataError


@pytest.mark.parametrize("name", ["path", "label", "subset", "group", "meta_stain"])
def test_a_class_named_like_a_column_of_the_results_is_refused(name: str):
    samples = (Sample(path="a.png", label=name), Sample(path="b.png", label="nilm"))
    with pytest.raises(DataError, match=rf"a class is named '{name}', like a column of the results.*Rename the class"):
        Manifest(name="toy", root=Path("nowhere"), classes=(name, "nilm"), samples=samples)


def test_other_spellings_are_classes_like_any_other():
    samples = (Sample(path="a.png", label="Group"), Sample(path="b.png", label="metaplastic"))
    assert Manifest(name="toy", root=Path("nowhere"), classes=("Group", "metaplastic"), samples=samples).samples


def _write_cells(root: Path) -> list[str]:
    """Writes images that every version of the rules reads alike; returns their names."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    for suffix in ("png", "jpg", "bmp", "webp"):
        Image.fromarray(noise).save(root / f"plain.{suffix}")
    Image.fromarray(noise[..., 0]).save(root / "gray.png")
    Image.fromarray(noise).quantize(16).save(root / "palette.png")
    tifffile.imwrite(root / "plain.tif", noise, photometric="rgb")
    (root / "long.bmp").write_bytes((root / "plain.bmp").read_bytes() + bytes(200_000))
    (root / "exact.bmp").write_bytes((root / "plain.bmp").read_bytes().ljust(2**16, b"x"))
    (root / "short.png").write_bytes(b"\x89PNG")
    (root / "empty.png").write_bytes(b"")
    (root / "text.jpg").write_text("no image")
    return sorted(path.name for path in root.iterdir())


def _manifest(root: Path, names: list[str]) -> Manifest:
    samples = tuple(Sample(path=name, label="a") for name in names)
    return Manifest(name="cells", root=root, classes=("a",), samples=samples)


def test_every_file_is_opened_once_to_be_hashed_and_marked(tmp_path: Path):
    names = _write_cells(tmp_path)
    manifest = _manifest(tmp_path, names)
    manifest.with_hashes()  # which loads modules
    with opened_below(tmp_path) as opened:
        hashed = manifest.with_hashes()
    assert opened == dict.fromkeys(names, 1)
    contents = {name: (tmp_path / name).read_bytes() for name in names}
    assert {one.path: one.sha256 for one in hashed.samples} == {
        name: hashlib.sha256(content).hexdigest() for name, content in contents.items()
    }
    assert not any(one.pixel_rules for one in hashed.samples)


@pytest.mark.parametrize("decoding", [Decoding(), VERSION_1, Decoding(icc="srgb"), Decoding(frame=0)])
@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_a_mark_is_the_same_whether_the_file_is_hashed_with_it_or_not(tmp_path: Path, decoding: Decoding):
    names = _write_cells(tmp_path)
    deep = np.random.default_rng(1).integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb")
    tifffile.imwrite(tmp_path / "stack.tif", deep, photometric="minisblack")
    Image.fromarray(deep[..., 0]).save(tmp_path / "deep.png")
    (tmp_path / "cut.tif").write_bytes((tmp_path / "deep.tif").read_bytes()[:200])
    marks = {}
    for name in [*names, "deep.tif", "stack.tif", "deep.png", "cut.tif"]:
        sha256, marks[name] = hash_and_mark(tmp_path / name, decoding)
        assert sha256 == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        assert marks[name] == mark_of(tmp_path / name, decoding)
    assert (marks["deep.tif"].rules == "16-bit RGB, divided by 257") == (decoding != VERSION_1)


def test_hashes_and_rules_of_many_files_stand_with_their_own_paths(tmp_path: Path):
    names = [f"{number:03}.bin" for number in range(100)]
    for name in names:
        (tmp_path / name).write_text(name)
    samples = _manifest(tmp_path, names).with_hashes().samples
    assert [one.sha256 for one in samples] == [hashlib.sha256(name.encode()).hexdigest() for name in names]


def test_the_first_of_the_files_that_cannot_be_read_is_named(tmp_path: Path):
    names = [f"{number:03}.bin" for number in range(60)]
    for name in names[:20] + names[21:40]:
        (tmp_path / name).write_text(name)
    with pytest.raises(DataError, match=r"^Cannot read .*020\.bin: No such file or directory\.$"):
        _manifest(tmp_path, names).with_hashes()


def test_a_file_that_changed_in_place_has_another_hash_whatever_its_size_and_times(tmp_path: Path):
    """Nothing is remembered of a file by its times."""
    file = tmp_path / "a.bin"
    file.write_bytes(b"before")
    before, times = _manifest(tmp_path, ["a.bin"]).with_hashes(), file.stat()
    file.write_bytes(b"after_")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert _manifest(tmp_path, ["a.bin"]).with_hashes().samples[0].sha256 != before.samples[0].sha256
