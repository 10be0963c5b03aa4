"""Advice of errors leads somewhere, and metadata of Hugging Face, which were refused once, are read."""

import json
from pathlib import Path

import pytest
from folders import photographs

from cytolora.data.datasets import load_manifest
from cytolora.errors import DataError

ROWS = [("1.png", "hsil"), ("2.png", "nilm, typical"), ("3.png", "é")]


def _jsonl(file: Path, rows: list[tuple[str, str]], key: str = "label") -> None:
    file.write_text("".join(json.dumps({"file_name": name, key: label}) + "\n" for name, label in rows) + "\n")


@pytest.mark.parametrize("key", ["label", "diagnosis", "cell type"])
@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_metadata_of_hugging_face_are_read(name: str, key: str, tmp_path: Path):
    cells = photographs(tmp_path / "my cells", [f"img/{image}" for image, _ in ROWS])
    rows = [(f"img/{image}", label) for image, label in ROWS]
    if name.endswith("jsonl"):
        _jsonl(cells / name, rows, key)
    else:
        (cells / name).write_text(f"file_name,{key}\n" + "".join(f'{one},"{label}"\n' for one, label in rows))
    assert {(one.path, one.label) for one in load_manifest(cells).samples} == set(rows)


def test_metadata_in_train_and_test_become_subsets(tmp_path: Path):
    for subset in ("train", "validation", "test"):
        photographs(tmp_path / subset, [image for image, _ in ROWS])
        _jsonl(tmp_path / subset / "metadata.jsonl", ROWS)
    found = {(one.path, one.label, one.subset) for one in load_manifest(tmp_path).samples}
    named = {"train": "train", "validation": "val", "test": "test"}
    assert found == {(f"{folder}/{one}", label, subset) for folder, subset in named.items() for one, label in ROWS}


def test_a_workbook_is_read_after_the_advice_of_the_error_that_names_it(tmp_path: Path):
    photographs(tmp_path, ["1.png", "2.png"])
    (tmp_path / "labels.xlsx").write_bytes(b"PK\x03\x04[Content_Types].xml")
    for point_at in (tmp_path, tmp_path / "labels.xlsx"):
        with pytest.raises(DataError, match="CSV UTF-8"):
            load_manifest(point_at)
    (tmp_path / "manifest.csv").write_text("path,label\n1.png,hsil\n2.png,nilm\n", encoding="utf-8-sig")
    assert load_manifest(tmp_path).classes == ("hsil", "nilm")
