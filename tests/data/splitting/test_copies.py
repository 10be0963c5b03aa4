"""Byte-equal files stand on one side of a division, and with them their groups; where they are torn, it is said."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolora.config.run import SUBSETS, Budget, RunSpec, Sampling, SplitSpec, TrainSpec, to_plain
from cytolora.config.yaml import parse_spec
from cytolora.core.findings import RefusedDataError
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.splitting.findings import of_division, torn_copies
from cytolora.data.splitting.splits import assign_subsets

TOGETHER = SplitSpec(copies="together")
RUN = RunSpec(
    dataset="folder",
    backbone="nano",
    method="linear",
    sampling=Sampling(shots=4),
    split=SplitSpec(),
    train=TrainSpec(budget=Budget(amount=50, unit="steps_per_shot")),
    learning_rate=1e-3,
    seed=1,
)


def toy(rows: Sequence[tuple[str, str | None, str]]) -> Manifest:
    """Rows of label, group and content."""
    samples = tuple(
        Sample(path=f"{label}/{number:03}.png", label=label, group=group, sha256=content)
        for number, (label, group, content) in enumerate(rows)
    )
    return Manifest(name="toy", root=Path(), classes=tuple(sorted({row[0] for row in rows})), samples=samples)


def homes(manifest: Manifest, key: str) -> dict[str, set[str | None]]:
    """Subsets by group or content."""
    found: defaultdict[str, set[str | None]] = defaultdict(set)
    for sample in manifest.samples:
        found[getattr(sample, key)].add(sample.subset)
    return found


def pairs(group_of_copy: bool) -> Manifest:
    """Every image of both classes twice, in two groups or in none."""
    return toy(
        [
            (label, f"g{number}{copy}" if group_of_copy else None, f"{label}{number}")
            for label in ("a", "b")
            for number in range(12)
            for copy in range(2)
        ]
    )


@pytest.mark.parametrize("group_of_copy", [False, True])
@pytest.mark.parametrize("by", ["group", "image"])
def test_every_pair_of_equal_files_stands_on_one_side(by, group_of_copy):
    divided = assign_subsets(pairs(group_of_copy), replace(TOGETHER, by=by))
    assert all(len(subsets) == 1 for subsets in homes(divided, "sha256").values())
    assert {sample.subset for sample in divided.samples} == set(SUBSETS)
    assert torn_copies(divided) == []
    assert "48 byte-equal files beside each other" in divided.split_rule


def test_apart_tears_them_as_before_and_the_finding_counts_every_torn_pair():
    divided = assign_subsets(pairs(False), SplitSpec())
    torn = [content for content, subsets in homes(divided, "sha256").items() if len(subsets) > 1]
    (found,) = torn_copies(divided)
    assert (found.code, found.count, len(torn) > 3) == ("D507", len(torn), True)
    assert "byte-equal" not in divided.split_rule
    assert found.examples[0].count(" = ") == 1
    assert "D507" in {one.code for one in of_division(divided)}


contents = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from(["g1", "g2", "g3", "g4", "g5", None]),
        st.integers(0, 12).map("{:02}".format),
    ),
    min_size=8,
    max_size=40,
)


@given(contents, st.sampled_from(["group", "image"]), st.integers(0, 3))
def test_no_division_tears_equal_files_or_groups_of_any_dataset(rows, by, seed):
    labelled = toy([(label, group, content) for label, group, content in rows] + [("a", None, "x"), ("b", None, "y")])
    try:
        divided = assign_subsets(labelled, replace(TOGETHER, by=by, seed=seed))
    except RefusedDataError:  # too few units of a class
        return
    assert all(len(subsets) == 1 for subsets in homes(divided, "sha256").values())
    if by == "group":
        assert all(len(subsets) == 1 for group, subsets in homes(divided, "group").items() if group is not None)


@given(contents, st.integers(0, 3))
def test_without_copies_together_divides_as_apart(rows, seed):
    distinct = toy([(label, group, f"{number}") for number, (label, group, _) in enumerate(rows)])
    found = []
    for spec in (SplitSpec(seed=seed), replace(TOGETHER, seed=seed)):
        try:
            found.append(assign_subsets(distinct, spec))
        except RefusedDataError as error:
            found.append(str(error))
    assert found[0] == found[1]


def test_a_copy_joins_the_groups_that_hold_it_through_any_number_of_steps():
    chain = [("a", f"g{number}", f"c{number + step}") for number in range(6) for step in (0, 1)]
    others = [(label, f"{label}{number}", f"{label}{number}") for label in "ab" for number in range(12)]
    divided = assign_subsets(toy(chain + others), TOGETHER)
    linked = {sample.subset for sample in divided.samples if (sample.group or "").startswith("g")}
    assert len(linked) == 1


def test_a_class_of_copies_of_two_images_is_refused_with_both_numbers():
    rows = [("a", None, f"{number}") for number in range(9)] + [("b", None, f"b{number % 2}") for number in range(6)]
    with pytest.raises(RefusedDataError, match="class 'b' has 6 images, 2 without copies, too few to stand in train"):
        assign_subsets(toy(rows), TOGETHER)


def test_images_without_hashes_are_no_copies_of_each_other():
    rows = [(label, None, "") for label in "ab" for _ in range(9)]
    divided = assign_subsets(toy(rows), TOGETHER)
    assert {sample.subset for sample in divided.samples} == set(SUBSETS)
    assert torn_copies(divided) == []


def test_copies_in_official_subsets_are_left_and_said():
    samples = tuple(
        Sample(path=f"{subset}/{label}.png", label=label, subset=subset, group="g", sha256=label)
        for subset in SUBSETS
        for label in "ab"
    )
    official = Manifest(name="toy", root=Path(), classes=("a", "b"), samples=samples)
    divided = assign_subsets(official, TOGETHER)
    assert divided.samples == official.samples
    assert [(one.code, one.count) for one in torn_copies(divided)] == [("D507", 2)]


def test_the_default_names_every_stored_run_as_before_and_together_is_another_run():
    spec = replace(RUN, split=SplitSpec())
    assert replace(spec, split=SplitSpec(copies="apart")).run_id == spec.run_id
    assert replace(spec, split=TOGETHER).run_id != spec.run_id
    stored = to_plain(spec)
    del stored["split"]["copies"]  # as versions before wrote it
    assert parse_spec(stored, RunSpec, "run.json") == spec
