"""Bundles that another process replaces at the moment they are read or looked at."""

import shutil
from pathlib import Path

import pytest
from small_bundle import write_small_bundle

from cytolora.classifier.bundle.files import BANK, CONTENTS, HEAD, check_free, read_bundle
from cytolora.core.folders import staged_folder


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A head alone, and one with an adapter: other files."""
    folder = tmp_path_factory.mktemp("bundles")
    return write_small_bundle(folder / "linear"), write_small_bundle(folder / "lora", method="lora", temperature=2.5)


def _replace_when_read(monkeypatch: pytest.MonkeyPatch, name: str, folder: Path, by: Path) -> None:
    """Lets another process replace a bundle just before this one reads a file of it."""
    read, waiting = Path.read_bytes, [True]

    def interrupted(path: Path) -> bytes:
        if path.name == name and folder in path.parents and waiting:
            waiting.clear()
            with staged_folder(folder) as staging:
                shutil.copytree(by, staging, dirs_exist_ok=True)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", interrupted)


@pytest.mark.parametrize("name", [CONTENTS, HEAD, BANK, "seen.json"])
@pytest.mark.parametrize("first", [0, 1])
def test_a_bundle_that_is_replaced_while_it_is_read_is_read_whole(
    bundles: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, first: int
):
    folder = tmp_path / "model"
    shutil.copytree(bundles[first], folder)
    expected = read_bundle(bundles[1 - first])
    _replace_when_read(monkeypatch, name, folder, bundles[1 - first])
    assert read_bundle(folder) == expected


def test_a_bundle_that_another_process_replaces_is_not_taken_for_somebody_elses_folder(
    bundles: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The files were those of the adapter's bundle, their list is that of the other."""
    folder = tmp_path / "model"
    shutil.copytree(bundles[1], folder)
    _replace_when_read(monkeypatch, CONTENTS, folder, bundles[0])
    check_free(folder)
    assert not (folder / "adapter").exists()


@pytest.mark.parametrize("aside", [".cytolora-replaced-model", ".replaced-model"], ids=["ours", "earlier"])
def test_a_bundle_that_a_killed_process_had_set_aside_is_read_and_left_as_it_is(
    bundles: tuple[Path, Path], tmp_path: Path, aside: str
):
    shutil.copytree(bundles[0], tmp_path / aside)
    assert read_bundle(tmp_path / "model") == read_bundle(bundles[0])
    assert [path.name for path in tmp_path.iterdir()] == [aside]
