"""--groups-from: groups of file names are taken, refused or found by a pattern, and a split holds them together."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolora.config.reading import ReadOptions
from cytolora.config.run import SplitSpec
from cytolora.data import chosen_groups
from cytolora.data.chosen_groups import groups_elsewhere, with_chosen_groups
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.quality.group_test import groups_suspected
from cytolora.data.splitting.splits import assign_subsets
from cytolora.errors import ConfigError, CytoloraError, DataError


def dataset(names: Sequence[str], groups: Sequence[str | None] | None = None) -> Manifest:
    """Names in turn to two classes."""
    samples = tuple(
        Sample(
            path=f"{'ab'[place % 2]}/{name}.png",
            label="ab"[place % 2],
            group=groups[place] if groups else None,
            sha256="0",
        )
        for place, name in enumerate(names)
    )
    return Manifest(name="cells", root=Path(), classes=("a", "b"), samples=samples)


SLIDES = [f"slide{slide:02}_{cell:02}" for slide in range(1, 7) for cell in range(1, 5)]


def groups(manifest: Manifest) -> dict[str, str | None]:
    return {Path(sample.path).stem: sample.group for sample in manifest.samples}


def test_names_gives_every_image_its_slide_and_says_so():
    taken = with_chosen_groups(dataset(SLIDES), "names")
    assert groups(taken) == {name: name[:7] for name in SLIDES}
    assert taken.group_rule == "prefix of the file name, before its last number (--groups-from names)"


def test_none_leaves_groups_unknown_and_notes_the_refusal():
    refused = with_chosen_groups(dataset(SLIDES), "none")
    assert set(groups(refused).values()) == {None}
    assert [(one.code, one.severity, one.count) for one in refused.findings] == [("D512", "note", 6)]
    assert "the 6 groups that file names suggest" in refused.findings[0].text
    assert groups_suspected(refused) == []


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"slide\d+", "slide03"),
        (r"^slide(\d+)_", "03"),
        (r"(?:slide)(?P<slide>\d+)", "03"),
        (r"^[^_]+", "slide03"),
        (r"/slide(\d+)", "03"),
        (r"^(?:a|b)/[^_]+", None),
    ],
)
def test_a_pattern_gives_its_group_or_its_whole_match_in_the_name_or_with_a_slash_in_the_path(pattern, expected):
    taken = with_chosen_groups(dataset(SLIDES), pattern)
    by_path = {sample.path: sample.group for sample in taken.samples}
    assert by_path["a/slide03_01.png"] == (expected or "a/slide03")
    assert len(set(by_path.values())) == (6 if expected else 12)


@pytest.mark.parametrize("pattern", [r"slide0[1-5]", r"_(0[123])$", r"slide(07)?", r"()", r"\.png$", r"x*"])
def test_an_image_without_a_match_is_named(pattern):
    with pytest.raises(DataError, match=r"finds no group in the names of \d+ of 24 images, the first is [ab]/slide0"):
        with_chosen_groups(dataset(SLIDES), pattern)


@pytest.mark.parametrize("pattern", [r"(", r"[", r"*a", r"(a)(b)", r"(?P<1>a)", "", "a" * 501, r"\1", r"(?<=a*)b"])
def test_a_pattern_that_is_none_is_refused_where_it_is_written(pattern):
    for make in (lambda: ReadOptions(groups_from=pattern), lambda: SplitSpec(groups_from=pattern)):
        with pytest.raises(ConfigError, match=r"--groups-from"):
            make()


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(?:a|a)*$", r"(?:a*)*b", r"(?:.*a){25}!$"])
def test_a_pattern_that_never_ends_is_stopped(pattern, monkeypatch):
    monkeypatch.setattr(chosen_groups, "MAX_SECONDS", 0.3)
    with pytest.raises(ConfigError, match=r"was not done with the names in 0.3 s"):
        with_chosen_groups(dataset(["a" * 60 + "!"] * 1 + ["a" * 61 + "b_"]), pattern)


def test_names_that_show_no_groups_are_refused_with_what_was_expected():
    with pytest.raises(ConfigError, match=r"file names show no groups; expected names like slide03_007"):
        with_chosen_groups(dataset([f"{number:03}" for number in range(30)]), "names")


@pytest.mark.parametrize("choice", ["names", r"slide\d+"])
def test_groups_that_are_all_known_are_not_replaced(choice):
    with pytest.raises(ConfigError, match=r"names the groups of all its images"):
        with_chosen_groups(dataset(SLIDES, groups=["p"] * 24), choice)


def test_known_groups_stay_beside_those_of_names():
    known: list[str | None] = [*["p1"] * 4, *[None] * 20]
    taken = with_chosen_groups(dataset(SLIDES, groups=known), "names")
    assert groups(taken) == {name: "p1" if name.startswith("slide01") else name[:7] for name in SLIDES}


def test_slides_written_with_and_without_zeros_are_one():
    names = [name.replace("slide0", "slide") if name.endswith("4") else name for name in SLIDES]
    taken = with_chosen_groups(dataset(names), r"slide\d+")
    assert len(set(groups(taken).values())) == 6
    assert [one.code for one in taken.findings] == ["L402"]


@given(
    word=st.text("abcdefgstuv", min_size=1, max_size=5),
    num_slides=st.integers(8, 20),
    num_cells=st.integers(2, 7),
    seed=st.integers(0, 5),
)
def test_a_split_by_names_holds_every_slide_together(word, num_slides, num_cells, seed):
    names = [f"{word}{slide}_{cell}" for slide in range(num_slides) for cell in range(num_cells)]
    divided = assign_subsets(with_chosen_groups(dataset(names), "names"), SplitSpec(seed=seed, groups_from="names"))
    subsets: dict[str, set[str | None]] = defaultdict(set)
    for sample in divided.samples:
        subsets[Path(sample.path).stem.rpartition("_")[0]].add(sample.subset)
    assert len(subsets) == num_slides
    assert all(len(one) == 1 for one in subsets.values())


@pytest.mark.parametrize(
    ("choice", "expected"),
    [("names", "slide03"), (r"slide\d+", "slide03"), ("none", None), (None, None), (r"/slide\d+", None)],
)
def test_images_from_elsewhere_get_the_group_that_the_dataset_has(choice, expected):
    group_of = groups_elsewhere(with_chosen_groups(dataset(SLIDES), choice), choice, ["slide3_99", "slide03_98_rot90"])
    assert (group_of and group_of("slide3_99", "a")) == expected
    assert (group_of and group_of("slide03_98_rot90", "b")) == expected
    assert (group_of and group_of("other", "b")) is None


def test_none_in_a_grid_is_refused_for_it_would_not_be_written_down():
    with pytest.raises(CytoloraError, match=r"leave it out"):
        SplitSpec(groups_from="none")
