"""Tables of results in notebooks and pandas."""

from html.parser import HTMLParser

import pyarrow as pa
import pytest

from cytolora.core import tables
from cytolora.core.tables import MAX_ROWS, html_table, to_pandas
from cytolora.errors import ConfigError


class _Cells(HTMLParser):
    """The texts of a table by tag, row after row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[tuple[str, str]]] = []
        self.captions: list[str] = []
        self.spans: list[str | None] = []
        self._tag = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append((tag, ""))
            self.spans += [value for name, value in attrs if name == "colspan"]

    def handle_data(self, data: str) -> None:
        if self._tag == "caption":
            self.captions.append(data)
        else:
            self.rows[-1][-1] = (self._tag, data)


def test_a_table_has_its_header_rows_and_caption_with_every_text_escaped():
    found = _Cells(html_table(["a<b", "c"], [["<i>x</i>", None], [1.23456789, 7]], caption="of <one>"))
    assert found.rows == [
        [("th", "a<b"), ("th", "c")],
        [("td", "<i>x</i>"), ("td", "")],
        [("td", "1.235"), ("td", "7")],
    ]
    assert found.captions == ["of <one>"]
    assert "<i>" not in html_table(["a"], [["<i>x</i>"]])


def test_a_table_without_a_caption_has_none():
    assert "caption" not in html_table(["a"], [[1]])


@pytest.mark.parametrize(
    ("number", "rest"), [(MAX_ROWS, None), (MAX_ROWS + 1, "and 1 more"), (1_234, "and 1,214 more")]
)
def test_at_most_twenty_rows_are_shown_and_the_rest_is_counted_across_the_whole_width(number: int, rest: str | None):
    assert MAX_ROWS == 20
    found = _Cells(html_table(["a", "b"], ([index, index] for index in range(number))))
    shown = [[(("td", str(index))), ("td", str(index))] for index in range(MAX_ROWS)]
    assert found.rows[1:] == [*shown, *([[("td", rest)]] if rest else [])]
    assert found.spans == (["2"] if rest else [])


def test_without_pandas_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> None:
        assert name == "pandas"
        raise ImportError(name)

    monkeypatch.setattr(tables, "import_module", missing)
    with pytest.raises(ConfigError, match=r"needs pandas, which is not installed: `pip install pandas`"):
        to_pandas(pa.table({"a": [1]}))


def test_an_arrow_table_becomes_a_data_frame():
    pytest.importorskip("pandas", reason="pandas is not installed")
    assert to_pandas(pa.table({"a": [1, 2]}))["a"].tolist() == [1, 2]
