"""Several divisions of one dataset, executed: each trains and tests on its own, in one store."""

import csv
from pathlib import Path

import pytest
from PIL import Image

import cytolora
from cells import run_all, tiny_grid
from cytolora.config.run import SplitSpec
from cytolora.core.files import write_json
from cytolora.errors import StoreError
from cytolora.experiments.expand import narrowed
from cytolora.experiments.names import NAMES, read_names, write_names
from cytolora.experiments.plan import make_plan
from cytolora.experiments.store import Store
from cytolora.reporting.results.divided import divided
from cytolora.reporting.results.settings import read_settings
from cytolora.training.resources import Inputs


@pytest.mark.slow
def test_each_division_is_tested_on_its_own_images_and_trained_on_none_of_them(drawn_cells: Path, tmp_path: Path):
    grid = narrowed(tiny_grid(learning_rates=[1e-2], seeds=[1]), methods=["linear", "lora"], split_seeds=[0, 1])
    plan = run_all(grid, drawn_cells, tmp_path / "runs")
    assert [(job.dataset, job.split.seed, len(job.runs)) for job in plan.jobs] == [
        ("synthetic", 0, 2),
        ("synthetic", 1, 2),
    ]
    inputs = Inputs(data={"synthetic": drawn_cells})
    for run in Store(tmp_path / "runs").runs():
        seed = run.spec["split"]["seed"]
        expected = inputs.manifest("synthetic", SplitSpec(seed=seed))
        rows = run.predictions().to_pylist()
        assert [row["path"] for row in rows if row["subset"] == "test"] == [one.path for one in expected.subset("test")]
        assert run.provenance["split_rule"] == expected.split_rule
    again = make_plan(grid, Store(tmp_path / "runs"), inputs)
    assert (again.to_do, again.jobs) == ((), ())
    first = make_plan(tiny_grid(learning_rates=[1e-2], seeds=[1]), Store(tmp_path / "runs"), inputs)
    assert first.to_do == (), "the first division is that of a grid without split seeds"


@pytest.mark.slow
def test_the_interval_over_divisions_counts_the_groups_that_the_runs_were_divided_by(drawn_cells: Path, tmp_path: Path):
    grid = narrowed(tiny_grid(seeds=[1]), methods=["gda"], split_seeds=[0, 1], shots=["all"])
    run_all(grid, drawn_cells, tmp_path / "runs")
    expected = []
    for seed in (0, 1):
        manifest = Inputs(data={"synthetic": drawn_cells}).manifest("synthetic", SplitSpec(seed=seed))
        test, train = ({one.group for one in manifest.subset(subset)} for subset in ("test", "train"))
        expected.append(len(test) / len(train))
    (family,) = divided(read_settings(Store(tmp_path / "runs").runs()))
    assert family.divisions == ("0", "1")
    assert family.test_over_train == pytest.approx(sum(expected) / 2)


def table_of_cells(folder: Path, subsets: tuple[str, ...]) -> Path:
    """A table of 24 grey images of two classes that names the subset of each."""
    folder.mkdir()
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "subset"])
        for index in range(24):
            Image.new("L", (4, 4), 5 * index).save(folder / f"{index}.png")
            writer.writerow([f"{index}.png", "ab"[index % 2], subsets[index // 2 % len(subsets)]])
    return folder


@pytest.mark.parametrize(
    ("subsets", "num_divisions"), [(("train", "val", "test"), 1), (("train", "train", "test"), 1), (("",), 3)]
)
def test_an_official_test_set_is_one_division_and_the_plan_says_so(
    subsets: tuple[str, ...], num_divisions: int, tmp_path: Path
):
    data = table_of_cells(tmp_path / "data", subsets)
    grid = narrowed(tiny_grid(), datasets=["csv"], methods=["linear"], split_seeds=[2, 1, 3])
    plan = make_plan(grid, Store(tmp_path / "runs"), Inputs(data={"csv": data}))
    seeds = {run.split.seed for run in plan.runs}
    if num_divisions == 1:
        assert seeds == {1}
        assert plan.notes == ("csv: its official test set is one division; of the split seeds 2, 1, 3 only 1 is run.",)
    else:
        assert (seeds, plan.notes) == ({1, 2, 3}, ())


def test_a_dataset_without_a_folder_has_the_divisions_that_its_entry_says(tmp_path: Path):
    grid = narrowed(tiny_grid(), datasets=["hicervix:25", "herlev"], split_seeds=[0, 1])
    plan = make_plan(grid, Store(tmp_path / "runs"), Inputs(data={}))
    divisions = {(run.dataset, run.split.seed) for run in plan.runs}
    assert divisions == {("hicervix:25", 0), ("herlev", 0), ("herlev", 1)}
    assert len(plan.notes) == 1
    assert plan.notes[0].startswith("hicervix:25: its official test set is one division")


def test_names_of_variants_are_kept_beside_the_runs_and_added_to(tmp_path: Path):
    store = Store(tmp_path / "runs")
    write_names(store, {})
    assert not (tmp_path / "runs").exists(), "nothing to write makes no folder"
    write_names(store, {"a": "small", "b": "large"})
    write_names(store, {"b": "larger", "c": "third"})
    assert read_names(store.root) == {"a": "small", "b": "larger", "c": "third"}
    assert list(store.runs()) == []


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"a": 1}', b'{"a": ""}', b"\xff\xfe", b'"a"', b"[" * 100_000])
def test_damaged_names_are_one_line_that_says_what_to_do(content: bytes, tmp_path: Path):
    (tmp_path / NAMES).write_bytes(content)
    with pytest.raises(StoreError, match=r"names\.json .*Move it away"):
        read_names(tmp_path)


def test_a_flipped_bit_in_names_is_told_or_changes_no_name(tmp_path: Path):
    store, names = Store(tmp_path / "runs"), {"a_lora_2-shot": "small", "b_lora_2-shot": "large"}
    write_names(store, names)
    path = store.root / NAMES
    whole, num_told = path.read_bytes(), 0
    for bit in range(8 * len(whole)):
        turned = bytearray(whole)
        turned[bit // 8] ^= 1 << bit % 8
        path.write_bytes(turned)
        try:
            assert read_names(store.root) == names, bit
        except StoreError:
            num_told += 1
    assert num_told > 0.9 * 8 * len(whole)


def test_names_of_an_earlier_version_are_read_without_a_checksum(tmp_path: Path):
    names = {"a_lora_2-shot": "small", "b_lora_2-shot": "x" * 71}
    write_json(tmp_path / NAMES, names)
    assert read_names(tmp_path) == names
    write_names(Store(tmp_path), {"c": "third"})
    assert read_names(tmp_path) == names | {"c": "third"}


@pytest.mark.slow
def test_a_run_from_python_names_its_variants_in_the_store(drawn_cells: Path, tmp_path: Path):
    file = tmp_path / "grid.yaml"
    file.write_text(
        "name: own\ndatasets: [synthetic]\nmodels: [nano]\nshots: [2]\nseeds: [1]\nlearning_rates: [0.01]\n"
        "methods:\n"
        "  knn-1: {method: knn, head: {neighbours: 1}}\n"
        "  knn-3: {method: knn, head: {neighbours: 3}}\n"
    )
    plan = cytolora.run(file, {"synthetic": drawn_cells}, tmp_path / "runs", split_seeds=[0, 5])
    names = read_names(tmp_path / "runs")
    assert {names[run.setting_id] for run in plan.runs} == {"knn-1", "knn-3"}
    assert len(names) == 4
    assert len(list(Store(tmp_path / "runs").runs())) == 4
