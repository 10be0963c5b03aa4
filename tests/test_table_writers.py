"""Every writer of tables: what it writes, the reader of tables reads back, whatever the names hold."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import cytolora
from cytolora.classifier.decision.decide import Prediction
from cytolora.classifier.inference.table import _csv
from cytolora.classifier.slides.predict import _write_csv
from cytolora.classifier.slides.slide import SlideCell
from cytolora.core.delimited import csv_line, read_table
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.splitting.split_files import write_split
from cytolora.display.figure import to_csv_bytes
from cytolora.reporting.tables.tables import to_csv

CLASSES = ("hsil", "low, grade", 'the "other"', "a;b", "tab\tclass", "new\nline", "carriage\rreturn")
Names = Sequence[str]


def said(name: str) -> Prediction:
    return Prediction(name=name, error=name, predicted=name)


def _written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def by_predict(folder: Path, names: Names) -> Path:
    with _csv(folder / "p.csv", cast(Any, SimpleNamespace(classes=CLASSES)), False) as write:
        write([said(name) for name in names])
    return folder / "p.csv"


def by_slides(folder: Path, names: Names) -> Path:
    cells = [(SlideCell(id=name, x=1.0, y=2.0, feature={}, pixels=None, error=name), said(name)) for name in names]
    _write_csv(cells, folder / "p.csv", Path("slide, 1\r.svs"), CLASSES, with_transductive=False)
    return folder / "p.csv"


def by_split(folder: Path, names: Names) -> Path:
    labels = [f"class {name}" for name in names]  # no class may be called as a column is
    samples = tuple(
        Sample(path=name, label=label, group=name, subset="train", sha256="0" * 64)
        for name, label in zip(names, labels, strict=True)
    )
    write_split(
        Manifest(name="m", root=folder, classes=tuple(labels), samples=samples), folder / "s.csv", by_names=True
    )
    return folder / "s.csv"


def by_report(folder: Path, names: Names) -> Path:
    return _written(
        folder / "t.csv", to_csv([{"setting": name, "n": 1, "more": 0} for name in names], ["setting", "n"])
    )


def by_figure(folder: Path, names: Names) -> Path:
    return _written(folder / "f.csv", to_csv_bytes(pa.table({"setting": list(names), "n": [1] * len(names)})))


WRITERS: dict[str, tuple[Callable[[Path, Names], Path], str]] = {
    "predict": (by_predict, "path"),
    "slides": (by_slides, "id"),
    "split": (by_split, "path"),
    "report": (by_report, "setting"),
    "figure": (by_figure, "setting"),
}
"""With the column that holds the names."""

NAMES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff"), min_size=1).filter(lambda text: text.strip()),
    min_size=1,
    max_size=6,
    unique=True,
)


@pytest.mark.parametrize("writer", WRITERS)
@settings(max_examples=40)
@given(names=NAMES)
@example(names=["a\rb.png", "a\r\nb.png", "a\nb.png"])
@example(names=['say "hsil".png', '"', '""', "'"])
@example(names=["a, b.png", 'a, "b".png', "a;b.png", "a\tb.png"])
@example(names=["=1+1", "+1", "-1", "@sum"])
@example(names=[" blank.png", "blank.png ", "sep=;"])
@example(names=["Zelle ä.png", "細胞.png", "\u2028.png", "\x85.png", "\x0c.png"])
def test_names_are_read_back_as_they_were_written(writer: str, names: list[str], tmp_path: Path):
    write, column = WRITERS[writer]
    table = read_table(write(tmp_path, names), [column], keep_blanks=True)
    assert sorted(row[column] for _, row in table.rows) == sorted(names)
    assert len({len(row) for _, row in table.rows}) == 1


@pytest.mark.parametrize("writer", ["predict", "slides"])
def test_columns_of_classes_are_read_back(writer: str, tmp_path: Path):
    table = read_table(WRITERS[writer][0](tmp_path, ["1.png"]), keep_blanks=True)
    kept = [label for label in CLASSES if "\n" not in label and "\r" not in label and "\t" not in label]
    assert set(kept) <= set(table.columns)
    assert len(table.columns) == len(CLASSES) + (7 if writer == "predict" else 10)


def test_a_row_is_one_line_but_for_breaks_in_quotes():
    assert csv_line(["a\rb", None, 1.5, 'c"d', "e"]) == '"a\rb",,1.5,"c""d",e\n'


def test_no_other_module_writes_tables_by_hand():
    """`csv.writer` stands in core/delimited.py alone: of five writers, three left carriage returns unquoted."""
    files = sorted(Path(cytolora.__file__).parent.rglob("*.py"))
    writes = re.compile(r"^[^\"'#]*\bcsv\.(writer|DictWriter)\b", re.MULTILINE)  # not in a text, as of an advice
    assert [file.name for file in files if writes.search(file.read_text("utf-8"))] == ["delimited.py"]
