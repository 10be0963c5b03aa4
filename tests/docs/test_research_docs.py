"""The quick start for researchers is executed as it stands, and is as quick as it says."""

import time
from pathlib import Path

import pytest
import torch
from page_blocks import ROOT, blocks, run_page

PAGE = ROOT / "docs" / "research.md"
_MOST_SECONDS = 120
"""Of processor time, for the whole page on one thread."""


@pytest.mark.slow
@pytest.mark.usefixtures("real_pdfs")
def test_every_block_of_the_page_works_within_two_minutes_of_one_thread(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    threads, started = torch.get_num_threads(), time.process_time()
    torch.set_num_threads(1)
    try:
        run_page(PAGE)
    finally:
        torch.set_num_threads(threads)
    assert time.process_time() - started < _MOST_SECONDS
    assert {kind for kind, _ in blocks(PAGE)} == {"sh", "yaml", "python"}
    for made in ("report/index.html", "report/tables.tex", "comparison/compare.csv", "my_report/index.html"):
        assert Path(made).is_file()
