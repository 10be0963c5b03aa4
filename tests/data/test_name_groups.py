"""Groups that file names suggest: slides are found; coordinates, dates, copies and counters are not taken for any."""

import uuid
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolora.data.manifest import Sample
from cytolora.data.name_groups import NameGroups, groups_in_names

CLASSES = ("hsil", "lsil", "nilm")


def samples(names: Iterable[str], *, folder: str = "{label}/") -> list[Sample]:
    """Names in turn to three classes."""
    return [
        Sample(path=folder.format(label=CLASSES[number % 3]) + f"{name}.png", label=CLASSES[number % 3])
        for number, name in enumerate(names)
    ]


def found(names: Iterable[str], *, folder: str = "{label}/") -> dict[str, str] | None:
    """The group by stem."""
    groups = groups_in_names(samples(names, folder=folder))
    return groups and {path.rpartition("/")[2][:-4]: group for path, group in groups.group_of.items()}


def slides(pattern: str, num_slides: int = 6, num_cells: int = 10) -> list[tuple[str, str]]:
    """Name and slide of every cell."""
    return [
        (pattern.format(slide=slide, cell=cell), str(slide))
        for slide in range(1, num_slides + 1)
        for cell in range(1, num_cells + 1)
    ]


def partition(group_of: dict[str, str]) -> set[frozenset[str]]:
    members: dict[str, set[str]] = {}
    for name, group in group_of.items():
        members.setdefault(group, set()).add(name)
    return {frozenset(names) for names in members.values()}


@pytest.mark.parametrize(
    "pattern",
    [
        "slide{slide:02}_{cell:03}",
        "{slide}_{cell}",
        "{slide:04}-{cell:04}",
        "P{slide}C{cell}",
        "H2019-{slide:04}_{cell:03}",
        "slide{slide} ({cell})",
        "S{slide}_cell_{cell}_hsil",
        "40x_slide{slide}_{cell:03}_20x",
        "20230514_slide{slide}_{cell:03}",
        "slide{slide}_20230514_10{cell:02}23",
        "slide{slide}_x{cell}200_y3{cell}00",
        "slide{slide} [x={cell}200,y=34{cell},w=256,h=256]",
        "slide{slide}_r{cell}_c3",
        "slide{slide}_x{cell}2_y77_{cell:03}",
        "patient_{slide}_crop_{cell}",
        "patient_{slide}_crop{cell}",
        "{slide:08x}-1111-4222-8333-444455556666_{cell}",
    ],
)
def test_slides_in_names_are_groups(pattern):
    names = slides(pattern)
    expected = partition(dict(names))
    assert partition(found([name for name, _ in names]) or {}) == expected


RANDOM = np.random.default_rng(0)
SPREAD = RANDOM.integers(0, 4000, (200, 4))


@pytest.mark.parametrize(
    "names",
    [
        pytest.param([f"{number:03}" for number in range(60)], id="counter"),
        pytest.param([f"cell_{number}" for number in range(60)], id="counter with a word"),
        pytest.param([f"{CLASSES[number % 3]}_{number:03}" for number in range(60)], id="class counter"),
        pytest.param([f"CIN{number % 3}_{number:03}" for number in range(60)], id="class with a number"),
        pytest.param([f"pap2021_{number:03}" for number in range(60)], id="one prefix"),
        pytest.param([f"{CLASSES[number % 3]} ({number})" for number in range(60)], id="counter in brackets"),
        pytest.param([str(uuid.UUID(int=int(RANDOM.integers(2**62)) * 7919)) for _ in range(60)], id="uuid"),
        pytest.param([f"{uuid.UUID(int=number * 2**70 + 11)}_001" for number in range(60)], id="uuid and a number"),
        pytest.param([RANDOM.bytes(16).hex() for _ in range(60)], id="hash"),
        pytest.param([f"x{x}_y{y}" for x, y, *_ in SPREAD], id="named coordinates"),
        pytest.param([f"{x}_{y}" for x, y, *_ in SPREAD], id="coordinates"),
        pytest.param([f"{x * 224}_{y * 224}" for x in range(12) for y in range(15)], id="tiles"),
        pytest.param([f"{a}_{b}_{c}_{d}" for a, b, c, d in SPREAD], id="boxes"),
        pytest.param([f"row{x}_col{y}" for x in range(8) for y in range(8)], id="rows and columns"),
        pytest.param([f"202305{day:02}_{cell:03}" for day in range(1, 9) for cell in range(8)], id="days"),
        pytest.param([f"2023-05-{day:02}_{cell}" for day in range(1, 9) for cell in range(8)], id="days, dashes"),
        pytest.param([f"{day:02}.05.2023 {cell}" for day in range(1, 9) for cell in range(8)], id="days, German"),
        pytest.param([f"2305{day:02}_{cell:03}" for day in range(1, 9) for cell in range(8)], id="short days"),
        pytest.param([f"IMG_202305{day:02}_10{cell}500" for day in range(1, 9) for cell in range(10, 18)], id="times"),
        pytest.param([f"{year}_{cell:03}" for year in range(2015, 2021) for cell in range(10)], id="years"),
        pytest.param([f"abc{chr(97 + number % 26)}" for number in range(60)], id="no number"),
        pytest.param(["1_1", "1_2", "2_1"], id="few"),
    ],
)
def test_names_without_slides_suggest_no_group(names):
    assert found(dict.fromkeys(names)) is None


AUGMENTED = (
    ("", "_rot90", "_flip"),
    ("_rot90", "_rot180", "_rot270"),
    ("_aug1", "_aug2", "_aug3"),
    ("", " (1)", " (2)"),
    ("", " - Copy", " - Copy (2)"),
    ("", "_copy", "_copy2"),
    ("_hflip", "_vflip", "_hflip_rot90"),
    ("", "_blur", "_noise3"),
)


@pytest.mark.parametrize("marks", AUGMENTED, ids=" ".join)
def test_versions_of_one_image_are_a_group_where_names_hold_no_slide(marks):
    rows = [Sample(path=f"hsil/cell_{n:03}{mark}.png", label="hsil") for n in range(20) for mark in marks]
    groups = groups_in_names(rows)
    assert groups is not None
    by_cell = partition({row.path: row.path[10:13] for row in rows})
    assert partition(dict(groups.group_of)) == by_cell


@pytest.mark.parametrize("marks", AUGMENTED, ids=" ".join)
def test_versions_of_one_image_stay_in_its_slide(marks):
    names = [(name + mark, slide) for name, slide in slides("S{slide:02}_{cell:03}") for mark in marks]
    rows = [Sample(path=f"hsil/{name}.png", label="hsil") for name, _ in names]
    groups = groups_in_names(rows)
    assert groups is not None
    assert partition({path[5:-4]: group for path, group in groups.group_of.items()}) == partition(dict(names))
    assert len(set(groups.source_of.values())) == 60


def test_a_class_whose_numbering_restarts_is_part_of_its_groups():
    rows = [
        Sample(path=f"im_{label}/CROPPED/{field:03}_{cell:02}.bmp", label=label)
        for label in CLASSES
        for field in range(1, 11)
        for cell in range(1, 5)
    ]
    groups = groups_in_names(rows)
    assert groups is not None
    assert groups.num_groups == 30
    assert groups.group_of["im_hsil/CROPPED/001_01.bmp"] == "hsil/001"
    assert "class" in groups.rule


def test_a_slide_with_cells_of_several_classes_is_one_group_also_with_one_copy_in_two_classes():
    rows = samples(name for name, _ in slides("{slide:03}_{cell:03}"))
    copied = Sample(path="lsil/001_001.png", label="lsil")
    groups = groups_in_names([*rows, copied])
    assert groups is not None
    assert groups.num_groups == 6
    assert groups.group_of["hsil/001_001.png"] == groups.group_of["lsil/001_001.png"] == "001"


def test_folders_that_hold_several_classes_are_part_of_the_name():
    names = [f"slide{slide}/{cell:03}" for slide in range(5) for cell in range(9)]
    groups = groups_in_names(samples(names, folder=""))
    assert groups is not None
    assert set(groups.group_of.values()) == {f"slide{slide}" for slide in range(5)}


def test_a_tenth_of_the_names_may_be_others_and_not_more():
    names = [name for name, _ in slides("{slide}_{cell}")]
    few, many = [f"other{chr(97 + number)}" for number in range(6)], [f"other{chr(97 + number)}" for number in range(9)]
    assert len(found([*names, *few]) or {}) == 60
    assert found([*names, *many]) is None


def test_a_slide_with_more_than_half_of_the_images_is_no_group():
    assert (
        found([*(f"1_{n}" for n in range(40)), *(f"2_{n}" for n in range(15)), *(f"3_{n}" for n in range(15))]) is None
    )


@given(
    word=st.text("abcdefgstuv", max_size=6),
    joint=st.sampled_from("_- "),
    num_slides=st.integers(3, 12),
    num_cells=st.integers(2, 9),
    digits=st.integers(1, 4),
)
def test_any_word_joint_and_number_of_digits_gives_the_slides(word, joint, num_slides, num_cells, digits):
    names = [
        (f"{word}{slide:0{digits}}{joint}{cell:0{digits}}", str(slide))
        for slide in range(1, num_slides + 1)
        for cell in range(1, num_cells + 1)
    ]
    rows = [Sample(path=f"a/{name}.png", label="a") for name, _ in names]
    groups = groups_in_names(rows)
    assert isinstance(groups, NameGroups)
    assert partition({path[2:-4]: group for path, group in groups.group_of.items()}) == partition(dict(names))
