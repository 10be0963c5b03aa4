"""Names of variants in every row, though no run id depends on them."""

import csv
from pathlib import Path

from fake_store import FakeData, fake_run

from cytolora.config.run import AdapterSpec
from cytolora.experiments.names import write_names
from cytolora.experiments.store import Store
from cytolora.reporting.comparison.compare import compare
from cytolora.reporting.pages.build import build_report
from cytolora.reporting.results.settings import read_settings


def lora(store: Store, rank: int, seed: int = 1, model: str = "uni") -> str:
    run = fake_run(FakeData(), model, "lora", 4, 1e-3, seed, 1 + rank / 10, True, adapter=AdapterSpec(rank=rank))
    store.write(run)
    return run.spec.setting_id


def test_named_variants_are_called_so_in_tables_settings_page_and_compare(store: Store, tmp_path: Path):
    names = {lora(store, 2): "lora-r2", lora(store, 16): "lora-r16"}
    write_names(store, names)
    page = build_report(store.root, tmp_path / "report")
    for file in ("tables.csv", "settings.csv", "costs.csv", "classes.csv"):
        with (tmp_path / "report" / file).open() as opened:
            assert {row["method"] for row in csv.DictReader(opened)} == {"lora-r2", "lora-r16"}, file
    text = page.read_text()
    assert ">lora-r2</td>" in text
    assert ">lora-r16</td>" in text
    assert "adapter rank" not in (tmp_path / "report" / "tables.md").read_text()
    (pair,) = compare(read_settings(store.runs()), "method", replicates=50).pairs
    assert {pair.first, pair.second} == {"lora-r2", "lora-r16"}


def test_variants_without_names_are_told_apart_by_what_differs_as_before(store: Store):
    lora(store, 2)
    lora(store, 16)
    methods = {one.method for one in read_settings(store.runs())}
    assert methods == {"lora (rank 2)", "lora (rank 16)"}


def test_a_name_that_two_settings_bear_is_told_apart_by_what_differs(store: Store):
    write_names(store, dict.fromkeys([lora(store, 2), lora(store, 16)], "small"))
    assert {one.method for one in read_settings(store.runs())} == {
        "small (rank 2)",
        "small (rank 16)",
    }


def test_a_named_variant_leaves_the_name_of_the_plain_method_alone(store: Store):
    lora(store, 2)
    write_names(store, {lora(store, 16): "large"})
    assert {one.method for one in read_settings(store.runs())} == {"lora", "large"}


def test_one_name_is_one_variant_in_all_models(store: Store):
    write_names(store, {lora(store, 2, model=model): "small" for model in ("uni", "vit-b16")})
    lora(store, 16)
    assert {(one.model, one.method) for one in read_settings(store.runs())} == {
        ("uni", "small"),
        ("vit-b16", "small"),
        ("uni", "lora"),
    }
