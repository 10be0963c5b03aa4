"""Lists on a terminal of 80 columns: a paragraph for each entry, no word broken."""

import json

import pytest

from cytolora.cli.app import main


def listed(kind: str, *options: str, capture: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit, match="0"):
        main(["ls", kind, *options])
    return capture.readouterr().out


@pytest.mark.parametrize("kind", ["models", "datasets", "methods", "grids", "presets", "engines"])
def test_every_entry_is_whole_on_80_columns(kind: str, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = listed(kind, capture=capsys)
    assert max(map(len, text.splitlines())) <= 80
    words = " ".join(text.split())
    for entry in json.loads(listed(kind, "--json", capture=capsys)):
        assert any(line.split()[:1] == [entry["name"]] for line in text.splitlines())
        assert entry["description"] in words


@pytest.mark.parametrize("kind", ["models", "datasets", "methods"])
def test_a_wide_terminal_has_a_table_and_a_narrow_one_all_its_values(kind: str, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    wide = listed(kind, capture=capsys)
    header = wide.splitlines()[0].split()
    assert (header[0], header[-1]) == ("name", "description")
    monkeypatch.setenv("COLUMNS", "80")
    narrow = " ".join(listed(kind, capture=capsys).split()).replace(",", "").replace(":", "")
    for row in wide.splitlines()[1:]:
        for cell in filter(None, (cell.strip() for cell in row.split("  "))):
            assert cell.replace(",", "").replace(":", "") in narrow
