"""Flipped bits in stored runs, bundles and caches: never another number without a word."""

import random
from collections import Counter
from pathlib import Path

import pytest
from benchmark_files import load_benchmark

from cytolora.errors import StoreError


@pytest.mark.slow
def test_forty_flipped_bits_change_no_number_without_a_word(tmp_path: Path):
    flips, moment = load_benchmark("bit_flips"), random.Random(7)
    kinds, outcomes = flips.make(tmp_path), Counter[str]()
    for number in range(40):
        outcome, text = flips.flip(kinds[number % len(kinds)], moment)
        assert outcome not in flips.BAD, f"{kinds[number % len(kinds)].name}: {text}"
        outcomes[outcome] += 1
    assert {"remade", "named"} <= outcomes.keys()


@pytest.mark.parametrize(
    ("read", "outcome"),
    [
        (lambda path: path.read_text(), "SILENT"),
        (lambda path: 1 // 0, "CRASH"),
        (lambda path: (_ for _ in ()).throw(StoreError("something is wrong")), "unnamed"),
        (lambda path: "as before", "harmless"),
    ],
)
def test_what_a_flip_does_is_told_apart(read, outcome: str, tmp_path: Path):
    """A reader that checks nothing is found out."""
    flips, path = load_benchmark("bit_flips"), tmp_path / "values.txt"
    path.write_text("0.5")

    def named() -> object:
        next_one = read(path)
        return next(next_one) if outcome == "unnamed" else next_one

    kind = flips.Kind(
        name="values", root=tmp_path, read=named, before={path: b"0.5"}, flipped=[path], expected='"as before"'
    )
    found, _ = flips.flip(kind, random.Random(3))
    assert found == outcome
    assert path.read_text() == "0.5"
