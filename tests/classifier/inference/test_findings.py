"""Findings of images that are predicted or evaluated: one a kind, with the code that `check` gives it."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from folders import photograph, photographs
from PIL import Image, ImageCms
from small_bundle import write_small_bundle

from cytolora.cli.app import main
from cytolora.config.reading import STANDARD


def test_evaluate_and_predict_name_unreadable_files_by_code(fitted, lab_cells, tmp_path, capsys):
    cells = shutil.copytree(lab_cells, tmp_path / "cells")
    bad = sorted(cells.rglob("*.png"))[0]
    bad.write_bytes(b"no image")
    with pytest.raises(SystemExit):
        main(["evaluate", str(fitted), str(cells), "--seen", "mark", "--json", "--quiet"])
    (found,) = [one for one in json.loads(capsys.readouterr().out)["findings"] if one["code"] == "P101"]
    assert (found["count"], found["examples"]) == (1, [bad.relative_to(cells).as_posix()])
    with pytest.raises(SystemExit):
        main(["predict", str(fitted), str(bad.parent), "--out", str(tmp_path / "out.csv"), "--quiet"])
    said = capsys.readouterr().err
    assert "! P101 Files that cannot be read as images: 1, namely " in said
    assert bad.name in said


def noise(*shape: int, top: int = 256, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(0, top, shape).astype(dtype)


def damaged(folder: Path) -> list[str]:
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbut no more")
    (folder / "text.jpg").write_text("no image")
    return ["broken.png", "text.jpg"]


def frames(folder: Path) -> list[str]:
    tifffile.imwrite(folder / "stack.tif", noise(3, 40, 40, 3), photometric="rgb")
    return ["stack.tif"]


def transparent(folder: Path) -> list[str]:
    for name in ("clear1.png", "clear2.png"):
        Image.new("RGBA", (40, 40), (90, 20, 30, 0)).save(folder / name)
    return ["clear1.png", "clear2.png"]


def twelve_bits(folder: Path) -> list[str]:
    tifffile.imwrite(folder / "camera.tif", noise(40, 40, 3, top=4096, dtype="uint16"), photometric="rgb")
    return ["camera.tif"]


def sixteen_bits(folder: Path) -> list[str]:
    tifffile.imwrite(folder / "deep.tif", noise(40, 40, 3, top=65536, dtype="uint16"), photometric="rgb")
    return ["deep.tif"]


def blank(folder: Path) -> list[str]:
    Image.new("RGB", (40, 40), (240, 240, 250)).save(folder / "white.png")
    return ["white.png"]


def with_profile(folder: Path) -> list[str]:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(noise(40, 40, 3)).save(folder / "profile.png", icc_profile=profile)
    return ["profile.png"]


def unread_formats(folder: Path) -> list[str]:
    for name in ("a.jp2", "b.JP2", "c.avif", "d.dcm"):
        (folder / name).write_bytes(b"anything")
    return ["a.jp2", "b.JP2", "c.avif", "d.dcm"]


def without_suffix(folder: Path) -> list[str]:
    photograph(folder / "cell.png", 5)
    (folder / "cell.png").rename(folder / "cell")
    return ["cell"]


def broken_links(folder: Path) -> list[str]:
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    return ["gone.png"]


KINDS: dict[str, tuple[str, Callable[[Path], list[str]]]] = {
    "damaged": ("P101", damaged),
    "frames": ("P104", frames),
    "transparent": ("P106", transparent),
    "12 bits in 16": ("P102", twelve_bits),
    "16 bits": ("P103", sixteen_bits),
    "blank": ("P105", blank),
    "profile": ("P107", with_profile),
    "formats": ("F201", unread_formats),
    "no suffix": ("F201", without_suffix),
    "links": ("F206", broken_links),
}
ALSO = {"12 bits in 16": {"P103"}}
"""Further findings of the same files."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("open") / "model", decoding=STANDARD)


def predicted(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *paths: Path) -> dict[str, Any]:
    """Returns the JSON document of `predict`, and the page's text under ``page``."""
    page = tmp_path / "page.html"
    command = ["predict", str(model), *map(str, paths), "--out", str(tmp_path / "p.csv"), "--page", str(page)]
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--json", "--quiet"])
    printed = capsys.readouterr()
    assert printed.err == ""
    return {**json.loads(printed.out), "page": page.read_text(encoding="utf-8")}


@pytest.mark.parametrize("place", ["folder", "zip", "files"])
@pytest.mark.parametrize("name", KINDS)
def test_each_kind_is_one_finding_with_its_code_count_and_examples(
    name: str, place: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    if name == "links" and place == "zip":
        pytest.skip("a zip file has no links")
    if name == "links" and place == "files":
        pytest.skip("a link to nothing is no path to name")
    if name == "no suffix" and place == "files":
        pytest.skip("a file that is named is read by its content")
    code, make = KINDS[name]
    folder = photographs(tmp_path / "new", ["1.png", "2.png"])
    names = make(folder)
    paths = [folder]
    if place == "files":
        paths = sorted(folder.iterdir())
    elif place == "zip":
        paths = [tmp_path / "new.zip"]
        with zipfile.ZipFile(paths[0], "w") as packed:
            for file in sorted(folder.iterdir()):
                packed.write(file, file.name)
    result = predicted(model, tmp_path, capsys, *paths)
    by_code = {one["code"]: one for one in result["findings"]}
    assert len(by_code) == len(result["findings"])
    assert set(by_code) == {code, *ALSO.get(name, ())}
    found = by_code[code]
    assert (found["count"], sorted(Path(example).name for example in found["examples"])) == (len(names), names)
    assert f"<code>{code}</code>" in result["page"]
    assert result["num_images"] == 2 + len(names)
    assert result["num_errors"] == (len(names) if code in ("P101", "P104", "P106", "F201", "F206") else 0)


def test_all_kinds_together_are_printed_by_code_the_gravest_first(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = photographs(tmp_path / "new", ["1.png"])
    counts: dict[str, int] = {}
    for code, make in KINDS.values():
        counts[code] = counts.get(code, 0) + len(make(folder))
    counts["P103"] += 1  # the image of 12 bits is converted, too
    with pytest.raises(SystemExit, match="0"):
        main(["predict", str(model), str(folder), "--out", str(tmp_path / "p.csv"), "--quiet"])
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines[:-1]][:2] == ["P104", "P106"]
    assert sorted(line.split()[1] for line in lines[:-1]) == sorted(counts)
    assert "! F201 5 files are passed over: 2 .jp2, 1 .avif, 1 without a suffix (PNG), 1 .dcm, the first" in "\n".join(
        lines
    )
    assert "! P102 1 image uses at most 6.2% of the values of its bit depth: nearly black, namely " in "\n".join(lines)
    assert "P101" in "\n".join(lines)


def test_plain_images_have_no_finding(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = photographs(tmp_path / "new", [f"{number}.png" for number in range(4)])
    result = predicted(model, tmp_path, capsys, folder)
    assert result["findings"] == []
    assert 'class="findings"' not in result["page"]


def test_evaluate_names_dark_and_blank_images_as_check_does(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = photographs(tmp_path / "cells", ["hsil/1.png", "nilm/1.png", "nilm/2.png"])
    twelve_bits(folder / "hsil")
    blank(folder / "nilm")
    with pytest.raises(SystemExit):
        main(["evaluate", str(model), str(folder), "--json", "--quiet"])
    found = {one["code"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert found["P102"]["examples"] == ["hsil/camera.tif"]
    assert found["P105"]["examples"] == ["nilm/white.png"]
