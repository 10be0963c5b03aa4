"""Images inside files: shards, tables and arrays, as their own libraries write them, and hostile ones."""

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cytolora.classifier.inference.image_sources import find_images
from cytolora.cli.app import main
from cytolora.core.findings import problems
from cytolora.data.datasets import load_manifest
from cytolora.errors import CytoloraError, DataError

SUBSETS = ("train", "val", "test")


def _pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _png(seed: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(_pixels(seed, 20, 24, 3)).save(content, "png")
    return content.getvalue()


def _tar(file: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w") as packed:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return file


def _sample(key: str, label: str, seed: int, **more: str) -> dict[str, bytes]:
    return {f"{key}.png": _png(seed), f"{key}.json": json.dumps({"label": label, **more}).encode()}


def _labels(manifest: Any) -> list[tuple[Any, ...]]:
    return [(one.path, one.label, one.subset, one.group) for one in manifest.samples]


# WebDataset


def test_shards_are_read_with_groups_and_subsets(tmp_path: Path):
    _tar(tmp_path / "train-000000.tar", {**_sample("a_1", "hsil", 1, group="P1"), "b.jpg": _png(2), "b.cls": b"3"})
    _tar(tmp_path / "test-000000.tar", _sample("a_1", "nilm", 3, group="P2"))
    expected = [
        ("test-000000/a_1.png", "nilm", "test", "P2"),
        ("train-000000/a_1.png", "hsil", "train", "P1"),
        ("train-000000/b.jpg", "3", "train", None),
    ]
    assert _labels(load_manifest(tmp_path)) == expected
    manifest = load_manifest(tmp_path)  # from what was unpacked
    assert _labels(manifest) == expected
    assert not [one for one in problems(manifest.findings) if one.code not in ("F209", "L401")]
    assert load_manifest(tmp_path / "test-000000.tar").samples[0].label == "nilm"


def _unlabelled_tar(folder: Path) -> Path:
    return _tar(folder / "cells.tar", {"a.png": _png(1), **_sample("b", "hsil", 2), **_sample("c", "nilm", 3)})


def _parquet_of(file: Path, **columns: list[Any]) -> Path:
    number = len(next(iter(columns.values())))
    images = [{"bytes": _png(seed), "path": None} for seed in range(number)]
    pq.write_table(pa.table({"image": images, **columns}), file)
    return file


def test_images_without_a_label_are_left_out_and_counted(tmp_path: Path):
    for file in (_unlabelled_tar(tmp_path), _parquet_of(tmp_path / "x.parquet", label=["hsil", None, "nilm"])):
        for _ in range(2):  # the second is of what was unpacked
            manifest = load_manifest(file)
            assert sorted(one.label for one in manifest.samples) == ["hsil", "nilm"]
            found = [one for one in manifest.findings if one.code == "F204"]
            assert [(one.count, f"{file}: 1 image without a label is left out" in one.text) for one in found] == [
                (1, True)
            ]
        assert len(list(find_images([str(file)]))) == 3, "predicted are all"


def test_a_file_whose_labels_are_none_is_named_with_what_was_expected(tmp_path: Path):
    tar = _tar(tmp_path / "n.tar", {"a.png": _png(1), "a.json": b"{}"})
    many = _tar(tmp_path / "m.tar", {"a.png": _png(1), "a.json": b'{"label": [1, 2]}'})
    files = {
        tar: r"none of its 1 image has a label; expected tar shards with an image and json, cls or txt",
        many: r"'m/a.png' has several labels, \[1, 2\], expected one",
        _parquet_of(
            tmp_path / "f.parquet", label=[0.5, 1.5]
        ): "has labels of the type double, expected one text or whole",
        _parquet_of(tmp_path / "l.parquet", label=[[1, 2]]): "has labels of the type list",
        _parquet_of(tmp_path / "k.parquet", kind=["a"]): "has no column label; its columns are image, kind",
    }
    for file, why in files.items():
        with pytest.raises(DataError, match=why) as caught:
            load_manifest(file)
        assert str(file) in str(caught.value)
        assert "manifest.csv" not in str(caught.value)


def test_a_label_beside_other_json_counts(tmp_path: Path):
    members = {"a.png": _png(1), "a.cls": b"hsil", "a.json": b"[1, 2]", **_sample("b", "nilm", 2)}
    assert [one.label for one in load_manifest(_tar(tmp_path / "j.tar", members)).samples] == ["hsil", "nilm"]


def test_a_file_that_was_cut_off_is_called_damaged(tmp_path: Path):
    npz = tmp_path / "bloodmnist.npz"
    np.savez(npz, allow_pickle=False, train_images=_pixels(1, 2, 28, 28, 3))
    for file in (npz, _parquet_of(tmp_path / "a.parquet", label=["a", "b"])):
        file.write_bytes(file.read_bytes()[:-40])
        with pytest.raises(DataError, match=f"{file.name} (is damaged|cannot be read)"):
            load_manifest(file)


def test_webdataset_itself_wrote_this_shard(tmp_path: Path):
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    with webdataset.TarWriter(str(tmp_path / "cells-000000.tar")) as writer:
        for number, label in enumerate(("hsil", "nilm")):
            pixels = _pixels(number, 20, 24, 3)
            about = {"label": label, "group": f"P{number}", "subset": SUBSETS[number]}
            writer.write({"__key__": f"cell{number}", "png": pixels, "json": about})
    found = _labels(load_manifest(tmp_path / "cells-000000.tar"))
    assert [one[1:] for one in found] == [("hsil", "train", "P0"), ("nilm", "val", "P1")]
    image = next(tmp_path.rglob("cell0.png"))
    assert (np.asarray(Image.open(image)) == _pixels(0, 20, 24, 3)).all()


def _link(kind: bytes, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo("c.png")
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    ("members", "link", "why"),
    [
        ({"../out.png": b"x"}, None, "leaves the folder"),
        ({"/tmp/out.png": b"x"}, None, "leaves the folder"),
        ({}, _link(tarfile.SYMTYPE, "/etc/passwd"), "is a link"),
        ({}, _link(tarfile.LNKTYPE, "a.png"), "is a link"),
        ({}, _link(tarfile.FIFOTYPE, ""), "special file"),
        (_sample("a", "nilm", 2), None, "a.png twice"),
    ],
)
def test_members_that_leave_the_folder_are_refused_and_nothing_stays(
    members: dict[str, bytes], link: tarfile.TarInfo | None, why: str, tmp_path: Path
):
    file = tmp_path / "cells.tar"
    with tarfile.open(file, "w") as packed:
        for name, content in [*_sample("a", "hsil", 1).items(), *members.items()]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
        if link is not None:
            packed.addfile(link)
    with pytest.raises(DataError, match=why):
        load_manifest(file)
    assert [one for one in tmp_path.iterdir() if not one.name.startswith(".")] == [file]


def test_another_tar_file_is_refused_as_before(tmp_path: Path):
    with pytest.raises(DataError, match="Other archives are not unpacked"):
        load_manifest(_tar(tmp_path / "cells.tar", {"hsil/1.png": _png(1), "nilm/2.png": _png(2)}))


# Parquet


def _table(file: Path, **columns: Any) -> Path:
    images = [{"bytes": _png(number), "path": None} for number in range(3)]
    pq.write_table(pa.table({"image": images, **columns}), file)
    return file


def test_parquet_with_images_is_read(tmp_path: Path):
    (tmp_path / "data").mkdir()
    _table(tmp_path / "data" / "train-00000-of-00001.parquet", label=["hsil", "nilm", "hsil"], group=["a", "b", "a"])
    _table(tmp_path / "data" / "test-00000-of-00001.parquet", label=["hsil", "nilm", "nilm"], group=["c", "d", "d"])
    found = _labels(load_manifest(tmp_path))
    assert [one[1:] for one in found[:2]] == [("hsil", "test", "c"), ("nilm", "test", "d")]
    assert {one[2] for one in found} == {"train", "test"}


@pytest.mark.slow
def test_datasets_itself_wrote_this_parquet(tmp_path: Path):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["nilm", "hsil"])})
    images = [Image.fromarray(_pixels(number, 20, 24, 3)) for number in range(2)]
    made = datasets.Dataset.from_dict({"image": images, "label": [1, 0]}, features=features)
    made.to_parquet(str(tmp_path / "cells.parquet"))
    assert [one.label for one in load_manifest(tmp_path / "cells.parquet").samples] == ["hsil", "nilm"]


def test_a_parquet_file_that_unpacks_without_bound_is_refused(tmp_path: Path):
    file = tmp_path / "cells.parquet"
    image = bytes(2**20)
    pq.write_table(pa.table({"image": pa.array([image] * 72, pa.binary()), "label": ["a"] * 72}), file)
    with pytest.raises(DataError, match="more than 200 times"):
        load_manifest(file)
    assert [one for one in tmp_path.iterdir() if not one.name.startswith(".")] == [file]


# MedMNIST


def _medmnist(file: Path, *shape: int, most: int = 2, **other: np.ndarray) -> Path:
    arrays: dict[str, np.ndarray] = {}
    for seed, subset in enumerate(SUBSETS):
        arrays[f"{subset}_images"] = _pixels(seed, 4, *shape)
        arrays[f"{subset}_labels"] = np.arange(4, dtype=np.uint8)[:, None] % most
    np.savez(file, allow_pickle=True, **{**arrays, **other})
    return file


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("breastmnist_64.npz", (64, 64), ("malignant", "normal, benign")),
        ("pathmnist.npz", (28, 28, 3), ("adipose", "background")),
        ("mine.npz", (28, 28, 3), ("0", "1")),
    ],
)
def test_medmnist_keeps_its_subsets_and_pixels(name: str, shape: tuple[int, ...], classes: tuple[str, ...], tmp_path):
    file = _medmnist(tmp_path / name, *shape)
    for place in (file, tmp_path):
        manifest = load_manifest(place)
        assert manifest.classes == classes
        assert [len(manifest.subset(subset)) for subset in SUBSETS] == [4, 4, 4]
    first = manifest.subset("train")[0]
    assert (np.asarray(Image.open(first.file_in(manifest.root))) == _pixels(0, 4, *shape)[0]).all()


@pytest.mark.parametrize(
    ("name", "arrays", "why"),
    [
        ("x.npz", {"train_labels": np.array([{}] * 4, dtype=object)}, "pickled Python objects, which may run code"),
        ("x.npz", {"train_images": np.array([{}] * 4, dtype=object)}, "pickled Python objects, which may run code"),
        ("x.npz", {"train_images": _pixels(0, 4, 28, 28, 28)}, "expected 4 RGB or grey images"),
        ("chestmnist.npz", {}, "14 labels an image"),
        ("pathmnist.npz", {"val_labels": np.full((4, 1), 9, np.uint8)}, "labels from 0 to 8"),
    ],
)
def test_arrays_that_are_no_labelled_images_are_one_line(name: str, arrays: dict, why: str, tmp_path: Path, capsys):
    file = _medmnist(tmp_path / name, 28, 28, 3, **arrays)
    with pytest.raises(SystemExit) as stop:
        main(["check", str(file), "--quiet"])
    assert stop.value.code == 2
    assert why in " ".join(capsys.readouterr().err.split())
    assert [one for one in tmp_path.iterdir() if not one.name.startswith(".")] == [file]


def test_the_classes_of_medmnist_are_those_of_its_package():
    info = pytest.importorskip("medmnist.info", reason="medmnist needs scikit-image").INFO
    from cytolora.data.exchange.medmnist import CLASSES

    for flag, classes in CLASSES.items():
        if flag != "bloodmnist":  # whose longest name is shortened
            assert tuple(info[flag]["label"].values()) == classes


# HDF5


def test_hdf5_is_read_by_names_and_by_a_mapping(tmp_path: Path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    file = tmp_path / "cells.h5"
    with h5py.File(file, "w") as opened:
        opened["images"] = _pixels(0, 3, 20, 24, 3)
        opened["labels"] = np.array([1, 0, 1])
        opened["group"] = ["P1", "P2", "P1"]
        opened["a/pixels"] = _pixels(1, 3, 20, 24)
        opened["a/kind"] = np.array([0, 1, 2])
        opened["outside"] = h5py.ExternalLink("other.h5", "/images")
        opened["soft"] = h5py.SoftLink("/images")
    assert [one[1:] for one in _labels(load_manifest(file))] == [
        ("1", None, "P1"),
        ("0", None, "P2"),
        ("1", None, "P1"),
    ]
    mapping = tmp_path / "cells.h5.yaml"
    mapping.write_text("images: /a/pixels\nlabels: a/kind\nclasses: [hsil, lsil, nilm]\n")
    for place in (file, tmp_path):
        assert [one[1:] for one in _labels(load_manifest(place))][:2] == [("hsil", None, "P1"), ("lsil", None, "P2")]
    for text, why in {
        "images: outside": "is a link",
        "images: soft": "is a link",
        "images: a": "is a group",
        "images: nothing": "has no array 'nothing'",
        "image: a": "Did you mean 'images'",
        "classes: [hsil]": "has the label 1, and cells.h5.yaml lists 1 classes",
        "labels: images": "expected one value for 3 images",
    }.items():
        mapping.write_text(text)
        with pytest.raises(CytoloraError, match=why):
            load_manifest(file)


def test_hdf5_without_its_package_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "cells.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(CytoloraError, match="Install the extra `exchange`"):
        load_manifest(tmp_path / "cells.h5")


# Everywhere


def test_prediction_takes_the_images_of_a_file(tmp_path: Path):
    file = _tar(tmp_path / "cells.tar", {**_sample("a", "hsil", 1), **_sample("b", "nilm", 2)})
    sources = list(find_images(file))
    assert [os.path.basename(one.name) for one in sources] == ["a.png", "b.png"]  # noqa: PTH119
    assert sources[0].pixels().shape == (20, 24, 3)


def test_another_file_in_its_place_is_unpacked_anew(tmp_path: Path):
    file = _tar(tmp_path / "cells.tar", _sample("a", "hsil", 1))
    assert load_manifest(file).classes == ("hsil",)
    _tar(file, _sample("a", "nilm", 1))
    os.utime(file, ns=(1, 1))
    assert load_manifest(file).classes == ("nilm",)
