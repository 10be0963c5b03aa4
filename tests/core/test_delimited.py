"""Every delimited table is read by one set of rules, and what is no table is refused with its line."""

import csv
import re
from contextlib import suppress
from io import StringIO
from itertools import product
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cytolora.core.delimited import Table, csv_line, parse_table, read_columns, read_table
from cytolora.errors import DataError

PLAIN = "path,label,group\na.png,hsil,P0\nb.png,nilm,P1\n"
ROWS = [
    {"path": "a.png", "label": "hsil", "group": "P0"},
    {"path": "b.png", "label": "nilm", "group": "P1"},
]
CELLS = st.text(alphabet=st.sampled_from(list("ab;,\t|\"'\n\r =é\u0308\u00a0\u2028\x0b中0.-+@\\")), max_size=8)


def read(folder: Path, content: str | bytes, *required: str) -> Table:
    """Reads ``t.csv`` of this content; text is written as UTF-8 with the line ends that it has."""
    path = folder / "t.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(path, required)


def cells_of(table: Table) -> list[dict[str, str]]:
    return [row for _, row in table.rows]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_one_table_is_the_same_in_every_dialect(tmp_path: Path, delimiter: str, line_end: str):
    firsts = ("", "sep={}\n", "SEP={}\n", '"sep={}"\n')
    for encoding, first in product(("utf-8", "utf-8-sig", "utf-16", "utf-32"), firsts):
        text = first.format(delimiter) + PLAIN.replace(",", delimiter)
        table = read(tmp_path, text.replace("\n", line_end).encode(encoding))
        assert (table.columns, table.delimiter) == (("path", "label", "group"), delimiter)
        assert cells_of(table) == ROWS
        assert read_columns(tmp_path / "t.csv") == table.columns


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_utf16_and_utf32_are_read_in_both_byte_orders(tmp_path: Path, encoding: str):
    assert cells_of(read(tmp_path, ("\ufeff" + PLAIN).encode(encoding))) == ROWS
    assert read_columns(tmp_path / "t.csv") == ("path", "label", "group")


@given(
    rows=st.lists(st.tuples(st.integers(0, 999).map(str), CELLS, CELLS), max_size=6),
    delimiter=st.sampled_from([",", ";", "\t"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
def test_what_the_csv_writer_writes_is_read_back_exactly(rows: list[tuple[str, ...]], delimiter: str, line_end: str):
    assume(not any(re.match(r"'+[=+\-@\t\r]", cell) for row in rows for cell in row))  # an apostrophe against formulas
    text = StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows(
        [("id", "path", "group"), *rows]
    )
    table = parse_table(text.getvalue(), "t.csv", ("id", "path"), keep_blanks=True)
    assert [tuple(row.values()) for row in cells_of(table)] == rows


@given(rows=st.lists(st.tuples(st.integers(0, 999).map(str), CELLS, CELLS), max_size=6))
def test_tables_as_this_package_writes_them_are_read_back(rows: list[tuple[str, ...]]):
    text = "".join(map(csv_line, [("path", "label", "group"), *rows]))
    table = parse_table(text, "t.csv", ("path",), keep_blanks=True)
    assert [tuple(row.values()) for row in cells_of(table)] == rows


@pytest.mark.parametrize(
    ("text", "columns", "first_row"),
    [
        ("path,label,note (a;b;c;d)\na.png,hsil,x\n", ("path", "label", "note (a;b;c;d)"), ("a.png", "hsil", "x")),
        ("id;x;y\n1;10,5;20,5\n2;11,5;21,5\n", ("id", "x", "y"), ("1", "10,5", "20,5")),
        ('path,label\na.png,"low; grade; 1"\n', ("path", "label"), ("a.png", "low; grade; 1")),
        ('"a,b";"c,d"\n1;2\n3;4\n', ("a,b", "c,d"), ("1", "2")),
        ("id\tx, y\tz, w\n1\t2\t3\n", ("id", "x, y", "z, w"), ("1", "2", "3")),
        ('"path", "label"\n"a.png", "low, grade"\n', ("path", "label"), ("a.png", "low, grade")),
        ("path\na.png\nb.png\n", ("path",), ("a.png",)),
        ("x;y;Area, µm\n1;2;3,5\n", ("x", "y", "Area, µm"), ("1", "2", "3,5")),
    ],
)
def test_rows_and_quotes_decide_the_delimiter(text: str, columns: tuple[str, ...], first_row: tuple[str, ...]):
    table = parse_table(text, "t.csv")
    assert table.columns == columns
    assert tuple(table.rows[0][1].values()) == first_row


@given(
    noise=st.lists(st.sampled_from([",", ";", "\t", ", ", "x"]), max_size=8).map("".join),
    delimiter=st.sampled_from([",", ";", "\t"]),
)
def test_required_columns_decide_the_delimiter_whatever_else_the_header_holds(noise: str, delimiter: str):
    text = StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([("path", "label", f"n{noise}"), ("a.png", "hsil", noise)])
    (row,) = cells_of(parse_table(text.getvalue(), "t.csv", ("path", "label")))
    assert (row["path"], row["label"]) == ("a.png", "hsil")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,c\n1,2, 3,4\n", "line 2: found 4 cells, the header has 3. Put quotes around a cell"),
        ("a,b,c\n1,2,3\n\n1,2\n", "line 4: found 2 cells, the header has 3. Write empty cells, too"),
        ("a;b\r\n1;2\r\n1;2;3;4;;\r\n", "line 3: found 4 cells, the header has 2"),
        ("sep=;\na;b\n1;2\n1\n", "line 4: found 1 cell, the header has 2"),
        ('a,b\n"x\ny",1\n1,2,3\n', "line 4: found 3 cells, the header has 2"),
        ("a\tb\n1\t2\n1\t2\t\t3\n", "line 3: found 4 cells, the header has 2"),
        ("a,b\r1,2\r1,2,3\r", "line 3: found 3 cells, the header has 2"),
    ],
)
def test_a_ragged_row_is_refused_with_its_line_and_both_numbers(text: str, message: str):
    with pytest.raises(DataError, match=re.escape(message)):
        parse_table(text, "t.csv")


@given(
    width=st.integers(2, 5),
    number=st.integers(1, 6),
    data=st.data(),
)
def test_a_row_of_another_length_is_never_read(width: int, number: int, data: st.DataObject):
    rows = [["x"] * width for _ in range(number)]
    bad = data.draw(st.integers(0, number - 1))
    length = data.draw(st.integers(1, 8).filter(lambda length: length != width))
    rows[bad] = ["y"] * length
    text = "\n".join(",".join(row) for row in [[f"c{n}" for n in range(width)], *rows])
    with pytest.raises(DataError, match=rf"line {bad + 2}: found {length} cells?, the header has {width}"):
        parse_table(text, "t.csv", ("c0",))


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2,,\n3,4\n",
        "a,b,,\n1,2,,\n3,4,,\n",
        "a,b,\n1,2\n3,4\n",
        "\n\na,b\n\n1,2\n,\n3,4\n\n",
        "a,b\n1,2\n , \t\n3,4\n,,,,\n",
        "\ufeffa , b\n 1 , 2\n3 ,4",
        "\u200ba,\u00a0b\n1,2\n3,4\n",
    ],
)
def test_empty_cells_at_the_end_blank_lines_and_padding_do_not_count(text: str):
    table = parse_table(text, "t.csv")
    assert table.columns == ("a", "b")
    assert cells_of(table) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


@pytest.mark.parametrize(
    ("header", "name", "numbers"),
    [
        ("path,label,label", "label", "2 and 3"),
        ("path,label, label ", "label", "2 and 3"),
        ("path;label;group;group", "group", "3 and 4"),
        ("label,path,\u200blabel", "label", "1 and 3"),
        ("cafe\u0301,label,caf\u00e9", "café", "1 and 3"),
        ("low grade,path,low\u00a0grade,low  grade", "low grade", "1 and 3 and 4"),
        ('"label",label,path', "label", "1 and 2"),
    ],
)
def test_two_columns_of_one_name_are_refused(header: str, name: str, numbers: str):
    row = ";".join("abcd"[: header.count(";") + 1]) if ";" in header else ",".join("abcd"[: header.count(",") + 1])
    with pytest.raises(DataError, match=f"'{name}' is the name of the columns {numbers}"):
        parse_table(f"{header}\n{row}\n", "t.csv")


def test_a_required_column_and_its_twin_are_refused_and_a_twin_alone_is_named():
    with pytest.raises(DataError, match="has the columns 'label' and 'Label', expected one of them"):
        parse_table("path,label,Label\na,b,c\n", "t.csv", ("path", "label"))
    with pytest.raises(DataError, match=r"no column 'path'; its header is: Path, label\. Rename 'Path' to path\."):
        parse_table("Path,label\na,b\n", "t.csv", ("path", "label"))


def test_the_index_of_a_data_frame_is_a_column_and_other_columns_need_a_name():
    assert cells_of(parse_table(",path\n0,a.png\n", "t.csv")) == [{"column 1": "0", "path": "a.png"}]
    assert cells_of(parse_table("path,,label\na,,b\n", "t.csv")) == [{"path": "a", "label": "b"}]
    with pytest.raises(DataError, match="line 3: found 'x' in column 2, which has no name"):
        parse_table("path,,label\na,,b\na,x,b\n", "t.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path,label\na,b\nc,Zelltr\xe4ger\n", r"line 3 has the byte 0xe4, which is no UTF-8\. Save it as CSV UTF-8"),
        ("path,label\r\na,é\r\n".encode("cp1252"), r"line 2 has the byte 0xe9"),
        ("path,label\ra,細胞\r".encode("shift-jis"), r"line 2 has the byte .*Save it as CSV UTF-8"),
        ("path,label\na,клетка\n".encode("cp1251"), r"line 2 has the byte .*Save it as CSV UTF-8"),
        (PLAIN.encode("utf-16-le"), "line 1 has a NUL byte, as UTF-16 without a byte order mark"),
        (PLAIN.encode("utf-16")[:-1], r"half a character, which is no UTF-16"),
        (b"path,label\na,b\nc,d\0\n", "line 3 has a NUL byte"),
        (b"PK\x03\x04\x14\0\x06\0", r"a zip file, whatever its name says\. Unpack it, and name the file in it"),
        (b"PK\x03\x04\x14\0[Content_Types].xml", r"an Excel workbook, whatever its name says\. Save it as CSV UTF-8"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook"),
        (b"PAR1\x15\x04", "a Parquet file"),
        (b"\x1f\x8b\x08\0", r"a gzip file, whatever its name says\. Unpack it, and name the file that comes out"),
    ],
)
def test_what_is_no_utf8_text_is_refused_with_the_line_and_the_way_out(tmp_path: Path, content: bytes, message: str):
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)
    read_columns(tmp_path / "t.csv")  # never raises


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a,b\n1,"2\n3,4\n', "line 2: unexpected end of data"),
        ('a,b\n1,2\n"x"y,4\n', "line 3: ',' expected after '\"'"),
        ("a,b\n1," + "x" * 200_000 + "\n", "line 2: field larger than field limit"),
        ('a;b\n1;"2\n3;4"x\n', "line 2: ';' expected after"),
    ],
)
def test_a_quote_that_is_not_closed_is_refused_where_it_begins(text: str, message: str):
    with pytest.raises(DataError, match=re.escape(message)):
        parse_table(text, "t.csv", ("a", "b"))


def test_formulas_and_numbers_stay_text():
    text = 'a,b,c\n=1+1,007,"=HYPERLINK(""x"",""y"")"\n1e5,1.10,#N/A\n'
    assert [tuple(row.values()) for row in cells_of(parse_table(text, "t.csv"))] == [
        ("=1+1", "007", '=HYPERLINK("x","y")'),
        ("1e5", "1.10", "#N/A"),
    ]


def test_lines_are_counted_where_rows_begin():
    text = 'sep=,\r\n\r\na,b\r\n"x\r\ny",1\r\n\r\nz,2\r\n'
    assert [line for line, _ in parse_table(text, "t.csv").rows] == [4, 7]


def test_an_absent_file_and_a_folder_are_refused(tmp_path: Path):
    for path in (tmp_path / "no.csv", tmp_path):
        with pytest.raises(DataError, match=r"Cannot read .* as UTF-8 text"):
            read_table(path)
        assert read_columns(path) == ()


@given(content=st.binary(max_size=60))
def test_no_bytes_end_in_anything_but_a_table_or_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    with suppress(DataError):
        table = read_table(path)
        assert len(set(table.columns)) == len(table.columns)
        assert all(tuple(row) == table.columns for _, row in table.rows)
    read_columns(path)


FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-ve", "@SUM(A1)", "\tx", "\r=x", "'=1", "''+x", "-", "=", "+1 cell"]
NUMBERS = ["-1.5", "+3", "-.5", "-1e-05", "-2,5", "-inf", "-nan"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_text_that_a_spreadsheet_would_run_is_written_with_an_apostrophe_and_read_without(text: str):
    written = csv_line(["a", text])
    assert next(csv.reader(StringIO(written, newline=""))) == ["a", f"'{text}"]
    table = parse_table(csv_line(["path", text]) + written, "t.csv", keep_blanks=True)
    assert list(table.rows[0][1].values()) == ["a", text]


@pytest.mark.parametrize("number", [*NUMBERS, -1.5, -7, float("-inf")])
def test_negative_numbers_are_written_as_they_are(number: object):
    assert csv_line(["a", number]) == f'a,"{number}"\n' if "," in str(number) else f"a,{number}\n"


@pytest.mark.parametrize("text", ["'007", "'a", "'", "it's", "007", "'1-2"])
def test_other_apostrophes_are_part_of_the_text(text: str):
    assert csv_line(["a", text]) == f"a,{text}\n"
    assert cells_of(parse_table(f"a,b\nx,{text}\n", "t.csv"))[0]["b"] == text


@given(cells=st.lists(st.text(st.sampled_from("'=+-@\t\r1.a ,\"\n")).filter(str.strip), min_size=1, max_size=4))
def test_any_text_that_is_written_is_read_back(cells: list[str]):
    names = [f"c{number}" for number in range(len(cells))]
    table = parse_table(csv_line(names) + csv_line(cells), "t.csv", keep_blanks=True)
    assert list(table.rows[0][1].values()) == cells
