"""docs/parity.md names a test for every difference; each of them exists, and the page knows every preset."""

import re
from pathlib import Path

import pytest

from cytolora.config.preset import shipped_presets
from cytolora.config.run import Preprocess
from cytolora.models.backbones.registry import BACKBONES

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "parity.md"
CLIP = Preprocess(
    size_px=224,
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)


def test_every_test_that_the_page_names_exists():
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    written = {name for path in TESTS.rglob("test_*.py") for name in re.findall(r"def (test_\w+)\(", path.read_text())}
    assert len(named) > 30
    assert sorted(named - written) == []


def test_every_row_of_the_pages_tables_names_a_test():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and "---" not in line]
    tables = [row for row in rows if row.count("|") >= 4 and not row.endswith("held by |")]
    assert [row for row in tables if "`test_" not in row] == []


def test_the_page_knows_every_preset():
    assert all(name in PAGE.read_text() for name in shipped_presets())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clip-vit-b16", CLIP),
        ("clip-vit-l14", CLIP),
        ("quiltnet-b16", CLIP),
        ("quiltnet-b32", CLIP),
        ("biomedclip", CLIP),
        (
            "uni",
            Preprocess(size_px=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), interpolation="bilinear"),
        ),
        (
            "vit-b16",
            Preprocess(
                size_px=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bilinear", resize="squash"
            ),
        ),
    ],
)
def test_the_papers_models_see_the_views_of_their_owners(name: str, expected: Preprocess):
    assert BACKBONES.get(name).preprocess == expected
