"""New cells that were labelled on the review page join the training images, and nothing else."""

import csv
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from class_folders import same_files, write_classes
from PIL import Image
from quick_fit import quick_fit

import cytolora
from cytolora.classifier.fit.added import group_rule_of, without_contradicted
from cytolora.classifier.fit.prepare import Cells, read_cells, summary
from cytolora.classifier.inference.evaluate import evaluate
from cytolora.cli.app import main
from cytolora.data.datasets import DATASETS
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.quality.scan import ImageRecord, Records
from cytolora.errors import ConfigError, DataError


def write_new(folder: Path, names: Iterable[str], seed: int = 100) -> Path:
    """Cells that nobody has labelled, as a scanner leaves them."""
    random = np.random.default_rng(seed)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(folder / name)
    return folder


def save(labels: Mapping[str, str], path: Path = Path("corrections.csv")) -> Path:
    """The table in the very bytes of the review page: sorted by path, quoted where needed."""
    quoted = {name: f'"{name}"' if "," in name else name for name in labels}
    path.write_text("path,label\n" + "".join(f"{quoted[name]},{labels[name]}\n" for name in sorted(labels)))
    return path


def added(cells: Cells) -> dict[str, str]:
    assert {one.subset for one in cells.manifest.samples if one.elsewhere} <= {"train"}
    return {one.path: one.label for one in cells.manifest.samples if one.elsewhere}


def own(manifest: Manifest) -> list[Any]:
    return [one for one in manifest.samples if one.elsewhere is None]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with ``my_cells`` of two classes, groups unknown, and ``new_cells`` without labels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_classes(Path("my_cells"), a=12, b=12)
    write_new(Path("new_cells"), ["000.png", "001.png", "slide_1/a, b.png", "slide_2/000.png"])
    return tmp_path


def grouped(folder: Path, count: int = 24) -> Path:
    """Class folders with a table: every two images are of one slide."""
    write_classes(folder, a=count // 2, b=count // 2)
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    lines = [f"{path},{path[0]},s{number // 2}" for number, path in enumerate(paths)]
    (folder / "manifest.csv").write_text("path,label,group\n" + "\n".join(lines) + "\n")
    return folder


def test_labelled_new_cells_are_trained_on_and_the_others_are_left_out_and_counted(here: Path):
    save({"new_cells/000.png": "a", "new_cells/slide_1/a, b.png": "b"})
    cells = read_cells(Path("my_cells"), labels=Path("corrections.csv"), add="new_cells")
    assert added(cells) == {"~new_cells/000.png": "a", "~new_cells/slide_1/a, b.png": "b"}
    assert cells.num_added == 2
    text = " ".join(summary(cells))
    assert "2 of the 4 images of new_cells are trained on, and used for nothing else" in text
    assert "2 that corrections.csv does not label were left out" in text
    assert "26 images (2 of them added)" in text
    assert "2 added images in train only" in cells.manifest.split_rule


def test_the_datasets_own_images_are_divided_as_without_new_ones(here: Path):
    save({"new_cells/000.png": "a", "new_cells/001.png": "b"})
    before = read_cells(Path("my_cells")).manifest
    after = read_cells(Path("my_cells"), labels=Path("corrections.csv"), add=["new_cells"]).manifest
    assert own(after) == own(before)
    assert [one.subset for one in own(after)] == [one.subset for one in own(before)]
    assert after.fingerprint != before.fingerprint


def test_a_table_may_name_old_and_new_cells_at_once_and_equal_names_are_told_apart(here: Path):
    write_new(Path("new_cells"), ["a/000.png"], seed=7)
    save({"my_cells/a/000.png": "b", "new_cells/a/000.png": "a"})
    cells = read_cells(Path("my_cells"), labels=Path("corrections.csv"), add="new_cells")
    labels = {one.path: one.label for one in cells.manifest.samples}
    assert (labels["a/000.png"], labels["~new_cells/a/000.png"]) == ("b", "a")
    assert (cells.num_corrected, cells.num_added) == (1, 1)
    save({"a/000.png": "b"})
    with pytest.raises(DataError, match=r"a/000\.png may be my_cells/a/000\.png or new_cells/a/000\.png; write which"):
        read_cells(Path("my_cells"), labels=Path("corrections.csv"), add="new_cells")


@pytest.mark.parametrize("name", ["slide_2/000.png", "{here}/new_cells/slide_2/000.png", "new_cells/slide_2/000.png"])
def test_a_new_cell_is_named_from_its_folder_from_here_or_in_full(here: Path, name: str):
    save({name.format(here=here): "a"})
    cells = read_cells(Path("my_cells"), labels=Path("corrections.csv"), add=here / "new_cells")
    assert added(cells) == {"~new_cells/slide_2/000.png": "a"}  # no path of this machine: it is in the fingerprint


def test_several_folders_and_zip_files_are_added_each_under_its_own_name(here: Path):
    write_new(Path("monday/cells"), ["1.png"], seed=1)
    write_new(Path("friday/cells"), ["1.png"], seed=2)
    shutil.make_archive("new", "zip", "new_cells")
    save({"monday/cells/1.png": "a", "friday/cells/1.png": "b", "new.zip/slide_2/000.png": "a"})
    cells = read_cells(
        Path("my_cells"), labels=Path("corrections.csv"), add=["monday/cells", "friday/cells", "new.zip"]
    )
    assert sorted(label for label in added(cells).values()) == ["a", "a", "b"]
    assert {"~monday/cells/1.png", "~friday/cells/1.png"} <= added(cells).keys()


def test_a_folder_inside_another_and_the_dataset_itself_are_counted_once(here: Path):
    save({"new_cells/slide_1/a, b.png": "a", "my_cells/a/000.png": "a"})
    cells = read_cells(
        Path("my_cells"), labels=Path("corrections.csv"), add=["new_cells", "new_cells/slide_1", "my_cells"]
    )
    assert cells.num_added == 1
    assert "1 of the 4 images of" in cells.notes[0]


def test_an_image_that_is_nowhere_is_refused_with_the_folder_to_add(here: Path):
    save({"new_cells/slide_1/a, b.png": "a"})
    with pytest.raises(DataError, match=r"is no image of my_cells \(my_cells\)\. .* --add new_cells\.$"):
        read_cells(Path("my_cells"), labels=Path("corrections.csv"))
    save({str(here / "new_cells/000.png"): "a"})
    with pytest.raises(DataError, match=rf"--add {here}/new_cells\.$"):
        read_cells(Path("my_cells"), labels=Path("corrections.csv"))
    save({"new_cells/000.png": "a", "cell-69": "a"})  # of the page of a slide: no file at all
    with pytest.raises(DataError, match=r"line 2: cell-69 is no image of my_cells \(my_cells\), nor of new_cells"):
        read_cells(Path("my_cells"), labels=Path("corrections.csv"), add="new_cells")


@pytest.mark.parametrize(
    ("labels", "add", "words"),
    [
        ({"new_cells/000.png": "c"}, "new_cells", "'c' is no class of my_cells, which has a, b. Added cells are only"),
        ({"my_cells/a/000.png": "b"}, "new_cells", "labels no image of new_cells; expected some"),
        ({"my_cells/a/000.png": "b"}, "newcells", "--add newcells does not exist; expected a folder or zip file"),
        ({"my_cells/a/000.png": "b"}, "new_cells/000.png", "is no folder or zip file"),
        ({"new_cells/000.png": "a", "000.png": "a"}, "new_cells", "is listed twice"),
        (None, "new_cells", "needs the labels of its cells: --labels"),
    ],
)
def test_what_cannot_be_added_is_refused_in_one_line(here: Path, capsys, labels: Any, add: str, words: str):
    given = ["--labels", str(save(labels))] if labels else []
    with pytest.raises(SystemExit) as ended:
        main(["fit", "my_cells", "--out", "model", "--model", "nano", *given, "--add", add, "--quiet"])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err.replace(str(here) + "/", "")
    assert not Path("model").exists()


def test_a_copy_of_an_own_cell_is_left_out_and_the_own_cell_stays_where_it_was(here: Path):
    before = read_cells(Path("my_cells")).manifest
    test = before.subset("test")[0]
    shutil.copy(Path("my_cells") / test.path, "new_cells/copy.png")
    shutil.copy("new_cells/000.png", "new_cells/again.png")
    save({"new_cells/copy.png": test.label, "new_cells/000.png": "a", "new_cells/again.png": "a"})
    cells = read_cells(Path("my_cells"), labels=Path("corrections.csv"), add="new_cells")
    assert own(cells.manifest) == own(before)
    assert len(added(cells)) == 1
    assert "2 copies of images that stay left out: ~new_cells/" in " ".join(cells.notes)


def test_one_image_with_two_labels_is_refused_and_both_are_named(here: Path):
    shutil.copy("my_cells/a/003.png", "new_cells/copy.png")
    save({"new_cells/copy.png": "b"})
    with pytest.raises(DataError, match=r"~new_cells/copy\.png is labelled 'b' .* as a/003\.png, which is 'a'"):
        read_cells(Path("my_cells"), labels=Path("corrections.csv"), add="new_cells")
    save({"new_cells/copy.png": "b", "my_cells/a/003.png": "b"})  # both corrected: now they agree
    assert read_cells(Path("my_cells"), labels=Path("corrections.csv"), add="new_cells").num_added == 0
    shutil.copy("new_cells/000.png", "new_cells/again.png")
    save({"new_cells/000.png": "a", "new_cells/again.png": "b"})
    with pytest.raises(DataError, match="has the same pixels"):
        read_cells(Path("my_cells"), labels=Path("corrections.csv"), add="new_cells")


def test_a_new_cell_that_cannot_be_read_is_left_out_and_named(here: Path):
    Path("new_cells/000.png").write_bytes(b"no image")
    save({"new_cells/000.png": "a", "new_cells/001.png": "b"})
    cells = read_cells(Path("my_cells"), labels=Path("corrections.csv"), add="new_cells")
    assert set(added(cells)) == {"~new_cells/001.png"}
    assert "1 unreadable file left out: ~new_cells/000.png" in " ".join(cells.notes)


def test_a_new_cell_of_a_group_in_calibration_or_test_is_never_trained_on(here: Path):
    cells = read_cells(grouped(Path("slides")))
    homes = {one.group: one.subset for one in cells.manifest.samples}
    chosen = {part: next(group for group, home in homes.items() if home == part) for part in ("train", "val", "test")}
    names = {f"{part}.png": group for part, group in chosen.items()} | {"unknown.png": ""}
    write_new(Path("more"), names)
    table = "".join(f"{name},{group}\n" for name, group in names.items())
    Path("more/manifest.csv").write_text("path,group\n" + table)
    save({f"more/{name}": "a" for name in names})
    cells = read_cells(Path("slides"), labels=Path("corrections.csv"), add="more")
    assert {one.path: one.group for one in cells.manifest.samples if one.elsewhere} == {
        "~more/train.png": chosen["train"],
        "~more/unknown.png": None,
    }
    text = " ".join(cells.notes)
    shown = ", ".join(sorted(str(chosen[part]) for part in ("val", "test")))
    assert f"2 added images left out, for calibration or test has images of the same group: {shown}." in text
    assert "Cannot be verified: whether the 1 added images of unknown group come from a patient" in text


def test_published_datasets_give_new_cells_groups_by_their_names(here: Path):
    spec = DATASETS.get("herlev")
    sample = cytolora.load_dataset(Path("my_cells")).samples
    known = Manifest(name="herlev", root=here, classes=("a", "b"), samples=sample, group_rule=spec.group_rule)
    assert group_rule_of(known) is spec.group_of
    assert group_rule_of(Manifest(name="herlev", root=here, classes=("a", "b"), samples=sample)) is None


@pytest.mark.slow
def test_chosen_cells_decide_no_rate_temperature_or_prediction_set(here: Path):
    """Cells with random labels: scored, they would drag the accuracy of every fold down."""
    write_new(Path("new_cells"), [f"{number}.png" for number in range(60)])
    save({f"new_cells/{number}.png": "ab"[number % 2] for number in range(60)})
    options: dict[str, Any] = {"model": "nano", "max_steps": 30, "cache": here / "cache"}
    plain = quick_fit("my_cells", "model1", **options)
    bundle = quick_fit("my_cells", "model2", labels=Path("corrections.csv"), add="new_cells", **options)
    for one in (plain, bundle):
        own_train = one.contents.training["images"]["train"] - one.contents.training["num_added_images"]
        assert own_train == plain.contents.training["images"]["train"]
        assert f"over {own_train} images of the training images" in one.contents.training["chosen_on"]
        assert max(tried["accuracy"] for tried in one.contents.training["tried"]) == 1
        assert one.contents.conformal is not None
        assert one.contents.conformal.is_folded
    assert bundle.contents.training["num_added_images"] == 60
    sets = [one.contents.conformal.num_groups for one in (plain, bundle) if one.contents.conformal]
    assert sets[0] == sets[1]
    assert bundle.contents.metrics["test"]["n"] == plain.contents.metrics["test"]["n"]


@pytest.mark.parametrize("method", ["linear", pytest.param("lora", marks=pytest.mark.slow)])
def test_a_fit_with_new_cells_says_so_everywhere_and_gives_the_same_bytes_again(here: Path, method: str):
    save({"new_cells/000.png": "a", "new_cells/001.png": "b"})
    command = [
        "fit",
        "my_cells",
        "--model",
        "nano",
        "--method",
        method,
        "--learning-rates",
        "0.001",
        "--steps",
        "3",
        "--quiet",
    ]
    for out in ("model1", "model2"):
        with pytest.raises(SystemExit) as ended:
            main(
                [*command, "--out", out, "--cache", f"{out}.cache", "--labels", "corrections.csv", "--add", "new_cells"]
            )
        assert ended.value.code == 0
    assert same_files(Path("model1"), Path("model2"))
    said = "2 of the 4 images of new_cells are trained on, and used for nothing else"
    for name in ("card.md", "report.html"):
        assert said in Path("model1", name).read_text()
        assert str(here) not in Path("model1", name).read_text()
    bundle = cytolora.Classifier.load("model1")
    assert bundle.contents.training["num_added_images"] == 2
    seen = json.loads(Path("model1/seen.json").read_text())
    assert len(seen["train"]) == bundle.contents.training["images"]["train"]


def test_an_evaluation_knows_the_new_cells_and_their_sisters_again(here: Path):
    save({"new_cells/000.png": "a", "new_cells/001.png": "b"})
    Path("new_cells/manifest.csv").write_text("path,label,group\n000.png,a,x\n001.png,b,y\nslide_2/000.png,a,x\n")
    options: dict[str, Any] = {"model": "nano", "max_steps": 3, "cache": here / "cache"}
    bundle = quick_fit("my_cells", "model", labels=Path("corrections.csv"), add="new_cells", **options)
    found = evaluate(bundle, cytolora.load_dataset(Path("new_cells")), on_seen="mark")
    assert found.seen == {"train": 2, "calibration": 0, "trained_groups": 1}


@pytest.mark.slow
def test_with_few_shots_new_cells_are_drawn_like_any_other(here: Path):
    save({"new_cells/000.png": "a", "new_cells/001.png": "b"})
    asked: dict[str, Any] = {"model": "nano", "shots": 2, "max_steps": 3, "cache": here / "cache"}
    bundle = quick_fit("my_cells", "model", labels=Path("corrections.csv"), add="new_cells", **asked)
    assert bundle.contents.training["images"]["train"] == 4


@pytest.mark.slow
def test_what_predict_writes_on_its_page_is_what_fit_reads(here: Path):
    """The round of a laboratory: predict, label, fit again; names come from the page itself."""
    options = ["--model", "nano", "--steps", "3", "--quiet", "--cache", "cache"]
    for command in (
        ["fit", "my_cells", "--out", "model1", *options],
        ["predict", "model1", "new_cells", "--out", "new.csv", "--page", "review.html", "--quiet"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 0
    names = [row["path"] for row in csv.DictReader(Path("new.csv").read_text().splitlines())]
    assert all(json.dumps(name) in Path("review.html").read_text() for name in names)
    save(dict.fromkeys(names[:3], "a"))
    with pytest.raises(SystemExit) as ended:
        main(["fit", "my_cells", "--out", "model2", *options, "--labels", "corrections.csv", "--add", "new_cells"])
    assert ended.value.code == 0
    assert cytolora.Classifier.load("model2").contents.training["num_added_images"] == 3


def test_nothing_to_add_needs_no_table(here: Path):
    with pytest.raises(ConfigError, match="needs the labels"):
        read_cells(Path("my_cells"), add="new_cells")
    assert read_cells(Path("my_cells"), add=()).num_added == 0


@pytest.mark.parametrize(
    "name", ["./a/000.png", "a\\000.png", "A/000.PNG", "my_cells\\a\\000.png", "my_cells/a/000.PNG", " a/000.png\u200b"]
)
def test_a_correction_finds_its_image_by_paths_of_other_systems(here: Path, name: str):
    Path("corrections.csv").write_text(f"path;label\n{name};b\u00a0\n", encoding="utf-16")
    cells = read_cells(Path("my_cells"), labels=Path("corrections.csv"))
    assert cells.num_corrected == 1
    assert {one.path: one.label for one in cells.manifest.samples}["a/000.png"] == "b"


def test_an_image_that_two_lines_name_in_two_ways_is_listed_twice(here: Path):
    Path("corrections.csv").write_text("path,label\na/000.png,b\n.\\A\\000.png,a\n")
    with pytest.raises(DataError, match=r"line 3: .* is listed twice"):
        read_cells(Path("my_cells"), labels=Path("corrections.csv"))


@pytest.mark.parametrize(("known", "written"), [("007", "7"), ("P-1", "p1"), ("slide 3", "slide_3"), ("7", "7.0")])
def test_a_new_cell_of_a_test_group_is_left_out_however_its_group_is_written(here: Path, known: str, written: str):
    folder = grouped(Path("slides"))
    table = (folder / "manifest.csv").read_text()
    test_group = next(one.group for one in read_cells(folder).manifest.samples if one.subset == "test")
    (folder / "manifest.csv").write_text(table.replace(f",{test_group}\n", f",{known}\n"))
    home = {one.group: one.subset for one in read_cells(folder).manifest.samples}
    write_new(Path("more"), {"x.png": written})
    Path("more/manifest.csv").write_text(f"path,group\n./X.png,{written}\n")
    save({"more/x.png": "a"})
    cells = read_cells(folder, labels=Path("corrections.csv"), add="more")
    joined = [one.group for one in cells.manifest.samples if one.elsewhere]
    assert joined == ([known] if home[known] == "train" else [])


def test_groups_of_new_cells_in_a_column_of_another_name_are_refused_or_taken(here: Path):
    Path("new_cells/manifest.csv").write_text("path,patient_id\n000.png,P1\n")
    save({"new_cells/000.png": "a"})
    with pytest.raises(DataError, match="found column 'patient_id', expected 'group'"):
        read_cells(Path("my_cells"), labels=Path("corrections.csv"), add="new_cells")


def test_a_cell_that_readers_left_undecided_yields_to_its_copy_with_an_agreed_label(tmp_path: Path):
    def sample(path: str, label: str, **more: Any) -> Sample:
        return Sample(path=path, label=label, **more)

    shares = (("asc", 0.5), ("hsil", 0.5))
    undecided = [sample(name, "asc", shares=shares, is_added=True) for name in ("b.png", "c.png")]
    agreed = [sample("a.png", "hsil"), sample("d.png", "asc", shares=shares)]
    manifest = Manifest(name="cells", root=tmp_path, classes=("asc", "hsil"), samples=(*agreed, *undecided))
    pixels = {"a.png": "1", "b.png": "1", "c.png": "2", "d.png": "3"}
    records: Records = {
        path: ImageRecord(
            sha256=path, pixel_sha256=content, signature=np.ones(32, np.uint64), size=(8, 8), conversion=""
        )
        for path, content in pixels.items()
    }
    left = without_contradicted(manifest, records)
    assert [one.path for one in left.samples] == ["a.png", "c.png", "d.png"]
