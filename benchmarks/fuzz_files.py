"""Seeds, mutations and readers of ``benchmarks/fuzz.py``, by kind of file."""

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Reader = Callable[[Path, bytes], object]
"""Reads a file, given where it may be written and what is in it."""
Prepared = tuple[Mapping[str, bytes], Reader]
"""Seeds by file name, and what reads them."""

_HUGE = (0, 1, 0x7F, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_TEXTS = (
    b"[" * 3000, b"{\"a\":" * 3000, b"9" * 5000, b"1e999999", b"-", b"NaN", b"null", b"\xff\xfe", b"\0", b'"', b"\r",
    b"\xe2\x80\xa8", b"&a [*a,*a]", b"!!python/object:os.system", b"? ", b": ", b"<<: *x", b"\\ud800", b"," * 2000,
    b"\xef\xbb\xbf", b"-1", b"1e-400", b"true", b"{}", b"[]", b"\t", b"a" * 150_000, b"'", b"=1+1", b"0x", b"1_000",
)  # fmt: skip
_TEXT_KINDS = ("yaml", "json", "csv", "geojson")


def mutate(kind: str, seeds: Mapping[str, bytes], rng: random.Random) -> tuple[bytes, str]:
    """Returns a mutated seed, and its name."""
    name = rng.choice(sorted(seeds))
    content = seeds[name]
    if rng.random() < 0.5 and (shaped := _shaped(content, rng)) is not None:
        content = shaped
        if rng.random() < 0.6:
            return content, name
    if kind in _TEXT_KINDS and rng.random() < 0.6:
        return _with_text(content, rng), name
    return _raw(content, seeds, rng), name


def _with_text(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        start = rng.randrange(len(changed) + 1)
        end = min(len(changed), start + rng.choice((0, 0, 1, 3, 10)))
        changed[start:end] = rng.choice(_TEXTS)
    return bytes(changed)


def _raw(content: bytes, seeds: Mapping[str, bytes], rng: random.Random) -> bytes:
    changed = bytearray(content or b"\0")
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        reach = min(rng.choice((64, 256, len(changed))), len(changed))
        changed[rng.randrange(reach)] ^= 1 << rng.randrange(8)
    match rng.randrange(7):
        case 0:
            del changed[rng.randrange(len(changed)) :]
        case 1:
            start = rng.randrange(len(changed))
            changed[start:start] = changed[start : start + rng.randrange(200)]
        case 2:
            start = rng.randrange(len(changed))
            del changed[start : start + rng.randrange(40)]
        case 3:
            other = seeds[rng.choice(sorted(seeds))]
            changed[rng.randrange(len(changed)) :] = other[rng.randrange(len(other) or 1) :]
        case 4:
            at = rng.randrange(max(1, min(len(changed) - 4, rng.choice((64, 512, len(changed))))))
            form = rng.choice(("<I", ">I", "<H", ">H"))
            value = rng.choice(_HUGE) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF)
            changed[at : at + struct.calcsize(form)] = struct.pack(form, value)
        case 5:
            changed += bytes(rng.randrange(2000))
    return bytes(changed)


def _shaped(content: bytes, rng: random.Random) -> bytes | None:
    """Changes one field of a file whose structure is known, so that the rest stays right; None for others."""
    if content.startswith(b"\x89PNG"):
        return _png_field(content, rng)
    if content[:4] in (b"II*\0", b"MM\0*"):
        return _tiff_field(content, rng)
    if content.startswith(b"PK\x03\x04"):
        return _zip_field(content, rng)
    return None


def _png_field(content: bytes, rng: random.Random) -> bytes:
    chunks, at = [], 8
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        chunks.append((content[at + 4 : at + 8], bytearray(content[at + 8 : at + 8 + length])))
        at += 12 + length
    kind, data = rng.choice([*chunks, chunks[0], chunks[0]])
    match rng.randrange(4):
        case 0 if kind == b"IHDR":
            struct.pack_into(">I", data, rng.choice((0, 4)), rng.choice((*_HUGE, 1 << 20, 9000, 50_000)))
        case 1 if kind == b"IHDR":
            data[rng.randrange(8, 13)] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
        case 2:
            chunks.insert(rng.randrange(len(chunks)), rng.choice(chunks))
        case 3:
            text = zlib.compress(bytes(rng.choice((10, 100_000, 2_000_000))))
            chunks.insert(1, rng.choice(((b"iCCP", bytearray(b"a\0\0" + text)), (b"zTXt", bytearray(b"a\0\0" + text)))))
        case _:
            if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    parts = (struct.pack(">I", len(d)) + k + bytes(d) + struct.pack(">I", zlib.crc32(k + bytes(d))) for k, d in chunks)
    return content[:8] + b"".join(parts)


def _tiff_field(content: bytes, rng: random.Random) -> bytes:
    order = "<" if content.startswith(b"II") else ">"
    changed, (at,) = bytearray(content), struct.unpack_from(order + "I", content, 4)
    if at + 2 > len(content):
        return content
    (count,) = struct.unpack_from(order + "H", content, at)
    for _ in range(rng.choice((1, 1, 2, 3))):
        entry = at + 2 + 12 * rng.randrange(max(1, count))
        if entry + 12 > len(changed):
            continue
        match rng.randrange(5):
            case 0:
                struct.pack_into(
                    order + "H", changed, entry, rng.choice((254, 258, 259, 262, 277, 278, 317, 322, 338, 339))
                )
            case 1:
                struct.pack_into(order + "H", changed, entry + 2, rng.choice((0, 1, 2, 3, 4, 5, 7, 12, 16, 99)))
            case 2:
                struct.pack_into(order + "I", changed, entry + 4, rng.choice((*_HUGE, 3, 10_000)))
            case _:
                value = rng.choice(
                    (*_HUGE, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64, 4096, 9000, 32773, 50000, 34712, len(content))
                )
                struct.pack_into(order + "I", changed, entry + 8, value)
    return bytes(changed)


def _zip_field(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    heads = ((b"PK\x03\x04", 30), (b"PK\x01\x02", 46), (b"PK\x05\x06", 22))
    head, size = rng.choice([one for one in heads if one[0] in content] or [(b"PK", 4)])
    places = [at for at in range(len(content)) if content.startswith(head, at)]
    at = rng.choice(places) + rng.randrange(4, size - 3)
    form = rng.choice(("<I", "<H"))
    with_room = changed[at : at + struct.calcsize(form)]
    value = rng.choice((*_HUGE, 1000, 12, 14, 99, 1 << 28)) & (0xFFFF if form == "<H" else 0xFFFFFFFF)
    changed[at : at + len(with_room)] = struct.pack(form, value)[: len(with_room)]
    return bytes(changed)


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def _image_seeds() -> dict[str, bytes]:
    import imagecodecs
    import tifffile

    noise = np.random.default_rng(0).integers(0, 256, (24, 31, 4), dtype=np.uint8)
    rgba, deep = Image.fromarray(noise), np.arange(24 * 31, dtype=np.uint16).reshape(24, 31) * 80
    rgb, exif = rgba.convert("RGB"), Image.Exif()
    exif[0x0112] = 6
    seeds = {
        "rgb.png": _encoded(rgb, "PNG"),
        "rgba.png": _encoded(rgba, "PNG"),
        "palette.png": _encoded(rgb.quantize(16), "PNG", transparency=3),
        "deep.png": _encoded(Image.fromarray(deep), "PNG"),
        "rgb16.png": bytes(imagecodecs.png_encode(np.stack([deep] * 3, axis=2))),
        "a.jpg": _encoded(rgb, "JPEG", exif=exif),
        "progressive.jpg": _encoded(rgb, "JPEG", progressive=True),
        "cmyk.jpg": _encoded(rgb.convert("CMYK"), "JPEG"),
        "a.bmp": _encoded(rgb, "BMP"),
        "palette.bmp": _encoded(rgb.quantize(16), "BMP"),
        "a.webp": _encoded(rgba, "WEBP", exif=exif),
        "lossless.webp": _encoded(rgb, "WEBP", lossless=True),
        "fax.tif": _encoded(rgb.convert("1"), "TIFF", compression="group4"),
        "jpeg.tif": _encoded(rgb, "TIFF", compression="jpeg"),
        "lzw.tif": _encoded(rgb, "TIFF", compression="tiff_lzw"),
    }
    stacks: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
        "tiled.tif": (noise[..., :3], {"tile": (16, 16), "compression": "deflate", "photometric": "rgb"}),
        "deep.tif": (deep, {"compression": "lzw", "predictor": True}),
        "stack.tif": (np.stack([deep] * 3), {}),
        "planar.tif": (np.stack([deep] * 3), {"planarconfig": "separate", "photometric": "rgb"}),
        "zstd.tif": (noise[..., :3], {"compression": "zstd", "photometric": "rgb"}),
        "jp2.tif": (noise[..., :3], {"compression": "jpeg2000", "photometric": "rgb"}),
    }
    for name, (values, options) in stacks.items():
        sink = io.BytesIO()
        tifffile.imwrite(sink, values, **options)
        seeds[name] = sink.getvalue()
    return seeds


def _images() -> Prepared:
    from cytolora.config.reading import VERSION_1, Decoding
    from cytolora.data.imaging.decode import decode

    choices = (Decoding(), Decoding(frame="max"), Decoding(frame="sharpest", icc="srgb"), VERSION_1)

    def read(path: Path, content: bytes) -> object:
        return decode(io.BytesIO(content), path.name, decoding=choices[zlib.crc32(content) % len(choices)]).shape

    return _image_seeds(), read


def _zipped(members: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", compression) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return sink.getvalue()


def _zips() -> Prepared:
    from cytolora.classifier.inference.image_sources import find_images
    from cytolora.data.archive import unpack
    from cytolora.errors import DataError

    images = _image_seeds()
    some = {f"hsil/{name}": images[name] for name in ("rgb.png", "a.jpg", "palette.png")}
    seeds = {
        "deflated.zip": _zipped(some),
        "stored.zip": _zipped(some, zipfile.ZIP_STORED),
        "inside.zip": _zipped({**some, "inner.zip": _zipped(some), "mask/a_mask.png": images["palette.png"]}),
        "zeros.zip": _zipped({"a.png": bytes(3_000_000), "b.npy": b"\x93NUMPY" + bytes(100)}),
    }

    def read(path: Path, content: bytes) -> object:
        path.write_bytes(content)
        if zlib.crc32(content) % 10 == 0:
            return unpack(path, path.parent / "cache")
        refused = None
        for source in find_images(path):
            try:
                source.pixels()
            except DataError as error:
                refused = error
        if refused is not None:
            raise refused
        return None

    return seeds, read


def _weights() -> Prepared:
    import torch
    from safetensors.torch import save

    from cytolora.models.checkpoints.checkpoint import read_state

    tensors = {"head.weight": torch.ones(3, 4), "head.bias": torch.zeros(3), "cls": torch.ones(1, 2, 5).half()}
    seeds = {"a.safetensors": save(tensors), "b.safetensors": save({"x": torch.arange(6)}, {"format": "pt"})}
    for name, is_zip in (("zip.pt", True), ("old.bin", False)):
        sink = io.BytesIO()
        torch.save(tensors, sink, _use_new_zipfile_serialization=is_zip)
        seeds[name] = sink.getvalue()

    def read(path: Path, content: bytes) -> object:
        path.write_bytes(content)
        return {name: tensor.sum() for name, tensor in read_state(path).items()}

    return seeds, read


def _written(reader: Callable[[Path], object]) -> Reader:
    def read(path: Path, content: bytes) -> object:
        path.write_bytes(content)
        return reader(path)

    return read


def _yaml() -> Prepared:
    from cytolora.config.grid import GridSpec
    from cytolora.config.yaml import read_spec, shipped_grids

    grid = shipped_grids()["smoke"].read_bytes()
    anchors = b"a: &a [1, 2]\nb: &b [*a, *a]\nseeds: *b\ntext: >\n  folded\n  lines\n"
    return {"grid.yaml": grid, "anchors.yaml": anchors}, _written(lambda path: read_spec(path, GridSpec))


def _json() -> Prepared:
    from cytolora.classifier.bundle.manifest import from_text
    from cytolora.models.checkpoints.shards import read_index

    index = {"metadata": {"total_size": 12}, "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "x.bin"}}
    bundle = {"format": 1, "classes": ["a", "b"], "metrics": {"test": {"accuracy": 0.5}}, "seed": 0, "sha256": "0" * 64}
    seeds = {
        "model.safetensors.index.json": json.dumps(index).encode(),
        "bundle.json": (json.dumps(bundle, indent=2, sort_keys=True) + "\n").encode(),
    }

    def read(path: Path, content: bytes) -> object:
        if path.name == "bundle.json":
            return from_text(content, path.name)
        for shard in set(index["weight_map"].values()):
            (path.parent / shard).touch()
        path.write_bytes(content)
        return read_index(path)

    return seeds, read


def _csv() -> Prepared:
    from cytolora.classifier.slides.positions import read_collection
    from cytolora.core.delimited import read_table

    rows = "".join(f"{number}.png,hsil,s{number % 3}\r\n" for number in range(20))
    seeds = {
        "labels.csv": b"path,label,group\r\n" + rows.encode(),
        "semicolons.csv": ("\ufeffsep=;\n" + '"path";label\n"a ""b"".png";lsil\n').encode(),
        "wide.csv": "path\tlabel\nä.png\tnilm\n".encode("utf-16"),
        "cells.csv": b"id,x,y\n1,10,20\n2,30.5,40\n",
    }

    def read(path: Path) -> object:
        return read_collection(path) if path.name == "cells.csv" else read_table(path, ("path",)).rows

    return seeds, _written(read)


def _geojson() -> Prepared:
    from cytolora.classifier.slides.positions import read_collection

    def feature(number: int, geometry: Any) -> dict[str, Any]:
        properties = {"objectType": "detection", "measurements": {"area": 1.5}, "classification": {"name": "a"}}
        return {"type": "Feature", "id": f"c{number}", "geometry": geometry, "properties": properties}

    square = [[[0, 0], [0, 9], [9, 9], [9, 0], [0, 0]]]
    cells = [
        feature(1, {"type": "Point", "coordinates": [10, 20]}),
        feature(2, {"type": "Polygon", "coordinates": square, "plane": {"c": -1, "z": 1, "t": 0}}),
        feature(3, {"type": "MultiPolygon", "coordinates": [square, square]}),
        feature(4, {"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]}),
    ]
    parent = feature(5, {"type": "Polygon", "coordinates": square})
    parent["properties"] = {"objectType": "annotation", "childObjects": cells[:2]}
    seeds = {
        "cells.geojson": json.dumps({"type": "FeatureCollection", "features": cells}).encode(),
        "nested.geojson": json.dumps([parent, *cells[2:]]).encode(),
    }
    return seeds, _written(read_collection)


def _onnx() -> Prepared:
    from onnx import TensorProto, helper

    from cytolora.classifier.inference.onnx_predictor import INPUT, MODEL, OnnxModel

    weights = helper.make_tensor("w", TensorProto.FLOAT, [12, 2], [0.5] * 24)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", [INPUT], ["features"]),
            helper.make_node("MatMul", ["features", "w"], ["logits"]),
        ],
        "classifier",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", 3, 2, 2])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 12]),
        ],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    contents: Any = None  # nothing of a bundle is asked before the model is open

    def read(path: Path, content: bytes) -> object:
        return OnnxModel(contents, {MODEL: content}, name=path.name, threads=1)

    return {"model.onnx": model.SerializeToString()}, read


def _parquet() -> Prepared:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from cytolora.training.embed import read_embedding

    features = pa.FixedSizeListArray.from_arrays(pa.array([0.5] * 8, pa.float32()), 4)
    schema = pa.schema(
        [("path", pa.string()), ("label", pa.string()), ("features", features.type)], metadata={"cytolora": "{}"}
    )
    table = pa.table([pa.array(["a", "b"]), pa.array(["x", None]), features], schema=schema)
    seeds = {}
    for compression in ("snappy", "none", "zstd"):
        sink = io.BytesIO()
        pq.write_table(table, sink, compression=compression)
        seeds[f"{compression}.parquet"] = sink.getvalue()
    return seeds, _written(lambda path: read_embedding(path).features.shape)


def _xlsx() -> Prepared:
    from cytolora.core.delimited import read_columns, read_table

    sheet = b"<worksheet><sheetData><row><c><v>1</v></c></row></sheetData></worksheet>"
    laughs = b'<!DOCTYPE a [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><a>&b;</a>'
    parts = {"[Content_Types].xml": b"<Types/>", "xl/workbook.xml": laughs, "xl/worksheets/sheet1.xml": sheet}
    seeds = {"labels.xlsx": _zipped(parts), "labels.csv": _zipped(parts), "old.csv": b"\xd0\xcf\x11\xe0" + bytes(600)}
    return seeds, _written(lambda path: (read_columns(path), read_table(path, ("path",))))


def _npy() -> Prepared:
    import gzip

    from cytolora.data.readers.bloodmnist import read_bloodmnist
    from cytolora.data.signatures import content_of

    arrays: dict[str, Any] = {}
    for subset in ("train", "val", "test"):
        arrays[f"{subset}_images"] = np.full((1, 28, 28, 3), 7, np.uint8)
        arrays[f"{subset}_labels"] = np.zeros((1, 1), np.uint8)
    packed, plain = io.BytesIO(), io.BytesIO()
    np.savez_compressed(packed, **arrays)
    np.save(plain, np.zeros((3, 16, 16), np.uint8))
    seeds = {
        "bloodmnist.npz": packed.getvalue(),
        "a.npy": plain.getvalue(),
        "a.npy.gz": gzip.compress(plain.getvalue()),
        "zeros.gz": gzip.compress(bytes(5_000_000)),
    }

    def read(path: Path, content: bytes) -> object:
        kind = content_of(io.BytesIO(content))
        return _written(read_bloodmnist)(path, content) if path.suffix == ".npz" else kind

    return seeds, read


def _dicom() -> Prepared:
    from cytolora.data.imaging.decode import decode
    from cytolora.data.signatures import content_of

    element = struct.pack("<HH2sH", 2, 0, b"UL", 4) + struct.pack("<I", 100)
    seeds = {"a.dcm": bytes(128) + b"DICM" + element + bytes(200), "bare.dcm": element + bytes(300)}

    def read(path: Path, content: bytes) -> object:
        content_of(io.BytesIO(content))
        return decode(io.BytesIO(content), path.name)

    return seeds, read


KINDS: dict[str, Callable[[], Prepared]] = {
    "images": _images,
    "zips": _zips,
    "safetensors": _weights,
    "yaml": _yaml,
    "json": _json,
    "csv": _csv,
    "geojson": _geojson,
    "onnx": _onnx,
    "parquet": _parquet,
    "xlsx": _xlsx,
    "npy": _npy,
    "dicom": _dicom,
}
"""By name: makes the seeds and the reader of a kind of file."""
