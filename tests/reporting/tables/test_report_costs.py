"""Trainable parameters and seconds a run have files of their own."""

import csv
from pathlib import Path

from fake_store import TRAINABLE, FakeData, write_runs

from cytolora.data.datasets import find_dataset
from cytolora.experiments.store import Store
from cytolora.reporting.results.settings import Setting, read_settings
from cytolora.reporting.tables import costs, table1

ONE = {"models": ("uni",), "methods": ("linear",), "shots": (None,), "rates": (1e-3,), "seeds": (1, 2)}


def test_every_setting_has_its_parameters_and_the_mean_seconds_of_its_tested_runs(
    report_dir: Path, settings: list[Setting]
):
    rows = list(csv.DictReader((report_dir / "costs.csv").open()))
    assert [row["setting_id"] for row in rows] == [setting.setting_id for setting in settings]
    assert {(row["method"], int(row["num_trainable"])) for row in rows} == set(TRAINABLE.items())
    lora = next(row for row in rows if (row["method"], row["shots"]) == ("lora", "16"))
    assert (float(lora["seconds"]), lora["n_runs"], lora["device"]) == (57.0, "3", "cpu")
    text = (report_dir / "costs.tex").read_text()
    assert "Model & Method & Parameters & 1 shot & 4 shots & 16 shots & all \\\\" in text
    assert "uni & lora & 38,215 & 42 s & 45 s & 57 s & -- \\\\" in text


def test_short_and_unknown_times_can_be_typeset(store: Store):
    write_runs(store, **ONE, provenance={"seconds": 0.04})
    assert "uni & linear & 1,351 & $<$ 0.1 s \\\\" in costs.to_latex(read_settings(store.runs()))


def test_the_average_is_of_the_papers_datasets_where_all_are_there_and_others_stand_below_it(store: Store):
    for name in ("bcfc", "mlcc", "sipakmed", "hicervix:25", "herlev"):
        write_runs(store, data=FakeData(name=name, classes=find_dataset(name).classes, num_groups=20), **ONE)
    (table,) = table1.tables1(read_settings(store.runs()))
    entry, four = table.entries[table1.AVERAGE, "uni"], table.datasets[:4]
    means = [spread.mean for name in four if (spread := table.entries[name, "uni"].spread)]
    assert entry.spread is not None
    assert entry.published is not None
    assert abs(entry.spread.mean - sum(means) / 4) < 1e-12
    assert round(100 * entry.published, 2) == 88.91
    below = ["average", "published", "difference", "herlev", "95 % interval"]
    assert [name for name, _ in table1.lines_of(table)][-5:] == below
    assert table1.to_latex([table]).count("\\midrule") == 6
