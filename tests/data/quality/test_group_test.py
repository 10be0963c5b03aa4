"""Permutation test of groups in names: slides that tint their cells are suspected, meaningless prefixes are not."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytolora.data.datasets import load_manifest
from cytolora.data.quality.group_test import LEVEL, appearance, groups_suspected, permutation_p


def write_slides(
    folder: Path, *, tint: float, pattern: str = "{slide:02}_{cell:03}", num_slides: int = 8, num_cells: int = 8
) -> Path:
    """Cells of two classes: a disc on a background whose colour differs between slides by ``tint`` gray levels."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:40, :40]
    for slide in range(1, num_slides + 1):
        stain = random.normal(0, 1, 3)
        for cell in range(1, num_cells + 1):
            label = ("a", "b")[cell % 2]
            radius = random.uniform(6, 14) + 3 * (label == "b")
            inside = (rows - 20) ** 2 + (columns - 20) ** 2 < radius**2
            pixels = 170 + random.normal(0, 8, 3) + tint * stain - 80 * inside[..., None]
            pixels = np.clip(pixels + random.normal(0, 6, (40, 40, 3)), 0, 255).astype(np.uint8)
            (folder / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / label / f"{pattern.format(slide=slide, cell=cell)}.png")
    return folder


def test_slides_that_tint_their_cells_are_suspected_with_their_number_and_the_answer_to_give(tmp_path):
    (found,) = groups_suspected(load_manifest(write_slides(tmp_path, tint=15)))
    assert (found.code, found.severity, found.count) == ("D511", "warning", 8)
    assert "suggest 8 groups" in found.text
    assert "p = 0.001" in found.text
    for answer in ("names", "none", "'REGEX'"):
        assert f"--groups-from {answer}" in found.text
    assert found.examples[0] == "01 (8 images, such as a/01_002.png)"


def test_prefixes_that_do_not_show_in_the_pixels_are_not_suspected(tmp_path):
    assert groups_suspected(load_manifest(write_slides(tmp_path, tint=0))) == []


def test_tinted_slides_whose_names_are_counters_are_not_suspected(tmp_path):
    assert groups_suspected(load_manifest(write_slides(tmp_path, tint=15, pattern="cell{slide:02}{cell:03}"))) == []


def test_groups_of_a_table_are_not_suspected(tmp_path):
    cells = write_slides(tmp_path, tint=15)
    rows = [f"{path.relative_to(cells).as_posix()},{path.parent.name},p1" for path in sorted(cells.rglob("*.png"))]
    (cells / "manifest.csv").write_text("\n".join(["path,label,group", *rows]))
    assert groups_suspected(load_manifest(cells)) == []


def test_byte_equal_copies_alone_are_not_suspected(tmp_path):
    cells = write_slides(tmp_path, tint=0, pattern="cell{slide:02}{cell:03}")
    for path in sorted(cells.rglob("*.png")):
        shutil.copy(path, path.with_name(f"{path.stem} (1).png"))
    assert groups_suspected(load_manifest(cells)) == []


def test_rotated_versions_of_cells_are_suspected_as_one_group_each(tmp_path):
    cells = write_slides(tmp_path, tint=0, pattern="cell{slide:02}{cell:03}", num_slides=4)
    for path in sorted(cells.rglob("*.png")):
        with Image.open(path) as image:
            image.transpose(Image.Transpose.ROTATE_90).save(path.with_name(f"{path.stem}_rot90.png"))
    (found,) = groups_suspected(load_manifest(cells))
    assert (found.code, found.count) == ("D511", 32)
    assert found.examples[0] == "a/cell01002 (2 images, such as a/cell01002.png)"


def test_images_that_cannot_be_read_are_passed_over(tmp_path):
    cells = write_slides(tmp_path, tint=15)
    (cells / "a" / "01_002.png").write_bytes(b"no image")
    assert [one.code for one in groups_suspected(load_manifest(cells))] == ["D511"]


def test_a_difference_between_classes_is_none_between_groups():
    """Each prefix stands in one class only, and the classes differ by far more than their images."""
    random = np.random.default_rng(1)
    classes = [label for label in "abcd" for _ in range(30)]
    groups = [f"{label}{place % 5}" for place, label in enumerate(classes)]
    vectors = random.normal(size=(120, 6)) + 50 * np.array(["abcd".index(label) for label in classes])[:, None]
    assert permutation_p(vectors, classes, groups) > LEVEL


def test_p_is_the_share_of_permutations_at_least_as_alike_with_the_one_at_hand():
    vectors = np.repeat(np.eye(4), 5, axis=0) + np.random.default_rng(0).normal(0, 0.01, (20, 4))
    groups = [str(place // 5) for place in range(20)]
    assert permutation_p(vectors, ["a"] * 20, groups, num_draws=199) == 1 / 200
    assert permutation_p(vectors, ["a"] * 20, ["same"] * 20, num_draws=199) == 1.0


def test_appearance_is_finite_for_any_size_and_constant_images():
    for size in ((1, 1), (1, 300), (7, 2), (400, 500)):
        assert np.isfinite(appearance(np.full((*size, 3), 7, np.uint8))).all()


@pytest.mark.slow
def test_false_alarms_are_as_rare_as_the_level_and_slides_of_one_deviation_are_found():
    """Cells of unequal slides and classes; correlated, heavy-tailed values."""
    random = np.random.default_rng(0)
    num_trials, alarms, hits = 600, 0, 0
    for trial in range(num_trials):
        slide = random.choice(12, 150, p=random.dirichlet(np.ones(12)))
        label = (slide + random.integers(0, 2, 150)) % 4
        noise = random.standard_t(4, (150, 8)) @ random.normal(size=(8, 17))
        vectors = noise + 3 * label[:, None]
        named = [str(one) for one in slide]
        alarms += permutation_p(vectors, list(map(str, label)), named, num_draws=199, seed=trial) <= LEVEL
        if trial < 100:
            effect = random.normal(0, noise.std(), (12, 17))[slide]
            hits += permutation_p(vectors + effect, list(map(str, label)), named, num_draws=199, seed=trial) <= LEVEL
    standard_error = (LEVEL * (1 - LEVEL) / num_trials) ** 0.5
    assert alarms / num_trials <= LEVEL + 2 * standard_error
    assert hits >= 98
