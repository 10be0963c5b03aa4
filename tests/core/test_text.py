"""Texts that look equal are equal in normal form, and what tells two texts apart is named."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolora.core.text import difference, folded, matching, normal, shown


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (" hsil\t", "hsil"),
        ("low\u00a0grade", "low grade"),
        ("low \u2009 grade", "low grade"),
        ("hs\u200bil", "hsil"),
        ("\ufeffhsil\u2060", "hsil"),
        ("hsil\u00ad", "hsil"),
        ("\u202ahsil\u202c", "hsil"),
        ("Zelltra\u0308ger", "Zellträger"),
        ("line\nbreak", "line break"),
        ("\u3000細胞", "細胞"),
        ("hsil\u0007", "hsil"),
    ],
)
def test_the_normal_form_has_single_blanks_and_nothing_that_cannot_be_seen(written: str, text: str):
    assert normal(written) == text


@given(st.text(max_size=6))
def test_normal_and_folded_forms_are_fixed_points(text: str):
    assert normal(normal(text)) == normal(text)
    assert unicodedata.is_normalized("NFC", normal(text))
    assert folded(normal(text)) == folded(text)


@given(st.lists(st.text("aZ09+/().", min_size=1, max_size=6), max_size=4).map(" ".join))
def test_plain_text_is_its_own_normal_form(text: str):
    assert normal(text) == text


@pytest.mark.parametrize(
    ("one", "other", "by"),
    [
        ("hsil", "HSIL", "case"),
        ("hsil", "hsil ", "a blank"),
        ("low grade", "low  grade", "a blank"),
        ("low grade", "low-grade", "a dash, underscore or blank"),
        ("low_grade", "lowgrade", "a dash, underscore or blank"),
        ("ASC-US", "ASC–US", "a dash, underscore or blank"),
        ("hsil", "hs\u200bil", "an invisible character"),
        ("Träger", "Tra\u0308ger", "Unicode form"),
        ("CIN2", "CIN²", "Unicode form"),
        ("CIN 1", "cin-1", "case and a dash, underscore or blank"),
        ("hsil ", "HSIL", "a blank and case"),
    ],
)
def test_two_texts_of_one_folded_form_differ_by_what_is_named(one: str, other: str, by: str):
    assert folded(one) == folded(other)
    assert difference(one, other) == difference(other, one) == by
    assert shown(one) != shown(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("hsil", "lsil"),
        ("HPV+", "HPV-"),
        ("HPV-", "HPV"),
        ("grade 1-2", "grade 12"),
        ("1.5", "15"),
        ("CIN1", "CIN2"),
        ("AGC", "AGC-NOS"),
        ("a/b", "ab"),
    ],
)
def test_texts_that_mean_two_things_stay_two(one: str, other: str):
    assert folded(one) != folded(other)


def test_a_text_matches_itself_before_its_like_and_never_two():
    assert matching("hsil ", ["hsil", "hsil "]) == "hsil "
    assert matching("hsil\u200b", ["hsil", "lsil"]) == "hsil"
    assert matching("Träger", ["Tra\u0308ger"]) == "Tra\u0308ger"
    assert matching("HSIL", ["hsil"]) is None
    assert matching("hsil", ["hsil ", " hsil"]) is None
