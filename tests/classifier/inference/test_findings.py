"""Findings of images that are predicted or evaluated."""

import json
import shutil

import pytest

from cytolora.cli.app import main


def test_evaluate_and_predict_name_unreadable_files_by_code(fitted, lab_cells, tmp_path, capsys):
    cells = shutil.copytree(lab_cells, tmp_path / "cells")
    bad = sorted(cells.rglob("*.png"))[0]
    bad.write_bytes(b"no image")
    with pytest.raises(SystemExit):
        main(["evaluate", str(fitted), str(cells), "--seen", "mark", "--json", "--quiet"])
    (found,) = [one for one in json.loads(capsys.readouterr().out)["findings"] if one["code"] == "P101"]
    assert (found["count"], found["examples"]) == (1, [bad.relative_to(cells).as_posix()])
    with pytest.raises(SystemExit):
        main(["predict", str(fitted), str(bad.parent), "--out", str(tmp_path / "out.csv"), "--quiet"])
    said = capsys.readouterr().err
    assert "! P101 Files that cannot be read as images: 1, namely " in said
    assert bad.name in said
