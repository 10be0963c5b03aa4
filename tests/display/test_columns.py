"""Figures as PDF are exactly as wide as one or two columns of a paper, with nothing cut off."""

import io
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fontTools.ttLib import TTFont
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D

from cytolora.display.column import (
    DPI,
    WIDTHS,
    Columns,
    canvas,
    for_columns,
    is_narrow,
    lay_out,
    legend,
    render,
    to_pdf,
)
from cytolora.display.confusion import ConfusionMatrix
from cytolora.display.figure import look, save, stamp
from cytolora.display.lines import panels

pytestmark = pytest.mark.usefixtures("real_drawings")

POINT_MM = 25.4 / 72


def width_mm(pdf: bytes) -> float:
    box = re.search(rb"/MediaBox \[ ?([\d.]+) ([\d.]+) ([\d.]+) ([\d.]+) ?\]", pdf)
    assert box is not None
    return (float(box[3]) - float(box[1])) * POINT_MM


def points(pdf: bytes) -> set[float]:
    """Sizes of the letters of its text, which is text and no outlines."""
    bodies = [
        zlib.decompress(found) for found in re.findall(rb"/FlateDecode.*?stream\r?\n(.*?)\r?\nendstream", pdf, re.S)
    ]
    return {float(size) for body in bodies for size in re.findall(rb"/F\d+ ([\d.]+) Tf", body)}


def curves() -> Drawing:
    drawing = canvas(6.6, 4)
    drawing.subplots().plot([1, 2], [3, 4])
    legend(drawing, [Line2D([], [], label="a model of a long name, all images")], loc="outside right center")
    return drawing


def small() -> Drawing:
    drawing = canvas(2, 1.5)
    drawing.subplots().plot([1, 2], [3, 4])
    return drawing


def grid() -> Drawing:
    drawing, axes = panels(5, 3, share_y=True, size=(2.7, 2.6))
    for panel in axes:
        panel.plot([1, 2], [3, 4])
    stamp(drawing, "a caution of many words, " * 8)
    return drawing


def matrix(count: int) -> ConfusionMatrix:
    classes = tuple(f"a class of long name {index}" for index in range(count))
    return ConfusionMatrix(name="m", caption="", classes=classes, counts=np.eye(count, dtype=np.int64) * 7)


MAKERS: dict[str, Any] = {
    "curves": curves,
    "small": small,
    "grid": grid,
    "matrix of 2": lambda: matrix(2).plot(),
    "matrix of 7": lambda: matrix(7).plot(),
    "matrix of 25": lambda: matrix(25).plot(),
}


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("name", list(MAKERS))
def test_a_pdf_has_the_width_of_its_columns_and_holds_all_of_the_drawing(name: str, columns: Columns):
    with look(), for_columns(columns):
        drawing = MAKERS[name]()
        pdf = to_pdf(drawing, columns)
        box = drawing.get_tightbbox()
    assert width_mm(pdf) == pytest.approx({1: 88, 2: 181}[columns], abs=0.1)
    assert box.width <= WIDTHS[columns]
    assert min(points(pdf)) >= 5.9  # what journals ask for is 6; a last touch of scaling may take a little of it


def test_letters_of_a_figure_are_text_in_its_svg(tmp_path: Path):
    save(matrix(3), tmp_path)
    for text in ("a class of long name 2", "Predicted"):
        assert re.search(rf"<text [^>]*>{text}</text>", (tmp_path / "m.svg").read_text(encoding="utf-8"))


def test_letters_are_embedded_as_truetype_and_equal_figures_give_equal_bytes():
    with look(), for_columns(1):
        first, second = (to_pdf(curves(), 1) for _ in range(2))
    assert first == second
    assert b"/FontFile2" in first
    assert b"/Type3" not in first


def test_embedded_fonts_hold_letters_and_no_tables_of_text_layout():
    with look(), for_columns(1):
        pdf = to_pdf(small(), 1)
    streams = [
        zlib.decompress(found) for found in re.findall(rb"/Length1 .*?stream\r?\n(.*?)\r?\nendstream", pdf, re.S)
    ]
    fonts = [TTFont(io.BytesIO(stream)) for stream in streams]
    assert fonts
    for font in fonts:
        assert {"glyf", "hmtx", "loca"} <= set(font.keys())
        assert not {"GDEF", "GPOS", "GSUB", "kern"} & set(font.keys())


def test_saving_a_drawing_moves_no_part_of_it_and_keeps_its_layout_for_the_next_format():
    with look():
        drawing = curves()
        box, engine = lay_out(drawing), drawing.get_layout_engine()
        places = [axes.get_position().bounds for axes in drawing.axes]
        render(drawing, "png", box, dpi=DPI)
    assert [axes.get_position().bounds for axes in drawing.axes] == places
    assert engine is not None
    assert drawing.get_layout_engine() is engine


def test_only_drawings_for_one_column_are_narrow():
    assert not is_narrow()
    with for_columns(1):
        assert is_narrow()
        assert canvas(9, 4).get_figwidth() == pytest.approx(1.25 * 88 / 25.4)
        assert len({round(axes.get_position().x0, 3) for axes in panels(4, 2, share_y=False, size=(3, 2))[1]}) == 1
    with for_columns(2):
        assert not is_narrow()
    assert canvas(9, 4).get_figwidth() == 9


@pytest.mark.usefixtures("real_pdfs")
def test_pdfs_are_saved_beside_svg_and_png_and_kept_in_the_cache(tmp_path: Path):
    figure = matrix(3)
    for folder in ("a", "b"):
        save(figure, tmp_path / folder, tmp_path / "cache", as_pdf=True)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["m.csv", "m.png", "m.svg", "m.tex", "m_1col.pdf", "m_2col.pdf"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    for columns, width in ((1, 88), (2, 181)):
        assert width_mm((tmp_path / "a" / f"m_{columns}col.pdf").read_bytes()) == pytest.approx(width, abs=0.1)
    save(figure, tmp_path / "c")
    assert not list((tmp_path / "c").glob("*.pdf"))
