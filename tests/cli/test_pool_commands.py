"""check, split and fit read a pool as grids do, and refuse what they would."""

import json
from pathlib import Path

import pytest
from PIL import Image
from pools import herlev_like, sipakmed_like

import cytolora
from cytolora.cli.app import main
from cytolora.cli.options import PoolOptions
from cytolora.errors import ConfigError

FOLDERS = ("herlev=smear2005", "sipakmed=SIPaKMeD")


def called(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    return int(stop.value.code or 0)


@pytest.mark.parametrize(
    ("options", "path", "dataset", "label_map", "said"),
    [
        (PoolOptions(), None, None, None, "Name the dataset"),
        (PoolOptions(data=FOLDERS), None, None, None, "name its label map"),
        (PoolOptions(data=FOLDERS, pool="bethesda"), "cells", None, None, "leave out cells"),
        (PoolOptions(data=FOLDERS, pool="bethesda"), None, "herlev", None, "leave out --dataset herlev"),
        (PoolOptions(data=FOLDERS, pool="bethesda"), None, None, "map.csv", "--map is for one dataset"),
        (PoolOptions(data=FOLDERS[:1], pool="bethesda"), None, None, None, "two datasets or more"),
        (PoolOptions(data=FOLDERS, pool="betesda"), None, None, None, "Did you mean 'bethesda'"),
    ],
)
def test_a_pool_and_a_dataset_are_told_apart_in_one_line(options, path, dataset, label_map, said):
    with pytest.raises(ConfigError, match=said) as refused:
        options.source(path and Path(path), dataset, label_map and Path(label_map))
    assert "\n" not in str(refused.value)


def test_one_dataset_is_the_path_that_was_given():
    assert PoolOptions().source(Path("cells"), "herlev", Path("map.csv")) == Path("cells")


def class_folders(root: Path, **colours: tuple[int, int, int]) -> Path:
    """Four plain images of each class, no two alike."""
    for label, colour in colours.items():
        (root / label).mkdir(parents=True)
        for number in range(4):
            picture = Image.new("RGB", (24, 24), colour)
            picture.putpixel((number, 5), (0, 0, 0))
            picture.save(root / label / f"{number}.png")
    return root


def test_check_and_split_count_the_images_of_all_datasets(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    class_folders(Path("a"), NILM=(200, 100, 90), LSIL=(90, 100, 200))
    class_folders(Path("b"), NILM=(100, 200, 90), LSIL=(40, 140, 80))
    pool = ("--data", "a=a", "b=b", "--pool", "bethesda", "--quiet")
    called("check", *pool, "--json", "--page", "check.html")
    found = json.loads(capsys.readouterr().out)
    assert {label: row["all"] for label, row in found["counts"].items()} == {"NILM": 8, "LSIL": 8}
    assert "pool:bethesda+a+b" in Path("check.html").read_text()
    assert called("split", *pool, "--leave-out", "dataset=b", "--out", "split.csv") == 0
    lines = Path("split.csv").read_text().splitlines()
    assert sum(line.startswith("b/") and ",test," in line for line in lines) == 8
    assert not any(line.startswith("a/") and ",test," in line for line in lines)
    capsys.readouterr()
    for more in (("--canonical",), ("--croissant", "a/croissant.json")):
        assert called("split", *pool, *more) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert called("check", *pool, "--croissant", "a/croissant.json") == 2


@pytest.mark.slow
def test_fit_trains_on_all_datasets_of_a_pool_and_tests_the_one_left_out(tmp_path):
    folders = {
        "herlev": herlev_like(tmp_path / "herlev", per_class=8),
        "sipakmed": sipakmed_like(tmp_path / "sipakmed", per_class=10),
    }
    pool = ("--data", *(f"{name}={path}" for name, path in folders.items()), "--pool", "bethesda-general")
    few = ("--method", "gda", "--cache", tmp_path / "cache", "--quiet")
    assert called("fit", *pool, *few, "--leave-out", "dataset=herlev", "--out", tmp_path / "left") == 0
    training = json.loads((tmp_path / "left" / "bundle.json").read_text())["training"]
    assert training["dataset"] == "pool:bethesda-general+herlev+sipakmed"
    assert training["num_added_images"] == 0, "images of a pool are its own"
    assert json.loads((tmp_path / "left" / "bundle.json").read_text())["metrics"]["test"]["n"] == 7 * 8
    classifier = cytolora.fit(
        folders,
        tmp_path / "python",
        method="gda",
        options=cytolora.FitOptions(pool="bethesda-general", leave_out="dataset=herlev", cache=tmp_path / "cache"),
    )
    assert classifier.metrics == cytolora.load(tmp_path / "left").metrics
    with pytest.raises(ConfigError, match="A pool is several folders"):
        cytolora.fit(folders, tmp_path / "none")
