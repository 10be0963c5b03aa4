"""docs/methods.md is what the stored runs in docs/examples render, and holds every head and both baselines."""

import re
import runpy
from pathlib import Path

import pytest

from cytolora.config.run import FITTED_HEADS, PROMPT_METHODS, TEXT_HEADS, TREE_HEADS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_page_is_what_the_stored_runs_render():
    """`python scripts/methods_table.py > docs/methods.md` renews it."""
    assert runpy.run_path(str(ROOT / "scripts" / "methods_table.py"))["page"]() == PAGE


def test_every_head_has_a_row_of_five_numbers_of_shots_on_drawn_cells_and_without_text_on_herlev_too():
    drawn, real = PAGE.split("## Herlev, vit-tiny6")
    anywhere = [name for name in FITTED_HEADS if name not in TREE_HEADS]  # neither dataset has a tree
    for part, names in ((drawn, anywhere), (real, [name for name in anywhere if name not in TEXT_HEADS])):
        table = part.split("###")[0]
        rows = {row.split(" | ")[0].strip("| "): row for row in table.splitlines() if row.startswith("| ")}
        for name in (*names, "linear", "lora"):
            assert len(re.findall(r"\d+\.\d \[\d+, \d+\]", rows[name])) == 5, name


@pytest.mark.parametrize("name", PROMPT_METHODS)
def test_every_prompt_method_has_a_row_of_five_numbers_of_shots_on_drawn_cells(name: str):
    assert len(re.findall(r"\d+\.\d \[\d+, \d+\]", rows_of_drawn_cells()[name])) == 5


@pytest.mark.parametrize("name", ["ivlp", "lora-both", "lora-eva", "lora-olora", "pissa", "randlora", "miss"])
def test_adapters_in_both_encoders_and_other_kinds_of_lora_have_rows_and_are_no_lora(name: str):
    rows = rows_of_drawn_cells()
    assert re.findall(r"\d+\.\d \[\d+, \d+\]", rows[name])
    assert rows[name].split(" | ")[5:] != rows["lora"].split(" | ")[5:]


def rows_of_drawn_cells() -> dict[str, str]:
    table = PAGE.split("## Drawn cells, nano-clip")[1].split("###")[0]
    return {row.split(" | ")[0].strip("| "): row for row in table.splitlines() if row.startswith("| ")}


def test_each_table_is_paired_with_both_baselines():
    for name in ("Drawn cells", "Herlev"):
        for baseline in ("linear", "lora"):
            assert f"### {name}: paired differences from {baseline}" in PAGE


def test_the_archive_is_small_and_the_page_is_linked():
    assert (ROOT / "docs" / "examples" / "heads" / "runs.tar.xz").stat().st_size < 3_000_000
    assert "(methods.md)" in (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
