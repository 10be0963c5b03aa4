"""Hostile and unlucky files of other programs: one line each, no mixed labels, no false alarm on class folders."""

import io
import json
import os
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from folders import photographs

from cytolora.data.datasets import load_manifest
from cytolora.data.exchange import hdf5, labels
from cytolora.data.exchange.coco import read_coco
from cytolora.data.exchange.formats import READERS, convert
from cytolora.errors import ConfigError, DataError

_IMAGES = [{"id": 1, "file_name": "1.png"}, {"id": 2, "file_name": "2.png"}]
_CLASSES = [{"id": 0, "name": "nilm"}, {"id": 1, "name": "hsil"}]


def _coco(**parts: Any) -> str:
    annotations = [{"image_id": 1, "category_id": 0}]
    return json.dumps({"images": _IMAGES, "annotations": annotations, "categories": _CLASSES, **parts})


def _task(**result: Any) -> str:
    return json.dumps([{"data": {"image": "1.png"}, "annotations": [{"result": [result]}]}])


LABELS = {
    "ids that are lists": ("a.json", _coco(images=[{"id": [1], "file_name": "1.png"}]), "has the id"),
    "an image that is a list": ("a.json", _coco(annotations=[{"image_id": [1]}]), "does not list"),
    "a category that is an object": ("a.json", _coco(annotations=[{"image_id": 1, "category_id": {}}]), "category {}"),
    "two images of one id": ("a.json", _coco(images=[*_IMAGES, {"id": 1, "file_name": "2.png"}]), "two of images"),
    "two classes of one id": ("a.json", _coco(categories=[*_CLASSES, {"id": 1, "name": "x"}]), "two of categories"),
    "images without id": ("a.json", _coco(images=[{"file_name": "1.png"}]), "the id None"),
    "half a character": ("a.json", _coco(categories=[{"id": 0, "name": "\udcff"}]), "no text in UTF-8"),
    "classes by name": ("a.json", json.dumps({"classes": {"0": "a"}, "labels": {"1": 0}}), "is no list"),
    "a choice that is a number": ("a.json", _task(type="choices", value={"choices": 5}), "a list of texts"),
    "a choice that is a text": ("a.json", _task(type="choices", value={"choices": "hsil"}), "a list of texts"),
    "an unknown encoding": (
        "a.xml",
        '<?xml version="1.0" encoding="klingon"?><annotations><meta/></annotations>',
        "no XML",
    ),
    "several labels in a row": ("metadata.jsonl", '{"file_name": "1.png", "label": ["a", "b"]}', "not one label"),
    "properties that are a list": ("1.geojson", json.dumps({"features": [{"properties": [1]}]}), "no image in it"),
    "names that are a number": (
        "1.geojson",
        json.dumps({"features": [{"properties": {"classification": {"names": 5}}}]}),
        "no image in it",
    ),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_that_cannot_be_meant_are_one_line(kind: str, tmp_path: Path):
    name, text, why = LABELS[kind]
    photographs(tmp_path, ["1.png", "2.png"])
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=why):
        load_manifest(tmp_path)


def test_a_file_of_labels_beyond_the_bound_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(labels, "MAX_BYTES", 10)
    (tmp_path / "a.json").write_text(_coco())
    with pytest.raises(ValueError, match="more than 10 bytes"):
        list(read_coco(tmp_path / "a.json"))


def test_line_separators_within_a_row_do_not_end_it(tmp_path: Path):
    photographs(tmp_path, ["1.png"])
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "1.png", "label": "a\u2028b"}\n', encoding="utf-8")
    assert load_manifest(tmp_path).classes == ("a b",)


BESIDE = {
    "labels.json": '{"labels": {"hsil": 0, "nilm": 1}}',
    "classes.json": '{"labels": {"0": "hsil", "1": "nilm"}}',
    "metadata.csv": "file_name,patient\nhsil/1.png,P1\n",
    "metadata.jsonl": '{"file_name": "hsil/1.png", "stain": "pap"}\n',
    "old.tar": "no tar file",
    "old.npz": "no zip file",
}


@pytest.mark.parametrize("name", BESIDE)
def test_class_folders_stay_class_folders(name: str, tmp_path: Path):
    photographs(tmp_path, ["hsil/1.png", "hsil/2.png", "nilm/3.png", "nilm/4.png"])
    (tmp_path / name).write_text(BESIDE[name])
    assert load_manifest(tmp_path).classes == ("hsil", "nilm")


def test_what_was_unpacked_beside_class_folders_is_no_class(tmp_path: Path):
    cells = photographs(tmp_path / "cells", ["hsil/1.png", "hsil/2.png", "nilm/3.png"])
    with h5py.File(cells / "more.h5", "w") as file:
        file["images"], file["labels"] = np.zeros((1, 8, 8), np.uint8), ["x"]
    assert load_manifest(cells / "more.h5").root.name == "more.h5.images"
    assert load_manifest(cells).classes == ("hsil", "nilm")


def test_readers_do_not_list_a_folder_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    photographs(tmp_path, ["train/hsil/1.png", "train/nilm/2.png", "test/hsil/3.png", "test/nilm/4.png"])
    listed: Counter[str] = Counter()
    for name in ("listdir", "scandir"):
        of_system = getattr(os, name)
        monkeypatch.setattr(os, name, lambda place, how=of_system: listed.update([str(place)]) or how(place))
    load_manifest(tmp_path)
    assert 0 < listed[str(tmp_path / "train")] < len(READERS)


def _tar(file: Path, *names: str) -> Path:
    with tarfile.open(file, "w") as packed:
        for name in names:
            for kind in ("png", "cls"):
                member = tarfile.TarInfo(f"{name}.{kind}")
                member.size = 1
                packed.addfile(member, io.BytesIO(b"x"))
    return file


@pytest.mark.parametrize(
    "name", ["b\nc", "b\udcff", "b\\c", "b" * 300, "/".join(["b" * 200] * 6), "b\x1b[31m", "a.png/b"]
)
def test_a_name_that_no_file_has_is_refused_and_nothing_stays(name: str, tmp_path: Path):
    with pytest.raises(DataError, match="nothing was unpacked"):
        load_manifest(_tar(tmp_path / "s.tar", "a", name))
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["s.tar"]


def _header(name: str, kind: bytes, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.type = kind
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (size % 256**12).to_bytes(12)  # as GNU tar writes what octal digits cannot
    header[148:156] = b" " * 8
    header[148:155] = b"%06o\0" % sum(header)
    return bytes(header)


HEADERS = {
    "names of names": (_header("././@LongLink", tarfile.GNUTYPE_LONGNAME, 2) + b"a".ljust(512, b"\0")) * 2000,
    "a size below 0": _header("b.png", tarfile.REGTYPE, -1024),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_of_tar_that_never_end_are_refused(kind: str, tmp_path: Path):
    file = _tar(tmp_path / "s.tar", "a")
    begun = file.read_bytes()[: 4 * 512]
    file.write_bytes(begun + HEADERS[kind] + bytes(1024))
    with pytest.raises(DataError):
        load_manifest(file)


ABOUT = ({"info": [1]}, {"info": {"features": [1]}}, {"info": {"features": {"label": {"names": 5}}}})


@pytest.mark.parametrize("about", ABOUT)
def test_metadata_of_parquet_of_another_form_name_no_classes(about: Any, tmp_path: Path):
    table = pa.table({"image": [b"x"], "label": [3]}).replace_schema_metadata({"huggingface": json.dumps(about)})
    pq.write_table(table, tmp_path / "a.parquet")
    assert load_manifest(tmp_path / "a.parquet").classes == ("3",)


def _empty(file: Any) -> None:
    file.create_dataset("images", data=h5py.Empty("u1"))


def _large_chunk(file: Any) -> None:
    file.create_dataset("images", (1, 8, 8), "u1", chunks=(1, 9000, 9000), maxshape=(None,) * 3, compression="gzip")


def _damaged(file: Any) -> None:
    file.create_dataset("images", data=np.arange(64, dtype=np.uint8).reshape(1, 8, 8), chunks=True, compression="gzip")


HDF5: dict[str, tuple[Callable[[Any], None], str]] = {
    "no array": (_empty, "is empty"),
    "a chunk that inflates": (_large_chunk, "would unpack"),
    "damage": (_damaged, "is damaged"),
}


@pytest.mark.parametrize("kind", HDF5)
def test_hdf5_that_cannot_be_read_is_one_line(kind: str, tmp_path: Path):
    write, why = HDF5[kind]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        write(file)
        at = file["images"].id.get_chunk_info(0).byte_offset if kind == "damage" else None
    if at is not None:
        content = bytearray((tmp_path / "a.h5").read_bytes())
        content[at : at + 8] = b"damaged!"
        (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(DataError, match=why):
        load_manifest(tmp_path / "a.h5")


def test_texts_of_hdf5_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each of them may point to the same long text, which the size of the array does not tell."""
    monkeypatch.setattr(hdf5, "unpacks_too_far", lambda num_bytes, num_packed: num_bytes > 10_000)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = np.zeros((4, 8, 8), np.uint8)
        file.create_dataset("labels", data=np.array(["x" * 5000] * 4, object), dtype=h5py.string_dtype())
    with pytest.raises(DataError, match="would unpack"):
        load_manifest(tmp_path / "a.h5")


def test_an_npz_file_with_a_damaged_directory_is_no_dataset(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as packed:
        packed.writestr("train_images.npy", b"")
    content = bytearray((tmp_path / "a.npz").read_bytes())
    at = content.rfind(b"PK\x01\x02")
    content[at + 6] = 200  # a version of zip that there is not
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match="is no dataset"):
        load_manifest(tmp_path / "a.npz")


def test_a_file_beside_the_tasks_is_not_replaced(tmp_path: Path):
    manifest = load_manifest(photographs(tmp_path / "cells", ["hsil/1.png", "nilm/2.png"]))
    (tmp_path / "tasks.interface.xml").write_text("mine")
    with pytest.raises(ConfigError, match=r"tasks.interface.xml exists"):
        convert(manifest, "label-studio", tmp_path / "tasks.json")
    assert not (tmp_path / "tasks.json").exists()
