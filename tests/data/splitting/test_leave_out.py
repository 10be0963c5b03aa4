"""Leave-one-site-out: all images of a metadata value are the test set, whole groups; the others are train and val."""

import csv
import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import cytolora
from cytolora.cli.app import main
from cytolora.config.grid import GridSpec, MethodSpec
from cytolora.config.run import AdapterSpec, Budget, RunSpec, Sampling, SplitSpec, TrainSpec, to_plain
from cytolora.core.findings import RefusedDataError
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.splitting.splits import assign_subsets
from cytolora.errors import ConfigError
from cytolora.experiments.expand import expand
from cytolora.experiments.store import Store

SITES = ("A", "B", "C")


def sample(number: int, label: str, group: str | None, site: str | None, **more: str) -> Sample:
    metadata = () if site is None else (("site", site),)
    return Sample(path=f"{number:03}.png", label=label, group=group, metadata=metadata, **more)  # pyright: ignore


def of_sites(per_site: int = 4) -> Manifest:
    """Each site has slides of its own, with two cells of each class."""
    slides = itertools.product(SITES, range(per_site), ("a", "b"), range(2))
    samples = [sample(at, label, f"{site}{slide}", site) for at, (site, slide, label, _) in enumerate(slides)]
    return made(samples)


def made(samples: Sequence[Sample]) -> Manifest:
    return Manifest(name="cells", root=Path(), classes=("a", "b"), samples=tuple(samples))


def in_test(manifest: Manifest) -> set[str]:
    return {one.path for one in manifest.subset("test")}


@pytest.mark.parametrize("site", SITES)
def test_the_images_of_a_site_are_the_test_set_and_no_others(site: str):
    divided = assign_subsets(of_sites(), SplitSpec(leave_out=f"site={site}"))
    assert in_test(divided) == {one.path for one in divided.samples if dict(one.metadata)["site"] == site}
    assert divided.split_rule.startswith(f"test: 16 images of site {site}; ")
    assert {one.label for one in divided.subset("val")} == {one.label for one in divided.subset("train")} == {"a", "b"}


def test_a_slide_that_two_scanners_recorded_is_tested_whole():
    manifest = of_sites()
    moved = [replace(one, group="B0") if one.group == "A0" else one for one in manifest.samples]
    divided = assign_subsets(made(moved), SplitSpec(leave_out="site=B"))
    assert in_test(divided) == {one.path for one in moved if one.group == "B0" or ("site", "B") in one.metadata}
    assert "16 images of site B, and 4 others of the same groups or files" in divided.split_rule
    by_image = assign_subsets(made(moved), SplitSpec(leave_out="site=B", by="image"))
    assert len(by_image.subset("test")) == 16


def test_a_copy_in_another_site_is_tested_with_its_slide_where_copies_stay_together():
    samples = list(of_sites().samples)
    samples[0], samples[-1] = replace(samples[0], sha256="f" * 64), replace(samples[-1], sha256="f" * 64)
    together = assign_subsets(made(samples), SplitSpec(leave_out="site=C", copies="together"))
    assert {one.group for one in together.subset("test")} == {"C0", "C1", "C2", "C3", "A0"}
    assert len(assign_subsets(made(samples), SplitSpec(leave_out="site=C")).subset("test")) == 16


def test_official_subsets_give_way():
    subsets = itertools.cycle(("train", "val", "test"))
    given = made([replace(one, subset=next(subsets)) for one in of_sites().samples])
    divided = assign_subsets(given, SplitSpec(leave_out="site=A"))
    assert in_test(divided) == {one.path for one in given.samples if ("site", "A") in one.metadata}
    assert "in place of the dataset's own subsets" in divided.split_rule


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"), st.sampled_from([None, *map(str, range(12))]), st.sampled_from([None, *SITES])
        ),
        min_size=6, max_size=60,
    ),
    st.sampled_from(SITES), st.integers(0, 3),
)  # fmt: skip
def test_no_group_and_no_image_of_the_value_is_on_the_other_side(cells: list, site: str, seed: int):
    manifest = made([sample(at, *cell) for at, cell in enumerate(cells)])
    try:
        divided = assign_subsets(manifest, SplitSpec(leave_out=f"site={site}", seed=seed))
    except (ConfigError, RefusedDataError):
        return
    assert all(one.subset == "test" for one in divided.samples if ("site", site) in one.metadata)
    homes: dict[str, set[str | None]] = {}
    for one in divided.samples:
        homes.setdefault(one.group or one.path, set()).add(one.subset)
    assert all(len(found) == 1 for found in homes.values())


@pytest.mark.parametrize(
    ("leave_out", "message"),
    [
        ("site=D", r"no image has the site 'D'; its values are A, B, C"),
        ("scanner=A", r"no metadata column 'scanner'; it has site"),
    ],
)
def test_unknown_columns_and_values_name_those_that_there_are(leave_out: str, message: str):
    with pytest.raises(ConfigError, match=message):
        assign_subsets(of_sites(), SplitSpec(leave_out=leave_out))


@pytest.mark.parametrize("text", ["site", "=A", "site=", "", " = "])
def test_a_value_without_a_column_is_refused_when_it_is_written(text: str):
    with pytest.raises(ConfigError, match="names a metadata column and one of its values"):
        SplitSpec(leave_out=text)


def test_a_class_of_one_site_alone_cannot_be_left_out():
    samples = [one for one in of_sites().samples if one.label == "a" or ("site", "C") in one.metadata]
    with pytest.raises(RefusedDataError, match="without site=C no image of class 'b' is left to train on"):
        assign_subsets(made(samples), SplitSpec(leave_out="site=C"))


def run_of(split: SplitSpec) -> RunSpec:
    return RunSpec(
        dataset="herlev", backbone="uni", method="lora", sampling=Sampling(shots=4), split=split, seed=1,
        train=TrainSpec(budget=Budget(amount=50, unit="steps_per_shot", plus_steps=50)), adapter=AdapterSpec(),
        learning_rate=1e-3,
    )  # fmt: skip


def test_ids_and_stored_specs_are_as_before_where_nothing_is_left_out():
    assert "leave_out" not in json.dumps(to_plain(run_of(SplitSpec())))
    assert run_of(SplitSpec()).run_id == "herlev_uni_lora_4-shot_lr0.001_s1_a15bac90"
    ids = {run_of(SplitSpec(leave_out=value)).run_id for value in (None, "site=A", "site=B")}
    assert len(ids) == 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cells of three sites in a table."""
    root = tmp_path_factory.mktemp("cells")
    rng, rows = np.random.default_rng(0), []
    for one in of_sites().samples:
        tint = 100 * (one.label == "b")
        Image.fromarray(rng.integers(tint, tint + 120, (24, 24, 3), dtype=np.uint8)).save(root / one.path)
        rows.append((one.path, one.label, one.group, dict(one.metadata)["site"]))
    with (root / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "group", "site"), *rows])
    return root


@pytest.mark.slow
def test_split_run_and_fit_test_on_the_site(folder: Path, tmp_path: Path):
    with pytest.raises(SystemExit) as stop:
        main(["split", str(folder), "--leave-out", "site=B", "--out", str(tmp_path / "split.csv"), "--quiet"])
    assert not stop.value.code
    rows = list(csv.DictReader(line for line in (tmp_path / "split.csv").open() if not line.startswith("#")))
    assert {row["group"][0] for row in rows if row["subset"] == "test"} == {"B"}
    assert {row["group"][0] for row in rows if row["subset"] != "test"} == {"A", "C"}
    options = cytolora.FitOptions(model="nano", max_steps=2, leave_out="site=C", cache=tmp_path / "cache")
    fitted = cytolora.fit(folder, tmp_path / "model", options=options)
    assert sum(map(sum, fitted.contents.metrics["test"]["confusion"])) == 16
    assert "of site C" in fitted.contents.training["split_rule"]


@pytest.mark.slow
def test_each_site_is_a_division_of_a_grid_and_one_row_of_the_report(folder: Path, tmp_path: Path):
    grid = GridSpec(
        name="sites", datasets=("csv",), models=("nano",), shots=("all",), seeds=(1,), learning_rates=(1e-2,),
        methods={"linear": MethodSpec(budget=Budget(amount=2, unit="epochs"))}, warmup_steps=0,
    )  # fmt: skip
    values = [f"site={site}" for site in SITES]
    plan = cytolora.run(grid, {"csv": folder}, tmp_path / "runs", leave_out=values)
    assert {run.split.leave_out for run in plan.runs} == set(values)
    assert len(expand(replace(grid, leave_out=tuple(values), split_seeds=(0, 1)))) == 6
    for stored in Store(tmp_path / "runs").runs():
        predictions = stored.predictions().to_pylist()
        site = stored.spec["split"]["leave_out"][-1]
        assert {row["group"][0] for row in predictions if row["subset"] == "test"} == {site}
    report = cytolora.report(tmp_path / "runs", tmp_path / "report")
    (row,) = csv.DictReader(report.path.with_name("divisions.csv").open())
    assert (row["method"], row["n_divisions"]) == ("linear (one site left out)", "3")
    assert row["split_seeds"] == "site=A; site=B; site=C"
    assert row["accuracy_low"] == ""
    assert "linear (tested on site=A)" in report.path.read_text()


@pytest.mark.parametrize("number", [1, 3, 7])
def test_images_of_unknown_site_are_told_as_ones_that_may_be_of_the_site_left_out(number: int):
    manifest = of_sites()
    bare = [replace(one, path=f"u{at}.png", group=f"u{at}", metadata=()) for at, one in enumerate(manifest.samples)]
    divided = assign_subsets(made([*manifest.samples, *bare[:number]]), SplitSpec(leave_out="site=A"))
    assert f"; {number} others, of which no site is known, are not tested and may be of it; " in divided.split_rule
    assert "is known" not in assign_subsets(manifest, SplitSpec(leave_out="site=A")).split_rule
