"""Blocks of guides (data, models, parity, pooling, prompts, canonical divisions, leakage, slides at once) in small.

Published backbones stand for `nano` here, official downloads for tiny ones, and `…` for nothing.
"""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from page_blocks import ROOT, blocks, commands, run_command
from PIL import Image

from cytolora.config.preset import load_preset, shipped_presets
from cytolora.config.yaml import load_grid
from cytolora.data.datasets import load_manifest
from cytolora.data.pool_maps import read_pool_map
from cytolora.data.synthetic.dataset import write_synthetic
from cytolora.data.synthetic.names import MARKER

DOCS = ROOT / "docs"
GRID = {"name": "page", "description": "Of a page.", "datasets": ["synthetic"], "models": ["nano-clip"], "shots": [1]}
GRID |= {"seeds": [1], "learning_rates": [0.01]}
SMALL = "--model nano --shots 1 --seeds 1 --learning-rates 0.03 --steps 3 --threads 1 --quiet"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def grid_with(page: str, here: Path):
    """The grid that a page's only block of YAML is a part of."""
    (part,) = [yaml.safe_load(text) for kind, text in blocks(DOCS / page) if kind == "yaml"]
    (here / "page.yaml").write_text(yaml.safe_dump({"methods": {"gda": {}}, **GRID, **part}))
    return load_grid(here / "page.yaml")


def write_own_cells(folder: Path, seed: int) -> Path:
    """Drawn cells with a table as laboratories have them: a patient beside the slide, and a class `scc`."""
    write_synthetic(folder, num_images=120, num_slides=12, seed=seed)
    (folder / MARKER).unlink()
    with (folder / "manifest.csv").open(newline="") as file:
        rows = [{**row, "patient": f"P{row['group']}"} for row in csv.DictReader(file)]
    for row in rows:
        row["label"] = row["label"].replace("glandular", "scc")
    with (folder / "manifest.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    return folder


def fit_small() -> None:
    run_command(
        "cytolora fit my_cells --out model1 --model nano --steps 20 --learning-rates 0.01 --cache cache --quiet"
    )


def test_the_grids_of_the_pages_on_data_and_backbones_can_be_read(here: Path):
    assert grid_with("data.md", here).split.copies == "together"
    methods = grid_with("models.md", here).methods
    assert methods["lora"].head_start == "text"
    assert "zero-shot" in methods


def test_the_methods_of_the_page_on_prompts_can_be_read(here: Path):
    parts = [yaml.safe_load(text) for kind, text in blocks(DOCS / "prompts.md") if kind == "yaml"]
    methods = {name: spec for part in parts for name, spec in part.get("methods", part).items()}
    (here / "page.yaml").write_text(yaml.safe_dump({**GRID, "methods": methods}))
    assert load_grid(here / "page.yaml").methods.keys() == {"coop", "coop-16", "lora-both", "ivlp"}


def test_the_map_of_the_page_on_pooling_can_be_read(here: Path):
    (text,) = [text for kind, text in blocks(DOCS / "pooling.md") if kind == "yaml"]
    (here / "grades.yaml").write_text(text)
    assert list(read_pool_map(here / "grades.yaml").categories) == ["low", "high"]


@pytest.mark.slow
def test_the_presets_of_the_page_on_parity_can_be_planned(here: Path):
    lines = commands(DOCS / "parity.md")
    for line in lines:
        run_command(line.replace("cytolora run", "cytolora plan").replace("…", ""))
    named = {line.split("--preset ")[1].split()[0] for line in lines if "--preset" in line}
    assert named == {name for name in shipped_presets() if name != "paper"}
    (text,) = [text for kind, text in blocks(DOCS / "parity.md") if kind == "yaml"]
    (here / "own.yaml").write_text(text)
    assert load_preset(str(here / "own.yaml")).name == "attention-alone"
    run_command("cytolora plan exp2 --preset own.yaml")


@pytest.mark.slow
def test_a_download_becomes_a_split_and_a_report(here: Path):
    random = np.random.default_rng(0)
    for label in ("Dyskeratotic", "Koilocytotic", "Metaplastic", "Parabasal", "Superficial-Intermediate"):
        folder = here / "SIPaKMeD" / f"im_{label}" / f"im_{label}" / "CROPPED"
        folder.mkdir(parents=True)
        for number in range(24):
            pixels = random.integers(0, 255, (24, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number // 2 + 1:03}_{number % 2 + 1:02}.bmp")
    shutil.make_archive("SIPaKMeD", "zip", "SIPaKMeD")
    shutil.rmtree("SIPaKMeD")
    write_own_cells(here / "my_cells", 0)
    for line in commands(DOCS / "data.md"):
        run_command(line.replace("--dataset sipakmed", f"--dataset sipakmed {SMALL}"))
    assert Path("check.html").is_file()
    assert Path("report/index.html").is_file()
    assert len(json.loads(Path("my_cells/croissant.json").read_text())["distribution"]) > 0
    assert len(Path("split.csv").read_text().splitlines()) == 121


@pytest.mark.slow
def test_the_labels_and_features_of_the_page_on_interchange_are_written_and_read(here: Path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    write_own_cells(here / "my_cells", 0)
    lines = commands(DOCS / "interchange.md")
    assert len(lines) == 8
    for line in lines:
        run_command(line)
    assert len(json.loads(Path("my_cells/coco.json").read_text())["images"]) == 120
    (from_python,) = [text for kind, text in blocks(DOCS / "interchange.md") if kind == "python"]
    exec(from_python, {})
    assert Path("cvat_python.xml").is_file()
    (mapping,) = [text for kind, text in blocks(DOCS / "interchange.md") if kind == "yaml"]
    Path("cells.h5.yaml").write_text(mapping)
    with h5py.File("cells.h5", "w") as file:
        file["cells/pixels"] = np.arange(3 * 32 * 32, dtype=np.uint8).reshape(3, 32, 32)
        file["cells/kind"], file["cells/patient"] = [0, 1, 2], ["P1", "P2", "P3"]
    assert set(load_manifest("cells.h5").classes) == {"nilm", "lsil", "hsil"}


@pytest.mark.slow
def test_the_canonical_division_of_herlev_is_verified(here: Path, herlev_dir: Path):
    (here / "smear2005").symlink_to(herlev_dir)
    by_hash, by_file, written = commands(DOCS / "splits" / "README.md")
    run_command(written)
    shutil.copy("herlev.csv", "their_split.csv")
    run_command(by_hash)
    run_command(by_file)


@pytest.mark.slow
def test_leakage_is_measured_by_backbone_by_column_and_of_a_bundle(here: Path, capsys: pytest.CaptureFixture[str]):
    write_own_cells(here / "my_cells", 0)
    write_own_cells(here / "other_cells", 1)
    fit_small()
    for line in commands(DOCS / "leakage.md"):
        capsys.readouterr()
        published = line.replace("--model uni --weights uni=UNI/model.safetensors", "--model nano")
        run_command(published.replace("--model dinov2-b14", "--model nano"))
    assert Path("leakage.html").is_file()
    assert json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_the_cells_of_a_slide_are_classified_together(here: Path):
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
    pytest.importorskip("openslide", reason="OpenSlide is not installed")
    write_own_cells(here / "my_cells", 0)
    fit_small()
    write_synthetic(here / "slides", num_images=60, num_slides=2, seed=3)
    shutil.copytree(here / "slides" / "slide_00", here / "slide_cells")
    shutil.copytree(here / "slides", here / "cells", ignore=shutil.ignore_patterns("manifest.csv"))
    images = [path.relative_to(here / "cells").as_posix() for path in sorted((here / "cells").rglob("*.png"))]
    lines = ["path,group", *(f"{name},{name.split('/')[0]}" for name in images)]
    (here / "cells" / "manifest.csv").write_text("\n".join(lines))
    pixels = np.random.default_rng(0).integers(0, 255, (512, 512, 3), dtype=np.uint8)
    options = {"photometric": "rgb", "tile": (128, 128), "resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite("slide.svs", pixels, **options)
    points = [{"type": "Feature", "geometry": {"type": "Point", "coordinates": [100, 100 + 9 * y]}} for y in range(30)]
    Path("cells.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": points}))
    for line in commands(DOCS / "transduction.md"):
        run_command(line)
        out = line.split("--out ")[1].split()[0]
        assert "transductive predicted" in Path(out).read_text().splitlines()[0]
