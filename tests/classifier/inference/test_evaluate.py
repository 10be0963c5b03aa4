import json
import shutil

import pytest
from PIL import Image
from quick_fit import quick_fit

from cytolora import Classifier, load_dataset
from cytolora.classifier.bundle.files import SEEN
from cytolora.classifier.inference.evaluate import evaluate, only
from cytolora.cli.app import main
from cytolora.config.run import SplitSpec
from cytolora.data.splitting.splits import assign_subsets
from cytolora.errors import DataError


def test_the_images_that_were_not_seen_give_the_numbers_of_the_page(fitted, lab_cells):
    bundle = Classifier.load(fitted)
    found = evaluate(bundle, load_dataset(lab_cells), on_seen="drop")
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "n"):
        assert found.metrics[name] == bundle.contents.metrics["test"][name]
    assert (
        found.metrics["prediction_sets"]["coverage"] == bundle.contents.metrics["test"]["prediction_sets"]["coverage"]
    )
    assert sum(found.seen.values()) + found.metrics["n"] == found.num_images


def test_images_that_were_trained_on_are_refused_whatever_they_are_called(fitted, lab_cells, tmp_path):
    copied = tmp_path / "copied"
    seen = load_dataset(lab_cells).samples
    for number, sample in enumerate(seen):
        target = copied / sample.label / f"{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(lab_cells / sample.path, target)
    bundle, manifest = Classifier.load(fitted), load_dataset(copied)
    with pytest.raises(DataError, match=r"\d+ of 120 images of copied were in training or calibration"):
        evaluate(bundle, manifest)
    marked = evaluate(bundle, manifest, on_seen="mark")
    assert marked.metrics["n"] == 120
    assert "these numbers are too good" in marked.notes[-1]


def test_images_that_were_trained_on_are_refused_in_another_file_format(fitted, lab_cells, tmp_path):
    for sample in load_dataset(lab_cells).samples:
        target = tmp_path / "saved again" / sample.label / f"{sample.path.replace('/', '_')}.bmp"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(lab_cells / sample.path).save(target)
    bundle, manifest = Classifier.load(fitted), load_dataset(tmp_path / "saved again")
    with pytest.raises(DataError, match=r"\d+ of 120 images of saved again were in training or calibration"):
        evaluate(bundle, manifest)
    found = evaluate(bundle, manifest, on_seen="drop")
    assert found.metrics["n"] == bundle.contents.metrics["test"]["n"]


@pytest.mark.slow
def test_of_few_shots_the_images_left_over_in_their_groups_are_no_test(lab_cells, lab_cache, tmp_path):
    bundle = quick_fit(lab_cells, tmp_path / "model", model="nano", shots=2, max_steps=20, cache=lab_cache)
    found = evaluate(bundle, load_dataset(lab_cells), on_seen="drop")
    assert found.seen["train"] == 10
    assert found.seen["trained_groups"] > 0
    in_test = bundle.contents.training["groups"]["test"]
    assert found.metrics["num_groups"] <= in_test + bundle.contents.training["groups"]["train"]
    trained = {one.group for one in load_dataset(lab_cells).samples if one.sha256 in _hashes(bundle, "train")}
    left = {one.group for one in load_dataset(lab_cells).samples if one.sha256 in _hashes(bundle, "trained_groups")}
    assert left <= trained


@pytest.mark.slow
def test_images_left_out_for_having_two_labels_are_no_test_where_their_group_was_trained_on(lab_cells, tmp_path):
    cells = shutil.copytree(lab_cells, tmp_path / "cells")
    with (cells / "manifest.csv").open("a") as table:
        for group in sorted(cells.glob("slide_*"))[:6]:
            first = min(group.glob("*.png"))
            shutil.copy(first, group / "again.png")
            other = "hsil" if "hsil" not in first.name else "lsil"
            table.write(f"{group.name}/again.png,{other},{group.name}\n")
    bundle = quick_fit(cells, tmp_path / "model", model="nano", max_steps=2, cache=tmp_path / "cache")
    assert "12 images with equal pixels and different labels left out" in (tmp_path / "model" / "card.md").read_text()
    trained = {one.group for one in load_dataset(cells).samples if one.sha256 in _hashes(bundle, "train")}
    left = {one.group for one in load_dataset(cells).samples if one.sha256 in _hashes(bundle, "trained_groups")}
    assert left
    assert left <= trained | {
        one.group for one in load_dataset(cells).samples if one.sha256 in _hashes(bundle, "calibration")
    }


@pytest.mark.slow
def test_a_test_image_stays_one_though_a_copy_that_was_left_out_lies_in_a_trained_group(lab_cells, tmp_path):
    cells = shutil.copytree(lab_cells, tmp_path / "cells")
    rows = [(one.path, one.label, one.group or "") for one in load_dataset(cells).samples]
    copied = next(row for row in rows if row[2] == "slide_20")
    shutil.copy(cells / copied[0], cells / "slide_00" / "again.png")
    lines = [",".join((*row, _subset(row[2]))) for row in [*rows, ("slide_00/again.png", copied[1], "slide_00")]]
    (cells / "manifest.csv").write_text("\n".join(["path,label,group,subset", *lines]))
    bundle = quick_fit(cells, tmp_path / "model", model="nano", max_steps=2, cache=tmp_path / "cache")
    found = evaluate(bundle, only(load_dataset(cells), "test"), on_seen="drop")
    assert found.metrics["n"] == bundle.contents.metrics["test"]["n"]


def _subset(group: str) -> str:
    number = int(group.removeprefix("slide_"))
    return "train" if number < 12 else "val" if number < 18 else "test"


def _hashes(bundle: Classifier, name: str) -> set[str]:
    return set(json.loads(bundle.files[SEEN])[name])


def test_nothing_left_and_unknown_classes_are_refused(fitted, lab_cells):
    bundle = Classifier.load(fitted)
    manifest = assign_subsets(load_dataset(lab_cells), SplitSpec())
    with pytest.raises(DataError, match="none is left"):
        evaluate(bundle, only(manifest, "train"), on_seen="drop")
    with pytest.raises(DataError, match="has no images in val"):
        only(only(manifest, "train"), "val")


def test_more_images_than_a_page_holds_are_refused_before_the_first_is_looked_at(
    fitted, lab_cells, tmp_path, monkeypatch
):
    monkeypatch.setattr("cytolora.classifier.inference.table.MAX_CELLS", 3)
    looked_at: list[int] = []
    with pytest.raises(DataError, match="3 cells at most"):
        evaluate(
            Classifier.load(fitted),
            load_dataset(lab_cells),
            on_seen="mark",
            page=tmp_path / "page.html",
            on_images=looked_at.append,
        )
    assert sum(looked_at) == 0


def test_a_class_that_the_bundle_does_not_know_is_named(fitted, lab_cells, tmp_path):
    shutil.copytree(next(lab_cells.glob("slide_*")), tmp_path / "cells" / "scc")
    shutil.copytree(next(lab_cells.glob("slide_*")), tmp_path / "cells" / "hsil")
    with pytest.raises(DataError, match=r"has the class 'scc', and .* knows"):
        evaluate(Classifier.load(fitted), load_dataset(tmp_path / "cells", "folder"))


def test_damaged_images_are_left_out_and_counted(fitted, lab_cells, tmp_path):
    cells = shutil.copytree(lab_cells, tmp_path / "cells")
    for path in sorted(cells.rglob("*.png"))[:3]:
        path.write_bytes(b"no image")
    found = evaluate(Classifier.load(fitted), load_dataset(cells), on_seen="drop")
    assert len(found.errors) == 3
    assert "3 images cannot be read and are left out" in found.notes[-1]


def test_json_is_one_document_and_nothing_else(fitted, lab_cells, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["evaluate", str(fitted), str(lab_cells), "--seen", "drop", "--json", "--quiet"])
    assert exit_.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["prediction_sets"]["nominal"] == 0.9
    assert found["metrics"]["referral"]["curve"]["area"] >= 0


def test_the_table_names_coverage_and_referral(fitted, lab_cells, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", str(fitted), str(lab_cells), "--seen", "drop", "--quiet"])
    text = capsys.readouterr().out
    assert "Prediction sets at 90 %" in text
    assert "Referred to a person" in text
    assert "Operating point (hsil" in text
