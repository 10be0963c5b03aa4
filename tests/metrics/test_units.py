"""Sampling units: groups, or images where groups are unknown."""

from cytolora.metrics.units import unit_kind, unit_names


def test_an_image_without_a_group_is_a_unit_of_its_own():
    assert unit_names([None, None, "a"], ["x", "y", "z"]) == ["image x", "image y", "group a"]


def test_a_group_and_an_image_of_the_same_name_are_different_units():
    assert len(set(unit_names(["a", None], ["x", "a"]))) == 2


def test_groups_are_resampled_as_soon_as_one_is_known():
    assert unit_kind([None, "a"]) == "group"
    assert unit_kind([None, None]) == "image"
