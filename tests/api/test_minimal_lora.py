"""examples/minimal_lora.py: short, on public names alone, and it learns."""

import ast
import runpy
from pathlib import Path

import pytest

import cytolora

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "minimal_lora.py"


@pytest.mark.slow
def test_the_example_trains_a_lora_on_cells_of_ones_own_better_than_chance(drawn_cells: Path, capsys):
    main = runpy.run_path(str(EXAMPLE))["main"]
    score = main(["--data", str(drawn_cells), "--steps", "25", "--batch-size", "8", "--learning-rate", "0.01"])
    printed = capsys.readouterr().out
    num_classes = len(cytolora.load_dataset(drawn_cells).classes)
    assert score > 1 / num_classes
    assert f"test balanced accuracy {score:.3f}" in printed
    assert "trainable parameters" in printed


def test_the_example_is_under_100_lines_and_uses_public_names_alone():
    text = EXAMPLE.read_text()
    assert len(text.splitlines()) < 100
    tree = ast.parse(text)
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not any((name or "").startswith("cytolora") for name in modules)
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "cytolora"
    }
    assert used <= set(cytolora.__all__)
    assert {"attach", "load_backbone"} <= used


def test_the_example_takes_any_backbone_and_names_the_nearest_to_a_wrong_one(capsys):
    main = runpy.run_path(str(EXAMPLE))["main"]
    with pytest.raises(SystemExit):
        main(["--backbone", "nanoo"])
    assert "nano" in capsys.readouterr().err
