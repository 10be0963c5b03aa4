"""The drawn cells: equal for equal seeds, grouped by slide, written whole."""

import csv
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cytolora.data.datasets import load_manifest
from cytolora.data.readers.synthetic import SYNTHETIC
from cytolora.data.synthetic.dataset import ATTRIBUTES, CLASSES, draw_cells, write_synthetic
from cytolora.errors import ConfigError, DataError


def test_equal_seeds_draw_equal_cells_and_others_draw_others():
    first, again, other = draw_cells(70, 3), draw_cells(70, 3), draw_cells(70, 4)
    assert np.array_equal(first.images, again.images)
    assert not np.array_equal(first.images, other.images)


def test_every_slide_carries_every_class_equally_often():
    cells = draw_cells(300, 0, num_slides=6)
    table = np.zeros((6, 5), int)
    np.add.at(table, (cells.slides, cells.labels), 1)
    assert (table == 10).all()


@pytest.mark.parametrize("population", ["classes", "any"])
def test_attributes_stay_in_their_ranges(population):
    cells = draw_cells(200, 0, population=population)
    for name, attribute in ATTRIBUTES.items():
        values = cells.attributes[name]
        assert values.dtype == np.float32
        assert attribute.low <= values.min() <= values.max() <= np.float32(attribute.high), name


def test_cells_without_classes_carry_no_label():
    assert set(draw_cells(40, 0, population="any").labels) == {-1}


def test_a_cell_looks_the_same_at_another_size():
    small, large = draw_cells(30, 0, 64), draw_cells(30, 0, 128)
    assert large.images.shape == (30, 128, 128, 3)
    halved = large.images.reshape(30, 64, 2, 64, 2, 3).mean((2, 4))
    coarse = [images.reshape(30, 8, 8, 8, 8, 3).mean((2, 4)) for images in (small.images, halved)]
    assert np.abs(coarse[0] - coarse[1]).mean() < 12


def test_a_larger_nucleus_darkens_more_of_the_image():
    cells = draw_cells(1500, 0)
    dark = (cells.images[..., 0] < 90).mean((1, 2))
    share = [dark[cells.labels == CLASSES.index(name)].mean() for name in ("normal", "lsil", "hsil")]
    assert share[0] < share[1] < share[2]


def _processor_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _numpy_work() -> None:
    """Noise and a few passes over it: what drawing is made of, in an amount that is fixed."""
    random = np.random.Generator(np.random.PCG64(0))
    for _ in range(40):
        noise = random.standard_normal((64, 64, 64), dtype=np.float32)
        noise = np.exp(-(noise * noise))
        (np.minimum(noise, 0.5) * noise + noise).sum()


def test_500_cells_cost_less_than_3_8_times_a_fixed_amount_of_work_in_numpy():
    """Measured: 2.3 to 2.5 times, whatever else the machine does (1,850 cells a second of the processor)."""
    ratios = []
    for _ in range(5):  # in pairs, for shared caches and clock rates are not ours to time
        ratios.append(_processor_seconds(lambda: draw_cells(500, 0)) / _processor_seconds(_numpy_work))
        if ratios[-1] < 3.8:
            break
    assert min(ratios) < 3.8


def test_impossible_numbers_are_refused():
    with pytest.raises(ConfigError, match="got 10, 30, 8 and 0"):
        draw_cells(10, 0, 8)


def test_the_written_folder_reads_as_the_manifest_says(tmp_path: Path):
    write_synthetic(tmp_path / "cells", num_images=50, num_slides=5)
    rows = list(csv.DictReader((tmp_path / "cells" / "manifest.csv").open()))
    assert rows[3] == {"path": "slide_03/0003_normal.png", "label": "normal", "group": "slide_03"}
    manifest = load_manifest(tmp_path / "cells")
    assert manifest.name == "synthetic"
    assert manifest.classes == CLASSES
    assert manifest.has_groups
    assert not manifest.has_subsets
    assert len({sample.group for sample in manifest.samples}) == 5


@pytest.mark.slow
def test_an_absent_folder_is_drawn_and_read_again_as_it_was(tmp_path: Path):
    manifest = load_manifest(tmp_path / "cells", "synthetic")
    assert manifest.counts()["hsil"]["all"] == 300
    assert load_manifest(tmp_path / "cells").fingerprint == manifest.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["cells"]


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="no drawn cells"):
        SYNTHETIC.read(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("cytolora.data.synthetic.dataset.write_json", fail)
    with pytest.raises(OSError, match="disk full"):
        write_synthetic(tmp_path / "cells", num_images=10, num_slides=2)
    assert list(tmp_path.iterdir()) == []


def test_seed_0_draws_these_cells():
    """Pins the drawing: a change here changes the demo and every number of docs/nano.md."""
    digest = hashlib.sha256(draw_cells(60, 0).images.tobytes()).hexdigest()
    assert digest == "84749fdad0c1bc9c47874d7aa07d9990d195333e9426d7054793ee29367f2b68"


def test_the_dyes_say_where_the_nuclei_are():
    cells = draw_cells(64, 0)
    darkness = 255 - cells.images[..., 0].reshape(64, 8, 8, 8, 8).mean((2, 4)).reshape(64, 64)
    nuclear = cells.dyes[..., 2]
    assert cells.dyes.shape == (64, 64, 6)
    assert np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(darkness, nuclear, strict=True)]) > 0.6
