"""Findings of a division by themselves: codes, counts, and no finding where there is none."""

from pathlib import Path

import pytest

from cytolora.config.run import Subset
from cytolora.core.findings import RefusedDataError
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.splitting.findings import of_division, of_groups, refuse_one_class, torn_copies

BY_IMAGE = "divided by image, so that images of one group may stand in two subsets"

_SUBSETS: dict[str, Subset | None] = {"train": "train", "val": "val", "test": "test", "": None}
_GROUPS = {"-": None}


def divided(rows: str, *, rule: str = "") -> Manifest:
    """Images written as subset, group (or -) and content: ``train:g1:c1 test:g1:c2``."""
    samples = tuple(
        Sample(
            path=f"{number}.png", label="a", subset=_SUBSETS[subset], group=_GROUPS.get(group, group), sha256=content
        )
        for number, (subset, group, content) in enumerate(row.split(":") for row in rows.split())
    )
    return Manifest(name="toy", root=Path(), classes=("a",), samples=samples, split_rule=rule)


def found(manifest: Manifest) -> list[tuple[str, int]]:
    return [(one.code, one.count) for one in of_division(manifest)]


@pytest.mark.parametrize(
    ("rows", "rule", "expected"),
    [
        ("train:g1:a val:g2:b test:g3:c", "", []),
        ("train:g1:a test:g1:b test:g2:c", "", [("D505", 1)]),
        ("train:g1:a val:g1:b test:g2:c train:g2:d val:g3:e", "", [("D505", 2)]),
        ("train:g1:a val:g2:b test:g3:c", BY_IMAGE, []),
        ("train:g1:a val:g2:b test:-:c", BY_IMAGE, [("D508", 3), ("D506", 1)]),
        ("train:g1:a test:g1:b", BY_IMAGE, [("D505", 1)]),
        ("train:-:a val:-:b test:g1:c", "", [("D506", 2)]),
        ("train:-:a val:-:b test:-:c", "", [("D506", 3)]),
        ("train:g1:a val:g2:a test:g3:b", "", [("D507", 1)]),
        ("train:g1:a train:g2:a test:g3:b", "", []),
        ("train:g1:a test:g1:a train:-:b val:-:b", "", [("D505", 1), ("D506", 2), ("D507", 2)]),
    ],
)
def test_what_keeps_a_test_set_from_being_one_of_new_patients_and_images_is_counted(rows, rule, expected):
    assert found(divided(rows, rule=rule)) == expected


def test_images_without_a_subset_or_a_hash_are_no_torn_copies():
    assert torn_copies(divided(":g1:a train:g2:a")) == []
    assert torn_copies(divided("train:g1: test:g2:")) == []


def test_a_torn_copy_is_shown_with_its_first_three_paths():
    (one,) = torn_copies(divided("train:g1:a test:g2:a val:g3:a val:g4:a"))
    assert one.examples == ("0.png = 1.png = 2.png",)
    assert str(one) == "Byte-equal files in more than one of train, val and test: 1, namely 0.png = 1.png = 2.png."


def test_each_finding_says_its_own_reason():
    torn, unknown = of_groups(divided("train:g1:a test:g1:b val:-:c"))
    assert "1 of 1 group" in str(torn)
    assert "is known of 2 of 3 images" in str(unknown)


def test_one_class_is_refused_and_two_are_not():
    with pytest.raises(RefusedDataError, match=r"^toy has one class, 'a'; a classifier tells two or more apart"):
        refuse_one_class(divided("train:g1:a"))
    two = divided("train:g1:a")
    refuse_one_class(Manifest(name="toy", root=Path(), classes=("a", "b"), samples=two.samples))
