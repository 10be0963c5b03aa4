"""Label maps join, rename, order and leave out classes; what they do not say is an error."""

import re
from collections import Counter
from pathlib import Path

import pytest

from cytolora.data.label_map import apply_label_map
from cytolora.errors import ConfigError


def _map(tmp_path: Path, text: str) -> Path:
    (tmp_path / "map.csv").write_text(text)
    return tmp_path / "map.csv"


def test_classes_are_joined_and_stand_as_the_table_first_names_them(split_manifest, tmp_path: Path):
    manifest = split_manifest(classes=("hsil", "lsil", "nilm"))
    mapped = apply_label_map(manifest, _map(tmp_path, "from,to\nnilm,normal\nhsil,abnormal\nlsil,abnormal\n"))
    assert mapped.classes == ("normal", "abnormal")
    assert Counter(sample.label for sample in mapped.samples) == {"normal": 24, "abnormal": 48}
    assert mapped.fingerprint != manifest.fingerprint


def test_the_column_order_orders_the_classes_and_says_so(split_manifest, tmp_path: Path):
    table = _map(tmp_path, "from,to,order\nhsil,severe,2\nlsil,mild,1\n")
    assert apply_label_map(split_manifest(), table).classes == ("mild", "severe")


def test_a_class_that_maps_to_nothing_is_left_out(split_manifest, tmp_path: Path):
    mapped = apply_label_map(split_manifest(classes=("a", "b", "c")), _map(tmp_path, "from,to\na,x\nb,y\nc,\n"))
    assert mapped.classes == ("x", "y")
    assert len(mapped.samples) == 48


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from,to\nhsil,x\n", "says nothing of toy's class 'lsil'"),
        ("from,to\nhsil,x\nlsil,y\nlsill,z\n", "Unknown class of toy 'lsill'. Did you mean 'lsil'?"),
        ("from,to\nhsil,x\nhsil,y\n", "line 3: class 'hsil' is mapped twice"),
        ("from,to,order\nhsil,x,1\nlsil,x,2\n", "line 3: class 'x' has the orders 1 and 2"),
        ("from,to,order\nhsil,x,1\nlsil,y,high\n", "the order of class 'y' is a number, got 'high'"),
        ("from,to,order\nhsil,x,1\nlsil,y,\n", "the order of class 'y' is a number, got ''"),
        ("from,to\nhsil,\nlsil,\n", "leaves every class out"),
    ],
)
def test_a_wrong_map_is_refused(split_manifest, tmp_path: Path, text: str, message: str):
    with pytest.raises(ConfigError, match=re.escape(message)):
        apply_label_map(split_manifest(), _map(tmp_path, text))


@pytest.mark.parametrize("written", ["hsil\u200b", "  hsil ", "hsil\u00a0", "\ufeffhsil", "hs\u00adil", "\u2003hsil"])
def test_a_class_is_mapped_however_its_blanks_are_written_and_never_twice(split_manifest, tmp_path: Path, written: str):
    (tmp_path / "map.csv").write_text(f"from;to;note\n{written};x;\nlsil; y ;\n", encoding="utf-16")
    mapped = apply_label_map(split_manifest(), tmp_path / "map.csv")
    assert (mapped.classes, Counter(one.label for one in mapped.samples)) == (("x", "y"), {"x": 24, "y": 24})
    table = _map(tmp_path, f"from,to\nhsil,x\n{written},y\nlsil,y\n")
    with pytest.raises(ConfigError, match=r"class 'hsil' twice|class 'hsil' is mapped twice"):
        apply_label_map(split_manifest(), table)


def test_a_map_tells_apart_two_class_folders_that_differ_by_a_blank_and_joins_them(split_manifest, tmp_path: Path):
    manifest = split_manifest(classes=("hsil", "hsil ", "nilm"))
    mapped = apply_label_map(manifest, _map(tmp_path, 'from,to\nhsil,hsil\n"hsil ",hsil\nnilm,nilm\n'))
    assert Counter(one.label for one in mapped.samples) == {"hsil": 48, "nilm": 24}
    assert not mapped.findings


def test_targets_of_one_normal_form_are_one_class(split_manifest, tmp_path: Path):
    table = _map(tmp_path, "from,to,order\na,low\u00a0grade,0\nb,low grade,0\nc,high,1\n")
    assert apply_label_map(split_manifest(classes=("a", "b", "c")), table).classes == ("low grade", "high")
