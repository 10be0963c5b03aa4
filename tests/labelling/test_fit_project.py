"""`cytolora fit PROJECT`: the drawn test cells are the test set, and the report says how cells were chosen."""

from pathlib import Path

import pytest
from quick_fit import quick_fit

from cytolora.errors import ConfigError
from cytolora.labelling.session import Labelling, create_project


@pytest.mark.slow
def test_a_labelled_project_becomes_a_bundle_whose_test_set_is_the_drawn_cells(
    drawn_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [line.split(",")[:2] for line in (drawn_cells / "manifest.csv").read_text().splitlines()[1:]]
    truth = dict(names)
    project = create_project(drawn_cells, tmp_path / "p", classes=sorted(set(truth.values())), test_share=0.3)
    opened = Labelling(project)
    number = opened.n_cells
    for kind in ("test", "next"):
        for one in opened.queue("ann", number, kind=kind):
            opened.label("ann", [one["cell"]], truth[one["name"]], client_id=f"{one['cell']}")
    opened.close()
    classifier = quick_fit(project, tmp_path / "model", max_steps=2, learning_rates=0.1)
    assert classifier.contents.metrics["test"]["n"] == 20
    report = (tmp_path / "model" / "report.html").read_text()
    assert "Test cells: 20 labelled cells out of 20 of 2 groups" in report
    assert classifier.contents.backbone.name == "nano"
    with pytest.raises(ConfigError, match=r"is a labelling project: .* dataset asks for others"):
        quick_fit(project, tmp_path / "model2", dataset="csv")
