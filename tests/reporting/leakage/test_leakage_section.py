"""Leakage beside stored runs: measured once by `run` on what is cached, shown by `report`, no part of any run."""

import csv
import json
import shutil
from dataclasses import asdict, replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch
from blank_pdfs import blank_pdfs
from class_folders import write_classes
from fake_store import write_runs
from PIL import Image
from planted_leakage import write_tinted

import cytolora
from cytolora.classifier.leakage.encodings import of_session
from cytolora.classifier.leakage.features import Effort
from cytolora.classifier.leakage.measure import measure_leakage
from cytolora.config.grid import GridSpec, MethodSpec
from cytolora.config.reading import Decoding, ReadOptions
from cytolora.config.run import AdapterSpec, Budget, SplitSpec
from cytolora.core.progress import SILENT
from cytolora.data.datasets import load_manifest
from cytolora.experiments.store import Store
from cytolora.models.backbones.registry import BACKBONES
from cytolora.reporting.leakage.kept import FOLDER, Subject, read_kept
from cytolora.reporting.results.predictions import read_test
from cytolora.training.resources import Inputs
from cytolora.training.session import Session

LINEAR = {"linear": MethodSpec(budget=Budget(amount=2, unit="epochs"))}
LORA = {"lora": MethodSpec(budget=Budget(amount=15, unit="steps_per_shot"), adapter=AdapterSpec())}


def grid(methods: dict[str, MethodSpec], dataset: str = "csv") -> GridSpec:
    return GridSpec(
        name="small", datasets=(dataset,), models=("nano",), methods=methods, shots=(2,), seeds=(1,),
        learning_rates=(3e-2,), warmup_steps=1,
    )  # fmt: skip


def kept(runs: Path) -> dict:
    (path,) = (runs / FOLDER).iterdir()
    return json.loads(path.read_text().partition("\n")[2])  # behind the line of the checksum


def rows(report: cytolora.Report) -> list[dict[str, str]]:
    with report.path.with_name("leakage.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def tinted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 cells of 12 slides, each of another colour, and hsil on slides of its own; read only."""
    folder = write_tinted(tmp_path_factory.mktemp("tinted") / "cells", strength=1, num_slides=12)
    table = (folder / "manifest.csv").read_text().splitlines()
    own = [f"{row[: row.rindex(',')]},own_{at % 6}" if ",hsil," in row else row for at, row in enumerate(table)]
    (folder / "manifest.csv").write_text("\n".join(own) + "\n")
    return folder


@pytest.fixture(scope="module")
def runs(tinted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear head, and LoRA beside it."""
    out = tmp_path_factory.mktemp("store") / "runs"
    cytolora.run(grid(LINEAR | LORA), {"csv": tinted}, out)
    return out


@pytest.fixture(scope="module")
def report(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> cytolora.Report:
    with blank_pdfs():
        return cytolora.report(runs, tmp_path_factory.mktemp("report") / "report")


def test_run_keeps_what_a_measurement_of_the_same_cells_gives(tinted: Path, runs: Path, tmp_path: Path):
    manifest = load_manifest(tinted, "csv").with_hashes()
    session = Session(manifest=manifest, backbone=BACKBONES.get("nano"), inputs=Inputs(data={}), cache=tmp_path)
    effort = Effort(repeats=2, permutations=99, sites=False)
    direct = measure_leakage(
        manifest, of_session(session), model="nano", cache=tmp_path, device=torch.device("cpu"), effort=effort,
        progress=SILENT,
    )  # fmt: skip
    found = kept(runs)["frozen"]["by_features"][0]
    inflation = direct.by_features[0].inflation
    assert inflation is not None
    assert (found["inflation"]["image"], found["inflation"]["group"]) == (inflation.image, inflation.group)
    assert found["inflation"]["leakage"] == asdict(inflation.leakage)
    assert found["sources"][0]["balanced_accuracy"] == direct.by_features[0].sources[0].balanced_accuracy
    assert found["sources"][0]["balanced_accuracy"] > 2 * found["sources"][0]["chance"]


def test_frozen_and_adapted_features_are_measured_on_the_test_cells_that_no_adapter_saw(tinted: Path, runs: Path):
    found = kept(runs)
    assert [one["features"] for one in found["adapted"]["by_features"]] == ["frozen", "adapted"]
    test = Inputs(data={"csv": tinted}).manifest("csv", SplitSpec()).subset("test")
    assert found["adapted"]["num_cells"] == len(test)
    assert (runs / found["run_id"] / "weights.safetensors").is_file()
    assert "_lora_" in found["run_id"]
    before, after = ({**one, "features": ""} for one in found["adapted"]["by_features"])
    assert before != after


def test_the_report_names_the_class_and_shows_the_numbers_in_page_and_file(runs: Path, report: cytolora.Report):
    page, found = unescape(report.path.read_text()), kept(runs)
    section = page[page.index("Leakage and shortcuts</h3>") :]
    assert "<code>N841</code> A class is its source: hsil (alone in 6 of 6 groups)" in section
    assert "<code>N844</code> nano: The group can be read from frozen features" in section
    assert f"({found['run_id']})" in section
    written = rows(report)
    assert [(row["features"], row["cells"]) for row in written] == [
        ("frozen", "all"), ("frozen", "test"), ("adapted", "test"),
    ]  # fmt: skip
    frozen = found["frozen"]["by_features"][0]
    assert float(written[0]["inflation"]) == pytest.approx(frozen["inflation"]["leakage"]["value"], abs=1e-6)
    assert float(written[0]["source_read"]) == pytest.approx(frozen["sources"][0]["balanced_accuracy"], abs=1e-6)
    assert written[0]["classes_that_are_their_source"] == "hsil"
    assert (report.path.parent / "figures" / "csv_leakage.svg").is_file()


@pytest.mark.slow
def test_adapted_features_are_of_the_cells_that_the_run_tested_whatever_file_divides_them_today(
    tinted: Path, tmp_path: Path
):
    runs = tmp_path / "runs"
    cytolora.run(grid(LORA), {"csv": tinted}, runs)
    (run,) = Store(runs).runs()
    (path,) = (runs / FOLDER).iterdir()
    path.unlink()
    other = Inputs(data={"csv": tinted}).manifest("csv", SplitSpec(seed=5))
    cytolora.split(tinted, tmp_path / "split.csv", "csv", seed=5)
    cytolora.run(grid(LINEAR), {"csv": tinted}, runs, split=tmp_path / "split.csv")
    found = kept(runs)
    assert found["run_id"] == run.run_id
    tested = set(read_test(run).paths)
    today = {one.path for one in other.subset("test")}
    assert today - tested, "or nothing is tried"
    groups = {one.group for one in other.samples if one.path in tested}
    assert (found["adapted"]["num_cells"], found["adapted"]["num_groups"]) == (len(tested), len(groups))
    named = {name for one in found["adapted"]["classes_and_groups"] for name in one.get("groups", ())}
    assert named <= groups


@pytest.mark.slow
def test_a_measurement_that_an_earlier_version_kept_without_a_checksum_is_read(runs: Path, tmp_path: Path, caplog):
    earlier = shutil.copytree(runs, tmp_path / "runs")
    (path,) = (earlier / FOLDER).iterdir()
    subject = Subject.of(next(iter(Store(earlier).runs())))
    today = read_kept(earlier, subject)
    path.write_bytes(path.read_bytes().partition(b"\n")[2])
    assert read_kept(earlier, subject) == today
    assert not caplog.records
    path.write_bytes(path.read_bytes()[:-40])
    assert read_kept(earlier, subject) is None


def test_the_measurement_is_made_once_and_again_where_it_is_missing_without_training(tinted: Path, runs: Path):
    (path,) = (runs / FOLDER).iterdir()
    before, stored = path.read_bytes(), {run.run_id: run.version for run in Store(runs).runs()}
    changed = path.stat().st_mtime_ns
    cytolora.run(grid(LINEAR | LORA), {"csv": tinted}, runs)
    assert path.stat().st_mtime_ns == changed
    path.unlink()
    cytolora.run(grid(LINEAR | LORA), {"csv": tinted}, runs)
    assert path.read_bytes() == before
    path.write_text('{"subject":')
    cytolora.run(grid(LINEAR | LORA), {"csv": tinted}, runs)
    assert path.read_bytes() == before
    assert {run.run_id: run.version for run in Store(runs).runs()} == stored


def test_a_store_without_it_says_what_nobody_can_tell(tmp_path: Path):
    write_runs(Store(tmp_path / "runs"), models=("uni",), methods=("linear",), shots=(1,), seeds=(1,))
    report = cytolora.report(tmp_path / "runs", tmp_path / "report")
    page = report.path.read_text()
    assert "Not measured, so that nobody can tell" in page
    assert "uni: this store holds no measurement." in page
    assert not report.path.with_name("leakage.csv").exists()


@pytest.mark.slow
def test_unknown_groups_and_features_that_no_run_needed_are_reasons(tinted: Path, tmp_path: Path):
    write_classes(tmp_path / "plain", a=10, b=10)
    cytolora.run(grid(LINEAR, "folder"), {"folder": tmp_path / "plain"}, tmp_path / "runs")
    assert kept(tmp_path / "runs")["skipped"] == "no patient, slide or field is known."
    page = cytolora.report(tmp_path / "runs", tmp_path / "report").path.read_text()
    assert "nano: no patient, slide or field is known." in page
    cytolora.run(grid(LORA), {"csv": tinted}, tmp_path / "lora")
    assert kept(tmp_path / "lora")["skipped"] == "frozen features of 120 images were not computed by any run."
    cytolora.run(grid(LINEAR), {"csv": tinted}, tmp_path / "lora")  # now they are
    assert kept(tmp_path / "lora")["skipped"] == ""
    assert kept(tmp_path / "lora")["adapted"] is not None


def test_images_are_decoded_as_the_dataset_says(tmp_path: Path):
    rng, table = np.random.default_rng(0), ["path,label,group"]
    for number in range(12):
        Image.fromarray(rng.integers(0, 1024, (32, 32), dtype=np.uint16)).save(tmp_path / f"{number}.png")
        table.append(f"{number}.png,{'ab'[number % 2]},{number % 4}")
    (tmp_path / "manifest.csv").write_text("\n".join(table) + "\n")
    manifest = load_manifest(tmp_path, "csv", reading=ReadOptions(decoding=Decoding(value_range="used"))).with_hashes()
    assert manifest != replace(manifest, decoding=load_manifest(tmp_path, "csv").decoding)
    session = Session(manifest=manifest, backbone=BACKBONES.get("nano"), inputs=Inputs(data={}), cache=tmp_path / "a")
    (frozen,) = of_session(session)
    features = frozen.features(manifest, tmp_path / "b", torch.device("cpu"), lambda images: None)
    assert torch.equal(features, session.features)
