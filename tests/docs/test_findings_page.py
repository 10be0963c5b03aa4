"""docs/findings.md holds every code of the table with its meaning, severity and cure, and nothing else."""

import re
import runpy
from pathlib import Path

from cytolora.core.finding_kinds import KINDS
from cytolora.core.findings import ORDER

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")


def test_the_page_is_what_the_table_renders():
    """`python scripts/findings.py > docs/findings.md` renews it."""
    assert runpy.run_path(str(ROOT / "scripts" / "findings.py"))["page"]() == PAGE


def test_every_code_stands_on_the_page_once_with_its_severity_meaning_and_cure():
    rows = {row.split(" | ")[0].strip("| "): row for row in PAGE.splitlines() if re.match(r"\| [A-Z]\d", row)}
    assert list(rows) == list(KINDS)
    for code, kind in KINDS.items():
        assert kind.severity in ORDER
        assert rows[code] == f"| {code} | {kind.name} | {kind.severity} | {kind.meaning} | {kind.cure} |"


def test_names_and_codes_are_unique_and_each_has_meaning_and_cure():
    assert len({kind.name for kind in KINDS.values()}) == len(KINDS)
    assert all(kind.meaning.endswith(".") and kind.cure.endswith(".") for kind in KINDS.values())
    assert all(re.fullmatch(r"[PFTLDWSN]\d{3}", code) for code in KINDS)


def test_readme_and_the_page_on_data_link_to_it():
    assert "docs/findings.md" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "(findings.md)" in (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
