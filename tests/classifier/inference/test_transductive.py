import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from prediction_files import rows_of
from quick_fit import quick_fit
from sklearn.linear_model import LogisticRegression
from small_bundle import CLASSES, rewrite, write_small_bundle

import cytolora
from cytolora.classifier.bundle.files import ANCHORS, CONTENTS, read_bundle, write_bundle
from cytolora.classifier.bundle.pack import head_file
from cytolora.classifier.decision import ood
from cytolora.classifier.decision.decide import Prediction, Transductive, transductive_columns
from cytolora.classifier.decision.transduction import from_bytes, make_anchors, to_bytes
from cytolora.classifier.inference.classifier import Classifier
from cytolora.classifier.inference.transductive import by_folder
from cytolora.cli.app import main
from cytolora.data.synthetic.dataset import CLASSES as SYNTHETIC
from cytolora.data.synthetic.dataset import DrawnCells, draw_cells, write_synthetic

EXTRA = transductive_columns(CLASSES)
DRAWN = {"koilocytic": "ascus", "hsil": "hsil", "lsil": "lsil", "normal": "nilm"}
"""Class of the bundle by class of the drawn cells."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a head and anchors of 300 drawn training cells, and 30 slides held out. Read only."""
    folder = tmp_path_factory.mktemp("transductive") / "model"
    plain = Classifier.load(write_small_bundle(folder))
    train, held_out = ((cells, _labels(cells)) for cells in (draw_cells(n, n, num_slides=30) for n in (300, 600)))
    features, others = (plain.features(cells.images[known >= 0]) for cells, known in (train, held_out))
    labels, held_out_labels = (known[known >= 0] for _, known in (train, held_out))
    head = LogisticRegression(max_iter=500).fit(features, labels)
    anchors = make_anchors(
        features,
        labels,
        len(CLASSES),
        held_out_features=others,
        held_out_logits=head.decision_function(others).astype(np.float32),
        held_out_labels=held_out_labels,
        held_out_groups=[str(slide) for slide in held_out[0].slides[held_out[1] >= 0]],
    )
    assert anchors is not None
    contents, files = read_bundle(folder)
    weights = {"head.weight": head.coef_, "head.bias": head.intercept_}
    files |= head_file({name: torch.tensor(value, dtype=torch.float32).contiguous() for name, value in weights.items()})
    write_bundle(folder, replace(contents, temperature=1.0), {**files, ANCHORS: to_bytes(anchors)}, "A card.\n")
    return folder


def _labels(cells: DrawnCells) -> np.ndarray:
    named = [DRAWN.get(SYNTHETIC[label], "") for label in cells.labels]
    return np.array([CLASSES.index(name) if name else -1 for name in named])


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two slides of 48 drawn cells, an equal share of each class; read only."""
    folder = tmp_path_factory.mktemp("slides") / "new"
    write_synthetic(folder, num_images=120, num_slides=2, seed=9)
    for path in [*folder.rglob("*_glandular.png"), *folder.glob("*.json"), *folder.glob("*.csv")]:
        path.unlink()
    return folder


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments), "--quiet"])
    return int(ended.value.code or 0)


def test_the_answer_of_the_slide_stands_beside_the_one_of_each_image(model, slides, tmp_path):
    assert run("predict", model, slides, "--out", tmp_path / "plain.csv") == 0
    assert run("predict", model, slides, "--transductive", "--slide-by", "folder", "--out", tmp_path / "both.csv") == 0
    plain, both = rows_of(tmp_path / "plain.csv"), rows_of(tmp_path / "both.csv")
    assert [{name: row[name] for name in plain[0]} for row in both] == plain
    assert list(both[0]) == [*plain[0], *EXTRA]
    assert {row["transductive applied"] for row in both} == {"true"}
    changed = sum(row["predicted"] != row["transductive predicted"] for row in both)
    assert changed < 40
    moved = [abs(float(row[name]) - float(row[f"transductive p {name}"])) for row in both for name in CLASSES]
    assert max(moved) > 0.01
    for row in both:
        by_class = {name: float(row[f"transductive p {name}"]) for name in CLASSES}
        assert sum(by_class.values()) == pytest.approx(1)
        assert row["transductive predicted"] == max(by_class, key=lambda name: by_class[name])
    truth = [DRAWN[Path(row["path"]).stem.split("_")[1]] for row in both]
    sets = [row["transductive prediction_set"].split("|") for row in both]
    assert np.mean([label in labels for label, labels in zip(truth, sets, strict=True)]) >= 0.9


@pytest.mark.slow
def test_parquet_and_python_hold_what_csv_does(model, slides, tmp_path):
    for name in ("a.csv", "a.parquet"):
        assert run("predict", model, slides, "--transductive", "--out", tmp_path / name) == 0
    table, rows = pq.read_table(tmp_path / "a.parquet").to_pylist(), rows_of(tmp_path / "a.csv")
    assert list(table[0]) == list(rows[0])
    assert [row["transductive p hsil"] for row in table] == [float(row["transductive p hsil"]) for row in rows]
    assert {row["transductive applied"] for row in table} == {True}


def test_a_slide_of_one_class_keeps_its_answer_and_a_finding_says_so(model, slides, tmp_path, capsys):
    cells = sorted(slides.rglob("*_normal.png"))
    out = tmp_path / "one.csv"
    assert run("predict", model, *cells, "--transductive", "--out", out, "--json") == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [one["code"] for one in found] == ["S712"]
    assert "is shown to be present" in found[0]["text"]
    for row in rows_of(out):
        assert row["transductive applied"] == "false"
        assert row["transductive predicted"] == row["predicted"]
        assert row["transductive p hsil"] == row["hsil"]


def test_an_unreadable_image_has_no_transductive_answer(model, slides, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    cells = sorted(slides.rglob("*.png"))[:40]
    assert run("predict", model, *cells[:20], tmp_path / "bad.png", *cells[20:], "--transductive", "--out",
               tmp_path / "out.csv") == 0  # fmt: skip
    rows = rows_of(tmp_path / "out.csv")
    assert [bool(row["error"]) for row in rows] == [number == 20 for number in range(41)]
    assert [not row["transductive predicted"] for row in rows] == [number == 20 for number in range(41)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ONE", "--transductive"], "got 1 cell"),
        (["SLIDES", "--slide-by", "folder"], "--slide-by says which images"),
        (["OLD", "--transductive"], "Fit it again"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(model, slides, tmp_path, capsys, arguments, message):
    one = next(slides.rglob("*.png"))
    bundle = write_small_bundle(tmp_path / "old") if "OLD" in arguments else model
    named = {"ONE": one, "SLIDES": slides, "OLD": slides}
    given = [named.get(argument, argument) for argument in arguments]
    assert run("predict", bundle, *given, "--out", tmp_path / "out.csv") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.csv").exists()


def with_table(slides: Path, folder: Path, column: str = "slide", suffix: str = "") -> Path:
    """A flat folder of all cells, and a table that says which slide each is of."""
    folder.mkdir(parents=True)
    lines = [f"path,{column}"]
    for path in sorted(slides.rglob("*.png")):
        name = f"{path.parent.name}_{path.name}"
        (folder / name).write_bytes(path.read_bytes())
        lines.append(f"{name},{path.parent.name}{suffix}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("column", ["slide", "group", "Specimen No", "präparat"])
def test_each_slide_of_a_table_is_a_mixture_of_its_own(model, slides, tmp_path, capsys, column):
    """The answers are those of the same cells in folders, and not those of all cells as one slide."""
    flat = with_table(slides, tmp_path / "flat", column)
    ways = {"table": ["--slide", column], "one": []}
    found = {}
    for name, options in ways.items():
        assert run("predict", model, flat, "--transductive", *options, "--out", tmp_path / f"{name}.csv") == 0
        assert ("F211" in capsys.readouterr().err) == (name == "one")  # the table is a file that was not read
        found[name] = {Path(row["path"]).name: row for row in rows_of(tmp_path / f"{name}.csv")}
    out = tmp_path / "folders.csv"
    assert run("predict", model, slides, "--transductive", "--slide-by", "folder", "--out", out) == 0
    folders = {f"{Path(row['path']).parent.name}_{Path(row['path']).name}": row for row in rows_of(out)}
    assert found["table"].keys() == folders.keys()
    for name, row in folders.items():
        assert [found["table"][name][extra] for extra in EXTRA] == [row[extra] for extra in EXTRA]
    differs = [any(found["one"][name][extra] != row[extra] for extra in EXTRA) for name, row in folders.items()]
    assert any(differs)


def test_two_tables_with_slides_of_one_name_have_two_slides_each(model, slides, tmp_path, capsys):
    """A slide that keeps its answer is named by its table: of four slides, two have normal cells alone."""
    first, second = (with_table(slides, tmp_path / name) for name in ("a", "b"))
    for path in [*second.glob("*.png")]:
        if "_normal" not in path.name:
            path.unlink()
    out = tmp_path / "out.csv"
    assert run("predict", model, first, second, "--transductive", "--slide", "slide", "--out", out, "--json") == 0
    (found,) = [one for one in json.loads(capsys.readouterr().out)["findings"] if one["code"] == "S712"]
    assert found["text"].startswith("2 slides of 4 not classified")
    assert all(one.startswith(f"{second}: slide_") for one in found["examples"])
    applied = {row["path"]: row["transductive applied"] for row in rows_of(out)}
    assert {applied[path] == "true" for path in applied if path.startswith(str(first))} == {True}
    assert {applied[path] == "false" for path in applied if path.startswith(str(second))} == {True}


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda text: text, ["--slide", "slide"], "--slide says which images are one slide for --transductive"),
        (lambda text: text, ["--transductive", "--slide", "slide", "--slide-by", "folder"], "give it alone"),
        (lambda text: text, ["--transductive", "--slide", "slides"], "Did you mean 'slide'? Known: path, slide."),
        (lambda text: "", ["--transductive", "--slide", "slide"], "and there is none in"),
        (lambda text: text.rpartition("\n")[0].rpartition("\n")[0], ["--transductive", "--slide", "slide"],
         "1 image has no slide in manifest.csv, the first is"),
        (lambda text: text.replace(",slide_00", ","), ["--transductive", "--slide", "slide"], "images have no slide"),
        (lambda text: text + text.splitlines()[1] + "0\n", ["--transductive", "--slide", "slide"], "keep one"),
        (lambda text: text.replace("path,", "file,"), ["--transductive", "--slide", "slide"], "path"),
        (lambda text: text.splitlines()[0] + "\n", ["--transductive", "--slide", "slide"], "a header and no rows"),
    ],
)  # fmt: skip
def test_a_table_that_does_not_say_the_slide_is_one_line_and_exit_code_2(
    model, slides, tmp_path, capsys, change, options, message
):
    flat = with_table(slides, tmp_path / "flat")
    table = flat / "manifest.csv"
    text = change(table.read_text())
    table.write_text(text) if text else table.unlink()
    assert run("predict", model, flat, *options, "--out", tmp_path / "out.csv") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.slow
def test_without_the_option_nothing_of_it_is_loaded(model, slides, tmp_path):
    import subprocess
    import sys

    arguments = ["predict", str(model), str(next(slides.rglob("*.png"))), "--out", str(tmp_path / "out.csv")]
    code = (
        f"import sys\nfrom cytolora.cli.app import main\ntry:\n    main({arguments!r})\nexcept SystemExit:\n"
        "    print([name for name in sys.modules if 'transducti' in name])\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.slow
def test_a_class_too_rare_for_the_bank_has_anchors_all_the_same(drawn_cells, tmp_path, monkeypatch):
    """The bank keeps training images by their hash alone: of many thousands perhaps none of a rare class."""
    monkeypatch.setattr(ood, "MAX_BANK", 2)
    quick_fit(drawn_cells, tmp_path / "m", model="nano", learning_rates=0.01, max_steps=5, cache=tmp_path / "cache")
    classifier = Classifier.load(tmp_path / "m")
    bank, content = classifier.read_bank(), classifier.anchors_file()
    assert bank is not None
    assert len(bank) == 2 < len(classifier.classes)
    assert content is not None
    held_out = from_bytes(content).held_out
    assert set(held_out.labels.tolist()) == set(range(len(classifier.classes)))
    assert np.isfinite(from_bytes(content).space.means).all()


def test_anchors_are_part_of_the_bundle_and_refused_where_they_do_not_fit(model, tmp_path):
    import shutil
    from hashlib import sha256

    from safetensors.numpy import load, save

    arrays = load((model / ANCHORS).read_bytes())
    changes = {
        "classes": {"means": arrays["means"][:-1]},
        "width": {"axes": arrays["axes"][:-1], "centre": arrays["centre"][:-1]},
        "labels": {"held_out.labels": arrays["held_out.labels"] + 4},
        "numbers": {"held_out.points": arrays["held_out.points"] * np.nan},
        "types": {"means": arrays["means"].astype(np.float32)},
        "rows": {"held_out.groups": arrays["held_out.groups"][1:]},
        "names": {"more": arrays["means"]},
    }
    for name, change in changes.items():
        copied = tmp_path / name
        shutil.copytree(model, copied)
        content = save({**arrays, **change})
        (copied / ANCHORS).write_bytes(content)
        digest = sha256(content).hexdigest()
        rewrite(copied, lambda plain, digest=digest: plain["files"].update({ANCHORS: digest}), CONTENTS)
        with pytest.raises(cytolora.CytoloraError, match=ANCHORS):
            cytolora.load(copied)


def test_classes_named_like_the_new_columns_keep_theirs():
    classes = ("predicted", "p hsil", "transductive predicted", "hsil")
    one = Transductive(predicted="hsil", probabilities=(0.1, 0.2, 0.3, 0.4), prediction_set=("hsil",), is_applied=True)
    row = replace(Prediction(name="a", probabilities=(0.25,) * 4), transductive=one).row(
        classes, with_transductive=True
    )
    assert Counter(row.values())["hsil"] == 2
    assert sorted(value for value in row.values() if isinstance(value, float)) == [0.1, 0.2, *[0.25] * 4, 0.3, 0.4]


def test_a_folder_is_a_slide_inside_a_zip_file_too():
    assert by_folder("more.zip/slide_3/a.png") == "more.zip/slide_3"
