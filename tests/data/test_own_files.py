"""Kinds of files that commands write, told by content: each is replaced by its own command, in any version."""

import json
from pathlib import Path
from typing import Any

import pytest
from command_options import checks, options
from PIL import Image

from cytolora.classifier.inference.review_page import ReviewCell, write_page
from cytolora.classifier.leakage.page import write_page as write_leakage
from cytolora.classifier.leakage.report import LeakageReport
from cytolora.classifier.slides.geojson import Classified, write_geojson
from cytolora.classifier.trial.trial import Trial
from cytolora.cli.app import app, main
from cytolora.core.files import write_json
from cytolora.data import own_files
from cytolora.data.own_files import FileKind
from cytolora.data.targets import check_replaceable_file, check_together
from cytolora.errors import ConfigError

KINDS = [one for one in vars(own_files).values() if isinstance(one, FileKind)]
OPTIONS = {
    ("check", "--page"): "page of `cytolora check`",
    ("leakage", "--page"): "page of `cytolora leakage`",
    ("evaluate", "--page"): "review page",
    ("predict", "--page"): "review page",
    ("weights try", "--out"): "result of `cytolora weights try`",
}
PAGES = {one.name for one in KINDS if one.suffixes}
HEAD = '<!doctype html>\n<html lang="en">\n<head>\n<title>a: b</title>\n<style>body { margin: 0 }</style>\n</head>\n'
OF_BEFORE: dict[FileKind, list[str]] = {
    own_files.REVIEW_PAGE: [
        f'{HEAD}<body data-page="0123">\n<button id="save" type="button" title="s">Save corrections '
        '(<span id="num-set">0</span>)</button>\n</body>\n</html>\n'
    ],
    own_files.AUDIT_PAGE: [
        f"{HEAD}<body>{'x' * 300_000}<footer>\n<p>Not found is not the same as not there. Made by "
        "<code>cytolora check --page</code>; the pictures are inside this file.</p>\n</footer>\n</body>\n</html>\n"
    ],
    own_files.LEAKAGE_PAGE: [
        f"{HEAD}<body><p>Research use only. Written by <code>cytolora leakage</code>.</p>\n</body>\n</html>\n"
    ],
    own_files.PREDICTIONS: [
        "path,predicted,hsil,nilm,positive,prediction_set,referred,unfamiliar,error\na.png,hsil,0.9,0.1,,,,,\n",
        "slide,id,x,y,predicted,hsil,nilm,positive,prediction_set,referred,unfamiliar,error\n",
    ],
    own_files.GEOJSON: [
        '{"type": "FeatureCollection", "features": [\n{"type": "Feature", "id": "1", "geometry": {"type": "Point", '
        '"coordinates": [1.0, 2.0]}, "properties": {"objectType": "detection", "measurements": {"p hsil": 0.9}}}\n]}\n'
    ],
    own_files.REQUEST_LOG: [
        '{"time": "2026-11-25T00:00:00.000+00:00", "id": "a", "client": "127.0.0.1", "method": "POST", "path": '
        '"/v1/predict", "status": 200, "seconds": 0.1, "images": 1}\n'
    ],
}
"""What earlier versions wrote, shortened."""


@pytest.fixture
def theirs(tmp_path: Path) -> list[Path]:
    """Files of others, each of which some command could be told to write to by mistake."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    texts = {
        "labels.csv": "path,label\na.png,hsil\n",
        "predictions.csv": "path,predicted,hsil\na.png,hsil,0.9\n",
        "cells.geojson": '{"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": null}]}',
        "by_hand.geojson": '{"type": "FeatureCollection", "features": [\n{"type": "Feature", "geometry": null}\n]}\n',
        "model.json": '{"format": 1, "classes": ["a"], "files": {}}',
        "page.html": f"{HEAD}<body><p>My notes on cytolora check --page and on cytolora leakage</p></body></html>",
        "app.log": '{"time": "today", "message": "started"}\n',
        "report.txt": "notes",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    Image.new("RGB", (9, 9)).save(folder / "cell.jpg")
    return sorted(folder.iterdir())


def test_files_of_others_are_of_no_kind(theirs: list[Path]):
    for kind in KINDS:
        for path in theirs:
            with pytest.raises(ConfigError, match=r"is there and is no |give it a name that ends in \.html"):
                check_replaceable_file(path, kind)


@pytest.mark.parametrize("kind", OF_BEFORE, ids=lambda kind: kind.name)
def test_what_earlier_versions_wrote_is_replaced(kind: FileKind, tmp_path: Path):
    for number, text in enumerate(OF_BEFORE[kind]):
        path = (tmp_path / str(number)).with_suffix(next(iter(kind.suffixes), ".csv"))
        path.write_text(text)
        check_replaceable_file(path, kind)


def test_what_is_written_today_is_replaced(tmp_path: Path):
    cell = ReviewCell(path="a.png", thumbnail="data:image/webp;base64,", probabilities=(0.9, 0.1))
    write_page([cell], tmp_path / "review.html", classes=("a", "b"))
    check_replaceable_file(tmp_path / "review.html", own_files.REVIEW_PAGE)
    write_json(tmp_path / "trial.json", Trial(model="nano", parts=(), facts={}).plain())
    check_replaceable_file(tmp_path / "trial.json", own_files.TRIAL)
    report: Any = dict.fromkeys(("num_cells", "num_groups", "num_without_group", "num_not_drawn", "num_trained_on"), 9)
    report |= {"dataset": "a", "model": "b", "classes": ("x", "y"), "group_rule": "", "positive": ()}
    write_leakage(
        LeakageReport(**report, sensitivity=0.9, classes_and_groups=(), by_features=()), tmp_path / "leakage.html"
    )
    check_replaceable_file(tmp_path / "leakage.html", own_files.LEAKAGE_PAGE)


@pytest.mark.parametrize("given", [None, [{"name": "area", "value": 1.5}]])
def test_geojson_of_predictions_is_replaced_whatever_form_its_measurements_have(given: Any, tmp_path: Path):
    feature = {"geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {"measurements": given}}
    cell = Classified(feature=feature, id="1", predicted="hsil", measurements={"cytolora p hsil": 0.9})
    write_geojson([cell], tmp_path / "out.geojson", ["hsil"])
    check_replaceable_file(tmp_path / "out.geojson", own_files.GEOJSON)


def test_a_log_of_which_an_older_part_was_cut_off_is_written_on(tmp_path: Path):
    (line,) = OF_BEFORE[own_files.REQUEST_LOG]
    (tmp_path / "log").write_text(line[40:] + line)
    check_replaceable_file(tmp_path / "log", own_files.REQUEST_LOG)


def test_every_option_of_a_file_that_is_replaced_refuses_files_of_others(theirs: list[Path]):
    found = {(command, option.name): option for command, option in options(app)}
    assert {key for key in found if key[1] == "--page"} <= OPTIONS.keys()
    for key, name in OPTIONS.items():
        for path in theirs:
            said = checks(found[key], path)
            if path.suffix == ".html" or name not in PAGES:
                assert f"is there and is no {name}; it would be lost. Choose another {key[1]}." in said
            else:
                assert f"{path} is a {name}; give it a name that ends in .html." in said


def test_a_command_ends_with_one_line_and_leaves_the_file(theirs: list[Path], capsys: pytest.CaptureFixture[str]):
    path = next(one for one in theirs if one.name == "page.html")
    before = path.read_bytes()
    with pytest.raises(SystemExit, match="2"):
        main(["check", str(path.parent), "--page", str(path)])
    said = capsys.readouterr().err
    assert "is no page of `cytolora check`; it would be lost. Choose another --page." in said
    assert said.count("\n") == 1
    assert path.read_bytes() == before


TOGETHER = {
    "compare": (own_files.COMPARISON, {"by": "model", "metric": "accuracy", "pairs": [], "notes": []}),
    "ensemble": (own_files.ENSEMBLES, {"weighting": "equal", "ensembles": [], "weights": [], "notes": []}),
    "learning-curve": (own_files.LEARNING_CURVE, {"target": 0.8, "points": []}),
}


@pytest.mark.parametrize("command", TOGETHER)
def test_files_of_fixed_names_in_a_shared_folder_are_not_replaced_unless_the_command_wrote_them(
    command: str, tmp_path: Path
):
    files, described = TOGETHER[command]
    option = next(one for name, one in options(app) if (name, one.name) == (command, "--out"))
    for name in files.others:
        (tmp_path / "notes.txt").write_text("stays")
        (tmp_path / name).write_text("path,label\n")
        said = checks(option, tmp_path)
        assert f"{name} is there and of no {files.kind.name}" in said
        assert "it would be lost. Choose another --out." in said
        (tmp_path / name).unlink()
    (tmp_path / files.others[0]).write_text("ours")
    (tmp_path / files.description).write_text(json.dumps(described))
    assert not checks(option, tmp_path)
    check_together(tmp_path, files)
    (tmp_path / files.description).write_text("[]")
    assert f"is there and is no {files.kind.name}" in checks(option, tmp_path)
