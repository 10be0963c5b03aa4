"""Every block of README, CONTRIBUTING and docs/ is run by a test, or says in a comment why it is not."""

import ast
import re
from pathlib import Path

import pytest
from page_blocks import ROOT, all_blocks

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN_BY = {
    "README.md": "test_own_cells_docs.py",
    "docs/contributor.md": "test_contributor_docs.py",
    "docs/data.md": "test_guides.py",
    "docs/deploy.md": "test_deploy_docs.py",
    "docs/lab.md": "test_lab_docs.py",
    "docs/interchange.md": "test_guides.py",
    "docs/label.md": "test_label_docs.py",
    "docs/labels.md": "test_own_cells_docs.py",
    "docs/leakage.md": "test_guides.py",
    "docs/models.md": "test_guides.py",
    "docs/parity.md": "test_guides.py",
    "docs/plugins.md": "test_plugins_page.py",
    "docs/pooling.md": "test_guides.py",
    "docs/prompts.md": "test_guides.py",
    "docs/research.md": "test_research_docs.py",
    "docs/splits/README.md": "test_guides.py",
    "docs/trackers.md": "test_trackers_page.py",
    "docs/transduction.md": "test_guides.py",
}
"""Tests that run the blocks of a page, by page."""
_RUNS = ("sh", "python", "yaml")
_COMMAND = re.compile(r"^ *(?:cytolora|pip|python|make|ray|curl|openssl|export|tar) ", re.MULTILINE)
_LEAST_REASON = 12


def is_to_run(kind: str, text: str) -> bool:
    """Whether a block is a program: by its language, or by what it holds where it names none."""
    return kind in _RUNS or (not kind and _COMMAND.search(text) is not None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_program_on_a_page_is_run_or_says_why_not(page: Path):
    programs = [block for block in all_blocks(page) if is_to_run(block.kind, block.text)]
    name = str(page.relative_to(ROOT))
    silent = [block.text for block in programs if block.reason is None and (not block.kind or name not in RUN_BY)]
    assert silent == []
    assert all(len(block.reason) >= _LEAST_REASON for block in programs if block.reason is not None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_program_is_indented_text_that_nothing_tells_from_prose(page: Path):
    prose = re.sub(r"^ *```.*?^ *```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"(?:\A|\n\n)    (?:cytolora|pip|python|make) .*", prose) == []


def test_every_page_that_is_run_is_named_by_a_test_that_takes_blocks_from_it():
    for page, test in RUN_BY.items():
        text = (Path(__file__).parent / test).read_text("utf-8")
        assert any(
            Path(page).name in str(node.value) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)
        )
        assert any(block.kind in _RUNS and block.reason is None for block in all_blocks(ROOT / page)), page


def test_a_silent_block_would_be_seen_and_a_reason_read(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(
        "```sh\ncytolora ls\n```\n\n<!-- not run: needs a net -->\n```sh\npip wheel .\n```\n\n   ```\n   a/\n   ```\n"
    )
    assert [(block.kind, block.reason) for block in all_blocks(page)] == [
        ("sh", None),
        ("sh", "needs a net"),
        ("", None),
    ]
    assert [is_to_run(block.kind, block.text) for block in all_blocks(page)] == [True, True, False]
