"""Findings of the data in reports of stored runs: with codes, and of runs that were stored before there were any."""

import json
from pathlib import Path

import pytest
from fake_store import FakeData, write_runs

from cytolora import report
from cytolora.cli.app import main
from cytolora.core.findings import finding
from cytolora.experiments.store import Store

FEW = {"data": FakeData(num_groups=12), "models": ("uni",), "methods": ("linear",), "shots": (1,), "rates": (1e-3,)}
TORN = finding("D507", "Byte-equal files: 3, namely [red]a[/red] = b.", count=3, examples=["[red]a[/red] = b"])
LAYOUT = finding("F210", "Read as class folders.")
COUNTS = "herlev: class 'normal' has 6 images, 7 are published."


def written(store: Store, folder: Path, provenance: dict) -> str:
    write_runs(store, **FEW, seeds=(1, 2), provenance=provenance)
    return report(store.root, folder / "report").path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_findings_of_runs_stand_beside_the_dataset_the_gravest_first(store: Store, tmp_path: Path):
    page = written(store, tmp_path, {"findings": [LAYOUT.plain(), TORN.plain()]})
    torn = "<code>D507</code> Byte-equal files: 3, namely [red]a[/red] = b."
    assert page.count(torn) == 1
    assert page.index(torn) < page.index("<code>F210</code> Read as class folders.")
    found = json.loads((tmp_path / "report" / "findings.json").read_text(encoding="utf-8"))
    assert found == [{"dataset": "herlev", **TORN.plain()}, {"dataset": "herlev", **LAYOUT.plain()}]


@pytest.mark.slow
def test_warnings_of_runs_stored_before_there_were_codes_are_shown(store: Store, tmp_path: Path):
    assert "<li>herlev: class &#39;normal&#39; has 6 images, 7 are published.</li>" in written(
        store, tmp_path, {"data_warnings": [COUNTS]}
    )


@pytest.mark.slow
def test_data_without_findings_have_neither_box_nor_file(store: Store, tmp_path: Path):
    assert "findings of the data" not in written(store, tmp_path, {"findings": []})
    assert not (tmp_path / "report" / "findings.json").exists()


def test_report_prints_what_somebody_should_look_at_as_it_is(store: Store, tmp_path: Path, capsys):
    write_runs(store, **FEW, provenance={"findings": [LAYOUT.plain(), TORN.plain()], "data_warnings": [COUNTS]})
    with pytest.raises(SystemExit):
        main(["report", str(store.root), "--out", str(tmp_path / "report")])
    said = capsys.readouterr()
    assert said.err.splitlines() == [f"! D507 herlev: {TORN}", f"! {COUNTS}"]
    assert said.out.strip() == str(tmp_path / "report" / "index.html")
