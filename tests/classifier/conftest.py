"""What several tests of the lab open."""

from pathlib import Path

import pytest
from quick_fit import quick_fit
from small_bundle import write_small_bundle

from cytolora.classifier.inference.classifier import Classifier


@pytest.fixture(scope="session")
def onnx_export(tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, Path]:
    """A bundle with a LoRA and the folder of its ONNX export; read only."""
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    from cytolora.classifier.export.export import export

    folder = tmp_path_factory.mktemp("onnx")
    bundle = Classifier.load(write_small_bundle(folder / "model", "lora"))
    found = export(bundle, "onnx", folder / "out")
    assert found.num_flips == 0
    assert found.probability < 1e-5
    return bundle, folder / "out"


@pytest.fixture(scope="session")
def lab_cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 drawn cells of 24 slides; read only."""
    from cytolora.data.synthetic.dataset import write_synthetic

    folder = tmp_path_factory.mktemp("lab") / "cells"
    write_synthetic(folder, num_images=120, num_slides=24, seed=0)
    return folder


@pytest.fixture(scope="session")
def lab_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that fits of ``lab_cells`` share."""
    return tmp_path_factory.mktemp("lab-cache")


@pytest.fixture(scope="session")
def fitted(lab_cells: Path, lab_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear bundle of ``lab_cells`` with an operating point; read only."""

    out = tmp_path_factory.mktemp("fitted") / "model"
    quick_fit(lab_cells, out, model="nano", positive=["hsil"], lower_sensitivity=True, max_steps=300, cache=lab_cache)
    return out
