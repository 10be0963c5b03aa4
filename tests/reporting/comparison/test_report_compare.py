import csv
import json
from pathlib import Path

import pytest
from fake_store import FakeData, fake_run, write_runs

from cytolora.cli.app import main
from cytolora.experiments.store import Store
from cytolora.metrics.paired import holm
from cytolora.reporting.comparison.compare import HEADER, compare, notes, to_lines
from cytolora.reporting.results.settings import Setting, read_settings


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["compare", *arguments])
    code = caught.value.code
    return code if isinstance(code, int) else 0


def test_models_are_compared_where_all_else_agrees(settings: list[Setting]):
    found = compare(settings, "model", replicates=200)
    assert len(found.pairs) == 7  # two methods at three shots, and linear on all images
    assert {(pair.first, pair.second) for pair in found.pairs} == {("clip-vit-b16", "uni")}
    assert found.skipped == ()


def test_a_pair_tells_the_difference_of_the_two_means_and_an_interval_around_it(settings: list[Setting]):
    for pair in compare(settings, "method", replicates=500).pairs:
        first, second = (setting.test("accuracy") for setting in pair.settings)
        assert first is not None
        assert second is not None
        assert pair.estimate.value == pytest.approx(first.mean - second.mean)
        assert pair.estimate.interval.low < pair.estimate.value < pair.estimate.interval.high
        assert pair.estimate.interval.unit == "group"
        assert pair.mcnemar_seed == 1


def test_p_values_are_corrected_over_all_pairs_of_the_comparison(settings: list[Setting]):
    pairs = compare(settings, "shots", replicates=200).pairs
    assert [pair.p_holm for pair in pairs] == holm([pair.estimate.p for pair in pairs])
    assert all(pair.p_holm >= pair.estimate.p for pair in pairs)


def test_a_cluster_robust_test_stands_beside_in_table_and_file(settings: list[Setting]):
    found = compare(settings, "shots", replicates=200)
    pairs = found.pairs
    assert [pair.p_cluster_holm for pair in pairs] == holm([pair.estimate.p_cluster or 1 for pair in pairs])
    assert any(0 < (pair.estimate.p_cluster or 0) < 1 for pair in pairs)
    assert found.to_arrow()["p_cluster"].to_pylist() == [pair.estimate.p_cluster for pair in pairs]
    column = HEADER.index("p of cluster-robust t (Holm)")
    for line, pair in zip(to_lines(found), pairs, strict=True):
        assert pair.p_cluster_holm is not None
        assert line[column] == ("< 0.001" if pair.p_cluster_holm < 0.001 else f"{pair.p_cluster_holm:.3f}")


def test_the_best_alone_gives_fewer_pairs(settings: list[Setting]):
    every, best = (compare(settings, "shots", only_best=one, replicates=50) for one in (False, True))
    assert len(best.pairs) < len(every.pairs)
    assert all(pair.estimate.value >= 0 for pair in best.pairs)


def test_settings_that_saw_other_test_images_are_named_and_not_compared(store: Store):
    one = {"methods": ("lora",), "shots": (4,), "seeds": (1,), "rates": (1e-3,)}
    write_runs(store, models=("uni",), **one)
    write_runs(store, data=FakeData(num_groups=40), models=("vit-b16",), **one)
    found = compare(read_settings(store.runs()), "model")
    assert found.pairs == ()
    assert "uni and vit-b16 are not compared: they did not see the same test images (300 and 200" in found.skipped[0]


def test_the_order_in_which_images_are_stored_changes_nothing(store: Store):
    one = {"methods": ("lora",), "shots": (4,), "seeds": (1,), "rates": (1e-3,)}
    write_runs(store, models=("uni", "vit-b16"), **one)
    before = compare(read_settings(store.runs()), "model", replicates=100).pairs[0]
    turned = fake_run(FakeData(), "vit-b16", "lora", 4, 1e-3, 1, skill=1, tested=True)
    stored = next(run for run in store.runs() if run.spec["backbone"] == "vit-b16")
    rows = stored.predictions()
    changed = type(turned)(
        spec=turned.spec,
        metrics=stored.metrics,
        predictions=rows.take(list(reversed(range(len(rows))))),
        weights=b"",
        provenance=stored.provenance,
    )
    store.write(changed)
    after = compare(read_settings(store.runs()), "model", replicates=100).pairs[0]
    assert (after.estimate, after.mcnemar) == (before.estimate, before.mcnemar)


def test_mcnemar_is_labelled_as_taking_images_for_independent(settings: list[Setting]):
    found = compare(settings, "model", replicates=50)
    assert any("takes every image for independent" in note for note in notes(found))
    assert len(to_lines(found)) == len(found.pairs)


def test_the_command_prints_pairs_and_writes_them(runs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(str(runs_dir), "--by", "model", "--out", str(tmp_path / "c"), "--metric", "macro_f1") == 0
    text = capsys.readouterr().out
    assert "clip-vit-b16" in text
    assert "corrected by Holm for the 7 pairs" in text
    rows = list(csv.DictReader((tmp_path / "c" / "compare.csv").open()))
    assert len(rows) == 7
    assert {row["metric"] for row in rows} == {"macro_f1"}
    assert (tmp_path / "c" / "compare.md").read_text().startswith("| dataset |")


def test_json_alone_stands_on_standard_output(runs_dir: Path, capsys: pytest.CaptureFixture[str]):
    assert run(str(runs_dir), "--by", "method", "--dataset", "herlev", "--json") == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["by"] == "method"
    assert {"difference", "low", "high", "p_holm", "p_cluster", "mcnemar_mid_p"} <= set(plain["pairs"][0])


def test_mistakes_are_one_line(runs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(str(tmp_path), "--by", "model") == 2
    assert run(str(runs_dir), "--by", "model", "--dataset", "herlef") == 2
    (tmp_path / "file").write_text("mine")
    assert run(str(runs_dir), "--by", "model", "--out", str(tmp_path / "file")) == 2
    said = capsys.readouterr().err
    assert f"Cannot write to {tmp_path / 'file'}: a file is in the way" in said
    assert "No finished runs in" in said
    assert "Did you mean 'herlev'?" in said
    assert "Traceback" not in said
