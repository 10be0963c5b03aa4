"""The walk of a folder or zip file: one kind for every file, the same in both."""

import zipfile
from pathlib import Path

import pytest
from folders import SIZE_PX, mask, photograph, photographs, tree
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cytolora.data.formats import IMAGE_SUFFIXES, UNREAD_SUFFIXES
from cytolora.data.walk import files_in, folders_in, kind_of, walk, walk_zip


def _kinds(folder: Path) -> dict[str, str]:
    return {one.path.relative_to(folder).as_posix(): one.kind for one in walk(folder)}


def _kinds_zipped(folder: Path, archive: Path) -> dict[str, str]:
    with zipfile.ZipFile(archive, "w") as packed:
        for name in tree(folder):
            packed.write(folder / name, name)
    with zipfile.ZipFile(archive) as packed:
        return {one.path.as_posix(): one.kind for one in walk_zip(packed)}


LITTER = [
    *("@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", ".ipynb_checkpoints/a-checkpoint.png", "._a.png", "Thumbs.db"),
    *("desktop.ini", ".DS_Store", "__MACOSX/._a.png", "#recycle/b.png", "$RECYCLE.BIN/b.png", "lost+found/b.png"),
    *(".Trash/b.png", ".Trash-1000/files/b.png", ".thumbnails/b.png", ".thumbs/b.png", "@Recycle/b.png"),
    *("System Volume Information/b.png", ".AppleDouble/a.png", "ehthumbs.db", ".stversions/a.png", ".git/b.png"),
    *("a.sync-conflict-20240101-101010-ABCDEFG.png", "a (Ana's conflicted copy 2024-01-01).png", "~$table.xlsx"),
    *("a.png.part", "a.png.crdownload", ".dropbox.cache/a.png", "@EADIR/b.jpg", ".hidden.png", "THUMBS.DB"),
]


@pytest.mark.parametrize("name", LITTER)
def test_what_systems_and_programs_leave_is_passed_over_in_a_folder_and_in_a_zip_file(name: str, tmp_path: Path):
    folder = photographs(tmp_path / "cells", ["a.png"])
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes((folder / "a.png").read_bytes())
    assert _kinds(folder) == {"a.png": "image"} == _kinds_zipped(folder, tmp_path / "cells.zip")


@given(st.sampled_from(sorted(IMAGE_SUFFIXES | UNREAD_SUFFIXES)), st.booleans())
def test_every_image_suffix_is_read_or_unread_in_any_case(suffix: str, upper: bool):
    name = f"cell 1.2{suffix.upper() if upper else suffix}"
    assert kind_of(name) == ("image" if suffix in IMAGE_SUFFIXES else "unread")
    assert kind_of(f"{name}.txt") == "other"


def test_an_image_without_a_suffix_is_an_image_that_is_not_read(tmp_path: Path):
    (photographs(tmp_path / "cells", ["a.png"]) / "a.png").rename(tmp_path / "cells" / "IM0001")
    (tmp_path / "cells" / "IM0002").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "cells" / "Makefile").write_text("all:")
    expected = {"IM0001": "unread", "IM0002": "unread", "Makefile": "other"}
    assert _kinds(tmp_path / "cells") == expected == _kinds_zipped(tmp_path / "cells", tmp_path / "cells.zip")


MASKS = [
    *("cell00_mask.png", "cell00-mask.bmp", "mask_cell00.png", "cell00_seg.tif", "cell00_label.png", "cell00 mask.png"),
    *("cell00_annotation.png", "cell00_segmentation.png", "cell00-d.bmp", "cell00_gt.png", "cell00.mask.0.png"),
    *("cell00_nuclei_mask.png", "CELL00_MASK.PNG", "cell00_mask_1.png", "cell00Mask.png", "cell00_ground_truth.png"),
    *("cell00_segmentation.jpg", "cell00.bmp", "seg_cell00.png", "cell00_instances.png", "cell00_cyt.png"),
]


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("name", MASKS)
def test_a_mask_beside_its_image_is_known_by_name_size_and_colours(name: str, mode: str, tmp_path: Path):
    folder = photographs(tmp_path / "cells", ["cell00.png", "cell01.png"])
    mask(folder / name, mode=mode)
    expected = {"cell00.png": "image", "cell01.png": "image", name: "mask"}
    assert _kinds(folder) == expected == _kinds_zipped(folder, tmp_path / "cells.zip")


@pytest.mark.parametrize("name", [*MASKS, "cell00_2.png", "cell00_thumb.png", "segmented_7.png", "label.png"])
def test_a_photograph_of_such_a_name_is_an_image(name: str, tmp_path: Path):
    folder = photographs(tmp_path / "cells", ["cell00.png", name])
    assert set(_kinds(folder).values()) == {"image"}


DRAWINGS = [
    *("cell00_overlay.png", "cell00-overlay.jpg", "cell00_gradcam.png", "cell00 grad-cam.png", "cell00_heatmap.png"),
    *(
        "cell00_contours.png",
        "cell00_mask_overlay.png",
        "cell00_layer4_gradcam.png",
        "cell00_vis.png",
        "CELL00_BBOX.PNG",
    ),
    *("cell00_attention_map_3.png", "cell00_annotated.png", "CELL00_BBOX.PNG"),
]


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_over_an_image_beside_it_is_no_cell(name: str, tmp_path: Path):
    folder = photographs(tmp_path / "cells", ["cell00.png", "cell01.png", name])
    expected = {"cell00.png": "image", "cell01.png": "image", name: "mask"}
    assert _kinds(folder) == expected == _kinds_zipped(folder, tmp_path / "cells.zip")


@pytest.mark.parametrize("name", ["cell02_overlay.png", "overlay.png", "cell00overlay.png", "cell00_overlays_7b.png"])
def test_a_name_with_such_a_word_and_no_image_of_that_name_is_a_cell(name: str, tmp_path: Path):
    folder = photographs(tmp_path / "cells", ["cell00.png", name])
    assert set(_kinds(folder).values()) == {"image"}


def test_a_mask_of_another_size_or_of_no_image_is_an_image(tmp_path: Path):
    folder = photographs(tmp_path / "cells", ["cell00.png"])
    mask(folder / "cell00_mask.png", (30, 30))
    mask(folder / "cell00_overlay.png", (30, 30))
    mask(folder / "cell01_mask.png")
    assert set(_kinds(folder).values()) == {"image"}


def test_one_photograph_among_many_masks_is_kept(tmp_path: Path):
    folder = photographs(tmp_path / "cells", [f"{n:02}.png" for n in range(40)])
    for number in range(40):
        mask(folder / f"{number:02}_mask.png")
    photograph(folder / "00_mask.png", 99)
    kinds = _kinds(folder)
    assert kinds["00_mask.png"] == "image"
    assert sum(kind == "mask" for kind in kinds.values()) == 39


@pytest.mark.parametrize("name", ["masks", "Mask", "labels", "SegmentationClass", "ground_truth", "binary_masks", "GT"])
def test_a_folder_of_masks_is_known_by_name_and_colours(name: str, tmp_path: Path):
    folder = photographs(tmp_path / "cells", ["hsil/1.png", "hsil/2.png"])
    for place in ("hsil", "."):
        for number in (1, 2):
            mask(folder / place / name / f"{number}.png")
    kinds = _kinds(folder)
    assert [one for one, kind in kinds.items() if kind == "image"] == ["hsil/1.png", "hsil/2.png"]
    assert sum(kind == "mask" for kind in kinds.values()) == 4
    assert kinds == _kinds_zipped(folder, tmp_path / "cells.zip")
    assert [child.name for child in folders_in(folder)] == ["hsil"]
    photographs(tmp_path / "other", [f"{name}/1.png"])
    assert [child.name for child in folders_in(tmp_path / "other")] == [name]


@pytest.mark.parametrize(
    ("beside", "pictures"),
    [
        (["slide1.svs"], ["slide1_label.jpg"]),
        (["slide1.ndpi"], ["slide1-macro.png", "slide1 thumbnail.jpg"]),
        ([], ["slide1_label.png", "slide1_macro.png"]),
        ([], ["label.jpg", "macro.jpg", "thumbnail.jpg"]),
        (["s.mrxs"], ["s_overview.jpg"]),
        (["s.scn"], ["s_thumb.jpg"]),
    ],
)
def test_pictures_of_slides_are_known_by_the_slide_or_by_each_other(
    beside: list[str], pictures: list[str], tmp_path: Path
):
    folder = photographs(tmp_path / "cells", ["cell.png", *pictures])
    for name in beside:
        (folder / name).write_bytes(b"a slide")
    kinds = _kinds(folder)
    assert {name for name, kind in kinds.items() if kind == "slide picture"} == set(pictures)
    assert kinds["cell.png"] == "image"


def test_a_thumbnail_is_smaller_than_its_image(tmp_path: Path):
    folder = photographs(tmp_path / "cells", ["a.png", "b.png"])
    photograph(folder / "a_thumb.png", 7, (SIZE_PX[0] // 2, SIZE_PX[1] // 2))
    photograph(folder / "b_thumb.png", 8)
    assert _kinds(folder) == {
        "a.png": "image",
        "a_thumb.png": "slide picture",
        "b.png": "image",
        "b_thumb.png": "image",
    }


def test_links_are_followed_once_and_never_in_a_circle(tmp_path: Path):
    photographs(tmp_path, ["pool/1.png", "pool/2.png", "cells/hsil/1.png"])
    cells = tmp_path / "cells"
    for link, target in (
        ("hsil/again.png", "hsil/1.png"),
        ("hsil/loop", "."),
        ("hsil/up", ".."),
        ("normal", "../pool"),
        ("normal_copy", "../pool"),
        ("hsil/elsewhere.png", "../pool/1.png"),
        ("gone.png", "nowhere.png"),
        ("self.png", "self.png"),
    ):
        (cells / link).symlink_to((cells / target) if target != "self.png" else "self.png")
    assert _kinds(cells) == {
        "gone.png": "broken link",
        "hsil/1.png": "image",
        "hsil/again.png": "link",
        "hsil/elsewhere.png": "image",
        "hsil/loop": "link",
        "hsil/up": "link",
        "normal/2.png": "image",
        "normal_copy": "link",
        "self.png": "broken link",
    }


def test_links_into_a_hidden_store_are_images(tmp_path: Path):
    photographs(tmp_path, [".git/annex/1.png"])
    (tmp_path / "hsil").mkdir()
    (tmp_path / "hsil" / "1.png").symlink_to(tmp_path / ".git" / "annex" / "1.png")
    assert _kinds(tmp_path) == {"hsil/1.png": "image"}


def test_the_files_of_a_plain_folder_are_all_images_in_the_order_of_their_names(tmp_path: Path):
    names = ["a_1.png", "B.JPG", "b (2).tif", "mask.png", "seg_1.bmp", "thumb.webp", "x.jfif", "y.JPE", "é.png"]
    folder = photographs(tmp_path / "cells", names)
    assert [path.name for path, kind in files_in(folder).items() if kind == "image"] == sorted(names)


def test_one_colour_images_beside_each_other_are_no_masks(tmp_path: Path):
    for name in ("1.png", "1_seg.png", "1.bmp"):
        Image.new("RGB", (6, 5), (9, len(name), 9)).save(tmp_path / name)
    assert set(_kinds(tmp_path).values()) == {"image"}
