"""The pages on datasets say what the code says."""

from pathlib import Path

import pytest

from cytolora.data.datasets import DATASETS
from cytolora.data.readers.hicervix import HICERVIX

_PAGES = Path(__file__).resolve().parents[3] / "docs" / "datasets"
_PUBLISHED = [spec.name for spec in DATASETS if not spec.generic]


def _words(text: str) -> str:
    return " ".join(text.split()).casefold()


@pytest.mark.parametrize("name", _PUBLISHED)
def test_a_page_has_every_fact_of_its_dataset(name: str):
    page, spec = _words((_PAGES / f"{name}.md").read_text()), DATASETS.get(name)
    for fact in (spec.page, spec.citation, spec.licence, *spec.classes):
        assert _words(fact) in page
    for label, number in spec.expected_counts.items():
        assert _words(f"| {label} | {number:,} |") in page
    for number in (*spec.expected_subsets.values(), spec.expected_total):
        assert not number or f"{number:,}" in page
    for heading in ("key facts", "download", "layout", "classes", "groups and splits", "licence", "known problems"):
        assert f"## {heading}" in page
    assert ("unverified" in page) == (not spec.verified)


def test_the_page_of_hicervix_has_every_label_set():
    page = (_PAGES / "hicervix.md").read_text()
    for name, spec in HICERVIX.label_sets.items():
        counts = " / ".join(f"{number:,}" for number in spec.expected_subsets.values())
        assert any(f"`hicervix:{name}`" in line and counts in line for line in page.splitlines())


def test_the_index_lists_every_reader():
    index = (_PAGES / "README.md").read_text()
    for spec in DATASETS:
        assert f"`{spec.name}`" in index if spec.generic else f"[{spec.name}]({spec.name}.md)" in index
