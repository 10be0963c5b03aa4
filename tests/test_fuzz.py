"""Mutated files of every kind that is read end as what they hold or as one line; 10,000 of each: benchmarks/fuzz.py."""

import pytest
from benchmark_files import load_benchmark

from cytolora.errors import DataError

_KINDS = (
    "images", "zips", "safetensors", "yaml", "json", "csv", "geojson", "onnx", "parquet", "xlsx", "npy", "dicom",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", _KINDS)
def test_1000_mutated_files_of_a_kind_are_read_or_refused_in_one_line(kind: str):
    fuzz = load_benchmark("fuzz")
    outcome = fuzz.fuzz(kind, 1000, seed=1)
    assert outcome.crashed == []
    assert outcome.hung == []
    assert outcome.read + outcome.refused == 1000
    assert outcome.peak_bytes <= fuzz.MAX_MEGABYTES * 2**20


def test_every_kind_is_fuzzed():
    assert set(load_benchmark("fuzz").KINDS) == set(_KINDS)


@pytest.mark.slow
def test_a_crash_a_hang_a_death_and_an_error_of_several_lines_are_told(monkeypatch: pytest.MonkeyPatch):
    import os

    fuzz = load_benchmark("fuzz")

    def read(path: object, content: bytes) -> None:
        match content[0] % 8:
            case 0:
                raise KeyError("a")
            case 1:
                os._exit(3)
            case 2:
                raise DataError("one\ntwo")
            case 3:
                raise DataError("one")

    seeds = {"a": bytes(range(100))}
    monkeypatch.setitem(fuzz.KINDS, "odd", lambda: (seeds, read))
    monkeypatch.setattr(fuzz, "mutate", lambda kind, seeds, rng: (bytes([rng.randrange(256)]), "a"))
    outcome = fuzz.fuzz("odd", 60, seed=0)
    texts = [text.split(": ", 1)[1] for text in outcome.crashed]
    assert len([text for text in texts if text.startswith("KeyError")]) > 0
    assert len([text for text in texts if "ended with 3" in text]) > 0
    assert len([text for text in texts if "several lines" in text]) > 0
    assert outcome.read > 0
    assert outcome.refused > 0
    assert outcome.read + outcome.refused + len([text for text in texts if "several" not in text]) == 60
    assert not outcome.is_well
