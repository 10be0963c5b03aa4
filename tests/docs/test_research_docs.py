"""The quick start for researchers is executed as it stands."""

from pathlib import Path

import pytest
import torch
from page_blocks import ROOT, blocks, run_page

from cytolora.data.synthetic.dataset import write_synthetic

PAGE = ROOT / "docs" / "research.md"


@pytest.mark.slow
@pytest.mark.usefixtures("real_pdfs")
def test_every_block_of_the_page_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_synthetic(Path("runs/data/synthetic"), num_images=200, num_slides=20, seed=0)  # fewer than the page draws
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run_page(PAGE)
    finally:
        torch.set_num_threads(threads)
    assert {kind for kind, _ in blocks(PAGE)} == {"sh", "yaml", "python"}
    for made in ("report/index.html", "report/tables.tex", "comparison/compare.csv", "my_report/index.html"):
        assert Path(made).is_file()
