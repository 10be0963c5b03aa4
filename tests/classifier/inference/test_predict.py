import os
import resource
import shutil
import zipfile

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from prediction_files import mutate_images, rows_of, write_images
from small_bundle import CLASSES, shortest, write_small_bundle

from cytolora.classifier.inference.classifier import Classifier
from cytolora.classifier.inference.image_sources import find_images
from cytolora.classifier.inference.table import predict_table
from cytolora.cli.app import main


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Classifier:
    return Classifier.load(write_small_bundle(tmp_path_factory.mktemp("bundle") / "model"))


def test_files_folders_globs_and_zips_are_one_stream(bundle, tmp_path):
    paths = write_images(tmp_path / "cells" / "deep", 4)
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as packed:
        packed.write(paths[0], "inside/a.png")
        packed.writestr("notes.txt", "no image")
    (tmp_path / "cells" / "notes.txt").write_text("no image")
    named = [paths[3], tmp_path / "cells", str(tmp_path / "cells" / "*" / "00[01].png"), tmp_path / "more.zip"]
    found = predict_table(bundle, find_images(named), tmp_path / "out.csv")
    rows = rows_of(tmp_path / "out.csv")
    assert found.num_images == len(rows) == 1 + 4 + 2 + 1
    assert rows[-1]["path"] == f"{tmp_path}/more.zip/inside/a.png"
    assert {row["path"]: row["predicted"] for row in rows}[str(paths[0])] == rows[-1]["predicted"]
    for row in rows:
        assert sum(float(row[label]) for label in CLASSES) == pytest.approx(1)
        assert row["referred"] in ("true", "false")
        assert set(row["prediction_set"].split("|")) <= {*CLASSES, ""}


def test_parquet_holds_what_csv_does(bundle, tmp_path):
    write_images(tmp_path / "cells", 5)
    (tmp_path / "cells" / "bad.png").write_bytes(b"no image")
    for name in ("out.csv", "out.parquet"):
        predict_table(bundle, find_images([tmp_path / "cells"]), tmp_path / name)
    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    rows = rows_of(tmp_path / "out.csv")
    assert list(table[0]) == list(rows[0])
    for one, two in zip(table, rows, strict=True):
        assert one["path"] == two["path"]
        assert one["error"] == two["error"]
        assert [one[label] for label in CLASSES] == [float(two[label]) if two[label] else None for label in CLASSES]
    assert table[5]["hsil"] is None


def test_a_strip_of_pixels_is_refused_and_does_not_fill_the_memory(tmp_path):
    model = Classifier.load(write_small_bundle(tmp_path / "model"))
    model.contents = shortest(model.contents)
    strip = np.zeros((1, 1_000_000, 3), dtype=np.uint8)
    assert "too long and narrow" in model.predict([strip])[0].error


def test_an_image_that_takes_more_memory_than_there_is_is_one_row_with_an_error(tmp_path, monkeypatch):
    paths = write_images(tmp_path / "cells", 3)
    model = Classifier.load(write_small_bundle(tmp_path / "model"))
    see, usual = model.view, (30, 24)

    def view(image):
        if Image.fromarray(image).size != usual:
            raise MemoryError
        return see(image)

    Image.new("RGB", (25, 24)).save(paths[1])
    monkeypatch.setattr(model, "view", view)
    predict_table(model, find_images([tmp_path / "cells"]), tmp_path / "out.csv")
    errors = [row["error"] for row in rows_of(tmp_path / "out.csv")]
    assert errors == ["", "Too little memory to decode this image.", ""]
    assert "Too little memory" in model.predict([np.zeros((5, 5, 3), np.uint8)])[0].error


def test_a_damaged_zip_is_one_row_and_a_damaged_member_another(bundle, tmp_path):
    paths = write_images(tmp_path / "cells", 1)
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 no zip")
    with zipfile.ZipFile(tmp_path / "good.zip", "w") as packed:
        packed.write(paths[0], "a.png")
        packed.writestr("b.png", "no image")
    predict_table(bundle, find_images([tmp_path / "bad.zip", tmp_path / "good.zip"]), tmp_path / "out.csv")
    errors = [row["error"] for row in rows_of(tmp_path / "out.csv")]
    assert [bool(error) for error in errors] == [True, False, True]


def test_a_file_name_that_is_no_text_is_written_all_the_same(bundle, tmp_path):
    path = write_images(tmp_path / "cells", 1)[0]
    try:
        shutil.copy(path, tmp_path / "cells" / os.fsdecode(b"\xff\xfe.png"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    predict_table(bundle, find_images([tmp_path / "cells"]), tmp_path / "out.csv")
    assert len(rows_of(tmp_path / "out.csv")) == 2


def test_an_interrupted_job_leaves_no_table(bundle, tmp_path):
    write_images(tmp_path / "cells", 3)

    def interrupted():
        yield from find_images([tmp_path / "cells"])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_table(bundle, interrupted(), tmp_path / "out.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells"]


def test_the_page_shows_every_image_and_the_command_says_how_many(tmp_path, capsys):
    write_images(tmp_path / "cells", 3)
    folder = write_small_bundle(tmp_path / "model")
    out, page = tmp_path / "out.csv", tmp_path / "page.html"
    with pytest.raises(SystemExit) as exit_:
        main(["predict", str(folder), str(tmp_path / "cells"), "--out", str(out), "--page", str(page), "--quiet"])
    assert exit_.value.code == 0
    assert page.read_text().count("data:image/webp") == 3
    assert "3 images:" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["pipe.png", "pipe.zip"])
def test_a_pipe_is_one_row_with_an_error_and_is_not_waited_for(bundle, tmp_path, name):
    write_images(tmp_path / "cells", 1)
    os.mkfifo(tmp_path / "cells" / name)
    named = [tmp_path / "cells" / "000.png", tmp_path / "cells" / name]
    predict_table(bundle, find_images(named), tmp_path / "out.csv")
    good, pipe = rows_of(tmp_path / "out.csv")
    assert good["predicted"]
    assert "it is no file" in pipe["error"]


@pytest.mark.parametrize("number", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_every_mutated_image_is_one_row(bundle, tmp_path, number):
    mutate_images(tmp_path, number)
    found = predict_table(bundle, find_images([tmp_path / "damaged"]), tmp_path / "out.csv")
    rows = rows_of(tmp_path / "out.csv")
    assert len(rows) == found.num_images == number
    for row in rows:
        assert bool(row["error"]) != bool(row["predicted"])
    assert 0 < found.num_errors < number


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(bundle, tmp_path):
    from cytolora.classifier.inference.image_sources import Source

    path = write_images(tmp_path / "cells", 1)[0]

    def repeated(number: int):
        return (Source(name=str(place), file=path) for place in range(number))

    predict_table(bundle, repeated(500), tmp_path / "out.parquet")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    predict_table(bundle, repeated(10_000), tmp_path / "out.parquet")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # kilobytes
