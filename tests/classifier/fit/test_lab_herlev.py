"""Real cells, a real encoder, from the folder to a service; tests/docs runs the commands of the pages as they stand."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_files import load_benchmark
from in_process import output_of

from cytolora.models.backbones.registry import BACKBONES

POSITIVE = ("severe_dysplastic", "carcinoma_in_situ")
PROGRAM = (sys.executable, "-c", "from cytolora.cli.app import main; import sys; main(sys.argv[1:])")
ONE_THREAD = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def in_a_fresh_process(*arguments: object) -> None:
    command = [*PROGRAM, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=ONE_THREAD)
    assert done.returncode == 0, done.stderr


def predict(
    model: Path, cells: Path, out: Path, *options: object, run: Callable[..., object] = output_of
) -> list[dict[str, str]]:
    run("predict", model, cells, "--out", out, "--threads", "1", "--quiet", *options)
    return list(csv.DictReader(out.read_text().splitlines()))


@dataclass(frozen=True, kw_only=True)
class Fitted:
    cells: Path
    weights: Path
    model: Path
    test: dict[str, Any]
    """What fit printed."""
    table: list[dict[str, str]]
    """Predictions of all 917 images."""

    @property
    def named(self) -> tuple[object, ...]:
        return "--weights", f"vit-tiny6={self.weights}"


@pytest.fixture(scope="module")
def fitted(herlev_dir: Path, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    weights, folder = shared_data / "weights" / "vit_tiny6", tmp_path_factory.mktemp("herlev-model")
    if not weights.is_dir():
        pytest.skip(f"no {weights}")
    model, own = folder / "model", ("--backbone-file", weights / "backbone.yaml")
    asked = ("--positive", *POSITIVE, "--cache", folder / "cache", "--threads", "1", "--quiet", "--json")
    test = json.loads(output_of("fit", herlev_dir, "--out", model, *own, *asked))["metrics"]["test"]
    table = predict(model, herlev_dir, folder / "predictions.csv", "--weights", f"vit-tiny6={weights}")
    return Fitted(cells=herlev_dir, weights=weights, model=model, test=test, table=table)


@pytest.fixture(scope="module")
def some_cells(fitted: Fitted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every fifth image, in folders of their names."""
    folder = tmp_path_factory.mktemp("herlev-part")
    for row in fitted.table[::5]:
        path = Path(row["path"]).relative_to(fitted.cells)
        (folder / path.parent).mkdir(parents=True, exist_ok=True)
        os.link(fitted.cells / path, folder / path)
    return folder


def expected_of(fitted: Fitted, folder: Path, table: list[dict[str, str]]) -> list[dict[str, str]]:
    """Returns rows of the whole table for the images of a part of them, under the part's paths, in a table's order."""
    whole = {Path(row["path"]).relative_to(fitted.cells): row for row in fitted.table}
    return [{**whole[Path(row["path"]).relative_to(folder)], "path": row["path"]} for row in table]


def shares(row: dict[str, str], classes: tuple[str, ...]) -> list[float]:
    return [float(row[label]) for label in classes]


def classes_of(fitted: Fitted) -> tuple[str, ...]:
    return tuple(json.loads((fitted.model / "bundle.json").read_text())["classes"])


@pytest.mark.slow
def test_fit_learns_and_evaluate_finds_the_same_numbers_on_the_images_it_has_not_seen(fitted: Fitted):
    assert fitted.test["balanced_accuracy"] > 0.4  # a seventh would be chance
    options = ("--seen", "drop", "--threads", "1", "--quiet", "--json")
    measured = json.loads(output_of("evaluate", fitted.model, fitted.cells, *options, *fitted.named))["metrics"]
    assert measured["balanced_accuracy"] == fitted.test["balanced_accuracy"]
    assert measured["prediction_sets"] == fitted.test["prediction_sets"]


@pytest.mark.slow
def test_sets_and_operating_point_keep_what_they_promise_on_average_over_divisions(
    fitted: Fitted, monkeypatch: pytest.MonkeyPatch
):
    """One division may miss: the standard deviation over ten was 3.8 points of coverage, and 1.8 of sensitivity."""
    monkeypatch.setattr(BACKBONES, "_entries", dict(BACKBONES._entries))
    benchmark = load_benchmark("lab_divisions")
    cache = fitted.model.parent / "cache"
    session, config = benchmark.open_session(fitted.cells, fitted.weights / "backbone.yaml", cache)
    rows = [benchmark.measure(session.manifest, session.features, config, list(POSITIVE), seed) for seed in range(6)]
    mean = dict(zip(benchmark.COLUMNS, np.mean(rows, axis=0), strict=True))
    assert 0.9 - 2 * 0.038 / 6**0.5 <= mean["coverage over groups"] <= 0.96
    assert mean["sensitivity over groups"] >= 0.95
    assert mean["set size"] < 4  # of seven classes: sets of everything would hold every truth
    assert mean["specificity"] > 0.3


@pytest.mark.slow
def test_a_fresh_process_gives_the_same_predictions_again(fitted: Fitted, some_cells: Path, tmp_path: Path):
    assert len(fitted.table) == 917
    assert not any(row["error"] for row in fitted.table)
    again = predict(fitted.model, some_cells, tmp_path / "again.csv", *fitted.named, run=in_a_fresh_process)
    assert again == expected_of(fitted, some_cells, again)
    assert len(again) == 184


@pytest.mark.slow
def test_onnx_gives_the_classes_and_flags_of_the_bundle_and_so_does_its_service(
    fitted: Fitted, some_cells: Path, tmp_path: Path
):
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    export, names = tmp_path / "model-onnx", classes_of(fitted)
    asked = ("--to", "onnx", "--out", export, "--images", some_cells, *fitted.named, "--json")
    found = json.loads(output_of("export", fitted.model, *asked))
    assert (found["num_images"], found["num_flips"], found["num_other_flags"]) == (184, 0, 0)
    assert found["probability"] < 1e-4
    table = predict(export, some_cells, tmp_path / "onnx.csv")
    for row, expected in zip(table, expected_of(fitted, some_cells, table), strict=True):
        assert shares(row, names) == pytest.approx(shares(expected, names), abs=1e-4)
        for said in ("predicted", "positive", "prediction_set", "referred", "unfamiliar"):
            assert row[said] == expected[said], (row["path"], said)
    answers = served(export, [Path(row["path"]) for row in table[:8]])
    for row, answer in zip(table, answers, strict=False):
        assert answer["predicted"] == row["predicted"]
        assert list(answer["probabilities"].values()) == pytest.approx(shares(row, names), abs=1e-5)
        assert answer["referred"] == (row["referred"] == "true")


def served(model: Path, images: list[Path]) -> list[dict[str, Any]]:
    """Asks a service about some images in one request, and stops it."""
    httpx = pytest.importorskip("httpx", reason="httpx is not installed")
    pytest.importorskip("fastapi", reason="FastAPI is not installed")
    command = [*PROGRAM, "serve", str(model), "--port", "0", "--threads", "1"]
    service = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ONE_THREAD)
    try:
        assert service.stderr is not None
        line = service.stderr.readline()
        address = next(word for word in line.split() if word.startswith("http://")).rstrip("/.,")
        files = [("images", (path.name, path.read_bytes(), "image/bmp")) for path in images]
        answer = httpx.post(f"{address}/v1/predict", files=files, timeout=60)
        assert answer.status_code == 200, answer.text
        service.send_signal(signal.SIGTERM)
        assert service.wait(20) == 0
        return answer.json()["predictions"]
    finally:
        service.kill()
