"""A dataset that was read already, in the place of its folder: what else is given acts on it, or is refused."""

from pathlib import Path

import pytest
from PIL import Image

import cytolora
from cytolora.config.reading import ReadOptions


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of each of three classes, every one another colour."""
    folder = tmp_path_factory.mktemp("cells")
    for green, label in enumerate(("hsil", "lsil", "nilm")):
        (folder / label).mkdir()
        for number in range(4):
            Image.new("RGB", (8, 8), (60 * number, 80 * green, 9)).save(folder / label / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = tmp_path_factory.mktemp("map") / "map.csv"
    table.write_text("from,to\nhsil,abnormal\nlsil,abnormal\nnilm,normal\n")
    return table


def test_a_label_map_acts_on_a_dataset_as_on_its_folder(cells: Path, joined: Path, tmp_path: Path):
    read = cytolora.load_dataset(cells)
    of_read, of_folder = cytolora.check(read, label_map=joined), cytolora.check(cells, label_map=joined)
    assert of_read.counts == of_folder.counts
    assert {label: row["all"] for label, row in of_read.counts.items()} == {"abnormal": 8, "normal": 4}
    divided = cytolora.split(read, tmp_path / "read.csv", by="image", label_map=joined)
    cytolora.split(cells, tmp_path / "folder.csv", by="image", label_map=joined)
    assert divided.classes == ("abnormal", "normal")
    assert (tmp_path / "read.csv").read_bytes() == (tmp_path / "folder.csv").read_bytes()


def test_a_split_file_acts_on_a_dataset_that_is_checked(cells: Path, tmp_path: Path):
    read = cytolora.load_dataset(cells)
    divided = cytolora.split(read, tmp_path / "split.csv", by="image", ratios=(0.5, 0.25, 0.25))
    assert cytolora.check(read, split=tmp_path / "split.csv").counts == divided.counts()


@pytest.mark.parametrize(
    ("name", "value"), [("dataset", "folder"), ("pool", "bethesda"), ("reading", ReadOptions(group_column="patient"))]
)
def test_what_would_not_act_on_a_dataset_is_refused_and_nothing_is_written(
    name: str, value: object, cells: Path, tmp_path: Path
):
    read = cytolora.load_dataset(cells)
    with pytest.raises(cytolora.ConfigError, match=f"read already, so that `{name}` would not act"):
        cytolora.check(read, **{name: value})  # pyright: ignore[reportArgumentType]
    with pytest.raises(cytolora.ConfigError, match=f"`{name}` would not act"):
        cytolora.split(read, tmp_path / "split.csv", **{name: value})  # pyright: ignore[reportArgumentType]
    assert not list(tmp_path.iterdir())
