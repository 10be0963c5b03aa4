"""Output targets: no command writes to an address, into a model, or among what is somebody else's."""

import os
from pathlib import Path
from typing import Any

import pytest
from command_options import checks, options

from cytolora.classifier.bundle.files import CONTENTS
from cytolora.classifier.inference.onnx_predictor import EXPORT
from cytolora.cli.app import app, main
from cytolora.core.files import staged_file, write_bytes
from cytolora.core.folders import staged_folder
from cytolora.data.own_files import REQUEST_LOG, FileKind
from cytolora.data.targets import (
    IMAGES,
    STORE,
    check_replaceable_file,
    check_shared,
    check_target,
    kind_of,
)
from cytolora.errors import ConfigError
from cytolora.experiments.run_folder import METRICS, SPEC
from cytolora.labelling import project
from cytolora.models.checkpoints.offline_folder import MANIFEST as OF_WEIGHTS
from cytolora.reporting.pages.build import METHODS, PAGE
from cytolora.sharding.folder import MANIFEST as OF_SHARDS

WRITTEN = ("out", "page", "croissant", "cache", "request-log")
TO_WRITE = {"publish": None, "data download": "--to", "weights fetch": "--to"}
"""``--to`` names a place here; with None, the function behind the command checks it."""


def folder_with(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text('{"format": 1, "files": {}, "classes": [], "checkpoints": [], "shard_size": 1}')
    return root


def places() -> list[tuple[str, Any]]:
    return [
        (command, option)
        for command, option in options(app)
        if option.name.removeprefix("--") in WRITTEN or TO_WRITE.get(command) == option.name
    ]


def test_every_option_that_names_a_place_to_write_to_refuses_an_address_and_a_place_in_a_model(tmp_path: Path):
    inside = folder_with(tmp_path / "model", CONTENTS) / "folder" / "new.json"
    of_commands = places()
    assert {command for command, _ in of_commands} >= {
        "merge",
        "share",
        "run",
        "fit",
        "check",
        "embed",
        "weights fetch",
    }
    for command, option in of_commands:
        assert "is an address" in checks(option, Path("https://host/place")), (command, option.name)
        assert "is a model (it holds bundle.json)" in checks(option, inside), (command, option.name)
        new = tmp_path / ("new.html" if option.name == "--page" else "new.json")
        assert not checks(option, new), (command, option.name)


def test_every_number_of_every_option_refuses_inf_and_nan():
    numbers = [(command, option) for command, option in options(app) if "float" in str(option.hint)]
    assert {"serve", "fit", "run", "learning-curve"} <= {command for command, _ in numbers}
    assert app.default_parameter is not None
    of_all: Any = app.default_parameter.validator  # of what has none of its own
    for command, option in numbers:
        is_several = any(kind in str(option.hint) for kind in ("tuple", "Sequence"))
        for value in (float("inf"), float("nan"), -float("inf")):
            said = checks(option, (value,) if is_several else value, of_all)
            assert "finite number" in said or "Must be" in said, (command, option.name, value)


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "model", "--max-body-mb", "inf"],
        ["learning-curve", "cells", "--target", "nan"],
        ["fit", "cells", "--learning-rates", "0.1", "inf"],
    ],
)
def test_a_number_that_is_none_ends_a_command_with_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    said = capsys.readouterr().err
    assert "Expected a finite number" in said
    assert said.count("\n") == 1


def test_kinds_of_folders_are_told_by_the_files_that_their_commands_write(tmp_path: Path):
    written = {
        "a model": (CONTENTS,),
        "model": (EXPORT,),
        "labelling project": (project.FILE, project.CELLS),
        "shards": (OF_SHARDS,),
        "fetch": (OF_WEIGHTS,),
        "report": (PAGE, METHODS, "tables.csv"),
        "stored runs": (f"run/{SPEC}", f"run/{METRICS}"),
        "images by class": ("hsil/a.png", "nilm/b.png"),
        "by class": ("train/hsil/a.png", "test/nilm/b.png"),
    }
    for number, (kind, names) in enumerate(written.items()):
        found = kind_of(folder_with(tmp_path / str(number), *names))
        assert found is not None
        assert kind in found[0]
    assert kind_of(folder_with(tmp_path / "notes", "notes.txt", "a/b.txt")) is None
    assert kind_of(tmp_path / "nothing") is None


def test_a_file_of_others_that_is_called_like_a_mark_is_none(tmp_path: Path):
    texts = {CONTENTS: '{"files": 3}', EXPORT: '[{"image": "1.png"}]', OF_WEIGHTS: "{}", OF_SHARDS: "no JSON"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    assert kind_of(tmp_path) is None
    check_target(tmp_path / "coco.json")
    check_target(tmp_path / "further" / "down" / "out")


@pytest.mark.parametrize("names", [("pictures",), ("train/hsil",), ("figures", "images"), ("plots", "hsil")])
def test_one_folder_of_pictures_or_folders_of_plots_are_no_images_by_class(names: tuple[str, ...], tmp_path: Path):
    root = folder_with(tmp_path / "results", *(f"{name}/a.png" for name in names))
    assert kind_of(root) is None
    check_shared(root, STORE)


def test_folders_of_plots_beside_classes_leave_them_images_by_class(tmp_path: Path):
    root = folder_with(tmp_path / "cells", "figures/a.png", "hsil/a.png", "nilm/a.png")
    with pytest.raises(ConfigError, match="is a folder of images by class"):
        check_shared(root, STORE)


def test_a_folder_that_is_shared_takes_its_own_kind_alone(tmp_path: Path):
    store = folder_with(tmp_path / "runs", f"one/{SPEC}", f"one/{METRICS}")
    check_shared(store, STORE)
    with pytest.raises(ConfigError, match=r"is a folder of stored runs \(it holds one\).*another --to"):
        check_shared(store, IMAGES, option="--to")


def test_a_file_is_no_folder_that_something_is_put_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("kept", encoding="utf-8")
    for inside in ("", "below/deep"):
        with pytest.raises(ConfigError, match=r"Cannot write to .*file.*: a file is in the way\. Choose another --to"):
            check_shared(tmp_path / "file" / inside, option="--to")
    with pytest.raises(SystemExit, match="2"):
        main(["data", "download", "herlev", "--to", str(tmp_path / "file")])
    assert "a file is in the way" in capsys.readouterr().err
    assert (tmp_path / "file").read_text("utf-8") == "kept"


@pytest.mark.parametrize("text", ["https://host/a", "s3://x/y", "HF:a/b", "hf:a/b", "file:/a"])
def test_an_address_is_no_place_to_write_to(text: str):
    for path in (text, Path(text)):
        with pytest.raises(ConfigError, match="is an address"):
            check_target(path)


def test_a_class_of_a_dataset_takes_no_other_files(tmp_path: Path):
    root = folder_with(tmp_path / "cells", "hsil/a.png", "nilm/a.png")
    with pytest.raises(ConfigError, match=r"hsil is a class of a folder of images by class"):
        check_shared(root / "hsil", STORE)
    check_shared(root / "runs", STORE)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
def test_a_pipe_or_device_is_replaced_by_no_file_and_by_no_folder(tmp_path: Path):
    """As root, a rename would put a file in the place of /dev/null."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="It is a device, pipe or socket"):
        check_target(tmp_path / "pipe")
    with pytest.raises(OSError, match="It is a device, pipe or socket"):
        write_bytes(tmp_path / "pipe", b"")
    for staged in (staged_file, staged_folder):
        with pytest.raises(OSError, match="It is a device, pipe or socket"), staged(tmp_path / "pipe"):
            pass
    assert (tmp_path / "pipe").is_fifo()
    check_replaceable_file(tmp_path / "pipe", REQUEST_LOG)


@pytest.mark.parametrize("text", ["C:/runs", "runs", "hicervix:25", "a=b", "../x"])
def test_a_name_with_a_colon_is_one(text: str):
    check_target(text)


def test_a_file_of_another_kind_is_not_replaced(tmp_path: Path):
    file = tmp_path / "cells.zip"
    ours, theirs = (FileKind(name="zip of runs", is_own=is_own) for is_own in (Path.is_file, Path.is_dir))
    check_replaceable_file(file, theirs)
    file.write_text("mine")
    check_replaceable_file(file, ours)
    with pytest.raises(ConfigError, match="is there and is no zip of runs; it would be lost"):
        check_replaceable_file(file, theirs)
