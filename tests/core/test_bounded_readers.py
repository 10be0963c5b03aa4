"""Files that state or hold far more than they should are refused in one line, with little memory."""

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
import torch
from peak_memory import peak_of
from PIL import Image

from cytolora.classifier.inference.image_sources import find_images
from cytolora.classifier.slides.planes import PlaneReader, ome_mpp
from cytolora.classifier.slides.positions import read_collection
from cytolora.config.reading import Decoding
from cytolora.config.yaml import read_yaml
from cytolora.core import delimited
from cytolora.core.delimited import read_table
from cytolora.core.strict_json import MAX_DEPTH, read_json
from cytolora.data.datasets import load_manifest
from cytolora.data.imaging.decode import decode
from cytolora.errors import CytoloraError, DataError, WeightsError
from cytolora.models.checkpoints.checkpoint import read_state
from cytolora.models.checkpoints.shards import read_index
from cytolora.training.embed import read_embedding

MEGABYTE = 2**20
_LAUGHS = '<!DOCTYPE a [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'


def _point(**changes: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {}, **changes}


def _nested(depth: int) -> Any:
    value: Any = 1
    for number in range(depth):
        value = [value] if number % 2 else {"a": value}
    return value


def _zip(path: Path, name: str, num_bytes: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed, packed.open(name, "w") as file:
        for _ in range(num_bytes // MEGABYTE):
            file.write(bytes(MEGABYTE))
    return path


def _torch_bomb(path: Path) -> Path:
    """Packs a checkpoint of zeros anew, 1000 to one."""
    plain = io.BytesIO()
    torch.save({"head.weight": torch.zeros(18 * MEGABYTE)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in source.infolist():
            packed.writestr(entry.filename, source.read(entry))
    return path


def _sparse(path: Path, num_bytes: int, start: bytes = b"") -> Path:
    path.write_bytes(start)
    os.truncate(path, num_bytes)
    return path


def _parquet(path: Path, *, rows: int, width: int, text: str) -> Path:
    features = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(rows * width, np.float32)), width)
    schema = pa.schema([("path", pa.string()), ("features", features.type)], metadata={"cytolora": "{}"})
    pq.write_table(pa.table([pa.array([text] * rows), features], schema=schema), path, compression="zstd")
    return path


def _stating(path: Path, planes: str, before: str = "") -> Path:
    description = (
        f'<?xml version="1.0"?>{before}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="32" SizeY="32" {planes}><TiffData/>'
        "</Pixels></Image></OME>"
    )
    tifffile.imwrite(path, np.zeros((32, 32, 3), np.uint8), description=description, metadata=None, tile=(16, 16))
    return path


_BOMBS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object]]] = {
    "checkpoint of zeros": (lambda folder: _torch_bomb(folder / "a.pt"), read_state),
    "safetensors header beyond the file": (
        lambda folder: _sparse(folder / "a.safetensors", 1000, struct.pack("<Q", 2**62) + b"{"),
        read_state,
    ),
    "safetensors header of 4 GB": (
        lambda folder: _sparse(folder / "a.safetensors", 2**33, struct.pack("<Q", 2**32) + b"{"),
        read_state,
    ),
    "YAML of 8 GB": (lambda folder: _sparse(folder / "a.yaml", 2**33, b"a: 1"), read_yaml),
    "features that are repeated": (
        lambda folder: _parquet(folder / "a.parquet", rows=70_000, width=256, text="a"),
        read_embedding,
    ),
    "texts that are repeated": (
        lambda folder: _parquet(folder / "a.parquet", rows=80, width=2, text="a" * MEGABYTE),
        read_embedding,
    ),
    "index of 8 GB": (lambda folder: _sparse(folder / "model.safetensors.index.json", 2**33, b"{"), read_index),
    "image in a zip file": (
        lambda folder: _zip(folder / "a.zip", "a.png", 70 * MEGABYTE),
        lambda path: [source.pixels() for source in find_images(path)],
    ),
    "slide of 100 million planes": (
        lambda folder: _stating(folder / "a.ome.tif", 'SizeZ="100000000" SizeC="1" SizeT="1"'),
        PlaneReader,
    ),
    "slide of very many planes on three axes": (
        lambda folder: _stating(folder / "a.ome.tif", 'SizeZ="1000" SizeC="1000" SizeT="1000"'),
        PlaneReader,
    ),
    "slide whose number is written as an entity": (
        lambda folder: _stating(folder / "a.ome.tif", 'SizeZ="&#49;00000000" SizeC="1" SizeT="1"'),
        PlaneReader,
    ),
    "slide whose metadata declare entities": (
        lambda folder: _stating(folder / "a.ome.tif", 'SizeZ="1" SizeC="1" SizeT="1"', _LAUGHS),
        PlaneReader,
    ),
}


@pytest.mark.parametrize("kind", _BOMBS)
def test_a_file_that_unpacks_or_states_too_much_is_refused_with_little_memory(kind: str, tmp_path: Path):
    make, read = _BOMBS[kind]
    path, _ = peak_of(lambda: make(tmp_path))
    error, num_bytes = peak_of(lambda: read(path))
    assert isinstance(error, CytoloraError), error
    assert "\n" not in str(error)
    assert path.name in str(error)
    assert num_bytes < 160 * MEGABYTE


@pytest.mark.parametrize("planes", ['SizeZ="100000000"', 'SizeZ="&#49;00000000"', 'SizeZ="1" SizeT="99999999999999"'])
def test_an_image_whose_metadata_state_very_many_planes_takes_little_memory(planes: str, tmp_path: Path):
    path = _stating(tmp_path / "a.tif", planes)
    pixels, num_bytes = peak_of(lambda: decode(path, decoding=Decoding(frame=0)))
    assert isinstance(pixels, DataError) or pixels.shape == (32, 32, 3)
    assert num_bytes < 40 * MEGABYTE


def test_the_size_of_a_pixel_is_not_read_where_metadata_declare_entities():
    plain = '<OME><Image><Pixels SizeX="8" SizeY="8" PhysicalSizeX="0.5"/></Image></OME>'
    assert ome_mpp(plain, (8, 8)) == (0.5, 0.5)
    assert ome_mpp(_LAUGHS + plain, (8, 8)) is None


def test_features_that_were_written_are_read_whatever_their_number(tmp_path: Path):
    path = _parquet(tmp_path / "a.parquet", rows=1000, width=3, text="a")
    embedding = read_embedding(path)
    assert embedding.features.shape == (1000, 3)
    assert embedding.made_from == {}
    assert embedding.table.column("path").to_pylist() == ["a"] * 1000


def test_a_parquet_file_without_features_is_no_file_of_features(tmp_path: Path):
    pq.write_table(pa.table({"path": ["a"]}).replace_schema_metadata({"cytolora": "{}"}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="is no file of features"):
        read_embedding(tmp_path / "a.parquet")


@pytest.mark.parametrize(("rows", "width"), [(0, 3), (2, 0), (0, 0)])
def test_features_of_no_image_or_of_no_width_are_no_file_of_features(rows: int, width: int, tmp_path: Path):
    values = pa.array(np.zeros(rows * width, np.float32))
    features = pa.FixedSizeListArray.from_arrays(values, width) if width else pa.nulls(rows, pa.list_(pa.float32(), 0))
    schema = pa.schema([("path", pa.string()), ("features", features.type)], metadata={"cytolora": "{}"})
    table = pa.table([pa.array(["a"] * rows, pa.string()), features], schema=schema)
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="is no file of features"):
        read_embedding(tmp_path / "a.parquet")


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 500, 900, 5_000, 200_000])
def test_json_that_is_nested_deeper_than_code_can_follow_is_refused(depth: int):
    text = "[" * depth + "1" + "]" * depth
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(text)


def test_json_of_ordinary_depth_is_read():
    assert read_json(json.dumps(_nested(MAX_DEPTH - 1))) == _nested(MAX_DEPTH - 1)
    assert read_json(b'{"a": [1, -2, 1e3, "x", null, {"b": []}]}') == {"a": [1, -2, 1e3, "x", None, {"b": []}]}


@pytest.mark.parametrize("digits", [301, 4_300, 5_000, 100_000])
def test_json_with_a_number_of_very_many_digits_is_refused(digits: int):
    with pytest.raises(ValueError, match=f"has {digits:,} digits, expected at most 300"):
        read_json("9" * digits)


_ODD_CELLS = {
    "nested 150 deep": (_point(properties={"a": _nested(150)}), False),
    "nested 990 deep": (_point(properties={"a": _nested(800)}), True),
    "measurements nested": (_point(properties={"measurements": _nested(700)}), True),
    "coordinates nested": ({**_point(), "geometry": {"type": "Polygon", "coordinates": _nested(900)}}, True),
    "children nested": (_point(properties={"objectType": "annotation", "childObjects": _nested(400)}), True),
}


@pytest.mark.parametrize("kind", _ODD_CELLS)
def test_cells_that_are_nested_are_read_or_refused_in_one_line(kind: str, tmp_path: Path):
    feature, is_refused = _ODD_CELLS[kind]
    (tmp_path / "a.geojson").write_text(json.dumps([feature, _point()]))
    if not is_refused:
        assert len(read_collection(tmp_path / "a.geojson").positions) == 2
        return
    with pytest.raises(DataError, match=r"a\.geojson is no JSON: it is nested too deeply") as error:
        read_collection(tmp_path / "a.geojson")
    assert "\n" not in str(error.value)


def test_a_million_nested_arrays_are_refused_with_little_memory(tmp_path: Path):
    (tmp_path / "a.geojson").write_bytes(b"[" * 1_000_000)
    error, num_bytes = peak_of(lambda: read_collection(tmp_path / "a.geojson"))
    assert isinstance(error, DataError)
    assert num_bytes < 64 * MEGABYTE


@pytest.mark.parametrize("digits", [400, 4_000, 6_000])
def test_cells_with_a_number_of_very_many_digits_are_refused(digits: int, tmp_path: Path):
    text = json.dumps([_point(properties={"measurements": {"a": 0}})]).replace("0}", "9" * digits + "}")
    (tmp_path / "a.geojson").write_text(text)
    with pytest.raises(DataError, match=f"has {digits:,} digits"):
        read_collection(tmp_path / "a.geojson")


def test_a_table_beyond_the_limit_is_refused_and_one_at_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    content = b"path,label\na.png,x\n"
    monkeypatch.setattr(delimited, "_MAX_BYTES", len(content))
    (tmp_path / "a.csv").write_bytes(content)
    assert len(read_table(tmp_path / "a.csv").rows) == 1
    (tmp_path / "a.csv").write_bytes(content + b"\n")
    with pytest.raises(DataError, match=r"it has more than 19 bytes\. Divide it"):
        read_table(tmp_path / "a.csv")


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "\u00e4" * 200 + ".png"])
def test_a_table_or_an_index_that_names_what_no_file_can_be_called_is_refused_in_one_line(name: str, tmp_path: Path):
    (tmp_path / "manifest.csv").write_text(f"path,label\n{name},hsil\n", encoding="utf-8")
    with pytest.raises(DataError, match="not there") as error:
        load_manifest(tmp_path)
    assert "\n" not in str(error.value)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(WeightsError):
        read_index(index)


def test_a_checkpoint_that_is_a_part_of_a_zip_file_of_several_disks_is_refused(tmp_path: Path):
    torch.save({"a": torch.ones(3)}, tmp_path / "a.pt")
    content = bytearray((tmp_path / "a.pt").read_bytes())
    at = content.rfind(b"PK\x06\x07")  # torch writes the locator of ZIP64
    assert at > 0
    struct.pack_into("<I", content, at + 16, 9)
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=r"a\.pt "):
        read_state(tmp_path / "a.pt")


def test_a_blank_image_in_a_zip_file_is_read_however_well_it_is_packed(tmp_path: Path):
    sink = io.BytesIO()
    Image.new("RGB", (2000, 2000), (200, 180, 220)).save(sink, "BMP")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.bmp", sink.getvalue())
    (source,) = find_images(tmp_path / "a.zip")
    assert source.pixels().shape == (2000, 2000, 3)
