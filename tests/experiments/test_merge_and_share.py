"""Stores of several people in one, and one as a file: no run is lost, changed or taken for another."""

import shutil
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fake_store import write_runs

from cytolora.cli.app import main
from cytolora.config.run import RunSpec
from cytolora.config.yaml import parse_spec
from cytolora.errors import ConfigError, StoreError
from cytolora.experiments.merge import merge
from cytolora.experiments.names import read_names, write_names
from cytolora.experiments.run_folder import CHECKSUMS, METRICS, PREDICTIONS, PROVENANCE, SPEC, WEIGHTS
from cytolora.experiments.select import choose_rate, sealed
from cytolora.experiments.share import share, tidy
from cytolora.experiments.store import Store
from cytolora.experiments.stored_run import RunResult, StoredRun
from cytolora.reporting.pages.build import build_report


def cli(*arguments: str | Path) -> int | None:
    with pytest.raises(SystemExit) as stop:
        main([*map(str, arguments)])
    return stop.value.code  # pyright: ignore[reportReturnType]


def write(root: Path, *models: str, seeds: tuple[int, ...] = (1, 2)) -> Path:
    write_runs(Store(root), models=models, methods=("linear",), shots=(1,), seeds=seeds, rates=(1e-3,))
    return root


def bytes_of(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two stores that share the runs of one model."""
    return write(tmp_path / "a", "uni", "clip-vit-b16"), write(tmp_path / "b", "uni", "vit-b16")


def test_a_merge_holds_every_run_once_byte_for_byte(pair: tuple[Path, Path], tmp_path: Path):
    merged = merge(pair, tmp_path / "all")
    assert (len(merged.copied), merged.num_equal, merged.conflicts) == (6, 2, ())
    assert bytes_of(tmp_path / "all") == {**bytes_of(pair[1]), **bytes_of(pair[0])}
    again = merge(pair, tmp_path / "all")
    assert (len(again.copied), again.num_equal) == (0, 8)


def test_runs_of_the_target_stay(pair: tuple[Path, Path]):
    before = bytes_of(pair[0])
    merged = merge([pair[1]], pair[0])
    assert [run.spec["backbone"] for run in merged.copied] == ["vit-b16", "vit-b16"]
    assert before.items() <= bytes_of(pair[0]).items()


def change(store: Store, run_id: str) -> None:
    """Stores another result under the id of a run."""
    found = store.find(run_id)
    assert found is not None
    metrics = {**found.metrics, "num_trainable": found.metrics["num_trainable"] + 1}
    spec = parse_spec(found.spec, RunSpec, "test")
    table, provenance = found.predictions(), found.provenance
    store.write(RunResult(spec=spec, metrics=metrics, predictions=table, weights=None, provenance=provenance))


def test_different_results_of_one_run_are_named_and_nothing_is_written(pair: tuple[Path, Path], tmp_path: Path):
    run_id = next(run.run_id for run in Store(pair[1]).runs() if run.spec["backbone"] == "uni")
    change(Store(pair[1]), run_id)
    with pytest.raises(ConfigError, match=f"1 run with different results under the same id: {run_id}"):
        merge(pair, tmp_path / "all")
    assert not (tmp_path / "all").exists()
    merged = merge(pair, tmp_path / "all", keep_first=True)
    assert merged.conflicts == (run_id,)
    assert (tmp_path / "all" / run_id / METRICS).read_bytes() == (pair[0] / run_id / METRICS).read_bytes()


def test_a_run_with_its_weights_is_taken_before_the_same_without(pair: tuple[Path, Path], tmp_path: Path):
    run_id = next(run.run_id for run in Store(pair[1]).runs() if run.spec["backbone"] == "uni")
    assert (pair[1] / run_id / WEIGHTS).is_file()
    (pair[0] / run_id / WEIGHTS).unlink()
    merge(pair, tmp_path / "all")
    assert (tmp_path / "all" / run_id / WEIGHTS).is_file()


def test_names_of_settings_and_divisions_travel(pair: tuple[Path, Path], tmp_path: Path):
    write_names(Store(pair[0]), {"one": "first"})
    write_names(Store(pair[1]), {"one": "second", "two": "other"})
    merge(pair, tmp_path / "all")
    assert read_names(tmp_path / "all") == {"one": "first", "two": "other"}


@pytest.mark.parametrize("names", [("a", "a"), ("a", "b/../a")])
def test_a_store_that_is_named_twice_or_is_the_target_is_refused(
    names: tuple[str, str], pair: tuple[Path, Path], tmp_path: Path
):
    with pytest.raises(ConfigError, match="named twice"):
        merge([tmp_path / name for name in names], tmp_path / "all")
    with pytest.raises(ConfigError, match="named twice"):
        merge(pair, pair[0])


def test_a_damaged_run_stops_a_merge(pair: tuple[Path, Path], tmp_path: Path):
    run = next(Store(pair[1]).runs())
    content = bytearray((run.path / PREDICTIONS).read_bytes())
    content[len(content) // 2] ^= 1
    (run.path / PREDICTIONS).write_bytes(content)
    with pytest.raises(StoreError, match="was changed after it was written"):
        merge([pair[1]], tmp_path / "all")
    assert cli("merge", tmp_path / "nothing", "--out", tmp_path / "x", "--quiet") == 2


@pytest.mark.slow
def test_a_shared_store_unpacks_to_one_that_gives_the_same_report(pair: tuple[Path, Path], tmp_path: Path):
    assert not cli("share", pair[0], "--out", tmp_path / "results.zip", "--quiet")
    with zipfile.ZipFile(tmp_path / "results.zip") as packed:
        assert {name.rpartition("/")[2] for name in packed.namelist()} == {
            SPEC,
            METRICS,
            PREDICTIONS,
            PROVENANCE,
            CHECKSUMS,
        }
        packed.extractall(tmp_path / "theirs")
    build_report(pair[0], tmp_path / "ours")
    build_report(tmp_path / "theirs" / "runs", tmp_path / "their-report")
    tables = [(tmp_path / name / "settings.csv").read_text() for name in ("ours", "their-report")]
    assert tables[0] == tables[1]
    again = tmp_path / "again.zip"
    share(pair[0], again)
    assert again.read_bytes() == (tmp_path / "results.zip").read_bytes()


def test_weights_are_shared_on_request_only(pair: tuple[Path, Path], tmp_path: Path):
    share(pair[0], tmp_path / "with.zip", weights=True)
    with zipfile.ZipFile(tmp_path / "with.zip") as packed:
        packed.extractall(tmp_path / "theirs")
    assert bytes_of(tmp_path / "theirs" / "runs") == bytes_of(pair[0])


def test_the_table_has_a_row_for_every_run_image_and_class(pair: tuple[Path, Path], tmp_path: Path):
    assert not cli("share", pair[0], "--out", tmp_path / "all.parquet", "--quiet")
    table, runs = pq.read_table(tmp_path / "all.parquet"), list(Store(pair[0]).runs())
    assert table.num_rows == sum(run.predictions().num_rows * len(run.provenance["classes"]) for run in runs)
    for run in runs:
        rows = [row for row in table.to_pylist() if row["run"] == run.run_id]
        told = {(row["subset"], row["path"], row["class"]): row["probability"] for row in rows}
        for one in run.predictions().to_pylist():
            assert all(told[one["subset"], one["path"], name] == one[name] for name in run.provenance["classes"])
        assert {(row["model"], row["seed"]) for row in rows} == {(run.spec["backbone"], run.spec["seed"])}
        assert {row["label"] for row in rows} == set(run.predictions()["label"].to_pylist())


def test_runs_of_datasets_with_other_classes_have_one_table(pair: tuple[Path, Path]):
    run = next(Store(pair[0]).runs())
    fewer = replace(run, provenance={**run.provenance, "classes": run.provenance["classes"][:3]})
    assert tidy(fewer).schema == tidy(run).schema


@pytest.mark.parametrize(("name", "more"), [("x.tar", ()), ("x", ()), ("x.parquet", ("--weights",))])
def test_what_cannot_be_written_is_one_line(name: str, more: tuple[str, ...], pair: tuple[Path, Path], tmp_path: Path):
    assert cli("share", pair[0], "--out", tmp_path / name, "--quiet", *more) == 2
    assert not (tmp_path / name).exists()


def test_what_the_file_gives_away_is_said(pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    shutil.rmtree(pair[0])
    write_runs(
        Store(pair[0]), models=("uni",), methods=("linear",), shots=(1,), seeds=(1,), rates=(1e-3,),
        provenance={"note": "/home/anna/cells is not read", "spending": {"host": "lab"}},
    )  # fmt: skip
    assert not cli("share", pair[0], "--out", tmp_path / "x.zip", "--quiet")
    said = capsys.readouterr().err
    assert "file names" in said
    assert "1 run name folders of this machine" in said
    assert "1 run name the machine that they ran on" in said


def test_a_run_that_the_target_was_given_meanwhile_stays(pair: tuple[Path, Path], tmp_path: Path):
    into, run = Store(tmp_path / "all"), next(Store(pair[0]).runs())
    into.copy(run)
    change(into, run.run_id)
    before = (tmp_path / "all" / run.run_id / METRICS).read_bytes()
    into.copy(run)
    assert (tmp_path / "all" / run.run_id / METRICS).read_bytes() == before


def several_rates(root: Path, *, rates: tuple[float, ...], seeds: tuple[int, ...] = (1, 2)) -> Path:
    """A store of one setting, tested at the middle one of its rates."""
    write_runs(Store(root), models=("uni",), methods=("linear",), shots=(1,), seeds=seeds, rates=rates)
    return root


def scored(root: Path) -> dict[float, int]:
    """How many runs are tested at each rate."""
    return Counter(run.spec["learning_rate"] for run in Store(root).runs() if run.metrics["test"] is not None)


def test_stores_that_chose_other_rates_have_one_test_result_together_and_merge_again_the_same(tmp_path: Path):
    one = several_rates(tmp_path / "one", rates=(1e-4, 1e-3, 1e-2))
    two = several_rates(tmp_path / "two", rates=(3e-3, 3e-2, 3e-1))
    merged = merge([one, two], tmp_path / "all")
    chosen = choose_rate(list(Store(tmp_path / "all").runs()))
    assert scored(tmp_path / "all") == {chosen: 2}
    assert (merged.num_sealed, merged.num_retested) == (2, 0)
    assert (scored(one), scored(two)) == ({1e-3: 2}, {3e-2: 2})
    before = bytes_of(tmp_path / "all")
    again = merge([one, two], tmp_path / "all")
    assert (again.conflicts, again.num_equal, bytes_of(tmp_path / "all")) == ((), 12, before)


def test_seeds_that_were_tested_at_another_rate_than_the_rest_keep_their_scores_and_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rates = (1e-4, 1e-3, 1e-2)
    one, two = several_rates(tmp_path / "one", rates=rates), several_rates(tmp_path / "two", rates=rates, seeds=(3,))
    for run in list(Store(two).runs()):
        only_at(Store(two), run, 1e-2)
    assert not cli("merge", one, two, "--out", tmp_path / "all", "--quiet")
    assert "1 setting with test scores at several learning rates (N809)" in capsys.readouterr().err
    assert scored(tmp_path / "all") == {1e-3: 2, 1e-2: 1}


def only_at(store: Store, run: StoredRun, rate: float) -> None:
    """Takes a test score away, or makes one up, so that a run is tested at one rate alone."""
    result = sealed(run)
    if run.spec["learning_rate"] == rate:
        result = replace(result, metrics={**result.metrics, "test": result.metrics["val"]})
    store.write(result)


def test_the_same_run_with_and_without_its_test_score_is_no_conflict_and_the_score_is_kept(tmp_path: Path):
    one = write(tmp_path / "one", "uni")
    two = Path(shutil.copytree(one, tmp_path / "two"))
    for run in list(Store(one).runs()):
        Store(one).write(sealed(run))
    assert merge([one, two], tmp_path / "all").conflicts == ()
    assert scored(tmp_path / "all") == {1e-3: 2}
    assert merge([two], one).num_equal == 2
    assert scored(one) == {1e-3: 2}


def test_a_run_that_is_tested_while_it_is_merged_is_taken_as_it_is_then(tmp_path: Path):
    one = write(tmp_path / "one", "uni")
    whole = {run.run_id: replace(sealed(run), metrics=run.metrics, predictions=run.predictions()) for run in runs(one)}
    for run in runs(one):
        Store(one).write(sealed(run))

    def score_all(_: object) -> None:
        for result in whole.values():
            Store(one).write(result)

    merge([one], tmp_path / "all", on_plan=score_all)
    assert bytes_of(tmp_path / "all") == bytes_of(one)
    assert scored(tmp_path / "all") == {1e-3: 2}


def runs(root: Path) -> list[StoredRun]:
    return list(Store(root).runs())


def test_names_and_divisions_are_there_when_a_merge_ends_half_way(pair: tuple[Path, Path], tmp_path: Path):
    write_names(Store(pair[0]), {"one": "first"})

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(pair, tmp_path / "all", on_run=stop)
    assert read_names(tmp_path / "all") == {"one": "first"}
    assert len(runs(tmp_path / "all")) == 1


@pytest.mark.parametrize("name", ["names.json", ".splits/x.csv"])
def test_what_cannot_be_read_beside_the_runs_is_named(name: str, pair: tuple[Path, Path], tmp_path: Path):
    (pair[0] / name).mkdir(parents=True)  # a folder stands for a file that may not be read: root may read all
    for command in (["share", pair[0], "--out", tmp_path / "x.zip"], ["merge", *pair, "--out", tmp_path / "all"]):
        with pytest.raises(SystemExit) as stop:
            main([*map(str, command), "--quiet"])
        assert stop.value.code == 2
    assert not (tmp_path / "x.zip").exists()


def test_others_may_read_what_is_unpacked(pair: tuple[Path, Path], tmp_path: Path):
    share(pair[0], tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip") as packed:
        assert {member.external_attr >> 16 for member in packed.infolist()} == {0o100644}


def test_sharing_says_how_far_it_is(pair: tuple[Path, Path], tmp_path: Path):
    steps = list[int]()
    share(pair[0], tmp_path / "x.zip", on_start=steps.append, on_run=lambda: steps.append(1))
    assert steps == [4, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("names", "kind"), [(("bundle.json",), "a model"), (("hsil/a.png", "nilm/b.png"), "a folder of images by class")]
)
def test_runs_are_merged_into_no_folder_of_another_kind(
    names: tuple[str, ...], kind: str, pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    target = tmp_path / "theirs"
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(b'{"format": 1, "classes": [], "files": {}}')
    assert cli("merge", *pair, "--out", target) == 2
    assert f"theirs is {kind} (it holds" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="Choose another --out"):
        merge(pair, target)
    assert set(bytes_of(target)) == set(names)


@pytest.mark.parametrize("name", ["cells.zip", "table.parquet"])
def test_sharing_replaces_its_own_file_and_no_other(name: str, pair: tuple[Path, Path], tmp_path: Path):
    out = tmp_path / name
    share(pair[0], out)
    first = out.read_bytes()
    share(pair[0], out)
    assert out.read_bytes() == first
    with zipfile.ZipFile(out, "w") as packed:
        packed.writestr("hsil/a.png", b"mine")
    mine = out.read_bytes()
    with pytest.raises(ConfigError, match=r"is there and is no .*; it would be lost"):
        share(pair[0], out)
    assert out.read_bytes() == mine
