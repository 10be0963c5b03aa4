"""Tables of cell positions: delimiters, decimal commas, other images, types of objects, rows without a position."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolora.classifier.slides.image_names import image_parts, is_same_image
from cytolora.classifier.slides.objects import Target
from cytolora.classifier.slides.positions import Collection, read_collection
from cytolora.errors import DataError

TARGET = Target(image="slide.svs", mpp=0.25, crop_um=30)


def read(path: Path, text: str, target: Target | None = TARGET) -> Collection:
    path.write_bytes(text.encode())
    return read_collection(path, target)


def told(found: Collection) -> tuple[list[tuple[str, float, float]], list[str]]:
    return [(one.id, one.x, one.y) for one in found.positions], [one.code for one in found.findings]


@pytest.mark.parametrize(
    "text",
    [
        "id,x,y\na,5.5,6\nb,7,8.25\n",
        "id;x;y\na;5.5;6\nb;7;8.25\n",
        "id;x;y\na;5,5;6\nb;7;8,25\n",
        "id\tx\ty\na\t5,5\t6\nb\t7\t8,25\n",
        "sep=;\nid;x;y\na;5,5;6\nb;7;8,25\n",
        "SEP=,\nid,x,y\na,5.5,6\nb,7,8.25\n",
        "\ufeffid;x;y\r\na;5.5;6\r\nb;7;8.25\r\n",
        '\ufeffsep=\t\n"id"\t"X"\t"Y"\n"a"\t"5.5"\t"6"\nb\t7\t8.25\n',
        "id; x ; y\na; 5.5 ; 6 \nb;7;8.25;\n".replace(";\n", "\n"),
        "id,x,y\n\na,5.5,6\n,,\nb,7,8.25\n",
    ],
)
def test_a_table_of_any_delimiter_gives_the_same_positions(text: str, tmp_path: Path):
    assert told(read(tmp_path / "cells.csv", text)) == ([("a", 5.5, 6), ("b", 7, 8.25)], [])


@given(
    points=st.lists(st.tuples(*[st.decimals(0, 9999, places=2)] * 2), min_size=1, max_size=5),
    delimiter=st.sampled_from([",", ";", "\t"]),
    has_comma=st.booleans(),
    has_line=st.booleans(),
)
@settings(max_examples=50)
def test_positions_do_not_depend_on_delimiter_and_decimal_sign(
    points: list, delimiter: str, has_comma: bool, has_line: bool, tmp_path_factory: pytest.TempPathFactory
):
    lines = [delimiter.join(["id", "x", "y"])]
    for number, point in enumerate(points):
        values = [str(value).replace(".", "," if has_comma and delimiter != "," else ".") for value in point]
        lines.append(delimiter.join([f"c{number}", *values]))
    text = "\n".join([*([f"sep={delimiter}"] if has_line else []), *lines])
    found = read(tmp_path_factory.mktemp("table") / "cells.csv", text)
    expected = [(f"c{number}", float(x), float(y)) for number, (x, y) in enumerate(points)]
    assert told(found) == (expected, [])


@pytest.mark.parametrize(
    "bad", ["nan,5", ",5", "5,", "inf,5", "x,y", '"1,234",5', '"1.234,5",5']
)  # the last two: thousands, which a table with commas cannot tell from decimals
def test_a_row_without_a_position_is_left_out_with_its_line(bad: str, tmp_path: Path):
    found = read(tmp_path / "cells.csv", f"x,y\n1,2\n{bad}\n3,4\n")
    assert told(found) == ([("1", 1, 2), ("3", 3, 4)], ["S704"])
    assert "line 3 (no numbers in x and y" in str(found.findings[0])


@pytest.mark.parametrize(("row", "number"), [("5,5,6,5", 4), ("5", 1)])
def test_a_row_of_another_length_than_the_header_is_refused_with_its_line(row: str, number: int, tmp_path: Path):
    with pytest.raises(DataError, match=rf"line 3: found {number} cells?, the header has 2"):
        read(tmp_path / "cells.csv", f"x,y\n1,2\n{row}\n")


@pytest.mark.parametrize(
    "column", ["Image", "image", "Image name", "image_name", "slide", "Slide", "filename", "File name"]
)
@pytest.mark.parametrize("other", ["other.svs", "slide2.svs", "slide_b.svs - Series 0"])
def test_rows_of_another_image_are_left_out_and_counted(column: str, other: str, tmp_path: Path):
    rows = "".join(f"{name}\tc{n}\t{n}\t{n + 1}\n" for n, name in enumerate(["slide.svs", other, "slide.svs", other]))
    found = read(tmp_path / "cells.tsv", f"{column}\tid\tx\ty\n{rows}")
    assert told(found) == ([("c0", 0, 1), ("c2", 2, 3)], ["S702"])
    assert found.findings[0].count == 2
    assert f"'{other}' (2)" in str(found.findings[0])


@pytest.mark.parametrize(
    "name",
    [
        "slide.svs",
        "Slide.SVS",
        "slide",
        "slide.ome.tif",
        "slide.ome.tiff",
        "/scans/a b/slide.svs",
        r"C:\scans\slide.svs",
        "slide.svs - Series 0",
        "slide.svs - Series 1",
        "slide.ome.tif - Image0",
        "slide.svs #1",
        "slide.svs [0]",
        "slide - Series 0",
        "file:/C:/scans/slide.svs",
        " slide.svs ",
    ],
)
def test_a_name_of_the_slide_is_known_with_folder_suffix_case_and_series(name: str, tmp_path: Path):
    assert is_same_image(name, "slide.svs")
    found = read(tmp_path / "cells.tsv", f"Image\tid\tx\ty\n{name}\ta\t5\t6\n")
    assert told(found) == ([("a", 5, 6)], [])


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("slide.1.svs", "slide.2.svs"),
        ("slide", "slide 2"),
        ("a-1.svs", "a-2.svs"),
        ("case 12", "case 1"),
        ("a.b", "a.c"),
        ("slide (2).svs", "slide.svs"),
        ("svs", "tif"),
    ],
)
def test_names_of_two_slides_are_told_apart(one: str, two: str):
    assert not is_same_image(one, two)
    assert is_same_image(one, one)
    assert image_parts(one)[0]


def test_a_table_of_other_images_alone_is_refused_with_their_names(tmp_path: Path):
    text = "Image\tx\ty\nb.svs\t1\t2\na.svs\t1\t2\nb.svs\t3\t4\n"
    with pytest.raises(DataError, match=r"has no cell of slide\.svs: its rows name 'a\.svs' \(1\), 'b\.svs' \(2\)\."):
        read(tmp_path / "cells.tsv", text)
    assert len(read(tmp_path / "cells.tsv", text, None).positions) == 3


def test_rows_of_two_series_of_one_file_are_refused(tmp_path: Path):
    text = "Image\tx\ty\nslide.svs - Series 0\t1\t2\nslide.svs - Series 1\t1\t2\n"
    with pytest.raises(DataError, match=r"cells of 2 images of slide\.svs"):
        read(tmp_path / "cells.tsv", text)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("Object type", "Annotation"),
        ("Object type", "TMA core"),
        ("Object type", "Tile"),
        ("objectType", "annotation"),
        ("object_type", "annotation"),
        ("Name", "PathAnnotationObject"),
        ("Classification", "annotation"),
        ("type", "annotation"),
        ("Object type", "Image"),
    ],
)
def test_a_row_that_is_no_cell_is_left_out(column: str, value: str, tmp_path: Path):
    found = read(tmp_path / "cells.tsv", f"id\t{column}\tx\ty\na\t{value}\t1\t2\nb\tCell\t3\t4\nc\t\t5\t6\n")
    assert told(found) == ([("b", 3, 4), ("c", 5, 6)], ["S701"])


@pytest.mark.parametrize("value", ["Cell", "Detection", "PathCellObject", "Tumor", "HSIL: annotation-like", ""])
def test_rows_of_cells_and_of_any_class_are_read(value: str, tmp_path: Path):
    text = f"id\tObject type\tName\tClassification\tx\ty\na\tCell\t{value}\t{value}\t1\t2\n"
    assert told(read(tmp_path / "cells.tsv", text)) == ([("a", 1, 2)], [])


def test_annotations_alone_are_the_cells_of_a_table(tmp_path: Path):
    found = read(tmp_path / "cells.csv", "id,Object type,x,y\na,Annotation,1,2\n")
    assert told(found) == ([("a", 1, 2)], ["S705"])


@pytest.mark.parametrize("name", ["Centroid X µm", "Centroid X μm", "centroid x µm", " Centroid X µm "])
def test_either_micro_sign_names_a_column_in_micrometres(name: str, tmp_path: Path):
    found = read(tmp_path / "cells.tsv", f"{name}\t{name.replace('X', 'Y').replace(' x ', ' y ')}\n5\t6\n")
    assert [(one.x, one.y, one.unit, one.origin) for one in found.positions] == [(5, 6, "um", "bounds")]


def test_ids_that_are_types_of_qupath_are_numbered_and_planes_are_read(tmp_path: Path):
    found = read(tmp_path / "cells.csv", "id,x,y,z\nPathCellObject,1,2,0\nPathCellObject,3,4,2\n")
    assert [(one.id, one.z) for one in found.positions] == [("1", 0), ("2", 2)]


@pytest.mark.parametrize("column", ["slide_id", "WSI name", "wsi_path", "image_id", "Image Path", "filepath", "file"])
def test_every_column_that_names_the_slide_is_looked_at(column: str, tmp_path: Path):
    found = read(tmp_path / "cells.csv", f"{column},x,y\nother,1,2\nslide,3,4\n/data/slide.svs,5,6\n")
    assert told(found) == ([("2", 3, 4), ("3", 5, 6)], ["S702"])


@pytest.mark.parametrize("name", ["cell_{}.png", "slide_{}.tif", "crops/{}.jpg", "{}", "P1-{}.bmp", "00{}"])
def test_names_of_crops_and_numbers_are_no_other_slides_and_it_is_said(name: str, tmp_path: Path):
    rows = "".join(f"{name.format(number)},{number},2\n" for number in (1, 2, 3))
    found = read(tmp_path / "cells.csv", f"filename,x,y\n{rows}")
    assert told(found) == ([("1", 1, 2), ("2", 2, 2), ("3", 3, 2)], ["S708"])
    assert (found.findings[0].severity, found.findings[0].count) == ("warning", 3)


@pytest.mark.parametrize("names", [("17", "17"), ("a.svs", "b.ndpi"), ("a.png", "a.png"), ("P1", "P2")])
def test_rows_of_other_slides_alone_are_refused_or_of_one_number_taken(names: tuple[str, str], tmp_path: Path):
    text = f"slide,x,y\n{names[0]},1,2\n{names[1]},3,4\n"
    if names[0] == "17":
        assert told(read(tmp_path / "cells.csv", text)) == ([("1", 1, 2), ("2", 3, 4)], [])
    else:
        with pytest.raises(DataError, match=r"has no cell of slide\.svs: its rows name"):
            read(tmp_path / "cells.csv", text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x,y,w,h\n1,2,50,60\n", "'w' and 'h' beside x and y: boxes"),
        ("X,Y,Width,Height\n1,2,50,60\n", "'Width' and 'Height' beside x and y: boxes"),
        ("x_um,y_um,bbox_w,bbox_h\n1,2,50,60\n", "'bbox_w' and 'bbox_h' beside x and y: boxes"),
        ("x,y,level\n1,2,0\n3,4,1\n", "column 'level' holds '1', expected 0"),
        ("x,y,Downsample\n1,2,4.0\n", "column 'Downsample' holds '4.0', expected 1"),
        ("x,y\n0.1,0.2\n0.9,0.5\n", "shares of the slide"),
        ("x;y\n0,1;0,25\n0,9;1\n", "shares of the slide"),
        ("x;y\n1,234;10\n20;2,345\n", "'1,234' beside whole numbers may be thousands or a fraction"),
        ("x\ty\n12,345\t7\n", "'12,345' beside whole numbers may be thousands or a fraction"),
    ],
)
def test_positions_in_another_frame_are_refused_with_what_to_write(text: str, said: str, tmp_path: Path):
    with pytest.raises(DataError) as caught:
        read(tmp_path / "cells.csv", text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x,y,level\n1,2,0\n3,4,0.0\n", [(1, 2), (3, 4)]),
        ("x,y,downsample\n1,2,1\n", [(1, 2)]),
        ("x,y,width\n1,2,9\n", [(1, 2)]),
        ("Centroid X µm,Centroid Y µm,Width,Height\n1,2,9,9\n", [(1, 2)]),
        ("Centroid X um,Centroid Y um\n1.5,2\n", [(1.5, 2)]),
        ("x_µm;y_µm\n1,234;2,5\n7;8\n", [(1.234, 2.5), (7, 8)]),
        ("x,y\n12.345,7\n1.234,8\n", [(12.345, 7), (1.234, 8)]),
        ("x,y\n0,1\n1,0\n", [(0, 1), (1, 0)]),
        ("x,y\n0.5,0.25\n", [(0.5, 0.25)]),
    ],
)
def test_ordinary_positions_are_read_without_a_word(text: str, expected: list, tmp_path: Path):
    found = read(tmp_path / "cells.csv", text)
    assert ([(one.x, one.y) for one in found.positions], found.findings) == (expected, ())


@pytest.mark.parametrize(("z", "plane"), [("2.0", 2), ("2", 2), ("0.00", 0), ("", None), ("-", None), ("1.5", None)])
def test_a_focal_plane_may_be_written_as_a_fraction_of_zero(z: str, plane: int | None, tmp_path: Path):
    assert [one.z for one in read(tmp_path / "cells.csv", f"x,y,z\n1,2,{z}\n").positions] == [plane]


@pytest.mark.parametrize("ids", [("", "1"), ("2", ""), ("a", "", "2"), ("3", "", "", "2"), ("", "1", "1*")])
def test_a_row_without_an_id_gets_one_that_no_other_row_has(ids: tuple[str, ...], tmp_path: Path):
    rows = "".join(f"{name},{number},2\n" for number, name in enumerate(ids))
    found = read(tmp_path / "cells.csv", f"id,x,y\n{rows}")
    names = [one.id for one in found.positions]
    assert len(set(names)) == len(ids)
    assert all(written in ("", name) for written, name in zip(ids, names, strict=True))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x,y,unit\n1,2,µm\n", "column 'unit' holds 'µm', and the columns of the positions are for pixels of level 0"),
        ("X;Y;Units\n1;2;\n3;4;Microns\n", "holds 'Microns'"),
        ("x,y,x_unit\n1,2,(um)\n", "Name the columns x_um,y_um, and remove 'x_unit'"),
        ("x,y,Coordinate unit\n1,2,mm\n", "Write the positions in pixels, or as x_um,y_um"),
        ("x_um,y_um,unit\n1,2,px\n", "are for micrometres. Name the columns x,y"),
        ("x_px,y_px,unit\n1,2,%\n", "holds '%'"),
        ("x,y,mpp\n1,2,0.5\n", "column 'mpp' holds 0.5, and level 0 of the slide has 0.25 µm per pixel. Multiply x"),
        ("x;y;Pixel size [µm]\n1;2;0,5\n", "Multiply x and y by 2, the ratio"),
        ("x,y,um_per_px\n1,2,0.25\n3,4,1.0\n", "by 4, the ratio"),
        ("x,y,x2,y2\n1,2,30,40\n", "'x2' and 'y2' beside x and y: boxes"),
        ("x,y,X max,Y max\n1,2,30,40\n", "'X max' and 'Y max' beside x and y: boxes"),
        ("x,y,bbox_width,bbox_height\n1,2,30,40\n", "boxes"),
        ("x,y,x_um,y_um\n100,200,25,50\n10,20,25,50\n", "line 3: x,y = 10,20 and x_um,y_um = 25,50 are two places"),
        ("x,y,x_px,y_px\n10,20,1010,2020\n", "x,y = 10,20 and x_px,y_px = 1010,2020 are two places"),
    ],
)
def test_a_column_that_says_that_positions_are_others_is_not_passed_over(text: str, said: str, tmp_path: Path):
    with pytest.raises(DataError) as caught:
        read(tmp_path / "cells.csv", text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "x,y,unit\n1,2,px\n",
        "x,y,unit\n1,2,ICU\n",
        "x,y,mpp\n1,2,0.2501\n",
        "x,y,mpp\n1,2,\n",
        "x,y,x_um,y_um\n1,2,0.25,0.5\n",
        "x,y,x_um,y_um\n1,2,,\n",
        "x,y,Centroid X µm,Centroid Y µm\n1,2,900,900\n",
    ],
)
def test_a_column_that_agrees_with_the_slide_is_nothing_to_speak_of(text: str, tmp_path: Path):
    assert told(read(tmp_path / "cells.csv", text)) == ([("1", 1, 2)], [])


def test_two_pairs_of_columns_in_one_frame_are_read_without_a_slide(tmp_path: Path):
    assert told(read(tmp_path / "cells.csv", "x,y,x_um,y_um\n100,200,25,50\n", None)) == ([("1", 100, 200)], [])
