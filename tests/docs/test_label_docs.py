"""The guide to labelling is executed as it stands: labels travel over HTTP into a project, then into a bundle."""

import csv
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from page_blocks import ROOT, commands, run_command

from cytolora import Classifier
from cytolora.data.synthetic.dataset import write_synthetic

PAGE = ROOT / "docs" / "label.md"


@pytest.mark.slow
def test_the_guide_leads_from_unlabelled_cells_to_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    service = pytest.importorskip("service", reason="the extra serve is not installed")
    monkeypatch.chdir(tmp_path)
    write_synthetic(Path("cells"), num_images=120, num_slides=24, seed=0)
    with Path("cells/manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    truth = {row["path"]: row["label"] for row in rows}
    with Path("cells/manifest.csv").open("w", newline="") as file:  # nobody knows the labels
        table = csv.writer(file)
        table.writerows([("path", "group"), *((row["path"], row["group"]) for row in rows)])

    def label_all(app: Any, limits: Any, listener: Any) -> None:
        address = next(word for word in capsys.readouterr().err.split() if word.startswith("http://"))
        (token,) = parse_qs(urlsplit(address).query)["token"]
        headers, reader = {"Authorization": f"Bearer {token}"}, {"reader": "anna"}
        for number in range(200):
            queue = service.ask(app, "GET", "/v1/queue", params={**reader, "n": 8}, headers=headers).json()
            for row in queue:
                content = {
                    "cells": [row["cell"]],
                    "value": truth[row["name"]],
                    "client_id": f"anna-{number}-{row['cell']}",
                }
                answer = service.ask(app, "POST", "/v1/labels", json={**reader, **content}, headers=headers)
                assert answer.status_code == 200, answer.text
            if not queue:
                break
        assert (
            service.ask(app, "POST", "/v1/finish", headers=headers).json()["command"].startswith("cytolora fit project")
        )

    monkeypatch.setattr("cytolora.cli.label.run_service", label_all)
    monkeypatch.setattr("webbrowser.open", lambda address: True)
    start, end, soft, look, away = commands(PAGE)
    run_command(start)
    with Path("project/labels.csv").open(newline="") as file:
        written = {row["path"]: row["label"] for row in csv.DictReader(file)}
    assert written == truth
    run_command(f"{end} --steps 50 --learning-rates 0.01 --cache cache --quiet")
    metrics = Classifier.load("model").contents.metrics
    run_command(f"{soft} --steps 2 --learning-rates 0.01 --cache cache --quiet")
    run_command(look)
    run_command(away)
    assert Path("project.json").read_text().count('"file_name"') == len(truth)
    assert metrics["test"]["n"] > 0
