"""A table that is named as the dataset: images among its own that no table lists are counted, and nothing else is."""

from collections.abc import Callable
from pathlib import Path

import pytest
from finding_texts import texts
from folders import photographs

from cytolora.core.findings import Finding
from cytolora.data.datasets import load_manifest

NAMES = [f"{label}/{number}.png" for label in ("hsil", "nilm") for number in range(4)]


def table(file: Path, names: list[str], write: Callable[[str], str] = str) -> Path:
    file.write_text("\n".join(["path,label", *(f"{write(name)},{name.split('/')[-2]}" for name in names)]) + "\n")
    return file


def unlisted(file: Path) -> list[Finding]:
    return [one for one in load_manifest(file).findings if one.code == "F214"]


def test_images_that_no_table_lists_are_a_note_with_their_number_and_names(tmp_path: Path):
    photographs(tmp_path, NAMES)
    (found,) = unlisted(table(tmp_path / "train.csv", [name for name in NAMES if not name.endswith("3.png")]))
    assert (found.severity, found.count, found.examples) == ("note", 2, ("hsil/3.png", "nilm/3.png"))
    assert str(found).startswith("2 images beside those of train.csv are in no table, and are not read, namely")


def test_one_is_said_as_one(tmp_path: Path):
    photographs(tmp_path, NAMES)
    said = texts(unlisted(table(tmp_path / "train.csv", NAMES[1:])))
    assert said == ["1 image beside those of train.csv is in no table, and is not read, namely hsil/0.png."]


OTHERS: dict[str, Callable[[Path], object]] = {
    "a table of paths": lambda folder: table(folder / "test.csv", NAMES[4:]),
    "a table of names alone": lambda folder: (folder / "val.csv").write_text(
        "image_name,class\n" + "".join(f"{name.split('/')[1]},x\n" for name in NAMES)
    ),
    "names without suffix, tabs": lambda folder: (folder / "test.tsv").write_text(
        "id\tlabel\n" + "".join(f"{Path(name).stem}\tx\n" for name in NAMES)
    ),
    "semicolons and quotes": lambda folder: (folder / "test.csv").write_text(
        'path;label\n"' + '";a\n"'.join(NAMES) + '";b\n'
    ),
    "paths of Windows, UTF-16": lambda folder: (folder / "test.csv").write_bytes(
        ("path,label\r\n" + "".join(f"C:\\cells\\{name},x\r\n" for name in NAMES).replace("/", "\\")).encode("utf-16")
    ),
    "a list": lambda folder: (folder / "test.txt").write_text("\n".join(NAMES)),
    "a list, upper case": lambda folder: (folder / "test.txt").write_text("\n".join(NAMES).upper()),
}


@pytest.mark.parametrize("name", OTHERS)
def test_images_of_a_table_beside_it_are_no_surprise(name: str, tmp_path: Path):
    photographs(tmp_path, NAMES)
    OTHERS[name](tmp_path)
    assert unlisted(table(tmp_path / "train.csv", NAMES[:4] + NAMES[4:5])) == []


def test_a_table_of_all_images_and_folders_of_other_data_have_no_note(tmp_path: Path):
    photographs(tmp_path, [f"cells/{name}" for name in NAMES] + ["slides/1.png", "2.png"])
    file = tmp_path / "train.csv"
    file.write_text("path,label\n" + "".join(f"cells/{name},{name[:4]}\n" for name in NAMES))
    assert unlisted(file) == []


def test_a_table_beside_that_cannot_be_read_is_no_error(tmp_path: Path):
    photographs(tmp_path, NAMES)
    (tmp_path / "other.csv").write_bytes(b"path,label\n\xff\xfe\x00,\xff\n")
    (found,) = unlisted(table(tmp_path / "train.csv", NAMES[:-1]))
    assert found.examples == ("nilm/3.png",)
