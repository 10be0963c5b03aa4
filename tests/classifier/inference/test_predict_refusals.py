"""What predict refuses before the work, so that nothing is lost and nothing waited for in vain."""

from pathlib import Path

import pytest
from prediction_files import rows_of, write_images
from small_bundle import write_small_bundle

from cytolora.classifier.inference.classifier import Classifier
from cytolora.classifier.inference.image_sources import find_images
from cytolora.classifier.inference.table import check_out, predict_table
from cytolora.cli.app import main
from cytolora.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Classifier:
    return Classifier.load(write_small_bundle(tmp_path_factory.mktemp("bundle") / "model"))


def test_what_is_not_there_is_refused_before_anything_is_read(bundle, tmp_path):
    (tmp_path / "empty").mkdir()
    for named, message in (("nothing", "does not exist"), ("empty", "There is no image"), ("*.png", "Nothing fits")):
        with pytest.raises(DataError, match=message):
            find_images([tmp_path / named])
    with pytest.raises(ConfigError, match=r"written to \.csv or \.parquet"):
        predict_table(bundle, iter(()), tmp_path / "out.xlsx")


@pytest.mark.parametrize("name", ["labels.csv", "coco.json", "annotations.XML", "cells.geojson", "metadata.jsonl"])
def test_tables_and_files_of_labels_are_refused_by_name(name, tmp_path):
    (tmp_path / name).write_text("path,label\n1.png,nilm\n")
    with pytest.raises(DataError, match=rf"{name} is a table or a file of labels, not an image\. Name the images"):
        find_images(tmp_path / name)


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("table.csv", "are one file"),
        ("/proc/page.html", "Cannot write"),
        ("cells", "is a folder"),
        ("cells/000.png", r"ends in \.html"),
    ],
)
def test_a_page_that_cannot_be_written_is_refused_before_the_work(bundle, tmp_path, page, message):
    write_images(tmp_path / "cells", 1)
    before = (tmp_path / "cells" / "000.png").read_bytes()
    with pytest.raises(ConfigError, match=message):
        predict_table(bundle, find_images([tmp_path / "cells"]), tmp_path / "table.csv", page=tmp_path / page)
    assert not (tmp_path / "table.csv").exists()
    assert (tmp_path / "cells" / "000.png").read_bytes() == before


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["predict", *map(str, arguments), "--quiet"])
    return int(ended.value.code or 0)


def test_more_images_than_a_page_holds_are_refused_before_the_work(bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("cytolora.classifier.inference.table.MAX_CELLS", 3)
    write_images(tmp_path / "cells", 4)
    options = ("--out", tmp_path / "table.csv", "--page", tmp_path / "page.html")
    assert run(bundle.name, tmp_path / "cells", *options) == 2
    assert "page.html holds 3 cells at most" in capsys.readouterr().err
    assert not (tmp_path / "table.csv").exists()
    with pytest.raises(DataError, match="3 cells at most"):
        predict_table(bundle, find_images([tmp_path / "cells"]), tmp_path / "table.csv", page=tmp_path / "page.html")
    assert len(rows_of(tmp_path / "table.csv")) == 4  # nobody knew how many would come: the table is whole
    paths = [tmp_path / "cells" / "000.png"] * 5
    assert run(bundle.name, *paths, *options) == 0  # one image, however often it is named


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--crop-um", "30"], "--cells FILE"),
        (["--mpp", "0.5"], "--cells FILE"),
        (["--out", "notes.parquet"], "is what is read, and would be lost"),
        (["--out", "/proc/out.csv"], "Cannot write /proc/out.csv"),
    ],
)
def test_what_predict_would_ignore_or_destroy_is_refused(bundle, tmp_path, capsys, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    Path("notes.parquet").write_text("hours of work")
    write_images(tmp_path / "cells", 1)
    out = [] if "--out" in options else ["--out", "table.csv"]
    assert run(bundle.name, "cells", "notes.parquet", *options, *out) == 2
    assert words in capsys.readouterr().err
    assert Path("notes.parquet").read_text() == "hours of work"


def test_the_command_refuses_a_bundle_that_was_changed_in_one_line(tmp_path, capsys):
    folder = write_small_bundle(tmp_path / "model")
    (folder / "seen.json").write_text("{}")
    write_images(tmp_path / "cells", 1)
    with pytest.raises(SystemExit) as exit_:
        main(["predict", str(folder), str(tmp_path / "cells"), "--out", str(tmp_path / "out.csv")])
    assert exit_.value.code == 2
    assert "seen.json is not as it was written" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["labels.csv", "cells.parquet"])
def test_a_table_of_something_else_is_not_replaced(name: str, tmp_path: Path):
    out = tmp_path / name
    out.write_text("path,label\na.png,hsil\n")
    with pytest.raises(ConfigError, match="is there and is no table of predictions; it would be lost"):
        check_out(out)
    out.unlink()
    check_out(out)
    out.with_suffix(".csv").write_text("path,predicted,hsil,positive,prediction_set,referred,unfamiliar,error\n")
    check_out(out.with_suffix(".csv"))
