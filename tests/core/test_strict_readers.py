"""YAML and JSON as strangers write them: read as they stand, or one ValueError; never another exception, nor a hang."""

import ast
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import cytolora
from cytolora.config.yaml import read_yaml
from cytolora.core.strict_json import read_json
from cytolora.core.strict_yaml import MAX_DEPTH, read_yaml_text
from cytolora.errors import ConfigError

SOURCES = Path(cytolora.__file__).parent
LAUGHS = "\n".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9) if before else ', '.join('l' * 9)}]"
    for before, name in zip(["", *"abcdefgh"], "abcdefghi", strict=True)
)

REFUSED = {
    "nested lists": ("[" * 5_000, "nested more than 64 deep"),
    "nested mappings": ("\n".join(" " * depth + "a:" for depth in range(2_000)), "line 65: .*nested more than 64 deep"),
    "a number of 5,000 digits": (
        f"seeds: [{'9' * 5_000}]",
        "line 1: the number 99999999999999999999… has 5,000 digits",
    ),
    "a hexadecimal number of 6,000 digits": (f"seeds: [0x{'f' * 6_000}]", "has 6,002 digits"),
    "a key twice": ("seeds: [1]\nshots: [1]\nseeds: [2]", "line 3: the key 'seeds' stands twice"),
    "a key twice, deeper": ("a:\n  b: 1\n  b: 1", "line 3: the key 'b' stands twice"),
    "aliases of aliases": (LAUGHS, "line 6: .*more than 200,000 values"),
    "an alias of itself": ("a: &a\n  b: *a", "recursive"),
    "an object of Python": ("!!python/object/apply:os.system [ls]", "tag tag:yaml.org,2002:python.* is not read"),
    "a tag of YAML": ("a: !!bool maybe", "tag tag:yaml.org,2002:bool is not read"),
    "a list as key": ("? [1, 2]\n: 3", "a key is a list"),
    "two documents": ("--- 1\n--- 2", "another document"),
    "a date that is none": ("a: 2024-13-45", "month must be in"),
    "a NUL": ("a: \0", "special characters"),
    "more than 4 million characters": ("a" * 4_000_001, "more than 4,000,000 characters"),
}


@pytest.mark.parametrize(("text", "problem"), REFUSED.values(), ids=REFUSED)
def test_yaml_that_no_spec_needs_is_refused_in_one_line(text, problem, tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=rf"grid\.yaml is not valid YAML: .*{problem}") as error:
        read_yaml(file)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400 + len(str(file))


@pytest.mark.parametrize("path", sorted(SOURCES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_files_are_read_as_the_library_reads_them(path):
    assert read_yaml(path) == yaml.safe_load(path.read_text())


def test_a_number_that_is_tagged_as_a_text_is_a_text():
    assert read_yaml_text("group: !!str 007") == {"group": "007"}


def test_keys_that_python_takes_for_one_are_named_with_both():
    with pytest.raises(ValueError, match="line 2: the key True is the same as 1"):
        read_yaml_text("1: a\ntrue: b")


def test_anchors_and_merges_are_read():
    text = "base: &base {rank: 2, alpha: 1}\nwide: {<<: *base, rank: 16}\nsame: *base"
    assert read_yaml_text(text) == {
        "base": {"rank": 2, "alpha": 1},
        "wide": {"rank": 16, "alpha": 1},
        "same": {"rank": 2, "alpha": 1},
    }


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(plain)
def test_what_the_library_writes_is_read_as_the_library_reads_it(value):
    """The value itself, but for a few signs that the library does not quote: a line separator in a key."""
    text = yaml.safe_dump(value, allow_unicode=True)
    assert read_yaml_text(text) == yaml.safe_load(text)


@given(st.text(st.sampled_from("ab0123 :-[]{}&*!<>|?,#'\"\n\t%@`")))
def test_any_text_is_read_or_refused(text):
    with suppress(ValueError):
        read_yaml_text(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * 200_000, "nested too deeply"),
        ('{"a":' * 200_000, "nested too deeply"),
        ("9" * 5_000, "has 5,000 digits"),
        ("1e999", "too large"),
        ("NaN", "is no JSON"),
        ("[-Infinity]", "is no JSON"),
        (b"\xff\xfe[", "codec|Expecting"),
        ("", "Expecting value"),
    ],
    ids=["lists", "objects", "digits", "exponent", "NaN", "infinity", "bytes", "nothing"],
)
def test_json_that_nothing_writes_is_a_value_error(text, problem):
    with pytest.raises(ValueError, match=problem):
        read_json(text)


def test_json_and_yaml_are_read_in_one_place_each():
    own = {"core/strict_json.py", "core/strict_yaml.py"}
    others = {"classifier/slides/geojson.py", "data/chosen_groups.py"}  # numbers as texts; what its own process wrote
    readers = {"json": {"load", "loads"}, "yaml": {"load", "safe_load", "full_load", "unsafe_load", "load_all"}}
    found = {
        path.relative_to(SOURCES).as_posix()
        for path in SOURCES.rglob("*.py")
        if "json." in (text := path.read_text()) or "yaml." in text  # few are parsed
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if node.attr in readers.get(node.value.id, ())
    }
    assert found == own | others


def test_64_levels_are_read_and_65_are_not():
    assert read_yaml_text("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    with pytest.raises(ValueError, match="nested"):
        read_yaml_text("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))
