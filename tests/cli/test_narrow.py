"""Lists on a terminal of 80 columns: the columns that matter, no word broken; all of them with --wide."""

import json

import pytest

from cytolora.cli.app import main


def listed(kind: str, *options: str, capture: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit, match="0"):
        main(["ls", kind, *options])
    return capture.readouterr().out


KINDS = ("models", "datasets", "methods", "pools", "formats", "trackers", "grids", "presets", "engines")


@pytest.mark.parametrize("kind", KINDS)
def test_the_columns_that_matter_are_a_table_of_80_columns(kind: str, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main(["ls", kind])
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert max(map(len, lines)) <= 80
    header = lines[0].split()
    assert header[0] == "name"
    at = lines[0].index(header[-1])
    shown = " ".join(line[at:].strip() for line in lines[1:])
    for entry in json.loads(listed(kind, "--json", capture=capsys)):
        (line,) = [line for line in lines if line.split()[:1] == [entry["name"]]]
        assert all(str(entry[name]) in " ".join(line.split()) for name in header[1:-1] if name not in SHORTENED)
        if header[-1] in entry:
            assert " ".join(entry[header[-1]].split()) in " ".join(shown.split())
    assert ("--wide" in printed.err) == (kind in ("models", "datasets", "methods", "pools", "formats"))


SHORTENED = ("use", "datasets", "licence")
"""Columns that may be broken into lines, or are others in --json."""


@pytest.mark.parametrize("kind", ["models", "datasets", "methods"])
def test_every_entry_is_whole_on_80_columns(kind: str, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = listed(kind, "--wide", capture=capsys)
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
    narrow = " ".join(listed(kind, "--wide", capture=capsys).split()).replace(",", "").replace(":", "")
    for row in wide.splitlines()[1:]:
        for cell in filter(None, (cell.strip() for cell in row.split("  "))):
            assert cell.replace(",", "").replace(":", "") in narrow
